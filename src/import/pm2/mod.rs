//! PM2's ecosystem files, evaluated already: apps to app files, option by option.

mod app;
mod background;
mod command;
mod cron;
mod options;
mod rest;
mod restart;
mod value;
mod words;

use std::path::Path;

use serde_json::Value;

use self::app::Place;
use super::{Author, Import, ImportError, Severity};

/// Makes app files of an evaluated ecosystem file.
///
/// `directory` is where the file is, for apps without `cwd`; `environment` chooses `env_NAME`; `to` is
/// where the files will be; `author` is who wrote it, unless it is root or who runs this.
///
/// # Errors
/// When it has no apps.
pub fn import(
    value: &Value,
    directory: &Path,
    environment: Option<&str>,
    to: &Path,
    author: Option<&Author>,
) -> Result<Import, ImportError> {
    let apps: Vec<&Value> = match value {
        Value::Array(apps) => apps.iter().collect(),
        Value::Object(object) => match object.get("apps").or_else(|| object.get("pm2")) {
            Some(Value::Array(apps)) => apps.iter().collect(),
            Some(app @ Value::Object(_)) => vec![app],
            _ if value::script(object).is_some() => vec![value],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    if apps.is_empty() {
        return Err(ImportError {
            at: "the file".to_owned(),
            problem: "there is no list `apps` in it".to_owned(),
        });
    }
    let mut import = Import::default();
    let shares = apps.len() > 1;
    for (index, app) in apps.iter().enumerate() {
        let Some(app) = app.as_object() else {
            import.say(
                Severity::Lost,
                format!("apps[{index}]"),
                "this is no object, and was left out",
            );
            continue;
        };
        let place = Place { directory, to, shares, author };
        app::import(app, index, place, environment, &mut import);
    }
    if let Some(object) = value.as_object() {
        for key in object.keys().filter(|key| !matches!(key.as_str(), "apps" | "pm2")) {
            if value::script(object).is_none() {
                import.say(Severity::Lost, key.clone(), match key.as_str() {
                    "deploy" => "deploying over SSH is not done here: copy the new release, point the app's directory (a link) at it, and run roundsman reload APP",
                    _ => "has no counterpart",
                });
            }
        }
    }
    Ok(import)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::user::User;

    fn imported(app: &Value, author: Option<&Author>) -> (toml_edit::DocumentMut, String) {
        imported_from(app, Path::new("/srv"), author)
    }

    /// The file of the app `a`, and all notes.
    pub(super) fn imported_from(
        app: &Value,
        directory: &Path,
        author: Option<&Author>,
    ) -> (toml_edit::DocumentMut, String) {
        let mut app = app.clone();
        app["name"] = json!("a");
        let app = json!({ "apps": [app] });
        let import = import(&app, directory, None, Path::new("/etc"), author).unwrap();
        let notes: Vec<String> =
            import.notes.iter().map(|note| format!("{}: {}\n", note.at, note.text)).collect();
        (import.files[0].text.parse().unwrap(), notes.concat())
    }

    #[test]
    fn an_author_gives_an_app_no_rights_of_others() {
        let nobody = User::named("nobody").unwrap().unwrap();
        let author = Author::of(&nobody).unwrap();
        let group = crate::base::user::group_name(nobody.gid).unwrap().unwrap();
        let roots = json!({ "script": "a.js", "user": "root", "group": "root" });
        let (file, notes) = imported(&roots, Some(&author));
        assert!(file.get("user").is_none() && file.get("group").is_none(), "{file}");
        assert!(notes.contains("a: user: \"root\" was left out: nobody could have"), "{notes}");
        assert!(notes.contains("a: group: \"root\" was left out"), "{notes}");
        let own = json!({ "script": "a.js", "uid": "nobody", "gid": group });
        let (file, _) = imported(&own, Some(&author));
        assert_eq!(file["user"].as_str(), Some("nobody"));
        assert_eq!(file["group"].as_str(), Some(&*group));
        let (file, _) = imported(&roots, None);
        assert_eq!(file["user"].as_str(), Some("root"), "root may say anything");
    }

    #[test]
    fn nobody_has_code_of_theirs_run_as_another_by_an_import() {
        use std::os::unix::fs::lchown;
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (daemon, bin) = (Some(1), Some(2)); // users that every Debian has
        let root = tempfile::tempdir_in("/root").unwrap();
        let file = root.path().join("server.js");
        std::fs::write(&file, "").unwrap();
        for path in [root.path(), &file] {
            lchown(path, daemon, None).unwrap();
        }
        let user = || {
            let app = json!({ "script": "server.js" });
            let (file, _) = imported_from(&app, root.path(), None);
            file.get("user").and_then(|user| user.as_str()).map(str::to_owned)
        };
        assert_eq!(user().as_deref(), Some("daemon"));
        lchown(&file, bin, None).unwrap();
        assert_eq!(user(), None, "the script is another's");
    }

    #[test]
    fn switches_that_are_texts_and_what_is_watched() {
        for (value, line, note) in [
            (json!("false"), None, "takes for the name of a file"),
            (json!("true"), Some("true"), "takes for the name of a file"),
            (json!(false), None, ""),
            (json!("src"), Some("[\"src\"]"), ""),
            (json!(["./src", "lib/*.js"]), Some("[\"src\", \"lib/*.js\"]"), ""),
            (json!(["../x"]), Some("true"), "cannot be written"),
        ] {
            let (file, notes) = imported(&json!({ "script": "a.js", "watch": value }), None);
            let watch = file.get("watch").map(|item| item.to_string().trim().to_owned());
            assert_eq!(watch.as_deref(), line, "{value}");
            assert_eq!(notes.contains("a: watch: "), !note.is_empty(), "{notes}");
            assert!(notes.contains(note), "{notes}");
        }
    }

    #[test]
    fn every_form_of_cron_is_written_or_named() {
        for (cron, line) in [
            ("0 1 * * *", Some("\"01:00\"")),
            ("0 4 * * 0", Some("\"Sun 04:00\"")),
            ("0 0 13 * 5", Some("[\"*-*-13 00:00\", \"Fri 00:00\"]")),
            ("0 0 L * *", None),
        ] {
            let (file, notes) = imported(&json!({ "script": "a.js", "cron_restart": cron }), None);
            let at = file.get("restart-at").map(|item| item.to_string().trim().to_owned());
            assert_eq!(at.as_deref(), line, "{cron}");
            assert_eq!(notes.contains("a: cron_restart: "), line.is_none(), "{notes}");
        }
    }

    #[test]
    fn several_apps_are_named_and_told_apart() {
        let apps = json!({ "apps": [
            { "script": "dist/web.js" },
            { "name": "Mail Queue", "script": "q.js" },
            { "name": "web", "script": "other.js" },
            { "name": "§", "script": "x.js" },
            "what",
            { "name": "none" }
        ] });
        let import = import(&apps, Path::new("/srv"), None, Path::new("/etc"), None).unwrap();
        let paths: Vec<&str> = import.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["apps/web.toml", "apps/mail-queue.toml", "apps/app-3.toml"]);
        let notes: Vec<String> =
            import.notes.iter().map(|note| format!("{}: {}\n", note.at, note.text)).collect();
        let notes = notes.concat();
        for part in [
            "mail-queue: name: \"Mail Queue\" is \"mail-queue\" here",
            "web: name: another app has this name already; this one was left out",
            "app-3: name: \"§\" is \"app-3\" here",
            "apps[4]: this is no object",
            "apps[5]: it has no `script`",
        ] {
            assert!(notes.contains(part), "{part}: {notes}");
        }
        assert!(!notes.contains("web: name: \""), "its name is what it was: {notes}");
        let has_route: Vec<bool> =
            import.files.iter().map(|f| f.text.contains("route = ")).collect();
        assert_eq!(has_route, [true, false, true], "what serves nobody needs none");
        let one = super::import(&apps["apps"][0], Path::new("/srv"), None, Path::new("/etc"), None);
        assert!(!one.unwrap().files[0].text.contains("route = "), "alone it has every host");
    }

    #[test]
    fn options_that_pm2_does_not_read_as_it_seems() {
        for (app, told, silent) in [
            (json!({ "env_file": ".env" }), "a: env_file: PM2 does not read it", ""),
            (json!({ "env_test": { "A": 1 } }), "a: env_test: was left out; --env test", ""),
            (json!({ "cron_restart": "0" }), "", "a: cron_restart: "),
            (json!({ "cron_restart": 0 }), "", "a: cron_restart: "),
            (json!({ "cron_restart": "5" }), "a: cron_restart: \"5\" was left out", ""),
            (
                json!({ "max_memory_restart": "1.5G" }),
                "a: max_memory_restart: \"1.5G\" is no size",
                "",
            ),
            (json!({}), "a: script: there is no /srv/a.js: build it first", ""),
            (json!({ "cwd": "/opt/a" }), "", "a: script: "),
            (json!({ "script": "npm", "args": "start" }), "", "a: script: "),
        ] {
            let mut whole = json!({ "script": "a.js" });
            whole.as_object_mut().unwrap().extend(app.as_object().unwrap().clone());
            let (_, notes) = imported(&whole, None);
            assert!(notes.contains(told), "{app}: {notes}");
            assert!(silent.is_empty() || !notes.contains(silent), "{app}: {notes}");
        }
    }

    /// `script: "serve"` is no program: PM2 takes its own.
    #[test]
    fn pm2s_own_file_server_is_named_and_left_out() {
        let app = json!({ "name": "docs", "script": "serve", "env": { "PM2_SERVE_PATH": "." } });
        let import =
            import(&json!([app]), Path::new("/srv"), None, Path::new("/etc"), None).unwrap();
        assert!(import.files.is_empty());
        assert!(import.notes[0].text.contains("files are not served here"), "{import:?}");
    }

    #[test]
    fn what_two_options_say_is_said_once() {
        let twice = json!({
            "script": "a.js", "user": "www", "uid": "web", "cron": "0 3 * * *",
            "cron_restart": "0 4 * * *", "kill_timeout": 1000, "killTimeout": 2000, "port": 1,
            "env": { "PORT": 2 }
        });
        let (file, notes) = imported(&twice, None);
        for key in ["user", "restart-at", "stop-timeout"] {
            assert!(file.contains_key(key), "{file}");
            assert!(notes.contains(&format!("a: {key}: two options say this")), "{notes}");
        }
        assert_eq!(file["environment"]["PORT"].as_str(), Some("1"));
    }
}
