//! Reading a journal: which files count, in which order, what a crash left and what is damaged (docs/journal.md, "Records and their
//! order", "Torn tail or corruption"). Reads in pieces: memory does not grow with the journal.
//!
//! Must never skip anything silently, and must never write.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::chain::{Base, Chain, Part};
use super::codec::{self, DecodeError, TYPE_END};
use super::error::{Finding, JournalError};
use super::files::{Files, Handle};
use super::frame::{self, FRAME, Frame, HEADER, Header, Kind, Look, MAX_FRAME};
use super::names::MAX_NUMBER;
use super::reader::Reader;
use crate::store::lock_store::{LoadReport, Origin, Torn};
use crate::store::record::{Durability, Record};
use crate::store::seen::{Seen, SeenRecord};

/// How a journal is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct How<'a> {
    /// The lock manager's name; `None`: whatever it is.
    pub(super) name: Option<&'a str>,
    /// Sync each file first, and read it from the disk: an owner builds upon this.
    pub(super) settle: bool,
    /// The epoch that the reader has raised; 0: none, it only looks.
    pub(super) mine: u64,
    /// Stop after this record, which must be there: what is behind it is still being written.
    pub(super) until: Option<u64>,
    /// Give up once this is set.
    pub(super) stop: Option<&'a AtomicBool>,
}

impl<'a> How<'a> {
    /// As whoever has raised the epoch to `mine` does.
    pub(super) fn of_owner(name: &'a str, mine: u64) -> Self {
        Self { name: Some(name), settle: true, mine, until: None, stop: None }
    }

    /// Fails once it is to be given up.
    pub(super) fn go_on(&self) -> Result<(), JournalError> {
        match self.stop {
            Some(stop) if stop.load(Ordering::Relaxed) => Err(JournalError::Stopped),
            _ => Ok(()),
        }
    }
}

/// Where an entry lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot<'a> {
    /// File name.
    pub(super) file: &'a str,
    /// Offset of its frame.
    pub(super) offset: u64,
}

/// Takes what is loaded, with the place it was found at.
pub(super) type Sink<'a> = dyn FnMut(Spot<'_>, Seen<'_>) + 'a;

/// Loads the journal in `dir` into `sink`, in order.
pub(super) fn load(
    files: &dyn Files,
    dir: &Path,
    how: How<'_>,
    sink: &mut Sink<'_>,
) -> Result<LoadReport, JournalError> {
    let (mut loader, chain) = Loader::open(files, dir, how, sink)?;
    let due = loader.snapshot(&chain)?;
    loader.finish(&chain, due)
}

/// The same into something that can be begun anew: a snapshot is not read once more before it is delivered, only to see whether it is whole.
/// Is it not, then all is forgotten, and the other way taken.
pub(super) fn load_into<T: Default>(
    files: &dyn Files,
    dir: &Path,
    how: How<'_>,
    sink: &mut dyn FnMut(&mut T, Seen<'_>),
) -> Result<(LoadReport, T), JournalError> {
    let mut into = T::default();
    let mut deliver = |_: Spot<'_>, seen: Seen<'_>| sink(&mut into, seen);
    let (mut loader, chain) = Loader::open(files, dir, how, &mut deliver)?;
    if let Some(due) = loader.whole_snapshot(&chain)? {
        let report = loader.finish(&chain, due)?;
        return Ok((report, into));
    }
    drop((loader, chain));
    into = T::default();
    let report = load(files, dir, how, &mut |_, seen| sink(&mut into, seen))?;
    Ok((report, into))
}

struct Loader<'a, 'b> {
    how: How<'a>,
    sink: &'a mut Sink<'b>,
    fold: Fold,
    /// Records of this epoch lie behind damage. Those of a later one do not: its owner knew what it had.
    damaged: Option<u64>,
    report: LoadReport,
}

/// Completeness, record by record.
#[derive(Debug, Default)]
struct Fold {
    complete: bool,
    /// Something is damaged, and no owner has begun since.
    pending: bool,
    /// Something is damaged that a later owner did not know of.
    permanent: bool,
    relaxed: bool,
    released: bool,
    /// The process of the last owner ended in order.
    stopped: bool,
    /// The newest epoch of which a file cannot be read at all.
    unreadable: u64,
    /// The epoch whose owner wrote the last *opened*.
    opened: u64,
}

impl Fold {
    fn note(&mut self, record: &SeenRecord<'_>, epoch: u64) {
        let SeenRecord::Other(record) = record else {
            (self.stopped, self.released) = (false, false);
            return;
        };
        self.stopped = *record == Record::Stopped;
        match record {
            Record::Opened { durability, complete, .. } => {
                // An owner that says "incomplete" has a full window before it, after which only what it wrote counts.
                self.permanent = (self.permanent || self.pending) && *complete;
                self.pending = false;
                self.opened = epoch;
                self.complete = *complete;
                self.relaxed = *durability != Durability::Sync;
                self.released = false;
            }
            Record::WindowEnded => self.complete = true,
            Record::Released { .. } | Record::HandedOver { .. } => self.released = true,
            _ => self.released = false,
        }
    }

    fn is_unaccounted(&self) -> bool {
        self.pending || self.permanent || (self.unreadable > 0 && self.unreadable >= self.opened)
    }

    fn is_complete(&self) -> bool {
        self.complete && !self.is_unaccounted() && (!self.relaxed || self.released || self.stopped)
    }
}

/// How a segment ended.
enum End {
    /// All that counts was read.
    Done,
    /// At this offset, in this way.
    At(u64, Look),
}

impl<'a, 'b> Loader<'a, 'b> {
    fn open(
        files: &dyn Files,
        dir: &Path,
        how: How<'a>,
        sink: &'a mut Sink<'b>,
    ) -> Result<(Self, Chain), JournalError> {
        let chain = Chain::open(files, dir, how)?;
        let (findings, built_on) = (chain.findings.clone(), chain.head);
        let report = LoadReport { findings, built_on, ..LoadReport::default() };
        let fold = Fold { complete: chain.fresh, unreadable: chain.unreadable, ..Fold::default() };
        Ok((Loader { how, sink, damaged: None, fold, report }, chain))
    }

    /// Delivers what is behind the snapshot, from `due` on.
    fn finish(mut self, chain: &Chain, due: u64) -> Result<LoadReport, JournalError> {
        self.run(chain, due)?;
        let Loader { mut report, fold, .. } = self;
        report.complete = fold.is_complete();
        report.unaccounted = fold.is_unaccounted();
        report.released = fold.released;
        Ok(report)
    }

    fn run(&mut self, chain: &Chain, mut due: u64) -> Result<(), JournalError> {
        for (i, part) in chain.segments.iter().enumerate() {
            let next = chain.segments.get(i + 1);
            let needed = next.map(|next| next.header.first - 1).or(self.how.until);
            if needed.is_some_and(|needed| needed < due) {
                continue;
            }
            if part.header.first > due {
                let reason = format!("records {due} to {} are missing", part.header.first - 1);
                self.corrupt(&part.name, 0, due, reason);
                // If this is another owner's first, then it built upon the records that are missing now, unless it says otherwise.
                if !self.knew(part)? {
                    self.damaged = Some(part.header.epoch);
                }
                due = part.header.first;
            }
            due = self.segment(part, due, needed)?;
            if let Some(needed) = needed.filter(|needed| due <= *needed) {
                // Said already by `segment`; go on behind the gap.
                due = needed + 1;
            }
        }
        self.report.last = due - 1;
        Ok(())
    }

    /// Whether this is an owner's first segment and its *opened* says that it did not have all that was before: it had a full window, and
    /// what it wrote holds without the rest.
    fn knew(&self, part: &Part) -> Result<bool, JournalError> {
        if part.header.number != 1 {
            return Ok(false);
        }
        self.settle(part.handle.as_ref(), &part.path)?;
        let mut reader = Reader::new(part.handle.as_ref(), &part.path)?;
        let bytes = reader.window(HEADER as u64, MAX_FRAME)?;
        let Look::Frame(frame) = frame::look(bytes, HEADER as u64) else { return Ok(false) };
        if (frame.epoch, frame.sequence) != (part.header.epoch, part.header.first) {
            return Ok(false);
        }
        // What cannot be read is said where it is delivered.
        let entry = codec::decode(frame.kind, frame.version, &bytes[FRAME..FRAME + frame.len]);
        Ok(entry.is_ok_and(|entry| matches!(entry.record, Record::Opened { complete: false, .. })))
    }

    /// Delivers the best snapshot and returns the next sequence. `None`: it is damaged, and some of it was delivered.
    fn whole_snapshot(&mut self, chain: &Chain) -> Result<Option<u64>, JournalError> {
        let Some(base) = chain.snapshots.first() else { return Ok(Some(1)) };
        self.settle(base.handle.as_ref(), &base.path)?;
        if self.read_snapshot(base, Some(Origin::Snapshot))?.is_some() {
            return Ok(None);
        }
        self.report.snapshot = Some(base.name.clone());
        Ok(Some(base.sequence + 1))
    }

    /// Delivers the best snapshot that is whole and returns the next sequence.
    fn snapshot(&mut self, chain: &Chain) -> Result<u64, JournalError> {
        let mut damaged = None;
        for base in &chain.snapshots {
            self.settle(base.handle.as_ref(), &base.path)?;
            match self.read_snapshot(base, None)? {
                None => {
                    if let Some(finding) = self.read_snapshot(base, Some(Origin::Snapshot))? {
                        // A disk that tells it differently each time. What it said up to here was delivered; the rest is missing.
                        self.report.findings.push(finding);
                        self.fold.pending = true;
                    }
                    self.report.snapshot = Some(base.name.clone());
                    return Ok(base.sequence + 1);
                }
                Some(finding) => {
                    self.report.findings.push(finding);
                    damaged.get_or_insert(base);
                }
            }
        }
        let Some(base) = damaged else { return Ok(1) };
        if chain.segments.first().is_some_and(|first| first.header.first == 1) {
            // All that it held is still there.
            return Ok(1);
        }
        self.fold.pending = true;
        self.read_snapshot(base, Some(Origin::Salvaged))?;
        Ok(base.sequence + 1)
    }

    /// Reads a snapshot; delivers its entries as `origin` if there is one. Returns what is wrong with it.
    fn read_snapshot(
        &mut self,
        base: &Base,
        origin: Option<Origin>,
    ) -> Result<Option<Finding>, JournalError> {
        let Base { epoch, sequence, name, path, handle } = base;
        let (epoch, sequence) = (*epoch, *sequence);
        let mut reader = Reader::new(handle.as_ref(), path)?;
        let bad = |offset, reason: &str| {
            Ok(Some(Finding { file: name.clone(), offset, sequence, reason: reason.into() }))
        };
        if let Err(reason) = snapshot_header(&mut reader, self.how.name, epoch, sequence)? {
            return bad(0, &reason);
        }
        let (mut at, mut count) = (HEADER as u64, 0u64);
        loop {
            self.how.go_on()?;
            let size = reader.size;
            let bytes = reader.window(at, MAX_FRAME)?;
            let Look::Frame(frame) = frame::look(bytes, at) else {
                return bad(at, "the snapshot is damaged or ends early");
            };
            if frame.epoch != epoch || frame.sequence != count + 1 {
                return bad(at, "a record that does not belong here");
            }
            let payload = &bytes[FRAME..FRAME + frame.len];
            let next = at + frame::frame_size(frame.len) as u64;
            if frame.kind == TYPE_END {
                let whole = payload == count.to_le_bytes() && next == size;
                return if whole { Ok(None) } else { bad(at, "the snapshot does not end as it should") };
            }
            count += 1;
            let entry = match codec::see(frame.kind, frame.version, payload) {
                Ok(entry) => entry,
                Err(e @ DecodeError::Newer(..)) => return Err(newer(path, &e)),
                Err(e) => return bad(at, &e.to_string()),
            };
            if let Some(origin) = origin {
                let spot = Spot { file: name, offset: at };
                self.fold.note(&entry.record, epoch);
                self.report.entries += 1;
                (self.sink)(spot, Seen { sequence: 0, entry, origin });
            }
            at = next;
        }
    }

    /// Delivers a segment's records from `due` on and returns the next sequence.
    fn segment(&mut self, part: &Part, due: u64, needed: Option<u64>) -> Result<u64, JournalError> {
        self.settle(part.handle.as_ref(), &part.path)?;
        let mut reader = Reader::new(part.handle.as_ref(), &part.path)?;
        let mut sequence = part.header.first;
        let last = needed.unwrap_or(MAX_NUMBER);
        let origin = if self.damaged == Some(part.header.epoch) { Origin::Salvaged } else { Origin::Log };
        let end = self.frames(part, &mut reader, HEADER as u64, &mut sequence, due, last, origin)?;
        let End::At(at, look) = end else { return Ok(sequence.max(due)) };
        let reason = match (needed, look) {
            (Some(needed), _) => Some(format!("damaged: records {sequence} to {needed} were durable once")),
            (None, Look::Frame(_)) => Some("a record that does not belong here".into()),
            (None, Look::Bad(false)) => Some("damaged: no crash leaves this".into()),
            (None, Look::Bad(true) | Look::End) => {
                let behind = self.behind(part, &mut reader, at, sequence)?;
                match behind.durable && !mutant!(DamageTakenForTear) {
                    true => Some("damaged: what was written later says that it was durable".into()),
                    false => {
                        if look != Look::End || behind.anything {
                            self.report.torn = Some(Torn { file: part.name.clone(), offset: at });
                        }
                        None
                    }
                }
            }
        };
        let Some(reason) = reason else { return Ok(sequence.max(due)) };
        self.corrupt(&part.name, at, sequence, reason);
        self.damaged = Some(part.header.epoch);
        self.salvage(part, &mut reader, at, &mut sequence, due, last)?;
        Ok(sequence.max(due))
    }

    /// Delivers whole frames in a row.
    #[expect(clippy::too_many_arguments, reason = "the state of one walk over a segment")]
    fn frames(
        &mut self,
        part: &Part,
        reader: &mut Reader<'_>,
        mut at: u64,
        sequence: &mut u64,
        due: u64,
        last: u64,
        origin: Origin,
    ) -> Result<End, JournalError> {
        loop {
            if *sequence > last {
                return Ok(End::Done);
            }
            self.how.go_on()?;
            let bytes = reader.window(at, MAX_FRAME)?;
            let look = frame::look(bytes, at);
            let Look::Frame(frame) = look else { return Ok(End::At(at, look)) };
            if frame.epoch != part.header.epoch || frame.sequence != *sequence {
                return Ok(End::At(at, look));
            }
            if *sequence >= due
                && !self.deliver(part, at, &frame, &bytes[FRAME..FRAME + frame.len], origin)?
            {
                return Ok(End::At(at, look));
            }
            *sequence += 1;
            at += frame::frame_size(frame.len) as u64;
        }
    }

    /// False: the payload cannot be read.
    fn deliver(
        &mut self,
        part: &Part,
        at: u64,
        frame: &Frame,
        payload: &[u8],
        origin: Origin,
    ) -> Result<bool, JournalError> {
        let entry = match codec::see(frame.kind, frame.version, payload) {
            Ok(entry) => entry,
            Err(e @ DecodeError::Newer(..)) => return Err(newer(&part.path, &e)),
            Err(_) => return Ok(false),
        };
        self.fold.note(&entry.record, part.header.epoch);
        self.report.entries += 1;
        let spot = Spot { file: &part.name, offset: at };
        (self.sink)(spot, Seen { sequence: frame.sequence, entry, origin });
        Ok(true)
    }

    /// What lies behind a gap at `at`, where `sequence` is due.
    fn behind(
        &mut self,
        part: &Part,
        reader: &mut Reader<'_>,
        at: u64,
        sequence: u64,
    ) -> Result<Behind, JournalError> {
        let mut found = Behind::default();
        let mut from = at + 8;
        while let Some((place, frame)) = reader.next_frame(from, part.header.epoch)? {
            found.anything = true;
            let known = frame.sequence.saturating_sub(u64::from(frame.lag));
            if frame.lag != u32::MAX && frame.sequence >= sequence && known >= sequence {
                found.durable = true;
                break;
            }
            from = place + frame::frame_size(frame.len) as u64;
        }
        found.anything |= reader.saw_bytes;
        Ok(found)
    }

    /// Delivers what can still be read behind damage.
    fn salvage(
        &mut self,
        part: &Part,
        reader: &mut Reader<'_>,
        at: u64,
        sequence: &mut u64,
        due: u64,
        last: u64,
    ) -> Result<(), JournalError> {
        let mut from = at + 8;
        while let Some((place, frame)) = reader.next_frame(from, part.header.epoch)? {
            from = place + 8;
            if frame.sequence < *sequence || frame.sequence > last {
                continue;
            }
            *sequence = frame.sequence;
            if let End::At(end, _) =
                self.frames(part, reader, place, sequence, due, last, Origin::Salvaged)?
            {
                from = from.max(end);
            } else {
                break;
            }
        }
        Ok(())
    }

    fn corrupt(&mut self, file: &str, offset: u64, sequence: u64, reason: String) {
        self.fold.pending = true;
        self.fold.complete = false;
        self.report.findings.push(Finding { file: file.into(), offset, sequence, reason });
    }

    /// What is loaded must not vanish after it was acted upon.
    fn settle(&self, handle: &dyn Handle, path: &Path) -> Result<(), JournalError> {
        if self.how.settle && !mutant!(LoadedNotSynced) {
            handle.sync().map_err(JournalError::io("cannot sync", path))?;
            handle.drop_cache();
        }
        Ok(())
    }
}

#[derive(Default)]
struct Behind {
    durable: bool,
    anything: bool,
}

fn snapshot_header(
    reader: &mut Reader<'_>,
    name: Option<&str>,
    epoch: u64,
    sequence: u64,
) -> Result<Result<(), String>, JournalError> {
    let path = reader.path.to_path_buf();
    let Some(bytes) = reader.window(0, HEADER)?.first_chunk::<HEADER>() else {
        return Ok(Err("the file header is missing".into()));
    };
    match Header::parse(bytes) {
        Ok(h) if h.kind != Kind::Snapshot || h.epoch != epoch || h.number != sequence => {
            Ok(Err("the file header does not fit the name".into()))
        }
        Ok(h) if name.is_some_and(|name| crc32c::crc32c(name.as_bytes()) != h.name) => {
            Ok(Err("the file belongs to another lock manager".into()))
        }
        Ok(_) => Ok(Ok(())),
        Err(e @ frame::HeaderError::Newer(_)) => {
            Err(JournalError::Newer { file: path, reason: e.to_string() })
        }
        Err(e) => Ok(Err(e.to_string())),
    }
}

fn newer(path: &Path, e: &DecodeError) -> JournalError {
    JournalError::Newer { file: PathBuf::from(path), reason: e.to_string() }
}
