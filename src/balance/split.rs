//! Splits: which of several upstreams answers a request.
//!
//! The shares lie side by side on a line, in the file's order, and a request's key is a place on
//! it. The same key is always at the same place, so moving one border moves only the clients
//! between its old place and its new one: from 95/5 to 90/10, five in a hundred.

use std::net::IpAddr;

use super::input::RequestKeys;
use super::key;
use crate::config::settings::{Share, Split, SplitKey};

/// The share that gets this request.
pub fn choose<'a>(
    split: &'a Split,
    client: Option<IpAddr>,
    request: &dyn RequestKeys,
    random: u64,
) -> Option<&'a Share> {
    let place = match &split.by {
        SplitKey::Ip => place_of_address(client),
        SplitKey::Cookie(name) => place_of_value(request.cookie(name), client),
        SplitKey::Header(name) => place_of_value(request.header(name), client),
        SplitKey::Random => random,
    };
    let total = split.shares.iter().map(|share| u64::from(share.share)).sum();
    let mut point = key::scale(place, total);
    split.shares.iter().find(|share| {
        let size = u64::from(share.share);
        let here = point < size;
        point = point.saturating_sub(size);
        here
    })
}

/// Of IPv6 the first 64 bits, because devices change the rest by the hour.
fn place_of_address(client: Option<IpAddr>) -> u64 {
    match client.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => key::hash(key::SPLIT, &address.octets()),
        Some(IpAddr::V6(address)) => key::hash(key::SPLIT, &address.octets()[..8]),
        None => key::hash(key::SPLIT, b""),
    }
}

fn place_of_value(value: Option<&[u8]>, client: Option<IpAddr>) -> u64 {
    value.map_or_else(|| place_of_address(client), |value| key::hash(key::SPLIT, value))
}
