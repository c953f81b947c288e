//! Opening a store: the file, then the log; what is damaged is set aside and said aloud.

use std::cell::{Cell, RefCell};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::Database;
use thiserror::Error;

use super::checkpoint::Checkpointer;
use super::disk::{self, Summary, View};
use super::eviction::Eviction;
use super::file_mark::FileMark;
use super::freeing::Freeing;
use super::log::Log;
use super::memtable::Memtable;
use super::replay::{self, Segment};
use super::segment::{self, Contents, Written};
use super::spaces::Spaces;
use super::syncer::Syncer;
use super::tracked::Tracked;
use super::watched::Watched;
use super::work::Work;
use super::{Options, Statistics, Store, StoreError};

/// Why a store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{0} is in use by another process; is roundsman-session-store.service running?")]
    InUse(PathBuf),
    /// The file system says no.
    #[error("{path}: {error}; look at the disk and at the owner of the directory")]
    Io {
        /// What was to be opened.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// The file is damaged, and it could not even be set aside.
    #[error("{path} cannot be opened: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: redb::Error,
    },
    /// Reading what should be there failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Something was damaged, where it lies now, and what became of the sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub what: String,
    /// The directory that the damaged files were moved to.
    pub aside: PathBuf,
    /// What is served in their place.
    pub outcome: Outcome,
}

/// What is served in the place of something damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything but what could not be read of the log.
    Kept,
    /// What could be read of everything; what could not, in words.
    Salvaged(Vec<String>),
    /// Nothing, and why.
    Lost(String),
}

/// Makes a store in the second directory, which is not there yet, as `salvaged` below it, out of what can
/// be read in the first; returns what could not be read.
type Salvage<'a> = &'a dyn Fn(&Path, &Path) -> Result<Vec<String>, String>;

/// So much of a segment says whether the file has it: a record as most are, and some more.
const BEGINNING: u64 = 64 * 1024;

/// Where a salvaged store is made. If it is there at a start, the one before was interrupted.
const SALVAGING: &str = "salvaging";
/// What the directories begin with that damaged files are moved to; the time follows.
const ASIDE: &str = "damaged-";

impl Store {
    /// Opens the store, and makes it if there is none. A damaged one is replaced by an empty one.
    pub fn open(options: Options) -> Result<(Self, Vec<Problem>), OpenError> {
        Self::open_or_salvage(options, &|_, _| Err("nobody has tried to".to_owned()))
    }

    /// Opens the store, and makes it if there is none. A damaged one is replaced by what can be salvaged
    /// of it.
    pub fn open_or_salvage(
        options: Options,
        salvage: Salvage<'_>,
    ) -> Result<(Self, Vec<Problem>), OpenError> {
        let directory = options.directory.clone();
        let failed = |error| OpenError::Io { path: directory.clone(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        let mut problems = Vec::new();
        if let Some(aside) = interrupted(&directory).map_err(failed)? {
            let what = "the last start ended while it salvaged".to_owned();
            problems.push(replace(&directory, what, aside, salvage).map_err(failed)?);
        }
        // What another process had open until now is not verified once more, which takes long.
        let known = FileMark::of(&directory.join(disk::FILE));
        let is_verified = problems.is_empty() && known.is_some() && known == options.verified;
        let quickly = is_verified.then(|| open_unverified(&directory));
        let opened = quickly.and_then(Result::ok).map_or_else(|| open_file(&directory), Ok);
        let database = match opened {
            Ok(database) => database,
            Err(OpenError::File { error, path }) => {
                fs::create_dir(directory.join(SALVAGING)).map_err(failed)?;
                let aside = set_aside(&directory, true).map_err(failed)?;
                let what = format!("{} is damaged: {error}", path.display());
                problems.push(replace(&directory, what, aside, salvage).map_err(failed)?);
                open_file(&directory)?
            }
            Err(error) => return Err(error),
        };
        let database = Arc::new(database);
        let view = View::new(&database).map_err(StoreError::from)?;
        let in_file = view.summary.sequence;
        let segments = segment::segments(&directory).map_err(failed)?;
        let number = segments.last().map_or(0, |(number, _)| *number) + 1;
        let mut spaces = Spaces::default();
        spaces.load(&view.summary.spaces);
        let bytes = spaces.records().map(|record| record.bytes).sum();
        // The log of this process begins after the last record that is found; until then the
        // segment is only a place for the type.
        let mut store = Self {
            log: Log::start(&directory, number, options.log_size(), in_file + 1).map_err(failed)?,
            syncer: Syncer::start(options.sync, in_file).map_err(failed)?,
            checkpointer: Checkpointer::start().map_err(failed)?,
            freeing: Freeing::start().map_err(failed)?,
            options,
            active: Memtable::default(),
            frozen: None,
            cache: RefCell::default(),
            settling: None,
            view: Some(view),
            database: Some(database),
            fallback: None,
            unreadable: Cell::new(false),
            spaces,
            watched: Watched::default(),
            work: Work::default(),
            tracked: Tracked::default(),
            bytes,
            index_cursor: Vec::new(),
            eviction: Eviction::default(),
            observed: Cell::new(0),
            last_clear: 0,
            refusal: None,
            unsynced: None,
            checkpoint_failed: false,
            checkpoint_running: false,
            frozen_summary: Summary::default(),
            statistics: Statistics::default(),
        };
        let (replayed, old) = store.replay_log(segments, in_file, &mut problems)?;
        // What was replayed may be in the page cache only, and clients will be told of it: with
        // `always` no such reply leaves before it is on the disk.
        for path in &replayed {
            let file = fs::File::open(path).map_err(failed)?;
            store.syncer.written(&Arc::new(file), in_file, false);
        }
        store.syncer.written(&store.log.file(), store.log.written(), true);
        store.log.adopt(replayed, old);
        store.freeze_replayed();
        Ok((store, problems))
    }

    /// Replays what the file has not; returns the segments that the next checkpoint replaces and
    /// those that nobody needs. What lies behind damage is replayed too: a session that was ended must
    /// not come back.
    fn replay_log(
        &mut self,
        segments: Vec<(u64, PathBuf)>,
        in_file: u64,
        problems: &mut Vec<Problem>,
    ) -> Result<(Vec<PathBuf>, Vec<PathBuf>), OpenError> {
        let (mut replayed, mut old) = (Vec::new(), Vec::new());
        let mut last = in_file;
        let mut damage = Vec::new();
        for (number, path) in segments {
            let unreadable = |error| OpenError::Io { path: path.clone(), error };
            let file = Written::open(&path).map_err(unreadable)?;
            let beginning = file.beginning(BEGINNING).map_err(unreadable)?;
            if let Contents::Segment { records, cut: false } =
                segment::contents(&beginning, file.size, number)
                && replay::is_old(records, in_file)
            {
                old.push(path);
                continue;
            }
            let bytes = file.all().map_err(unreadable)?;
            let mut failure = None;
            let mut apply = |store: &mut Self, sequence, op: super::Op<'_>| {
                if failure.is_none() {
                    failure = store.replay(op, sequence).err();
                }
            };
            let (records, mut fault) = match segment::contents(&bytes, file.size, number) {
                Contents::Segment { records, cut: false } => (records, None),
                Contents::Segment { records, cut: true } => {
                    (records, Some(format!("was cut after {} bytes", file.size)))
                }
                Contents::Foreign => (&bytes[..], Some("does not begin as a segment".to_owned())),
            };
            let found = replay::segment(records, in_file, last, |sequence, op| {
                apply(self, sequence, op);
            });
            match found {
                Segment::Old => old.push(path.clone()),
                Segment::Whole { last: reached } => {
                    last = reached;
                    replayed.push(path.clone());
                }
                Segment::Damaged { last: reached, offset } => {
                    let mut missing = 0_u64;
                    let mut previous = reached;
                    last = replay::salvage(&records[offset..], reached, |sequence, op| {
                        let between = sequence.saturating_sub(1).saturating_sub(previous);
                        missing = between.saturating_add(missing);
                        previous = sequence;
                        apply(self, sequence, op);
                    });
                    fault = Some(format!(
                        "is damaged at byte {offset}; {missing} records before others are missing"
                    ));
                }
            }
            if let Some(error) = failure {
                return Err(error.into());
            }
            if let Some(fault) = fault {
                damage.push(format!("{} {fault}", path.display()));
            }
        }
        self.log.resume_after(last);
        if damage.is_empty() {
            return Ok((replayed, old));
        }
        // What was replayed goes into the file now, so that all segments can be set aside.
        let summary = Summary { sequence: last, spaces: self.spaces.records().cloned().collect() };
        let failed = |error| OpenError::File { path: self.options.directory.clone(), error };
        if let Some(database) = &self.database {
            disk::checkpoint(database, &self.active, &summary).map_err(failed)?;
            self.view = Some(View::new(database).map_err(failed)?);
        }
        self.active = Memtable::default();
        let aside = set_aside(&self.options.directory, false)
            .and_then(|aside| {
                self.log.restart()?;
                Ok(aside)
            })
            .map_err(|error| OpenError::Io { path: self.options.directory.clone(), error })?;
        problems.push(Problem { what: damage.join("; "), aside, outcome: Outcome::Kept });
        Ok((Vec::new(), Vec::new()))
    }
}

/// Opens the file, which was verified before.
fn open_unverified(directory: &Path) -> Result<Database, redb::Error> {
    let database = Arc::new(disk::open(directory, false)?);
    View::new(&database)?;
    Arc::try_unwrap(database).map_err(|_| redb::Error::DatabaseAlreadyOpen)
}

/// Opens the file with every checksum verified.
pub(super) fn open_file(directory: &Path) -> Result<Database, OpenError> {
    let path = directory.join(disk::FILE);
    match disk::open(directory, true).and_then(|database| {
        let database = Arc::new(database);
        View::new(&database)?;
        Ok(database)
    }) {
        Ok(database) => Arc::try_unwrap(database).map_err(|_| OpenError::InUse(path)),
        Err(redb::Error::DatabaseAlreadyOpen) => Err(OpenError::InUse(path)),
        // These two are what a truncated or foreign file gives.
        Err(redb::Error::Io(error))
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            Err(OpenError::Io { path, error })
        }
        Err(error) => Err(OpenError::File { path, error }),
    }
}

/// What was set aside by a start that has ended before it could replace it.
fn interrupted(directory: &Path) -> io::Result<Option<PathBuf>> {
    if !directory.join(SALVAGING).is_dir() {
        return Ok(None);
    }
    let mut asides = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(ASIDE.as_bytes()))
        {
            asides.push(path);
        }
    }
    asides.sort();
    match asides.pop() {
        // What it had made by then has its place, or nothing was set aside yet.
        Some(aside) if !directory.join(disk::FILE).exists() => Ok(Some(aside)),
        _ => {
            fs::remove_dir_all(directory.join(SALVAGING))?;
            Ok(None)
        }
    }
}

/// Puts what can be salvaged in the place of what was set aside.
fn replace(
    directory: &Path,
    what: String,
    aside: PathBuf,
    salvage: Salvage<'_>,
) -> io::Result<Problem> {
    let scratch = directory.join(SALVAGING);
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    DirBuilder::new().mode(0o700).create(&scratch)?;
    let to = scratch.join("made");
    let outcome = match salvage(&aside, &to) {
        Ok(lost) => {
            // All of it is in the file.
            let made = to.join("salvaged").join(disk::FILE);
            fs::rename(made, directory.join(disk::FILE))?;
            Outcome::Salvaged(lost)
        }
        Err(reason) => Outcome::Lost(reason),
    };
    fs::File::open(directory)?.sync_all()?;
    fs::remove_dir_all(&scratch)?;
    Ok(Problem { what, aside, outcome })
}

/// Moves the log, and the file too if it is damaged, to a directory of their own.
fn set_aside(directory: &Path, with_file: bool) -> io::Result<PathBuf> {
    let aside = directory.join(format!("{ASIDE}{}", crate::session::now()));
    DirBuilder::new().mode(0o700).create(&aside)?;
    let segments = segment::segments(directory)?.into_iter().map(|(_, path)| path);
    // The file is the last: whoever finds it in its place begins anew.
    let file = with_file.then(|| directory.join(disk::FILE));
    for path in segments.chain(file) {
        if let Some(name) = path.file_name() {
            fs::rename(&path, aside.join(name))?;
        }
    }
    if !with_file {
        // The log alone cannot be understood: it says what changed since the checkpoint.
        fs::copy(directory.join(disk::FILE), aside.join(disk::FILE))?;
    }
    fs::File::open(directory)?.sync_all()?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::super::frame;
    use super::super::op::Op;
    use super::super::value::{Entry, Value};
    use super::super::{NOWHERE, key};
    use super::*;
    use crate::config::settings::SessionSync;

    fn open(directory: &Path) -> Result<(Store, Vec<Problem>), OpenError> {
        open_after(directory, None)
    }

    fn open_after(
        directory: &Path,
        verified: Option<FileMark>,
    ) -> Result<(Store, Vec<Problem>), OpenError> {
        Store::open(Options {
            directory: directory.to_owned(),
            sync: SessionSync::EverySecond,
            max_size: 1 << 30,
            memory: 1 << 20,
            verified,
        })
    }

    fn stored(name: &str) -> Vec<u8> {
        let mut stored = Vec::new();
        key::build(&mut stored, 1, name.as_bytes());
        stored
    }

    /// Whether a key of the space is there.
    fn has(store: &Store, name: &str) -> bool {
        store.find(&stored(name), 0).unwrap().is_some()
    }

    fn string(name: &str) -> Vec<u8> {
        let entry = Entry { expires: 0, value: Value::String(name.as_bytes().into()) };
        let mut out = Vec::new();
        Op::Put(&stored(name), entry).encode(&mut out);
        out
    }

    fn define() -> Vec<u8> {
        let mut out = Vec::new();
        Op::Define(1, 0, "shop").encode(&mut out);
        out
    }

    /// Writes a segment with these records; the first one has this sequence.
    fn segment(directory: &Path, number: u64, first: u64, payloads: &[Vec<u8>]) {
        let mut bytes = segment::header(number, 0).to_vec();
        for (sequence, payload) in (first..).zip(payloads) {
            let at = frame::begin(&mut bytes);
            bytes.extend_from_slice(payload);
            frame::end(&mut bytes, at, sequence);
        }
        fs::write(segment::path(directory, number), bytes).unwrap();
    }

    /// Three segments of one record and more: a space, then a key in each.
    fn three_segments(directory: &Path) {
        segment(directory, 1, 1, &[define(), string("a")]);
        segment(directory, 2, 3, &[string("b"), string("c")]);
        segment(directory, 3, 5, &[string("d")]);
    }

    #[test]
    fn all_segments_are_replayed_in_order() {
        let directory = tempfile::tempdir().unwrap();
        three_segments(directory.path());
        let (store, problems) = open(directory.path()).unwrap();
        assert_eq!(problems, []);
        assert_eq!(store.keys(1), 4);
        assert!(["a", "b", "c", "d"].into_iter().all(|name| has(&store, name)));
    }

    /// The process before has read all of it, and nobody is to wait until this one has, too. What it holds is not
    /// believed for that.
    #[test]
    fn a_file_that_the_process_before_had_open_is_not_verified_once_more() {
        let directory = tempfile::tempdir().unwrap();
        three_segments(directory.path());
        let (mut store, _) = open(directory.path()).unwrap();
        store.settle_all();
        let mark = store.file_mark();
        assert!(mark.is_some());
        store.leave();
        let path = directory.path().join(disk::FILE);
        let before = fs::read(&path).unwrap();
        let mut damaged = before.clone();
        let value = b"\0\0\0\0\0\0\0\0sd"; // with what is before it
        let at = damaged.windows(value.len()).position(|bytes| bytes == value);
        damaged[at.expect("it is there") + value.len() - 1] ^= 1;
        // The process is still there, so what it has open is another file than this one.
        let other = tempfile::tempdir().unwrap();
        let path = other.path().join(disk::FILE);
        fs::write(&path, damaged).unwrap();
        let mark = FileMark::of(&path);
        let (store, problems) = open_after(other.path(), mark).unwrap();
        assert_eq!((problems, store.keys(1)), (vec![], 4));
        assert!(["a", "b", "c"].into_iter().all(|name| has(&store, name)));
        assert!(store.find(&stored("d"), 0).is_err());
        store.close();
        let (_, problems) = open_after(other.path(), FileMark::of(directory.path())).unwrap();
        assert_eq!(problems.len(), 1, "another file is verified");
    }

    #[test]
    fn damage_in_an_older_segment_costs_its_record_and_all_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        three_segments(directory.path());
        let path = segment::path(directory.path(), 2);
        let mut bytes = fs::read(&path).unwrap();
        bytes[segment::HEADER_BYTES + 20] ^= 1; // in the record of "b"
        fs::write(&path, bytes).unwrap();
        let (store, problems) = open(directory.path()).unwrap();
        let [Problem { what, aside, outcome: Outcome::Kept }] = &*problems else {
            panic!("{problems:?}")
        };
        assert!(what.contains("log-000000000002 is damaged at byte 0; 1 records"), "{what}");
        let kept = ["a", "b", "c", "d"].map(|name| has(&store, name));
        assert_eq!(kept, [true, false, true, true]);
        for number in 1..=3 {
            let name = segment::path(aside, number);
            assert!(name.exists(), "{}", name.display());
        }
        assert!(aside.join(disk::FILE).exists());
        store.close();
        // It is said once, and what is left is kept.
        let (store, problems) = open(directory.path()).unwrap();
        assert_eq!(problems, []);
        assert!(has(&store, "a") && has(&store, "d") && store.keys(1) == 3);
    }

    #[test]
    fn a_damaged_file_and_a_damaged_log_are_set_aside_together() {
        let directory = tempfile::tempdir().unwrap();
        three_segments(directory.path());
        fs::write(segment::path(directory.path(), 2), b"no record at all, and then zeros").unwrap();
        fs::write(directory.path().join(disk::FILE), b"this was a database once").unwrap();
        let (store, problems) = open(directory.path()).unwrap();
        let [Problem { what, aside, outcome: Outcome::Lost(_) }] = &*problems else {
            panic!("{problems:?}")
        };
        assert!(what.contains(disk::FILE), "{what}");
        // The log alone says nothing without the file that it goes on from.
        assert_eq!(store.space("shop", 0), NOWHERE);
        assert_eq!(fs::read_dir(aside).unwrap().count(), 4);
    }

    /// The checksum is right, and what it is of is not: a later version, or a mistake of ours.
    #[test]
    fn changes_that_make_no_sense_are_damage_or_do_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut strange = Vec::new();
        for op in [
            Op::Define(u32::MAX, 9, "shop"),
            Op::SetFields(&stored("a"), vec![(b"f", b"v")]),
            Op::AddMembers(&stored("a"), vec![b"m"]),
            Op::RemoveFields(&stored("a"), vec![b"f"]),
            Op::RemoveMembers(&stored("none"), vec![b"m"]),
            Op::Expire(&stored("none"), 7),
            Op::Remove(b""),
            Op::Clear(77),
            Op::SetFields(b"short", vec![]),
        ] {
            op.encode(&mut strange);
        }
        segment(directory.path(), 1, 1, &[define(), string("a"), strange, string("b"), vec![200]]);
        let (mut store, problems) = open(directory.path()).unwrap();
        let [Problem { what, .. }] = &*problems else { panic!("{problems:?}") };
        assert!(what.contains("is damaged at byte"), "the kind 200 is none: {what}");
        assert!(has(&store, "b"));
        let found = store.find(&stored("a"), 0).unwrap().unwrap();
        assert_eq!(found.string(), Some(&b"a"[..]), "a string stays one");
        drop(found);
        // And it goes on from there.
        let space = store.define_space("blog", 0).unwrap();
        assert!(space != 1 && space != NOWHERE, "{space}");
    }
}
