//! The README's first ten minutes, as it has them.

use std::time::Duration;

use crate::harness::{Clients, Machine, Package, on_every_pristine_debian_in_soak};

/// From `apt install` to served, in time of the machine; what people type takes longer.
const FIRST_ANSWER: Duration = Duration::from_mins(1);

/// The README.
const README: &str = include_str!("../../README.md");

/// The fenced block of this kind after the heading, the last one with `last`.
fn block(kind: &str, last: bool) -> &'static str {
    let section = README.split("## The first ten minutes\n").nth(1).expect("it has the section");
    let section = section.split("\n## ").next().expect("it ends somewhere");
    let fence = format!("```{kind}\n");
    let mut blocks = section.split(fence.as_str()).skip(1);
    let block = if last { blocks.last() } else { blocks.next() };
    block.expect("it has the block").split("```").next().expect("it has an end")
}

on_every_pristine_debian_in_soak! {
    /// A machine without Roundsman, and an unmodified Express app: from `apt install` to served within a minute;
    /// then scaled, deployed, rolled back, and its logs read, by the README's six commands, while clients ask.
    fn the_first_ten_minutes(machine: &Machine) {
        for release in ["1", "2"] {
            // What `npm init -y` writes; express is where npm would have put it for all of /srv.
            let code = block("js", false).replace("release 1", &format!("release {release}"));
            machine.write(&format!("/srv/shop/releases/{release}/server.js"), &code);
            machine.write(
                &format!("/srv/shop/releases/{release}/package.json"),
                &format!(
                    r#"{{ "name": "{release}", "version": "1.0.0", "main": "server.js",
                       "scripts": {{ "start": "node server.js" }}, "license": "ISC",
                       "dependencies": {{ "express": "^5.1.0" }} }}"#
                ),
            );
        }
        let commands: Vec<&str> =
            block("console", true).lines().filter_map(|line| line.strip_prefix("# ")).collect();
        assert!(commands.len() <= 6, "{commands:?}");
        let answers = |release: &str| {
            assert_eq!(machine.curl("/"), format!("Hello from release {release}\n"));
        };

        let package = machine.bring(&Package::built());
        let mut took = Duration::ZERO;
        let mut typed = |command: &str| {
            let (said, time) = machine.timed(command);
            println!("{:5.1} s  {command}", time.as_secs_f64());
            took += time;
            said.expect_ok()
        };
        // Who has installed it and asks before there is an app is told what to type.
        typed(&format!("apt-get install -y {package}"));
        let page = typed("curl --silent http://localhost/");
        assert!(page.contains("roundsman start"), "{page}");
        let status = typed("roundsman status");
        assert!(status.contains("roundsman start"), "{status}");

        typed(commands[0]);
        let said = typed(commands[1]);
        assert!(said.contains("2 workers behind http://localhost/"), "{said}");
        assert_eq!(typed("curl --silent http://localhost/"), "Hello from release 1\n");
        println!("{:5.1} s  from `apt install` to served", took.as_secs_f64());
        assert!(took < FIRST_ANSWER, "{took:?}");
        let load = machine.load(Clients::new(8, 4).unhurried());
        load.goes_on_for(100);
        machine.run(commands[2]);
        assert_eq!(machine.run("roundsman status").matches("shop:").count(), 4);
        machine.run(commands[3]);
        answers("2");
        machine.run(commands[4]);
        answers("1");
        let logs = machine.run(commands[5]);
        assert!(logs.contains("shop:1") && logs.contains("shop:4"), "{logs}");
        load.goes_on_for(100);
        let tally = load.stop();
        println!("the README's first ten minutes: {tally}");
        tally.assert_nothing_failed();
    }
}
