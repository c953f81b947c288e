//! What is typed first by who comes from PM2.

use std::os::unix::fs::MetadataExt as _;

use super::{Machine, service};

fn with_blog() -> Option<Machine> {
    let machine = Machine::with_shop(1, "")?;
    machine.write(
        "etc/roundsman/apps/blog.toml",
        "command = [\"/bin/true\"]\nroute = [{ host = \"blog.example\" }]\n",
    );
    machine.systemd.run("roundsman-worker@blog:1.service");
    machine.systemd.run("roundsman-app@blog.target");
    Some(machine)
}

#[test]
fn all_means_every_app() {
    let Some(machine) = with_blog() else { return };
    let blog = "roundsman-worker@blog:1.service";
    let said = machine.must("restart all");
    assert!(said.stdout.contains("blog has restarted\nshop has restarted"), "{said:?}");
    let said = machine.must("reload all --settle 0");
    assert!(said.stderr.contains("blog is deployed") && said.stderr.contains("shop is deployed"));
    machine.must("stop all");
    assert_eq!([machine.systemd.state(&service(1)), machine.systemd.state(blog)], ["inactive"; 2]);
    machine.must("delete all --yes");
    let said = machine.run("stop all");
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.stderr.contains("there are no apps yet: roundsman start"), "{said:?}");
}

#[test]
fn a_word_that_is_none_here_says_what_to_type() {
    let Some(machine) = with_blog() else { return };
    let said = machine.run("save");
    assert_eq!(said.status, 2, "{said:?}");
    assert!(said.stderr.contains("starts at boot once it was started"), "{said:?}");
    let said = machine.must("logs");
    assert!(said.stdout.contains("+ _SYSTEMD_SLICE=roundsman-workers.slice"), "{said:?}");
}

#[test]
fn a_secret_on_the_command_line_is_read_by_root_alone() {
    let Some(machine) = Machine::with_shop(1, "") else { return };
    let said = machine.must("start shop --env DB_PASSWORD=geheim --env A=b --watch");
    assert!(!said.stderr.contains("geheim"), "{said:?}");
    let read = |name: &str| std::fs::read_to_string(machine.path(name)).unwrap();
    let file = read("etc/roundsman/apps/shop.toml");
    assert!(!file.contains("geheim") && file.contains("A = \"b\""), "{file}");
    assert!(file.contains("watch = true"), "{file}");
    assert!(file.contains("environment-files = [\"/etc/roundsman/apps/shop.env\"]"), "{file}");
    assert!(read("etc/roundsman/apps/shop.env").contains("DB_PASSWORD=\"geheim\""));
    let mode = std::fs::metadata(machine.path("etc/roundsman/apps/shop.env")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
}
