//! Options that come to no line of a file: what is always so here, and what has no counterpart.

use serde_json::Value;

use super::super::Severity;
use super::app::App;

impl App<'_> {
    /// Options whose counterpart is how it always is here; only their unusual values are told.
    pub(super) fn needs_nothing(&mut self, key: &str, value: &Value) {
        match (key, value) {
            ("treekill", Value::Bool(false)) => self.lost(key, "what is left of a worker's processes is always ended with it; what must live on needs a unit of its own"),
            ("autostart", Value::Bool(false)) => self.say(Severity::ToDo, key, "do not enable the app: systemctl disable roundsman-app@$APP.target"),
            ("namespace", _) => self.note(key, "apps have no groups; systemctl takes patterns: systemctl restart 'roundsman-app@shop-*.target'"),
            _ => {}
        }
    }

    pub(super) fn no_counterpart(&mut self, key: &str, value: &Value) {
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
            "instance_var" => {
                "the worker's number is in NODE_APP_INSTANCE (from 0) and ROUNDSMAN_WORKER ($APP:1)"
            }
            "env_file" => {
                "PM2 does not read it; `environment-files` in the app's file names such files, which systemd reads"
            }
            "increment_var" => "set it from NODE_APP_INSTANCE in the app",
            "filter_env" => {
                "nothing of your shell's environment gets into the app, so there is nothing to filter"
            }
            "append_env_to_name" | "name_prefix" => "write the name that you want",
            "post_update" | "deploy" => "do it where you deploy, before roundsman reload $APP",
            _ => "is no option that PM2's documentation knows; it has no counterpart",
        };
        let severity = match key {
            "instance_var" | "filter_env" | "env_file" => Severity::Differs,
            _ if text.starts_with("logs are") => Severity::Differs,
            _ => Severity::Lost,
        };
        self.say(severity, key, text);
    }
}
