//! The options of an app, one by one, as lines of its file.

use serde_json::Value;

use super::super::{array, duration, quoted};
use super::app::App;
use super::cron;
use super::value::{memory, milliseconds, text, truthy};
use super::words;

impl App<'_> {
    /// One option, but for those that the command, the directory and `[restart]` are made of.
    pub(super) fn option(&mut self, key: &str, value: &Value, environment: Option<&str>) {
        match key {
            "name"
            | "script"
            | "exec"
            | "cmd"
            | "command"
            | "args"
            | "cwd"
            | "node_args"
            | "nodeArgs"
            | "interpreter_args"
            | "interpreterArgs"
            | "interpreter"
            | "exec_interpreter"
            | "max_restarts"
            | "maxRestarts"
            | "min_uptime"
            | "minUptime"
            | "restart_delay"
            | "restartDelay"
            | "exp_backoff_restart_delay"
            | "expBackoffRestartDelay" => {}
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
                None => self.lost(key, format!("{value} is no size, and was left out")),
            },
            "watch" if truthy(value) => self.watch(key, value),
            "stop_exit_codes" => {
                let codes: Vec<String> = words::of(Some(value))
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
            "wait_ready" | "waitReady" => {
                if truthy(value) {
                    self.line("ready", "\"message\"");
                }
            }
            "shutdown_with_message" | "shutdownWithMessage" => {
                match (truthy(value), self.is_node()) {
                    (true, true) => self.line("shutdown", "\"message\""),
                    (true, false) => {
                        self.lost(key, "only Node apps get messages; this one gets SIGTERM");
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
            _ => match key.strip_prefix("env_").filter(|_| value.is_object()) {
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
                .lost(key, format!("{value} is a number; write the {ours}'s name into {ours}"));
        };
        match self.author {
            Some(author) if !author.may_name(ours, name) => {
                let author = author.name().to_owned();
                self.lost(key, format!("\"{name}\" was left out: {author} could have written this file, and cannot give an app the rights of others; write {ours} yourself if this is right"));
            }
            _ => self.line(ours, &quoted(name)),
        }
    }

    fn instances(&mut self, value: &Value) {
        let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
        match (number, value.as_str()) {
            (Some(n @ 1..=250), _) => self.line("workers", &n.to_string()),
            (Some(0), _) | (None, Some("max")) => self.line("workers", "\"auto\""),
            (Some(n), _) if n < 0 => {
                let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
                let cores = i64::try_from(cores).unwrap_or(i64::MAX);
                let workers = cores.saturating_add(n).clamp(1, 250);
                self.line("workers", &workers.to_string());
                self.note(
                    "instances",
                    format!(
                        "{n} is \"all cores but {}\" in PM2: that is {workers} on this machine",
                        n.unsigned_abs()
                    ),
                );
            }
            _ => {
                self.lost(
                    "instances",
                    format!("{value} is no number of workers, and was left out"),
                );
            }
        }
    }

    /// All files, or the paths that can be written as they are.
    fn watch(&mut self, key: &str, value: &Value) {
        match value.as_str() {
            Some("false") => return self.note(key, "\"false\" is a text, which PM2 takes for the name of a file; nothing is watched here"),
            Some("true") => {
                self.line("watch", "true");
                return self.note(key, "\"true\" is a text, which PM2 takes for the name of a file; everything is watched here");
            }
            _ => {}
        }
        let paths = match value {
            Value::String(path) => vec![path.clone()],
            Value::Array(_) => words::of(Some(value)),
            _ => Vec::new(),
        };
        let relative: Vec<&str> =
            paths.iter().map(|path| path.strip_prefix("./").unwrap_or(path)).collect();
        let fits = |path: &&str| {
            !path.is_empty()
                && path.trim() == *path
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

    fn cron(&mut self, key: &str, value: &Value) {
        if !truthy(value) || text(value).is_some_and(|text| text == "0") {
            return; // 0 takes one back
        }
        match cron::events(value.as_str().unwrap_or_default()).as_deref() {
            Ok([event]) => self.line("restart-at", &quoted(event)),
            Ok(events) => self.line("restart-at", &array(events.iter().map(String::as_str))),
            Err(why) => self.lost(key, format!("{value} was left out ({why}): write it into restart-at as systemd does, \"Mon 04:00\"; see systemd.time(7)")),
        }
    }

    fn variables(&mut self, value: &Value) {
        let Some(variables) = value.as_object() else { return };
        for (name, value) in variables {
            let text = text(value).unwrap_or_else(|| value.to_string());
            if name == "PATH" {
                self.note("env", "PATH was worked out when the file was read, as it is for you now; look whether it is right for the user of the app");
            }
            self.variable(name, text);
        }
    }

    fn time(&mut self, key: &str, ours: &str, value: &Value) {
        match milliseconds(value) {
            Some(time) => self.line(ours, &quoted(&duration(time))),
            None => self.lost(key, format!("{value} is no time, and was left out")),
        }
    }
}
