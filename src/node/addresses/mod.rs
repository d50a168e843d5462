//! The addresses of this node, followed as they come and go: a floating address is here or it is not, and somebody waits for it.
//!
//! Netlink only wakes us: what is true is read anew each time, so a lost message costs a few seconds at the most. Must never take
//! an address for ours that merely could be bound (`ip_nonlocal_bind`), nor one that the network has not agreed to yet (IPv6 DAD).

mod read;
#[cfg(test)]
mod tests;
mod wake;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use read::Reading;
use wake::Wakes;

/// How often addresses are read without having been woken: covers messages that were lost.
const REREAD: Duration = Duration::from_secs(5);
/// The same where netlink is refused to us, and how often somebody who waits for an address tries to bind it: no message tells of
/// addresses that come by a route (AnyIP).
const POLL: Duration = Duration::from_secs(1);

/// Follows this node's addresses until it is dropped.
#[derive(Debug)]
pub struct AddressWatch {
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    /// What the last reading found.
    reading: Mutex<Arc<Reading>>,
    /// The addresses of it, for those who want to know of changes.
    addresses: watch::Sender<Arc<BTreeSet<IpAddr>>>,
}

impl AddressWatch {
    /// Reads the addresses once and goes on doing so in a task on `runtime`. Needs no privilege.
    ///
    /// # Errors
    /// The system does not tell its addresses in any of the ways we know.
    pub fn start(runtime: &Handle) -> io::Result<Arc<Self>> {
        // Listen first, then read: what changes in between is a wake-up.
        let wakes = Wakes::open();
        if let Err(error) = &wakes {
            tracing::info!(%error, "no netlink: addresses that come and go are looked for each second");
        }
        let reading = Arc::new(read::read()?);
        let shared = Arc::new(Shared {
            addresses: watch::Sender::new(Arc::new(reading.addresses.clone())),
            reading: Mutex::new(reading),
        });
        let task = runtime.spawn(follow(shared.clone(), wakes.ok())).abort_handle();
        Ok(Arc::new(Self { shared, task }))
    }

    /// Whether packets to `ip` arrive here and calls can leave from it: it is configured and usable, or is covered by a
    /// local route, as all of 127.0.0.0/8 is.
    pub fn here(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let reading = self.shared.reading.lock().unwrap_or_else(PoisonError::into_inner).clone();
        reading.has(ip) || read::can_be_bound(ip)
    }

    /// The configured, usable addresses, now and whenever they change; for addresses that come by a route ask
    /// [`here`](Self::here).
    pub fn subscribe(&self) -> watch::Receiver<Arc<BTreeSet<IpAddr>>> {
        self.shared.addresses.subscribe()
    }

    /// Waits, for ever if need be, until `ip` is here. Cancel safe.
    pub async fn wait_for(&self, ip: IpAddr) {
        let mut changes = self.subscribe();
        while !self.here(ip) {
            // Changed or not: the loop looks.
            let _ = tokio::time::timeout(POLL, changes.changed()).await;
        }
    }
}

impl Drop for AddressWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads whenever woken, and now and then.
async fn follow(shared: Arc<Shared>, wakes: Option<Wakes>) {
    let mut wakes = wakes.and_then(|w| {
        w.listen().inspect_err(|error| tracing::warn!(%error, "netlink cannot be listened to")).ok()
    });
    let mut failing = false;
    loop {
        let lost = match &wakes {
            Some(listening) => matches!(tokio::time::timeout(REREAD, listening.woken()).await, Ok(Err(_))),
            None => {
                tokio::time::sleep(POLL).await;
                false
            }
        };
        if lost {
            tracing::warn!("netlink is lost: addresses are looked for each second from now on");
            wakes = None;
        }
        match read::read() {
            Ok(reading) => {
                shared.set(reading);
                failing = false;
            }
            // The last reading stays: addresses do not go because we ran out of descriptors.
            Err(error) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!(%error, "the addresses of this node cannot be read");
            }
            Err(_) => {}
        }
    }
}

impl Shared {
    fn set(&self, reading: Reading) {
        let addresses = reading.addresses.clone();
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(reading);
        // After the reading is in place, so that who is woken finds it.
        self.addresses.send_if_modified(|known| {
            let changed = **known != addresses;
            if changed {
                *known = Arc::new(addresses);
            }
            changed
        });
    }
}
