//! nginx's directives that come to no file: what needs nothing here, what is said elsewhere, and what
//! has no counterpart.

use std::borrow::Cow;

use super::nginx_syntax::Directive;

/// What is always so here, so that there is nothing to write.
const NEEDS_NOTHING: &[&str] = &[
    "events",
    "types",
    "include",
    "user",
    "pid",
    "worker_processes",
    "worker_connections",
    "worker_rlimit_nofile",
    "worker_cpu_affinity",
    "multi_accept",
    "use",
    "daemon",
    "sendfile",
    "tcp_nopush",
    "tcp_nodelay",
    "default_type",
    "keepalive_requests",
    "proxy_http_version",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_buffer_size",
    "proxy_busy_buffers_size",
    "proxy_request_buffering",
    "types_hash_max_size",
    "server_names_hash_bucket_size",
    "keepalive",
    "zone",
    "server_tokens",
    "reset_timedout_connection",
    "map_hash_bucket_size",
    "charset",
    "proxy_socket_keepalive",
    "pcre_jit",
];

/// What is said elsewhere: directive → what to do.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "ssl_certificate",
        "`certificates` under [listen.https] of roundsman.toml names both, readable by the user roundsman",
    ),
    (
        "ssl_certificate_key",
        "`certificates` under [listen.https] of roundsman.toml names both, readable by the user roundsman",
    ),
    ("ssl_client_certificate", "`client-ca` under [listen.https] of roundsman.toml"),
    (
        "ssl_verify_client",
        "`client-ca` and `client-certificate` under [listen.https] of roundsman.toml",
    ),
    (
        "keepalive_timeout",
        "`idle` under [timeouts] of roundsman.toml, for all sites; 75 s without it",
    ),
    (
        "client_max_body_size",
        "`body` under [limits] of roundsman.toml, for all sites; 1 GiB without it",
    ),
    ("client_header_timeout", "`client-header` under [timeouts] of roundsman.toml"),
    ("client_body_timeout", "`client-body` under [timeouts] of roundsman.toml"),
    ("send_timeout", "`client-write` under [timeouts] of roundsman.toml"),
    (
        "large_client_header_buffers",
        "`header-bytes` under [limits] of roundsman.toml; 32 KiB without it",
    ),
    (
        "client_header_buffer_size",
        "`header-bytes` under [limits] of roundsman.toml; 32 KiB without it",
    ),
    (
        "proxy_connect_timeout",
        "`connect` under [timeouts] of roundsman.toml, for all sites; 2 s without it",
    ),
    (
        "proxy_read_timeout",
        "`response-header` and `response-body` under [timeouts] of roundsman.toml, for all sites; 60 s without them; `tunnel-idle` for WebSockets",
    ),
    ("proxy_send_timeout", "`response-body` under [timeouts] of roundsman.toml, for all sites"),
    (
        "proxy_next_upstream",
        "another server is tried when a request cannot have been processed; `attempts` under [retries] of roundsman.toml",
    ),
    ("proxy_next_upstream_tries", "`attempts` under [retries] of roundsman.toml"),
    ("set_real_ip_from", "`trusted-proxies` of roundsman.toml"),
    (
        "real_ip_header",
        "`trusted-proxies` of roundsman.toml: X-Forwarded-For and Forwarded are believed from these",
    ),
    ("access_log", "logs are in the journal: journalctl -u roundsman"),
    ("error_log", "logs are in the journal: journalctl -u roundsman"),
    ("log_format", "logs are in the journal: journalctl -u roundsman"),
    ("limit_conn", "`connections-per-client` under [limits] of roundsman.toml is the nearest"),
    ("limit_conn_zone", "`connections-per-client` under [limits] of roundsman.toml is the nearest"),
    ("worker_shutdown_timeout", "`shutdown` under [timeouts] of roundsman.toml"),
    ("root", "files are not served here: let the app do it, or keep nginx for them"),
    ("alias", "files are not served here: let the app do it, or keep nginx for them"),
    ("index", "files are not served here: let the app do it, or keep nginx for them"),
    ("try_files", "files are not served here: let the app do it, or keep nginx for them"),
    ("gzip", "responses are passed on as they are: compress in the app"),
    ("rewrite", "paths are passed on as they are: rewrite in the app"),
];

/// What there is to say of such a directive; nothing where it is so here anyway.
pub(super) fn remark(directive: &Directive) -> Option<Cow<'static, str>> {
    let name = directive.name.as_str();
    if NEEDS_NOTHING.contains(&name) && name != "include" {
        return None;
    }
    // What every WebSocket needs there: here upgrades pass.
    if name == "map" && directive.arguments.first().is_some_and(|on| on == "$http_upgrade") {
        return None;
    }
    if let Some((_, text)) = ELSEWHERE.iter().find(|(known, _)| *known == name) {
        return Some((*text).into());
    }
    Some(match name {
        "include" => {
            let what = directive.arguments.join(" ");
            if what.ends_with("mime.types") {
                return None;
            }
            format!("there is no file {what}").into()
        }
        "proxy_redirect" if directive.arguments.first().is_some_and(|word| word == "off") => return None,
        "proxy_redirect" => "redirects of the app are passed on as they are; with the client's Host most apps write them right".into(),
        "fastcgi_pass" | "uwsgi_pass" | "scgi_pass" | "memcached_pass" => {
            "only HTTP is spoken to servers: keep nginx for this location, or have the app listen for HTTP".into()
        }
        "auth_basic" | "auth_request" | "auth_jwt" | "allow" | "deny" | "ssl_verify_client" | "internal"
        | "limit_except" | "secure_link" | "valid_referers" => {
            "what it protects is closed in the files, where it passes anything on".into()
        }
        "proxy_set_header" => return header(directive),
        _ if name.starts_with("ssl_") => {
            "[listen.https] of roundsman.toml has what there is to set for TLS".into()
        }
        "add_header" if is_hsts(directive) => "`hsts = \"365d\"` in the route".into(),
        _ if name.starts_with("gzip") => {
            "responses are passed on as they are: compress in the app".into()
        }
        _ => "has no counterpart".into(),
    })
}

/// Fields that the front sets itself are no loss.
fn header(directive: &Directive) -> Option<Cow<'static, str>> {
    let name = directive.arguments.first().map(|name| name.to_lowercase()).unwrap_or_default();
    let value = directive.arguments.get(1).map_or("", String::as_str);
    Some(match name.as_str() {
        "host" if matches!(value, "$host" | "$http_host") => return None,
        "x-forwarded-proto" if value.starts_with("$http_") => {
            "the client's word is believed only from `trusted-proxies` of roundsman.toml".into()
        }
        "x-forwarded-for" if value == "$proxy_add_x_forwarded_for" => {
            "what the client sent is dropped unless it is one of `trusted-proxies` of roundsman.toml".into()
        }
        "upgrade" | "connection" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host"
        | "x-forwarded-port" | "forwarded" => return None,
        "x-real-ip" => {
            "is not set; the client's address is in X-Forwarded-For and Forwarded".into()
        }
        "host" => format!("the client's Host is passed on, not {value}").into(),
        _ if value.starts_with("$ssl_client_") => {
            "`forward-client-certificate` under [listen.https] of roundsman.toml passes the \
             certificate on, in Client-Cert"
                .into()
        }
        _ => {
            format!("the field {name} is not added; let the app do without, or add it there").into()
        }
    })
}

fn is_hsts(directive: &Directive) -> bool {
    let field = directive.arguments.first();
    field.is_some_and(|name| name.eq_ignore_ascii_case("Strict-Transport-Security"))
}
