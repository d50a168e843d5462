//! A scratch directory per test that is removed at the end; those of killed runs are removed at the next start.
//!
//! Whose it is says a lock (flock) on the directory, which ends with the process that made it, however that ends. (Not a process id in its
//! name: that means something else in each PID namespace.) Must never remove what does not carry our prefix or whose owner still lives.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{Flock, FlockArg};

const PREFIX: &str = "lockferry-scratch-";

/// A directory that is removed when this goes.
pub(crate) struct Scratch {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Scratch {
    /// A new empty directory, world-traversable.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("{PREFIX}{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => {}
                // A process of the same id in another PID namespace.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
                Err(e) => panic!("scratch directory {}: {e}", path.display()),
            }
            // Somebody who looks for leftovers may be faster, and then it is gone.
            if let Some(lock) = lock(&path).filter(|_| path.exists()) {
                return Self { path, _lock: lock };
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::env::var("LOCKFERRY_TEST_KEEP").is_ok() {
            eprintln!("kept: {}", self.path.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The lock of a directory that nobody holds.
fn lock(path: &Path) -> Option<Flock<File>> {
    let held = Flock::lock(File::open(path).ok()?, FlockArg::LockExclusiveNonblock).ok()?;
    let same = |meta: std::fs::Metadata| held.metadata().is_ok_and(|own| own.ino() == meta.ino());
    std::fs::metadata(path).is_ok_and(same).then_some(held)
}

/// Directories with our prefix whose owner is gone. One that was kept on purpose goes with the next run.
fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if let Some(_lock) = ours.then(|| lock(&entry.path())).flatten() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
