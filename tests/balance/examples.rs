//! The worked examples of docs/balancing.md do what it says: the files are taken from its text.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use roundsman::balance::{NoKeys, PickInput, Picked, RequestKeys, State, Upstream, split};
use roundsman::config::settings::{RouteTarget, Split};
use roundsman::config::{Settings, Sources, load};
use roundsman::front::Front;
use tokio::time::Instant;

use super::guide::balancing as files;

fn settings(files: &BTreeMap<String, String>) -> Settings {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    let loaded = load(&Sources::directory(folder.path().to_owned()));
    assert!(loaded.problems.errors() == 0, "{}", loaded.problems.render(false));
    loaded.settings
}

fn the_split(settings: &Settings) -> &Split {
    let route = settings.routes.iter().find(|r| matches!(r.target, RouteTarget::Split(_)));
    let Some(RouteTarget::Split(split)) = route.map(|r| &r.target) else { panic!("no split") };
    split
}

fn clients() -> Vec<IpAddr> {
    let v4 = (0..5_000_u32).map(|i| Ipv4Addr::from_bits(0xc633_6400 + i * 97).into());
    let v6 = (0..5_000_u128)
        .map(|i| Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | (i << 64) | (i * 7)).into());
    v4.chain(v6).collect()
}

#[test]
fn a_grey_release() {
    let mut files = files("Example: a grey release");
    assert_eq!(files.len(), 4, "{:?}", files.keys());
    let today = settings(&files);
    assert_eq!(today.front.trusted_proxies.len(), 2);
    let routes = files.get_mut("routes/grey.toml").expect("the routes");
    *routes = routes.replace("share = 95", "share = 90").replace("share = 5 ", "share = 10 ");
    let tomorrow = settings(&files);

    let side = |settings: &Settings, client| {
        let share = split::choose(the_split(settings), Some(client), &NoKeys, 0);
        share.expect("a share").to.to_string()
    };
    let (mut new, mut moved) = (0, 0);
    let clients = clients();
    for &client in &clients {
        let (before, after) = (side(&today, client), side(&tomorrow, client));
        assert_eq!(before, side(&today, client), "the same client, the same side");
        new += usize::from(before == "upstream:shop-next");
        moved += usize::from(before != after);
        assert!(before == after || after == "upstream:shop-next", "{client} moved back");
    }
    for count in [new, moved] {
        assert!((400..600).contains(&count), "{count} of {}", clients.len());
    }
}

struct Upload(String);

impl RequestKeys for Upload {
    fn header(&self, name: &str) -> Option<&[u8]> {
        (name == "x-upload-id").then_some(self.0.as_bytes())
    }
    fn cookie(&self, _: &str) -> Option<&[u8]> {
        None
    }
    fn path(&self) -> &[u8] {
        b"/upload"
    }
}

fn server(upstream: &Upstream, thread: usize, client: IpAddr, request: &dyn RequestKeys) -> String {
    let input = PickInput {
        thread,
        tried: &[],
        client: Some(client),
        request,
        now: Instant::now(),
        random: thread as u64,
    };
    let Picked::Server(in_flight) = upstream.pick_for(&input) else { panic!("all are up") };
    in_flight.server().name.clone()
}

#[test]
fn uploads_in_slices() {
    let mut files = files("Example: uploads in slices");
    let clients = clients();
    for by in ["header:x-upload-id", "client-address"] {
        let file = files.get_mut("upstreams/upload.toml").expect("the upstream");
        *file = file.replace("header:x-upload-id", by);
        let front = Front::new(settings(&files), 4);
        let upstream = front.snapshot().upstreams["upstream:upload"].clone();
        let mut counts = BTreeMap::<String, usize>::new();
        let home = |number: usize, slice: usize| {
            let upload = Upload(format!("upload-{number}"));
            server(&upstream, slice % 4, clients[number], &upload)
        };
        for number in (0..clients.len()).step_by(10) {
            let first = home(number, 0);
            assert!((1..9).all(|slice| home(number, slice) == first), "{by}: a slice went astray");
            *counts.entry(first).or_default() += 1;
        }
        assert_eq!(counts.len(), 3);
        assert!(counts.values().all(|&c| c > 250), "{by}: {counts:?}");

        // One server goes: only its uploads have to start over.
        let homes: Vec<_> = (0..1_000).map(|number| home(number, 0)).collect();
        upstream.servers[1].set_state(State::Down);
        for (number, before) in homes.iter().enumerate() {
            let after = home(number, 1);
            assert_eq!(after == *before, *before != upstream.servers[1].name);
        }
    }
}

/// A weight that does nothing is worth a word.
#[test]
fn a_weight_without_a_weighted_algorithm_is_warned_of() {
    let of = |balance: &str, weight: u32| {
        let text = format!(
            "{balance}\nservers = [{{ address = \"10.0.0.1:80\", weight = {weight} }}, \
             {{ address = \"10.0.0.2:80\" }}]\nroute = [{{ host = \"a.example\" }}]\n"
        );
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("upstreams")).expect("a folder");
        std::fs::write(folder.path().join("upstreams/a.toml"), text).expect("a file");
        load(&Sources::directory(folder.path().to_owned())).problems
    };
    let problems = of("", 5);
    assert_eq!((problems.errors(), problems.warnings()), (0, 1));
    assert!(problems.render(false).contains("weighted-round-robin"), "{}", problems.render(false));
    assert_eq!(of("balance = \"weighted-round-robin\"", 5).warnings(), 0);
    assert_eq!(of("", 0).warnings(), 0, "0 means none everywhere");
}
