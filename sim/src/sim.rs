//! The world of a run: time, what is due, the network, the machines. Everything happens in one thread, in an order that the seed decides;
//! while a daemon waits for its disk, or between two of its file operations, the others go on inside that very call.
//!
//! Must never use a clock, a thread or a number of the machine that it runs on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use lockferry_checker::history::{Event, Micros, NodeId};
use tokio::sync::watch;

use crate::client::{Client, Effect};
use crate::executor::Executor;
use crate::life::{Job, Life};
use crate::random::Random;
use crate::settings::{MS, Plan, SECOND, Settings};
use crate::watcher::Watcher;

/// Unix time at the beginning of a run.
const EPOCH: Duration = Duration::from_secs(1_790_000_000);
/// Calls inside calls at the most; deeper down nobody else acts.
const DEPTH: u32 = 12;
/// Things that happen in a run at the most; the busiest have some hundred thousand. Past it something goes round in circles.
const MOST: u64 = 3_000_000;

/// What is due.
pub enum What {
    /// A message arrives at an address.
    ToServer(Packet),
    /// A message from an address arrives at a client.
    ToClient(usize, IpAddr, Vec<u8>),
    /// A client's connections to an address are found dead.
    ClientReset(usize, IpAddr),
    /// A client wants to do something.
    ClientWake(usize),
    /// A task of a daemon is woken.
    Wake(Arc<Life>, Waker),
    /// A daemon's tasks run.
    Run(Arc<Life>),
    /// A daemon's journal of this lock manager is written.
    Write(Arc<Life>, IpAddr),
    /// A daemon looks after that journal.
    Chore(Arc<Life>, IpAddr),
    /// A daemon's next blocking job.
    Job(Arc<Life>),
    /// A machine that stood still goes on.
    Thaw(usize),
    /// The scripts' tasks run.
    Scripts,
    /// A task of the scripts is woken.
    ScriptWake(Waker),
    /// A file check of a daemon ends.
    Check(Arc<Life>, Job),
}

/// A message to a server.
#[derive(Clone)]
pub struct Packet {
    /// The client, by its place.
    pub from: usize,
    /// The address it goes to.
    pub to: IpAddr,
    /// RPC program.
    pub program: u32,
    /// Over TCP.
    pub tcp: bool,
    /// It answers a call of ours.
    pub reply: bool,
    /// The message.
    pub message: Vec<u8>,
}

struct Due {
    at: Micros,
    number: u64,
    what: What,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// An end of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A machine that serves.
    Server(usize),
    /// A client.
    Client(usize),
}

/// A machine that serves.
pub struct Machine {
    /// Its daemon, if it runs.
    pub life: Option<Arc<Life>>,
    /// It has power.
    pub powered: bool,
    /// It stands still until then.
    pub frozen: Option<Micros>,
    /// What is due on it meanwhile.
    held: Vec<What>,
    /// A file operation of its daemon is under way, further out.
    busy: bool,
    /// A blocking job of its daemon is under way, further out.
    at_job: bool,
    /// Its clocks: how far ahead, how fast (parts per million), how far the day is off.
    ahead: Micros,
    ppm: u64,
    /// How far its clock of the day is off, in seconds.
    pub day_off_s: i64,
    /// The addresses that it has.
    pub addresses: watch::Sender<Arc<BTreeSet<IpAddr>>>,
}

struct ClientPlace {
    client: Client,
    address: IpAddr,
    planned: Micros,
}

/// Streams of chance.
pub struct Chances {
    /// The network's.
    pub network: Random,
    /// The disks'.
    pub disk: Random,
    /// Who acts between two file operations.
    pub order: Random,
}

struct Inner {
    now: Micros,
    number: u64,
    /// What was due and is done.
    taken: u64,
    queue: BinaryHeap<Reverse<Due>>,
    depth: u32,
    lives: u32,
    /// Addresses, and the machines that say they have them, the last that said so at the end.
    routes: BTreeMap<IpAddr, Vec<usize>>,
    /// Who does not reach whom.
    cut: BTreeSet<(End, End)>,
    graveyard: Vec<Arc<Life>>,
    /// No message is lost, doubled or late any more.
    calm: bool,
}

/// A run.
pub struct Sim {
    /// What was asked for.
    pub settings: Settings,
    /// What the seed says.
    pub plan: Plan,
    base: Instant,
    inner: Mutex<Inner>,
    machines: Mutex<Vec<Machine>>,
    clients: Mutex<Vec<ClientPlace>>,
    chances: Mutex<Chances>,
    /// Hears the history.
    pub watcher: Mutex<Watcher>,
    /// The scripts' tasks.
    pub scripts: Executor,
    /// The disks.
    pub disks: crate::disk::Disks,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sim {
    /// An empty world.
    pub fn new(
        settings: Settings,
        plan: Plan,
        mut random: Random,
        watcher: Watcher,
        disks: crate::disk::Disks,
    ) -> Arc<Self> {
        let machines = (0..plan.nodes).map(|_| Machine::new(&settings, &mut random)).collect();
        let chances = Chances { network: random.fork(), disk: random.fork(), order: random.fork() };
        Arc::new_cyclic(|this: &Weak<Sim>| {
            let ring = this.clone();
            let scripts = Executor::new(Box::new(move || {
                if let Some(sim) = ring.upgrade() {
                    sim.plan_now(What::Scripts);
                }
            }));
            Self {
                settings,
                plan,
                base: Instant::now(),
                inner: Mutex::new(Inner {
                    now: 0,
                    number: 0,
                    taken: 0,
                    queue: BinaryHeap::new(),
                    depth: 0,
                    lives: 0,
                    routes: BTreeMap::new(),
                    cut: BTreeSet::new(),
                    graveyard: Vec::new(),
                    calm: false,
                }),
                machines: Mutex::new(machines),
                clients: Mutex::default(),
                chances: Mutex::new(chances),
                watcher: Mutex::new(watcher),
                scripts,
                disks,
            }
        })
    }

    /// The observer's time.
    pub fn now(&self) -> Micros {
        lock(&self.inner).now
    }

    /// The chances.
    pub fn chances(&self) -> MutexGuard<'_, Chances> {
        lock(&self.chances)
    }

    /// Writes into the history.
    pub fn record(&self, event: Event) {
        let now = self.now();
        lock(&self.watcher).observe(now, event);
    }

    /// Whether the run is over, for good or ill.
    pub fn is_over(&self) -> bool {
        lock(&self.watcher).is_over()
    }

    /// Runs until nothing is due, or it is over.
    pub fn run(self: &Arc<Self>) {
        while !self.is_over() {
            let Some(due) = self.take_due(Micros::MAX) else { return };
            self.carry_out(due);
            // Nothing of a daemon is on the stack here.
            let gone = std::mem::take(&mut lock(&self.inner).graveyard);
            gone.iter().for_each(|life| life.fall_apart(self.managers()));
            drop(gone);
        }
    }

    /// Breaks what holds itself up.
    pub fn take_down(&self) {
        let lives: Vec<_> = lock(&self.machines).iter_mut().filter_map(|m| m.life.take()).collect();
        for life in lives {
            life.fall_apart(self.managers());
        }
        self.scripts.end();
        let held: Vec<_> = lock(&self.machines).iter_mut().map(|m| std::mem::take(&mut m.held)).collect();
        let queue = std::mem::take(&mut lock(&self.inner).queue);
        drop((held, queue));
    }

    fn take_due(&self, until: Micros) -> Option<What> {
        let mut inner = lock(&self.inner);
        if inner.queue.peek().is_none_or(|Reverse(due)| due.at > until) || inner.taken >= MOST {
            return None;
        }
        inner.taken += 1;
        let Reverse(due) = inner.queue.pop()?;
        inner.now = inner.now.max(due.at);
        Some(due.what)
    }

    /// Plans something for a time from now.
    pub fn plan(&self, span: Micros, what: What) {
        let mut inner = lock(&self.inner);
        let (at, number) = (inner.now + span, inner.number);
        inner.number += 1;
        inner.queue.push(Reverse(Due { at, number, what }));
    }

    fn plan_now(&self, what: What) {
        self.plan(0, what);
    }

    fn carry_out(self: &Arc<Self>, what: What) {
        match what {
            What::ToServer(packet) => self.arrive(packet),
            What::ToClient(client, from, message) => {
                self.with_client(client, |c, now, out| c.receive(now, from, &message, out));
            }
            What::ClientReset(client, from) => {
                self.with_client(client, |c, now, out| c.reset(now, from, out));
            }
            What::ClientWake(client) => self.with_client(client, |c, now, out| c.wake(now, out)),
            What::Scripts => self.scripts.run(),
            What::ScriptWake(waker) => waker.wake(),
            What::Thaw(machine) => self.thaw(machine),
            What::Wake(life, waker) => {
                if let Some(What::Wake(_, waker)) = self.unless_frozen(&life, |life| What::Wake(life, waker))
                {
                    waker.wake();
                }
            }
            What::Run(life) => self.run_tasks(&life),
            What::Write(life, lm) => self.write(&life, lm),
            What::Chore(life, lm) => self.chore(&life, lm),
            What::Job(life) => self.job(&life),
            What::Check(life, job) => {
                if let Some(What::Check(life, job)) = self.unless_frozen(&life, |life| What::Check(life, job))
                {
                    job();
                    self.after(&life);
                }
            }
        }
    }

    /// The event, if its daemon lives and goes on; else it is kept for later, or dropped.
    fn unless_frozen(&self, life: &Arc<Life>, what: impl FnOnce(Arc<Life>) -> What) -> Option<What> {
        if !life.is_alive() {
            return None;
        }
        let what = what(life.clone());
        let mut machines = lock(&self.machines);
        match machines[life.machine].frozen {
            Some(_) => {
                machines[life.machine].held.push(what);
                None
            }
            None => Some(what),
        }
    }

    fn run_tasks(self: &Arc<Self>, life: &Arc<Life>) {
        if self.unless_frozen(life, What::Run).is_none() {
            return;
        }
        life.state().run_planned = false;
        life.executor.run();
        self.after(life);
    }

    /// Whatever a daemon did may have left something to be written.
    fn after(&self, life: &Arc<Life>) {
        let Some(parts) = life.parts.get() else { return };
        for lm in self.managers() {
            if parts.journals.has_work(lm)
                && let Ok(ip) = lm.parse()
            {
                self.plan_write(life, ip);
            }
        }
    }

    /// The names of all lock managers.
    fn managers(&self) -> impl Iterator<Item = &str> {
        self.disks.keys().filter_map(|dir| dir.file_name()?.to_str())
    }

    fn plan_write(&self, life: &Arc<Life>, lm: IpAddr) {
        if !life.state().writes.insert(lm) {
            return;
        }
        let span = self.chances().disk_time(self.plan.disk, self.settings.trouble.disks);
        self.plan(span, What::Write(life.clone(), lm));
    }

    fn write(self: &Arc<Self>, life: &Arc<Life>, lm: IpAddr) {
        if self.unless_frozen(life, |life| What::Write(life, lm)).is_none() {
            return;
        }
        if !self.begin_io(life) {
            return self.plan(50, What::Write(life.clone(), lm));
        }
        let wrote = life.parts.get().is_some_and(|parts| parts.journals.step(&lm.to_string()));
        self.end_io(life);
        life.state().writes.remove(&lm);
        self.after(life);
        if wrote {
            if life.state().writes.insert(lm) {
                // What may be late is flushed then.
                self.plan(50 * MS, What::Write(life.clone(), lm));
            }
            if life.state().chores.insert(lm) {
                let span = self.chances().disk.below(40 * MS);
                self.plan(span, What::Chore(life.clone(), lm));
            }
        }
    }

    fn chore(self: &Arc<Self>, life: &Arc<Life>, lm: IpAddr) {
        if self.unless_frozen(life, |life| What::Chore(life, lm)).is_none() {
            return;
        }
        if !self.begin_io(life) {
            return self.plan(50, What::Chore(life.clone(), lm));
        }
        if let Some(parts) = life.parts.get() {
            parts.journals.keep_house(&lm.to_string());
        }
        self.end_io(life);
        life.state().chores.remove(&lm);
        self.after(life);
    }

    /// Plans blocking work of a daemon.
    pub fn plan_job(&self, life: &Arc<Life>, job: Job) {
        let mut state = life.state();
        state.jobs.push_back(job);
        if !std::mem::replace(&mut state.job_planned, true) {
            drop(state);
            self.plan(20, What::Job(life.clone()));
        }
    }

    fn job(self: &Arc<Self>, life: &Arc<Life>) {
        if self.unless_frozen(life, What::Job).is_none() {
            return;
        }
        if lock(&self.machines)[life.machine].at_job || !self.begin_io(life) {
            return self.plan(50, What::Job(life.clone()));
        }
        lock(&self.machines)[life.machine].at_job = true;
        let job = life.state().jobs.pop_front();
        if let Some(job) = job {
            job();
        }
        lock(&self.machines)[life.machine].at_job = false;
        self.end_io(life);
        let mut state = life.state();
        state.job_planned = !state.jobs.is_empty();
        if state.job_planned {
            drop(state);
            self.plan(20, What::Job(life.clone()));
        } else {
            drop(state);
        }
        self.after(life);
    }

    fn begin_io(&self, life: &Life) -> bool {
        !std::mem::replace(&mut lock(&self.machines)[life.machine].busy, true)
    }

    fn end_io(&self, life: &Life) {
        lock(&self.machines)[life.machine].busy = false;
    }

    /// A daemon blocks until something is so, or for a time. Others go on, also the daemon's own other threads.
    pub fn block(self: &Arc<Self>, life: &Arc<Life>, most: Duration, done: &dyn Fn() -> bool) {
        let until = self.now() + most.as_micros() as Micros;
        self.end_io(life);
        // What it waits for may not have been planned yet.
        self.after(life);
        self.nested(until, &|| done() || !life.is_alive());
        lock(&self.machines)[life.machine].busy = true;
        self.wait_for_thaw(life);
    }

    /// Others act until a time, or until something is so.
    fn nested(self: &Arc<Self>, until: Micros, done: &dyn Fn() -> bool) {
        lock(&self.inner).depth += 1;
        while !done() && !self.is_over() {
            match self.take_due(until) {
                Some(what) => self.carry_out(what),
                None => {
                    let mut inner = lock(&self.inner);
                    inner.now = inner.now.max(until);
                    break;
                }
            }
        }
        lock(&self.inner).depth -= 1;
    }

    /// Before each file operation of a daemon.
    pub fn at_file_operation(self: &Arc<Self>, life: &Arc<Life>, what: &str) -> std::io::Result<()> {
        if life.burn() {
            self.befall(life, what);
        }
        let chance = self.chances().order.below(self.plan.others_act);
        if chance == 0 && lock(&self.inner).depth < DEPTH {
            let span = 5 + self.chances().order.below(300);
            let until = self.now() + span;
            self.nested(until, &|| !life.is_alive());
        }
        self.wait_for_thaw(life);
        Ok(())
    }

    /// Something befalls a daemon between two file operations.
    fn befall(self: &Arc<Self>, life: &Arc<Life>, _what: &str) {
        let (kind, span) = {
            let mut chances = self.chances();
            (chances.order.below(3), chances.order.below(60 * SECOND))
        };
        match kind {
            0 if self.settings.trouble.freezes => self.freeze(life.machine, span),
            1 if self.settings.trouble.crashes => self.kill(life.machine),
            _ if self.settings.trouble.crashes => self.power_cut(life.machine),
            _ => {}
        }
    }

    fn wait_for_thaw(self: &Arc<Self>, life: &Arc<Life>) {
        while life.is_alive() && !self.is_over() {
            let Some(until) = lock(&self.machines)[life.machine].frozen else { return };
            let machine = life.machine;
            self.nested(until, &|| lock(&self.machines)[machine].frozen.is_none());
            if lock(&self.machines)[machine].frozen.is_some_and(|until| until <= self.now()) {
                self.thaw(machine);
            }
        }
    }

    /// A machine stands still.
    pub fn freeze(&self, machine: usize, span: Micros) {
        let until = self.now() + span;
        {
            let mut machines = lock(&self.machines);
            if machines[machine].frozen.is_some() || machines[machine].life.is_none() {
                return;
            }
            machines[machine].frozen = Some(until);
        }
        self.record(Event::Frozen { node: NodeId(machine as u32), frozen: true });
        self.plan(span, What::Thaw(machine));
    }

    /// It goes on.
    pub fn thaw(&self, machine: usize) {
        let held = {
            let mut machines = lock(&self.machines);
            if machines[machine].frozen.take().is_none() {
                return;
            }
            std::mem::take(&mut machines[machine].held)
        };
        self.record(Event::Frozen { node: NodeId(machine as u32), frozen: false });
        held.into_iter().for_each(|what| self.plan_now(what));
    }

    /// A daemon is killed. Its machine goes on.
    pub fn kill(&self, machine: usize) {
        let life = lock(&self.machines)[machine].life.take();
        let Some(life) = life else { return };
        self.record(Event::Down { node: NodeId(machine as u32) });
        self.reset_connections(&life, None);
        life.end();
        self.thaw(machine);
        lock(&self.inner).graveyard.push(life);
    }

    /// A machine loses its power.
    pub fn power_cut(&self, machine: usize) {
        self.kill_silently(machine);
        let addresses = {
            let mut machines = lock(&self.machines);
            machines[machine].powered = false;
            machines[machine].addresses.send_replace(Arc::default())
        };
        addresses.iter().for_each(|ip| self.leave(*ip, machine));
        let seeds: Vec<u64> = self.disks.keys().map(|_| self.chances().disk.number()).collect();
        for (disk, seed) in self.disks.values().zip(seeds) {
            disk.power_cut(machine as u32 + 1, seed);
        }
    }

    /// No reset leaves a machine without power.
    fn kill_silently(&self, machine: usize) {
        let life = lock(&self.machines)[machine].life.take();
        if let Some(life) = life {
            self.record(Event::Down { node: NodeId(machine as u32) });
            life.end();
            lock(&self.inner).graveyard.push(life);
        }
        self.thaw(machine);
    }

    /// Makes a daemon on a machine; nothing of it runs yet.
    pub fn new_life(self: &Arc<Self>, machine: usize) -> Arc<Life> {
        let number = {
            let mut inner = lock(&self.inner);
            inner.lives += 1;
            inner.lives
        };
        let this = Arc::downgrade(self);
        let life = Arc::new_cyclic(|life: &Weak<Life>| {
            let life = life.clone();
            let ring = move || {
                if let (Some(sim), Some(life)) = (this.upgrade(), life.upgrade())
                    && !std::mem::replace(&mut life.state().run_planned, true)
                {
                    sim.plan_now(What::Run(life));
                }
            };
            Life::new(machine, number, Executor::new(Box::new(ring)))
        });
        let mut machines = lock(&self.machines);
        machines[machine].powered = true;
        machines[machine].life = Some(life.clone());
        life
    }

    /// Looks at a machine.
    pub fn machine<T>(&self, machine: usize, look: impl FnOnce(&mut Machine) -> T) -> T {
        look(&mut lock(&self.machines)[machine])
    }

    /// How many there are.
    pub fn machine_count(&self) -> usize {
        lock(&self.machines).len()
    }

    /// A machine's clock that never goes back.
    pub fn clock(&self, machine: usize) -> Instant {
        let now = self.now();
        let (ahead, ppm) = self.machine(machine, |m| (m.ahead, m.ppm));
        self.base + Duration::from_micros(ahead + now + now / 1_000_000 * ppm)
    }

    /// A machine's clock of the day.
    pub fn unix(&self, machine: usize) -> Duration {
        let now = Duration::from_micros(self.now());
        let off = self.machine(machine, |m| m.day_off_s);
        let day = EPOCH + now;
        if off < 0 {
            day.saturating_sub(Duration::from_secs(off.unsigned_abs()))
        } else {
            day + Duration::from_secs(off.unsigned_abs())
        }
    }

    /// Wakes a task of a daemon at a time of its machine's clock.
    pub fn plan_wake(&self, life: &Arc<Life>, until: Instant, waker: Waker) {
        let left = until.saturating_duration_since(self.clock(life.machine));
        // A slow clock needs a little longer.
        let span = left.as_micros() as Micros + 1 + left.as_micros() as Micros / 2_000;
        self.plan(span, What::Wake(life.clone(), waker));
    }

    /// Waits, for the scripts.
    pub fn sleep(self: &Arc<Self>, span: Micros) -> impl Future<Output = ()> + Send + use<> {
        let (this, until, mut planned) = (Arc::downgrade(self), self.now() + span, false);
        std::future::poll_fn(move |cx| {
            let Some(sim) = this.upgrade() else { return std::task::Poll::Pending };
            let now = sim.now();
            if now >= until {
                return std::task::Poll::Ready(());
            }
            if !std::mem::replace(&mut planned, true) {
                sim.plan(until - now, What::ScriptWake(cx.waker().clone()));
            }
            std::task::Poll::Pending
        })
    }

    /// Whether a file check takes a while this time.
    pub fn file_check_is_slow(&self) -> bool {
        self.chances().disk.chance(if self.plan.slow_checks { 200 } else { 20 })
    }

    /// How long it takes then.
    pub fn file_check_time(&self) -> Micros {
        let calm = lock(&self.inner).calm;
        let most = if self.plan.slow_checks && !calm { 12 * SECOND } else { 3 * MS };
        50 + self.chances().disk.below(most)
    }
}

impl Machine {
    fn new(settings: &Settings, random: &mut Random) -> Self {
        let mut clock = random.fork();
        let off = settings.trouble.clocks;
        Self {
            life: None,
            powered: true,
            frozen: None,
            held: Vec::new(),
            busy: false,
            at_job: false,
            ahead: clock.below(3_600 * SECOND),
            ppm: if off { clock.below(400) } else { 0 },
            day_off_s: if off { clock.below(7_200) as i64 - 3_600 } else { 0 },
            addresses: watch::Sender::new(Arc::default()),
        }
    }
}

impl Chances {
    /// How long a write takes until it is durable.
    fn disk_time(&mut self, most: Micros, trouble: bool) -> Micros {
        match self.disk.below(2_000) {
            0 if trouble => self.disk.below(8 * SECOND),
            _ => 20 + self.disk.below(most),
        }
    }
}

/// The network.
impl Sim {
    /// Adds a client.
    pub fn add_client(&self, client: Client, address: IpAddr, effects: Vec<Effect>) {
        let place = {
            let mut clients = lock(&self.clients);
            clients.push(ClientPlace { client, address, planned: Micros::MAX });
            clients.len() - 1
        };
        self.carry_out_effects(place, effects);
        self.plan_client(place);
    }

    /// Lets a client do something.
    pub fn with_client(&self, place: usize, act: impl FnOnce(&mut Client, Micros, &mut Vec<Effect>)) {
        let now = self.now();
        let mut effects = Vec::new();
        {
            let mut clients = lock(&self.clients);
            let Some(it) = clients.get_mut(place) else { return };
            if it.planned <= now {
                it.planned = Micros::MAX;
            }
            act(&mut it.client, now, &mut effects);
        }
        self.carry_out_effects(place, effects);
        self.plan_client(place);
    }

    /// All clients' places.
    pub fn client_count(&self) -> usize {
        lock(&self.clients).len()
    }

    fn plan_client(&self, place: usize) {
        let now = self.now();
        let span = {
            let mut clients = lock(&self.clients);
            let Some(it) = clients.get_mut(place) else { return };
            let Some(next) = it.client.next_wake() else { return };
            let next = next.max(now);
            if next >= it.planned {
                return;
            }
            it.planned = next;
            next - now
        };
        self.plan(span, What::ClientWake(place));
    }

    fn carry_out_effects(&self, from: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Record(event) => self.record(event),
                Effect::Call { to, program, tcp, message } => {
                    self.send_to_server(Packet { from, to, program, tcp, reply: false, message });
                }
                Effect::Reply { to, program, message } => {
                    self.send_to_server(Packet { from, to, program, tcp: false, reply: true, message });
                }
            }
        }
    }

    /// How long a message is under way, and a second copy of it. `None`: it is lost.
    fn fate(&self) -> Option<(Micros, Option<Micros>)> {
        let plan = &self.plan;
        let calm = lock(&self.inner).calm;
        let mut chances = self.chances();
        let network = &mut chances.network;
        let base = 60 + network.below(400);
        if calm || plan.loss + plan.doubled + plan.late == 0 {
            return Some((base, None));
        }
        if network.chance(plan.loss) {
            return None;
        }
        let late = |network: &mut Random| {
            if network.chance(plan.late) { network.below(plan.latest) } else { 0 }
        };
        let first = base + late(network);
        let second = network.chance(plan.doubled).then(|| base + network.below(2_000) + late(network));
        Some((first, second))
    }

    fn send_to_server(&self, packet: Packet) {
        let Some((first, second)) = self.fate() else { return };
        if let Some(second) = second {
            self.plan(second, What::ToServer(packet.clone()));
        }
        self.plan(first, What::ToServer(packet));
    }

    /// Sends a message of a daemon from one of its addresses. `from` none: from its machine's own.
    pub fn send_to_client(&self, life: &Arc<Life>, from: Option<IpAddr>, to: IpAddr, message: Vec<u8>) {
        let Some(from) = from else { return };
        if !life.is_alive() || !self.machine(life.machine, |m| m.addresses.borrow().contains(&from)) {
            return;
        }
        let Some(place) = lock(&self.clients).iter().position(|c| c.address == to) else { return };
        if self.is_cut(End::Server(life.machine), End::Client(place)) {
            return;
        }
        let Some((first, second)) = self.fate() else { return };
        if let Some(second) = second {
            self.plan(second, What::ToClient(place, from, message.clone()));
        }
        self.plan(first, What::ToClient(place, from, message));
    }

    /// A message arrives where its address is.
    fn arrive(self: &Arc<Self>, packet: Packet) {
        let Some(machine) = self.route(packet.to) else { return };
        if self.is_cut(End::Client(packet.from), End::Server(machine)) {
            return;
        }
        let life = {
            let mut machines = lock(&self.machines);
            if machines[machine].frozen.is_some() {
                machines[machine].held.push(What::ToServer(packet));
                return;
            }
            machines[machine].life.clone()
        };
        let Some(life) = life else { return };
        let Some(address) = lock(&self.clients).get(packet.from).map(|c| c.address) else { return };
        crate::rpc::deliver(self, &life, address, packet);
        self.after(&life);
    }

    fn route(&self, ip: IpAddr) -> Option<usize> {
        let several = {
            let inner = lock(&self.inner);
            let holders = inner.routes.get(&ip)?;
            match holders.as_slice() {
                [] => return None,
                [one] => return Some(*one),
                several => several.to_vec(),
            }
        };
        // Who said so last is believed by nearly all.
        let mut chances = self.chances();
        match chances.network.chance(150) {
            true => chances.network.pick(&several).copied(),
            false => several.last().copied(),
        }
    }

    /// A machine has an address from here on, and says so.
    pub fn join(&self, ip: IpAddr, machine: usize) {
        {
            let mut inner = lock(&self.inner);
            let holders = inner.routes.entry(ip).or_default();
            holders.retain(|m| *m != machine);
            holders.push(machine);
        }
        let new = self.machine(machine, |m| {
            let mut here = BTreeSet::clone(&m.addresses.borrow());
            let new = here.insert(ip);
            m.addresses.send_replace(Arc::new(here));
            new
        });
        if new {
            self.record(Event::Routed { lm: ip, node: NodeId(machine as u32), here: true });
        }
    }

    /// It has it no longer.
    pub fn leave(&self, ip: IpAddr, machine: usize) {
        let was = {
            let mut inner = lock(&self.inner);
            let holders = inner.routes.entry(ip).or_default();
            let before = holders.len();
            holders.retain(|m| *m != machine);
            holders.len() != before
        };
        self.machine(machine, |m| {
            let mut here = BTreeSet::clone(&m.addresses.borrow());
            here.remove(&ip);
            m.addresses.send_replace(Arc::new(here));
        });
        if was {
            self.record(Event::Routed { lm: ip, node: NodeId(machine as u32), here: false });
        }
    }

    /// The machines that have an address.
    pub fn holders(&self, ip: IpAddr) -> Vec<usize> {
        lock(&self.inner).routes.get(&ip).cloned().unwrap_or_default()
    }

    /// Cuts the way from one end to another, or mends it.
    pub fn set_cut(&self, from: End, to: End, cut: bool) {
        let mut inner = lock(&self.inner);
        if cut {
            inner.cut.insert((from, to))
        } else {
            inner.cut.remove(&(from, to))
        };
    }

    /// From here on the network does what it should.
    pub fn be_calm(&self) {
        lock(&self.inner).calm = true;
    }

    /// Whether any client that is up waits for the answer to a call.
    pub fn is_any_call_open(&self) -> bool {
        lock(&self.clients).iter().any(|c| c.client.is_up() && c.client.awaits_answer())
    }

    /// Mends all ways.
    pub fn mend(&self) {
        lock(&self.inner).cut.clear();
    }

    fn is_cut(&self, from: End, to: End) -> bool {
        lock(&self.inner).cut.contains(&(from, to))
    }

    /// Whether there is a client at an address.
    pub fn is_client_up(&self, address: IpAddr) -> bool {
        lock(&self.clients).iter().any(|c| c.address == address && c.client.is_up())
    }

    /// A client's connections to an address of ours are reset.
    pub fn reset_client(&self, from: IpAddr, client: IpAddr) {
        let place = lock(&self.clients).iter().position(|c| c.address == client);
        if let Some(place) = place {
            let span = 100 + self.chances().network.below(500);
            self.plan(span, What::ClientReset(place, from));
        }
    }

    /// The connections to an address of a daemon, or to all, are reset.
    pub fn reset_connections(&self, life: &Arc<Life>, local: Option<IpAddr>) {
        let peers: Vec<(IpAddr, SocketAddr)> = {
            let mut state = life.state();
            let gone = state.peers.iter().filter(|(ours, _)| local.is_none_or(|l| l == *ours));
            let gone: Vec<_> = gone.copied().collect();
            state.peers.retain(|peer| !gone.contains(peer));
            gone
        };
        let here = self.machine(life.machine, |m| m.addresses.borrow().clone());
        for (ours, peer) in peers.into_iter().filter(|(ours, _)| here.contains(ours)) {
            self.reset_client(ours, peer.ip());
        }
    }
}
