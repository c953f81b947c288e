//! Which of nginx's locations takes the requests that another one seems to be for. Here a longer path
//! wins; there an expression wins over every prefix but those of `^~`, and the first expression over the
//! others.

use std::collections::BTreeMap;

use super::super::{Import, Severity};
use super::host::Host;
use super::table::{Entry, Table, To};

impl Table {
    /// Has each path answered by the location that nginx asks for it. What rules close stays closed.
    pub(super) fn settle_precedence(&mut self, import: &mut Import) {
        let mut of_host: BTreeMap<&Host, Vec<usize>> = BTreeMap::new();
        for (number, entry) in self.entries.iter().enumerate() {
            of_host.entry(&entry.host).or_default().push(number);
        }
        let mut others: Vec<(usize, To)> = Vec::new();
        for numbers in of_host.into_values() {
            let entries: Vec<&Entry> =
                numbers.iter().map(|number| &self.entries[*number]).collect();
            for (place, entry) in entries.iter().enumerate() {
                let Some(other) = winner(place, &entries) else { continue };
                if entry.is_closed_by_rules() || entry.to == other.to {
                    continue;
                }
                others.push((numbers[place], other.to.clone()));
                let text = format!(
                    "{}: no request comes to it in nginx, where {} ({}) takes them all, as it does here",
                    entry.path, other.at, other.path
                );
                import.say(Severity::Differs, entry.at.clone(), text);
            }
        }
        for (number, to) in others {
            self.entries[number].to = to;
        }
    }
}

/// Which other of the entries of a host takes all requests of the one at this place.
fn winner<'a>(place: usize, all: &[&'a Entry]) -> Option<&'a Entry> {
    let entry = all[place];
    let takes = |other: &Entry| entry.path.starts_with(&other.path);
    if entry.is_exact || entry.blocks.is_empty() {
        return None;
    }
    if !entry.is_pattern {
        let wins = |other: &&Entry| {
            let Some((_, around)) = other.blocks.split_last() else { return false };
            other.is_pattern
                && takes(other)
                && entry.blocks.starts_with(around)
                // It, or the location at that level that it is in.
                && entry.blocks.get(around.len()).is_some_and(|block| !block.is_final)
        };
        return all.iter().copied().find(wins);
    }
    let beside = all.iter().copied().enumerate().filter(|(_, other)| {
        let around = |entry: &Entry| entry.blocks.split_last().map(|(_, around)| around.to_vec());
        !other.is_exact && around(other) == around(entry) && takes(other)
    });
    let (patterns, prefixes): (Vec<_>, Vec<_>) = beside.partition(|(_, other)| other.is_pattern);
    // The longest prefix says whether expressions are looked at.
    let longest = prefixes.into_iter().map(|(_, other)| other).max_by_key(|other| other.path.len());
    let is_final = |other: &&Entry| other.blocks.last().is_some_and(|block| block.is_final);
    longest.filter(is_final).or_else(|| {
        let earlier = patterns
            .into_iter()
            .find(|(number, other)| *number < place && other.blocks != entry.blocks);
        earlier.map(|(_, other)| other)
    })
}

#[cfg(test)]
mod tests {
    use super::super::import_text;

    /// Who answers which path of a host, in nginx's order; each was asked of nginx 1.22.
    #[test]
    fn an_expression_wins_over_prefixes_and_the_first_over_the_others() {
        for (locations, routes) in [
            ("location ~ ^/api/ { A } location /api/v1/ { B }", "/api A, /api/v1 A"),
            ("location ~ ^/api { A } location /api-docs { B }", "/api A, /api-docs A"),
            ("location ~ ^/api/ { A } location ^~ /api/v1/ { B }", "/api A, /api/v1 B"),
            ("location ~ ^/api/v1/ { A } location /api/ { B }", "/api B, /api/v1 A"),
            ("location ~ ^/api/v1/ { A } location ^~ /api/ { B }", "/api B, /api/v1 B"),
            (
                "location ~ ^/api/v1/ { A } location ^~ /api/ { B } location /api/v1/ { C }",
                "/api B, /api/v1 A",
            ),
            ("location ~ ^/api/ { A } location ~ ^/api/v1/ { B }", "/api A, /api/v1 A"),
            ("location ~ ^/api/v1/ { B } location ~ ^/api/ { A }", "/api A, /api/v1 B"),
            ("location ~ ^/(a|ab)/ { A }", "/a A, /ab A"),
            ("location /api/ { A location ~ ^/api/v1/ { B } }", "/api A, /api/v1 B"),
            (
                "location ~ ^/api/ { A } location /api/ { B location /api/v1/ { C } }",
                "/api A, /api/v1 A",
            ),
            (
                "location /api/ { B location ~ ^/api/v1/ { C } } location ~ ^/api/ { A }",
                "/api A, /api/v1 C",
            ),
            (
                "location ~ ^/api/ { A } location ^~ /api/ { B location /api/v1/ { C } }",
                "/api B, /api/v1 C",
            ),
            (
                "location /api/ { location ~ ^/api/v1/ { A } } location /api/v1/x/ { B }",
                "/api/v1 A, /api/v1/x B",
            ),
        ] {
            let server =
                ["A", "B", "C"].iter().zip(1..).fold(locations.to_owned(), |text, (name, port)| {
                    text.replace(name, &format!("proxy_pass http://127.0.0.1:{port};"))
                });
            let first = "server { server_name first; return 404; }";
            let import =
                import_text(&format!("{first} server {{ server_name a; {server} }}")).unwrap();
            let mut found = Vec::new();
            for file in &import.files {
                let Some(port) = file.path.strip_prefix("upstreams/") else { continue };
                let name = match port {
                    "1.toml" => "A",
                    "2.toml" => "B",
                    "3.toml" => "C",
                    _ => continue,
                };
                let paths = file.text.split("path = \"").skip(1);
                found.extend(
                    paths.map(|path| format!("{} {name}", path.split('"').next().unwrap())),
                );
            }
            found.sort();
            assert_eq!(found.join(", "), routes, "{locations}");
        }
    }

    #[test]
    fn nothing_is_open_that_an_expression_closes() {
        for (locations, open) in [
            ("location ~ ^/api/ { auth_basic x; P } location /api/public { P }", false),
            ("location ~ ^/api/ { auth_basic x; P } location ~ ^/api/public { P }", false),
            ("location ^~ /api/ { auth_basic x; P } location ~ ^/api/public { P }", false),
            ("location ~ ^/api/ { auth_basic x; P } location ^~ /api/public { P }", true),
            ("location ~ ^/api/ { P } location /api/public { auth_basic x; P }", false),
        ] {
            let server = locations.replace('P', "proxy_pass http://127.0.0.1:1;");
            let import = import_text(&format!("server {{ {server} }}")).unwrap();
            let app = import.files.iter().find(|file| file.path == "upstreams/1.toml").unwrap();
            let routes: Vec<&str> =
                app.text.lines().filter(|line| !line.starts_with('#')).collect();
            assert_eq!(routes.concat().contains("/api/public"), open, "{locations}");
        }
    }
}
