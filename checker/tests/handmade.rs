//! Histories written by hand: for each promise one that keeps it and one that breaks it.

use lockferry_checker::history::*;
use lockferry_checker::{Checker, Invariant, Settings, Violation};
use std::net::{IpAddr, Ipv4Addr};

const A: ClientId = ClientId(1);
const B: ClientId = ClientId(2);
const C: ClientId = ClientId(3);
const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const S: Micros = 1_000_000;

fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

fn owner(client: ClientId, svid: u32) -> Owner {
    Owner { client, lm: ip(1), svid }
}

fn of(owner: Owner, start: u64, end: u64, exclusive: bool) -> Lock {
    Lock { owner, file: FileId(7), bytes: Bytes { start, end }, exclusive }
}

fn ex(client: ClientId, start: u64, end: u64) -> Lock {
    of(owner(client, 0), start, end, true)
}

fn sh(client: ClientId, start: u64, end: u64) -> Lock {
    of(owner(client, 0), start, end, false)
}

/// A history in the making: each step takes a millisecond.
struct Story {
    checker: Checker,
    at: Micros,
    calls: u64,
    wrong: Option<Violation>,
}

impl Story {
    fn new() -> Self {
        Self::with(Settings { late: S, slack: S, copies: false, ..Settings::default() })
    }

    fn with(settings: Settings) -> Self {
        let mut story = Self { checker: Checker::new(settings), at: 0, calls: 0, wrong: None };
        for client in [A, B, C] {
            story.event(Event::Boot { client, state: 1 });
        }
        story
    }

    fn event(&mut self, event: Event) {
        self.at += 1000;
        if self.wrong.is_none() {
            self.wrong = self.checker.observe(self.at, &event).err();
        }
    }

    fn pass(&mut self, time: Micros) {
        self.at += time;
    }

    fn sent(&mut self, client: ClientId, request: Request) -> CallId {
        self.calls += 1;
        let call = CallId(self.calls);
        self.event(Event::Sent { client, call, request });
        call
    }

    fn again(&mut self, client: ClientId, call: CallId, request: Request) {
        self.event(Event::Sent { client, call, request });
    }

    fn got(&mut self, client: ClientId, call: CallId, answer: Answer) {
        self.event(Event::Got { client, call, answer });
    }

    fn ask(&mut self, client: ClientId, request: Request, answer: Answer) -> CallId {
        let call = self.sent(client, request);
        self.got(client, call, answer);
        call
    }

    fn lock(&mut self, lock: Lock, answer: Answer) -> CallId {
        self.ask(lock.owner.client, plain(lock, 1), answer)
    }

    fn wait(&mut self, lock: Lock) -> CallId {
        let request = Request::Lock { lock, block: true, reclaim: false, state: 1 };
        self.ask(lock.owner.client, request, Answer::Blocked)
    }

    fn reclaim(&mut self, lock: Lock, answer: Answer) -> CallId {
        self.ask(lock.owner.client, reclaim(lock), answer)
    }

    fn unlock(&mut self, lock: Lock, answer: Answer) -> CallId {
        self.ask(lock.owner.client, unlock(lock), answer)
    }

    fn test(&mut self, lock: Lock, answer: Answer) {
        self.ask(lock.owner.client, Request::Test { lock }, answer);
    }

    fn called(&mut self, lock: Lock) {
        self.event(Event::Granted { client: lock.owner.client, lock, accepted: true });
    }

    fn tell(&mut self, node: NodeId, command: Command, result: Result) {
        self.calls += 1;
        let id = self.calls;
        self.event(Event::Told { id, node, command });
        self.event(Event::Came { id, result });
    }

    /// `start_grace` on that node, with a window of ten seconds.
    fn move_to(&mut self, lm: IpAddr, node: NodeId, opened: Opened) {
        self.event(Event::Routed { lm, node, here: true });
        let command = Command::StartGrace { lm, window: 10 * S, adopt: false, full: false };
        self.tell(node, command, Result::TakenUp(opened));
    }

    #[track_caller]
    fn right(self) {
        assert_eq!(self.wrong, None);
    }

    #[track_caller]
    fn wrong(self, invariant: Invariant) {
        let Some(violation) = self.wrong else { panic!("nothing was found wrong") };
        assert_eq!(violation.invariant, invariant, "{violation}");
        assert!(violation.what.len() > 30, "{violation}");
    }
}

fn plain(lock: Lock, state: u32) -> Request {
    Request::Lock { lock, block: false, reclaim: false, state }
}

fn reclaim(lock: Lock) -> Request {
    Request::Lock { lock, block: false, reclaim: true, state: 0 }
}

fn unlock(lock: Lock) -> Request {
    Request::Unlock { owner: lock.owner, file: lock.file, bytes: lock.bytes }
}

fn holder(lock: Lock) -> Answer {
    Answer::Holder { svid: lock.owner.svid, bytes: lock.bytes, exclusive: lock.exclusive }
}

#[test]
fn i1_two_exclusive_locks_in_turn_are_right_and_at_once_are_wrong() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.lock(ex(B, 5, 5), Answer::Denied);
    story.unlock(ex(A, 0, 9), Answer::Granted);
    story.lock(ex(B, 5, 5), Answer::Granted);
    story.right();

    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.lock(sh(B, 9, 20), Answer::Granted);
    story.wrong(Invariant::I1);
}

#[test]
fn i1_concurrent_requests_are_judged_by_what_they_leave() {
    // Both are granted, and neither has sent an UNLOCK: the order does not matter.
    let mut story = Story::new();
    let a = story.sent(A, plain(ex(A, 0, 9), 1));
    let b = story.sent(B, plain(ex(B, 0, 9), 1));
    story.got(A, a, Answer::Granted);
    story.got(B, b, Answer::Granted);
    story.wrong(Invariant::I1);

    // The UNLOCK was sent before the answer: the grant may have come in between.
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    let b = story.sent(B, plain(ex(B, 0, 9), 1));
    let a = story.sent(A, unlock(ex(A, 0, 9)));
    story.got(B, b, Answer::Granted);
    story.got(A, a, Answer::Granted);
    story.right();
}

#[test]
fn i1_an_upgrade_needs_that_no_other_reader_is_there() {
    let mut story = Story::new();
    story.lock(sh(A, 0, 9), Answer::Granted);
    story.lock(sh(B, 0, 9), Answer::Granted);
    story.lock(ex(A, 0, 9), Answer::Denied);
    story.lock(ex(C, 0, 9), Answer::Denied);
    story.right();

    let mut story = Story::new();
    story.lock(sh(A, 0, 9), Answer::Granted);
    story.lock(sh(B, 0, 9), Answer::Granted);
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.wrong(Invariant::I1);
}

#[test]
fn i1_a_forged_unlock_frees_nothing() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.ask(B, unlock(ex(A, 0, 9)), Answer::Granted);
    story.lock(ex(C, 0, 9), Answer::Denied);
    story.right();

    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.ask(B, unlock(ex(A, 0, 9)), Answer::Granted);
    story.lock(ex(C, 0, 9), Answer::Granted);
    story.wrong(Invariant::I1);
}

#[test]
fn i1_equal_numbers_through_two_addresses_are_two_owners() {
    let other = Owner { client: A, lm: ip(2), svid: 0 };
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.lock(of(other, 0, 9, true), Answer::Granted);
    story.wrong(Invariant::I1);
}

#[test]
fn i2_a_lock_survives_a_move_until_the_window_is_over() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.move_to(ip(1), TWO, Opened::Window);
    story.lock(ex(B, 0, 9), Answer::DeniedGrace);
    story.reclaim(ex(A, 0, 9), Answer::Granted);
    story.pass(20 * S);
    story.lock(ex(B, 0, 9), Answer::Denied);
    story.right();

    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.move_to(ip(1), TWO, Opened::Window);
    story.reclaim(ex(A, 0, 9), Answer::Denied);
    story.wrong(Invariant::I2);

    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.move_to(ip(1), TWO, Opened::Window);
    story.pass(9 * S);
    story.lock(ex(B, 0, 9), Answer::Granted);
    story.wrong(Invariant::I2);

    // Reclaimed, and lost all the same when the window ended.
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.move_to(ip(1), TWO, Opened::Window);
    story.reclaim(ex(A, 0, 9), Answer::Granted);
    story.pass(20 * S);
    story.test(ex(B, 0, 9), Answer::Granted);
    story.wrong(Invariant::I1);
}

#[test]
fn i2_what_is_not_reclaimed_may_be_given_to_others_after_the_window() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.move_to(ip(1), TWO, Opened::Window);
    story.pass(12 * S);
    story.lock(ex(B, 0, 4), Answer::Granted);
    story.reclaim(ex(A, 0, 9), Answer::DeniedGrace);
    story.reclaim(ex(A, 5, 9), Answer::Granted);
    story.right();

    // Nobody has asked for it: it is still there.
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.move_to(ip(1), TWO, Opened::Window);
    story.pass(12 * S);
    story.lock(ex(B, 20, 24), Answer::Granted);
    story.reclaim(ex(A, 0, 9), Answer::DeniedGrace);
    story.wrong(Invariant::I2);
}

#[test]
fn i2_what_expired_before_its_callback_was_heard_may_be_given_to_others() {
    let heard = |after: Micros| {
        let mut story = Story::new();
        story.lock(ex(B, 0, 9), Answer::Granted);
        story.wait(ex(A, 0, 9));
        story.unlock(ex(B, 0, 9), Answer::Granted);
        story.move_to(ip(1), TWO, Opened::Window);
        story.pass(after);
        story.lock(ex(C, 5, 9), Answer::Granted);
        story.unlock(ex(C, 5, 9), Answer::Granted);
        story.called(ex(A, 0, 9));
        story.reclaim(ex(A, 0, 9), Answer::DeniedGrace);
        story
    };
    heard(12 * S).right();
    heard(5 * S).wrong(Invariant::I2);
}

#[test]
fn i2_a_window_that_died_with_its_node_does_not_count() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.move_to(ip(1), ONE, Opened::Window);
    story.event(Event::Down { node: ONE });
    story.pass(30 * S);
    story.move_to(ip(1), TWO, Opened::Window);
    story.reclaim(ex(A, 0, 9), Answer::Denied);
    story.wrong(Invariant::I2);
}

#[test]
fn i2_adopted_locks_stay_without_a_reclaim() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.move_to(ip(1), TWO, Opened::Adopted { window: false });
    story.pass(100 * S);
    story.lock(ex(B, 0, 9), Answer::Granted);
    story.wrong(Invariant::I2);
}

#[test]
fn i2_what_a_daemon_unheard_of_may_have_left_to_be_reclaimed_has_its_window_all_the_same() {
    let story = |window, after: Micros| {
        let mut story = Story::new();
        story.move_to(ip(1), ONE, Opened::Window);
        story.lock(ex(A, 0, 9), Answer::Granted);
        story.event(Event::Down { node: ONE });
        story.move_to(ip(1), TWO, Opened::Adopted { window });
        story.pass(after);
        story.lock(ex(B, 0, 9), Answer::Granted);
        story
    };
    // It has started again, and was superseded before it said that it had opened a window.
    story(true, 100 * S).right();
    story(true, S).wrong(Invariant::I2);
    story(false, 100 * S).wrong(Invariant::I2);
}

#[test]
fn i2_releasing_one_address_leaves_another_alone() {
    let mut story = Story::new();
    let ten = Owner { client: A, lm: ip(10), svid: 0 };
    story.lock(of(ten, 0, 9, true), Answer::Granted);
    story.tell(ONE, Command::UnlockIp { lm: ip(1) }, Result::Done);
    story.lock(of(Owner { client: B, ..ten }, 0, 9, true), Answer::Granted);
    story.wrong(Invariant::I1);
}

#[test]
fn i3_a_reclaim_of_what_was_never_held_is_theft() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.move_to(ip(1), TWO, Opened::Window);
    story.reclaim(ex(B, 20, 29), Answer::Denied);
    story.reclaim(sh(A, 2, 5), Answer::Granted);
    story.right();

    for stolen in [ex(B, 20, 29), ex(A, 5, 10)] {
        let mut story = Story::new();
        story.lock(ex(A, 0, 9), Answer::Granted);
        story.move_to(ip(1), TWO, Opened::Window);
        story.reclaim(stolen, Answer::Granted);
        story.wrong(Invariant::I3);
    }

    let mut story = Story::new();
    story.lock(sh(A, 0, 9), Answer::Granted);
    story.move_to(ip(1), TWO, Opened::Window);
    story.reclaim(ex(A, 0, 9), Answer::Granted);
    story.wrong(Invariant::I3);
}

#[test]
fn i3_in_a_full_window_a_reclaim_needs_no_proof() {
    let mut story = Story::new();
    story.move_to(ip(1), TWO, Opened::Full);
    story.reclaim(ex(B, 20, 29), Answer::Granted);
    story.lock(ex(A, 0, 9), Answer::DeniedGrace);
    story.right();
}

#[test]
fn i4_a_window_of_one_address_is_not_felt_through_another() {
    let mut story = Story::new();
    let other = Owner { client: B, lm: ip(2), svid: 0 };
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.move_to(ip(1), TWO, Opened::Window);
    story.lock(of(other, 5, 5, true), Answer::DeniedGrace);
    story.lock(of(other, 10, 10, true), Answer::Granted);
    story.right();

    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.move_to(ip(1), TWO, Opened::Window);
    story.lock(of(other, 10, 10, true), Answer::DeniedGrace);
    story.wrong(Invariant::I4);
}

#[test]
fn i5_only_conflicts_wait() {
    let mut story = Story::new();
    story.lock(sh(A, 0, 9), Answer::Granted);
    story.lock(sh(B, 0, 9), Answer::Granted);
    story.wait(ex(C, 9, u64::MAX));
    story.right();

    let mut story = Story::new();
    story.lock(sh(A, 0, 9), Answer::Granted);
    story.lock(sh(B, 0, 9), Answer::Denied);
    story.wrong(Invariant::I5);

    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.move_to(ip(1), TWO, Opened::Window);
    story.lock(ex(B, 10, 19), Answer::DeniedGrace);
    story.wrong(Invariant::I5);

    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::DeniedNolocks);
    story.wrong(Invariant::I5);
}

#[test]
fn i5_a_disk_without_space_excuses_new_locks_only() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.checker.excuse_nolocks(true);
    story.lock(ex(A, 10, 19), Answer::DeniedNolocks);
    story.right();

    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.checker.excuse_nolocks(true);
    story.reclaim(ex(A, 0, 9), Answer::DeniedNolocks);
    story.wrong(Invariant::I2);
}

#[test]
fn i5_a_deadlock_needs_a_circle() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 0), Answer::Granted);
    story.lock(ex(B, 1, 1), Answer::Granted);
    story.wait(ex(A, 1, 1));
    story.ask(
        B,
        Request::Lock { lock: ex(B, 0, 0), block: true, reclaim: false, state: 1 },
        Answer::Deadlock,
    );
    story.right();

    let mut story = Story::new();
    story.lock(ex(A, 0, 0), Answer::Granted);
    story.lock(ex(B, 1, 1), Answer::Granted);
    story.ask(
        B,
        Request::Lock { lock: ex(B, 0, 0), block: true, reclaim: false, state: 1 },
        Answer::Deadlock,
    );
    story.wrong(Invariant::I5);
}

#[test]
fn i5_the_holder_that_is_named_is_one() {
    let mut story = Story::new();
    story.lock(of(owner(A, 4), 0, 9, true), Answer::Granted);
    story.test(sh(B, 3, 3), holder(of(owner(A, 4), 0, 9, true)));
    story.right();

    let mut story = Story::new();
    story.lock(of(owner(A, 4), 0, 9, true), Answer::Granted);
    story.test(sh(B, 3, 3), holder(of(owner(A, 0), 0, 9, true)));
    story.wrong(Invariant::I5);
}

#[test]
fn i6_a_window_ends_on_time() {
    let expired = |after: Micros| {
        let mut story = Story::new();
        story.lock(ex(A, 0, 9), Answer::Granted);
        story.move_to(ip(1), TWO, Opened::Window);
        story.pass(after);
        story.lock(ex(B, 0, 9), Answer::DeniedGrace);
        story
    };
    expired(10 * S).right();
    expired(12 * S).wrong(Invariant::I6);
}

#[test]
fn i5_a_window_that_became_a_full_one_lets_all_wait_as_long_as_it_lasts() {
    let longer = |full: bool, spoilt: fn(&mut Story), after: Micros| {
        let mut story = Story::new();
        story.lock(ex(A, 0, 9), Answer::Granted);
        story.move_to(ip(1), TWO, Opened::Window);
        spoilt(&mut story);
        let command = Command::StartGrace { lm: ip(1), window: 10 * S, adopt: false, full };
        story.tell(TWO, command, Result::TakenUp(Opened::Longer { full }));
        story.pass(after);
        story.test(ex(B, 20, 29), Answer::DeniedGrace);
        story
    };
    let refused: fn(&mut Story) = |story| {
        let command = Command::StartGrace { lm: ip(1), window: 10 * S, adopt: false, full: false };
        story.tell(ONE, command, Result::Failed);
    };
    let failing: fn(&mut Story) = |story| story.event(Event::DiskFailed { lm: ip(1) });
    for spoilt in [|_: &mut Story| {}, refused, failing] {
        longer(true, spoilt, 9 * S).right();
        longer(true, spoilt, 13 * S).wrong(Invariant::I5);
        longer(false, spoilt, 9 * S).wrong(Invariant::I5);
    }
}

#[test]
fn i6_a_window_counts_from_the_arrival_of_the_address() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    let command = Command::StartGrace { lm: ip(1), window: 10 * S, adopt: false, full: false };
    story.tell(TWO, command, Result::TakenUp(Opened::Window));
    story.pass(15 * S);
    story.lock(ex(B, 0, 9), Answer::DeniedGrace);
    story.event(Event::Routed { lm: ip(1), node: TWO, here: true });
    story.pass(8 * S);
    story.lock(ex(B, 0, 9), Answer::DeniedGrace);
    story.right();
}

#[test]
fn i2_a_window_does_not_run_before_the_address_is_there() {
    let after = |arrives: bool| {
        let mut story = Story::new();
        story.lock(ex(A, 0, 9), Answer::Granted);
        let command = Command::StartGrace { lm: ip(1), window: 10 * S, adopt: false, full: false };
        story.tell(TWO, command, Result::TakenUp(Opened::Window));
        if arrives {
            story.event(Event::Routed { lm: ip(1), node: TWO, here: true });
        }
        story.pass(15 * S);
        story.event(Event::Routed { lm: ip(1), node: TWO, here: true });
        story.lock(ex(B, 0, 9), Answer::Granted);
        story
    };
    after(true).right();
    after(false).wrong(Invariant::I2);
}

/// Where nothing is lost and nobody pauses.
fn smooth() -> Story {
    let settings = Settings { late: S, slack: S, copies: false, lossless: true, ..Settings::default() };
    let mut story = Story::with(Settings { steady: true, answers: Some(5 * S), ..settings });
    story.move_to(ip(1), ONE, Opened::Window);
    story
}

#[test]
fn i2_who_holds_something_is_told_of_a_take_over() {
    let told = |of: Option<ClientId>| {
        let mut story = smooth();
        story.lock(ex(A, 0, 9), Answer::Granted);
        story.event(Event::Routed { lm: ip(1), node: ONE, here: false });
        story.move_to(ip(1), TWO, Opened::Window);
        if let Some(client) = of {
            story.event(Event::Noticed { client, lm: ip(1), state: 3, named: true });
        }
        story.pass(60 * S);
        story.test(ex(B, 20, 29), Answer::Granted);
        story
    };
    told(Some(A)).right();
    told(Some(B)).wrong(Invariant::I2);
    told(None).wrong(Invariant::I2);

    // Whoever serves it may be silent.
    let mut story = smooth();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.event(Event::Routed { lm: ip(1), node: ONE, here: false });
    story.move_to(ip(1), TWO, Opened::Window);
    story.event(Event::DiskFailed { lm: ip(1) });
    story.pass(60 * S);
    story.test(ex(B, 20, 29), Answer::Granted);
    story.right();

    // Of a state that it knows it takes no notice.
    let mut story = smooth();
    story.event(Event::Noticed { client: A, lm: ip(1), state: 3, named: true });
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.event(Event::Routed { lm: ip(1), node: ONE, here: false });
    story.move_to(ip(1), TWO, Opened::Window);
    story.event(Event::Noticed { client: A, lm: ip(1), state: 3, named: true });
    story.pass(60 * S);
    story.test(ex(B, 20, 29), Answer::Granted);
    story.wrong(Invariant::I2);
}

#[test]
fn i5_a_lock_that_was_refused_as_it_was_granted_is_nobodys() {
    let later = |waits: bool| {
        let mut story = smooth();
        story.pass(60 * S);
        story.lock(ex(A, 0, 9), Answer::Granted);
        story.wait(ex(B, 0, 9));
        story.unlock(ex(A, 0, 9), Answer::Granted);
        if waits {
            story.event(Event::Granted { client: B, lock: ex(B, 0, 9), accepted: false });
        }
        story.pass(2 * S);
        story.test(ex(C, 20, 29), Answer::Granted);
        story.lock(ex(C, 0, 9), Answer::Denied);
        story
    };
    later(false).right();
    later(true).wrong(Invariant::I5);
}

#[test]
fn i6_who_waits_is_adopted_too() {
    let moved = |opened: Opened| {
        let mut story = smooth();
        story.lock(ex(A, 0, 9), Answer::Granted);
        story.wait(ex(B, 0, 9));
        story.tell(ONE, Command::UnlockIp { lm: ip(1) }, Result::Done);
        story.event(Event::Routed { lm: ip(1), node: ONE, here: false });
        story.move_to(ip(1), TWO, opened);
        story.event(Event::Noticed { client: A, lm: ip(1), state: 3, named: true });
        story.unlock(ex(A, 0, 9), Answer::Granted);
        story.lock(ex(C, 0, 9), Answer::Granted);
        story
    };
    moved(Opened::Window).right();
    moved(Opened::Adopted { window: false }).wrong(Invariant::I6);
}

#[test]
fn i14_a_status_counts_what_is_listed() {
    let counts = |listed, counted| {
        let mut story = Story::new();
        story.event(Event::Counted { node: ONE, lm: ip(1), listed, counted });
        story
    };
    counts(3, 3).right();
    counts(3, 2).wrong(Invariant::I14);
}

#[test]
fn liveness_where_nothing_is_lost_a_call_that_is_repeated_was_answered_before() {
    let repeated = |after: Micros, down: bool| {
        let mut story = smooth();
        let request = plain(ex(A, 0, 9), 1);
        let call = story.sent(A, request);
        if down {
            story.event(Event::Down { node: ONE });
        }
        story.pass(after);
        story.again(A, call, request);
        story
    };
    repeated(4 * S, false).right();
    repeated(6 * S, true).right();
    repeated(6 * S, false).wrong(Invariant::Liveness);
}

#[test]
fn i6_waiters_are_served_in_order() {
    let waiting = |first: ClientId, second: ClientId| {
        let mut story = Story::new();
        story.lock(ex(A, 0, 9), Answer::Granted);
        story.wait(ex(B, 0, 9));
        story.wait(ex(C, 0, 9));
        story.unlock(ex(A, 0, 9), Answer::Granted);
        story.called(ex(first, 0, 9));
        story.unlock(ex(first, 0, 9), Answer::Granted);
        story.called(ex(second, 0, 9));
        story
    };
    waiting(B, C).right();
    waiting(C, B).wrong(Invariant::I6);
}

#[test]
fn i6_what_was_granted_unheard_stays_in_the_way_of_those_who_wait() {
    let story = |unheard: bool| {
        let mut story = Story::new();
        story.lock(ex(A, 0, 9), Answer::Granted);
        story.wait(ex(B, 0, 9));
        if unheard {
            story.sent(A, plain(sh(A, 0, 9), 1));
        } else {
            story.unlock(ex(A, 0, 9), Answer::Granted);
        }
        story.lock(sh(C, 0, 9), Answer::Granted);
        story.unlock(sh(C, 0, 9), Answer::Granted);
        story.lock(ex(A, 0, 9), Answer::Granted);
        story
    };
    story(true).right();
    story(false).wrong(Invariant::I6);
}

#[test]
fn i6_nobody_is_told_to_wait_for_himself() {
    let story = |closed: bool| {
        let mut story = Story::with(Settings { circles: true, ..Settings::default() });
        story.lock(ex(A, 0, 9), Answer::Granted);
        story.lock(ex(B, 10, 19), Answer::Granted);
        story.lock(ex(C, 20, 29), Answer::Granted);
        story.wait(ex(A, 10, 10));
        if closed {
            story.wait(ex(B, 20, 20));
        }
        story.wait(ex(C, 0, 0));
        story
    };
    story(false).right();
    story(true).wrong(Invariant::I6);
}

#[test]
fn i6_whoever_a_downgrade_lets_in_comes_before_what_is_asked_for_later() {
    let again = |waits: Lock| {
        let mut story = Story::new();
        story.lock(ex(A, 0, 9), Answer::Granted);
        story.wait(waits);
        story.lock(sh(A, 0, 9), Answer::Granted);
        story.lock(ex(A, 0, 4), Answer::Granted);
        story
    };
    again(ex(B, 0, 4)).right();
    again(sh(B, 5, 9)).right();
    again(sh(B, 0, 4)).wrong(Invariant::I6);
}

#[test]
fn i7_the_state_of_a_server_that_is_up_is_odd() {
    let mut story = Story::new();
    story.event(Event::Noticed { client: A, lm: ip(1), state: 7, named: true });
    story.right();
    let mut story = Story::new();
    story.event(Event::Noticed { client: A, lm: ip(1), state: 8, named: true });
    story.wrong(Invariant::I7);
}

#[test]
fn i9_two_answers_to_one_call_agree() {
    let twice = |first, second| {
        let mut story = Story::new();
        let call = story.sent(A, plain(ex(A, 0, 9), 1));
        story.again(A, call, plain(ex(A, 0, 9), 1));
        story.got(A, call, first);
        story.got(A, call, second);
        story
    };
    twice(Answer::Granted, Answer::Granted).right();
    twice(Answer::Granted, Answer::Denied).wrong(Invariant::I9);
}

#[test]
fn i9_a_late_copy_of_an_unlock_frees_no_newer_lock() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    let call = story.sent(A, unlock(ex(A, 0, 9)));
    story.again(A, call, unlock(ex(A, 0, 9)));
    story.got(A, call, Answer::Granted);
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.lock(ex(B, 0, 9), Answer::Granted);
    story.wrong(Invariant::I1);
}

#[test]
fn i9_a_late_copy_of_a_lock_takes_nothing() {
    let mut story = Story::new();
    let call = story.sent(A, plain(ex(A, 0, 9), 1));
    story.again(A, call, plain(ex(A, 0, 9), 1));
    story.got(A, call, Answer::Granted);
    story.unlock(ex(A, 0, 9), Answer::Granted);
    story.lock(ex(B, 0, 9), Answer::Denied);
    story.wrong(Invariant::I5);
}

#[test]
fn i10_unlock_and_cancel_are_always_legal() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.move_to(ip(1), TWO, Opened::Window);
    story.unlock(ex(A, 0, 9), Answer::Granted);
    story.ask(A, Request::Cancel { lock: ex(A, 0, 9) }, Answer::Granted);
    story.right();

    let mut story = Story::new();
    story.move_to(ip(1), TWO, Opened::Window);
    story.unlock(ex(A, 0, 9), Answer::DeniedGrace);
    story.wrong(Invariant::I10);

    let mut story = Story::new();
    story.ask(A, Request::Cancel { lock: ex(A, 0, 9) }, Answer::Denied);
    story.wrong(Invariant::I10);
}

#[test]
fn i13_a_part_that_is_unlocked_is_free_and_the_rest_is_not() {
    let middle = |byte: u64, answer| {
        let mut story = Story::new();
        story.lock(ex(A, 0, 99), Answer::Granted);
        story.unlock(ex(A, 40, 59), Answer::Granted);
        story.lock(ex(B, byte, byte), answer);
        story
    };
    middle(40, Answer::Granted).right();
    middle(59, Answer::Granted).right();
    middle(39, Answer::Denied).right();
    middle(60, Answer::Denied).right();
    middle(39, Answer::Granted).wrong(Invariant::I13);
    middle(60, Answer::Granted).wrong(Invariant::I13);
    middle(59, Answer::Denied).wrong(Invariant::I5);
}

#[test]
fn i13_a_downgrade_lets_readers_in() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.lock(sh(A, 0, 4), Answer::Granted);
    story.lock(sh(B, 0, 4), Answer::Granted);
    story.test(sh(B, 0, 9), holder(ex(A, 5, 9)));
    story.right();
}

#[test]
fn i14_lists_show_what_is_held() {
    let listed = |rows: Vec<Row>, kept: Vec<Row>| {
        let mut story = Story::new();
        story.lock(ex(A, 0, 9), Answer::Granted);
        story.at += 1000;
        let at = story.at;
        for event in [Event::Listed { node: ONE, lm: ip(1), rows }, Event::Stored { lm: ip(1), rows: kept }] {
            if story.wrong.is_none() {
                story.wrong = story.checker.observe(at, &event).err();
            }
        }
        story
    };
    let row = (ex(A, 0, 9), Condition::Held);
    let halves = vec![(ex(A, 0, 4), Condition::Held), (ex(A, 5, 9), Condition::Held)];
    listed(vec![row], halves.clone()).right();
    listed(vec![], vec![row]).wrong(Invariant::I14);
    listed(vec![row], vec![]).wrong(Invariant::I14);
    listed(vec![row], halves[..1].to_vec()).wrong(Invariant::I14);
    listed(vec![row, (ex(B, 50, 59), Condition::Held)], vec![row]).wrong(Invariant::I14);
    listed(vec![(ex(A, 0, 9), Condition::Reclaimable)], vec![row]).wrong(Invariant::I14);
}

#[test]
fn liveness_at_rest_nothing_waits_for_nobody() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.wait(ex(B, 0, 9));
    story.event(Event::Calm);
    story.pass(60 * S);
    story.event(Event::Rest);
    story.right();

    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.wait(ex(B, 0, 9));
    story.unlock(ex(A, 0, 9), Answer::Granted);
    story.event(Event::Calm);
    story.pass(60 * S);
    story.event(Event::Rest);
    story.wrong(Invariant::Liveness);

    let mut story = Story::new();
    story.sent(A, plain(ex(A, 0, 9), 1));
    story.event(Event::Calm);
    story.pass(60 * S);
    story.event(Event::Rest);
    story.wrong(Invariant::Liveness);
}

#[test]
fn a_reboot_frees_after_its_notice_and_not_what_was_taken_since() {
    let reboot = |before: bool| {
        let mut story = Story::new();
        story.lock(ex(A, 0, 9), Answer::Granted);
        story.event(Event::Dead { client: A });
        story.event(Event::Boot { client: A, state: 3 });
        let notice = Request::Notify { client: A, lm: ip(1), state: 3 };
        if before {
            story.ask(A, plain(ex(A, 50, 59), 3), Answer::Granted);
        }
        story.ask(A, notice, Answer::Void);
        story
    };
    let mut story = reboot(false);
    story.lock(ex(B, 0, 9), Answer::Granted);
    story.right();
    let mut story = reboot(false);
    story.lock(ex(B, 0, 9), Answer::Denied);
    story.wrong(Invariant::I5);
    let mut story = reboot(true);
    story.lock(ex(B, 50, 59), Answer::Granted);
    story.wrong(Invariant::I1);
}

#[test]
fn an_operator_frees_a_dead_client() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.event(Event::Dead { client: A });
    story.lock(ex(B, 0, 9), Answer::Denied);
    story.tell(ONE, Command::UnlockClient { client: A, lm: ip(1) }, Result::Done);
    story.lock(ex(B, 0, 9), Answer::Denied);
    story.wrong(Invariant::I5);
}

#[test]
fn a_refused_copy_of_a_callback_does_not_free_the_lock() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.wait(ex(B, 0, 9));
    story.unlock(ex(A, 0, 9), Answer::Granted);
    story.called(ex(B, 0, 9));
    story.event(Event::Granted { client: B, lock: ex(B, 0, 9), accepted: false });
    story.lock(ex(C, 0, 9), Answer::Granted);
    story.wrong(Invariant::I1);
}

#[test]
fn after_a_cancel_nothing_is_left_behind() {
    let mut story = Story::new();
    story.lock(ex(A, 0, 9), Answer::Granted);
    story.wait(ex(B, 0, 9));
    story.ask(B, Request::Cancel { lock: ex(B, 0, 9) }, Answer::Granted);
    story.unlock(ex(A, 0, 9), Answer::Granted);
    story.lock(ex(C, 0, 9), Answer::Denied);
    story.wrong(Invariant::I5);
}
