//! What can happen in a random history.

use crate::state::tests::model::{FILES, Spot, Who};
use crate::state::{CallbackOutcome, LockState, Mode};

#[derive(Clone, Copy, Debug)]
pub(in crate::state::tests) enum Op {
    Lock {
        who: Who,
        spot: Spot,
        mode: Mode,
        block: bool,
        monitored: bool,
        state: u32,
    },
    Reclaim {
        who: Who,
        spot: Spot,
        mode: Mode,
        state: u32,
    },
    /// The LOCK of an earlier step once more.
    Again {
        back: usize,
    },
    Unlock {
        who: Who,
        spot: Spot,
    },
    Cancel {
        who: Who,
        spot: Spot,
        mode: Mode,
    },
    /// CANCEL of a request that waits or of a grant in flight.
    CancelSome {
        pick: usize,
    },
    Test {
        who: Who,
        spot: Spot,
        mode: Mode,
    },
    FreeAll {
        lm: usize,
        client: usize,
    },
    Notify {
        lm: usize,
        client: usize,
        state: u32,
    },
    Done {
        pick: usize,
        outcome: CallbackOutcome,
    },
    /// The answer to a callback that may have been settled long ago.
    Late {
        pick: usize,
        outcome: CallbackOutcome,
    },
    StartGrace {
        lm: usize,
        ms: u64,
        full: [bool; FILES],
    },
    SetDeadline {
        lm: usize,
        ms: u64,
    },
    Load {
        who: Who,
        spot: Spot,
        lock: LockState,
    },
    Release {
        lm: usize,
        keep: [bool; FILES],
    },
    DropReleased {
        lm: usize,
    },
    /// Released and loaded again: by another node, or by this one once more.
    Move {
        lm: usize,
        adopt: bool,
        keep: [bool; FILES],
        ms: u64,
    },
    /// Loaded, as far as the record goes, but not done.
    BeginLoad {
        lm: usize,
    },
    EndLoad {
        lm: usize,
    },
    FreeFile {
        file: usize,
    },
    FreeClient {
        lm: usize,
        client: usize,
    },
    Revoke {
        pick: usize,
    },
    EndGrace {
        lm: usize,
    },
    Tick {
        ms: u64,
    },
}

impl Op {
    /// The lock manager that is asked.
    pub(super) fn asks(self) -> Option<usize> {
        match self {
            Op::Lock { who, .. }
            | Op::Reclaim { who, .. }
            | Op::Unlock { who, .. }
            | Op::Cancel { who, .. }
            | Op::Test { who, .. } => Some(who.lm),
            Op::FreeAll { lm, .. } | Op::Notify { lm, .. } => Some(lm),
            _ => None,
        }
    }
}
