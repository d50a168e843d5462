//! Circles of waiting owners, and what only looks like one.

use super::kit::{ALL, Kit, S, X, peer};
use crate::state::{CallbackOutcome, Condition, Status};
use Status::{Blocked, Deadlock, DeniedNolocks, Granted};

/// Owners `0..n`, each with its own byte, each but the last waiting for the next one's.
fn chain(k: &mut Kit, n: u32) {
    let a = peer("a", 1);
    for i in 0..n {
        assert_eq!(k.lock(a.svid(i), "f", u64::from(i)..=u64::from(i), X), Granted);
    }
    for i in 0..n - 1 {
        let next = u64::from(i + 1);
        assert_eq!(k.block(a.svid(i), "f", next..=next, X), Blocked);
    }
}

#[test]
fn circles_of_two_three_and_a_thousand_owners_are_found() {
    for n in [2, 3, 1_000] {
        let mut k = Kit::new();
        k.careful = n < 10;
        chain(&mut k, n);
        let last = peer("a", 1).svid(n - 1);
        assert_eq!(k.block(last, "f", 0..=0, S), Deadlock, "{n}");
        assert_eq!(k.block(last, "g", 0..=0, S), Granted);
        assert_eq!(k.block(last, "f", u64::from(n)..=u64::from(n), X), Granted);
        k.engine.check();
    }
}

#[test]
fn a_circle_across_two_files_clients_and_lock_managers_is_found() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2).lm(2));
    k.lock(a, "f", 0..=9, X);
    k.lock(b, "g", 0..=9, X);
    assert_eq!(k.block(a, "g", 0..=0, S), Blocked);
    assert_eq!(k.block(b, "f", 9..=9, S), Deadlock);
    assert_eq!(k.lock(b, "f", 9..=9, S), Status::Denied, "who does not wait closes no circle");
}

#[test]
fn the_same_numbers_through_another_lock_manager_are_another_owner() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    k.lock(b, "g", 0..=9, X);
    k.block(a.lm(2), "g", 0..=0, X);
    assert_eq!(k.block(b, "f", 0..=0, X), Blocked, "it is another process that waits for b");
}

#[test]
fn two_who_wait_for_the_same_lock_are_no_circle() {
    let (mut k, a, b, c) = (Kit::new(), peer("a", 1), peer("b", 2), peer("c", 3));
    k.lock(a, "f", 0..=9, X);
    k.lock(b, "f", 10..=19, S);
    k.lock(c, "f", 10..=19, S);
    assert_eq!(k.block(b, "f", 0..=9, X), Blocked);
    assert_eq!(k.block(c, "f", 0..=9, X), Blocked);
    // b waits for a, and a waits for both: that is one.
    assert_eq!(k.block(a, "f", 10..=10, X), Deadlock);
    assert_eq!(k.block(a, "f", 10..=10, S), Granted);
    assert_eq!(k.block(a, "f", 20..=29, X), Granted);
}

#[test]
fn an_edge_is_gone_with_the_lock_or_the_wait_that_made_it() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    k.lock(b, "g", 0..=9, X);
    k.block(a, "g", 0..=9, X);
    k.cancel(a, "g", 0..=9, X);
    assert_eq!(k.block(b, "f", 0..=9, X), Blocked);
    k.unlock(b, "g", ALL);
    assert_eq!(k.block(a, "g", 0..=9, X), Granted);
}

#[test]
fn a_circle_that_formed_in_a_full_window_shows_when_the_lock_is_resent() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    k.lock(b, "g", 0..=9, X);
    k.lock(a.svid(7), "h", 0..=9, S);
    k.grace(1, 90_000);
    // Nothing is in the way of this one: it waits for the window only.
    assert_eq!(k.block(a, "h", 0..=9, S), Blocked);
    assert_eq!(k.block(b, "h", 0..=9, S), Blocked);
    assert_eq!(k.block(a, "g", 0..=9, X), Blocked);
    assert_eq!(k.block(b, "f", 0..=9, X), Deadlock);
    k.cancel(a, "g", 0..=9, X);
    assert_eq!(k.block(b, "f", 0..=9, X), Blocked);
    // A reclaim in the window adds the missing edge behind b's back.
    assert_eq!(k.block(a, "i", 0..=9, X), Blocked);
    assert_eq!(k.reclaim(b, "i", 0..=9, S), Granted);
    assert_eq!(k.block(b, "f", 0..=9, X), Deadlock);
    assert_eq!(k.block(b, "f", 0..=9, X), Deadlock, "and it does not wait any more");
}

#[test]
fn what_is_only_in_a_doubtful_record_closes_no_circle_until_it_is_reclaimed() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.begin_load(1);
    k.load(a, "f", 0..=9, X, Condition::Reclaimable);
    k.load(b, "g", 0..=9, X, Condition::Reclaimable);
    k.grace(1, 90_000);
    k.end_load(1);
    assert_eq!(k.block(a, "g", 0..=9, X), Blocked);
    assert_eq!(k.block(b, "f", 0..=9, X), Blocked);
    assert_eq!(k.reclaim(a, "f", 0..=9, X), Granted);
    assert_eq!(k.block(b, "f", 0..=9, X), Blocked);
    assert_eq!(k.reclaim(b, "g", 0..=9, X), Granted);
    assert_eq!(k.block(b, "f", 0..=9, X), Deadlock);
}

#[test]
fn a_request_whose_reply_is_held_back_closes_no_circle() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    k.lock(b, "g", 0..=9, X);
    k.grace(1, 90_000);
    k.send_test(b, "f", 0..=9, X);
    k.send(b, "f", 0..=9, X, (false, false));
    assert_eq!(k.block(a, "g", 0..=9, X), Blocked);
}

#[test]
fn one_of_several_threads_of_an_owner_can_close_the_circle() {
    let (mut k, a, b, c) = (Kit::new(), peer("a", 1), peer("b", 2), peer("c", 3));
    k.lock(a, "f", 0..=0, X);
    k.lock(b, "f", 1..=1, X);
    k.lock(c, "f", 2..=2, X);
    assert_eq!(k.block(a, "f", 1..=1, X), Blocked);
    assert_eq!(k.block(a, "f", 2..=2, X), Blocked);
    assert_eq!(k.block(c, "f", 0..=0, X), Deadlock);
    k.unlock(b, "f", ALL);
    let grant = k.grant();
    k.done(grant, CallbackOutcome::Accepted);
    assert_eq!(k.block(c, "f", 1..=1, X), Deadlock);
}

/// `n` readers of "f", each waiting to write what `n` readers of "g" read: from byte 0 on, `end` says how far. The first of
/// them also waits for the byte of "h" that is returned's.
fn crowd(k: &mut Kit, n: u32, end: impl Fn(u32) -> u64) -> super::kit::Peer {
    let (a, b, c) = (peer("a", 1), peer("b", 2), peer("c", 3));
    k.careful = false;
    assert_eq!(k.lock(c, "h", 0..=0, X), Granted);
    for i in 0..n {
        assert_eq!(k.lock(a.svid(i), "f", 0..=0, S), Granted);
        assert_eq!(k.lock(b.svid(i), "g", 0..=0, S), Granted);
    }
    assert_eq!(k.block(a.svid(0), "h", 0..=0, X), Blocked);
    for i in 0..n {
        assert_eq!(k.block(a.svid(i), "g", 0..=end(i), X), Blocked);
    }
    c
}

#[test]
fn a_crowd_that_waits_for_the_same_bytes_is_looked_at_once() {
    let mut k = Kit::new();
    let c = crowd(&mut k, 1_000, |_| 9);
    assert_eq!(k.block(c, "f", 0..=0, X), Deadlock, "behind a million pairs of waiter and lock");
}

#[test]
fn a_lock_whose_search_for_a_deadlock_would_not_end_is_refused() {
    let mut k = Kit::new();
    // More pairs than a search looks at, all different.
    let c = crowd(&mut k, 600, u64::from);
    const { assert!(600 * 600 > crate::state::deadlock::STEPS_MAX) };
    assert_eq!(k.block(c, "f", 0..=0, X), DeniedNolocks);
    k.engine.check();
}
