//! One history, run through the engine, through the byte map of `model` and, entry by entry, through a record: after each
//! step all must have said and done the same, and the engine's tables must agree with each other. What moves between
//! nodes is loaded from that record. `histories` makes them up.

mod drive;
mod ops;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::ledger::{Ledger, loaded};
use super::model::{Answer, BYTES, CLIENTS, Cell, FILES, HOLD, How, LMS, Model, OWNERS, Spot, Who};
use crate::state::{
    Command, Condition, Effect, Effects, Engine, Entry, Event, GraceConflict, GrantId, LockState, Outcome,
    Party, Question, Range, Reply, Route, Settings, Stage, Status, Stretch, Time,
};
pub(super) use ops::Op;

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
    /// The parts of it that releases left behind.
    released: [Ledger; LMS],
    /// What the release at hand keeps.
    keep: [bool; FILES],
    /// Without the model: what takes several calls is left to later ones.
    lazy: bool,
    /// Then: the callbacks sent.
    sent: Vec<GrantId>,
}

impl Both {
    /// `locks_per_call` as in the settings.
    pub(super) fn new(width: u64, parks: bool, locks_per_call: u32, lazy: bool) -> Self {
        let settings = Settings {
            grace_conflict: if parks { GraceConflict::Wait } else { GraceConflict::Deny },
            hold: Duration::from_millis(HOLD),
            journal: true,
            // The model has no late requests, nor records that lag behind.
            late: Duration::ZERO,
            await_records: lazy,
            locks_per_call,
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
            released: Default::default(),
            keep: [false; FILES],
            lazy,
            sent: Vec::new(),
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
        match op {
            Op::Move { lm, adopt, keep, ms } => return self.do_move(lm, adopt, keep, ms),
            Op::BeginLoad { lm } => {
                let record = self.released[lm].clone();
                if self.engine.stage(lm_address(lm)) == Some(Stage::Released) {
                    self.load(lm, &record, false);
                }
                return;
            }
            _ => {}
        }
        let told = self.explain(op);
        let mut fx = Effects::default();
        self.model.advance(self.now);
        self.handle(Command::Tick, &mut fx);
        self.note_entries(&fx);
        fx.entries.clear();
        if let Op::Revoke { pick } = op {
            self.revoke(pick, &mut fx);
        } else {
            self.run_engine(op, &mut fx);
            self.run_model(op);
        }
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
        self.note_entries(fx);
        if self.lazy {
            let sent = |e: &Effect| match e {
                Effect::SendGranted { grant, .. } => Some(*grant),
                _ => None,
            };
            self.sent.extend(fx.out.iter().filter_map(sent));
        } else {
            self.compare_effects(fx);
            self.compare_tables();
        }
        self.engine.check();
        self.compare_record();
    }

    /// The record says what the tables say, where nothing is in between.
    fn compare_record(&self) {
        let tables = Ledger::of(&self.engine);
        for row in self.engine.lm_rows() {
            let lm = row.address;
            let (record, tables) = (self.ledger.part(lm), tables.part(lm));
            // What is kept of one that was released may have given way to what another's record says; its own record is not ours to write.
            let whole = row.stage == Stage::Loaded;
            if !row.working && whole {
                assert_eq!(record.canonical(), tables.canonical(), "what the record says of {lm}");
            }
            assert!(row.working || record.waiters == tables.waiters, "who waits through {lm}");
        }
    }

    /// What the request is told that it would get.
    fn explain(&self, op: Op) -> Option<Outcome> {
        if self.lazy || self.engine.next_timer().is_some_and(|due| due <= Time(self.now)) {
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
            Op::Test { who, spot, mode } | Op::Reclaim { who, spot, mode, .. } => (who, spot, mode),
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
            Op::Reclaim { .. } => told.reclaim,
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
            Some(Reply::Status(Status::DeniedGracePeriod)) => Outcome::DeniedGrace,
            Some(Reply::Silent) => Outcome::Silence,
            other => panic!("{other:?}"),
        };
        assert_eq!(told, got, "explained otherwise than done");
    }

    /// What was loaded was in the record before. Here it comes from nowhere.
    fn load_ledger(&mut self, who: Who, spot: Spot, lock: LockState, fx: &Effects) {
        let Party { lm, name, address } = party(who.lm, who.client);
        let refused: Vec<Range> = fx.out.iter().filter_map(refused).collect();
        let parts: Vec<Range> = if refused.is_empty() {
            vec![self.range(spot)]
        } else {
            let bytes = (spot.lo..=spot.hi).map(|byte| self.range(spot_of(byte)));
            bytes.filter(|byte| !refused.iter().any(|r| r.overlaps(*byte))).collect()
        };
        for range in parts {
            self.move_others_on(lm, spot.file, range, lock.mode);
            let (oh, file) = (Box::from(*b"oh"), Box::from([spot.file as u8]));
            let (name, svid) = (name.into(), who.n as u32);
            let set = Entry::Set(Stretch { lm, name, address, oh, svid, file, range }, loaded(lock));
            self.ledger.apply(&set);
        }
    }

    /// What the records of released lock managers have in the way of what another's record says, somebody has unlocked there since.
    fn move_others_on(&mut self, loaded: IpAddr, file: usize, range: Range, mode: crate::state::Mode) {
        let gone = |lm: IpAddr| lm != loaded && self.engine.stage(lm) != Some(Stage::Loaded);
        let keys = self.ledger.locks.iter().filter(|(key, _)| key.file[..] == [file as u8] && gone(key.lm));
        let in_way = keys.flat_map(|(key, bytes)| {
            let met = bytes.iter().filter(|(_, lock)| lock.mode.conflicts(mode));
            met.filter_map(|(bytes, _)| bytes.intersection(range))
                .map(|range| Stretch { range, ..key.clone() })
        });
        let unsets: Vec<Entry> = in_way.map(Entry::Unset).collect();
        unsets.iter().for_each(|unset| self.ledger.apply(unset));
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
        if gone && self.lazy {
            // The model would know why.
        } else if gone {
            let full = self.model.windows.iter().flatten().any(|w| w.is_full());
            assert!(full || !self.model.grants.is_empty(), "nothing it waited for has ended");
        } else {
            assert_eq!(wanted.waiters, Ledger::of(&engine).waiters);
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
            let w = who_is(lm, client.address, owner.svid);
            let index = (w.lm * CLIENTS + w.client) * OWNERS + w.n;
            let file = usize::from(self.engine.names.file_key(lock.file)[0]);
            let a = lock.attrs;
            let grant = (a.grant != GrantId(0)).then(|| {
                let ours = self.grant_ids.iter().find(|(_, engine)| **engine == a.grant);
                *ours.expect("a grant that was sent").0
            });
            let under = a.under.map(|u| (u.condition, u.state));
            let (mode, condition, state, kept) = (a.mode, a.condition, a.state, a.kept);
            let cell = Cell { mode, condition, state, grant, under, kept };
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
                let who = who_is(lm, client.address, n);
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
        self.lazy_ends();
        self.reload();
        for lm in 0..LMS {
            self.step(Op::EndLoad { lm });
            self.step(Op::DropReleased { lm });
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

    /// Whatever is still under way comes to its end, and then the record must be right.
    fn lazy_ends(&mut self) {
        let lazy = std::mem::replace(&mut self.lazy, false);
        let mut fx = Effects::default();
        self.complete(&mut fx);
        self.lazy = lazy;
        self.compare(&fx);
    }
}

fn refused(effect: &Effect) -> Option<Range> {
    match effect {
        Effect::Event(Event::LoadRefused(stretch)) => Some(stretch.range),
        _ => None,
    }
}

fn who_is(lm: IpAddr, address: IpAddr, n: u32) -> Who {
    let is = |w: &Who| {
        let p = party(w.lm, w.client);
        (p.lm, p.address, w.n as u32) == (lm, address, n)
    };
    all_who().find(is).expect("one of ours")
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
