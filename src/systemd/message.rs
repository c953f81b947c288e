//! The events an administrator would filter on, each with its own `MESSAGE_ID=`.
//!
//! `journalctl MESSAGE_ID=…` finds them whatever the text says, and `journalctl -x` shows the
//! explanation from the catalog (`packaging/catalog`). An id never changes its meaning.

/// The front serves: listeners, configuration and threads are there.
pub(crate) const FRONT_READY: &str = "bf46fbb45fae4e81a0bf664d8167fa97";
/// The front stops.
pub(crate) const FRONT_STOPPING: &str = "78c4e9d028364c80aa22af5835a5b365";
/// A new configuration is at work.
pub(crate) const RELOADED: &str = "1b2d2fbdd8264caea1083efdeeb0b08e";
/// A new configuration was refused; the old one stays.
pub(crate) const RELOAD_REFUSED: &str = "a09645ddcea34ce39df4abe7a3514284";
/// The configuration has errors and the last good one is used instead.
pub(crate) const LAST_GOOD_USED: &str = "91fa46ab37d440008048dc73fa06a51b";
/// Certificates cannot be used and the front serves without them.
pub(crate) const CERTIFICATES_REFUSED: &str = "ed40de8509e44230be851dbebd802bb2";
/// A server may get requests again.
pub(crate) const SERVER_UP: &str = "8cca2e4f087a434d93729829572835d2";
/// A server gets nothing new.
pub(crate) const SERVER_DRAINING: &str = "de611180ac33454d97ffc5e580fb4bba";
/// A server gets nothing.
pub(crate) const SERVER_DOWN: &str = "c6fb9e29f6cf4b269997aaa277e49c3f";
/// A thread of the front does not move: systemd will restart the service.
pub(crate) const THREAD_STUCK: &str = "78b43d39e0cc4ea0885a69dbc4987ed0";
/// The system bus is gone; workers' states may be old.
pub(crate) const BUS_LOST: &str = "b369095f114c42599173be9214e80a3c";
/// A worker's app is ready.
pub(crate) const WORKER_READY: &str = "824255bc581d4a41a9f2d3fedc5795f1";
/// A worker's app did not become ready in time.
pub(crate) const WORKER_NOT_READY: &str = "472e51126dc444db8e3e3f287978fd0a";
/// A worker's app ended without being asked to.
pub(crate) const WORKER_EXITED: &str = "fe12ff17325149f8b3fff9b2452859ae";
/// A worker's app does not answer.
pub(crate) const WORKER_STUCK: &str = "0c4773bcf30e450c9bbaa60571734a88";
/// A server failed requests or checks and gets nothing for a while.
pub(crate) const SERVER_EJECTED: &str = "1475a27a13164405bc79a69bc53b2629";
/// An ejected server is tried, one request at a time.
pub(crate) const SERVER_SUSPECT: &str = "7639a7fd72344b3da1fcb6a5938c094b";
/// Most servers of an upstream look ill: health is not believed, all are used.
pub(crate) const PANIC: &str = "546f3dbc78644d2aac3e365adbf962aa";
/// Enough servers of an upstream look healthy again.
pub(crate) const PANIC_OVER: &str = "de48d13206404182bbf55b2a487e9645";
/// A server sent more than its answer: its connections are not used again for a while.
pub(crate) const SERVER_SPOKE: &str = "8f0d1c8a2b7e4f3f9b1f6f0f4b6a52d7";
/// A name of servers does not resolve; those of its last answer stay.
pub(crate) const DNS_FAILED: &str = "48ef1c74adde4b00a86cfd24a248e1cb";
/// A name of servers that did not resolve does so again.
pub(crate) const DNS_RECOVERED: &str = "6fd4f08258224bdbabaeafb2cdf15878";
/// A name of servers stands for others than before.
pub(crate) const DNS_CHANGED: &str = "ce524079018c415996ee80cc3a2ed3b7";
/// A worker crashed again, and waits before its app is started once more.
pub(crate) const WORKER_BACKS_OFF: &str = "bfa768a6352e4bb18c6f8eb0a16d36d8";
/// A worker crashed too often in a row and is not started again.
pub(crate) const WORKER_GIVEN_UP: &str = "53ed579dd123465090049369b68f9b81";
/// A worker's app ended by an exit code that says that it is done.
pub(crate) const WORKER_DONE: &str = "48f25670d78649e5b17dfe5b94cdd59d";
/// A worker is replaced for its memory or its age, or all are for changed files.
pub(crate) const WORKERS_REPLACED: &str = "9a02c639348843318eab35b60fd37c3a";
/// Workers could not be replaced.
pub(crate) const REPLACE_FAILED: &str = "21507958058a4cc0a1b4c975de7021de";
