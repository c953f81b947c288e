//! Reading the log back: what is in a segment, and where it stops making sense.

use std::ops::Range;

use super::frame;
use super::op::Op;

/// What one segment holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Nothing that the database file has not: older than it, or never written to.
    Old,
    /// Records up to the end of what was written.
    Whole {
        /// The last one.
        last: u64,
    },
    /// Records that must be there are not, though later ones are: this is no interrupted write.
    Damaged {
        /// The last one before the damage, or before this segment.
        last: u64,
        /// Where the damage is.
        offset: usize,
    },
}

/// Gives every record after `last` to `apply`, in order.
///
/// A segment belongs to one memtable, so its records are all in the database file (up to
/// `in_file`) or all not. Behind the last record lies what an earlier use of the segment has left,
/// or half a record that a crash interrupted.
pub(super) fn segment<'a>(
    bytes: &'a [u8],
    in_file: u64,
    last: u64,
    mut apply: impl FnMut(u64, Op<'a>),
) -> Segment {
    let mut offset = 0;
    let mut reached = last;
    while let Some((sequence, payload)) = frame::read(&bytes[offset..]) {
        if offset == 0 && sequence <= in_file {
            return Segment::Old;
        }
        if Some(sequence) != reached.checked_add(1) {
            break;
        }
        let Some(ops) = decode(payload) else {
            return Segment::Damaged { last: reached, offset };
        };
        for op in ops {
            apply(sequence, op);
        }
        reached = sequence;
        offset += frame::HEADER_BYTES + payload.len();
    }
    let bytes = without_trailing_zeros(bytes);
    if later_record(bytes, offset, reached).is_some() {
        return Segment::Damaged { last: reached, offset };
    }
    if reached == last { Segment::Old } else { Segment::Whole { last: reached } }
}

/// Whether a segment that begins so is older than the file, as far as its beginning says.
pub(super) fn is_old(beginning: &[u8], in_file: u64) -> bool {
    frame::read(beginning).is_some_and(|(sequence, _)| sequence <= in_file)
}

/// Every record of a segment that can be read, whatever is missing between them.
pub(super) fn salvage<'a>(bytes: &'a [u8], last: u64, mut apply: impl FnMut(u64, Op<'a>)) -> u64 {
    let bytes = without_trailing_zeros(bytes);
    let (mut offset, mut reached) = (0, last);
    while let Some((at, sequence, payload)) = later_record(bytes, offset, reached) {
        decode(payload).into_iter().flatten().for_each(|op| apply(sequence, op));
        reached = sequence;
        offset = at + frame::HEADER_BYTES + payload.len();
    }
    reached
}

/// The first undamaged record from `offset` on that is younger than `last`.
fn later_record(bytes: &[u8], offset: usize, last: u64) -> Option<(usize, u64, &[u8])> {
    // Not a real bound: it keeps checksums from being computed over every stretch of bytes that
    // could be a header. No store writes so many records in one segment.
    let plausible = last.saturating_add(1)..last.saturating_add(1 << 32);
    (offset..bytes.len().saturating_sub(frame::HEADER_BYTES - 1)).find_map(|at| {
        if !may_begin(bytes, at, &plausible) {
            return None;
        }
        frame::read(&bytes[at..]).map(|(sequence, payload)| (at, sequence, payload))
    })
}

/// Whether a record with such a sequence may begin there; only its checksum says whether it does.
fn may_begin(bytes: &[u8], at: usize, plausible: &Range<u64>) -> bool {
    let sequence = bytes[at + 8..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    // A stretch that is off by a byte from the header of an old record has a plausible sequence,
    // and a length of 256 times that of the record; but no change begins with a part of a
    // sequence.
    sequence.is_some_and(|sequence| plausible.contains(&sequence))
        && bytes.get(at + frame::HEADER_BYTES).is_some_and(|kind| Op::is_kind(*kind))
}

/// A segment is made at its full size: most of a young one is zeros, which need no search.
fn without_trailing_zeros(bytes: &[u8]) -> &[u8] {
    const STEP: usize = 64 * 1024;
    static ZEROS: [u8; STEP] = [0; STEP];
    let mut end = bytes.len();
    while let Some(tail) = bytes[..end].last_chunk::<STEP>()
        && *tail == ZEROS
    {
        end -= STEP;
    }
    &bytes[..end]
}

fn decode(mut payload: &[u8]) -> Option<Vec<Op<'_>>> {
    let mut ops = Vec::new();
    while !payload.is_empty() {
        ops.push(Op::decode(&mut payload)?);
    }
    Some(ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(sequences: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut out = Vec::new();
        for sequence in sequences {
            let at = frame::begin(&mut out);
            Op::Remove(format!("key {sequence}").as_bytes()).encode(&mut out);
            frame::end(&mut out, at, sequence);
        }
        out
    }

    fn read(bytes: &[u8], in_file: u64, last: u64) -> (Segment, Vec<u64>) {
        let mut seen = Vec::new();
        let segment = segment(bytes, in_file, last, |sequence, _| seen.push(sequence));
        (segment, seen)
    }

    #[test]
    fn records_follow_each_other_up_to_the_end_of_what_was_written() {
        let mut bytes = log(5..8);
        bytes.resize(4096, 0);
        assert_eq!(read(&bytes, 4, 4), (Segment::Whole { last: 7 }, vec![5, 6, 7]));
    }

    #[test]
    fn a_segment_that_the_file_has_is_old() {
        assert_eq!(read(&log(5..8), 7, 7), (Segment::Old, vec![]));
        assert_eq!(read(&[0; 100], 7, 7), (Segment::Old, vec![]));
    }

    #[test]
    fn what_an_earlier_use_left_behind_is_no_record() {
        let mut bytes = log(100..200);
        let new = log(300..310);
        bytes[..new.len()].copy_from_slice(&new);
        assert_eq!(read(&bytes, 299, 299).0, Segment::Whole { last: 309 });
    }

    #[test]
    fn half_a_record_at_the_end_is_an_interrupted_write() {
        let bytes = log(1..4);
        for cut in 1..bytes.len() / 3 {
            let (segment, seen) = read(&bytes[..bytes.len() - cut], 0, 0);
            assert_eq!((segment, seen), (Segment::Whole { last: 2 }, vec![1, 2]), "cut {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_before_later_records_is_damage_wherever_it_is() {
        let clean = log(1..10);
        let third = clean.len() / 9 * 2;
        for bit in third * 8..(clean.len() / 9 * 3) * 8 {
            let mut bytes = clean.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (segment, seen) = read(&bytes, 0, 0);
            assert_eq!(segment, Segment::Damaged { last: 2, offset: third }, "bit {bit}");
            assert_eq!(seen, [1, 2]);
            let mut salvaged = Vec::new();
            salvage(&bytes, 0, |sequence, _| salvaged.push(sequence));
            assert_eq!(salvaged, [1, 2, 4, 5, 6, 7, 8, 9]);
        }
    }

    /// What is left of an earlier use must not be read hundreds of times over: with a checksum of
    /// every stretch that could be a record, a whole log takes minutes.
    #[test]
    fn much_that_an_earlier_use_left_behind_takes_little_time() {
        let mut old = Vec::new();
        for sequence in 100_000..103_000 {
            let at = frame::begin(&mut old);
            let entry = super::super::value::Entry {
                expires: 0,
                value: super::super::value::Value::String(vec![b'v'; 1000].into()),
            };
            Op::Put(b"key", entry).encode(&mut old);
            frame::end(&mut old, at, sequence);
        }
        let new = log(200_000..200_010);
        old[..new.len()].copy_from_slice(&new);
        assert_eq!(read(&old, 199_999, 199_999).0, Segment::Whole { last: 200_009 });
        let plausible = 200_010..200_010 + (1 << 32);
        let stretches = (new.len()..old.len() - frame::HEADER_BYTES)
            .filter(|at| may_begin(&old, *at, &plausible))
            .count();
        assert_eq!(stretches, 0, "none of them needs a checksum");
    }

    #[test]
    fn a_missing_segment_is_damage() {
        assert_eq!(read(&log(8..10), 4, 4).0, Segment::Damaged { last: 4, offset: 0 });
    }
}
