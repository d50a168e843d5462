//! What the durable record of a lock manager is made of: one [`Record`] for each thing that happened. Typed and
//! bounded; how it looks as bytes is the journal's business (docs/journal.md), and of a later shared store its own.
//!
//! Must never depend on a table's numbers: whatever a record names, it names in full, so that any node can replay it.

use std::net::IpAddr;

use crate::state::{Mode, Range};

/// Most bytes of a client name (LM_MAXSTRLEN) and of an owner handle (MAXNETOBJ_SZ).
pub const MAX_NAME: usize = 1024;
/// Most bytes of a file key: file system identity and kernel handle have up to 144.
pub const MAX_FILE_KEY: usize = 256;
/// Most bytes of a file handle in a waiter's route; NFSv4 has 128, NFSv3 64.
pub const MAX_HANDLE: usize = 128;
/// Most bytes of an export's path (PATH_MAX).
pub const MAX_PATH: usize = 4096;
/// Most bytes of a lock manager's or a node's name.
pub const MAX_LABEL: usize = 256;
/// Most bytes of a file key prefix that stands for an export's file system.
pub const MAX_PREFIX: usize = 64;
/// Most bytes of a kept reply; NLM's have about 40, one with a holder's owner handle up to 1100 is not kept.
pub const MAX_REPLY: usize = 512;

/// How soon a record is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Before its answer leaves.
    Sync,
    /// Some time later; after a crash the record is incomplete.
    Relaxed,
    /// Whenever the system likes; after a crash the record is incomplete.
    None,
}

/// A client: name and address together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey {
    /// `caller_name`, at most [`MAX_NAME`] bytes.
    pub name: Box<[u8]>,
    /// Where it comes from.
    pub address: IpAddr,
}

/// A lock owner of this lock manager.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerKey {
    /// Whose.
    pub client: ClientKey,
    /// Owner handle, at most [`MAX_NAME`] bytes.
    pub oh: Box<[u8]>,
    /// Owner number.
    pub svid: u32,
}

/// Bytes of a file, as far as one owner is concerned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Whose.
    pub owner: OwnerKey,
    /// The file's key, at most [`MAX_FILE_KEY`] bytes.
    pub file: Box<[u8]>,
    /// Which bytes.
    pub range: Range,
}

/// What is known of a recorded lock. As the core's condition, and *expired*, which outlives a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockCondition {
    /// Granted and live.
    Held,
    /// A GRANTED callback is on its way.
    Granting,
    /// The callback's answer will not come.
    Unconfirmed,
    /// Its client is not back yet.
    Reclaimable,
    /// Still not back after the window: yields to the first conflict.
    Expired,
}

impl LockCondition {
    /// All of them, in the order of their numbers.
    pub const ALL: [LockCondition; 5] =
        [Self::Held, Self::Granting, Self::Unconfirmed, Self::Reclaimable, Self::Expired];

    /// Its bit in a set of conditions.
    pub fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

/// The shared lock under an exclusive one that the client may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnderLock {
    /// Its condition.
    pub condition: LockCondition,
    /// The client's NSM state when it was taken.
    pub state: u32,
}

/// What a stretch of locked bytes is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockFields {
    /// Shared or exclusive.
    pub mode: Mode,
    /// What is known of it.
    pub condition: LockCondition,
    /// The client's NSM state when it was taken; 0 = unknown.
    pub state: u32,
    /// When, seconds since 1970 UTC.
    pub since: u64,
    /// A shared lock under it.
    pub under: Option<UnderLock>,
}

/// A request that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaiterFields {
    /// What it waits for.
    pub place: Place,
    /// Shared or exclusive.
    pub mode: Mode,
    /// The client's NSM state; 0 = unknown.
    pub state: u32,
    /// Since when, seconds since 1970 UTC.
    pub since: u64,
    /// NLM version of the request.
    pub version: u32,
    /// Whether it came over TCP.
    pub tcp: bool,
    /// Whether it was LOCK_MSG.
    pub asynchronous: bool,
    /// The file handle as the client sent it, at most [`MAX_HANDLE`] bytes.
    pub handle: Box<[u8]>,
}

/// A client's TCP connection to the lock manager's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    /// Our port.
    pub local_port: u16,
    /// The client's address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// The answer a call got, for the reply cache of whoever loads the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplySeed {
    /// The client's address.
    pub peer: IpAddr,
    /// Its port.
    pub port: u16,
    /// Whether it came over TCP.
    pub tcp: bool,
    /// Transaction id.
    pub xid: u32,
    /// Program number.
    pub program: u32,
    /// Program version.
    pub version: u32,
    /// Procedure number.
    pub procedure: u32,
    /// XXH64 of the arguments.
    pub checksum: u64,
    /// When, milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// The reply, at most [`MAX_REPLY`] bytes.
    pub reply: Box<[u8]>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An owner begins. Written by the store itself, first in each epoch.
    Opened {
        /// The lock manager's name.
        lock_manager: Box<str>,
        /// The node, for people.
        node: Box<str>,
        /// Seconds since 1970 UTC.
        time: u64,
        /// How durable what follows is.
        durability: Durability,
        /// Whether the record up to here is complete.
        complete: bool,
    },
    /// The owner has exactly this on these bytes, whatever it had there.
    Set(Place, LockFields),
    /// The owner has nothing on these bytes.
    Unset(Place),
    /// A waiter gets its lock: `Unqueued` and `Set` in one.
    Granted(u64, Place, LockFields),
    /// A request waits, behind those queued before. The number is the caller's, unique in this lock manager.
    Queued(u64, WaiterFields),
    /// It does not wait any more.
    Unqueued(u64),
    /// On the list of clients to notify, with this NSM state.
    Client(ClientKey, u32),
    /// Off that list.
    Forgotten(ClientKey),
    /// The NSM state number that this lock manager announces.
    NsmState(u32),
    /// An export belongs to this lock manager.
    Bound {
        /// Its path.
        path: Box<[u8]>,
        /// How its files' keys begin.
        prefix: Box<[u8]>,
    },
    /// It does not any more.
    Unbound {
        /// Its path.
        path: Box<[u8]>,
    },
    /// Every lock in one of these conditions, whose file key begins like this, changes or goes.
    Sweep {
        /// Bits of [`LockCondition::bit`].
        from: u8,
        /// The new condition; `None`: the lock goes.
        to: Option<LockCondition>,
        /// Empty: all files.
        prefix: Box<[u8]>,
    },
    /// A grace window opens.
    WindowOpened {
        /// Every plain request waits in it.
        full: bool,
        /// Milliseconds since 1970 UTC.
        deadline_ms: u64,
    },
    /// The window is over; from here on the record is complete.
    WindowEnded,
    /// Nobody owns the lock manager, and all before this is durable.
    Released {
        /// Seconds since 1970 UTC.
        time: u64,
    },
    /// As released, and never to be taken up here again.
    HandedOver {
        /// Seconds since 1970 UTC.
        time: u64,
        /// For people.
        to: Box<str>,
    },
    /// Nothing happened, but an answer was given.
    Answered,
    /// A client has this connection: whoever takes over can wake it.
    Connected(Connection),
    /// It has not any more.
    Disconnected(Connection),
    /// The owner's process ends in order, and all before this is durable. It still owns the lock manager.
    Stopped,
}

impl Record {
    /// Whether it must be durable before its effects leave, in every durability mode.
    pub fn always_sync(&self) -> bool {
        matches!(
            self,
            Record::Opened { .. }
                | Record::Client(..)
                | Record::NsmState(_)
                | Record::Bound { .. }
                | Record::Unbound { .. }
                | Record::WindowEnded
                | Record::Released { .. }
                | Record::HandedOver { .. }
                | Record::Stopped
        )
    }

    /// Whether its effects may leave before it is durable, in every mode. It still goes out in order.
    pub fn may_be_late(&self) -> bool {
        matches!(
            self,
            Record::Queued(..)
                | Record::Unqueued(_)
                | Record::Forgotten(_)
                | Record::WindowOpened { .. }
                | Record::Connected(_)
                | Record::Disconnected(_)
        )
    }
}

/// A record, and the answer that went out with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What happened.
    pub record: Record,
    /// The answer, if the reply cache should know it after a move.
    pub reply: Option<ReplySeed>,
}

impl From<Record> for Entry {
    fn from(record: Record) -> Self {
        Entry { record, reply: None }
    }
}
