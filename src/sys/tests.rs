//! Tests of what is said to the kernel.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::Command;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, netlink, socket, socket_with};

use super::memory::unchanged;
use super::process::JOIN_SESSION_KEYRING;
use super::*;

#[test]
fn what_is_set_apart_has_neither_the_session_nor_the_descriptors_of_this_process() {
    let inherited = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    let open = format!("/proc/$$/fd/{}", inherited.as_raw_fd());
    let of_child = |is_apart: bool| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("cat /proc/$$/stat; test -e {open} && echo inherited")]);
        if is_apart {
            set_apart(&mut command);
        }
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    // Number, name, state, parent, group, session, terminal.
    let fields = |said: &str| -> Vec<String> {
        said.split_whitespace().take(7).map(str::to_owned).collect()
    };
    let said = of_child(false);
    assert!(said.ends_with("inherited\n") && fields(&said)[5] != fields(&said)[0], "{said}");
    let said = of_child(true);
    let fields = fields(&said);
    assert!(!said.contains("inherited"), "{said}");
    assert_eq!((&fields[4], &fields[5], &*fields[6]), (&fields[0], &fields[0], "0"));
}

#[test]
fn what_is_set_apart_has_no_keys_of_this_session() {
    const GET_KEYRING_ID: libc::c_long = 0;
    const OF_SESSION: libc::c_long = -3;
    // In a thread that ends with the test: a keyring of its own, which what it starts inherits.
    let thread = std::thread::spawn(|| {
        let call = |what: libc::c_long, which: libc::c_long| {
            // SAFETY: these calls take numbers only, and change this thread's keyring alone.
            unsafe { libc::syscall(libc::SYS_keyctl, what, which, 0) }
        };
        if call(JOIN_SESSION_KEYRING, 0) < 0 {
            return; // no keys here for anybody
        }
        let own = call(GET_KEYRING_ID, OF_SESSION).to_string();
        let of_child = |is_apart: bool| {
            let ask = format!(
                "import ctypes; print(ctypes.CDLL(None).syscall({}, 0, -3, 0))",
                libc::SYS_keyctl
            );
            let mut command = Command::new("python3");
            command.args(["-c", &ask]);
            if is_apart {
                set_apart(&mut command);
            }
            String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
        };
        assert_eq!(of_child(false), own);
        assert_ne!(of_child(true), own);
    });
    thread.join().unwrap();
}

#[test]
fn who_is_alone_reaches_what_it_has_started_and_nothing_else() {
    // In a thread that ends with the test, since there is no way back.
    let thread = std::thread::spawn(|| {
        let mut outside = Command::new("sleep").arg("60").spawn().unwrap();
        rustix::thread::set_no_new_privs(true).unwrap();
        if can_be_alone().is_err() {
            outside.kill().unwrap();
            outside.wait().unwrap();
            return; // a kernel without domains
        }
        let reaches = |child: &std::process::Child| {
            std::fs::read_link(format!("/proc/{}/root", child.id())).is_ok()
        };
        assert!(reaches(&outside));
        be_alone().unwrap();
        assert!(!reaches(&outside));
        let inside = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(reaches(&inside));
        for mut child in [inside, outside] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    });
    thread.join().unwrap();
}

#[test]
fn other_protocols_than_those_needed_are_refused() {
    // In a thread that ends with the test, since there is no way back.
    let thread = std::thread::spawn(|| {
        only_needed_protocols().unwrap();
        for family in [AddressFamily::INET, AddressFamily::INET6] {
            for (kind, protocol) in [
                (SocketType::STREAM, None),
                (SocketType::STREAM, Some(ipproto::TCP)),
                (SocketType::DGRAM, None),
                (SocketType::DGRAM, Some(ipproto::UDP)),
            ] {
                let made = socket_with(family, kind, SocketFlags::CLOEXEC, protocol);
                // A machine may have no IPv6; what it says then is another error.
                assert_ne!(made.err(), Some(Errno::PROTONOSUPPORT));
            }
            for (kind, protocol) in [
                (SocketType::STREAM, Some(ipproto::SCTP)),
                (SocketType::SEQPACKET, None),
                (SocketType::STREAM, Some(ipproto::MPTCP)),
                (SocketType::DGRAM, Some(ipproto::ICMP)),
                (SocketType::RAW, Some(ipproto::TCP)),
            ] {
                let error = socket(family, kind, protocol).unwrap_err();
                assert_eq!(error, Errno::PROTONOSUPPORT, "{kind:?} {protocol:?}");
            }
        }
        for (kind, protocol) in [
            (SocketType::RAW, None), // routes
            (SocketType::DGRAM, Some(netlink::AUDIT)),
            (SocketType::RAW, Some(netlink::NETFILTER)),
        ] {
            let error = socket(AddressFamily::NETLINK, kind, protocol).unwrap_err();
            assert_eq!(error, Errno::PROTONOSUPPORT, "{kind:?} {protocol:?}");
        }
        socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::SOCK_DIAG)).unwrap();
        socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    });
    thread.join().unwrap();
}

#[test]
fn closing_a_connection_waits_for_nobody() {
    let thread = std::thread::spawn(|| {
        hold_nobody_up().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let long = std::time::Duration::from_mins(50);
        rustix::net::sockopt::set_socket_linger(&socket, Some(long)).expect("it is told so");
        assert_eq!(rustix::net::sockopt::socket_linger(&socket), Ok(None));
        socket.set_nodelay(true).unwrap();
        assert!(socket.nodelay().unwrap(), "other options are set");
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        refuse_descriptors(&ours);
        assert!(send_descriptor(&theirs).is_ok(), "this one, too, is as it was");
    });
    thread.join().unwrap();
}

/// Sends a descriptor to the other end.
fn send_descriptor(from: &std::os::unix::net::UnixStream) -> Result<usize, Errno> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let descriptors = [from.as_fd()];
    assert!(message.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(from, &[io::IoSlice::new(b"x")], &mut message, SendFlags::empty())
}

#[test]
fn a_socket_gets_no_descriptors_that_it_does_not_want() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    refuse_descriptors(&ours);
    let version = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers =
        version.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0_u32));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let sent = send_descriptor(&theirs);
    // Before, there is nothing to be done at the socket.
    assert_eq!(sent.is_err(), version >= (6, 16), "{sent:?} on {version:?}");
}

#[test]
fn only_what_is_as_in_its_file_is_forgotten() {
    let mapping =
        |line: &str, anonymous: u32| format!("{line}\nSize: 8 kB\nAnonymous: {anonymous} kB\n");
    let of = |line: &str, anonymous| unchanged(&mapping(line, anonymous));
    let code = "1000-3000 r-xp 00001000 08:01 42                /usr/bin/roundsman";
    assert_eq!(of(code, 0), [(0x1000, 0x2000)]);
    assert_eq!(of(code, 4), [], "it was changed");
    for other in [
        "1000-3000 rw-p 00001000 08:01 42 /usr/bin/roundsman",
        "1000-3000 r--s 00001000 08:01 42 /usr/bin/roundsman",
        "1000-3000 r-xp 00000000 00:00 0 [vdso]",
        "1000-3000 r--p 00000000 00:00 0",
        "1000 r-xp 0 0 0 /x",
        "",
    ] {
        assert_eq!(of(other, 0), [], "{other}");
    }
    forget_code();
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    assert!(!unchanged(&text).is_empty(), "and goes on");
}
