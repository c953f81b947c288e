//! The connection itself: who it is, what it speaks, which database it uses.

use std::net::SocketAddr;

use super::super::protocol::{Arguments, Reply, Version};
use super::super::store::NOWHERE;
use super::client::{DEFAULT_NAMESPACE, Identity};
use super::number::integer;
use super::{CommandError, Context, DATABASES, Outcome, is, not_supported, unknown_subcommand};
use crate::base::text::one_line;
use crate::base::unit;

pub(super) fn ping(_cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    match args.len() {
        1 => reply.simple("PONG"),
        2 => reply.bulk(args.at(1)),
        _ => return Err(super::wrong_arity("ping")),
    }
    Ok(())
}

pub(super) fn echo(_cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.bulk(args.at(1));
    Ok(())
}

pub(super) fn quit(cx: &mut Context<'_>, _args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    cx.client.closing = true;
    reply.ok();
    Ok(())
}

pub(super) fn select(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    cx.client.database = database(args.at(1))?;
    cx.client.space = NOWHERE;
    reply.ok();
    Ok(())
}

/// The number of a database.
pub(super) fn database(text: &[u8]) -> Result<u8, CommandError> {
    u8::try_from(integer(text)?)
        .ok()
        .filter(|number| *number < DATABASES)
        .ok_or_else(|| CommandError::other("ERR DB index is out of range"))
}

pub(super) fn reset(cx: &mut Context<'_>, _args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let client = &mut *cx.client;
    client.queue = None;
    client.unwatch();
    client.tracker = None;
    client.name.clear();
    client.database = 0;
    client.space = NOWHERE;
    client.version = Version::Two;
    client.authenticated = client.identity != Identity::Remote;
    if !matches!(client.identity, Identity::Worker(_)) {
        client.set_namespace(DEFAULT_NAMESPACE);
    }
    reply.set_version(Version::Two);
    reply.simple("RESET");
    Ok(())
}

pub(super) fn auth(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    match args.len() {
        2 if cx.client.identity != Identity::Remote => {
            return Err(CommandError::other(
                "ERR AUTH <password> called without any password configured for the default \
                 user. Are you sure your configuration is correct?",
            ));
        }
        2 => authenticate(cx, DEFAULT_NAMESPACE.as_bytes(), args.at(1))?,
        3 => authenticate(cx, args.at(1), args.at(2))?,
        _ => return Err(CommandError::Syntax),
    }
    reply.ok();
    Ok(())
}

/// The user's name is the namespace. A worker has its own already, by the kernel's word; whoever
/// runs the store may have any; everybody else needs the password of one.
fn authenticate(cx: &mut Context<'_>, user: &[u8], password: &[u8]) -> Outcome {
    let wrong =
        || CommandError::other("WRONGPASS invalid username-password pair or user is disabled.");
    // One guess has its answer before the next is looked at, within a transaction too.
    if cx.client.put_off.is_some() {
        return Err(wrong());
    }
    let user = String::from_utf8_lossy(user);
    let user = &*user;
    let allowed = match &cx.client.identity {
        Identity::Worker(app) => user == app || user == DEFAULT_NAMESPACE,
        Identity::Admin => is_namespace(user),
        Identity::Remote => cx
            .server
            .passwords
            .get(user)
            .is_some_and(|expected| constant_time_eq(expected.as_bytes(), password)),
    };
    if !allowed {
        put_off(cx, user);
        return Err(wrong());
    }
    if !matches!(cx.client.identity, Identity::Worker(_)) {
        cx.client.set_namespace(user);
    }
    cx.client.authenticated = true;
    Ok(())
}

/// Has a wrong password wait for its answer, and says so: at the first, and whenever there are twice
/// as many.
fn put_off(cx: &mut Context<'_>, user: &str) {
    if cx.client.identity != Identity::Remote {
        return; // no password decides there
    }
    let Ok(address) = cx.client.address.parse::<SocketAddr>() else { return };
    let (count, delay) = cx.server.guesses.borrow_mut().wrong(address.ip(), cx.now);
    cx.client.put_off = Some(delay);
    if count.is_power_of_two() {
        let (user, address) = (one_line(user), &cx.client.address);
        tracing::warn!(
            "wrong password for namespace '{user}' from {address}: {count} from there lately"
        );
    }
}

/// Whether this can be a namespace: the rule for the names of apps.
pub fn is_namespace(name: &str) -> bool {
    unit::name_fault(name).is_none()
}

/// Compares without saying by its duration how much was right.
fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

pub(super) fn hello(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut version = cx.client.version;
    if let Some(text) = args.get(1) {
        let number = integer(text).map_err(|_| {
            CommandError::other("ERR Protocol version is not an integer or out of range")
        })?;
        version = match number {
            2 => Version::Two,
            3 => Version::Three,
            _ => return Err(CommandError::other("NOPROTO unsupported protocol version")),
        };
    }
    let (mut credentials, mut name) = (None, None);
    let mut rest = args.from(2);
    while let Some(word) = rest.next() {
        if is(word, "AUTH") && rest.len() >= 2 {
            credentials = rest.next().zip(rest.next());
        } else if is(word, "SETNAME") && rest.len() >= 1 {
            name = rest.next();
        } else {
            let word = String::from_utf8_lossy(word);
            return Err(CommandError::Other(format!("ERR Syntax error in HELLO option '{word}'")));
        }
    }
    if let Some((user, password)) = credentials {
        authenticate(cx, user, password)?;
    }
    if !cx.client.authenticated {
        return Err(CommandError::other(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        cx.client.name = client_name(name)?;
    }
    cx.client.version = version;
    reply.set_version(version);
    reply.map(7);
    for (key, value) in [("server", "redis"), ("version", super::server::REDIS_VERSION)] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if version == Version::Two { 2 } else { 3 });
    reply.bulk(b"id");
    reply.integer(cx.client.id.cast_signed());
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

fn client_name(name: &[u8]) -> Result<String, CommandError> {
    if !name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Err(CommandError::other(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    Ok(String::from_utf8_lossy(&name[..name.len().min(128)]).into_owned())
}

pub(super) fn client(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let word = args.at(1).to_ascii_uppercase();
    let exactly = |count: usize| {
        if args.len() == count {
            return Ok(());
        }
        let name = String::from_utf8_lossy(args.at(1)).to_ascii_lowercase();
        Err(super::wrong_arity(&format!("client|{name}")))
    };
    match word.as_slice() {
        b"ID" => {
            exactly(2)?;
            reply.integer(cx.client.id.cast_signed());
        }
        b"GETNAME" => {
            exactly(2)?;
            let name = cx.client.name.as_bytes();
            reply.bulk_or_null((!name.is_empty()).then_some(name));
        }
        b"SETNAME" => {
            exactly(3)?;
            cx.client.name = client_name(args.at(2))?;
            reply.ok();
        }
        b"SETINFO" => {
            exactly(4)?;
            let value = client_name(args.at(3)).map_err(|_| {
                CommandError::other(
                    "ERR CLIENT SETINFO values cannot contain spaces, newlines or special \
                     characters.",
                )
            })?;
            if is(args.at(2), "LIB-NAME") {
                cx.client.library.0 = value;
            } else if is(args.at(2), "LIB-VER") {
                cx.client.library.1 = value;
            } else {
                let option = String::from_utf8_lossy(args.at(2));
                return Err(CommandError::Other(format!("ERR Unrecognized option '{option}'")));
            }
            reply.ok();
        }
        // A client sees itself only: who else is connected is not its business.
        b"INFO" => {
            exactly(2)?;
            reply.verbatim(&describe(cx, "info"));
        }
        b"LIST" => {
            let listed = is_listed(cx, args)?;
            reply.verbatim(&if listed { describe(cx, "list") } else { String::new() });
        }
        b"GETREDIR" => {
            exactly(2)?;
            // What is told goes to nobody else.
            reply.integer(if cx.client.tracker.is_some() { 0 } else { -1 });
        }
        b"TRACKING" => {
            track(cx, args)?;
            reply.ok();
        }
        // Nothing here evicts clients or counts accesses, so both are so already.
        b"NO-EVICT" | b"NO-TOUCH" => {
            exactly(3)?;
            if !is(args.at(2), "ON") && !is(args.at(2), "OFF") {
                return Err(CommandError::Syntax);
            }
            reply.ok();
        }
        b"CACHING" | b"REPLY" | b"KILL" | b"PAUSE" | b"UNPAUSE" | b"UNBLOCK" | b"TRACKINGINFO" => {
            not_supported(reply, &format!("CLIENT {}", String::from_utf8_lossy(&word)));
        }
        _ => return Err(unknown_subcommand("CLIENT", args)),
    }
    Ok(())
}

/// Has the client told when what it has read changes, on this connection: the part of Redis's tracking that
/// libraries with a cache of their own use.
fn track(cx: &mut Context<'_>, args: Arguments<'_>) -> Outcome {
    match args.get(2) {
        Some(word) if is(word, "ON") && args.len() == 3 => {
            if cx.client.version == Version::Two {
                return Err(CommandError::other(
                    "ERR CLIENT TRACKING needs RESP3 here: HELLO 3 comes first",
                ));
            }
            cx.client.tracker.get_or_insert_default();
        }
        Some(word) if is(word, "OFF") && args.len() == 3 => cx.client.tracker = None,
        Some(word) if is(word, "ON") => {
            return Err(CommandError::other(
                "ERR options of CLIENT TRACKING are not supported by the Roundsman session store",
            ));
        }
        _ => return Err(CommandError::Syntax),
    }
    Ok(())
}

/// Whether the connection is among those that `CLIENT LIST` was asked for.
fn is_listed(cx: &Context<'_>, args: Arguments<'_>) -> Result<bool, CommandError> {
    let Some(word) = args.get(2) else { return Ok(true) };
    if is(word, "TYPE") && args.len() == 4 {
        let kinds = ["normal", "master", "replica", "slave", "pubsub"];
        let kind = kinds.iter().position(|kind| is(args.at(3), kind)).ok_or_else(|| {
            let kind = String::from_utf8_lossy(args.at(3));
            CommandError::Other(format!("ERR Unknown client type '{kind}'"))
        })?;
        return Ok(kind == 0);
    }
    if is(word, "ID") && args.len() >= 4 {
        let mut listed = false;
        for id in args.from(3) {
            let id = integer(id).ok().filter(|id| *id > 0);
            let id = id.ok_or_else(|| CommandError::other("ERR Invalid client ID"))?;
            listed |= id == cx.client.id.cast_signed();
        }
        return Ok(listed);
    }
    Err(CommandError::Syntax)
}

/// The connection in Redis's words: libraries look for every one of these fields.
fn describe(cx: &Context<'_>, command: &str) -> String {
    let client = &*cx.client;
    let queued = client.queue.as_ref().map_or(-1, |queue| queue.len().cast_signed());
    let memory = client.memory();
    format!(
        "id={} addr={address} laddr={address} fd=-1 name={} age={} idle={} flags=N db={} sub=0 \
         psub=0 ssub=0 multi={queued} qbuf=0 qbuf-free=0 argv-mem=0 multi-mem={memory} rbs=0 rbp=0 \
         obl=0 oll=0 omem=0 tot-mem={memory} events=r cmd=client|{command} user={} redir=-1 resp={} \
         lib-name={} lib-ver={}\n",
        client.id,
        client.name,
        cx.now.saturating_sub(client.since) / 1000,
        cx.now.saturating_sub(client.active) / 1000,
        client.database,
        client.namespace(),
        if client.version == Version::Two { 2 } else { 3 },
        client.library.0,
        client.library.1,
        address = client.address,
    )
}
