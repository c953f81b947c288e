//! Regular expressions of nginx's locations that are nothing but prefixes.

/// The paths that begin as the expression says, as nginx's own prefixes; `None` where it says more.
/// `^/api/` is `/api/`, `^/(a|b)(/|$)` is `/a/` and `/b/`.
pub(super) fn prefixes(expression: &str) -> Option<Vec<String>> {
    let mut rest = expression.strip_prefix('^')?;
    let mut paths = vec![String::new()];
    let append = |paths: &mut Vec<String>, words: &[String]| {
        let all: Vec<String> = paths
            .iter()
            .flat_map(|path| words.iter().map(move |word| format!("{path}{word}")))
            .collect();
        *paths = all;
    };
    loop {
        if paths.len() > 32 {
            return None;
        }
        match rest {
            "" | ".*" | ".*$" | "(.*)" | "(.*)$" => return Some(paths),
            "(/|$)" | "(?:/|$)" | "($|/)" | "(?:$|/)" | "(/.*)?$" | "(?:/.*)?$" | "(/.*|$)" => {
                append(&mut paths, &["/".to_owned()]);
                return Some(paths);
            }
            _ => {}
        }
        let (words, length) = group(rest).or_else(|| literal(rest))?;
        append(&mut paths, &words);
        rest = &rest[length..];
    }
}

/// `(a|b)` at the beginning, and how long it is.
fn group(text: &str) -> Option<(Vec<String>, usize)> {
    let inner = text.strip_prefix('(')?;
    let end = inner.find(')')?;
    let words = inner[..end].strip_prefix("?:").unwrap_or(&inner[..end]);
    let words: Option<Vec<String>> = words.split('|').map(whole).collect();
    let length = end + 2;
    let follows = text[length..].starts_with(['?', '*', '+', '{']);
    words.filter(|_| !follows).map(|words| (words, length))
}

/// A word without anything special in it.
fn whole(text: &str) -> Option<String> {
    let (mut word, mut rest) = (String::new(), text);
    while !rest.is_empty() {
        let (next, length) = literal(rest)?;
        word.push_str(&next[0]);
        rest = &rest[length..];
    }
    (!word.is_empty()).then_some(word)
}

/// One character that stands for itself, and how long it is.
fn literal(text: &str) -> Option<(Vec<String>, usize)> {
    let mut chars = text.chars();
    let (c, length) = match chars.next()? {
        '\\' => match chars.next()? {
            c if c.is_ascii_punctuation() => (c, 1 + c.len_utf8()),
            _ => return None,
        },
        // `.` in socket.io: any character, and meant for itself.
        c if c.is_ascii_alphanumeric() || "/-_.~".contains(c) => (c, 1),
        _ => return None,
    };
    let follows = text[length..].starts_with(['?', '*', '+', '{']);
    (!follows).then(|| (vec![c.to_string()], length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_expressions_are_prefixes() {
        for (expression, paths) in [
            ("^/api/", Some("/api/")),
            ("^/api", Some("/api")),
            ("^/api(/|$)", Some("/api/")),
            ("^/(?:data|config)(?:$|/)", Some("/data/ /config/")),
            ("^/api/.*$", Some("/api/")),
            ("^/api/(.*)$", Some("/api/")),
            ("^/(api|socket\\.io)/", Some("/api/ /socket.io/")),
            ("^/(?:v1|v2)/(a|b)", Some("/v1/a /v1/b /v2/a /v2/b")),
            ("\\.php$", None),
            ("/api", None),
            ("^/api$", None),
            ("^/a.*b", None),
            ("^/a+", None),
            ("^/(a|b)?", None),
            ("^/([0-9]+)/", None),
            ("^/(a", None),
            ("^/é", None),
            ("^/a{2}", None),
            ("^/\\d", None),
            ("^/\\.a", Some("/.a")),
        ] {
            let found = prefixes(expression).map(|paths| paths.join(" "));
            assert_eq!(found.as_deref(), paths, "{expression}");
        }
    }

    #[test]
    fn so_many_prefixes_are_no_prefixes() {
        let words = |n: usize| format!("^/({})/x", vec!["a"; n].join("|"));
        assert_eq!(prefixes(&words(32)).map(|paths| paths.len()), Some(32));
        assert_eq!(prefixes(&words(33)), None);
    }

    proptest::proptest! {
        #[test]
        fn no_expression_is_too_strange(text in "[\\^/a(|)?:.*é\\\\$+]{0,20}") {
            let _ = prefixes(&text);
        }
    }
}
