//! Lock managers that share files with one that is taken up, but are not taken up here (yet): what their records hold must be in the way of
//! others all the same, or the first of two addresses to arrive would give away what clients of the second hold.
//!
//! Must never write into their records, nor answer for them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Managers, Slot, refusal};
use crate::node::records;
use crate::node::verbs::Refusal;
use crate::state::{Command, Party, Stage};
use crate::store::journal::{JournalError, Peek};
use crate::store::record::Record;
use crate::store::{Epoch, Ledger, LockStore as _};

/// How often a record is tried to be read, and the pause between: a disk that fails for a moment must not cost anybody a lock, and one that is
/// broken must not keep those waiting who have nothing to do with it.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);

impl Managers {
    /// Puts the locks that others have on files of this lock manager's exports into the core, as those of released ones. Returns what an operator
    /// should know of that. The caller has not opened the gate yet. A record that cannot be read may hold anything: only `force` goes on
    /// without it.
    pub(super) fn respect_neighbours(&self, ip: IpAddr, force: bool) -> Result<Vec<String>, Refusal> {
        let heeds = |slot: &Slot| slot.floating && !mutant!(NeighboursIgnored);
        let Some(slot) = self.slot(ip).filter(heeds) else { return Ok(Vec::new()) };
        let served = self.serves(&slot);
        let prefixes: Vec<Box<[u8]>> =
            served.iter().filter_map(|path| self.rooms.exports.prefix_of(path)).collect();
        // One at a time: who is about to be loaded is looked at before or after, not in between.
        let _filling = self.filling.lock();
        let mut found = Vec::new();
        for name in self.recorded() {
            let Ok(other) = name.parse::<IpAddr>() else { continue };
            if other == ip || self.is_in_core(other, &name) || self.is_apart(other, &prefixes) {
                continue;
            }
            match self.peek_patiently(&name) {
                // Also what was handed over: it may come back, imported or by force, and until then its locks are not anybody else's.
                Ok(Some(peek)) if !self.is_long_gone(&peek.ledger) => {
                    let locks = self.keep_locks_of(other, &peek.ledger, &prefixes);
                    if locks > 0 {
                        tracing::info!(
                            lock_manager = %ip, of = %other, locks,
                            "locks of an address that is not taken up here are in the way as recorded"
                        );
                        found.push(format!(
                            "{locks} locks of {other}, which is not taken up here, are on the same file systems: they are in the way as recorded"
                        ));
                    }
                }
                Ok(_) => self.forget_kept(Command::Release { lm: other, keep: &[] }, other),
                Err(e) if force => {
                    let note = format!(
                        "the record of {other}, which may hold locks on the same files, cannot be read, so they are in nobody's way: {e}"
                    );
                    tracing::error!(lock_manager = %ip, "{note}");
                    found.push(note);
                }
                Err(e) => {
                    let doing =
                        format!("cannot read the record of {other}, which may hold locks on the same files");
                    let refused = refusal(ip, &doing, &e);
                    let text = format!("{} (start-grace --force goes on without it)", refused.text);
                    return Err(Refusal { text, ..refused });
                }
            }
        }
        Ok(found)
    }

    /// Reads a record, again if that fails: what is not known of it is given to others.
    fn peek_patiently(&self, name: &str) -> Result<Option<Peek>, JournalError> {
        let mut tries = 1;
        loop {
            match self.rooms.journals.peek_durable(name) {
                Err(_) if tries < TRIES => {
                    tries += 1;
                    self.rooms.host.pause(PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Whether it was handed over so long ago that its locks are not kept for it any more. (One that was released is still ours to drop.)
    fn is_long_gone(&self, ledger: &Ledger) -> bool {
        let hold = self.rooms.config.grace.hold.as_secs();
        matches!(ledger.ended(), Some(Record::HandedOver { time, .. }) if time.saturating_add(hold) <= self.unix_now())
    }

    /// Whether what it holds is in memory already: it is loaded here, or was, and has not been taken up by anybody since.
    fn is_in_core(&self, other: IpAddr, name: &str) -> bool {
        let (stage, kept) = self.rooms.desk.read(|e| {
            let kept = e.lm_rows().iter().any(|row| row.address == other && row.locks > 0);
            (e.stage(other), kept)
        });
        if matches!(stage, Some(Stage::Loading | Stage::Loaded)) {
            return true;
        }
        let ours = self.slot(other).map(|slot| slot.epoch).filter(|epoch| *epoch != Epoch(0));
        kept && ours.is_some_and(|ours| self.rooms.journals.read_epoch(name).is_ok_and(|now| now == ours))
    }

    /// Whether another lock manager, here or elsewhere, may serve files of these exports too.
    pub(super) fn may_share_files(&self, ip: IpAddr, exports: &BTreeSet<PathBuf>, rest: bool) -> bool {
        let meets = |others: &BTreeSet<PathBuf>| rest || others.is_empty() || !others.is_disjoint(exports);
        let known = self
            .slots()
            .iter()
            .any(|(other, slot)| *other != ip && slot.floating && (slot.rest || meets(&slot.exports)));
        let configured = &self.rooms.config.lock_managers;
        known || configured.iter().any(|lm| lm.address != ip && meets(&lm.exports.iter().cloned().collect()))
    }

    /// Whether it is known to have its files on other file systems.
    fn is_apart(&self, other: IpAddr, prefixes: &[Box<[u8]>]) -> bool {
        let Some(slot) = self.slot(other).filter(|slot: &Slot| slot.floating && !slot.rest) else {
            return false;
        };
        let known: Vec<_> = slot.exports.iter().map(|path| self.rooms.exports.prefix_of(path)).collect();
        !known.is_empty() && known.iter().all(|p| p.as_ref().is_some_and(|p| !prefixes.contains(p)))
    }

    fn keep_locks_of(&self, other: IpAddr, ledger: &Ledger, prefixes: &[Box<[u8]>]) -> u64 {
        let files: BTreeSet<&[u8]> =
            ledger.locked_files().filter(|file| prefixes.iter().any(|p| file.starts_with(p))).collect();
        let desk = &self.rooms.desk;
        if files.is_empty() {
            self.forget_kept(Command::Release { lm: other, keep: &[] }, other);
            return 0;
        }
        desk.run(Command::Load { lm: other });
        let shared = ledger.lock_parts().filter(|(_, file, ..)| files.contains(file));
        desk.run_each(shared.map(|(owner, file, range, fields)| Command::LoadLock {
            party: Party { lm: other, name: owner.name, address: owner.address },
            oh: owner.oh,
            svid: owner.svid,
            file,
            range,
            lock: records::lock_state(fields),
        }));
        // What was kept of it before and is not in its record any more goes.
        desk.run(Command::LoadDone { lm: other });
        while desk.read(|e| e.is_working(other)) {
            desk.run(Command::Tick);
        }
        desk.run(Command::Release { lm: other, keep: prefixes });
        while desk.read(|e| e.is_working(other)) {
            desk.run(Command::Tick);
        }
        desk.read(|e| e.lm_rows()).iter().find(|row| row.address == other).map_or(0, |row| row.locks)
    }
}
