//! What systemd itself makes of the shipped units with the generated drop-ins over them. Where a
//! tool of systemd's is not installed, its test says so and passes.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The shipped units and what the generator makes of one of the trees in `tests/units`, as a
/// directory that systemd may read.
fn units(case: &Path) -> TempDir {
    let units = TempDir::new().unwrap();
    fs::set_permissions(units.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        // The program is not installed here; what it is called with is not what is tested.
        let text = text.replace("/usr/bin/roundsman", "/bin/true");
        fs::write(units.path().join(path.file_name().unwrap()), text).unwrap();
    }
    let generated = Command::new(env!("CARGO_BIN_EXE_roundsman"))
        .arg0("roundsman-generator")
        .arg("--root")
        .args([case, units.path()])
        .status()
        .unwrap();
    assert!(generated.success());
    units
}

fn cases() -> Vec<PathBuf> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/units");
    fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The instances that have drop-ins, as `roundsman-worker@shop:1.service`.
fn instances(units: &Path) -> Vec<String> {
    let entries = fs::read_dir(units).unwrap();
    let names = entries.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    names.filter_map(|name| Some(name.strip_suffix(".d")?.to_owned())).collect()
}

#[test]
fn systemd_analyze_finds_nothing_wrong() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: no systemd-analyze here");
        return;
    }
    for case in cases() {
        let units = units(&case);
        // Named as aliases of their templates: as paths their colons would be taken for that.
        let names: Vec<String> = instances(units.path())
            .iter()
            .map(|name| {
                let (_, kind) = name.rsplit_once('.').unwrap();
                format!("{}/roundsman-worker@.{kind}:{name}", units.path().display())
            })
            .collect();
        assert_eq!(names.is_empty(), case.ends_with("02-empty"), "{}", case.display());
        if names.is_empty() {
            continue;
        }
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .args(&names)
            .env("SYSTEMD_UNIT_PATH", format!("{}:", units.path().display()))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && said.is_empty(), "{}: {said}", case.display());
    }
}

/// What systemd would do to start an app, as it prints it in its test mode; `None` without systemd.
fn dump(case: &str, target: &str) -> Option<String> {
    let systemd = Path::new("/lib/systemd/systemd");
    if !systemd.exists() {
        eprintln!("skipped: no systemd here");
        return None;
    }
    let units = units(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/units").join(case));
    // The test mode is not for root.
    let mut command = if rustix::process::getuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(systemd);
        command
    } else {
        Command::new(systemd)
    };
    let output = command
        .args(["--test", "--system", "--no-pager", "--unit", target])
        .env("SYSTEMD_UNIT_PATH", format!("{}:", units.path().display()))
        .env("HOME", "/")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}

/// The part of a dump that is about one unit.
fn unit<'a>(dump: &'a str, name: &str) -> &'a str {
    let start =
        dump.find(&format!("-> Unit {name}:\n")).unwrap_or_else(|| panic!("no {name} in {dump}"));
    let rest = &dump[start..];
    &rest[..rest[1..].find("-> Unit ").map_or(rest.len(), |end| end + 1)]
}

#[test]
fn starting_an_app_starts_its_workers_after_their_sockets() {
    let Some(dump) = dump("01-node", "roundsman-app@shop.target") else { return };
    for number in [1, 2] {
        let service = unit(&dump, &format!("roundsman-worker@shop:{number}.service"));
        for line in [
            &format!("Requires: roundsman-worker@shop:{number}.socket "),
            &format!("After: roundsman-worker@shop:{number}.socket "),
            "PartOf: roundsman-app@shop.target ",
            "WorkingDirectory: /srv/shop\n",
            "Environment: NODE_ENV=production\n",
            "User: deploy\n",
            "MemoryMax: 536870912\n",
            "WatchdogSec: 30s\n",
            "LogExtraFields: ROUNDSMAN_APP=shop\n",
        ] {
            assert!(service.contains(line), "{line:?} is not in {service}");
        }
        let socket = unit(&dump, &format!("roundsman-worker@shop:{number}.socket"));
        assert_eq!(socket.matches("ListenStream: ").count(), 1, "{socket}");
        assert!(socket.contains(&format!("ListenStream: 127.72.238.{number}:7080\n")), "{socket}");
        assert!(socket.contains("StopPropagatedFrom: roundsman-app@shop.target "), "{socket}");
    }
}

#[test]
fn values_come_through_systemd_as_they_were_written() {
    let Some(dump) = dump("04-escapes", "roundsman-app@odd_name-1.target") else { return };
    let service = unit(&dump, "roundsman-worker@odd_name-1:1.service");
    for line in [
        r"Environment: BACKSLASH=C:\new\table",
        "Environment: DOLLAR=$HOME ${PATH}",
        "Environment: EMPTY=",
        "Environment: LINES=first\nsecond\tindented",
        "Environment: PERCENT=50% of %i and %%",
        r#"Environment: QUOTES=say "hello" and 'bye'"#,
        "Environment: SPACES=  around  ",
        "Environment: UMLAUT=größer",
        "EnvironmentFile: /etc/shop/%h.env",
        r#"WorkingDirectory: /srv/100% ours/"shop""#,
    ] {
        assert!(service.contains(&format!("{line}\n")), "{line:?} is not in {service}");
    }
}
