//! The chunked coding (RFC 9112 7.1): a strict decoder without I/O.

/// Bytes of one chunk-size line, extensions included.
const MAX_LINE: usize = 4096;
/// Bytes of all extensions of a body: they carry nothing, so whoever sends more wants our time.
const MAX_EXTENSIONS: usize = 16 * 1024;

/// Decodes one chunked body from pieces of any size.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    /// Data bytes left of this chunk, or the size so far while its line is read.
    left: u64,
    line: usize,
    extensions: usize,
    trailers: Vec<u8>,
    max_trailers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    SizeStart,
    /// Within the size, with this many digits read.
    Size(u8),
    /// White space after the size, which only `;` may follow.
    SizeSpace,
    /// Within extensions.
    Extension(Extension),
    /// The size line's LF must come.
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the empty line that ends the body.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS value ] )`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Value,
    Quoted,
    QuotedPair,
    AfterValue,
}

/// What the decoder found at the start of its input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// `len` bytes of data from `at`; the rest of the input comes after them.
    Data { at: usize, len: usize },
    /// All input was taken, and more must come.
    More,
    /// The body ended after this many bytes.
    End { used: usize },
}

/// Why a body is not chunked coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChunkError {
    #[error("malformed chunk size")]
    Size,
    #[error("chunk size is too large")]
    TooLarge,
    #[error("malformed chunk extension")]
    Extension,
    #[error("chunk data does not end in CRLF")]
    Data,
    #[error("malformed trailer section")]
    Trailer,
    #[error("trailer section is too large")]
    TrailersTooLarge,
}

impl Decoder {
    /// A decoder at the start of a body whose trailer section may have this many bytes.
    pub(crate) fn new(max_trailers: usize) -> Self {
        Self {
            state: State::SizeStart,
            left: 0,
            line: 0,
            extensions: 0,
            trailers: Vec::new(),
            max_trailers,
        }
    }

    /// The raw lines of the trailer section, each with its CRLF.
    pub(crate) fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Whether the next byte is one of data.
    pub(crate) fn is_in_data(&self) -> bool {
        self.state == State::Data
    }

    /// Takes the next piece of the body.
    pub(crate) fn next(&mut self, input: &[u8]) -> Result<Event, ChunkError> {
        let mut at = 0;
        while at < input.len() {
            if self.state == State::Data {
                let here = (input.len() - at) as u64;
                let len = self.left.min(here);
                self.left -= len;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Event::Data { at, len: len as usize });
            }
            let byte = input[at];
            at += 1;
            self.byte(byte)?;
            if self.state == State::Done {
                return Ok(Event::End { used: at });
            }
        }
        Ok(Event::More)
    }

    fn byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match self.state {
            State::SizeStart => {
                self.left = 0;
                self.line = 0;
                self.digit(byte)?;
                State::Size(1)
            }
            State::Size(digits) => match byte {
                b'\r' => State::SizeLf,
                b';' => self.extension(Extension::BeforeName)?,
                b' ' | b'\t' => State::SizeSpace,
                _ if digits >= 16 => return Err(ChunkError::TooLarge),
                _ => {
                    self.digit(byte)?;
                    State::Size(digits + 1)
                }
            },
            State::SizeSpace => match byte {
                b';' => self.extension(Extension::BeforeName)?,
                b' ' | b'\t' => {
                    self.extension(Extension::BeforeName)?;
                    State::SizeSpace
                }
                _ => return Err(ChunkError::Size),
            },
            State::Extension(extension) => self.extension_byte(extension, byte)?,
            State::SizeLf if byte == b'\n' => {
                if self.left == 0 {
                    State::TrailerStart
                } else {
                    State::Data
                }
            }
            State::SizeLf => return Err(ChunkError::Size),
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::SizeStart,
            State::DataCr | State::DataLf | State::Data | State::Done => {
                return Err(ChunkError::Data);
            }
            State::TrailerStart if byte == b'\r' => State::EndLf,
            State::TrailerStart | State::Trailer => match byte {
                b'\r' => State::TrailerLf,
                b'\n' | b'\0' => return Err(ChunkError::Trailer),
                _ => {
                    self.trailer(byte)?;
                    State::Trailer
                }
            },
            State::TrailerLf if byte == b'\n' => {
                self.trailer(b'\r')?;
                self.trailer(b'\n')?;
                State::TrailerStart
            }
            State::EndLf if byte == b'\n' => State::Done,
            State::TrailerLf | State::EndLf => return Err(ChunkError::Trailer),
        };
        Ok(())
    }

    fn digit(&mut self, byte: u8) -> Result<(), ChunkError> {
        let digit = (byte as char).to_digit(16).ok_or(ChunkError::Size)?;
        let size = self.left.checked_mul(16).ok_or(ChunkError::TooLarge)?;
        self.left = size + u64::from(digit);
        // A body of an exabyte is a mistake or an attempt at wrapping somebody's signed number.
        if self.left >> 60 == 0 { Ok(()) } else { Err(ChunkError::TooLarge) }
    }

    fn trailer(&mut self, byte: u8) -> Result<(), ChunkError> {
        if self.trailers.len() >= self.max_trailers {
            return Err(ChunkError::TrailersTooLarge);
        }
        self.trailers.push(byte);
        Ok(())
    }

    fn extension(&mut self, next: Extension) -> Result<State, ChunkError> {
        self.line += 1;
        self.extensions += 1;
        if self.line > MAX_LINE || self.extensions > MAX_EXTENSIONS {
            return Err(ChunkError::Extension);
        }
        Ok(State::Extension(next))
    }

    fn extension_byte(&mut self, extension: Extension, byte: u8) -> Result<State, ChunkError> {
        use Extension as E;
        let space = matches!(byte, b' ' | b'\t');
        let token = super::field::is_token(&[byte]);
        let next = match extension {
            E::BeforeName if space => E::BeforeName,
            E::BeforeName | E::Name if token => E::Name,
            E::Name | E::AfterName if byte == b'=' => E::BeforeValue,
            E::Name | E::AfterName if space => E::AfterName,
            E::BeforeValue if space => E::BeforeValue,
            E::BeforeValue if byte == b'"' => E::Quoted,
            E::BeforeValue | E::Value if token => E::Value,
            E::Quoted if byte == b'"' => E::AfterValue,
            E::Quoted if byte == b'\\' => E::QuotedPair,
            E::Quoted | E::QuotedPair if byte == b'\t' || (byte >= b' ' && byte != 0x7f) => {
                E::Quoted
            }
            E::Value | E::AfterValue if space => E::AfterValue,
            E::Name | E::AfterName | E::Value | E::AfterValue if byte == b';' => E::BeforeName,
            E::Name | E::Value | E::AfterName | E::AfterValue if byte == b'\r' => {
                return Ok(State::SizeLf);
            }
            _ => return Err(ChunkError::Extension),
        };
        self.extension(next)
    }
}

/// Writes the line that begins a chunk of this size to the end of `room`; returns where it starts.
pub(crate) fn size_line(room: &mut [u8], mut size: usize) -> usize {
    let mut at = room.len() - 2;
    room[at..].copy_from_slice(b"\r\n");
    loop {
        at -= 1;
        room[at] = b"0123456789abcdef"[size % 16];
        size /= 16;
        if size == 0 {
            return at;
        }
    }
}

/// Longest line that [`size_line`] writes.
pub(crate) const MAX_SIZE_LINE: usize = 18;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Decoded = (Vec<u8>, Vec<u8>, usize);

    /// Decodes pieces cut at `cuts`; data, trailers, and how many bytes were taken.
    fn decode(input: &[u8], cuts: &[usize]) -> Result<Option<Decoded>, ChunkError> {
        let mut decoder = Decoder::new(1024);
        let mut data = Vec::new();
        let mut start = 0;
        for end in cuts.iter().copied().chain([input.len()]) {
            while start < end {
                match decoder.next(&input[start..end])? {
                    Event::Data { at, len } => {
                        data.extend_from_slice(&input[start + at..start + at + len]);
                        start += at + len;
                    }
                    Event::More => start = end,
                    Event::End { used } => {
                        return Ok(Some((data, decoder.trailers().to_vec(), start + used)));
                    }
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn data_extensions_and_trailers() {
        let body =
            b"5;a=b;c=\"d\\\"\" ; e\r\nhello\r\nA\r\nworldworld\r\n000\r\nX-T: 1\r\n\r\nnext";
        let (data, trailers, used) = decode(body, &[]).unwrap().unwrap();
        assert_eq!(data, b"helloworldworld");
        assert_eq!(trailers, b"X-T: 1\r\n");
        assert_eq!(&body[used..], b"next");
    }

    #[test]
    fn malformed_bodies() {
        for bad in [
            "\r\n",
            "x\r\n",
            "5\n",
            "5 \r\n",
            "5\x0c\r\n",
            "5\0\r\n",
            "5z\r\n",
            "+5\r\n",
            "-5\r\n",
            "0x5\r\n",
            "5;\r\n",
            "5;=b\r\n",
            "5;a=\r\n",
            "5;a\nb\r\n",
            "5;a\rb\r\n",
            "5;a=\"\n\"\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1\r\naXX0\r\n\r\n",
            "0\n\n",
            "0\r\n\n",
            "0\r\nX: 1\n\r\n",
            "0\r\nX: \r1\r\n\r\n",
            "10000000000000005\r\n",
            "ffffffffffffffff\r\n",
            "00000000000000005\r\n",
            ";a\r\n",
            " 5\r\n",
            "1\rxa\r\n0\r\n\r\n",
            "1;a@\na\r\n0\r\n\r\n",
            "1 \ta\r\n0\r\n\r\n",
            "0\r\n\rx",
        ] {
            assert!(decode(bad.as_bytes(), &[]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn spaces_may_be_wherever_an_extension_has_some() {
        for line in ["1;a", "1 ;a", "1 \t ;a", "1\t;a", "1; a", "1;a = b", "1;a=\t\"b\" ;c ;d=e "] {
            let body = format!("{line}\r\nx\r\n0\r\n\r\n");
            let decoded = decode(body.as_bytes(), &[]).map(|whole| whole.map(|w| w.0));
            assert_eq!(decoded, Ok(Some(b"x".to_vec())), "{line:?}");
        }
    }

    #[test]
    fn it_is_in_data_between_a_size_and_its_last_byte() {
        let mut decoder = Decoder::new(0);
        for (piece, is_in_data) in
            [("2", false), ("\r\n", true), ("a", true), ("b", false), ("\r\n0\r\n", false)]
        {
            decoder.next(piece.as_bytes()).unwrap();
            assert_eq!(decoder.is_in_data(), is_in_data, "{piece:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let line = |length: usize| format!("1;{}\r\nx\r\n", "a".repeat(length - 1));
        assert_eq!(decode(line(4096).as_bytes(), &[]), Ok(None));
        assert_eq!(decode(line(4097).as_bytes(), &[]), Err(ChunkError::Extension));
        assert_eq!(decode(line(4096).repeat(4).as_bytes(), &[]), Ok(None));
        let more = line(4096).repeat(4) + &line(1);
        assert_eq!(decode(more.as_bytes(), &[]), Err(ChunkError::Extension));
        let trailers = format!("0\r\nX: {}\r\n\r\n", "a".repeat(2000));
        assert_eq!(decode(trailers.as_bytes(), &[]), Err(ChunkError::TrailersTooLarge));
    }

    #[test]
    fn size_lines() {
        let mut room = [0; MAX_SIZE_LINE];
        for size in [1, 15, 16, 255, 4096, usize::MAX] {
            let at = size_line(&mut room, size);
            assert_eq!(&room[at..], format!("{size:x}\r\n").as_bytes());
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in proptest::collection::vec(0_usize..300, 0..20),
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\nGET /");
            let mut cuts: Vec<_> = cuts.into_iter().filter(|c| *c < body.len()).collect();
            cuts.sort_unstable();
            let (data, _, used) = decode(&body, &cuts).unwrap().unwrap();
            prop_assert_eq!(data, chunks.concat());
            prop_assert_eq!(&body[used..], b"GET /");
        }

        #[test]
        fn no_input_panics_and_verdicts_do_not_depend_on_pieces(
            input in proptest::collection::vec(proptest::sample::select(b"0123aF;=\" \r\n\r\n\0x".to_vec()), 0..60),
            cuts in proptest::collection::vec(0_usize..60, 0..10),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().filter(|c| *c < input.len()).collect();
            cuts.sort_unstable();
            prop_assert_eq!(decode(&input, &[]), decode(&input, &cuts));
        }
    }
}
