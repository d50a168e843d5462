//! From what the lock core says changed to what the journal writes down, and back.
//!
//! Must never leave out what a loader needs, nor write down a time of this process's clock.

use std::net::IpAddr;

use crate::rpc::Transport;
use crate::rpc::drc::Key;
use crate::state::{self, Condition, LockState, Route, Stretch, Sweep, Time};
use crate::store::record::{
    ClientKey, LockCondition, LockFields, MAX_REPLY, OwnerKey, Place, Record, ReplySeed, UnderLock,
    WaiterFields,
};

/// Turns engine times into dates.
pub(super) trait Dates {
    /// Milliseconds since 1970 UTC.
    fn unix_ms(&self, time: Time) -> u64;
}

/// The lock manager that an entry is about.
pub(super) fn lock_manager(entry: &state::Entry) -> IpAddr {
    use state::Entry as E;
    match entry {
        E::Client { lm, .. } | E::Forget { lm, .. } | E::Unqueued { lm, .. } | E::Window { lm, .. } => *lm,
        E::Set(stretch, _) | E::Unset(stretch) | E::Queued { stretch, .. } => stretch.lm,
        E::Swept(lm, _) | E::WindowEnded(lm) => *lm,
    }
}

/// The record of an entry that was made at `now`.
pub(super) fn record(entry: state::Entry, now: Time, dates: &impl Dates) -> Record {
    use state::Entry as E;
    match entry {
        E::Client { name, address, state, .. } => Record::Client(ClientKey { name, address }, state),
        E::Forget { name, address, .. } => Record::Forgotten(ClientKey { name, address }),
        E::Set(stretch, lock) => Record::Set(place(stretch), fields(lock, dates.unix_ms(now) / 1000)),
        E::Unset(stretch) => Record::Unset(place(stretch)),
        E::Queued { seq, stretch, mode, state, route } => {
            let Route { version, tcp, asynchronous, handle } = route;
            let (place, since) = (place(stretch), dates.unix_ms(now) / 1000);
            Record::Queued(
                seq,
                WaiterFields { place, mode, state, since, version, tcp, asynchronous, handle },
            )
        }
        E::Unqueued { seq, .. } => Record::Unqueued(seq),
        E::Swept(_, sweep) => swept(sweep),
        E::Window { full, until, .. } => Record::WindowOpened { full, deadline_ms: dates.unix_ms(until) },
        E::WindowEnded(_) => Record::WindowEnded,
    }
}

/// Whether the record need not be told. That its owner is gone makes every lock reclaimable, unless the next one adopts them: then it
/// must see which ones were held.
pub(super) fn goes_without_saying(entry: &state::Entry) -> bool {
    matches!(entry, state::Entry::Swept(_, Sweep::Release))
}

/// Every lock that is not expired becomes reclaimable: what a take-over with a window does to the record.
pub(super) fn mark_for_reclaim() -> Record {
    swept(Sweep::Release)
}

/// The locks that nobody reclaimed in their window go.
pub(super) fn drop_expired() -> Record {
    swept(Sweep::DropExpired)
}

fn swept(sweep: Sweep) -> Record {
    use LockCondition as C;
    let bits = |all: &[C]| all.iter().fold(0, |bits, c| bits | c.bit());
    let (from, to) = match sweep {
        Sweep::Expire => (bits(&[C::Reclaimable]), Some(C::Expired)),
        Sweep::DropExpired => (bits(&[C::Expired]), None),
        Sweep::Release if mutant!(MarkSkipsUnconfirmed) => {
            (bits(&[C::Held, C::Granting]), Some(C::Reclaimable))
        }
        Sweep::Release => (bits(&[C::Held, C::Granting, C::Unconfirmed]), Some(C::Reclaimable)),
    };
    Record::Sweep { from, to, prefix: Box::default() }
}

fn place(s: Stretch) -> Place {
    let client = ClientKey { name: s.name, address: s.address };
    Place { owner: OwnerKey { client, oh: s.oh, svid: s.svid }, file: s.file, range: s.range }
}

fn fields(lock: LockState, since: u64) -> LockFields {
    let under = lock.under.map(|(condition, state)| UnderLock { condition: recorded(condition), state });
    LockFields { mode: lock.mode, condition: recorded(lock.condition), state: lock.state, since, under }
}

/// What the core is told of a recorded lock.
pub(super) fn lock_state(f: &LockFields) -> LockState {
    LockState {
        mode: f.mode,
        condition: condition(f.condition),
        state: f.state,
        under: f.under.map(|u| (condition(u.condition), u.state)),
    }
}

fn recorded(condition: Condition) -> LockCondition {
    match condition {
        Condition::Held => LockCondition::Held,
        Condition::Granting => LockCondition::Granting,
        Condition::Unconfirmed => LockCondition::Unconfirmed,
        Condition::Reclaimable => LockCondition::Reclaimable,
        Condition::Expired => LockCondition::Expired,
    }
}

fn condition(condition: LockCondition) -> Condition {
    match condition {
        LockCondition::Held => Condition::Held,
        LockCondition::Granting => Condition::Granting,
        LockCondition::Unconfirmed => Condition::Unconfirmed,
        LockCondition::Reclaimable => Condition::Reclaimable,
        LockCondition::Expired if mutant!(ExpiredRevives) => Condition::Reclaimable,
        LockCondition::Expired => Condition::Expired,
    }
}

/// What the journal keeps of an answer. `None`: too long to be kept.
pub(super) fn seed(key: &Key, reply: &[u8], at_ms: u64) -> Option<ReplySeed> {
    (reply.len() <= MAX_REPLY).then(|| ReplySeed {
        peer: key.peer.ip(),
        port: key.peer.port(),
        tcp: key.transport == Transport::Tcp,
        xid: key.xid,
        program: key.program,
        version: key.version,
        procedure: key.procedure,
        checksum: key.checksum,
        at_ms,
        reply: reply.into(),
    })
}

/// The key under which the reply cache knows a kept answer.
pub(super) fn key(seed: &ReplySeed) -> Key {
    Key {
        peer: (seed.peer, seed.port).into(),
        transport: if seed.tcp { Transport::Tcp } else { Transport::Udp },
        xid: seed.xid,
        program: seed.program,
        version: seed.version,
        procedure: seed.procedure,
        checksum: seed.checksum,
    }
}
