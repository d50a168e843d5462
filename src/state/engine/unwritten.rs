//! What a record still has is in the way of requests through other lock managers: freed bytes until that is written, expired locks until the
//! end of their window is.
//!
//! Must never let somebody pass who came after one that waits for nothing but a record.

use std::net::IpAddr;

use crate::state::command::Effects;
use crate::state::table::Attrs;
use crate::state::types::{Condition, FileId, LmId, Mode, OwnerId, Prefixes, Range};
use crate::state::waiting::{How, Waiter};

use super::Engine;
use super::segments::Place;

impl Engine {
    /// Whether the record of a lock manager still has what was freed through it, or has expired, on files that others serve.
    pub fn is_unwritten(&self, lm: IpAddr) -> bool {
        let known = self.names.find_lm(&lm);
        known.is_some_and(|lm| self.unwritten.any_of(lm) || self.names.lm_by_id(lm).unswept.is_some())
    }

    /// Runs a change of locks that the record knows already, or learns in another way.
    pub(super) fn untold<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        let (told, was) = (self.journal.len(), std::mem::replace(&mut self.is_untold, true));
        let result = change(self);
        self.is_untold = was;
        self.journal.truncate(told);
        result
    }

    /// Notes what an owner gives up, if its record has it.
    pub(super) fn note_freed(&mut self, place: Place, range: Range, before: Attrs) {
        if !self.awaits_records() || self.is_untold || before.kept {
            return;
        }
        let lm = self.names.client(place.client).lm;
        if before.condition == Condition::Expired && self.names.lm_by_id(lm).unswept.is_none() {
            // The record says that it may go: at a load it gives way to anybody.
            return;
        }
        self.names.hold_file(place.file);
        self.unwritten.push(lm, place.file, range, before.mode, self.mark + 1);
        self.marked.insert(lm);
    }

    /// A window is ending: its locks expire one by one, and the record learns it at the end.
    pub(super) fn begin_sweep(&mut self, lm: LmId) {
        if !self.awaits_records() {
            return;
        }
        let entry = self.names.lm_mut(lm);
        if let Some(before) = entry.unswept.filter(|mark| *mark != u64::MAX) {
            entry.unswept_before = Some(before);
        }
        self.set_unswept(lm, Some(u64::MAX));
    }

    /// The entry that says so is made, or there is nothing to say.
    pub(super) fn end_sweep(&mut self, lm: LmId, told: bool) {
        if self.names.lm_by_id(lm).unswept.is_none() {
            return;
        }
        let before = self.names.lm_mut(lm).unswept_before.take();
        let mark = if told { Some(self.mark + 1) } else { before };
        self.set_unswept(lm, mark);
        if told {
            self.marked.insert(lm);
        } else if mark.is_none() {
            self.swept(lm);
        }
    }

    /// Whom the caller has to tell us of when the entries of this command are durable.
    pub(super) fn close_mark(&mut self, fx: &mut Effects) {
        if self.marked.is_empty() {
            return;
        }
        self.mark += 1;
        for lm in std::mem::take(&mut self.marked) {
            fx.marks.push((self.names.lm_by_id(lm).address, self.mark));
        }
    }

    /// A record has everything up to this mark.
    pub(super) fn written(&mut self, lm: IpAddr, mark: u64) {
        let Some(lm) = self.names.find_lm(&lm) else { return };
        let files = self.unwritten.written(lm, mark);
        // Who waits through the same lock manager was woken long ago.
        let is_woken = |file: &FileId| self.waiters.of_file(*file).all(|id| self.waiters.get(id).lm == lm);
        let (woken, files): (Vec<FileId>, Vec<FileId>) =
            files.into_iter().partition(|file| mutant!(DowngradeWakesNobody) && is_woken(file));
        woken.into_iter().for_each(|file| self.names.drop_file(file));
        self.wake_files(files);
        let entry = self.names.lm_mut(lm);
        entry.unswept_before = entry.unswept_before.filter(|before| *before > mark);
        if entry.unswept.is_some_and(|at| at <= mark) {
            self.set_unswept(lm, None);
            self.swept(lm);
        }
    }

    /// What is known of a record is out of date: it was read anew, or does not matter any more, but for the files to keep.
    pub(super) fn forget_unwritten(&mut self, lm: LmId, keep: &Prefixes) {
        let names = &self.names;
        let files = self.unwritten.forget(lm, |file| keep.include(names.file_key(file)));
        self.wake_files(files);
        if keep.is_empty() && self.names.lm_by_id(lm).unswept.is_some() {
            self.names.lm_mut(lm).unswept_before = None;
            self.set_unswept(lm, None);
            self.wake_everybody();
        }
    }

    /// The lock manager whose record stands in the way of a lock through `lm`.
    pub(in crate::state) fn unwritten_in_the_way(
        &self,
        lm: LmId,
        file: FileId,
        range: Range,
        mode: Mode,
        owner: Option<OwnerId>,
    ) -> Option<LmId> {
        if let Some(other) = self.unwritten.in_the_way(lm, file, range, mode) {
            return Some(other);
        }
        if self.unswept == 0 {
            return None;
        }
        let mut meeting = self.locks.meeting(file, range, mode, owner).map(|id| self.locks.get(id));
        meeting.find_map(|lock| {
            let other = self.names.client(lock.client).lm;
            let stays = lock.attrs.condition == Condition::Expired && other != lm;
            (stays && self.names.lm_by_id(other).unswept.is_some()).then_some(other)
        })
    }

    /// Whether somebody who came before waits for nothing but a record: whoever comes later must not pass.
    pub(in crate::state) fn is_promised(
        &self,
        file: FileId,
        range: Range,
        mode: Mode,
        owner: OwnerId,
        before: u64,
    ) -> bool {
        if !self.promises_on(file) {
            return false;
        }
        let earlier =
            self.waiters.of_file(file).map(|id| self.waiters.get(id)).take_while(|w| w.seq < before);
        earlier
            .filter(|w| w.owner != owner && w.range.overlaps(range) && w.mode.conflicts(mode))
            .any(|w| self.waits_for_a_record(w))
    }

    /// Whether somebody may wait for nothing but a record there.
    pub(super) fn promises_on(&self, file: FileId) -> bool {
        self.unwritten.any_on(file) || self.unswept > 0
    }

    fn waits_for_a_record(&self, w: &Waiter) -> bool {
        matches!(w.how, How::Callback(_))
            && self.names.lm_by_id(w.lm).is_loaded()
            && !self.in_full_grace(w.lm, w.file)
            && self.locks.conflicts(w.file, w.range, w.mode, Some(w.owner)).next().is_none()
            && self.unwritten_in_the_way(w.lm, w.file, w.range, w.mode, Some(w.owner)).is_some()
    }

    fn awaits_records(&self) -> bool {
        self.settings.journal && self.settings.await_records && !mutant!(OtherRecordsNotAwaited)
    }

    fn set_unswept(&mut self, lm: LmId, mark: Option<u64>) {
        let before = std::mem::replace(&mut self.names.lm_mut(lm).unswept, mark);
        self.unswept -= u32::from(before.is_some());
        self.unswept += u32::from(mark.is_some());
    }

    /// All waiters of these files: one that must not pass another waits for other bytes than those that were freed.
    fn wake_files(&mut self, files: Vec<FileId>) {
        for file in files {
            self.wake(file, Range::ALL);
            self.names.drop_file(file);
        }
    }

    /// The record says what has expired.
    fn swept(&mut self, lm: LmId) {
        self.emptied.insert(self.names.lm_by_id(lm).address);
        self.wake_everybody();
    }

    /// Also who waits through the same lock manager, as it may be behind somebody who did not.
    fn wake_everybody(&mut self) {
        let all: Vec<LmId> = self.names.lms_in_order().collect();
        all.into_iter().for_each(|lm| self.wake_all(lm));
    }
}
