//! Looks at a record without taking it over: is there one, whose is it, what would a take-over find. Must never raise an
//! epoch, nor write.

use std::path::Path;

use super::epoch;
use super::error::JournalError;
use super::files::Files;
use super::journals::Journals;
use super::load::{self, How};
use super::names::Name;
use crate::store::ledger::Ledger;
use crate::store::lock_store::{Epoch, LoadReport, Origin};
use crate::store::record::Record;
use crate::store::seen::{Seen, SeenRecord};

/// What is recorded of a lock manager, without its locks. A living owner may write on meanwhile: it is what was there at some
/// moment of the look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The newest epoch.
    pub epoch: Epoch,
    /// It was handed over to another place at that epoch.
    pub handed_over: bool,
    /// What loading says, and would say to whoever took it over now.
    pub report: LoadReport,
    /// The last *opened*.
    pub opened: Option<Record>,
    /// An owner has begun to write at the newest epoch (after an import nobody has, though there is a record of it).
    pub begun: bool,
}

impl Summary {
    /// Whether this node (its label in *opened*) was the last owner, gave nothing up, and nobody came after it.
    pub fn is_owned_by(&self, label: &str) -> bool {
        let ours = matches!(&self.opened, Some(Record::Opened { node, .. }) if &**node == label);
        ours && self.begun && !self.report.released && !self.handed_over
    }
}

/// What is recorded, with everything in it.
#[derive(Debug)]
pub struct Peek {
    /// The outline.
    pub summary: Summary,
    /// The state.
    pub ledger: Ledger,
}

impl Journals {
    /// What is recorded of a lock manager; `None`: nothing. Reads it all, about a second for a million locks.
    ///
    /// # Errors
    /// [`JournalError`]: it cannot be read. Damage is no error, but in the report.
    pub fn peek(&self, lock_manager: &str) -> Result<Option<Peek>, JournalError> {
        let found =
            look(self.files(), &self.dir(lock_manager), Some(lock_manager), false, &mut Ledger::apply)?;
        Ok(found.map(|(summary, ledger)| Peek { summary, ledger }))
    }

    /// The same for whoever acts upon it: what is read is durable. (A change that its owner could not sync would be seen, acted upon, and gone
    /// after a power cut.)
    ///
    /// # Errors
    /// As [`Self::peek`]; also if it cannot be made durable.
    pub fn peek_durable(&self, lock_manager: &str) -> Result<Option<Peek>, JournalError> {
        let settle = !mutant!(NeighboursNotSynced);
        let found =
            look(self.files(), &self.dir(lock_manager), Some(lock_manager), settle, &mut Ledger::apply)?;
        Ok(found.map(|(summary, ledger)| Peek { summary, ledger }))
    }

    /// As [`Self::peek`], without keeping anything: reads it all, but in a fraction of the time and no memory.
    ///
    /// # Errors
    /// As [`Self::peek`].
    pub fn peek_summary(&self, lock_manager: &str) -> Result<Option<Summary>, JournalError> {
        summary(self.files(), &self.dir(lock_manager), Some(lock_manager))
    }

    /// As [`Self::peek_summary`], where the directory may be another lock manager's by mistake: then nothing but an error. `note` sees
    /// what is read, and notes it in something that may be begun anew.
    ///
    /// # Errors
    /// As [`Self::peek`], and [`JournalError::OtherName`].
    pub fn peek_own_summary<T: Default>(
        &self,
        lock_manager: &str,
        note: &mut dyn FnMut(&mut T, Seen<'_>),
    ) -> Result<Option<(Summary, T)>, JournalError> {
        let found = look(self.files(), &self.dir(lock_manager), None, false, note)?;
        match found.as_ref().and_then(|(summary, _)| summary.opened.as_ref()) {
            Some(Record::Opened { lock_manager: whose, .. }) if **whose != *lock_manager => {
                Err(JournalError::OtherName { found: whose.to_string(), expected: lock_manager.into() })
            }
            _ => Ok(found),
        }
    }

    /// Whether anything is recorded of a lock manager, an epoch at least. Reads only names.
    ///
    /// # Errors
    /// [`JournalError`]: the directory is there and cannot be read.
    pub fn is_recorded(&self, lock_manager: &str) -> Result<bool, JournalError> {
        is_recorded(self.files(), &self.dir(lock_manager))
    }
}

/// Whether a directory holds a journal.
pub(super) fn is_recorded(files: &dyn Files, dir: &Path) -> Result<bool, JournalError> {
    let counts = |name: &String| {
        matches!(Name::parse(name), Some(Name::Epoch(_) | Name::Segment(..) | Name::Snapshot(..)))
    };
    match files.list(dir).map_err(JournalError::io("cannot list", dir)) {
        Ok(names) => Ok(names.iter().any(counts)),
        Err(e) if e.is_gone() => Ok(false),
        Err(e) => Err(e),
    }
}

/// The outline of a directory's record. `name`: files of another lock manager are damage.
pub(super) fn summary(
    files: &dyn Files,
    dir: &Path,
    name: Option<&str>,
) -> Result<Option<Summary>, JournalError> {
    Ok(look::<()>(files, dir, name, false, &mut |(), _| {})?.map(|(summary, ())| summary))
}

/// Loads, and reads the newest epoch after that.
fn look<T: Default>(
    files: &dyn Files,
    dir: &Path,
    name: Option<&str>,
    settle: bool,
    note: &mut dyn FnMut(&mut T, Seen<'_>),
) -> Result<Option<(Summary, T)>, JournalError> {
    if !is_recorded(files, dir)? {
        return Ok(None);
    }
    let how = How { name, settle, mine: 0, until: None, stop: None };
    let (report, (opened, noted)) = load::load_into(files, dir, how, &mut |(opened, noted), seen| {
        if let (SeenRecord::Other(record @ Record::Opened { .. }), true) =
            (&seen.entry.record, seen.origin != Origin::Salvaged)
        {
            *opened = Some(record.clone());
        }
        note(noted, seen);
    })?;
    // Read after the record: who raised it meanwhile is seen, and the record is then no longer the newest owner's.
    let epoch = epoch::newest(files, dir)?;
    let handed_over = epoch > 0 && epoch::handed_over(files, dir, epoch)?;
    let names = files.list(dir).map_err(JournalError::io("cannot list", dir))?;
    let begun = names.iter().any(|name| matches!(Name::parse(name), Some(Name::Segment(e, _)) if e == epoch));
    Ok(Some((Summary { epoch: Epoch(epoch), handed_over, report, opened, begun }, noted)))
}
