//! Replies as bytes, in the version of the protocol that the client asked for.

/// The version that a connection speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Version {
    /// RESP2, until the client says `HELLO 3`.
    #[default]
    Two,
    /// RESP3.
    Three,
}

/// Appends replies to the output of one connection.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    version: Version,
}

/// Bytes of replies that may wait for one client to take them.
const LARGEST: usize = 128 * 1024 * 1024;

impl<'a> Reply<'a> {
    /// Writes to `out` in this version.
    pub fn new(out: &'a mut Vec<u8>, version: Version) -> Self {
        Self { out, version }
    }

    /// The version in use.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Changes the version from the next reply on.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// Bytes written so far, the replies before this one included.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Takes back what was written after the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.out.truncate(length);
    }

    /// Whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A status line. The text must not hold a line end.
    pub fn simple(&mut self, text: &str) {
        self.out.push(b'+');
        self.out.extend_from_slice(text.as_bytes());
        self.end_line();
    }

    /// An error line; line ends inside the text become blanks.
    pub fn error(&mut self, text: &str) {
        self.out.push(b'-');
        self.out.extend(text.bytes().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }));
        self.end_line();
    }

    /// An integer.
    pub fn integer(&mut self, value: i64) {
        self.out.push(b':');
        self.push_integer(value);
        self.end_line();
    }

    /// A count.
    pub fn count(&mut self, value: usize) {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// 1 or 0, which is what most commands answer in both versions.
    pub fn flag(&mut self, value: bool) {
        self.out.extend_from_slice(if value { b":1\r\n" } else { b":0\r\n" });
    }

    /// A string of any bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        // A request for the same large value a thousand times must not fill our memory: the
        // connection is closed instead, see `is_too_large`.
        if self.is_too_large() {
            return;
        }
        self.header(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.end_line();
    }

    /// Whether the reply grew beyond all measure: what was written is not whole then, and the
    /// connection must end.
    pub fn is_too_large(&self) -> bool {
        self.out.len() > LARGEST
    }

    /// A string, or null.
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// A text for people; RESP3 says that it is plain text.
    pub fn verbatim(&mut self, text: &str) {
        if self.version == Version::Two {
            return self.bulk(text.as_bytes());
        }
        self.header(b'=', text.len() + 4);
        self.out.extend_from_slice(b"txt:");
        self.out.extend_from_slice(text.as_bytes());
        self.end_line();
    }

    /// No value.
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.version {
            Version::Two => b"$-1\r\n",
            Version::Three => b"_\r\n",
        });
    }

    /// No array.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.version {
            Version::Two => b"*-1\r\n",
            Version::Three => b"_\r\n",
        });
    }

    /// The head of an array; its elements follow.
    pub fn array(&mut self, length: usize) {
        self.header(b'*', length);
    }

    /// The head of what the client is told without having asked, in RESP3; its elements follow.
    pub fn push(&mut self, length: usize) {
        self.header(b'>', length);
    }

    /// The head of a set; its elements follow.
    pub fn set(&mut self, length: usize) {
        self.header(if self.version == Version::Two { b'*' } else { b'~' }, length);
    }

    /// The head of a map; its pairs follow, key before value.
    pub fn map(&mut self, pairs: usize) {
        match self.version {
            Version::Two => self.header(b'*', pairs * 2),
            Version::Three => self.header(b'%', pairs),
        }
    }

    fn header(&mut self, kind: u8, length: usize) {
        self.out.push(kind);
        self.push_integer(i64::try_from(length).unwrap_or(i64::MAX));
        self.end_line();
    }

    fn push_integer(&mut self, value: i64) {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn end_line(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }
}
