//! Changing what one owner holds: split, merge, upgrade, downgrade and removal are all one operation, an overlay that maps
//! each stretch of a range, locked or not, to what it shall be.
//!
//! Must never touch another owner's locks.

use crate::state::table::Attrs;
use crate::state::types::{ClientId, FileId, LockId, Mode, OwnerId, Range, Time};

use super::Engine;

/// Whose locks on which file.
#[derive(Clone, Copy, Debug)]
pub(in crate::state) struct Place {
    pub(super) client: ClientId,
    pub(super) owner: OwnerId,
    pub(super) file: FileId,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    range: Range,
    attrs: Attrs,
    since_s: u32,
}

impl Engine {
    /// Maps every stretch of `range` by `f`, which is given what the owner has there (`None`: nothing) and
    /// says what it shall have. Returns the hull of the bytes whose change may let a waiter go, so that they can be
    /// looked at. The caller holds owner and file.
    pub(super) fn overlay(
        &mut self,
        now: Time,
        place: Place,
        range: Range,
        mut f: impl FnMut(Option<Attrs>) -> Option<Attrs>,
    ) -> Option<Range> {
        let Place { owner, file, .. } = place;
        let now_s = (now.0 / 1000) as u32;
        // Most have none yet: that is known without a search.
        let has_none = self.names.owner_by_id(owner).locks == 0;
        let old: Vec<LockId> =
            if has_none { Vec::new() } else { self.locks.own(file, owner, range).collect() };

        let mut pieces: Vec<Piece> = Vec::with_capacity(old.len() + 2);
        let mut weaker: Option<Range> = None;
        let mut changed = false;
        let journal = self.settings.journal && !self.is_untold;
        let mut told: Vec<(Range, Option<Attrs>)> = Vec::new();
        let mut freed: Vec<(Range, Attrs)> = Vec::new();
        let mut next = Some(range.start);
        let mut stretch = |part: Range, before: Option<(Attrs, u32)>, pieces: &mut Vec<Piece>| {
            let after = f(before.map(|(a, _)| a));
            if before.map(|(a, _)| a) != after {
                changed = true;
                if journal && before.map(|(a, _)| a.recorded()) != after.map(Attrs::recorded) {
                    told.push((part, after));
                }
            }
            if let Some((b, _)) = before.filter(|(b, _)| after.is_none_or(|after| after.mode < b.mode)) {
                freed.push((part, b));
            }
            if before.is_some_and(|(b, _)| b.eases_to(after)) {
                let hull = weaker.get_or_insert(part);
                hull.start = hull.start.min(part.start);
                hull.end = hull.end.max(part.end);
            }
            if let Some(attrs) = after {
                let since_s = before.filter(|(b, _)| b.mode == attrs.mode).map_or(now_s, |(_, since)| since);
                push_merged(pieces, Piece { range: part, attrs, since_s });
            }
        };
        for id in &old {
            let lock = self.locks.get(*id);
            let (whole, attrs, since_s) = (lock.range, lock.attrs, lock.since_s);
            if let Some(left) = before(whole, range.start) {
                push_merged(&mut pieces, Piece { range: left, attrs, since_s });
            }
            let inside = whole.intersection(range).unwrap_or(whole);
            if let Some(gap) = next.and_then(|n| before_from(n, inside.start)) {
                stretch(gap, None, &mut pieces);
            }
            stretch(inside, Some((attrs, since_s)), &mut pieces);
            next = inside.end.checked_add(1);
            if let Some(right) = behind(whole, range.end).filter(|_| !mutant!(SplitLosesRight)) {
                push_merged(&mut pieces, Piece { range: right, attrs, since_s });
            }
        }
        if let Some(tail) = next.and_then(|n| Range::new(n, range.end)) {
            stretch(tail, None, &mut pieces);
        }
        if changed {
            self.replace(place, &old, pieces);
            for (part, after) in told {
                self.journal_lock(place, part, after);
            }
            for (part, before) in freed {
                self.note_freed(place, part, before);
            }
        }
        weaker
    }

    /// Whether the owner has all of `range` at `mode` or stronger.
    pub(in crate::state) fn covers(&self, owner: OwnerId, file: FileId, range: Range, mode: Mode) -> bool {
        let mut next = range.start;
        for part in self.locks.own(file, owner, range).map(|id| self.locks.get(id)) {
            if part.attrs.mode < mode || part.range.start > next {
                return false;
            }
            let part = part.range;
            match part.end.checked_add(1) {
                Some(after) => next = next.max(after),
                None => return !mutant!(ReclaimToEofUncovered),
            }
        }
        next > range.end
    }

    /// Puts `pieces` where the locks `old` are, merging with what touches them. Locks that stay as they are keep their number.
    fn replace(&mut self, place: Place, old: &[LockId], mut pieces: Vec<Piece>) {
        let Place { client, owner, file } = place;
        let mut gone: Vec<LockId> = old.to_vec();
        if self.names.owner_by_id(owner).locks > 0 {
            self.merge_neighbour(place, &mut pieces, &mut gone, true);
            self.merge_neighbour(place, &mut pieces, &mut gone, false);
        }
        for id in gone {
            let lock = self.locks.remove(id);
            self.count(client, lock.attrs, false);
            self.names.owner_mut(lock.owner).locks -= 1;
            self.names.drop_owner(lock.owner);
            self.names.drop_file(lock.file);
        }
        for piece in pieces {
            self.names.hold_owner(owner);
            self.names.owner_mut(owner).locks += 1;
            self.names.hold_file(file);
            self.count(client, piece.attrs, true);
            self.locks.insert(file, owner, client, piece.range, piece.attrs, piece.since_s);
        }
    }

    /// Draws the lock that touches the first (or last) piece and is like it into it.
    fn merge_neighbour(&self, place: Place, pieces: &mut [Piece], gone: &mut Vec<LockId>, first: bool) {
        let Some(piece) = (if first { pieces.first_mut() } else { pieces.last_mut() }) else { return };
        let touching = self.locks.own(place.file, place.owner, piece.range.widened()).find(|id| {
            let lock = self.locks.get(*id);
            let touches = if first {
                lock.range.end.checked_add(1) == Some(piece.range.start)
            } else {
                piece.range.end.checked_add(1) == Some(lock.range.start)
            };
            touches && lock.attrs == piece.attrs && !gone.contains(id)
        });
        if let Some(id) = touching {
            let lock = self.locks.get(id);
            piece.range.start = piece.range.start.min(lock.range.start);
            piece.range.end = piece.range.end.max(lock.range.end);
            piece.since_s = piece.since_s.min(lock.since_s);
            gone.push(id);
        }
    }
}

fn push_merged(pieces: &mut Vec<Piece>, piece: Piece) {
    match pieces.last_mut() {
        Some(last)
            if mutant!(MergeOverGap)
                && last.attrs == piece.attrs
                && last.range.end.checked_add(2) == Some(piece.range.start) =>
        {
            last.range.end = piece.range.end;
        }
        Some(last)
            if last.attrs == piece.attrs && last.range.end.checked_add(1) == Some(piece.range.start) =>
        {
            last.range.end = piece.range.end;
            last.since_s = last.since_s.min(piece.since_s);
        }
        _ => pieces.push(piece),
    }
}

/// The part of `whole` before `start`.
fn before(whole: Range, start: u64) -> Option<Range> {
    (whole.start < start).then(|| Range { start: whole.start, end: start - 1 })
}

/// `from..start`, if that is anything.
fn before_from(from: u64, start: u64) -> Option<Range> {
    (from < start).then(|| Range { start: from, end: start - 1 })
}

/// The part of `whole` behind `end`.
fn behind(whole: Range, end: u64) -> Option<Range> {
    (whole.end > end).then(|| Range { start: end + 1, end: whole.end })
}
