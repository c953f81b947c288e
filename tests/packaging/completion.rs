//! What shells complete, typed into real ones on a terminal.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::common::skip::may_skip;
use crate::common::waiting::eventually;

/// A shell, and the line that gives it the package's script, where it looks for such, and has it say
/// what it runs.
type Shell = (&'static str, &'static str);

const SHELLS: [Shell; 3] = [
    (
        "bash --norc --noprofile -i",
        "PS1=; source made/completions/roundsman; trap 'printf \"RAN<%s>\\n\" \"$BASH_COMMAND\"' DEBUG",
    ),
    (
        "zsh -f -i",
        "PS1=; fpath=($PWD/made/completions $fpath); autoload -U compinit; compinit -u -D; \
         preexec() { printf 'RAN<%s>\\n' $1 }",
    ),
    (
        "fish -i",
        "set -p fish_complete_path $PWD/made/completions; \
         function says --on-event fish_preexec; printf 'RAN<%s>\\n' $argv; end",
    ),
];

/// Puts a copy over /etc, for apps of its own, and becomes the command.
const ENTER: &str = r#"
root=$1; shift
cp -a /etc/. "$root/etc"
mount --bind "$root/etc" /etc
exec "$@"
"#;

/// A shell in a folder that holds a release with a bad name, on a machine with the apps shop and zebra.
struct Terminal {
    shell: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<String>>,
    folder: TempDir,
}

impl Terminal {
    /// `None` where nothing can be mounted and the test may be skipped.
    fn new((command, line): Shell) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            may_skip("nothing can be mounted here: run this as root");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("releases/4;id>pwned;")).expect("a folder");
        fs::create_dir_all(at("etc/roundsman/apps")).expect("a folder");
        for app in ["shop", "zebra"] {
            let file = format!("command = [\"node\"]\nroute = [{{ host = \"{app}\" }}]\n");
            fs::write(at(&format!("etc/roundsman/apps/{app}.toml")), file).expect("there is room");
        }
        let program = Path::new(env!("CARGO_BIN_EXE_roundsman"));
        let made = Command::new(program).arg("generate").arg(at("made")).output();
        assert!(made.expect("it is there").status.success());

        let path = std::env::var("PATH").unwrap_or_default();
        let beside = program.parent().expect("it has a folder").display();
        let mut shell = Command::new("unshare")
            .args(["--mount", "sh", "-ec", ENTER, "sh"])
            .arg(folder.path())
            .args(["script", "--quiet", "--return", "--command", command, "/dev/null"])
            .current_dir(folder.path())
            .env("PATH", format!("{beside}:{path}"))
            .env("HOME", folder.path())
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux is there");
        let keys = shell.stdin.take().expect("it is piped");
        let mut screen = shell.stdout.take().expect("it is piped");
        let shown = Arc::<Mutex<String>>::default();
        let told = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]);
                eprint!("{text}"); // for who reads why the test has failed
                told.lock().expect("nobody panics with it").push_str(&text);
            }
        });
        let mut terminal = Self { shell, keys, shown, folder };
        terminal.press(&format!("{line}\n"));
        terminal.press("echo is-\"\"ready\n");
        terminal.shows("is-ready");
        Some(terminal)
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it listens");
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        eventually(text, || self.shown.lock().expect("nobody panics with it").contains(text));
    }

    /// Waits until the shell runs a line that begins so.
    #[track_caller]
    fn runs(&self, line: &str) {
        self.shows(&format!("RAN<{line}"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn commands_options_and_apps_are_completed() {
    for shell in SHELLS {
        let Some(mut terminal) = Terminal::new(shell) else { return };
        terminal.press("roundsman descr\tze\t--js\t\n");
        terminal.runs("roundsman describe zebra --json");
        terminal.press("roundsman session st\t\n");
        terminal.runs("roundsman session stats");
    }
}

#[test]
fn the_name_of_a_file_is_quoted_and_never_run() {
    for shell in SHELLS {
        let Some(mut terminal) = Terminal::new(shell) else { return };
        terminal.press("roundsman check --config releases/4\t\n");
        terminal.runs(r"roundsman check --config releases/4\;id\>pwned\;");
        terminal.press("echo is-\"\"done\n");
        terminal.shows("is-done");
        assert!(!terminal.folder.path().join("pwned").exists(), "{shell:?} has run the name");
    }
}
