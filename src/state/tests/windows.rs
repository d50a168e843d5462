//! Grace windows with a complete record: the table of the design row by row, reclaims, early and late ends, expiry.

use std::time::Duration;

use super::kit::{ALL, Kit, OK, S, X, lm, peer, range};
use crate::state::{
    CallbackOutcome, Command, Condition, Deny, Event, GraceConflict, Outcome, Question, ReclaimMatch, Reply,
    Route, Settings, Stage, Status, Time, Verb,
};
use Condition::{Expired, Held, Reclaimable, Unconfirmed};
use Status::{Blocked, Denied, DeniedGracePeriod, Granted};

/// Client a's exclusive lock on bytes 0-9 of f is recorded, through lock manager 1, whose window runs to 90 s.
fn with(settings: Settings) -> Kit {
    let mut k = Kit::with(settings);
    k.load(peer("a", 1), "f", 0..=9, X, Reclaimable);
    k.window(1, 90_000, false);
    k
}

fn in_window() -> Kit {
    with(Settings::default())
}

fn is_over(k: &Kit) -> bool {
    k.engine.lm_rows()[0].window.is_none()
}

#[test]
fn a_request_that_conflicts_with_nothing_is_answered_at_once_in_the_window() {
    let (mut k, b) = (in_window(), peer("b", 2));
    assert_eq!(k.lock(b, "f", 10..=19, X), Granted);
    assert_eq!(k.block(b, "g", ALL, X), Granted);
    k.send_test(b, "f", 20..=29, X);
    assert_eq!(k.reply(), Some(OK));
    assert!(!is_over(&k));
}

#[test]
fn a_blocking_lock_waits_for_a_reclaimable_one_and_is_granted_by_callback_after_the_window() {
    let (mut k, b) = (in_window(), peer("b", 2));
    assert_eq!(k.block(b, "f", 5..=5, S), Blocked);
    k.tick(89_999);
    assert!(k.granted().is_empty());
    k.tick(90_000);
    assert_eq!(k.granted().len(), 1);
}

#[test]
fn a_blocking_lock_waits_on_for_a_lock_that_was_reclaimed() {
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2));
    assert_eq!(k.block(b, "f", 5..=5, S), Blocked);
    assert_eq!(k.reclaim(a, "f", 0..=9, X), Granted);
    assert!(k.granted().is_empty());
    k.unlock(a, "f", ALL);
    assert_eq!(k.granted().len(), 1);
}

#[test]
fn a_non_blocking_lock_is_held_back_and_then_told_to_ask_again() {
    let (mut k, b) = (in_window(), peer("b", 2));
    let token = k.send(b, "f", 5..=5, X, (false, false));
    assert_eq!(k.reply(), None);
    k.tick(1_999);
    assert_eq!(k.reply_to(token), None);
    k.tick(2_000);
    assert_eq!(k.reply_to(token), Some(Reply::Status(DeniedGracePeriod)));
}

#[test]
fn a_held_back_lock_is_answered_as_soon_as_the_record_is_settled() {
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2));
    let token = k.send(b, "f", 5..=5, X, (false, false));
    k.reclaim(a, "f", 0..=9, X);
    assert_eq!(k.reply_to(token), Some(Reply::Status(Denied)), "reclaimed");
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2));
    let token = k.send(b, "f", 5..=5, X, (false, false));
    k.unlock(a, "f", ALL);
    assert_eq!(k.reply_to(token), Some(OK), "unlocked");
}

#[test]
fn with_deny_a_non_blocking_lock_is_denied_at_once() {
    let mut k = with(Settings { grace_conflict: GraceConflict::Deny, ..Settings::default() });
    assert_eq!(k.lock(peer("b", 2), "f", 5..=5, X), Denied);
    assert_eq!(k.block(peer("b", 2), "f", 5..=5, X), Blocked);
}

#[test]
fn a_lock_that_a_live_one_denies_is_not_held_back() {
    let (mut k, b, c) = (in_window(), peer("b", 2), peer("c", 3));
    k.lock(b, "f", 10..=19, X);
    assert_eq!(k.lock(c, "f", 0..=19, X), Denied);
}

#[test]
fn a_test_names_the_recorded_holder() {
    let (mut k, b) = (in_window(), peer("b", 2));
    k.send_test(b, "f", 5..=5, S);
    let Some(Reply::Denied(holder)) = k.reply() else { panic!("{:?}", k.reply()) };
    assert_eq!((holder.svid, holder.range, holder.mode), (1, range(&(0..=9)), X));
}

#[test]
fn another_lock_managers_requests_wait_only_for_what_they_conflict_with() {
    let (mut k, b) = (in_window(), peer("b", 2).lm(2));
    assert_eq!(k.lock(b, "f", 10..=19, X), Granted);
    assert_eq!(k.reclaim(b, "f", 50..=59, X), DeniedGracePeriod, "it is in no window");
    assert_eq!(k.block(b, "f", 0..=0, X), Blocked);
    k.end_grace(1);
    assert_eq!(k.granted().len(), 1);
}

#[test]
fn partial_doubled_merged_and_late_reclaims_succeed_and_weaken_nothing_that_is_held() {
    let (mut k, a) = (in_window(), peer("a", 1));
    k.load(a, "f", 10..=19, S, Reclaimable);
    assert_eq!(k.reclaim(a, "f", 3..=5, X), Granted, "a part");
    assert!(k.has(a, 0..=2, X, Reclaimable) && k.has(a, 3..=5, X, Held));
    assert_eq!(k.reclaim(a, "f", 3..=5, X), Granted, "again");
    assert_eq!(k.reclaim(a, "f", 5..=14, S), Granted, "over the seam, weaker than a part of it");
    assert!(k.has(a, 3..=9, X, Held) && k.has(a, 10..=14, S, Held));
    k.end_grace(1);
    assert!(k.has(a, 0..=2, X, Expired));
    assert_eq!(k.reclaim(a, "f", 0..=19, S), Granted, "late: it holds no more than it says");
    assert!(k.has(a, 0..=2, S, Held) && k.has(a, 3..=9, X, Held) && k.has(a, 10..=19, S, Held));
}

#[test]
fn a_reclaim_beyond_the_record_is_denied_in_the_window_and_said() {
    let (mut k, a) = (in_window(), peer("a", 1));
    k.load(a, "g", 0..=9, S, Reclaimable);
    for (p, file, r, mode) in [
        (a, "f", 0..=10, X),
        (a, "g", 0..=9, X),
        (a.svid(2), "f", 0..=9, X),
        (peer("b", 2), "f", 0..=9, X),
        (a, "h", 0..=9, S),
    ] {
        assert_eq!(k.reclaim(p, file, r, mode), Denied);
        let beyond = |e: &Event| matches!(e, Event::Denied { why: Deny::ReclaimBeyond, .. });
        assert!(k.events().iter().any(beyond));
    }
    k.end_grace(1);
    assert_eq!(k.reclaim(a, "f", 0..=10, X), DeniedGracePeriod, "outside the window");
}

#[test]
fn a_client_that_comes_back_under_another_address_gets_its_locks() {
    let (mut k, a) = (in_window(), peer("a", 1));
    let moved = a.host(7);
    assert_eq!(k.reclaim(moved, "f", 0..=9, X), Granted);
    assert_eq!(k.reclaim(moved, "f", 0..=9, X), Granted, "a retransmission");
    assert_eq!(k.unlock(moved, "f", ALL), OK);
    assert_eq!(k.counts().0, 0);
}

#[test]
fn an_unknown_address_reclaims_nothing_that_is_live() {
    let (mut k, a) = (in_window(), peer("a", 1));
    k.load(a, "g", 0..=9, X, Reclaimable);
    k.reclaim(a, "f", 0..=9, X);
    assert_eq!(k.reclaim(a.host(7), "f", 0..=9, X), Denied);
}

#[test]
fn an_unknown_address_reclaims_nothing_of_a_name_that_two_hosts_use() {
    let (mut k, a) = (in_window(), peer("a", 1));
    k.lock(a.host(2).state(9), "g", ALL, X);
    assert_eq!(k.reclaim(a.host(7), "f", 0..=9, X), Denied);
}

#[test]
fn with_strict_matching_the_address_counts() {
    let mut k = with(Settings { reclaim_match: ReclaimMatch::Strict, ..Settings::default() });
    let a = peer("a", 1);
    assert_eq!(k.reclaim(a.host(7), "f", 0..=9, X), Denied);
    assert_eq!(k.reclaim(a, "f", 0..=9, X), Granted);
}

#[test]
fn a_plain_lock_inside_ones_own_reclaimable_lock_is_its_reclaim() {
    let (mut k, a) = (in_window(), peer("a", 1));
    assert_eq!(k.lock(a, "f", 0..=9, X), Granted);
    assert!(k.has(a, 0..=9, X, Held));
    assert!(is_over(&k));
}

#[test]
fn a_plain_lock_of_a_rebooted_client_replaces_its_record_and_frees_the_rest() {
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2));
    k.load(a, "g", 0..=9, X, Reclaimable);
    k.block(b, "g", 0..=9, X);
    assert_eq!(k.lock(a.state(5), "f", 2..=3, X), Granted);
    assert_eq!(k.granted().len(), 1, "who waited for the rest has it");
    assert!(k.has(a, 2..=3, X, Held));
    assert_eq!(k.counts().0, 2);
}

#[test]
fn a_notice_frees_the_records_of_an_older_state_only() {
    let (mut k, a) = (in_window(), peer("a", 1));
    k.notify(a, 3);
    assert_eq!(k.counts().0, 1);
    k.notify(a, 5);
    assert_eq!(k.counts().0, 0);
    assert!(is_over(&k));
}

#[test]
fn unlock_and_cancel_are_legal_in_the_window() {
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2));
    k.block(b, "f", 0..=9, X);
    assert_eq!(k.cancel(b, "f", 0..=9, X), OK);
    assert_eq!(k.unlock(a, "f", 0..=4), OK);
    assert!(k.has(a, 5..=9, X, Reclaimable));
    assert_eq!(k.unlock(peer("c", 3), "f", ALL), OK);
}

#[test]
fn a_window_ends_when_the_last_record_is_reclaimed_or_released() {
    let (mut k, a) = (in_window(), peer("a", 1));
    k.load(a, "g", 0..=9, X, Reclaimable);
    k.reclaim(a, "f", 0..=9, X);
    assert!(!is_over(&k));
    k.unlock(a, "g", ALL);
    assert!(is_over(&k));
    assert!(k.events().contains(&Event::GraceEnded(lm(1))));
    k.window(1, 90_000, false);
    assert!(is_over(&k), "a window with nothing to reclaim ends with its start");
}

#[test]
fn a_full_window_does_not_end_early_and_stays_full() {
    let (mut k, a) = (in_window(), peer("a", 1));
    k.window(1, 90_000, true);
    k.window(1, 80_000, false);
    k.reclaim(a, "f", 0..=9, X);
    assert!(!is_over(&k));
    assert_eq!(k.block(peer("b", 2), "g", ALL, X), Blocked);
    k.tick(80_000);
    assert!(is_over(&k));
    assert_eq!(k.granted().len(), 1);
}

#[test]
fn in_a_full_window_a_live_claim_beats_an_unreclaimed_record() {
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2));
    k.window(1, 90_000, true);
    assert_eq!(k.reclaim(b, "f", 8..=12, X), Granted);
    assert!(k.events().iter().any(|e| matches!(e, Event::Yielded(s) if s.range == range(&(8..=9)))));
    assert!(k.has(a, 0..=7, X, Reclaimable) && k.has(b, 8..=12, X, Held));
    assert_eq!(k.reclaim(a, "f", 0..=9, X), Denied, "too late");
    assert_eq!(k.reclaim(a, "f", 0..=7, X), Granted);
}

#[test]
fn after_a_full_window_nothing_of_the_record_is_kept_for_who_comes_late() {
    let (mut k, a) = (in_window(), peer("a", 1));
    k.load(a, "g", 0..=9, X, Expired);
    k.window(1, 90_000, true);
    k.tick(90_000);
    assert!(is_over(&k) && k.counts().0 == 0);
    assert_eq!(
        k.reclaim(a, "f", 0..=9, X),
        DeniedGracePeriod,
        "others may have had it, in the part that is lost"
    );
    assert_eq!(k.reclaim(a, "g", 0..=9, X), DeniedGracePeriod);
    assert_eq!(k.lock(a, "f", 0..=9, X), Granted);
}

#[test]
fn in_a_full_window_the_owner_holds_no_more_than_it_says() {
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2));
    k.window(1, 90_000, true);
    assert_eq!(k.reclaim(a, "f", 0..=4, S), Granted, "the record has missed that it took less");
    assert!(k.has(a, 0..=4, S, Held) && k.has(a, 5..=9, X, Reclaimable));
    assert_eq!(k.reclaim(b, "f", 0..=4, S), Granted, "and has missed who got the rest");
    assert_eq!(k.block(a, "f", 0..=4, X), Blocked);
    assert_eq!(k.reclaim(a, "f", 5..=9, S), Granted);
    assert_eq!(k.reclaim(a, "f", 5..=9, X), Granted);
    assert_eq!(k.reclaim(a, "f", 5..=9, S), Granted, "a late copy");
    assert!(k.has(a, 5..=9, X, Held), "what it has reclaimed since is not doubtful");
}

#[test]
fn a_running_windows_deadline_can_be_moved_both_ways() {
    let mut k = in_window();
    k.run(Command::SetDeadline { lm: lm(1), deadline: Time(120_000) });
    k.tick(119_999);
    assert!(!is_over(&k));
    k.run(Command::SetDeadline { lm: lm(1), deadline: Time(100) });
    k.tick(119_999);
    assert!(is_over(&k));
    k.run(Command::SetDeadline { lm: lm(1), deadline: Time(900_000) });
    assert!(is_over(&k), "no window, nothing to move");
}

#[test]
fn what_is_not_reclaimed_expires_is_said_and_yields_to_the_first_who_needs_it() {
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2));
    k.tick(90_000);
    let expired = |e: &Event| matches!(e, Event::Expired(s) if *s.file == *b"f" && *s.name == *b"a");
    assert!(k.events().iter().any(expired));
    assert!(k.events().contains(&Event::Unreclaimed { lm: lm(1), locks: 1 }));
    assert!(k.has(a, 0..=9, X, Expired));
    k.send_test(b, "f", 0..=9, X);
    assert_eq!(k.reply(), Some(OK), "in nobody's way");
    assert_eq!(k.lock(b, "f", 4..=5, X), Granted);
    assert_eq!(k.reclaim(a, "f", 0..=9, X), DeniedGracePeriod);
    assert_eq!(k.reclaim(a, "f", 0..=3, X), Granted, "what is left of it");
}

#[test]
fn a_denied_lock_takes_nothing_from_an_expired_one() {
    let (mut k, a, b, c) = (in_window(), peer("a", 1), peer("b", 2), peer("c", 3));
    k.lock(b, "f", 10..=19, X);
    k.end_grace(1);
    assert_eq!(k.lock(c, "f", 5..=15, X), Denied);
    assert_eq!(k.reclaim(a, "f", 0..=9, X), Granted);
}

#[test]
fn expired_locks_go_when_the_hold_time_is_over() {
    let mut k = with(Settings { hold: Duration::from_secs(60), ..Settings::default() });
    k.tick(90_000);
    assert_eq!(k.engine.next_timer(), Some(Time(150_000)));
    k.tick(149_999);
    assert_eq!(k.counts().0, 1);
    k.tick(150_000);
    assert_eq!(k.counts().0, 0);
    assert!(k.events().contains(&Event::ExpiredDropped { lm: lm(1), locks: 1 }));
}

#[test]
fn adopted_locks_are_held_and_adopted_waiters_wait_on_in_order() {
    let (mut k, a, b, c) = (Kit::new(), peer("a", 1), peer("b", 2), peer("c", 3));
    k.load(a, "f", 0..=9, X, Held);
    k.load(a, "g", 0..=9, X, Condition::Granting);
    assert!(k.has(a, 0..=9, X, Unconfirmed), "nobody will answer the old node's callback");
    let route = Route { version: 4, tcp: true, asynchronous: false, handle: Box::from([1]) };
    for (p, seq) in [(c, 8), (b, 7)] {
        let (range, mode, state, route) = (range(&(0..=9)), X, 3, &route);
        let (party, svid) = (p.party(), p.svid);
        k.run(Command::LoadWaiter { party, oh: b"oh", svid, file: b"f", range, mode, state, route, seq });
    }
    assert_eq!(k.block(peer("d", 4), "f", 0..=9, X), Blocked);
    k.unlock(a, "f", ALL);
    assert_eq!(k.granted().len(), 1);
    k.done(k.grant(), CallbackOutcome::Accepted);
    assert!(k.has(b, 0..=9, X, Held), "the older one");
}

#[test]
fn of_a_record_that_conflicts_with_the_table_only_the_other_bytes_are_loaded_and_that_is_said() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(b, "f", 5..=5, X);
    k.load(a, "f", 0..=9, X, Reclaimable);
    let refused = |e: &Event| matches!(e, Event::LoadRefused(s) if s.range == range(&(5..=5)));
    assert!(k.events().iter().any(refused));
    assert!(k.has(a, 0..=4, X, Reclaimable) && k.has(b, 5..=5, X, Held) && k.has(a, 6..=9, X, Reclaimable));
}

#[test]
fn a_refused_callback_gives_back_the_shared_lock_that_was_not_reclaimed_yet() {
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2));
    k.load(a, "g", 0..=9, S, Reclaimable);
    k.load(b, "g", 0..=9, S, Reclaimable);
    assert_eq!(k.block(a, "g", 0..=9, X), Blocked);
    k.unlock(b, "g", ALL);
    k.done(k.grant(), CallbackOutcome::RefusedFirst);
    assert!(k.has(a, 0..=9, S, Held), "whoever asked for more is back");
}

#[test]
fn a_refused_callback_gives_nothing_back_of_what_was_not_reclaimed_in_time() {
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2));
    k.load(a, "g", 0..=9, S, Reclaimable);
    k.load(a, "h", 0..=9, X, Reclaimable);
    k.end_grace(1);
    assert!(k.has(a, 0..=9, S, Expired) && k.has(a, 0..=9, X, Expired));
    assert_eq!(k.lock(b, "g", 0..=9, S), Granted);
    assert_eq!(k.block(a, "g", 0..=9, X), Blocked);
    k.unlock(b, "g", ALL);
    k.done(k.grant(), CallbackOutcome::RefusedFirst);
    assert!(k.has(a, 0..=9, S, Expired));
    assert_eq!(k.lock(b, "g", 0..=9, X), Granted);
}

fn ask<'a>(p: &'a super::kit::Peer, file: &'a str, r: std::ops::RangeInclusive<u64>) -> Question<'a> {
    Question {
        lm: lm(p.lm),
        client: Some((p.name.as_bytes(), p.address())),
        owner: Some((b"oh", p.svid)),
        file: file.as_bytes(),
        range: range(&r),
        mode: X,
    }
}

#[test]
fn explain_says_who_is_in_the_way_and_until_when() {
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2));
    let told = k.engine.explain(&ask(&b, "f", 5..=14));
    assert_eq!((told.lock, told.blocking, told.test), (Outcome::HeldBack, Outcome::Blocked, Outcome::Denied));
    assert_eq!((told.until, told.held, told.blockers.len()), (Some(Time(90_000)), 0, 1));
    assert_eq!(&*told.blockers[0].client, b"a");
    assert!(k.engine.explain(&ask(&a, "f", 0..=9)).covered);
    k.lock(peer("c", 3), "f", 14..=14, X);
    let told = k.engine.explain(&ask(&b, "f", 5..=14));
    assert_eq!((told.lock, told.until, told.held), (Outcome::Denied, None, 1), "only its holder knows");
    k.end_grace(1);
    let told = k.engine.explain(&ask(&b, "f", 5..=5));
    assert_eq!((told.lock, told.yielding.len()), (Outcome::Granted, 1));
    k.window(1, 99_000, true);
    let told = k.engine.explain(&ask(&b, "h", ALL));
    assert_eq!((told.lock, told.full_window, told.until), (Outcome::HeldBack, true, Some(Time(99_000))));
}

#[test]
fn a_dry_run_counts_what_would_be_marked_freed_and_made_to_wait() {
    let (mut k, b) = (in_window(), peer("b", 2));
    k.lock(b, "g", ALL, X);
    k.block(b, "f", 0..=9, X);
    k.block(b.lm(2), "g", ALL, X);
    let start = k.engine.preview(lm(1), Verb::StartGrace { full: false });
    assert_eq!((start.marked, start.waiting, start.all_wait), (1, 2, false));
    let end = k.engine.preview(lm(1), Verb::EndGrace);
    assert_eq!((end.freed, end.waiting), (1, 1));
    let release = k.engine.preview(lm(1), Verb::Release { keep: &[] });
    assert_eq!((release.marked, release.freed, release.dropped, release.waiting), (2, 2, 1, 0));
    k.end_grace(1);
    assert_eq!(k.counts(), (2, 1), "as foretold, and the record has made way");
}

#[test]
fn a_release_forgets_one_lock_manager_and_answers_nobody() {
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2));
    k.lock(b.lm(2), "h", ALL, X);
    let parked = k.send(b, "f", 0..=0, X, (false, false));
    k.block(b, "f", 0..=0, X);
    k.lock(b, "g", ALL, X);
    k.block(a.lm(2), "g", ALL, X);
    k.block(a, "i", ALL, X);
    k.release(1, &[]);
    assert_eq!(k.reply_to(parked), Some(Reply::Silent));
    assert_eq!(k.granted().len(), 1, "a waiter of the other lock manager goes on");
    assert_eq!(k.counts(), (2, 0));
    assert_eq!(k.engine.stage(lm(1)), Some(Stage::Released));
    assert!(k.events().contains(&Event::Released { lm: lm(1), locks: 3, kept: 0, waiters: 2 }));
    assert_eq!(k.engine.next_timer(), None);
    k.release(1, &[]);
    assert!(k.events().is_empty(), "once is enough");
}

#[test]
fn a_release_stops_the_callbacks_of_its_lock_manager() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1).lm(2), peer("b", 2));
    k.lock(a, "f", ALL, X);
    k.block(b, "f", ALL, X);
    k.unlock(a, "f", ALL);
    let grant = k.grant();
    k.release(1, &[]);
    assert_eq!(k.stopped(), [grant]);
    k.done(grant, CallbackOutcome::Accepted);
    assert_eq!(k.counts(), (0, 0), "a late answer changes nothing");
}

#[test]
fn where_only_loaded_addresses_are_served_the_others_get_silence() {
    let (mut k, a) = (in_window(), peer("a", 1));
    k.run(Command::AnyAddress(false));
    assert_eq!(k.lock(peer("b", 2), "g", ALL, X), Granted);
    k.release(1, &[]);
    k.send(a, "f", 0..=9, X, (false, true));
    assert_eq!(k.reply(), Some(Reply::Silent));
    assert_eq!(k.unlock(a, "f", ALL), Reply::Silent);
    assert_eq!(k.notify(a, 5), Reply::Silent);
    k.send(a.lm(3), "f", 0..=9, X, (false, true));
    assert_eq!((k.reply(), k.engine.stage(lm(3))), (Some(Reply::Silent), None));
}

#[test]
fn a_move_there_and_back_inside_one_window_loses_nothing() {
    let (mut k, a, b) = (in_window(), peer("a", 1), peer("b", 2));
    k.lock(b, "g", 0..=9, X);
    for _ in 0..2 {
        k.release(1, &[]);
        k.begin_load(1);
        k.load(a, "f", 0..=9, X, Reclaimable);
        k.load(b, "g", 0..=9, X, Reclaimable);
        k.window(1, 90_000, false);
        k.end_load(1);
        assert_eq!(k.reclaim(b, "g", 0..=9, X), Granted);
    }
    assert_eq!(k.block(b, "f", 0..=9, X), Blocked);
    assert_eq!(k.reclaim(a, "f", 0..=9, X), Granted);
    assert!(is_over(&k) && k.granted().is_empty());
}

#[test]
fn without_the_setting_no_lock_comes_with_an_entry() {
    let (mut k, a) = (in_window(), peer("a", 1));
    k.lock(a, "f", 0..=9, X);
    assert_eq!(k.fx.entries.len(), 1, "{:?}", k.fx.entries);
    k.unlock(a, "f", ALL);
    assert!(k.fx.entries.is_empty());
}
