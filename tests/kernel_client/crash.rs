//! Power cuts: of a client, of the server.

use std::time::Instant;

use super::blocking::granted_by_callback;
use super::support::agent::{Kind, SOON};
use super::support::wait_for;
use super::{A_WHILE, World};

/// A dead client's locks stay until the client itself says that it has rebooted, and go at once then.
pub(super) fn a_rebooted_clients_locks_go_when_it_says_so(w: &mut World) {
    let path = World::path("reboot");
    let a = w.a().owner("lost");
    let fa = a.open(&path);
    a.lock(fa, Kind::Write, 0, 0);
    let b = w.b().owner("heir");
    let fb = b.open(&path);
    let own = b.open(&World::path("own"));
    b.lock(own, Kind::Write, 0, 0);
    let waiting = b.lock_wait(fb, Kind::Write, 0, 10);
    w.await_server(2, 1);
    let freed = w.server.counter("freed_by_reboot");

    w.a.power_cut();
    waiting.must_still_wait("the heir of a client that is off", A_WHILE);
    w.a.boot(false);
    w.await_server(2, 1);
    waiting.must_still_wait("the heir of a client that has not said anything yet", A_WHILE);

    let said = Instant::now();
    w.a().sh("sm-notify");
    granted_by_callback(w, &waiting, said, None);
    if let (Some(before), Some(now)) = (freed, w.server.counter("freed_by_reboot")) {
        assert_eq!(now - before, 1, "locks freed by the reboot");
    }
    // The other client's own lock was not touched, and the rebooted one is welcome again.
    w.await_server(2, 0);
    w.mount(w.a(), "vers=3");
    let again = w.a().owner("again");
    let (f, g) = (again.open(&path), again.open(&World::path("own")));
    again.lock(f, Kind::Write, 10, 10);
    assert!(again.try_lock(g, Kind::Write, 0, 1).is_err());
}

/// The server dies without warning; whether it holds the locks as they stood or the clients reclaim them, neither client loses one to
/// the other.
pub(super) fn locks_outlive_the_server(w: &mut World) {
    let path = World::path("outlive");
    let (a, b) = (w.a().owner("a"), w.b().owner("b"));
    let (fa, fb) = (a.open(&path), b.open(&path));
    a.lock(fa, Kind::Write, 0, 100);
    a.lock(fa, Kind::Read, 1000, 100);
    b.lock(fb, Kind::Write, 100, 100);
    b.lock(fb, Kind::Read, 1000, 100);
    w.await_server(4, 0);
    let waiting = b.lock_wait(fb, Kind::Write, 50, 10);
    w.await_server(4, 1);

    let start = Instant::now();
    w.server.crash_and_restart();
    wait_for("both clients' locks", SOON * 2, || match w.server.locks() {
        4.. => Ok(()),
        n => Err(format!("{n} of 4 locks are back")),
    });
    println!("     4 locks back {:.1} s after the crash", start.elapsed().as_secs_f64());
    for agent in [w.a(), w.b()] {
        let log = agent.dmesg();
        assert!(!log.contains("failed to reclaim"), "a lock was lost:\n{log}");
    }

    // Still exclusive on both sides, also for newcomers; a request may have to sit out the grace window first.
    let window = w.server.grace() + SOON;
    let (c, d) = (w.a().owner("c"), w.b().owner("d"));
    let (fc, fd) = (c.open(&path), d.open(&path));
    for (owner, file, start) in [(&c, fc, 150), (&c, fc, 1050), (&d, fd, 50), (&d, fd, 1050)] {
        assert!(owner.try_lock_within(file, Kind::Write, start, 1, window).is_err(), "byte {start} was free");
    }
    c.try_lock_within(fc, Kind::Write, 5000, 1, window).expect("a lock on what nobody holds");
    waiting.must_still_wait("b", A_WHILE);
    // What waited before the crash is granted after it, by callback or by the client's own poll.
    a.unlock(fa, 0, 100);
    waiting.wait(SOON).expect("granted after the crash");
}
