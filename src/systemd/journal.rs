//! Logs: to the journal natively, with fields, or to stderr where there is no journal.
//!
//! tracing-journald writes on a blocking socket from the thread that logs, and a stopped journald
//! must not stop traffic. So what is logged goes through a bounded queue to one writer thread,
//! which logs it again with tracing-journald; what does not fit is counted and the count is logged
//! when there is room again.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::base::text;

/// Entries that may wait for the journal: some seconds of a busy service, about 2 MiB at worst.
const QUEUE: usize = 4096;

/// Entries that were lost because the journal did not take them fast enough.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Number of log entries lost so far because the journal did not take them.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Sets up logging for this process. The level comes from `ROUNDSMAN_LOG` (`info` by default).
pub(crate) fn init() {
    init_with(QUEUE);
}

/// As [`init`], with room for `queue` waiting entries: it is taken at once and counts where there
/// are many small processes.
pub(crate) fn init_with(queue: usize) {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let registry = tracing_subscriber::registry().with(levels());
        let (queue, entries) = sync_channel(queue);
        let name = "journal".to_owned();
        let sink = thread::Builder::new().name(name).spawn(move || write_to_journal(&entries));
        if sink.is_ok() {
            // A subscriber that is set already is a test's: it stays.
            let _ = FLUSH.set(queue.clone());
            let _ = registry.with(QueueLayer { queue }).try_init();
        }
    });
}

/// Writes what comes to the journal, or to stderr where there is none. Its first word to the journal may have to wait
/// as long as any.
fn write_to_journal(entries: &Receiver<Item>) {
    let layer = libsystemd::logging::connected_to_journal()
        .then(tracing_journald::layer)
        .and_then(Result::ok);
    let Some(layer) = layer else { return print(entries) };
    let priorities = tracing_journald::PriorityMappings {
        // The crate's own default calls an `info` a notice, which is for what matters.
        info: tracing_journald::Priority::Informational,
        debug: tracing_journald::Priority::Debug,
        trace: tracing_journald::Priority::Debug,
        ..tracing_journald::PriorityMappings::new()
    };
    let layer = layer.with_priority_mappings(priorities).with_field_prefix(None);
    let dispatch = Dispatch::new(Registry::default().with(layer));
    tracing::dispatcher::with_default(&dispatch, || write(entries));
}

fn levels() -> Targets {
    let ours = std::env::var("ROUNDSMAN_LOG")
        .ok()
        .and_then(|level| level.parse::<LevelFilter>().ok())
        .unwrap_or(LevelFilter::INFO);
    Targets::new()
        .with_target("roundsman", ours)
        // It warns of every frame that a peer should not have sent, as often as one comes.
        .with_target("h2", LevelFilter::OFF)
        .with_default(LevelFilter::WARN)
}

/// Waits, for a second at most, until what was logged so far is written. For the end of a process.
pub(crate) fn flush() {
    let Some(queue) = FLUSH.get() else { return };
    let (done, written) = sync_channel(1);
    if queue.try_send(Item::Flush(done)).is_ok() {
        // A journal that does not answer by then is not worth waiting for.
        let _ = written.recv_timeout(Duration::from_secs(1));
    }
}

/// The queue, for [`flush`].
static FLUSH: OnceLock<SyncSender<Item>> = OnceLock::new();

/// What goes through the queue.
#[expect(clippy::large_enum_variant, reason = "nearly every item is an entry")]
enum Item {
    Entry(Entry),
    /// Everything before it has been written when this is answered.
    Flush(SyncSender<()>),
}

/// One log entry on its way: the fields that an administrator filters by have a name of their own,
/// the others become part of the text.
#[derive(Debug, Default)]
struct Entry {
    level: Option<Level>,
    text: String,
    message_id: Option<String>,
    app: Option<String>,
    worker: Option<String>,
    route: Option<String>,
    server: Option<String>,
    client: Option<String>,
    request: Option<String>,
    reason: Option<String>,
}

struct QueueLayer {
    queue: SyncSender<Item>,
}

// === impl QueueLayer ===

impl<S: Subscriber> Layer<S> for QueueLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut entry = Entry { level: Some(*event.metadata().level()), ..Entry::default() };
        event.record(&mut entry);
        match self.queue.try_send(Item::Entry(entry)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

// === impl Item ===

impl Item {
    /// The entry to write; `None` for a flush, which is answered by the way.
    fn entry(self) -> Option<Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Flush(done) => {
                let _ = done.try_send(()); // whoever asked may have stopped waiting
                None
            }
        }
    }
}

// === impl Entry ===

impl Entry {
    fn named(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "message_id" => &mut self.message_id,
            "roundsman_app" => &mut self.app,
            "roundsman_worker" => &mut self.worker,
            "roundsman_route" => &mut self.route,
            "roundsman_server" => &mut self.server,
            "roundsman_client" => &mut self.client,
            "roundsman_request" => &mut self.request,
            "roundsman_reason" => &mut self.reason,
            _ => return None,
        })
    }

    fn put(&mut self, name: &str, value: String) {
        if let Some(slot) = self.named(name) {
            *slot = Some(value);
        } else if name == "message" {
            self.text.insert_str(0, &value);
        } else {
            // What has no field of its own is for people: `text: error=…`.
            let _ = write!(self.text, " {name}={value}");
        }
    }
}

impl Entry {
    /// As it is printed. An app may have written any of it, and a terminal obeys what it is told.
    fn shown(&self, terminal: bool) -> String {
        let level = self.level.unwrap_or(Level::INFO);
        let said = text::lines(&self.text);
        let mut line = match (terminal, level) {
            (true, Level::ERROR) => format!("\x1b[31m{level:>5}\x1b[0m {said}"),
            (true, Level::WARN) => format!("\x1b[33m{level:>5}\x1b[0m {said}"),
            _ => format!("{level:>5} {said}"),
        };
        let fields = [
            ("app", &self.app),
            ("worker", &self.worker),
            ("route", &self.route),
            ("server", &self.server),
            ("client", &self.client),
            ("request", &self.request),
            ("reason", &self.reason),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                let _ = write!(line, " {name}={}", text::one_line(value));
            }
        }
        line
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }
}

// === the writer thread ===

/// Logs an entry once more, at its level, where the crate at work is tracing-journald.
macro_rules! log_again {
    ($entry:expr, $($level:ident),*) => {
        match $entry.level.unwrap_or(Level::INFO) {
            $(Level::$level => tracing::event!(
                target: "roundsman",
                Level::$level,
                message_id = $entry.message_id.as_deref(),
                roundsman_app = $entry.app.as_deref(),
                roundsman_worker = $entry.worker.as_deref(),
                roundsman_route = $entry.route.as_deref(),
                roundsman_server = $entry.server.as_deref(),
                roundsman_client = $entry.client.as_deref(),
                roundsman_request = $entry.request.as_deref(),
                roundsman_reason = $entry.reason.as_deref(),
                "{}", $entry.text
            ),)*
        }
    };
}

fn write(items: &Receiver<Item>) {
    let mut told = 0;
    for item in items {
        let Some(entry) = item.entry() else { continue };
        log_again!(entry, ERROR, WARN, INFO, DEBUG, TRACE);
        if let Some(lost) = newly_dropped(&mut told) {
            tracing::warn!(target: "roundsman", "{lost} log entries were lost: the journal did not take them in time");
        }
    }
}

fn newly_dropped(told: &mut u64) -> Option<u64> {
    let dropped = dropped();
    let lost = dropped - *told;
    *told = dropped;
    (lost > 0).then_some(lost)
}

fn print(items: &Receiver<Item>) {
    let terminal = std::io::stderr().is_terminal();
    let mut told = 0;
    for item in items {
        let Some(entry) = item.entry() else { continue };
        let mut line = entry.shown(terminal);
        if let Some(lost) = newly_dropped(&mut told) {
            let _ = write!(line, "\n WARN {lost} log entries were lost");
        }
        // Nobody is left to tell when stderr is closed.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_app_writes_is_no_command_to_a_terminal() {
        let entry = Entry {
            level: Some(Level::WARN),
            text: "the app says \u{1b}]0;root\u{7}x\r\nand \u{9b}2Jmore".to_owned(),
            server: Some("a\n ERROR all is lost\u{1b}[2J".to_owned()),
            ..Entry::default()
        };
        assert_eq!(
            entry.shown(false),
            " WARN the app says �]0;root�x�\nand �2Jmore server=a� ERROR all is lost�[2J"
        );
        assert!(entry.shown(true).starts_with("\x1b[33m WARN\x1b[0m the app"), "ours are");
    }
    #[test]
    fn a_peer_of_http2_does_not_write_our_log() {
        let levels = levels();
        assert!(levels.would_enable("roundsman::proxy", &Level::INFO));
        assert!(levels.would_enable("zbus::connection", &Level::WARN));
        assert!(!levels.would_enable("h2::proto::ping_pong", &Level::WARN));
    }
}
