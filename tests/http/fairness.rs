//! Nobody keeps a thread for himself.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use roundsman::config::Settings;
use roundsman::config::settings::{Address, HostPattern, ServerOptions, UpstreamServer};

use super::support::{Backend, Proxy, Wire, add, eventually, get};

#[test]
fn who_asks_without_a_pause_leaves_others_their_turn() {
    let backend = Backend::named("answer");
    let mut settings = Settings::default();
    let address = Address::Tcp(backend.address);
    let server = UpstreamServer { address, options: ServerOptions::default() };
    add(&mut settings, "test", vec![server], HostPattern::Exact("a.example".into()), "/");
    settings.front.limits.requests_per_connection = u64::MAX;
    let proxy = Proxy::start(settings, 1);
    let over = AtomicBool::new(false);
    // The front answers these itself, and there are always more of them.
    let flood = "GET / HTTP/1.1\r\nHost: nowhere\r\n\r\n".repeat(2000);
    let stream = proxy.connect().stream;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = &stream;
            while !over.load(Ordering::SeqCst) {
                if stream.write_all(flood.as_bytes()).is_err() {
                    break;
                }
            }
            let _ = stream.shutdown(std::net::Shutdown::Both);
        });
        scope.spawn(|| {
            let mut stream = &stream;
            let mut answers = vec![0; 1 << 20];
            while stream.read(&mut answers).is_ok_and(|count| count > 0) {}
        });
        eventually("the flood has begun", || proxy.totals().requests > 1000);
        let heartbeat = proxy.threads.heartbeats()[0];
        let mut client = proxy.connect();
        for _ in 0..20 {
            assert_eq!(client.get("/").text(), "answer");
        }
        assert_eq!(proxy.ask(get("/")).text(), "answer", "also who connects now");
        eventually("the thread lives", || proxy.threads.heartbeats()[0] > heartbeat + 2);
        over.store(true, Ordering::SeqCst);
    });
}
