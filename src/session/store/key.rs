//! How a key is stored: `space (4 bytes) · place (6 bytes) · name`.
//!
//! The place is a hash of the name. It makes the order of keys independent of their names, so
//! that a `SCAN` cursor is simply the place to go on from: it needs no state in the server,
//! survives a restart, and fits the 53 bits that clients in JavaScript can count to.

/// One database of one namespace.
pub(crate) type Space = u32;

const PLACE_BYTES: usize = 6;
/// Bytes before the name.
pub(crate) const PREFIX_BYTES: usize = 4 + PLACE_BYTES;
/// The first place beyond all places.
pub(crate) const PLACES: u64 = 1 << (8 * PLACE_BYTES);

/// Writes the stored form of a key to `buffer`, which is emptied first.
pub(crate) fn build(buffer: &mut Vec<u8>, space: Space, name: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(&at_place(space, place(name)));
    buffer.extend_from_slice(name);
}

/// The lowest key that this place of this space can hold.
pub(crate) fn at_place(space: Space, place: u64) -> [u8; PREFIX_BYTES] {
    let mut bytes = [0; PREFIX_BYTES];
    bytes[..4].copy_from_slice(&space.to_be_bytes());
    bytes[4..].copy_from_slice(&place.min(PLACES - 1).to_be_bytes()[8 - PLACE_BYTES..]);
    bytes
}

/// The name that the user knows.
pub(crate) fn name(key: &[u8]) -> &[u8] {
    key.get(PREFIX_BYTES..).unwrap_or_default()
}

/// The space of a stored key.
pub(crate) fn space(key: &[u8]) -> Space {
    key.first_chunk().map_or(0, |bytes| Space::from_be_bytes(*bytes))
}

/// The place of a stored key.
pub(crate) fn place_of(key: &[u8]) -> u64 {
    key.get(4..PREFIX_BYTES)
        .map_or(0, |bytes| bytes.iter().fold(0, |place, byte| place << 8 | u64::from(*byte)))
}

/// The place of a name: FNV-1a with a finalizer that spreads short names. It is part of the file
/// format. Place 0 stays empty because cursor 0 means "from the start" and "at the end".
pub(crate) fn place(name: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    ((hash ^ hash >> 33) >> (64 - 8 * PLACE_BYTES)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_apart_into_what_it_was_built_from() {
        let mut key = Vec::new();
        build(&mut key, 7, b"sess:abc");
        assert_eq!((space(&key), name(&key)), (7, &b"sess:abc"[..]));
        assert_eq!(place_of(&key), place(b"sess:abc"));
        assert!(at_place(7, place(b"sess:abc")).as_slice() <= key.as_slice());
    }

    #[test]
    fn the_place_of_a_name_never_changes_because_files_depend_on_it() {
        assert_eq!(place(b""), 0xefd0_1f60_ba99);
        assert!(place(b"a") != place(b"b"));
    }
}
