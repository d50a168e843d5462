//! Starting and ending: opens the record, the exports and the ports, wires the rooms together, says when it is ready, and on SIGTERM
//! takes everything down again in the other order.
//!
//! Must never answer anything before the record is read, nor leave a registration behind that sends clients to nobody.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;

use super::callbacks::{Caller, SharedCaller};
use super::commit::Commit;
use super::config::{AddressCheck, NodeConfig, NsmMode};
use super::desk::Desk;
use super::file_checks::FileChecks;
use super::notify::Notifier;
use super::programs::{self, Served};
use super::registration::Registration;
use super::statd::Statd;
use super::view::{ExportView, ListenerView, NodeView, Status};
use super::views::Views;
use crate::export::{ExportTable, FilePool, LockFiles};
use crate::rpc::client::{CallError, ClientSettings, RpcClient};
use crate::rpc::drc::{Drc, DrcLimits};
use crate::rpc::server::{ListenError, RpcServer, ServerLimits};
use crate::service::nlm::Spawn;
use crate::state::{self, Command, Engine, Event, Party, Settings, Time};
use crate::store::{ClientList, Loaded, NsmState, StoreError};

/// In-flight replies are waited for no longer than this at the end.
const DRAIN: Duration = Duration::from_secs(2);
/// A held-back request is answered DENIED_GRACE_PERIOD after this (Linux then sleeps 5 s by itself).
const PARK: Duration = Duration::from_secs(2);

/// Why the node does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A port.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// rpcbind, or another lock manager on this host.
    #[error("{0}")]
    Registration(String),
    /// The host's status monitor.
    #[error(
        "nsm.mode = \"statd\", but no rpc.statd answers on this host ({0}): start it first, or use nsm.mode = \"builtin\""
    )]
    Statd(CallError),
    /// A thread or signal handler.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
    /// No export can be used.
    #[error("no export can be served: {0}")]
    NoExport(String),
}

/// Serves until SIGTERM or SIGINT. `control` gets the views as soon as there are any; `ready` gets the line that says what is
/// served where, once all of it is.
pub async fn serve(
    config: NodeConfig,
    control: impl FnOnce(Arc<dyn NodeView>),
    ready: impl FnOnce(&str),
) -> Result<(), ServeError> {
    let mut signals = Signals::new()?;
    let node = Node::start(config)?;
    control(node.views.clone());
    let registration = tokio::select! {
        done = node.register() => done?,
        () = signals.stop() => return node.stop(None).await,
    };
    node.notify_clients();
    ready(&node.ready_line());
    signals.stop().await;
    tracing::info!("stopping");
    node.stop(Some(registration)).await
}

struct Node {
    config: NodeConfig,
    desk: Arc<Desk>,
    commit: Arc<Commit>,
    commit_thread: std::thread::JoinHandle<()>,
    served: Arc<Served>,
    server: RpcServer,
    client: RpcClient,
    notifier: Arc<Notifier>,
    loaded: Loaded,
    nsm_state: u32,
    views: Arc<Views>,
    registration_text: Arc<Mutex<String>>,
    statd: Arc<Statd>,
}

impl Node {
    fn start(config: NodeConfig) -> Result<Self, ServeError> {
        let (list, loaded) = ClientList::open(&config.state_dir)?;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let nsm_state = NsmState::next(&config.state_dir, unix)?.current();

        let exports = Arc::new(ExportTable::open(&config.exports));
        for warning in exports.warnings() {
            tracing::warn!("{warning}");
        }
        if !exports.privileged() {
            tracing::warn!("{UNPRIVILEGED}");
        }
        let broken: Vec<String> = exports.views().into_iter().filter_map(|v| v.error).collect();
        if broken.len() == config.exports.len() {
            return Err(ServeError::NoExport(broken.join("; ")));
        }
        let pool = FilePool::start(config.limits.file_threads, &exports)?;

        let client = RpcClient::new(ClientSettings {
            rpcbind_port: config.ports.rpcbind,
            ..ClientSettings::default()
        });
        let caller = Arc::new(Caller::new(client.clone(), Handle::current(), config.callback, random_u64()));
        let notifier = Arc::new(Notifier::default());
        let commit = Arc::new(Commit::default());
        let statd = Statd::new(&config, client.clone());
        let desk = Desk::new(
            engine(&config),
            commit.clone(),
            Arc::new(SharedCaller(caller.clone())),
            observer(notifier.clone()),
            config.nsm.mode == NsmMode::Statd,
        );
        let desk = Arc::new(desk);
        restore(&desk, &loaded, &config);
        let commit_thread = commit.start(list, Arc::downgrade(&desk), statd.watcher(Handle::current()))?;

        let limits = ServerLimits {
            connections: super::descriptors::for_connections(config.limits.connections as usize),
            idle: config.limits.idle,
            ..ServerLimits::default()
        };
        let server = RpcServer::new(limits, Arc::new(Drc::new(DrcLimits::default())));
        let served = Arc::new(programs::open(&server, &config)?);
        caller.wire(Arc::downgrade(&desk), served.nlm_udp());
        let parts = programs::Parts {
            desk: desk.clone(),
            exports: exports.clone(),
            pool,
            outbox: Arc::new(SharedCaller(caller)),
            spawn: blocking_spawn(exports.clone()),
            nsm_state,
        };
        programs::serve(&server, &served, parts)?;
        tokio::spawn({
            let desk = desk.clone();
            async move { desk.run_timers().await }
        });
        let registration_text = Arc::new(Mutex::new("not yet known".to_owned()));
        let views = Arc::new(Views {
            desk: desk.clone(),
            files: exports.clone() as Arc<dyn LockFiles>,
            searches: std::sync::atomic::AtomicU32::new(0),
            base: base_status(&served, &exports, &commit, &registration_text),
            nsm_state,
            notify: {
                let notifier = notifier.clone();
                Box::new(move |row| notifier.progress(&row.name, row.address).map(|p| p.as_str().into()))
            },
        });
        Ok(Self {
            config,
            desk,
            commit,
            commit_thread,
            served,
            server,
            client,
            notifier,
            loaded,
            nsm_state,
            views,
            registration_text,
            statd,
        })
    }

    async fn register(&self) -> Result<Registration, ServeError> {
        self.statd.find().await.map_err(ServeError::Statd)?;
        let registration =
            Registration::start(&self.server, &self.served, &self.config, self.registration_text.clone());
        registration.await.map_err(ServeError::Registration)
    }

    fn notify_clients(&self) {
        for lm in self.desk.read(|e| e.lm_rows()).iter().filter(|lm| lm.window.is_some()) {
            let seconds = self.config.grace.window.as_secs();
            tracing::info!(lock_manager = %lm.address, seconds, "grace window: clients may reclaim, new locks wait");
        }
        let name = self.config.nsm.notify_name.clone();
        // Calls of its own: many clients that are gone must not take the turns of callbacks.
        let client = RpcClient::new(self.client.settings().clone());
        self.notifier.start(&client, self.loaded.clients.clone(), self.nsm_state, name);
    }

    fn ready_line(&self) -> String {
        let rpcbind = self.registration_text.lock().map(|t| t.clone()).unwrap_or_default();
        let exports = (self.views.base)().exports;
        let (bad, good): (Vec<_>, Vec<_>) = exports.into_iter().partition(|e| e.error.is_some());
        let paths = |of: Vec<ExportView>| of.into_iter().map(|e| e.path).collect::<Vec<_>>().join(", ");
        let not = if bad.is_empty() { String::new() } else { format!(" (NOT served: {})", paths(bad)) };
        let on = self.served.summary();
        let grace = match self.desk.read(|e| e.lm_rows().len()) {
            0 => String::new(),
            _ => format!("; grace window of {}", humantime::format_duration(self.config.grace.window)),
        };
        format!("lockferry ready: {}{not} on {on}; rpcbind: {rpcbind}{grace}", paths(good))
    }

    async fn stop(self, registration: Option<Registration>) -> Result<(), ServeError> {
        if let Some(registration) = registration {
            registration.end().await;
        }
        self.server.shutdown(DRAIN).await;
        self.commit.stop();
        // Bounded, as the disk under the state directory may hang: then nothing more becomes durable anyway.
        let written = tokio::task::spawn_blocking(move || self.commit_thread.join());
        if tokio::time::timeout(DRAIN, written).await.is_err() {
            tracing::error!(
                "the client list cannot be written: its last entries are given up, as their clients got no answer"
            );
        }
        Ok(())
    }
}

struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (term, int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { term, int, hup: signal(SignalKind::hangup())? })
    }

    async fn stop(&mut self) {
        use std::io::IsTerminal as _;
        loop {
            tokio::select! {
                _ = self.term.recv() => return,
                _ = self.int.recv() => return,
                // A terminal that goes away ends what was started on it.
                _ = self.hup.recv() => match std::io::stdin().is_terminal() {
                    true => return,
                    false => tracing::warn!("SIGHUP does nothing: settings are read at the start only"),
                },
            }
        }
    }
}

fn engine(config: &NodeConfig) -> Engine {
    Engine::new(Settings {
        limits: state::Limits {
            locks_per_client: config.limits.locks_per_client,
            waiters_per_client: config.limits.waiters_per_client,
            clients: config.limits.clients,
            names_per_address: config.limits.names_per_address,
            ..Settings::default().limits
        },
        address_check: match config.client.address_check {
            AddressCheck::Learn => state::AddressCheck::Learn,
            AddressCheck::Strict => state::AddressCheck::Strict,
            AddressCheck::Off => state::AddressCheck::Off,
        },
        // A restored client must stay on the list for as long as it may still reclaim.
        forget_after: Duration::from_secs(600).max(config.grace.window * 2),
        hash_seed: random_u64(),
        ..Settings::default()
    })
}

/// Puts the recorded clients back and opens their windows. Locks are not recorded yet, so every window is full.
fn restore(desk: &Desk, loaded: &Loaded, config: &NodeConfig) {
    for c in &loaded.clients {
        let party = Party { lm: c.lm, name: &c.name, address: c.address };
        desk.run(Command::Restore { party, state: c.state });
    }
    let mut managers: BTreeSet<IpAddr> = loaded.clients.iter().map(|c| c.lm).collect();
    if !loaded.corrupt.is_empty() {
        // Who knows who was on the lines that are gone: every address of this host may have had clients.
        managers.extend(local_addresses());
    }
    let deadline = Time(desk.now().0).plus(config.grace.window);
    for lm in managers {
        desk.run(Command::StartGrace { lm, deadline, full: &[Box::default()], park: PARK });
    }
}

fn local_addresses() -> Vec<IpAddr> {
    let addresses = nix::ifaddrs::getifaddrs().into_iter().flatten();
    addresses
        .filter_map(|i| {
            let address = i.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
        })
        .collect()
}

fn observer(notifier: Arc<Notifier>) -> Box<dyn Fn(&Event) + Send + Sync> {
    Box::new(move |event| {
        if let Event::Reclaimed { client, address, .. } = event {
            notifier.reclaimed(client, *address);
        }
        super::events::log(event);
    })
}

/// File checks of LOCKs, on tokio's blocking threads.
fn blocking_spawn(exports: Arc<ExportTable>) -> Spawn {
    let runtime = Handle::current();
    let checks = FileChecks::new(move |job| drop(runtime.spawn_blocking(job)));
    Box::new(move |handle, job| checks.submit(exports.lane_of(handle), job))
}

fn base_status(
    served: &Arc<Served>,
    exports: &Arc<ExportTable>,
    commit: &Arc<Commit>,
    registration: &Arc<Mutex<String>>,
) -> Box<dyn Fn() -> Status + Send + Sync> {
    let started = Instant::now();
    let (served, commit) = (served.clone(), commit.clone());
    let (exports, registration) = (Arc::downgrade(exports), registration.clone());
    Box::new(move || {
        let exports = Weak::upgrade(&exports);
        let mut warnings: Vec<String> = exports.iter().flat_map(|e| e.warnings()).collect();
        warnings.extend(commit.trouble());
        let privileged = exports.as_ref().is_some_and(|e| e.privileged());
        if !privileged {
            warnings.push(UNPRIVILEGED.into());
        }
        let listener = |(program, transport, address): &(String, &str, std::net::SocketAddr)| ListenerView {
            program: program.clone(),
            transport: (*transport).into(),
            address: address.to_string(),
        };
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_seconds: started.elapsed().as_secs(),
            listeners: served.listeners().iter().map(listener).collect(),
            exports: exports.map(|e| e.views()).unwrap_or_default(),
            rpcbind: registration.lock().map(|t| t.clone()).unwrap_or_default(),
            privileged,
            warnings,
            ..Status::default()
        }
    })
}

/// What a kernel client would need that an unprivileged server does not have.
const UNPRIVILEGED: &str = "not privileged: files are accessed as this user, and kernel clients find the \
     locks only if this host's rpcbind knows our ports (root, or CAP_NET_BIND_SERVICE for port 111 and \
     CAP_DAC_READ_SEARCH, CAP_SETUID and CAP_SETGID for files, makes it whole)";

fn random_u64() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(SystemTime::now())
}
