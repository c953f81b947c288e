//! The front's worker threads: one per core, each with its own runtime.
//!
//! Thread 0 also accepts, and hands connections round. A connection stays with its thread for life.

mod accept;
mod batch;
mod begin;
mod cores;
mod introduce;
mod links;
mod listener;
mod worker;

use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use crate::front::counters::Counters;
use crate::front::{Front, Totals};
pub use cores::usable_cores;
use links::Command;
pub use listener::{Listener, Socket};
use worker::Start;

/// How often a shutdown looks whether all connections have ended.
const LOOK: Duration = Duration::from_millis(10);

/// How long what is open may take to end once it is told to: a frame and its answer, or an answer of ours.
pub const LAST_WORDS: Duration = Duration::from_secs(2);

/// The worker threads.
#[derive(Debug)]
pub struct Threads {
    front: Arc<Front>,
    cores: Vec<usize>,
    counters: Vec<Arc<Counters>>,
    commands: Vec<UnboundedSender<Command>>,
}

/// What one thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadStats {
    /// The core it is for.
    pub core: usize,
    /// Connections handed to it from the start.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// Requests from the start.
    pub requests: u64,
}

impl Threads {
    /// Starts one thread for each of these cores; returns when every one has reported in.
    ///
    /// The front must have been made for as many threads.
    pub fn start(front: Arc<Front>, cores: &[usize], pin: bool) -> io::Result<Self> {
        if cores.len() != front.threads() || cores.is_empty() {
            let text = format!("{} threads for {} cores", front.threads(), cores.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let counters: Vec<_> = cores.iter().map(|_| Arc::<Counters>::default()).collect();
        let (commands, receivers): (Vec<_>, Vec<_>) =
            cores.iter().map(|_| unbounded_channel()).unzip();
        let (gone, gone_receiver) = unbounded_channel();
        let mut gone_receiver = Some(gone_receiver);
        let (report, reports) = mpsc::channel();
        for ((index, core), receiver) in cores.iter().copied().enumerate().zip(receivers) {
            let report = report.clone();
            let start = Start {
                index,
                front: Arc::clone(&front),
                counters: counters.clone(),
                commands: commands.clone(),
                receiver,
                gone: gone.clone(),
                gone_receiver: gone_receiver.take(),
            };
            std::thread::Builder::new().name(format!("front-{index}")).spawn(move || {
                if pin && let Err(error) = cores::pin(core) {
                    let text = format!("pinning a thread to core {core}: {error}");
                    let _ = report.send(Err(io::Error::new(error.kind(), text)));
                    return;
                }
                worker::run(start, &report);
            })?;
        }
        drop(report);
        for _ in cores {
            reports.recv().map_err(|_| io::Error::other("a thread ended before it began"))??;
        }
        Ok(Self { front, cores: cores.to_vec(), counters, commands })
    }

    /// Begins to accept from these.
    pub fn accept(&self, listeners: Vec<Listener>) {
        self.tell(0, Command::Accept(listeners));
    }

    /// Each thread's counter. Its own runtime moves it when this is called, for the next time.
    pub fn heartbeats(&self) -> Vec<u64> {
        let beats = self.counters.iter().map(|c| c.heartbeat.get()).collect();
        (0..self.commands.len()).for_each(|thread| self.tell(thread, Command::Beat));
        beats
    }

    /// What each thread does.
    pub fn stats(&self) -> Vec<ThreadStats> {
        self.counters
            .iter()
            .zip(&self.cores)
            .map(|(counters, core)| ThreadStats {
                core: *core,
                accepted: counters.accepted.get(),
                open: counters.connections.now_open() as u64,
                requests: counters.requests.get(),
            })
            .collect()
    }

    /// What all threads counted together.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.counters.iter().for_each(|counters| totals.add(counters));
        totals
    }

    /// Accepts nothing any more, and returns when the listeners are closed. What waits in a socket's
    /// backlog stays there.
    pub async fn stop_accepting(&self) {
        let (stopped, has_stopped) = tokio::sync::oneshot::channel();
        self.tell(0, Command::StopAccepting(stopped));
        // From then on every connection is either counted as open or on its way.
        let _ = has_stopped.await; // or the thread has ended
    }

    /// Ends every connection: idle ones soon, others with their response. After `grace` who still waits for
    /// one is told that none comes, what goes on for ever has an end that its client understands, and the rest
    /// is cut.
    ///
    /// Returns how many were cut. Nobody may be accepted any more.
    pub async fn finish(&self, grace: Duration) -> usize {
        (0..self.commands.len()).for_each(|thread| self.tell(thread, Command::Stop));
        let mut open = self.ended_within(grace).await;
        if open > 0 {
            for (_, server) in self.front.snapshot().servers() {
                self.end_conversations(server);
            }
            // Where a stream has ended its client may ask for something else, and has the rest of the time.
            for words in [LAST_WORDS / 4 * 3, LAST_WORDS / 4] {
                (0..self.commands.len()).for_each(|thread| self.tell(thread, Command::GiveUp));
                open = self.ended_within(words).await;
            }
        }
        (0..self.commands.len()).for_each(|thread| self.tell(thread, Command::Cut));
        open
    }

    /// How many connections are open when none is, or when the time is up.
    async fn ended_within(&self, limit: Duration) -> usize {
        let end = Instant::now() + limit;
        loop {
            let open = self.open();
            if open == 0 || Instant::now() >= end {
                return open;
            }
            tokio::time::sleep(LOOK.min(end.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// Has every thread close its idle connections to this server, as for a drain.
    pub fn forget_idle(&self, server_id: u32) {
        for thread in 0..self.commands.len() {
            self.tell(thread, Command::ForgetIdle(server_id));
        }
    }

    /// Has every thread's requests look at what has become of their servers.
    pub fn look_again(&self) {
        (0..self.commands.len()).for_each(|thread| self.tell(thread, Command::Look));
    }

    /// Ends what goes on for ever at this server.
    pub fn end_conversations(&self, server: &crate::balance::Server) {
        server.end_conversations();
        self.look_again();
    }

    fn open(&self) -> usize {
        self.counters.iter().map(|counters| counters.connections.all()).sum()
    }

    fn tell(&self, thread: usize, command: Command) {
        // A thread that has ended needs to be told nothing.
        let _ = self.commands[thread].send(command);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        (0..self.commands.len()).for_each(|thread| self.tell(thread, Command::Cut));
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::config::Settings;

    #[test]
    fn a_stuck_threads_heartbeat_stands_still_and_the_others_move() {
        let front = Arc::new(Front::new(Settings::default(), 2));
        let threads = Threads::start(front, &[0, 0], false).unwrap();
        let (release, until) = mpsc::channel();
        let (entered, has_entered) = mpsc::channel();
        threads.tell(1, Command::Block(entered, until));
        has_entered.recv().unwrap();
        let before = threads.heartbeats();
        let start = SystemTime::now();
        while threads.heartbeats()[0] < before[0] + 3 {
            assert!(start.elapsed().unwrap_or_default() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(threads.heartbeats()[1], before[1]);
        drop(release);
        while threads.heartbeats()[1] == before[1] {
            assert!(start.elapsed().unwrap_or_default() < Duration::from_secs(40));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
