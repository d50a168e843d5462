//! The control files: a FUSE file system in which a shell writes verbs and reads lists (docs/control-files.md). A write returns
//! when the verb is done, with its errno. Must never work in the thread that takes the kernel's requests, and the daemon must
//! never touch its own mount: either would wait for itself.

mod content;
mod mount;
mod pool;
mod reply;
mod requests;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::mount::Mounted;
use super::front::Front;

/// Why there are no control files. The daemon goes on without them.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Not root.
    #[error("mounting them needs root (CAP_SYS_ADMIN)")]
    NotAllowed,
    /// The kernel has no FUSE, or the container none of it.
    #[error("FUSE cannot be used here: {0}")]
    NoFuse(std::io::Error),
    /// Another process of ours has them.
    #[error("{} is served by process {pid}", path.display())]
    InUse {
        /// The mount point.
        path: PathBuf,
        /// The holder, "unknown" if it cannot be told.
        pid: String,
    },
    /// Somebody mounted something there.
    #[error("another file system ({kind}) is mounted on {}", path.display())]
    Foreign {
        /// The mount point.
        path: PathBuf,
        /// Its type.
        kind: String,
    },
    /// Mounting would hide something, or is not possible.
    #[error("{} {what}", path.display())]
    Unfit {
        /// The mount point.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The operating system said no.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// The mount point.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// The mounted control files. Dropping it takes them away, also while somebody has one open.
#[derive(Debug)]
pub struct ControlFiles {
    mounted: Mounted,
}

impl ControlFiles {
    /// Mounts them at `path`, a directory that is empty or not there yet. What a killed process of ours left there is taken
    /// away first; anybody else's mount is left alone.
    ///
    /// # Errors
    /// [`FilesError`]; nothing is mounted then.
    pub fn mount(path: &Path, front: Arc<Front>) -> Result<Self, FilesError> {
        let requests = requests::Requests::start(front).map_err(|source| FilesError::Io {
            path: path.into(),
            what: "cannot start the threads for",
            source,
        })?;
        Ok(Self { mounted: mount::mount(path, requests)? })
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        self.mounted.path()
    }
}
