//! What the server knows about one connection.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::protocol::Version;
use super::super::store::key::Space;
use super::super::store::{NOWHERE, Store, Tracker};
use super::sets::next_random;
use super::transactions::Queue;
use super::watching::{Watching, WatchingMemento};

/// Who is at the other end, as far as the kernel or a password says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// A process of a worker of this app: it sees this app's keys, and no others.
    Worker(String),
    /// The administrator, or whoever runs the store: may choose a namespace.
    Admin,
    /// Over TCP: nobody, until a password says for which namespace.
    Remote,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    /// Its number, as in `CLIENT ID`.
    pub id: u64,
    /// Who it is.
    pub identity: Identity,
    /// Whether it may do more than authenticate.
    pub authenticated: bool,
    /// The database, as in `SELECT`.
    pub database: u8,
    /// The database of the namespace, once there is something in it.
    pub space: Space,
    /// The protocol it speaks.
    pub version: Version,
    /// What `CLIENT SETNAME` says.
    pub name: String,
    /// What `CLIENT SETINFO` says.
    pub library: (String, String),
    /// Where it comes from.
    pub address: String,
    /// When it came, in milliseconds since 1970.
    pub since: u64,
    /// It closes after the replies so far.
    pub closing: bool,
    /// It keeps copies of what it reads, and is told when they are stale.
    pub tracker: Option<Rc<Tracker>>,
    /// The request can be answered if it is asked again when the checkpoint has ended.
    pub again: bool,
    /// For so long the replies so far are put off.
    pub put_off: Option<Duration>,
    /// Connections of its namespace, this one among them.
    pub neighbours: Rc<Cell<usize>>,
    /// When it sent its last request, in milliseconds since 1970.
    pub active: u64,
    pub(super) namespace: String,
    pub(super) queue: Option<Queue>,
    pub(super) watching: Watching,
    random: u64,
}

/// What the next process of the service must know of a connection that it takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memento {
    identity: Identity,
    authenticated: bool,
    namespace: String,
    database: u8,
    version: Version,
    name: String,
    library: (String, String),
    address: String,
    since: u64,
    queue: Option<Queue>,
    watching: WatchingMemento,
    tracks: bool,
}

/// More of a transaction, and of what is watched, is not taken to another process.
const MOST_KEPT: usize = 4 * 1024 * 1024;
/// The namespace of those who name none.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

impl Memento {
    /// Whether it was a password that said for which namespace it is.
    pub fn is_of_password(&self) -> bool {
        self.identity == Identity::Remote && self.authenticated
    }

    /// Whether it came over TCP.
    pub fn is_remote(&self) -> bool {
        self.identity == Identity::Remote
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Client {
    /// A connection that has just been accepted.
    pub fn new(id: u64, identity: Identity, address: String, now: u64) -> Self {
        let namespace = match &identity {
            Identity::Worker(app) => app.clone(),
            Identity::Admin | Identity::Remote => DEFAULT_NAMESPACE.to_owned(),
        };
        Self {
            id,
            authenticated: identity != Identity::Remote,
            identity,
            database: 0,
            space: NOWHERE,
            version: Version::Two,
            name: String::new(),
            library: Default::default(),
            address,
            since: now,
            closing: false,
            tracker: None,
            again: false,
            put_off: None,
            neighbours: Rc::default(),
            active: now,
            namespace,
            queue: None,
            watching: Watching::default(),
            random: id.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ now,
        }
    }

    /// What is needed to go on with it in another process; `None` when it is about to end, or within a large
    /// transaction. `is_space` says which databases will have the number there that they have here.
    pub fn memento(&self, is_space: impl Fn(Space) -> bool) -> Option<Memento> {
        let goes_on = !self.closing && (self.tracker.is_some() || self.memory() <= MOST_KEPT);
        goes_on.then(|| Memento {
            identity: self.identity.clone(),
            authenticated: self.authenticated,
            namespace: self.namespace.clone(),
            database: self.database,
            version: self.version,
            name: self.name.clone(),
            library: self.library.clone(),
            address: self.address.clone(),
            since: self.since,
            queue: self.queue.clone(),
            watching: self.watching.memento(is_space),
            tracks: self.tracker.is_some(),
        })
    }

    /// A connection as another process had it.
    pub fn from_memento(id: u64, memento: Memento, store: &mut Store) -> Self {
        let Memento { identity, authenticated, namespace, database, .. } = memento;
        let mut client = Self::new(id, identity, memento.address, memento.since);
        client.namespace = namespace;
        (client.authenticated, client.database) = (authenticated, database);
        (client.version, client.name) = (memento.version, memento.name);
        client.library = memento.library;
        client.queue = memento.queue;
        client.watching = Watching::from_memento(memento.watching);
        for key in client.watching.keys() {
            store.watch(key, client.watching.touched());
        }
        // What it has read is not known here: it is told to forget all copies.
        client.tracker = memento.tracks.then(|| Rc::new(Tracker::of_stale_copies()));
        client
    }

    /// Whose keys it sees.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Bytes that it holds between requests.
    pub fn memory(&self) -> usize {
        self.queue.as_ref().map_or(0, Queue::memory)
            + self.watching.memory()
            + self.tracker.as_ref().map_or(0, |tracker| tracker.memory())
    }

    pub(super) fn set_namespace(&mut self, namespace: &str) {
        namespace.clone_into(&mut self.namespace);
        self.space = NOWHERE;
    }

    pub(super) fn unwatch(&mut self) {
        // With a new cell: the store keeps only weak references to the old one.
        self.watching = Watching::default();
    }

    pub(super) fn random(&mut self) -> u64 {
        next_random(&mut self.random)
    }
}
