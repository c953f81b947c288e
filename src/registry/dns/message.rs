//! DNS messages: questions as they are sent, answers as they are understood.

use std::net::IpAddr;
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE};

use super::DnsError;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// The servers of a service.
    Srv,
}

/// The target of one SRV record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// Lower goes first.
    pub priority: u16,
    /// Share among those of the same priority.
    pub weight: u16,
    /// Its port.
    pub port: u16,
    /// Its host, in lower case.
    pub target: String,
}

/// The records that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    /// Of kinds A and AAAA.
    Addresses(Vec<IpAddr>),
    /// Of kind SRV.
    Services(Vec<Service>),
}

/// What a message turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The answer, and how long it is good for.
    Answer(Records, Duration),
    /// It did not fit; the whole is to be had over TCP.
    Truncated,
    /// Not the answer to this question.
    Stray,
}

/// More links in a chain of aliases are a loop.
const MAX_ALIASES: usize = 16;

impl Kind {
    fn kind(self) -> TYPE {
        match self {
            Self::A => TYPE::A,
            Self::Aaaa => TYPE::AAAA,
            Self::Srv => TYPE::SRV,
        }
    }
}

/// The message that asks a resolver for this name, whole and without a dot at its end.
pub fn question(id: u16, name: &str, kind: Kind) -> Result<Vec<u8>, DnsError> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(|_| DnsError::Name)?;
    packet.questions.push(Question::new(name, kind.kind().into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().map_err(|_| DnsError::Name)
}

/// Understands what came back.
pub fn reply(message: &[u8], id: u16, name: &str, kind: Kind) -> Result<Reply, DnsError> {
    let Ok(packet) = Packet::parse(message) else {
        // Whoever knows the number is the one that was asked; others are not listened to.
        let ours = message.get(..2) == Some(&id.to_be_bytes());
        return if ours { Err(DnsError::Malformed) } else { Ok(Reply::Stray) };
    };
    let asked = QTYPE::from(kind.kind());
    let answers = packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && matches!(&*packet.questions, [q] if q.qtype == asked && is(&q.qname, name));
    // A server that understood nothing cannot repeat the question.
    let mute = packet.id() == id && packet.questions.is_empty() && packet.rcode() != RCODE::NoError;
    if !answers && !mute {
        return Ok(Reply::Stray);
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(Reply::Truncated);
    }
    match packet.rcode() {
        RCODE::NoError => Ok(records(&packet, name, kind)),
        RCODE::NameError => Err(DnsError::NoSuchName),
        RCODE::ServerFailure => Err(DnsError::Refused("SERVFAIL: it has a problem itself")),
        RCODE::Refused => Err(DnsError::Refused("REFUSED: it does not want to")),
        RCODE::FormatError => {
            Err(DnsError::Refused("FORMERR: it does not understand the question"))
        }
        RCODE::NotImplemented => Err(DnsError::Refused("NOTIMP: it does not know how to")),
        _ => Err(DnsError::Refused("an error")),
    }
}

fn is(name: &Name<'_>, other: &str) -> bool {
    name.to_string().eq_ignore_ascii_case(other)
}

/// The records of this name, through its aliases.
fn records(packet: &Packet<'_>, name: &str, kind: Kind) -> Reply {
    let mut owner = name.to_owned();
    let mut ttl = u32::MAX;
    for _ in 0..MAX_ALIASES {
        let alias = packet.answers.iter().find_map(|record| match &record.rdata {
            RData::CNAME(alias) if is(&record.name, &owner) => {
                Some((alias.0.to_string(), record.ttl))
            }
            _ => None,
        });
        let Some((target, alias_ttl)) = alias else { break };
        owner = target;
        ttl = ttl.min(alias_ttl);
    }
    let (mut addresses, mut services) = (Vec::new(), Vec::new());
    for record in packet.answers.iter().filter(|r| r.class == CLASS::IN && is(&r.name, &owner)) {
        match (&record.rdata, kind) {
            (RData::A(a), Kind::A) => addresses.push(IpAddr::V4(a.address.into())),
            (RData::AAAA(aaaa), Kind::Aaaa) => addresses.push(IpAddr::V6(aaaa.address.into())),
            (RData::SRV(srv), Kind::Srv) => services.push(Service {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_string().to_ascii_lowercase(),
            }),
            _ => continue,
        }
        ttl = ttl.min(record.ttl);
    }
    let records = match kind {
        Kind::A | Kind::Aaaa => Records::Addresses(addresses),
        Kind::Srv => Records::Services(services),
    };
    Reply::Answer(records, Duration::from_secs(ttl.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a resolver sends for `api.example`: an alias, then two addresses, all compressed.
    const ALIASED: &[u8] = b"\x12\x34\x81\x80\x00\x01\x00\x03\x00\x00\x00\x00\
        \x03api\x07example\x00\x00\x01\x00\x01\
        \xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x06\x03lb1\xc0\x10\
        \xc0\x29\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\x0a\x00\x00\x01\
        \xc0\x29\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\x0a\x00\x00\x02";

    #[test]
    fn questions_are_what_the_standard_says() {
        let expected = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\
            \x03api\x07example\x00\x00\x21\x00\x01";
        assert_eq!(question(0x1234, "api.example", Kind::Srv).unwrap(), expected);
        assert_eq!(question(1, &"a".repeat(64), Kind::A), Err(DnsError::Name));
    }

    #[test]
    fn aliases_are_followed() {
        let addresses = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap()).to_vec();
        let answer = Reply::Answer(Records::Addresses(addresses), Duration::from_secs(30));
        assert_eq!(reply(ALIASED, 0x1234, "API.example", Kind::A), Ok(answer));
    }

    #[test]
    fn services_have_all_their_fields() {
        let message = b"\x00\x01\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\
            \x05_http\x04_tcp\x01a\x00\x00\x21\x00\x01\
            \xc0\x0c\x00\x21\x00\x01\x00\x00\x00\x05\x00\x0b\
            \x00\x0a\x00\x05\x1f\x90\x02S1\xc0\x17";
        let service = Service { priority: 10, weight: 5, port: 8080, target: "s1.a".into() };
        let answer = Reply::Answer(Records::Services(vec![service]), Duration::from_secs(5));
        assert_eq!(reply(message, 1, "_http._tcp.a", Kind::Srv), Ok(answer));
    }

    #[test]
    fn what_answers_another_question_is_not_listened_to() {
        let stray = Ok(Reply::Stray);
        assert_eq!(reply(ALIASED, 0x1235, "api.example", Kind::A), stray);
        assert_eq!(reply(ALIASED, 0x1234, "apj.example", Kind::A), stray);
        assert_eq!(reply(ALIASED, 0x1234, "api.example", Kind::Aaaa), stray);
        let question = question(0x1234, "api.example", Kind::A).unwrap();
        assert_eq!(reply(&question, 0x1234, "api.example", Kind::A), stray, "our own question");
        assert_eq!(reply(b"\x00", 0x1234, "api.example", Kind::A), stray);
        let other = b"\x00\x07\x81\x85\x00\x01\x00\x00\x00\x00\x00\x00\x01b\x00\x00\x01\x00\x01";
        assert_eq!(reply(other, 7, "a", Kind::A), stray, "an error of another question");
    }

    #[test]
    fn who_cannot_repeat_the_question_is_heard_if_it_is_an_error() {
        let head = |id: u8, code: u8| [0, id, 0x81, 0x80 | code, 0, 0, 0, 0, 0, 0, 0, 0];
        let refused =
            |message: &[u8]| matches!(reply(message, 7, "a", Kind::A), Err(DnsError::Refused(_)));
        assert!(refused(&head(7, 1)));
        assert_eq!(reply(&head(7, 0), 7, "a", Kind::A), Ok(Reply::Stray));
        assert_eq!(reply(&head(8, 1), 7, "a", Kind::A), Ok(Reply::Stray));
    }

    #[test]
    fn records_of_other_names_and_kinds_are_no_answer() {
        // Asked for a: b is an alias of c, and c has an address.
        let others = b"\x00\x07\x81\x80\x00\x01\x00\x02\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01\
            \x01b\x00\x00\x05\x00\x01\x00\x00\x00\x05\x00\x03\x01c\x00\
            \x01c\x00\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x01";
        let found = |message: &[u8], kind| match reply(message, 7, "a", kind) {
            Ok(Reply::Answer(Records::Addresses(found), _)) => found,
            other => panic!("{other:?}"),
        };
        assert!(found(others, Kind::A).is_empty());
        let six = b"\x00\x07\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x00\x00\x1c\x00\x01\
            \xc0\x0c\x00\x1c\x00\x01\x00\x00\x00\x05\x00\x10\
            \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01";
        assert_eq!(found(six, Kind::Aaaa), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn errors_are_told_apart() {
        let with = |flags: [u8; 2]| {
            let mut message = question(7, "a.b", Kind::A).unwrap();
            message[2..4].copy_from_slice(&flags);
            reply(&message, 7, "a.b", Kind::A)
        };
        assert_eq!(with([0x81, 0x83]), Err(DnsError::NoSuchName));
        assert!(
            matches!(with([0x81, 0x82]), Err(DnsError::Refused(text)) if text.contains("SERVFAIL"))
        );
        assert!(
            matches!(with([0x81, 0x85]), Err(DnsError::Refused(text)) if text.contains("REFUSED"))
        );
        for (code, word) in [(0x81, "FORMERR"), (0x84, "NOTIMP"), (0x86, "an error")] {
            let said = with([0x81, code]);
            assert!(
                matches!(said, Err(DnsError::Refused(text)) if text.contains(word)),
                "{said:?}"
            );
        }
        assert_eq!(with([0x83, 0x80]), Ok(Reply::Truncated));
        let nothing =
            Reply::Answer(Records::Addresses(Vec::new()), Duration::from_secs(u32::MAX.into()));
        assert_eq!(with([0x81, 0x80]), Ok(nothing));
    }

    #[test]
    fn a_loop_of_aliases_ends() {
        // a is an alias of a.
        let message = b"\x00\x01\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01\
            \xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x05\x00\x02\xc0\x0c";
        let Ok(Reply::Answer(Records::Addresses(found), _)) = reply(message, 1, "a", Kind::A)
        else {
            panic!("no answer");
        };
        assert!(found.is_empty());
    }

    proptest! {
        #[test]
        fn no_message_panics(at in 0..ALIASED.len(), byte: u8, end in 0..=ALIASED.len()) {
            let mut message = ALIASED.to_vec();
            message[at] = byte;
            let _ = reply(&message[..end], 0x1234, "api.example", Kind::A);
        }

        #[test]
        fn no_noise_panics(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let id = u16::from_be_bytes([*noise.first().unwrap_or(&0), *noise.get(1).unwrap_or(&0)]);
            let _ = reply(&noise, id, "a", Kind::Srv);
        }
    }
}
