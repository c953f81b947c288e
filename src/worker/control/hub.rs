//! What a worker does and says, for whoever follows it.
//!
//! The last events are kept, so that a follower who comes back a moment after a worker has started
//! misses nothing of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::outlet::Outlet;

/// What is kept of the past: this many events, and this many bytes.
const KEPT: usize = 256;
const KEPT_BYTES: usize = 256 * 1024;

/// How long the last events of a worker may take to be read.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where events go; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    worker: String,
    state: Mutex<State>,
    siblings_missed: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    kept: VecDeque<Event>,
    bytes: usize,
    followers: Vec<Arc<Outlet>>,
    /// Of followers that have left.
    dropped: u64,
    /// Held by each task that still writes; all are gone when the receiver ends.
    writers: Option<mpsc::Sender<()>>,
}

#[derive(Debug, Clone)]
struct Event {
    at: u64,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    /// Of the worker's life: the whole line, but for when and who.
    Life(Arc<str>),
    /// The app's, as it came.
    Message(Arc<[u8]>),
}

impl Hub {
    pub(crate) fn new(worker: &str) -> Self {
        Self(Arc::new(Inner {
            worker: worker.to_owned(),
            state: Mutex::default(),
            siblings_missed: AtomicU64::new(0),
        }))
    }

    /// Something has happened to the worker. `details` is an object.
    pub(crate) fn life(&self, event: &str, details: Value) {
        let mut fields = Map::new();
        fields.insert("event".to_owned(), event.into());
        if let Value::Object(details) = details {
            fields.extend(details);
        }
        let text = Value::Object(fields).to_string();
        let rest = text.strip_prefix('{').unwrap_or(&text).into();
        self.publish(Event { at: now(), what: What::Life(rest) });
    }

    /// The app has sent this.
    pub(crate) fn message(&self, text: &[u8]) {
        self.publish(Event { at: now(), what: What::Message(text.into()) });
    }

    fn publish(&self, event: Event) {
        let mut state = self.state();
        let State { followers, dropped, .. } = &mut *state;
        followers.retain(|follower| {
            let open = !follower.is_closed();
            if open {
                self.push(follower, &event);
            } else {
                *dropped += follower.dropped();
            }
            open
        });
        state.bytes += event.len();
        state.kept.push_back(event);
        while state.kept.len() > KEPT || state.bytes > KEPT_BYTES {
            let Some(old) = state.kept.pop_front() else { break };
            state.bytes -= old.len();
        }
    }

    fn push(&self, follower: &Outlet, event: &Event) {
        let worker = &self.0.worker;
        let head = format!("{{\"at\":{},\"worker\":\"{worker}\",", event.at);
        let pushed = match &event.what {
            What::Life(rest) => follower.push(&[head.as_bytes(), rest.as_bytes()]),
            What::Message(text) if is_json(text) => {
                follower.push(&[head.as_bytes(), b"\"event\":\"message\",\"message\":", text, b"}"])
            }
            What::Message(text) => {
                let text = Value::from(String::from_utf8_lossy(text)).to_string();
                follower.push(&[
                    head.as_bytes(),
                    b"\"event\":\"garbage\",\"text\":",
                    text.as_bytes(),
                    b"}",
                ])
            }
        };
        if let Some(gap @ 1..) = pushed {
            let text = format!("{head}\"event\":\"dropped\",\"for\":\"events\",\"count\":{gap}}}");
            follower.push(&[text.as_bytes()]);
        }
    }

    /// Begins to follow, with what is kept from `since` (milliseconds since 1970) on. No more than
    /// `room` bytes wait for the follower.
    pub(crate) fn follow(&self, since: u64, room: usize) -> Arc<Outlet> {
        let follower = Arc::new(Outlet::with_room(room));
        let mut state = self.state();
        for event in state.kept.iter().filter(|event| event.at >= since) {
            self.push(&follower, event);
        }
        state.followers.push(Arc::clone(&follower));
        follower
    }

    /// How many events followers have missed.
    pub(crate) fn dropped(&self) -> u64 {
        let state = self.state();
        state.dropped + state.followers.iter().map(|follower| follower.dropped()).sum::<u64>()
    }

    /// A sibling that does not read has missed a message.
    pub(super) fn sibling_missed(&self) {
        self.0.siblings_missed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many messages siblings have missed.
    pub(super) fn siblings_missed(&self) -> u64 {
        self.0.siblings_missed.load(Ordering::Relaxed)
    }

    /// To be held by a task that writes what must not be cut off at the end of the worker.
    pub(crate) fn writer(&self) -> Option<mpsc::Sender<()>> {
        self.state().writers.clone()
    }

    /// Counts writers from now on; the result is for [`Hub::finish`].
    pub(crate) fn watch_writers(&self) -> mpsc::Receiver<()> {
        let (sender, receiver) = mpsc::channel(1);
        self.state().writers = Some(sender);
        receiver
    }

    /// Nothing happens any more: lets the followers read what waits for them.
    pub(crate) async fn finish(&self, mut writers: mpsc::Receiver<()>) {
        {
            let mut state = self.state();
            state.writers = None;
            state.followers.iter().for_each(|follower| follower.close());
        }
        let _ = timeout(FAREWELL, writers.recv()).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Event {
    fn len(&self) -> usize {
        match &self.what {
            What::Life(text) => text.len(),
            What::Message(text) => text.len(),
        }
    }
}

/// Whether this is a JSON text: a program may write on its channel what it likes.
pub(super) fn is_json(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn read(outlet: &Outlet) -> Vec<Value> {
        outlet.close();
        let mut bytes = Vec::new();
        outlet.write_to(&mut bytes).await.unwrap();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_late_follower_gets_the_last_events_and_every_line_is_json() {
        let hub = Hub::new("shop:1");
        hub.life("listening", json!({ "address": "port 3000" }));
        for text in [&b"null"[..], br#"{"__proto__":{"event":"exit"}}"#, b"not json", b"\"\xff\""] {
            hub.message(text);
        }
        let events = read(&hub.follow(0, usize::MAX)).await;
        let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["listening", "message", "message", "garbage", "garbage"]);
        assert_eq!(events[0]["address"], "port 3000");
        assert!(events.iter().all(|event| event["worker"] == "shop:1"));
        assert_eq!(read(&hub.follow(now() + 1000, usize::MAX)).await, Vec::<Value>::new());
    }

    #[tokio::test]
    async fn what_a_slow_follower_misses_is_told_and_counted() {
        let hub = Hub::new("shop:1");
        let slow = hub.follow(0, usize::MAX);
        let big = format!("\"{}\"", "x".repeat(5 * 1024 * 1024));
        hub.message(big.as_bytes());
        hub.message(big.as_bytes());
        hub.message(b"1");
        assert_eq!(hub.dropped(), 1);
        let events = read(&slow).await;
        assert_eq!(events.len(), 3);
        assert_eq!((&events[2]["event"], &events[2]["count"]), (&json!("dropped"), &json!(1)));
        hub.message(b"2");
        assert_eq!(hub.dropped(), 1, "the count stays when the follower has left");
    }

    #[test]
    fn memory_is_bounded_without_followers() {
        let hub = Hub::new("shop:1");
        for _ in 0..1000 {
            hub.message(&[b'1'; 2000]);
        }
        assert!(hub.state().bytes <= KEPT_BYTES);
    }
}
