//! What one owner has under way on one file: calls without an answer, calls whose effect may overlap theirs, requests that wait.
//! Keeps what it is told; must never judge.

use crate::history::{Bytes, CallId, Micros};
use crate::map::{Mode, Moment};

/// What a call does to the owner's locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lock { mode: Mode, reclaim: bool, block: bool },
    Unlock,
    Cancel { mode: Mode },
}

/// Until when it may take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nobody knows.
    Open,
    /// It has, before this event: its answer came.
    Closed(u64),
    /// Nobody waits for its answer; its last copy is gone after this time.
    Loose(Micros),
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    pub(crate) call: CallId,
    pub(crate) kind: Kind,
    pub(crate) bytes: Bytes,
    pub(crate) first: Moment,
    pub(crate) end: End,
    /// The client has taken the lock from a callback already.
    pub(crate) taken: bool,
    /// The client has refused a callback for it, before it heard that it waits.
    pub(crate) refused: bool,
}

impl Op {
    fn blocks_for(&self, bytes: Bytes, mode: Mode) -> bool {
        self.end == End::Open
            && self.bytes == bytes
            && matches!(self.kind, Kind::Lock { mode: m, block: true, .. } if m == mode)
    }

    /// It may have taken effect after `since`.
    pub(crate) fn reaches(&self, since: Moment) -> bool {
        match self.end {
            End::Open => true,
            End::Closed(seq) => seq > since.seq,
            End::Loose(at) => at >= since.at,
        }
    }
}

/// A LOCK that was answered BLOCKED.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) bytes: Bytes,
    pub(crate) mode: Mode,
    /// When it was first sent.
    pub(crate) first: Moment,
    /// When the client heard that it waits.
    pub(crate) blocked: Moment,
    /// The last moment at which a copy of it can reach the server.
    pub(crate) last_copy: Micros,
    pub(crate) state: u32,
    /// Something happened after which the service may have dropped it.
    pub(crate) doubtful: bool,
}

/// A GRANTED of an earlier request that reads like one for a later request may still arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stale {
    pub(crate) bytes: Bytes,
    pub(crate) mode: Mode,
    /// Until then; `u64::MAX`: the lock is not known to be unlocked.
    pub(crate) until: Micros,
}

/// One owner's dealings with one file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    pub(crate) ops: Vec<Op>,
    pub(crate) waits: Vec<Wait>,
    pub(crate) stale: Vec<Stale>,
}

/// The two have bytes in common.
pub(crate) fn overlap(a: Bytes, b: Bytes) -> bool {
    a.start <= b.end && b.start <= a.end
}

impl Own {
    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.waits.is_empty() && self.stale.is_empty()
    }

    pub(crate) fn op_mut(&mut self, call: CallId) -> Option<&mut Op> {
        self.ops.iter_mut().find(|op| op.call == call)
    }

    pub(crate) fn wait(&self, bytes: Bytes, mode: Mode) -> Option<&Wait> {
        self.waits.iter().find(|wait| wait.bytes == bytes && wait.mode == mode)
    }

    /// A blocking LOCK for exactly this that has no answer yet.
    pub(crate) fn blocking_op(&self, bytes: Bytes, mode: Mode) -> Option<&Op> {
        self.ops.iter().find(|op| op.blocks_for(bytes, mode))
    }

    /// The client has this lock: that a LOCK for it, sent before, was blocked may be heard later and means nothing.
    pub(crate) fn take_all(&mut self, bytes: Bytes, mode: Mode) {
        self.ops.iter_mut().filter(|op| op.blocks_for(bytes, mode)).for_each(|op| op.taken = true);
    }

    /// The client refuses a callback for this: a LOCK for it whose answer is still on its way waits no longer once the server has heard.
    pub(crate) fn refuse_all(&mut self, bytes: Bytes, mode: Mode) {
        self.ops.iter_mut().filter(|op| op.blocks_for(bytes, mode)).for_each(|op| op.refused = true);
        let same = |wait: &&mut Wait| wait.bytes == bytes && wait.mode == mode;
        self.waits.iter_mut().filter(same).for_each(|wait| wait.doubtful = true);
    }

    /// Something that frees or cancels may take effect after `since` on these bytes.
    pub(crate) fn may_be_ended(&self, bytes: Bytes, since: Moment) -> bool {
        let ends = |op: &&Op| !matches!(op.kind, Kind::Lock { .. });
        self.ops.iter().filter(ends).any(|op| op.reaches(since) && overlap(op.bytes, bytes))
    }

    /// A callback for this lock may still be on its way, or still be repeated.
    pub(crate) fn expect_stale(&mut self, bytes: Bytes, mode: Mode) {
        match self.stale.iter_mut().find(|stale| stale.bytes == bytes && stale.mode == mode) {
            Some(stale) => stale.until = Micros::MAX,
            None => self.stale.push(Stale { bytes, mode, until: Micros::MAX }),
        }
    }

    /// These bytes were unlocked, or requests for them cancelled: callbacks are no longer repeated, the last are gone at `until`.
    pub(crate) fn limit_stale(&mut self, bytes: Bytes, until: Micros) {
        for stale in &mut self.stale {
            if overlap(stale.bytes, bytes) {
                stale.until = stale.until.min(until);
            }
        }
    }

    pub(crate) fn has_stale(&self, bytes: Bytes, mode: Mode, now: Micros) -> bool {
        self.stale.iter().any(|stale| stale.bytes == bytes && stale.mode == mode && stale.until >= now)
    }

    /// Forgets what can no longer overlap anything under way.
    pub(crate) fn tidy(&mut self, now: Moment) {
        self.stale.retain(|stale| stale.until >= now.at);
        if self.ops.iter().all(|op| op.end == End::Open) {
            return;
        }
        let mut oldest = now;
        let open = self.ops.iter().filter(|op| op.end == End::Open).map(|op| op.first);
        for first in open.chain(self.waits.iter().map(|wait| wait.first)) {
            if first.seq < oldest.seq {
                oldest = first;
            }
        }
        self.ops.retain(|op| op.end == End::Open || op.reaches(oldest));
    }
}
