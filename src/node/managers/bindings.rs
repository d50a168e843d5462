//! What a lock manager is bound to: which exports it serves after a take-over, what is missing for one, and which locks on them were taken
//! through other addresses before.
//!
//! Must never take a record from another node because of a take-over that cannot succeed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use nix::errno::Errno;

use super::take_up::Plan;
use super::{Managers, refusal};
use crate::node::verbs::Refusal;
use crate::store::Ledger;

/// Locks looked at for the list of those that were taken through other addresses: with more, take-overs would get slow for its sake.
const LOOKED_AT_MAX: usize = 100_000;
/// Of these, at once under the mutex.
const AT_ONCE: usize = 1_000;

impl Managers {
    /// Fails if taking it up is going to fail, before anything is taken from whoever has it. Reads the record twice therefore, but for the
    /// outline only where nobody else can have it: after `unlock_ip`, and at a restart.
    pub(super) fn foresee(&self, plan: &Plan) -> Result<(), Refusal> {
        let (journals, name) = (&self.rooms.journals, plan.ip.to_string());
        let failed = |e| refusal(plan.ip, "cannot read its record", &e);
        let Some(known) = journals.peek_own_summary(&name).map_err(failed)? else { return Ok(()) };
        if known.report.released || known.is_owned_by(self.rooms.state_dir.node_label()) {
            return Ok(());
        }
        let peek = journals.peek(&name).map_err(failed)?;
        peek.map_or(Ok(()), |peek| self.bindings(plan, &peek.ledger).map(drop))
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
        let path_of = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
        let mut needed: BTreeSet<Box<[u8]>> = BTreeSet::new();
        for file in ledger.locked_files() {
            if let Some(prefix) = file.get(..8).filter(|p| !needed.contains(*p)) {
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

    fn open_prefixes(&self, exports: &BTreeSet<PathBuf>, rest: bool) -> BTreeSet<Box<[u8]>> {
        let claimed: BTreeSet<PathBuf> =
            self.slots().values().filter(|s| s.floating).flat_map(|s| s.exports.iter().cloned()).collect();
        let all = self.rooms.config.exports.iter().map(|e| &e.path);
        let mine = all.filter(|path| exports.contains(*path) || (rest && !claimed.contains(*path)));
        mine.filter_map(|path| self.rooms.exports.resume(path).ok()).collect()
    }

    /// Locks on the exports of this lock manager that were taken through another address: unlocked through it they can be, new ones not.
    pub(super) fn taken_through_others(&self, ip: IpAddr) -> Option<String> {
        let desk = &self.rooms.desk;
        let served = self.slot(ip).filter(|slot| slot.floating && !slot.exports.is_empty())?.exports;
        if !desk.read(|e| e.lm_rows()).iter().any(|row| row.address != ip && row.locks > 0) {
            return None;
        }
        let prefixes: BTreeSet<_> =
            served.iter().filter_map(|path| self.rooms.exports.prefix_of(path)).collect();
        let mut found: BTreeMap<IpAddr, u64> = BTreeMap::new();
        let (mut from, mut looked_at) = (Some(0), 0);
        while let Some(slot) = from.filter(|_| looked_at < LOOKED_AT_MAX) {
            let (rows, next) = desk.read(|e| e.lock_rows(slot, AT_ONCE));
            looked_at += rows.len();
            let others = rows.iter().filter(|row| row.lm != ip);
            for row in others.filter(|row| row.file.get(..8).is_some_and(|p| prefixes.contains(p))) {
                *found.entry(row.lm).or_default() += 1;
            }
            from = next;
        }
        let each: Vec<String> = found.iter().map(|(lm, locks)| format!("{locks} through {lm}")).collect();
        (!each.is_empty()).then(|| {
            format!(
                "locks on the same file systems that were taken before: {}; they can be unlocked there",
                each.join(", ")
            )
        })
    }
}
