//! The way out of one lock manager: entries go to its journal, and what depends on them leaves behind them, in order.
//!
//! One batch is with the store at a time; what arrives meanwhile forms the next. *Everything* that speaks for a lock manager goes through
//! here, also an answer with nothing to write: the store confirms the epoch after each batch, so a node that was superseded says nothing.
//! Must never let anything out before the store said *durable*, in another order, or after the lock manager was given up.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::desk::GrantedOrder;
use super::host::Host;
use super::statd::Statd;
use crate::rpc::turn::{self, AtEnd};
use crate::service::nlm::Answer;
use crate::state::{GrantId, Reply};
use crate::store::record::{Entry, Record};
use crate::store::{Batch, Epoch, LockStore, Outcome};

/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Entries and answers that wait for the disk. Past it, requests get no answer and change nothing: a slow disk must not fill the
/// memory too.
const WAITING_MAX: usize = 65_536;
/// Entries in one batch: some 200 KB. One command may bring a million (a client that rebooted); they go in pieces.
const BATCH_MAX: usize = 1_024;

/// What an operator is told of a disk that is nearly full.
const LOW: &str =
    "the disk of its journal is full: new locks are refused, what is held can be unlocked and reclaimed";

/// Something that may leave.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every one is an answer, and a box of its own would be an allocation for each request"
)]
pub(super) enum Release {
    /// An answer.
    Reply(Answer, Reply),
    /// A callback.
    Granted(Box<GrantedOrder>),
    /// The end of a callback.
    Stop(GrantId),
    /// Somebody here wants to know that all before this is durable.
    Tell(Box<dyn FnOnce() + Send>),
    /// The lock core wants to know it, by this mark: see [`super::written`].
    Written { lm: IpAddr, mark: u64, soon: bool },
}

impl Release {
    /// Whether it is for somebody else to hear.
    fn is_said(&self) -> bool {
        !matches!(self, Release::Tell(_) | Release::Written { .. })
    }
}

/// Why a lock manager can go on no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fall {
    /// Another node took it over, at this epoch.
    Superseded(Epoch),
    /// Its record cannot be written.
    Failed(Arc<str>),
}

/// What a pipe needs of the node. None of it may block, nor take the desk's mutex.
pub(super) struct Outlet {
    /// Lets a release out.
    pub(super) let_out: Box<dyn Fn(Release) + Send + Sync>,
    /// Hears that a lock manager can go on no longer: [`Pipe::fallen`] says why.
    pub(super) fallen: Box<dyn Fn(IpAddr) + Send + Sync>,
    /// Hears of new clients before anything about them leaves.
    pub(super) statd: Arc<Statd>,
    /// Where waiting is done.
    pub(super) host: Arc<dyn Host>,
}

/// The pipe.
pub(super) struct Pipe {
    lm: IpAddr,
    stay: u64,
    outlet: Arc<Outlet>,
    inner: Mutex<Inner>,
    low: AtomicBool,
}

struct Inner {
    way: Way,
    /// What waits for its turn, in order.
    queue: VecDeque<Item>,
    /// What waits for the batch that is with the store.
    flying: Option<Vec<Release>>,
    waiting: usize,
    trouble: Option<String>,
    fallen: Option<Fall>,
    /// What waits to be written still is, but nothing new comes, and nothing is said any more.
    closing: bool,
}

/// What was pushed together.
struct Item {
    entries: Vec<Entry>,
    held: Vec<Release>,
}

#[derive(Clone)]
enum Way {
    /// The record is being opened: everything waits.
    Opening,
    Open(Arc<dyn LockStore>, String, Epoch),
    /// Given up: nothing leaves any more.
    Dead,
}

impl Pipe {
    /// A pipe in which everything waits until [`Pipe::open`].
    pub(super) fn new(lm: IpAddr, outlet: Arc<Outlet>) -> Arc<Self> {
        static STAYS: AtomicU64 = AtomicU64::new(1);
        let inner = Inner {
            way: Way::Opening,
            queue: VecDeque::new(),
            flying: None,
            waiting: 0,
            trouble: None,
            fallen: None,
            closing: false,
        };
        let stay = STAYS.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { lm, stay, outlet, inner: Mutex::new(inner), low: AtomicBool::new(false) })
    }

    /// The number of this stay of the lock manager here: later ones have greater ones. Never 0.
    pub(super) fn stay(&self) -> u64 {
        self.stay
    }

    /// Why the lock manager can go on no longer; `None`: it can, or was given up.
    pub(super) fn fallen(&self) -> Option<Fall> {
        self.inner().fallen.clone()
    }

    /// The record is open at this epoch.
    pub(super) fn open(self: &Arc<Self>, store: Arc<dyn LockStore>, name: String, epoch: Epoch) {
        let mut inner = self.inner();
        if matches!(inner.way, Way::Opening) {
            inner.way = Way::Open(store, name, epoch);
            inner.trouble = None;
        }
        self.go_on(inner);
    }

    /// Nothing leaves any more; what waits is dropped, and with it the answers.
    pub(super) fn shut(&self) {
        let mut inner = self.inner();
        inner.way = Way::Dead;
        let (queue, flying) = (std::mem::take(&mut inner.queue), inner.flying.take());
        // A disk that answers late has written it all the same.
        let (late, flying): (Vec<_>, Vec<_>) =
            flying.into_iter().flatten().partition(|release| matches!(release, Release::Written { .. }));
        inner.flying = (!late.is_empty()).then_some(late);
        inner.waiting = 0;
        // What is dropped takes locks of its own.
        drop(inner);
        drop((queue, flying));
    }

    /// What the core has decided so far is still written, as others on the same files may have gone on from there; but nobody is told of it
    /// any more, and what comes from here on is of no account.
    pub(super) fn close(&self) {
        self.inner().closing = true;
    }

    /// Puts entries and what depends on them at the end.
    pub(super) fn push(self: &Arc<Self>, entries: Vec<Entry>, held: Vec<Release>) {
        let mut inner = self.inner();
        let (entries, held) = match inner.closing {
            true => (Vec::new(), held.into_iter().filter(|release| !release.is_said()).collect()),
            false => (entries, held),
        };
        if matches!(inner.way, Way::Dead) {
            drop(inner);
            drop(held);
            return;
        }
        inner.waiting += entries.len() + held.len();
        let mut rest = entries;
        while rest.len() > BATCH_MAX {
            let tail = rest.split_off(BATCH_MAX);
            let entries = std::mem::replace(&mut rest, tail);
            inner.queue.push_back(Item { entries, held: Vec::new() });
        }
        inner.queue.push_back(Item { entries: rest, held });
        drop(inner);
        // What one read of a connection brings goes to the store together.
        if !turn::put_off(self) {
            self.go_on(self.inner());
        }
    }

    /// Whether anything may still leave.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.inner().way, Way::Dead)
    }

    /// Whether as much waits as may.
    pub(super) fn is_full(&self) -> bool {
        self.inner().waiting >= WAITING_MAX
    }

    /// Whether the disk is so full that no new lock may be taken.
    pub(super) fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Says whether it is.
    pub(super) fn set_low(&self, low: bool) {
        match (self.low.swap(low, Ordering::Relaxed), low) {
            (false, true) => tracing::error!(lock_manager = %self.lm, "{LOW}"),
            (true, false) => {
                tracing::info!(lock_manager = %self.lm, "there is space for the journal: new locks again")
            }
            _ => {}
        }
    }

    /// Why nothing can be made durable now, or no new lock.
    pub(super) fn trouble(&self) -> Option<String> {
        self.inner().trouble.clone().or_else(|| self.is_low().then(|| LOW.into()))
    }

    /// Whether nothing can be written now, or opened.
    pub(super) fn is_stuck(&self) -> bool {
        self.inner().trouble.is_some()
    }

    /// Notes why the record cannot be opened.
    pub(super) fn set_trouble(&self, text: String) {
        self.inner().trouble = Some(text);
    }

    /// Gives the next batch to the store, if it has none.
    fn go_on(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>) {
        let Way::Open(store, name, epoch) = inner.way.clone() else { return };
        if inner.flying.is_some() || inner.queue.is_empty() {
            return;
        }
        let (mut entries, mut held) = (Vec::new(), Vec::new());
        while let Some(item) = inner.queue.pop_front() {
            entries.extend(item.entries);
            held.extend(item.held);
            let fits = |next: &Item| entries.len() + next.entries.len() <= BATCH_MAX;
            if !inner.queue.front().is_some_and(fits) {
                break;
            }
        }
        inner.flying = Some(held);
        // The store may answer at once, and then it needs the mutex.
        drop(inner);
        self.write(store, name, epoch, Arc::new(entries));
    }

    fn write(
        self: &Arc<Self>,
        store: Arc<dyn LockStore>,
        name: String,
        epoch: Epoch,
        entries: Arc<Vec<Entry>>,
    ) {
        let this = self.clone();
        // Kept for the case that there is no space for it now.
        let batch = Batch { entries: entries.clone(), essential: true };
        let again = (store.clone(), name.clone(), epoch, entries);
        let done = Box::new(move |outcome| this.done(outcome, again));
        store.append(&name, epoch, batch, done);
    }

    fn done(
        self: &Arc<Self>,
        outcome: Outcome,
        (store, name, epoch, entries): (Arc<dyn LockStore>, String, Epoch, Arc<Vec<Entry>>),
    ) {
        // Now, not at the next look: within a second what is kept for UNLOCK would be used up.
        self.set_low(store.is_low(&name));
        match outcome {
            Outcome::Durable(_) => self.durable(&entries),
            Outcome::Superseded(_) if mutant!(SupersededSpeaks) => self.durable(&entries),
            Outcome::NoSpace => {
                self.say_trouble("the disk of its journal is full: everything waits until there is space");
                let this = self.clone();
                self.outlet.host.spawn(Box::pin(async move {
                    this.outlet.host.sleep(RETRY).await;
                    if !matches!(this.inner().way, Way::Dead) {
                        this.write(store, name, epoch, entries);
                    }
                }));
            }
            Outcome::Superseded(newest) => self.fall(Fall::Superseded(newest)),
            Outcome::Refused(why) | Outcome::Unknown(why) | Outcome::Failed(why) => {
                self.fall(Fall::Failed(why));
            }
        }
    }

    fn durable(self: &Arc<Self>, entries: &[Entry]) {
        let clients = || entries.iter().filter(|e| matches!(e.record, Record::Client(..)));
        if !self.outlet.statd.is_enabled() || clients().next().is_none() {
            return self.let_go(entries.len());
        }
        let new: Vec<_> = clients().map(|e| e.record.clone()).collect();
        let (this, count) = (self.clone(), entries.len());
        // rpc.statd must know of a client before its first answer leaves.
        self.outlet.host.spawn(Box::pin(async move {
            for record in new {
                if let Record::Client(client, _) = record {
                    this.outlet.statd.watch(&client.name, client.address).await;
                }
            }
            this.let_go(count);
        }));
    }

    fn let_go(self: &Arc<Self>, written: usize) {
        let mut inner = self.inner();
        // Still marked as flying: the next batch must not overtake what is being let out now.
        let held = inner.flying.as_mut().map(std::mem::take).unwrap_or_default();
        inner.waiting = inner.waiting.saturating_sub(written + held.len());
        let (mended, mute) = (inner.trouble.take().is_some(), inner.closing);
        drop(inner);
        if mended {
            tracing::info!(lock_manager = %self.lm, "the journal can be written again");
        }
        let may_leave = |release: &Release| !(mute && release.is_said());
        turn::during(|| {
            held.into_iter().filter(may_leave).for_each(|release| (self.outlet.let_out)(release))
        });
        let mut inner = self.inner();
        inner.flying = None;
        self.go_on(inner);
    }

    fn fall(&self, why: Fall) {
        let mut inner = self.inner();
        let dead = matches!(inner.way, Way::Dead);
        if !dead {
            inner.way = Way::Dead;
            inner.fallen = Some(why);
        }
        drop(inner);
        self.shut();
        if !dead {
            (self.outlet.fallen)(self.lm);
        }
    }

    fn say_trouble(&self, text: &str) {
        let mut inner = self.inner();
        if inner.trouble.as_deref() != Some(text) {
            tracing::error!(lock_manager = %self.lm, "{text}");
            inner.trouble = Some(text.into());
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole before the guard goes.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AtEnd for Pipe {
    fn at_end(self: Arc<Self>) {
        self.go_on(self.inner());
    }
}

/// Answers a caller once all that was decided so far about some lock managers is durable. If it cannot become so, the caller hears nothing, and
/// asks again.
pub(super) fn answer_when_durable(pipes: &[Arc<Pipe>], answer: impl FnOnce() + Send + 'static) {
    type Last = (AtomicUsize, Mutex<Option<Box<dyn FnOnce() + Send>>>);
    if pipes.is_empty() {
        return answer();
    }
    let shared: Arc<Last> = Arc::new((AtomicUsize::new(pipes.len()), Mutex::new(Some(Box::new(answer)))));
    for pipe in pipes {
        let shared = shared.clone();
        // Whoever comes last answers; one that is dropped never comes.
        let arrived = move || {
            if shared.0.fetch_sub(1, Ordering::AcqRel) == 1
                && let Some(answer) = shared.1.lock().unwrap_or_else(PoisonError::into_inner).take()
            {
                answer();
            }
        };
        pipe.push(Vec::new(), vec![Release::Tell(Box::new(arrived))]);
    }
}
