//! What configurations come to, seen from outside: who answers what, and what is said of it.

use super::super::Import;
use super::import_text;

/// A default server, so that no other one has every host.
const FIRST: &str = "server { server_name first; return 404; }";

/// What locations come to: `P1` is a pass to 127.0.0.1:1, and so on.
pub(super) fn tried(text: &str) -> Import {
    let mut text = format!("{FIRST} {text}");
    for port in 1..=4 {
        text = text.replace(&format!("P{port}"), &format!("proxy_pass http://127.0.0.1:{port};"));
    }
    import_text(&text).unwrap()
}

/// Who answers what, in order: `a.example/x 1`, `closed` for 503, `+https` for who is sent there.
pub(super) fn routes(import: &Import) -> String {
    let mut all = Vec::new();
    for file in &import.files {
        let Some(name) = file.path.strip_prefix("upstreams/") else { continue };
        let name = name.trim_end_matches(".toml");
        for line in file.text.lines().filter(|line| !line.starts_with('#')) {
            for route in line.split("{ ").filter(|part| part.contains("path = ")) {
                let value = |key: &str| {
                    let rest = route.split_once(&format!("{key} = \""))?.1;
                    rest.split_once('"').map(|(value, _)| value)
                };
                let https = if route.contains("redirect-https") { "+https" } else { "" };
                let host = value("host").unwrap_or("*");
                all.push(format!("{host}{} {name}{https}", value("path").unwrap()));
            }
        }
    }
    all.sort();
    all.join(", ")
}

/// All that is said.
pub(super) fn said(import: &Import) -> String {
    let notes = import.notes.iter().filter(|note| !note.at.starts_with("always"));
    let notes = notes.map(|note| format!("{}: {}: {}\n", note.severity.word(), note.at, note.text));
    let open = import.unprotected.iter().map(|note| format!("OPEN: {}\n", note.text));
    notes.chain(open).collect()
}

/// Servers, who answers what, what must be said and what must not.
type Case = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

fn check(cases: &[Case]) {
    for (text, expected, told, silent) in cases {
        let import = tried(text);
        assert_eq!(routes(&import), *expected, "{text}\n{}", said(&import));
        for part in *told {
            assert!(said(&import).contains(part), "{text}: {part}:\n{}", said(&import));
        }
        for part in *silent {
            assert!(!said(&import).contains(part), "{text}: {part}:\n{}", said(&import));
        }
    }
}

/// What must be said of a server, and what must not; `PASS` passes everything on.
fn check_said(cases: &[(&str, &str, &str)]) {
    for (server, told, silent) in cases {
        let server = server.replace("PASS", "location / { P1 }");
        let said = said(&tried(&format!("server {{ {server} }}")));
        assert!(said.contains(told), "{server}: {told}\n{said}");
        assert!(silent.is_empty() || !said.contains(silent), "{server}: {silent}\n{said}");
    }
}

#[test]
fn where_a_server_listens_is_told_where_that_is_another_matter_here() {
    const ONE: &str = "are one here: the front's";
    check_said(&[
        ("listen 80; server_name a; PASS", "", ": listen:"),
        (
            "listen 443 ssl; server_name a; PASS",
            "HTTP/2 is offered, too",
            "every site that has TLS",
        ),
        (
            "listen 443 ssl http2; server_name a; PASS",
            "socket listens on port 443",
            "HTTP/2 is offered",
        ),
        (
            "listen 8443 ssl; server_name a; PASS",
            "port 8443: every site that has TLS answers on 443",
            "",
        ),
        ("listen 443 quic; server_name a; PASS", "HTTP/3 is not spoken", "HTTP/2 is offered"),
        ("listen 8080; server_name a; PASS", "`roundsman listen 8080` moves it", ONE),
        ("listen 80; listen 8080; server_name a; PASS", "ports 80 and 8080 are one here", ""),
        ("listen 80; listen [::]:80; server_name a; PASS", "", ONE),
        ("listen 80; listen 443 ssl; server_name a; PASS", "", ONE),
        (
            "listen 80 proxy_protocol; server_name a; PASS",
            "that connect with the PROXY protocol",
            "",
        ),
    ]);
}

#[test]
fn a_site_that_has_tls_only_is_told_unless_nginx_sends_there() {
    const ONLY: &str = "it has TLS only: over plain HTTP nginx";
    const TLS: &str = "} server { listen 443 ssl; server_name a; PASS";
    let check = |plain: &str, is_told: bool| {
        let server = format!("server_name a; {plain} {TLS}");
        check_said(&[if is_told {
            (server.as_str(), ONLY, "")
        } else {
            (server.as_str(), "", ONLY)
        }]);
    };
    check("return 301 https://$host$request_uri;", false);
    check("location / { return 301 https://$host$request_uri; }", false);
    check("location /x { return 301 /y; }", true);
    check("PASS", false);
    check_said(&[
        ("listen 443 ssl; server_name a; PASS", ONLY, ""),
        ("listen 80; listen 443 ssl; server_name a; PASS", "", ONLY),
    ]);
}

#[test]
fn what_a_server_says_to_all_is_told() {
    check_said(&[
        ("PASS", "no request comes to it in nginx, as it has no name", ""),
        ("server_name ~^a; PASS", "it has no name that can be written; it was left out", ""),
        ("listen 81; PASS", "", "was left out"),
        ("server_name a; return 200 ok; PASS", "nginx answers these requests itself", ""),
        ("server_name a; return 404; PASS", "", ": return:"),
        ("server_name a; return 444; PASS", "nginx answers 444 (it closes the connection)", ""),
        ("server_name a; return 403; PASS", "nginx answers 403; here", "it closes the connection"),
        (
            "server_name a; return 301 https://b.example/x;",
            "a is sent to https://b.example/x by nginx",
            "",
        ),
        (
            "server_name a b; return 301 http://c.example;",
            "a, b are sent to http://c.example by nginx",
            "",
        ),
        (
            "listen 81; return 301 http://c.example;",
            "requests that no other server has are sent to http://c",
            "",
        ),
    ]);
}

#[test]
fn who_is_sent_to_https_finds_something_there_or_is_told() {
    const NOTHING: &str = "is sent to HTTPS, where nothing of these files passes it on";
    const SENT: &str = "return 301 https://$host$request_uri;";
    for (from, to, told, silent) in [
        ("server_name a.example;", "server_name *.example;", "", NOTHING),
        ("server_name *.example;", "server_name a.example;", "", NOTHING),
        ("server_name a;", "server_name b;", NOTHING, ""),
        (
            "listen 81 default_server;",
            "server_name a;",
            "a host that no route is for gets 404 here, no redirect",
            "",
        ),
    ] {
        let server = format!("{from} {SENT} }} server {{ listen 443 ssl; {to} PASS");
        check_said(&[(server.as_str(), told, silent)]);
    }
    check_said(&[
        ("server_name a; return 301 https://$host$request_uri;", NOTHING, ""),
        (
            "server_name a b; return 301 https://b$request_uri; } server { listen 443 ssl; server_name b; PASS",
            "a is sent to https://b by nginx; no redirect",
            "",
        ),
    ]);
}

#[test]
fn a_host_is_kept_apart_unless_nginx_sends_it_away() {
    let wide = "server { server_name *.example; location / { P1 } }";
    for (server, expected) in [
        (
            "server_name a.example; location /x/ { P2 }",
            "*.example/ 1, a.example/ closed, a.example/x 2",
        ),
        ("server_name a.example; location / { P2 }", "*.example/ 1, a.example/ 2"),
        ("server_name a.example; return 403; location / { P2 }", "*.example/ 1, a.example/ closed"),
        ("server_name a.example; return 301 http://b; location / { P2 }", "*.example/ 1"),
        ("server_name a.example; return 301 https://$host$request_uri;", "*.example/ 1"),
        (
            "server_name *.a.example; location /x/ { P2 }",
            "*.a.example/ closed, *.a.example/x 2, *.example/ 1",
        ),
    ] {
        let import = tried(&format!("{wide} server {{ {server} }}"));
        assert_eq!(routes(&import), expected, "{server}: {}", said(&import));
    }
}

#[test]
fn a_listener_for_some_closes_or_stops() {
    let open = "server { server_name b; location / { P2 } }";
    for (servers, expected, stops) in [
        ("server { listen 127.0.0.1:80; server_name a; location / { P1 } }", "a/ 1", true),
        ("server { listen unix:/run/a.sock; server_name a; location / { P1 } }", "a/ 1", true),
        (
            "server { listen 10.0.0.1:80; listen 127.0.0.1:80; server_name a; location / { P1 } }",
            "a/ 1",
            true,
        ),
        (
            "server { listen 127.0.0.1:80; listen 80; server_name a; location / { P1 } }",
            "a/ 1",
            false,
        ),
        ("server { listen 127.0.0.1:80; server_name a; location / { root /srv; } }", "", false),
    ] {
        let import = tried(servers);
        let routes_of_a = routes(&import)
            .split(", ")
            .filter(|route| route.starts_with("a/"))
            .collect::<Vec<_>>()
            .join(", ");
        assert_eq!(
            (routes_of_a.as_str(), said(&import).contains("OPEN: `listen")),
            (expected, stops),
            "{servers}"
        );
        let both = tried(&format!("{open} {servers}"));
        assert!(!said(&both).contains("OPEN: `listen"), "{servers}");
        assert_eq!(routes(&both).contains("a/ closed"), stops, "{servers}: {}", routes(&both));
    }
}

#[test]
fn of_two_answers_for_one_path_the_closed_one_stays_and_else_the_first() {
    const TAKEN: &str = "has an answer already";
    check(&[
        (
            "server { server_name a; location /x/ { P1 } } server { listen 81; server_name a; location /x/ { P2 } }",
            "a/x 1",
            &[
                "lost: nginx.conf:1: location: a /x/ has an answer already, by nginx.conf:1: location",
            ],
            &[],
        ),
        (
            "server { server_name a; location /x/ { P1 } } server { listen 81; server_name a; location /x/ { P1 } }",
            "a/x 1",
            &[],
            &[TAKEN],
        ),
        (
            "server { server_name a; location /x/ { P1 } } server { listen 81; server_name a; location /x/ { deny all; P1 } }",
            "a/x closed",
            &[TAKEN],
            &[],
        ),
        (
            "server { server_name a; location /x/ { deny all; P1 } } server { listen 81; server_name a; location /x/ { P1 } }",
            "a/x closed",
            &[TAKEN],
            &[],
        ),
        (
            "server { server_name a; location = /x { P1 } location /x/ { P2 } }",
            "a/x 2",
            &[
                "lost: nginx.conf:1: location: = /x: only the path itself, and here nginx.conf:1: location answers it",
            ],
            &[TAKEN],
        ),
        (
            "server { server_name a; location /x/ { P2 } location = /x { P1 } }",
            "a/x 2",
            &["= /x: only the path itself, and here"],
            &[TAKEN],
        ),
        (
            "server { server_name a; location = /x { P1 } } server { listen 81; server_name a; location = /x { P2 } }",
            "a/x 1",
            &[TAKEN],
            &[],
        ),
        (
            "server { server_name a; location /x/ { P1 } } server { listen 81; server_name a; location / { P2 } }",
            "a/ 2, a/x 1",
            &[],
            &[TAKEN],
        ),
        (
            "server { server_name a; location / { P2 } } server { listen 81; server_name a; location /x/ { P1 } }",
            "a/ 2, a/x 1",
            &[],
            &[TAKEN],
        ),
    ]);
}

#[test]
fn plain_http_is_sent_away_only_where_every_server_of_the_host_does_so() {
    let hsts = "add_header Strict-Transport-Security max-age=9;";
    let both = |plain: &str, tls: &str| {
        tried(&format!(
            "server {{ server_name a; {plain} }} server {{ listen 443 ssl; server_name a; {hsts} {tls} }}"
        ))
    };
    let import = both("location / { P1 }", "location / { P1 }");
    assert_eq!(routes(&import), "a/ 1");
    assert!(import.files[0].text.contains("hsts = \"9s\""), "{}", import.files[0].text);
    let import = both("return 301 https://$host$request_uri;", "location / { P1 }");
    assert_eq!(routes(&import), "a/ 1+https");
}

#[test]
fn an_exact_path_is_a_prefix_where_that_takes_and_opens_nothing() {
    check(&[
        ("server { server_name a; location / { P1 } location = /x { P1 } }", "a/ 1", &[], &["= /x"]),
        (
            "server { server_name a; location / { P1 } location = /x { P2 } }",
            "a/ 1, a/x 2",
            &["differs: nginx.conf:1: location: = /x: the path and all below it, not only itself"],
            &[],
        ),
        (
            "server { server_name a; location = /x { P2 } }",
            "a/x 2",
            &["= /x: the path and all below it"],
            &[],
        ),
        (
            "server { server_name a; location / { P1 } location /in/ { deny all; } location = /in/x { P1 } }",
            "a/ 1, a/in closed",
            &["closed: nginx.conf:1: location: = /in/x: only the path itself"],
            &[],
        ),
        (
            "server { server_name a; location = / { P2 } location /x/ { P1 } }",
            "a/x 1",
            &["lost: nginx.conf:1: location: = /: only the path itself"],
            &[],
        ),
        // A hook that is called over plain HTTP.
        (
            "server { server_name a; location / { if ($scheme = http) { return 301 https://$host$request_uri; } P1 }
               location = /hook { P1 } }",
            "a/ 1+https, a/hook 1",
            &["= /hook: the path and all below it"],
            &[],
        ),
    ]);
}

#[test]
fn a_rule_that_holds_for_more_than_its_prefix_is_told() {
    let rule = "OPEN: `deny all` also holds for paths that go on in the same word, as /in";
    let pattern =
        "OPEN: ~ \\.ht: paths are prefixes here, not patterns; `deny all` keeps somebody out there";
    for (servers, told) in [
        ("server { server_name a; location / { P1 } location /in { deny all; } }", vec![rule]),
        ("server { server_name a; location / { P1 } location /in/ { deny all; } }", vec![]),
        ("server { server_name a; location / { P1 } location = /in { deny all; } }", vec![]),
        (
            "server { server_name a; location / { deny all; P1 } location /in { deny all; } location /x/ { P1 } }",
            vec![],
        ),
        ("server { server_name a; location /in { deny all; P1 } }", vec![]),
        (
            "server { server_name a; location / { P1 } location ~ \\.ht { deny all; } }",
            vec![pattern],
        ),
        ("server { server_name a; location / { P1 } location ~ \\.ht { root /srv; } }", vec![]),
        (
            "server { server_name a; location / { deny all; P1 } location ~ \\.ht { deny all; } }",
            vec![],
        ),
        (
            "server { server_name a.example; location ~ \\.ht { deny all; } }
             server { server_name *.example; location / { P1 } }",
            vec![pattern],
        ),
        (
            "server { server_name *.example; location ~ \\.ht { deny all; } }
             server { server_name a.example; location / { P1 } }",
            vec![pattern],
        ),
        (
            "server { server_name a.example; location ~ \\.ht { deny all; } }
             server { server_name b.example; location / { P1 } }",
            vec![],
        ),
    ] {
        let import = tried(servers);
        let open: Vec<String> = said(&import)
            .lines()
            .filter(|line| line.starts_with("OPEN"))
            .map(str::to_owned)
            .collect();
        assert_eq!(open.len(), told.len(), "{servers}: {open:?}");
        for (line, part) in open.iter().zip(told) {
            assert!(line.starts_with(part), "{servers}: {line}");
        }
    }
}

#[test]
fn what_is_closed_gets_503_where_something_else_would_answer_and_else_404() {
    check(&[
        (
            "server { server_name a; location / { P1 } location /x/ { return 403; } }",
            "a/ 1, a/x closed",
            &[
                "closed: nginx.conf:1: location: /x/ is CLOSED (503): `return 403` cannot be carried over, and what is around it is open",
            ],
            &[],
        ),
        (
            "server { server_name a; location /x/ { return 403; } location /y/ { P1 } }",
            "a/y 1",
            &["differs: nginx.conf:1: location: /x/ has no answer (404); nginx says `return 403`"],
            &["CLOSED"],
        ),
        (
            "server { server_name a; location /x/ { auth_basic x; P1 } location /y/ { P1 } }",
            "a/x closed, a/y 1",
            &[
                "closed: nginx.conf:1: location: /x/ is CLOSED (503): `auth_basic x` cannot be carried over. Let the app",
            ],
            &[],
        ),
        (
            "server { server_name a; location /x/ { fastcgi_pass unix:/x; } location /y/ { P1 } }",
            "a/x closed, a/y 1",
            &["/x/ is CLOSED (503): `fastcgi_pass unix:/x`: only HTTP is spoken"],
            &[],
        ),
        (
            "server { server_name a; location /x/ { fastcgi_pass unix:/x; } }",
            "",
            &["/x/ is CLOSED (404): `fastcgi_pass unix:/x`"],
            &[],
        ),
        (
            "server { server_name *.example; location / { P1 } } server { server_name a.example; location /x/ { return 403; } }",
            "*.example/ 1, a.example/ closed",
            &[
                "differs: nginx.conf:1: server: paths of a.example that no location of its own passes on get 503",
            ],
            &[],
        ),
        (
            "server { server_name *.example; location /y/ { P1 } } server { server_name a.example; location /x/ { return 403; } }",
            "*.example/y 1, a.example/ closed",
            &["/x/ has no answer (404)"],
            &[],
        ),
        (
            "server { server_name b.example; location / { P1 } } server { server_name a.example; location /x/ { return 403; } }",
            "b.example/ 1",
            &["/x/ has no answer (404)"],
            &["get 503"],
        ),
    ]);
}

#[test]
fn where_prefixes_of_segments_are_others_than_nginxs_is_told() {
    const SLASH: &str = "differs: nginx.conf:1: location: nginx redirects /docs to /docs/; here it is passed on, too";
    const WORD: &str =
        "a path that only begins with the same letters, as /docsx, is another one here: it";
    check(&[
        (
            "server { server_name a; location / { P1 } location /docs/ { P2 } }",
            "a/ 1, a/docs 2",
            &[SLASH],
            &[WORD],
        ),
        (
            "server { server_name a; location / { P1 } location ~ ^/docs/ { P2 } }",
            "a/ 1, a/docs 2",
            &["/docs itself is not meant in nginx; here it is passed on, too"],
            &[SLASH],
        ),
        (
            "server { server_name a; location / { P1 } location /docs { P2 } }",
            "a/ 1, a/docs 2",
            &[
                "differs: nginx.conf:1: location: a path that only begins with the same letters, as /docsx, is another one here: it comes to /",
            ],
            &[SLASH],
        ),
        (
            "server { server_name a; location / { P1 } location /docs { auth_basic x; P2 } }",
            "a/ 1, a/docs closed",
            &[WORD],
            &[],
        ),
        (
            "server { server_name a; location / { P1 } location /docs { P1 } }",
            "a/ 1, a/docs 1",
            &[],
            &[WORD],
        ),
        (
            "server { server_name a; location / { P1 } location /d/ { P2 } location /d/docs { P1 } }",
            "a/ 1, a/d 2, a/d/docs 1",
            &["as /d/docsx, is another one here: it comes to /d/"],
            &[],
        ),
        (
            "server { server_name a; location /docs { P2 } }",
            "a/docs 2",
            &["it has no answer (404)"],
            &[],
        ),
        (
            "server { server_name a; location / { P1 } location = /docs { P2 } }",
            "a/ 1, a/docs 2",
            &[],
            &[WORD, SLASH],
        ),
        (
            "server { server_name *.example; location / { P1 } } server { server_name a.example; location /docs { P1 } }",
            "*.example/ 1, a.example/ closed, a.example/docs 1",
            &["it has no answer (404)"],
            &[],
        ),
    ]);
}
