//! Whose call may be made now: a bounded number in all, and a smaller one to each host, in order of asking.
//! Must never let the calls to one host keep those to another waiting.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::lock;

/// Hosts in mind before those without calls are looked for and forgotten.
const TIDY_ABOVE: usize = 1_024;

/// The turns of one client.
#[derive(Debug)]
pub(super) struct Turns {
    all: Semaphore,
    per_host: usize,
    hosts: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// The right to make one call, until dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _host: OwnedSemaphorePermit,
    _all: SemaphorePermit<'a>,
}

impl Turns {
    /// `all` calls at once, `per_host` to each host.
    pub(super) fn new(all: usize, per_host: usize) -> Self {
        Self { all: Semaphore::new(all), per_host, hosts: Mutex::default() }
    }

    /// Waits for a turn. Cancel safe. None does not happen: the semaphores are never closed.
    pub(super) async fn take(&self, host: IpAddr) -> Option<Turn<'_>> {
        // The host's first: who waits for a silent host must not stand in everybody's queue.
        let host = self.host(host).acquire_owned().await.ok()?;
        let all = self.all.acquire().await.ok()?;
        Some(Turn { _host: host, _all: all })
    }

    fn host(&self, host: IpAddr) -> Arc<Semaphore> {
        let mut hosts = lock(&self.hosts);
        if let Some(known) = hosts.get(&host).and_then(Weak::upgrade) {
            return known;
        }
        if hosts.len() >= TIDY_ABOVE {
            hosts.retain(|_, turns| turns.strong_count() > 0);
        }
        let turns = Arc::new(Semaphore::new(self.per_host));
        hosts.insert(host, Arc::downgrade(&turns));
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// What a future says without waiting.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_host_that_never_answers_leaves_turns_to_the_others() {
        let turns = Turns::new(3, 2);
        let (silent, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let held: Vec<_> = (0..2).map(|_| now(turns.take(silent)).flatten().unwrap()).collect();
        assert!(now(turns.take(silent)).is_none());
        let last = now(turns.take(other)).flatten().unwrap();
        assert!(now(turns.take(other)).is_none(), "three in all");
        drop((held, last));
        assert!(now(turns.take(silent)).is_some());
    }
}
