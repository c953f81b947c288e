//! Clients that go while their request waits: nobody works for them, and they take nobody's place.

use std::net::Shutdown;
use std::time::Duration;

use roundsman::balance::State;
use roundsman::front::Reason;
use rustix::net::sockopt::set_socket_linger;

use super::support::{Backend, Client, Proxy, Wire, eventually, get, ok};

/// A server that never answers what is not for `/`.
fn slow() -> Backend {
    Backend::raw(|peer| {
        while let Some(request) = peer.request() {
            if request.target() != "/" {
                return peer.wait_for_end();
            }
            if peer.send(&ok("answer")).is_err() {
                return;
            }
        }
    })
}

/// The ways to go.
const WAYS: [fn(Client); 2] = [reset, drop];

fn reset(client: Client) {
    set_socket_linger(&client.stream, Some(Duration::ZERO)).unwrap();
    drop(client);
}

fn set_down(proxy: &Proxy, state: State) {
    let snapshot = proxy.front.snapshot();
    let (_, server) = snapshot.servers().next().unwrap();
    proxy.front.set_state(server, state);
}

#[test]
fn who_goes_leaves_the_queue() {
    for go in WAYS {
        let backend = slow();
        let proxy = Proxy::over(&[&backend]);
        set_down(&proxy, State::Down);
        let clients: Vec<_> = (0..10).map(|_| proxy.send(get("/"))).collect();
        let mut stays = proxy.send(get("/"));
        let mut uploads = proxy.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx");
        eventually("they wait", || proxy.totals().waiting == 12);
        clients.into_iter().for_each(go);
        eventually("they have left", || proxy.totals().waiting == 2);
        uploads.send("more");
        go(uploads);
        eventually("so has who was sending", || proxy.totals().waiting == 1);
        set_down(&proxy, State::Up);
        assert_eq!(stays.final_response("GET").unwrap().text(), "answer");
        assert_eq!(backend.requests().len(), 1, "nobody asked for the others");
        assert_eq!(proxy.totals().of(Reason::ClientGone), 11);
    }
}

#[test]
fn the_server_is_told_of_who_goes_and_has_a_place_for_the_next_one() {
    for go in WAYS {
        for kept_alive in [false, true] {
            let backend = slow();
            let proxy = Proxy::with(&[&backend], |settings| {
                let upstream = settings.upstreams.get_mut("test").unwrap();
                upstream.servers[0].options.max_connections = Some(1);
            });
            let mut client = proxy.connect();
            if kept_alive {
                assert_eq!(client.get("/").text(), "answer");
            }
            client.send(get("/never"));
            eventually("the server has it", || {
                backend.requests().iter().any(|request| request.target() == "/never")
            });
            let mut next = proxy.send(get("/"));
            eventually("the next one waits", || proxy.totals().waiting == 1);
            go(client);
            assert_eq!(next.final_response("GET").unwrap().text(), "answer");
            let server = proxy.front.snapshot().servers().next().unwrap().1.clone();
            assert_eq!(server.failures(), 0);
        }
    }
}

#[test]
fn what_a_client_sends_while_it_waits_is_served_afterwards() {
    let backend = Backend::new(|request| ok(request.target()));
    let proxy = Proxy::over(&[&backend]);
    set_down(&proxy, State::Down);
    let mut client = proxy.send(get("/a"));
    eventually("it waits", || proxy.totals().waiting == 1);
    client.send(get("/b"));
    client.send("POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    set_down(&proxy, State::Up);
    for (method, target) in [("GET", "/a"), ("GET", "/b"), ("POST", "/c")] {
        assert_eq!(client.final_response(method).unwrap().text(), target);
    }
    assert_eq!(backend.requests()[2].body, b"hello");
}

#[test]
fn a_half_closed_client_waits_for_its_answer_where_that_is_wanted() {
    let backend = Backend::named("late");
    let proxy = Proxy::with(&[&backend], |settings| settings.front.serve_half_closed = true);
    set_down(&proxy, State::Down);
    let mut client = proxy.send(get("/"));
    eventually("it waits", || proxy.totals().waiting == 1);
    client.stream.shutdown(Shutdown::Write).unwrap();
    set_down(&proxy, State::Up);
    assert_eq!(client.final_response("GET").unwrap().text(), "late");
    assert!(client.is_closed());
}
