//! Rules of nginx that keep somebody out. None of them can be written here, so what they protect is closed
//! rather than open.

use std::collections::BTreeMap;

use super::syntax::Directive;

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
            if let Some(kind) = by_module(&inner.name) {
                match first {
                    "off" => rules.0.remove(kind),
                    _ => rules
                        .0
                        .insert(kind, format!("{} {first}", inner.name).trim_end().to_owned()),
                };
                continue;
            }
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
        rules.identity(block);
        rules
    }

    /// Fields by which the app knows who a client is, and which clients could send by themselves if nginx
    /// did not.
    fn identity(&mut self, block: &[Directive]) {
        let fields = || block.iter().filter(|inner| inner.name == "proxy_set_header");
        if fields().next().is_some() {
            self.0.remove("identity"); // fields replace the outer ones
        }
        let says_who = |field: &&Directive| match field.arguments.as_slice() {
            [name, value, ..] => !is_never_theirs(name) && is_identity(value),
            _ => false,
        };
        if let Some(field) = fields().find(says_who) {
            self.0.insert("identity", format!("proxy_set_header {}", field.arguments.join(" ")));
        }
    }

    /// With one more rule.
    #[must_use]
    pub(super) fn with(mut self, kind: &'static str, rule: String) -> Self {
        self.0.insert(kind, rule);
        self
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

/// Rules of modules that nginx does not come with, by kind.
fn by_module(name: &str) -> Option<&'static str> {
    match name {
        "auth_pam" | "auth_ldap" | "auth_digest" | "auth_gss" | "auth_spnego" | "auth_oidc"
        | "satisfy_auth" => Some("module"),
        "modsecurity" | "naxsi" | "SecRulesEnabled" => Some("firewall"),
        _ if name.starts_with("access_by_lua") || name.starts_with("auth_jwt_require") => {
            Some("script")
        }
        "js_access" => Some("script"),
        _ => None,
    }
}

/// Whether a value says who a client is, as nginx has found out.
fn is_identity(value: &str) -> bool {
    ["$ssl_client_", "$remote_user", "$auth_", "$upstream_http_", "$jwt_"]
        .iter()
        .any(|variable| value.contains(variable))
}

/// Fields that no client gets through to the app.
fn is_never_theirs(name: &str) -> bool {
    let name = name.to_lowercase();
    ["x-ssl-client-", "ssl-client-", "x-forwarded-"].iter().any(|prefix| name.starts_with(prefix))
        || matches!(name.as_str(), "x-real-ip" | "forwarded" | "client-cert" | "client-cert-chain")
}

/// Whether it is a rule that keeps somebody out, or a part of one.
pub(super) fn is_rule(name: &str) -> bool {
    const RULES: [&str; 15] = [
        "allow",
        "auth_basic",
        "auth_basic_user_file",
        "auth_delay",
        "auth_jwt",
        "auth_request",
        "deny",
        "if",
        "internal",
        "limit_except",
        "limit_req",
        "return",
        "satisfy",
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
    // A switch for maintenance is a file: who made it knows that nothing looks at it now.
    let words = directive.arguments.join(" ");
    let is_switch = ["(-f ", "(-e ", "(-d ", "(!-f "].iter().any(|file| words.starts_with(file));
    !is_switch
        && directive.block.iter().any(|inner| {
            inner.name == "return" && inner.arguments.first().is_some_and(|status| refuses(status))
        })
}

/// 403, 444, 503 and the like.
pub(super) fn refuses(status: &str) -> bool {
    status.parse::<u16>().is_ok_and(|status| status >= 400)
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
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
            ("", "if (-f /srv/down) { return 503; }", None),
            ("", "auth_ldap x;", Some("`auth_ldap x`")),
            ("auth_ldap x;", "auth_ldap off;", None),
            ("", "access_by_lua_block { x; }", Some("`access_by_lua_block`")),
            (
                "",
                "proxy_set_header X-User $remote_user;",
                Some("`proxy_set_header X-User $remote_user`"),
            ),
            ("proxy_set_header X-User $remote_user;", "proxy_set_header Host $host;", None),
            ("", "proxy_set_header X-SSL-Client-Verify $ssl_client_verify;", None),
            ("auth_basic x;", "internal;", Some("`internal`, `auth_basic x`")),
        ] {
            assert_eq!(reason(outer, inner).as_deref(), rules, "{outer} | {inner}");
        }
    }
}
