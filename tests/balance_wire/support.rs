//! A front (the real binary) and its clients.

use super::PATIENCE;
use super::origin::Origin;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::common::program::Program;

/// `roundsman.toml` of a front that believes its clients, which are on this machine.
pub(crate) fn settings(threads: usize) -> String {
    format!(
        "trusted-proxies = [\"127.0.0.0/8\"]\n[threads]\ncount = {threads}\npin = false\n\
         [timeouts]\nconnect = \"2s\"\nresponse-header = \"4s\"\n"
    )
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join("etc").join(path);
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    fs::write(path, text).expect("a file");
}

/// A running front.
pub(crate) struct Front {
    program: Program,
    /// The line that `systemctl status` would show.
    status_line: Arc<Mutex<String>>,
    pub(crate) address: SocketAddr,
}

impl Front {
    /// Starts it with one upstream of these servers, and waits until it is ready.
    pub(crate) fn start(threads: usize, origins: &[Origin], weights: &[u32], more: &str) -> Self {
        let servers: Vec<_> = origins
            .iter()
            .zip(weights)
            .map(|(o, weight)| format!("{{ address = \"{}\", weight = {weight} }}", o.address))
            .collect();
        let upstream = format!("servers = [{}]\n{more}", servers.join(", "));
        Self::with(&settings(threads), &[("upstreams/api.toml", &upstream)])
    }

    /// Starts it with this `roundsman.toml` and these files, and waits until it is ready.
    pub(crate) fn with(settings: &str, files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        write(root, "roundsman.toml", settings);
        for (path, text) in files {
            write(root, path, text);
        }
        let program = Program::start::<&str>(directory, &[]);
        let notifications = program.notifications();
        let status_line: Arc<Mutex<String>> = Arc::default();
        let line = Arc::clone(&status_line);
        // All it says is read, or it would wait for us.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(size) = notifications.recv(&mut buffer) {
                for said in String::from_utf8_lossy(&buffer[..size]).lines() {
                    if let Some(status) = said.strip_prefix("STATUS=") {
                        status.clone_into(&mut line.lock().expect("nobody panics with it"));
                    }
                }
            }
        });
        Self { address: program.address, program, status_line }
    }

    /// The line that `systemctl status` would show now.
    pub(crate) fn status_line(&self) -> String {
        self.status_line.lock().expect("nobody panics with it").clone()
    }

    /// Changes a file of the configuration and has it put to work.
    pub(crate) fn reload_with(&self, path: &str, text: &str) {
        write(&self.program.path("."), path, text);
        let answer = self.admin("POST /v1/reload", "");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// CPU time that it has used so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.program.process.id()))
            .expect("it runs");
        let fields: Vec<_> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
        (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64
    }

    /// Lets it have so many descriptors.
    pub(crate) fn limit_descriptors(&self, most: u64) {
        use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
        let limit = Rlimit { current: Some(most), ..getrlimit(Resource::Nofile) };
        prlimit(Some(Pid::from_child(&self.program.process)), Resource::Nofile, limit)
            .expect("it is ours");
    }

    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.program.path("stderr")).expect("a file")
    }

    /// What `roundsman explain` prints with these arguments, asking this front.
    pub(crate) fn explain(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.program.roundsman(&[&["explain", "--json"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn admin(&self, request: &str, body: &str) -> String {
        let mut stream =
            UnixStream::connect(self.program.path("admin.sock")).expect("the admin socket");
        let length = body.len();
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    /// The addresses of the servers of its first upstream.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let status = self.status();
        let servers = status["upstreams"][0]["servers"].as_array().expect("servers");
        servers.iter().map(|s| s["address"].as_str().expect("an address").to_owned()).collect()
    }

    /// How often the health of a server of its first upstream became what, and why.
    pub(crate) fn transitions(&self, server: usize) -> serde_json::Value {
        self.status()["upstreams"][0]["servers"][server]["transitions"].clone()
    }

    /// Requests that failed at each server of its first upstream.
    pub(crate) fn failures(&self) -> Vec<u64> {
        let status = self.status();
        let servers = status["upstreams"][0]["servers"].as_array().expect("servers");
        servers.iter().map(|s| s["failures"].as_u64().expect("a number")).collect()
    }

    fn status(&self) -> serde_json::Value {
        let answer = self.admin("GET /v1/status", "");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a response");
        serde_json::from_str(body).expect("JSON")
    }

    /// What it says each server is, and how many requests each got.
    pub(crate) fn servers(&self) -> Vec<(String, u64)> {
        let status = self.status();
        status["upstreams"][0]["servers"]
            .as_array()
            .expect("servers")
            .iter()
            .map(|server| {
                let state = server["state"].as_str().expect("a state").to_owned();
                (state, server["requests"].as_u64().expect("a number"))
            })
            .collect()
    }
}

/// A client with a kept-alive connection.
pub(crate) struct Client {
    address: SocketAddr,
    /// Where it connects from, if that matters.
    from: Option<IpAddr>,
    stream: Option<BufReader<TcpStream>>,
}

/// What a client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn new(front: &Front) -> Self {
        Self { address: front.address, from: None, stream: None }
    }

    /// A client with this address.
    pub(crate) fn from(front: &Front, ip: IpAddr) -> Self {
        Self { from: Some(ip), ..Self::new(front) }
    }

    /// One GET with these fields; `None` when the response was not whole.
    pub(crate) fn get(&mut self, fields: &str) -> Option<Got> {
        self.ask("GET / HTTP/1.1", fields, "")
    }

    /// One request with these fields and body.
    pub(crate) fn ask(&mut self, line: &str, fields: &str, body: &str) -> Option<Got> {
        let got = self.try_ask(line, fields, body).ok();
        if got.as_ref().is_none_or(|got| got.head.to_lowercase().contains("connection: close")) {
            self.stream = None;
        }
        got
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        use rustix::net;
        let Some(from) = self.from else { return TcpStream::connect(self.address) };
        let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None)?;
        net::bind(&socket, &SocketAddr::new(from, 0))?;
        net::connect(&socket, &self.address)?;
        Ok(socket.into())
    }

    fn try_ask(&mut self, line: &str, fields: &str, body: &str) -> std::io::Result<Got> {
        if self.stream.is_none() {
            let stream = self.connect()?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            self.stream = Some(BufReader::new(stream));
        }
        let reader = self.stream.as_mut().expect("it was just made");
        let host = if fields.contains("Host: ") { "" } else { "Host: a\r\n" };
        write!(reader.get_mut(), "{line}\r\n{host}{fields}\r\n{body}")?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let length = head.lines().find_map(|line| {
            line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
        });
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let status = head.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
        Ok(Got { status, head, body: String::from_utf8_lossy(&body).into_owned() })
    }
}
