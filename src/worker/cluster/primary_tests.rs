//! The conversation with a cluster worker, by the messages that Node 20 sends.

use super::*;

fn message(text: &str) -> ClusterMessage {
    serde_json::from_str::<Value>(text).unwrap().into()
}

fn query(rest: &str) -> ClusterMessage {
    message(&format!(r#"{{"act":"queryServer","index":0,"data":null,"seq":7,{rest}}}"#))
}

fn listening(rest: &str) -> ClusterMessage {
    message(&format!(r#"{{"act":"listening","index":0,"data":null,"seq":8,{rest}}}"#))
}

const ANY_3000: &str = r#""address":null,"port":3000,"addressType":4,"backlog":0"#;
const LOCAL_3000: &str = r#""address":"127.0.0.1","port":3000,"addressType":4,"flags":0"#;
const METRICS: &str = r#""address":null,"port":9090,"addressType":4"#;

fn reply(decision: Decision) -> Value {
    match decision {
        Decision::Reply(value) => value,
        other => panic!("a reply, not {other:?}"),
    }
}

fn claim(decision: Decision) -> Request {
    match decision {
        Decision::Claim(request) => request,
        other => panic!("a claim, not {other:?}"),
    }
}

fn refusal(decision: Decision) -> Errno {
    match decision {
        Decision::Refuse(value, _, errno) => {
            assert_eq!(value["errno"], json!(-errno.raw_os_error()));
            assert_eq!(value["ack"], json!(7));
            errno
        }
        other => panic!("a refusal, not {other:?}"),
    }
}

#[test]
fn the_first_server_gets_the_fronts_connections_and_the_address_it_asked_for() {
    let mut primary = Primary::new(None);
    let answer = reply(primary.receive(query(ANY_3000)));
    assert_eq!(answer["ack"], json!(7));
    assert_eq!(answer["sockname"], json!({"address": "::", "family": "IPv6", "port": 3000}));
    assert_eq!(primary.front(), None, "it does not listen yet");
    let decision = primary.receive(listening(ANY_3000));
    assert!(matches!(decision, Decision::Listening(_, true)), "{decision:?}");
    assert_eq!(primary.front(), answer["key"].as_str());
}

#[test]
fn a_host_is_kept() {
    let answer = reply(Primary::new(None).receive(query(LOCAL_3000)));
    assert_eq!(answer["sockname"], json!({"address": "127.0.0.1", "family": "IPv4", "port": 3000}));
}

#[test]
fn any_port_is_always_the_same_one() {
    let asked = r#""address":null,"port":0,"addressType":4"#;
    let mut primary = Primary::new(None);
    let answer = reply(primary.receive(query(asked)));
    assert_eq!(answer["sockname"]["port"], json!(ANY_PORT));
    let got = asked.replace("\"port\":0", &format!("\"port\":{ANY_PORT}"));
    assert!(matches!(primary.receive(listening(&got)), Decision::Listening(_, true)));
}

#[test]
fn later_servers_get_sockets_of_their_own() {
    let mut primary = Primary::new(None);
    reply(primary.receive(query(ANY_3000)));
    let request = claim(primary.receive(query(METRICS)));
    let answer = primary.settled(&request, Some(9090), &Value::Null);
    assert!(answer.get("sockname").is_none());
    assert_eq!(answer["errno"], json!(0));
    assert!(matches!(primary.receive(listening(METRICS)), Decision::Listening(_, false)));
    assert_eq!(primary.front(), None, "the first server does not listen yet");
}

#[test]
fn port_chooses_the_fronts_server() {
    let mut primary = Primary::new(Some("3000".to_owned()));
    assert!(!claim(primary.receive(query(METRICS))).front);
    assert_eq!(reply(primary.receive(query(LOCAL_3000)))["sockname"]["port"], json!(3000));
}

#[test]
fn the_same_port_twice_is_an_error_as_without_a_cluster() {
    let mut primary = Primary::new(None);
    reply(primary.receive(query(ANY_3000)));
    assert_eq!(refusal(primary.receive(query(ANY_3000))), Errno::ADDRINUSE);
    assert_eq!(refusal(primary.receive(query(LOCAL_3000))), Errno::ADDRINUSE);
}

#[test]
fn a_closed_server_can_listen_again() {
    let mut primary = Primary::new(None);
    let key = reply(primary.receive(query(ANY_3000)))["key"].as_str().unwrap().to_owned();
    primary.receive(listening(ANY_3000));
    let close = message(&format!(r#"{{"act":"close","key":"{key}","seq":9}}"#));
    assert!(matches!(primary.receive(close), Decision::Closed(Closed { front: true, .. })));
    assert_eq!(primary.front(), None);
    let again = reply(primary.receive(query(ANY_3000)));
    primary.receive(listening(ANY_3000));
    assert_eq!(primary.front(), again["key"].as_str());
    assert_ne!(again["key"], json!(key), "a late answer for the old one must not be mistaken");
}

#[test]
fn unix_sockets_and_descriptors_may_be_the_fronts_server_too() {
    let path = r#""address":"/run/app.sock","port":-1,"addressType":-1"#;
    let mut primary = Primary::new(None);
    assert!(reply(primary.receive(query(path))).get("sockname").is_none(), "Node knows the path");
    assert!(matches!(primary.receive(listening(path)), Decision::Listening(_, true)));
    let fd = r#""address":null,"port":null,"addressType":null,"fd":3"#;
    assert_eq!(refusal(primary.receive(query(fd))), Errno::INVAL);
    assert!(reply(Primary::new(None).receive(query(fd))).get("sockname").is_some());
}

#[test]
fn datagrams_are_never_the_fronts() {
    let udp = r#""address":"0.0.0.0","port":5353,"addressType":"udp4","fd":-1,"flags":4"#;
    let mut primary = Primary::new(None);
    let request = claim(primary.receive(query(&udp.replace("5353", "0"))));
    primary.settled(&request, Some(5353), &Value::Null);
    assert!(matches!(primary.receive(listening(udp)), Decision::Listening(_, false)));
    let zone = r#""address":"fe80::1%eth0","port":80,"addressType":6"#;
    assert_eq!(refusal(Primary::new(None).receive(query(zone))), Errno::ADDRNOTAVAIL);
}

#[test]
fn tls_ticket_keys_are_those_of_the_first_worker() {
    let asked = ClusterMessage { data: json!("a1b2"), ..query(LOCAL_3000) };
    let mut primary = Primary::new(None);
    let request = claim(primary.receive(asked));
    assert!(request.front && request.data == json!("a1b2"));
    let answer = primary.settled(&request, None, &json!("firsts"));
    assert_eq!(answer["data"], json!("firsts"));
    assert_eq!(answer["sockname"]["port"], json!(3000));
}

#[test]
fn workers_call_the_same_server_the_same() {
    let name = |text: &str| claim(Primary::new(Some("x".to_owned())).receive(query(text))).name;
    let any = METRICS.replace("9090", "0");
    let second = any.clone() + r#","index":1"#;
    assert_eq!(name(METRICS), name(METRICS));
    assert_eq!(name(&any), name(&any));
    assert_ne!(name(&any), name(&second));
    assert_ne!(name(METRICS), name(ANY_3000));
    let shared = r#""address":"0.0.0.0","port":5353,"addressType":"udp4","flags":4"#;
    let mut primary = Primary::new(None);
    let names = [(); 2].map(|()| claim(primary.receive(query(shared))).name);
    assert_ne!(names[0], names[1], "one that the app has open already");
}

#[test]
fn a_server_that_gets_no_socket_is_in_nobodys_way() {
    let mut primary = Primary::new(Some("3000".to_owned()));
    let request = claim(primary.receive(query(METRICS)));
    let answer = primary.refused(&request, Errno::ADDRINUSE);
    assert_eq!(answer["errno"], json!(-Errno::ADDRINUSE.raw_os_error()));
    assert_eq!(claim(primary.receive(query(METRICS))).name, request.name);
}

#[test]
fn an_app_that_leaves_is_answered_and_gets_no_more_servers() {
    let mut primary = Primary::new(None);
    let decision = primary.receive(message(r#"{"act":"exitedAfterDisconnect","seq":4}"#));
    assert!(matches!(decision, Decision::Leaving(value) if value["ack"] == json!(4)));
    assert_eq!(primary.receive(query(ANY_3000)), Decision::Nothing);
}

#[test]
fn nonsense_is_ignored() {
    let mut primary = Primary::new(None);
    for text in [
        "{}",
        r#"{"act":"close"}"#,
        r#"{"act":"close","key":"of-nobody"}"#,
        r#"{"act":"listening","port":-7}"#,
        r#"{"act":"listening","port":99999}"#,
        r#"{"act":"launchMissiles","seq":1}"#,
        r#"{"ack":12}"#,
    ] {
        assert_eq!(primary.receive(message(text)), Decision::Nothing, "{text}");
    }
    let bad_port = r#""address":null,"port":99999,"addressType":4"#;
    assert_eq!(refusal(primary.receive(query(bad_port))), Errno::INVAL);
}

#[test]
fn a_pipe_of_the_apps_own_is_not_its_server_unless_port_names_it() {
    const PIPE: &str = r#""address":"/tmp/tsx-0/17.pipe","port":-1,"addressType":-1"#;
    let mut primary = Primary::new(None);
    assert!(!claim(primary.receive(query(PIPE))).front);
    reply(primary.receive(query(ANY_3000)));
    let decision = primary.receive(listening(ANY_3000));
    assert!(matches!(decision, Decision::Listening(_, true)), "{decision:?}");
    let mut named = Primary::new(Some("/tmp/tsx-0/17.pipe".to_owned()));
    reply(named.receive(query(PIPE)));
}
