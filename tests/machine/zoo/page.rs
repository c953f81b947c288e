//! docs/programs.md, from what has become of each program on each Debian.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};

use rustix::fs::FlockOperation;

use super::keeper::Outcome;
use super::programs::{PROGRAMS, Program};
use crate::harness::{Debian, repository};

/// On which Debian it was seen.
const OLDER: &str = "Debian 12: ";
const NEWER: &str = "Debian 13: ";
const AND_NEWER: &str = "; Debian 13: ";
const NOT_SEEN: &str = "not seen yet";

const HEAD: &str = "\
# Programs that are tried

Each of these is taken from npm, PyPI or Debian as it comes, and started as its own documentation says with two
workers, on Debian 12 and 13, or on the one that its row names. Then, under load, `roundsman reload` replaces its workers, and the process of one is
killed (`kill -9`). It runs, and no request is lost but what was in flight at the killed process; or `roundsman start`
refuses it and says what to type. One that insists on its port is started with one worker, and `start` says so. What
`listen` means: [workers.md](workers.md#how-an-app-listens).

`make zoo` does this and writes this page (`tests/machine/zoo/`). Programs on Node run on Node 24. Not tried, since it
comes from elsewhere: what is installed with RubyGems or Composer, Java and .NET.

| program | version | typed | what becomes of it |
| --- | --- | --- | --- |
";

/// What has become of a program on each Debian, as far as that was seen.
type Seen = [Option<String>; 2];

/// Writes what has become of them into the page. What is not among them stays as it is there.
pub(super) fn write(debian: Debian, outcomes: &[(Program, Outcome)]) {
    let folder = repository().join("target/zoo");
    fs::create_dir_all(&folder).expect("target can be written");
    // The other Debian writes its part of it.
    let lock = File::create(folder.join(".page")).expect("target can be written");
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("locks work here");
    let path = repository().join("docs/programs.md");
    let mut seen = read(&fs::read_to_string(&path).expect("there is the page"));
    for (program, outcome) in outcomes {
        seen.entry(key(program)).or_default()[debian as usize] = in_words(program.app, outcome);
    }
    fs::write(path, page(&seen)).expect("docs can be written");
}

/// How a row is known again.
fn key(program: &Program) -> String {
    format!("{} `{}`", program.package, program.typed)
}

fn page(seen: &BTreeMap<String, Seen>) -> String {
    let mut page = HEAD.to_owned();
    for program in PROGRAMS {
        let words = match seen.get(&key(program)).cloned().unwrap_or_default() {
            [Some(one), Some(other)] if one == other => one,
            [Some(one), Some(other)] => format!("{OLDER}{one}{AND_NEWER}{other}"),
            [Some(one), None] => format!("{OLDER}{one}"),
            [None, Some(other)] => format!("{NEWER}{other}"),
            [None, None] => NOT_SEEN.to_owned(),
        };
        let Program { package, typed, .. } = program;
        writeln!(page, "| {package} | {} | `{typed}` | {words} |", version(program)).expect("text");
    }
    page
}

/// What a page says.
fn read(page: &str) -> BTreeMap<String, Seen> {
    let row = |line: &str| {
        let cells = line.strip_prefix("| ")?.strip_suffix(" |")?;
        let [package, _version, typed, words] = cells.splitn(4, " | ").collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let own = |words: &str| Some(words.to_owned());
        let seen = if words == NOT_SEEN {
            [None, None]
        } else if let Some(words) = words.strip_prefix(NEWER) {
            [None, own(words)]
        } else if let Some(words) = words.strip_prefix(OLDER) {
            match words.split_once(AND_NEWER) {
                Some((one, other)) => [own(one), own(other)],
                None => [own(words), None],
            }
        } else {
            [own(words), own(words)]
        };
        Some((format!("{package} {typed}"), seen))
    };
    page.lines().filter_map(row).collect()
}

#[test]
fn what_is_not_tried_again_stays_on_the_page() {
    let there =
        fs::read_to_string(repository().join("docs/programs.md")).expect("there is the page");
    let mut seen = read(&there);
    assert!(
        PROGRAMS.iter().all(|program| seen.contains_key(&key(program))),
        "every program has its row"
    );
    assert_eq!(page(&seen), there);
    let both = [Some("runs".to_owned()), Some("refused: a | b".to_owned())];
    seen.insert(key(&PROGRAMS[0]), both.clone());
    assert_eq!(read(&page(&seen))[&key(&PROGRAMS[0])], both);
}

/// Nothing for what was not as expected: then the page stays as it is.
fn in_words(app: &str, outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Ran { reached, .. } => Some(format!("runs ({reached})")),
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
