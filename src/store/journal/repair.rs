//! For people: print a journal, check it, cut it (docs/journal.md, "Repair"). Must never guess where to cut.

use std::path::Path;

use super::epoch;
use super::error::{Finding, JournalError};
use super::files::Files;
use super::load::{self, How, Spot};
use super::names::Name;
use super::snapshot;
use crate::store::ledger::Ledger;
use crate::store::lock_store::{LoadReport, Loaded};
use crate::store::record::Record;

const LOOK: How<'static> = How { name: None, settle: false, mine: 0, until: None, stop: None };

/// Where the record shall end: before what lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// File name, without directory.
    pub file: String,
    /// Offset in it.
    pub offset: u64,
}

/// What a repair takes away, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Records that stay.
    pub kept: u64,
    /// Records that can be read and are lost: file, offset, and what each says.
    pub lost: Vec<(String, u64, Loaded)>,
    /// What is damaged at or behind the cut.
    pub findings: Vec<Finding>,
    /// Sequence of the last record that stays.
    pub last: u64,
    /// The epoch that the repair took; 0: it was not carried out.
    pub epoch: u64,
}

/// Calls `each` with file name, offset and entry of everything that counts, in order.
pub fn dump(
    files: &dyn Files,
    dir: &Path,
    each: &mut dyn FnMut(&str, u64, Loaded),
) -> Result<LoadReport, JournalError> {
    load::load(files, dir, LOOK, &mut |spot, loaded| each(spot.file, spot.offset, loaded.into_owned()))
}

/// Reads everything that counts and reports.
pub fn verify(files: &dyn Files, dir: &Path) -> Result<LoadReport, JournalError> {
    load::load(files, dir, LOOK, &mut |_, _| {})
}

/// Ends the record before `cut`. `dry_run`: only says what would be lost.
pub fn repair(files: &dyn Files, dir: &Path, cut: &Cut, dry_run: bool) -> Result<Loss, JournalError> {
    if dry_run {
        return Ok(survey(files, dir, cut, LOOK)?.loss);
    }
    // Refuse a wrong place before a living owner is superseded by it.
    survey(files, dir, cut, LOOK)?;
    let mine = epoch::raise(files, dir, true)?;
    let Survey { mut loss, mut ledger, name } = survey(files, dir, cut, How { settle: true, mine, ..LOOK })?;
    ledger.apply_entry(
        Record::Opened {
            lock_manager: name.as_str().into(),
            node: "repair".into(),
            time: 0,
            durability: crate::store::record::Durability::Sync,
            complete: false,
        }
        .into(),
    );
    snapshot::write(files, dir, &name, mine, loss.last, &ledger)?;
    set_aside(files, dir, mine)?;
    loss.epoch = mine;
    Ok(loss)
}

struct Survey {
    loss: Loss,
    ledger: Ledger,
    name: String,
}

fn survey(files: &dyn Files, dir: &Path, cut: &Cut, how: How<'_>) -> Result<Survey, JournalError> {
    let refuse = |reason| Err(JournalError::NoCut { file: cut.file.clone(), offset: cut.offset, reason });
    let findings = load::load(files, dir, how, &mut |_, _| {})?.findings;
    let damage = findings.iter().find(|f| f.file == cut.file && f.offset == cut.offset).map(|f| f.sequence);
    if damage == Some(0) {
        return refuse("the whole file is unreadable; cut at the gap that it leaves, as `verify` names it");
    }
    let mut state = Survey { loss: Loss::default(), ledger: Ledger::default(), name: String::new() };
    let (mut found, mut from_snapshot) = (false, 0);
    load::load(files, dir, how, &mut |spot: Spot<'_>, loaded| {
        let loaded = loaded.into_owned();
        if let (Record::Opened { lock_manager, .. }, true) = (&loaded.entry.record, state.name.is_empty()) {
            state.name = lock_manager.to_string();
        }
        found |= spot.file == cut.file && spot.offset == cut.offset;
        found |= damage.is_some_and(|damage| {
            (spot.file == cut.file && spot.offset > cut.offset) || loaded.sequence >= damage
        });
        if found {
            return state.loss.lost.push((spot.file.to_owned(), spot.offset, loaded));
        }
        state.loss.kept += 1;
        if let Some(Name::Snapshot(_, sequence)) = Name::parse(spot.file) {
            from_snapshot = sequence;
        }
        state.loss.last = state.loss.last.max(loaded.sequence).max(from_snapshot);
        // The operator named the end: all before it counts, also behind an earlier damage.
        state.ledger.apply_entry(loaded.entry);
    })?;
    if !found && damage.is_none() {
        return refuse("neither the start of a record nor a damaged place; `dump` and `verify` print both");
    }
    if state.loss.kept == 0 || state.name.is_empty() {
        return refuse("nothing is left before it");
    }
    state.loss.findings = findings;
    Ok(state)
}

/// Renames everything of older epochs: evidence, and no longer read.
fn set_aside(files: &dyn Files, dir: &Path, mine: u64) -> Result<(), JournalError> {
    let names = files.list(dir).map_err(JournalError::io("cannot list", dir))?;
    for text in names {
        if let Some(Name::Segment(epoch, _) | Name::Snapshot(epoch, _)) = Name::parse(&text)
            && epoch < mine
        {
            let aside = dir.join(format!("{text}.cut-{mine}"));
            files.rename(&dir.join(&text), &aside).map_err(JournalError::io("cannot rename to", &aside))?;
        }
    }
    files.sync_dir(dir).map_err(JournalError::io("cannot sync", dir))
}
