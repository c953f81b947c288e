//! Certificates that cannot be used: every one is named, with what to do about it.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::path::Path;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use roundsman::config::{Sources, load};
use roundsman::tls::Tls;

/// Writes `NAME.pem` and `NAME.key`.
fn sign(directory: &Path, name: &str, years: (i32, i32)) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
    fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

/// The problems of a listener with these pairs of files.
fn problems(directory: &Path, pairs: &[(&str, &str)]) -> Vec<(bool, String)> {
    let at = |file: &str| match file.strip_prefix("credential:") {
        Some(_) => file.to_owned(),
        None => directory.join(file).display().to_string(),
    };
    let list: Vec<String> = pairs
        .iter()
        .map(|(c, k)| format!("{{ certificate = \"{}\", key = \"{}\" }}", at(c), at(k)))
        .collect();
    let text = format!("[listen.https]\ncertificates = [{}]\n", list.join(", "));
    fs::write(directory.join("roundsman.toml"), text).unwrap();
    let loaded = load(&Sources::directory(directory));
    assert!(loaded.problems.is_empty(), "{}", loaded.problems);
    let (_, problems) = Tls::load(&loaded.settings.front, None);
    let shown = |text: &str| text.replace(&format!("{}/", directory.display()), "");
    problems
        .iter()
        .map(|p| (p.is_error(), format!("{}; {}", shown(p.title()), shown(p.help_text().unwrap()))))
        .collect()
}

#[test]
fn every_certificate_that_cannot_be_used_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for (name, years) in [("a", (2020, 2090)), ("old", (2001, 2002)), ("early", (2090, 2091))] {
        sign(root, name, years);
    }
    sign(root, "b", (2020, 2090));
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("cut"), "-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap();
    let block = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(root.join("no-der"), block).unwrap();
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(root.join("locked"), locked).unwrap();
    assert_eq!(problems(root, &[("a.pem", "a.key"), ("b.pem", "b.key")]), []);
    for ((certificate, key), is_error, text) in [
        (("gone.pem", "a.key"), true, "the certificate gone.pem is not there; put"),
        (("a.pem", "gone.key"), true, "the key gone.key is not there; put"),
        (("a.pem", "b.key"), true, "the key b.key does not belong to the certificate a.pem; write"),
        (("empty", "a.key"), true, "there is no certificate in empty; it must have"),
        (("cut", "a.key"), true, "the certificate cut is no PEM"),
        (("no-der", "a.key"), true, "the certificate no-der is malformed"),
        (("a.key", "a.key"), true, "there is no certificate in a.key"),
        (("a.pem", "a.pem"), true, "there is no private key in a.pem"),
        (("a.pem", "locked"), true, "the key locked is encrypted; take the password off"),
        (("old.pem", "old.key"), false, "the certificate old.pem expired on Tue, 01 Jan 2002"),
        (("early.pem", "early.key"), false, "the certificate early.pem is not valid before"),
        (("credential:x", "a.key"), true, "the certificate is credential x, and this process"),
    ] {
        let found = problems(root, &[("b.pem", "b.key"), (certificate, key)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, is_error, "{found:?}");
        assert!(found[0].1.starts_with(text), "{found:?}");
    }
}

#[test]
fn check_shows_where_the_certificate_is_named() {
    let directory = tempfile::tempdir().unwrap();
    sign(directory.path(), "a", (2020, 2090));
    sign(directory.path(), "b", (2020, 2090));
    problems(directory.path(), &[("a.pem", "b.key")]);
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roundsman"));
        command.args(["check", "--config"]).arg(directory.path()).output().unwrap()
    };
    let output = check();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("roundsman.toml:2:") && text.contains("b.key does not belong"), "{text}");
    problems(directory.path(), &[("a.pem", "a.key")]);
    assert!(check().status.success());
}

#[test]
fn what_is_said_about_tls_must_make_sense() {
    let directory = tempfile::tempdir().unwrap();
    for (text, title) in [
        ("[listen.https]\n", "`certificates` is missing"),
        ("[listen.https]\ncertificates = []\n", "there is no certificate"),
        (
            "[listen.http]\nclient-ca = \"/a\"\n",
            "`client-ca` is for TLS, which this listener does not speak",
        ),
        ("[listen.x]\nprotocol = \"tls\"\n", "`tls` is not known"),
        (
            "[listen.https]\ncertificates = [{ certificate = \"/a\", key = \"credential:a/b\" }]\n",
            "`a/b` cannot be the name of a credential",
        ),
        (
            "[listen.https]\ncertificates = [{ certificate = \"/a\", key = \"k.pem\" }]\n",
            "the path must be absolute",
        ),
        (
            "[listen.https]\nclient-certificate = \"optional\"\n\
             certificates = [{ certificate = \"/a\", key = \"/b\" }]\n",
            "it is not said who signs the clients' certificates",
        ),
    ] {
        fs::write(directory.path().join("roundsman.toml"), text).unwrap();
        let problems = load(&Sources::directory(directory.path())).problems;
        let titles: Vec<_> = problems.iter().map(|p| p.title().to_owned()).collect();
        assert_eq!(titles, [title], "{text}");
    }
}
