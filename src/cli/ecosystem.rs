//! What an ecosystem file of PM2 says. It is a program, so it is run: with the rights of the one who
//! could have written it, within limits, and with nothing of the caller's environment.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::failure::{Done, Failure};
use crate::base::file::{self, Links};
use crate::base::origin::{self, Maker};
use crate::base::program::SERVICE_PATH;
use crate::base::rights::Rights;
use crate::base::text;
use crate::base::user::User;

/// Evaluates the file as PM2 does, and prints what it exports behind a mark, since the file may
/// print things of its own.
const EVALUATE: &str = r"
const { pathToFileURL } = require('node:url');
const path = process.argv[1];
(async () => {
  let value;
  if (/\.json$/.test(path)) {
    // PM2 takes it for a value of a program's: comments, single quotes and last commas are fine.
    const text = require('node:fs').readFileSync(path, 'utf8').replace(/^\uFEFF/, '');
    try { value = JSON.parse(text); } catch {
      value = require('node:vm').runInNewContext('(' + text + '\n)', {}, { filename: path });
    }
  } else {
    try { value = require(path); } catch (error) {
      if (error.code !== 'ERR_REQUIRE_ESM' && !/\.mjs$/.test(path)) throw error;
      value = await import(pathToFileURL(path));
    }
  }
  if (value && value.default && value.apps === undefined) value = value.default;
  const plain = (key, value) =>
    value instanceof RegExp || typeof value === 'function' ? String(value) : value;
  process.stdout.write('\n\u0001roundsman\u0001' + JSON.stringify(value, plain));
})().catch((error) => { console.error(error); process.exit(1); });
";

/// What stands before the value.
const MARK: &str = "\u{1}roundsman\u{1}";

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The most that is read of what it prints, and of a file.
const MOST: u64 = 8 * 1024 * 1024;

/// What it may have: bytes of memory, seconds of a core (what it starts may outlive it), no dump of its
/// memory when it crashes.
const LIMITS: [&str; 3] = ["--data=1073741824", "--cpu=60", "--core=0"];

/// Evaluates the file to which the path leads; with the user who could have written it, unless that
/// is root or oneself.
pub(super) fn evaluate(path: &Path, file: &Path) -> Done<(Value, Option<User>)> {
    let unreadable =
        |error: io::Error| Failure::new(format!("cannot read {}: {error}", file.display()));
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let is_program = !matches!(extension, "yaml" | "yml");
    let user = whose(path, is_program)?;
    // Also where Node reads it, which would wait as long as somebody keeps it from others.
    let read = || file::read(file, Links::Follow, MOST);
    let content = match &user {
        Some(user) => Rights::of(user).and_then(|rights| rights.with(read)).map_err(unreadable)?,
        None => read(),
    };
    let content = content.map_err(unreadable)?;
    if !is_program {
        let not_text = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let text = String::from_utf8(content).map_err(not_text).map_err(unreadable)?;
        // YAML 1.2, as PM2 reads it: `no` and `y` are texts.
        let options = serde_saphyr::options! { strict_booleans: true };
        let value = serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
            Failure::config(format!("{} is not valid YAML: {error}", file.display()))
        })?;
        return Ok((value, user));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let value = runtime.block_on(run(file, user.as_ref()))?;
    Ok((value, user))
}

/// As whom root is to look at it; `None` for oneself.
fn whose(file: &Path, is_program: bool) -> Done<Option<User>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let refused = |reason: String| {
        Failure::new(format!(
            "root does not look at {}, since it cannot be told whose it is: {reason}. Run this command \
             as the user whose it is, or read it and have root run it over a copy below /root (not in \
             /tmp, where Node takes modules from others, too)",
            text::one_line(&file.display().to_string())
        ))
    };
    let makers = origin::of(file)?;
    let maker = if is_program { makers.only_of_program() } else { makers.only() };
    match maker.map_err(refused)? {
        Maker::Root => Ok(None),
        Maker::User(uid) => User::numbered(uid)?.map(Some).ok_or_else(|| {
            refused(format!("it belongs to user number {uid}, who has no name here"))
        }),
    }
}

async fn run(file: &Path, user: Option<&User>) -> Done<Value> {
    let mut command = Command::new("prlimit");
    command
        .args(LIMITS)
        .args(["--", "node", "--max-old-space-size=512", "-e", EVALUATE, "--"])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| SERVICE_PATH.into()))
        .env("LANG", "C.UTF-8")
        .current_dir(file.parent().unwrap_or(Path::new("/")));
    if let Some(user) = user {
        // Without the groups of either.
        command.uid(user.uid).gid(user.gid);
        command.env("HOME", &user.home).env("USER", &user.name);
    } else if let Some(home) = std::env::var_os("HOME") {
        command.env("HOME", home);
    }
    // Of root's terminal it has nothing, and all that it starts ends with its group.
    crate::sys::set_apart(command.as_std_mut());
    let cannot = |error: io::Error| {
        Failure::new(format!("cannot run node, which evaluates {}: {error}", file.display()))
    };
    let mut child = command.spawn().map_err(cannot)?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let said = timeout(PATIENCE, listen(&mut child)).await;
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL); // nothing may be left of it
    }
    let too =
        |what: String| Failure::config(format!("node cannot evaluate {}: {what}", file.display()));
    let (out, err, ended_well) = match said {
        Err(_) => {
            return Err(too(format!("it has not ended after {} seconds", PATIENCE.as_secs())));
        }
        Ok(Err(error)) => return Err(too(error.to_string())),
        Ok(Ok(said)) => said,
    };
    let text = String::from_utf8_lossy(&out);
    let value = text.rsplit_once(MARK).and_then(|(_, json)| serde_json::from_str(json).ok());
    value.filter(|_| ended_well).ok_or_else(|| {
        let err = String::from_utf8_lossy(&err);
        Failure::config(format!("node cannot evaluate {}:\n{}", file.display(), text::lines(&err)))
    })
}

/// What it prints, on both streams, and whether it ended well.
async fn listen(child: &mut Child) -> io::Result<(Vec<u8>, Vec<u8>, bool)> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (out, err) = tokio::try_join!(read(out), read(err))?;
    Ok((out, err, child.wait().await?.success()))
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(MOST + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > MOST {
        return Err(io::Error::other(format!("it prints more than {MOST} bytes")));
    }
    Ok(bytes)
}
