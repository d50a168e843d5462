//! Exports that come and go with their lock managers: closed when nobody serves them here any more, so that their disk can be unmounted;
//! opened again by whoever takes a lock manager up. Must never open one that was closed for a request that came late.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::fcntl::OFlag;

use super::table::{Closing, Export, ExportTable};
use super::tree::export_number;
use super::{FileKey, LockFiles};

/// Why a path has no file key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is in no export.
    #[error("{} lies in no export", .0.display())]
    Outside(PathBuf),
    /// Its export is not served here now.
    #[error("the export {} is not open here: no lock manager that serves it is loaded", .0.display())]
    Closed(PathBuf),
    /// The disk says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ExportTable {
    /// Closes an export until [`resume`](Self::resume): every descriptor below it goes, requests that are at work there are waited for up
    /// to `patience`. True: nothing is open any more, umount succeeds.
    pub fn suspend(&self, path: &Path, patience: Duration) -> bool {
        self.await_closed(self.shut(path), patience)
    }

    /// The first half of that: no request opens it any more. Does not wait.
    pub fn shut(&self, path: &Path) -> Closing {
        if let Some(export) = self.configured(path) {
            export.suspended.store(true, Ordering::Release);
        }
        self.begin_close(path)
    }

    /// Opens an export (again) and returns how its files' keys begin. The error says why not.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn resume(&self, path: &Path) -> Result<Box<[u8]>, String> {
        let Some(export) = self.configured(path) else {
            return Err(format!("{} is not exported", path.display()));
        };
        export.suspended.store(false, Ordering::Release);
        match self.tree_now(export) {
            Ok(tree) => Ok(tree.identity.id.to_be_bytes().into()),
            Err(_) => Err(export
                .problem()
                .unwrap_or_else(|| format!("the export {} cannot be opened now", path.display()))),
        }
    }

    /// Whether this directory is exported, and how the settings spell it.
    pub fn find_configured(&self, path: &Path) -> Option<&Path> {
        self.configured(path).map(|export| export.config.path.as_path())
    }

    /// The export that a path lies in.
    pub fn find_export(&self, path: &Path) -> Option<&Path> {
        self.export_at(path).map(|(export, _)| export.config.path.as_path())
    }

    /// The number that an export has in handles.
    pub fn number_of(path: &Path) -> u64 {
        export_number(path)
    }

    /// How the keys of an export's files begin, if it is open.
    pub fn prefix_of(&self, path: &Path) -> Option<Box<[u8]>> {
        self.open_tree(self.configured(path)?).map(|tree| tree.identity.id.to_be_bytes().into())
    }

    /// The key of a file by its path. Blocks on the disk.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn key_of_path(&self, path: &Path) -> Result<FileKey, KeyError> {
        let Some((export, _)) = self.export_at(path) else { return Err(KeyError::Outside(path.into())) };
        let Some(tree) = self.open_tree(export) else {
            return Err(KeyError::Closed(export.config.path.clone()));
        };
        let failed = |errno: nix::errno::Errno| KeyError::Io { path: path.into(), source: errno.into() };
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).map_err(failed)?;
        let stat = nix::sys::stat::fstat(&fd).map_err(failed)?;
        if stat.st_dev != tree.device {
            return Err(KeyError::Outside(path.into()));
        }
        let file = tree.file_id(fd.as_fd(), &stat).map_err(failed)?;
        Ok(tree.handle(file).key())
    }

    /// What a file is called, for the log: its path where it was seen lately, else its handle. No system call.
    pub fn name_of(&self, file: &[u8]) -> String {
        match LockFiles::path(self, &FileKey(file.into())) {
            Some(path) => path.display().to_string(),
            None => format!("handle:{}", file.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        }
    }

    fn configured(&self, path: &Path) -> Option<&Arc<Export>> {
        let number = export_number(path);
        self.exports().iter().find(|e| e.number == number && e.config.path.components().eq(path.components()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::config::ExportConfig;

    #[test]
    fn a_suspended_export_holds_nothing_open_and_no_late_request_opens_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "x").unwrap();
        let table = ExportTable::open(&[ExportConfig::new(dir.path().into())]);
        let key = table.key_of_path(&dir.path().join("f")).unwrap();
        let prefix = table.prefix_of(dir.path()).unwrap();
        assert!(key.0.starts_with(&prefix));
        assert!(table.suspend(dir.path(), Duration::from_secs(1)));
        assert!(table.tree_now(table.configured(dir.path()).unwrap()).is_err());
        assert!(matches!(table.key_of_path(&dir.path().join("f")), Err(KeyError::Closed(_))));
        assert_eq!(table.resume(dir.path()).unwrap(), prefix);
        assert_eq!(table.key_of_path(&dir.path().join("f")).unwrap(), key);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let table = ExportTable::open(&[ExportConfig::new(gone.clone())]);
        table.suspend(&gone, Duration::ZERO);
        let said = table.resume(&gone).unwrap_err();
        assert!(said.contains("gone") && said.contains("mount what belongs there"), "{said}");
        assert!(table.resume(Path::new("/nowhere")).unwrap_err().contains("is not exported"));
    }
}
