//! The disk of each lock manager, as one daemon on one machine has it mounted. Between any two file operations others may act, the daemon
//! may be stopped for a while, killed, or its machine may lose its power; from then on nothing it does reaches the disk.
//!
//! Must never be kinder than a real disk.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use lockferry::store::journal::faults::MemFiles;
use lockferry::store::journal::site::{Site, SiteError};
use lockferry::store::journal::{Files, Handle};
use lockferry::store::record::Durability;
use lockferry_checker::history::Event;

use crate::life::Life;
use crate::sim::Sim;

/// Where journals lie: one directory for each lock manager.
pub const ROOT: &str = "/j";

/// The disks, by directory.
pub type Disks = BTreeMap<PathBuf, MemFiles>;

/// All of them, as one daemon sees them.
pub struct NodeFiles {
    sim: Weak<Sim>,
    life: Arc<Life>,
    disks: Vec<(PathBuf, MemFiles)>,
}

impl std::fmt::Debug for NodeFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeFiles")
    }
}

struct NodeHandle {
    sim: Weak<Sim>,
    life: Arc<Life>,
    handle: Box<dyn Handle>,
    path: PathBuf,
}

/// What came of an operation; the history hears of the failures that only a broken or a full disk has.
fn heard<T>(sim: &Weak<Sim>, life: &Arc<Life>, path: &Path, came: io::Result<T>) -> io::Result<T> {
    if let Err(e) = &came
        && !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists)
        && life.is_alive()
        && let Some(sim) = sim.upgrade()
        && let Some(lm) = path.components().find_map(|part| part.as_os_str().to_str()?.parse().ok())
    {
        sim.record(Event::DiskFailed { lm });
    }
    came
}

/// Lets others act, and fails if the daemon is gone.
fn step(sim: &Weak<Sim>, life: &Arc<Life>, what: &str) -> io::Result<()> {
    if life.is_alive()
        && let Some(sim) = sim.upgrade()
    {
        sim.at_file_operation(life, what)?;
    }
    if life.is_alive() { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
}

impl NodeFiles {
    /// `disks` as this daemon's machine has them mounted.
    pub fn new(sim: Weak<Sim>, life: Arc<Life>, disks: Disks) -> Self {
        Self { sim, life, disks: disks.into_iter().collect() }
    }

    fn of(&self, path: &Path, what: &str) -> io::Result<&MemFiles> {
        step(&self.sim, &self.life, what)?;
        let found = self.disks.iter().find(|(dir, _)| lies_in(path, dir));
        found.map(|(_, files)| files).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn heard<T>(&self, path: &Path, came: io::Result<T>) -> io::Result<T> {
        heard(&self.sim, &self.life, path, came)
    }

    fn handle(&self, path: &Path, handle: Box<dyn Handle>) -> Box<dyn Handle> {
        Box::new(NodeHandle { sim: self.sim.clone(), life: self.life.clone(), handle, path: path.into() })
    }
}

/// As `starts_with`, byte by byte: our own paths have one spelling.
fn lies_in(path: &Path, dir: &Path) -> bool {
    let rest = path.as_os_str().as_encoded_bytes().strip_prefix(dir.as_os_str().as_encoded_bytes());
    rest.is_some_and(|rest| rest.first().is_none_or(|first| *first == b'/'))
}

impl Files for NodeFiles {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.heard(dir, self.of(dir, "make_dir")?.make_dir(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.heard(dir, self.of(dir, "list")?.list(dir))
    }

    fn each_name(&self, dir: &Path, see: &mut dyn FnMut(&str)) -> io::Result<()> {
        self.heard(dir, self.of(dir, "list")?.each_name(dir, see))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        if path == Path::new(ROOT) {
            return Ok(true);
        }
        self.heard(path, self.of(path, "exists")?.exists(path))
    }

    fn is_dir(&self, dir: &Path) -> io::Result<bool> {
        self.heard(dir, self.of(dir, "is_dir")?.is_dir(dir))
    }

    fn site(&self, dir: &Path, durability: Durability) -> Result<Site, SiteError> {
        let io = |source| SiteError::Io { what: "cannot look at", path: dir.into(), source };
        self.of(dir, "site").map_err(io)?.site(dir, durability)
    }

    fn free(&self, dir: &Path) -> u64 {
        self.of(dir, "free").map_or(u64::MAX, |files| files.free(dir))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let handle = self.heard(path, self.of(path, "create")?.create_new(path))?;
        Ok(self.handle(path, handle))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let handle = self.heard(path, self.of(path, "open")?.open(path))?;
        Ok(self.handle(path, handle))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let handle = self.heard(path, self.of(path, "open")?.open_write(path))?;
        Ok(self.handle(path, handle))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.heard(from, self.of(from, "rename")?.rename(from, to))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.heard(from, self.of(from, "link")?.link(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.heard(path, self.of(path, "remove")?.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.heard(dir, self.of(dir, "sync_dir")?.sync_dir(dir))
    }
}

impl Handle for NodeHandle {
    fn size(&self) -> io::Result<u64> {
        step(&self.sim, &self.life, "size")?;
        heard(&self.sim, &self.life, &self.path, self.handle.size())
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        step(&self.sim, &self.life, "read")?;
        heard(&self.sim, &self.life, &self.path, self.handle.read_at(buf, at))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        step(&self.sim, &self.life, "write")?;
        heard(&self.sim, &self.life, &self.path, self.handle.write_at(bytes, at))
    }

    fn sync(&self) -> io::Result<()> {
        step(&self.sim, &self.life, "sync")?;
        heard(&self.sim, &self.life, &self.path, self.handle.sync())
    }

    fn drop_cache(&self) {
        self.handle.drop_cache();
    }
}
