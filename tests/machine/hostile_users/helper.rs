//! What the helper does for members of the group `roundsman`, and for nobody else: who asks is known by the kernel,
//! and what is asked by a list of verbs.

use super::members::{Broken, by, rollback_to, shop_with_users};
use crate::harness::{Machine, Said, on_every_debian_in_soak};
use crate::shop;

/// Sends its argument to the helper, or a lot of nonsense, or nothing; prints the answer, and ends
/// with the status in it.
const ASK: &str = r#"#!/usr/bin/python3
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.settimeout(30)
client.connect("/run/roundsman/helper.sock")
line = "x" * 10_000_000 if sys.argv[1] == "LONG" else sys.argv[1]
data = b""
try:
    client.sendall(line.encode().decode("unicode_escape").encode("latin-1"))
except OSError:
    pass
try:
    while chunk := client.recv(65536):
        data += chunk
except ConnectionError:
    pass
status = 99
while data:
    size = int.from_bytes(data[1:3], "big")
    kind, text, data = data[:1], data[3 : 3 + size], data[3 + size :]
    if kind == b"x":
        status = text[0]
    else:
        print(text.decode())
sys.exit(status)
"#;

/// Connects a thousand times, says nothing, and stays until it is sent away.
const CROWD: &str = "
import socket
crowd = []
for _ in range(1000):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    try:
        client.connect(\"/run/roundsman/helper.sock\")
    except OSError:
        continue
    crowd.append(client)
print(\"connected\", flush=True)
for client in crowd:
    try:
        while client.recv(4096):
            pass
    except OSError:
        pass
";

/// An app that tries what members may whenever it is asked.
const NOSY: &str = r#"
require("node:http").createServer((request, response) => {
  require("node:child_process").exec(decodeURIComponent((request.url.split("?")[1] ?? "").replaceAll("+", " ")) ||
    "roundsman stop shop 2>&1; echo exit $?; systemctl --no-ask-password reload roundsman.service; echo bus $?",
    (error, out) => response.end(out));
}).listen(3000);
"#;

/// Speaks with a socket through a connection that a child made, which has ended then unless it is to
/// be alive.
const DEAD: &str = r#"
import os, socket, sys
path, text = sys.argv[1], sys.argv[2].encode().decode("unicode_escape").encode()
alive = len(sys.argv) > 3
for _ in range(1 if alive else 20):  # it may be looked at before it has ended
    near, far = socket.socketpair()
    if os.fork() == 0:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(path)
        except OSError as error:
            print("connecting:", error, flush=True)
            os._exit(1)
        socket.send_fds(far, [b"x"], [client.fileno()])
        if alive:
            near.close()
            far.recv(1)
        os._exit(0)
    far.close()
    _, descriptors, _, _ = socket.recv_fds(near, 1, 1)
    if not alive or not descriptors:
        os.wait()
    if not descriptors:
        continue
    client = socket.socket(fileno=descriptors[0])
    client.settimeout(1)
    try:
        client.sendall(text)
        print(client.recv(4096).decode(errors="replace"))
    except OSError as error:
        print(error)
"#;

/// What such an app tries with sockets: each with what it must not be told.
const TRICKS: [(&str, &str); 5] = [
    ("dead /run/roundsman/session.sock 'AUTH shop any\\r\\n'", "+OK"),
    ("dead /run/roundsman/admin.sock 'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'", "200 OK"),
    (
        "dead /run/roundsman/admin.sock 'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' alive",
        "200 OK",
    ),
    ("dead /run/roundsman-workers/shop:1/control.sock 'status\\n'", "{"),
    ("dead /run/roundsman-workers/shop:1/control.sock 'status\\n' alive", "{"),
];

/// An app may run as a user who is a member; it is none.
fn an_app_that_runs_as_a_member_is_none(machine: &Machine, broken: &mut Broken) {
    machine.write("/srv/nosy/server.js", NOSY);
    machine.write(
        "/etc/roundsman/apps/nosy.toml",
        "command = [\"node\", \"server.js\"]\ndirectory = \"/srv/nosy\"\nuser = \"member\"\n\
         route = [{ path = \"/nosy\" }]\n",
    );
    machine.run("roundsman apply");
    let said = machine.curl("/nosy");
    broken.unless(said.contains("exit 77"), format!("an app that runs as the member: {said}"));
    broken.unless(!said.contains("bus 0"), format!("the same by polkit: {said}"));
    machine.write("/usr/local/bin/dead", &format!("#!/usr/bin/python3{DEAD}"));
    machine.run("chmod 755 /usr/local/bin/dead");
    for (trick, told) in TRICKS {
        machine.write("/tmp/trick", &format!("{trick} 2>&1; echo tried"));
        let said = machine.run("curl --silent --max-time 60 --get --data-urlencode \"$(cat /tmp/trick)\" http://localhost/nosy");
        broken.unless(said.contains("tried"), format!("{trick} was not tried: {said}"));
        broken
            .unless(!said.contains(told), format!("an app that runs as a member: {trick}: {said}"));
    }
    // The member may, of course.
    for (may, told) in TRICKS {
        let may = format!("{} alive", may.trim_end_matches(" alive"));
        let said = by(machine, "member", &may);
        broken.unless(said.stdout.contains(told), said);
    }
    machine.run("roundsman stop nosy && rm /etc/roundsman/apps/nosy.toml && roundsman apply");
    machine.run("roundsman stop srv && systemctl disable roundsman-app@srv.target");
}

fn ask(machine: &Machine, user: &str, line: &str) -> Said {
    by(machine, user, &format!("timeout 40 /usr/local/bin/ask '{}'", line.replace('\'', r"'\''")))
}

on_every_debian_in_soak! {
    /// The helper does a handful of things for members, and for nobody else; whatever it is sent,
    /// nothing else comes of it.
    fn the_helper_does_what_members_may_and_no_more(machine: &Machine) {
        shop_with_users(machine);
        machine.write("/usr/local/bin/ask", ASK);
        machine.write("/tmp/crowd.py", CROWD);
        machine.run("chmod 755 /usr/local/bin/ask");
        // An app whose name is that of a folder where the helper is.
        machine.write(
            "/etc/roundsman/apps/srv.toml",
            "command = [\"node\", \"server.js\"]\ndirectory = \"/srv/shop/current\"\nroute = [{ path = \"/srv\" }]\n",
        );
        machine.run("roundsman check");
        let state = |machine: &Machine| {
            let files = machine.run("find /etc/roundsman -type f | sort | xargs cat; readlink /srv/shop/current");
            (files, shop::runs(machine, 2))
        };
        let before = state(machine);
        let mut broken = Broken::default();
        assert_eq!(machine.run("stat -c '%a %U %G' /run/roundsman/helper.sock"), "660 root roundsman\n");

        let deploy = |more: &str| format!(
            r#"{{"app":"shop","verb":{{"reload":{{"batch":null,"surge":null,"settle":null,"resume":false,"worker":[],"wait":false{more}}}}},"json":false}}\n"#
        );
        let stop = r#"{"app":"shop","verb":{"stop":null},"json":false}\n"#;
        for line in [
            "\\n",
            "GET / HTTP/1.1\\r\\n\\r\\n",
            "\\x00\\xff\\xfe\\n",
            "LONG",
            "[[[[[[[[[[[[[[[[[[[[[[[[\\n",
            r#"{"app":"shop","verb":"delete","json":false}\n"#,
            r#"{"app":"shop","verb":"start","json":false,"user":"root"}\n"#,
            r#"{"app":"shop","verb":{"start":"/bin/sh"},"json":false}\n"#,
            r#"{"app":"../../../tmp/evil","verb":"start","json":false}\n"#,
            r#"{"app":"/srv/shop/current/server.js","verb":"start","json":false}\n"#,
            r#"{"app":"--name=evil","verb":"start","json":false}\n"#,
            r#"{"app":"home","verb":"start","json":false}\n"#,
            r#"{"app":"nobody","verb":{"stop":null},"json":false}\n"#,
            r#"{"app":"shop","verb":{"scale":{"to":60000}},"json":false}\n"#,
            &deploy(r#","admin":"/tmp/x""#),
            &deploy(r#","settle":60000"#),
            &deploy(r#","batch":"$(id)""#),
        ] {
            let said = ask(machine, "member", line);
            let refused = !said.ok() && said.status.code() != Some(99) && said.stdout.contains("error");
            broken.unless(refused, format!("refused in words: {said}"));
        }
        let said = ask(machine, "member", "");
        broken.unless(said.stdout.contains("in time"), format!("nothing at all: {said}"));

        for (user, status) in [("roundsman", 77), ("stranger", 1), ("nobody", 1)] {
            let said = ask(machine, user, stop);
            broken.unless(said.status.code() == Some(status), format!("{user}: {said}"));
            let said = by(machine, user, "roundsman stop shop");
            broken.unless(said.status.code() == Some(77), format!("{user}: {said}"));
        }

        an_app_that_runs_as_a_member_is_none(machine, &mut broken);

        // What is chosen is a release, and never other code.
        machine.run(
            "mkdir -p /home/member/evil /srv/shop/releases/mine /srv/shop/other && cp -r /srv/shop/releases/one/. /home/member/evil/
             ln -s /home/member/evil /srv/shop/releases/link; mkdir -m 1777 /srv/shop/releases/shared; chown -R member /home/member /srv/shop/releases/mine; chmod 755 /home/member",
        );
        for command in [
            "roundsman rollback shop --to /home/member/evil",
            "roundsman rollback shop --to /root",
            "roundsman rollback shop --to /srv/shop/releases/mine",
            "roundsman rollback shop --to /srv/shop/releases/link",
            "roundsman rollback shop --to /srv/shop/releases/shared",
            "roundsman rollback shop --to /srv/shop/other",
            "roundsman rollback shop --to /srv/shop/releases/../../../etc",
            "roundsman reload shop --admin /home/member/socket",
            "roundsman reload shop --settle 3600",
            "roundsman reload shop --by-watch",
            "roundsman start /srv/shop/current/server.js",
            "cd /srv && roundsman start shop",
        ] {
            let said = by(machine, "member", command);
            broken.unless(!said.ok(), format!("refused: {said}"));
        }
        let answer = rollback_to(machine, "/root/.profile");
        broken.unless(answer == rollback_to(machine, "/root/none"), answer);
        let said = machine.try_run("roundsman helper < /dev/null");
        broken.unless(!said.ok() && said.stderr.contains("roundsman-helper.socket"), said);
        broken.unless(state(machine) == before, "something was changed");

        // A crowd of one member's keeps out neither root nor, in the end, anybody.
        machine.run("runuser -u member -- python3 /tmp/crowd.py > /tmp/crowd 2>&1 &");
        machine.eventually("a crowd", |machine| !machine.run("cat /tmp/crowd").is_empty());
        let helpers = machine.run("systemctl list-units --no-legend 'roundsman-helper@*'");
        broken.unless(helpers.lines().count() <= 32, format!("so many at once: {helpers}"));
        let said = machine.try_run("timeout 60 roundsman reload shop --settle 0");
        broken.unless(said.ok(), format!("root beside a crowd: {said}"));
        machine.eventually("the helper is there again", |machine| {
            by(machine, "member", "roundsman restart shop:1").ok()
        });
        machine.eventually("no helper is left", |machine| {
            machine.run("systemctl list-units --all --no-legend 'roundsman-helper@*'").is_empty()
        });
        broken.unless(machine.property("roundsman-helper.socket", "ActiveState") == "active", "the socket");

        // The name of an app is never a path, wherever the helper is.
        let file = machine.run("cat /etc/roundsman/apps/srv.toml");
        let said = by(machine, "member", "roundsman start srv");
        broken.unless(said.ok(), &said);
        broken.unless(machine.run("cat /etc/roundsman/apps/srv.toml") == file, "another app was made of it");
        broken.unless(
            machine.try_run("systemctl is-enabled roundsman-app@srv.target").stdout.trim() != "enabled",
            "a member has an app start at boot",
        );
    }
}
