//! The file operations that the journal needs, as a trait, and the real ones. Everything the journal does to a disk goes
//! through here, so that tests and the simulator can cut, fail and reorder it.
//!
//! Must never hide an error, nor repeat a failed sync.

use std::fs::{File, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::site::{self, Site, SiteError};
use crate::store::record::Durability;

/// Directory operations. Errors are the system's own.
pub trait Files: Send + Sync + std::fmt::Debug {
    /// Creates a directory and what is missing above it, for its owner only. Durable once `sync_dir` of each was called.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names in a directory, in no order. Names that are not UTF-8 are left out. Reads past caches where it can.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// The same, one by one. `see` does nothing to the file system.
    fn each_name(&self, dir: &Path, see: &mut dyn FnMut(&str)) -> io::Result<()> {
        self.list(dir)?.iter().for_each(|name| see(name));
        Ok(())
    }
    /// Whether a name is there.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Whether this directory is one; an error if there is nothing.
    fn is_dir(&self, dir: &Path) -> io::Result<bool>;
    /// What kind of place a directory is for a journal, if it is fit for one.
    ///
    /// # Errors
    /// [`SiteError`]: it is not.
    fn site(&self, dir: &Path, durability: Durability) -> Result<Site, SiteError>;
    /// Bytes that can still be written there, as far as the file system says; the largest number if it does not.
    fn free(&self, _dir: &Path) -> u64 {
        u64::MAX
    }
    /// Creates a file for writing; AlreadyExists if the name is there.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Handle>>;
    /// Opens a file to read it.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>>;
    /// Opens a file to read what another node wrote, even where this node has an older state of it in its cache.
    fn open_past_caches(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        self.open(path)
    }
    /// Opens a file to read and write it.
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn Handle>>;
    /// Renames; replaces what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name; AlreadyExists if that is there.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes all changes to names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file. Stays readable after its name is gone.
pub trait Handle: Send {
    /// Its size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Reads at most `buf.len()` bytes; 0 at the end.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `bytes`. After an error any part may have been written.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Makes contents and size durable (fdatasync). After an error nothing is known, and nothing will be.
    fn sync(&self) -> io::Result<()>;
    /// Asks that the next reads come from the disk. Best effort.
    fn drop_cache(&self) {}
}

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        // Who has locks here is nobody else's business.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn is_dir(&self, dir: &Path) -> io::Result<bool> {
        Ok(std::fs::metadata(dir)?.is_dir())
    }

    fn site(&self, dir: &Path, durability: Durability) -> Result<Site, SiteError> {
        site::check(dir, durability)
    }

    fn free(&self, dir: &Path) -> u64 {
        let told = nix::sys::statvfs::statvfs(dir);
        told.map_or(u64::MAX, |fs| fs.blocks_available().saturating_mul(fs.fragment_size()))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        Ok(Box::new(open_regular(OpenOptions::new().read(true), path)?))
    }

    fn open_past_caches(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let file = open_regular(OpenOptions::new().read(true), path)?;
        if is_shared(&file)? { Ok(Box::new(Direct::open(path)?)) } else { Ok(Box::new(file)) }
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        Ok(Box::new(open_regular(OpenOptions::new().read(true).write(true), path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// Opens what is there if it is a file: a FIFO would wait for ever for somebody at its other end, and what a device does when it is opened nobody knows.
pub(in crate::store) fn open_regular(how: &OpenOptions, path: &Path) -> io::Result<File> {
    check_regular(std::fs::metadata(path)?.file_type())?;
    // It may be another one by now: that must not wait either.
    let file = how.clone().custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    check_regular(file.metadata()?.file_type())?;
    Ok(file)
}

fn check_regular(found: FileType) -> io::Result<()> {
    let what = match found {
        _ if found.is_file() => return Ok(()),
        _ if found.is_dir() => "a directory",
        _ if found.is_fifo() => "a FIFO",
        _ if found.is_socket() => "a socket",
        _ => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what} and no file: move it away")))
}

/// Whether other nodes may have the same file system mounted.
fn is_shared(file: &File) -> io::Result<bool> {
    let magic = nix::sys::statfs::fstatfs(file)?.filesystem_type().0 as u32;
    Ok(site::SHARED.iter().any(|known| known.magic == magic))
}

/// A file that is read from the disk or the server, never from the page cache (O_DIRECT).
#[derive(Debug)]
pub(super) struct Direct(File);

/// What offsets, lengths and buffers must be a multiple of; the largest that any disk asks for.
const ALIGN: usize = 4096;

impl Direct {
    pub(super) fn open(path: &Path) -> io::Result<Direct> {
        Ok(Direct(OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path)?))
    }
}

impl Handle for Direct {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let skip = (at % ALIGN as u64) as usize;
        let len = (skip + buf.len()).next_multiple_of(ALIGN);
        let mut room = vec![0u8; len + ALIGN];
        let from = room.as_ptr().align_offset(ALIGN);
        let aligned = room.get_mut(from..from + len).ok_or(io::ErrorKind::InvalidInput)?;
        let got = Handle::read_at(&self.0, aligned, at - skip as u64)?;
        let n = got.saturating_sub(skip).min(buf.len());
        buf[..n].copy_from_slice(&aligned[skip..skip + n]);
        Ok(n)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

impl Handle for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        loop {
            match std::os::unix::fs::FileExt::read_at(self, buf, at) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn drop_cache(&self) {
        use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
        // Advice: where it is not taken, the cache is what there is.
        let _ = posix_fadvise(self, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_not_opened_and_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        let _bound = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink("/dev/null", at("device")).unwrap();
        for name in ["fifo", "directory", "socket", "device"] {
            for opened in [Disk.open(&at(name)), Disk.open_past_caches(&at(name)), Disk.open_write(&at(name))]
            {
                let why = opened.err().unwrap().to_string();
                assert!(why.contains(name) || why.contains("FIFO"), "{name}: {why}");
            }
        }
        std::fs::write(at("file"), b"x").unwrap();
        assert_eq!(Disk.open(&at("file")).unwrap().size().unwrap(), 1);
        assert_eq!(Disk.open(&at("none")).err().unwrap().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn past_the_cache_the_same_is_read_at_any_offset() {
        let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..10_001u32).map(|n| (n * 7) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let direct = match Direct::open(&path) {
            Ok(direct) => direct,
            Err(e) => return eprintln!("skipped: no O_DIRECT here: {e}"),
        };
        assert_eq!(direct.size().unwrap(), 10_001);
        for at in [0usize, 1, 511, 4095, 4096, 8192, 9999, 10_000, 10_001, 20_000] {
            for len in [0usize, 1, 100, 4096, 5000, 20_000] {
                let mut buf = vec![0; len];
                let mut got = 0;
                loop {
                    let n = direct.read_at(&mut buf[got..], (at + got) as u64).unwrap();
                    got += n;
                    if n == 0 {
                        break;
                    }
                }
                let expected = &bytes[at.min(bytes.len())..(at + len).min(bytes.len())];
                assert_eq!(&buf[..got], expected, "{len} at {at}");
            }
        }
    }
}
