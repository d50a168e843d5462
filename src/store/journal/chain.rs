//! Which files of a directory count, and how far (docs/journal.md, "Records and their order"). Opens them all before anything is
//! read: an open file stays readable when its owner deletes it. Starts over when a listed file is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::error::{Finding, JournalError};
use super::files::{Files, Handle};
use super::frame::{HEADER, Header, HeaderError, Kind};
use super::load::How;
use super::names::{MAX_NUMBER, Name};

/// A directory whose files are gone again each time is being compacted without a pause, or is no journal.
const TRIES: usize = 100;
/// Most segments in one journal: 256 GiB of 64 MiB segments.
const MAX_SEGMENTS: usize = 4096;

/// A segment that counts.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) header: Header,
    pub(super) handle: Box<dyn Handle>,
}

/// A snapshot that may be used.
pub(super) struct Base {
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) handle: Box<dyn Handle>,
}

/// What counts.
pub(super) struct Chain {
    /// The newest epoch that has a file; 0: none.
    pub(super) head: u64,
    /// Snapshots that may be used, best first.
    pub(super) snapshots: Vec<Base>,
    /// Segments in order.
    pub(super) segments: Vec<Part>,
    /// Files that are damaged at once.
    pub(super) findings: Vec<Finding>,
    /// The newest epoch of which a segment cannot be read at all; 0: none.
    pub(super) unreadable: u64,
    /// There is nothing, and never was.
    pub(super) fresh: bool,
}

impl Chain {
    pub(super) fn open(files: &dyn Files, dir: &Path, how: How<'_>) -> Result<Chain, JournalError> {
        for _ in 0..TRIES {
            match Self::try_open(files, dir, how) {
                Err(e) if e.is_gone() && files.exists(dir).unwrap_or(true) => {}
                other => return other,
            }
        }
        Err(JournalError::Unsteady { dir: dir.into(), reason: "listed files are gone each time" })
    }

    fn try_open(files: &dyn Files, dir: &Path, how: How<'_>) -> Result<Chain, JournalError> {
        let listed = files.list(dir).map_err(JournalError::io("cannot list", dir))?;
        let names: BTreeSet<Name> = listed.iter().filter_map(|name| Name::parse(name)).collect();
        let mut findings = Vec::new();
        let mut segments: BTreeMap<(u64, u64), Part> = BTreeMap::new();
        let (mut snapshots, mut older_epochs, mut unreadable) = (Vec::new(), false, 0);
        for name in &names {
            match *name {
                Name::Segment(epoch, number) => {
                    if segments.len() >= MAX_SEGMENTS {
                        return Err(JournalError::Unsteady { dir: dir.into(), reason: "too many segments" });
                    }
                    match segment(files, dir, how, name, epoch, number)? {
                        Ok(part) => {
                            segments.insert((epoch, number), part);
                        }
                        Err(finding) => {
                            unreadable = epoch.max(unreadable);
                            findings.push(finding);
                        }
                    }
                }
                Name::Snapshot(epoch, sequence) => snapshots.push((epoch, sequence)),
                Name::Epoch(n) => older_epochs |= n != how.mine,
                _ => {}
            }
        }
        let fresh = segments.is_empty() && snapshots.is_empty() && findings.is_empty() && !older_epochs;
        let head = segments.keys().chain(&snapshots).map(|(epoch, _)| *epoch).max().unwrap_or(0);
        let counts = limits(head, &segments);
        snapshots.retain(|(epoch, sequence)| counts.get(epoch).is_some_and(|last| sequence <= last));
        snapshots.retain(|(_, sequence)| how.until.is_none_or(|until| *sequence <= until));
        snapshots.sort_by_key(|(epoch, sequence)| std::cmp::Reverse((*sequence, *epoch)));
        let snapshots = snapshots
            .into_iter()
            .map(|(epoch, sequence)| base(files, dir, epoch, sequence))
            .collect::<Result<_, _>>()?;
        let segments = segments
            .into_values()
            .filter(|part| counts.get(&part.header.epoch).is_some_and(|last| part.header.first <= *last))
            .filter(|part| how.until.is_none_or(|until| part.header.first <= until))
            .collect();
        Ok(Chain { head, snapshots, segments, findings, unreadable, fresh })
    }
}

/// For each epoch on the chain the last sequence that counts.
fn limits(head: u64, segments: &BTreeMap<(u64, u64), Part>) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    let (mut epoch, mut last) = (head, u64::MAX);
    loop {
        counts.insert(epoch, last);
        let Some(first) = segments.get(&(epoch, 1)) else { return counts };
        if first.header.previous == 0 || first.header.previous >= epoch {
            return counts;
        }
        last = last.min(first.header.first - 1);
        epoch = first.header.previous;
    }
}

fn base(files: &dyn Files, dir: &Path, epoch: u64, sequence: u64) -> Result<Base, JournalError> {
    let name = Name::Snapshot(epoch, sequence).to_string();
    let path = dir.join(&name);
    let handle = files.open_past_caches(&path).map_err(JournalError::io("cannot open", &path))?;
    Ok(Base { epoch, sequence, name, path, handle })
}

fn segment(
    files: &dyn Files,
    dir: &Path,
    how: How<'_>,
    name: &Name,
    epoch: u64,
    number: u64,
) -> Result<Result<Part, Finding>, JournalError> {
    let name = name.to_string();
    let path = dir.join(&name);
    let handle = files.open_past_caches(&path).map_err(JournalError::io("cannot open", &path))?;
    let mut bytes = [0; HEADER];
    let n = handle.read_at(&mut bytes, 0).map_err(JournalError::io("cannot read", &path))?;
    let bad =
        |reason: &str| Ok(Err(Finding { file: name.clone(), offset: 0, sequence: 0, reason: reason.into() }));
    if n < HEADER {
        return bad("the file header is missing");
    }
    let header = match Header::parse(&bytes) {
        Ok(header) => header,
        Err(e @ HeaderError::Newer(_)) => {
            return Err(JournalError::Newer { file: path, reason: e.to_string() });
        }
        Err(e) => return bad(&e.to_string()),
    };
    let counted = 1..=MAX_NUMBER;
    let fits = header.epoch == epoch && header.number == number && counted.contains(&header.first);
    if header.kind != Kind::Segment || !fits {
        return bad("the file header does not fit the name");
    }
    if how.name.is_some_and(|name| crc32c::crc32c(name.as_bytes()) != header.name) {
        return bad("the file belongs to another lock manager");
    }
    Ok(Ok(Part { name, path, header, handle }))
}
