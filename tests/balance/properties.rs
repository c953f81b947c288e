//! What every algorithm promises, whatever the weights, keys and servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use proptest::prelude::*;
use roundsman::balance::ketama::Ring;
use roundsman::balance::key::{self, Random};
use roundsman::balance::maglev::Table;
use roundsman::balance::smooth::Smooth;
use roundsman::balance::{ip_hash, least_connections, modulo, peak_ewma, round_robin};
use roundsman::config::settings::Address;

fn weights() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(1_u32..30, 1..20)
}

fn share(weights: &[u32], server: usize, of: usize) -> f64 {
    of as f64 * f64::from(weights[server]) / f64::from(weights.iter().sum::<u32>())
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("10.0.{}.{}:8080", i / 250, i % 250)).collect()
}

fn keys(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| format!("client {i}").into_bytes()).collect()
}

fn table(names: &[String], weights: &[u32]) -> Table {
    Table::new(names.iter().map(String::as_str).zip(weights.iter().copied())).expect("weights")
}

fn addresses(count: usize) -> Vec<Address> {
    (0..count).map(|i| Address::Unix(PathBuf::from(format!("/run/worker-{i}.sock")))).collect()
}

fn ring(addresses: &[Address], weights: &[u32]) -> Ring {
    Ring::new(addresses.iter().zip(weights.iter().copied()))
}

proptest! {
    /// Every period is exact, and no stretch of any length strays by 2 or more.
    #[test]
    fn smooth_turns_are_proportional(weights in weights(), skip in 0_usize..100) {
        let all = vec![true; weights.len()];
        let period = weights.iter().sum::<u32>() as usize;
        let mut smooth = Smooth::new(&weights);
        (0..skip).for_each(|_| { smooth.pick(&all); });
        let mut counts = vec![0_u32; weights.len()];
        for picks in 1..=period * 2 {
            counts[smooth.pick(&all).expect("all are usable")] += 1;
            for (server, &count) in counts.iter().enumerate() {
                let off = f64::from(count) - share(&weights, server, picks);
                prop_assert!(off.abs() < 2.0, "server {server} is off by {off} after {picks}");
            }
            if picks % period == 0 {
                let exact: Vec<_> = weights.iter().map(|w| w * (picks / period) as u32).collect();
                prop_assert_eq!(&counts, &exact);
            }
        }
    }

    /// Whoever is usable is picked, whoever is not is not, and who has no weight never is.
    #[test]
    fn smooth_turns_starve_nobody(
        servers in prop::collection::vec((0_u32..9, any::<bool>()), 1..12),
    ) {
        let weights: Vec<_> = servers.iter().map(|s| s.0).collect();
        let usable: Vec<_> = servers.iter().map(|s| s.1).collect();
        let mut smooth = Smooth::new(&weights);
        let mut picked = vec![false; servers.len()];
        for _ in 0..weights.iter().sum::<u32>().max(1) * 2 {
            if let Some(server) = smooth.pick(&usable) {
                picked[server] = true;
            }
        }
        let expected: Vec<_> = servers.iter().map(|&(weight, usable)| usable && weight > 0).collect();
        prop_assert_eq!(picked, expected);
    }

    /// After failures the shares come back by themselves.
    #[test]
    fn smooth_turns_recover(
        weights in weights(),
        failures in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        max_fails in 1_u32..5,
    ) {
        let all = vec![true; weights.len()];
        let mut smooth = Smooth::new(&weights);
        for server in failures {
            smooth.failed(server.index(weights.len()), max_fails);
            smooth.pick(&all);
        }
        (0..30).for_each(|_| { smooth.pick(&all); }); // one more than the largest weight
        let configured: Vec<_> = weights.iter().map(|&w| w.cast_signed()).collect();
        prop_assert_eq!(smooth.effective(), configured.as_slice());
    }

    /// A server that comes or goes does not upset the others' turns.
    #[test]
    fn smooth_turns_survive_a_reload(weights in weights(), skip in 0_usize..50, gone in any::<prop::sample::Index>()) {
        let mut smooth = Smooth::new(&weights);
        let all = vec![true; weights.len()];
        (0..skip).for_each(|_| { smooth.pick(&all); });
        let gone = gone.index(weights.len());
        let mut after = weights.clone();
        after.remove(gone);
        after.push(3);
        let mut smooth = smooth.carry_over(&after, |i| {
            (i + 1 < after.len()).then_some(if i < gone { i } else { i + 1 })
        });
        prop_assert_eq!(smooth.current().iter().sum::<i32>(), 0);
        let all = vec![true; after.len()];
        let picks = after.iter().sum::<u32>() as usize * 3;
        let mut counts = vec![0_u32; after.len()];
        (0..picks).for_each(|_| counts[smooth.pick(&all).expect("usable")] += 1);
        for (server, &count) in counts.iter().enumerate() {
            let off = f64::from(count) - share(&after, server, picks);
            prop_assert!(off.abs() < 4.0, "server {server} is off by {off}");
        }
    }

    #[test]
    fn round_robin_goes_round(usable in prop::collection::vec(any::<bool>(), 1..50), from: u16) {
        let candidates: Vec<u16> =
            (0..usable.len()).filter(|&i| usable[i]).map(|i| i as u16).collect();
        let mut counts = vec![0; usable.len()];
        for turn in 0..candidates.len() * 3 {
            if let Some(i) = round_robin::pick(usize::from(from) + turn, &candidates, &usable) {
                counts[i] += 1;
            }
        }
        let expected: Vec<_> = usable.iter().map(|&u| if u { 3 } else { 0 }).collect();
        prop_assert_eq!(counts, expected);
    }

    /// The same network always goes to the same server, and only if that is out to another.
    #[test]
    fn ip_hash_holds(weights in weights(), a: u32, host: u8, out in any::<prop::sample::Index>()) {
        let all = vec![true; weights.len()];
        let client = IpAddr::V4(Ipv4Addr::from_bits(a));
        let neighbour = IpAddr::V4(Ipv4Addr::from_bits(a & !0xff | u32::from(host)));
        let home = ip_hash::pick(Some(client), &weights, &all);
        prop_assert_eq!(home, ip_hash::pick(Some(neighbour), &weights, &all));
        prop_assert_eq!(home.is_none(), weights.len() == 1, "one server needs no hash");
        let mut some = all;
        let out = out.index(weights.len());
        some[out] = false;
        let other = ip_hash::pick(Some(client), &weights, &some);
        if home == Some(out) {
            prop_assert_ne!(other, Some(out));
        } else {
            prop_assert_eq!(other, home, "somebody else's server went out");
        }
    }

    #[test]
    fn ip_hash_uses_all_of_ipv6(a: u128) {
        let weights = [1; 16];
        let usable = [true; 16];
        let of = |bits| ip_hash::pick(Some(IpAddr::V6(Ipv6Addr::from_bits(bits))), &weights, &usable);
        let moved = (0..64).filter(|host| of(a ^ host) != of(a)).count();
        prop_assert!(moved > 30, "only {moved} of 64 hosts of a network went elsewhere");
    }

    /// With a server out, its keys go to usable ones and nobody else's move.
    #[test]
    fn hashes_move_only_the_clients_of_a_lost_server(
        weights in prop::collection::vec(1_u32..4, 2..9),
        out in any::<prop::sample::Index>(),
    ) {
        let names = names(weights.len());
        let addresses = addresses(weights.len());
        let (table, ring) = (table(&names, &weights), ring(&addresses, &weights));
        let all = vec![true; weights.len()];
        let out = out.index(weights.len());
        let mut some = all.clone();
        some[out] = false;
        for key in keys(300) {
            let hash = key::hash(key::SERVER, &key);
            for (before, after) in [
                (table.pick(hash, &all), table.pick(hash, &some)),
                (ring.pick(&key, &all), ring.pick(&key, &some)),
                (modulo::pick(&key, &weights, &all), modulo::pick(&key, &weights, &some)),
            ] {
                prop_assert!(before.is_some());
                if before == Some(out) {
                    prop_assert_ne!(after, Some(out));
                } else {
                    prop_assert_eq!(after, before);
                }
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))] // each builds two large tables

    /// The order of the list does not matter: every front agrees.
    #[test]
    fn maglev_depends_on_names_only(count in 2_usize..12, turn in 1_usize..11) {
        let mut names = names(count);
        let before = table(&names, &vec![1; count]);
        let old = names.clone();
        names.rotate_left(turn % count);
        let after = table(&names, &vec![1; count]);
        for (a, b) in before.entries().iter().zip(after.entries()) {
            prop_assert_eq!(&old[usize::from(*a)], &names[usize::from(*b)]);
        }
    }
}

proptest! {

    /// Nobody has fewer requests in flight for its weight than the one that is picked.
    #[test]
    fn least_connections_picks_the_least(
        servers in prop::collection::vec((0_u32..50, 0_u32..9, any::<bool>()), 1..20),
    ) {
        let connections: Vec<_> = servers.iter().map(|s| s.0).collect();
        let weights: Vec<_> = servers.iter().map(|s| s.1).collect();
        let usable: Vec<_> = servers.iter().map(|s| s.2).collect();
        let mut ties = Smooth::new(&weights);
        let mut tied = vec![false; servers.len()];
        let load = |i: usize| f64::from(connections[i]) / f64::from(weights[i]);
        let eligible: Vec<_> = (0..servers.len()).filter(|&i| usable[i] && weights[i] > 0).collect();
        let picked = least_connections::pick(&connections, &weights, &usable, &mut ties, &mut tied);
        prop_assert_eq!(picked.is_none(), eligible.is_empty());
        if let Some(picked) = picked {
            prop_assert!(eligible.contains(&picked));
            prop_assert!(eligible.iter().all(|&i| load(i) >= load(picked)));
        }
    }

    /// An idle upstream is all ties: then the weights decide.
    #[test]
    fn least_connections_breaks_ties_by_weight(weights in weights()) {
        let idle = vec![0; weights.len()];
        let usable = vec![true; weights.len()];
        let mut tied = vec![false; weights.len()];
        let (mut ties, mut plain) = (Smooth::new(&weights), Smooth::new(&weights));
        for _ in 0..100 {
            let picked = least_connections::pick(&idle, &weights, &usable, &mut ties, &mut tied);
            prop_assert_eq!(picked, plain.pick(&usable));
        }
    }

    /// The dearest of all is never picked while there is another one, and with equal costs
    /// everybody has his share.
    #[test]
    fn peak_ewma_avoids_the_dearest(count in 2_usize..20, seed: u64) {
        let candidates: Vec<u16> = (0..count as u16).collect();
        let usable = vec![true; count];
        let mut random = Random::new(seed);
        let mut counts = vec![0_u32; count];
        for _ in 0..200 * count {
            let dear = |i: usize| if i == 1 { 9.0 } else { 1.0 };
            let picked = peak_ewma::pick(&candidates, &usable, random.draw(), dear);
            prop_assert_ne!(picked, Some(1));
            let even = peak_ewma::pick(&candidates, &usable, random.draw(), |_| 1.0);
            counts[even.expect("usable")] += 1;
        }
        prop_assert!(counts.iter().all(|&c| (100..=330).contains(&c)), "{counts:?}");
    }
}

#[test]
fn all_down_is_nobody() {
    let (weights, down) = ([1, 2, 3], [false; 3]);
    let names = names(3);
    assert_eq!(Smooth::new(&weights).pick(&down), None);
    assert_eq!(ip_hash::pick(None, &weights, &down), None);
    assert_eq!(modulo::pick(b"key", &weights, &down), None);
    assert_eq!(table(&names, &weights).pick(1, &down), None);
    assert_eq!(ring(&addresses(3), &weights).pick(b"key", &down), None);
    assert_eq!(peak_ewma::pick(&[0, 1, 2], &down, 7, |_| 1.0), None);
    assert_eq!(round_robin::pick(5, &[0, 1, 2], &down), None);
}

#[test]
fn nothing_is_made_of_no_servers_or_no_weight() {
    assert_eq!(Smooth::new(&[]).pick(&[]), None);
    assert_eq!(Smooth::new(&[0]).pick(&[true]), None);
    assert_eq!(ip_hash::pick(None, &[], &[]), None);
    assert_eq!(ip_hash::pick(None, &[0, 0], &[true, true]), None);
    assert!(Table::new([("a", 0)]).is_none());
    assert_eq!(ring(&addresses(2), &[0, 0]).pick(b"key", &[true, true]), None);
    assert_eq!(peak_ewma::pick(&[], &[], 7, |_| 1.0), None);
}

#[test]
fn one_server_gets_everything() {
    let names = names(1);
    for key in keys(100) {
        let hash = key::hash(key::SERVER, &key);
        assert_eq!(table(&names, &[3]).entries()[0], 0);
        assert_eq!(table(&names, &[3]).pick(hash, &[true]), Some(0));
        assert_eq!(ring(&addresses(1), &[3]).pick(&key, &[true]), Some(0));
        assert_eq!(peak_ewma::pick(&[0], &[true], hash, |_| 1.0), Some(0));
    }
}

#[test]
fn maglev_shares_follow_the_weights_within_two_per_cent() {
    let weights: Vec<u32> = (0..50).map(|i| 1 + i % 5).collect();
    let table = table(&names(50), &weights);
    let mut counts = vec![0_usize; 50];
    for &server in table.entries() {
        counts[usize::from(server)] += 1;
    }
    for (server, &count) in counts.iter().enumerate() {
        let off = count as f64 / share(&weights, server, table.entries().len()) - 1.0;
        assert!(off.abs() < 0.02, "server {server} is off by {off}");
    }
}

/// Of ten servers one is taken from the list: a tenth of the clients have to move, a few more do.
#[test]
fn a_changed_list_moves_little() {
    let (all, fewer) = (names(10), names(9));
    let (before, after) = (table(&all, &[1; 10]), table(&fewer, &[1; 9]));
    let (ring_before, ring_after) = (ring(&addresses(10), &[1; 10]), ring(&addresses(9), &[1; 9]));
    let keys = keys(20_000);
    let (mut moved, mut ring_moved) = (0, 0);
    for key in &keys {
        let hash = key::hash(key::SERVER, key);
        let home = before.pick(hash, &[true; 10]);
        moved += usize::from(home != Some(9) && home != after.pick(hash, &[true; 9]));
        let home = ring_before.pick(key, &[true; 10]);
        ring_moved += usize::from(home != Some(9) && home != ring_after.pick(key, &[true; 9]));
    }
    assert_eq!(ring_moved, 0, "a ring moves nobody in vain");
    assert!(moved * 100 < keys.len() * 5, "{moved} of {} moved in vain", keys.len());
}
