//! Thousands of random histories of a small server that is right: the checker must be silent. And of the same server with one
//! mistake each: the checker must speak.

mod common;

use common::clients::{LATE, run};
use common::server::Bug;
use lockferry_checker::history::{Event, History, Micros};
use lockferry_checker::{Invariant, Settings, Violation, check};

fn settings() -> Settings {
    Settings { late: LATE, slack: 300_000, ..Settings::default() }
}

fn checked(bug: Bug, seed: u64, chaos: u64) -> (Vec<(Micros, Event)>, Result<(), Violation>) {
    let events = run(bug, seed, chaos, 60_000_000);
    let history = History { events };
    let result = check(&history, &settings()).map(|_| ());
    (history.events, result)
}

fn seeds() -> u64 {
    std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60)
}

fn all_pass(chaos: u64) {
    for seed in 0..seeds() {
        let (events, result) = checked(Bug::None, seed, chaos);
        if let Err(violation) = result {
            let from = std::env::var("FROM").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
            let upto = events.iter().position(|(at, _)| *at > violation.at).unwrap_or(events.len());
            for (at, event) in &events[upto.saturating_sub(from)..upto] {
                if !matches!(event, Event::Listed { .. } | Event::Stored { .. }) {
                    println!("{at} {event:?}");
                }
            }
            panic!("chaos {chaos}, seed {seed}: {violation}");
        }
    }
}

#[test]
fn nothing_is_wrong_where_one_thing_follows_another() {
    all_pass(0);
}

#[test]
fn nothing_is_wrong_with_delays_losses_and_copies() {
    all_pass(1);
}

#[test]
fn nothing_is_wrong_with_moves_crashes_and_reboots() {
    all_pass(2);
}

#[test]
fn nothing_is_wrong_with_many_moves() {
    all_pass(6);
}

/// Each mistake, and the promises that it may be reported against.
fn mistakes() -> Vec<(Bug, Vec<Invariant>)> {
    use Invariant as I;
    vec![
        (Bug::GrantsShareBesideExclusive, vec![I::I1]),
        (Bug::UpgradeDespiteReaders, vec![I::I1]),
        (Bug::LosesOneLockInAMove, vec![I::I2]),
        (Bug::LosesGrantingInAMove, vec![I::I2]),
        (Bug::WindowTooShort, vec![I::I2]),
        (Bug::ReclaimRefusedAtEnd, vec![I::I2]),
        (Bug::TestIgnoresReclaimable, vec![I::I2]),
        (Bug::MoveReleasesAnother, vec![I::I1, I::I2]),
        (Bug::CacheLostInAMove, vec![I::I1, I::I2, I::I5]),
        (Bug::ReclaimWithoutProof, vec![I::I3]),
        (Bug::ReclaimOfStrongerMode, vec![I::I3, I::I1, I::I2]),
        (Bug::ReclaimWeakens, vec![I::I1, I::I2]),
        (Bug::WindowFreezesOtherAddresses, vec![I::I4]),
        (Bug::WindowFreezesItsAddress, vec![I::I5, I::I4]),
        (Bug::DeadlockOutOfNothing, vec![I::I5]),
        (Bug::WrongHolder, vec![I::I5, I::I13]),
        (Bug::OneOwnerForTwoAddresses, vec![I::I1, I::I13]),
        (Bug::ForgedUnlockFrees, vec![I::I1, I::I2, I::I13]),
        (Bug::LateNotifyFreesNewLocks, vec![I::I1, I::I2, I::I13]),
        (Bug::NotifyFreesNothing, vec![I::I5, I::I14, I::I13, I::Liveness]),
        (Bug::WindowNeverEnds, vec![I::I6, I::I5, I::Liveness]),
        (Bug::LastWaiterFirst, vec![I::I6]),
        (Bug::LostWakeUp, vec![I::Liveness, I::I6]),
        (Bug::NeverAnswersOnce, vec![I::Liveness]),
        (Bug::UnlockCopyActs, vec![I::I1, I::I2, I::I13]),
        (Bug::LockCopyActs, vec![I::I5, I::I13, I::I14, I::I9, I::I1]),
        (Bug::CopyIsDenied, vec![I::I9, I::I5, I::I2]),
        (Bug::UnlockRefusedInGrace, vec![I::I10]),
        (Bug::CancelRefused, vec![I::I10]),
        (Bug::GrantToCancelled, vec![I::I5, I::I13]),
        (Bug::UnlockFreesAll, vec![I::I13, I::I1]),
        (Bug::UnlockForgetsTheLastByte, vec![I::I5, I::I13]),
        (Bug::LockKeepsOldModeBeside, vec![I::I13, I::I5]),
        (Bug::ListLacksOne, vec![I::I14]),
        (Bug::RecordLacksOne, vec![I::I14]),
        (Bug::EvenState, vec![I::I7]),
    ]
}

#[test]
fn every_mistake_is_found() {
    let mut silent = Vec::new();
    for (bug, expected) in mistakes() {
        let mut seen: Vec<(Invariant, u64)> = Vec::new();
        let mut found = 0;
        let mut first = String::new();
        let tries = 100;
        // Up to the first that is found as what it is; all of them where a table is wanted.
        let table = std::env::var("TABLE").is_ok();
        for seed in 0..tries {
            if !table && seen.iter().any(|(invariant, _)| expected.contains(invariant)) {
                break;
            }
            // Who never polls is not woken after a move; and a lost wake-up would be repaired by a poll.
            for chaos in if bug == Bug::LostWakeUp { [0, 0, 0] } else { [1, 2, 6] } {
                if let (_, Err(violation)) = checked(bug, seed, chaos) {
                    found += 1;
                    if first.is_empty() {
                        first = violation.to_string();
                    }
                    match seen.iter_mut().find(|(invariant, _)| *invariant == violation.invariant) {
                        Some((_, count)) => *count += 1,
                        None => seen.push((violation.invariant, 1)),
                    }
                }
            }
        }
        seen.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        println!("| {bug:?} | {found}/{} | {seen:?} |", tries * 3);
        if std::env::var("WORDS").is_ok() {
            println!("    {first}");
        }
        if !seen.iter().any(|(invariant, _)| expected.contains(invariant)) {
            silent.push(bug);
        }
    }
    assert!(silent.is_empty(), "not found, or reported as something else: {silent:?}");
}
