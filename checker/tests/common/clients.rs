//! Clients, operators and the network between them and the server: a queue of events in time, all by chance.

use super::server::{Bug, Server};
use super::{CELLS, Dice, FILES, bytes, cells, ip, lm_of, lock};
use lockferry_checker::history::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

pub const LATE: Micros = 2_000_000;
pub const WINDOW: Micros = 10_000_000;
pub const MANAGERS: usize = 2;
const CLIENTS: u32 = 4;
const PROCS: u32 = 2;
const AGAIN: Micros = 600_000;

#[derive(Clone, Debug)]
enum Act {
    Request(ClientId, CallId, Request),
    Answer(ClientId, CallId, Answer),
    Resend(CallId),
    Callback(u64),
    CallbackArrives(u64, ClientId, Lock),
    CallbackAnswer(u64, bool),
    Step(usize),
    Notice(ClientId, usize, u32),
    Kill(u32),
    Boot(u32),
    Operator,
    Effect(u64, usize, u32, Opened),
    Came(u64, Result),
    Resume(usize, u32, Opened),
    GiveUp(CallId),
    Tick,
    Calm,
    Rest,
}

struct Proc {
    owner: Owner,
    held: [[Option<bool>; CELLS]; FILES],
    /// The call under way, and whether a callback has answered it.
    doing: Option<(CallId, Request, bool)>,
    waiting: Option<Lock>,
    reclaims: Vec<Lock>,
    reclaiming: Option<(CallId, Lock)>,
}

struct Machine {
    alive: bool,
    state: u32,
    seen: [u32; MANAGERS],
}

pub struct World {
    pub history: Vec<(Micros, Event)>,
    now: Micros,
    dice: Dice,
    queue: BinaryHeap<Reverse<(Micros, u64)>>,
    acts: BTreeMap<u64, Act>,
    next: u64,
    server: Server,
    machines: Vec<Machine>,
    procs: Vec<Proc>,
    /// Calls without an answer: the machine, the request.
    calls: BTreeMap<CallId, (ClientId, Request)>,
    moving: [bool; MANAGERS],
    quiet: bool,
    chaos: u64,
    windows: bool,
}

/// Runs it. `chaos` 0: one thing after another and nothing fails; more: delays, losses, copies, moves.
pub fn run(bug: Bug, seed: u64, chaos: u64, length: Micros) -> Vec<(Micros, Event)> {
    let mut world = World::new(bug, seed, chaos);
    world.start(length);
    while let Some(Reverse((at, id))) = world.queue.pop() {
        world.now = at;
        if let Some(act) = world.acts.remove(&id) {
            let end = matches!(act, Act::Rest);
            world.act(act);
            for grant in std::mem::take(&mut world.server.to_call) {
                world.later(0, Act::Callback(grant));
            }
            if end {
                break;
            }
        }
    }
    world.history
}

impl World {
    fn new(bug: Bug, seed: u64, chaos: u64) -> Self {
        let mut procs = Vec::new();
        for client in 0..CLIENTS {
            for lm in 0..MANAGERS {
                for svid in 0..PROCS {
                    procs.push(Proc {
                        owner: Owner { client: ClientId(client), lm: ip(lm), svid },
                        held: [[None; CELLS]; FILES],
                        doing: None,
                        waiting: None,
                        reclaims: Vec::new(),
                        reclaiming: None,
                    });
                }
            }
        }
        Self {
            history: Vec::new(),
            now: 0,
            dice: Dice::new(seed),
            queue: BinaryHeap::new(),
            acts: BTreeMap::new(),
            next: 0,
            server: Server::new(bug, seed, MANAGERS),
            machines: (0..CLIENTS).map(|_| Machine { alive: true, state: 1, seen: [0; MANAGERS] }).collect(),
            procs,
            calls: BTreeMap::new(),
            moving: [false; MANAGERS],
            quiet: false,
            chaos,
            windows: true,
        }
    }

    fn later(&mut self, after: Micros, act: Act) {
        self.next += 1;
        self.queue.push(Reverse((self.now + after, self.next)));
        self.acts.insert(self.next, act);
    }

    fn note(&mut self, event: Event) {
        self.history.push((self.now, event));
    }

    fn start(&mut self, length: Micros) {
        for client in 0..CLIENTS {
            self.note(Event::Boot { client: ClientId(client), state: 1 });
        }
        for lm in 0..MANAGERS {
            self.note(Event::Routed { lm: ip(lm), node: NodeId(0), here: true });
            self.command(lm, 0, Opened::Window);
        }
        for proc in 0..self.procs.len() {
            self.later(100_000 + proc as u64 * 1000, Act::Step(proc));
        }
        self.later(100_000, Act::Tick);
        if self.chaos > 1 {
            self.later(5_000_000, Act::Operator);
        }
        self.later(length, Act::Calm);
        self.later(length + 60_000_000, Act::Rest);
    }

    /// How long a message takes; `None`: it is lost.
    fn delay(&mut self) -> Option<Micros> {
        if self.chaos == 0 || self.quiet {
            return Some(1000);
        }
        if self.dice.one_in(12) {
            return None;
        }
        Some(if self.dice.one_in(15) { self.dice.below(LATE - 1) } else { 1000 + self.dice.below(40_000) })
    }

    fn transmit(&mut self, act: Act) {
        let copies = if self.chaos > 0 && !self.quiet && self.dice.one_in(10) { 2 } else { 1 };
        for _ in 0..copies {
            if let Some(delay) = self.delay() {
                self.later(delay, act.clone());
            }
        }
    }

    fn send(&mut self, client: ClientId, request: Request) -> CallId {
        self.next += 1;
        let call = CallId(self.next);
        self.calls.insert(call, (client, request));
        self.note(Event::Sent { client, call, request });
        self.transmit(Act::Request(client, call, request));
        self.later(AGAIN, Act::Resend(call));
        call
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Request(client, call, request) => {
                if let Some(answer) = self.server.handle(self.now, client, call, request) {
                    self.transmit(Act::Answer(client, call, answer));
                }
            }
            Act::Answer(client, call, answer) => self.answer(client, call, answer),
            Act::Resend(call) => {
                if let Some((client, request)) = self.calls.get(&call).copied() {
                    self.note(Event::Sent { client, call, request });
                    self.transmit(Act::Request(client, call, request));
                    self.later(AGAIN, Act::Resend(call));
                }
            }
            Act::Callback(id) => self.callback(id),
            Act::CallbackArrives(id, client, lock) => self.callback_arrives(id, client, lock),
            Act::CallbackAnswer(id, accepted) => self.server.called(id, accepted),
            Act::Step(proc) => {
                self.step(proc);
                let pause = if self.quiet { 1_000_000 } else { 20_000 + self.dice.below(300_000) };
                self.later(pause, Act::Step(proc));
            }
            Act::Notice(client, lm, state) => self.notice(client, lm, state),
            Act::Kill(client) => self.kill(client),
            Act::Boot(client) => self.boot(client),
            Act::Operator => {
                if !self.quiet {
                    self.operator();
                    let pause = 1_000_000 + self.dice.below(25_000_000 / self.chaos);
                    self.later(pause, Act::Operator);
                }
            }
            Act::Effect(id, lm, node, how) => self.effect(id, lm, node, how),
            Act::Came(id, result) => {
                self.note(Event::Came { id, result });
            }
            Act::Resume(lm, node, how) => self.resume(lm, node, how),
            Act::GiveUp(call) => {
                if let Some((client, request)) = self.calls.remove(&call) {
                    self.note(Event::Abandoned { client, call });
                    for proc in &mut self.procs {
                        if proc.doing.is_some_and(|(doing, _, _)| doing == call) {
                            proc.doing = None;
                        }
                    }
                    if let Request::Lock { lock, reclaim: false, .. } = request
                        && lock.owner.client == client
                        && self.dice.one_in(2)
                        && let Some(at) = self.procs.iter().position(|proc| proc.owner == lock.owner)
                    {
                        self.begin(
                            at,
                            Request::Unlock { owner: lock.owner, file: lock.file, bytes: lock.bytes },
                        );
                    }
                }
            }
            Act::Tick => {
                self.server.tick(self.now);
                self.later(100_000, Act::Tick);
            }
            Act::Calm => self.calm(),
            Act::Rest => self.rest(),
        }
    }

    fn begin(&mut self, at: usize, request: Request) {
        let client = self.procs[at].owner.client;
        if let Request::Unlock { file, bytes, .. } = request {
            for i in cells(bytes) {
                self.procs[at].held[file.0 as usize][i] = None;
            }
        }
        let call = self.send(client, request);
        self.procs[at].doing = Some((call, request, false));
        if self.chaos > 0 && !self.quiet && self.dice.one_in(25) && !matches!(request, Request::Unlock { .. })
        {
            let after = self.dice.below(1_500_000);
            self.later(after, Act::GiveUp(call));
        }
    }

    fn step(&mut self, at: usize) {
        let (owner, busy) = (self.procs[at].owner, self.procs[at].doing.is_some());
        let machine = &self.machines[owner.client.0 as usize];
        if !machine.alive || self.procs[at].reclaiming.is_some() {
            return;
        }
        let state = machine.state;
        let in_flight = busy && self.procs[at].waiting.is_none();
        if !in_flight && let Some(lock) = self.procs[at].reclaims.pop() {
            let call = self.send(owner.client, Request::Lock { lock, block: false, reclaim: true, state: 0 });
            self.procs[at].reclaiming = Some((call, lock));
            return;
        }
        if busy || !self.procs[at].reclaims.is_empty() {
            return;
        }
        if let Some(lock) = self.procs[at].waiting {
            if !self.quiet && self.dice.one_in(20) {
                self.procs[at].waiting = None;
                self.begin(at, Request::Cancel { lock });
            } else if (self.quiet || self.dice.one_in(6)) && self.server.bug != Bug::LostWakeUp {
                self.begin(at, Request::Lock { lock, block: true, reclaim: false, state });
            }
            return;
        }
        if self.quiet && self.server.bug == Bug::LostWakeUp {
            let held = (0..FILES).find(|file| self.procs[at].held[*file].iter().any(Option::is_some));
            if let Some(file) = held {
                self.begin(
                    at,
                    Request::Unlock { owner, file: FileId(file as u64), bytes: bytes(0, CELLS - 1) },
                );
            }
        }
        if !self.quiet {
            let request = self.choose(owner, state);
            self.begin(at, request);
            self.maybe_forge(at);
        }
    }

    fn choose(&mut self, owner: Owner, state: u32) -> Request {
        let file = self.dice.below(FILES as u64) as usize;
        let (from, to) = self.dice.range();
        let (from, to) = if self.dice.one_in(3) { (from, from + (to - from) / 4) } else { (from, to) };
        let exclusive = self.dice.one_in(2);
        let lock = lock(owner, file, from, to, exclusive);
        match self.dice.below(10) {
            0..=2 => Request::Lock { lock, block: false, reclaim: false, state },
            3..=4 => Request::Lock { lock, block: true, reclaim: false, state },
            5..=7 => {
                let bytes = if self.dice.one_in(2) { bytes(0, CELLS - 1) } else { lock.bytes };
                Request::Unlock { owner, file: FileId(file as u64), bytes }
            }
            _ => Request::Test { lock },
        }
    }

    fn maybe_forge(&mut self, at: usize) {
        if self.chaos < 2 || !self.dice.one_in(40) {
            return;
        }
        let owner = self.procs[at].owner;
        let forger = ClientId((owner.client.0 + 1) % CLIENTS);
        if !self.machines[forger.0 as usize].alive {
            return;
        }
        let file = FileId(self.dice.below(FILES as u64));
        let request = match self.dice.below(3) {
            0 => Request::Unlock { owner, file, bytes: bytes(0, CELLS - 1) },
            1 => Request::Notify { client: owner.client, lm: owner.lm, state: 99_999 },
            _ => {
                let lock = Lock { owner, file, bytes: bytes(0, 3), exclusive: true };
                Request::Lock { lock, block: false, reclaim: true, state: 0 }
            }
        };
        self.send(forger, request);
    }

    fn answer(&mut self, client: ClientId, call: CallId, answer: Answer) {
        if !self.machines[client.0 as usize].alive {
            return;
        }
        self.note(Event::Got { client, call, answer });
        let Some((_, request)) = self.calls.remove(&call) else { return };
        if let Some(at) = self.procs.iter().position(|p| p.reclaiming.is_some_and(|(c, _)| c == call)) {
            let Some((_, lock)) = self.procs[at].reclaiming.take() else { return };
            let table = &mut self.procs[at].held[lock.file.0 as usize];
            let mine = cells(lock.bytes).all(|i| table[i].is_some());
            for i in cells(lock.bytes) {
                if answer == Answer::Granted && table[i] != Some(true) {
                    table[i] = Some(lock.exclusive);
                }
                if answer != Answer::Granted && mine {
                    table[i] = None;
                }
            }
            return;
        }
        let Some(at) = self.procs.iter().position(|p| p.doing.is_some_and(|(c, _, _)| c == call)) else {
            return;
        };
        let Some((_, _, taken)) = self.procs[at].doing.take() else { return };
        if let Request::Lock { lock, block, .. } = request {
            match answer {
                Answer::Granted => {
                    self.take(at, &lock);
                    self.procs[at].waiting = None;
                }
                Answer::Blocked if block && !taken => self.procs[at].waiting = Some(lock),
                _ => {}
            }
        }
    }

    fn take(&mut self, at: usize, lock: &Lock) {
        for i in cells(lock.bytes) {
            self.procs[at].held[lock.file.0 as usize][i] = Some(lock.exclusive);
        }
    }

    fn callback(&mut self, id: u64) {
        let Some(granting) = self.server.granting.iter_mut().find(|g| g.id == id) else { return };
        granting.sent += 1;
        let (waiter, sent) = (granting.waiter, granting.sent);
        if sent < 30 {
            self.later(500_000, Act::Callback(id));
        }
        self.transmit(Act::CallbackArrives(id, waiter.who.sender, waiter.lock));
    }

    fn callback_arrives(&mut self, id: u64, client: ClientId, lock: Lock) {
        if !self.machines[client.0 as usize].alive {
            return;
        }
        let Some(at) = self.procs.iter().position(|p| p.owner == lock.owner && p.owner.client == client)
        else {
            return;
        };
        let waiting = self.procs[at].waiting == Some(lock);
        let asking = self.procs[at].doing.as_mut().filter(|(_, request, taken)| {
            !taken && matches!(request, Request::Lock { lock: l, block: true, .. } if *l == lock)
        });
        let accepted = waiting || asking.is_some();
        if let Some((_, _, taken)) = asking {
            *taken = true;
        }
        self.note(Event::Granted { client, lock, accepted });
        if accepted {
            self.procs[at].waiting = None;
            self.take(at, &lock);
        }
        self.transmit(Act::CallbackAnswer(id, accepted));
    }

    fn notice(&mut self, client: ClientId, lm: usize, state: u32) {
        let machine = &mut self.machines[client.0 as usize];
        if !machine.alive {
            return;
        }
        let new = state > machine.seen[lm];
        machine.seen[lm] = machine.seen[lm].max(state);
        self.note(Event::Noticed { client, lm: ip(lm), state, named: true });
        if !new {
            return;
        }
        for proc in self.procs.iter_mut().filter(|p| p.owner.client == client && lm_of(p.owner.lm) == lm) {
            proc.reclaims.clear();
            for file in 0..FILES {
                let mut i = 0;
                while i < CELLS {
                    let Some(exclusive) = proc.held[file][i] else {
                        i += 1;
                        continue;
                    };
                    let from = i;
                    while i < CELLS && proc.held[file][i] == Some(exclusive) {
                        i += 1;
                    }
                    proc.reclaims.push(lock(proc.owner, file, from, i - 1, exclusive));
                    if exclusive && self.dice.one_in(4) {
                        proc.reclaims.push(lock(proc.owner, file, from, from + (i - 1 - from) / 2, false));
                    }
                }
            }
            // Some claim what was never theirs.
            if self.dice.one_in(6) {
                let (from, to) = self.dice.range();
                proc.reclaims.push(lock(
                    proc.owner,
                    self.dice.below(FILES as u64) as usize,
                    from,
                    to,
                    self.dice.one_in(2),
                ));
            }
        }
    }

    fn kill(&mut self, client: u32) {
        self.note(Event::Dead { client: ClientId(client) });
        self.machines[client as usize].alive = false;
        self.calls.retain(|_, (sender, _)| sender.0 != client);
        for proc in self.procs.iter_mut().filter(|p| p.owner.client.0 == client) {
            proc.held = [[None; CELLS]; FILES];
            proc.doing = None;
            proc.waiting = None;
            proc.reclaims.clear();
            proc.reclaiming = None;
        }
        self.later(1_000_000, Act::Boot(client));
    }

    fn boot(&mut self, client: u32) {
        let machine = &mut self.machines[client as usize];
        machine.alive = true;
        machine.state += 2;
        let state = machine.state;
        self.note(Event::Boot { client: ClientId(client), state });
        for lm in 0..MANAGERS {
            self.send(ClientId(client), Request::Notify { client: ClientId(client), lm: ip(lm), state });
        }
    }

    fn told(&mut self, node: u32, command: Command) -> u64 {
        self.next += 1;
        let id = self.next;
        self.note(Event::Told { id, node: NodeId(node), command });
        id
    }

    /// `start_grace`, which comes to `how`.
    fn command(&mut self, lm: usize, node: u32, how: Opened) {
        let (adopt, full) = (matches!(how, Opened::Adopted { .. }), how == Opened::Full);
        let id = self.told(node, Command::StartGrace { lm: ip(lm), window: WINDOW, adopt, full });
        self.moving[lm] = true;
        let after = if self.chaos == 0 { 10 } else { self.dice.below(200_000) };
        self.later(after, Act::Effect(id, lm, node, how));
    }

    fn effect(&mut self, id: u64, lm: usize, node: u32, how: Opened) {
        self.server.release(lm);
        self.take_up(lm, node, how);
        let after = if self.chaos == 0 { 10 } else { self.dice.below(50_000) };
        self.later(after, Act::Came(id, Result::TakenUp(how)));
    }

    fn take_up(&mut self, lm: usize, node: u32, how: Opened) {
        self.server.take_up(lm, node, self.now, WINDOW, how);
        self.moving[lm] = false;
        if matches!(how, Opened::Adopted { .. }) {
            return;
        }
        let mut state = self.server.managers[lm].nsm * 2 + 1;
        if self.server.bug == Bug::EvenState {
            state += 1;
        }
        for client in 0..CLIENTS {
            for copy in 0..4 {
                if let Some(delay) = self.delay() {
                    self.later(copy * 400_000 + delay, Act::Notice(ClientId(client), lm, state));
                }
            }
        }
    }

    fn resume(&mut self, lm: usize, node: u32, opened: Opened) {
        self.take_up(lm, node, opened);
        self.note(Event::Resumed { node: NodeId(node), lm: ip(lm), opened, window: WINDOW });
    }

    fn how(&mut self) -> Opened {
        match self.dice.below(8) {
            0 => Opened::Adopted { window: false },
            1 => Opened::Full,
            _ => Opened::Window,
        }
    }

    fn operator(&mut self) {
        let lm = self.dice.below(MANAGERS as u64) as usize;
        let client = ClientId(self.dice.below(u64::from(CLIENTS)) as u32);
        if self.moving[lm] {
            return;
        }
        let (from, how) = (self.server.managers[lm].node, self.how());
        let to = 1 - from.min(1);
        match self.dice.below(10) {
            0 => {
                if self.machines[client.0 as usize].alive {
                    self.kill(client.0);
                }
            }
            1 => {
                let id = self.told(from, Command::UnlockClient { client, lm: ip(lm) });
                self.server.unlock_client(client, lm);
                self.later(1000, Act::Came(id, Result::Done));
            }
            2 => {
                let id = self.told(from, Command::EndGrace { lm: ip(lm) });
                if self.server.managers[lm].window.is_some() {
                    self.server.end_window(lm);
                }
                self.later(1000, Act::Came(id, Result::Done));
            }
            3..=5 => {
                let id = self.told(from, Command::UnlockIp { lm: ip(lm) });
                self.server.release(lm);
                self.note(Event::Came { id, result: Result::Done });
                self.note(Event::Routed { lm: ip(lm), node: NodeId(from), here: false });
                self.note(Event::Routed { lm: ip(lm), node: NodeId(to), here: true });
                self.command(lm, to, how);
            }
            6..=7 => {
                // A second node takes it up, the first has not noticed.
                self.note(Event::Routed { lm: ip(lm), node: NodeId(to), here: true });
                self.command(lm, to, how);
            }
            _ => self.crash(from, how),
        }
    }

    fn crash(&mut self, node: u32, how: Opened) {
        if self.moving.iter().any(|moving| *moving) {
            return;
        }
        self.note(Event::Down { node: NodeId(node) });
        for lm in 0..MANAGERS {
            if self.server.managers[lm].node == node {
                self.server.release(lm);
                let after = self.dice.below(3_000_000);
                self.moving[lm] = true;
                if self.dice.one_in(2) {
                    self.later(after, Act::Resume(lm, node, how));
                } else {
                    self.note(Event::Routed { lm: ip(lm), node: NodeId(1 - node), here: true });
                    self.command(lm, 1 - node, how);
                }
            }
        }
    }

    fn calm(&mut self) {
        self.quiet = true;
        self.note(Event::Calm);
        // The last notices may have been lost.
        for lm in 0..MANAGERS {
            let state = self.server.managers[lm].nsm * 2 + 1;
            for client in 0..CLIENTS {
                self.later(4_000_000, Act::Notice(ClientId(client), lm, state));
            }
        }
    }

    fn rest(&mut self) {
        self.note(Event::Rest);
        for lm in 0..MANAGERS {
            let mut rows = self.server.rows(lm);
            let mut kept = rows.clone();
            if self.server.bug == Bug::ListLacksOne {
                rows.pop();
            }
            if self.server.bug == Bug::RecordLacksOne {
                kept.pop();
            }
            self.note(Event::Listed { node: NodeId(self.server.managers[lm].node), lm: ip(lm), rows });
            self.note(Event::Stored { lm: ip(lm), rows: kept });
        }
        let _ = self.windows;
    }
}
