//! Rules of nginx that keep somebody out. None of them can be written here, so what they protect is closed
//! rather than open.

use std::collections::BTreeMap;

use super::nginx_syntax::Directive;

/// Where in the configuration a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// `http` or `server`: what stands there goes for every location.
    Above,
    /// A location.
    Location,
}

/// The rules that are in force, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Protection(BTreeMap<&'static str, String>);

impl Protection {
    /// Those of a block inside of where these are in force.
    pub(super) fn within(&self, block: &[Directive], level: Level) -> Self {
        let mut rules = self.clone();
        if block.iter().any(|inner| matches!(inner.name.as_str(), "allow" | "deny")) {
            rules.0.remove("addresses"); // a list replaces the outer one
        }
        for inner in block {
            let first = inner.arguments.first().map_or("", String::as_str);
            let kind = match (inner.name.as_str(), first, level) {
                ("auth_basic" | "auth_request" | "auth_jwt", "off", _) => {
                    rules.0.remove(password(&inner.name));
                    continue;
                }
                ("ssl_verify_client", "off" | "optional" | "optional_no_ca", _) => {
                    rules.0.remove("certificate");
                    continue;
                }
                ("auth_basic" | "auth_request" | "auth_jwt", ..) => password(&inner.name),
                ("ssl_verify_client", ..) => "certificate",
                ("deny", ..) => "addresses",
                (
                    "internal" | "limit_except" | "limit_req" | "secure_link" | "valid_referers",
                    _,
                    Level::Location,
                ) => "location",
                ("return", status, Level::Location) if refuses(status) => "location",
                ("if", _, Level::Location) if turns_away(inner) => "location",
                _ => continue,
            };
            let said = format!("{} {}", inner.name, inner.arguments.join(" "));
            rules.0.entry(kind).or_insert_with(|| said.trim_end().to_owned());
        }
        rules
    }

    /// The rules, or nothing where everybody may come.
    pub(super) fn reason(&self) -> Option<String> {
        let rules: Vec<String> = self.0.values().map(|rule| format!("`{rule}`")).collect();
        (!rules.is_empty()).then(|| rules.join(", "))
    }
}

/// What turns some requests away from a whole server, so that closing all of it would be too much.
pub(super) fn for_some(directive: &Directive) -> bool {
    directive.name == "limit_req" || directive.name == "if" && turns_away(directive)
}

/// Whether it is a rule that keeps somebody out, or a part of one.
pub(super) fn is_rule(name: &str) -> bool {
    const RULES: [&str; 13] = [
        "allow",
        "auth_basic",
        "auth_basic_user_file",
        "auth_jwt",
        "auth_request",
        "deny",
        "if",
        "internal",
        "limit_except",
        "limit_req",
        "return",
        "secure_link",
        "valid_referers",
    ];
    RULES.contains(&name)
}

fn password(name: &str) -> &'static str {
    match name {
        "auth_basic" => "password",
        "auth_jwt" => "token",
        _ => "request",
    }
}

fn turns_away(directive: &Directive) -> bool {
    directive.block.iter().any(|inner| {
        inner.name == "return" && inner.arguments.first().is_some_and(|status| refuses(status))
    })
}

/// 403, 444, 503 and the like.
fn refuses(status: &str) -> bool {
    status.parse::<u16>().is_ok_and(|status| status >= 400)
}

#[cfg(test)]
mod tests {
    use super::super::nginx_syntax::parse;
    use super::*;

    fn reason(outer: &str, inner: &str) -> Option<String> {
        let outer = Protection::default().within(&parse(outer, "f").unwrap(), Level::Above);
        outer.within(&parse(inner, "f").unwrap(), Level::Location).reason()
    }

    #[test]
    fn what_keeps_somebody_out_is_seen() {
        for (outer, inner, rules) in [
            ("", "proxy_pass http://a;", None),
            ("", "auth_basic x;", Some("`auth_basic x`")),
            ("auth_basic x;", "", Some("`auth_basic x`")),
            ("auth_basic x;", "auth_basic off;", None),
            ("auth_request /a;", "auth_basic off;", Some("`auth_request /a`")),
            ("deny 10.0.0.1;", "", Some("`deny 10.0.0.1`")),
            ("deny all;", "allow all;", None),
            ("", "allow 10.0.0.0/8; deny all;", Some("`deny all`")),
            ("ssl_verify_client on;", "", Some("`ssl_verify_client on`")),
            ("ssl_verify_client optional;", "", None),
            ("limit_req zone=a;", "", None),
            ("", "limit_req zone=a;", Some("`limit_req zone=a`")),
            ("", "internal;", Some("`internal`")),
            ("", "limit_except GET { deny all; }", Some("`limit_except GET`")),
            ("", "return 403;", Some("`return 403`")),
            ("", "return 301 /x;", None),
            ("", "if ($a) { return 403; }", Some("`if ($a)`")),
            ("", "if ($a) { return 301 /x; }", None),
            ("auth_basic x;", "internal;", Some("`internal`, `auth_basic x`")),
        ] {
            assert_eq!(reason(outer, inner).as_deref(), rules, "{outer} | {inner}");
        }
    }
}
