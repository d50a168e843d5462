//! Both nodes alive, both with the address: the one that was superseded neither grants, nor answers, nor writes.

use std::path::Path;

use super::rawrpc::daemon::dump;
use super::rawrpc::nlm::*;
use super::rawrpc::{Daemon, FLOAT, Host, PATIENCE, Want};
use super::{LM, LONG, Pair, assert_says_nothing, lock, locks, programs_at};

/// No record of the shared journal is about this client.
fn assert_not_in_the_record(journal: &Path, client: &str) {
    let record = dump(journal);
    assert!(record.iter().all(|r| r["client"] != client), "{client} in {record:?}");
}

fn assert_superseded(server: &Daemon) {
    let row = server.await_state(LM, "superseded");
    assert!(row["trouble"].as_str().is_some_and(|t| t.contains("another node took it over")), "{row}");
    let warnings = server.query("status")["warnings"].to_string();
    assert!(warnings.contains(LM), "{warnings}");
}

#[test]
fn a_node_that_still_believes_in_itself_answers_nothing_once_another_took_over() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    let mut one = pair.a.client(10, "one");
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let mut late = pair.a.client(11, "late");
    let b = pair.serve(&pair.b, LONG);
    assert_eq!(pair.start(&b, &[])["marked"], 1);
    // Everything that A is asked from here on: of a new client, and of the one with a lock.
    assert_says_nothing(&mut late, &Want::bytes(&fh, 50, 1));
    assert_says_nothing(&mut one, &Want::bytes(&fh, 0, 10));
    assert_superseded(&a);
    assert_eq!(programs_at(&pair.a, FLOAT), [""; 0]);
    assert_not_in_the_record(&pair.journal, "late");
    assert_eq!(locks(&b), [lock(0, "one", "reclaimable")], "what A was told to unlock is not unlocked");
    assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);

    // Started again, it does not take back what is not its own.
    assert!(a.terminate().success());
    let a = pair.serve(&pair.a, LONG);
    assert_ne!(a.lm(LM)["state"], "active");
    assert_eq!(programs_at(&pair.a, FLOAT), [""; 0]);
    assert_eq!(pair.b.client(12, "three").lock(&Want::bytes(&fh, 5, 1)), DENIED, "B goes on");
}

#[test]
fn files_too_fall_silent_on_a_node_that_nobody_asks_for_locks() {
    let Some(pair) = Pair::new() else { return };
    let (a, _) = pair.begin(LONG);
    let b = pair.serve(&pair.b, LONG);
    pair.start(&b, &[]);
    assert_superseded(&a);
    assert_eq!(programs_at(&pair.a, FLOAT), [""; 0]);
    assert_eq!(programs_at(&pair.b, FLOAT).len(), 7);
}

#[test]
fn a_node_that_does_not_know_yet_that_it_was_superseded_takes_up_anew_what_it_is_told_to() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let b = pair.serve(&pair.b, LONG);
    for round in 0..3 {
        for (server, name) in [(&b, "b"), (&a, "a")] {
            // Without it the other one would go on to believe that it serves, and nobody would.
            assert_eq!(pair.start(server, &[])["changed"], true, "round {round}, node {name}");
        }
    }
    assert_superseded(&b);
    assert_eq!(locks(&a), [lock(0, "one", "reclaimable")]);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
}

#[test]
fn a_node_that_was_frozen_wakes_up_superseded() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    let mut one = pair.a.client(10, "one");
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let mut late = pair.a.client(11, "late");
    assert_eq!(late.lock(&Want::bytes(&fh, 70, 1)), GRANTED);
    let mut waiting = pair.a.client(12, "waiting");
    let old_home = pair.a.host(12);
    assert_eq!(waiting.lock(&Want::bytes(&fh, 0, 10).blocking()), BLOCKED);
    a.freeze();
    // What is sent now is read when it thaws. The UNLOCK would let `waiting` in.
    let unlock = one.prepared(4, &Want::bytes(&fh, 0, 10));
    let lock_call = late.prepared(2, &Want::bytes(&fh, 50, 1));
    one.conn.send(&unlock);
    late.conn.send(&lock_call);

    let b = pair.serve(&pair.b, LONG);
    assert_eq!(pair.start(&b, &[])["marked"], 2);
    let mut same = pair.b.client(10, "one");
    assert_eq!(same.lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    assert_eq!(pair.b.client(11, "late").unlock(&Want::bytes(&fh, 70, 1)), GRANTED);
    a.thaw();

    assert_eq!(one.conn.receive(super::SILENCE), None, "the UNLOCK");
    assert_eq!(late.conn.receive(super::SILENCE), None, "the LOCK");
    assert_superseded(&a);
    assert_eq!(old_home.count(PROGRAM, 5), 0, "nobody is granted anything by A");
    assert_eq!(locks(&b), [lock(0, "one", "held")]);
    // What A wrote, if it did, counts for nobody: not for the next owner either.
    assert!(a.terminate().success());
    b.kill();
    let b = pair.serve(&pair.b, LONG);
    assert_eq!(locks(&b), [lock(0, "one", "held")]);
}

#[test]
fn a_callback_does_not_leave_a_node_that_was_superseded() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    let home = pair.a.host(11);
    let mut one = pair.a.client(10, "one");
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    assert_eq!(pair.a.client(11, "two").lock(&Want::bytes(&fh, 0, 10).blocking()), BLOCKED);
    let b = pair.serve(&pair.b, LONG);
    pair.start(&b, &[]);
    assert_says_nothing(&mut one, &Want::bytes(&fh, 0, 10));
    assert_superseded(&a);
    assert_eq!(home.count(PROGRAM, 5), 0);
    assert_eq!(locks(&b), [lock(0, "one", "reclaimable")]);
}

#[test]
fn the_address_goes_to_one_of_two_that_reach_for_it_at_once_and_back_and_forth() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let b = pair.serve(&pair.b, LONG);
    let homes: [Host; 2] = [pair.a.host(10), pair.b.host(10)];
    for round in 0..10 {
        a.command(&["unlock-ip", LM]);
        b.command(&["unlock-ip", LM]);
        let journal = super::text(&pair.journal);
        let start = ["start-grace", LM, "--journal", journal];
        let done = std::thread::scope(|s| {
            [&a, &b].map(|server| s.spawn(move || server.command(&start))).map(|t| t.join().unwrap())
        });
        assert!(done.iter().any(|d| d.status.success()), "round {round}: {done:?}");
        // Whatever each was told, one has it in the end, and the other says nothing.
        let both = || [&a, &b].map(|server| server.serves(LM));
        super::support::wait_for("one owner", PATIENCE, || match both() {
            [true, false] | [false, true] => Ok(()),
            _ => Err(format!("{:?} {:?}", a.find_lm(LM), b.find_lm(LM))),
        });
        let (node, home, other, loser) = match both() {
            [true, _] => (&pair.a, &homes[0], &pair.b, &b),
            _ => (&pair.b, &homes[1], &pair.a, &a),
        };
        super::support::wait_for("its files to be closed", PATIENCE, || {
            let open = loser.open_below(&pair.journal);
            if open.is_empty() { Ok(()) } else { Err(format!("round {round}: {open:?}")) }
        });
        assert_eq!(programs_at(other, FLOAT), [""; 0], "round {round}");
        home.notice();
        assert_eq!(node.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED, "round {round}");
    }
}
