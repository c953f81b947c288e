//! Where the front keeps what it has from one start to the next, and the secret that is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustls::crypto::aws_lc_rs;

use super::earlier::Earlier;
use super::held::Held;
use super::last_good::LastGood;
use crate::base::file::write_atomically;

/// What the front keeps of itself, beside the secret.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The files that were at work last.
    pub last_good: Option<LastGood>,
    /// The workers that are drained by hand.
    pub held: Held,
    /// Fronts that have been restarted and are not done yet.
    pub earlier: Earlier,
}

/// The state directory of this process's unit (`StateDirectory=`), if it has one.
pub(crate) fn directory() -> Option<PathBuf> {
    first_of("STATE_DIRECTORY")
}

// === impl Kept ===

impl Kept {
    /// What is kept for this process's unit: in this state directory, and in its runtime directory
    /// (`RuntimeDirectory=`), which is there until the next boot.
    pub(crate) fn of_unit(state: Option<&Path>) -> Self {
        let until_boot = first_of("RUNTIME_DIRECTORY");
        Self {
            last_good: state.map(LastGood::new),
            held: Held::noted_in(until_boot.as_deref()),
            earlier: Earlier::beside(until_boot.as_deref()),
        }
    }
}

fn first_of(variable: &str) -> Option<PathBuf> {
    let list = std::env::var(variable).ok()?;
    // systemd joins several directories with colons; ours is the first.
    list.split(':').next().filter(|first| !first.is_empty()).map(PathBuf::from)
}

/// A secret of this machine's front: the same after every start, readable by nobody else.
///
/// It is made at the first call. A file that is too short, as a full disk might leave one, is
/// replaced.
///
/// # Errors
/// When the file can be neither read nor made.
pub(crate) fn secret(directory: &Path) -> io::Result<[u8; 32]> {
    let path = directory.join("secret");
    match fs::read(&path) {
        Ok(bytes) => {
            if let Ok(secret) = bytes.try_into() {
                return Ok(secret);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let secret = random()?;
    write_atomically(&path, &secret, 0o600)?;
    Ok(secret)
}

/// 32 unguessable bytes.
///
/// # Errors
/// When the kernel has none to give.
fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let source = aws_lc_rs::default_provider().secure_random;
    source.fill(&mut bytes).map_err(|_| io::Error::other("there are no random bytes"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_for_nobody_else() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = secret(one.path()).unwrap();
        assert_eq!(secret(one.path()).unwrap(), first, "it stays");
        assert_ne!(secret(other.path()).unwrap(), first, "another machine has another");
        let mode = fs::metadata(one.path().join("secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
        assert_eq!(fs::read_dir(one.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn half_a_secret_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("secret"), b"short").unwrap();
        let whole = secret(directory.path()).unwrap();
        assert_eq!(secret(directory.path()).unwrap(), whole);
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_an_error() {
        assert!(secret(Path::new("/nonexistent/state")).is_err());
    }
}
