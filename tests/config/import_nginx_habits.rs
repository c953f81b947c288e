//! nginx's configurations as tutorials, packages and products have people write them: who answers each
//! request after an import, and that whoever nginx keeps out stays out, or nothing is written.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::path::Path;

use roundsman::config::settings::{RouteTarget, Settings};
use roundsman::config::{self, Sources};
use roundsman::front::Router;
use roundsman::import::{Carried, Import, nginx};

fn imported(text: &str) -> (Import, Settings) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("site"), text).unwrap();
    let import = nginx::import(&at("site"), Path::new("/nowhere")).unwrap();
    for file in &import.files {
        let path = at("etc").join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &file.text).unwrap();
    }
    std::fs::create_dir_all(at("etc")).unwrap();
    let loaded = config::load(&Sources::directory(at("etc")));
    assert_eq!(loaded.problems.errors(), 0, "{text}: {}", loaded.problems.render(false));
    (import, loaded.settings)
}

/// Who answers `host/path` over plain HTTP: an upstream, `closed`, `https`, or 404.
fn answers(settings: &Settings, request: &str) -> String {
    let (host, path) = request.split_at(request.find('/').unwrap());
    let Some(number) = Router::new(&settings.routes).find(host.as_bytes(), path.as_bytes()) else {
        return "404".to_owned();
    };
    let route = &settings.routes[number];
    match &route.target {
        RouteTarget::Upstream(name) if name == "closed" => "closed".to_owned(),
        _ if route.https.redirect => "https".to_owned(),
        RouteTarget::Upstream(name) => name.clone(),
        other => format!("{other:?}"),
    }
}

/// A configuration, requests with who answers them (` -> `), and what must be said of it.
struct Habit {
    text: &'static str,
    requests: &'static [&'static str],
    said: &'static [&'static str],
}

const HABITS: &[Habit] = &[
    // Puma's and Unicorn's example: files first, by no location.
    Habit {
        text: "upstream puma { server unix:///srv/shop/tmp/puma.sock fail_timeout=0; }
            server { listen 80; server_name shop.example; root /srv/shop/public;
              try_files $uri/index.html $uri @puma;
              location @puma { proxy_pass http://puma; proxy_set_header Host $http_host; } }",
        requests: &["shop.example/ -> puma", "shop.example/a/b -> puma", "other.example/ -> puma"],
        said: &["try_files: files are not served here"],
    },
    // A site behind Debian's own snippets, by both ports.
    Habit {
        text: "http { ssl_certificate /etc/ssl/all.pem; ssl_certificate_key /etc/ssl/all.key;
            server { listen 80; server_name a.example; location / { try_files $uri @app; }
              location @app { proxy_pass http://127.0.0.1:3000; include proxy_params; } }
            server { listen 443 ssl; server_name a.example;
              location / { proxy_pass http://127.0.0.1:3000; include proxy_params; } } }",
        requests: &["a.example/ -> 3000"],
        said: &["include: there is no file proxy_params"],
    },
    // A redirect of one old page is none of the whole site.
    Habit {
        text: "server { listen 80; server_name a.example;
              rewrite ^/old/(.*)$ https://b.example/$1 permanent;
              location / { rewrite ^/blog/(.*)$ /news/$1 redirect; proxy_pass http://127.0.0.1:3000; } }",
        requests: &["a.example/ -> 3000", "a.example/old/x -> 3000"],
        said: &[
            "rewrite: what matches ^/old/(.*)$ is sent to https://b.example/$1 by nginx",
            "rewrite: what matches ^/blog/(.*)$ is sent to /news/$1 by nginx",
        ],
    },
    // Odoo: two upstreams and a long-polling path.
    Habit {
        text: "upstream odoo { server 127.0.0.1:8069; } upstream odoochat { server 127.0.0.1:8072; }
            map $http_upgrade $connection_upgrade { default upgrade; '' close; }
            server { listen 80; server_name odoo.example; rewrite ^(.*) https://$host$1 permanent; }
            server { listen 443 ssl; server_name odoo.example; ssl_certificate /c; ssl_certificate_key /k;
              location /websocket { proxy_pass http://odoochat; proxy_set_header Host $host; }
              location / { proxy_redirect off; proxy_pass http://odoo; proxy_set_header Host $host; } }",
        requests: &["odoo.example/ -> https", "odoo.example/websocket -> https", "x.example/ -> https"],
        said: &[],
    },
    // oauth2-proxy before an app.
    Habit {
        text: "server { listen 80; server_name a.example;
              location /oauth2/ { proxy_pass http://127.0.0.1:4180; proxy_set_header Host $host; }
              location = /oauth2/auth { proxy_pass http://127.0.0.1:4180; proxy_pass_request_body off; }
              location / { auth_request /oauth2/auth; error_page 401 = /oauth2/sign_in;
                auth_request_set $user $upstream_http_x_auth_request_user;
                proxy_set_header X-User $user; proxy_pass http://127.0.0.1:3000; } }",
        requests: &["a.example/ -> closed", "a.example/oauth2/start -> 4180", "x.example/ -> closed"],
        said: &["/ is CLOSED (503): `proxy_set_header X-User $user`, `auth_request /oauth2/auth`"],
    },
    // Only the paths that a login server needs are public.
    Habit {
        text: "server { listen 80 default_server; return 444; }
            server { listen 80; server_name id.example;
              location /realms/ { proxy_pass http://127.0.0.1:8080; }
              location /admin/ { allow 10.0.0.0/8; deny all; proxy_pass http://127.0.0.1:8080; } }",
        requests: &[
            "id.example/realms/a -> 8080",
            "id.example/admin/x -> closed",
            "id.example/metrics -> 404",
            "x.example/ -> 404",
        ],
        said: &["/admin/ is CLOSED (503): `deny all`"],
    },
    // An expression wins over longer prefixes, and what it keeps out stays out.
    Habit {
        text: "server { listen 80; server_name a.example;
              location / { proxy_pass http://127.0.0.1:3000; }
              location ~ ^/(?:private|internal)(?:$|/) { auth_basic x; proxy_pass http://127.0.0.1:3000; }
              location /private/files { proxy_pass http://127.0.0.1:4000; } }",
        requests: &["a.example/private/files/x -> closed", "a.example/internal -> closed", "a.example/ -> 3000"],
        said: &["/private/files: no request comes to it in nginx"],
    },
    // Which server is meant depends on a cookie.
    Habit {
        text: "map $cookie_beta $pool { default stable; 1 beta; }
            upstream stable { server 127.0.0.1:1; } upstream beta { server 127.0.0.1:2; }
            server { listen 80; server_name a.example; location / { proxy_pass http://$pool; } }
            server { listen 80; server_name b.example; location / { proxy_pass http://stable; } }",
        requests: &["a.example/ -> closed"],
        said: &["map: the variable $pool is not known here", "/ is CLOSED (503): http://$pool has variables"],
    },
    // Who has a password is looked up, and so is the body's way.
    Habit {
        text: "map $remote_addr $realm { default Staff; 10.0.0.1 off; }
            server { listen 80; server_name a.example; auth_basic $realm; auth_basic_user_file /h;
              location / { proxy_pass http://127.0.0.1:1; }
              location /up { auth_basic off; proxy_pass http://127.0.0.1:1; } }",
        requests: &["a.example/ -> closed", "a.example/up -> 1"],
        said: &["/ is CLOSED (503): `auth_basic $realm`"],
    },
    // Docker's names and resolver.
    Habit {
        text: "server { listen 80; server_name a.example; resolver 127.0.0.11 valid=10s;
              set $app http://web:3000; location / { proxy_pass $app; proxy_set_header Host $host; } }",
        requests: &["a.example/ -> dns-web-3000"],
        said: &["resolver: names are looked up as"],
    },
    // What only the company's network reaches.
    Habit {
        text: "server { listen 80; server_name a.example; location / { proxy_pass http://127.0.0.1:1; } }
            server { listen 10.8.0.1:80; server_name b.example; location / { proxy_pass http://127.0.0.1:2; } }",
        requests: &["a.example/ -> 1", "b.example/ -> closed"],
        said: &["/ is CLOSED (503): `listen 10.8.0.1:80`"],
    },
    // The app believes a field that nginx takes away from clients.
    Habit {
        text: "server { listen 80; server_name a.example; proxy_set_header X-Remote-User '';
              location / { proxy_pass http://127.0.0.1:1; }
              location /sso { proxy_set_header X-Other 1; proxy_pass http://127.0.0.1:1; } }",
        requests: &["a.example/ -> closed", "a.example/sso -> 1"],
        said: &["/ is CLOSED (503): `proxy_set_header X-Remote-User`"],
    },
    // So many connections of one client, where the front cannot count so.
    Habit {
        text: "http { limit_conn_zone $binary_remote_addr zone=one:1m;
            server { listen 80; server_name a.example; location / { proxy_pass http://127.0.0.1:1; }
              location /down/ { limit_conn one 2; proxy_pass http://127.0.0.1:2; } } }",
        requests: &["a.example/down/x -> closed", "a.example/ -> 1"],
        said: &["/down/ is CLOSED (503): `limit_conn one 2`"],
    },
    // X-Accel-Redirect.
    Habit {
        text: "server { listen 80; server_name a.example; location / { proxy_pass http://127.0.0.1:1; }
              location /protected/ { internal; alias /srv/files/; } }",
        requests: &["a.example/protected/x -> closed"],
        said: &["internal: X-Accel-Redirect, by which an app"],
    },
    // Addresses of a machine that has several.
    Habit {
        text: "server { listen 203.0.113.5:80; server_name a.example; location / { proxy_pass http://127.0.0.1:1; } }",
        requests: &["a.example/ -> 1"],
        said: &["listen: the front listens on every address"],
    },
];

#[test]
fn each_request_is_answered_as_by_nginx_or_turned_away() {
    for Habit { text, requests, said } in HABITS {
        let (import, settings) = imported(text);
        for request in *requests {
            let (asked, expected) = request.split_once(" -> ").unwrap();
            assert_eq!(answers(&settings, asked), expected, "{asked} in {text}\n{import:#?}");
        }
        let told: Vec<String> =
            import.notes.iter().map(|note| format!("{}: {}", note.at, note.text)).collect();
        for part in *said {
            assert!(told.iter().any(|note| note.contains(part)), "{part}:\n{}", told.join("\n"));
        }
        assert!(import.unprotected.is_empty(), "{text}: {:#?}", import.unprotected);
    }
}

/// A client certificate that is asked for, in every way that people write it: nobody gets in without.
#[test]
fn what_asks_for_a_client_certificate_is_never_written_open() {
    let pass = "location / { proxy_pass http://127.0.0.1:1; }";
    let refuse = "{ return 403; }";
    for (server, is_closed) in [
        (format!("ssl_verify_client on; {pass}"), true),
        (
            format!("ssl_verify_client optional; if ($ssl_client_verify != SUCCESS) {refuse} {pass}"),
            false,
        ),
        (
            format!(
                "ssl_verify_client optional; location / {{ if ($ssl_client_verify != SUCCESS) {refuse} \
                 proxy_pass http://127.0.0.1:1; }}"
            ),
            true,
        ),
        (
            format!(
                "ssl_verify_client optional_no_ca; location / {{ if ($stranger) {refuse} \
                 proxy_pass http://127.0.0.1:1; }}"
            ),
            true,
        ),
        (
            "ssl_verify_client optional; location / { proxy_set_header X-Client-DN $ssl_client_s_dn; \
             proxy_pass http://127.0.0.1:1; }"
                .to_owned(),
            true,
        ),
    ] {
        let text = format!(
            "map $ssl_client_s_dn $stranger {{ default 1; CN=device 0; }}
             server {{ listen 443 ssl; server_name a.example; ssl_client_certificate /ca; {server} }}"
        );
        let (import, settings) = imported(&text);
        let answer = answers(&settings, "a.example/x");
        assert_eq!(answer == "closed", is_closed, "{text}: {answer}");
        assert_eq!(import.unprotected.is_empty(), is_closed, "what is not closed stops: {text}");
    }
    // Where nobody is turned away, all may come as before.
    let (import, settings) = imported(&format!(
        "server {{ server_name a.example; ssl_verify_client optional; {pass} }}"
    ));
    assert_eq!(answers(&settings, "a.example/x"), "1");
    assert_eq!(import.carried(), Carried::WithLosses);
}

/// Whatever depends on a variable of `map`, `geo` or `set` is closed, stops the import, or is named with the
/// variable's own place.
#[test]
fn nothing_that_depends_on_a_map_is_dropped_silently() {
    let pass = "proxy_pass http://127.0.0.1:1;";
    for (line, outcome) in [
        ("location / { if ($v) { return 403; } PASS }", "closed"),
        ("if ($v) { return 403; } location / { PASS }", "stops"),
        ("if ($v = no) { return 444; } location / { PASS }", "stops"),
        ("if ($v) { return 301 https://b.example$request_uri; } location / { PASS }", "names if"),
        ("location / { if ($v) { proxy_pass http://127.0.0.1:2; } PASS }", "names if"),
        ("location / { auth_basic $v; PASS }", "closed"),
        ("location / { limit_req zone=$v; PASS }", "closed"),
        ("location / { proxy_pass http://$v; }", "closed"),
        ("location / { proxy_pass $v; }", "closed"),
        ("location / { proxy_pass http://127.0.0.1:1/$v; }", "closed"),
        ("location / { rewrite ^ $v break; PASS }", "closed"),
        ("location / { proxy_set_header Host $v; PASS }", "names proxy_set_header"),
        ("location / { proxy_set_header X-Remote-User $v; PASS }", "closed"),
        ("location / { proxy_set_header X-Forwarded-Proto $v; PASS }", "names proxy_set_header"),
        ("location / { proxy_set_header X-Tier $v; PASS }", "names proxy_set_header"),
        ("location / { add_header X-Tier $v; PASS }", "names add_header"),
        ("location / { add_header Strict-Transport-Security $v; PASS }", "names add_header"),
        ("location / { expires $v; PASS }", "names expires"),
        ("location / { proxy_cache $v; PASS }", "names proxy_cache"),
        ("location / { proxy_cache_bypass $v; PASS }", "names proxy_cache_bypass"),
        ("location / { proxy_hide_header $v; PASS }", "names proxy_hide_header"),
        ("location / { limit_rate $v; PASS }", "names limit_rate"),
        ("location / { proxy_method $v; PASS }", "names proxy_method"),
        ("location / { proxy_bind $v; PASS }", "names proxy_bind"),
        ("location / { sub_filter a $v; PASS }", "names sub_filter"),
        ("location / { error_page 404 $v; PASS }", "names error_page"),
        ("location / { mirror $v; PASS }", "names mirror"),
        ("location / { proxy_cookie_path / $v; PASS }", "names proxy_cookie_path"),
        ("location / { proxy_redirect $v /; PASS }", "names proxy_redirect"),
        ("location / { access_log /l combined if=$v; PASS }", "names access_log"),
        ("return 301 $v; location / { PASS }", "names return"),
        ("location /old { return 301 $v; } location / { PASS }", "names return"),
    ] {
        let server = line.replace("PASS", pass);
        for map in ["map $uri $v { default a; }", "geo $v { default a; }"] {
            let text = format!(
                "{map} server {{ listen 80; server_name a.example; {server} }}
                 server {{ listen 80; server_name b.example; location / {{ {pass} }} }}"
            );
            let (import, settings) = imported(&text);
            let is_said = |at: &str| import.notes.iter().any(|note| note.at.ends_with(at));
            assert!(is_said(": map") || is_said(": geo"), "{text}");
            match outcome.split_once(' ') {
                Some((_, directive)) => {
                    assert!(is_said(&format!(": {directive}")), "{text}\n{import:#?}");
                }
                None if outcome == "closed" => {
                    assert_eq!(answers(&settings, "a.example/"), "closed", "{text}");
                }
                None => assert!(!import.unprotected.is_empty(), "{text}"),
            }
        }
    }
}

/// What cannot be known or cannot be closed stops the import.
#[test]
fn what_cannot_even_be_closed_stops_the_import() {
    let pass = "location / { proxy_pass http://127.0.0.1:1; }";
    for (server, stops) in [
        (format!("include snippets/only-from-office.conf; {pass}"), true),
        (format!("include /etc/nginx/mime.types; include fastcgi_params; {pass}"), false),
        (format!("include none/*.conf; {pass}"), false),
        (format!("listen 192.168.1.10:80; {pass}"), true),
        (format!("limit_conn one 3; {pass}"), true),
        (format!("if ($http_user_agent ~* bot) {{ return 403; }} {pass}"), true),
        (format!("location ~* ^/admin {{ deny all; }} {pass}"), true),
        (format!("location ~ ^/(?:data|config)(?:$|/) {{ return 404; }} {pass}"), false),
        (pass.to_owned(), false),
    ] {
        let (import, _) = imported(&format!("server {{ server_name a.example; {server} }}"));
        assert_eq!(!import.unprotected.is_empty(), stops, "{server}: {import:#?}");
    }
}

#[test]
fn the_same_limit_of_connections_everywhere_is_the_fronts() {
    let text = "http { limit_conn_zone $binary_remote_addr zone=one:1m; limit_conn one 20;
        server { server_name a.example; location / { proxy_pass http://127.0.0.1:1; }
          location /b { limit_conn one 20; proxy_pass http://127.0.0.1:1; } } }";
    let (import, settings) = imported(text);
    assert!(import.unprotected.is_empty(), "{import:#?}");
    assert_eq!(answers(&settings, "a.example/b"), "1");
    let front = import.files.iter().find(|file| file.path == "roundsman.toml").unwrap();
    assert!(front.text.contains("connections-per-client = 20\n"), "{}", front.text);
}

#[test]
fn certificates_of_all_servers_are_taken_from_around_them() {
    let text = "http { ssl_certificate all.pem; ssl_certificate_key all.key;
        server { listen 443 ssl; server_name a.example; location / { proxy_pass http://127.0.0.1:1; } }
        server { listen 443 ssl; server_name b.example; ssl_certificate b.pem; ssl_certificate_key b.key;
          location / { proxy_pass http://127.0.0.1:1; } } }";
    let (import, _) = imported(text);
    let front = import.files.iter().find(|file| file.path == "roundsman.toml").unwrap();
    let names: Vec<&str> =
        front.text.lines().filter(|line| line.contains("certificate = ")).collect();
    assert_eq!(names.len(), 2, "{}", front.text);
    assert!(names[0].contains("/all.pem\"") && names[1].contains("/b.pem\""), "{names:?}");
}

#[test]
fn options_of_servers_and_cookies_are_written_or_named() {
    let text = "upstream u { server 10.0.0.1:1 slow_start=30 resolve fail_timeout=0;
          server 10.0.0.2:1 slow_start=500ms service=x fail_timeout=0;
          sticky cookie id expires=1h domain=.a.example secure httponly path=/; }
        server { listen 80; location / { proxy_pass http://u; } }";
    let (import, _) = imported(text);
    let file = &import.files[0].text;
    for line in [
        "address = \"10.0.0.1:1\", slow-start = \"30s\" }",
        "address = \"10.0.0.2:1\", slow-start = \"500ms\" }",
        "cookie = \"id\"\nmax-age = \"3600s\"\nsecure = true\n",
        "max-fails = 0\nerror-rate = 0\n",
    ] {
        assert!(file.contains(line), "{line}: {file}");
    }
    let told: Vec<&str> = import.notes.iter().map(|note| note.text.as_str()).collect();
    assert!(told.contains(&"service=x has no counterpart"), "{told:?}");
    assert!(told.contains(&"the cookie does not get domain=.a.example"), "{told:?}");
    assert!(!told.iter().any(|text| text.contains("resolve")), "{told:?}");
}
