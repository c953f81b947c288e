//! `roundsman explain` of the running front says where a request really goes.

use super::origin::Origin;
use super::support::{Client, Front, settings};
use super::{client_addresses, eventually, origins};

/// The number of the server that it names.
fn explained(front: &Front, origins: &[Origin], arguments: &[&str]) -> String {
    let explained = front.explain(arguments);
    let address = explained["server"].as_str().unwrap_or_else(|| panic!("{explained}"));
    let number = origins.iter().position(|origin| origin.address.to_string() == address);
    format!("s{}", number.unwrap_or_else(|| panic!("{explained}")))
}

fn really(front: &Front, line: &str, fields: &str) -> String {
    let got = Client::new(front).ask(line, fields, "").expect("a response");
    assert_eq!(got.status(), 200, "{got:?}");
    got.text().to_owned()
}

#[test]
fn it_agrees_with_where_the_request_goes() {
    let mut origins = origins(4);
    let list = |numbers: &[usize]| {
        let of = |&n: &usize| format!("{{ address = \"{}\" }}", origins[n].address);
        let servers: Vec<_> = numbers.iter().map(of).collect();
        format!("servers = [{}]\n", servers.join(", "))
    };
    let all = list(&[0, 1, 2]);
    let upstream = |options: &str, host: &str| {
        // Who is out stays out, however long the questions take.
        let out = "[passive]\nfail-timeout = \"10min\"\n";
        format!("{options}\n{all}\nroute = [{{ host = \"{host}.example\" }}]\n{out}")
    };
    let files = [
        ("upstreams/ip.toml", upstream("balance = \"ip-hash\"", "ip")),
        ("upstreams/user.toml", upstream("balance = \"hash\"\nhash = { on = \"cookie:user\" }", "user")),
        ("upstreams/path.toml", upstream("balance = \"hash\"\nhash = { on = \"path\", method = \"ketama\" }", "path")),
        ("upstreams/turn.toml", upstream("", "turn")),
        ("upstreams/pinned.toml", upstream("sticky = { cookie = \"pin\" }", "pinned")),
        ("upstreams/old.toml", list(&[0])),
        ("upstreams/new.toml", list(&[3])),
        (
            "routes/split.toml",
            "[[route]]\nhost = \"split.example\"\nby = \"ip\"\n\
             split = [{ to = \"upstream:old\", share = 70 }, { to = \"upstream:new\", share = 30 }]\n"
                .to_owned(),
        ),
    ];
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, &**text)).collect();
    let front = Front::with(&settings(2), &files);

    let agree = |origins: &[Origin]| {
        for (number, ip) in client_addresses(40).iter().enumerate() {
            let from = format!("X-Forwarded-For: {ip}\r\n");
            for host in ["ip.example", "split.example"] {
                let says = explained(&front, origins, &["--host", host, "--ip", ip]);
                let goes = really(&front, "GET / HTTP/1.1", &format!("Host: {host}\r\n{from}"));
                assert_eq!(says, goes, "{host} for {ip}");
            }
            let user = format!("user=u{number}");
            let says = explained(&front, origins, &["--host", "user.example", "--cookie", &user]);
            let cookie = format!("Host: user.example\r\nCookie: {user}\r\n");
            assert_eq!(says, really(&front, "GET / HTTP/1.1", &cookie), "{user}");
            let path = format!("/item/{number}?q=1");
            let says = explained(&front, origins, &["--host", "path.example:80", "--path", &path]);
            let line = format!("GET {path} HTTP/1.1");
            assert_eq!(says, really(&front, &line, "Host: path.example\r\n"), "{path}");
            let says = explained(&front, origins, &["--host", "turn.example"]);
            assert_eq!(says, really(&front, "GET / HTTP/1.1", "Host: turn.example\r\n"), "in turn");
        }
        let mut pins = 0;
        for _ in 0..6 {
            let got = Client::new(&front).get("Host: pinned.example\r\n").expect("a response");
            let cookie = got.cookie().expect("a cookie");
            let says =
                explained(&front, origins, &["--host", "pinned.example", "--cookie", cookie]);
            let fields = format!("Host: pinned.example\r\nCookie: {cookie}\r\n");
            assert_eq!(says, really(&front, "GET / HTTP/1.1", &fields), "{cookie}");
            pins += 1;
        }
        assert_eq!(pins, 6);
    };
    agree(&origins);

    // It knows what the running front knows: who is out is passed over in both.
    origins[1].kill();
    eventually("all know that it is out", || {
        for (line, fields) in [
            ("GET / HTTP/1.1", "Host: turn.example\r\n".to_owned()),
            ("GET / HTTP/1.1", "Host: pinned.example\r\n".to_owned()),
        ] {
            really(&front, line, &fields);
        }
        for (number, ip) in client_addresses(40).iter().enumerate() {
            really(
                &front,
                "GET / HTTP/1.1",
                &format!("Host: ip.example\r\nX-Forwarded-For: {ip}\r\n"),
            );
            really(
                &front,
                "GET / HTTP/1.1",
                &format!("Host: user.example\r\nCookie: user=u{number}\r\n"),
            );
            really(&front, &format!("GET /item/{number}?q=1 HTTP/1.1"), "Host: path.example\r\n");
        }
        ["ip", "user", "path", "turn", "pinned"].iter().all(|host| {
            let explained = front.explain(&["--host", &format!("{host}.example")]);
            explained["servers"][1]["status"] == "ejected"
        })
    });
    agree(&origins);
    let nobody = front.explain(&["--host", "elsewhere.example"]);
    assert!(nobody["reason"].as_str().is_some_and(|reason| reason.contains("404")), "{nobody}");
}
