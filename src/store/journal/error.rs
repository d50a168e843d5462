//! What can go wrong in a journal, and what was found wrong in one.

use std::io;
use std::path::{Path, PathBuf};

use super::codec::TooLong;

/// Why a journal cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file operation failed.
    #[error("{what} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk is full; nothing was written.
    #[error("no space for {}: nothing was written", .0.display())]
    NoSpace(PathBuf),
    /// Somebody else has taken the lock manager over.
    #[error("epoch {mine} is superseded by epoch {newest}")]
    Superseded {
        /// Ours.
        mine: u64,
        /// The newest.
        newest: u64,
    },
    /// The lock manager was handed over to another place.
    #[error(
        "the lock manager was handed over at epoch {0}: import what the node that has it now exports, or force if no other has taken it up"
    )]
    HandedOver(u64),
    /// What was begun has not ended in time, and goes on.
    #[error("{}: its disk does not answer: files in it stay open until it does", .0.display())]
    Hangs(PathBuf),
    /// The lock manager is being released: what was begun is given up.
    #[error("given up: the lock manager is being released")]
    Stopped,
    /// The directory of an owner is empty, or not there any more.
    #[error("{}: the journal is gone: is its disk still mounted?", .0.display())]
    Gone(PathBuf),
    /// Nothing is recorded.
    #[error("{}: there is no journal here", .0.display())]
    Nothing(PathBuf),
    /// The directory holds another lock manager's journal.
    #[error("this is the journal of {found}, not of {expected}")]
    OtherName {
        /// Whose it is.
        found: String,
        /// Whose was wanted.
        expected: String,
    },
    /// Another node has it.
    #[error("{node} has this lock manager and did not release it: hand it over there")]
    OwnedElsewhere {
        /// What it calls itself.
        node: String,
    },
    /// An import was cut off: what is here is older than what was to be imported.
    #[error("the import at epoch {0} was cut off: run import-state again with the same data, or force")]
    ImportUnfinished(u64),
    /// The directory of a journal that was placed elsewhere is not there.
    #[error(
        "{} is not there: is its disk mounted? The directory of a journal that lies elsewhere is never made: if this is a new one, mkdir it on the disk that moves with the address",
        .0.display()
    )]
    NoDirectory(PathBuf),
    /// An entry is too long to be written.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// A batch does not fit into a segment.
    #[error("a batch of {0} bytes does not fit into one segment")]
    TooLarge(usize),
    /// An earlier write or sync failed: nothing is written until the lock manager is taken over again.
    #[error("writes nothing since an earlier failure ({0}); take the lock manager over again")]
    Failed(String),
    /// A file was damaged under its living owner: compaction leaves it alone.
    #[error("{0}: nothing is compacted; release the lock manager and take it over again")]
    Damaged(Finding),
    /// A file is of a newer format.
    #[error("{}: {reason}", .file.display())]
    Newer {
        /// Which.
        file: PathBuf,
        /// What is newer.
        reason: String,
    },
    /// The files keep changing or there are too many.
    #[error("{}: {reason}", .dir.display())]
    Unsteady {
        /// Where.
        dir: PathBuf,
        /// What.
        reason: &'static str,
    },
    /// Repair was given a place where nothing can be cut.
    #[error("{file}:{offset}: {reason}")]
    NoCut {
        /// The file's name.
        file: String,
        /// The place in it.
        offset: u64,
        /// Why.
        reason: &'static str,
    },
}

impl JournalError {
    /// Wraps an I/O error; a full disk is told apart.
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
        let path = path.to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => JournalError::NoSpace(path),
            _ => JournalError::Io { what, path, source },
        }
    }

    /// Whether it says that the process or the system is short of something for a moment, and nothing of the disk.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, JournalError::Io { source, .. }
            if matches!(source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EINTR)))
    }

    /// Whether it says that a file is not there.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, JournalError::Io { source, .. }
            if source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(libc::ESTALE))
    }
}

/// Something wrong in a journal's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file's name.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The record that should be there; 0 if that cannot be said.
    pub sequence: u64,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: record {}: {}", self.file, self.offset, self.sequence, self.reason)
    }
}
