//! A directory for journals that are written to be measured. Must never be one that somebody else uses, nor stay.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where such directories are made: a disk of one's choice, instead of the one that the build is on.
const PLACE: &str = "LOCKFERRY_BENCH_DIR";

/// A directory that goes with the value.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty one, in the directory that `LOCKFERRY_BENCH_DIR` names, or in target/scratch.
    ///
    /// # Errors
    /// It cannot be made there.
    pub fn new() -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/scratch");
        let place = std::env::var_os(PLACE).map_or_else(usual, PathBuf::from);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let dir = place.join(format!("{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|e| {
            format!("{}: {e}: set {PLACE} to a directory that can be written in", dir.display())
        })?;
        Ok(Self(dir))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left over lies in a directory of its own, and hurts nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
