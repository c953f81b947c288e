//! Broadcasts: from this shim straight to those of the app's other workers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::hub::Hub;
use super::outlet::Outlet;
use crate::base::paths;
use crate::base::worker_socket;

/// How old the list of siblings may be: younger than any app that has just been started, whose
/// shim makes its socket first.
const STALE: Duration = Duration::from_millis(20);

/// How long a sibling may take to accept.
const CONNECT: Duration = Duration::from_secs(10);

/// The ways to them, made when there is something to say.
#[derive(Debug)]
pub(crate) struct Siblings {
    base: PathBuf,
    app: String,
    number: u16,
    hub: Hub,
    /// By whom they lead to, and what is said there.
    links: HashMap<(u16, Kind), Arc<Outlet>>,
    looked: Option<(Instant, Kind)>,
}

/// What a sibling makes of what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// It says to its app who it is from.
    Broadcast,
    /// It gives it to its app as it is.
    Relay,
}

impl Siblings {
    pub(crate) fn new(base: PathBuf, app: &str, number: u16, hub: Hub) -> Self {
        let links = HashMap::new();
        Self { base, app: app.to_owned(), number, hub, links, looked: None }
    }

    /// Sends the JSON text `data` to every worker of the app but this one.
    pub(crate) fn broadcast(&mut self, data: &[u8]) {
        self.send(Kind::Broadcast, data);
    }

    /// Sends them a message that their apps shall get as if from a primary.
    pub(crate) fn relay(&mut self, message: &[u8]) {
        self.send(Kind::Relay, message);
    }

    fn send(&mut self, kind: Kind, data: &[u8]) {
        if self.looked.is_none_or(|(looked, of)| of != kind || looked.elapsed() >= STALE) {
            self.look(kind);
        }
        for ((number, _), link) in self.links.iter().filter(|((_, of), _)| *of == kind) {
            match link.push(&[data]) {
                None => self.hub.sibling_missed(),
                Some(0) => {}
                Some(gap) => {
                    let to = format!("{}:{number}", self.app);
                    self.hub.life("dropped", json!({ "for": to, "count": gap }));
                }
            }
        }
    }

    fn look(&mut self, kind: Kind) {
        self.looked = Some((Instant::now(), kind));
        self.links.retain(|_, link| !link.is_closed());
        for number in paths::workers_in(&self.base, &self.app) {
            if number != self.number && !self.links.contains_key(&(number, kind)) {
                let link = self.link(number, kind);
                self.links.insert((number, kind), link);
            }
        }
    }

    fn link(&self, number: u16, kind: Kind) -> Arc<Outlet> {
        let outlet = Arc::new(Outlet::default());
        let word: &[u8] = match kind {
            Kind::Broadcast => b"sibling ",
            Kind::Relay => b"relay ",
        };
        outlet.push(&[word, self.number.to_string().as_bytes()]);
        let path = paths::control_socket(&self.base, &self.app, number);
        let (link, writer) = (Arc::clone(&outlet), self.hub.writer());
        tokio::spawn(async move {
            if let Ok(mut stream) = worker_socket::control_async(CONNECT, &path).await {
                let (mut reader, mut writer) = stream.split();
                tokio::select! {
                    // What it cannot take any more is lost with it.
                    _ = link.write_to(&mut writer) => {}
                    // It says nothing: this is its end.
                    _ = tokio::io::AsyncReadExt::read_u8(&mut reader) => {}
                }
            }
            link.close();
            drop(writer);
        });
        outlet
    }
}

impl Drop for Siblings {
    fn drop(&mut self) {
        self.links.values().for_each(|link| link.close());
    }
}
