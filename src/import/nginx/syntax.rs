//! nginx's configuration as a tree of directives, with includes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::ImportError;
use crate::base::file::{Links, read as read_file};
use crate::base::origin::{self, Maker};
use crate::base::rights::Rights;

/// One directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    /// What is in its braces.
    pub(super) block: Vec<Directive>,
    /// `nginx.conf:12`.
    pub(super) at: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Open,
    Close,
    End,
}

/// How deep files may include each other.
const DEEPEST: usize = 16;

/// How many files may be included in all: those that include each other twice double with each level.
const MOST_FILES: usize = 1000;

/// How deep blocks may be in each other. nginx has no use for more than six or so, and what goes
/// through them does so by recursion.
const DEEPEST_BLOCK: usize = 64;

/// What is relative in a file, or in one that it includes, is relative to the main file's directory.
pub(super) fn prefix(path: &Path) -> &Path {
    let is_directory = path.is_dir();
    match path.parent() {
        Some(parent) if is_directory => parent,
        // `nginx.conf`, or a site of `sites-enabled`.
        Some(parent) if parent.join("nginx.conf").exists() => parent,
        Some(parent) => {
            parent.parent().filter(|up| up.join("nginx.conf").exists()).unwrap_or(parent)
        }
        None => Path::new("/etc/nginx"),
    }
}

/// Reads a file, or all files of a directory, with all that they include.
pub(super) fn read(path: &Path) -> Result<Vec<Directive>, ImportError> {
    let prefix = prefix(path);
    if !path.is_dir() {
        return file(path, &mut Files { prefix, left: MOST_FILES }, 0);
    }
    let mut all = Vec::new();
    let mut files = Files { prefix, left: MOST_FILES };
    for path in listed(path, "*")? {
        if path.is_file() {
            all.extend(file(&path, &mut files, 0)?);
        }
    }
    Ok(all)
}

/// The most that is read of one file.
const MOST: u64 = 4 * 1024 * 1024;

/// The files that are read.
struct Files<'a> {
    /// What is relative is relative to this.
    prefix: &'a Path,
    /// How many more may be read.
    left: usize,
}

fn file(path: &Path, files: &mut Files<'_>, depth: usize) -> Result<Vec<Directive>, ImportError> {
    let at = path.display().to_string();
    let failed = |problem: String| ImportError { at: at.clone(), problem };
    if depth > DEEPEST || files.left == 0 {
        return Err(failed("files include each other without end".to_owned()));
    }
    files.left -= 1;
    let unread = |error: io::Error| failed(format!("cannot read it: {error}"));
    let mut work = || {
        let text = read_file(path, Links::Follow, MOST).map_err(unread)?;
        let text = String::from_utf8_lossy(&text);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut directives = parse(&text, &name)?;
        include(&mut directives, files, depth)?;
        Ok(directives)
    };
    match rights(path).map_err(failed)? {
        Some(rights) => rights.with(work).map_err(unread)?,
        None => work(),
    }
}

/// With whose rights root reads a file, and all that this includes: those of who could have made it,
/// who would else be told by us what only root may read.
fn rights(path: &Path) -> Result<Option<Rights>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let unread = |error: io::Error| format!("cannot read it: {error}");
    match origin::of(path).map_err(unread)?.only() {
        Ok(Maker::Root) => Ok(None),
        Ok(Maker::User(uid)) => Rights::of_owner(uid).map(Some).map_err(unread),
        Err(reason) => Err(format!(
            "root does not read it, since it cannot be told whose it is: {reason}. Look it through, and \
             import a copy below /root"
        )),
    }
}

/// Puts the contents of included files in place of the `include`s.
fn include(
    directives: &mut Vec<Directive>,
    files: &mut Files<'_>,
    depth: usize,
) -> Result<(), ImportError> {
    let mut all = Vec::with_capacity(directives.len());
    for mut directive in directives.drain(..) {
        match (directive.name.as_str(), directive.arguments.first()) {
            // Tables of content types; nothing of it concerns us.
            ("include", Some(what)) if !what.ends_with("mime.types") => {
                let pattern = files.prefix.join(what);
                if pattern.to_string_lossy().contains(['*', '?']) {
                    for path in expanded(&pattern)? {
                        if path.is_file() {
                            all.extend(file(&path, files, depth + 1)?);
                        }
                    }
                } else if pattern.exists() {
                    all.extend(file(&pattern, files, depth + 1)?);
                } else {
                    all.push(directive); // to be told that it is not there
                }
            }
            _ => {
                include(&mut directive.block, files, depth)?;
                all.push(directive);
            }
        }
    }
    *directives = all;
    Ok(())
}

/// The paths that match one with stars in any of its parts, in order. As in nginx, none is fine.
fn expanded(pattern: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let name = part.as_os_str().to_string_lossy();
        if !name.contains(['*', '?']) {
            for path in &mut found {
                path.push(part);
            }
            continue;
        }
        let mut next = Vec::new();
        for folder in found.iter().filter(|folder| folder.is_dir()) {
            next.extend(listed(folder, &name)?);
        }
        found = next;
    }
    Ok(found)
}

/// The files of a directory that match a name with stars, in order.
fn listed(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, ImportError> {
    let failed = |error: std::io::Error| ImportError {
        at: directory.display().to_string(),
        problem: format!("cannot read it: {error}"),
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && matches(pattern, &name) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.chars().next() {
        None => name.is_empty(),
        Some('*') => (0..=name.len())
            .filter(|i| name.is_char_boundary(*i))
            .any(|i| matches(&pattern[1..], &name[i..])),
        Some(c) => name
            .chars()
            .next()
            .filter(|first| c == '?' || *first == c)
            .is_some_and(|first| matches(&pattern[c.len_utf8()..], &name[first.len_utf8()..])),
    }
}

/// Parses the text of one file.
pub(super) fn parse(text: &str, file: &str) -> Result<Vec<Directive>, ImportError> {
    let tokens = tokens(text, file)?;
    let mut stack: Vec<Directive> = Vec::new();
    let mut top: Vec<Directive> = Vec::new();
    let mut words: Vec<(String, usize)> = Vec::new();
    let mut last = 1;
    for (token, line) in tokens {
        last = line;
        let error = |problem: &str| ImportError {
            at: format!("{file}:{line}"),
            problem: problem.to_owned(),
        };
        match token {
            Token::Word(word) => words.push((word, line)),
            Token::Open | Token::End => {
                let opens = token == Token::Open;
                let mut words = words.drain(..);
                let Some((name, line)) = words.next() else {
                    return Err(error("there is no directive before this"));
                };
                let arguments = words.map(|(word, _)| word).collect();
                let directive =
                    Directive { name, arguments, block: Vec::new(), at: format!("{file}:{line}") };
                if opens && stack.len() == DEEPEST_BLOCK {
                    return Err(error("blocks are too deep in each other"));
                }
                if opens {
                    stack.push(directive);
                } else {
                    stack.last_mut().map_or(&mut top, |parent| &mut parent.block).push(directive);
                }
            }
            Token::Close => {
                if !words.is_empty() {
                    return Err(error("there is no ; before this }"));
                }
                let Some(done) = stack.pop() else {
                    return Err(error("there is no { for this }"));
                };
                stack.last_mut().map_or(&mut top, |parent| &mut parent.block).push(done);
            }
        }
    }
    if let Some(open) = stack.last() {
        return Err(ImportError {
            at: open.at.clone(),
            problem: "there is no } for its {".to_owned(),
        });
    }
    if !words.is_empty() {
        return Err(ImportError {
            at: format!("{file}:{last}"),
            problem: "there is no ; at the end".to_owned(),
        });
    }
    Ok(top)
}

fn tokens(text: &str, file: &str) -> Result<Vec<(Token, usize)>, ImportError> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    let mut line = 1;
    while let Some(c) = chars.next() {
        match c {
            '\n' => line += 1,
            c if c.is_whitespace() => {}
            '#' => {
                while chars.peek().is_some_and(|c| *c != '\n') {
                    chars.next();
                }
            }
            '{' => tokens.push((Token::Open, line)),
            '}' => tokens.push((Token::Close, line)),
            ';' => tokens.push((Token::End, line)),
            '"' | '\'' => {
                let start = line;
                let mut word = String::new();
                loop {
                    match chars.next() {
                        Some(end) if end == c => break,
                        // A quote or itself; in all else, as in `\.`, it stays.
                        Some('\\') => {
                            let escaped = chars.next();
                            if !matches!(escaped, Some('"' | '\'' | '\\')) {
                                word.push('\\');
                            }
                            line += usize::from(escaped == Some('\n'));
                            word.extend(escaped);
                        }
                        Some(other) => {
                            line += usize::from(other == '\n');
                            word.push(other);
                        }
                        None => {
                            let problem = format!("there is no second {c} for this one");
                            return Err(ImportError { at: format!("{file}:{start}"), problem });
                        }
                    }
                }
                tokens.push((Token::Word(word), start));
            }
            first => {
                let mut word = String::from(first);
                while let Some(next) = chars.peek().copied() {
                    // `${name}` has braces that open no block.
                    let variable = next == '{' && word.ends_with('$')
                        || next == '}'
                            && word.rfind("${").is_some_and(|at| !word[at..].contains('}'));
                    if !variable && (next.is_whitespace() || matches!(next, '{' | '}' | ';')) {
                        break;
                    }
                    word.push(next);
                    chars.next();
                }
                tokens.push((Token::Word(word), line));
            }
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_includes_what_its_owner_may_read() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        // Not right below /tmp, where somebody's nginx.conf would be taken for the main file.
        let at = |name: &str| root.path().join("sites").join(name);
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(at("")).unwrap();
        fs::write(at("secret.conf"), "key hunter2;").unwrap();
        fs::set_permissions(at("secret.conf"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(at("theirs.conf"), "include secret.conf;").unwrap();
        fs::write(at("main.conf"), "include theirs.conf;").unwrap();
        assert_eq!(read(&at("main.conf")).unwrap().len(), 1, "all of it is root's");
        chown(at("theirs.conf"), Some(4000), None).unwrap();
        for name in ["theirs.conf", "main.conf"] {
            let error = read(&at(name)).unwrap_err();
            assert!(error.problem.contains("ermission denied"), "{name}: {error:?}");
        }
        fs::set_permissions(at("theirs.conf"), fs::Permissions::from_mode(0o666)).unwrap();
        let error = read(&at("theirs.conf")).unwrap_err();
        assert!(error.problem.contains("everybody may write to"), "{error:?}");
    }

    #[test]
    fn words_quotes_blocks_and_comments() {
        let text = "a 1 \"x; y\" 'it\\'s' '\\.php$'; # end\nserver { listen 80; return 301 https://${host}$uri; }\n";
        let tree = parse(text, "f").unwrap();
        assert_eq!(tree[0].arguments, ["1", "x; y", "it's", "\\.php$"]);
        assert_eq!(tree[1].block[1].arguments, ["301", "https://${host}$uri"]);
        assert_eq!(tree[1].block[0].at, "f:2");
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, at) in [
            ("a", "f:1"),
            ("a {\n b;\n", "f:1"),
            ("a;\n}", "f:2"),
            ("\n\"x", "f:2"),
            (";", "f:1"),
            ("a { b }", "f:1"),
            ("a \"b", "f:1"),
            (&format!("{}\na {{", "a {\n".repeat(DEEPEST_BLOCK)), "f:66"),
        ] {
            assert_eq!(parse(text, "f").unwrap_err().at, at, "{text}");
        }
    }

    /// Whatever goes through blocks does so by recursion, and a stack has an end.
    #[test]
    fn blocks_are_only_so_deep() {
        let nested = |depth: usize| "a { ".repeat(depth) + &"} ".repeat(depth);
        assert_eq!(parse(&nested(DEEPEST_BLOCK), "f").unwrap().len(), 1);
        let error = parse(&nested(1_000_000), "f").unwrap_err();
        assert_eq!(error.to_string(), "f:1: blocks are too deep in each other");
    }

    #[test]
    fn files_that_include_each_other_come_to_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("nginx.conf"), "include nginx.conf;").unwrap();
        fs::write(at("a"), "include ab*; include ab*;").unwrap();
        for name in ["ab1", "ab2"] {
            fs::write(at(name), "include ab*;").unwrap();
        }
        for name in ["nginx.conf", "a"] {
            let error = read(&at(name)).unwrap_err();
            assert_eq!(error.problem, "files include each other without end", "{name}");
        }
        // Twice as many with each level, and no circle.
        for level in 0..15 {
            let next = level + 1;
            fs::write(at(&format!("l{level}")), format!("include l{next}; include l{next};"))
                .unwrap();
        }
        fs::write(at("l15"), "x;").unwrap();
        let error = read(&at("l0")).unwrap_err();
        assert_eq!(error.problem, "files include each other without end");
        fs::write(at("one"), "include l15; include none; include *.none;").unwrap();
        let names: Vec<String> = read(&at("one")).unwrap().into_iter().map(|d| d.name).collect();
        assert_eq!(names, ["x", "include"], "what is not there is told");
    }

    #[test]
    fn what_is_included_is_relative_to_the_main_file() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for folder in ["etc/sites-available", "alone"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["etc/nginx.conf", "etc/sites-available/a", "alone/a"] {
            fs::write(at(file), "").unwrap();
        }
        for (path, relative_to) in [
            ("etc/nginx.conf", "etc"),
            ("etc/sites-available/a", "etc"),
            ("etc/sites-available", "etc"),
            ("alone/a", "alone"),
        ] {
            assert_eq!(prefix(&at(path)), at(relative_to), "{path}");
        }
        // Types are no business of ours, whether they are there or not.
        fs::write(at("etc/mime.types"), "types {").unwrap();
        fs::write(at("etc/nginx.conf"), "include mime.types;").unwrap();
        assert_eq!(read(&at("etc/nginx.conf")).unwrap()[0].name, "include");
    }

    #[test]
    fn lines_are_counted_within_words_and_braces_are_told_from_variables() {
        let tree = parse("a 'x\ny\\\nz\\\\';\nb ${c}d e${f{g};\n};", "f");
        assert_eq!(tree.unwrap_err().at, "f:4", "the brace of ${{f is open");
        let tree = parse("a 'x\ny\\\nz\\\\';\nb ${c}d e${f}{g;}\nh;", "f").unwrap();
        let places: Vec<_> = tree.iter().map(|d| (d.name.as_str(), d.at.as_str())).collect();
        assert_eq!(places, [("a", "f:1"), ("b", "f:4"), ("h", "f:5")]);
        assert_eq!(tree[1].arguments, ["${c}d", "e${f}"]);
        assert_eq!(tree[0].arguments, ["x\ny\\\nz\\"]);
    }

    #[test]
    fn files_are_included_from_many_folders() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["b", "a"] {
            fs::create_dir_all(at(&format!("sites/{name}"))).unwrap();
            fs::write(at(&format!("sites/{name}/site.conf")), format!("{name};")).unwrap();
        }
        fs::write(at("nginx.conf"), "include sites/*/s?te.conf; include none/*/x; c;").unwrap();
        let names: Vec<String> =
            read(&at("nginx.conf")).unwrap().into_iter().map(|d| d.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[a-z{};\"'#$\\\\\n ]{0,60}") {
            let _ = parse(&text, "f");
        }
    }
}
