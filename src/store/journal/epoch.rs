//! Epochs: names that are created exclusively (docs/journal.md, "Epochs"). Must never remove the newest, nor trust a number read
//! earlier.

use std::io::ErrorKind;
use std::path::Path;

use super::error::JournalError;
use super::files::Files;
use super::names::Name;

/// The newest epoch, 0 if there is none.
pub(super) fn newest(files: &dyn Files, dir: &Path) -> Result<u64, JournalError> {
    Ok(numbers(files, dir)?.into_iter().max().unwrap_or(0))
}

/// Fails unless `mine` is the newest now.
pub(super) fn check(files: &dyn Files, dir: &Path, mine: u64) -> Result<(), JournalError> {
    let newest = newest(files, dir)?;
    // A listing that missed a newer epoch, because that was removed meanwhile, misses ours as well by now.
    let path = dir.join(Name::Epoch(mine).to_string());
    if newest == mine && files.exists(&path).map_err(JournalError::io("cannot look for", &path))? {
        return Ok(());
    }
    Err(JournalError::Superseded { mine, newest })
}

/// Raises the epoch by one and returns it. `force`: even if the lock manager was handed over, or an import was cut off.
pub(super) fn raise(files: &dyn Files, dir: &Path, force: bool) -> Result<u64, JournalError> {
    let last = newest(files, dir)?;
    if !force && handed_over(files, dir, last)? {
        return Err(JournalError::HandedOver(last));
    }
    if !force && unfinished_import(files, dir, last)?.is_some() {
        return Err(JournalError::ImportUnfinished(last));
    }
    create(files, dir, last + 1)?;
    Ok(last + 1)
}

/// Takes `epoch`, which must be above the newest.
pub(super) fn create(files: &dyn Files, dir: &Path, epoch: u64) -> Result<(), JournalError> {
    let path = dir.join(Name::Epoch(epoch).to_string());
    match files.create_new(&path) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            return Err(JournalError::Superseded { mine: epoch, newest: newest(files, dir)?.max(epoch) });
        }
        Err(e) => return Err(JournalError::io("cannot create", &path)(e)),
    }
    files.sync_dir(dir).map_err(JournalError::io("cannot sync", dir))
}

/// Whether `epoch` was handed over.
pub(super) fn handed_over(files: &dyn Files, dir: &Path, epoch: u64) -> Result<bool, JournalError> {
    let path = dir.join(Name::HandedOver(epoch).to_string());
    files.exists(&path).map_err(JournalError::io("cannot look for", &path))
}

/// Marks `epoch` as handed over, durably. Doing it twice changes nothing.
pub(super) fn mark_handed_over(files: &dyn Files, dir: &Path, epoch: u64) -> Result<(), JournalError> {
    let path = dir.join(Name::HandedOver(epoch).to_string());
    match files.create_new(&path) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(JournalError::io("cannot create", &path)(e)),
    }
    files.sync_dir(dir).map_err(JournalError::io("cannot sync", dir))
}

/// What an import wrote into `epoch`, if its snapshot is not there: what else there is, is of an older time.
pub(super) fn unfinished_import(
    files: &dyn Files,
    dir: &Path,
    epoch: u64,
) -> Result<Option<Vec<u8>>, JournalError> {
    let path = dir.join(Name::Epoch(epoch).to_string());
    let handle = match files.open(&path) {
        Ok(handle) => handle,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(JournalError::io("cannot open", &path)(e)),
    };
    // The text has some 40 bytes.
    let mut text = vec![0; 128];
    let n = handle.read_at(&mut text, 0).map_err(JournalError::io("cannot read", &path))?;
    text.truncate(n);
    if text.is_empty() {
        return Ok(None);
    }
    let names = files.list(dir).map_err(JournalError::io("cannot list", dir))?;
    let there =
        names.iter().any(|name| matches!(Name::parse(name), Some(Name::Snapshot(e, _)) if e == epoch));
    Ok((!there).then_some(text))
}

/// Removes the epochs below `mine`, in ascending order, each durably before the next.
pub(super) fn remove_older(files: &dyn Files, dir: &Path, mine: u64) -> Result<(), JournalError> {
    let mut old: Vec<u64> = numbers(files, dir)?.into_iter().filter(|n| *n < mine).collect();
    old.sort_unstable();
    for n in old {
        check(files, dir, mine)?;
        super::remove(files, &dir.join(Name::Epoch(n).to_string()))?;
        files.sync_dir(dir).map_err(JournalError::io("cannot sync", dir))?;
    }
    Ok(())
}

fn numbers(files: &dyn Files, dir: &Path) -> Result<Vec<u64>, JournalError> {
    let names = files.list(dir).map_err(JournalError::io("cannot list", dir))?;
    Ok(names
        .iter()
        .filter_map(|name| match Name::parse(name) {
            Some(Name::Epoch(n)) => Some(n),
            _ => None,
        })
        .collect())
}
