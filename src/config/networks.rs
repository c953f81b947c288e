//! Each app's loopback network, and that it is remembered: whatever other apps come and go, one that runs
//! does not move. Its sockets are open, and systemd would close them for another address.
//!
//! The generator writes down which networks there are, below `/run`, where only root may: the next boot,
//! at which nothing runs yet, gives them anew. Everybody else reads it. Where that file is lost, the
//! generator still has its copy of each app ([`super::copy`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::base::file::{self, Links, write_atomically};
use crate::base::unit;

/// Which network each app has, as a number below [`SLOTS`].
pub(crate) type Networks = BTreeMap<String, u16>;

/// `127.64.0.0/10` in pieces of `/24`.
const SLOTS: u16 = 16384;

/// Where they are written down, below the root of the file system.
const FILE: &str = "run/roundsman.networks";

/// The most that is read of it: more than all networks take with the longest names.
const MOST: u64 = 2 * 1024 * 1024;

/// What is written down; nothing of a file that others than root could have written, and no line that
/// makes no sense.
pub(crate) fn remembered(root: &Path) -> Networks {
    let text = read(&root.join(FILE)).unwrap_or_default();
    let line = |line: &str| {
        let (name, slot) = line.split_once(' ')?;
        let slot: u16 = slot.parse().ok().filter(|slot| *slot < SLOTS)?;
        unit::name_fault(name).is_none().then(|| (name.to_owned(), slot))
    };
    text.lines().filter_map(line).collect()
}

fn read(path: &Path) -> io::Result<String> {
    let file = file::open(path, Links::Refuse)?;
    let found = file.metadata()?;
    let is_ours = found.uid() == 0 || found.uid() == rustix::process::geteuid().as_raw();
    if !is_ours || found.mode() & 0o022 != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    String::from_utf8(file::content(&file, MOST)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes them down.
pub(crate) fn remember(root: &Path, networks: &Networks) -> io::Result<()> {
    if remembered(root) == *networks {
        return Ok(());
    }
    let mut text = String::new();
    for (name, slot) in networks {
        let _ = writeln!(text, "{name} {slot}"); // which cannot fail
    }
    let path = root.join(FILE);
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    write_atomically(&path, text.as_bytes(), 0o644)
}

/// A network for each name: the one that is remembered, and for a new name one by a hash of it, or the
/// next that is free. None belongs to two, and none that is remembered goes to another name.
pub(super) fn assign(names: &BTreeSet<&str>, remembered: &Networks) -> Networks {
    let mut taken: BTreeSet<u16> = BTreeSet::new();
    let mut networks = Networks::new();
    // Also of names that are not there: their workers may still run.
    for (name, slot) in remembered {
        if taken.insert(*slot) && names.contains(&**name) {
            networks.insert(name.clone(), *slot);
        }
    }
    for name in names {
        if networks.contains_key(*name) {
            continue;
        }
        let Some(slot) = free(hash(name) % SLOTS, &taken) else { continue };
        taken.insert(slot);
        networks.insert((*name).to_owned(), slot);
    }
    networks
}

/// The first from there on that nobody has.
fn free(first: u16, taken: &BTreeSet<u16>) -> Option<u16> {
    (0..SLOTS).map(|further| (first + further) % SLOTS).find(|slot| !taken.contains(slot))
}

/// FNV-1a, folded to 16 bits: the same on every machine and in every version.
fn hash(name: &str) -> u16 {
    let hash = name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    ((hash >> 16) ^ hash) as u16
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use proptest::prelude::*;

    use super::*;

    fn names(all: &[String]) -> BTreeSet<&str> {
        all.iter().map(String::as_str).collect()
    }

    #[test]
    fn a_name_alone_has_its_hash() {
        // These may never change between versions.
        let none = Networks::new();
        assert_eq!(assign(&BTreeSet::from(["shop"]), &none)["shop"], 2286);
        assert_eq!(
            hash("app7") % SLOTS,
            hash("app30") % SLOTS,
            "names that are told from each other"
        );
    }

    #[test]
    fn every_network_can_be_had_and_then_there_is_none() {
        let left = [0, 7, SLOTS - 1];
        let others = (0..SLOTS).filter(|slot| !left.contains(slot));
        let remembered = others.map(|slot| (format!("app-{slot}"), slot)).collect();
        let new = ["a", "b", "c", "d"].into();
        let networks = assign(&new, &remembered);
        assert_eq!(networks.values().copied().collect::<BTreeSet<_>>(), left.into());
        assert!(!networks.contains_key("d"), "{networks:?}");
    }

    /// Apps of which every fourth collides come one after the other in any order and go again.
    #[test]
    fn many_apps_come_and_go_and_none_that_stays_moves() {
        let mut random = 7_u64;
        let mut next = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut there: Vec<String> = Vec::new();
        let (mut networks, mut collisions) = (Networks::new(), 0);
        for n in 0..1000 {
            if there.len() == 100 {
                let gone = usize::try_from(next(100)).unwrap();
                there.swap_remove(gone);
            }
            let new = std::iter::repeat_with(|| format!("app{}", next(1_000_000)))
                .find(|name| hash(name) % SLOTS < 400 && !there.contains(name))
                .unwrap();
            collisions += usize::from(networks.values().any(|slot| *slot == hash(&new) % SLOTS));
            there.push(new);
            let after = assign(&names(&there), &networks);
            let moved = after
                .iter()
                .find(|(name, slot)| networks.get(*name).is_some_and(|before| before != *slot));
            assert_eq!(moved, None, "after {n}");
            let distinct: BTreeSet<u16> = after.values().copied().collect();
            assert_eq!(distinct.len(), there.len(), "after {n}");
            networks = after;
        }
        assert!(collisions > 100, "{collisions}: there is something to see");
    }

    proptest! {
        #[test]
        fn whatever_is_remembered_no_network_is_shared_and_the_answer_is_the_same_again(
            all in proptest::collection::btree_set("[a-d]{1,2}", 0..12),
            remembered in proptest::collection::btree_map("[a-d]{1,2}", 0_u16..6, 0..12),
        ) {
            let all: BTreeSet<&str> = all.iter().map(String::as_str).collect();
            let networks = assign(&all, &remembered);
            let distinct: BTreeSet<u16> = networks.values().copied().collect();
            prop_assert_eq!(distinct.len(), all.len());
            // As the front has it after the generator has written it down.
            prop_assert_eq!(assign(&all, &networks), networks);
        }
    }

    #[test]
    fn what_is_written_down_is_read_and_nothing_else_is_believed() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(FILE);
        let networks = Networks::from([("shop".to_owned(), 7), ("blog".to_owned(), SLOTS - 1)]);
        assert_eq!(remembered(root.path()), Networks::new());
        remember(root.path(), &networks).unwrap();
        assert_eq!(remembered(root.path()), networks);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o644, "the front reads it");
        fs::write(&file, "shop 7\nBAD 1\n../x 2\nhigh 16384\nno\nminus -1\n \nblog 9\n").unwrap();
        let some = Networks::from([("shop".to_owned(), 7), ("blog".to_owned(), 9)]);
        assert_eq!(remembered(root.path()), some);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(remembered(root.path()), Networks::new(), "anybody could have written it");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(&file, root.path().join("elsewhere")).unwrap();
        symlink(root.path().join("elsewhere"), &file).unwrap();
        assert_eq!(remembered(root.path()), Networks::new(), "it is a link");
    }
}
