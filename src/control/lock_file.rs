//! A lock file that says which process is there: held as long as we live, let go by the kernel however we end.
//! Must never follow a link, nor take a file from a living process.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// Why the lock is not ours.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// Another process has it; its id, where it left one.
    Held(Option<String>),
    /// The operating system said no.
    Io(std::io::Error),
}

/// `PATH.lock`, locked. Removed while it is still locked; who opened it before that finds out by [`LockFile::is_current`].
#[derive(Debug)]
pub(super) struct LockFile {
    name: PathBuf,
    lock: Flock<File>,
}

impl LockFile {
    /// Takes `PATH.lock`, and writes our pid into it.
    pub(super) fn take(path: &Path) -> Result<Self, NotTaken> {
        loop {
            let lock = Self::take_once(path)?;
            // Its holder may have removed it between our open and our lock. Each turn needs another process that ends.
            if lock.is_current() {
                return Ok(lock);
            }
        }
    }

    fn take_once(path: &Path) -> Result<Self, NotTaken> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(&name)
            .map_err(NotTaken::Io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                let pid = std::process::id().to_string();
                let written = lock
                    .set_len(0)
                    .and_then(|()| lock.rewind())
                    .and_then(|()| lock.write_all(pid.as_bytes()));
                let lock = Self { name: name.into(), lock };
                written.map_err(NotTaken::Io)?;
                Ok(lock)
            }
            Err((file, nix::errno::Errno::EWOULDBLOCK)) => Err(NotTaken::Held(written_pid(file))),
            Err((_, why)) => Err(NotTaken::Io(why.into())),
        }
    }

    /// Whether the file that is locked still has the name.
    fn is_current(&self) -> bool {
        let inode = self.lock.metadata().map(|meta| meta.ino()).ok();
        inode.is_some() && inode == std::fs::symlink_metadata(&self.name).map(|meta| meta.ino()).ok()
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if self.is_current() {
            // Best effort: one that is left behind is locked again by the next start.
            let _ = std::fs::remove_file(&self.name);
        }
    }
}

fn written_pid(file: File) -> Option<String> {
    let mut text = String::new();
    // A pid has 7 digits at the most; the file may be anybody's.
    file.take(20).read_to_string(&mut text).ok()?;
    text.parse::<u32>().ok().map(|pid| pid.to_string())
}
