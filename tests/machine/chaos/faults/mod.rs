//! The faults, and what each may cost.

mod deploys;
mod front;
mod resources;
mod scene;
mod store;
mod system;
mod workers;

pub(super) use scene::Scene;

use super::model::Cost;

/// What a fault is about: two about the same thing are no pair, since one would undo the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thing {
    /// The front's process.
    Front,
    /// Files below /etc/roundsman.
    Files,
    /// Releases and the number of workers of the app that has releases.
    Shop,
    /// Workers of a random app.
    Workers,
    Store,
    /// systemd, its bus, its journal.
    System,
    /// What the machine has little of.
    Room,
    Network,
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) costs: Cost,
    pub(super) about: &'static [Thing],
    does: fn(&mut Scene<'_>),
}

/// All of them.
pub(super) const FAULTS: &[Fault] = &{
    const fn fault(
        name: &'static str,
        costs: Cost,
        about: &'static [Thing],
        does: fn(&mut Scene<'_>),
    ) -> Fault {
        Fault { name, costs, about, does }
    }
    use Cost::{Exhausted, Front, Full, Gone, Hung, Nothing, Stopped, Worker};
    use Thing::{Files, Network, Room, Shop, System, Workers};
    const FRONT: &[Thing] = &[Thing::Front];
    const STORE: &[Thing] = &[Thing::Store];
    [
        fault("front-restarted", Nothing, FRONT, front::restart),
        fault("front-restarted-thrice", Nothing, FRONT, front::restart_thrice),
        fault("front-reloaded", Nothing, &[Files], front::reload),
        fault("front-reload-refused", Nothing, &[Files], front::refuse_reload),
        fault("front-stopped", Nothing, FRONT, front::stop),
        fault("front-upgraded", Nothing, &[Thing::Front, Files, System], front::upgrade),
        fault("front-paused", Nothing, FRONT, front::pause),
        fault("front-main-killed", Front, FRONT, front::kill_main),
        fault("front-killed", Front, FRONT, front::kill_child),
        fault("front-earlier-killed", Front, FRONT, front::kill_earlier),
        fault("port-opened-anew", Cost::Closed, FRONT, front::open_anew),
        fault("shim-killed", Worker, &[Workers], workers::kill_shim),
        fault("app-killed", Worker, &[Workers], workers::kill_app),
        fault("worker-killed", Worker, &[Workers], workers::kill_all),
        fault("worker-restarted", Nothing, &[Workers], workers::restart),
        fault("app-restarted", Nothing, &[Workers, Shop], workers::restart_app),
        fault("app-paused", Nothing, &[Workers], workers::pause),
        fault("app-hung", Hung, &[Workers], workers::hang),
        fault("poison", Worker, &[Workers], workers::poison),
        fault("app-stopped", Stopped, &[Workers, Shop], workers::stop),
        fault("deploy", Nothing, &[Shop], deploys::good),
        fault("deploy-slow", Nothing, &[Shop], deploys::slow),
        fault("deploy-broken", Nothing, &[Shop], deploys::broken),
        fault("deploy-crashing", Nothing, &[Shop], deploys::crashing),
        fault("deploy-interrupted", Nothing, &[Shop], deploys::interrupted),
        fault("deploy-killed", Nothing, &[Shop], deploys::killed),
        fault("rollback", Nothing, &[Shop], deploys::roll_back),
        fault("scaled", Nothing, &[Shop, Files], deploys::scale),
        fault("daemon-reload-broken", Nothing, &[Files, System], system::reload_broken),
        fault("daemon-reload-missing", Nothing, &[Files, System, Workers], system::reload_missing),
        fault("daemon-reloads", Nothing, &[System], system::reloads),
        fault("daemon-reexec", Nothing, &[System], system::reexec),
        fault("bus-restarted", Nothing, &[System], system::restart_bus),
        fault("journal-stopped", Nothing, &[System], system::stop_journal),
        fault("journal-paused", Nothing, &[System], system::pause_journal),
        fault("systemd-paused", Nothing, &[System], system::pause_systemd),
        fault("store-restarted", Nothing, STORE, store::restart),
        fault("store-killed", Cost::Store, STORE, store::kill),
        fault("store-paused", Nothing, STORE, store::pause),
        fault("store-full", Full, &[Thing::Store, Room], store::fill),
        fault("descriptors", Exhausted, &[Thing::Front, Room], resources::descriptors),
        fault("ports", Nothing, &[Room, Network], resources::ports),
        fault("tmp-full", Nothing, &[Room], resources::tmp),
        fault("run-full", Nothing, &[Room, Files, Shop, System], resources::run),
        fault("silent-clients", Nothing, &[Network], resources::silent_clients),
        fault("no-network", Gone, &[Network], resources::no_network),
    ]
};

impl PartialEq for Fault {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Fault {
    /// Whether both may be at work at the same time.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        self.about.iter().all(|thing| !other.about.contains(thing))
    }

    /// Has it happen.
    pub(super) fn happen(&self, scene: &mut Scene<'_>) {
        (self.does)(scene);
    }
}

#[test]
fn no_two_faults_have_one_name() {
    let mut names: Vec<_> = FAULTS.iter().map(|fault| fault.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FAULTS.len());
}
