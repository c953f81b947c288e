//! The generator's log: the kernel's, because at boot there is no journal yet.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

/// Where messages go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Log {
    Kernel,
    Stderr,
}

/// How loud a message is; facility `daemon`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Priority {
    Error = 3 << 3 | 3,
    Warning = 3 << 3 | 4,
}

/// The kernel cuts records at a little below 1 KiB.
const LONGEST: usize = 900;

// === impl Log ===

impl Log {
    /// The kernel's log, or stderr where that cannot be written.
    pub(super) fn kernel() -> Self {
        Self::Kernel
    }

    /// Standard error.
    pub(super) fn stderr() -> Self {
        Self::Stderr
    }

    /// Writes one line. Never blocks; what cannot be written is lost.
    pub(super) fn write(self, priority: Priority, message: &str) {
        let line = one_line(message);
        if let Self::Kernel = self {
            let nonblocking = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits();
            let kmsg = OpenOptions::new()
                .write(true)
                .custom_flags(nonblocking.cast_signed())
                .open("/dev/kmsg");
            if let Ok(mut kmsg) = kmsg {
                // One write is one record. The journal takes the part before the colon for the
                // program's name.
                let record = format!("<{}>roundsman-generator: {line}\n", priority as u8);
                if kmsg.write_all(record.as_bytes()).is_ok() {
                    return;
                }
            }
        }
        let _ = writeln!(std::io::stderr(), "roundsman-generator: {line}");
    }
}

fn one_line(message: &str) -> String {
    let line = message.replace(char::is_control, " ");
    line[..line.floor_char_boundary(LONGEST)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        assert_eq!(one_line("a\nb\u{1b}[31m"), "a b [31m");
        assert!(one_line(&"ä".repeat(1000)).len() <= LONGEST);
    }
}
