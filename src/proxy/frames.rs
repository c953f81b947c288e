//! Where in a stream of WebSocket frames one is: a frame of our own may only go between two others.

/// Follows the frames of one direction by their heads; a frame costs a few steps, its payload none.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The head so far.
    head: [u8; MOST],
    have: usize,
    /// Payload bytes still to come.
    left: u64,
    /// A close frame has passed: nothing may follow it.
    closed: bool,
}

/// A close frame of a server with code 1012: it restarts, and the client may come again.
pub(crate) const SERVICE_RESTART: [u8; 4] = [0x88, 2, 0x03, 0xf4];

/// Bytes of the longest head.
const MOST: usize = 14;
/// RFC 6455, section 5.5.1.
const CLOSE: u8 = 8;

impl Frames {
    /// Takes note of bytes that go by; returns how many frames begin in them.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) -> u64 {
        let mut begun = 0;
        while let Some(byte) = bytes.first() {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= skip as u64;
                bytes = &bytes[skip..];
            } else if self.have == 0
                && let Some(head) = bytes.first_chunk()
            {
                // Nearly always a head is there as a whole.
                begun += 1;
                bytes = &bytes[head_len(head)..];
                self.enter(head);
            } else {
                begun += u64::from(self.have == 0);
                self.head[self.have] = *byte;
                self.have += 1;
                bytes = &bytes[1..];
                if self.have >= 2 && self.have == head_len(&self.head) {
                    self.have = 0;
                    let head = self.head;
                    self.enter(&head);
                }
            }
        }
        begun
    }

    /// The payload of this frame comes next.
    fn enter(&mut self, head: &[u8; MOST]) {
        self.left = payload(head);
        self.closed |= head[0] & 0x0f == CLOSE;
    }

    /// Whether a frame may be put here.
    pub(crate) fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0 && !self.closed
    }
}

fn head_len(head: &[u8; MOST]) -> usize {
    let length = match head[1] & 0x7f {
        127 => 8,
        126 => 2,
        _ => 0,
    };
    let mask = if head[1] & 0x80 == 0 { 0 } else { 4 };
    2 + length + mask
}

fn payload(head: &[u8; MOST]) -> u64 {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n * 256 + u64::from(*byte));
    match head[1] & 0x7f {
        127 => number(&head[2..10]),
        126 => number(&head[2..4]),
        short => u64::from(short),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame, masked or not.
    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut out = vec![0x80 | opcode];
        match length {
            0..126 => out.push(mask | length as u8),
            126..0x1_0000 => {
                out.push(mask | 0x7e);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                out.push(mask | 0x7f);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        out.resize(out.len() + if masked { 4 } else { 0 } + length, 0xff);
        out
    }

    proptest! {
        /// However the bytes are cut, it is between frames at their ends and nowhere else.
        #[test]
        fn ends_of_frames_are_known_wherever_reads_end(
            frames in prop::collection::vec((any::<bool>(), prop_oneof![0_usize..3, 0_usize..200, 65_500_usize..65_600]), 1..20),
            cut in 1_usize..4000,
        ) {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for (masked, length) in frames {
                bytes.extend(frame(2, masked, length));
                ends.push(bytes.len());
            }
            let mut follower = Frames::default();
            let (mut at, mut begun) = (0, 0);
            for piece in bytes.chunks(cut) {
                begun += follower.pass(piece);
                at += piece.len();
                prop_assert_eq!(follower.is_between(), ends.contains(&at));
            }
            prop_assert_eq!(begun as usize, ends.len() - 1);
        }
    }

    #[test]
    fn nothing_is_put_behind_a_close_frame() {
        let mut frames = Frames::default();
        frames.pass(&frame(1, false, 3));
        assert!(frames.is_between());
        frames.pass(&SERVICE_RESTART);
        assert!(!frames.is_between());
    }
}
