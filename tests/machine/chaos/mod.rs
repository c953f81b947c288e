//! Chaos as a habit: apps of every kind under load of every kind, and faults at random, alone and in pairs. Each
//! request carries a mark that its answer must show, and is answered as it should be, or was lost as the table of
//! faults says that it may be, or is a finding.
//!
//! `make chaos` runs it for as long as one likes (`CHAOS_SECONDS`, `CHAOS_SEED`, `CHAOS_DEBIAN`; `CHAOS_FIRST` is the
//! first step, `CHAOS_FAULTS` a choice of faults), `make test` a few steps of one seed.

mod client;
mod faults;
mod jobs;
mod load;
mod model;
mod random;
mod request;
mod run;
mod schedule;
mod site;

use std::time::Duration;

use crate::harness::{Debian, Machine, on_every_debian_in_soak};

use request::{Failed, Went};
use run::Run;
use site::Site;

/// What `make test` tries.
const SEED: u64 = 809;
const STEPS: u64 = 6;

on_every_debian_in_soak! {
    /// Some steps without a finding; and then what must be noticed is: an app that answers with another's mark, and
    /// a kill that nobody has announced.
    fn nothing_is_lost_but_what_may_be(machine: &Machine) {
        let mut run = Run::start(Site::start(machine), SEED);
        for number in 0..STEPS {
            run.step(number, &[]);
        }
        run.expect_no_finding();

        let notices = |run: &Run<'_>, what: &str, is_it: fn(&Failed) -> bool| {
            machine.eventually(what, |_| run.unexplained().iter().any(is_it));
        };
        machine.run("curl -s -H 'X-Mark: it' http://127.0.0.1/lie");
        notices(&run, "a lie is noticed", |failed| matches!(failed.went, Went::Wrong(_)));
        let apps = "for n in 1 2 3; do systemctl kill --kill-whom=all -s KILL roundsman-worker@shop:$n; done";
        machine.run(apps);
        notices(&run, "a kill is noticed", |failed| !matches!(failed.went, Went::Wrong(_)));
        run.end();
    }
}

#[test]
#[ignore = "as long as one likes: make chaos"]
fn as_long_as_one_likes() {
    let number = |name: &str, default: u64| {
        let value = std::env::var(name).unwrap_or_default();
        if value.is_empty() { default } else { value.parse().expect("a number") }
    };
    let text = |name: &str| std::env::var(name).unwrap_or_default();
    let debian = if text("CHAOS_DEBIAN") == "bookworm" { Debian::Bookworm } else { Debian::Trixie };
    let only: Vec<String> = text("CHAOS_FAULTS").split_whitespace().map(str::to_owned).collect();
    let time = Duration::from_secs(number("CHAOS_SECONDS", 600));

    let machine = Machine::boot(debian);
    let mut run = Run::start(Site::start(&machine), number("CHAOS_SEED", SEED));
    let mut next = number("CHAOS_FIRST", 0);
    while run.elapsed() < time {
        run.step(next, &only);
        next += 1;
    }
    run.expect_no_finding();
    run.end();
}
