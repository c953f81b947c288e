//! The tests' Python: scripts of `tests/python` in an environment of their own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// A script that serves; it ends with the value.
#[derive(Debug)]
pub(crate) struct PythonServer {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl PythonServer {
    /// Starts a script whose first line says where it listens.
    pub(crate) fn start(script: &str) -> Self {
        let mut child = command(script).stdout(Stdio::piped()).spawn().expect("it is there");
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().parse().expect("an address");
        Self { child, address }
    }
}

impl Drop for PythonServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A script in the environment that has what it needs.
#[track_caller]
fn command(script: &str) -> Command {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");
    let interpreter = Command::new(format!("{directory}/venv")).output().expect("it is a script");
    assert!(interpreter.status.success(), "{}", String::from_utf8_lossy(&interpreter.stderr));
    let interpreter = String::from_utf8(interpreter.stdout).expect("a path");
    let mut command = Command::new(interpreter.trim());
    command.arg(format!("{directory}/{script}"));
    command
}

/// What a script says when it is given this; it must succeed.
#[track_caller]
pub(crate) fn python(script: &str, input: &[u8]) -> String {
    let mut child = command(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the environment has it");
    child.stdin.take().expect("it is piped").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{script} failed");
    String::from_utf8(output.stdout).expect("text")
}
