//! Reading a directory from a cookie on. The cookie is the directory's own offset, so it means the same after
//! a restart, and entries that neither appear nor vanish come exactly once whatever happens around them.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::error::FsError;
use super::handle_sys::{RawEntry, entries, getdents};

/// Bytes asked of the kernel at once: about 800 entries.
const BUFFER: usize = 32 * 1024;

/// A directory being read.
pub(crate) struct DirReader<'a> {
    fd: OwnedFd,
    buffer: Vec<u8>,
    belongs_to: std::marker::PhantomData<&'a ()>,
}

/// One entry.
pub(crate) struct Entry<'a> {
    /// Inode number as the directory holds it.
    pub(crate) ino: u64,
    /// Where to go on after it.
    pub(crate) cookie: u64,
    /// The name.
    pub(crate) name: &'a [u8],
}

impl DirReader<'_> {
    pub(super) fn new(fd: OwnedFd, cookie: u64) -> Result<Self, FsError> {
        if cookie != 0 {
            // Offsets are signed in the kernel; a cookie with the top bit set is none that we gave out.
            let offset = i64::try_from(cookie).map_err(|_| Errno::EINVAL)?;
            lseek(&fd, offset, Whence::SeekSet)?;
        }
        Ok(Self { fd, buffer: vec![0; BUFFER], belongs_to: std::marker::PhantomData })
    }

    /// Hands entries to `take` until it returns false (its entry is not counted as read) or the directory
    /// ends. True: the end was reached.
    pub(crate) fn read(&mut self, mut take: impl FnMut(Entry<'_>) -> bool) -> Result<bool, FsError> {
        loop {
            let used = getdents(self.fd.as_fd(), &mut self.buffer)?;
            if used == 0 {
                return Ok(true);
            }
            for RawEntry { ino, next, name } in entries(&self.buffer[..used]) {
                if !take(Entry { ino, cookie: next as u64, name }) {
                    return Ok(false);
                }
            }
        }
    }
}
