//! Records of very many locks, written without a daemon.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use lockferry::export::ExportTable;
use lockferry::node::config::ExportConfig;
use lockferry::state::{Mode, Range};
use lockferry::store::journal::{Disk, Journals, Options};
use lockferry::store::record::{ClientKey, Entry, LockCondition, LockFields, OwnerKey, Place, Record};
use lockferry::store::{Batch, LockStore, Outcome};

/// How many of what. Each lock is an owner's own, a byte that no other wants; clients are called `client-0` and so on.
#[derive(Clone, Copy)]
pub(crate) struct Recorded {
    pub(crate) clients: u32,
    pub(crate) files: u32,
    pub(crate) locks: u32,
}

impl Recorded {
    /// Writes the record of a lock manager that was given up, instead of what is in that directory.
    pub(crate) fn write(self, dir: &Path, lm: &str, export: &Path) {
        let prefix = ExportTable::open(&[ExportConfig::new(export.into())]).prefix_of(export).unwrap();
        let journals = Journals::new(Arc::new(Disk), dir.parent().unwrap().into(), Options::default());
        journals.place(lm, dir.into());
        let epoch = journals.raise_epoch(lm, false).unwrap();
        let report = journals.load(lm, epoch, &mut |_| {}).unwrap();
        journals.own(lm, epoch, &report).unwrap();
        append(&journals, lm, (0..self.clients).map(|n| Record::Client(client(n), 1).into()).collect());
        for from in (0..self.locks).step_by(1_000) {
            let some = from..self.locks.min(from + 1_000);
            append(&journals, lm, some.map(|n| self.lock(&prefix, n)).collect());
        }
        journals.release(lm, epoch).unwrap();
    }

    fn lock(self, prefix: &[u8], n: u32) -> Entry {
        let number = u64::from(n % self.files).to_be_bytes();
        let file: Vec<u8> = prefix.iter().copied().chain([0, 1]).chain(number).collect();
        let oh = format!("{n}@x").into_bytes().into();
        let owner = OwnerKey { client: client(n % self.clients), oh, svid: n };
        let start = u64::from(n) * 2;
        let place = Place { owner, file: file.into(), range: Range::new(start, start).unwrap() };
        let (mode, condition) = (Mode::Exclusive, LockCondition::Held);
        Record::Set(place, LockFields { mode, condition, state: 1, since: 1, under: None }).into()
    }
}

fn client(n: u32) -> ClientKey {
    let address = IpAddr::from([127, 2, (n >> 8) as u8, n as u8]);
    ClientKey { name: format!("client-{n}").into_bytes().into(), address }
}

fn append(journals: &Journals, lm: &str, entries: Vec<Entry>) {
    let (tell, told) = std::sync::mpsc::channel();
    let epoch = journals.read_epoch(lm).unwrap();
    let done = Box::new(move |outcome| tell.send(outcome).unwrap());
    journals.append(lm, epoch, Batch { entries: entries.into(), essential: true }, done);
    assert!(matches!(told.recv().unwrap(), Outcome::Durable(_)));
}
