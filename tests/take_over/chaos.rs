//! Everything at once, at random: nodes are killed and frozen, verbs run beside each other on both of them, lock managers move without being
//! given up, and clients lock, wait and unlock all the time. No two clients ever have one byte, and nobody loses a lock.
//!
//! `CHAOS_SEED` and `CHAOS_SECONDS` choose a run; what it does is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::rawrpc::nlm::*;
use super::rawrpc::{Client, Conn, Host, Node, Want, host};
use super::{Daemon, LONG, Pair, text};

/// Lock managers.
const LMS: usize = 3;
/// Clients of each.
const CLIENTS: u8 = 2;
/// Bytes that all of them want.
const SHARED: u64 = 5;
/// Bytes that only one of them wants.
const OWN: u64 = 20;
/// No answer within this: something has happened to the server.
const IMPATIENT: Duration = Duration::from_millis(400);
/// How long a client insists. Freezes and restarts come one after the other.
const STUBBORN: Duration = Duration::from_secs(60);

fn address(lm: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, 0, 1 + lm as u8)
}

/// Numbers that look random (xorshift).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// Who believes to hold a byte, and since which move of its lock manager that is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Belief {
    client: u8,
    lm: usize,
    sure: u64,
}

/// What all of them see.
struct Field<'a> {
    nodes: [&'a Node; 2],
    /// Where each lock manager was last taken up.
    at: [AtomicU64; LMS],
    /// How often each was taken up.
    moves: [AtomicU64; LMS],
    /// The last move in which a window was ended by command: who had not reclaimed then may have lost.
    ended: [AtomicU64; LMS],
    stop: AtomicBool,
    /// The file of each lock manager.
    files: Vec<Vec<u8>>,
    held: Mutex<BTreeMap<(Vec<u8>, u64), Belief>>,
    taken: AtomicU64,
    granted: AtomicU64,
    reclaimed: AtomicU64,
}

impl Field<'_> {
    fn may_be_lost(&self, belief: &Belief) -> bool {
        self.ended[belief.lm].load(Ordering::SeqCst) >= belief.sure
    }
}

/// One client, which never gives up.
struct Worker<'a> {
    field: &'a Field<'a>,
    number: u8,
    lm: usize,
    dice: Dice,
    hosts: [Host; 2],
    client: Option<Client>,
    /// At which move it last reclaimed.
    at: u64,
    /// Since which move it surely has which byte.
    mine: BTreeMap<u64, u64>,
    /// Bytes whose LOCK or UNLOCK got no answer: to be unlocked before anything else.
    doubtful: BTreeSet<u64>,
}

impl Worker<'_> {
    fn want(&self, byte: u64) -> Want {
        Want::bytes(&self.field.files[self.lm], byte, 1)
    }

    fn name(&self) -> String {
        format!("client-{}", self.number)
    }

    fn key(&self, byte: u64) -> (Vec<u8>, u64) {
        (self.field.files[self.lm].clone(), byte)
    }

    fn move_now(&self) -> u64 {
        self.field.moves[self.lm].load(Ordering::SeqCst)
    }

    /// One call on the connection that there is, or on a new one, mostly to where the lock manager is; `None`: no answer.
    fn ask(&mut self, procedure: u32, want: &Want) -> Option<u32> {
        if self.client.is_none() {
            let right = self.field.at[self.lm].load(Ordering::SeqCst);
            let node = if self.dice.below(8) == 0 { 1 - right } else { right };
            let to = (address(self.lm), PORT).into();
            let from = host(10 + self.number);
            let conn = self.field.nodes[node as usize].within(|| Conn::try_tcp(from, to)).ok()?;
            self.client = Some(Client::on(conn, 4, &self.name()));
        }
        let answer = self.client.as_mut()?.status_within(IMPATIENT, procedure, want);
        if answer.is_none() {
            self.client = None;
        }
        answer
    }

    /// Until there is an answer, over however many moves.
    fn insist(&mut self, procedure: u32, want: &Want) -> u32 {
        let limit = Instant::now() + STUBBORN;
        loop {
            if let Some(answer) = self.ask(procedure, want) {
                return answer;
            }
            assert!(Instant::now() < limit, "{} of {} hears nothing any more", self.name(), address(self.lm));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What a client does that was told of a move.
    fn come_back(&mut self) {
        let now = self.move_now();
        if now == self.at {
            return;
        }
        self.client = None;
        for (byte, sure) in self.mine.clone() {
            let answer = self.insist(2, &self.want(byte).reclaim());
            let belief = Belief { client: self.number, lm: self.lm, sure };
            let key = self.key(byte);
            let mut held = self.field.held.lock().unwrap();
            let is_mine = held.get(&key).is_some_and(|b| b.client == self.number);
            if answer == GRANTED {
                assert!(is_mine, "{} reclaimed byte {byte} of {:?}", self.name(), held.get(&key));
                held.insert(key, Belief { sure: now, ..belief });
                self.mine.insert(byte, now);
                self.field.reclaimed.fetch_add(1, Ordering::Relaxed);
            } else {
                assert!(
                    self.field.may_be_lost(&belief),
                    "{} of {} lost byte {byte} in move {now}: {answer}",
                    self.name(),
                    address(self.lm)
                );
                if is_mine {
                    held.remove(&key);
                }
                self.mine.remove(&byte);
                drop(held);
                self.doubtful.insert(byte);
            }
        }
        self.at = now;
    }

    fn settle_doubts(&mut self) {
        for byte in std::mem::take(&mut self.doubtful) {
            assert_eq!(self.insist(4, &self.want(byte)), GRANTED);
        }
    }

    fn release(&mut self, byte: u64) {
        let sure = self.mine.remove(&byte).unwrap();
        let mut held = self.field.held.lock().unwrap();
        let key = self.key(byte);
        if held.get(&key).is_some_and(|b| b.client == self.number) {
            // From here on others may have it, whether we hear the answer or not.
            held.remove(&key);
        } else {
            let belief = Belief { client: self.number, lm: self.lm, sure };
            assert!(self.field.may_be_lost(&belief), "{} lost byte {byte} unnoticed", self.name());
        }
        drop(held);
        assert_eq!(self.insist(4, &self.want(byte)), GRANTED);
    }

    fn has(&mut self, byte: u64, sure: u64) {
        let belief = Belief { client: self.number, lm: self.lm, sure };
        let before = self.field.held.lock().unwrap().insert(self.key(byte), belief);
        if let Some(before) = before {
            assert!(
                self.field.may_be_lost(&before),
                "byte {byte} was granted to {} of {} too: {before:?}",
                self.name(),
                address(self.lm)
            );
        }
        self.mine.insert(byte, sure);
        self.field.taken.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&mut self, byte: u64) {
        let sure = self.move_now();
        match self.ask(2, &self.want(byte)) {
            Some(GRANTED) => self.has(byte, sure),
            Some(DENIED | GRACE) => {}
            None => drop(self.doubtful.insert(byte)),
            Some(other) => panic!("LOCK got {other}"),
        }
    }

    /// A LOCK that waits, for a while.
    fn wait_for(&mut self, byte: u64) {
        let sure = self.move_now();
        // What came too late for an earlier LOCK is no answer to this one.
        while self.heard(Duration::ZERO).is_some() {}
        match self.ask(2, &self.want(byte).blocking()) {
            Some(GRANTED) => return self.has(byte, sure),
            Some(BLOCKED) => {
                let limit = Instant::now() + Duration::from_millis(self.dice.below(400));
                while Instant::now() < limit {
                    if self.heard(Duration::from_millis(10)) == Some(byte) {
                        self.field.granted.fetch_add(1, Ordering::Relaxed);
                        return self.has(byte, sure);
                    }
                }
                self.ask(3, &self.want(byte).blocking());
            }
            Some(DENIED | GRACE | DEADLOCK) | None => {}
            Some(other) => panic!("blocking LOCK got {other}"),
        }
        self.doubtful.insert(byte);
    }

    /// The byte of a GRANTED that came.
    fn heard(&self, limit: Duration) -> Option<u64> {
        let heard = self.hosts.iter().find_map(|host| host.expect_within(limit / 2, PROGRAM, 5))?;
        Some(Granted::parse(heard.version, &heard.args).offset)
    }

    fn run(mut self) -> BTreeMap<(Vec<u8>, u64), u8> {
        let own = 1_000 * (u64::from(self.number) + 1);
        while !self.field.stop.load(Ordering::SeqCst) {
            self.come_back();
            self.settle_doubts();
            let byte = match self.dice.below(2) {
                0 => own + self.dice.below(OWN),
                _ => self.dice.below(SHARED),
            };
            if self.mine.contains_key(&byte) {
                self.release(byte);
            } else if self.dice.below(5) == 0 {
                self.wait_for(byte);
            } else {
                self.take(byte);
            }
        }
        self.come_back();
        self.settle_doubts();
        self.mine.keys().map(|byte| (self.key(*byte), self.number)).collect()
    }
}

/// Who does all that to them.
struct Chaos<'a> {
    field: &'a Field<'a>,
    pair: &'a Pair,
    servers: [Option<Daemon>; 2],
    journals: Vec<std::path::PathBuf>,
    dice: Dice,
    /// Both nodes, or one only: lock managers that share files may not be apart.
    nodes: u64,
    log: Vec<String>,
}

impl Chaos<'_> {
    fn say(&mut self, what: String) {
        self.log.push(what);
    }

    fn server(&self, node: u64) -> &Daemon {
        self.servers[node as usize].as_ref().unwrap()
    }

    fn restart(&mut self, node: u64) {
        let tables = tables(&self.journals);
        self.servers[node as usize] =
            Some(self.field.nodes[node as usize].serve(&self.pair.world, LONG, &tables));
    }

    fn try_verb(&self, node: u64, verb: &[&str]) -> bool {
        self.server(node).command(verb).status.success()
    }

    fn try_start(&self, lm: usize, node: u64) -> bool {
        let ip = address(lm).to_string();
        self.try_verb(node, &["start-grace", &ip, "--journal", text(&self.journals[lm])])
    }

    /// Has it served on a node, and the clients told.
    fn start(&mut self, lm: usize, node: u64) {
        let limit = Instant::now() + STUBBORN;
        while !self.try_start(lm, node) || !self.server(node).serves(&address(lm).to_string()) {
            assert!(
                Instant::now() < limit,
                "{} cannot be taken up: {}\n{}",
                address(lm),
                self.log.join("\n"),
                self.server(node).log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.field.at[lm].store(node, Ordering::SeqCst);
        self.field.moves[lm].fetch_add(1, Ordering::SeqCst);
    }

    fn at(&self, lm: usize) -> u64 {
        self.field.at[lm].load(Ordering::SeqCst)
    }

    fn step(&mut self) {
        let lm = self.dice.below(LMS as u64) as usize;
        let (from, to) = (self.at(lm), self.dice.below(self.nodes));
        let ip = address(lm).to_string();
        match self.dice.below(7) {
            0 => {
                self.say(format!("{ip}: from {from} to {to}, given up first"));
                assert!(self.try_verb(from, &["unlock-ip", &ip]));
                self.start(lm, to);
            }
            1 => {
                self.say(format!("{ip}: from {from} to {to}, taken"));
                self.start(lm, to);
            }
            2 => {
                self.say(format!("node {to} is killed"));
                self.servers[to as usize].take().unwrap().kill();
                self.restart(to);
                for lm in 0..LMS {
                    self.start(lm, self.at(lm));
                }
            }
            3 if self.nodes > 1 => {
                self.say(format!("node {from} is frozen, {ip} is taken from it"));
                self.server(from).freeze();
                self.start(lm, 1 - from);
                std::thread::sleep(Duration::from_millis(self.dice.below(1_000)));
                self.server(from).thaw();
                for lm in 0..LMS {
                    self.start(lm, self.at(lm));
                }
            }
            3 => {
                let rest = self.dice.below(600);
                self.say(format!("node {from} is frozen for {rest} ms"));
                self.server(from).freeze();
                std::thread::sleep(Duration::from_millis(rest));
                self.server(from).thaw();
            }
            4 if self.dice.below(3) == 0 => {
                self.say(format!("{ip}: its window is ended"));
                self.field.ended[lm].store(self.field.moves[lm].load(Ordering::SeqCst) + 1, Ordering::SeqCst);
                self.try_verb(from, &["end-grace", &ip]);
                self.start(lm, from);
            }
            _ => self.crowd(),
        }
    }

    /// Verbs beside each other, and perhaps a power cut among them.
    fn crowd(&mut self) {
        // Of a lock manager that is given up, the others keep the locks on a file in mind as long as one of them is served, and that
        // mind does not outlive the process.
        let shared = self.nodes == 1;
        let cut = !shared && self.dice.below(3) == 0;
        let verbs: Vec<(usize, u64, bool, u64)> = (0..4 + self.dice.below(5))
            .map(|_| {
                let lm = self.dice.below(LMS as u64) as usize;
                let start = self.dice.below(2) == 0 || (shared && lm == 0);
                (lm, self.dice.below(self.nodes), start, self.dice.below(60))
            })
            .collect();
        self.say(format!("a crowd, {}: {verbs:?}", if cut { "cut off" } else { "to the end" }));
        let victim = self.dice.below(self.nodes);
        let rest = self.dice.below(80);
        let (servers, journals) = (&self.servers, &self.journals);
        std::thread::scope(|s| {
            for (lm, node, start, pause) in verbs {
                s.spawn(move || {
                    std::thread::sleep(Duration::from_millis(pause));
                    let (ip, server) = (address(lm).to_string(), servers[node as usize].as_ref().unwrap());
                    match start {
                        true => server.command(&["start-grace", &ip, "--journal", text(&journals[lm])]),
                        false => server.command(&["unlock-ip", &ip]),
                    }
                });
            }
            if cut {
                std::thread::sleep(Duration::from_millis(rest));
                servers[victim as usize].as_ref().unwrap().signal(nix::sys::signal::Signal::SIGKILL);
            }
        });
        if cut {
            self.servers[victim as usize].take().unwrap().kill();
            self.restart(victim);
        }
        for lm in 0..LMS {
            let node = self.dice.below(self.nodes);
            self.start(lm, node);
        }
    }
}

/// Both nodes know which addresses float, and are silent on them until they are told otherwise.
fn tables(journals: &[std::path::PathBuf]) -> String {
    let all = journals.iter().enumerate();
    all.map(|(lm, dir)| format!("[[lock_manager]]\naddress = \"{}\"\njournal = {dir:?}\n", address(lm)))
        .collect()
}

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// `nodes`: both, each lock manager with a file of its own; or one, and all lock managers share a file.
fn run(nodes: u64) {
    let Some(pair) = Pair::new() else { return };
    let seed = number("CHAOS_SEED", u64::from(std::process::id()));
    let until = Instant::now() + Duration::from_secs(number("CHAOS_SECONDS", 8));
    println!("CHAOS_SEED={seed}");
    let journals: Vec<_> = (0..LMS).map(|lm| pair.world.dir().join(format!("journal-{lm}"))).collect();
    journals.iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
    (0..LMS).for_each(|lm| drop(pair.world.file(&format!("f{lm}"))));
    let servers = [&pair.a, &pair.b].map(|node| node.serve(&pair.world, LONG, &tables(&journals)));
    let ip = address(0).to_string();
    servers[0].verb(&["start-grace", &ip, "--journal", text(&journals[0])]);
    let file = |lm: usize| pair.a.handle(&servers[0], &format!("f{}", if nodes > 1 { lm } else { 0 }));
    let field = Field {
        nodes: [&pair.a, &pair.b],
        at: std::array::from_fn(|_| AtomicU64::new(0)),
        moves: std::array::from_fn(|_| AtomicU64::new(1)),
        ended: std::array::from_fn(|_| AtomicU64::new(0)),
        stop: AtomicBool::new(false),
        files: (0..LMS).map(file).collect(),
        held: Mutex::default(),
        taken: AtomicU64::new(0),
        granted: AtomicU64::new(0),
        reclaimed: AtomicU64::new(0),
    };
    let (dice, log) = (Dice::new(seed), Vec::new());
    let mut chaos =
        Chaos { field: &field, pair: &pair, servers: servers.map(Some), journals, dice, nodes, log };
    (0..LMS).for_each(|lm| chaos.start(lm, 0));
    let held: BTreeMap<(Vec<u8>, u64), u8> = std::thread::scope(|s| {
        let workers: Vec<_> = (0..LMS as u8 * CLIENTS)
            .map(|number| {
                let worker = Worker {
                    field: &field,
                    number,
                    lm: usize::from(number) % LMS,
                    dice: Dice::new(seed ^ (u64::from(number) << 32) ^ 77),
                    hosts: [pair.a.host(10 + number), pair.b.host(10 + number)],
                    client: None,
                    at: 0,
                    mine: BTreeMap::new(),
                    doubtful: BTreeSet::new(),
                };
                s.spawn(move || worker.run())
            })
            .collect();
        // Whatever happens here, they end.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let end = End(&field.stop);
        while Instant::now() < until && !workers.iter().any(|w| w.is_finished()) {
            std::thread::sleep(Duration::from_millis(chaos.dice.below(300)));
            chaos.step();
        }
        drop(end);
        let ends: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        if ends.iter().any(Result::is_err) {
            for (node, server) in chaos.servers.iter().flatten().enumerate() {
                eprintln!("-- node {node}:\n{}", server.log());
            }
            panic!("what was done:\n{}", chaos.log.join("\n"));
        }
        ends.into_iter().flatten().flatten().collect()
    });
    let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
    println!(
        "{} steps, {} locks taken, {} by callback, {} reclaimed",
        chaos.log.len(),
        count(&field.taken),
        count(&field.granted),
        count(&field.reclaimed)
    );
    let mut listed = BTreeMap::new();
    for lm in 0..LMS {
        let server = chaos.server(chaos.at(lm));
        for row in server.rows("locks") {
            if row["lock_manager"] != address(lm).to_string() {
                continue;
            }
            let client = row["client"].as_str().unwrap().strip_prefix("client-").unwrap().parse().unwrap();
            let (start, end) = (row["start"].as_u64().unwrap(), row["end"].as_u64().unwrap());
            listed.extend((start..=end).map(|byte| ((field.files[lm].clone(), byte), client)));
        }
    }
    assert_eq!(listed, held, "what the servers have and what clients believe: {}", chaos.log.join("\n"));
}

#[test]
fn nothing_is_lost_or_shared_while_two_nodes_take_lock_managers_from_each_other() {
    run(2);
}

#[test]
fn nothing_is_lost_or_shared_while_lock_managers_of_one_file_come_and_go() {
    run(1);
}
