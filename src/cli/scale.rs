//! `roundsman scale`: more workers, or fewer.

use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use serde_json::json;

use super::before::Before;
use super::edit::Edit;
use super::failure::{Done, Failure};
use super::manage::{self, Machine, done};
use super::{AdminSocket, companions, names, rights};
use crate::config::settings::App;
use crate::helper::Request;
use crate::helper::request::{Count, Verb};
use crate::start::file::Change;

/// Change an app's number of workers
#[derive(Debug, Args)]
pub(super) struct Scale {
    /// The app
    #[arg(value_name = "APP", add = names::apps())]
    app: String,
    /// How many workers it is to have: a number, or how many more (+2) or fewer (-1)
    #[arg(value_name = "N|+N|-N", allow_hyphen_values = true)]
    count: CountArg,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminSocket,
}

/// A [`Count`] as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CountArg(Count);

impl FromStr for CountArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("\"{text}\" is neither a number of workers (6) nor a change (+2, -1)");
        let digits = text.trim_start_matches(['+', '-']);
        // `u16` would take a sign of its own, and `--2` is no number.
        if digits.is_empty()
            || text.len() > digits.len() + 1
            || !digits.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(wrong());
        }
        let number: u16 = digits
            .parse()
            .map_err(|_| format!("that would be {text} workers, and an app has 1 to 250"))?;
        Ok(Self(match text.as_bytes().first() {
            Some(b'+') => Count::By(i32::from(number)),
            Some(b'-') => Count::By(-i32::from(number)),
            _ => Count::To(number),
        }))
    }
}

impl CountArg {
    /// The number it comes to for this app.
    fn of(self, present: u16, app: &str) -> Result<u16, String> {
        let wanted = match self.0 {
            Count::To(number) => i32::from(number),
            Count::By(change) => i32::from(present) + change,
        };
        match u16::try_from(wanted) {
            Ok(number @ 1..=250) => Ok(number),
            _ if wanted < 1 => Err(format!(
                "that would be {wanted} workers, and an app has 1 to 250. To stop it: roundsman stop {app}"
            )),
            _ => Err(format!("that would be {wanted} workers, and an app has 1 to 250")),
        }
    }
}

// === impl Scale ===

impl Scale {
    fn request(&self) -> Done<Request> {
        self.admin.only_default()?;
        let verb = Verb::Scale(self.count.0);
        Ok(Request { app: self.app.clone(), verb, json: self.json })
    }

    /// Scales.
    pub(super) fn run(&self) -> ExitCode {
        rights::run(|| self.request(), async {
            let name = &self.app;
            let before = manage::app(&manage::load(), name)?;
            let workers = self.count.of(before.workers, name).map_err(Failure::new)?;
            let _lock = manage::lock(name, false)?;
            let change = Change { workers: Some(workers), ..Change::default() };
            let edit = Edit::overlay(name, &change)?;
            let after = edit.judge_app(name)?;
            if after.workers != workers {
                return Err(Failure::config(format!(
                    "something overrides `workers` of {}: a drop-in in /etc/roundsman/apps/{name}.toml.d \
                     or /run/roundsman.d/apps/{name}.toml.d; change it there",
                    edit.path().display()
                )));
            }
            let machine = Machine::connect(&self.admin.path).await?;
            machine.could_serve(&after).await?;
            scale(&machine, &edit, &before, &after).await?;
            companions::settle(&machine, &after).await?;
            let plural = if workers == 1 { "worker" } else { "workers" };
            let text = format!("{name} has {workers} {plural}");
            let before = before.workers;
            done(
                self.json,
                &text,
                "scaled",
                name,
                &json!({ "workers": workers, "before": before }),
            );
            Ok(())
        })
    }
}

/// Brings the number of workers from what it was to what it is to be; when that fails, back.
pub(super) async fn scale(machine: &Machine, edit: &Edit, before: &App, after: &App) -> Done {
    let ran = Before::look(machine, &before.name).await?;
    let scaled = change(machine, edit, before, after, !ran.is_empty()).await;
    if scaled.is_err() {
        ran.put_back(machine, after, edit).await;
    }
    scaled
}

async fn change(machine: &Machine, edit: &Edit, before: &App, after: &App, runs: bool) -> Done {
    // The others go on undisturbed, the lowest numbers always being there.
    let fewer: Vec<u16> = (after.workers + 1..=before.workers).collect();
    if runs && !fewer.is_empty() {
        machine.stop_workers(before, &fewer).await?;
    }
    edit.write()?;
    machine.apply_files_of(&after.name, !after.is_background()).await?;
    let more: Vec<u16> = (before.workers + 1..=after.workers).collect();
    if runs && !more.is_empty() {
        machine.start_workers(after, &more).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_absolute_or_relative() {
        let of = |text: &str| text.parse::<CountArg>().and_then(|count| count.of(4, "shop"));
        assert_eq!(of("6"), Ok(6));
        assert_eq!(of("+2"), Ok(6));
        assert_eq!(of("-1"), Ok(3));
        for wrong in ["0", "-4", "+247", "251", "", "+", "--2", "+-1", "x", "1.5", "99999"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert!(of("0").unwrap_err().ends_with("roundsman stop shop"));
        assert!(of("100000").unwrap_err().starts_with("that would be 100000 workers"));
    }
}
