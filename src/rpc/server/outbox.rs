//! Reply bytes on their way into a stream: small replies are put together so that many leave in one write.
//! Pure. Must never split or reorder a message.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::super::record::mark;

/// A reply up to this size is copied behind the one before it; a longer one keeps its own buffer.
const COPY_MAX: usize = 8 * 1024;
/// A chunk of small replies ends about here.
const CHUNK: usize = 32 * 1024;
/// Buffers handed to one write.
pub(super) const SLICES: usize = 16;

/// Marked records that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chunks: VecDeque<Vec<u8>>,
    /// Bytes of the first chunk that are written already.
    written: usize,
    bytes: usize,
}

impl Outbox {
    /// Appends one message as a record of one fragment.
    pub(crate) fn push(&mut self, message: Vec<u8>) {
        self.bytes += 4 + message.len();
        let small = message.len() <= COPY_MAX;
        let tail = match self.chunks.back_mut() {
            Some(tail) if tail.len() + 4 + if small { message.len() } else { 0 } <= CHUNK => tail,
            _ => {
                self.chunks.push_back(Vec::with_capacity(if small { 4 + message.len() } else { 4 }));
                let last = self.chunks.len() - 1;
                &mut self.chunks[last]
            }
        };
        tail.extend_from_slice(&mark(message.len()));
        if small {
            tail.extend_from_slice(&message);
        } else {
            self.chunks.push_back(message);
        }
    }

    /// Takes over everything of `other`, behind what is here. `other` has not been written from.
    pub(crate) fn append(&mut self, other: &mut Outbox) {
        debug_assert_eq!(other.written, 0);
        if self.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        self.bytes += std::mem::take(&mut other.bytes);
        self.chunks.append(&mut other.chunks);
    }

    /// Bytes not written yet.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether all is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The next bytes to write, and how many of the slices are used.
    pub(super) fn slices<'a>(&'a self, out: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut skip = self.written;
        let mut used = 0;
        for (slot, chunk) in out.iter_mut().zip(&self.chunks) {
            *slot = IoSlice::new(&chunk[skip..]);
            skip = 0;
            used += 1;
        }
        used
    }

    /// Takes `n` written bytes off the front.
    pub(super) fn advance(&mut self, mut n: usize) {
        self.bytes -= n;
        while let Some(front) = self.chunks.front() {
            let left = front.len() - self.written;
            if n < left {
                self.written += n;
                return;
            }
            n -= left;
            self.written = 0;
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_leave_in_order_however_little_is_written_at_a_time() {
        for step in [1, 3, 1000, 1_000_000] {
            let (mut out, mut expect, mut got) = (Outbox::default(), Vec::new(), Vec::new());
            let mut second = Outbox::default();
            for (n, len) in [0, 5, 9000, 100, 40_000, 8192, 8192, 8192, 8192, 7].into_iter().enumerate() {
                expect.extend(mark(len));
                expect.extend(vec![n as u8; len]);
                let to = if n < 4 { &mut out } else { &mut second };
                to.push(vec![n as u8; len]);
            }
            while !out.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let used = out.slices(&mut slices);
                let bytes: Vec<u8> =
                    slices[..used].iter().flat_map(|s| s.iter().copied()).take(step).collect();
                got.extend_from_slice(&bytes);
                out.advance(bytes.len());
                out.append(&mut second);
            }
            assert_eq!(got, expect);
        }
    }
}
