//! What the slots of a pipeline ask for.

use crate::message::{GRANTED, Lock, NLM_LOCK, NLM_TEST, NLM_UNLOCK, request};
use crate::pipeline::{Job, again};

/// Each slot locks bytes of its own and unlocks them, over and over; or tests them.
pub(crate) struct Repeated {
    /// For each slot what it asks in turn.
    turns: Vec<Vec<Vec<u8>>>,
    next: Vec<usize>,
}

/// Far behind what else is locked in a file, and apart from each other.
const OWN_BYTES: u64 = 1 << 40;

impl Repeated {
    /// LOCK and UNLOCK.
    pub(crate) fn pairs(names: &[Vec<u8>], handles: &[Vec<u8>], slots: usize) -> Self {
        Self::new(names, handles, slots, &[NLM_LOCK, NLM_UNLOCK])
    }

    /// TEST.
    pub(crate) fn tests(names: &[Vec<u8>], handles: &[Vec<u8>], slots: usize) -> Self {
        Self::new(names, handles, slots, &[NLM_TEST])
    }

    /// `names` and `handles`: one of each for each connection; slots are spread evenly over connections.
    fn new(names: &[Vec<u8>], handles: &[Vec<u8>], slots: usize, procedures: &[u32]) -> Self {
        let depth = slots / names.len().max(1);
        let turns = (0..slots).map(|slot| {
            let conn = slot / depth;
            let lock = Lock {
                name: &names[conn],
                handle: &handles[conn % handles.len()],
                owner: slot as u32 + 1,
                offset: OWN_BYTES + 16 * slot as u64,
                len: 8,
                exclusive: true,
            };
            procedures.iter().map(|procedure| request(*procedure, &lock, false)).collect()
        });
        Self { turns: turns.collect(), next: vec![0; slots] }
    }
}

impl Repeated {
    /// Whether a slot holds nothing: it would ask for the first thing next.
    pub(crate) fn is_even(&self, slot: usize) -> bool {
        self.next[slot].is_multiple_of(self.turns[slot].len())
    }
}

impl Job for Repeated {
    fn next(&mut self, slot: usize, xid: u32, out: &mut Vec<u8>) -> bool {
        let turns = &self.turns[slot];
        again(&turns[self.next[slot] % turns.len()], xid, out);
        self.next[slot] += 1;
        true
    }

    fn answered(&mut self, slot: usize, status: u32) -> Result<(), String> {
        granted(slot, status)
    }
}

/// Takes many locks, each by an owner of its own, and keeps them; or gives them back.
pub(crate) struct Pile<'a> {
    pub(crate) names: &'a [Vec<u8>],
    pub(crate) handles: &'a [Vec<u8>],
    /// The first lock that is not asked for yet, and the end.
    pub(crate) range: std::ops::Range<u64>,
    pub(crate) unlock: bool,
}

/// Owner numbers of piles begin here.
const PILE_OWNERS: u32 = 1 << 20;

impl Job for Pile<'_> {
    fn next(&mut self, _slot: usize, xid: u32, out: &mut Vec<u8>) -> bool {
        let Some(n) = self.range.next() else { return false };
        let files = self.handles.len() as u64;
        let lock = Lock {
            // Whose lock it is must not depend on who asks for it: any slot gives it back.
            name: &self.names[n as usize % self.names.len()],
            handle: &self.handles[(n % files) as usize],
            owner: PILE_OWNERS + n as u32,
            offset: n / files * 16,
            len: 8,
            exclusive: true,
        };
        let procedure = if self.unlock { NLM_UNLOCK } else { NLM_LOCK };
        again(&request(procedure, &lock, false), xid, out);
        true
    }

    fn answered(&mut self, slot: usize, status: u32) -> Result<(), String> {
        granted(slot, status)
    }
}

fn granted(slot: usize, status: u32) -> Result<(), String> {
    match status {
        GRANTED => Ok(()),
        other => Err(format!("slot {slot} was answered status {other}, not GRANTED")),
    }
}
