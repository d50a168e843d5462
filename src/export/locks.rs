//! What the lock service asks of the exports (`LockFiles`), and the short memory for verdicts. Only `check`
//! and `find_path` look at the disk.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::access::permitted;
use super::handle::Handle;
use super::table::{Export, ExportTable};
use super::{FileKey, LockFiles, LockRefusal};
use crate::rpc::Cred;

/// How long a verdict holds. A change of mode or ownership counts for new locks after that.
const VERDICT_HOLDS: Duration = Duration::from_secs(3);
/// Verdicts kept, about 150 bytes each.
const MAX_VERDICTS: usize = 16_384;

type Verdict = Result<(), LockRefusal>;
type Remembered = HashMap<Box<[u8]>, (Instant, Verdict)>;

/// Verdicts of the last seconds.
#[derive(Default)]
pub(super) struct Verdicts {
    inner: Mutex<Remembered>,
}

impl Verdicts {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        // A panic cannot leave the map half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, question: &[u8]) -> Option<Verdict> {
        let inner = self.lock();
        let (at, verdict) = inner.get(question)?;
        (Instant::now() < *at + VERDICT_HOLDS).then_some(*verdict)
    }

    fn put(&self, question: Box<[u8]>, verdict: Verdict) {
        let now = Instant::now();
        let mut inner = self.lock();
        if inner.len() >= MAX_VERDICTS {
            inner.retain(|_, (at, _)| now < *at + VERDICT_HOLDS);
        }
        if inner.len() >= MAX_VERDICTS {
            inner.clear();
        }
        inner.insert(question, (now, verdict));
    }
}

/// All that a verdict depends on, in bytes.
fn question(handle: &[u8], peer: IpAddr, cred: &Cred, exclusive: bool) -> Box<[u8]> {
    let mut out = Vec::with_capacity(128);
    out.push(u8::from(exclusive));
    match peer {
        IpAddr::V4(addr) => out.extend(addr.octets()),
        IpAddr::V6(addr) => out.extend(addr.octets()),
    }
    if let Cred::Sys(sys) = cred {
        out.extend([sys.uid, sys.gid].iter().chain(&*sys.gids).flat_map(|id| id.to_be_bytes()));
    }
    // Lengths last: with them the parts cannot be shifted against each other.
    out.extend([peer.is_ipv4().into(), u8::from(*cred == Cred::None)]);
    out.extend((handle.len() as u64).to_be_bytes());
    out.extend(handle);
    out.into_boxed_slice()
}

impl ExportTable {
    /// What does not depend on the file: whether the address is in the export's list, and whether it is read-only.
    fn lockable(
        &self,
        handle: &[u8],
        peer: IpAddr,
        exclusive: bool,
    ) -> Result<(&Arc<Export>, Handle), LockRefusal> {
        let (export, handle) = self.lock_export(handle)?;
        self.check_peer(export, peer, None).map_err(|_| LockRefusal::Access)?;
        if exclusive && export.config.read_only {
            return Err(LockRefusal::ReadOnly);
        }
        Ok((export, handle))
    }

    fn verdict(&self, handle: &[u8], peer: IpAddr, cred: &Cred, exclusive: bool) -> Verdict {
        let (export, handle) = self.lockable(handle, peer, exclusive)?;
        let stale = |_| LockRefusal::Stale;
        let tree = self.tree(export).map_err(stale)?;
        let fd = tree.open_file(&self.places, &handle).map_err(stale)?;
        let stat = nix::sys::stat::fstat(&fd).map_err(|_| LockRefusal::Stale)?;
        if stat.st_nlink == 0 {
            return Err(LockRefusal::Stale);
        }
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(LockRefusal::Access);
        }
        let ids = self.ids(export, cred);
        let may = |want| permitted(&ids, stat.st_mode, stat.st_uid, stat.st_gid, want);
        if ids.uid == stat.st_uid || may(4) || may(2) { Ok(()) } else { Err(LockRefusal::Access) }
    }
}

impl LockFiles for ExportTable {
    fn key(&self, handle: &[u8]) -> Result<FileKey, LockRefusal> {
        Ok(self.lock_export(handle)?.1.key())
    }

    fn cached(&self, handle: &[u8], peer: IpAddr, cred: &Cred, exclusive: bool) -> Option<Verdict> {
        self.verdicts.get(&question(handle, peer, cred, exclusive))
    }

    fn check(&self, handle: &[u8], peer: IpAddr, cred: &Cred, exclusive: bool) -> Verdict {
        let verdict = self.verdict(handle, peer, cred, exclusive);
        self.verdicts.put(question(handle, peer, cred, exclusive), verdict);
        verdict
    }

    fn may_reclaim(&self, handle: &[u8], peer: IpAddr, exclusive: bool) -> Verdict {
        self.lockable(handle, peer, exclusive).map(drop)
    }

    fn path(&self, key: &FileKey) -> Option<PathBuf> {
        self.places.path(key)
    }

    fn find_path(&self, key: &FileKey) -> Option<PathBuf> {
        let (fs, file) = key.parts()?;
        for tree in self.trees_on(fs) {
            let handle: Handle = tree.handle(file);
            let Ok(fd) = tree.open_file(&self.places, &handle) else { continue };
            // Where the kernel opened it, it may know its name, unless nobody looked it up since the boot.
            if let Some(path) = tree.path_of(&self.places, fd.as_fd(), &file) {
                return Some(path);
            }
            if tree.find(&self.places, key, &file).is_ok() {
                return self.places.path(key);
            }
        }
        None
    }
}
