//! `start_grace` of what is loaded already, and what one would do. Must never open a window again that is over.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::take_up::Plan;
use super::{Managers, Slot, refusal};
use crate::node::config::TakeUp;
use crate::node::verbs::{Done, Refusal, StartGrace};
use crate::state::Command;
use crate::store::journal::Summary;
use crate::store::record::{LockCondition, Record};

impl Managers {
    /// `start_grace` of one that is loaded: binds further exports, changes the length of a window that is open.
    pub(super) fn extend(
        &self,
        v: &StartGrace,
        slot: &Slot,
        named: BTreeSet<PathBuf>,
        dry: bool,
    ) -> Result<Done, Refusal> {
        if let Some(dir) = v.journal.as_ref().filter(|dir| !is_same_dir(dir, &slot.journal)) {
            // Not to be passed over: what is recorded in that one would seem to be lost.
            let text = format!(
                "{}: is taken up with its journal in {}, not in {}: give it up first (lockferry unlock-ip {0})",
                v.ip,
                slot.journal.display(),
                dir.display()
            );
            return Err(Refusal::new(Errno::EBUSY, text));
        }
        let further: BTreeSet<PathBuf> = named.difference(&slot.exports).cloned().collect();
        let in_window =
            self.rooms.desk.read(|e| e.lm_rows()).iter().any(|r| r.address == v.ip && r.window.is_some());
        let longer = v.grace.filter(|_| in_window && !slot.waits_for_address);
        let fuller = v.full && in_window;
        if v.journal.as_ref().is_some_and(|dir| *dir != slot.journal) {
            let text = format!(
                "{}: is taken up with its journal in {}: give it up first",
                v.ip,
                slot.journal.display()
            );
            return Err(Refusal::new(Errno::EBUSY, text));
        }
        let mut done =
            Done { text: format!("{}: already taken up, nothing changed", v.ip), ..Done::default() };
        if v.full && !in_window && further.is_empty() {
            done.notes.push("full does nothing: its window is over. Give it up first (unlock_ip) if the record is in doubt".into());
        }
        if v.grace.is_some() && in_window && slot.waits_for_address {
            let note = "its window's time does not run yet, and its length stays: say it again once clients are told";
            done.notes.push(note.into());
        }
        if v.adopt {
            done.notes.push("adopt does nothing: it is taken up already".into());
        }
        if dry || (further.is_empty() && longer.is_none() && !fuller) {
            if !further.is_empty() || longer.is_some() || fuller {
                done.text = match further.len() {
                    0 => format!("{}: would change its window", v.ip),
                    n => format!("{}: would bind {n} more", v.ip),
                };
                done.changed = true;
            }
            return Ok(done);
        }
        self.open_exports(v.ip, &further)?;
        let any = self.rooms.gate.is_any();
        let mut prefixes = self.bind(v.ip, slot, &further)?;
        if any && !self.rooms.gate.is_any() {
            done.notes.push(super::NOW_FLOATING.to_owned());
        }
        let deadline = self.rooms.desk.now().plus(v.grace.unwrap_or(self.rooms.config.grace.window));
        if fuller {
            prefixes = vec![Box::default()];
        }
        if v.full && !prefixes.is_empty() {
            let park = self.rooms.config.grace.park;
            self.rooms.desk.run(Command::StartGrace { lm: v.ip, deadline, full: &prefixes, park });
        } else if longer.is_some() {
            self.rooms.desk.run(Command::SetDeadline { lm: v.ip, deadline });
        }
        if !self.rooms.desk.settle(v.ip) {
            return Err(Refusal::new(Errno::EIO, format!("{}: its journal cannot be written", v.ip)));
        }
        done.changed = true;
        // Also where only its end was moved.
        let rows = self.rooms.desk.read(|e| e.lm_rows());
        let window = rows.into_iter().find(|row| row.address == v.ip).and_then(|row| row.window);
        done.all_wait = window.is_some_and(|window| window.full);
        done.text = match further.len() {
            0 if longer.is_none() => format!("{}: its window is a full one now", v.ip),
            0 => format!(
                "{}: the window now ends in {}",
                v.ip,
                humantime::format_duration(v.grace.unwrap_or_default())
            ),
            n => format!("{}: bound {n} more", v.ip),
        };
        if !further.is_empty() {
            done.notes.extend(self.taken_through_others(v.ip));
        }
        Ok(done)
    }

    /// Binds further exports, durably. Returns how the keys of their files begin.
    fn bind(&self, ip: IpAddr, slot: &Slot, further: &BTreeSet<PathBuf>) -> Result<Vec<Box<[u8]>>, Refusal> {
        let mut entries = Vec::new();
        let mut prefixes = Vec::new();
        for path in further {
            let prefix = self.rooms.exports.prefix_of(path).unwrap_or_default();
            prefixes.push(prefix.clone());
            let path = path.as_os_str().as_encoded_bytes().into();
            entries.push(Record::Bound { path, prefix }.into());
        }
        self.write_now(ip, slot.epoch, entries)?;
        self.change(ip, |slot| {
            slot.exports.extend(further.iter().cloned());
            slot.floating = true;
        });
        self.rooms.gate.bind(ip, self.slot(ip).and_then(|slot| slot.bound()));
        self.update_mode();
        Ok(prefixes)
    }

    pub(super) fn preview_start(&self, plan: &Plan) -> Result<Done, Refusal> {
        let name = plan.ip.to_string();
        let failed = |e| refusal(plan.ip, "cannot read its record", &e);
        self.rooms.journals.peek_own_summary(&name, &mut |(), _| {}).map_err(failed)?;
        let peek =
            self.rooms.journals.peek(&name).map_err(|e| refusal(plan.ip, "cannot read its record", &e))?;
        let Some(peek) = peek else {
            let text = format!("{name}: would be new, nothing is recorded");
            return Ok(Done { text, changed: true, notes: self.foretell(plan, None), ..Done::default() });
        };
        if peek.summary.handed_over && !plan.force {
            let text = format!(
                "{name}: was handed over to another place at epoch {}: import what the node that has it now exports, or force if no other has taken it up",
                peek.summary.epoch
            );
            return Err(Refusal::new(Errno::ESTALE, text));
        }
        let was_full = peek.ledger.window().is_some_and(|(full, _)| full);
        let full = plan.full || was_full || !peek.summary.report.complete;
        let adopt = plan.how == TakeUp::Adopt && !full;
        // What its last owner was still waiting for is owed, also to one that adopts the rest.
        let owed = peek.ledger.count(&[LockCondition::Reclaimable]);
        let locks = peek.ledger.lock_count() as u64 - peek.ledger.count(&[LockCondition::Expired]);
        let clients = peek.ledger.clients().len();
        let window = humantime::format_duration(plan.grace);
        let (text, marked) = match adopt {
            true if owed == 0 => {
                (format!("{name}: would be adopted with {locks} locks of {clients} clients"), 0)
            }
            true => {
                let held = locks - owed;
                let text = format!(
                    "{name}: {held} locks would be adopted, with a grace window of {window} for {owed} more"
                );
                (text, owed)
            }
            false => {
                let full = if full { "full " } else { "" };
                let text = format!(
                    "{name}: would open a {full}grace window of {window} for {locks} locks of {clients} clients"
                );
                (text, locks)
            }
        };
        let mut notes = self.foretell(plan, Some(&peek.summary));
        notes.extend(super::take_up::damage(&peek.summary.report, &plan.dir));
        Ok(Done { text, changed: true, marked, all_wait: full, notes, ..Done::default() })
    }

    /// What a take-over would do to others.
    fn foretell(&self, plan: &Plan, known: Option<&Summary>) -> Vec<String> {
        let mut notes: Vec<String> = self.unconfigured(plan).into_iter().collect();
        if self.rooms.gate.is_any() {
            notes.push(super::WOULD_FLOAT.to_owned());
        }
        let label = self.rooms.state_dir.node_label();
        if let Some(Record::Opened { node, .. }) = known.and_then(|known| known.opened.as_ref())
            && known.is_some_and(|known| known.is_owned_by(node))
            && &**node != label
        {
            let host = node.split('/').next().unwrap_or(node);
            notes.push(format!(
                "its last owner ({host}) has not given it up: if that is alive, it is superseded and falls silent"
            ));
        }
        notes
    }

    pub(super) fn unconfigured(&self, plan: &Plan) -> Option<String> {
        let configured = &self.rooms.config.lock_managers;
        let strange =
            plan.floating && !configured.is_empty() && configured.iter().all(|lm| lm.address != plan.ip);
        strange.then(|| "the settings have no [[lock_manager]] with this address".to_owned())
    }
}

fn is_same_dir(one: &Path, other: &Path) -> bool {
    let real = |dir: &Path| dir.canonicalize().ok();
    one == other || real(one).is_some_and(|one| real(other).is_some_and(|other| one == other))
}
