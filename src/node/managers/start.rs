//! What a daemon that starts does with the records it finds: those it still owns are taken up, the others are left to whoever owns them.
//!
//! Must never take up what another node has, nor answer on an address whose record could not be read.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::take_up::{Filled, Plan};
use super::{Managers, State, Turn};
use crate::node::config::TakeUp;
use crate::node::verbs::Refusal;
use crate::store::LockStore;
use crate::store::journal::Summary;
use crate::store::record::Record;

/// A lock manager that is taken up again, all but served.
struct Taken {
    plan: Plan,
    filled: Result<Filled, Refusal>,
    turn: Turn,
}

impl Managers {
    /// Takes up what is still ours. Call it before any program is served.
    pub(in crate::node) fn start(self: &Arc<Self>) {
        for set in &self.rooms.config.lock_managers {
            let exports =
                set.exports.iter().filter_map(|p| self.rooms.exports.find_configured(p)).map(PathBuf::from);
            if let Some(dir) = &set.journal {
                self.rooms.journals.place(&set.address.to_string(), dir.clone());
            }
            let mut slot = self.new_slot(true, self.rooms.journals.dir(&set.address.to_string()));
            slot.exports = exports.collect();
            slot.rest = slot.exports.is_empty();
            self.rooms.gate.bind(set.address, slot.bound());
            self.slots().insert(set.address, slot);
        }
        let configured: BTreeSet<String> =
            self.rooms.config.lock_managers.iter().map(|lm| lm.address.to_string()).collect();
        let placed = self.rooms.config.lock_managers.iter().filter(|lm| lm.journal.is_some());
        let placed: BTreeSet<String> = placed.map(|lm| lm.address.to_string()).collect();
        for (name, dir) in self.rooms.state_dir.places() {
            if !placed.contains(&name) {
                self.rooms.journals.place(&name, dir.clone());
                self.expect_record(&name, dir);
            }
        }
        let mut ours = Vec::new();
        for name in self.recorded() {
            let Ok(ip) = name.parse::<IpAddr>() else {
                tracing::warn!(name, "a journal that is named after no address is left alone");
                continue;
            };
            match self.rooms.journals.peek(&name) {
                Ok(None) => {}
                Ok(Some(peek)) => {
                    let floating = !peek.ledger.bindings().is_empty() || configured.contains(&name);
                    let released = peek.ledger.ended().map(|r| match r {
                        Record::Released { time } | Record::HandedOver { time, .. } => *time,
                        _ => 0,
                    });
                    self.note(ip, floating, &peek.summary, released);
                    if mutant!(RestartTakesAll) || peek.summary.is_owned_by(self.rooms.state_dir.node_label())
                    {
                        ours.push((ip, floating));
                    }
                }
                Err(e) => {
                    tracing::error!(
                        lock_manager = name,
                        "its record cannot be read: {e}: the address stays silent"
                    );
                    self.slots()
                        .entry(ip)
                        .or_insert_with(|| self.new_slot(true, self.rooms.journals.dir(&name)))
                        .trouble = Some(e.to_string());
                    self.change(ip, |slot| slot.state = State::Failed);
                    self.rooms.gate.shut(ip);
                }
            }
        }
        let floating = self.slots().values().any(|slot| slot.floating);
        self.rooms.gate.set_any(!floating);
        self.rooms.desk.run(crate::state::Command::AnyAddress(!floating));
        if floating {
            // Their disks may not be here yet, or may have to go: whoever takes a lock manager up opens what it serves.
            for export in &self.rooms.config.exports {
                self.rooms.exports.suspend(&export.path, Duration::ZERO);
            }
        }
        // First all of what was held, then what waits for it: lock managers may share files, and who waits through one for a lock of another
        // must find it there.
        let taken: Vec<_> = ours
            .into_iter()
            .filter_map(|(ip, floating)| self.take_again(ip, floating, configured.contains(&ip.to_string())))
            .collect();
        for Taken { plan, filled, turn } in taken {
            self.serve_again(&plan, filled);
            drop(turn);
        }
    }

    /// A journal that was placed elsewhere is that of a floating address, also while its disk is not here (another node may have it):
    /// without knowing of it, this node would serve every address, that one too.
    fn expect_record(&self, name: &str, dir: PathBuf) {
        let Ok(ip) = name.parse::<IpAddr>() else { return };
        let mut slot = self.new_slot(true, dir);
        if !slot.journal.is_dir() {
            tracing::info!(
                lock_manager = name,
                "its journal {} is not here: the address stays silent",
                slot.journal.display()
            );
        }
        slot.state = State::Released;
        self.slots().insert(ip, slot);
    }

    pub(super) fn recorded(&self) -> BTreeSet<String> {
        match self.rooms.journals.list() {
            Ok(list) => list.into_iter().map(|l| l.lock_manager).collect(),
            Err(e) => {
                tracing::error!("the records cannot be listed: {e}");
                BTreeSet::new()
            }
        }
    }

    fn note(&self, ip: IpAddr, floating: bool, summary: &Summary, released: Option<u64>) {
        let dir = self.rooms.journals.dir(&ip.to_string());
        let mut slots = self.slots();
        let slot = slots.entry(ip).or_insert_with(|| self.new_slot(floating, dir));
        slot.state = State::Released;
        slot.epoch = summary.epoch;
        slot.floating |= floating;
        slot.released_at = released.filter(|at| *at > 0);
    }

    fn take_again(self: &Arc<Self>, ip: IpAddr, floating: bool, configured: bool) -> Option<Taken> {
        if floating && !configured && !self.rooms.addresses.here(ip) {
            tracing::info!(lock_manager = %ip, "was ours, but its address is not here: left for start_grace");
            return None;
        }
        let config = &self.rooms.config;
        let set = config.lock_managers.iter().find(|lm| lm.address == ip);
        let exports: BTreeSet<PathBuf> = set
            .map(|set| {
                set.exports
                    .iter()
                    .filter_map(|p| self.rooms.exports.find_configured(p))
                    .map(PathBuf::from)
                    .collect()
            })
            .unwrap_or_default();
        let plan = Plan {
            ip,
            exports,
            floating,
            grace: set.and_then(|set| set.grace).unwrap_or(config.grace.window),
            how: config.on_restart,
            full: false,
            force: false,
            dir: self.rooms.journals.dir(&ip.to_string()),
        };
        // Nobody else can have it yet.
        let turn = self.turn(ip).ok()?;
        let filled = self.take(&plan);
        Some(Taken { plan, filled, turn })
    }

    fn serve_again(self: &Arc<Self>, plan: &Plan, filled: Result<Filled, Refusal>) {
        let ip = plan.ip;
        let adopt = self.rooms.config.on_restart == TakeUp::Adopt;
        let done = filled.and_then(|filled| self.serve(plan, filled));
        self.opened(ip);
        match done {
            Ok(done) => {
                tracing::info!(adopt, "{}", done.text);
                done.notes.iter().for_each(|note| tracing::warn!(lock_manager = %ip, "{note}"));
            }
            Err(why) => {
                tracing::error!("{why}: the address stays silent until start_grace succeeds");
                self.change(ip, |slot| {
                    slot.state = State::Failed;
                    slot.trouble = Some(why.text.clone());
                });
                self.rooms.gate.shut(ip);
                self.close_idle(ip);
            }
        }
    }
}
