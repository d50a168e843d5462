//! What a granted lock proves, and what it contradicts: exclusion, loss, theft, order.

use crate::calls::{Call, Stage};
use crate::checker::{Checker, Verdict, settle};
use crate::history::{Bytes, ClientId, Lock, Micros};
use crate::map::{Hold, Mode, Moment, STILL};
use crate::own::{Kind, Op, Wait, overlap};
use crate::takeups::Ghost;
use crate::verdict::Invariant;
use crate::words::seconds;

/// A lock that a client was told is granted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant<'a> {
    pub(crate) owner: u32,
    pub(crate) file: u32,
    pub(crate) bytes: Bytes,
    pub(crate) mode: Mode,
    pub(crate) state: u32,
    /// It took effect after this.
    pub(crate) first: Moment,
    pub(crate) reclaim: bool,
    /// The client takes it, and nothing stands against its being right.
    pub(crate) sure: bool,
    /// `None`: granted by callback.
    pub(crate) call: Option<&'a Call>,
}

/// A callback that was refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    at: Moment,
    owner: u32,
    file: u32,
    bytes: Bytes,
    mode: Mode,
}

/// So soon the server has heard of a refusal, where nothing is lost.
const HEARD: Micros = 500_000;
/// A callback is repeated after that at the earliest, where nothing is lost and nobody pauses: what was refused was the first.
const REPEATED: Micros = 20_000_000;

impl<'a> Grant<'a> {
    pub(crate) fn of(checker: &Checker, call: Option<&'a Call>) -> Self {
        let (owner, file, bytes) =
            call.map_or((0, 0, Bytes { start: 0, end: 0 }), |c| (c.owner, c.file, c.bytes));
        let first = checker.now;
        Self { owner, file, bytes, mode: Mode::Shared, state: 0, first, reclaim: false, sure: false, call }
    }
}

impl Checker {
    pub(crate) fn granted(&mut self, mut grant: Grant<'_>) -> Verdict {
        // It may have been granted before a move, unreclaimed, and taken by another in a full window.
        grant.sure &= grant.first.seq >= self.world.manager_of(grant.owner).unreclaimed_before()
            || !self.world.any_full_since(grant.first.at, self.settings.slack);
        let full = self.full_since(self.world.info(grant.owner).lm, grant.first.at);
        if let Some(call) = grant.call.filter(|call| grant.reclaim && call.stage == Stage::Open) {
            self.summary.reclaimed += 1;
            // Of a call that was abandoned it may be forgotten what excuses it.
            if !full {
                self.look_for_theft(&grant)?;
            }
            self.unpend(call.file, call.owner, call.bytes, grant.mode, true);
        }
        let waited = self.waited(&grant);
        if grant.call.is_none() {
            self.look_at_order(&grant, waited.as_ref())?;
        }
        if grant.sure
            && let Some(own) = self.owns.get_mut(&(grant.file, grant.owner))
        {
            own.take_all(grant.bytes, grant.mode);
            if grant.call.is_none() {
                own.expect_stale(grant.bytes, grant.mode);
            }
        }
        self.take(&grant, full);
        self.weaken_by_concurrent(&grant);
        if self.settings.state_frees && grant.sure && !grant.reclaim && grant.state != 0 {
            self.free_older_states(&grant);
        }
        self.look_at_others(&grant, full)?;
        if let Some(wait) = waited {
            self.drop_wait(grant.file, grant.owner, wait);
        }
        Ok(())
    }

    pub(crate) fn waited(&self, grant: &Grant<'_>) -> Option<Wait> {
        let own = self.owns.get(&(grant.file, grant.owner))?;
        own.wait(grant.bytes, grant.mode).filter(|_| !grant.reclaim).copied()
    }

    /// I3: every byte must be one that the owner may have held in that mode or a stronger one. What it may hold is only what it asked
    /// for and was not refused; a reclaim under way gives nothing, unless a full window was ever open.
    fn look_for_theft(&self, grant: &Grant<'_>) -> Verdict {
        let had_full = self.world.manager_of(grant.owner).had_full;
        let covers = |hold: &Hold, mode: Mode| {
            hold.may[mode as usize].until >= grant.first.seq
                || hold.pending[mode as usize] > 0
                || (had_full && hold.reclaiming[mode as usize] > u32::from(mode == grant.mode))
        };
        let file = &self.files[grant.file as usize];
        let mut next = Some(grant.bytes.start);
        for (bytes, segment) in file.map.touching(grant.bytes) {
            let Some(hold) = segment.hold(grant.owner) else { continue };
            let held =
                covers(hold, Mode::Exclusive) || (grant.mode == Mode::Shared && covers(hold, Mode::Shared));
            if held && next.is_some_and(|next| bytes.start <= next) {
                next = bytes.end.checked_add(1);
            }
        }
        match next {
            Some(next) if next <= grant.bytes.end => {
                let what = format!(
                    "{} was granted, but from byte {next} on that owner cannot have held {}",
                    self.say_grant(grant),
                    mode_word(grant.mode)
                );
                self.fail(Invariant::I3, what)
            }
            _ => Ok(()),
        }
    }

    /// Notes what the owner now holds. A plain LOCK replaces the mode; a reclaim never weakens.
    fn take(&mut self, grant: &Grant<'_>, full: bool) {
        let now = self.now;
        // It may have expired before the client heard of it: then whoever has asked meanwhile may have got it.
        let lost = grant.first.seq < self.world.manager_of(grant.owner).lost_before;
        let since = if lost { grant.first.seq } else { STILL };
        for (_, segment) in self.files[grant.file as usize].map.all_within(grant.bytes) {
            let asked = segment.is_asked_for(grant.owner, grant.mode, since);
            let hold = segment.hold_or_new(grant.owner);
            let state = match (grant.reclaim, full) {
                (false, _) => grant.state,
                (true, true) => 0,
                (true, false) => hold.state,
            };
            let other = hold.may[grant.mode.other() as usize];
            // The word that the client takes less may be lost on its way, and then what it had stays.
            let kept = grant.call.is_none() && grant.mode == Mode::Shared;
            let replaced = other.older(grant.first) && !other.queued && !kept;
            if !grant.reclaim && replaced {
                let must = hold.must;
                hold.end(grant.mode.other(), now.seq);
                hold.must = must;
                if hold.may[grant.mode as usize].last.seq < grant.first.seq {
                    hold.state = state;
                }
            }
            settle(hold, grant.mode, now, state);
            let stronger = hold.pending[Mode::Exclusive as usize] > 0;
            if grant.reclaim && (stronger || (full && grant.mode == Mode::Shared)) {
                // A stronger one that was granted by callback, and not heard of, is reclaimed with it. So is one that the client has given up
                // since, where the record has lost that.
                settle(hold, Mode::Exclusive, now, state);
            }
            let stronger = &mut hold.may[Mode::Exclusive as usize];
            if grant.reclaim && stronger.until == STILL {
                // A reclaim of less leaves what is there as it is, and keeps it. Copies of a LOCK may still be under way.
                stronger.last = Moment { seq: now.seq, at: stronger.last.at.max(now.at) };
            }
            // The known state may have been stamped by this very LOCK on what was there.
            if !grant.reclaim && replaced && hold.may[grant.mode.other() as usize].until != STILL {
                hold.state = state;
            }
            if grant.sure {
                let known = self.world.must(hold);
                take_for_sure(hold, grant, known, now);
                hold.contested = asked;
            }
        }
    }

    /// What else of this owner may have taken effect after the grant: an UNLOCK frees it, a CANCEL may end what a callback gave, a
    /// shared LOCK weakens it.
    fn weaken_by_concurrent(&mut self, grant: &Grant<'_>) {
        let Some(own) = self.owns.get(&(grant.file, grant.owner)) else { return };
        let this = grant.call.map(|call| call.id);
        let concurrent =
            |op: &&Op| Some(op.call) != this && op.reaches(grant.first) && overlap(op.bytes, grant.bytes);
        // A LOCK from before a reboot stamps the old state on what is there, and the notice of the reboot may then free it.
        let died = self.world.clients[self.world.info(grant.owner).client as usize].died;
        let kind = |op: &Op| if op.first.seq < died { Kind::Unlock } else { op.kind };
        let mut ops: Vec<(Kind, Bytes)> =
            own.ops.iter().filter(concurrent).map(|op| (kind(op), op.bytes)).collect();
        // A request that waits may be granted at any time, and weakens too.
        let waits = own.waits.iter().filter(|wait| overlap(wait.bytes, grant.bytes));
        ops.extend(
            waits.map(|wait| (Kind::Lock { mode: wait.mode, reclaim: false, block: true }, wait.bytes)),
        );
        if ops.is_empty() {
            return;
        }
        self.summary.unsure += 1;
        let map = &mut self.files[grant.file as usize].map;
        for (kind, of) in ops {
            let bytes = Bytes { start: of.start.max(grant.bytes.start), end: of.end.min(grant.bytes.end) };
            for (_, segment) in map.within(bytes) {
                let Some(hold) = segment.hold_mut(grant.owner) else { continue };
                match kind {
                    Kind::Unlock => hold.must = None,
                    Kind::Cancel { mode } if mode == grant.mode => hold.must = None,
                    Kind::Lock { mode: Mode::Shared, reclaim: false, .. }
                        if hold.must == Some(Mode::Exclusive) =>
                    {
                        hold.must = Some(Mode::Shared);
                    }
                    Kind::Cancel { .. } | Kind::Lock { .. } => {}
                }
            }
        }
    }

    /// I1 and I2: nobody else surely holds what excludes this. What others may have held before, and excludes it, is gone now.
    ///
    /// Two locks that are both sure exclude each other now, whatever the order in which they were granted. If this one is not sure any
    /// more (an UNLOCK of it was sent meanwhile), the other must have been sure all the time since it was asked for.
    fn look_at_others(&mut self, grant: &Grant<'_>, full: bool) -> Verdict {
        let map = std::mem::take(&mut self.files[grant.file as usize].map);
        let mut found = None;
        let mut cleared = Vec::new();
        for (bytes, segment) in map.touching(grant.bytes) {
            if segment.holds.len() < 2 {
                continue;
            }
            let own = segment.hold(grant.owner).and_then(|own| self.world.must(own));
            for other in segment.holds.iter().filter(|hold| hold.owner != grant.owner) {
                let must = self.world.must(other);
                let now = own.zip(must).is_some_and(|(own, must)| own.conflicts(must));
                let then =
                    must.is_some_and(|must| must.conflicts(grant.mode)) && other.since.seq < grant.first.seq;
                if (now || then) && !self.forgivable(grant, other, full) {
                    found = found.or_else(|| Some((bytes, other.clone())));
                }
                for mode in Mode::ALL {
                    let may = other.may[mode as usize];
                    // What may be waiting behind this is not gone.
                    if may.until == STILL
                        && mode.conflicts(grant.mode)
                        && may.older(grant.first)
                        && !may.queued
                    {
                        cleared.push((bytes, other.owner, mode));
                    }
                }
            }
        }
        self.files[grant.file as usize].map = map;
        if let Some((bytes, other)) = found {
            return self.clash(grant, bytes, &other);
        }
        let now = self.now.seq;
        for (bytes, owner, mode) in cleared {
            for (_, segment) in self.files[grant.file as usize].map.within(bytes) {
                if let Some(hold) = segment.hold_mut(owner) {
                    hold.end(mode, now);
                }
            }
        }
        Ok(())
    }

    /// In a full window the record may be incomplete. There an unproven reclaim may take what another has not yet reclaimed; and what
    /// the record has lost is in nobody's way who comes through another address.
    pub(crate) fn forgivable(&self, grant: &Grant<'_>, other: &Hold, full: bool) -> bool {
        let (mine, theirs) = (self.world.info(grant.owner).lm, self.world.manager_of(other.owner));
        let unreclaimed = other.effective < theirs.unreclaimed_before();
        let unproven = other.effective < theirs.unproven_before();
        (grant.reclaim && full && unreclaimed) || (unproven && self.world.info(other.owner).lm != mine)
    }

    fn clash(&self, grant: &Grant<'_>, bytes: Bytes, other: &Hold) -> Verdict {
        let invariant = self.loss_or(other, Invariant::I1);
        let what = format!(
            "{} was granted, but {} surely holds bytes {}..={} of it {} since {}: granted to it then, and neither unlocked nor \
             lost since{}",
            self.say_grant(grant),
            self.say_owner(other.owner),
            bytes.start,
            bytes.end,
            other.must.map_or("", mode_word),
            seconds(other.since.at),
            self.moved_words(other),
        );
        self.fail(invariant, what)
    }

    /// What was taken before a move or a crash was lost by it; what is left of a range that was split, by that.
    pub(crate) fn loss_or(&self, hold: &Hold, otherwise: Invariant) -> Invariant {
        if self.world.manager_of(hold.owner).changed.seq > hold.effective {
            Invariant::I2
        } else if hold.split {
            Invariant::I13
        } else {
            otherwise
        }
    }

    pub(crate) fn moved_words(&self, hold: &Hold) -> String {
        let manager = self.world.manager_of(hold.owner);
        if manager.changed.seq > hold.effective {
            format!(
                " ({} has moved, crashed or been released meanwhile, the last time at {})",
                manager.ip,
                seconds(manager.changed.at)
            )
        } else {
            String::new()
        }
    }

    /// I6: a request that waited longer, and was in the way of nothing but this one's turn, should have been granted before.
    ///
    /// Only where the two exclude each other, the second was first sent after the client of the first knew that it waits, nothing has
    /// dropped what waits since, and whoever may have been in the way of the first was in the way of the second too: then, when the second was
    /// granted, they were gone. That holds as well for one that never waited: a LOCK or an UNLOCK of another had let the first one in before.
    pub(crate) fn look_at_order(&self, grant: &Grant<'_>, wait: Option<&Wait>) -> Verdict {
        let since = match wait {
            Some(wait) => wait.first,
            // A callback may be of an earlier request, and a reclaim is of what was granted before.
            None if grant.call.is_none() || grant.reclaim => return Ok(()),
            None => grant.first,
        };
        let file = &self.files[grant.file as usize];
        let lm = self.world.info(grant.owner).lm;
        for owner in file.waiting.iter().filter(|owner| **owner != grant.owner) {
            let info = self.world.info(*owner);
            if info.lm != lm || info.forged() {
                continue;
            }
            let Some(own) = self.owns.get(&(grant.file, *owner)) else { continue };
            for first in own.waits.iter().filter(|first| self.was_earlier(info.peer, first, grant, since)) {
                // A callback of its own that is not answered yet holds it up.
                let busy = wait.is_none()
                    && own.stale.iter().any(|stale| overlap(stale.bytes, first.bytes))
                    && file.map.touching(first.bytes).any(|(_, segment)| {
                        segment.hold(*owner).is_some_and(|hold| hold.may.iter().any(|may| may.until == STILL))
                    });
                if !busy && !self.blocked_by_others(grant, *owner, first, since) {
                    let waited = wait.map_or(String::new(), |wait| {
                        format!(" after waiting since {}", seconds(wait.first.at))
                    });
                    let what = format!(
                        "{} was granted{waited}, before {}'s LOCK of bytes {}..={} {}, which had been told at {} that it waits \
                         and could have been granted as well",
                        self.say_grant(grant),
                        self.say_owner(*owner),
                        first.bytes.start,
                        first.bytes.end,
                        mode_word(first.mode),
                        seconds(first.blocked.at),
                    );
                    return self.fail(Invariant::I6, what);
                }
            }
        }
        Ok(())
    }

    fn was_earlier(&self, peer: u32, first: &Wait, second: &Grant<'_>, since: Moment) -> bool {
        let peer = &self.world.peers[peer as usize];
        first.blocked.seq < since.seq
            && !first.doubtful
            && overlap(first.bytes, second.bytes)
            && first.mode.conflicts(second.mode)
            && peer.unlocking == 0
            && peer.unlocked < first.first.seq
    }

    fn blocked_by_others(&self, grant: &Grant<'_>, owner: u32, first: &Wait, since: Moment) -> bool {
        if self.world.manager_of(owner).may_have_dropped(first.first.seq)
            || self.full_since(self.world.info(owner).lm, first.first.at)
        {
            return true;
        }
        // A LOCK of the second owner that nobody has the answer to may have been granted before its later one.
        let call = grant.call.map(|call| call.id);
        let unheard = |op: &Op| match op.kind {
            Kind::Lock { mode, .. } => {
                Some(op.call) != call
                    && op.first.seq < since.seq
                    && op.reaches(since)
                    && overlap(op.bytes, first.bytes)
                    && mode.conflicts(first.mode)
            }
            _ => false,
        };
        // So may what it refused, or what waited before something that is not sure to have ended that.
        let refused = |wait: &Wait| {
            wait.doubtful && overlap(wait.bytes, first.bytes) && wait.mode.conflicts(first.mode)
        };
        if self
            .owns
            .get(&(grant.file, grant.owner))
            .is_some_and(|own| own.ops.iter().any(unheard) || own.waits.iter().any(refused))
        {
            return true;
        }
        let map = &self.files[grant.file as usize].map;
        map.touching(first.bytes).any(|(bytes, segment)| {
            let inside = bytes.start >= grant.bytes.start && bytes.end <= grant.bytes.end;
            segment.holds.iter().filter(|hold| hold.owner != owner).any(|hold| {
                // The second owner's own earlier locks stay in the way of the first; what it waits for does not count.
                let own = hold.owner == grant.owner;
                Mode::ALL.iter().filter(|mode| mode.conflicts(first.mode)).any(|mode| {
                    let gone = inside && mode.conflicts(grant.mode);
                    if own {
                        hold.may[*mode as usize].until >= since.seq
                    } else {
                        hold.may_since(*mode, since.seq) && !gone
                    }
                })
            })
        })
    }

    /// A LOCK under a new NSM state comes from a rebooted client: its older locks go.
    fn free_older_states(&mut self, grant: &Grant<'_>) {
        let peer = self.world.info(grant.owner).peer;
        let known = &mut self.world.peers[peer as usize].state;
        if *known != grant.state {
            *known = grant.state;
            self.free_states(peer, grant.state, grant.first);
        }
    }

    /// NLM GRANTED arrives.
    pub(crate) fn called_back(&mut self, client: ClientId, lock: Lock, accepted: bool) -> Verdict {
        let now = self.now;
        let (owner, file) = (self.world.owner(lock.owner, client), self.file(lock.file));
        let mode = Mode::of(lock.exclusive);
        let forged = self.world.info(owner).forged();
        let stale = self.owns.get(&(file, owner)).is_some_and(|own| own.has_stale(lock.bytes, mode, now.at));
        if !accepted {
            self.refused_copy(owner, file, lock.bytes, mode);
            if self.settings.lossless && self.settings.steady && !forged {
                self.refused.push_back(Refused { at: now, owner, file, bytes: lock.bytes, mode });
            }
        }
        let Some(own) = self.owns.get_mut(&(file, owner)) else { return Ok(()) };
        if !accepted {
            // Refused the first time it is taken back, later not: the request stays one that may be held until it is unlocked or cancelled.
            own.refuse_all(lock.bytes, mode);
            return Ok(());
        }
        let wait = own.waits.iter().find(|wait| wait.bytes == lock.bytes && wait.mode == mode).copied();
        let (first, state, sure) = match (wait, own.blocking_op(lock.bytes, mode)) {
            (Some(wait), _) => (wait.first, wait.state, !wait.doubtful),
            (None, Some(op)) => {
                // Its BLOCKED comes later, if ever.
                (op.first, 0, true)
            }
            // The client says that it takes what it does not wait for: nothing is proven by that.
            (None, None) => return Ok(()),
        };
        self.summary.called_back += 1;
        if stale {
            self.take_stale(owner, file, lock.bytes, mode, wait);
            return Ok(());
        }
        let sure = sure && !forged;
        let grant =
            Grant { owner, file, bytes: lock.bytes, mode, state, first, reclaim: false, sure, call: None };
        let verdict = self.granted(grant);
        self.tidy(file, owner, lock.bytes);
        verdict
    }
}

impl Checker {
    /// A reclaim may reach a full window: there it takes what others have not reclaimed yet, proven or not, and nobody may hear of it.
    pub(crate) fn doubt_rivals(&mut self, call: &Call) {
        let Some((mode, true, _, _)) = call.lock() else { return };
        if !self.full_since(call.lm, self.now.at) {
            return;
        }
        for (_, segment) in self.files[call.file as usize].map.within(call.bytes) {
            for hold in segment.holds.iter_mut().filter(|hold| hold.owner != call.owner) {
                let unreclaimed = hold.effective < self.world.manager_of(hold.owner).unreclaimed_before();
                // What the record holds may be stronger than what its owner is sure of.
                let stronger = hold.may[Mode::Exclusive as usize].until == STILL;
                if unreclaimed && hold.must.is_some_and(|must| must.conflicts(mode) || stronger) {
                    hold.must = None;
                }
            }
        }
    }

    /// The same for all reclaims under way.
    pub(crate) fn doubt_all_rivals(&mut self) {
        let open: Vec<_> = self.world.clients.iter().flat_map(|client| client.open.iter().copied()).collect();
        for id in open {
            if let Some(call) = self.calls.get(&id).copied() {
                self.doubt_rivals(&call);
            }
        }
    }

    /// The client takes a lock from what may be a late copy of an earlier GRANTED: that proves nothing, and its request may still wait.
    fn take_stale(&mut self, owner: u32, file: u32, bytes: Bytes, mode: Mode, wait: Option<Wait>) {
        let until = self.now.at.saturating_add(self.settings.late);
        self.settle(Ghost { owner, file, bytes, mode, block: true, state: 0, until });
        if let Some(own) = self.owns.get_mut(&(file, owner)) {
            own.take_all(bytes, mode);
        }
        if let Some(wait) = wait {
            self.drop_wait(file, owner, wait);
        }
        self.tidy(file, owner, bytes);
    }

    /// Where nothing is lost, a refusal is that of the first transmission, and the server has heard of it after a moment: it has taken the
    /// lock back, and the request waits no longer.
    pub(crate) fn take_back_refused(&mut self) {
        while let Some(refused) = self.refused.front().copied().filter(|r| r.at.at + HEARD <= self.now.at) {
            self.refused.pop_front();
            let Refused { at, owner, file, bytes, mode } = refused;
            let manager = self.world.manager_of(owner);
            let calm = manager.served_since(at.at.saturating_sub(REPEATED))
                && self.world.nodes.all_awake_since(at.at.saturating_sub(REPEATED));
            let Some(own) = self.owns.get(&(file, owner)).filter(|_| calm) else { continue };
            // Another request may have taken its place.
            let other = own.ops.iter().any(|op| overlap(op.bytes, bytes) && op.reaches(at) && !op.refused);
            let wait = own.wait(bytes, mode).filter(|wait| !other && wait.first.seq < at.seq).copied();
            if let Some(wait) = wait {
                self.drop_wait(file, owner, wait);
            }
        }
    }

    /// A copy of the callback that the network made was refused, as the client has the lock already: that refusal may reach the server
    /// before the acceptance, and reads like one of the first transmission. A lock that an answer has confirmed since stays.
    fn refused_copy(&mut self, owner: u32, file: u32, bytes: Bytes, mode: Mode) {
        if !self.settings.copies {
            return;
        }
        let now = self.now;
        for (_, segment) in self.files[file as usize].map.within(bytes) {
            if let Some(hold) = segment
                .hold_mut(owner)
                .filter(|hold| hold.callback && hold.must.is_some_and(|must| must <= mode))
            {
                hold.must = None;
                // What was there before the callback is there again.
                let state = hold.state;
                if hold.may[mode.other() as usize].until > 0 {
                    settle(hold, mode.other(), now, state);
                }
            }
        }
    }
}

fn take_for_sure(hold: &mut Hold, grant: &Grant<'_>, known: Option<Mode>, now: Moment) {
    if known.is_none() {
        hold.split = false;
    }
    // A weaker lock may have come after this one.
    let shared = hold.may[Mode::Shared as usize];
    let weakened = shared.until == STILL && (shared.queued || !shared.older(grant.first));
    let mode = if weakened { Mode::Shared } else { grant.mode };
    let stays = known.is_some_and(|known| known == mode || (grant.reclaim && known > mode && !weakened));
    if !stays {
        hold.must = Some(mode);
        hold.since = now;
    }
    hold.effective = grant.first.seq;
    hold.callback = grant.call.is_none();
}

pub(crate) fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Shared => "shared",
        Mode::Exclusive => "exclusive",
    }
}
