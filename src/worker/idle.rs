//! Whether an app's process is at its end and only does not know: Node keeps a worker of a cluster alive
//! for its channel, also when its script has ended and left nothing to do.

use std::fs;
use std::path::Path;

/// `-1` as the kernel shows the fourth argument of a call, which has 32 bits of the register.
const FOR_EVER: u64 = 0xffff_ffff;

/// What the kernel says of a thread: its system call, and that call's arguments.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    number: i64,
    arguments: Vec<u64>,
}

/// Whether nothing but its channel can wake the process: its first thread waits for events without an
/// end, no other works, it has no child, and no socket but those that it was started with. Where the
/// kernel does not say it, it is not so.
pub(super) fn waits_for_nothing(pid: u32) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    let Ok(threads) = fs::read_dir(process.join("task")) else { return false };
    for thread in threads.flatten() {
        let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        if !read("children").trim().is_empty() {
            return false;
        }
        let Some(call) = Call::parse(&read("syscall")) else { return false };
        let is_first = thread.file_name().to_str() == Some(&*pid.to_string());
        let rests = if is_first { call.waits_for_ever() } else { call.is_a_wait() };
        if !rests {
            return false;
        }
    }
    holds_nothing(&process)
}

/// Whether it has no socket of its own but one, which is the channel, and watches no files.
fn holds_nothing(process: &Path) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    let mut sockets = 0;
    for descriptor in descriptors.flatten() {
        let is_standard = matches!(descriptor.file_name().to_str(), Some("0" | "1" | "2"));
        let target = fs::read_link(descriptor.path()).unwrap_or_default();
        let target = target.to_str().unwrap_or_default();
        if target.starts_with("socket:") && !is_standard {
            sockets += 1;
        }
        if ["anon_inode:inotify", "anon_inode:[timerfd]"].contains(&target) {
            return false;
        }
    }
    sockets <= 1
}

// === impl Call ===

impl Call {
    /// `232 0xd 0x7ffd… 0x400 0xffffffff …`; `None` for a thread that runs.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let number = words.next()?.parse().ok()?;
        let hex = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
        Some(Self { number, arguments: words.map_while(hex).collect() })
    }

    fn waits_for_ever(&self) -> bool {
        let limit = self.arguments.get(3).map(|limit| limit & FOR_EVER);
        is_epoll(self.number) && limit == Some(FOR_EVER)
    }

    fn is_a_wait(&self) -> bool {
        is_epoll(self.number) || self.number == libc::SYS_futex
    }
}

/// Whether it is a call in which a program waits for events.
fn is_epoll(number: i64) -> bool {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_epoll_wait {
        return true;
    }
    number == libc::SYS_epoll_pwait
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_a_call_is_read() {
        for (line, for_ever) in [
            ("0xd 0x7ffd 0x400 0xffffffffffffffff 0x0 0x8 0x7f 0x7f", true),
            ("0xd 0x7ffd 0x400 0xffffffff 0x0 0x8 0x7f 0x7f", true),
            ("0xd 0x7ffd 0x400 0x3e8 0x0 0x8 0x7f 0x7f", false),
            ("0xd", false),
        ] {
            let call = Call::parse(&format!("{} {line}\n", libc::SYS_epoll_pwait)).unwrap();
            assert_eq!(call.waits_for_ever(), for_ever, "{line}");
            assert!(call.is_a_wait());
        }
        for none in ["running", "", "x 0x7ffe"] {
            assert_eq!(Call::parse(none), None, "{none}");
        }
        let sleeps = Call::parse(&format!("{} 0x1", libc::SYS_clock_nanosleep)).unwrap();
        assert!(!sleeps.is_a_wait() && !sleeps.waits_for_ever());
    }

    #[test]
    fn a_program_that_does_something_does_not_wait_for_nothing() {
        assert!(!waits_for_nothing(std::process::id()));
        assert!(!waits_for_nothing(u32::MAX), "nobody");
    }
}
