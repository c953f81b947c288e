//! What sslscan, a program of others', finds at the real binary: nothing weak.

use std::fs;

use super::clients::run;
use super::support::pki::{Authority, Identity};
use super::support::program;

/// Elements of this name in sslscan's XML, each with its attributes as they stand. They are all
/// empty, and no value has a quote in it.
fn elements<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!("<{name} ");
    xml.split(&start).skip(1).map(|rest| rest.split('>').next().unwrap()).collect()
}

fn attribute<'a>(element: &'a str, name: &str) -> &'a str {
    let start = format!("{name}=\"");
    let value = element.split(&start).nth(1).unwrap_or_else(|| panic!("no {name}: {element}"));
    value.split('"').next().unwrap()
}

/// Everything that is weak, by sslscan's own judgement and ours.
fn weaknesses(xml: &str) -> Vec<String> {
    let mut weak = Vec::new();
    let mut must = |is: bool, element: &str| {
        if !is {
            weak.push(element.trim().to_owned());
        }
    };
    for protocol in elements(xml, "protocol") {
        let new = attribute(protocol, "type") == "tls"
            && ["1.2", "1.3"].contains(&attribute(protocol, "version"));
        must(new == (attribute(protocol, "enabled") == "1"), protocol);
    }
    for cipher in elements(xml, "cipher") {
        let bits: u32 = attribute(cipher, "bits").parse().unwrap();
        let name = attribute(cipher, "cipher");
        let forward_secret = name.starts_with("TLS_") || name.starts_with("ECDHE-");
        let authenticated = name.contains("GCM") || name.contains("POLY1305");
        must(["strong", "acceptable"].contains(&attribute(cipher, "strength")), cipher);
        must(bits >= 128 && forward_secret && authenticated, cipher);
    }
    for group in elements(xml, "group") {
        must(attribute(group, "bits").parse::<u32>().unwrap() >= 112, group);
    }
    for renegotiation in elements(xml, "renegotiation") {
        // Not at all, which is secure, too.
        must(attribute(renegotiation, "supported") == "0", renegotiation);
    }
    for compression in elements(xml, "compression") {
        must(attribute(compression, "supported") == "0", compression);
    }
    for heartbleed in elements(xml, "heartbleed") {
        must(attribute(heartbleed, "vulnerable") == "0", heartbleed);
    }
    weak
}

/// A table of `certificates`.
fn entry(identity: &Identity) -> String {
    let (certificate, key) = (identity.certificate.display(), identity.key.display());
    format!("{{ certificate = \"{certificate}\", key = \"{key}\" }}")
}

#[test]
fn sslscan_finds_nothing_weak() {
    let authority = Authority::new();
    let names = &["localhost"];
    let ecdsa = authority.sign("ecdsa", names);
    let rsa = authority.sign_with("rsa", names, &rcgen::PKCS_RSA_SHA256, |_| {});
    let front = program(
        &[],
        &format!(
            "[listen.http]\nprotocol = \"https\"\ncertificates = [{}, {}]\n",
            entry(&ecdsa),
            entry(&rsa)
        ),
    );
    let at = format!("localhost:{}", front.address.port());
    let file = authority.path().join("scan.xml");
    let xml = format!("--xml={}", file.display());
    run("sslscan", &["--ipv4", "--no-colour", &xml, &at], b"");
    let xml = fs::read_to_string(file).unwrap();
    let nothing: [String; 0] = [];
    assert_eq!(weaknesses(&xml), nothing, "{xml}");
    // It did look.
    let count = |name| elements(&xml, name).len();
    let looked = ["protocol", "cipher", "group", "heartbleed", "renegotiation"].map(count);
    assert!(looked[0] == 6 && looked[1] >= 9 && looked[2] >= 3, "{looked:?}: {xml}");
    assert!(looked[3] == 2 && looked[4] == 1, "{looked:?}: {xml}");

    let old = run("openssl", &["s_client", "-tls1_2", "-connect", &at], b"Q\n");
    assert!(old.contains("Secure Renegotiation IS supported"), "{old}");
    assert!(old.contains("Compression: NONE"), "{old}");
}

#[test]
fn what_is_weak_would_be_found() {
    let weak = r#"
        <protocol type="ssl" version="3" enabled="1" />
        <protocol type="tls" version="1.1" enabled="1" />
        <protocol type="tls" version="1.3" enabled="0" />
        <compression supported="1" />
        <renegotiation supported="1" secure="0" />
        <heartbleed sslversion="TLSv1.2" vulnerable="1" />
        <cipher status="accepted" sslversion="TLSv1.2" bits="112" cipher="ECDHE-RSA-DES-CBC3-SHA" id="0xC012" strength="medium" />
        <cipher status="accepted" sslversion="TLSv1.2" bits="128" cipher="AES128-GCM-SHA256" id="0x009C" strength="acceptable" />
        <group sslversion="TLSv1.2" bits="80" name="sect163k1" id="0x0001" />"#;
    // The old cipher is weak for two reasons.
    assert_eq!(weaknesses(weak).len(), 10, "{:?}", weaknesses(weak));
}
