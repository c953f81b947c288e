//! Balancing and health over the wire: the real binary, real servers, two and four threads.

mod blame;
mod checks;
mod distributions;
mod examples;
mod explain;
mod faults;
mod names;
mod origin;
mod support;
pub(crate) mod zone;

use crate::common::guide;
use crate::common::waiting::{PATIENCE, eventually};

use std::collections::BTreeMap;
use std::sync::Mutex;

use origin::Origin;
use support::{Client, Front};

const CLIENTS: usize = 4;

fn origins(count: usize) -> Vec<Origin> {
    (0..count).map(Origin::start).collect()
}

/// So many requests by several clients at once; how many each server answered.
fn load(front: &Front, requests: usize) -> BTreeMap<String, usize> {
    let counts = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::new(front);
                for _ in 0..requests / CLIENTS {
                    let got = client.get("").expect("a response");
                    assert!([200, 500].contains(&got.status()), "{got:?}");
                    let mut counts = counts.lock().expect("nobody panics with it");
                    *counts.entry(got.text().to_owned()).or_insert(0) += 1;
                }
            });
        }
    });
    counts.into_inner().expect("nobody panics with it")
}

fn count(counts: &BTreeMap<String, usize>, server: &str) -> usize {
    counts.get(server).copied().unwrap_or(0)
}

/// Addresses of clients, of both families, no two in one network that a hash takes for one.
fn client_addresses(count: usize) -> Vec<String> {
    let half = count / 2;
    let v4 = (0..half).map(|n| format!("198.{}.{}.{}", 18 + n / 200, n % 200, n % 250 + 1));
    let v6 = (0..count - half).map(|n| format!("2001:db8:7:{n:x}::{n:x}"));
    v4.chain(v6).collect()
}
