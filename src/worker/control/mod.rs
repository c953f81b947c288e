//! The shim's control socket: messages from outside and from siblings, and what happens, to whoever
//! follows it.
//!
//! Each worker has its own, so that there is no hub that could die. Who connects decides what it may
//! do and how much of it ([`access`]); who may do nothing is sent away before anything is read. A
//! connection says in its first line what it is for:
//!
//! | first line | then |
//! | --- | --- |
//! | `send` | lines of JSON for the app, each answered with `ok` or `error: …` |
//! | `sibling N` | lines of JSON that worker N broadcasts; no answers |
//! | `relay N` | the same; its app gets each as it is |
//! | `share N` | a line of JSON: what worker N wants to have in common; see `worker::shared` |
//! | `events SINCE` | lines of JSON come out, with what is kept from that millisecond on |
//! | `status` | one line of JSON comes out |
//! | `draining` | answered with `ok` |
//! | `handoff` | connections come in, see `handoff::wire` |

mod access;
pub mod client;
mod hand_in;
mod hub;
mod outlet;
mod siblings;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use self::access::{Access, Rights};
pub(super) use self::hub::Hub;
use self::hub::is_json;
pub(super) use self::siblings::Siblings;
use super::channel::{Line, Lines, may_be_nodes};
use super::cluster::{self, Undelivered};
use super::identity::{Identity, report};
use super::shared::{Question, Shared};
use crate::base::access_list;
use crate::base::paths;
use crate::base::peer::Peer;
use crate::base::worker_socket::MEMBERS_ONLY;

/// The longest first line, and how long it may take.
const FIRST_LINE: usize = 64;
const FIRST_LINE_LIMIT: Duration = Duration::from_secs(10);

/// How long an answer may wait for whoever asked to read it.
const UNREAD: Duration = Duration::from_secs(30);

/// The longest name of what is had in common: a path, and some words.
const LONGEST_QUESTION: usize = 16 * 1024;

/// The mode that the unit gives the directory (`RuntimeDirectoryMode=`).
const UNITS_MODE: u32 = 0o750;

/// What is read at once.
const READ_SIZE: usize = 64 * 1024;

/// The socket, made before the app is started so that nobody comes too early.
#[derive(Debug)]
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

/// What a connection needs to know.
#[derive(Debug)]
pub(super) struct ControlContext {
    pub(super) identity: Identity,
    pub(super) number: u16,
    pub(super) hub: Hub,
    /// The app's channel, if it has one.
    pub(super) channel: Option<cluster::Handle>,
    /// What the app's workers have in common.
    pub(super) shared: Shared,
    pub(super) pid: u32,
}

/// What a connection is for, once it has said so.
#[derive(Debug)]
enum Mode {
    Send,
    Sibling(Frame),
    Share,
    Events(u64),
    Status,
    Draining,
    HandIn,
    Refused(&'static str),
    Denied,
}

/// For whoever may not do what it asks for.
fn denied() -> String {
    format!("denied: {MEMBERS_ONLY}\n")
}

/// What comes before and after each message of a sibling, so that it is one for the app.
#[derive(Debug)]
struct Frame {
    before: String,
    after: &'static str,
}

impl Control {
    /// Makes the socket of worker `number` of `app` below `base`.
    pub(super) fn bind(base: &Path, app: &str, number: u16) -> io::Result<Self> {
        let path = paths::control_socket(base, app, number);
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            fs::create_dir_all(directory)?; // without systemd
        }
        let lacks_list = |directory: &&Path| {
            let mode = fs::metadata(directory).map(|data| data.permissions().mode() & 0o777);
            mode.is_ok_and(|mode| mode == UNITS_MODE) && !access_list::has(directory)
        };
        if let Some(directory) = path.parent().filter(lacks_list) {
            // Nobody could let the front and the group in.
            let _ = fs::set_permissions(directory, Permissions::from_mode(0o755));
        }
        let _ = fs::remove_file(&path); // of a shim before this one
        let listener = UnixListener::bind(&path)?;
        // Who connects is looked at: see `access`.
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        Ok(Self { listener, path })
    }

    /// Serves it from a task of its own.
    pub(super) fn serve(self, context: ControlContext) -> tokio::task::JoinHandle<()> {
        let access = Access::new(context.identity.app());
        let context = Arc::new(context);
        tokio::spawn(async move {
            loop {
                let stream = match self.listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        report!(warn, context.identity, "control socket: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let Ok(peer) = Peer::of(&stream) else { continue };
                let Ok(place) = access.place(&peer) else {
                    // Nobody waits for their reading it: there is room for it, or they are gone.
                    let _ = stream.try_write(b"error: you have too many connections to it\n");
                    continue;
                };
                let (access, context) = (access.clone(), Arc::clone(&context));
                tokio::spawn(async move {
                    if let Some(rights) = access.of(peer).await {
                        // Who hangs up in the middle of a line has said nothing.
                        let _ = context.converse(stream, rights).await;
                    } else {
                        let _ = stream.try_write(denied().as_bytes());
                    }
                    drop(place);
                });
            }
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

// === impl ControlContext ===

impl ControlContext {
    async fn converse(&self, mut stream: UnixStream, rights: Rights) -> io::Result<()> {
        let (line, rest) = timeout(FIRST_LINE_LIMIT, first_line(&stream))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let mode = self.mode(line.as_deref(), rights);
        match mode {
            Mode::Events(since) => self.events(stream, since, rights.longest).await,
            Mode::HandIn => self.hand_in(stream).await,
            Mode::Status => answer(&mut stream, &self.status()).await,
            Mode::Draining => {
                self.hub.life("draining", json!({}));
                answer(&mut stream, "ok\n").await
            }
            Mode::Refused(why) => answer(&mut stream, why).await,
            Mode::Denied => answer(&mut stream, &denied()).await,
            Mode::Send => self.listen(stream, rest, rights.longest, None).await,
            Mode::Share => self.share(stream, rest).await,
            Mode::Sibling(frame) => self.listen(stream, rest, rights.longest, Some(&frame)).await,
        }
    }

    /// Gives the app what comes in: messages, which are answered, or with a frame a sibling's.
    async fn listen(
        &self,
        mut stream: UnixStream,
        mut bytes: Vec<u8>,
        longest: usize,
        frame: Option<&Frame>,
    ) -> io::Result<()> {
        let mut lines = Lines::new(longest);
        loop {
            let (mut replies, mut batch) = (String::new(), Batch::default());
            lines.push(&bytes, |line| match frame {
                Some(frame) => batch.add(frame, &line),
                None => replies.push_str(&self.send(&line, longest)),
            });
            drop(bytes); // most connections say little
            self.deliver(batch);
            if !replies.is_empty() {
                answer(&mut stream, &replies).await?;
            }
            bytes = read(&stream, READ_SIZE).await?;
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// Says what there is of what a sibling wants to have in common.
    async fn share(&self, mut stream: UnixStream, mut bytes: Vec<u8>) -> io::Result<()> {
        let question = timeout(FIRST_LINE_LIMIT, async {
            while !bytes.ends_with(b"\n") && bytes.len() < LONGEST_QUESTION {
                let more = read(&stream, LONGEST_QUESTION).await?;
                if more.is_empty() {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                bytes.extend_from_slice(&more);
            }
            serde_json::from_slice::<Question>(&bytes).map_err(io::Error::from)
        });
        let question = question.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        // Who asks may leave before it is their turn.
        let held = tokio::select! {
            held = self.shared.answer(&question) => held,
            _ = read(&stream, 1) => return Ok(()),
        };
        Question::reply(&mut stream, held).await
    }

    fn mode(&self, line: Option<&str>, rights: Rights) -> Mode {
        let Some(line) = line else { return Mode::Refused("error: too long\n") };
        let (word, argument) = line.split_once(' ').unwrap_or((line, ""));
        let (mode, allowed) = match (word, argument.parse::<u64>()) {
            ("send", _) => (Mode::Send, rights.manage),
            ("events", Ok(since)) => (Mode::Events(since), rights.manage),
            ("status", _) => (Mode::Status, rights.manage),
            ("handoff", _) => (Mode::HandIn, rights.hand_in),
            ("draining", _) => (Mode::Draining, rights.manage),
            ("sibling" | "relay", Ok(number)) => {
                let app = self.identity.app();
                let frame = match word {
                    "sibling" => Frame {
                        before: format!(
                            "{{\"roundsman\":\"broadcast\",\"from\":\"{app}:{number}\",\"data\":"
                        ),
                        after: "}",
                    },
                    _ => Frame { before: String::new(), after: "" },
                };
                (Mode::Sibling(frame), rights.sibling.is_some_and(|sibling| sibling.is(number)))
            }
            ("share", Ok(number)) => {
                (Mode::Share, rights.sibling.is_some_and(|sibling| sibling.is(number)))
            }
            _ => (Mode::Refused("error: this is no request that I know\n"), true),
        };
        if allowed { mode } else { Mode::Denied }
    }

    /// Gives one message to the app; what to answer.
    fn send(&self, line: &Line<'_>, longest: usize) -> String {
        let Line::Whole(line) = line else {
            return format!("error: the message is longer than {longest} bytes\n");
        };
        let result = message(line, self.number).map_err(str::to_owned).and_then(|message| {
            let Some(channel) = &self.channel else {
                return Err("the app has no message channel: it is not a Node program".to_owned());
            };
            channel.deliver(message, 1).map_err(|why| match why {
                Undelivered::Gone => "the app has closed its message channel".to_owned(),
                Undelivered::Full => {
                    "the app does not read its messages: the queue to it is full".to_owned()
                }
            })
        });
        match result {
            Ok(()) => "ok\n".to_owned(),
            Err(why) => format!("error: {why}\n"),
        }
    }

    /// Gives what a sibling has broadcast to the app.
    fn deliver(&self, batch: Batch) {
        if let (Some(channel), 1..) = (&self.channel, batch.count)
            && let Ok(gap @ 1..) = channel.deliver(batch.lines, batch.count).map(|()| channel.gap())
        {
            let who = self.identity.to_string();
            self.hub.life("dropped", json!({ "for": who, "count": gap }));
        }
    }

    async fn events(&self, mut stream: UnixStream, since: u64, room: usize) -> io::Result<()> {
        let token = self.hub.writer();
        let outlet = self.hub.follow(since, room);
        let (mut reader, mut writer) = stream.split();
        let result = tokio::select! {
            result = outlet.write_to(&mut writer) => result,
            gone = reader.read_u8() => gone.map(drop), // a follower says nothing: it has left
        };
        outlet.close();
        drop(token);
        result
    }

    fn status(&self) -> String {
        let channel = self.channel.as_ref();
        let status = json!({
            "worker": self.identity.to_string(),
            "pid": self.pid,
            "channel": channel.is_some(),
            "queued-bytes": channel.map_or(0, cluster::Handle::queued),
            "dropped": {
                "app": channel.map_or(0, cluster::Handle::dropped),
                "siblings": self.hub.siblings_missed(),
                "events": self.hub.dropped(),
            },
        });
        format!("{status}\n")
    }
}

/// What has come, this much at most; nothing at the end.
async fn read(stream: &UnixStream, most: usize) -> io::Result<Vec<u8>> {
    loop {
        stream.readable().await?; // memory is for those who have said something
        let mut bytes = vec![0; most];
        match stream.try_read(&mut bytes) {
            Ok(count) => {
                bytes.truncate(count);
                return Ok(bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// The first line, or nothing when it is too long; and what has come after it.
async fn first_line(stream: &UnixStream) -> io::Result<(Option<String>, Vec<u8>)> {
    let mut line = Vec::new();
    loop {
        let bytes = read(stream, READ_SIZE).await?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&bytes);
        match memchr::memchr(b'\n', &line) {
            Some(end @ ..=FIRST_LINE) => {
                let rest = line.split_off(end + 1);
                line.truncate(end);
                return Ok((Some(String::from_utf8_lossy(&line).into_owned()), rest));
            }
            None if line.len() <= FIRST_LINE => {}
            _ => return Ok((None, Vec::new())),
        }
    }
}

/// Writes an answer for somebody who reads it.
async fn answer(stream: &mut UnixStream, text: &str) -> io::Result<()> {
    timeout(UNREAD, stream.write_all(text.as_bytes()))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Messages that go to the app together.
#[derive(Debug, Default)]
struct Batch {
    lines: Vec<u8>,
    count: u64,
}

impl Batch {
    /// A line that is no JSON would kill the app, and one of Node's own mislead it: both are left out, whoever
    /// sent them.
    fn add(&mut self, frame: &Frame, line: &Line<'_>) {
        if let Line::Whole(line) = line
            && is_json(line)
            && (!frame.before.is_empty() || !may_be_nodes(line))
        {
            self.lines.extend_from_slice(frame.before.as_bytes());
            self.lines.extend_from_slice(line);
            self.lines.extend_from_slice(frame.after.as_bytes());
            self.lines.push(b'\n');
            self.count += 1;
        }
    }
}

#[derive(Deserialize)]
struct Pm2Packet {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    id: Option<IgnoredAny>,
    #[serde(default)]
    topic: Option<IgnoredAny>,
    #[serde(default)]
    data: Option<IgnoredAny>,
}

/// The line that the app gets for a message.
fn message(line: &[u8], number: u16) -> Result<Vec<u8>, &'static str> {
    if !is_json(line) {
        return Err("this is not JSON");
    }
    if may_be_nodes(line) {
        return Err("a `cmd` that begins with NODE_ is for Node's own messages");
    }
    let mut message = Vec::with_capacity(line.len() + 16);
    let suspicious = memchr::memmem::find(line, b"\"process:msg\"").is_some();
    let packet = serde_json::from_slice::<Pm2Packet>(line).ok().filter(|_| suspicious);
    match packet.filter(|packet| packet.kind.as_deref() == Some("process:msg")) {
        Some(packet) if packet.topic.is_none() || packet.data.is_none() => {
            return Err("a message of the type process:msg needs a `topic` and `data`");
        }
        // As from PM2, which counts from 0.
        Some(Pm2Packet { id: None, .. }) => {
            let start = line.iter().position(|byte| *byte == b'{').map_or(0, |at| at + 1);
            message.extend_from_slice(format!("{{\"id\":{},", number.saturating_sub(1)).as_bytes());
            message.extend_from_slice(&line[start..]);
        }
        _ => message.extend_from_slice(line),
    }
    message.push(b'\n');
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, &'static str> {
        message(text.as_bytes(), 2).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn what_would_harm_the_app_is_refused() {
        for bad in ["", " ", "{", "undefined", "'a'", "1 2", "\"\u{1}\"", r#"{"a":1,}"#] {
            assert!(of(bad).is_err(), "{bad}");
        }
        for internal in [
            r#"{"cmd":"NODE_CLUSTER","act":"disconnect"}"#,
            r#"{"cmd":"\u004eODE_CLUSTER","act":"disconnect"}"#,
            r#"{"cmd":"NODE_HANDLE"}"#,
        ] {
            assert!(of(internal).unwrap_err().contains("Node's own"), "{internal}");
        }
        for good in
            ["null", "-0.5e3", "\"é\"", "[]", r#"{"__proto__":{"a":1}}"#, r#"{"cmd":"NODE_"}"#]
        {
            assert_eq!(of(good).unwrap(), format!("{good}\n"));
        }
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert_eq!(of(&deep).unwrap().len(), 20_001);
    }

    #[test]
    fn pm2s_packet_gets_the_workers_number() {
        let packet = r#" {"type":"process:msg","topic":"t","data":{"a":1}}"#;
        assert_eq!(
            of(packet).unwrap(),
            format!("{{\"id\":1,{}\n", packet.trim().trim_start_matches('{'))
        );
        let with_id = r#"{"id":7,"type":"process:msg","topic":"t","data":1}"#;
        assert_eq!(of(with_id).unwrap(), format!("{with_id}\n"));
        assert!(of(r#"{"type":"process:msg","data":1}"#).unwrap_err().contains("topic"));
        assert!(of(r#"{"note":"process:msg"}"#).is_ok());
    }
}
