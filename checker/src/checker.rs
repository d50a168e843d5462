//! The checker: takes events one by one, keeps what can still matter, and stops at the first thing that a correct service cannot
//! bring about. This file has its state and hands each event to where it is understood: requests and answers to `calls`, what was
//! granted to `grants`, what was not to `refusals`, commands and crashes to `life`, lists to `lists`.
//!
//! Must never look at anything but events, nor keep more than what locks, calls under way and copies under way need.

use std::collections::{BTreeSet, VecDeque};

use crate::hash::Table;
use crate::history::{Bytes, CallId, Event, FileId, History, Micros};
use crate::map::{ByteMap, Mode, Moment};
use crate::own::{Own, Wait};
use crate::takeups::Ghost;
use crate::verdict::{Invariant, Settings, Summary, Violation};
use crate::world::World;

/// What a step comes to.
pub(crate) type Verdict = Result<(), Violation>;

/// One file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) id: FileId,
    pub(crate) map: ByteMap,
    /// The first events of LOCKs and TESTs under way.
    pub(crate) open: BTreeSet<u64>,
    /// Owners with requests that wait.
    pub(crate) waiting: Vec<u32>,
}

/// Watches a history.
#[derive(Debug)]
pub struct Checker {
    pub(crate) settings: Settings,
    pub(crate) now: Moment,
    pub(crate) world: World,
    pub(crate) files: Vec<File>,
    file_ids: Table<FileId, u32>,
    pub(crate) owns: Table<(u32, u32), Own>,
    pub(crate) calls: Table<CallId, crate::calls::Call>,
    /// Calls that are over, in the order in which they are to be forgotten.
    pub(crate) over: VecDeque<(Micros, CallId)>,
    pub(crate) told: Table<u64, crate::life::Told>,
    pub(crate) listed: Option<crate::lists::Rows>,
    pub(crate) stored: Option<crate::lists::Rows>,
    pub(crate) nolocks: bool,
    /// Callbacks that were refused: what waited for them is taken back in a moment.
    pub(crate) refused: VecDeque<crate::grants::Refused>,
    /// The last state of a lock manager that a client was told since it booted.
    pub(crate) heard: Table<(u32, u32), u32>,
    /// Clients that are to be told of a take-over.
    pub(crate) untold: VecDeque<crate::life::Untold>,
    pub(crate) summary: Summary,
}

/// Checks a whole history.
///
/// # Errors
/// The first violation.
pub fn check(history: &History, settings: &Settings) -> Result<Summary, Violation> {
    let mut checker = Checker::new(settings.clone());
    for (at, event) in &history.events {
        checker.observe(*at, event)?;
    }
    Ok(checker.finish())
}

impl Checker {
    /// A checker that has seen nothing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            nolocks: settings.nolocks,
            now: Moment::default(),
            world: World::of(settings.liars.clone()),
            settings,
            files: Vec::new(),
            file_ids: Table::default(),
            owns: Table::default(),
            calls: Table::default(),
            over: VecDeque::new(),
            told: Table::default(),
            listed: None,
            stored: None,
            refused: VecDeque::new(),
            heard: Table::default(),
            untold: VecDeque::new(),
            summary: Summary::default(),
        }
    }

    /// From here on a new LOCK may be answered with DENIED_NOLOCKS, or no longer: the disk is full, or the export bound elsewhere.
    /// A reclaim and a LOCK of what the owner holds already must be granted all the same.
    pub fn excuse_nolocks(&mut self, excused: bool) {
        self.nolocks = excused;
    }

    /// The next event. Times never go back.
    ///
    /// # Errors
    /// What a correct service cannot have brought about. The checker is of no use after that.
    pub fn observe(&mut self, at: Micros, event: &Event) -> Result<(), Violation> {
        self.now = Moment { seq: self.now.seq + 1, at: at.max(self.now.at) };
        self.summary.events += 1;
        self.world.advance(self.settings.hold, self.now);
        self.take_back_refused();
        self.look_for_untold()?;
        match event {
            Event::Sent { client, call, request } => return self.sent(*client, *call, *request),
            Event::Got { client, call, answer } => return self.got(*client, *call, *answer),
            Event::Abandoned { call, .. } => self.abandoned(*call),
            Event::Granted { client, lock, accepted } => return self.called_back(*client, *lock, *accepted),
            Event::Noticed { client, lm, state, named } => {
                return self.noticed(*client, *lm, *state, *named);
            }
            Event::Boot { client, .. } => self.stopped(*client, true),
            Event::Dead { client } => self.stopped(*client, false),
            Event::Listed { lm, rows, .. } => return self.listed(*lm, rows),
            Event::Counted { lm, listed, counted, .. } if listed != counted => {
                let what = format!(
                    "{lm} has {listed} locks in the list and {counted} in the status of the same node"
                );
                return self.fail(Invariant::I14, what);
            }
            Event::Counted { .. } => {}
            Event::Stored { lm, rows } => return self.stored(*lm, rows),
            Event::Rest => return self.rest(),
            Event::Calm => {}
            other => self.service(other),
        }
        Ok(())
    }

    /// The history is over.
    #[must_use]
    pub fn finish(self) -> Summary {
        self.summary
    }

    pub(crate) fn file(&mut self, id: FileId) -> u32 {
        let files = &mut self.files;
        *self.file_ids.entry(id).or_insert_with(|| {
            files.push(File { id, map: ByteMap::default(), open: BTreeSet::new(), waiting: Vec::new() });
            files.len() as u32 - 1
        })
    }

    pub(crate) fn known_file(&self, id: FileId) -> Option<u32> {
        self.file_ids.get(&id).copied()
    }

    pub(crate) fn fail(&self, invariant: Invariant, what: String) -> Verdict {
        Err(Violation { invariant, at: self.now.at, what })
    }

    /// A LOCK is no longer under way.
    pub(crate) fn unpend(&mut self, file: u32, owner: u32, bytes: Bytes, mode: Mode, reclaim: bool) {
        let now = self.now.seq;
        // A reclaim that was not granted has given nothing, unless the record may have been incomplete.
        let touch = !reclaim || self.world.manager_of(owner).had_any_doubt();
        for (_, segment) in self.files[file as usize].map.within(bytes) {
            if let Some(hold) = segment.hold_mut(owner) {
                let counts = if reclaim { &mut hold.reclaiming } else { &mut hold.pending };
                counts[mode as usize] = counts[mode as usize].saturating_sub(1);
                if touch {
                    hold.touch(mode, now);
                }
            }
        }
    }

    /// A LOCK may have been granted, or may yet be until `last`, and nobody will ever hear whether.
    pub(crate) fn settle(&mut self, ghost: Ghost) {
        let last = Moment { seq: self.now.seq, at: ghost.until };
        for (_, segment) in self.files[ghost.file as usize].map.all_within(ghost.bytes) {
            segment.contest(ghost.owner, ghost.mode);
            let hold = segment.hold_or_new(ghost.owner);
            settle(hold, ghost.mode, last, ghost.state);
            hold.may[ghost.mode as usize].queued |= ghost.block;
            // It would replace what the owner holds.
            if ghost.mode == Mode::Shared && hold.must == Some(Mode::Exclusive) {
                hold.must = Some(Mode::Shared);
            }
        }
    }

    /// A copy of a LOCK that was not granted, or waits no longer, may reach a node that never heard of it: what was refused is not
    /// recorded, and waiting requests need not be durable. Nothing happens to it while the same node serves.
    pub(crate) fn haunt(&mut self, ghost: Ghost, first: Moment, sent: u32, anew: bool) {
        let now = self.now;
        if !(self.settings.copies || sent > 1) {
            return;
        }
        let lm = self.world.info(ghost.owner).lm as usize;
        if anew || self.world.managers[lm].moved_since(first.seq) {
            self.settle(ghost);
        }
        if ghost.until <= now.at {
            return;
        }
        // It may move again while the copy lives.
        let ghosts = &mut self.world.managers[lm].ghosts;
        while ghosts.front().is_some_and(|ghost| ghost.until <= now.at) {
            ghosts.pop_front();
        }
        ghosts.push_back(ghost);
    }

    pub(crate) fn tidy(&mut self, file: u32, owner: u32, bytes: Bytes) {
        let now = self.now;
        if let Some(own) = self.owns.get_mut(&(file, owner)) {
            own.tidy(now);
            if own.is_empty() {
                self.owns.remove(&(file, owner));
            }
        }
        // Who waits may be granted at any time later: what was in its way is asked for since it began.
        let owns = &self.owns;
        let number = file;
        let file = &mut self.files[file as usize];
        let waiting = file.waiting.iter().filter_map(|owner| owns.get(&(number, *owner)));
        let waits = waiting.flat_map(|own| &own.waits).map(|wait| wait.first.seq);
        let oldest = file.open.first().copied().into_iter().chain(waits).min().unwrap_or(now.seq + 1);
        file.map.tidy(bytes, oldest);
    }

    /// A request waits no longer.
    pub(crate) fn drop_wait(&mut self, file: u32, owner: u32, wait: Wait) {
        let Some(own) = self.owns.get_mut(&(file, owner)) else { return };
        own.waits.retain(|w| !(w.bytes == wait.bytes && w.mode == wait.mode));
        own.expect_stale(wait.bytes, wait.mode);
        if own.waits.is_empty() {
            self.files[file as usize].waiting.retain(|waiting| *waiting != owner);
        }
        self.unpend(file, owner, wait.bytes, wait.mode, false);
        if wait.mode == Mode::Shared {
            self.keep_downgraded(file, owner, wait);
        }
        let ghost = Ghost {
            owner,
            file,
            bytes: wait.bytes,
            mode: wait.mode,
            block: true,
            state: wait.state,
            until: wait.last_copy,
        };
        self.haunt(ghost, wait.first, 2, self.settings.blocked_anew);
    }
}

impl Checker {
    /// A shared LOCK of what the owner holds exclusively was cancelled, but may have been granted before: what is left may be shared.
    fn keep_downgraded(&mut self, file: u32, owner: u32, wait: Wait) {
        let now = self.now;
        for (_, segment) in self.files[file as usize].map.within(wait.bytes) {
            if let Some(hold) = segment.hold_mut(owner)
                && hold.may[Mode::Exclusive as usize].until >= wait.first.seq
            {
                let state = hold.state;
                settle(hold, Mode::Shared, now, state);
            }
        }
    }
}

/// A hold may have this mode from now on, given by something that took effect before `last`.
pub(crate) fn settle(hold: &mut crate::map::Hold, mode: Mode, last: Moment, state: u32) {
    let fresh = hold.may.iter().all(|may| may.until != crate::map::STILL);
    let may = &mut hold.may[mode as usize];
    if may.until == crate::map::STILL {
        may.last = Moment { seq: may.last.seq.max(last.seq), at: may.last.at.max(last.at) };
    } else {
        *may = crate::map::May { until: crate::map::STILL, last, queued: false, at_work: 0 };
    }
    if fresh {
        hold.state = state;
    } else if hold.state != state {
        hold.state = 0;
    }
}
