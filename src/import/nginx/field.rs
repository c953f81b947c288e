//! Fields that nginx sets for servers and for clients.

use super::super::Severity;
use super::remark::Remark;
use super::scope::hsts;
use super::syntax::Directive;

/// Whether the front sets such a field for servers, with the same in it.
pub(super) fn is_so(directive: &Directive) -> bool {
    let name = directive.arguments.first().map(|name| name.to_lowercase()).unwrap_or_default();
    let value = directive.arguments.get(1).map_or("", String::as_str);
    match name.as_str() {
        "host" => {
            matches!(value, "$host" | "$http_host" | "$host:$server_port" | "$proxy_host")
        }
        "x-forwarded-proto" => matches!(value, "$scheme" | "$proxy_x_forwarded_proto"),
        "x-forwarded-for" => value == "$remote_addr",
        "x-forwarded-host" => matches!(value, "$host" | "$http_host" | "$host:$server_port"),
        "x-forwarded-port" => value == "$server_port",
        "x-request-id" => value == "$request_id",
        "upgrade" | "connection" => true,
        _ => false,
    }
}

/// What there is to say of any other `proxy_set_header`.
pub(super) fn for_servers(directive: &Directive) -> Remark {
    let given = directive.arguments.first().map_or("", String::as_str);
    let name = given.to_lowercase();
    let value = directive.arguments.get(1).map_or("", String::as_str);
    match (name.as_str(), value) {
        ("host", _) => Remark::lost(format!("the app sees the client's Host, not {value}")),
        ("x-forwarded-proto", _) if value.starts_with("$http_") => {
            Remark::differs("the client's word is believed only from `trusted-proxies` of roundsman.toml: write the balancer's addresses there, or the app sees http")
        }
        ("x-forwarded-proto", _) => Remark::differs("the app sees how the client came: https over TLS, or what one of `trusted-proxies` of roundsman.toml says, otherwise http; never a fixed word"),
        ("x-forwarded-for", "$proxy_add_x_forwarded_for") => {
            Remark::differs("X-Forwarded-For from the client is dropped, unless it is one of `trusted-proxies` of roundsman.toml")
        }
        ("x-forwarded-for" | "x-forwarded-host" | "x-forwarded-port" | "forwarded", _) => {
            Remark::differs(format!("the front sets {given} itself, from the connection and what `trusted-proxies` of roundsman.toml say, not {value}"))
        }
        ("x-real-ip", _) => Remark::lost("X-Real-IP is not set, nor passed on from the client; the client's address is in X-Forwarded-For and Forwarded".to_owned()),
        (_, _) if value.starts_with("$ssl_client_") => Remark::lost(format!("{given} is not set; `forward-client-certificate` under [listen.https] of roundsman.toml passes the certificate on, in Client-Cert")),
        (_, "") => Remark::lost(format!("nginx removes {given} from what the client sent; here it reaches the app")),
        _ => Remark::lost(format!("the app does not get the field {given} that nginx sets, but what the client sends under this name; let the app do without, or add it there")),
    }
}

/// What there is to say of an `add_header`.
pub(super) fn for_clients(directive: &Directive) -> Remark {
    let name = directive.arguments.first().map_or("", String::as_str);
    if !name.eq_ignore_ascii_case("Strict-Transport-Security") {
        return Remark::lost(format!("responses do not get the field {name}: let the app add it"));
    }
    let Some((seconds, _)) = hsts(directive) else {
        return Remark::lost("responses do not get it: write `hsts = \"365d\"` into the routes");
    };
    let value = directive.arguments.get(1).map(|value| value.to_lowercase()).unwrap_or_default();
    let mut more = Vec::new();
    if value.contains("preload") {
        more.push("without preload");
    }
    if seconds > LONGEST_HSTS {
        more.push("for ten years, the longest that can be written");
    }
    let all = "it is `hsts` of the routes, in every response over TLS instead of the app's own";
    Remark {
        family: None,
        severity: Severity::Differs,
        text: match more.as_slice() {
            [] => all.to_owned(),
            more => format!("{all}, {}", more.join(" and ")),
        },
    }
}

/// The longest time that `hsts` can have, in seconds.
pub(super) const LONGEST_HSTS: u64 = 3660 * 86_400;

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;

    fn field(text: &str) -> Directive {
        parse(text, "f").unwrap().remove(0)
    }

    #[test]
    fn fields_that_the_front_sets_in_the_same_way_need_no_word() {
        for (given, is) in [
            ("Host $host", true),
            ("host $http_host", true),
            ("Host $host:$server_port", true),
            ("Host app.example", false),
            ("X-Forwarded-Proto $scheme", true),
            ("X-Forwarded-Proto https", false),
            ("X-Forwarded-For $remote_addr", true),
            ("X-Forwarded-For $proxy_add_x_forwarded_for", false),
            ("X-Forwarded-Host $host", true),
            ("X-Forwarded-Host app.example", false),
            ("X-Forwarded-Port $server_port", true),
            ("X-Forwarded-Port 443", false),
            ("X-Request-ID $request_id", true),
            ("X-Request-ID $http_x_request_id", false),
            ("Upgrade $http_upgrade", true),
            ("Connection ''", true),
            ("X-Other x", false),
        ] {
            assert_eq!(is_so(&field(&format!("proxy_set_header {given};"))), is, "{given}");
        }
    }

    #[test]
    fn all_other_fields_are_named() {
        for (given, severity, part) in [
            ("Host app.example", Severity::Lost, "the client's Host, not app.example"),
            (
                "X-Forwarded-Proto $http_x_forwarded_proto",
                Severity::Differs,
                "the client's word is believed only from",
            ),
            ("X-Forwarded-Proto https", Severity::Differs, "never a fixed word"),
            (
                "X-Forwarded-For $proxy_add_x_forwarded_for",
                Severity::Differs,
                "from the client is dropped",
            ),
            ("X-Forwarded-For 1", Severity::Differs, "the front sets X-Forwarded-For itself"),
            ("X-Forwarded-Host a", Severity::Differs, "the front sets X-Forwarded-Host itself"),
            ("X-Forwarded-Port 443", Severity::Differs, "the front sets X-Forwarded-Port itself"),
            ("Forwarded x", Severity::Differs, "the front sets Forwarded itself"),
            ("X-Real-IP $remote_addr", Severity::Lost, "is not set, nor passed on from the client"),
            ("X-Cert $ssl_client_cert", Severity::Lost, "`forward-client-certificate`"),
            ("Accept-Encoding ''", Severity::Lost, "nginx removes Accept-Encoding"),
            ("X-Other x", Severity::Lost, "does not get the field X-Other"),
        ] {
            let remark = for_servers(&field(&format!("proxy_set_header {given};")));
            assert_eq!(remark.severity, severity, "{given}");
            assert!(remark.text.contains(part), "{given}: {}", remark.text);
        }
    }

    #[test]
    fn hsts_is_written_and_says_what_is_not() {
        for (value, more) in [
            ("max-age=60", Some("instead of the app's own")),
            ("max-age=316224000", Some("instead of the app's own")),
            ("max-age=316224001", Some("own, for ten years, the longest that can be written")),
            ("max-age=60; preload", Some("own, without preload")),
            (
                "max-age=400000000; preload",
                Some("own, without preload and for ten years, the longest that can be written"),
            ),
            ("$hsts", None),
        ] {
            let remark =
                for_clients(&field(&format!("add_header Strict-Transport-Security '{value}';")));
            assert_eq!(remark.severity == Severity::Differs, more.is_some(), "{value}");
            let end = more.unwrap_or("write `hsts = \"365d\"` into the routes");
            assert!(remark.text.ends_with(end), "{value}: {}", remark.text);
        }
        let other = for_clients(&field("add_header X-Frame-Options DENY;"));
        assert!(other.text.contains("the field X-Frame-Options"), "{}", other.text);
    }
}
