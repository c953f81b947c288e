//! Every reason that the journal can have is explained in the page on troubleshooting.

use std::fs;

use roundsman::balance::HealthReason;
use roundsman::front::Reason;

use super::root;

#[test]
fn every_reason_has_its_row() {
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let row = |name: &str| rows.iter().find(|row| row.starts_with(&format!("| `{name}` |")));
    for reason in Reason::ALL {
        let row = row(reason.name()).unwrap_or_else(|| panic!("{} has no row", reason.name()));
        let status = format!("| {} |", reason.status());
        assert!(row.contains(&status) || row.contains("| – |"), "{row} is not about {status}");
    }
    for reason in HealthReason::ALL {
        assert!(row(&reason.to_string()).is_some(), "{reason} has no row");
    }
}
