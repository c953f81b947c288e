//! Whether a request that a server has taken, ending without an answer, may go to another one: it may be
//! what the server died of.
//!
//! Nobody can tell the request that killed a server from others that were with it. So each of them goes to
//! one other server at most, to none where that could leave nobody, and to none if two have died of its
//! like a while ago. A server that was told to end is another matter: what it leaves is sent on as always.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::incoming::Request;
use crate::balance::{Server, State};

/// How long it is waited for systemd to say that a worker has died. It takes milliseconds; a request that
/// another worker answers has waited for that.
const NEWS: Duration = Duration::from_millis(100);

/// What is known of a request that some server has taken.
#[derive(Debug, Default)]
pub(super) struct Deaths(u32);

// === impl Deaths ===

impl Deaths {
    /// Whether it may go to another server after this one took it so often, and `tried` before.
    pub(super) async fn allow_another(
        &mut self,
        taken: u32,
        request: &Request,
        (server, tried): (&Arc<Server>, &[u32]),
        changes: watch::Receiver<u64>,
    ) -> bool {
        let Some(upstream) = request.upstream() else { return false };
        if server.is_over() {
            return true; // its time to drain was up
        }
        self.0 += taken;
        let (mark, now) = (mark(&request.out[..request.head_len]), Instant::now());
        let poisons = upstream.poisons();
        if self.0 > 1 || poisons.knows(mark, now) {
            poisons.remember(mark, now);
            return false;
        }
        let left = || upstream.others_up(server, tried);
        match server.worker {
            // Nobody says of others whether they have died.
            None => true,
            Some(_) if left() > 1 => true,
            Some(_) => left() == 1 && lives(server, changes).await,
        }
    }
}

/// Whether a worker has ended the connection only, as far as is known.
async fn lives(server: &Server, mut changes: watch::Receiver<u64>) -> bool {
    let before = server.incarnation();
    let is_same = || server.state() == State::Up && server.incarnation() == before;
    let died = async { while is_same() && changes.changed().await.is_ok() {} };
    let _ = timeout(NEWS, died).await;
    is_same()
}

/// A number for all requests like this one: its first line and whom it is for.
fn mark(head: &[u8]) -> u64 {
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next();
    let is_host = |line: &&[u8]| line.get(..5).is_some_and(|n| n.eq_ignore_ascii_case(b"host:"));
    BuildHasherDefault::<DefaultHasher>::default().hash_one((first, lines.find(is_host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_whom_marks_a_request() {
        let mark = |text: &str| mark(text.as_bytes());
        let one = mark("GET /a HTTP/1.1\r\nHost: x\r\nX-Request-Id: 1\r\n\r\n");
        assert_eq!(one, mark("GET /a HTTP/1.1\r\nHost: x\r\nCookie: y\r\n\r\n"));
        for other in ["GET /b HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a HTTP/1.1\r\nHost: y\r\n\r\n"] {
            assert_ne!(one, mark(other), "{other}");
        }
        mark("");
    }
}
