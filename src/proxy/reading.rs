//! How a client takes its response, which decides how long more of it is offered.
//!
//! What counts is what the client itself has taken. The kernel takes megabytes in advance, and says
//! that there is room for more only when a third of them is gone: a client may be at that for longer
//! than the time-out, and yet be reading all the time.

use std::time::Duration;

use super::pace::Pace;
use crate::config::settings;
use crate::io::ByteStream;
use crate::sys;

/// What is known of one client and one response.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pace: Pace,
    /// Bytes that the client had taken when it was last looked at.
    taken: u64,
    /// When that was, in the thread's milliseconds.
    looked: Option<u64>,
}

impl Reading {
    /// The client is not waited for (any more).
    pub(crate) fn rest(&mut self, now: u64) {
        self.pace.rest(now);
    }

    /// The client is waited for, and the kernel has so many bytes for it or has sent them; how long
    /// it may take.
    pub(crate) fn wait(
        &mut self,
        now: u64,
        passed: u64,
        client: &impl ByteStream,
        front: &settings::Front,
    ) -> Duration {
        self.look(now, passed, client);
        self.pace.wait(now, self.taken, front.limits.response_rate, front.timeouts.client_write)
    }

    /// The time of [`Self::wait`] is over; how much longer it may take, if it has read meanwhile and
    /// fast enough.
    pub(crate) fn go_on(
        &mut self,
        now: u64,
        passed: u64,
        client: &impl ByteStream,
        front: &settings::Front,
    ) -> Option<Duration> {
        let before = self.taken;
        self.look(now, passed, client);
        if self.taken == before {
            return None;
        }
        Some(self.wait(now, passed, client, front)).filter(|patience| !patience.is_zero())
    }

    /// Whether the client has read, but too slowly.
    pub(crate) fn is_slow(&self) -> bool {
        self.pace.is_tight()
    }

    fn look(&mut self, now: u64, passed: u64, client: &impl ByteStream) {
        // Time goes on in ticks: most responses are over before they would be looked at twice.
        if self.looked.replace(now) != Some(now) {
            let unacknowledged = client.socket().and_then(sys::unacknowledged).unwrap_or(0);
            self.taken = self.taken.max(passed.saturating_sub(unacknowledged));
        }
    }
}
