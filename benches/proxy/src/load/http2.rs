//! The load generator for HTTP/2: few connections with many streams each, every reply checked.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::Request;
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};

use super::{DRAIN, Outcome, Plan, TOO_MANY};
use crate::message::{self, ID, PATTERN};

/// What all streams share.
struct Shared {
    outcome: RefCell<Outcome>,
    window: Cell<Option<(Instant, Instant)>>,
    sending: Cell<bool>,
    next_id: Cell<u64>,
    /// Bytes of each reply.
    reply: usize,
}

/// Runs a plan with this many streams on each connection, each of which asks again as soon as its
/// reply has come.
pub(super) fn run<T>(
    plan: Plan,
    (streams, reply): (usize, usize),
    mut probe: impl FnMut() -> Result<T>,
) -> Result<(Outcome, [T; 2])> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shared = Rc::new(Shared {
        outcome: RefCell::default(),
        window: Cell::new(None),
        sending: Cell::new(true),
        next_id: Cell::new(1),
        reply,
    });
    let all = Rc::clone(&shared);
    let probes = LocalSet::new().block_on(&runtime, async move {
        let mut tasks = Vec::new();
        for _ in 0..plan.connections {
            let stream = TcpStream::connect(plan.target).await.context("connecting")?;
            stream.set_nodelay(true)?;
            let (handle, connection) = client::Builder::new()
                .initial_window_size(1 << 20)
                .initial_connection_window_size(1 << 24)
                .handshake(stream)
                .await?;
            spawn_local(connection);
            for _ in 0..streams {
                tasks.push(spawn_local(ask(Rc::clone(&all), handle.clone())));
            }
        }
        tokio::time::sleep(plan.warm).await;
        let before = probe()?;
        let begin = Instant::now();
        all.window.set(Some((begin, begin + plan.measure)));
        tokio::time::sleep(plan.measure).await;
        all.outcome.borrow_mut().elapsed = begin.elapsed();
        let after = probe()?;
        all.sending.set(false);
        for task in tasks {
            match tokio::time::timeout(DRAIN, task).await {
                Ok(ended) => ended?,
                Err(_) => bail!("a request without a reply after {DRAIN:?}"),
            }
        }
        Ok([before, after])
    })?;
    let mut outcome = shared.outcome.take();
    ensure!(outcome.errors <= TOO_MANY, "too many errors: {}", outcome.first_errors.join("; "));
    outcome.latencies.sort_unstable();
    Ok((outcome, probes))
}

/// One stream after the other.
async fn ask(shared: Rc<Shared>, mut handle: SendRequest<Bytes>) {
    while shared.sending.get() {
        let due = Instant::now();
        let id = message::digits(shared.next_id.replace(shared.next_id.get() + 1));
        if let Err(error) = once(&mut handle, id, shared.reply).await {
            let mut outcome = shared.outcome.borrow_mut();
            outcome.errors += 1;
            if outcome.first_errors.len() < 5 {
                outcome.first_errors.push(format!("{error:#}"));
            }
            if outcome.errors > TOO_MANY {
                return;
            }
            continue;
        }
        let mut outcome = shared.outcome.borrow_mut();
        outcome.total += 1;
        let Some((begin, end)) = shared.window.get() else { continue };
        let now = Instant::now();
        if now < end {
            outcome.completed += 1;
        }
        if (begin..end).contains(&due) {
            outcome.latencies.push((now - due).as_nanos() as u64);
        }
    }
}

async fn once(handle: &mut SendRequest<Bytes>, id: [u8; ID], length: usize) -> Result<()> {
    std::future::poll_fn(|cx| handle.poll_ready(cx)).await?;
    // The fields of `message::request`.
    let request =
        Request::get(format!("http://bench.example/bytes/{length}/{}", str::from_utf8(&id)?))
            .header(
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            )
            .header("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
            .header("accept-language", "en-GB,en;q=0.5")
            .header("accept-encoding", "gzip, deflate")
            .header("cookie", "session=4f1c2d7e9a8b6035; theme=dark")
            .body(())?;
    let (response, _) = handle.send_request(request, true)?;
    let (head, mut body) = response.await?.into_parts();
    ensure!(head.status == 200, "status {}", head.status);
    let said = head.headers.get("content-length").map(|l| l.as_bytes().to_vec());
    ensure!(said == Some(length.to_string().into_bytes()), "length {said:?} and not {length}");
    let mut at = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        ensure!(data.len() <= length - at, "more bytes than the length says");
        let own = data.len().min(ID.saturating_sub(at));
        ensure!(data[..own] == id[at.min(ID)..at.min(ID) + own], "the reply to another request");
        let rest = &data[own..];
        ensure!(*rest == PATTERN[at + own..at + data.len()], "corrupt body near byte {at}");
        at += data.len();
    }
    ensure!(at == length, "{at} bytes and not {length}");
    Ok(())
}
