//! Reads a file through a window, in large pieces. Must never read a file whole into memory.

use std::path::Path;

use super::error::JournalError;
use super::files::Handle;
use super::frame::{self, Frame, Look, MAX_FRAME};

/// How much is read at once: large enough for the disk, small enough to have many.
const PIECE: usize = 256 << 10;

pub(super) struct Reader<'a> {
    handle: &'a dyn Handle,
    pub(super) path: &'a Path,
    /// Size of the file.
    pub(super) size: u64,
    buf: Vec<u8>,
    /// Where in the file `buf` begins.
    at: u64,
    /// [`Self::next_frame`] came past something that is not zero.
    pub(super) saw_bytes: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(handle: &'a dyn Handle, path: &'a Path) -> Result<Self, JournalError> {
        let size = handle.size().map_err(JournalError::io("cannot look at", path))?;
        Ok(Self { handle, path, size, buf: Vec::new(), at: 0, saw_bytes: false })
    }

    /// The file from `at` on: at least `want` bytes, or up to its end.
    pub(super) fn window(&mut self, at: u64, want: usize) -> Result<&[u8], JournalError> {
        let have = self.at + self.buf.len() as u64;
        if at < self.at || at + want as u64 > have && have < self.size || at > have {
            self.fill(at, want)?;
        }
        let from = usize::try_from(at - self.at).unwrap_or(usize::MAX);
        Ok(self.buf.get(from..).unwrap_or(&[]))
    }

    fn fill(&mut self, at: u64, want: usize) -> Result<(), JournalError> {
        let len = (PIECE.max(want) as u64).min(self.size.saturating_sub(at)) as usize;
        self.buf.resize(len, 0);
        self.at = at;
        let mut got = 0;
        while got < len {
            let n = self
                .handle
                .read_at(&mut self.buf[got..], at + got as u64)
                .map_err(JournalError::io("cannot read", self.path))?;
            if n == 0 {
                // Shorter than it was a moment ago.
                self.size = at + got as u64;
                break;
            }
            got += n;
        }
        self.buf.truncate(got);
        Ok(())
    }

    /// The next whole frame of `epoch` that begins at `from` or behind it, at a multiple of 8.
    pub(super) fn next_frame(&mut self, from: u64, epoch: u64) -> Result<Option<(u64, Frame)>, JournalError> {
        let mut at = from.next_multiple_of(8);
        loop {
            let bytes = self.window(at, MAX_FRAME)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let zeros = bytes.as_chunks::<8>().0.iter().take_while(|word| **word == [0; 8]).count();
            if zeros > 0 {
                at += 8 * zeros as u64;
                continue;
            }
            let look = frame::look(bytes, at);
            self.saw_bytes = true;
            match look {
                Look::Frame(frame) if frame.epoch == epoch => return Ok(Some((at, frame))),
                _ => at += 8,
            }
        }
    }
}
