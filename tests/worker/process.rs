//! `roundsman worker` itself, started as systemd starts it.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use tempfile::TempDir;

use crate::worker::harness::{connect, exchange, poll, sample};

/// A configuration with one app.
struct Machine {
    directory: TempDir,
    notifications: UnixDatagram,
}

impl Machine {
    fn new(app: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("apps")).unwrap();
        std::fs::write(directory.path().join("apps/shop.toml"), app).unwrap();
        let notifications = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        notifications.set_nonblocking(true).unwrap();
        Self { directory, notifications }
    }

    fn command(&self, instance: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roundsman"));
        command.args(["worker", instance, "--config"]).arg(self.directory.path());
        command.env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        command.env("ROUNDSMAN_LOG", "debug").stderr(Stdio::piped());
        command
    }

    fn hear(&self, line: &str) {
        poll(line, || {
            let mut buffer = [0; 4096];
            let length = self.notifications.recv(&mut buffer).ok()?;
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            text.lines().any(|heard| heard == line).then_some(())
        });
    }
}

fn shop(file: &str) -> String {
    format!("command = [\"node\", \"{}\"]\nenvironment = {{ A = \"b\" }}\n", sample(file))
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

fn wait(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn it_takes_the_socket_that_it_inherits_serves_and_ends_on_sigterm() {
    let machine = Machine::new(&shop("describe.js"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // A shell puts the socket where systemd puts it, and says so.
    let worker = machine.command("shop:1");
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec \"$@\"",
            "sh",
        ])
        .arg(worker.get_program())
        .args(worker.get_args())
        .envs(worker.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    machine.hear("READY=1");
    let answer = exchange(connect(address).as_mut(), "/");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["env"]["A"], "b");
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET"] {
        assert!(body["env"].get(name).is_none(), "{name}");
    }
    signal(&child, "TERM");
    let output = wait(child);
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    machine.hear("STOPPING=1");
    assert!(log.contains("ready after") && log.contains("app=shop worker=shop:1"), "{log}");
}

/// Without systemd `--listen` says which address: one that binds a port has it to itself.
#[test]
fn an_app_that_binds_its_port_finds_it_free() {
    let program = "require('node:http').createServer((_, response) => response.end('own'))\
                   .listen(process.env.PORT, process.env.HOST)";
    let machine =
        Machine::new(&format!("command = [\"node\", \"-e\", \"{program}\"]\nlisten = \"port\"\n"));
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = machine.command("shop:1");
    let child = command.args(["--listen", &address.to_string()]).spawn().unwrap();
    machine.hear("READY=1");
    assert!(exchange(connect(address).as_mut(), "/").ends_with("own"));
    signal(&child, "TERM");
    wait(child);
}

/// What its variables have the dynamic linker load is loaded into the app, and into nothing before it: the
/// linker says of each program that there is no such library.
#[test]
fn the_apps_libraries_are_loaded_into_nothing_but_the_app() {
    let machine = Machine::new(
        "command = [\"sleep\", \"1000\"]\nlisten = \"none\"\n\
         environment = { LD_PRELOAD = \"/no/such/library.so\" }\n",
    );
    let child = machine.command("shop:1").spawn().unwrap();
    machine.hear("READY=1");
    signal(&child, "TERM");
    let log = String::from_utf8_lossy(&wait(child).stderr).into_owned();
    assert_eq!(log.matches("/no/such/library.so").count(), 1, "{log}");
}

#[test]
fn the_app_does_not_survive_it() {
    let machine = Machine::new(&shop("ignores-sigterm.js"));
    let port = free_port();
    let mut command = machine.command("shop:1");
    let child = command.args(["--listen", &format!("127.0.0.1:{port}")]).spawn().unwrap();
    machine.hear("READY=1");
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let app = std::fs::read_to_string(children).unwrap().trim().to_owned();
    assert!(!app.is_empty());
    signal(&child, "KILL");
    let status: ExitStatus = wait(child).status;
    assert!(!status.success());
    poll("the app's end", || {
        let state = std::fs::read_to_string(format!("/proc/{app}/stat")).unwrap_or_default();
        (state.is_empty() || state.contains(") Z ")).then_some(())
    });
}

#[test]
fn what_is_wrong_is_said_and_is_a_configuration_error() {
    for (app, instance, said) in [
        (shop("describe.js"), "nothing:1", "there is no valid apps/nothing.toml"),
        ("command = 5\n".to_owned(), "shop:1", "apps/shop.toml"),
        (shop("describe.js"), "shop:1", "passed no socket named \"http\""),
    ] {
        let output = wait(Machine::new(&app).command(instance).spawn().unwrap());
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{log}");
        assert!(log.contains(said), "{log}");
    }
}
