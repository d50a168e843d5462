//! What a node needs of the world, simulated: its clocks, its threads, its calls to clients, its addresses.
//!
//! Must never wait in real time.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockferry::export::{FileKey, Handle, LockFiles, LockRefusal};
use lockferry::node::host::{Addresses, Calls, Connections, Host, Latch, Spawned, Task};
use lockferry::rpc::client::{CallCred, CallError, CallReply, CallSpec};
use lockferry::rpc::header::{CallHeader, ReplyStatus, parse_reply, write_call};
use lockferry::rpc::{AuthSys, Cred, Transport};
use tokio::sync::{oneshot, watch};

use crate::life::Life;
use crate::sim::Sim;

/// Where clients listen, as their rpcbind says. Nothing arrives at another port.
const CLIENT_LISTENS: u16 = 1_000;

/// A daemon's world. Cheap to clone.
#[derive(Clone)]
pub struct World {
    /// The run.
    pub sim: Weak<Sim>,
    /// The daemon.
    pub life: Arc<Life>,
    /// Its machine's addresses.
    pub addresses: watch::Receiver<Arc<BTreeSet<IpAddr>>>,
}

impl World {
    fn sim(&self) -> Option<Arc<Sim>> {
        self.sim.upgrade().filter(|_| self.life.is_alive())
    }
}

/// Over at a time of the machine's clock.
struct Sleep {
    world: World,
    until: Instant,
    planned: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(sim) = self.world.sim.upgrade() else { return Poll::Pending };
        let machine = self.world.life.machine;
        if sim.clock(machine) >= self.until {
            return Poll::Ready(());
        }
        if !self.planned {
            self.planned = true;
            sim.plan_wake(&self.world.life, self.until, cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Host for World {
    fn now(&self) -> Instant {
        // Whoever asks when all is over gets some time.
        self.sim.upgrade().map_or_else(Instant::now, |sim| sim.clock(self.life.machine))
    }

    fn unix(&self) -> Duration {
        self.sim.upgrade().map_or(Duration::ZERO, |sim| sim.unix(self.life.machine))
    }

    fn spawn(&self, task: Task) -> Spawned {
        self.life.executor.spawn(task)
    }

    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) {
        if let Some(sim) = self.sim() {
            sim.plan_job(&self.life, job);
        }
    }

    fn sleep(&self, span: Duration) -> Task {
        Box::pin(Sleep { world: self.clone(), until: self.now() + span, planned: false })
    }

    fn pause(&self, span: Duration) {
        if let Some(sim) = self.sim() {
            sim.block(&self.life, span, &|| false);
        }
    }

    fn wait(&self, latch: &Latch, most: Duration) -> bool {
        if !latch.is_set()
            && let Some(sim) = self.sim()
        {
            sim.block(&self.life, most, &|| latch.is_set());
        }
        latch.is_set()
    }
}

impl Calls for World {
    fn call(&self, spec: CallSpec) -> Task<Result<CallReply, CallError>> {
        let world = self.clone();
        Box::pin(async move { world.make_call(spec).await })
    }

    fn getport(
        &self,
        to: IpAddr,
        from: Option<IpAddr>,
        _program: u32,
        _version: u32,
        _transport: Transport,
        give_up: Duration,
    ) -> Task<Result<u16, CallError>> {
        let world = self.clone();
        Box::pin(async move {
            let here = from.is_none_or(|from| world.addresses.borrow().contains(&from));
            let Some(from) = from.filter(|_| !here) else {
                let reached = world.sim().is_some_and(|sim| sim.is_client_up(to));
                if reached {
                    world.sleep(Duration::from_micros(300)).await;
                    return Ok(CLIENT_LISTENS);
                }
                world.sleep(give_up).await;
                return Err(CallError::Timeout { transmissions: 1 });
            };
            Err(CallError::NoSuchSource { source_address: from, transmissions: 0 })
        })
    }

    fn invalidate(&self, _host: IpAddr) {}
}

impl World {
    async fn make_call(&self, spec: CallSpec) -> Result<CallReply, CallError> {
        let xid = self.life.next_xid();
        let message = Bytes::from(encode(xid, &spec));
        let (tell, mut told) = oneshot::channel();
        self.life.state().calls.insert(xid, tell);
        let result = self.repeat(&spec, message, &mut told).await;
        self.life.state().calls.remove(&xid);
        result
    }

    /// Sends it again and again, as the real client does.
    async fn repeat(
        &self,
        spec: &CallSpec,
        message: Bytes,
        told: &mut oneshot::Receiver<Vec<u8>>,
    ) -> Result<CallReply, CallError> {
        let (mut timeout, mut transmissions) = (spec.first_timeout, 0);
        let over = self.now() + spec.give_up;
        loop {
            if let Some(from) = spec.source
                && !self.addresses.borrow().contains(&from)
            {
                return Err(CallError::NoSuchSource { source_address: from, transmissions });
            }
            let left = over.saturating_duration_since(self.now());
            if left.is_zero() {
                return Err(CallError::Timeout { transmissions });
            }
            transmissions += 1;
            if let Some(sim) = self.sim().filter(|_| spec.to.port() == CLIENT_LISTENS) {
                sim.send_to_client(&self.life, spec.source, spec.to.ip(), message.to_vec());
            }
            tokio::select! {
                biased;
                reply = &mut *told => {
                    let reply = Bytes::from(reply.map_err(|_| CallError::BadReply)?);
                    return match parse_reply(&reply) {
                        Some((_, ReplyStatus::Success(at))) => {
                            Ok(CallReply { results: reply.slice(at..), transmissions })
                        }
                        _ => Err(CallError::BadReply),
                    };
                }
                () = self.sleep(timeout.min(left)) => {}
            }
            timeout = (timeout * 2).min(Duration::from_secs(30));
        }
    }
}

fn encode(xid: u32, spec: &CallSpec) -> Vec<u8> {
    let cred = match spec.cred {
        CallCred::None => Cred::None,
        CallCred::Sys => {
            Cred::Sys(AuthSys { machine_name: Box::default(), uid: 0, gid: 0, gids: Box::default() })
        }
    };
    let header =
        CallHeader { xid, program: spec.program, version: spec.version, procedure: spec.procedure, cred };
    let mut message = Vec::with_capacity(256);
    write_call(&mut message, &header);
    message.extend_from_slice(&spec.args);
    message
}

impl Connections for World {
    fn peers(&self, local: IpAddr) -> Vec<(SocketAddr, SocketAddr)> {
        let state = self.life.state();
        let peers = state.peers.iter().filter(|(ours, _)| *ours == local);
        peers.map(|(ours, peer)| (SocketAddr::new(*ours, 0), *peer)).collect()
    }

    fn reset(&self, local: IpAddr) {
        if let Some(sim) = self.sim() {
            sim.reset_connections(&self.life, Some(local));
        }
    }
}

impl Addresses for World {
    fn here(&self, ip: IpAddr) -> bool {
        self.addresses.borrow().contains(&ip)
    }

    fn subscribe(&self) -> watch::Receiver<Arc<BTreeSet<IpAddr>>> {
        self.addresses.clone()
    }

    fn wait_for(&self, ip: IpAddr) -> Task {
        let mut addresses = self.addresses.clone();
        Box::pin(async move {
            // The machine outlives its daemons: an error means that all is over.
            let _ = addresses.wait_for(|here| here.contains(&ip)).await;
        })
    }

    fn wake_clients(&self, ip: IpAddr, connections: Vec<(SocketAddr, SocketAddr)>) -> Task {
        let world = self.clone();
        Box::pin(async move {
            if let Some(sim) = world.sim()
                && world.addresses.borrow().contains(&ip)
            {
                connections.iter().for_each(|(_, peer)| sim.reset_client(ip, peer.ip()));
            }
        })
    }
}

/// Files of which only the handles exist: every one is there, and everybody may lock it.
pub struct Handles {
    /// Where file checks that take time are carried out.
    pub world: World,
}

impl LockFiles for Handles {
    fn key(&self, handle: &[u8]) -> Result<FileKey, LockRefusal> {
        Handle::parse(handle).map(|handle| handle.key()).ok_or(LockRefusal::Stale)
    }

    fn cached(&self, _: &[u8], _: IpAddr, _: &Cred, _: bool) -> Option<Result<(), LockRefusal>> {
        let slow = self.world.sim().is_some_and(|sim| sim.file_check_is_slow());
        (!slow).then_some(Ok(()))
    }

    fn check(&self, handle: &[u8], _: IpAddr, _: &Cred, _: bool) -> Result<(), LockRefusal> {
        self.key(handle).map(drop)
    }

    fn may_reclaim(&self, handle: &[u8], _: IpAddr, _: bool) -> Result<(), LockRefusal> {
        self.key(handle).map(drop)
    }

    fn path(&self, _: &FileKey) -> Option<PathBuf> {
        None
    }

    fn find_path(&self, _: &FileKey) -> Option<PathBuf> {
        None
    }
}

/// The handle of file `number` in the export whose number and file system are these.
pub fn handle(export: u64, file_system: u64, number: u64) -> Vec<u8> {
    let mut out = vec![1, 1, 0, 8];
    out.extend(export.to_be_bytes());
    out.extend(file_system.to_be_bytes());
    out.extend(number.to_be_bytes());
    out
}
