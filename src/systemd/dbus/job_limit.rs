//! How long a job may take: what its unit's own time-outs leave it. A program can have systemd extend
//! them for ever (`EXTEND_TIMEOUT_USEC=`), and nobody is to wait for that.

use std::time::Duration;

use super::unit::Unit;
use super::verb::Verb;

/// systemd's own, for a unit that has none or none that ends.
const DEFAULT: Duration = Duration::from_secs(90);

/// What systemd waits for `TimeoutStopSec=` each: the `ExecStop=` lines, the end after SIGTERM, and the
/// end after SIGKILL.
const STEPS_OF_A_STOP: u32 = 3;

/// What it waits for `TimeoutStartSec=` each: the lines before the main process, and that one.
const STEPS_OF_A_START: u32 = 2;

/// How long this may take with these units, of which such as have no time-outs do not count; `margin` is
/// for what systemd itself does besides.
pub(super) fn of(verb: Verb, units: &[Unit], margin: Duration) -> Duration {
    let time = |property: &str| {
        let times = units.iter().filter_map(|unit| unit.number(property));
        times.max().filter(|time| *time > 0).map_or(DEFAULT, Duration::from_micros)
    };
    let stop = time("TimeoutStopUSec").saturating_mul(STEPS_OF_A_STOP).saturating_add(margin);
    match verb {
        Verb::Stop => stop,
        // It may have to wait for a stop that is under way.
        Verb::Start | Verb::Restart => {
            let start = time("TimeoutStartUSec").saturating_mul(STEPS_OF_A_START);
            start.saturating_add(stop)
        }
    }
}

#[cfg(test)]
mod tests {
    use zbus::Variant;

    use super::*;

    #[test]
    fn it_follows_from_the_time_outs_of_the_unit() {
        let unit = |start: u64, stop: u64| {
            let owned = |value: u64| Variant::from(value).try_to_owned().expect("a number");
            let properties = [("TimeoutStartUSec", start), ("TimeoutStopUSec", stop)];
            let owned = properties.map(|(name, value)| (name.to_owned(), owned(value)));
            Unit { properties: owned.into() }
        };
        let seconds = |verb, units: &[Unit]| of(verb, units, Duration::from_secs(10)).as_secs();
        let worker = || unit(70_000_000, 40_000_000);
        assert_eq!(seconds(Verb::Stop, &[worker()]), 130);
        assert_eq!(seconds(Verb::Start, &[worker()]), 270);
        assert_eq!(seconds(Verb::Restart, &[worker()]), 270);
        let members = [worker(), unit(1, 60_000_000), Unit::default()];
        assert_eq!(seconds(Verb::Stop, &members), 190, "as long as the slowest");
        // Without an end, or without one that is told: systemd's own default.
        for unit in [unit(u64::MAX, u64::MAX), unit(0, 0), Unit::default()] {
            assert_eq!(seconds(Verb::Stop, &[unit]), 280);
        }
    }
}
