//! Who gets what back in the window and after it: late, twice, in part, too much, somebody else's.

use super::rawrpc::nlm::*;
use super::rawrpc::{Client, FLOAT, Want, host};
use super::{LM, LONG, Pair, SHORT, lock, locks};

/// Node A with locks of these clients at 127.0.0.10 and on, each 10 bytes at its place, was given up; B has taken over.
fn moved(pair: &Pair, top: &str, names: &[(&str, u64)]) -> (super::Daemon, Vec<u8>) {
    let (a, fh) = pair.begin(LONG);
    for (n, (name, at)) in names.iter().enumerate() {
        let mut client = pair.a.client(10 + n as u8, name);
        assert_eq!(client.lock(&Want::bytes(&fh, *at, 10).state(3)), GRANTED);
    }
    a.verb(&["unlock-ip", LM]);
    assert!(a.terminate().success());
    let b = pair.serve(&pair.b, top);
    assert_eq!(pair.start(&b, &[])["marked"], names.len());
    (b, fh)
}

#[test]
fn what_a_client_never_reclaims_expires_with_the_window_and_goes_to_the_first_who_wants_it() {
    let Some(pair) = Pair::new() else { return };
    let homes = [10, 11].map(|last| pair.b.host(last));
    let (b, fh) = moved(&pair, SHORT, &[("one", 0), ("two", 20), ("three", 40)]);
    homes.iter().for_each(|home| drop(home.notice()));
    assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    let mut four = pair.b.client(13, "four");
    assert_eq!(four.lock(&Want::bytes(&fh, 20, 1)), GRACE);
    b.await_state(LM, "active");
    let row = b.lm(LM);
    assert_eq!((&row["expired"], &row["reclaimable"]), (&2.into(), &0.into()), "{row}");
    assert_eq!(b.counter("expired"), 2);
    b.await_log(&["expired", "two", pair.world.export().join("f").to_str().unwrap()]);
    // Whoever wants it, gets it; who comes late but before that, too.
    assert_eq!(four.lock(&Want::bytes(&fh, 25, 10)), GRANTED, "two has waited too long");
    b.await_log(&["gave way", "two"]);
    assert_eq!(pair.b.client(11, "two").lock(&Want::bytes(&fh, 25, 5).reclaim()), GRACE, "too late");
    assert_eq!(
        pair.b.client(11, "two").lock(&Want::bytes(&fh, 20, 5).reclaim()),
        GRANTED,
        "nobody took these"
    );
    assert_eq!(pair.b.client(12, "three").lock(&Want::bytes(&fh, 40, 10).reclaim()), GRANTED, "late");
    let expected = [(0, "one"), (20, "two"), (25, "four"), (40, "three")];
    assert_eq!(locks(&b), expected.map(|(at, client)| lock(at, client, "held")));
}

#[test]
fn who_waits_for_a_client_that_never_comes_gets_the_lock_when_the_window_ends() {
    let Some(pair) = Pair::new() else { return };
    let home = pair.b.host(11);
    let (_b, fh) = moved(&pair, SHORT, &[("one", 0)]);
    let want = Want::bytes(&fh, 5, 10).blocking();
    assert_eq!(pair.b.client(11, "two").lock(&want), BLOCKED);
    assert!(home.granted().is("two", &want));
    assert_eq!(
        pair.b.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()),
        GRACE,
        "not whole any more"
    );
}

#[test]
fn a_window_can_be_ended_and_made_longer_while_it_runs() {
    let Some(pair) = Pair::new() else { return };
    let (b, fh) = moved(&pair, "grace.window = \"10m\"\ngrace.park = \"300ms\"\n", &[("one", 0)]);
    let left = |row: &serde_json::Value| row["grace_seconds_left"].as_u64();
    b.await_lm(LM, "a deadline", |row| left(row).is_some_and(|s| s > 500));
    pair.start(&b, &["--grace", "20s"]);
    assert!(left(&b.lm(LM)).is_some_and(|s| s <= 20));
    assert_eq!(pair.b.client(11, "two").lock(&Want::bytes(&fh, 0, 1)), GRACE);
    let done = b.verb(&["end-grace", LM]);
    assert_eq!((&done["freed"], &done["changed"]), (&1.into(), &true.into()), "{done}");
    assert_eq!(pair.b.client(11, "two").lock(&Want::bytes(&fh, 0, 1)), GRANTED);
    assert_eq!(b.verb(&["end-grace", LM])["changed"], false, "it has ended");
}

#[test]
fn a_reclaim_succeeds_twice_and_in_part_and_fails_for_more_than_there_was() {
    let Some(pair) = Pair::new() else { return };
    let (b, fh) = moved(&pair, LONG, &[("one", 10), ("two", 40)]);
    let mut one = pair.b.client(10, "one");
    for more in [Want::bytes(&fh, 5, 10), Want::bytes(&fh, 15, 10), Want::bytes(&fh, 0, 0)] {
        assert_eq!(one.lock(&more.clone().reclaim()), DENIED, "{more:?}");
    }
    assert_eq!(one.lock(&Want::bytes(&fh, 12, 3).reclaim()), GRANTED, "a part");
    assert_eq!(b.lm(LM)["state"], "grace");
    assert_eq!(one.lock(&Want::bytes(&fh, 10, 10).reclaim()), GRANTED, "all of it");
    for _ in 0..2 {
        assert_eq!(one.lock(&Want::bytes(&fh, 10, 10).reclaim()), GRANTED, "again");
        assert_eq!(one.lock(&Want::bytes(&fh, 12, 3).reclaim()), GRANTED, "a part again");
    }
    assert_eq!(one.lock(&Want::bytes(&fh, 12, 3).shared().reclaim()), GRANTED, "weaker than recorded");
    assert_eq!(one.lock(&Want::bytes(&fh, 100, 1).reclaim()), DENIED, "nothing is recorded there");
    assert_eq!(locks(&b), [lock(10, "one", "held"), lock(40, "two", "reclaimable")]);
    assert_eq!(b.counter("reclaim_refused"), 4);
    b.await_log(&["reclaim refused", "one"]);
    assert_eq!(pair.b.client(12, "three").lock(&Want::bytes(&fh, 12, 1)), DENIED, "nothing was weakened");
}

#[test]
fn a_reclaim_of_another_owners_lock_is_refused() {
    let Some(pair) = Pair::new() else { return };
    let (b, fh) = moved(&pair, LONG, &[("one", 0), ("two", 20)]);
    let theft = Want::bytes(&fh, 20, 10).reclaim();
    assert_eq!(pair.b.client(10, "one").lock(&theft), DENIED, "another client's");
    assert_eq!(pair.b.client(11, "two").lock(&theft.clone().by(2)), DENIED, "another owner's");
    assert_eq!(pair.b.client(12, "three").lock(&theft), DENIED, "a stranger");
    assert_eq!(locks(&b), [lock(0, "one", "reclaimable"), lock(20, "two", "reclaimable")]);
    assert_eq!(pair.b.client(11, "two").lock(&theft), GRANTED);
}

#[test]
fn adjacent_locks_are_reclaimed_as_one_and_one_as_two() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    let mut one = pair.a.client(10, "one");
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    assert_eq!(one.lock(&Want::bytes(&fh, 10, 10)), GRANTED);
    a.kill();
    let b = pair.serve(&pair.b, LONG);
    pair.start(&b, &[]);
    let mut one = pair.b.client(10, "one");
    assert_eq!(one.lock(&Want::bytes(&fh, 5, 10).reclaim()), GRANTED);
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 20).reclaim()), GRANTED);
    assert_eq!(b.lm(LM)["state"], "active");
    assert_eq!(locks(&b), [lock(0, "one", "held")]);
}

#[test]
fn who_reclaims_comes_before_who_waits_for_the_same_bytes() {
    let Some(pair) = Pair::new() else { return };
    let home = pair.b.host(11);
    let (b, fh) = moved(&pair, LONG, &[("one", 0)]);
    let want = Want::bytes(&fh, 5, 10).blocking();
    let mut two = pair.b.client(11, "two");
    assert_eq!(two.lock(&want), BLOCKED);
    assert_eq!(two.lock(&Want::bytes(&fh, 0, 10).reclaim()), DENIED, "not two's");
    let mut one = pair.b.client(10, "one");
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    b.await_rows("waiters", 1, |w| w["waits_for"][0]["client"] == "one");
    assert_eq!(home.count(PROGRAM, 5), 0);
    assert_eq!(one.unlock(&Want::bytes(&fh, 0, 10)), GRANTED);
    assert!(home.granted().is("two", &want));
}

#[test]
fn unlock_and_cancel_are_always_legal_in_the_window() {
    let Some(pair) = Pair::new() else { return };
    let homes = [13, 14].map(|last| pair.b.host(last));
    let (b, fh) = moved(&pair, LONG, &[("one", 0), ("two", 20)]);
    let (mut three, mut four) = (pair.b.client(13, "three"), pair.b.client(14, "four"));
    let (first, second) = (Want::bytes(&fh, 0, 10).blocking(), Want::bytes(&fh, 5, 20).blocking());
    assert_eq!(three.lock(&first), BLOCKED);
    assert_eq!(four.lock(&second), BLOCKED);
    assert_eq!(three.cancel(&first), GRANTED);
    assert_eq!(three.cancel(&first), GRANTED, "what is not there either");
    let mut one = pair.b.client(10, "one");
    assert_eq!(one.unlock(&Want::bytes(&fh, 0, 5)), GRANTED, "a part of what it has not reclaimed");
    assert_eq!(one.unlock(&Want::bytes(&fh, 500, 5)), GRANTED, "what it never had");
    assert_eq!(three.lock(&Want::bytes(&fh, 0, 5)), GRANTED, "free again");
    assert_eq!(
        locks(&b),
        [lock(0, "three", "held"), lock(5, "one", "reclaimable"), lock(20, "two", "reclaimable")]
    );
    assert_eq!(one.unlock(&Want::bytes(&fh, 0, 0)), GRANTED);
    assert_eq!(homes[1].count(PROGRAM, 5), 0, "two is still in the way");
    assert_eq!(pair.b.client(11, "two").unlock(&Want::bytes(&fh, 20, 10)), GRANTED);
    assert!(homes[1].granted().is("four", &second));
    b.await_state(LM, "active");
    assert_eq!(homes[0].count(PROGRAM, 5), 0, "three has cancelled");
}

#[test]
fn a_client_may_come_back_from_another_address_unless_the_settings_are_strict() {
    for (top, answer) in [(LONG.to_owned(), GRANTED), (format!("{LONG}reclaim.match = \"strict\"\n"), DENIED)]
    {
        let Some(pair) = Pair::new() else { return };
        let (_b, fh) = moved(&pair, &top, &[("one", 0)]);
        let mut elsewhere = pair.b.within(|| Client::to(host(99), FLOAT, "one"));
        assert_eq!(elsewhere.lock(&Want::bytes(&fh, 0, 10).reclaim()), answer, "{top}");
        assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    }
}
