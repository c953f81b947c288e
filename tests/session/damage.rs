//! Files that are not as they were written.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::common::random::Random;
use crate::session::client::{Value, bulk};
use crate::session::server::{Server, path, tool};

/// A store with a thousand sessions, some in the file and some in the log; stopped.
fn filled() -> Server {
    // Small segments: a start reads all of them.
    let mut server = Server::start(&["--memory", "1000000"]);
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

/// The damaged files are kept, and the log says so aloud, with what became of them.
fn expect_set_aside(server: &Server, outcome: &str) -> PathBuf {
    crate::session::server::eventually("the log says so", || {
        let log = server.log();
        log.contains("ERROR") && log.contains("damaged") && log.contains(outcome)
    });
    set_aside(server).expect("the damaged files are kept")
}

/// How many of the sessions of [`filled`] are there; each is what it was.
fn sessions_left(server: &Server) -> usize {
    let mut client = server.client();
    let mut left = 0;
    for (keys, count) in [("k0", 500), ("k1", 500), ("log", 200)] {
        for number in 0..count {
            match client.say(&format!("get {keys}-{number}")) {
                Value::Null => {}
                found => {
                    assert_eq!(found, bulk(&format!("value-{number}")), "{keys}-{number}");
                    left += 1;
                }
            }
        }
    }
    assert_eq!(client.say("dbsize"), Value::Integer(i64::try_from(left).expect("few")));
    left
}

#[test]
fn a_damaged_log_loses_the_damaged_record_alone() {
    let mut server = filled();
    flip(&newest_segment(&server), 5000);
    let (ok, output) = tool(&["check", "--data", path(&server.data())]);
    assert!(!ok && output.contains("damaged at byte"), "{output}");
    server.start_again();
    let aside = expect_set_aside(&server, "1199 keys are served");
    assert!(server.log().contains("; 1 records before others are missing"), "{}", server.log());
    assert_eq!(sessions_left(&server), 1199, "what was written after it counts too");
    let rescued = server.directory.path().join("rescued");
    let (done, output) = tool(&["salvage", path(&aside), "--to", path(&rescued)]);
    assert!(done && output.contains("1199 keys"), "{output}");
    let (sound, output) = tool(&["check", "--data", path(&rescued.join("salvaged"))]);
    assert!(sound, "{output}");
    // And it goes on as a whole store does.
    server.client().say("set after 1");
    server.kill();
    server.start_again();
    let mut client = server.client();
    assert_eq!(client.say("get after"), bulk("1"));
    client.say("del after");
    assert_eq!(sessions_left(&server), 1199);
    server.stop();
    server.check();
}

/// The last segment: cut, emptied, and something else in its place.
#[test]
fn a_log_that_is_not_as_it_was_left_is_noticed() {
    let mut server = filled();
    let segment = newest_segment(&server);
    let whole = fs::read(&segment).expect("a segment");
    let others: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(server.data())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.clone(), fs::read(path).expect("a file")))
        .collect();
    let end = whole.iter().rposition(|byte| *byte != 0).expect("records");
    let damages: [(&str, Vec<u8>); 6] = [
        ("cut in its records", whole[..end / 2].to_vec()),
        ("cut behind them", whole[..whole.len() - 1].to_vec()),
        ("empty", Vec::new()),
        ("zeros", vec![0; whole.len()]),
        ("something else", b"#!/bin/sh\nexit 1\n".repeat(1000)),
        ("a flipped header", {
            let mut bytes = whole.clone();
            bytes[10] ^= 4;
            bytes
        }),
    ];
    for (what, bytes) in damages {
        for entry in fs::read_dir(server.data()).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                .expect("it goes");
        }
        for (path, bytes) in &others {
            fs::write(path, bytes).expect("written");
        }
        fs::write(server.directory.path().join("log"), "").expect("the log");
        fs::write(&segment, bytes).expect("written");
        let (sound, output) = tool(&["check", "--data", path(&server.data())]);
        assert!(!sound, "{what}: {output}");
        server.start_again();
        expect_set_aside(&server, "keys are served");
        let left = sessions_left(&server);
        assert!(left >= 1000, "{what}: what is in the file is there: {left}");
        if ["cut behind them", "a flipped header"].contains(&what) {
            assert_eq!(left, 1200, "{what}");
        }
        server.kill();
    }
}

#[test]
fn half_a_record_at_the_end_of_the_log_is_no_damage() {
    let mut server = filled();
    let segment = newest_segment(&server);
    let bytes = fs::read(&segment).expect("a segment");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("records") as u64;
    // A crash leaves what was not written as it was, and no file shorter than it was made.
    let file = OpenOptions::new().write(true).open(&segment).expect("a segment");
    file.write_all_at(&[0; 4], end - 3).expect("it can be written");
    server.start_again();
    assert_eq!(set_aside(&server), None, "{}", server.log());
    let mut client = server.client();
    assert_eq!(client.say("get log-198"), bulk("value-198"));
    assert_eq!(client.say("get log-199"), Value::Null);
}

#[test]
fn of_a_damaged_file_all_is_served_that_is_sound_and_nothing_else() {
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
    let (mut detected, mut flipped, mut salvaged) = (0, 0, 0);
    for round in 0..12 {
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
        let left = sessions_left(&server);
        if set_aside(&server).is_some() {
            detected += 1;
            let aside = expect_set_aside(&server, "damaged");
            assert!(aside.join("sessions.redb").exists());
            // One flipped bit costs the values of a page at most, or what it is found by.
            if round % 3 == 1 {
                salvaged += usize::from(left > 1000);
                flipped += 1;
            }
            let mut client = server.client();
            client.say("set works 1");
            assert_eq!(client.say("get works"), bulk("1"));
            server.stop();
            server.check();
            server.start_again();
        } else {
            // The flip hit a free page: everything must be as it was.
            assert_eq!(left, 1200, "round {round}");
        }
        server.kill();
    }
    assert!(detected >= 8, "only {detected} of 12 were detected");
    assert!(flipped > 0 && salvaged * 10 >= flipped * 7, "{salvaged} of {flipped} were salvaged");
}

#[test]
fn a_file_of_something_else_is_set_aside() {
    let mut server = Server::start(&[]);
    server.stop();
    fs::write(server.data().join("sessions.redb"), b"this is no database\n".repeat(5000))
        .expect("it can be written");
    server.start_again();
    expect_set_aside(&server, "0 keys are served. Lost:");
}

/// A start that ends while it salvages is gone on with by the next one.
#[test]
fn a_salvage_that_was_interrupted_is_done_again() {
    let mut server = filled();
    // As `kill -9` leaves it: all is set aside, and nothing made of it yet.
    let aside = server.data().join("damaged-1");
    fs::create_dir(&aside).expect("a directory");
    for entry in fs::read_dir(server.data()).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            fs::rename(&path, aside.join(path.file_name().expect("a name"))).expect("moved");
        }
    }
    fs::create_dir_all(server.data().join("salvaging/made/copy")).expect("a directory");
    server.start_again();
    expect_set_aside(&server, "1200 keys are served");
    assert_eq!(sessions_left(&server), 1200);
    server.stop();
    server.check();
    assert!(!server.data().join("salvaging").exists());
}
