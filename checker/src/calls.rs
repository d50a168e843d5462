//! Requests and answers. A request takes effect at some moment between its first transmission and its first answer, or not at all;
//! without an answer it may take effect until its last copy is gone.

use crate::checker::{Checker, Verdict};
use crate::grants::Grant;
use crate::history::{Answer, Bytes, CallId, ClientId, Micros, Request};
use crate::map::{Mode, Moment};
use crate::own::{End, Kind, Op, Wait, overlap};
use crate::takeups::Ghost;
use crate::verdict::Invariant;
use crate::words::seconds;

/// A call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) id: CallId,
    pub(crate) request: Request,
    pub(crate) client: u32,
    pub(crate) lm: u32,
    /// Unused by SM_NOTIFY.
    pub(crate) owner: u32,
    pub(crate) file: u32,
    pub(crate) bytes: Bytes,
    pub(crate) forged: bool,
    /// A new LOCK through an address that does not serve the file: it gives nothing.
    pub(crate) elsewhere: bool,
    pub(crate) first: Moment,
    pub(crate) last: Micros,
    pub(crate) sent: u32,
    pub(crate) stage: Stage,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Open,
    Answered(Answer, Micros),
    Abandoned,
}

impl Call {
    /// For a LOCK: mode, reclaim, block, state.
    pub(crate) fn lock(&self) -> Option<(Mode, bool, bool, u32)> {
        match self.request {
            Request::Lock { lock, block, reclaim, state } => {
                Some((Mode::of(lock.exclusive), reclaim, block, state))
            }
            _ => None,
        }
    }

    fn kind(&self) -> Option<Kind> {
        match self.request {
            Request::Lock { lock, block, reclaim, .. } => {
                Some(Kind::Lock { mode: Mode::of(lock.exclusive), reclaim, block })
            }
            Request::Unlock { .. } => Some(Kind::Unlock),
            Request::Cancel { lock } => Some(Kind::Cancel { mode: Mode::of(lock.exclusive) }),
            Request::Test { .. } | Request::Notify { .. } => None,
        }
    }

    fn reads(&self) -> bool {
        matches!(self.request, Request::Lock { .. } | Request::Test { .. })
    }
}

impl Checker {
    pub(crate) fn sent(&mut self, client: ClientId, id: CallId, request: Request) -> Verdict {
        let now = self.now;
        if let Some(call) = self.calls.get(&id).copied() {
            self.look_for_answer(&call)?;
        }
        if let Some(call) = self.calls.get_mut(&id) {
            call.last = now.at;
            call.sent += 1;
            let call = *call;
            self.doubt_rivals(&call);
            return Ok(());
        }
        self.summary.calls += 1;
        let call = self.new_call(client, id, request);
        self.calls.insert(id, call);
        self.world.clients[call.client as usize].open.push(id);
        if call.elsewhere {
            return Ok(());
        }
        if call.reads() {
            self.files[call.file as usize].open.insert(now.seq);
        }
        if let Some(kind) = call.kind() {
            let op = Op {
                call: id,
                kind,
                bytes: call.bytes,
                first: now,
                end: End::Open,
                taken: false,
                refused: false,
            };
            self.owns.entry((call.file, call.owner)).or_default().ops.push(op);
        }
        match request {
            Request::Lock { .. } => self.lock_sent(&call),
            Request::Unlock { .. } => self.unlock_sent(&call),
            Request::Cancel { lock } => self.cancel_sent(&call, Mode::of(lock.exclusive)),
            Request::Test { .. } | Request::Notify { .. } => {}
        }
        Ok(())
    }

    /// Whoever repeats a call is there to hear: where nothing is lost, the answer to an earlier transmission would have come.
    ///
    /// A notice, and what ends or reclaims a lock that a liar may have under the same name, may be met with silence.
    fn look_for_answer(&self, call: &Call) -> Verdict {
        let Some(limit) = self.settings.answers.filter(|_| self.settings.lossless) else { return Ok(()) };
        let asks = match call.request {
            Request::Lock { reclaim: false, .. } | Request::Test { .. } => true,
            Request::Notify { .. } => false,
            _ => self.settings.liars.is_empty(),
        };
        if call.stage != Stage::Open || call.forged || call.elsewhere || !asks {
            return Ok(());
        }
        let heard = |at: Micros| {
            at.saturating_add(limit) <= self.now.at
                && self.world.managers[call.lm as usize].served_since(at)
                && self.world.nodes.all_awake_since(at)
        };
        if let Some(at) = [call.first.at, call.last].into_iter().find(|at| heard(*at)) {
            let what = format!(
                "{} has no answer yet, though it has reached the node that has served the address all the time since {}",
                self.say(call),
                seconds(at)
            );
            return self.fail(Invariant::Liveness, what);
        }
        Ok(())
    }

    fn new_call(&mut self, client: ClientId, id: CallId, request: Request) -> Call {
        let (owner, file, bytes) = match request {
            Request::Lock { lock, .. } | Request::Cancel { lock } | Request::Test { lock } => {
                (Some(lock.owner), Some(lock.file), lock.bytes)
            }
            Request::Unlock { owner, file, bytes } => (Some(owner), Some(file), bytes),
            Request::Notify { .. } => (None, None, Bytes { start: 0, end: 0 }),
        };
        let lm = match (owner, request) {
            (Some(owner), _) => self.world.manager(owner.lm),
            (None, Request::Notify { lm, .. }) => self.world.manager(lm),
            (None, _) => 0,
        };
        let name = match (owner, request) {
            (Some(owner), _) => owner.client,
            (None, Request::Notify { client, .. }) => client,
            (None, _) => client,
        };
        Call {
            id,
            request,
            client: self.world.client(client),
            lm,
            owner: owner.map_or(u32::MAX, |owner| self.world.owner(owner, client)),
            file: file.map_or(u32::MAX, |file| self.file(file)),
            bytes,
            forged: name != client || self.world.liars.contains(&client),
            elsewhere: self.is_elsewhere(&request),
            first: self.now,
            last: self.now.at,
            sent: 1,
            stage: Stage::Open,
        }
    }

    fn is_elsewhere(&self, request: &Request) -> bool {
        let Request::Lock { lock, reclaim: false, .. } = request else { return false };
        let served = self.settings.served.iter().find(|(file, _)| *file == lock.file);
        served.is_some_and(|(_, through)| !through.contains(&lock.owner.lm))
    }

    fn lock_sent(&mut self, call: &Call) {
        let Some((mode, reclaim, _, _)) = call.lock() else { return };
        let info = *self.world.info(call.owner);
        self.world.peers[info.peer as usize].files.insert(call.file, ());
        let map = &mut self.files[call.file as usize].map;
        for (_, segment) in map.all_within(call.bytes) {
            if !reclaim {
                segment.contest(call.owner, mode);
            }
            let hold = segment.hold_or_new(call.owner);
            let counts = if reclaim { &mut hold.reclaiming } else { &mut hold.pending };
            counts[mode as usize] += 1;
            // A downgrade may happen from here on. A reclaim weakens nothing.
            if !reclaim && mode == Mode::Shared && hold.must == Some(Mode::Exclusive) {
                hold.must = Some(Mode::Shared);
                hold.split = true;
            }
        }
        map.beside(call.bytes, call.owner, |hold| hold.split = true);
        self.doubt_rivals(call);
        // A further LOCK of the owner may satisfy, or replace, what waits.
        if let Some(own) = self.owns.get_mut(&(call.file, call.owner)) {
            for wait in &mut own.waits {
                wait.doubtful |=
                    overlap(wait.bytes, call.bytes) && !(wait.bytes == call.bytes && wait.mode == mode);
            }
        }
    }

    fn unlock_sent(&mut self, call: &Call) {
        let map = &mut self.files[call.file as usize].map;
        for (_, segment) in map.within(call.bytes) {
            if let Some(hold) = segment.hold_mut(call.owner) {
                hold.must = None;
            }
        }
        map.beside(call.bytes, call.owner, |hold| hold.split = true);
        if let Some(own) = self.owns.get_mut(&(call.file, call.owner)) {
            for wait in &mut own.waits {
                wait.doubtful |= overlap(wait.bytes, call.bytes);
            }
        }
    }

    /// Ends what a callback has given, which may not be confirmed; a lock that an answer has given stays.
    fn cancel_sent(&mut self, call: &Call, mode: Mode) {
        for (_, segment) in self.files[call.file as usize].map.within(call.bytes) {
            if let Some(hold) = segment
                .hold_mut(call.owner)
                .filter(|hold| hold.callback && hold.must.is_some_and(|must| must <= mode))
            {
                hold.must = None;
            }
        }
        if let Some(own) = self.owns.get_mut(&(call.file, call.owner)) {
            for wait in &mut own.waits {
                wait.doubtful |= wait.bytes == call.bytes && wait.mode == mode;
            }
        }
    }

    pub(crate) fn got(&mut self, client: ClientId, id: CallId, answer: Answer) -> Verdict {
        let Some(call) = self.calls.get(&id).copied() else { return Ok(()) };
        if self.world.client(client) != call.client {
            return Ok(());
        }
        if let Stage::Answered(earlier, at) = call.stage {
            if call.elsewhere {
                return self.answered_elsewhere(&call, answer);
            }
            return self.got_again(&call, earlier, at, answer);
        }
        let verdict = self.first_answer(&call, answer);
        if let Some(call) = self.calls.get_mut(&id) {
            call.stage = Stage::Answered(answer, self.now.at);
        }
        if call.stage == Stage::Open {
            self.close(&call, End::Closed(self.now.seq));
        }
        verdict
    }

    fn first_answer(&mut self, call: &Call, answer: Answer) -> Verdict {
        match call.request {
            Request::Lock { .. } => self.lock_answered(call, answer),
            // Too late: it is granted.
            Request::Cancel { lock }
                if answer == Answer::Denied && self.may_be_granted(call, lock.exclusive) =>
            {
                Ok(())
            }
            Request::Unlock { .. } | Request::Cancel { .. } if answer != Answer::Granted && !call.forged => {
                self.fail(
                    Invariant::I10,
                    format!("{} was answered {answer:?}; it is always legal", self.say(call)),
                )
            }
            Request::Unlock { .. } => {
                if !call.forged && answer == Answer::Granted {
                    self.unlocked(call);
                }
                Ok(())
            }
            Request::Cancel { lock } => {
                if !call.forged && answer == Answer::Granted {
                    self.cancelled(call, Mode::of(lock.exclusive));
                }
                Ok(())
            }
            Request::Test { .. } if call.stage != Stage::Open => Ok(()),
            Request::Test { lock } => self.tested(call, Mode::of(lock.exclusive), answer),
            Request::Notify { state, .. } => {
                if !call.forged {
                    self.rebooted(call, state);
                }
                Ok(())
            }
        }
    }

    /// Whether the owner of a call may have had any of its bytes in this mode since it was sent. A request that waits, and of which no copy
    /// can be under way any more, has given nothing.
    fn may_be_granted(&self, call: &Call, exclusive: bool) -> bool {
        let mode = Mode::of(exclusive);
        let waits =
            self.owns.get(&(call.file, call.owner)).map(|own| own.waits.as_slice()).unwrap_or_default();
        // What was granted by a callback that nobody heard when the lock manager went away stays in its record, and is a lock where that is
        // taken up.
        let manager = &self.world.managers[call.lm as usize];
        let settled = |wait: &&Wait| {
            wait.mode == mode && wait.last_copy <= call.first.at && !manager.moved_since(wait.blocked.seq)
        };
        self.files[call.file as usize].map.touching(call.bytes).any(|(bytes, segment)| {
            let only = waits.iter().filter(settled).filter(|wait| overlap(wait.bytes, bytes)).count() as u32;
            segment.hold(call.owner).is_some_and(|hold| {
                hold.may[mode as usize].until >= call.first.seq
                    || hold.reclaiming[mode as usize] > 0
                    || hold.pending[mode as usize] > only
            })
        })
    }

    fn lock_answered(&mut self, call: &Call, answer: Answer) -> Verdict {
        let Some((mode, reclaim, block, state)) = call.lock() else { return Ok(()) };
        if call.elsewhere {
            return self.answered_elsewhere(call, answer);
        }
        if answer == Answer::Granted {
            self.summary.granted += 1;
            let known = call.stage == Stage::Open;
            let first = call.first;
            let grant = Grant { reclaim, first, mode, state, ..Grant::of(self, Some(call)) };
            // While the call still counts as one that has given nothing.
            self.look_at_order(&grant, self.waited(&grant).as_ref())?;
            // Who keeps to no rule may repeat it at any time: it stays under way.
            if known && !reclaim && !call.forged {
                self.unpend(call.file, call.owner, call.bytes, mode, false);
            }
            if block
                && call.sent > 1
                && let Some(own) = self.owns.get_mut(&(call.file, call.owner))
            {
                own.expect_stale(call.bytes, mode);
            }
            return self.granted(Grant { sure: known && !call.forged, ..grant });
        }
        self.summary.refused += 1;
        if call.stage != Stage::Open {
            // What excused it may be forgotten.
            return Ok(());
        }
        self.refusal(call, mode, answer)?;
        if answer == Answer::Blocked && !reclaim {
            self.blocked(call, mode, state);
            return Ok(());
        }
        if call.forged {
            return Ok(());
        }
        self.unpend(call.file, call.owner, call.bytes, mode, reclaim);
        if let Some(own) = self.owns.get_mut(&(call.file, call.owner)) {
            for wait in own.waits.iter_mut().filter(|wait| wait.bytes == call.bytes) {
                wait.doubtful = true;
            }
        }
        if !reclaim {
            self.haunt(self.ghost(call, mode, state), call.first, call.sent, false);
        }
        Ok(())
    }

    fn answered_elsewhere(&mut self, call: &Call, answer: Answer) -> Verdict {
        self.summary.refused += 1;
        if matches!(answer, Answer::DeniedNolocks | Answer::Other(_)) {
            return Ok(());
        }
        let what =
            format!("{} was answered {answer:?}, but that address does not serve the file", self.say(call));
        self.fail(Invariant::Binding, what)
    }

    fn ghost(&self, call: &Call, mode: Mode, state: u32) -> Ghost {
        let until = call.last.saturating_add(self.settings.late);
        let block = call.lock().is_some_and(|(_, _, block, _)| block);
        Ghost { owner: call.owner, file: call.file, bytes: call.bytes, mode, block, state, until }
    }

    fn blocked(&mut self, call: &Call, mode: Mode, state: u32) {
        let now = self.now;
        let last_copy = call.last.saturating_add(self.settings.late);
        let own = self.owns.entry((call.file, call.owner)).or_default();
        let (taken, refused) = own.op_mut(call.id).map_or((false, false), |op| (op.taken, op.refused));
        let known = own.waits.iter_mut().find(|wait| wait.bytes == call.bytes && wait.mode == mode);
        if let Some(wait) = known {
            wait.last_copy = wait.last_copy.max(last_copy);
        } else if !taken {
            let (first, blocked) = (call.first, now);
            let doubtful = refused || own.may_be_ended(call.bytes, first);
            let wait = Wait { bytes: call.bytes, mode, first, blocked, last_copy, state, doubtful };
            own.waits.push(wait);
            if own.waits.len() == 1 {
                self.files[call.file as usize].waiting.push(call.owner);
            }
            // What was under way now waits, and is counted on.
            return;
        }
        self.unpend(call.file, call.owner, call.bytes, mode, false);
        if taken {
            // Usually it was blocked before the callback. But if a copy of the callback was refused, and the lock taken back, it waits again.
            if self.settings.copies {
                self.settle(self.ghost(call, mode, state));
            }
            self.haunt(self.ghost(call, mode, state), call.first, call.sent, self.settings.blocked_anew);
        }
    }

    /// An UNLOCK was answered: what was there when it was first sent is gone, and so are requests that waited for it.
    fn unlocked(&mut self, call: &Call) {
        let now = self.now;
        let waits = self.waits_within(call);
        for (_, segment) in self.files[call.file as usize].map.within(call.bytes) {
            if let Some(hold) = segment.hold_mut(call.owner) {
                end_older(hold, call.first, now.seq);
            }
        }
        for wait in waits {
            // What of it the UNLOCK did not name may have been granted before.
            self.settle_around(call, &wait);
            self.drop_wait(call.file, call.owner, wait);
        }
        let until = now.at.saturating_add(self.settings.late);
        if let Some(own) = self.owns.get_mut(&(call.file, call.owner)) {
            own.limit_stale(call.bytes, until);
        }
    }

    /// Requests that waited at the server before the UNLOCK was sent, and overlap it.
    fn waits_within(&self, call: &Call) -> Vec<Wait> {
        let Some(own) = self.owns.get(&(call.file, call.owner)) else { return Vec::new() };
        let before = |wait: &&Wait| overlap(wait.bytes, call.bytes) && wait.blocked.seq < call.first.seq;
        own.waits.iter().filter(before).copied().collect()
    }

    fn settle_around(&mut self, call: &Call, wait: &Wait) {
        let mut parts = Vec::new();
        if wait.bytes.start < call.bytes.start {
            parts.push(Bytes { start: wait.bytes.start, end: call.bytes.start - 1 });
        }
        if wait.bytes.end > call.bytes.end {
            parts.push(Bytes { start: call.bytes.end + 1, end: wait.bytes.end });
        }
        for bytes in parts {
            let (owner, file, mode, state) = (call.owner, call.file, wait.mode, wait.state);
            self.settle(Ghost { owner, file, bytes, mode, block: false, state, until: self.now.at });
        }
    }

    /// A CANCEL was answered: the request waits no longer. What an answer gave, or a callback that the client took, may be held.
    fn cancelled(&mut self, call: &Call, mode: Mode) {
        let Some(own) = self.owns.get(&(call.file, call.owner)) else { return };
        let wait = own.wait(call.bytes, mode).filter(|wait| wait.blocked.seq < call.first.seq).copied();
        if let Some(wait) = wait {
            self.drop_wait(call.file, call.owner, wait);
        }
        let until = self.now.at.saturating_add(self.settings.late);
        if let Some(own) = self.owns.get_mut(&(call.file, call.owner)) {
            own.limit_stale(call.bytes, until);
        }
    }

    pub(crate) fn abandoned(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id).copied() else { return };
        if call.stage == Stage::Open {
            self.give_up(&call);
        }
    }

    /// Nobody waits for its answer any more; it may take effect until its last copy is gone.
    pub(crate) fn give_up(&mut self, call: &Call) {
        let loose = call.last.saturating_add(self.settings.late);
        if let Some((mode, reclaim, block, state)) = call.lock() {
            let mut ghost = self.ghost(call, mode, state);
            let arrived = self.has_arrived(call);
            if arrived {
                // It may still be at work there, or wait. But an UNLOCK that is sent from here on comes after it.
                ghost.until = self.now.at;
                // As one that waits: others may be granted what excludes it before it takes effect.
                ghost.block = true;
            }
            if call.elsewhere {
                // It gives nothing.
            } else if reclaim {
                self.settle_reclaim(call, ghost);
            } else {
                self.settle(ghost);
                if arrived {
                    self.keep_at_work(ghost, loose);
                }
            }
            if !call.elsewhere {
                self.unpend(call.file, call.owner, call.bytes, mode, reclaim);
            }
            if block && let Some(own) = self.owns.get_mut(&(call.file, call.owner)) {
                own.expect_stale(call.bytes, mode);
            }
        }
        if let Some(call) = self.calls.get_mut(&call.id) {
            call.stage = Stage::Abandoned;
        }
        self.close(call, End::Loose(loose));
    }

    /// A copy of a call that is over may be carried out anew until then.
    pub(crate) fn may_come_again(&mut self, call: &Call, until: Micros) {
        let Some(kind) = call.kind().filter(|_| until > self.now.at) else { return };
        let own = self.owns.entry((call.file, call.owner)).or_default();
        match kind {
            Kind::Lock { mode, .. } => {
                let state = call.lock().map_or(0, |(_, _, _, state)| state);
                return self.settle(self.ghost(call, mode, state));
            }
            Kind::Unlock => {
                own.waits.iter_mut().filter(|w| overlap(w.bytes, call.bytes)).for_each(|w| w.doubtful = true);
            }
            Kind::Cancel { mode } => {
                let same = |w: &&mut Wait| w.bytes == call.bytes && w.mode == mode;
                own.waits.iter_mut().filter(same).for_each(|w| w.doubtful = true);
            }
        }
        let (id, bytes, first, end) = (call.id, call.bytes, call.first, End::Loose(until));
        own.ops.retain(|op| op.call != id);
        own.ops.push(Op { call: id, kind, bytes, first, end, taken: false, refused: false });
        for (_, segment) in self.files[call.file as usize].map.within(call.bytes) {
            if let Some(hold) = segment.hold_mut(call.owner) {
                hold.must = None;
            }
        }
    }

    fn keep_at_work(&mut self, ghost: Ghost, until: Micros) {
        for (_, segment) in self.files[ghost.file as usize].map.within(ghost.bytes) {
            if let Some(hold) = segment.hold_mut(ghost.owner) {
                let may = &mut hold.may[ghost.mode as usize];
                may.at_work = may.at_work.max(until);
            }
        }
    }

    /// All its transmissions have reached whoever served the address all the time, or are lost.
    fn has_arrived(&self, call: &Call) -> bool {
        self.settings.transit.is_some_and(|transit| call.last.saturating_add(transit) < self.now.at)
            && !self.world.managers[call.lm as usize].moved_since(call.first.seq)
            && self.world.nodes.all_awake_since(call.first.at)
    }

    /// A reclaim gives nothing outside of a full window, but may have kept from expiring what the owner may hold.
    fn settle_reclaim(&mut self, call: &Call, ghost: Ghost) {
        let last = Moment { seq: self.now.seq, at: ghost.until };
        let full = self.full_since(call.lm, call.first.at);
        for (_, segment) in self.files[call.file as usize].map.within(call.bytes) {
            if let Some(hold) = segment.hold_mut(call.owner) {
                for mode in Mode::ALL {
                    let may = hold.may[mode as usize].until == crate::map::STILL;
                    if may || (full && mode == ghost.mode) {
                        let state = if full { 0 } else { hold.state };
                        crate::checker::settle(hold, mode, last, state);
                    }
                }
            }
        }
    }

    /// The call is over.
    fn close(&mut self, call: &Call, end: End) {
        let now = self.now;
        let open = &mut self.world.clients[call.client as usize].open;
        if let Some(at) = open.iter().position(|id| *id == call.id) {
            open.swap_remove(at);
        }
        if let Some(op) = self.owns.get_mut(&(call.file, call.owner)).and_then(|own| own.op_mut(call.id)) {
            op.end = end;
        }
        if call.reads() {
            self.files[call.file as usize].open.remove(&call.first.seq);
        }
        if call.file != u32::MAX {
            self.tidy(call.file, call.owner, call.bytes);
        }
        self.over.push_back((now.at, call.id));
        while let Some((at, id)) =
            self.over.front().copied().filter(|(at, _)| at + self.settings.remember < now.at)
        {
            debug_assert!(at <= now.at);
            self.calls.remove(&id);
            self.over.pop_front();
        }
    }

    pub(crate) fn full_since(&self, lm: u32, from: Micros) -> bool {
        self.world.managers[lm as usize].full_since(from, &self.world.nodes, self.settings.slack)
    }

    /// A further answer to the same call.
    fn got_again(&mut self, call: &Call, earlier: Answer, at: Micros, answer: Answer) -> Verdict {
        let Some((mode, reclaim, _, state)) = call.lock().filter(|_| !call.forged && earlier != answer)
        else {
            return Ok(());
        };
        // BLOCKED may become anything, and the two answers may have passed each other. Whether the client takes such a GRANTED is
        // not known: from here on the lock may be held, and no longer surely waits.
        if earlier == Answer::Blocked || answer == Answer::Blocked {
            let own = self.owns.get(&(call.file, call.owner));
            let wait = own.and_then(|own| own.wait(call.bytes, mode)).copied();
            if let Some(wait) = wait.filter(|_| answer == Answer::Granted) {
                self.settle(self.ghost(call, mode, state));
                self.drop_wait(call.file, call.owner, wait);
            }
            return Ok(());
        }
        // What was refused is not recorded: another node may decide anew.
        if self.world.managers[call.lm as usize].moved_since(call.first.seq) {
            if answer == Answer::Granted && !reclaim {
                self.settle(self.ghost(call, mode, state));
            }
            return Ok(());
        }
        let what = format!(
            "{} was answered {earlier:?} at {} and a copy of it {answer:?}",
            self.say(call),
            seconds(at)
        );
        self.fail(Invariant::I9, what)
    }
}

/// What closed calls gave surely before `from` is gone.
pub(crate) fn end_older(hold: &mut crate::map::Hold, from: Moment, now: u64) {
    for mode in Mode::ALL {
        if hold.may[mode as usize].older(from) {
            hold.end(mode, now);
        }
    }
}
