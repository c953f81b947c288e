//! Giving memory back, on a thread of its own: for a million elements it takes a tenth of a second, in which
//! nobody would be served.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// The thread.
#[derive(Debug)]
pub(super) struct Freeing {
    queue: Option<mpsc::Sender<Garbage>>,
    /// Pieces that wait.
    waiting: Arc<AtomicUsize>,
    thread: Option<thread::JoinHandle<()>>,
}

type Garbage = (usize, Box<dyn Any + Send>);

/// Fewer pieces of memory than this are given back at once.
const FEW: usize = 1000;
/// More than this do not wait: whoever makes garbage faster than it is cleared away clears it away himself.
const MOST: usize = 4_000_000;

impl Freeing {
    pub(super) fn start() -> io::Result<Self> {
        let (sender, queue) = mpsc::channel::<Garbage>();
        let waiting = Arc::<AtomicUsize>::default();
        let left = Arc::clone(&waiting);
        let thread = thread::Builder::new().name("session-free".into()).spawn(move || {
            for (pieces, garbage) in queue {
                drop(garbage);
                left.fetch_sub(pieces, Ordering::Relaxed);
            }
        })?;
        Ok(Self { queue: Some(sender), waiting, thread: Some(thread) })
    }

    /// Gives the memory of something back that takes about so many pieces.
    pub(super) fn free<T: Send + 'static>(&self, garbage: T, pieces: usize) {
        if pieces < FEW || self.waiting.load(Ordering::Relaxed) + pieces > MOST {
            return;
        }
        if let Some(queue) = &self.queue {
            self.waiting.fetch_add(pieces, Ordering::Relaxed);
            let _ = queue.send((pieces, Box::new(garbage)));
        }
    }
}

impl Drop for Freeing {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
