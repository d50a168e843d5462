//! What each request gets: the table of the design, row by row, outside a window and in a full one.

use super::kit::{ALL, Kit, OK, S, X, lm, peer, range, route};
use crate::state::{
    Command, Condition, Deny, Entry, Event, Holder, LockRequest, Reply, Settings, Status, Time,
};
use Status::{Blocked, Denied, DeniedGracePeriod, Granted};

const NO_GRACE: Reply = Reply::Status(DeniedGracePeriod);

fn in_window() -> Kit {
    let mut k = Kit::new();
    k.grace(1, 90_000);
    k
}

#[test]
fn a_lock_without_conflict_is_granted_and_one_with_it_waits_or_is_denied() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    assert_eq!(k.lock(a, "f", 0..=9, S), Granted);
    assert_eq!(k.lock(b, "f", 5..=14, S), Granted);
    assert_eq!(k.lock(b, "f", 9..=9, X), Denied);
    assert_eq!(k.block(b, "f", 9..=9, X), Blocked);
    assert_eq!(k.lock(b, "f", 10..=14, X), Granted);
    assert_eq!(k.lock(a.svid(2), "f", 0..=0, X), Denied, "another owner of the same client");
    assert_eq!(k.lock(a.svid(2), "g", 0..=0, X), Granted, "another file");
}

#[test]
fn a_lock_inside_ones_own_lock_changes_only_its_own_bytes() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.lock(a, "f", 0..=9, S);
    k.lock(a, "f", 3..=5, X);
    assert_eq!(k.counts().0, 3);
    k.lock(a, "f", 0..=9, X);
    assert_eq!(k.counts().0, 1);
    k.unlock(a, "f", 4..=4);
    let ends: Vec<_> = k.locks().iter().map(|l| l.2).collect();
    assert_eq!(ends, [range(&(0..=3)), range(&(5..=9))]);
}

#[test]
fn a_test_names_the_true_holder() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a.svid(42), "f", 5..=u64::MAX, S);
    k.send_test(b, "f", 0..=9, S);
    assert_eq!(k.reply(), Some(OK));
    k.send_test(b, "f", 0..=9, X);
    let holder = Holder { mode: S, svid: 42, oh: Box::from(*b"oh"), range: range(&(5..=u64::MAX)) };
    assert_eq!(k.reply(), Some(Reply::Denied(holder)));
    k.send_test(a.svid(42), "f", 0..=9, X);
    assert_eq!(k.reply(), Some(OK), "one's own lock is not in the way");
    assert_eq!(k.engine.names.counts().0, 1, "a TEST makes nobody known");
}

#[test]
fn a_reclaim_outside_a_window_is_granted_only_where_it_is_covered() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.lock(a, "f", 0..=4, X);
    k.lock(a, "f", 5..=9, S);
    assert_eq!(k.reclaim(a, "f", 0..=9, S), Granted, "adjacent ones together, the stronger for the weaker");
    assert_eq!(k.counts().0, 2, "and nothing is weakened");
    assert_eq!(k.reclaim(a, "f", 0..=9, X), DeniedGracePeriod);
    assert_eq!(k.reclaim(a, "f", 0..=10, S), DeniedGracePeriod);
    assert_eq!(k.reclaim(a.svid(2), "f", 0..=4, X), DeniedGracePeriod, "another owner's");
    assert_eq!(k.reclaim(peer("b", 2), "f", 0..=4, X), DeniedGracePeriod, "another client's");
    let too_late = |e: &Event| matches!(e, Event::Denied { why: Deny::ReclaimTooLate, .. });
    assert!(k.events().iter().any(too_late));
    assert_eq!(k.engine.names.counts(), (1, 1, 1), "refused reclaims leave nothing behind");
}

#[test]
fn unlock_and_cancel_are_answered_always() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    assert_eq!(k.unlock(a, "f", ALL), OK);
    assert_eq!(k.cancel(a, "f", ALL, X), OK);
    k.grace(1, 90_000);
    assert_eq!(k.unlock(a, "f", ALL), OK);
    assert_eq!(k.cancel(a, "f", ALL, X), OK);
    k.reclaim(a, "f", 0..=9, X);
    k.block(a, "g", 0..=9, X);
    assert_eq!(k.unlock(a, "f", ALL), OK);
    assert_eq!(k.cancel(a, "g", 0..=9, X), OK);
    assert_eq!(k.counts(), (0, 0));
}

#[test]
fn in_a_full_window_a_blocking_lock_waits_even_if_nothing_is_in_the_way() {
    let (mut k, a) = (in_window(), peer("a", 1));
    assert_eq!(k.block(a, "f", 0..=9, X), Blocked);
    assert_eq!(k.block(a, "f", 0..=9, X), Blocked);
    assert_eq!(k.counts(), (0, 1));
    k.end_grace(1);
    assert_eq!(k.granted().len(), 1);
    assert!(k.events().contains(&Event::GraceEnded(lm(1))));
}

#[test]
fn in_a_full_window_a_non_blocking_lock_is_held_back_for_a_while() {
    let (mut k, a) = (in_window(), peer("a", 1));
    let token = k.send(a, "f", 0..=9, X, (false, false));
    assert_eq!((k.reply(), k.engine.next_timer()), (None, Some(Time(2_000))));
    k.tick(1_999);
    assert_eq!(k.reply_to(token), None);
    k.tick(2_000);
    assert_eq!(k.reply_to(token), Some(NO_GRACE));
    assert_eq!(k.counts(), (0, 0));
}

#[test]
fn a_window_that_ends_in_time_answers_what_was_held_back() {
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2));
    let first = k.send(a, "f", 0..=9, X, (false, false));
    let second = k.send(b, "f", 5..=9, X, (false, false));
    let free = k.send_test(b, "f", 20..=29, X);
    let taken = k.send_test(b, "f", 0..=0, S);
    k.end_grace(1);
    assert_eq!(k.reply_to(first), Some(OK));
    assert_eq!(k.reply_to(second), Some(Reply::Status(Denied)));
    assert_eq!(k.reply_to(free), Some(OK));
    assert!(matches!(k.reply_to(taken), Some(Reply::Denied(h)) if h.range == range(&(0..=9))));
    assert_eq!(k.fx.entries.len(), 1, "the client of the lock is on the list before its reply leaves");
}

#[test]
fn the_deadline_ends_a_window_before_anything_else_is_done() {
    let (mut k, a) = (in_window(), peer("a", 1));
    k.now = 90_000;
    assert_eq!(k.lock(a, "f", 0..=9, X), Granted);
    assert_eq!(k.reclaim(a, "f", 0..=10, X), DeniedGracePeriod);
}

#[test]
fn in_a_full_window_a_reclaim_that_conflicts_with_nothing_held_is_granted() {
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2));
    assert_eq!(k.reclaim(a, "f", 0..=9, X), Granted);
    assert_eq!(k.reclaim(a, "f", 0..=9, X), Granted, "repeated");
    assert_eq!(k.reclaim(b, "f", 9..=9, S), Denied);
    assert_eq!(k.counts(), (1, 0));
}

#[test]
fn a_reclaim_never_weakens_or_shrinks_what_is_held() {
    let (mut k, a) = (in_window(), peer("a", 1));
    k.reclaim(a, "f", 0..=4, X);
    assert_eq!(k.reclaim(a, "f", 0..=9, S), Granted);
    assert!(k.has(a, 0..=4, X, Condition::Held) && k.has(a, 5..=9, S, Condition::Held));
    assert_eq!(k.reclaim(a, "f", 2..=7, X), Granted);
    assert!(k.has(a, 0..=7, X, Condition::Held) && k.has(a, 8..=9, S, Condition::Held));
}

#[test]
fn in_a_full_window_a_lock_inside_ones_own_is_granted_at_once() {
    let (mut k, a) = (in_window(), peer("a", 1));
    k.reclaim(a, "f", 0..=9, X);
    assert_eq!(k.lock(a, "f", 2..=3, X), Granted);
    assert_eq!(k.block(a, "f", 2..=3, S), Granted);
}

#[test]
fn a_window_of_one_lock_manager_is_none_of_anothers() {
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2).lm(2));
    assert_eq!(k.lock(b, "f", 0..=4, X), Granted);
    assert_eq!(k.reclaim(b, "f", 0..=9, X), DeniedGracePeriod);
    assert_eq!(k.block(a, "f", 0..=9, X), Blocked);
    k.unlock(b, "f", ALL);
    assert_eq!(k.granted(), []);
    assert_eq!(k.block(b, "f", 0..=9, X), Granted);
    k.end_grace(1);
    assert_eq!(k.granted(), [], "there is a conflict now");
    k.unlock(b, "f", ALL);
    assert_eq!(k.granted().len(), 1);
}

#[test]
fn waiters_are_served_in_order_when_a_window_ends_even_across_a_downgrade() {
    let (mut k, a, b, c) = (in_window(), peer("a", 1), peer("b", 2), peer("c", 3));
    k.reclaim(a, "f", 0..=0, X);
    k.send(a, "f", 0..=1, S, (false, false));
    k.block(b, "f", 5..=9, X);
    k.block(c, "f", 0..=5, S);
    k.end_grace(1);
    let granted = k.granted();
    assert_eq!((granted.len(), granted[0].2), (1, range(&(5..=9))), "b came before c");
}

#[test]
fn a_long_row_of_held_back_downgrades_ends_well() {
    // Each downgrade lets the next one in: no recursion, no slot looked at after it is gone.
    let (mut k, a) = (in_window(), peer("a", 1));
    k.careful = false;
    const N: u32 = 20_000;
    for i in 0..N {
        let at = u64::from(i) * 10;
        k.reclaim(a.svid(i), "f", at..=at + 1, X);
    }
    let mut tokens = Vec::new();
    assert_eq!(k.lock(a.svid(0), "f", 0..=1, S), Granted);
    for i in 1..N {
        let at = u64::from(i) * 10;
        tokens.push(k.send(a.svid(i), "f", at - 9..=at + 1, S, (false, false)));
    }
    k.block(a.svid(N), "f", 0..=0, S);
    k.end_grace(1);
    k.engine.check();
    assert_eq!(k.reply_to(tokens[0]), Some(OK));
    assert_eq!(k.answered().len(), tokens.len());
    assert_eq!(k.granted().len(), 1);
}

#[test]
fn nm_lock_never_waits_and_makes_no_entry() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    let route = route();
    let token = k.token();
    let nm_lock = |file: &'static [u8]| LockRequest {
        party: b.party(),
        oh: b"oh",
        svid: 1,
        file,
        range: range(&(0..=9)),
        mode: X,
        block: true,
        reclaim: false,
        monitored: false,
        state: 0,
        route: &route,
        token,
    };
    k.run(Command::Lock(nm_lock(b"f")));
    assert_eq!((k.reply(), k.counts()), (Some(Reply::Status(Denied)), (1, 0)));
    k.run(Command::Lock(nm_lock(b"g")));
    assert_eq!((k.reply(), k.fx.entries.len()), (Some(OK), 0));
}

#[test]
fn a_client_is_on_the_durable_list_before_its_first_granted_or_blocked() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    let entry = |p: super::kit::Peer, state| Entry::Client {
        lm: lm(p.lm),
        name: p.name.as_bytes().into(),
        address: p.address(),
        state,
    };
    k.lock(a, "f", 0..=9, X);
    assert_eq!(k.fx.entries, [entry(a, 3)]);
    k.lock(a, "f", 20..=29, X);
    assert_eq!(k.fx.entries, []);
    k.lock(b, "f", 0..=9, X);
    assert_eq!(k.fx.entries, [], "denied: nothing to tell it later");
    k.block(b, "f", 0..=9, X);
    assert_eq!(k.fx.entries, [entry(b, 3)]);
    k.lock(a.state(5), "f", 30..=39, X);
    assert_eq!(k.fx.entries, [entry(a, 5)], "again with another state");
    k.lock(a.lm(2).state(5), "g", 0..=0, X);
    assert_eq!(k.fx.entries, [entry(a.lm(2), 5)], "for each lock manager");
}

#[test]
fn an_idle_client_is_forgotten_and_leaves_the_list() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.lock(a, "f", 0..=9, X);
    k.tick(10_000_000);
    assert_eq!((k.fx.entries.len(), k.engine.next_timer()), (0, None), "it holds a lock");
    k.unlock(a, "f", ALL);
    assert_eq!(k.engine.next_timer(), Some(Time(10_600_000)));
    k.tick(10_599_999);
    assert_eq!(k.fx.entries, []);
    k.tick(10_600_000);
    let forget = Entry::Forget { lm: lm(1), name: Box::from(*b"a"), address: a.address() };
    assert_eq!(k.fx.entries, [forget]);
    assert_eq!(k.engine.names.counts(), (0, 0, 0));
    k.lock(a, "f", 0..=9, X);
    assert_eq!(k.fx.entries.len(), 1, "known anew");
}

#[test]
fn a_client_whose_new_state_was_never_recorded_is_forgotten_all_the_same() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(b, "f", 0..=9, X);
    k.lock(a, "g", 0..=9, X);
    assert_eq!(k.lock(a.state(5), "f", 0..=9, X), Denied);
    k.tick(600_000);
    assert!(matches!(&k.fx.entries[..], [Entry::Forget { name, .. }] if **name == *b"a"));
}

#[test]
fn a_restored_client_is_on_the_list_already() {
    let (mut k, a) = (Kit::with(Settings::default()), peer("a", 1));
    k.run(Command::Restore { party: a.party(), state: 3 });
    k.grace(1, 90_000);
    assert_eq!(k.reclaim(a, "f", 0..=9, X), Granted);
    assert_eq!(k.fx.entries, []);
    k.unlock(a, "f", ALL);
    k.tick(600_000);
    assert_eq!(k.fx.entries.len(), 1);
}
