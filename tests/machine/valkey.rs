//! `session = "valkey"`: an app with a server of its own, which is Debian's.

use crate::harness::{Debian, Machine, Package, Under};

const SOCKET: &str = "/run/roundsman/valkey/shop/valkey.sock";
const UNIT: &str = "roundsman-valkey@shop.service";

/// What an app of Python's that serves runs for the word after `?`, with `r` as its own server's client.
const APP: &str = r"
import os, redis, socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import unquote_plus

r = redis.Redis.from_url(os.environ['REDIS_URL'], decode_responses=True)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            said = repr(eval(unquote_plus(self.path.split('?')[-1]))) if '?' in self.path else 'up'
        except Exception as error:
            said = f'{type(error).__name__}: {error}'
        self.send_response(200)
        self.send_header('content-length', str(len(said)))
        self.end_headers()
        self.wfile.write(said.encode())

HTTPServer((os.environ['HOST'], int(os.environ['PORT'])), Handler).serve_forever()
";

fn add(machine: &Machine, name: &str, more: &str) {
    machine.write(&format!("/srv/{name}/app.py"), APP);
    let file = format!(
        "command = [\"python3\", \"app.py\"]\ndirectory = \"/srv/{name}\"\nlisten = \"port\"\n\
         route = [{{ host = \"{name}.test\" }}]\n{more}"
    );
    machine.write(&format!("/etc/roundsman/apps/{name}.toml"), &file);
    machine.run("systemctl daemon-reload && systemctl reload roundsman");
}

/// What the app makes of an expression.
#[track_caller]
fn ask(machine: &Machine, app: &str, expression: &str) -> String {
    machine.write("/tmp/expression", expression);
    machine.run(&format!(
        "curl --silent --fail --max-time 40 --get --data-urlencode @/tmp/expression \
         --header 'Host: {app}.test' http://localhost/"
    ))
}

/// An app moves from the store that all share to a server of its own, and back, while it is written to.
fn moves_there_and_back(machine: &Machine) {
    let file = |session: &str| {
        let path = "/etc/roundsman/apps/mover.toml";
        machine.run(&format!("sed -i 's/^session = .*/session = {session}/' {path}"));
    };
    let keeps = |said: &str| {
        let all =
            "[r.get('s'), r.hgetall('h'), sorted(r.smembers('t')), r.ttl('s') > 4000, r.ttl('h')]";
        assert_eq!(ask(machine, "mover", all), "['v', {'f': 'w'}, ['1', '2'], True, -1]", "{said}");
    };
    add(machine, "mover", "session = true\nworkers = 2\n");
    machine.start_app("mover");
    let fill = "[r.set('s', 'v', ex=5000), r.hset('h', 'f', 'w'), r.sadd('t', 1, 2), r.set('out', 1, ex=5000)]";
    assert_eq!(ask(machine, "mover", fill), "[True, 1, 2, True]");
    // Only an app whose file says so moves.
    let early = machine.try_run("roundsman session migrate --app mover --to valkey");
    assert!(!early.ok() && early.stderr.contains("Write session = \"valkey\" there"), "{early:?}");
    assert!(!machine.exists("/run/roundsman/valkey/mover"));

    let written = |store: &str, from: usize| {
        // What is acknowledged meanwhile, of whichever worker, is there afterwards.
        let writer = "i=FROM; while ! test -e /tmp/moved; do i=$((i+1)); curl --silent --fail --header 'Host: mover.test' \
                      \"http://localhost/?r.set('w$i',1,ex=5000)\" | grep -q True && echo w$i; done > /tmp/written";
        machine.write("/tmp/writer", &writer.replace("FROM", &from.to_string()));
        machine.run(
            "rm -f /tmp/moved; (sh /tmp/writer; touch /tmp/over) > /dev/null 2>&1 & \
                     until test -s /tmp/written; do sleep 0.1; done",
        );
        let moved = machine.try_run(&format!("roundsman session migrate --app mover --to {store}"));
        machine
            .run("rm -f /tmp/over; touch /tmp/moved; until test -e /tmp/over; do sleep 0.1; done");
        let written = machine.run("cat /tmp/written");
        assert!(written.lines().count() > 5, "{written}");
        let there = ask(machine, "mover", "' '.join(r.scan_iter('w*', count=1000))");
        let there: Vec<&str> = there.trim_matches('\'').split(' ').collect();
        let lost: Vec<&str> = written.lines().filter(|key| !there.contains(key)).collect();
        assert!(lost.is_empty(), "lost on the way to {store}: {lost:?}");
        moved
    };
    file("\"valkey\"");
    let moved = written("valkey", 0);
    assert!(moved.ok() && moved.stdout.contains("mover has moved: "), "{moved:?}");
    keeps("in the server of its own");
    assert_eq!(ask(machine, "mover", "[r.rpush('list', 1), r.delete('out')]"), "[1, 1]");
    let left = machine.run("roundsman session export --app mover 2> /dev/null");
    assert_eq!(left, "", "nothing is left that would come back");

    file("true");
    let moved = written("embedded", 100_000);
    assert!(moved.stderr.contains("1 keys are lists, sorted sets or streams"), "{moved:?}");
    keeps("back");
    assert_eq!(ask(machine, "mover", "r.get('out')"), "None", "who has logged out stays so");
    assert_eq!(machine.property("roundsman-valkey@mover.service", "ActiveState"), "inactive");
}

fn scenario(debian: Debian) {
    let machine = &Machine::boot_with_programs(debian, &[], Under::Valkey);
    machine.run("adduser --system --group deploy");
    machine.write("/etc/roundsman/roundsman.toml", "[session]\nmax-size = \"64MiB\"\n");

    // Without the server it is said what is missing, and nothing is started.
    add(machine, "shop", "session = \"valkey\"\nworkers = 2\n");
    machine
        .run("for p in valkey redis; do p=/usr/bin/$p-server; ! test -e $p || mv $p $p.away; done");
    let check = machine.try_run("roundsman check");
    assert!(check.ok() && check.stderr.contains("apt install valkey-server"), "{}", check.stderr);
    let start = machine.try_run("roundsman start shop");
    assert!(!start.ok() && start.stderr.contains("apt install redis-server"), "{}", start.stderr);
    machine.try_run(&format!("systemctl start {UNIT}"));
    machine
        .eventually("it has failed", |machine| machine.property(UNIT, "ActiveState") == "failed");
    assert!(
        machine
            .run(&format!("systemctl status {UNIT} || true"))
            .contains("apt install valkey-server")
    );
    machine.run(
        "for p in valkey redis; do p=/usr/bin/$p-server; ! test -e $p.away || mv $p.away $p; done",
    );

    // It starts with the app, whoever that runs as, and knows what the session store refuses.
    machine.run(&format!("systemctl reset-failed {UNIT}"));
    machine.start_app("shop");
    add(machine, "queue", "session = \"valkey\"\nuser = \"deploy\"\n");
    machine.start_app("queue");
    for app in ["shop", "queue"] {
        assert_eq!(ask(machine, app, "r.set('kept', os.environ['ROUNDSMAN_APP'])"), "True");
        assert_eq!(
            ask(machine, app, "r.eval('return redis.call(\"get\", KEYS[1])', 1, 'kept')"),
            format!("'{app}'")
        );
        assert_eq!(
            ask(
                machine,
                app,
                "[r.rpush('list', 1, 2), r.zadd('board', {'a': 1}), r.publish('news', 'x')]"
            ),
            "[2, 1, 0]"
        );
        assert_eq!(ask(machine, app, "r.config_get('maxmemory')"), "{'maxmemory': '67108864'}");
    }

    // A web app and its consumer, which is an app of its own, are of one user and use one server.
    add(machine, "consumer", "session = \"valkey:queue\"\nuser = \"deploy\"\n");
    machine.start_app("consumer");
    assert_eq!(
        ask(machine, "consumer", "[r.get('kept'), r.lpop('list'), r.lpush('list', 1)]"),
        "['queue', '1', 2]"
    );
    assert!(!machine.exists("/run/roundsman/valkey/consumer"));

    let status = machine.run("roundsman status");
    assert!(status.contains("\nqueue: its Valkey server is up"), "{status}");

    // The app does what is its own's and nothing else.
    for (expression, refused) in [
        ("r.config_set('dir', '/tmp')", "NoPermissionError"),
        ("r.shutdown()", "NoPermissionError"),
        ("r.replicaof('127.0.0.1', 1)", "NoPermissionError"),
        ("r.acl_setuser('default', enabled=True)", "NoPermissionError"),
        ("redis.Redis(unix_socket_path=os.environ['REDIS_SOCKET']).ping()", "AuthenticationError"),
        (
            "redis.Redis(unix_socket_path=os.environ['REDIS_SOCKET'], username='default', password='').ping()",
            "Error",
        ),
    ] {
        let said = ask(machine, "shop", expression);
        assert!(said.contains(refused), "{expression}: {said}");
    }
    // Nobody else gets at it, not even who knows the secret.
    let secret = machine.run("cat /run/roundsman.generator/valkey/shop.secret");
    let theirs = format!(
        "redis.Redis(unix_socket_path='{SOCKET}', username='shop', password='{secret}').ping()"
    );
    assert_eq!(ask(machine, "shop", &theirs), "True");
    assert!(ask(machine, "queue", &theirs).contains("Permission denied"), "another user");
    let nobody = machine.try_by(
        "nobody",
        &format!("cat {SOCKET}; ls /var/lib/roundsman-valkey/shop/ /run/roundsman.generator"),
    );
    assert!(!nobody.ok() && nobody.stdout.is_empty(), "{nobody:?}");
    let environment = machine.run(&format!(
        "systemctl show {UNIT} 'roundsman-worker@shop:1.service'; cat /run/systemd/generator/roundsman-*@shop*/*"
    ));
    assert!(!environment.contains(secret.trim()), "units have no secret");
    for (property, value) in
        [("PrivateNetwork", "yes"), ("NRestarts", "0"), ("MemoryMax", "402653184")]
    {
        assert_eq!(machine.property(UNIT, property), value, "{property}");
    }
    let exposure = machine.run(&format!("systemd-analyze security --no-pager {UNIT} | tail -n 1"));
    let exposure: f64 = exposure
        .split(": ")
        .nth(1)
        .and_then(|r| r.split(' ').next())
        .and_then(|n| n.parse().ok())
        .expect("a number");
    assert!(exposure <= 1.5, "{exposure}");

    // A restart returns when its data is there; so it is after a crash, a stop of the app, and of the machine.
    let kept = |when: &str| {
        machine.eventually(when, |machine| {
            ask(machine, "shop", "[r.get('kept'), r.llen('list')]") == "['shop', 2]"
        });
    };
    machine.run(&format!("systemctl restart {UNIT}"));
    assert_eq!(ask(machine, "shop", "[r.get('kept'), r.llen('list')]"), "['shop', 2]", "at once");
    machine.run(&format!("systemctl kill --signal=KILL {UNIT}"));
    kept("it is back after a crash");
    machine.run("systemctl restart roundsman-app@shop.target");
    machine.stop_app("shop");
    assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
    assert_eq!(machine.property("roundsman-valkey@queue.service", "ActiveState"), "active");
    machine.start_app("shop");
    kept("it is there at the next start");

    moves_there_and_back(machine);

    // An upgrade touches neither it nor its data; a removal ends it, and a purge leaves nothing.
    let process = machine.property(UNIT, "MainPID");
    let package = machine.bring(&Package::built());
    machine.run(&format!("dpkg -i {package}"));
    assert_eq!(machine.property(UNIT, "MainPID"), process);
    machine.run("apt-get purge -y roundsman");
    assert_eq!(machine.run("pgrep -f 'roundsman/[v]alkey' || true"), "");
    let left = machine.run(
        "find / /run -xdev -path '*roundsman*' -path '*valkey*' -not -path '/tmp/*' -not -path '/run/systemd/*' || true",
    );
    assert_eq!(left, "");
}

mod an_app_has_a_server_of_its_own {
    use super::*;

    #[test]
    fn bookworm_in_soak() {
        scenario(Debian::Bookworm);
    }

    #[test]
    fn trixie() {
        scenario(Debian::Trixie);
    }
}
