//! Segments before they are in use: files of zeros, made ahead. A spare is also the space that is kept for UNLOCK and reclaim on a
//! full disk.
//!
//! Must never hold up who writes: it is made in small pieces with pauses between them, since a file system commits what others wrote
//! together with what it is made to write here.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::JournalError;
use super::files::Handle;
use super::frame::Header;
use super::names::Name;
use super::writer::Place;

/// How much zero is written at once when somebody waits for it.
const PIECE: usize = 1 << 20;
/// How much is written and synced at once beside a writer: what a slow disk (100 MB/s) writes in 2.5 ms.
const SMALL_PIECE: usize = 256 << 10;
/// The pause after a piece, in times of what it took: the disk is the writer's for three quarters of the time.
const PAUSE: u32 = 3;
/// The longest pause: a disk that hangs for a moment must not stop it for long.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How much larger a segment is than the one before: 1 MiB, 8 MiB, 64 MiB.
const GROWTH: u64 = 8;

/// What the writer shares with whoever makes spares.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// The disk is full: no new lock is taken.
    low: AtomicBool,
    /// Held while a spare is made or used: one at a time.
    making: Mutex<()>,
    /// Size of the next spare.
    size: AtomicU64,
    haste: Mutex<Haste>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Haste {
    /// The writer waits for the spare.
    awaited: bool,
    /// Nobody needs it any more.
    stop: bool,
}

impl Space {
    /// Whether the disk is full.
    pub(super) fn is_low(&self) -> bool {
        self.low.load(Ordering::Acquire)
    }

    pub(super) fn set_low(&self, low: bool) {
        self.low.store(low, Ordering::Release);
    }

    /// What size the next spare shall have.
    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// A segment of this size is in use now: the next one is larger, up to `most`. A new owner so has a spare at once, and is not
    /// held up for long if it needs it before it is there.
    pub(super) fn grow(&self, size: u64, most: u64) {
        self.size.store(size.saturating_mul(GROWTH).min(most), Ordering::Release);
    }

    /// Has a spare that is being made given up.
    pub(super) fn stop(&self) {
        self.haste().stop = true;
        self.changed.notify_all();
    }

    /// For the writer, which must not wait for pauses.
    pub(super) fn making_at_once(&self) -> MutexGuard<'_, ()> {
        self.haste().awaited = true;
        self.changed.notify_all();
        let making = self.making();
        self.haste().awaited = false;
        making
    }

    fn making(&self) -> MutexGuard<'_, ()> {
        // It guards file names only; whoever panicked left them as a crash would.
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn haste(&self) -> MutexGuard<'_, Haste> {
        self.haste.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, unless the writer does.
    fn pause(&self, time: Duration) -> Haste {
        let pause =
            self.changed.wait_timeout_while(self.haste(), time, |haste| !haste.awaited && !haste.stop);
        *pause.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Makes the spare segment if it is not there, in the background, and says in `space` whether there was room for it.
pub(super) fn keep_spare(place: &Place, space: &Space) -> Result<(), JournalError> {
    let _making = space.making();
    let spare = place.dir.join(Name::Spare(place.epoch).to_string());
    let there = place.files.exists(&spare).map_err(JournalError::io("cannot look for", &spare))?;
    let made = match space.size() {
        _ if there => Ok(()),
        // To try and fail would leave everybody else on the disk without space for a moment, again and again.
        size if place.files.free(&place.dir) < size => Err(JournalError::NoSpace(spare)),
        size => fill(place, size, Some(space)).map(drop),
    };
    match &made {
        Ok(()) => space.set_low(false),
        Err(JournalError::NoSpace(_)) => space.set_low(true),
        Err(_) => {}
    }
    made
}

/// Makes a spare while somebody waits.
pub(super) fn fill_now(place: &Place, size: u64) -> Result<PathBuf, JournalError> {
    fill(place, size, None)
}

fn fill(place: &Place, size: u64, beside: Option<&Space>) -> Result<PathBuf, JournalError> {
    let spare = place.dir.join(Name::Spare(place.epoch).to_string());
    let new = place.dir.join(format!("{}.new", Name::Spare(place.epoch)));
    let files = place.files.as_ref();
    super::remove(files, &new)?;
    let handle = files.create_new(&new).map_err(JournalError::io("cannot create", &new))?;
    if let Err(e) = zeros(handle.as_ref(), &new, size, beside) {
        // Give the space back; if that fails too, a later owner removes it.
        let _ = files.remove(&new);
        return Err(e);
    }
    files.rename(&new, &spare).map_err(JournalError::io("cannot rename to", &spare))?;
    files.sync_dir(&place.dir).map_err(JournalError::io("cannot sync", &place.dir))?;
    Ok(spare)
}

/// `size` bytes of zero, durable. `beside` somebody who writes: in small pieces with pauses, until the writer waits for it.
fn zeros(handle: &dyn Handle, path: &Path, size: u64, beside: Option<&Space>) -> Result<(), JournalError> {
    let failed = || JournalError::io("cannot write", path);
    let zeros = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE))];
    let (mut at, mut piece) = (0, if beside.is_some() { SMALL_PIECE } else { PIECE });
    while at < size {
        let began = Instant::now();
        let part = (size - at).min(piece.min(zeros.len()) as u64);
        handle.write_at(&zeros[..part as usize], at).map_err(failed())?;
        at += part;
        let Some(space) = beside.filter(|_| piece == SMALL_PIECE && at < size) else { continue };
        handle.sync().map_err(failed())?;
        let haste = space.pause((began.elapsed() * PAUSE).min(LONGEST_PAUSE));
        if haste.stop {
            return Err(JournalError::Stopped);
        }
        if haste.awaited {
            piece = PIECE;
        }
    }
    handle.sync().map_err(failed())
}

/// Removes spares and unfinished files of older owners, and our own unfinished ones: they take up space.
pub(super) fn remove_stale(place: &Place) -> Result<(), JournalError> {
    let names = place.files.list(&place.dir).map_err(JournalError::io("cannot list", &place.dir))?;
    for text in names {
        let stale = match Name::parse(&text) {
            Some(Name::Spare(epoch) | Name::Unfinished(epoch, _)) => epoch <= place.epoch,
            _ => false,
        };
        if stale {
            super::remove(place.files.as_ref(), &place.dir.join(text))?;
        }
    }
    Ok(())
}

/// Makes a segment of the spare.
pub(super) fn adopt(
    place: &Place,
    spare: &Path,
    header: &Header,
) -> Result<(Box<dyn Handle>, PathBuf), JournalError> {
    let files = place.files.as_ref();
    let path = place.dir.join(Name::Segment(place.epoch, header.number).to_string());
    let handle = files.open_write(spare).map_err(JournalError::io("cannot open", spare))?;
    handle.write_at(&header.bytes(), 0).map_err(JournalError::io("cannot write", spare))?;
    handle.sync().map_err(|source| JournalError::Io { what: "cannot sync", path: spare.into(), source })?;
    files.rename(spare, &path).map_err(JournalError::io("cannot rename to", &path))?;
    // From here on the segment before must not grow: whatever the error is, it is not "nothing written".
    files.sync_dir(&place.dir).map_err(|source| JournalError::Io {
        what: "cannot sync",
        path: place.dir.clone(),
        source,
    })?;
    Ok((handle, path))
}
