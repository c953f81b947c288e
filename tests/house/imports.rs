//! What each file of the sources imports: every path that begins with `crate`, `super`, `self` or the
//! name of a module's own child, wherever it is written.

use std::collections::{BTreeMap, BTreeSet};

/// The files of src, and what each imports.
pub(crate) struct Sources {
    files: BTreeMap<String, File>,
    /// Module path → file.
    modules: BTreeMap<Vec<String>, String>,
}

#[derive(Default)]
struct File {
    module: Vec<String>,
    imports: Vec<Import>,
}

/// A path that a file names.
struct Import {
    /// From the root of the crate.
    path: Vec<String>,
    /// It is a `use` of the file's own module, which makes the last name (or this one) known there.
    known_as: Option<String>,
    /// The `use` is there to hand it on.
    public: bool,
    /// It is in the tests of the file.
    in_tests: bool,
}

impl Sources {
    /// Reads the texts of these files.
    pub(crate) fn new(texts: BTreeMap<String, String>) -> Self {
        let modules: BTreeMap<_, _> =
            texts.keys().map(|name| (module(name), name.clone())).collect();
        let read = |(name, text): (String, String)| {
            let module = module(&name);
            let imports = Reader::new(&text, &module, &modules).read();
            (name, File { module, imports })
        };
        Self { files: texts.into_iter().map(read).collect(), modules }
    }

    /// The room that a file is in: its directory, or itself when it is in none.
    pub(crate) fn room(file: &str) -> &str {
        file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
    }

    /// Each file, and the rooms that it uses. The root of the crate is in none.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = (&str, BTreeSet<String>)> {
        let rooms = |file: &File| {
            let names = file.imports.iter().filter_map(|import| import.path.first());
            let is_room = |name: &&String| self.modules.contains_key(std::slice::from_ref(*name));
            names.filter(is_room).cloned().collect()
        };
        let files = self.files.iter().filter(|(_, file)| !file.module.is_empty());
        files.map(move |(name, file)| (name.as_str(), rooms(file)))
    }

    /// Each file, and the other files that it uses. Its tests may come to it by way of others.
    pub(crate) fn files(&self) -> BTreeMap<String, BTreeSet<String>> {
        let used = |file: &File| {
            let targets = file.imports.iter().filter_map(|import| {
                let (name, target) = self.resolve(&import.path, 8)?;
                let below = target.module.starts_with(&file.module);
                let skipped =
                    target.module == file.module || import.in_tests || import.public && below;
                (!skipped).then(|| name.to_owned())
            });
            targets.collect()
        };
        let files = self.files.iter().filter(|(_, file)| !file.module.is_empty());
        files.map(|(name, file)| (name.clone(), used(file))).collect()
    }

    /// The file that has what a path names, also where another one hands it on.
    fn resolve(&self, path: &[String], depth: u8) -> Option<(&str, &File)> {
        let len = (1..=path.len()).rev().find(|len| self.modules.contains_key(&path[..*len]))?;
        let name = &self.modules[&path[..len]];
        let file = &self.files[name];
        let handed = path.get(len).and_then(|item| {
            let from = file.imports.iter().find(|i| i.known_as.as_ref() == Some(item))?;
            let whole: Vec<_> = from.path.iter().chain(&path[len + 1..]).cloned().collect();
            if depth == 0 { None } else { self.resolve(&whole, depth - 1) }
        });
        handed.or(Some((name, file)))
    }
}

/// The module that a file is.
fn module(name: &str) -> Vec<String> {
    let path = name.trim_end_matches(".rs").trim_end_matches("/mod");
    let is_root = matches!(path, "lib" | "main");
    if is_root { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// Reads one file.
struct Reader<'a> {
    tokens: Vec<String>,
    at: usize,
    file: &'a [String],
    modules: &'a BTreeMap<Vec<String>, String>,
    imports: Vec<Import>,
}

impl<'a> Reader<'a> {
    fn new(text: &str, file: &'a [String], modules: &'a BTreeMap<Vec<String>, String>) -> Self {
        Self { tokens: tokens(text), at: 0, file, modules, imports: Vec::new() }
    }

    fn token(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", String::as_str)
    }

    fn read(mut self) -> Vec<Import> {
        // Modules within the file, each with the depth of braces that it began at.
        let mut within: Vec<(String, usize)> = Vec::new();
        let mut depth = 0;
        let mut using = None;
        while self.at < self.tokens.len() {
            let at = self.at;
            match self.token(at) {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    within.pop_if(|(_, began)| *began == depth);
                }
                "mod" if self.token(at + 2) == "{" => {
                    within.push((self.token(at + 1).to_owned(), depth));
                    self.at += 1;
                }
                "use" => {
                    let public = at > 0 && matches!(self.token(at - 1), "pub" | ")");
                    using = Some(public);
                }
                ";" => using = None,
                // Who may see it, and no import.
                "in" if at > 1 && self.token(at - 2) == "pub" => {
                    let end = self.tokens[at..].iter().position(|token| token == ")");
                    self.at += end.unwrap_or(0);
                    continue;
                }
                first if self.token(at + 1) == "::" && (at == 0 || self.token(at - 1) != "::") => {
                    let mut base = self.file.to_vec();
                    base.extend(within.iter().map(|(name, _)| name.clone()));
                    let child: Vec<_> =
                        self.file.iter().cloned().chain([first.to_owned()]).collect();
                    match first {
                        "crate" => base.clear(),
                        "super" => drop(base.pop()),
                        "self" => {}
                        _ if within.is_empty() && self.modules.contains_key(&child) => {
                            base.push(first.to_owned());
                        }
                        _ => {
                            self.at += 1;
                            continue;
                        }
                    }
                    self.at += 2;
                    let own = within.is_empty();
                    let from = self.imports.len();
                    self.tree(base, using.filter(|_| own));
                    let in_tests = within.iter().any(|(name, _)| name == "tests");
                    self.imports[from..].iter_mut().for_each(|import| import.in_tests = in_tests);
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
        self.imports
    }

    /// Reads what comes after `base::`. `using` is whether the `use` hands it on, if it is one of
    /// the file's own module.
    fn tree(&mut self, mut base: Vec<String>, using: Option<bool>) {
        loop {
            let token = self.token(self.at).to_owned();
            self.at += 1;
            match token.as_str() {
                "{" => {
                    while self.at < self.tokens.len() && self.token(self.at) != "}" {
                        if self.token(self.at) == "," {
                            self.at += 1;
                        } else {
                            self.tree(base.clone(), using);
                        }
                    }
                    self.at += 1;
                    return;
                }
                "super" => drop(base.pop()),
                "self" | "*" => {}
                _ => base.push(token.clone()),
            }
            if self.token(self.at) != "::" {
                let mut known_as = base.last().filter(|_| token != "*").cloned();
                if self.token(self.at) == "as" {
                    known_as = Some(self.token(self.at + 1).to_owned());
                    self.at += 2;
                }
                let known_as = known_as.filter(|_| using.is_some());
                let public = using == Some(true);
                self.imports.push(Import { path: base, known_as, public, in_tests: false });
                return;
            }
            self.at += 1;
        }
    }
}

/// Words and what stands between them, without comments and what is in quotation marks.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let is = |at: usize, wanted: char| chars.get(at) == Some(&wanted);
    let is_word = |at: usize| chars.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_');
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if is(at, '/') && is(at + 1, '/') {
            at += chars[at..].iter().position(|c| *c == '\n').unwrap_or(chars.len() - at);
        } else if is(at, '/') && is(at + 1, '*') {
            at += 2;
            while at < chars.len() && !(is(at, '*') && is(at + 1, '/')) {
                at += 1;
            }
            at += 2;
        } else if is(at, '"') {
            at += 1;
            while at < chars.len() && !is(at, '"') {
                at += if is(at, '\\') { 2 } else { 1 };
            }
            at += 1;
        } else if (is(at, 'r') || is(at, 'b')) && is_raw(&chars, at) {
            let open = at + chars[at..].iter().position(|c| *c == '"').unwrap_or(0);
            let marks = chars[at..open].iter().filter(|c| **c == '#').count();
            at = open + 1;
            while at < chars.len() && !(is(at, '"') && (1..=marks).all(|n| is(at + n, '#'))) {
                at += 1;
            }
            at += 1 + marks;
        } else if is(at, '\'') {
            // A character, or a lifetime.
            at += if is(at + 1, '\\') {
                3 + chars[at + 3..].iter().position(|c| *c == '\'').unwrap_or(0) + 1
            } else if is(at + 2, '\'') {
                3
            } else {
                1
            };
        } else if is_word(at) {
            let start = at;
            while is_word(at) {
                at += 1;
            }
            tokens.push(chars[start..at].iter().collect());
        } else if is(at, ':') && is(at + 1, ':') {
            tokens.push("::".to_owned());
            at += 2;
        } else {
            if !chars[at].is_whitespace() {
                tokens.push(chars[at].to_string());
            }
            at += 1;
        }
    }
    tokens
}

/// Whether a raw text begins here: `r"`, `r#"`, `br"`, …
fn is_raw(chars: &[char], at: usize) -> bool {
    let mut rest = chars[at..].iter();
    let first = rest.next();
    let mut next = rest.next();
    if first == Some(&'b') {
        if next != Some(&'r') {
            return false;
        }
        next = rest.next();
    }
    let starts_word = at == 0 || !(chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    while next == Some(&'#') {
        next = rest.next();
    }
    starts_word && next == Some(&'"')
}
