//! A real lock core behind the interfaces that NLM and NSM know the node by: no disk, no threads, a clock that the input moves. Its
//! tables are checked after every command.
//!
//! Must never answer otherwise than the engine says, and holds the engine to what the node relies on: one answer for each request, one
//! end for each callback.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lockferry::export::{FileKey, LockFiles, LockRefusal};
use lockferry::rpc::{CallInfo, Cred, Responder};
use lockferry::service::nlm::{Answer, LockService, Outbox, ReturnPath, Spawn};
use lockferry::state::{
    CallbackOutcome, Command, Effect, Effects, Engine, GrantId, Reply, Settings, Time, Token,
};

/// How handles of ours begin; what follows is the file.
pub const HANDLE: &[u8] = b"file";

/// Work that NLM hands to a thread that may block.
type Job = Box<dyn FnOnce() + Send>;

/// The node, as far as the programs know it.
pub struct Core {
    inner: Mutex<Inner>,
    jobs: Mutex<Jobs>,
}

struct Inner {
    engine: Engine,
    fx: Effects,
    now: u64,
    tokens: u64,
    stay: u64,
    /// Requests whose answer comes later.
    parked: BTreeMap<Token, Answer>,
    /// Callbacks on their way, and all there ever were.
    granting: BTreeSet<u64>,
    granted: Vec<GrantId>,
}

#[derive(Default)]
struct Jobs {
    waiting: Vec<Job>,
    /// Run at once instead.
    at_once: bool,
    /// Room for so many more.
    room: usize,
    /// What the export says of a file.
    verdict: Option<LockRefusal>,
    /// The verdict is remembered: nothing is looked at.
    cached: bool,
    /// _RES calls that were sent.
    sent: Vec<(u32, u32, Vec<u8>)>,
}

impl Core {
    /// A core with these settings. Files are looked at at once.
    pub fn new(settings: Settings) -> Self {
        let inner = Inner {
            engine: Engine::new(settings),
            fx: Effects::default(),
            now: 0,
            tokens: 0,
            stay: 1,
            parked: BTreeMap::new(),
            granting: BTreeSet::new(),
            granted: Vec::new(),
        };
        Self {
            inner: Mutex::new(inner),
            jobs: Mutex::new(Jobs { at_once: true, room: 4, ..Jobs::default() }),
        }
    }

    /// The way to a thread that may block, for [`lockferry::service::nlm::Nlm::new`].
    pub fn spawn(this: &std::sync::Arc<Self>) -> Spawn {
        let this = this.clone();
        Box::new(move |_, job| {
            let mut jobs = this.jobs();
            if jobs.at_once {
                drop(jobs);
                job();
                return true;
            }
            if jobs.room <= jobs.waiting.len() {
                drop(jobs);
                // Dropped outside of the mutex: it has a responder in it.
                drop(job);
                return false;
            }
            jobs.waiting.push(job);
            true
        })
    }

    /// How files are looked at from here on.
    pub fn set_files(&self, at_once: bool, cached: bool, verdict: Option<LockRefusal>) {
        let mut jobs = self.jobs();
        (jobs.at_once, jobs.cached, jobs.verdict) = (at_once, cached, verdict);
    }

    /// Looks at one of the files that wait for it.
    pub fn look(&self, which: usize) {
        let mut jobs = self.jobs();
        if jobs.waiting.is_empty() {
            return;
        }
        let which = which % jobs.waiting.len();
        let job = jobs.waiting.remove(which);
        drop(jobs);
        job();
    }

    /// Ends every look at a file without an answer.
    pub fn forget_looks(&self) {
        let jobs = std::mem::take(&mut self.jobs().waiting);
        drop(jobs);
    }

    /// The _RES calls since the last time: version, procedure, arguments.
    pub fn take_sent(&self) -> Vec<(u32, u32, Vec<u8>)> {
        std::mem::take(&mut self.jobs().sent)
    }

    /// Lets time pass.
    pub fn pass(&self, ms: u64) {
        let mut inner = self.inner();
        inner.now = inner.now.saturating_add(ms);
    }

    /// The engine's time.
    pub fn now(&self) -> u64 {
        self.inner().now
    }

    /// Another stay of the lock managers begins.
    pub fn next_stay(&self) {
        self.inner().stay += 1;
    }

    /// Runs a command that nobody waits for.
    pub fn run(&self, command: Command<'_>) {
        self.execute(None, command);
    }

    /// Does all that is due now.
    ///
    /// # Panics
    /// It does not come to an end.
    pub fn settle(&self) {
        for _ in 0..10_000 {
            let inner = self.inner();
            let due = inner.engine.next_timer().is_some_and(|at| at.0 <= inner.now);
            drop(inner);
            if !due {
                return;
            }
            self.run(Command::Tick);
        }
        panic!("what is due is done in a bounded number of steps");
    }

    /// Moves the clock to the next thing that is due and does it. False: nothing is.
    pub fn to_next_timer(&self) -> bool {
        let mut inner = self.inner();
        let Some(next) = inner.engine.next_timer() else { return false };
        inner.now = inner.now.max(next.0);
        drop(inner);
        self.settle();
        true
    }

    /// One of the callbacks that there ever were.
    pub fn some_grant(&self, which: usize) -> Option<GrantId> {
        let inner = self.inner();
        let n = inner.granted.len();
        (n > 0).then(|| inner.granted[n - 1 - which % n])
    }

    /// Reads the engine.
    pub fn read<T>(&self, f: impl FnOnce(&Engine) -> T) -> T {
        f(&self.inner().engine)
    }

    /// How many requests wait for their answer.
    pub fn parked(&self) -> usize {
        self.inner().parked.len()
    }

    /// Drops every answer that is still owed.
    pub fn close(&self) {
        self.forget_looks();
        let parked = std::mem::take(&mut self.inner().parked);
        drop(parked);
    }

    fn execute(&self, asked: Option<(Token, Answer)>, command: Command<'_>) {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let now = Time(inner.now);
        // The record is always one command behind.
        for (lm, mark) in std::mem::take(&mut inner.fx.marks) {
            inner.engine.handle(now, Command::Written { lm, mark }, &mut inner.fx);
        }
        inner.engine.handle(now, command, &mut inner.fx);
        // cargo-fuzz sets it; the seeds are made without.
        #[cfg(fuzzing)]
        inner.engine.check();
        inner.fx.entries.clear();
        let (token, mut answer) = asked.unzip();
        let mut said = Vec::new();
        for effect in inner.fx.out.drain(..) {
            match effect {
                Effect::Reply { token: to, reply } if Some(to) == token => {
                    said.push((answer.take().expect("one answer to a request"), reply));
                }
                Effect::Reply { token: to, reply } => {
                    said.push((inner.parked.remove(&to).expect("an answer that is owed, once"), reply));
                }
                Effect::SendGranted { grant, .. } => {
                    assert!(inner.granting.insert(grant.0), "a callback has a number of its own");
                    assert!(!inner.granted.contains(&grant));
                    inner.granted.push(grant);
                }
                Effect::StopGranted { grant } => {
                    inner.granting.remove(&grant.0);
                }
                Effect::Event(_) => {}
            }
        }
        if let Some((token, answer)) = token.zip(answer) {
            assert!(inner.parked.insert(token, answer).is_none());
        }
        for grant in &inner.granting {
            assert!(inner.engine.is_granting(GrantId(*grant)), "a callback that ends is stopped");
        }
        drop(guard);
        // Dropped and sent outside of the mutex, as the node does.
        for (answer, reply) in said {
            answer.send(reply);
        }
    }

    /// What became of a callback. The node tells it once, unless it was stopped.
    pub fn callback_done(&self, grant: GrantId, outcome: CallbackOutcome) {
        // Crossed with a stop it may be told all the same.
        self.inner().granting.remove(&grant.0);
        self.run(Command::CallbackDone { grant, outcome });
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LockService for Core {
    fn next_token(&self) -> Token {
        let mut inner = self.inner();
        inner.tokens += 1;
        Token(inner.tokens)
    }

    fn submit(&self, token: Token, command: Command<'_>, answer: Answer) {
        self.execute(Some((token, answer)), command);
    }

    fn say(&self, _: IpAddr, answer: Answer, reply: Reply) {
        answer.send(reply);
    }

    fn stay(&self, _: IpAddr) -> u64 {
        self.inner().stay
    }

    fn is_bound_to(&self, handle: &[u8], _: IpAddr) -> bool {
        handle.last() != Some(&b'-')
    }

    fn granted_res(&self, cookie: &[u8], _: &CallInfo, accepted: bool) {
        let Ok(number) = cookie.try_into().map(u64::from_be_bytes) else { return };
        if self.inner().granting.contains(&number) {
            let outcome = if accepted { CallbackOutcome::Accepted } else { CallbackOutcome::RefusedLater };
            self.callback_done(GrantId(number), outcome);
        }
    }

    fn has_monitor(&self) -> bool {
        true
    }

    fn monitor_notice(&self, _: &[u8], _: u32, _: [u8; 16], responder: Responder) {
        responder.success(&());
    }
}

impl LockFiles for Core {
    fn key(&self, handle: &[u8]) -> Result<FileKey, LockRefusal> {
        match handle.strip_prefix(HANDLE) {
            Some(file) => Ok(FileKey(file.into())),
            None => Err(LockRefusal::Stale),
        }
    }

    fn cached(&self, _: &[u8], _: IpAddr, _: &Cred, _: bool) -> Option<Result<(), LockRefusal>> {
        let jobs = self.jobs();
        jobs.cached.then_some(jobs.verdict.map_or(Ok(()), Err))
    }

    fn check(&self, _: &[u8], _: IpAddr, _: &Cred, _: bool) -> Result<(), LockRefusal> {
        self.jobs().verdict.map_or(Ok(()), Err)
    }

    fn may_reclaim(&self, _: &[u8], _: IpAddr, _: bool) -> Result<(), LockRefusal> {
        Ok(())
    }

    fn path(&self, _: &FileKey) -> Option<PathBuf> {
        None
    }

    fn find_path(&self, _: &FileKey) -> Option<PathBuf> {
        None
    }
}

impl Outbox for Core {
    fn send_res(&self, _: ReturnPath, version: u32, procedure: u32, args: Vec<u8>) {
        self.jobs().sent.push((version, procedure, args));
    }
}
