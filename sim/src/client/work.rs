//! What a process wants next: which bytes, in which mode, and for how long.
//!
//! Must never look at anything but chance and what the process itself holds.

use lockferry_checker::history::{Bytes, Micros};

use super::book::Held;
use super::owner::{Op, Verb};
use super::{Client, Effect, Kind, NEVER, SECOND};

/// All bytes of a file.
pub(super) const WHOLE: Bytes = Bytes { start: 0, end: u64::MAX };

/// A process that holds this many ranges gives some back first.
const MANY: usize = 6;
/// Between two steps of a process that gives everything back.
const STEP: Micros = 500;

impl Client {
    /// The time until an owner's next operation.
    pub(super) fn think(&mut self) -> Micros {
        1 + self.random.below(2 * self.config.pace.mean)
    }

    /// An owner has nothing to do and its time has come.
    pub(super) fn choose(&mut self, now: Micros, at: usize, out: &mut Vec<Effect>) {
        if self.owners[at].leaving {
            return self.leave(now, at, out);
        }
        if self.config.kind == Kind::Bad && self.random.chance(300) {
            let next = now + self.think();
            self.owners[at].rest_until(next);
            return self.mischief(now, at, out);
        }
        let pace = self.config.pace;
        let count = self.owners[at].book.held().len();
        if self.random.chance(2) {
            return self.leave(now, at, out);
        }
        if pace.astray > 0 && self.random.chance(pace.astray) {
            let next = now + self.think();
            self.owners[at].rest_until(next);
            return self.go_astray(now, at, out);
        }
        if self.random.chance(pace.test) {
            let op = self.new_lock(at, Verb::Test);
            return self.start(now, at, op, (NEVER, false), out);
        }
        let release = if count >= MANY { 1000 } else { 350 + 70 * count as u32 };
        let held = self.random_held(at);
        match held {
            Some(held) if self.random.chance(release) => {
                let bytes = if count >= MANY { WHOLE } else { self.some_of(held.bytes) };
                let op = Op { verb: Verb::Unlock, file: held.file, bytes, exclusive: false };
                self.start(now, at, op, (NEVER, false), out);
            }
            Some(held) if self.random.chance(250) => {
                let verb = self.lock_verb();
                let op = self.conversion(held, verb);
                self.start_lock(now, at, op, out);
            }
            _ => {
                let verb = self.lock_verb();
                let op = self.new_lock(at, verb);
                self.start_lock(now, at, op, out);
            }
        }
    }

    /// Gives everything back, one file after the other; then another process comes in its place, or it goes on.
    fn leave(&mut self, now: Micros, at: usize, out: &mut Vec<Effect>) {
        if let Some(held) = self.owners[at].book.held().first() {
            let op = Op { verb: Verb::Unlock, file: held.file, bytes: WHOLE, exclusive: false };
            self.owners[at].leaving = true;
            return self.start(now, at, op, (NEVER, false), out);
        }
        let replaced = self.random.chance(500) | self.owners[at].killed;
        if replaced {
            self.owners[at].svid = self.new_svid(self.owners[at].server);
        }
        (self.owners[at].leaving, self.owners[at].killed) = (false, false);
        self.owners[at].rest_until(now + STEP);
    }

    /// Begins a LOCK, with the time after which the process has had enough.
    fn start_lock(&mut self, now: Micros, at: usize, op: Op, out: &mut Vec<Effect>) {
        let blocks = op.verb == Verb::Lock { block: true };
        let limit = if !blocks {
            // It cannot be interrupted, only killed.
            let killed = self.random.chance(self.config.pace.kill);
            if killed { (now + self.random.below(3 * SECOND), true) } else { (NEVER, false) }
        } else {
            let soon = self.random.chance(self.config.pace.cancel);
            let patience = if soon { 2 * SECOND } else { 120 * SECOND };
            let killable = self.config.pace.kill.max(50);
            (now + self.random.below(patience), self.random.chance(killable))
        };
        self.start(now, at, op, limit, out);
    }

    fn lock_verb(&mut self) -> Verb {
        Verb::Lock { block: self.random.chance(self.config.pace.blocking) }
    }

    /// Any bytes of any file, in any mode.
    pub(super) fn new_lock(&mut self, at: usize, verb: Verb) -> Op {
        let files = &self.servers[self.owners[at].server].files;
        let file = self.random.pick(files).copied().unwrap_or_default();
        let exclusive = !self.random.chance(self.config.pace.shared);
        Op { verb, file, bytes: self.some_bytes(), exclusive }
    }

    /// The same bytes, or some of them, or some around them, in the other mode or again.
    fn conversion(&mut self, held: Held, verb: Verb) -> Op {
        let exclusive = if self.random.chance(850) { !held.exclusive } else { held.exclusive };
        Op { verb, file: held.file, bytes: self.some_of(held.bytes), exclusive }
    }

    fn random_held(&mut self, at: usize) -> Option<Held> {
        self.random.pick(self.owners[at].book.held()).copied()
    }

    /// A range at either end of a file.
    pub(super) fn some_bytes(&mut self) -> Bytes {
        let width = self.config.pace.width.max(1);
        let len = match self.random.below(8) {
            0 => 1,
            1 => 1 + self.random.below(width),
            _ => 1 + self.random.below(width.div_ceil(6)),
        };
        let offset = self.random.below(width);
        let start = if self.random.chance(60) { u64::MAX - offset } else { offset };
        let to_end = self.random.chance(self.config.pace.to_end);
        let end = if to_end { u64::MAX } else { start.saturating_add(len - 1) };
        Bytes { start, end }
    }

    /// Mostly these bytes; else a part of them, or more, or others that overlap.
    fn some_of(&mut self, bytes: Bytes) -> Bytes {
        let width = self.config.pace.width.max(1);
        let inner = (bytes.end - bytes.start).min(width) + 1;
        let (cut, more) = (self.random.below(inner), self.random.below(width / 4 + 1));
        match self.random.below(20) {
            0 => Bytes { start: bytes.start + cut, end: bytes.end },
            1 if bytes.end != u64::MAX => Bytes { start: bytes.start, end: bytes.end - cut },
            1 => Bytes { start: bytes.start, end: bytes.start + cut },
            2 => Bytes { start: bytes.start.saturating_sub(more), end: bytes.end.saturating_add(more) },
            3 => Bytes { start: bytes.start + cut, end: bytes.end.saturating_add(more) },
            4 => {
                let start = bytes.start + cut;
                Bytes { start, end: start + self.random.below((bytes.end - start).min(width) + 1) }
            }
            5 => WHOLE,
            _ => bytes,
        }
    }
}
