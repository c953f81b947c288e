//! One client: each of its requests carries a mark that nobody else has, and the answer must show it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::Request as Http2Request;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::harness::{Connection, Failure, Heard, Http2, Message, WebSocket};

use super::jobs::Jobs;
use super::random::Random;
use super::request::{Failed, Kind, Request, Went};
use super::site::App;

/// Longer than any fault that costs nothing holds a request up, on a machine with two cores and much to do.
const LATE: Duration = Duration::from_secs(15);

/// What a body that is sent in pieces has: more than sockets buffer at once.
const UPLOAD: usize = 512 * 1024;
const PIECES: usize = 8;
const BETWEEN_PIECES: Duration = Duration::from_millis(40);

/// Streams at once.
const STREAMS: usize = 4;

/// A client that asks one request after the other.
#[derive(Debug)]
pub(super) struct Client {
    kind: Kind,
    app: &'static App,
    start: Instant,
    random: Random,
    name: String,
    asked: u64,
    /// When the connection that is used was last good.
    good: Duration,
    kept: Option<Connection>,
    web_socket: Option<WebSocket>,
    http2: Option<Http2>,
    /// The cookie of a session, and who it is.
    session: Option<(String, String)>,
    jobs: Option<Jobs>,
}

// === impl Client ===

impl Client {
    /// The client of this number. `queue` is where jobs are.
    pub(super) fn new(
        kind: Kind,
        app: &'static App,
        number: u64,
        (seed, start): (u64, Instant),
        queue: PathBuf,
    ) -> Self {
        Self {
            kind,
            app,
            start,
            random: Random::of(seed, number),
            name: format!("c{number}"),
            asked: 0,
            good: Duration::ZERO,
            kept: None,
            web_socket: None,
            http2: (kind == Kind::Http2).then(|| Http2::new(address(app))),
            session: None,
            jobs: (kind == Kind::Job).then(|| Jobs::new(queue)),
        }
    }

    /// Asks once; what it asked in vain.
    pub(super) fn ask(&mut self) -> Result<(), Box<Failed>> {
        self.asked += 1;
        let mark = format!("{}.{}.{:08x}", self.name, self.asked, self.random.next() as u32);
        loop {
            let (asked, began) = (self.start.elapsed(), Instant::now());
            let went = self.exchange(&mark);
            if went.as_ref().is_err_and(Went::is_own_want) {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            let went = went.and(if began.elapsed() > LATE { Err(Went::Late) } else { Ok(()) });
            let seen = self.start.elapsed();
            let good = std::mem::replace(&mut self.good, seen);
            let Self { kind, app, .. } = *self;
            let (app, is_handed) = (app.name, app.is_handed());
            return went.map_err(|went| {
                let request = Request { kind, app, is_handed, mark, good, asked, seen };
                Box::new(Failed { request, went })
            });
        }
    }

    fn exchange(&mut self, mark: &str) -> Result<(), Went> {
        match self.kind {
            Kind::Kept => self.plain("/", mark, true),
            Kind::Connecting => self.plain("/", mark, false),
            Kind::Slow => {
                let path = format!("/slow?ms={}", self.random.between(200, 3000));
                self.plain(&path, mark, true)
            }
            Kind::Upload => self.upload(mark),
            Kind::Download => self.download(mark),
            Kind::Events => self.events(mark),
            Kind::WebSocket => self.echo(mark),
            Kind::Http2 => self.streams(mark),
            Kind::Session => self.session(mark),
            Kind::Job => self.jobs.as_mut().map_or(Ok(()), |jobs| jobs.leave_one(mark)),
        }
    }

    /// One exchange over the connection that there is, or a new one.
    fn over_a_connection(
        &mut self,
        keep: bool,
        exchange: impl FnOnce(&mut Connection, &str) -> Result<Message, Failure>,
    ) -> Result<String, Went> {
        let mut connection = match self.kept.take() {
            Some(kept) => kept,
            None => self.connect()?,
        };
        let response = exchange(&mut connection, self.app.host)?;
        if keep && !response.closes() {
            self.kept = Some(connection);
        }
        let body = String::from_utf8_lossy(&response.body).into_owned();
        match response.status() {
            200 => {
                if let Some(cookie) = response.cookie() {
                    self.session = Some((cookie.to_owned(), String::new()));
                }
                Ok(body)
            }
            status => Err(Went::Status(status, body)),
        }
    }

    fn connect(&mut self) -> Result<Connection, Went> {
        self.good = self.start.elapsed();
        Ok(Connection::open(address(self.app))?)
    }

    fn get(&mut self, path: &str, fields: &str, keep: bool) -> Result<String, Went> {
        let close = if keep { "" } else { "Connection: close\r\n" };
        let fields = format!("{fields}{close}");
        self.over_a_connection(keep, |connection, host| connection.get(host, path, &fields))
    }

    fn plain(&mut self, path: &str, mark: &str, keep: bool) -> Result<(), Went> {
        // A kept connection belongs to its worker, and ends with it, where connections are handed over.
        let keep = keep && !self.app.is_handed();
        let body = self.get(path, &field(mark), keep)?;
        self.expect(&body, mark)
    }

    /// `APP VERSION MARK`.
    fn expect(&self, body: &str, mark: &str) -> Result<(), Went> {
        let mut words = body.split(' ');
        let is_right = words.next() == Some(self.app.name)
            && words.next().is_some_and(|version| !version.is_empty())
            && words.next() == Some(mark)
            && words.next().is_none();
        if is_right { Ok(()) } else { Err(Went::Wrong(body.chars().take(200).collect())) }
    }

    fn upload(&mut self, mark: &str) -> Result<(), Went> {
        let body = repeated(mark, UPLOAD);
        let digest = BASE64_STANDARD.encode(Sha256::digest(&body));
        let fields = field(mark);
        let said = self.over_a_connection(true, |connection, host| {
            connection.post((host, "/upload", &fields), &body, PIECES, BETWEEN_PIECES)
        })?;
        self.expect(&said, &format!("{mark}:{digest}"))
    }

    fn download(&mut self, mark: &str) -> Result<(), Went> {
        let pieces = self.random.between(1, 20);
        let path = format!("/download?ms={}", pieces * 100);
        let body = self.get(&path, &field(mark), true)?;
        let piece = repeated(mark, 65536);
        let is_whole = body.len() as u64 == pieces * 65536;
        if is_whole && body.as_bytes().chunks(65536).all(|part| part == piece) {
            return Ok(());
        }
        Err(Went::Wrong(format!("{} bytes of {pieces} pieces: {:.80}", body.len(), body)))
    }

    /// A stream may end early, as a whole response: its client would ask again.
    fn events(&mut self, mark: &str) -> Result<(), Went> {
        // Some longer than a drain, or a front, waits for.
        let most = *self.random.one_of(&[10, 10, 20, 60]);
        let path = format!("/events?count={}", self.random.between(3, most));
        let body = self.get(&path, &field(mark), true)?;
        let mut events = body.split_terminator("\n\n").peekable();
        if events.peek().is_none() {
            return Err(Went::Wrong("no event".to_owned()));
        }
        events.try_for_each(|event| self.expect(event.strip_prefix("data: ").unwrap_or(""), mark))
    }

    fn echo(&mut self, mark: &str) -> Result<(), Went> {
        let mut web_socket = match self.web_socket.take() {
            Some(web_socket) => web_socket,
            None => WebSocket::open(self.connect()?, self.app.host)?,
        };
        match web_socket.ask(mark)? {
            Heard::Message(text) => {
                self.web_socket = Some(web_socket);
                match text.split_once(' ') {
                    Some((_, echo)) if echo == mark => Ok(()),
                    _ => Err(Went::Wrong(text)),
                }
            }
            Heard::Closed => Ok(()),
        }
    }

    fn streams(&mut self, mark: &str) -> Result<(), Went> {
        let marks: Vec<String> = (0..STREAMS).map(|stream| format!("{mark}.{stream}")).collect();
        let request = |mark: &String| {
            let uri = format!("http://{}/", self.app.host);
            Http2Request::get(uri).header("x-mark", mark).body(()).expect("it is a good one")
        };
        let requests: Vec<_> = marks.iter().map(request).collect();
        let client = self.http2.as_mut().expect("this kind has one");
        client
            .ask_all(&requests)?
            .iter()
            .zip(&marks)
            .try_for_each(|(body, mark)| self.expect(body, mark))
    }

    fn session(&mut self, mark: &str) -> Result<(), Went> {
        let again = self.random.between(1, 20) == 1;
        let (path, cookie, user) = match self.session.take() {
            Some((cookie, user)) if !again => {
                self.session = Some((cookie.clone(), user.clone()));
                ("/".to_owned(), format!("Cookie: {cookie}\r\n"), user)
            }
            _ => (format!("/login?user={mark}"), String::new(), mark.to_owned()),
        };
        let is_login = cookie.is_empty();
        let body = self.get(&path, &cookie, true)?;
        if !body.contains(&format!("\"user\":\"{user}\"")) {
            self.session = None;
            return Err(Went::Wrong(format!("not known as {user} any more: {body}")));
        }
        if is_login {
            let cookie = self.session.take().map(|(cookie, _)| cookie);
            let cookie =
                cookie.ok_or_else(|| Went::Wrong("a login without a cookie".to_owned()))?;
            self.session = Some((cookie, user));
        }
        Ok(())
    }

    /// How long to rest before the next request.
    pub(super) fn rest(&mut self) -> Duration {
        let longest = match self.kind {
            Kind::Kept | Kind::Connecting | Kind::WebSocket => 60,
            Kind::Session | Kind::Job | Kind::Http2 => 150,
            Kind::Slow | Kind::Upload | Kind::Download | Kind::Events => 300,
        };
        Duration::from_millis(self.random.between(10, longest))
    }
}

fn address(app: &App) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, app.port).into()
}

fn field(mark: &str) -> String {
    format!("X-Mark: {mark}\r\n")
}

/// The mark again and again, to this length.
fn repeated(mark: &str, length: usize) -> Vec<u8> {
    mark.bytes().cycle().take(length).collect()
}
