//! A run: step after step, each with its faults, until all is well again; and what was found.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::faults::{FAULTS, Scene};
use super::load::Load;
use super::model::{Trouble, explain};
use super::request::Failed;
use super::schedule::{Step, step};
use super::site::{CLIENTS, Site, within};

/// After this time at the latest everything is as it was before the faults.
const BOUND: Duration = Duration::from_mins(1);

/// By how much the front and the store may grow after the first steps: this many times, and so much more.
const GROWTH: u64 = 2;
const MORE: u64 = 64;
const MORE_FILES: u64 = 300;

/// Of more findings in one step only these are shown.
const SHOWN: usize = 20;

/// A run under way.
#[derive(Debug)]
pub(super) struct Run<'a> {
    site: Site<'a>,
    load: Load,
    seed: u64,
    /// All faults so far that cost something.
    troubles: Vec<Trouble>,
    /// What nothing explains.
    findings: Vec<String>,
    rows: BTreeMap<&'static str, Row>,
    /// Memory and open files of the front and the store after the first step.
    sizes: Option<[(u64, u64); 2]>,
}

/// What came of one fault.
#[derive(Debug, Default)]
struct Row {
    runs: u64,
    in_pairs: u64,
    /// Requests that failed as it may cost.
    lost: u64,
    findings: u64,
}

// === impl Run ===

impl<'a> Run<'a> {
    /// Sets all clients to work.
    pub(super) fn start(site: Site<'a>, seed: u64) -> Self {
        let queue = site.machine.host_path("/srv/queue");
        let load = Load::start(site.machine.network(), &queue, seed, CLIENTS);
        let mut run = Self {
            site,
            load,
            seed,
            troubles: Vec::new(),
            findings: Vec::new(),
            rows: FAULTS.iter().map(|fault| (fault.name, Row::default())).collect(),
            sizes: None,
        };
        run.everybody_is_answered("at the beginning");
        run
    }

    /// The step of this number, of faults with these names (or any).
    pub(super) fn step(&mut self, number: u64, only: &[String]) {
        let Step { number, faults, random } = step(self.seed, number, only);
        let (began, known) = (Instant::now(), self.findings.len());
        let now = self.site.machine.try_run("date +%s").stdout;
        self.load.take_slowest();
        let mut scenes: Vec<Scene<'_>> = Vec::new();
        std::thread::scope(|scope| {
            let happen = |(at, fault)| {
                let random = random.part(at as u64);
                let is_alone = faults.len() == 1;
                let mut scene = Scene::new(&self.site, &self.load, random, fault, is_alone);
                scope.spawn(move || {
                    fault.happen(&mut scene);
                    scene
                })
            };
            let at_work: Vec<_> = faults.iter().copied().enumerate().map(happen).collect();
            scenes
                .extend(at_work.into_iter().map(|one| one.join().expect("a fault does not panic")));
        });
        let did = began.elapsed();
        let mut told = Vec::new();
        let mut complaints = Vec::new();
        for (scene, fault) in scenes.iter_mut().zip(&faults) {
            self.troubles.append(&mut scene.troubles);
            complaints.append(&mut scene.complaints);
            told.push(format!("{} ({})", fault.name, scene.notes.join("; ")));
        }
        drop(scenes);
        let what = format!("step {number} of seed {}: {}", self.seed, told.join(" + "));
        self.findings
            .extend(complaints.into_iter().map(|complaint| format!("{what}: {complaint}")));

        let back = match within(BOUND, || self.site.is_well()) {
            Ok(took) => format!("back after {took:.1?}"),
            Err(why) => {
                self.findings.push(format!("{what}: not back after {BOUND:?}: {why}"));
                "not back".to_owned()
            }
        };
        self.everybody_is_answered(&what);
        let lost = self.judge(&what);
        let sizes = self.has_not_grown(&what);
        self.nobody_has_panicked(&what, now.trim());
        let slowest = self.load.take_slowest();
        println!(
            "CHAOS {what}: {did:.1?}, {back}, {lost} lost as may be, slowest {slowest:.1?}, {sizes}"
        );
        let new = self.findings.len() - known;
        for fault in &faults {
            let row = self.rows.get_mut(fault.name).expect("every fault has one");
            row.runs += 1;
            row.in_pairs += u64::from(faults.len() > 1);
            row.findings += new as u64;
        }
        if new > 0 {
            self.tell_of_findings(known, now.trim());
        }
    }

    /// Every client is answered once more.
    fn everybody_is_answered(&mut self, what: &str) {
        let before = self.load.right();
        let waited = within(BOUND, || {
            let waiting = self.load.waiting_since(&before);
            if waiting.is_empty() { Ok(()) } else { Err(format!("{waiting:?}")) }
        });
        if let Err(who) = waited {
            self.findings.push(format!("{what}: these were not answered for {BOUND:?}: {who}"));
        }
    }

    /// How many requests have failed as they may; the others are findings.
    fn judge(&mut self, what: &str) -> u64 {
        let mut lost = 0;
        for failed in self.load.take_failed() {
            match explain(&failed.request, &failed.went, &self.troubles) {
                Some(fault) => {
                    lost += 1;
                    self.rows.get_mut(fault).expect("every fault has a row").lost += 1;
                }
                None => self.findings.push(format!("{what}: {failed}")),
            }
        }
        lost
    }

    fn has_not_grown(&mut self, what: &str) -> String {
        let now = self.site.sizes();
        let first = *self.sizes.get_or_insert(now);
        for (name, ((memory, files), (first, first_files))) in
            ["front", "store"].into_iter().zip(now.into_iter().zip(first))
        {
            if memory > first * GROWTH + MORE || files > first_files + MORE_FILES {
                self.findings.push(format!(
                    "{what}: the {name} has grown from {first} MiB and {first_files} files to {memory} and {files}"
                ));
            }
        }
        let [(front, files), (store, _)] = now;
        format!("front {front} MiB and {files} files, store {store} MiB")
    }

    fn nobody_has_panicked(&mut self, what: &str, since: &str) {
        let said = self.site.machine.try_run(&format!(
            "journalctl --no-pager -o cat --since @{since} | grep -A3 'panicked at' | head -n 20"
        ));
        if !said.stdout.is_empty() {
            self.findings.push(format!("{what}: {}", said.stdout));
        }
    }

    fn tell_of_findings(&self, known: usize, since: &str) {
        let new = &self.findings[known..];
        println!("FOUND {} in this step", new.len());
        new.iter().take(SHOWN).for_each(|finding| println!("FOUND {finding}"));
        println!("TROUBLES {:#?}", self.troubles.iter().rev().take(3).collect::<Vec<_>>());
        let journal =
            format!("journalctl --no-pager -o short-precise --since @{since} | tail -n 250");
        println!("JOURNAL\n{}", self.site.machine.try_run(&journal).stdout);
    }

    /// What nothing explains of what has failed by now.
    pub(super) fn unexplained(&self) -> Vec<Failed> {
        let mut failed = self.load.take_failed();
        failed.retain(|failed| explain(&failed.request, &failed.went, &self.troubles).is_none());
        failed
    }

    /// The time since the clients began.
    pub(super) fn elapsed(&self) -> Duration {
        self.load.elapsed()
    }

    /// Prints the table, and fails if there is anything that nothing explains.
    #[track_caller]
    pub(super) fn expect_no_finding(&self) {
        println!("TABLE | fault | times | of them in pairs | requests lost as may be | findings |");
        println!("TABLE | --- | ---: | ---: | ---: | ---: |");
        for (name, Row { runs, in_pairs, lost, findings }) in &self.rows {
            if *runs > 0 {
                println!("TABLE | {name} | {runs} | {in_pairs} | {lost} | {findings} |");
            }
        }
        let answers: u64 = self.load.right().iter().sum();
        println!(
            "{answers} requests were answered as they should be, in {:.0?}",
            self.load.elapsed()
        );
        assert!(
            self.findings.is_empty(),
            "{} findings:\n{}",
            self.findings.len(),
            self.findings.join("\n")
        );
    }

    /// Ends the clients.
    pub(super) fn end(self) {
        self.load.stop();
    }
}
