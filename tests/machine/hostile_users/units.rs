//! What a worker's unit lets an app have, and whom it makes the app.

use std::path::Path;
use std::process::Command;

use crate::harness::{Machine, on_every_debian};

const COMMAND: &str = "command = [\"node\", \"server.js\"]\n";

/// Installs the package; has a member and a stranger.
fn install(machine: &Machine) {
    machine.run("useradd -G roundsman member && useradd stranger");
}

/// Starts tests/apps/hostile as the app NAME, which is asked at the host NAME.
fn start(machine: &Machine, name: &str, configuration: &str) {
    let route = format!("route = [{{ host = \"{name}\" }}]\n");
    machine.add_app(name, "tests/apps/hostile", &format!("{COMMAND}{route}{configuration}"));
    machine.run(&format!("systemctl enable --now roundsman-app@{name}.target"));
    machine.eventually("the app answers", |machine| app(machine, name, "id -u").is_some());
}

/// What a shell command printed that the app itself was made to run; `None` when there is no answer.
fn app(machine: &Machine, name: &str, script: &str) -> Option<String> {
    machine.write("/tmp/script", script);
    let said = machine.try_run(&format!(
        "curl --silent --fail --max-time 40 -H 'Host: {name}' --data-binary @/tmp/script http://localhost/"
    ));
    said.ok().then(|| said.stdout.trim().to_owned())
}

#[track_caller]
fn by_app(machine: &Machine, name: &str, script: &str) -> String {
    app(machine, name, script).expect("the app answers")
}

fn service(instance: &str) -> String {
    format!("roundsman-worker@{instance}.service")
}

/// Kills the worker's main process and waits until the worker is up again.
fn crash(machine: &Machine, instance: &str) {
    let unit = service(instance);
    let before = machine.property(&unit, "InvocationID");
    machine.run(&format!("kill -9 {}", machine.property(&unit, "MainPID")));
    machine.eventually("the worker is up again", |machine| {
        machine.property(&unit, "InvocationID") != before
            && machine.property(&unit, "ActiveState") == "active"
    });
}

/// Whether any app that was started ever said that it is root.
#[track_caller]
fn assert_nobody_was_root(machine: &Machine) {
    let said: Vec<String> = machine
        .journal("-t shop:1 -t shop:2 -t shop:9 -t other:1")
        .iter()
        .filter_map(|entry| Some(entry["MESSAGE"].as_str()?.to_owned()))
        .filter(|message| message.starts_with("uid "))
        .collect();
    assert!(!said.is_empty(), "the apps say who they are");
    assert!(!said.iter().any(|message| message == "uid 0"), "{said:?}");
}

on_every_debian! {
    /// A worker that no file asks for is not started by anybody. A mistake in an app's file, and
    /// whatever follows it, leaves its workers as they were; and a generator that cannot write stops
    /// workers from starting, but never lets one start as root.
    fn no_worker_is_root_by_mistake(machine: &Machine) {
        install(machine);
        start(machine, "shop", "workers = 1\n");

        for who in ["runuser -u member -- ", ""] {
            let start = format!("{who}systemctl --no-ask-password start {}", service("shop:9"));
            assert!(!machine.try_run(&start).ok(), "`{start}` is refused");
        }
        machine.eventually("nothing of it runs", |machine| {
            let state = machine.property(&service("shop:9"), "ActiveState");
            matches!(state.as_str(), "inactive" | "failed")
        });
        assert_nobody_was_root(machine);

        // A mistake, and what apt does, and a crash.
        let good = machine.run("cat /etc/roundsman/apps/shop.toml");
        let units = "systemctl cat roundsman-worker@shop:1.service roundsman-worker@shop:1.socket";
        let before = machine.run(units);
        machine.write("/etc/roundsman/apps/shop.toml", "command = [\n");
        machine.run("systemctl daemon-reload");
        assert_eq!(machine.run(units), before, "its units are as they were");
        crash(machine, "shop:1");
        assert_ne!(by_app(machine, "shop", "id -u"), "0", "it serves on with what was right");
        machine.write("/etc/roundsman/apps/shop.toml", &good);
        crash(machine, "shop:1");
        assert_ne!(by_app(machine, "shop", "id -u"), "0");
        machine.run("systemctl daemon-reload");
        crash(machine, "shop:1");
        assert_ne!(by_app(machine, "shop", "id -u"), "0");
        assert_nobody_was_root(machine);

        // No room for what the generator writes.
        machine.run(
            "mount -t tmpfs -o size=16k,nr_inodes=6 none /run/systemd/generator && systemctl daemon-reload",
        );
        machine.run(&format!("kill -9 {}", machine.property(&service("shop:1"), "MainPID")));
        machine.eventually("it has ended", |machine| {
            machine.property(&service("shop:1"), "ActiveState") != "active"
        });
        let _ = machine.try_run(&format!("systemctl restart {}", service("shop:1")));
        assert_nobody_was_root(machine);
        machine.run("umount /run/systemd/generator && systemctl daemon-reload");
        // systemd has closed the socket whose drop-in was gone.
        machine.run("systemctl stop roundsman-app@shop.target 'roundsman-worker@*'");
        machine.run("roundsman start shop");
        machine.eventually("it is back", |machine| app(machine, "shop", "id -u").is_some());
        assert_nobody_was_root(machine);
    }
}

/// A library that leaves a mark when root loads it.
fn library(machine: &Machine, path: &str) {
    let directory = tempfile::tempdir().expect("space is left");
    let source = directory.path().join("mark.c");
    let text = "#include <unistd.h>\n#include <fcntl.h>\n\
        __attribute__((constructor)) static void mark(void) {\n\
        if (geteuid() == 0) close(open(\"/run/loaded-by-root\", O_CREAT | O_WRONLY, 0600)); }\n";
    std::fs::write(&source, text).expect("space is left");
    let target = directory.path().join("library");
    std::fs::create_dir(&target).expect("it is new");
    let built = Command::new("gcc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(target.join("mark.so"))
        .arg(&source)
        .status()
        .expect("gcc is here");
    assert!(built.success());
    machine.copy_in(&target, Path::new(path).parent().and_then(Path::to_str).expect("absolute"));
}

on_every_debian! {
    /// Nothing that an app says about its environment reaches what root runs for it, and no secret
    /// of an app reaches anybody else: no stranger through systemd, no other app through anything.
    fn an_apps_environment_is_its_own(machine: &Machine) {
        install(machine);
        machine.run("useradd owner && useradd reader");
        library(machine, "/srv/library/mark.so");
        machine.write(
            "/srv/shop/.env",
            "LD_PRELOAD=/srv/library/mark.so\nLD_LIBRARY_PATH=/srv/library\nFROM_OWN_FILE=\"a b\"\n",
        );
        machine.run("chown -R owner: /srv/shop");
        machine.write("/etc/shop.env", "FROM_ROOTS_FILE=env-secret\n");
        machine.write("/etc/shop.key", "key-secret\n");
        machine.run("chmod 600 /etc/shop.env /etc/shop.key");
        start(
            machine,
            "shop",
            "user = \"owner\"\nworkers = 2\nsession = \"redis://:url-secret@127.0.0.1:6379\"\n\
             environment = { PASSWORD = \"file-secret\", TEXT = \"100%i \\\"x\\\"\" }\n\
             environment-files = [\"/etc/shop.env\", \"/srv/shop/.env\"]\n\
             credentials = { key = \"/etc/shop.key\" }\n",
        );
        let seen = by_app(
            machine,
            "shop",
            "echo $PASSWORD,$TEXT,$SESSION_URL,$FROM_ROOTS_FILE,$FROM_OWN_FILE,$LD_LIBRARY_PATH; \
             cat $CREDENTIALS_DIRECTORY/key",
        );
        assert_eq!(
            seen,
            "file-secret,100%i \"x\",redis://:url-secret@127.0.0.1:6379,env-secret,a b,/srv/library\n\
             key-secret"
        );
        crash(machine, "shop:1");
        machine.run(&format!("systemctl restart {}", service("shop:1")));
        machine.run("systemctl stop roundsman-app@shop.target");
        machine.eventually("it has ended", |machine| {
            machine.property(&service("shop:1"), "ActiveState") == "inactive"
        });
        assert!(!machine.exists("/run/loaded-by-root"), "root loaded the app's library");
        // The file itself may be a secret: only the front reads it.
        machine.run("chown root:roundsman /etc/roundsman/apps/shop.toml && chmod 640 /etc/roundsman/apps/shop.toml");
        machine.run("systemctl start roundsman-app@shop.target");
        machine.eventually("it is back", |machine| app(machine, "shop", "id -u").is_some());
        machine.run("systemctl daemon-reload && roundsman reload shop");

        // What strangers and other apps see.
        start(machine, "other", "");
        let pid = machine.property(&service("shop:1"), "MainPID");
        let reads = format!(
            "systemctl show 'roundsman-worker@shop:1.service'; systemctl cat 'roundsman-worker@shop:1.service'; \
             cat /etc/roundsman/apps/shop.toml /etc/shop.env /etc/shop.key; grep -rs . /run/systemd/generator \
             /run/roundsman.generator /run/roundsman /run/roundsman-workers /run/credentials; \
             for p in {pid} $(pgrep -P {pid}); do cat /proc/$p/environ /proc/$p/root$(readlink -f \
             /run/credentials/roundsman-worker@shop:1.service)/*; done 2>&1"
        );
        machine.write("/tmp/reads", &reads);
        let stranger = machine.run("runuser -u stranger -- sh /tmp/reads 2>&1; true");
        let other = by_app(machine, "other", &reads);
        for (who, text) in [("a stranger", stranger), ("another app", other)] {
            assert!(text.contains("roundsman-worker@shop:1"), "{who} looked: {text}");
            for secret in ["url-secret", "file-secret", "env-secret", "key-secret"] {
                let line = text.lines().find(|line| line.contains(secret));
                assert_eq!(line, None, "{who} sees {secret}");
            }
        }

        // Changed files are told, whoever may read them.
        let stale = || machine.run("roundsman diff --json; true");
        assert!(!stale().contains("shop:1"), "{}", stale());
        machine.run("sed -i s/file-secret/new-secret/ /etc/roundsman/apps/shop.toml");
        assert!(stale().contains("other settings"), "{}", stale());
    }
}

on_every_debian! {
    /// Keys and passwords that are installed as documented, and other apps' files with secrets, are read by
    /// no app: not by one with a user of its own that opens the session store, nor by one that runs as a
    /// member, who reads some of them; nor does such an app leave anything in /run. What an app's own file names below
    /// /etc/roundsman is there.
    fn an_app_sees_nothing_of_the_configuration(machine: &Machine) {
        install(machine);
        machine.run("printf 'shop:sesame\\n' > /root/passwords && printf 'a key\\n' > /root/key.pem && mkdir /etc/roundsman/tls");
        machine.run("install -m 400 -o roundsman-session /root/passwords /etc/roundsman/session-passwords");
        machine.run("install -m 400 -o roundsman /root/key.pem /etc/roundsman/tls/");
        machine.write(
            "/etc/roundsman/roundsman.toml",
            "[session]\nlisten = \"127.0.0.1:6379\"\npassword-file = \"/etc/roundsman/session-passwords\"\n",
        );
        start(machine, "secret", "environment = { SECRET = \"file-secret\" }\n");
        machine.run("chown root:roundsman /etc/roundsman/apps/secret.toml && chmod 640 /etc/roundsman/apps/secret.toml");
        machine.run("systemctl daemon-reload && systemctl restart roundsman-session.socket");
        let log_in = "import redis; print(redis.Redis.from_url('redis://shop:sesame@127.0.0.1').incr('n'))";
        assert_eq!(machine.run(&format!("python3 -c \"{log_in}\"")).trim(), "1");

        start(machine, "own", "session = true\n");
        start(machine, "members", "session = true\nuser = \"member\"\nsandbox = \"strict\"\n");
        for name in ["own", "members"] {
            let run = "touch /run/left /run/lock/left 2> /dev/null; touch $RUNTIME_DIRECTORY/own && ls $RUNTIME_DIRECTORY/own";
            let seen = by_app(machine, name, run);
            assert!(seen.ends_with("/own") && !machine.exists("/run/lock/left"), "{name}: {seen}");
            let seen = by_app(machine, name, "id; ls -R /etc/roundsman 2>&1; grep -rs . /etc/roundsman; true");
            assert!(seen.contains("(roundsman-session)"), "{name}: {seen}");
            for secret in ["sesame", "a key", "file-secret", "passwords", "toml"] {
                assert!(!seen.contains(secret), "{name} sees {secret}: {seen}");
            }
        }

        machine.run("mkdir /etc/roundsman/own && echo authority > /etc/roundsman/own/ca.pem");
        machine.run("echo FROM_FILE=variable > /etc/roundsman/own/env && chown -R member /etc/roundsman/own");
        start(
            machine,
            "named",
            "user = \"member\"\nenvironment-files = [\"/etc/roundsman/own/env\"]\n\
             environment = { NODE_EXTRA_CA_CERTS = \"/etc/roundsman/own/ca.pem\" }\n",
        );
        let seen = by_app(machine, "named", "echo $FROM_FILE; cat $NODE_EXTRA_CA_CERTS; find /etc/roundsman -type f | sort");
        assert_eq!(seen, "variable\nauthority\n/etc/roundsman/own/ca.pem\n/etc/roundsman/own/env");

        // As it was documented before: the store says what to do, and does not start.
        machine.run("install -m 640 -g roundsman-session /root/passwords /etc/roundsman/session-passwords");
        let restart = machine.try_run("systemctl restart roundsman-session-store.service");
        assert!(!restart.ok(), "{restart}");
        machine.eventually("the journal says what to do", |machine| {
            machine.run("journalctl -u roundsman-session-store.service").contains(
                "workers of all apps may read it: chown roundsman-session /etc/roundsman/session-passwords && chmod 400 ",
            )
        });
    }
}

on_every_debian! {
    /// Apps without `user` have a user each, which all workers of one share: none reads, signals or
    /// takes the connections of another.
    fn each_app_has_a_user_of_its_own(machine: &Machine) {
        install(machine);
        machine.write("/etc/shop.key", "key-secret\n");
        machine.run("chmod 600 /etc/shop.key");
        start(
            machine,
            "shop",
            "workers = 2\nenvironment = { SECOND_PORT = \"4444\", SECRET = \"file-secret\" }\n\
             credentials = { key = \"/etc/shop.key\" }\n",
        );
        start(machine, "other", "environment = { SECOND_PORT = \"4444\" }\n");
        let process = |instance: &str| machine.property(&service(instance), "MainPID");
        let user = |instance: &str| {
            machine.run(&format!("ps -o uid= -p {}", process(instance))).trim().to_owned()
        };
        assert_eq!(user("shop:1"), user("shop:2"), "one user for all workers of an app");
        assert_ne!(user("shop:1"), user("other:1"), "and another one for another app");
        assert!(user("shop:1").parse::<u32>().expect("a number") > 60_000, "a dynamic one");

        let pid = process("shop:1");
        let child = machine.run(&format!("pgrep -P {pid}")).trim().to_owned();
        for pid in [&pid, &child] {
            let attack = format!(
                "cat /proc/{pid}/environ; cat /proc/{pid}/root/run/credentials/roundsman-worker@shop:1.service/*; \
                 kill -0 {pid} && echo killable; echo tried"
            );
            let said = by_app(machine, "other", &attack);
            assert!(said.contains("tried"), "{said}");
            assert!(!said.contains("secret") && !said.contains("killable"), "{said}");
        }
        // Nor does it become its own main process, which speaks to systemd; or have another service
        // manager; or take the space that systemd needs for units.
        let attack = format!(
            "(: <> /proc/{pid}/mem) && echo taken; ls /run/user && echo seen; \
             head -c 100M /dev/zero > /run/roundsman-workers/shop:1/fill || \
             head -c 100M /dev/zero > /run/roundsman-workers/shop:2/fill; echo tried"
        );
        let said = by_app(machine, "shop", &attack);
        assert!(said.contains("tried"), "{said}");
        assert!(!said.contains("taken") && !said.contains("seen"), "{said}");
        assert!(said.contains("No space left"), "{said}");
        machine.run("head -c 1M /dev/zero > /run/room && rm /run/room /run/roundsman-workers/shop:*/fill");
        let filter = machine.property(&service("shop:1"), "SystemCallFilter");
        assert!(!filter.contains("io_uring"), "{filter}");
        // Workers of one app share a second port, other apps get the usual error.
        let second = |name: &str| {
            let entries = machine.journal(&format!("-t {name}"));
            let said = entries.iter().filter_map(|entry| entry["MESSAGE"].as_str());
            said.filter_map(|text| text.strip_prefix("second port: ")).collect::<Vec<_>>().join(" ")
        };
        machine.eventually("the ports are decided", |_| {
            [second("shop:1"), second("shop:2"), second("other:1")].iter().all(|s| !s.is_empty())
        });
        assert_eq!([second("shop:1"), second("shop:2")], ["listening", "listening"]);
        assert_eq!(second("other:1"), "EADDRINUSE");
    }
}

on_every_debian! {
    /// A deploy by roundsman-watch@ that fails undoes itself as one by hand does, though the watch may
    /// write nowhere else.
    fn rollback_under_watch(machine: &Machine) {
        install(machine);
        machine.run("mkdir -p /srv/web/releases");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/supervised");
        machine.copy_in(&source, "/srv/web/releases/1");
        machine.copy_in(&source, "/srv/web/releases/2");
        machine.write("/srv/web/releases/2/server.js", "process.exit(3);\n");
        machine.run("ln -s releases/1 /srv/web/current");
        machine.write(
            "/etc/roundsman/apps/web.toml",
            &format!(
                "{COMMAND}directory = \"/srv/web/current\"\nworkers = 2\nwatch = true\nrollback = true\n\
                 start-timeout = \"5s\"\n"
            ),
        );
        machine.run("systemctl daemon-reload && systemctl reload roundsman && roundsman start web");
        machine.eventually("it is watched", |machine| {
            machine.property("roundsman-watch@web.service", "ActiveState") == "active"
        });
        machine.run("ln -sfn releases/2 /srv/web/new && mv -T /srv/web/new /srv/web/current");
        machine.eventually("the deploy has failed and undone itself", |machine| {
            let journal = machine.run("journalctl --no-pager -u roundsman-watch@web.service");
            assert!(!journal.contains("Read-only file system"), "{journal}");
            journal.contains("web") && machine.run("readlink /srv/web/current").trim() == "releases/1"
                && journal.contains("fail")
        });
        machine.eventually("all workers run", |machine| {
            (1..=2).all(|n| machine.property(&service(&format!("web:{n}")), "ActiveState") == "active")
        });
    }
}

on_every_debian! {
    /// What `systemd-analyze security` says of each unit, in tenths.
    fn every_unit_is_confined(machine: &Machine) {
        install(machine);
        start(machine, "shop", "watch = true\nrestart-at = \"04:00\"\n");
        start(machine, "strict", "sandbox = \"strict\"\n");
        start(machine, "other", "user = \"stranger\"\n");
        let exposure = |unit: &str| -> f64 {
            let said = machine.run(&format!("systemd-analyze security --no-pager '{unit}'"));
            let line = said.lines().find(|line| line.contains("Overall exposure level")).expect("a result");
            let number = line.split(": ").nth(1).and_then(|rest| rest.split(' ').next());
            number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line}"))
        };
        let found: Vec<(&str, f64, f64)> = [
            ("roundsman-worker@shop:1.service", 3.0),
            ("roundsman-worker@other:1.service", 3.0),
            ("roundsman-worker@strict:1.service", 2.0),
            ("roundsman-watch@shop.service", 3.0),
            ("roundsman-restart@shop.service", 3.0),
            ("roundsman-session-store.service", 1.5),
            // It has no /tmp at all, which counts for less there than one of its own.
            ("roundsman.service", 1.6),
        ]
        .map(|(unit, most)| (unit, exposure(unit), most))
        .to_vec();
        assert!(found.iter().all(|(_, is, most)| is <= most), "{found:#?}");
        for unit in ["roundsman-watch@shop.service", "roundsman-restart@shop.service",
            "roundsman-session-store.service", "roundsman.service"] {
            for limit in ["MemoryMax", "TasksMax"] {
                assert_ne!(machine.property(unit, limit), "infinity", "{limit}= of {unit}");
            }
        }
    }
}
