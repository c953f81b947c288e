//! A blocking client that pipelines, in version 2 of the protocol.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use thiserror::Error;

use super::tls;
use super::url::{Address, Url};
use crate::base::dial;

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing.
    Null,
    /// A status.
    Simple(String),
    /// A refusal of this command.
    Error(String),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// Several.
    Array(Vec<Value>),
}

/// Why a server does not do what it was asked to.
#[derive(Debug, Error)]
pub(crate) enum RemoteError {
    /// There is no connection, or no longer.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// It wants to know who this is.
    #[error(
        "{0} does not let us in: {1}; give user and password as redis://USER:PASSWORD@HOST, or the password with --password-file"
    )]
    Access(String, String),
    /// It refuses.
    #[error("{0} says: {1}")]
    Refused(String, String),
    /// It is something else.
    #[error("{0} does not answer as a Redis server: {1}")]
    Foreign(String, String),
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A connection.
pub(crate) struct Client {
    name: String,
    stream: BufReader<Box<dyn Stream>>,
    output: Vec<u8>,
    /// Replies that are still to come.
    pending: usize,
}

/// For connecting, and for the longest silence.
const PATIENCE: Duration = Duration::from_mins(1);
/// Nobody sends a longer string than Redis itself takes.
const LONGEST: i64 = 512 * 1024 * 1024;
/// Nesting of arrays that replies to our commands have.
const DEEPEST: usize = 4;

impl Client {
    /// Connects, says who it is and chooses the database.
    pub(crate) fn connect(url: &Url) -> Result<Self, RemoteError> {
        let name = url.to_string();
        let stream = open(url).map_err(|error| RemoteError::Io(name.clone(), error))?;
        let mut client = Self::over(name, stream);
        if url.user.is_some() || url.password.is_some() {
            let password = url.password.as_deref().unwrap_or("any");
            let mut words = vec!["AUTH"];
            words.extend(url.user.as_deref());
            words.push(password);
            if let Value::Error(text) = client.call(&words)? {
                return Err(RemoteError::Access(client.name, text));
            }
        }
        match client.call(&["SELECT", &url.database.to_string()])? {
            Value::Error(text) if text.starts_with("NOAUTH") || text.starts_with("NOPERM") => {
                Err(RemoteError::Access(client.name, text))
            }
            Value::Error(text) => Err(RemoteError::Refused(client.name, text)),
            Value::Simple(_) => Ok(client),
            other => Err(RemoteError::Foreign(client.name, format!("{other:?}"))),
        }
    }

    /// A client of what is at the other end, which is called so.
    fn over(name: String, stream: Box<dyn Stream>) -> Self {
        let stream = BufReader::with_capacity(64 * 1024, stream);
        Self { name, stream, output: Vec::new(), pending: 0 }
    }

    /// A client of somebody who answers this, in pieces of at most `step` bytes.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn of_answer(answer: &[u8], step: usize) -> Self {
        let answer = io::Cursor::new(answer.to_vec());
        Self::over("it".to_owned(), Box::new(super::canned::Canned { answer, step }))
    }

    /// Adds a command to those that [`Client::replies`] sends.
    pub(crate) fn queue(&mut self, arguments: &[impl AsRef<[u8]>]) {
        let output = &mut self.output;
        output.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
        for argument in arguments {
            let argument = argument.as_ref();
            output.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            output.extend_from_slice(argument);
            output.extend_from_slice(b"\r\n");
        }
        self.pending += 1;
    }

    /// Sends what is queued and reads all replies.
    pub(crate) fn replies(&mut self) -> Result<Vec<Value>, RemoteError> {
        let failed = |error| RemoteError::Io(self.name.clone(), error);
        let output = std::mem::take(&mut self.output);
        self.stream.get_mut().write_all(&output).map_err(failed)?;
        let count = std::mem::take(&mut self.pending);
        (0..count).map(|_| self.receive(0)).collect()
    }

    /// One command and its reply.
    pub(crate) fn call(&mut self, arguments: &[impl AsRef<[u8]>]) -> Result<Value, RemoteError> {
        self.queue(arguments);
        Ok(self.replies()?.pop().unwrap_or(Value::Null))
    }

    /// What a refused command is to whoever cannot go on without it.
    pub(crate) fn refused(&self, text: String) -> RemoteError {
        RemoteError::Refused(self.name.clone(), text)
    }

    /// What a reply of another kind than expected is.
    pub(crate) fn unexpected(&self, reply: &Value) -> RemoteError {
        match reply {
            Value::Error(text) => self.refused(text.clone()),
            other => RemoteError::Foreign(self.name.clone(), format!("{other:?}")),
        }
    }

    fn receive(&mut self, depth: usize) -> Result<Value, RemoteError> {
        let foreign = |what: &str| RemoteError::Foreign(self.name.clone(), what.to_owned());
        let failed = |error| RemoteError::Io(self.name.clone(), error);
        let mut line = Vec::new();
        (&mut self.stream).take(64 * 1024).read_until(b'\n', &mut line).map_err(failed)?;
        if line.is_empty() {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        let text = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok());
        let Some((kind, rest)) = text.and_then(|text| text.split_at_checked(1)) else {
            return Err(foreign(&String::from_utf8_lossy(&line)));
        };
        let number = || rest.parse::<i64>().map_err(|_| foreign(&format!("{kind}{rest}")));
        match kind {
            "+" => Ok(Value::Simple(rest.to_owned())),
            "-" => Ok(Value::Error(rest.to_owned())),
            ":" => Ok(Value::Integer(number()?)),
            "$" | "*" if rest == "-1" => Ok(Value::Null),
            "$" => {
                let length = number()?;
                if !(0..=LONGEST).contains(&length) {
                    return Err(foreign(&format!("a string of {length} bytes")));
                }
                let mut bytes = Vec::new();
                let whole = length.unsigned_abs() + 2;
                let read = (&mut self.stream).take(whole).read_to_end(&mut bytes);
                if read.map_err(failed)? as u64 != whole || !bytes.ends_with(b"\r\n") {
                    return Err(failed(io::ErrorKind::UnexpectedEof.into()));
                }
                bytes.truncate(bytes.len() - 2);
                Ok(Value::Bulk(bytes))
            }
            "*" if depth < DEEPEST => {
                let length = number()?;
                if length < 0 {
                    return Err(foreign(&format!("{length} replies")));
                }
                (0..length)
                    .map(|_| self.receive(depth + 1))
                    .collect::<Result<_, _>>()
                    .map(Value::Array)
            }
            _ => Err(foreign(&format!("{kind}{rest}"))),
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("name", &self.name).finish_non_exhaustive()
    }
}

fn open(url: &Url) -> io::Result<Box<dyn Stream>> {
    match &url.address {
        Address::Unix(path) => Ok(Box::new(dial::within(PATIENCE, path)?)),
        Address::Tcp(host, port) => {
            let mut last = io::Error::other("the name has no address");
            for address in (host.as_str(), *port).to_socket_addrs()? {
                match TcpStream::connect_timeout(&address, PATIENCE) {
                    Ok(stream) => {
                        stream.set_nodelay(true)?;
                        stream.set_read_timeout(Some(PATIENCE))?;
                        stream.set_write_timeout(Some(PATIENCE))?;
                        if url.tls {
                            let trusted = url.trusted.as_deref();
                            return Ok(Box::new(tls::over(stream, host, trusted)?));
                        }
                        return Ok(Box::new(stream));
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}
