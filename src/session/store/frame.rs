//! One record of the log: `length (4) · checksum (4) · sequence (8) · payload`.
//!
//! The sequence counts records over the whole life of the store. It is what tells a record from
//! what an earlier use of the same file left behind it.

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 16;

/// Begins a record at the end of `out`; returns where.
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    at
}

/// Completes the record that begins at `at` and reaches to the end of `out`.
pub(super) fn end(out: &mut [u8], at: usize, sequence: u64) {
    let length = u32::try_from(out.len() - at - HEADER_BYTES).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    out[at + 8..at + 16].copy_from_slice(&sequence.to_le_bytes());
    let sum = checksum(length, &out[at + 8..]);
    out[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
}

/// The record at the start of `bytes`, if it is whole and undamaged: its sequence and payload.
pub(super) fn read(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?);
    let sum = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    let sequence = u64::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
    let covered = bytes.get(8..HEADER_BYTES.checked_add(length as usize)?)?;
    // Sequence 0 is never written: a stretch of zeros must not look like a record.
    (sequence > 0 && checksum(length, covered) == sum).then(|| (sequence, &covered[8..]))
}

fn checksum(length: u32, covered: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(covered);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_with_any_bit_flipped_is_not_read() {
        let mut out = vec![9, 9];
        let at = begin(&mut out);
        out.extend_from_slice(b"payload");
        end(&mut out, at, 77);
        let record = &out[2..];
        assert_eq!(read(record), Some((77, &b"payload"[..])));
        for bit in 0..record.len() * 8 {
            let mut flipped = record.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&flipped), None, "bit {bit}");
        }
        for length in 0..record.len() {
            assert_eq!(read(&record[..length]), None, "cut at {length}");
        }
        assert_eq!(read(&[0; 64]), None);
    }
}
