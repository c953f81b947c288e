//! Unmodified apps of every kind.

use serde_json::Value;

use crate::harness::{Machine, on_every_debian};

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
        let answer: Value = serde_json::from_str(&start(machine, "messages", NODE)).expect("JSON");
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
