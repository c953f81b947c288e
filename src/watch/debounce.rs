//! When changed files have the workers replaced: not before they are quiet, not while it is being
//! done, and never in a loop that the app itself keeps up.

use std::time::Duration;

use tokio::time::Instant;

/// Without a change for so long, they are complete: an editor's save, a checkout, a build.
const QUIET: Duration = Duration::from_millis(500);

/// Where it never gets quiet, it is time after so long.
const LONGEST: Duration = Duration::from_secs(10);

/// So many times in a row files changed while workers were replaced: that may be the app's doing.
const SUSPICIOUS: u32 = 3;

/// The first pause then; it doubles.
const PAUSE: Duration = Duration::from_secs(5);

/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Changes that wait for workers to be replaced.
#[derive(Debug, Default)]
pub(crate) struct Debounce {
    /// The first and the last change that no replacement has seen.
    pending: Option<(Instant, Instant)>,
    /// Nothing is due before.
    not_before: Option<Instant>,
    /// Replacements in a row during which files changed.
    disturbed: u32,
}

impl Debounce {
    /// Files have changed.
    pub(crate) fn changed(&mut self, now: Instant) {
        let first = self.pending.map_or(now, |(first, _)| first);
        self.pending = Some((first, now));
    }

    /// When it is time, if nothing more changes; `None` when nothing has.
    pub(crate) fn due(&self) -> Option<Instant> {
        let (first, last) = self.pending?;
        let due = (last + QUIET).min(first + LONGEST);
        Some(self.not_before.map_or(due, |not_before| due.max(not_before)))
    }

    /// The workers begin to be replaced; what changes from here on is for the next time.
    pub(crate) fn begins(&mut self) {
        self.pending = None;
    }

    /// They could not even begin to be replaced, since somebody else changes the app.
    pub(crate) fn refused(&mut self, now: Instant, again: Duration) {
        self.changed(now);
        self.not_before = Some(now + again);
    }

    /// They are replaced, or that has failed. Returns the pause that follows, where each replacement
    /// seems to be the reason for the next.
    pub(crate) fn ended(&mut self, now: Instant) -> Option<Duration> {
        self.not_before = None;
        self.disturbed = if self.pending.is_some() { self.disturbed + 1 } else { 0 };
        let doublings = self.disturbed.checked_sub(SUSPICIOUS)?;
        let pause = PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_PAUSE);
        self.not_before = Some(now + pause);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn many_changes_are_one() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        assert_eq!(debounce.due(), None);
        for millis in [0, 100, 450, 900] {
            debounce.changed(at(start, millis));
        }
        assert_eq!(debounce.due(), Some(at(start, 1400)));
        debounce.begins();
        assert_eq!(debounce.due(), None);
    }

    #[test]
    fn files_that_never_rest_do_not_put_it_off_for_ever() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        (0..200).for_each(|i| debounce.changed(at(start, i * 100)));
        assert_eq!(debounce.due(), Some(at(start, 10_000)));
    }

    #[test]
    fn a_change_meanwhile_is_not_lost() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        debounce.changed(start);
        debounce.begins();
        debounce.changed(at(start, 3000));
        assert_eq!(debounce.ended(at(start, 9000)), None);
        assert_eq!(debounce.due(), Some(at(start, 3500)));
        debounce.begins();
        assert_eq!(debounce.ended(at(start, 12_000)), None);
        assert_eq!(debounce.due(), None);
    }

    #[test]
    fn an_app_that_changes_its_own_files_is_slowed_down() {
        let mut now = Instant::now();
        let mut debounce = Debounce::default();
        let mut pauses = Vec::new();
        debounce.changed(now);
        for _ in 0..12 {
            debounce.begins();
            debounce.changed(now);
            now += Duration::from_secs(5);
            let pause = debounce.ended(now);
            pauses.push(pause.map_or(0, |pause| pause.as_secs()));
            let due = debounce.due().unwrap();
            assert!(pause.is_none_or(|pause| due == now + pause), "{pauses:?}");
            now = due.max(now);
        }
        assert_eq!(pauses, [0, 0, 5, 10, 20, 40, 80, 160, 300, 300, 300, 300]);
        debounce.begins();
        assert_eq!(debounce.ended(now), None, "quiet once, and all is forgotten");
    }

    #[test]
    fn while_somebody_else_is_at_it_it_waits() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        debounce.changed(start);
        debounce.begins();
        debounce.refused(at(start, 600), Duration::from_secs(2));
        assert_eq!(debounce.due(), Some(at(start, 2600)));
    }
}
