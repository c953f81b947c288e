//! Apps that share one thread: the many connections of one keep no other app waiting. What is waited for is
//! counted in requests of others that are carried out meanwhile, not in time.

use std::io::Write as _;
use std::net::Shutdown;

use crate::session::access::{Remote, listening};
use crate::session::client::{Client, Value, encode, ok};
use crate::session::server::{Server, eventually};

/// Members of each of the two sets: to combine them takes some hundredths of a second in a debug build.
const MEMBERS: u32 = 30_000;
const CONNECTIONS: usize = 60;

/// A field of `INFO`, as the administrator reads it.
fn field(client: &mut Client, name: &str) -> usize {
    let Value::Bulk(text) = client.say("info") else { panic!("no text") };
    let text = String::from_utf8(text).expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("it is there").parse().expect("a number")
}

/// Makes two sets, and as many keys.
fn fill(client: &mut Client) {
    for start in (0..MEMBERS).step_by(1000) {
        let members: Vec<String> = (start..start + 1000).map(|n| n.to_string()).collect();
        for key in ["a", "b"] {
            assert_eq!(
                client.say(&format!("sadd {key} {}", members.join(" "))),
                Value::Integer(1000)
            );
        }
    }
    for start in (0..MEMBERS / 2).step_by(1000) {
        let pairs: Vec<String> = (start..start + 1000).map(|n| format!("key{n} x")).collect();
        assert_eq!(client.say(&format!("mset {}", pairs.join(" "))), ok());
    }
}

/// Sixty connections of one app ask for what takes long, again and again, and another app asks for a key.
#[test]
fn an_app_waits_for_no_more_than_a_turn_of_another_one() {
    let (server, port) = listening("[session]\nconnections = 200\n");
    let mut administrator = server.client();
    let mut filling = server.client();
    assert_eq!(filling.say("auth shop any"), ok());
    fill(&mut filling);
    let mut blog = Remote::connect(port);
    assert_eq!(blog.say("auth blog other"), "+OK");
    let shop: Vec<Remote> = (0..CONNECTIONS)
        .map(|_| {
            let mut client = Remote::connect(port);
            assert_eq!(client.say("auth shop 'open sesame:1'"), "+OK");
            client
        })
        .collect();
    let transaction = format!("multi\r\n{}exec\r\n", "sinterstore c a b\r\n".repeat(2));
    let kinds = ["sintercard 2 a b\r\n", "keys x*\r\n", &transaction, "sunionstore d a b\r\n"];
    for (client, kind) in shop.iter().zip(kinds.iter().cycle()) {
        let requests = kind.repeat(5);
        client.0.get_ref().write_all(requests.as_bytes()).expect("it is taken");
    }
    for number in 0..5 {
        let before = field(&mut administrator, "total_commands_processed");
        let set = blog.say("set a 1");
        assert_eq!((set.as_str(), blog.say("get a").as_str()), ("+OK", "$1"));
        assert_eq!(blog.next(), "1");
        let between = field(&mut administrator, "total_commands_processed") - before;
        // Each of the four questions meets one turn, of four requests at most (a transaction of two), and may meet
        // the next one, which began while its answer was on its way.
        assert!(
            between <= 4 + 4 * 2 * 4,
            "{between} requests were carried out, at question {number}"
        );
    }
}

/// What a client has asked for that is not there any more is carried out for nobody, when it had to wait. One that
/// has only ended its own side is there, and reads.
#[test]
fn what_nobody_waits_for_is_not_carried_out() {
    let server = Server::start(&[]);
    let mut administrator = server.client();
    fill(&mut administrator);
    let before = field(&mut administrator, "total_commands_processed");
    let mut request = Vec::new();
    encode(&mut request, &["sintercard", "2", "a", "b"]);
    let mut clients: Vec<Client> = (0..=CONNECTIONS).map(|_| server.client()).collect();
    for client in &clients {
        client.stream().write_all(&request.repeat(4)).expect("it is taken");
    }
    let mut half = clients.pop().expect("there are some");
    half.stream().shutdown(Shutdown::Write).expect("half of it closes");
    drop(clients);
    for _ in 0..4 {
        assert_eq!(half.receive().expect("a reply"), Value::Integer(i64::from(MEMBERS)));
    }
    eventually("all others are gone", || field(&mut administrator, "connected_clients") <= 2);
    let done = field(&mut administrator, "total_commands_processed") - before;
    assert!(done < CONNECTIONS / 2, "{done} of {} requests were carried out", 4 * CONNECTIONS);
}
