//! The desk in front of the lock core: one mutex around the engine, and the rule that nothing leaves before what it
//! depends on is durable.
//!
//! A request runs on the task that read it: take the mutex, let the engine decide, let go. What the engine says goes into the
//! [`super::pipe`] of the lock manager it speaks for, behind the entries it depends on. Must never do I/O under the mutex, nor let an
//! answer leave by another way.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::gate::Gate;
use super::host::{Host, Taker, hand_over};
use super::pipe::{self, Outlet, Pipe, Release};
use super::records::{self, Dates};
use super::refusals::{Refusals, Replay};
use super::written::Written;
use crate::rpc::{CallInfo, Responder};
use crate::service::nlm::{Answer, LockService};
use crate::state::{
    CallbackOutcome, Command, Effect, Effects, Engine, Event, GrantId, LmRow, LockRequest, Party, Reply,
    Status, Time, Token,
};
use crate::store::record;

/// Lock managers at once, 1,024. Each has two threads and some files; nobody has that many addresses on a server.
const LOCK_MANAGERS_MAX: usize = 1_024;
/// Commands of a load under one hold of the mutex: a fraction of a millisecond.
const AT_ONCE: usize = 500;
/// How long an operator's command waits for the disk.
const SETTLE: Duration = Duration::from_secs(30);

/// Sends GRANTED callbacks.
pub(super) trait Callbacks: Send + Sync + 'static {
    /// Starts sending; the outcome comes back through [`Desk::callback_done`].
    fn start(&self, order: GrantedOrder);
    /// Stops sending: nothing comes back.
    fn stop(&self, grant: GrantId);
    /// A GRANTED_RES came.
    fn answered(&self, cookie: &[u8], from: IpAddr, accepted: bool);
}

/// A GRANTED to send.
#[derive(Clone, Debug)]
pub(super) struct GrantedOrder {
    pub(super) grant: GrantId,
    pub(super) lm: IpAddr,
    pub(super) to: IpAddr,
    pub(super) name: Box<[u8]>,
    pub(super) oh: Box<[u8]>,
    pub(super) svid: u32,
    pub(super) range: crate::state::Range,
    pub(super) mode: crate::state::Mode,
    pub(super) route: crate::state::Route,
}

/// Hears every event, for the log and for who else wants to know.
pub(super) type Observer = Box<dyn Fn(&Event) + Send + Sync>;
/// Opens the record of a lock manager that a first request has made. Must not block.
pub(super) type Opener = Box<dyn Fn(IpAddr, Arc<Pipe>) + Send + Sync>;

/// What the desk needs of the rest of the node.
pub(super) struct Ways {
    pub(super) host: Arc<dyn Host>,
    pub(super) callbacks: Arc<dyn Callbacks>,
    pub(super) observer: Observer,
    pub(super) gate: Arc<Gate>,
    pub(super) outlet: Arc<Outlet>,
    pub(super) written: Arc<Written>,
    pub(super) opener: Opener,
    pub(super) monitored_by_statd: bool,
}

pub(super) struct Desk {
    origin: Instant,
    origin_unix: Duration,
    tokens: AtomicU64,
    inner: parking_lot::Mutex<Inner>,
    ways: Ways,
    refusals: Mutex<Refusals>,
}

struct Inner {
    engine: Engine,
    fx: Effects,
    /// Requests whose reply comes later, and the lock manager that was asked.
    parked: HashMap<Token, (IpAddr, Answer)>,
    /// The way out of each lock manager that is loaded.
    pipes: BTreeMap<IpAddr, Arc<Pipe>>,
    armed: Option<Time>,
}

impl Desk {
    pub(super) fn new(engine: Engine, ways: Ways) -> Self {
        let inner = Inner {
            engine,
            fx: Effects::default(),
            parked: HashMap::new(),
            pipes: BTreeMap::new(),
            armed: None,
        };
        Self {
            origin: ways.host.now(),
            origin_unix: ways.host.unix(),
            tokens: AtomicU64::new(1),
            inner: parking_lot::Mutex::new(inner),
            ways,
            refusals: Mutex::new(Refusals::default()),
        }
    }

    /// The engine's clock.
    pub(super) fn now(&self) -> Time {
        let since = self.ways.host.now().saturating_duration_since(self.origin);
        Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Unix seconds of an engine time.
    pub(super) fn unix(&self, time: Time) -> u64 {
        self.unix_ms(time) / 1000
    }

    /// Reads the engine. Keep it short: every request waits meanwhile.
    pub(super) fn read<T>(&self, f: impl FnOnce(&Engine) -> T) -> T {
        f(&self.inner().engine)
    }

    /// Runs a command that nobody waits for.
    pub(super) fn run(&self, command: Command<'_>) {
        drop(self.run_with(self.next_token(), command, Answer::nowhere()));
    }

    /// Runs a command if this is still the way out of its lock manager. False: that stay is over.
    pub(super) fn run_in(&self, pipe: &Arc<Pipe>, command: Command<'_>) -> bool {
        let mut guard = self.inner();
        let inner = &mut *guard;
        if !inner.pipes.values().any(|p| Arc::ptr_eq(p, pipe)) {
            return false;
        }
        let now = self.handle(inner, [command]);
        let said = self.take_effects(inner, now, None);
        drop(guard);
        self.follow_up(said, None);
        true
    }

    /// Gives a lock manager up in memory. What was decided before can still become durable, see [`Pipe::close`]; nothing that comes after.
    /// Returns how it stood.
    pub(super) fn release(&self, lm: IpAddr, keep: &[Box<[u8]>]) -> Option<LmRow> {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let row = inner.engine.lm_rows().into_iter().find(|row| row.address == lm);
        if let Some(pipe) = inner.pipes.get(&lm) {
            pipe.close();
        }
        let now = self.handle(inner, [Command::Release { lm, keep }]);
        let said = self.take_effects(inner, now, None);
        drop(guard);
        self.follow_up(said, None);
        row
    }

    /// Runs an operator's command and returns what happened. It is durable after [`Desk::settle`].
    pub(super) fn run_for_events(&self, command: Command<'_>) -> Vec<Event> {
        self.run_with(self.next_token(), command, Answer::nowhere())
    }

    /// Waits until everything that was said so far about this lock manager is durable. False: it is not, in 30 s or ever.
    pub(super) fn settle(&self, lm: IpAddr) -> bool {
        self.settle_within(lm, SETTLE)
    }

    /// The same, but not for longer than this.
    pub(super) fn settle_within(&self, lm: IpAddr, most: Duration) -> bool {
        let Some(pipe) = self.pipe(lm) else { return true };
        self.begin_to_settle(&pipe).take(self.ways.host.as_ref(), most).is_some()
    }

    /// Tells once everything that was said so far about a lock manager is durable.
    pub(super) fn begin_to_settle(&self, pipe: &Arc<Pipe>) -> Taker<()> {
        let (tell, told) = hand_over();
        pipe.push(Vec::new(), vec![Release::Tell(Box::new(move || tell.give(())))]);
        told
    }

    /// The way out of a lock manager.
    pub(super) fn pipe(&self, lm: IpAddr) -> Option<Arc<Pipe>> {
        self.inner().pipes.get(&lm).cloned()
    }

    /// Makes the way out of a lock manager that is about to be loaded. Nothing leaves before it is opened.
    pub(super) fn new_pipe(&self, lm: IpAddr) -> Arc<Pipe> {
        let pipe = Pipe::new(lm, self.ways.outlet.clone());
        let old = self.inner().pipes.insert(lm, pipe.clone());
        // Outside of the mutex.
        if let Some(old) = old {
            old.shut();
        }
        pipe
    }

    /// Closes the way out of a lock manager for good: what waits in it is dropped.
    pub(super) fn drop_pipe(&self, lm: IpAddr) {
        let pipe = self.inner().pipes.remove(&lm);
        if let Some(pipe) = pipe {
            pipe.shut();
        }
    }

    /// Whether the record of a lock manager that was given up still has what was freed through it.
    pub(super) fn is_stranded(&self, lm: IpAddr) -> bool {
        // What is written is heard of with the next command.
        self.run(Command::Tick);
        self.read(|e| e.is_unwritten(lm))
    }

    /// The lock managers that are loaded.
    pub(super) fn loaded(&self) -> Vec<(IpAddr, Arc<Pipe>)> {
        self.inner().pipes.iter().map(|(lm, pipe)| (*lm, pipe.clone())).collect()
    }

    /// What became of a GRANTED.
    pub(super) fn callback_done(&self, grant: GrantId, outcome: CallbackOutcome) {
        self.run(Command::CallbackDone { grant, outcome });
    }

    /// Whether a GRANTED is still wanted.
    pub(super) fn is_granting(&self, grant: GrantId) -> bool {
        self.read(|engine| engine.is_granting(grant))
    }

    pub(super) fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is due, for ever.
    pub(super) async fn run_timers(&self) {
        loop {
            let next = self.read(Engine::next_timer);
            let wait = next.map(|t| Duration::from_millis(t.0.saturating_sub(self.now().0)));
            tokio::select! {
                biased;
                () = self.ways.written.nudged() => self.run(Command::Tick),
                () = self.sleep(wait) => self.run(Command::Tick),
            }
        }
    }

    /// Lets the engine do this, after what it has to hear of the records.
    fn handle<'a>(&self, inner: &mut Inner, commands: impl IntoIterator<Item = Command<'a>>) -> Time {
        let now = self.now();
        for (lm, mark) in self.ways.written.take() {
            inner.engine.handle(now, Command::Written { lm, mark }, &mut inner.fx);
        }
        commands.into_iter().for_each(|command| inner.engine.handle(now, command, &mut inner.fx));
        now
    }

    async fn sleep(&self, wait: Option<Duration>) {
        match wait {
            Some(wait) => self.ways.host.sleep(wait).await,
            None => std::future::pending().await,
        }
    }

    fn run_with(&self, token: Token, command: Command<'_>, answer: Answer) -> Vec<Event> {
        // It borrows all it has: to keep it costs nothing.
        let said_again = command.clone();
        let asked = party_of(&command).map(|p| p.lm);
        let keeps = Keeps::of(&command);
        let mut guard = self.inner();
        let inner = &mut *guard;
        if let Some(refusal) = inner.refuse_early(&command, &self.ways.gate) {
            drop(guard);
            // Silence is a dropped answer; dropped outside of the mutex.
            if let (Some(lm), Some(reply)) = (asked, refusal) {
                self.say(lm, answer, reply);
            }
            return Vec::new();
        }
        let now = self.handle(inner, [command]);
        let asked =
            asked.map(|lm| Asked { lm, token, answer: Some(answer).filter(|a| !a.is_nowhere()), keeps });
        let said = self.take_effects(inner, now, asked);
        drop(guard);
        self.follow_up(said, Some(&said_again))
    }

    /// Runs many commands that nobody waits for, a few at a time: other requests come between. Returns what happened.
    pub(super) fn run_each<'a>(&self, mut commands: impl Iterator<Item = Command<'a>>) -> Vec<Event> {
        let mut events = Vec::new();
        let mut batch = Vec::with_capacity(AT_ONCE);
        loop {
            // Outside of the mutex: what they are made of may be far apart in memory.
            batch.extend(commands.by_ref().take(AT_ONCE));
            let count = batch.len();
            let mut guard = self.inner();
            let inner = &mut *guard;
            let now = self.handle(inner, batch.drain(..));
            let said = self.take_effects(inner, now, None);
            drop(guard);
            events.extend(self.follow_up(said, None));
            if count < AT_ONCE {
                return events;
            }
        }
    }

    /// Tells the core that so many recorded locks, owners and files are about to come.
    pub(super) fn expect(&self, locks: usize, owners: usize, files: usize) {
        self.inner().engine.expect(locks, owners, files);
    }

    /// Turns what the engine said into entries and releases, in the pipes. Under the mutex, so that each pipe has the engine's order.
    fn take_effects(&self, inner: &mut Inner, now: Time, mut asked: Option<Asked>) -> Said {
        let mut out = Outgoing::default();
        for entry in std::mem::take(&mut inner.fx.entries) {
            if records::goes_without_saying(&entry) {
                continue;
            }
            let lm = records::lock_manager(&entry);
            out.part(lm).entries.push(records::record(entry, now, self).into());
        }
        // In front of what is said: whoever hears it may ask anew at once.
        let soon = inner.pipes.len() > 1;
        for (lm, mark) in inner.fx.marks.drain(..) {
            out.part(lm).releases.push(Release::Written { lm, mark, soon });
        }
        let mut said = Said::default();
        for effect in inner.fx.out.drain(..) {
            match effect {
                Effect::Event(event) => {
                    // One that a request has made; others come with a record, or only to be in the way.
                    if let Event::LmCreated(lm) = event
                        && asked.as_ref().is_some_and(|a| a.lm == lm)
                        && !inner.pipes.contains_key(&lm)
                    {
                        let pipe = Pipe::new(lm, self.ways.outlet.clone());
                        inner.pipes.insert(lm, pipe.clone());
                        said.new.push((lm, pipe));
                    }
                    said.events.push(event);
                }
                Effect::Reply { token, reply } => {
                    let mine = asked.as_mut().filter(|a| a.token == token);
                    let keeps = mine.as_ref().is_some_and(|a| a.keeps.includes(&reply));
                    let to = match mine {
                        Some(mine) => mine.answer.take().map(|answer| (mine.lm, answer)),
                        None => inner.parked.remove(&token),
                    };
                    match to {
                        Some((lm, mut answer)) if reply != Reply::Silent => {
                            self.keep(&mut out, lm, &mut answer, &reply, keeps);
                            let early = mutant!(ReplyBeforeDurable);
                            let way = if early { &mut out.at_once } else { &mut out.part(lm).releases };
                            way.push(Release::Reply(answer, reply));
                        }
                        // Dropped later: it takes locks of its own.
                        Some((_, answer)) => said.silenced.push(answer),
                        None => {}
                    }
                }
                Effect::StopGranted { grant } => out.at_once.push(Release::Stop(grant)),
                Effect::SendGranted { grant, lm, to, name, oh, svid, range, mode, route } => {
                    let order = GrantedOrder { grant, lm, to, name, oh, svid, range, mode, route };
                    let early = mutant!(GrantedBeforeDurable);
                    let way = if early { &mut out.at_once } else { &mut out.part(lm).releases };
                    way.push(Release::Granted(Box::new(order)));
                }
            }
        }
        if let Some(Asked { lm, token, answer: Some(answer), .. }) = asked {
            inner.parked.insert(token, (lm, answer));
        }
        said.at_once = out.send(&inner.pipes);
        let next = inner.engine.next_timer();
        said.rearm = next.is_some() && (inner.armed.is_none() || next < inner.armed);
        inner.armed = next;
        said
    }

    /// Does what need not be done under the mutex.
    fn follow_up(&self, said: Said, command: Option<&Command<'_>>) -> Vec<Event> {
        if said.rearm {
            self.ways.written.nudge();
        }
        drop(said.silenced);
        said.new.into_iter().for_each(|(lm, pipe)| (self.ways.opener)(lm, pipe));
        said.at_once.into_iter().for_each(|release| (self.ways.outlet.let_out)(release));
        for event in &said.events {
            self.report(event, command);
        }
        said.events
    }

    /// Writes the answer down beside the entries it goes with, so that whoever serves the address next can repeat it.
    fn keep(&self, out: &mut Outgoing, lm: IpAddr, to: &mut Answer, reply: &Reply, alone: bool) {
        let part = out.part(lm);
        if part.entries.is_empty() && !alone {
            return;
        }
        let Some((key, bytes)) = to.kept(reply) else { return };
        let seed = records::seed(&key, bytes, self.unix_ms(self.now()));
        match part.entries.last_mut() {
            Some(last) if last.reply.is_none() => last.reply = seed,
            _ => part
                .entries
                .extend(seed.map(|s| record::Entry { record: record::Record::Answered, reply: Some(s) })),
        }
    }

    fn report(&self, event: &Event, command: Option<&Command<'_>>) {
        if let Event::Refused { kind, lm, client, from, expected } = event
            && let Some(replay) = command.and_then(Replay::of)
        {
            let at = self.unix(self.now());
            self.refusals().add(*kind, *lm, client, *from, *expected, replay, at);
        }
        (self.ways.observer)(event);
    }

    /// Each command is one engine call; a panic inside it would be a bug that must not stop the others.
    fn inner(&self) -> parking_lot::MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Dates for Desk {
    fn unix_ms(&self, time: Time) -> u64 {
        u64::try_from(self.origin_unix.as_millis()).unwrap_or(u64::MAX).saturating_add(time.0)
    }
}

/// Who asked, and how the answer goes back.
struct Asked {
    lm: IpAddr,
    token: Token,
    answer: Option<Answer>,
    /// The answer is kept even if nothing changed.
    keeps: Keeps,
}

/// What is left to do after the mutex is free.
#[derive(Default)]
struct Said {
    events: Vec<Event>,
    new: Vec<(IpAddr, Arc<Pipe>)>,
    at_once: Vec<Release>,
    silenced: Vec<Answer>,
    rearm: bool,
}

/// What one command brought about, by lock manager.
#[derive(Default)]
struct Outgoing {
    /// Hardly ever more than one.
    parts: Vec<(IpAddr, Part)>,
    at_once: Vec<Release>,
}

#[derive(Default)]
struct Part {
    entries: Vec<record::Entry>,
    releases: Vec<Release>,
}

impl Outgoing {
    fn part(&mut self, lm: IpAddr) -> &mut Part {
        let at = self.parts.iter().position(|(of, _)| *of == lm).unwrap_or_else(|| {
            self.parts.push((lm, Part::default()));
            self.parts.len() - 1
        });
        &mut self.parts[at].1
    }

    /// Hands everything to the pipes and returns what need not wait.
    fn send(mut self, pipes: &BTreeMap<IpAddr, Arc<Pipe>>) -> Vec<Release> {
        // In the order of the pipes, whatever came first.
        self.parts.sort_unstable_by_key(|(lm, _)| *lm);
        for (lm, mut part) in self.parts {
            match pipes.get(&lm) {
                Some(pipe) => pipe.push(part.entries, part.releases),
                // Without a pipe there is no record: nothing is held through that address, so nothing need be written. Or its lock manager
                // is not loaded, and then the engine has given no answer for it.
                None => self.at_once.append(&mut part.releases),
            }
        }
        self.at_once
    }
}

impl Inner {
    /// What a request gets that the engine must not see. `Some(None)`: silence.
    fn refuse_early(&self, command: &Command<'_>, gate: &Gate) -> Option<Option<Reply>> {
        let lm = party_of(command)?.lm;
        let Some(pipe) = self.pipes.get(&lm) else {
            let makes_one = matches!(command, Command::Lock(_) | Command::Share { .. });
            let full = makes_one && self.pipes.len() >= LOCK_MANAGERS_MAX;
            return (full || !gate.is_open(&lm)).then_some(None);
        };
        if pipe.is_full() {
            return Some(None);
        }
        match command {
            Command::Unlock { .. } if mutant!(UnlockNeedsSpace) && pipe.is_low() => {
                Some(Some(Reply::Status(Status::DeniedNolocks)))
            }
            Command::Lock(r) if pipe.is_low() && is_new(&self.engine, r) => {
                Some(Some(Reply::Status(Status::DeniedNolocks)))
            }
            _ => None,
        }
    }
}

/// Whether a LOCK is surely not in the record.
fn is_new(engine: &Engine, r: &LockRequest<'_>) -> bool {
    !r.reclaim && !engine.knows(r)
}

/// Which answers matter to a later repetition even where nothing changed: an UNLOCK of nothing, repeated after a move, must not free a lock
/// that was taken since; nor a LOCK of what the owner had, take anew what it has unlocked since.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    None,
    Grant,
    Any,
}

impl Keeps {
    fn of(command: &Command<'_>) -> Self {
        match command {
            _ if mutant!(EmptyUnlockNotKept) => Keeps::None,
            Command::Unlock { .. }
            | Command::Cancel { .. }
            | Command::Unshare { .. }
            | Command::FreeAll { .. } => Keeps::Any,
            Command::Lock(_) => Keeps::Grant,
            _ => Keeps::None,
        }
    }

    fn includes(self, reply: &Reply) -> bool {
        self == Keeps::Any || (self == Keeps::Grant && *reply == Reply::Status(Status::Granted))
    }
}

impl LockService for Desk {
    fn next_token(&self) -> Token {
        Token(self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    fn submit(&self, token: Token, command: Command<'_>, answer: Answer) {
        drop(self.run_with(token, command, answer));
    }

    fn say(&self, lm: IpAddr, answer: Answer, reply: Reply) {
        match self.pipe(lm) {
            Some(pipe) => pipe.push(Vec::new(), vec![Release::Reply(answer, reply)]),
            // Nobody holds anything through this address: there is no record that could contradict.
            None if self.ways.gate.is_open(&lm) => answer.send(reply),
            None => {}
        }
    }

    fn stay(&self, lm: IpAddr) -> u64 {
        self.pipe(lm).map_or(0, |pipe| pipe.stay())
    }

    fn is_bound_to(&self, handle: &[u8], lm: IpAddr) -> bool {
        let bound = crate::export::number_in(handle).is_none_or(|export| self.ways.gate.binds(export, &lm));
        if !bound {
            self.ways.gate.count_elsewhere();
            super::events::bound_elsewhere(lm);
        }
        bound
    }

    fn granted_res(&self, cookie: &[u8], info: &CallInfo, accepted: bool) {
        self.ways.callbacks.answered(cookie, info.peer.ip(), accepted);
    }

    fn has_monitor(&self) -> bool {
        self.ways.monitored_by_statd
    }

    /// The private bytes are the client's address: see `Statd`. The monitor looked after that address for us, so what it says
    /// counts as said by each client there.
    fn monitor_notice(&self, name: &[u8], state: u32, private: [u8; 16], responder: Responder) {
        let address = Ipv6Addr::from(private).to_canonical();
        tracing::info!(host = %super::views::text(name), %address, state, "rpc.statd: a client restarted");
        let mut pipes: Vec<Arc<Pipe>> = Vec::new();
        for (lm, name) in self.read(|e| e.clients_at(address)) {
            // Of one that was given up nothing is changed here.
            let Some(pipe) = self.pipe(lm) else { continue };
            if !pipes.iter().any(|p| Arc::ptr_eq(p, &pipe)) {
                pipes.push(pipe);
            }
            let token = self.next_token();
            let party = Party { lm, name: &name, address };
            drop(self.run_with(token, Command::Rebooted { party, state, token }, Answer::nowhere()));
        }
        // rpc.statd tells only once: what it is answered must have been written down.
        pipe::answer_when_durable(&pipes, move || responder.success(&()));
    }
}

fn party_of<'a>(command: &Command<'a>) -> Option<Party<'a>> {
    match command {
        Command::Lock(r) => Some(r.party),
        Command::Unlock { party, .. }
        | Command::Cancel { party, .. }
        | Command::Test { party, .. }
        | Command::Share { party, .. }
        | Command::Unshare { party, .. }
        | Command::FreeAll { party, .. }
        | Command::Rebooted { party, .. }
        | Command::Trust { party }
        | Command::Restore { party, .. } => Some(*party),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::node::config::NodeConfig;
    use crate::node::host::Machine;
    use crate::node::statd::Statd;
    use crate::rpc::client::{ClientSettings, RpcClient};
    use crate::state::Range;
    use crate::store::LockStore;
    use crate::store::journal::{Disk, Journals, Options};
    use crate::store::record::{ClientKey, LockCondition, LockFields, OwnerKey, Place, Record};

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 1, 1, n])
    }

    fn outlet() -> Arc<Outlet> {
        let client = RpcClient::new(ClientSettings::default());
        Arc::new(Outlet {
            let_out: Box::new(|release| {
                if let Release::Tell(tell) = release {
                    tell();
                }
            }),
            fallen: Box::new(|_| {}),
            statd: Statd::new(&NodeConfig::default(), Arc::new(client)),
            host: Arc::new(Machine(tokio::runtime::Handle::current())),
        })
    }

    fn set(file: u8) -> record::Entry {
        let client = ClientKey { name: Box::default(), address: ip(98) };
        let owner = OwnerKey { client, oh: Box::default(), svid: 1 };
        let (mode, condition) = (crate::state::Mode::Exclusive, LockCondition::Held);
        let fields = LockFields { mode, condition, state: 0, since: 0, under: None };
        Record::Set(Place { owner, file: Box::new([file]), range: Range::ALL }, fields).into()
    }

    /// Two lock managers with journals that are written when the test says so.
    fn stepped(dir: &std::path::Path) -> (Arc<Journals>, BTreeMap<IpAddr, Arc<Pipe>>) {
        let options = Options { segment: 1 << 20, ..Options::default() };
        let journals = Arc::new(Journals::stepped(Arc::new(Disk), dir.into(), options, Box::new(|| 0)));
        let outlet = outlet();
        let pipes: BTreeMap<_, _> = [1, 2].map(|n| (ip(n), Pipe::new(ip(n), outlet.clone()))).into();
        for (ip, pipe) in &pipes {
            let name = ip.to_string();
            let epoch = journals.raise_epoch(&name, false).unwrap();
            let report = journals.load(&name, epoch, &mut |_| {}).unwrap();
            journals.own(&name, epoch, &report).unwrap();
            pipe.open(journals.clone(), name, epoch);
        }
        (journals, pipes)
    }

    #[tokio::test]
    async fn what_comes_after_a_lock_manager_was_closed_is_neither_written_nor_said() {
        let dir = tempfile::tempdir().unwrap();
        let (journals, pipes) = stepped(dir.path());
        let first = ip(1).to_string();
        let (tell, told) = mpsc::channel();
        pipes[&ip(1)].close();
        let reply = Release::Reply(Answer::nowhere(), Reply::Silent);
        let tell = Release::Tell(Box::new(move || tell.send(()).unwrap()));
        pipes[&ip(1)].push(vec![set(7)], vec![reply, tell]);
        journals.step(&first);
        told.try_recv().expect("who gives it up hears that all before is written");
        assert_eq!(journals.peek(&first).unwrap().unwrap().ledger.lock_count(), 0);
    }
}
