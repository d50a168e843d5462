//! What the control room may see of the running node: plain data, made for JSON and tables. Must never
//! hold a reference into the engine.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::verbs::Refusal;

/// The questions the control API may ask. Each returns quickly; long lists come in pages.
pub trait NodeView: Send + Sync + 'static {
    /// The whole at a glance.
    fn status(&self) -> Status;
    /// Locks in a fixed order, those behind the cursor `page.after`, `page.limit` at the most.
    fn locks(&self, filter: &Filter, page: Page) -> Listing<LockView>;
    /// Waiting requests, likewise.
    fn waiters(&self, filter: &Filter, page: Page) -> Listing<WaiterView>;
    /// Clients, likewise.
    fn clients(&self, filter: &Filter, page: Page) -> Listing<ClientView>;
    /// What was refused because its sender was not the client's address (SM_NOTIFY, UNLOCK, FREE_ALL...), newest last.
    fn refusals(&self) -> Vec<RefusalView>;
    /// Carries out a refused request after all. The error is text for the operator.
    fn accept_refusal(&self, id: u64) -> Result<RefusalView, String>;
    /// What a request would get now, and why.
    fn explain(&self, question: &ExplainQuery) -> Result<ExplainView, Refusal>;
}

/// `lockferry explain`: who would ask for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainQuery {
    /// The lock manager.
    pub lock_manager: IpAddr,
    /// The file, as the server sees it, absolute.
    pub path: PathBuf,
    /// First byte.
    pub start: u64,
    /// Last byte, inclusive. None: to end of file.
    pub end: Option<u64>,
    /// A shared lock instead of an exclusive one.
    pub shared: bool,
    /// The client's name or address. None: one that is not known.
    pub client: Option<String>,
    /// The owner's number within the client, as the lists show it. None: one that has nothing.
    pub svid: Option<u32>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainView {
    /// What a LOCK that does not wait would get: "granted", "denied", "held back", "deadlock", "silence", "no locks".
    pub lock: String,
    /// What a LOCK that waits would get, also "blocked".
    pub blocking: String,
    /// What a TEST would get.
    pub test: String,
    /// What a reclaim would get.
    pub reclaim: String,
    /// Why, a sentence each.
    pub reasons: Vec<String>,
    /// The first few locks in its way.
    pub blockers: Vec<LockView>,
    /// How many there are.
    pub blocker_count: u64,
    /// Unix seconds when it would get an answer at the latest if nobody does anything. None: at once, or when the holders let go.
    pub until: Option<u64>,
}

/// Which rows to show. All given fields must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Client name (exact) or address (exact).
    pub client: Option<String>,
    /// Server path, exact, or a directory that it lies under.
    pub path: Option<String>,
    /// Lock manager name (canonical IP text).
    pub lock_manager: Option<String>,
}

/// Where a page starts and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The `next` of the page before. 0: from the start.
    pub after: u64,
    /// 1 to 10,000.
    pub limit: u32,
}

/// A page of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Pass this as `after` for the next page, which may be short. None: this was the last.
    pub next: Option<u64>,
}

/// `lockferry status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the running binary.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since start.
    pub uptime_seconds: u64,
    /// What listens where.
    pub listeners: Vec<ListenerView>,
    /// The exports.
    pub exports: Vec<ExportView>,
    /// The lock managers.
    pub lock_managers: Vec<LockManagerView>,
    /// How clients find the ports: "host rpcbind", "own port 111", "off", or what is wrong.
    pub rpcbind: String,
    /// Whether the process may do all a kernel client needs.
    pub privileged: bool,
    /// What an operator should know now, one sentence each.
    pub warnings: Vec<String>,
    /// Totals since start.
    pub counters: Counters,
    /// The last control verb that was refused.
    pub last_error: Option<LastError>,
}

/// One program on one port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerView {
    /// "nfs", "mount", "nlm", "nsm", "rpcbind".
    pub program: String,
    /// "tcp" or "udp".
    pub transport: String,
    /// Address and port.
    pub address: String,
}

/// One export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportView {
    /// The directory.
    pub path: String,
    /// Its file system identity, hexadecimal.
    pub fsid: String,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Why it cannot be used now, if it cannot.
    pub error: Option<String>,
}

/// One lock manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockManagerView {
    /// The floating IP's canonical text.
    pub name: String,
    /// "active", "grace", "released", "superseded", "failed" (all but the first two: silent), "absent" (configured, never started).
    pub state: String,
    /// Its epoch; 0: none yet.
    pub epoch: u64,
    /// The exports bound to it. Empty: every export that no lock manager is bound to.
    pub exports: Vec<String>,
    /// Where its journal lies.
    pub journal: String,
    /// Whether the address is on this machine now.
    pub address_here: bool,
    /// Locks still to be reclaimed.
    pub reclaimable: u64,
    /// Locks that were not reclaimed in their window, kept until somebody wants the bytes or the hold time is over.
    pub expired: u64,
    /// Whether its window is a full one: every new lock waits, as the record may be incomplete.
    pub full: bool,
    /// How far its clients are told of the take-over.
    pub notify: NotifyCounts,
    /// Why it is silent or cannot write, if so.
    pub trouble: Option<String>,
    /// Locks held.
    pub locks: u64,
    /// Requests waiting.
    pub waiters: u64,
    /// Clients known.
    pub clients: u64,
    /// The NSM state number we announce.
    pub nsm_state: u32,
    /// Seconds until the grace window ends at the latest.
    pub grace_seconds_left: Option<u64>,
}

/// How many clients of a lock manager are how far told of a take-over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyCounts {
    /// Not yet.
    pub pending: u64,
    /// A notice was sent.
    pub sent: u64,
    /// It was answered.
    pub answered: u64,
    /// A lock was reclaimed.
    pub reclaimed: u64,
    /// Tried for 15 minutes.
    pub gave_up: u64,
}

/// A control verb that was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// Unix seconds.
    pub at: u64,
    /// "start_grace"...
    pub verb: String,
    /// The errno's name.
    pub errno: String,
    /// What was wrong.
    pub text: String,
}

/// Totals since start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests that took a lock.
    pub granted: u64,
    /// Requests denied at once.
    pub denied: u64,
    /// Requests queued.
    pub blocked: u64,
    /// Requests refused as a deadlock.
    pub deadlocks: u64,
    /// UNLOCK requests.
    pub unlocked: u64,
    /// GRANTED callbacks the client confirmed.
    pub callbacks_confirmed: u64,
    /// GRANTED callbacks refused or never answered.
    pub callbacks_failed: u64,
    /// Requests refused because a limit was reached.
    pub over_limit: u64,
    /// Requests refused because their sender was not the client's address.
    pub refused: u64,
    /// Locks freed because their client rebooted.
    pub freed_by_reboot: u64,
    /// Reclaims granted.
    pub reclaimed: u64,
    /// Reclaims refused.
    pub reclaim_refused: u64,
    /// Locks that were not reclaimed in their window.
    pub expired: u64,
    /// Requests for an export that is bound to another lock manager.
    pub bound_elsewhere: u64,
}

/// One lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockView {
    /// Number of the lock.
    pub id: u64,
    /// The lock manager it was taken through.
    pub lock_manager: String,
    /// The client's name.
    pub client: String,
    /// The client's address.
    pub address: String,
    /// The owner within the client: svid (on Linux a number per lock owner, not the pid).
    pub svid: u32,
    /// The owner handle, text where printable, else hexadecimal.
    pub owner: String,
    /// Path as the server sees it; `handle:HEX` where it is not known.
    pub path: String,
    /// First byte.
    pub start: u64,
    /// Last byte, inclusive. None: to end of file.
    pub end: Option<u64>,
    /// "exclusive" or "shared".
    pub mode: String,
    /// "held", "granting", "unconfirmed", "reclaimable", "expired".
    pub state: String,
    /// Unix seconds when it was granted.
    pub since: u64,
}

/// One waiting request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiterView {
    /// What it asks for; `state` is "waiting", `since` when it began to wait.
    #[serde(flatten)]
    pub request: LockView,
    /// The locks it waits for, the first few.
    pub waits_for: Vec<LockView>,
    /// How many there are in all, counted up to 1,000.
    pub waits_for_count: u64,
    /// Why, in one sentence.
    pub reason: String,
}

/// One client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientView {
    /// Number of the client.
    pub id: u64,
    /// The lock manager.
    pub lock_manager: String,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Further addresses that may act for it.
    pub learned_addresses: Vec<String>,
    /// Its NSM state, 0 = unknown.
    pub nsm_state: u32,
    /// Locks held.
    pub locks: u64,
    /// Requests waiting.
    pub waiters: u64,
    /// DOS shares held.
    pub shares: u64,
    /// Whether it is on the SM_NOTIFY list durably.
    pub monitored: bool,
    /// What became of our last SM_NOTIFY to it: "pending", "sent", "answered", "reclaimed", or nothing.
    pub notify: Option<String>,
    /// Unix seconds of its last request.
    pub last_seen: u64,
}

/// A request that was refused for its sender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalView {
    /// Its number, for `lockferry accept`.
    pub id: u64,
    /// "SM_NOTIFY", "UNLOCK", "FREE_ALL"...
    pub request: String,
    /// The client name it spoke for.
    pub client: String,
    /// Who sent it.
    pub from: String,
    /// The address it should have come from.
    pub expected: String,
    /// The lock manager it was sent to.
    pub lock_manager: String,
    /// What it would have done.
    pub detail: String,
    /// Unix seconds when it was last refused.
    pub at: u64,
    /// How often it was refused.
    pub count: u64,
}
