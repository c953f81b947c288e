//! What libraries do over the session store, and over an app's own Valkey server: the table in docs/sessions.md,
//! each row by the library itself (`make stores`).

use std::collections::BTreeMap;

use crate::harness::{Debian, Machine, Under};

/// The scripts in `zoo/programs/stores`, each for the libraries of its language.
const SCRIPTS: [&str; 4] = ["node check.js", "python3 check.py", "php check.php", "ruby check.rb"];

/// What each library has said, by its name.
type Said = BTreeMap<String, String>;

fn all(machine: &Machine, socket: &str, password: &str) -> Said {
    let mut said = Said::new();
    for script in SCRIPTS {
        let lines = machine.try_run(&format!(
            "cd /opt/stores && REDIS_SOCKET={socket} REDIS_USERNAME=shop REDIS_PASSWORD={password} {script} 2> /tmp/said"
        ));
        for line in lines.stdout.lines() {
            let (name, what) = line.split_once(": ").unwrap_or((line, ""));
            said.insert(name.to_owned(), what.to_owned());
        }
        if !lines.ok() {
            println!("{script}: {}", machine.run("tail -n 5 /tmp/said"));
        }
    }
    said
}

/// The rows of the table: whether the session store is enough for each library.
fn documented() -> BTreeMap<String, bool> {
    let page = include_str!("../../docs/sessions.md");
    let table =
        page.split("| library | `session = true` |").nth(1).expect("the page has the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let name = cells.next().expect("a name").to_owned();
        let embedded = cells.next().expect("what the store does");
        assert_eq!(cells.next(), Some("works"), "{name}");
        assert!(embedded == "works" || embedded.starts_with("no: "), "{name}: {embedded}");
        (name, embedded == "works")
    })
    .collect()
}

fn scenario(debian: Debian) {
    let machine = &Machine::boot_with_programs(debian, &["stores"], Under::Valkey);
    let file = "command = [\"sleep\", \"infinity\"]\nlisten = \"none\"\nsession = \"valkey\"\n";
    machine.write("/etc/roundsman/apps/shop.toml", file);
    machine.run("systemctl daemon-reload && systemctl reload roundsman && systemctl start roundsman-session.socket");
    machine.start_app("shop");
    let secret = machine.run("cat /run/roundsman.generator/valkey/shop.secret");
    let valkey = all(machine, "/run/roundsman/valkey/shop/valkey.sock", secret.trim());
    let embedded = all(machine, "/run/roundsman/session.sock", "any");
    println!("over Valkey: {valkey:#?}\nover the session store: {embedded:#?}");
    for (name, embedded_does) in documented() {
        assert_eq!(valkey.get(&name).map(String::as_str), Some("works"), "{name} over Valkey");
        let said = embedded.get(&name).map(String::as_str).unwrap_or_default();
        assert_eq!(said == "works", embedded_does, "{name} over the session store: {said}");
    }
    let unknown = valkey.keys().filter(|name| !documented().contains_key(*name));
    assert_eq!(unknown.count(), 0, "each library has a row");
}

mod every_library_does_as_documented {
    use super::*;

    #[test]
    #[ignore = "downloads and minutes by itself: make stores"]
    fn bookworm() {
        scenario(Debian::Bookworm);
    }

    #[test]
    #[ignore = "downloads and minutes by itself: make stores"]
    fn trixie() {
        scenario(Debian::Trixie);
    }
}
