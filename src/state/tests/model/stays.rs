//! The model's lock managers: windows, releases, loading, and what operators free.

use super::{
    ALL_OWNERS, Answer, BYTES, CLIENTS, Cell, FILES, HOLD, How, LMS, Model, Spot, Waiter, Who, Window,
    owners_of,
};
use crate::state::{Condition, LockState, Mode, Stage};

impl Model {
    pub(in crate::state::tests) fn start_grace(&mut self, lm: usize, until: u64, mut full: [bool; FILES]) {
        if self.stages[lm] == Stage::Released {
            return;
        }
        for (file, full) in full.iter_mut().enumerate() {
            *full |= self.is_full(lm, file);
        }
        self.windows[lm] = Some(Window { until, full });
    }

    pub(in crate::state::tests) fn set_deadline(&mut self, lm: usize, until: u64) {
        if let Some(window) = &mut self.windows[lm] {
            window.until = until;
        }
    }

    pub(in crate::state::tests) fn end_grace(&mut self, now: u64, lm: usize) {
        if !self.is_loaded(lm) {
            return;
        }
        let Some(window) = self.windows[lm].take() else { return };
        if window.is_full() {
            // Of what may be incomplete nothing is kept for who comes late.
            self.holds[lm] = None;
            self.change_lm(lm, |c| {
                Some(c).filter(|c| !matches!(c.condition, Condition::Reclaimable | Condition::Expired))
            });
            return self.serve_waiters();
        }
        if self.reclaimable(lm) {
            self.holds[lm] = Some(now + HOLD);
        }
        self.change_lm(lm, |c| {
            let over = c.condition == Condition::Reclaimable;
            Some(if over { Cell { condition: Condition::Expired, ..c } } else { c })
        });
        self.serve_waiters();
    }

    /// The last thing in each step.
    pub(in crate::state::tests) fn end_emptied(&mut self, now: u64) {
        for lm in 0..LMS {
            if self.windows[lm].is_some_and(|w| !w.is_full()) && !self.reclaimable(lm) {
                self.end_grace(now, lm);
            }
            if self.is_loaded(lm) && self.holds[lm].is_none() {
                // What has expired and is kept for nobody goes. It is in nobody's way.
                self.change_lm(lm, |c| Some(c).filter(|c| c.condition != Condition::Expired));
            }
        }
    }

    pub(in crate::state::tests) fn release(&mut self, lm: usize, keep: [bool; FILES]) {
        self.drop_silently(|w| w.who.lm == lm);
        for (file, keep) in self.files.iter_mut().zip(keep) {
            for cell in file[owners_of(lm)].iter_mut().flatten() {
                *cell = cell.filter(|_| keep).map(Cell::kept);
            }
        }
        self.drop_empty_grants();
        self.clients[lm * CLIENTS..(lm + 1) * CLIENTS].fill(None);
        self.windows[lm] = None;
        self.holds[lm] = None;
        self.stages[lm] = Stage::Released;
        self.serve_waiters();
    }

    pub(in crate::state::tests) fn drop_released(&mut self, lm: usize) {
        if self.stages[lm] == Stage::Released {
            self.change_lm(lm, |_| None);
            self.serve_waiters();
        }
    }

    pub(in crate::state::tests) fn begin_load(&mut self, lm: usize) {
        if self.stages[lm] == Stage::Released {
            self.stages[lm] = Stage::Loading;
        }
    }

    pub(in crate::state::tests) fn end_load(&mut self, lm: usize) {
        if self.stages[lm] == Stage::Loading {
            self.stages[lm] = Stage::Loaded;
            self.change_lm(lm, |c| (!c.kept).then_some(c));
            self.serve_waiters();
        }
    }

    pub(in crate::state::tests) fn restore(&mut self, lm: usize, client: usize, state: u32) {
        self.clients[lm * CLIENTS + client] = Some(state);
    }

    pub(in crate::state::tests) fn load(&mut self, now: u64, who: Who, spot: Spot, lock: LockState) {
        if self.stages[who.lm] == Stage::Released {
            return;
        }
        self.clients[who.client_index()].get_or_insert(0);
        for byte in spot.lo..=spot.hi {
            self.load_byte(now, who, Spot { lo: byte, hi: byte, ..spot }, lock);
        }
        self.drop_empty_grants();
        if self.is_loaded(who.lm) {
            self.serve_waiters();
        }
    }

    fn load_byte(&mut self, now: u64, who: Who, spot: Spot, lock: LockState) {
        let expired = lock.condition == Condition::Expired;
        for o in (0..ALL_OWNERS).filter(|o| *o != who.index()) {
            let cell = &mut self.files[spot.file][o][spot.lo];
            *cell = cell.filter(|c| !(c.kept && c.mode.conflicts(lock.mode)));
        }
        let others = (0..ALL_OWNERS).filter(|o| *o != who.index());
        let mut met = others.filter_map(|o| self.files[spot.file][o][spot.lo]);
        if met.any(|c| c.mode.conflicts(lock.mode) && (expired || c.condition != Condition::Expired)) {
            return;
        }
        let client = &mut self.clients[who.client_index()];
        *client = client.map(|known| if known == 0 { lock.state } else { known });
        self.evict(who, spot, lock.mode, false);
        let condition = match lock.condition {
            Condition::Granting => Condition::Unconfirmed,
            other => other,
        };
        let open = condition == Condition::Unconfirmed && lock.mode == Mode::Exclusive;
        let sure = |condition| match condition {
            Condition::Unconfirmed => condition,
            _ => Condition::Held,
        };
        let under = lock.under.filter(|_| open).map(|(condition, state)| (sure(condition), state));
        self.put(who, spot, |_| Some(Cell { condition, under, ..Cell::held(lock.mode, lock.state) }));
        if expired {
            self.holds[who.lm] = Some(now + HOLD);
        }
    }

    pub(in crate::state::tests) fn load_waiter(
        &mut self,
        seq: u64,
        who: Who,
        spot: Spot,
        mode: Mode,
        state: u32,
    ) {
        self.clients[who.client_index()].get_or_insert(0);
        self.waiters.push(Waiter { seq, who, spot, mode, state, how: How::Callback });
        self.waiters.sort_by_key(|w| w.seq);
    }

    pub(in crate::state::tests) fn free_file(&mut self, file: usize) {
        self.drop_silently(|w| w.spot.file == file);
        for lm in (0..LMS).filter(|lm| self.is_loaded(*lm)).collect::<Vec<_>>() {
            for owner in owners_of(lm) {
                self.files[file][owner] = [None; BYTES];
            }
        }
        self.drop_empty_grants();
        self.serve_waiters();
    }

    pub(in crate::state::tests) fn free_one_client(&mut self, lm: usize, client: usize) {
        if !self.is_loaded(lm) {
            return;
        }
        self.free_client(lm * CLIENTS + client, |_| true);
        self.serve_waiters();
    }

    pub(in crate::state::tests) fn revoke(&mut self, who: Who, spot: Spot) {
        if !self.is_loaded(who.lm) {
            return;
        }
        self.put(who, spot, |_| None);
        self.drop_empty_grants();
        self.serve_waiters();
    }

    /// A request through a lock manager that is not loaded.
    pub(in crate::state::tests) fn silence(&mut self, token: u64) {
        self.expected.answers.insert(token, Answer::Silent);
    }

    pub(in crate::state::tests) fn is_loaded(&self, lm: usize) -> bool {
        self.stages[lm] == Stage::Loaded
    }
}
