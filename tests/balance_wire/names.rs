//! Servers by DNS, over the wire: a DNS server of the test's own, and whom requests reach.

use std::collections::BTreeSet;
use std::net::IpAddr;

use simple_dns::RCODE;

use super::origin::Origin;
use super::support::{Client, Front};
use super::zone::{Says, Zone};
use super::{count, eventually, load};

fn ips(origins: &[&Origin]) -> Vec<IpAddr> {
    origins.iter().map(|origin| origin.address.ip()).collect()
}

/// Servers with one port, each on an address of its own.
fn origins(count: usize) -> Vec<Origin> {
    let first = Origin::start(0);
    let port = first.address.port();
    let others = (1..count).map(|number| Origin::start_at(number, port));
    std::iter::once(first).chain(others).collect()
}

fn answering(front: &Front) -> BTreeSet<String> {
    let mut client = Client::new(front);
    (0..12).map(|_| client.get("").expect("a response").text().to_owned()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn servers_come_and_go_with_their_addresses() {
    let zone = Zone::start();
    let origins = origins(3);
    zone.set("api.internal", Says::Addresses(ips(&[&origins[0], &origins[1]]), 1));
    let upstream =
        format!("servers = [{{ address = \"dns:api.internal:{}\" }}]", origins[0].address.port());
    let front = Front::with(&zone.settings(), &[("upstreams/api.toml", &upstream)]);
    // The first request may come before the first answer: then it waits for it.
    assert_eq!(answering(&front), set(&["s0", "s1"]));
    let counted = front.servers()[1].1;
    assert!(counted > 0);

    zone.set("api.internal", Says::Addresses(ips(&[&origins[1], &origins[2]]), 1));
    eventually("the change is seen", || front.addresses()[1] == origins[2].address.to_string());
    assert!(front.servers()[0].1 >= counted, "who stays keeps its counts");
    assert_eq!(answering(&front), set(&["s1", "s2"]));
    assert!(front.log().contains(&format!("gone: {}", origins[0].address)), "{}", front.log());

    for failing in [Says::Error(RCODE::ServerFailure), Says::Nothing] {
        zone.set("api.internal", failing);
        let before = zone.asked("api.internal");
        eventually("it is asked", || zone.asked("api.internal") > before + 1);
        assert_eq!(answering(&front), set(&["s1", "s2"]), "the last good answer stays");
    }
    assert_eq!(front.log().matches("does not resolve").count(), 1, "{}", front.log());
    zone.set("api.internal", Says::Addresses(ips(&[&origins[0]]), 1));
    eventually("it is mended", || front.addresses().len() == 1);
    assert_eq!(answering(&front), set(&["s0"]));
    assert!(front.log().contains("resolves again"), "{}", front.log());
}

#[test]
fn a_start_does_not_wait_for_a_name() {
    let zone = Zone::start();
    let origins = origins(1);
    zone.set("late.internal", Says::Nothing);
    let upstream =
        format!("servers = [{{ address = \"dns:late.internal:{}\" }}]", origins[0].address.port());
    let front = Front::with(&zone.settings(), &[("upstreams/api.toml", &upstream)]);
    assert!(front.addresses().is_empty());
    let explained = front.explain(&["--host", "a"]);
    assert!(
        explained["reason"].as_str().is_some_and(|r| r.contains("has been resolved")),
        "{explained}"
    );
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Client::new(&front).get("").expect("a response"));
        eventually("it is said", || front.log().contains("it has no servers until it does"));
        zone.set("late.internal", Says::Addresses(ips(&[&origins[0]]), 60));
        assert_eq!(waiting.join().expect("it is answered").text(), "s0");
        eventually("systemctl status shows it", || front.status_line().contains("1 of 1 servers"));
    });
}

#[test]
fn srv_records_say_ports_weights_and_backups() {
    let zone = Zone::start();
    let mut origins: Vec<_> = (0..3).map(Origin::start).collect();
    let service = |number: usize, priority, weight| {
        let port = origins[number].address.port();
        (priority, weight, port, format!("Host{number}.internal"))
    };
    for (number, origin) in origins.iter().enumerate() {
        let addresses = Says::Addresses(vec![origin.address.ip()], 60);
        zone.set(&format!("host{number}.internal"), addresses);
    }
    let services = vec![service(0, 10, 30), service(1, 10, 10), service(2, 20, 50)];
    zone.set("_http._tcp.api.internal", Says::Services(services, 60));
    let upstream = "balance = \"weighted-round-robin\"\n\
                    servers = [{ address = \"dns-srv:_http._tcp.api.internal\" }]\n";
    let front = Front::with(&zone.settings(), &[("upstreams/api.toml", upstream)]);
    let counts = load(&front, 400);
    println!("SRV 30/10 and a backup: {counts:?}");
    assert!(count(&counts, "s0").abs_diff(300) <= 4, "{counts:?}");
    assert_eq!(count(&counts, "s2"), 0, "a higher priority is a backup");
    origins[0].kill();
    origins[1].kill();
    let counts = load(&front, 40);
    assert_eq!(count(&counts, "s2"), 40, "nobody fails: {counts:?}");
}

#[test]
fn an_answer_that_does_not_fit_comes_over_tcp() {
    let zone = Zone::start();
    let origins = origins(1);
    let port = origins[0].address.port();
    let many: Vec<IpAddr> = (1..=100).map(|n| IpAddr::from([127, 90, 0, n])).collect();
    zone.set("many.internal", Says::Addresses(many, 60));
    let upstream = format!(
        "servers = [{{ address = \"dns:many.internal:{port}\", down = true }}, {{ address = \"{}\" }}]",
        origins[0].address
    );
    let front = Front::with(&zone.settings(), &[("upstreams/api.toml", &upstream)]);
    eventually("all are there", || front.addresses().len() == 101);
    assert!(zone.asked_over_tcp() > 0);
    assert_eq!(answering(&front), set(&["s0"]));
}

#[test]
fn the_hosts_file_goes_first() {
    let zone = Zone::start();
    let origin = Origin::start_on(0, [127, 0, 0, 1].into());
    let upstream =
        format!("servers = [{{ address = \"dns:localhost:{}\" }}]", origin.address.port());
    let settings = format!("{}addresses = \"ipv4\"\n", zone.settings());
    let front = Front::with(&settings, &[("upstreams/api.toml", &upstream)]);
    assert_eq!(answering(&front), set(&["s0"]));
    assert_eq!(front.addresses(), [origin.address.to_string()]);
    assert_eq!(zone.asked("localhost"), 0);
}
