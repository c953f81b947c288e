//! Who may come in, over TCP and over the socket, and when the store goes.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::session::client::{Value, ok};
use crate::session::server::{Server, eventually, path, tool};

/// One request in words over TCP, and the first line of its reply.
pub(crate) struct Remote(pub(crate) BufReader<TcpStream>);

impl Remote {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time");
        Self(BufReader::new(stream))
    }

    pub(crate) fn say(&mut self, line: &str) -> String {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("it is taken");
        self.next()
    }

    /// The next line that it reads.
    pub(crate) fn next(&mut self) -> String {
        let mut reply = String::new();
        self.0.read_line(&mut reply).expect("a reply");
        reply.trim_end().to_owned()
    }

    /// `INFO`, whole.
    fn info(&mut self) -> String {
        let length = self.say("info");
        let length = length.strip_prefix('$').expect("a text").parse::<usize>().expect("a number");
        let mut text = vec![0; length + 2];
        self.0.read_exact(&mut text).expect("it is there");
        String::from_utf8(text).expect("text")
    }
}

/// A store that listens on TCP too, for `shop` and `blog`.
pub(crate) fn listening(configuration: &str) -> (Server, u16) {
    for _ in 0..20 {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = free.expect("a port is free").port();
        let mut server = Server::prepare(&[]);
        let passwords = server.directory.path().join("passwords");
        write_secret(&passwords, "# who may come\nshop:open sesame:1\nblog:other\n");
        let settings = server.directory.path().join("configuration");
        fs::create_dir(&settings).expect("a directory");
        fs::write(settings.join("roundsman.toml"), configuration).expect("written");
        server.add_arguments(&["--config", path(&settings)]);
        server.add_arguments(&["--listen", &format!("127.0.0.1:{port}")]);
        server.add_arguments(&["--password-file", path(&passwords)]);
        // Another process may have taken the port meanwhile.
        if server.try_start() {
            return (server, port);
        }
    }
    panic!("no port can be had");
}

/// A file that nobody else may read.
pub(crate) fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("ours");
}

#[test]
fn over_tcp_a_password_decides() {
    let (server, port) = listening("");
    let mut shop = Remote::connect(port);
    for line in ["get a", "set a 1", "keys *", "config get *", "multi", "select 1", "hello 3"] {
        assert!(shop.say(line).starts_with("-NOAUTH "), "{line}");
    }
    for line in [
        "auth wrong",
        "auth shop wrong",
        "auth nobody other",
        "auth shop other",
        "auth blog 'open sesame:1'",
    ] {
        assert!(shop.say(line).starts_with("-WRONGPASS "), "{line}");
    }
    assert!(shop.say("get a").starts_with("-NOAUTH "), "still nobody");
    assert_eq!(shop.say("auth shop 'open sesame:1'"), "+OK");
    assert_eq!(shop.say("set a of-shop"), "+OK");
    let mut blog = Remote::connect(port);
    assert_eq!(blog.say("auth blog other"), "+OK");
    assert_eq!(blog.say("get a"), "$-1", "another namespace");
    assert_eq!(blog.say("flushall"), "+OK");
    assert_eq!(shop.say("strlen a"), ":7", "is not touched by that");
    // The same namespace as the app's on this machine.
    let mut local = server.client();
    assert_eq!(local.say("auth shop any"), ok(), "who runs the store may see every namespace");
    assert_eq!(local.say("strlen a"), Value::Integer(7));
    assert!(shop.say("info roundsman").starts_with("$0"), "not the administrator's figures");

    // Whoever has not authenticated may not even send much.
    let mut large = Remote::connect(port);
    let reply = large.say("*2\r\n$4\r\nAUTH\r\n$1000000");
    assert!(reply.contains("unauthenticated bulk length"), "{reply}");
    let mut rest = Vec::new();
    large.0.read_to_end(&mut rest).expect("the end");
    assert!(rest.is_empty());
}

#[test]
fn there_is_no_listener_over_tcp_without_passwords() {
    let server = Server::prepare(&[]);
    let directory = path(server.directory.path()).to_owned();
    let serve = |more: &[&str]| {
        let data = format!("{directory}/data");
        tool(&[&["--data", &data, "--listen", "127.0.0.1:0"], more].concat())
    };
    let (done, text) = serve(&[]);
    assert!(!done && text.contains("needs passwords"), "{text}");
    let file = format!("{directory}/passwords");
    for (content, expected) in [
        ("", "no line of NAMESPACE:PASSWORD"),
        ("shop\n", "line 1 is not"),
        ("ok:1\nS:x\n", "line 2 is not"),
    ] {
        write_secret(Path::new(&file), content);
        let (done, text) = serve(&["--password-file", &file]);
        assert!(!done && text.contains(expected), "{content:?}: {text}");
    }
    // Nor with such as others know, or choose.
    for mode in [0o604, 0o602, 0o620, 0o640] {
        write_secret(Path::new(&file), "shop:x\n");
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("ours");
        let (done, text) = serve(&["--password-file", &file]);
        assert!(!done && text.contains("chmod 400"), "{mode:o}: {text}");
    }
    let (done, text) = serve(&["--password-file", "/nonexistent"]);
    assert!(!done && text.contains("/nonexistent: No such file"), "{text}");
}

#[test]
fn it_goes_when_nobody_is_connected_for_long_enough() {
    let mut server = Server::prepare(&[]);
    let configuration = server.directory.path().join("configuration");
    fs::create_dir(&configuration).expect("a directory");
    fs::write(configuration.join("roundsman.toml"), "[session]\nidle-stop = \"1s\"\n")
        .expect("written");
    server.add_arguments(&["--config", path(&configuration)]);
    server.start_again();
    let mut client = server.client();
    client.say("set a 1");
    // A connection holds it, however quiet it is.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(client.say("strlen a"), Value::Integer(1));
    drop(client);
    eventually("it has gone by itself", || server.has_ended());
    assert!(server.log().contains("nobody is connected"), "{}", server.log());
    server.start_again();
    assert_eq!(server.client().say("strlen a"), Value::Integer(1));
}

/// Most files of apps are none that the service may read; they are never about it.
#[test]
fn only_errors_of_its_own_file_are_told() {
    for (file, told) in [("apps/shop.toml", false), ("roundsman.toml", true)] {
        let mut server = Server::prepare(&[]);
        let file = server.directory.path().join("configuration").join(file);
        fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
        fs::write(&file, "nonsense = 1\n").expect("written");
        let configuration = server.directory.path().join("configuration");
        server.add_arguments(&["--config", path(&configuration)]);
        server.start_again();
        eventually("it serves", || server.log().contains("serving sessions"));
        assert_eq!(server.log().contains("has errors"), told, "{}", server.log());
    }
}

/// Each wrong password costs more time than the one before, also over new connections; it is counted,
/// and said. Whoever knows the password waits for nothing.
#[test]
fn passwords_are_not_to_be_guessed() {
    let (server, port) = listening("");
    let mut times = Vec::new();
    for guess in 0..6 {
        let mut client = Remote::connect(port);
        let began = Instant::now();
        let line = if guess % 2 == 0 { "auth shop guess" } else { "hello 3 auth shop guess" };
        assert!(client.say(line).starts_with("-WRONGPASS "));
        times.push(began.elapsed());
    }
    // From the second on; a right one in between changes nothing for the others.
    assert!(times[5] >= Duration::from_secs(1), "{times:?}");
    assert!(
        times.windows(2).all(|pair| pair[1] + Duration::from_millis(20) > pair[0]),
        "{times:?}"
    );
    let mut shop = Remote::connect(port);
    assert_eq!(shop.say("auth shop 'open sesame:1'"), "+OK");
    // While one waits for its answer, the others are served; and what it sent beside is not answered
    // sooner.
    let mut guessing = Remote::connect(port);
    guessing
        .0
        .get_mut()
        .write_all(b"auth shop guess\r\nauth shop 'open sesame:1'\r\n")
        .expect("sent");
    assert_eq!(shop.say("ping"), "+PONG");
    eventually("all are counted", || {
        let Value::Bulk(text) = server.client().say("info stats") else { panic!("no text") };
        String::from_utf8_lossy(&text).contains("acl_access_denied_auth:7\r\n")
    });
    let log = server.log();
    assert!(
        log.contains("WARN") && log.contains("wrong password") && log.contains("127.0.0.1"),
        "{log}"
    );
}

/// What an app reads of the store says nothing of the other apps.
#[test]
fn an_app_sees_nothing_of_the_others() {
    let (server, port) = listening("");
    let mut others: Vec<_> = (0..7).map(|_| server.client()).collect();
    for (number, other) in others.iter_mut().enumerate() {
        other.say(&format!("set k{number} {}", "v".repeat(10_000)));
        other.say("get nothing");
    }
    let mut shop = Remote::connect(port);
    assert_eq!(shop.say("auth shop 'open sesame:1'"), "+OK");
    assert_eq!(shop.say("set mine 1"), "+OK");
    let text = shop.info();
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::to_owned)
    };
    assert_eq!(field("connected_clients").as_deref(), Some("1"), "{text}");
    assert_eq!(field("db0").as_deref().map(|db| db.starts_with("keys=1")), Some(true), "{text}");
    let used: u64 = field("used_memory").expect("a size").parse().expect("a number");
    assert!(used < 1000, "of its own alone: {text}");
    for name in [
        "total_connections_received",
        "total_commands_processed",
        "keyspace_hits",
        "keyspace_misses",
        "evicted_keys",
        "expired_keys",
        "rejected_connections",
        "acl_access_denied_auth",
        "used_memory_peak",
        "aof_current_size",
    ] {
        assert_eq!(field(name), None, "{text}");
    }
}

/// How often its threads have gone to sleep.
fn sleeps(server: &Server) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    tasks
        .map(|task| {
            let path = task.expect("a thread").path().join("status");
            let status = fs::read_to_string(path).expect("it is there");
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.expect("a count").trim().parse::<u64>().expect("a number")
        })
        .sum()
}

/// An idle store costs nothing: no thread of it wakes up, with sessions and without.
#[test]
fn an_idle_store_does_not_wake_up() {
    for sync in ["everysec", "always"] {
        let server = Server::start(&["--sync", sync, "--memory", "100000"]);
        for filled in [false, true] {
            let mut client = server.client();
            for number in 0..if filled { 2000 } else { 0 } {
                client.say(&format!("set k{number} v ex {}", 10_000 + number));
            }
            // Whether a client is connected or not.
            if filled {
                drop(client);
            }
            eventually("it sleeps for two seconds on end", || {
                let before = sleeps(&server);
                std::thread::sleep(Duration::from_secs(2));
                sleeps(&server) == before
            });
        }
        // And what is to be done is done in time.
        let mut client = server.client();
        client.say("set short v px 1500");
        eventually("it has expired", || client.say("dbsize") == Value::Integer(2000));
    }
}
