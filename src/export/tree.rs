//! One opened export directory: from handles to files and back. The system calls block, so only threads for
//! file work may come here. Must never follow a symbolic link or leave the export's mount.
//!
//! Two ways to open a handle. With CAP_DAC_READ_SEARCH the kernel does it. Without, the file is opened under
//! the name it was last seen by and its handle compared; where that fails the tree is searched for it.
//!
//! As with `no_subtree_check` of exports(5), a handle that a client makes up can name any file of the file
//! system that the export is on, not only those below the exported directory: export a whole file system
//! where that matters.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, fstat};

use super::FileKey;
use super::error::FsError;
use super::handle::{FileId, Handle, stable_hash};
use super::handle_sys::{entries, getdents, handle_of, open_handle};
use super::identity::{Identity, Source, identify};
use super::places::Places;
use crate::node::config::ExportConfig;

/// A search for a file stops after this many names...
const SEARCH_NAMES: usize = 1_000_000;
/// ...or this long: a client waits for it.
const SEARCH_TIME: Duration = Duration::from_secs(10);
/// Directories that a search keeps in mind at once.
const SEARCH_PENDING: usize = 100_000;
/// A complete search without success answers for later ones this long, so that made-up handles cost one
/// search a while and not one each.
const SEARCH_HOLDS: Duration = Duration::from_secs(2);

/// An opened export directory.
pub(super) struct Tree {
    /// The export's number in handles.
    pub(super) export: u64,
    /// The directory as configured.
    pub(super) path: PathBuf,
    /// The file system's name.
    pub(super) identity: Identity,
    /// Whether the kernel opens handles for us.
    pub(super) by_handle: bool,
    /// Whether it does not because the daemon may not ask it to.
    pub(super) lacks_privilege: bool,
    /// Whether the file system has handles at all.
    pub(super) has_handles: bool,
    /// The directory itself.
    pub(super) root: FileId,
    pub(super) root_ino: u64,
    dir: OwnedFd,
    pub(super) device: u64,
    /// When the last complete search began.
    searched: Mutex<Option<Instant>>,
}

/// The number of an export in handles: from its path, which clients name as well.
pub(super) fn export_number(path: &Path) -> u64 {
    // Without a trailing slash and the like, which another node's settings may have.
    let path: PathBuf = path.components().collect();
    stable_hash(&[b"export", path.as_os_str().as_bytes()])
}

impl Tree {
    /// Opens the directory of an export and finds out what can be done there.
    pub(super) fn open(config: &ExportConfig) -> Result<Self, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::open(&config.path, flags, nix::sys::stat::Mode::empty())?;
        let stat = fstat(&dir)?;
        let identity = identify(dir.as_fd(), config.fsid)?;
        let (root, has_handles) = match handle_of(dir.as_fd()) {
            Ok(handle) => (FileId::Kernel(handle), true),
            Err(Errno::EOPNOTSUPP | Errno::EOVERFLOW | Errno::ENOSYS | Errno::EPERM) => {
                (FileId::Inode(stat.st_ino), false)
            }
            Err(other) => return Err(other),
        };
        let opened = match &root {
            FileId::Kernel(handle) => open_handle(dir.as_fd(), handle).map(drop),
            FileId::Inode(_) => Err(Errno::EOPNOTSUPP),
        };
        Ok(Self {
            export: export_number(&config.path),
            path: config.path.clone(),
            identity,
            by_handle: opened.is_ok(),
            lacks_privilege: opened == Err(Errno::EPERM),
            has_handles,
            root,
            root_ino: stat.st_ino,
            dir,
            device: stat.st_dev,
            searched: Mutex::new(None),
        })
    }

    /// Whether the path still leads to this directory (nothing was mounted or unmounted there).
    pub(super) fn is_current(&self) -> bool {
        nix::sys::stat::stat(&self.path).is_ok_and(|s| s.st_dev == self.device && s.st_ino == self.root_ino)
    }

    /// What an operator should know about it.
    pub(super) fn warnings(&self) -> Vec<String> {
        let path = self.path.display();
        let mut out = Vec::new();
        if !self.has_handles {
            out.push(format!(
                "export {path}: the file system has no file handles (overlayfs needs the mount options \
                 nfs_export=on,index=on); files are named by inode number, so a deleted file's handle may \
                 come to mean a new file"
            ));
        }
        if !self.identity.portable && self.identity.source != Source::Configured {
            out.push(format!(
                "export {path}: the file system has no UUID that another node would see too; set `fsid` if \
                 this export is to move between nodes"
            ));
        }
        out
    }

    /// The handle of a file of this export.
    pub(super) fn handle(&self, file: FileId) -> Handle {
        Handle { export: self.export, fs: self.identity.id, file }
    }

    /// The key of the export's directory.
    pub(super) fn root_key(&self) -> FileKey {
        self.handle(self.root).key()
    }

    /// A descriptor for statfs and syncfs.
    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// What the open file is called.
    pub(super) fn file_id(&self, fd: BorrowedFd<'_>, stat: &FileStat) -> Result<FileId, Errno> {
        if self.has_handles { handle_of(fd).map(FileId::Kernel) } else { Ok(FileId::Inode(stat.st_ino)) }
    }

    /// Opens one name in a directory with O_PATH, without following a link. `Mounted`: it belongs to another file system.
    pub(super) fn open_child(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(OwnedFd, FileStat), FsError> {
        let fd = beneath(dir, OsStr::from_bytes(name), OFlag::O_PATH).map_err(|error| match error {
            Errno::EXDEV => FsError::Mounted,
            other => FsError::Os(other),
        })?;
        let stat = fstat(&fd)?;
        if self.is_ours(&stat) { Ok((fd, stat)) } else { Err(FsError::Mounted) }
    }

    /// Whether an object belongs to the file system of the export. Subvolumes of btrfs are no mounts but have
    /// inode numbers of their own; they differ by device, as directories. Files of an overlay may do so as well.
    fn is_ours(&self, stat: &FileStat) -> bool {
        stat.st_dev == self.device || stat.st_mode & libc::S_IFMT != libc::S_IFDIR
    }

    /// The directory above. The export's own directory has none: it is its own. A parent outside the mount
    /// cannot come up, since `dir` lies on it and is not its root.
    pub(super) fn open_parent(
        &self,
        dir: BorrowedFd<'_>,
        id: &FileId,
    ) -> Result<(OwnedFd, FileStat), FsError> {
        if *id == self.root {
            let fd = nix::fcntl::openat(dir, ".", path_flags(), nix::sys::stat::Mode::empty())?;
            let stat = fstat(&fd)?;
            return Ok((fd, stat));
        }
        let how = OpenHow::new().flags(path_flags()).resolve(ResolveFlag::RESOLVE_NO_XDEV);
        let fd = openat2(dir, "..", how)?;
        let stat = fstat(&fd)?;
        if self.is_ours(&stat) { Ok((fd, stat)) } else { Err(FsError::Mounted) }
    }

    /// Opens what `handle` names (O_PATH). The thread must hold the daemon's own capabilities.
    pub(super) fn open_file(&self, places: &Places, handle: &Handle) -> Result<OwnedFd, FsError> {
        if handle.fs != self.identity.id {
            return Err(FsError::Stale);
        }
        match &handle.file {
            FileId::Kernel(_) if !self.has_handles => Err(FsError::Stale),
            FileId::Kernel(kernel) if self.by_handle => {
                open_handle(self.dir(), kernel).map_err(|error| match error {
                    Errno::ENFILE | Errno::EMFILE | Errno::ENOMEM | Errno::EIO => FsError::Os(error),
                    _ => FsError::Stale,
                })
            }
            FileId::Inode(_) if self.has_handles => Err(FsError::Stale),
            _ => self.open_by_name(places, handle),
        }
    }

    fn open_by_name(&self, places: &Places, handle: &Handle) -> Result<OwnedFd, FsError> {
        if handle.file == self.root {
            return Ok(nix::fcntl::openat(&self.dir, ".", path_flags(), nix::sys::stat::Mode::empty())?);
        }
        self.find(places, &handle.key(), &handle.file)
    }

    /// Opens a file under its last name, or searches for it. Busy: the search was cut short.
    pub(super) fn find(&self, places: &Places, key: &FileKey, file: &FileId) -> Result<OwnedFd, FsError> {
        let asked = Instant::now();
        if let Some(fd) = self.try_place(places, key, file) {
            return Ok(fd);
        }
        // One search at a time; who waited for it may find its file found.
        let mut searched = self.searched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fd) = self.try_place(places, key, file) {
            return Ok(fd);
        }
        if searched.is_some_and(|at| at + SEARCH_HOLDS > asked) {
            return Err(FsError::Stale);
        }
        let begun = Instant::now();
        match self.search(places, file) {
            // Gone again already: it is on the move.
            Search::Found => self.try_place(places, key, file).ok_or(FsError::Busy),
            Search::Complete => {
                *searched = Some(begun);
                Err(FsError::Stale)
            }
            Search::CutShort => Err(FsError::Busy),
        }
    }

    /// Opens the file under the name it was last seen by, if that is still its name.
    fn try_place(&self, places: &Places, key: &FileKey, file: &FileId) -> Option<OwnedFd> {
        let path = places.below(&self.root_key(), key)?;
        let fd = beneath(self.dir(), path.as_os_str(), OFlag::O_PATH).ok()?;
        let stat = fstat(&fd).ok()?;
        (self.file_id(fd.as_fd(), &stat).ok()? == *file).then_some(fd)
    }

    /// Looks through the whole tree for a file and notes every name on the way.
    fn search(&self, places: &Places, wanted: &FileId) -> Search {
        let deadline = Instant::now() + SEARCH_TIME;
        let mut left = SEARCH_NAMES;
        let mut complete = true;
        let mut pending = VecDeque::from([(PathBuf::new(), Arc::new(self.root_key()))]);
        let mut buffer = vec![0; 32 * 1024];
        while let Some((path, key)) = pending.pop_front() {
            let at = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
            let dir = match beneath(self.dir(), at.as_os_str(), OFlag::O_DIRECTORY) {
                Ok(dir) => dir,
                Err(error) => {
                    complete &= is_no_way(&FsError::Os(error));
                    continue;
                }
            };
            loop {
                let used = match getdents(dir.as_fd(), &mut buffer) {
                    Ok(0) => break,
                    Ok(used) => used,
                    Err(_) => {
                        complete = false;
                        break;
                    }
                };
                for entry in entries(&buffer[..used]).filter(|e| e.name != b"." && e.name != b"..") {
                    if left == 0 || (left.is_multiple_of(256) && Instant::now() > deadline) {
                        return Search::CutShort;
                    }
                    left -= 1;
                    let (id, is_dir) = match self.identify_child(dir.as_fd(), entry.name) {
                        Ok(found) => found,
                        Err(error) => {
                            complete &= is_no_way(&error);
                            continue;
                        }
                    };
                    let below = || path.join(OsStr::from_bytes(entry.name));
                    let child = self.handle(id).key();
                    places.remember(child.clone(), &key, entry.name);
                    if *wanted == id {
                        // In a very large tree the directories above may be forgotten already.
                        self.note(places, &below());
                        return Search::Found;
                    }
                    if is_dir && pending.len() < SEARCH_PENDING {
                        pending.push_back((below(), Arc::new(child)));
                    } else {
                        complete &= !is_dir;
                    }
                }
            }
        }
        if complete { Search::Complete } else { Search::CutShort }
    }

    fn identify_child(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(FileId, bool), FsError> {
        let (fd, stat) = self.open_child(dir, name)?;
        Ok((self.file_id(fd.as_fd(), &stat)?, stat.st_mode & libc::S_IFMT == libc::S_IFDIR))
    }

    /// Walks down a path below the export and notes each name. What is at its end.
    fn note(&self, places: &Places, below: &Path) -> Option<FileId> {
        let mut at = self.root;
        let mut dir: Option<OwnedFd> = None;
        for part in below.components() {
            let name = part.as_os_str().as_bytes();
            let parent = dir.as_ref().map_or(self.dir(), |dir| dir.as_fd());
            let (child, stat) = self.open_child(parent, name).ok()?;
            let id = self.file_id(child.as_fd(), &stat).ok()?;
            places.remember(self.handle(id).key(), &Arc::new(self.handle(at).key()), name);
            (at, dir) = (id, Some(child));
        }
        Some(at)
    }

    /// The path of an open file below this export, as the kernel knows it. Verified: the path leads to the
    /// file; and noted.
    pub(super) fn path_of(&self, places: &Places, fd: BorrowedFd<'_>, file: &FileId) -> Option<PathBuf> {
        let path = std::fs::read_link(proc_path(fd)).ok()?;
        let root = std::fs::read_link(proc_path(self.dir())).ok()?;
        let below = path.strip_prefix(&root).ok()?;
        (self.note(places, below)? == *file).then(|| self.path.join(below))
    }
}

/// Whether an error means that no client can have come this way: other than, say, too many open files.
fn is_no_way(error: &FsError) -> bool {
    let errno = match error {
        FsError::Mounted => return true,
        FsError::Os(errno) => *errno,
        _ => return false,
    };
    matches!(errno, Errno::ENOENT | Errno::EACCES | Errno::ENOTDIR | Errno::EXDEV | Errno::ELOOP)
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    /// The file was seen, its name is noted.
    Found,
    /// Everything was seen and it was not there.
    Complete,
    /// A limit was reached.
    CutShort,
}

fn path_flags() -> OFlag {
    OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// Opens a relative path below `dir` without following links or crossing mounts.
fn beneath(dir: BorrowedFd<'_>, path: &OsStr, flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV,
    );
    // EAGAIN: a rename elsewhere came in between (openat2(2)).
    for _ in 0..8 {
        match openat2(dir, path, how) {
            Err(Errno::EAGAIN) => {}
            other => return other,
        }
    }
    openat2(dir, path, how)
}

/// The name under which an open file can be opened again, with other flags.
pub(super) fn proc_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
