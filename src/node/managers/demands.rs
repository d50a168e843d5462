//! What must hold before a lock manager is taken up: an address that we hear, exports that are there, a journal on a disk that is fit for
//! one; and what it is bound to. Must never take anything from anybody.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::take_up::{Plan, durability};
use super::{Managers, Slot};
use crate::node::config::TakeUp;
use crate::node::verbs::{Refusal, StartGrace};
use crate::store::Ledger;
use crate::store::journal::site::{self, SiteError};

impl Managers {
    /// Addresses that we do not listen on would never hear anybody.
    pub(super) fn check_address(&self, ip: IpAddr) -> Result<(), Refusal> {
        let bind = &self.rooms.config.bind;
        if ip.is_unspecified() || ip.is_multicast() {
            return Err(Refusal::new(Errno::EINVAL, format!("{ip} is no address of one machine")));
        }
        if bind.is_empty()
            || bind.contains(&ip)
            || bind.iter().any(|b| b.is_unspecified() && b.is_ipv4() == ip.is_ipv4())
        {
            return Ok(());
        }
        let text =
            format!("{ip} is not among the addresses that `bind` names: lockferry does not listen there");
        Err(Refusal::new(Errno::EADDRNOTAVAIL, text))
    }

    /// The settings' spelling of these exports.
    pub(super) fn check_exports(&self, paths: &[PathBuf]) -> Result<BTreeSet<PathBuf>, Refusal> {
        let known = |path: &PathBuf| {
            let found = self.rooms.exports.find_configured(path).map(Path::to_path_buf);
            found.ok_or_else(|| {
                let text =
                    format!("{} is not exported: the settings have no [[export]] for it", path.display());
                Refusal::new(Errno::ENOENT, text)
            })
        };
        paths.iter().map(known).collect()
    }

    pub(super) fn plan(&self, v: &StartGrace, named: BTreeSet<PathBuf>) -> Result<Plan, Refusal> {
        let config = &self.rooms.config;
        let set = config.lock_managers.iter().find(|lm| lm.address == v.ip);
        let exports = match (named.is_empty(), set) {
            (true, Some(set)) => self.check_exports(&set.exports)?,
            _ => named,
        };
        let name = v.ip.to_string();
        let place = v.journal.clone().or_else(|| set.and_then(|set| set.journal.clone()));
        if let Some(dir) = &place {
            self.check_place(v.ip, dir)?;
            self.rooms.journals.place(&name, dir.clone());
        }
        Ok(Plan {
            ip: v.ip,
            exports,
            floating: true,
            grace: v.grace.or_else(|| set.and_then(|set| set.grace)).unwrap_or(config.grace.window),
            how: if v.adopt { TakeUp::Adopt } else { config.on_take_over },
            full: v.full,
            force: v.force,
            dir: self.rooms.journals.dir(&name),
        })
    }

    /// A journal directory that is not there is most likely on a disk that is not mounted: a new one in its place would look like a
    /// lock manager without locks.
    pub(super) fn check_place(&self, ip: IpAddr, dir: &Path) -> Result<(), Refusal> {
        let taken = self
            .slots()
            .iter()
            .find(|(other, slot)| **other != ip && slot.journal == dir)
            .map(|(other, _)| *other);
        if let Some(other) = taken {
            let text =
                format!("{ip}: {} is the journal of {other}: each has a directory of its own", dir.display());
            return Err(Refusal::new(Errno::EBUSY, text));
        }
        match std::fs::metadata(dir) {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => {
                Err(Refusal::new(Errno::ENOTDIR, format!("{ip}: journal {} is no directory", dir.display())))
            }
            Err(e) => {
                let errno = e.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                let what = "mount its disk, or make the directory if this is the first time";
                Err(Refusal::new(errno, format!("{ip}: journal {}: {e}: {what}", dir.display())))
            }
        }
    }

    /// Refuses file systems on which two owners could both believe in themselves.
    pub(super) fn check_site(&self, plan: &Plan) -> Result<(), Refusal> {
        let Some(dir) = plan.dir.ancestors().find(|dir| dir.exists()) else { return Ok(()) };
        match site::check(dir, durability(self.rooms.config.journal.durability)) {
            Ok(site) => {
                if let Some(warning) = site.warning {
                    tracing::warn!(lock_manager = %plan.ip, dir = %dir.display(), file_system = site.file_system, "{warning}");
                }
                Ok(())
            }
            Err(why) => {
                let errno = match &why {
                    SiteError::Unfit { .. } | SiteError::Fails { .. } => Errno::EOPNOTSUPP,
                    SiteError::MustSync { .. } => Errno::EINVAL,
                    SiteError::Io { source, .. } => source.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
                };
                Err(Refusal::new(errno, format!("{}: {why}", plan.ip)))
            }
        }
    }

    /// Opens the exports before anything is taken from anybody.
    pub(super) fn open_exports(&self, paths: &BTreeSet<PathBuf>) -> Result<(), Refusal> {
        for path in paths {
            self.rooms.exports.resume(path).map_err(|why| Refusal::new(Errno::ENOENT, why))?;
        }
        Ok(())
    }

    /// After a failure: what was opened for nothing is closed again.
    pub(super) fn close_idle(&self, ip: IpAddr) {
        if !self.rooms.gate.is_any() {
            let all: Vec<PathBuf> = self.rooms.config.exports.iter().map(|e| e.path.clone()).collect();
            let but =
                self.slot(ip).filter(Slot::is_loaded).map(|slot| self.serves(&slot)).unwrap_or_default();
            let idle: Vec<PathBuf> = all.into_iter().filter(|path| !but.contains(path)).collect();
            self.close_unserved(ip, &idle);
        }
    }

    /// Closes those that no loaded lock manager serves.
    pub(super) fn close_unserved(&self, ip: IpAddr, paths: &[PathBuf]) -> Vec<String> {
        let mut busy = Vec::new();
        for path in paths.iter().filter(|path| !self.is_served_by_another(path, ip)) {
            if !self.rooms.exports.suspend(path, super::PATIENCE) {
                busy.push(format!(
                    "requests at work below {} did not end within {} s: umount may fail",
                    path.display(),
                    super::PATIENCE.as_secs()
                ));
            }
        }
        busy
    }

    /// What it is bound to from now on. Fails while an export with recorded locks is missing.
    pub(super) fn bindings(
        &self,
        plan: &Plan,
        ledger: &Ledger,
    ) -> Result<(BTreeSet<PathBuf>, bool), Refusal> {
        let mut exports = plan.exports.clone();
        if !plan.floating {
            return Ok((exports, false));
        }
        let recorded = || ledger.bindings().iter().filter(|(path, _)| !path.is_empty());
        let path_of = |bytes: &[u8]| {
            PathBuf::from(std::ffi::OsString::from(String::from_utf8_lossy(bytes).into_owned()))
        };
        let mut needed: BTreeSet<Box<[u8]>> = BTreeSet::new();
        for (place, _) in ledger.locks() {
            if let Some(prefix) = place.file.get(..8).filter(|p| !needed.contains(*p)) {
                needed.insert(prefix.into());
            }
        }
        for (path, prefix) in recorded() {
            let has_locks = needed.contains(prefix);
            if plan.exports.is_empty() || has_locks {
                let path = path_of(path);
                match self.rooms.exports.resume(&path) {
                    Ok(_) => drop(exports.insert(path)),
                    Err(why) if has_locks => {
                        let text =
                            format!("{}: locks are recorded on an export that is missing: {why}", plan.ip);
                        return Err(Refusal::new(Errno::ENOENT, text));
                    }
                    Err(_) => {}
                }
            }
        }
        let rest = exports.is_empty() || (plan.exports.is_empty() && ledger.bindings().contains_key(&[][..]));
        let here = self.open_prefixes(&exports, rest);
        if let Some(prefix) = needed.iter().find(|prefix| !here.contains(*prefix)) {
            let was =
                recorded().find(|(_, p)| *p == prefix).map(|(path, _)| path_of(path).display().to_string());
            let hex: String = prefix.iter().map(|b| format!("{b:02x}")).collect();
            let text = format!(
                "{}: locks are recorded on file system {hex}{}, but no export that it serves here is on it: mount it, export \
                 it, or give the export the `fsid` it had",
                plan.ip,
                was.map(|path| format!(" (export {path})")).unwrap_or_default()
            );
            return Err(Refusal::new(Errno::ENOENT, text));
        }
        Ok((exports, rest))
    }

    pub(super) fn open_prefixes(&self, exports: &BTreeSet<PathBuf>, rest: bool) -> BTreeSet<Box<[u8]>> {
        let claimed: BTreeSet<PathBuf> =
            self.slots().values().filter(|s| s.floating).flat_map(|s| s.exports.iter().cloned()).collect();
        let all = self.rooms.config.exports.iter().map(|e| &e.path);
        let mine = all.filter(|path| exports.contains(*path) || (rest && !claimed.contains(*path)));
        mine.filter_map(|path| self.rooms.exports.resume(path).ok()).collect()
    }
}
