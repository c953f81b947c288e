//! Why it is not known what to start: each with what to type instead.

use std::path::{Path, PathBuf};

/// Why it is not known what to start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InferError {
    /// Nothing is there.
    #[error("there is no file or directory {}{}", .0.display(), meant(.1.as_deref()))]
    NotThere(PathBuf, Option<PathBuf>),
    /// There is, but it cannot be read.
    #[error("cannot read {}: {}", .0.display(), .1)]
    Unreadable(PathBuf, std::io::Error),
    /// A file of an unknown kind.
    #[error(
        "it is not clear how {} is run: it is no Node or Python file, and not executable.\n\
         Give the whole command: roundsman start --name NAME -- COMMAND ARGUMENT…", .0.display()
    )]
    UnknownFile(PathBuf),
    /// TypeScript has no runtime of its own.
    #[error(
        "{} is TypeScript, which Node does not run by itself everywhere.\nStart what it is compiled \
         to, or install what runs it (npm install tsx) and start it again",
        .0.display()
    )]
    TypeScript(PathBuf),
    /// A script whose interpreter is not there.
    #[error(
        "{path} is run by \"{name}\", as its first line says, and there is no program \"{name}\": install it, or give \
         the whole command: roundsman start --name NAME -- COMMAND ARGUMENT…", path = .0.display(), name = .1
    )]
    NoInterpreter(PathBuf, String),
    /// A directory in which nothing is recognised.
    #[error(
        "it is not clear what to start in {}: there is no package.json with \"main\" or a plain \
         \"start\" script, and no server.js, index.js, app.js, main.py, app.py or Procfile.\nName the \
         file, or give the whole command: roundsman start --name NAME -- COMMAND ARGUMENT…", .0.display()
    )]
    UnknownDirectory(PathBuf),
    /// A script that is not there.
    #[error("{} has no script \"{}\"", .0.display(), .1)]
    NoScript(PathBuf, String),
    /// One that is more than a command.
    #[error(
        "the script \"{}\" in {} needs a shell: `{}`.\nStart what serves: roundsman start --name NAME \
         -- {}", .1, .0.display(), .2, last_command(.2)
    )]
    Shell(PathBuf, String, String),
    /// A tool that is not installed.
    #[error("there is no {} in node_modules of {}: npm install {}", .0, .1.display(), .0)]
    NoTool(String, PathBuf),
    /// What is made by a build is not there.
    #[error("{} is not there yet: {}", .0.display(), .1)]
    NotBuilt(PathBuf, &'static str),
    /// Something that does what Roundsman does.
    #[error(
        "{} would come between Roundsman and the app, and does the same.\nStart the app itself: \
         roundsman start --name NAME -- node {}; with --watch it is replaced for changed files", .0, .1
    )]
    Supervisor(String, String),
    /// A Python file that only defines an app.
    #[error(
        "{} defines a Flask app and does not serve it: install gunicorn, in the app's virtual \
         environment or on the machine, and start it again", .0.display()
    )]
    NoPythonServer(PathBuf),
    /// A package.json that is none.
    #[error("{} is not valid JSON: {}", .0.display(), .1)]
    BadPackage(PathBuf, serde_json::Error),
}

/// What to do where nothing is.
fn meant(meant: Option<&Path>) -> String {
    match meant {
        Some(meant) => format!(": did you mean {}?", meant.display()),
        None => ".\nIs it in another folder? Go there first, or give its whole path".to_owned(),
    }
}

/// The part of a shell's line that is likely to serve: the last one.
fn last_command(line: &str) -> &str {
    line.rsplit(['&', '|', ';']).next().unwrap_or(line).trim()
}
