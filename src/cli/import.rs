//! `roundsman import`: files for Roundsman from the configuration of PM2 or nginx.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::manage::{self, Done, Failure, print, say};
use super::rights;
use crate::base::file::write_atomically;
use crate::base::paths;
use crate::config::{self, Sources};
use crate::import::{self, Import};

/// Print the files that do what PM2's or nginx's configuration does, and what has no counterpart
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
}

/// Evaluates the file as PM2 does, and prints what it exports behind a mark, since the file may
/// print things of its own.
const EVALUATE: &str = r"
const { pathToFileURL } = require('node:url');
const path = process.argv[1];
(async () => {
  let value;
  try { value = require(path); } catch (error) {
    if (error.code !== 'ERR_REQUIRE_ESM' && !/\.mjs$/.test(path)) throw error;
    value = await import(pathToFileURL(path));
  }
  if (value && value.default && value.apps === undefined) value = value.default;
  const plain = (key, value) =>
    value instanceof RegExp || typeof value === 'function' ? String(value) : value;
  process.stdout.write('\n\u0001roundsman\u0001' + JSON.stringify(value, plain));
})().catch((error) => { console.error(error); process.exit(1); });
";

/// What stands before the value.
const MARK: &str = "\u{1}roundsman\u{1}";

// === impl ImportCommand ===

impl ImportCommand {
    /// Imports.
    pub(super) fn run(&self) -> ExitCode {
        manage::end(match &self.from {
            From::Pm2 { file, env, output } => {
                pm2(file, env.as_deref()).and_then(|i| output.show(&i))
            }
            From::Nginx { file, output } => nginx(file).and_then(|i| output.show(&i)),
        })
    }
}

fn pm2(file: &Path, environment: Option<&str>) -> Done<Import> {
    let absolute = fs::canonicalize(file)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))?;
    let value = evaluate(&absolute)?;
    let directory = absolute.parent().unwrap_or(Path::new("/"));
    import::pm2::import(&value, directory, environment)
        .map_err(|error| Failure::config(format!("{}: {error}", file.display())))
}

fn evaluate(file: &Path) -> Done<Value> {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if matches!(extension, "yaml" | "yml") {
        let text = fs::read_to_string(file)
            .map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))?;
        return serde_saphyr::from_str(&text).map_err(|error| {
            Failure::config(format!("{} is not valid YAML: {error}", file.display()))
        });
    }
    let mut command = Command::new("node");
    command.args(["-e", EVALUATE, "--"]).arg(file).stdin(Stdio::null());
    // It is a program, and somebody else's: nothing of root's is its business.
    if rustix::process::geteuid().is_root()
        && let Ok(metadata) = fs::metadata(file)
        && metadata.uid() != 0
    {
        command.uid(metadata.uid()).gid(metadata.gid());
    }
    let output = command.output().map_err(|error| {
        Failure::new(format!("cannot run node, which evaluates {}: {error}", file.display()))
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let value = text.rsplit_once(MARK).and_then(|(_, json)| serde_json::from_str(json).ok());
    value.filter(|_| output.status.success()).ok_or_else(|| {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Failure::config(format!("node cannot evaluate {}:\n{stderr}", file.display()))
    })
}

fn nginx(file: &Path) -> Done<Import> {
    import::nginx::import(file).map_err(|error| Failure::config(error.to_string()))
}

// === impl Output ===

impl Output {
    fn show(&self, import: &Import) -> Done {
        if self.json {
            let value = json!({
                "files": import.files.iter().map(|f| json!({"path": self.to.join(&f.path), "text": f.text})).collect::<Vec<_>>(),
                "notes": import.notes.iter().map(|n| json!({"at": n.at, "text": n.text})).collect::<Vec<_>>(),
            });
            print(&serde_json::to_string_pretty(&value).unwrap_or_default());
        } else {
            let mut out = std::io::stdout().lock();
            for file in &import.files {
                // A reader that went away, as in `import … | head`, has seen enough.
                let _ = writeln!(out, "# {}\n{}", self.to.join(&file.path).display(), file.text);
            }
            for note in &import.notes {
                say(&format!("{}: {}", note.at, note.text));
            }
        }
        self.judge(import)?;
        if self.write { self.write(import) } else { Ok(()) }
    }

    /// What the configuration says to these files, together with those that are there.
    fn judge(&self, import: &Import) -> Done {
        let system = Path::new(paths::CONFIGURATION);
        let sources =
            if self.to == system { manage::sources() } else { Sources::directory(&self.to) };
        if !self.to.is_dir() && !self.write {
            return Ok(());
        }
        fs::create_dir_all(&self.to)?;
        let sources = import.files.iter().fold(sources, |sources, file| {
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

    fn write(&self, import: &Import) -> Done {
        let there: Vec<String> = import
            .files
            .iter()
            .map(|file| self.to.join(&file.path))
            .filter(|path| path.exists())
            .map(|path| path.display().to_string())
            .collect();
        if !there.is_empty() {
            return Err(Failure::new(format!(
                "nothing was written, because these are there already: {}",
                there.join(", ")
            )));
        }
        let paths: Vec<_> = import.files.iter().map(|file| self.to.join(&file.path)).collect();
        rights::may_write(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
        for file in &import.files {
            let path = self.to.join(&file.path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            write_atomically(&path, file.text.as_bytes(), 0o644)?;
            say(&format!("{} is written", path.display()));
        }
        Ok(())
    }
}
