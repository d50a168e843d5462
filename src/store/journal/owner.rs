//! Who writes a journal: its thread that commits (group commit: what arrives while one batch is being made durable forms the next), its
//! thread that keeps house (spare segments, snapshots), and the end of both.
//!
//! Must never call back with an outcome before it is one, lose a callback, nor wait for a disk without a bound when it is to end.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::JournalError;
use super::spare::{Space, keep_spare};
use super::writer::{Place, Writer};
use super::{Options, snapshot};
use crate::store::lock_store::{Batch, Done, Epoch, Outcome};
use crate::store::record::{Durability, Record};

/// Most bytes written and synced together: a few milliseconds of any disk.
const GROUP: usize = 1 << 20;
/// How often a full disk is looked at again.
const RETRY: Duration = Duration::from_secs(1);

/// How long the end of an owner waits for its disk, 5 s: longer than a disk may take that is only busy, and shorter than a cluster manager
/// waits for a stop.
pub(super) const CLOSE: Duration = Duration::from_secs(5);

/// The owner of a journal at an epoch.
pub(super) struct Owner {
    pub(super) epoch: u64,
    place: Place,
    options: Options,
    writer: Mutex<Option<Writer>>,
    queue: Mutex<Queue>,
    ready: Condvar,
    /// Only one compaction at a time.
    compacting: Mutex<()>,
    keeper: Mutex<Chores>,
    chores: Condvar,
    space: Arc<Space>,
    /// Has compactions given up.
    stop: Arc<AtomicBool>,
    gone: AtomicBool,
    /// Without threads, see [`Journals::stepped`].
    stepped: bool,
    running: Mutex<Running>,
    ended: Condvar,
}

/// Its threads.
#[derive(Default)]
struct Running {
    threads: u32,
    /// Nobody waits for them any more: the last one closes the files.
    left: bool,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<(Batch, Done)>,
    /// After these batches: write this last entry, or nothing, and end.
    stop: Option<Option<Record>>,
    /// What the last entry came to.
    stopped: Option<Result<(), JournalError>>,
}

#[derive(Default)]
struct Chores {
    look: bool,
    compact: bool,
    stop: bool,
}

impl Owner {
    pub(super) fn start(
        writer: Writer,
        options: &Options,
        epoch: u64,
        compact: bool,
        stepped: bool,
    ) -> Result<Arc<Self>, JournalError> {
        let owner = Arc::new(Owner {
            epoch,
            place: writer.place().clone(),
            options: options.clone(),
            space: writer.space(),
            stop: writer.stop(),
            writer: Mutex::new(Some(writer)),
            queue: Mutex::default(),
            ready: Condvar::new(),
            compacting: Mutex::default(),
            keeper: Mutex::new(Chores { look: true, compact, stop: false }),
            chores: Condvar::new(),
            gone: AtomicBool::new(false),
            stepped,
            running: Mutex::default(),
            ended: Condvar::new(),
        });
        if stepped {
            return Ok(owner);
        }
        let dir = owner.place.dir.clone();
        for (name, work) in [("journal-commit", Owner::commit as fn(&Owner)), ("journal-keeper", Owner::keep)]
        {
            lock(&owner.running).threads += 1;
            let end = End(owner.clone());
            // A thread that cannot be started drops its end too.
            let spawned = std::thread::Builder::new().name(name.into()).spawn(move || work(&end.0));
            if let Err(e) = spawned {
                let _ = owner.stop(None);
                return Err(JournalError::io("cannot start a thread for", &dir)(e));
            }
        }
        Ok(owner)
    }

    pub(super) fn push(&self, batch: Batch, done: Done) {
        let mut queue = lock(&self.queue);
        if queue.stop.is_some() || self.gone.load(Ordering::Acquire) {
            drop(queue);
            return done(Outcome::Failed("the lock manager is being released".into()));
        }
        if queue.batches.len() >= self.options.queue {
            drop(queue);
            return done(Outcome::NoSpace);
        }
        queue.batches.push_back((batch, done));
        drop(queue);
        if !self.stepped {
            self.ready.notify_one();
        }
    }

    /// Ends both threads behind everything queued, with `last` as the last entry. Closes all files.
    ///
    /// # Errors
    /// [`JournalError::Hangs`]: not within [`CLOSE`]. They end, and the files are closed, as soon as the disk answers.
    pub(super) fn stop(&self, last: Option<Record>) -> Result<(), JournalError> {
        self.ask_to_stop(last);
        self.wait_for_end(Instant::now() + CLOSE)
    }

    /// The first half of [`Owner::stop`].
    pub(super) fn ask_to_stop(&self, last: Option<Record>) {
        lock(&self.queue).stop = Some(last);
        lock(&self.keeper).stop = true;
        // Nobody waits for a spare or a snapshot any more.
        self.stop.store(true, Ordering::Relaxed);
        self.space.stop();
        self.ready.notify_all();
        self.chores.notify_all();
        if self.stepped && !self.gone.load(Ordering::Acquire) {
            // Nobody else writes.
            self.commit();
        }
    }

    /// The second half.
    pub(super) fn wait_for_end(&self, until: Instant) -> Result<(), JournalError> {
        let most = until.saturating_duration_since(Instant::now());
        let ended = self.ended.wait_timeout_while(lock(&self.running), most, |r| r.threads > 0);
        let (mut running, late) = ended.unwrap_or_else(PoisonError::into_inner);
        if late.timed_out() && running.threads > 0 {
            running.left = true;
            return Err(JournalError::Hangs(self.place.dir.clone()));
        }
        drop(running);
        self.close()
    }

    /// Whether batches wait to be written.
    pub(super) fn has_work(&self) -> bool {
        !lock(&self.queue).batches.is_empty()
    }

    /// Where it writes.
    pub(super) fn dir(&self) -> &Path {
        &self.place.dir
    }

    /// Whether the disk is full.
    pub(super) fn is_low(&self) -> bool {
        self.space.is_low()
    }

    /// Whether it was to end and has not, as its disk does not answer.
    pub(super) fn hangs(&self) -> bool {
        let running = lock(&self.running);
        running.left && running.threads > 0
    }

    /// Closes all files. The threads have ended.
    fn close(&self) -> Result<(), JournalError> {
        self.gone.store(true, Ordering::Release);
        let mut queue = lock(&self.queue);
        // A thread that panicked has said so itself; what it owed is told here.
        let owed = std::mem::take(&mut queue.batches);
        let result = queue.stopped.take();
        drop(queue);
        for (_, done) in owed {
            tell(done, Outcome::Failed("the writing thread has ended".into()));
        }
        // A compaction that somebody asked for ends first: it has files open.
        let _only = lock(&self.compacting);
        lock(&self.writer).take();
        result.unwrap_or_else(|| Err(JournalError::Failed("the writing thread has ended".into())))
    }

    fn commit(&self) {
        while let Some(group) = self.next_group() {
            let mut writer = lock(&self.writer);
            let Some(writer) = writer.as_mut() else { return };
            self.write(writer, group);
        }
        let last = lock(&self.queue).stop.take().flatten();
        let mut writer = lock(&self.writer);
        let result = match (writer.as_mut(), last) {
            (Some(writer), Some(last)) => writer.append(&[last.into()], true).map(drop),
            (Some(writer), None) if writer.is_dirty() => writer.sync(),
            _ => Ok(()),
        };
        drop(writer);
        let mut queue = lock(&self.queue);
        queue.stop = Some(None);
        queue.stopped = Some(result);
    }

    /// Writes what came together; nothing: it is time to flush.
    fn write(&self, writer: &mut Writer, group: VecDeque<(Batch, Done)>) {
        if group.is_empty() {
            // What failed is remembered, and said to the next batch.
            let _ = writer.sync();
            return;
        }
        self.carry_out(writer, group);
        if writer.take_rolled() {
            let mut chores = lock(&self.keeper);
            chores.look = true;
            chores.compact |= writer.full_segments() >= self.options.compact_after;
            self.chores.notify_one();
        }
    }

    /// See [`Journals::step`].
    pub(super) fn step(&self) -> bool {
        let group = std::mem::take(&mut lock(&self.queue).batches);
        let mut writer = lock(&self.writer);
        let Some(open) = writer.as_mut() else { return false };
        let dirty = open.is_dirty() && self.options.durability != Durability::None;
        let work = !group.is_empty() || dirty;
        if work {
            self.write(open, group);
        }
        work
    }

    pub(super) fn do_chores(&self) {
        let mut chores = lock(&self.keeper);
        let (look, compact) = (std::mem::take(&mut chores.look), std::mem::take(&mut chores.compact));
        drop(chores);
        if look || compact {
            let again = self.keep_house(compact);
            lock(&self.keeper).look |= again;
        }
    }

    /// Waits for batches. Empty: time to flush. `None`: stop.
    fn next_group(&self) -> Option<VecDeque<(Batch, Done)>> {
        let dirty = lock(&self.writer).as_ref().is_some_and(Writer::is_dirty)
            && self.options.durability != Durability::None;
        let mut queue = lock(&self.queue);
        loop {
            if !queue.batches.is_empty() {
                return Some(std::mem::take(&mut queue.batches));
            }
            if queue.stop.is_some() {
                return None;
            }
            if !dirty {
                queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (next, waited) =
                self.ready.wait_timeout(queue, self.options.flush).unwrap_or_else(PoisonError::into_inner);
            queue = next;
            if waited.timed_out() && queue.batches.is_empty() {
                return Some(VecDeque::new());
            }
        }
    }

    fn carry_out(&self, writer: &mut Writer, group: VecDeque<(Batch, Done)>) {
        let mut staged: Vec<(Batch, Done)> = Vec::with_capacity(group.len());
        for (batch, done) in group {
            if !batch.essential && !batch.entries.is_empty() && self.space.is_low() {
                tell(done, Outcome::NoSpace);
                continue;
            }
            let mark = writer.mark();
            if let Err(e) = writer.stage(&batch.entries) {
                tell(done, Outcome::Refused(e.to_string().into()));
                continue;
            }
            if !staged.is_empty() && !writer.fits(GROUP) {
                writer.unstage(mark);
                self.flush_group(writer, std::mem::take(&mut staged));
                if let Err(e) = writer.stage(&batch.entries) {
                    tell(done, Outcome::Refused(e.to_string().into()));
                    continue;
                }
            }
            staged.push((batch, done));
        }
        if !staged.is_empty() {
            self.flush_group(writer, staged);
        }
    }

    /// Commits what is staged. If there is no space, what may use the reserve is tried again without the rest.
    fn flush_group(&self, writer: &mut Writer, group: Vec<(Batch, Done)>) {
        let mut group = group;
        let mut result = writer.commit(group.iter().all(|(batch, _)| batch.essential));
        let may = |batch: &Batch| batch.essential || batch.entries.is_empty();
        if matches!(result, Err(JournalError::NoSpace(_))) && !group.iter().all(|(batch, _)| may(batch)) {
            let (rest, refused): (Vec<_>, Vec<_>) = group.into_iter().partition(|(batch, _)| may(batch));
            refused.into_iter().for_each(|(_, done)| tell(done, Outcome::NoSpace));
            group = rest;
            if group.is_empty() {
                return;
            }
            let staged = group.iter().try_for_each(|(batch, _)| writer.stage(&batch.entries));
            result = staged.and_then(|()| writer.commit(true));
        }
        let outcome = outcome(result);
        group.into_iter().for_each(|(_, done)| tell(done, outcome.clone()));
    }

    fn keep(&self) {
        let mut look_again = false;
        loop {
            let mut chores = lock(&self.keeper);
            while !chores.stop && !chores.look && !chores.compact && !look_again {
                chores = self.chores.wait(chores).unwrap_or_else(PoisonError::into_inner);
            }
            if look_again && !chores.stop {
                chores = self.chores.wait_timeout(chores, RETRY).unwrap_or_else(PoisonError::into_inner).0;
            }
            if chores.stop {
                return;
            }
            let compact = std::mem::take(&mut chores.compact);
            chores.look = false;
            drop(chores);
            look_again = self.keep_house(compact);
        }
    }

    /// Makes a spare segment, and a snapshot if need be. True: to be done again, as there was no space.
    fn keep_house(&self, compact: bool) -> bool {
        let again = match keep_spare(&self.place, &self.space) {
            Ok(()) | Err(JournalError::Stopped) => false,
            Err(e) => {
                tracing::warn!("{e}");
                true
            }
        };
        match if compact { self.compact() } else { Ok(()) } {
            Ok(()) | Err(JournalError::Stopped) => {}
            Err(e) => tracing::warn!("the journal of {} was not compacted: {e}", self.place.name),
        }
        again
    }

    pub(super) fn compact(&self) -> Result<(), JournalError> {
        let _only = lock(&self.compacting);
        let job = match lock(&self.writer).as_mut() {
            Some(writer) => writer.compaction()?,
            None => return Err(JournalError::Failed("the lock manager is being released".into())),
        };
        snapshot::compact(self.place.files.as_ref(), &job)?;
        if let Some(writer) = lock(&self.writer).as_mut() {
            writer.compacted(&job);
        }
        Ok(())
    }
}

/// Says that a thread has ended, however it ended.
struct End(Arc<Owner>);

impl Drop for End {
    fn drop(&mut self) {
        let mut running = lock(&self.0.running);
        running.threads -= 1;
        let last = running.left && running.threads == 0;
        drop(running);
        self.0.ended.notify_all();
        if last {
            tracing::warn!(dir = %self.0.place.dir.display(), "the disk of a journal that was given up answers again: its files are closed");
            let _ = self.0.close();
        }
    }
}

/// A callback that panics has told so itself; it must not take the writing thread with it, and with that everybody's replies.
fn tell(done: Done, outcome: Outcome) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| done(outcome)));
}

fn outcome(result: Result<u64, JournalError>) -> Outcome {
    match result {
        Ok(last) => Outcome::Durable(last),
        Err(JournalError::NoSpace(_)) => Outcome::NoSpace,
        Err(JournalError::Superseded { newest, .. }) => Outcome::Superseded(Epoch(newest)),
        Err(JournalError::Failed(why)) => Outcome::Failed(why.into()),
        Err(e @ (JournalError::TooLong(_) | JournalError::TooLarge(_))) => {
            Outcome::Refused(e.to_string().into())
        }
        Err(e) => Outcome::Unknown(e.to_string().into()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere must not turn into silence here: the writer itself knows whether it may go on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
