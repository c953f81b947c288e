//! What `roundsman start` finds out by itself: which program runs a file, where the app's
//! directory is, what the app is called.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::command::{self, Plain};
use super::error::InferError;
use super::meant::meant;
use super::python;
use crate::base::file::{self, Links};
use crate::base::program::{self, SERVICE_PATH};

/// What is started, as far as it is known from the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where it runs. Not resolved: a link to a release must stay a link.
    pub directory: PathBuf,
    /// `listen`, where "auto" would not do.
    pub listen: Option<&'static str>,
    /// A name for the app.
    pub name: Option<String>,
    /// Variables that the command has before it.
    pub environment: Vec<(String, String)>,
    /// Scripts that npm would run, too ([`Plain::left_out`]).
    pub left_out: Vec<String>,
}

// === impl Found ===

impl Found {
    /// Every path that says what runs, or is run: the directory, its `package.json`, and the files
    /// that the command names. Who could have made one of them has a hand in what runs.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.directory.clone()];
        // An option may name a file, too: `--import=./telemetry.js`.
        let words = self.command.iter().map(|word| word.rsplit_once('=').map_or(&**word, |w| w.1));
        for word in ["package.json"].into_iter().chain(words) {
            let path = self.directory.join(word);
            if fs::symlink_metadata(&path).is_ok() && !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    }
}

/// What runs a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runtime {
    Node,
    TypeScript,
    Python,
    Itself,
}

/// Finds out what a file or directory means. `path` must be absolute.
///
/// # Errors
/// When it is not clear, with what to write instead.
pub(crate) fn find(path: &Path) -> Result<Found, InferError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(InferError::NotThere(path.to_owned(), meant(path)));
        }
        Err(error) => return Err(InferError::Unreadable(path.to_owned(), error)),
    };
    if metadata.is_dir() { of_directory(path) } else { of_file(path, &metadata) }
}

fn of_file(file: &Path, metadata: &fs::Metadata) -> Result<Found, InferError> {
    let runtime = runtime(file, metadata)?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    // Node apps mean paths, and find modules, from where package.json is; but it may be that of
    // something else further up, so only a few levels.
    let is_of_it = |folder: &&Path| is_of(&folder.join("package.json"), file);
    let root = folder.ancestors().take(3).find(is_of_it);
    let directory = match (runtime, root) {
        (Runtime::Node | Runtime::TypeScript, Some(root)) if root != Path::new("/") => root,
        _ => folder,
    };
    let relative = file.strip_prefix(directory).unwrap_or(file).display().to_string();
    let (command, listen) = match runtime {
        Runtime::Node => (vec!["node".to_owned(), relative], None),
        Runtime::TypeScript => {
            (["node", "--import", "tsx", &*relative].map(str::to_owned).into(), None)
        }
        Runtime::Python => python::command(directory, &relative)?,
        // A program that was not written for LISTEN_FDS binds the port that it is told.
        Runtime::Itself => (vec![file.display().to_string()], Some("port")),
    };
    let name = match package(directory)? {
        Some(package) if matches!(runtime, Runtime::Node | Runtime::TypeScript) => {
            package_name(&package)
        }
        _ => None,
    };
    Ok(Found {
        command,
        directory: directory.to_owned(),
        listen,
        name: name.or_else(|| folder_name(directory)).or_else(|| stem(file)),
        environment: Vec::new(),
        left_out: Vec::new(),
    })
}

/// Whether there is such a package.json, and it is root's or of whose the file is: above the app's
/// folder may be one where everybody can put things, and nobody else chooses the app's name.
fn is_of(package: &Path, file: &Path) -> bool {
    let owner = |path: &Path| {
        Some([fs::symlink_metadata(path).ok()?.uid(), fs::metadata(path).ok()?.uid()])
    };
    let (Some(theirs), Some(of_file)) = (owner(package), owner(file)) else { return false };
    package.is_file()
        && (package.parent() == file.parent()
            || theirs.iter().all(|uid| *uid == 0 || of_file.contains(uid)))
}

/// Whether a file is a list of apps for PM2, by its name.
pub(crate) fn is_ecosystem(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    match ending {
        "json" | "yaml" | "yml" => !matches!(name, "package.json" | "package-lock.json"),
        "js" | "cjs" | "mjs" => {
            name.starts_with("ecosystem.") || name.trim_end_matches(ending).ends_with(".config.")
        }
        _ => false,
    }
}

fn of_directory(directory: &Path) -> Result<Found, InferError> {
    let package = package(directory)?;
    let package_name = package.as_ref().and_then(package_name);
    let found = |plain: Plain, name: Option<String>| Found {
        command: plain.command,
        directory: directory.to_owned(),
        listen: plain.listen,
        name: name.or_else(|| folder_name(directory)),
        environment: plain.environment,
        left_out: plain.left_out,
    };
    let node = |file: &str| Plain {
        command: vec!["node".to_owned(), file.to_owned()],
        ..Plain::default()
    };
    let mut unclear = InferError::UnknownDirectory(directory.to_owned());
    if package.as_ref().is_some_and(|package| package.pointer("/scripts/start").is_some()) {
        match command::plain(&["npm", "start"].map(str::to_owned), directory, true) {
            Ok(plain) if plain.is_known() => return Ok(found(plain, package_name)),
            Ok(_) => {}
            Err(error) => unclear = error,
        }
    }
    let main = package.as_ref().and_then(|package| package.get("main")?.as_str());
    if let Some(main) = main.filter(|main| directory.join(main).is_file()) {
        return Ok(found(node(main), package_name));
    }
    for file in ["server.js", "index.js", "app.js", "server.mjs", "index.mjs"] {
        if directory.join(file).is_file() {
            return Ok(found(node(file), package_name));
        }
    }
    if let Some(plain) = command::procfile(directory)? {
        return Ok(found(plain, package_name));
    }
    for file in ["main.py", "app.py"] {
        if directory.join(file).is_file() {
            let (command, listen) = python::command(directory, file)?;
            return Ok(found(Plain { command, listen, ..Plain::default() }, None));
        }
    }
    Err(unclear)
}

fn runtime(path: &Path, metadata: &fs::Metadata) -> Result<Runtime, InferError> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("js" | "mjs" | "cjs") => return Ok(Runtime::Node),
        Some("py") => return Ok(Runtime::Python),
        Some("ts" | "mts" | "cts" | "tsx") => {
            let folders = path.ancestors().skip(1).take(3);
            if folders.into_iter().any(|folder| folder.join("node_modules/tsx").exists()) {
                return Ok(Runtime::TypeScript);
            }
            return Err(InferError::TypeScript(path.to_owned()));
        }
        _ => {}
    }
    let mut head = Vec::new();
    // Whoever made the folder may have put anything there: nothing blocks, and little is read.
    file::open(path, Links::Follow)
        .and_then(|open| open.take(128).read_to_end(&mut head))
        .map_err(|error| InferError::Unreadable(path.to_owned(), error))?;
    let first =
        String::from_utf8_lossy(head.split(|byte| *byte == b'\n').next().unwrap_or_default())
            .into_owned();
    if let Some(interpreter) = first.strip_prefix("#!") {
        // Under Node's own name it gets a channel, and needs no port of its own.
        if interpreter.split(['/', ' ']).any(|word| word == "node") {
            return Ok(Runtime::Node);
        }
        if let Some(missing) = missing_interpreter(interpreter) {
            return Err(InferError::NoInterpreter(path.to_owned(), missing.to_owned()));
        }
    }
    if metadata.permissions().mode() & 0o111 != 0 {
        return Ok(Runtime::Itself);
    }
    Err(InferError::UnknownFile(path.to_owned()))
}

/// What a script's first line names, where it is not there.
fn missing_interpreter(line: &str) -> Option<&str> {
    let mut words = line.split_ascii_whitespace();
    let first = words.next()?;
    if !Path::new(first).ends_with("env") {
        return (!Path::new(first).exists()).then_some(first);
    }
    let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    program::find(name, SERVICE_PATH).is_none().then_some(name)
}

/// The most that is read of a package.json.
const MOST: u64 = 4 * 1024 * 1024;

fn package(directory: &Path) -> Result<Option<Value>, InferError> {
    let path = directory.join("package.json");
    match file::read(&path, Links::Follow, MOST) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| InferError::BadPackage(path, error)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Err(InferError::Unreadable(path, error))
        }
        Err(_) => Ok(None),
    }
}

fn package_name(package: &Value) -> Option<String> {
    app_name(package.get("name")?.as_str()?)
}

fn folder_name(directory: &Path) -> Option<String> {
    let name = directory.file_name()?.to_str()?;
    // `/srv/shop/current` and `/srv/shop/releases/42` are the app "shop".
    let parent = directory.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    match (name, parent) {
        ("current" | "app" | "src" | "dist", Some(parent)) => app_name(parent),
        _ => app_name(name),
    }
}

fn stem(file: &Path) -> Option<String> {
    app_name(file.file_stem()?.to_str()?)
}

/// A name for an app from any other name: `@acme/My Shop` is `my-shop`.
pub(crate) fn app_name(name: &str) -> Option<String> {
    let name = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' })
        .collect();
    let mut name = name.trim_matches('-').to_owned();
    name.truncate(64);
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(name);
        for (file, text) in files {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        (root, folder)
    }

    fn command(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_node_file_runs_where_its_package_is() {
        let package = r#"{"name": "@acme/Web Shop"}"#;
        let (_root, folder) = folder("x", &[("package.json", package), ("dist/server.js", "")]);
        let found = find(&folder.join("dist/server.js")).unwrap();
        assert_eq!(found.command, command(&["node", "dist/server.js"]));
        assert_eq!(found.directory, folder);
        assert_eq!(found.name.as_deref(), Some("web-shop"));
        assert_eq!(found.listen, None);
    }

    #[test]
    fn a_list_of_apps_is_known_by_its_name() {
        for (name, is_list) in [
            ("ecosystem.config.js", true),
            ("ecosystem.json", true),
            ("pm2.config.cjs", true),
            ("shop.config.mjs", true),
            ("process.json", true),
            ("apps.yml", true),
            ("process.js", false),
            ("package.json", false),
            ("config.js", false),
            ("server.py", false),
        ] {
            assert_eq!(is_ecosystem(Path::new(name)), is_list, "{name}");
        }
    }

    #[test]
    fn a_package_of_another_user_above_the_folder_chooses_nothing() {
        let package = r#"{"name": "theirs"}"#;
        let (_root, folder) = folder("up", &[("package.json", package), ("good/server.js", "")]);
        let file = folder.join("good/server.js");
        assert_eq!(find(&file).unwrap().name.as_deref(), Some("theirs"), "one's own");
        if !rustix::process::geteuid().is_root() {
            return;
        }
        std::os::unix::fs::chown(folder.join("package.json"), Some(4000), None).unwrap();
        let found = find(&file).unwrap();
        assert_eq!((found.directory, found.name.as_deref()), (folder.join("good"), Some("good")));
    }

    #[test]
    fn what_has_a_hand_in_what_runs_is_named() {
        let files = [("package.json", "{}"), ("dist/server.js", ""), ("pre.js", "")];
        let (_root, folder) = folder("shop", &files);
        let mut found = find(&folder.join("dist/server.js")).unwrap();
        found.command.insert(1, "--import=./pre.js".to_owned());
        let expected = ["", "package.json", "./pre.js", "dist/server.js"];
        let expected: Vec<PathBuf> = expected.map(|path| folder.join(path)).into();
        assert_eq!(found.paths(), expected);
    }

    #[test]
    fn a_program_is_not_called_after_a_package() {
        let package = r#"{"name": "theirs"}"#;
        let (_root, folder) = folder("mine", &[("package.json", package), ("main.py", "")]);
        assert_eq!(find(&folder.join("main.py")).unwrap().name.as_deref(), Some("mine"));
    }

    #[test]
    fn a_file_without_a_package_is_called_after_its_folder() {
        let (_root, folder) = folder("shop/current", &[("server.mjs", "")]);
        let found = find(&folder.join("server.mjs")).unwrap();
        assert_eq!((found.directory, found.name.as_deref()), (folder, Some("shop")));
    }

    #[test]
    fn a_directory_says_what_to_start_in_its_package() {
        for (package, expected) in [
            (
                r#"{"scripts": {"start": "node --max-old-space-size=512 srv.js"}}"#,
                command(&["node", "--max-old-space-size=512", "srv.js"]),
            ),
            (
                r#"{"main": "srv.js", "scripts": {"start": "NODE_ENV=x node srv.js"}}"#,
                command(&["node", "srv.js"]),
            ),
            (
                r#"{"main": "srv.js", "scripts": {"start": "npm run build && node x.js"}}"#,
                command(&["node", "srv.js"]),
            ),
            (r#"{"main": "gone.js"}"#, command(&["node", "index.js"])),
            (
                r#"{"main": "srv.js", "scripts": {"start": "./unknown"}}"#,
                command(&["node", "srv.js"]),
            ),
        ] {
            let files = [("package.json", package), ("srv.js", ""), ("index.js", "")];
            let (_root, folder) = folder("shop", &files);
            assert_eq!(find(&folder).unwrap().command, expected, "{package}");
        }
    }

    #[test]
    fn python_and_programs_bind_the_port_they_are_told() {
        let (_root, folder) = folder(
            "api",
            &[("main.py", ""), ("serve", "#!/bin/sh\n"), ("tool", "#!/usr/bin/env node\n")],
        );
        fs::set_permissions(folder.join("serve"), fs::Permissions::from_mode(0o755)).unwrap();
        let python = find(&folder).unwrap();
        assert_eq!(
            (python.command, python.listen),
            (command(&["python3", "main.py"]), Some("port"))
        );
        let file = find(&folder.join("main.py")).unwrap();
        assert_eq!((file.command, file.listen), (command(&["python3", "main.py"]), Some("port")));
        for (line, words, listen) in [
            ("gunicorn main:app", command(&["gunicorn", "main:app"]), "fd"),
            ("./serve --x", command(&["./serve", "--x"]), "port"),
            ("./serve -p $PORT", command(&["sh", "-c", "exec ./serve -p $PORT"]), "port"),
        ] {
            fs::write(folder.join("Procfile"), format!("web: {line}\n")).unwrap();
            let web = find(&folder).unwrap();
            assert_eq!((web.command, web.listen), (words, Some(listen)));
        }
        let program = find(&folder.join("serve")).unwrap();
        assert_eq!(program.command, [folder.join("serve").display().to_string()]);
        assert_eq!(find(&folder.join("tool")).unwrap().command, command(&["node", "tool"]));
    }

    #[test]
    fn what_is_not_clear_says_what_to_write() {
        let (_root, folder) =
            folder("x", &[("notes.txt", "hello"), ("a.ts", ""), ("y/package.json", "{")]);
        for (path, part) in [
            ("notes.txt", "-- COMMAND"),
            ("a.ts", "npm install tsx"),
            ("no", "there is no file"),
            ("", "it is not clear what to start"),
            ("notes.txt/x", "Not a directory"),
            ("y", "not valid JSON"),
        ] {
            let error = find(&folder.join(path)).unwrap_err().to_string();
            assert!(error.contains(part), "{path}: {error}");
        }
    }

    #[test]
    fn a_start_script_that_needs_a_shell_says_so_where_nothing_else_is_clear() {
        let package = r#"{"scripts": {"start": "npm run build && node dist/x.js"}}"#;
        let (_root, folder) = folder("x", &[("package.json", package)]);
        let error = find(&folder).unwrap_err().to_string();
        assert!(error.contains("-- node dist/x.js"), "{error}");
    }

    #[test]
    fn typescript_runs_where_something_runs_it() {
        let (_root, folder) =
            folder("shop", &[("package.json", "{}"), ("src/a.ts", ""), ("node_modules/tsx/x", "")]);
        let found = find(&folder.join("src/a.ts")).unwrap();
        assert_eq!(found.command, command(&["node", "--import", "tsx", "src/a.ts"]));
        assert_eq!(found.directory, folder);
    }

    #[test]
    fn names_are_made_fit() {
        for (name, expected) in [
            ("@a/b", Some("b")),
            ("My App!", Some("my-app")),
            ("--", None),
            ("ä", None),
            ("a_1", Some("a_1")),
        ] {
            assert_eq!(app_name(name).as_deref(), expected, "{name}");
        }
    }
}
