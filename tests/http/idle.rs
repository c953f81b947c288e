//! Ten thousand clients that wait, and sixty-four that work meanwhile.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::support::{Backend, Wire as _, eventually, get, program};

const IDLE: usize = 10_000;

/// Who says nothing may be quiet for as long as it takes to open all of them.
const PATIENT: &str =
    "[threads]\ncount = 2\n[timeouts]\nclient-header = \"10min\"\nidle = \"10min\"\n";

#[test]
fn idle_connections_are_in_nobodys_way_and_leave_nothing() {
    // This process and the front, which inherits it, need a descriptor for each.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();

    let backend = Backend::named("ok");
    let front = program(&[&backend], PATIENT);
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", front.process.id())).unwrap().count();
    assert_eq!(front.ask(get("/")).status(), 200);
    let before = descriptors();

    // Half of them have had an answer, half have never said anything.
    let mut idle = Vec::new();
    for n in 0..IDLE {
        if n % 2 == 0 {
            let mut client = front.send(get("/"));
            assert_eq!(client.final_response("GET").unwrap().status(), 200);
            idle.push(client.stream);
        } else {
            idle.push(TcpStream::connect(front.at()).unwrap());
        }
    }
    eventually("all are open", || descriptors() >= before + IDLE);

    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut client = front.connect();
                for _ in 0..50 {
                    assert_eq!(client.get("/").status(), 200);
                }
            });
        }
    });

    // They are as good as new after all that.
    for stream in idle.iter_mut().step_by(500) {
        stream.write_all(get("/").as_bytes()).unwrap();
        let mut client = super::support::Reader::new(&*stream);
        assert_eq!(client.final_response("GET").unwrap().status(), 200);
    }
    drop(idle);
    eventually("their descriptors are free", || descriptors() <= before + 64 + 2);
}
