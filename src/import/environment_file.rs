//! Files of variables, as systemd reads them: `EnvironmentFile=` in systemd.exec(5).

use std::fmt::Write as _;

/// Whether such a file can have this variable.
pub(crate) fn can_hold(name: &str, value: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter)
        && name.chars().all(|c| letter(c) || c.is_ascii_digit())
        && !value.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t'))
}

/// The file's text.
pub(crate) fn text(variables: &[(String, String)]) -> String {
    let mut text = String::from("# Only root reads this file, and hands it to the app.\n");
    for (name, value) in variables {
        let mut quoted = String::with_capacity(value.len());
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '`' | '$') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        let _ = writeln!(text, "{name}=\"{quoted}\"");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_systemd_reads_them() {
        let variables =
            [("A".to_owned(), "x y".to_owned()), ("B".to_owned(), "\"\\$`'".to_owned())];
        let text = text(&variables);
        assert!(text.ends_with("A=\"x y\"\nB=\"\\\"\\\\\\$\\`'\"\n"), "{text}");
    }

    #[test]
    fn some_variables_are_none() {
        assert!(can_hold("A_1", "x\ny"));
        for (name, value) in [("1A", ""), ("", ""), ("A-B", ""), ("A", "\0"), ("A", "\u{1b}[0m")] {
            assert!(!can_hold(name, value), "{name}={value:?}");
        }
    }
}
