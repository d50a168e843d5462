//! The life of a lock manager on a node: loading, releases that keep what others serve on, the hold time; and windows that are full for
//! some files only.

use super::kit::{ALL, Kit, OK, Peer, S, X, lm, peer, range};
use crate::state::{
    CallbackOutcome, Command, Condition, Effect, Entry, Event, LockState, Outcome, Preview, Question, Reply,
    Route, Settings, Stage, Status, Sweep, Verb,
};
use Condition::{Expired, Granting, Held, Reclaimable, Unconfirmed};
use Status::{Blocked, Denied, DeniedGracePeriod, Granted};

/// Client a has bytes 0-9 of f and of g through lock manager 1, b waits for those of f through lock manager 2.
fn shared() -> (Kit, Peer, Peer) {
    let (mut k, a, b) =
        (Kit::with(Settings { journal: true, ..Settings::default() }), peer("a", 1), peer("b", 2).lm(2));
    k.lock(a, "f", 0..=9, X);
    k.lock(a, "g", 0..=9, X);
    k.block(b, "f", 0..=9, X);
    (k, a, b)
}

fn silent(k: &mut Kit, p: Peer) -> bool {
    let mut all = vec![k.unlock(p, "f", ALL), k.cancel(p, "f", 0..=9, X), k.notify(p, 99), k.free_all(p)];
    k.send_test(p, "f", 0..=9, X);
    all.extend(k.reply());
    for reclaim in [false, true] {
        k.send(p, "f", 0..=9, X, (true, reclaim));
        all.extend(k.reply());
    }
    all == [(); 7].map(|()| Reply::Silent)
}

fn load_waiter(k: &mut Kit, p: Peer, seq: u64) {
    let route = Route { version: 4, tcp: true, asynchronous: false, handle: Box::from([1]) };
    let (range, mode, state, route) = (range(&(0..=9)), X, 3, &route);
    let (party, svid) = (p.party(), p.svid);
    k.run(Command::LoadWaiter { party, oh: b"oh", svid, file: b"f", range, mode, state, route, seq });
}

#[test]
fn a_release_keeps_locks_on_files_that_others_serve_in_everybodys_way() {
    let (mut k, a, b) = shared();
    k.release(1, &["f"]);
    assert!(k.events().contains(&Event::Released { lm: lm(1), locks: 1, kept: 1, waiters: 0 }));
    assert_eq!(k.fx.entries, [Entry::Swept(lm(1), Sweep::Release)]);
    assert!(k.has(a, 0..=9, X, Reclaimable) && k.granted().is_empty());
    assert_eq!(k.counts(), (1, 1));
    assert_eq!(k.lock(b, "f", 5..=5, S), Denied, "there is no window that may end");
    assert_eq!(k.lock(b, "g", 0..=9, X), Granted, "nobody serves that file");
    assert_eq!(k.engine.next_timer(), None);
}

#[test]
fn a_released_lock_manager_answers_nothing_even_where_any_address_is_served() {
    let (mut k, a, _) = shared();
    for keep in [&["f"][..], &[]] {
        k.release(1, keep);
        assert!(silent(&mut k, a) && silent(&mut k, peer("stranger", 9)));
        assert_eq!(k.counts().0, keep.len() + usize::from(keep.is_empty()), "nothing has changed");
    }
    k.release(7, &[]);
    assert!(silent(&mut k, a.lm(7)), "also one that was never loaded");
    k.run(Command::DropReleased { lm: lm(7) });
    assert!(silent(&mut k, a.lm(7)));
}

#[test]
fn what_is_kept_of_expired_locks_yields_on_and_has_no_hold_time() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2).lm(2));
    k.load(a, "f", 0..=9, X, Expired);
    k.release(1, &["f"]);
    assert!(k.has(a, 0..=9, X, Expired));
    assert_eq!(k.engine.next_timer(), None);
    assert_eq!(k.lock(b, "f", 3..=4, X), Granted);
    assert!(k.has(a, 0..=2, X, Expired) && k.has(a, 5..=9, X, Expired));
}

#[test]
fn locks_that_a_release_makes_alike_become_one() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.load(a, "f", 0..=4, X, Held);
    k.load(a, "f", 5..=9, X, Unconfirmed);
    k.load(a, "f", 10..=14, X, Reclaimable);
    k.release(1, &["f"]);
    assert_eq!(k.counts().0, 1);
    assert!(k.has(a, 0..=14, X, Reclaimable));
}

#[test]
fn a_second_release_keeps_less() {
    let (mut k, _, _) = shared();
    k.release(1, &[""]);
    assert_eq!(k.counts().0, 2);
    k.release(1, &["f"]);
    assert_eq!((k.counts().0, k.granted().len(), k.fx.entries.len()), (1, 0, 0));
    k.release(1, &["g"]);
    assert_eq!((k.counts().0, k.granted().len()), (1, 1), "the last one of a is gone, b has it");
}

#[test]
fn when_nobody_takes_it_up_in_time_what_was_kept_goes_one_by_one_and_waiters_go_on() {
    let (mut k, a, _) = shared();
    k.release(1, &[""]);
    k.run(Command::DropReleased { lm: lm(1) });
    let dropped = |e: &Event| matches!(e, Event::Dropped(s) if *s.name == *b"a");
    assert_eq!(k.events().iter().filter(|e| dropped(e)).count(), 2);
    assert!(k.events().contains(&Event::ReleasedDropped { lm: lm(1), locks: 2 }));
    assert_eq!(k.granted().len(), 1);
    assert!(silent(&mut k, a));
    k.run(Command::DropReleased { lm: lm(1) });
    k.run(Command::DropReleased { lm: lm(2) });
    assert!(k.events().is_empty() && k.counts().0 == 1, "only of one that was released");
}

#[test]
fn a_lock_manager_that_is_loaded_again_has_what_the_record_says_and_nothing_else() {
    let (mut k, a, b) = shared();
    k.lock(a.svid(2), "f", 20..=29, X);
    k.block(b.svid(2), "f", 20..=29, X);
    k.release(1, &[""]);
    k.begin_load(1);
    k.load(a, "f", 0..=9, X, Reclaimable);
    assert!(k.granted().is_empty());
    assert!(silent(&mut k, a), "not all is loaded");
    k.window(1, 90_000, false);
    assert!(k.engine.lm_rows()[0].window.is_some());
    k.end_load(1);
    assert!(k.events().contains(&Event::Loaded { lm: lm(1), clients: 1, locks: 1, dropped: 2 }));
    assert_eq!(k.granted().len(), 1, "what was unlocked elsewhere is free");
    assert_eq!(k.engine.stage(lm(1)), Some(Stage::Loaded));
    assert_eq!(k.reclaim(a, "g", 0..=9, X), Denied);
    assert_eq!(k.reclaim(a, "f", 0..=9, X), Granted);
    assert!(k.engine.lm_rows()[0].window.is_none());
}

#[test]
fn the_record_knows_better_than_what_was_kept() {
    let (mut k, a, b) = shared();
    k.release(1, &["f"]);
    k.begin_load(1);
    let other = peer("c", 3);
    k.load(other, "f", 5..=5, S, Held);
    assert!(k.granted().is_empty() && k.events().is_empty());
    assert!(k.has(a, 0..=4, X, Reclaimable) && k.has(other, 5..=5, S, Held));
    k.lock(b.svid(2), "f", 5..=5, S);
    k.end_load(1);
    assert!(k.granted().is_empty(), "b waits for c now");
    k.unlock(other, "f", ALL);
    k.unlock(b.svid(2), "f", ALL);
    assert_eq!(k.granted().len(), 1);
}

#[test]
fn adopted_waiters_get_what_became_free_when_all_is_loaded_and_not_before() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.begin_load(1);
    load_waiter(&mut k, b, 7);
    k.load(a, "f", 0..=9, X, Granting);
    load_waiter(&mut k, peer("c", 3), 8);
    assert!(k.granted().is_empty());
    k.end_load(1);
    assert!(k.granted().is_empty() && k.has(a, 0..=9, X, Unconfirmed));
    assert_eq!(k.cancel(a, "f", 0..=9, X), OK, "an unconfirmed lock can be cancelled");
    let grant = k.grant();
    k.done(grant, CallbackOutcome::Accepted);
    assert!(k.has(b, 0..=9, X, Held), "in the order of the record");
}

#[test]
fn a_window_opened_while_loading_neither_ends_nor_runs_out_before_it_is_done() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.begin_load(1);
    k.window(1, 50, false);
    k.tick(100);
    assert!(k.engine.lm_rows()[0].window.is_some());
    k.load(a, "f", 0..=9, X, Reclaimable);
    k.end_load(1);
    assert!(k.has(a, 0..=9, X, Reclaimable));
    k.tick(101);
    assert!(k.has(a, 0..=9, X, Expired));
    k.release(1, &[]);
    k.begin_load(1);
    k.window(1, 90_000, false);
    k.end_load(1);
    assert!(k.events().contains(&Event::GraceEnded(lm(1))), "nothing to reclaim");
}

#[test]
fn adopted_with_some_locks_still_to_be_reclaimed_a_window_is_for_those_only() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.begin_load(1);
    k.load(a, "f", 0..=9, X, Held);
    k.load(b, "g", 0..=9, X, Reclaimable);
    k.window(1, 90_000, false);
    k.end_load(1);
    assert_eq!(k.lock(peer("c", 3), "f", 0..=0, X), Denied, "held");
    assert_eq!(k.reclaim(a, "f", 0..=9, X), Granted, "it may think that it must");
    assert_eq!(k.reclaim(b, "g", 0..=9, X), Granted);
    assert!(k.engine.lm_rows()[0].window.is_none());
}

#[test]
fn bytes_of_the_record_that_somebody_else_has_leave_the_record() {
    let (mut k, a, b) =
        (Kit::with(Settings { journal: true, ..Settings::default() }), peer("a", 1), peer("b", 2).lm(2));
    k.lock(b, "f", 5..=5, X);
    k.begin_load(1);
    k.load(a, "f", 0..=9, X, Reclaimable);
    let unset = |e: &Entry| matches!(e, Entry::Unset(s) if s.range == range(&(5..=5)) && s.lm == lm(1));
    assert!(k.fx.entries.len() == 1 && unset(&k.fx.entries[0]));
    k.end_load(1);
    assert!(k.has(a, 0..=4, X, Reclaimable) && k.has(a, 6..=9, X, Reclaimable));
}

#[test]
fn loading_that_ends_with_a_release_leaves_what_is_to_be_kept() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2).lm(2));
    k.begin_load(1);
    k.load(a, "f", 0..=9, X, Held);
    k.load(a, "f", 20..=29, X, Expired);
    k.load(a, "g", 0..=9, X, Held);
    k.release(1, &["f"]);
    assert!(k.has(a, 0..=9, X, Reclaimable) && k.has(a, 20..=29, X, Expired));
    assert_eq!((k.counts().0, k.lock(b, "f", 0..=9, X)), (2, Denied));
    assert!(silent(&mut k, a));
}

#[test]
fn nothing_is_loaded_into_a_released_lock_manager_without_load() {
    let (mut k, a, _) = shared();
    k.release(1, &[]);
    k.load(a, "f", 0..=9, X, Held);
    assert!(matches!(k.events()[..], [Event::LoadRefused(_)]));
    load_waiter(&mut k, a, 3);
    k.run(Command::Restore { party: a.party(), state: 3 });
    k.window(1, 90_000, true);
    assert_eq!((k.engine.lm_rows()[0].window, k.engine.lm_rows()[0].clients), (None, 0));
}

#[test]
fn what_was_due_before_a_request_without_an_answer_comes_with_its_entries() {
    let (mut k, a, b) = shared();
    k.release(1, &[]);
    k.begin_load(1);
    k.load(a, "f", 20..=29, X, Reclaimable);
    k.window(1, 1_000, false);
    k.end_load(1);
    k.block(b, "f", 20..=29, X);
    k.release(3, &[]);
    k.now = 1_000;
    assert_eq!(k.unlock(a.lm(3), "f", ALL), Reply::Silent);
    assert_eq!(k.granted().len(), 1);
    assert!(k.fx.entries.contains(&Entry::Swept(lm(1), Sweep::Expire)), "{:?}", k.fx.entries);
}

#[test]
fn a_great_release_goes_in_steps_between_which_others_are_served() {
    let mut k = Kit::with(Settings { journal: true, locks_per_call: 10, ..Settings::default() });
    let (a, b) = (peer("a", 1), peer("b", 2).lm(2));
    for i in 0..100 {
        k.lock(a, &format!("{}{i}", if i % 2 == 0 { "f" } else { "g" }), 0..=9, X);
    }
    for i in 0..15 {
        k.block(a.svid(2), &format!("f{}", i * 2), 0..=9, X);
    }
    k.block(b, "f0", 0..=9, X);
    k.release(1, &["g"]);
    assert_eq!(k.fx.entries, [Entry::Swept(lm(1), Sweep::Release)], "however many they are");
    let mut steps = 0;
    while k.engine.is_working(lm(1)) {
        assert_eq!(k.engine.next_timer().map(|t| t.0), Some(0));
        assert!(silent(&mut k, a));
        assert_eq!(k.lock(b, "h", 0..=9, X), Granted);
        k.tick(0);
        let of_b = |e: &Entry| match e {
            Entry::Set(s, _) | Entry::Unset(s) => s.lm == lm(2),
            Entry::Unqueued { lm: of, .. } => *of == lm(2),
            _ => false,
        };
        assert!(k.fx.entries.iter().all(of_b), "{:?}", k.fx.entries);
        steps += 1;
    }
    assert!(steps >= 10, "{steps}");
    assert!(k.events().contains(&Event::Released { lm: lm(1), locks: 50, kept: 50, waiters: 15 }));
}

#[test]
fn a_window_with_many_unreclaimed_locks_ends_in_steps_and_is_open_until_the_last() {
    let mut k = Kit::with(Settings { journal: true, locks_per_call: 10, ..Settings::default() });
    let (a, b) = (peer("a", 1), peer("b", 2));
    for i in 0..100 {
        k.load(a, &format!("f{i:02}"), 0..=9, X, Reclaimable);
    }
    k.window(1, 1_000, false);
    k.block(b, "f99", 0..=9, X);
    let parked = k.send(b, "f98", 0..=9, X, (false, false));
    let mut answered = Vec::new();
    k.tick(2_000);
    assert!(k.engine.is_working(lm(1)));
    assert_eq!(k.reclaim(a, "f50", 0..=9, X), Granted, "late, but not too late");
    assert_eq!(k.reclaim(a, "f50", 0..=10, X), Denied, "still in the window");
    while k.engine.is_working(lm(1)) {
        answered.extend(k.reply_to(parked));
        k.tick(2_000);
    }
    answered.extend(k.reply_to(parked));
    assert_eq!(answered, [OK], "not turned away just before it is free");
    assert_eq!(k.granted().len(), 1);
    assert!(k.events().contains(&Event::Unreclaimed { lm: lm(1), locks: 99 }));
    assert_eq!(k.fx.entries.iter().filter(|e| matches!(e, Entry::Swept(..))).count(), 1);
    assert_eq!(k.reclaim(a, "f50", 0..=10, X), DeniedGracePeriod);
}

#[test]
fn a_step_ends_with_a_file_that_somebody_waits_on() {
    let mut k = Kit::with(Settings { locks_per_call: 10, ..Settings::default() });
    let (a, b) = (peer("a", 1), peer("b", 2));
    for i in 0..100 {
        k.load(a, "f", i * 10..=i * 10, X, Reclaimable);
    }
    k.load(a, "g", 0..=9, X, Reclaimable);
    k.window(1, 1_000, false);
    k.block(b, "f", 990..=990, X);
    k.block(b.svid(2), "f", 5..=995, X);
    k.tick(1_000);
    assert!(k.engine.is_working(lm(1)));
    assert_eq!((k.granted().len(), k.granted()[0].1), (1, 1), "in order of arrival");
}

#[test]
fn a_release_or_a_load_in_the_middle_of_a_great_change_completes_it_first() {
    let mut k = Kit::with(Settings { journal: true, locks_per_call: 10, ..Settings::default() });
    let a = peer("a", 1);
    for i in 0..100 {
        k.load(a, "f", i * 10..=i * 10, X, Reclaimable);
    }
    k.window(1, 1_000, false);
    k.tick(1_000);
    assert!(k.engine.is_working(lm(1)));
    k.release(1, &["f"]);
    let swept = |e: &Entry| match e {
        Entry::Swept(_, sweep) => Some(*sweep),
        _ => None,
    };
    let sweeps: Vec<Sweep> = k.fx.entries.iter().filter_map(swept).collect();
    assert_eq!(sweeps, [Sweep::Expire, Sweep::Release]);
    k.release(1, &[]);
    k.begin_load(1);
    assert_eq!(k.counts().0, 0);
    k.end_load(1);
    assert_eq!(k.engine.stage(lm(1)), Some(Stage::Loaded));
}

#[test]
fn a_window_is_full_only_for_the_files_whose_record_is_doubtful() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.load(a, "f1", 0..=9, X, Reclaimable);
    k.load(a, "g1", 0..=9, X, Reclaimable);
    k.part_window(1, 90_000, &["f"]);
    assert!(k.engine.lm_rows()[0].window.is_some_and(|w| w.full));
    assert_eq!(k.block(b, "f2", ALL, X), Blocked, "who knows who has that");
    assert_eq!(k.lock(b, "g2", ALL, X), Granted);
    k.send_test(b, "f1", 20..=29, S);
    assert_eq!(k.reply(), None);
    k.send_test(b, "g1", 20..=29, S);
    assert_eq!(k.reply(), Some(OK));
    assert_eq!(k.reclaim(b, "f3", 0..=9, X), Granted, "its word counts");
    assert_eq!(k.reclaim(b, "g3", 0..=9, X), Denied, "nothing is recorded");
    assert_eq!(k.reclaim(b, "f1", 0..=9, X), Granted, "a live claim beats a doubtful record");
    assert_eq!(k.reclaim(b, "g1", 0..=9, X), Denied);
    k.part_window(1, 90_000, &["g"]);
    assert_eq!(k.reclaim(b, "g3", 0..=9, X), Granted, "doubtful too now");
    assert_eq!(k.block(b, "f4", ALL, X), Blocked, "and that still is");
    k.reclaim(a, "g1", 0..=9, X);
    assert!(k.engine.lm_rows()[0].window.is_some(), "it does not end early");
    k.tick(90_000);
    assert_eq!(k.granted().len(), 2);
}

#[test]
fn a_full_window_of_one_lock_manager_makes_nobody_elses_record_doubtful() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2).lm(2));
    k.load(b, "f", 0..=9, X, Reclaimable);
    k.window(2, 90_000, false);
    k.window(1, 90_000, true);
    assert_eq!(k.reclaim(a, "f", 5..=5, X), Denied);
    assert_eq!(k.lock(b.svid(2), "f", 20..=29, X), Granted, "its own window is not full");
    assert_eq!(k.reclaim(b, "f", 0..=9, X), Granted);
    k.release(2, &[""]);
    assert_eq!(k.reclaim(a, "f", 5..=5, X), Denied, "nor what is kept of a released one");
}

fn ask<'a>(p: &'a Peer, file: &'a str, r: std::ops::RangeInclusive<u64>) -> Question<'a> {
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
fn explain_says_what_a_reclaim_would_get_and_that_a_released_one_is_silent() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    let reclaim = |k: &Kit, p: &Peer, file: &str| k.engine.explain(&ask(p, file, 0..=9)).reclaim;
    assert_eq!(reclaim(&k, &a, "f"), Outcome::DeniedGrace, "nothing is known of it");
    k.load(a, "f1", 0..=9, X, Reclaimable);
    k.load(a, "g1", 0..=9, X, Reclaimable);
    assert_eq!(reclaim(&k, &a, "f1"), Outcome::Granted);
    assert_eq!(reclaim(&k, &b, "f1"), Outcome::DeniedGrace);
    k.part_window(1, 90_000, &["f"]);
    assert_eq!((reclaim(&k, &b, "f1"), reclaim(&k, &b, "g1")), (Outcome::Granted, Outcome::Denied));
    assert_eq!(reclaim(&k, &a.host(7), "g1"), Outcome::Granted, "back under another address");
    let stranger = Question { client: None, owner: None, ..ask(&b, "g1", 20..=29) };
    assert_eq!(k.engine.explain(&stranger).reclaim, Outcome::Denied);
    let told = k.engine.explain(&ask(&b, "f2", 0..=9));
    assert_eq!((told.lock, told.full_window), (Outcome::HeldBack, true));
    let told = k.engine.explain(&ask(&b, "g2", 0..=9));
    assert_eq!((told.lock, told.full_window, told.until), (Outcome::Granted, false, None));
    k.release(1, &[""]);
    let told = k.engine.explain(&ask(&a, "f1", 0..=9));
    assert_eq!([told.lock, told.blocking, told.test, told.reclaim], [Outcome::Silence; 4]);
    let b = b.lm(2);
    let told = k.engine.explain(&ask(&b, "f1", 0..=9));
    assert_eq!((told.lock, told.until, told.blockers.len()), (Outcome::Denied, None, 1));
}

#[test]
fn a_dry_run_of_a_release_counts_what_would_be_kept() {
    let (k, _, _) = shared();
    let keep: [Box<[u8]>; 1] = [Box::from(*b"f")];
    let told = k.engine.preview(lm(1), Verb::Release { keep: &keep });
    assert_eq!(told, Preview { marked: 2, freed: 1, waiting: 1, ..Preview::default() });
    let told = k.engine.preview(lm(1), Verb::Release { keep: &[] });
    assert_eq!(told, Preview { marked: 2, freed: 2, ..Preview::default() }, "b gets its lock");
}

#[test]
fn every_way_back_to_an_unreclaimed_lock_is_told_as_its_reclaim() {
    let reclaimed = |k: &Kit, p: Peer| {
        let of_p = |e: &Event| {
            matches!(e, Event::Reclaimed { lm: of, client, address, .. }
                if *of == lm(p.lm) && **client == *p.name.as_bytes() && *address == p.address())
        };
        k.events().iter().filter(|e| of_p(e)).count()
    };
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    for file in ["f", "g", "h", "i"] {
        k.load(a, file, 0..=9, S, Reclaimable);
    }
    k.load(b, "i", 0..=9, S, Reclaimable);
    k.window(1, 90_000, false);
    assert_eq!((k.lock(a, "f", 2..=3, S), reclaimed(&k, a)), (Granted, 1));
    assert_eq!((k.lock(a, "f", 2..=3, S), reclaimed(&k, a)), (Granted, 0), "held already");
    assert_eq!((k.lock(a, "g", 5..=19, X), reclaimed(&k, a)), (Granted, 1), "an upgrade that goes beyond");
    assert_eq!((k.reclaim(a.host(7), "h", 0..=9, S), reclaimed(&k, a)), (Granted, 1), "as recorded");
    assert_eq!(k.block(a, "i", 0..=9, X), Blocked);
    k.unlock(b, "i", ALL);
    assert_eq!((k.granted().len(), reclaimed(&k, a)), (1, 1), "an upgrade that waited");
}

#[test]
fn a_lock_manager_in_grace_changes_nothing_for_anothers_requests_but_where_they_conflict() {
    let (mut k, a, b, c) = (Kit::new(), peer("a", 1), peer("b", 2).lm(2), peer("c", 3).lm(2));
    k.load(a, "f", 0..=9, X, Reclaimable);
    k.window(1, 90_000, false);
    assert_eq!(k.lock(b, "f", 10..=19, X), Granted);
    assert_eq!(k.lock(c, "f", 15..=15, X), Denied, "by b, and not held back");
    assert_eq!(k.block(c, "f", 15..=15, X), Blocked);
    assert_eq!(k.reclaim(c, "f", 40..=49, X), DeniedGracePeriod, "no window of its own");
    assert_eq!(k.reclaim(b, "f", 10..=19, X), Granted, "covered");
    k.part_window(1, 90_000, &[""]);
    assert_eq!(k.lock(b, "f", 20..=29, X), Granted, "in another's full window");
    k.send_test(b, "f", 30..=39, X);
    assert_eq!(k.reply(), Some(OK));
    k.unlock(b, "f", 10..=19);
    assert_eq!(k.granted().len(), 1, "nor do waiters of others wait for it");
}

#[test]
fn what_a_release_leaves_of_a_grant_under_way_is_to_be_reclaimed_and_its_callback_ends() {
    let (mut k, a, b) =
        (Kit::with(Settings { journal: true, ..Settings::default() }), peer("a", 1), peer("b", 2).lm(2));
    k.lock(a, "f", 0..=9, S);
    k.lock(b, "f", 0..=9, S);
    k.block(a, "f", 0..=9, X);
    k.unlock(b, "f", ALL);
    let grant = k.grant();
    k.release(1, &["f"]);
    assert_eq!(k.stopped(), [grant]);
    assert!(k.has(a, 0..=9, X, Reclaimable));
    k.done(grant, CallbackOutcome::RefusedFirst);
    assert!(k.has(a, 0..=9, X, Reclaimable), "a late answer changes nothing");
    assert!(k.fx.out.iter().all(|e| !matches!(e, Effect::SendGranted { .. })));
}

#[test]
fn a_client_that_is_kept_keeps_its_locks_and_no_more() {
    let (mut k, a, _) = shared();
    let other = a.host(66);
    k.run(Command::Trust { party: other.party() });
    k.release(1, &["f"]);
    let (rows, _) = k.engine.client_rows(0, usize::MAX);
    let row = rows.iter().find(|r| r.lm == lm(1)).unwrap();
    assert_eq!((row.locks, row.state, row.recorded, row.trusted.len()), (1, 0, false, 0));
    k.begin_load(1);
    let (party, svid, range) = (a.party(), a.svid, range(&(0..=9)));
    let lock = LockState { mode: X, condition: Held, state: 5, under: None };
    k.run(Command::LoadLock { party, oh: b"oh", svid, file: b"f", range, lock });
    k.end_load(1);
    assert_eq!(k.lock(a.state(5), "g", 0..=9, X), Granted);
    assert_eq!(k.counts().0, 2, "the state is that of the record: the client has not rebooted");
    k.now = 10_000_000;
    k.run(Command::Tick);
    assert!(!k.fx.entries.iter().any(|e| matches!(e, Entry::Forget { .. })));
}
