//! What a fault is given to work with, and what is noted of it.

use std::time::Duration;

use crate::chaos::load::Load;
use crate::chaos::model::{Cost, Trouble};
use crate::chaos::random::Random;
use crate::chaos::site::{App, Site, within};
use crate::harness::Said;

use super::Fault;

/// One fault in one step.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(super) site: &'a Site<'a>,
    load: &'a Load,
    pub(super) random: Random,
    fault: &'static Fault,
    /// Whether nothing else happens: then each command must end as it should.
    pub(super) is_alone: bool,
    /// When what it costs may have been lost.
    pub(in crate::chaos) troubles: Vec<Trouble>,
    /// What it did, for the report.
    pub(in crate::chaos) notes: Vec<String>,
    /// Commands that ended as they should not.
    pub(in crate::chaos) complaints: Vec<String>,
}

// === impl Scene ===

impl<'a> Scene<'a> {
    pub(in crate::chaos) fn new(
        site: &'a Site<'a>,
        load: &'a Load,
        random: Random,
        fault: &'static Fault,
        is_alone: bool,
    ) -> Self {
        Self {
            site,
            load,
            random,
            fault,
            is_alone,
            troubles: Vec::new(),
            notes: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// Does what costs something: requests that are there meanwhile may suffer as the table says.
    pub(super) fn trouble<T>(
        &mut self,
        app: Option<&'static App>,
        deed: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let Fault { name, costs, .. } = *self.fault;
        assert_ne!(costs, Cost::Nothing, "the table says that {name} costs nothing");
        let from = self.load.elapsed();
        let result = deed(self);
        let (to, app) = (self.load.elapsed(), app.map(|app| app.name));
        self.troubles.push(Trouble { fault: name, cost: costs, app, from, to });
        result
    }

    /// Runs a command, which must end well.
    pub(super) fn run(&mut self, command: &str) -> String {
        let said = self.site.machine.try_run(command);
        self.expect(&said, said.ok());
        said.stdout
    }

    /// Runs a command that is refused with this status.
    pub(super) fn is_refused(&mut self, command: &str, status: i32) {
        let said = self.site.machine.try_run(command);
        self.expect(&said, said.status.code() == Some(status));
    }

    /// Something that must be so, unless something else happens beside it.
    pub(super) fn expect(&mut self, said: &Said, is_so: bool) {
        if !is_so && self.is_alone {
            self.complaints.push(format!("not as it should be: {said}"));
        } else if !is_so {
            self.notes.push(format!("{said}"));
        }
    }

    pub(super) fn note(&mut self, what: impl Into<String>) {
        self.notes.push(what.into());
    }

    /// Some time for things to happen in.
    pub(super) fn rest(&mut self, least: u64, most: u64) {
        std::thread::sleep(Duration::from_millis(self.random.between(least, most)));
    }

    /// Waits until the machine says that it is so.
    pub(super) fn wait_for(&mut self, what: &str, command: &str) {
        const BOUND: Duration = Duration::from_mins(1);
        let machine = &self.site.machine;
        let waited = within(BOUND, || {
            let said = machine.try_run(command);
            if said.ok() { Ok(()) } else { Err(format!("waited in vain for this: {what}: {said}")) }
        });
        if let Err(why) = waited {
            self.complaints.push(why);
        }
    }
}
