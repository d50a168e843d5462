//! What scenario tests are written with: an engine, short commands, and what the last one brought about.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::state::{
    CallbackOutcome, Command, Condition, Effect, Effects, Engine, Event, GrantId, LockRequest, LockRow,
    LockState, Mode, Party, Range, RefusedKind, Reply, Route, Settings, Status, Time, Token,
};

pub(super) const S: Mode = Mode::Shared;
pub(super) const X: Mode = Mode::Exclusive;
pub(super) const ALL: RangeInclusive<u64> = 0..=u64::MAX;

/// One owner on one client, as it speaks to one lock manager.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) lm: u8,
    pub(super) name: &'static str,
    pub(super) host: u8,
    pub(super) state: u32,
    pub(super) svid: u32,
}

/// Owner 1 of a client at NSM state 3.
pub(super) fn peer(name: &'static str, host: u8) -> Peer {
    Peer { lm: 1, name, host, state: 3, svid: 1 }
}

impl Peer {
    pub(super) fn svid(self, svid: u32) -> Self {
        Self { svid, ..self }
    }
    pub(super) fn lm(self, lm: u8) -> Self {
        Self { lm, ..self }
    }
    pub(super) fn state(self, state: u32) -> Self {
        Self { state, ..self }
    }
    pub(super) fn host(self, host: u8) -> Self {
        Self { host, ..self }
    }
    pub(super) fn name(self, name: &'static str) -> Self {
        Self { name, ..self }
    }
    pub(super) fn address(self) -> IpAddr {
        IpAddr::from([192, 0, 2, self.host])
    }
    pub(super) fn party(&self) -> Party<'static> {
        Party { lm: lm(self.lm), name: self.name.as_bytes(), address: self.address() }
    }
}

pub(super) fn lm(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

pub(super) fn route() -> Route {
    Route { version: 4, tcp: true, asynchronous: false, handle: Box::from([9]) }
}

pub(super) fn range(r: &RangeInclusive<u64>) -> Range {
    Range::new(*r.start(), *r.end()).unwrap()
}

/// Makes all entries durable, and those that come of it.
pub(super) fn write(engine: &mut Engine, now: Time, fx: &mut Effects) {
    while let Some((lm, mark)) = fx.marks.pop() {
        engine.handle(now, Command::Written { lm, mark }, fx);
    }
}

pub(super) struct Kit {
    pub(super) engine: Engine,
    pub(super) now: u64,
    /// Of the last command.
    pub(super) fx: Effects,
    /// Walk all tables after each command.
    pub(super) careful: bool,
    /// Entries are durable as soon as they are there.
    pub(super) written_at_once: bool,
    token: u64,
}

impl Kit {
    pub(super) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(super) fn with(settings: Settings) -> Self {
        let (engine, fx) = (Engine::new(settings), Effects::default());
        Self { engine, now: 0, fx, careful: true, written_at_once: true, token: 0 }
    }

    pub(super) fn run(&mut self, command: Command<'_>) {
        self.fx.entries.clear();
        self.fx.out.clear();
        self.engine.handle(Time(self.now), command, &mut self.fx);
        if self.written_at_once {
            write(&mut self.engine, Time(self.now), &mut self.fx);
        }
        if self.careful {
            self.engine.check();
        }
    }

    pub(super) fn token(&mut self) -> Token {
        self.token += 1;
        Token(self.token)
    }

    /// The reply to the last command, if it came at once.
    pub(super) fn reply(&self) -> Option<Reply> {
        self.reply_to(Token(self.token))
    }

    pub(super) fn reply_to(&self, wanted: Token) -> Option<Reply> {
        self.fx.out.iter().find_map(|e| match e {
            Effect::Reply { token, reply } if *token == wanted => Some(reply.clone()),
            _ => None,
        })
    }

    /// What the last command answered.
    pub(super) fn answered(&self) -> std::collections::BTreeSet<Token> {
        let reply = |e: &Effect| match e {
            Effect::Reply { token, .. } => Some(*token),
            _ => None,
        };
        self.fx.out.iter().filter_map(reply).collect()
    }

    fn status(&self) -> Status {
        match self.reply() {
            Some(Reply::Status(status)) => status,
            other => panic!("no status but {other:?}"),
        }
    }

    pub(super) fn send(
        &mut self,
        p: Peer,
        file: &str,
        r: RangeInclusive<u64>,
        mode: Mode,
        (block, reclaim): (bool, bool),
    ) -> Token {
        let (token, route) = (self.token(), route());
        self.run(Command::Lock(LockRequest {
            party: p.party(),
            oh: b"oh",
            svid: p.svid,
            file: file.as_bytes(),
            range: range(&r),
            mode,
            block,
            reclaim,
            monitored: true,
            state: p.state,
            route: &route,
            token,
        }));
        token
    }

    pub(super) fn lock(&mut self, p: Peer, file: &str, r: RangeInclusive<u64>, mode: Mode) -> Status {
        self.send(p, file, r, mode, (false, false));
        self.status()
    }

    pub(super) fn block(&mut self, p: Peer, file: &str, r: RangeInclusive<u64>, mode: Mode) -> Status {
        self.send(p, file, r, mode, (true, false));
        self.status()
    }

    pub(super) fn reclaim(&mut self, p: Peer, file: &str, r: RangeInclusive<u64>, mode: Mode) -> Status {
        self.send(p.state(0), file, r, mode, (false, true));
        self.status()
    }

    pub(super) fn unlock(&mut self, p: Peer, file: &str, r: RangeInclusive<u64>) -> Reply {
        let (token, file, range) = (self.token(), file.as_bytes(), range(&r));
        self.run(Command::Unlock { party: p.party(), oh: b"oh", svid: p.svid, file, range, token });
        self.reply().unwrap()
    }

    pub(super) fn cancel(&mut self, p: Peer, file: &str, r: RangeInclusive<u64>, mode: Mode) -> Reply {
        let (token, file, range) = (self.token(), file.as_bytes(), range(&r));
        self.run(Command::Cancel { party: p.party(), oh: b"oh", svid: p.svid, file, range, mode, token });
        self.reply().unwrap()
    }

    pub(super) fn send_test(&mut self, p: Peer, file: &str, r: RangeInclusive<u64>, mode: Mode) -> Token {
        let (token, file, range) = (self.token(), file.as_bytes(), range(&r));
        self.run(Command::Test { party: p.party(), oh: b"oh", svid: p.svid, file, range, mode, token });
        token
    }

    pub(super) fn notify(&mut self, p: Peer, state: u32) -> Reply {
        let token = self.token();
        self.run(Command::Rebooted { party: p.party(), state, token });
        self.reply().unwrap()
    }

    pub(super) fn free_all(&mut self, p: Peer) -> Reply {
        let token = self.token();
        self.run(Command::FreeAll { party: p.party(), token });
        self.reply().unwrap()
    }

    pub(super) fn done(&mut self, grant: GrantId, outcome: CallbackOutcome) {
        self.run(Command::CallbackDone { grant, outcome });
    }

    pub(super) fn grace(&mut self, n: u8, deadline: u64) {
        self.window(n, deadline, true);
    }

    pub(super) fn window(&mut self, n: u8, deadline: u64, full: bool) {
        let park = Duration::from_secs(2);
        let full: &[Box<[u8]>] = if full { &[Box::from([])] } else { &[] };
        self.run(Command::StartGrace { lm: lm(n), deadline: Time(deadline), full, park });
    }

    /// A window that is full for the files that begin so.
    pub(super) fn part_window(&mut self, n: u8, deadline: u64, full: &[&str]) {
        let full: Vec<Box<[u8]>> = full.iter().map(|prefix| prefix.as_bytes().into()).collect();
        let park = Duration::from_secs(2);
        self.run(Command::StartGrace { lm: lm(n), deadline: Time(deadline), full: &full, park });
    }

    pub(super) fn release(&mut self, n: u8, keep: &[&str]) {
        let keep: Vec<Box<[u8]>> = keep.iter().map(|prefix| prefix.as_bytes().into()).collect();
        self.run(Command::Release { lm: lm(n), keep: &keep });
    }

    pub(super) fn begin_load(&mut self, n: u8) {
        self.run(Command::Load { lm: lm(n) });
    }

    pub(super) fn end_load(&mut self, n: u8) {
        self.run(Command::LoadDone { lm: lm(n) });
    }

    /// Loads a lock of the record.
    pub(super) fn load(
        &mut self,
        p: Peer,
        file: &str,
        r: RangeInclusive<u64>,
        mode: Mode,
        condition: Condition,
    ) {
        let lock = LockState { mode, condition, state: p.state, under: None };
        let (party, svid, file, range) = (p.party(), p.svid, file.as_bytes(), range(&r));
        self.run(Command::LoadLock { party, oh: b"oh", svid, file, range, lock });
    }

    pub(super) fn end_grace(&mut self, n: u8) {
        self.run(Command::EndGrace { lm: lm(n) });
    }

    pub(super) fn tick(&mut self, now: u64) {
        self.now = now;
        self.run(Command::Tick);
    }

    /// The callbacks that the last command sends: number, owner, bytes.
    pub(super) fn granted(&self) -> Vec<(GrantId, u32, Range)> {
        let sent = |e: &Effect| match e {
            Effect::SendGranted { grant, svid, range, .. } => Some((*grant, *svid, *range)),
            _ => None,
        };
        self.fx.out.iter().filter_map(sent).collect()
    }

    /// The only callback that the last command sends.
    pub(super) fn grant(&self) -> GrantId {
        let granted = self.granted();
        assert_eq!(granted.len(), 1, "{granted:?}");
        granted[0].0
    }

    pub(super) fn stopped(&self) -> Vec<GrantId> {
        let stopped = |e: &Effect| match e {
            Effect::StopGranted { grant } => Some(*grant),
            _ => None,
        };
        self.fx.out.iter().filter_map(stopped).collect()
    }

    pub(super) fn events(&self) -> Vec<Event> {
        let event = |e: &Effect| match e {
            Effect::Event(event) => Some(event.clone()),
            _ => None,
        };
        self.fx.out.iter().filter_map(event).collect()
    }

    /// Whose request the last command refused: what, from, and whose it is.
    pub(super) fn refused(&self) -> Vec<(RefusedKind, IpAddr, IpAddr)> {
        let refused = |e: Event| match e {
            Event::Refused { kind, from, expected, .. } => Some((kind, from, expected)),
            _ => None,
        };
        self.events().into_iter().filter_map(refused).collect()
    }

    /// All locks: host, owner, bytes, mode, condition; in order of file, start and owner.
    pub(super) fn locks(&self) -> Vec<(IpAddr, u32, Range, Mode, Condition)> {
        let (mut rows, _): (Vec<LockRow>, _) = self.engine.lock_rows(0, usize::MAX);
        rows.sort_by_key(|r| (r.file.clone(), r.range, r.address, r.svid));
        rows.into_iter().map(|r| (r.address, r.svid, r.range, r.mode, r.condition)).collect()
    }

    pub(super) fn has(&self, p: Peer, r: RangeInclusive<u64>, mode: Mode, condition: Condition) -> bool {
        self.locks().contains(&(p.address(), p.svid, range(&r), mode, condition))
    }

    pub(super) fn counts(&self) -> (usize, usize) {
        self.engine.counts()
    }
}

pub(super) const OK: Reply = Reply::Status(Status::Granted);
