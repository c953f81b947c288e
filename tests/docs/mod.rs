//! The documents do what they say: their files are valid, their commands exist, their links lead
//! somewhere, and no reason or message is without its row.
//!
//! Over all of them at once: a new page needs no new test.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod commands;
mod files;
mod links;
mod reasons;

use std::fs;
use std::path::{Path, PathBuf};

/// A page: its path from the root of the repository, and its text.
struct Page {
    path: PathBuf,
    text: String,
}

/// A fenced block of a page.
struct Block<'a> {
    /// What stands after the fence.
    kind: &'a str,
    text: String,
    /// Where it begins.
    line: usize,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page, for users and for contributors.
fn pages() -> Vec<Page> {
    let mut paths = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    paths.extend(below(&root().join("docs"), "md"));
    paths.push(root().join("tests/README.md"));
    let there = paths.into_iter().filter(|path| path.exists());
    there
        .map(|path| Page {
            text: fs::read_to_string(&path).unwrap(),
            path: path.strip_prefix(root()).unwrap().to_owned(),
        })
        .collect()
}

/// Every file below a directory whose name ends so, in order.
fn below(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path, ending));
        } else if path.extension().is_some_and(|found| found == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

// === impl Page ===

impl Page {
    /// Its fenced blocks.
    fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks: Vec<Block<'_>> = Vec::new();
        let mut open = false;
        for (number, line) in self.text.lines().enumerate() {
            match line.trim_start().strip_prefix("```") {
                Some(kind) if !open => {
                    blocks.push(Block { kind, text: String::new(), line: number + 1 });
                    open = true;
                }
                Some(_) => open = false,
                None if open => {
                    let block = blocks.last_mut().unwrap();
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                None => {}
            }
        }
        assert!(!open, "{}: a block has no end", self.path.display());
        blocks
    }

    /// Its lines outside of fenced blocks, each with its number.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut open = false;
        self.text.lines().enumerate().filter_map(move |(number, line)| {
            let fence = line.trim_start().starts_with("```");
            open ^= fence;
            (!open && !fence).then_some((number + 1, line))
        })
    }

    /// What stands between backquotes in its prose.
    fn code(&self) -> Vec<(usize, &str)> {
        self.prose()
            .flat_map(|(number, line)| {
                line.split('`').skip(1).step_by(2).map(move |span| (number, span))
            })
            .collect()
    }
}
