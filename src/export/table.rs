//! The exports of a running daemon: which there are, whether they can be used now, what they are called in
//! handles. An export that cannot be opened never stops the others.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::access::{address_allowed, port_allowed, squash};
use super::cred_sys::{Ids, ThreadCreds};
use super::error::FsError;
use super::files::OpenFiles;
use super::handle::Handle;
use super::locks::Verdicts;
use super::places::Places;
use super::tree::{Tree, export_number};
use super::{FileKey, LockRefusal};
use crate::node::config::ExportConfig;
use crate::node::view::ExportView;
use crate::rpc::Cred;

/// How often it is checked that an export's path still leads to the directory that is open.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// How soon after a failure an export's directory is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Locks that order the changes of one file (see `ExportTable::order`).
const STRIPES: usize = 256;
/// A refused address is logged once in this time...
const LOG_EVERY: Duration = Duration::from_secs(60);
/// ...as far as this many addresses are kept in mind.
const LOG_ADDRESSES: usize = 1_000;

/// One export.
pub(super) struct Export {
    pub(super) config: ExportConfig,
    pub(super) number: u64,
    state: Mutex<State>,
    /// No lock manager that serves it is loaded: it stays closed.
    pub(super) suspended: AtomicBool,
    /// A mistake in the settings that no retry mends.
    broken: Option<String>,
}

enum State {
    Open { tree: Arc<Tree>, checked: Instant },
    Closed { error: Option<String>, at: Option<Instant> },
}

/// An export that is being closed.
pub struct Closing {
    number: u64,
    tree: Option<Arc<Tree>>,
}

/// All exports and what is remembered about their files. Shared by the services.
pub struct ExportTable {
    exports: Vec<Arc<Export>>,
    pub(super) places: Places,
    pub(super) files: OpenFiles,
    pub(super) verdicts: Verdicts,
    stripes: Vec<Mutex<()>>,
    logged: Mutex<HashMap<IpAddr, Instant>>,
    can_switch: bool,
    can_open: bool,
    /// Warnings that were found at the start.
    notes: Vec<String>,
}

impl ExportTable {
    /// Opens what can be opened of `configs` and notes the rest with its error (see `warnings`), to be tried
    /// again on use.
    /// Makes system calls: call it before the services start.
    pub fn open(configs: &[ExportConfig]) -> Self {
        let can_switch = std::thread::spawn(|| ThreadCreds::take_over().can_switch()).join().unwrap_or(false);
        let mut table = Self {
            exports: Vec::new(),
            places: Places::default(),
            files: OpenFiles::default(),
            verdicts: Verdicts::default(),
            stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            logged: Mutex::default(),
            can_switch,
            can_open: true,
            notes: Vec::new(),
        };
        for config in configs {
            let mut export = table.admit(config);
            if let Ok(tree) = table.tree(&export) {
                export.broken = table.identity_clash(&tree);
                table.notes.extend(table.identity_split(&tree));
            }
            let export = Arc::new(export);
            if let Ok(tree) = table.tree(&export) {
                table.can_open &= !tree.lacks_privilege;
            }
            table.exports.push(export);
        }
        table
    }

    fn admit(&self, config: &ExportConfig) -> Export {
        let number = export_number(&config.path);
        let twin = self.exports.iter().find(|other| other.number == number);
        let broken =
            twin.map(|other| format!("it is exported twice; {} was taken", other.config.path.display()));
        let state = Mutex::new(State::Closed { error: None, at: None });
        Export { config: config.clone(), number, state, suspended: AtomicBool::new(false), broken }
    }

    /// Two file systems with one name would share their locks and handles.
    fn identity_clash(&self, tree: &Tree) -> Option<String> {
        let other = self.opened().find(|o| o.identity.id == tree.identity.id && o.device != tree.device)?;
        Some(format!(
            "its file system has the same identity as that of {}, but is another one: give one of them its own \
             `fsid`",
            other.path.display()
        ))
    }

    /// One file system with two names: not wrong, but hardly meant.
    fn identity_split(&self, tree: &Tree) -> Option<String> {
        let other = self.opened().find(|o| o.identity.id != tree.identity.id && o.device == tree.device)?;
        Some(format!(
            "exports {} and {} lie on one file system but differ in `fsid`: locks of one are not seen through \
             the other",
            tree.path.display(),
            other.path.display()
        ))
    }

    fn opened(&self) -> impl Iterator<Item = Arc<Tree>> {
        self.exports.iter().filter(|e| e.broken.is_none()).filter_map(|e| e.opened())
    }

    /// The exports for the operator.
    pub fn views(&self) -> Vec<ExportView> {
        self.exports.iter().map(|export| export.view()).collect()
    }

    /// Whether requests run as their callers and handles are opened by the kernel. If not, the daemon works
    /// as its own user only, and finds files by name.
    pub fn privileged(&self) -> bool {
        self.can_switch && self.can_open
    }

    /// What an operator should know, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut out = self.notes.clone();
        // Without either, the node's own line about not being privileged says all of this.
        if !self.can_open && self.can_switch {
            out.push(
                "files are found by name, and after a restart by searching the export: opening them by handle \
                 needs CAP_DAC_READ_SEARCH (run as root)"
                    .to_owned(),
            );
        }
        if !self.can_switch && self.can_open {
            out.push(
                "files are served as the daemon's own user, whoever asks: acting as the callers needs \
                 CAP_SETUID and CAP_SETGID (run as root)"
                    .to_owned(),
            );
        }
        for export in &self.exports {
            match export.error() {
                Some(error) if export.broken.is_none() => out.push(error),
                Some(error) => out.push(format!("export {}: {error}", export.config.path.display())),
                None => out.extend(export.opened().iter().flat_map(|tree| tree.warnings())),
            }
        }
        out
    }

    /// Closes every descriptor below the export at `path` and waits up to `patience` for requests that are
    /// at work there. True: nothing is open any more (umount succeeds). A later request opens it again.
    pub fn drop_descriptors(&self, path: &Path, patience: Duration) -> bool {
        self.await_closed(self.begin_close(path), patience)
    }

    /// Closes an export, but for what is at work below it: see [`await_closed`](Self::await_closed). A later request opens it again.
    pub(super) fn begin_close(&self, path: &Path) -> Closing {
        let export = self.exports.iter().find(|e| e.config.path == path);
        let closed = || State::Closed { error: None, at: None };
        let tree = export.and_then(|export| match std::mem::replace(&mut *export.lock(), closed()) {
            State::Open { tree, .. } => Some(tree),
            _ => None,
        });
        let number = export.map_or(0, |export| export.number);
        self.files.forget_export(number);
        Closing { number, tree }
    }

    /// Waits for what is at work below an export that was closed. False: it goes on.
    pub fn await_closed(&self, Closing { number, tree }: Closing, patience: Duration) -> bool {
        let Some(tree) = tree else { return true };
        let deadline = Instant::now() + patience;
        while Arc::strong_count(&tree) > 1 {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
            self.files.forget_export(number);
        }
        true
    }

    /// Closes descriptors that were not used for a while. The pool calls it when it has nothing to do.
    pub(super) fn sweep(&self) {
        self.files.sweep();
    }

    /// The configured exports in order.
    pub(crate) fn configs(&self) -> impl Iterator<Item = &ExportConfig> {
        self.exports.iter().filter(|e| e.broken.is_none()).map(|e| &e.config)
    }

    /// The lane of `FilePool` for calls about this handle: one for each export, 0 for handles that are not ours.
    pub fn lane_of(&self, handle: &[u8]) -> u64 {
        self.export_of(handle).map_or(0, |(export, _)| export.number)
    }

    /// The same for a path.
    pub fn lane_of_path(&self, path: &Path) -> u64 {
        self.export_at(path).map_or(0, |(export, _)| export.number)
    }

    /// The export that a handle names.
    pub(super) fn export_of(&self, handle: &[u8]) -> Result<(&Arc<Export>, Handle), FsError> {
        let handle = Handle::parse(handle).ok_or(FsError::BadHandle)?;
        let export = self
            .exports
            .iter()
            .find(|e| e.number == handle.export && e.broken.is_none())
            .ok_or(FsError::Stale)?;
        Ok((export, handle))
    }

    /// The export that `path` lies in (the deepest one) and what is left of the path.
    pub(super) fn export_at<'p>(&self, path: &'p Path) -> Option<(&Arc<Export>, &'p Path)> {
        self.exports
            .iter()
            .filter(|e| e.broken.is_none())
            .filter_map(|e| Some((e, path.strip_prefix(&e.config.path).ok()?)))
            .max_by_key(|(e, _)| e.config.path.components().count())
    }

    /// Exports whose file system is called `fs`, as far as they are open.
    pub(super) fn trees_on(&self, fs: u64) -> Vec<Arc<Tree>> {
        self.opened().filter(|tree| tree.identity.id == fs).collect()
    }

    /// The open directory of an export if that was checked a moment ago: no system call.
    pub(super) fn fresh_tree(&self, export: &Export) -> Option<Arc<Tree>> {
        match &*export.lock() {
            State::Open { tree, checked } if Instant::now() < *checked + CHECK_EVERY => Some(tree.clone()),
            _ => None,
        }
    }

    /// The open directory of an export. Blocks on the disk.
    pub(super) fn tree(&self, export: &Export) -> Result<Arc<Tree>, FsError> {
        if export.broken.is_some() {
            return Err(FsError::Stale);
        }
        let mut state = export.lock();
        // Under the lock, so that nobody who looked before opens it after it was closed.
        if export.suspended.load(Ordering::Acquire) {
            return Err(FsError::Busy);
        }
        let now = Instant::now();
        match &mut *state {
            State::Open { tree, checked } => {
                if now < *checked + CHECK_EVERY {
                    return Ok(tree.clone());
                }
                if tree.is_current() {
                    *checked = now;
                    return Ok(tree.clone());
                }
                tracing::warn!(path = %export.config.path.display(), "the export's directory has changed");
                self.files.forget_export(export.number);
            }
            State::Closed { at: Some(at), .. } if now < *at + RETRY_AFTER => return Err(FsError::Busy),
            State::Closed { .. } => {}
        }
        match Tree::open(&export.config) {
            Ok(tree) => {
                let tree = Arc::new(tree);
                self.places.set_root(tree.root_key(), &tree.path);
                *state = State::Open { tree: tree.clone(), checked: now };
                Ok(tree)
            }
            Err(errno) => {
                let path = export.config.path.display();
                let mend = if errno == nix::errno::Errno::EACCES {
                    "allow this user to enter it and what is above it"
                } else {
                    "make it, or mount what belongs there"
                };
                let error = Some(format!("cannot open the export {path}: {}: {mend}", errno.desc()));
                *state = State::Closed { error, at: Some(now) };
                Err(FsError::Busy)
            }
        }
    }

    /// As `tree`, also right after a failure.
    pub(super) fn tree_now(&self, export: &Export) -> Result<Arc<Tree>, FsError> {
        if let State::Closed { at, .. } = &mut *export.lock() {
            *at = None;
        }
        self.tree(export)
    }

    /// All exports.
    pub(super) fn exports(&self) -> &[Arc<Export>] {
        &self.exports
    }

    /// The open directory of an export, if it is open.
    pub(super) fn open_tree(&self, export: &Export) -> Option<Arc<Tree>> {
        export.opened()
    }

    /// Whether a caller may come in at all. `port` None: any will do (locks).
    pub(super) fn check_peer(&self, export: &Export, peer: IpAddr, port: Option<u16>) -> Result<(), FsError> {
        let path = export.config.path.display();
        if !address_allowed(&export.config, peer) {
            if self.log_now(peer) {
                tracing::warn!(%peer, export = %path, "refused: `clients` of this export does not name the address");
            }
            return Err(FsError::Address);
        }
        if port.is_some_and(|port| !port_allowed(&export.config, port)) {
            if self.log_now(peer) {
                tracing::warn!(
                    %peer, port, export = %path,
                    "refused: source port is 1024 or above; set `insecure = true` for this export (--export \
                     {path}:insecure) to allow it"
                );
            }
            return Err(FsError::Port);
        }
        Ok(())
    }

    /// Whom a caller acts as on this export.
    pub(super) fn ids(&self, export: &Export, cred: &Cred) -> Ids {
        if self.can_switch {
            return squash(&export.config, cred);
        }
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Ids { uid, gid, groups: Vec::new() }
    }

    /// Whether files are served as the daemon's own user.
    pub(super) fn acts_as_itself(&self) -> bool {
        !self.can_switch
    }

    /// Runs `work` while no other request changes these files, so that attributes taken before and after it
    /// differ by it alone.
    pub(crate) fn order<T>(&self, keys: &[&FileKey], work: impl FnOnce() -> T) -> T {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        let mut at: Vec<usize> = keys
            .iter()
            .map(|key| BuildHasherDefault::<DefaultHasher>::default().hash_one(key) as usize % STRIPES)
            .collect();
        // Always in the same order, each once: no two requests can wait for each other.
        at.sort_unstable();
        at.dedup();
        let _held: Vec<MutexGuard<'_, ()>> = at
            .iter()
            .filter_map(|at| self.stripes.get(*at))
            .map(|stripe| stripe.lock().unwrap_or_else(PoisonError::into_inner))
            .collect();
        work()
    }

    /// Whether a refusal of this address is to be logged: not if one was a short while ago.
    fn log_now(&self, peer: IpAddr) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if logged.get(&peer).is_some_and(|at| now < *at + LOG_EVERY) {
            return false;
        }
        if logged.len() >= LOG_ADDRESSES {
            logged.retain(|_, at| now < *at + LOG_EVERY);
        }
        if logged.len() >= LOG_ADDRESSES {
            return false;
        }
        logged.insert(peer, now);
        true
    }

    /// As `check_peer`, for a whole address.
    pub(super) fn check_caller(&self, export: &Export, peer: SocketAddr) -> Result<(), FsError> {
        self.check_peer(export, peer.ip(), Some(peer.port()))
    }

    /// As `export_of`, in the words of the lock service.
    pub(super) fn lock_export(&self, handle: &[u8]) -> Result<(&Arc<Export>, Handle), LockRefusal> {
        self.export_of(handle).map_err(|_| LockRefusal::Stale)
    }
}

impl Export {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is replaced in one assignment, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open directory, if it is open, without looking at the disk.
    fn opened(&self) -> Option<Arc<Tree>> {
        // Held for long only while a directory is being opened: then it is not open.
        match &*self.state.try_lock().ok()? {
            State::Open { tree, .. } => Some(tree.clone()),
            State::Closed { .. } => None,
        }
    }

    /// Why it cannot be used, if so.
    pub(super) fn problem(&self) -> Option<String> {
        self.error()
    }

    fn error(&self) -> Option<String> {
        if self.broken.is_some() {
            return self.broken.clone();
        }
        match self.state.try_lock().as_deref() {
            Ok(State::Closed { error, .. }) => error.clone(),
            Ok(State::Open { .. }) => None,
            Err(_) => Some(format!("the directory {} does not answer", self.config.path.display())),
        }
    }

    fn view(&self) -> ExportView {
        ExportView {
            path: self.config.path.to_string_lossy().into_owned(),
            fsid: self.opened().map(|tree| format!("{:016x}", tree.identity.id)).unwrap_or_default(),
            read_only: self.config.read_only,
            error: self.error(),
        }
    }
}

impl std::fmt::Debug for ExportTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.exports.iter().map(|e| &e.config.path)).finish()
    }
}
