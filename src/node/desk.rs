//! The desk in front of the lock core: one mutex around the engine, and the rule that nothing leaves before what it
//! depends on is durable.
//!
//! A request runs on the task that read it: take the mutex, let the engine decide, let go. What the engine says goes out at
//! once, unless it comes with a durable entry or speaks to a client whose entry is still being written: then it waits in the
//! [`super::commit`] queue. Must never do I/O under the mutex.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use super::commit::{Commit, Release};
use super::refusals::{Refusals, Replay};
use crate::rpc::{CallInfo, Responder};
use crate::service::nlm::{Answer, LockService};
use crate::state::{
    CallbackOutcome, Command, Effect, Effects, Engine, Entry, Event, GrantId, Party, Time, Token,
};

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

/// A client as the durable list knows it.
pub(super) type ClientKey = (IpAddr, Box<[u8]>, IpAddr);

/// Hears every event, for the log and for who else wants to know.
pub(super) type Observer = Box<dyn Fn(&Event) + Send + Sync>;

pub(super) struct Desk {
    origin: Instant,
    origin_unix: Duration,
    tokens: AtomicU64,
    inner: parking_lot::Mutex<Inner>,
    commit: Arc<Commit>,
    callbacks: Arc<dyn Callbacks>,
    refusals: Mutex<Refusals>,
    timer: Notify,
    observer: Observer,
    monitored_by_statd: bool,
}

struct Inner {
    engine: Engine,
    fx: Effects,
    /// Requests whose reply comes later.
    parked: HashMap<Token, Answer>,
    /// Clients whose entry is not durable yet, and how many entries.
    pending: BTreeMap<ClientKey, u32>,
    armed: Option<Time>,
}

impl Desk {
    pub(super) fn new(
        engine: Engine,
        commit: Arc<Commit>,
        callbacks: Arc<dyn Callbacks>,
        observer: Observer,
        monitored_by_statd: bool,
    ) -> Self {
        let inner = Inner {
            engine,
            fx: Effects::default(),
            parked: HashMap::new(),
            pending: BTreeMap::new(),
            armed: None,
        };
        Self {
            origin: Instant::now(),
            origin_unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            tokens: AtomicU64::new(1),
            inner: parking_lot::Mutex::new(inner),
            commit,
            callbacks,
            refusals: Mutex::new(Refusals::default()),
            timer: Notify::new(),
            observer,
            monitored_by_statd,
        }
    }

    /// The engine's clock.
    pub(super) fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Unix seconds of an engine time.
    pub(super) fn unix(&self, time: Time) -> u64 {
        (self.origin_unix + Duration::from_millis(time.0)).as_secs()
    }

    /// Reads the engine. Keep it short: every request waits meanwhile.
    pub(super) fn read<T>(&self, f: impl FnOnce(&Engine) -> T) -> T {
        f(&self.inner().engine)
    }

    /// Runs a command that nobody waits for.
    pub(super) fn run(&self, command: Command<'_>) {
        self.run_with(self.next_token(), command, Answer::nowhere());
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

    /// Entries that were pending are durable now.
    pub(super) fn settled(&self, entries: &[Entry]) {
        let mut inner = self.inner();
        for key in entries.iter().filter(|e| e.is_sync()).filter_map(key_of) {
            if let Some(count) = inner.pending.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    inner.pending.remove(&key);
                }
            }
        }
    }

    /// Lets a release out.
    pub(super) fn let_out(&self, release: Release) {
        match release {
            Release::Reply(answer, reply) => answer.send(reply),
            Release::Granted(order) => self.callbacks.start(*order),
            Release::Stop(grant) => self.callbacks.stop(grant),
        }
    }

    /// Does what is due, for ever.
    pub(super) async fn run_timers(&self) {
        loop {
            let next = self.read(Engine::next_timer);
            let wait = next.map(|t| Duration::from_millis(t.0.saturating_sub(self.now().0)));
            tokio::select! {
                () = self.timer.notified() => {}
                () = sleep(wait) => self.run(Command::Tick),
            }
        }
    }

    fn run_with(&self, token: Token, command: Command<'_>, answer: Answer) {
        let replay = Replay::of(&command);
        let key = party_of(&command).map(|p| (p.lm, Box::from(p.name), p.address));
        let mut guard = self.inner();
        let inner = &mut *guard;
        if self.commit.is_full() && key.as_ref().is_some_and(|k| inner.must_wait_for_disk(k)) {
            // Silence: the client asks again, and the disk may be there by then. Dropped outside the mutex.
            drop(guard);
            drop(answer);
            return;
        }
        inner.engine.handle(self.now(), command, &mut inner.fx);

        let entries = std::mem::take(&mut inner.fx.entries);
        let sync = entries.iter().any(Entry::is_sync);
        for key in entries.iter().filter(|e| e.is_sync()).filter_map(key_of) {
            *inner.pending.entry(key).or_default() += 1;
        }
        let mine = sync
            || (!inner.pending.is_empty() && key.as_ref().is_some_and(|k| inner.pending.contains_key(k)));
        let mut held = Vec::new();
        let mut free = Vec::new();
        let mut events = Vec::new();
        let mut answer = Some(answer);
        for effect in inner.fx.out.drain(..) {
            let (release, hold) = match effect {
                Effect::Event(event) => {
                    events.push(event);
                    continue;
                }
                Effect::Reply { token: t, reply } => {
                    let to = if t == token { answer.take() } else { inner.parked.remove(&t) };
                    let Some(to) = to else { continue };
                    // Another's request that is answered now: whose entries are pending is not looked up, it just waits too.
                    (Release::Reply(to, reply), mine || (t != token && !inner.pending.is_empty()))
                }
                Effect::StopGranted { grant } => (Release::Stop(grant), false),
                Effect::SendGranted { grant, lm, to, name, oh, svid, range, mode, route } => {
                    let hold = sync || inner.pending.contains_key(&(lm, name.clone(), to));
                    let order = GrantedOrder { grant, lm, to, name, oh, svid, range, mode, route };
                    (Release::Granted(Box::new(order)), hold)
                }
            };
            if hold { held.push(release) } else { free.push(release) }
        }
        if let Some(answer) = answer.filter(|a| !a.is_nowhere()) {
            inner.parked.insert(token, answer);
        }
        if !entries.is_empty() || !held.is_empty() {
            // Under the mutex, so that the queue has the engine's order.
            self.commit.push(entries, held);
        }
        let next = inner.engine.next_timer();
        let rearm = next.is_some() && (inner.armed.is_none() || next < inner.armed);
        inner.armed = next;
        drop(guard);

        if rearm {
            self.timer.notify_one();
        }
        for release in free {
            self.let_out(release);
        }
        for event in events {
            self.report(event, replay.as_ref());
        }
    }

    fn report(&self, event: Event, replay: Option<&Replay>) {
        if let (Event::Refused { kind, lm, client, from, expected }, Some(replay)) = (&event, replay) {
            let at = self.unix(self.now());
            self.refusals().add(*kind, *lm, client, *from, *expected, replay.clone(), at);
        }
        (self.observer)(&event);
    }

    /// Each command is one engine call; a panic inside it would be a bug that must not stop the others.
    fn inner(&self) -> parking_lot::MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Inner {
    /// Whether a request of this client could not be answered before something is written.
    fn must_wait_for_disk(&self, key: &ClientKey) -> bool {
        self.pending.contains_key(key) || !self.engine.is_recorded(key.0, &key.1, key.2)
    }
}

impl LockService for Desk {
    fn next_token(&self) -> Token {
        Token(self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    fn submit(&self, token: Token, command: Command<'_>, answer: Answer) {
        self.run_with(token, command, answer);
    }

    fn granted_res(&self, cookie: &[u8], info: &CallInfo, accepted: bool) {
        self.callbacks.answered(cookie, info.peer.ip(), accepted);
    }

    fn has_monitor(&self) -> bool {
        self.monitored_by_statd
    }

    /// The private bytes are the client's address: see `Statd`. The monitor looked after that address for us, so what it says
    /// counts as said by each client there.
    fn monitor_notice(&self, name: &[u8], state: u32, private: [u8; 16], responder: Responder) {
        let address = Ipv6Addr::from(private).to_canonical();
        tracing::info!(host = %super::views::text(name), %address, state, "rpc.statd: a client restarted");
        for (lm, name) in self.read(|e| e.clients_at(address)) {
            let token = self.next_token();
            let party = Party { lm, name: &name, address };
            self.run_with(token, Command::Rebooted { party, state, token }, Answer::nowhere());
        }
        responder.success(&());
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

fn key_of(entry: &Entry) -> Option<ClientKey> {
    match entry {
        Entry::Client { lm, name, address, .. } | Entry::Forget { lm, name, address } => {
            Some((*lm, name.clone(), *address))
        }
        // Locks are not recorded yet.
        _ => None,
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
    use super::*;
    use crate::state::Settings;

    struct Nobody;

    impl Callbacks for Nobody {
        fn start(&self, _: GrantedOrder) {}
        fn stop(&self, _: GrantId) {}
        fn answered(&self, _: &[u8], _: IpAddr, _: bool) {}
    }

    #[test]
    fn commands_that_nobody_waits_for_leave_nothing_behind() {
        let engine = Engine::new(Settings::default());
        let desk = Desk::new(engine, Arc::default(), Arc::new(Nobody), Box::new(|_| {}), false);
        for _ in 0..3 {
            desk.run(Command::Tick);
            desk.callback_done(GrantId(7), CallbackOutcome::Accepted);
        }
        assert_eq!(desk.inner().parked.len(), 0);
    }
}
