//! Steps of a history, as commands to the engine and as calls of the model.

use std::time::Duration;

use super::{Both, Op, client_of, lm_address, party};
use crate::state::tests::kit::write;
use crate::state::tests::ledger::Ledger;
use crate::state::tests::model::{FILES, PARK, Who};
use crate::state::{Command, Effects, Entry, LockRequest, Route, Stage, Sweep, Time, Token};

impl Both {
    /// One command, and all that it began: each step by itself if the engine may do but little in one call.
    pub(super) fn handle(&mut self, command: Command<'_>, fx: &mut Effects) {
        let now = Time(self.now);
        self.engine.handle(now, Command::Tick, fx);
        self.complete(fx);
        self.engine.handle(now, command, fx);
        self.complete(fx);
        write(&mut self.engine, now, fx);
    }

    /// Ends what takes several calls.
    pub(super) fn complete(&mut self, fx: &mut Effects) {
        while !self.lazy && self.engine.lm_rows().iter().any(|lm| lm.working) {
            self.engine.check();
            self.engine.handle(Time(self.now), Command::Tick, fx);
            write(&mut self.engine, Time(self.now), fx);
        }
    }

    /// Released and loaded again, as the record says.
    pub(super) fn do_move(&mut self, lm: usize, adopt: bool, keep: [bool; FILES], ms: u64) {
        let address = lm_address(lm);
        self.step(Op::Tick { ms: 0 });
        let before = self.ledger.part(address);
        let released = self.engine.stage(address) == Some(Stage::Released);
        self.step(Op::Release { lm, keep });
        let adopt = adopt && !released;
        let record = if adopt { before.loaded() } else { self.released[lm].clone() };
        self.load(lm, &record, !adopt);
        if !adopt {
            self.step(Op::StartGrace { lm, ms, full: [false; FILES] });
        }
        self.step(Op::EndLoad { lm });
    }

    /// Begins to load a record, and puts it in.
    pub(super) fn load(&mut self, lm: usize, record: &Ledger, no_waiters: bool) {
        let address = lm_address(lm);
        let mut fx = Effects::default();
        self.token += 1;
        self.model.begin_load(lm);
        self.handle(Command::Load { lm: address }, &mut fx);
        // What is kept counts no more than what is loaded over it.
        self.ledger.take(address);
        self.compare(&fx);
        self.ledger.clients.extend(record.clients.clone());
        for command in record.commands() {
            if no_waiters && matches!(command, Command::LoadWaiter { .. }) {
                continue;
            }
            self.token += 1;
            let mut fx = Effects::default();
            match &command {
                Command::Restore { party, state } => self.model.restore(lm, client_of(*party), *state),
                Command::LoadLock { party, svid, file, range, lock, .. } => {
                    let who = Who { lm, client: client_of(*party), n: *svid as usize };
                    self.model.load(self.now, who, self.spot(file, *range), *lock);
                }
                Command::LoadWaiter { party, svid, file, range, mode, state, seq, .. } => {
                    let who = Who { lm, client: client_of(*party), n: *svid as usize };
                    self.model.load_waiter(*seq, who, self.spot(file, *range), *mode, *state);
                }
                other => unreachable!("{other:?}"),
            }
            self.handle(command.clone(), &mut fx);
            match command {
                Command::LoadLock { party, svid, file, range, lock, .. } => {
                    let who = Who { lm, client: client_of(party), n: svid as usize };
                    self.load_ledger(who, self.spot(file, range), lock, &fx);
                }
                Command::LoadWaiter { seq, .. } => {
                    let key = (address, seq);
                    self.ledger.waiters.insert(key, record.waiters[&key].clone());
                }
                _ => {}
            }
            self.compare(&fx);
        }
    }

    /// The record as far as it is this node's: what a release keeps is all that is left of a lock manager here.
    pub(super) fn note_entries(&mut self, fx: &Effects) {
        for entry in &fx.entries {
            self.ledger.apply(entry);
            if let Entry::Swept(address, Sweep::Release) = entry {
                let lm =
                    (0..self.released.len()).find(|lm| lm_address(*lm) == *address).expect("one of ours");
                self.released[lm] = self.ledger.part(*address);
                let keep = self.keep;
                self.ledger.keep_only(*address, |file| keep[usize::from(file[0])]);
            }
        }
    }

    pub(super) fn run_engine(&mut self, op: Op, fx: &mut Effects) {
        let token = Token(self.token);
        match op {
            Op::Lock { .. } | Op::Reclaim { .. } => self.run_lock(op, fx),
            Op::Unlock { who, spot } => {
                let (party, svid, range) = (party(who.lm, who.client), who.n as u32, self.range(spot));
                let file = &[spot.file as u8];
                self.handle(Command::Unlock { party, oh: b"oh", svid, file, range, token }, fx);
            }
            Op::Cancel { who, spot, mode } => {
                let (party, svid, range) = (party(who.lm, who.client), who.n as u32, self.range(spot));
                let file = &[spot.file as u8];
                self.handle(Command::Cancel { party, oh: b"oh", svid, file, range, mode, token }, fx);
            }
            Op::Test { who, spot, mode } => {
                let (party, svid, range) = (party(who.lm, who.client), who.n as u32, self.range(spot));
                let file = &[spot.file as u8];
                self.handle(Command::Test { party, oh: b"oh", svid, file, range, mode, token }, fx);
            }
            Op::FreeAll { lm, client } => {
                self.handle(Command::FreeAll { party: party(lm, client), token }, fx)
            }
            Op::Notify { lm, client, state } => {
                self.handle(Command::Rebooted { party: party(lm, client), state, token }, fx);
            }
            Op::Done { pick, outcome } | Op::Late { pick, outcome } if self.lazy => {
                if let Some(grant) = self.sent.get(pick % self.sent.len().max(1)).copied() {
                    self.handle(Command::CallbackDone { grant, outcome }, fx);
                }
            }
            Op::Done { pick, outcome } => {
                let open: Vec<u64> = self.model.grants.keys().copied().collect();
                if let Some(id) = open.get(pick % open.len().max(1)) {
                    self.handle(Command::CallbackDone { grant: self.grant_ids[id], outcome }, fx);
                }
            }
            Op::Late { pick, outcome } => {
                let grant = self.grant_ids.values().nth(pick % self.grant_ids.len().max(1)).copied();
                if let Some(grant) = grant {
                    self.handle(Command::CallbackDone { grant, outcome }, fx);
                }
            }
            _ => self.run_life(op, fx),
        }
    }

    fn run_lock(&mut self, op: Op, fx: &mut Effects) {
        let (Op::Lock { who, spot, mode, state, .. } | Op::Reclaim { who, spot, mode, state }) = op else {
            return;
        };
        let (block, monitored, reclaim) = match op {
            Op::Lock { block, monitored, .. } => (block, monitored, false),
            _ => (false, true, true),
        };
        let file = [spot.file as u8];
        let request = LockRequest {
            party: party(who.lm, who.client),
            oh: b"oh",
            svid: who.n as u32,
            file: &file,
            range: self.range(spot),
            mode,
            block,
            reclaim,
            monitored,
            state,
            route: &Route { handle: Box::from(file), ..self.route.clone() },
            token: Token(self.token),
        };
        self.handle(Command::Lock(request), fx);
    }

    /// What happens to lock managers, and what operators do.
    fn run_life(&mut self, op: Op, fx: &mut Effects) {
        match op {
            Op::StartGrace { lm, ms, full } => {
                let (lm, deadline) = (lm_address(lm), Time(self.now + ms));
                let (park, full) = (Duration::from_millis(PARK), prefixes(full));
                self.handle(Command::StartGrace { lm, deadline, full: &full, park }, fx);
            }
            Op::SetDeadline { lm, ms } => {
                let (lm, deadline) = (lm_address(lm), Time(self.now + ms));
                self.handle(Command::SetDeadline { lm, deadline }, fx);
            }
            Op::Load { who, spot, lock } => {
                let (party, svid, range) = (party(who.lm, who.client), who.n as u32, self.range(spot));
                let file = &[spot.file as u8];
                self.handle(Command::LoadLock { party, oh: b"oh", svid, file, range, lock }, fx);
            }
            Op::Release { lm, keep } => {
                self.keep = keep;
                let was = self.engine.stage(lm_address(lm));
                self.handle(Command::Release { lm: lm_address(lm), keep: &prefixes(keep) }, fx);
                if was == Some(Stage::Released) {
                    self.ledger.keep_only(lm_address(lm), |file| keep[usize::from(file[0])]);
                }
            }
            Op::DropReleased { lm } => {
                let lm = lm_address(lm);
                self.handle(Command::DropReleased { lm }, fx);
                if self.engine.stage(lm) == Some(Stage::Released) {
                    self.ledger.take(lm);
                }
            }
            Op::EndLoad { lm } => self.handle(Command::LoadDone { lm: lm_address(lm) }, fx),
            Op::FreeFile { file } => self.free(Command::FreeFile { file: &[file as u8] }, fx),
            Op::FreeClient { lm, client } => {
                let party = party(lm, client);
                let (lm, name, address) = (party.lm, party.name, party.address);
                self.free(Command::FreeClient { lm, name, address }, fx);
            }
            Op::EndGrace { lm } => self.handle(Command::EndGrace { lm: lm_address(lm) }, fx),
            Op::Tick { .. } => self.handle(Command::Tick, fx),
            other => unreachable!("{other:?}"),
        }
    }

    /// All in one call: several are as several commands, between which waiters go.
    fn free(&mut self, command: Command<'_>, fx: &mut Effects) {
        let per_call = self.engine.settings.locks_per_call;
        if !self.lazy {
            self.engine.settings.locks_per_call = 10_000;
        }
        self.handle(command, fx);
        self.engine.settings.locks_per_call = per_call;
    }

    pub(super) fn run_model(&mut self, op: Op) {
        if self.lazy {
            return;
        }
        let (token, now) = (self.token, self.now);
        let m = &mut self.model;
        if op.asks().is_some_and(|lm| !m.is_loaded(lm)) {
            return m.silence(token);
        }
        match op {
            Op::Lock { who, spot, mode, block, monitored, state } => {
                m.lock(now, who, spot, mode, (block, monitored), state, token);
            }
            Op::Reclaim { who, spot, mode, state } => m.reclaim(who, spot, mode, state, token),
            Op::Unlock { who, spot } => m.unlock(who, spot, token),
            Op::Cancel { who, spot, mode } => m.cancel(who, spot, mode, token),
            Op::Test { who, spot, mode } => m.test(now, who, spot, mode, token),
            Op::FreeAll { lm, client } => m.free_all(lm, client, token),
            Op::Notify { lm, client, state } => m.notify(lm, client, state, token),
            Op::Done { pick, outcome } => {
                let open: Vec<u64> = m.grants.keys().copied().collect();
                if let Some(id) = open.get(pick % open.len().max(1)) {
                    m.done(*id, outcome);
                }
            }
            Op::Late { pick, outcome } => {
                if let Some(id) = self.grant_ids.keys().nth(pick % self.grant_ids.len().max(1)) {
                    m.done(*id, outcome);
                }
            }
            Op::StartGrace { lm, ms, full } => m.start_grace(lm, now + ms, full),
            Op::SetDeadline { lm, ms } => m.set_deadline(lm, now + ms),
            Op::Load { who, spot, lock } => m.load(now, who, spot, lock),
            Op::Release { lm, keep } => m.release(lm, keep),
            Op::DropReleased { lm } => m.drop_released(lm),
            Op::EndLoad { lm } => m.end_load(lm),
            Op::FreeFile { file } => m.free_file(file),
            Op::FreeClient { lm, client } => m.free_one_client(lm, client),
            Op::EndGrace { lm } => m.end_grace(now, lm),
            Op::Tick { .. } => {}
            other => unreachable!("{other:?}"),
        }
    }

    /// Takes a lock back by its number in the list.
    pub(super) fn revoke(&mut self, pick: usize, fx: &mut Effects) {
        let (rows, _) = self.engine.lock_rows(0, usize::MAX);
        let Some(row) = rows.get(pick % rows.len().max(1)) else { return };
        let who = super::who_is(row.lm, row.address, row.svid);
        self.model.revoke(who, self.spot(&row.file, row.range));
        self.handle(Command::Revoke { id: row.id }, fx);
        self.engine.handle(Time(self.now), Command::Revoke { id: row.id }, fx);
        write(&mut self.engine, Time(self.now), fx);
    }
}

fn prefixes(files: [bool; FILES]) -> Vec<Box<[u8]>> {
    match files {
        // One that is the beginning of all.
        [true, true] => vec![Box::from([])],
        _ => (0..FILES).filter(|f| files[*f]).map(|f| Box::from([f as u8])).collect(),
    }
}
