//! Disks that are full, and disks that go read-only under a running store.

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::process::{Child, Command, Stdio};

use crate::common::skip::may_skip;
use crate::session::client::{Value, bulk, ok};
use crate::session::server::{Server, eventually, path};

/// A process that holds a mount namespace, so that what is mounted there is gone with the test.
struct Mounts(Child);

impl Mounts {
    /// Runs a shell script in a new namespace and keeps it. `None` when this machine does not let us
    /// and the test may be skipped.
    fn made_by(script: &str) -> Option<Self> {
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-ec", &format!("{script}\necho made; exec sleep infinity")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux is there");
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        output.read_line(&mut line).expect("it can be read");
        let mounts = Self(child);
        if line.trim() == "made" {
            return Some(mounts);
        }
        may_skip("nothing can be mounted here: run this as root");
        None
    }

    /// Runs a shell script there, which must succeed.
    #[track_caller]
    fn run(&self, script: &str) {
        let status = Command::new("nsenter")
            .args(["--mount", "--target", &self.0.id().to_string(), "--", "sh", "-ec", script])
            .status()
            .expect("util-linux is there");
        assert!(status.success(), "{script}");
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sessions of this size fill a disk soon.
const SIZE: usize = 100_000;

fn value(number: usize) -> String {
    format!("{number} ").repeat(SIZE / 8)
}

/// Writes new sessions until one is refused, and returns the refusal. Those that were taken are added.
fn fill(server: &Server, taken: &mut BTreeSet<usize>) -> String {
    let mut client = server.client();
    let first = taken.last().map_or(0, |last| last + 1);
    for number in first..first + 20_000 {
        let key = format!("k{number}");
        match client.call(&["set", &key, &value(number), "ex", "100000"]).expect("a reply") {
            Value::Error(text) => return text,
            reply => assert_eq!(reply, ok()),
        }
        taken.insert(number);
    }
    panic!("two gigabytes were taken");
}

#[track_caller]
fn expect_all(server: &Server, taken: &BTreeSet<usize>) {
    let mut client = server.client();
    for number in taken {
        let reply = client.call(&["get", &format!("k{number}")]).expect("a reply");
        assert!(reply == bulk(&value(*number)), "k{number} is not what it was");
    }
}

fn refusal_in_stats(server: &Server) -> bool {
    let Value::Bulk(text) = server.client().say("info persistence") else { panic!("no text") };
    String::from_utf8_lossy(&text).contains("aof_last_write_status:err")
}

/// Writes are refused in words, reads go on, the log is loud; with room again writes are taken, and
/// nothing that was acknowledged is lost, also not by a death on the full disk.
fn full_disk(sync: &str) {
    let mut server = Server::prepare(&["--sync", sync, "--memory", "67108864"]);
    let data = path(&server.data()).to_owned();
    let tmpfs = format!("mkdir -p {data} && mount -t tmpfs -o size=96m none {data}");
    let Some(mounts) = Mounts::made_by(&tmpfs) else { return };
    server.with_mounts_of(mounts.0.id());
    server.start_again();
    let mut taken = BTreeSet::new();
    let text = fill(&server, &mut taken);
    assert!(text.starts_with("MISCONF ") && text.contains(&data), "{text}");
    assert!(taken.len() > 100, "only {} were taken", taken.len());
    eventually("the log says so", || {
        let log = server.log();
        log.contains("ERROR") && log.contains("cannot be written")
    });
    expect_all(&server, &taken);
    let mut client = server.client();
    assert!(matches!(client.say("del k0"), Value::Error(text) if text.starts_with("MISCONF")));

    // It dies, and starts on the full disk.
    server.kill();
    server.start_again();
    expect_all(&server, &taken);

    // There is room again: nobody has to restart anything.
    mounts.run(&format!("mount -o remount,size=1g {data}"));
    eventually("writes are taken again", || server.client().say("set after 1") == ok());
    eventually("and it is said", || !refusal_in_stats(&server));
    for _ in 0..50 {
        let number = taken.last().expect("some") + 1;
        let reply = server.client().call(&["set", &format!("k{number}"), &value(number)]);
        assert_eq!(reply.expect("a reply"), ok());
        taken.insert(number);
    }
    expect_all(&server, &taken);
    server.kill();
    server.start_again();
    expect_all(&server, &taken);
    assert_eq!(server.client().say("get after"), bulk("1"));
    assert!(!server.log().contains("damaged"), "{}", server.log());
    server.stop();
    server.check();
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing_with_everysec() {
    full_disk("everysec");
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing_with_always() {
    full_disk("always");
}

/// As a kernel does that met an error of the disk: from one moment to the next nothing is written.
#[test]
fn a_disk_that_goes_read_only_refuses_writes_and_loses_nothing() {
    // Memory for a few of them: the others are in the file.
    let mut server = Server::prepare(&["--sync", "always", "--memory", "100000"]);
    let (data, image) = (path(&server.data()).to_owned(), server.directory.path().join("image"));
    let image = path(&image).to_owned();
    let script = format!(
        "mkdir -p {data} && truncate -s 300M {image} && PATH=$PATH:/sbin:/usr/sbin && \
         mkfs.ext4 -q {image} && mount -o loop {image} {data}"
    );
    let Some(mounts) = Mounts::made_by(&script) else { return };
    server.with_mounts_of(mounts.0.id());
    server.start_again();
    let mut client = server.client();
    for number in 0..2000 {
        assert_eq!(client.say(&format!("set k{number} v{number} ex 100000")), ok());
    }
    mounts.run(&format!("mount -o remount,abort {data}"));
    // With `always`, no write is acknowledged that is not on the disk.
    eventually(
        "writes are refused",
        || matches!(server.client().say("set refused 1"), Value::Error(text) if text.starts_with("MISCONF ")),
    );
    // Reads go on, also of what lies in the file alone, and without a single error.
    for _ in 0..20 {
        for number in 0..2000 {
            assert_eq!(client.say(&format!("get k{number}")), bulk(&format!("v{number}")));
        }
    }
    eventually("the log says so", || server.log().contains("ERROR"));
    server.kill();

    // It does not start on a disk that it cannot write to, and says why.
    server.spawn();
    eventually("it says why it does not start", || {
        let log = server.log();
        log.contains("error: ") && log.contains("Read-only file system")
    });
    server.kill();

    // Mended, as an administrator would.
    mounts.run(&format!(
        "umount {data} && PATH=$PATH:/sbin:/usr/sbin && {{ e2fsck -fp {image} || test $? -le 2; }} && \
         mount -o loop {image} {data}"
    ));
    server.start_again();
    let mut client = server.client();
    for number in 0..2000 {
        assert_eq!(client.say(&format!("get k{number}")), bulk(&format!("v{number}")));
    }
    assert_eq!(client.say("set after 1"), ok());
    server.stop();
    server.check();
}
