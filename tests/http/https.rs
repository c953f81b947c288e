//! Clients are sent to TLS, and browsers are told to stay there.

use std::time::Duration;

use roundsman::config::Settings;
use roundsman::config::settings::Https;

use super::support::{Backend, Proxy, Wire, ok};

fn proxy(backend: &Backend, https: Https, change: impl FnOnce(&mut Settings)) -> Proxy {
    Proxy::with(&[backend], |settings| {
        settings.routes[0].https = https;
        change(settings);
    })
}

const YEAR: Duration = Duration::from_hours(365 * 24);

#[test]
fn cleartext_is_sent_to_the_same_place_over_tls() {
    let backend = Backend::named("ok");
    let proxy =
        proxy(&backend, Https { redirect: true, hsts: Some(YEAR), ..Https::default() }, |_| {});
    let mut client = proxy.send("GET /a%20b?c=d HTTP/1.1\r\nHost: Shop.example:80\r\n\r\n");
    let answer = client.final_response("GET").unwrap();
    assert_eq!(answer.status(), 301);
    assert_eq!(answer.one("location"), Some("https://Shop.example/a%20b?c=d"));
    assert_eq!(answer.one("strict-transport-security"), None, "not over cleartext");
    // The body is read, and the connection goes on.
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    let answer = client.final_response("POST").unwrap();
    assert_eq!((answer.status(), answer.one("location")), (308, Some("https://a/x")));
    client.send("HEAD /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = client.final_response("HEAD").unwrap();
    assert_eq!((answer.status(), answer.one("connection")), (301, Some("close")));
    assert!(backend.requests().is_empty());
    assert_eq!(proxy.totals().statuses[3], 3);
}

#[test]
fn who_comes_over_tls_by_a_trusted_proxy_is_served_and_told_to_stay() {
    let backend = Backend::new(|request| {
        let own = "Strict-Transport-Security: max-age=1\r\nContent-Length: 0\r\n";
        let own = format!("HTTP/1.1 200 OK\r\n{own}\r\n").into_bytes();
        if request.target() == "/own" { own } else { ok("ok") }
    });
    let https = Https { redirect: true, hsts: Some(YEAR), hsts_subdomains: true };
    let proxy = proxy(&backend, https, |settings| {
        settings.front.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let wanted = Some("max-age=31536000; includeSubDomains");
    for path in ["/", "/own"] {
        let answer = proxy
            .ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n"));
        assert_eq!((answer.status(), answer.one("strict-transport-security")), (200, wanted));
    }
    let answer = proxy.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\n\r\n");
    assert_eq!(answer.status(), 301);
}

#[test]
fn another_port_is_named() {
    let backend = Backend::named("ok");
    let proxy = proxy(&backend, Https { redirect: true, ..Https::default() }, |_| {});
    let before = proxy.front.snapshot();
    let tls = before.tls.clone().with_port(Some(8443));
    proxy.front.replace_with(Settings::clone(&before.settings), tls);
    let answer = proxy.ask("GET / HTTP/1.1\r\nHost: a:8080\r\n\r\n");
    assert_eq!(answer.one("location"), Some("https://a:8443/"));
}
