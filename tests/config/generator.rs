//! The generator, run as systemd runs it, over the trees in `tests/units/`.
//!
//! Each tree is a small file system with `etc/roundsman` and so on, and in `expected` what the
//! generator must make of it: files as they are, links as files `NAME.link` with their target, and
//! what it says in `messages`. After a change that is meant, write them anew and read the
//! difference: `BLESS=1 cargo nextest run --test suite generator:: && git diff tests/units`.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::common::skip::may_skip;

/// A tree of files by relative path, as in `expected`.
type Tree = BTreeMap<PathBuf, String>;

fn generate(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roundsman"))
        .arg0("/usr/lib/systemd/system-generators/roundsman-generator")
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

fn read(directory: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(current) = directories.pop() {
        let Ok(entries) = fs::read_dir(&current) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(directory).unwrap().to_owned();
            if path.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                let name = format!("{}.link", relative.display());
                tree.insert(name.into(), format!("{}\n", target.display()));
            } else if path.is_dir() {
                directories.push(path);
            } else {
                tree.insert(relative, fs::read_to_string(&path).unwrap());
            }
        }
    }
    tree
}

fn cases() -> Vec<PathBuf> {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/units");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(units).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// A copy of a tree, since the generator keeps in it what it knows.
fn copy(case: &Path) -> TempDir {
    let root = TempDir::new().unwrap();
    let copied = Command::new("cp").arg("-rT").arg(case).arg(root.path()).status().unwrap();
    assert!(copied.success());
    let _ = fs::remove_dir_all(root.path().join("expected"));
    root
}

#[test]
fn every_tree_gives_what_is_expected() {
    let mut wrong = Vec::new();
    for case in cases() {
        let (root, out) = (copy(&case), TempDir::new().unwrap());
        let output =
            generate(&[Path::new("--root"), root.path(), out.path(), out.path(), out.path()]);
        assert!(output.status.success(), "{}: {output:?}", case.display());
        let mut made = read(out.path());
        let said = String::from_utf8(output.stderr).unwrap();
        if !said.is_empty() {
            let root = format!("{}/", root.path().display());
            made.insert("messages".into(), said.replace(&root, "/"));
        }
        let expected = case.join("expected");
        if std::env::var_os("BLESS").is_some() {
            let _ = fs::remove_dir_all(&expected);
            for (path, text) in &made {
                let path = expected.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
        } else if made != read(&expected) {
            wrong.push(format!(
                "{}\n made: {made:#?}\n expected: {:#?}",
                case.display(),
                read(&expected)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn nothing_makes_it_fail() {
    let out = TempDir::new().unwrap();
    let file = out.path().join("file");
    fs::write(&file, "").unwrap();
    let shop = copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/units/01-node"));
    let shop = shop.path().to_owned();
    let root = Path::new("--root");
    for arguments in [
        &[] as &[&Path],
        &[root],
        &[root, Path::new("/nonexistent"), out.path()],
        &[root, &shop, &file], // cannot be written to
        &[root, &file, out.path()],
    ] {
        let output = generate(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    let said = String::from_utf8(generate(&[root, &shop, &file]).stderr).unwrap();
    assert!(said.contains("file/roundsman-watch@shop.service.d/"), "{said}");
}

/// What the generator makes of a file system, by relative path.
fn made_of(root: &Path) -> (Tree, String) {
    let out = TempDir::new().unwrap();
    let output = generate(&[Path::new("--root"), root, out.path()]);
    assert!(output.status.success());
    (read(out.path()), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_mistake_in_a_file_takes_nothing_away() {
    let root = TempDir::new().unwrap();
    let path = |path: &str| root.path().join(path);
    fs::create_dir_all(path("etc/roundsman/apps")).unwrap();
    let good = "command = [\"node\", \"x.js\"]\nenvironment = { A = \"secret\" }\n";
    let front = "[session]\nlisten = \"127.0.0.1:7100\"\npassword-file = \"/etc/passwords\"\n";
    fs::write(path("etc/roundsman/apps/shop.toml"), good).unwrap();
    fs::write(path("etc/roundsman/roundsman.toml"), front).unwrap();
    let (before, said) = made_of(root.path());
    assert_eq!(said, "");
    assert!(!before.values().any(|text| text.contains("secret")), "everybody may read units");

    fs::write(path("etc/roundsman/apps/shop.toml"), "command = [\n").unwrap();
    fs::write(path("etc/roundsman/apps/new.toml"), "command = [\n").unwrap();
    fs::write(path("etc/roundsman/roundsman.toml"), "[session\n").unwrap();
    let (after, said) = made_of(root.path());
    assert_eq!(after, before);
    assert!(said.contains("shop: its units stay as they were"), "{said}");
    assert!(said.contains("new: no units until"), "{said}");
    let kept = path("run/roundsman.generator/apps/shop.json");
    assert!(fs::read_to_string(&kept).unwrap().contains("secret"));

    // A drop-in counts as much as the file itself; so does a file that cannot be read at all.
    fs::write(path("etc/roundsman/apps/shop.toml"), good).unwrap();
    fs::create_dir(path("etc/roundsman/apps/shop.toml.d")).unwrap();
    fs::write(path("etc/roundsman/apps/shop.toml.d/a.toml"), b"\xff").unwrap();
    assert_eq!(made_of(root.path()).0, before);

    // Who takes the files away wants the units away.
    fs::remove_dir_all(path("etc/roundsman/apps")).unwrap();
    fs::remove_file(path("etc/roundsman/roundsman.toml")).unwrap();
    assert_eq!(made_of(root.path()).0, Tree::new());
    assert!(!kept.exists());
}

#[test]
fn a_worker_that_runs_keeps_its_drop_in() {
    let root = copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/units/01-node"));
    fs::create_dir_all(root.path().join("run/roundsman-workers/shop:7")).unwrap();
    let (made, _) = made_of(root.path());
    assert!(made.contains_key(Path::new("roundsman-worker@shop:7.service.d/50-roundsman.conf")));
    assert!(!made.keys().any(|path| path.ends_with("roundsman-worker@shop:7.service.link")));
}

/// An editor that writes a new file and renames it, a mistake with `mv`, a directory that is not mounted.
#[test]
fn workers_that_run_keep_their_units_when_their_file_is_gone() {
    let root = copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/units/01-node"));
    let (before, _) = made_of(root.path());
    fs::create_dir_all(root.path().join("run/roundsman-workers/shop:1")).unwrap();
    fs::remove_dir_all(root.path().join("etc/roundsman/apps")).unwrap();
    for _ in 0..2 {
        let (made, said) = made_of(root.path());
        for kind in ["service", "socket"] {
            let drop_in = format!("roundsman-worker@shop:1.{kind}.d/50-roundsman.conf");
            let drop_in = Path::new(&drop_in);
            assert_eq!(made.get(drop_in), before.get(drop_in), "what runs has what it had");
        }
        assert_eq!(made.len(), 2, "and nothing else is wanted or started: {made:?}");
        assert!(
            said.contains("shop: its units stay as they were before its file went away"),
            "{said}"
        );
    }
    fs::remove_dir(root.path().join("run/roundsman-workers/shop:1")).unwrap();
    assert_eq!(made_of(root.path()).0, Tree::new());
}

/// `app7` and `app30` have the same hash, and `app30` comes first.
#[test]
fn an_app_stays_in_its_network_whatever_others_come() {
    let root = TempDir::new().unwrap();
    let app = |name: &str| {
        let path = root.path().join(format!("etc/roundsman/apps/{name}.toml"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = "command = [\"node\", \"x.js\"]\ntransport = \"tcp\"\nroute = []\n";
        fs::write(path, text).unwrap();
    };
    let address = |tree: &Tree, name: &str| {
        let path = format!("roundsman-worker@{name}:1.socket.d/50-roundsman.conf");
        let text = tree[Path::new(&path)].clone();
        text.lines().find_map(|l| l.strip_prefix("ListenStream=127.")).unwrap().to_owned()
    };
    app("app7");
    let before = address(&made_of(root.path()).0, "app7");
    app("app30");
    let noted = root.path().join("run/roundsman.networks");
    let copies = root.path().join("run/roundsman.generator");
    for lost in [None, Some(&noted), Some(&copies)] {
        match lost {
            Some(lost) if lost.is_dir() => fs::remove_dir_all(lost).unwrap(),
            Some(lost) => fs::remove_file(lost).unwrap(),
            None => {}
        }
        let (made, said) = made_of(root.path());
        assert_eq!(said, "");
        assert_eq!(address(&made, "app7"), before, "{lost:?} is lost");
        assert_ne!(address(&made, "app30"), before);
    }
    // The front reads the same.
    let text = fs::read_to_string(noted).unwrap();
    assert!(text.lines().any(|line| line.starts_with("app7 ")), "{text}");
}

#[test]
fn nothing_is_wanted_whose_drop_in_could_not_be_written() {
    let root = copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/units/01-node"));
    let out = TempDir::new().unwrap();
    fs::write(out.path().join("roundsman-worker@shop:1.service.d"), "in the way").unwrap();
    let output = generate(&[Path::new("--root"), root.path(), out.path()]);
    assert!(output.status.success());
    let made = read(out.path());
    let wants = |unit: &str| {
        made.contains_key(Path::new(&format!("roundsman-app@shop.target.wants/{unit}.link")))
    };
    assert!(!wants("roundsman-worker@shop:1.service"));
    assert!(wants("roundsman-worker@shop:2.service"));
}

#[test]
fn an_app_without_a_user_gets_nobody_elses() {
    let root = TempDir::new().unwrap();
    let path = |path: &str| root.path().join(path);
    fs::create_dir_all(path("etc/roundsman/apps")).unwrap();
    fs::write(path("etc/roundsman/apps/shop.toml"), "command = [\"/bin/x\"]\n").unwrap();
    fs::write(path("etc/passwd"), "rmw-shop:x:1000:1000::/home/x:/bin/sh\n").unwrap();
    let (made, said) = made_of(root.path());
    assert_eq!(made, Tree::new());
    assert!(said.contains("its user would be rmw-shop, which is another's"), "{said}");
}

#[test]
fn a_fifo_or_a_huge_file_does_not_hold_up_the_boot() {
    let root = TempDir::new().unwrap();
    let apps = root.path().join("etc/roundsman/apps");
    fs::create_dir_all(&apps).unwrap();
    assert!(Command::new("mkfifo").arg(apps.join("fifo.toml")).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", apps.join("zero.toml")).unwrap();
    fs::File::create(apps.join("huge.toml")).unwrap().set_len(1 << 40).unwrap();
    fs::write(apps.join("good.toml"), "command = [\"node\", \"x.js\"]\n").unwrap();

    let out = TempDir::new().unwrap();
    let output = generate(&[Path::new("--root"), root.path(), out.path()]);

    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    for name in ["fifo", "zero", "huge"] {
        assert!(said.contains(&format!("apps/{name}.toml: ")), "{said}");
    }
    assert!(out.path().join("roundsman-worker@good:1.service.d/50-roundsman.conf").exists());
}

/// Lets systemd itself read the shipped units with the drop-ins over them.
#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        may_skip("there is no systemd-analyze: apt-get install systemd");
        return;
    };
    assert!(version.status.success());
    for case in cases() {
        let root = TempDir::new().unwrap();
        let units = root.path().join("units");
        fs::create_dir(&units).unwrap();
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            // The program is not installed here; what it is called with is not what is tested.
            let text = text.replace("/usr/bin/roundsman", "/bin/true");
            fs::write(units.join(path.file_name().unwrap()), text).unwrap();
        }
        let root_of_case = copy(&case);
        let output = generate(&[Path::new("--root"), root_of_case.path(), &units]);
        assert!(output.status.success());
        // Named as aliases of their templates: as paths their colons would be taken for that.
        let mut instances = Vec::new();
        let tree = read(&units);
        for directory in tree.keys().filter_map(|path| path.parent()?.to_str()) {
            if let Some(name) = directory.strip_suffix(".d")
                && let Some((_, kind)) = name.rsplit_once('.')
            {
                let template = units.join(format!("roundsman-worker@.{kind}"));
                let alias = format!("{}:{name}", template.display());
                let shipped = units.join(name);
                instances.push(if shipped.exists() {
                    shipped.display().to_string()
                } else {
                    alias
                });
            }
        }
        if instances.is_empty() {
            assert!(case.ends_with("02-empty"), "{}", case.display());
            continue;
        }
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .args(&instances)
            .env("SYSTEMD_UNIT_PATH", format!("{}:", units.display()))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && said.is_empty(), "{}: {said}", case.display());
    }
}
