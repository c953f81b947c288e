//! `roundsman check` as people and programs use it.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn check(directory: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roundsman"))
        .args(["check", "--config"])
        .arg(directory)
        .args(more)
        .output()
        .unwrap()
}

fn directory(app: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("apps")).unwrap();
    fs::write(directory.path().join("apps/shop.toml"), app).unwrap();
    directory
}

#[test]
fn a_valid_configuration_exits_0_and_says_what_it_is() {
    let directory = directory("command = [\"node\", \"x.js\"]\nworkers = 2\n");
    let output = check(directory.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "The configuration is valid: 1 app, 2 workers, 0 upstreams, 1 route.\n");
    assert!(output.stderr.is_empty());
}

#[test]
fn errors_exit_78_and_are_shown_as_rustc_shows_its_own() {
    let directory = directory("command = \"node x.js\"\nworker = 2\n");
    let output = check(directory.path(), &[]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let path = directory.path().join("apps/shop.toml");
    let expected = format!(
        r#"error: this must be an array: the program, then each argument
 --> {path}:1:11
  |
1 | command = "node x.js"
  |           ^^^^^^^^^^^ this is a string
  |
  = help: write command = ["node", "x.js"]

error: unknown key `worker`
 --> {path}:2:1
  |
2 | worker = 2
  | ^^^^^^ not known
  |
  = help: did you mean `workers`?

2 errors
"#,
        path = path.display()
    );
    assert_eq!(text, expected);
}

#[test]
fn json_has_the_same_for_programs() {
    let directory = directory("command = \"node x.js\"\n");
    let output = check(directory.path(), &["--json"]);
    assert_eq!(output.status.code(), Some(78));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["valid"], false);
    let problem = &report["problems"][0];
    assert_eq!((&problem["line"], &problem["column"]), (&1.into(), &11.into()));
    assert_eq!(problem["severity"], "error");
    assert_eq!(problem["help"], "write command = [\"node\", \"x.js\"]");
    assert!(output.stderr.is_empty());
}

#[test]
fn a_warning_is_shown_and_is_no_error() {
    let directory = directory("command = [\"node\"]\nlisten = \"port\"\nport = 80\n");
    let output = check(directory.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("warning: ") && text.ends_with("\n1 warning\n"), "{text}");
}
