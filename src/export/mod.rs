//! Directories behind file handles: which exports there are, who may use them, and from a handle to the file.
//!
//! What this room must never do: follow a symbolic link on a client's behalf, cross into a file system that
//! is mounted below an export, put a start time or device number into a handle, or make system calls on files
//! anywhere but on the threads of `FilePool` (`LockFiles::check` and `find_path` say so themselves).

mod access;
mod claims;
mod cred_sys;
mod dir;
mod error;
mod files;
mod handle;
mod handle_sys;
mod identity;
mod locks;
mod object;
mod places;
mod pool;
mod table;
mod tree;

pub use claims::KeyError;
pub use cred_sys::{Ids, ThreadCreds};
pub use error::FsError;
pub use handle::Handle;
pub(crate) use object::{Access, Data, Object, Session};
pub use pool::{FilePool, Slot};
pub use table::ExportTable;

use std::net::IpAddr;
use std::path::PathBuf;

use crate::rpc::Cred;

/// What a file handle names, for locking: file system identity + kernel handle. Equal for every export of
/// one tree, stable over rename, restart and a move of the disk to another node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey(pub Box<[u8]>);

/// Why a handle or a lock on it is refused before the lock core sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockRefusal {
    /// The bytes are no handle of ours, or of an export that is not (or no longer) served, or the file is gone.
    #[error("stale file handle")]
    Stale,
    /// An exclusive lock on a read-only export.
    #[error("read-only export")]
    ReadOnly,
    /// The client's address or credentials may not lock this file.
    #[error("access denied")]
    Access,
}

/// The number of the export that a handle says it is of. None: no handle of ours. Pure.
pub fn number_in(handle: &[u8]) -> Option<u64> {
    Handle::parse(handle).map(|handle| handle.export)
}

/// What the lock service needs of the exports.
pub trait LockFiles: Send + Sync + 'static {
    /// Takes a handle apart. Pure: no system call, so it may run anywhere.
    fn key(&self, handle: &[u8]) -> Result<FileKey, LockRefusal>;

    /// Whether a verdict of `check` for exactly these arguments is remembered and fresh (a few seconds). Never blocks.
    fn cached(
        &self,
        handle: &[u8],
        peer: IpAddr,
        cred: &Cred,
        exclusive: bool,
    ) -> Option<Result<(), LockRefusal>>;

    /// Whether this caller may lock this file: export list, read-only, file exists, permission. Makes system
    /// calls and may block on a hung disk: call it on a blocking thread only.
    fn check(&self, handle: &[u8], peer: IpAddr, cred: &Cred, exclusive: bool) -> Result<(), LockRefusal>;

    /// Whether this address may reclaim a lock on this export. The file itself is not looked at: a reclaim must not fail, nor
    /// wait, for the disk. Never blocks.
    fn may_reclaim(&self, handle: &[u8], peer: IpAddr, exclusive: bool) -> Result<(), LockRefusal>;

    /// The path that the file was last seen under (as the server sees it, e.g. /exports/a/b), from memory only.
    fn path(&self, key: &FileKey) -> Option<PathBuf>;

    /// The same, but may look on the disk (bounded work): call it on a blocking thread only.
    fn find_path(&self, key: &FileKey) -> Option<PathBuf>;
}
