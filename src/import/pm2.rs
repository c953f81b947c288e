//! PM2's ecosystem files, evaluated already: apps to app files, option by option.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value};

use super::{Author, File, Import, ImportError, array, environment_file, quoted};
use crate::config::secrecy;
use crate::start::infer;

/// Makes app files of an evaluated ecosystem file.
///
/// `directory` is where the file is, for apps without `cwd`; `environment` chooses `env_NAME`; `to` is
/// where the files will be; `author` is who wrote it, unless it is root or who runs this.
///
/// # Errors
/// When it has no apps.
pub fn import(
    value: &Value,
    directory: &Path,
    environment: Option<&str>,
    to: &Path,
    author: Option<&Author>,
) -> Result<Import, ImportError> {
    let apps: Vec<&Value> = match value {
        Value::Array(apps) => apps.iter().collect(),
        Value::Object(object) => match object.get("apps").or_else(|| object.get("pm2")) {
            Some(Value::Array(apps)) => apps.iter().collect(),
            Some(app @ Value::Object(_)) => vec![app],
            _ if script(object).is_some() => vec![value],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    if apps.is_empty() {
        return Err(ImportError {
            at: "the file".to_owned(),
            problem: "there is no list `apps` in it".to_owned(),
        });
    }
    let mut import = Import::default();
    let shares = apps.len() > 1;
    for (index, app) in apps.iter().enumerate() {
        let Some(app) = app.as_object() else {
            import.note(format!("apps[{index}]"), "this is no object, and was left out");
            continue;
        };
        let place = Place { directory, to, shares, author };
        one(app, index, place, environment, &mut import);
    }
    if let Some(object) = value.as_object() {
        for key in object.keys().filter(|key| !matches!(key.as_str(), "apps" | "pm2")) {
            if script(object).is_none() {
                import.note(key.clone(), match key.as_str() {
                    "deploy" => "deploying over SSH is not done here: copy the new release, point the app's directory (a link) at it, and run roundsman reload APP",
                    _ => "has no counterpart",
                });
            }
        }
    }
    Ok(import)
}

fn script(app: &Map<String, Value>) -> Option<&str> {
    ["script", "exec", "cmd", "command"].iter().find_map(|key| app.get(*key)?.as_str())
}

/// One app on its way into its file.
struct App<'a> {
    name: String,
    options: &'a Map<String, Value>,
    text: String,
    environment: Vec<(String, String)>,
    author: Option<&'a Author>,
    import: &'a mut Import,
}

/// What an app's file must know of its surroundings.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Where the original is.
    directory: &'a Path,
    /// Where the files will be.
    to: &'a Path,
    /// Whether other apps are behind the same address.
    shares: bool,
    /// Who wrote it, and may not have an app run with the rights of others.
    author: Option<&'a Author>,
}

fn one(
    options: &Map<String, Value>,
    index: usize,
    place: Place<'_>,
    environment: Option<&str>,
    import: &mut Import,
) {
    let Some(script) = script(options) else {
        import.note(format!("apps[{index}]"), "it has no `script`, and was left out");
        return;
    };
    let given = options.get("name").and_then(Value::as_str);
    let base = Path::new(script).file_stem().and_then(|stem| stem.to_str()).unwrap_or("app");
    let name = infer::app_name(given.unwrap_or(base)).unwrap_or_else(|| format!("app-{index}"));
    if let Some(given) = given.filter(|given| *given != name) {
        import.note(
            format!("{name}: name"),
            format!(
                "\"{given}\" is \"{name}\" here: names are lower-case letters, digits, - and _"
            ),
        );
    }
    if import.files.iter().any(|file| file.path == format!("apps/{name}.toml")) {
        import.note(
            format!("{name}: name"),
            "another app has this name already; this one was left out",
        );
        return;
    }
    let (text, environment_of_app, author) = (String::new(), Vec::new(), place.author);
    let mut app = App { name, options, text, environment: environment_of_app, author, import };
    app.line("command", &array(app.command(script).iter().map(String::as_str)));
    app.line("directory", &quoted(&app.directory(place.directory)));
    if place.shares {
        let host = quoted(&format!("{}.localhost", app.name));
        let _ = writeln!(
            app.text,
            "# Which requests are for this app: write its real host here.\nroute = [{{ host = {host} }}]"
        );
        app.note("route", "PM2 gives each app a port; here all are behind one address. Write the app's host into route");
    }
    for (key, value) in options {
        app.option(key, value, environment);
    }
    let secrets = app.take_secrets();
    if !secrets.is_empty() {
        let path = format!("apps/{}.env", app.name);
        let at = place.to.join(&path).display().to_string();
        app.line("environment-files", &array([at.as_str()]));
        let names: Vec<&str> = secrets.iter().map(|(name, _)| name.as_str()).collect();
        app.note("env", format!("{} looks like a secret: it is in {at}, which only root reads, and the app has it all the same", names.join(", ")));
        app.import.files.push(File { path, text: environment_file::text(&secrets), secret: true });
    }
    if !app.environment.is_empty() {
        app.text.push_str("\n[environment]\n");
        for (name, value) in std::mem::take(&mut app.environment) {
            let key = toml_edit::Key::new(name).to_string();
            let _ = writeln!(app.text, "{} = {}", key.trim(), quoted(&value));
        }
    }
    let file = File { path: format!("apps/{}.toml", app.name), text: app.text, secret: false };
    import.files.push(file);
}

// === impl App ===

impl App<'_> {
    fn line(&mut self, key: &str, value: &str) {
        // PM2 has several names for some options.
        if self.text.lines().any(|line| line.split_once(" = ").is_some_and(|(it, _)| it == key)) {
            self.note(key, format!("two options say this; {value} was left out"));
            return;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{key} = {value}");
    }

    fn note(&mut self, option: &str, text: impl Into<String>) {
        // A mark that no variable's name has: NODE_APP_INSTANCE is to stay what it is.
        let text = text.into().replace("$APP", &self.name);
        self.import.note(format!("{}: {option}", self.name), text);
    }

    fn get(&self, names: &[&str]) -> Option<&Value> {
        names.iter().find_map(|name| self.options.get(*name))
    }

    /// Program, its own arguments, script, the script's arguments.
    fn command(&self, script: &str) -> Vec<String> {
        let arguments = words(self.get(&["args"]));
        let own =
            words(self.get(&["node_args", "nodeArgs", "interpreter_args", "interpreterArgs"]));
        let extension = Path::new(script).extension().and_then(|extension| extension.to_str());
        let interpreter = self.get(&["interpreter", "exec_interpreter"]).and_then(Value::as_str);
        let mut command: Vec<String> = match (interpreter, extension) {
            (Some("none"), _) => Vec::new(),
            (Some(interpreter), _) => vec![interpreter.to_owned()],
            (None, Some("js" | "cjs" | "mjs")) => vec!["node".to_owned()],
            (None, Some("py")) => vec!["python3".to_owned()],
            (None, Some("sh")) => vec!["bash".to_owned()],
            (None, Some("rb")) => vec!["ruby".to_owned()],
            (None, Some("php")) => vec!["php".to_owned()],
            (None, Some("pl")) => vec!["perl".to_owned()],
            // `npm`, `./bin/server`; and `./app`, which is `./app.js` when that is a file of Node's.
            (None, _) => Vec::new(),
        };
        let bare = command.is_empty() && script.contains(' ');
        command.extend(own);
        if bare {
            command.extend(script.split_whitespace().map(str::to_owned));
        } else {
            command.push(script.to_owned());
        }
        command.extend(arguments);
        command
    }

    /// Whether it is Node that runs it.
    fn is_node(&self) -> bool {
        let command = script(self.options).map(|script| self.command(script)).unwrap_or_default();
        let program = command.first().and_then(|program| Path::new(program).file_stem()?.to_str());
        matches!(program, Some("node" | "nodejs" | "npm" | "npx" | "yarn" | "pnpm"))
    }

    fn directory(&self, of_file: &Path) -> String {
        let given = self.get(&["cwd"]).and_then(Value::as_str).unwrap_or(".");
        let joined = of_file.join(given);
        let normal: std::path::PathBuf = joined.components().collect();
        normal.display().to_string()
    }

    /// One option, but for those that the command and the directory are made of.
    fn option(&mut self, key: &str, value: &Value, environment: Option<&str>) {
        match key {
            "name" | "script" | "exec" | "cmd" | "command" | "args" | "cwd" | "node_args"
            | "nodeArgs" | "interpreter_args" | "interpreterArgs" | "interpreter"
            | "exec_interpreter" => {
                self.command_note(key, value);
            }
            "instances" => self.instances(value),
            "exec_mode"
            | "execMode"
            | "force"
            | "merge_logs"
            | "mergeLogs"
            | "combine_logs"
            | "time"
            | "log_date_format"
            | "vizion"
            | "pmx"
            | "automation"
            | "source_map_support"
            | "treekill"
            | "autostart"
            | "trace"
            | "windowsHide"
            | "kill_retry_time"
            | "namespace"
            | "disable_source_map_support" => self.needs_nothing(key, value),
            "env" => self.variables(value),
            "max_memory_restart" | "maxMemoryRestart" => match memory(value) {
                Some(size) => {
                    self.line("max-memory", &quoted(&size));
                    self.note(
                        key,
                        "PM2 counts one process; here the worker counts with all its children",
                    );
                }
                None => self.note(key, format!("{value} is no size, and was left out")),
            },
            "watch" if truthy(value) => self.watch(key, value),
            "stop_exit_codes" => {
                let codes: Vec<String> = words(Some(value))
                    .into_iter()
                    .filter(|c| c.parse::<u8>().is_ok_and(|c| c <= 125))
                    .collect();
                self.line("stop-exit-codes", &format!("[{}]", codes.join(", ")));
            }
            "cron_restart" | "cron" => self.cron(key, value),
            "kill_timeout" | "killTimeout" => self.time(key, "stop-timeout", value),
            "listen_timeout" | "listenTimeout" => {
                self.time(key, "start-timeout", value);
                self.note(key, "PM2 takes a worker for ready when this is over; here it has failed then, and the deploy stops");
            }
            "wait_ready" | "waitReady" if truthy(value) => self.line("ready", "\"message\""),
            "wait_ready" | "waitReady" => {}
            "shutdown_with_message" | "shutdownWithMessage" => {
                match (truthy(value), self.is_node()) {
                    (true, true) => self.line("shutdown", "\"message\""),
                    (true, false) => {
                        self.note(key, "only Node apps get messages; this one gets SIGTERM");
                    }
                    (false, _) => {}
                }
            }
            "port" => {
                if let Some(port) = text(value) {
                    self.variable("PORT", port);
                }
            }
            "uid" | "user" => self.account(key, "user", value),
            "gid" | "group" => self.account(key, "group", value),
            _ => match key.strip_prefix("env_") {
                Some(name) if Some(name) == environment => self.variables(value),
                Some(name) => {
                    self.note(key, format!("was left out; --env {name} chooses these variables"));
                }
                None => self.no_counterpart(key, value),
            },
        }
    }

    /// As whom it runs: as nobody whom the one who wrote the file is not.
    fn account(&mut self, key: &str, ours: &str, value: &Value) {
        let Value::String(name) = value else {
            return self
                .note(key, format!("{value} is a number; write the {ours}'s name into {ours}"));
        };
        match self.author {
            Some(author) if !author.may_name(ours, name) => {
                let author = author.name().to_owned();
                self.note(key, format!("\"{name}\" was left out: {author} could have written this file, and cannot give an app the rights of others; write {ours} yourself if this is right"));
            }
            _ => self.line(ours, &quoted(name)),
        }
    }

    /// What there is to say about what the command is made of.
    fn command_note(&mut self, key: &str, value: &Value) {
        if key == "interpreter" && value.as_str().is_some_and(|v| v.starts_with("node@")) {
            self.note(key, "give the path of that version's node as the first word of command");
        }
    }

    fn instances(&mut self, value: &Value) {
        let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
        match (number, value.as_str()) {
            (Some(n @ 1..=250), _) => self.line("workers", &n.to_string()),
            (Some(0), _) | (None, Some("max")) => self.line("workers", "\"auto\""),
            (Some(n), _) if n < 0 => {
                self.line("workers", "\"auto\"");
                self.note("instances", format!("{n} is \"all cores but {}\" in PM2; \"auto\" is all: write a number for less", -n));
            }
            _ => {
                self.note(
                    "instances",
                    format!("{value} is no number of workers, and was left out"),
                );
            }
        }
    }

    /// All files, or the paths that can be written as they are.
    fn watch(&mut self, key: &str, value: &Value) {
        let paths = if value.is_array() { words(Some(value)) } else { Vec::new() };
        let relative: Vec<&str> =
            paths.iter().map(|path| path.strip_prefix("./").unwrap_or(path)).collect();
        let fits = |path: &&str| {
            !path.is_empty()
                && !path.starts_with('/')
                && !path.split('/').any(|part| part == ".." || part == ".")
                && crate::config::pattern::check(path).is_ok()
        };
        if !relative.is_empty() && relative.iter().all(fits) {
            self.line("watch", &array(relative));
            return;
        }
        self.line("watch", "true");
        if !paths.is_empty() {
            self.note(key, format!("{value} cannot be written as it is; everything is watched"));
        }
    }

    /// Fixed times of the day are the same in both; the rest is systemd's to write.
    fn cron(&mut self, key: &str, value: &Value) {
        let fields: Vec<&str> = value.as_str().unwrap_or_default().split_whitespace().collect();
        if let [minute, hour, "*", "*", "*"] = fields[..]
            && let (Ok(minute @ 0..=59), Ok(hour @ 0..=23)) =
                (minute.parse::<u8>(), hour.parse::<u8>())
        {
            self.line("restart-at", &quoted(&format!("{hour:02}:{minute:02}")));
        } else if truthy(value) {
            self.note(key, format!("write {value} into restart-at as systemd does: \"Mon 04:00\"; see systemd.time(7)"));
        }
    }

    fn variables(&mut self, value: &Value) {
        let Some(variables) = value.as_object() else { return };
        for (name, value) in variables {
            let text = text(value).unwrap_or_else(|| value.to_string());
            self.variable(name, text);
        }
    }

    fn variable(&mut self, name: &str, text: String) {
        self.environment.retain(|(present, _)| present != name);
        self.environment.push((name.to_owned(), text));
    }

    /// The variables that are not for everybody's eyes.
    fn take_secrets(&mut self) -> Vec<(String, String)> {
        let fits = |name: &str, value: &str| {
            secrecy::is_secret(name, value) && environment_file::can_hold(name, value)
        };
        let all = std::mem::take(&mut self.environment);
        let (secret, open) = all.into_iter().partition(|(name, value)| fits(name, value));
        self.environment = open;
        secret
    }

    fn time(&mut self, key: &str, ours: &str, value: &Value) {
        let milliseconds = value.as_u64().or_else(|| {
            let text = value.as_str()?;
            let (digits, factor) = match text.trim_end_matches(['s', 'm', 'h']) {
                digits if digits.len() == text.len() => (digits, 1),
                digits => (
                    digits,
                    match &text[digits.len()..] {
                        "s" => 1000,
                        "m" => 60_000,
                        "h" => 3_600_000,
                        _ => 1,
                    },
                ),
            };
            Some(digits.parse::<u64>().ok()? * factor)
        });
        match milliseconds {
            Some(ms) if ms > 0 && ms % 1000 == 0 => {
                self.line(ours, &quoted(&format!("{}s", ms / 1000)));
            }
            Some(ms) if ms > 0 => self.line(ours, &quoted(&format!("{ms}ms"))),
            _ => self.note(key, format!("{value} is no time, and was left out")),
        }
    }

    /// Options whose counterpart is how it always is here; only their unusual values are told.
    fn needs_nothing(&mut self, key: &str, value: &Value) {
        match (key, value) {
            ("treekill", Value::Bool(false)) => self.note(key, "what is left of a worker's processes is always ended with it; what must live on needs a unit of its own"),
            ("autostart", Value::Bool(false)) => self.note(key, "do not enable the app: systemctl disable roundsman-app@$APP.target"),
            ("namespace", _) => self.note(key, "apps have no groups; systemctl takes patterns: systemctl restart 'roundsman-app@shop-*.target'"),
            _ => {}
        }
    }

    fn no_counterpart(&mut self, key: &str, value: &Value) {
        let off = matches!(value, Value::Bool(false) | Value::Null);
        let as_here = match key {
            "watch" => off,
            "autorestart" => !off,
            "instance_var" => value.as_str() == Some("NODE_APP_INSTANCE"),
            _ => false,
        };
        if as_here {
            return;
        }
        let text = match key {
            "ignore_watch" | "watch_options" | "watch_delay" => {
                "name what is not to be watched in .gitignore, or with ! in watch"
            }
            "out_file" | "output" | "out" | "error_file" | "error" | "err" | "log_file" | "log"
            | "logs" | "log_type" | "disable_logs" | "pid_file" | "pid" => {
                "logs are in the journal: roundsman logs $APP, or journalctl"
            }
            "autorestart" => {
                "a drop-in for the units: systemctl edit roundsman-worker@$APP:1.service, Restart=no"
            }
            "max_restarts" | "min_uptime" | "restart_delay" | "exp_backoff_restart_delay" => {
                "crashes in a row are followed by longer and longer times, see [restart] (max_restarts is its limit)"
            }
            "instance_var" => {
                "the worker's number is in NODE_APP_INSTANCE (from 0) and ROUNDSMAN_WORKER ($APP:1)"
            }
            "increment_var" => "set it from NODE_APP_INSTANCE in the app",
            "filter_env" => {
                "nothing of your shell's environment gets into the app, so there is nothing to filter"
            }
            "append_env_to_name" | "name_prefix" => "write the name that you want",
            "post_update" | "deploy" => "do it where you deploy, before roundsman reload $APP",
            _ => "is no option that PM2's documentation knows; it has no counterpart",
        };
        self.note(key, text);
    }
}

/// PM2 takes a string or a list.
fn words(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(words)) => words.iter().filter_map(text).collect(),
        Some(other) => text(other).into_iter().collect(),
        None => Vec::new(),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn truthy(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

/// `300M`, `1G`, or a number of bytes, as ours.
fn memory(value: &Value) -> Option<String> {
    if let Some(bytes) = value.as_u64() {
        return Some(format!("{}KiB", bytes.div_ceil(1024)));
    }
    let text = value.as_str()?.trim();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().ok()?;
    Some(match text[digits.len()..].trim().to_uppercase().as_str() {
        "" => format!("{}KiB", number.div_ceil(1024)),
        "K" | "KB" => format!("{number}KiB"),
        "M" | "MB" => format!("{number}MiB"),
        "G" | "GB" => format!("{number}GiB"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::user::User;

    /// The first app's file, and all notes.
    fn imported(app: &Value, author: Option<&Author>) -> (toml_edit::DocumentMut, String) {
        let app = json!({ "apps": [app] });
        let import = import(&app, Path::new("/srv"), None, Path::new("/etc"), author).unwrap();
        let notes: Vec<String> =
            import.notes.iter().map(|note| format!("{}: {}\n", note.at, note.text)).collect();
        (import.files[0].text.parse().unwrap(), notes.concat())
    }

    #[test]
    fn an_author_gives_an_app_no_rights_of_others() {
        let nobody = User::named("nobody").unwrap().unwrap();
        let author = Author::of(&nobody).unwrap();
        let group = crate::base::user::group_name(nobody.gid).unwrap().unwrap();
        let roots = json!({ "script": "a.js", "user": "root", "group": "root" });
        let (file, notes) = imported(&roots, Some(&author));
        assert!(file.get("user").is_none() && file.get("group").is_none(), "{file}");
        assert!(notes.contains("a: user: \"root\" was left out: nobody could have"), "{notes}");
        assert!(notes.contains("a: group: \"root\" was left out"), "{notes}");
        let own = json!({ "script": "a.js", "uid": "nobody", "gid": group });
        let (file, _) = imported(&own, Some(&author));
        assert_eq!(file["user"].as_str(), Some("nobody"));
        assert_eq!(file["group"].as_str(), Some(&*group));
        let (file, _) = imported(&roots, None);
        assert_eq!(file["user"].as_str(), Some("root"), "root may say anything");
    }

    #[test]
    fn what_two_options_say_is_said_once() {
        let twice = json!({
            "script": "a.js", "user": "www", "uid": "web", "cron": "0 3 * * *",
            "cron_restart": "0 4 * * *", "kill_timeout": 1000, "killTimeout": 2000, "port": 1,
            "env": { "PORT": 2 }
        });
        let (file, notes) = imported(&twice, None);
        for key in ["user", "restart-at", "stop-timeout"] {
            assert!(file.contains_key(key), "{file}");
            assert!(notes.contains(&format!("a: {key}: two options say this")), "{notes}");
        }
        assert_eq!(file["environment"]["PORT"].as_str(), Some("1"));
    }
}
