//! The embedded journal: one directory per lock manager, segments, snapshots and epochs. The format, byte by byte, and why it
//! is so, is in docs/journal.md; that document is the law here.
//!
//! Must never acknowledge what is not durable, never skip what is damaged in silence, and never let two owners write one
//! file.

mod chain;
mod codec;
mod epoch;
mod error;
pub mod faults;
mod files;
mod frame;
mod journals;
mod load;
mod names;
mod owner;
mod peek;
mod reader;
mod repair;
pub mod site;
mod snapshot;
mod spare;
#[cfg(test)]
mod tests;
pub mod transfer;
mod writer;

pub use codec::TooLong;
pub use error::{Finding, JournalError};
pub(super) use files::open_regular;
pub use files::{Disk, Files, Handle};
pub use journals::{Clock, Journals};
pub use peek::{Peek, Summary};
pub use repair::{Cut, Loss, dump, repair, verify};

#[cfg(test)]
pub(in crate::store) use codec::tests::entry as any_entry;

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use super::record::Durability;

/// Settings of a journal.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of a segment in bytes, a multiple of 512; 64 MiB: so that a new one is rare, and one is little on any disk.
    pub segment: u64,
    /// Size of the first segment of an epoch, 1 MiB: a take-over waits while it is made.
    pub first_segment: u64,
    /// When records are made durable.
    pub durability: Durability,
    /// With [`Durability::Relaxed`]: at the latest so long after they were written. Also how long *queued* and the like may
    /// stay unsynced.
    pub flush: Duration,
    /// Compact once this many segments are full, 4: the log is then at most about as long as the state of a million locks.
    pub compact_after: u64,
    /// Batches that may wait to be written, 65,536: more than one for each request that can be under way.
    pub queue: usize,
    /// This node's name, for people who read the journal.
    pub node: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment: 64 << 20,
            first_segment: 1 << 20,
            durability: Durability::Sync,
            flush: Duration::from_millis(50),
            compact_after: 4,
            queue: 65_536,
            node: String::new(),
        }
    }
}

/// Removes a file; it is no error if it is gone already.
fn remove(files: &dyn Files, path: &Path) -> Result<(), JournalError> {
    match files.remove(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(JournalError::io("cannot remove", path)(e)),
        _ => Ok(()),
    }
}
