//! The bytes of one file, and what each owner holds of them for sure and may hold for all that anybody can know.
//! Keeps what it is told; must never judge.

use std::collections::BTreeMap;

use crate::history::{Bytes, Micros};

/// A place in the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The number of the event: orders what has the same time.
    pub(crate) seq: u64,
    /// Its time.
    pub(crate) at: Micros,
}

/// Shared or exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

impl Mode {
    pub(crate) const ALL: [Self; 2] = [Self::Shared, Self::Exclusive];

    pub(crate) fn of(exclusive: bool) -> Self {
        if exclusive { Self::Exclusive } else { Self::Shared }
    }

    pub(crate) fn conflicts(self, other: Self) -> bool {
        self == Self::Exclusive || other == Self::Exclusive
    }

    pub(crate) fn other(self) -> Self {
        if self == Self::Shared { Self::Exclusive } else { Self::Shared }
    }
}

/// [`May::until`] of what may still be held.
pub(crate) const STILL: u64 = u64::MAX;

/// Whether a mode may be held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct May {
    /// Up to which event it may have been held; 0: never, [`STILL`]: it still may.
    pub(crate) until: u64,
    /// The last moment at which a request that gave it can have taken effect: not after this event, nor after this time.
    pub(crate) last: Moment,
    /// One of them may be waiting, so that it takes effect any time later.
    pub(crate) queued: bool,
    /// Up to this time one of them may be at work at the server, where its own owner's requests come after it and nobody else's.
    pub(crate) at_work: Micros,
}

impl May {
    /// Whatever gave it took effect before `from`, if at all.
    pub(crate) fn older(&self, from: Moment) -> bool {
        self.last.seq < from.seq && self.last.at <= from.at
    }
}

/// What one owner has to do with some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) owner: u32,
    /// What it surely holds, unless something has ended that for all locks of its client or address at once.
    pub(crate) must: Option<Mode>,
    /// Since when it knows.
    pub(crate) since: Moment,
    /// The event after which the grant took effect. What a take-over before it did does not touch this lock.
    pub(crate) effective: u64,
    /// It was granted by callback.
    pub(crate) callback: bool,
    /// Part of it was unlocked or changed its mode.
    pub(crate) split: bool,
    /// Since it was granted somebody may have asked for what it excludes: once it has expired it may be gone.
    pub(crate) contested: bool,
    /// What it may hold, by mode, from calls that are over.
    pub(crate) may: [May; 2],
    /// LOCKs under way or waiting, by mode.
    pub(crate) pending: [u32; 2],
    /// Reclaims under way, by mode.
    pub(crate) reclaiming: [u32; 2],
    /// The NSM state it was taken under; 0: unknown.
    pub(crate) state: u32,
}

impl Hold {
    fn new(owner: u32) -> Self {
        Self {
            owner,
            must: None,
            since: Moment::default(),
            effective: 0,
            callback: false,
            split: false,
            contested: false,
            may: [May::default(); 2],
            pending: [0; 2],
            reclaiming: [0; 2],
            state: 0,
        }
    }

    pub(crate) fn under_way(&self, mode: Mode) -> bool {
        self.pending[mode as usize] > 0 || self.reclaiming[mode as usize] > 0
    }

    /// May have been held at some time from event `from` on.
    pub(crate) fn may_since(&self, mode: Mode, from: u64) -> bool {
        self.may[mode as usize].until >= from || self.under_way(mode)
    }

    /// From now on it may no longer be held.
    pub(crate) fn end(&mut self, mode: Mode, now: u64) {
        let may = &mut self.may[mode as usize];
        if may.until == STILL {
            may.until = now;
        }
        if self.must == Some(mode) {
            self.must = None;
        }
    }

    /// It may have been held just now, though it no longer may.
    pub(crate) fn touch(&mut self, mode: Mode, now: u64) {
        let may = &mut self.may[mode as usize];
        if may.until != STILL {
            may.until = now;
            may.last.seq = now;
        }
    }

    /// Nothing of it can matter to a call that began at event `oldest` or later.
    fn over(&self, oldest: u64) -> bool {
        Mode::ALL.iter().all(|mode| !self.may_since(*mode, oldest))
    }
}

/// A stretch of bytes with the same holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    pub(crate) end: u64,
    pub(crate) holds: Vec<Hold>,
}

impl Segment {
    pub(crate) fn hold(&self, owner: u32) -> Option<&Hold> {
        self.holds.iter().find(|hold| hold.owner == owner)
    }

    pub(crate) fn hold_mut(&mut self, owner: u32) -> Option<&mut Hold> {
        self.holds.iter_mut().find(|hold| hold.owner == owner)
    }

    /// Somebody else may have, or may get, what excludes a lock in this mode, or may have had it since event `since` ([`STILL`]: now).
    pub(crate) fn is_asked_for(&self, owner: u32, mode: Mode, since: u64) -> bool {
        self.holds.iter().filter(|hold| hold.owner != owner).any(|hold| {
            Mode::ALL
                .iter()
                .filter(|theirs| theirs.conflicts(mode))
                .any(|theirs| hold.may_since(*theirs, since))
        })
    }

    /// Notes that an owner asks for this.
    pub(crate) fn contest(&mut self, owner: u32, mode: Mode) {
        for hold in self.holds.iter_mut().filter(|hold| hold.owner != owner) {
            hold.contested |= hold.must.is_some_and(|must| must.conflicts(mode));
        }
    }

    pub(crate) fn hold_or_new(&mut self, owner: u32) -> &mut Hold {
        let at = match self.holds.iter().position(|hold| hold.owner == owner) {
            Some(at) => at,
            None => {
                self.holds.push(Hold::new(owner));
                self.holds.len() - 1
            }
        };
        &mut self.holds[at]
    }
}

/// All bytes of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByteMap {
    segments: BTreeMap<u64, Segment>,
    /// Changes since the last look at all segments.
    changes: usize,
}

impl ByteMap {
    /// The segments that touch these bytes.
    pub(crate) fn touching(&self, bytes: Bytes) -> impl Iterator<Item = (Bytes, &Segment)> {
        let before = self.segments.range(..bytes.start).next_back().filter(|(_, s)| s.end >= bytes.start);
        before
            .into_iter()
            .chain(self.segments.range(bytes.start..=bytes.end))
            .map(|(start, segment)| (Bytes { start: *start, end: segment.end }, segment))
    }

    /// The segments within these bytes, once they are cut to them.
    pub(crate) fn within(&mut self, bytes: Bytes) -> impl Iterator<Item = (u64, &mut Segment)> {
        self.cut_out(bytes);
        self.segments.range_mut(bytes.start..=bytes.end).map(|(start, segment)| (*start, segment))
    }

    /// The same, with segments for bytes that had none.
    pub(crate) fn all_within(&mut self, bytes: Bytes) -> impl Iterator<Item = (u64, &mut Segment)> {
        self.fill(bytes);
        self.segments.range_mut(bytes.start..=bytes.end).map(|(start, segment)| (*start, segment))
    }

    /// All segments.
    pub(crate) fn every(&mut self) -> impl Iterator<Item = (Bytes, &mut Segment)> {
        self.segments.iter_mut().map(|(start, segment)| (Bytes { start: *start, end: segment.end }, segment))
    }

    /// The owner's hold on the byte before and the byte after these.
    pub(crate) fn beside(&mut self, bytes: Bytes, owner: u32, mut what: impl FnMut(&mut Hold)) {
        if let Some((_, left)) = self.segments.range_mut(..bytes.start).next_back()
            && left.end.checked_add(1) == Some(bytes.start)
            && let Some(hold) = left.hold_mut(owner)
        {
            what(hold);
        }
        if let Some(after) = bytes.end.checked_add(1)
            && let Some(right) = self.segments.get_mut(&after)
            && let Some(hold) = right.hold_mut(owner)
        {
            what(hold);
        }
    }

    /// Forgets what no call from event `oldest` on can ask about, and joins what has become equal. Looks at these bytes, and now and
    /// then at all.
    pub(crate) fn tidy(&mut self, bytes: Bytes, oldest: u64) {
        self.changes += 1;
        if self.changes > 256 && self.changes > 2 * self.segments.len() {
            self.changes = 0;
            self.tidy_range(Bytes { start: 0, end: u64::MAX }, oldest);
        } else {
            self.tidy_range(bytes, oldest);
        }
    }

    fn tidy_range(&mut self, bytes: Bytes, oldest: u64) {
        let mut previous = self.segments.range(..bytes.start).next_back().map(|(start, _)| *start);
        let upto = bytes.end.saturating_add(1);
        let mut next = self.segments.range(bytes.start..=upto).next().map(|(start, _)| *start);
        while let Some(start) = next {
            next = match start.checked_add(1) {
                Some(from) if from <= upto => {
                    self.segments.range(from..=upto).next().map(|(start, _)| *start)
                }
                _ => None,
            };
            let Some(segment) = self.segments.get_mut(&start) else { continue };
            segment.holds.retain(|hold| !hold.over(oldest));
            if segment.holds.is_empty() {
                self.segments.remove(&start);
            } else if !self.join(previous, start) {
                previous = Some(start);
            }
        }
    }

    fn join(&mut self, left: Option<u64>, right: u64) -> bool {
        let Some(left) = left else { return false };
        let (Some(a), Some(b)) = (self.segments.get(&left), self.segments.get(&right)) else { return false };
        if a.end.checked_add(1) != Some(right) || a.holds != b.holds {
            return false;
        }
        let end = b.end;
        self.segments.remove(&right);
        if let Some(a) = self.segments.get_mut(&left) {
            a.end = end;
        }
        true
    }

    fn cut(&mut self, at: u64) {
        if let Some((_, segment)) = self.segments.range_mut(..at).next_back()
            && segment.end >= at
        {
            let right = segment.clone();
            segment.end = at - 1;
            self.segments.insert(at, right);
        }
    }

    fn cut_out(&mut self, bytes: Bytes) {
        self.cut(bytes.start);
        if let Some(after) = bytes.end.checked_add(1) {
            self.cut(after);
        }
    }

    fn fill(&mut self, bytes: Bytes) {
        self.cut_out(bytes);
        let mut gaps = Vec::new();
        let mut from = bytes.start;
        let mut open = true;
        for (start, segment) in self.segments.range(bytes.start..=bytes.end) {
            if *start > from {
                gaps.push((from, *start - 1));
            }
            match segment.end.checked_add(1) {
                Some(after) => from = after,
                None => open = false,
            }
        }
        if open && from <= bytes.end {
            gaps.push((from, bytes.end));
        }
        for (start, end) in gaps {
            self.segments.insert(start, Segment { end, holds: Vec::new() });
        }
    }
}
