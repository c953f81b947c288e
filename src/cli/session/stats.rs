//! `roundsman session stats`: what the store that runs says about itself.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::live::Live;
use crate::base::paths;
use crate::cli::failure::Done;
use crate::cli::manage;
use crate::session::remote::{Client, Value};

/// Show what the running store holds and how it does
#[derive(Debug, Args)]
pub(super) struct Stats {
    /// Where the store listens
    #[arg(long, value_name = "PATH", default_value = paths::SESSION_SOCKET)]
    socket: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Default, Serialize)]
struct Figures {
    keys: u64,
    data_bytes: u64,
    max_size: u64,
    memory_bytes: u64,
    log_bytes: u64,
    file_bytes: u64,
    checkpoints: u64,
    connections: u64,
    commands: u64,
    hits: u64,
    misses: u64,
    expired: u64,
    evicted: u64,
    refused_connections: u64,
    uptime_seconds: u64,
    /// Why writes are refused, if they are.
    refusal: Option<String>,
    namespaces: Vec<Namespace>,
}

#[derive(Debug, Serialize)]
struct Namespace {
    name: String,
    database: u8,
    keys: u64,
    bytes: u64,
}

impl Stats {
    pub(super) fn run(self) -> Done {
        let mut client = Live::at(&self.socket).connect("default")?;
        let figures = ask(&mut client)?;
        if self.json {
            manage::print_json(&figures);
            return Ok(());
        }
        print(&figures);
        Ok(())
    }
}

fn ask(client: &mut Client) -> Done<Figures> {
    let reply = client.call(&["INFO", "everything"])?;
    let Value::Bulk(text) = reply else { return Err(client.unexpected(&reply).into()) };
    let text = String::from_utf8_lossy(&text);
    let mut figures = Figures::default();
    for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let number = value.parse().unwrap_or_default();
        match name {
            "data_bytes" => figures.data_bytes = number,
            "maxmemory" => figures.max_size = number,
            "used_memory" => figures.memory_bytes = number,
            "log_bytes" => figures.log_bytes = number,
            "file_bytes" => figures.file_bytes = number,
            "checkpoints" => figures.checkpoints = number,
            "connected_clients" => figures.connections = number,
            "total_commands_processed" => figures.commands = number,
            "keyspace_hits" => figures.hits = number,
            "keyspace_misses" => figures.misses = number,
            "expired_keys" => figures.expired = number,
            "evicted_keys" => figures.evicted = number,
            "rejected_connections" => figures.refused_connections = number,
            "uptime_in_seconds" => figures.uptime_seconds = number,
            "refusal" if value != "none" => figures.refusal = Some(value.to_owned()),
            "namespace" => figures.namespaces.extend(namespace(value)),
            _ => {}
        }
    }
    figures.namespaces.sort_by(|a, b| (&a.name, a.database).cmp(&(&b.name, b.database)));
    figures.keys = figures.namespaces.iter().map(|namespace| namespace.keys).sum();
    Ok(figures)
}

/// `name=shop,db=0,keys=3,bytes=40`.
fn namespace(line: &str) -> Option<Namespace> {
    let mut fields = line.split(',');
    let name = fields.next()?.strip_prefix("name=")?.to_owned();
    let mut number = |prefix: &str| fields.next()?.strip_prefix(prefix)?.parse::<u64>().ok();
    let database = u8::try_from(number("db=")?).ok()?;
    Some(Namespace { name, database, keys: number("keys=")?, bytes: number("bytes=")? })
}

fn print(figures: &Figures) {
    let hit_rate = match figures.hits + figures.misses {
        0 => String::new(),
        all => format!(", {}% found", figures.hits * 100 / all),
    };
    let lines = [
        (
            "sessions",
            format!(
                "{} keys, {} of {}",
                figures.keys,
                size(figures.data_bytes),
                size(figures.max_size)
            ),
        ),
        ("memory", format!("{} not in the file yet", size(figures.memory_bytes))),
        (
            "disk",
            format!(
                "file {}, log {}, {} checkpoints",
                size(figures.file_bytes),
                size(figures.log_bytes),
                figures.checkpoints
            ),
        ),
        (
            "clients",
            format!("{} connected, {} refused", figures.connections, figures.refused_connections),
        ),
        ("commands", format!("{}{hit_rate}", figures.commands)),
        ("removed", format!("{} expired, {} evicted", figures.expired, figures.evicted)),
        ("up for", format!("{} s", figures.uptime_seconds)),
        ("writes", figures.refusal.clone().unwrap_or_else(|| "taken".to_owned())),
    ];
    for (name, text) in lines {
        manage::print(&format!("{name:<9} {text}"));
    }
    if !figures.namespaces.is_empty() {
        manage::print(&format!(
            "\n{:<24} {:>8} {:>10} {:>10}",
            "NAMESPACE", "DATABASE", "KEYS", "SIZE"
        ));
    }
    for Namespace { name, database, keys, bytes } in &figures.namespaces {
        manage::print(&format!("{name:<24} {database:>8} {keys:>10} {:>10}", size(*bytes)));
    }
}

/// For people: three digits are enough.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1000.0 {
            let digits = usize::from(unit != "B" && value < 100.0);
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1024, "1.0 KiB"),
            (150 * 1024, "150 KiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
