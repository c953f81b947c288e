//! The ways out of a worker's unit that the rights of its user would open.

use std::process::Command;

use crate::harness::{Machine, Said, on_every_debian};

/// Starts tests/apps/hostile as an app of this user's, who has logged in.
fn start(machine: &Machine, name: &str, configuration: &str) {
    machine.add_app(
        name,
        "tests/apps/hostile",
        &format!(
            "command = [\"node\", \"server.js\"]\nworkers = 1\nuser = \"owner\"\n\
             route = [{{ host = \"{name}\" }}]\n{configuration}"
        ),
    );
    let warns = machine.try_run("roundsman check");
    assert!(warns.stderr.contains("user owner is in the group roundsman"), "{warns}");
    let said = machine.try_run(&format!("roundsman start {name}"));
    assert!(said.ok(), "{said}");
}

/// What a shell command printed that the app was made to run.
fn by_app(machine: &Machine, name: &str, script: &str) -> String {
    machine.write("/tmp/script", script);
    machine.run(&format!(
        "curl --silent --fail --max-time 40 -H 'Host: {name}' --data-binary @/tmp/script http://localhost/"
    ))
}

/// Says in the journal, as anybody may, that a worker has crashed, and that it is about the app.
const FORGE: &str = r#"
import socket
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.connect("/run/systemd/journal/socket")
unit = "roundsman-worker@shop:1.service"
for field in ["COREDUMP_UNIT", "UNIT", "OBJECT_SYSTEMD_UNIT", "USER_UNIT"]:
    text = f"MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1\n{field}={unit}\nMESSAGE=forged by {field}\n"
    journal.send((text + "ROUNDSMAN_APP=shop\nSYSLOG_IDENTIFIER=shop:1\n").encode())
"#;

/// Keeps everybody from reading a file.
const LEASE: &str = r#"
import fcntl, signal, sys, time
signal.signal(signal.SIGIO, lambda *_: None)
files = [open(path, "r+") for path in sys.argv[1:]]
for file in files:
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("kept", flush=True)
while True:
    time.sleep(60)
"#;

/// What a stranger does to the commands of root's that look at an app.
fn a_stranger_forges_no_lines_and_holds_nobody_up(machine: &Machine) {
    machine.write("/tmp/forge.py", FORGE);
    machine.run("runuser -u stranger -- python3 /tmp/forge.py && journalctl --sync");
    for command in ["roundsman logs shop", "roundsman logs shop:1", "roundsman logs"] {
        let said = machine.run(command);
        assert!(said.contains("uid ") && said.contains("Started "), "{command}: {said}");
        assert!(!said.contains("forged"), "{command}: {said}");
    }

    machine.write("/tmp/lease.py", LEASE);
    machine.write("/home/stranger/app/package.json", "{\"main\": \"server.js\"}");
    machine.write("/home/stranger/app/server.js", "");
    machine.write("/home/stranger/app/eco.json", "{\"apps\": []}");
    machine.run("chown -R stranger: /home/stranger/app");
    machine.run(
        "cd /home/stranger/app && systemd-run --quiet --uid stranger --unit lease --working-directory=$PWD \
         python3 /tmp/lease.py package.json eco.json",
    );
    machine.eventually("the files are kept", |machine| {
        machine.run("journalctl --output cat _SYSTEMD_UNIT=lease.service").contains("kept")
    });
    for command in
        ["roundsman start /home/stranger/app", "roundsman import pm2 /home/stranger/app/eco.json"]
    {
        let said = machine.try_run(&format!("timeout 10 {command}"));
        let why = "another process keeps everybody from reading it";
        assert!(!said.ok() && said.stderr.contains(why), "{said}");
    }
    machine.run("systemctl stop lease");

    // The address of a worker that is to come.
    let first = machine.property("roundsman-worker@shop:1.socket", "Listen");
    let network =
        first.split_once(':').and_then(|(ip, _)| ip.rsplit_once('.')).expect("an address").0;
    machine.run(&format!(
        "systemd-run --quiet --uid stranger --unit thief python3 -u -m http.server --bind {network}.3 7080"
    ));
    machine.eventually("the thief listens", |machine| {
        machine.run("journalctl --output cat _SYSTEMD_UNIT=thief.service").contains("Serving HTTP")
    });
    let said = machine.try_run("roundsman scale shop 3");
    let who = format!("thief.service) of the user stranger listens on {network}.3:7080");
    assert!(!said.ok() && said.stderr.contains(&who), "{said}");
}

/// A library that notes into which program it was loaded, and whether that one reaches a process outside
/// of the unit, whose number it finds in a file.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
__attribute__((constructor)) static void loaded(void) {
  char number[32] = "", path[64], to[256];
  FILE *file = fopen("/home/owner/outside", "r");
  if (file && fscanf(file, "%31s", number) == 1) fclose(file);
  snprintf(path, sizeof path, "/proc/%s/root", number);
  file = fopen("/home/owner/loaded", "a");
  if (!file) return;
  fprintf(file, "%s %s\n", program_invocation_short_name, readlink(path, to, sizeof to) > 0 ? "OUT" : "kept");
  fclose(file);
}
"#;

/// What an app leaves for its main process, which is outside of the app's own domain, leads that one, and
/// so the app, no further than the app gets itself.
fn the_main_process_goes_no_further_than_the_app(machine: &Machine, outside: &str) {
    let files = tempfile::tempdir().expect("there is room");
    std::fs::write(files.path().join("library.c"), LIBRARY).expect("there is room");
    let mut cc = Command::new("cc");
    cc.current_dir(files.path()).args(["-shared", "-fPIC", "-o", "library.so", "library.c"]);
    assert!(cc.status().expect("cc runs").success());
    machine.copy_in(files.path(), "/home/owner");
    machine.write("/home/owner/outside", outside);
    machine.write("/home/owner/env", "LD_PRELOAD=/home/owner/library.so\n");
    machine.run("cp -r /srv/shop /home/owner/app && chown -R owner: /home/owner");
    machine.write(
        "/etc/roundsman/apps/left.toml",
        "command = [\"node\", \"server.js\"]\nworkers = 1\nuser = \"owner\"\n\
         directory = \"/home/owner/app\"\nenvironment-files = [\"/home/owner/env\"]\n\
         route = [{ host = \"left\" }]\n",
    );
    machine.run("systemctl daemon-reload && systemctl reload roundsman && roundsman start left");
    let loaded = machine.run("cat /home/owner/loaded");
    assert!(loaded.contains("node kept") && !loaded.contains("OUT"), "{loaded}");

    // A path on which the main process listens for it.
    let socket = format!("/proc/{outside}/root/home/owner/app.sock");
    let said = machine.run(&format!(
        "curl --silent --fail --max-time 40 -H 'Host: left' http://localhost/listen{socket}"
    ));
    assert_eq!(said, "EACCES", "as libuv says that the folder is not there");
    assert!(!machine.exists("/home/owner/app.sock"));

    // Where it begins, and what it reads, if links lead there.
    let refused = |link: &str, to: &str, why: &str| {
        machine.run(&format!(
            "cd /home/owner && mv {link} kept && runuser -u owner -- ln -s /proc/{outside}/root{to} {link}"
        ));
        let said = machine.try_run("systemctl restart roundsman-worker@left:1.service");
        assert!(!said.ok(), "{link}: {said}");
        // What a process that has ended said, the journal may take a moment to have.
        machine.eventually(&format!("{link} is refused"), |machine| {
            let ask = "journalctl --output cat _SYSTEMD_UNIT=roundsman-worker@left:1.service";
            machine.run(ask).contains(&format!("{why}: No such file or directory"))
        });
        machine.run(&format!("cd /home/owner && rm {link} && mv kept {link}"));
    };
    refused("app", "/home/owner/kept", "directory = /home/owner/app");
    refused("env", "/home/owner/kept", "environment-files: /home/owner/env");
    machine.run("roundsman stop left");
}

/// Prints the sockets of systemd's to which it connects.
const SOCKETS: &str = r#"python3 - <<'END'
import os, socket, stat
for place in ["/run/systemd", "/run/udev"]:
    for folder, _, names in os.walk(place):
        for path in (os.path.join(folder, name) for name in names):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                continue
            for kind in [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET]:
                try:
                    socket.socket(socket.AF_UNIX, kind).connect(path)
                    print(path)
                except OSError:
                    pass
END"#;

/// What an app needs of systemd, and nothing else: where PID 1 itself answers, it could keep PID 1 from
/// hearing root, and of the journal's streams it could take all.
fn an_app_speaks_with_nothing_of_systemds_that_it_does_not_need(machine: &Machine) {
    machine.add_app(
        "passing",
        "tests/apps/hostile",
        "command = [\"node\", \"server.js\"]\nworkers = 1\nroute = [{ host = \"passing\" }]\n",
    );
    machine.run("roundsman start passing");
    for app in ["shop", "passing"] {
        let said = by_app(machine, app, SOCKETS);
        let mut reached: Vec<&str> = said.lines().collect();
        reached.sort_unstable();
        let journal = ["/run/systemd/journal/dev-log", "/run/systemd/journal/socket"];
        assert_eq!(reached, [journal[0], journal[1], "/run/systemd/notify"], "{app}");
    }
    // A user who exists only while the app runs is found where systemd's module of NSS looks beside, which
    // these machines do not have.
    let said =
        by_app(machine, "passing", "cat /run/userdb/$(id -u).user /run/userdb/$(id -g).group");
    assert!(said.contains("\"userName\":\"rmw-passing\""), "{said}");
    assert!(said.contains("\"groupName\":\"rmw-passing\""), "{said}");
    machine.run("roundsman stop passing");
}

/// Makes a connection whose end waits for an hour, and sends it to the session store.
const LINGER: &str = r#"
import array, os, socket, struct
listener = socket.create_server(("127.0.0.1", 0))
waits = socket.create_connection(listener.getsockname())
far, _ = listener.accept()
waits.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
print("it is told so:", struct.unpack("ii", waits.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)))
waits.setblocking(False)
try:
    while True:
        waits.send(bytes(65536))
except BlockingIOError:
    pass
store = socket.socket(socket.AF_UNIX)
store.connect("/run/roundsman/session.sock")
try:
    socket.send_fds(store, [b"PING\r\n"], [waits.fileno()])
except PermissionError:
    pass # since Linux 6.16
waits.close()
if os.fork() == 0: # with the far end, that nobody reads, until the app ends
    import time
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 1), os.dup2(null, 2)
    time.sleep(3600)
"#;

/// A descriptor is closed by whoever gets it and does not want it; an app sends none whose end anybody waits for.
fn nobody_waits_for_an_apps_connections(machine: &Machine) {
    start(machine, "sender", "session = true\n");
    let said = by_app(machine, "sender", &format!("python3 -c '{LINGER}'"));
    assert!(said.contains("it is told so: (0, 0)"), "{said}");
    let said = machine.try_run("timeout 10 roundsman session stats");
    assert!(said.ok(), "the session store answers: {said}");
    machine.run("roundsman delete sender --yes");
}

/// Accepts connections and reads nothing, whatever becomes of the other end.
const FAR: &str = r#"
import socket
listener, kept = socket.create_server(("127.0.0.1", 6000)), []
print("listens", flush=True)
while True:
    kept.append(listener.accept())
"#;

/// Answers, until it is asked to fill the queue of its own listener with connections whose end waits for an hour.
const QUEUES: &str = r#"
import os, socket, struct, time
listener = socket.socket(fileno=3)
while True:
    client, _ = listener.accept()
    asked = b""
    try:
        asked = client.recv(65536)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    except OSError:
        pass # it only looked whether somebody is there
    client.close()
    if b"/fill" in asked:
        break
PASS_RIGHTS = 83
try:
    listener.setsockopt(socket.SOL_SOCKET, PASS_RIGHTS, 1)
except OSError:
    pass # before Linux 6.16 it takes descriptors anyway
kept = []
for _ in range(3):
    waits = socket.create_connection(("127.0.0.1", 6000))
    waits.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    waits.setblocking(False)
    try:
        while True:
            waits.send(bytes(65536))
    except BlockingIOError:
        pass
    queued = socket.socket(socket.AF_UNIX)
    queued.connect(listener.getsockname())
    socket.send_fds(queued, [b"x"], [waits.fileno()])
    kept.append(queued)
    waits.close()
print("filled", flush=True)
time.sleep(3600)
"#;

/// What waits at a worker's listener is not closed by PID 1, which has the listener, too: whoever stops the
/// app's worker finds it there to be asked.
fn nobody_stops_systemd_by_what_waits_at_a_listener(machine: &Machine) {
    machine.write("/tmp/far.py", FAR);
    machine.run("systemd-run --quiet --unit far python3 /tmp/far.py");
    machine.run("install -d -o owner /srv/queues");
    machine.write("/srv/queues/app.py", QUEUES);
    // What an app in the sandbox has to have set by somebody outside.
    machine.write(
        "/etc/roundsman/apps/queues.toml",
        "command = [\"python3\", \"app.py\"]\ndirectory = \"/srv/queues\"\nworkers = 1\nuser = \"owner\"\n\
         listen = \"fd\"\ntransport = \"unix\"\nsandbox = \"off\"\nroute = [{ host = \"queues\" }]\n",
    );
    machine.run("roundsman start queues");
    let (socket, ask) =
        ("/run/roundsman/workers/queues:1.sock", "curl -sf -H 'Host: queues' localhost");
    let who = format!("stat -c '%U:%G %a' {socket}");
    assert_eq!(machine.run(&who), "owner:roundsman 660\n");
    // As after a stop that was taken back.
    machine.run(&format!("chown root:root {socket} && chmod 600 {socket}"));
    machine.run("systemctl restart roundsman-worker@queues:1.service");
    assert_eq!(machine.run(&who), "owner:roundsman 660\n", "it is let in again");
    assert_eq!(machine.run(ask), "ok");
    machine.run(&format!("{ask}/fill"));
    machine.eventually("its queue is filled", |machine| {
        machine.run("roundsman logs queues").contains("filled")
    });
    let said = machine.try_run("timeout 30 roundsman stop queues");
    assert!(said.ok(), "{said}");
    let said = machine.try_run("timeout 10 systemctl is-active far.service");
    assert!(said.ok(), "PID 1 waits for the far end: {said}");
    assert!(!machine.exists(socket));
    machine.run(
        "rm /etc/roundsman/apps/queues.toml; systemctl daemon-reload; systemctl stop far.service",
    );
}

/// Takes all ports that no privilege is needed for: in processes, each of which may have some descriptors.
const PORTS: &str = r#"
import os, socket, time
for part in range(8):
    if os.fork() == 0:
        break
else:
    time.sleep(600)
kept = []
for port in range(1024 + part, 65536, 8):
    taken = socket.socket()
    try:
        taken.bind(("0.0.0.0", port))
        kept.append(taken)
    except OSError:
        pass
print("taken", flush=True)
time.sleep(600)
"#;

/// Whoever takes all ports of the machine does not keep the front from its workers, nor, while it starts, from
/// finding out whose a listener is.
fn nobody_takes_the_last_port(machine: &Machine) {
    machine.write("/tmp/ports.py", PORTS);
    let limit = "--property LimitNOFILE=70000";
    machine.run(&format!(
        "systemd-run --quiet --uid stranger --unit ports {limit} python3 /tmp/ports.py"
    ));
    machine.eventually("the ports are taken", |machine| {
        machine.run("journalctl --output cat _SYSTEMD_UNIT=ports.service").matches("taken").count()
            == 8
    });
    let ask = |first: u16| {
        machine.run(&format!(
            "echo 'sleep 0.3' > /tmp/script; for i in $(seq 8); do curl --silent --output /dev/null --max-time 30 \
             --local-port $(({first} + i)) --write-out '%{{http_code}}\\n' --header 'Host: shop' \
             --data-binary @/tmp/script http://127.0.0.1/ & done; wait",
        ))
    };
    assert_eq!(ask(100), "200\n".repeat(8));
    machine.run("systemctl restart roundsman.service");
    assert_eq!(ask(200), "200\n".repeat(8), "the next front has the port, too");
    let log = machine.run("journalctl --output cat --unit roundsman.service");
    assert!(!log.contains("is taken for the worker"), "{log}");
    assert!(!log.contains("no port is kept"), "{log}");
    machine.run("systemctl stop ports");
}

/// The process of `owner` with this name.
fn process(machine: &Machine, name: &str) -> String {
    let ask = format!("pgrep --oldest -u owner -x {name}");
    machine.eventually("it runs", |machine| machine.try_run(&ask).ok());
    machine.run(&ask).trim().to_owned()
}

on_every_debian! {
    /// An app whose user has logged in, and is a member, stays in its unit and its sandbox: neither the
    /// system bus, nor the user's other processes, nor a shell that waits lead out of it. What a worker
    /// starts cannot gain rights, and whoever cannot is no member, wherever it is. With `sandbox = "off"`
    /// an app has what its user has.
    fn a_worker_does_not_leave_its_unit(machine: &Machine) {
        machine.run("useradd -m -G roundsman owner && useradd -m stranger");
        machine.run("install -d -m 1777 /run/screen && install -d -m 700 -o owner /run/screen/S-owner");
        start(machine, "shop", "");
        start(machine, "free", "sandbox = \"off\"\n");
        machine.run("systemctl start user@$(id -u owner).service");
        machine.run("systemd-run --quiet --uid owner --unit outside sleep 1000");
        let outside = process(machine, "sleep");
        let manager = process(machine, "systemd");

        // Each says so when it has got out.
        let out = format!(
            "busctl --system call org.freedesktop.systemd1 /org/freedesktop/systemd1 \
               org.freedesktop.systemd1.Manager AttachProcessesToUnit ssau user@$(id -u).service /init.scope 1 $$
             grep -q user@ /proc/self/cgroup && echo 'OUT: in another unit'
             for p in {outside} {manager}; do
               ls /proc/$p/root/run > /dev/null && echo OUT: the root of $p
               ls /proc/$p/fd > /dev/null && echo OUT: descriptors of $p
               (: <> /proc/$p/mem) && echo OUT: the memory of $p
             done
             ls /run/screen/S-owner && echo 'OUT: a shell that waits'
             ls /run/user/$(id -u) && echo 'OUT: a service manager'
             test -S /var/run/dbus/system_bus_socket && echo 'OUT: the bus'
             echo tried"
        );
        nobody_waits_for_an_apps_connections(machine);
        nobody_stops_systemd_by_what_waits_at_a_listener(machine);
        let said = by_app(machine, "shop", &out);
        assert!(said.contains("tried") && !said.contains("OUT"), "{said}");
        let said = by_app(machine, "free", &out);
        for way in ["the root of", "descriptors of", "the memory of", "a shell", "a service manager", "the bus"] {
            assert!(said.contains(&format!("OUT: {way}")), "off is off: {way}: {said}");
        }

        // All that it needs is there, and its own processes are its own.
        let said = by_app(
            machine,
            "shop",
            "sleep 5 & ls /proc/$!/root/ > /dev/null && (: <> /proc/$!/mem) && echo own
             id -un; getent hosts localhost | grep -c localhost; kill $!; (sleep 1; echo 'from a child') & wait",
        );
        assert_eq!(said, "own\nowner\n1\nfrom a child\n");
        let journal = machine.run("journalctl --output cat _SYSTEMD_UNIT=roundsman-worker@shop:1.service");
        assert!(journal.contains("uid "), "its output is in the journal: {journal}");
        assert_eq!(machine.property("roundsman-worker@shop:1.service", "NRestarts"), "0");

        // If it got out nevertheless it would be no member.
        let member = |script: &str| machine.try_by("owner", script);
        let denied = |said: Said| {
            assert!(said.status.code() == Some(77) || said.stderr.contains("enied"), "{said}");
        };
        denied(member("setpriv --no-new-privs roundsman scale shop 2"));
        let said = member("setpriv --no-new-privs roundsman session stats");
        assert!(!said.ok(), "{said}");
        let said = member(
            "setpriv --no-new-privs systemctl --no-ask-password restart roundsman-worker@shop:1.service",
        );
        assert!(!said.ok(), "{said}");
        for may in [
            "roundsman session stats",
            "systemctl --no-ask-password restart roundsman-worker@shop:1.service",
            "roundsman scale shop 2",
        ] {
            let said = member(may);
            assert!(said.ok(), "{said}");
        }

        // Nobody gets at a process of ours that is their own, from its first moment on: what cannot be
        // read is not dumped. So nobody becomes the main process of a worker while it starts.
        assert_eq!(machine.run("stat -L -c %a /usr/bin/roundsman"), "711\n");
        let said = member(
            "roundsman events > /dev/null & p=$!
             while ! grep -q roundsman /proc/$p/comm; do sleep 0.1; done
             (: <> /proc/$p/mem) || echo kept; kill $p",
        );
        assert!(said.stdout.contains("kept"), "{said}");
        let said = machine.try_by("stranger", "roundsman --version && roundsman check --help");
        assert!(said.ok(), "{said}");

        the_main_process_goes_no_further_than_the_app(machine, &outside);
        an_app_speaks_with_nothing_of_systemds_that_it_does_not_need(machine);
        nobody_takes_the_last_port(machine);
        a_stranger_forges_no_lines_and_holds_nobody_up(machine);
    }
}
