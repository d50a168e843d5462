//! What must hold before a lock manager is taken up: an address that we hear, exports that are there, a journal on a disk that is fit for
//! one. Must never take anything from anybody.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::take_up::{Plan, durability};
use super::{Managers, Slot, refusal};
use crate::node::config::{Squash, TakeUp};
use crate::node::verbs::{Refusal, StartGrace};
use crate::store::journal::site::SiteError;

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
            if !v.force {
                self.check_not_left_behind(v.ip, dir)?;
            }
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
        match self.rooms.journals.files().is_dir(dir) {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(Refusal::new(Errno::ENOTDIR, format!("{ip}: journal {} is no directory", dir.display())))
            }
            Err(e) => {
                let errno = e.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                let what = "mount its disk, or make the directory if this is the first time";
                Err(Refusal::new(errno, format!("{ip}: journal {}: {e}: {what}", dir.display())))
            }
        }
    }

    /// A record that was begun anew, while the old one lies elsewhere, would give every lock to whoever asks first.
    fn check_not_left_behind(&self, ip: IpAddr, dir: &Path) -> Result<(), Refusal> {
        let (journals, name) = (&self.rooms.journals, ip.to_string());
        let known =
            |at: &Path| journals.has_record_in(at).map_err(|e| refusal(ip, "cannot look for its record", &e));
        if known(dir)? {
            return Ok(());
        }
        let remembered = self.rooms.state_dir.places().remove(&name);
        let was = journals.dir(&name);
        for old in [remembered.as_ref(), Some(&was), Some(&journals.usual_dir(&name))].into_iter().flatten() {
            let here = known(old)?;
            // A place that was used, and is not there now, is on a disk that is not mounted.
            let there = self.rooms.journals.files().exists(old).unwrap_or(true);
            let gone = remembered.as_ref() == Some(old) && !there;
            if old != dir && (here || gone) {
                let text = format!(
                    "{ip}: nothing is recorded in {}, but its record {} in {}: take it up there (journal={}), move that directory's \
                     files, or begin anew with force",
                    dir.display(),
                    if here { "lies" } else { "was last" },
                    old.display(),
                    old.display()
                );
                return Err(Refusal::new(Errno::EEXIST, text));
            }
        }
        Ok(())
    }

    /// Whether clients' root can remove the journal.
    pub(super) fn exposed(&self, plan: &Plan) -> Option<String> {
        let mut exports = self.rooms.config.exports.iter();
        let open =
            exports.find(|e| e.squash == Squash::None && !e.read_only && plan.dir.starts_with(&e.path))?;
        Some(format!(
            "the journal lies inside the export {}, whose squash is \"none\": root of any client can remove it. Put it beside the exported \
             directory",
            open.path.display()
        ))
    }

    /// Refuses file systems on which two owners could both believe in themselves.
    pub(super) fn check_site(&self, plan: &Plan) -> Result<(), Refusal> {
        let files = self.rooms.journals.files();
        let there = |dir: &&Path| files.exists(dir).unwrap_or(false);
        let Some(dir) = plan.dir.ancestors().find(there) else { return Ok(()) };
        match files.site(dir, durability(self.rooms.config.journal.durability)) {
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
    pub(super) fn open_exports(&self, ip: IpAddr, paths: &BTreeSet<PathBuf>) -> Result<(), Refusal> {
        for path in paths {
            self.open_export(ip, path).map_err(|why| Refusal::new(Errno::ENOENT, why))?;
        }
        Ok(())
    }

    /// Opens one for a lock manager that is being taken up: nobody closes it before [`Managers::opened`].
    pub(super) fn open_export(&self, ip: IpAddr, path: &Path) -> Result<Box<[u8]>, String> {
        self.opening.lock().entry(ip).or_default().insert(path.to_owned());
        self.rooms.exports.resume(path)
    }

    /// The take-over is done, or has failed: from here on what the lock manager serves is what is open for it.
    pub(super) fn opened(&self, ip: IpAddr) {
        self.opening.lock().remove(&ip);
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
        for path in paths {
            let opening = self.opening.lock();
            if self.is_wanted(&opening, path, ip) {
                continue;
            }
            let closing = self.rooms.exports.shut(path);
            // Who opens it from here on has it opened.
            drop(opening);
            if !self.rooms.exports.await_closed(closing, super::PATIENCE) {
                busy.push(format!(
                    "requests at work below {} did not end within {} s: umount may fail",
                    path.display(),
                    super::PATIENCE.as_secs()
                ));
            }
        }
        busy
    }
}
