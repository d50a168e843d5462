//! What single steps of the lock core take, by how many locks there are. Run by `cargo bench -p lockferry-bench`.
//!
//! Times are for whoever changes the core, on a machine of his own: must never be asserted. What a change is held to is counted by
//! `benches/counts`.

use bench_kit::{APART, Core, How, Wanted};
use divan::Bencher;
use divan::counter::ItemsCount;
use lockferry::state::{Condition, Status};

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many locks there are besides.
const SIZES: [u64; 4] = [1, 1_000, 100_000, 1_000_000];
/// Any seed will do.
const SEED: u64 = 7;
/// Clients that locks are spread over, 1,000: each has a thousand owners at the most.
const CLIENTS: u32 = 1_000;
/// A client that has nothing to do with them.
const OTHER: u32 = 5_000;

fn main() {
    divan::main();
}

/// Lock number `n` of a file, of an owner that has no other.
fn single(file: u32, n: u64) -> Wanted {
    Wanted::new(n as u32 % CLIENTS, n as u32, file, n)
}

/// A core with so many held locks on file 1, each of an owner of its own.
fn crowded(locks: u64) -> Core {
    let mut core = Core::new(SEED);
    core.begin_load();
    (0..locks).for_each(|n| core.load(&single(1, n), Condition::Held));
    core.end_load();
    core
}

/// Bytes between two locks in the middle of a crowd.
fn free_bytes(locks: u64) -> Wanted {
    let start = locks / 2 * APART + APART / 2 + 1;
    Wanted::new(OTHER, 1, 1, 0).at(start, start + 1)
}

// What takes microseconds has a `sample_size`: divan would go by the first time, which finds everything cold.

/// TEST of bytes that are somebody else's.
#[divan::bench(args = SIZES, sample_size = 1000)]
fn conflict_found(bencher: Bencher<'_, '_>, locks: u64) {
    let (mut core, wanted) = (crowded(locks), Wanted::new(OTHER, 1, 1, locks / 2));
    bencher.bench_local(|| assert_eq!(core.test(&wanted), Some(Status::Denied)));
}

/// TEST of bytes that are nobody's.
#[divan::bench(args = SIZES, sample_size = 1000)]
fn conflict_none(bencher: Bencher<'_, '_>, locks: u64) {
    let (mut core, wanted) = (crowded(locks), free_bytes(locks));
    bencher.bench_local(|| assert_eq!(core.test(&wanted), Some(Status::Granted)));
}

/// LOCK and UNLOCK of bytes that are nobody's.
#[divan::bench(args = SIZES, sample_size = 100)]
fn lock_unlock(bencher: Bencher<'_, '_>, locks: u64) {
    let (mut core, wanted) = (crowded(locks), free_bytes(locks));
    assert_eq!(core.lock(&Wanted::new(OTHER, 2, 2, 0), How::Now), Some(Status::Granted));
    bencher.bench_local(|| {
        assert_eq!(core.lock(&wanted, How::Now), Some(Status::Granted));
        assert_eq!(core.unlock(&wanted), Some(Status::Granted));
    });
}

/// UNLOCK of bytes within a lock, which makes two of it, and LOCK of the same, which makes them one again. The owner has all locks.
#[divan::bench(args = SIZES, sample_size = 100)]
fn split_merge(bencher: Bencher<'_, '_>, locks: u64) {
    let mut core = Core::new(SEED);
    core.begin_load();
    (0..locks).for_each(|n| core.load(&Wanted::new(OTHER, 1, 1, n), Condition::Held));
    core.end_load();
    let start = Wanted::new(OTHER, 1, 1, locks / 2).start() + 2;
    let middle = Wanted::new(OTHER, 1, 1, 0).at(start, start + 1);
    bencher.bench_local(|| {
        assert_eq!(core.unlock(&middle), Some(Status::Granted));
        assert_eq!(core.lock(&middle, How::Now), Some(Status::Granted));
    });
    assert_eq!(core.locks() as u64, locks);
}

/// So many locks of a record, 100 on each file.
fn record(locks: u64) -> Vec<Wanted> {
    (0..locks).map(|n| single((n / 100) as u32, n)).collect()
}

/// Takes a lock manager up for a grace window.
fn take_up(core: &mut Core, record: &[Wanted]) {
    core.begin_load();
    record.iter().for_each(|lock| core.load(lock, Condition::Reclaimable));
    core.start_grace();
    core.end_load();
}

/// A lock manager is given up and taken up again: its locks go, and come back as reclaimable ones in a window.
#[divan::bench(args = SIZES, max_time = 3)]
fn release_take_up(bencher: Bencher<'_, '_>, locks: u64) {
    let (mut core, record) = (Core::new(SEED), record(locks));
    take_up(&mut core, &record);
    bencher.counter(ItemsCount::new(locks)).bench_local(|| {
        core.release();
        take_up(&mut core, &record);
    });
    assert_eq!(core.locks() as u64, locks);
}

/// Every lock of a window is reclaimed, which ends it.
#[divan::bench(args = SIZES, max_time = 1)]
fn reclaim_all(bencher: Bencher<'_, '_>, locks: u64) {
    let record = record(locks);
    let window = || {
        let mut core = Core::new(SEED);
        take_up(&mut core, &record);
        core
    };
    bencher.counter(ItemsCount::new(locks)).with_inputs(window).bench_local_refs(|core| {
        for lock in &record {
            assert_eq!(core.lock(lock, How::Reclaim), Some(Status::Granted));
        }
    });
}

/// A LOCK that would close a circle of so many owners, each of which waits for the next; a million are more than the core looks at.
#[divan::bench(args = SIZES, max_time = 1)]
fn deadlock_chain(bencher: Bencher<'_, '_>, owners: u64) {
    let mut core = Core::new(SEED);
    let owner = |n: u64, place: u64| Wanted::new(n as u32 % CLIENTS, n as u32, 1, place);
    for n in 0..=owners {
        assert_eq!(core.lock(&owner(n, n), How::Now), Some(Status::Granted));
    }
    for n in 0..owners {
        assert_eq!(core.lock(&owner(n, n + 1), How::Wait), Some(Status::Blocked));
    }
    let last = owner(owners, 0);
    let expected = if owners < 250_000 { Status::Deadlock } else { Status::DeniedNolocks };
    bencher.bench_local(|| assert_eq!(core.lock(&last, How::Wait), Some(expected)));
}
