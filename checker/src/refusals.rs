//! LOCKs that were refused or told to wait, and TEST: only what is in the way may be in the way.

use crate::calls::Call;
use crate::checker::{Checker, Verdict};
use crate::hash::Table;
use crate::history::{Answer, Bytes, FileId};
use crate::map::{Hold, Mode};
use crate::own::overlap;
use crate::verdict::Invariant;
use crate::words::seconds;

/// What can have been in the way of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InTheWay {
    /// Nothing.
    Nothing,
    /// Only what has surely expired.
    Expired(u32),
    /// Something that an owner may have held.
    Something,
}

impl Checker {
    /// A LOCK was not granted.
    pub(crate) fn refusal(&mut self, call: &Call, mode: Mode, answer: Answer) -> Verdict {
        let Some((_, reclaim, _, _)) = call.lock() else { return Ok(()) };
        if call.forged {
            return Ok(());
        }
        self.own_lock_refused(call, mode, reclaim, answer)?;
        if reclaim {
            return Ok(());
        }
        match answer {
            Answer::DeniedNolocks if self.nolocks => return Ok(()),
            Answer::Other(_) if self.settings.others => return Ok(()),
            Answer::DeniedNolocks | Answer::Other(_) | Answer::Void | Answer::Holder { .. } => {
                let what = format!("{} was answered {answer:?}, and nothing excuses that", self.say(call));
                return self.fail(Invariant::I5, what);
            }
            _ => {}
        }
        self.must_be_in_the_way(call, mode, &format!("was answered {answer:?}"))?;
        if answer == Answer::Blocked && self.settings.circles {
            self.look_for_circle(call, mode)?;
        }
        if answer == Answer::Deadlock && !self.may_be_a_circle(call, mode) {
            let what = format!(
                "{} was answered Deadlock, but nobody in its way can be waiting for that owner",
                self.say(call)
            );
            return self.fail(Invariant::I5, what);
        }
        Ok(())
    }

    /// I2: an owner gets what it surely holds, from before the call until now, in this mode or a stronger one. It reclaims it even after
    /// the window, as long as nobody else has asked for what it excludes.
    /// In a full window what others may have reclaimed meanwhile excuses a refusal, and a plain LOCK waits whatever it asks for.
    fn own_lock_refused(&self, call: &Call, mode: Mode, reclaim: bool, answer: Answer) -> Verdict {
        if !reclaim && (answer == Answer::Blocked || self.full_since(call.lm, call.first.at)) {
            // A LOCK that waits is not refused; whether it may wait is asked elsewhere.
            return Ok(());
        }
        let map = &self.files[call.file as usize].map;
        // While it was away others may have been given the same bytes through another address, and have let go of them.
        let alone = self.is_served_through_one(self.files[call.file as usize].id);
        let mut next = Some(call.bytes.start);
        for (bytes, segment) in map.touching(call.bytes) {
            let Some(hold) = segment.hold(call.owner) else { return Ok(()) };
            let must =
                if reclaim && alone { self.world.must_if_reclaimed(hold) } else { self.world.must(hold) };
            let sure = must.is_some_and(|must| must >= mode) && hold.since.seq < call.first.seq;
            if !sure || next.is_none_or(|next| bytes.start > next) {
                return Ok(());
            }
            next = bytes.end.checked_add(1);
        }
        if next.is_some_and(|next| next <= call.bytes.end) {
            return Ok(());
        }
        let full = self.world.any_full_since(call.first.at, self.settings.slack);
        if full && self.in_the_way(call, mode) != InTheWay::Nothing {
            return Ok(());
        }
        let Some(hold) = map.touching(call.bytes).find_map(|(_, segment)| segment.hold(call.owner)) else {
            return Ok(());
        };
        let what = format!(
            "{} was answered {answer:?}, but its owner surely holds all of it since {} at the latest, and neither unlocked nor lost it{}",
            self.say(call),
            seconds(hold.since.at),
            self.moved_words(hold)
        );
        self.fail(self.loss_or(hold, Invariant::I2), what)
    }

    fn is_served_through_one(&self, file: FileId) -> bool {
        match self.settings.served.iter().find(|(served, _)| *served == file) {
            Some((_, through)) => through.len() <= 1,
            None => self.world.managers.len() <= 1,
        }
    }

    /// I5: something that excludes it may have been held by another at some time between request and answer.
    /// A full window excuses everything: through its own address every LOCK waits, and a record that may be incomplete may also
    /// hold locks whose UNLOCK it has lost, which are in everybody's way.
    fn must_be_in_the_way(&self, call: &Call, mode: Mode, said: &str) -> Verdict {
        let (invariant, why) = match self.in_the_way(call, mode) {
            InTheWay::Something => return Ok(()),
            InTheWay::Expired(owner) => (
                Invariant::I6,
                format!(
                    "only {} can have been in its way, whose locks were not reclaimed in a window that is over",
                    self.say_owner(owner)
                ),
            ),
            InTheWay::Nothing => (
                self.scope(call, said.contains("Grace")),
                String::from("no other owner can have held any of it meanwhile"),
            ),
        };
        if self.world.any_full_since(call.first.at, self.settings.slack) {
            return Ok(());
        }
        self.fail(invariant, format!("{} {said}, but {why}", self.say(call)))
    }

    /// Whose fault it is: of a window that should be over, of what happened to another lock manager, or none of these.
    fn scope(&self, call: &Call, grace: bool) -> Invariant {
        let manager = &self.world.managers[call.lm as usize];
        let over = manager.expired_before(call.first.at, &self.world.nodes, self.settings.slack).is_some();
        if grace && over {
            return Invariant::I6;
        }
        let moved = |lm: u32| self.world.managers[lm as usize].in_window(self.now.at);
        let others = (0..self.world.managers.len() as u32).any(|lm| lm != call.lm && moved(lm));
        if others && !moved(call.lm) { Invariant::I4 } else { Invariant::I5 }
    }

    fn in_the_way(&self, call: &Call, mode: Mode) -> InTheWay {
        let mut result = InTheWay::Nothing;
        for (_, segment) in self.files[call.file as usize].map.touching(call.bytes) {
            for hold in segment.holds.iter().filter(|hold| hold.owner != call.owner) {
                for theirs in Mode::ALL {
                    if !theirs.conflicts(mode) || !hold.may_since(theirs, call.first.seq) {
                        continue;
                    }
                    if !self.world.surely_expired(hold, theirs, call.first.at, self.settings.slack) {
                        return InTheWay::Something;
                    }
                    result = InTheWay::Expired(hold.owner);
                }
            }
        }
        result
    }

    /// It was told to wait, but those that it surely waits for wait surely for it, all from before it was sent on.
    fn look_for_circle(&self, call: &Call, mode: Mode) -> Verdict {
        let since = call.first.seq;
        let here = &self.world.managers[call.lm as usize];
        // Who waits on another node is not known to this one.
        let quiet = |owner: u32| {
            let manager = self.world.manager_of(owner);
            !manager.may_have_dropped(since) && !manager.had_any_doubt() && manager.is_surely_with(here)
        };
        // Each with the one that waits for it.
        let mut seen: Table<u32, u32> = Table::default();
        let with = |owners: Vec<u32>, waiting: u32| owners.into_iter().map(move |owner| (owner, waiting));
        let first = self.sure_holders(call.file, call.owner, call.bytes, mode, since);
        let mut next: Vec<(u32, u32)> = with(first, call.owner).collect();
        while let Some((owner, waiting)) = next.pop() {
            if owner == call.owner {
                let way = std::iter::successors(Some(waiting), |one| {
                    seen.get(one).copied().filter(|before| *before != call.owner)
                });
                let way: Vec<String> = way.map(|one| self.say_owner(one)).collect();
                let what = format!(
                    "{} was told to wait, but {} waits for that owner",
                    self.say(call),
                    way.join(", for which waits ")
                );
                return self.fail(Invariant::I6, what);
            }
            if self.world.info(owner).forged() || !quiet(owner) || seen.contains_key(&owner) {
                continue;
            }
            seen.insert(owner, waiting);
            for file in 0..self.files.len() as u32 {
                let Some(own) = self.owns.get(&(file, owner)) else { continue };
                let sure = own.waits.iter().filter(|wait| {
                    let manager = self.world.manager_of(owner);
                    !wait.doubtful && wait.blocked.seq < since && !manager.may_have_dropped(wait.first.seq)
                });
                for wait in sure {
                    next.extend(with(self.sure_holders(file, owner, wait.bytes, wait.mode, since), owner));
                }
            }
        }
        Ok(())
    }

    /// A circle is possible: from those who may be in the way of this request, over those who may be in the way of what they wait for,
    /// back to its owner. Whoever asks for something without an answer, or may still be waiting, waits.
    fn may_be_a_circle(&self, call: &Call, mode: Mode) -> bool {
        let mut seen: Table<u32, ()> = Table::default();
        let mut next = self.owners_in_the_way(call.file, call.owner, call.bytes, mode, call.first.seq);
        let files = 0..self.files.len() as u32;
        while let Some(owner) = next.pop() {
            if owner == call.owner {
                return true;
            }
            if seen.insert(owner, ()).is_some() {
                continue;
            }
            let owns = files.clone().filter_map(|file| Some((file, self.owns.get(&(file, owner))?)));
            for (file, own) in owns {
                // What is over may have been waiting when the answer was made.
                let ops = own.ops.iter().filter_map(|op| match op.kind {
                    crate::own::Kind::Lock { mode, .. } => Some((op.bytes, mode)),
                    _ => None,
                });
                let waits = own.waits.iter().map(|wait| (wait.bytes, wait.mode));
                let stale = own.stale.iter().map(|stale| (stale.bytes, stale.mode));
                for (bytes, mode) in ops.chain(waits).chain(stale) {
                    let more = self.owners_in_the_way(file, owner, bytes, mode, call.first.seq);
                    if more.contains(&call.owner) {
                        return true;
                    }
                    next.extend(more);
                }
            }
        }
        false
    }

    /// Who may hold, at some time from event `since` on, what excludes this.
    fn owners_in_the_way(&self, file: u32, owner: u32, bytes: Bytes, mode: Mode, since: u64) -> Vec<u32> {
        self.others(file, owner, bytes, |hold| {
            Mode::ALL.iter().any(|theirs| theirs.conflicts(mode) && hold.may_since(*theirs, since))
        })
    }

    /// Who surely holds what excludes this, and has since before that event.
    fn sure_holders(&self, file: u32, owner: u32, bytes: Bytes, mode: Mode, since: u64) -> Vec<u32> {
        self.others(file, owner, bytes, |hold| {
            hold.since.seq < since && self.world.must(hold).is_some_and(|must| must.conflicts(mode))
        })
    }

    /// Other owners with such a hold on any of these bytes.
    fn others(&self, file: u32, owner: u32, bytes: Bytes, such: impl Fn(&Hold) -> bool) -> Vec<u32> {
        let holds = self.files[file as usize].map.touching(bytes).flat_map(|(_, segment)| &segment.holds);
        holds.filter(|hold| hold.owner != owner && such(hold)).map(|hold| hold.owner).collect()
    }

    /// TEST was answered.
    pub(crate) fn tested(&mut self, call: &Call, mode: Mode, answer: Answer) -> Verdict {
        self.summary.tested += 1;
        if call.forged {
            return Ok(());
        }
        match answer {
            Answer::Granted => self.nothing_is_held(call, mode),
            Answer::Holder { svid, bytes, exclusive } => {
                self.holder_is_one(call, mode, svid, bytes, Mode::of(exclusive))
            }
            Answer::Other(_) if self.settings.others => Ok(()),
            _ if self.full_since(call.lm, call.first.at) => Ok(()),
            _ => self.fail(Invariant::I5, format!("{} was answered {answer:?}", self.say(call))),
        }
    }

    /// I1 and I2 seen by TEST: nobody has surely held what excludes it all the time.
    fn nothing_is_held(&self, call: &Call, mode: Mode) -> Verdict {
        for (bytes, segment) in self.files[call.file as usize].map.touching(call.bytes) {
            for hold in segment.holds.iter().filter(|hold| hold.owner != call.owner) {
                let theirs = self.world.manager_of(hold.owner);
                let lost_record =
                    hold.effective < theirs.unproven_before() && self.world.info(hold.owner).lm != call.lm;
                let must = self.world.must(hold).filter(|must| must.conflicts(mode));
                if let Some(must) = must
                    && hold.since.seq < call.first.seq
                    && !lost_record
                {
                    let what = format!(
                        "{} was told that nothing is in the way, but {} surely holds bytes {}..={} {} since {}{}",
                        self.say(call),
                        self.say_owner(hold.owner),
                        bytes.start,
                        bytes.end,
                        crate::grants::mode_word(must),
                        seconds(hold.since.at),
                        self.moved_words(hold)
                    );
                    return self.fail(self.loss_or(hold, Invariant::I1), what);
                }
            }
        }
        Ok(())
    }

    /// The holder that TEST names may hold all that is said of it, and is in the way.
    fn holder_is_one(&self, call: &Call, mode: Mode, svid: u32, bytes: Bytes, theirs: Mode) -> Verdict {
        self.must_be_in_the_way(call, mode, "was told of a holder")?;
        if self.world.any_full_since(call.first.at, self.settings.slack) {
            return Ok(());
        }
        let said = format!(
            "owner {svid} with {} bytes {}..={}",
            crate::grants::mode_word(theirs),
            bytes.start,
            bytes.end
        );
        if !overlap(bytes, call.bytes) || !theirs.conflicts(mode) {
            let what = format!("{} was told of {said}, which is not in its way", self.say(call));
            return self.fail(Invariant::I13, what);
        }
        let mut known = false;
        let map = &self.files[call.file as usize].map;
        let candidates: Vec<u32> = map
            .touching(bytes)
            .flat_map(|(_, segment)| &segment.holds)
            .map(|hold| hold.owner)
            .filter(|owner| *owner != call.owner && self.world.info(*owner).owner.svid == svid)
            .collect();
        for owner in candidates {
            known = true;
            if self.may_hold_all(call.file, owner, bytes, theirs, call.first.seq) {
                return Ok(());
            }
        }
        let invariant = if known { Invariant::I13 } else { Invariant::I5 };
        self.fail(
            invariant,
            format!("{} was told of {said}, but no such owner can have held that", self.say(call)),
        )
    }

    /// The owner may have held every byte in this mode at some time since.
    pub(crate) fn may_hold_all(&self, file: u32, owner: u32, bytes: Bytes, mode: Mode, since: u64) -> bool {
        let may = |hold: &Hold| hold.may_since(mode, since);
        let mut next = Some(bytes.start);
        for (stretch, segment) in self.files[file as usize].map.touching(bytes) {
            if segment.hold(owner).is_some_and(may) && next.is_some_and(|next| stretch.start <= next) {
                next = stretch.end.checked_add(1);
            }
        }
        next.is_none_or(|next| next > bytes.end)
    }
}
