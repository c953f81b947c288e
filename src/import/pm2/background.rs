//! Which apps serve no HTTP: PM2 has no word for it, so their own names must say it.

use std::io::Read as _;
use std::path::Path;

use serde_json::{Map, Value};

use super::words;
use crate::base::file::{self, Links};

/// What people call what serves nobody.
const NAMES: &[&str] = &[
    "beat",
    "bot",
    "bots",
    "celery",
    "consumer",
    "consumers",
    "crawler",
    "cron",
    "crons",
    "dequeue",
    "horizon",
    "job",
    "jobs",
    "poller",
    "queue",
    "queues",
    "repl",
    "schedule",
    "scheduler",
    "schedulers",
    "scraper",
    "sidekiq",
    "subscriber",
    "tasks",
    "train",
    "worker",
    "workers",
];

/// Variables that say where an app listens.
const PORTS: &[&str] =
    &["PORT", "APP_PORT", "HTTP_PORT", "LISTEN_PORT", "NITRO_PORT", "SERVER_PORT", "WEB_PORT"];

/// What a program says that listens for HTTP.
const SERVES: &[&str] = &[
    ".listen(",
    "createServer(",
    "Bun.serve",
    "Deno.serve",
    "\nserve(",
    "uvicorn.run",
    "app.run(",
    "http.server",
    "export default {",
];

/// The most that is looked at of a script.
const MOST: u64 = 256 * 1024;

/// Whether an app serves HTTP, as far as one can tell without running it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is called so that it does not, or ends by itself, and nothing about it speaks of a port.
    Background,
    /// Nothing about it speaks of a port, nor of the contrary.
    Unclear,
    /// Something does.
    Server,
}

/// Looks at what an app is called, at its options and into its script.
pub(super) fn kind(name: &str, script: &Path, app: &Map<String, Value>) -> Kind {
    let stem = script.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let arguments = words::of(app.get("args"));
    let named = [name, stem].into_iter().chain(arguments.iter().map(String::as_str));
    let is_named = named
        .flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric()))
        .any(|word| NAMES.contains(&word.to_ascii_lowercase().as_str()));
    let ends = app.get("autorestart") == Some(&Value::Bool(false));
    let serves = if has_port(app, &arguments) { Some(true) } else { serves(script) };
    let is_cluster = app
        .get("exec_mode")
        .and_then(Value::as_str)
        .is_some_and(|mode| mode.starts_with("cluster"));
    match serves {
        Some(true) => Kind::Server,
        _ if is_named || ends => Kind::Background,
        Some(false) if !is_cluster => Kind::Unclear,
        _ => Kind::Server,
    }
}

fn has_port(app: &Map<String, Value>, arguments: &[String]) -> bool {
    let option = |word: &String| {
        ["--port", "--host", "--bind"].iter().any(|option| word.starts_with(option))
    };
    let environments = app.iter().filter(|(key, _)| *key == "env" || key.starts_with("env_"));
    let mut variables = environments.filter_map(|(_, value)| value.as_object()).flat_map(Map::keys);
    app.contains_key("port")
        || arguments.iter().any(option)
        || variables.any(|name| PORTS.contains(&name.as_str()))
}

/// Whether the script itself listens. One that cannot be read, is somebody else's program, or has more
/// of the app in other files says nothing.
fn serves(script: &Path) -> Option<bool> {
    const ELSEWHERE: &[&str] =
        &["require('.", "require(\".", "from '.", "from \".", "import('.", "import '.", "\nfrom ."];
    let mut text = Vec::new();
    if script.components().any(|part| part.as_os_str() == "node_modules") {
        return None;
    }
    let file = file::open(script, Links::Follow).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    file.take(MOST).read_to_end(&mut text).ok()?;
    let text = String::from_utf8(text).ok()?;
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    (has(SERVES) || !has(ELSEWHERE)).then(|| has(SERVES))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::imported_from;

    #[test]
    fn what_is_called_so_and_has_no_port_serves_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
        write("bot.js", "client.login(token)").unwrap();
        write("worker.js", "http.createServer(f)").unwrap();
        write("report.js", "setInterval(f)").unwrap();
        for (app, is_background) in [
            (json!({ "script": "bot.js" }), true),
            (json!({ "script": "worker.js" }), false),
            (json!({ "script": "mail-queue.js", "instances": 4 }), true),
            (json!({ "script": "mail-queue.js", "env": { "PORT": 1 } }), false),
            (json!({ "script": "mail-queue.js", "env": { "REDIS_PORT": 1 } }), true),
            (json!({ "script": "npm", "args": "run worker" }), true),
            (json!({ "script": "celery", "args": "-A shop worker", "interpreter": "none" }), true),
            (json!({ "script": "jobs.ts", "args": "--port 3000" }), false),
            (json!({ "script": "server.js" }), false),
            (json!({ "script": "other.js", "autorestart": false }), true),
            (json!({ "script": "network.js" }), false),
            (json!({ "script": "artisan", "args": "horizon", "interpreter": "php" }), true),
            (json!({ "script": "artisan", "args": ["schedule:work"], "interpreter": "php" }), true),
            (
                json!({ "script": "artisan", "args": "serve --port=80", "interpreter": "php" }),
                false,
            ),
        ] {
            let (file, notes) = imported_from(&app, directory.path(), None);
            let listen = file.get("listen").and_then(|listen| listen.as_str());
            assert_eq!(listen == Some("none"), is_background, "{app}: {file}");
            assert_eq!(notes.contains("a: listen: "), is_background, "{notes}");
        }
        let (file, notes) =
            imported_from(&json!({ "script": "report.js" }), directory.path(), None);
        assert!(file.get("listen").is_none(), "it may be, and nobody can tell");
        assert!(notes.contains("a: listen: nothing says that it listens"), "{notes}");
    }
}
