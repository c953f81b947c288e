//! TLS at the wire: real handshakes with a real client.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use roundsman::config::Settings;
use roundsman::config::settings::{ClientCertificate, Listener};
use roundsman::front::Reason;
use roundsman::tls::Tls;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};

use super::support::Reader;
use super::support::pki::{Authority, https, https_for};
use super::support::{Backend, PATIENCE, Proxy, eventually, get, ok, until_reused};

pub(super) const BOTH: &[&rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];

pub(super) type Client = Reader<StreamOwned<ClientConnection, TcpStream>>;

/// A front whose listener speaks TLS.
pub(super) fn front(backend: &Backend, listener: Listener, threads: usize) -> Proxy {
    front_with(backend, listener, threads, |_| {})
}

fn front_with(
    backend: &Backend,
    listener: Listener,
    threads: usize,
    change: impl FnOnce(&mut Settings),
) -> Proxy {
    let mut settings = super::support::settings(&[backend.address]);
    settings.front.listeners.insert("http".into(), listener);
    change(&mut settings);
    Proxy::start(settings, threads)
}

/// Shakes hands and asks for nothing yet.
pub(super) fn connect(
    proxy: &Proxy,
    config: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<Client> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut socket = TcpStream::connect(proxy.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(Reader::new(StreamOwned::new(connection, socket)))
}

/// One request, so that whatever the server sends after its handshake was read.
fn ask(client: &mut Client) -> String {
    client.stream.write_all(get("/").as_bytes()).unwrap();
    client.final_response("GET").unwrap().text().to_owned()
}

fn shown(client: &Client) -> CertificateDer<'static> {
    client.stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn a_client_gets_the_certificate_for_the_name_it_asks_for() {
    let authority = Authority::new();
    let default = authority.sign("default", &["a.example", "www.a.example"]);
    let wild = authority.sign("wild", &["*.b.example", "unlisted"]);
    let exact = authority.sign("exact", &["shop.b.example"]);
    let backend = Backend::named("ok");
    let proxy = front(&backend, https(&[&default, &wild, &exact]), 1);
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(authority.client(&[version], None));
        for (name, identity) in [
            ("a.example", &default),
            ("www.a.example", &default),
            ("shop.b.example", &exact),
            ("other.b.example", &wild),
        ] {
            let mut client = connect(&proxy, &config, name).unwrap();
            assert_eq!(client.stream.conn.protocol_version(), Some(version.version));
            assert_eq!(shown(&client), identity.chain()[0], "{name}");
            assert_eq!(ask(&mut client), "ok");
        }
        // The default's names do not fit, and a client that looks says so.
        let error = connect(&proxy, &config, "elsewhere.example").unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    let seen = backend.requests();
    assert_eq!(seen[0].one("x-forwarded-proto"), Some("https"));
    let port = proxy.address.port().to_string();
    assert_eq!(seen[0].one("x-forwarded-port"), Some(port.as_str()));
    assert!(seen[0].one("forwarded").unwrap().ends_with(";proto=https"));
    eventually("the refusals are counted", || proxy.totals().of(Reason::TlsFailed) == 2);
}

#[test]
fn a_kind_of_key_that_the_client_knows_is_taken() {
    let authority = Authority::new();
    let names = &["a.example"];
    let ed25519 = authority.sign_with("ed25519", names, &rcgen::PKCS_ED25519, |_| {});
    let ecdsa = authority.sign("ecdsa", names);
    let backend = Backend::named("ok");
    let proxy = front(&backend, https(&[&ed25519, &ecdsa]), 1);
    let config = Arc::new(authority.client(BOTH, None));
    assert_eq!(shown(&connect(&proxy, &config, "a.example").unwrap()), ed25519.chain()[0]);

    let mut config = authority.client(BOTH, None);
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let known = rustls::SignatureScheme::ECDSA_NISTP256_SHA256;
    let mapping: Vec<_> = provider
        .signature_verification_algorithms
        .mapping
        .iter()
        .filter(|(scheme, _)| *scheme == known)
        .copied()
        .collect();
    provider.signature_verification_algorithms.mapping = mapping.leak();
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
        Arc::new({
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
            roots
        }),
        Arc::new(provider),
    );
    config.dangerous().set_certificate_verifier(verifier.build().unwrap());
    let client = connect(&proxy, &Arc::new(config), "a.example").unwrap();
    assert_eq!(shown(&client), ecdsa.chain()[0]);
}

#[test]
fn sessions_are_resumed_on_every_thread_and_over_a_reload() {
    let authority = Authority::new();
    let identity = authority.sign("a", &["a.example", "b.example"]);
    let backend = Backend::named("ok");
    let proxy = front(&backend, https(&[&identity]), 2);
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(authority.client(&[version], None));
        let kind = |name| {
            let mut client = connect(&proxy, &config, name).unwrap();
            ask(&mut client);
            client.stream.conn.handshake_kind().unwrap()
        };
        assert_ne!(kind("a.example"), HandshakeKind::Resumed);
        for _ in 0..4 {
            assert_eq!(kind("a.example"), HandshakeKind::Resumed, "{version:?}");
        }
        assert_ne!(kind("b.example"), HandshakeKind::Resumed, "a session is for one name");
        reload(&proxy, https(&[&identity]));
        assert_eq!(kind("a.example"), HandshakeKind::Resumed, "{version:?}");
    }
}

/// Puts a changed listener to work as `systemctl reload` does.
fn reload(proxy: &Proxy, listener: Listener) {
    let before = proxy.front.snapshot();
    let mut settings = Settings::clone(&before.settings);
    settings.front.listeners.insert("http".into(), listener);
    let (tls, problems) = Tls::load(&settings.front, Some(&before.tls));
    assert!(problems.is_empty(), "{problems:?}");
    proxy.front.replace_with(settings, tls);
}

/// CVE-2025-23419: what was agreed on without a certificate is no way around the need for one.
#[test]
fn a_session_from_before_client_certificates_were_required_is_not_resumed() {
    let authority = Authority::new();
    let identity = authority.sign("a", &["a.example"]);
    let backend = Backend::named("ok");
    for version in [&TLS12, &TLS13] {
        let proxy = front(&backend, https(&[&identity]), 1);
        let config = Arc::new(authority.client(&[version], None));
        ask(&mut connect(&proxy, &config, "a.example").unwrap());
        let optional = https_for(&identity, &authority, ClientCertificate::Optional);
        reload(&proxy, optional);
        let mut client = connect(&proxy, &config, "a.example").unwrap();
        assert_ne!(client.stream.conn.handshake_kind(), Some(HandshakeKind::Resumed));
        ask(&mut client);
        reload(&proxy, https_for(&identity, &authority, ClientCertificate::Required));
        refused(&proxy, &config);
    }
}

/// No request of this client is answered. With TLS 1.3 it learns so only after its own part of
/// the handshake.
fn refused(proxy: &Proxy, config: &Arc<ClientConfig>) {
    let before = proxy.totals().of(Reason::TlsFailed);
    if let Ok(mut client) = connect(proxy, config, "a.example") {
        let _ = client.stream.write_all(get("/").as_bytes());
        let error = client.stream.read(&mut [0; 64]).unwrap_err();
        assert!(error.to_string().contains("fatal alert"), "{error}");
    }
    eventually("it is counted", || proxy.totals().of(Reason::TlsFailed) > before);
}

#[test]
fn client_certificates_are_required_or_optional_and_always_good() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let identity = authority.sign("a", &["a.example"]);
    let client = authority.sign("client", &["client"]);
    let forged = stranger.sign("forged", &["client"]);
    let backend = Backend::named("ok");
    for (demand, anonymous) in
        [(ClientCertificate::Required, false), (ClientCertificate::Optional, true)]
    {
        let proxy = front(&backend, https_for(&identity, &authority, demand), 1);
        for version in [&TLS12, &TLS13] {
            let known = Arc::new(authority.client(&[version], Some(&client)));
            assert_eq!(ask(&mut connect(&proxy, &known, "a.example").unwrap()), "ok");
            let mut again = connect(&proxy, &known, "a.example").unwrap();
            assert_eq!(ask(&mut again), "ok");
            assert_eq!(again.stream.conn.handshake_kind(), Some(HandshakeKind::Resumed));
            refused(&proxy, &Arc::new(authority.client(&[version], Some(&forged))));
            let nobody = Arc::new(authority.client(&[version], None));
            if anonymous {
                assert_eq!(ask(&mut connect(&proxy, &nobody, "a.example").unwrap()), "ok");
            } else {
                refused(&proxy, &nobody);
            }
        }
    }
}

#[test]
fn a_new_certificate_is_for_new_connections_and_the_old_ones_stay() {
    let authority = Authority::new();
    let old = authority.sign("a", &["a.example"]);
    let backend = Backend::named("ok");
    let proxy = front(&backend, https(&[&old]), 1);
    let config = Arc::new(authority.client(BOTH, None));
    let mut stays = connect(&proxy, &config, "a.example").unwrap();
    assert_eq!(ask(&mut stays), "ok");
    let first = shown(&stays);

    let new = authority.sign("a", &["a.example"]); // the same files
    reload(&proxy, https(&[&new]));
    let fresh = Arc::new(authority.client(BOTH, None));
    let client = connect(&proxy, &fresh, "a.example").unwrap();
    assert_ne!(shown(&client), first);
    // The pooled connections stay, too.
    until_reused(&backend, || assert_eq!(ask(&mut stays), "ok"));
}

#[test]
fn large_bodies_pass_both_ways_and_a_slow_reader_gets_all_of_it() {
    let authority = Authority::new();
    let identity = authority.sign("a", &["a.example"]);
    // Echoes the body.
    let backend = Backend::new(|request| ok(request.text()));
    let proxy = front(&backend, https(&[&identity]), 1);
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(authority.client(&[version], None));
        let mut client = connect(&proxy, &config, "a.example").unwrap();
        let body: Vec<u8> = (0..6_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        client.stream.write_all(head.as_bytes()).unwrap();
        client.stream.write_all(&body).unwrap();
        // The answer is larger than all sockets on its way: the front has to wait for us.
        eventually("the backend has it all", || backend.requests().iter().any(|r| r.body == body));
        let answer = client.final_response("POST").unwrap();
        assert!(answer.body == body);
        assert_eq!(ask(&mut client), "");
    }
}

#[test]
fn the_end_is_said_so_that_it_cannot_be_forged() {
    let authority = Authority::new();
    let identity = authority.sign("a", &["a.example"]);
    let backend = Backend::named("ok");
    let proxy = front(&backend, https(&[&identity]), 1);
    let config = Arc::new(authority.client(BOTH, None));
    let mut client = connect(&proxy, &config, "a.example").unwrap();
    client.stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    // It would be an error without close_notify.
    client.stream.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("ok"), "{text}");
}

#[test]
fn what_is_no_tls_is_refused_and_silence_is_not_counted() {
    let authority = Authority::new();
    let identity = authority.sign("a", &["a.example"]);
    let backend = Backend::named("ok");
    let proxy = front_with(&backend, https(&[&identity]), 1, |settings| {
        settings.front.timeouts.tls_handshake = Duration::from_millis(200);
    });
    drop(TcpStream::connect(proxy.address).unwrap());
    let mut plain = TcpStream::connect(proxy.address).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(get("/").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // A record that never becomes whole.
    let mut slow = TcpStream::connect(proxy.address).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    slow.write_all(&[0x16, 3, 1]).unwrap();
    assert_eq!(slow.read(&mut [0; 1]).unwrap(), 0);
    eventually("both are counted", || {
        let totals = proxy.totals();
        (totals.of(Reason::TlsFailed), totals.of(Reason::TlsTimeout)) == (1, 1)
    });
    eventually("all are gone", || proxy.totals().open == 0);
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_listener_without_a_certificate_closes() {
    let backend = Backend::named("ok");
    let proxy = front(&backend, https(&[]), 1);
    let mut socket = TcpStream::connect(proxy.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = socket.write_all(get("/").as_bytes());
    assert!(!matches!(socket.read(&mut [0; 1]), Ok(1)));
    eventually("it is counted", || proxy.totals().of(Reason::NoCertificate) == 1);
}

/// A program of others' against a front with one certificate; its output.
fn tried(proxy: &Proxy, authority: &Authority, program: &str, arguments: &[&str]) -> String {
    let port = proxy.address.port().to_string();
    let ca = authority.file().display().to_string();
    let mut command = Command::new(program);
    for argument in arguments {
        command.arg(argument.replace("@PORT@", &port).replace("@CA@", &ca));
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {text}{output:?}");
    text
}

#[test]
fn curl_and_openssl_agree_on_the_best_and_on_what_they_ask_for() {
    let authority = Authority::new();
    let identity = authority.sign("a", &["a.example"]);
    let backend = Backend::named("ok");
    let proxy = front(&backend, https(&[&identity]), 1);
    for (wish, version, http) in [
        (&["--tls-max", "1.2", "--http1.1"][..], "1.2", "1.1"),
        (&["--tlsv1.3", "--http1.1"], "1.3", "1.1"),
        (&["--tls-max", "1.2"], "1.2", "2"),
        (&["--tlsv1.3"], "1.3", "2"),
    ] {
        let mut arguments = vec!["--silent", "--show-error", "--noproxy", "*", "--max-time", "20"];
        arguments.extend(["--cacert", "@CA@", "--resolve", "a.example:@PORT@:127.0.0.1"]);
        arguments.extend(wish);
        arguments.extend(["--write-out", " %{http_version}", "https://a.example:@PORT@/"]);
        let text = tried(&proxy, &authority, "curl", &arguments);
        assert_eq!(text, format!("ok {http}"), "TLS {version}");
    }
    for (wish, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let text = tried(
            &proxy,
            &authority,
            "openssl",
            &[
                "s_client",
                "-connect",
                "127.0.0.1:@PORT@",
                "-servername",
                "a.example",
                "-verify_return_error",
                "-verify_hostname",
                "a.example",
                "-CAfile",
                "@CA@",
                wish,
                "-alpn",
                "h2,http/1.1",
            ],
        );
        assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
        assert!(text.contains(&format!("New, {version}, Cipher is")), "{text}");
        assert!(text.contains("ALPN protocol: h2"), "{text}");
    }
}
