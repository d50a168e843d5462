//! What an operator or an HA script can tell the running node, as plain data: the verbs of the control files, of the API and of
//! the command line are these, and so are their answers.
//!
//! What this file must never do: parse (that is the control room's) or act (that is the node's).

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Carries verbs out.
pub trait NodeControl: Send + Sync + 'static {
    /// Carries one out and returns when it is done and durable. Blocks, possibly for seconds: call it on a thread that may. Doing
    /// one twice is no error. `dry_run`: changes nothing and says what would be marked, freed or made to wait.
    ///
    /// # Errors
    /// [`Refusal`]: the node is as it was, and the same text is in the log and in `last_error`.
    fn execute(&self, verb: &Verb, dry_run: bool) -> Result<Done, Refusal>;
}

/// A verb with its arguments. Addresses are canonical: no v4-mapped ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `start_grace`: takes a lock manager up.
    StartGrace(StartGrace),
    /// `unlock_ip`: gives a lock manager up. Its locks stay in the record, to be reclaimed.
    UnlockIp {
        /// The lock manager.
        ip: IpAddr,
    },
    /// `end_grace`: ends a window now.
    EndGrace {
        /// The lock manager.
        ip: IpAddr,
    },
    /// `unlock_filesystem`: frees every lock on files of this export, whoever holds it.
    UnlockFilesystem {
        /// The export's path, as configured.
        path: PathBuf,
    },
    /// `unlock_client`: frees all that a client has.
    UnlockClient {
        /// Its name or its address.
        client: String,
        /// Only through this lock manager.
        ip: Option<IpAddr>,
    },
    /// `revoke`: frees one lock.
    Revoke {
        /// Its number in the list of locks.
        id: u64,
    },
    /// First half of `export-state`: as `unlock_ip`, and the record here is never taken up again unless it is imported or forced.
    /// The answer names the journal's directory.
    HandOver {
        /// The lock manager.
        ip: IpAddr,
        /// To whom, for people; at most 256 bytes.
        to: String,
    },
    /// First half of `import-state`: makes sure that the lock manager is not loaded here, and says where its journal lies.
    Place {
        /// The lock manager.
        ip: IpAddr,
    },
}

/// `start_grace IP [export...] [grace=30s] [journal=DIR] [adopt] [full] [force]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartGrace {
    /// The lock manager.
    pub ip: IpAddr,
    /// Exports to bind to it, paths as configured. None: every export that no lock manager is bound to.
    pub exports: Vec<PathBuf>,
    /// How long its window may last; 0 to 1 h. None: as configured. Given to a window that is open: its new length from now.
    pub grace: Option<Duration>,
    /// Where its journal lies. None: as configured, or as before, or below the state directory.
    pub journal: Option<PathBuf>,
    /// Hold the recorded locks as they stand, without a window, if the record is complete.
    pub adopt: bool,
    /// Open a full window whatever the record says.
    pub full: bool,
    /// Take it up even though it was handed over to another place.
    pub force: bool,
}

impl StartGrace {
    /// With nothing but the address.
    pub fn new(ip: IpAddr) -> Self {
        Self { ip, exports: Vec::new(), grace: None, journal: None, adopt: false, full: false, force: false }
    }
}

impl Verb {
    /// Its name, as the control file is called.
    pub fn name(&self) -> &'static str {
        match self {
            Verb::StartGrace(_) => "start_grace",
            Verb::UnlockIp { .. } => "unlock_ip",
            Verb::EndGrace { .. } => "end_grace",
            Verb::UnlockFilesystem { .. } => "unlock_filesystem",
            Verb::UnlockClient { .. } => "unlock_client",
            Verb::Revoke { .. } => "revoke",
            Verb::HandOver { .. } => "hand_over",
            Verb::Place { .. } => "place",
        }
    }
}

/// What was done, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// One sentence for people.
    pub text: String,
    /// Whether anything changed (or would).
    pub changed: bool,
    /// Locks that clients have to reclaim now, or that stay in the record to be reclaimed.
    pub marked: u64,
    /// Locks freed, or expired (`end_grace`).
    pub freed: u64,
    /// Waiting requests that got no answer.
    pub dropped: u64,
    /// Waiting requests that wait on.
    pub waiting: u64,
    /// Every plain LOCK and TEST waits in the window, not only conflicting ones.
    pub all_wait: bool,
    /// What an operator should know besides, a sentence each.
    pub notes: Vec<String>,
    /// The journal's directory (`hand_over`, `place`).
    pub journal: Option<PathBuf>,
}

/// Why a verb was not carried out: an errno for whoever wrote to a control file, a text for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// EINVAL does not parse or cannot be, ENOENT no such export or lock, EADDRNOTAVAIL not an address we listen on, EBUSY somebody is
    /// at it, ESTALE superseded or handed over, ENOSPC, EIO, EROFS...
    pub errno: Errno,
    /// What is wrong and what to do.
    pub text: String,
}

impl Refusal {
    /// A refusal with this errno.
    pub fn new(errno: Errno, text: impl Into<String>) -> Self {
        Self { errno, text: text.into() }
    }
}
