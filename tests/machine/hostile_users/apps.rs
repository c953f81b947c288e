//! What an app may put at the paths where it is spoken to, and whom that leads astray.

use crate::harness::{Machine, on_every_debian, on_every_debian_in_soak};

/// It is its own control socket: it says a byte now and then, and speaks as another app's worker.
const LIAR: &str = "const net = require('node:net'), fs = require('node:fs'), path = require('node:path');\n\
    require('node:http').createServer((_, r) => r.end('liar')).listen(process.env.SOCKET);\n\
    const control = path.join(path.dirname(process.env.SOCKET), 'control.sock');\n\
    const event = (worker, message) => JSON.stringify({ at: 0, event: 'message', message, worker }) + '\\n';\n\
    fs.unlinkSync(control);\n\
    net.createServer((client) => {\n\
      client.on('error', () => {});\n\
      client.once('data', (data) => {\n\
        if (!String(data).startsWith('events')) setInterval(() => client.write('x'), 300);\n\
        else client.write(event('shop:1', 'forged') + event('liar:1', 'honest'));\n\
      });\n\
    }).listen(control);\n";

fn of_liar(machine: &Machine, arguments: &str) -> String {
    machine.run(&format!(
        "curl --silent --max-time 40 --output /dev/null --write-out '%{http_code}' \
         --header 'Host: liar.example' {arguments}",
        http_code = "{http_code}"
    ))
}

on_every_debian_in_soak! {
    /// An app that is slow on purpose keeps no command of root's, and hides no other app; it speaks for
    /// itself alone; and its clients command nothing through the front.
    fn an_app_deceives_neither_root_nor_the_front(machine: &Machine) {
        machine.add_app("shop", "tests/apps", "command = [\"node\", \"echo-messages.js\"]\n");
        machine.write("/srv/liar/liar.js", LIAR);
        machine.write(
            "/etc/roundsman/apps/liar.toml",
            "command = [\"node\", \"liar.js\"]\ndirectory = \"/srv/liar\"\nlisten = \"unix\"\n\
             workers = 3\nroute = [{ host = \"liar.example\" }]\n",
        );
        machine.run(
            "roundsman apply && systemctl start roundsman-app@shop.target roundsman-app@liar.target",
        );
        let liar = "http://localhost/";
        machine.eventually("both are served", |machine| {
            machine.curl("/") == "ok" && of_liar(machine, liar) == "200"
        });

        for command in ["status", "describe liar", "diff"] {
            let said = machine.try_run(&format!("timeout 15 roundsman {command}"));
            assert_ne!(said.status.code(), Some(124), "{command} is kept waiting: {said}");
            assert!(command == "diff" || said.stdout.contains("liar"), "{command}: {said}");
        }
        let said = machine.try_run("timeout 15 roundsman send liar:1 1");
        assert!(!said.ok() && said.stderr.contains("in time"), "{said}");

        let said = machine.try_run("timeout 5 roundsman events --json");
        assert!(said.stdout.contains("honest") && !said.stdout.contains("forged"), "{said}");

        // The front may speak to the admin socket; its clients may not.
        for number in 1..=3 {
            let socket = format!("/run/roundsman-workers/liar:{number}/http.sock");
            machine.run(&format!("rm {socket} && ln -s /run/roundsman/admin.sock {socket}"));
        }
        machine.run("systemctl restart roundsman.service");
        let drain = "--data '{\"target\": \"shop\", \"hold\": true}' http://localhost/v1/drain";
        for call in ["http://localhost/v1/status", drain] {
            let code = of_liar(machine, call);
            assert!(code.starts_with('5'), "{call}: {code}");
        }
        assert_eq!(machine.curl("/"), "ok", "shop is not drained");
        machine.run("systemctl reload roundsman.service");
    }
}

on_every_debian_in_soak! {
    /// With `listen = "port"` the address is there for everybody to take: whose listener it is decides.
    fn a_strangers_listener_is_not_an_apps_server(machine: &Machine) {
        const UNIT: &str = "'roundsman-worker@web:1.service'";
        machine.add_app(
            "web",
            "tests/apps",
            "command = [\"python3\", \"binds.py\"]\nlisten = \"port\"\nstart-timeout = \"10s\"\n\
             workers = 2\nroute = [{ host = \"web.example\" }]\n",
        );
        let started = machine.try_run("roundsman start web");
        assert!(started.ok(), "{started}");
        let ask = "curl --silent --max-time 5 --header 'Host: web.example' http://localhost/";
        assert_eq!(machine.run(ask), "python");
        let journal = format!("journalctl --no-pager --output cat --unit {UNIT}");
        let served = machine.run(&format!("{journal} | grep -o '127[0-9.]*:[0-9]*' | tail -1"));
        let (ip, port) = served.trim().split_once(':').expect("an address");

        machine.run(&format!("systemctl stop {UNIT}"));
        machine.run(&format!(
            "systemd-run --quiet --unit thief --property User=nobody python3 -m http.server --bind {ip} {port}"
        ));
        machine.eventually("the thief listens", |machine| {
            machine.try_run(&format!("curl --silent --max-time 2 http://{ip}:{port}/")).ok()
        });
        let said = machine.try_run(&format!("systemctl start {UNIT}"));
        assert!(!said.ok(), "{said}");
        let told = machine.run(&journal);
        assert!(told.contains("a process of user 65534 listens on"), "{told}");
        for _ in 0..20 {
            assert_eq!(machine.run(ask), "python");
        }
        machine.run("systemctl stop thief");
        machine.eventually("the app has its address back", |machine| {
            machine.property("roundsman-worker@web:1.service", "ActiveState") == "active"
        });
        // It has been looked at many times since it began.
        assert_eq!(machine.property("roundsman-worker@web:2.service", "NRestarts"), "0");
    }
}

on_every_debian! {
    /// Nobody gets what was meant for a worker, in the moment in which neither its main process nor
    /// systemd has noticed that the app does not listen any more: a main process that stands still
    /// makes the moment as long as the test needs. The front finds it out by itself.
    fn nobody_is_served_in_the_place_of_a_worker(machine: &Machine) {
        const UNIT: &str = "roundsman-worker@web:1.service";
        machine.run("useradd owner");
        machine.add_app(
            "web",
            "tests/apps",
            "command = [\"python3\", \"binds.py\", \"briefly\", \"/run/closes\"]\nlisten = \"port\"\n\
             user = \"owner\"\nworkers = 1\nwatchdog = \"10min\"\nroute = [{ host = \"web.example\" }]\n",
        );
        let started = machine.try_run("roundsman start web");
        assert!(started.ok(), "{started}");
        let ask = "curl --silent --max-time 5 --header 'Host: web.example' http://localhost/";
        assert_eq!(machine.run(ask), "python");
        let journal = format!("journalctl --no-pager --output cat --unit '{UNIT}'");
        let served = machine.run(&format!("{journal} | grep -o '127[0-9.]*:[0-9]*' | tail -1"));
        let (ip, port) = served.trim().split_once(':').expect("an address");
        let pid = machine.property(UNIT, "MainPID");
        machine.run(&format!("kill -STOP {pid} && touch /run/closes"));
        machine.eventually("the app has closed its listener", |machine| {
            !machine.try_run(&format!("curl --silent --max-time 2 http://{ip}:{port}/")).ok()
        });

        // A stranger; and a process of the app's own user, in another unit.
        for thief in ["nobody", "owner"] {
            machine.run(&format!(
                "systemd-run --quiet --unit thief-{thief} --uid {thief} \
                 python3 -u -m http.server --bind {ip} {port}"
            ));
            let heard = || {
                machine.run(&format!("journalctl --no-pager --output cat --unit thief-{thief}"))
            };
            machine.eventually("the thief listens", |_| heard().contains("Serving HTTP"));
            for _ in 0..10 {
                let said = machine.try_run(ask).stdout;
                assert!(!said.contains("Directory listing"), "{thief} has answered");
            }
            assert!(!heard().contains("GET"), "{thief} has got a request: {}", heard());
            machine.run(&format!("systemctl stop thief-{thief}"));
        }
        let told = machine.run("journalctl --no-pager --output cat --unit roundsman.service");
        assert!(told.contains("what listens there is no process of this worker"), "{told}");

        machine.run(&format!("rm /run/closes && kill -CONT {pid} && systemctl restart '{UNIT}'"));
        assert_eq!(machine.run(ask), "python", "the worker's own");
    }
}
