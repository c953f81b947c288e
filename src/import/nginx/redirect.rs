//! What nginx answers by itself before it looks at a location, and above all: who is sent to HTTPS.

use super::closed::refuses;
use super::host::Host;
use super::syntax::Directive;

/// What a server says to every request, or to those of some hosts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// What `return` or `rewrite` says to all.
    all: Option<Said>,
    /// Hosts that are sent to HTTPS by an `if`, as certbot writes it.
    hosts: Vec<String>,
    /// Whether all that come over plain HTTP are, by an `if`.
    plain: bool,
}

/// What a directive says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// To the same place over HTTPS.
    ToHttps {
        /// The host that is sent to; `None` for the one that was asked for.
        host: Option<String>,
    },
    /// To another place.
    Elsewhere(String),
    /// An error.
    Refuses(String),
    /// A text of nginx's own.
    Text,
}

impl Answer {
    /// Whether no location is ever asked.
    pub(super) fn is_for_all(&self) -> bool {
        self.all.is_some()
    }

    /// Whether every host is sent to the same place over HTTPS.
    pub(super) fn is_to_https(&self) -> bool {
        matches!(self.all, Some(Said::ToHttps { host: None })) || self.plain
    }

    /// Whether requests for this host that come over plain HTTP are.
    pub(super) fn sends_to_https(&self, host: &Host) -> bool {
        let name = host.pattern();
        let is = |to: &String| name.as_ref() == Some(to);
        self.plain
            || self.hosts.iter().any(is)
            || match &self.all {
                Some(Said::ToHttps { host }) => host.as_ref().is_none_or(is),
                _ => false,
            }
    }

    /// Whether it is an error.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.all, Some(Said::Refuses(_)))
    }
}

/// What a server says by itself.
pub(super) fn of_server(server: &Directive) -> Answer {
    let mut answer = Answer::default();
    for inner in &server.block {
        if let Some(said) = said(inner) {
            answer.all.get_or_insert(said);
        }
        match if_to_https(inner) {
            Some(Condition::Host(host)) => answer.hosts.push(host),
            Some(Condition::Plain | Condition::Balancer) => answer.plain = true,
            None => {}
        }
    }
    answer
}

/// Which requests an `if` is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Host(String),
    /// Those over plain HTTP.
    Plain,
    /// Those of which a balancer before this one says so.
    Balancer,
}

/// Whom an `if` sends to the same place over HTTPS.
pub(super) fn if_to_https(directive: &Directive) -> Option<Condition> {
    if directive.name != "if" {
        return None;
    }
    let words = directive.arguments.join(" ");
    let words = words.trim_start_matches('(').trim_end_matches(')');
    let words: Vec<&str> = words.split_whitespace().collect();
    let (on, equal, value) = match words.as_slice() {
        [on, equal @ ("=" | "!="), value] => (*on, *equal == "=", *value),
        [on, equal @ ("=" | "!=")] => (*on, *equal == "=", ""),
        _ => return None,
    };
    let condition = match (on, equal, value) {
        ("$host" | "$http_host", true, host) => Condition::Host(host.to_lowercase()),
        ("$scheme", true, "http")
        | ("$scheme", false, "https")
        | ("$https", true, "")
        | ("$https", false, "on")
        | ("$server_port", true, "80")
        | ("$server_port", false, "443") => Condition::Plain,
        ("$http_x_forwarded_proto", true, "http") | ("$http_x_forwarded_proto", false, "https") => {
            Condition::Balancer
        }
        _ => return None,
    };
    let to_https = |said: Said| match (said, &condition) {
        (Said::ToHttps { host: None }, _) => true,
        (Said::ToHttps { host: Some(to) }, Condition::Host(host)) => to == *host,
        _ => false,
    };
    directive.block.iter().find_map(said).is_some_and(to_https).then_some(condition)
}

/// What `return` or a `rewrite` that sends away says.
pub(super) fn said(directive: &Directive) -> Option<Said> {
    let arguments: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
    match (directive.name.as_str(), arguments.as_slice()) {
        ("return", [status, to @ ..]) => Some(match (status.parse::<u16>(), to) {
            (Ok(301..=303 | 307 | 308), [to, ..]) => {
                away(to, &["$request_uri", "$uri$is_args$args", "$uri"])
            }
            (Ok(_), _) if refuses(status) => Said::Refuses((*status).to_owned()),
            (Ok(_), _) => Said::Text,
            (Err(_), _) => away(status, &["$request_uri", "$uri$is_args$args", "$uri"]),
        }),
        ("rewrite", [pattern, to, ..]) if sends_away(directive) => match *pattern {
            "^" | ".*" | "^.*$" => Some(away(to, &["$request_uri?", "$request_uri", "$uri"])),
            "^(.*)$" | "^(.*)" | "(.*)" => Some(away(to, &["$1", "$request_uri?", "$request_uri"])),
            "^/(.*)$" | "^/(.*)" => Some(away(to, &["/$1", "$request_uri?", "$request_uri"])),
            _ => None,
        },
        _ => None,
    }
}

/// Whether it is a `rewrite` that answers with a redirect, if its pattern matches.
pub(super) fn sends_away(directive: &Directive) -> bool {
    let arguments: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
    match (directive.name.as_str(), arguments.as_slice()) {
        ("rewrite", [_, to, flags @ ..]) => {
            ["http://", "https://", "$scheme"].iter().any(|start| to.starts_with(start))
                || flags.iter().any(|flag| matches!(*flag, "permanent" | "redirect"))
        }
        _ => false,
    }
}

/// Where an address leads, for which these endings mean the path that was asked for.
fn away(to: &str, same_path: &[&str]) -> Said {
    let elsewhere = || Said::Elsewhere(to.to_owned());
    let Some(rest) = to.strip_prefix("https://") else { return elsewhere() };
    let ending = same_path.iter().find_map(|ending| rest.strip_suffix(ending));
    let Some(host) = ending else { return elsewhere() };
    match host {
        "$host" | "$http_host" | "${host}" | "$server_name" => Said::ToHttps { host: None },
        name if crate::config::host(name).is_ok() => {
            Said::ToHttps { host: Some(name.to_lowercase()) }
        }
        _ => elsewhere(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;

    fn answer(text: &str) -> Answer {
        of_server(&parse(&format!("server {{ {text} }}"), "f").unwrap()[0])
    }

    #[test]
    fn who_is_sent_to_https() {
        let a = Host::Exact("a.example".to_owned());
        for (text, sent, all) in [
            ("return 301 https://$host$request_uri;", true, true),
            ("return 301 https://${host}$request_uri;", true, true),
            ("return 301 https://a.example$request_uri;", true, false),
            ("return 301 https://b.example$request_uri;", false, false),
            ("return 301 https://$host/;", false, false),
            ("return 404;", false, false),
            ("rewrite ^ https://$host$request_uri? permanent;", true, true),
            ("rewrite ^/(.*)$ https://a.example/$1 permanent;", true, false),
            ("rewrite ^/old https://a.example/new permanent;", false, false),
            (
                "if ($host = a.example) { return 301 https://$host$request_uri; } return 404;",
                true,
                false,
            ),
            (
                "if ($host = b.example) { return 301 https://$host$request_uri; } return 404;",
                false,
                false,
            ),
            ("if ($scheme = http) { return 301 https://$host$request_uri; }", true, true),
            ("if ($scheme != \"https\") { rewrite ^ https://$host$uri permanent; }", true, true),
            ("if ($https = \"\") { return 301 https://$host$request_uri; }", true, true),
            (
                "if ($http_x_forwarded_proto = 'http') { return 301 https://$host$request_uri; }",
                true,
                true,
            ),
            ("if ($args ~ x) { return 301 https://$host$request_uri; }", false, false),
            ("location / { return 301 https://$host$request_uri; }", false, false),
        ] {
            assert_eq!(answer(text).sends_to_https(&a), sent, "{text}");
            assert_eq!(answer(text).is_to_https(), all, "{text}");
        }
    }

    #[test]
    fn what_a_server_says_to_all_is_known_from_what_it_says_to_some() {
        for (text, all, refuses) in [
            ("return 404;", true, true),
            ("return 444;", true, true),
            ("return 200 ok;", true, false),
            ("return 301 https://b.example/;", true, false),
            ("return https://b.example/;", true, false),
            ("rewrite ^ https://b.example/ permanent;", true, false),
            ("rewrite ^(.*)$ $scheme://b.example$1 permanent;", true, false),
            ("rewrite ^/(.*) /x/$1 redirect;", true, false),
            ("rewrite ^/old$ https://b.example/ permanent;", false, false),
            ("rewrite ^/old$ /new permanent;", false, false),
            ("rewrite ^ /new last;", false, false),
            ("if ($host = b.example) { return 404; }", false, false),
            ("", false, false),
        ] {
            let found = answer(text);
            assert_eq!((found.is_for_all(), found.is_refusal()), (all, refuses), "{text}");
        }
    }

    #[test]
    fn an_if_sends_to_https_if_it_leads_to_the_host_that_it_asks_for() {
        for (text, sends) in [
            ("if ($host = a.example) { return 301 https://a.example$request_uri; }", true),
            ("if ($host = A.example) { return 301 https://$host$request_uri; }", true),
            ("if ($host = a.example) { return 301 https://b.example$request_uri; }", false),
            ("if ($host != a.example) { return 301 https://a.example$request_uri; }", false),
            ("if ($scheme = http) { return 301 https://b.example$request_uri; }", false),
            ("if ($https != on) { return 301 https://$host$request_uri; }", true),
            ("if ($https != off) { return 301 https://$host$request_uri; }", false),
            ("if ($server_port = 80) { rewrite ^(.*)$ https://$host$1 permanent; }", true),
            ("if ($server_port != 443) { rewrite ^/(.*)$ https://$host/$1 permanent; }", true),
            ("if ($server_port = 8080) { return 301 https://$host$request_uri; }", false),
            (
                "if ($http_x_forwarded_proto != https) { return 301 https://$server_name$request_uri; }",
                true,
            ),
            ("if ($scheme = http) { return 301 https://a.example:8443$request_uri; }", false),
            ("if ($scheme = http) { set $x 1; }", false),
        ] {
            let tree = parse(text, "f").unwrap();
            assert_eq!(if_to_https(&tree[0]).is_some(), sends, "{text}");
        }
    }
}
