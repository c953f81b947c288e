//! Values as unit files need them.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::config::account;
use crate::config::settings::App;

/// One line of a drop-in. Writing to a string cannot fail.
macro_rules! line {
    ($text:expr, $($arg:tt)*) => {{ let _ = writeln!($text, $($arg)*); }};
}
pub(super) use line;

/// A path for a setting that takes one path and no quotes.
pub(super) fn path(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%%")
}

/// A path in a list of words.
pub(super) fn quoted(path: &Path) -> String {
    format!("\"{}\"", self::path(path).replace('\\', "\\\\").replace('"', "\\\""))
}

/// A time span.
pub(super) fn seconds(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_millis()) {
        (0, 0) => "0".to_owned(),
        (seconds, 0) => format!("{seconds}s"),
        _ => format!("{}ms", duration.as_millis()),
    }
}

pub(super) fn head(description: &str, source: Option<&Path>) -> String {
    let mut out = String::from(
        "# Made by roundsman-generator from the app's file. Change that one, then:\n\
         # systemctl daemon-reload\n\n[Unit]\n",
    );
    line!(out, "Description={description}");
    if let Some(source) = source {
        // Lets systemctl say that the file has changed since the last daemon-reload.
        line!(out, "SourcePath={}", path(source));
    }
    out
}

/// As whom an app's own processes run.
pub(super) fn account(app: &App, out: &mut String) {
    line!(out, "User={}", account::user(app));
    if app.user.is_some() {
        line!(out, "DynamicUser=no");
    }
    if let Some(group) = &app.group {
        line!(out, "Group={group}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_would_interpret_is_escaped() {
        assert_eq!(path(Path::new("/srv/100%/a b")), "/srv/100%%/a b");
        assert_eq!(quoted(Path::new("/srv/%/a \"b\"\\c")), r#""/srv/%%/a \"b\"\\c""#);
    }

    #[test]
    fn a_unit_says_what_made_it_and_which_file_to_change() {
        let made = head("Worker", Some(Path::new("/etc/100%.toml")));
        assert!(made.starts_with("# Made by roundsman-generator"), "{made}");
        assert!(
            made.ends_with("[Unit]\nDescription=Worker\nSourcePath=/etc/100%%.toml\n"),
            "{made}"
        );
        assert!(head("Worker", None).ends_with("[Unit]\nDescription=Worker\n"));
    }

    #[test]
    fn time_spans() {
        assert_eq!(seconds(Duration::from_millis(1500)), "1500ms");
        assert_eq!(seconds(Duration::from_mins(2)), "120s");
        assert_eq!(seconds(Duration::ZERO), "0");
    }
}
