//! Draws how each algorithm spreads requests, from real picks: `cargo run --example distribution`
//! writes the pictures of `docs/balancing.md` to `docs/pictures/`.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use roundsman::balance::key::Random;
use roundsman::balance::{InFlight, NoKeys, PickInput, Picked, Server, State, Upstream, split};
use roundsman::balance::{Status, Verdict};
use roundsman::config::settings::{
    Address, Algorithm, Balancing, Hash, HashKey, HashMethod, RouteTarget, ServerOptions, Share,
    Split, SplitKey,
};
use tokio::time::Instant;

const COLOURS: [&str; 5] = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377"];

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures");
    std::fs::create_dir_all(&folder)?;
    let write = |name: &str, picture: String| std::fs::write(folder.join(name), picture);
    write("turns.svg", turns())?;
    write("threads.svg", threads())?;
    write("hashes.svg", hashes())?;
    write("absence.svg", absence())?;
    write("load.svg", load())?;
    write("slow-start.svg", slow_start())?;
    write("split.svg", split_border())
}

// === what is drawn ===

/// The first 35 picks of the algorithms that go in turn.
fn turns() -> String {
    let sequence = |algorithm| {
        let upstream = upstream(algorithm, &[5, 1, 1], 1);
        (0..35).map(|i| pick(&upstream, 0, i, Instant::now()).0).collect::<Vec<_>>()
    };
    let mut picture = Picture::new("The first 35 requests, weights 5, 1, 1", &["a", "b", "c"]);
    picture.strip("round-robin (no weights)", &sequence(Algorithm::RoundRobin));
    picture.strip("weighted-round-robin", &sequence(Algorithm::WeightedRoundRobin));
    picture.strip("least-connections, idle", &sequence(Algorithm::LeastConnections));
    picture.finish()
}

/// Seven thousand requests, each on a thread drawn at random.
fn threads() -> String {
    let mut picture = Picture::new(
        "7,000 requests on random threads, weights 5, 1, 1 (exact: 5000, 1000, 1000)",
        &["a", "b", "c"],
    );
    for threads in [1, 2, 4, 16] {
        let upstream = upstream(Algorithm::WeightedRoundRobin, &[5, 1, 1], threads);
        let mut random = Random::new(7);
        let mut counts = [0; 3];
        for _ in 0..7_000 {
            let thread = (random.draw() % threads as u64) as usize;
            counts[pick(&upstream, thread, 0, Instant::now()).0] += 1;
        }
        picture.bar(&format!("{threads} threads"), &counts);
    }
    picture.finish()
}

/// Twenty thousand clients over five servers.
fn hashes() -> String {
    let mut picture =
        Picture::new("20,000 clients over five equal servers", &["a", "b", "c", "d", "e"]);
    for (name, algorithm) in hash_algorithms() {
        let upstream = upstream(algorithm, &[1; 5], 1);
        let mut counts = [0; 5];
        for client in 0..20_000 {
            counts[pick(&upstream, 0, client, Instant::now()).0] += 1;
        }
        picture.bar(name, &counts);
    }
    picture.finish()
}

/// Where the clients of a server go while it is out, and who else is moved.
fn absence() -> String {
    let mut picture = Picture::new(
        "Server e is out: whose clients are served elsewhere",
        &["nobody's: stayed", "e's: had to", "others': for nothing"],
    );
    for (name, algorithm) in hash_algorithms() {
        let upstream = upstream(algorithm, &[1; 5], 1);
        let homes: Vec<_> =
            (0..20_000).map(|client| pick(&upstream, 0, client, Instant::now()).0).collect();
        upstream.servers[4].set_state(State::Down);
        let mut counts = [0; 3];
        for (client, &home) in homes.iter().enumerate() {
            let now = pick(&upstream, 0, client as u64, Instant::now()).0;
            counts[if now == home { 0 } else { 1 + usize::from(home != 4) }] += 1;
        }
        picture.bar(name, &counts);
    }
    picture.finish()
}

/// Five servers, of which d takes four times as long and e fails everything at once.
fn load() -> String {
    let mut picture = Picture::new(
        "20,000 requests, 25 at a time: d is four times as slow, e answers 500 at once",
        &["a", "b", "c", "d, slow", "e, failing"],
    );
    for (name, algorithm) in [
        ("round-robin", Algorithm::RoundRobin),
        ("least-connections", Algorithm::LeastConnections),
        ("peak-ewma", Algorithm::PeakEwma),
    ] {
        let upstream = upstream(algorithm, &[1; 5], 1);
        let mut random = Random::new(11);
        let mut now = Instant::now();
        let mut held: VecDeque<(Instant, u16, InFlight)> = VecDeque::new();
        let mut counts = [0; 5];
        for _ in 0..20_000 {
            let (server, request) = pick(&upstream, 0, random.draw(), now);
            counts[server] += 1;
            let (takes, status) = match server {
                3 => (80, 200),
                4 => (1, 500),
                _ => (20, 200),
            };
            let done = now + Duration::from_millis(takes);
            let place = held.partition_point(|(other, ..)| *other <= done);
            held.insert(place, (done, status, request));
            while held.len() > 25 {
                if let Some((done, status, request)) = held.pop_front() {
                    now = now.max(done);
                    request.responded(status, now);
                }
            }
        }
        picture.bar(name, &counts);
    }
    picture.finish()
}

/// A server's share while it comes back.
fn slow_start() -> String {
    let mut picture = Picture::new(
        "Slow start: of 1,000 requests, how many go to server a after it came back",
        &["a", "b", "c"],
    );
    let upstream = upstream(Algorithm::RoundRobin, &[1; 3], 1);
    let mut random = Random::new(3);
    for tenths in (0..=10_u16).step_by(2) {
        let status = if tenths < 10 { Status::SlowStart } else { Status::Up };
        upstream.servers[0].set_health(Verdict { status, share: (tenths * 100).max(1) });
        let mut counts = [0; 3];
        for _ in 0..1_000 {
            counts[pick(&upstream, 0, random.draw(), Instant::now()).0] += 1;
        }
        picture.bar(&format!("after {} % of slow-start", tenths * 10), &counts);
    }
    picture.finish()
}

/// What a moved border does.
fn split_border() -> String {
    let mut picture = Picture::new(
        "A split by IP goes from 95/5 to 90/10: 20,000 clients",
        &["stay with the old", "move to the new", "stay with the new", "move back"],
    );
    let of = |old: u32, new: u32| Split {
        by: SplitKey::Ip,
        shares: vec![
            Share { to: RouteTarget::App("old".into()), share: old },
            Share { to: RouteTarget::App("new".into()), share: new },
        ],
    };
    let (before, after) = (of(95, 5), of(90, 10));
    let is_new = |split: &Split, client: u32| {
        let address = IpAddr::from((0x0a00_0000 + client * 31).to_be_bytes());
        split::choose(split, Some(address), &NoKeys, 0)
            .is_some_and(|share| share.to == RouteTarget::App("new".into()))
    };
    let mut counts = [0; 4];
    for client in 0..20_000 {
        counts[match (is_new(&before, client), is_new(&after, client)) {
            (false, false) => 0,
            (false, true) => 1,
            (true, true) => 2,
            (true, false) => 3,
        }] += 1;
    }
    picture.bar("clients", &counts);
    picture.finish()
}

// === picks ===

fn hash_algorithms() -> [(&'static str, Algorithm); 4] {
    let hash = |method| Algorithm::Hash(Hash { on: HashKey::ClientAddress, method });
    [
        ("ip-hash", Algorithm::IpHash),
        ("hash, maglev", hash(HashMethod::Maglev)),
        ("hash, ketama", hash(HashMethod::Ketama)),
        ("hash, modulo", hash(HashMethod::Modulo)),
    ]
}

fn upstream(algorithm: Algorithm, weights: &[u32], threads: usize) -> Upstream {
    let server = |(i, &weight): (usize, &u32)| {
        let options = ServerOptions { weight, ..ServerOptions::default() };
        let address = Address::Tcp(([10, 0, 0, 1 + i as u8], 8080).into());
        Arc::new(Server::with_options(address.to_string(), address, threads, &options))
    };
    let servers = weights.iter().enumerate().map(server).collect();
    Upstream::new("picture", servers, Balancing { algorithm, ..Balancing::default() })
}

/// Picks for client number `number`, which is the random number, too.
fn pick(upstream: &Upstream, thread: usize, number: u64, now: Instant) -> (usize, InFlight) {
    let client = Some(IpAddr::from(
        (0x0a00_0000_u32.wrapping_add((number as u32).wrapping_mul(257))).to_be_bytes(),
    ));
    let input = PickInput { thread, tried: &[], client, request: &NoKeys, now, random: number };
    let Picked::Server(in_flight) = upstream.pick_for(&input) else {
        unreachable!("some server is up")
    };
    let place = upstream.servers.iter().position(|s| s.id == in_flight.server().id);
    (place.expect("it is one of the upstream's"), in_flight)
}

// === drawing ===

const LABELS: usize = 180;
const WIDTH: usize = 560;
const ROW: usize = 34;

/// Rows of bars or strips, one colour for each of `names`.
struct Picture {
    title: String,
    names: Vec<String>,
    body: String,
    rows: usize,
}

impl Picture {
    fn new(title: &str, names: &[&str]) -> Self {
        let names = names.iter().map(ToString::to_string).collect();
        Self { title: title.to_owned(), names, body: String::new(), rows: 0 }
    }

    fn row(&mut self, label: &str) -> usize {
        let top = 66 + self.rows * ROW;
        self.rows += 1;
        self.text(LABELS - 8, top + 16, "end", "#333", label);
        top
    }

    /// Parts of a whole, side by side, with their sizes.
    fn bar(&mut self, label: &str, parts: &[usize]) {
        let top = self.row(label);
        let total = parts.iter().sum::<usize>().max(1);
        let mut left = 0;
        for (i, &part) in parts.iter().enumerate() {
            let (from, to) = (left * WIDTH / total, (left + part) * WIDTH / total);
            self.rect(LABELS + from, top, to - from, COLOURS[i % COLOURS.len()]);
            if to - from > 34 {
                let middle = LABELS + usize::midpoint(from, to);
                self.text(middle, top + 16, "middle", "#fff", &part.to_string());
            }
            left += part;
        }
    }

    /// One cell per request.
    fn strip(&mut self, label: &str, picks: &[usize]) {
        let top = self.row(label);
        let cell = WIDTH / picks.len().max(1);
        for (i, &pick) in picks.iter().enumerate() {
            self.rect(LABELS + i * cell, top, cell - 1, COLOURS[pick % COLOURS.len()]);
        }
    }

    fn rect(&mut self, x: usize, y: usize, width: usize, colour: &str) {
        let _ = writeln!(
            self.body,
            r#"<rect x="{x}" y="{y}" width="{width}" height="24" fill="{colour}"/>"#
        );
    }

    fn text(&mut self, x: usize, y: usize, anchor: &str, colour: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.body,
            r#"<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}">{text}</text>"#
        );
    }

    fn finish(mut self) -> String {
        let title = std::mem::take(&mut self.title);
        self.text(12, 22, "start", "#000", &title);
        let mut x = LABELS;
        for (i, name) in self.names.clone().iter().enumerate() {
            let _ = writeln!(
                self.body,
                r#"<rect x="{x}" y="38" width="12" height="12" fill="{}"/>"#,
                COLOURS[i % COLOURS.len()]
            );
            self.text(x + 17, 49, "start", "#333", name);
            x += 34 + name.len() * 7;
        }
        let (width, height) = (LABELS + WIDTH + 16, 76 + self.rows * ROW);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n{}</svg>\n",
            self.body
        )
    }
}
