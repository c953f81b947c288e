//! Who could have made what a path leads to: whoever owns, or may write to, the file, a directory
//! above it, or a link on the way.
//!
//! While root alone could have, nobody else can change what the path leads to between this answer
//! and what is done because of it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use super::text;
use super::user::{self, User};

/// Links that are followed: as many as the kernel follows.
const MOST_LINKS: usize = 40;

/// Who may write where everybody may.
const EVERYBODY: &str = "everybody";

/// Who may write where an access list says it.
const LISTED: &str = "whoever its access list names (getfacl shows it)";

/// Who could have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Makers {
    /// Every directory, link and file on the way.
    way: Vec<Place>,
    /// What the path leads to; of several, the last.
    pub leads_to: PathBuf,
}

/// Something on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    owner: u32,
    /// Who may write to it beside its owner.
    writers: Option<String>,
    /// A directory in which they may make entries, but change no other's, as in `/tmp`.
    sticky: bool,
}

/// The one who could have made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    /// Nobody but root.
    Root,
    /// This user, and root.
    User(u32),
}

/// Looks at everything on the way to what a path leads to.
///
/// # Errors
/// When it leads to nothing, or where one may not look.
pub(crate) fn of(path: &Path) -> io::Result<Makers> {
    of_all([path])
}

/// The same for several paths, all of which are used together.
///
/// # Errors
/// As [`of`].
pub(crate) fn of_all<'a>(paths: impl IntoIterator<Item = &'a Path>) -> io::Result<Makers> {
    let mut makers = Makers::default();
    for path in paths {
        let end = walk(path, |at, data| {
            makers.look(at, data);
            true
        })?;
        makers.leads_to = end.unwrap_or_default();
    }
    Ok(makers)
}

/// Whether nobody but root could have made what is at this path, or can: where there is nothing yet
/// only root can make it. A strict answer, in which every group has members: nobody is asked about
/// users and groups, which the generator must not do.
pub(crate) fn is_roots(path: &Path) -> bool {
    // Everybody may write to a link, which means nothing. With an access list, the bits of the group
    // are the most that the list gives.
    let is_roots =
        |data: &fs::Metadata| data.uid() == 0 && (data.is_symlink() || data.mode() & 0o022 == 0);
    match walk(path, |_, data| is_roots(data)) {
        Ok(end) => end.is_some(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Shows every directory, link and file on the way to what a path leads to, and returns where that
/// is; `None` as soon as one of them will not do.
fn walk(
    path: &Path,
    mut will_do: impl FnMut(&Path, &fs::Metadata) -> bool,
) -> io::Result<Option<PathBuf>> {
    let mut at = PathBuf::from("/");
    if !will_do(&at, &fs::symlink_metadata(&at)?) {
        return Ok(None);
    }
    let absolute = std::path::absolute(path)?;
    let mut parts: VecDeque<OsString> = parts_of(&absolute).collect();
    let mut links = 0;
    while let Some(part) = parts.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let data = fs::symlink_metadata(&next)?;
        if !will_do(&next, &data) {
            return Ok(None);
        }
        if !data.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(io::Error::other(format!("{} leads round in circles", path.display())));
        }
        let target = fs::read_link(&next)?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        for part in parts_of(&target).collect::<Vec<_>>().into_iter().rev() {
            parts.push_front(part);
        }
    }
    Ok(Some(at))
}

fn parts_of(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

// === impl Makers ===

impl Makers {
    fn look(&mut self, path: &Path, data: &fs::Metadata) {
        if self.way.iter().any(|place| place.path == path) {
            return;
        }
        // A link's mode says nothing.
        let writers = if data.is_symlink() { None } else { writers(path, data) };
        let sticky = data.is_dir() && data.mode() & 0o1000 != 0;
        self.way.push(Place { path: path.to_owned(), owner: data.uid(), writers, sticky });
    }

    /// Users beside root who own something on the way, with the first that each owns.
    fn owners(&self) -> Vec<&Place> {
        let mut owners: Vec<&Place> = Vec::new();
        for place in self.way.iter().filter(|place| place.owner != 0) {
            if owners.iter().all(|other| other.owner != place.owner) {
                owners.push(place);
            }
        }
        owners
    }

    /// The one who could have made it.
    ///
    /// # Errors
    /// When several could, who trust each other or not; the error says who, and where.
    pub(crate) fn only(&self) -> Result<Maker, String> {
        self.only_with(None)
    }

    /// The same of a program, which looks for others beside itself and above: nobody else may have
    /// put one there either.
    ///
    /// # Errors
    /// As [`Makers::only`].
    pub(crate) fn only_of_program(&self) -> Result<Maker, String> {
        let mut sticky = self.way.iter().filter(|place| place.sticky);
        let filled = sticky.find_map(|place| Some((place, place.writers.as_ref()?)));
        match filled {
            Some((place, who)) => {
                Err(format!("{who} may put files into {}", text::escaped(&place.path)))
            }
            None => self.only(),
        }
    }

    /// The same where it is no matter who of a group may write to this directory itself.
    ///
    /// # Errors
    /// As [`Makers::only`].
    pub(crate) fn only_but_for_the_group_of(&self, directory: &Path) -> Result<Maker, String> {
        self.only_with(Some(directory))
    }

    fn only_with(&self, shared: Option<&Path>) -> Result<Maker, String> {
        for place in self.way.iter().filter(|place| !place.sticky) {
            let Some(who) = &place.writers else { continue };
            if who == EVERYBODY || shared.is_none_or(|shared| shared != place.path) {
                return Err(format!("{who} may write to {}", text::escaped(&place.path)));
            }
        }
        match self.owners().as_slice() {
            [] => Ok(Maker::Root),
            [one] => Ok(Maker::User(one.owner)),
            [one, other, ..] => Err(format!(
                "{} belongs to {}, and {} to {}",
                text::escaped(&one.path),
                name_of(one.owner),
                text::escaped(&other.path),
                name_of(other.owner)
            )),
        }
    }

    /// Whether nobody could have made it who could not have made `present` as well. A group that works
    /// together on the one may work on the other.
    ///
    /// # Errors
    /// When somebody could; the error says who, and where.
    pub(crate) fn nobody_beyond(&self, present: &Self) -> Result<(), String> {
        for place in &self.way {
            if present.way.iter().any(|other| other.path == place.path) {
                continue; // on the way to both
            }
            let owner = place.owner;
            if owner != 0 && present.way.iter().all(|other| other.owner != owner) {
                return Err(format!(
                    "{} belongs to {}",
                    text::escaped(&place.path),
                    name_of(owner)
                ));
            }
            let Some(who) = &place.writers else { continue };
            let is_group = who != EVERYBODY && who != LISTED && !place.sticky;
            let alike = |other: &Place| !other.sticky && other.writers.as_ref() == Some(who);
            if !(is_group && present.way.iter().any(alike)) {
                return Err(format!("{who} may write to {}", text::escaped(&place.path)));
            }
        }
        Ok(())
    }

    /// Whether nobody could have but root, and who this process runs as.
    ///
    /// # Errors
    /// When others could; the error says who, and where.
    pub(crate) fn trusted(&self) -> Result<(), String> {
        match self.only()? {
            Maker::Root => Ok(()),
            Maker::User(uid) if uid == rustix::process::geteuid().as_raw() => Ok(()),
            Maker::User(uid) => {
                let at = self
                    .owners()
                    .first()
                    .map(|place| text::escaped(&place.path))
                    .unwrap_or_default();
                Err(format!("{at} belongs to {}", name_of(uid)))
            }
        }
    }
}

/// Who may write to it beside its owner, root, and a group that nobody else is in.
fn writers(path: &Path, data: &fs::Metadata) -> Option<String> {
    if data.mode() & 0o002 != 0 {
        return Some(EVERYBODY.to_owned());
    }
    if data.mode() & 0o020 == 0 {
        return None; // nor does an access list let anybody: these bits are its mask
    }
    // Before the group: with a list it is the list that says who may.
    if has_access_list(path) {
        return Some(LISTED.to_owned());
    }
    if is_users_own_group(data.uid(), data.gid()) {
        return None;
    }
    let name = user::group_name(data.gid()).ok().flatten();
    Some(format!("the group {}", name.unwrap_or_else(|| data.gid().to_string())))
}

/// A user's name, or number.
pub(crate) fn name_of(uid: u32) -> String {
    let known = User::numbered(uid).ok().flatten();
    known.map_or_else(|| format!("user number {uid}"), |user| user.name)
}

/// Whether a group is root's, or the one that a user was made with, and nobody else is in.
fn is_users_own_group(uid: u32, gid: u32) -> bool {
    let Ok(Some(user)) = User::numbered(uid) else { return false };
    let is_own =
        user.gid == gid && user::group_name(gid).ok().flatten().as_deref() == Some(&*user.name);
    let (Ok(members), Ok(first)) = (user::members(gid), user::with_group(gid)) else {
        return false;
    };
    (is_own || gid == 0) && is_alone(&user, &members, &first)
}

/// Whether nobody but a user, and root, is in a group with these members, which is the first group of
/// these users: the list of members need not have those.
fn is_alone(user: &User, members: &[String], first: &[u32]) -> bool {
    members.iter().all(|name| *name == user.name || name == "root")
        && first.iter().all(|other| [0, user.uid].contains(other))
}

/// Whether more users may write to a file than its mode says.
fn has_access_list(path: &Path) -> bool {
    let name = c"system.posix_acl_access";
    rustix::fs::lgetxattr(path, name, &mut [0_u8; 0][..]).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};

    use super::*;

    /// Below `/`, since whoever may write to `/tmp` could have made what is there.
    fn folder() -> Option<tempfile::TempDir> {
        rustix::process::geteuid().is_root().then(|| tempfile::tempdir_in("/root").ok()).flatten()
    }

    #[test]
    fn whoever_owns_anything_on_the_way_could_have_made_it() {
        let Some(root) = folder() else { return };
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/b/file"), "").unwrap();
        let maker = |path: &str| of(&at(path)).unwrap().only();
        assert_eq!(maker("a/b/file"), Ok(Maker::Root));
        chown(at("a"), Some(4000), None).unwrap();
        assert_eq!(maker("a/b/file"), Ok(Maker::User(4000)));
        assert!(of(&at("a/b/file")).unwrap().trusted().is_err());
        chown(at("a/b/file"), Some(4001), None).unwrap();
        let why = maker("a/b/file").unwrap_err();
        assert!(why.contains("4000") && why.contains("4001"), "{why}");
    }

    #[test]
    fn links_are_looked_at_and_followed() {
        let Some(root) = folder() else { return };
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::create_dir(at("c")).unwrap();
        fs::write(at("a/b/file"), "").unwrap();
        symlink("../a/b", at("c/link")).unwrap();
        let makers = of(&at("c/link/file")).unwrap();
        assert_eq!(makers.leads_to, fs::canonicalize(at("a/b/file")).unwrap());
        assert_eq!(makers.only(), Ok(Maker::Root));
        lchown(at("c/link"), Some(4000), None).unwrap();
        assert_eq!(of(&at("c/link/file")).unwrap().only(), Ok(Maker::User(4000)));
        symlink("round", at("round")).unwrap();
        assert!(of(&at("round")).is_err());
        assert_eq!(of(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_a_group_or_everybody_may_write_to_has_many_makers() {
        let Some(root) = folder() else { return };
        let mode = |mode| fs::set_permissions(root.path(), fs::Permissions::from_mode(mode));
        let makers = || of(root.path()).unwrap();
        chown(root.path(), Some(4000), Some(4000)).unwrap();
        mode(0o775).unwrap();
        let why = makers().only().unwrap_err();
        assert!(why.starts_with("the group 4000 may write to "), "{why}");
        assert_eq!(makers().only_but_for_the_group_of(root.path()), Ok(Maker::User(4000)));
        mode(0o777).unwrap();
        assert!(makers().only_but_for_the_group_of(root.path()).is_err());
        mode(0o1777).unwrap();
        assert_eq!(makers().only(), Ok(Maker::User(4000)), "nobody changes another's there");
        let why = makers().only_of_program().unwrap_err();
        assert!(why.starts_with("everybody may put files into "), "{why}");
        mode(0o755).unwrap();
        assert_eq!(makers().only_of_program(), Ok(Maker::User(4000)));
    }

    #[test]
    fn what_is_used_together_is_judged_together() {
        let Some(root) = folder() else { return };
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("app/plugin")).unwrap();
        fs::write(at("app/plugin/server.js"), "").unwrap();
        chown(at("app"), Some(4000), None).unwrap();
        let maker = || of_all([&*at("app"), &at("app/plugin/server.js")]).unwrap().only();
        assert_eq!(maker(), Ok(Maker::User(4000)));
        chown(at("app/plugin"), Some(4001), None).unwrap();
        let why = maker().unwrap_err();
        assert!(why.contains("4000") && why.contains("plugin to user number 4001"), "{why}");
    }

    #[test]
    fn nobody_gets_a_hand_in_what_takes_the_place_of_another() {
        let Some(root) = folder() else { return };
        let at = |path: &str| root.path().join(path);
        let mode = |path: &str, mode| {
            fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        for release in ["releases/1", "releases/2"] {
            fs::create_dir_all(at(release)).unwrap();
            chown(at(release), Some(4000), Some(4000)).unwrap();
        }
        let judge =
            || of(&at("releases/2")).unwrap().nobody_beyond(&of(&at("releases/1")).unwrap());
        assert_eq!(judge(), Ok(()));
        mode("releases", 0o1777);
        assert_eq!(judge(), Ok(()), "nobody changes another's there");
        for open in [0o777, 0o1777, 0o775] {
            mode("releases/2", open);
            assert!(judge().is_err(), "{open:o}");
        }
        mode("releases/1", 0o775);
        assert_eq!(judge(), Ok(()), "a group that may write to both");
        mode("releases/1", 0o777);
        mode("releases/2", 0o777);
        assert!(judge().is_err(), "everybody is no group");
        mode("releases/2", 0o755);
        chown(at("releases/2"), Some(4001), None).unwrap();
        let why = judge().unwrap_err();
        assert!(why.contains("releases/2 belongs to user number 4001"), "{why}");
        chown(at("releases/2"), Some(0), None).unwrap();
        assert_eq!(judge(), Ok(()), "root could anyway");
    }

    #[test]
    fn a_group_is_a_users_own_only_while_nobody_else_is_in_it() {
        // Every Debian has this user, with a group of the same name.
        let games = User::named("games").unwrap().expect("every Debian has it");
        assert!(is_users_own_group(games.uid, games.gid));
        assert!(!is_users_own_group(0, games.gid), "that is another's");
        assert!(is_users_own_group(0, 0) && is_users_own_group(games.uid, 0));
        let alone = |members: &[&str], first: &[u32]| {
            let members: Vec<String> = members.iter().map(|name| (*name).to_owned()).collect();
            is_alone(&games, &members, first)
        };
        assert!(alone(&[], &[games.uid]) && alone(&["games", "root"], &[0]));
        assert!(!alone(&["mate"], &[games.uid]), "a member");
        assert!(!alone(&[], &[games.uid, 4000]), "a user whose first group it is");
    }

    #[test]
    fn paths_of_the_system_are_roots_and_others_are_not() {
        assert!(is_roots(Path::new("/etc/passwd")));
        assert!(is_roots(Path::new("/etc/no-such-directory/file")));
        assert!(!is_roots(Path::new("/tmp/file")), "everybody may write there");
    }

    #[test]
    fn one_link_or_directory_of_others_is_enough_for_a_path_not_to_be_roots() {
        let Some(root) = folder() else { return };
        let path = |name: &str| root.path().join(name);
        fs::create_dir(path("open")).unwrap();
        fs::set_permissions(path("open"), fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(path("file"), "").unwrap();
        fs::write(path("open/file"), "").unwrap();
        symlink("file", path("link")).unwrap();
        symlink("/etc/../etc/passwd", path("far")).unwrap();
        symlink("open/file", path("bad")).unwrap();
        symlink("loop", path("loop")).unwrap();
        lchown(path("far"), Some(0), None).unwrap();
        for good in ["file", "link", "far", "missing", "../missing"] {
            assert!(is_roots(&path(good)), "{good}");
        }
        for bad in ["open/file", "bad", "loop", "open/missing"] {
            assert!(!is_roots(&path(bad)), "{bad}");
        }
        lchown(path("link"), Some(1), None).unwrap();
        assert!(!is_roots(&path("link")));
    }

    #[test]
    fn an_access_list_makes_many_makers_of_what_is_roots_too() {
        let Some(root) = folder() else { return };
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        // Version 2: the owner, user 4000, the group, the mask, everybody; each with what it may.
        let entry = |tag: u16, may: u16, id: u32| {
            [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let none = u32::MAX;
        let list = [
            2_u32.to_le_bytes().to_vec(),
            entry(0x01, 6, none),
            entry(0x02, 6, 4000),
            entry(0x04, 4, none),
            entry(0x10, 6, none),
            entry(0x20, 4, none),
        ]
        .concat();
        let name = c"system.posix_acl_access";
        match rustix::fs::setxattr(&file, name, &list, rustix::fs::XattrFlags::empty()) {
            Err(rustix::io::Errno::OPNOTSUPP) => return, // not on this file system
            done => done.unwrap(),
        }
        let why = of(&file).unwrap().only().unwrap_err();
        assert!(why.starts_with("whoever its access list names"), "{why}");
        assert!(!is_roots(&file));
        let closed = fs::Permissions::from_mode(0o644); // takes it from the mask
        fs::set_permissions(&file, closed).unwrap();
        assert_eq!(of(&file).unwrap().only(), Ok(Maker::Root));
    }
}
