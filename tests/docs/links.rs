//! Links, pictures and the places that messages name are there, in the repository and in the package.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{below, pages, root};

/// The path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// As sites that show Markdown make the address of a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut faults = Vec::new();
    for page in pages() {
        let folder = page.path.parent().unwrap();
        let links = page.prose().flat_map(|(number, line)| {
            let plain = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let html = ["src=\"", "srcset=\"", "href=\""].into_iter().flat_map(|attribute| {
                line.split(attribute).skip(1).filter_map(|rest| rest.split('"').next())
            });
            plain.chain(html).map(move |link| (number, link)).collect::<Vec<_>>()
        });
        for (number, link) in links.filter(|(_, link)| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = if file.is_empty() { page.path.clone() } else { normal(&folder.join(file)) };
            let fault = match fs::read_to_string(root().join(&path)) {
                _ if folder == Path::new("docs") && !is_shipped(&path) => "is not in the package",
                Err(_) => "is not there",
                Ok(text) if !heading.is_empty() => {
                    let headings = text.lines().filter(|line| line.starts_with('#'));
                    let mut anchors =
                        headings.map(|line| anchor(line.trim_start_matches('#').trim()));
                    if anchors.any(|anchor| anchor == heading) {
                        continue;
                    }
                    "has no such heading"
                }
                Ok(_) => continue,
            };
            faults.push(format!("{}:{number}: {link} {fault}", page.path.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_list_of_pages_has_every_page() {
    let list = fs::read_to_string(root().join("docs/README.md")).unwrap();
    for page in pages().iter().filter(|page| page.path.parent() == Some(Path::new("docs"))) {
        let name = page.path.file_name().unwrap().to_str().unwrap();
        assert!(
            name == "README.md" || list.contains(&format!("]({name})")),
            "{name} is not listed"
        );
    }
}

/// Whether the package has this file in /usr/share/doc/roundsman.
fn is_shipped(path: &Path) -> bool {
    let Ok(below) = path.strip_prefix("docs") else { return false };
    let of_pictures = below.parent().is_some_and(|p| p == Path::new("pictures"));
    match below.extension().and_then(|end| end.to_str()) {
        Some("md") => below.parent() == Some(Path::new("")),
        Some("svg") => of_pictures,
        _ => false,
    }
}

#[test]
fn the_package_has_the_pages_and_their_pictures() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for (from, to) in [("docs/*.md", ""), ("docs/pictures/*.svg", "pictures/")] {
        let asset = format!("[\"{from}\", \"usr/share/doc/roundsman/{to}\", \"644\"]");
        assert!(manifest.contains(&asset), "Cargo.toml has no asset {asset}");
    }
    assert!(is_shipped(Path::new("docs/sessions.md")));
    assert!(!is_shipped(Path::new("docs/internals/architecture.md")));
}

/// What a message, a unit or a manual page points at is where it says, on a machine that has the
/// package alone.
#[test]
fn messages_name_pages_that_are_there() {
    const AT: &str = "/usr/share/doc/roundsman/";
    let mut count = 0;
    let mut faults = Vec::new();
    let mut files = below(&root().join("src"), "rs");
    for (folder, ending) in [
        ("systemd", "service"),
        ("systemd", "socket"),
        ("docs/man", "end"),
        ("docs/man", "start"),
        ("packaging", "catalog"),
    ] {
        files.extend(below(&root().join(folder), ending));
    }
    for file in files {
        let of_source = file.extension().is_some_and(|end| end == "rs");
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let comment = of_source && line.trim_start().starts_with("//");
            let line = line.replace("\\-", "-");
            for rest in line.split(AT).skip(1) {
                let name: String = rest
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || ".-/".contains(*c))
                    .collect();
                let name = name.trim_end_matches('.');
                count += 1;
                if !is_shipped(&Path::new("docs").join(name))
                    || !root().join("docs").join(name).exists()
                {
                    faults.push(format!("{}:{}: {AT}{name}", file.display(), number + 1));
                }
            }
            let includes =
                line.contains("include_str!") || line.contains("concat!") || line.contains("join(");
            if !comment && !includes && line.contains("docs/") && line.contains(".md") {
                faults.push(format!(
                    "{}:{}: nobody has docs/ there: {line}",
                    file.display(),
                    number + 1
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 0, "no message names a page");
}
