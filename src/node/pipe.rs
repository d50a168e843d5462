// SEE COORDINATION.md in the root of this worktree before you change this file; then remove this line and that file.
//! The way out of one lock manager: entries go to its journal, and what depends on them leaves behind them, in order.
//!
//! One batch is with the store at a time; what arrives meanwhile forms the next. *Everything* that speaks for a lock manager goes through
//! here, also an answer with nothing to write: the store confirms the epoch after each batch, so a node that was superseded says nothing.
//! Must never let anything out before the store said *durable*, in another order, or after the lock manager was given up.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::desk::GrantedOrder;
use super::host::Host;
use super::statd::Statd;
use super::unwritten::{Bytes, Unwritten};
use super::waits::{Barrier, Joint, LONGEST};
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
pub(super) enum Release {
    /// An answer.
    Reply(Answer, Reply),
    /// A callback.
    Granted(Box<GrantedOrder>),
    /// The end of a callback.
    Stop(GrantId),
    /// Somebody here wants to know that all before this is durable.
    Tell(Box<dyn FnOnce() + Send>),
}

/// What waits behind entries.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are answers: a box for each would cost more than it saves"
)]
pub(super) enum Held {
    One(Release),
    Part(Arc<Joint>),
    /// Entries of another lock manager.
    Turn(Arc<Barrier>),
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
    flying: Option<Vec<Held>>,
    /// Since when.
    flying_since: Option<Instant>,
    waiting: usize,
    trouble: Option<String>,
    fallen: Option<Fall>,
    /// What waits to be written still is, but nothing new comes, and nothing is said any more.
    closing: bool,
    /// What is not durable yet.
    unwritten: Unwritten,
    /// It was given up with changes that may not be in its record: see [`Pipe::is_stray`].
    stray: bool,
    /// What others have decided since on the bytes of those.
    stranded: Vec<Arc<Joint>>,
}

/// What was pushed together.
struct Item {
    entries: Vec<Entry>,
    held: Vec<Held>,
    after: Option<Arc<Barrier>>,
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
            flying_since: None,
            waiting: 0,
            trouble: None,
            unwritten: Unwritten::default(),
            stray: false,
            stranded: Vec::new(),
            fallen: None,
            closing: false,
        };
        let stay = STAYS.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { lm, stay, outlet, inner: Mutex::new(inner), low: AtomicBool::new(false) })
    }

    /// Whose it is.
    pub(super) fn lm(&self) -> IpAddr {
        self.lm
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

    /// Nothing leaves any more; what waits is dropped, and with it the answers. What others have to say on bytes that were changed here
    /// goes on waiting where the change is not durable: see [`Pipe::is_stray`].
    pub(super) fn shut(&self) {
        self.end(self.inner(), None);
    }

    fn end(&self, mut inner: MutexGuard<'_, Inner>, fallen: Option<Fall>) {
        let opened = matches!(inner.way, Way::Open(..));
        inner.way = Way::Dead;
        if fallen.is_some() {
            inner.fallen = fallen;
        }
        // A record that was never opened has nothing that could contradict.
        inner.stray |= opened && !inner.unwritten.is_empty() && !mutant!(StrandedLetGo);
        if !inner.stray {
            inner.unwritten.clear();
        }
        let (queue, flying) = (std::mem::take(&mut inner.queue), inner.flying.take());
        inner.waiting = 0;
        let held = queue.into_iter().flat_map(|item| item.held).chain(flying.into_iter().flatten());
        let rest = inner.strand(held.collect());
        drop(inner);
        rest.into_iter().for_each(|h| self.drop_or_let_out(h));
    }

    /// Whether it was given up with changes that may not be in its record, as the disk was full, or hangs, or failed. Who had the bytes that were freed
    /// may have them in the record still; so others who were given them since are told only once the record has been settled: by a late
    /// answer of the disk, or by taking the lock manager up anew.
    pub(super) fn is_stray(&self) -> bool {
        self.inner().stray
    }

    /// The record says by now what others were given.
    pub(super) fn reconcile(&self) {
        let mut inner = self.inner();
        inner.stray = false;
        inner.unwritten.clear();
        let stranded = std::mem::take(&mut inner.stranded);
        drop(inner);
        // Of its own nothing is said: that stay is over.
        let said = stranded.into_iter().flat_map(|joint| joint.arrived(self, false));
        said.for_each(|release| (self.outlet.let_out)(release));
    }

    /// What the core has decided so far is still written, as others on the same files may have gone on from there; but nobody is told of it
    /// any more, and what comes from here on is of no account.
    pub(super) fn close(&self) {
        self.inner().closing = true;
    }

    /// Puts entries and what depends on them at the end.
    pub(super) fn push(self: &Arc<Self>, entries: Vec<Entry>, held: Vec<Held>) {
        self.push_after(None, entries, held);
    }

    /// The same; the entries, and with them all that comes behind, wait for a barrier.
    pub(super) fn push_after(
        self: &Arc<Self>,
        after: Option<Arc<Barrier>>,
        entries: Vec<Entry>,
        held: Vec<Held>,
    ) {
        let mut inner = self.inner();
        let (entries, held) = match inner.closing {
            true => (Vec::new(), held.into_iter().filter(|h| !h.is_said()).collect()),
            false => (entries, held),
        };
        if matches!(inner.way, Way::Dead) {
            let rest = inner.strand(held);
            drop(inner);
            rest.into_iter().for_each(|h| self.drop_or_let_out(h));
            return;
        }
        inner.waiting += entries.len() + held.len();
        inner.unwritten.add(&entries);
        let (mut rest, mut after) = (entries, after);
        while rest.len() > BATCH_MAX {
            let tail = rest.split_off(BATCH_MAX);
            let entries = std::mem::replace(&mut rest, tail);
            inner.queue.push_back(Item { entries, held: Vec::new(), after: after.take() });
        }
        inner.queue.push_back(Item { entries: rest, held, after });
        self.go_on(inner);
    }

    /// Whether a change of any of these bytes is not durable yet.
    pub(super) fn has_unwritten(&self, bytes: &[Bytes]) -> bool {
        self.inner().unwritten.meets(bytes)
    }

    /// The same, of a record that is being written: one that is not open yet has nothing that could contradict another, and for one whose disk is
    /// full or hangs nobody can wait.
    pub(super) fn is_writing(&self, bytes: &[Bytes]) -> bool {
        let inner = self.inner();
        let hangs = inner
            .flying_since
            .is_some_and(|at| self.outlet.host.now().saturating_duration_since(at) >= LONGEST);
        let writes = matches!(inner.way, Way::Open(..)) && inner.trouble.is_none() && !hangs;
        writes && inner.unwritten.meets(bytes)
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

    /// What was in the way of its entries may be gone.
    pub(super) fn look_again(self: &Arc<Self>) {
        self.go_on(self.inner());
    }

    /// Where it waits.
    pub(super) fn host(&self) -> Arc<dyn Host> {
        self.outlet.host.clone()
    }

    /// Gives the next batch to the store, if it has none.
    fn go_on(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>) {
        let Way::Open(store, name, epoch) = inner.way.clone() else { return };
        if inner.flying.is_some() || !inner.queue.front().is_some_and(Item::may_go) {
            return;
        }
        let (mut entries, mut held) = (Vec::new(), Vec::new());
        while let Some(item) = inner.queue.pop_front() {
            entries.extend(item.entries);
            held.extend(item.held);
            let fits = |next: &Item| next.may_go() && entries.len() + next.entries.len() <= BATCH_MAX;
            if !inner.queue.front().is_some_and(fits) {
                break;
            }
        }
        inner.flying = Some(held);
        inner.flying_since = Some(self.outlet.host.now());
        // The store may answer at once, and then it needs the mutex.
        drop(inner);
        self.write(store, name, epoch, entries);
    }

    fn write(self: &Arc<Self>, store: Arc<dyn LockStore>, name: String, epoch: Epoch, entries: Vec<Entry>) {
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
        (store, name, epoch, entries): (Arc<dyn LockStore>, String, Epoch, Vec<Entry>),
    ) {
        // Now, not at the next look: within a second what is kept for UNLOCK would be used up.
        self.set_low(store.is_low(&name));
        match outcome {
            Outcome::Durable(_) => self.durable(entries),
            Outcome::Superseded(_) if mutant!(SupersededSpeaks) => self.durable(entries),
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

    fn durable(self: &Arc<Self>, entries: Vec<Entry>) {
        let mut inner = self.inner();
        inner.unwritten.remove(&entries);
        inner.flying_since = None;
        let settled = inner.stray && inner.unwritten.is_empty();
        drop(inner);
        if settled {
            // Late, but all of it is in the record.
            return self.reconcile();
        }
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
        for held in held {
            self.leave(held, true, mute).into_iter().for_each(|release| (self.outlet.let_out)(release));
        }
        let mut inner = self.inner();
        inner.flying = None;
        self.go_on(inner);
    }

    /// What may leave. `mute`: nothing that anybody but us hears.
    fn leave(&self, held: Held, durable: bool, mute: bool) -> Vec<Release> {
        match held {
            Held::One(release) => {
                let said = !matches!(release, Release::Tell(_));
                if durable && !(said && mute) { vec![release] } else { Vec::new() }
            }
            Held::Part(joint) => joint.arrived(self, durable && !mute),
            Held::Turn(barrier) => {
                barrier.open(1);
                Vec::new()
            }
        }
    }

    /// Nothing of ours leaves any more; but others may have waited for us.
    fn drop_or_let_out(&self, held: Held) {
        self.leave(held, false, true).into_iter().for_each(|release| (self.outlet.let_out)(release));
    }

    fn fall(&self, why: Fall) {
        let inner = self.inner();
        if matches!(inner.way, Way::Dead) {
            return;
        }
        self.end(inner, Some(why));
        (self.outlet.fallen)(self.lm);
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

impl Held {
    /// Whether it is for somebody else to hear, and of this lock manager alone.
    fn is_said(&self) -> bool {
        matches!(self, Held::One(release) if !matches!(release, Release::Tell(_)))
    }
}

impl Item {
    fn may_go(&self) -> bool {
        self.after.as_ref().is_none_or(|barrier| barrier.is_open())
    }
}

impl Inner {
    /// Keeps what waits for others' sake, if anything of this one is not durable, and returns the rest.
    fn strand(&mut self, held: Vec<Held>) -> Vec<Held> {
        if !self.stray {
            return held;
        }
        let mut rest = Vec::new();
        for held in held {
            match held {
                // Past the limit the others' answers are dropped: their clients ask again.
                Held::Part(_) if self.stranded.len() >= WAITING_MAX => {}
                Held::Part(joint) => self.stranded.push(joint),
                other => rest.push(other),
            }
        }
        rest
    }
}
