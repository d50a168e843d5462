//! The socket file: made so that it is never open to everybody, taken over from a dead process, never from a living
//! one. Must never delete a file that is not a socket.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::stat::Mode;

use super::lock_file::{LockFile, NotTaken};

/// Owner and group may ask; nobody else.
const MODE: u32 = 0o660;
/// Connections the kernel holds for us until they are accepted.
const BACKLOG: i32 = 64;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process serves it.
    #[error("{} is served by process {pid}; stop it, or give another --socket", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The holder, "unknown" if it cannot be told.
        pid: String,
    },
    /// A file is in the way.
    #[error("{} is there and is not a socket; remove it, or give another --socket", .0.display())]
    NotASocket(PathBuf),
    /// There is no directory for it.
    #[error(
        "cannot make the socket {}: there is no directory {}; make it, or give another --socket",
        path.display(), dir.display()
    )]
    NoDirectory {
        /// The socket.
        path: PathBuf,
        /// Where it would lie.
        dir: PathBuf,
    },
    /// The operating system said no.
    #[error("cannot make the socket {}: {what}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// A listening control socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The name in the file system, and the lock that makes it ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
    _lock: LockFile,
}

impl ControlSocket {
    /// Makes the directory that `path` lies in, and those above it; for a path that nobody chose.
    ///
    /// # Errors
    /// [`SocketError::Io`].
    pub fn make_directory(path: &Path) -> Result<(), SocketError> {
        let Some(dir) = path.parent() else { return Ok(()) };
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir);
        made.map_err(|source| SocketError::Io { path: path.into(), what: "its directory", source })
    }

    /// Makes the socket at `path`, in a directory that is there. Replaces one whose process is gone.
    ///
    /// # Errors
    /// [`SocketError`]; an existing socket is left as it was.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |what, source| SocketError::Io { path: path.into(), what, source };
        if let Some(dir) = path.parent().filter(|dir| !dir.exists()) {
            // A directory made for a mistyped path would hide the mistake.
            return Err(SocketError::NoDirectory { path: path.into(), dir: dir.into() });
        }
        let lock = lock(path)?;
        clear(path)?;
        let listener = listen(path).map_err(|why| failed("binding it", why))?;
        let inode = std::fs::symlink_metadata(path).map_err(|why| failed("looking at it", why))?.ino();
        Ok(Self { listener, file: SocketFile { path: path.into(), inode, _lock: lock } })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode);
        if ours {
            // Best effort: a file left behind is replaced by the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Takes the lock that makes the socket ours.
fn lock(path: &Path) -> Result<LockFile, SocketError> {
    LockFile::take(path).map_err(|why| match why {
        NotTaken::Held(written) => {
            let pid = holder(path).or(written).unwrap_or_else(|| "unknown".into());
            SocketError::InUse { path: path.into(), pid }
        }
        NotTaken::Io(source) => SocketError::Io { path: path.into(), what: "its lock file", source },
    })
}

/// The process that listens at `path`, if one does.
fn holder(path: &Path) -> Option<String> {
    let stream = UnixStream::connect(path).ok()?;
    let peer = nix::sys::socket::getsockopt(&stream, sockopt::PeerCredentials);
    Some(peer.map_or("unknown".into(), |peer| peer.pid().to_string()))
}

/// Removes a dead socket file. We hold the lock, so a living socket here is not one of ours.
fn clear(path: &Path) -> Result<(), SocketError> {
    let failed = |what, source| SocketError::Io { path: path.into(), what, source };
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => Err(SocketError::NotASocket(path.into())),
        Ok(_) => match holder(path) {
            Some(pid) => Err(SocketError::InUse { path: path.into(), pid }),
            None => std::fs::remove_file(path).map_err(|why| failed("removing the old one", why)),
        },
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(()),
        Err(why) => Err(failed("looking at it", why)),
    }
}

fn listen(path: &Path) -> std::io::Result<UnixListener> {
    let socket: OwnedFd = nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    // bind(2) makes the file with the socket's own mode, less the umask: set before, there is no moment in which
    // others may connect. The chmod after it restores what the umask took from the group.
    nix::sys::stat::fchmod(&socket, Mode::from_bits_truncate(MODE))?;
    nix::sys::socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    std::fs::set_permissions(path, Permissions::from_mode(MODE))?;
    nix::sys::socket::listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn the_socket_is_for_owner_and_group_and_goes_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/l.sock");
        let error = ControlSocket::bind(&path).unwrap_err().to_string();
        assert!(error.contains("there is no directory") && !path.parent().unwrap().exists(), "{error}");
        ControlSocket::make_directory(&path).unwrap();
        let socket = ControlSocket::bind(&path).unwrap();
        assert_eq!(mode(&path), 0o660);
        drop(socket);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "nothing stays behind");
    }

    #[test]
    fn the_mode_set_before_bind_is_the_one_of_the_file() {
        // What `listen` relies on for the moment between bind and chmod.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.sock");
        let socket =
            nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
                .unwrap();
        nix::sys::stat::fchmod(&socket, Mode::from_bits_truncate(0o600)).unwrap();
        nix::sys::socket::bind(socket.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_dead_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        ControlSocket::bind(&path).unwrap();
    }

    #[test]
    fn a_living_socket_is_refused_with_the_pid_of_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.sock");
        let _first = ControlSocket::bind(&path).unwrap();
        let error = ControlSocket::bind(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(path.exists());

        let foreign = dir.path().join("f.sock");
        let _listener = UnixListener::bind(&foreign).unwrap();
        let error = ControlSocket::bind(&foreign).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        std::fs::write(&path, "keep").unwrap();
        assert!(matches!(ControlSocket::bind(&path), Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"keep");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no lock file stays behind");
    }

    #[test]
    fn a_socket_that_somebody_replaced_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.sock");
        let socket = ControlSocket::bind(&path).unwrap();
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }
}
