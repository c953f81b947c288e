//! What is read back from a disk, whatever it is by then: what the fuzzer holds it to.

use super::frame;
use super::op::Op;
use super::replay::{self, Segment};
use super::value::{Entry, header};

/// The bytes of a log segment or of an entry: as they are, and as what is in records whose checksums
/// are right, which is what a later version or a mistake of ours would leave.
pub(crate) fn bytes(input: &[u8]) {
    let Some((&step, bytes)) = input.split_first() else { return };
    segment(bytes);
    let mut records = Vec::new();
    for (sequence, payload) in (1..).zip(bytes.chunks(usize::from(step % 64) + 1)) {
        let at = frame::begin(&mut records);
        records.extend_from_slice(payload);
        frame::end(&mut records, at, sequence);
    }
    segment(&records);
    let mut rest = bytes;
    while let Some(op) = Op::decode(&mut rest) {
        is_what_it_says(&op);
    }
    if let Some(entry) = Entry::decode(bytes) {
        assert_eq!(header(bytes), Some((entry.expires, entry.value.kind())));
        let mut stored = Vec::new();
        entry.encode(&mut stored);
        assert_eq!(stored.len(), entry.stored_bytes());
        assert_eq!(Entry::decode(&stored), Some(entry));
    }
}

/// Records come in order, and none of them from behind the end or the damage.
fn segment(bytes: &[u8]) {
    let mut seen = 0;
    let found = replay::segment(bytes, 0, 0, |sequence, op| {
        assert!(sequence == seen || sequence == seen + 1 || seen == 0, "{sequence} after {seen}");
        seen = sequence;
        is_what_it_says(&op);
    });
    match found {
        Segment::Old => assert_eq!(seen, 0),
        Segment::Whole { last } => assert!(seen <= last),
        Segment::Damaged { last, offset } => assert!(seen <= last && offset <= bytes.len()),
    }
    let mut salvaged = 0;
    let last = replay::salvage(bytes, 0, |sequence, _| {
        assert!(sequence >= salvaged, "{sequence} after {salvaged}");
        salvaged = sequence;
    });
    assert!(salvaged <= last);
}

/// A change that was read is written as what is read as the same.
fn is_what_it_says(op: &Op<'_>) {
    let mut written = Vec::new();
    op.encode(&mut written);
    let mut rest = &written[..];
    assert_eq!(Op::decode(&mut rest).as_ref(), Some(op));
    assert!(rest.is_empty(), "{op:?}");
}
