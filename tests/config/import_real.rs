//! Configurations as people have them, and all that `roundsman import` makes and says of them: each
//! file in tests/data/import has its whole output beside it. `BLESS=1` writes what it is now.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use roundsman::config::{self, Sources};
use roundsman::import::nginx;
use serde_json::Value;

fn files(kind: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import").join(kind);
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|e| e != "expected")).collect();
    files.sort();
    files
}

/// What the command prints, the place of this checkout left out.
fn output(kind: &str, file: &Path, more: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roundsman"));
    let output = command.args(["import", kind]).arg(file).args(more).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}: {said}", file.display());
    let all = format!("{}--- said\n{said}", String::from_utf8(output.stdout).unwrap());
    let all = all.replace(file.parent().unwrap().to_str().unwrap(), "DIR");
    // Whose this checkout is, its apps run as.
    if std::fs::metadata(file).unwrap().uid() == 0 {
        return all;
    }
    let own = |line: &&str| line.starts_with("user = ") || line.contains(": user: ");
    all.split_inclusive('\n').filter(|line| !own(line)).collect()
}

#[test]
fn real_configurations_come_to_what_is_beside_them() {
    let mut wrong = Vec::new();
    for kind in ["nginx", "pm2"] {
        for file in files(kind) {
            let is = output(kind, &file, &[]);
            let expected = file.with_extension("expected");
            if std::env::var_os("BLESS").is_some() {
                std::fs::write(&expected, &is).unwrap();
            }
            if std::fs::read_to_string(&expected).unwrap_or_default() != is {
                wrong.push(format!("{}:\n{is}", expected.display()));
            }
            // And the files are such as Roundsman takes.
            let directory = tempfile::tempdir().unwrap();
            let to = directory.path().to_str().unwrap();
            let more: &[&str] = if kind == "nginx" { &["--unprotected"] } else { &[] };
            output(kind, &file, &[&["--write", "--to", to], more].concat());
            let loaded = config::load(&Sources::directory(directory.path()));
            assert_eq!(loaded.problems.errors(), 0, "{}", loaded.problems.render(false));
        }
    }
    assert!(wrong.is_empty(), "BLESS=1 accepts this:\n{}", wrong.join("\n"));
}

/// PM2's options that are always so here, or that say where to read what was left out.
const AS_HERE: &[&str] = &[
    "automation",
    "autorestart",
    "exec_mode",
    "force",
    "kill_retry_time",
    "log_date_format",
    "merge_logs",
    "pmx",
    "source_map_support",
    "time",
    "trace",
    "vizion",
];

#[test]
fn every_option_of_pm2_has_an_effect_or_is_always_so_here() {
    let file = files("pm2").remove(0);
    let script = "process.stdout.write(JSON.stringify(require(process.argv[1])))";
    let evaluated = Command::new("node").args(["-e", script]).arg(&file).output().unwrap();
    let value: Value = serde_json::from_slice(&evaluated.stdout).unwrap();
    let options = value["apps"][0].as_object().unwrap();
    let import = |value: &Value| {
        let to = Path::new("/etc/roundsman");
        roundsman::import::pm2::import(value, Path::new("/srv"), None, to, None).unwrap()
    };
    let whole = import(&value);
    for option in options.keys().filter(|option| *option != "script") {
        let mut without = value.clone();
        without["apps"][0].as_object_mut().unwrap().remove(option);
        let silent = import(&without) == whole;
        assert_eq!(silent, AS_HERE.contains(&option.as_str()), "{option}");
    }
}

/// nginx's directives that are always so here, or say nothing without another one.
const NEEDS_NOTHING: &[&str] = &[
    "auth_basic_user_file",
    "default_type",
    "keepalive",
    "keepalive_requests",
    "limit_req_zone",
    "proxy_buffering",
    "proxy_http_version",
    "proxy_redirect",
    "zone",
];

#[test]
fn every_directive_of_nginx_has_an_effect_or_is_always_so_here() {
    let mut wrong = Vec::new();
    for file in files("nginx") {
        let text = std::fs::read_to_string(&file).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("nginx.conf");
        let import = |text: &str| {
            std::fs::write(&copy, text).unwrap();
            nginx::import(&copy, Path::new("/nowhere")).unwrap()
        };
        let whole = import(&text);
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let directive = line.trim();
            let in_map = directive.starts_with("default ") || directive.starts_with(['\'', '"']);
            if !directive.ends_with(';') || directive.contains(['{', '}', '#']) || in_map {
                continue;
            }
            let mut without = lines.clone();
            without[number] = "";
            let name = directive.split([' ', ';']).next().unwrap();
            // Fields that the front sets by itself, and 80, which it has: nothing to say.
            let own =
                ["Upgrade", "Connection", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-Id"];
            let own = own.iter().any(|own| directive.contains(&format!("proxy_set_header {own}")))
                || directive == "proxy_cache_bypass $http_upgrade;";
            // Whom it redirects is the same as whom the other server answers.
            let own =
                own || number < 20 && directive.starts_with("server_name www.example-shop.com");
            let port = directive.starts_with("listen 80") || directive == "listen [::]:80;";
            let silent = import(&without.join("\n")) == whole;
            let expected = NEEDS_NOTHING.contains(&name) || own || port;
            if silent != expected {
                wrong.push(format!("{}:{}: {directive}: {silent}", file.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
