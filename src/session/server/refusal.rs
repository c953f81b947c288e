//! Connections that are not served: their clients learn why.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::shared::Server;
use super::stream::Stream;
use crate::session::protocol::{Reply, Version};

/// So many at once are refused in the polite way.
const MOST: usize = 64;
/// So long may each step of it take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers the first request with the reason and closes.
///
/// Not sooner: libraries match replies with requests, and some fail with an error of their own at one
/// that nobody asked for. And not at once after it: whoever has sent more than was read would meet a
/// closed socket while it writes, and never read the reason. But of very many at once the most are closed at
/// once.
pub(super) fn refuse<S: Stream>(server: &Rc<Server>, stream: S, reason: &str) {
    let mut answer = Vec::new();
    Reply::new(&mut answer, Version::default()).error(reason);
    let refusing = &server.refusing;
    if refusing.get() == MOST {
        let _ = stream.write_now(&answer);
        return;
    }
    refusing.set(refusing.get() + 1);
    let server = Rc::clone(server);
    spawn_local(async move {
        explain(stream, &answer).await;
        server.refusing.set(server.refusing.get() - 1);
    });
}

async fn explain<S: Stream>(mut stream: S, answer: &[u8]) {
    let mut request = [0; 1024];
    let _ = timeout(PATIENCE, stream.read(&mut request)).await;
    let _ = stream.write_now(answer);
    let _ = stream.shutdown().await;
    let rest = async { while stream.read(&mut request).await.is_ok_and(|count| count > 0) {} };
    let _ = timeout(PATIENCE, rest).await;
}
