//! Everything `serve` can be told, as plain typed values: no parsing here (that is `cli::config`), no I/O.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The settings of a running daemon. Each field's default is `Default::default()`.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// What is exported.
    pub exports: Vec<ExportConfig>,
    /// Addresses to listen on; empty: the wildcard of both families.
    pub bind: Vec<IpAddr>,
    /// The ports of the four programs. 0: any free one.
    pub ports: Ports,
    /// Where what must survive lives: the journals that have no other place.
    pub state_dir: PathBuf,
    /// The control API's Unix socket. None: no socket.
    pub socket: Option<PathBuf>,
    /// How the host's rpcbind is used.
    pub rpcbind: RpcbindMode,
    /// NSM: our own or the host's rpc.statd.
    pub nsm: NsmConfig,
    /// Bounds on what clients may take.
    pub limits: Limits,
    /// Grace windows.
    pub grace: GraceConfig,
    /// Floating addresses known from the settings. More become known by `start_grace`.
    pub lock_managers: Vec<LockManagerConfig>,
    /// Do `start_grace` and `unlock_ip` by itself when a configured floating address appears or vanishes.
    pub auto: bool,
    /// What a daemon that starts does with the lock managers it still owns.
    pub on_restart: TakeUp,
    /// What `start_grace` does that says neither `adopt` nor `full`, where the record is complete.
    pub on_take_over: TakeUp,
    /// The record of locks.
    pub journal: JournalConfig,
    /// Where the control files are mounted (FUSE). None: nowhere.
    pub control_files: Option<PathBuf>,
    /// Whether a reclaim must come from the recorded address (`strict`), or owner and range decide.
    pub reclaim_strict: bool,
    /// How clients are told apart and believed.
    pub client: ClientConfig,
    /// GRANTED callbacks.
    pub callback: CallbackConfig,
}

/// Grace windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceConfig {
    /// How long one lasts at the most, counted from the first notice to the clients, 30 s.
    pub window: Duration,
    /// What a non-blocking LOCK gets that conflicts with nothing but reclaimable locks.
    pub conflict: GraceConflict,
    /// How long such a LOCK is held back before DENIED_GRACE_PERIOD, 2 s (Linux then sleeps 5 s by itself).
    pub park: Duration,
    /// How long locks that nobody reclaimed, and those of a released lock manager, are kept, 24 h.
    pub hold: Duration,
}

/// See [`GraceConfig::conflict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraceConflict {
    /// It is held back for a while (default).
    Wait,
    /// DENIED, as if the locks were held.
    Deny,
}

/// How a lock manager with recorded locks is taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeUp {
    /// Its locks are held as they stand: clients notice nothing.
    Adopt,
    /// A grace window: clients reclaim.
    Grace,
}

/// A floating address of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockManagerConfig {
    /// The address, canonical.
    pub address: IpAddr,
    /// Exports bound to it. Empty: every export that no lock manager is bound to.
    pub exports: Vec<PathBuf>,
    /// Where its journal lies. None: below the state directory.
    pub journal: Option<PathBuf>,
    /// Its window. None: `grace.window`.
    pub grace: Option<Duration>,
}

/// The record of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// When it is on the disk: before the answer leaves (`sync`, default), soon after (`relaxed`), or when the system likes (`none`).
    pub durability: Durability,
    /// With `relaxed`: how soon after, 50 ms.
    pub flush: Duration,
    /// Size of a segment file in MiB, 64.
    pub segment_mib: u32,
}

/// See [`JournalConfig::durability`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Every grant is durable before its answer.
    Sync,
    /// Flushed every [`JournalConfig::flush`]; after a crash the next window is full.
    Relaxed,
    /// Never flushed on purpose; after a crash the next window is full.
    None,
}

/// The fixed ports, since firewalls need them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// NFS, 2049.
    pub nfs: u16,
    /// MOUNT, 20048.
    pub mount: u16,
    /// NLM, 32803.
    pub nlm: u16,
    /// NSM, 32765.
    pub nsm: u16,
    /// rpcbind, 111: used only where we serve it ourselves.
    pub rpcbind: u16,
}

/// One exported directory.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportConfig {
    /// The directory, absolute.
    pub path: PathBuf,
    /// The file system identity in handles. None: the file system's UUID, or a hash of its mount source.
    pub fsid: Option<u64>,
    /// Refuse all changes.
    pub read_only: bool,
    /// Whose credentials are replaced by the anonymous ones.
    pub squash: Squash,
    /// The anonymous user, 65534.
    pub anon_uid: u32,
    /// The anonymous group, 65534.
    pub anon_gid: u32,
    /// Which client addresses may use it. Empty: all.
    pub clients: Vec<Cidr>,
    /// Accept calls from source ports of 1024 and above.
    pub insecure: bool,
}

/// A network in CIDR notation; a single address has the full prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The network address, host bits zero.
    pub addr: IpAddr,
    /// The number of leading bits that count: 0 to 32 or 0 to 128.
    pub prefix: u8,
}

/// Squashing, as in exports(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squash {
    /// Nobody.
    None,
    /// uid 0 and gid 0 (default).
    Root,
    /// Everybody.
    All,
}

/// What to do about port 111.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpcbindMode {
    /// Register with the host's rpcbind, else serve the port ourselves (default).
    Auto,
    /// Only register; an error if there is none.
    Host,
    /// Only our own; an error if the port is taken.
    Own,
    /// Neither: clients cannot find the ports by themselves.
    Off,
}

/// NSM settings.
#[derive(Clone, Debug, PartialEq)]
pub struct NsmConfig {
    /// Built in, or through the host's rpc.statd.
    pub mode: NsmMode,
    /// mon_name in our SM_NOTIFY. None: the text of the floating IP.
    pub notify_name: Option<String>,
}

/// Who speaks NSM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NsmMode {
    /// We do (default).
    Builtin,
    /// The rpc.statd of this host does, over SM_MON.
    Statd,
}

/// Bounds. Past each: a typed refusal, and the others feel nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Locks one client may hold, 1,000,000.
    pub locks_per_client: u32,
    /// Blocked requests one client may have, 100,000.
    pub waiters_per_client: u32,
    /// Clients in all, 100,000.
    pub clients: u32,
    /// Client names one source address may use, 1,000 (many hosts behind one NAT address).
    pub names_per_address: u32,
    /// TCP connections to all programs together, 4,096.
    pub connections: u32,
    /// A connection without any call for this long is closed, 6 min (Linux closes idle ones after 5).
    pub idle: Duration,
    /// Threads that do file work, 8.
    pub file_threads: u32,
}

/// What is believed about clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// Which addresses may act for a client.
    pub address_check: AddressCheck,
}

/// DESIGN, word *client*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressCheck {
    /// A further address may act for a name while no two live addresses use it with different NSM states (default).
    Learn,
    /// Only the address that the locks came from.
    Strict,
    /// Any address.
    Off,
}

/// GRANTED callbacks: retransmission and give-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallbackConfig {
    /// First wait for an answer, doubled each time, 2 s.
    pub timeout: Duration,
    /// After this long without any answer the lock is listed as unconfirmed, 60 s.
    pub give_up: Duration,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            exports: Vec::new(),
            bind: Vec::new(),
            ports: Ports::default(),
            state_dir: PathBuf::from("/var/lib/lockferry"),
            socket: Some(PathBuf::from("/run/lockferry/lockferry.sock")),
            rpcbind: RpcbindMode::Auto,
            nsm: NsmConfig { mode: NsmMode::Builtin, notify_name: None },
            limits: Limits::default(),
            grace: GraceConfig::default(),
            lock_managers: Vec::new(),
            auto: false,
            on_restart: TakeUp::Adopt,
            on_take_over: TakeUp::Grace,
            journal: JournalConfig::default(),
            control_files: Some(PathBuf::from("/run/lockferry/control")),
            reclaim_strict: false,
            client: ClientConfig { address_check: AddressCheck::Learn },
            callback: CallbackConfig { timeout: Duration::from_secs(2), give_up: Duration::from_secs(60) },
        }
    }
}

impl Default for GraceConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            conflict: GraceConflict::Wait,
            park: Duration::from_secs(2),
            hold: Duration::from_secs(24 * 3600),
        }
    }
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { durability: Durability::Sync, flush: Duration::from_millis(50), segment_mib: 64 }
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self { nfs: 2049, mount: 20048, nlm: 32803, nsm: 32765, rpcbind: 111 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            locks_per_client: 1_000_000,
            waiters_per_client: 100_000,
            clients: 100_000,
            names_per_address: 1_000,
            connections: 4_096,
            idle: Duration::from_secs(360),
            file_threads: 8,
        }
    }
}

impl ExportConfig {
    /// An export of `path` with the defaults of exports(5): read-write, root squashed, every address.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            fsid: None,
            read_only: false,
            squash: Squash::Root,
            anon_uid: 65534,
            anon_gid: 65534,
            clients: Vec::new(),
            insecure: false,
        }
    }
}
