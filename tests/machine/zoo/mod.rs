//! A zoo: programs as npm, PyPI and Debian have them, each started as its own documentation says, with two
//! workers, under load, with a deploy and a `kill -9`. It runs and loses nothing, or it is refused with a sentence
//! that says what to type.
//!
//! `programs.rs` says which, `fetch` gets them. `make test` tries a few, `make zoo` all, on both Debians, and writes
//! docs/programs.md.

mod keeper;
mod page;
mod programs;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::keeper::Outcome;
use self::programs::{FEW, PROGRAMS, Program};
use crate::harness::{Debian, Machine, Under};

/// How many are tried at a time on one machine.
const AT_ONCE: usize = 3;

/// A few of them, of different kinds.
#[test]
fn a_few_programs_run_or_say_why_not() {
    let few: Vec<&Program> = PROGRAMS.iter().filter(|program| FEW.contains(&program.app)).collect();
    assert_eq!(few.len(), FEW.len());
    expect_all_as_expected(&visit(Debian::Trixie, &few, Under::Nothing));
}

/// All, or those that `ROUNDSMAN_ZOO` names.
mod every_program_runs_or_says_why_not {
    use super::*;

    fn scenario(debian: Debian) {
        let names = std::env::var("ROUNDSMAN_ZOO").unwrap_or_default();
        let is_named = |program: &&Program| {
            names.is_empty() || names.split(',').any(|name| name == program.app)
        };
        let programs: Vec<&Program> = PROGRAMS.iter().filter(is_named).collect();
        let outcomes = visit(debian, &programs, Under::Debian);
        page::write(debian, &outcomes);
        expect_all_as_expected(&outcomes);
    }

    #[test]
    #[ignore = "minutes by itself: make zoo"]
    fn bookworm() {
        scenario(Debian::Bookworm);
    }

    #[test]
    #[ignore = "minutes by itself: make zoo"]
    fn trixie() {
        scenario(Debian::Trixie);
    }
}

/// Tries programs on one machine; what has become of each.
fn visit(debian: Debian, programs: &[&Program], under: Under) -> Vec<(Program, Outcome)> {
    let folders: BTreeSet<&str> = programs.iter().map(|program| program.folder).collect();
    let machine =
        &Machine::boot_with_programs(debian, &folders.into_iter().collect::<Vec<_>>(), under);
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(programs.len()) {
            scope.spawn(|| {
                while let Some(program) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = keeper::try_out(machine, program);
                    println!("{}: {outcome}", program.app);
                    outcomes.lock().expect("no lane panics").push((**program, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().expect("no lane panics");
    outcomes.sort_by_key(|(tried, _)| PROGRAMS.iter().position(|one| one.app == tried.app));
    outcomes
}

#[track_caller]
fn expect_all_as_expected(outcomes: &[(Program, Outcome)]) {
    let wrong: Vec<String> = outcomes
        .iter()
        .filter_map(|(program, outcome)| Some(format!("=== {}\n{}", program.app, outcome.wrong()?)))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), outcomes.len(), wrong.join("\n"));
}
