//! Every TOML block is a file, or a part of one, that `roundsman check` finds nothing wrong with.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use roundsman::config::{Sources, load};

use super::{Block, pages};

/// What makes a whole file of a part of one, by the folder in which it could be.
const WHOLE: [(&str, &str); 4] = [
    ("apps/part.toml", "command = [\"node\", \"server.js\"]\n"),
    ("upstreams/part.toml", "servers = [{ address = \"10.0.0.1:8080\" }]\n"),
    ("routes/part.toml", ""),
    ("roundsman.toml", ""),
];

#[test]
fn every_file_that_is_shown_is_valid() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        for block in page.blocks().iter().filter(|block| block.kind == "toml") {
            count += 1;
            if let Err(problems) = check(block) {
                wrong.push(format!("{}:{}: {problems}", page.path.display(), block.line));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 15, "only {count} blocks were found");
}

fn check(block: &Block<'_>) -> Result<(), String> {
    let files = named(&block.text);
    if !files.is_empty() {
        return valid(files);
    }
    let mut problems = Vec::new();
    for (path, rest) in WHOLE {
        // Keys first, then tables.
        let is_there =
            rest.split(' ').next().is_some_and(|key| !key.is_empty() && block.text.contains(key));
        let text = if is_there { block.text.clone() } else { format!("{rest}{}", block.text) };
        match valid([(path.to_owned(), text)].into()) {
            Ok(()) => return Ok(()),
            Err(found) => problems.push(format!("as {path}:\n{found}")),
        }
    }
    Err(problems.join("\n"))
}

/// The files of a block that names them: `# upstreams/api.toml`, with or without the folder above.
fn named(text: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let name = line.strip_prefix("# ").and_then(|rest| rest.split_whitespace().next());
        if let Some(name) =
            name.filter(|name| Path::new(name).extension().is_some_and(|end| end == "toml"))
        {
            let name = name.strip_prefix("/etc/roundsman/").unwrap_or(name);
            current = Some(name.to_owned());
        }
        if let Some(name) = &current {
            let file: &mut String = files.entry(name.clone()).or_default();
            file.push_str(line);
            file.push('\n');
        }
    }
    files
}

/// Whether these files are right, together with what they speak of and other files would have.
fn valid(mut files: BTreeMap<String, String>) -> Result<(), String> {
    let all: String = files.values().map(String::as_str).collect();
    for (kind, folder, (_, text)) in
        [("app:", "apps", WHOLE[0]), ("upstream:", "upstreams", WHOLE[1])]
    {
        for name in all.split(kind).skip(1).filter_map(|rest| rest.split(['"', ' ']).next()) {
            let more = format!("{text}route = []\n");
            files.entry(format!("{folder}/{name}.toml")).or_insert(more);
        }
    }
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in &files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::write(path, text).unwrap();
    }
    let loaded = load(&Sources::directory(directory.path()).with_cores(2));
    if loaded.problems.is_empty() && !loaded.files.is_empty() {
        return Ok(());
    }
    Err(loaded.problems.render(false))
}
