//! Whose a name is: no app takes another's place because it has the same name.

use std::fs;
use std::path::Path;

use super::failure::{Done, Failure};
use super::whose::{self, Whose};
use crate::base::origin::{self, Maker};
use crate::base::user::User;
use crate::config::Loaded;
use crate::config::settings::{App, HostPattern, RouteTarget};
use crate::start::file::Change;

/// Fails when the app with this name is another one than that which is in `directory`: it has another
/// directory, or runs as another user than the one whose the directory is by now. `whose` is nothing
/// where it was said as whom to run; `of_directory` is the same without the files that are in it.
/// `unnamed` is the file that was given where no name was: another file of the folder is another app.
pub(super) fn refuse(
    loaded: &Loaded,
    name: &str,
    unnamed: Option<&Path>,
    directory: &Path,
    whose: Option<&Whose>,
    of_directory: &Whose,
) -> Done {
    let Some(file) = loaded.app_files.get(name) else { return Ok(()) };
    let Some(app) = loaded.settings.apps.get(name) else {
        return Err(Failure::config(format!(
            "{} has errors, so it cannot be told whether it is this app: mend it (roundsman check \
             says how), give this one another name with --name, or replace that one with --replace",
            file.display()
        )));
    };
    let why = match (other_directory(app, directory), whose) {
        (None, Some(whose)) => other_owner(app, directory, whose, of_directory)?,
        (why, _) => why,
    };
    let why = why.or_else(|| other_program(app, unnamed?));
    why.map_or(Ok(()), |why| {
        Err(Failure::new(format!(
            "there is another app \"{name}\" already ({}): {why}. Give this one a name of its own with \
             --name, or have it take the other's place with --replace",
            file.display()
        )))
    })
}

/// Fails when a new app would be for every host as another one is already.
pub(super) fn refuse_route(loaded: &Loaded, name: &str, change: &Change) -> Done {
    let (host, path) = change.route.clone().unwrap_or_default();
    let wanted = (host.as_deref(), path.as_deref().unwrap_or("/"));
    let other = loaded.settings.routes.iter().find_map(|route| {
        let host = match &route.host {
            HostPattern::Any => None,
            HostPattern::Exact(host) => Some(host.as_str()),
            HostPattern::Wildcard(_) => return None,
        };
        match &route.target {
            RouteTarget::App(app) if app != name && (host, route.path.as_str()) == wanted => {
                Some(app)
            }
            _ => None,
        }
    });
    other.map_or(Ok(()), |app| {
        let what = match &host {
            Some(host) => format!("{host}{}", wanted.1),
            None if wanted.1 == "/" => "every host".to_owned(),
            None => format!("{} of every host", wanted.1),
        };
        let proposed = format!("{name}.example.com");
        let own = if host.as_deref() == Some(proposed.as_str()) {
            "another host (--host)".to_owned()
        } else {
            format!("a host of its own (--host {proposed})")
        };
        Err(Failure::config(format!(
            "\"{app}\" answers {what} already; nothing was changed. Give this one {own}, or a path \
             (--path /{name})"
        )))
    })
}

fn other_directory(app: &App, directory: &Path) -> Option<String> {
    let Some(present) = app.directory.as_deref() else {
        return Some("it has no directory".to_owned());
    };
    let physical = |path: &Path| fs::canonicalize(path).ok();
    let same = present == directory
        || physical(present).is_some_and(|present| Some(present) == physical(directory));
    (!same).then(|| format!("it is in {}, this one in {}", present.display(), directory.display()))
}

/// A word of its command, or of what a shell is told, may name the file with its folder, without its ending,
/// or as a module of Python's.
fn other_program(app: &App, file: &Path) -> Option<String> {
    let wanted = file.file_stem()?;
    let is_it = |word: &str| {
        let path = Path::new(word.split(':').next().unwrap_or(word));
        path.file_stem() == Some(wanted) || path.file_name() == Some(wanted)
    };
    let between = |c: char| c.is_whitespace() || matches!(c, '\'' | '"');
    let mut words = app.command.iter().flat_map(|word| word.split(between));
    let runs = || format!("it runs {}, this one {}", app.command.join(" "), file.display());
    (!words.any(is_it)).then(runs)
}

/// The app would run the code of whose the directory is as somebody else; or it cannot be told whose.
fn other_owner(
    app: &App,
    directory: &Path,
    whose: &Whose,
    of_directory: &Whose,
) -> Done<Option<String>> {
    if app.user.is_none() && app.directory.as_deref() == Some(directory) && whose == of_directory {
        return Ok(None); // as it was: nobody gets a right by it
    }
    let uid = match whose {
        Err(reason) => return Err(whose::not_one(directory, reason)),
        Ok(Maker::Root) => return Ok(None),
        Ok(Maker::User(uid)) => *uid,
    };
    let number = |name: &str| match User::named(name) {
        Ok(Some(user)) => Some(user.uid),
        _ => name.parse().ok(),
    };
    let same = app.user.as_deref().is_some_and(|user| number(user) == Some(uid));
    let runs_as = app.user.as_deref().unwrap_or("a user of its own");
    let whose = origin::name_of(uid);
    Ok((!same)
        .then(|| format!("it runs as {runs_as}, and {} belongs to {whose}", directory.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn a_second_app_is_told_to_have_a_host_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("apps")).unwrap();
        let shop = "command = [\"/bin/true\"]\nroute = [{ path = \"/\" }, { host = \"a.example\", path = \"/x\" }]\n";
        fs::write(root.path().join("apps/shop.toml"), shop).unwrap();
        let loaded = load(&Sources::directory(root.path()));
        assert_eq!(loaded.problems.errors(), 0, "{}", loaded.problems);
        let refused = |name: &str, route: Option<(&str, &str)>| {
            let own = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let route = route.map(|(host, path)| (own(host), own(path)));
            let change = Change { route, ..Change::default() };
            refuse_route(&loaded, name, &change).err().map(|failure| failure.message)
        };
        let said = refused("blog", None).unwrap();
        assert!(said.contains("\"shop\" answers every host already"), "{said}");
        assert!(
            said.contains("--host blog.example.com") && said.contains("--path /blog"),
            "{said}"
        );
        assert!(refused("blog", Some(("a.example", "/x"))).is_some());
        for other in [("b.example", ""), ("", "/blog"), ("a.example", "/")] {
            assert_eq!(refused("blog", Some(other)), None, "{other:?}");
        }
        assert_eq!(refused("shop", None), None, "it is its own");
    }

    #[test]
    fn another_file_of_the_folder_is_another_app() {
        let other = |command: &[&str], file: &str| {
            let text = format!("command = {command:?}\n");
            let app = crate::config::sample::shop(&text).apps.remove("shop").unwrap();
            other_program(&app, Path::new(file)).is_some()
        };
        for (command, file) in [
            (&["node", "server.js"][..], "server.js"),
            (&["node", "--import", "tsx", "src/server.ts"], "./src/server.ts"),
            (&["/srv/shop/venv/bin/uvicorn", "main:app", "--fd", "3"], "main.py"),
            (&["/srv/shop/shop"], "shop"),
            (&["node", "./bin/www"], "/srv/shop/bin/www"),
            (&["/bin/sh", "-c", "exec /usr/bin/ruby 'lib/serve.rb' -p $PORT"], "serve.rb"),
        ] {
            assert!(!other(command, file), "{command:?} {file}");
        }
        assert!(other(&["node", "server.js"], "consumer.js"));
        assert!(other(&["/srv/shop/venv/bin/uvicorn", "main:app"], "worker.py"));
    }

    #[test]
    fn an_app_runs_the_code_of_nobody_else() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("apps")).unwrap();
        fs::create_dir(root.path().join("code")).unwrap();
        let code = root.path().join("code");
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&code, &link).unwrap();
        let refused_with = |user: &str, directory: &Path, whose: Option<Whose>, of_it: &Whose| {
            let text =
                format!("command = [\"/bin/true\"]\ndirectory = \"{}\"\n{user}\n", code.display());
            fs::write(root.path().join("apps/shop.toml"), text).unwrap();
            let loaded = load(&Sources::directory(root.path()));
            assert_eq!(loaded.problems.errors(), 0, "{}", loaded.problems);
            let refused = refuse(&loaded, "shop", None, directory, whose.as_ref(), of_it);
            refused.err().map(|failure| failure.message)
        };
        let refused = |user: &str, directory: &Path, whose: Option<Whose>| {
            let of_it = whose.clone().unwrap_or(Ok(Maker::Root));
            refused_with(user, directory, whose, &of_it)
        };
        let (daemon, bin) = (Ok(Maker::User(1)), Ok(Maker::User(2)));
        let several: Whose = Err("two".to_owned());
        for (user, directory, whose) in [
            ("user = \"daemon\"", &code, Some(daemon.clone())),
            ("user = \"daemon\"", &link, Some(daemon.clone())),
            ("user = 1", &link, Some(daemon.clone())),
            ("user = \"daemon\"", &link, Some(Ok(Maker::Root))),
            ("user = \"daemon\"", &link, None),
            ("", &link, Some(Ok(Maker::Root))),
            ("", &code, Some(several.clone())),
            ("", &code, Some(daemon.clone())),
        ] {
            assert_eq!(refused(user, directory, whose.clone()), None, "{user} {whose:?}");
        }
        // A link to the app's own code can lead elsewhere tomorrow.
        for (user, directory, whose, why) in [
            ("user = \"daemon\"", &link, bin.clone(), "it runs as daemon, and"),
            ("user = \"daemon\"", &code, bin, "belongs to bin"),
            ("user = \"daemon\"", &link, several.clone(), "--user NAME"),
            ("", &link, several, "--user NAME"),
            ("", &link, daemon.clone(), "a user of its own, and"),
        ] {
            let said = refused(user, directory, Some(whose)).expect(user);
            assert!(said.contains(why), "{said}");
        }
        // The directory is as it was, and the file that is named now is another's.
        let said = refused_with("", &code, Some(daemon), &Ok(Maker::Root)).expect("a stranger's");
        assert!(said.contains("a user of its own, and"), "{said}");
    }
}
