//! Our end of the channel, with an app's end that the test plays.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream as StdStream;

use serde_json::json;

use super::*;

fn pair() -> (Channel, StdStream) {
    let (channel, theirs) = Channel::pair().unwrap();
    (channel, theirs.into())
}

/// What the app's end has been sent, with the number of descriptors that came along.
fn read_all(app: &StdStream) -> (String, usize) {
    app.set_nonblocking(true).unwrap();
    let (mut text, mut handles) = (Vec::new(), 0);
    loop {
        let mut buffer = [0_u8; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [IoSliceMut::new(&mut buffer)];
        let Ok(received) = recvmsg(app, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC) else {
            break;
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                handles += descriptors.count();
            }
        }
        let count = received.bytes;
        text.extend_from_slice(&buffer[..count]);
    }
    (String::from_utf8(text).unwrap(), handles)
}

/// The app says something, and the channel works until all that is said and what there is to
/// write is written.
async fn turn(channel: &mut Channel, app: &mut StdStream, line: &str) {
    app.set_nonblocking(false).unwrap();
    app.write_all(line.as_bytes()).unwrap();
    for _ in 0..2 {
        app.write_all(b"\"synchronize\"\n").unwrap();
        while !matches!(channel.next().await.unwrap(), Some(Incoming::User(text)) if text == b"\"synchronize\"")
        {
        }
    }
}

fn handles(channel: &mut Channel, messages: &[&str]) {
    for message in messages {
        let (one, _other) = StdStream::pair().unwrap();
        let sequence = message.parse().ok();
        channel.send_handle("net.Native", message, sequence, Arc::new(one.into()));
    }
}

fn line(message: &str) -> String {
    format!("{{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\"msg\":{message}}}\n")
}

const ACK: &str = "{\"cmd\":\"NODE_HANDLE_ACK\"}\n";
const NACK: &str = "{\"cmd\":\"NODE_HANDLE_NACK\"}\n";

#[tokio::test]
async fn handles_go_together_but_never_with_a_plain_line() {
    let (mut channel, mut app) = pair();
    handles(&mut channel, &["1", "2"]);
    channel.send(&json!("plain"));
    handles(&mut channel, &["3", "4", "5"]);
    turn(&mut channel, &mut app, "").await;
    assert_eq!(read_all(&app), (line("1") + &line("2"), 2));
    turn(&mut channel, &mut app, ACK).await;
    assert_eq!(read_all(&app), (String::new(), 0), "one is still under way");
    turn(&mut channel, &mut app, ACK).await;
    assert_eq!(read_all(&app), ("\"plain\"\n".to_owned() + &line("3"), 1), "alone");
    turn(&mut channel, &mut app, ACK).await;
    assert_eq!(read_all(&app), (line("4") + &line("5"), 2));
}

#[tokio::test]
async fn not_too_many_handles_are_under_way() {
    let (mut channel, mut app) = pair();
    let messages: Vec<String> = (0..=MAX_UNDER_WAY).map(|n| n.to_string()).collect();
    handles(&mut channel, &messages.iter().map(String::as_str).collect::<Vec<_>>());
    turn(&mut channel, &mut app, "").await;
    assert_eq!(read_all(&app).1, MAX_UNDER_WAY);
    turn(&mut channel, &mut app, ACK).await;
    assert_eq!(read_all(&app).1, 1);
}

/// On a clock that stands still while there is something to do: a busy machine is no app that is stuck.
#[tokio::test(start_paused = true)]
async fn answers_are_looked_for_only_while_some_come() {
    let (mut channel, mut app) = pair();
    handles(&mut channel, &["1", "2"]);
    let once = async |channel: &mut Channel| {
        tokio::select! {
            biased;
            message = channel.next() => panic!("{message:?}"),
            () = tokio::task::yield_now() => {}
        }
    };
    once(&mut channel).await;
    assert!(channel.watched.is_none(), "nothing wakes us for each answer");
    let nothing = tokio::time::timeout(20 * LOOK, channel.next()).await;
    assert!(nothing.is_err() && channel.watched.is_some(), "an app that is stuck costs nothing");
    turn(&mut channel, &mut app, ACK).await;
    once(&mut channel).await;
    assert!(channel.watched.is_none());
    turn(&mut channel, &mut app, ACK).await;
    once(&mut channel).await;
    assert!(channel.watched.is_some(), "nothing is under way");
}

#[tokio::test]
async fn a_handle_that_did_not_arrive_is_sent_again() {
    let (mut channel, mut app) = pair();
    handles(&mut channel, &["1", "2", "3"]);
    turn(&mut channel, &mut app, "").await;
    read_all(&app);
    turn(&mut channel, &mut app, &format!("{ACK}{NACK}{ACK}")).await;
    assert_eq!(read_all(&app), (line("2"), 1), "with its descriptor");
    turn(&mut channel, &mut app, ACK).await;
    assert!(channel.under_way.is_empty());
}

#[tokio::test]
async fn a_handle_that_never_arrives_is_given_back_and_the_next_one_goes_out() {
    let (mut channel, mut app) = pair();
    handles(&mut channel, &["7"]);
    for _ in 0..=MAX_RESENDS {
        turn(&mut channel, &mut app, "").await;
        assert_eq!(read_all(&app).1, 1);
        app.set_nonblocking(false).unwrap();
        app.write_all(format!("{NACK}\"next\"\n").as_bytes()).unwrap();
        let answer = channel.next().await.unwrap().unwrap();
        if let Incoming::HandleLost(sequence) = answer {
            assert_eq!(sequence, 7);
            handles(&mut channel, &["8"]);
            turn(&mut channel, &mut app, "").await;
            assert!(read_all(&app).0.contains(&line("8")));
            return;
        }
    }
    panic!("it is never given back");
}

#[tokio::test]
async fn an_apps_handle_is_acknowledged_even_while_ours_waits() {
    let (mut channel, mut app) = pair();
    handles(&mut channel, &["1"]);
    turn(&mut channel, &mut app, "").await;
    read_all(&app);
    turn(&mut channel, &mut app, "{\"cmd\":\"NODE_HANDLE\",\"msg\":1}\n").await;
    assert_eq!(read_all(&app), ("{\"cmd\":\"NODE_HANDLE_ACK\"}\n".to_owned(), 0));
}

#[tokio::test]
async fn what_the_app_wrote_before_it_died_is_read_to_the_end() {
    let (mut channel, mut app) = pair();
    app.write_all(b"\"last words\"\n\"cut").unwrap();
    drop(app);
    channel.send(&json!("nobody reads this"));
    assert!(
        matches!(channel.next().await.unwrap(), Some(Incoming::User(text)) if text == b"\"last words\"")
    );
    assert!(channel.next().await.unwrap().is_none());
}

#[tokio::test]
async fn lines_are_whole_however_slowly_the_app_reads() {
    let (mut channel, app) = pair();
    let message = json!("é".repeat(400_000));
    for _ in 0..3 {
        channel.send(&message);
    }
    let reader = std::thread::spawn(move || {
        let mut app = app;
        let mut text = vec![0_u8; 3 * (message.to_string().len() + 1)];
        app.read_exact(&mut text).unwrap();
        text.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .all(|line| line == message.to_string().as_bytes())
    });
    while channel.next().await.unwrap().is_some() {}
    assert!(reader.join().unwrap());
}
