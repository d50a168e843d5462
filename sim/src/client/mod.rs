//! Model clients: what an NFS client's lock manager and status monitor send, and what they make of what comes back. No sockets and no
//! clock: bytes and times in, bytes and records out, so that a seed and the inputs decide all that a client does.
//!
//! Must never know more of the service than its answers say, nor use the service's code for more than an RPC header.

mod bad;
mod book;
mod callback;
mod calls;
mod message;
mod owner;
mod reclaim;
mod settings;
#[cfg(test)]
mod tests;
mod transmit;
mod work;

pub use message::owner_of;
pub use settings::{Config, Effect, FileRef, Kind, Pace, Stats};

use std::net::IpAddr;

use lockferry_checker::history::{ClientId, Event, Micros};

use crate::random::Random;
use calls::{Calls, Role};
use message::Template;
use owner::Owner;
use reclaim::Reclaim;

/// One second.
const SECOND: Micros = 1_000_000;
/// Who is slow to tell of a reboot does so within this time.
const LATE_NOTICE: Micros = 10 * SECOND;
/// Who takes its time after a reboot has locked something by then.
const SLOW_START: Micros = 30 * SECOND;
/// "Never."
const NEVER: Micros = Micros::MAX;
/// So many messages are kept for a client that does nothing at the moment; more are lost.
const INBOX: usize = 64;

/// What a client knows of a server address.
#[derive(Clone, Debug)]
struct Server {
    address: IpAddr,
    /// Calls go over TCP.
    tcp: bool,
    /// Its NSM state as far as it was told; 0: never.
    known: u32,
    /// It was asked for a lock since the client booted.
    monitored: bool,
    /// It is still to be told of a reboot.
    untold: bool,
    /// When that begins, if it has not yet.
    tell_at: Micros,
    /// The locks that are being reclaimed.
    reclaim: Option<Reclaim>,
    /// The number of the next owner.
    next_svid: u32,
    /// The files that can be locked through it, by their places.
    files: Vec<usize>,
}

/// What arrived while nothing was done.
#[derive(Clone, Debug)]
enum Arrival {
    Message(IpAddr, Vec<u8>),
    Reset(IpAddr),
}

/// A client machine.
#[derive(Debug)]
pub struct Client {
    config: Config,
    template: Template,
    random: Random,
    servers: Vec<Server>,
    owners: Vec<Owner>,
    calls: Calls,
    /// Its NSM state.
    state: u32,
    xid: u32,
    cookie: u32,
    /// Calls so far, over all reboots.
    count: u64,
    alive: bool,
    calm: bool,
    stalled: Micros,
    inbox: Vec<Arrival>,
    /// The longest time between two transmissions.
    longest: Micros,
    /// A GRANTED that comes as a new call for what is held already is refused, as Linux does.
    forgetful: bool,
    next: Micros,
    stats: Stats,
}

impl Client {
    /// A machine that boots for the first time.
    pub fn new(config: Config, now: Micros, out: &mut Vec<Effect>) -> Self {
        let mut random = Random::new(config.seed);
        let mut client = Self {
            template: Template::new(&config.name),
            servers: servers(&config, &mut random),
            owners: Vec::new(),
            calls: Calls::default(),
            state: (random.below(1 << 20) as u32) * 2 + 1,
            xid: 0,
            cookie: 0,
            count: 0,
            alive: false,
            calm: false,
            stalled: 0,
            inbox: Vec::new(),
            longest: 10 * SECOND + random.below(20 * SECOND),
            forgetful: random.chance(500),
            next: NEVER,
            stats: Stats::default(),
            random,
            config,
        };
        client.come_up(now, out);
        client
    }

    /// When it wants to be woken; `None`: only what arrives can move it.
    pub fn next_wake(&self) -> Option<Micros> {
        (self.next != NEVER).then_some(self.next)
    }

    /// Does what is due.
    pub fn wake(&mut self, now: Micros, out: &mut Vec<Effect>) {
        if !self.alive || now < self.stalled {
            return;
        }
        for arrival in std::mem::take(&mut self.inbox) {
            match arrival {
                Arrival::Message(from, message) => self.handle(now, from, &message, out),
                Arrival::Reset(from) => self.resend_all(now, from, out),
            }
        }
        for server in 0..self.servers.len() {
            if self.servers[server].due() <= now {
                self.reclaim_next(now, server, out);
            }
            if self.servers[server].tell_at <= now {
                self.servers[server].tell_at = NEVER;
                self.tell(now, server, out);
            }
        }
        for owner in 0..self.owners.len() {
            if self.owners[owner].due(self.calm) <= now {
                self.owner_wakes(now, owner, out);
            }
        }
        for at in 0..self.calls.open().len() {
            if self.calls.open()[at].due <= now {
                self.resend(now, at, out);
            }
        }
        self.plan();
    }

    /// A message arrives: a reply to one of its calls, or a call of the server.
    pub fn receive(&mut self, now: Micros, from: IpAddr, message: &[u8], out: &mut Vec<Effect>) {
        if !self.alive {
            return;
        }
        if now < self.stalled {
            self.keep(Arrival::Message(from, message.to_vec()));
            return;
        }
        self.handle(now, from, message, out);
        self.plan();
    }

    /// Its TCP connections to that address are gone: what is unanswered is sent again at once.
    pub fn reset(&mut self, now: Micros, from: IpAddr, out: &mut Vec<Effect>) {
        if !self.alive {
            return;
        }
        if now < self.stalled {
            self.keep(Arrival::Reset(from));
            return;
        }
        self.resend_all(now, from, out);
        self.plan();
    }

    /// It loses its power.
    pub fn die(&mut self, _now: Micros, out: &mut Vec<Effect>) {
        if !self.alive {
            return;
        }
        self.alive = false;
        self.calls.clear();
        self.inbox.clear();
        self.owners.clear();
        self.servers.iter_mut().for_each(|server| (server.reclaim, server.tell_at) = (None, NEVER));
        self.stalled = 0;
        self.next = NEVER;
        out.push(Effect::Record(Event::Dead { client: self.config.id }));
    }

    /// It boots again, with the next NSM state, and tells the servers that it had locks through.
    pub fn boot(&mut self, now: Micros, out: &mut Vec<Effect>) {
        self.die(now, out);
        self.state += 2;
        self.stats.boots += 1;
        self.come_up(now, out);
    }

    /// Does nothing at all until then: what arrives is handled then, or lost.
    pub fn stall(&mut self, until: Micros) {
        self.stalled = self.stalled.max(until);
        self.plan();
    }

    /// Starts nothing new from here on: repeats what is unanswered, polls what is blocked, reclaims what it is told to.
    pub fn calm(&mut self, _now: Micros) {
        self.calm = true;
        self.owners.iter_mut().for_each(Owner::have_patience);
        self.plan();
    }

    /// What it did and heard so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Which one it is.
    pub fn id(&self) -> ClientId {
        self.config.id
    }

    /// Its address.
    pub fn address(&self) -> IpAddr {
        self.config.address
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.alive
    }

    /// Whether a call of it has no answer yet. The strays of a bad client do not count.
    pub fn awaits_answer(&self) -> bool {
        self.calls.open().iter().any(|call| call.role != Role::Stray)
    }

    /// Whether calls or waits of it are open. The strays of a bad client do not count.
    pub fn is_busy(&self) -> bool {
        self.awaits_answer()
            || self.owners.iter().any(|owner| !owner.is_idle())
            || self.servers.iter().any(|server| server.reclaim.is_some())
    }

    fn come_up(&mut self, now: Micros, out: &mut Vec<Effect>) {
        self.alive = true;
        // Some hosts count from the same number after each boot.
        let any = self.random.number() as u32;
        self.xid = if self.config.id.0 % 2 == 1 { 0 } else { any };
        out.push(Effect::Record(Event::Boot { client: self.config.id, state: self.state }));
        for at in 0..self.servers.len() {
            let server = &mut self.servers[at];
            server.untold |= server.monitored;
            (server.monitored, server.known, server.next_svid) = (false, 0, 0);
            server.tell_at = NEVER;
            if server.untold && self.config.pace.late_notices {
                self.servers[at].tell_at = now + self.random.below(LATE_NOTICE);
            } else if server.untold {
                self.tell(now, at, out);
            }
            let rest = match self.config.pace.slow_start && self.stats.boots > 0 {
                true => self.random.below(SLOW_START),
                false => 0,
            };
            for _ in 0..self.config.pace.owners {
                let first = now + rest + self.think();
                let owner = Owner::new(at, self.new_svid(at), first);
                self.owners.push(owner);
            }
        }
        self.plan();
    }

    fn new_svid(&mut self, server: usize) -> u32 {
        let next = &mut self.servers[server].next_svid;
        *next += 1;
        let number = *next - 1;
        match self.config.pace.pairs {
            true => number / 2 + number % 2 * message::PAIR,
            false => number,
        }
    }

    fn keep(&mut self, arrival: Arrival) {
        if self.inbox.len() < INBOX {
            self.inbox.push(arrival);
        }
        self.plan();
    }

    fn server_at(&self, address: IpAddr) -> Option<usize> {
        self.servers.iter().position(|server| server.address == address)
    }

    /// Works out the next time at which something is due.
    fn plan(&mut self) {
        if !self.alive {
            return;
        }
        let calm = self.calm;
        let owners = self.owners.iter().map(|owner| owner.due(calm));
        let calls = self.calls.open().iter().map(|call| call.due);
        let servers = self.servers.iter().map(|server| server.due().min(server.tell_at));
        let next = owners.chain(calls).chain(servers).min().unwrap_or(NEVER);
        self.next = if self.inbox.is_empty() { next } else { 0 };
        if self.next != NEVER {
            self.next = self.next.max(self.stalled);
        }
    }
}

fn servers(config: &Config, random: &mut Random) -> Vec<Server> {
    let mut all: Vec<Server> = Vec::new();
    for (file, reference) in config.files.iter().enumerate() {
        for address in &reference.lms {
            match all.iter_mut().find(|server| server.address == *address) {
                Some(server) => server.files.push(file),
                None => all.push(Server {
                    address: *address,
                    tcp: random.chance(500),
                    known: 0,
                    monitored: false,
                    untold: false,
                    tell_at: NEVER,
                    reclaim: None,
                    next_svid: 0,
                    files: vec![file],
                }),
            }
        }
    }
    all
}
