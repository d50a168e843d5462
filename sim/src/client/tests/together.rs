//! Several clients and the honest server: what they believe to hold is what it says that they hold.

use std::time::Instant;

use super::honest::Honest;
use super::*;
use crate::random::Random;

const LATENCY: Micros = 200;

struct World {
    clients: Vec<Client>,
    server: Honest,
    now: Micros,
    /// What is under way: when it arrives, a number for the order, to whom (`None`: the server), what.
    way: std::collections::BTreeMap<(Micros, u64), (Option<usize>, Vec<u8>)>,
    sent: u64,
    out: Vec<Effect>,
    /// Every record, or only their number.
    log: Option<Vec<(Micros, Effect)>>,
    messages: u64,
    /// So many of a thousand messages are lost.
    loss: u32,
    random: Random,
}

impl World {
    fn new(seed: u64, kind: Kind, log: bool) -> Self {
        let mut out = Vec::new();
        let pace = Pace { mean: 2000, ..Pace::default() };
        let clients = (1..4).map(|id| Client::new(config(id, seed + u64::from(id), kind, pace), 0, &mut out));
        Self {
            clients: clients.collect(),
            server: Honest::default(),
            now: 0,
            way: Default::default(),
            sent: 0,
            out: Vec::new(),
            log: log.then(Vec::new),
            messages: 0,
            loss: 0,
            random: Random::new(seed),
        }
    }

    fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            let woken = (0..3).filter_map(|n| Some((self.clients[n].next_wake()?, n))).min();
            let arriving = self.way.keys().next().map(|(at, _)| *at);
            match (woken, arriving) {
                (Some((at, n)), arriving) if arriving.is_none_or(|other| at <= other) => {
                    self.now = self.now.max(at);
                    self.clients[n].wake(self.now, &mut self.out);
                    self.collect();
                }
                (_, Some(_)) => self.arrive(),
                _ => return,
            }
        }
    }

    fn arrive(&mut self) {
        let Some(((at, _), (to, message))) = self.way.pop_first() else { return };
        self.now = self.now.max(at);
        self.messages += 1;
        match to {
            Some(n) => {
                self.clients[n].receive(self.now, LM, &message, &mut self.out);
                self.collect();
            }
            None if message::is_call(&message) => {
                let mut out = Vec::new();
                self.server.call(&message, &mut out);
                for (name, message) in out {
                    let to = (0..3).find(|n| self.clients[*n].config.name == name);
                    self.post(to, message);
                }
            }
            None => self.server.granted_answered(&message),
        }
    }

    fn post(&mut self, to: Option<usize>, message: Vec<u8>) {
        self.sent += 1;
        if self.random.chance(self.loss) {
            return;
        }
        self.way.insert((self.now + LATENCY, self.sent), (to, message));
    }

    fn collect(&mut self) {
        for effect in std::mem::take(&mut self.out) {
            if let Some(log) = &mut self.log {
                log.push((self.now, effect.clone()));
            }
            match effect {
                Effect::Call { message, .. } | Effect::Reply { message, .. } => self.post(None, message),
                Effect::Record(_) => {}
            }
        }
    }

    /// Lets everything that is under way come to its end.
    fn settle(&mut self) {
        let now = self.now;
        self.clients.iter_mut().for_each(|client| client.calm(now));
        self.run(3000);
    }

    fn compare(&self) {
        for client in &self.clients {
            for owner in &client.owners {
                let mut believed: Vec<_> = owner.book.held().iter().map(|h| (h.file, h.bytes)).collect();
                let mut said: Vec<_> = merge(self.server.held_by(&client.config.name, owner.svid));
                believed.sort_unstable();
                said.sort_unstable();
                assert_eq!(believed, said, "{:?}", client.config.name);
            }
        }
    }

    fn operations(&self) -> u64 {
        let each = self.clients.iter().map(Client::stats);
        each.map(|s| s.locks + s.unlocks + s.tests + s.cancels + s.reclaims).sum()
    }
}

#[test]
fn what_clients_believe_is_what_the_server_says() {
    let mut world = World::new(11, Kind::Linux, false);
    world.run(60_000);
    world.settle();
    world.compare();
    let stats = world.clients[0].stats();
    for (what, count) in [
        ("granted", stats.granted),
        ("denied", stats.denied),
        ("blocked", stats.blocked),
        ("accepted", stats.accepted),
        ("cancels", stats.cancels),
        ("tests", stats.tests),
        ("unlocks", stats.unlocks),
    ] {
        assert!(count > 20, "{what}: {stats:?}");
    }
    assert_eq!((stats.other, stats.leaked, stats.lost), (0, 0, 0));
}

#[test]
fn and_so_it_is_when_messages_are_lost() {
    for seed in 0..10 {
        let mut world = World::new(seed * 100, Kind::Linux, false);
        world.loss = 30;
        world.run(30_000);
        world.loss = 0;
        world.settle();
        world.compare();
        assert!(world.clients[0].stats().repeats > 50);
    }
}

/// The server's list is not merged: neighbours in one mode become one.
fn merge(mut all: Vec<(Vec<u8>, lockferry::state::Range, lockferry::state::Mode)>) -> Vec<(usize, Bytes)> {
    all.sort_by_key(|(handle, range, _)| (handle.clone(), range.start));
    let mut merged: Vec<(usize, Bytes, lockferry::state::Mode)> = Vec::new();
    for (handle, range, mode) in all {
        let file = usize::from(handle.ends_with(b"2"));
        match merged.last_mut() {
            Some((f, bytes, m))
                if *f == file && *m == mode && bytes.end.checked_add(1) == Some(range.start) =>
            {
                bytes.end = range.end;
            }
            _ => merged.push((file, Bytes { start: range.start, end: range.end }, mode)),
        }
    }
    merged.into_iter().map(|(file, bytes, _)| (file, bytes)).collect()
}

#[test]
fn a_seed_decides_every_byte() {
    let run = |seed| {
        let mut world = World::new(seed, Kind::Linux, true);
        world.run(5000);
        world.log.unwrap()
    };
    let first = run(4);
    assert!(first.len() > 3000);
    assert!(first == run(4), "the same seed");
    assert!(first != run(5), "another seed");
}

/// Not a test of time: what a client costs is printed.
#[test]
#[ignore = "measures: cargo test --release -p lockferry-sim -- --ignored --nocapture cost"]
fn cost_of_a_message() {
    let mut out = Vec::new();
    let pace = Pace { mean: 2000, blocking: 0, ..Pace::default() };
    let mut client = Client::new(config(1, 1, Kind::Linux, pace), 0, &mut out);
    let mut replies: Vec<Vec<u8>> = Vec::new();
    let (mut now, mut messages) = (0, 0_u64);
    let began = Instant::now();
    let mut inside = std::time::Duration::ZERO;
    while messages < 4_000_000 {
        let before = Instant::now();
        for _ in 0..64 {
            now = now.max(client.next_wake().unwrap());
            client.wake(now, &mut out);
            replies.extend(out.drain(..).filter_map(granted_to));
            for reply in replies.drain(..) {
                messages += 2;
                client.receive(now, LM, &reply, &mut out);
            }
        }
        inside += before.elapsed();
    }
    let stats = client.stats();
    let operations = stats.locks + stats.unlocks + stats.tests;
    println!(
        "{operations} operations in {:?}: {} ns each, with the making of replies",
        began.elapsed(),
        inside.as_nanos() as u64 / operations
    );
}

fn granted_to(effect: Effect) -> Option<Vec<u8>> {
    let Effect::Call { message, .. } = effect else { return None };
    let header = message::parse_call(&message)?;
    let mut reply = message::begin_reply(header.xid);
    message::write_result(&mut reply, &message[header.args + 4..header.args + 8], GRANTED);
    Some(reply)
}

#[test]
fn together_they_do_much() {
    let mut world = World::new(2, Kind::Linux, false);
    world.run(20_000);
    assert!(world.operations() > 3000, "{}", world.operations());
    assert!(world.messages > 10_000);
    assert_eq!(
        world.clients.iter().map(|c| c.stats().refused).sum::<u64>(),
        u64::from(world.server.refused_grants)
    );
}

/// Everything that can befall clients, at random: what they record must still make sense.
#[test]
fn records_make_sense_whatever_happens() {
    for (seed, kind) in (0..12).zip([Kind::Linux, Kind::Bad, Kind::Async].into_iter().cycle()) {
        let mut world = World::new(seed * 10, kind, true);
        let mut chance = Random::new(seed);
        for round in 0..600 {
            world.run(20);
            world.befall(&mut chance, round);
        }
        check_records(&world.log.unwrap());
    }
}

impl World {
    fn befall(&mut self, chance: &mut Random, round: u32) {
        let (now, which) = (self.now, chance.below(3) as usize);
        let client = &mut self.clients[which];
        match chance.below(12) {
            0 => client.die(now, &mut self.out),
            1 | 2 => client.boot(now, &mut self.out),
            3 => client.stall(now + chance.below(SECOND)),
            4 => client.reset(now, LM, &mut self.out),
            5..=7 => {
                let mut notice = message::Template::new(b"s").begin(round, message::NSM, 1, message::NOTIFY);
                message::write_notify(&mut notice, b"lm", round / 3);
                client.receive(now, LM, &notice, &mut self.out);
            }
            8 => self.loss = chance.below(500) as u32,
            _ => {}
        }
        self.collect();
    }
}

fn check_records(log: &[(Micros, Effect)]) {
    let mut sent = std::collections::BTreeMap::new();
    let mut given_up = std::collections::BTreeSet::new();
    let mut up = std::collections::BTreeMap::new();
    let mut last = 0;
    for (at, effect) in log {
        assert!(*at >= last);
        last = *at;
        let Effect::Record(event) = effect else { continue };
        match event {
            Event::Boot { client, state } => {
                assert_eq!(state % 2, 1);
                assert!(up.insert(*client, true) != Some(true));
            }
            Event::Dead { client } => assert_ne!(up.insert(*client, false), Some(false)),
            Event::Sent { client, call, request } => {
                assert_ne!(up.get(client), Some(&false));
                assert!(!given_up.contains(call));
                let first = *sent.entry(*call).or_insert((*client, *request));
                assert_eq!(first, (*client, *request));
            }
            Event::Got { client, call, .. } => {
                assert_eq!(sent.get(call).map(|(client, _)| client), Some(client));
                assert!(!given_up.contains(call));
            }
            Event::Abandoned { call, .. } => assert!(given_up.insert(*call)),
            _ => {}
        }
    }
    assert!(sent.len() > 200, "{}", sent.len());
}
