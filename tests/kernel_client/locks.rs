//! Locks that are answered at once: conflicts, splits, upgrades, releases.

use super::World;
use super::support::agent::{Failure, Holder, Kind};

/// Both errno values that fcntl(2) allows for a conflict.
fn busy(result: Result<(), Failure>) -> bool {
    matches!(result, Err(Failure::Errno(code)) if code == "EAGAIN" || code == "EACCES")
}

pub(super) fn ranges_conflict_between_clients(w: &mut World) {
    let path = World::path("ranges");
    let (a, b) = (w.a().owner("a"), w.b().owner("b"));
    let (fa, fb) = (a.open(&path), b.open(&path));
    a.lock(fa, Kind::Write, 100, 100);
    w.await_server(1, 0);
    // Every way to touch 100..=199.
    for (start, len) in [(100, 100), (0, 101), (199, 1), (150, 10), (0, 0), (199, 0), (50, 500)] {
        assert!(busy(b.try_lock(fb, Kind::Write, start, len)), "write {start}+{len}");
        assert!(busy(b.try_lock(fb, Kind::Read, start, len)), "read {start}+{len}");
    }
    // And the neighbours, which are free.
    b.lock(fb, Kind::Write, 0, 100);
    b.lock(fb, Kind::Read, 200, 0);
    assert!(busy(a.try_lock(fa, Kind::Write, 200, 1)), "a reader is in the way");
    a.lock(fa, Kind::Read, 200, 50);
    w.await_server(4, 0);
    b.unlock(fb, 0, 0);
    a.unlock(fa, 0, 0);
    w.await_server(0, 0);
}

pub(super) fn a_test_names_the_lock_in_the_way(w: &mut World) {
    let path = World::path("test");
    let (a, b) = (w.a().owner("a"), w.b().owner("b"));
    let (fa, fb) = (a.open(&path), b.open(&path));
    assert_eq!(b.test(fb, Kind::Write, 0, 0), None);
    a.lock(fa, Kind::Read, 10, 20);
    a.lock(fa, Kind::Write, 1000, 0);
    assert_eq!(b.test(fb, Kind::Write, 0, 100), Some(Holder { kind: Kind::Read, start: 10, len: 20 }));
    assert_eq!(b.test(fb, Kind::Read, 0, 100), None, "readers do not mind each other");
    assert_eq!(b.test(fb, Kind::Read, 5000, 1), Some(Holder { kind: Kind::Write, start: 1000, len: 0 }));
    assert_eq!(a.test(fa, Kind::Write, 0, 0), None, "nobody is in his own way");
}

pub(super) fn an_unlock_in_the_middle_splits(w: &mut World) {
    let path = World::path("split");
    let (a, b) = (w.a().owner("a"), w.b().owner("b"));
    let (fa, fb) = (a.open(&path), b.open(&path));
    a.lock(fa, Kind::Write, 0, 100);
    a.unlock(fa, 40, 20);
    w.await_server(2, 0);
    b.lock(fb, Kind::Write, 40, 20);
    assert!(busy(b.try_lock(fb, Kind::Write, 39, 1)));
    assert!(busy(b.try_lock(fb, Kind::Write, 60, 1)));
    b.unlock(fb, 40, 20);
    // Filling the gap joins the parts again.
    a.lock(fa, Kind::Write, 40, 20);
    w.await_server(1, 0);
    a.unlock(fa, 0, 0);
    w.await_server(0, 0);
}

pub(super) fn ranges_reach_past_four_gigabytes(w: &mut World) {
    let path = World::path("large");
    let (a, b) = (w.a().owner("a"), w.b().owner("b"));
    let (fa, fb) = (a.open(&path), b.open(&path));
    let (big, last) = (1 << 40, i64::MAX as u64);
    a.lock(fa, Kind::Write, big, 10);
    assert!(busy(b.try_lock(fb, Kind::Write, big + 9, 1)));
    b.lock(fb, Kind::Write, big + 10, 1);
    b.lock(fb, Kind::Write, big - (1 << 32), 10); // equal in the low 32 bits
    a.lock(fa, Kind::Write, last, 1);
    assert!(busy(b.try_lock(fb, Kind::Read, last - 10, 0)));
    assert_eq!(b.test(fb, Kind::Write, big, 1), Some(Holder { kind: Kind::Write, start: big, len: 10 }));
}

pub(super) fn flock_conflicts_between_clients(w: &mut World) {
    let path = World::path("flock");
    let (a, b) = (w.a().owner("a"), w.b().owner("b"));
    let (fa, fb) = (a.open(&path), b.open(&path));
    assert_eq!(a.try_flock(fa, Kind::Write), Ok(()));
    assert!(busy(b.try_flock(fb, Kind::Write)));
    assert!(busy(b.try_flock(fb, Kind::Read)));
    a.flock_unlock(fa);
    assert_eq!(b.try_flock(fb, Kind::Read), Ok(()));
    assert_eq!(a.try_flock(fa, Kind::Read), Ok(()));
    w.await_server(2, 0);
    assert!(busy(a.try_flock(fa, Kind::Write)), "another reader is there");
    b.flock_unlock(fb);
    // flock drops the old lock before it asks for the new one, so either may be held now; a second try settles it.
    assert_eq!(a.try_flock(fa, Kind::Write), Ok(()));
    assert!(busy(b.try_flock(fb, Kind::Read)));
    a.close(fa);
    assert_eq!(b.try_flock(fb, Kind::Write), Ok(()), "close releases flock");
    b.flock_unlock(fb);
    w.await_server(0, 0);
}

pub(super) fn upgrade_and_downgrade(w: &mut World) {
    let path = World::path("upgrade");
    let (a, b) = (w.a().owner("a"), w.b().owner("b"));
    let (fa, fb) = (a.open(&path), b.open(&path));
    a.lock(fa, Kind::Read, 0, 100);
    b.lock(fb, Kind::Read, 0, 100);
    assert!(busy(a.try_lock(fa, Kind::Write, 0, 100)), "another reader is there");
    assert!(busy(b.try_lock(fb, Kind::Write, 0, 100)), "a refused upgrade keeps the old lock");
    b.unlock(fb, 0, 100);
    a.lock(fa, Kind::Write, 40, 20);
    w.await_server(3, 0);
    assert!(busy(b.try_lock(fb, Kind::Read, 59, 1)), "upgraded");
    b.lock(fb, Kind::Read, 0, 40);
    a.lock(fa, Kind::Read, 40, 20);
    b.lock(fb, Kind::Read, 0, 100);
    w.await_server(2, 0);
    assert!(busy(b.try_lock(fb, Kind::Write, 50, 1)), "downgraded, not dropped");
}

pub(super) fn close_exit_and_death_release(w: &mut World) {
    let path = World::path("release");
    let b = w.b().owner("b");
    let fb = b.open(&path);
    let retake = |how: &str| {
        w.await_server(0, 0);
        assert_eq!(b.try_lock(fb, Kind::Write, 0, 0), Ok(()), "after {how}");
        b.unlock(fb, 0, 0);
    };

    let a = w.a().owner("closes");
    let (first, second) = (a.open(&path), a.open(&path));
    a.lock(first, Kind::Write, 0, 10);
    a.lock(first, Kind::Write, 20, 10);
    assert!(busy(b.try_lock(fb, Kind::Write, 0, 0)));
    a.close(second); // POSIX: closing any descriptor of the file lets all go
    retake("close");

    let a = w.a().owner("exits");
    let fa = a.open(&path);
    a.lock(fa, Kind::Write, 0, 0);
    w.await_server(1, 0);
    a.exit();
    retake("exit");

    let a = w.a().owner("dies");
    let fa = a.open(&path);
    a.lock(fa, Kind::Read, 5, 5);
    a.lock(fa, Kind::Write, 50, 0);
    w.await_server(2, 0);
    a.signal("SIGKILL");
    retake("SIGKILL");
}
