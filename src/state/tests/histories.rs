//! Random histories for `compare`, and single ones that were hard once.

use proptest::prelude::*;

use super::compare::{Both, Op, WIDTHS};
use super::model::{Answer, BYTES, CLIENTS, FILES, LMS, Model, OWNERS, Spot, Who};
use crate::state::{CallbackOutcome, Condition, LockState, Mode, Status};

fn who() -> impl Strategy<Value = Who> {
    // Mostly one lock manager, so that requests meet.
    (prop_oneof![3 => Just(0), 1 => Just(1)], 0..CLIENTS, 0..OWNERS).prop_map(|(lm, client, n)| Who {
        lm,
        client,
        n,
    })
}

fn spot() -> impl Strategy<Value = Spot> {
    let bytes = prop_oneof![
        4 => (0..6usize, 0..6usize).prop_map(|(lo, len)| (lo, lo + len)),
        2 => (0..BYTES, 0..8usize).prop_map(|(lo, len)| (lo, (lo + len).min(BYTES - 1))),
        1 => (0..BYTES).prop_map(|lo| (lo, BYTES - 1)),
    ];
    (prop_oneof![4 => Just(0), 1 => Just(1)], bytes).prop_map(|(file, (lo, hi))| Spot { file, lo, hi })
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Shared), Just(Mode::Exclusive)]
}

fn state() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0), 20 => Just(3), 1 => Just(5), 1 => Just(7)]
}

fn outcome() -> impl Strategy<Value = CallbackOutcome> {
    prop_oneof![
        4 => Just(CallbackOutcome::Accepted),
        2 => Just(CallbackOutcome::RefusedFirst),
        2 => Just(CallbackOutcome::RefusedLater),
        2 => Just(CallbackOutcome::Unanswered),
    ]
}

fn loaded() -> impl Strategy<Value = LockState> {
    let condition = prop_oneof![
        1 => Just(Condition::Held),
        1 => Just(Condition::Granting),
        1 => Just(Condition::Unconfirmed),
        6 => Just(Condition::Reclaimable),
        2 => Just(Condition::Expired),
    ];
    let under = prop_oneof![3 => Just(None), 1 => Just(Some((Condition::Held, 3)))];
    (mode(), condition, state(), under).prop_map(|(mode, condition, state, under)| {
        // Only what can be in a record.
        let open = matches!(condition, Condition::Granting | Condition::Unconfirmed);
        let under = under.filter(|_| open && mode == Mode::Exclusive);
        LockState { mode, condition, state, under }
    })
}

/// Some of the files.
fn files() -> impl Strategy<Value = [bool; FILES]> {
    [prop::bool::weighted(0.4), prop::bool::weighted(0.4)]
}

fn life() -> impl Strategy<Value = Op> {
    let some_lm = || prop_oneof![3 => Just(0), 1 => Just(1)];
    prop_oneof![
        4 => (0..LMS, 0..6_000u64, files()).prop_map(|(lm, ms, full)| Op::StartGrace { lm, ms, full }),
        2 => (0..LMS, 0..6_000u64).prop_map(|(lm, ms)| Op::SetDeadline { lm, ms }),
        10 => (who(), spot(), loaded()).prop_map(|(who, spot, lock)| Op::Load { who, spot, lock }),
        3 => (0..LMS, files()).prop_map(|(lm, keep)| Op::Release { lm, keep }),
        1 => (0..LMS).prop_map(|lm| Op::DropReleased { lm }),
        8 => (some_lm(), prop::bool::weighted(0.3), files(), 0..6_000u64)
            .prop_map(|(lm, adopt, keep, ms)| Op::Move { lm, adopt, keep, ms }),
        2 => (0..FILES).prop_map(|file| Op::FreeFile { file }),
        2 => (some_lm(), 0..CLIENTS).prop_map(|(lm, client)| Op::FreeClient { lm, client }),
        3 => any::<usize>().prop_map(|pick| Op::Revoke { pick }),
        4 => (0..LMS).prop_map(|lm| Op::EndGrace { lm }),
        10 => (0..2_500u64).prop_map(|ms| Op::Tick { ms }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let lock = (who(), spot(), mode(), prop::bool::weighted(0.7), prop::bool::weighted(0.95), state())
        .prop_map(|(who, spot, mode, block, monitored, state)| Op::Lock {
            who,
            spot,
            mode,
            block,
            monitored,
            state,
        });
    let client = || (prop_oneof![3 => Just(0), 1 => Just(1)], 0..CLIENTS);
    prop_oneof![
        40 => lock,
        10 => (who(), spot(), mode(), prop_oneof![4 => Just(0), 1 => Just(3)])
            .prop_map(|(who, spot, mode, state)| Op::Reclaim { who, spot, mode, state }),
        6 => (0..6usize).prop_map(|back| Op::Again { back }),
        22 => (who(), spot()).prop_map(|(who, spot)| Op::Unlock { who, spot }),
        2 => (who(), spot(), mode()).prop_map(|(who, spot, mode)| Op::Cancel { who, spot, mode }),
        5 => any::<usize>().prop_map(|pick| Op::CancelSome { pick }),
        5 => (who(), spot(), mode()).prop_map(|(who, spot, mode)| Op::Test { who, spot, mode }),
        2 => client().prop_map(|(lm, client)| Op::FreeAll { lm, client }),
        2 => (client(), prop_oneof![Just(3), Just(5), Just(7)])
            .prop_map(|((lm, client), state)| Op::Notify { lm, client, state }),
        16 => (any::<usize>(), outcome()).prop_map(|(pick, outcome)| Op::Done { pick, outcome }),
        2 => (any::<usize>(), outcome()).prop_map(|(pick, outcome)| Op::Late { pick, outcome }),
        26 => life(),
    ]
}

/// The same with loading by halves, without that it is at once done.
fn lazy_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => op(),
        1 => (0..LMS).prop_map(|lm| Op::BeginLoad { lm }),
        1 => (0..LMS).prop_map(|lm| Op::EndLoad { lm }),
        1 => (0..LMS, files()).prop_map(|(lm, keep)| Op::Release { lm, keep }),
    ]
}

fn run(width: u64, locks_per_call: u32, ops: Vec<Op>) {
    // While a full window ends, others get what has expired before those that wait for its end: in one stride that is one moment.
    let any_full = ops.iter().any(|op| matches!(op, Op::StartGrace { full, .. } if full.contains(&true)));
    let locks_per_call = if any_full { 10_000 } else { locks_per_call };
    let mut both = Both::new(width, width != WIDTHS[3], locks_per_call, false);
    for op in ops {
        both.step(op);
    }
    both.finish();
}

fn config() -> ProptestConfig {
    // PROPTEST_CASES asks for more.
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(2_600), failure_persistence: None, ..default }
}

macro_rules! histories {
    ($($name:ident: $width:expr;)*) => {
        proptest! {
            #![proptest_config(config())]
            $(
                #[test]
                fn $name(
                    per_call in prop_oneof![Just(1u32), Just(3), Just(10_000)],
                    ops in prop::collection::vec(op(), 1..40),
                ) {
                    run(WIDTHS[$width], per_call, ops);
                }
            )*
        }
    };
}

histories! {
    any_history_of_single_bytes_equals_the_byte_map: 0;
    any_history_of_odd_ranges_equals_the_byte_map: 1;
    any_history_of_long_ranges_equals_the_byte_map: 2;
    any_history_over_the_whole_64_bits_equals_the_byte_map: 3;
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn no_history_between_the_steps_of_great_changes_breaks_a_rule(
        per_call in 1u32..4,
        ops in prop::collection::vec(lazy_op(), 1..60),
    ) {
        let mut both = Both::new(1, true, per_call, true);
        for op in ops {
            both.step(op);
        }
        both.finish();
    }
}

#[test]
fn the_model_knows_that_only_overlapping_bytes_conflict() {
    let who = |client| Who { lm: 0, client, n: 0 };
    let mut m = Model::new(true);
    m.lock(0, who(0), Spot { file: 0, lo: 3, hi: 5 }, Mode::Exclusive, (false, true), 3, 1);
    m.lock(0, who(1), Spot { file: 0, lo: 5, hi: 6 }, Mode::Shared, (false, true), 3, 2);
    m.lock(0, who(1), Spot { file: 0, lo: 6, hi: 6 }, Mode::Shared, (false, true), 3, 3);
    let got: Vec<_> =
        m.expected.answers.values().map(|a| matches!(a, Answer::Status(Status::Granted))).collect();
    assert_eq!(got, [true, false, true]);
}

#[test]
fn one_owner_that_waits_for_the_same_bytes_of_two_files_gets_both() {
    let (a, b) = (Who { lm: 0, client: 0, n: 0 }, Who { lm: 1, client: 0, n: 1 });
    let spot = |file| Spot { file, lo: 1, hi: 2 };
    let lock = |who, file, block| Op::Lock {
        who,
        spot: spot(file),
        mode: Mode::Exclusive,
        block,
        monitored: true,
        state: 0,
    };
    run(1, 10_000, vec![lock(a, 0, false), lock(a, 1, false), lock(b, 1, true), lock(b, 0, true)]);
}
