//! One daemon, from its start to its end: the production node over a simulated machine.
//!
//! Must never let a daemon that has ended touch a disk, the network or the history again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockferry::node::assembly::Node;
use lockferry::node::verbs::NodeControl;
use lockferry::rpc::dispatch::Router;
use lockferry::store::journal::Journals;
use tokio::sync::oneshot;

use crate::executor::Executor;

/// Work for a thread that may block.
pub type Job = Box<dyn FnOnce() + Send>;

/// A daemon.
pub struct Life {
    /// The machine it runs on.
    pub machine: usize,
    /// Which of all daemons of the run it is.
    pub number: u32,
    /// Its tasks.
    pub executor: Executor,
    /// What it is made of, once it is.
    pub parts: Slot,
    alive: AtomicBool,
    /// File operations until something befalls it; below 0: nothing does.
    fuse: AtomicI64,
    state: Mutex<State>,
    xid: AtomicU32,
}

/// What a daemon is made of.
pub struct Parts {
    /// The node.
    pub node: Node,
    /// Its programs.
    pub router: Arc<Router>,
    /// Its commands.
    pub control: Arc<dyn NodeControl>,
    /// Its journals.
    pub journals: Arc<Journals>,
}

/// The place of the parts: empty before the daemon is put together, and when it has fallen apart.
#[derive(Default)]
pub struct Slot(Mutex<Option<Arc<Parts>>>);

impl Slot {
    /// The parts, if they are there.
    pub fn get(&self) -> Option<Arc<Parts>> {
        self.lock().clone()
    }

    /// Puts them there.
    pub fn set(&self, parts: Parts) {
        *self.lock() = Some(Arc::new(parts));
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Parts>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is under way.
#[derive(Default)]
pub struct State {
    /// Blocking work that waits for its turn.
    pub jobs: VecDeque<Job>,
    /// A job is planned, or at work.
    pub job_planned: bool,
    /// Lock managers whose disk is about to be written.
    pub writes: BTreeSet<IpAddr>,
    /// Those whose house is about to be kept.
    pub chores: BTreeSet<IpAddr>,
    /// Calls of ours without an answer.
    pub calls: BTreeMap<u32, oneshot::Sender<Vec<u8>>>,
    /// TCP connections: our address, the client's address and port.
    pub peers: BTreeSet<(IpAddr, SocketAddr)>,
    /// A run of the executor is planned.
    pub run_planned: bool,
}

impl Life {
    /// One that has nothing yet.
    pub fn new(machine: usize, number: u32, executor: Executor) -> Self {
        Self {
            machine,
            number,
            executor,
            parts: Slot::default(),
            alive: AtomicBool::new(true),
            fuse: AtomicI64::new(-1),
            state: Mutex::default(),
            xid: AtomicU32::new(number.wrapping_mul(0x0101_0101)),
        }
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// It is gone.
    pub fn end(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }

    /// Nothing of it is left: its tasks, its work and its parts, which hold it in turn. Not while any of that is on the stack.
    /// `managers`: the names of those that it may have had.
    pub fn fall_apart<'a>(&self, managers: impl Iterator<Item = &'a str>) {
        self.end();
        self.executor.end();
        if let Some(parts) = self.parts.get() {
            // What waits to be written holds what waits for it. Nothing reaches the disk any more: it fails.
            for lm in managers {
                (0..100).any(|_| !parts.journals.has_work(lm) || !parts.journals.step(lm));
            }
        }
        let (jobs, calls) = {
            let mut state = self.state();
            (std::mem::take(&mut state.jobs), std::mem::take(&mut state.calls))
        };
        drop((jobs, calls));
        let parts = self.parts.lock().take();
        drop(parts);
    }

    /// Something befalls it after so many file operations more.
    pub fn light_fuse(&self, operations: u32) {
        self.fuse.store(i64::from(operations), Ordering::Relaxed);
    }

    /// Counts a file operation; true: it befalls it now.
    pub fn burn(&self) -> bool {
        self.fuse.fetch_sub(1, Ordering::Relaxed) == 0
    }

    /// What is under way.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a call of ours.
    pub fn next_xid(&self) -> u32 {
        self.xid.fetch_add(1, Ordering::Relaxed)
    }
}
