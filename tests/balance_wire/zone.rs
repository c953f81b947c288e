//! A DNS server of the test's own, over UDP and TCP on one port.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

use simple_dns::rdata::{A, AAAA, RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

/// What does not fit into it goes over TCP.
const DATAGRAM: usize = 512;

/// What a name is answered with.
#[derive(Clone)]
pub(crate) enum Says {
    /// These addresses, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// These services: priority, weight, port, target.
    Services(Vec<(u16, u16, u16, String)>, u32),
    /// An error.
    Error(RCODE),
    /// Nothing at all.
    Nothing,
}

#[derive(Default)]
struct State {
    names: HashMap<String, Says>,
    /// Questions by name and kind, and those over TCP.
    asked: HashMap<String, usize>,
    over_tcp: usize,
}

/// The server, for as long as the test runs.
pub(crate) struct Zone {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Zone {
    pub(crate) fn start() -> Self {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("it is bound")) {
                break (tcp, udp);
            }
        };
        let address = tcp.local_addr().expect("it is bound");
        let state: Arc<Mutex<State>> = Arc::default();
        let of_udp = Arc::clone(&state);
        std::thread::spawn(move || {
            let mut buffer = [0; DATAGRAM];
            while let Ok((length, client)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = answer(&buffer[..length], &of_udp, true) {
                    let _ = udp.send_to(&answer, client);
                }
            }
        });
        let of_tcp = Arc::clone(&state);
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let mut length = [0; 2];
                let mut question = Vec::new();
                if stream.read_exact(&mut length).is_ok() {
                    question.resize(u16::from_be_bytes(length).into(), 0);
                }
                if stream.read_exact(&mut question).is_ok()
                    && let Some(answer) = answer(&question, &of_tcp, false)
                {
                    let length = (answer.len() as u16).to_be_bytes();
                    let _ = stream.write_all(&[&length[..], &answer].concat());
                }
            }
        });
        Self { address, state }
    }

    /// `roundsman.toml` of a front that asks it.
    pub(crate) fn settings(&self) -> String {
        let front = super::support::settings(2);
        format!("{front}[dns]\nservers = [\"{}\"]\ntimeout = \"200ms\"\n", self.address)
    }

    pub(crate) fn set(&self, name: &str, says: Says) {
        self.lock().names.insert(name.to_owned(), says);
    }

    /// How often it was asked for this.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.lock().asked.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn asked_over_tcp(&self) -> usize {
        self.lock().over_tcp
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }
}

fn answer(question: &[u8], state: &Mutex<State>, over_udp: bool) -> Option<Vec<u8>> {
    let question = Packet::parse(question).expect("a proper question");
    assert!(question.has_flags(PacketFlag::RECURSION_DESIRED));
    let asked = question.questions[0].clone();
    let name = asked.qname.to_string();
    let says = {
        let mut state = state.lock().expect("nobody panics with it");
        *state.asked.entry(name.clone()).or_default() += 1;
        state.over_tcp += usize::from(!over_udp);
        state.names.get(&name).cloned().unwrap_or(Says::Error(RCODE::NameError))
    };
    let mut packet = Packet::new_reply(question.id());
    packet.set_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE);
    packet.questions.push(asked.clone());
    let of = Name::new(&name).expect("it was one");
    let mut add = |ttl, data| {
        packet.answers.push(ResourceRecord::new(of.clone(), CLASS::IN, ttl, data));
    };
    match says {
        Says::Nothing => return None,
        Says::Error(error) => *packet.rcode_mut() = error,
        Says::Addresses(addresses, ttl) => {
            for address in addresses {
                match address {
                    IpAddr::V4(ip) if asked.qtype == QTYPE::TYPE(TYPE::A) => {
                        add(ttl, RData::A(A { address: ip.into() }));
                    }
                    IpAddr::V6(ip) if asked.qtype == QTYPE::TYPE(TYPE::AAAA) => {
                        add(ttl, RData::AAAA(AAAA { address: ip.into() }));
                    }
                    _ => {}
                }
            }
        }
        Says::Services(services, ttl) => {
            for (priority, weight, port, target) in services {
                let target = Name::new(&target).expect("a name").into_owned();
                add(ttl, RData::SRV(SRV { priority, weight, port, target }));
            }
        }
    }
    let mut answer = packet.build_bytes_vec_compressed().expect("it fits");
    if over_udp && answer.len() > DATAGRAM {
        packet.answers.clear();
        packet.set_flags(PacketFlag::TRUNCATION);
        answer = packet.build_bytes_vec().expect("it fits");
    }
    Some(answer)
}
