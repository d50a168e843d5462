//! Snapshots and what they make superfluous (docs/journal.md, "Snapshot"). Must never delete anything before the snapshot is durable
//! under its final name and the epoch was read again after that.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::codec::{self, PAYLOAD_VERSION, TYPE_END};
use super::epoch;
use super::error::{Finding, JournalError};
use super::files::{Files, Handle};
use super::frame::{self, Header, Kind};
use super::load::{self, How};
use super::names::Name;
use crate::store::ledger::{Ledger, Piece};
use crate::store::lock_store::LoadReport;
use crate::store::record::Record;

/// How much is written at once.
const PIECE: usize = 1 << 20;

/// What is to be compacted.
pub(super) struct Job {
    /// The directory.
    pub(super) dir: PathBuf,
    /// The lock manager's name.
    pub(super) name: String,
    /// The owner's epoch.
    pub(super) epoch: u64,
    /// The last sequence of the segments that are closed.
    pub(super) until: u64,
    /// The number of the segment that is open.
    pub(super) open: u64,
    /// Set when the lock manager is released: what is not done is given up.
    pub(super) stop: Arc<AtomicBool>,
}

/// Replays the closed segments, writes a snapshot and deletes what it replaces.
pub(super) fn compact(files: &dyn Files, job: &Job) -> Result<(), JournalError> {
    if job.until == 0 {
        return Ok(());
    }
    let how = How {
        name: Some(&job.name),
        settle: false,
        mine: job.epoch,
        until: Some(job.until),
        stop: Some(&job.stop),
    };
    let (report, ledger) = load::load_into(files, &job.dir, how, &mut Ledger::apply)?;
    if let Some(finding) = report.findings.iter().find(|_| report.unaccounted) {
        return Err(JournalError::Damaged(finding.clone()));
    }
    write_while(files, &job.dir, &job.name, job.epoch, job.until, &ledger, &|| how.go_on())?;
    clean(files, job, &report)
}

/// Writes a snapshot of `ledger` so that it is there whole or not at all.
pub(super) fn write(
    files: &dyn Files,
    dir: &Path,
    name: &str,
    epoch: u64,
    sequence: u64,
    ledger: &Ledger,
) -> Result<(), JournalError> {
    write_while(files, dir, name, epoch, sequence, ledger, &|| Ok(()))
}

/// Calls `go_on` before each piece.
fn write_while(
    files: &dyn Files,
    dir: &Path,
    name: &str,
    epoch: u64,
    sequence: u64,
    ledger: &Ledger,
    go_on: &dyn Fn() -> Result<(), JournalError>,
) -> Result<(), JournalError> {
    let path = dir.join(Name::Snapshot(epoch, sequence).to_string());
    let new = dir.join(format!("{}.new", Name::Snapshot(epoch, sequence)));
    super::remove(files, &new)?;
    let handle = files.create_new(&new).map_err(JournalError::io("cannot create", &new))?;
    let written = fill(handle.as_ref(), &new, &header(name, epoch, sequence), ledger, go_on).and_then(|()| {
        epoch::check(files, dir, epoch)?;
        files.rename(&new, &path).map_err(JournalError::io("cannot rename to", &path))
    });
    if let Err(e) = written {
        // Give the space back; if that fails too, a later owner removes it.
        let _ = files.remove(&new);
        return Err(e);
    }
    files.sync_dir(dir).map_err(JournalError::io("cannot sync", dir))
}

fn fill(
    handle: &dyn Handle,
    path: &Path,
    header: &Header,
    ledger: &Ledger,
    go_on: &dyn Fn() -> Result<(), JournalError>,
) -> Result<(), JournalError> {
    let mut at = 0u64;
    frames::<JournalError>(ledger, header.epoch, header.bytes().to_vec(), &mut |bytes| {
        go_on()?;
        handle.write_at(bytes, at).map_err(JournalError::io("cannot write", path))?;
        at += bytes.len() as u64;
        Ok(())
    })?;
    if mutant!(SnapshotNotSynced) {
        return Ok(());
    }
    handle.sync().map_err(JournalError::io("cannot sync", path))
}

/// The header of a snapshot file.
pub(super) fn header(name: &str, epoch: u64, sequence: u64) -> Header {
    let name = crc32c::crc32c(name.as_bytes());
    Header { kind: Kind::Snapshot, epoch, number: sequence, first: 0, previous: epoch, size: 0, name }
}

/// Puts `out` and all frames of a snapshot of `ledger` to `put`, in large pieces.
pub(super) fn frames<E: From<codec::TooLong>>(
    ledger: &Ledger,
    epoch: u64,
    mut out: Vec<u8>,
    put: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut count = 0u64;
    for piece in ledger.pieces() {
        let start = frame::start(&mut out);
        let kind = match piece {
            Piece::Entry(entry) => codec::encode(&entry, &mut out),
            Piece::Reply(reply) => codec::encode_parts(&Record::Answered, Some(reply), &mut out),
        }?;
        count += 1;
        frame::finish(&mut out, start, epoch, count, 1, kind, PAYLOAD_VERSION);
        if out.len() >= PIECE {
            put(&out)?;
            out.clear();
        }
    }
    let start = frame::start(&mut out);
    out.extend_from_slice(&count.to_le_bytes());
    frame::finish(&mut out, start, epoch, count + 1, 1, TYPE_END, PAYLOAD_VERSION);
    put(&out)
}

/// Deletes what the snapshot of `job` replaces. Damaged files are set aside.
fn clean(files: &dyn Files, job: &Job, report: &LoadReport) -> Result<(), JournalError> {
    let damaged: BTreeSet<&str> = report.findings.iter().map(|f: &Finding| f.file.as_str()).collect();
    let names = files.list(&job.dir).map_err(JournalError::io("cannot list", &job.dir))?;
    for text in &names {
        let superfluous = match Name::parse(text) {
            Some(Name::Segment(epoch, number)) => {
                let open = mutant!(CompactionDeletesOpen) && number == job.open;
                epoch < job.epoch || (epoch == job.epoch && (number < job.open || open))
            }
            Some(Name::Snapshot(epoch, sequence)) => {
                epoch < job.epoch || (epoch == job.epoch && sequence < job.until)
            }
            Some(Name::Spare(epoch) | Name::Unfinished(epoch, _) | Name::HandedOver(epoch)) => {
                epoch < job.epoch
            }
            Some(Name::Epoch(_)) | None => false,
        };
        if !superfluous {
            continue;
        }
        epoch::check(files, &job.dir, job.epoch)?;
        let path = job.dir.join(text);
        if damaged.contains(text.as_str()) {
            let aside = job.dir.join(format!("{text}.corrupt"));
            files.rename(&path, &aside).map_err(JournalError::io("cannot rename to", &aside))?;
        } else {
            super::remove(files, &path)?;
        }
    }
    files.sync_dir(&job.dir).map_err(JournalError::io("cannot sync", &job.dir))?;
    epoch::remove_older(files, &job.dir, job.epoch)
}
