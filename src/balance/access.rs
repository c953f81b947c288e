//! Whom requests may go to, given what each server of an upstream is.
//!
//! Backups count only when no other server is healthy. When most servers look ill, that is more
//! likely an error of ours (a wrong health path, a network that hiccups) than the truth, and the
//! few that are left would fall under the load: then health is not believed and all are used.

use super::status::Status;

/// What requests may do with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    No,
    /// One at a time may try it.
    Trial,
    /// Everything.
    Yes,
}

/// What matters of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub status: Status,
    /// Whether it is a backup.
    pub backup: bool,
    /// Whether it has any weight. One without gets the clients that are pinned to it and no others,
    /// so it cannot stand in for anybody.
    pub weighs: bool,
}

/// Decides for all servers of an upstream; true when health was not believed.
///
/// `panic_threshold` is the percentage of the servers that must look healthy for health to be
/// believed; 0 to believe it always.
pub fn decide(members: &[Member], panic_threshold: u32, access: &mut Vec<Access>) -> bool {
    let count = |backup: bool, which: fn(Status) -> bool| {
        members.iter().filter(|m| m.weighs && m.backup == backup && which(m.status)).count()
    };
    let healthy = count(false, Status::is_healthy);
    let backups = count(true, Status::is_healthy);
    let believed = |backup, healthy: usize| {
        healthy * 100 >= count(backup, is_running) * panic_threshold as usize
    };

    // The backups' turn comes before the panic: they are there for this.
    let use_backups = healthy == 0 && (backups > 0 || count(false, is_running) == 0);
    let panic = if use_backups {
        !believed(true, backups) && backups == 0
    } else {
        !believed(false, healthy) && backups == 0
    };
    access.clear();
    access.extend(members.iter().map(|member| {
        let in_turn = member.backup == use_backups;
        match member.status {
            status if status.is_healthy() && in_turn => Access::Yes,
            Status::Suspect | Status::Ejected if panic && in_turn => Access::Yes,
            // A suspect is tried even while the backups serve: how else would they get off duty?
            Status::Suspect if in_turn || !member.backup => Access::Trial,
            _ => Access::No,
        }
    }));
    panic
}

/// Whether it could answer for all that systemd and the administrator know.
fn is_running(status: Status) -> bool {
    status.is_healthy() || matches!(status, Status::Suspect | Status::Ejected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Access::{No, Trial, Yes};
    use Status::{Draining, Ejected, Starting, Suspect, Up};

    fn member(status: Status, backup: bool) -> Member {
        Member { status, backup, weighs: true }
    }

    fn decided(members: &[(Status, bool)], threshold: u32) -> (Vec<Access>, bool) {
        let members: Vec<_> =
            members.iter().map(|&(status, backup)| member(status, backup)).collect();
        let mut access = Vec::new();
        let panic = decide(&members, threshold, &mut access);
        (access, panic)
    }

    #[test]
    fn the_healthy_serve_and_suspects_are_tried() {
        let servers = [(Up, false), (Ejected, false), (Suspect, false), (Up, false)];
        assert_eq!(decided(&servers, 50), (vec![Yes, No, Trial, Yes], false));
    }

    #[test]
    fn when_most_look_ill_all_are_used() {
        let servers = [(Up, false), (Ejected, false), (Suspect, false), (Draining, false)];
        assert_eq!(decided(&servers, 50), (vec![Yes, Yes, Yes, No], true));
        assert_eq!(decided(&servers, 0), (vec![Yes, No, Trial, No], false));
    }

    #[test]
    fn the_last_server_is_never_out() {
        assert_eq!(decided(&[(Ejected, false)], 50), (vec![Yes], true));
        assert_eq!(decided(&[(Ejected, false), (Draining, false)], 50), (vec![Yes, No], true));
    }

    #[test]
    fn nobody_is_used_before_its_first_check() {
        assert_eq!(decided(&[(Starting, false), (Starting, false)], 50), (vec![No, No], false));
    }

    #[test]
    fn backups_serve_when_nobody_else_can() {
        let not_its_turn = decided(&[(Up, false), (Suspect, true)], 50);
        assert_eq!(not_its_turn, (vec![Yes, No], false), "nor is it tried");
        let mut servers = [(Up, false), (Ejected, false), (Up, true)];
        assert_eq!(decided(&servers, 50), (vec![Yes, No, No], false));
        servers[0].0 = Ejected;
        assert_eq!(decided(&servers, 50), (vec![No, No, Yes], false));
        servers[1].0 = Suspect;
        assert_eq!(decided(&servers, 50), (vec![No, Trial, Yes], false));
        servers[2].0 = Ejected; // now it is better to try the real ones
        assert_eq!(decided(&servers, 50), (vec![Yes, Yes, No], true));
        servers[0].0 = Draining;
        servers[1].0 = Draining;
        assert_eq!(decided(&servers, 50), (vec![No, No, Yes], true));
    }

    #[test]
    fn who_has_no_weight_stands_in_for_nobody() {
        let idle = Member { weighs: false, ..member(Up, false) };
        let mut access = Vec::new();
        assert!(decide(&[idle, member(Ejected, false)], 50, &mut access));
        assert_eq!(access, [Yes, Yes], "the one for its own clients, the other for all");
    }
}
