//! What the node needs of the machine it runs on: clocks, tasks, waiting, calls to clients, the addresses. The real machine is one
//! implementation; the simulator is another, in which the same node runs with a clock and a network of its own.
//!
//! Must never decide anything: whoever implements it only carries out.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::addresses::AddressWatch;
use super::tickle;
use crate::rpc::Transport;
use crate::rpc::client::{CallError, CallReply, CallSpec, RpcClient};
use crate::rpc::server::RpcServer;

/// Something that goes on beside others, or an outcome that comes later.
pub type Task<T = ()> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Clocks and threads.
pub trait Host: Send + Sync + 'static {
    /// The clock that never goes back.
    fn now(&self) -> Instant;
    /// The clock of the day: time since 1970 UTC. It may jump.
    fn unix(&self) -> Duration;
    /// Lets a task go on by itself.
    fn spawn(&self, task: Task) -> Spawned;
    /// Runs a job on a thread that may block.
    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>);
    /// Is over after this time.
    fn sleep(&self, span: Duration) -> Task;
    /// Blocks the thread for this time.
    fn pause(&self, span: Duration);
    /// Blocks the thread until the latch is set. False: it was not, in this time.
    fn wait(&self, latch: &Latch, most: Duration) -> bool;
}

/// Calls to other hosts.
pub trait Calls: Send + Sync + 'static {
    /// Makes a call, with retransmissions.
    fn call(&self, spec: CallSpec) -> Task<Result<CallReply, CallError>>;
    /// Asks a host's rpcbind for the port of a program. `from`: the address to ask from.
    fn getport(
        &self,
        to: IpAddr,
        from: Option<IpAddr>,
        program: u32,
        version: u32,
        transport: Transport,
        give_up: Duration,
    ) -> Task<Result<u16, CallError>>;
    /// Forgets what is known of a host's ports.
    fn invalidate(&self, host: IpAddr);
}

/// The connections that clients have to us.
pub trait Connections: Send + Sync + 'static {
    /// Those to `local`, ours first.
    fn peers(&self, local: IpAddr) -> Vec<(SocketAddr, SocketAddr)>;
    /// Resets those to `local`. Blocks until they are gone.
    fn reset(&self, local: IpAddr);
}

/// The addresses of this machine.
pub trait Addresses: Send + Sync + 'static {
    /// Whether packets to `ip` arrive here and calls can leave from it.
    fn here(&self, ip: IpAddr) -> bool;
    /// The configured addresses, now and whenever they change.
    fn subscribe(&self) -> watch::Receiver<Arc<BTreeSet<IpAddr>>>;
    /// Is over as soon as `ip` is here.
    fn wait_for(&self, ip: IpAddr) -> Task;
    /// Makes the clients of these connections, ours first, notice that they lead nowhere; over a few seconds, while `ip` is here.
    fn wake_clients(&self, ip: IpAddr, connections: Vec<(SocketAddr, SocketAddr)>) -> Task;
}

/// Ends a task that was spawned. Dropped, it lets it go on.
pub struct Spawned(Box<dyn Fn() + Send + Sync>);

impl Spawned {
    /// `abort` ends the task; doing it twice, or too late, must do nothing.
    pub fn new(abort: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Box::new(abort))
    }

    /// Ends it.
    pub fn abort(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Spawned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spawned")
    }
}

/// Set once, and then for good.
#[derive(Debug, Default)]
pub struct Latch {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Latch {
    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        *self.lock()
    }

    /// Sets it.
    pub fn set(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    /// Blocks the thread until it is set, or not longer than this.
    pub fn wait(&self, most: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), most, |set| !*set);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A value that one thread hands to another that waits for it.
pub(super) fn hand_over<T>() -> (Giver<T>, Taker<T>) {
    let shared = Arc::new((Latch::default(), Mutex::new(None)));
    (Giver(shared.clone()), Taker(shared))
}

/// Dropped without a word, nobody waits any longer.
pub(super) struct Giver<T>(Arc<(Latch, Mutex<Option<T>>)>);

impl<T> Giver<T> {
    /// Gives the value.
    pub(super) fn give(self, value: T) {
        *self.0.1.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        self.0.0.set();
    }
}

/// Waits for it.
pub(super) struct Taker<T>(Arc<(Latch, Mutex<Option<T>>)>);

impl<T> Taker<T> {
    /// The value; `None`: nothing came in this time, or nothing will.
    pub(super) fn take(self, host: &dyn Host, most: Duration) -> Option<T> {
        host.wait(&self.0.0, most);
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The outcome of `task`, if it comes in this time.
pub(super) async fn in_time<T>(host: &dyn Host, most: Duration, task: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        outcome = task => Some(outcome),
        () = host.sleep(most) => None,
    }
}

/// The machine itself, through a tokio runtime.
#[derive(Clone, Debug)]
pub(super) struct Machine(pub(super) Handle);

impl Host for Machine {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn spawn(&self, task: Task) -> Spawned {
        let handle = self.0.spawn(task).abort_handle();
        Spawned::new(move || handle.abort())
    }

    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) {
        drop(self.0.spawn_blocking(job));
    }

    fn sleep(&self, span: Duration) -> Task {
        Box::pin(tokio::time::sleep(span))
    }

    fn pause(&self, span: Duration) {
        std::thread::sleep(span);
    }

    fn wait(&self, latch: &Latch, most: Duration) -> bool {
        latch.wait(most)
    }
}

impl Calls for RpcClient {
    fn call(&self, spec: CallSpec) -> Task<Result<CallReply, CallError>> {
        let client = self.clone();
        Box::pin(async move { RpcClient::call(&client, spec).await })
    }

    fn getport(
        &self,
        to: IpAddr,
        from: Option<IpAddr>,
        program: u32,
        version: u32,
        transport: Transport,
        give_up: Duration,
    ) -> Task<Result<u16, CallError>> {
        let client = self.clone();
        Box::pin(
            async move { RpcClient::getport(&client, to, from, program, version, transport, give_up).await },
        )
    }

    fn invalidate(&self, host: IpAddr) {
        RpcClient::invalidate(self, host);
    }
}

/// The connections of a server, reset on its runtime.
pub(super) struct ServerConnections(pub(super) RpcServer, pub(super) Handle);

impl Connections for ServerConnections {
    fn peers(&self, local: IpAddr) -> Vec<(SocketAddr, SocketAddr)> {
        self.0.peers(Some(local))
    }

    fn reset(&self, local: IpAddr) {
        self.1.block_on(self.0.reset_connections(local));
    }
}

/// The addresses of the machine as they come and go.
pub(super) struct LiveAddresses(pub(super) Arc<AddressWatch>);

impl Addresses for LiveAddresses {
    fn here(&self, ip: IpAddr) -> bool {
        self.0.here(ip)
    }

    fn subscribe(&self) -> watch::Receiver<Arc<BTreeSet<IpAddr>>> {
        self.0.subscribe()
    }

    fn wait_for(&self, ip: IpAddr) -> Task {
        let watch = self.0.clone();
        Box::pin(async move { watch.wait_for(ip).await })
    }

    fn wake_clients(&self, ip: IpAddr, connections: Vec<(SocketAddr, SocketAddr)>) -> Task {
        Box::pin(tickle::tickle_later(ip, connections, self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_value_is_handed_over_and_a_giver_that_is_gone_is_not_waited_for() {
        let host = Machine(Handle::current());
        let (give, take) = hand_over();
        std::thread::spawn(move || give.give(7));
        assert_eq!(take.take(&host, Duration::from_secs(60)), Some(7));
        let (give, take) = hand_over::<u32>();
        drop(give);
        assert_eq!(take.take(&host, Duration::from_secs(60)), None);
        let (_give, take) = hand_over::<u32>();
        assert_eq!(take.take(&host, Duration::ZERO), None);
    }
}
