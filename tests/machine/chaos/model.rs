//! What may fail when: a request that was in flight when its worker, or its front, was killed may be lost, and
//! what a fault plainly takes away is missed while it does. Everything else is a finding.

use std::time::Duration;

use super::request::{Kind, Request, Went};

/// What a fault may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// Nothing at all.
    Nothing,
    /// Workers of an app are killed: what they have in flight. Whoever asks later waits.
    Worker,
    /// Workers of an app do not answer until they are killed: what is sent to them meanwhile.
    Hung,
    /// A front is killed: what it has connected.
    Front,
    /// The session store is killed: what asks it at that moment.
    Store,
    /// The session store has no room: its app cannot write.
    Full,
    /// An app is stopped: there is nobody who answers.
    Stopped,
    /// A listener is closed and opened again: connections that nobody has accepted.
    Closed,
    /// The front has no descriptors left: it says so, or takes its time.
    Exhausted,
    /// There is no network, or no package: whatever is not a wrong answer.
    Gone,
}

/// A fault at work.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) fault: &'static str,
    pub(super) cost: Cost,
    /// Whose workers, where the cost is an app's.
    pub(super) app: Option<&'static str>,
    /// Since the clients began: from before the first blow until after the last.
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// The fault that explains why a request was not answered as it should be, if one does.
pub(super) fn explain(
    request: &Request,
    went: &Went,
    troubles: &[Trouble],
) -> Option<&'static str> {
    troubles.iter().find(|trouble| trouble.explains(request, went)).map(|trouble| trouble.fault)
}

impl Trouble {
    fn explains(&self, request: &Request, went: &Went) -> bool {
        self.concerns(request) && self.allows(request, went) && self.overlaps(request)
    }

    /// Whether the request and the trouble were there at the same time. A connection that was good before a
    /// blow may be found dead after it; a request that was sent after it went somewhere else.
    fn overlaps(&self, request: &Request) -> bool {
        let is_of_the_connection = match self.cost {
            Cost::Front | Cost::Gone => true,
            Cost::Worker | Cost::Hung | Cost::Stopped => request.kind == Kind::WebSocket,
            _ => false,
        };
        let since = if is_of_the_connection { request.good } else { request.asked };
        since <= self.to && request.seen >= self.from
    }

    fn concerns(&self, request: &Request) -> bool {
        // Nobody but its own workers has a part in a job.
        let is_job = request.kind == Kind::Job;
        match self.cost {
            Cost::Nothing => false,
            Cost::Worker | Cost::Hung | Cost::Stopped => self.app == Some(request.app),
            Cost::Store | Cost::Full => request.kind == Kind::Session,
            Cost::Front | Cost::Closed | Cost::Exhausted => !is_job,
            Cost::Gone => true,
        }
    }

    fn allows(&self, request: &Request, went: &Went) -> bool {
        // A front that answers while the body still comes closes on it.
        let is_upload = request.kind == Kind::Upload;
        // Nobody answers for a worker that is handed connections, or takes jobs.
        let is_alone = request.is_handed || request.kind == Kind::Job;
        let lost = (is_upload || is_alone) && matches!(went, Went::Lost(_));
        let wrong = matches!(went, Went::Wrong(_));
        let cut = matches!(went, Went::Cut(_));
        let late = *went == Went::Late;
        let status = |all: &[u16]| matches!(went, Went::Status(status, _) if all.contains(status));
        match self.cost {
            Cost::Nothing => false,
            Cost::Worker => cut || lost || status(&[502]),
            // A front that is restarted meanwhile waits for it no longer than its own time, and says so.
            Cost::Hung => cut || lost || late || status(&[502, 504]),
            Cost::Stopped => cut || lost || late || status(&[502, 503]),
            Cost::Front => matches!(went, Went::Lost(_) | Went::Cut(_)),
            Cost::Store | Cost::Full => status(&[500]),
            Cost::Closed => matches!(went, Went::Refused(_) | Went::Lost(_)),
            Cost::Exhausted => late || status(&[503]),
            Cost::Gone => !wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn trouble(cost: Cost, app: Option<&'static str>) -> Trouble {
        Trouble { fault: "it", cost, app, from: at(10), to: at(11) }
    }

    fn request(kind: Kind, asked: u64, seen: u64) -> Request {
        let (asked, seen) = (at(asked), at(seen));
        Request {
            kind,
            app: "shop",
            is_handed: false,
            mark: "m".to_owned(),
            good: asked,
            asked,
            seen,
        }
    }

    fn lost() -> Went {
        Went::Lost("closed".to_owned())
    }

    fn bad_gateway() -> Went {
        Went::Status(502, String::new())
    }

    #[track_caller]
    fn expect(explained: bool, cost: Cost, request: &Request, went: &Went) {
        let troubles = [trouble(cost, Some("shop"))];
        assert_eq!(explain(request, went, &troubles).is_some(), explained, "{request:?}: {went:?}");
    }

    #[test]
    fn what_was_in_flight_with_a_killed_worker_may_be_lost() {
        expect(true, Cost::Worker, &request(Kind::Kept, 9, 10), &bad_gateway());
        expect(true, Cost::Worker, &request(Kind::Slow, 1, 20), &Went::Cut(String::new()));
    }

    #[test]
    fn what_ended_before_or_began_after_may_not() {
        expect(false, Cost::Worker, &request(Kind::Kept, 8, 9), &bad_gateway());
        expect(false, Cost::Worker, &request(Kind::Kept, 12, 13), &bad_gateway());
        expect(false, Cost::Front, &request(Kind::Kept, 12, 13), &lost());
    }

    #[test]
    fn nor_may_what_another_app_had() {
        let troubles = [trouble(Cost::Worker, Some("port"))];
        assert_eq!(explain(&request(Kind::Kept, 9, 10), &bad_gateway(), &troubles), None);
    }

    #[test]
    fn nor_in_a_way_that_the_fault_is_no_reason_for() {
        expect(false, Cost::Worker, &request(Kind::Kept, 9, 10), &lost());
        expect(false, Cost::Worker, &request(Kind::Kept, 9, 10), &Went::Status(503, String::new()));
        expect(false, Cost::Front, &request(Kind::Kept, 9, 10), &bad_gateway());
        expect(false, Cost::Front, &request(Kind::Kept, 9, 10), &Went::Refused(String::new()));
    }

    #[test]
    fn whoever_asks_a_worker_that_hangs_is_told_so() {
        expect(true, Cost::Hung, &request(Kind::Kept, 9, 10), &Went::Status(504, String::new()));
        expect(false, Cost::Hung, &request(Kind::Kept, 9, 10), &lost());
    }

    #[test]
    fn a_connection_that_a_killed_front_had_is_found_dead_later_but_only_once() {
        let mut request = request(Kind::Kept, 15, 15);
        request.good = at(9);
        expect(true, Cost::Front, &request, &lost());
        // It was answered after the kill: this is another end.
        request.good = at(12);
        expect(false, Cost::Front, &request, &lost());
    }

    #[test]
    fn a_websocket_of_a_killed_worker_is_found_dead_later_too() {
        let mut request = request(Kind::WebSocket, 15, 15);
        request.good = at(9);
        expect(true, Cost::Worker, &request, &Went::Cut(String::new()));
        let kept = Request { kind: Kind::Kept, ..request };
        expect(false, Cost::Worker, &kept, &bad_gateway());
    }

    #[test]
    fn nobody_may_ever_get_an_answer_that_is_not_theirs() {
        for cost in [Cost::Worker, Cost::Front, Cost::Gone, Cost::Store, Cost::Hung] {
            expect(false, cost, &request(Kind::Kept, 9, 12), &Went::Wrong("another's".to_owned()));
        }
    }

    #[test]
    fn a_fault_that_costs_nothing_explains_nothing() {
        expect(false, Cost::Nothing, &request(Kind::Kept, 9, 12), &lost());
        expect(false, Cost::Nothing, &request(Kind::Kept, 9, 12), &Went::Late);
    }

    #[test]
    fn jobs_do_not_depend_on_the_front() {
        let job = Request { app: "queue", ..request(Kind::Job, 9, 20) };
        let troubles = [trouble(Cost::Front, None), trouble(Cost::Worker, Some("shop"))];
        assert_eq!(explain(&job, &lost(), &troubles), None);
        let troubles = [trouble(Cost::Worker, Some("queue"))];
        assert_eq!(explain(&job, &lost(), &troubles), Some("it"));
    }

    #[test]
    fn only_sessions_suffer_from_a_killed_store() {
        let failed = Went::Status(500, String::new());
        expect(true, Cost::Store, &request(Kind::Session, 9, 10), &failed);
        expect(false, Cost::Store, &request(Kind::Kept, 9, 10), &failed);
        expect(false, Cost::Store, &request(Kind::Session, 12, 13), &failed);
    }
}
