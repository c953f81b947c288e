//! Commands as people type them: with variables before them, through a package manager, by the name of a
//! tool. What comes out is the program that serves, so that it gets the channel and the signals.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::InferError;
use super::servers;
use crate::base::file::{self, Links};
use crate::base::program::{self, base_name};

/// How often a script may lead to another one.
const MOST: u32 = 8;

/// The most that is read of a file.
const LARGEST: u64 = 4 * 1024 * 1024;

/// A command that can be run as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plain {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables that stood before it.
    pub environment: Vec<(String, String)>,
    /// `listen`, where "auto" would not do.
    pub listen: Option<&'static str>,
    /// Scripts that a package manager would run, too, and that are left to whoever builds the app.
    pub left_out: Vec<String>,
}

impl Plain {
    /// Whether it is known how it takes connections.
    pub(super) fn is_known(&self) -> bool {
        let is_node = self.command.first().is_some_and(|word| program::is_node(base_name(word)));
        is_node || self.listen.is_some()
    }
}

/// The web process of a `Procfile`.
///
/// # Errors
/// As for [`plain`].
pub(super) fn procfile(directory: &Path) -> Result<Option<Plain>, InferError> {
    let Ok(text) = file::read_text(&directory.join("Procfile"), Links::Follow, LARGEST) else {
        return Ok(None);
    };
    let Some(line) = text.lines().find_map(|line| line.strip_prefix("web:")) else {
        return Ok(None);
    };
    match simple(line) {
        Some(words) => {
            let mut plain = plain(&words, directory, true)?;
            if !plain.is_known() {
                plain.listen = Some("port");
            }
            Ok(Some(plain))
        }
        // A line with $PORT is for a shell, which then becomes the program.
        None => Ok(Some(Plain {
            command: ["sh", "-c", &format!("exec {}", line.trim())].map(str::to_owned).into(),
            listen: Some("port"),
            ..Plain::default()
        })),
    }
}

/// What the words come to, in this directory; a server that takes options for that is told where it listens.
///
/// # Errors
/// When they lead to a script that needs a shell, or to none.
pub(crate) fn plain(words: &[String], directory: &Path, tells: bool) -> Result<Plain, InferError> {
    let mut plain = Plain { command: words.to_vec(), ..Plain::default() };
    for _ in 0..MOST {
        variables(&mut plain);
        let Some(next) = step(&plain.command, directory, &mut plain.left_out)? else { break };
        plain.command = next;
    }
    plain.listen = if tells { listen(&mut plain.command, directory) } else { None };
    Ok(plain)
}

/// Takes the variables from before the command.
fn variables(plain: &mut Plain) {
    let mut words = plain.command.iter().peekable();
    if words.peek().is_some_and(|word| {
        matches!(base_name(word), "env" | "cross-env" | "cross-env-shell")
            && plain.command.get(1).is_some_and(|next| !next.starts_with('-'))
    }) {
        words.next();
    }
    let mut environment = Vec::new();
    while let Some((name, value)) = words.peek().and_then(|word| variable(word)) {
        environment.push((name.to_owned(), value.to_owned()));
        words.next();
    }
    let rest: Vec<String> = words.cloned().collect();
    if !rest.is_empty() {
        plain.environment.extend(environment);
        plain.command = rest;
    }
}

/// `NAME=value`.
fn variable(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (first && is_name).then_some((name, value))
}

/// One step from a command to the one that it leads to; `None` when it is the one that serves.
fn step(
    command: &[String],
    directory: &Path,
    left_out: &mut Vec<String>,
) -> Result<Option<Vec<String>>, InferError> {
    let Some((program, arguments)) = command.split_first() else { return Ok(None) };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let to = |words: Vec<String>| Ok(Some(words));
    match (base_name(program), &*arguments) {
        ("npm" | "pnpm" | "yarn", ["run" | "run-script", script, rest @ ..]) => {
            script_of(directory, script, rest, left_out).and_then(to)
        }
        // It runs files by the same words.
        ("bun", ["run", script, rest @ ..] | [script, rest @ ..])
            if has_script(directory, script) =>
        {
            script_of(directory, script, rest, left_out).and_then(to)
        }
        ("npm" | "pnpm" | "yarn", ["start", rest @ ..]) => {
            script_of(directory, "start", rest, left_out).and_then(to)
        }
        ("npm", ["exec", "--", tool, rest @ ..])
        | ("npx" | "bunx", [tool, rest @ ..])
        | ("pnpm" | "yarn" | "npm", ["exec", tool, rest @ ..])
            if !tool.starts_with('-') =>
        {
            match bin(directory, tool) {
                Some(_) => to(words(&[*tool], rest)),
                None => Err(InferError::NoTool((*tool).to_owned(), directory.to_owned())),
            }
        }
        ("yarn" | "pnpm", [script, rest @ ..]) if !script.starts_with('-') => {
            script_of(directory, script, rest, left_out).and_then(to)
        }
        ("yarn" | "pnpm", []) => script_of(directory, "start", &[], left_out).and_then(to),
        // What npm has put there is one of the tools below, or a file of Node's.
        ("node", [file, rest @ ..]) if is_bin(file) && is_launcher(base_name(file)) => {
            to(words(&[base_name(file)], rest))
        }
        // These start another process that serves; the module in its place does not.
        ("tsx", [file, rest @ ..]) if !file.starts_with('-') && *file != "watch" => {
            to(words(&["node", "--import", "tsx", *file], rest))
        }
        ("ts-node", [file, rest @ ..]) if !file.starts_with('-') => {
            to(words(&["node", "--require", "ts-node/register", *file], rest))
        }
        ("nest", ["start", ..]) => {
            let main = directory.join("dist/main.js");
            if main.is_file() {
                to(words(&["node", "dist/main.js"], &[]))
            } else {
                Err(InferError::NotBuilt(main, "npx nest build"))
            }
        }
        ("nuxt" | "nuxi", ["preview" | "start", ..]) => {
            let main = directory.join(".output/server/index.mjs");
            if main.is_file() {
                to(words(&["node", ".output/server/index.mjs"], &[]))
            } else {
                Err(InferError::NotBuilt(main, "npx nuxt build"))
            }
        }
        ("nodemon" | "pm2" | "pm2-runtime" | "forever", [.., file]) => {
            Err(InferError::Supervisor(program.clone(), (*file).to_owned()))
        }
        (name, rest) if (!program.contains('/') || is_bin(program)) && !program::is_node(name) => {
            // As npm does it: what is in node_modules/.bin has a name within scripts.
            Ok(bin(directory, name).map(|file| node(&file, rest)))
        }
        _ => Ok(None),
    }
}

/// How a program takes connections, where "auto" does not know it; with what it needs for that.
fn listen(command: &mut Vec<String>, directory: &Path) -> Option<&'static str> {
    if let Some(listen) = servers::direct(command, directory) {
        return Some(listen);
    }
    let program = command.first().map(|program| base_name(program))?;
    let is_bound = command.iter().any(|word| word == "-b" || word.starts_with("--bind"));
    match program {
        "gunicorn" if !is_bound => Some("fd"),
        "bun" | "deno" | "php" | "flask" | "ruby" | "bundle" | "java" | "dotnet" => Some("port"),
        _ if program.starts_with("python") => Some("port"),
        _ => None,
    }
}

/// The command of a script in `package.json`, with further arguments.
fn script_of(
    directory: &Path,
    name: &str,
    rest: &[&str],
    left_out: &mut Vec<String>,
) -> Result<Vec<String>, InferError> {
    let path = directory.join("package.json");
    let package = package(&path)?;
    let script =
        package.pointer(&format!("/scripts/{}", name.replace('~', "~0").replace('/', "~1")));
    let Some(script) = script.and_then(Value::as_str) else {
        return Err(InferError::NoScript(path, name.to_owned()));
    };
    let Some(mut command) = simple(script) else {
        return Err(InferError::Shell(path, name.to_owned(), script.to_owned()));
    };
    let around = ["pre", "post"].map(|around| format!("{around}{name}"));
    left_out.extend(around.into_iter().filter(|name| package["scripts"][name].is_string()));
    // npm takes what is before `--` for itself.
    let rest = rest.strip_prefix(&["--"]).unwrap_or(rest);
    command.extend(rest.iter().map(|word| (*word).to_owned()));
    Ok(command)
}

fn package(path: &Path) -> Result<Value, InferError> {
    let text = file::read(path, Links::Follow, LARGEST)
        .map_err(|error| InferError::Unreadable(path.to_owned(), error))?;
    serde_json::from_slice(&text).map_err(|error| InferError::BadPackage(path.to_owned(), error))
}

/// The words of a script, when no shell is needed for it: quotes are all that it knows.
pub(super) fn simple(script: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in script.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('"'), '$' | '`' | '\\') => return None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (
                None,
                '&' | '|' | ';' | '<' | '>' | '(' | ')' | '$' | '`' | '\\' | '*' | '?' | '#' | '~',
            ) => {
                return None;
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (quote.is_none() && !words.is_empty()).then_some(words)
}

fn has_script(directory: &Path, name: &str) -> bool {
    let scripts =
        package(&directory.join("package.json")).map(|package| package["scripts"].clone());
    scripts.is_ok_and(|scripts| scripts[name].is_string()) && !directory.join(name).is_file()
}

/// Whether this is where npm puts tools.
fn is_bin(program: &str) -> bool {
    program.trim_start_matches("./").starts_with("node_modules/.bin/")
}

/// Whether a tool starts another process that serves.
fn is_launcher(tool: &str) -> bool {
    matches!(tool, "tsx" | "ts-node" | "nest" | "nuxt" | "nuxi" | "nodemon" | "cross-env")
}

/// The JavaScript file of a tool in `node_modules`.
fn bin(directory: &Path, tool: &str) -> Option<String> {
    let link = PathBuf::from("node_modules/.bin").join(tool);
    let text = file::read(&directory.join(&link), Links::Follow, LARGEST).ok()?;
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if String::from_utf8_lossy(first).contains("node") {
        return Some(link.display().to_string());
    }
    // pnpm puts a shell script there; the package says which file it is about.
    let package = package(&directory.join("node_modules").join(tool).join("package.json")).ok()?;
    let file = match &package["bin"] {
        Value::String(file) => file.as_str(),
        files => files[tool].as_str()?,
    };
    Some(format!("node_modules/{tool}/{}", file.trim_start_matches("./")))
}

fn node(file: &str, rest: &[&str]) -> Vec<String> {
    words(&["node", file], rest)
}

fn words(first: &[&str], rest: &[&str]) -> Vec<String> {
    first.iter().chain(rest).map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGE: &str = r#"{"scripts": {
        "start": "NODE_ENV=production next start -p 3000",
        "serve": "cross-env A=1 B='x y' node  server.js",
        "again": "npm run serve",
        "loop": "npm run loop",
        "ts": "tsx src/server.ts",
        "both": "npm run build && node server.js",
        "dev": "nodemon server.js",
        "nest": "nest start"
    }}"#;

    fn try_plain(line: &str) -> Result<(String, String, Option<&'static str>), String> {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("package.json", PACKAGE);
        write("node_modules/.bin/next", "#!/usr/bin/env node\n");
        write("node_modules/.bin/tsx", "#!/usr/bin/env node\n");
        write("node_modules/.bin/nodemon", "#!/usr/bin/env node\n");
        write("node_modules/.bin/vite", "#!/bin/sh\nexec node\n");
        write("node_modules/vite/package.json", r#"{"bin": {"vite": "./bin/vite.js"}}"#);
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let plain = plain(&words, directory.path(), true).map_err(|error| error.to_string())?;
        let environment: Vec<String> =
            plain.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Ok((plain.command.join(" "), environment.join(" "), plain.listen))
    }

    #[test]
    fn every_way_to_say_it_comes_to_the_program_that_serves() {
        let next = "node node_modules/.bin/next start -p 3000";
        for (typed, command, environment, listen) in [
            ("node server.js", "node server.js", "", None),
            ("env node server.js", "node server.js", "", None),
            ("env A=1 node server.js", "node server.js", "A=1", None),
            ("NODE_ENV=production node x.js --y=1", "node x.js --y=1", "NODE_ENV=production", None),
            ("node22 server.js", "node22 server.js", "", None),
            ("npm start", next, "NODE_ENV=production", None),
            ("npm run start", next, "NODE_ENV=production", None),
            ("yarn", next, "NODE_ENV=production", None),
            ("yarn start", next, "NODE_ENV=production", None),
            ("pnpm run serve", "node server.js", "A=1 B=x y", None),
            ("yarn again", "node server.js", "A=1 B=x y", None),
            ("npm run serve -- --port 1", "node server.js --port 1", "A=1 B=x y", None),
            ("npx next start", "node node_modules/.bin/next start", "", None),
            ("next start", "node node_modules/.bin/next start", "", None),
            ("npx vite preview", "node node_modules/vite/bin/vite.js preview", "", None),
            ("npm run ts", "node --import tsx src/server.ts", "", None),
            ("uvicorn main:app", "uvicorn --fd 3 main:app", "", Some("fd")),
            ("npx tsx src/server.ts", "node --import tsx src/server.ts", "", None),
            ("node node_modules/.bin/tsx x.ts", "node --import tsx x.ts", "", None),
            ("./node_modules/.bin/next start", "node node_modules/.bin/next start", "", None),
            ("bun run index.ts", "bun run index.ts", "", Some("port")),
            ("bun run serve", "node server.js", "A=1 B=x y", None),
            ("bun serve", "node server.js", "A=1 B=x y", None),
            (
                "APP_ENV=production puma",
                "puma -b tcp://$HOST:$PORT",
                "APP_ENV=production",
                Some("port"),
            ),
            ("gunicorn main:app", "gunicorn main:app", "", Some("fd")),
            ("python3 main.py", "python3 main.py", "", Some("port")),
            ("uvicorn main:app --fd 3", "uvicorn --fd 3 main:app", "", Some("fd")),
            ("gunicorn -b :80 main:app", "gunicorn -b :80 main:app", "", None),
            ("gunicorn --bind=:80 main:app", "gunicorn --bind=:80 main:app", "", None),
            ("ts-node a.ts x", "node --require ts-node/register a.ts x", "", None),
            ("ts-node --esm a.ts", "ts-node --esm a.ts", "", None),
            ("tsx watch a.ts", "tsx watch a.ts", "", None),
            ("tsx --no-cache a.ts", "tsx --no-cache a.ts", "", None),
            ("npx --yes next start", "npx --yes next start", "", None),
            ("yarn --silent start", "yarn --silent start", "", None),
            ("./next start", "./next start", "", None),
            ("_A1=1 node x.js", "node x.js", "_A1=1", None),
            ("1A=1 node x.js", "1A=1 node x.js", "", None),
            ("A-B=1 node x.js", "A-B=1 node x.js", "", None),
            ("bun server.ts", "bun server.ts", "", Some("port")),
            ("./server", "./server", "", None),
        ] {
            let expected = (command.to_owned(), environment.to_owned(), listen);
            assert_eq!(try_plain(typed), Ok(expected), "{typed}");
        }
    }

    #[test]
    fn what_leads_to_no_program_says_what_to_type() {
        for (typed, part) in [
            ("npm run both", "needs a shell"),
            ("npm run both", "-- node server.js"),
            ("npm run none", "no script \"none\""),
            ("npx cowsay", "npm install cowsay"),
            ("npm run dev", "-- node server.js"),
            ("npx nodemon server.js", "-- node server.js"),
            ("npx nuxt preview", "npm install nuxt"),
            ("nuxt preview", "npx nuxt build"),
            ("nest start", "npx nest build"),
        ] {
            let error = try_plain(typed).unwrap_err();
            assert!(error.contains(part), "{typed}: {error}");
        }
        assert!(try_plain("npm run loop").is_ok(), "it ends");
    }

    #[test]
    fn scripts_that_are_not_run_are_known() {
        let directory = tempfile::tempdir().unwrap();
        let package = r#"{"scripts": {"start": "node a.js", "prestart": "tsc"}}"#;
        std::fs::write(directory.path().join("package.json"), package).unwrap();
        let found = plain(&["npm", "start"].map(str::to_owned), directory.path(), true).unwrap();
        assert_eq!(found.left_out, ["prestart"]);
    }

    #[test]
    fn only_quotes_are_understood() {
        assert_eq!(simple("a 'b c' \"d\"e ''").unwrap(), ["a", "b c", "de", ""]);
        for script in ["a && b", "a | b", "a $X", "a \"$X\"", "a *", "'a", "", "a; b", "a > b"] {
            assert_eq!(simple(script), None, "{script}");
        }
    }
}
