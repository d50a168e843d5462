//! The server: a table of cells, right unless it is told to make a mistake.

use super::{CELLS, Dice, bytes, cells, lm_of};
use lockferry_checker::history::*;
use std::collections::{BTreeMap, BTreeSet};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    None,
    GrantsShareBesideExclusive,
    UpgradeDespiteReaders,
    LosesOneLockInAMove,
    LosesGrantingInAMove,
    WindowTooShort,
    ReclaimWithoutProof,
    ReclaimOfStrongerMode,
    WindowFreezesOtherAddresses,
    WindowFreezesItsAddress,
    WindowNeverEnds,
    LastWaiterFirst,
    LostWakeUp,
    UnlockCopyActs,
    LockCopyActs,
    CacheLostInAMove,
    CopyIsDenied,
    UnlockRefusedInGrace,
    CancelRefused,
    UnlockFreesAll,
    UnlockForgetsTheLastByte,
    LockKeepsOldModeBeside,
    ReclaimWeakens,
    ForgedUnlockFrees,
    LateNotifyFreesNewLocks,
    NotifyFreesNothing,
    MoveReleasesAnother,
    WrongHolder,
    OneOwnerForTwoAddresses,
    AlwaysTakesBack,
    ListLacksOne,
    RecordLacksOne,
    EvenState,
    ReclaimRefusedAtEnd,
    DeadlockOutOfNothing,
    NeverAnswersOnce,
    TestIgnoresReclaimable,
    GrantToCancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    pub owner: Owner,
    pub sender: ClientId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub exclusive: bool,
    pub condition: Condition,
    pub state: u32,
    /// Granted by callback, and nothing heard of it.
    unsure: bool,
    /// The range that was granted as one.
    of: Bytes,
}

#[derive(Clone, Copy, Debug)]
pub struct Waiter {
    pub who: Who,
    pub lock: Lock,
    pub state: u32,
}

#[derive(Clone, Debug)]
pub struct Granting {
    pub id: u64,
    pub waiter: Waiter,
    before: [Option<Cell>; CELLS],
    pub sent: u32,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Manager {
    pub served: bool,
    pub node: u32,
    pub window: Option<(Micros, bool)>,
    pub nsm: u32,
}

pub struct Server {
    pub bug: Bug,
    dice: Dice,
    pub managers: Vec<Manager>,
    pub held: BTreeMap<(FileId, Who), [Option<Cell>; CELLS]>,
    pub waiters: Vec<Waiter>,
    pub granting: Vec<Granting>,
    cache: BTreeMap<CallId, (usize, bool, Answer)>,
    dropped: BTreeSet<CallId>,
    /// Grants to be called back.
    pub to_call: Vec<u64>,
    next: u64,
}

impl Server {
    pub fn new(bug: Bug, seed: u64, managers: usize) -> Self {
        Self {
            bug,
            dice: Dice::new(seed ^ 77),
            managers: vec![Manager::default(); managers],
            held: BTreeMap::new(),
            waiters: Vec::new(),
            granting: Vec::new(),
            cache: BTreeMap::new(),
            dropped: BTreeSet::new(),
            to_call: Vec::new(),
            next: 0,
        }
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    fn clash(&self, a: &Who, b: &Who) -> bool {
        if self.is(Bug::OneOwnerForTwoAddresses) {
            return (a.owner.client, a.owner.svid, a.sender) != (b.owner.client, b.owner.svid, b.sender);
        }
        a != b
    }

    /// The first cell of another that excludes this.
    fn conflict(&self, who: &Who, lock: &Lock) -> Option<(Who, usize, Cell)> {
        for ((file, other), table) in &self.held {
            if *file != lock.file || !self.clash(who, other) {
                continue;
            }
            for i in cells(lock.bytes) {
                if let Some(cell) = table[i]
                    && cell.condition != Condition::Expired
                    && (cell.exclusive || lock.exclusive)
                    && (lock.exclusive || !self.is(Bug::GrantsShareBesideExclusive))
                    && !(self.is(Bug::UpgradeDespiteReaders)
                        && self.held.get(&(lock.file, *who)).is_some_and(|own| own[i].is_some()))
                {
                    return Some((*other, i, cell));
                }
            }
        }
        None
    }

    fn drop_expired(&mut self, who: &Who, lock: &Lock) {
        for ((file, other), table) in &mut self.held {
            if *file == lock.file && other != who {
                for i in cells(lock.bytes) {
                    if table[i]
                        .is_some_and(|c| c.condition == Condition::Expired && (c.exclusive || lock.exclusive))
                    {
                        table[i] = None;
                    }
                }
            }
        }
    }

    fn put(&mut self, who: Who, lock: &Lock, condition: Condition, state: u32) -> [Option<Cell>; CELLS] {
        self.drop_expired(&who, lock);
        let table = self.held.entry((lock.file, who)).or_insert([None; CELLS]);
        let before = *table;
        let unsure = condition == Condition::Granting;
        for i in cells(lock.bytes) {
            // A callback makes nothing doubtful that was the owner's before.
            let sure = before[i].is_some_and(|b| !b.unsure && (b.exclusive || !lock.exclusive));
            let unsure = unsure && !sure;
            table[i] = Some(Cell { exclusive: lock.exclusive, condition, state, unsure, of: lock.bytes });
        }
        if self.bug == Bug::LockKeepsOldModeBeside && lock.exclusive {
            let next = (lock.bytes.end.min(15) as usize + 1).min(CELLS - 1);
            if table[next].is_some() {
                table[next] = Some(Cell { exclusive: true, condition, state, unsure, of: lock.bytes });
            }
        }
        before
    }

    pub fn handle(
        &mut self,
        now: Micros,
        sender: ClientId,
        call: CallId,
        request: Request,
    ) -> Option<Answer> {
        let lm = match request {
            Request::Lock { lock, .. } | Request::Cancel { lock } | Request::Test { lock } => {
                lm_of(lock.owner.lm)
            }
            Request::Unlock { owner, .. } => lm_of(owner.lm),
            Request::Notify { lm, .. } => lm_of(lm),
        };
        if !self.managers[lm].served {
            return None;
        }
        if self.is(Bug::NeverAnswersOnce) && (call.0 % 97 == 5 || self.dropped.contains(&call)) {
            self.dropped.insert(call);
            return None;
        }
        if let Some((_, _, answer)) = self.cache.get(&call).copied() {
            if self.is(Bug::CopyIsDenied)
                && answer == Answer::Granted
                && matches!(request, Request::Lock { .. })
            {
                return Some(Answer::Denied);
            }
            let acts = (self.is(Bug::UnlockCopyActs) && matches!(request, Request::Unlock { .. }))
                || (self.is(Bug::LockCopyActs) && matches!(request, Request::Lock { .. }));
            if !acts {
                return Some(answer);
            }
        }
        let answer = self.act(now, sender, lm, request);
        if !matches!(request, Request::Test { .. }) {
            let durable = answer == Answer::Granted || answer == Answer::Void;
            self.cache.insert(call, (lm, durable, answer));
        }
        Some(answer)
    }

    fn act(&mut self, now: Micros, sender: ClientId, lm: usize, request: Request) -> Answer {
        match request {
            Request::Lock { lock, block, reclaim, state } => {
                let who = Who { owner: lock.owner, sender };
                if reclaim {
                    self.reclaim(now, lm, who, &lock)
                } else {
                    self.lock(lm, who, &lock, block, state)
                }
            }
            Request::Unlock { owner, file, bytes } => {
                if self.is(Bug::UnlockRefusedInGrace) && self.managers[lm].window.is_some() {
                    return Answer::DeniedGrace;
                }
                self.unlock(Who { owner, sender }, file, bytes);
                Answer::Granted
            }
            Request::Cancel { lock } => {
                if self.is(Bug::CancelRefused) {
                    return Answer::Denied;
                }
                self.cancel(&Who { owner: lock.owner, sender }, &lock);
                Answer::Granted
            }
            Request::Test { lock } => self.test(lm, &Who { owner: lock.owner, sender }, &lock),
            Request::Notify { client, state, .. } => {
                if !self.is(Bug::NotifyFreesNothing) {
                    let late = self.is(Bug::LateNotifyFreesNewLocks);
                    self.reboot(client, sender, lm, state, late);
                }
                Answer::Void
            }
        }
    }

    fn lock(&mut self, lm: usize, who: Who, lock: &Lock, block: bool, state: u32) -> Answer {
        let window = self.managers[lm].window;
        let other = self.managers.iter().enumerate().any(|(i, m)| i != lm && m.window.is_some());
        let frozen = window.is_some_and(|(_, full)| full)
            || (self.is(Bug::WindowFreezesItsAddress) && window.is_some())
            || (self.is(Bug::WindowFreezesOtherAddresses) && other);
        if frozen && !block {
            return Answer::DeniedGrace;
        }
        if state != 0 && !self.is(Bug::NotifyFreesNothing) {
            self.reboot(who.owner.client, who.sender, lm, state, false);
        }
        self.forget_older(&who, lock);
        if self.is(Bug::DeadlockOutOfNothing)
            && block
            && self.conflict(&who, lock).is_some()
            && self.dice.one_in(5)
        {
            return Answer::Deadlock;
        }
        match self.conflict(&who, lock) {
            _ if frozen => {}
            None => {
                self.put(who, lock, Condition::Held, state);
                self.granting.retain(|g| !(g.waiter.who == who && g.waiter.lock == *lock));
                self.waiters.retain(|w| !(w.who == who && w.lock == *lock));
                self.wake(lock.file);
                return Answer::Granted;
            }
            Some((_, _, cell)) if !block => {
                let grace = cell.condition == Condition::Reclaimable;
                return if grace { Answer::DeniedGrace } else { Answer::Denied };
            }
            Some(_) => {}
        }
        if !self.waiters.iter().any(|w| w.who == who && w.lock == *lock) {
            self.waiters.push(Waiter { who, lock: *lock, state });
        }
        Answer::Blocked
    }

    /// An owner that asks for something else there has given up what it waited for.
    fn forget_older(&mut self, who: &Who, lock: &Lock) {
        let older = |w: &Waiter| {
            w.who == *who
                && w.lock != *lock
                && w.lock.file == lock.file
                && w.lock.bytes.start <= lock.bytes.end
                && lock.bytes.start <= w.lock.bytes.end
        };
        self.waiters.retain(|w| !older(w));
        while let Some(at) = self.granting.iter().position(|g| older(&g.waiter)) {
            let granting = self.granting.remove(at);
            self.confirm(&granting.waiter, Condition::Unconfirmed);
        }
    }

    fn reclaim(&mut self, now: Micros, lm: usize, who: Who, lock: &Lock) -> Answer {
        let weakens = self.is(Bug::ReclaimWeakens);
        let any_mode = self.is(Bug::ReclaimOfStrongerMode);
        let table = self.held.entry((lock.file, who)).or_insert([None; CELLS]);
        let covered =
            cells(lock.bytes).all(|i| table[i].is_some_and(|c| c.exclusive || !lock.exclusive || any_mode));
        if self.is(Bug::ReclaimRefusedAtEnd)
            && self.managers[lm].window.is_some_and(|(end, _)| end.saturating_sub(now) < 4_000_000)
        {
            return Answer::DeniedGrace;
        }
        if covered {
            let table = self.held.entry((lock.file, who)).or_insert([None; CELLS]);
            for cell in table[cells(lock.bytes)].iter_mut().flatten() {
                if cell.condition == Condition::Reclaimable || cell.condition == Condition::Expired {
                    cell.condition = Condition::Held;
                }
                cell.unsure = false;
                if weakens || any_mode {
                    cell.exclusive = lock.exclusive;
                }
            }
            self.end_window_if_done(lm);
            return Answer::Granted;
        }
        let full = self.managers[lm].window.is_some_and(|(_, full)| full);
        if full || self.is(Bug::ReclaimWithoutProof) {
            if !full && self.conflict(&who, lock).is_some() {
                return Answer::Denied;
            }
            let held = self.conflict_held(&who, lock);
            if !held {
                self.drop_unreclaimed(&who, lock);
                self.put(who, lock, Condition::Held, 0);
                return Answer::Granted;
            }
            return Answer::Denied;
        }
        if self.managers[lm].window.is_some() { Answer::Denied } else { Answer::DeniedGrace }
    }

    fn conflict_held(&self, who: &Who, lock: &Lock) -> bool {
        self.held.iter().any(|((file, other), table)| {
            *file == lock.file
                && other != who
                && cells(lock.bytes).any(|i| {
                    table[i].is_some_and(|c| {
                        (c.exclusive || lock.exclusive)
                            && !matches!(c.condition, Condition::Reclaimable | Condition::Expired)
                    })
                })
        })
    }

    fn drop_unreclaimed(&mut self, who: &Who, lock: &Lock) {
        for ((file, other), table) in &mut self.held {
            if *file == lock.file && other != who {
                for i in cells(lock.bytes) {
                    if table[i].is_some_and(|c| {
                        c.condition == Condition::Reclaimable && (c.exclusive || lock.exclusive)
                    }) {
                        table[i] = None;
                    }
                }
            }
        }
    }

    fn unlock(&mut self, who: Who, file: FileId, range: Bytes) {
        let genuine = Who { owner: who.owner, sender: who.owner.client };
        let who = if self.is(Bug::ForgedUnlockFrees) { genuine } else { who };
        let whole = self.is(Bug::UnlockFreesAll);
        let lazy = self.is(Bug::UnlockForgetsTheLastByte);
        if let Some(table) = self.held.get_mut(&(file, who)) {
            let mut range = if whole { 0..=CELLS - 1 } else { cells(range) };
            if lazy && range.start() < range.end() {
                range = *range.start()..=range.end() - 1;
            }
            for i in range {
                table[i] = None;
            }
        }
        let touches = |l: &Lock| l.file == file && l.bytes.start <= range.end && range.start <= l.bytes.end;
        self.waiters.retain(|w| !(w.who == who && touches(&w.lock)));
        self.granting.retain(|g| !(g.waiter.who == who && touches(&g.waiter.lock)));
        if !self.is(Bug::LostWakeUp) || !self.dice.one_in(4) {
            self.wake(file);
        }
        self.end_window_if_done(lm_of(who.owner.lm));
    }

    fn cancel(&mut self, who: &Who, lock: &Lock) {
        if self.is(Bug::GrantToCancelled) {
            return;
        }
        self.waiters.retain(|w| !(w.who == *who && w.lock == *lock));
        let of = |g: &Granting| g.waiter.who == *who && g.waiter.lock == *lock;
        if let Some(at) = self.granting.iter().position(of) {
            self.take_back(at);
        } else if let Some(table) = self.held.get_mut(&(lock.file, *who)) {
            for i in cells(lock.bytes) {
                if table[i].is_some_and(|c| c.unsure && c.of == lock.bytes && c.exclusive == lock.exclusive) {
                    table[i] = None;
                }
            }
            self.wake(lock.file);
        }
    }

    fn take_back(&mut self, at: usize) {
        let granting = self.granting.remove(at);
        let (who, lock) = (granting.waiter.who, granting.waiter.lock);
        if let Some(table) = self.held.get_mut(&(lock.file, who)) {
            for i in cells(lock.bytes) {
                // What was exclusive before a downgrade may have been shared with others since.
                if lock.exclusive || !granting.before[i].is_some_and(|before| before.exclusive) {
                    table[i] = granting.before[i];
                }
            }
        }
        self.wake(lock.file);
    }

    fn test(&mut self, lm: usize, who: &Who, lock: &Lock) -> Answer {
        if self.managers[lm].window.is_some_and(|(_, full)| full) {
            return Answer::DeniedGrace;
        }
        match self.conflict(who, lock) {
            Some((_, _, cell))
                if self.is(Bug::TestIgnoresReclaimable) && cell.condition == Condition::Reclaimable =>
            {
                Answer::Granted
            }
            Some((other, i, cell)) => {
                let table = self.held[&(lock.file, other)];
                let (mut from, mut to) = (i, i);
                let same = |i: usize| table[i].is_some_and(|c| c.exclusive == cell.exclusive);
                while from > 0 && same(from - 1) {
                    from -= 1;
                }
                while to + 1 < CELLS && same(to + 1) {
                    to += 1;
                }
                let wrong = u32::from(self.is(Bug::WrongHolder)) * 1000;
                Answer::Holder {
                    svid: other.owner.svid + wrong,
                    bytes: bytes(from, to),
                    exclusive: cell.exclusive,
                }
            }
            None => Answer::Granted,
        }
    }

    /// Frees what a client took under another, known state.
    fn reboot(&mut self, client: ClientId, sender: ClientId, lm: usize, state: u32, all: bool) {
        let mut files = BTreeSet::new();
        for ((file, who), table) in &mut self.held {
            if who.owner.client == client && who.sender == sender && lm_of(who.owner.lm) == lm {
                for cell in table.iter_mut() {
                    if cell.is_some_and(|c| all || (c.state != 0 && c.state < state)) {
                        *cell = None;
                        files.insert(*file);
                    }
                }
            }
        }
        let of = |w: &Waiter| {
            w.who.owner.client == client
                && w.who.sender == sender
                && lm_of(w.who.owner.lm) == lm
                && w.state < state
        };
        self.waiters.retain(|w| !of(w));
        self.granting.retain(|g| !of(&g.waiter));
        for file in files {
            self.wake(file);
        }
        self.end_window_if_done(lm);
    }

    fn wake(&mut self, file: FileId) {
        let mut order: Vec<usize> = (0..self.waiters.len()).collect();
        if self.is(Bug::LastWaiterFirst) {
            order.reverse();
        }
        let mut granted = Vec::new();
        for at in order {
            let waiter = self.waiters[at];
            let lm = lm_of(waiter.who.owner.lm);
            let full = self.managers[lm].window.is_some_and(|(_, full)| full);
            if waiter.lock.file != file
                || full
                || !self.managers[lm].served
                || self.conflict(&waiter.who, &waiter.lock).is_some()
            {
                continue;
            }
            let before = self.put(waiter.who, &waiter.lock, Condition::Granting, waiter.state);
            self.next += 1;
            self.granting.push(Granting { id: self.next, waiter, before, sent: 0 });
            self.to_call.push(self.next);
            granted.push(at);
        }
        granted.sort_unstable();
        for at in granted.into_iter().rev() {
            self.waiters.remove(at);
        }
    }

    /// The answer to a callback.
    pub fn called(&mut self, id: u64, accepted: bool) {
        let Some(at) = self.granting.iter().position(|g| g.id == id) else { return };
        if accepted {
            let granting = self.granting.remove(at);
            self.confirm(&granting.waiter, Condition::Held);
        } else if self.granting[at].sent == 1 || self.is(Bug::AlwaysTakesBack) {
            self.take_back(at);
        } else {
            let waiter = self.granting[at].waiter;
            self.confirm(&waiter, Condition::Unconfirmed);
        }
    }

    fn confirm(&mut self, waiter: &Waiter, condition: Condition) {
        if let Some(table) = self.held.get_mut(&(waiter.lock.file, waiter.who)) {
            for cell in table[cells(waiter.lock.bytes)].iter_mut().flatten() {
                if cell.condition == Condition::Granting {
                    cell.condition = condition;
                    cell.unsure = condition != Condition::Held;
                }
            }
        }
    }

    /// A node is gone, or has released the address.
    pub fn release(&mut self, lm: usize) {
        self.managers[lm].served = false;
        self.managers[lm].window = None;
        self.waiters.retain(|w| lm_of(w.who.owner.lm) != lm);
        self.granting.retain(|g| lm_of(g.waiter.who.owner.lm) != lm);
        let lost = self.is(Bug::CacheLostInAMove);
        self.cache.retain(|_, (of, durable, _)| *of != lm || (*durable && !lost));
        for ((_, who), table) in &mut self.held {
            let hit = lm_of(who.owner.lm) == lm;
            for cell in table.iter_mut() {
                if hit && let Some(c) = cell {
                    if c.condition == Condition::Granting && self.bug == Bug::LosesGrantingInAMove {
                        *cell = None;
                    } else if c.condition != Condition::Expired {
                        c.condition = Condition::Reclaimable;
                    }
                }
            }
        }
    }

    /// Taken up. Says what it came to.
    pub fn take_up(&mut self, lm: usize, node: u32, now: Micros, window: Micros, how: Opened) {
        self.managers[lm].served = true;
        self.managers[lm].node = node;
        self.managers[lm].nsm += 2;
        if self.is(Bug::LosesOneLockInAMove)
            && let Some((_, table)) =
                self.held.iter_mut().find(|((_, w), t)| lm_of(w.owner.lm) == lm && t[3].is_some())
        {
            *table = [None; CELLS];
        }
        if self.is(Bug::MoveReleasesAnother) {
            self.held.retain(|(_, w), _| lm_of(w.owner.lm) == lm);
        }
        match how {
            Opened::Adopted { .. } | Opened::Unchanged | Opened::Longer { .. } => {
                for ((_, who), table) in &mut self.held {
                    for cell in table.iter_mut().flatten() {
                        if lm_of(who.owner.lm) == lm && cell.condition == Condition::Reclaimable {
                            cell.condition = Condition::Held;
                        }
                    }
                }
                self.wake_all();
            }
            Opened::Window | Opened::Full => {
                let window = if self.is(Bug::WindowTooShort) { window / 4 } else { window };
                self.managers[lm].window = Some((now + window, how == Opened::Full));
                self.end_window_if_done(lm);
            }
        }
    }

    fn end_window_if_done(&mut self, lm: usize) {
        let left = self.held.iter().any(|((_, who), table)| {
            lm_of(who.owner.lm) == lm && table.iter().flatten().any(|c| c.condition == Condition::Reclaimable)
        });
        if !left && self.managers[lm].window.is_some_and(|(_, full)| !full) {
            self.managers[lm].window = None;
        }
    }

    pub fn end_window(&mut self, lm: usize) {
        if self.is(Bug::WindowNeverEnds) {
            return;
        }
        self.managers[lm].window = None;
        for ((_, who), table) in &mut self.held {
            for cell in table.iter_mut().flatten() {
                if lm_of(who.owner.lm) == lm && cell.condition == Condition::Reclaimable {
                    cell.condition = Condition::Expired;
                }
            }
        }
        self.wake_all();
    }

    fn wake_all(&mut self) {
        for file in 0..super::FILES as u64 {
            self.wake(FileId(file));
        }
    }

    pub fn tick(&mut self, now: Micros) {
        for lm in 0..self.managers.len() {
            if self.managers[lm].window.is_some_and(|(end, _)| end <= now) {
                self.end_window(lm);
            }
        }
    }

    pub fn unlock_client(&mut self, client: ClientId, lm: usize) {
        let of = |w: &Who| w.owner.client == client && lm_of(w.owner.lm) == lm;
        self.held.retain(|(_, who), _| !of(who));
        self.waiters.retain(|w| !of(&w.who));
        self.granting.retain(|g| !of(&g.waiter.who));
        self.end_window_if_done(lm);
        self.wake_all();
    }

    pub fn rows(&self, lm: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        for ((file, who), table) in &self.held {
            if lm_of(who.owner.lm) == lm {
                for (i, cell) in table.iter().enumerate() {
                    if let Some(c) = cell {
                        let lock = Lock {
                            owner: who.owner,
                            file: *file,
                            bytes: bytes(i, i),
                            exclusive: c.exclusive,
                        };
                        rows.push((lock, c.condition));
                    }
                }
            }
        }
        rows
    }
}
