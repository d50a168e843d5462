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
use crate::store::record::Record;
use crate::store::seen::SeenRecord;

/// Locks looked at for the list of those that were taken through other addresses: with more, take-overs would get slow for its sake.
const LOOKED_AT_MAX: usize = 100_000;
/// Of these, at once under the mutex.
const AT_ONCE: usize = 1_000;

/// What a record needs to be here: the exports that it is bound to, and the file systems that its locks are on.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Path and how the keys of its files begin. An empty path stands for the rest.
    bindings: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// How the keys of locked files begin.
    prefixes: BTreeSet<Box<[u8]>>,
}

impl Needs {
    /// Of a record that is loaded.
    pub(super) fn of(ledger: &Ledger) -> Self {
        let mut needs = Self { bindings: ledger.bindings().clone(), ..Self::default() };
        ledger.locked_files().for_each(|file| needs.lock_on(file));
        needs
    }

    /// Of one that is being read, entry by entry: more than it needs where locks were unlocked again, never less.
    fn note(&mut self, record: &SeenRecord<'_>) {
        match record {
            SeenRecord::Set(place, _) | SeenRecord::Granted(_, place, _) => self.lock_on(place.file),
            SeenRecord::Other(Record::Bound { path, prefix }) => {
                self.bindings.insert(path.clone(), prefix.clone());
            }
            SeenRecord::Other(Record::Unbound { path }) => drop(self.bindings.remove(path)),
            _ => {}
        }
    }

    fn lock_on(&mut self, file: &[u8]) {
        if let Some(prefix) = file.get(..8).filter(|p| !self.prefixes.contains(*p)) {
            self.prefixes.insert(prefix.into());
        }
    }
}

impl Managers {
    /// Fails if taking it up is going to fail, before anything is taken from whoever has it. Reads the record once more therefore, but
    /// makes no table of it as long as nothing seems to be missing: that takes a fraction of the time.
    pub(super) fn foresee(&self, plan: &Plan) -> Result<(), Refusal> {
        let (journals, name) = (&self.rooms.journals, plan.ip.to_string());
        let failed = |e| refusal(plan.ip, "cannot read its record", &e);
        let known =
            journals.peek_own_summary(&name, &mut |needs: &mut Needs, seen| needs.note(&seen.entry.record));
        let Some((known, needs)) = known.map_err(failed)? else { return Ok(()) };
        let nobody_elses = known.report.released || known.is_owned_by(self.rooms.state_dir.node_label());
        if nobody_elses || self.bindings(plan, &needs).is_ok() {
            return Ok(());
        }
        // Something is missing, but perhaps for locks only that were unlocked long ago.
        let peek = journals.peek(&name).map_err(failed)?;
        peek.map_or(Ok(()), |peek| self.bindings(plan, &Needs::of(&peek.ledger)).map(drop))
    }

    /// What it is bound to from now on. Fails while an export with recorded locks is missing.
    pub(super) fn bindings(&self, plan: &Plan, needs: &Needs) -> Result<(BTreeSet<PathBuf>, bool), Refusal> {
        let mut exports = plan.exports.clone();
        if !plan.floating {
            // Where floating addresses are known, exports are closed until somebody serves them.
            if !self.rooms.gate.is_any() {
                let here = self.open_prefixes(plan.ip, &exports, true);
                if needs.prefixes.iter().any(|prefix| !here.contains(prefix)) {
                    tracing::warn!(
                        lock_manager = %plan.ip,
                        "locks are recorded on an export that cannot be opened now, or belongs to another lock manager"
                    );
                }
            }
            return Ok((exports, false));
        }
        let recorded = || needs.bindings.iter().filter(|(path, _)| !path.is_empty());
        let path_of = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
        let needed = &needs.prefixes;
        for (path, prefix) in recorded() {
            let has_locks = needed.contains(prefix);
            if plan.exports.is_empty() || has_locks {
                let path = path_of(path);
                match self.open_export(plan.ip, &path) {
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
        let rest = exports.is_empty() || (plan.exports.is_empty() && needs.bindings.contains_key(&[][..]));
        let here = self.open_prefixes(plan.ip, &exports, rest);
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

    fn open_prefixes(&self, ip: IpAddr, exports: &BTreeSet<PathBuf>, rest: bool) -> BTreeSet<Box<[u8]>> {
        let claimed: BTreeSet<PathBuf> =
            self.slots().values().filter(|s| s.floating).flat_map(|s| s.exports.iter().cloned()).collect();
        let all = self.rooms.config.exports.iter().map(|e| &e.path);
        let mine = all.filter(|path| exports.contains(*path) || (rest && !claimed.contains(*path)));
        mine.filter_map(|path| self.open_export(ip, path).ok()).collect()
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
