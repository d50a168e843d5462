//! A process that locks: one operation at a time, from its first transmission to its end.
//!
//! Must never start an operation while another is under way, nor hold what it was not given.

use lockferry_checker::history::{Answer, Bytes, Event, Lock, Micros, Owner as Who, Request};

use super::book::{Book, Held};
use super::calls::Role;
use super::message::RPC_FAILED;
use super::transmit::Plan;
use super::{Client, Effect, NEVER, SECOND};

/// How long is slept after DENIED_GRACE_PERIOD.
pub(super) const GRACE_SLEEP: Micros = 5 * SECOND;
/// How often a blocked LOCK is sent again.
const POLL: Micros = 30 * SECOND;
/// How long is slept after a CANCEL for which the server had no memory.
const CANCEL_SLEEP: Micros = 30 * SECOND;
/// How long is slept after a call that failed in RPC.
const RPC_SLEEP: Micros = SECOND;
/// So many accepted GRANTED are remembered.
const GRANTS: usize = 8;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Lock { block: bool },
    Unlock,
    Cancel,
    Test,
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Op {
    pub(super) verb: Verb,
    pub(super) file: usize,
    pub(super) bytes: Bytes,
    pub(super) exclusive: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is none.
    Idle,
    /// It is asked for.
    Calling,
    /// It will be asked for again.
    Sleeping,
    /// It is blocked.
    Waiting,
}

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) server: usize,
    pub(super) svid: u32,
    pub(super) book: Book,
    /// It gives everything back.
    pub(super) leaving: bool,
    /// And then it is gone: another comes in its place.
    pub(super) killed: bool,
    phase: Phase,
    op: Op,
    /// When it goes on by itself.
    at: Micros,
    /// When it is interrupted, if it has not got its lock by then.
    deadline: Micros,
    /// That may happen while a call is unanswered: the process is killed.
    killable: bool,
    /// The server's state when it was asked.
    epoch: u32,
    /// The lock came by a callback while the call is still open.
    taken: bool,
    /// The lock came by a callback, but the server has rebooted since it was asked.
    stale: bool,
    /// The callbacks that were accepted for what is still held: their xids, and what they said.
    grants: Vec<(u32, Held)>,
}

impl Owner {
    pub(super) fn new(server: usize, svid: u32, at: Micros) -> Self {
        let nothing = Bytes { start: 0, end: 0 };
        Self {
            server,
            svid,
            book: Book::default(),
            leaving: false,
            killed: false,
            phase: Phase::Idle,
            op: Op { verb: Verb::Test, file: 0, bytes: nothing, exclusive: false },
            at,
            deadline: NEVER,
            killable: false,
            epoch: 0,
            taken: false,
            stale: false,
            grants: Vec::new(),
        }
    }

    /// When it has something to do.
    pub(super) fn due(&self, calm: bool) -> Micros {
        let locking = matches!(self.op.verb, Verb::Lock { .. });
        match self.phase {
            Phase::Idle if calm => NEVER,
            Phase::Idle => self.at,
            Phase::Calling if locking && self.killable && !self.taken => self.deadline,
            Phase::Calling => NEVER,
            Phase::Sleeping | Phase::Waiting if locking => self.at.min(self.deadline),
            Phase::Sleeping | Phase::Waiting => self.at,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// It is never interrupted from here on.
    pub(super) fn have_patience(&mut self) {
        self.deadline = NEVER;
    }

    /// Its next operation comes then.
    pub(super) fn rest_until(&mut self, at: Micros) {
        self.at = at;
    }

    /// Whether it waits for this lock.
    pub(super) fn wants(&self, lock: &Held) -> bool {
        self.phase != Phase::Idle && self.op.verb == Verb::Lock { block: true } && self.op.held() == *lock
    }

    /// Whether it has accepted a GRANTED of this lock that it still holds: the same one, or any.
    pub(super) fn has_accepted(&self, xid: Option<u32>, lock: &Held) -> bool {
        self.grants.iter().any(|(seen, held)| held == lock && xid.is_none_or(|xid| xid == *seen))
    }

    /// The lock that it asked for is its own; by a callback with this xid, if by any.
    fn take(&mut self, xid: Option<u32>) {
        let lock = self.op.held();
        self.forget_grants(lock.file, lock.bytes);
        self.book.take(lock);
        if let Some(xid) = xid {
            if self.grants.len() == GRANTS {
                self.grants.remove(0);
            }
            self.grants.push((xid, lock));
        }
    }

    /// What it did accept of these bytes is something else from here on.
    fn forget_grants(&mut self, file: usize, bytes: Bytes) {
        self.grants.retain(|(_, held)| {
            held.file != file || held.bytes.start > bytes.end || bytes.start > held.bytes.end
        });
    }

    fn sleep(&mut self, until: Micros) {
        (self.phase, self.at) = (Phase::Sleeping, until);
    }
}

impl Op {
    /// The lock that it is about.
    pub(super) fn held(&self) -> Held {
        Held { file: self.file, bytes: self.bytes, exclusive: self.exclusive }
    }
}

impl Client {
    /// Begins an operation. `deadline` and `killable` as in [`Owner`].
    pub(super) fn start(
        &mut self,
        now: Micros,
        at: usize,
        op: Op,
        (deadline, killable): (Micros, bool),
        out: &mut Vec<Effect>,
    ) {
        let owner = &mut self.owners[at];
        (owner.op, owner.deadline, owner.killable, owner.taken) = (op, deadline, killable, false);
        self.ask(now, at, out);
    }

    /// An owner's time has come.
    pub(super) fn owner_wakes(&mut self, now: Micros, at: usize, out: &mut Vec<Effect>) {
        let reclaiming = self.is_reclaiming(self.owners[at].server);
        let owner = &mut self.owners[at];
        let late = owner.deadline <= now && matches!(owner.op.verb, Verb::Lock { .. });
        match owner.phase {
            Phase::Idle if reclaiming => owner.at = now + GRACE_SLEEP,
            Phase::Idle => self.choose(now, at, out),
            // Linux cannot let go of anything while it reclaims.
            _ if late && reclaiming => owner.deadline = now + SECOND,
            Phase::Calling if late => self.kill(now, at, out),
            Phase::Calling => {}
            Phase::Sleeping if late => self.let_go(now, at, out),
            Phase::Waiting if late => self.interrupt(now, at, out),
            Phase::Sleeping => self.ask(now, at, out),
            Phase::Waiting => {
                self.stats.polls += 1;
                self.ask(now, at, out);
            }
        }
    }

    /// The server was reclaimed from: what is blocked there is asked for again.
    pub(super) fn ask_blocked_again(&mut self, now: Micros, server: usize, out: &mut Vec<Effect>) {
        for at in 0..self.owners.len() {
            let owner = &self.owners[at];
            if owner.server == server && owner.phase == Phase::Waiting {
                self.ask(now, at, out);
            }
        }
    }

    /// An answer to an owner's call.
    pub(super) fn owner_answered(&mut self, now: Micros, at: usize, answer: Answer, out: &mut Vec<Effect>) {
        let failed = matches!(answer, Answer::Other(n) if n >= RPC_FAILED);
        let grace = answer == Answer::DeniedGrace;
        match self.owners[at].op.verb {
            Verb::Lock { block } => self.lock_answered(now, at, answer, block, out),
            Verb::Unlock | Verb::Test if grace => self.owners[at].sleep(now + GRACE_SLEEP),
            Verb::Unlock | Verb::Cancel if failed => self.owners[at].sleep(now + RPC_SLEEP),
            Verb::Cancel if answer == Answer::DeniedNolocks => self.owners[at].sleep(now + CANCEL_SLEEP),
            Verb::Cancel if answer == Answer::Denied => self.let_go(now, at, out),
            verb => {
                self.stats.leaked += u64::from(verb == Verb::Unlock && answer != Answer::Granted);
                self.finish(now, at);
            }
        }
    }

    /// GRANTED of what an owner waits for.
    pub(super) fn owner_granted(&mut self, now: Micros, at: usize, xid: u32) {
        let owner = &mut self.owners[at];
        let server = &self.servers[owner.server];
        if owner.epoch != server.known {
            // The server rebooted meanwhile: only asking again can tell whose word this was.
            owner.stale = true;
            if owner.phase == Phase::Waiting {
                owner.sleep(if server.reclaim.is_some() { now + GRACE_SLEEP } else { now });
            }
            return;
        }
        owner.take(Some(xid));
        if owner.phase == Phase::Waiting {
            self.finish(now, at);
        } else {
            owner.taken = true;
        }
    }

    /// Sends the owner's operation, as soon as that may be.
    fn ask(&mut self, now: Micros, at: usize, out: &mut Vec<Effect>) {
        let reclaiming = self.is_reclaiming(self.owners[at].server);
        let owner = &mut self.owners[at];
        let Op { verb, file, bytes, .. } = owner.op;
        if reclaiming && verb != Verb::Cancel {
            return owner.sleep(now + GRACE_SLEEP);
        }
        match verb {
            Verb::Unlock => {
                owner.book.free(file, bytes);
                owner.forget_grants(file, bytes);
            }
            Verb::Lock { .. } => self.servers[owner.server].monitored = true,
            Verb::Cancel | Verb::Test => {}
        }
        owner.stale = false;
        owner.epoch = self.servers[owner.server].known;
        owner.phase = Phase::Calling;
        let (server, request) = (owner.server, self.request(at));
        self.call(now, Plan { server, file, role: Role::Owner(at), request, name: 0, xid: None }, out);
    }

    fn request(&self, at: usize) -> Request {
        let owner = &self.owners[at];
        let lock = self.lock(owner, &owner.op.held());
        match owner.op.verb {
            Verb::Lock { block } => Request::Lock { lock, block, reclaim: false, state: self.state },
            Verb::Unlock => Request::Unlock { owner: lock.owner, file: lock.file, bytes: lock.bytes },
            Verb::Cancel => Request::Cancel { lock },
            Verb::Test => Request::Test { lock },
        }
    }

    /// A lock of an owner, as the history has it.
    pub(super) fn lock(&self, owner: &Owner, held: &Held) -> Lock {
        let lm = self.servers[owner.server].address;
        Lock {
            owner: Who { client: self.config.id, lm, svid: owner.svid },
            file: self.config.files[held.file].file,
            bytes: held.bytes,
            exclusive: held.exclusive,
        }
    }

    fn lock_answered(&mut self, now: Micros, at: usize, answer: Answer, block: bool, out: &mut Vec<Effect>) {
        let owner = &mut self.owners[at];
        let known = self.servers[owner.server].known;
        match answer {
            _ if owner.taken => self.finish(now, at),
            Answer::Granted if owner.epoch != known => self.ask(now, at, out),
            Answer::Granted => {
                owner.take(None);
                self.finish(now, at);
            }
            Answer::DeniedGrace => owner.sleep(now + GRACE_SLEEP),
            Answer::Blocked if block && owner.stale => self.ask(now, at, out),
            Answer::Blocked if block => (owner.phase, owner.at) = (Phase::Waiting, now + POLL),
            Answer::Blocked => self.let_go(now, at, out),
            Answer::Other(n) if n >= RPC_FAILED => self.let_go(now, at, out),
            _ => {
                owner.leaving = answer == Answer::Deadlock;
                self.finish(now, at);
            }
        }
    }

    /// Killed while its LOCK is unanswered: nobody will look at the answer.
    fn kill(&mut self, now: Micros, at: usize, out: &mut Vec<Effect>) {
        if let Some(id) = self.calls.of(Role::Owner(at)).map(|call| call.id) {
            self.calls.remove(id);
            self.stats.abandoned += 1;
            out.push(Effect::Record(Event::Abandoned { client: self.config.id, call: id }));
        }
        (self.owners[at].leaving, self.owners[at].killed) = (true, true);
        self.let_go(now, at, out);
    }

    /// Interrupted while it waits.
    fn interrupt(&mut self, now: Micros, at: usize, out: &mut Vec<Effect>) {
        let lone = self.config.pace.lone_unlocks;
        if lone > 0 && self.random.chance(lone) {
            (self.owners[at].leaving, self.owners[at].killed) = (true, true);
            return self.let_go(now, at, out);
        }
        let leaving = self.random.chance(300);
        self.owners[at].leaving |= leaving;
        self.owners[at].op.verb = Verb::Cancel;
        self.ask(now, at, out);
    }

    /// The lock may or may not be there: it must not be.
    fn let_go(&mut self, now: Micros, at: usize, out: &mut Vec<Effect>) {
        let owner = &mut self.owners[at];
        (owner.op.verb, owner.taken) = (Verb::Unlock, false);
        self.ask(now, at, out);
    }

    fn finish(&mut self, now: Micros, at: usize) {
        let next = now + self.think();
        let owner = &mut self.owners[at];
        (owner.phase, owner.at, owner.taken) = (Phase::Idle, next, false);
    }
}
