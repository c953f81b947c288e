//! A front with a careless server and a good one, and clients that watch whose answers they get.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;

use super::Memory;
use super::server::{Hostile, marks};
use crate::common::random::Random;
use crate::http::http2::support::Client as Http2;
use crate::http::support::{Backend, Client, Program, Wire as _, ok};

/// Longer than all time-outs and retries of the front together.
const HANG: Duration = Duration::from_secs(30);

pub(super) struct Neighbourhood {
    pub(super) front: Program,
    hostile: Hostile,
    /// The last mark that was given away.
    marked: AtomicU64,
    /// Answers with their owner's mark.
    owned: AtomicUsize,
    wrong: Mutex<Vec<String>>,
    rounds: u64,
    memory: Memory,
}

impl Neighbourhood {
    pub(super) fn start() -> Self {
        let hostile = Hostile::start();
        let good = Backend::raw(|peer| {
            while let Ok(request) = peer.reader.request() {
                peer.reader.raw.clear();
                if peer.send(&ok(request.target())).is_err() {
                    return;
                }
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let etc = directory.path().join("etc");
        std::fs::create_dir_all(etc.join("upstreams")).unwrap();
        let front = "[listen.http]\nhttp2 = true\n[timeouts]\nresponse-header = \"500ms\"\nresponse-body = \"500ms\"\n";
        std::fs::write(etc.join("roundsman.toml"), front).unwrap();
        upstream(&etc, "hostile", &hostile.addresses(0), "/");
        upstream(&etc, "good", &[good.address], "/good");
        Self {
            front: Program::start::<&str>(directory, &[]),
            hostile,
            marked: AtomicU64::new(0),
            owned: AtomicUsize::new(0),
            wrong: Mutex::default(),
            rounds: 0,
            memory: Memory::default(),
        }
    }

    /// Has the front know nothing of the server's past.
    pub(super) fn next(&mut self) {
        self.rounds += 1;
        upstream(&self.front.path("etc"), "hostile", &self.hostile.addresses(self.rounds), "/");
        let output = self.front.roundsman(&["reload"]);
        assert!(output.status.success(), "{output:?}");
        // What nobody reads holds it up.
        self.front.notified("READY=1");
    }

    /// What has been wrong in a round.
    #[track_caller]
    pub(super) fn assert_nothing_was_wrong(&mut self, seed: u64) {
        let faults = std::mem::take(&mut *self.hostile.faults.lock().unwrap());
        let mut wrong = std::mem::take(&mut *self.wrong.lock().unwrap());
        wrong.extend(faults.into_iter().map(|fault| format!("a server got {fault}")));
        wrong.truncate(10);
        assert!(wrong.is_empty(), "DIFF_SEED={seed}: {wrong:#?}");
        println!("{} answers with their owner's mark", self.owned());
        self.memory.look(&self.front);
    }

    pub(super) fn say(&self, wrong: String) {
        self.wrong.lock().unwrap().push(wrong);
    }

    pub(super) fn mark(&self) -> u64 {
        self.marked.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// What came is this mark's and no other's.
    pub(super) fn look(&self, how: &str, mark: u64, came: &[u8]) {
        if marks(came).iter().any(|other| *other != mark) {
            let end = came[came.len().saturating_sub(300)..].escape_ascii();
            self.say(format!("{how}: {mark} got … {end}"));
        }
    }

    /// A client of HTTP/1.1, of requests one by one and two at once.
    pub(super) fn ask(&self, random: &mut Random, requests: usize) {
        let mut client = self.connect();
        let mut asked = 0;
        while asked < requests {
            let all: Vec<_> = (0..=random.below(2)).map(|_| request(random, self.mark())).collect();
            asked += all.len();
            let bytes = all.iter().map(|(_, _, bytes)| bytes.as_str()).collect::<String>();
            let sent = io::Write::write_all(&mut client.stream, bytes.as_bytes());
            let went_on = sent.is_ok()
                && all.iter().all(|(method, mark, _)| self.hear(&mut client, method, *mark));
            if !went_on {
                client = self.connect();
            }
        }
    }

    fn connect(&self) -> Client {
        Client::connect(self.front.at(), HANG).unwrap()
    }

    /// Reads one answer; whether the connection goes on.
    fn hear(&self, client: &mut Client, method: &str, mark: u64) -> bool {
        let before = client.raw.len() - client.buffer.len();
        let answer = client.final_response(method);
        let after = client.raw.len() - if answer.is_ok() { client.buffer.len() } else { 0 };
        self.look("HTTP/1.1", mark, &client.raw[before..after]);
        match answer {
            Ok(answer) => {
                let size = answer.one("x-size").and_then(|size| size.parse::<usize>().ok());
                if size.is_some_and(|size| method != "HEAD" && size != answer.body.len()) {
                    self.say(format!("{mark} looks whole and is not: {answer:?}"));
                }
                self.owned
                    .fetch_add(usize::from(answer.one("x-owner").is_some()), Ordering::SeqCst);
                answer.status() != 101 && !answer.closes()
            }
            Err(error) => {
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::WouldBlock) {
                    let came = client.raw[before..].escape_ascii();
                    self.say(format!("{mark}: {error} behind {came}"));
                }
                false
            }
        }
    }

    /// A client of HTTP/2, of requests eight at a time.
    pub(super) async fn ask_http2(&self, random: &mut Random, requests: usize) {
        let client = Http2::connect(&self.front).await;
        for _ in 0..requests / 8 {
            let mut all = Vec::new();
            for _ in 0..8 {
                let method = random.pick(&["GET", "HEAD", "GET"]);
                let mark = self.mark();
                let request =
                    Request::builder().method(method).header("x-mark", format!("~{mark}~"));
                let request = request.uri(format!("http://a.example/~{mark}~")).body(()).unwrap();
                all.push((mark, client.begin(request, true).await.0));
            }
            for (mark, response) in all {
                let came = tokio::time::timeout(HANG, came(response)).await;
                match came {
                    Ok(came) => self.look("HTTP/2", mark, &came),
                    Err(_) => self.say(format!("{mark} hangs over HTTP/2")),
                }
            }
        }
    }

    /// Asks the good server, for which the others are nothing.
    pub(super) fn ask_the_good_one(&self, requests: usize) {
        let mut client = self.connect();
        for number in 0..requests {
            let path = format!("/good/{number}");
            let answer = client.ask(crate::http::support::get(&path));
            if !answer.as_ref().is_ok_and(|answer| answer.status() == 200 && answer.text() == path)
            {
                self.say(format!("beside it {path} got {answer:?}"));
                return;
            }
        }
    }

    /// Answers that had their owner's mark, over HTTP/1.1.
    pub(super) fn owned(&self) -> usize {
        self.owned.load(Ordering::SeqCst)
    }
}

fn upstream(etc: &std::path::Path, name: &str, servers: &[SocketAddr], path: &str) {
    let servers: Vec<_> =
        servers.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
    let text = format!("servers = [{}]\nroute = [{{ path = \"{path}\" }}]\n", servers.join(", "));
    std::fs::write(etc.join(format!("upstreams/{name}.toml")), text).unwrap();
}

/// A request with this mark: its method, the mark, and its bytes.
fn request(random: &mut Random, mark: u64) -> (&'static str, u64, String) {
    let method = random.pick(&["GET", "GET", "HEAD", "POST"]);
    let fields = random.pick(&["", "", "", "Connection: Upgrade\r\nUpgrade: websocket\r\n"]);
    let body = if method == "POST" { format!("~{mark}~") } else { String::new() };
    let fields = if method == "GET" { fields } else { "" };
    let text = format!(
        "{method} /~{mark}~ HTTP/1.1\r\nHost: a\r\nX-Mark: ~{mark}~\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    (method, mark, text)
}

/// All that came of an answer, whole or not.
async fn came(response: h2::client::ResponseFuture) -> Vec<u8> {
    let mut all = Vec::new();
    let Ok(response) = response.await else { return all };
    let (head, mut body) = response.into_parts();
    for value in head.headers.values() {
        all.extend_from_slice(value.as_bytes());
        all.push(b'\n');
    }
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        let data: Bytes = data;
        all.extend_from_slice(&data);
    }
    all
}
