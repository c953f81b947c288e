//! nginx's directives that come to no line of a file: what needs nothing here, what is said elsewhere, and
//! what has no counterpart.

use super::super::Severity;
use super::field;
use super::redirect;
use super::remark::Remark;
use super::syntax::Directive;

/// What is always so here, so that there is nothing to write.
const NEEDS_NOTHING: &[&str] = &[
    "events",
    "types",
    "user",
    "pid",
    "worker_processes",
    "worker_connections",
    "worker_rlimit_nofile",
    "worker_cpu_affinity",
    "worker_priority",
    "multi_accept",
    "use",
    "daemon",
    "load_module",
    "env",
    "sendfile",
    "tcp_nopush",
    "tcp_nodelay",
    "default_type",
    "keepalive_requests",
    "keepalive_disable",
    "proxy_http_version",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_buffer_size",
    "proxy_busy_buffers_size",
    "proxy_max_temp_file_size",
    "proxy_temp_path",
    "proxy_headers_hash_max_size",
    "proxy_headers_hash_bucket_size",
    "proxy_request_buffering",
    "chunked_transfer_encoding",
    "client_body_buffer_size",
    "client_body_temp_path",
    "types_hash_max_size",
    "types_hash_bucket_size",
    "server_names_hash_bucket_size",
    "server_names_hash_max_size",
    "variables_hash_max_size",
    "keepalive",
    "zone",
    "server_tokens",
    "server_name_in_redirect",
    "port_in_redirect",
    "reset_timedout_connection",
    "map_hash_bucket_size",
    "map_hash_max_size",
    "charset",
    "proxy_socket_keepalive",
    "pcre_jit",
    "log_not_found",
    "http2",
    "set_real_ip_from",
    "limit_req_zone",
    "limit_req_status",
    "limit_req_log_level",
    "limit_req_dry_run",
    "limit_conn_status",
    "limit_conn_log_level",
    "auth_basic_user_file",
    "auth_delay",
    "satisfy",
];

/// Directives whose setting is written once for all sites: what it is called there.
const WRITTEN: &[(&str, &str)] = &[
    ("keepalive_timeout", "`idle` under [timeouts]"),
    ("client_header_timeout", "`client-header` under [timeouts]"),
    ("client_body_timeout", "`client-body` under [timeouts]"),
    ("send_timeout", "`client-write` under [timeouts]"),
    ("proxy_connect_timeout", "`connect` under [timeouts]"),
    ("grpc_connect_timeout", "`connect` under [timeouts]"),
    ("proxy_send_timeout", "`upstream-write` under [timeouts]"),
    ("grpc_send_timeout", "`upstream-write` under [timeouts]"),
    (
        "proxy_read_timeout",
        "`response-header` and `response-body` under [timeouts], and for WebSockets `tunnel-idle`, 1 h without it",
    ),
    ("grpc_read_timeout", "`response-header` and `response-body` under [timeouts]"),
    ("client_max_body_size", "`body` under [limits]"),
    (
        "large_client_header_buffers",
        "`header-bytes` under [limits], for all fields together and up to 1 MiB",
    ),
    ("http2_max_concurrent_streams", "`streams-per-connection` under [limits]"),
    ("worker_shutdown_timeout", "`shutdown` under [timeouts]"),
];

/// What is said of it in one sentence for all of a kind: the kind, how bad it is, the sentence, and the
/// names, or how they begin where they end in *.
const FAMILIES: &[(&str, Severity, &str, &[&str])] = &[
    (
        "cache",
        Severity::Lost,
        "nothing is cached here: every request reaches the app",
        &["proxy_cache*", "proxy_no_cache", "fastcgi_cache*", "proxy_ignore_headers", "slice"],
    ),
    (
        "gzip",
        Severity::Lost,
        "responses are passed on as they are: compress in the app",
        &["gzip*", "brotli*", "zstd*", "gunzip"],
    ),
    (
        "certificates",
        Severity::ToDo,
        "certificates and keys are named in [listen.https]; the user roundsman must be able to read them, which keys of certbot are not: /usr/share/doc/roundsman/tls.md has how",
        &["ssl_certificate", "ssl_certificate_key", "ssl_password_file"],
    ),
    (
        "client certificates",
        Severity::Lost,
        "what only a client certificate opens is closed; `client-ca` and `client-certificate` under [listen.https] ask for one on all sites of the port",
        &["ssl_client_certificate", "ssl_trusted_certificate", "ssl_crl", "ssl_verify_depth"],
    ),
    (
        "TLS",
        Severity::Differs,
        "TLS 1.2 and 1.3 are spoken with their safe parameters only; there is nothing more to set: no early data, no stapling, no curves or ciphers",
        &["ssl_*", "ssl"],
    ),
    (
        "logs",
        Severity::Differs,
        "logs are in the journal: journalctl -u roundsman",
        &[
            "access_log",
            "error_log",
            "log_format",
            "log_subrequest",
            "open_log_file_cache",
            "rewrite_log",
        ],
    ),
    (
        "names",
        Severity::Differs,
        "names are looked up as /etc/hosts and /etc/resolv.conf say; `servers` under [dns] of roundsman.toml names other DNS servers",
        &["resolver", "resolver_timeout"],
    ),
    (
        "open files",
        Severity::Lost,
        "files are not served here, and none are kept open",
        &["open_file_cache*", "aio", "directio", "sendfile_max_chunk", "output_buffers"],
    ),
    (
        "substitution",
        Severity::Lost,
        "bodies are passed on as they are: links in pages are the app's",
        &["sub_filter*", "addition_types", "add_before_body", "add_after_body"],
    ),
    (
        "servers over TLS",
        Severity::Lost,
        "servers are reached over plain HTTP only",
        &["proxy_ssl_*", "grpc_ssl_*"],
    ),
    (
        "FastCGI",
        Severity::Lost,
        "FastCGI, uwsgi and SCGI are not spoken: keep nginx for it, or have the app listen for HTTP",
        &["fastcgi_*", "uwsgi_*", "scgi_*", "memcached_*"],
    ),
];

/// What is said elsewhere, or cannot be had: directive → what to do.
const ELSEWHERE: &[(&str, Severity, &str)] = &[
    (
        "client_header_buffer_size",
        Severity::Differs,
        "`header-bytes` under [limits] of roundsman.toml; 32 KiB without it",
    ),
    (
        "real_ip_header",
        Severity::Differs,
        "of `trusted-proxies` of roundsman.toml X-Forwarded-For and Forwarded are believed, and no other field",
    ),
    (
        "real_ip_recursive",
        Severity::Differs,
        "the client is the last address before `trusted-proxies` of roundsman.toml, as with `on`",
    ),
    (
        "limit_conn",
        Severity::Differs,
        "is `connections-per-client` under [limits] of roundsman.toml: it counts connections, not requests, and those beyond it are closed",
    ),
    (
        "limit_conn_zone",
        Severity::Differs,
        "`connections-per-client` under [limits] of roundsman.toml counts by the client's address, in no zones",
    ),
    ("limit_rate", Severity::Lost, "nobody is slowed down here"),
    ("limit_rate_after", Severity::Lost, "nobody is slowed down here"),
    (
        "root",
        Severity::Lost,
        "files are not served here: let the app do it, or keep nginx for them",
    ),
    (
        "alias",
        Severity::Lost,
        "files are not served here: let the app do it, or keep nginx for them",
    ),
    (
        "index",
        Severity::Lost,
        "files are not served here: let the app do it, or keep nginx for them",
    ),
    (
        "try_files",
        Severity::Lost,
        "files are not served here: let the app do it, or keep nginx for them",
    ),
    (
        "autoindex",
        Severity::Lost,
        "files are not served here: let the app do it, or keep nginx for them",
    ),
    (
        "expires",
        Severity::Lost,
        "responses do not get Expires and Cache-Control: let the app set them",
    ),
    (
        "error_page",
        Severity::Lost,
        "the app's own errors reach the client; `error-pages` of roundsman.toml has pages for those of the front",
    ),
    ("proxy_intercept_errors", Severity::Lost, "the app's own errors reach the client"),
    ("rewrite", Severity::Lost, "paths are passed on as they are: rewrite in the app"),
    (
        "stub_status",
        Severity::Lost,
        "`roundsman status` and /metrics of the admin socket say how it goes",
    ),
    ("mirror", Severity::Lost, "requests are sent to one server only"),
    (
        "proxy_cookie_path",
        Severity::Lost,
        "cookies are passed on with the path that the app gives them",
    ),
    (
        "proxy_cookie_domain",
        Severity::Lost,
        "cookies are passed on with the domain that the app gives them",
    ),
    ("proxy_cookie_flags", Severity::Lost, "cookies are passed on as the app sets them"),
    (
        "proxy_redirect",
        Severity::Lost,
        "redirects of the app are passed on as they are; with the client's Host most apps write them right",
    ),
    ("proxy_bind", Severity::Lost, "servers are reached from the address that the system chooses"),
    ("proxy_method", Severity::Lost, "methods are passed on as they are"),
    ("proxy_set_body", Severity::Lost, "bodies are passed on as they are"),
    ("proxy_pass_request_body", Severity::Lost, "bodies are passed on as they are"),
    ("proxy_pass_request_headers", Severity::Lost, "fields of requests are passed on"),
    (
        "proxy_next_upstream",
        Severity::Differs,
        "another server is tried when a request cannot have been processed, never for a status and never twice for what is not safe to repeat; `attempts` under [retries] of roundsman.toml",
    ),
    (
        "proxy_next_upstream_tries",
        Severity::Differs,
        "`attempts` under [retries] of roundsman.toml is one less: further servers, 2 without it",
    ),
    (
        "proxy_next_upstream_timeout",
        Severity::Differs,
        "tries end with `attempts` under [retries] of roundsman.toml, not with a time",
    ),
    (
        "underscores_in_headers",
        Severity::Differs,
        "fields with _ in their names are passed on, except those that look like the front's own",
    ),
    ("ignore_invalid_headers", Severity::Differs, "a request with a field that is none gets 400"),
    (
        "merge_slashes",
        Severity::Differs,
        "routes are found as with `on`, and servers get the path as it came",
    ),
    ("absolute_redirect", Severity::Differs, "the front's redirects have a host"),
    ("http3", Severity::Lost, "HTTP/3 is not spoken; clients come over HTTP/2 instead"),
    ("quic_retry", Severity::Lost, "HTTP/3 is not spoken; clients come over HTTP/2 instead"),
];

/// What there is to say of such a directive; nothing where it is so here anyway.
pub(super) fn remark(directive: &Directive) -> Option<Remark> {
    let name = directive.name.as_str();
    if NEEDS_NOTHING.contains(&name) || needs_nothing(directive) {
        return None;
    }
    if let Some((_, setting)) = WRITTEN.iter().find(|(known, _)| *known == name) {
        let text = format!(
            "in roundsman.toml once for all sites, the most that any of them has: {setting}"
        );
        return Some(Remark::differs(text));
    }
    let is = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *pattern,
    };
    if name == "ssl_verify_client" {
        return Some(client_certificate(directive));
    }
    if let Some((family, severity, text, _)) =
        FAMILIES.iter().find(|(.., names)| names.iter().any(&is))
    {
        return Some(Remark::family(family, *severity, text));
    }
    special(directive).or_else(|| {
        let known = ELSEWHERE.iter().find(|(known, ..)| *known == name);
        Some(known.map_or_else(
            || Remark::lost("has no counterpart: what it did is not done"),
            |(_, severity, text)| Remark {
                family: None,
                severity: *severity,
                text: (*text).to_owned(),
            },
        ))
    })
}

/// Whether it is always so here with these arguments.
fn needs_nothing(directive: &Directive) -> bool {
    let arguments: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
    match (directive.name.as_str(), arguments.as_slice()) {
        ("include", [path, ..]) => path.ends_with("mime.types"),
        // What every WebSocket needs there: here upgrades pass, and nothing is cached.
        ("map" | "proxy_cache_bypass", [on, ..]) => *on == "$http_upgrade",
        ("set", [_, value]) => !value.contains('$'),
        ("proxy_redirect", [word]) => matches!(*word, "off" | "default"),
        ("proxy_set_header" | "grpc_set_header", _) => field::is_so(directive),
        // It lets in whom nobody keeps out.
        ("allow", _)
        | (
            "gzip" | "brotli" | "proxy_cache" | "auth_basic" | "auth_request" | "auth_jwt"
            | "ssl_verify_client",
            ["off"],
        ) => true,
        _ => false,
    }
}

/// What depends on the arguments; `None` where nothing does.
fn special(directive: &Directive) -> Option<Remark> {
    let arguments = directive.arguments.join(" ");
    let first = directive.arguments.first().map_or("", String::as_str);
    let lost = |text: String| Some(Remark::lost(text));
    match directive.name.as_str() {
        "include" => lost(format!("there is no file {arguments}")),
        "rewrite" if redirect::sends_away(directive) => lost(format!(
            "what matches {first} is sent to {} by nginx; no redirect is written, and such requests are passed on",
            directive.arguments.get(1).map_or("", String::as_str)
        )),
        "map" | "geo" | "perl_set" | "js_set" => {
            let to = directive.arguments.last().map_or("", String::as_str);
            lost(format!(
                "the variable {to} is not known here: what uses it is not done, and named there"
            ))
        }
        "set" => lost(format!(
            "the variable {first} is not known here: what uses it is not done, and named there"
        )),
        "proxy_set_header" | "grpc_set_header" => Some(field::for_servers(directive)),
        "add_header" => Some(field::for_clients(directive)),
        "add_trailer" | "more_set_headers" => lost(format!("responses do not get it: {arguments}")),
        "proxy_hide_header" | "more_clear_headers" => {
            lost(format!("the app's field {first} reaches clients, which nginx hides"))
        }
        "proxy_pass_header" => Some(Remark::differs("all fields of the app reach clients")),
        "if" => lost(format!(
            "{arguments}: conditions are not looked at, and what is done there ({}) is not done",
            words_of(&directive.block)
        )),
        "stream" | "mail" => lost(format!(
            "TCP and UDP are not forwarded: nothing listens on {} here. Keep nginx for it",
            ports(&directive.block)
        )),
        "auth_request_set" => lost(format!("the variable {first} is not known here")),
        // Where it closes nothing it is counted, and said below.
        name if name != "limit_conn" && super::closed::is_rule(name) => Some(Remark::differs(
            "what it protects is closed in the files, where it passes anything on",
        )),
        _ => None,
    }
}

fn client_certificate(directive: &Directive) -> Remark {
    match directive.arguments.first().map_or("", String::as_str) {
        "on" => Remark::family("client certificates", Severity::Lost, FAMILIES[3].2),
        _ => Remark::lost(
            "clients are asked for no certificate: `client-ca` and `client-certificate = \"optional\"` under [listen.https] of roundsman.toml do it, on all sites of the port",
        ),
    }
}

/// The names of a block's directives.
fn words_of(block: &[Directive]) -> String {
    let names: Vec<String> = block
        .iter()
        .map(|inner| {
            format!("{} {}", inner.name, inner.arguments.first().map_or("", String::as_str))
        })
        .map(|words| words.trim().to_owned())
        .collect();
    names.join(", ")
}

/// Where the servers of a block listen.
fn ports(block: &[Directive]) -> String {
    let listens = block
        .iter()
        .filter(|inner| inner.name == "server")
        .flat_map(|server| server.block.iter().filter(|inner| inner.name == "listen"))
        .map(|listen| listen.arguments.join(" "));
    let listens: Vec<String> = listens.collect();
    if listens.is_empty() { "its ports".to_owned() } else { listens.join(", ") }
}
