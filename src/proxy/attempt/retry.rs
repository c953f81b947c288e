//! Whether a request that came to nothing at one server may be sent again.

use crate::front::Reason;

/// What became of a request at a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fate {
    /// Some of its head was written.
    pub(super) sent: bool,
    /// All of it that was written is still in our hands.
    pub(super) whole: bool,
    /// The server said that it has not begun with it.
    pub(super) unprocessed: bool,
    /// Asking twice is as good as asking once.
    pub(super) repeatable: bool,
    /// Something came that could be an answer.
    pub(super) answered: bool,
    /// The connection has carried a request before.
    pub(super) reused: bool,
    /// An interim response went to the client.
    pub(super) interim: bool,
}

/// Whether it may be sent again: if it cannot have done anything yet, or may do it twice.
pub(super) fn may_repeat(reason: Reason, fate: Fate) -> bool {
    match reason {
        Reason::ConnectFailed => return !fate.sent,
        Reason::ServerGone => {}
        // What is no response, on a connection that was used before, was not said to this request.
        Reason::BadResponse if fate.reused => {}
        _ => return false,
    }
    let unanswered = !fate.answered || fate.reused && !fate.interim;
    let harmless = !fate.sent || fate.unprocessed || fate.repeatable;
    fate.whole && unanswered && harmless
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::Fault;

    /// Every fate there is.
    fn fates() -> impl Iterator<Item = Fate> {
        (0..1 << 7_u32).map(|bits: u32| {
            let is = |bit: u32| bits >> bit & 1 == 1;
            Fate {
                sent: is(0),
                whole: is(1),
                unprocessed: is(2),
                repeatable: is(3),
                answered: is(4),
                reused: is(5),
                interim: is(6),
            }
        })
    }

    #[test]
    fn of_every_reason_it_is_known_whom_to_blame_and_whether_to_repeat() {
        for reason in Reason::ALL {
            let repeated: Vec<_> = fates().filter(|fate| may_repeat(reason, *fate)).collect();
            let (fault, repeats) = match reason {
                Reason::NoServer
                | Reason::QueueFull
                | Reason::TotalTimeout
                | Reason::ShutdownTimeout
                | Reason::Crowded => (Fault::Nobodys, false),
                Reason::Exhausted => (Fault::Ours, false),
                Reason::ConnectFailed => (Fault::Servers, true),
                Reason::ServerGone | Reason::BadResponse => (Fault::Either, true),
                Reason::SpeaksHttp2 | Reason::ResponseHeadTooLarge | Reason::ResponseTimeout => {
                    (Fault::Either, false)
                }
                _ => (Fault::Clients, false),
            };
            assert_eq!((reason.fault(), !repeated.is_empty()), (fault, repeats), "{reason:?}");
            for fate in repeated {
                let twice = fate.sent && !fate.unprocessed;
                assert!(!twice || fate.repeatable, "it may be done twice: {reason:?} {fate:?}");
                assert!(
                    reason == Reason::ConnectFailed || fate.whole,
                    "there is nothing to send: {reason:?} {fate:?}"
                );
                let to_another = fate.reused && !fate.interim;
                assert!(
                    !fate.answered || to_another || reason == Reason::ConnectFailed,
                    "it was answered: {reason:?} {fate:?}"
                );
                assert!(
                    fate.reused || reason != Reason::BadResponse,
                    "this is the answer: {fate:?}"
                );
            }
        }
    }

    #[test]
    fn what_was_not_sent_or_not_begun_is_always_repeated() {
        for fate in fates().filter(|fate| fate.whole && !fate.answered) {
            if !fate.sent || fate.unprocessed {
                assert!(may_repeat(Reason::ServerGone, fate), "{fate:?}");
            }
        }
    }
}
