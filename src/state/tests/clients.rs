//! NSM states, addresses, limits and DOS shares: what is a client's, and who may say so.

use super::kit::{ALL, Kit, OK, Peer, S, X, peer};
use crate::state::{
    Access, AddressCheck, Command, Condition, Deny, Event, Limits, RefusedKind, Reply, Settings, Status,
};
use Status::{Blocked, Denied, DeniedGracePeriod, DeniedNolocks, Granted};

const READ: Access = Access(1);
const WRITE: Access = Access(2);
const NONE: Access = Access(0);

fn with_check(address_check: AddressCheck) -> Kit {
    Kit::with(Settings { address_check, ..Settings::default() })
}

fn with_limits(f: impl FnOnce(&mut Limits)) -> Kit {
    let mut settings = Settings::default();
    f(&mut settings.limits);
    Kit::with(settings)
}

fn share(k: &mut Kit, p: Peer, (access, deny): (Access, Access), reclaim: bool) -> Reply {
    let token = k.token();
    k.run(Command::Share { party: p.party(), oh: &[p.svid as u8], file: b"f", access, deny, reclaim, token });
    k.reply().unwrap()
}

fn unshare(k: &mut Kit, p: Peer) -> Reply {
    let token = k.token();
    k.run(Command::Unshare { party: p.party(), oh: &[p.svid as u8], file: b"f", token });
    k.reply().unwrap()
}

#[test]
fn a_lock_with_another_state_frees_the_older_ones_and_the_waiters() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    k.lock(a.svid(2), "g", 0..=9, X);
    k.lock(b, "h", 0..=9, X);
    k.block(a, "h", 0..=9, X);
    assert_eq!(k.lock(a.state(5), "i", 0..=9, X), Granted);
    assert!(k.events().iter().any(|e| matches!(e, Event::FreedByReboot { locks: 2, state: 5, .. })));
    assert_eq!(k.counts(), (2, 0));
}

#[test]
fn a_lock_from_before_a_reboot_gets_no_answer_and_frees_nothing() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.lock(a.state(3), "e", 0..=9, X);
    k.now = 1_000;
    k.lock(a.state(5), "f", 0..=9, X);
    k.now = 180_999;
    k.send(a.state(3), "g", 0..=9, X, (true, false));
    assert_eq!(k.reply(), Some(Reply::Silent));
    assert!(k.events().iter().any(|e| matches!(e, Event::Denied { why: Deny::Late, .. })));
    assert_eq!(k.counts(), (1, 0));
    // A host that has lost its NSM state asks again for as long as it is not answered.
    k.now = 181_000;
    assert_eq!(k.lock(a.state(3), "g", 0..=9, X), Granted);
    assert_eq!(k.counts(), (1, 0), "what it had before is gone");
}

#[test]
fn a_notice_that_is_ahead_of_what_the_clients_locks_say_keeps_it_from_nothing() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.lock(a.state(3), "f", 0..=9, X);
    assert_eq!(k.notify(a, 5), Reply::Void);
    assert_eq!(k.counts(), (0, 0));
    assert_eq!(k.lock(a.state(3), "f", 0..=9, X), Granted);
}

#[test]
fn a_lock_from_before_a_reboot_frees_nothing_after_the_notice_and_a_lock_under_the_new_state() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.lock(a.state(3), "f", 0..=9, X);
    assert_eq!(k.notify(a, 5), Reply::Void);
    assert_eq!(k.lock(a.state(5), "f", 0..=9, X), Granted);
    k.send(a.state(3), "f", 20..=29, X, (true, false));
    assert_eq!(k.reply(), Some(Reply::Silent));
    assert!(k.has(a, 0..=9, X, Condition::Held), "what it has taken since is still there");
    assert_eq!(k.counts(), (1, 0));
}

#[test]
fn a_strangers_name_is_not_taken_for_a_host_that_reboots() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    let stranger = a.host(9).state(0);
    k.lock(a, "f", 0..=9, X);
    assert_eq!(k.lock(stranger, "f", 0..=9, X), Denied, "it is known by that name now, and has nothing");
    assert_eq!(k.notify(a, 5), Reply::Void);
    assert_eq!(k.lock(a.state(5), "f", 0..=9, X), Granted);
    k.unlock(stranger, "f", ALL);
    assert_eq!(k.counts(), (1, 0), "nor may it free what the host has taken since");
}

#[test]
fn a_notice_of_a_name_that_has_nothing_is_answered() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.lock(a, "f", 0..=9, X);
    assert_eq!(k.notify(a.host(2), 5), Reply::Silent, "it is the other host's");
    k.unlock(a, "f", ALL);
    assert_eq!(k.notify(a.host(2), 5), Reply::Void);
}

#[test]
fn a_lock_that_tells_of_a_reboot_frees_the_shares_too() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.lock(a, "g", 0..=9, X);
    share(&mut k, a, (READ, READ), false);
    k.lock(a.state(5), "g", 0..=9, X);
    assert_eq!(share(&mut k, peer("b", 2), (READ, NONE), false), OK);
}

#[test]
fn a_notice_frees_only_what_was_taken_under_an_older_state_or_before_any_was_known() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.lock(a.state(0), "e", 0..=9, X);
    k.lock(a, "f", 0..=9, X);
    k.notify(a, 3);
    assert_eq!(k.counts().0, 2, "the state they have");
    k.notify(a, 1);
    assert_eq!(k.counts().0, 2, "an old one");
    assert!(k.events().iter().any(|e| matches!(e, Event::NoticeIgnored { locks: 2, state: 1, .. })));
    k.notify(a, 5);
    assert_eq!(k.counts().0, 0, "that there was a state since makes the one before older than this");
    k.lock(a.state(5), "f", 0..=9, X);
    k.notify(a, 5);
    assert_eq!(k.counts().0, 1, "the notice came late: the lock is newer");
}

#[test]
fn a_late_notice_after_the_lock_that_told_of_the_reboot_frees_nothing() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.lock(a, "f", 0..=9, X);
    k.lock(a.state(5), "f", 0..=9, X);
    assert_eq!(k.notify(a, 5), Reply::Void);
    assert_eq!(k.notify(a, 3), Reply::Void);
    assert_eq!(k.counts().0, 1);
}

#[test]
fn a_reclaim_keeps_the_recorded_state() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.run(Command::Restore { party: a.party(), state: 3 });
    k.grace(1, 90_000);
    assert_eq!(k.reclaim(a, "f", 0..=9, X), Granted);
    assert_eq!(k.reclaim(a, "f", 0..=9, X), Granted);
    k.end_grace(1);
    assert_eq!(k.lock(a, "f", 20..=29, X), Granted);
    assert_eq!(k.counts().0, 2, "the plain LOCK of the same state frees nothing");
    k.notify(a, 5);
    assert_eq!(k.counts().0, 0);
}

#[test]
fn what_is_reclaimed_under_an_incomplete_record_is_no_older_than_the_clients_next_lock() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.begin_load(1);
    // The record may have lost that the client has rebooted since, and under which state it took this.
    k.run(Command::Restore { party: a.party(), state: 0 });
    k.load(a.state(0), "f", 0..=9, X, Condition::Reclaimable);
    k.grace(1, 90_000);
    k.end_load(1);
    assert_eq!(k.reclaim(a, "f", 0..=9, X), Granted);
    assert_eq!(k.reclaim(a, "g", 0..=9, X), Granted);
    k.notify(a, 5);
    assert_eq!(k.counts().0, 2, "a notice that was repeated");
    k.end_grace(1);
    assert_eq!(k.lock(a.state(5), "h", 0..=9, X), Granted);
    assert_eq!(k.counts().0, 3);
    k.notify(a, 7);
    assert_eq!(k.counts().0, 0, "a reboot since");
}

#[test]
fn a_reboot_long_after_an_incomplete_record_frees_what_was_reclaimed_under_it() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.begin_load(1);
    k.run(Command::Restore { party: a.party(), state: 0 });
    k.load(a.state(0), "f", 0..=9, X, Condition::Reclaimable);
    k.window(1, 90_000, true);
    k.end_load(1);
    assert_eq!(k.reclaim(a, "f", 0..=9, X), Granted);
    k.tick(600_000);
    k.notify(a, 7);
    assert_eq!(k.counts().0, 0, "no repeated notice comes so late");
    assert_eq!(k.lock(b, "f", 0..=9, X), Granted);
}

#[test]
fn a_reboot_of_one_that_never_told_its_state_frees_its_locks_unless_the_notice_may_be_of_the_boot_before() {
    let (mut k, a) = (Kit::new(), peer("a", 1).state(0));
    k.lock(a, "f", 0..=9, X);
    k.notify(a, 3);
    assert_eq!(k.counts().0, 1, "the notice of the boot before it took the lock");
    k.notify(a, 5);
    assert_eq!(k.counts().0, 0);
    let mut k = Kit::new();
    k.lock(a, "f", 0..=9, X);
    k.tick(600_000);
    k.notify(a, 3);
    assert_eq!(k.counts().0, 0);
}

#[test]
fn a_notice_serves_who_waited_in_order() {
    let (mut k, a, b, c) = (Kit::new(), peer("a", 1), peer("b", 2), peer("c", 3));
    k.lock(a, "f", 0..=9, X);
    k.lock(a.svid(2), "f", 10..=19, X);
    k.block(b, "f", 0..=19, X);
    k.block(c, "f", 0..=9, X);
    k.notify(a, 5);
    let granted = k.granted();
    assert_eq!((granted.len(), granted[0].2.end), (1, 19), "not what the first freed lock lets in");
}

#[test]
fn a_notice_may_use_the_full_or_the_short_name_from_the_clients_address() {
    for (locked, told) in [("host1", "host1.example.org"), ("host1.example.org", "HOST1")] {
        let (mut k, a) = (Kit::new(), peer(locked, 1));
        k.lock(a, "f", 0..=9, X);
        assert_eq!(k.notify(a.name(told).host(2), 5), Reply::Void, "from elsewhere: a stranger to us");
        assert_eq!(k.counts().0, 1);
        assert_eq!(k.notify(a.name("host10"), 5), Reply::Silent, "it shall try its other names");
        assert_eq!(k.counts().0, 1);
        assert_eq!(k.notify(a.name(told), 5), Reply::Void);
        assert_eq!(k.counts().0, 0);
    }
}

#[test]
fn a_strangers_word_frees_nothing_and_is_met_with_silence() {
    for check in [AddressCheck::Learn, AddressCheck::Strict] {
        let (mut k, a, b) = (with_check(check), peer("a", 1), peer("b", 2));
        let stranger = a.host(66);
        k.lock(a, "f", 0..=9, X);
        k.lock(b, "g", 0..=9, X);
        k.block(a, "g", 0..=9, X);
        share(&mut k, a, (READ, READ), false);
        let mut kinds = Vec::new();
        let mut silent = |k: &Kit, reply: Reply| {
            assert_eq!(reply, Reply::Silent);
            let refused = k.refused();
            assert_eq!(refused.len(), 1);
            assert_eq!((refused[0].1, refused[0].2), (stranger.address(), a.address()));
            kinds.push(refused[0].0);
        };
        let reply = k.unlock(stranger, "f", ALL);
        silent(&k, reply);
        let reply = k.cancel(stranger, "g", 0..=9, X);
        silent(&k, reply);
        let reply = unshare(&mut k, stranger);
        silent(&k, reply);
        let reply = k.free_all(stranger);
        silent(&k, reply);
        let reply = k.notify(stranger, 5);
        silent(&k, reply);
        use RefusedKind::{Cancel, FreeAll, Notify, Unlock, Unshare};
        assert_eq!(kinds, [Unlock, Cancel, Unshare, FreeAll, Notify]);
        assert_eq!((k.counts(), k.engine.totals().refused), ((2, 1), 5));
        assert_eq!(k.unlock(stranger, "nothing", ALL), OK, "nothing is kept from it");
    }
}

#[test]
fn an_address_that_an_operator_trusts_may_speak_for_the_client() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    let other = a.host(66);
    k.lock(a, "f", 0..=9, X);
    k.lock(a, "g", 0..=9, X);
    share(&mut k, a, (READ, READ), false);
    assert_eq!(k.unlock(other, "f", ALL), Reply::Silent);
    k.run(Command::Trust { party: other.party() });
    assert_eq!(k.unlock(other, "f", ALL), OK);
    assert_eq!(unshare(&mut k, other), OK);
    assert_eq!(k.counts().0, 1);
    assert_eq!(k.notify(other, 5), Reply::Void);
    assert_eq!(k.counts().0, 0);
}

#[test]
fn a_second_address_with_the_same_state_speaks_for_the_client_too() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    let other = a.host(2);
    k.lock(a, "f", 0..=9, X);
    k.lock(other, "f", 20..=29, X);
    assert_eq!(k.reclaim(other, "f", 0..=9, X), Granted);
    assert_eq!(k.unlock(other, "f", 0..=9), OK);
    assert_eq!(k.counts().0, 1);
}

#[test]
fn with_the_check_off_any_address_speaks_for_the_client() {
    let (mut k, a) = (with_check(AddressCheck::Off), peer("a", 1));
    k.lock(a, "f", 0..=9, X);
    assert_eq!(k.unlock(a.host(66), "f", ALL), OK);
    assert_eq!(k.counts().0, 0);
}

#[test]
fn two_hosts_of_one_name_do_not_touch_each_other() {
    let (mut k, a) = (Kit::new(), peer("localhost", 1));
    let b = a.host(2).state(7);
    k.lock(a, "f", 0..=9, S);
    k.lock(b, "f", 0..=9, S);
    assert_eq!(k.lock(b, "f", 0..=9, X), Denied, "they are two clients");
    k.unlock(a, "f", ALL);
    assert_eq!(k.locks()[0].0, b.address());
    k.lock(a, "f", 0..=9, S);
    k.notify(a, 9);
    assert_eq!(k.locks()[0].0, b.address());
    k.lock(a.state(9), "f", 0..=9, S);
    k.free_all(b);
    assert_eq!(k.locks()[0].0, a.address());
    assert_eq!(k.reclaim(b, "f", 0..=9, S), DeniedGracePeriod);
}

#[test]
fn cloned_hosts_with_one_name_and_state_free_their_own_locks_first() {
    let (mut k, a) = (Kit::new(), peer("localhost", 1));
    let b = a.host(2);
    k.lock(a, "f", 0..=9, S);
    k.lock(b, "f", 0..=9, S);
    assert_eq!(k.unlock(a, "f", ALL), OK);
    assert_eq!(k.locks().len(), 1);
    assert_eq!(k.locks()[0].0, b.address());
}

#[test]
fn one_address_unlocking_the_file_of_another_does_not_trip_over_what_is_gone() {
    // Both clients know the owner; only the first has anything on this file.
    let (mut k, a) = (with_check(AddressCheck::Off), peer("a", 1));
    let other = a.host(2);
    k.lock(a, "f", 0..=9, X);
    k.lock(other, "g", 0..=9, X);
    assert_eq!(k.unlock(a, "f", ALL), OK);
    k.lock(a, "f", 0..=9, X);
    assert_eq!(k.unlock(other, "f", ALL), OK);
    assert_eq!(k.counts().0, 1);
}

#[test]
fn a_client_at_its_limit_of_locks_is_refused_and_others_are_not() {
    let (mut k, a, b) = (with_limits(|l| l.locks_per_client = 3), peer("a", 1), peer("b", 2));
    for i in 0..3 {
        assert_eq!(k.lock(a, "f", i * 10..=i * 10 + 4, X), Granted);
    }
    assert_eq!(k.lock(a.svid(2), "g", 0..=0, X), DeniedNolocks);
    assert!(k.events().iter().any(|e| matches!(e, Event::Denied { why: Deny::LocksPerClient, .. })));
    assert_eq!(k.lock(a, "f", 0..=4, X), Granted, "repeated");
    assert_eq!(k.lock(a, "f", 2..=2, S), DeniedNolocks, "a downgrade would split it");
    assert_eq!(k.lock(b, "g", 0..=0, X), Granted);
    assert_eq!(k.unlock(a, "f", 2..=2), OK, "an UNLOCK is always done");
    assert_eq!(k.counts().0, 5);
}

#[test]
fn a_client_at_its_limit_reclaims_no_more_than_that() {
    let (mut k, a) = (with_limits(|l| l.locks_per_client = 2), peer("a", 1));
    k.grace(1, 90_000);
    for i in 0..2 {
        assert_eq!(k.reclaim(a, "f", i * 10..=i * 10, X), Granted);
    }
    assert_eq!(k.reclaim(a, "f", 5..=5, X), DeniedNolocks);
    assert_eq!(k.reclaim(a, "f", 10..=10, X), Granted, "repeated");
}

#[test]
fn a_client_at_its_limit_gets_no_more_by_having_been_held_back() {
    let (mut k, a) = (with_limits(|l| l.locks_per_client = 2), peer("a", 1));
    k.grace(1, 1_000);
    let held: Vec<_> = (0..3).map(|i| k.send(a, "f", i * 10..=i * 10, X, (false, false))).collect();
    k.tick(1_000);
    let got: Vec<_> = held.iter().map(|token| k.reply_to(*token)).collect();
    assert_eq!(got, [Some(OK), Some(OK), Some(Reply::Status(DeniedNolocks))]);
}

#[test]
fn a_client_at_its_limit_of_waiters_is_refused_and_others_are_not() {
    let (mut k, a, b) = (with_limits(|l| l.waiters_per_client = 2), peer("a", 1), peer("b", 2));
    k.lock(peer("c", 3), "f", 0..=9, X);
    assert_eq!(k.block(a, "f", 0..=0, X), Blocked);
    assert_eq!(k.block(a, "f", 1..=1, X), Blocked);
    assert_eq!(k.block(a, "f", 2..=2, X), DeniedNolocks);
    assert_eq!(k.block(a, "f", 0..=0, X), Blocked, "repeated");
    assert_eq!(k.block(b, "f", 0..=0, X), Blocked);
    k.cancel(a, "f", 0..=0, X);
    assert_eq!(k.block(a, "f", 2..=2, X), Blocked);
}

#[test]
fn limits_of_clients_and_of_names_per_address_leave_the_known_ones_alone() {
    let (mut k, a) = (with_limits(|l| l.clients = 1), peer("a", 1));
    k.lock(a, "f", 0..=0, X);
    assert_eq!(k.lock(peer("b", 2), "f", 9..=9, X), DeniedNolocks);
    assert_eq!(k.lock(a, "f", 9..=9, X), Granted);
    let mut k = with_limits(|l| l.names_per_address = 1);
    k.lock(a, "f", 0..=0, X);
    assert_eq!(k.lock(a.name("b"), "f", 9..=9, X), DeniedNolocks);
    assert_eq!(k.lock(peer("b", 2), "f", 9..=9, X), Granted);
    assert_eq!(k.reclaim(a.name("b"), "f", 9..=9, X), DeniedGracePeriod);
}

#[test]
fn free_all_takes_locks_waiters_and_shares_of_that_client_only() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    k.lock(b, "g", 0..=9, X);
    k.block(a, "g", 0..=9, X);
    k.lock(a.lm(2), "h", 0..=9, X);
    share(&mut k, a, (READ, READ), false);
    assert_eq!(k.free_all(a), Reply::Void);
    assert_eq!(k.counts(), (2, 0));
    assert_eq!(share(&mut k, b, (READ, READ), false), OK);
}

#[test]
fn free_all_in_a_window_drops_what_was_held_back_in_silence() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.grace(1, 90_000);
    let token = k.send(a, "f", 0..=9, X, (false, false));
    k.free_all(a);
    assert_eq!(k.reply_to(token), Some(Reply::Silent));
}

#[test]
fn shares_exclude_by_access_and_deny() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    assert_eq!(share(&mut k, a, (READ, WRITE), false), OK);
    assert_eq!(share(&mut k, a, (READ, WRITE), false), OK, "repeated");
    assert_eq!(share(&mut k, b, (WRITE, NONE), false), Reply::Status(Denied));
    assert_eq!(share(&mut k, b, (READ, READ), false), Reply::Status(Denied), "it denies what a does");
    assert_eq!(share(&mut k, b, (READ, NONE), false), OK);
    assert_eq!(share(&mut k, a.svid(2), (WRITE, NONE), false), Reply::Status(Denied), "another owner");
    assert_eq!(k.lock(b, "f", 0..=9, X), Granted, "they never meet byte ranges");
    assert_eq!(unshare(&mut k, a), OK);
    assert_eq!(unshare(&mut k, a), OK, "repeated");
    assert_eq!(share(&mut k, b, (WRITE, NONE), false), OK);
}

#[test]
fn in_a_full_window_shares_are_reclaimed_and_not_taken() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    let no = Reply::Status(DeniedGracePeriod);
    assert_eq!(share(&mut k, a, (READ, WRITE), true), no);
    k.grace(1, 90_000);
    assert_eq!(share(&mut k, a, (READ, WRITE), false), no);
    assert_eq!(share(&mut k, a, (READ, WRITE), true), OK);
    assert_eq!(share(&mut k, a, (READ, WRITE), false), OK, "it has it");
}

#[test]
fn a_hundred_thousand_locks_go_with_one_notice() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.careful = false;
    for i in 0..100_000u32 {
        k.lock(a.svid(i % 100), "f", u64::from(i) * 2..=u64::from(i) * 2, X);
    }
    k.block(b, "f", ALL, S);
    k.notify(a, 5);
    assert_eq!((k.counts(), k.granted().len()), ((1, 0), 1));
    k.engine.check();
}
