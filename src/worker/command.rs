//! Commands that would come between the shim and the app.
//!
//! `npm start` starts npm, which starts a shell, which starts the app: npm is then the one at the
//! other end of Node's channel, and gets the signals. So the script in `package.json` is run
//! itself, if that is plainly `node FILE …`; anything else is refused, with what to write instead.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::base::program::{self, base_name};

/// Why a command cannot be run as it is.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Unsuitable {
    #[error("command is empty")]
    Empty,
    #[error(
        "`{command}` would come between Roundsman and the app, and {reason}: \
         write the real command instead, such as command = [\"node\", \"server.js\"]"
    )]
    Wrapper { command: String, reason: String },
}

/// The command to run for `command`, which is to be a Node process with a channel.
pub(super) fn resolve(command: &[String], directory: &Path) -> Result<Vec<String>, Unsuitable> {
    let (program, arguments) = command.split_first().ok_or(Unsuitable::Empty)?;
    let refuse = |reason: String| Unsuitable::Wrapper { command: command.join(" "), reason };
    match (base_name(program), arguments) {
        ("npm" | "pnpm" | "yarn", [run, script, rest @ ..])
            if run == "run" || run == "run-script" =>
        {
            script_command(directory, script, rest).map_err(refuse)
        }
        ("npm" | "pnpm" | "yarn", [start, rest @ ..]) if start == "start" => {
            script_command(directory, "start", rest).map_err(refuse)
        }
        ("yarn" | "pnpm", [script, rest @ ..]) if !script.starts_with('-') => {
            script_command(directory, script, rest).map_err(refuse)
        }
        ("npx" | "bunx", [tool, rest @ ..]) if !tool.starts_with('-') => {
            let file = directory.join("node_modules/.bin").join(tool);
            if !file.exists() {
                return Err(refuse(format!("{} does not exist", file.display())));
            }
            Ok(std::iter::once(file.display().to_string()).chain(rest.iter().cloned()).collect())
        }
        (
            "npm" | "pnpm" | "yarn" | "npx" | "bunx" | "nodemon" | "pm2" | "pm2-runtime"
            | "forever",
            _,
        ) => Err(refuse("it is not clear which program it runs".to_owned())),
        _ => Ok(command.to_vec()),
    }
}

/// Whether this program is Node, and so knows what to do with a channel.
pub(super) fn is_node(program: &str) -> bool {
    let script = Path::new(program)
        .extension()
        .is_some_and(|end| end == "js" || end == "mjs" || end == "cjs");
    script || is_interpreter(program)
}

/// Whether it is Node itself, so that what follows are Node's options.
pub(super) fn is_interpreter(program: &str) -> bool {
    program::is_node(base_name(program))
}

/// The command of a script in `package.json`, with the arguments that are passed on.
fn script_command(directory: &Path, name: &str, rest: &[String]) -> Result<Vec<String>, String> {
    let file = directory.join("package.json");
    let script = read_script(&file, name)?;
    let words: Vec<&str> = script.split_whitespace().collect();
    let plain =
        |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:@,+%".contains(c));
    let starts_node = words.first().is_some_and(|word| program::is_node(base_name(word)));
    if !starts_node || words.len() < 2 || !words.iter().all(plain) {
        return Err(format!(
            "its script {name:?} in {} is `{script}`, not plainly `node FILE`",
            file.display()
        ));
    }
    for around in ["pre", "post"] {
        if read_script(&file, &format!("{around}{name}")).is_ok() {
            return Err(format!(
                "{} also has a script {:?}",
                file.display(),
                format!("{around}{name}")
            ));
        }
    }
    // What npm takes for itself: everything before `--`.
    let rest = match rest.split_first() {
        Some((dashes, rest)) if dashes == "--" => rest,
        Some((first, _)) if first.starts_with('-') => {
            return Err(format!("{first} is an option of its own"));
        }
        _ => rest,
    };
    Ok(words.into_iter().map(str::to_owned).chain(rest.iter().cloned()).collect())
}

fn read_script(file: &PathBuf, name: &str) -> Result<String, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let package: Value =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    match &package["scripts"][name] {
        Value::String(script) => Ok(script.clone()),
        _ => Err(format!("{} has no script {name:?}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGE: &str = r#"{"scripts": {
        "start": "node  --enable-source-maps dist/server.js --mode=prod",
        "dev": "nodemon server.js",
        "env": "NODE_ENV=production node server.js",
        "both": "node build.js && node server.js",
        "glob": "node server.js *.json",
        "built": "node server.js",
        "prebuilt": "tsc",
        "bad": 5
    }}"#;

    fn try_command(words: &[&str]) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("package.json"), PACKAGE).unwrap();
        std::fs::create_dir_all(directory.path().join("node_modules/.bin")).unwrap();
        std::fs::write(directory.path().join("node_modules/.bin/next"), "").unwrap();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let prefix = format!("{}/", directory.path().display());
        resolve(&words, directory.path())
            .map(|words| words.join(" ").replace(&prefix, ""))
            .map_err(|error| error.to_string().replace(&prefix, ""))
    }

    #[test]
    fn plain_commands_stay() {
        for command in
            [&["node", "server.js"][..], &["/usr/bin/node", "a"], &["sh", "-c", "node a"]]
        {
            assert_eq!(try_command(command).unwrap(), command.join(" "));
        }
    }

    #[test]
    fn scripts_that_plainly_start_node_are_run_themselves() {
        let start = "node --enable-source-maps dist/server.js --mode=prod";
        for command in [
            "npm start",
            "npm run start",
            "yarn start",
            "yarn run start",
            "pnpm start",
            "/usr/bin/npm run start",
        ] {
            let words: Vec<&str> = command.split(' ').collect();
            assert_eq!(try_command(&words).as_deref(), Ok(start), "{command}");
        }
        assert_eq!(
            try_command(&["npm", "start", "--", "--port", "a b"]).unwrap(),
            format!("{start} --port a b")
        );
        assert_eq!(try_command(&["npx", "next", "start"]).unwrap(), "node_modules/.bin/next start");
    }

    #[test]
    fn everything_else_is_refused_with_the_reason_and_the_remedy() {
        for (command, reason) in [
            ("npm run dev", "its script \"dev\" in package.json is `nodemon server.js`"),
            ("npm run env", "not plainly `node FILE`"),
            ("npm run both", "not plainly `node FILE`"),
            ("npm run glob", "not plainly `node FILE`"),
            ("npm run built", "package.json also has a script \"prebuilt\""),
            ("npm run bad", "package.json has no script \"bad\""),
            ("npm run nothing", "package.json has no script \"nothing\""),
            ("npm start --silent", "--silent is an option of its own"),
            ("npm", "it is not clear which program it runs"),
            ("npx --yes next", "it is not clear which program it runs"),
            ("npx vite", "node_modules/.bin/vite does not exist"),
            ("nodemon server.js", "it is not clear which program it runs"),
        ] {
            let words: Vec<&str> = command.split(' ').collect();
            let error = try_command(&words).unwrap_err();
            assert!(error.contains(reason), "{command}: {error}");
            assert!(error.contains("command = [\"node\""), "{command}: {error}");
        }
        assert_eq!(resolve(&[], Path::new("/")), Err(Unsuitable::Empty));
    }

    #[test]
    fn a_missing_or_broken_package_file_is_named() {
        let words = ["npm".to_owned(), "start".to_owned()];
        let directory = tempfile::tempdir().unwrap();
        let error = resolve(&words, directory.path()).unwrap_err().to_string();
        assert!(error.contains("package.json: No such file"), "{error}");
        std::fs::write(directory.path().join("package.json"), "{").unwrap();
        let error = resolve(&words, directory.path()).unwrap_err().to_string();
        assert!(error.contains("package.json: EOF"), "{error}");
    }
}
