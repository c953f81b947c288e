//! Splits: a client stays on its side, and a moved border moves only those between.

use std::net::IpAddr;

use roundsman::balance::key::Random;
use roundsman::balance::{NoKeys, RequestKeys, split};
use roundsman::config::settings::{RouteTarget, Share, Split, SplitKey};

fn split_of(by: SplitKey, shares: &[u32]) -> Split {
    let share = |(i, &share): (usize, &u32)| Share { to: RouteTarget::App(format!("v{i}")), share };
    Split { by, shares: shares.iter().enumerate().map(share).collect() }
}

fn side(split: &Split, client: Option<IpAddr>, request: &dyn RequestKeys, random: u64) -> String {
    split::choose(split, client, request, random).expect("a share").to.to_string()
}

fn clients(count: u32) -> impl Iterator<Item = Option<IpAddr>> {
    (0..count).map(|i| Some(IpAddr::from((0x0a00_0000 + i * 7).to_be_bytes())))
}

struct Cookie(&'static str, String);

impl RequestKeys for Cookie {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.cookie(name)
    }
    fn cookie(&self, name: &str) -> Option<&[u8]> {
        (name == self.0).then_some(self.1.as_bytes())
    }
    fn path(&self) -> &[u8] {
        b"/"
    }
}

#[test]
fn shares_are_kept() {
    let split = split_of(SplitKey::Ip, &[95, 5]);
    let new = clients(20_000).filter(|c| side(&split, *c, &NoKeys, 0) == "app:v1").count();
    assert!((900..1_100).contains(&new), "{new} of 20,000 on the new side");
}

#[test]
fn a_moved_border_moves_only_the_clients_it_must() {
    let (before, after) = (split_of(SplitKey::Ip, &[95, 5]), split_of(SplitKey::Ip, &[90, 10]));
    let mut moved = 0;
    for client in clients(20_000) {
        let (from, to) = (side(&before, client, &NoKeys, 1), side(&after, client, &NoKeys, 2));
        assert!(from == to || (from == "app:v0" && to == "app:v1"), "{client:?} went back");
        moved += usize::from(from != to);
    }
    assert!((900..1_100).contains(&moved), "{moved} of 20,000 moved");
}

#[test]
fn nothing_and_everything() {
    for (shares, to) in [([0, 7], "app:v1"), ([7, 0], "app:v0")] {
        let split = split_of(SplitKey::Random, &shares);
        let mut random = Random::new(5);
        assert!((0..1_000).all(|_| side(&split, None, &NoKeys, random.draw()) == to));
    }
    assert!(split::choose(&split_of(SplitKey::Ip, &[0, 0]), None, &NoKeys, 0).is_none());
    assert!(split::choose(&split_of(SplitKey::Ip, &[]), None, &NoKeys, 0).is_none());
}

#[test]
fn the_same_key_is_on_the_same_side_from_everywhere() {
    for by in [SplitKey::Cookie("user".into()), SplitKey::Header("user".into())] {
        let split = split_of(by, &[50, 50]);
        for user in 0..200 {
            let request = Cookie("user", format!("u{user}"));
            let home = side(&split, None, &request, 0);
            assert!(clients(9).all(|c| side(&split, c, &request, 1) == home));
        }
        let sides: std::collections::BTreeSet<_> =
            clients(100).map(|c| side(&split, c, &NoKeys, 0)).collect();
        assert_eq!(sides.len(), 2, "who has no key is split by address");
    }
}

#[test]
fn a_device_of_an_ipv6_network_stays_when_its_address_changes() {
    let split = split_of(SplitKey::Ip, &[50, 50]);
    for network in 0..100 {
        let of = |host: &str| {
            let address = format!("2001:db8:0:{network}::{host}").parse().expect("an address");
            side(&split, Some(address), &NoKeys, 0)
        };
        assert_eq!(of("1"), of("dead:beef"));
    }
    let mapped: IpAddr = "::ffff:10.1.2.3".parse().expect("an address");
    let plain: IpAddr = "10.1.2.3".parse().expect("an address");
    let sides = [mapped, plain].map(|a| side(&split, Some(a), &NoKeys, 0));
    assert_eq!(sides[0], sides[1]);
}
