//! `roundsman import pm2`, run as a user runs it, over ecosystem files of each kind.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use roundsman::config::{self, Settings, Sources};

fn import(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roundsman"))
        .args(["import", "pm2"])
        .args(arguments)
        .output()
        .unwrap()
}

/// Not in `/tmp`: root runs no program there.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn data(file: &str) -> String {
    format!("{}/tests/data/pm2/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// Writes the files below a new directory; the settings that they make, and what was said.
fn written(file: &str, more: &[&str]) -> (Settings, String) {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("roundsman");
    let to = to.to_str().unwrap();
    let path = if Path::new(file).is_absolute() { file.to_owned() } else { data(file) };
    let output = import(&[&[path.as_str(), "--write", "--to", to], more].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
    let again = import(&[&[path.as_str(), "--write", "--to", to], more].concat());
    assert_eq!(again.status.code(), Some(1), "files that are there are never overwritten");
    (config::load(&Sources::directory(to)).strict().unwrap(), said)
}

#[test]
fn a_cluster_app_keeps_everything_that_has_a_counterpart() {
    let (settings, said) = written("shop.config.js", &["--env", "production"]);
    let app = &settings.apps["web-shop"];
    assert_eq!(
        app.command,
        ["node", "--max-old-space-size=512", "./dist/server.js", "--color", "never"]
    );
    assert_eq!(app.directory, Some(PathBuf::from("/srv/shop/current")));
    assert_eq!(app.stop_timeout.as_secs(), 5);
    assert_eq!(app.start_timeout.as_secs(), 8);
    assert_eq!(app.ready, config::settings::Ready::Message);
    assert_eq!(app.max_memory, Some(300 * 1024 * 1024));
    assert_eq!(app.supervision.restart_at, ["03:00"]);
    let environment: Vec<(&str, &str)> =
        app.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(environment, [("FLAGS", "{\"a\":1}"), ("NODE_ENV", "production"), ("PORT", "3000")]);
    for option in [
        "name",
        "max_restarts",
        "exp_backoff_restart_delay",
        "out_file",
        "ignore_watch",
        "env_staging",
    ] {
        assert!(said.contains(&format!("web-shop: {option}: ")), "{option} is not named:\n{said}");
    }
    assert!(said.contains("deploy: "), "{said}");
    let restart = &app.supervision.restart;
    assert_eq!((restart.limit, restart.delay.as_millis()), (Some(10), 100));
    for silent in ["web-shop: watch:", "merge_logs", "exec_mode", "loading"] {
        assert!(!said.contains(silent), "{silent}:\n{said}");
    }
}

#[test]
fn several_apps_are_told_apart_by_host() {
    let (settings, said) = written("several.yaml", &[]);
    assert_eq!(settings.apps.keys().collect::<Vec<_>>(), ["api", "site"]);
    let [python, script] = &settings.apps["api"].command[..] else { panic!("{said}") };
    assert!(
        python.starts_with("python") && script == "main.py",
        "as PM2: python, or python3: {said}"
    );
    assert_eq!(settings.apps["api"].workers, 2);
    assert_eq!(settings.apps["site"].command, ["npm", "start"]);
    assert_eq!(settings.apps["site"].directory, Some(data("site").into()));
    assert_eq!(settings.routes.len(), 2);
    for part in [
        "api: shutdown_with_message: only Node apps",
        "site: instances",
        "site: namespace",
        "site: speed",
        "api: name",
        "apps[3]",
        "site: route",
    ] {
        assert!(said.contains(part), "{part} is not named:\n{said}");
    }
}

#[test]
fn json_is_fine_too() {
    let (settings, said) = written("one.json", &[]);
    let app = &settings.apps["one"];
    assert_eq!((app.user.as_deref(), app.environment["PORT"].as_str()), (Some("deploy"), "8080"));
    assert!(said.contains("one: gid") && said.contains("one: watch"), "{said}");
    assert_eq!(app.supervision.stop_exit_codes, [0, 3].into());
    assert_eq!(app.supervision.watch, Some(config::settings::Watch::All));
    assert!(!said.contains("autorestart"), "{said}");
}

/// What PM2 takes for a value of a program's, and people keep.
#[test]
fn json_may_have_comments_single_quotes_and_last_commas() {
    let directory = folder();
    let file = directory.path().join("ecosystem.json");
    let text =
        "{\n // weekly\n \"apps\": [{ \"name\": 'reports', \"script\": \"report.js\", /* leaks */
                \"cron_restart\": \"0 4 * * 0\", \"args\": [\"--out\", \"/srv\",],},],\n} // end";
    std::fs::write(&file, text).unwrap();
    let (settings, _) = written(file.to_str().unwrap(), &[]);
    let app = &settings.apps["reports"];
    assert_eq!(app.command, ["node", "report.js", "--out", "/srv"]);
    assert_eq!(app.supervision.restart_at, ["Sun 04:00"]);
}

/// YAML 1.2 has no other words for true and false than these.
#[test]
fn yaml_is_read_as_pm2_reads_it() {
    let directory = folder();
    let file = directory.path().join("ecosystem.yaml");
    let text = "apps:\n  - name: y\n    script: app.js\n    args: [a, no, 007, 1.50]\n    env:\n      A: no\n      \
                B: yes\n      C: on\n      D: 0o17\n      E: 017\n      H: 1e3\n      J: 0x1F\n      K: .5\n      \
                M: 12:30\n      N: True\n      Q: 1.0\n      T: 3.140\n      U: +5\n      X: OFF\n      Y: y\n      Z: TRUE\n";
    std::fs::write(&file, text).unwrap();
    let (settings, _) = written(file.to_str().unwrap(), &[]);
    let app = &settings.apps["y"];
    assert_eq!(app.command, ["node", "app.js", "a", "no", "7", "1.5"]);
    let environment: Vec<String> =
        app.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let as_pm2 = "A=no B=yes C=on D=15 E=17 H=1000 J=31 K=0.5 M=12:30 N=true Q=1 T=3.14 U=5 \
                  X=OFF Y=y Z=true";
    assert_eq!(environment.join(" "), as_pm2);
}

/// Beside it, and above, others could put modules for it.
#[test]
fn root_runs_no_program_below_a_directory_for_everybody() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let directory = folder();
    if std::fs::metadata(directory.path()).unwrap().uid() != 0 {
        return; // whoever is not root runs what they like
    }
    let at = |name: &str| directory.path().join(name);
    std::fs::create_dir_all(at("tmp/mine")).unwrap();
    std::fs::set_permissions(at("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    std::fs::write(at("tmp/mine/a.js"), "module.exports = require('theirs')\n").unwrap();
    std::fs::create_dir(at("tmp/node_modules")).unwrap();
    std::fs::write(at("tmp/node_modules/theirs.js"), "module.exports = { script: 'x.js' }\n")
        .unwrap();
    std::fs::write(at("tmp/mine/a.yaml"), "apps: [{script: x.js}]\n").unwrap();
    let output = import(&[at("tmp/mine/a.js").to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("everybody may put files into") && said.contains("/root"), "{said}");
    assert!(import(&[at("tmp/mine/a.yaml").to_str().unwrap()]).status.success(), "no program");
}

#[test]
fn what_cannot_be_understood_is_refused_with_a_reason() {
    let directory = folder();
    for (name, text, part) in [
        ("throws.js", "throw new Error('no way')", "no way"),
        ("empty.js", "module.exports = {}", "no list `apps`"),
        ("bad.yaml", "apps: [", "not valid YAML"),
        ("none.json", "3", "no list `apps`"),
    ] {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        let output = import(&[path.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(part), "{name}: {said}");
    }
    assert_eq!(import(&["/no/such/file.js"]).status.code(), Some(1));
}

/// Passwords are nobody's business but root's; what the app gets is the same.
#[test]
fn a_program_has_nothing_of_the_terminal() {
    let directory = folder();
    let file = directory.path().join("ecosystem.config.js");
    let open = "(() => { try { require('node:fs').openSync('/dev/tty'); return 'open' } \
                catch { return 'closed' } })()";
    std::fs::write(
        &file,
        format!("module.exports = {{ apps: [{{ script: 'a.js', args: 'tty-is-' + {open} }}] }}\n"),
    )
    .unwrap();
    let command = format!("{} import pm2 {}", env!("CARGO_BIN_EXE_roundsman"), file.display());
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("tty-is-closed"), "{said}");
}

#[test]
fn secrets_go_into_a_file_of_their_own() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = folder();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(
        at("ecosystem.json"),
        r#"{"apps": [{"name": "till", "script": "till.js", "env": {"PORT": 3000,
            "DB_PASSWORD": "hunter2", "DATABASE_URL": "postgres://u:pw@db/till", "API_TOKEN": "t"}}]}"#,
    )
    .unwrap();
    let to = at("roundsman").to_str().unwrap().to_owned();
    let path = at("ecosystem.json").to_str().unwrap().to_owned();
    let shown = import(&[&path, "--to", &to]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(!text.contains("hunter2") && text.contains("DB_PASSWORD=…"), "{text}");
    let output = import(&[&path, "--write", "--to", &to]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let secret = at("roundsman/apps/till.env");
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&secret).unwrap();
    for line in
        ["DB_PASSWORD=\"hunter2\"", "DATABASE_URL=\"postgres://u:pw@db/till\"", "API_TOKEN=\"t\""]
    {
        assert!(text.contains(line), "{text}");
    }
    let settings = config::load(&Sources::directory(to)).strict().unwrap();
    let app = &settings.apps["till"];
    assert_eq!(app.environment.keys().collect::<Vec<_>>(), ["PORT"]);
    assert_eq!(app.environment_files, [secret]);
}
