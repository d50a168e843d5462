//! Serves programs on ports: TCP and UDP, IPv4 and IPv6.
//!
//! [`RpcServer::bind`] opens a port's sockets, [`RpcServer::serve`] begins to answer on them. What this part
//! must never do: know a program, or let one peer take what belongs to the others.

mod bind;
mod connections;
mod holder;
mod limits;
mod outbox;
mod pktinfo;
mod shared;
mod tcp;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tracing::{debug, warn};

pub use bind::ListenError;
pub use holder::{Holder, holder_of, is_bound};
pub use limits::ServerLimits;
pub use udp::UdpEndpoint;

use super::dispatch::Router;
use super::drc::Drc;
use super::types::{Program, Transport};
use shared::{Control, Shared};
use tcp::{Common, Connection};

/// After a failed accept (no descriptors left) this long nothing is accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A warning about the connection limit at most this often.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// How long [`RpcServer::reset_connections`] waits for connections to be gone. They need microseconds.
const RESET_WAIT: Duration = Duration::from_secs(2);

/// An address in its simplest form: v4-mapped IPv6 becomes IPv4.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(v6.ip().to_canonical(), v6.port())
        }
        other => other,
    }
}

/// What to open.
#[derive(Clone, Debug)]
pub struct ListenSpec {
    /// The programs' name for messages: "nfs", "nlm"...
    pub name: String,
    /// Addresses to listen on. Empty: the wildcard of both families.
    pub bind: Vec<IpAddr>,
    /// The port. 0: one that is free for TCP and UDP.
    pub port: u16,
    /// Whether UDP is served beside TCP.
    pub udp: bool,
}

/// An open port that is not answered on yet. Dropped, it is closed.
#[derive(Debug)]
pub struct BoundPort {
    name: String,
    tcp: Vec<(std::net::TcpListener, SocketAddr)>,
    udp: Vec<Arc<UdpEndpoint>>,
}

impl BoundPort {
    /// The programs' name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port number, the same on all its sockets.
    pub fn port(&self) -> u16 {
        self.tcp.first().map_or(0, |(_, addr)| addr.port())
    }

    /// Every socket's transport and address.
    pub fn addresses(&self) -> Vec<(Transport, SocketAddr)> {
        let tcp = self.tcp.iter().map(|(_, addr)| (Transport::Tcp, *addr));
        tcp.chain(self.udp.iter().map(|e| (Transport::Udp, e.local_addr()))).collect()
    }

    /// The UDP sockets, for calls that must leave from this port.
    pub fn udp(&self) -> UdpPort {
        UdpPort { sockets: self.udp.clone() }
    }
}

/// The UDP sockets of a port, as the source of outgoing calls.
#[derive(Clone, Debug)]
pub struct UdpPort {
    sockets: Vec<Arc<UdpEndpoint>>,
}

impl UdpPort {
    /// The socket from which a datagram can leave with the source address `local`.
    pub fn from_address(&self, local: &IpAddr) -> Option<Arc<UdpEndpoint>> {
        let exact = self.sockets.iter().find(|s| s.local_addr().ip() == *local);
        let wildcard = || {
            let suits = |s: &IpAddr| s.is_unspecified() && s.is_ipv4() == local.is_ipv4();
            self.sockets.iter().find(|s| suits(&s.local_addr().ip()))
        };
        exact.or_else(wildcard).cloned()
    }
}

/// A server: any number of ports, one set of limits, one duplicate request cache. Clones are the same server.
#[derive(Clone, Debug)]
pub struct RpcServer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    common: Arc<Common>,
    drc: Arc<Drc>,
    stop: watch::Sender<bool>,
    endpoints: Mutex<Vec<Arc<UdpEndpoint>>>,
    udp_tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    refused: AtomicU64,
    warned: Mutex<Option<Instant>>,
    stopping: AtomicBool,
}

impl RpcServer {
    /// A server without ports.
    pub fn new(limits: ServerLimits, drc: Arc<Drc>) -> Self {
        let common = Common {
            limits,
            budget: Arc::new(Semaphore::new(limits.budget)),
            connections: Default::default(),
            start: Instant::now(),
        };
        let inner = Inner {
            common: Arc::new(common),
            drc,
            stop: watch::Sender::new(false),
            endpoints: Mutex::default(),
            udp_tasks: Mutex::default(),
            refused: AtomicU64::new(0),
            warned: Mutex::default(),
            stopping: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Opens a port. Nothing is answered on it until [`serve`](Self::serve), though the kernel takes
    /// connections already. Must be called inside a tokio runtime.
    pub fn bind(&self, spec: &ListenSpec) -> Result<BoundPort, ListenError> {
        let sockets = bind::open(&spec.name, &spec.bind, spec.port, spec.udp)?;
        let mut udp = Vec::new();
        for (socket, addr) in sockets.udp {
            let endpoint = UdpEndpoint::new(socket, addr, self.inner.common.limits);
            let explain = |source| ListenError::Io { program: spec.name.clone(), addr, source };
            udp.push(Arc::new(endpoint.map_err(explain)?));
        }
        Ok(BoundPort { name: spec.name.clone(), tcp: sockets.tcp, udp })
    }

    /// Begins to answer on an open port, for these programs.
    pub fn serve(&self, port: BoundPort, programs: Vec<Arc<dyn Program>>) -> Result<(), ListenError> {
        let router = Arc::new(Router::new(programs, self.inner.drc.clone()));
        for (listener, addr) in port.tcp {
            let explain = |source| ListenError::Io { program: port.name.clone(), addr, source };
            let listener = TcpListener::from_std(listener).map_err(explain)?;
            tokio::spawn(accept(self.inner.clone(), listener, router.clone()));
        }
        for endpoint in port.udp {
            lock(&self.inner.endpoints).push(endpoint.clone());
            lock(&self.inner.udp_tasks).push(tokio::spawn(endpoint.run(router.clone())));
        }
        Ok(())
    }

    /// Resets every live connection to `local` and returns when they are gone (2 s at the most), with their
    /// number. Make the programs' `is_served` false first, or new ones form.
    pub async fn reset_connections(&self, local: IpAddr) -> usize {
        let local = Some(local.to_canonical());
        self.inner.common.connections.end(local, Control::Reset, RESET_WAIT).await
    }

    /// The live TCP connections to `local`, or to all addresses: (our address, the peer's).
    pub fn peers(&self, local: Option<IpAddr>) -> Vec<(SocketAddr, SocketAddr)> {
        self.inner.common.connections.peers(local.map(|ip| ip.to_canonical()))
    }

    /// How many TCP connections are open.
    pub fn connections(&self) -> usize {
        self.inner.common.connections.count()
    }

    /// How many connections were closed at once because of the limit.
    pub fn connections_refused(&self) -> u64 {
        self.inner.refused.load(Ordering::Relaxed)
    }

    /// Ends: accepts nothing more, lets the calls in flight be answered for `drain` at the most, closes.
    pub async fn shutdown(&self, drain: Duration) {
        self.inner.stopping.store(true, Ordering::Relaxed);
        self.inner.stop.send_replace(true);
        let tasks = std::mem::take(&mut *lock(&self.inner.udp_tasks));
        let aborts: Vec<_> = tasks.iter().map(|t| t.abort_handle()).collect();
        let endpoints = lock(&self.inner.endpoints).clone();
        endpoints.iter().for_each(|e| e.control(Control::Drain));
        let udp = async {
            for task in tasks {
                let _ = task.await;
            }
        };
        let udp = tokio::time::timeout(drain, udp);
        let connections = &self.inner.common.connections;
        let (_, udp) = tokio::join!(connections.end(None, Control::Drain, drain), udp);
        if udp.is_err() {
            aborts.iter().for_each(|task| task.abort());
        }
        lock(&self.inner.endpoints).clear();
        connections.end(None, Control::Close, RESET_WAIT).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(inner: Arc<Inner>, listener: TcpListener, router: Arc<Router>) {
    let mut stop = inner.stop.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => inner.admit(stream, canonical(peer), &router),
            Err(error) => {
                debug!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Inner {
    fn admit(&self, stream: tokio::net::TcpStream, peer: SocketAddr, router: &Arc<Router>) {
        let Ok(local) = stream.local_addr().map(canonical) else { return };
        if !router.is_served(&local.ip()) {
            let _ = stream.set_zero_linger();
            return;
        }
        let common = &self.common;
        let id = common.connections.next_id();
        let shared = Arc::new(Shared::new(id, peer, local, router.clone(), common.start));
        if !common.connections.add(common.limits.connections, &shared) {
            self.refuse(peer);
            return;
        }
        // Without it each small reply waits for the peer's delayed acknowledgement, 40 ms.
        let _ = stream.set_nodelay(true);
        let connection = Connection::new(stream, shared.clone(), common.clone());
        // Whoever made the address unserved after the check above resets what is on the list: look again.
        if !router.is_served(&local.ip()) {
            shared.control(Control::Reset);
        }
        if self.stopping.load(Ordering::Relaxed) {
            shared.control(Control::Drain);
        }
        tokio::spawn(connection.run());
    }

    fn refuse(&self, peer: SocketAddr) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let evicted =
            self.common.connections.evict_idle(self.common.start.elapsed(), self.common.limits.evict_idle);
        let mut warned = lock(&self.warned);
        if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            let limit = self.common.limits.connections;
            warn!(%peer, limit, evicted, "connection closed: limits.connections is reached");
        }
    }
}
