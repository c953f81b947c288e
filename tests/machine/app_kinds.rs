//! Unmodified apps of every kind.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Clients, Machine, on_every_debian, on_every_debian_in_soak};

/// How long it takes at most, in time of the machine, to say that an app cannot run as it is.
const SOON: Duration = Duration::from_secs(3);

/// Starts tests/apps/DIRECTORY; its first answer.
fn start(machine: &Machine, directory: &str, configuration: &str) -> String {
    machine.add_app("app", &format!("tests/apps/{directory}"), configuration);
    machine.start_app("app");
    machine.run("curl --silent --show-error --fail --max-time 40 http://localhost/")
}

const NODE: &str = "command = [\"node\", \"server.js\"]\n";

on_every_debian! {
    /// A plain server is told the port that it asked for, whatever it is really behind.
    fn plain_http_server(machine: &Machine) {
        let answer: Value = serde_json::from_str(&start(machine, "plain", NODE)).expect("JSON");
        assert_eq!(answer["port"], 3232);
        assert!(answer["from"].as_str().expect("text").contains("127."), "{answer}");
    }
}

on_every_debian! {
    /// An Express app sees the client as behind any proxy on the same machine.
    fn express_app(machine: &Machine) {
        let answer: Value = serde_json::from_str(&start(machine, "express", NODE)).expect("JSON");
        assert_eq!(answer["hello"], "express");
        assert_eq!(answer["host"], "localhost");
        assert_eq!(answer["protocol"], "http");
        let body = "x".repeat(50_000);
        machine.write("/tmp/body", &body);
        assert_eq!(machine.run("curl --silent --data-binary @/tmp/body http://localhost/echo"), body);
    }
}

on_every_debian! {
    /// A WebSocket app gets its upgrade, and messages flow both ways.
    fn websocket_app(machine: &Machine) {
        start(machine, "websocket", NODE);
        let said = machine.run("node /srv/app/client.js one two three");
        assert_eq!(said, "one\ntwo\nthree\n");
    }
}

on_every_debian! {
    /// What Node's documentation says of messages to and from a worker holds.
    fn messages_of_a_node_worker(machine: &Machine) {
        let configuration = format!("{NODE}shutdown = \"disconnect\"\n");
        let answer = start(machine, "messages", &configuration);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["isWorker"], true);
        assert_eq!(answer["connected"], true);
        assert_eq!(answer["sent"], true);

        machine.stop_app("app");
        let entries = machine.journal("-u roundsman-worker@app:1.service");
        assert!(
            entries.iter().any(|entry| entry["MESSAGE"] == "disconnect event"),
            "a stop disconnects first: {entries:#?}"
        );
    }
}

/// Asks as a client that has another address than the front.
const AS_CLIENT: &str = "curl --silent --show-error --fail --interface 127.0.0.9 http://127.0.0.1/";

on_every_debian! {
    /// A Python app under gunicorn inherits its listener, and sees its clients, whatever it configures; a user that
    /// exists only while the app runs has a home.
    fn python_app_under_gunicorn(machine: &Machine) {
        let configuration = "command = [\"gunicorn\", \"--workers\", \"1\", \"app:app\"]\nworkers = 2\n";
        let answer = start(machine, "python-fd", configuration);
        assert!(answer.starts_with("hello from python, ") && answer.ends_with("1 by http, /tmp\n"), "{answer}");
        assert!(machine.run(AS_CLIENT).starts_with("hello from python, 127.0.0.9 by http"));
        // A configuration of its own is read, and what it does with requests is done.
        machine.write(
            "/srv/app/gunicorn.conf.py",
            "proc_name = 'ours'\ndef pre_request(worker, req):\n    open('/tmp/seen', 'a').write(req.path)\n\
             def post_fork(server, worker):\n    assert server.proc_name == 'ours'\n",
        );
        machine.run("roundsman reload app --settle 0");
        assert!(machine.run(AS_CLIENT).starts_with("hello from python, 127.0.0.9 by http"));
        let main = machine.worker("app:1", "MainPID");
        machine.eventually("its hook is called", |machine| {
            machine.run(AS_CLIENT);
            machine.try_run(&format!("cat /proc/{main}/root/tmp/seen")).stdout.contains('/')
        });
    }
}

on_every_debian! {
    /// A Python app under uvicorn inherits its listener, and sees its clients.
    fn python_app_under_uvicorn(machine: &Machine) {
        let configuration = "command = [\"uvicorn\", \"--fd\", \"3\", \"app:app\"]\n";
        assert!(start(machine, "python-asgi", configuration).starts_with("hello from asgi, "));
        assert_eq!(machine.run(AS_CLIENT), "hello from asgi, 127.0.0.9 by http\n");
    }
}

on_every_debian_in_soak! {
    /// A program that insists on its port is taken there; one that binds its port on every address has as many
    /// workers as anybody; and what only defines an app gets a server.
    fn programs_are_taken_where_they_listen(machine: &Machine) {
        machine.run("mkdir -p /srv/files /srv/wide /srv/flask /srv/npm && echo hello > /srv/files/index.html");
        machine.write(
            "/srv/files/serve.py",
            "import http.server as h\nh.HTTPServer(('', 8000), h.SimpleHTTPRequestHandler).serve_forever()\n",
        );
        let said = machine.run("cd /srv/files && roundsman start serve.py 2>&1");
        assert!(said.contains("files is taken where it listens"), "{said}");
        assert!(said.contains("files is up: 1 worker behind http://localhost/"), "{said}");
        assert_eq!(machine.curl("/"), "hello\n");
        let file = machine.run("cat /etc/roundsman/apps/files.toml");
        assert!(file.contains("listen = \"port\"\nport = 8000\nsurge = 0\n"), "{file}");
        // No second worker runs beside it, and requests wait while it restarts.
        let load = machine.load(Clients::new(2, 2).unhurried());
        load.goes_on_for(20);
        machine.run("roundsman reload files");
        load.goes_on_for(20);
        load.stop().assert_nothing_failed();
        machine.run("roundsman delete files --yes");

        // Two of it are in each other's way: one is taken there.
        let said = machine.run("cd /srv/files && roundsman start serve.py -n 2 2>&1");
        assert!(said.contains("several workers cannot have a port that files chooses itself"), "{said}");
        assert!(said.contains("files is up: 1 worker behind http://localhost/"), "{said}");
        assert_eq!(machine.curl("/"), "hello\n");
        machine.run("roundsman delete files --yes");
        let (said, took) = machine.timed("cd /srv/files && roundsman start serve.py -n 2 --listen port 2>&1");
        assert!(said.status.code() == Some(1) && said.stdout.contains("or start one worker: -n 1"), "{said}");
        assert!(took < SOON, "{took:?}");

        // Both have the port, and the kernel shares what comes between them.
        machine.write(
            "/srv/files/share.py",
            "import http.server as h, socket\n\
             class S(h.HTTPServer):\n    def server_bind(self):\n        \
             self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n        super().server_bind()\n\
             S(('', 8000), h.SimpleHTTPRequestHandler).serve_forever()\n",
        );
        let (said, took) = machine.timed("cd /srv/files && roundsman start share.py -n 2 --listen port 2>&1");
        assert!(said.status.code() == Some(1) && said.stdout.contains("two cannot have 8000: -n 1"), "{said}");
        assert!(took < SOON + SOON, "{took:?}");

        // The port that they both want is not the one of their server: one alone runs as any other app.
        machine.write(
            "/srv/files/metrics.py",
            "import http.server as h, os, threading, time\n\
             metrics = h.HTTPServer(('', 9100), h.BaseHTTPRequestHandler)\n\
             threading.Thread(target=metrics.serve_forever).start()\n\
             time.sleep(2)\n\
             h.HTTPServer((os.environ['HOST'], int(os.environ['PORT'])), h.SimpleHTTPRequestHandler).serve_forever()\n",
        );
        machine.run("cd /srv/files && roundsman start metrics.py -n 2");
        assert_eq!(machine.curl("/"), "hello\n");
        let file = machine.run("cat /etc/roundsman/apps/files.toml");
        assert!(!file.contains("port ="), "{file}");
        machine.run("roundsman delete files --yes");

        // Of two ports one answers.
        machine.write(
            "/srv/files/console.py",
            "import http.server as h, socket\n\
             console = socket.create_server(('', 7000))\n\
             h.HTTPServer(('', 8000), h.SimpleHTTPRequestHandler).serve_forever()\n",
        );
        let said = machine.run("cd /srv/files && roundsman start console.py 2>&1");
        assert!(said.contains("of its ports 7000 and 8000 only 8000 answers HTTP"), "{said}");
        assert_eq!(machine.curl("/"), "hello\n");
        machine.run("roundsman delete files --yes");

        machine.write(
            "/srv/wide/main.py",
            "import os, http.server as h\n\
             class H(h.BaseHTTPRequestHandler):\n    def do_GET(self):\n        self.send_response(200)\n        \
             self.end_headers()\n        self.wfile.write(os.environ['ROUNDSMAN_WORKER'].encode())\n\
             h.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()\n",
        );
        machine.run("cd /srv/wide && roundsman start main.py -n 2");
        let answers = machine.run("for i in 1 2 3 4 5 6; do curl --silent --fail http://localhost/; echo; done");
        assert!(answers.contains("wide:1") && answers.contains("wide:2"), "{answers}");
        machine.run("roundsman delete wide --yes");

        machine.write(
            "/srv/flask/app.py",
            "from flask import Flask, request\napp = Flask(__name__)\n\
             @app.route('/')\ndef index():\n    return request.remote_addr\n",
        );
        machine.run("cd /srv/flask && roundsman start app.py -n 2");
        assert_eq!(machine.run(AS_CLIENT), "127.0.0.9");
        machine.run("roundsman delete flask --yes");

        machine.write("/srv/npm/package.json", r#"{ "name": "npm", "scripts": { "start": "node index.js" } }"#);
        machine.write("/srv/npm/index.js", "require('http').createServer((q, r) => r.end('npm')).listen(3000);\n");
        machine.run("cd /srv/npm && roundsman start npm -n 2 -- start");
        assert_eq!(machine.curl("/"), "npm");
    }
}

on_every_debian_in_soak! {
    /// What PM2's users type first: every app of their list is started, but for what cannot be, which says why.
    fn a_list_of_pm2s_apps(machine: &Machine) {
        machine.run("useradd alice && useradd stranger && mkdir /srv/site");
        machine.write(
            "/srv/site/ecosystem.config.js",
            "module.exports = { apps: [\n  \
             { name: 'Web', script: 'server.js', instances: 2, exec_mode: 'cluster',\n    \
               env: { DB_PASSWORD: 'x' }, env_production: { STAGE: 'production' } },\n  \
             { name: 'mail-worker', script: 'mail-worker.js' },\n  \
             { name: 'broken', script: 'broken.js' },\n] }\n",
        );
        machine.write(
            "/srv/site/server.js",
            "const { STAGE, USER } = process.env\n\
             require('http').createServer((_, r) => r.end(STAGE + ' as ' + USER)).listen(3000)\n",
        );
        machine.write("/srv/site/mail-worker.js", "setInterval(() => {}, 1000)\n");
        machine.write("/srv/site/broken.js", "require('no-such-module')\n");
        // A folder that has the name of an app is not meant by it.
        machine.run("mkdir /srv/site/web && chown -R alice: /srv/site");
        let web = "curl --silent --show-error --max-time 20 --header 'Host: web.localhost' http://localhost/";

        let said = machine.try_by("stranger", "roundsman start /srv/site/ecosystem.config.js");
        assert!(said.status.code() == Some(77) && said.stderr.contains("is for root alone"), "{said}");
        assert_eq!(machine.run("ls /etc/roundsman/apps"), "");
        for wrong in ["-n 2", "--env A=1", "--only gone"] {
            let said = machine.try_run(&format!("cd /srv/site && roundsman start ecosystem.config.js {wrong}"));
            assert!(!said.ok() && machine.run("ls /etc/roundsman/apps").is_empty(), "{said}");
        }

        let said = machine.try_run("cd /srv/site && roundsman start ecosystem.config.js --env production");
        assert_eq!(said.status.code(), Some(1), "{said}");
        for part in ["Web is up: 2 workers behind http://web.localhost/", "mail-worker is up: 1 worker"] {
            assert!(said.stdout.contains(&part.to_lowercase()), "{said}");
        }
        for part in [
            "broken is not started",
            "Cannot find module 'no-such-module'",
            "/etc/roundsman/apps/broken.toml is removed again",
            "1 of 3 apps of ecosystem.config.js are not started",
        ] {
            assert!(said.stderr.contains(part), "{part}: {said}");
        }
        assert_eq!(machine.run(web), "production as alice");
        assert_eq!(machine.run("ls /etc/roundsman/apps"), "mail-worker.toml\nweb.env\nweb.toml\n");
        assert_eq!(machine.run("stat -c %a /etc/roundsman/apps/web.env"), "600\n");
        let enabled = machine.run("ls /etc/systemd/system/roundsman-apps.target.wants");
        assert_eq!(enabled, "roundsman-app@mail-worker.target\nroundsman-app@web.target\n");

        // Once more, for one: what is there stays, and is started where it was stopped.
        machine.run("roundsman stop web");
        let said = machine.run("cd /srv/site && roundsman start ecosystem.config.js --only web 2>&1");
        assert!(said.contains("web is there already") && !said.contains("mail-worker"), "{said}");
        assert_eq!(machine.run(web), "production as alice");
        // A list in another folder has no part in it.
        machine.run("cp -r /srv/site /srv/other && chown -R alice: /srv/other");
        let said = machine.try_run("cd /srv/other && roundsman start ecosystem.config.js --only web");
        assert!(!said.ok() && said.stderr.contains("there is another app \"web\" already"), "{said}");
    }
}
