//! What clients ask about the server, and what the administrator does with a namespace.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::protocol::{Arguments, Reply};
use super::super::store::Op;
use super::super::store::key::Space;
use super::client::Identity;
use super::table::{self, COMMANDS, Command};
use super::{CommandError, Context, LONGEST_STRING, Outcome, glob_matches, is, unknown_subcommand};

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
    cx.apply(Op::Clear(cx.client.space))?;
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
        cx.apply(Op::Clear(space))?;
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
        ("databases", super::DATABASES.to_string()),
        ("maxclients", cx.server.max_connections.to_string()),
        ("maxmemory", cx.store.options().max_size.to_string()),
        ("maxmemory-policy", "volatile-ttl".to_owned()),
        ("notify-keyspace-events", String::new()),
        ("proto-max-bulk-len", LONGEST_STRING.to_string()),
        ("save", String::new()),
        ("timeout", "0".to_owned()),
    ]
}

pub(super) fn config(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    if is(args.at(1), "GET") && args.len() >= 3 {
        let mut chosen = settings(cx);
        chosen.retain(|(name, _)| {
            args.from(2).any(|p| glob_matches(&p.to_ascii_lowercase(), name.as_bytes()))
        });
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

pub(super) fn info(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let all = args.len() == 1
        || args.from(1).any(|word| ["all", "default", "everything"].iter().any(|w| is(word, w)));
    let mut text = String::new();
    for (title, lines) in sections(cx) {
        if all || args.from(1).any(|word| is(word, title)) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let _ = write!(text, "# {title}\r\n{lines}");
        }
    }
    reply.verbatim(&text);
    Ok(())
}

fn sections(cx: &Context<'_>) -> Vec<(&'static str, String)> {
    let (store, server) = (&*cx.store, cx.server);
    let uptime = cx.now.saturating_sub(server.started) / 1000;
    let lines = |pairs: &[(&str, String)]| {
        pairs.iter().fold(String::new(), |mut text, (name, value)| {
            let _ = write!(text, "{name}:{value}\r\n");
            text
        })
    };
    let statistics = &store.statistics;
    let mut keyspace = String::new();
    for record in store.all_spaces().filter(|r| r.namespace == cx.client.namespace()) {
        let (database, keys) = (record.database, record.keys);
        if keys > 0 {
            let _ = write!(keyspace, "db{database}:keys={keys},expires=0,avg_ttl=0\r\n");
        }
    }
    let mut result = vec![
        (
            "Server",
            lines(&[
                ("redis_version", REDIS_VERSION.to_owned()),
                ("redis_mode", "standalone".to_owned()),
                ("server_name", "roundsman".to_owned()),
                ("roundsman_version", env!("CARGO_PKG_VERSION").to_owned()),
                ("process_id", std::process::id().to_string()),
                ("uptime_in_seconds", uptime.to_string()),
            ]),
        ),
        ("Clients", lines(&[("connected_clients", server.connections.get().to_string())])),
        (
            "Memory",
            lines(&[
                ("used_memory", store.memory().to_string()),
                ("maxmemory", store.options().max_size.to_string()),
                ("maxmemory_policy", "volatile-ttl".to_owned()),
            ]),
        ),
        (
            "Persistence",
            lines(&[
                ("loading", "0".to_owned()),
                ("aof_enabled", "1".to_owned()),
                (
                    "aof_last_write_status",
                    if store.refusal().is_none() { "ok" } else { "err" }.to_owned(),
                ),
            ]),
        ),
        (
            "Stats",
            lines(&[
                ("total_connections_received", server.accepted.get().to_string()),
                ("total_commands_processed", server.commands.get().to_string()),
                ("rejected_connections", server.refused.get().to_string()),
                ("expired_keys", statistics.expired.to_string()),
                ("evicted_keys", statistics.evicted.to_string()),
                ("keyspace_hits", statistics.hits.get().to_string()),
                ("keyspace_misses", statistics.misses.get().to_string()),
            ]),
        ),
        (
            "Replication",
            lines(&[("role", "master".to_owned()), ("connected_slaves", "0".to_owned())]),
        ),
        ("Cluster", lines(&[("cluster_enabled", "0".to_owned())])),
        ("Keyspace", keyspace),
    ];
    if cx.client.identity == Identity::Admin {
        result.push(("Roundsman", everything(cx)));
    }
    result
}

/// What only the administrator sees: all namespaces, and how the store does.
fn everything(cx: &Context<'_>) -> String {
    let store = &*cx.store;
    let mut text = format!(
        "data_bytes:{}\r\nlog_bytes:{}\r\nfile_bytes:{}\r\ncheckpoints:{}\r\nrefusal:{}\r\n",
        store.bytes(),
        store.log_bytes(),
        store.file_bytes(),
        store.statistics.checkpoints,
        store.refusal().unwrap_or("none"),
    );
    for record in store.all_spaces() {
        let (namespace, database) = (&record.namespace, record.database);
        let (keys, bytes) = (record.keys, record.bytes);
        let _ =
            write!(text, "namespace:name={namespace},db={database},keys={keys},bytes={bytes}\r\n");
    }
    text
}

pub(super) fn command(
    _cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let Some(word) = args.get(1) else {
        reply.array(COMMANDS.len());
        for command in COMMANDS {
            describe(command, reply);
        }
        return Ok(());
    };
    if is(word, "COUNT") && args.len() == 2 {
        reply.count(COMMANDS.len());
    } else if is(word, "LIST") && args.len() == 2 {
        reply.array(COMMANDS.len());
        for command in COMMANDS {
            reply.bulk(command.name.as_bytes());
        }
    } else if is(word, "INFO") {
        let chosen: Vec<Option<&Command>> = match args.len() {
            2 => COMMANDS.iter().map(Some).collect(),
            _ => args.from(2).map(table::find).collect(),
        };
        reply.array(chosen.len());
        for command in chosen {
            match command {
                Some(command) => describe(command, reply),
                None => reply.null_array(),
            }
        }
    } else if is(word, "DOCS") {
        let chosen: Vec<&Command> = match args.len() {
            2 => COMMANDS.iter().collect(),
            _ => args.from(2).filter_map(table::find).collect(),
        };
        reply.map(chosen.len());
        for command in chosen {
            reply.bulk(command.name.as_bytes());
            reply.map(2);
            reply.bulk(b"summary");
            reply.bulk(command.summary.as_bytes());
            reply.bulk(b"group");
            reply.bulk(command.group.as_bytes());
        }
    } else {
        return Err(unknown_subcommand("COMMAND", args));
    }
    Ok(())
}

fn describe(command: &Command, reply: &mut Reply<'_>) {
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.integer(command.arity.into());
    let flags = command.flags.names();
    reply.set(flags.len());
    for flag in &flags {
        reply.simple(flag);
    }
    let (first, last, step) = command.keys;
    for number in [first, last, step] {
        reply.integer(number.into());
    }
    // ACL categories, hints, key specifications and subcommands: nothing to say.
    (0..4).for_each(|_| reply.array(0));
}
