//! Power cuts, and moves that are interrupted or turned around.

use super::rawrpc::nlm::*;
use super::rawrpc::{Tested, Want};
use super::{LM, LONG, Pair, lock, locks};

#[test]
fn after_a_power_cut_the_locks_are_where_the_disk_is() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    assert_eq!(pair.a.client(11, "two").lock(&Want::bytes(&fh, 5, 10).blocking()), BLOCKED);
    let before = a.lm(LM);
    a.kill();

    let (home, waiting) = (pair.b.host(10), pair.b.host(11));
    let b = pair.serve(&pair.b, LONG);
    assert_eq!(pair.start(&b, &[])["marked"], 1);
    let row = b.lm(LM);
    assert!(row["epoch"].as_u64() > before["epoch"].as_u64(), "{row}");
    assert_eq!((&row["state"], &row["full"]), (&"grace".into(), &false.into()), "the record is complete");
    home.notice();
    waiting.notice();
    assert!(b.rows("waiters").is_empty(), "who waited asks again");
    let mut two = pair.b.client(11, "two");
    assert_eq!(two.lock(&Want::bytes(&fh, 5, 10).blocking()), BLOCKED);
    let mut one = pair.b.client(10, "one");
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    assert_eq!(b.lm(LM)["state"], "active");
    assert_eq!(one.unlock(&Want::bytes(&fh, 0, 10)), GRANTED);
    assert!(waiting.granted().is("two", &Want::bytes(&fh, 5, 10)));
}

#[test]
fn a_node_that_dies_in_the_middle_of_the_window_goes_on_with_it_after_its_restart() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    for (last, name) in [(10, "one"), (11, "two")] {
        let want = Want::bytes(&fh, u64::from(last), 1);
        assert_eq!(pair.a.client(last, name).lock(&want), GRANTED);
    }
    a.kill();
    let homes = [10, 11].map(|last| pair.b.host(last));
    let b = pair.serve(&pair.b, LONG);
    pair.start(&b, &[]);
    let first = homes.each_ref().map(|home| home.notice().1);
    assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 10, 1).reclaim()), GRANTED);
    assert_eq!(pair.b.client(12, "three").lock(&Want::bytes(&fh, 30, 1)), GRANTED, "new in the window");
    b.kill();

    let b = pair.serve(&pair.b, LONG);
    let row = b.await_state(LM, "grace");
    assert_eq!((&row["reclaimable"], &row["locks"], &row["full"]), (&1.into(), &3.into(), &false.into()));
    assert!(homes[1].notice().1 > first[1], "who has not reclaimed is told again");
    assert_eq!(pair.b.client(12, "three").lock(&Want::bytes(&fh, 10, 2)), DENIED, "one has it");
    assert_eq!(pair.b.client(12, "three").lock(&Want::bytes(&fh, 11, 1)), GRACE, "two may come");
    assert_eq!(pair.b.client(11, "two").lock(&Want::bytes(&fh, 11, 1).reclaim()), GRANTED);
    assert_eq!(b.lm(LM)["state"], "active");
    assert_eq!(locks(&b), [lock(10, "one", "held"), lock(11, "two", "held"), lock(30, "three", "held")]);
}

#[test]
fn a_move_that_is_turned_around_before_anybody_reclaimed_loses_nothing() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    a.verb(&["unlock-ip", LM]);
    let b = pair.serve(&pair.b, LONG);
    assert_eq!(pair.start(&b, &[])["marked"], 1);
    assert_eq!(b.verb(&["unlock-ip", LM])["marked"], 1, "still to be reclaimed");
    let home = pair.a.host(10);
    assert_eq!(pair.start(&a, &[])["marked"], 1);
    home.notice();
    assert_eq!(pair.a.client(11, "two").lock(&Want::bytes(&fh, 5, 1)), GRACE);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    assert_eq!(a.lm(LM)["state"], "active");
}

#[test]
fn two_fail_overs_within_one_window_keep_what_was_reclaimed_and_what_was_not() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    for (last, name) in [(10, "one"), (11, "two")] {
        assert_eq!(pair.a.client(last, name).lock(&Want::bytes(&fh, u64::from(last), 1)), GRANTED);
    }
    let mut epochs = vec![a.lm(LM)["epoch"].as_u64()];
    a.kill();
    let b = pair.serve(&pair.b, LONG);
    assert_eq!(pair.start(&b, &[])["marked"], 2);
    epochs.push(b.lm(LM)["epoch"].as_u64());
    assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 10, 1).reclaim()), GRANTED);
    assert_eq!(pair.b.client(12, "three").lock(&Want::bytes(&fh, 30, 1)), GRANTED);
    b.kill();

    // The first one is back, its own idea of the lock manager is an old one.
    let a = pair.serve(&pair.a, LONG);
    assert_ne!(a.lm(LM)["state"], "active", "not ours any more");
    let done = pair.start(&a, &[]);
    assert_eq!(done["marked"], 3, "{done}");
    epochs.push(a.lm(LM)["epoch"].as_u64());
    assert!(epochs.is_sorted_by(|one, next| one < next), "{epochs:?}");
    assert_eq!(pair.a.client(13, "four").lock(&Want::bytes(&fh, 10, 1)), GRACE);
    let holder =
        |svid, offset| Tested::Held { exclusive: true, svid, oh: b"1@test".to_vec(), offset, len: 1 };
    assert_eq!(pair.a.client(13, "four").test(&Want::bytes(&fh, 30, 1)), holder(1, 30));
    for (last, name, at) in [(10, "one", 10), (11, "two", 11), (12, "three", 30)] {
        assert_eq!(pair.a.client(last, name).lock(&Want::bytes(&fh, at, 1).reclaim()), GRANTED, "{name}");
    }
    assert_eq!(a.lm(LM)["state"], "active");
}

#[test]
fn an_unlock_that_is_repeated_on_the_other_node_gets_its_old_answer_and_frees_nothing_newer() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    let mut one = pair.a.client(10, "one");
    let from = one.conn.local();
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let unlock = one.prepared(4, &Want::bytes(&fh, 0, 10));
    one.conn.send(&unlock);
    let answer = one.conn.receive(super::rawrpc::PATIENCE).expect("an answer to UNLOCK");
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10)), GRANTED, "a newer lock");
    a.kill();
    let b = pair.serve(&pair.b, LONG);
    pair.start(&b, &[]);
    let to = (super::rawrpc::FLOAT, PORT).into();
    let mut again = pair.b.within(|| super::rawrpc::Conn::try_tcp_at(from, to)).unwrap();
    again.send(&unlock);
    assert_eq!(again.receive(super::rawrpc::PATIENCE), Some(answer.clone()), "byte for byte");
    assert_eq!(locks(&b), [lock(0, "one", "reclaimable")]);
    assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    again.send(&unlock);
    assert_eq!(again.receive(super::rawrpc::PATIENCE), Some(answer), "and once more");
    assert_eq!(locks(&b), [lock(0, "one", "held")]);
}

#[test]
fn a_lock_of_what_the_owner_had_that_is_repeated_on_the_other_node_takes_nothing_anew() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    let mut one = pair.a.client(10, "one");
    let from = one.conn.local();
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let lock = one.prepared(2, &Want::bytes(&fh, 5, 1));
    one.conn.send(&lock);
    let answer = one.conn.receive(super::rawrpc::PATIENCE).expect("an answer to LOCK");
    assert_eq!(one.unlock(&Want::all(&fh)), GRANTED);
    a.kill();
    let b = pair.serve(&pair.b, LONG);
    pair.start(&b, &[]);
    let to = (super::rawrpc::FLOAT, PORT).into();
    let mut again = pair.b.within(|| super::rawrpc::Conn::try_tcp_at(from, to)).unwrap();
    again.send(&lock);
    assert_eq!(again.receive(super::rawrpc::PATIENCE), Some(answer), "byte for byte");
    assert_eq!(locks(&b), []);
}

#[test]
fn an_asynchronous_unlock_that_is_repeated_on_the_other_node_gets_its_result_and_frees_nothing_newer() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    let mut one = pair.a.client(10, "one");
    let (from, home) = (one.conn.local(), pair.a.host(10));
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let unlock = one.prepared(9, &Want::bytes(&fh, 0, 10));
    one.conn.send(&unlock);
    let answer = one.conn.receive(super::rawrpc::PATIENCE).expect("an empty reply");
    let result = home.expect(PROGRAM, 14).args;
    drop(home);
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10)), GRANTED, "a newer lock");
    a.kill();
    let home = pair.b.host(10);
    let b = pair.serve(&pair.b, LONG);
    pair.start(&b, &[]);
    let to = (super::rawrpc::FLOAT, PORT).into();
    let mut again = pair.b.within(|| super::rawrpc::Conn::try_tcp_at(from, to)).unwrap();
    again.send(&unlock);
    assert_eq!(again.receive(super::rawrpc::PATIENCE), Some(answer));
    assert_eq!(home.expect(PROGRAM, 14).args, result, "byte for byte");
    assert_eq!(locks(&b), [lock(0, "one", "reclaimable")]);
}

#[test]
fn a_grant_by_callback_that_the_crash_cut_short_is_not_lost() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    let home = pair.a.host(11);
    home.script(&[], super::rawrpc::React::Ignore);
    let mut one = pair.a.client(10, "one");
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    assert_eq!(pair.a.client(11, "two").lock(&Want::bytes(&fh, 0, 10).blocking()), BLOCKED);
    assert_eq!(one.unlock(&Want::bytes(&fh, 0, 10)), GRANTED);
    home.granted();
    a.kill();
    let b = pair.serve(&pair.b, LONG);
    assert_eq!(pair.start(&b, &[])["marked"], 1, "the client may well have taken it");
    assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRACE);
    assert_eq!(pair.b.client(11, "two").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
}

#[test]
fn ten_power_cuts_in_a_row_lose_no_lock_that_was_acknowledged() {
    let Some(pair) = Pair::new() else { return };
    let (mut server, fh) = pair.begin(LONG);
    let mut held: Vec<u64> = Vec::new();
    for round in 0..10u64 {
        let (from, to) = if round % 2 == 0 { (&pair.a, &pair.b) } else { (&pair.b, &pair.a) };
        let mut one = from.client(10, "one");
        // Some more locks, each acknowledged; the last one's answer is not waited for.
        for at in (round * 10..).step_by(2).take(3) {
            assert_eq!(one.lock(&Want::bytes(&fh, at, 1)), GRANTED);
            held.push(at);
        }
        one.post(2, &Want::bytes(&fh, 100_000 + round, 1));
        server.kill();
        server = to.serve(&pair.world, LONG, "");
        pair.start(&server, &[]);
        let mut one = to.client(10, "one");
        let mut other = to.client(11, "other");
        for at in &held {
            assert_eq!(
                other.test(&Want::bytes(&fh, *at, 1)),
                Tested::Held { exclusive: true, svid: 1, oh: b"1@test".to_vec(), offset: *at, len: 1 }
            );
            assert_eq!(one.lock(&Want::bytes(&fh, *at, 1).reclaim()), GRANTED, "round {round}, byte {at}");
        }
        let gone = one.unlock(&Want::bytes(&fh, 100_000, 1_000));
        assert_eq!(gone, GRANTED);
        assert_eq!(server.lm(LM)["state"], "active", "round {round}");
    }
}
