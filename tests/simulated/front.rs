//! A front of which only the admin socket is there.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::history::History;

/// A simulated front.
#[derive(Debug, Clone)]
pub(super) struct Front(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a running front holds.
    lock: Option<File>,
    /// What is wrong with the configuration.
    refuses: Option<String>,
}

// === impl Front ===

impl Front {
    /// Starts one with its socket in this directory, with all that it is asked for in `history`.
    pub(super) fn start(directory: &Path, history: &History) -> Self {
        let lock = File::create(directory.join("serving.lock")).expect("the directory is new");
        flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("nobody else has it");
        let listener = UnixListener::bind(directory.join("admin.sock")).expect("it is new");
        let front = Self(Arc::new(Mutex::new(State { lock: Some(lock), refuses: None })));
        let (serves, history) = (front.clone(), history.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (front, history) = (serves.clone(), history.clone());
                std::thread::spawn(move || front.answer(stream, &history));
            }
        });
        front
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It refuses the configuration from now on, with these words.
    pub(super) fn refuse(&self, why: &str) {
        self.lock().refuses = Some(why.to_owned());
    }

    /// It runs no more; whoever connects would start it.
    pub(super) fn stop(&self) {
        self.lock().lock = None;
    }

    /// One call, as hyper writes it.
    fn answer(&self, stream: UnixStream, history: &History) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let path = line.split(' ').nth(1)?.to_owned();
        let mut length = 0;
        loop {
            let mut field = String::new();
            reader.read_line(&mut field).ok()?;
            match field.trim().to_lowercase().split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse().ok()?,
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let target = body["target"].as_str().unwrap_or_default();
        let (status, answer) = match &*path {
            "/v1/reload" => {
                history.begin_blocking("reload front");
                match &self.lock().refuses {
                    Some(why) => (422, json!({ "error": why })),
                    None => (200, json!({})),
                }
            }
            "/v1/drain" => {
                history.begin_blocking(&format!("drain {target}"));
                (200, json!({ "in_flight": 0 }))
            }
            "/v1/status" => (200, json!({})),
            "/v1/undrain" => {
                history.begin_blocking(&format!("undrain {target}"));
                (200, json!({}))
            }
            _ => (404, json!({ "error": "no such call" })),
        };
        let answer = answer.to_string();
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status} OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
            answer.len()
        )
        .ok()
    }
}
