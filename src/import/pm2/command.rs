//! What an app runs: its script, and what PM2 puts before it.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use super::super::{Severity, array};
use super::app::App;
use super::value::script;
use super::words;
use crate::base::file::{self, Links};
use crate::base::program::{self, SERVICE_PATH};

impl App<'_> {
    /// Writes the command, and what there is to say about it.
    pub(super) fn command(&mut self, script: &str) {
        let command = self.words(script);
        if script.contains(' ') {
            self.note("script", "PM2 gives a script with spaces to bash, and so does the file; if it is one program, write its words into command, so that signals reach it");
            if !words::of(self.get(&["args"])).is_empty() {
                self.note(
                    "args",
                    "PM2 drops them where the script has spaces, and so does the file",
                );
            }
        }
        if let [program, ..] = &command[..] {
            self.look_for(program);
        }
        self.line("command", &array(command.iter().map(String::as_str)));
        self.command = command;
    }

    /// Program, its own arguments, script, the script's arguments.
    fn words(&self, script: &str) -> Vec<String> {
        if script.contains(' ') {
            return ["bash", "-c", script].map(str::to_owned).to_vec();
        }
        let mut command = Vec::new();
        let given = self.get(&["interpreter", "exec_interpreter"]).and_then(Value::as_str);
        if let Some(interpreter) = given.map(str::to_owned).or_else(|| self.interpreter(script))
            && interpreter != "none"
        {
            command.push(interpreter);
            command.extend(words::of(self.get(&[
                "node_args",
                "nodeArgs",
                "interpreter_args",
                "interpreterArgs",
            ])));
        }
        command.push(script.to_owned());
        command.extend(words::of(self.get(&["args"])));
        command
    }

    /// What runs a script of which nothing is said: PM2 goes by the ending, and takes what has none for
    /// a program of Node's, unless it is one of the machine's.
    fn interpreter(&self, script: &str) -> Option<String> {
        let extension = Path::new(script).extension().and_then(|extension| extension.to_str());
        let interpreter = match extension {
            Some("py") if on_path("python").is_none() => "python3",
            Some("py") => "python",
            Some("sh") => "bash",
            Some("rb") => "ruby",
            Some("php") => "php",
            Some("pl") => "perl",
            Some("ts" | "tsx") => "bun",
            _ => {
                let file = self.directory.join(script);
                let is_program = if file.exists() {
                    is_binary(&file)
                } else {
                    !script.contains('/') && extension.is_none()
                };
                return (!is_program).then(|| "node".to_owned());
            }
        };
        Some(interpreter.to_owned())
    }

    /// Whether it is Node that runs it.
    pub(super) fn is_node(&self) -> bool {
        let command = script(self.options).map(|script| self.words(script));
        let program = command.iter().flatten().next();
        let name = program.and_then(|program| Path::new(program).file_stem()?.to_str());
        matches!(name, Some("node" | "nodejs" | "npm" | "npx" | "yarn" | "pnpm"))
    }

    /// What the caller's shell finds, say below a version manager's directory, systemd may not.
    fn look_for(&mut self, program: &str) {
        if let Some(version) = program.strip_prefix("node@") {
            self.say(Severity::ToDo, "interpreter", format!("PM2 asks nvm for Node {version}; write the path of that version's node as the first word of command"));
        } else if !program.contains('/')
            && program::find(program, SERVICE_PATH).is_none()
            && let Some(path) = on_path(program)
        {
            self.say(Severity::ToDo, "command", format!("{program} is {path} here, where systemd does not look: write a path as the first word of command that the app's user may run, or install {program} for all"));
        }
    }
}

/// Where the caller's shell finds a program.
fn on_path(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    program::find(program, path).map(|file| file.display().to_string())
}

fn is_binary(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = file::open(path, Links::Follow).and_then(|file| {
        let is_file = file.metadata()?.is_file();
        if is_file { file.take(4).read_to_end(&mut start) } else { Ok(0) }
    });
    read.is_ok() && start == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::super::tests::imported_from;

    #[test]
    fn what_only_node_can_do_is_asked_of_node_only() {
        for (app, is_node) in [
            (json!({ "script": "a.js" }), true),
            (json!({ "script": "npm", "args": "start" }), true),
            (json!({ "script": "a.js", "interpreter": "/opt/node/bin/node" }), true),
            (json!({ "script": "a.py" }), false),
            (json!({ "script": "a.js", "interpreter": "deno" }), false),
            (json!({ "script": "a b" }), false),
        ] {
            let mut app = app.clone();
            app["shutdown_with_message"] = json!(true);
            let (file, notes) = imported_from(&app, std::path::Path::new("/srv"), None);
            assert_eq!(file.contains_key("shutdown"), is_node, "{app}");
            assert_eq!(notes.contains("only Node apps get messages"), !is_node, "{notes}");
        }
    }

    #[test]
    fn what_systemd_would_not_find_is_told_with_where_it_is() {
        let own = super::on_path("cargo").expect("the tests are run by it");
        for (app, told) in [
            (
                json!({ "script": "a.js", "interpreter": "node@18" }),
                "a: interpreter: PM2 asks nvm for Node 18",
            ),
            (json!({ "script": "a.x", "interpreter": "cargo" }), own.as_str()),
            (json!({ "script": "a.x", "interpreter": "/bin/true" }), ""),
            (json!({ "script": "a.x", "interpreter": "sh" }), ""),
            (json!({ "script": "a.x", "interpreter": "no-such-program" }), ""),
        ] {
            let (_, notes) = imported_from(&app, std::path::Path::new("/srv"), None);
            let is_told = notes.contains("a: command: ") || notes.contains("a: interpreter: ");
            let systemd_finds_it = own.starts_with("/usr/") && told == own;
            assert!(systemd_finds_it || is_told != told.is_empty(), "{app}: {notes}");
            assert!(systemd_finds_it || notes.contains(told), "{app}: {notes}");
        }
    }

    #[test]
    fn a_python_script_is_run_by_the_python_that_there_is() {
        let (file, _) =
            imported_from(&json!({ "script": "a.py" }), std::path::Path::new("/srv"), None);
        let expected = if super::on_path("python").is_some() { "python" } else { "python3" };
        assert_eq!(file["command"][0].as_str(), Some(expected));
        let (file, notes) = imported_from(
            &json!({ "script": "a b", "args": "c" }),
            std::path::Path::new("/srv"),
            None,
        );
        assert_eq!(file["command"].as_array().unwrap().len(), 3);
        assert!(notes.contains("a: args: PM2 drops them where the script has spaces"), "{notes}");
        let (_, notes) =
            imported_from(&json!({ "script": "a b" }), std::path::Path::new("/srv"), None);
        assert!(!notes.contains("a: args: "), "{notes}");
    }

    /// Each was given to PM2 7.
    #[test]
    fn what_runs_a_script_is_what_pm2_takes() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("node_modules/.bin")).unwrap();
        for name in ["www", "x.ts", "x.mjs", "node_modules/.bin/tool", "my app.js"] {
            fs::write(at(name), "#!/usr/bin/env node\n").unwrap();
        }
        fs::copy("/bin/true", at("server")).unwrap();
        for (app, command) in [
            (json!({ "script": "app.js" }), "node app.js"),
            (json!({ "script": "www" }), "node www"),
            (json!({ "script": "./www", "node_args": "-r x" }), "node -r x ./www"),
            (json!({ "script": "./server" }), "./server"),
            (json!({ "script": "server", "node_args": "-r x" }), "server"),
            (json!({ "script": "bin/gone" }), "node bin/gone"),
            (json!({ "script": "npm", "args": "run start" }), "npm run start"),
            (json!({ "script": "/usr/bin/env", "args": "x" }), "/usr/bin/env x"),
            (json!({ "script": "node_modules/.bin/tool" }), "node node_modules/.bin/tool"),
            (json!({ "script": "x.ts" }), "bun x.ts"),
            (json!({ "script": "x.mjs" }), "node x.mjs"),
            (json!({ "script": "x.sh" }), "bash x.sh"),
            (json!({ "script": "x.rb" }), "ruby x.rb"),
            (json!({ "script": "x.pl" }), "perl x.pl"),
            (json!({ "script": "x.php" }), "php x.php"),
            (json!({ "script": "app.js", "interpreter": "none" }), "app.js"),
            (json!({ "script": "x.ts", "interpreter": "tsx" }), "tsx x.ts"),
            (json!({ "script": "a && b", "args": "c" }), "bash -c|a && b"),
            (json!({ "script": "npm start", "interpreter": "none" }), "bash -c|npm start"),
            (json!({ "script": "my app.js" }), "bash -c|my app.js"),
        ] {
            let (file, notes) = imported_from(&app, directory.path(), None);
            let words = file["command"].as_array().unwrap().iter().map(|w| w.as_str().unwrap());
            let (words, expected): (Vec<&str>, Vec<&str>) = match command.split_once('|') {
                Some((_, script)) => (words.collect(), vec!["bash", "-c", script]),
                None => (words.collect(), command.split(' ').collect()),
            };
            assert_eq!(words, expected, "{app}");
            assert_eq!(
                notes.contains("gives a script with spaces to bash"),
                expected[0] == "bash" && expected[1] == "-c"
            );
        }
    }
}
