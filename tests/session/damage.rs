//! Files that are not as they were written.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::session::client::{Value, bulk};
use crate::session::server::{Random, Server, path, tool};

/// A store with a thousand sessions, some in the file and some in the log; stopped.
fn filled() -> Server {
    let mut server = Server::start(&[]);
    for round in 0..2 {
        let mut client = server.client();
        for number in 0..500 {
            client.say(&format!("set k{round}-{number} value-{number} ex 10000"));
        }
        // The start brings what the log has into the file.
        server.stop();
        server.start_again();
        crate::session::server::eventually("the checkpoint is made", || {
            let Value::Bulk(text) = server.client().say("info roundsman") else {
                panic!("no text")
            };
            String::from_utf8_lossy(&text).contains("checkpoints:1")
        });
    }
    let mut client = server.client();
    for number in 0..200 {
        client.say(&format!("set log-{number} value-{number}"));
    }
    server.stop();
    server.check();
    server
}

fn newest_segment(server: &Server) -> PathBuf {
    let mut segments: Vec<PathBuf> = fs::read_dir(server.data())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().contains("log-"))
        .collect();
    segments.sort();
    segments.pop().expect("a segment")
}

fn flip(path: &PathBuf, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("a byte");
    byte[0] ^= 0x10;
    file.write_all_at(&byte, offset).expect("a byte");
}

fn set_aside(server: &Server) -> Option<PathBuf> {
    fs::read_dir(server.data())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.to_string_lossy().contains("damaged-"))
}

/// The damaged files are kept, and the log says so aloud and names the way out.
fn expect_set_aside(server: &Server) -> PathBuf {
    crate::session::server::eventually("the log says so", || {
        let log = server.log();
        log.contains("ERROR")
            && log.contains("damaged")
            && log.contains("roundsman session salvage")
    });
    set_aside(server).expect("the damaged files are kept")
}

#[test]
fn a_damaged_log_keeps_what_is_before_the_damage() {
    let mut server = filled();
    flip(&newest_segment(&server), 5000);
    let (ok, output) = tool(&["check", "--data", path(&server.data())]);
    assert!(!ok && output.contains("damaged at byte"), "{output}");
    server.start_again();
    let aside = expect_set_aside(&server);
    let rescued = server.directory.path().join("rescued");
    let (done, output) = tool(&["salvage", path(&aside), "--to", path(&rescued)]);
    // Only the one record that the flip hit is lost: 1200 keys less one.
    assert!(done && output.contains("1199 keys") && output.contains("1 records from"), "{output}");
    let (sound, output) = tool(&["check", "--data", path(&rescued.join("salvaged"))]);
    assert!(sound, "{output}");
    let mut client = server.client();
    assert_eq!(client.say("get k0-499"), bulk("value-499"));
    assert_eq!(client.say("get log-0"), bulk("value-0"));
    assert_eq!(client.say("get log-199"), Value::Null);
    // And it goes on as a whole store does.
    client.say("set after 1");
    server.kill();
    server.start_again();
    assert_eq!(server.client().say("get after"), bulk("1"));
    assert_eq!(server.client().say("get log-0"), bulk("value-0"));
    server.stop();
    server.check();
}

#[test]
fn half_a_record_at_the_end_of_the_log_is_no_damage() {
    let mut server = filled();
    let segment = newest_segment(&server);
    let bytes = fs::read(&segment).expect("a segment");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("records") as u64;
    let file = OpenOptions::new().write(true).open(&segment).expect("a segment");
    file.set_len(end - 3).expect("it can be cut");
    server.start_again();
    assert_eq!(set_aside(&server), None, "{}", server.log());
    let mut client = server.client();
    assert_eq!(client.say("get log-198"), bulk("value-198"));
    assert_eq!(client.say("get log-199"), Value::Null);
}

#[test]
fn a_damaged_file_is_set_aside_and_never_served() {
    let mut random = Random(5);
    let mut server = filled();
    let file = server.data().join("sessions.redb");
    let whole = fs::read(&file).expect("the file");
    let segments: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(server.data())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().contains("log-"))
        .map(|path| (path.clone(), fs::read(path).expect("a segment")))
        .collect();
    let mut detected = 0;
    for round in 0..24 {
        for entry in fs::read_dir(server.data()).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                .expect("it goes");
        }
        fs::write(&file, &whole).expect("the file");
        for (path, bytes) in &segments {
            fs::write(path, bytes).expect("a segment");
        }
        fs::write(server.directory.path().join("log"), "").expect("the log");
        match round % 3 {
            0 => {
                let length = random.below(whole.len()) as u64;
                OpenOptions::new()
                    .write(true)
                    .open(&file)
                    .expect("it")
                    .set_len(length)
                    .expect("cut");
            }
            1 => flip(&file, random.below(whole.len()) as u64),
            _ => {
                for _ in 0..64 {
                    flip(&file, random.below(whole.len()) as u64);
                }
            }
        }
        server.start_again();
        let mut client = server.client();
        if set_aside(&server).is_some() {
            detected += 1;
            let aside = expect_set_aside(&server);
            assert!(aside.join("sessions.redb").exists());
            client.say("set works 1");
            assert_eq!(client.say("get works"), bulk("1"));
        } else {
            // The flip hit a free page: everything must be as it was.
            assert_eq!(client.say("dbsize"), Value::Integer(1200), "round {round}");
            for (keys, count) in [("k0", 500), ("k1", 500), ("log", 200)] {
                for number in 0..count {
                    let expected = bulk(&format!("value-{number}"));
                    let found = client.say(&format!("get {keys}-{number}"));
                    assert_eq!(found, expected, "round {round}, {keys}-{number}");
                }
            }
        }
        server.kill();
    }
    assert!(detected >= 16, "only {detected} of 24 were detected");
}

#[test]
fn a_file_of_something_else_is_set_aside() {
    let mut server = Server::start(&[]);
    server.stop();
    fs::write(server.data().join("sessions.redb"), b"this is no database\n".repeat(5000))
        .expect("it can be written");
    server.start_again();
    expect_set_aside(&server);
}
