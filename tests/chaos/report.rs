//! What a person needs of a run that went wrong: the violation, the events that concern it, and how to see it again.
//!
//! Must never hide that there is more.

use std::path::Path;

use lockferry_checker::Violation;
use lockferry_checker::history::{CallId, ClientId, Event, FileId, Lock, Micros, Owner, Request};
use lockferry_sim::client::Stats;

/// So many events are printed.
const EVENTS: usize = 200;

/// What a violation is about.
#[derive(Clone, Copy, Debug, Default)]
struct Concern {
    file: Option<FileId>,
    client: Option<ClientId>,
}

/// Prints it.
pub(crate) fn print(
    seed: u64,
    seconds: u64,
    violation: &Violation,
    events: &[(Micros, Event)],
    path: &Path,
) {
    let concern = concern(events);
    println!("\n== seed {seed}: {violation}\n");
    let about: Vec<_> = events.iter().filter(|(_, event)| touches(event, &concern, events)).collect();
    let from = about.len().saturating_sub(EVENTS);
    println!("-- the last {} of {} events that concern it:", about.len() - from, about.len());
    about[from..].iter().for_each(|(at, event)| println!("{at:>12} {event:?}"));
    println!("-- the whole history is in {}", path.display());
    println!("-- the same plan again: CHAOS_SEED={seed} CHAOS_SECONDS={seconds} cargo test --test chaos -- --nocapture\n");
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// What the last event was about.
fn concern(events: &[(Micros, Event)]) -> Concern {
    let Some((_, last)) = events.last() else { return Concern::default() };
    match last {
        Event::Got { call, .. } => {
            let sent = events.iter().rev().find_map(|(_, event)| match event {
                Event::Sent { call: of, request, .. } if of == call => Some(*request),
                _ => None,
            });
            sent.map_or(Concern::default(), |request| of_request(&request))
        }
        Event::Granted { lock, .. } => of_lock(lock),
        _ => Concern::default(),
    }
}

fn of_lock(lock: &Lock) -> Concern {
    of(lock.file, lock.owner)
}

fn of(file: FileId, owner: Owner) -> Concern {
    Concern { file: Some(file), client: Some(owner.client) }
}

fn of_request(request: &Request) -> Concern {
    match request {
        Request::Lock { lock, .. } | Request::Cancel { lock } | Request::Test { lock } => of_lock(lock),
        Request::Unlock { owner, file, .. } => of(*file, *owner),
        Request::Notify { client, .. } => Concern { file: None, client: Some(*client) },
    }
}

/// Requests and answers on the same file count, and everything that befell machines. Of a concern that is not known, all.
fn touches(event: &Event, concern: &Concern, events: &[(Micros, Event)]) -> bool {
    let Some(file) = concern.file else { return true };
    let about = |request: &Request| of_request(request).file.is_none_or(|of| of == file);
    match event {
        Event::Sent { request, .. } => about(request),
        Event::Got { call, .. } | Event::Abandoned { call, .. } => {
            request_of(*call, events).is_none_or(|request| about(&request))
        }
        Event::Granted { lock, .. } => lock.file == file,
        _ => true,
    }
}

fn request_of(call: CallId, events: &[(Micros, Event)]) -> Option<Request> {
    events.iter().rev().find_map(|(_, event)| match event {
        Event::Sent { call: of, request, .. } if *of == call => Some(*request),
        _ => None,
    })
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
