//! `roundsman import`: files for Roundsman from the configuration of PM2 or nginx.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::ecosystem;
use super::failure::{Done, Failure};
use super::manage::{self, print_json, say};
use super::rights;
use crate::base::{exit, paths, replace, text};
use crate::config::{self, Sources};
use crate::import::{self, Author, Carried, File, Import, Note, Severity};

/// Print the files that do what PM2's or nginx's configuration does, and what has no counterpart
///
/// Each difference is told with how bad it is: to do, differs, lost, closed, NOT PROTECTED. The exit
/// status is 0 when all is in the files, 3 when something is lost or closed, 4 when nothing could be
/// carried over.
#[derive(Debug, Args)]
pub(super) struct ImportCommand {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// From an ecosystem file of PM2: .js and .json (evaluated with node), .yaml
    Pm2 {
        /// ecosystem.config.js
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Take the variables of env_NAME, too
        #[arg(long, value_name = "NAME")]
        env: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// From nginx.conf, a site's file, or a directory of sites
    Nginx {
        /// /etc/nginx/nginx.conf, or /etc/nginx/sites-enabled
        #[arg(value_name = "FILE|DIR")]
        file: PathBuf,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
struct Output {
    /// Write the files, if none of them is there yet
    #[arg(long)]
    write: bool,
    /// Where they are written
    #[arg(long, value_name = "DIR", default_value = paths::CONFIGURATION)]
    to: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write them although rules that keep somebody out are not in them
    #[arg(long, requires = "write")]
    unprotected: bool,
}

// === impl ImportCommand ===

impl ImportCommand {
    /// Imports.
    pub(super) fn run(&self) -> ExitCode {
        manage::end(match &self.from {
            From::Pm2 { file, env, output } => {
                pm2(file, env.as_deref(), &output.to).and_then(|i| output.show(&i))
            }
            From::Nginx { file, output } => nginx(file, &output.to).and_then(|i| output.show(&i)),
        })
    }
}

/// What the apps of an ecosystem file of PM2 come to.
pub(super) fn pm2(file: &Path, environment: Option<&str>, to: &Path) -> Done<Import> {
    // The path with its links, since whoever made those could have had another file evaluated.
    let given = std::path::absolute(file)?;
    let absolute = fs::canonicalize(file)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))?;
    let (value, author) = ecosystem::evaluate(&given, &absolute)?;
    let directory = absolute.parent().unwrap_or(Path::new("/"));
    let author = author.as_ref().map(Author::of).transpose()?;
    import::pm2::import(&value, directory, environment, to, author.as_ref())
        .map_err(|error| Failure::config(format!("{}: {error}", file.display())))
}

fn nginx(file: &Path, to: &Path) -> Done<Import> {
    import::nginx::import(file, to).map_err(|error| Failure::config(error.to_string()))
}

// === impl Output ===

impl Output {
    fn show(&self, import: &Import) -> Done {
        if self.json {
            let value = json!({
                "files": import.files.iter().map(|f| json!({"path": self.to.join(&f.path), "text": f.text, "secret": f.secret})).collect::<Vec<_>>(),
                "carried": word(import.carried()),
                "notes": notes(&import.notes),
                "unprotected": notes(&import.unprotected),
            });
            print_json(&value);
        } else {
            let mut out = std::io::stdout().lock();
            for file in &import.files {
                // A reader that went away, as in `import … | head`, has seen enough.
                let path = self.to.join(&file.path);
                let text = if file.secret { hidden(&file.text) } else { file.text.clone() };
                let (path, text) = (text::path(&path), text::lines(&text));
                let _ = writeln!(out, "# {path}\n{text}");
            }
            // The worst comes last, where it is seen.
            let mut told: Vec<&Note> = import.notes.iter().collect();
            told.sort_by_key(|note| std::cmp::Reverse(note.severity));
            for note in told {
                let (severity, at) = (note.severity.word(), &note.at);
                say(&text::one_line(&format!("{severity}: {at}: {}", note.text)));
            }
            for note in &import.unprotected {
                say(&text::one_line(&format!("NOT PROTECTED: {}: {}", note.at, note.text)));
            }
        }
        if self.write {
            self.refuse_what_is_open(import)?;
            self.refuse_what_is_there(import)?;
        }
        self.judge(import)?;
        if self.write {
            write(&self.to, &import.files)?;
        }
        self.end(import)
    }

    /// The exit status says how much of the original is in the files.
    fn end(&self, import: &Import) -> Done {
        let carried = import.carried();
        if !self.json {
            say(&summary(import));
        }
        match carried {
            Carried::All => Ok(()),
            Carried::WithLosses => Err(Failure::with(exit::WITH_LOSSES, "")),
            Carried::Nothing => Err(Failure::with(exit::NOTHING, "")),
        }
    }

    fn sources(&self) -> Sources {
        if self.to == Path::new(paths::CONFIGURATION) {
            manage::sources()
        } else {
            Sources::directory(&self.to)
        }
    }

    /// What the configuration says to these files, together with those that are there.
    fn judge(&self, import: &Import) -> Done {
        if !self.to.is_dir() && !self.write {
            return Ok(());
        }
        fs::create_dir_all(&self.to)?;
        let configuration = import.files.iter().filter(|file| !file.secret);
        let sources = configuration.fold(self.sources(), |sources, file| {
            sources.with_file(self.to.join(&file.path), Some(file.text.clone()))
        });
        let loaded = config::load(&sources);
        if loaded.problems.errors() == 0 {
            return Ok(());
        }
        Err(Failure::config(format!(
            "with these files the configuration has errors; nothing was written:\n{}",
            loaded.problems.render(false)
        )))
    }

    /// Nobody gets in because of an import who did not get in before, unless it is asked for.
    fn refuse_what_is_open(&self, import: &Import) -> Done {
        if self.unprotected || import.unprotected.is_empty() {
            return Ok(());
        }
        let rules: Vec<String> = import.unprotected.iter().map(|note| note.at.clone()).collect();
        Err(Failure::config(format!(
            "nothing was written, because these rules keep somebody out and cannot be carried over: {}.\n\
             See to it that the app does it or needs none of them, then write with --unprotected",
            rules.join(", ")
        )))
    }

    /// No file is written over another one, nor over what has the same name in another directory of
    /// the configuration, nor where drop-ins of another app wait for it.
    fn refuse_what_is_there(&self, import: &Import) -> Done {
        let there = there_already(&self.sources(), &import.files);
        if there.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "nothing was written, because these are there already: {}",
            list(&there)
        )))
    }
}

/// What of these files is there already in a directory of the configuration, or waits there for one of them.
pub(super) fn there_already(sources: &Sources, files: &[File]) -> Vec<PathBuf> {
    let is_there = |path: &PathBuf| fs::symlink_metadata(path).is_ok();
    let all = files.iter().flat_map(|file| {
        let both = [file.path.clone(), format!("{}.d", file.path)];
        sources.roots().iter().flat_map(move |root| both.clone().map(|path| root.join(path)))
    });
    all.filter(is_there).collect()
}

pub(super) fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Writes them below this directory, if all of them can be.
pub(super) fn write(to: &Path, files: &[File]) -> Done {
    let paths: Vec<_> = files.iter().map(|file| to.join(&file.path)).collect();
    rights::may_write(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
    for (file, path) in files.iter().zip(&paths) {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mode = if file.secret { replace::SECRET } else { replace::OPEN };
        replace::replace(path, file.text.as_bytes(), mode)?;
        say(&format!("{} is written", path.display()));
    }
    Ok(())
}

fn notes(notes: &[Note]) -> Vec<serde_json::Value> {
    let one =
        |note: &Note| json!({"severity": note.severity.word(), "at": note.at, "text": note.text});
    notes.iter().map(one).collect()
}

fn word(carried: Carried) -> &'static str {
    match carried {
        Carried::All => "all",
        Carried::WithLosses => "with losses",
        Carried::Nothing => "nothing",
    }
}

/// How much is in the files, in one line.
fn summary(import: &Import) -> String {
    let kinds = [Severity::Closed, Severity::Lost, Severity::Differs, Severity::ToDo];
    let count = |kind: Severity| import.notes.iter().filter(|note| note.severity == kind).count();
    let mut counts: Vec<String> = kinds
        .iter()
        .filter(|kind| count(**kind) > 0)
        .map(|kind| format!("{} {}", count(*kind), kind.word()))
        .collect();
    if !import.unprotected.is_empty() {
        counts.insert(0, format!("{} NOT PROTECTED", import.unprotected.len()));
    }
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    format!("carried over: {}{counts}", word(import.carried()))
}

/// The names of the variables, without their values.
fn hidden(text: &str) -> String {
    let name = |line: &str| Some(format!("{}=…\n", line.split_once("=\"")?.0));
    text.lines().filter_map(name).collect::<String>() + "# the values are written with --write\n"
}
