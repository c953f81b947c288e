//! `roundsman session migrate --to valkey` and `--to embedded`: an app's data into its other store, and its
//! workers after it, while the app runs.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::live::Live;
use crate::base::file::{Links, read_text};
use crate::base::{exit, paths, unit};
use crate::cli::failure::{Done, Failure};
use crate::cli::manage::{self, Machine, print, print_json, say};
use crate::cli::rights;
use crate::config::settings::{App, SessionStore};
use crate::config::valkey;
use crate::session::remote::{Address, Client, Copy, Pass, Rule, Target, Url, Value, each_batch};
use crate::systemd::dbus::Verb;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The app's own Valkey server.
    Valkey,
    /// The store that all apps share.
    Embedded,
}

/// The databases that either has.
const DATABASES: u8 = 16;

/// Between two passes while workers are replaced: what the last old one has written is then soon known to
/// the new ones.
const PAUSE: Duration = Duration::from_millis(100);

/// A database on either side.
struct Pair {
    from: Client,
    to: Target,
    copy: Copy,
}

// === impl Side ===

impl Side {
    /// What is typed.
    pub(super) fn of(word: &str) -> Option<Self> {
        match word {
            "valkey" => Some(Self::Valkey),
            "embedded" => Some(Self::Embedded),
            _ => None,
        }
    }

    fn store(self) -> SessionStore {
        match self {
            Self::Valkey => SessionStore::Valkey,
            Self::Embedded => SessionStore::Embedded,
        }
    }

    /// The line of an app's file.
    fn line(self) -> &'static str {
        match self {
            Self::Valkey => "session = \"valkey\"",
            Self::Embedded => "session = true",
        }
    }
}

/// Copies, replaces the workers, and copies what the last of them have written.
pub(super) fn run(name: &str, target: Side, live: &Live, as_json: bool) -> Done {
    if !rustix::process::geteuid().is_root() {
        return Err(rights::root_alone("moving an app to another store"));
    }
    let app = manage::app(&manage::load(), name)?;
    if app.session != Some(target.store()) {
        return Err(Failure::with(
            exit::CONFIG,
            format!(
                "the file of {name} does not say {line}; nothing was changed.\nWrite {line} there, and run this again \
                 before anything else: this command takes the file to work",
                line = target.line()
            ),
        ));
    }
    on_systemd(async |machine| {
        machine.could_start(&app, 1..=app.workers, None).await?;
        machine.apply_files_of(name, !app.is_background()).await?;
        Ok(machine.systemd.job(Verb::Start, &unit::valkey(name)).await?)
    })?;
    let mut pairs = pairs(&app, target, live)?;
    let mut total = Pass::default();
    for _ in 0..2 {
        passes(&mut pairs, &mut total)?;
    }
    say(&format!(
        "{} of {} keys of {name} copied; now its workers are replaced",
        total.copied, total.seen
    ));
    let replaced = replace(name, &mut pairs, &mut total)?;
    // What was written by workers that have ended since.
    for _ in 0..2 {
        passes(&mut pairs, &mut total)?;
    }
    if !replaced {
        return Err(Failure::new(format!(
            "not all workers of {name} were replaced, see above: those that were use the new store, the others the \
             old one. Mend that and run this again, which copies what is missing"
        )));
    }
    // Nobody has anything there any more. What would be left would come back with the next move: users who have
    // logged out meanwhile, too.
    for Pair { from, .. } in &mut pairs {
        remove(from)?;
    }
    if target == Side::Embedded {
        on_systemd(async |machine| {
            Ok(machine.systemd.job(Verb::Stop, &unit::valkey(name)).await?)
        })?;
    }
    report(name, &total, as_json)
}

fn report(name: &str, total: &Pass, as_json: bool) -> Done {
    let Pass { seen, copied, kept, removed, unsupported } = *total;
    if as_json {
        print_json(&json!({
            "app": name, "keys": seen, "copied": copied, "kept": kept, "removed": removed,
            "unsupported": unsupported,
        }));
    } else {
        print(&format!(
            "{name} has moved: {seen} keys, {copied} copied, {removed} removed after it"
        ));
    }
    if unsupported == 0 {
        return Ok(());
    }
    Err(Failure::with(
        exit::WITH_LOSSES,
        format!(
            "{unsupported} keys are lists, sorted sets or streams, which the session store does not have: they stay \
             in {}/{name}",
            valkey::DATA
        ),
    ))
}

fn on_systemd(act: impl AsyncFnOnce(Machine) -> Done) -> Done {
    let failed = |error| Failure::with(exit::OS, format!("cannot start: {error}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        act(Machine::connect(Path::new(paths::ADMIN_SOCKET)).await?).await
    })
}

/// A connection to either side for each database.
fn pairs(app: &App, target: Side, live: &Live) -> Done<Vec<Pair>> {
    let path = valkey::secret_file(Path::new("/"), &app.name);
    let secret = read_text(&path, Links::Refuse, 4096)
        .map_err(|error| Failure::with(exit::OS, format!("{}: {error}", path.display())))?;
    let mut pairs = Vec::new();
    for database in 0..DATABASES {
        let embedded = live.connect_to(&app.name, database)?;
        let valkey = Client::connect(&Url {
            user: Some(app.name.clone()),
            password: Some(secret.clone()),
            database: database.into(),
            ..Url::at(Address::Unix(paths::valkey_socket(&app.name)))
        })?;
        let (from, to) = match target {
            Side::Valkey => (embedded, valkey),
            Side::Embedded => (valkey, embedded),
        };
        pairs.push(Pair { from, to: Target::one(to), copy: Copy::new(Rule::Newer) });
    }
    Ok(pairs)
}

/// One pass over each database.
fn passes(pairs: &mut [Pair], total: &mut Pass) -> Done {
    let mut now = Pass::default();
    for Pair { from, to, copy } in pairs {
        let done = copy.pass(from, to)?;
        now.seen += done.seen;
        now.kept += done.kept;
        now.unsupported += done.unsupported;
        total.copied += done.copied;
        total.removed += done.removed;
    }
    (total.seen, total.kept, total.unsupported) = (now.seen, now.kept, now.unsupported);
    Ok(())
}

/// Removes all that can be copied.
fn remove(client: &mut Client) -> Done {
    let removed = each_batch(client, |client, keys| {
        for key in keys {
            client.queue(&[&b"TYPE"[..], key]);
        }
        for (key, kind) in keys.iter().zip(client.replies()?) {
            if matches!(&kind, Value::Simple(kind) if ["string", "hash", "set"].contains(&&**kind))
            {
                client.queue(&[&b"DEL"[..], key]);
            }
        }
        client.replies().map(drop)
    });
    Ok(removed?)
}

/// Has the workers replaced one after the other, and copies all the while; whether all were.
fn replace(name: &str, pairs: &mut [Pair], total: &mut Pass) -> Done<bool> {
    let mut reload = reload(name)?;
    loop {
        if let Some(status) = reload.try_wait()? {
            return Ok(status.success());
        }
        passes(pairs, total)?;
        std::thread::sleep(PAUSE);
    }
}

fn reload(name: &str) -> Done<Child> {
    let child = Command::new("/proc/self/exe")
        .args(["reload", name])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    child.map_err(|error| Failure::with(exit::OS, format!("roundsman reload {name}: {error}")))
}
