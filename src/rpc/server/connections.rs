//! The live TCP connections of a server: found by local address, counted, told to end.
//! Must never do I/O on them: each connection's own task does that.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::shared::{Control, Shared};

/// The search for one to give way looks at every connection: not more often than this.
const EVICT_EVERY_MS: u64 = 100;

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    live: Mutex<HashMap<u64, Arc<Shared>>>,
    changed: Notify,
    next_id: AtomicU64,
    last_search: AtomicU64,
}

impl Connections {
    fn live(&self) -> MutexGuard<'_, HashMap<u64, Arc<Shared>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a connection unless there are `most` already.
    pub(super) fn add(&self, most: usize, conn: &Arc<Shared>) -> bool {
        let mut live = self.live();
        if live.len() >= most {
            return false;
        }
        live.insert(conn.id, conn.clone());
        true
    }

    pub(super) fn remove(&self, id: u64) {
        self.live().remove(&id);
        self.changed.notify_waiters();
    }

    pub(super) fn count(&self) -> usize {
        self.live().len()
    }

    /// Ends the connection that is idle longest, if that is long enough, so that a new one finds room soon.
    pub(super) fn evict_idle(&self, since_start: Duration, idle: Duration) -> bool {
        let now_ms = since_start.as_millis() as u64;
        if now_ms.saturating_sub(self.last_search.load(Ordering::Relaxed)) < EVICT_EVERY_MS {
            return false;
        }
        self.last_search.store(now_ms, Ordering::Relaxed);
        let live = self.live();
        let idlest = live.values().filter(|c| c.is_idle()).min_by_key(|c| c.last_active_ms());
        match idlest {
            Some(conn) if now_ms.saturating_sub(conn.last_active_ms()) >= idle.as_millis() as u64 => {
                conn.control(Control::Close);
                true
            }
            _ => false,
        }
    }

    /// The peers connected to each of our addresses.
    pub(super) fn peers(&self, local: Option<IpAddr>) -> Vec<(SocketAddr, SocketAddr)> {
        let matching = |c: &&Arc<Shared>| local.is_none_or(|ip| c.local.ip() == ip);
        self.live().values().filter(matching).map(|c| (c.local, c.peer)).collect()
    }

    /// Tells the connections of `local` (None: all) to end, and waits until they have, `wait` at the most.
    /// Returns how many were told.
    pub(super) async fn end(&self, local: Option<IpAddr>, how: Control, wait: Duration) -> usize {
        let mine = |c: &Shared| local.is_none_or(|ip| c.local.ip() == ip);
        let told: Vec<Arc<Shared>> = self.live().values().filter(|c| mine(c)).cloned().collect();
        told.iter().for_each(|c| c.control(how));
        let deadline = Instant::now() + wait;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let gone = {
                let live = self.live();
                told.iter().all(|c| !live.contains_key(&c.id))
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if gone || left.is_zero() {
                return told.len();
            }
            let _ = tokio::time::timeout(left, changed).await;
        }
    }
}
