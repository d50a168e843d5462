//! What a person needs of a run that went wrong: the violation, the events that concern it, and how to see it again.
//!
//! Must never hide that there is more.

use std::collections::HashMap;
use std::path::Path;

use lockferry_checker::Violation;
use lockferry_checker::history::{CallId, Event, FileId, Micros, Request};
use lockferry_sim::client::Stats;
use lockferry_sim::words::time;

use super::plan::{Plan, Trouble};

/// So many events are printed.
const EVENTS: usize = 200;

/// Prints it.
pub(crate) fn print(seed: u64, plan: &Plan, violation: &Violation, events: &[(Micros, Event)], path: &Path) {
    let requests: HashMap<CallId, Request> = events.iter().filter_map(sent).collect();
    let file = events.last().and_then(|(_, event)| file_of(event, &requests));
    println!("\n== seed {seed}: {violation}");
    println!("   {:?} is {}\n", violation.invariant, violation.invariant.promise());
    let about: Vec<_> = events.iter().filter(|(_, event)| touches(event, file, &requests)).collect();
    let from = about.len().saturating_sub(EVENTS);
    println!("-- the last {} of {} events that concern it:", about.len() - from, about.len());
    about[from..].iter().for_each(|(at, event)| println!("{} {event:?}", time(*at)));
    println!("-- the whole history is in {}", path.display());
    println!("-- the same plan again: {}\n", again(seed, plan.seconds, plan.trouble));
}

/// What brings the same plan about.
fn again(seed: u64, seconds: u64, trouble: Trouble) -> String {
    let without = match trouble.left_out() {
        out if out.is_empty() => out,
        out => format!(" CHAOS_WITHOUT={out}"),
    };
    // The only test that a seed can be given to.
    let name =
        std::any::type_name_of_val(&super::slow_a_correct_service_could_have_done_all_that_the_clients_saw);
    let name = name.rsplit("::").next().unwrap_or(name);
    format!(
        "CHAOS_SEED={seed} CHAOS_SECONDS={seconds}{without} cargo test --test chaos -- --exact --nocapture {name}"
    )
}

fn sent((_, event): &(Micros, Event)) -> Option<(CallId, Request)> {
    match event {
        Event::Sent { call, request, .. } => Some((*call, *request)),
        _ => None,
    }
}

/// The file that an event is about.
fn file_of(event: &Event, requests: &HashMap<CallId, Request>) -> Option<FileId> {
    match event {
        Event::Sent { call, .. } | Event::Got { call, .. } | Event::Abandoned { call, .. } => {
            match requests.get(call)? {
                Request::Lock { lock, .. } | Request::Cancel { lock } | Request::Test { lock } => {
                    Some(lock.file)
                }
                Request::Unlock { file, .. } => Some(*file),
                Request::Notify { .. } => None,
            }
        }
        Event::Granted { lock, .. } => Some(lock.file),
        _ => None,
    }
}

/// What is about the same file counts, and what is about none: all that befell machines. Where no file is known, everything counts.
fn touches(event: &Event, file: Option<FileId>, requests: &HashMap<CallId, Request>) -> bool {
    file.is_none() || file_of(event, requests).is_none_or(|of| Some(of) == file)
}

/// Adds what one client counts.
pub(crate) fn add(all: &mut Stats, one: Stats) {
    for (sum, more) in [
        (&mut all.locks, one.locks),
        (&mut all.unlocks, one.unlocks),
        (&mut all.cancels, one.cancels),
        (&mut all.tests, one.tests),
        (&mut all.reclaims, one.reclaims),
        (&mut all.notices, one.notices),
        (&mut all.mischief, one.mischief),
        (&mut all.repeats, one.repeats),
        (&mut all.polls, one.polls),
        (&mut all.granted, one.granted),
        (&mut all.denied, one.denied),
        (&mut all.blocked, one.blocked),
        (&mut all.grace, one.grace),
        (&mut all.nolocks, one.nolocks),
        (&mut all.deadlocks, one.deadlocks),
        (&mut all.other, one.other),
        (&mut all.late, one.late),
        (&mut all.accepted, one.accepted),
        (&mut all.refused, one.refused),
        (&mut all.noticed, one.noticed),
        (&mut all.reclaimed, one.reclaimed),
        (&mut all.lost, one.lost),
        (&mut all.abandoned, one.abandoned),
        (&mut all.leaked, one.leaked),
        (&mut all.boots, one.boots),
    ] {
        *sum += more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_has_all_that_makes_a_plan() {
        let all = again(7, 40, Trouble::without("").unwrap());
        assert_eq!(
            all,
            "CHAOS_SEED=7 CHAOS_SECONDS=40 cargo test --test chaos -- --exact --nocapture \
             slow_a_correct_service_could_have_done_all_that_the_clients_saw"
        );
        let some = again(7, 300, Trouble::without("liars, disk").unwrap());
        assert!(
            some.starts_with("CHAOS_SEED=7 CHAOS_SECONDS=300 CHAOS_WITHOUT=disk,liars cargo test"),
            "{some}"
        );
        let why = Trouble::without("disk,rain").unwrap_err();
        assert!(why.starts_with("there is no trouble 'rain'; allowed: kills, pauses, disk"), "{why}");
    }
}
