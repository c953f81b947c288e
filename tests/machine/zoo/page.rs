//! docs/programs.md, from what has become of each program on each Debian.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::PathBuf;

use rustix::fs::FlockOperation;

use super::keeper::Outcome;
use super::programs::{PROGRAMS, Program};
use crate::harness::{Debian, repository};

const HEAD: &str = "\
# Programs that are tried

Each of these is taken from npm, PyPI or Debian as it comes, and started as its own documentation says with two
workers, on Debian 12 and 13, or on the one that its row names. Then, under load, `roundsman reload` replaces its workers, and the process of one is
killed (`kill -9`). It runs, and no request is lost but what was in flight at the killed process; or `roundsman start`
refuses it and says what to type. What `listen` means: [workers.md](workers.md#how-an-app-listens).

`make zoo` does this and writes this page (`tests/machine/zoo/`). Programs on Node run on Node 24. Not tried, since it
comes from elsewhere: what is installed with RubyGems or Composer, Java and .NET.

| program | version | typed | what becomes of it |
| --- | --- | --- | --- |
";

/// Notes what has become of them, and writes the page.
pub(super) fn write(debian: Debian, outcomes: &[(Program, Outcome)]) {
    let folder = repository().join("target/zoo/results");
    fs::create_dir_all(&folder).expect("target can be written");
    let lock = File::create(folder.join(".lock")).expect("target can be written");
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("locks work here");
    let file = |debian: Debian| -> PathBuf { folder.join(format!("{debian:?}")) };
    let read = |debian: Debian| -> BTreeMap<String, String> {
        let text = fs::read_to_string(file(debian)).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        lines.map(|(app, words)| (app.to_owned(), words.to_owned())).collect()
    };
    let mut results = read(debian);
    for (program, outcome) in outcomes {
        match in_words(program.app, outcome) {
            Some(words) => results.insert(program.app.to_owned(), words),
            None => results.remove(program.app),
        };
    }
    let lines: Vec<String> =
        results.iter().map(|(app, words)| format!("{app}\t{words}\n")).collect();
    fs::write(file(debian), lines.concat()).expect("target can be written");

    let (older, newer) = (read(Debian::Bookworm), read(Debian::Trixie));
    let mut page = HEAD.to_owned();
    for program in PROGRAMS {
        let words = match (older.get(program.app), newer.get(program.app)) {
            (Some(one), Some(other)) if one == other => one.clone(),
            (Some(one), Some(other)) => format!("Debian 12: {one}; Debian 13: {other}"),
            (Some(one), None) => format!("Debian 12: {one}"),
            (None, Some(other)) => format!("Debian 13: {other}"),
            (None, None) => "not seen yet".to_owned(),
        };
        let Program { package, typed, .. } = program;
        writeln!(page, "| {package} | {} | `{typed}` | {words} |", version(program)).expect("text");
    }
    fs::write(repository().join("docs/programs.md"), page).expect("docs can be written");
}

/// Nothing for what was not as expected: then the page stays as it is.
fn in_words(app: &str, outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Ran { listen, .. } => Some(format!("runs (`listen = \"{listen}\"`)")),
        Outcome::Refused { sentence, .. } => {
            // Which of its workers was the first to fail is chance.
            let is_of_one = sentence.starts_with(&format!("{app}:"));
            let rest = sentence.split_once("; ").filter(|_| is_of_one);
            let sentence = rest.map_or(sentence.as_str(), |(_, rest)| rest);
            Some(format!("refused: {}", sentence.replace('|', "\\|")))
        }
        Outcome::Wrong(_) => None,
    }
}

/// The version that the folder's files pin, and for Debian's packages that each release has its own.
fn version(program: &Program) -> String {
    let folder = repository().join("tests/machine/zoo/programs").join(program.folder);
    let read = |file: &str| fs::read_to_string(folder.join(file)).expect("the folder has it");
    let found = match program.package.split_once(' ') {
        Some(("npm", package)) => {
            let list: serde_json::Value =
                serde_json::from_str(&read("package.json")).expect("it is JSON");
            list["dependencies"][package].as_str().map(str::to_owned)
        }
        Some(("PyPI", package)) => {
            let list = read("requirements.txt").to_lowercase();
            let pinned = list.lines().find_map(|line| line.strip_prefix(&format!("{package}==")));
            pinned.map(str::to_owned)
        }
        _ => Some("as in Debian".to_owned()),
    };
    found.unwrap_or_else(|| panic!("{} pins no {}", folder.display(), program.package))
}
