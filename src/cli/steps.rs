//! What is shown of the steps of a deploy, and of the way back.

use std::sync::atomic::{AtomicBool, Ordering};

use super::manage::say;
use crate::config::settings::App;
use crate::deploy::execute::Step;
use crate::deploy::{Action, Event};

/// Whether it was said that the command ends.
static SAID: AtomicBool = AtomicBool::new(false);

/// Says what begins, or has happened.
pub(super) fn show(app: &App, step: &Step) {
    let line = match step {
        Step::Begins(Action::Start(n)) => {
            format!("{} starts, as an extra worker", app.instance(*n))
        }
        Step::Begins(Action::Drain(_)) if app.is_background() => return,
        Step::Begins(Action::Drain(n)) => format!("{} drains", app.instance(*n)),
        Step::Begins(Action::Restart(n)) => format!("{} restarts", app.instance(*n)),
        Step::Begins(Action::Stop(n)) => format!("{} stops", app.instance(*n)),
        Step::Begins(Action::Undrain(_))
        | Step::Happened(Event::Drained(_) | Event::Interrupted) => return,
        Step::Happened(Event::Ready(n)) => format!("{} is ready, and is watched", app.instance(*n)),
        Step::Happened(Event::Undrained(n)) => format!("{} {}", app.instance(*n), app.does()),
        Step::Happened(Event::Stopped(n)) => format!("{} has stopped", app.instance(*n)),
        Step::Happened(Event::Failed(n, reason)) => {
            format!("{} FAILED: {reason}", app.instance(*n))
        }
        // Of several deploys that run beside each other, one says it.
        Step::Finishing if SAID.swap(true, Ordering::Relaxed) => return,
        Step::Finishing => {
            "finishing what has begun, then stopping; once more (Ctrl-C) to leave at once"
                .to_owned()
        }
    };
    say(&line);
}
