//! Connections that were handed in: offered to the app a few at a time, and answered one by one.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::{Purpose, Task};
use crate::handoff::{Record, WINDOW};

/// A connection that was handed in.
#[derive(Debug)]
pub(crate) struct HandedIn {
    pub(crate) socket: OwnedFd,
    /// The front's number for it.
    pub(crate) number: u32,
    /// Where it is said what became of it.
    pub(crate) answer: UnboundedSender<Record>,
}

/// Those that the app has not been offered.
pub(super) type Queue = VecDeque<HandedIn>;

impl HandedIn {
    /// Gives it back.
    pub(super) fn refuse(self) {
        let _ = self.answer.send(Record::Refused(self.number)); // or the front is gone
    }
}

impl Task {
    /// Offers what was handed in, as much as the app may have; gives it back if it takes none.
    pub(super) fn offer_handed(&mut self) {
        let key = self.primary.front().filter(|_| self.accepting).map(str::to_owned);
        let takes = key.is_some();
        self.view.send_if_modified(|view| std::mem::replace(&mut view.takes, takes) != takes);
        let Some(key) = key else {
            self.handed.drain(..).for_each(HandedIn::refuse);
            return;
        };
        let is_handed = |purpose: &Purpose| matches!(purpose, Purpose::HandedIn(..));
        let mut open = self.offered.iter().filter(|offered| is_handed(&offered.purpose)).count();
        while open < WINDOW
            && let Some(HandedIn { socket, number, answer }) = self.handed.pop_front()
        {
            // Without the front nobody could be told, but the client still waits.
            self.send_connection(&key, Arc::new(socket), Purpose::HandedIn(number, answer));
            open += 1;
        }
    }
}
