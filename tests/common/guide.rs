//! The files that a guide in docs/ shows.

use std::collections::BTreeMap;

/// Those of one section of docs/balancing.md, by their names.
pub(crate) fn balancing(section: &str) -> BTreeMap<String, String> {
    let guide = include_str!("../../docs/balancing.md");
    let text = guide.split("\n### ").find(|part| part.starts_with(section)).expect("the section");
    let text = text.split("\n## ").next().unwrap_or(text);
    text.split("```toml\n")
        .skip(1)
        .filter_map(|part| part.split("```").next())
        .filter_map(|file| {
            let name = file.strip_prefix("# ")?.lines().next()?;
            Some((name.to_owned(), file.to_owned()))
        })
        .collect()
}
