//! `roundsman explain`: which server a request would get, and why.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{AdminSocket, manage};
use crate::admin::explain::{Explained, Query, explain};
use crate::base::exit;
use crate::config::{Sources, load};
use crate::front::Front;

/// Show which route, share and server a request would get, and why
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The request's host
    #[arg(long, value_name = "HOST")]
    host: String,
    /// Its path, with the query
    #[arg(id = "request-path", long = "path", value_name = "PATH", default_value = "/")]
    path: String,
    /// Its client's address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<IpAddr>,
    /// A header field of it
    #[arg(long, value_name = "NAME:VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// A cookie of it
    #[arg(long, value_name = "NAME=VALUE", value_parser = cookie)]
    cookie: Vec<(String, String)>,
    /// Go by the files of this directory alone, as if all servers were up, instead of asking the
    /// running front
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminSocket,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME:VALUE")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

fn cookie(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

// === impl Explain ===

impl Explain {
    /// Explains and prints.
    pub(super) fn run(self) -> ExitCode {
        let Self { host, path, ip, header, cookie, config, json, admin } = self;
        let host = without_port(&host).to_owned();
        let query = Query { host, path, ip, headers: header, cookies: cookie, random: 0 };
        let show = |explained: Explained| {
            if json {
                manage::print_json(&explained);
            } else {
                manage::print(&text(&explained));
            }
        };
        let Some(directory) = config else {
            return admin.call("POST", "/v1/explain", Some(&query), show);
        };
        let loaded = load(&Sources::directory(directory));
        if loaded.problems.errors() > 0 {
            manage::say(loaded.problems.render(false).trim_end());
            return ExitCode::from(exit::CONFIG);
        }
        show(explain(&Front::new(loaded.settings, 1).snapshot(), &query));
        ExitCode::from(exit::OK)
    }
}

/// What is left of `host:port` and `[::1]:port`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !ends_open(name) => name,
        _ => host,
    }
}

/// Whether a colon that follows belongs to an IPv6 address.
fn ends_open(name: &str) -> bool {
    name.contains(':') && !name.ends_with(']')
}

fn text(explained: &Explained) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    rows.extend(explained.route.clone().map(|route| ("route", route)));
    rows.extend(explained.share.clone().map(|share| ("share", share)));
    if let (Some(upstream), Some(algorithm)) = (&explained.upstream, &explained.algorithm) {
        rows.push(("upstream", format!("{upstream}, {algorithm}")));
    }
    let server = explained.server.as_deref().unwrap_or("none");
    rows.push(("server", format!("{server}: {}", explained.reason)));
    for server in &explained.servers {
        let line = format!(
            "{} is {}, weight {}, {} in flight, may be used: {}",
            server.name, server.status, server.weight, server.in_flight, server.access
        );
        rows.push(("", line));
    }
    let mut out = String::new();
    for (key, value) in rows {
        let _ = writeln!(out, "{key:<10}{value}"); // cannot fail: it is a string
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_left_out() {
        for (host, name) in [
            ("a.example", "a.example"),
            ("a.example:8080", "a.example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
