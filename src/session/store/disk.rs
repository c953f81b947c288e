//! The database file: everything up to the last checkpoint.

use std::cell::RefCell;
use std::ops::Bound;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition,
};

use super::key::{self, Space};
use super::memtable::{Memtable, State};
use super::overlay::Overlay;
use super::value;

/// The stored form of a value with a checksum behind it: what a damaged page holds is never taken for
/// a session.
const DATA: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("data");
/// `expiry, big-endian · key`: what expires next is what comes first.
const EXPIRIES: TableDefinition<'_, &[u8], ()> = TableDefinition::new("expiries");
/// The expiry of keys that got another one since their value was written: to prolong a session
/// changes a few bytes here and not the page that its value is in.
const TIMES: TableDefinition<'_, &[u8], u64> = TableDefinition::new("times");
const SPACES: TableDefinition<'_, u32, (&str, u8, u64, u64)> = TableDefinition::new("spaces");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The layout that this version writes.
const FORMAT: u64 = 3;
/// Layouts up to this one have no checksums behind values; the first of them has no [`TIMES`] either.
const WITHOUT_CHECKSUMS: u64 = 2;
/// Bytes of a checksum.
const CHECKSUM_BYTES: usize = 4;
/// The file's name in the data directory.
pub(super) const FILE: &str = "sessions.redb";
/// Memory for pages of the file, beside the kernel's own cache.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// One database of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceRecord {
    /// Its number.
    pub space: Space,
    /// The namespace.
    pub namespace: String,
    /// The database, as in `SELECT`.
    pub database: u8,
    /// Keys in it, those expired and not yet removed included.
    pub keys: u64,
    /// Stored bytes of its keys and values.
    pub bytes: u64,
}

/// What the file says beside the data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Every log record up to this one is in the file.
    pub sequence: u64,
    /// All spaces.
    pub spaces: Vec<SpaceRecord>,
}

/// The file as of one checkpoint. Reading it is not disturbed by the next checkpoint.
pub(super) struct View {
    data: ReadOnlyTable<&'static [u8], &'static [u8]>,
    /// `None` for as long as there is nothing in it.
    times: Option<ReadOnlyTable<&'static [u8], u64>>,
    expiries: ReadOnlyTable<&'static [u8], ()>,
    /// What the file said beside the data.
    pub summary: Summary,
    /// The key that was asked for last: a command that writes asks more than once.
    last: RefCell<Option<Asked>>,
}

/// A key that was asked for, and what it holds.
type Asked = (Vec<u8>, Option<Rc<Stored>>);

/// A key and a value, both in their stored form.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: Vec<u8>,
    pub(super) stored: Vec<u8>,
    /// Whether the value has its checksum: if not, nothing of it can be relied on.
    pub(super) is_sound: bool,
}

/// A value in the file, in its stored form, with its expiry.
pub(super) struct Stored {
    bytes: redb::OwnedAccessGuard<&'static [u8]>,
    expires: u64,
}

/// Opens a file that cannot be written to: nothing of what is done with it stays.
pub(super) fn open_to_read(directory: &Path) -> Result<Database, redb::Error> {
    let overlay = Overlay::open(&directory.join(FILE))?;
    Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(overlay)?)
}

/// Opens the file, or makes it; `check` reads all of it and verifies every checksum.
pub(super) fn open(directory: &Path, check: bool) -> Result<Database, redb::Error> {
    let path = directory.join(FILE);
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(check)
        .create(path)?;
    // The tables must exist before anybody reads them, also in a store without a checkpoint.
    let format = {
        let read = database.begin_read()?;
        match read.open_table(META) {
            Ok(meta) => meta.get("format")?.map(|format| format.value()),
            Err(_) => None,
        }
    };
    if format.is_none_or(|format| format <= WITHOUT_CHECKSUMS) {
        let read = database.begin_read()?;
        let write = database.begin_write()?;
        {
            let mut data = write.open_table(DATA)?;
            if format.is_some() {
                for item in read.open_table(DATA)?.iter()? {
                    let (key, stored) = item?;
                    let mut stored = stored.value().to_vec();
                    seal(key.value(), &mut stored);
                    data.insert(key.value(), stored.as_slice())?;
                }
            }
        }
        write.open_table(EXPIRIES)?;
        write.open_table(TIMES)?;
        write.open_table(SPACES)?;
        write.open_table(META)?.insert("format", FORMAT)?;
        write.commit()?;
    }
    Ok(database)
}

/// Brings a frozen table into the file, durably, with what `summary` says.
pub(super) fn checkpoint(
    database: &Database,
    frozen: &Memtable,
    summary: &Summary,
) -> Result<(), redb::Error> {
    let mut write = database.begin_write()?;
    // The next start after a crash then needs no walk over the whole file to find free pages.
    write.set_quick_repair(true);
    {
        let mut data = write.open_table(DATA)?;
        let mut expiries = write.open_table(EXPIRIES)?;
        let mut times = write.open_table(TIMES)?;
        let mut index = Vec::new();
        for space in frozen.cleared() {
            let start = key::at_place(space, 0);
            let end = space.checked_add(1).map(|next| key::at_place(next, 0));
            let range = (
                Bound::Included(&start[..]),
                end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..])),
            );
            data.retain_in::<&[u8], _>(range, |key, stored| {
                if let Some((expires @ 1.., _)) = value::header(stored) {
                    index.push(index_key(expires, key));
                }
                false
            })?;
            times.retain_in::<&[u8], _>(range, |key, expires| {
                index.push(index_key(expires, key));
                false
            })?;
            // Of a key with another expiry than that of its stored form, only one is in the index.
            for key in index.drain(..) {
                expiries.remove(key.as_slice())?;
            }
        }
        let mut encoded = Vec::new();
        let mut added = Vec::new();
        for (key, slot) in frozen.slots() {
            let of_stored = |stored: Option<redb::AccessGuard<'_, &[u8]>>| {
                stored.and_then(|stored| value::header(stored.value())).map(|(expires, _)| expires)
            };
            let key = &**key;
            let before = match &slot.state {
                State::Holds(entry) => {
                    encoded.clear();
                    entry.encode(&mut encoded);
                    seal(key, &mut encoded);
                    let in_stored = of_stored(data.insert(key, encoded.as_slice())?);
                    times.remove(key)?.map(|expires| expires.value()).or(in_stored)
                }
                State::Gone => {
                    let in_stored = of_stored(data.remove(key)?);
                    times.remove(key)?.map(|expires| expires.value()).or(in_stored)
                }
                State::Expires(expires) => {
                    let before = times.insert(key, *expires)?.map(|expires| expires.value());
                    match before {
                        None => of_stored(data.get(key)?),
                        before => before,
                    }
                }
            };
            let (before, now) = (before.unwrap_or(0), slot.state.expires());
            if before == now {
                continue;
            }
            if before != 0 {
                index.push(index_key(before, key));
            }
            if now != 0 {
                added.push(index_key(now, key));
            }
        }
        // In the order of the index: neighbours are in one page, which is then at hand.
        index.sort_unstable();
        for key in index {
            expiries.remove(key.as_slice())?;
        }
        added.sort_unstable();
        for key in added {
            expiries.insert(key.as_slice(), ())?;
        }
        let mut spaces = write.open_table(SPACES)?;
        for record in &summary.spaces {
            spaces.insert(
                record.space,
                (record.namespace.as_str(), record.database, record.keys, record.bytes),
            )?;
        }
        let mut meta = write.open_table(META)?;
        meta.insert("sequence", summary.sequence)?;
    }
    write.commit()?;
    Ok(())
}

/// Has the next checkpoint write over what the last one replaced, which no view is of any more. Without
/// it the file would hold three states of what changes all the time: the one that is read, the one that is
/// being written, and the one before, which is free only when a commit after its last view says so.
pub(super) fn reclaim(database: &Database) -> Result<(), redb::Error> {
    let mut write = database.begin_write()?;
    write.set_quick_repair(true);
    write.commit()?;
    Ok(())
}

// === impl View ===

impl View {
    /// The file as it is now.
    pub(super) fn new(database: &Arc<Database>) -> Result<Self, redb::Error> {
        let read = database.begin_read()?;
        let meta = read.open_table(META)?;
        let number = |name| Ok::<_, redb::Error>(meta.get(name)?.map_or(0, |value| value.value()));
        let format = number("format")?;
        if format != FORMAT {
            return Err(redb::Error::Corrupted(format!(
                "format {format} of the session file is not the one that this version knows ({FORMAT})"
            )));
        }
        let mut spaces = Vec::new();
        for record in read.open_table(SPACES)?.iter()? {
            let (space, record) = record?;
            let (namespace, database, keys, bytes) = record.value();
            let namespace = namespace.to_owned();
            spaces.push(SpaceRecord { space: space.value(), namespace, database, keys, bytes });
        }
        let summary = Summary { sequence: number("sequence")?, spaces };
        let (data, expiries) = (read.open_table(DATA)?, read.open_table(EXPIRIES)?);
        let times = read.open_table(TIMES)?;
        let times = (!times.is_empty()?).then_some(times);
        Ok(Self { data, times, expiries, summary, last: RefCell::default() })
    }

    /// Whether the key was asked for last: nothing is read for it then.
    pub(super) fn has_at_hand(&self, key: &[u8]) -> bool {
        self.last.borrow().as_ref().is_some_and(|(known, _)| known == key)
    }

    /// The stored value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Rc<Stored>>, redb::Error> {
        let mut last = self.last.borrow_mut();
        if let Some((known, stored)) = &*last
            && known == key
        {
            return Ok(stored.clone());
        }
        let stored = match self.data.get_owned(key)? {
            Some(bytes) => {
                if !is_sealed(key, bytes.value()) {
                    let name = key::name(key).escape_ascii();
                    return Err(redb::Error::Corrupted(format!("the value of {name}")));
                }
                let in_stored = value::header(bytes.value()).map_or(0, |(expires, _)| expires);
                let expires = self.time(key)?.unwrap_or(in_stored);
                Some(Rc::new(Stored { bytes, expires }))
            }
            None => None,
        };
        let mut known = last.take().map(|(known, _)| known).unwrap_or_default();
        known.clear();
        known.extend_from_slice(key);
        *last = Some((known, stored.clone()));
        Ok(stored)
    }

    /// The expiry of a key that got another one since its value was written.
    fn time(&self, key: &[u8]) -> Result<Option<u64>, redb::Error> {
        let Some(times) = &self.times else { return Ok(None) };
        Ok(times.get_owned(key)?.map(|expires| expires.value()))
    }

    /// Keys and stored values, these with the expiry that counts, from a key on.
    pub(super) fn from(
        &self,
        key: &[u8],
    ) -> Result<impl Iterator<Item = Result<Item, redb::Error>>, redb::Error> {
        let range = self.data.range_owned::<&[u8]>((Bound::Included(key), Bound::Unbounded))?;
        Ok(range.map(|item| {
            let (key, stored) = item?;
            let (key, mut stored) = (key.value().to_vec(), stored.value().to_vec());
            let is_sound = is_sealed(&key, &stored);
            stored.truncate(stored.len().saturating_sub(CHECKSUM_BYTES));
            if let Some(expires) = self.time(&key)? {
                value::set_expiry(&mut stored, expires);
            }
            Ok(Item { key, stored, is_sound })
        }))
    }

    /// Keys that got another expiry since their value was written.
    pub(super) fn prolonged(&self) -> Result<u64, redb::Error> {
        self.times.as_ref().map_or(Ok(0), |times| Ok(times.len()?))
    }

    /// Whether the key is one of [`View::prolonged`].
    pub(super) fn is_prolonged(&self, key: &[u8]) -> Result<bool, redb::Error> {
        Ok(self.time(key)?.is_some())
    }

    /// Up to `count` keys with their expiries, nearest first, after the entry `after`.
    pub(super) fn expiries(
        &self,
        after: &[u8],
        count: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
        let range = (Bound::Excluded(after), Bound::Unbounded);
        self.expiries
            .range_owned::<&[u8]>(range)?
            .take(count)
            .map(|item| {
                let (entry, _) = item?;
                let entry = entry.value();
                let expires = entry.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                Ok((expires, entry.get(8..).unwrap_or_default().to_vec()))
            })
            .collect()
    }

    /// Entries of the expiry index.
    pub(super) fn expiring(&self) -> Result<u64, redb::Error> {
        Ok(self.expiries.len()?)
    }

    /// Whether the expiry index has this entry.
    pub(super) fn has_expiry(&self, expires: u64, key: &[u8]) -> Result<bool, redb::Error> {
        Ok(self.expiries.get_owned(index_key(expires, key).as_slice())?.is_some())
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("summary", &self.summary).finish_non_exhaustive()
    }
}

// === impl Stored ===

impl Stored {
    /// The stored form.
    pub(super) fn bytes(&self) -> &[u8] {
        let sealed = self.bytes.value();
        &sealed[..sealed.len().saturating_sub(CHECKSUM_BYTES)]
    }

    /// The expiry that counts: the one in the stored form may be an older one.
    pub(super) fn expires(&self) -> u64 {
        self.expires
    }
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stored({} bytes)", self.bytes().len())
    }
}

/// Appends its checksum to the stored form of what this key holds.
fn seal(key: &[u8], stored: &mut Vec<u8>) {
    let sum = checksum(key, stored);
    stored.extend_from_slice(&sum.to_le_bytes());
}

/// Whether a value has the checksum that [`seal`] appends.
fn is_sealed(key: &[u8], sealed: &[u8]) -> bool {
    sealed
        .split_last_chunk()
        .is_some_and(|(stored, sum)| checksum(key, stored) == u32::from_le_bytes(*sum))
}

fn checksum(key: &[u8], stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(stored);
    hasher.finalize()
}

/// The entry of the expiry index for a key.
pub(super) fn index_key(expires: u64, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + key.len());
    bytes.extend_from_slice(&expires.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_an_earlier_layout_is_taken_over_with_all_that_is_in_it() {
        let directory = tempfile::tempdir().expect("a directory");
        {
            let database = open(directory.path(), false).expect("a new file");
            let write = database.begin_write().expect("it is writable");
            write.delete_table(TIMES).expect("nobody reads it");
            write
                .open_table(DATA)
                .expect("it is there")
                .insert(&b"key"[..], &b"12345678s"[..])
                .ok();
            write.open_table(META).expect("it is there").insert("format", 1).ok();
            write.commit().expect("there is room");
        }
        let database = Arc::new(open(directory.path(), true).expect("it is taken over"));
        let view = View::new(&database).expect("it can be read");
        let stored = view.get(b"key").expect("it can be read").expect("it is there");
        assert_eq!(stored.expires(), u64::from_le_bytes(*b"12345678"));
        assert_eq!(stored.bytes(), b"12345678s");
        assert_eq!(view.prolonged().expect("it can be read"), 0);
    }

    #[test]
    fn a_value_without_its_checksum_is_told_from_a_sound_one() {
        let mut sealed = b"12345678sof a session".to_vec();
        seal(b"key", &mut sealed);
        assert!(is_sealed(b"key", &sealed) && !is_sealed(b"kez", &sealed));
        for bit in 0..sealed.len() * 8 {
            sealed[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_sealed(b"key", &sealed), "bit {bit}");
            sealed[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(!is_sealed(b"", b"abc") && !is_sealed(b"key", b"12345678s"));
    }
}
