//! No input panics: whatever the files hold, there is an answer, and it can be shown.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;

use proptest::prelude::*;
use roundsman::config::{Loaded, Sources, ValkeyLimits, load};
use roundsman::generator::tree::{Unit, tree};
use tempfile::TempDir;

const PATHS: &[&str] = &[
    "roundsman.toml",
    "apps/cluster.toml",
    "apps/port.toml",
    "upstreams/u.toml",
    "routes/r.toml",
    "roundsman.toml.d/10.toml",
    "apps/cluster.toml.d/10.toml",
];

const VALID: &[&str] = &[
    include_str!("../data/every-key/roundsman.toml"),
    include_str!("../data/every-key/apps/cluster.toml"),
    include_str!("../data/every-key/apps/port.toml"),
    include_str!("../data/every-key/upstreams/u.toml"),
    include_str!("../data/every-key/routes/r.toml"),
    "[timeouts]\nidle = \"1s\"\n",
    "workers = 4\nenvironment = { X = \"1\" }\n",
];

/// What is likely to upset a reader.
const TOKENS: &[&str] = &[
    "",
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    ".",
    ",",
    "#",
    "\n",
    "\r",
    "\0",
    "\u{feff}",
    "-1",
    "0",
    "9223372036854775807",
    "99999999999999999999",
    "0x7fffffffffffffff",
    "1e400",
    "nan",
    "-inf",
    "true",
    "1979-05-27T07:32:00Z",
    "\"9999999999999999999d\"",
    "\"18446744073709551615TiB\"",
    "\"*\"",
    "\"*.\"",
    "\"unix:\"",
    "\"[::]:0\"",
    "\"app:\"",
    "\"app:cluster\"",
    "\"cookie:\"",
    "\"65535-100\"",
    "\"100-\"",
    "ä",
    "\"ö\"",
    "\"\\u0000\"",
    "\"\\n\"",
    "\u{1f980}",
    "route = []",
    "port = 65535",
    "workers = 250",
];

fn loaded(files: &[(&str, &[u8])]) -> Loaded {
    let directory = TempDir::new().unwrap();
    for (path, bytes) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    load(&Sources::directory(directory.path()))
}

/// Does everything with it that can be done.
fn use_up(loaded: Loaded) {
    let problems = &loaded.problems;
    assert_eq!(problems.render(false).is_empty(), problems.is_empty());
    problems.render(true);
    for problem in problems.iter() {
        let place = problem.place().map(|place| (place.line(), place.column()));
        assert!(place.is_none_or(|(line, column)| line > 0 && column > 0));
        assert!(!problem.to_string().contains('\n'));
    }
    for app in loaded.settings.apps.values() {
        assert!((1..=250).contains(&app.workers));
        assert!(!app.command.is_empty());
    }
    let units: Vec<Unit<'_>> = loaded
        .settings
        .apps
        .values()
        .map(|app| Unit {
            app,
            source: None,
            has_file: true,
            running: vec![1, 251],
            valkey: app.has_valkey().then(|| ValkeyLimits::of(&loaded.settings.front.session)),
        })
        .collect();
    tree(&units, None, |path| path.starts_with("/etc"));
    let errors = loaded.problems.errors();
    assert_eq!(loaded.strict().is_ok(), errors == 0);
}

/// One change to one of the valid files: file, place, how much is cut, what is put there.
fn mutation() -> impl Strategy<Value = (usize, prop::sample::Index, usize, &'static str)> {
    (0..VALID.len(), any::<prop::sample::Index>(), 0_usize..12, prop::sample::select(TOKENS))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes(path in prop::sample::select(PATHS), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        use_up(loaded(&[(path, &bytes)]));
    }

    #[test]
    fn text(path in prop::sample::select(PATHS), text in "(\\PC|[\\n\\[\\]=\"{}.,])*") {
        use_up(loaded(&[(path, text.as_bytes())]));
    }

    #[test]
    fn mutated_files(mutations in prop::collection::vec(mutation(), 1..6)) {
        let mut files: Vec<Vec<u8>> = VALID.iter().map(|text| text.as_bytes().to_vec()).collect();
        for (file, at, cut, token) in mutations {
            let file = &mut files[file];
            let at = at.index(file.len() + 1);
            let end = (at + cut).min(file.len());
            file.splice(at..end, token.bytes());
        }
        let files: Vec<(&str, &[u8])> =
            PATHS.iter().copied().zip(files.iter().map(Vec::as_slice)).collect();
        use_up(loaded(&files));
    }

    #[test]
    fn any_value_for_any_key(
        file in 0..VALID.len(),
        line in any::<prop::sample::Index>(),
        value in prop::sample::select(TOKENS),
    ) {
        let mut lines: Vec<String> = VALID[file].lines().map(str::to_owned).collect();
        let line = line.index(lines.len());
        if let Some((key, _)) = lines[line].split_once(" = ") {
            lines[line] = format!("{key} = {value}");
        }
        let text = lines.join("\n");
        let mut files: Vec<(&str, &[u8])> =
            PATHS.iter().copied().zip(VALID.iter().map(|text| text.as_bytes())).collect();
        files[file].1 = text.as_bytes();
        use_up(loaded(&files));
    }
}

/// A line end as the value of a key of routes/r.toml once broke the report.
#[test]
fn a_line_end_for_any_key() {
    for (file, text) in VALID.iter().enumerate().take(PATHS.len()) {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let Some((key, _)) = line.split_once(" = ") else { continue };
            let changed = format!("{key} = \"\\n\"");
            let mut lines = lines.clone();
            lines[number] = &changed;
            use_up(loaded(&[(PATHS[file], lines.join("\n").as_bytes())]));
        }
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_stack_overflow() {
    let text = format!("a = {}", "[".repeat(100_000));
    let loaded = loaded(&[("roundsman.toml", text.as_bytes())]);
    assert!(loaded.problems.errors() > 0);
    use_up(loaded);
}

#[test]
fn thousands_of_errors_are_all_found() {
    let lines: Vec<String> = (0..3000).map(|n| format!("unknown-{n} = 1")).collect();
    let text = lines.join("\n");
    let loaded = loaded(&[("roundsman.toml", text.as_bytes())]);
    assert_eq!(loaded.problems.errors(), 3000);
    use_up(loaded);
}
