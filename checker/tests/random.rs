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
    std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(150)
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
