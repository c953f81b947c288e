//! The proxies that are compared: how each is started, on core 0, with a configuration that stands
//! beside this crate's sources.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::identity;
use crate::load::{self, Pace, Plan, Work};
use crate::process::{Family, interrupt};

/// Where the proxy runs.
const PROXY_CORE: &str = "0";

/// Where the generator and the upstream run.
pub(crate) const LOAD_CORE: usize = 1;

/// How long a proxy may take to answer its first request.
const START: Duration = Duration::from_secs(20);

/// One of the compared proxies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Copies bytes, knows no HTTP: what the kernel alone costs.
    Forwarder,
    /// With the best configuration we know.
    Nginx,
    /// With its defaults for buffers.
    NginxUntuned,
    /// With the best configuration we know.
    Haproxy,
    /// The release binary at this path.
    Roundsman(PathBuf),
    /// Another binary of Roundsman, from before a change.
    Baseline(PathBuf),
}

/// A process of ours, ended when dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
    http2: SocketAddr,
    tls: SocketAddr,
    directory: TempDir,
}

// === impl Peer ===

impl Peer {
    /// As it is called in tables.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Forwarder => "forwarder",
            Self::Nginx => "nginx",
            Self::NginxUntuned => "nginx-untuned",
            Self::Haproxy => "haproxy",
            Self::Roundsman(_) => "roundsman",
            Self::Baseline(_) => "baseline",
        }
    }

    /// What it says its version is.
    pub(crate) fn version(&self) -> Result<String> {
        let mut command = match self {
            Self::Forwarder => return Ok(env!("CARGO_PKG_VERSION").to_owned()),
            Self::Nginx | Self::NginxUntuned => tool("nginx", &["-v"]),
            Self::Haproxy => tool("haproxy", &["-v"]),
            Self::Roundsman(path) | Self::Baseline(path) => tool(path, &["--version"]),
        };
        let output = command.output().with_context(|| format!("running {}", self.name()))?;
        let said = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned())
    }

    /// Starts it in front of `upstream` and waits until it answers.
    pub(crate) fn start(&self, upstream: SocketAddr) -> Result<Running> {
        let directory = tempfile::tempdir()?;
        let (address, http2, tls) = (free_port()?, free_port()?, free_port()?);
        let at = directory.path();
        identity::write(at)?;
        // Read when it is used, so that trying another setting takes no compiler.
        let file = |name: &str, path: &str| -> Result<PathBuf> {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(path);
            let text = fs::read_to_string(&source).with_context(|| source.display().to_string())?;
            let text = text
                .replace("@LISTEN@", &address.to_string())
                .replace("@HTTP2@", &http2.to_string())
                .replace("@TLS@", &tls.to_string())
                .replace("@UPSTREAM@", &upstream.to_string())
                .replace("@DIRECTORY@", &at.display().to_string());
            let path = at.join(name);
            fs::create_dir_all(path.parent().context("a file has a directory")?)?;
            fs::write(&path, text)?;
            Ok(path)
        };
        let nginx = |path: &str| -> Result<Command> {
            let mut command = tool("nginx", &["-e", "stderr", "-p"]);
            command.arg(at).arg("-c").arg(file("nginx.conf", path)?);
            Ok(command)
        };
        let command = match self {
            Self::Forwarder => {
                let mut command = ourselves()?;
                command.args(["forward", &address.to_string(), &upstream.to_string()]);
                command
            }
            Self::Nginx => nginx("nginx.conf")?,
            Self::NginxUntuned => nginx("nginx-untuned.conf")?,
            Self::Haproxy => {
                let path = file("haproxy.cfg", "haproxy.cfg")?;
                let mut command = tool("haproxy", &["-db", "-f"]);
                command.arg(path);
                command
            }
            Self::Roundsman(binary) | Self::Baseline(binary) => {
                file("config/roundsman.toml", "roundsman/roundsman.toml")?;
                file("config/upstreams/api.toml", "roundsman/upstreams/api.toml")?;
                let mut command = tool(binary, &["serve", "--config"]);
                command.arg(at.join("config"));
                command.args(["--listen", &format!("http={address}")]);
                command.args(["--listen", &format!("http2={http2}")]);
                command.args(["--listen", &format!("https={tls}"), "--admin"]);
                command.arg(at.join("admin.sock"));
                command
            }
        };
        let child = spawn(&command, PROXY_CORE, at, None)?;
        let mut running = Running { child, address, http2, tls, directory };
        running.wait_ready().with_context(|| format!("starting {}", self.name()))?;
        Ok(running)
    }
}

// === impl Running ===

impl Running {
    /// The upstream of all proxies, beside the generator.
    pub(crate) fn upstream() -> Result<Self> {
        let mut command = ourselves()?;
        command.args(["upstream", "127.0.0.1:0"]);
        let directory = tempfile::tempdir()?;
        let core = LOAD_CORE.to_string();
        let mut child = spawn(&command, &core, directory.path(), Some(Stdio::piped()))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        let address = line.trim().parse().context("the upstream's address")?;
        Ok(Self { child, address, http2: address, tls: address, directory })
    }

    /// Where it takes this kind of work.
    pub(crate) fn address_for(&self, work: Work) -> SocketAddr {
        match work {
            Work::Http2 { .. } => self.http2,
            Work::Http { tls: true, .. } => self.tls,
            _ => self.address,
        }
    }

    /// Its process, and those that it has started.
    pub(crate) fn family(&self) -> Result<Family> {
        Family::of(self.child.id())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let limit = Instant::now() + START;
        loop {
            let work = Work::Http { reply: 100, upload: 0, close: false, tls: false };
            let once = Duration::from_millis(1);
            let plan = Plan {
                target: self.address,
                connections: 1,
                work,
                pace: Pace::Closed,
                warm: once,
                measure: once,
            };
            let answer = load::run(plan, || Ok(())).and_then(|(outcome, _)| {
                ensure!(outcome.errors == 0, "{}", outcome.first_errors.join("; "));
                Ok(())
            });
            let Err(error) = answer else { return Ok(()) };
            if let Some(status) = self.child.try_wait()? {
                bail!("it has ended ({status}): {}", self.said());
            }
            if Instant::now() > limit {
                bail!("no good answer within {START:?}: {error:#}; it said: {}", self.said());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end of what it has printed.
    fn said(&self) -> String {
        let text = fs::read(self.directory.path().join("output")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.get(text.floor_char_boundary(text.len().saturating_sub(2000))..)
            .unwrap_or("")
            .to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        interrupt(&self.child, Signal::TERM);
        let limit = Instant::now() + Duration::from_secs(3);
        while Instant::now() < limit {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        interrupt(&self.child, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Spawns it on this core; it dies with us, however we end.
fn spawn(command: &Command, core: &str, directory: &Path, stdout: Option<Stdio>) -> Result<Child> {
    let output = File::create(directory.join("output"))?;
    let mut pinned = tool("setpriv", &["--pdeathsig", "TERM", "taskset", "--cpu-list", core]);
    pinned.arg(command.get_program()).args(command.get_args());
    let stdout = stdout.map_or_else(|| output.try_clone().map(Stdio::from), Ok)?;
    pinned.stdin(Stdio::null()).stdout(stdout).stderr(output);
    pinned.spawn().with_context(|| {
        format!("{} (setpriv, taskset: util-linux)", command.get_program().display())
    })
}

fn ourselves() -> Result<Command> {
    Ok(Command::new(std::env::current_exe().context("our own program")?))
}

/// A command; the directories of root's tools are searched too.
fn tool(name: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.args(arguments).env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
