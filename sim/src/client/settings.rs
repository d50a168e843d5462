//! What a client is made of, what it brings about, and what it counts. Data only.
//!
//! Must never hold a rule.

use std::net::IpAddr;

use lockferry_checker::history::{ClientId, Event, FileId, Micros};

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As the Linux kernel's.
    Linux,
    /// The same over the asynchronous procedures, as macOS and BSD have it.
    Async,
    /// It lies, forges and breaks every rule, some of the time.
    Bad,
}

/// A file that a client locks.
#[derive(Clone, Debug)]
pub struct FileRef {
    /// Which.
    pub file: FileId,
    /// The handle in the messages.
    pub handle: Vec<u8>,
    /// The addresses that it may be locked through.
    pub lms: Vec<IpAddr>,
}

/// How much a client does, and of what. Shares are per mille.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The mean time between two operations of an owner.
    pub mean: Micros,
    /// Owners on each address.
    pub owners: u32,
    /// How many bytes are fought over, at both ends of a file.
    pub width: u64,
    /// LOCKs that wait.
    pub blocking: u32,
    /// LOCKs that are shared.
    pub shared: u32,
    /// Ranges to the end of the file.
    pub to_end: u32,
    /// Operations that are a TEST.
    pub test: u32,
    /// Waits that are interrupted soon.
    pub cancel: u32,
    /// LOCKs through an address that does not serve the file.
    pub astray: u32,
    /// Processes come in pairs of one number, told apart by their owner handles alone.
    pub pairs: bool,
    /// LOCKs that do not wait and are given up by a kill, soon; of those that wait so many, and at least 50, can be killed.
    pub kill: u32,
    /// Of the processes that are interrupted while they wait, those that are killed and send no CANCEL.
    pub lone_unlocks: u32,
    /// GRANTEDs that are waited for and refused all the same.
    pub refuse: u32,
    /// After a reboot it locks before it tells anybody of that.
    pub late_notices: bool,
    /// After a reboot it takes its time before it locks anything.
    pub slow_start: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            mean: 20_000,
            owners: 2,
            width: 64,
            blocking: 400,
            shared: 400,
            to_end: 60,
            test: 100,
            cancel: 150,
            astray: 0,
            pairs: false,
            kill: 10,
            lone_unlocks: 0,
            refuse: 0,
            late_notices: false,
            slow_start: false,
        }
    }
}

/// A client.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which one.
    pub id: ClientId,
    /// What it calls itself.
    pub name: Vec<u8>,
    /// Where its messages come from.
    pub address: IpAddr,
    /// Decides all that is left to chance.
    pub seed: u64,
    /// How it behaves.
    pub kind: Kind,
    /// What it locks.
    pub files: Vec<FileRef>,
    /// Whose names a bad one may use.
    pub others: Vec<(ClientId, Vec<u8>, IpAddr)>,
    /// How much it does.
    pub pace: Pace,
}

/// What a client brings about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It calls.
    Call {
        /// The server's address.
        to: IpAddr,
        /// The RPC program.
        program: u32,
        /// Over TCP.
        tcp: bool,
        /// The whole message, without a record mark.
        message: Vec<u8>,
    },
    /// It answers a call.
    Reply {
        /// The caller's address.
        to: IpAddr,
        /// The RPC program that was called.
        program: u32,
        /// The whole message, without a record mark.
        message: Vec<u8>,
    },
    /// Something for the history.
    Record(Event),
}

/// What a client counts. Calls are counted once, whatever the number of transmissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// LOCK, of any kind but reclaims.
    pub locks: u64,
    /// UNLOCK.
    pub unlocks: u64,
    /// CANCEL.
    pub cancels: u64,
    /// TEST.
    pub tests: u64,
    /// LOCK that reclaims.
    pub reclaims: u64,
    /// SM_NOTIFY to servers.
    pub notices: u64,
    /// What a bad client does beyond the rules; the well-formed part of it counts above as well.
    pub mischief: u64,
    /// Repeated transmissions.
    pub repeats: u64,
    /// LOCKs that were blocked and are sent again.
    pub polls: u64,
    /// Answers GRANTED.
    pub granted: u64,
    /// Answers DENIED, with or without a holder.
    pub denied: u64,
    /// Answers BLOCKED.
    pub blocked: u64,
    /// Answers DENIED_GRACE_PERIOD.
    pub grace: u64,
    /// Answers DENIED_NOLOCKS.
    pub nolocks: u64,
    /// Answers DEADLCK.
    pub deadlocks: u64,
    /// Other answers to NLM calls, and calls that failed in RPC.
    pub other: u64,
    /// Empty answers, to SM_NOTIFY.
    pub void: u64,
    /// Answers that came again, or too late.
    pub late: u64,
    /// GRANTED callbacks that were accepted.
    pub accepted: u64,
    /// GRANTED callbacks that were refused.
    pub refused: u64,
    /// SM_NOTIFY from servers.
    pub noticed: u64,
    /// Locks that were got back.
    pub reclaimed: u64,
    /// Locks whose reclaim was refused.
    pub lost: u64,
    /// LOCKs that were given up without an answer.
    pub abandoned: u64,
    /// UNLOCKs that were refused.
    pub leaked: u64,
    /// Reboots.
    pub boots: u64,
}
