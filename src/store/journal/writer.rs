//! Writes one lock manager's segments at one epoch. Blocking and single-threaded; the threads are `journals`'s.
//!
//! Must never report a record as durable before the disk and then the epoch said so, never repeat a failed sync, and never write
//! again after a failure whose outcome is unknown.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::codec::{self, PAYLOAD_VERSION};
use super::epoch;
use super::error::JournalError;
use super::files::{Files, Handle};
use super::frame::{self, HEADER, Header, Kind};
use super::names::{MAX_NUMBER, Name};
use super::spare::{Space, adopt, fill_now, remove_stale};
use super::{Options, snapshot};
use crate::store::lock_store::LoadReport;
use crate::store::record::{Durability, Entry, Record};

/// How often the epoch is read again when descriptors or memory are short: for a second, in which others may close some.
const EPOCH_TRIES: u32 = 50;
/// The pause between.
const EPOCH_PAUSE: Duration = Duration::from_millis(20);

/// Who writes, and where.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) files: Arc<dyn Files>,
    pub(super) dir: PathBuf,
    pub(super) name: String,
    pub(super) epoch: u64,
}

/// The open end of a journal.
pub(super) struct Writer {
    place: Place,
    options: Options,
    space: Arc<Space>,
    handle: Box<dyn Handle>,
    path: PathBuf,
    number: u64,
    size: u64,
    at: u64,
    next: u64,
    durable: u64,
    /// Something is written and not synced.
    dirty: bool,
    /// Entries waiting for `commit`.
    buf: Vec<u8>,
    staged: u64,
    staged_sync: bool,
    failed: Option<String>,
    superseded: Option<u64>,
    /// A new segment was begun since somebody asked.
    rolled: bool,
    /// The first segment that the last snapshot does not replace.
    kept_from: u64,
    /// Given to compactions, see [`snapshot::Job`].
    stop: Arc<AtomicBool>,
    /// Names that are looked up after each batch: of our epoch, and of the one that would supersede it.
    own: PathBuf,
    above: PathBuf,
}

/// What was staged at some moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    bytes: usize,
    staged: u64,
    sync: bool,
}

impl Writer {
    /// Makes the first segment of the epoch, on top of what was loaded, and writes *opened*.
    pub(super) fn open(
        place: Place,
        options: &Options,
        loaded: &LoadReport,
        time: u64,
    ) -> Result<Self, JournalError> {
        epoch::check(place.files.as_ref(), &place.dir, place.epoch)?;
        let first = place.dir.join(Name::Segment(place.epoch, 1).to_string());
        let there = place.files.exists(&first).map_err(JournalError::io("cannot look for", &first))?;
        if there && !mutant!(EpochNotExclusive) {
            return Err(JournalError::Failed(format!("epoch {} was written in before", place.epoch)));
        }
        if loaded.last >= MAX_NUMBER {
            let reason =
                "its last record has a number that nobody can have counted to: cut it there (journal repair)";
            return Err(JournalError::Unsteady { dir: place.dir, reason });
        }
        remove_stale(&place)?;
        let header = Header {
            kind: Kind::Segment,
            epoch: place.epoch,
            number: 1,
            first: loaded.last + 1,
            previous: loaded.built_on,
            size: options.first_segment,
            name: crc32c::crc32c(place.name.as_bytes()),
        };
        let spare = fill_now(&place, options.first_segment)?;
        let (handle, path) = adopt(&place, &spare, &header)?;
        let space = Arc::new(Space::default());
        space.grow(options.first_segment, options.segment);
        let mut writer = Self {
            options: options.clone(),
            space,
            handle,
            path,
            number: 1,
            size: options.first_segment,
            at: HEADER as u64,
            next: loaded.last + 1,
            durable: loaded.last,
            dirty: false,
            buf: Vec::new(),
            staged: 0,
            staged_sync: false,
            failed: None,
            superseded: None,
            rolled: true,
            kept_from: 1,
            stop: Arc::default(),
            own: epoch::path(&place.dir, place.epoch),
            above: epoch::path(&place.dir, place.epoch + 1),
            place,
        };
        let opened = Record::Opened {
            lock_manager: writer.place.name.as_str().into(),
            node: options.node.as_str().into(),
            time,
            durability: options.durability,
            complete: loaded.complete,
        };
        writer.append(&[opened.into()], true)?;
        Ok(writer)
    }

    /// Sequence of the last record written.
    pub(super) fn last(&self) -> u64 {
        self.next - 1
    }

    /// Whether something is written that was not synced.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Whether a new segment was begun since this was last asked.
    pub(super) fn take_rolled(&mut self) -> bool {
        std::mem::take(&mut self.rolled)
    }

    /// Segments that are full and not yet replaced by a snapshot.
    pub(super) fn full_segments(&self) -> u64 {
        self.number - self.kept_from
    }

    /// A compaction was carried out.
    pub(super) fn compacted(&mut self, job: &snapshot::Job) {
        self.kept_from = job.open;
    }

    /// What it shares with whoever makes spares.
    pub(super) fn space(&self) -> Arc<Space> {
        self.space.clone()
    }

    /// Set it to have compactions given up.
    pub(super) fn stop(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Where it writes.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Stages and commits.
    pub(super) fn append(&mut self, entries: &[Entry], essential: bool) -> Result<u64, JournalError> {
        self.stage(entries)?;
        self.commit(essential)
    }

    /// Adds entries to the next commit: all of them, or after an error none.
    pub(super) fn stage(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        let mark = self.mark();
        for entry in entries {
            if let Err(e) = self.stage_one(entry) {
                self.unstage(mark);
                return Err(e.into());
            }
        }
        let bytes = self.buf.len() - mark.bytes;
        if bytes > self.most() {
            self.unstage(mark);
            return Err(JournalError::TooLarge(bytes));
        }
        Ok(())
    }

    /// What is staged now.
    pub(super) fn mark(&self) -> Mark {
        Mark { bytes: self.buf.len(), staged: self.staged, sync: self.staged_sync }
    }

    /// Forgets what was staged since `mark`.
    pub(super) fn unstage(&mut self, mark: Mark) {
        self.buf.truncate(mark.bytes);
        (self.staged, self.staged_sync) = (mark.staged, mark.sync);
    }

    /// Whether what is staged fits into one write of at most `limit` bytes.
    pub(super) fn fits(&self, limit: usize) -> bool {
        self.buf.len() <= self.most().min(limit)
    }

    fn most(&self) -> usize {
        usize::try_from(self.options.segment).unwrap_or(usize::MAX) - HEADER
    }

    fn stage_one(&mut self, entry: &Entry) -> Result<(), codec::TooLong> {
        let sequence = self.next + self.staged;
        let start = frame::start(&mut self.buf);
        let kind = codec::encode(entry, &mut self.buf).inspect_err(|_| self.buf.truncate(start))?;
        let lag = u32::try_from(sequence - self.durable).unwrap_or(u32::MAX);
        frame::finish(&mut self.buf, start, self.place.epoch, sequence, lag, kind, PAYLOAD_VERSION);
        self.staged += 1;
        self.staged_sync |= match self.options.durability {
            Durability::Sync => !entry.record.may_be_late(),
            Durability::Relaxed | Durability::None => entry.record.always_sync(),
        };
        Ok(())
    }

    /// Writes what is staged, makes it durable as the setting asks, then reads the epoch. Returns the sequence of the last record. After
    /// NoSpace nothing of it was written; after Superseded it is void; after any other error the outcome is unknown and
    /// every later commit fails.
    pub(super) fn commit(&mut self, essential: bool) -> Result<u64, JournalError> {
        let result = self.try_commit(essential).map_err(|e| self.or_superseded(e));
        self.unstage(Mark { bytes: 0, staged: 0, sync: false });
        match &result {
            Ok(_) | Err(JournalError::NoSpace(_) | JournalError::Failed(_)) => {}
            Err(JournalError::Superseded { newest, .. }) => self.superseded = Some(*newest),
            Err(e) => self.failed = Some(e.to_string()),
        }
        result
    }

    fn try_commit(&mut self, essential: bool) -> Result<u64, JournalError> {
        if let Some(newest) = self.superseded {
            return Err(JournalError::Superseded { mine: self.place.epoch, newest });
        }
        if let Some(why) = &self.failed {
            return Err(JournalError::Failed(why.clone()));
        }
        let unread = match self.staged {
            0 => mutant!(EmptyBatchUnchecked),
            _ => mutant!(EpochReadFirst),
        };
        if mutant!(EpochReadFirst) {
            self.read_epoch()?;
        }
        if self.staged > 0 {
            if !essential && self.space.is_low() {
                return Err(JournalError::NoSpace(self.path.clone()));
            }
            if self.at + self.buf.len() as u64 > self.size {
                self.roll()?;
            }
            self.write()?;
            if self.staged_sync && !mutant!(SyncSkipped) {
                self.sync()?;
            }
        }
        if !unread {
            self.read_epoch()?;
        }
        Ok(self.last())
    }

    /// Fails unless the epoch is still ours. What is written is durable by now: reading may be tried again.
    fn read_epoch(&self) -> Result<(), JournalError> {
        let mut tries = 0;
        loop {
            let Place { files, dir, epoch, .. } = &self.place;
            match epoch::check_next(files.as_ref(), *epoch, (&self.own, &self.above), dir) {
                // "No space" would promise that nothing was written.
                Err(JournalError::NoSpace(path)) => {
                    let source = std::io::ErrorKind::StorageFull.into();
                    return Err(JournalError::Io { what: "cannot read the epoch in", path, source });
                }
                Err(e) if e.is_passing() && tries < EPOCH_TRIES => {
                    tries += 1;
                    std::thread::sleep(EPOCH_PAUSE);
                }
                other => return other,
            }
        }
    }

    /// A newcomer removes our spare: what fails then fails for another reason than it seems.
    fn or_superseded(&self, e: JournalError) -> JournalError {
        let told =
            matches!(e, JournalError::NoSpace(_) | JournalError::Failed(_) | JournalError::Superseded { .. });
        if told {
            return e;
        }
        match epoch::check(self.place.files.as_ref(), &self.place.dir, self.place.epoch) {
            Err(superseded @ JournalError::Superseded { .. }) => superseded,
            _ => e,
        }
    }

    fn write(&mut self) -> Result<(), JournalError> {
        let written = self.handle.write_at(&self.buf, self.at);
        match written.map_err(JournalError::io("cannot write", &self.path)) {
            Ok(()) => {
                self.at += self.buf.len() as u64;
                self.next += self.staged;
                self.dirty = true;
                Ok(())
            }
            Err(JournalError::NoSpace(path)) => {
                self.take_back()?;
                self.space.set_low(true);
                Err(JournalError::NoSpace(path))
            }
            Err(e) => Err(e),
        }
    }

    /// Zeros where a part of a batch may have been written, durably: only then nothing of it is in the record. (What
    /// ends up beyond would otherwise follow the next batch as if it belonged there.)
    fn take_back(&mut self) -> Result<(), JournalError> {
        let zeros = vec![0; self.buf.len()];
        let unknown = |source| JournalError::Io { what: "cannot take back", path: self.path.clone(), source };
        self.handle.write_at(&zeros, self.at).map_err(unknown)?;
        self.handle.sync().map_err(unknown)?;
        self.durable = self.next - 1;
        self.dirty = false;
        Ok(())
    }

    /// Makes everything written durable.
    pub(super) fn sync(&mut self) -> Result<(), JournalError> {
        let synced = self.handle.sync();
        let synced = if mutant!(SyncTriedAgain) { synced.or_else(|_| self.handle.sync()) } else { synced };
        if let Err(source) = synced {
            // Also ENOSPC: after a failed sync nothing is known.
            let e = JournalError::Io { what: "cannot sync", path: self.path.clone(), source };
            self.failed = Some(e.to_string());
            return Err(e);
        }
        self.durable = self.next - 1;
        self.dirty = false;
        Ok(())
    }

    /// Ends this segment and begins the next one.
    fn roll(&mut self) -> Result<(), JournalError> {
        if self.dirty {
            self.sync()?;
        }
        let space = self.space.clone();
        let _making = space.making_at_once();
        let spare = self.spare().inspect_err(|e| {
            if matches!(e, JournalError::NoSpace(_)) {
                self.space.set_low(true);
            }
        })?;
        let size = self.size_of(&spare)?;
        let header = Header {
            kind: Kind::Segment,
            epoch: self.place.epoch,
            number: self.number + 1,
            first: self.next,
            previous: self.place.epoch,
            size,
            name: crc32c::crc32c(self.place.name.as_bytes()),
        };
        (self.handle, self.path) = adopt(&self.place, &spare, &header)?;
        self.number += 1;
        self.rolled = true;
        self.size = size;
        self.at = HEADER as u64;
        self.space.grow(size, self.options.segment);
        Ok(())
    }

    /// A spare that takes what is staged: the one that is there, or one that is made now.
    fn spare(&self) -> Result<PathBuf, JournalError> {
        let files = self.place.files.as_ref();
        let spare = self.place.dir.join(Name::Spare(self.place.epoch).to_string());
        let needed = (HEADER + self.buf.len()) as u64;
        if files.exists(&spare).map_err(JournalError::io("cannot look for", &spare))? {
            if self.size_of(&spare)? >= needed {
                return Ok(spare);
            }
            super::remove(files, &spare)?;
        }
        fill_now(
            &self.place,
            if needed > self.space.size() { self.options.segment } else { self.space.size() },
        )
    }

    fn size_of(&self, path: &Path) -> Result<u64, JournalError> {
        let handle = self.place.files.open(path).map_err(JournalError::io("cannot open", path))?;
        handle.size().map_err(JournalError::io("cannot look at", path))
    }

    /// What earlier owners wrote, up to this sequence, as something that can be compacted.
    pub(super) fn job_before(&self, until: u64) -> snapshot::Job {
        let Place { dir, name, epoch, .. } = self.place.clone();
        snapshot::Job { dir, name, epoch, until, open: 1, stop: self.stop.clone() }
    }

    /// Ends this segment, if anything is in it, and says what can be compacted now.
    pub(super) fn compaction(&mut self) -> Result<snapshot::Job, JournalError> {
        if let Some(why) = &self.failed {
            return Err(JournalError::Failed(why.clone()));
        }
        if self.at > HEADER as u64 {
            let rolled = self.roll().map_err(|e| self.or_superseded(e));
            match &rolled {
                Ok(()) | Err(JournalError::NoSpace(_)) => {}
                Err(JournalError::Superseded { newest, .. }) => self.superseded = Some(*newest),
                Err(e) => self.failed = Some(e.to_string()),
            }
            rolled?;
        }
        Ok(snapshot::Job {
            dir: self.place.dir.clone(),
            name: self.place.name.clone(),
            epoch: self.place.epoch,
            until: self.next - 1,
            open: self.number,
            stop: self.stop.clone(),
        })
    }
}
