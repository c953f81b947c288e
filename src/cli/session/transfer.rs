//! `roundsman session export` and `import`: sessions as lines of JSON.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::live::Live;
use crate::base::exit;
use crate::base::paths;
use crate::cli::failure::{Done, Failure};
use crate::cli::manage;
use crate::session::remote::{Client, Item, each_batch, read, write};

/// Write the sessions of the running store to standard output, one line of JSON for each
#[derive(Debug, Args)]
pub(super) struct Export {
    /// Only this app's
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// Where the store listens
    #[arg(long, value_name = "PATH", default_value = paths::SESSION_SOCKET)]
    socket: PathBuf,
}

/// Bring what `export` has written into the running store, over what has the same keys
#[derive(Debug, Args)]
pub(super) struct Import {
    /// What export has written [default: standard input]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Make all of it this app's
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// Where the store listens
    #[arg(long, value_name = "PATH", default_value = paths::SESSION_SOCKET)]
    socket: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    app: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    database: u8,
    #[serde(flatten)]
    item: Item,
}

/// Entries, and their bytes, that one round trip writes.
const BATCH: usize = 200;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

impl Export {
    pub(super) fn run(self) -> Done {
        let live = Live::at(&self.socket);
        let mut out = BufWriter::new(io::stdout().lock());
        let mut count = 0_u64;
        for (app, database) in live.spaces(self.app.as_deref())? {
            let mut client = live.connect_to(&app, database)?;
            let mut failure = None;
            each_batch(&mut client, |client, keys| {
                for item in read(client, keys)?.0 {
                    let line = Line { app: app.clone(), database, item };
                    let written = serde_json::to_writer(&mut out, &line).map_err(io::Error::from);
                    if let Err(error) = written.and_then(|()| out.write_all(b"\n")) {
                        failure.get_or_insert(error);
                    }
                    count += 1;
                }
                Ok(())
            })?;
            failure.map_or(Ok(()), |error| Err(output_failed(&error)))?;
        }
        out.flush().map_err(|error| output_failed(&error))?;
        manage::say(&format!("{count} keys exported"));
        Ok(())
    }
}

fn output_failed(error: &io::Error) -> Failure {
    Failure::with(exit::OS, format!("the output cannot be written: {error}"))
}

impl Import {
    pub(super) fn run(self) -> Done {
        let (name, input): (String, Box<dyn BufRead>) = match &self.file {
            None => ("standard input".to_owned(), Box::new(io::stdin().lock())),
            Some(path) => {
                let name = path.display().to_string();
                let file = File::open(path)
                    .map_err(|error| Failure::with(exit::OS, format!("{name}: {error}")))?;
                (name, Box::new(BufReader::new(file)))
            }
        };
        let live = Live::at(&self.socket);
        // One space at a time: the lines of an export come in that order.
        let mut open: Option<((String, u8), Client)> = None;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let (mut seen, mut written) = (0_u64, 0_u64);
        for (number, line) in input.lines().enumerate() {
            let wrong = |what: String| {
                Failure::new(format!(
                    "{name}: line {}: {what}; all before it is imported",
                    number + 1
                ))
            };
            let line = line.map_err(|error| wrong(error.to_string()))?;
            if line.trim().is_empty() {
                continue;
            }
            let parsed = serde_json::from_str::<Line>(&line);
            let space = parsed
                .as_ref()
                .ok()
                .map(|line| (self.app.clone().unwrap_or_else(|| line.app.clone()), line.database));
            if let Some((at, client)) = &mut open
                && (space.as_ref() != Some(at) || batch.len() >= BATCH || bytes >= BATCH_BYTES)
            {
                written += write(client, &batch)?;
                (batch, bytes) = (Vec::new(), 0);
            }
            let (parsed, space) = match (parsed, space) {
                (Ok(parsed), Some(space)) => (parsed, space),
                (Err(error), _) => return Err(wrong(error.to_string())),
                (Ok(_), None) => continue,
            };
            if open.as_ref().is_none_or(|(at, _)| *at != space) {
                let client = live.connect_to(&space.0, space.1)?;
                open = Some((space, client));
            }
            seen += 1;
            bytes += line.len();
            batch.push(parsed.item);
        }
        if let Some((_, client)) = &mut open {
            written += write(client, &batch)?;
        }
        let expired = seen - written;
        if self.json {
            manage::print_json(&json!({ "imported": written, "expired": expired }));
        } else {
            manage::print(&format!("{written} keys imported, {expired} had expired"));
        }
        Ok(())
    }
}
