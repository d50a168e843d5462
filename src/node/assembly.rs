//! The node without its machine: the lock core, its journals, the lock managers and the lock programs, put together over whatever
//! implements [`super::host`]. `serve` puts it on a real machine; the simulator puts many of them into one thread.
//!
//! Must never reach for a clock, a thread or a socket by itself.

use std::net::IpAddr;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use super::callbacks::{Caller, SharedCaller};
use super::config::{self, AddressCheck, NodeConfig, NsmMode};
use super::desk::{Callbacks, Desk, Observer, Opener, Ways};
use super::gate::{Gate, Gated};
use super::host::{Addresses, Calls, Connections, Host};
use super::managers::{Managers, Rooms, durability};
use super::notify::Notifier;
use super::pipe::{Outlet, Release};
use super::statd::Statd;
use super::verbs::NodeControl;
use super::view::{NodeView, Status};
use super::views::Views;
use super::written::Written;
use crate::export::{ExportTable, LockFiles};
use crate::rpc::Program;
use crate::rpc::drc::Drc;
use crate::service::nlm::{Nlm, Results, Spawn};
use crate::service::nsm::Nsm;
use crate::state::{self, Engine, Event, LockRow, Settings};
use crate::store::StateDir;
use crate::store::journal::{self, Journals};

/// What a node needs of the world.
pub struct World {
    /// Clocks and threads.
    pub host: Arc<dyn Host>,
    /// GRANTED and _RES calls.
    pub calls: Arc<dyn Calls>,
    /// SM_NOTIFY. Calls of its own: many clients that are gone must not take the turns of callbacks.
    pub notices: Arc<dyn Calls>,
    /// Clients' connections.
    pub connections: Arc<dyn Connections>,
    /// This machine's addresses.
    pub addresses: Arc<dyn Addresses>,
    /// The records.
    pub journals: Arc<Journals>,
    /// This node's own directory.
    pub state_dir: StateDir,
    /// The exports.
    pub exports: Arc<ExportTable>,
    /// Files as the lock programs see them: the exports, or something in their place.
    pub files: Arc<dyn LockFiles>,
    /// Runs file checks.
    pub spawn: Spawn,
    /// Answers of the last minutes.
    pub drc: Arc<Drc>,
    /// Hears every event.
    pub log: Box<dyn Fn(&Event) + Send + Sync>,
    /// Unpredictable numbers: what cookies carry, how tables are hashed, where lock numbers begin.
    pub secrets: [u64; 3],
}

/// A node on some machine.
pub struct Node {
    pub(super) desk: Arc<Desk>,
    pub(super) gate: Arc<Gate>,
    pub(super) managers: Arc<Managers>,
    pub(super) statd: Arc<Statd>,
    pub(super) caller: Arc<Caller>,
    exports: Arc<ExportTable>,
    notifier: Arc<Notifier>,
    host: Arc<dyn Host>,
    programs: Vec<Arc<dyn Program>>,
}

impl Node {
    /// Puts it together. Nothing is read or answered yet.
    pub fn new(config: &NodeConfig, world: World) -> Self {
        let World {
            host,
            calls,
            notices,
            connections,
            addresses,
            journals,
            state_dir,
            exports,
            files,
            spawn,
            drc,
            log,
            secrets,
        } = world;
        let caller = Arc::new(Caller::new(calls.clone(), host.clone(), config.callback, secrets[0]));
        let notifier = Notifier::new(notices, host.clone());
        let statd = Statd::new(config, calls);
        let gate = Arc::new(Gate::default());
        let managers_cell: Arc<OnceLock<Weak<Managers>>> = Arc::default();
        let callbacks: Arc<dyn Callbacks> = Arc::new(SharedCaller(caller.clone()));
        let written: Arc<Written> = Arc::default();
        let ways = Ways {
            host: host.clone(),
            callbacks: callbacks.clone(),
            observer: observer(notifier.clone(), log),
            gate: gate.clone(),
            outlet: Arc::new(Outlet {
                let_out: let_out(callbacks, written.clone()),
                fallen: fallen(managers_cell.clone()),
                statd: statd.clone(),
                host: host.clone(),
            }),
            written,
            opener: opener(managers_cell.clone()),
            monitored_by_statd: config.nsm.mode == NsmMode::Statd,
        };
        let desk = Arc::new(Desk::new(engine(config, secrets), ways));
        let results = Results::new(Arc::new(SharedCaller(caller.clone())));
        let managers = Managers::new(Rooms {
            config: config.clone(),
            state_dir,
            journals,
            desk: desk.clone(),
            gate: gate.clone(),
            exports: exports.clone(),
            drc,
            results: results.clone(),
            connections,
            notifier: notifier.clone(),
            addresses,
            host: host.clone(),
        });
        let _ = managers_cell.set(Arc::downgrade(&managers));
        let nsm_state = {
            let managers = managers.clone();
            Box::new(move |ip| managers.nsm_state(ip))
        };
        let nlm = Nlm::new(desk.clone(), files, results, spawn);
        let nsm = Nsm::new(desk.clone(), nsm_state);
        let programs: [Arc<dyn Program>; 2] = [Arc::new(nlm), Arc::new(nsm)];
        let gated = programs.map(|program| Arc::new(Gated::new(program, gate.clone())) as Arc<dyn Program>);
        caller.wire(Arc::downgrade(&desk));
        Self { desk, gate, managers, statd, exports, notifier, caller, host, programs: gated.into() }
    }

    /// Takes up the lock managers that are still this node's, and goes on with all that runs by itself. Call it before any program is
    /// served. Blocks.
    pub fn start(&self) {
        self.managers.start();
        let desk = self.desk.clone();
        self.host.spawn(Box::pin(async move { desk.run_timers().await }));
        self.managers.watch();
    }

    /// Clients find our ports from now on.
    pub fn ready(&self) {
        self.managers.ready();
    }

    /// NLM and NSM, silent on addresses that are not served.
    pub fn programs(&self) -> &[Arc<dyn Program>] {
        &self.programs
    }

    /// What operators command.
    pub fn control(&self) -> Arc<dyn NodeControl> {
        Arc::new(self.managers.clone())
    }

    /// What operators see. `base`: the parts of the status that only the machine knows.
    pub fn view(&self, base: Box<dyn Fn() -> Status + Send + Sync>) -> Arc<dyn NodeView> {
        self.views(base)
    }

    /// All locks, in a fixed order. For few: requests wait meanwhile.
    pub fn locks(&self) -> Vec<LockRow> {
        self.desk.read(|engine| {
            let (mut all, mut from) = (Vec::new(), Some(0));
            while let Some(slot) = from {
                let (rows, next) = engine.lock_rows(slot, usize::MAX);
                all.extend(rows);
                from = next;
            }
            all
        })
    }

    pub(super) fn views(&self, base: Box<dyn Fn() -> Status + Send + Sync>) -> Arc<Views> {
        let notifier = self.notifier.clone();
        Arc::new(Views {
            desk: self.desk.clone(),
            files: self.exports.clone(),
            searches: AtomicU32::new(0),
            base,
            managers: self.managers.clone(),
            gate: self.gate.clone(),
            notify: Box::new(move |row| {
                notifier.progress(row.lm, &row.name, row.address).map(|p| p.as_str().into())
            }),
        })
    }
}

/// The journals of a node that is called `label`, in `base`, on the disk or on something in its place.
pub fn journal_options(config: &NodeConfig, label: &str) -> journal::Options {
    journal::Options {
        segment: u64::from(config.journal.segment_mib) << 20,
        durability: durability(config.journal.durability),
        flush: config.journal.flush,
        node: label.to_owned(),
        ..journal::Options::default()
    }
}

fn engine(config: &NodeConfig, secrets: [u64; 3]) -> Engine {
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
        grace_conflict: match config.grace.conflict {
            config::GraceConflict::Wait => state::GraceConflict::Wait,
            config::GraceConflict::Deny => state::GraceConflict::Deny,
        },
        reclaim_match: match config.reclaim_strict {
            true => state::ReclaimMatch::Strict,
            false => state::ReclaimMatch::Owner,
        },
        hold: config.grace.hold,
        journal: true,
        late: Settings::default().late,
        await_records: true,
        locks_per_call: Settings::default().locks_per_call,
        // A restored client must stay on the list for as long as it may still reclaim.
        forget_after: Duration::from_secs(600).max(config.grace.window * 2),
        hash_seed: secrets[1],
        first_id: secrets[2] as u32,
    })
}

/// How releases leave the pipes.
fn let_out(callbacks: Arc<dyn Callbacks>, written: Arc<Written>) -> Box<dyn Fn(Release) + Send + Sync> {
    Box::new(move |release| match release {
        Release::Reply(answer, reply) => answer.send(reply),
        Release::Granted(order) => callbacks.start(*order),
        Release::Stop(grant) => callbacks.stop(grant),
        Release::Tell(tell) => tell(),
        Release::Written { lm, mark, soon } => written.add(lm, mark, soon),
    })
}

fn fallen(managers: Arc<OnceLock<Weak<Managers>>>) -> Box<dyn Fn(IpAddr) + Send + Sync> {
    Box::new(move |ip| {
        if let Some(managers) = managers.get().and_then(Weak::upgrade) {
            managers.fallen(ip);
        }
    })
}

fn opener(managers: Arc<OnceLock<Weak<Managers>>>) -> Opener {
    Box::new(move |ip, pipe| {
        if let Some(managers) = managers.get().and_then(Weak::upgrade) {
            managers.open_new(ip, pipe);
        }
    })
}

fn observer(notifier: Arc<Notifier>, log: Box<dyn Fn(&Event) + Send + Sync>) -> Observer {
    Box::new(move |event| {
        if let Event::Reclaimed { lm, client, address, .. } = event {
            notifier.reclaimed(*lm, client, *address);
        }
        log(event);
    })
}
