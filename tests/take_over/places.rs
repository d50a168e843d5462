//! Where the record lies, and what of it must not come back: a record is never begun anew beside an old one by mistake.

use crate::rawrpc::nlm::*;
use crate::rawrpc::{Client, Want, host};
use crate::{LM, LONG, Pair, lock, locks, text};

#[test]
fn a_record_is_not_begun_anew_while_the_old_one_lies_elsewhere() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let other = pair.world.dir().join("other");
    std::fs::create_dir(&other).unwrap();
    let elsewhere = ["start-grace", LM, "--journal", text(&other)];
    let (errno, said) = a.refused(&elsewhere);
    assert!(errno == "EBUSY" && said.contains(text(&pair.journal)), "{errno} {said}");
    a.verb(&["unlock-ip", LM]);
    let (errno, said) = a.refused(&elsewhere);
    assert!(errno == "EEXIST" && said.contains(text(&pair.journal)), "{errno} {said}");
    // Also after a restart, and when the disk of the old one is away.
    a.terminate();
    let away = pair.world.dir().join("away");
    std::fs::rename(&pair.journal, &away).unwrap();
    let a = pair.serve(&pair.a, LONG);
    let (errno, said) = a.refused(&elsewhere);
    assert!(errno == "EEXIST" && said.contains("was last in"), "{errno} {said}");
    std::fs::rename(&away, &pair.journal).unwrap();
    assert_eq!(pair.start(&a, &[])["marked"], 1);
    // Whoever forces it gets a new one, and is told.
    a.verb(&["unlock-ip", LM]);
    let done = a.verb(&["start-grace", LM, "--journal", text(&other), "--force"]);
    assert!(done["notes"].to_string().contains("a new record was begun"), "{done}");
    assert_eq!(locks(&a), []);
}

#[test]
fn who_waited_before_a_move_with_a_window_does_not_come_back_at_a_later_adopt() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    let bytes = Want::bytes(&fh, 0, 10);
    assert_eq!(pair.a.client(10, "one").lock(&bytes), GRANTED);
    assert_eq!(pair.a.client(11, "two").lock(&bytes.clone().blocking()), BLOCKED);
    a.verb(&["unlock-ip", LM]);
    assert_eq!(pair.start(&a, &[])["marked"], 1);
    assert_eq!(pair.a.client(10, "one").lock(&bytes.clone().reclaim()), GRANTED);
    a.kill();
    let a = pair.serve(&pair.a, LONG);
    a.await_state(LM, "active");
    assert_eq!((locks(&a), a.rows("waiters").len()), (vec![lock(0, "one", "held")], 0));
}

#[test]
fn a_number_from_before_a_restart_names_nothing_after_it() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    let bytes = Want::bytes(&fh, 0, 10);
    assert_eq!(pair.a.client(10, "one").lock(&bytes), GRANTED);
    assert_eq!(pair.a.client(11, "two").lock(&bytes.clone().blocking()), BLOCKED);
    let id = |row: &serde_json::Value| row["id"].to_string();
    let (held, waits) = (id(&a.rows("locks")[0]), id(&a.rows("waiters")[0]));
    assert_eq!(a.refused(&["revoke", &waits]).0, "ENOENT", "a waiter's number is no lock's");
    a.kill();
    let a = pair.serve(&pair.a, LONG);
    a.await_state(LM, "active");
    // One in a million times it is the same by chance.
    assert_ne!(id(&a.rows("locks")[0]), held);
    assert_eq!(a.refused(&["revoke", &held]).0, "ENOENT");
}

#[test]
fn the_first_floating_address_is_said_to_silence_the_others() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.serve(&pair.a, LONG);
    let mut other = pair.a.within(|| Client::to(host(10), [127, 0, 0, 1], "one"));
    assert_eq!(other.unlock(&Want::bytes(b"no handle", 0, 1)), STALE, "every address is answered");
    let done = pair.start(&a, &[]);
    assert!(done["notes"].to_string().contains("answers only on addresses that were taken up"), "{done}");
}
