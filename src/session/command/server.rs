//! The server's settings and its data as a whole.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::super::protocol::{Arguments, Reply};
use super::super::store::key::Space;
use super::glob::Matching;
use super::guesses::Guesses;
use super::{CommandError, Context, LONGEST_STRING, Outcome, is, unknown_subcommand};

/// The version whose commands these are: libraries look at it to decide what they may use.
pub(super) const REDIS_VERSION: &str = "7.0.15";

/// Facts that all connections share.
#[derive(Debug, Default)]
pub struct ServerInfo {
    /// Passwords by namespace, for clients over TCP.
    pub passwords: BTreeMap<String, String>,
    /// Connections that are open.
    pub connections: Cell<usize>,
    /// Connections accepted since the start.
    pub accepted: Cell<u64>,
    /// Connections refused or closed because of a limit.
    pub refused: Cell<u64>,
    /// Commands carried out since the start.
    pub commands: Cell<u64>,
    /// Wrong passwords.
    pub guesses: RefCell<Guesses>,
    /// When an HTTP request was last spoken of, in milliseconds since 1970.
    pub http_said: Cell<u64>,
    /// When the server started, in milliseconds since 1970.
    pub started: u64,
    /// Connections it takes at most.
    pub max_connections: usize,
}

pub(super) fn dbsize(cx: &mut Context<'_>, _args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(cx.store.keys(cx.client.space).cast_signed());
    Ok(())
}

fn flush_mode(args: Arguments<'_>) -> Outcome {
    match args.get(1) {
        None => Ok(()),
        Some(word) if args.len() == 2 && (is(word, "SYNC") || is(word, "ASYNC")) => Ok(()),
        Some(_) => Err(CommandError::Syntax),
    }
}

pub(super) fn flushdb(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    flush_mode(args)?;
    cx.store.clear(cx.client.space, cx.now)?;
    reply.ok();
    Ok(())
}

/// All databases of the namespace: another app's keys are none of this client's.
pub(super) fn flushall(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    flush_mode(args)?;
    let own: Vec<Space> = cx
        .store
        .all_spaces()
        .filter(|record| record.namespace == cx.client.namespace())
        .map(|record| record.space)
        .collect();
    for space in own {
        cx.store.clear(space, cx.now)?;
    }
    reply.ok();
    Ok(())
}

pub(super) fn time(cx: &mut Context<'_>, _args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.array(2);
    reply.bulk((cx.now / 1000).to_string().as_bytes());
    reply.bulk((cx.now % 1000 * 1000).to_string().as_bytes());
    Ok(())
}

pub(super) fn wait(_cx: &mut Context<'_>, _args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(0); // there are no replicas to wait for
    Ok(())
}

pub(super) fn role(_cx: &mut Context<'_>, _args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.array(3);
    reply.bulk(b"master");
    reply.integer(0);
    reply.array(0);
    Ok(())
}

pub(super) fn cluster_disabled(
    _cx: &mut Context<'_>,
    _args: Arguments<'_>,
    _reply: &mut Reply<'_>,
) -> Outcome {
    Err(CommandError::other("ERR This instance has cluster support disabled"))
}

pub(super) fn memory(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    if !is(args.at(1), "USAGE") || args.len() < 3 {
        return Err(unknown_subcommand("MEMORY", args));
    }
    cx.read(args.at(2), |found| {
        match found {
            None => reply.null(),
            Some(found) => reply.count(found.stored_bytes() + args.at(2).len()),
        }
        Ok(())
    })
}

/// Settings that clients read, in Redis's words.
fn settings(cx: &Context<'_>) -> Vec<(&'static str, String)> {
    let always = cx.store.options().sync == crate::config::settings::SessionSync::Always;
    vec![
        ("appendfsync", if always { "always" } else { "everysec" }.to_owned()),
        ("appendonly", "yes".to_owned()),
        ("bind", String::new()),
        ("client-output-buffer-limit", String::new()),
        ("cluster-enabled", "no".to_owned()),
        ("databases", super::DATABASES.to_string()),
        ("hash-max-listpack-entries", "128".to_owned()),
        ("hash-max-ziplist-entries", "128".to_owned()),
        ("latency-monitor-threshold", "0".to_owned()),
        ("lazyfree-lazy-user-del", "yes".to_owned()),
        ("maxclients", cx.server.max_connections.to_string()),
        ("maxmemory", cx.store.options().max_size.to_string()),
        ("maxmemory-policy", "volatile-ttl".to_owned()),
        ("maxmemory-samples", "5".to_owned()),
        ("min-replicas-to-write", "0".to_owned()),
        ("notify-keyspace-events", String::new()),
        ("proto-max-bulk-len", LONGEST_STRING.to_string()),
        ("replica-read-only", "yes".to_owned()),
        ("requirepass", String::new()),
        ("save", String::new()),
        ("slave-read-only", "yes".to_owned()),
        ("slowlog-log-slower-than", "-1".to_owned()),
        ("tcp-keepalive", "0".to_owned()),
        ("timeout", "0".to_owned()),
        ("tracking-table-max-keys", "0".to_owned()),
    ]
}

pub(super) fn config(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    if is(args.at(1), "GET") && args.len() >= 3 {
        let settings = settings(cx);
        let mut is_chosen = vec![false; settings.len()];
        let mut request = Matching::new(cx.store.work());
        for pattern in args.from(2) {
            let pattern = Matching::pattern(pattern)?.to_ascii_lowercase();
            for ((name, _), is_chosen) in settings.iter().zip(&mut is_chosen) {
                *is_chosen = *is_chosen || request.matches(&pattern, name.as_bytes())?;
            }
        }
        let chosen: Vec<_> = settings
            .into_iter()
            .zip(is_chosen)
            .filter_map(|(it, chosen)| chosen.then_some(it))
            .collect();
        reply.map(chosen.len());
        for (name, value) in chosen {
            reply.bulk(name.as_bytes());
            reply.bulk(value.as_bytes());
        }
        return Ok(());
    }
    if is(args.at(1), "GET") {
        return Err(super::wrong_arity("config|get"));
    }
    if is(args.at(1), "SET") {
        return Err(CommandError::other(
            "ERR CONFIG SET is not supported by the Roundsman session store: settings are in the \
             [session] section of /etc/roundsman/roundsman.toml",
        ));
    }
    Err(unknown_subcommand("CONFIG", args))
}
