//! A shim in a thread of its own, with a service manager and a client that the test plays.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use roundsman::config::settings::{
    Address, App, Balancing, Health, Listen, Ready, Sandbox, Shutdown, Supervision, Transport,
};
use roundsman::systemd::activation::Socket;
use roundsman::worker::environment::Environment;
use roundsman::worker::{Notifier, Worker, run};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing_subscriber::layer::SubscriberExt;

pub(crate) use crate::common::waiting::{PATIENCE, poll};

/// A worker that has not been started yet.
pub(crate) struct Plan {
    pub(crate) app: App,
    pub(crate) number: u16,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) watchdog: Option<Duration>,
    pub(crate) directory: TempDir,
    /// Below which the workers' control sockets are.
    pub(crate) base: PathBuf,
    listener: Option<Socket>,
    address: Address,
}

/// What a worker says to who follows it.
pub(crate) struct Events(BufReader<UnixStream>);

/// A worker that runs.
pub(crate) struct Shim {
    address: Address,
    notifications: UnixDatagram,
    heard: String,
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<u8>>,
    log: Log,
    pub(crate) control: PathBuf,
    pub(crate) directory: TempDir,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

/// The path of a sample app.
pub(crate) fn sample(name: &str) -> String {
    format!("{}/tests/apps/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A Node app by its file in `tests/apps`, with its arguments.
pub(crate) fn node(file: &str, arguments: &[&str]) -> Plan {
    let mut command = vec!["node".to_owned(), sample(file)];
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    Plan::new(Listen::Cluster, command)
}

// === impl Plan ===

impl Plan {
    pub(crate) fn new(listen: Listen, command: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let app = App {
            name: "sample".to_owned(),
            command,
            directory: None,
            user: None,
            group: None,
            workers: 4,
            environment: BTreeMap::new(),
            environment_files: Vec::new(),
            listen,
            port: None,
            transport: Transport::Tcp,
            ready: Ready::Listening,
            ready_after: Duration::from_millis(100),
            health: None,
            balancing: Balancing::default(),
            start_timeout: PATIENCE,
            shutdown: Shutdown::Auto,
            stop_timeout: PATIENCE,
            drain_timeout: PATIENCE,
            watchdog: PATIENCE,
            rollback: false,
            surge: None,
            sandbox: Sandbox::Default,
            max_memory: None,
            supervision: Supervision::default(),
            handoff: None,
            session: None,
            slot: 0,
        };
        let socket = Some(Socket::Tcp(listener));
        let directory = tempfile::tempdir().unwrap();
        Self {
            base: directory.path().join("run"),
            app,
            number: 1,
            environment: Vec::new(),
            watchdog: None,
            directory,
            listener: socket,
            address,
        }
    }

    /// Takes the listener away: the app binds this address itself.
    pub(crate) fn at(mut self, address: Address) -> Self {
        self.listener = None;
        self.address = address;
        self
    }

    /// Reached over a UNIX socket.
    pub(crate) fn over_unix(mut self) -> Self {
        let path = self.directory.path().join("http.sock");
        self.listener = Some(Socket::Unix(UnixListener::bind(&path).unwrap()));
        self.address = Address::Unix(path);
        self.app.transport = Transport::Unix;
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn health(mut self, path: &str) -> Self {
        let seconds = Duration::from_secs;
        self.app.health = Some(Health {
            path: path.to_owned(),
            host: None,
            interval: seconds(1),
            timeout: seconds(10),
        });
        self
    }

    /// Another worker of the app whose first one this is; they know each other.
    pub(crate) fn beside(mut self, number: u16, base: &Path) -> Self {
        self.number = number;
        base.clone_into(&mut self.base);
        self
    }

    /// It has no listener: the front hands its connections in.
    pub(crate) fn handed_connections(mut self) -> Self {
        self.listener = None;
        self.app.handoff = Some("http".to_owned());
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut App)) -> Self {
        change(&mut self.app);
        self
    }

    /// The test keeps a descriptor of the listener, as systemd does.
    pub(crate) fn keeping_listener(self) -> (Self, TcpListener) {
        let Some(Socket::Tcp(listener)) = &self.listener else { panic!("a TCP listener") };
        let copy = listener.try_clone().unwrap();
        (self, copy)
    }

    /// Takes this listener instead of one of its own.
    pub(crate) fn on(mut self, listener: TcpListener) -> Self {
        self.address = Address::Tcp(listener.local_addr().unwrap());
        self.listener = Some(Socket::Tcp(listener));
        self
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// A file in the worker's own directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn start(self) -> Shim {
        let path = self.directory.path().join("systemd.sock");
        let notifications = UnixDatagram::bind(&path).unwrap();
        notifications.set_nonblocking(true).unwrap();
        let (stop, stop_receiver) = mpsc::channel(4);
        let control =
            self.base.join(format!("{}:{}", self.app.name, self.number)).join("control.sock");
        let inherited = ["PATH", "HOME", "LANG"];
        let mut environment: Vec<(String, String)> = inherited
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
            .collect();
        environment.extend(self.environment);
        let worker = Worker {
            app: self.app,
            number: self.number,
            address: self.address.clone(),
            listener: self.listener,
            environment: environment.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
            variables: Environment::new(),
            notifier: Notifier::new(Some(path.as_os_str())).unwrap(),
            watchdog: self.watchdog,
            stop: stop_receiver,
            program: env!("CARGO_BIN_EXE_roundsman").into(),
            control: Some(self.base),
        };
        let log = Log::default();
        let writer = log.clone();
        let thread = thread::spawn(move || {
            let format = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(move || writer.clone());
            let _guard =
                tracing::subscriber::set_default(tracing_subscriber::registry().with(format));
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(worker))
        });
        Shim {
            address: self.address,
            notifications,
            heard: String::new(),
            stop,
            thread: Some(thread),
            log,
            control,
            directory: self.directory,
        }
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn ready(self) -> Shim {
        let mut shim = self.start();
        shim.hear("READY=1");
        shim
    }
}

// === impl Shim ===

impl Shim {
    /// Waits for a line of a notification to the service manager; returns all that came with it.
    pub(crate) fn hear(&mut self, line: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = self.next_notification();
            if let Some(text) = text {
                self.heard.push_str(&text);
                if text.lines().any(|heard| heard.starts_with(line)) {
                    return text;
                }
                continue;
            }
            assert!(
                Instant::now() < end && self.runs(),
                "waited in vain for {line}; heard {}; log:\n{}",
                self.heard,
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the service manager was told and has not looked at.
    pub(crate) fn next_notification(&mut self) -> Option<String> {
        let mut buffer = [0; 4096];
        let length = self.notifications.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    pub(crate) fn was_ready(&mut self) -> bool {
        while let Some(text) = self.next_notification() {
            self.heard.push_str(&text);
        }
        self.heard.lines().any(|line| line == "READY=1")
    }

    pub(crate) fn runs(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// A conversation with its control socket that begins with this line.
    pub(crate) fn control(&self, first: &str) -> BufReader<UnixStream> {
        let mut stream = poll("the control socket", || UnixStream::connect(&self.control).ok());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        writeln!(stream, "{first}").unwrap();
        BufReader::new(stream)
    }

    /// Sends the app a message; what the shim says to that.
    pub(crate) fn send(&self, message: &str) -> String {
        let mut conversation = self.control("send");
        writeln!(conversation.get_mut(), "{message}").unwrap();
        let mut answer = String::new();
        conversation.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    /// Follows it, with what is kept of the past.
    pub(crate) fn events(&self) -> Events {
        Events(self.control("events 0"))
    }

    /// What it says of itself.
    pub(crate) fn status(&self) -> serde_json::Value {
        let mut text = String::new();
        self.control("status").read_line(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// As SIGTERM does.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.blocking_send(()).unwrap();
    }

    /// Waits for the shim's end and returns its exit code.
    pub(crate) fn code(&mut self) -> u8 {
        poll("the shim's end", || (!self.runs()).then_some(()));
        self.thread.take().unwrap().join().unwrap()
    }

    /// Asks to stop, and returns the exit code.
    pub(crate) fn stop(&mut self) -> u8 {
        self.ask_to_stop();
        self.code()
    }

    /// Everything that was logged so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap()
    }

    /// Waits for something in the log.
    pub(crate) fn logged(&self, text: &str) {
        poll(text, || self.log().contains(text).then_some(()));
    }

    pub(crate) fn connect(&self) -> Box<dyn Stream> {
        match &self.address {
            Address::Tcp(address) => connect(*address),
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The body of the answer to GET.
    pub(crate) fn get(&self, path: &str) -> String {
        let answer = exchange(self.connect().as_mut(), path);
        let (head, body) =
            answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        assert!(head.contains(" 200 "), "{head}");
        body.to_owned()
    }

    /// The same, as JSON.
    pub(crate) fn get_json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.get(path)).unwrap()
    }
}

// === impl Events ===

impl Events {
    /// The next event; `None` at the worker's end.
    pub(crate) fn next(&mut self) -> Option<serde_json::Value> {
        Some(serde_json::from_str(&self.line()?).unwrap())
    }

    /// The same as the text that came.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.0.read_line(&mut line).unwrap() > 0).then_some(line)
    }

    /// The next message of the app, as the text that came.
    pub(crate) fn message(&mut self) -> String {
        loop {
            let line = self.line().expect("a message");
            if let Some((_, message)) = line.split_once("\"event\":\"message\",\"message\":") {
                return message.trim_end().strip_suffix('}').unwrap().to_owned();
            }
        }
    }

    /// Waits for an event of this kind.
    pub(crate) fn wait_for(&mut self, kind: &str) -> serde_json::Value {
        loop {
            let event = self.next().unwrap_or_else(|| panic!("the end, but no {kind}"));
            if event["event"] == kind {
                return event;
            }
        }
    }
}

/// A connection of either kind.
pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

pub(crate) fn connect(address: SocketAddr) -> Box<dyn Stream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Box::new(stream)
}

/// Asks, and reads to the end of the connection.
pub(crate) fn exchange(stream: &mut dyn Stream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").unwrap();
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Ok(_) => answer,
        Err(error) => format!("{answer}<{error}>"),
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
