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
pub(super) struct Protection {
    rules: BTreeMap<&'static str, String>,
    /// Whether the front counts connections as `limit_conn` says.
    counts: bool,
}

impl Protection {
    /// Where nothing is in force; `counts` if the front counts connections as `limit_conn` says.
    pub(super) fn none(counts: bool) -> Self {
        Self { rules: BTreeMap::new(), counts }
    }

    /// Those of a block inside of where these are in force.
    pub(super) fn within(&self, block: &[Directive], level: Level) -> Self {
        let mut rules = self.clone();
        if block.iter().any(|inner| matches!(inner.name.as_str(), "allow" | "deny")) {
            rules.rules.remove("addresses"); // a list replaces the outer one
        }
        for inner in block {
            let first = inner.arguments.first().map_or("", String::as_str);
            if let Some(kind) = by_module(&inner.name) {
                match first {
                    "off" => rules.rules.remove(kind),
                    _ => rules
                        .rules
                        .insert(kind, format!("{} {first}", inner.name).trim_end().to_owned()),
                };
                continue;
            }
            let kind = match (inner.name.as_str(), first, level) {
                ("auth_basic" | "auth_request" | "auth_jwt", "off", _) => {
                    rules.rules.remove(password(&inner.name));
                    continue;
                }
                ("ssl_verify_client", "off" | "optional" | "optional_no_ca", _) => {
                    rules.rules.remove("certificate");
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
                ("limit_conn", _, Level::Location) if !rules.counts => "connections",
                ("return", status, Level::Location) if refuses(status) => "location",
                ("if", _, Level::Location) if turns_away(inner) => "location",
                _ => continue,
            };
            let said = format!("{} {}", inner.name, inner.arguments.join(" "));
            rules.rules.entry(kind).or_insert_with(|| said.trim_end().to_owned());
        }
        rules.identity(block);
        rules
    }

    /// Fields by which the app knows who a client is, and which clients could send by themselves if nginx
    /// did not.
    fn identity(&mut self, block: &[Directive]) {
        let fields = || block.iter().filter(|inner| inner.name == "proxy_set_header");
        if fields().next().is_some() {
            self.rules.remove("identity"); // fields replace the outer ones
        }
        let says_who = |field: &&Directive| match field.arguments.as_slice() {
            [name, value, ..] => {
                !is_never_theirs(name)
                    && (is_identity(value) || names_somebody(name) && !value.contains("$http_"))
            }
            _ => false,
        };
        if let Some(field) = fields().find(says_who) {
            self.rules.insert(
                "identity",
                format!("proxy_set_header {}", field.arguments.join(" ")).trim_end().to_owned(),
            );
        }
    }

    /// With one more rule.
    #[must_use]
    pub(super) fn with(mut self, kind: &'static str, rule: String) -> Self {
        self.rules.insert(kind, rule);
        self
    }

    /// The rules, or nothing where everybody may come.
    pub(super) fn reason(&self) -> Option<String> {
        let rules: Vec<String> = self.rules.values().map(|rule| format!("`{rule}`")).collect();
        (!rules.is_empty()).then(|| rules.join(", "))
    }
}

/// What turns some requests away from a whole server, so that closing all of it would be too much.
pub(super) fn for_some(directive: &Directive) -> bool {
    matches!(directive.name.as_str(), "limit_req" | "limit_conn")
        || directive.name == "if" && turns_away(directive)
}

/// Whether nobody knows what a file that is not there would keep out. These keep nobody out.
pub(super) fn is_unknown(directive: &Directive) -> bool {
    const HARMLESS: [&str; 9] = [
        "mime.types",
        "fastcgi_params",
        "fastcgi.conf",
        "uwsgi_params",
        "scgi_params",
        "proxy_params",
        "fastcgi-php.conf",
        "snakeoil.conf",
        "options-ssl-nginx.conf",
    ];
    let file = directive.arguments.first().and_then(|path| path.rsplit('/').next());
    directive.name == "include" && !file.is_some_and(|file| HARMLESS.contains(&file))
}

/// Rules of modules that nginx does not come with, by kind.
fn by_module(name: &str) -> Option<&'static str> {
    match name {
        "auth_pam" | "auth_ldap" | "auth_digest" | "auth_gss" | "auth_spnego" | "auth_oidc"
        | "satisfy_auth" => Some("module"),
        "modsecurity" | "naxsi" | "SecRulesEnabled" => Some("firewall"),
        _ if ["access_by_lua", "rewrite_by_lua", "auth_jwt_require"]
            .iter()
            .any(|start| name.starts_with(start)) =>
        {
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

/// Whether a field's own name says that it tells who a client is: `X-Remote-User`, `X-Auth-User-Id`.
fn names_somebody(name: &str) -> bool {
    const WORDS: [&str; 14] = [
        "user",
        "username",
        "login",
        "email",
        "mail",
        "groups",
        "group",
        "roles",
        "role",
        "identity",
        "principal",
        "subject",
        "dn",
        "tenant",
    ];
    let name = name.to_lowercase();
    let name = name.strip_suffix("-id").or_else(|| name.strip_suffix("-name")).unwrap_or(&name);
    name.rsplit(['-', '_']).next().is_some_and(|last| WORDS.contains(&last))
}

/// Fields that no client gets through to the app.
fn is_never_theirs(name: &str) -> bool {
    let name = name.to_lowercase();
    ["x-ssl-client-", "ssl-client-", "x-forwarded-"].iter().any(|prefix| name.starts_with(prefix))
        || matches!(name.as_str(), "x-real-ip" | "forwarded" | "client-cert" | "client-cert-chain")
}

/// Whether it is a rule that keeps somebody out, or a part of one.
pub(super) fn is_rule(name: &str) -> bool {
    const RULES: [&str; 16] = [
        "allow",
        "auth_basic",
        "auth_basic_user_file",
        "auth_delay",
        "auth_jwt",
        "auth_request",
        "deny",
        "if",
        "internal",
        "limit_conn",
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
    fn connections_that_the_front_counts_close_nothing() {
        let block = parse("limit_conn a 2;", "f").unwrap();
        for (counts, is_closed) in [(true, false), (false, true)] {
            let rules = Protection::none(counts).within(&block, Level::Location);
            assert_eq!(rules.reason().is_some(), is_closed);
        }
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
            ("", "limit_conn a 2;", Some("`limit_conn a 2`")),
            ("limit_conn a 2;", "", None),
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
            ("", "proxy_set_header X-Remote-User '';", Some("`proxy_set_header X-Remote-User`")),
            (
                "",
                "proxy_set_header X-Auth-User-Id $found;",
                Some("`proxy_set_header X-Auth-User-Id $found`"),
            ),
            ("", "proxy_set_header Remote_Groups x;", Some("`proxy_set_header Remote_Groups x`")),
            ("", "proxy_set_header X-User $http_x_user;", None),
            ("", "proxy_set_header User-Agent '';", None),
            ("", "proxy_set_header X-Country x;", None),
            ("", "modsecurity on;", Some("`modsecurity on`")),
            ("", "js_access x.js;", Some("`js_access x.js`")),
            ("", "rewrite_by_lua_file x.lua;", Some("`rewrite_by_lua_file x.lua`")),
            ("auth_jwt x;", "auth_request off;", Some("`auth_jwt x`")),
            ("auth_jwt x;", "auth_jwt off;", None),
            ("auth_basic x;", "internal;", Some("`internal`, `auth_basic x`")),
        ] {
            assert_eq!(reason(outer, inner).as_deref(), rules, "{outer} | {inner}");
        }
    }
}
