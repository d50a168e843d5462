//! The embedded store: a journal per lock manager, each with a thread that writes (group commit: what arrives while one batch is
//! being made durable forms the next) and one that keeps house (spare segments, snapshots).
//!
//! Must never call back with an outcome before it is one, nor lose a callback.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::JournalError;
use super::files::Files;
use super::load::{self, How};
use super::names::Name;
use super::owner::Owner;
use super::writer::{Place, Writer};
use super::{Options, epoch, snapshot};
use crate::store::ledger::Ledger;
use crate::store::lock_store::{Batch, Done, Epoch, Listed, LoadReport, LoadSink, LockStore, Outcome};
use crate::store::record::Record;

/// Tells Unix seconds.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// Entries of earlier owners that are compacted while the take-over waits, some milliseconds: more are in the background, and are begun anew if
/// the stay is a short one.
const COMPACT_AT_ONCE: u64 = 10_000;
/// Journals below one directory, or wherever [`Journals::place`] says.
pub struct Journals {
    files: Arc<dyn Files>,
    base: PathBuf,
    options: Options,
    clock: Clock,
    /// Without threads: [`Journals::step`] does the work.
    stepped: bool,
    dirs: Mutex<BTreeMap<String, PathBuf>>,
    /// There are few, and they are looked for with every batch.
    owners: Mutex<BTreeMap<String, Arc<Owner>>>,
    /// Those that were to end while their disk hung, until it answers. At most one for each lock manager and stay.
    lingering: Mutex<Vec<(String, Arc<Owner>)>>,
}

impl Journals {
    /// Journals in `base`, one directory per lock manager.
    pub fn new(files: Arc<dyn Files>, base: PathBuf, options: Options) -> Self {
        Self::with(files, base, options, Box::new(now), false)
    }

    /// The same without threads of its own, and with a clock that tells Unix seconds: whoever has it calls [`Journals::step`] and, now and
    /// then, [`Journals::keep_house`]. For the simulator, in which one seed is one run.
    pub fn stepped(files: Arc<dyn Files>, base: PathBuf, options: Options, clock: Clock) -> Self {
        Self::with(files, base, options, clock, true)
    }

    fn with(files: Arc<dyn Files>, base: PathBuf, options: Options, clock: Clock, stepped: bool) -> Self {
        Self {
            files,
            base,
            options,
            clock,
            stepped,
            dirs: Mutex::default(),
            owners: Mutex::default(),
            lingering: Mutex::default(),
        }
    }

    /// Writes what waits for it, or flushes, of one lock manager. False: there is nothing to do.
    pub fn step(&self, lock_manager: &str) -> bool {
        let owner = lock(&self.owners).get(lock_manager).cloned();
        owner.is_some_and(|owner| owner.step())
    }

    /// Makes a spare segment or a snapshot, if need be.
    pub fn keep_house(&self, lock_manager: &str) {
        let owner = lock(&self.owners).get(lock_manager).cloned();
        if let Some(owner) = owner {
            owner.do_chores();
        }
    }

    /// Whether batches wait to be written.
    pub fn has_work(&self, lock_manager: &str) -> bool {
        lock(&self.owners).get(lock_manager).is_some_and(|owner| owner.has_work())
    }

    /// Puts a lock manager's journal elsewhere: on the disk that moves with its address. The directory is never made here: were
    /// its disk not mounted, the record would seem to be a new one.
    pub fn place(&self, lock_manager: &str, dir: PathBuf) {
        lock(&self.dirs).insert(lock_manager.to_owned(), dir);
    }

    /// Where it was placed, if it was.
    pub fn placed(&self, lock_manager: &str) -> Option<PathBuf> {
        lock(&self.dirs).get(lock_manager).cloned()
    }

    /// Undoes a [`Journals::place`]: what [`Journals::placed`] said before counts again.
    pub fn put_back(&self, lock_manager: &str, before: Option<PathBuf>) {
        match before {
            Some(dir) => self.place(lock_manager, dir),
            None => self.forget_place(lock_manager),
        }
    }

    /// Puts it back below the base directory. What was recorded elsewhere stays there.
    pub fn forget_place(&self, lock_manager: &str) {
        lock(&self.dirs).remove(lock_manager);
    }

    /// Whether a journal lies in this directory.
    ///
    /// # Errors
    /// It cannot be listed. One that is not there has none.
    pub fn has_record_in(&self, dir: &Path) -> Result<bool, JournalError> {
        newest_or_none(self.files.as_ref(), dir).map(|newest| newest > 0)
    }

    /// Where a lock manager's journal lies that was not placed elsewhere.
    pub fn usual_dir(&self, lock_manager: &str) -> PathBuf {
        self.base.join(directory_name(lock_manager))
    }

    /// Where a lock manager's journal lies.
    pub fn dir(&self, lock_manager: &str) -> PathBuf {
        match lock(&self.dirs).get(lock_manager) {
            Some(dir) => dir.clone(),
            None => self.base.join(directory_name(lock_manager)),
        }
    }

    /// Marks the record as handed over to another place and stops writing: it will not be taken up here again unless it is
    /// imported or forced. Every file is closed when this returns.
    pub fn hand_over(&self, lock_manager: &str, epoch: Epoch, to: &str) -> Result<(), JournalError> {
        self.end(lock_manager, epoch, Record::HandedOver { time: (self.clock)(), to: to.into() })?;
        epoch::mark_handed_over(self.files.as_ref(), &self.dir(lock_manager), epoch.0)
    }

    /// Gives a lock manager that is not loaded here away, whether it was released or its owner died: it will not be taken up here again
    /// unless it is imported or forced. Whoever owns it after all is superseded, so it is refused if its last owner was neither
    /// `label` nor released it. Doing it twice changes nothing. Returns the epoch that was handed over.
    ///
    /// # Errors
    /// [`JournalError::OwnedElsewhere`], [`JournalError::Nothing`], and those of raising and loading.
    pub fn hand_over_idle(&self, lock_manager: &str, label: &str) -> Result<Epoch, JournalError> {
        super::transfer::hand_over(self.files.as_ref(), &self.dir(lock_manager), lock_manager, Some(label))
    }

    /// The directory of a lock manager's journal, made if it lies in the usual place.
    ///
    /// # Errors
    /// [`JournalError::NoDirectory`], if it lies elsewhere and is not there.
    pub fn prepare_dir(&self, lock_manager: &str) -> Result<PathBuf, JournalError> {
        let placed = lock(&self.dirs).get(lock_manager).cloned();
        if let Some(dir) = placed {
            let there = self.files.exists(&dir).map_err(JournalError::io("cannot look for", &dir))?;
            return if there { Ok(dir) } else { Err(JournalError::NoDirectory(dir)) };
        }
        let dir = self.dir(lock_manager);
        self.files.make_dir(&dir).map_err(JournalError::io("cannot create", &dir))?;
        for above in dir.ancestors().skip(1).take(2).filter(|above| !above.as_os_str().is_empty()) {
            self.files.sync_dir(above).map_err(JournalError::io("cannot sync", above))?;
        }
        Ok(dir)
    }

    /// Raises the epoch if it still is `last`: who raised it since is not superseded.
    ///
    /// # Errors
    /// [`JournalError::Superseded`]: it is not; and those of raising.
    pub fn raise_epoch_after(&self, lock_manager: &str, last: Epoch) -> Result<Epoch, JournalError> {
        let dir = self.prepare_dir(lock_manager)?;
        epoch::raise_after(self.files.as_ref(), &dir, last.0).map(Epoch)
    }

    /// Loads the record into a table, as [`LockStore::load`].
    ///
    /// # Errors
    /// As there.
    pub fn load_ledger(
        &self,
        lock_manager: &str,
        epoch: Epoch,
    ) -> Result<(LoadReport, Ledger), JournalError> {
        let dir = self.dir(lock_manager);
        epoch::check(self.files.as_ref(), &dir, epoch.0)?;
        load::load_into(self.files.as_ref(), &dir, How::of_owner(lock_manager, epoch.0), &mut Ledger::apply)
    }

    /// Replaces what earlier owners have left by a snapshot. False: it cannot be done now.
    fn compact_before(&self, writer: &Writer, loaded: &LoadReport) -> bool {
        let done = snapshot::compact(self.files.as_ref(), &writer.job_before(loaded.last));
        if let Err(e) = &done {
            tracing::warn!("what earlier owners have left is not compacted: {e}");
        }
        done.is_ok()
    }

    /// Whether earlier owners have left as many segments as one may fill.
    fn has_piled_up(&self, dir: &Path, mine: u64) -> Result<bool, JournalError> {
        let names = self.files.list(dir).map_err(JournalError::io("cannot list", dir))?;
        let older =
            |name: &&String| matches!(Name::parse(name), Some(Name::Segment(epoch, _)) if epoch < mine);
        Ok(names.iter().filter(older).count() as u64 >= self.options.compact_after)
    }

    /// A record that could not be begun was none: whoever tries again would take its epoch for all that is left of one.
    fn forget_if_new(&self, dir: &Path, epoch: Epoch, loaded: &LoadReport) {
        if epoch.0 != 1 || loaded.built_on != 0 || !loaded.complete {
            return;
        }
        let Ok(names) = self.files.list(dir) else { return };
        let first = Name::Epoch(1).to_string();
        let nothing_else = |name: &String| {
            *name == first
                || matches!(Name::parse(name), None | Some(Name::Spare(1) | Name::Unfinished(1, _)))
        };
        if names.iter().all(nothing_else)
            && let Err(e) = self.files.remove(&dir.join(&first)).and_then(|()| self.files.sync_dir(dir))
        {
            tracing::warn!("{} stays, though the record was not begun: {e}", dir.join(&first).display());
        }
    }

    /// Newest epoch, and whether it was handed over.
    fn look_at(&self, dir: &Path) -> Result<(u64, bool), JournalError> {
        let epoch = newest_or_none(self.files.as_ref(), dir)?;
        Ok((epoch, epoch > 0 && epoch::handed_over(self.files.as_ref(), dir, epoch)?))
    }

    /// The file system that the journals lie in.
    pub fn files(&self) -> &dyn Files {
        self.files.as_ref()
    }

    fn owner(&self, lock_manager: &str, epoch: Epoch) -> Option<Arc<Owner>> {
        lock(&self.owners).get(lock_manager).filter(|owner| owner.epoch == epoch.0).cloned()
    }

    fn end(&self, lock_manager: &str, epoch: Epoch, last: Record) -> Result<(), JournalError> {
        let Some(owner) = self.owner(lock_manager, epoch) else {
            return Err(JournalError::Failed("this epoch is not being written here".into()));
        };
        lock(&self.owners).remove(lock_manager);
        self.stop(lock_manager, owner, Some(last))
    }

    fn stop(&self, lock_manager: &str, owner: Arc<Owner>, last: Option<Record>) -> Result<(), JournalError> {
        let ended = owner.stop(last);
        if owner.hangs() {
            lock(&self.lingering).push((lock_manager.to_owned(), owner));
        }
        ended
    }

    /// Whether an earlier stay of this lock manager has not ended yet, as its disk does not answer: files in its directory are still open.
    /// Says which.
    pub fn hangs(&self, lock_manager: &str) -> Option<PathBuf> {
        let mut lingering = lock(&self.lingering);
        lingering.retain(|(_, owner)| owner.hangs());
        lingering.iter().find(|(name, _)| name == lock_manager).map(|(_, owner)| owner.dir().to_owned())
    }
}

impl LockStore for Journals {
    fn list(&self) -> Result<Vec<Listed>, JournalError> {
        let mut names: BTreeMap<String, PathBuf> = lock(&self.dirs).clone();
        match self.files.list(&self.base) {
            Ok(found) => {
                for name in found.iter().filter_map(|name| lock_manager_name(name)) {
                    names.entry(name).or_insert_with_key(|name| self.base.join(directory_name(name)));
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(JournalError::io("cannot list", &self.base)(e)),
        }
        let mut listed = Vec::new();
        for (lock_manager, dir) in names {
            match self.look_at(&dir) {
                Ok((0, _)) => {}
                Ok((epoch, handed_over)) => {
                    listed.push(Listed { lock_manager, epoch: Epoch(epoch), handed_over, problem: None });
                }
                Err(e) => listed.push(Listed {
                    lock_manager,
                    epoch: Epoch(0),
                    handed_over: false,
                    problem: Some(e.to_string()),
                }),
            }
        }
        listed.sort_by(|a, b| a.lock_manager.cmp(&b.lock_manager));
        Ok(listed)
    }

    fn read_epoch(&self, lock_manager: &str) -> Result<Epoch, JournalError> {
        newest_or_none(self.files.as_ref(), &self.dir(lock_manager)).map(Epoch)
    }

    fn raise_epoch(&self, lock_manager: &str, force: bool) -> Result<Epoch, JournalError> {
        let dir = self.prepare_dir(lock_manager)?;
        epoch::raise(self.files.as_ref(), &dir, force).map(Epoch)
    }

    fn load(
        &self,
        lock_manager: &str,
        epoch: Epoch,
        sink: &mut LoadSink<'_>,
    ) -> Result<LoadReport, JournalError> {
        let dir = self.dir(lock_manager);
        epoch::check(self.files.as_ref(), &dir, epoch.0)?;
        let how = How::of_owner(lock_manager, epoch.0);
        load::load(self.files.as_ref(), &dir, how, &mut |_, loaded| sink(loaded))
    }

    fn own(&self, lock_manager: &str, epoch: Epoch, loaded: &LoadReport) -> Result<(), JournalError> {
        let place = Place {
            files: self.files.clone(),
            dir: self.dir(lock_manager),
            name: lock_manager.to_owned(),
            epoch: epoch.0,
        };
        let writer = Writer::open(place, &self.options, loaded, (self.clock)())
            .inspect_err(|_| self.forget_if_new(&self.dir(lock_manager), epoch, loaded))?;
        // Damage must not be met again and again: a snapshot of what was kept replaces it. Nor must the files of many short stays pile up.
        let mut compact = !loaded.findings.is_empty();
        if !compact && self.has_piled_up(&self.dir(lock_manager), epoch.0)? {
            compact = loaded.entries > COMPACT_AT_ONCE || !self.compact_before(&writer, loaded);
        }
        let owner = Owner::start(writer, &self.options, epoch.0, compact, self.stepped)?;
        let before = lock(&self.owners).insert(lock_manager.to_owned(), owner);
        if let Some(before) = before {
            // It is superseded: what it could not write any more is of no account.
            let _ = self.stop(lock_manager, before, None);
        }
        Ok(())
    }

    fn append(&self, lock_manager: &str, epoch: Epoch, batch: Batch, done: Done) {
        match self.owner(lock_manager, epoch) {
            Some(owner) => owner.push(batch, done),
            None => done(Outcome::Failed("this epoch is not being written here".into())),
        }
    }

    fn is_low(&self, lock_manager: &str) -> bool {
        lock(&self.owners).get(lock_manager).is_some_and(|owner| owner.is_low())
    }

    fn compact(&self, lock_manager: &str, epoch: Epoch) -> Result<(), JournalError> {
        match self.owner(lock_manager, epoch) {
            Some(owner) => owner.compact(),
            None => Err(JournalError::Failed("this epoch is not being written here".into())),
        }
    }

    fn release(&self, lock_manager: &str, epoch: Epoch) -> Result<(), JournalError> {
        self.end(lock_manager, epoch, Record::Released { time: (self.clock)() })
    }
}

impl Drop for Journals {
    /// Stops the threads; nothing is marked as released.
    fn drop(&mut self) {
        let owners: Vec<_> = std::mem::take(&mut *lock(&self.owners)).into_values().collect();
        owners.iter().for_each(|owner| owner.ask_to_stop(None));
        // One that hangs does not cost the others their time: what they have left is closed by themselves.
        let until = std::time::Instant::now() + super::owner::CLOSE;
        for owner in owners {
            let _ = owner.wait_for_end(until);
        }
    }
}

fn newest_or_none(files: &dyn Files, dir: &Path) -> Result<u64, JournalError> {
    match epoch::newest(files, dir) {
        Err(e) if e.is_gone() => Ok(0),
        other => other,
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A lock manager's name as the name of a directory: what is not a letter, digit, `.`, `:`, `-` or `_` becomes `%XX`.
fn directory_name(lock_manager: &str) -> String {
    let mut out = String::new();
    for (i, b) in lock_manager.bytes().enumerate() {
        let plain = b.is_ascii_alphanumeric() || b":-_".contains(&b) || (b == b'.' && i > 0);
        if plain { out.push(b.into()) } else { out.push_str(&format!("%{b:02X}")) }
    }
    out
}

fn lock_manager_name(directory: &str) -> Option<String> {
    if Name::parse(directory).is_some() {
        return None;
    }
    let bytes = crate::store::state_dir::unescape(directory)?;
    let name = String::from_utf8(bytes).ok()?;
    (directory_name(&name) == directory).then_some(name)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere must not turn into silence here: the writer itself knows whether it may go on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
