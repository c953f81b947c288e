//! Balancing on a whole machine: what the commands say about it, and servers by name.

use crate::harness::{Machine, on_every_debian_in_soak};

/// The worker that `roundsman explain` names for a user, and the one that answers him.
fn explained_and_real(machine: &Machine, user: &str) -> (String, String) {
    let explain = format!("roundsman explain --host shop --path / --header x-user:{user} --json");
    let explained: serde_json::Value =
        serde_json::from_str(&machine.run(&explain)).expect("it is JSON");
    let server = explained["server"].as_str().unwrap_or_else(|| panic!("{explained}"));
    let number = server.strip_prefix("hello:").expect("a worker");
    let reply = machine.run(&format!("curl -fsS -H 'X-User: {user}' http://localhost/"));
    (format!("Hello from worker {number}"), reply.split(',').next().unwrap_or("").to_owned())
}

on_every_debian_in_soak! {
    /// `roundsman explain` names the worker that then answers, also while one is stopped.
    fn explain_says_who_answers(machine: &Machine) {
        let hash = "command = [\"node\", \"server.js\"]\nworkers = 3\nbalance = \"hash\"\n\
                    hash = { on = \"header:x-user\" }\n";
        machine.add_app("hello", "examples/hello", hash);
        machine.start_app("hello");
        let agree = || {
            for user in 1..=12 {
                let (explained, real) = explained_and_real(machine, &format!("user{user}"));
                assert_eq!(explained, real, "user {user}");
            }
        };
        agree();
        machine.run("systemctl stop roundsman-worker@hello:2.service");
        let text = machine.run("roundsman explain --host shop --ip 192.0.2.1");
        assert!(text.contains("hello:2 is down"), "{text}");
        agree();
        let nobody = machine.run("roundsman explain --host shop --header x-user:a --config /etc/roundsman");
        assert!(nobody.contains("hello:2 is up"), "from the files alone: {nobody}");
    }
}

on_every_debian_in_soak! {
    /// A server by name under the unit's own sandbox: /etc/hosts says where it is, and a change of it
    /// is followed without a reload and told in the journal.
    fn a_server_by_name_follows_the_hosts_file(machine: &Machine) {
        machine.start_hello(2);
        let address = |number: u32| {
            let unit = format!("roundsman-worker@hello:{number}.socket");
            let listen = machine.property(&unit, "Listen");
            listen.split(' ').next().expect("an address").to_owned()
        };
        let (first, second) = (address(1), address(2));
        let (ip, port) = first.rsplit_once(':').expect("a port");
        let hosts = |ip: &str| machine.run(&format!(
            "grep -v by-name.internal /etc/hosts > /tmp/hosts; echo '{ip} by-name.internal' >> /tmp/hosts; \
             cat /tmp/hosts > /etc/hosts"
        ));
        hosts(ip);
        machine.write("/etc/roundsman/upstreams/named.toml", &format!(
            "servers = [{{ address = \"dns:by-name.internal:{port}\" }}]\nroute = [{{ host = \"named.example\" }}]\n"
        ));
        machine.run("systemctl reload roundsman");
        let ask = "curl -fsS -H 'Host: named.example' http://localhost/";
        assert!(machine.run(ask).starts_with("Hello from worker 1,"));

        hosts(second.rsplit_once(':').expect("a port").0);
        machine.eventually("the change is followed", |machine| {
            machine.run(ask).starts_with("Hello from worker 2,")
        });
        let told = machine.events("DNS_CHANGED");
        let text = told.last().and_then(|entry| entry["MESSAGE"].as_str()).expect("an entry");
        assert!(text.contains(&format!("new: {second}")), "{text}");
        assert_eq!(told[0]["ROUNDSMAN_SERVER"], format!("dns:by-name.internal:{port}"));
    }
}
