//! What the Linux client does, one behaviour after the other.

use super::*;

const WAIT: Verb = Verb::Lock { block: true };
const TRY: Verb = Verb::Lock { block: false };

#[test]
fn silence_is_answered_with_the_same_bytes_again() {
    let mut rig = Rig::new(Kind::Linux);
    let first = rig.start(0, TRY, 0, 9);
    rig.run(SECOND - 1);
    assert_eq!(rig.calls(), []);
    rig.run(1);
    assert_eq!(rig.one(), first);
    rig.run(2 * SECOND);
    assert_eq!(rig.one(), first);
    rig.run(300 * SECOND);
    let later = rig.calls();
    assert!((10..40).contains(&later.len()), "{}", later.len());
    assert!(later.iter().all(|call| *call == first));
}

#[test]
fn a_reset_of_the_connection_brings_everything_again_at_once() {
    let mut rig = Rig::new(Kind::Linux);
    rig.client.servers[0].tcp = true;
    let first = rig.start(0, TRY, 0, 9);
    rig.run(9 * SECOND);
    assert_eq!(rig.calls(), [], "TCP waits longer");
    rig.client.reset(rig.now, LM, &mut rig.out);
    assert_eq!(rig.one(), first);
}

#[test]
fn a_blocked_lock_is_asked_for_every_30_seconds_as_a_new_call() {
    let mut rig = Rig::new(Kind::Linux);
    let first = rig.start(0, WAIT, 0, 9);
    rig.answer(&first, BLOCKED);
    rig.run(30 * SECOND - 1);
    assert_eq!(rig.calls(), []);
    rig.run(1);
    let poll = rig.one();
    assert_eq!(poll.request, first.request);
    assert_ne!(poll.message[..4], first.message[..4], "another xid");
    rig.answer(&poll, GRANTED);
    assert_eq!(rig.held(0), [(0, 9)]);
}

#[test]
fn a_grace_denial_costs_5_seconds() {
    let mut rig = Rig::new(Kind::Linux);
    let first = rig.start(0, TRY, 0, 9);
    rig.answer(&first, GRACE);
    rig.run(5 * SECOND - 1);
    assert_eq!(rig.calls(), []);
    rig.run(1);
    let second = rig.one();
    assert_eq!(second.request, first.request);
    assert_ne!(second.message[..4], first.message[..4]);
}

#[test]
fn granted_is_taken_once_and_its_copies_are_accepted_while_it_is_held() {
    let mut rig = Rig::new(Kind::Linux);
    rig.client.forgetful = true;
    assert!(!rig.granted(1, 0, 0, 9), "nobody waits");
    let first = rig.start(0, WAIT, 0, 9);
    rig.answer(&first, BLOCKED);
    assert!(!rig.granted(1, 0, 0, 8), "other bytes");
    assert!(!rig.granted(1, 1, 0, 9), "another owner");
    assert!(rig.granted(2, 0, 0, 9));
    assert_eq!(rig.held(0), [(0, 9)]);
    assert!(rig.granted(2, 0, 0, 9), "a copy");
    assert!(!rig.granted(3, 0, 0, 9), "a new call for what nobody waits for any more");
    rig.client.forgetful = false;
    assert!(rig.granted(3, 0, 0, 9));
    rig.calls();
    let unlock = rig.start(0, Verb::Unlock, 5, 5);
    assert!(!rig.granted(2, 0, 0, 9), "a copy that comes too late");
    rig.answer(&unlock, GRANTED);
    assert_eq!(rig.held(0), [(0, 4), (6, 9)]);
}

#[test]
fn granted_may_overtake_blocked() {
    let mut rig = Rig::new(Kind::Linux);
    let first = rig.start(0, WAIT, 0, 9);
    assert!(rig.granted(1, 0, 0, 9));
    assert_eq!(rig.held(0), [(0, 9)]);
    rig.answer(&first, BLOCKED);
    assert!(rig.client.owners[0].is_idle());
    assert_eq!(rig.held(0), [(0, 9)]);
}

#[test]
fn an_interrupted_wait_is_cancelled_until_that_is_answered() {
    let mut rig = Rig::new(Kind::Linux);
    let limit = (rig.now + 10 * SECOND, false);
    let first = rig.start_until(0, WAIT, (0, 9), limit);
    rig.answer(&first, BLOCKED);
    rig.run(10 * SECOND);
    let cancel = rig.one();
    let Request::Lock { lock, .. } = first.request else { panic!() };
    assert_eq!(cancel.request, Request::Cancel { lock });
    assert!(!rig.granted(1, 0, 0, 9), "too late");
    rig.run(SECOND);
    assert_eq!(rig.one(), cancel);
    rig.answer(&cancel, GRANTED);
    assert!(rig.client.owners[0].is_idle());
}

#[test]
fn what_could_not_be_cancelled_is_unlocked() {
    let mut rig = Rig::new(Kind::Linux);
    let limit = (rig.now + SECOND, false);
    let first = rig.start_until(0, WAIT, (0, 9), limit);
    rig.answer(&first, BLOCKED);
    rig.run(SECOND);
    let cancel = rig.one();
    rig.answer(&cancel, DENIED);
    let unlock = rig.one();
    let Request::Lock { lock, .. } = first.request else { panic!() };
    let expected = Request::Unlock { owner: lock.owner, file: lock.file, bytes: lock.bytes };
    assert_eq!(unlock.request, expected);
}

#[test]
fn the_killed_let_go_of_what_they_may_have_got() {
    let mut rig = Rig::new(Kind::Linux);
    let limit = (rig.now + SECOND / 2, true);
    let first = rig.start_until(0, TRY, (0, 9), limit);
    rig.run(SECOND / 2);
    let abandoned = |effect: &Effect| matches!(effect, Effect::Record(Event::Abandoned { .. }));
    assert!(rig.out.iter().any(abandoned));
    assert!(matches!(rig.one().request, Request::Unlock { .. }));
    rig.answer(&first, GRANTED);
    assert_eq!(rig.held(0), []);
    let got = |effect: &Effect| matches!(effect, Effect::Record(Event::Got { .. }));
    assert!(!rig.out.iter().any(got), "an answer to a forgotten call");
}

#[test]
fn locks_are_reclaimed_one_after_the_other() {
    let mut rig = Rig::new(Kind::Linux);
    rig.hold(0, 0, 9);
    rig.hold(1, 20, 29);
    rig.notify(7);
    rig.run(SECOND / 10);
    let first = rig.one();
    assert!(matches!(first.request, Request::Lock { reclaim: true, block: false, state: 0, .. }));
    let tried = rig.client.owners[0].is_idle();
    assert!(tried);
    rig.answer(&first, GRANTED);
    let second = rig.one();
    assert!(matches!(second.request, Request::Lock { reclaim: true, .. }));
    assert_ne!(first.request, second.request);
    rig.answer(&second, GRANTED);
    rig.notify(7);
    rig.run(SECOND / 10);
    assert_eq!(rig.calls(), [], "the same state again");
    assert_eq!((rig.held(0), rig.held(1)), (vec![(0, 9)], vec![(20, 29)]));
}

#[test]
fn what_is_refused_is_forgotten() {
    let mut rig = Rig::new(Kind::Linux);
    rig.hold(0, 0, 9);
    rig.notify(7);
    rig.run(SECOND / 10);
    let reclaim = rig.one();
    rig.run(SECOND);
    assert_eq!(rig.one(), reclaim, "silence is no answer");
    rig.answer(&reclaim, GRACE);
    assert_eq!(rig.held(0), []);
    assert_eq!(rig.client.stats().lost, 1);
    rig.run(100 * SECOND);
    assert_eq!(rig.calls(), []);
}

#[test]
fn others_sleep_while_locks_are_reclaimed_and_the_blocked_are_sent_again_after_it() {
    let mut rig = Rig::new(Kind::Linux);
    rig.hold(0, 0, 9);
    let blocked = rig.start(1, WAIT, 100, 109);
    rig.answer(&blocked, BLOCKED);
    rig.notify(7);
    rig.run(SECOND / 10);
    let reclaim = rig.one();
    let op = Op { verb: TRY, file: 0, bytes: Bytes { start: 50, end: 50 }, exclusive: true };
    rig.client.start(rig.now, 0, op, (NEVER, false), &mut rig.out);
    assert_eq!(rig.calls(), [], "sleeps");
    rig.answer(&reclaim, GRANTED);
    let again = rig.one();
    assert_eq!(again.request, blocked.request);
    rig.client.plan();
    rig.answer(&again, BLOCKED);
    rig.run(5 * SECOND);
    assert!(matches!(rig.one().request, Request::Lock { reclaim: false, .. }));
}

#[test]
fn a_grant_from_before_a_reboot_of_the_server_is_asked_for_again() {
    let mut rig = Rig::new(Kind::Linux);
    let first = rig.start(0, TRY, 0, 9);
    rig.notify(7);
    rig.run(SECOND / 10);
    rig.answer(&first, GRANTED);
    assert_eq!(rig.held(0), []);
    let again = rig.one();
    assert_eq!(again.request, first.request);
    rig.answer(&again, GRANTED);
    assert_eq!(rig.held(0), [(0, 9)]);
}

#[test]
fn a_second_reboot_of_the_server_begins_the_reclaim_anew() {
    let mut rig = Rig::new(Kind::Linux);
    rig.hold(0, 0, 9);
    rig.hold(1, 20, 29);
    rig.notify(7);
    rig.run(SECOND / 10);
    let first = rig.one();
    rig.answer(&first, GRANTED);
    let second = rig.one();
    rig.notify(9);
    rig.answer(&second, GRANTED);
    let third = rig.one();
    rig.answer(&third, GRANTED);
    let fourth = rig.one();
    rig.answer(&fourth, GRANTED);
    assert_eq!(rig.calls(), []);
    assert_eq!(rig.client.stats().reclaims, 4);
}

#[test]
fn a_reboot_is_told_to_whom_there_were_locks_from_until_it_is_answered() {
    let mut rig = Rig::new(Kind::Linux);
    rig.client.boot(rig.now, &mut rig.out);
    assert_eq!(rig.calls(), [], "no locks, no notice");
    rig.client.owners.iter_mut().for_each(|owner| owner.rest_until(NEVER));
    rig.hold(0, 0, 9);
    let before = rig.client.state;
    rig.client.boot(rig.now, &mut rig.out);
    rig.client.owners.iter_mut().for_each(|owner| owner.rest_until(NEVER));
    rig.client.plan();
    let notice = rig.one();
    let expected = Request::Notify { client: ClientId(1), lm: LM, state: before + 2 };
    assert_eq!(notice.request, expected);
    assert_eq!(rig.held(0), []);
    rig.run(2 * SECOND);
    assert_eq!(rig.one(), notice);
    let header = message::parse_call(&notice.message).unwrap();
    rig.client.receive(rig.now, LM, &message::begin_reply(header.xid), &mut rig.out);
    rig.out.clear();
    rig.run(100 * SECOND);
    assert_eq!(rig.calls(), []);
}

#[test]
fn the_dead_say_nothing() {
    let mut rig = Rig::new(Kind::Linux);
    let call = rig.start(0, TRY, 0, 9);
    rig.client.die(rig.now, &mut rig.out);
    assert_eq!(rig.out, [Effect::Record(Event::Dead { client: ClientId(1) })]);
    rig.out.clear();
    rig.answer(&call, GRANTED);
    rig.notify(3);
    rig.run(100 * SECOND);
    assert_eq!(rig.out, []);
}

#[test]
fn a_stalled_client_does_later_what_it_could_not_do_in_time() {
    let mut rig = Rig::new(Kind::Linux);
    let call = rig.start(0, TRY, 0, 9);
    rig.client.stall(rig.now + 50 * SECOND);
    rig.answer(&call, GRANTED);
    rig.run(50 * SECOND - 1);
    assert_eq!(rig.out, []);
    rig.run(1);
    assert_eq!(rig.held(0), [(0, 9)]);
    assert_eq!(rig.calls(), []);
}

#[test]
fn what_arrives_at_a_stalled_client_wakes_it() {
    let mut rig = Rig::new(Kind::Linux);
    rig.hold(0, 0, 9);
    let until = rig.now + SECOND;
    rig.client.stall(until);
    assert_eq!(rig.client.next_wake(), None);
    rig.notify(7);
    assert_eq!(rig.client.next_wake(), Some(until));
    rig.run(2 * SECOND);
    assert!(matches!(rig.calls()[0].request, Request::Lock { reclaim: true, .. }));
}

#[test]
fn messages_that_are_cut_or_damaged_do_no_harm() {
    let mut rig = Rig::new(Kind::Linux);
    rig.start(0, WAIT, 0, 9);
    let mut random = crate::random::Random::new(6);
    let whole = granted_message(message::GRANTED, 1, &name(1), 5, (0, 9));
    for cut in 0..whole.len() {
        rig.client.receive(rig.now, LM, &whole[..cut], &mut rig.out);
        let mut damaged = whole.clone();
        damaged[cut] = random.number() as u8;
        rig.client.receive(rig.now, LM, &damaged, &mut rig.out);
    }
    assert_eq!(rig.held(0), []);
}

#[test]
fn late_answers_are_recorded_and_change_nothing() {
    let mut rig = Rig::new(Kind::Linux);
    let call = rig.start(0, TRY, 0, 9);
    rig.answer(&call, GRANTED);
    rig.answer(&call, DENIED);
    let got = |effect: &&Effect| matches!(effect, Effect::Record(Event::Got { .. }));
    assert_eq!(rig.out.iter().filter(got).count(), 2);
    assert_eq!(rig.held(0), [(0, 9)]);
}

#[test]
fn the_port_mapper_knows_both_programs() {
    let mut rig = Rig::new(Kind::Linux);
    for (version, program, reply_len) in [(2, message::NLM, 28), (4, message::NSM, 24 + 4 + 16), (2, 99, 28)]
    {
        let mut call = rig.client.template.begin(5, message::PORTMAP, version, 3);
        let mut w = Writer::new(&mut call);
        [program, 4, 17, 0].into_iter().for_each(|word| w.u32(word));
        rig.client.receive(rig.now, LM, &call, &mut rig.out);
        let Some(Effect::Reply { program: to, message, .. }) = rig.out.pop() else { panic!() };
        assert_eq!(to, message::PORTMAP);
        assert_eq!(message.len(), reply_len, "{message:?}");
    }
}

#[test]
fn in_the_calm_nothing_new_begins_and_nothing_is_given_up() {
    let mut rig = Rig::new(Kind::Linux);
    let limit = (rig.now + 10 * SECOND, true);
    let first = rig.start_until(0, WAIT, (0, 9), limit);
    rig.answer(&first, BLOCKED);
    rig.client.owners[1].rest_until(rig.now + SECOND);
    rig.client.calm(rig.now);
    rig.run(95 * SECOND);
    let calls = rig.calls();
    assert!(calls.iter().all(|call| call.request == first.request), "{calls:?}");
    assert!(calls.len() >= 3);
}
