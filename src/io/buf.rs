//! Buffers that a thread lends to whatever is being read or written just now.
//!
//! An idle connection holds none: a buffer is taken in the poll that finds something to read, and
//! goes back as soon as it is empty.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut, Range};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Most heads fit in this many bytes.
pub(crate) const SMALL: usize = 4096;
/// What is read in pieces of this size when there is no room for larger ones.
pub(crate) const LARGE: usize = 16 * 1024;
/// Bodies are read in pieces of this size. Each step up to here saves time, the next one does not:
/// what is read should still be in the core's cache when it is written.
const BULK: usize = 256 * 1024;
/// Buffers of [`BULK`] bytes that a thread's connections may hold at once, 8 MB: slow readers could
/// hold very many, and then the next ones have to do with [`LARGE`].
const BULK_IN_USE: usize = 32;

/// Free lists of bytes to be sent that a thread keeps, of 1 KB mostly: each stream of an HTTP/2
/// client that waits for a server holds one.
const OUTS_KEPT: usize = 256;

/// The sizes that a thread keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Small,
    Large,
    Bulk,
}

impl Class {
    fn size(self) -> usize {
        match self {
            Self::Small => SMALL,
            Self::Large => LARGE,
            Self::Bulk => BULK,
        }
    }

    /// Free buffers of this size that a thread keeps.
    fn kept(self) -> usize {
        match self {
            Self::Small | Self::Large => 64,
            Self::Bulk => BULK_IN_USE,
        }
    }
}

/// The buffers of a thread.
#[derive(Debug)]
struct Free {
    lists: [Vec<Vec<u8>>; 3],
    /// How many of each list have not been needed since [`trim`] looked last.
    unneeded: [usize; 3],
    bulk_in_use: usize,
}

thread_local! {
    static FREE: RefCell<Free> = const {
        RefCell::new(Free {
            lists: [const { Vec::new() }; 3],
            unneeded: [0; 3],
            bulk_in_use: 0,
        })
    };
}

/// Gives the buffers back to the system that this thread has not needed since the last call.
pub(crate) fn trim() {
    FREE.with_borrow_mut(|free| {
        for (list, unneeded) in free.lists.iter_mut().zip(&mut free.unneeded) {
            list.truncate(list.len() - *unneeded);
            *unneeded = list.len();
        }
    });
}

/// A buffer of the thread's; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Buf {
    bytes: Vec<u8>,
    class: Class,
}

impl Buf {
    /// One of [`SMALL`] bytes, all initialised.
    pub(crate) fn small() -> Self {
        Self::take(Class::Small)
    }

    /// One of [`LARGE`] bytes, all initialised.
    pub(crate) fn large() -> Self {
        Self::take(Class::Large)
    }

    /// One of `BULK` bytes, or of [`LARGE`] when many of those are in use; all initialised.
    pub(crate) fn bulk() -> Self {
        Self::take(Class::Bulk)
    }

    /// The smallest one with this much room, or the largest one there is.
    pub(crate) fn for_bytes(count: usize) -> Self {
        let classes = [Class::Small, Class::Large];
        let fits = classes.into_iter().find(|class| count <= class.size());
        Self::take(fits.unwrap_or(Class::Bulk))
    }

    fn take(mut class: Class) -> Self {
        let free = FREE.with_borrow_mut(|free| {
            if class == Class::Bulk {
                if free.bulk_in_use < BULK_IN_USE {
                    free.bulk_in_use += 1;
                } else {
                    class = Class::Large;
                }
            }
            let list = &mut free.lists[class as usize];
            let buffer = list.pop();
            free.unneeded[class as usize] = free.unneeded[class as usize].min(list.len());
            buffer
        });
        Self { bytes: free.unwrap_or_else(|| vec![0; class.size()]), class }
    }

    /// Makes room for this many bytes, and keeps those that are there.
    pub(crate) fn grow(&mut self, size: usize) {
        if self.bytes.len() < size {
            self.bytes.resize(size, 0);
        }
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let class = self.class;
        // The thread may be ending, and the list with it.
        let _ = FREE.try_with(|free| {
            let Ok(mut free) = free.try_borrow_mut() else { return };
            free.bulk_in_use -= usize::from(class == Class::Bulk);
            let list = &mut free.lists[class as usize];
            // A grown one is rare, and too large to keep.
            if bytes.len() == class.size() && list.len() < class.kept() {
                list.push(bytes);
            }
        });
    }
}

/// A list of bytes to be sent; dropping it keeps its memory for the next one.
#[derive(Debug)]
pub(crate) struct Out(Vec<u8>);

thread_local! {
    static OUT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Out {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(OUT.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(1024)))
    }
}

impl Deref for Out {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Out {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        if bytes.capacity() > LARGE {
            return;
        }
        bytes.clear();
        let _ = OUT.try_with(|out| {
            if let Ok(mut out) = out.try_borrow_mut()
                && out.len() < OUTS_KEPT
            {
                out.push(bytes);
            }
        });
    }
}

/// Reads into a part of a buffer; zero bytes are the end of the stream.
pub(crate) fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<std::io::Result<usize>> {
    let mut buffer = ReadBuf::new(into);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

/// What was read from a stream and not yet used.
#[derive(Debug)]
pub(crate) struct Input {
    buffer: Option<Buf>,
    filled: Range<usize>,
    /// Bytes left free at the front, for what is written before a body.
    headroom: usize,
}

impl Input {
    /// Nothing yet; later data will have so many free bytes before it.
    pub(crate) fn new(headroom: usize) -> Self {
        Self { buffer: None, filled: headroom..headroom, headroom }
    }

    /// The bytes that are there.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |b| &b[self.filled.clone()])
    }

    /// The bytes that are there, to be decoded in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.as_mut().map_or(&mut [], |b| &mut b[self.filled.clone()])
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    /// Removes bytes from the front; the last one takes the buffer with it.
    pub(crate) fn consume(&mut self, count: usize) {
        self.filled.start += count;
        if self.filled.is_empty() {
            self.buffer = None;
            self.filled = self.headroom..self.headroom;
        }
    }

    /// Gives the buffer away, with where its bytes are.
    pub(crate) fn take(&mut self) -> Option<(Buf, Range<usize>)> {
        let filled = std::mem::replace(&mut self.filled, self.headroom..self.headroom);
        self.buffer.take().map(|buffer| (buffer, filled))
    }

    /// Puts bytes back that were read before those that are there.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        if self.is_empty() {
            return self.put(bytes);
        }
        let all = [bytes, self.bytes()].concat();
        self.put(&all);
    }

    /// Has these bytes in place of all others.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let mut buffer = Buf::for_bytes(self.headroom + bytes.len());
        buffer.grow(self.headroom + bytes.len());
        buffer[self.headroom..self.headroom + bytes.len()].copy_from_slice(bytes);
        self.filled = self.headroom..self.headroom + bytes.len();
        self.buffer = Some(buffer);
    }

    /// Reads more, up to `most` bytes in all; zero is the end of the stream.
    pub(crate) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        fresh: fn() -> Buf,
        most: usize,
    ) -> Poll<std::io::Result<usize>> {
        let buffer = self.buffer.get_or_insert_with(fresh);
        if self.filled.end == buffer.len() {
            let len = self.filled.len();
            if self.filled.start > self.headroom {
                buffer.copy_within(self.filled.clone(), self.headroom);
                self.filled = self.headroom..self.headroom + len;
            } else {
                // Not past the limit by more than one step: the caller refuses what is over it.
                let size = if len < LARGE / 2 { LARGE } else { (len * 2).min(most + LARGE) };
                buffer.grow(size.max(self.filled.end + SMALL));
            }
        }
        let read = poll_read(stream, cx, &mut buffer[self.filled.end..]);
        if let Poll::Ready(Ok(count)) = read {
            self.filled.end += count;
        }
        if self.filled.is_empty() {
            self.buffer = None;
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn input_holds_a_buffer_only_while_it_has_bytes() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let mut input = Input::new(8);
        let pending = poll_fn(|cx| {
            Poll::Ready(input.poll_fill(cx, &mut far, Buf::small, SMALL).is_pending())
        });
        assert!(pending.await);
        assert!(input.buffer.is_none());
        near.write_all(b"hello").await.unwrap();
        let count = poll_fn(|cx| input.poll_fill(cx, &mut far, Buf::small, SMALL)).await.unwrap();
        assert_eq!((count, input.bytes()), (5, &b"hello"[..]));
        input.consume(5);
        assert!(input.buffer.is_none() && input.is_empty());
    }

    #[test]
    fn slow_readers_hold_bulk_buffers_up_to_a_limit() {
        let held: Vec<_> = (0..BULK_IN_USE).map(|_| Buf::bulk()).collect();
        assert!(held.iter().all(|buffer| buffer.len() == BULK));
        assert_eq!(Buf::bulk().len(), LARGE);
        drop(held);
        assert_eq!(Buf::bulk().len(), BULK);
    }

    #[test]
    fn what_a_burst_took_goes_back_to_the_system() {
        let free = |class: Class| FREE.with_borrow(|free| free.lists[class as usize].len());
        drop((0..10).map(|_| Buf::bulk()).collect::<Vec<_>>());
        trim();
        assert_eq!(free(Class::Bulk), 10);
        for _ in 0..2 {
            drop([Buf::bulk(), Buf::bulk()]); // two were needed since the last look
            trim();
            assert_eq!(free(Class::Bulk), 2);
        }
        trim();
        assert_eq!(free(Class::Bulk), 0);
    }

    #[tokio::test]
    async fn input_grows_and_keeps_what_is_there() {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let data: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        near.write_all(&data).await.unwrap();
        let mut input = Input::new(8);
        while input.bytes().len() < data.len() {
            let read = poll_fn(|cx| input.poll_fill(cx, &mut far, Buf::small, 1 << 20)).await;
            assert!(read.unwrap() > 0);
        }
        assert_eq!(input.bytes(), data);
    }
}
