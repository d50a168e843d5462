//! SM_NOTIFY: after a take-over every client of a lock manager is told that its server was away, from the address it knows, until it
//! answers.
//!
//! The answer proves nothing, the reclaim does: both are shown per client. Must never speak before the address is here, open a
//! socket for each of many clients at once, or give up before a client had 15 minutes of tries.

mod round;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::host::{Addresses, Calls, Host, Spawned};
use super::view::NotifyCounts;
use round::Round;

/// Tries under way at once, of all lock managers: each has a socket. So 10,000 clients that are all gone have each had their first
/// try within half a minute, and the process keeps its descriptors.
const AT_ONCE: usize = 512;
/// How long a client is tried.
const GIVE_UP: Duration = Duration::from_secs(15 * 60);
/// The pause after the first try, doubled after each.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between tries.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The first try. Short, as others may wait for their first meanwhile; doubled with each.
const TRY: Duration = Duration::from_secs(2);
/// The longest try.
const TRY_MAX: Duration = Duration::from_secs(8);

/// Whom to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Its name, as it calls itself.
    pub(super) name: Box<[u8]>,
    /// Its address.
    pub(super) address: IpAddr,
}

/// How far a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    Pending,
    Sent,
    Answered,
    Reclaimed,
    GaveUp,
}

impl Progress {
    /// As the lists show it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Progress::Pending => "pending",
            Progress::Sent => "sent",
            Progress::Answered => "answered",
            Progress::Reclaimed => "reclaimed",
            Progress::GaveUp => "gave up",
        }
    }
}

/// Name and address of a client.
type Key = (Box<[u8]>, IpAddr);

/// Tells clients, and knows how far each is told.
pub(super) struct Notifier {
    host: Arc<dyn Host>,
    client: Arc<dyn Calls>,
    turns: Arc<Semaphore>,
    lms: Mutex<BTreeMap<IpAddr, Telling>>,
}

/// One lock manager's clients.
#[derive(Debug)]
struct Telling {
    stay: u64,
    told: Arc<Told>,
    task: Spawned,
}

/// How far each of them is told.
#[derive(Debug)]
struct Told(Mutex<BTreeMap<Key, Progress>>);

impl Notifier {
    /// Makes its calls with `client`, which should be its own: many clients that are gone must not take the turns of callbacks.
    pub(super) fn new(client: Arc<dyn Calls>, host: Arc<dyn Host>) -> Arc<Self> {
        Arc::new(Self { host, client, turns: Arc::new(Semaphore::new(AT_ONCE)), lms: Mutex::default() })
    }

    /// Begins to tell `clients` that `mon_name` is back with this NSM state, as soon as the lock manager's address `lm` is here.
    /// What was still going on for `lm` ends; `None`: it is of a later stay of the lock manager here, and goes on.
    ///
    /// The receiver hears when each client has had its first try from the address, whatever came of it; with no clients, when the
    /// address is here. It is closed without a word if [`end`](Self::end) or another `begin` comes first.
    pub(super) fn begin(
        &self,
        lm: IpAddr,
        stay: u64,
        clients: Vec<Target>,
        state: u32,
        mon_name: &str,
        addresses: Arc<dyn Addresses>,
    ) -> Option<oneshot::Receiver<()>> {
        let mut lms = self.lock();
        if lms.get(&lm).is_some_and(|telling| telling.stay > stay) {
            return None;
        }
        let all = clients.into_iter().map(|c| ((c.name, c.address), Progress::Pending)).collect();
        let told = Arc::new(Told(Mutex::new(all)));
        let (first, heard) = oneshot::channel();
        let (host, client) = (self.host.clone(), self.client.clone());
        let round = Round::new(lm, state, mon_name, host, client, self.turns.clone(), told.clone());
        let task = self.host.spawn(Box::pin(round.run(addresses, first)));
        if let Some(before) = lms.insert(lm, Telling { stay, told, task }) {
            before.task.abort();
        }
        Some(heard)
    }

    /// Tells nobody of `lm` any more and forgets how far it got, unless that is of a later stay: the address is somebody else's now.
    pub(super) fn end(&self, lm: IpAddr, stay: u64) {
        let mut lms = self.lock();
        if lms.get(&lm).is_some_and(|telling| telling.stay <= stay)
            && let Some(telling) = lms.remove(&lm)
        {
            telling.task.abort();
        }
    }

    /// A client reclaimed a lock of `lm`: it knows.
    pub(super) fn reclaimed(&self, lm: IpAddr, name: &[u8], address: IpAddr) {
        if let Some(told) = self.told(lm) {
            told.advance(&(name.into(), address), Progress::Reclaimed);
        }
    }

    /// How far this client is told by `lm`. `None`: it need not be.
    pub(super) fn progress(&self, lm: IpAddr, name: &[u8], address: IpAddr) -> Option<Progress> {
        self.told(lm)?.lock().get(&(name.into(), address)).copied()
    }

    /// How many clients of `lm` are how far.
    pub(super) fn counts(&self, lm: IpAddr) -> NotifyCounts {
        let mut counts = NotifyCounts::default();
        let Some(told) = self.told(lm) else { return counts };
        for progress in told.lock().values() {
            *match progress {
                Progress::Pending => &mut counts.pending,
                Progress::Sent => &mut counts.sent,
                Progress::Answered => &mut counts.answered,
                Progress::Reclaimed => &mut counts.reclaimed,
                Progress::GaveUp => &mut counts.gave_up,
            } += 1;
        }
        counts
    }

    fn told(&self, lm: IpAddr) -> Option<Arc<Told>> {
        self.lock().get(&lm).map(|telling| telling.told.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Telling>> {
        self.lms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.lock().values().for_each(|telling| telling.task.abort());
    }
}

impl Told {
    /// Notes how far a known client is told. It never goes back; one that was given up may still reclaim.
    fn advance(&self, key: &Key, to: Progress) {
        if let Some(progress) = self.lock().get_mut(key) {
            *progress = match *progress {
                Progress::Reclaimed => Progress::Reclaimed,
                _ if to == Progress::Reclaimed => to,
                before => before.max(to),
            };
        }
    }

    fn get(&self, key: &Key) -> Option<Progress> {
        self.lock().get(key).copied()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
