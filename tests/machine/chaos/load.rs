//! All clients at work, and what they asked in vain.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::time::Instant;

use super::client::Client;
use super::request::{Failed, Kind};
use super::site::App;

/// Clients, each in a thread of its own within the machine's network.
#[derive(Debug)]
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: Vec<(Kind, &'static str)>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    stop: AtomicBool,
    failed: Mutex<Vec<Failed>>,
    /// How many right answers each client has got.
    right: Vec<AtomicU64>,
    /// The longest that one took since somebody asked for it, of those that are quick by themselves.
    slowest: AtomicU64,
}

// === impl Load ===

impl Load {
    /// Sets these to work in a machine's network; jobs go below the folder `queue`.
    pub(super) fn start(
        network: File,
        queue: &Path,
        seed: u64,
        clients: &[(Kind, &'static App)],
    ) -> Self {
        let network = Arc::new(network);
        let shared = Arc::new(Shared {
            start: Instant::now(),
            stop: AtomicBool::new(false),
            failed: Mutex::default(),
            right: clients.iter().map(|_| AtomicU64::new(0)).collect(),
            slowest: AtomicU64::new(0),
        });
        let begin = |(number, (kind, app)): (usize, &(Kind, &'static App))| {
            let client =
                Client::new(*kind, app, number as u64, (seed, shared.start), queue.to_path_buf());
            let (shared, network) = (Arc::clone(&shared), Arc::clone(&network));
            let is_quick = matches!(kind, Kind::Kept | Kind::Connecting | Kind::Http2);
            std::thread::spawn(move || {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("tests run as root");
                shared.ask(client, number, is_quick);
            })
        };
        let threads = clients.iter().enumerate().map(begin).collect();
        let clients = clients.iter().map(|(kind, app)| (*kind, app.name)).collect();
        Self { shared, clients, threads }
    }

    /// Since when they ask.
    pub(super) fn elapsed(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// How many right answers each has got.
    pub(super) fn right(&self) -> Vec<u64> {
        self.shared.right.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Who has got no right answer since.
    pub(super) fn waiting_since(&self, before: &[u64]) -> Vec<&(Kind, &'static str)> {
        let all = self.right().into_iter().zip(before).zip(&self.clients);
        all.filter(|((now, before), _)| now <= before).map(|(_, client)| client).collect()
    }

    /// What was asked in vain, and seen to be, since the last time.
    pub(super) fn take_failed(&self) -> Vec<Failed> {
        std::mem::take(&mut *self.shared.failed.lock().expect("no client panics"))
    }

    /// The longest time that a quick answer took since the last time.
    pub(super) fn take_slowest(&self) -> Duration {
        Duration::from_micros(self.shared.slowest.swap(0, Ordering::Relaxed))
    }

    /// Ends it: what was asked in vain since the last time.
    pub(super) fn stop(mut self) -> Vec<Failed> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a client does not panic");
        }
        self.take_failed()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn ask(&self, mut client: Client, number: usize, is_quick: bool) {
        while !self.stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            match client.ask() {
                Ok(()) => {
                    self.right[number].fetch_add(1, Ordering::Relaxed);
                    if is_quick {
                        let took = asked.elapsed().as_micros();
                        let took = u64::try_from(took).expect("no test takes that long");
                        self.slowest.fetch_max(took, Ordering::Relaxed);
                    }
                }
                Err(failed) => self.failed.lock().expect("no client panics").push(*failed),
            }
            std::thread::sleep(client.rest());
        }
    }
}
