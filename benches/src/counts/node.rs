//! What is counted of the whole node: from the bytes of a record on a connection to those of its reply, with the journal's file between.
//! What is left out is the network: reading, writing, and the tasks that do it.
//!
//! Must never start a thread or wait: the journal is written where the node would wait for it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bench_kit::{LM, Scratch};
use lockferry::export::{ExportTable, FileKey, Handle, LockFiles, LockRefusal};
use lockferry::node::assembly::{Node, World, journal_options};
use lockferry::node::config::{Durability, NodeConfig};
use lockferry::node::host::{Addresses, Calls, Connections, Host, Latch, Spawned, Task};
use lockferry::rpc::client::{CallError, CallReply, CallSpec};
use lockferry::rpc::dispatch::{Action, Router, run};
use lockferry::rpc::drc::{Drc, DrcLimits};
use lockferry::rpc::record::{Assembler, Step};
use lockferry::rpc::{Call, CallInfo, Cred, ReplySink, Responder, Transport, turn};
use lockferry::store::StateDir;
use lockferry::store::journal::{Disk, Journals, Options};
use tokio::sync::watch;

use crate::Operation;
use crate::message::{self, GRANTED, Lock, NLM_LOCK, NLM_TEST, NLM_UNLOCK, request};

/// What is repeated.
pub(crate) const OPERATIONS: [Operation; 2] = [
    Operation { name: "node-lock-unlock", prepare: |seed| repeat(seed, &[NLM_LOCK, NLM_UNLOCK]) },
    Operation { name: "node-test", prepare: |seed| repeat(seed, &[NLM_TEST]) },
];

/// Bytes of the journal's first segment, 16 MiB: no second one is begun.
const SEGMENT: u64 = 16 << 20;
/// Where the client calls from.
const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 99, 0, 2)), 700);
/// Seconds since 1970 UTC, for ever.
const TODAY: u64 = 1_780_000_000;

fn repeat(seed: u64, procedures: &'static [u32]) -> Box<dyn FnMut()> {
    let mut connection = Connection::new(seed);
    let lock = |owner| {
        let offset = u64::from(owner) * 16;
        let (name, handle) = (&b"client00001.example.net"[..], &handle());
        [NLM_LOCK, NLM_UNLOCK, NLM_TEST]
            .map(|p| (p, request(p, &Lock { name, handle, owner, offset, len: 8, exclusive: true }, false)))
    };
    // The client has a lock anyway: it is not a new one with each request.
    connection.ask(&lock(1)[0].1);
    let all = lock(2);
    let wanted = procedures.iter().filter_map(|p| all.iter().find(|(q, _)| p == q));
    let wanted: Vec<Vec<u8>> = wanted.map(|(_, request)| request.clone()).collect();
    Box::new(move || wanted.iter().for_each(|request| connection.ask(request)))
}

/// The handle of a file on ext4.
fn handle() -> Vec<u8> {
    let mut handle = vec![1, 0, 1, 8];
    handle.resize(28, 7);
    handle
}

/// A client's connection to a node.
struct Connection {
    assembler: Assembler,
    router: Arc<Router>,
    journals: Arc<Journals>,
    sink: Arc<Sink>,
    now: Instant,
    xid: u32,
    bytes: Vec<u8>,
    _node: Node,
    _scratch: Scratch,
}

impl Connection {
    #[expect(clippy::expect_used, reason = "without a directory nothing can be counted")]
    fn new(seed: u64) -> Self {
        let scratch = Scratch::new().expect("a directory for the journal");
        let mut config = NodeConfig { socket: None, control_files: None, ..NodeConfig::default() };
        config.journal.durability = Durability::None;
        let label = "counts/0123456789abcdef";
        let options = Options { first_segment: SEGMENT, ..journal_options(&config, label) };
        let base = scratch.path().to_path_buf();
        let journals = Arc::new(Journals::stepped(Arc::new(Disk), base, options, Box::new(|| TODAY)));
        let machine = Arc::new(Machine { began: Instant::now(), journals: journals.clone() });
        let drc = Arc::new(Drc::with_seed(DrcLimits::default(), seed));
        let world = World {
            host: machine.clone(),
            calls: machine.clone(),
            notices: machine.clone(),
            connections: machine.clone(),
            addresses: machine.clone(),
            journals: journals.clone(),
            state_dir: StateDir::in_memory(label),
            exports: Arc::new(ExportTable::open(&[])),
            files: Arc::new(Everything),
            spawn: Box::new(|_, _| false),
            drc: drc.clone(),
            log: Box::new(|_| {}),
            secrets: [seed, seed, 1],
        };
        let node = Node::new(&config, world);
        node.start();
        let router = Arc::new(Router::new(node.programs().to_vec(), drc));
        Self {
            assembler: Assembler::new(router.max_args()),
            sink: Arc::new(Sink { router: router.clone(), reply: Mutex::default() }),
            router,
            journals,
            now: machine.began,
            xid: 0,
            bytes: Vec::new(),
            _node: node,
            _scratch: scratch,
        }
    }

    /// Sends a request and takes the reply.
    fn ask(&mut self, request: &[u8]) {
        self.xid += 1;
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        bytes.extend_from_slice(request);
        bytes[4..8].copy_from_slice(&self.xid.to_be_bytes());
        turn::during(|| self.read(&bytes));
        self.bytes = bytes;
        while self.journals.step(NAME) {}
        let reply = self.sink.reply.lock().unwrap_or_else(PoisonError::into_inner).take();
        assert_eq!(reply.as_deref().and_then(message::status), Some((self.xid, GRANTED)));
    }

    /// What a connection does with what it has read.
    fn read(&mut self, mut input: &[u8]) {
        let router = self.router.clone();
        let mut judge = |header: &_| router.judge(header, &LM);
        let Step::Call { header, args, .. } = self.assembler.next(&mut input, &mut judge) else { return };
        let info = CallInfo {
            peer: CLIENT,
            local: SocketAddr::new(LM, 32_803),
            transport: Transport::Tcp,
            xid: header.xid,
            program: header.program,
            version: header.version,
            procedure: header.procedure,
            cred: header.cred,
        };
        let xid = info.xid;
        if let Action::Dispatch(program, call, token) = router.accept(self.now, Call { info, args }) {
            run(program.as_ref(), call, Responder::new(self.sink.clone(), token, xid));
        }
    }
}

/// What the lock manager's journal is called.
const NAME: &str = "10.99.0.1";

/// Where replies go.
struct Sink {
    router: Arc<Router>,
    reply: Mutex<Option<Vec<u8>>>,
}

impl ReplySink for Sink {
    fn send_reply(self: Arc<Self>, ticket: u64, reply: Option<Vec<u8>>) {
        self.router.finish(ticket, reply.as_deref());
        *self.reply.lock().unwrap_or_else(PoisonError::into_inner) = reply;
    }
}

/// A machine on which time stands still and nobody is called. What would go on beside the requests does not.
struct Machine {
    began: Instant,
    journals: Arc<Journals>,
}

impl Host for Machine {
    fn now(&self) -> Instant {
        self.began
    }

    fn unix(&self) -> Duration {
        Duration::from_secs(TODAY)
    }

    fn spawn(&self, _: Task) -> Spawned {
        Spawned::new(|| {})
    }

    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }

    fn sleep(&self, _: Duration) -> Task {
        Box::pin(std::future::pending())
    }

    fn pause(&self, _: Duration) {}

    fn wait(&self, latch: &Latch, _: Duration) -> bool {
        while !latch.is_set() && self.journals.step(NAME) {}
        latch.is_set()
    }
}

impl Calls for Machine {
    fn call(&self, _: CallSpec) -> Task<Result<CallReply, CallError>> {
        Box::pin(std::future::pending())
    }

    fn getport(
        &self,
        _: IpAddr,
        _: Option<IpAddr>,
        _: u32,
        _: u32,
        _: Transport,
        _: Duration,
    ) -> Task<Result<u16, CallError>> {
        Box::pin(std::future::pending())
    }

    fn invalidate(&self, _: IpAddr) {}
}

impl Connections for Machine {
    fn peers(&self, _: IpAddr) -> Vec<(SocketAddr, SocketAddr)> {
        Vec::new()
    }

    fn reset(&self, _: IpAddr) {}
}

impl Addresses for Machine {
    fn here(&self, _: IpAddr) -> bool {
        true
    }

    fn subscribe(&self) -> watch::Receiver<Arc<BTreeSet<IpAddr>>> {
        static HERE: OnceLock<watch::Sender<Arc<BTreeSet<IpAddr>>>> = OnceLock::new();
        HERE.get_or_init(|| watch::Sender::new(Arc::new(BTreeSet::from([LM])))).subscribe()
    }

    fn wait_for(&self, _: IpAddr) -> Task {
        Box::pin(std::future::ready(()))
    }

    fn wake_clients(&self, _: IpAddr, _: Vec<(SocketAddr, SocketAddr)>) -> Task {
        Box::pin(std::future::ready(()))
    }
}

/// Every file is there, everybody may lock it, and that is remembered.
struct Everything;

impl LockFiles for Everything {
    fn key(&self, handle: &[u8]) -> Result<FileKey, LockRefusal> {
        Handle::parse(handle).map(|handle| handle.key()).ok_or(LockRefusal::Stale)
    }

    fn cached(&self, _: &[u8], _: IpAddr, _: &Cred, _: bool) -> Option<Result<(), LockRefusal>> {
        Some(Ok(()))
    }

    fn check(&self, _: &[u8], _: IpAddr, _: &Cred, _: bool) -> Result<(), LockRefusal> {
        Ok(())
    }

    fn may_reclaim(&self, _: &[u8], _: IpAddr, _: bool) -> Result<(), LockRefusal> {
        Ok(())
    }

    fn path(&self, _: &FileKey) -> Option<PathBuf> {
        None
    }

    fn find_path(&self, _: &FileKey) -> Option<PathBuf> {
        None
    }
}
