//! Bytes → lines, in bounded memory.

/// The longest line that is kept. Node itself has no limit; an app that sends more than this in one
/// message loses that message, with a warning, instead of taking the machine's memory.
pub(crate) const MAX_LINE: usize = 16 * 1024 * 1024;

/// What is kept of a line that is too long: enough to see what kind of message it was.
const KEPT: usize = 64;

/// What a buffer may keep between two lines.
const IDLE_CAPACITY: usize = 64 * 1024;

/// One line, without its line end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// It was longer than the limit: its first bytes, and how long it was.
    TooLong(&'a [u8], usize),
}

/// Splits a stream of bytes into lines. Works on bytes, so a character that is split over two reads
/// is whole again before anybody looks at it.
#[derive(Debug)]
pub(crate) struct Lines {
    partial: Vec<u8>,
    /// How long the present line is so far, once that is too long.
    too_long: Option<usize>,
    limit: usize,
}

impl Lines {
    pub(crate) fn new(limit: usize) -> Self {
        Self { partial: Vec::new(), too_long: None, limit }
    }

    /// Takes what was read and calls `each` for every line that is complete now.
    pub(crate) fn push(&mut self, mut chunk: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(end) = memchr::memchr(b'\n', chunk) {
            let (head, rest) = (&chunk[..end], &chunk[end + 1..]);
            if self.partial.is_empty() && self.too_long.is_none() && head.len() <= self.limit {
                each(Line::Whole(head));
            } else {
                self.extend(head);
                each(match self.too_long.take() {
                    Some(length) => Line::TooLong(&self.partial, length),
                    None => Line::Whole(&self.partial),
                });
                self.partial.clear();
                self.partial.shrink_to(IDLE_CAPACITY);
            }
            chunk = rest;
        }
        self.extend(chunk);
    }

    fn extend(&mut self, bytes: &[u8]) {
        let length = self.too_long.unwrap_or(self.partial.len()) + bytes.len();
        if length <= self.limit {
            self.partial.extend_from_slice(bytes);
            return;
        }
        self.partial.truncate(KEPT);
        let missing = (KEPT - self.partial.len()).min(bytes.len());
        self.partial.extend_from_slice(&bytes[..missing]);
        self.partial.shrink_to(KEPT);
        self.too_long = Some(length);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(limit: usize, chunks: &[&[u8]]) -> Vec<Result<Vec<u8>, usize>> {
        let mut lines = Lines::new(limit);
        let mut seen = Vec::new();
        for chunk in chunks {
            lines.push(chunk, |line| {
                seen.push(match line {
                    Line::Whole(bytes) => Ok(bytes.to_vec()),
                    Line::TooLong(_, length) => Err(length),
                });
            });
        }
        seen
    }

    #[test]
    fn a_line_may_come_in_pieces_and_a_piece_may_hold_several_lines() {
        let seen = split(100, &[b"\"a", b"b\"\n1\n", b"", b"null\ntr", b"ue\nrest"]);
        assert_eq!(
            seen,
            [b"\"ab\"".to_vec(), b"1".to_vec(), b"null".to_vec(), b"true".to_vec()].map(Ok)
        );
    }

    #[test]
    fn a_character_split_over_two_reads_is_whole_again() {
        let bytes = "\"é\"\n".as_bytes();
        let seen = split(100, &[&bytes[..2], &bytes[2..]]);
        assert_eq!(seen, [Ok("\"é\"".as_bytes().to_vec())]);
    }

    #[test]
    fn a_line_over_the_limit_is_counted_not_kept_and_the_next_one_is_whole() {
        let long = vec![b'x'; 1000];
        assert_eq!(split(100, &[&long, &long, b"\nok\n"]), [Err(2000), Ok(b"ok".to_vec())]);
        let mut lines = Lines::new(100);
        lines.push(&long, |_| unreachable!("no line has ended"));
        assert!(lines.partial.capacity() <= 100, "memory stays bounded");
    }

    #[test]
    fn what_is_kept_of_a_long_line_is_its_beginning() {
        let mut lines = Lines::new(10);
        let mut seen = Vec::new();
        lines.push(b"{\"cmd\":\"NODE_", |_| ());
        lines.push(b"HANDLE\",\"msg\":1}\n", |line| {
            if let Line::TooLong(kept, _) = line {
                seen.push(kept.to_vec());
            }
        });
        assert_eq!(seen, [b"{\"cmd\":\"NODE_HANDLE\",\"msg\":1}".to_vec()]);
    }

    proptest! {
        #[test]
        fn the_cuts_do_not_matter(text in "[a-zé\n]{0,300}", cuts in prop::collection::vec(0_usize..300, 0..8), limit in 1_usize..80) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let mut expected: Vec<Result<Vec<u8>, usize>> = bytes
                .split(|byte| *byte == b'\n')
                .map(|line| if line.len() <= limit { Ok(line.to_vec()) } else { Err(line.len()) })
                .collect();
            expected.pop(); // what follows the last line end is not a line yet
            prop_assert_eq!(split(limit, &pieces), expected);
        }
    }
}
