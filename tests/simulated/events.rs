//! The events that the journal has by a `MESSAGE_ID=` of their own: that each comes about, with the
//! fields that an administrator filters by. `journalctl -x` explains every one of them.

use std::net::{SocketAddr, TcpListener};

use rustix::process::Signal;

use super::machine::Running;
use super::{Machine, service};
use crate::balance_wire::zone::{Says, Zone};
use crate::common::backend::Backend;
use crate::common::http::{Client, get};
use crate::common::waiting::PATIENCE;

const SERVE: &str = "serve --config /etc/roundsman --listen http=127.0.0.1:0";

/// A front on the machine, that serves; where it listens.
fn serve(machine: &Machine, arguments: &str) -> (Running, SocketAddr) {
    machine.journal.forget();
    let admin = machine.path("run/admin.sock").display().to_string();
    let front = machine.begin(&format!("{SERVE}{arguments} --admin {admin}"));
    machine.journal.has("FRONT_READY", &[]);
    let status = machine.must(&format!("status --json --admin {admin}"));
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let address = status["listeners"][0]["address"].as_str().unwrap().parse().unwrap();
    (front, address)
}

/// A command to that front.
fn tell(machine: &Machine, command: &str) -> i32 {
    let admin = machine.path("run/admin.sock").display().to_string();
    machine.run(&format!("{command} --admin {admin}")).status
}

/// A request of which nobody cares what is answered.
fn ask(address: SocketAddr) {
    let _ = Client::connect(address, PATIENCE).unwrap().ask(get("/"));
}

/// A server that says this to the first request on each connection.
fn server(answer: &'static str) -> SocketAddr {
    let server = Backend::raw(move |peer| {
        if peer.request().is_some() && peer.send(answer.as_bytes()).is_ok() {
            peer.wait_for_end();
        }
    });
    server.address
}

#[test]
fn a_front_says_when_it_begins_when_it_reloads_and_when_it_stops() {
    let Some(machine) = Machine::new() else { return };
    let (front, _) = serve(&machine, "");
    assert_eq!(tell(&machine, "reload"), 0);
    machine.journal.has("RELOADED", &[]);
    machine.write("etc/roundsman/roundsman.toml", "nonsense = 1\n");
    assert_eq!(tell(&machine, "reload"), 78);
    let refused = machine.journal.has("RELOAD_REFUSED", &[("PRIORITY", "3")]);
    assert!(refused["MESSAGE"].contains("nonsense"), "{refused:?}");
    front.signal(Signal::TERM);
    machine.journal.has("FRONT_STOPPING", &[]);
    assert_eq!(front.end().status, 0);

    // Started anew, it goes by what was good.
    let (front, _) = serve(&machine, "");
    let used = machine.journal.has("LAST_GOOD_USED", &[("PRIORITY", "3")]);
    assert!(used["MESSAGE"].contains("nonsense"), "{used:?}");
    front.signal(Signal::TERM);
    front.end();
}

#[test]
fn a_front_without_its_certificates_says_so() {
    let Some(machine) = Machine::new() else { return };
    machine.write(
        "etc/roundsman/roundsman.toml",
        "[listen.https]\ncertificates = [{ certificate = \"/none.pem\", key = \"/none.key\" }]\n",
    );
    let (front, _) = serve(&machine, " --listen https=127.0.0.1:0");
    let refused = machine.journal.has("CERTIFICATES_REFUSED", &[("PRIORITY", "3")]);
    assert!(refused["MESSAGE"].contains("/none"), "{refused:?}");
    front.signal(Signal::TERM);
    front.end();
}

#[test]
fn what_systemd_and_the_administrator_do_to_workers_is_said() {
    let Some(machine) = Machine::with_shop(3, "") else { return };
    machine.must("stop shop");
    machine.systemd.run(&service(1));
    machine.systemd.run(&service(2));
    let (front, _) = serve(&machine, "");
    let of = |worker| [("ROUNDSMAN_APP", "shop"), ("ROUNDSMAN_WORKER", worker)];
    machine.journal.has("SERVER_DOWN", &of("shop:3"));
    assert_eq!(tell(&machine, "drain shop:1"), 0);
    machine.journal.has("SERVER_DRAINING", &of("shop:1"));
    machine.systemd.hang_up();
    let lost = machine.journal.has("BUS_LOST", &[("PRIORITY", "4")]);
    assert!(lost["MESSAGE"].contains("over D-Bus"), "{lost:?}");
    front.signal(Signal::TERM);
    front.end();
}

#[test]
fn servers_that_fail_and_come_back_are_said_with_the_reason() {
    let Some(machine) = Machine::new() else { return };
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = nobody.local_addr().unwrap();
    drop(nobody);
    machine.write(
        "etc/roundsman/upstreams/api.toml",
        &format!(
            "servers = [{{ address = \"{dead}\" }}]\nroute = [{{ path = \"/\" }}]\n\
             [health]\ntcp = true\ninterval = \"100ms\"\nfails = 1\npasses = 2\n"
        ),
    );
    let (front, _) = serve(&machine, "");
    let server = dead.to_string();
    let of = [("ROUNDSMAN_SERVER", &*server)];
    let ejected = machine.journal.has("SERVER_EJECTED", &of);
    assert!(ejected.contains_key("ROUNDSMAN_REASON"), "{ejected:?}");
    let panic = machine.journal.has("PANIC", &[("PRIORITY", "4")]);
    assert!(panic["MESSAGE"].contains("panic-threshold"), "{panic:?}");
    let back = TcpListener::bind(dead).unwrap();
    std::thread::spawn(move || back.incoming().for_each(drop));
    machine.journal.has("SERVER_UP", &of);
    machine.journal.has("PANIC_OVER", &[]);
    front.signal(Signal::TERM);
    front.end();
}

#[test]
fn a_server_that_is_tried_again_is_said() {
    let Some(machine) = Machine::new() else { return };
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = nobody.local_addr().unwrap();
    drop(nobody);
    let well = server("HTTP/1.1 204 x\r\nConnection: close\r\n\r\n");
    machine.write(
        "etc/roundsman/upstreams/api.toml",
        &format!(
            "servers = [{{ address = \"{dead}\" }}, {{ address = \"{well}\" }}]\n\
             route = [{{ path = \"/\" }}]\n[passive]\nmax-fails = 1\nfail-timeout = \"1s\"\n"
        ),
    );
    let (front, address) = serve(&machine, "");
    for _ in 0..4 {
        ask(address);
    }
    let server = dead.to_string();
    machine.journal.has("SERVER_EJECTED", &[("ROUNDSMAN_SERVER", &server)]);
    machine.journal.has("SERVER_SUSPECT", &[("ROUNDSMAN_SERVER", &server)]);
    front.signal(Signal::TERM);
    front.end();
}

#[test]
fn a_server_that_sends_more_than_its_answer_is_named() {
    let Some(machine) = Machine::new() else { return };
    let server = server("HTTP/1.1 204 x\r\n\r\nand more").to_string();
    machine.write(
        "etc/roundsman/upstreams/api.toml",
        &format!("servers = [{{ address = \"{server}\" }}]\nroute = [{{ path = \"/\" }}]\n"),
    );
    let (front, address) = serve(&machine, "");
    ask(address);
    let spoke = machine.journal.has("SERVER_SPOKE", &[("PRIORITY", "4")]);
    let text = format!("{server} sent more than its answer");
    assert!(spoke["MESSAGE"].contains(&text), "{spoke:?}");
    front.signal(Signal::TERM);
    front.end();
}

#[test]
fn a_name_that_does_not_resolve_is_said_and_that_it_does_again() {
    let Some(machine) = Machine::new() else { return };
    let zone = Zone::start();
    zone.set("api.internal", Says::Addresses(vec![[127, 0, 0, 1].into()], 1));
    machine.write("etc/roundsman/roundsman.toml", &zone.settings());
    machine.write(
        "etc/roundsman/upstreams/api.toml",
        "servers = [{ address = \"dns:api.internal:9\" }]\nroute = [{ path = \"/\" }]\n",
    );
    let (front, _) = serve(&machine, "");
    zone.set("api.internal", Says::Error(simple_dns::RCODE::ServerFailure));
    let failed = machine.journal.has("DNS_FAILED", &[("PRIORITY", "4")]);
    assert!(failed["MESSAGE"].contains("api.internal"), "{failed:?}");
    zone.set("api.internal", Says::Addresses(vec![[127, 0, 0, 2].into()], 1));
    let again = machine.journal.has("DNS_RECOVERED", &[]);
    assert!(again["MESSAGE"].contains("api.internal"), "{again:?}");
    machine.journal.has("DNS_CHANGED", &[]);
    front.signal(Signal::TERM);
    front.end();
}

/// As its unit starts it, once the worker before has ended this often and in this way.
fn worker(machine: &Machine, ends: u32) -> i32 {
    for _ in 0..ends {
        let ended =
            [("SERVICE_RESULT", "exit-code"), ("EXIT_CODE", "exited"), ("EXIT_STATUS", "1")];
        let said = machine.begin_with("worker-ended shop:1", &ended).end();
        assert_eq!(said.status, 0, "{said:?}");
    }
    machine.run("worker shop:1").status
}

#[test]
fn a_worker_says_that_it_is_done_or_given_up() {
    let keys = "user = \"root\"\nlisten = \"port\"\nport = 7999\nstop-exit-codes = [7]\n\
                [restart]\nlimit = 2\n";
    let Some(machine) = Machine::with_shop(1, keys) else { return };
    let of = [("ROUNDSMAN_APP", "shop"), ("ROUNDSMAN_WORKER", "shop:1")];
    assert_eq!(worker(&machine, 2), 80);
    let given_up = machine.journal.has("WORKER_GIVEN_UP", &of);
    assert!(given_up["MESSAGE"].contains("after 2 crashes in a row"), "{given_up:?}");
    // The note of the crashes goes with it.
    std::fs::remove_file(machine.path("run/roundsman/crashes/shop:1")).unwrap();
    let file = machine.path("etc/roundsman/apps/shop.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("\"/bin/true\"", "\"/bin/sh\", \"-c\", \"exit 7\"");
    std::fs::write(&file, text).unwrap();
    assert_eq!(worker(&machine, 0), 79);
    let done = machine.journal.has("WORKER_DONE", &of);
    assert!(done["MESSAGE"].contains("stop-exit-codes"), "{done:?}");
}
