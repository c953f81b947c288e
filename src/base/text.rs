//! Text that somebody else has written, on its way to a terminal or into a protocol of lines.

use std::borrow::Cow;

/// On one line, and without anything that a terminal takes for a command: an app may have written
/// it.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    replaced(text, is_command)
}

/// The same of text with several lines, which stay lines.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c| c != '\n' && is_command(c))
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
fn is_command(c: char) -> bool {
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
        assert_eq!(lines("a\n\u{1b}b\n"), "a\n�b\n");
        let good = "port 3000, „Grüße“ 👍";
        assert!(matches!(one_line(good), Cow::Borrowed(text) if text == good));
    }

    #[test]
    fn a_beginning_has_whole_characters() {
        assert_eq!(beginning("aé", 2), "a");
        assert_eq!(beginning("aé", 3), "aé");
        assert_eq!(beginning("aé", 99), "aé");
    }
}
