//! Variables with secrets, which are given on a command line: they go into a file that only root reads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml_edit::{Array, Value};

use super::failure::{Done, Failure};
use super::rights;
use crate::base::file::{Links, read_text};
use crate::base::{paths, replace, text};
use crate::config::secrecy;
use crate::import::environment_file;
use crate::start::file::Change;

/// The most that is read of such a file.
const MOST: u64 = 1024 * 1024;

/// The secrets of one app, as they are to be.
#[derive(Debug)]
pub(super) struct Secrets {
    path: PathBuf,
    /// `None` when there is no such file.
    old: Option<String>,
    new: String,
}

// === impl Secrets ===

impl Secrets {
    /// The file of an app's.
    pub(super) fn path(app: &str) -> PathBuf {
        paths::app_file(app).with_extension("env")
    }

    /// Takes the secrets out of a change; `files` are the environment files that the app has already.
    pub(super) fn take(app: &str, change: &mut Change, files: &[PathBuf]) -> Done<Option<Self>> {
        let fits = |(name, value): &(String, String)| {
            secrecy::is_secret(name, value) && environment_file::can_hold(name, value)
        };
        let (secret, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut change.environment).into_iter().partition(fits);
        change.environment = open;
        if secret.is_empty() {
            return Ok(None);
        }
        let path = Self::path(app);
        let old = match read_text(&path, Links::Refuse, MOST) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(Failure::from(io::Error::new(
                    error.kind(),
                    format!("cannot read {}: {error}", path.display()),
                )));
            }
        };
        rights::may_write(&[&path])?;
        add_file(change, files, &path);
        let new = merged(old.as_deref().unwrap_or_default(), &secret);
        Ok(Some(Self { path, old, new }))
    }

    /// Puts them in place.
    pub(super) fn write(&self) -> Done {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(replace::replace(&self.path, self.new.as_bytes(), replace::SECRET)?)
    }

    /// Takes them back.
    pub(super) fn undo(&self) {
        // Who reads of the failure sees the app's own file; this one is no more than a part of it.
        let _ = match &self.old {
            Some(old) => replace::replace(&self.path, old.as_bytes(), replace::SECRET),
            None => fs::remove_file(&self.path),
        };
    }

    /// What is said of it.
    pub(super) fn note(&self) -> String {
        format!("secrets are in {}, which only root reads", text::path(&self.path))
    }
}

/// The old text with other values: a later line counts, and an earlier one of the same name goes.
fn merged(old: &str, secrets: &[(String, String)]) -> String {
    let new = environment_file::text(secrets);
    if old.is_empty() {
        return new;
    }
    let is_replaced = |line: &str| {
        let is_whole = line.ends_with('"') && !line.ends_with("\\\"");
        is_whole && secrets.iter().any(|(name, _)| line.starts_with(&format!("{name}=\"")))
    };
    let mut text: String =
        old.lines().filter(|line| !is_replaced(line)).flat_map(|line| [line, "\n"]).collect();
    text.extend(new.split_inclusive('\n').skip(1)); // what the file is, it says already
    text
}

/// Has the app read the file, beside those that it reads or is to read.
fn add_file(change: &mut Change, present: &[PathBuf], path: &Path) {
    let at = path.display().to_string();
    let key = "environment-files";
    if let Some((_, Value::Array(files))) = change.more.iter_mut().find(|(name, _)| name == key) {
        files.push(at);
        return;
    }
    if present.iter().any(|file| file == path) {
        return;
    }
    let files = present.iter().map(|file| file.display().to_string()).chain([at]);
    change.more.push((key.to_owned(), files.collect::<Array>().into()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn another_value_takes_the_place_of_the_one_before() {
        let old = environment_file::text(&[pair("A_TOKEN", "x y"), pair("B_SECRET", "1")]);
        let text = merged(&old, &[pair("B_SECRET", "2"), pair("C_PASSWORD", "$")]);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.starts_with('#') && text.contains("A_TOKEN=\"x y\"\n"), "{text}");
        assert!(text.ends_with("B_SECRET=\"2\"\nC_PASSWORD=\"\\$\"\n"), "{text}");
    }

    #[test]
    fn the_app_reads_the_file_beside_its_others() {
        let path = Path::new("/etc/roundsman/apps/shop.env");
        let text = |change: &Change| change.apply(Path::new("x"), "").unwrap();
        let mut change = Change::default();
        add_file(&mut change, &["/a".into()], path);
        let both = "environment-files = [\"/a\", \"/etc/roundsman/apps/shop.env\"]\n";
        assert_eq!(text(&change), both);
        let mut change = Change::default();
        add_file(&mut change, &[path.to_owned()], path);
        assert_eq!(text(&change), "");
        let mut change = Change::default();
        change.more.push(("environment-files".to_owned(), Array::from_iter(["/a"]).into()));
        add_file(&mut change, &[], path);
        assert_eq!(text(&change), both);
    }
}
