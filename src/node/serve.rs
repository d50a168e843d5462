//! Starting and ending: opens the record, the exports and the ports, wires the rooms together, says when it is ready, and on SIGTERM
//! takes everything down again in the other order.
//!
//! Must never answer anything before the record is read, nor leave a registration behind that sends clients to nobody.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;

use super::addresses::AddressWatch;
use super::assembly::{Node, World, journal_options};
use super::config::NodeConfig;
use super::file_checks::FileChecks;
use super::host::{LiveAddresses, Machine, ServerConnections};
use super::late_log::LateLog;
use super::managers::Managers;
use super::programs::{self, Served};
use super::registration::Registration;
use super::verbs::NodeControl;
use super::view::{ExportView, ListenerView, NodeView, Status};
use super::views::Views;
use crate::export::{ExportTable, FilePool};
use crate::rpc::client::{CallError, ClientSettings, RpcClient};
use crate::rpc::drc::{Drc, DrcLimits};
use crate::rpc::server::{ListenError, RpcServer, ServerLimits};
use crate::service::nlm::Spawn;
use crate::store::journal::{self, Journals};
use crate::store::{StateDir, StoreError};

/// In-flight replies are waited for no longer than this at the end.
const DRAIN: Duration = Duration::from_secs(2);

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
    control: impl FnOnce(Arc<dyn NodeView>, Arc<dyn NodeControl>),
    ready: impl FnOnce(&str),
) -> Result<(), ServeError> {
    let mut signals = Signals::new()?;
    let running = Running::start(config)?;
    control(running.views.clone(), running.node.control());
    let registration = tokio::select! {
        done = running.register() => done?,
        () = signals.stop() => return running.stop(None).await,
    };
    running.node.ready();
    ready(&running.ready_line());
    signals.stop().await;
    tracing::info!("stopping");
    running.stop(Some(registration)).await
}

struct Running {
    node: Node,
    config: NodeConfig,
    served: Arc<Served>,
    server: RpcServer,
    views: Arc<Views>,
    registration_text: Arc<Mutex<String>>,
}

impl Running {
    fn start(config: NodeConfig) -> Result<Self, ServeError> {
        let state_dir = StateDir::open(&config.state_dir)?;
        let options = journal_options(&config, state_dir.node_label());
        let journals = Arc::new(Journals::new(Arc::new(journal::Disk), state_dir.journals_dir(), options));
        let addresses = AddressWatch::start(&Handle::current())?;

        let exports = Arc::new(ExportTable::open(&config.exports));
        for warning in exports.warnings() {
            tracing::warn!("{warning}");
        }
        if !exports.privileged() {
            tracing::warn!("{UNPRIVILEGED}");
        }
        let pool = FilePool::start(config.limits.file_threads, &exports)?;

        let limits = ServerLimits {
            connections: super::descriptors::for_connections(config.limits.connections as usize),
            idle: config.limits.idle,
            ..ServerLimits::default()
        };
        let drc = Arc::new(Drc::new(DrcLimits::default()));
        let server = RpcServer::new(limits, drc.clone());
        let served = Arc::new(programs::open(&server, &config)?);
        let settings = ClientSettings { rpcbind_port: config.ports.rpcbind, ..ClientSettings::default() };
        let log = LateLog::start(exports.clone());
        let world = World {
            host: Arc::new(Machine(Handle::current())),
            calls: Arc::new(RpcClient::new(settings.clone())),
            notices: Arc::new(RpcClient::new(settings)),
            connections: Arc::new(ServerConnections(server.clone(), Handle::current())),
            addresses: Arc::new(LiveAddresses(addresses)),
            journals,
            state_dir,
            files: exports.clone(),
            spawn: blocking_spawn(exports.clone()),
            exports: exports.clone(),
            drc,
            log: Box::new(move |event| log.log(event)),
            secrets: [(); 3].map(|()| random_u64()),
        };
        let node = Node::new(&config, world);
        node.caller.set_nlm_udp(served.nlm_udp());
        // It blocks, and may have to end what was begun, connections too.
        tokio::task::block_in_place(|| node.start());
        if node.gate.is_any() {
            let broken: Vec<String> = exports.views().into_iter().filter_map(|v| v.error).collect();
            if broken.len() == config.exports.len() {
                return Err(ServeError::NoExport(broken.join("; ")));
            }
        }
        let nfs = programs::serve(&server, &served, &node, &exports, &pool)?;
        node.managers.wire(Box::new(move || nfs.renew_verifier()));
        let registration_text = Arc::new(Mutex::new("not yet known".to_owned()));
        let views = node.views(base_status(&served, &exports, &node.managers, &registration_text));
        Ok(Self { node, config, served, server, views, registration_text })
    }

    async fn register(&self) -> Result<Registration, ServeError> {
        self.node.statd.find().await.map_err(ServeError::Statd)?;
        let registration =
            Registration::start(&self.server, &self.served, &self.config, self.registration_text.clone());
        registration.await.map_err(ServeError::Registration)
    }

    fn ready_line(&self) -> String {
        let rpcbind = self.registration_text.lock().map(|t| t.clone()).unwrap_or_default();
        let exports = (self.views.base)().exports;
        let (bad, good): (Vec<_>, Vec<_>) = exports.into_iter().partition(|e| e.error.is_some());
        let paths = |of: Vec<ExportView>| of.into_iter().map(|e| e.path).collect::<Vec<_>>().join(", ");
        let not = if bad.is_empty() { String::new() } else { format!(" (NOT served: {})", paths(bad)) };
        let on = self.served.summary();
        let windows = self.node.desk.read(|e| e.lm_rows()).iter().filter(|lm| lm.window.is_some()).count();
        let grace = match windows {
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
        // Bounded, as a disk may hang: then nothing more becomes durable anyway.
        let managers = self.node.managers.clone();
        let written = tokio::task::spawn_blocking(move || managers.stop());
        if tokio::time::timeout(DRAIN, written).await.is_err() {
            tracing::error!(
                "a journal cannot be written: its last entries are given up, as their clients got no answer"
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

/// File checks of LOCKs, on tokio's blocking threads.
fn blocking_spawn(exports: Arc<ExportTable>) -> Spawn {
    let runtime = Handle::current();
    let checks = FileChecks::new(move |job| drop(runtime.spawn_blocking(job)));
    Box::new(move |handle, job| checks.submit(exports.lane_of(handle), job))
}

fn base_status(
    served: &Arc<Served>,
    exports: &Arc<ExportTable>,
    managers: &Arc<Managers>,
    registration: &Arc<Mutex<String>>,
) -> Box<dyn Fn() -> Status + Send + Sync> {
    let started = Instant::now();
    let (served, managers) = (served.clone(), Arc::downgrade(managers));
    let (exports, registration) = (Arc::downgrade(exports), registration.clone());
    Box::new(move || {
        let exports = Weak::upgrade(&exports);
        let mut warnings: Vec<String> = exports.iter().flat_map(|e| e.warnings()).collect();
        warnings.extend(managers.upgrade().map(|m| m.warnings()).unwrap_or_default());
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
