//! A file as one request sees it: opened by its handle, on behalf of its caller. Used by the NFS and MOUNT
//! services on the threads of the pool. Must never be kept beyond the request.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, fstat};

use super::FileKey;
use super::cred_sys::{Ids, ThreadCreds};
use super::dir::DirReader;
use super::error::FsError;
use super::files::{FileUse, OpenFile};
use super::handle::FileId;
use super::handle_sys::may_access;
use super::table::{Export, ExportTable};
use super::tree::{Tree, proc_path};
use crate::rpc::CallInfo;

/// One request at work.
pub(crate) struct Session<'a> {
    pub(crate) table: &'a ExportTable,
    creds: &'a ThreadCreds,
    info: &'a CallInfo,
}

/// An opened file (O_PATH) of an export. The thread acts as the caller once one of these exists.
pub(crate) struct Object {
    export: Arc<Export>,
    tree: Arc<Tree>,
    ids: Ids,
    id: FileId,
    fd: OwnedFd,
    /// Attributes when it was opened.
    pub(crate) stat: FileStat,
}

/// A descriptor for reading or writing data.
pub(crate) struct Data(OpenFile);

impl Data {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    pub(crate) fn stat(&self) -> Result<FileStat, FsError> {
        Ok(fstat(self.fd())?)
    }

    /// The file system's name in attributes.
    pub(crate) fn fs(&self) -> u64 {
        self.0.tree.identity.id
    }
}

/// What a request wants with a file's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl<'a> Session<'a> {
    pub(crate) fn new(table: &'a ExportTable, creds: &'a ThreadCreds, info: &'a CallInfo) -> Self {
        Self { table, creds, info }
    }

    /// Opens what a handle names, if the caller may use its export, and from here on acts as the caller.
    pub(crate) fn open(&self, handle: &[u8]) -> Result<Object, FsError> {
        let (export, handle) = self.table.export_of(handle)?;
        self.table.check_caller(export, self.info.peer)?;
        let tree = self.tree(export)?;
        let fd = self.creds.raised(|| tree.open_file(&self.table.places, &handle))?;
        let stat = fstat(&fd)?;
        self.object(export.clone(), tree, handle.file, fd, stat)
    }

    /// Opens the directory that a path leads to, for mounting. The walk has the daemon's own rights: whether
    /// root may look into it does not decide whether it can be mounted.
    pub(crate) fn open_path(&self, path: &Path) -> Result<Object, FsError> {
        let (export, rest) = self.table.export_at(path).ok_or(FsError::NotExported)?;
        self.table.check_caller(export, self.info.peer)?;
        let tree = self.tree(export)?;
        let (id, fd, stat) = self.creds.raised(|| self.walk(&tree, rest))?;
        self.object(export.clone(), tree, id, fd, stat)
    }

    /// The open directory of an export. Opening it needs the daemon's own rights.
    fn tree(&self, export: &Export) -> Result<Arc<Tree>, FsError> {
        match self.table.fresh_tree(export) {
            Some(tree) => Ok(tree),
            None => self.creds.raised(|| self.table.tree(export)),
        }
    }

    fn walk(&self, tree: &Arc<Tree>, rest: &Path) -> Result<(FileId, OwnedFd, FileStat), FsError> {
        use std::os::unix::ffi::OsStrExt;
        let (mut fd, mut stat) = tree.open_parent(tree.dir(), &tree.root)?;
        let mut id = tree.root;
        for part in rest.components() {
            let Component::Normal(name) = part else { return Err(FsError::Os(Errno::EINVAL)) };
            let parent = Arc::new(tree.handle(id).key());
            (fd, stat) = tree.open_child(fd.as_fd(), name.as_bytes())?;
            id = tree.file_id(fd.as_fd(), &stat)?;
            self.table.places.remember(tree.handle(id).key(), &parent, name.as_bytes());
        }
        Ok((id, fd, stat))
    }

    fn object(
        &self,
        export: Arc<Export>,
        tree: Arc<Tree>,
        id: FileId,
        fd: OwnedFd,
        stat: FileStat,
    ) -> Result<Object, FsError> {
        if stat.st_nlink == 0 {
            return Err(FsError::Stale);
        }
        let ids = self.table.ids(&export, &self.info.cred);
        self.creds.act_as(&ids)?;
        Ok(Object { export, tree, ids, id, fd, stat })
    }

    /// Opens one name in a directory. "." and ".." are understood; the export's own directory is its own parent.
    pub(crate) fn lookup(&self, dir: &Object, name: &[u8]) -> Result<Object, FsError> {
        let tree = &dir.tree;
        let (fd, stat) = match name {
            b"." | b".." => {
                dir.must_be_directory()?;
                may_access(dir.fd(), libc::X_OK)?;
                match name {
                    b".." => tree.open_parent(dir.fd(), &dir.id)?,
                    _ => return self.open(&dir.handle()),
                }
            }
            name => tree.open_child(dir.fd(), name)?,
        };
        let id = tree.file_id(fd.as_fd(), &stat)?;
        let child =
            Object { export: dir.export.clone(), tree: tree.clone(), ids: dir.ids.clone(), id, fd, stat };
        if name != b".." {
            self.remember(dir, name, &child);
        }
        Ok(child)
    }

    /// Takes over a file that was just created as `name` in `dir` and is open as `fd`.
    pub(crate) fn adopt(&self, dir: &Object, name: &[u8], fd: OwnedFd) -> Result<Object, FsError> {
        let stat = fstat(&fd)?;
        let id = dir.tree.file_id(fd.as_fd(), &stat)?;
        let (export, tree, ids) = (dir.export.clone(), dir.tree.clone(), dir.ids.clone());
        let child = Object { export, tree, ids, id, fd, stat };
        self.remember(dir, name, &child);
        Ok(child)
    }

    /// Notes under which name a file was seen.
    pub(crate) fn remember(&self, dir: &Object, name: &[u8], child: &Object) {
        self.table.places.remember(child.key(), &Arc::new(dir.key()), name);
    }

    /// Notes that a name is gone, and closes the file if that was its last one.
    pub(crate) fn forget(&self, dir: &Object, name: &[u8], child: &Object) {
        let key = child.key();
        self.table.places.forget(&key, &dir.key(), name);
        self.table.files.forget(&key);
    }

    /// Opens a file's data. The owner may always read and write, and who may execute may read (RFC 1813
    /// section 4.4): what a client opened before must stay usable.
    pub(crate) fn data(&self, object: &Object, access: Access) -> Result<Data, FsError> {
        object.must_be_file()?;
        let write = access == Access::Write;
        let flags = if write { OFlag::O_WRONLY } else { OFlag::O_RDONLY };
        let fd = match object.reopen(flags) {
            Err(Errno::EACCES) if self.may_override(object, write) => {
                self.creds.raised(|| object.reopen(flags))?
            }
            other => other?,
        };
        Ok(self.keep(object, write, fd, false))
    }

    fn may_override(&self, object: &Object, write: bool) -> bool {
        object.ids.uid == object.stat.st_uid || (!write && may_access(object.fd(), libc::X_OK).is_ok())
    }

    /// Puts a descriptor of this caller's into the table of open files.
    fn keep(&self, object: &Object, write: bool, fd: OwnedFd, created: bool) -> Data {
        let file = OpenFile::new(fd, object.tree.clone(), &object.stat, created);
        self.table.files.put(object.file_use(write), file.clone());
        Data(file)
    }

    /// Keeps the descriptor of a file that was just created, open for writing.
    pub(crate) fn keep_created(&self, object: &Object, fd: OwnedFd) {
        self.keep(object, true, fd, self.table.acts_as_itself());
    }

    /// A descriptor that an earlier request of the same caller opened, if it is still good. Spares opening by
    /// handle. The caller's address is checked all the same.
    pub(crate) fn kept(&self, handle: &[u8], access: Access) -> Result<Option<(FileKey, Data)>, FsError> {
        let (export, handle) = self.table.export_of(handle)?;
        self.table.check_caller(export, self.info.peer)?;
        let tree = self.tree(export)?;
        let ids = self.table.ids(export, &self.info.cred);
        let key = handle.key();
        let what = FileUse { export: export.number, key: key.clone(), write: access == Access::Write, ids };
        let Some(file) = self.table.files.get(&what) else { return Ok(None) };
        if !Arc::ptr_eq(&file.tree, &tree) || !fstat(&*file.fd).is_ok_and(|stat| file.still_good(&stat)) {
            self.table.files.forget(&key);
            return Ok(None);
        }
        self.creds.act_as(&what.ids)?;
        Ok(Some((key, Data(file))))
    }

    /// Refuses a change on a read-only export.
    pub(crate) fn must_be_writable(&self, handle: &[u8]) -> Result<(), FsError> {
        let (export, _) = self.table.export_of(handle)?;
        if export.config.read_only { Err(FsError::ReadOnly) } else { Ok(()) }
    }

    /// The address and transport that the request came from, and all else about it.
    pub(crate) fn info(&self) -> &CallInfo {
        self.info
    }

    /// Whether the superuser itself asks, and is not squashed, and the daemon can act as it.
    pub(crate) fn is_superuser(&self) -> bool {
        self.creds.can_switch() && self.creds.uid() == 0
    }

    /// Runs `work` with the daemon's own rights.
    pub(crate) fn raised<T>(&self, work: impl FnOnce() -> T) -> T {
        self.creds.raised(work)
    }

    /// Makes an object's attributes, or the names in a directory, durable.
    pub(crate) fn sync(&self, object: &Object) -> Result<(), FsError> {
        let kind = object.stat.st_mode & libc::S_IFMT;
        let opened = match kind {
            libc::S_IFREG | libc::S_IFDIR => self.creds.raised(|| object.reopen(OFlag::O_RDONLY)),
            // Opening a device or a pipe has effects of its own.
            _ => Err(Errno::EINVAL),
        };
        // Where it cannot be opened for it, all of the file system.
        let synced = match opened.map(nix::unistd::fsync) {
            Ok(Err(error)) if has_no_sync(error) => nix::unistd::syncfs(object.tree.dir()),
            Ok(synced) => synced,
            Err(_) => nix::unistd::syncfs(object.tree.dir()),
        };
        match synced {
            Err(error) if has_no_sync(error) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Starts reading a directory at a cookie (0: at its start).
    pub(crate) fn read_dir<'s>(&'s self, dir: &'s Object, cookie: u64) -> Result<DirReader<'s>, FsError> {
        dir.must_be_directory()?;
        // Reading needs no right to search (RFC 1813 section 3.3.16).
        let fd = dir.reopen(OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        DirReader::new(fd, cookie)
    }
}

impl Object {
    /// The handle for clients.
    pub(crate) fn handle(&self) -> Vec<u8> {
        self.tree.handle(self.id).to_bytes()
    }

    /// What the file is called for locks and tables.
    pub(crate) fn key(&self) -> FileKey {
        self.tree.handle(self.id).key()
    }

    /// The O_PATH descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The attributes now.
    pub(crate) fn stat_now(&self) -> Result<FileStat, FsError> {
        Ok(fstat(&self.fd)?)
    }

    /// The file system's name in attributes.
    pub(crate) fn fs(&self) -> u64 {
        self.tree.identity.id
    }

    /// Whether it is the export's own directory.
    pub(crate) fn is_root(&self) -> bool {
        self.id == self.tree.root
    }

    /// Whether both lie in one export.
    pub(crate) fn same_export(&self, other: &Object) -> bool {
        self.export.number == other.export.number
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.export.config.read_only
    }

    /// Whether the caller has access (R_OK, W_OK, X_OK) as far as the kernel is concerned.
    pub(crate) fn permits(&self, mode: libc::c_int) -> bool {
        may_access(self.fd(), mode).is_ok()
    }

    /// A path that leads to the open file itself, for calls that take only paths.
    pub(crate) fn proc_path(&self) -> std::path::PathBuf {
        proc_path(self.fd())
    }

    /// Opens the file again with other flags, by the rights the thread has now.
    pub(crate) fn reopen(&self, flags: OFlag) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        nix::fcntl::open(&self.proc_path(), flags, Mode::empty())
    }

    pub(crate) fn must_be_directory(&self) -> Result<(), FsError> {
        if self.stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            Ok(())
        } else {
            Err(FsError::Os(Errno::ENOTDIR))
        }
    }

    /// Data belongs to regular files only.
    pub(crate) fn must_be_file(&self) -> Result<(), FsError> {
        match self.stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => Ok(()),
            libc::S_IFDIR => Err(FsError::Os(Errno::EISDIR)),
            _ => Err(FsError::Os(Errno::EINVAL)),
        }
    }

    fn file_use(&self, write: bool) -> FileUse {
        FileUse { export: self.export.number, key: self.key(), write, ids: self.ids.clone() }
    }
}

/// Whether a sync failed since the file system has no such thing, not since data were lost.
fn has_no_sync(error: Errno) -> bool {
    matches!(error, Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EROFS)
}
