//! Workers that move from one address to another, because their app's file says so.

use crate::harness::{Clients, Load, Machine, on_every_debian_in_soak};
use crate::shop;

on_every_debian_in_soak! {
    /// Each way of being reached, and back: the front has read the file long before the first worker is
    /// started anew, and sends its requests to where each runs.
    fn workers_move_from_one_address_to_another_without_a_lost_request(machine: &Machine) {
        let ways = [
            ("transport = \"tcp\"\n", "unix:/run/roundsman/workers/shop:1.sock", "127."),
            ("listen = \"port\"\nport = 5000\n", "127.", "127.0.0.1:5000"),
            ("listen = \"port\"\nport = 6000\n", "127.0.0.1:5000", "127.0.0.1:6000"),
            ("", "127.0.0.1:6000", "127."),
            ("transport = \"unix\"\n", "127.", "unix:/run/roundsman/workers/shop:1.sock"),
        ];
        shop::install(machine, 2, ways[4].0);
        let listen = |keys: &str| shop::configure(machine, 2, &format!("{keys}{}", shop::BELIEVED_SOON));
        let change_mode = |keys: &str| shop::configure(machine, 2, keys);
        let move_to = |load: &Load, to: &str| {
            machine.run("roundsman apply");
            load.goes_on_for(50);
            assert_eq!(machine.run("roundsman diff").trim(), "the machine is as the files say");
            let status = machine.run("roundsman status --json");
            assert!(status.contains(&format!("\"address\": \"{to}")), "{to}: {status}");
        };
        let load = machine.load(Clients::new(8, 2).with(1, 1, 0).unhurried());
        load.goes_on_for(50);
        for (keys, from, to) in ways {
            listen(keys);
            machine.run("systemctl reload roundsman");
            load.goes_on_for(50);
            let check = machine.try_run("roundsman check");
            let moves = |text: &str| {
                let from = format!("shop:1 will move from {from}");
                text.lines().any(|line| line.contains(&from) && line.contains(&format!(" to {to}")))
            };
            assert!(check.ok() && moves(&check.stderr), "{check}");
            let diff = machine.try_run("roundsman diff");
            assert!(diff.status.code() == Some(1) && moves(&diff.stdout), "{diff}");
            move_to(&load, to);
        }
        let tally = load.stop();
        println!("workers that moved {} times: {tally}", ways.len());
        tally.assert_nothing_failed();

        // From requests to connections and back: nobody gets what they cannot take. A connection that is
        // kept belongs to its worker while connections are handed on, and ends with it.
        let handed = "unix:/run/roundsman-workers/shop:1/control.sock";
        let modes = [
            ("mode = \"handoff\"\n", handed),
            ("transport = \"tcp\"\n", "127."),
            ("mode = \"handoff\"\n", handed),
            ("transport = \"unix\"\n", ways[4].2),
        ];
        let load = machine.load(Clients::new(0, 4).unhurried());
        for (keys, to) in modes {
            load.goes_on_for(50);
            change_mode(keys);
            machine.run("systemctl reload roundsman");
            let check = machine.try_run("roundsman check");
            assert!(check.stderr.contains("shop:1 will move from "), "{check}");
            move_to(&load, to);
        }
        let tally = load.stop();
        println!("workers of which the mode changed {} times: {tally}", modes.len());
        tally.assert_nothing_failed();

        // Ports that workers take from each other are refused in time.
        listen(ways[1].0);
        machine.run("roundsman apply");
        listen("listen = \"port\"\nport = 5001\n");
        let said = machine.try_run("roundsman apply");
        assert!(!said.ok() && said.stderr.contains("no worker was touched"), "{said}");
        assert_eq!(machine.curl("/"), "one");

        // A crash between a daemon-reload and the deploy: systemd has closed the socket by then.
        listen(ways[0].0);
        machine.run("roundsman apply");
        listen(ways[4].0);
        machine.run("systemctl daemon-reload && systemctl reload roundsman");
        for number in [1, 2] {
            let worker = format!("shop:{number}");
            let before = machine.worker(&worker, "MainPID");
            machine.run(&format!("kill -9 {before}"));
            machine.eventually("the worker is back", |machine| {
                machine.worker(&worker, "MainPID") != before
                    && machine.worker(&worker, "ActiveState") == "active"
            });
            assert_eq!(machine.curl("/"), "one");
        }
        assert_eq!(machine.run("roundsman diff").trim(), "the machine is as the files say");
        let kept = machine.try_run("journalctl --unit roundsman --grep 'cannot keep a copy'");
        assert!(!kept.ok(), "each reload keeps a copy of the files: {kept}");
    }
}
