//! What those type first who come from PM2: words that are another command here, or none.

use std::ffi::OsString;

use super::failure::{Done, Failure};
use crate::base::exit;

const WATCH: &str = "To watch: watch roundsman status, and roundsman logs -f";
const AS_JSON: &str = "As JSON: roundsman list --json";
const SAVED: &str =
    "Nothing is to be saved: every app has its file, and starts at boot once it was started";
const NO_FILE: &str = "No file is needed: roundsman start server.js writes one. Of an ecosystem file: \
                       roundsman import pm2 FILE";

/// Words for which there is nothing to type, and why. What is another command here is that command's
/// alias.
const WORDS: [(&str, &str); 17] = [
    ("monit", WATCH),
    ("plus", WATCH),
    ("dash", WATCH),
    ("jlist", AS_JSON),
    ("prettylist", AS_JSON),
    ("save", SAVED),
    ("dump", SAVED),
    ("resurrect", "Apps start at boot by themselves. Now: roundsman apply"),
    ("startup", "Nothing is to be done: systemd starts every app at boot that was started once"),
    ("unstartup", "For one app: systemctl disable roundsman-app@NAME.target"),
    ("kill", "To stop an app: roundsman stop NAME; all of them: roundsman stop all"),
    ("flush", "Logs are in the journal, which keeps itself small: journalctl --vacuum-time=7d"),
    ("reloadLogs", "Nothing is to be done: logs are in the journal"),
    ("update", "Nothing is to be done: an upgrade of the package replaces the front by itself"),
    ("env", "The variables of an app are in its file: roundsman describe NAME says where it is"),
    ("init", NO_FILE),
    ("ecosystem", NO_FILE),
];

/// Words that are another one here. (Aliases of clap's would be what it proposes for a misspelt word.)
const SAME: [(&str, &str); 3] =
    [("startOrReload", "start"), ("startOrRestart", "start"), ("gracefulReload", "reload")];

/// The command line with `help start` as `start --help`, and PM2's words as ours.
///
/// # Errors
/// When it is a word of PM2's for which there is nothing to do; it says why.
pub(super) fn translated(mut words: Vec<OsString>) -> Done<Vec<OsString>> {
    let Some(word) = words.get(1).and_then(|word| word.to_str()) else { return Ok(words) };
    if word == "help" {
        words.remove(1);
        words.push("--help".into());
        return Ok(words);
    }
    if let Some((_, ours)) = SAME.iter().find(|(pm2, _)| *pm2 == word) {
        words[1] = ours.into();
        return Ok(words);
    }
    match WORDS.iter().find(|(known, _)| *known == word) {
        None => Ok(words),
        Some((word, text)) => Err(Failure::with(
            exit::USAGE,
            format!("there is no \"{word}\" here. {text}. All commands: roundsman --help"),
        )),
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
            ("roundsman ls", "roundsman ls"),
            ("roundsman help", "roundsman --help"),
            ("roundsman help start", "roundsman start --help"),
            ("roundsman start ls", "roundsman start ls"),
            ("roundsman startOrReload x.js", "roundsman start x.js"),
            ("roundsman gracefulReload x", "roundsman reload x"),
            ("roundsman", "roundsman"),
        ] {
            assert_eq!(typed(pm2).as_deref(), Ok(ours));
        }
        for word in ["save", "startup", "monit", "jlist"] {
            let said = typed(&format!("roundsman {word}")).unwrap_err();
            assert!(said.starts_with(&format!("there is no \"{word}\" here. ")), "{said}");
        }
    }

    #[test]
    fn no_word_hides_a_command() {
        let program = Cli::command();
        for (word, _) in WORDS {
            assert!(program.find_subcommand(word).is_none(), "{word}");
        }
        for (pm2, ours) in [("ls", "status"), ("show", "describe"), ("del", "delete")] {
            assert_eq!(program.find_subcommand(pm2).map(clap::Command::get_name), Some(ours));
        }
    }
}
