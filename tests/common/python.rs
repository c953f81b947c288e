//! The tests' Python: scripts of `tests/python` in an environment of their own.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// What a script says when it is given this; it must succeed.
#[track_caller]
pub(crate) fn python(script: &str, input: &[u8]) -> String {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");
    let interpreter = Command::new(format!("{directory}/venv")).output().expect("it is a script");
    assert!(interpreter.status.success(), "{}", String::from_utf8_lossy(&interpreter.stderr));
    let interpreter = String::from_utf8(interpreter.stdout).expect("a path");
    let mut child = Command::new(interpreter.trim())
        .arg(format!("{directory}/{script}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the environment has it");
    child.stdin.take().expect("it is piped").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{script} failed");
    String::from_utf8(output.stdout).expect("text")
}
