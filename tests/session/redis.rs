//! A Redis server of this machine, to compare with and to copy to.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::common::skip::may_skip;
use crate::session::client::Client;
use crate::session::server::path;

pub(crate) struct Redis {
    child: Child,
    _directory: tempfile::TempDir,
    pub(crate) socket: PathBuf,
    port: u16,
}

impl Redis {
    /// `None` when there is no redis-server and the test may be skipped.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        // Another process may take the port before the server does: then the next one is tried.
        for _ in 0..20 {
            let directory =
                tempfile::Builder::new().prefix("redis").tempdir().expect("a directory");
            let socket = directory.path().join("r.sock");
            let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
            let port = free.expect("a port is free").port();
            let child = Command::new("redis-server")
                .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
                .args(["--unixsocket", path(&socket), "--dir", path(directory.path())])
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let Ok(child) = child else {
                may_skip("there is no redis-server: apt-get install redis-server");
                return None;
            };
            let mut redis = Self { child, _directory: directory, socket, port };
            if redis.comes_up() {
                return Some(redis);
            }
        }
        panic!("redis-server does not start");
    }

    fn comes_up(&mut self) -> bool {
        loop {
            if self.child.try_wait().expect("it can be waited for").is_some() {
                return false;
            }
            if Client::connect(&self.socket).is_ok() {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket).expect("it accepts connections")
    }

    pub(crate) fn tcp_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
