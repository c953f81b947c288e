//! Who is at the other end of a socket, and what one peer can do to the others.

use crate::harness::{Machine, on_every_debian_in_soak};

const SHOP: &str = "command = [\"node\", \"echo-messages.js\"]\nworkers = 2\nmode = \"handoff\"\n";

/// An app that listens on a path with lines in it that systemd would obey.
const LIAR: &str = "require('node:http').createServer((request, response) => response.end('liar'))\n\
    .listen(`${process.env.RUNTIME_DIRECTORY}/x\\nMAINPID=${process.pid}\\nSTATUS=all is well \\u001b[31m`);\n";

/// The worker that all of them are after.
const SOCKET: &str = "/run/roundsman-workers/shop:2/control.sock";

/// An app that binds a socket of its own.
const DOOR: &str = "require('node:http').createServer((request, response) => response.end('door'))\n\
    .listen(process.env.SOCKET);\n";

/// More connections than anybody may have.
const MANY: u32 = 1100;

/// Runs `client.py` as this user.
fn client(user: &str, arguments: &str) -> String {
    format!("runuser -u {user} -- python3 /usr/local/lib/client.py {arguments}")
}

/// Has a user occupy the control socket until [`leave`].
fn occupy(machine: &Machine, user: &str, arguments: &str) {
    machine.run(&format!(
        "rm -f /root/occupied && systemd-run --quiet --unit=occupy --property=User={user} \
         --property=LimitNOFILE=8192 --property=StandardOutput=file:/root/occupied \
         python3 /usr/local/lib/client.py occupy {SOCKET} {arguments}"
    ));
    machine.eventually("the socket is occupied as far as it can be", |machine| {
        machine.try_run("cat /root/occupied").stdout.contains("occupied")
    });
}

fn leave(machine: &Machine) {
    machine.run("systemctl stop occupy.service");
}

/// KiB of memory that a worker's shim has.
fn memory(machine: &Machine, worker: &str) -> u64 {
    let main = machine.property(&format!("roundsman-worker@{worker}.service"), "MainPID");
    let line = machine.run(&format!("grep VmRSS: /proc/{main}/status"));
    line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

fn root_is_served(machine: &Machine) {
    let said = machine.try_run("timeout 20 roundsman send shop:2 '\"root\"'");
    assert_eq!(said.stdout, "shop:2 got it\n", "{said}");
}

on_every_debian_in_soak! {
    /// No user speaks as a worker, fills a shim's memory, or keeps root and the front out; the front
    /// may hand connections in and nothing else; and no app puts words into its shim's mouth.
    fn a_control_socket_serves_each_peer_by_its_rights(machine: &Machine) {
        machine.write("/usr/local/lib/client.py", include_str!("client.py"));
        machine.run("useradd stranger && useradd -G roundsman member");

        machine.add_app("shop", "tests/apps", SHOP);
        machine.run("roundsman apply && systemctl start roundsman-app@shop.target");
        machine.eventually("both workers are handed connections", |machine| {
            root_is_served(machine);
            machine.curl("/") == "ok"
        });
        machine.run(
            "touch /root/events && systemd-run --quiet --unit=follow \
             --property=StandardOutput=file:/root/events roundsman events shop --json",
        );
        machine.eventually("the follower reads", |machine| {
            machine.run("roundsman send shop '\"hello\"'");
            machine.run("cat /root/events").contains("hello")
        });

        // Whoever has nothing to say to it does not get there, and sends it nothing.
        let said = machine.try_run(&client("stranger", &format!("say {SOCKET} status")));
        assert!(said.stderr.contains("PermissionError"), "{said}");

        // A group that is named like a worker's unit makes no worker.
        let said = machine.run(&format!(
            "systemd-run --quiet --wait --pipe --property=User=member --property=Delegate=yes \
             python3 /usr/local/lib/client.py impersonate {SOCKET} roundsman-worker@shop:1.service"
        ));
        assert!(said.contains("/roundsman-worker@shop:1.service\n"), "{said}");
        assert!(said.contains("denied"), "{said}");
        machine.run("roundsman send shop:2 '\"after the forgery\"'");
        machine.eventually("what came after it", |machine| {
            machine.run("cat /root/events").contains("after the forgery")
        });
        assert!(!machine.run("cat /root/events").contains("forged"), "a member spoke as shop:1");

        // The front hands connections in, and that is all it may.
        let handed_in = machine.run(&client("roundsman", &format!("say {SOCKET} handoff")));
        assert!(handed_in.starts_with("b'R") || handed_in.starts_with("b'B"), "{handed_in}");
        for request in ["send", "'events 0'", "status", "draining", "'sibling 1'"] {
            let said = machine.run(&client("roundsman", &format!("say {SOCKET} {request}")));
            assert!(said.contains("denied"), "{request}: {said}");
        }
        let said = machine.try_run("runuser -u roundsman -- roundsman send shop 1");
        assert_eq!(said.status.code(), Some(77), "{said}");

        // Bytes without a line end are nobody's to store.
        let before = memory(machine, "shop:2");
        occupy(machine, "member", &format!("{MANY} 1"));
        let after = memory(machine, "shop:2");
        println!("shim of shop:2: {before} KiB, with a member at its socket {after} KiB");
        assert!(after < before + 32 * 1024, "{before} KiB and then {after} KiB");
        root_is_served(machine);
        leave(machine);

        // Nor does a member take the places of root and the front.
        occupy(machine, "member", &format!("{MANY} 0 'events 0'"));
        root_is_served(machine);
        machine.run("systemctl restart roundsman.service");
        machine.eventually("the front hands connections in", |machine| machine.curl("/") == "ok");
        let handed_in = machine.run(&client("roundsman", &format!("say {SOCKET} handoff")));
        assert!(handed_in.starts_with("b'R") || handed_in.starts_with("b'B"), "{handed_in}");
        leave(machine);

        // An app speaks to systemd with its shim's voice.
        machine.run("roundsman delete shop --yes");
        machine.write("/srv/liar/liar.js", LIAR);
        machine.write(
            "/etc/roundsman/apps/liar.toml",
            "command = [\"node\", \"liar.js\"]\ndirectory = \"/srv/liar\"\n",
        );
        machine.run("roundsman apply && systemctl start roundsman-app@liar.target");
        let worker = "roundsman-worker@liar:1.service";
        machine.eventually("the liar listens", |machine| machine.curl("/") == "liar");
        let status = machine.property(worker, "StatusText");
        assert!(status.contains("MAINPID=") && !status.contains('\u{1b}'), "{status:?}");
        let main = machine.property(worker, "MainPID");
        let command = machine.run(&format!("tr '\\0' ' ' < /proc/{main}/cmdline"));
        assert!(command.contains("roundsman worker"), "systemd takes {command:?} for the shim");
    }
}

/// What an app's user can do in its worker's directory: another file in the place of one there.
fn replace_by_link(machine: &Machine, socket: &str, to: &str) {
    machine.run(&format!("rm {socket} && ln -s {to} {socket}"));
}

fn of_door(machine: &Machine) -> (String, String) {
    let said = machine.run(
        "curl --silent --max-time 40 --write-out '\\n%{http_code}' --header 'Host: door.example' \
         http://localhost/v1/status",
    );
    let (body, code) = said.trim_end().rsplit_once('\n').expect("curl adds a line");
    (body.to_owned(), code.to_owned())
}

on_every_debian_in_soak! {
    /// A stranger locks nothing of ours; and what root and the front say to a worker reaches no other
    /// socket, whatever the app's user puts in the place of its own.
    fn what_is_in_run_leads_nobody_astray(machine: &Machine) {
        machine.write("/usr/local/lib/client.py", include_str!("client.py"));
        machine.run("useradd stranger");
        let shop = SHOP.replace("mode = \"handoff\"\n", "");
        machine.add_app("shop", "tests/apps", &shop);
        let users = format!("{shop}route = [{{ host = \"users.example\" }}]\n");
        machine.add_app("users", "tests/apps", &users);
        machine.write("/srv/door/door.js", DOOR);
        machine.write(
            "/etc/roundsman/apps/door.toml",
            "command = [\"node\", \"door.js\"]\ndirectory = \"/srv/door\"\nlisten = \"unix\"\n\
             route = [{ host = \"door.example\" }]\n",
        );
        machine.run(
            "roundsman apply && \
             systemctl start roundsman-app@shop.target roundsman-app@users.target roundsman-app@door.target",
        );
        machine.eventually("all are served", |machine| {
            machine.curl("/") == "ok" && of_door(machine).0 == "door"
        });

        // Who can open a lock can hold it, and have the front taken for one that does not run.
        machine.run("roundsman reload users");
        let locks = "find /run/roundsman /run/roundsman-workers -name '*.lock'";
        assert!(machine.run(locks).contains("/run/roundsman/serving.lock"));
        let theirs = machine.run(&format!("runuser -u stranger -- {locks} -readable 2> /dev/null || true"));
        assert_eq!(theirs, "", "a stranger can hold these locks");
        machine.run("systemctl restart roundsman.service");
        let free = machine.try_run("flock --shared --nonblock /run/roundsman/serving.lock true");
        assert!(!free.ok(), "the front runs without its lock");
        // Everybody is told that the front runs all the same.
        let told = machine.run("runuser -u stranger -- roundsman describe shop --json");
        assert!(told.contains("\"state\": \"active\""), "{told}");

        // A message to one app does not reach another one's worker.
        machine.run(
            "touch /root/events && systemd-run --quiet --unit=follow \
             --property=StandardOutput=file:/root/events roundsman events users --json",
        );
        machine.eventually("the follower reads", |machine| {
            machine.run("roundsman send users '\"hello\"'");
            machine.run("cat /root/events").contains("hello")
        });
        replace_by_link(machine, SOCKET, "/run/roundsman-workers/users:1/control.sock");
        let said = machine.try_run("roundsman send shop:2 '\"astray\"'");
        assert!(!said.ok() && said.stderr.contains("it is a link"), "{said}");
        let said = machine.try_run("roundsman drain --worker shop:2");
        assert!(said.stderr.contains("it is a link"), "{said}");
        // Nor one of its own user that is in no unit of the app.
        machine.run(&format!(
            "rm {SOCKET} && systemd-run --quiet --unit=listen setpriv \
             --reuid=$(stat --format=%u $(dirname {SOCKET})) --regid=$(stat --format=%g $(dirname {SOCKET})) \
             --clear-groups python3 /usr/local/lib/client.py listen {SOCKET}"
        ));
        machine.eventually("somebody listens", |machine| machine.try_run(&format!("test -S {SOCKET}")).ok());
        let said = machine.try_run("roundsman send shop:2 '\"astray\"'");
        assert!(!said.ok() && said.stderr.contains("which is not this worker"), "{said}");
        machine.run("roundsman send users '\"after it\"'");
        machine.eventually("what came after it", |machine| {
            machine.run("cat /root/events").contains("after it")
        });
        assert!(!machine.run("cat /root/events").contains("astray"), "users had a message for shop");

        // What clients ask of an app does not reach the admin socket, which the front may speak to.
        replace_by_link(machine, "/run/roundsman-workers/door:1/http.sock", "/run/roundsman/admin.sock");
        machine.run("systemctl restart roundsman.service");
        let (body, code) = of_door(machine);
        assert!(code.starts_with('5') && !body.contains("upstreams"), "{code}: {body}");
    }
}
