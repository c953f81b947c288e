//! The health of all servers of one upstream: each has its machine, together they have limits.

use tokio::time::Instant;

use super::machine::{Event, Machine, Options, Transition};
use super::outlier::{Tally, Window, is_outlier};
use crate::balance::{Counts, State};
use crate::balance::{Status, Verdict};
use crate::config::settings::Passive;

/// The health of the servers of one upstream.
#[derive(Debug)]
pub struct Group {
    passive: Passive,
    members: Vec<Member>,
}

/// One of them.
#[derive(Debug, Clone)]
struct Member {
    /// [`crate::balance::Server::id`].
    id: u32,
    machine: Machine,
    window: Window,
    state: State,
    backup: bool,
    counts: Counts,
}

impl Member {
    /// Takes in what was counted so far; what of it is new.
    fn take_in(&mut self, counts: Counts, now: Instant) -> Counts {
        let news = counts.since(&std::mem::replace(&mut self.counts, counts));
        let tally =
            Tally { finished: news.answered + news.failures, bad: news.errors + news.failures };
        if tally.finished > 0 {
            self.window.add(tally, now);
        }
        news
    }
}

/// What can be seen of a server at some moment.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    /// The state that systemd or the administrator gave it.
    pub state: State,
    /// Whether it is a backup.
    pub backup: bool,
    /// What was counted so far.
    pub counts: Counts,
}

// === impl Group ===

impl Group {
    /// A group without servers.
    pub fn new(passive: Passive) -> Self {
        Self { passive, members: Vec::new() }
    }

    /// Makes these its servers, by id; what is known of those that stay, stays.
    pub fn set_members(
        &mut self,
        passive: &Passive,
        wanted: impl IntoIterator<Item = (u32, Options, Sight)>,
        now: Instant,
    ) {
        if self.passive.fail_window != passive.fail_window {
            for member in &mut self.members {
                member.window = Window::new(passive.fail_window, now);
            }
        }
        self.passive = passive.clone();
        let mut before = std::mem::take(&mut self.members);
        for (id, options, sight) in wanted {
            let stays = before.iter().position(|member| member.id == id);
            let member = if let Some(at) = stays {
                let mut member = before.swap_remove(at);
                member.machine.set_options(options);
                member.backup = sight.backup;
                member
            } else {
                Member {
                    id,
                    machine: Machine::new(options, sight.state),
                    window: Window::new(passive.fail_window, now),
                    state: sight.state,
                    backup: sight.backup,
                    counts: sight.counts,
                }
            };
            self.members.push(member);
        }
    }

    /// Takes in what can be seen of all servers, in their order, and calls `note` with each
    /// transition. `panic` says that health is not believed at present: then requests that are no
    /// trials try the suspects, too.
    pub fn look(
        &mut self,
        sights: &[Sight],
        panic: bool,
        now: Instant,
        mut note: impl FnMut(usize, Transition),
    ) {
        // All of what they did first: it takes the others to judge one.
        let news: Vec<_> = (0..sights.len().min(self.members.len()))
            .map(|at| self.members[at].take_in(sights[at].counts, now))
            .collect();
        for (i, (sight, news)) in sights.iter().zip(news).enumerate() {
            if self.members[i].state != sight.state {
                self.members[i].state = sight.state;
                self.event(i, Event::State(sight.state), now, &mut note);
            }
            self.event(i, Event::Tick, now, &mut note);
            self.judge(i, &news, panic, now, &mut note);
        }
        self.look_for_outliers(now, &mut note);
    }

    /// Takes in the result of a check; of a server that is gone it is too late.
    pub fn check(
        &mut self,
        id: u32,
        passed: bool,
        now: Instant,
        mut note: impl FnMut(usize, Transition),
    ) {
        let event = if passed { Event::CheckPassed } else { Event::CheckFailed };
        if let Some(at) = self.members.iter().position(|member| member.id == id) {
            self.event(at, Event::Tick, now, &mut note);
            self.event(at, event, now, &mut note);
        }
    }

    /// What each server is.
    pub fn verdicts(&self, now: Instant) -> impl Iterator<Item = Verdict> {
        self.members.iter().map(move |member| member.machine.verdict(now))
    }

    /// When time alone will change something.
    pub fn deadline(&self) -> Option<Instant> {
        self.members.iter().filter_map(|member| member.machine.deadline()).min()
    }

    /// Whether somebody's share is rising at present.
    pub fn is_slow_starting(&self) -> bool {
        self.members.iter().any(|member| member.machine.status() == Status::SlowStart)
    }

    fn event(
        &mut self,
        at: usize,
        event: Event,
        now: Instant,
        note: &mut impl FnMut(usize, Transition),
    ) {
        let may_eject = self.may_eject(at);
        let member = &mut self.members[at];
        if let Some(transition) = member.machine.on(event, now, may_eject) {
            // It is judged anew when it is back: what it was sent before is no part of that, though it
            // may end only after the ejection.
            if [transition.from, transition.to].contains(&Status::Ejected)
                || transition.from == Status::Suspect
            {
                member.window.clear();
            }
            note(at, transition);
        }
    }

    fn judge(
        &mut self,
        at: usize,
        news: &Counts,
        panic: bool,
        now: Instant,
        note: &mut impl FnMut(usize, Transition),
    ) {
        let mut trials_failed = news.trials_failed;
        let plain = news.blamed.saturating_sub(trials_failed);
        let mut passed = news.trials_passed > 0;
        if panic && self.members[at].machine.status() == Status::Suspect {
            trials_failed += plain;
            passed |= news.answered > 0;
        }
        let doubts =
            if news.in_rows > 0 && self.others_do_better(at, now) { news.in_rows } else { 0 };
        // Before the trials: while it is tried it gets nothing else, so these were sent earlier.
        if plain + doubts > 0 {
            let count = (plain + doubts).min(u32::MAX.into()) as u32;
            self.event(at, Event::Failures(count), now, note);
        }
        // One failure outweighs any number of successes: it is tried again soon enough.
        if trials_failed > 0 {
            self.event(at, Event::TrialFailed, now, note);
        } else if passed {
            self.event(at, Event::TrialPassed, now, note);
        }
    }

    /// Whether another server answers requests. Where none does, it may be the requests.
    fn others_do_better(&mut self, at: usize, now: Instant) -> bool {
        self.members.iter_mut().enumerate().any(|(other, member)| {
            let tally = member.window.total(now);
            other != at && tally.finished > tally.bad
        })
    }

    fn look_for_outliers(&mut self, now: Instant, note: &mut impl FnMut(usize, Transition)) {
        if self.passive.error_rate == 0 || self.members.len() < 2 {
            return;
        }
        let mut all = Tally::default();
        for member in &mut self.members {
            all += member.window.total(now);
        }
        if all.bad == 0 {
            return;
        }
        for at in 0..self.members.len() {
            let one = self.members[at].window.total(now);
            let passive = &self.passive;
            if is_outlier(one, all, passive.error_rate, passive.min_requests) {
                self.event(at, Event::Outlier, now, note);
            }
        }
    }

    /// Whether requests may eject this one, too. Of two or more servers one always may go, the last
    /// one never. With a healthy backup to stand in for them all, nobody else is indispensable.
    fn may_eject(&self, at: usize) -> bool {
        let stands_in =
            |m: &Member| m.backup && m.state == State::Up && m.machine.status().is_healthy();
        if !self.members[at].backup && self.members.iter().any(stands_in) {
            return self.passive.max_ejected > 0;
        }
        let count = |which: fn(&Member) -> bool| self.members.iter().filter(|m| which(m)).count();
        let running = count(|m| m.state == State::Up);
        let ejected = count(|m| m.state == State::Up && m.machine.is_ejected_by_requests());
        let allowed = running * self.passive.max_ejected as usize / 100;
        let allowed = if self.passive.max_ejected > 0 { allowed.max(1) } else { 0 };
        ejected < allowed.min(running.saturating_sub(1))
    }
}
