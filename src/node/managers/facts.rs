//! What the lists say about lock managers. Questions only.

use std::net::IpAddr;

use super::{Managers, State};
use crate::node::view::{LastError, LockManagerView};
use crate::state::LmRow;

/// A deadline farther away than this is none: see `take_up`.
pub(in crate::node) const FAR_MS: u64 = 30 * 24 * 3600 * 1000;

impl Managers {
    /// A row for each lock manager that is known here.
    pub(in crate::node) fn rows(&self) -> Vec<LockManagerView> {
        let rows = self.rooms.desk.read(|e| e.lm_rows());
        let mut all: Vec<LockManagerView> = Vec::new();
        let slots = self.slots().clone();
        for (ip, slot) in &slots {
            let row = rows.iter().find(|row| row.address == *ip);
            let mut view = self.row(*ip, row);
            view.state = match (slot.state, row.is_some_and(|r| r.window.is_some())) {
                (State::Loaded, true) => "grace".into(),
                (state, _) => state.as_str().into(),
            };
            view.epoch = slot.epoch.0;
            view.exports = slot.exports.iter().map(|p| p.display().to_string()).collect();
            view.journal = slot.journal.display().to_string();
            view.nsm_state = slot.nsm_state;
            let hangs = || self.check_not_hanging(*ip).err().map(|why| why.text);
            let now = self.rooms.desk.pipe(*ip).and_then(|p| p.trouble());
            let given_up = || !slot.is_loaded() && self.rooms.desk.is_stranded(*ip);
            let stray = || given_up().then(|| super::give_up::STRANDED.to_owned());
            view.trouble = now.or_else(hangs).or_else(|| slot.trouble.clone()).or_else(stray);
            if slot.waits_for_address && view.state == "grace" {
                let why = match view.address_here {
                    true => {
                        "the window's time does not run yet: it does as soon as each client has been tried once"
                    }
                    false => {
                        "the window's time does not run yet: no client could be told, as the address is not here"
                    }
                };
                view.trouble.get_or_insert_with(|| why.into());
            }
            all.push(view);
        }
        // One whose record is just being opened.
        for row in rows.iter().filter(|row| !slots.contains_key(&row.address)) {
            let mut view = self.row(row.address, Some(row));
            view.state = "active".into();
            view.trouble = self.rooms.desk.pipe(row.address).and_then(|p| p.trouble());
            all.push(view);
        }
        all
    }

    fn row(&self, ip: IpAddr, row: Option<&LmRow>) -> LockManagerView {
        let now = self.rooms.desk.now();
        let mut view = LockManagerView {
            name: ip.to_string(),
            address_here: self.rooms.addresses.here(ip),
            notify: self.rooms.notifier.counts(ip),
            ..LockManagerView::default()
        };
        if let Some(row) = row {
            let left = |ms: u64| (ms < FAR_MS).then(|| ms.div_ceil(1000));
            view.locks = row.locks;
            view.waiters = row.waiters;
            view.clients = row.clients;
            view.reclaimable = row.reclaimable;
            view.expired = row.expired;
            view.full = row.window.is_some_and(|w| w.full);
            view.grace_seconds_left = row.window.and_then(|w| left(w.until.0.saturating_sub(now.0)));
        }
        view
    }

    /// What is wrong with lock managers, a sentence each.
    pub(in crate::node) fn warnings(&self) -> Vec<String> {
        let troubled =
            self.rows().into_iter().filter_map(|row| Some(format!("{}: {}", row.name, row.trouble?)));
        troubled.collect()
    }

    /// The last verb that was refused.
    pub(in crate::node) fn last_error(&self) -> Option<LastError> {
        self.last_error.lock().clone()
    }

    /// The NSM state that this address announces.
    pub(in crate::node) fn nsm_state(&self, ip: IpAddr) -> u32 {
        self.slots().get(&ip).map_or(1, |slot| slot.nsm_state)
    }
}
