//! Which of our addresses are answered at all, and which lock manager an export's new locks may be taken through.
//!
//! Silence is what makes a move work: a client that gets no answer asks again, and by then the node that took over hears it. Must never
//! let a program answer on an address whose lock manager is not loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::rpc::drc::Key;
use crate::rpc::{Call, Program, Responder};

/// The gate before every program.
#[derive(Debug, Default)]
pub(super) struct Gate {
    inner: RwLock<Inner>,
    elsewhere: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    /// No floating address is known: every address is served, but those in `shut`.
    any: bool,
    open: BTreeSet<IpAddr>,
    shut: BTreeSet<IpAddr>,
    bound: BTreeMap<IpAddr, Bound>,
}

/// What a lock manager is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bound {
    /// Numbers of exports (see `export::number_in`).
    pub(super) exports: BTreeSet<u64>,
    /// Every export that no lock manager is bound to.
    pub(super) rest: bool,
}

impl Gate {
    /// Whether `any` mode is on.
    pub(super) fn is_any(&self) -> bool {
        self.inner.read().any
    }

    /// Switches `any` mode.
    pub(super) fn set_any(&self, any: bool) {
        self.inner.write().any = any;
    }

    /// Lets calls to this address in.
    pub(super) fn open(&self, ip: IpAddr) {
        let mut inner = self.inner.write();
        inner.open.insert(ip);
        inner.shut.remove(&ip);
    }

    /// Lets no call to this address in any more.
    pub(super) fn shut(&self, ip: IpAddr) {
        if mutant!(ReleasedAddressAnswers) {
            return;
        }
        let mut inner = self.inner.write();
        inner.open.remove(&ip);
        inner.shut.insert(ip);
    }

    /// Whether calls to this address are answered.
    pub(super) fn is_open(&self, ip: &IpAddr) -> bool {
        let inner = self.inner.read();
        inner.open.contains(ip) || (inner.any && !inner.shut.contains(ip))
    }

    /// Notes what a lock manager is bound to. `None`: it is not a floating one.
    pub(super) fn bind(&self, ip: IpAddr, bound: Option<Bound>) {
        let mut inner = self.inner.write();
        match bound {
            Some(bound) => drop(inner.bound.insert(ip, bound)),
            None => drop(inner.bound.remove(&ip)),
        }
    }

    /// Whether new locks on this export may be taken through this address.
    pub(super) fn binds(&self, export: u64, ip: &IpAddr) -> bool {
        let inner = self.inner.read();
        if inner.bound.is_empty() {
            return true;
        }
        if inner.bound.get(ip).is_some_and(|b| b.exports.contains(&export)) {
            return true;
        }
        let claimed = inner.bound.values().any(|b| b.exports.contains(&export));
        !claimed && inner.bound.get(ip).is_none_or(|b| b.rest)
    }

    /// Counts a request for an export that is bound elsewhere.
    pub(super) fn count_elsewhere(&self) {
        self.elsewhere.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub(super) fn elsewhere(&self) -> u64 {
        self.elsewhere.load(Ordering::Relaxed)
    }
}

/// A program behind the gate.
pub(super) struct Gated {
    program: Arc<dyn Program>,
    gate: Arc<Gate>,
}

impl Gated {
    pub(super) fn new(program: Arc<dyn Program>, gate: Arc<Gate>) -> Self {
        Self { program, gate }
    }
}

impl Program for Gated {
    fn number(&self) -> u32 {
        self.program.number()
    }

    fn versions(&self) -> &[u32] {
        self.program.versions()
    }

    fn has_procedure(&self, version: u32, procedure: u32) -> bool {
        self.program.has_procedure(version, procedure)
    }

    fn max_args(&self, version: u32, procedure: u32) -> usize {
        self.program.max_args(version, procedure)
    }

    fn max_reply(&self, version: u32, procedure: u32) -> usize {
        self.program.max_reply(version, procedure)
    }

    fn is_cached(&self, version: u32, procedure: u32) -> bool {
        self.program.is_cached(version, procedure)
    }

    fn repeated(&self, key: &Key) -> bool {
        self.program.repeated(key)
    }

    fn is_served(&self, local: &IpAddr) -> bool {
        self.gate.is_open(local)
    }

    fn dispatch(&self, call: Call, responder: Responder) {
        self.program.dispatch(call, responder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 1, 1, n])
    }

    #[test]
    fn without_floating_addresses_all_are_open_but_those_that_were_given_up() {
        let gate = Gate::default();
        gate.set_any(true);
        assert!(gate.is_open(&ip(1)));
        gate.shut(ip(1));
        assert!(!gate.is_open(&ip(1)) && gate.is_open(&ip(2)));
        gate.open(ip(1));
        assert!(gate.is_open(&ip(1)));
        gate.set_any(false);
        assert!(gate.is_open(&ip(1)) && !gate.is_open(&ip(2)));
    }

    #[test]
    fn an_export_that_is_bound_takes_locks_through_its_own_addresses_only() {
        let gate = Gate::default();
        assert!(gate.binds(7, &ip(9)), "nothing is bound to anything");
        gate.bind(ip(1), Some(Bound { exports: BTreeSet::from([7]), rest: false }));
        gate.bind(ip(2), Some(Bound { exports: BTreeSet::from([7, 8]), rest: false }));
        gate.bind(ip(3), Some(Bound { exports: BTreeSet::new(), rest: true }));
        assert!(gate.binds(7, &ip(1)) && gate.binds(7, &ip(2)) && !gate.binds(7, &ip(3)));
        assert!(!gate.binds(8, &ip(1)) && gate.binds(8, &ip(2)));
        assert!(
            gate.binds(9, &ip(3)) && !gate.binds(9, &ip(1)),
            "the rest is for who has no exports of its own"
        );
    }
}
