//! The list of keys, which the manual is made from, against what the reader really does.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fmt::Write as _;
use std::fs;

use roundsman::config::schema::{FILES, SHARED, Section};
use roundsman::config::settings::{Listener, Settings};
use roundsman::config::{Sources, load};
use tempfile::TempDir;

fn settings(files: &[(&str, &str)]) -> Settings {
    let directory = TempDir::new().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    match load(&Sources::directory(directory.path())).strict() {
        Ok(settings) => settings,
        Err(problems) => panic!("{problems}"),
    }
}

fn sections(path: &str) -> &'static [&'static Section] {
    FILES.iter().find(|file| file.path == path).unwrap().sections
}

fn section(title: &str) -> &'static Section {
    FILES.iter().flat_map(|f| f.sections).chain(SHARED).find(|s| s.title == title).unwrap()
}

/// The keys that have a default, each with it.
fn defaults(section: &Section) -> String {
    let mut text = String::new();
    for key in section.keys.iter().filter(|key| !key.default.is_empty()) {
        writeln!(text, "{} = {}", key.name, key.default).unwrap();
    }
    text
}

#[test]
fn the_defaults_of_the_front_are_what_the_manual_says() {
    let mut text = String::new();
    for section in sections("roundsman.toml") {
        if section.title.starts_with("[[") {
            continue; // what it is about has no defaults
        }
        if !section.title.is_empty() {
            writeln!(text, "{}", section.title.replace("NAME", "http")).unwrap();
        }
        text.push_str(&defaults(section));
    }
    let mut front = settings(&[("roundsman.toml", &text)]).front;
    assert_eq!(front.listeners.remove("http"), Some(Listener::default()));
    assert_eq!(front, Settings::default().front, "{text}");
}

#[test]
fn the_defaults_of_an_app_are_what_the_manual_says() {
    let top = defaults(sections("apps/NAME.toml")[0]) + &defaults(SHARED[0]);
    let command = "command = [\"node\", \"x.js\"]\n";
    let health = "\n[health]\npath = \"/\"\n";
    let with = format!(
        "{command}{top}\n[passive]\n{}{health}{}",
        defaults(section("[passive]")),
        defaults(section("[health] of an app")),
    );
    let without = format!("{command}{health}");
    let said = settings(&[("apps/a.toml", &with)]);
    assert_eq!(said, settings(&[("apps/a.toml", &without)]), "{with}");
}

#[test]
fn the_defaults_of_an_upstream_are_what_the_manual_says() {
    let start = "servers = [{ address = \"10.0.0.1:80\" }]\nbalance = \"hash\"\n";
    let end = |hash: &str, health: &str, sticky: &str| {
        format!(
            "{start}[hash]\n{hash}[health]\ntcp = true\n{health}[sticky]\ncookie = \"c\"\n{sticky}"
        )
    };
    let health: String = defaults(section("[health] of an upstream"))
        .lines()
        // Either these, or tcp.
        .filter(|line| !line.starts_with("tcp") && !line.starts_with("status"))
        .fold(String::new(), |text, line| text + line + "\n");
    let with = end(&defaults(section("[hash]")), &health, &defaults(section("[sticky]")));
    let said = settings(&[("upstreams/u.toml", &with)]);
    assert_eq!(said, settings(&[("upstreams/u.toml", &end("", "", ""))]), "{with}");

    let server = defaults(section("[[servers]]"));
    let with = format!("[[servers]]\naddress = \"10.0.0.1:80\"\n{server}");
    let without = "[[servers]]\naddress = \"10.0.0.1:80\"\n";
    let said = settings(&[("upstreams/u.toml", &with)]);
    assert_eq!(said, settings(&[("upstreams/u.toml", without)]), "{with}");

    let route = defaults(section("[[route]]"));
    let with = format!("{without}[[route]]\n{route}");
    let said = settings(&[("upstreams/u.toml", &with)]);
    assert_eq!(said, settings(&[("upstreams/u.toml", without)]), "{with}");
}

/// Every key once, with a value that is not its default, in files that are right.
const EVERY_KEY: &[(&str, &str)] = &[
    ("roundsman.toml", include_str!("../data/every-key/roundsman.toml")),
    ("apps/background.toml", include_str!("../data/every-key/apps/background.toml")),
    ("apps/cluster.toml", include_str!("../data/every-key/apps/cluster.toml")),
    ("apps/handoff.toml", include_str!("../data/every-key/apps/handoff.toml")),
    ("apps/port.toml", include_str!("../data/every-key/apps/port.toml")),
    ("upstreams/u.toml", include_str!("../data/every-key/upstreams/u.toml")),
    ("routes/r.toml", include_str!("../data/every-key/routes/r.toml")),
];

#[test]
fn every_key_is_taken() {
    settings(EVERY_KEY);
    let text: String = EVERY_KEY.iter().map(|(_, text)| *text).collect();
    for key in FILES.iter().flat_map(|f| f.sections).chain(SHARED).flat_map(|s| s.keys) {
        let written = text.contains(&format!("{} = ", key.name))
            || text.contains(&format!("[{}]", key.name))
            || text.contains(&format!("[{}.", key.name));
        assert!(
            written,
            "`{}` is in the list of keys, but in no file of tests/data/every-key",
            key.name
        );
    }
}

/// A value that is read wins over the default; a key that is accepted and then forgotten would not.
#[test]
fn every_key_has_an_effect() {
    let all = settings(EVERY_KEY);
    for (number, (path, text)) in EVERY_KEY.iter().enumerate() {
        for (at, line) in text.lines().enumerate() {
            let required = line.contains("# required");
            if line.is_empty() || line.starts_with(['#', '[']) || required {
                continue;
            }
            let less: String = text
                .lines()
                .enumerate()
                .filter(|(i, _)| *i != at)
                .fold(String::new(), |text, (_, line)| text + line + "\n");
            let mut files = EVERY_KEY.to_vec();
            files[number].1 = &less;
            assert_ne!(settings(&files), all, "{path}: `{line}` has no effect");
        }
    }
}
