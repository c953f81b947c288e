//! Syncs that fail: what was acknowledged is on the disk all the same.
//!
//! A library that is loaded before libc has one `fdatasync` of the log fail, and the disk forget
//! what it should have brought there, as a kernel does whose device reported an error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::session::client::{Client, Value, ok};
use crate::session::server::{Server, eventually, path};

/// `FAIL_SYNC` is a file whose removal says that it has happened.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { int fd; off_t at; size_t length; } unsynced[1 << 16];
static int count;

static int is_log(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, "/log-") != NULL;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    if (!is_log(fd)) return real(fd, bytes, length, at);
    pthread_mutex_lock(&lock);
    ssize_t written = real(fd, bytes, length, at);
    if (written > 0 && count < 1 << 16) {
        unsynced[count].fd = fd;
        unsynced[count].at = at;
        unsynced[count++].length = written;
    }
    pthread_mutex_unlock(&lock);
    return written;
}

int fdatasync(int fd)
{
    static int (*real)(int);
    static ssize_t (*write)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    if (!write) write = dlsym(RTLD_NEXT, "pwrite64");
    if (!is_log(fd)) return real(fd);
    pthread_mutex_lock(&lock);
    int mine = 0, kept = 0;
    for (int i = 0; i < count; i++) mine += unsynced[i].fd == fd;
    const char *flag = getenv("FAIL_SYNC");
    int fail = mine > 0 && flag && access(flag, F_OK) == 0;
    for (int i = 0; i < count; i++) {
        if (unsynced[i].fd != fd) {
            unsynced[kept++] = unsynced[i];
        } else if (fail) {
            char *zeros = calloc(1, unsynced[i].length);
            if (write(fd, zeros, unsynced[i].length, unsynced[i].at) < 0) abort();
            free(zeros);
        }
    }
    count = kept;
    if (fail) unlink(flag);
    pthread_mutex_unlock(&lock);
    if (fail) { errno = EIO; return -1; }
    return real(fd);
}
"#;

/// Builds the library; where it lies.
fn library(directory: &Path) -> PathBuf {
    let (source, library) = (directory.join("fail.c"), directory.join("fail.so"));
    fs::write(&source, LIBRARY).expect("written");
    let status = Command::new("gcc")
        .args(["-shared", "-fPIC", "-O1", "-o", path(&library), path(&source), "-ldl", "-lpthread"])
        .status()
        .expect("gcc is there, as the contributor's guide asks");
    assert!(status.success(), "the library is built");
    library
}

/// Writers that go on until the server is gone; what each was told is done.
fn writers(
    server: &Server,
    acknowledged: &[Mutex<u64>],
    refused: &AtomicU64,
    during: impl FnOnce(),
) {
    /// Ends the writers whatever becomes of the test.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let socket = server.socket();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        for (writer, last) in acknowledged.iter().enumerate() {
            let (socket, stop) = (&socket, &stop);
            scope.spawn(move || {
                let Ok(mut client) = Client::connect(socket) else { return };
                for number in (1..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    let words =
                        ["set".to_owned(), format!("w{writer}-{number}"), number.to_string()];
                    match client.call(&words) {
                        Ok(reply) if reply == ok() => {
                            let mut last = last.lock().expect("no panic");
                            // Numbers that were refused are no promise.
                            *last = number;
                        }
                        Ok(Value::Error(text)) => {
                            assert!(text.starts_with("MISCONF "), "{text}");
                            refused.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                        Ok(other) => panic!("{other:?}"),
                        Err(_) => return,
                    }
                }
            });
        }
        during();
    });
}

fn one_failed_sync(sync: &str) {
    let mut server = Server::prepare(&["--sync", sync]);
    let flag = server.directory.path().join("fail-sync");
    let library = library(server.directory.path());
    server.set_variable("LD_PRELOAD", path(&library));
    server.set_variable("FAIL_SYNC", path(&flag));
    server.start_again();
    let acknowledged: Vec<Mutex<u64>> = (0..4).map(|_| Mutex::new(0)).collect();
    let refused = AtomicU64::new(0);
    let enough = |count| acknowledged.iter().all(|last| *last.lock().expect("no panic") >= count);
    writers(&server, &acknowledged, &refused, || {
        eventually("writes are acknowledged", || enough(200));
        fs::write(&flag, "").expect("written");
        eventually("a sync has failed", || !flag.exists());
        // Every writer hears of it: none of their writes since is on the disk.
        eventually("writes are refused", || refused.load(Ordering::Relaxed) == 4);
    });
    eventually("the log says so", || server.log().contains("ERROR"));
    eventually("writes are taken again", || server.client().say("set after 1") == ok());
    let mut later = server.client();
    for number in 0..500 {
        assert_eq!(later.say(&format!("set later-{number} {number}")), ok());
    }
    server.kill();
    server.start_again();
    let mut client = server.client();
    for (writer, last) in acknowledged.iter().enumerate() {
        for number in 1..=*last.lock().expect("no panic") {
            let reply = client.say(&format!("get w{writer}-{number}"));
            assert_eq!(reply, Value::Bulk(number.to_string().into_bytes()), "w{writer}-{number}");
        }
    }
    for number in 0..500 {
        let reply = client.say(&format!("get later-{number}"));
        assert_eq!(reply, Value::Bulk(number.to_string().into_bytes()), "later-{number}");
    }
    assert!(!server.log().contains("damaged"), "{}", server.log());
    server.stop();
    server.check();
}

#[test]
fn no_write_of_a_failed_sync_is_forgotten_with_always() {
    one_failed_sync("always");
}

#[test]
fn no_write_of_a_failed_sync_is_forgotten_with_everysec() {
    one_failed_sync("everysec");
}
