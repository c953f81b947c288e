//! What the configuration expects of the machine and does not find there.
//!
//! Apart from loading on purpose: the generator runs before file systems are mounted, and a
//! configuration may be checked on another machine than its own.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, TableLike};

use super::diagnostic::{Problem, Severity};
use super::load::Loaded;
use super::secrecy;
use super::settings::App;
use super::valkey;
use crate::base::file::{self, Links};
use crate::base::origin;
use crate::base::program::{self, SERVICE_PATH};
use crate::base::rights::Rights;
use crate::base::user::{self, ROUNDSMAN, User};

/// Why an environment file, a program or another file of an app counts as missing.
const NO_START: &str = "without it the app does not start";

/// An error for every file that the front may not read, and a warning for everything else that would
/// keep an app from starting on this machine as it is now.
pub(crate) fn missing(loaded: &Loaded) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for app in loaded.settings.apps.values() {
        if let Some(file) = loaded.app_files.get(&app.name) {
            warnings.extend(of_app(app).into_iter().map(|Finding { title, help, .. }| {
                Problem::file(Severity::Warning, file, title).help(help)
            }));
        }
    }
    warnings.extend(exposed(loaded));
    // Without the package there is no such user, and nobody to read them.
    if let Some(rights) = User::named(ROUNDSMAN).ok().flatten().and_then(|u| Rights::of(&u).ok()) {
        warnings.extend(unreadable(loaded, &rights));
    }
    warnings
}

/// The most that is read of a file of variables.
const MOST: u64 = 1024 * 1024;

/// Everything that surely keeps an app from starting as the machine is now, with what to do about it.
pub(crate) fn obstacles(app: &App) -> Vec<(String, String)> {
    let stops = of_app(app).into_iter().filter(|finding| finding.stops);
    stops.map(|Finding { title, help, .. }| (title, help)).collect()
}

/// What is unwise about an app as the machine is now, with what to do about it.
pub(crate) fn warnings(app: &App) -> Vec<(String, String)> {
    let unwise = of_app(app).into_iter().filter(|finding| !finding.stops);
    unwise.map(|Finding { title, help, .. }| (title, help)).collect()
}

/// Something that an app expects and that is otherwise.
#[derive(Debug)]
struct Finding {
    title: String,
    help: String,
    /// Whether the app cannot start because of it.
    stops: bool,
}

impl Finding {
    fn stops(title: String, help: String) -> Self {
        Self { title, help, stops: true }
    }
}

/// An error for every file that cannot be read with these rights, which are the front's: it would
/// refuse the reload.
fn unreadable(loaded: &Loaded, rights: &Rights) -> Vec<Problem> {
    let read = |path: &Path| rights.with(|| file::open(path, Links::Follow).map(drop));
    let denied = |path: &&PathBuf| matches!(read(path), Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied);
    let problem = |path: &PathBuf| {
        let title = format!("the front, which is the user {ROUNDSMAN}, may not read this file");
        Problem::file(Severity::Error, path, title).help(format!(
            "`chgrp roundsman {0} && chmod 640 {0}`; directories on the way must let it in too",
            path.display()
        ))
    };
    loaded.paths.iter().filter(denied).map(problem).collect()
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

fn of_app(app: &App) -> Vec<Finding> {
    let mut found = Vec::new();
    let rights = rights_of(app);
    let look = |path: &Path| look(path, &rights);
    if let Some(directory) = &app.directory {
        // Not being allowed to look, as somebody other than root, says nothing.
        match look(directory) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => found.push(Finding::stops(
                format!("{} is no directory", directory.display()),
                "correct `directory`".to_owned(),
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => found.push(Finding::stops(
                format!("the directory {} is not there", directory.display()),
                "create it, or correct `directory`".to_owned(),
            )),
            Err(_) => {}
        }
    }
    found.extend(of_whom(app));
    if app.valkey_of().is_some() && valkey::program().is_none() {
        found.push(Finding::stops(
            "session = \"valkey\", and there is no Valkey server on this machine".to_owned(),
            "`apt install valkey-server`, on Debian 12 `apt install redis-server`; what Debian starts of it by \
             itself is of no use to the app: `systemctl disable --now valkey-server` or `redis-server`"
                .to_owned(),
        ));
    }
    found.extend(rights.with(|| of_name(app)).ok().flatten());
    for (name, path) in &app.supervision.credentials {
        // Not being allowed to look says nothing.
        if look(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            found.push(Finding::stops(
                format!("the file {} of the credential {name} is not there", path.display()),
                format!("create it, or correct `credentials`: {NO_START}"),
            ));
        }
    }
    if let Some(program) = app.command.first().filter(|program| program.contains('/')) {
        let path = app.directory.as_deref().unwrap_or(Path::new("/")).join(program);
        match look(&path) {
            Ok(metadata) if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 => {
                let help = format!("`chmod +x {}`, or correct `command`", path.display());
                found.push(Finding::stops(format!("{} cannot be executed", path.display()), help));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => found.push(Finding::stops(
                format!("the program {} is not there", path.display()),
                "install it, or correct `command`".to_owned(),
            )),
            _ => {}
        }
    }
    for file in &app.environment_files {
        match look(file) {
            Ok(metadata) if metadata.permissions().mode() & 0o004 != 0 => {
                found.extend(rights.with(|| open_secrets(file)).ok().flatten());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => found.push(Finding::stops(
                format!("the environment file {} is not there", file.display()),
                format!("create it, or correct `environment-files`: {NO_START}"),
            )),
            _ => {}
        }
    }
    found
}

/// A file of variables that everybody may read, with what looks like a secret in it.
fn open_secrets(path: &Path) -> Option<Finding> {
    let text = file::read_text(path, Links::Follow, MOST).ok()?;
    let variables = text.lines().filter_map(|line| line.split_once('='));
    let names: Vec<&str> = variables
        .map(|(name, value)| (name.trim().trim_start_matches("export ").trim(), value.trim()))
        .filter(|(name, value)| !name.starts_with('#') && secrecy::is_secret(name, value))
        .map(|(name, _)| name)
        .collect();
    if names.is_empty() {
        return None;
    }
    let (path, names) = (path.display(), names.join(", "));
    Some(Finding {
        title: format!("everybody may read {path}, and a secret in it: {names}"),
        help: format!("`chmod 600 {path}`; the app gets what is in it all the same"),
        stops: false,
    })
}

/// The rights of the app's user.
pub(crate) fn rights_of(app: &App) -> Rights {
    let of_user = |user: &str| {
        let own = account(user).and_then(|user| Rights::of(&user).ok());
        own.or_else(|| user.parse().ok().map(Rights::of_number))
    };
    let rights = app.user.as_deref().and_then(of_user).unwrap_or_else(Rights::of_nobody);
    let group = app.group.as_deref();
    let number = group.and_then(|group| group.parse().ok().or(user::group(group).ok().flatten()));
    match number {
        Some(number) => rights.in_group(number),
        None => rights,
    }
}

/// What is at a path: as the app's user sees it.
fn look(path: &Path, rights: &Rights) -> io::Result<fs::Metadata> {
    as_users(path, rights, |path| fs::metadata(path))
}

/// Where a path leads: as the app's user sees it.
///
/// # Errors
/// When it leads nowhere, or where that user may not go.
pub(crate) fn leads_to(app: &App, path: &Path) -> io::Result<PathBuf> {
    as_users(path, &rights_of(app), |path| fs::canonicalize(path))
}

/// Looks with the rights of the app's user where somebody beside root has made a part of the way. Who owns
/// the app's folder could otherwise ask, by a link in it, what there is where only root may look.
fn as_users<T: Send>(
    path: &Path,
    rights: &Rights,
    look: impl FnOnce(&Path) -> io::Result<T> + Send,
) -> io::Result<T> {
    if origin::is_roots(path) {
        return look(path);
    }
    rights.with(|| look(path))?
}

/// The user and the group that nobody has made.
fn of_whom(app: &App) -> Vec<Finding> {
    let is_number = |name: &str| name.parse::<u32>().is_ok();
    let mut found = Vec::new();
    if let Some(name) = app.user.as_deref().filter(|name| !is_number(name))
        && matches!(User::named(name), Ok(None))
    {
        let help = format!("`adduser --system --group {name}`, or leave `user` out");
        found.push(Finding::stops(format!("there is no user {name}"), help));
    }
    if let Some(name) = app.group.as_deref().filter(|name| !is_number(name))
        && matches!(user::group(name), Ok(None))
    {
        let help = format!("`addgroup --system {name}`");
        found.push(Finding::stops(format!("there is no group {name}"), help));
    }
    found.extend(member(app).map(|(title, help)| Finding { title, help, stops: false }));
    found
}

/// That the app's user may administer Roundsman, and what to do about it.
fn member(app: &App) -> Option<(String, String)> {
    let user = account(app.user.as_deref()?)?;
    let group = user::group(ROUNDSMAN).ok()??;
    let is_member = user.uid != 0 && user::groups_of(&user).ok()?.contains(&group);
    let title = format!("the app's user {} is in the group {ROUNDSMAN}", user.name);
    let help = format!(
        "such an app may become a member itself, by what it leaves in its user's home. Give it a user of its \
         own: leave `user` out, or `adduser --system --group {}` and name that one",
        app.name
    );
    is_member.then_some((title, help))
}

fn account(user: &str) -> Option<User> {
    let found = user.parse().map_or_else(|_| User::named(user), User::numbered);
    found.ok().flatten()
}

/// A program that is looked for by its name.
fn of_name(app: &App) -> Option<Finding> {
    let name = app.command.first().filter(|program| !program.contains('/'))?;
    let path = app.environment.get("PATH").map_or(SERVICE_PATH, String::as_str);
    if name.is_empty() || program::find(name, path).is_some() {
        return None;
    }
    Some(Finding {
        title: format!("there is no program \"{name}\" in {path}"),
        help: "install it, or write its whole path in `command`".to_owned(),
        // One of these may have another search path.
        stops: app.environment_files.is_empty(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn what_is_not_there_is_a_warning_and_what_is_there_is_none() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let there = |name: &str, mode: u32| {
            let path = root.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        there("run", 0o755);
        there("plain", 0o644);
        there("secret.env", 0o600);
        there("open.env", 0o644);
        let variables = "# A_SECRET=x\nPORT=1\nexport DB_PASSWORD=x\n";
        fs::write(root.path().join("open.env"), variables).unwrap();
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
            ("sh", app("sh", &format!("{directory}"), &format!("{directory}/secret.env"))),
            ("a", app("./gone", &format!("{directory}/nowhere"), &format!("{directory}/open.env"))),
            ("b", app("./plain", &format!("{directory}"), &format!("{directory}/gone.env"))),
            (
                "c",
                app("no-such-program", &format!("{directory}"), &format!("{directory}/secret.env"))
                    + "user = \"no-such-user\"\ngroup = \"no-such-group\"\n\
                       credentials = { key = \"/no/such/key\" }\n",
            ),
            (
                "d",
                app("run", &format!("{directory}"), &format!("{directory}/secret.env"))
                    + &format!("environment = {{ PATH = \"{directory}\" }}\nuser = \"root\"\n"),
            ),
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
                "everybody may read D/open.env, and a secret in it: DB_PASSWORD",
                "D/./plain cannot be executed",
                "the environment file D/gone.env is not there",
                "there is no user no-such-user",
                "there is no group no-such-group",
                "there is no program \"no-such-program\" in /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
                "the file /no/such/key of the credential key is not there",
            ]
        );
        // What is only unwise, or not sure, keeps nobody from starting.
        let stops = |app: &str| obstacles(&loaded.settings.apps[app]).len();
        assert_eq!(["fine", "sh", "a", "b", "c", "d"].map(stops), [0, 0, 2, 2, 3, 0]);
    }

    #[test]
    fn links_of_somebody_else_do_not_ask_what_only_root_may_see() {
        if !rustix::process::geteuid().is_root() {
            return; // has no more rights than the links' maker
        }
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let closed = root.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("there"), "").unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let link = root.path().join("link");
        let told = |leads_to: &str| {
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(closed.join(leads_to), &link).unwrap();
            let link = link.display();
            let text = format!(
                "command = [\"{link}\"]\ndirectory = \"{link}\"\nenvironment-files = [\"{link}\"]\n\
                 credentials = {{ key = \"{link}\" }}\nuser = \"12345\"\nroute = []\n"
            );
            obstacles(&crate::config::sample::shop(&text).apps["shop"])
        };
        assert_eq!(told("there"), told("gone"));
    }

    #[test]
    fn a_file_that_the_front_may_not_read_is_an_error() {
        if !rustix::process::geteuid().is_root() {
            return; // whose own files are not to be read by others is for root to find out
        }
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("apps")).unwrap();
        let file = root.path().join("apps/shop.toml");
        fs::write(&file, "command = [\"/bin/true\"]\n").unwrap();
        let errors = |directory: u32, mode: u32| {
            fs::set_permissions(root.path(), fs::Permissions::from_mode(directory)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let loaded = load(&Sources::directory(root.path()));
            let found = unreadable(&loaded, &Rights::of_nobody());
            assert!(found.iter().all(Problem::is_error), "{found:?}");
            found.len()
        };
        assert_eq!(errors(0o755, 0o644), 0);
        assert_eq!(errors(0o755, 0o600), 1);
        assert_eq!(errors(0o700, 0o644), 1, "nor what is in a directory that it may not enter");
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
