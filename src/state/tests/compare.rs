//! Random histories, run through the engine and through the byte map of `model`: after each step both must have said
//! and done the same, and the engine's tables must agree with each other.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::model::{Answer, BYTES, CLIENTS, Cell, FILES, How, LMS, Model, OWNERS, PARK, Spot, Who};
use crate::state::{
    CallbackOutcome, Command, Effect, Effects, Engine, GrantId, LockRequest, Mode, Party, Range, Reply,
    Route, Settings, Status, Time, Token,
};

#[derive(Clone, Copy, Debug)]
enum Op {
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
    },
    EndGrace {
        lm: usize,
    },
    Tick {
        ms: u64,
    },
}

/// How wide a byte of the model is in the engine's world, so that locks of all length classes meet.
const WIDTHS: [u64; 4] = [1, 3, 1 << 33, 1 << 59];

struct Both {
    engine: Engine,
    model: Model,
    width: u64,
    now: u64,
    token: u64,
    route: Route,
    /// The engine's number of each grant of the model.
    grant_ids: BTreeMap<u64, GrantId>,
    past: Vec<Op>,
}

impl Both {
    fn new(width: u64) -> Self {
        let settings = Settings {
            park: Duration::from_millis(PARK),
            forget_after: Duration::from_secs(1 << 30),
            ..Settings::default()
        };
        let route = Route { version: 4, tcp: true, asynchronous: false, handle: Box::from([1]) };
        Self {
            engine: Engine::new(settings),
            model: Model::new(),
            width,
            now: 0,
            token: 0,
            route,
            grant_ids: BTreeMap::new(),
            past: Vec::new(),
        }
    }

    fn range(&self, spot: Spot) -> Range {
        let end = match spot.hi + 1 {
            BYTES => u64::MAX,
            past => past as u64 * self.width - 1,
        };
        Range { start: spot.lo as u64 * self.width, end }
    }

    fn step(&mut self, op: Op) {
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
        let mut fx = Effects::default();
        self.model.advance(self.now);
        self.run_engine(op, &mut fx);
        self.run_model(op);
        self.compare_effects(&fx);
        self.compare_tables();
        self.engine.check();
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
            Op::StartGrace { lm, ms } => {
                let c = Command::StartFullGrace { lm: lm_address(lm), deadline: Time(self.now + ms) };
                self.engine.handle(now, c, fx);
            }
            Op::EndGrace { lm } => self.engine.handle(now, Command::EndGrace { lm: lm_address(lm) }, fx),
            Op::Tick { .. } => self.engine.handle(now, Command::Tick, fx),
            Op::Again { .. } | Op::CancelSome { .. } => unreachable!("resolved before"),
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
            Op::StartGrace { lm, ms } => m.start_grace(lm, now + ms),
            Op::EndGrace { lm } => m.end_grace(lm),
            Op::Tick { .. } => {}
            Op::Again { .. } | Op::CancelSome { .. } => unreachable!("resolved before"),
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
                        cell.is_some_and(|c| c.mode == holder.mode)
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

    fn finish(&mut self) {
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

fn lm_address(lm: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, lm as u8 + 1])
}

fn party(lm: usize, client: usize) -> Party<'static> {
    const NAMES: [&[u8]; CLIENTS] = [b"alpha", b"beta", b"gamma"];
    Party { lm: lm_address(lm), name: NAMES[client], address: IpAddr::from([192, 0, 2, client as u8 + 1]) }
}

fn who() -> impl Strategy<Value = Who> {
    // Mostly one lock manager, so that requests meet.
    (prop_oneof![3 => Just(0), 1 => Just(1)], 0..CLIENTS, 0..OWNERS).prop_map(|(lm, client, n)| Who {
        lm,
        client,
        n,
    })
}

fn spot() -> impl Strategy<Value = Spot> {
    let bytes = prop_oneof![
        4 => (0..6usize, 0..6usize).prop_map(|(lo, len)| (lo, lo + len)),
        2 => (0..BYTES, 0..8usize).prop_map(|(lo, len)| (lo, (lo + len).min(BYTES - 1))),
        1 => (0..BYTES).prop_map(|lo| (lo, BYTES - 1)),
    ];
    (prop_oneof![4 => Just(0), 1 => Just(1)], bytes).prop_map(|(file, (lo, hi))| Spot { file, lo, hi })
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Shared), Just(Mode::Exclusive)]
}

fn state() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0), 20 => Just(3), 1 => Just(5), 1 => Just(7)]
}

fn outcome() -> impl Strategy<Value = CallbackOutcome> {
    prop_oneof![
        4 => Just(CallbackOutcome::Accepted),
        2 => Just(CallbackOutcome::RefusedFirst),
        2 => Just(CallbackOutcome::RefusedLater),
        2 => Just(CallbackOutcome::Unanswered),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let lock = (who(), spot(), mode(), prop::bool::weighted(0.7), prop::bool::weighted(0.95), state())
        .prop_map(|(who, spot, mode, block, monitored, state)| Op::Lock {
            who,
            spot,
            mode,
            block,
            monitored,
            state,
        });
    let client = || (prop_oneof![3 => Just(0), 1 => Just(1)], 0..CLIENTS);
    prop_oneof![
        40 => lock,
        4 => (who(), spot(), mode(), prop_oneof![4 => Just(0), 1 => Just(3)])
            .prop_map(|(who, spot, mode, state)| Op::Reclaim { who, spot, mode, state }),
        6 => (0..6usize).prop_map(|back| Op::Again { back }),
        22 => (who(), spot()).prop_map(|(who, spot)| Op::Unlock { who, spot }),
        2 => (who(), spot(), mode()).prop_map(|(who, spot, mode)| Op::Cancel { who, spot, mode }),
        5 => any::<usize>().prop_map(|pick| Op::CancelSome { pick }),
        5 => (who(), spot(), mode()).prop_map(|(who, spot, mode)| Op::Test { who, spot, mode }),
        2 => client().prop_map(|(lm, client)| Op::FreeAll { lm, client }),
        2 => (client(), prop_oneof![Just(3), Just(5), Just(7)])
            .prop_map(|((lm, client), state)| Op::Notify { lm, client, state }),
        16 => (any::<usize>(), outcome()).prop_map(|(pick, outcome)| Op::Done { pick, outcome }),
        2 => (any::<usize>(), outcome()).prop_map(|(pick, outcome)| Op::Late { pick, outcome }),
        2 => (0..LMS, 0..6_000u64).prop_map(|(lm, ms)| Op::StartGrace { lm, ms }),
        2 => (0..LMS).prop_map(|lm| Op::EndGrace { lm }),
        5 => (0..2_500u64).prop_map(|ms| Op::Tick { ms }),
    ]
}

fn run(width: u64, ops: Vec<Op>) {
    let mut both = Both::new(width);
    for op in ops {
        both.step(op);
    }
    both.finish();
}

fn config() -> ProptestConfig {
    // PROPTEST_CASES asks for more.
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(2_600), failure_persistence: None, ..default }
}

macro_rules! histories {
    ($($name:ident: $width:expr;)*) => {
        proptest! {
            #![proptest_config(config())]
            $(
                #[test]
                fn $name(ops in prop::collection::vec(op(), 1..40)) {
                    run(WIDTHS[$width], ops);
                }
            )*
        }
    };
}

histories! {
    any_history_of_single_bytes_equals_the_byte_map: 0;
    any_history_of_odd_ranges_equals_the_byte_map: 1;
    any_history_of_long_ranges_equals_the_byte_map: 2;
    any_history_over_the_whole_64_bits_equals_the_byte_map: 3;
}

#[test]
fn the_model_knows_that_only_overlapping_bytes_conflict() {
    let who = |client| Who { lm: 0, client, n: 0 };
    let mut m = Model::new();
    m.lock(0, who(0), Spot { file: 0, lo: 3, hi: 5 }, Mode::Exclusive, (false, true), 3, 1);
    m.lock(0, who(1), Spot { file: 0, lo: 5, hi: 6 }, Mode::Shared, (false, true), 3, 2);
    m.lock(0, who(1), Spot { file: 0, lo: 6, hi: 6 }, Mode::Shared, (false, true), 3, 3);
    let got: Vec<_> =
        m.expected.answers.values().map(|a| matches!(a, Answer::Status(Status::Granted))).collect();
    assert_eq!(got, [true, false, true]);
}

#[test]
fn one_owner_that_waits_for_the_same_bytes_of_two_files_gets_both() {
    let (a, b) = (Who { lm: 0, client: 0, n: 0 }, Who { lm: 1, client: 0, n: 1 });
    let spot = |file| Spot { file, lo: 1, hi: 2 };
    let lock = |who, file, block| Op::Lock {
        who,
        spot: spot(file),
        mode: Mode::Exclusive,
        block,
        monitored: true,
        state: 0,
    };
    run(1, vec![lock(a, 0, false), lock(a, 1, false), lock(b, 1, true), lock(b, 0, true)]);
}
