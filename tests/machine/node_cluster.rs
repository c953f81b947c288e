//! What the workers of a Node app have in common, as units with a sandbox.

use crate::harness::{Machine, on_every_debian_in_soak};

const APP: &str = "command = [\"node\", \"in-common.js\", \"9100\", \"/srv/common/a.sock\", \"/srv/common/trace\"]\n\
    workers = 2\nuser = \"deploy\"\nenvironment.PORT = \"3000\"\n";

on_every_debian_in_soak! {
    /// One socket for each further server of an app, whoever of its workers comes and goes; and an app's own
    /// handler of SIGTERM runs at a stop.
    fn workers_have_their_further_servers_in_common(machine: &Machine) {
        machine.run("useradd --system deploy && mkdir /srv/common && chown deploy: /srv/common");
        machine.add_app("shop", "tests/apps", APP);
        machine.start_app("shop");
        let metrics = || machine.run("curl -s http://127.0.0.1:9100/");
        let path = || machine.run("curl -s --unix-socket /srv/common/a.sock http://localhost/");
        let listeners = || machine.run("grep -c ':238C 00000000:0000 0A' /proc/net/tcp");
        assert_eq!(listeners().trim(), "1", "one socket for both");
        assert!(metrics().starts_with("shop:") && path().starts_with("shop:"));

        machine.run("systemctl restart roundsman-worker@shop:1.service");
        assert_eq!(machine.run("cat /srv/common/trace"), "shop:1\n");
        machine.run("systemctl stop roundsman-worker@shop:2.service");
        assert_eq!((metrics().as_str(), path().as_str(), listeners().trim()), ("shop:1", "shop:1", "1"));
        machine.stop_app("shop");
        assert_eq!(machine.run("cat /srv/common/trace"), "shop:1\nshop:2\nshop:1\n");
        assert!(!machine.exists("/srv/common/a.sock"), "it goes with the last of them");

        // What is killed cannot take it away, and is in nobody's way.
        machine.start_app("shop");
        machine.run("systemctl kill --kill-whom=all --signal=KILL 'roundsman-worker@shop:*.service'");
        machine.eventually("the servers to be back", |machine| {
            machine.try_run("curl -sf --unix-socket /srv/common/a.sock http://localhost/").ok()
                && machine.try_run("curl -sf http://127.0.0.1:9100/").ok()
        });
    }
}
