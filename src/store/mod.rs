//! Where the record lives: the store of locks behind [`LockStore`], with the embedded journal as its first kind.
//!
//! What this room must never do: say that something is durable before the disk said so, or skip a corrupt record in
//! silence.

mod interned;
pub mod journal;
mod ledger;
mod lock_store;
pub mod record;
mod rows;
pub mod seen;
mod state_dir;

pub use ledger::Ledger;
pub use lock_store::{
    Batch, Done, Epoch, Listed, LoadReport, LoadSink, Loaded as LoadedEntry, LockStore, Origin, Outcome, Torn,
};
pub use state_dir::{Guard, StateDir};

use std::path::PathBuf;

/// Why the store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("{what} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the directory.
    #[error("{} is in use by another lockferry: give each its own --state-dir", .0.display())]
    InUse(PathBuf),
    /// A file in the state directory cannot be read.
    #[error("{}:{line}: {reason}", .path.display())]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// What is wrong, and what to do.
        reason: &'static str,
    },
    /// A journal cannot be placed there.
    #[error("the journal of {name} cannot be placed: {reason}")]
    BadPlace {
        /// The lock manager.
        name: String,
        /// Why.
        reason: &'static str,
    },
}

impl StoreError {
    fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> StoreError {
        let path = path.to_path_buf();
        move |source| StoreError::Io { what, path, source }
    }
}

/// Replaces `path` by `bytes` so that after a crash it holds either the old or the new ones: written beside it, synced,
/// renamed, directory synced. Returns the new file, open for writing at its end.
fn replace_file(path: &std::path::Path, bytes: &[u8]) -> Result<std::fs::File, StoreError> {
    let (file, new) = write_beside(path, bytes)?;
    put_in_place(path, &new)?;
    Ok(file)
}

/// The first half: nothing has changed yet if this fails.
fn write_beside(path: &std::path::Path, bytes: &[u8]) -> Result<(std::fs::File, PathBuf), StoreError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let new = path.with_extension("new");
    let mut options = std::fs::File::options();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(StoreError::io("cannot create", &new))?;
    file.write_all(bytes).map_err(StoreError::io("cannot write", &new))?;
    file.sync_all().map_err(StoreError::io("cannot sync", &new))?;
    Ok((file, new))
}

/// The second half. If it fails, which of the two a restart finds is not known.
fn put_in_place(path: &std::path::Path, new: &std::path::Path) -> Result<(), StoreError> {
    std::fs::rename(new, path).map_err(StoreError::io("cannot rename to", path))?;
    sync_parent(path)
}

fn sync_parent(path: &std::path::Path) -> Result<(), StoreError> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let dir = above.unwrap_or(std::path::Path::new("."));
    let handle = std::fs::File::open(dir).map_err(StoreError::io("cannot open", dir))?;
    handle.sync_all().map_err(StoreError::io("cannot sync", dir))
}
