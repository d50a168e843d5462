//! Locks that wait: granted by callback, interrupted, killed, deadlocked.

use std::time::{Duration, Instant};

use super::support::agent::{Failure, Kind, Pending, SOON};
use super::{A_WHILE, SOONER_THAN_A_POLL, World};

/// Waits for a grant that must come by callback, and says how long it took since `from`.
pub(super) fn granted_by_callback(
    w: &World,
    waiting: &Pending,
    from: Instant,
    confirmed_before: Option<u64>,
) {
    let result = waiting.wait(SOON);
    let took = from.elapsed();
    assert!(result.is_ok(), "not granted: {result:?}");
    println!("     granted {:.0} ms after the release", took.as_secs_f64() * 1000.0);
    assert!(
        took < SOONER_THAN_A_POLL,
        "granted only after {took:?}: that was the client's poll, not our callback"
    );
    if let Some(before) = confirmed_before {
        let now = w.server.counter("callbacks_confirmed").unwrap_or(0);
        assert!(now > before, "no callback was confirmed (still {now})");
    }
}

pub(super) fn a_blocked_lock_is_granted_by_callback(w: &mut World) {
    let path = World::path("blocked");
    let (a, b) = (w.a().owner("a"), w.b().owner("b"));
    let (fa, fb) = (a.open(&path), b.open(&path));
    let before = w.server.counter("callbacks_confirmed");
    a.lock(fa, Kind::Write, 0, 100);
    let waiting = b.lock_wait(fb, Kind::Write, 50, 100);
    w.await_server(1, 1);
    waiting.must_still_wait("b", A_WHILE);
    // Not yet: what is released is not what is in the way.
    a.unlock(fa, 0, 50);
    waiting.must_still_wait("b", A_WHILE);
    let released = Instant::now();
    a.unlock(fa, 50, 50);
    granted_by_callback(w, &waiting, released, before);
    w.await_server(1, 0);
    // It is a lock like any other now.
    assert!(a.try_lock(fa, Kind::Write, 149, 1).is_err());
    b.unlock(fb, 0, 0);
    a.lock(fa, Kind::Write, 0, 0);
}

pub(super) fn a_blocked_flock_is_granted_by_callback(w: &mut World) {
    let path = World::path("blocked-flock");
    let (a, b) = (w.a().owner("a"), w.b().owner("b"));
    let (fa, fb) = (a.open(&path), b.open(&path));
    let before = w.server.counter("callbacks_confirmed");
    assert_eq!(b.try_flock(fb, Kind::Write), Ok(()));
    let waiting = a.flock_wait(fa, Kind::Read);
    w.await_server(1, 1);
    waiting.must_still_wait("a", A_WHILE);
    // The holder dies; nobody unlocks.
    let released = Instant::now();
    b.signal("SIGKILL");
    granted_by_callback(w, &waiting, released, before);
}

pub(super) fn an_interrupted_wait_leaves_nothing(w: &mut World) {
    let path = World::path("interrupted");
    let (a, b) = (w.a().owner("a"), w.b().owner("b"));
    let (fa, fb) = (a.open(&path), b.open(&path));
    a.lock(fa, Kind::Write, 0, 10);
    let waiting = b.lock_wait(fb, Kind::Write, 0, 10);
    w.await_server(1, 1);
    b.signal("SIGUSR1");
    assert_eq!(waiting.wait(SOON), Err(Failure::Errno("EINTR".into())));
    w.await_server(1, 0);
    a.unlock(fa, 0, 10);
    // Had the server granted it after all, this could not be had.
    w.await_server(0, 0);
    a.lock(fa, Kind::Write, 0, 0);
    // And the interrupted process can wait again, on the same range.
    let waiting = b.lock_wait(fb, Kind::Read, 0, 10);
    w.await_server(1, 1);
    let released = Instant::now();
    a.unlock(fa, 0, 0);
    granted_by_callback(w, &waiting, released, None);
}

pub(super) fn a_killed_waiter_leaves_nothing(w: &mut World) {
    let path = World::path("killed");
    let (a, b) = (w.a().owner("a"), w.b().owner("b"));
    let (fa, fb) = (a.open(&path), b.open(&path));
    a.lock(fa, Kind::Write, 0, 10);
    let waiting = b.lock_wait(fb, Kind::Write, 0, 10);
    w.await_server(1, 1);
    b.signal("SIGKILL");
    assert_eq!(waiting.wait(SOON), Err(Failure::Died(-9)));
    w.await_server(1, 0);
    a.unlock(fa, 0, 10);
    w.await_server(0, 0);
}

pub(super) fn a_deadlock_across_clients_is_refused(w: &mut World) {
    let (a, b) = (w.a().owner("a"), w.b().owner("b"));
    let (a1, a2) = (a.open(&World::path("dead1")), a.open(&World::path("dead2")));
    let (b1, b2) = (b.open(&World::path("dead1")), b.open(&World::path("dead2")));
    a.lock(a1, Kind::Write, 0, 10);
    b.lock(b2, Kind::Write, 0, 10);
    let waiting = a.lock_wait(a2, Kind::Write, 5, 1);
    w.await_server(2, 1);
    let closing = b.lock_wait(b1, Kind::Read, 0, 1);
    assert_eq!(closing.wait(SOON), Err(Failure::Errno("EDEADLK".into())));
    waiting.must_still_wait("a", Duration::from_millis(500));
    // The refused one lets go, as it should; the other gets on.
    let released = Instant::now();
    b.unlock(b2, 0, 10);
    granted_by_callback(w, &waiting, released, None);
}

/// Several readers that wait for one writer all get in, while a writer among them still waits.
pub(super) fn readers_are_granted_together(w: &mut World) {
    let path = World::path("readers");
    let a = w.a().owner("writer");
    let fa = a.open(&path);
    a.lock(fa, Kind::Write, 0, 0);
    // All on the other client: a client makes its own processes wait for each other without asking the server.
    let readers: Vec<_> = (0..5)
        .map(|i| w.b().owner(&format!("reader{i}")))
        .map(|owner| {
            let file = owner.open(&path);
            let waiting = owner.lock_wait(file, Kind::Read, 0, 0);
            (owner, file, waiting)
        })
        .collect();
    w.await_server(1, 5);
    let late = w.b().owner("late");
    let late_file = late.open(&path);
    let late_waits = late.lock_wait(late_file, Kind::Write, 7, 1);
    w.await_server(1, 6);
    let released = Instant::now();
    a.unlock(fa, 0, 0);
    for (_, _, waiting) in &readers {
        granted_by_callback(w, waiting, released, None);
    }
    w.await_server(5, 1);
    late_waits.must_still_wait("the writer", A_WHILE);
    let released = Instant::now();
    for (owner, file, _) in &readers {
        owner.unlock(*file, 0, 0);
    }
    granted_by_callback(w, &late_waits, released, None);
}
