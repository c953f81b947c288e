//! TLS from the package, as docs/tls.md has it: switched on, renewed, refused, and with credentials.

use crate::harness::{Machine, on_every_debian, on_every_debian_in_soak};

/// What users are told to do.
const DOCS: &str = include_str!("../../docs/tls.md");

/// The fenced block of this kind with this text in it, without its indentation.
fn block(kind: &str, with: &str) -> String {
    let fence = format!("```{kind}\n");
    let mut blocks = DOCS.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next());
    let block = blocks.find_map(|block| block.filter(|text| text.contains(with)));
    let lines: Vec<&str> = block.expect("docs/tls.md has it").lines().map(str::trim).collect();
    lines.join("\n") + "\n"
}

/// The commands of step 3.
fn switch_on() -> [&'static str; 2] {
    let line = DOCS.lines().find_map(|line| line.strip_prefix("3. ")).expect("it has step 3");
    let mut commands = line.split('`').skip(1).step_by(2);
    [(); 2].map(|()| commands.next().expect("it has two commands"))
}

/// An authority, in the machine, and what signs with it.
const PKI: &str = r#"
mkdir -p /root/pki && cd /root/pki
key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
[ -e ca.pem ] || openssl req -x509 $key -keyout ca.key -out ca.pem -days 30 -subj /CN=ca \
    -addext keyUsage=critical,keyCertSign
sign() {
    openssl req -new $key -keyout "$1.key" -out "$1.csr" -subj "/CN=$1"
    printf 'subjectAltName=DNS:%s\nauthorityKeyIdentifier=keyid\n' "$2" > "$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
        -extfile "$1.ext" -out "$1.pem"
}
"#;

/// Signs a certificate with this common name for this host.
fn sign(machine: &Machine, name: &str, host: &str) {
    machine.run(&format!("set -e\n{PKI}\nsign {name} '{host}' 2>&1"));
}

/// Puts them where `certificates` looks, with the commands of step 1.
fn put(machine: &Machine, certificate: &str, key: &str) {
    machine.run(&format!(
        "cp /root/pki/{certificate}.pem /root/fullchain.pem && cp /root/pki/{key}.key /root/key.pem"
    ));
    machine.run(&format!("set -e; cd /root\n{}", block("", "install -m 400")));
}

/// The common name of the certificate that a client gets who asks for this host.
fn shown(machine: &Machine, host: &str) -> String {
    machine
        .run(&format!(
            "openssl s_client -connect localhost:443 -servername {host} -CAfile /root/pki/ca.pem \
             -verify_return_error -verify_hostname {host} < /dev/null 2> /dev/null \
             | openssl x509 -noout -subject -nameopt multiline | sed -n 's/.*commonName *= //p'"
        ))
        .trim()
        .to_owned()
}

/// What curl gets over TLS, or from port 80, with these options.
fn curl(machine: &Machine, options: &str) -> String {
    machine.run(&format!(
        "curl --silent --show-error --max-time 40 --cacert /root/pki/ca.pem {options}"
    ))
}

/// A client that asks again and again over one connection, and fails if that is ever lost.
const KEPT: &str = r#"
import http.client, os, ssl
context = ssl.create_default_context(cafile="/root/pki/ca.pem")
client = http.client.HTTPSConnection("shop.example.com", context=context, timeout=40)
client.connect()
socket, asked = client.sock, 0
while not os.path.exists("/root/enough"):
    client.request("GET", "/")
    response = client.getresponse()
    assert response.status == 200 and b'"protocol":"https"' in response.read()
    assert client.sock is socket
    asked += 1
    with open("/root/kept.new", "w") as file:
        file.write(str(asked))
    os.rename("/root/kept.new", "/root/kept")
"#;

/// Waits until the kept connection has served more.
fn goes_on(machine: &Machine) {
    let asked = |machine: &Machine| -> u64 {
        machine.try_run("cat /root/kept").stdout.trim().parse().unwrap_or(0)
    };
    let before = asked(machine);
    machine.eventually("the kept connection serves", |machine| asked(machine) > before + 2);
}

/// A reload fails, and the journal says why from then on, with all of this.
fn refused(machine: &Machine, why: &[&str]) {
    let cursor = machine.run("journalctl -n 0 --show-cursor | sed -n 's/^-- cursor: //p'");
    let said = machine.try_run("systemctl reload roundsman");
    assert!(!said.ok(), "{said}");
    machine.eventually("the journal has the reason", |machine| {
        let said = machine.run(&format!(
            "journalctl --no-pager -o cat -u roundsman.service --after-cursor '{}'",
            cursor.trim()
        ));
        why.iter().all(|why| said.contains(why))
    });
}

fn install(machine: &Machine) {
    machine.run("echo 127.0.0.1 shop.example.com any.wild.example >> /etc/hosts");
    let route =
        block("toml", "redirect-https").replace(" }]", " }, { host = \"*.wild.example\" }]");
    machine.add_app(
        "shop",
        "tests/apps/express",
        &format!("command = [\"node\", \"server.js\"]\n{route}"),
    );
    machine.start_app("shop");
    sign(machine, "first", "shop.example.com");
    sign(machine, "wild", "*.wild.example");
}

/// The table of step 2.
fn configuration() -> String {
    block("toml", "[listen.https]")
}

on_every_debian_in_soak! {
    /// The whole life of TLS on a machine, with the commands of the documentation.
    fn tls_as_documented(machine: &Machine) {
        install(machine);
        put(machine, "first", "first");
        let [check, enable] = switch_on();
        machine.write("/etc/roundsman/roundsman.toml", &configuration());
        machine.run(check);
        machine.run(enable);
        assert_eq!(machine.run("stat -c '%U:%G %a' /etc/roundsman/tls/key.pem").trim(), "roundsman:root 400");
        machine.eventually("the app answers over TLS", |machine| {
            machine.try_run("curl --silent --fail --cacert /root/pki/ca.pem https://shop.example.com/").ok()
        });

        // A second certificate, by reload.
        machine.run("install -m 400 -o roundsman /root/pki/wild.pem /root/pki/wild.key /etc/roundsman/tls/");
        let wild = "{ certificate = \"/etc/roundsman/tls/wild.pem\", key = \"/etc/roundsman/tls/wild.key\" }";
        let two = configuration().replace("\" }]", &format!("\" }}, {wild}]"));
        machine.write("/etc/roundsman/roundsman.toml", &two);
        machine.run("systemctl reload roundsman");
        assert_eq!(shown(machine, "shop.example.com"), "first");
        assert_eq!(shown(machine, "any.wild.example"), "wild");

        for options in ["--tlsv1.3 --http1.1", "--tls-max 1.2 --http1.1", "--tlsv1.3", "--tls-max 1.2"] {
            let answer = curl(machine, &format!("{options} -w ' %{{http_version}}' https://shop.example.com/"));
            assert!(answer.contains(r#""protocol":"https""#), "{options}: {answer}");
            let version = if options.contains("http1.1") { " 1.1" } else { " 2" };
            assert!(answer.ends_with(version), "{options}: {answer}");
        }

        // From port 80 to TLS.
        let asked = |options: &str| {
            let show = "-o /dev/null -w '%{http_code} %{redirect_url}'";
            curl(machine, &format!("{show} {options} 'http://shop.example.com/a?b=c'"))
        };
        assert_eq!(asked(""), "301 https://shop.example.com/a?b=c");
        assert_eq!(asked("--data x"), "308 https://shop.example.com/a?b=c");
        let head = curl(machine, "--head https://shop.example.com/");
        assert!(head.to_lowercase().contains("strict-transport-security: max-age=31536000\r\n"), "{head}");
        assert!(!curl(machine, "--head http://shop.example.com/").to_lowercase().contains("strict-"));

        // A renewal, while somebody stays connected.
        machine.write("/root/kept.py", KEPT);
        machine.run("systemd-run --quiet --unit=kept python3 /root/kept.py");
        goes_on(machine);
        sign(machine, "renewed", "shop.example.com");
        put(machine, "renewed", "renewed");
        machine.run("systemctl reload roundsman");
        assert_eq!(shown(machine, "shop.example.com"), "renewed");
        goes_on(machine);

        // What cannot be used is refused, and what was there stays at work.
        put(machine, "renewed", "first");
        let other = "the key /etc/roundsman/tls/key.pem does not belong to the certificate";
        refused(machine, &[other, "/etc/roundsman/roundsman.toml:2:"]);
        assert_eq!(machine.try_run(check).status.code(), Some(78));
        put(machine, "renewed", "renewed");
        machine.run("chown root:root /etc/roundsman/tls/key.pem");
        refused(machine, &["user roundsman may not read the key /etc/roundsman/tls/key.pem"]);
        machine.run(check); // root may
        assert_eq!(shown(machine, "shop.example.com"), "renewed");
        goes_on(machine);
        machine.run("touch /root/enough");
        machine.eventually("the kept connection's client ends", |machine| {
            matches!(machine.property("kept.service", "ActiveState").as_str(), "inactive" | "failed")
        });
        assert_eq!(machine.property("kept.service", "ActiveState"), "inactive", "it has lost nothing");

        // A start without: port 80 does not suffer.
        machine.run("systemctl restart roundsman");
        let status = machine.property("roundsman.service", "StatusText");
        assert!(status.contains("CERTIFICATES CANNOT BE USED: journalctl -u roundsman"), "{status}");
        assert!(asked("").starts_with("301 "));
    }
}

on_every_debian! {
    /// Certificate and key where only root may look, handed over by systemd.
    fn tls_with_credentials(machine: &Machine) {
        install(machine);
        let live = "/etc/letsencrypt/live/shop.example.com";
        let renew = |name: &str| {
            machine.run(&format!(
                "install -d -m 700 /etc/letsencrypt/live && install -d {live} && \
                 install -m 600 /root/pki/{name}.pem {live}/fullchain.pem && \
                 install -m 600 /root/pki/{name}.key {live}/privkey.pem"
            ));
        };
        renew("first");
        let drop_in = block("", "LoadCredential=");
        machine.write("/etc/systemd/system/roundsman.service.d/override.conf", &drop_in);
        machine.run("systemctl daemon-reload"); // `systemctl edit` does so
        let text = configuration();
        let entry = text.split("with LoadCredential=: ").nth(1).expect("it has the entry").trim();
        machine.write(
            "/etc/roundsman/roundsman.toml",
            &format!("[listen.https]\ncertificates = [{entry}]\n"),
        );
        let [check, enable] = switch_on();
        let said = machine.try_run(check);
        assert!(said.ok() && said.stderr.contains("only the service"), "not handed over yet: {said}");
        machine.run(enable);
        assert_eq!(shown(machine, "shop.example.com"), "first");
        let said = machine.try_run(check);
        assert!(said.ok() && said.stderr.is_empty(), "{said}");
        machine.run("systemctl reload roundsman");

        sign(machine, "renewed", "shop.example.com");
        renew("renewed");
        machine.run("systemctl reload roundsman");
        assert_eq!(shown(machine, "shop.example.com"), "first", "it takes a restart");
        machine.run("systemctl restart roundsman");
        assert_eq!(shown(machine, "shop.example.com"), "renewed");
        machine.expect_confined_front();
    }
}
