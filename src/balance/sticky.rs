//! The sticky cookie: a client stays with its server.
//!
//! The cookie's value is a keyed digest of the upstream's and the server's name. So it says nothing
//! about the network behind the front, nobody without the key can make one up for a server of his
//! choice, every front with the same key understands it, and it outlives restarts. All digests are
//! computed beforehand: a request costs one look-up.

use std::fmt::Write as _;
use std::hash::BuildHasher;
use std::sync::OnceLock;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::key;
use crate::config::settings::Sticky;

/// What cookies are signed with.
#[derive(Clone)]
pub(crate) struct Key([u8; 32]);

/// The key of this machine's front.
static MACHINE: OnceLock<Key> = OnceLock::new();

/// The cookies of one upstream's servers.
#[derive(Debug)]
pub(crate) struct Cookies {
    /// The settings.
    pub settings: Sticky,
    /// Value and server, sorted.
    tags: Vec<(u128, u16)>,
    /// `Set-Cookie` values by server.
    fields: Vec<Box<str>>,
}

// === impl Key ===

impl Key {
    /// The key that a secret text stands for.
    fn from_secret(secret: &[u8]) -> Self {
        Self(digest(secret, &[b"roundsman sticky cookie"]))
    }

    /// Makes this secret what [`Key::of`] falls back to. Only the first call does.
    pub(crate) fn set_of_machine(secret: &[u8]) {
        let _ = MACHINE.set(Self::from_secret(secret)); // reloads keep the one from the start
    }

    /// The key for these settings: of their own secret, or else the machine's. Where nobody has
    /// told the machine's, one that lives as long as the process.
    pub(crate) fn of(settings: &Sticky) -> Self {
        if let Some(secret) = &settings.secret {
            return Self::from_secret(secret.as_bytes());
        }
        let for_now = || {
            // Seeded from the kernel's entropy by the standard library.
            let random = std::hash::RandomState::new();
            let words = [0u64, 1, 2, 3].map(|n| random.hash_one(n));
            Self::from_secret(&words.map(u64::to_le_bytes).concat())
        };
        MACHINE.get_or_init(for_now).clone()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)") // never into a log
    }
}

// === impl Cookies ===

impl Cookies {
    /// The cookies for these servers of this upstream.
    pub(crate) fn new<'a>(
        settings: &Sticky,
        key: &Key,
        upstream: &str,
        servers: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut tags = Vec::new();
        let mut fields = Vec::new();
        for (i, server) in servers.into_iter().enumerate() {
            let digest = digest(&key.0, &[upstream.as_bytes(), b"\0", server.as_bytes()]);
            let mut half = [0; 16];
            half.copy_from_slice(&digest[..16]);
            let tag = u128::from_be_bytes(half);
            tags.push((tag, i as u16));
            fields.push(set_cookie(settings, tag));
        }
        tags.sort_unstable();
        Self { settings: settings.clone(), tags, fields }
    }

    /// The server that a client's cookie names, if it is one of these.
    pub(crate) fn server(&self, cookie: &[u8]) -> Option<usize> {
        let tag = parse(cookie)?;
        let found = self.tags.binary_search_by_key(&tag, |&(tag, _)| tag).ok()?;
        Some(usize::from(self.tags[found].1))
    }

    /// The value of the `Set-Cookie` field that pins a client to this server.
    pub(crate) fn set_cookie(&self, server: usize) -> Option<&str> {
        self.fields.get(server).map(|field| &**field)
    }
}

/// While a client's own server is out: always the same one of the others (the one with the highest
/// hash of both names), so that the client has to start over once and not with every request.
pub(crate) fn stand_in(server: usize, usable: &[bool]) -> Option<usize> {
    let score = |&other: &usize| key::mix(key::mix(server as u64 + 1) ^ (other as u64));
    (0..usable.len()).filter(|&i| usable[i]).max_by_key(score)
}

fn digest(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn parse(cookie: &[u8]) -> Option<u128> {
    if cookie.len() != 32 || !cookie.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None; // the parser below would take signs and capitals
    }
    u128::from_str_radix(std::str::from_utf8(cookie).ok()?, 16).ok()
}

fn set_cookie(settings: &Sticky, tag: u128) -> Box<str> {
    let mut field = format!("{}={tag:032x}; Path=/; HttpOnly; SameSite=Lax", settings.cookie);
    if let Some(age) = settings.max_age {
        let _ = write!(field, "; Max-Age={}", age.as_secs()); // cannot fail: it is a string
    }
    if settings.secure {
        field.push_str("; Secure");
    }
    field.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_out_has_the_same_stand_in_on_every_front_and_in_every_version() {
        let usable = |server: usize, which: fn(usize) -> bool| -> Vec<bool> {
            (0..8).map(|other| other != server && which(other)).collect()
        };
        let all =
            [0, 1, 2, 3, 4, 5, 6, 7].map(|server| stand_in(server, &usable(server, |_| true)));
        assert_eq!(all, [2, 2, 4, 0, 7, 1, 4, 2].map(Some));
        let odd = [0, 1, 2, 3, 4, 5, 6, 7]
            .map(|server| stand_in(server, &usable(server, |other| other % 2 == 1)));
        assert_eq!(odd, [7, 7, 1, 1, 7, 1, 7, 5].map(Some));
        assert_eq!(stand_in(3, &[false; 8]), None);
    }
}
