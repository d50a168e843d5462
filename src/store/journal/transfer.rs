//! A record as a stream, to move it where its disk does not go (docs/journal.md, "Export and import").
//!
//! Must never write out what was not handed over, and never let a part of a stream count: all of it was found whole before its epoch
//! is taken. Needs memory for one ledger to export, and for one frame to import.

use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::codec::{self, DecodeError, TYPE_END, TooLong};
use super::epoch;
use super::error::JournalError;
use super::files::{Files, Handle};
use super::frame::{self, FRAME, Look, MAX_FRAME, MAX_PAYLOAD};
use super::load::{self, How};
use super::names::{MAX_NUMBER, Name};
use super::{peek, snapshot};
use crate::store::ledger::Ledger;
use crate::store::lock_store::Epoch;
use crate::store::record::{MAX_LABEL, Record};

const START: &[u8; 8] = b"LFEXPORT";
const END: &[u8; 8] = b"LFEXPEND";
/// Version of the stream so far.
const VERSION: u16 = 1;
/// Bytes of the header before the name.
const HEAD: usize = 48;
/// How much is written to the disk at once.
const PIECE: usize = 1 << 20;
/// Unfinished files of earlier imports of this process id that may lie about.
const TRIES: u32 = 100;

/// Why a record was not moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The stream cannot be written.
    #[error("cannot write the state: {0}")]
    Write(#[source] std::io::Error),
    /// The stream cannot be read.
    #[error("cannot read the state: {0}")]
    Read(#[source] std::io::Error),
    /// It is still this node's: whoever imported it would be a second owner.
    #[error("the lock manager was not handed over (its newest epoch is {0})")]
    NotHandedOver(u64),
    /// The stream is not as it was written.
    #[error("byte {offset} of the state: {reason}; nothing was imported")]
    Damaged {
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A newer lockferry wrote it.
    #[error("the state was written by a newer lockferry: {0}; nothing was imported")]
    Newer(String),
    /// It is another lock manager's.
    #[error("this is the state of {found}, not of {expected}; nothing was imported")]
    OtherName {
        /// Whose it is.
        found: String,
        /// Whose was wanted.
        expected: String,
    },
    /// An older state must not replace a newer one.
    #[error("this is the state at epoch {epoch}, and epoch {newest} is here already; nothing was imported")]
    NotAbove {
        /// The stream's.
        epoch: u64,
        /// The newest here.
        newest: u64,
    },
}

impl From<TooLong> for TransferError {
    fn from(e: TooLong) -> Self {
        TransferError::Journal(e.into())
    }
}

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The lock manager.
    pub name: String,
    /// The epoch it was handed over at. Whoever takes it up has the next one.
    pub epoch: Epoch,
    /// Stretches of locked bytes.
    pub locks: u64,
    /// Clients to notify.
    pub clients: u64,
}

/// Marks the newest epoch of a journal that no daemon has loaded as handed over, and returns it. Raises it before, so that an owner
/// that lives after all falls silent; `label`: refuses unless the record was released, or last opened by that node.
///
/// # Errors
/// [`JournalError`].
pub fn hand_over(
    files: &dyn Files,
    dir: &Path,
    name: &str,
    label: Option<&str>,
) -> Result<Epoch, JournalError> {
    let found = look(files, dir, name)?;
    if found.handed_over {
        return Ok(found.epoch);
    }
    if let (Some(label), Some(Record::Opened { node, .. })) = (label, &found.opened)
        && label != &**node
        && !found.report.released
    {
        return Err(JournalError::OwnedElsewhere { node: node.to_string() });
    }
    let epoch = epoch::raise(files, dir, false)?;
    epoch::mark_handed_over(files, dir, epoch)?;
    Ok(Epoch(epoch))
}

/// Writes the state of a journal that was handed over to `out`. May be repeated.
///
/// # Errors
/// [`TransferError`]. What was written until then is refused by [`import`].
pub fn export(
    files: &dyn Files,
    dir: &Path,
    name: &str,
    out: &mut dyn Write,
) -> Result<Epoch, TransferError> {
    let found = look(files, dir, name)?;
    let newest = found.epoch.0;
    if !found.handed_over {
        return Err(TransferError::NotHandedOver(newest));
    }
    let how = How { name: Some(name), settle: true, mine: 0, until: None, stop: None };
    let (report, mut ledger) = load::load_into(files, dir, how, &mut Ledger::apply)?;
    if !report.complete {
        ledger.mark_incomplete();
    }
    // Had somebody forced it meanwhile, this would be an old state.
    epoch::check(files, dir, newest)?;
    let mut crc = 0;
    let mut put = |bytes: &[u8]| {
        crc = crc32c::crc32c_append(crc, bytes);
        out.write_all(bytes).map_err(TransferError::Write)
    };
    snapshot::frames(&ledger, newest, header(name, newest, report.last), &mut put)?;
    put(END)?;
    let mut last = crc.to_le_bytes().to_vec();
    last.extend([0; 4]);
    out.write_all(&last).and_then(|()| out.flush()).map_err(TransferError::Write)?;
    Ok(Epoch(newest))
}

/// Makes a journal in `dir`, which must be there, of a stream. `expect_name`: only of this lock manager.
///
/// # Errors
/// [`TransferError`]: nothing was imported, or (after a failure in the last steps) the same stream must be imported again before the
/// lock manager can be taken up.
pub fn import(
    files: &dyn Files,
    dir: &Path,
    expect_name: Option<&str>,
    input: &mut dyn Read,
) -> Result<Imported, TransferError> {
    let incoming = Incoming::open(input)?;
    match expect_name {
        Some(expected) if expected != incoming.name() => {
            Err(TransferError::OtherName { found: incoming.name, expected: expected.into() })
        }
        _ => incoming.import(files, dir),
    }
}

/// The outline of the record in `dir`, if it is that of `name`.
fn look(files: &dyn Files, dir: &Path, name: &str) -> Result<peek::Summary, JournalError> {
    let found = peek::summary(files, dir, None)?.ok_or_else(|| JournalError::Nothing(dir.into()))?;
    match &found.opened {
        Some(Record::Opened { lock_manager, .. }) if &**lock_manager != name => {
            Err(JournalError::OtherName { found: lock_manager.to_string(), expected: name.into() })
        }
        _ => Ok(found),
    }
}

fn header(name: &str, epoch: u64, sequence: u64) -> Vec<u8> {
    let mut b = vec![0; (HEAD + name.len()).next_multiple_of(8)];
    b[..8].copy_from_slice(START);
    b[8..10].copy_from_slice(&VERSION.to_le_bytes());
    let len = b.len() as u16;
    b[10..12].copy_from_slice(&len.to_le_bytes());
    b[16..24].copy_from_slice(&epoch.to_le_bytes());
    b[24..32].copy_from_slice(&sequence.to_le_bytes());
    b[32..34].copy_from_slice(&(name.len() as u16).to_le_bytes());
    b[HEAD..HEAD + name.len()].copy_from_slice(name.as_bytes());
    let crc = header_crc(&b);
    b[12..16].copy_from_slice(&crc.to_le_bytes());
    b
}

fn header_crc(b: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&b[..12]), &b[16..])
}

/// A stream whose header was read.
pub struct Incoming<'a> {
    input: Input<'a>,
    name: String,
    epoch: u64,
    sequence: u64,
}

impl<'a> Incoming<'a> {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn open(input: &'a mut dyn Read) -> Result<Self, TransferError> {
        let mut input = Input { input, at: 0, crc: 0 };
        let mut head = vec![0; HEAD];
        input.fill(&mut head)?;
        if &head[..8] != START {
            return Err(damaged(0, "this is not what `lockferry export-state` writes"));
        }
        let len = usize::from(u16::from_le_bytes([head[10], head[11]]));
        let version = u16::from_le_bytes([head[8], head[9]]);
        if version > VERSION {
            return Err(TransferError::Newer(format!("version {version}")));
        }
        let bad = || damaged(0, "the header is damaged");
        if version == 0 || !(HEAD..=HEAD + MAX_LABEL).contains(&len) {
            return Err(bad());
        }
        head.resize(len, 0);
        input.fill(&mut head[HEAD..])?;
        let number = |at: usize| head[at..at + 8].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        let name_len = usize::from(u16::from_le_bytes([head[32], head[33]]));
        let name = head.get(HEAD..HEAD + name_len).and_then(|name| std::str::from_utf8(name).ok());
        let (epoch, sequence) = (number(16), number(24));
        // The only bytes that would have been written.
        let counted = (1..MAX_NUMBER).contains(&epoch) && sequence < MAX_NUMBER;
        match name.filter(|name| !name.is_empty() && counted && header(name, epoch, sequence) == head) {
            Some(name) => Ok(Incoming { name: name.into(), input, epoch, sequence }),
            None => Err(bad()),
        }
    }

    /// The lock manager's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The epoch it was handed over at.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    /// Reads the rest, and makes a journal of it in `dir`, which must be there.
    ///
    /// # Errors
    /// As [`import`].
    pub fn import(mut self, files: &dyn Files, dir: &Path) -> Result<Imported, TransferError> {
        let newest = epoch::newest(files, dir)?;
        let unfinished = self.unfinished(files, dir, newest)?;
        let (handle, new) = create(files, dir, "import", self.epoch)?;
        let done = self.receive(handle.as_ref(), &new).and_then(|(imported, crc)| {
            let text = format!("import {} {crc:08x}\n", self.sequence);
            match unfinished {
                None => self.take_epoch(files, dir, &text)?,
                Some(before) if before == text.as_bytes() => {}
                // Another stream than the one that was cut off.
                Some(_) => return Err(self.not_above(newest)),
            }
            epoch::supersede_below(files, dir, self.epoch)?;
            let path = dir.join(Name::Snapshot(self.epoch, self.sequence).to_string());
            files.rename(&new, &path).map_err(JournalError::io("cannot rename to", &path))?;
            files.sync_dir(dir).map_err(JournalError::io("cannot sync", dir))?;
            Ok(imported)
        });
        if done.is_err() {
            // Gives the space back. If that fails, or it has its final name already, no harm is done.
            let _ = files.remove(&new);
        }
        done
    }

    /// Fails unless the epoch may be imported. What an import of the same epoch that was cut off left behind.
    fn unfinished(
        &self,
        files: &dyn Files,
        dir: &Path,
        newest: u64,
    ) -> Result<Option<Vec<u8>>, TransferError> {
        if self.epoch > newest {
            return Ok(None);
        }
        let unfinished =
            if self.epoch == newest { epoch::unfinished_import(files, dir, newest)? } else { None };
        if unfinished.is_none() { Err(self.not_above(newest)) } else { Ok(unfinished) }
    }

    fn not_above(&self, newest: u64) -> TransferError {
        TransferError::NotAbove { epoch: self.epoch, newest }
    }

    /// Takes the epoch, with `text` in it from the first moment.
    fn take_epoch(&self, files: &dyn Files, dir: &Path, text: &str) -> Result<(), TransferError> {
        let (handle, new) = create(files, dir, "epoch", self.epoch)?;
        let path = dir.join(Name::Epoch(self.epoch).to_string());
        let taken = (|| {
            handle.write_at(text.as_bytes(), 0).map_err(JournalError::io("cannot write", &new))?;
            handle.sync().map_err(JournalError::io("cannot sync", &new))?;
            let newest = epoch::newest(files, dir)?;
            if newest >= self.epoch {
                return Err(self.not_above(newest));
            }
            match files.link(&new, &path) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(self.not_above(self.epoch)),
                Err(e) => Err(JournalError::io("cannot create", &path)(e).into()),
                Ok(()) => {
                    files.sync_dir(dir).map_err(JournalError::io("cannot sync", dir))?;
                    // Somebody may have raised it twice since we looked, and removed the older name.
                    Ok(epoch::check(files, dir, self.epoch)?)
                }
            }
        })();
        // Of no account any more, whether it is removed or not.
        let _ = files.remove(&new);
        taken
    }

    /// Writes the snapshot file, durably, and returns what is in it and the stream's check sum.
    fn receive(&mut self, handle: &dyn Handle, path: &Path) -> Result<(Imported, u32), TransferError> {
        let mut imported =
            Imported { name: self.name.clone(), epoch: Epoch(self.epoch), locks: 0, clients: 0 };
        let mut out = snapshot::header(&self.name, self.epoch, self.sequence).bytes().to_vec();
        let (mut at, mut count) = (0u64, 0u64);
        loop {
            let start = out.len();
            let offset = self.input.at;
            self.input.frame(&mut out)?;
            let ended = self.inspect(&out[start..], offset, count, &mut imported)?;
            if ended || out.len() >= PIECE {
                handle.write_at(&out, at).map_err(JournalError::io("cannot write", path))?;
                at += out.len() as u64;
                out.clear();
            }
            if ended {
                break;
            }
            count += 1;
        }
        let crc = self.input.end()?;
        handle.sync().map_err(JournalError::io("cannot sync", path))?;
        Ok((imported, crc))
    }

    /// Checks one frame and counts what is in it. True: it is the last.
    fn inspect(
        &self,
        bytes: &[u8],
        offset: u64,
        before: u64,
        imported: &mut Imported,
    ) -> Result<bool, TransferError> {
        let Look::Frame(frame) = frame::look(bytes, 0) else {
            return Err(damaged(offset, "a record is damaged"));
        };
        if frame.epoch != self.epoch || frame.sequence != before + 1 {
            return Err(damaged(offset, "a record that does not belong here"));
        }
        let payload = &bytes[FRAME..FRAME + frame.len];
        if frame.kind == TYPE_END {
            let right = payload == before.to_le_bytes();
            return if right { Ok(true) } else { Err(damaged(offset, "records are missing")) };
        }
        let entry = codec::decode(frame.kind, frame.version, payload).map_err(|e| match e {
            DecodeError::Newer(..) => TransferError::Newer(e.to_string()),
            _ => damaged(offset, &e.to_string()),
        })?;
        match entry.record {
            Record::Set(..) => imported.locks += 1,
            Record::Client(..) => imported.clients += 1,
            Record::Opened { lock_manager, .. } if *lock_manager != *self.name => {
                return Err(damaged(offset, "a record of another lock manager"));
            }
            _ => {}
        }
        Ok(false)
    }
}

impl std::fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming")
            .field("name", &self.name)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

fn damaged(offset: u64, reason: &str) -> TransferError {
    TransferError::Damaged { offset, reason: reason.into() }
}

/// A file of an import's own, that no other import has.
fn create(
    files: &dyn Files,
    dir: &Path,
    what: &str,
    epoch: u64,
) -> Result<(Box<dyn Handle>, PathBuf), JournalError> {
    let mut n = 0;
    loop {
        let path = dir.join(format!("{what}-{epoch}-{}-{n}.new", std::process::id()));
        match files.create_new(&path) {
            Ok(handle) => return Ok((handle, path)),
            // Left behind by a process that had this id before us, or by one on another node.
            Err(e) if e.kind() == ErrorKind::AlreadyExists && n < TRIES => n += 1,
            Err(e) => return Err(JournalError::io("cannot create", &path)(e)),
        }
    }
}

/// The stream, counted and summed.
struct Input<'a> {
    input: &'a mut dyn Read,
    at: u64,
    crc: u32,
}

impl Input<'_> {
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), TransferError> {
        self.input.read_exact(buf).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => damaged(self.at, "it is cut off here or behind"),
            _ => TransferError::Read(e),
        })?;
        self.crc = crc32c::crc32c_append(self.crc, buf);
        self.at += buf.len() as u64;
        Ok(())
    }

    /// Appends the next frame, as far as its length can be believed.
    fn frame(&mut self, out: &mut Vec<u8>) -> Result<(), TransferError> {
        let start = out.len();
        out.resize(start + FRAME, 0);
        self.fill(&mut out[start..])?;
        let len = out[start..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b)) as usize;
        if len == 0 || len > MAX_PAYLOAD {
            return Err(damaged(self.at - FRAME as u64, "a record is damaged"));
        }
        let size = frame::frame_size(len);
        debug_assert!(size <= MAX_FRAME);
        out.resize(start + size, 0);
        self.fill(&mut out[start + FRAME..])
    }

    /// Reads the end and returns the check sum.
    fn end(&mut self) -> Result<u32, TransferError> {
        let mut last = [0; 16];
        self.fill(&mut last[..8])?;
        let (at, crc) = (self.at, self.crc);
        self.fill(&mut last[8..])?;
        if &last[..8] != END || last[8..12] != crc.to_le_bytes() || last[12..] != [0; 4] {
            return Err(damaged(at, "the check sum is wrong"));
        }
        let mut more = [0];
        loop {
            match self.input.read(&mut more) {
                Ok(0) => return Ok(crc),
                Ok(_) => return Err(damaged(self.at, "there is more than what was exported")),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(TransferError::Read(e)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_at_an_epoch_that_nobody_can_have_counted_to_is_damaged() {
        for (epoch, sequence, good) in [
            (1, 0, true),
            (MAX_NUMBER - 1, MAX_NUMBER - 1, true),
            (0, 0, false),
            (MAX_NUMBER, 0, false),
            (1, MAX_NUMBER, false),
            (u64::MAX, u64::MAX, false),
        ] {
            let bytes = header("192.0.2.10", epoch, sequence);
            assert_eq!(Incoming::open(&mut bytes.as_slice()).is_ok(), good, "{epoch} {sequence}");
        }
    }
}
