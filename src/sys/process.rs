//! What a process is, becomes and starts, and how it ends.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use listenfd::ListenFd;
use rustix::process::{DumpableBehavior, Pid};

/// Where what a process inherits begins, by systemd's convention.
const LISTEN_FDS_START: RawFd = 3;

/// A descriptor of any kind that the service manager has passed; listenfd gives each number once.
///
/// # Errors
/// When it has been taken before, or has not come with this process.
pub(crate) fn take_passed(passed: &mut ListenFd, index: usize) -> io::Result<OwnedFd> {
    let missing = || io::Error::other(format!("descriptor {index} was not passed"));
    let number = passed.take_raw_fd(index)?.ok_or_else(missing)?;
    // SAFETY: this call takes a number only. What came through exec is not to be closed by the next
    // one; all that this process opens itself is.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } != 0 {
        return Err(missing());
    }
    // SAFETY: the descriptor is open and was so when this program began (checked above), and
    // listenfd, which takes the variables that name it out of the environment, gives it to nobody else.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

/// Splits this process in two, which have everything twice: the number of the new one, which gets none.
/// What systemd wants of this process's watchdog it wants of the new one then.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    only_thread()?;
    // SAFETY: this is the only thread (checked above), so nobody is in the middle of anything that
    // the new process would have half of.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            #[expect(clippy::disallowed_methods, reason = "there is no other thread")]
            // SAFETY: nobody reads the environment meanwhile: this is the only thread.
            unsafe {
                std::env::remove_var("WATCHDOG_PID");
            }
            Ok(None)
        }
        child => Ok(Pid::from_raw(child)),
    }
}

fn only_thread() -> io::Result<()> {
    match std::fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        _ => Err(io::Error::other("this process has more than one thread")),
    }
}

/// Has the kernel end this process after so long, whatever it does then.
pub(crate) fn end_after(limit: Duration) {
    let seconds = libc::c_uint::try_from(limit.as_secs()).unwrap_or(libc::c_uint::MAX);
    // SAFETY: the call takes a number; nobody here uses the timer or its signal, which ends the process.
    unsafe { libc::alarm(seconds) };
}

/// Ends this process by a signal, as if it had no handler for it, and without a core dump. Returns where
/// a signal ends nobody.
pub(crate) fn end_by(signal: libc::c_int) {
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // SAFETY: the default takes the place of a handler of the runtime's, which is not needed any more;
    // both calls take numbers only.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Becomes another program, whose descriptor 3 is what standard input is now. Returns only if that
/// is not possible, with descriptor 3 as it was.
pub(crate) fn exec_with_stdin_as_three(command: &mut Command) -> io::Error {
    if let Err(error) = only_thread() {
        return error;
    }
    let dup = |from, to, flags| {
        // SAFETY: nobody can meet descriptor 3 while it is another one: this is the only thread
        // (checked above), what runs until it is put back is the code below, which knows, and if
        // exec succeeds there is nobody left who could.
        unsafe { libc::dup3(from, to, flags) }
    };
    // SAFETY: both calls take a number only.
    let (saved, flags) = unsafe {
        let above = LISTEN_FDS_START + 1;
        (
            libc::fcntl(LISTEN_FDS_START, libc::F_DUPFD_CLOEXEC, above),
            libc::fcntl(LISTEN_FDS_START, libc::F_GETFD),
        )
    };
    let error = if dup(libc::STDIN_FILENO, LISTEN_FDS_START, 0) < 0 {
        io::Error::last_os_error()
    } else {
        command.exec()
    };
    if saved < 0 {
        // SAFETY: it was not open before the call above opened it, so nobody owns it.
        unsafe { libc::close(LISTEN_FDS_START) };
    } else {
        dup(
            saved,
            LISTEN_FDS_START,
            if flags & libc::FD_CLOEXEC == 0 { 0 } else { libc::O_CLOEXEC },
        );
        // SAFETY: it was made above, and nobody else knows it.
        unsafe { libc::close(saved) };
    }
    error
}

/// Makes an empty keyring the one of the session (keyctl(2)).
pub(super) const JOIN_SESSION_KEYRING: libc::c_long = 1;

/// Has a command that is started next have nothing of this one's terminal: it gets a session of its
/// own, which has no terminal and gets none that another session has, and inherits neither a
/// descriptor but the first three nor the keys of the session. Else whatever runs there could type into the shell from which root has started
/// it. It is the head of its group of processes, too.
pub(crate) fn set_apart(command: &mut Command) {
    let apart = || {
        rustix::process::setsid()?;
        // SAFETY: it takes numbers only, and closes nothing: it marks what is closed when the other
        // program takes this one's place, and with it whoever owns a descriptor here is gone.
        let result =
            unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        let no_name = std::ptr::null::<libc::c_char>();
        // SAFETY: without a name it takes numbers only, and changes the keyring of this process alone.
        let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, no_name) };
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            _ if result >= 0 => Ok(()),
            // A kernel, or a container, without keys for anybody.
            Some(libc::ENOSYS | libc::EPERM) => Ok(()),
            _ => Err(error),
        }
    };
    // SAFETY: between fork and exec there are three system calls, which take no lock and no memory. By
    // then the child may have the other user's rights already; but nobody can trace it before exec,
    // because a process that has changed its user is not dumpable.
    unsafe { command.pre_exec(apart) };
}
