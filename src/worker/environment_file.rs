//! Files of variables, as systemd reads them for `EnvironmentFile=` (systemd.exec(5)): `NAME=value`
//! lines, comments, quotes, and lines that go on after a backslash.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use crate::base::file::{Links, read_text};
use crate::config::copy::variables_credential;
use crate::config::settings::App;

/// The largest file that is read; systemd's own limit for credentials.
const MOST: u64 = 1024 * 1024;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("environment-files: {}: {source}{advice}", path.display())]
pub(crate) struct UnusableFile {
    path: PathBuf,
    source: io::Error,
    advice: &'static str,
}

/// The variables of all the app's files, later ones over earlier ones. What root has handed over is
/// in `credentials`; everything else is read here, with the rights of the app's own user.
///
/// # Errors
/// When one of them cannot be read.
pub(crate) fn read_all(app: &App, credentials: Option<&Path>) -> Result<Environment, UnusableFile> {
    let mut variables = Environment::new();
    for (index, path) in app.environment_files.iter().enumerate() {
        let handed = credentials.map(|directory| directory.join(variables_credential(index)));
        let handed = handed.filter(|path| path.exists());
        let from = handed.as_ref().unwrap_or(path);
        // The app's user may have put anything there: nothing that blocks, nothing without an end.
        let text = read_text(from, Links::Follow, MOST).map_err(|source| UnusableFile {
            path: path.clone(),
            advice: advice(source.kind()),
            source,
        })?;
        variables.extend(parse(&text));
    }
    Ok(variables)
}

/// What to do about a file that cannot be read.
fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => {
            ": let the app's user read it; or let it and every directory above it be root's, with \
             nobody else to write there, and say `systemctl daemon-reload`"
        }
        _ => "",
    }
}

/// Where in a line the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Comment,
    Name,
    /// After the `=`, or after a closing quote.
    Gap,
    Bare,
    Single,
    Double,
}

/// The variables in a text. Lines that are none are passed over, as systemd does.
fn parse(text: &str) -> Environment {
    let mut variables = Environment::new();
    let (mut name, mut value) = (String::new(), String::new());
    let mut at = At::Start;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let ends_line = matches!(c, '\n' | '\r');
        at = match at {
            At::Start if matches!(c, '#' | ';') => At::Comment,
            At::Start if c.is_ascii_whitespace() => At::Start,
            At::Start => {
                name = c.to_string();
                At::Name
            }
            At::Comment if c == '\\' => {
                rest.next(); // a comment may go on, too
                At::Comment
            }
            // In a name: no variable.
            At::Comment | At::Name if ends_line => At::Start,
            At::Comment => At::Comment,
            At::Name if c == '=' => {
                value.clear();
                At::Gap
            }
            At::Name => {
                name.push(c);
                At::Name
            }
            At::Gap | At::Bare if ends_line => {
                set(&mut variables, &name, &value, at);
                At::Start
            }
            At::Gap if c == '\'' => At::Single,
            At::Gap if c == '"' => At::Double,
            At::Gap if c.is_ascii_whitespace() => At::Gap,
            At::Gap | At::Bare if c == '\\' => {
                if let Some(c) = rest.next().filter(|c| !matches!(c, '\n' | '\r')) {
                    value.push(c);
                }
                At::Bare
            }
            At::Gap | At::Bare => {
                value.push(c);
                At::Bare
            }
            At::Single if c == '\'' => At::Gap,
            At::Double if c == '"' => At::Gap,
            At::Double if c == '\\' => {
                match rest.next() {
                    Some(c @ ('"' | '\\' | '`' | '$')) => value.push(c),
                    Some('\n') | None => {}
                    Some(c) => value.extend(['\\', c]),
                }
                At::Double
            }
            At::Single | At::Double => {
                value.push(c);
                at
            }
        };
    }
    if matches!(at, At::Gap | At::Bare | At::Single | At::Double) {
        set(&mut variables, &name, &value, at);
    }
    variables
}

/// Sets a variable that systemd would set.
fn set(variables: &mut Environment, name: &str, value: &str, at: At) {
    let name = name.trim_end();
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let valid = starts && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    // Spaces at the end of a line are nobody's; within quotes they are meant.
    let value = if at == At::Bare { value.trim_end_matches(is_blank) } else { value };
    if valid && !value.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')) {
        variables.insert(OsStr::new(name).to_owned(), OsStr::new(value).to_owned());
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let text_of = |text: std::ffi::OsString| text.into_string().unwrap();
        parse(text).into_iter().map(|(name, value)| (text_of(name), text_of(value))).collect()
    }

    fn one(text: &str) -> String {
        let mut pairs = pairs(text);
        assert_eq!(pairs.len(), 1, "{text:?}: {pairs:?}");
        pairs.remove(0).1
    }

    #[test]
    fn only_of_rights_there_is_something_to_say() {
        assert!(advice(io::ErrorKind::PermissionDenied).contains("let the app's user read it"));
        assert_eq!(advice(io::ErrorKind::NotFound), "");
    }

    #[test]
    fn values_are_read_as_systemd_reads_them() {
        for (text, value) in [
            ("A=plain", "plain"),
            ("A=", ""),
            ("  A = two  words \t\n", "two  words"),
            ("A='single $x \\n'", "single $x \\n"),
            ("A=\"double \\\"q\\\" \\$x \\`y\\` \\\\ \\n\"", "double \"q\" $x `y` \\ \\n"),
            ("A=one\\\ntwo", "onetwo"),
            ("A=\"one\\\ntwo\nthree\"", "onetwo\nthree"),
            ("A=a\\ b\\\\c", "a b\\c"),
            ("A='joined'\"to\"gether", "joinedtogether"),
            ("A=it's # no comment", "it's # no comment"),
            ("A=first\nA=last", "last"),
            ("A=\"no end", "no end"),
            ("A=\"kept \"", "kept "),
            ("A=1\r\n", "1"),
        ] {
            assert_eq!(one(text), value, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_variable_is_passed_over() {
        let text = "# A=1\n; B=2\n# goes on \\\nC=3\nexport D=4\nnothing\n5=6\nE=bell\u{7}\nF=7\n";
        assert_eq!(pairs(text), [("F".to_owned(), "7".to_owned())]);
    }

    #[test]
    fn files_are_read_in_order_with_what_root_handed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("own"), "A=own\nB=own\n").unwrap();
        std::fs::write(path(&variables_credential(1)), "B=handed\n").unwrap();
        let mut app = crate::worker::tests::app(crate::config::settings::Listen::Fd, &["x"]);
        app.environment_files = vec![path("own"), path("not-readable")];
        let read = read_all(&app, Some(directory.path())).unwrap();
        assert_eq!(read, [("A".into(), "own".into()), ("B".into(), "handed".into())].into());
        let error = read_all(&app, None).unwrap_err().to_string();
        assert!(error.contains("not-readable: No such file"), "{error}");
        app.environment_files = vec![directory.path().to_owned()];
        assert!(read_all(&app, None).unwrap_err().to_string().contains("not a regular file"));
        app.environment_files = vec!["/dev/zero".into()];
        assert!(read_all(&app, None).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics_and_only_variables_come_out(text in "(?s).{0,200}") {
            for (name, value) in pairs(&text) {
                prop_assert!(!name.is_empty() && !name.contains(['=', '\0', ' ']));
                prop_assert!(!value.contains('\0'));
            }
        }

        #[test]
        fn what_is_quoted_comes_out_as_it_was(value in "[ -~\t\nä]{0,40}") {
            let escaped: String = value
                .chars()
                .flat_map(|c| matches!(c, '"' | '\\' | '`' | '$').then_some('\\').into_iter().chain([c]))
                .collect();
            prop_assert_eq!(one(&format!("A=\"{escaped}\"\n")), value);
        }
    }
}
