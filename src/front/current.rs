//! What a thread knows of the configuration at work.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::shared::Front;
use super::snapshot::Snapshot;
use crate::config::settings::RouteTarget;

/// The configuration at work, behind a count of the thread's own: the shared one would be fought
/// for by all threads at every request.
#[derive(Debug)]
pub(crate) struct CurrentSnapshot(Arc<Snapshot>);

impl CurrentSnapshot {
    /// Whether there is an app that is handed connections.
    #[cold]
    pub(crate) fn hands_connections_on(&self) -> bool {
        self.settings.apps.values().any(|app| app.handoff.is_some())
    }

    /// Where a request goes that came on a connection from before its app was handed connections: by
    /// what was at work then, and by the number of its route in that.
    #[cold]
    pub(crate) fn earlier_route(&self, host: &[u8], path: &[u8]) -> Option<(Rc<Self>, usize)> {
        let earlier = self.earlier.as_ref()?;
        let route = earlier.router.find(host, path)?;
        let RouteTarget::App(app) = &earlier.settings.routes[route].target else { return None };
        self.settings.apps.get(app)?.handoff.as_ref()?;
        Some((Rc::new(Self(Arc::clone(earlier))), route))
    }
}

impl Deref for CurrentSnapshot {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

/// The configuration that the thread knows, and a way to see whether it is still at work without
/// taking part in counting who uses it.
#[derive(Debug)]
pub(crate) struct ThreadSnapshot(RefCell<SnapshotCache>);

#[derive(Debug)]
struct SnapshotCache {
    cache: Cache<Shared, Arc<Snapshot>>,
    current: Rc<CurrentSnapshot>,
}

/// The front as its snapshot's cell.
#[derive(Debug)]
struct Shared(Arc<Front>);

impl Deref for Shared {
    type Target = ArcSwap<Snapshot>;

    fn deref(&self) -> &ArcSwap<Snapshot> {
        self.0.snapshot_cell()
    }
}

impl ThreadSnapshot {
    pub(crate) fn new(front: &Arc<Front>) -> Self {
        let mut cache = Cache::new(Shared(Arc::clone(front)));
        let current = Rc::new(CurrentSnapshot(Arc::clone(cache.load())));
        Self(RefCell::new(SnapshotCache { cache, current }))
    }

    /// The configuration at work.
    pub(crate) fn current(&self) -> Rc<CurrentSnapshot> {
        let SnapshotCache { cache, current } = &mut *self.0.borrow_mut();
        let latest = cache.load();
        if !Arc::ptr_eq(&current.0, latest) {
            *current = Rc::new(CurrentSnapshot(Arc::clone(latest)));
        }
        Rc::clone(current)
    }
}
