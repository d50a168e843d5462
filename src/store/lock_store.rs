//! What the node asks of a place that keeps the durable record of lock managers: the embedded journal, later a shared store.
//!
//! Honest for both: appending is asynchronous and batched, the epoch is compared with each batch, an outcome may stay unknown.
//! Must never say *durable* of a batch whose epoch was not confirmed **after** it became durable.

use std::sync::Arc;

use super::journal::{Finding, JournalError};
use super::record::Entry;
use super::seen::Seen;

/// An epoch of a lock manager: a number that only grows, raised by each take-over. 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What goes into the record together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In order. None at all: only the epoch is confirmed (for a reply that has nothing to write).
    /// Shared: whoever gives it away may want to try again.
    pub entries: Arc<Vec<Entry>>,
    /// May use the space that is kept free on a full disk: UNLOCK, CANCEL, reclaim, and what must not be refused.
    pub essential: bool,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the record as durably as the lock manager's setting asks, and the epoch was still ours after that: what
    /// depends on it may leave. The number is the sequence of the last record.
    Durable(u64),
    /// Somebody has taken the lock manager over, at this epoch: be silent. The batch is void.
    Superseded(Epoch),
    /// No space, or too much queued already; surely nothing of it is in the record. A new LOCK may be denied, others try
    /// again.
    NoSpace,
    /// An entry broke a limit; surely nothing of the batch is in the record.
    Refused(Arc<str>),
    /// It may or may not be in the record, now or later. Neither acknowledge nor deny. The store takes no further batch
    /// of this lock manager before it knows: the embedded journal none at all until the lock manager is taken over anew.
    Unknown(Arc<str>),
    /// Nothing of it is in the record, and nothing will be until the lock manager is taken over anew: be silent.
    Failed(Arc<str>),
}

/// Called once with the outcome, in the order of the batches, from the store's thread. Must not block. A batch that is not even
/// queued (nobody owns the epoch, the queue is full) is told so out of order and on the caller's thread, before `append` returns: so
/// hold no lock there that this takes.
pub type Done = Box<dyn FnOnce(Outcome) + Send>;

/// Where a loaded entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A snapshot: replays like any other.
    Snapshot,
    /// The log.
    Log,
    /// Found behind damage: tells which clients there were, but is no proof of a lock. See [`super::Ledger::apply`].
    Salvaged,
}

/// One entry as it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its sequence; 0 for those of a snapshot.
    pub sequence: u64,
    /// What happened.
    pub entry: Entry,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a torn tail was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// File name.
    pub file: String,
    /// Offset of the first byte that does not count.
    pub offset: u64,
}

/// What was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Whether the record is known to be complete. If not, the next window must be full.
    pub complete: bool,
    /// What is damaged, with file and offset. Empty: nothing.
    pub findings: Vec<Finding>,
    /// Something is damaged that the newest owner did not know of when it began.
    pub unaccounted: bool,
    /// A torn tail that was cut: the normal trace of a crash.
    pub torn: Option<Torn>,
    /// Sequence of the last record; 0: none.
    pub last: u64,
    /// Entries delivered.
    pub entries: u64,
    /// The epoch whose record this is; 0: there is none.
    pub built_on: u64,
    /// The last owner released the lock manager, or handed it over, cleanly.
    pub released: bool,
    /// The snapshot that was used.
    pub snapshot: Option<String>,
}

/// What is known of a lock manager without loading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub lock_manager: String,
    /// Its newest epoch.
    pub epoch: Epoch,
    /// It was handed over to another place at that epoch.
    pub handed_over: bool,
    /// Why it cannot be looked at now; the epoch is 0 then.
    pub problem: Option<String>,
}

/// Takes loaded entries, in order.
pub type LoadSink<'a> = dyn FnMut(Seen<'_>) + 'a;

/// A place that keeps records of lock managers, by name. All methods but `append` block: call them from a thread that may.
///
/// Life of an owner: `raise_epoch`, `load`, `own`, then `append` as often as need be, then `release`.
pub trait LockStore: Send + Sync {
    /// The lock managers that have a record here, and those whose place cannot be read: one bad disk must not hide the others.
    fn list(&self) -> Result<Vec<Listed>, JournalError>;

    /// The newest epoch, 0 if the lock manager is unknown. Read anew each time.
    fn read_epoch(&self, lock_manager: &str) -> Result<Epoch, JournalError>;

    /// Raises the epoch by one and returns it; all older owners are superseded when this returns. `force`: even if the lock
    /// manager was handed over. [`JournalError::Superseded`]: somebody else was faster.
    fn raise_epoch(&self, lock_manager: &str, force: bool) -> Result<Epoch, JournalError>;

    /// Loads the record, after raising. What it delivers is durable.
    fn load(
        &self,
        lock_manager: &str,
        epoch: Epoch,
        sink: &mut LoadSink<'_>,
    ) -> Result<LoadReport, JournalError>;

    /// Begins to write at `epoch`, on top of what `load` reported. The entry *opened* is written and durable when this
    /// returns. After an error the epoch is spent: raise again.
    fn own(&self, lock_manager: &str, epoch: Epoch, loaded: &LoadReport) -> Result<(), JournalError>;

    /// Puts a batch behind those before it. Returns at once; `done` is called with the outcome, exactly once.
    fn append(&self, lock_manager: &str, epoch: Epoch, batch: Batch, done: Done);

    /// Whether there is so little space that new locks must be refused: what is left is kept for UNLOCK and reclaim. No system call.
    fn is_low(&self, lock_manager: &str) -> bool;

    /// Replaces what is durable by a snapshot of it, while `append` goes on.
    fn compact(&self, lock_manager: &str, epoch: Epoch) -> Result<(), JournalError>;

    /// Writes *released* behind everything queued and stops writing; every file is closed when this returns.
    fn release(&self, lock_manager: &str, epoch: Epoch) -> Result<(), JournalError>;
}
