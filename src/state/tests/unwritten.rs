//! Lock managers that share files: what was freed through one is free for others only when its record says so.

use std::net::IpAddr;

use super::kit::{ALL, Kit, OK, Peer, S, X, lm, peer, range};
use crate::state::{
    CallbackOutcome, Command, Condition, Effects, Entry, Outcome, Question, Reply, Settings, Status, Sweep,
    Time,
};
use Status::{Blocked, Denied, DeniedGracePeriod, Granted};

/// A record that is written when the test says so, and three clients: a through lock manager 1, b and c through 2.
fn slow() -> (Kit, Peer, Peer, Peer) {
    let mut k = Kit::with(Settings { journal: true, ..Settings::default() });
    k.written_at_once = false;
    (k, peer("a", 1), peer("b", 2).lm(2), peer("c", 3).lm(2))
}

/// What explain says of a LOCK of byte 4, and whose record it names.
fn told(k: &Kit, p: Peer) -> (Outcome, Outcome, Option<IpAddr>) {
    let (client, owner) = (Some((p.name.as_bytes(), p.address())), Some((&b"oh"[..], p.svid)));
    let bytes = range(&(4..=4));
    let told = k.engine.explain(&Question { lm: lm(p.lm), client, owner, file: b"f", range: bytes, mode: S });
    (told.lock, told.blocking, told.unwritten)
}

fn written(k: &mut Kit, n: u8) {
    let marks: Vec<_> = k.fx.marks.iter().copied().filter(|(address, _)| *address == lm(n)).collect();
    k.fx.marks.retain(|(address, _)| *address != lm(n));
    let last = marks.last().expect("something is to be written").1;
    k.run(Command::Written { lm: lm(n), mark: last });
}

#[test]
fn what_was_freed_through_one_is_denied_through_another_until_the_record_says_so() {
    let (mut k, a, b, _) = slow();
    assert_eq!(k.lock(a, "f", 0..=9, X), Granted);
    assert_eq!(k.unlock(a, "f", 3..=5), OK);
    assert_eq!(k.lock(b, "f", 4..=4, S), Denied, "the record of lock manager 1 still has it");
    assert_eq!(told(&k, b), (Outcome::Denied, Outcome::Blocked, Some(lm(1))));
    assert_eq!(told(&k, a.svid(2)), (Outcome::Granted, Outcome::Granted, None));
    assert_eq!(k.lock(b, "g", 4..=4, S), Granted, "another file does not matter");
    assert_eq!(k.lock(b, "f", 10..=10, X), Granted, "nor do other bytes");
    assert_eq!(k.lock(a.svid(2), "f", 4..=4, S), Granted, "its own record has all in order");
    written(&mut k, 1);
    assert_eq!(k.lock(b, "f", 4..=4, S), Granted);
}

#[test]
fn a_shared_lock_that_is_still_recorded_is_in_nobodys_way_who_wants_to_read() {
    let (mut k, a, b, _) = slow();
    k.lock(a, "f", 0..=9, S);
    k.unlock(a, "f", ALL);
    assert_eq!(k.lock(b, "f", 0..=9, S), Granted);
    assert_eq!(k.lock(b, "f", 0..=9, X), Denied);
}

#[test]
fn who_waits_gets_it_when_it_is_written_and_nobody_passes_who_came_later() {
    let (mut k, a, b, c) = slow();
    k.lock(a, "f", 0..=9, X);
    assert_eq!(k.block(b, "f", 0..=9, X), Blocked);
    assert_eq!(k.block(a.svid(2), "f", 9..=9, X), Blocked);
    k.unlock(a, "f", ALL);
    assert!(k.granted().is_empty(), "the second came after the first, which waits for the record");
    assert_eq!(k.lock(a.svid(3), "f", 0..=0, S), Denied);
    assert_eq!(k.lock(c, "f", 0..=0, S), Denied);
    written(&mut k, 1);
    let grant = k.grant();
    k.done(grant, CallbackOutcome::Accepted);
    k.unlock(b, "f", ALL);
    assert!(k.granted().is_empty(), "now the record of lock manager 2 has it");
    written(&mut k, 2);
    assert_eq!(k.granted().len(), 1);
}

#[test]
fn who_came_after_one_that_waits_for_a_record_goes_on_when_that_one_gives_up() {
    for gives_up in ["unlocks", "cancels", "reboots"] {
        let (mut k, a, b, _) = slow();
        k.lock(a, "f", 0..=9, X);
        assert_eq!(k.block(b, "f", 0..=9, X), Blocked);
        assert_eq!(k.block(a.svid(2), "f", 9..=9, X), Blocked);
        k.unlock(a, "f", ALL);
        assert!(k.granted().is_empty(), "the second came after the first, which waits for the record");
        match gives_up {
            "unlocks" => drop(k.unlock(b, "f", ALL)),
            "cancels" => drop(k.cancel(b, "f", 0..=9, X)),
            _ => drop(k.notify(b, 99)),
        }
        assert_eq!(k.granted().len(), 1, "{gives_up}: its own record has all in order");
        assert_eq!(k.lock(a.svid(3), "f", 9..=9, X), Denied);
    }
}

#[test]
fn what_was_given_up_in_part_is_free_for_others_when_it_is_written() {
    let (mut k, a, b, _) = slow();
    k.lock(a, "f", 0..=9, X);
    assert_eq!(k.lock(a, "f", 0..=9, S), Granted);
    assert_eq!(k.lock(b, "f", 0..=9, S), Denied);
    written(&mut k, 1);
    assert_eq!(k.lock(b, "f", 0..=9, S), Granted);
}

#[test]
fn locks_that_expire_make_way_for_others_when_the_end_of_the_window_is_written() {
    let (mut k, a, b, _) = slow();
    k.begin_load(1);
    k.load(a, "f", 0..=9, X, Condition::Reclaimable);
    k.window(1, 1000, false);
    k.end_load(1);
    k.block(b, "f", 0..=9, X);
    k.tick(1000);
    assert!(k.granted().is_empty());
    assert_eq!(k.lock(b.svid(2), "f", 5..=5, S), Denied);
    written(&mut k, 1);
    k.grant();
    assert_eq!(k.fx.marks, [], "what expired is no loss to its record");
}

/// Lock manager 1 in a window until second 1, with a lock of `a` to be reclaimed.
fn in_window(full: bool) -> (Kit, Peer, Peer, Peer) {
    let (mut k, a, b, c) = slow();
    k.begin_load(1);
    k.load(a, "f", 0..=9, X, Condition::Reclaimable);
    k.window(1, 1000, full);
    k.end_load(1);
    (k, a, b, c)
}

#[test]
fn a_second_window_does_not_make_the_end_of_the_first_one_written() {
    for full in [false, true] {
        let (mut k, _, b, c) = in_window(full);
        assert_eq!(k.block(c, "f", 0..=3, X), Blocked);
        k.tick(1000);
        assert_eq!(k.lock(b, "f", 5..=5, S), Denied);
        k.window(1, 5000, false);
        assert_eq!(k.lock(b, "f", 5..=5, S), Denied, "full: {full}: the record of 1 still has it");
        assert!(k.granted().is_empty());
        written(&mut k, 1);
        assert_eq!((k.granted().len(), k.lock(b, "f", 5..=5, S)), (1, Granted));
    }
}

#[test]
fn what_has_expired_stays_in_others_way_past_the_hold_time_until_that_is_written() {
    let (mut k, a, b, _) = slow();
    k.engine.settings.hold = std::time::Duration::from_secs(1);
    k.begin_load(1);
    k.load(a, "f", 0..=9, X, Condition::Reclaimable);
    k.window(1, 1000, false);
    k.end_load(1);
    k.tick(1000);
    assert_eq!(k.lock(b, "f", 5..=5, S), Denied);
    k.tick(2001);
    assert_eq!(k.lock(b, "f", 5..=5, S), Denied, "the record of 1 still has it");
    written(&mut k, 1);
    assert_eq!((k.lock(b, "f", 5..=5, S), k.counts().0), (Granted, 1));
}

#[test]
fn who_waits_behind_one_that_waits_for_the_end_of_a_window_goes_on_when_that_one_gives_up() {
    for gives_up in ["cancels", "unlocks", "reboots", "is freed"] {
        let (mut k, a, _, c) = in_window(false);
        assert_eq!(k.block(c, "f", 4..=7, X), Blocked);
        k.tick(1000);
        assert_eq!(k.block(a.svid(2), "f", 2..=6, X), Blocked, "behind c");
        match gives_up {
            "cancels" => drop(k.cancel(c, "f", 4..=7, X)),
            "unlocks" => drop(k.unlock(c, "f", ALL)),
            "reboots" => drop(k.notify(c, 9)),
            _ => k.run(Command::FreeClient { lm: lm(2), name: b"c", address: c.address() }),
        }
        assert_eq!(k.granted().len(), 1, "{gives_up}");
    }
}

#[test]
fn who_waits_behind_one_that_waits_for_the_end_of_a_window_is_looked_at_when_it_is_written() {
    let (mut k, a, _, c) = in_window(false);
    assert_eq!(k.block(c, "f", 4..=7, S), Blocked);
    k.tick(1000);
    assert_eq!(k.block(a.svid(2), "f", 2..=6, X), Blocked, "behind c");
    written(&mut k, 1);
    let grant = k.grant();
    k.done(grant, CallbackOutcome::Accepted);
    k.unlock(c, "f", ALL);
    written(&mut k, 2);
    assert_eq!(k.granted().len(), 1);
}

#[test]
fn a_reclaim_by_word_waits_for_the_record_of_another_lock_manager() {
    let (mut k, a, _, c) = slow();
    k.window(1, 90_000, true);
    assert_eq!(k.lock(c, "f", 0..=9, X), Granted);
    assert_eq!(k.unlock(c, "f", ALL), OK);
    let token = k.send(a.state(0), "f", 0..=9, X, (false, true));
    assert_eq!(k.reply_to(token), Some(Reply::Silent), "the record of 2 still has the lock of c");
    written(&mut k, 2);
    let token = k.send(a.state(0), "f", 0..=9, X, (false, true));
    assert_eq!(k.reply_to(token), Some(Reply::Status(Granted)));
}

#[test]
fn a_released_lock_manager_whose_windows_end_is_unwritten_is_said_to_be_in_the_way() {
    let (mut k, _, b, _) = in_window(false);
    k.tick(1000);
    k.release(1, &["f"]);
    assert_eq!((k.lock(b, "f", 5..=5, S), k.engine.is_unwritten(lm(1))), (Denied, true));
}

#[test]
fn what_expires_with_a_full_window_is_kept_for_nobody_but_in_others_way_until_that_is_written() {
    let (mut k, a, b, _) = slow();
    k.begin_load(1);
    k.load(a, "f", 0..=9, X, Condition::Reclaimable);
    k.load(a, "g", 0..=9, X, Condition::Reclaimable);
    k.window(1, 1000, true);
    k.end_load(1);
    k.block(b, "f", 0..=9, X);
    k.tick(1000);
    let sweeps: Vec<_> = k.fx.entries.iter().filter(|e| matches!(e, Entry::Swept(..))).collect();
    let expected = [&Entry::Swept(lm(1), Sweep::Expire), &Entry::Swept(lm(1), Sweep::DropExpired)];
    assert_eq!(sweeps, expected, "together: a crash in between would leave it to be reclaimed late");
    assert!(k.granted().is_empty());
    assert_eq!(k.lock(b.svid(2), "f", 5..=5, S), Denied);
    assert_eq!(k.reclaim(a, "g", 0..=9, X), DeniedGracePeriod);
    written(&mut k, 1);
    k.grant();
    assert_eq!(k.counts(), (1, 0), "the other file's is gone too");
}

#[test]
fn a_refused_grant_behind_a_full_window_leaves_nothing_of_what_expired_with_it() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.begin_load(1);
    k.load(a, "f", 0..=9, S, Condition::Reclaimable);
    k.window(1, 1000, true);
    k.end_load(1);
    k.block(a, "f", 0..=4, X);
    k.tick(1000);
    let granted = k.granted();
    assert_eq!(granted.len(), 1);
    k.run(Command::CallbackDone { grant: granted[0].0, outcome: CallbackOutcome::RefusedFirst });
    assert_eq!(k.counts(), (0, 0));
}

#[test]
fn a_released_lock_managers_unwritten_locks_stay_in_the_way_until_its_record_was_read_anew() {
    for keep in [&["f"][..], &[]] {
        let (mut k, a, b, _) = slow();
        k.lock(a, "f", 0..=9, X);
        k.unlock(a, "f", ALL);
        k.release(1, keep);
        let stays = !keep.is_empty();
        assert_eq!(k.lock(b, "f", 0..=9, X), if stays { Denied } else { Granted }, "{keep:?}");
        k.begin_load(1);
        k.end_load(1);
        assert_eq!(k.lock(b, "f", 0..=9, X), Granted);
    }
}

#[test]
fn nothing_of_a_released_lock_manager_is_in_the_way_after_its_hold_time() {
    let (mut k, a, b, _) = slow();
    k.lock(a, "f", 0..=9, X);
    k.unlock(a, "f", ALL);
    k.release(1, &["f"]);
    k.block(b, "f", 0..=9, X);
    k.run(Command::DropReleased { lm: lm(1) });
    k.grant();
}

#[test]
fn marks_of_an_earlier_stay_say_nothing_of_this_one() {
    let (mut k, a, b, _) = slow();
    k.lock(a, "f", 0..=9, X);
    k.unlock(a, "f", ALL);
    let old = k.fx.marks[0];
    k.fx.marks.clear();
    k.release(1, &["f"]);
    k.begin_load(1);
    k.end_load(1);
    k.lock(a, "f", 0..=9, X);
    k.unlock(a, "f", ALL);
    k.run(Command::Written { lm: old.0, mark: old.1 });
    assert_eq!(k.lock(b, "f", 0..=9, X), Denied);
    written(&mut k, 1);
    assert_eq!(k.lock(b, "f", 0..=9, X), Granted);
}

#[test]
fn a_test_and_a_repeated_lock_do_not_care_about_records() {
    let (mut k, a, b, _) = slow();
    k.lock(b, "f", 0..=4, S);
    k.lock(a, "f", 0..=9, S);
    k.unlock(a, "f", ALL);
    k.send_test(b, "f", 0..=9, X);
    assert_eq!(k.reply(), Some(Reply::Status(Granted)));
    assert_eq!(k.lock(b, "f", 0..=4, S), Granted);
    assert_eq!(k.lock(b, "f", 0..=4, X), Denied, "that would be more than it has");
}

#[test]
fn without_a_journal_nobody_waits_for_one() {
    let (mut k, a, b, _) = slow();
    k.engine = crate::state::Engine::new(Settings::default());
    k.fx = Effects::default();
    k.now = 0;
    k.lock(a, "f", 0..=9, X);
    k.unlock(a, "f", ALL);
    assert!(k.fx.marks.is_empty());
    assert_eq!(k.lock(b, "f", 0..=9, X), Granted);
    assert_eq!(k.engine.next_timer(), Some(Time(600_000)));
}
