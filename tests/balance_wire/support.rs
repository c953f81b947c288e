//! A front (the real binary) and its clients.

use super::PATIENCE;
use super::origin::Origin;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::common::http::{self, Message};
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
        let answer = self.program.admin("POST /v1/reload", "");
        assert_eq!(answer.status(), 200, "{answer:?}");
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
        serde_json::from_slice(&self.program.admin("GET /v1/status", "").body).expect("JSON")
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
    kept: Option<http::Client>,
}

impl Client {
    pub(crate) fn new(front: &Front) -> Self {
        Self { address: front.address, from: None, kept: None }
    }

    /// A client with this address.
    pub(crate) fn from(front: &Front, ip: IpAddr) -> Self {
        Self { from: Some(ip), ..Self::new(front) }
    }

    /// One GET with these fields; `None` when the response was not whole.
    pub(crate) fn get(&mut self, fields: &str) -> Option<Message> {
        self.ask("GET / HTTP/1.1", fields, "")
    }

    /// One request with these fields and body.
    pub(crate) fn ask(&mut self, line: &str, fields: &str, body: &str) -> Option<Message> {
        let host = if fields.contains("Host: ") { "" } else { "Host: a\r\n" };
        let request = format!("{line}\r\n{host}{fields}\r\n{body}");
        let mut connection = self.kept.take().or_else(|| self.connect().ok())?;
        let answer = connection.ask(request).ok()?;
        if !answer.closes() {
            self.kept = Some(connection);
        }
        Some(answer)
    }

    fn connect(&self) -> io::Result<http::Client> {
        use rustix::net;
        let Some(from) = self.from else { return http::Client::connect(self.address, PATIENCE) };
        let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None)?;
        net::bind(&socket, &SocketAddr::new(from, 0))?;
        net::connect(&socket, &self.address)?;
        http::Client::over(socket.into(), PATIENCE)
    }
}
