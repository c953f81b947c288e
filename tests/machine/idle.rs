//! What the parts of Roundsman do while nobody asks for anything: next to nothing.

use std::thread::sleep;
use std::time::Duration;

use crate::harness::{Machine, on_every_debian_in_soak};

/// How long it is looked.
const LOOK: Duration = Duration::from_secs(20);

/// How often the threads of a process have gone to sleep, each time after something had woken them.
fn naps(machine: &Machine, process: &str) -> u64 {
    let sum = format!(
        "awk '/^voluntary_ctxt_switches/ {{ sum += $2 }} END {{ print sum }}' /proc/{process}/task/*/status"
    );
    machine.run(&sum).trim().parse().expect("a number")
}

on_every_debian_in_soak! {
    /// The figures are printed. They are wake-ups, not times: a busy machine has no more of them.
    fn idle_costs_next_to_nothing(machine: &Machine) {
        machine.start_hello(4);
        machine.run("systemctl start roundsman-session-store.service");
        let main = |unit: &str| machine.property(unit, "MainPID");
        let shims: Vec<_> =
            (1..=4).map(|n| main(&format!("roundsman-worker@hello:{n}.service"))).collect();
        let (front, store) = (machine.front_process(), main("roundsman-session-store.service"));
        let all = || {
            let shims = shims.iter().map(|shim| naps(machine, shim)).sum::<u64>();
            [naps(machine, &front.to_string()), naps(machine, &store), shims]
        };
        // Of what its start has read of the program a shim keeps little.
        for shim in &shims {
            let kib = |field: &str| {
                let command = format!("awk '/^{field}:/ {{ print $2 }}' /proc/{shim}/status");
                machine.run(&command).trim().parse::<u64>().expect("a number")
            };
            let (now, most) = (kib("VmRSS"), kib("VmHWM"));
            println!("a shim has {now} KiB resident, and had {most}");
            // What it does afterwards brings some of it back, in a debug build more.
            assert!(now * 3 < most * 2, "{now} of {most}");
        }
        machine.eventually_within(4, "it comes to rest", |_| {
            let before = all();
            sleep(LOOK);
            let woken: Vec<_> = all().iter().zip(before).map(|(now, before)| now - before).collect();
            let each = |count: u64, of: u64| count as f64 / (of as f64 * LOOK.as_secs_f64());
            println!(
                "wake-ups a second at rest: front {:.2}, session store {:.2}, each shim {:.2}",
                each(woken[0], 1), each(woken[1], 1), each(woken[2], 4)
            );
            // Two a second; the watchdog's; a question and its answer in ten seconds, for which the clock
            // of the runtime takes four.
            let most = [2 * 20, 8, 4 * 12];
            woken.iter().zip(most).all(|(woken, most)| *woken <= most)
        });
    }
}
