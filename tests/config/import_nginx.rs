//! nginx's configuration, as found on servers, and what becomes of it.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::path::{Path, PathBuf};

use roundsman::config::settings::{
    Algorithm, HashKey, HashMethod, HostPattern, RouteTarget, Settings,
};
use roundsman::config::{self, Sources};
use roundsman::import::{Import, nginx};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nginx")
}

fn import(path: &Path) -> (Import, Settings) {
    let import = nginx::import(path, Path::new("/nowhere")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for file in &import.files {
        let path = directory.path().join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &file.text).unwrap();
    }
    let loaded = config::load(&Sources::directory(directory.path()));
    assert_eq!(loaded.problems.errors(), 0, "{}", loaded.problems.render(false));
    (import, loaded.settings)
}

fn routes(settings: &Settings, upstream: &str) -> Vec<String> {
    let mut routes: Vec<String> = settings
        .routes
        .iter()
        .filter(|route| route.target == RouteTarget::Upstream(upstream.to_owned()))
        .map(|route| match &route.host {
            HostPattern::Exact(host) => format!("{host}{}", route.path),
            HostPattern::Wildcard(domain) => format!("*.{domain}{}", route.path),
            HostPattern::Any => route.path.clone(),
        })
        .collect();
    routes.sort();
    routes
}

/// The routes whose requests over plain HTTP are sent to HTTPS.
fn redirected(settings: &Settings) -> Vec<String> {
    let sent = settings.routes.iter().filter(|route| route.https.redirect);
    let mut sent: Vec<String> = sent
        .map(|route| match &route.host {
            HostPattern::Exact(host) => format!("{host}{}", route.path),
            HostPattern::Wildcard(domain) => format!("*.{domain}{}", route.path),
            HostPattern::Any => route.path.clone(),
        })
        .collect();
    sent.sort();
    sent
}

#[test]
fn upstreams_keep_their_servers_and_their_balancing() {
    let (import, settings) = import(&data().join("nginx.conf"));
    let shop = &settings.upstreams["shop"];
    assert_eq!(shop.balancing.algorithm, Algorithm::LeastConnections);
    let servers: Vec<_> = shop
        .servers
        .iter()
        .map(|s| (s.address.to_string(), s.options.weight, s.options.backup, s.options.down))
        .collect();
    assert_eq!(
        servers,
        [
            ("10.0.0.1:3000".to_owned(), 5, false, false),
            ("10.0.0.2:3000".to_owned(), 1, false, false),
            ("10.0.0.3:3000".to_owned(), 1, true, false),
            ("10.0.0.4:3000".to_owned(), 1, false, true),
        ]
    );
    assert_eq!(shop.servers[0].options.max_connections, Some(100));
    match &settings.upstreams["hashed"].balancing.algorithm {
        Algorithm::Hash(hash) => {
            assert_eq!(hash.on, HashKey::Cookie("user".to_owned()));
            assert_eq!(hash.method, HashMethod::Ketama);
        }
        other => panic!("{other:?}"),
    }
    let addresses = |name: &str| -> Vec<String> {
        settings.upstreams[name].servers.iter().map(|server| server.address.to_string()).collect()
    };
    assert_eq!(addresses("hashed"), ["unix:/run/a.sock"]);
    let names = settings.upstreams["hashed"].names.iter().map(|named| named.name.to_string());
    assert_eq!(names.collect::<Vec<_>>(), ["dns:app.internal:81"]);
    assert_eq!(addresses("weighted"), ["10.1.0.1:80", "10.1.0.2:80"]);
    assert_eq!(settings.upstreams["weighted"].balancing.algorithm, Algorithm::WeightedRoundRobin);
    let names = settings.upstreams["sticky"].names.iter().map(|named| named.name.to_string());
    assert_eq!(names.collect::<Vec<_>>(), ["dns:gone.internal:1", "dns:localhost:9000"]);
    assert_eq!(settings.upstreams["sticky"].balancing.algorithm, Algorithm::IpHash);
    assert!(!settings.upstreams.contains_key("unused"));
    assert!(import.notes.iter().any(|note| note.text.contains("\"unused\"")), "{import:#?}");
}

#[test]
fn locations_become_routes() {
    let (_, settings) = import(&data().join("nginx.conf"));
    assert_eq!(
        routes(&settings, "shop"),
        ["*.shop.example.org/", "shop.example.com/", "shop.example.org/"]
    );
    assert!(settings.upstreams.contains_key("8081"), "an address gets an upstream of its own");
    assert_eq!(
        routes(&settings, "closed"),
        ["*.shop.example.org/api", "/d", "shop.example.com/api", "shop.example.org/api"],
        "paths that nginx changes, and servers that nobody knows"
    );
    assert!(routes(&settings, "hashed").contains(&"shop.example.com/health".to_owned()));
    assert_eq!(routes(&settings, "weighted"), ["/"]);
    assert_eq!(routes(&settings, "sticky"), ["/s"]);
}

#[test]
fn everything_without_a_counterpart_is_named_with_its_line() {
    let (import, _) = import(&data().join("nginx.conf"));
    let said: Vec<String> = import.notes.iter().map(|n| format!("{}: {}", n.at, n.text)).collect();
    for part in [
        "nginx.conf:7: gzip:",
        "nginx.conf:8: client_max_body_size:",
        "nginx.conf:9: upstream: max_fails and fail_timeout differ",
        "shop:7: listen:",
        "shop:9: ssl_certificate:",
        "shop:16: proxy_set_header: X-Real-IP is not set",
        "shop:17: proxy_read_timeout:",
        "shop:19: location: /api/ is CLOSED (503): nginx replaces /api/ by /v1/",
        "shop:20: location: = /health",
        "shop:21: location: ~ \\.php$",
        "shop:22: root:",
        "shop:22: expires: responses do not get",
        "others:2: listen:",
        "others:6: location: /d is CLOSED (503): http://$backend has variables",
    ] {
        assert!(
            said.iter().any(|line| line.starts_with(part)),
            "{part} is not named:\n{}",
            said.join("\n")
        );
    }
    for silent in ["sendfile", "mime.types", "keepalive:", "proxy_http_version", "$http_upgrade"] {
        assert!(!said.iter().any(|line| line.contains(silent)), "{silent}:\n{}", said.join("\n"));
    }
}

/// What a site's text comes to.
fn site(text: &str) -> (Import, Settings) {
    let directory = tempfile::tempdir().unwrap();
    let site = directory.path().join("site");
    std::fs::write(&site, text).unwrap();
    import(&site)
}

#[test]
fn what_keeps_somebody_out_is_closed_and_never_open() {
    let (import, settings) = site(
        "server { server_name a.example;
           location / { proxy_pass http://127.0.0.1:1; }
           location /admin { auth_basic x; proxy_pass http://127.0.0.1:1; }
           location /tools { allow 10.0.0.0/8; deny all; proxy_pass http://127.0.0.1:2; }
           location = /verify { internal; proxy_pass http://127.0.0.1:3; }
           location /gone { return 403; }
           location ~ /\\.git { deny all; }
           if ($bad) { return 403; }
         }
         server { server_name b.example; auth_request /check;
           location / { proxy_pass http://127.0.0.1:1; }
           location /open { auth_request off; proxy_pass http://127.0.0.1:1; }
         }",
    );
    assert_eq!(
        routes(&settings, "closed"),
        [
            "/admin",
            "/gone",
            "/tools",
            "/verify",
            "a.example/admin",
            "a.example/gone",
            "a.example/tools",
            "a.example/verify",
            "b.example/"
        ],
        "the first server has every host"
    );
    assert_eq!(routes(&settings, "1"), ["/", "a.example/", "b.example/open"]);
    let unprotected: Vec<&str> = import.unprotected.iter().map(|note| note.at.as_str()).collect();
    assert_eq!(
        unprotected,
        [
            "site:8: if",
            "site:7: location",
            "site:3: location",
            "site:4: location",
            "site:6: location"
        ],
        "/administrator is protected in nginx, too"
    );
    assert!(
        import
            .notes
            .iter()
            .any(|note| note.text.contains("/admin is CLOSED (503): `auth_basic x`"))
    );
}

#[test]
fn rules_that_cannot_even_be_closed_stop_the_writing() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let text =
        "server { location / { proxy_pass http://127.0.0.1:1; } location ~ /\\.git { deny all; } }";
    std::fs::write(at("site"), text).unwrap();
    let run = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_roundsman"));
        let output = command.args(["import", "nginx", &at("site"), "--to", &at("etc"), "--write"]);
        let output = output.args(more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = run(&[]);
    assert_eq!(status, Some(78), "{said}");
    assert!(said.contains("NOT PROTECTED") && said.contains("--unprotected"), "{said}");
    assert!(!Path::new(&at("etc")).exists(), "nothing is written");
    let (status, said) = run(&["--unprotected"]);
    assert_eq!(status, Some(3), "{said}");
}

#[test]
fn a_site_that_had_only_tls_does_not_answer_plain_http() {
    let pass = "location / { proxy_pass http://127.0.0.1:1; }";
    let text = format!(
        "server {{ listen 80; server_name a.example; return 301 https://$host$request_uri; }}
         server {{ listen 443 ssl; server_name a.example; {pass} }}
         server {{ listen 443 ssl; listen 80; server_name both.example; {pass} }}
         server {{ listen 443 ssl; server_name two.example; {pass} }}
         server {{ server_name two.example; location /x {{ proxy_pass http://127.0.0.1:1; }} }}"
    );
    let (_, settings) = site(&text);
    assert_eq!(
        redirected(&settings),
        ["/", "a.example/", "two.example/"],
        "and so are hosts that nobody has, as on both ports of nginx"
    );
}

#[test]
fn locations_that_are_not_prefixes_do_not_take_what_is_not_theirs() {
    let (import, settings) = site(
        "server { listen 80 default_server; return 444; }
         server { server_name ~^(?<x>.+)\\.example$; location / { proxy_pass http://127.0.0.1:9; } }
         server { server_name a.example;
           location = / { proxy_pass http://127.0.0.1:2; }
           location / { try_files $uri @app; }
           location @app { proxy_pass http://127.0.0.1:1; } }
         server { server_name rpc.example; location / { grpc_pass grpc://127.0.0.1:3; } }",
    );
    assert_eq!(routes(&settings, "1"), ["a.example/"]);
    assert_eq!(routes(&settings, "3"), ["rpc.example/"]);
    assert!(!settings.upstreams.contains_key("9") && !settings.upstreams.contains_key("2"));
    for part in [
        "a host is a name or *.name, no pattern",
        "= /: only the path itself",
        "nginx sends the Host of",
    ] {
        assert!(import.notes.iter().any(|note| note.text.contains(part)), "{part}: {import:#?}");
    }
}

#[test]
fn client_certificates_have_their_place() {
    let directory = tempfile::tempdir().unwrap();
    let site = directory.path().join("site");
    let text = "server {\n ssl_client_certificate ca.pem;\n ssl_verify_client optional;\n location / {\n\
        proxy_pass http://127.0.0.1:3000;\n proxy_set_header Host $host;\n proxy_set_header X-SSL-Client-Cert $ssl_client_escaped_cert;\n}}\n";
    std::fs::write(&site, text).unwrap();
    let (import, _) = import(&site);
    let said: Vec<&str> = import.notes.iter().map(|note| note.text.as_str()).collect();
    let said = said.join("\n");
    for key in ["`client-ca`", "`client-certificate", "`forward-client-certificate`"] {
        assert!(said.contains(key), "{key}: {said}");
    }
}

#[test]
fn a_directory_of_sites_is_fine_too() {
    let import = nginx::import(&data().join("sites-enabled"), Path::new("/nowhere")).unwrap();
    // The upstreams are elsewhere.
    let written =
        import.files.iter().filter(|file| file.text.contains("address = \"127.0.0.1:8081\""));
    assert_eq!(written.count(), 1, "{import:#?}");
    assert!(
        import.notes.iter().any(|note| note.text.contains("shop is no upstream of these files")),
        "{import:#?}"
    );
}

#[test]
fn what_goes_for_all_sites_is_written_where_nothing_is_overwritten() {
    let text = "http { client_max_body_size 20m; set_real_ip_from 10.0.0.0/8; server {
        listen 443 ssl; server_name a.example; ssl_certificate tls/a.pem; ssl_certificate_key /k;
        add_header Strict-Transport-Security \"max-age=63072000; includeSubDomains\";
        location / { proxy_pass http://127.0.0.1:1; proxy_read_timeout 5m; } } }";
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("site"), text).unwrap();
    let import = |to: &str| nginx::import(&at("site"), &at(to)).unwrap();
    let paths = |import: &Import| -> Vec<String> {
        import.files.iter().map(|file| file.path.clone()).collect()
    };
    assert_eq!(paths(&import("etc")), ["upstreams/1.toml", "roundsman.toml"]);
    std::fs::create_dir(at("etc")).unwrap();
    std::fs::write(at("etc/roundsman.toml"), "[limits]\nheaders = 64\n").unwrap();
    assert_eq!(paths(&import("etc")), ["upstreams/1.toml", "roundsman.toml.d/nginx.toml"]);

    let (_, settings) = site(text);
    let front = &settings.front;
    assert_eq!(front.limits.body, Some(20 << 20));
    assert_eq!(front.timeouts.response_header.as_secs(), 300);
    assert_eq!(front.trusted_proxies.len(), 1);
    let https = &front.listeners["https"];
    assert!(format!("{:?}", https.certificates[0].certificate).contains("/tls/a.pem"));
    let hsts = settings.routes[0].https;
    assert_eq!(hsts.hsts.map(|age| age.as_secs()), Some(63_072_000));
    assert!(hsts.hsts_subdomains);
}

#[test]
fn shares_of_the_clients_are_a_split() {
    let (_, settings) = site(
        "split_clients \"${remote_addr}x\" $pool { 5% next; * stable; }
         upstream stable { server 127.0.0.1:1; } upstream next { server 127.0.0.1:2; }
         server { location / { proxy_pass http://$pool; } }",
    );
    let RouteTarget::Split(split) = &settings.routes[0].target else { panic!("{settings:?}") };
    let shares: Vec<_> =
        split.shares.iter().map(|share| (share.to.to_string(), share.share)).collect();
    assert_eq!(shares, [("upstream:next".to_owned(), 500), ("upstream:stable".to_owned(), 9500)]);
}

#[test]
fn a_host_has_no_other_sites_answers() {
    let (_, settings) = site(
        "server { server_name _; location / { proxy_pass http://127.0.0.1:1; } }
         server { server_name b.example; location /api { proxy_pass http://127.0.0.1:2; } }
         server { server_name c.example; auth_basic x; location / { root /srv; } }",
    );
    assert_eq!(routes(&settings, "1"), ["/"]);
    assert_eq!(routes(&settings, "2"), ["b.example/api"]);
    assert_eq!(routes(&settings, "closed"), ["b.example/", "c.example/"]);
}

#[test]
fn what_only_this_machine_reaches_stays_closed() {
    let inner = "server { listen 127.0.0.1:8081; server_name b.example;
        location / { proxy_pass http://127.0.0.1:2; } }";
    let (_, settings) = site(&format!(
        "server {{ server_name a.example; location / {{ proxy_pass http://127.0.0.1:1; }} }} {inner}"
    ));
    assert_eq!(routes(&settings, "closed"), ["b.example/"]);
    let (import, settings) = site(inner);
    assert_eq!(routes(&settings, "2").len(), 2);
    assert!(import.unprotected[0].text.contains("lets only this machine in"), "{import:?}");
}

#[test]
fn the_app_gets_no_word_of_a_client_for_what_nginx_found_out() {
    let (_, settings) = site(
        "server { server_name a.example; ssl_verify_client optional;
           location / { proxy_set_header X-Client $ssl_client_s_dn; proxy_pass http://127.0.0.1:1; }
           location /x/ { proxy_set_header Host $host; proxy_pass http://127.0.0.1:1; } }",
    );
    assert_eq!(routes(&settings, "closed"), ["/", "a.example/"]);
    assert_eq!(routes(&settings, "1"), ["/x", "a.example/x"]);
}

#[test]
fn exact_paths_open_nothing_that_is_closed() {
    let (import, settings) = site(
        "server { listen 80 default_server; return 404; }
         server { server_name a.example;
           location / { proxy_pass http://127.0.0.1:1; }
           location /admin/ { deny all; proxy_pass http://127.0.0.1:1; }
           location = /admin/login { proxy_pass http://127.0.0.1:1; }
           location = /same { proxy_pass http://127.0.0.1:1; }
           location = /other { proxy_pass http://127.0.0.1:2; } }",
    );
    assert_eq!(routes(&settings, "1"), ["a.example/"]);
    assert_eq!(routes(&settings, "2"), ["a.example/other"]);
    assert!(import.notes.iter().any(|note| note.text.contains("= /admin/login: only the path")));
    assert!(!import.notes.iter().any(|note| note.text.contains("/same")), "it is no difference");
}

#[test]
fn how_much_is_carried_over_is_the_exit_status() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("site");
    let status = |location: &str| {
        let text = format!("server {{ server_name a; client_max_body_size 1m; {location} }}");
        std::fs::write(&path, text).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_roundsman"));
        let output = command.args(["import", "nginx", "--json"]).arg(&path).output().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), value["carried"].as_str().unwrap().to_owned())
    };
    let pass = "proxy_pass http://127.0.0.1:1; proxy_set_header Host $host;";
    assert_eq!(status(&format!("location / {{ {pass} }}")), (Some(0), "all".into()));
    assert_eq!(
        status(&format!("location / {{ {pass} gzip on; }}")),
        (Some(3), "with losses".into())
    );
    assert_eq!(status("location / { root /srv; }"), (Some(4), "nothing".into()));
}
