//! Waiting, being granted by callback, and the races of both with CANCEL, UNLOCK and LOCK.

use super::kit::{ALL, Kit, OK, S, X, peer, range};
use crate::state::{CallbackOutcome, Condition, Reply, Status};
use CallbackOutcome::{Accepted, RefusedFirst, RefusedLater, Unanswered};
use Condition::{Granting, Held, Unconfirmed};
use Status::{Blocked, Deadlock, Denied, Granted};

#[test]
fn a_blocked_lock_is_granted_by_callback_when_the_holder_unlocks() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    assert_eq!(k.lock(a, "f", 0..=9, X), Granted);
    assert_eq!(k.lock(b, "f", 5..=5, S), Denied);
    assert_eq!(k.block(b, "f", 5..=14, X), Blocked);
    assert_eq!(k.unlock(a, "f", 0..=4), OK);
    assert_eq!(k.granted(), []);
    assert_eq!(k.unlock(a, "f", 5..=9), OK);
    let grant = k.grant();
    assert!(k.has(b, 5..=14, X, Granting));
    k.done(grant, Accepted);
    assert!(k.has(b, 5..=14, X, Held));
}

#[test]
fn a_resent_blocked_lock_is_blocked_again_and_waits_once() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    for _ in 0..3 {
        assert_eq!(k.block(b, "f", 0..=9, X), Blocked);
        assert_eq!(k.counts(), (1, 1));
    }
    k.unlock(a, "f", ALL);
    let grant = k.grant();
    assert_eq!(k.block(b, "f", 0..=9, X), Granted, "polled before the callback came");
    assert_eq!(k.stopped(), [grant]);
    assert_eq!(k.block(b, "f", 0..=9, X), Granted);
    k.done(grant, RefusedFirst);
    assert!(k.has(b, 0..=9, X, Held), "a late refusal takes nothing from what the reply gave");
}

#[test]
fn an_unlock_ends_the_overlapping_waiters_of_its_owner_only() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    k.block(b, "f", 0..=4, X);
    k.block(b.svid(2), "f", 0..=4, X);
    assert_eq!(k.unlock(b, "f", 4..=20), OK);
    assert_eq!(k.counts(), (1, 1));
    k.unlock(a, "f", ALL);
    assert_eq!(k.granted()[0].1, 2);
}

#[test]
fn a_cancel_before_the_grant_ends_the_wait() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    k.block(b, "f", 0..=9, X);
    assert_eq!(k.cancel(b, "f", 0..=8, X), OK, "names another range: nothing to cancel is no error");
    assert_eq!(k.counts(), (1, 1));
    assert_eq!(k.cancel(b, "f", 0..=9, X), OK);
    assert_eq!(k.cancel(b, "f", 0..=9, X), OK, "repeated");
    k.unlock(a, "f", ALL);
    assert_eq!((k.granted(), k.counts()), (vec![], (0, 0)));
}

#[test]
fn a_cancel_while_the_callback_is_under_way_takes_the_lock_back_and_serves_the_next() {
    let (mut k, a, b, c) = (Kit::new(), peer("a", 1), peer("b", 2), peer("c", 3));
    k.lock(a, "f", 0..=9, X);
    k.block(b, "f", 0..=9, X);
    k.block(c, "f", 0..=9, X);
    k.unlock(a, "f", ALL);
    let first = k.grant();
    assert_eq!(k.cancel(b, "f", 0..=9, X), OK);
    assert_eq!(k.stopped(), [first]);
    let next = k.grant();
    k.done(first, Accepted);
    assert!(k.has(c, 0..=9, X, Granting), "the late answer changes nothing");
    k.done(next, Accepted);
    k.done(next, RefusedFirst);
    assert!(k.has(c, 0..=9, X, Held), "a second answer changes nothing");
}

#[test]
fn a_cancel_after_the_client_has_accepted_is_denied() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    k.block(b, "f", 0..=9, X);
    k.unlock(a, "f", ALL);
    let grant = k.grant();
    k.done(grant, Accepted);
    assert_eq!(k.cancel(b, "f", 0..=9, X), Reply::Status(Denied));
    assert!(k.has(b, 0..=9, X, Held));
}

#[test]
fn an_unlock_of_all_bytes_of_a_grant_under_way_stops_the_callback() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    k.block(b, "f", 0..=9, X);
    k.unlock(a, "f", ALL);
    let grant = k.grant();
    k.unlock(b, "f", 0..=4);
    assert_eq!(k.stopped(), []);
    k.unlock(b, "f", 5..=9);
    assert_eq!((k.stopped(), k.counts()), (vec![grant], (0, 0)));
    k.done(grant, Accepted);
    assert_eq!(k.counts(), (0, 0));
}

#[test]
fn a_refusal_of_the_first_transmission_restores_an_upgraded_lock_byte_for_byte() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(b, "f", 0..=4, S);
    k.lock(b, "f", 8..=9, X);
    k.lock(a, "f", 2..=6, S);
    assert_eq!(k.block(b, "f", 0..=9, X), Blocked);
    let before: Vec<_> = k.locks().into_iter().filter(|l| l.0 == b.address()).collect();
    k.unlock(a, "f", ALL);
    let grant = k.grant();
    assert!(k.has(b, 0..=4, X, Granting) && k.has(b, 5..=7, X, Granting));
    k.done(grant, RefusedFirst);
    assert_eq!(k.locks(), before);
}

#[test]
fn a_refused_or_unanswered_later_transmission_leaves_the_lock_unconfirmed_until_its_client_ends_it() {
    for outcome in [RefusedLater, Unanswered] {
        let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
        for end in 0..4 {
            k.lock(a, "f", 0..=9, X);
            k.block(b, "f", 0..=9, X);
            k.unlock(a, "f", ALL);
            let grant = k.grant();
            k.done(grant, outcome);
            assert!(k.has(b, 0..=9, X, Unconfirmed));
            assert_eq!(k.lock(a, "f", 0..=9, S), Denied);
            match end {
                0 => assert_eq!(k.unlock(b, "f", ALL), OK),
                1 => assert_eq!(k.cancel(b, "f", 0..=9, X), OK),
                2 => assert_eq!(k.free_all(b), Reply::Void),
                _ => assert_eq!(k.notify(b, 5), Reply::Void),
            }
            assert_eq!(k.counts(), (0, 0));
        }
    }
}

#[test]
fn a_lock_or_a_reclaim_of_the_client_confirms_an_unconfirmed_lock() {
    for reclaim in [false, true] {
        let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
        k.lock(a, "f", 0..=9, X);
        k.block(b, "f", 0..=9, X);
        k.unlock(a, "f", ALL);
        let grant = k.grant();
        k.done(grant, Unanswered);
        let status = if reclaim { k.reclaim(b, "f", 0..=9, X) } else { k.lock(b, "f", 0..=9, X) };
        assert_eq!(status, Granted);
        assert!(k.has(b, 0..=9, X, Held));
    }
}

#[test]
fn a_reclaim_of_a_lock_whose_grant_is_under_way_cannot_be_taken_back() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    k.block(b, "f", 0..=9, X);
    k.unlock(a, "f", ALL);
    let grant = k.grant();
    assert_eq!(k.reclaim(b, "f", 0..=9, X), Granted);
    assert_eq!(k.stopped(), [grant]);
    k.done(grant, RefusedFirst);
    assert!(k.has(b, 0..=9, X, Held));
}

#[test]
fn a_cancel_of_an_unconfirmed_upgrade_leaves_the_shared_lock_under_it() {
    let (mut k, a, b, c) = (Kit::new(), peer("a", 1), peer("b", 2), peer("c", 3));
    k.lock(b, "f", 0..=4, S);
    k.lock(a, "f", 0..=9, S);
    assert_eq!(k.block(b, "f", 0..=9, X), Blocked);
    k.unlock(a, "f", ALL);
    let grant = k.grant();
    k.done(grant, RefusedLater);
    assert_eq!(k.cancel(b, "f", 0..=9, X), OK);
    assert_eq!(k.locks(), [(b.address(), 1, range(&(0..=4)), S, Held)]);
    assert_eq!(k.lock(c, "f", 0..=0, X), Denied, "the client surely still has its shared lock");
}

#[test]
fn overlapping_requests_of_one_owner_are_granted_one_after_the_other() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    k.block(b, "f", 0..=9, X);
    k.block(b, "f", 0..=4, X);
    k.block(b, "f", 0..=5, S);
    k.unlock(a, "f", ALL);
    let first = k.grant();
    k.done(first, RefusedFirst);
    let second = k.grant();
    assert!(k.has(b, 0..=4, X, Granting));
    k.done(second, RefusedLater);
    let third = k.grant();
    k.done(third, Accepted);
    assert_eq!(k.locks(), [(b.address(), 1, range(&(0..=5)), S, Held)]);
    k.done(second, Accepted);
    k.done(first, Accepted);
    assert_eq!(k.counts(), (1, 0));
}

#[test]
fn a_lock_that_overtakes_a_grant_lets_the_owners_next_request_go() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=14, X);
    k.block(b, "f", 0..=9, X);
    k.block(b, "f", 5..=14, X);
    k.unlock(a, "f", ALL);
    let first = k.grant();
    assert_eq!(k.block(b, "f", 0..=9, X), Granted);
    assert_eq!(k.stopped(), [first]);
    assert_eq!(k.granted()[0].2, range(&(5..=14)));
}

#[test]
fn a_grant_over_bytes_that_the_owner_has_already_ends_with_them() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 9..=9, X);
    k.block(b, "f", 0..=9, X);
    k.lock(b, "f", 0..=8, X);
    // Two halves: the second is there before the waiter is looked at.
    k.unlock(a, "f", ALL);
    let grant = k.grant();
    k.unlock(b, "f", ALL);
    assert_eq!(k.stopped(), [grant]);
    k.done(grant, RefusedFirst);
    k.done(grant, Accepted);
    assert_eq!(k.counts(), (0, 0));
}

#[test]
fn a_shared_grant_over_an_exclusive_lock_weakens_it_only_when_the_client_says_yes() {
    let (mut k, a, b, c) = (Kit::new(), peer("a", 1), peer("b", 2), peer("c", 3));
    k.lock(b, "f", 0..=4, X);
    k.lock(a, "f", 5..=9, X);
    assert_eq!(k.block(b, "f", 0..=9, S), Blocked);
    assert_eq!(k.block(c, "f", 0..=0, S), Blocked);
    k.unlock(a, "f", ALL);
    let grant = k.grant();
    assert!(k.has(b, 0..=4, X, Held));
    k.done(grant, Accepted);
    assert!(k.has(b, 0..=9, S, Held));
    assert_eq!(k.granted()[0].2, range(&(0..=0)), "the downgrade lets the next in");
}

#[test]
fn a_downgrade_wakes_those_who_only_read() {
    let (mut k, a, b, c) = (Kit::new(), peer("a", 1), peer("b", 2), peer("c", 3));
    k.lock(a, "f", 0..=9, X);
    k.block(b, "f", 0..=9, X);
    k.block(c, "f", 0..=9, S);
    assert_eq!(k.lock(a, "f", 0..=9, S), Granted);
    assert_eq!(k.granted().len(), 1);
    assert!(k.has(c, 0..=9, S, Granting));
}

#[test]
fn an_upgrade_waits_while_another_reader_has_the_range() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, S);
    k.lock(b, "f", 5..=5, S);
    assert_eq!(k.lock(a, "f", 0..=9, X), Denied);
    assert_eq!(k.block(a, "f", 0..=9, X), Blocked);
    assert_eq!(k.block(b, "f", 5..=5, X), Deadlock, "two upgrades of the same bytes");
    k.unlock(b, "f", ALL);
    assert_eq!(k.granted().len(), 1);
}

#[test]
fn those_who_waited_come_before_the_lock_that_tells_of_a_reboot() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    k.block(b, "f", 0..=9, X);
    assert_eq!(k.lock(a.state(5), "f", 0..=9, X), Denied);
    assert_eq!(k.granted().len(), 1);
}

#[test]
fn a_thousand_waiters_of_one_range_are_granted_one_by_one_in_order() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.careful = false;
    k.lock(a, "f", 0..=9, X);
    for svid in 0..1_000 {
        assert_eq!(k.block(b.svid(svid), "f", 0..=9, X), Blocked);
    }
    k.unlock(a, "f", ALL);
    for svid in 0..1_000 {
        let granted = k.granted();
        assert_eq!((granted.len(), granted[0].1), (1, svid));
        k.done(granted[0].0, Accepted);
        assert_eq!(k.granted(), []);
        k.unlock(b.svid(svid), "f", 0..=9);
    }
    k.engine.check();
    assert_eq!((k.granted(), k.counts()), (vec![], (0, 0)));
}

#[test]
fn a_hundred_thousand_locks_of_one_owner_go_with_one_unlock() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.careful = false;
    for i in 0..100_000u64 {
        assert_eq!(k.lock(a, "f", i * 2..=i * 2, X), Granted);
    }
    assert_eq!(k.counts().0, 100_000);
    k.engine.check();
    assert_eq!(k.unlock(a, "f", ALL), OK);
    assert_eq!((k.counts(), k.engine.names.counts()), ((0, 0), (1, 0, 0)));
    k.engine.check();
}

#[test]
fn ranges_at_the_very_end_split_and_merge() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.lock(a, "f", u64::MAX..=u64::MAX, X);
    k.lock(a, "f", u64::MAX - 1..=u64::MAX - 1, X);
    assert!(k.has(a, u64::MAX - 1..=u64::MAX, X, Held));
    k.lock(a, "f", ALL, S);
    k.unlock(a, "f", u64::MAX..=u64::MAX);
    k.unlock(a, "f", 0..=0);
    assert_eq!(k.locks(), [(a.address(), 1, range(&(1..=u64::MAX - 1)), S, Held)]);
    k.unlock(a, "f", ALL);
    assert_eq!(k.counts(), (0, 0));
}
