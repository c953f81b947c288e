//! Which faults come in which step: the same for the same seed, whatever came before.

use super::faults::{FAULTS, Fault};
use super::random::Random;

/// What happens in one step, all at once.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) number: u64,
    pub(super) faults: Vec<&'static Fault>,
    pub(super) random: Random,
}

/// One step in so many has two faults.
const PAIRS: u64 = 3;

/// The step of this number of a seed. `only` are names of faults, where not all are wanted.
pub(super) fn step(seed: u64, number: u64, only: &[String]) -> Step {
    let mut random = Random::of(seed, number);
    let wanted: Vec<&'static Fault> = FAULTS
        .iter()
        .filter(|fault| only.is_empty() || only.iter().any(|name| name == fault.name))
        .collect();
    assert!(!wanted.is_empty(), "no fault has one of these names: {only:?}");
    let first = *random.one_of(&wanted);
    let mut faults = vec![first];
    let beside: Vec<_> = wanted.into_iter().filter(|other| first.goes_with(other)).collect();
    if random.between(1, PAIRS) == 1 && !beside.is_empty() {
        faults.push(*random.one_of(&beside));
    }
    Step { number, faults, random }
}

#[test]
fn a_step_can_be_had_again() {
    let names = |seed, number| {
        let step = step(seed, number, &[]);
        step.faults.iter().map(|fault| fault.name).collect::<Vec<_>>()
    };
    for number in 0..50 {
        assert_eq!(names(5, number), names(5, number));
    }
    assert!((0..50).any(|number| names(5, number) != names(6, number)));
}

#[test]
fn every_fault_comes_alone_and_in_pairs() {
    for fault in FAULTS {
        for count in [1, 2] {
            let comes = (0..5000).any(|number| {
                let faults = step(1, number, &[]).faults;
                faults.len() == count && faults.iter().any(|other| other.name == fault.name)
            });
            assert!(comes, "{} never comes in a step of {count}", fault.name);
        }
    }
}

#[test]
fn faults_that_are_about_the_same_thing_are_no_pair() {
    for number in 0..2000 {
        if let [one, other] = step(2, number, &[]).faults[..] {
            assert!(one.about.iter().all(|thing| !other.about.contains(thing)), "{number}");
        }
    }
}

#[test]
fn faults_can_be_chosen() {
    let only = [FAULTS[0].name.to_owned()];
    assert!((0..100).all(|number| step(3, number, &only).faults[..] == [&FAULTS[0]][..]));
}
