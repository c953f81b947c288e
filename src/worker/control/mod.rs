//! The shim's control socket: messages from outside and from siblings, and what happens, to whoever
//! follows it.
//!
//! Each worker has its own, so that there is no hub that could die. A connection says in its first
//! line what it is for:
//!
//! | first line | then |
//! | --- | --- |
//! | `send` | lines of JSON for the app, each answered with `ok` or `error: …` |
//! | `sibling N` | lines of JSON that worker N broadcasts; no answers |
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

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use self::access::{Access, Rights};
pub(super) use self::hub::Hub;
use self::hub::is_json;
pub(super) use self::siblings::Siblings;
use super::channel::{Incoming, Line, Lines, MAX_LINE};
use super::cluster::{self, Undelivered};
use super::identity::{Identity, report};
use crate::base::paths;

/// Connections at a time: siblings, followers and the front together.
const MAX_CONNECTIONS: usize = 1024;

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
pub(super) struct Desk {
    pub(super) identity: Identity,
    pub(super) number: u16,
    pub(super) hub: Hub,
    /// The app's channel, if it has one.
    pub(super) channel: Option<cluster::Handle>,
    pub(super) pid: u32,
}

/// What a connection is for, once it has said so.
#[derive(Debug)]
enum Mode {
    Unknown,
    Send,
    /// With what comes before each message.
    Sibling(String),
    Events(u64),
    Status,
    Draining,
    HandIn,
    Refused(&'static str),
}

impl Control {
    /// Makes the socket of worker `number` of `app` below `base`.
    pub(super) fn bind(base: &Path, app: &str, number: u16) -> io::Result<Self> {
        let path = paths::control_socket(base, app, number);
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            fs::create_dir_all(directory)?; // without systemd
        }
        let _ = fs::remove_file(&path); // of a shim before this one
        let listener = UnixListener::bind(&path)?;
        // Who connects is looked at: see `access`.
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        Ok(Self { listener, path })
    }

    /// Serves it from a task of its own.
    pub(super) fn serve(self, desk: Desk) -> tokio::task::JoinHandle<()> {
        let access = Access::new(desk.identity.app());
        let desk = Arc::new(desk);
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        tokio::spawn(async move {
            loop {
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
                let stream = match self.listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        report!(warn, desk.identity, "control socket: {error}");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let (desk, rights) = (Arc::clone(&desk), access.of(&stream));
                tokio::spawn(async move {
                    // Who hangs up in the middle of a line has said nothing.
                    let _ = desk.converse(stream, rights).await;
                    drop(permit);
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

// === impl Desk ===

impl Desk {
    async fn converse(&self, mut stream: UnixStream, rights: Rights) -> io::Result<()> {
        let mut lines = Lines::new(MAX_LINE);
        let mut mode = Mode::Unknown;
        loop {
            let mut buffer = vec![0; READ_SIZE]; // not kept: most connections say little
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            let (mut replies, mut batch) = (String::new(), Batch::default());
            lines.push(&buffer[..read], |line| match &mode {
                Mode::Unknown => mode = self.mode(&line, rights),
                Mode::Sibling(prefix) => batch.add(prefix, &line),
                Mode::Send => replies.push_str(&self.send(&line)),
                _ => {}
            });
            drop(buffer);
            self.deliver(batch);
            match &mode {
                Mode::Events(since) => return self.events(stream, *since).await,
                Mode::HandIn => return self.hand_in(stream).await,
                Mode::Status => return stream.write_all(self.status().as_bytes()).await,
                Mode::Draining => {
                    self.hub.life("draining", json!({}));
                    return stream.write_all(b"ok\n").await;
                }
                Mode::Refused(why) => return stream.write_all(why.as_bytes()).await,
                Mode::Send if !replies.is_empty() => stream.write_all(replies.as_bytes()).await?,
                Mode::Unknown | Mode::Send | Mode::Sibling(_) => {}
            }
        }
    }

    fn mode(&self, line: &Line<'_>, rights: Rights) -> Mode {
        let Line::Whole(line) = line else { return Mode::Refused("error: too long\n") };
        let line = String::from_utf8_lossy(line);
        let (word, argument) = line.split_once(' ').unwrap_or((&line, ""));
        let (mode, allowed) = match (word, argument.parse::<u64>()) {
            ("send", _) => (Mode::Send, rights.manage),
            ("events", Ok(since)) => (Mode::Events(since), rights.manage),
            ("status", _) => (Mode::Status, rights.manage),
            ("handoff", _) => (Mode::HandIn, rights.hand_in),
            ("draining", _) => (Mode::Draining, rights.manage),
            ("sibling", Ok(number)) => {
                let app = self.identity.app();
                let prefix =
                    format!("{{\"roundsman\":\"broadcast\",\"from\":\"{app}:{number}\",\"data\":");
                (Mode::Sibling(prefix), rights.sibling)
            }
            _ => (Mode::Refused("error: this is no request that I know\n"), true),
        };
        if allowed {
            mode
        } else {
            Mode::Refused("denied: only root and members of the group roundsman may do this\n")
        }
    }

    /// Gives one message to the app; what to answer.
    fn send(&self, line: &Line<'_>) -> String {
        let Line::Whole(line) = line else {
            return format!("error: the message is longer than {MAX_LINE} bytes\n");
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

    async fn events(&self, mut stream: UnixStream, since: u64) -> io::Result<()> {
        let token = self.hub.writer();
        let outlet = self.hub.follow(since);
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

/// Messages that go to the app together.
#[derive(Debug, Default)]
struct Batch {
    lines: Vec<u8>,
    count: u64,
}

impl Batch {
    /// A line that is no JSON would kill the app, so it is left out, whoever sent it.
    fn add(&mut self, prefix: &str, line: &Line<'_>) {
        if let Line::Whole(line) = line
            && is_json(line)
        {
            self.lines.extend_from_slice(prefix.as_bytes());
            self.lines.extend_from_slice(line);
            self.lines.extend_from_slice(b"}\n");
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
    if !matches!(Incoming::parse(line), Incoming::User(_)) {
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
        for internal in [r#"{"cmd":"NODE_CLUSTER","act":"disconnect"}"#, r#"{"cmd":"NODE_HANDLE"}"#]
        {
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
