//! Why a file operation did not happen. The services turn it into their protocols' numbers.

use nix::errno::Errno;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FsError {
    /// The bytes are no handle of ours.
    #[error("not a file handle of this server")]
    BadHandle,
    /// The handle's export or file is gone.
    #[error("stale file handle")]
    Stale,
    /// The path lies in no export.
    #[error("the path is not exported")]
    NotExported,
    /// The export list does not name the caller's address.
    #[error("the caller's address is not on the export list")]
    Address,
    /// The source port is 1024 or above and the export is not `insecure`.
    #[error("the source port is not a reserved one")]
    Port,
    /// A change on a read-only export.
    #[error("the export is read-only")]
    ReadOnly,
    /// Not now: the export's directory is away, or there is too much to do.
    #[error("not available now, try again later")]
    Busy,
    /// Something is mounted there: exports do not reach into other file systems.
    #[error("another file system begins here")]
    Mounted,
    /// What the kernel said.
    #[error("{0}")]
    Os(#[from] Errno),
}
