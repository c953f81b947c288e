//! Names and places on the network: hosts, paths, addresses.

use std::net::{IpAddr, SocketAddr};

use super::diagnostic::Problems;
use super::fragment::Node;
use super::input::{Read, string};
use super::settings::{Address, HostPattern};

/// A host as a route has it.
pub(super) fn host_pattern(node: &Node, problems: &mut Problems) -> Read<HostPattern> {
    let text = string(node, problems)?;
    if text == "*" {
        return Some(HostPattern::Any);
    }
    match text.strip_prefix("*.") {
        Some(rest) => host_of(rest, node, problems).map(HostPattern::Wildcard),
        None => host_of(text, node, problems).map(HostPattern::Exact),
    }
}

/// A host to ask with: a name or address, with or without a port.
pub(super) fn host_header(node: &Node, problems: &mut Problems) -> Read<String> {
    let text = string(node, problems)?;
    let port = text.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    match port {
        Some((host, port)) if port.parse::<u16>().is_ok() => {
            host_of(host, node, problems).map(|host| format!("{host}:{port}"))
        }
        _ => host_of(text, node, problems),
    }
}

fn host_of(text: &str, node: &Node, problems: &mut Problems) -> Read<String> {
    match host(text) {
        Ok(host) => Some(host),
        Err(help) => {
            problems.error(&node.place, format!("`{text}` is no host"), "", help);
            None
        }
    }
}

/// A name or address in lower case; the error is what to write.
pub(crate) fn host(text: &str) -> Result<String, String> {
    let example = "write a name as in \"shop.example.com\" or \"*.example.com\"".to_owned();
    if text.is_empty() {
        return Err(example);
    }
    if let Some((_, rest)) = text.split_once("://") {
        return Err(format!("write the host alone: \"{}\"", rest.split('/').next().unwrap_or("")));
    }
    if let Some((host, path)) = text.split_once('/') {
        return Err(format!("write host = \"{host}\" and path = \"/{path}\""));
    }
    if let Some(address) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return match address.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => Ok(format!("[{address}]")),
            _ => Err("between brackets belongs an IPv6 address".to_owned()),
        };
    }
    if let Ok(IpAddr::V6(address)) = text.parse() {
        return Err(format!("write \"[{address}]\""));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(format!("write it without the port: \"{host}\""));
    }
    if let Some(host) = text.strip_suffix('.') {
        return Err(format!("write it without the final dot: \"{host}\""));
    }
    if !text.is_ascii() {
        return Err(
            "write a name with other letters in its ASCII form, as browsers send it: \"xn--…\""
                .into(),
        );
    }
    if text.contains('*') {
        return Err("a wildcard stands for whole labels at the start: \"*.example.com\"".to_owned());
    }
    if text.len() > 253 || text.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err("a name has at most 253 characters, and 1 to 63 between two dots".to_owned());
    }
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    if !text.bytes().all(allowed) {
        return Err(example);
    }
    Ok(text.to_ascii_lowercase())
}

/// A path prefix of a route, without a slash at its end.
pub(super) fn path_prefix(node: &Node, problems: &mut Problems) -> Read<String> {
    let path = path(node, problems)?;
    if path.contains('?') {
        let plain = path.split('?').next().unwrap_or("/");
        problems.error(
            &node.place,
            "routes do not look at the query",
            "",
            format!("write \"{plain}\""),
        );
        return None;
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.contains("//") || trimmed.split('/').any(|segment| matches!(segment, "." | "..")) {
        problems.error(
            &node.place,
            "this path has empty, `.` or `..` segments",
            "",
            "write the path that is meant",
        );
        return None;
    }
    Some(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() })
}

/// A path, perhaps with a query, as it stands in a request line.
pub(super) fn path<'a>(node: &'a Node, problems: &mut Problems) -> Read<&'a str> {
    let text = string(node, problems)?;
    let mut fail = |title: &str, help: String| {
        problems.error(&node.place, title, "", help);
        None
    };
    if !text.starts_with('/') {
        let path = text
            .split_once("://")
            .map_or(text, |(_, rest)| rest.split_once('/').map_or("", |(_, p)| p));
        return fail(
            "a path starts with `/`",
            format!("write \"/{}\"", path.trim_end_matches('*')),
        );
    }
    if text.ends_with('*') {
        let plain = text.trim_end_matches('*');
        return fail(
            "paths have no wildcards",
            format!("write \"{plain}\": it is for everything below, too"),
        );
    }
    if let Some(bad) =
        text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '#' | '"' | '<' | '>' | '\\'))
    {
        let mut bytes = [0; 4];
        let bytes = bad.encode_utf8(&mut bytes).bytes();
        let encoded: Vec<String> = bytes.map(|b| format!("%{b:02X}")).collect();
        let encoded = encoded.concat();
        return fail(
            "a path like this cannot be in a request",
            format!("write {bad:?} as {encoded}"),
        );
    }
    Some(text)
}

/// Where a server is.
pub(super) fn address(node: &Node, problems: &mut Problems) -> Read<Address> {
    let text = string(node, problems)?;
    let mut fail = |help: String| {
        problems.error(&node.place, format!("`{text}` is no address of a server"), "", help);
        None
    };
    if let Some(path) = text.strip_prefix("unix:") {
        // What sun_path holds, with the zero at its end.
        return if !path.starts_with('/') {
            fail(format!("write the whole path: \"unix:/run/{}\"", path.trim_start_matches("./")))
        } else if path.len() > 107 || path.contains('\0') {
            fail("a socket's path has at most 107 bytes".to_owned())
        } else {
            Some(Address::Unix(path.into()))
        };
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => fail("0 is no port that a server can have".to_owned()),
            _ if address.ip().is_unspecified() => fail(
                "this is every address; write one that the server has, as in \"127.0.0.1:8080\""
                    .into(),
            ),
            _ => Some(Address::Tcp(address)),
        };
    }
    if let Some((_, rest)) = text.split_once("://") {
        return fail(format!(
            "write the address and port alone: \"{}\"",
            rest.split('/').next().unwrap_or("")
        ));
    }
    if text.parse::<IpAddr>().is_ok_and(|a| a.is_ipv6()) {
        return fail(format!("add the port: \"[{text}]:8080\""));
    }
    if text.parse::<IpAddr>().is_ok() {
        return fail(format!("add the port: \"{text}:8080\""));
    }
    if text.starts_with('/') {
        return fail(format!("write \"unix:{text}\""));
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        return fail(format!("write \"127.0.0.1:{port}\""));
    }
    if let Some((name, port)) = text.split_once(':')
        && port.parse::<u16>().is_ok()
        && host(name).is_ok()
    {
        return fail(format!("a name that is to be looked up is written as \"dns:{text}\""));
    }
    fail(
        "write an IP address and a port, as in \"10.0.0.1:8080\", a name as in \
         \"dns:api.internal:8080\", or \"unix:/run/api.sock\""
            .to_owned(),
    )
}

/// Where to listen.
pub(super) fn listener(node: &Node, problems: &mut Problems) -> Read<SocketAddr> {
    let text = string(node, problems)?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Some(address),
        _ => {
            let help = "write an IP address and a port, as in \"10.0.0.1:6379\" or \"[::]:6379\"";
            problems.error(&node.place, format!("`{text}` is no address to listen on"), "", help);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::diagnostic::{File, Place};
    use super::super::fragment::Value;
    use super::*;

    /// What is read of a text, or what is said of it.
    fn of<T>(text: &str, read: impl FnOnce(&Node, &mut Problems) -> Read<T>) -> Result<T, String> {
        let file = std::sync::Arc::new(File::new("a.toml".into(), String::new()));
        let node = Node { place: Place::new(&file, 0..0), value: Value::String(text.to_owned()) };
        let mut problems = Problems::default();
        let value = read(&node, &mut problems);
        assert_eq!(value.is_none(), problems.errors() == 1, "{text}");
        value.ok_or_else(|| problems.render(false))
    }

    /// Each of them is read as it should be, or explained with these words.
    fn all<T>(
        read: fn(&Node, &mut Problems) -> Read<T>,
        show: fn(T) -> String,
        cases: &[(&str, Result<&str, &str>)],
    ) {
        for (text, expected) in cases {
            match (of(text, read).map(show), expected) {
                (Ok(value), Ok(expected)) => assert_eq!(value, *expected, "{text}"),
                (Err(said), Err(part)) => assert!(said.contains(part), "{text}: {said}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_route_is_for_a_host_or_all_below_one_or_any() {
        let cases = [
            ("*", Ok("Any")),
            ("*.Example.com", Ok("Wildcard(\"example.com\")")),
            ("a.example.com", Ok("Exact(\"a.example.com\")")),
            ("*.*", Err("`*` is no host")),
        ];
        all(host_pattern, |host| format!("{host:?}"), &cases);
    }

    #[test]
    fn a_check_asks_a_host_with_or_without_a_port() {
        let cases = [
            ("Shop", Ok("shop")),
            ("Shop:8080", Ok("shop:8080")),
            ("[::1]", Ok("[::1]")),
            ("[::1]:80", Ok("[::1]:80")),
            ("::1", Err("write \"[::1]\"")),
            ("shop:99999", Err("without the port")),
            ("shop:", Err("without the port")),
        ];
        all(host_header, |host| host, &cases);
    }

    #[test]
    fn paths_of_routes_are_prefixes_on_borders() {
        let cases = [
            ("/", Ok("/")),
            ("/a/", Ok("/a")),
            ("/a/b", Ok("/a/b")),
            ("/a?b", Err("write \"/a\"")),
            ("/a//b", Err("segments")),
            ("/a/./b", Err("segments")),
            ("/a/..", Err("segments")),
        ];
        all(path_prefix, |path| path, &cases);
    }

    #[test]
    fn paths_stand_as_in_a_request() {
        let cases = [
            ("/a?b=c", Ok("/a?b=c")),
            ("a", Err("write \"/a\"")),
            ("https://a/b", Err("write \"/b\"")),
            ("/a/*", Err("write \"/a/\"")),
            ("/a b", Err("write ' ' as %20")),
            ("/a#b", Err("write '#' as %23")),
            ("/\u{fc}", Err("as %C3%BC")),
        ];
        for (text, expected) in cases {
            all(
                |node, problems| path(node, problems).map(str::to_owned),
                |p| p,
                &[(text, expected)],
            );
        }
    }

    #[test]
    fn a_server_is_at_an_address_with_a_port_or_at_a_socket() {
        let longest = format!("unix:/{}", "a".repeat(106));
        let socket = format!("Unix(\"{}\")", &longest[5..]);
        let longer = format!("{longest}a");
        let cases = [
            ("10.0.0.1:80", Ok("Tcp(10.0.0.1:80)")),
            ("[::1]:80", Ok("Tcp([::1]:80)")),
            (&longest, Ok(&*socket)),
            (&longer, Err("at most 107 bytes")),
            ("unix:/a\0", Err("at most 107 bytes")),
            ("unix:./a", Err("write the whole path: \"unix:/run/a\"")),
            ("10.0.0.1:0", Err("0 is no port")),
            ("0.0.0.0:80", Err("this is every address")),
            ("http://10.0.0.1:80/", Err("alone: \"10.0.0.1:80\"")),
            ("::1", Err("\"[::1]:8080\"")),
            ("10.0.0.1", Err("\"10.0.0.1:8080\"")),
            ("/run/a", Err("\"unix:/run/a\"")),
            ("localhost:80", Err("\"127.0.0.1:80\"")),
            ("api.internal:80", Err("\"dns:api.internal:80\"")),
            ("api", Err("write an IP address and a port")),
        ];
        all(address, |address| format!("{address:?}"), &cases);
    }

    #[test]
    fn one_listens_on_an_address_and_a_port() {
        let cases = [
            ("10.0.0.1:6379", Ok("10.0.0.1:6379")),
            ("[::]:6379", Ok("[::]:6379")),
            ("10.0.0.1:0", Err("no address to listen on")),
            ("10.0.0.1", Err("no address to listen on")),
        ];
        all(listener, |address| address.to_string(), &cases);
    }

    #[test]
    fn names_are_as_long_as_the_dns_has_them() {
        let name = |lengths: &[usize]| {
            lengths.iter().map(|length| "a".repeat(*length)).collect::<Vec<_>>().join(".")
        };
        for (lengths, fits) in [
            (&[63][..], true),
            (&[64], false),
            (&[63, 63, 63, 61], true),
            (&[63, 63, 63, 62], false),
        ] {
            assert_eq!(host(&name(lengths)).is_ok(), fits, "{lengths:?}");
        }
    }

    #[test]
    fn hosts_are_lower_cased_or_explained() {
        assert_eq!(host("Shop.Example.COM").as_deref(), Ok("shop.example.com"));
        assert_eq!(host("192.0.2.1").as_deref(), Ok("192.0.2.1"));
        assert_eq!(host("[2001:DB8::1]").as_deref(), Ok("[2001:db8::1]"));
        for (bad, help) in [
            ("shop.example.com:80", "without the port: \"shop.example.com\""),
            ("https://shop.example.com/x", "\"shop.example.com\""),
            ("example.com/api", "path = \"/api\""),
            ("example.com.", "without the final dot"),
            ("bücher.example", "xn--"),
            ("a.*.example.com", "at the start"),
            ("2001:db8::1", "\"[2001:db8::1]\""),
            ("a..b", "63"),
            ("", "shop.example.com"),
            ("a b", "shop.example.com"),
        ] {
            let error = host(bad).unwrap_err();
            assert!(error.contains(help), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_host_that_passes_is_its_own_lower_case(text in "[a-zA-Z0-9.*:/\\[\\]-]{0,20}") {
            if let Ok(host) = host(&text) {
                prop_assert_eq!(host.to_ascii_lowercase(), host.clone());
                prop_assert!(!host.contains('/') && !host.contains('*'));
            }
        }

        #[test]
        fn no_host_panics(text in ".*") {
            let _ = host(&text);
        }
    }
}
