//! What the journal is told: each change of the tables as an entry. Replaying the entries of a lock manager in order, each
//! `Set` and `Unset` laid over what was there, gives its locks and waiters again; [`super::Command::LoadLock`] and
//! [`super::Command::LoadWaiter`] put them back into an engine.
//!
//! Must never hold anything that means something in one process only, but for times on the engine's clock: who writes them
//! down makes dates of them.

use std::net::IpAddr;

use super::command::Route;
use super::types::{Condition, Mode, Range, Time};

/// Bytes of a file, as far as one owner is concerned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stretch {
    /// Lock manager.
    pub lm: IpAddr,
    /// Client name.
    pub name: Box<[u8]>,
    /// Client address.
    pub address: IpAddr,
    /// Owner handle.
    pub oh: Box<[u8]>,
    /// Owner number.
    pub svid: u32,
    /// File key.
    pub file: Box<[u8]>,
    /// The bytes.
    pub range: Range,
}

/// What the owner has on each of these bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockState {
    /// Shared or exclusive.
    pub mode: Mode,
    /// What is known of it.
    pub condition: Condition,
    /// The client's NSM state when it was taken; 0 = unknown.
    pub state: u32,
    /// Granting or unconfirmed, and exclusive: the condition and NSM state of the shared lock that the client has anyway.
    pub under: Option<(Condition, u32)>,
}

/// A change of many locks of a lock manager at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sweep {
    /// Reclaimable ones become expired: the window is over.
    Expire,
    /// Expired ones go: the hold time is over.
    DropExpired,
    /// All that are not expired become reclaimable, and nobody waits any more: the lock manager was released.
    Release,
}

/// A durable entry. The effects that come with it may leave only after it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// This client has, or may soon have, locks: tell it when we come back.
    Client {
        /// Lock manager.
        lm: IpAddr,
        /// Its name.
        name: Box<[u8]>,
        /// Its address.
        address: IpAddr,
        /// Its NSM state, 0 = unknown.
        state: u32,
    },
    /// This client has nothing any more. May be lost: it is then told once too often.
    Forget {
        /// Lock manager.
        lm: IpAddr,
        /// Its name.
        name: Box<[u8]>,
        /// Its address.
        address: IpAddr,
    },
    /// The owner has exactly this on these bytes, whatever it had there. Only with `Settings::journal`, as all below.
    Set(Stretch, LockState),
    /// The owner has nothing on these bytes.
    Unset(Stretch),
    /// A blocked LOCK waits behind those queued before, or its way back to the client changed. Need not be waited for.
    Queued {
        /// Its number; grows with the order of arrival.
        seq: u64,
        /// What it waits for.
        stretch: Stretch,
        /// Shared or exclusive.
        mode: Mode,
        /// The client's NSM state, 0 = unknown.
        state: u32,
        /// How a GRANTED finds the client.
        route: Route,
    },
    /// It does not wait any more. Need not be waited for.
    Unqueued {
        /// Lock manager.
        lm: IpAddr,
        /// Its number.
        seq: u64,
    },
    /// Many locks change at once.
    Swept(IpAddr, Sweep),
    /// A grace window opened or changed.
    Window {
        /// Lock manager.
        lm: IpAddr,
        /// Whether the record may be incomplete.
        full: bool,
        /// Its end at the latest, on the engine's clock.
        until: Time,
    },
    /// The window is over: the record is complete from here on.
    WindowEnded(IpAddr),
}

impl Entry {
    /// Whether effects must wait for it.
    pub fn is_sync(&self) -> bool {
        !matches!(
            self,
            Entry::Forget { .. } | Entry::Queued { .. } | Entry::Unqueued { .. } | Entry::Window { .. }
        )
    }
}
