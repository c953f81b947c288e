//! Every balancing algorithm.

use roundsman::config::settings::{Algorithm, Hash, HashKey, HashMethod};

/// One of each, those that hash by the client's address.
pub(crate) fn every_algorithm() -> [Algorithm; 8] {
    let hash = |method| Algorithm::Hash(Hash { on: HashKey::ClientAddress, method });
    [
        Algorithm::RoundRobin,
        Algorithm::WeightedRoundRobin,
        Algorithm::IpHash,
        hash(HashMethod::Maglev),
        hash(HashMethod::Ketama),
        hash(HashMethod::Modulo),
        Algorithm::LeastConnections,
        Algorithm::PeakEwma,
    ]
}
