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
    /// Where the durable client list, NSM state and later the journals live.
    pub state_dir: PathBuf,
    /// The control API's Unix socket. None: no socket.
    pub socket: Option<PathBuf>,
    /// How the host's rpcbind is used.
    pub rpcbind: RpcbindMode,
    /// NSM: our own or the host's rpc.statd.
    pub nsm: NsmConfig,
    /// Bounds on what clients may take.
    pub limits: Limits,
    /// The window after a restart in which clients reclaim (DESIGN: full window, as nothing is recorded yet).
    pub grace: Duration,
    /// How clients are told apart and believed.
    pub client: ClientConfig,
    /// GRANTED callbacks.
    pub callback: CallbackConfig,
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
            grace: Duration::from_secs(30),
            client: ClientConfig { address_check: AddressCheck::Learn },
            callback: CallbackConfig { timeout: Duration::from_secs(2), give_up: Duration::from_secs(60) },
        }
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
