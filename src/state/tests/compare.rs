//! One history, run through the engine, through the byte map of `model` and, entry by entry, through a record: after each
//! step all must have said and done the same, and the engine's tables must agree with each other. What moves between
//! nodes is loaded from that record. `histories` makes them up.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::ledger::{Ledger, loaded};
use super::model::{Answer, BYTES, CLIENTS, Cell, FILES, HOLD, How, LMS, Model, OWNERS, PARK, Spot, Who};
use crate::state::{
    CallbackOutcome, Command, Condition, Effect, Effects, Engine, Entry, Event, GraceConflict, GrantId,
    LockRequest, LockState, Mode, Outcome, Party, Question, Range, Reply, Route, Settings, Status, Stretch,
    Sweep, Time, Token,
};

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Lock {
        who: Who,
        spot: Spot,
        mode: Mode,
        block: bool,
        monitored: bool,
        state: u32,
    },
    Reclaim {
        who: Who,
        spot: Spot,
        mode: Mode,
        state: u32,
    },
    /// The LOCK of an earlier step once more.
    Again {
        back: usize,
    },
    Unlock {
        who: Who,
        spot: Spot,
    },
    Cancel {
        who: Who,
        spot: Spot,
        mode: Mode,
    },
    /// CANCEL of a request that waits or of a grant in flight.
    CancelSome {
        pick: usize,
    },
    Test {
        who: Who,
        spot: Spot,
        mode: Mode,
    },
    FreeAll {
        lm: usize,
        client: usize,
    },
    Notify {
        lm: usize,
        client: usize,
        state: u32,
    },
    Done {
        pick: usize,
        outcome: CallbackOutcome,
    },
    /// The answer to a callback that may have been settled long ago.
    Late {
        pick: usize,
        outcome: CallbackOutcome,
    },
    StartGrace {
        lm: usize,
        ms: u64,
        full: bool,
    },
    SetDeadline {
        lm: usize,
        ms: u64,
    },
    Load {
        who: Who,
        spot: Spot,
        lock: LockState,
    },
    Release {
        lm: usize,
    },
    /// Released and loaded again: by another node, or by this one once more.
    Move {
        lm: usize,
        adopt: bool,
        ms: u64,
    },
    EndGrace {
        lm: usize,
    },
    Tick {
        ms: u64,
    },
}

/// How wide a byte of the model is in the engine's world, so that locks of all length classes meet.
pub(super) const WIDTHS: [u64; 4] = [1, 3, 1 << 33, 1 << 59];

pub(super) struct Both {
    engine: Engine,
    model: Model,
    width: u64,
    now: u64,
    token: u64,
    route: Route,
    /// The engine's number of each grant of the model.
    grant_ids: BTreeMap<u64, GrantId>,
    past: Vec<Op>,
    /// Folded from the entries.
    ledger: Ledger,
    /// The part of it that a release left behind.
    released: Ledger,
}

impl Both {
    pub(super) fn new(width: u64, parks: bool) -> Self {
        let settings = Settings {
            grace_conflict: if parks { GraceConflict::Wait } else { GraceConflict::Deny },
            hold: Duration::from_millis(HOLD),
            journal: true,
            forget_after: Duration::from_secs(1 << 30),
            ..Settings::default()
        };
        let route = Route { version: 4, tcp: true, asynchronous: false, handle: Box::from([1]) };
        Self {
            engine: Engine::new(settings),
            model: Model::new(parks),
            width,
            now: 0,
            token: 0,
            route,
            grant_ids: BTreeMap::new(),
            past: Vec::new(),
            ledger: Ledger::default(),
            released: Ledger::default(),
        }
    }

    fn range(&self, spot: Spot) -> Range {
        let end = match spot.hi + 1 {
            BYTES => u64::MAX,
            past => past as u64 * self.width - 1,
        };
        Range { start: spot.lo as u64 * self.width, end }
    }

    pub(super) fn step(&mut self, op: Op) {
        let op = match op {
            Op::Again { back } => match self.past.iter().rev().nth(back) {
                Some(earlier) => *earlier,
                None => return,
            },
            Op::CancelSome { pick } => {
                let waiting = self.model.waiters.iter().map(|w| (w.who, w.spot, w.mode));
                let granting = self.model.grants.values().map(|g| (g.who, g.spot, g.mode));
                let all: Vec<_> = waiting.chain(granting).collect();
                let Some((who, spot, mode)) = all.get(pick % all.len().max(1)).copied() else { return };
                Op::Cancel { who, spot, mode }
            }
            op => op,
        };
        if matches!(op, Op::Lock { .. } | Op::Reclaim { .. }) {
            self.past.push(op);
        }
        self.token += 1;
        if let Op::Tick { ms } = op {
            self.now += ms;
        }
        let told = self.explain(op);
        if let Op::Move { lm, adopt, ms } = op {
            return self.do_move(lm, adopt, ms);
        }
        let mut fx = Effects::default();
        self.model.advance(self.now);
        self.run_engine(op, &mut fx);
        self.run_model(op);
        if let Op::Load { who, spot, lock } = op {
            self.load_ledger(who, spot, lock, &fx);
        }
        self.compare(&fx);
        if let Some(outcome) = told {
            self.compare_outcome(outcome, &fx);
        }
    }

    fn compare(&mut self, fx: &Effects) {
        self.model.end_emptied(self.now);
        for entry in &fx.entries {
            self.ledger.apply(entry);
            if let Entry::Swept(lm, Sweep::Release) = entry {
                self.released = self.ledger.take(*lm);
            }
        }
        self.compare_effects(fx);
        self.compare_tables();
        self.engine.check();
        let tables = Ledger::of(&self.engine);
        assert_eq!(self.ledger.canonical(), tables.canonical(), "the record says what the tables say");
        assert_eq!(self.ledger.waiters, tables.waiters, "and who waits");
    }

    /// What the request is told that it would get.
    fn explain(&self, op: Op) -> Option<Outcome> {
        if self.engine.next_timer().is_some_and(|due| due <= Time(self.now)) {
            return None;
        }
        let (who, spot, mode) = match op {
            Op::Lock { who, spot, mode, state, .. } => {
                let known = self.model.clients[who.lm * CLIENTS + who.client];
                if state != 0 && known.is_some_and(|known| known != 0 && known != state) {
                    return None;
                }
                (who, spot, mode)
            }
            Op::Test { who, spot, mode } => (who, spot, mode),
            _ => return None,
        };
        let Party { lm, name, address } = party(who.lm, who.client);
        let told = self.engine.explain(&Question {
            lm,
            client: Some((name, address)),
            owner: Some((b"oh", who.n as u32)),
            file: &[spot.file as u8],
            range: self.range(spot),
            mode,
        });
        Some(match op {
            Op::Lock { block: true, monitored: true, .. } => told.blocking,
            Op::Lock { .. } => told.lock,
            _ => told.test,
        })
    }

    fn compare_outcome(&self, told: Outcome, fx: &Effects) {
        let mut replies = fx.out.iter().filter_map(|e| match e {
            Effect::Reply { token, reply } if token.0 == self.token => Some(reply),
            _ => None,
        });
        let got = match replies.next() {
            None => Outcome::HeldBack,
            Some(Reply::Status(Status::Granted)) => Outcome::Granted,
            Some(Reply::Status(Status::Denied) | Reply::Denied(_)) => Outcome::Denied,
            Some(Reply::Status(Status::Blocked)) => Outcome::Blocked,
            Some(Reply::Status(Status::Deadlock)) => Outcome::Deadlock,
            other => panic!("{other:?}"),
        };
        assert_eq!(told, got, "explained otherwise than done");
    }

    /// What was loaded was in the record before. Here it comes from nowhere.
    fn load_ledger(&mut self, who: Who, spot: Spot, lock: LockState, fx: &Effects) {
        let refused = |e: &Effect| matches!(e, Effect::Event(Event::LoadRefused(_)));
        if !fx.out.iter().any(refused) {
            let Party { lm, name, address } = party(who.lm, who.client);
            let (oh, file) = (Box::from(*b"oh"), Box::from([spot.file as u8]));
            let (name, svid, range) = (name.into(), who.n as u32, self.range(spot));
            let set = Entry::Set(Stretch { lm, name, address, oh, svid, file, range }, loaded(lock));
            self.ledger.apply(&set);
        }
    }

    /// Released and loaded again, as the record says.
    fn do_move(&mut self, lm: usize, adopt: bool, ms: u64) {
        let address = lm_address(lm);
        self.step(Op::Tick { ms: 0 });
        let before = self.ledger.part(address);
        self.released = Ledger::default();
        self.step(Op::Release { lm });
        let released = std::mem::take(&mut self.released);
        let record = if adopt { before.loaded() } else { released };
        self.ledger.clients.extend(record.clients.clone());
        for command in record.commands() {
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
            self.engine.handle(Time(self.now), command.clone(), &mut fx);
            self.token += 1;
            match command {
                Command::LoadLock { party, svid, file, range, lock, .. } => {
                    let who = Who { lm, client: client_of(party), n: svid as usize };
                    let spot = self.spot(file, range);
                    self.load_ledger(who, spot, lock, &fx);
                }
                Command::LoadWaiter { seq, .. } => {
                    let key = (address, seq);
                    self.ledger.waiters.insert(key, record.waiters[&key].clone());
                }
                _ => {}
            }
            self.compare(&fx);
        }
        if !adopt {
            self.step(Op::StartGrace { lm, ms, full: false });
        }
    }

    fn spot(&self, file: &[u8], range: Range) -> Spot {
        let bytes: Vec<usize> = (0..BYTES).filter(|b| range.overlaps(self.range(spot_of(*b)))).collect();
        Spot { file: usize::from(file[0]), lo: bytes[0], hi: bytes[bytes.len() - 1] }
    }

    /// A new engine that is told the record has the same tables.
    pub(super) fn reload(&self) {
        let mut engine = Engine::new(Settings { journal: true, ..Settings::default() });
        let mut fx = Effects::default();
        let (wanted, commands) = (self.ledger.clone().loaded(), self.ledger.commands());
        let is_waiter = |c: &Command<'_>| matches!(c, Command::LoadWaiter { .. });
        let (waiters, others): (Vec<_>, Vec<_>) = commands.into_iter().partition(is_waiter);
        for command in others {
            engine.handle(Time(self.now), command, &mut fx);
        }
        assert!(fx.entries.is_empty(), "what is loaded is in the record already");
        assert_eq!(wanted.canonical(), Ledger::of(&engine).canonical());
        for command in waiters {
            engine.handle(Time(self.now), command, &mut fx);
        }
        engine.check();
        let gone = fx.out.iter().any(|e| matches!(e, Effect::SendGranted { .. }));
        if gone {
            let full = self.model.windows.iter().flatten().any(|w| w.full);
            assert!(full || !self.model.grants.is_empty(), "nothing it waited for has ended");
        } else {
            assert_eq!(wanted.waiters, Ledger::of(&engine).waiters);
        }
    }

    fn run_engine(&mut self, op: Op, fx: &mut Effects) {
        let (token, now) = (Token(self.token), Time(self.now));
        let file = |spot: Spot| [spot.file as u8];
        let route = |spot: Spot| Route { handle: Box::from(file(spot)), ..self.route.clone() };
        match op {
            Op::Lock { who, spot, mode, block, monitored, state } => {
                let request = LockRequest {
                    party: party(who.lm, who.client),
                    oh: b"oh",
                    svid: who.n as u32,
                    file: &file(spot),
                    range: self.range(spot),
                    mode,
                    block,
                    reclaim: false,
                    monitored,
                    state,
                    route: &route(spot),
                    token,
                };
                self.engine.handle(now, Command::Lock(request), fx);
            }
            Op::Reclaim { who, spot, mode, state } => {
                let request = LockRequest {
                    party: party(who.lm, who.client),
                    oh: b"oh",
                    svid: who.n as u32,
                    file: &file(spot),
                    range: self.range(spot),
                    mode,
                    block: false,
                    reclaim: true,
                    monitored: true,
                    state,
                    route: &route(spot),
                    token,
                };
                self.engine.handle(now, Command::Lock(request), fx);
            }
            Op::Unlock { who, spot } => {
                let (party, svid, range) = (party(who.lm, who.client), who.n as u32, self.range(spot));
                let c = Command::Unlock { party, oh: b"oh", svid, file: &file(spot), range, token };
                self.engine.handle(now, c, fx);
            }
            Op::Cancel { who, spot, mode } => {
                let (party, svid, range) = (party(who.lm, who.client), who.n as u32, self.range(spot));
                let c = Command::Cancel { party, oh: b"oh", svid, file: &file(spot), range, mode, token };
                self.engine.handle(now, c, fx);
            }
            Op::Test { who, spot, mode } => {
                let (party, svid, range) = (party(who.lm, who.client), who.n as u32, self.range(spot));
                let c = Command::Test { party, oh: b"oh", svid, file: &file(spot), range, mode, token };
                self.engine.handle(now, c, fx);
            }
            Op::FreeAll { lm, client } => {
                self.engine.handle(now, Command::FreeAll { party: party(lm, client), token }, fx);
            }
            Op::Notify { lm, client, state } => {
                self.engine.handle(now, Command::Rebooted { party: party(lm, client), state, token }, fx);
            }
            Op::Done { pick, outcome } => {
                let open: Vec<u64> = self.model.grants.keys().copied().collect();
                if let Some(id) = open.get(pick % open.len().max(1)) {
                    let grant = self.grant_ids[id];
                    self.engine.handle(now, Command::CallbackDone { grant, outcome }, fx);
                }
            }
            Op::Late { pick, outcome } => {
                if let Some(grant) = self.grant_ids.values().nth(pick % self.grant_ids.len().max(1)) {
                    self.engine.handle(now, Command::CallbackDone { grant: *grant, outcome }, fx);
                }
            }
            Op::StartGrace { lm, ms, full } => {
                let (lm, deadline) = (lm_address(lm), Time(self.now + ms));
                let park = Duration::from_millis(PARK);
                self.engine.handle(now, Command::StartGrace { lm, deadline, full, park }, fx);
            }
            Op::SetDeadline { lm, ms } => {
                let (lm, deadline) = (lm_address(lm), Time(self.now + ms));
                self.engine.handle(now, Command::SetDeadline { lm, deadline }, fx);
            }
            Op::Load { who, spot, lock } => {
                let (party, svid, range) = (party(who.lm, who.client), who.n as u32, self.range(spot));
                let c = Command::LoadLock { party, oh: b"oh", svid, file: &file(spot), range, lock };
                self.engine.handle(now, c, fx);
            }
            Op::Release { lm } => self.engine.handle(now, Command::Release { lm: lm_address(lm) }, fx),
            Op::EndGrace { lm } => self.engine.handle(now, Command::EndGrace { lm: lm_address(lm) }, fx),
            Op::Tick { .. } => self.engine.handle(now, Command::Tick, fx),
            Op::Again { .. } | Op::CancelSome { .. } | Op::Move { .. } => unreachable!("resolved before"),
        }
    }

    fn run_model(&mut self, op: Op) {
        let (token, now) = (self.token, self.now);
        let m = &mut self.model;
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
            Op::Release { lm } => m.release(lm),
            Op::EndGrace { lm } => m.end_grace(now, lm),
            Op::Tick { .. } => {}
            Op::Again { .. } | Op::CancelSome { .. } | Op::Move { .. } => unreachable!("resolved before"),
        }
    }

    fn compare_effects(&mut self, fx: &Effects) {
        let expected = std::mem::take(&mut self.model.expected);
        let mut answers = BTreeMap::new();
        let mut sent = Vec::new();
        let mut stopped = Vec::new();
        for effect in &fx.out {
            match effect {
                Effect::Reply { token, reply } => {
                    assert!(answers.insert(token.0, reply).is_none(), "answered twice: {token:?}");
                }
                Effect::SendGranted { grant, lm, to, name, svid, range, mode, route, .. } => {
                    let file = route.handle[0];
                    sent.push((*grant, (*lm, *to, name.clone(), *svid, file, *range, *mode)));
                }
                Effect::StopGranted { grant } => stopped.push(*grant),
                Effect::Event(_) => {}
            }
        }
        assert!(answers.keys().eq(expected.answers.keys()), "{answers:?} but {:?}", expected.answers.keys());
        for (token, answer) in &expected.answers {
            self.compare_answer(answers[token], answer);
        }
        // In order within a file; between files the order means nothing.
        let mut unmatched = sent;
        for (id, g) in &expected.sent {
            let p = party(g.who.lm, g.who.client);
            let wanted = (
                p.lm,
                p.address,
                p.name.into(),
                g.who.n as u32,
                g.spot.file as u8,
                self.range(g.spot),
                g.mode,
            );
            let at = unmatched.iter().position(|(_, s)| *s == wanted);
            let at = at.unwrap_or_else(|| panic!("not granted: {g:?}"));
            self.grant_ids.insert(*id, unmatched.remove(at).0);
        }
        assert!(unmatched.is_empty(), "granted although it must not be: {unmatched:?}");
        for file in 0..FILES {
            let of_file = expected.sent.iter().filter(|(_, g)| g.spot.file == file);
            let ids: Vec<GrantId> = of_file.map(|(id, _)| self.grant_ids[id]).collect();
            assert!(ids.is_sorted(), "granted out of order: {:?}", expected.sent);
        }
        stopped.sort_unstable();
        let mut wanted: Vec<GrantId> = expected.stopped.iter().map(|id| self.grant_ids[id]).collect();
        wanted.sort_unstable();
        assert_eq!(stopped, wanted, "callbacks that are to be stopped");
        for (model, engine) in &self.grant_ids {
            assert_eq!(self.model.grants.contains_key(model), self.engine.is_granting(*engine));
        }
    }

    fn compare_answer(&self, got: &Reply, expected: &Answer) {
        match (got, expected) {
            (Reply::Status(got), Answer::Status(expected)) => assert_eq!(got, expected),
            (Reply::Void, Answer::Void) | (Reply::Silent, Answer::Silent) => {}
            (Reply::Denied(holder), Answer::Holder(asker, spot, mode, map)) => {
                let true_holder = all_who().filter(|w| w != asker).any(|w| {
                    let held = |byte: usize| {
                        let cell = map[(w.lm * CLIENTS + w.client) * OWNERS + w.n][byte];
                        cell.is_some_and(|c| c.mode == holder.mode && c.condition != Condition::Expired)
                    };
                    let bytes: Vec<usize> =
                        (0..BYTES).filter(|b| holder.range.overlaps(self.range(spot_of(*b)))).collect();
                    w.n as u32 == holder.svid
                        && *holder.oh == *b"oh"
                        && holder.mode.conflicts(*mode)
                        && holder.range.overlaps(self.range(*spot))
                        && bytes.iter().all(|b| held(*b))
                });
                assert!(true_holder, "not a holder: {holder:?}");
            }
            _ => panic!("answered {got:?}, expected {expected:?}"),
        }
    }

    fn compare_tables(&self) {
        let mut seen = self.model.files.map(|file| file.map(|owner| owner.map(|_| None::<Cell>)));
        for (_, lock) in self.engine.locks.slots_from(0) {
            let client = self.engine.names.client(lock.client);
            let owner = self.engine.names.owner_by_id(lock.owner);
            let lm = self.engine.names.lm_by_id(client.lm).address;
            let who = all_who().find(|w| {
                let p = party(w.lm, w.client);
                (p.lm, p.address, w.n as u32) == (lm, client.address, owner.svid)
            });
            let index = who.map(|w| (w.lm * CLIENTS + w.client) * OWNERS + w.n).expect("one of ours");
            let file = usize::from(self.engine.names.file_key(lock.file)[0]);
            let a = lock.attrs;
            let grant = (a.grant != GrantId(0)).then(|| {
                let ours = self.grant_ids.iter().find(|(_, engine)| **engine == a.grant);
                *ours.expect("a grant that was sent").0
            });
            let under = a.under.map(|u| (u.condition, u.state));
            let cell = Cell { mode: a.mode, condition: a.condition, state: a.state, grant, under };
            for (byte, seen) in seen[file][index].iter_mut().enumerate() {
                let range = self.range(spot_of(byte));
                if lock.range.overlaps(range) {
                    assert!(lock.range.contains(range), "ends within a byte: {lock:?}");
                    *seen = Some(cell);
                }
            }
        }
        assert_eq!(seen, self.model.files, "who has which bytes");
        let waiting: Vec<_> = self
            .model
            .waiters
            .iter()
            .map(|w| (w.who, w.spot, w.mode, w.state, w.how == How::Callback))
            .collect();
        let mut engine: Vec<_> = self.engine.waiters.slots_from(0).map(|(_, w)| w).collect();
        engine.sort_unstable_by_key(|w| w.seq);
        let engine: Vec<_> = engine
            .into_iter()
            .map(|w| {
                let client = self.engine.names.client(w.client);
                let lm = self.engine.names.lm_by_id(client.lm).address;
                let n = self.engine.names.owner_by_id(w.owner).svid;
                let who = all_who().find(|o| {
                    let p = party(o.lm, o.client);
                    (p.lm, p.address, o.n as u32) == (lm, client.address, n)
                });
                let who = who.expect("one of ours");
                let file = usize::from(self.engine.names.file_key(w.file)[0]);
                let bytes: Vec<usize> =
                    (0..BYTES).filter(|b| w.range.overlaps(self.range(spot_of(*b)))).collect();
                let spot = Spot { file, lo: bytes[0], hi: bytes[bytes.len() - 1] };
                (who, spot, w.mode, w.state, matches!(w.how, crate::state::waiting::How::Callback(_)))
            })
            .collect();
        assert_eq!(engine, waiting, "who waits, in order");
    }

    pub(super) fn finish(&mut self) {
        self.reload();
        for lm in 0..LMS {
            self.step(Op::EndGrace { lm });
            for client in 0..CLIENTS {
                self.step(Op::FreeAll { lm, client });
            }
        }
        assert_eq!(self.engine.counts(), (0, 0));
        let (_, owners, files) = self.engine.names.counts();
        assert_eq!((owners, files), (0, 0), "nothing is remembered of what is gone");
        let mut fx = Effects::default();
        self.engine.handle(Time(self.now + (1 << 50)), Command::Tick, &mut fx);
        fx.entries.iter().for_each(|e| self.ledger.apply(e));
        assert!(self.ledger.canonical().is_empty() && self.ledger.clients.is_empty());
        assert_eq!(self.engine.names.counts(), (0, 0, 0));
        self.engine.check();
    }
}

fn spot_of(byte: usize) -> Spot {
    Spot { file: 0, lo: byte, hi: byte }
}

fn all_who() -> impl Iterator<Item = Who> {
    (0..LMS)
        .flat_map(|lm| (0..CLIENTS).flat_map(move |client| (0..OWNERS).map(move |n| Who { lm, client, n })))
}

fn client_of(party: Party<'_>) -> usize {
    let IpAddr::V4(address) = party.address else { unreachable!() };
    usize::from(address.octets()[3]) - 1
}

fn lm_address(lm: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, lm as u8 + 1])
}

fn party(lm: usize, client: usize) -> Party<'static> {
    const NAMES: [&[u8]; CLIENTS] = [b"alpha", b"beta", b"gamma"];
    Party { lm: lm_address(lm), name: NAMES[client], address: IpAddr::from([192, 0, 2, client as u8 + 1]) }
}
