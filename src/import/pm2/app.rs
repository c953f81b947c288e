//! One app of an ecosystem file on its way into its own file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::super::{Author, File, Import, Severity, array, environment_file, quoted};
use super::background::{self, Kind};
use super::value::script;
use crate::base::origin::{self, Maker};
use crate::base::user::User;
use crate::config::secrecy;
use crate::start::infer::{self, Found};

/// What an app's file must know of its surroundings.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// Where the original is.
    pub(super) directory: &'a Path,
    /// Where the files will be.
    pub(super) to: &'a Path,
    /// Whether other apps are behind the same address.
    pub(super) shares: bool,
    /// Who wrote it, and may not have an app run with the rights of others.
    pub(super) author: Option<&'a Author>,
}

/// What is known of the app so far.
pub(super) struct App<'a> {
    pub(super) name: String,
    pub(super) options: &'a Map<String, Value>,
    /// Where it runs.
    pub(super) directory: PathBuf,
    /// What it runs.
    pub(super) command: Vec<String>,
    pub(super) author: Option<&'a Author>,
    /// Lines of its file.
    text: String,
    /// Those of its table `[restart]`.
    restart: Vec<String>,
    environment: Vec<(String, String)>,
    import: &'a mut Import,
}

/// Adds its files to the import, and what is not in them.
pub(super) fn import(
    options: &Map<String, Value>,
    index: usize,
    place: Place<'_>,
    environment: Option<&str>,
    import: &mut Import,
) {
    let Some(script) = script(options) else {
        import.say(
            Severity::Lost,
            format!("apps[{index}]"),
            "it has no `script`, and was left out",
        );
        return;
    };
    let given = options.get("name").and_then(Value::as_str);
    // PM2 has a program of its own for this word.
    if script == "serve" {
        import.say(
            Severity::Lost,
            format!("{}: script", given.unwrap_or(script)),
            "PM2 serves the files of PM2_SERVE_PATH itself; files are not served here, and the app was left out: let another app do it, as npx serve, or nginx",
        );
        return;
    }
    let base = Path::new(script).file_stem().and_then(|stem| stem.to_str()).unwrap_or("app");
    let name = infer::app_name(given.unwrap_or(base)).unwrap_or_else(|| format!("app-{index}"));
    if let Some(given) = given.filter(|given| *given != name) {
        import.say(
            Severity::Differs,
            format!("{name}: name"),
            format!(
                "\"{given}\" is \"{name}\" here: names are lower-case letters, digits, - and _"
            ),
        );
    }
    if import.files.iter().any(|file| file.path == format!("apps/{name}.toml")) {
        import.say(
            Severity::Lost,
            format!("{name}: name"),
            "another app has this name already; this one was left out",
        );
        return;
    }
    let folder = options.get("cwd").and_then(Value::as_str).unwrap_or(".");
    let mut app = App {
        name,
        options,
        directory: place.directory.join(folder).components().collect(),
        command: Vec::new(),
        author: place.author,
        text: String::new(),
        restart: Vec::new(),
        environment: Vec::new(),
        import,
    };
    app.command(script);
    app.line("directory", &quoted(&app.directory.display().to_string()));
    app.look_for_script(script);
    let kind = background::kind(given.unwrap_or_default(), &app.directory.join(script), options);
    match kind {
        Kind::Background => {
            app.line("listen", "\"none\"");
            app.note("listen", "by what it is called, or since it ends by itself, it serves no HTTP, so it has no route and nobody waits for it to listen; if it does serve, leave the line out");
        }
        Kind::Unclear => app.say(Severity::ToDo, "listen", "nothing says that it listens: if it serves no HTTP, as a queue consumer or a bot, write listen = \"none\" and no route"),
        Kind::Server => {}
    }
    if place.shares && kind != Kind::Background {
        let host = quoted(&format!("{}.localhost", app.name));
        let _ = writeln!(
            app.text,
            "# Which requests are for this app: write its real host here.\nroute = [{{ host = {host} }}]"
        );
        app.say(Severity::ToDo, "route", "PM2 gives each app a port; here all are behind one address. Write the app's host into route");
    }
    for (key, value) in options {
        app.option(key, value, environment);
    }
    app.restart();
    app.owner();
    app.finish(place.to);
}

impl App<'_> {
    /// A path that is relative is so to the directory in which PM2 is called.
    fn look_for_script(&mut self, script: &str) {
        let folder = self.options.get("cwd").and_then(Value::as_str).unwrap_or_default();
        let is_path = script.contains(['/', '.']) && !script.contains(char::is_whitespace);
        let is_ours = self.author.is_none() && is_path && !folder.starts_with('/');
        if is_ours && !self.directory.join(script).exists() {
            self.say(Severity::ToDo, "script", format!("there is no {}: build it first; or PM2 was called in another directory, from which it looks for {script}: write that one into directory", self.directory.join(script).display()));
        }
    }

    /// Adds `key = value`.
    pub(super) fn line(&mut self, key: &str, value: &str) {
        // PM2 has several names for some options.
        if self.has(key) {
            self.lost(key, format!("two options say this; {value} was left out"));
            return;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{key} = {value}");
    }

    fn has(&self, key: &str) -> bool {
        self.text.lines().any(|line| line.split_once(" = ").is_some_and(|(it, _)| it == key))
    }

    /// Adds `key = value` to `[restart]`.
    pub(super) fn restart_line(&mut self, key: &str, value: &str) {
        self.restart.push(format!("{key} = {value}"));
    }

    /// Says how an option is another one here.
    pub(super) fn note(&mut self, option: &str, text: impl Into<String>) {
        self.say(Severity::Differs, option, text);
    }

    /// Says that what an option does is not done.
    pub(super) fn lost(&mut self, option: &str, text: impl Into<String>) {
        self.say(Severity::Lost, option, text);
    }

    pub(super) fn say(&mut self, severity: Severity, option: &str, text: impl Into<String>) {
        // A mark that no variable's name has: NODE_APP_INSTANCE is to stay what it is.
        let text = text.into().replace("$APP", &self.name);
        self.import.say(severity, format!("{}: {option}", self.name), text);
    }

    /// The first of an option's names that there is.
    pub(super) fn get(&self, names: &[&str]) -> Option<&Value> {
        names.iter().find_map(|name| self.options.get(*name))
    }

    /// Sets a variable of its environment, over an earlier value.
    pub(super) fn variable(&mut self, name: &str, text: String) {
        self.environment.retain(|(present, _)| present != name);
        self.environment.push((name.to_owned(), text));
    }

    /// PM2 runs an app as whoever started it, who mostly is whose its files are. They are looked at as
    /// `start` does; what a shell's line comes to nobody knows.
    fn owner(&mut self) {
        if self.has("user") || self.command.get(1).is_some_and(|word| word == "-c") {
            return;
        }
        let (command, directory) = (self.command.clone(), self.directory.clone());
        let paths = Found { command, directory, ..Found::default() }.paths();
        let makers = origin::of_all(paths.iter().map(PathBuf::as_path));
        let Ok(Ok(Maker::User(uid))) = makers.map(|makers| makers.only_of_program()) else {
            return; // root's, nobody's yet, or of more than one: it runs as a user of its own
        };
        let Ok(Some(user)) = User::numbered(uid) else { return };
        if self.author.is_none_or(|author| author.may_name("user", &user.name)) {
            self.line("user", &quoted(&user.name));
            self.note("user", format!("{} owns {}, so the app runs as that user, as it does when {0} starts PM2; without the line it has a user of its own", user.name, self.directory.display()));
        }
    }

    /// The variables that are not for everybody's eyes.
    fn take_secrets(&mut self) -> Vec<(String, String)> {
        let fits = |name: &str, value: &str| {
            secrecy::is_secret(name, value) && environment_file::can_hold(name, value)
        };
        let all = std::mem::take(&mut self.environment);
        let (secret, open) = all.into_iter().partition(|(name, value)| fits(name, value));
        self.environment = open;
        secret
    }

    fn finish(mut self, to: &Path) {
        let secrets = self.take_secrets();
        if !secrets.is_empty() {
            let path = format!("apps/{}.env", self.name);
            let at = to.join(&path).display().to_string();
            self.line("environment-files", &array([at.as_str()]));
            let names: Vec<&str> = secrets.iter().map(|(name, _)| name.as_str()).collect();
            self.note("env", format!("{} looks like a secret: it is in {at}, which only root reads, and the app has it all the same", names.join(", ")));
            let text = environment_file::text(&secrets);
            self.import.files.push(File { path, text, secret: true });
        }
        if !self.restart.is_empty() {
            let _ = writeln!(self.text, "\n[restart]\n{}", self.restart.join("\n"));
        }
        if !self.environment.is_empty() {
            self.text.push_str("\n[environment]\n");
            for (name, value) in self.environment {
                let key = toml_edit::Key::new(name).to_string();
                let _ = writeln!(self.text, "{} = {}", key.trim(), quoted(&value));
            }
        }
        let file =
            File { path: format!("apps/{}.toml", self.name), text: self.text, secret: false };
        self.import.files.push(file);
    }
}
