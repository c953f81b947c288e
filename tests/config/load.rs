//! Whole configurations: what they mean, and what is said about those that mean nothing.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use roundsman::config::settings::{
    Address, Algorithm, HostPattern, Listen, PerClient, RouteTarget, Settings, SplitKey, Transport,
};
use roundsman::config::{Loaded, Sources, load};
use tempfile::TempDir;

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    write(directory.path(), files);
    directory
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn loaded(files: &[(&str, &str)]) -> Loaded {
    load(&Sources::directory(directory(files).path()).with_cores(6))
}

/// The settings of files that must be right.
fn settings(files: &[(&str, &str)]) -> Settings {
    match loaded(files).strict() {
        Ok(settings) => settings,
        Err(problems) => panic!("{problems}"),
    }
}

const EXAMPLE: &[(&str, &str)] = &[
    (
        "roundsman.toml",
        r#"
trusted-proxies = ["10.0.0.0/8"]
[threads]
count = "auto"
pin = true
hand-off = "least-connections"
[listen.http]
protocol = "http"
[timeouts]
idle = "90s"
connect = "500ms"
[limits]
header-bytes = "16KiB"
connections-per-client = 50
body = "none"
"#,
    ),
    (
        "apps/shop.toml",
        r#"
command = ["node", "server.js"]
directory = "/srv/shop"
user = "deploy"
workers = 4
environment = { NODE_ENV = "production" }
route = [{ host = "Shop.example.com", path = "/" }]
balance = "round-robin"
listen = "auto"
transport = "auto"
ready = "listening"
max-memory = "512MiB"
stop-timeout = "30s"
[health]
path = "/healthz"
interval = "2s"
"#,
    ),
    (
        "apps/shop-next.toml",
        "command = [\"bin/serve\"]\ndirectory = \"/srv/next\"\nworkers = \"auto\"\n",
    ),
    (
        "upstreams/api.toml",
        r#"
servers = [{ address = "10.0.0.1:8080", weight = 5 }, { address = "unix:/run/api.sock", backup = true }]
route = [{ host = "api.example.com" }]
balance = "weighted-round-robin"
"#,
    ),
    (
        "routes/canary.toml",
        r#"
[[route]]
host = "*.example.com"
path = "/new/"
split = [{ to = "app:shop", share = 95 }, { to = "app:shop-next", share = 5 }]
by = "cookie:id"
"#,
    ),
];

#[test]
fn a_whole_configuration_means_what_it_says() {
    let settings = settings(EXAMPLE);

    let front = &settings.front;
    assert_eq!(front.trusted_proxies, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(front.threads.count, None);
    assert_eq!(front.timeouts.idle, Duration::from_secs(90));
    assert_eq!(front.timeouts.connect, Duration::from_millis(500));
    assert_eq!(front.timeouts.client_body, Duration::from_secs(30), "the default");
    assert_eq!(front.limits.header_bytes, 16 * 1024);
    assert_eq!(front.limits.connections_per_client, PerClient::AtMost(50));
    assert_eq!(front.limits.body, None);
    assert!(front.listeners.contains_key("http"));

    let shop = &settings.apps["shop"];
    assert_eq!(shop.command, ["node", "server.js"]);
    assert_eq!(shop.directory.as_deref(), Some(Path::new("/srv/shop")));
    assert_eq!(shop.user.as_deref(), Some("deploy"));
    assert_eq!((shop.workers, shop.listen, shop.transport), (4, Listen::Cluster, Transport::Tcp));
    assert_eq!(shop.environment["NODE_ENV"], "production");
    assert_eq!(shop.max_memory, Some(512 << 20));
    assert_eq!(shop.health.as_ref().unwrap().path, "/healthz");

    let next = &settings.apps["shop-next"];
    assert_eq!((next.workers, next.listen, next.transport), (6, Listen::Fd, Transport::Unix));
    assert_ne!(shop.slot, next.slot);

    let api = &settings.upstreams["api"];
    assert_eq!(api.balancing.algorithm, Algorithm::WeightedRoundRobin);
    assert_eq!(
        api.servers[0].address,
        Address::Tcp("10.0.0.1:8080".parse::<SocketAddr>().unwrap())
    );
    assert_eq!(api.servers[0].options.weight, 5);
    assert_eq!(api.servers[1].address, Address::Unix("/run/api.sock".into()));
    assert!(api.servers[1].options.backup);

    let routes: BTreeMap<_, _> =
        settings.routes.iter().map(|r| ((&r.host, r.path.as_str()), &r.target)).collect();
    assert_eq!(routes.len(), 3, "shop-next answers only its share: {routes:?}");
    let shop_host = HostPattern::Exact("shop.example.com".to_owned());
    assert_eq!(routes[&(&shop_host, "/")], &RouteTarget::App("shop".to_owned()));
    let wildcard = HostPattern::Wildcard("example.com".to_owned());
    let RouteTarget::Split(split) = routes[&(&wildcard, "/new")] else { panic!("{routes:?}") };
    assert_eq!(split.by, SplitKey::Cookie("id".to_owned()));
    assert_eq!(split.shares.iter().map(|s| s.share).collect::<Vec<_>>(), [95, 5]);
}

#[test]
fn an_empty_directory_is_the_default() {
    assert_eq!(settings(&[]), Settings::default());
    assert_eq!(
        settings(&[("apps/README", "x"), ("apps/old.toml~", "x"), (".x.toml", "=")]),
        Settings::default()
    );
}

#[test]
fn a_lone_app_answers_every_host() {
    let settings = settings(&[("apps/hello.toml", "command = [\"node\", \"a.js\"]")]);
    let route = &settings.routes[0];
    assert_eq!((&route.host, route.path.as_str()), (&HostPattern::Any, "/"));
    assert_eq!(route.target, RouteTarget::App("hello".to_owned()));
    assert_eq!(settings.apps["hello"].workers, 1);
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let problems = load(&Sources::directory("/nonexistent")).strict().unwrap_err();
    assert!(problems.to_string().contains("/nonexistent"), "{problems}");
}

#[test]
fn words_of_pm2_nginx_and_systemd_lead_to_ours() {
    let app = "command = [\"node\", \"x.js\"]\nscript = \"x.js\"\ncwd = \"/srv\"\ninstances = 4\nenv = {}\n\
               kill_timeout = 1600\nEnvironmentFile = \"/x\"\nreplicas = 2\n";
    let upstream = "servers = [\"10.0.0.1:80\"]\nserver_name = \"a\"\nleast_conn = true\n";
    let text =
        loaded(&[("apps/a.toml", app), ("upstreams/u.toml", upstream)]).problems.render(false);
    for (theirs, ours) in [
        ("script", "command"),
        ("cwd", "directory"),
        ("instances", "workers"),
        ("env", "environment"),
        ("kill_timeout", "stop-timeout"),
        ("EnvironmentFile", "environment-files"),
        ("replicas", "workers"),
        ("server_name", "route"),
        ("least_conn", "balance"),
    ] {
        let problem = text.split_once(&format!("unknown key `{theirs}`")).expect(theirs).1;
        let help = problem.split_once("help: ").expect("help").1;
        assert!(help.starts_with(&format!("did you mean `{ours}`?")), "{theirs}: {help}");
    }
}

/// In TOML a key that is written behind a table is the table's.
#[test]
fn a_key_that_ended_up_in_a_table_is_told_where_it_belongs() {
    let front = "[listen.http]\nproxy-protocol = true\ntrusted-proxies = [\"10.0.0.1\"]\n";
    let app = "command = [\"/bin/x\"]\n[environment]\nA = \"1\"\nworkers = \"4\"\n";
    let problems = loaded(&[("roundsman.toml", front), ("apps/shop.toml", app)]).problems;
    assert_eq!((problems.errors(), problems.warnings()), (1, 2));
    let text = problems.render(false);
    for said in [
        "write `trusted-proxies` above the first one",
        "no proxy is trusted",
        "`workers` is a variable of the app's environment here",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let front = "trusted-proxies = [\"10.0.0.1\"]\n[listen.http]\nproxy-protocol = true\n";
    assert!(loaded(&[("roundsman.toml", front)]).problems.warnings() == 0);
}

#[test]
fn every_error_of_every_file_is_found_in_one_run() {
    let loaded = loaded(&[
        (
            "roundsman.toml",
            "[timeouts]\nidel = \"1s\"\nconnect = 5\n[threads]\nhand-off = \"roundrobin\"\n",
        ),
        ("apps/a.toml", "command = \"node server.js\"\nworkers = 0\nstop_timeout = \"5m\"\n"),
        ("apps/b.toml", "command = [\"node\"\nworkers = = 3\n"),
        ("apps/Bad.toml", "command = [\"node\"]"),
        (
            "apps/good.toml",
            "command = [\"node\", \"x.js\"]\nroute = [{ host = \"good.example\" }]\n",
        ),
        ("upstreams/u.toml", "servers = [\"10.0.0.1\"]\n"),
        (
            "routes/r.toml",
            "[[route]]\nto = \"app:god\"\n[[route]]\nhost = \"x.example:80\"\nto = \"a\"\n",
        ),
        ("routes/s.toml", "[[route]]\nhost = \"s.example\"\nto = \"app:god\"\n"),
    ]);
    let text = loaded.problems.render(false);
    for expected in [
        "did you mean `idle`?",
        "write \"5s\"",
        "did you mean \"round-robin\"?",
        "write command = [\"node\", \"server.js\"]",
        "this must be a whole number from 1 to 250",
        "did you mean `stop-timeout`?",
        "apps/b.toml:",
        "`Bad` cannot be a name: a name has no capital letters",
        "write { address = \"10.0.0.1\" }",
        "there is no app:god",
        "did you mean `good`?",
        "without the port: \"x.example\"",
        "`a` is nobody who could answer",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
    }
    // One bad file costs itself alone.
    assert_eq!(loaded.settings.apps.keys().collect::<Vec<_>>(), ["good"]);
    assert_eq!(loaded.settings.routes.len(), 1);
    assert_eq!(loaded.settings.front, Settings::default().front);
}

#[test]
fn later_directories_override_files_and_mask_them() {
    let root = TempDir::new().unwrap();
    let app = |argument: &str| format!("command = [\"node\", \"{argument}\"]\nroute = []\n");
    write(
        root.path(),
        &[
            ("usr/lib/roundsman/apps/a.toml", &app("lib")),
            ("usr/lib/roundsman/apps/b.toml", &app("lib")),
            ("usr/lib/roundsman/apps/c.toml", &app("lib")),
            ("usr/lib/roundsman/roundsman.toml", "[timeouts]\nidle = \"1s\"\n"),
            ("usr/lib/roundsman/roundsman.toml.d/10-x.toml", "[timeouts]\nconnect = \"7s\"\n"),
            ("run/roundsman.d/apps/a.toml", &app("run")),
            ("run/roundsman.d/roundsman.toml.d/20-y.toml", "[timeouts]\nconnect = \"8s\"\n"),
            ("etc/roundsman/apps/a.toml.d/50-more.toml", "workers = 3\n[environment]\nA = \"1\"\n"),
            ("etc/roundsman/apps/a.toml.d/60-more.toml", "environment = { B = \"2\" }\n"),
            ("etc/roundsman/apps/b.toml", ""),
            ("etc/roundsman/roundsman.toml", "[timeouts]\nshutdown = \"9s\"\n"),
        ],
    );
    std::os::unix::fs::symlink("/dev/null", root.path().join("etc/roundsman/apps/c.toml")).unwrap();

    let loaded = load(&Sources::system_below(root.path()));
    let files: Vec<PathBuf> = loaded.files.iter().map(|(path, _)| path.clone()).collect();
    let copy = TempDir::new().unwrap();
    for (path, bytes) in &loaded.files {
        write(copy.path(), &[(path.to_str().unwrap(), std::str::from_utf8(bytes).unwrap())]);
    }
    let settings = loaded.strict().unwrap();

    assert_eq!(settings.apps.keys().collect::<Vec<_>>(), ["a"], "b and c are masked");
    let a = &settings.apps["a"];
    assert_eq!((a.command[1].as_str(), a.workers), ("run", 3));
    assert_eq!(a.environment.len(), 2, "drop-ins merge key by key: {:?}", a.environment);
    let timeouts = &settings.front.timeouts;
    assert_eq!(
        timeouts.idle,
        Duration::from_secs(75),
        "the file of /usr/lib is replaced as a whole"
    );
    assert_eq!(timeouts.shutdown, Duration::from_secs(9));
    assert_eq!(timeouts.connect, Duration::from_secs(8), "the drop-in with the later name wins");

    assert_eq!(files.len(), 6, "{files:?}");
    assert_eq!(
        load(&Sources::directory(copy.path())).strict().unwrap(),
        settings,
        "the copy is the same"
    );
}

#[test]
fn an_error_in_a_drop_in_is_shown_in_the_drop_in() {
    let loaded = loaded(&[
        ("apps/a.toml", "command = [\"node\"]\n"),
        ("apps/a.toml.d/10.toml", "\nworkers = \"many\"\n"),
    ]);
    let problem = loaded.problems.iter().next().unwrap();
    assert!(problem.path().ends_with("apps/a.toml.d/10.toml"));
    assert_eq!(problem.place().map(|p| (p.line(), p.column())), Some((2, 11)));
}

#[test]
fn a_drop_in_for_nothing_is_a_warning_unless_its_file_is_masked() {
    let loaded = loaded(&[
        ("apps/shpo.toml.d/10.toml", "workers = 2\n"),
        ("apps/old.toml", ""),
        ("apps/old.toml.d/10.toml", "workers = 2\n"),
        ("roundsman.toml.d/10.toml", "[timeouts]\nidle = \"9s\"\n"),
    ]);
    let text = loaded.problems.render(false);
    assert_eq!((loaded.problems.errors(), loaded.problems.warnings()), (0, 1), "{text}");
    assert!(text.contains("there is no apps/shpo.toml that this could change"), "{text}");
    assert_eq!(loaded.settings.front.timeouts.idle, Duration::from_secs(9));
    assert!(loaded.settings.apps.is_empty());
}

#[test]
fn what_contradicts_something_else_is_shown_with_both_places() {
    let loaded = loaded(&[
        (
            "apps/a.toml",
            "command = [\"node\"]\nlisten = \"port\"\nport = 4000\nworkers = 3\nroute = []\n",
        ),
        ("apps/b.toml", "command = [\"node\"]\nlisten = \"port\"\nport = 4002\nroute = []\n"),
        ("apps/c.toml", "command = [\"node\"]\n[[route]]\nhost = \"x.example\"\n"),
        ("apps/d.toml", "command = [\"node\"]\n[[route]]\nhost = \"X.example\"\npath = \"//\"\n"),
        (
            "upstreams/e.toml",
            "servers = [{ address = \"10.0.0.1:1\" }, { address = \"10.0.0.1:1\" }]\nroute = []\n",
        ),
    ]);
    let text = loaded.problems.render(false);
    for expected in [
        "a and b want the same ports",
        "4002 to 4002",
        "two routes are for x.example/",
        "the server 10.0.0.1:1 is listed twice",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
    }
    assert_eq!(loaded.problems.errors(), 3, "{text}");
    assert_eq!(text.matches("first here").count(), 2, "{text}");
    // The apps themselves are right: their workers go on, and only the second route is left out.
    assert_eq!(loaded.settings.apps.len(), 4);
    assert_eq!(loaded.settings.routes.len(), 1);
}

#[test]
fn the_example_that_the_project_ships_is_right() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hello/hello.toml");
    let text = fs::read_to_string(file).unwrap();
    let settings = settings(&[("apps/hello.toml", &text)]);
    assert_eq!(settings.apps["hello"].workers, 2);
}

/// The manual's own examples, as a reader would copy them.
#[test]
fn the_examples_of_the_manual_are_right() {
    let manual = include_str!("../../docs/man/roundsman.toml.5.end").replace("\\-", "-");
    let mut files: Vec<(String, String)> = Vec::new();
    for block in manual.split(".RS\n").skip(1) {
        let (text, _) = block.split_once(".RE").unwrap();
        let path = text.lines().next().unwrap().strip_prefix("# /etc/roundsman/").unwrap();
        files.push((path.to_owned(), text.to_owned()));
    }
    assert_eq!(files.len(), 3);
    files.push(("apps/shop-next.toml".to_owned(), "command = [\"node\", \"x.js\"]".to_owned()));
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    assert_eq!(settings(&files).routes.len(), 3);
}
