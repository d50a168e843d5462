//! The registrations of our own portmapper. Pure. Must never let another program take or drop what lockferry
//! has registered.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::addr::NetId;

/// Registrations of other programs on this host, 1,024.
const MAX_ENTRIES: usize = 1_024;
/// Bytes of an owner's name that are kept.
const MAX_OWNER: usize = 64;

/// One program version on one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Program number.
    pub program: u32,
    /// Version number.
    pub version: u32,
    /// Transport and family.
    pub netid: NetId,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Registration {
    /// Whether both are for the same program, version and transport.
    pub(super) fn same_place(&self, other: &Registration) -> bool {
        (self.program, self.version, self.netid) == (other.program, other.version, other.netid)
    }
}

/// A registration with its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What is registered.
    pub registration: Registration,
    /// Who says so.
    pub owner: String,
    /// It is lockferry's.
    pub ours: bool,
}

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    entries: Mutex<Vec<Entry>>,
}

impl Table {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers lockferry's own programs, in the place of whatever was there.
    pub fn register(&self, registrations: &[Registration]) {
        let mut entries = self.entries();
        for registration in registrations {
            entries.retain(|e| !e.registration.same_place(registration));
            entries.push(Entry { registration: *registration, owner: "lockferry".to_owned(), ours: true });
        }
        entries.sort_by_key(|e| (e.registration.program, e.registration.version, e.registration.netid));
    }

    /// Drops all of lockferry's own registrations.
    pub fn unregister(&self) {
        self.entries().retain(|e| !e.ours);
    }

    /// SET by another program: false if the place is taken for another address, or the table is full.
    pub fn set(&self, registration: Registration, owner: &str) -> bool {
        let mut entries = self.entries();
        if let Some(entry) = entries.iter().find(|e| e.registration.same_place(&registration)) {
            return entry.registration.addr == registration.addr;
        }
        if entries.len() >= MAX_ENTRIES {
            return false;
        }
        let owner = owner.chars().take(MAX_OWNER).collect();
        entries.push(Entry { registration, owner, ours: false });
        true
    }

    /// UNSET by another program, for one transport or (None) all: false if nothing of that kind was dropped.
    pub fn unset(&self, program: u32, version: u32, netid: Option<NetId>) -> bool {
        let mut entries = self.entries();
        let before = entries.len();
        entries.retain(|e| {
            let r = &e.registration;
            let meant = (r.program, r.version) == (program, version) && netid.is_none_or(|n| n == r.netid);
            e.ours || !meant
        });
        entries.len() < before
    }

    /// Where a program listens. Without `exact` another version does if the one that is asked for is not
    /// there: the caller is then told by the program itself which versions there are.
    pub fn find(&self, program: u32, version: u32, netid: NetId, exact: bool) -> Option<SocketAddr> {
        let entries = self.entries();
        let on = |e: &&Entry| e.registration.program == program && e.registration.netid == netid;
        let exactly = entries.iter().filter(on).find(|e| e.registration.version == version);
        let any = || if exact { None } else { entries.iter().rfind(on) };
        exactly.or_else(any).map(|e| e.registration.addr)
    }

    /// All registrations.
    pub fn list(&self) -> Vec<Entry> {
        self.entries().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reg(version: u32, port: u16) -> Registration {
        let addr = SocketAddr::from(([0, 0, 0, 0], port));
        Registration { program: 100021, version, netid: NetId::Tcp, addr }
    }

    #[test]
    fn what_is_ours_can_neither_be_taken_nor_dropped_by_others() {
        let table = Table::new();
        assert!(table.set(reg(4, 999), "lockd"));
        table.register(&[reg(4, 32803)]);
        assert!(!table.set(reg(4, 999), "lockd"));
        assert!(!table.unset(100021, 4, None));
        assert_eq!(table.find(100021, 4, NetId::Tcp, true), Some(reg(4, 32803).addr));
        table.unregister();
        assert!(table.list().is_empty());
    }

    #[test]
    fn another_version_is_named_unless_it_must_be_exact() {
        let table = Table::new();
        table.register(&[reg(1, 10), reg(4, 10)]);
        assert_eq!(table.find(100021, 2, NetId::Tcp, false).map(|a| a.port()), Some(10));
        assert_eq!(table.find(100021, 2, NetId::Tcp, true), None);
        assert_eq!(table.find(100021, 4, NetId::Udp, false), None);
    }

    #[test]
    fn the_table_has_an_end() {
        let table = Table::new();
        assert!((0..1_024).all(|v| table.set(reg(v, 1), "x")));
        assert!(!table.set(reg(5_000, 1), "x"));
        assert!(table.unset(100021, 7, Some(NetId::Tcp)) && table.set(reg(5_000, 1), "x"));
    }
}
