//! What the checker is told before it begins, and what it says in the end. Holds data only.

use std::fmt;
use std::net::IpAddr;

use crate::history::{ClientId, FileId, Micros};
use crate::words::seconds;

/// The promise that was broken. The numbers are those of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Exclusion: two owners hold what excludes each other.
    I1,
    /// No loss: an acknowledged lock is gone after a move or a crash.
    I2,
    /// No theft: a reclaim of what was not the owner's was granted.
    I3,
    /// Scope: what happened to one lock manager touched requests of another.
    I4,
    /// Only conflicts wait, and only they are refused.
    I5,
    /// Progress: a window that does not end, a waiter out of turn.
    I6,
    /// Epochs grow.
    I7,
    /// Durable before acknowledged.
    I8,
    /// A copy of a request changes nothing and gets the same answer.
    I9,
    /// UNLOCK and CANCEL are always legal.
    I10,
    /// Split, merge, upgrade and downgrade equal a byte map.
    I13,
    /// The lists equal the record, and both what clients know.
    I14,
    /// A new lock was given through an address that does not serve the file.
    Binding,
    /// At rest something is still waiting, or still without an answer.
    Liveness,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I9,
        Self::I10,
        Self::I13,
        Self::I14,
        Self::Binding,
        Self::Liveness,
    ];

    /// The promise in a line, for who reads that it was broken. `docs/testing.md` has the same words.
    pub fn promise(self) -> &'static str {
        match self {
            Self::I1 => "exclusion: two owners never hold what excludes each other",
            Self::I2 => {
                "no loss: a lock that was acknowledged outlives every move and crash, if its client reclaims it in time"
            }
            Self::I3 => "no theft: a reclaim gets only what its owner held",
            Self::I4 => "scope: what happens to one lock manager is not felt by requests to another",
            Self::I5 => "only what conflicts waits or is refused",
            Self::I6 => "progress: windows end on time, and who waits gets its turn",
            Self::I7 => {
                "epochs grow: a node that was superseded says nothing more, and the state that clients are told is that of a server that is up"
            }
            Self::I8 => "durable before acknowledged",
            Self::I9 => "a copy of a request changes nothing and gets the same answer",
            Self::I10 => "UNLOCK and CANCEL are always legal",
            Self::I13 => "split, merge, upgrade and downgrade equal a map of single bytes",
            Self::I14 => "the lists equal the record, and both what clients know",
            Self::Binding => "a new lock is given only through an address that serves its file",
            Self::Liveness => "in the end nothing is still waiting for nobody, or without an answer",
        }
    }
}

/// What the service did wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Against which promise.
    pub invariant: Invariant,
    /// When it became visible.
    pub at: Micros,
    /// What happened and what it contradicts, as a sentence.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}: {}", self.invariant, seconds(self.at), self.what)
    }
}

impl std::error::Error for Violation {}

/// What the checker must know of the run that it watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The longest that a copy of a message may take to be acted on: its time in the network and in queues, and what the server holds
    /// a request back (`grace.park`).
    pub late: Micros,
    /// A message arrives within this time at a node that is not paused, or never. None: nothing is known but `late`.
    pub transit: Option<Micros>,
    /// No message is lost or copied, and no way is cut: what is sent to somebody who is there and not paused arrives, once.
    pub lossless: bool,
    /// No client pauses: what arrives is acted on at once.
    pub steady: bool,
    /// A call that has arrived is answered within this time, if `lossless` and as long as the address is served by one node that is not
    /// paused. None: disks may fail, and nothing is known.
    pub answers: Option<Micros>,
    /// Through which addresses a file is served; a new LOCK through any other is refused with DENIED_NOLOCKS, or with a status that says
    /// nothing of locks. A file that is not here: through all.
    pub served: Vec<(FileId, Vec<IpAddr>)>,
    /// How late a node may notice that an address is there, fire a timer, or say that it has resumed.
    pub slack: Micros,
    /// The hold time: a released lock manager that nobody takes up keeps its locks at least that long.
    pub hold: Micros,
    /// The network may copy a message by itself. If not, only what a client sent twice can arrive twice.
    pub copies: bool,
    /// DENIED_NOLOCKS is a fair answer to a new LOCK from the start (see [`crate::Checker::excuse_nolocks`]).
    pub nolocks: bool,
    /// Who would wait for himself, over any number of others, is told so instead of being told to wait.
    pub circles: bool,
    /// Statuses that say nothing of locks (ROFS, STALE_FH, FBIG, FAILED) are fair answers to LOCK and TEST.
    pub others: bool,
    /// A plain LOCK that is granted with a new NSM state frees the older locks of that client through that address.
    pub state_frees: bool,
    /// A copy of a LOCK that was answered BLOCKED is decided anew, not answered BLOCKED again: it may take the lock after its CANCEL or
    /// UNLOCK.
    pub blocked_anew: bool,
    /// Rows of the list and of the record must have the same condition; otherwise only the same kind: held, granted by callback, or
    /// not reclaimed.
    pub exact_conditions: bool,
    /// Clients that keep to no rule: they repeat old calls whenever they like and say that they rebooted when they have not. Nothing is sure
    /// of what they hold, and what they ever asked for they may hold at any time. What they do to others is judged all the same.
    pub liars: Vec<ClientId>,
    /// How long an answered call is remembered, to compare the answers to its copies. A service that keeps answers for some minutes, and takes
    /// them along in a move, may repeat one for longer than that.
    pub remember: Micros,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            late: 5_000_000,
            transit: None,
            lossless: false,
            steady: false,
            answers: None,
            circles: false,
            served: Vec::new(),
            slack: 1_000_000,
            hold: 86_400_000_000,
            copies: true,
            nolocks: false,
            others: false,
            state_frees: true,
            blocked_anew: false,
            exact_conditions: false,
            liars: Vec::new(),
            remember: 900_000_000,
        }
    }
}

/// What was looked at in a run in which nothing was wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events.
    pub events: u64,
    /// Calls, copies not counted.
    pub calls: u64,
    /// Locks granted by an answer.
    pub granted: u64,
    /// Locks granted by a callback that the client took.
    pub called_back: u64,
    /// Reclaims granted.
    pub reclaimed: u64,
    /// LOCKs refused or blocked.
    pub refused: u64,
    /// Answers to TEST.
    pub tested: u64,
    /// Take-overs that opened a window.
    pub windows: u64,
    /// Lists and records that were compared with what clients know.
    pub lists: u64,
    /// Grants of which the client could not be sure, because something else of the same owner was under way.
    pub unsure: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_promise_in_the_same_words() {
        let text = include_str!("../../docs/testing.md");
        for invariant in Invariant::ALL {
            let row = format!("| {invariant:?} | {} |", invariant.promise());
            assert!(text.lines().any(|line| line == row), "docs/testing.md lacks: {row}");
        }
    }

    #[test]
    fn a_violation_names_its_time_in_seconds() {
        let violation = Violation { invariant: Invariant::I6, at: 14_000_301, what: "x".into() };
        assert_eq!(violation.to_string(), "I6 at 14.000301 s: x");
    }
}
