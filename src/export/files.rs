//! A few open files, so that a row of READs or WRITEs does not open its file each time. Must never keep a
//! descriptor for longer than a short while without use, or one that the caller could not open now.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::stat::FileStat;

use super::FileKey;
use super::cred_sys::Ids;
use super::tree::Tree;

/// Descriptors kept at once.
const MAX_OPEN: usize = 128;
/// Without use for this long: closed.
const IDLE: Duration = Duration::from_secs(2);
/// The same for a file that was just created by a daemon that cannot act as its callers: its mode may forbid
/// to open it again, and its creator writes on.
const IDLE_CREATED: Duration = Duration::from_secs(60);
/// Access is checked anew after this long, used or not (access control lists may have changed).
const MAX_AGE: Duration = Duration::from_secs(5);

/// Which open file is meant.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct FileUse {
    pub(super) export: u64,
    pub(super) key: FileKey,
    pub(super) write: bool,
    pub(super) ids: Ids,
}

/// An open file and the export it pins.
#[derive(Clone)]
pub(super) struct OpenFile {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) tree: Arc<Tree>,
    /// Mode, owner and group when access was checked.
    rights: (u32, u32, u32),
    /// Whether it is the only way to write to a file that the daemon itself owns.
    created: bool,
    opened: Instant,
    used: Instant,
}

impl OpenFile {
    pub(super) fn new(fd: OwnedFd, tree: Arc<Tree>, stat: &FileStat, created: bool) -> Self {
        let now = Instant::now();
        Self { fd: Arc::new(fd), tree, rights: rights(stat), created, opened: now, used: now }
    }

    /// Whether the access check at opening still holds for the file as it is now.
    pub(super) fn still_good(&self, stat: &FileStat) -> bool {
        (self.created || rights(stat) == self.rights) && stat.st_nlink > 0
    }
}

fn rights(stat: &FileStat) -> (u32, u32, u32) {
    (stat.st_mode, stat.st_uid, stat.st_gid)
}

/// The table.
#[derive(Default)]
pub(super) struct OpenFiles {
    inner: Mutex<HashMap<FileUse, OpenFile>>,
}

impl OpenFiles {
    fn lock(&self) -> MutexGuard<'_, HashMap<FileUse, OpenFile>> {
        // A panic cannot leave the map half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, what: &FileUse) -> Option<OpenFile> {
        let mut inner = self.lock();
        let file = inner.get_mut(what)?;
        let now = Instant::now();
        if !file.created && now >= file.opened + MAX_AGE {
            let old = inner.remove(what);
            drop(inner);
            drop(old);
            return None;
        }
        file.used = now;
        Some(file.clone())
    }

    pub(super) fn put(&self, what: FileUse, file: OpenFile) {
        let mut closed = Vec::new();
        let mut inner = self.lock();
        if inner.len() >= MAX_OPEN
            && let Some(oldest) = inner.iter().min_by_key(|(_, file)| file.used).map(|(what, _)| what.clone())
        {
            closed.extend(inner.remove(&oldest));
        }
        closed.extend(inner.insert(what, file));
        drop(inner);
        // Closing may block (a network file system below): not under the lock.
        drop(closed);
    }

    /// Closes every descriptor of a file, for example since its last name is gone.
    pub(super) fn forget(&self, key: &FileKey) {
        self.close_if(|what, _| what.key == *key);
    }

    /// Closes every descriptor of an export.
    pub(super) fn forget_export(&self, export: u64) {
        self.close_if(|what, _| what.export == export);
    }

    /// Closes what was not used for a while.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.close_if(|_, file| now >= file.used + if file.created { IDLE_CREATED } else { IDLE });
    }

    fn close_if(&self, unwanted: impl Fn(&FileUse, &OpenFile) -> bool) {
        let mut inner = self.lock();
        let closed: Vec<_> = inner.extract_if(|what, file| unwanted(what, file)).collect();
        drop(inner);
        drop(closed);
    }
}
