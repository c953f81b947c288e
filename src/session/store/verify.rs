//! Looking at a store that no process has open: is it whole, and what can be had from one that is
//! not.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::{self, Item, View};
use super::recover::open_file;
use super::replay::{self, Segment};
use super::segment::{self, Contents, Written};
use super::value::Entry;
use super::{OpenError, Options, Store, StoreError};
use crate::base::file::{self, Links};

/// What the making of a salvaged store may take.
const SALVAGE_MEMORY: usize = 128 * 1024 * 1024;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Keys in the database file.
    pub keys: u64,
    /// Log records that are not in it yet.
    pub records: u64,
    /// What is wrong, in words; empty when all is well.
    pub problems: Vec<String>,
}

/// Verifies every page, value, index entry and log record of a store.
pub(crate) fn verify(directory: &Path) -> Result<Report, OpenError> {
    if !directory.join(disk::FILE).exists() {
        return Err(OpenError::Io {
            path: directory.join(disk::FILE),
            error: std::io::ErrorKind::NotFound.into(),
        });
    }
    let mut report = Report::default();
    let in_file = match open_file(directory) {
        Ok(database) => {
            let database = Arc::new(database);
            let view = View::new(&database).map_err(StoreError::from)?;
            verify_file(&view, &mut report).map_err(StoreError::from)?;
            view.summary.sequence
        }
        Err(OpenError::File { path, error }) => {
            report.problems.push(format!("{}: {error}", path.display()));
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    let mut last = in_file;
    let segments = segment::segments(directory)
        .map_err(|error| OpenError::Io { path: directory.to_path_buf(), error })?;
    for (number, path) in segments {
        let unreadable = |error| OpenError::Io { path: path.clone(), error };
        let file = Written::open(&path).map_err(unreadable)?;
        let bytes = file.all().map_err(unreadable)?;
        let Contents::Segment { records, cut } = segment::contents(&bytes, file.size, number)
        else {
            report.problems.push(format!("{} is no segment of this log", path.display()));
            continue;
        };
        if cut {
            report.problems.push(format!("{} was cut", path.display()));
        }
        match replay::segment(records, in_file, last, |_, _| {}) {
            Segment::Old => {}
            Segment::Whole { last: reached } => last = reached,
            Segment::Damaged { last: reached, offset } => {
                last = reached;
                report.problems.push(format!("{}: damaged at byte {offset}", path.display()));
                break;
            }
        }
    }
    report.records = last - in_file;
    Ok(report)
}

fn verify_file(view: &View, report: &mut Report) -> Result<(), redb::Error> {
    let (mut expiring, mut prolonged) = (0, 0);
    let mut counted = std::collections::BTreeMap::<_, (u64, u64)>::new();
    for item in view.from(&[])? {
        let Item { key, stored, is_sound } = item?;
        report.keys += 1;
        prolonged += u64::from(view.is_prolonged(&key)?);
        let place = super::key::name(&key).escape_ascii().to_string();
        let Some(entry) = is_sound.then(|| Entry::decode(&stored)).flatten() else {
            report.problems.push(format!("the value of {place} makes no sense"));
            continue;
        };
        if entry.expires != 0 {
            expiring += 1;
            if !view.has_expiry(entry.expires, &key)? {
                report.problems.push(format!("{place} is not in the expiry index"));
            }
        }
        let count = counted.entry(super::key::space(&key)).or_default();
        *count = (count.0 + 1, count.1 + (key.len() + stored.len()) as u64);
    }
    let indexed = view.expiring()?;
    if indexed != expiring {
        report.problems.push(format!("the expiry index has {indexed} entries for {expiring} keys"));
    }
    let orphans = view.prolonged()?.saturating_sub(prolonged);
    if orphans > 0 {
        report.problems.push(format!("there are expiries of {orphans} keys that are not there"));
    }
    for record in &view.summary.spaces {
        let (keys, bytes) = counted.remove(&record.space).unwrap_or_default();
        if (keys, bytes) != (record.keys, record.bytes) {
            report.problems.push(format!(
                "namespace {} database {} has {keys} keys ({bytes} bytes), not {} ({} bytes)",
                record.namespace, record.database, record.keys, record.bytes
            ));
        }
    }
    for space in counted.keys() {
        report.problems.push(format!("there are keys of space {space}, which is not defined"));
    }
    Ok(())
}

/// Copies a file, and nothing that a link leads to, or that has no end.
fn copy_of(from: &Path, to: &Path) -> io::Result<()> {
    io::copy(&mut file::open(from, Links::Refuse)?, &mut fs::File::create(to)?).map(drop)
}

/// Makes a store in `scratch` out of whatever can be read in `damaged`, which is left as it is.
/// Returns it with what could not be read.
pub(crate) fn salvage(damaged: &Path, scratch: &Path) -> Result<(Store, Vec<String>), OpenError> {
    let mut lost = Vec::new();
    let copy = scratch.join("copy");
    let failed = |error| OpenError::Io { path: damaged.to_path_buf(), error };
    fs::create_dir_all(&copy).map_err(failed)?;
    let options = Options {
        directory: scratch.join("salvaged"),
        sync: super::SessionSync::EverySecond,
        max_size: u64::MAX,
        memory: SALVAGE_MEMORY,
        verified: None,
    };
    let (mut store, _) = Store::open(options)?;
    let mut last = 0;
    let mut strays = 0_u64;
    match copy_of(&damaged.join(disk::FILE), &copy.join(disk::FILE)) {
        Ok(()) => match read_file(&copy, &mut store, &mut lost) {
            Ok(sequence) => last = sequence,
            Err(error) => lost.push(format!("{}: {error}", damaged.join(disk::FILE).display())),
        },
        Err(error) => lost.push(format!("{}: {error}", damaged.join(disk::FILE).display())),
    }
    for (_, path) in segment::segments(damaged).map_err(failed)? {
        let bytes = Written::open(&path)
            .and_then(|file| file.all())
            .map_err(|error| OpenError::Io { path: path.clone(), error })?;
        let mut failure = None;
        let mut previous = last;
        last = replay::salvage(&bytes, last, |sequence, op| {
            if sequence > previous + 1 {
                let (first, missing) = (previous + 1, sequence - previous - 1);
                lost.push(format!("{}: {missing} records from {first} on", path.display()));
            }
            previous = sequence;
            if op.space().is_some_and(|space| !store.spaces.is_defined(space)) {
                strays += 1;
            } else if failure.is_none() {
                failure = store.apply(op).err();
            }
        });
        store.settle();
        if let Some(error) = failure {
            return Err(error.into());
        }
    }
    if strays > 0 {
        lost.push(format!("{strays} changes of which it is not known whose sessions they are"));
    }
    store.settle_all();
    Ok((store, lost))
}

/// Copies all that the file gives; returns the last log record that is in it.
fn read_file(
    directory: &Path,
    store: &mut Store,
    lost: &mut Vec<String>,
) -> Result<u64, redb::Error> {
    let database = Arc::new(disk::open(directory, false)?);
    let view = View::new(&database)?;
    for record in &view.summary.spaces {
        // The numbers of the spaces stay, because keys and log records use them.
        let define = super::Op::Define(record.space, record.database, &record.namespace);
        apply(store, define)?;
    }
    let mut damaged = 0_u64;
    for item in view.from(&[])? {
        let Item { key, stored, is_sound } = match item {
            Ok(item) => item,
            Err(error) => {
                lost.push(format!("{}: what comes behind the damage ({error})", disk::FILE));
                break;
            }
        };
        match is_sound.then(|| Entry::decode(&stored)).flatten() {
            Some(entry) if store.spaces.is_defined(super::key::space(&key)) => {
                apply(store, super::Op::Put(&key, entry))?;
                store.settle();
            }
            _ => damaged += 1,
        }
    }
    if damaged > 0 {
        lost.push(format!("{}: {damaged} values are damaged", disk::FILE));
    }
    Ok(view.summary.sequence)
}

fn apply(store: &mut Store, op: super::Op<'_>) -> Result<(), redb::Error> {
    store.apply(op).map_err(|error| redb::Error::Corrupted(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_no_file_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        let damaged = root.path().join("damaged");
        fs::create_dir(&damaged).unwrap();
        symlink("/dev/null", damaged.join(disk::FILE)).unwrap();
        let (_, lost) = salvage(&damaged, &root.path().join("first")).unwrap();
        assert!(lost.iter().any(|what| what.contains(disk::FILE)), "{lost:?}");
        // Of another one there would be no end.
        symlink("/dev/null", damaged.join("log-000000000001")).unwrap();
        let error = salvage(&damaged, &root.path().join("second")).unwrap_err();
        assert!(error.to_string().contains("log-000000000001"), "{error}");
    }
}
