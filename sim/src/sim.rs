//! The world of a run: time and what is due. Everything happens in one thread, in an order that the seed decides. What the world is made of
//! has a file each: the machines (`machines`), what daemons do in them (`work`), the clients (`clients`), the network between them
//! (`network`).
//!
//! Must never use a clock, a thread or a number of the machine that it runs on.

mod clients;
mod machines;
mod network;
mod work;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Instant;

use lockferry_checker::history::{Event, Micros};

use crate::executor::Executor;
use crate::life::{Job, Life};
use crate::output;
use crate::random::Random;
use crate::settings::{Plan, Settings};
use crate::watcher::Watcher;

use clients::ClientPlace;
pub use machines::Machine;
use network::Ways;
pub use network::{End, Packet};

/// Things that happen in a run at the most, if it is no denser than its seed says; the busiest have some hundred thousand. Past it something goes round in circles.
const MOST: u64 = 3_000_000;

/// What is due.
pub enum What {
    /// A message arrives at an address.
    ToServer(Packet),
    /// A message has arrived at a daemon that stood still.
    Queued(Arc<Life>, Packet),
    /// A message from an address arrives at a client.
    ToClient(usize, IpAddr, Vec<u8>),
    /// A client's connections to an address are found dead.
    ClientReset(usize, IpAddr),
    /// A client wants to do something.
    ClientWake(usize),
    /// A task of a daemon is woken.
    Wake(Arc<Life>, Waker),
    /// A daemon's tasks run.
    Run(Arc<Life>),
    /// A daemon's journal of this lock manager is written.
    Write(Arc<Life>, IpAddr),
    /// A daemon looks after that journal.
    Chore(Arc<Life>, IpAddr),
    /// A daemon's next blocking job.
    Job(Arc<Life>),
    /// A machine that stood still goes on.
    Thaw(usize),
    /// The scripts' tasks run.
    Scripts,
    /// A task of the scripts is woken.
    ScriptWake(Waker),
    /// A file check of a daemon ends.
    Check(Arc<Life>, Job),
}

impl What {
    /// The machine whose daemon does it. A message finds its machine only when it arrives.
    fn machine(&self) -> Option<usize> {
        match self {
            Self::Wake(life, _)
            | Self::Queued(life, _)
            | Self::Run(life)
            | Self::Write(life, _)
            | Self::Chore(life, _)
            | Self::Job(life)
            | Self::Check(life, _) => Some(life.machine),
            Self::ToServer(_)
            | Self::ToClient(..)
            | Self::ClientReset(..)
            | Self::ClientWake(_)
            | Self::Thaw(_)
            | Self::Scripts
            | Self::ScriptWake(_) => None,
        }
    }
}

/// When it is due, the number that orders what is due at one time, and where in `Queue::whats` it lies: what it is would be moved about too
/// often.
type Due = (Micros, u64, usize);

/// What is due, by time.
#[derive(Default)]
struct Queue {
    order: BinaryHeap<Reverse<Due>>,
    whats: Vec<Option<What>>,
    free: Vec<usize>,
    number: u64,
}

impl Queue {
    fn push(&mut self, at: Micros, what: What) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.whats.push(None);
            self.whats.len() - 1
        });
        self.whats[place] = Some(what);
        self.order.push(Reverse((at, self.number, place)));
        self.number += 1;
    }

    /// When the next one is due.
    fn next(&self) -> Option<Micros> {
        self.order.peek().map(|Reverse((at, ..))| *at)
    }

    fn pop(&mut self) -> Option<What> {
        let Reverse((.., place)) = self.order.pop()?;
        self.free.push(place);
        self.whats[place].take()
    }
}

/// Streams of chance.
pub struct Chances {
    /// The network's.
    pub network: Random,
    /// The disks'.
    pub disk: Random,
    /// Who acts between two file operations.
    pub order: Random,
}

struct Inner {
    now: Micros,
    /// What was due and is done.
    taken: u64,
    queue: Queue,
    depth: u32,
    lives: u32,
    /// Daemons that are gone, until nothing of them is on the stack.
    graveyard: Vec<Arc<Life>>,
    /// Addresses whose disk takes its time, and until when.
    slow_disks: BTreeMap<IpAddr, Micros>,
}

/// A run.
pub struct Sim {
    /// What was asked for.
    pub settings: Settings,
    /// What the seed says.
    pub plan: Plan,
    base: Instant,
    inner: Mutex<Inner>,
    ways: Mutex<Ways>,
    machines: Mutex<Vec<Machine>>,
    clients: Mutex<Vec<ClientPlace>>,
    chances: Mutex<Chances>,
    /// Hears the history.
    pub watcher: Mutex<Watcher>,
    /// The scripts' tasks.
    pub scripts: Executor,
    /// The disks.
    pub disks: crate::disk::Disks,
    /// The lock managers that have them, by name and address.
    managers: Vec<(String, IpAddr)>,
}

impl Inner {
    /// It becomes this late.
    fn pass(&mut self, until: Micros) {
        self.now = self.now.max(until);
        output::set_time(self.now);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn managers_of(disks: &crate::disk::Disks) -> Vec<(String, IpAddr)> {
    let names = disks.keys().filter_map(|dir| dir.file_name()?.to_str());
    names.filter_map(|name| Some((name.to_owned(), name.parse().ok()?))).collect()
}

impl Sim {
    /// An empty world.
    pub fn new(
        settings: Settings,
        plan: Plan,
        mut random: Random,
        watcher: Watcher,
        disks: crate::disk::Disks,
    ) -> Arc<Self> {
        let machines = (0..plan.nodes).map(|_| Machine::new(&settings, &mut random)).collect();
        let chances = Chances { network: random.fork(), disk: random.fork(), order: random.fork() };
        Arc::new_cyclic(|this: &Weak<Sim>| {
            let ring = this.clone();
            let scripts = Executor::new(Box::new(move || {
                if let Some(sim) = ring.upgrade() {
                    sim.plan_now(What::Scripts);
                }
            }));
            Self {
                settings,
                plan,
                base: Instant::now(),
                inner: Mutex::new(Inner {
                    now: 0,
                    taken: 0,
                    queue: Queue::default(),
                    depth: 0,
                    lives: 0,
                    graveyard: Vec::new(),
                    slow_disks: BTreeMap::new(),
                }),
                ways: Mutex::default(),
                machines: Mutex::new(machines),
                clients: Mutex::default(),
                chances: Mutex::new(chances),
                watcher: Mutex::new(watcher),
                scripts,
                managers: managers_of(&disks),
                disks,
            }
        })
    }

    /// The observer's time.
    pub fn now(&self) -> Micros {
        lock(&self.inner).now
    }

    /// The chances.
    pub fn chances(&self) -> MutexGuard<'_, Chances> {
        lock(&self.chances)
    }

    /// Writes into the history.
    pub fn record(&self, event: Event) {
        let now = self.now();
        lock(&self.watcher).observe(now, event);
    }

    /// Whether the run is over, for good or ill.
    pub fn is_over(&self) -> bool {
        lock(&self.watcher).is_over()
    }

    /// Runs until nothing is due, or it is over.
    pub fn run(self: &Arc<Self>) {
        output::set_time(self.now());
        while !self.is_over() {
            let Some(due) = self.take_due(Micros::MAX) else { return };
            self.carry_out(due);
            // Nothing of a daemon is on the stack here.
            let gone = std::mem::take(&mut lock(&self.inner).graveyard);
            for life in &gone {
                output::said_by(Some(life.machine), || life.fall_apart(self.managers()));
            }
            drop(gone);
        }
    }

    /// Breaks what holds itself up.
    pub fn take_down(&self) {
        let lives: Vec<_> = lock(&self.machines).iter_mut().filter_map(|m| m.life.take()).collect();
        for life in lives {
            life.fall_apart(self.managers());
        }
        self.scripts.end();
        let held: Vec<_> = lock(&self.machines).iter_mut().map(|m| std::mem::take(&mut m.held)).collect();
        let queue = std::mem::take(&mut lock(&self.inner).queue);
        drop((held, queue));
    }

    fn take_due(&self, until: Micros) -> Option<What> {
        let mut inner = lock(&self.inner);
        let most = MOST * self.settings.denser;
        let at = inner.queue.next().filter(|at| *at <= until && inner.taken < most)?;
        inner.taken += 1;
        let what = inner.queue.pop();
        inner.pass(at);
        what
    }

    /// Plans something for a time from now.
    pub fn plan(&self, span: Micros, what: What) {
        let mut inner = lock(&self.inner);
        let at = inner.now + span;
        inner.queue.push(at, what);
    }

    fn plan_now(&self, what: What) {
        self.plan(0, what);
    }

    fn carry_out(self: &Arc<Self>, what: What) {
        output::said_by(what.machine(), || self.do_what_is_due(what));
    }

    fn do_what_is_due(self: &Arc<Self>, what: What) {
        match what {
            What::ToServer(packet) => self.arrive(packet),
            What::Queued(life, packet) => {
                if let Some(What::Queued(life, packet)) =
                    self.unless_frozen(&life, |life| What::Queued(life, packet))
                {
                    self.deliver(&life, packet);
                }
            }
            What::ToClient(client, from, message) => {
                self.with_client(client, |c, now, out| c.receive(now, from, &message, out));
            }
            What::ClientReset(client, from) => {
                self.with_client(client, |c, now, out| c.reset(now, from, out));
            }
            What::ClientWake(client) => self.with_client(client, |c, now, out| c.wake(now, out)),
            What::Scripts => self.scripts.run(),
            What::ScriptWake(waker) => waker.wake(),
            What::Thaw(machine) => self.thaw(machine),
            What::Wake(life, waker) => {
                if let Some(What::Wake(_, waker)) = self.unless_frozen(&life, |life| What::Wake(life, waker))
                {
                    waker.wake();
                }
            }
            What::Run(life) => self.run_tasks(&life),
            What::Write(life, lm) => self.write(&life, lm),
            What::Chore(life, lm) => self.chore(&life, lm),
            What::Job(life) => self.job(&life),
            What::Check(life, job) => {
                if let Some(What::Check(life, job)) = self.unless_frozen(&life, |life| What::Check(life, job))
                {
                    job();
                    self.after(&life);
                }
            }
        }
    }

    /// The names of all lock managers.
    fn managers(&self) -> impl Iterator<Item = &str> {
        self.managers.iter().map(|(name, _)| name.as_str())
    }

    /// Others act until a time, or until something is so.
    fn nested(self: &Arc<Self>, until: Micros, done: &dyn Fn() -> bool) {
        lock(&self.inner).depth += 1;
        while !done() && !self.is_over() {
            match self.take_due(until) {
                Some(what) => self.carry_out(what),
                None => {
                    lock(&self.inner).pass(until);
                    break;
                }
            }
        }
        lock(&self.inner).depth -= 1;
    }

    /// Waits, for the scripts.
    pub fn sleep(self: &Arc<Self>, span: Micros) -> impl Future<Output = ()> + Send + use<> {
        let (this, until, mut planned) = (Arc::downgrade(self), self.now() + span, false);
        std::future::poll_fn(move |cx| {
            let Some(sim) = this.upgrade() else { return std::task::Poll::Pending };
            let now = sim.now();
            if now >= until {
                return std::task::Poll::Ready(());
            }
            if !std::mem::replace(&mut planned, true) {
                sim.plan(until - now, What::ScriptWake(cx.waker().clone()));
            }
            std::task::Poll::Pending
        })
    }
}
