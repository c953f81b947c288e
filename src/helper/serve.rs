//! The helper's side of a connection, which systemd has made its standard input.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::net::AddressFamily;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::frame::{self, Frame};
use super::request::{MOST, Request};
use crate::base::exit;
use crate::base::peer::{Accounts, Peer};
use crate::base::text;
use crate::base::user::User;

/// How long a client has for its request: it knows what it wants when it connects.
const ASKING: Duration = Duration::from_secs(5);

/// How long a client may take nothing of what it is sent; then it is as good as gone.
const STALLED: Duration = Duration::from_secs(30);

/// Answers the client at the other end of standard input; `is_configured` knows the apps.
///
/// # Errors
/// When standard input is no connection, or the system fails. What the client does wrong is none.
pub(crate) async fn serve(is_configured: impl FnOnce(&str) -> bool) -> io::Result<()> {
    let mut client = connection()?;
    let peer = Peer::of(&client)?;
    // Never the front, which is in the group and speaks with the internet.
    let refusal = if peer.uid == 0 || peer.is_member(Accounts::find(), &peer.standing()) {
        match request(&mut client).await {
            Ok(request) if is_configured(&request.app) => {
                let who = User::numbered(peer.uid).ok().flatten().map_or("?".into(), |u| u.name);
                let words = request.arguments();
                let asked = words.join(" ");
                log(&format!("user {who} ({}) asks for: roundsman {asked}", peer.uid));
                return carry_out(client, &words).await;
            }
            Ok(request) => Refusal::new(
                exit::FAILURE,
                format!("there is no app \"{}\"; roundsman status lists them", request.app),
            ),
            Err(refusal) => refusal,
        }
    } else {
        let why = "the helper is for members of the group \"roundsman\", and for neither the front nor apps";
        Refusal::new(exit::DENIED, why.to_owned())
    };
    log(&format!("user {} is refused: {}", peer.uid, refusal.why));
    // A client that does not hear it is none the worse.
    let _ = timeout(STALLED, refuse(&mut client, &refusal)).await;
    Ok(())
}

/// One line in the journal, whatever the client has put into it.
fn log(text: &str) {
    let _ = write!(io::stderr(), "{}", line(text)); // a journal that is gone harms nobody
}

fn line(text: &str) -> String {
    format!("{}\n", text::one_line(text))
}

/// Why nothing is done.
#[derive(Debug)]
struct Refusal {
    status: u8,
    why: String,
}

impl Refusal {
    fn new(status: u8, why: String) -> Self {
        Self { status, why }
    }
}

async fn refuse(client: &mut UnixStream, refusal: &Refusal) -> io::Result<()> {
    let text = format!("error: {}\n", refusal.why);
    Frame::Err(text.into_bytes()).write(client).await?;
    Frame::Exit(refusal.status).write(client).await
}

/// Standard input, which must be a connected UNIX socket.
fn connection() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    let wrong = || {
        let why = "standard input is no connection: roundsman-helper.socket starts this";
        io::Error::new(io::ErrorKind::InvalidInput, why)
    };
    match rustix::net::sockopt::socket_domain(&stdin) {
        Ok(AddressFamily::UNIX) => {}
        _ => return Err(wrong()),
    }
    let owned: OwnedFd = stdin.as_fd().try_clone_to_owned()?;
    let stream = std::os::unix::net::UnixStream::from(owned);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// The client's line, within its time and its length.
async fn request(client: &mut UnixStream) -> Result<Request, Refusal> {
    let wrong = |why: String| Refusal::new(exit::USAGE, why);
    let until = Instant::now() + ASKING;
    let mut line = Vec::new();
    loop {
        let mut chunk = [0; 512];
        let read = match timeout_at(until, client.read(&mut chunk)).await {
            Err(_) => return Err(wrong("no request came in time".to_owned())),
            Ok(Err(error)) => return Err(wrong(error.to_string())),
            Ok(Ok(0)) => return Err(wrong("the request has no end".to_owned())),
            Ok(Ok(read)) => read,
        };
        line.extend(&chunk[..read]);
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            if end + 1 != line.len() {
                let why = "interrupted before anything was done".to_owned();
                return Err(Refusal::new(exit::INTERRUPTED, why));
            }
            line.truncate(end);
            return Request::parse(&line).map_err(|refusal| wrong(refusal.to_string()));
        }
        if line.len() > MOST {
            return Err(wrong(format!("a request has at most {MOST} bytes")));
        }
    }
}

// === the command ===

/// Runs the command as root would, passes on what it says, and interrupts it for the client.
async fn carry_out(client: UnixStream, words: &[String]) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut child = spawn(words)?;
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let (pieces, mut output) = mpsc::channel(8);
    pump(child.stdout.take(), pieces.clone(), Frame::Out);
    pump(child.stderr.take(), pieces, Frame::Err);
    let (mut from, mut to) = client.into_split();
    let (mut listening, mut here) = (true, true);
    let mut interrupted = false;
    let mut interrupt = |again: bool| {
        if again || !interrupted {
            interrupted = true;
            let _ = pid.map(|pid| kill_process(pid, Signal::INT)); // it may have ended
        }
    };
    loop {
        tokio::select! {
            piece = output.recv() => match piece {
                // It is read to its end also for nobody: the command must not wait for a reader.
                Some(piece) if here => {
                    if !send(&mut to, &piece).await {
                        here = false;
                        interrupt(false);
                    }
                }
                Some(_) => {}
                None => break,
            },
            interrupts = interrupts(&mut from), if listening => if let Some(count) = interrupts {
                // The second leaves at once; more than that says nothing more.
                (0..count.min(2)).for_each(|_| interrupt(true));
            } else {
                listening = false;
                interrupt(false);
            },
            _ = terminate.recv() => interrupt(false),
        }
    }
    let status = end(&mut child).await?;
    if here {
        send(&mut to, &Frame::Exit(status)).await;
    }
    Ok(())
}

/// Nothing of the client's reaches the command but its words.
fn spawn(words: &[String]) -> io::Result<Child> {
    let mut command = std::process::Command::new("/proc/self/exe");
    command
        .arg0("roundsman")
        .args(words)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Command::from(command).spawn()
}

/// Passes on what comes out of a pipe until its end.
fn pump<R>(pipe: Option<R>, to: mpsc::Sender<Frame>, kind: fn(Vec<u8>) -> Frame)
where
    R: AsyncRead + Unpin + 'static,
{
    let Some(mut pipe) = pipe else { return };
    tokio::task::spawn_local(async move {
        let mut chunk = vec![0; frame::MOST];
        while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
            if to.send(kind(chunk[..read].to_vec())).await.is_err() {
                return;
            }
        }
    });
}

/// Whether it was sent; a client that takes nothing is as good as gone.
async fn send(to: &mut OwnedWriteHalf, frame: &Frame) -> bool {
    matches!(timeout(STALLED, frame.write(to)).await, Ok(Ok(())))
}

/// How many interrupts the client has sent, a byte each; `None` when it is gone.
async fn interrupts(from: &mut OwnedReadHalf) -> Option<usize> {
    let mut bytes = [0; 16];
    match from.read(&mut bytes).await {
        Ok(0) | Err(_) => None,
        Ok(count) => Some(count),
    }
}

/// The exit status of the command, as a shell would have it.
async fn end(child: &mut Child) -> io::Result<u8> {
    use std::os::unix::process::ExitStatusExt as _;
    let status: ExitStatus = child.wait().await?;
    let by_signal = || status.signal().and_then(|signal| u8::try_from(128 + signal).ok());
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.or_else(by_signal).unwrap_or(exit::FAILURE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helper::request::{Deploy, Verb};

    #[test]
    fn a_request_is_one_line_of_the_journal() {
        let to = Some("/r/1\nuser root (0) asks for: \u{1b}[31m\u{202e}x".into());
        let verb = Verb::Rollback(to, Deploy::default());
        let request = Request { app: "shop".to_owned(), verb, json: false };
        let line = line(&request.arguments().join(" "));
        assert!(line.contains("/r/1\u{fffd}user root"), "{line}");
        assert!(line.ends_with('\n') && line.trim_end().chars().all(|c| !text::is_command(c)));
    }
}
