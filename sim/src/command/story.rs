//! The part of a history that a failure is about: what its sentence names, and what befell the servers.
//!
//! Must never leave out the call or the callback in which the failure showed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lockferry_checker::history::{
    Bytes, CallId, ClientId, Command, Event, FileId, Lock, Micros, Owner, Request,
};

use crate::words;

use super::attempt::Wrong;

/// What a sentence names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named {
    calls: BTreeSet<CallId>,
    files: BTreeSet<FileId>,
    clients: BTreeSet<ClientId>,
    managers: BTreeSet<IpAddr>,
    /// Owner number and client.
    owners: BTreeSet<(u32, ClientId)>,
    bytes: Vec<Bytes>,
}

/// How close an event is to what is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    Elsewhere,
    /// The same file and bytes, somebody else.
    Around,
    /// The service, and the clients that are named.
    Service,
    /// What is named itself.
    Core,
}

/// At most so many lines of it.
pub(super) fn tell(history: &[(Micros, Event)], wrong: &Wrong, most: usize) -> Vec<String> {
    let Wrong::Broken(violation) = wrong else { return the_end(history, most) };
    let named = Named::of(&violation.what);
    let mut about: BTreeMap<_, _> = named.calls.iter().map(|call| (*call, Nearness::Core)).collect();
    let nearness: Vec<Nearness> =
        history.iter().map(|(_, event)| named.nearness(event, &mut about)).collect();
    // From the nearest outwards, as long as there is room; of what does not fit the end is told.
    let (mut chosen, mut room) = (vec![false; history.len()], most);
    for level in [Nearness::Core, Nearness::Service, Nearness::Around] {
        let of_level = (0..history.len()).rev().filter(|at| nearness[*at] == level);
        // The levels further out get something in any case.
        let share = if level == Nearness::Around { room } else { room * 2 / 3 };
        for at in of_level.take(share) {
            chosen[at] = true;
            room -= 1;
        }
    }
    let left_out =
        nearness.iter().zip(&chosen).filter(|(near, told)| **near != Nearness::Elsewhere && !**told).count();
    let told = history.iter().zip(&chosen).filter(|(_, told)| **told);
    let mut lines: Vec<String> = told.map(|((at, event), _)| words::line(*at, event)).collect();
    if left_out > 0 {
        lines.insert(0, format!("  ({left_out} more left out; --trace prints everything)"));
    }
    lines
}

/// A panic names nobody: what came last, and what befell the servers.
fn the_end(history: &[(Micros, Event)], most: usize) -> Vec<String> {
    let from = history.len().saturating_sub(most / 2);
    let (before, last) = history.split_at(from);
    let service: Vec<_> = before.iter().filter(|(_, event)| is_of_the_service(event)).collect();
    let service = service.iter().skip(service.len().saturating_sub(most / 2)).copied();
    service.chain(last).map(|(at, event)| words::line(*at, event)).collect()
}

fn is_of_the_service(event: &Event) -> bool {
    use Event::{Calm, Came, DiskFailed, Down, Frozen, Rest, Resumed, Routed, Told};
    matches!(
        event,
        Told { .. }
            | Came { .. }
            | Resumed { .. }
            | Down { .. }
            | Routed { .. }
            | Frozen { .. }
            | DiskFailed { .. }
            | Calm
            | Rest
    )
}

impl Named {
    /// Reads a sentence of the checker: `owner 7 of client 2 through 10.0.0.1`, `bytes 3..=5 of file 9`, `call 17`.
    fn of(what: &str) -> Self {
        let words: Vec<&str> = what
            .split_whitespace()
            .map(|word| word.trim_matches(&['(', ')', ',', ';', ':', '.'][..]))
            .collect();
        let mut named = Self::default();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        for (at, word) in words.iter().enumerate() {
            if let Ok(ip) = word.parse::<IpAddr>() {
                named.managers.insert(ip);
            }
            match (*word, number(at + 1)) {
                ("call", Some(id)) => drop(named.calls.insert(CallId(id))),
                ("file", Some(id)) => drop(named.files.insert(FileId(id))),
                ("client", Some(id)) => drop(named.clients.insert(ClientId(id as u32))),
                ("owner", Some(svid)) => {
                    if let (Some(&"client"), Some(client)) = (words.get(at + 3), number(at + 4)) {
                        named.owners.insert((svid as u32, ClientId(client as u32)));
                    }
                }
                ("bytes", _) => named.bytes.extend(words.get(at + 1).and_then(|word| read_bytes(word))),
                _ => {}
            }
        }
        named
    }

    /// `about`: calls, and how near they are.
    fn nearness(&self, event: &Event, about: &mut BTreeMap<CallId, Nearness>) -> Nearness {
        match event {
            Event::Sent { call, request, .. } => {
                *about.entry(*call).or_insert_with(|| self.of_request(request))
            }
            Event::Got { call, .. } | Event::Abandoned { call, .. } => {
                about.get(call).copied().unwrap_or(Nearness::Elsewhere)
            }
            Event::Granted { lock, .. } => self.of_lock(lock),
            Event::Noticed { client, lm, .. } if self.clients.contains(client) && self.touches(*lm) => {
                Nearness::Service
            }
            Event::Boot { client, .. } | Event::Dead { client } if self.clients.contains(client) => {
                Nearness::Service
            }
            Event::Told { command, .. } if self.touches(manager_of(command)) => Nearness::Service,
            Event::Resumed { lm, .. } | Event::Routed { lm, .. } if self.touches(*lm) => Nearness::Service,
            Event::DiskFailed { lm } if self.touches(*lm) => Nearness::Service,
            Event::Told { .. } | Event::Resumed { .. } | Event::Routed { .. } | Event::DiskFailed { .. } => {
                Nearness::Elsewhere
            }
            other if is_of_the_service(other) => Nearness::Service,
            _ => Nearness::Elsewhere,
        }
    }

    fn touches(&self, lm: IpAddr) -> bool {
        self.managers.is_empty() || self.managers.contains(&lm)
    }

    fn of_request(&self, request: &Request) -> Nearness {
        match request {
            Request::Lock { lock, .. } | Request::Cancel { lock } | Request::Test { lock } => {
                self.of_lock(lock)
            }
            Request::Unlock { owner, file, bytes } => {
                self.of_lock(&Lock { owner: *owner, file: *file, bytes: *bytes, exclusive: true })
            }
            Request::Notify { client, lm, .. } if self.clients.contains(client) && self.touches(*lm) => {
                Nearness::Service
            }
            Request::Notify { .. } => Nearness::Elsewhere,
        }
    }

    fn of_lock(&self, lock: &Lock) -> Nearness {
        let Owner { client, lm, svid } = lock.owner;
        let there = self.files.is_empty() || self.files.contains(&lock.file);
        let meets = |bytes: &Bytes| bytes.start <= lock.bytes.end && lock.bytes.start <= bytes.end;
        let meets = self.bytes.is_empty() || self.bytes.iter().any(meets);
        let his = self.owners.contains(&(svid, client)) && self.touches(lm);
        match (there && meets, his) {
            (true, true) => Nearness::Core,
            (true, false) if !self.files.is_empty() => Nearness::Around,
            _ => Nearness::Elsewhere,
        }
    }
}

fn manager_of(command: &Command) -> IpAddr {
    match command {
        Command::StartGrace { lm, .. }
        | Command::UnlockIp { lm }
        | Command::EndGrace { lm }
        | Command::UnlockClient { lm, .. } => *lm,
    }
}

/// `3..=5`, or `3..end`.
fn read_bytes(word: &str) -> Option<Bytes> {
    let (start, end) = word.split_once("..")?;
    let end = if end.starts_with("end") { u64::MAX } else { end.strip_prefix('=')?.parse().ok()? };
    Some(Bytes { start: start.parse().ok()?, end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockferry_checker::history::Answer;
    use lockferry_checker::{Invariant, Violation};

    const WHAT: &str = "LOCK, blocking, of exclusive bytes 0..=5 of file 9 by owner 3 of client 4 through 10.0.0.1 (call 44, sent 5 \
        times, from 0.000003 s to 0.000004 s) was granted, but owner 0 of client 1 through 10.0.0.10 holds bytes 3..end of file 9";

    fn lock(svid: u32, client: u32, start: u64) -> Lock {
        let owner = Owner { client: ClientId(client), lm: "10.0.0.1".parse().unwrap(), svid };
        Lock { owner, file: FileId(9), bytes: Bytes { start, end: start }, exclusive: true }
    }

    fn sent(call: u64, lock: Lock) -> (Micros, Event) {
        let request = Request::Test { lock };
        (call, Event::Sent { client: lock.owner.client, call: CallId(call), request })
    }

    #[test]
    fn a_sentence_names_calls_files_owners_bytes_and_addresses() {
        let named = Named::of(WHAT);
        assert_eq!(named.calls, [CallId(44)].into());
        assert_eq!(named.files, [FileId(9)].into());
        assert_eq!(named.owners, [(3, ClientId(4)), (0, ClientId(1))].into());
        assert_eq!(named.bytes, [Bytes { start: 0, end: 5 }, Bytes { start: 3, end: u64::MAX }]);
        assert_eq!(named.managers.len(), 2);
    }

    #[test]
    fn what_is_named_comes_before_what_is_around_it_and_the_rest_is_left_out() {
        let wrong = Wrong::Broken(Violation { invariant: Invariant::I1, at: 9, what: WHAT.into() });
        let mut history: Vec<_> = (0..100).map(|n| sent(1_000 + n, lock(8, 2, 4))).collect();
        history.push(sent(44, lock(3, 4, 2)));
        let elsewhere = Lock { file: FileId(10), ..lock(3, 4, 2) };
        history.push(sent(45, elsewhere));
        let got = Event::Got { client: ClientId(4), call: CallId(44), answer: Answer::Granted };
        history.push((50, got));
        let lines = tell(&history, &wrong, 10);
        assert_eq!(lines.len(), 11, "{lines:?}");
        assert!(lines[0].contains("92 more left out"), "{}", lines[0]);
        assert!(lines[9].contains("[44]") && lines[10].contains("[44] GRANTED"), "{lines:?}");
    }
}
