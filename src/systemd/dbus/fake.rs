//! A bus with a systemd on it, for tests: over a socket pair, and as slow, wrong or dead as it is
//! told to be.

use std::fmt::Write;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use zbus::connection::Builder;
use zbus::{Connection, DynamicType, Message, MessageStream, Variant};

use super::interface::ListedUnit;
use super::link::Limits;

/// systemd's connection.
pub(super) const SYSTEMD: &str = ":1.1";
/// Somebody else's.
pub(super) const STRANGER: &str = ":1.66";
/// The bus itself.
pub(super) const BUS: &str = "org.freedesktop.DBus";

/// For answers that come, and for such as never do.
pub(super) const PATIENT: Limits = Limits {
    call: Duration::from_mins(1),
    reload: Duration::from_mins(1),
    job: Duration::from_mins(1),
};
/// Long enough for what is answered, on a machine that has much to do.
pub(super) const IMPATIENT: Limits = Limits {
    call: Duration::from_secs(1),
    reload: Duration::from_secs(1),
    job: Duration::from_secs(1),
};
/// For jobs that do not end.
pub(super) const BUSY: Limits = Limits { job: Duration::from_millis(50), ..PATIENT };

/// The other end of a connection.
#[derive(Debug)]
pub(super) struct Fake {
    connection: Connection,
    messages: MessageStream,
    /// Whether it answers at all.
    pub(super) mute: bool,
    /// Who owns systemd's name.
    pub(super) owner: &'static str,
}

// === impl Fake ===

impl Fake {
    /// A connection, and its other end.
    pub(super) async fn bus() -> (Connection, Self) {
        let (client, server) = UnixStream::pair().expect("descriptors are left");
        let guid = "0123456789abcdef0123456789abcdef";
        let server = async {
            let server = Builder::unix_stream(server).server(guid).p2p();
            let mut messages = server.build_message_stream().await.expect("it agrees");
            let hello = next(&mut messages).await.expect("it says hello");
            let connection = Connection::from(&messages);
            connection.reply(&hello.header(), &":1.7").await.expect("it is there");
            Self { connection, messages, mute: false, owner: SYSTEMD }
        };
        let (client, server) = tokio::join!(Builder::unix_stream(client).build(), server);
        (client.expect("it agrees"), server)
    }

    /// A connection to systemd itself, without a bus between.
    pub(super) async fn direct() -> (Connection, Self) {
        let (client, server) = UnixStream::pair().expect("descriptors are left");
        let guid = "0123456789abcdef0123456789abcdef";
        let server = Builder::unix_stream(server).server(guid).p2p();
        let client = Builder::unix_stream(client).p2p().build();
        let (client, messages) = tokio::join!(client, server.build_message_stream());
        let messages = messages.expect("it agrees");
        let connection = Connection::from(&messages);
        let fake = Self { connection, messages, mute: false, owner: "" };
        (client.expect("it agrees"), fake)
    }

    /// The next call to systemd that is not answered by itself; `None` when nobody calls any more.
    pub(super) async fn call(&mut self) -> Option<Message> {
        loop {
            let message = next(&mut self.messages).await?;
            let header = message.header();
            let member = header.member().expect("a call").to_string();
            match member.as_str() {
                _ if self.mute => {}
                "AddMatch" | "Subscribe" => self.answer(&message, &()).await,
                "GetNameOwner" => self.answer(&message, &self.owner).await,
                _ => return Some(message),
            }
        }
    }

    /// The next one, which must be this.
    pub(super) async fn expect(&mut self, member: &str) -> Message {
        let message = self.call().await.expect("a call");
        assert_eq!(message.header().member().expect("a call"), member);
        message
    }

    /// What it is asked of a unit, and the answer.
    pub(super) async fn unit<B>(&mut self, member: &str, body: &B)
    where
        B: serde::Serialize + DynamicType,
    {
        let call = self.expect("LoadUnit").await;
        self.answer_job(&call, 1).await; // any object will do
        let call = self.expect(member).await;
        self.answer(&call, body).await;
    }

    /// Answers by itself whatever it can, for as long as this is polled.
    pub(super) async fn serve(&mut self) {
        while self.call().await.is_some() {}
    }

    /// Answers a call.
    pub(super) async fn answer<B>(&self, call: &Message, body: &B)
    where
        B: serde::Serialize + DynamicType,
    {
        self.connection.reply(&call.header(), body).await.expect("it is there");
    }

    /// Answers a call with the object of a job.
    pub(super) async fn answer_job(&self, call: &Message, id: u32) {
        let path = zbus::ObjectPath::try_from(job(id)).expect("it is one");
        self.answer(call, &path).await;
    }

    /// Answers a call with an error.
    pub(super) async fn refuse(&self, call: &Message, error: &str) {
        let text = "because";
        self.connection.reply_error(&call.header(), error, &text).await.expect("it is there");
    }

    /// Says something, in whoever's name.
    pub(super) async fn say(&self, message: Message) {
        self.connection.send(&message).await.expect("it is there");
    }
}

/// A unit in a list.
pub(super) fn listed(unit: &str, state: &str) -> ListedUnit {
    let none = || zbus::OwnedObjectPath::try_from("/").expect("it is one");
    let nothing = String::new;
    let loaded = "loaded".to_owned();
    let (unit, state) = (unit.to_owned(), state.to_owned());
    (unit, nothing(), loaded, state, nothing(), nothing(), none(), 0, nothing(), none())
}

/// The path of a job's object.
pub(super) fn job(id: u32) -> String {
    format!("/org/freedesktop/systemd1/job/{id}")
}

pub(super) fn job_removed(sender: &str, id: u32, unit: &str, result: &str) -> Message {
    let path = zbus::ObjectPath::try_from(job(id)).expect("it is one");
    manager(sender, "JobRemoved", &(id, path, unit, result))
}

pub(super) fn unit_removed(sender: &str, unit: &str) -> Message {
    let path = zbus::ObjectPath::try_from(path(unit)).expect("it is one");
    manager(sender, "UnitRemoved", &(unit, path))
}

pub(super) fn reloading(sender: &str, begins: bool) -> Message {
    manager(sender, "Reloading", &begins)
}

pub(super) fn state(sender: &str, unit: &str, state: &str) -> Message {
    changed(sender, unit, "org.freedesktop.systemd1.Unit", ("ActiveState", state))
}

/// That a service says something else of itself.
pub(super) fn status(sender: &str, unit: &str, text: &str) -> Message {
    changed(sender, unit, "org.freedesktop.systemd1.Service", ("StatusText", text))
}

fn changed(sender: &str, unit: &str, of: &str, (property, value): (&str, &str)) -> Message {
    let changed = std::collections::HashMap::from([(property, Variant::from(value))]);
    let none: [&str; 0] = [];
    let body = (of, changed, &none[..]);
    let interface = "org.freedesktop.DBus.Properties";
    signal(sender, &path(unit), interface, "PropertiesChanged", &body)
}

/// That another connection owns systemd's name; none if that is empty.
pub(super) fn owner_changed(sender: &str, from: &str, to: &str) -> Message {
    let body = ("org.freedesktop.systemd1", from, to);
    signal(sender, "/org/freedesktop/DBus", BUS, "NameOwnerChanged", &body)
}

fn manager<B: serde::Serialize + DynamicType>(sender: &str, member: &str, body: &B) -> Message {
    let interface = "org.freedesktop.systemd1.Manager";
    signal(sender, "/org/freedesktop/systemd1", interface, member, body)
}

fn signal<B>(sender: &str, path: &str, interface: &str, member: &str, body: &B) -> Message
where
    B: serde::Serialize + DynamicType,
{
    let signal = Message::signal(path, interface, member);
    // Of systemd's own socket it has none.
    let signal = if sender.is_empty() { signal } else { signal.sender(sender) };
    signal.build(body).expect("all names are valid")
}

/// The path of a unit's object.
fn path(unit: &str) -> String {
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for c in unit.chars() {
        if c.is_ascii_alphanumeric() {
            path.push(c);
        } else {
            let _ = write!(path, "_{:02x}", u32::from(c)); // which cannot fail
        }
    }
    path
}

async fn next(messages: &mut MessageStream) -> Option<Message> {
    let next =
        |context: &mut std::task::Context<'_>| Stream::poll_next(Pin::new(&mut *messages), context);
    std::future::poll_fn(next).await?.ok()
}
