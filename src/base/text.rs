//! Text that somebody else has written, on its way to a terminal or into a protocol of lines.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;

/// On one line, and without anything that a terminal takes for a command: an app may have written
/// it.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    replaced(text, is_command)
}

/// The same of text with several lines, which stay lines, and tabs.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c| !matches!(c, '\n' | '\t') && is_command(c))
}

/// The name of a file that somebody else may have chosen, on one line.
pub(crate) fn path(path: &Path) -> String {
    one_line(&path.to_string_lossy()).into_owned()
}

/// The same with every strange character as an escape, so that it can be told what it was.
pub(crate) fn escaped(path: &Path) -> String {
    path.display().to_string().escape_debug().to_string()
}

/// Bytes as pairs of hex digits.
pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // which cannot fail
        text
    })
}

/// JSON that says the same: its strings keep every character, but escaped.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    let bad = |c| c != '\n' && is_command(c);
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if bad(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c)); // which cannot fail
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// The beginning of a text, this many bytes at most.
pub(crate) fn beginning(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

fn replaced(text: &str, bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.contains(&bad) {
        text.chars().map(|c| if bad(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
    } else {
        Cow::Borrowed(text)
    }
}

/// Control characters of both sets, line ends that are none of ASCII, and what turns the direction
/// of writing round, so that a line reads as another one.
pub(crate) fn is_command(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_or_a_protocol_of_lines_obeys() {
        assert_eq!(one_line("a\nMAINPID=1\r\u{1b}[31m\u{9b}2J\u{7f}"), "a�MAINPID=1��[31m�2J�");
        assert_eq!(one_line("x\u{202e}y\u{2028}z"), "x�y�z");
        assert_eq!(lines("a\n\tb\u{1b}c\n"), "a\n\tb�c\n");
        let good = "port 3000, „Grüße“ 👍";
        assert!(matches!(one_line(good), Cow::Borrowed(text) if text == good));
    }

    #[test]
    fn in_json_every_character_is_kept() {
        let name = "a\u{202e}b\u{9b}c\u{1b}\n";
        let text = serde_json::to_string_pretty(&[name]).unwrap();
        let shown = json(&text);
        assert!(shown.contains("a\\u202eb\\u009bc"), "{shown}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [name]);
    }

    #[test]
    fn a_file_name_is_one_line() {
        assert_eq!(path(Path::new("/r/1\n\u{1b}[31mx:1  active")), "/r/1��[31mx:1  active");
    }

    #[test]
    fn a_beginning_has_whole_characters() {
        assert_eq!(beginning("aé", 2), "a");
        assert_eq!(beginning("aé", 3), "aé");
        assert_eq!(beginning("aé", 99), "aé");
    }
}
