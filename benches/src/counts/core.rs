//! What is counted of the lock core: requests as they come from the node, and the memory that locks take.
//!
//! Must never prepare more or less for many runs than for few: instructions are the difference between the two.

use bench_kit::{Core, How, Wanted};
use lockferry::state::{Condition, Status};

use crate::{MOST_RUNS, Operation, SEED, memory};

/// What is repeated.
pub(crate) const OPERATIONS: [Operation; 7] = [
    Operation { name: "lock-unlock", prepare: |seed| pairs(seed, 0) },
    Operation { name: "lock-unlock-1000", prepare: |seed| pairs(seed, 1_000) },
    Operation { name: "lock-unlock-100000", prepare: |seed| pairs(seed, 100_000) },
    Operation { name: "test-free-1000", prepare: |seed| tests(seed, Status::Granted) },
    Operation { name: "test-conflict-1000", prepare: |seed| tests(seed, Status::Denied) },
    Operation { name: "reclaim", prepare: reclaims },
    Operation { name: "block-grant", prepare: turns },
];

/// Clients that other locks are spread over.
const CLIENTS: u32 = 16;
/// The client that is looked at.
const ASKER: u32 = 1_000;

/// So many locks on file 1, each of an owner of its own, with room between any two. Loaded, which takes the least time.
fn crowd(core: &mut Core, locks: u32) {
    core.begin_load();
    for n in 0..locks {
        core.load(&Wanted::new(n % CLIENTS, n, 1, u64::from(n) * 2), Condition::Held);
    }
    core.end_load();
}

/// A client that has a lock anyway: it is not a new one with each request.
fn known(core: &mut Core, client: u32) {
    assert_eq!(core.lock(&Wanted::new(client, 1, 2, u64::from(client)), How::Now), Some(Status::Granted));
}

/// LOCK of free bytes in the middle of so many other locks on the file, and UNLOCK.
fn pairs(seed: u64, others: u32) -> Box<dyn FnMut()> {
    let mut core = Core::new(seed);
    crowd(&mut core, others);
    known(&mut core, ASKER);
    let wanted = Wanted::new(ASKER, 2, 1, u64::from(others) / 2 * 2 + 1);
    Box::new(move || {
        assert_eq!(core.lock(&wanted, How::Now), Some(Status::Granted));
        assert_eq!(core.unlock(&wanted), Some(Status::Granted));
    })
}

/// TEST among 1,000 locks.
fn tests(seed: u64, expected: Status) -> Box<dyn FnMut()> {
    let mut core = Core::new(seed);
    crowd(&mut core, 1_000);
    known(&mut core, ASKER);
    let place = if expected == Status::Granted { 501 } else { 500 };
    let wanted = Wanted::new(ASKER, 2, 1, place);
    Box::new(move || assert_eq!(core.test(&wanted), Some(expected)))
}

/// Reclaim of one lock after the other, each of another owner, in a window.
fn reclaims(seed: u64) -> Box<dyn FnMut()> {
    let mut core = Core::new(seed);
    let lock = |n: u32| Wanted::new(n % CLIENTS, n, n / 100, u64::from(n % 100));
    core.begin_load();
    // One more than is ever reclaimed: the window stays open.
    let locks: Vec<Wanted> = (0..=MOST_RUNS).map(lock).collect();
    locks.iter().for_each(|lock| core.load(lock, Condition::Reclaimable));
    core.start_grace();
    core.end_load();
    let mut next = 0;
    Box::new(move || {
        assert_eq!(core.lock(&locks[next], How::Reclaim), Some(Status::Granted));
        next += 1;
    })
}

/// Two owners of different clients take turns: one's LOCK is blocked, the other's UNLOCK grants it, the callback is answered.
fn turns(seed: u64) -> Box<dyn FnMut()> {
    let mut core = Core::new(seed);
    known(&mut core, ASKER);
    known(&mut core, ASKER + 1);
    let mut holder = Wanted::new(ASKER, 2, 1, 0);
    let mut waiter = Wanted::new(ASKER + 1, 2, 1, 0);
    assert_eq!(core.lock(&holder, How::Now), Some(Status::Granted));
    Box::new(move || {
        assert_eq!(core.lock(&waiter, How::Wait), Some(Status::Blocked));
        assert_eq!(core.unlock(&holder), Some(Status::Granted));
        core.confirm();
        std::mem::swap(&mut holder, &mut waiter);
    })
}

/// Locks of which the bytes are counted.
const HELD: u32 = 100_000;

/// What a lock takes, all indexes, names and files included.
pub(crate) fn bytes_per_lock() -> [(&'static str, f64); 3] {
    [
        // Each its own owner, as processes of Linux clients are: 100 clients, 1,000 files.
        ("owners-files", held(|n| Wanted::new(n % 100, n, n / 100, u64::from(n % 100)))),
        ("owners-one-file", held(|n| Wanted::new(n % 100, n, 1, u64::from(n)))),
        ("one-owner-one-file", held(|n| Wanted::new(1, 1, 1, u64::from(n)))),
    ]
}

fn held(lock: impl Fn(u32) -> Wanted) -> f64 {
    let before = memory::bytes();
    let mut core = Core::new(SEED);
    for n in 0..HELD {
        assert_eq!(core.lock(&lock(n), How::Now), Some(Status::Granted));
    }
    assert_eq!(core.locks(), HELD as usize);
    let bytes = memory::bytes() - before;
    drop(core);
    bytes as f64 / f64::from(HELD)
}
