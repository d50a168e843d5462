//! What is looked at every so often: whether we were superseded, whether a disk is full, which connections clients have, which addresses
//! came and went. Must never do what a verb does in another way than the verb does it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Managers, Slot, State};
use crate::node::host::in_time;
use crate::node::verbs::{NodeControl, StartGrace, Verb};
use crate::store::LockStore as _;
use crate::store::record::{Connection, Record};

/// How often the epoch is read where nothing else does: so long files are still served by a node that was superseded.
const LOOK: Duration = Duration::from_secs(1);
/// How often overdue records are looked for, at the least: four times in the hold time, but not all the time.
const HOLD_LOOK: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(60)];
/// An address that vanished is given up after this: `ip addr` of some scripts takes one away and puts it back.
const VANISHED: Duration = Duration::from_millis(200);
/// Auto mode tries again what failed after this: the address may have come before its disk.
const TRY_AGAIN: Duration = Duration::from_secs(2);

impl Managers {
    /// Starts everything that is looked at.
    pub(in crate::node) fn watch(self: &Arc<Self>) {
        let host = &self.rooms.host;
        let this = self.clone();
        host.spawn(Box::pin(async move {
            let mut known = BTreeSet::new();
            loop {
                this.rooms.host.sleep(LOOK).await;
                this.look(&mut known);
            }
        }));
        let this = self.clone();
        let pause = (self.rooms.config.grace.hold / 4).clamp(HOLD_LOOK[0], HOLD_LOOK[1]);
        host.spawn(Box::pin(async move {
            loop {
                this.rooms.host.sleep(pause).await;
                this.blocking(Managers::drop_overdue).await;
            }
        }));
        if self.rooms.config.auto {
            let this = self.clone();
            host.spawn(Box::pin(async move { this.follow_addresses().await }));
        }
    }

    /// Runs `job` on a thread that may block. `None`: it panicked.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        job: impl FnOnce(&Arc<Self>) -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let this = self.clone();
        self.rooms.host.spawn_blocking(Box::new(move || {
            // Who asked may be gone.
            let _ = tell.send(job(&this));
        }));
        told.await.ok()
    }

    /// One look at every loaded lock manager. `known`: the connections that are in the records.
    fn look(&self, known: &mut BTreeSet<(IpAddr, u16, SocketAddr)>) {
        let mut now = BTreeSet::new();
        for (ip, pipe) in self.rooms.desk.loaded() {
            let Some(slot) = self.slot(ip).filter(Slot::is_loaded) else { continue };
            pipe.set_low(self.rooms.journals.is_low(&ip.to_string()));
            let mut entries = Vec::new();
            if slot.floating {
                let peers = self.rooms.connections.peers(ip);
                let here: BTreeSet<_> =
                    peers.into_iter().map(|(local, peer)| (ip, local.port(), peer)).collect();
                let was = || known.iter().filter(|(of, ..)| *of == ip);
                entries.extend(
                    was().filter(|c| !here.contains(*c)).map(|c| Record::Disconnected(connection(c)).into()),
                );
                entries.extend(
                    here.iter()
                        .filter(|c| !known.contains(*c))
                        .map(|c| Record::Connected(connection(c)).into()),
                );
                now.extend(here);
            }
            // Also with nothing to write: the store reads the epoch and says if we are superseded.
            pipe.push(entries, Vec::new());
        }
        *known = now;
    }

    /// Makes clients notice that their old connections to the address lead nowhere.
    pub(super) fn wake_connections(self: &Arc<Self>, ip: IpAddr, connections: Vec<Connection>) {
        let peers: Vec<(SocketAddr, SocketAddr)> = connections
            .iter()
            .map(|c| (SocketAddr::new(ip, c.local_port), SocketAddr::new(c.address, c.port)))
            .collect();
        let Some(pipe) = self.rooms.desk.pipe(ip).filter(|_| !peers.is_empty()) else { return };
        let gone = connections.into_iter().map(|c| Record::Disconnected(c).into()).collect();
        pipe.push(gone, Vec::new());
        let this = self.clone();
        self.rooms.host.spawn(Box::pin(async move {
            this.rooms.addresses.wait_for(ip).await;
            if pipe.is_alive() {
                this.rooms.addresses.wake_clients(ip, peers).await;
            }
        }));
    }

    /// Auto mode: the configured addresses come and go with the node's.
    async fn follow_addresses(self: Arc<Self>) {
        let mut changes = self.rooms.addresses.subscribe();
        let configured: Vec<IpAddr> = self.rooms.config.lock_managers.iter().map(|lm| lm.address).collect();
        let mut due = configured.clone();
        loop {
            let mut failed = Vec::new();
            for ip in due {
                // One after the other, as they come: a verb is quick unless a disk hangs.
                if let Some(false) = self.blocking(move |this| this.follow(ip)).await {
                    failed.push(ip);
                }
            }
            // Without a change only what failed: what an operator did since is not undone.
            due = match failed.is_empty() {
                true if changes.changed().await.is_ok() => configured.clone(),
                true => return,
                false => match in_time(self.rooms.host.as_ref(), TRY_AGAIN, changes.changed()).await {
                    Some(Ok(())) => configured.clone(),
                    Some(Err(_)) => return,
                    None => failed,
                },
            };
        }
    }

    /// False: it is not done, and is to be tried again.
    fn follow(self: &Arc<Self>, ip: IpAddr) -> bool {
        let here = || self.rooms.addresses.here(ip);
        let loaded = || self.slot(ip).is_some_and(|slot| slot.is_loaded());
        let verb = match (here(), loaded()) {
            (true, false) => {
                // A node that lost its record, or lost it to another node, must not take it back by itself, over and over.
                if self.slot(ip).is_some_and(|s| matches!(s.state, State::Failed | State::Superseded)) {
                    return true;
                }
                Verb::StartGrace(StartGrace::new(ip))
            }
            (false, true) => {
                self.rooms.host.pause(VANISHED);
                if here() {
                    return true;
                }
                Verb::UnlockIp { ip }
            }
            _ => return true,
        };
        tracing::info!(lock_manager = %ip, verb = verb.name(), "auto: the address has {}", if here() { "come" } else { "gone" });
        // What went wrong is in the log and in `last_error`.
        self.execute(&verb, false).is_ok()
    }
}

fn connection((_, local_port, peer): &(IpAddr, u16, SocketAddr)) -> Connection {
    Connection { local_port: *local_port, address: peer.ip(), port: peer.port() }
}
