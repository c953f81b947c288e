//! `roundsman rollback`.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Machine;
use super::deploy::replaced;

#[test]
fn it_goes_to_the_release_that_was_deployed_before() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.point_at("2");
    machine.must("reload shop --settle 0");
    machine.steps();
    machine.must("rollback shop --settle 0");
    assert_eq!(machine.points_at(), Path::new("releases/1"));
    assert_eq!(machine.releases(2), ["1", "1"]);
    assert_eq!(machine.steps(), [replaced(1), replaced(2)].concat());
    // And from there to where it came from.
    machine.must("rollback shop --settle 0");
    assert_eq!(machine.releases(2), ["2", "2"]);
}

#[test]
fn where_nothing_is_known_it_goes_to_the_next_older_one() {
    let Some(machine) = Machine::with_shop(1, "") else { return };
    for (release, age) in [("1", 10), ("2", 20), ("3", 30)] {
        std::fs::create_dir_all(machine.release(release)).unwrap();
        let directory = std::fs::File::open(machine.release(release)).unwrap();
        directory.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    machine.must("rollback shop --settle 0");
    assert_eq!(machine.points_at(), Path::new("releases/2"));
    assert_eq!(machine.releases(1), ["2"]);
}

#[test]
fn it_goes_to_the_one_that_is_named() {
    let Some(machine) = Machine::with_shop(1, "") else { return };
    std::fs::create_dir(machine.release("3")).unwrap();
    let to = |release: &Path| format!("rollback shop --settle 0 --to {}", release.display());
    machine.must(&to(&machine.release("3")));
    assert_eq!(machine.points_at(), Path::new("releases/3"));
    assert_eq!(machine.releases(1), ["3"]);
    machine.steps();
    for (wrong, why) in [
        (machine.release("4"), "is no directory"),
        (machine.path("bin/journalctl"), "is no directory"),
        (machine.path("etc"), "is not beside the present release"),
    ] {
        let said = machine.run(&to(&wrong));
        assert_eq!(said.status, 1, "{said:?}");
        assert!(said.stderr.contains(why), "{said:?}");
        assert_eq!(machine.points_at(), Path::new("releases/3"));
        assert_eq!(machine.steps(), [""; 0]);
    }
}

#[test]
fn without_a_way_back_it_says_why_and_touches_nobody() {
    let Some(machine) = Machine::with_shop(1, "") else { return };
    std::fs::remove_dir(machine.release("2")).unwrap();
    let said = machine.run("rollback shop");
    assert_eq!(said.status, 1);
    assert!(said.stderr.contains("there is no earlier release"), "{said:?}");
    let link = machine.path("srv/shop/current");
    std::fs::remove_file(&link).unwrap();
    std::fs::create_dir(&link).unwrap();
    let said = machine.run("rollback shop");
    assert_eq!(said.status, 1);
    assert!(said.stderr.contains("is a directory, not a link to a release"), "{said:?}");
    assert_eq!(machine.history.take(), [""; 0]);
}
