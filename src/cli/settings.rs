//! `docs/settings.md`: every key of every file, from the list that the reader and the manual go by.

use std::fmt::Write as _;

use crate::base::paths;
use crate::config::schema::{FILES, Key, SHARED, Section};

const START: &str = "\
# Every setting

The same list as `man roundsman.toml`, which also says how files are laid over each other. Every key has a
default, but for the few that are said to be required; a key that is not known, and a value that makes no
sense, is an error that `roundsman check` prints. A *duration* is a number and a unit: `\"500ms\"` (ms, s, min,
h, d); a *size*: `\"64KiB\"` (B, KiB, MiB, GiB, TiB). A key belongs to the `[table]` above it: those that belong to none
stand above the first `[table]` of the file.

Contributors: this page is made by the program. Change `src/config/schema/`; `roundsman generate DIR` writes it.
";

/// The page.
pub(super) fn page() -> String {
    let mut page = START.to_owned();
    for file in FILES {
        let _ =
            write!(page, "\n## {}/{}\n\n{}\n", paths::CONFIGURATION, file.path, prose(file.doc));
        for section in file.sections {
            table(&mut page, section);
        }
    }
    page.push_str("\n## BALANCING\n\nThe keys that apps and upstreams have in common.\n");
    for section in SHARED {
        table(&mut page, section);
    }
    page
}

fn table(page: &mut String, section: &Section) {
    if !section.title.is_empty() {
        let _ = write!(page, "\n### {}\n", section.title);
    }
    if !section.doc.is_empty() {
        let _ = write!(page, "\n{}\n", prose(section.doc));
    }
    if section.keys.is_empty() {
        return;
    }
    page.push_str("\n| key | takes | default | means |\n| --- | --- | --- | --- |\n");
    for Key { name, form, default, doc } in section.keys {
        let default = if default.is_empty() { String::new() } else { code(default) };
        let _ = writeln!(page, "| {} | {} | {default} | {} |", code(name), prose(form), prose(doc));
    }
}

/// Text as it is, between backquotes, in a cell of a table.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

/// Sentences, in which nothing but backquotes means anything.
fn prose(text: &str) -> String {
    let mut out = String::new();
    for (number, part) in text.split('`').enumerate() {
        let is_code = number % 2 == 1;
        if number > 0 {
            out.push('`');
        }
        for character in part.chars() {
            if character == '|' || !is_code && "*_<[]\\".contains(character) {
                out.push('\\');
            }
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_this_one() {
        let there = include_str!("../../docs/settings.md");
        assert!(
            there == page(),
            "the page of all settings is not what `roundsman generate DIR` writes: put DIR/settings.md there"
        );
    }

    #[test]
    fn a_row_says_what_a_key_takes() {
        let page = page();
        let row = "| `workers` | 1 to 250 or \"auto\" | `1` | Number of workers;";
        assert!(page.contains(row), "{page}");
    }

    #[test]
    fn only_code_is_not_text() {
        assert_eq!(prose("a|b, *.x_y, `[c|*]` <h1> [d]"), r"a\|b, \*.x\_y, `[c\|*]` \<h1> \[d\]");
    }
}
