//! What the configuration expects of the machine and does not find there.
//!
//! Apart from loading on purpose: the generator runs before file systems are mounted, and a
//! configuration may be checked on another machine than its own.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use toml_edit::{DocumentMut, TableLike};

use super::diagnostic::{Problem, Severity};
use super::load::Loaded;
use super::secrecy;
use super::settings::App;

/// A warning for everything that would keep an app from starting on this machine as it is now.
pub(crate) fn missing(loaded: &Loaded) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for app in loaded.settings.apps.values() {
        if let Some(file) = loaded.app_files.get(&app.name) {
            warnings.extend(
                of_app(app)
                    .into_iter()
                    .map(|(title, help)| Problem::file(Severity::Warning, file, title).help(help)),
            );
        }
    }
    warnings.extend(exposed(loaded));
    warnings
}

/// A warning for every file that everybody may read and that has what looks like a secret.
fn exposed(loaded: &Loaded) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for (path, (_, text)) in loaded.paths.iter().zip(&loaded.files) {
        let is_open = fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o004 != 0);
        let table =
            std::str::from_utf8(text).ok().and_then(|text| text.parse::<DocumentMut>().ok());
        let (true, Some(table)) = (is_open, table) else { continue };
        let mut names = Vec::new();
        secrets(table.as_table(), false, &mut names);
        if names.is_empty() {
            continue;
        }
        let title =
            format!("everybody may read this file, and a secret in it: {}", names.join(", "));
        warnings.push(Problem::file(Severity::Warning, path, title).help(format!(
            "put variables into a file that only root reads (`chmod 600`), and name it in \
             `environment-files`; or `chgrp roundsman {0} && chmod 640 {0}`, since the front reads it",
            path.display()
        )));
    }
    warnings
}

/// The keys of strings that look like secrets: of variables by their names, of all others by what
/// they are.
fn secrets(table: &dyn TableLike, variables: bool, names: &mut Vec<String>) {
    for (key, item) in table.iter() {
        if let Some(below) = item.as_table_like() {
            secrets(below, key == "environment", names);
        } else if let Some(text) = item.as_str()
            && (secrecy::has_password(text) || variables && secrecy::is_secret(key, text))
        {
            names.push(key.to_owned());
        }
    }
}

fn of_app(app: &App) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Some(directory) = &app.directory {
        // Not being allowed to look, as somebody other than root, says nothing.
        match fs::metadata(directory) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => found.push((
                format!("{} is no directory", directory.display()),
                "correct `directory`".to_owned(),
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => found.push((
                format!("the directory {} is not there", directory.display()),
                "create it, or correct `directory`".to_owned(),
            )),
            Err(_) => {}
        }
    }
    if let Some(program) = app.command.first().filter(|program| program.contains('/')) {
        let path = app.directory.as_deref().unwrap_or(Path::new("/")).join(program);
        match fs::metadata(&path) {
            Ok(metadata) if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 => {
                let help = format!("`chmod +x {}`, or correct `command`", path.display());
                found.push((format!("{} cannot be executed", path.display()), help));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => found.push((
                format!("the program {} is not there", path.display()),
                "install it, or correct `command`".to_owned(),
            )),
            _ => {}
        }
    }
    for file in &app.environment_files {
        match fs::metadata(file) {
            Ok(metadata) if metadata.permissions().mode() & 0o004 != 0 => found.push((
                format!("everybody may read {}", file.display()),
                format!(
                    "`chmod 600 {}`, if it holds secrets: systemd reads it as root",
                    file.display()
                ),
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => found.push((
                format!("the environment file {} is not there", file.display()),
                "create it, or correct `environment-files`: without it the app does not start"
                    .to_owned(),
            )),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn what_is_not_there_is_a_warning_and_what_is_there_is_none() {
        let root = tempfile::tempdir().unwrap();
        let there = |name: &str, mode: u32| {
            let path = root.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        there("run", 0o755);
        there("plain", 0o644);
        there("secret.env", 0o600);
        there("open.env", 0o644);
        let directory = root.path().display();
        let app = |program: &str, directory: &str, env: &str| {
            format!(
                "command = [\"{program}\"]\ndirectory = \"{directory}\"\nroute = []\n\
                 environment-files = [\"{env}\"]\n"
            )
        };
        fs::create_dir(root.path().join("apps")).unwrap();
        for (name, text) in [
            ("fine", app("./run", &format!("{directory}"), &format!("{directory}/secret.env"))),
            ("node", app("node", &format!("{directory}"), &format!("{directory}/secret.env"))),
            ("a", app("./gone", &format!("{directory}/nowhere"), &format!("{directory}/open.env"))),
            ("b", app("./plain", &format!("{directory}"), &format!("{directory}/gone.env"))),
        ] {
            fs::write(root.path().join(format!("apps/{name}.toml")), text).unwrap();
        }
        let loaded = load(&Sources::directory(root.path()));
        assert_eq!(loaded.problems.errors(), 0, "{}", loaded.problems);
        let titles: Vec<String> = missing(&loaded)
            .iter()
            .map(|problem| problem.title().replace(&directory.to_string(), "D"))
            .collect();
        assert_eq!(
            titles,
            [
                "the directory D/nowhere is not there",
                "the program D/nowhere/./gone is not there",
                "everybody may read D/open.env",
                "D/./plain cannot be executed",
                "the environment file D/gone.env is not there",
            ]
        );
    }

    #[test]
    fn secrets_that_everybody_may_read_are_told() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("apps")).unwrap();
        let file = root.path().join("apps/shop.toml");
        let told = |text: &str, mode: u32| -> Vec<String> {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let loaded = load(&Sources::directory(root.path()));
            assert_eq!(loaded.problems.errors(), 0, "{}", loaded.problems.render(false));
            exposed(&loaded).iter().map(|problem| problem.title().to_owned()).collect()
        };
        let open = "command = [\"/bin/true\"]\nsession = \"redis://:pw@10.0.0.5\"\n\
                    environment = { DB_PASSWORD = \"x\", PORT = \"1\" }\n";
        let title = "everybody may read this file, and a secret in it: session, DB_PASSWORD";
        assert_eq!(told(open, 0o644), [title]);
        assert!(told(open, 0o640).is_empty());
        let fine =
            "command = [\"/bin/true\"]\nsession = true\ncredentials = { password = \"/x\" }\n";
        assert!(told(fine, 0o644).is_empty());
    }
}
