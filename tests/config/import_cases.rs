//! PM2's ecosystem files as people write them, with what the real PM2 7 made of them
//! (`tests/data/cases/pm2`): what `roundsman import` makes is the same, or it is named.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A case: what PM2 started, and what must be said.
struct Case {
    directory: PathBuf,
    expected: Value,
}

/// What the importer made of a case.
struct Imported {
    apps: BTreeMap<String, toml::Table>,
    notes: Vec<String>,
}

fn cases() -> Vec<Case> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cases/pm2");
    let mut cases: Vec<Case> = std::fs::read_dir(all)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|directory| {
            let text = std::fs::read_to_string(directory.join("expect.json")).unwrap();
            Case { directory, expected: serde_json::from_str(&text).unwrap() }
        })
        .collect();
    cases.sort_by(|a, b| a.directory.cmp(&b.directory));
    assert!(cases.len() >= 16, "the cases are there");
    cases
}

impl Case {
    fn file(&self) -> PathBuf {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&self.directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let is_one = |path: &&PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("ecosystem") || name.starts_with("process")
        };
        files.iter().find(is_one).unwrap().clone()
    }

    fn imported(&self, environment: Option<&str>) -> Imported {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roundsman"));
        command.args(["import", "pm2", "--json", "--to", "/nowhere"]).arg(self.file());
        if let Some(environment) = environment {
            command.args(["--env", environment]);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let apps = value["files"].as_array().unwrap().iter().map(|file| {
            let path = PathBuf::from(text(&file["path"]));
            let name = path.file_stem().unwrap().to_str().unwrap().replace('_', "-");
            (name, text(&file["text"]).parse().unwrap())
        });
        let notes = value["notes"].as_array().unwrap().iter();
        Imported {
            apps: apps.collect(),
            notes: notes.map(|note| format!("{}: ", text(&note["at"]).replace('_', "-"))).collect(),
        }
    }

    /// What PM2 started, with what an environment changes.
    fn apps(&self, environment: Option<&str>) -> Vec<Value> {
        let mut apps = self.expected["apps"].as_array().unwrap().clone();
        let changes = environment.map(|name| &self.expected[format!("apps --env {name}")]);
        for (app, change) in
            apps.iter_mut().zip(changes.iter().filter_map(|c| c.as_array()).flatten())
        {
            for (key, value) in change.as_object().unwrap() {
                app[key] = value.clone();
            }
        }
        apps
    }

    /// Words with the case's own paths written in one way.
    fn words(&self, words: &[String], directory: &str) -> Vec<String> {
        words
            .iter()
            .map(|word| {
                let word = word.replace("<case>", self.directory.to_str().unwrap());
                let mut path = PathBuf::new();
                for part in Path::new(directory).join(&word).components() {
                    match part {
                        Component::CurDir => {}
                        Component::ParentDir => {
                            path.pop();
                        }
                        part => path.push(part),
                    }
                }
                match path.strip_prefix(&self.directory) {
                    Ok(inside) if path.exists() => format!("<case>/{}", inside.display()),
                    _ => word,
                }
            })
            .collect()
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn number_of(text: &str) -> u64 {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap();
    let unit = match &text[end..] {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "s" => 1000,
        "ms" => 1,
        unit => panic!("the unit {unit}"),
    };
    text[..end].parse::<u64>().unwrap() * unit
}

/// What is not as PM2 started it, by option.
fn differences(case: &Case, app: &Value, ours: &toml::Table) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut compare = |option, expected: String, is: String| {
        if expected != is {
            found.push((option, format!("{expected} -> {is}")));
        }
    };
    let directory = ours["directory"].as_str().unwrap();
    let command: Vec<String> = ours["command"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap().to_owned())
        .collect();
    let command = case.words(&command, directory);
    let mut argv = case.words(&texts(&app["argv"]), directory);
    // PM2 takes `python3` where there is no `python`.
    if command[0] == "python3" && argv[0] == "python" {
        argv[0].clone_from(&command[0]);
    }
    compare("args", argv.join("|"), command.join("|"));
    let inside = directory.replace(case.directory.to_str().unwrap(), "<case>");
    compare("cwd", app["cwd"].as_str().unwrap().to_owned(), inside);
    let workers = match ours.get("workers") {
        None => "1".to_owned(),
        Some(toml::Value::String(_)) => "\"all cores\"".to_owned(),
        Some(number) => number.to_string(),
    };
    compare("instances", app["workers"].to_string(), workers);
    let environment = |pairs: Vec<(&String, &str)>| {
        let mut pairs: Vec<String> = pairs
            .into_iter()
            .filter(|(name, _)| *name != "PATH")
            .map(|(name, value)| {
                format!("{name}={}", value.replace(case.directory.to_str().unwrap(), "<case>"))
            })
            .collect();
        pairs.sort();
        pairs.join(" ")
    };
    let expected = app["env"].as_object().unwrap();
    let is = ours.get("environment").and_then(toml::Value::as_table);
    compare(
        "env",
        environment(expected.iter().map(|(k, v)| (k, v.as_str().unwrap())).collect()),
        environment(is.into_iter().flatten().map(|(k, v)| (k, v.as_str().unwrap())).collect()),
    );
    for (option, theirs, key) in [
        ("max_memory_restart", "max_memory_bytes", "max-memory"),
        ("kill_timeout", "kill_timeout_ms", "stop-timeout"),
        ("listen_timeout", "listen_timeout_ms", "start-timeout"),
    ] {
        let is = ours.get(key).map(|value| number_of(value.as_str().unwrap()));
        compare(
            option,
            format!("{:?}", app.get(theirs).and_then(Value::as_u64)),
            format!("{is:?}"),
        );
    }
    let restart = |key: &str| ours.get("restart").and_then(|table| table.get(key)).cloned();
    let milliseconds = |key| restart(key).map(|value| number_of(value.as_str().unwrap()));
    let limit = restart("limit").and_then(|limit| limit.as_integer());
    compare(
        "max_restarts",
        format!("{:?}", app.get("max_restarts").and_then(Value::as_i64)),
        format!("{limit:?}"),
    );
    let delay =
        app.get("exp_backoff_ms").or_else(|| app.get("restart_delay_ms")).and_then(Value::as_u64);
    compare("restart_delay", format!("{delay:?}"), format!("{:?}", milliseconds("delay")));
    let uptime = app.get("min_uptime_ms").and_then(Value::as_u64);
    compare("min_uptime", format!("{uptime:?}"), format!("{:?}", milliseconds("reset-after")));
    for (theirs, key) in [
        ("cron_restart", "restart-at"),
        ("stop_exit_codes", "stop-exit-codes"),
        ("watch", "watch"),
        ("wait_ready", "ready"),
        ("shutdown_with_message", "shutdown"),
        ("uid", "user"),
        ("gid", "group"),
    ] {
        compare(theirs, app.get(theirs).is_some().to_string(), ours.contains_key(key).to_string());
    }
    found
}

#[test]
fn every_case_starts_what_pm2_starts_or_says_what_it_does_not() {
    let mut wrong = Vec::new();
    for case in cases() {
        let environments = texts(&case.expected["environments"]);
        for environment in
            std::iter::once(None).chain(environments.iter().map(|e| Some(e.as_str())))
        {
            let imported = case.imported(environment);
            let place = format!("{} {environment:?}", case.directory.display());
            let named = |app: &str, option: &str| {
                imported
                    .notes
                    .iter()
                    .any(|note| *note == format!("{app}: {}: ", option.replace('_', "-")))
            };
            for app in case.apps(environment) {
                let name = app["name"].as_str().unwrap().to_lowercase().replace('_', "-");
                let Some(ours) = imported.apps.get(&name) else {
                    wrong.push(format!("{place}: {name} has no file"));
                    continue;
                };
                for (option, what) in differences(&case, &app, ours) {
                    // The number of cores is the machine's.
                    if option != "instances" || !named(&name, option) {
                        wrong.push(format!("{place}: {name}: {option}: {what}"));
                    }
                }
                for option in
                    case.expected["must_be_named"][&*name].as_array().into_iter().flatten()
                {
                    let option = option.as_str().unwrap();
                    if option.strip_prefix("env_") != environment && !named(&name, option) {
                        wrong.push(format!("{place}: {name}: {option} is not named"));
                    }
                }
            }
            for key in case.expected["must_be_named"]["file"].as_array().unwrap() {
                if !imported.notes.contains(&format!("{}: ", key.as_str().unwrap())) {
                    wrong.push(format!("{place}: {key} is not named"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_serves_nobody_waits_for_no_listener() {
    let mut found = 0;
    for case in cases() {
        let imported = case.imported(None);
        for name in texts(&case.expected["serve_nobody"]) {
            let listen = imported.apps[&name.replace('_', "-")].get("listen");
            let is_none = listen.is_some_and(|listen| listen.as_str() == Some("none"));
            let is_told = imported.notes.contains(&format!("{}: listen: ", name.replace('_', "-")));
            assert!(is_none || is_told, "{}: {name}", case.directory.display());
            found += usize::from(is_none);
        }
        for name in case.expected["listen_on"].as_object().unwrap().keys() {
            let app = &imported.apps[&name.replace('_', "-")];
            assert!(!app.contains_key("listen"), "{}: {name}", case.directory.display());
        }
    }
    assert!(found >= 6, "{found}");
}
