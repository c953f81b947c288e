//! What hundreds of active checks cost, and that slow ones keep nobody waiting.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::eventually;
use super::support::{Front, settings};

/// Servers on as many addresses with one listener; some take the question and never answer.
struct Many {
    addresses: Vec<SocketAddr>,
    asked: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Many {
    fn start(count: usize, hanging: usize) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let addresses: Vec<SocketAddr> = (0..count)
            .map(|n| ([127, 80, (n / 250) as u8, (n % 250 + 1) as u8], port).into())
            .collect();
        let silent = addresses[..hanging].to_vec();
        let asked: Arc<Mutex<HashMap<IpAddr, usize>>> = Arc::default();
        let of_thread = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming().flatten() {
                let Ok(own) = stream.local_addr() else { continue };
                *of_thread.lock().expect("nobody panics with it").entry(own.ip()).or_default() += 1;
                if silent.contains(&own) {
                    kept.push(stream);
                } else {
                    let _ = answer(stream);
                }
            }
        });
        Self { addresses, asked }
    }

    fn front(&self, check: &str) -> Front {
        let servers: Vec<_> =
            self.addresses.iter().map(|a| format!("{{ address = \"{a}\" }}")).collect();
        let text = format!("servers = [{}]\n{check}", servers.join(", "));
        Front::with(&settings(2), &[("upstreams/api.toml", &text)])
    }

    /// Checks of each server so far.
    fn asked(&self) -> Vec<usize> {
        let asked = self.asked.lock().expect("nobody panics with it");
        self.addresses.iter().map(|a| asked.get(&a.ip()).copied().unwrap_or(0)).collect()
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 1024];
    let _ = stream.read(&mut buffer)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}

#[test]
fn slow_checks_delay_no_others() {
    let many = Many::start(300, 100);
    let check = "[health]\npath = \"/\"\ninterval = \"1s\"\ntimeout = \"5min\"\nstart = \"down\"\n";
    let front = many.front(check);
    eventually("those that answer are asked again and again", || {
        many.asked()[100..].iter().all(|&times| times >= 3)
    });
    assert!(many.asked()[..100].iter().all(|&times| times == 1), "{:?}", many.asked());
    let states = front.servers();
    assert!(states[..100].iter().all(|(state, _)| state == "starting"), "{states:?}");
    assert!(states[100..].iter().all(|(state, _)| state == "up"), "{states:?}");
}

/// Prints what it costs; `make bench` has no other number for it. The bound is for a front without
/// optimisation on a machine that does something else.
#[test]
fn hundreds_of_checks_cost_little() {
    let many = Many::start(300, 0);
    let front = many.front("[health]\npath = \"/\"\ninterval = \"1s\"\n");
    let all = || many.asked().iter().sum::<usize>();
    eventually("all were asked", || many.asked().iter().all(|&times| times > 0));
    let (before, cpu, began) = (all(), front.cpu_seconds(), Instant::now());
    eventually("each was asked three more times", || all() >= before + 900);
    let (checks, spent) = (all() - before, front.cpu_seconds() - cpu);
    let took = began.elapsed();
    println!(
        "300 servers at 1 s: {checks} checks in {:.1} s cost {:.0} ms of CPU, {:.0} us each: {:.1} % \
         of a core",
        took.as_secs_f64(),
        spent * 1e3,
        spent * 1e6 / checks as f64,
        spent * 100.0 / took.as_secs_f64(),
    );
    assert!(took >= Duration::from_secs(2), "more often than asked for");
    assert!(spent / (checks as f64) < 0.004, "{spent} s for {checks} checks");
}
