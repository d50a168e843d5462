//! What the journal takes to write, and to read again. Run by `cargo bench -p lockferry-bench`; in the directory that
//! `LOCKFERRY_BENCH_DIR` names, as it is the disk that is measured, or in target/scratch.
//!
//! Times are for whoever changes the journal, on a machine of his own: must never be asserted.

#![expect(clippy::expect_used, reason = "what is measured must not go wrong unnoticed")]

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use bench_kit::Scratch;
use divan::Bencher;
use divan::counter::ItemsCount;
use lockferry::state::{Mode, Range};
use lockferry::store::journal::{Disk, Journals, Options};
use lockferry::store::record::{
    ClientKey, Durability, Entry, LockCondition, LockFields, OwnerKey, Place, Record,
};
use lockferry::store::{Batch, Epoch, Ledger, LockStore, Outcome};

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The lock manager.
const LM: &str = "10.99.0.1";
/// Locks of the record that is loaded.
const RECORDED: u32 = 100_000;

fn main() {
    divan::main();
}

/// What is written when an owner takes a lock. 100 clients, 100 locks on each file.
fn taken(n: u32) -> Entry {
    let [_, _, _, host] = (n % 100).to_be_bytes();
    let client = ClientKey {
        name: format!("client{host:05}.example.net").into_bytes().into(),
        address: IpAddr::from([10, 1, 0, host]),
    };
    let mut file = vec![0x5a; 18];
    file[10..14].copy_from_slice(&(n / 100).to_be_bytes());
    let oh = format!("{n:07}@client{host:05}").into_bytes().into();
    let start = u64::from(n % 100) * 16;
    let range = Range { start, end: start + 7 };
    let place = Place { owner: OwnerKey { client, oh, svid: n }, file: file.into(), range };
    let fields = LockFields {
        mode: Mode::Exclusive,
        condition: LockCondition::Held,
        state: 3,
        since: 1_780_000_000,
        under: None,
    };
    Record::Set(place, fields).into()
}

/// A journal that is written.
struct Open {
    journals: Journals,
    epoch: Epoch,
    done: (Sender<Outcome>, Receiver<Outcome>),
}

impl Open {
    fn new(dir: &Path, durability: Durability) -> Self {
        let options = Options { durability, node: "bench".into(), ..Options::default() };
        let journals = Journals::new(Arc::new(Disk), dir.into(), options);
        let epoch = journals.raise_epoch(LM, false).expect("the journal is nobody else's");
        let report = journals.load(LM, epoch, &mut |_| {}).expect("it can be read");
        journals.own(LM, epoch, &report).expect("it can be written");
        Self { journals, epoch, done: channel() }
    }

    /// Writes a batch and waits until it is durable.
    fn append(&self, entries: &Arc<Vec<Entry>>) {
        let (batch, tell) = (Batch { entries: entries.clone(), essential: false }, self.done.0.clone());
        // Whoever waits for it is there.
        let done = Box::new(move |outcome| drop(tell.send(outcome)));
        self.journals.append(LM, self.epoch, batch, done);
        let outcome = self.done.1.recv().expect("each batch has an outcome");
        assert!(matches!(outcome, Outcome::Durable(_)), "{outcome:?}");
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.journals.release(LM, self.epoch).expect("its threads end");
    }
}

/// One batch after the other, each as durable as the setting asks before the next.
fn append(bencher: Bencher<'_, '_>, durability: Durability, batch: u32) {
    let scratch = Scratch::new().expect("a directory to write in");
    let open = Open::new(scratch.path(), durability);
    let entries: Arc<Vec<Entry>> = Arc::new((0..batch).map(taken).collect());
    bencher.counter(ItemsCount::new(batch)).bench_local(|| open.append(&entries));
}

#[divan::bench(args = [1, 256], sample_count = 1000, max_time = 5)]
fn append_none(bencher: Bencher<'_, '_>, batch: u32) {
    append(bencher, Durability::None, batch);
}

#[divan::bench(args = [1, 256], sample_count = 1000, max_time = 5)]
fn append_sync(bencher: Bencher<'_, '_>, batch: u32) {
    append(bencher, Durability::Sync, batch);
}

/// Reads a record of 100,000 locks into a table, as a take-over does.
#[divan::bench(args = ["log", "snapshot"], max_time = 3)]
fn load(bencher: Bencher<'_, '_>, from: &str) {
    let scratch = Scratch::new().expect("a directory to write in");
    let open = Open::new(scratch.path(), Durability::None);
    let all: Vec<u32> = (0..RECORDED).collect();
    all.chunks(256).for_each(|some| open.append(&Arc::new(some.iter().copied().map(taken).collect())));
    if from == "snapshot" {
        open.journals.compact(LM, open.epoch).expect("a snapshot can be written");
    }
    drop(open);
    let journals = Journals::new(Arc::new(Disk), scratch.path().into(), Options::default());
    let epoch = journals.raise_epoch(LM, false).expect("the last owner released it");
    bencher.counter(ItemsCount::new(RECORDED)).bench_local(|| {
        let mut ledger = Ledger::default();
        let report = journals.load(LM, epoch, &mut |entry| ledger.apply(entry)).expect("it can be read");
        assert_eq!((ledger.lock_count(), report.complete), (RECORDED as usize, true));
        assert_eq!(report.snapshot.is_some(), from == "snapshot");
    });
}
