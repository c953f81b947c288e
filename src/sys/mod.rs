//! The only module that may use `unsafe`: the few calls for which no safe wrapper exists.
#![expect(unsafe_code, reason = "the one place for it; every block says why it is sound")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use listenfd::ListenFd;
use rustix::process::{DumpableBehavior, Pid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The state of a listener in the kernel's `enum tcp_state`.
const TCP_LISTEN: u8 = 10;

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
const JOIN_SESSION_KEYRING: libc::c_long = 1;

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

/// From here on no thread of this process gets a socket over IP that is neither TCP nor UDP, or one of
/// netlink but for questions about sockets: the kernel has a dozen other protocols of each (SCTP, MPTCP,
/// routes, audit, …), and unit files cannot tell them apart. To be called before there is a second thread.
pub(crate) fn only_needed_protocols() -> io::Result<()> {
    const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPROTONOSUPPORT.cast_unsigned();
    filter(&mut [
        step(LOAD, 0), // the number of the call
        equals(libc::SYS_socket as i32, 0, 17),
        step(LOAD, argument(0)), // the family
        equals(libc::AF_INET, 2, 0),
        equals(libc::AF_INET6, 1, 0),
        equals(libc::AF_NETLINK, 10, 13),
        step(LOAD, argument(1)), // the type, with flags above its four bits
        step(AND, 0xf),
        equals(libc::SOCK_STREAM, 1, 0),
        equals(libc::SOCK_DGRAM, 3, 8),
        step(LOAD, argument(2)), // the protocol
        equals(0, 7, 0),
        equals(libc::IPPROTO_TCP, 6, 5),
        step(LOAD, argument(2)),
        equals(0, 4, 0),
        equals(libc::IPPROTO_UDP, 3, 2),
        step(LOAD, argument(2)),
        equals(libc::NETLINK_SOCK_DIAG, 1, 0),
        step(RETURN, DENY),
        step(RETURN, libc::SECCOMP_RET_ALLOW),
    ])
}

// The steps of a filter of system calls (seccomp(2)).
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Where the lower half of an argument is in `struct seccomp_data`.
fn argument(number: u32) -> u32 {
    16 + 8 * number + u32::from(cfg!(target_endian = "big")) * 4
}

fn step(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

/// Passes over so many steps: `jt` if it is equal, `jf` if not.
fn equals(k: i32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: EQUAL, jt, jf, k: k.cast_unsigned() }
}

/// Has the kernel ask this about every system call from here on.
fn filter(steps: &mut [libc::sock_filter]) -> io::Result<()> {
    let program =
        libc::sock_fprog { len: steps.len() as libc::c_ushort, filter: steps.as_mut_ptr() };
    // The kernel takes filters only from those who cannot gain rights any more.
    rustix::thread::set_no_new_privs(true)?;
    // SAFETY: the program points at as many steps as it says, and both live through the call, which
    // copies them.
    let result = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::from_ref(&program))
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// From here on no thread of this process, and nothing that it starts, sets how long closing a connection waits
/// (`SO_LINGER`), or whether a socket takes descriptors (`SO_PASSRIGHTS`): it is told that it did, and the kernel
/// closes as it does by itself.
///
/// A socket that lingers makes whoever closes it last wait for hours, whether it blocks or not. Descriptors
/// can be sent to anybody who reads from a UNIX socket, and who does not want them closes them: so one
/// message would stop the thread that gets it. Who has queued some at a listener that systemd has, too, would
/// stop that. To be called before there is a second thread.
///
/// # Errors
/// When the kernel has no filters of system calls, or this process could gain rights.
pub(crate) fn hold_nobody_up() -> io::Result<()> {
    filter(&mut [
        step(LOAD, 0), // the number of the call
        equals(libc::SYS_setsockopt as i32, 0, 5),
        step(LOAD, argument(1)), // the level
        equals(libc::SOL_SOCKET, 0, 3),
        step(LOAD, argument(2)), // the option
        equals(libc::SO_LINGER, 2, 0),
        equals(PASS_RIGHTS, 1, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW),
        step(RETURN, libc::SECCOMP_RET_ERRNO), // 0: as if done
    ])
}

/// `SO_PASSRIGHTS`, which libc does not name yet.
const PASS_RIGHTS: libc::c_int = 83;

/// Has the kernel refuse descriptors that somebody sends to this UNIX socket, or to one that is accepted from it;
/// before Linux 6.16 they come, and are closed where nobody wants them.
pub(crate) fn refuse_descriptors(socket: impl AsFd) {
    let no: libc::c_int = 0;
    let length = size_of_val(&no) as libc::socklen_t;
    // SAFETY: the option takes an int, and `no` is one that lives through the call; the descriptor is open
    // because `socket` lends it. Where the option is not known nothing changes.
    unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            PASS_RIGHTS,
            std::ptr::from_ref(&no).cast(),
            length,
        )
    };
}

/// What the processes of a Landlock domain may not do, as the kernel has it (landlock(7)).
#[repr(C)]
#[derive(Default)]
struct DomainRules {
    files: u64,
    network: u64,
    scope: u64,
}

/// Making block devices, which nobody can without `CAP_MKNOD`.
const MAKE_BLOCK_DEVICES: u64 = 1 << 11;

/// Connecting to abstract UNIX sockets of processes outside.
const ABSTRACT_SOCKETS: u64 = 1 << 0;

/// The first version with scopes (Linux 6.12).
const DOMAIN_SCOPES: libc::c_long = 6;

/// Makes a domain that can be entered, or, without rules, asks for the version of domains (the number
/// is the same as of any system call since Linux 5.1).
fn landlock(rules: Option<(&DomainRules, usize)>) -> io::Result<libc::c_long> {
    const ASK_FOR_VERSION: libc::c_uint = 1;
    let (rules, length, flags) = match rules {
        Some((rules, length)) => (std::ptr::from_ref(rules), length, 0),
        None => (std::ptr::null(), 0, ASK_FOR_VERSION),
    };
    // SAFETY: the call reads `length` bytes, which is at most the size of what is lent, or none.
    let result = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, rules, length, flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Whether this process can enter a domain of its own.
///
/// # Errors
/// When the kernel has no domains, a filter of system calls does not let it, or it could gain rights.
pub(crate) fn can_be_alone() -> io::Result<()> {
    landlock(None)?;
    if rustix::thread::no_new_privs()? {
        Ok(())
    } else {
        Err(io::Error::other("the unit has no NoNewPrivileges="))
    }
}

/// From here on this thread, and all that it starts, can neither trace a process that it has not
/// started, nor see it in `/proc`, nor get at its memory, descriptors and root directory: those of the
/// same user outside of the domain are as far away as another user's. Nothing else changes, but that
/// older kernels let nobody in a domain mount file systems, and that newer ones let it connect to no
/// abstract socket outside. To be called before there is a second thread.
pub(crate) fn be_alone() -> io::Result<()> {
    let rules = if landlock(None)? < DOMAIN_SCOPES {
        // A domain has to forbid something.
        DomainRules { files: MAKE_BLOCK_DEVICES, ..DomainRules::default() }
    } else {
        DomainRules { scope: ABSTRACT_SOCKETS, ..DomainRules::default() }
    };
    // What an older kernel does not know it wants to be told nothing of.
    let length = if rules.scope == 0 { size_of::<u64>() } else { size_of::<DomainRules>() };
    let made = landlock(Some((&rules, length)))?;
    let number = RawFd::try_from(made).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for us.
    let domain = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: it takes numbers only, and the descriptor is open because `domain` owns it.
    let result =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, domain.as_raw_fd(), 0_u32) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel hand a connection over when its first bytes are there, or after about so many
/// seconds without any.
pub(crate) fn set_defer_accept(socket: impl AsFd, seconds: i32) -> io::Result<()> {
    let length = size_of_val(&seconds) as libc::socklen_t;
    // SAFETY: the option takes an int, and `seconds` is one that lives through the call; the
    // descriptor is open because `socket` lends it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            std::ptr::from_ref(&seconds).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many connections wait to be accepted from a TCP listener, where the kernel says so.
pub(crate) fn waiting_connections(listener: impl AsFd) -> Option<usize> {
    // SAFETY: the structure is one of plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    // No more than is looked at.
    let mut length =
        (std::mem::offset_of!(libc::tcp_info, tcpi_unacked) + size_of::<u32>()) as libc::socklen_t;
    let asked = length;
    // SAFETY: the call writes at most `length` bytes of `info`, which has more and lives through
    // it; the descriptor is open because `listener` lends it.
    let result = unsafe {
        libc::getsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    // Of a listener it is the length of the queue, in a field that connections use otherwise.
    let known = result == 0 && length == asked && info.tcpi_state == TCP_LISTEN;
    known.then_some(info.tcpi_unacked as usize)
}

/// Whether somebody has read from a TCP connection: whether more bytes have come than wait.
/// Of another socket nothing is known, and nobody is taken to have.
pub(crate) fn was_read_from(socket: impl AsFd) -> bool {
    // SAFETY: the structure is one of plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    let mut waiting: libc::c_int = 0;
    // SAFETY: both calls write at most the size of what they are given, which lives through them;
    // the descriptor is open because `socket` lends it.
    let (result, asked) = unsafe {
        (
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut length,
            ),
            libc::ioctl(socket.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut waiting),
        )
    };
    let waiting = u64::from(waiting.unsigned_abs());
    // The end of a stream is counted as a byte that has come, and not as one that waits.
    result == 0 && asked == 0 && info.tcpi_bytes_received > waiting + 1
}

/// Bytes written to a socket that the other end has not acknowledged yet, where the kernel says so.
pub(crate) fn unacknowledged(socket: impl AsFd) -> Option<u64> {
    let mut count: libc::c_int = 0;
    // SAFETY: the call writes one int, which lives through it; the descriptor is open because
    // `socket` lends it.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    (result == 0).then_some(u64::from(count.unsigned_abs()))
}

/// Has the allocator give to the system what it keeps free.
pub(crate) fn give_memory_back() {
    // SAFETY: the call takes a number, and touches nothing but what the allocator has free.
    unsafe { libc::malloc_trim(0) };
}

/// Takes this process's code and constants out of its memory: what is used again comes back, from the
/// file's pages, which all processes share.
pub(crate) fn forget_code() {
    let mappings = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (start, length) in unchanged(&mappings) {
        // SAFETY: nobody can write to this mapping of a file, and nobody has: what is read there next is
        // what was there before. The addresses are of this process, of a moment ago; it unmaps no code.
        unsafe {
            libc::madvise(std::ptr::with_exposed_provenance_mut(start), length, libc::MADV_DONTNEED)
        };
    }
}

/// Of mappings as in `/proc/self/smaps`, where those begin and how long they are that are private, of a
/// file, not to be written to, and have no page that is not the file's.
fn unchanged(smaps: &str) -> Vec<(usize, usize)> {
    let (mut found, mut last) = (Vec::new(), None);
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if first == "Anonymous:" {
            found.extend(last.take().filter(|_| words.next() == Some("0")));
        } else if let Some((start, end)) = first.split_once('-') {
            let is_fixed = words.next().is_some_and(|may| !may.contains('w') && may.ends_with('p'));
            let is_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
            let number = |hex| usize::from_str_radix(hex, 16).ok();
            last = number(start).zip(number(end)).filter(|_| is_fixed && is_file);
            last = last.map(|(start, end)| (start, end.saturating_sub(start)));
        }
    }
    found
}

/// Who was at the other end of a UNIX socket when it connected, by its effective user and group. The
/// number of the process is 0 where it has none here.
pub(crate) fn peer_credentials(socket: impl AsFd) -> io::Result<libc::ucred> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of_val(&peer) as libc::socklen_t;
    // SAFETY: the call writes at most the size of `peer`, which is of plain numbers and lives
    // through it; the descriptor is open because `socket` lends it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(peer) } else { Err(io::Error::last_os_error()) }
}

/// The process at the other end of a UNIX socket, which cannot be taken for another one that has got
/// its number. `None` where the kernel (before Linux 6.5) cannot say.
pub(crate) fn peer_process(socket: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let mut descriptor: RawFd = -1;
    let mut length = size_of_val(&descriptor) as libc::socklen_t;
    // SAFETY: the call writes one int, which lives through it; the descriptor is open because
    // `socket` lends it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut descriptor).cast(),
            &raw mut length,
        )
    };
    if result == 0 && descriptor >= 0 {
        // SAFETY: the kernel has just made it for us.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }));
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOPROTOOPT) { Ok(None) } else { Err(error) }
}

/// The supplementary groups of the process at the other end of a UNIX socket, as they were when it
/// connected.
pub(crate) fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut length = (groups.len() * size_of::<u32>()) as libc::socklen_t;
        // SAFETY: `groups` lives through the call and has `length` bytes, of which the kernel
        // writes as many as it says; the descriptor is open because `socket` lends it.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let needed = length as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || needed <= groups.len() {
            return Err(error);
        }
        groups.resize(needed, 0);
    }
}

/// Every user that can be listed: their number, and that of their first group.
pub(crate) fn every_user() -> io::Result<Vec<(u32, u32)>> {
    static LISTING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = LISTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut users = Vec::new();
    // SAFETY: the list and its place in it are the process's; nobody else here asks for it, and one
    // thread at a time does (see the lock). What it returns is null or an entry that lives until the
    // next call, and only two numbers are copied from it.
    unsafe {
        libc::setpwent();
        loop {
            *libc::__errno_location() = 0;
            let entry = libc::getpwent();
            if entry.is_null() {
                break;
            }
            users.push(((*entry).pw_uid, (*entry).pw_gid));
        }
        let error = io::Error::last_os_error();
        libc::endpwent();
        match error.raw_os_error() {
            // Of none of the places where users are, more is known.
            Some(0 | libc::ENOENT) => Ok(users),
            _ => Err(error),
        }
    }
}

/// Has the runtime watch a listening socket that it shall not accept from itself.
pub(crate) fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays the same and open until it is dropped, and it is dropped
    // by the `AsyncFd` after that has deregistered it.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

#[cfg(test)]
mod tests;
