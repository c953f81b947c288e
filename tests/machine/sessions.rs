//! Sessions of unmodified libraries, shared by all workers of an app.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Clients, Machine, on_every_debian, on_every_debian_in_soak};

/// One app with two workers behind the front, known by its host.
struct App<'a> {
    machine: &'a Machine,
    name: &'a str,
}

impl<'a> App<'a> {
    /// Copies tests/apps/sessions/KIND in.
    fn add(machine: &'a Machine, name: &'a str, kind: &str, configuration: &str) -> Self {
        let file = format!(
            "workers = 2\nsession = true\nroute = [{{ host = \"{name}.test\" }}]\n{configuration}"
        );
        machine.add_app(name, &format!("tests/apps/sessions/{kind}"), &file);
        Self { machine, name }
    }

    fn node(machine: &'a Machine, name: &'a str, client: &str, more: &str) -> Self {
        let environment = format!("environment = {{ CLIENT = \"{client}\"{more} }}\n");
        let command = "command = [\"node\", \"server.js\"]\n";
        let app = Self::add(machine, name, "node", &format!("{command}{environment}"));
        machine.start_app(name);
        app
    }

    /// With the code that the page on sessions shows for it.
    fn python(machine: &'a Machine, name: &'a str) -> Self {
        let command = "command = [\"gunicorn\", \"--workers\", \"1\", \"app:app\"]\n";
        let app = Self::add(machine, name, name, command);
        machine.write(&format!("/srv/{name}/documented.py"), documented(name));
        machine.start_app(name);
        app
    }

    /// What a browser with a jar of cookies gets; the head too.
    fn ask(&self, browser: &str, path: &str) -> String {
        let host = format!("{}.test", self.name);
        let jar = format!("/tmp/{}-{browser}.jar", self.name);
        let cookies = format!("--cookie {jar} --cookie-jar {jar}");
        let to = format!("--connect-to {host}:80:localhost:80 'http://{host}{path}'");
        let said = self
            .machine
            .try_run(&format!("curl --silent --include --fail --max-time 40 {cookies} {to}"));
        said.stdout
    }

    fn get(&self, browser: &str, path: &str) -> Option<Value> {
        let answer = self.ask(browser, path);
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    #[track_caller]
    fn answer(&self, browser: &str, path: &str) -> Value {
        self.get(browser, path).unwrap_or_else(|| panic!("no answer to {path}"))
    }

    /// Asks until both workers have answered; every answer must name this user.
    #[track_caller]
    fn expect_user(&self, browser: &str, user: &Value) {
        let mut workers = BTreeSet::new();
        self.machine.eventually("both workers have answered", |_| {
            let answer = self.answer(browser, "/");
            assert_eq!(answer["user"], *user, "{answer} of {}", self.name);
            workers.insert(answer["worker"].to_string());
            workers.len() == 2
        });
    }

    /// What redis-py, as root in this app's namespace, gives for an expression over `r`.
    #[track_caller]
    fn redis_py(&self, expression: &str) -> String {
        let (app, socket) = (self.name, "/run/roundsman/session.sock");
        let connect =
            format!("redis.Redis(unix_socket_path='{socket}', username='{app}', password='any')");
        let script = format!("import redis; r = {connect}; print({expression})");
        self.machine.run(&format!("python3 -c \"{script}\"")).trim().to_owned()
    }

    #[track_caller]
    fn seconds_left(&self, key: &str) -> i64 {
        self.redis_py(&format!("r.ttl('{key}')")).parse().expect("a number")
    }

    /// Logged in on one worker is known on both, on two devices; logged out is logged out.
    fn log_in_and_out(&self) {
        for browser in ["phone", "laptop"] {
            let answer = self.answer(browser, "/login?user=ann");
            assert_eq!(answer["user"], "ann");
            self.expect_user(browser, &"ann".into());
        }
        self.answer("phone", "/logout");
        self.expect_user("phone", &Value::Null);
        self.expect_user("laptop", &"ann".into());
    }
}

/// The code in Python that docs/sessions.md has for an app of this kind.
fn documented(kind: &str) -> &'static str {
    let page = include_str!("../../docs/sessions.md");
    let mut blocks = page.split("```python\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find(|code| code.to_lowercase().contains(kind)).expect("the page shows it")
}

/// express-session over either client of Redis that Node has.
fn express(app: &App<'_>) {
    app.log_in_and_out();
    app.answer("phone", "/login?user=ann");
    app.answer("desk", "/login?user=bob");
    assert!(app.answer("phone", "/logout-everywhere")["ended"].as_u64() >= Some(2));
    for browser in ["phone", "laptop"] {
        app.expect_user(browser, &Value::Null);
    }
    app.expect_user("desk", &"bob".into());
}

/// A request that changes nothing moves the expiry (`touch`) and leaves the value alone.
fn touch_moves_the_expiry(app: &App<'_>) {
    let login = app.ask("touch", "/login?user=ann");
    assert!(login.contains("set-cookie:") || login.contains("Set-Cookie:"), "{login}");
    let key = format!("sess:{}", app.answer("touch", "/")["session"].as_str().expect("an id"));
    let left = app.seconds_left(&key);
    assert!((3000..=3600).contains(&left), "{left} is not the hour of the cookie");
    assert_eq!(app.redis_py(&format!("r.append('{key}', ' ') and r.expire('{key}', 60)")), "True");
    let again = app.ask("touch", "/").to_ascii_lowercase();
    assert!(!again.contains("set-cookie:"), "rolling is off: {again}");
    assert!(app.seconds_left(&key) > 3000, "it was touched");
    assert_eq!(app.redis_py(&format!("r.get('{key}')[-1:]")), "b' '", "and not saved");
}

on_every_debian! {
    /// express-session with connect-redis: node-redis and ioredis, two workers each, side by side;
    /// neither app sees the other's sessions.
    fn express_with_node_redis_and_ioredis(machine: &Machine) {
        let node_redis = App::node(machine, "node-redis", "node-redis", "");
        let ioredis = App::node(machine, "ioredis", "ioredis", "");
        for app in [&node_redis, &ioredis] {
            express(app);
            touch_moves_the_expiry(app);
        }
        // The same cookie, the same secret, the same prefix: but another app's namespace.
        let session = node_redis.answer("touch", "/")["session"].clone();
        assert_eq!(node_redis.answer("touch", "/")["user"], "ann");
        let cookie = machine.run("awk '/connect.sid/ { print $7 }' /tmp/node-redis-touch.jar");
        let host = "--header 'Host: ioredis.test' http://localhost/";
        let other = machine.run(&format!("curl --silent --cookie connect.sid={} {host}", cookie.trim()));
        assert!(other.contains("\"user\":null"), "{session} is known to {other}");
        assert_eq!(ioredis.redis_py(&format!("r.exists('sess:{}')", session.as_str().expect("an id"))), "0");
    }
}

on_every_debian_in_soak! {
    /// `resave` saves what has not changed, `rolling` sends the cookie anew, and without touch a
    /// session ends when it was to end: for both clients.
    fn express_with_resave_rolling_and_without_touch(machine: &Machine) {
        for client in ["node-redis", "ioredis"] {
            let name = format!("{client}-resave");
            let app = App::node(machine, &name, client, ", RESAVE = \"yes\", ROLLING = \"yes\"");
            let session = app.answer("resave", "/login?user=ann")["session"].clone();
            let key = format!("sess:{}", session.as_str().expect("an id"));
            app.redis_py(&format!("r.append('{key}', ' ') and r.expire('{key}', 60)"));
            let answer = app.ask("resave", "/").to_ascii_lowercase();
            assert!(answer.contains("set-cookie: connect.sid="), "rolling is on: {answer}");
            assert_eq!(app.redis_py(&format!("r.get('{key}')[-1:]")), "b'}'", "it was saved");
            assert!(app.seconds_left(&key) > 3000);

            // The session's own time, and nobody asks meanwhile.
            let session = app.answer("brief", "/login?user=ann&seconds=2")["session"].clone();
            let key = format!("sess:{}", session.as_str().expect("an id"));
            machine.eventually("its time is over", |_| app.redis_py(&format!("r.exists('{key}')")) == "0");
            assert_eq!(app.answer("brief", "/")["user"], Value::Null);

            let name = format!("{client}-still");
            let app = App::node(machine, &name, client, ", TOUCH = \"no\"");
            let session = app.answer("still", "/login?user=ann")["session"].clone();
            let key = format!("sess:{}", session.as_str().expect("an id"));
            app.redis_py(&format!("r.expire('{key}', 600)"));
            app.expect_user("still", &"ann".into());
            assert!(app.seconds_left(&key) <= 600, "nobody touches it");
            app.redis_py(&format!("r.pexpire('{key}', 1)"));
            app.expect_user("still", &Value::Null);
        }
    }
}

on_every_debian! {
    /// Flask-Session, and Django's sessions in its cache, two workers each.
    fn flask_and_django(machine: &Machine) {
        for name in ["flask", "django"] {
            let app = App::python(machine, name);
            app.log_in_and_out();
            // Whatever the libraries call their keys: one session is left, and it ends.
            assert_eq!(app.redis_py("len(r.keys('*')) > 0 and min(map(r.ttl, r.keys('*'))) > 0"), "True");
            app.redis_py("[r.pexpire(key, 1) for key in r.scan_iter(count=1)]");
            app.expect_user("laptop", &Value::Null);
        }
    }
}

on_every_debian! {
    /// redis-py itself: pipelines, transactions with WATCH, hashes, sets, scans, and the errors that
    /// it makes exceptions of.
    fn redis_py(machine: &Machine) {
        machine.copy_in(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps/sessions/redis-py"), "/srv/redis-py");
        machine.run("systemctl start roundsman-session.socket");
        assert_eq!(machine.run("python3 /srv/redis-py/check.py").trim(), "all is well");
    }
}

/// Clients that never connect anew, over a restart of the store, over the socket and over TCP: each goes on where it was,
/// in the middle of a request, in its namespace and database and under its name, within `MULTI` and `WATCH`. None holds up
/// the restart: not one that does not read, not one that sends without a pause, and not one whose wrong
/// password is being put off. One whose password is another one meanwhile is closed. Says how long the longest of the questions took that are asked all the time.
const KEEPS_CONNECTION: &str = r"
import socket, subprocess, threading, time

def connect():
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect('/run/roundsman/session.sock')
    return client

def bulk(word):
    return b'$%d\r\n%s\r\n' % (len(word), word)

def expect(client, reply):
    said = b''
    while len(said) < len(reply):
        more = client.recv(len(reply) - len(said))
        assert more, 'closed after %r' % said[:100]
        said += more
    assert said == reply, said[:100]

def send(client, line):
    words = line.split()
    client.sendall(b'*%d\r\n' % len(words) + b''.join(map(bulk, words)))

def ask(client, line, reply):
    send(client, line)
    expect(client, reply)

def remote():
    client = socket.create_connection(('127.0.0.1', 6379))
    client.settimeout(60)
    return client

kept, other, queueing, watching, slow = [connect() for _ in range(5)]
for line in b'AUTH shop any', b'SELECT 3', b'CLIENT SETNAME kept', b'SET key value':
    ask(kept, line, b'+OK\r\n')
ask(queueing, b'MULTI', b'+OK\r\n')
ask(queueing, b'INCR n', b'+QUEUED\r\n')
ask(watching, b'WATCH n', b'+OK\r\n')
ask(watching, b'MULTI', b'+OK\r\n')
ask(watching, b'SET n lost', b'+QUEUED\r\n')
far, guessing, excluded = [remote() for _ in range(3)]
ask(excluded, b'AUTH blog old', b'+OK\r\n')
with open('/etc/roundsman/passwords', 'w') as passwords:
    passwords.write('shop:sesame\nblog:new\n')
ask(far, b'AUTH shop sesame', b'+OK\r\n')
ask(far, b'SET far away', b'+OK\r\n')
wrong = b'-WRONGPASS invalid username-password pair or user is disabled.\r\n'
for _ in range(6):
    ask(guessing, b'AUTH shop guess', wrong)
send(guessing, b'AUTH shop guess')
large = b'x' * 1000000
ask(slow, b'SET large ' + large, b'+OK\r\n')
for _ in range(4):
    send(slow, b'GET large')

ended, counts = threading.Event(), [0]
hasty = connect()
def send_all_the_time():
    while not ended.is_set():
        hasty.sendall(b'PING\r\n' * 1000)
        counts[0] += 1000
def read_all_the_time():
    read = 0
    while not (ended.is_set() and read == 7 * counts[0]):
        more = len(hasty.recv(65536))
        assert more, 'the hasty client was cut off'
        read += more
longest = [0]
def ask_all_the_time():
    client = connect()
    while not ended.is_set():
        began = time.monotonic()
        ask(client, b'INCR asked', b':%d\r\n' % (longest[-1] + 1))
        longest[0] = max(longest[0], time.monotonic() - began)
        longest[1:] = [longest[-1] + 1]
        time.sleep(0.002)
longest.append(0)
threads = [threading.Thread(target=each) for each in (send_all_the_time, read_all_the_time, ask_all_the_time)]
for thread in threads:
    thread.start()
time.sleep(0.5)
kept.sendall(b'*2\r\n' + bulk(b'GET') + b'$3\r\nk')
ask(other, b'PING', b'+PONG\r\n')
began = time.monotonic()
subprocess.run(['systemctl', 'restart', 'roundsman-session-store.service'], check=True)
took = time.monotonic() - began
kept.sendall(b'ey\r\n')
expect(kept, bulk(b'value'))
ask(kept, b'CLIENT GETNAME', bulk(b'kept'))
ask(other, b'GET key', b'$-1\r\n')
ask(queueing, b'EXEC', b'*1\r\n:1\r\n')
ask(watching, b'EXEC', b'*-1\r\n')
ask(far, b'GET far', bulk(b'away'))
expect(guessing, wrong)
assert excluded.recv(100) == b''
for _ in range(4):
    expect(slow, bulk(large))
time.sleep(0.5)
ended.set()
for thread in threads:
    thread.join()
print('a restart of the store took %d ms, the longest question of %d %d ms'
      % (took * 1000, longest[1], longest[0] * 1000))
assert longest[0] < 4, 'somebody held up the restart'
";

on_every_debian_in_soak! {
    /// A restart of the store keeps open connections. Under load, requests of apps whose clients
    /// reconnect as they do wait, and none fails.
    fn restart_of_the_store_loses_nothing(machine: &Machine) {
        const TIMES: usize = 3;
        machine.write("/root/keeps-connection.py", KEEPS_CONNECTION);
        let process = |machine: &Machine| machine.property("roundsman-session-store.service", "MainPID");
        machine.write("/etc/roundsman/passwords", "shop:sesame\nblog:old\n");
        machine.run("chown roundsman-session /etc/roundsman/passwords && chmod 400 /etc/roundsman/passwords");
        machine.write(
            "/etc/roundsman/roundsman.toml",
            "[session]\nlisten = \"127.0.0.1:6379\"\npassword-file = \"/etc/roundsman/passwords\"\nsync = \"always\"\n",
        );
        machine.run("systemctl daemon-reload && systemctl restart roundsman-session.socket");
        machine.run("systemctl start roundsman-session-store.service");
        let before = process(machine);
        println!("{}", machine.run("python3 /root/keeps-connection.py").trim());
        assert_ne!(process(machine), before, "another process has taken over");
        for (name, kind) in [("node-redis", "node-redis"), ("ioredis", "ioredis"), ("flask", "flask")] {
            let app = if kind == "flask" {
                App::python(machine, name)
            } else {
                App::node(machine, name, kind, "")
            };
            app.answer("anybody", "/login?user=ann");
            let jar = format!("/tmp/{name}-anybody.jar");
            let cookie = machine.run(&format!("awk 'NF == 7 {{ print $6 \"=\" $7 }}' {jar}"));
            let clients = Clients::new(8, 2).with_cookie(&format!("{name}.test"), cookie.trim());
            let load = machine.load(clients);
            for _ in 0..TIMES {
                load.goes_on_for(200);
                machine.run("systemctl restart roundsman-session-store.service");
            }
            load.goes_on_for(200);
            let tally = load.stop();
            println!("restart of the session store, {TIMES} times, under {name}: {tally}");
            tally.assert_nothing_failed();
            assert!(tally.bodies.keys().all(|body| body.contains("\"ann\"")), "{:?}", tally.bodies);
            machine.run(&format!("systemctl stop roundsman-app@{name}.target"));
        }
    }
}

on_every_debian! {
    /// Many connections are kept over a restart; systemd, which would compare each with all, gets one
    /// descriptor. With `listen` the store is reached over TCP by those who know a password, and its service
    /// still has no network of its own.
    fn listener_over_tcp(machine: &Machine) {
        let store = "roundsman-session-store.service";
        assert_eq!(machine.property(store, "FileDescriptorStoreMax"), "1");
        let many = "import socket, subprocess\n\
            clients = [socket.socket(socket.AF_UNIX) for _ in range(700)]\n\
            def ask(client):\n    client.sendall(b'PING\\r\\n')\n    assert client.recv(64) == b'+PONG\\r\\n'\n\
            for client in clients:\n    client.connect('/run/roundsman/session.sock')\n    ask(client)\n\
            subprocess.check_call(['systemctl', 'restart', 'roundsman-session-store.service'])\n\
            for client in clients:\n    ask(client)\n";
        machine.write("/root/many.py", many);
        machine.run("python3 /root/many.py");
        assert_eq!(machine.property(store, "NFileDescriptorStore"), "0", "the next process has them");

        machine.write("/etc/roundsman/passwords", "shop:sesame\n");
        machine.run("chown roundsman-session /etc/roundsman/passwords && chmod 400 /etc/roundsman/passwords");
        machine.write(
            "/etc/roundsman/roundsman.toml",
            "[session]\nlisten = \"127.0.0.1:6379\"\npassword-file = \"/etc/roundsman/passwords\"\n",
        );
        machine.run("systemctl daemon-reload && systemctl restart roundsman-session.socket");
        let ask = |url: &str| {
            let script = format!("import redis; print(redis.Redis.from_url('{url}').incr('n'))");
            machine.try_run(&format!("python3 -c \"{script}\""))
        };
        assert_eq!(ask("redis://shop:sesame@127.0.0.1").expect_ok().trim(), "1");
        assert_eq!(ask("unix://shop:any@/run/roundsman/session.sock").expect_ok().trim(), "2");
        // In the words of redis-py, which makes exceptions of the codes.
        assert!(ask("redis://127.0.0.1").stderr.contains("Authentication required"));
        assert!(ask("redis://shop:guess@127.0.0.1").stderr.contains("invalid username-password pair"));
        assert_eq!(machine.property(store, "PrivateNetwork"), "yes");
    }
}
