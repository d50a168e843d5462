//! A second lock service, as simple as can be: a map from each byte of a small universe to what each owner has there. Written
//! from the design and the protocol, for comparison. No index, no range arithmetic, no cleverness.
//!
//! Must never share code with the engine beyond the plain types.

mod stays;

use std::collections::{BTreeMap, BTreeSet};

use crate::state::{CallbackOutcome, Condition, Mode, Stage, Status};

/// 24 bytes and the tail up to the end of file.
pub(super) const BYTES: usize = 25;
pub(super) const FILES: usize = 2;
pub(super) const LMS: usize = 2;
pub(super) const CLIENTS: usize = 3;
pub(super) const OWNERS: usize = 2;
const ALL_OWNERS: usize = LMS * CLIENTS * OWNERS;
/// How long a request is held back in a window.
pub(super) const PARK: u64 = 2_000;
/// How long expired locks are kept.
pub(super) const HOLD: u64 = 3_000;

/// Lock manager, client, owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Who {
    pub(super) lm: usize,
    pub(super) client: usize,
    pub(super) n: usize,
}

impl Who {
    fn client_index(self) -> usize {
        self.lm * CLIENTS + self.client
    }

    fn index(self) -> usize {
        self.client_index() * OWNERS + self.n
    }
}

/// A file and bytes `lo..=hi` of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) file: usize,
    pub(super) lo: usize,
    pub(super) hi: usize,
}

impl Spot {
    fn meets(self, other: Spot) -> bool {
        self.file == other.file && self.lo <= other.hi && other.lo <= self.hi
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) mode: Mode,
    pub(super) condition: Condition,
    pub(super) state: u32,
    pub(super) grant: Option<u64>,
    pub(super) under: Option<(Condition, u32)>,
    pub(super) kept: bool,
}

impl Cell {
    fn held(mode: Mode, state: u32) -> Self {
        Self { mode, condition: Condition::Held, state, grant: None, under: None, kept: false }
    }

    /// What stays of it when its lock manager is released.
    fn kept(self) -> Self {
        let condition = match self.condition {
            Condition::Expired => Condition::Expired,
            _ => Condition::Reclaimable,
        };
        Self { condition, kept: true, ..Self::held(self.mode, self.state) }
    }

    /// The same for one whose owner is back.
    fn back(self) -> Self {
        match self.condition {
            Condition::Reclaimable | Condition::Expired => Self { condition: Condition::Held, ..self },
            _ => self,
        }
    }

    fn before_grant(self) -> Option<Cell> {
        self.under.map(|(condition, state)| Cell { condition, ..Cell::held(Mode::Shared, state) })
    }
}

pub(super) type FileMap = [[Option<Cell>; BYTES]; ALL_OWNERS];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    Callback,
    Reply { token: u64, until: u64, test: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    /// Order of arrival.
    pub(super) seq: u64,
    pub(super) who: Who,
    pub(super) spot: Spot,
    pub(super) mode: Mode,
    pub(super) state: u32,
    pub(super) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    pub(super) who: Who,
    pub(super) spot: Spot,
    pub(super) mode: Mode,
    pub(super) state: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Status(Status),
    /// Denied by one of the conflicting locks in this map.
    Holder(Who, Spot, Mode, Box<FileMap>),
    Void,
    Silent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Window {
    pub(super) until: u64,
    /// By file.
    pub(super) full: [bool; FILES],
}

impl Window {
    pub(super) fn is_full(self) -> bool {
        self.full.contains(&true)
    }
}

/// What one step shall bring about.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) answers: BTreeMap<u64, Answer>,
    pub(super) sent: Vec<(u64, Grant)>,
    pub(super) stopped: BTreeSet<u64>,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) files: [FileMap; FILES],
    /// NSM state of each known client.
    pub(super) clients: [Option<u32>; LMS * CLIENTS],
    pub(super) waiters: Vec<Waiter>,
    pub(super) grants: BTreeMap<u64, Grant>,
    pub(super) windows: [Option<Window>; LMS],
    pub(super) stages: [Stage; LMS],
    /// Ends of the hold times.
    pub(super) holds: [Option<u64>; LMS],
    /// Whether a LOCK is held back for reclaimable locks.
    parks: bool,
    next_grant: u64,
    next_seq: u64,
    pub(super) expected: Expected,
}

impl Model {
    pub(super) fn new(parks: bool) -> Self {
        Self {
            files: [[[None; BYTES]; ALL_OWNERS]; FILES],
            clients: [None; LMS * CLIENTS],
            waiters: Vec::new(),
            grants: BTreeMap::new(),
            windows: [None; LMS],
            stages: [Stage::Loaded; LMS],
            holds: [None; LMS],
            parks,
            next_grant: 0,
            next_seq: 0,
            expected: Expected::default(),
        }
    }

    /// What is due happens first.
    pub(super) fn advance(&mut self, now: u64) {
        let mut over: Vec<(u64, usize)> = Vec::new();
        let loaded = (0..LMS).filter(|lm| self.is_loaded(*lm));
        over.extend(loaded.filter_map(|lm| Some((self.windows[lm]?.until, lm))));
        over.retain(|(until, _)| *until <= now);
        over.sort_unstable();
        for (_, lm) in over {
            self.end_grace(now, lm);
        }
        for lm in 0..LMS {
            if self.is_loaded(lm) && self.holds[lm].is_some_and(|until| until <= now) {
                self.holds[lm] = None;
                self.change_lm(lm, |c| (c.condition != Condition::Expired).then_some(c));
            }
        }
        let (due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition(|w| matches!(w.how, How::Reply { until, .. } if until <= now));
        self.waiters = rest;
        for w in due {
            self.turn_away(&w, Answer::Status(Status::DeniedGracePeriod));
        }
    }

    #[allow(clippy::too_many_arguments)] // a request has that many fields
    pub(super) fn lock(
        &mut self,
        now: u64,
        who: Who,
        spot: Spot,
        mode: Mode,
        (block, monitored): (bool, bool),
        sent_state: u32,
        token: u64,
    ) {
        let c = who.client_index();
        let known = *self.clients[c].get_or_insert(0);
        if sent_state != 0 && sent_state != known {
            if known != 0 {
                self.free_client(c, |state| state != sent_state);
                self.serve_waiters();
            }
            self.clients[c] = Some(sent_state);
        }
        let state = self.clients[c].unwrap_or(0);
        let covered = self.covers(who, spot, mode);
        let own = &self.files[spot.file][who.index()][spot.lo..=spot.hi];
        let back = |c: &Cell| !matches!(c.condition, Condition::Reclaimable | Condition::Expired);
        let proven = covered && own.iter().flatten().all(back);
        let window = self.is_full(who.lm, spot.file) && !proven;
        if !window && !self.conflicts(who, spot, mode) {
            self.drop_exact(who, spot, mode);
            self.evict(who, spot, mode, false);
            self.put(who, spot, |_| Some(Cell::held(mode, state)));
            self.drop_empty_grants();
            self.serve_waiters();
            return self.status(token, Status::Granted);
        }
        if !block || !monitored {
            if !window && !self.is_worth_parking(who, spot, mode) {
                return self.status(token, Status::Denied);
            }
            let how = How::Reply { token, until: now + PARK, test: false };
            return self.push(who, spot, mode, state, how);
        }
        if self.circle(who, spot, mode) {
            self.drop_exact(who, spot, mode);
            return self.status(token, Status::Deadlock);
        }
        if !self.waiters.iter().any(|w| is_exact(w, who, spot, mode)) {
            self.push(who, spot, mode, state, How::Callback);
        }
        self.status(token, Status::Blocked);
    }

    pub(super) fn reclaim(&mut self, who: Who, spot: Spot, mode: Mode, sent_state: u32, token: u64) {
        let c = who.client_index();
        if !self.covers(who, spot, mode) {
            match self.windows[who.lm] {
                None => return self.status(token, Status::DeniedGracePeriod),
                Some(window) if !window.full[spot.file] => return self.status(token, Status::Denied),
                Some(_) => {}
            }
            self.clients[c].get_or_insert(0);
            let in_the_way = self.in_the_way(who, spot, mode);
            if in_the_way.into_iter().any(|(owner, cell)| !self.is_doubtful(owner, spot.file, cell)) {
                return self.status(token, Status::Denied);
            }
            self.evict(who, spot, mode, true);
        }
        let state = if sent_state != 0 { sent_state } else { self.clients[c].unwrap_or(0) };
        let full = self.is_full(who.lm, spot.file);
        self.put(who, spot, |cell| match cell {
            None => Some(Cell::held(mode, state)),
            Some(c) if c.back() != c => {
                let state = if c.mode >= mode { c.state } else { state };
                let late = c.condition == Condition::Expired;
                Some(Cell::held(if full || late { mode } else { c.mode.max(mode) }, state))
            }
            Some(c) if c.mode < mode => Some(Cell::held(mode, state)),
            Some(c) if c.mode == mode && c.condition != Condition::Held => Some(Cell::held(mode, c.state)),
            kept => kept,
        });
        self.drop_empty_grants();
        self.serve_waiters();
        self.status(token, Status::Granted);
    }

    pub(super) fn unlock(&mut self, who: Who, spot: Spot, token: u64) {
        let (gone, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiters).into_iter().partition(|w| w.who == who && w.spot.meets(spot));
        self.waiters = rest;
        for w in gone {
            self.turn_away(&w, Answer::Status(Status::DeniedGracePeriod));
        }
        self.put(who, spot, |_| None);
        self.drop_empty_grants();
        self.serve_waiters();
        self.status(token, Status::Granted);
    }

    pub(super) fn cancel(&mut self, who: Who, spot: Spot, mode: Mode, token: u64) {
        let mut cancelled = self.drop_exact(who, spot, mode);
        let named: Vec<u64> = self
            .grants
            .iter()
            .filter(|(_, g)| g.who == who && g.spot == spot && g.mode == mode)
            .map(|(id, _)| *id)
            .collect();
        for id in named {
            self.take_back(id);
            self.expected.stopped.insert(id);
            cancelled = true;
        }
        self.put(who, spot, |cell| match cell {
            Some(c) if c.condition == Condition::Unconfirmed && c.mode == mode && c.grant.is_none() => {
                cancelled = true;
                c.before_grant()
            }
            kept => kept,
        });
        let status =
            if !cancelled && self.covers(who, spot, mode) { Status::Denied } else { Status::Granted };
        self.serve_waiters();
        self.status(token, status);
    }

    pub(super) fn test(&mut self, now: u64, who: Who, spot: Spot, mode: Mode, token: u64) {
        if self.is_full(who.lm, spot.file) {
            self.clients[who.client_index()].get_or_insert(0);
            let how = How::Reply { token, until: now + PARK, test: true };
            return self.push(who, spot, mode, 0, how);
        }
        self.answer_test(who, spot, mode, token);
    }

    pub(super) fn free_all(&mut self, lm: usize, client: usize, token: u64) {
        self.free_client(lm * CLIENTS + client, |_| true);
        self.serve_waiters();
        self.expected.answers.insert(token, Answer::Void);
    }

    pub(super) fn notify(&mut self, lm: usize, client: usize, state: u32, token: u64) {
        let c = lm * CLIENTS + client;
        if let Some(known) = self.clients[c] {
            let may_be_late = self.windows[lm].is_some();
            self.free_client(c, |old| {
                let taken = if old == 0 { known } else { old };
                if taken == 0 { !may_be_late } else { taken < state }
            });
            self.serve_waiters();
            if known == 0 || known < state {
                self.clients[c] = Some(state);
            }
        }
        self.expected.answers.insert(token, Answer::Void);
    }

    pub(super) fn done(&mut self, id: u64, outcome: CallbackOutcome) {
        let Some(grant) = self.grants.get(&id).copied() else { return };
        match outcome {
            CallbackOutcome::RefusedFirst => self.take_back(id),
            CallbackOutcome::Accepted => {
                self.grants.remove(&id);
                self.put(grant.who, grant.spot, |cell| match cell {
                    Some(c) if c.grant == Some(id) => Some(Cell::held(grant.mode, grant.state)),
                    other => other,
                });
            }
            CallbackOutcome::RefusedLater | CallbackOutcome::Unanswered => {
                self.grants.remove(&id);
                self.put(grant.who, grant.spot, |cell| match cell {
                    Some(c) if c.grant == Some(id) && c.condition == Condition::Granting => {
                        Some(Cell { condition: Condition::Unconfirmed, grant: None, ..c })
                    }
                    Some(c) if c.grant == Some(id) => Some(Cell { grant: None, ..c }),
                    other => other,
                });
            }
        }
        self.serve_waiters();
    }

    pub(super) fn covers(&self, who: Who, spot: Spot, mode: Mode) -> bool {
        let own = &self.files[spot.file][who.index()];
        own[spot.lo..=spot.hi].iter().all(|c| c.is_some_and(|c| c.mode >= mode))
    }

    pub(super) fn conflicts(&self, who: Who, spot: Spot, mode: Mode) -> bool {
        !self.holders(who, spot, mode).is_empty()
    }

    /// The owners in the way.
    fn holders(&self, who: Who, spot: Spot, mode: Mode) -> BTreeSet<usize> {
        self.in_the_way(who, spot, mode).into_iter().map(|(owner, _)| owner).collect()
    }

    /// The same without those of whom only a doubtful record says so.
    fn sure_holders(&self, who: Who, spot: Spot, mode: Mode) -> BTreeSet<usize> {
        let met = self.in_the_way(who, spot, mode).into_iter();
        met.filter(|(owner, cell)| !self.is_doubtful(*owner, spot.file, *cell))
            .map(|(owner, _)| owner)
            .collect()
    }

    /// What is in the way, byte by byte: the owner and what it has there.
    fn in_the_way(&self, who: Who, spot: Spot, mode: Mode) -> Vec<(usize, Cell)> {
        let file = &self.files[spot.file];
        let others = (0..ALL_OWNERS).filter(|o| *o != who.index());
        others
            .flat_map(|o| file[o][spot.lo..=spot.hi].iter().flatten().map(move |c| (o, *c)))
            .filter(|(_, c)| c.mode.conflicts(mode) && c.condition != Condition::Expired)
            .collect()
    }

    fn is_full(&self, lm: usize, file: usize) -> bool {
        self.windows[lm].is_some_and(|w| w.full[file])
    }

    fn is_doubtful(&self, owner: usize, file: usize, cell: Cell) -> bool {
        cell.condition == Condition::Reclaimable && self.is_full(owner / (CLIENTS * OWNERS), file)
    }

    fn is_worth_parking(&self, who: Who, spot: Spot, mode: Mode) -> bool {
        let met = self.in_the_way(who, spot, mode);
        self.parks
            && met.iter().all(|(_, c)| c.condition == Condition::Reclaimable)
            && met.iter().any(|(owner, _)| self.windows[owner / (CLIENTS * OWNERS)].is_some())
    }

    pub(super) fn reclaimable(&self, lm: usize) -> bool {
        let mut cells = self.files.iter().flat_map(|file| file[owners_of(lm)].iter().flatten().flatten());
        cells.any(|c| c.condition == Condition::Reclaimable)
    }

    fn change_lm(&mut self, lm: usize, f: impl Fn(Cell) -> Option<Cell>) {
        for file in &mut self.files {
            for cell in file[owners_of(lm)].iter_mut().flatten() {
                *cell = cell.and_then(&f);
            }
        }
    }

    /// Takes from others what yields to this lock.
    fn evict(&mut self, who: Who, spot: Spot, mode: Mode, records: bool) {
        for o in (0..ALL_OWNERS).filter(|o| *o != who.index()) {
            for byte in spot.lo..=spot.hi {
                let cell = self.files[spot.file][o][byte];
                let yields = cell.is_some_and(|c| {
                    c.mode.conflicts(mode)
                        && (c.condition == Condition::Expired
                            || (records && self.is_doubtful(o, spot.file, c)))
                });
                if yields {
                    self.files[spot.file][o][byte] = None;
                }
            }
        }
    }

    /// Whether waiting here would close a circle: the owners reached from those in the way.
    fn circle(&self, who: Who, spot: Spot, mode: Mode) -> bool {
        let mut reached = self.sure_holders(who, spot, mode);
        loop {
            let mut more = reached.clone();
            for w in self.waiters.iter().filter(|w| w.how == How::Callback) {
                if reached.contains(&w.who.index()) {
                    more.extend(self.sure_holders(w.who, w.spot, w.mode));
                }
            }
            if more == reached {
                return reached.contains(&who.index());
            }
            reached = more;
        }
    }

    fn may_go(&self, w: &Waiter) -> bool {
        let own = &self.files[w.spot.file][w.who.index()][w.spot.lo..=w.spot.hi];
        let met = self.in_the_way(w.who, w.spot, w.mode);
        self.is_loaded(w.who.lm)
            && !self.is_full(w.who.lm, w.spot.file)
            && match w.how {
                How::Reply { test: true, .. } => true,
                How::Reply { .. } => met.iter().all(|(_, c)| c.condition != Condition::Reclaimable),
                How::Callback => met.is_empty() && own.iter().flatten().all(|c| c.grant.is_none()),
            }
    }

    fn push(&mut self, who: Who, spot: Spot, mode: Mode, state: u32, how: How) {
        self.next_seq += 1;
        self.waiters.push(Waiter { seq: self.next_seq, who, spot, mode, state, how });
    }

    /// Whoever can go, goes, the oldest first, until nobody can.
    fn serve_waiters(&mut self) {
        while let Some(i) = (0..self.waiters.len()).find(|i| self.may_go(&self.waiters[*i])) {
            let w = self.waiters.remove(i);
            match w.how {
                How::Callback => self.grant(w),
                How::Reply { token, test: true, .. } => self.answer_test(w.who, w.spot, w.mode, token),
                How::Reply { token, .. } if self.conflicts(w.who, w.spot, w.mode) => {
                    self.status(token, Status::Denied);
                }
                How::Reply { token, .. } => {
                    self.evict(w.who, w.spot, w.mode, false);
                    self.put(w.who, w.spot, |_| Some(Cell::held(w.mode, w.state)));
                    self.drop_empty_grants();
                    self.status(token, Status::Granted);
                }
            }
        }
    }

    fn grant(&mut self, w: Waiter) {
        self.next_grant += 1;
        let id = self.next_grant;
        let grant = Grant { who: w.who, spot: w.spot, mode: w.mode, state: w.state };
        self.evict(w.who, w.spot, w.mode, false);
        self.put(w.who, w.spot, |cell| {
            let expired = |c: &Cell| c.condition == Condition::Expired;
            let cell = cell
                .filter(|c| !expired(c) || c.mode < w.mode)
                .map(|c| if expired(&c) { c } else { c.back() });
            let new = Cell {
                condition: Condition::Granting,
                grant: Some(id),
                under: cell.map(|c| (c.condition, c.state)),
                ..Cell::held(w.mode, w.state)
            };
            match cell {
                Some(c) if c.mode >= w.mode => Some(Cell { grant: Some(id), ..c }),
                _ => Some(new),
            }
        });
        self.grants.insert(id, grant);
        self.expected.sent.push((id, grant));
    }

    fn take_back(&mut self, id: u64) {
        let Some(g) = self.grants.remove(&id) else { return };
        self.put(g.who, g.spot, |cell| match cell {
            Some(c) if c.grant == Some(id) && c.condition == Condition::Granting => c.before_grant(),
            Some(c) if c.grant == Some(id) => Some(Cell { grant: None, ..c }),
            other => other,
        });
    }

    fn put(&mut self, who: Who, spot: Spot, mut f: impl FnMut(Option<Cell>) -> Option<Cell>) {
        for cell in &mut self.files[spot.file][who.index()][spot.lo..=spot.hi] {
            *cell = f(*cell);
        }
    }

    fn drop_empty_grants(&mut self) {
        let files = &self.files;
        let stopped = &mut self.expected.stopped;
        self.grants.retain(|id, g| {
            let left = files[g.spot.file][g.who.index()].iter().flatten().any(|c| c.grant == Some(*id));
            if !left {
                stopped.insert(*id);
            }
            left
        });
    }

    fn drop_exact(&mut self, who: Who, spot: Spot, mode: Mode) -> bool {
        let before = self.waiters.len();
        self.waiters.retain(|w| !is_exact(w, who, spot, mode));
        before != self.waiters.len()
    }

    fn free_client(&mut self, client: usize, which: impl Fn(u32) -> bool) {
        self.drop_silently(|w| w.who.client_index() == client && which(w.state));
        for file in &mut self.files {
            for cell in file[client * OWNERS..(client + 1) * OWNERS].iter_mut().flatten() {
                *cell = cell.filter(|c| !which(c.state));
            }
        }
        self.drop_empty_grants();
    }

    fn drop_silently(&mut self, which: impl Fn(&Waiter) -> bool) {
        let (gone, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiters).into_iter().partition(which);
        self.waiters = rest;
        for w in gone {
            self.turn_away(&w, Answer::Silent);
        }
    }

    fn answer_test(&mut self, who: Who, spot: Spot, mode: Mode, token: u64) {
        let answer = match self.conflicts(who, spot, mode) {
            true => Answer::Holder(who, spot, mode, Box::new(self.files[spot.file])),
            false => Answer::Status(Status::Granted),
        };
        self.expected.answers.insert(token, answer);
    }

    fn turn_away(&mut self, w: &Waiter, answer: Answer) {
        if let How::Reply { token, .. } = w.how {
            self.expected.answers.insert(token, answer);
        }
    }

    fn status(&mut self, token: u64, status: Status) {
        self.expected.answers.insert(token, Answer::Status(status));
    }
}

fn owners_of(lm: usize) -> std::ops::Range<usize> {
    lm * CLIENTS * OWNERS..(lm + 1) * CLIENTS * OWNERS
}

fn is_exact(w: &Waiter, who: Who, spot: Spot, mode: Mode) -> bool {
    w.how == How::Callback && (w.who, w.spot, w.mode) == (who, spot, mode)
}
