//! What the grace window does to those who have nothing to reclaim.

use std::time::SystemTime;

use super::probe::Probe;
use super::support::agent::{Failure, Kind};
use super::world::{A_WHILE, MANY, TAKE_OVER, World, answered, ms};

/// A client that cannot reclaim yet keeps its bytes, and nothing else, from the others.
pub(super) fn what_conflicts_with_nothing_does_not_wait(w: &mut World) {
    let held = w.hold("slow", MANY);
    let b = w.b().owner("others");
    let (own, theirs) = (b.open(&World::path("own")), b.open(&World::path("slow")));
    let asks = w.b().owner("asks");
    let asked = asks.open(&World::path("slow"));

    let probe = Probe::new(w, "probe");

    // The window stays open for as long as client A is cut off.
    w.a.plug(false);
    let from = w.cut_power();
    let raw = probe.ask(0);
    let up = w.take(from.other(), "").at("address up");
    let first = b.lock_now(own, Kind::Write, 0, 10);
    let granted = answered("a lock on a file of its own", &first);
    let again = SystemTime::now();
    b.lock(own, Kind::Write, 20, 10);
    let next = SystemTime::now();
    assert_eq!(b.test(theirs, Kind::Write, 100, 100), None, "free bytes between locks of others");
    b.lock(theirs, Kind::Write, 10_000, 10);
    let lm = w.lm();
    assert_eq!(
        (&lm["state"], &lm["reclaimable"]),
        (&"grace".into(), &(MANY + 3).into()),
        "the window is open: {lm}"
    );
    println!("     {}", raw.granted(up));
    println!(
        "     free byte granted {} after the address was up, the next one in {}",
        ms(up, granted),
        ms(again, next)
    );

    // What conflicts is not answered before it is known.
    let conflicting = asks.lock_now(asked, Kind::Write, 50, 10);
    conflicting.must_still_wait("a conflicting request", A_WHILE);
    w.a.plug(true);
    let all = w.await_reclaimed();
    println!("     all {} reclaimed {} after the address was up", MANY + 3, ms(up, all));
    let refused = conflicting.wait(TAKE_OVER);
    assert!(matches!(refused, Err(Failure::Errno(_))), "the holder is back: {refused:?}");
    w.check_held("slow", &held);
    w.check_nothing_lost();
}

/// After the window a lock that nobody reclaimed yields to whoever wants its bytes.
pub(super) fn a_client_that_never_comes_back_holds_up_its_own_bytes(w: &mut World) {
    let held = w.hold("gone", 5);
    let b = w.b().owner("heir");
    let file = b.open(&World::path("gone"));
    w.a.power_cut();
    drop(held);
    let up = w.move_planned("grace=20s").at("address up");
    let waiting = b.lock_wait(file, Kind::Write, 0, 10);
    let granted = answered("the bytes of a client that is gone", &waiting);
    println!("     granted {} after the address was up, with a window of 20 s", ms(up, granted));
    let span = granted.duration_since(up).unwrap_or_default();
    assert!(
        span.as_secs() >= 20,
        "granted inside the window, while their holder might have come back: {span:?}"
    );
}
