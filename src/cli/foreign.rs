//! What those type first who come from PM2: words that are another command here, or none.

use std::ffi::OsString;

use super::failure::{Done, Failure};
use crate::base::exit;

/// What a word of PM2's means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The same as this command.
    Is(&'static str),
    /// Nothing that is to be typed.
    Says(&'static str),
}

use Meaning::{Is, Says};

const WORDS: [(&str, Meaning); 28] = [
    ("ls", Is("status")),
    ("l", Is("status")),
    ("ps", Is("status")),
    ("show", Is("describe")),
    ("desc", Is("describe")),
    ("info", Is("describe")),
    ("log", Is("logs")),
    ("del", Is("delete")),
    ("gracefulReload", Is("reload")),
    ("startOrReload", Is("start")),
    ("startOrRestart", Is("start")),
    ("help", Is("--help")),
    ("monit", Says("To watch: watch roundsman status, and roundsman logs -f")),
    (
        "plus",
        Says("There is no such service. To watch: watch roundsman status, and roundsman logs -f"),
    ),
    ("dash", Says("To watch: watch roundsman status, and roundsman logs -f")),
    (
        "save",
        Says(
            "Nothing is to be saved: every app has its file, and starts at boot once it was started",
        ),
    ),
    (
        "dump",
        Says(
            "Nothing is to be saved: every app has its file, and starts at boot once it was started",
        ),
    ),
    ("resurrect", Says("Apps start at boot by themselves. Now: roundsman apply")),
    (
        "startup",
        Says("Nothing is to be done: systemd starts every app at boot that was started once"),
    ),
    ("unstartup", Says("For one app: systemctl disable roundsman-app@NAME.target")),
    ("kill", Says("To stop an app: roundsman stop NAME; all of them: roundsman stop all")),
    (
        "flush",
        Says("Logs are in the journal, which keeps itself small: journalctl --vacuum-time=7d"),
    ),
    ("reloadLogs", Says("Nothing is to be done: logs are in the journal")),
    (
        "update",
        Says("Nothing is to be done: an upgrade of the package replaces the front by itself"),
    ),
    (
        "env",
        Says("The variables of an app are in its file: roundsman describe NAME says where it is"),
    ),
    ("init", Says("No file is needed: roundsman start server.js writes one")),
    (
        "ecosystem",
        Says(
            "No file is needed: roundsman start server.js writes one. Of an ecosystem file: \
      roundsman import pm2 FILE",
        ),
    ),
    (
        "install",
        Says("There are no modules: logs are in the journal, figures in roundsman status --json"),
    ),
];

/// The command line with words of PM2's as ours.
///
/// # Errors
/// When there is nothing to do for such a word; it says why.
pub(super) fn translated(mut words: Vec<OsString>) -> Done<Vec<OsString>> {
    let meaning = words.get(1).and_then(|word| {
        let word = word.to_str()?;
        WORDS.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning)
    });
    match meaning {
        None => Ok(words),
        Some(Is("--help")) => {
            // `help start` is `start --help`.
            words.remove(1);
            words.push("--help".into());
            Ok(words)
        }
        Some(Is(command)) => {
            words[1] = command.into();
            Ok(words)
        }
        Some(Says(text)) => {
            let word = words[1].to_string_lossy().into_owned();
            Err(Failure::with(
                exit::USAGE,
                format!("there is no \"{word}\" here. {text}. All commands: roundsman --help"),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn typed(line: &str) -> Result<String, String> {
        let words = line.split(' ').map(OsString::from).collect();
        let joined = |words: Vec<OsString>| {
            words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        translated(words).map(joined).map_err(|failure| failure.message)
    }

    #[test]
    fn words_of_pm2_lead_to_ours() {
        for (pm2, ours) in [
            ("roundsman ls", "roundsman status"),
            ("roundsman show shop", "roundsman describe shop"),
            ("roundsman help", "roundsman --help"),
            ("roundsman help start", "roundsman start --help"),
            ("roundsman start ls", "roundsman start ls"),
            ("roundsman", "roundsman"),
        ] {
            assert_eq!(typed(pm2).as_deref(), Ok(ours));
        }
        for word in ["save", "startup", "monit"] {
            let said = typed(&format!("roundsman {word}")).unwrap_err();
            assert!(said.starts_with(&format!("there is no \"{word}\" here. ")), "{said}");
        }
    }

    #[test]
    fn no_word_hides_a_command_and_every_one_leads_to_one() {
        let program = Cli::command();
        let is_ours = |word: &str| program.find_subcommand(word).is_some();
        for (word, meaning) in WORDS {
            assert!(!is_ours(word), "{word}");
            if let Is(ours) = meaning {
                assert!(ours == "--help" || is_ours(ours), "{ours}");
            }
        }
    }
}
