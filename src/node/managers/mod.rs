//! The life of lock managers on this node (docs/architecture.md): taken up by `start_grace`, given up by `unlock_ip`, adopted at a
//! restart, lost to another node or to a failing disk. One verb at a time for each; verbs for different ones do not wait for each other.
//!
//! What must never happen here: an address answered before its record is loaded, or after it was given up; a record taken
//! from another node because of a command that was going to fail anyway.

mod again;
mod bindings;
mod demands;
mod facts;
mod fill;
mod give_up;
mod neighbours;
mod operator;
mod start;
mod take_up;
mod watch;

pub(super) use facts::FAR_MS;
pub(super) use operator::find_clients;
pub(super) use take_up::durability;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch as tokio_watch;

use super::config::NodeConfig;
use super::desk::Desk;
use super::gate::{Bound, Gate};
use super::host::{Addresses, Connections, Host};
use super::notify::Notifier;
use super::pipe::Pipe;
use super::verbs::{Done, NodeControl, Refusal, Verb};
use super::view::LastError;
use crate::export::ExportTable;
use crate::rpc::drc::Drc;
use crate::service::nlm::Results;
use crate::store::journal::{JournalError, Journals};
use crate::store::record::Record;
use crate::store::{Epoch, StateDir};

/// How long a verb waits for another one about the same lock manager. A take-over of a large record takes seconds.
const TURN: Duration = Duration::from_secs(30);
/// Said to whoever names the first floating address of a node that served every address so far.
const NOW_FLOATING: &str = "floating addresses are known from now on: this node answers only on addresses that were taken up, and on those through \
                            which locks are held";
/// The same, of what has not happened yet.
const WOULD_FLOAT: &str = "floating addresses would be known from then on, also after a restart: this node would answer only on addresses that are \
                           taken up, and on those through which locks are held";
/// How long requests at work below an export that is closed are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the end of the process waits for the journals, 1.5 s: less than whoever ends the process waits for this.
const LAST_WORDS: Duration = Duration::from_millis(1_500);

/// What the lock managers need of the rest of the node.
pub(super) struct Rooms {
    pub(super) config: NodeConfig,
    pub(super) state_dir: StateDir,
    pub(super) journals: Arc<Journals>,
    pub(super) desk: Arc<Desk>,
    pub(super) gate: Arc<Gate>,
    pub(super) exports: Arc<ExportTable>,
    pub(super) drc: Arc<Drc>,
    pub(super) results: Arc<Results>,
    pub(super) connections: Arc<dyn Connections>,
    pub(super) notifier: Arc<Notifier>,
    pub(super) addresses: Arc<dyn Addresses>,
    pub(super) host: Arc<dyn Host>,
}

/// Held while a verb is at work on a lock manager.
type Turn = parking_lot::ArcMutexGuard<parking_lot::RawMutex, ()>;

/// All lock managers that this node has heard of.
pub(super) struct Managers {
    rooms: Rooms,
    slots: Mutex<BTreeMap<IpAddr, Slot>>,
    turns: Mutex<BTreeMap<IpAddr, Arc<Mutex<()>>>>,
    /// Exports that a take-over under way has opened, or is about to: not to be closed because somebody else is given up meanwhile.
    /// Locked before `slots`, and while it is decided that an export is closed.
    opening: Mutex<BTreeMap<IpAddr, BTreeSet<PathBuf>>>,
    /// Held while the locks of a record are put into the core.
    filling: Mutex<()>,
    last_error: Mutex<Option<LastError>>,
    /// Makes clients send their unstable writes again.
    renew_verifier: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Whether clients find our ports: before that nobody is told to come back.
    ready: tokio_watch::Sender<bool>,
}

/// What is known of one.
#[derive(Clone, Debug)]
struct Slot {
    state: State,
    epoch: Epoch,
    nsm_state: u32,
    /// Exports that are bound to it.
    exports: BTreeSet<PathBuf>,
    /// It serves every export that none is bound to.
    rest: bool,
    /// One that moves between nodes; else one of `any` mode.
    floating: bool,
    journal: PathBuf,
    /// Its window is open, but nobody could be told yet, as the address is not here: no deadline runs.
    waits_for_address: bool,
    trouble: Option<String>,
    /// When it was released here, Unix seconds.
    released_at: Option<u64>,
    /// Since when this process knows that it is as it is. The hold time must be over by this clock too: that of the day may jump.
    known_since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Known from the settings only.
    Absent,
    /// Loaded: requests are answered.
    Loaded,
    /// Given up, or found given up, or somebody else's.
    Released,
    /// Another node took it.
    Superseded,
    /// Its record cannot be read or written.
    Failed,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Absent => "absent",
            State::Loaded => "active",
            State::Released => "released",
            State::Superseded => "superseded",
            State::Failed => "failed",
        }
    }
}

impl Slot {
    fn new(floating: bool, journal: PathBuf, now: Instant) -> Self {
        Self {
            state: State::Absent,
            epoch: Epoch(0),
            nsm_state: 0,
            exports: BTreeSet::new(),
            rest: false,
            floating,
            journal,
            waits_for_address: false,
            trouble: None,
            released_at: None,
            known_since: now,
        }
    }

    fn is_loaded(&self) -> bool {
        self.state == State::Loaded
    }

    fn bound(&self) -> Option<Bound> {
        let exports = self.exports.iter().map(|path| ExportTable::number_of(path)).collect();
        self.floating.then_some(Bound { exports, rest: self.rest })
    }
}

impl Managers {
    pub(super) fn new(rooms: Rooms) -> Arc<Self> {
        Arc::new(Self {
            rooms,
            slots: Mutex::default(),
            turns: Mutex::default(),
            opening: Mutex::default(),
            filling: Mutex::default(),
            last_error: Mutex::default(),
            renew_verifier: OnceLock::new(),
            ready: tokio_watch::Sender::new(false),
        })
    }

    /// How NFS clients are made to send their unstable writes again.
    pub(super) fn wire(&self, renew_verifier: Box<dyn Fn() + Send + Sync>) {
        let _ = self.renew_verifier.set(renew_verifier);
    }

    /// Clients find our ports from now on: those that are to be told are told.
    pub(super) fn ready(&self) {
        self.ready.send_replace(true);
    }

    /// The end of the process: what was said becomes durable, in every durability mode. Nothing is given up: the next start adopts it.
    /// Blocks, but not for longer than [`LAST_WORDS`]: all of them write at the same time, so a disk that is full or hangs takes nothing from
    /// the others.
    pub(super) fn stop(&self) {
        let desk = &self.rooms.desk;
        let mut words = Vec::new();
        for (ip, pipe) in desk.loaded() {
            pipe.push(vec![Record::Stopped.into()], Vec::new());
            words.push((ip, desk.begin_to_settle(&pipe)));
        }
        let until = self.rooms.host.now() + LAST_WORDS;
        for (ip, told) in words {
            let left = until.saturating_duration_since(self.rooms.host.now());
            if told.take(self.rooms.host.as_ref(), left).is_none() {
                tracing::error!(
                    lock_manager = %ip,
                    "its journal cannot be written: its last entries are given up, as their clients got no answer"
                );
            }
        }
        // Nothing may come behind it.
        for (ip, _) in desk.loaded() {
            desk.drop_pipe(ip);
        }
    }

    /// Opens the record of a lock manager that a first request has made (`any` mode). Returns at once.
    pub(super) fn open_new(self: &Arc<Self>, ip: IpAddr, pipe: Arc<Pipe>) {
        let this = self.clone();
        self.rooms.host.spawn_blocking(Box::new(move || this.open_first(ip, &pipe)));
    }

    /// A lock manager can go on no longer. Returns at once.
    pub(super) fn fallen(self: &Arc<Self>, ip: IpAddr) {
        // From this moment on, not only once a thread is there.
        self.rooms.gate.shut(ip);
        let this = self.clone();
        self.rooms.host.spawn_blocking(Box::new(move || this.fall(ip)));
    }

    fn new_slot(&self, floating: bool, journal: PathBuf) -> Slot {
        Slot::new(floating, journal, self.rooms.host.now())
    }

    /// Unix seconds.
    fn unix_now(&self) -> u64 {
        self.rooms.host.unix().as_secs()
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Slot>> {
        self.slots.lock()
    }

    fn slot(&self, ip: IpAddr) -> Option<Slot> {
        self.slots().get(&ip).cloned()
    }

    fn change(&self, ip: IpAddr, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.slots().get_mut(&ip) {
            change(slot);
        }
    }

    /// Waits for the verb that is at work on this lock manager.
    fn turn(&self, ip: IpAddr) -> Result<Turn, Refusal> {
        let turn = self.turns.lock().entry(ip).or_default().clone();
        turn.try_lock_arc_for(TURN).ok_or_else(|| {
            let text = format!("{ip}: another command about it has been at work for {} s", TURN.as_secs());
            Refusal::new(Errno::EBUSY, text)
        })
    }

    /// Whether a lock manager other than `but` serves this export, or is just being taken up to serve it.
    fn is_served_by_another(&self, path: &Path, but: IpAddr) -> bool {
        self.is_wanted(&self.opening.lock(), path, but)
    }

    fn is_wanted(&self, opening: &BTreeMap<IpAddr, BTreeSet<PathBuf>>, path: &Path, but: IpAddr) -> bool {
        if opening.iter().any(|(ip, paths)| *ip != but && paths.contains(path)) {
            return true;
        }
        let slots = self.slots();
        let claimed = slots.values().any(|slot| slot.floating && slot.exports.contains(path));
        slots.iter().any(|(ip, slot)| {
            let rest = !claimed && (slot.rest || !slot.floating);
            *ip != but && slot.is_loaded() && (slot.exports.contains(path) || rest)
        })
    }

    /// The exports that a lock manager serves, or would.
    fn serves(&self, slot: &Slot) -> Vec<PathBuf> {
        let claimed: BTreeSet<PathBuf> =
            self.slots().values().filter(|s| s.floating).flat_map(|s| s.exports.iter().cloned()).collect();
        let rest = slot.rest || !slot.floating;
        let all = self.rooms.config.exports.iter().map(|export| export.path.clone());
        all.filter(|path| slot.exports.contains(path) || (rest && !claimed.contains(path))).collect()
    }

    /// Whether any floating address is known: then addresses whose lock manager is not loaded are silent.
    fn update_mode(&self) {
        let floating = self.slots().values().any(|slot| slot.floating);
        if floating == self.rooms.gate.is_any() {
            self.rooms.gate.set_any(!floating);
            self.rooms.desk.run(crate::state::Command::AnyAddress(!floating));
            if floating {
                tracing::info!(
                    "floating addresses are known: only addresses with a loaded lock manager are answered"
                );
                // Their disks may have to go.
                let nobody = std::net::Ipv4Addr::UNSPECIFIED.into();
                let all: Vec<PathBuf> = self.rooms.config.exports.iter().map(|e| e.path.clone()).collect();
                self.close_unserved(nobody, &all);
            }
        }
    }

    fn note_error(&self, verb: &Verb, refusal: &Refusal) {
        let name = verb.name();
        tracing::error!(verb = name, errno = ?refusal.errno, "{refusal}");
        *self.last_error.lock() = Some(LastError {
            at: self.unix_now(),
            verb: name.into(),
            errno: format!("{:?}", refusal.errno),
            text: refusal.text.clone(),
        });
    }
}

impl NodeControl for Arc<Managers> {
    fn execute(&self, verb: &Verb, dry_run: bool) -> Result<Done, Refusal> {
        let done = match verb {
            Verb::StartGrace(start) => self.start_grace(start, dry_run),
            Verb::UnlockIp { ip } => self.unlock_ip(*ip, dry_run),
            Verb::EndGrace { ip } => self.end_grace(*ip, dry_run),
            Verb::UnlockFilesystem { path } => self.unlock_filesystem(path, dry_run),
            Verb::UnlockClient { client, ip } => self.unlock_client(client, *ip, dry_run),
            Verb::Revoke { id } => self.revoke(*id, dry_run),
            Verb::HandOver { ip, to } => self.hand_over(*ip, to, dry_run),
            Verb::Place { ip } => self.place(*ip),
        };
        match &done {
            Ok(done) if !dry_run && done.changed => tracing::info!(verb = verb.name(), "{}", done.text),
            Ok(_) => {}
            // What a dry run would be refused is no error that anybody has to see.
            Err(_) if dry_run => {}
            Err(refusal) => self.note_error(verb, refusal),
        }
        done
    }
}

/// What a journal's error means to whoever gave the command.
fn refusal(ip: IpAddr, doing: &str, error: &JournalError) -> Refusal {
    let errno = match error {
        JournalError::Superseded { .. }
        | JournalError::HandedOver(_)
        | JournalError::ImportUnfinished { .. } => Errno::ESTALE,
        JournalError::NoDirectory(_) | JournalError::Nothing(_) => Errno::ENOENT,
        JournalError::NoSpace(_) => Errno::ENOSPC,
        JournalError::Hangs(_) => Errno::ETIMEDOUT,
        JournalError::OtherName { .. } | JournalError::OwnedElsewhere { .. } => Errno::EBUSY,
        JournalError::Io { source, .. } => source.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
        JournalError::Newer { .. } => Errno::EPROTONOSUPPORT,
        _ => Errno::EIO,
    };
    Refusal::new(errno, format!("{ip}: {doing}: {error}"))
}
