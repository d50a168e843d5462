//! A file system in memory that knows what is durable and what is not: for the crash tests and the simulator. It can be
//! cut off at any operation, fail at any operation, run out of space, and let others act between two operations.
//!
//! What a power cut leaves: of each 512-byte sector written since the last sync the old or any newer contents, of a file's
//! size the old or the new one, of the changes to names since the last sync of the directory any part. Must never be kinder than a
//! real disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::{Files, Handle};
use super::site::{Site, SiteError};
use crate::store::record::Durability;

/// What a disk writes whole.
pub const SECTOR: usize = 512;

/// Called before each operation with its number and name; may use the file system (without being called again).
pub type Hook = Box<dyn FnMut(u64, &str, &MemFiles) + Send>;

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// ENOSPC, after a part of a write.
    NoSpace,
    /// EMFILE: the process or the system is out of descriptors for a moment.
    NoFiles,
    /// EIO, after a part of a write. A failed sync also loses what it should have made durable, while reads still show it.
    Io,
}

/// The file system. Clones share it.
#[derive(Clone, Default)]
pub struct MemFiles {
    inner: Arc<Mutex<Inner>>,
    /// Which of the nodes that have it mounted this one is.
    node: u32,
}

/// A path, byte by byte: to compare paths part by part takes several times as long, and names are looked up before each answer.
type Name = Box<[u8]>;
type Names = BTreeMap<Name, usize>;

#[derive(Default)]
struct Inner {
    inodes: Vec<Inode>,
    /// Always what `changes` make of the durable ones.
    names: Names,
    durable_names: Names,
    /// Directories that were made. They outlive a power cut: whether they do is no question that the journal asks.
    dirs: BTreeSet<Name>,
    /// With the node that made each.
    changes: Vec<(u32, Change)>,
    ops: u64,
    faults: BTreeMap<u64, Fault>,
    /// Files that have lost a name.
    loose: Vec<usize>,
    /// How the next sync fails.
    sync_fault: Option<Fault>,
    space: Option<u64>,
    hook: Option<Hook>,
    random: u64,
}

#[derive(Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Who wrote it last.
    writer: u32,
    /// Shared with whoever has it open.
    open: Arc<()>,
    /// Sectors written since the last sync, in order of the writes, and how far what they held then reaches in `written`.
    pending: Vec<(usize, usize)>,
    /// What each of them held after that write, one behind the other.
    written: Vec<u8>,
}

#[derive(Clone)]
enum Change {
    Add(Name, usize),
    Remove(Name),
    Rename(Name, Name),
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn name(path: &Path) -> Name {
    bytes(path).into()
}

impl MemFiles {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many operations there were.
    pub fn ops(&self) -> u64 {
        self.lock().ops
    }

    /// Operation number `op` (the first is 0) will fail.
    pub fn fail_at(&self, op: u64, fault: Fault) {
        self.lock().faults.insert(op, fault);
    }

    /// The next sync of a file will fail.
    pub fn fail_next_sync(&self, fault: Fault) {
        self.lock().sync_fault = Some(fault);
    }

    /// No operation will fail that was not reached yet.
    pub fn fail_no_more(&self) {
        let mut inner = self.lock();
        inner.faults.clear();
        inner.sync_fault = None;
    }

    /// All files together may have this many bytes; `None`: no limit.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.lock().space = bytes;
    }

    /// Bytes in files now.
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Calls `hook` before each operation from now on.
    pub fn set_hook(&self, hook: Option<Hook>) {
        self.lock().hook = hook;
    }

    /// What a power cut now would leave: another file system. `seed` chooses among all that is possible; 0 is nothing that was
    /// not synced, 1 is everything.
    pub fn crashed(&self, seed: u64) -> MemFiles {
        let inner = self.lock();
        let mut dice = Dice::new(seed);
        let names = dice.names(&inner, None);
        let mut after = Inner::default();
        for (name, old) in names {
            let bytes = dice.contents(&inner.inodes[old]);
            after.names.insert(name, after.inodes.len());
            after.inodes.push(Inode { live: bytes.clone(), durable: bytes, ..Inode::default() });
        }
        after.durable_names = after.names.clone();
        after.dirs = inner.dirs.clone();
        MemFiles { inner: Arc::new(Mutex::new(after)), node: 0 }
    }

    /// The same file system as another node has it mounted: what a node has not synced is lost with that node alone.
    pub fn mounted_by(&self, node: u32) -> MemFiles {
        MemFiles { inner: self.inner.clone(), node }
    }

    /// A node loses its power: of what it wrote and did not sync, and of the names that it changed, anything may be lost, as in
    /// [`MemFiles::crashed`]. Others go on, with the files that they have open.
    pub fn power_cut(&self, node: u32, seed: u64) {
        let mut inner = self.lock();
        let mut dice = Dice::new(seed);
        let durable = dice.names(&inner, Some(node));
        inner.durable_names = durable;
        inner.changes.retain(|(by, _)| *by != node);
        let mut names = inner.durable_names.clone();
        inner.changes.iter().for_each(|(_, change)| change.clone().apply(&mut names));
        inner.names = names;
        for inode in inner.inodes.iter_mut().filter(|inode| inode.writer == node) {
            // After a failed sync nothing is pending, but what was written is not there.
            if inode.pending.is_empty() && inode.live == inode.durable {
                continue;
            }
            inode.live = dice.contents(inode);
            inode.durable = inode.live.clone();
            inode.forget_pending();
        }
    }

    /// Gives back the memory of files that have no name any more. Nobody may have one open.
    pub fn forget_unnamed(&self) {
        let mut inner = self.lock();
        let named: BTreeSet<usize> =
            inner.names.values().chain(inner.durable_names.values()).copied().collect();
        let unnamed = inner.inodes.iter_mut().enumerate().filter(|(id, _)| !named.contains(id));
        unnamed.for_each(|(_, inode)| *inode = Inode::default());
    }

    /// Flips one bit of a file, on the disk and in the cache.
    pub fn flip(&self, path: &Path, bit: u64) -> bool {
        let mut inner = self.lock();
        let Some(id) = inner.names.get(bytes(path)).copied() else { return false };
        let (at, mask) = ((bit / 8) as usize, 1u8 << (bit % 8));
        let inode = &mut inner.inodes[id];
        for bytes in [&mut inode.live, &mut inode.durable] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= mask;
            }
        }
        true
    }

    /// A sector of a file is zeros, on the disk and in the cache: the disk has lost what it said was durable.
    pub fn lose_sector(&self, path: &Path, sector: usize) -> bool {
        let mut inner = self.lock();
        let Some(id) = inner.names.get(bytes(path)).copied() else { return false };
        let inode = &mut inner.inodes[id];
        for bytes in [&mut inode.live, &mut inode.durable] {
            let (from, to) = sector_range(bytes, sector);
            bytes[from..to].fill(0);
        }
        true
    }

    /// Names and contents as a reader sees them.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let inner = self.lock();
        let path = |name: &Name| PathBuf::from(OsStr::from_bytes(name));
        inner.names.iter().map(|(name, id)| (path(name), inner.inodes[*id].live.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation, lets the hook act, and says how the operation shall fail.
    fn begin(&self, what: &str) -> (MutexGuard<'_, Inner>, Option<Fault>) {
        let mut inner = self.lock();
        let op = inner.ops;
        inner.ops += 1;
        let fault = inner.faults.remove(&op);
        if let Some(mut hook) = inner.hook.take() {
            drop(inner);
            hook(op, what, self);
            inner = self.lock();
            inner.hook.get_or_insert(hook);
        }
        (inner, fault)
    }

    fn simple(&self, what: &str) -> io::Result<MutexGuard<'_, Inner>> {
        match self.begin(what) {
            (_, Some(fault)) => Err(fault.error()),
            (inner, None) => Ok(inner),
        }
    }

    fn handle(&self, inner: &Inner, id: usize) -> Box<dyn Handle> {
        Box::new(MemHandle { files: self.clone(), id, _open: inner.inodes[id].open.clone() })
    }
}

impl std::fmt::Debug for MemFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemFiles").field("ops", &self.ops()).finish_non_exhaustive()
    }
}

impl Fault {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Fault::NoSpace => libc::ENOSPC,
            Fault::NoFiles => libc::EMFILE,
            Fault::Io => libc::EIO,
        })
    }
}

impl Inner {
    fn used(&self) -> u64 {
        self.names.values().map(|id| self.inodes[*id].live.len() as u64).sum()
    }

    /// The names of the files in a directory, in order.
    fn inside(&self, dir: &Path) -> impl Iterator<Item = &[u8]> {
        let mut begin = bytes(dir).to_vec();
        if begin.last().is_some_and(|last| *last != b'/') {
            begin.push(b'/');
        }
        let behind = self.names.range::<[u8], _>((Bound::Included(&*begin), Bound::Unbounded));
        let rest = behind.map_while(move |(path, _)| path.strip_prefix(&*begin));
        rest.filter(|rest| !rest.is_empty() && !rest.contains(&b'/'))
    }

    /// Gives back the memory of files that nobody will see again, if a power cut would leave them as they are: of others it decides
    /// something, and chance is drawn for that. All names are durable.
    fn give_back(&mut self) {
        let Inner { loose, inodes, names, .. } = self;
        loose.retain(|id| {
            let inode = &mut inodes[*id];
            let named = || names.values().any(|named| named == id);
            if Arc::strong_count(&inode.open) > 1
                || !inode.pending.is_empty()
                || inode.live.len() != inode.durable.len()
            {
                return true;
            }
            if !named() {
                *inode = Inode::default();
            }
            false
        });
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(bytes(path)).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn write(&mut self, node: u32, id: usize, bytes: &[u8], at: usize) -> io::Result<()> {
        let end = at + bytes.len();
        let growth = end.saturating_sub(self.inodes[id].live.len()) as u64;
        if growth > 0 && self.space.is_some_and(|space| self.used() + growth > space) {
            return Err(Fault::NoSpace.error());
        }
        let inode = &mut self.inodes[id];
        inode.writer = node;
        if at == inode.live.len() {
            inode.live.extend_from_slice(bytes);
        } else {
            if inode.live.len() < end {
                inode.live.resize(end, 0);
            }
            inode.live[at..end].copy_from_slice(bytes);
        }
        if !bytes.is_empty() {
            for sector in at / SECTOR..=(end - 1) / SECTOR {
                let (from, to) = sector_range(&inode.live, sector);
                inode.written.extend_from_slice(&inode.live[from..to]);
                inode.pending.push((sector, inode.written.len()));
            }
        }
        Ok(())
    }
}

impl Inode {
    /// By sector, what it held after each write since the last sync, oldest first.
    fn versions(&self) -> BTreeMap<usize, Vec<&[u8]>> {
        let (mut versions, mut from) = (BTreeMap::<usize, Vec<&[u8]>>::new(), 0);
        for (sector, to) in &self.pending {
            versions.entry(*sector).or_default().push(&self.written[from..*to]);
            from = *to;
        }
        versions
    }

    fn forget_pending(&mut self) {
        self.pending.clear();
        self.written.clear();
    }
}

fn sector_range(bytes: &[u8], sector: usize) -> (usize, usize) {
    let from = (sector * SECTOR).min(bytes.len());
    (from, (from + SECTOR).min(bytes.len()))
}

impl Change {
    fn apply(self, names: &mut Names) {
        match self {
            Change::Add(name, id) => {
                names.insert(name, id);
            }
            Change::Remove(name) => {
                names.remove(&name);
            }
            Change::Rename(from, to) => {
                if let Some(id) = names.remove(&from) {
                    names.insert(to, id);
                }
            }
        }
    }
}

impl Files for MemFiles {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.simple("make_dir")?;
        inner.dirs.extend(dir.ancestors().map(name));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        self.each_name(dir, &mut |name| names.push(name.to_owned()))?;
        Ok(names)
    }

    fn each_name(&self, dir: &Path, see: &mut dyn FnMut(&str)) -> io::Result<()> {
        let inner = self.simple("list")?;
        inner.inside(dir).filter_map(|name| std::str::from_utf8(name).ok()).for_each(see);
        Ok(())
    }

    fn free(&self, _dir: &Path) -> u64 {
        let inner = self.lock();
        inner.space.map_or(u64::MAX, |space| space.saturating_sub(inner.used()))
    }

    fn is_dir(&self, dir: &Path) -> io::Result<bool> {
        let inner = self.simple("is_dir")?;
        if inner.dirs.contains(bytes(dir)) || inner.inside(dir).next().is_some() {
            return Ok(true);
        }
        inner.find(dir).map(|_| false)
    }

    /// As a cluster file system: several nodes may have it mounted.
    fn site(&self, _dir: &Path, _durability: Durability) -> Result<Site, SiteError> {
        Ok(Site { file_system: "memory".into(), shared: true, warning: None })
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let inner = self.simple("exists")?;
        // A directory is there as soon as something is in it.
        let (names, dirs) = (&inner.names, &inner.dirs);
        let there = names.contains_key(bytes(path)) || dirs.contains(bytes(path));
        Ok(there || inner.inside(path).next().is_some())
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let mut inner = self.simple("create")?;
        if inner.names.contains_key(bytes(path)) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let id = inner.inodes.len();
        inner.inodes.push(Inode::default());
        inner.names.insert(name(path), id);
        inner.changes.push((self.node, Change::Add(name(path), id)));
        Ok(self.handle(&inner, id))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let inner = self.simple("open")?;
        let id = inner.find(path)?;
        Ok(self.handle(&inner, id))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let inner = self.simple("open")?;
        let id = inner.find(path)?;
        Ok(self.handle(&inner, id))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.simple("rename")?;
        let id = inner.find(from)?;
        inner.names.remove(bytes(from));
        let replaced = inner.names.insert(name(to), id);
        inner.loose.extend(replaced);
        inner.changes.push((self.node, Change::Rename(name(from), name(to))));
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.simple("link")?;
        let id = inner.find(from)?;
        if inner.names.contains_key(bytes(to)) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        inner.names.insert(name(to), id);
        inner.changes.push((self.node, Change::Add(name(to), id)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.simple("remove")?;
        let id = inner.find(path)?;
        inner.loose.push(id);
        inner.names.remove(bytes(path));
        inner.changes.push((self.node, Change::Remove(name(path))));
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut inner = self.simple("sync_dir")?;
        let Inner { changes, durable_names, .. } = &mut *inner;
        changes.drain(..).for_each(|(_, change)| change.apply(durable_names));
        inner.give_back();
        Ok(())
    }
}

struct MemHandle {
    files: MemFiles,
    id: usize,
    _open: Arc<()>,
}

impl Handle for MemHandle {
    fn size(&self) -> io::Result<u64> {
        Ok(self.files.simple("size")?.inodes[self.id].live.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let inner = self.files.simple("read")?;
        let live = &inner.inodes[self.id].live;
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(live.len());
        let n = buf.len().min(live.len() - from);
        buf[..n].copy_from_slice(&live[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let (mut inner, fault) = self.files.begin("write");
        let at = usize::try_from(at).unwrap_or(usize::MAX / 2);
        let Some(fault) = fault else { return inner.write(self.files.node, self.id, bytes, at) };
        inner.random =
            inner.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The kernel takes whole pages, or none.
        let end = (at + (inner.random >> 33) as usize % (bytes.len() + SECTOR)) / SECTOR * SECTOR;
        let part = end.saturating_sub(at).min(bytes.len());
        inner.write(self.files.node, self.id, &bytes[..part], at)?;
        Err(fault.error())
    }

    fn sync(&self) -> io::Result<()> {
        let (mut inner, fault) = self.files.begin("sync");
        let fault = fault.or(inner.sync_fault.take());
        let inode = &mut inner.inodes[self.id];
        let result = match fault {
            Some(fault) => Err(fault.error()),
            None => {
                let Inode { live, durable, pending, .. } = inode;
                durable.resize(live.len(), 0);
                for (sector, _) in pending {
                    let (from, to) = sector_range(live, *sector);
                    durable[from..to].copy_from_slice(&live[from..to]);
                }
                Ok(())
            }
        };
        inode.forget_pending();
        result
    }

    /// After a failed sync the kernel takes what it could not write for clean: read anew, it is what the disk has. The length stays.
    fn drop_cache(&self) {
        let mut inner = self.files.lock();
        let Inode { live, durable, pending, .. } = &mut inner.inodes[self.id];
        if pending.is_empty() && *live != *durable {
            let length = live.len();
            live.clone_from(durable);
            live.resize(length, 0);
        }
    }
}

/// Chooses what survives.
struct Dice {
    seed: u64,
    random: u64,
}

impl Dice {
    fn new(seed: u64) -> Self {
        Self { seed, random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 }
    }

    fn next(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) as usize % below.max(1)
    }

    /// What is left of the changes to names, of those that `only` made if it is given.
    fn names(&mut self, inner: &Inner, only: Option<u32>) -> Names {
        let mut names = inner.durable_names.clone();
        // One half of the seeds keeps the order of changes, as journalling file systems do; the other does not.
        let prefix = self.seed.is_multiple_of(2).then(|| self.next(inner.changes.len() + 1));
        let mine = |by: u32| only.is_none_or(|only| only == by);
        for (i, (by, change)) in inner.changes.iter().enumerate() {
            if !mine(*by) {
                continue;
            }
            let kept = match (self.seed, prefix) {
                (0, _) => false,
                (1, _) => true,
                (_, Some(prefix)) => i < prefix,
                (_, None) => self.next(2) == 0,
            };
            if kept {
                change.clone().apply(&mut names);
            }
        }
        names
    }

    fn contents(&mut self, inode: &Inode) -> Vec<u8> {
        let mut bytes = inode.durable.clone();
        let grown = inode.live.len() > bytes.len();
        if grown && (self.seed == 1 || (self.seed != 0 && self.next(2) == 0)) {
            bytes.resize(inode.live.len(), 0);
        }
        let pending = inode.versions();
        // Sectors reach the disk in order, or in none.
        let front = (self.seed % 3 == 2).then(|| self.next(pending.len() + 1));
        for (i, (sector, versions)) in pending.iter().enumerate() {
            let newest = versions.len();
            let chosen = match (self.seed, front) {
                (0, _) => 0,
                (1, _) => newest,
                (_, Some(front)) => {
                    if i < front {
                        newest
                    } else {
                        0
                    }
                }
                (_, None) => self.next(newest + 1),
            };
            if let Some(version) = chosen.checked_sub(1).and_then(|n| versions.get(n)) {
                let from = sector * SECTOR;
                for (offset, byte) in version.iter().enumerate() {
                    if let Some(place) = bytes.get_mut(from + offset) {
                        *place = *byte;
                    }
                }
            }
        }
        bytes
    }
}
