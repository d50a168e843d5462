//! Epochs: names that are created exclusively (docs/journal.md, "Epochs"). Must never remove the newest, nor trust a number read
//! earlier.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::JournalError;
use super::files::Files;
use super::names::{MAX_NUMBER, Name};

/// The newest epoch, 0 if there is none.
pub(super) fn newest(files: &dyn Files, dir: &Path) -> Result<u64, JournalError> {
    let mut newest = 0;
    each_number(files, dir, &mut |n| newest = newest.max(n))?;
    Ok(newest)
}

/// Fails unless `mine`, which was the newest once, still is.
pub(super) fn check(files: &dyn Files, dir: &Path, mine: u64) -> Result<(), JournalError> {
    let newest = match newest(files, dir) {
        Ok(0) => return Err(JournalError::Gone(dir.into())),
        Err(e) if e.is_gone() => return Err(JournalError::Gone(dir.into())),
        other => other?,
    };
    let there = |n: u64| {
        let path = dir.join(Name::Epoch(n).to_string());
        files.exists(&path).map_err(JournalError::io("cannot look for", &path))
    };
    // The listing may be from a cache that is told from a new one by a time stamp (NFS), which is too coarse; these are not. In this
    // order: the next one is only ever removed after ours.
    if newest <= mine && !there(mine + 1)? && there(mine)? {
        return Ok(());
    }
    Err(JournalError::Superseded { mine, newest: newest.max(mine + 1) })
}

/// The same with two look-ups instead of a listing, for who owned `mine` and looks after each batch. It is enough: who takes an epoch above
/// the next one makes the next one too, before it reads anything ([`supersede_below`]); and the next one is only ever removed after ours.
pub(super) fn check_next(
    files: &dyn Files,
    mine: u64,
    (own, next): (&Path, &Path),
    dir: &Path,
) -> Result<(), JournalError> {
    let there = |path: &Path| files.exists(path).map_err(JournalError::io("cannot look for", path));
    match !there(next)? && there(own)? {
        true => Ok(()),
        // It says who, or what else is wrong.
        false => check(files, dir, mine),
    }
}

/// The name of an epoch in a directory.
pub(super) fn path(dir: &Path, epoch: u64) -> PathBuf {
    dir.join(Name::Epoch(epoch).to_string())
}

/// Raises the epoch by one and returns it. `force`: even if the lock manager was handed over, or an import was cut off.
pub(super) fn raise(files: &dyn Files, dir: &Path, force: bool) -> Result<u64, JournalError> {
    let last = newest(files, dir)?;
    raise_from(files, dir, last, force)
}

/// The same, if `last` still is the newest: nothing is taken from whoever raised it since.
pub(super) fn raise_after(files: &dyn Files, dir: &Path, last: u64) -> Result<u64, JournalError> {
    let newest = newest(files, dir)?;
    if newest != last {
        return Err(JournalError::Superseded { mine: last, newest });
    }
    raise_from(files, dir, last, false)
}

fn raise_from(files: &dyn Files, dir: &Path, last: u64, force: bool) -> Result<u64, JournalError> {
    // Were the name of an epoch lost, its files would be taken for the next owner's own, and that one's for older.
    let last = last.max(used(files, dir)?);
    if !force && handed_over(files, dir, last)? {
        return Err(JournalError::HandedOver(last));
    }
    if !force && unfinished_import(files, dir, last)?.is_some() {
        return Err(JournalError::ImportUnfinished(last));
    }
    if last >= MAX_NUMBER {
        let reason =
            "its epoch is one that nobody can have counted to: remove the files that have it in their names";
        return Err(JournalError::Unsteady { dir: dir.into(), reason });
    }
    create(files, dir, last + 1)?;
    // The one before may be no neighbour of ours: names are lost, and an import that was cut off leaves a gap.
    supersede_below(files, dir, last + 1)?;
    // A listing that was too old names an epoch that is long past, and of which there may be no name any more. This one is not:
    // our own change to the directory made it new.
    let newest = newest(files, dir)?;
    if newest > last + 1 {
        return Err(JournalError::Superseded { mine: last + 1, newest });
    }
    Ok(last + 1)
}

/// Has whoever owns an epoch below `mine` see that it is superseded: the number after each of them is there.
pub(super) fn supersede_below(files: &dyn Files, dir: &Path, mine: u64) -> Result<(), JournalError> {
    let mut there: Vec<u64> = numbers(files, dir)?.into_iter().filter(|n| *n < mine).collect();
    there.sort_unstable();
    let ends = there.iter().skip(1).copied().chain([mine]);
    for (below, end) in there.iter().zip(ends) {
        for next in below + 1..end {
            match create(files, dir, next) {
                // Somebody was faster, in vain: it finds `mine` there.
                Err(JournalError::Superseded { .. }) => {}
                Err(e) => return Err(e),
                Ok(()) => break,
            }
        }
    }
    Ok(())
}

/// Takes `epoch`, which must be above the newest.
fn create(files: &dyn Files, dir: &Path, epoch: u64) -> Result<(), JournalError> {
    let path = dir.join(Name::Epoch(epoch).to_string());
    match files.create_new(&path) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists && mutant!(EpochNotExclusive) => {}
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

/// The newest epoch of which there is any file that counts.
fn used(files: &dyn Files, dir: &Path) -> Result<u64, JournalError> {
    let names = files.list(dir).map_err(JournalError::io("cannot list", dir))?;
    let epoch = |name: &String| match Name::parse(name)? {
        Name::Epoch(n) | Name::Segment(n, _) | Name::Snapshot(n, _) | Name::HandedOver(n) => Some(n),
        Name::Spare(_) | Name::Unfinished(..) => None,
    };
    Ok(names.iter().filter_map(epoch).max().unwrap_or(0))
}

fn numbers(files: &dyn Files, dir: &Path) -> Result<Vec<u64>, JournalError> {
    let mut numbers = Vec::new();
    each_number(files, dir, &mut |n| numbers.push(n))?;
    Ok(numbers)
}

/// The epochs that have a name, in no order.
fn each_number(files: &dyn Files, dir: &Path, see: &mut dyn FnMut(u64)) -> Result<(), JournalError> {
    let listed = files.each_name(dir, &mut |name| {
        if let Some(Name::Epoch(n)) = Name::parse(name) {
            see(n);
        }
    });
    listed.map_err(JournalError::io("cannot list", dir))
}
