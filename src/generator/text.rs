//! Values as unit files need them.

use std::path::Path;
use std::time::Duration;

/// A variable for `Environment=`, in double quotes.
///
/// systemd undoes C escapes in quoted values and expands `%` specifiers; `$` means nothing there.
/// Control characters other than line ends and tabs never get here: the configuration refuses
/// them, as systemd would.
pub(super) fn environment(name: &str, value: &str) -> String {
    let mut text = format!("\"{name}=");
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '%' => text.push_str("%%"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// A path for a setting that takes one path and no quotes.
pub(super) fn path(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%%")
}

/// A time span.
pub(super) fn seconds(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_millis()) {
        (0, 0) => "0".to_owned(),
        (seconds, 0) => format!("{seconds}s"),
        _ => format!("{}ms", duration.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_would_interpret_is_escaped() {
        assert_eq!(environment("A", "plain"), r#""A=plain""#);
        assert_eq!(environment("A", "a \"b\" 'c'\\d"), r#""A=a \"b\" 'c'\\d""#);
        assert_eq!(environment("A", "100%i $HOME"), r#""A=100%%i $HOME""#);
        assert_eq!(environment("A", "1\n2\t3 ä"), r#""A=1\n2\t3 ä""#);
        assert_eq!(environment("A", ""), r#""A=""#);
        assert_eq!(path(Path::new("/srv/100%/a b")), "/srv/100%%/a b");
    }

    #[test]
    fn time_spans() {
        assert_eq!(seconds(Duration::from_millis(1500)), "1500ms");
        assert_eq!(seconds(Duration::from_mins(2)), "120s");
        assert_eq!(seconds(Duration::ZERO), "0");
    }
}
