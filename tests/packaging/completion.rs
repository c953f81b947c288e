//! What a shell completes, typed into a real one on a terminal.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Types lines into an interactive bash that has the package's script, in a folder; returns what the
/// terminal shows.
fn typed(folder: &Path, lines: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_roundsman"));
    let made = Command::new(program).arg("generate").arg(folder.join("made")).output();
    assert!(made.expect("it is there").status.success());
    let path = std::env::var("PATH").unwrap_or_default();
    let beside = program.parent().expect("it has a folder").display();
    let mut bash = Command::new("script")
        .args(["--quiet", "--return", "--command", "bash --norc -i", "/dev/null"])
        .current_dir(folder)
        .env("PATH", format!("{beside}:{path}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script is there (bsdutils)");
    let mut stdin = bash.stdin.take().expect("it is piped");
    write!(stdin, "PS1=; source made/completions/roundsman\n{lines}\nexit\n").expect("it listens");
    drop(stdin);
    let said = bash.wait_with_output().expect("it ends").stdout;
    String::from_utf8_lossy(&said).replace('\u{7}', "")
}

#[test]
fn the_name_of_a_file_is_quoted_and_never_run() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("releases/4;id>pwned;")).expect("a folder");
    let said = typed(folder.path(), "roundsman check --config releases/4\t");
    assert!(!folder.path().join("pwned").exists(), "the name was run: {said}");
    assert!(said.contains(r"releases/4\;id\>pwned\;"), "{said}");
    let said = typed(folder.path(), "roundsman chec\t--con\t");
    assert!(said.contains("roundsman check --config"), "{said}");
}
