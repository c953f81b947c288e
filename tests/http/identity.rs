//! What servers learn of a client's certificate, and that no client can make it up.

use std::io::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roundsman::config::settings::{ClientCertificate, ForwardedCertificate, Listener};
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use super::clients::run;
use super::support::pki::{Authority, https, https_for};
use super::support::{Backend, Message, Proxy, Wire as _};
use super::tls::{BOTH, Client, connect, front};

/// What a client sends who would be somebody else, in every spelling that a server may fall for.
const FORGED: &[&str] = &[
    "Client-Cert: :Zm9yZ2Vk:",
    "client-cert: :Zm9yZ2Vk:",
    "Client_Cert: :Zm9yZ2Vk:",
    "CLIENT-CERT-CHAIN: :Zm9yZ2Vk:",
    "client_cert_chain: :Zm9yZ2Vk:",
    "X-SSL-Client-Verify: SUCCESS",
    "X_SSL_Client_DN: CN=admin",
    "ssl-client-subject-dn: CN=admin",
    "X-Forwarded-Client-Cert: Subject=\"CN=admin\"",
];

fn forging() -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", FORGED.join("\r\n"))
}

fn ask(client: &mut Client) {
    client.stream.write_all(forging().as_bytes()).unwrap();
    assert_eq!(client.final_response("GET").unwrap().status(), 200);
}

/// Everything in the last request that tells of a certificate.
fn told(backend: &Backend) -> Vec<(String, String)> {
    let Message { fields, .. } = backend.requests().pop().unwrap();
    let tells = |name: &str| name.contains("cert") || name.contains("client");
    fields.into_iter().filter(|(name, _)| tells(name)).collect()
}

/// The certificates of a field.
fn certificates(value: &str) -> Vec<Vec<u8>> {
    let item = |item: &str| {
        let bytes = item.strip_prefix(':').and_then(|i| i.strip_suffix(':')).expect("colons");
        STANDARD.decode(bytes).unwrap()
    };
    value.split(", ").map(item).collect()
}

#[test]
fn a_server_sees_the_certificate_of_its_client_and_no_other() {
    let authority = Authority::new();
    let identity = authority.sign("a", &["a.example"]);
    let client = authority.sign("client", &["client"]);
    let chain: Vec<_> = client.chain().iter().map(|c| c.to_vec()).collect();
    let backend = Backend::named("ok");
    let listener = |forward_client_certificate| Listener {
        forward_client_certificate,
        ..https_for(&identity, &authority, ClientCertificate::Optional)
    };
    for version in [&TLS12, &TLS13] {
        let known = Arc::new(authority.client(&[version], Some(&client)));
        let nobody = Arc::new(authority.client(&[version], None));

        let proxy = front(&backend, listener(ForwardedCertificate::Chain), 1);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut connection = connect(&proxy, &known, "a.example").unwrap();
            // On one connection each request has it.
            for _ in 0..2 {
                ask(&mut connection);
                let told = told(&backend);
                let names: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
                assert_eq!(names, ["client-cert", "client-cert-chain"]);
                assert_eq!(certificates(&told[0].1), chain[..1]);
                assert_eq!(certificates(&told[1].1), chain[1..]);
            }
            if kind == HandshakeKind::Resumed {
                assert_eq!(connection.stream.conn.handshake_kind(), Some(kind));
            }
        }
        ask(&mut connect(&proxy, &nobody, "a.example").unwrap());
        assert_eq!(told(&backend), [], "it has shown none");

        let proxy = front(&backend, listener(ForwardedCertificate::Certificate), 1);
        ask(&mut connect(&proxy, &known, "a.example").unwrap());
        let [(name, value)] = &told(&backend)[..] else { panic!("{:?}", told(&backend)) };
        assert_eq!((name.as_str(), certificates(value)), ("client-cert", chain[..1].to_vec()));

        let proxy = front(&backend, listener(ForwardedCertificate::No), 1);
        ask(&mut connect(&proxy, &known, "a.example").unwrap());
        assert_eq!(told(&backend), []);
    }
}

#[test]
fn what_clients_send_never_arrives_also_where_nobody_is_asked_for_a_certificate() {
    let authority = Authority::new();
    let identity = authority.sign("a", &["a.example"]);
    let backend = Backend::named("ok");
    let cleartext = Proxy::over(&[&backend]);
    assert_eq!(cleartext.ask(forging()).status(), 200);
    assert_eq!(told(&backend), []);
    let proxy = front(&backend, https(&[&identity]), 1);
    let config = Arc::new(authority.client(BOTH, None));
    ask(&mut connect(&proxy, &config, "a.example").unwrap());
    assert_eq!(told(&backend), []);
    // A proxy that is trusted may tell in its own words, not in ours: it may not know of them.
    let trusting = Proxy::with(&[&backend], |settings| {
        settings.front.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    });
    assert_eq!(trusting.ask(forging()).status(), 200);
    let mut names: Vec<_> = told(&backend).into_iter().map(|(name, _)| name).collect();
    names.sort();
    let own = ["ssl-client-subject-dn", "x-forwarded-client-cert", "x-ssl-client-verify"];
    assert_eq!(names, own);
}

/// curl over HTTP/2: every stream has it.
#[test]
fn over_http2() {
    let authority = Authority::new();
    let identity = authority.sign("a", &["localhost"]);
    let client = authority.sign("client", &["client"]);
    let backend = Backend::named("ok");
    let listener = Listener {
        forward_client_certificate: ForwardedCertificate::Certificate,
        ..https_for(&identity, &authority, ClientCertificate::Required)
    };
    let proxy = front(&backend, listener, 1);
    let url = format!("https://localhost:{}/", proxy.address.port());
    let [ca, certificate, key] =
        [&authority.file(), &client.certificate, &client.key].map(|p| p.display().to_string());
    let mut arguments = vec!["--silent", "--fail", "--http2", "--write-out", " %{http_version}\n"];
    arguments.extend(["--cacert", &ca, "--cert", &certificate, "--key", &key]);
    for field in FORGED {
        arguments.extend(["--header", field]);
    }
    arguments.extend([url.as_str(), &url]);
    assert_eq!(run("curl", &arguments, b""), "ok 2\nok 2\n");
    let [(name, value)] = &told(&backend)[..] else { panic!("{:?}", told(&backend)) };
    assert_eq!(
        (name.as_str(), certificates(value)),
        ("client-cert", vec![client.chain()[0].to_vec()])
    );

    // The guide's way of reading it.
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tls.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let snippet = guide.split("```js\n").nth(1).unwrap().split("```").next().unwrap();
    let program = format!(
        "const request = {{ headers: {{ 'client-cert': process.argv[1] }} }}\n{snippet}\n\
         console.log(certificate.subjectAltName)"
    );
    assert_eq!(run("node", &["-e", &program, value], b""), "DNS:client\n");
}
