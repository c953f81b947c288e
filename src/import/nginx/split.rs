//! `split_clients`: shares of the clients, as `routes/` has them.

use std::fmt::Write as _;

use super::super::{File, quoted};
use super::reader::{Reader, Split};
use super::syntax::Directive;

impl Reader {
    /// Reads one. What is no split of a route is named here, and where something is passed to it.
    pub(super) fn split_clients(&mut self, directive: &Directive) {
        let [on, variable] = directive.arguments.as_slice() else { return self.other(directive) };
        let Some(by) = key(on) else {
            let text = format!(
                "clients are split by {on}; a route can by the client's address, one cookie, one field, or at random. What passes to {variable} is named there"
            );
            return self.lost(directive, text);
        };
        let mut shares = Vec::new();
        let mut left = 10_000_u32;
        for part in &directive.block {
            let share = match part.name.as_str() {
                "*" => left,
                percent => {
                    let Some(share) = hundredths(percent) else { continue };
                    share.min(left)
                }
            };
            left -= share;
            if let Some(value) = part.arguments.first() {
                shares.push((value.clone(), share));
            }
        }
        let variable = variable.trim_start_matches('$').to_owned();
        self.splits.insert(variable, Split { by, shares });
        self.differs(directive, "the shares are the same, but who is in which one is another matter: another hash decides");
    }

    /// Makes the file of the routes that are split.
    pub(super) fn write_splits(&mut self, routes: &[(String, String)]) {
        if routes.is_empty() {
            return;
        }
        let mut text = String::new();
        for (name, route) in routes {
            let Some(split) = self.splits.get(name) else { continue };
            let route = route.trim_start_matches("{ ").trim_end_matches(" }");
            let _ = writeln!(text, "[[route]]\n{}", route.replace(", ", "\n"));
            let _ = writeln!(text, "by = {}\nsplit = [", quoted(&split.by));
            for (value, share) in &split.shares {
                let Some(upstream) = self.names.get(value) else { continue };
                let to = quoted(&format!("upstream:{upstream}"));
                let _ = writeln!(text, "    {{ to = {to}, share = {share} }},");
            }
            text.push_str("]\n");
        }
        self.import.files.push(File { path: "routes/nginx.toml".to_owned(), text, secret: false });
    }
}

/// nginx's text of variables as what decides here, if it is one of them and perhaps a fixed word.
fn key(on: &str) -> Option<String> {
    let on = on.replace(['{', '}'], "");
    let (fixed, rest) = on.split_once('$')?;
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let (variable, after) = rest.split_at(end);
    if after.contains('$') || fixed.contains('$') {
        return None;
    }
    Some(match variable {
        _ if variable.starts_with("remote_addr") || variable == "binary_remote_addr" => {
            "ip".to_owned()
        }
        "request_id" => "random".to_owned(),
        _ => match (variable.strip_prefix("cookie_"), variable.strip_prefix("http_")) {
            (Some(cookie), _) => format!("cookie:{cookie}"),
            (_, Some(field)) => format!("header:{}", field.replace('_', "-")),
            _ => return None,
        },
    })
}

/// `12.5%` as 1250.
fn hundredths(percent: &str) -> Option<u32> {
    let number = percent.strip_suffix('%')?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let part: u32 = format!("{part:0<2}").get(..2)?.parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part).filter(|all| *all <= 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_and_how_much() {
        for (on, by) in [
            ("$remote_addr", Some("ip")),
            ("${remote_addr}AAA", Some("ip")),
            ("$binary_remote_addr", Some("ip")),
            ("$cookie_user", Some("cookie:user")),
            ("$http_x_device", Some("header:x-device")),
            ("$request_id", Some("random")),
            ("${remote_addr}${http_x_device}", None),
            ("$date_gmt", None),
            ("fixed", None),
        ] {
            assert_eq!(key(on).as_deref(), by, "{on}");
        }
        for (percent, share) in [
            ("25%", Some(2500)),
            ("0.5%", Some(50)),
            ("12.55%", Some(1255)),
            ("101%", None),
            ("x%", None),
            ("1", None),
        ] {
            assert_eq!(hundredths(percent), share, "{percent}");
        }
    }
}
