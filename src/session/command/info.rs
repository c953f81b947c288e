//! `INFO`: the server as its clients see it. An app learns about itself and nothing about the others.

use std::fmt::Write as _;

use super::super::protocol::{Arguments, Reply};
use super::client::Identity;
use super::server::REDIS_VERSION;
use super::{Context, Outcome, is};

/// A title, and its fields with their values.
type Section = (&'static str, Vec<(&'static str, String)>);

pub(super) fn info(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let all = args.len() == 1
        || args.from(1).any(|word| ["all", "default", "everything"].iter().any(|w| is(word, w)));
    let wanted = |title| all || args.from(1).any(|word| is(word, title));
    let mut sections = vec![server(cx), clients(cx), memory(cx), persistence(cx)];
    let administrator = cx.client.identity == Identity::Admin;
    if administrator {
        sections.push(statistics(cx));
    }
    sections.extend([replication(cx), ("Cluster", vec![("cluster_enabled", "0".to_owned())])]);
    let mut text = String::new();
    for (title, fields) in sections.into_iter().filter(|(title, _)| wanted(title)) {
        begin(&mut text, title);
        for (name, value) in fields {
            let _ = write!(text, "{name}:{value}\r\n");
        }
    }
    if wanted("Keyspace") {
        begin(&mut text, "Keyspace");
        keyspace(cx, &mut text);
    }
    if administrator && wanted("Roundsman") {
        begin(&mut text, "Roundsman");
        everything(cx, &mut text);
    }
    reply.verbatim(&text);
    Ok(())
}

fn begin(text: &mut String, title: &str) {
    if !text.is_empty() {
        text.push_str("\r\n");
    }
    let _ = write!(text, "# {title}\r\n");
}

fn server(cx: &Context<'_>) -> Section {
    let uptime = cx.now.saturating_sub(cx.server.started) / 1000;
    let fields = vec![
        ("redis_version", REDIS_VERSION.to_owned()),
        ("redis_mode", "standalone".to_owned()),
        ("server_name", "roundsman".to_owned()),
        ("roundsman_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("os", "Linux".to_owned()),
        ("arch_bits", usize::BITS.to_string()),
        ("multiplexing_api", "epoll".to_owned()),
        ("process_id", std::process::id().to_string()),
        ("process_supervised", "systemd".to_owned()),
        ("run_id", run_id(cx)),
        ("tcp_port", "0".to_owned()),
        ("server_time_usec", (cx.now * 1000).to_string()),
        ("uptime_in_seconds", uptime.to_string()),
        ("uptime_in_days", (uptime / 86400).to_string()),
    ];
    ("Server", fields)
}

/// What tells one run of the server from the next.
fn run_id(cx: &Context<'_>) -> String {
    format!("{:032x}{:08x}", cx.server.started, std::process::id())
}

fn clients(cx: &Context<'_>) -> Section {
    let connected = match cx.client.identity {
        Identity::Admin => cx.server.connections.get(),
        Identity::Worker(_) | Identity::Remote => cx.client.neighbours.get(),
    };
    let fields = vec![
        ("connected_clients", connected.to_string()),
        ("maxclients", cx.server.max_connections.to_string()),
        ("blocked_clients", "0".to_owned()),
    ];
    ("Clients", fields)
}

fn memory(cx: &Context<'_>) -> Section {
    let most = cx.store.options().max_size;
    let used = match cx.client.identity {
        Identity::Admin => cx.store.memory() as u64,
        Identity::Worker(_) | Identity::Remote => {
            let own =
                cx.store.all_spaces().filter(|space| space.namespace == cx.client.namespace());
            own.map(|space| space.bytes).sum()
        }
    };
    let fields = vec![
        ("used_memory", used.to_string()),
        ("used_memory_human", human(used)),
        ("maxmemory", most.to_string()),
        ("maxmemory_human", human(most)),
        ("maxmemory_policy", "volatile-ttl".to_owned()),
        ("mem_allocator", "libc".to_owned()),
    ];
    ("Memory", fields)
}

/// As Redis writes sizes.
fn human(bytes: u64) -> String {
    let units = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match units.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.2}{unit}", bytes as f64 / size as f64),
        None => format!("{bytes}B"),
    }
}

fn persistence(cx: &Context<'_>) -> Section {
    let written = if cx.store.refusal().is_none() { "ok" } else { "err" };
    let fields = vec![
        ("loading", "0".to_owned()),
        ("async_loading", "0".to_owned()),
        ("rdb_changes_since_last_save", "0".to_owned()),
        ("rdb_bgsave_in_progress", "0".to_owned()),
        ("rdb_last_save_time", (cx.server.started / 1000).to_string()),
        ("rdb_last_bgsave_status", "ok".to_owned()),
        ("aof_enabled", "1".to_owned()),
        ("aof_rewrite_in_progress", "0".to_owned()),
        ("aof_last_bgrewrite_status", "ok".to_owned()),
        ("aof_last_write_status", written.to_owned()),
    ];
    ("Persistence", fields)
}

/// Of all namespaces together, so for the administrator alone.
fn statistics(cx: &Context<'_>) -> Section {
    let (server, statistics) = (cx.server, &cx.store.statistics);
    let fields = vec![
        ("total_connections_received", server.accepted.get().to_string()),
        ("total_commands_processed", server.commands.get().to_string()),
        ("rejected_connections", server.refused.get().to_string()),
        ("expired_keys", statistics.expired.to_string()),
        ("evicted_keys", statistics.evicted.to_string()),
        ("keyspace_hits", statistics.hits.get().to_string()),
        ("keyspace_misses", statistics.misses.get().to_string()),
        ("pubsub_channels", "0".to_owned()),
        ("pubsub_patterns", "0".to_owned()),
        ("acl_access_denied_auth", server.guesses.borrow().total().to_string()),
    ];
    ("Stats", fields)
}

fn replication(cx: &Context<'_>) -> Section {
    let fields = vec![
        ("role", "master".to_owned()),
        ("connected_slaves", "0".to_owned()),
        ("master_failover_state", "no-failover".to_owned()),
        ("master_replid", run_id(cx)),
        ("master_repl_offset", "0".to_owned()),
        ("repl_backlog_active", "0".to_owned()),
    ];
    ("Replication", fields)
}

fn keyspace(cx: &Context<'_>, text: &mut String) {
    for record in cx.store.all_spaces().filter(|r| r.namespace == cx.client.namespace()) {
        let (database, keys) = (record.database, record.keys);
        if keys > 0 {
            let _ = write!(text, "db{database}:keys={keys},expires=0,avg_ttl=0\r\n");
        }
    }
}

/// What only the administrator sees: all namespaces, and how the store does.
fn everything(cx: &Context<'_>, text: &mut String) {
    let store = &*cx.store;
    let _ = write!(
        text,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_redis_writes_them() {
        let written = [0, 1023, 1024, 1536, 3 << 20, 5 << 40].map(human);
        assert_eq!(written, ["0B", "1023B", "1.00K", "1.50K", "3.00M", "5.00T"]);
    }
}
