//! What this process or its machine has none left of: descriptors, memory, ports. Nobody else is to be blamed for what
//! comes to nothing by that: no file, no server, no client.

use std::io;

use rustix::io::Errno;

/// Whether it is for want of something of ours, of which nobody at the other end knows.
pub(crate) fn is_ours(error: &io::Error) -> bool {
    let ports = [Errno::NOBUFS, Errno::NOSPC, Errno::ADDRNOTAVAIL];
    of_reading(error).is_some()
        || Errno::from_io_error(error).is_some_and(|errno| ports.contains(&errno))
}

/// What there is none left of to read a file with, and what to do about it.
pub(crate) fn of_reading(error: &io::Error) -> Option<(&'static str, &'static str)> {
    Some(match Errno::from_io_error(error)? {
        Errno::MFILE => (
            "this process has no file descriptor left",
            "raise LimitNOFILE= of its unit (systemctl edit), or have it serve fewer connections at a time \
             (`connections` below [limits]); then try again",
        ),
        Errno::NFILE => (
            "this machine has no file descriptor left",
            "see who has them (lsof), or raise fs.file-max; then try again",
        ),
        Errno::NOMEM => ("this machine has no memory left", "see who has it (top); then try again"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_told_from_what_is_others() {
        let is_ours = |errno: Errno| is_ours(&errno.into());
        let wants = [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::NOBUFS,
            Errno::NOSPC,
            Errno::ADDRNOTAVAIL,
        ];
        assert!(wants.into_iter().all(is_ours));
        let others = [Errno::NOENT, Errno::ACCESS, Errno::CONNREFUSED, Errno::TIMEDOUT];
        assert!(!others.into_iter().any(is_ours));
        assert!(!super::is_ours(&io::Error::other("in words")));
        assert!(
            of_reading(&Errno::MFILE.into()).is_some_and(|(_, mend)| mend.contains("LimitNOFILE="))
        );
        assert!(of_reading(&Errno::NOSPC.into()).is_none(), "who reads needs none");
    }
}
