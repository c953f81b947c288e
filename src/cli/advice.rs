//! What to do about an error that apps of all kinds end with, in its own words.

use std::path::Path;

use crate::config::settings::App;

/// What to type about what a worker has said, as a line to add; empty where nothing is known of it.
pub(super) fn about(said: &str, app: &App) -> String {
    let place = app.directory.as_deref().unwrap_or(Path::new("/")).display().to_string();
    let program = app.command.first().map_or("", String::as_str);
    let advice = module_of_node(said, &place)
        .or_else(|| module_of_python(said, &place, program))
        .or_else(|| syntax_of_modules(said, &place))
        .or_else(|| rights(said));
    advice.map_or_else(String::new, |advice| format!("\nWhat to do: {advice}"))
}

/// A package that is not installed, and not a file that is not there.
fn module_of_node(said: &str, place: &str) -> Option<String> {
    let quoted = |mark: &str| said.split(mark).nth(1)?.split('\'').next();
    let module = quoted("Cannot find module '").or_else(|| quoted("Cannot find package '"))?;
    if module.starts_with(['.', '/']) {
        return None;
    }
    let mut parts = module.split('/');
    let name: Vec<&str> = match parts.next()? {
        scope if scope.starts_with('@') => [scope].into_iter().chain(parts.next()).collect(),
        name => vec![name],
    };
    Some(format!(
        "`npm install` in {place}; where package.json does not name it, `npm install {}`",
        name.join("/")
    ))
}

fn module_of_python(said: &str, place: &str, program: &str) -> Option<String> {
    let module = said.split("No module named '").nth(1)?.split(['\'', '.']).next()?;
    let own = Path::new(program).parent().filter(|_| program.contains("venv/bin/"));
    Some(match own {
        Some(bin) => format!("{}/pip install {module}", bin.display()),
        None => format!(
            "give the app a virtual environment: python3 -m venv {place}/.venv && \
             {place}/.venv/bin/pip install {module}\n\
             start uses it for a file (roundsman start app.py); in a command write the program's whole \
             path: {place}/.venv/bin/…"
        ),
    })
}

/// Node takes a file for the other kind of module than it is.
fn syntax_of_modules(said: &str, place: &str) -> Option<String> {
    if said.contains("Cannot use import statement outside a module") {
        return Some(format!(
            "\"type\": \"module\" in {place}/package.json, or call the file .mjs"
        ));
    }
    let is_common = said.contains("require is not defined in ES module scope");
    is_common.then(|| {
        format!("call the file .cjs, or take \"type\": \"module\" out of {place}/package.json")
    })
}

fn rights(said: &str) -> Option<String> {
    let listens = ["listen EACCES", "bind: permission denied", "socket.bind", "server_bind"];
    let denied = said.contains("EACCES") || said.to_lowercase().contains("permission denied");
    if denied && listens.iter().any(|call| said.contains(call)) {
        return Some(
            "ports below 1024 are root's, and the front has 80 and 443 for all apps: have the app listen \
             on PORT from its environment, or on a port above"
                .to_owned(),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;

    fn advice(said: &str, program: &str) -> String {
        let text = format!(
            "command = [\"{program}\"]\ndirectory = \"/srv/shop\"\nworkers = 2\nlisten = \"port\"\n"
        );
        about(said, &sample::shop(&text).apps["shop"])
    }

    #[test]
    fn known_errors_have_a_remedy() {
        for (said, remedy) in [
            (
                "Error: Cannot find module 'express'",
                "`npm install` in /srv/shop; where package.json does not name it, `npm install express`",
            ),
            (
                "Error [ERR_MODULE_NOT_FOUND]: Cannot find package '@a/b' imported from /x",
                "`npm install @a/b`",
            ),
            ("Error: Cannot find module '@a/b/c.js'", "`npm install @a/b`"),
            (
                "ModuleNotFoundError: No module named 'flask.x'",
                "python3 -m venv /srv/shop/.venv && /srv/shop/.venv/bin/pip install flask",
            ),
            ("SyntaxError: Cannot use import statement outside a module", "\"type\": \"module\""),
            ("ReferenceError: require is not defined in ES module scope", ".cjs"),
            ("Error: listen EACCES: permission denied 0.0.0.0:443", "below 1024"),
            (
                "    self.socket.bind(self.server_address)\nPermissionError: [Errno 13] Permission denied",
                "below 1024",
            ),
            ("listen tcp :443: bind: permission denied", "below 1024"),
        ] {
            let said = advice(said, "python3");
            assert!(
                said.starts_with("\nWhat to do: ") && said.contains(remedy),
                "{remedy}: {said}"
            );
        }
        let own = advice("No module named 'flask'", "/srv/shop/.venv/bin/python");
        assert!(own.ends_with(": /srv/shop/.venv/bin/pip install flask"), "{own}");
    }

    #[test]
    fn nothing_is_made_up() {
        for said in [
            "",
            "Error: Cannot find module './routes'",
            "Error: EACCES: permission denied, open '/etc/x'",
        ] {
            assert_eq!(advice(said, "node"), "", "{said}");
        }
    }
}
