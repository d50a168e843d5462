//! The HA scripts of a run: they move addresses as cluster managers do, well and badly; machines that are gone are started again; and in the
//! end everything comes to rest. What befalls machines is in `luck`.
//!
//! Must never touch a daemon by another way than its commands, its machine and its disks.

mod luck;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use lockferry::node::verbs::{StartGrace, Verb};
use lockferry::store::journal::faults::SECTOR;
use lockferry_checker::history::{Command, Event, Micros, NodeId, Opened, Result as Came};
use tokio::sync::oneshot;

use crate::cluster::{self, Group, Site};
use crate::output;
use crate::random::Random;
use crate::settings::{MS, SECOND};
use crate::sim::Sim;
use crate::words;
use luck::Luck;

/// How often an open call is looked at before the end, every 10 ms: longer than any answer takes of which nothing is lost.
const PATIENCE: u32 = 1_000;

/// What the scripts of a run share.
pub struct Scripts {
    site: Arc<Site>,
    /// Groups that still have moves to make.
    busy: AtomicU32,
    /// Nothing bad happens any more.
    calm: AtomicBool,
    commands: AtomicU32,
}

/// Starts all of them.
pub fn start(sim: &Arc<Sim>, site: Arc<Site>, random: &mut Random) {
    let scripts = Arc::new(Scripts {
        busy: AtomicU32::new(site.groups.len() as u32),
        site,
        calm: AtomicBool::new(false),
        commands: AtomicU32::new(0),
    });
    for group in 0..scripts.site.groups.len() {
        let (sim2, scripts2, random) = (sim.clone(), scripts.clone(), random.fork());
        let task =
            async move { Manager { sim: sim2, scripts: scripts2, random, group, home: 0 }.run().await };
        sim.scripts.spawn(Box::pin(task));
    }
    let trouble = Luck { sim: sim.clone(), scripts: scripts.clone(), random: random.fork() };
    sim.scripts.spawn(Box::pin(trouble.run()));
    let (sim2, scripts2, mut keeper) = (sim.clone(), scripts.clone(), random.fork());
    sim.scripts.spawn(Box::pin(async move { keep_machines(&sim2, &scripts2, &mut keeper).await }));
    let (sim2, scripts2, mut eyes) = (sim.clone(), scripts.clone(), random.fork());
    sim.scripts.spawn(Box::pin(async move { look_at_counts(&sim2, &scripts2, &mut eyes).await }));
    if sim.plan.slow_disks {
        let (sim2, random) = (sim.clone(), random.fork());
        let luck = Luck { sim: sim2, scripts, random };
        sim.scripts.spawn(Box::pin(luck.slow_disks()));
    }
}

impl Scripts {
    fn group(&self, group: usize) -> &Group {
        &self.site.groups[group]
    }
}

/// Gives a command and waits for what comes of it. `None`: the daemon is gone.
async fn command(sim: &Arc<Sim>, scripts: &Scripts, machine: usize, verb: Verb) -> Option<Came> {
    let id = u64::from(scripts.commands.fetch_add(1, Ordering::Relaxed));
    let life = sim.machine(machine, |m| m.life.clone())?;
    let control = life.parts.get()?.control.clone();
    let node = NodeId(machine as u32);
    let window = match &verb {
        Verb::StartGrace(start) => start.grace.unwrap_or(sim.plan.window).as_micros() as Micros,
        _ => 0,
    };
    let told = match &verb {
        Verb::StartGrace(start) => {
            Command::StartGrace { lm: start.ip, window, adopt: start.adopt, full: start.full }
        }
        Verb::UnlockIp { ip } => Command::UnlockIp { lm: *ip },
        Verb::EndGrace { ip } => Command::EndGrace { lm: *ip },
        Verb::UnlockClient { client, ip: Some(ip) } => {
            let client = scripts.site.client_named(client.as_bytes())?;
            Command::UnlockClient { client, lm: *ip }
        }
        _ => return None,
    };
    sim.record(Event::Told { id, node, command: told });
    let (tell, came) = oneshot::channel();
    let starts = matches!(verb, Verb::StartGrace(_));
    let (here, daemon) = (Arc::downgrade(sim), life.clone());
    let site2 = scripts.site.clone();
    sim.plan_job(
        &life,
        Box::new(move || {
            let done = control.execute(&verb, false);
            if let (Some(sim), Err(why)) = (here.upgrade().filter(|sim| sim.settings.trace), &done) {
                let at = words::time(sim.now());
                output::line(format_args!("{at}  node {machine} refuses {}: {why}", verb.name()));
            }
            let came = match &done {
                Err(_) => Came::Failed,
                Ok(done) if starts => Came::TakenUp(match done {
                    done if !done.changed => Opened::Unchanged,
                    done if is_same_window(&done.text) => Opened::Longer { full: done.all_wait },
                    done if done.all_wait => Opened::Full,
                    done if done.text.contains("adopted") => Opened::Adopted { window: done.marked > 0 },
                    done if done.marked == 0 && done.text.contains("bound") => Opened::Unchanged,
                    _ => Opened::Window,
                }),
                Ok(_) => Came::Done,
            };
            // What a daemon says with its last breath nobody hears.
            if let Some(sim) = here.upgrade().filter(|_| daemon.is_alive()) {
                sim.record(Event::Came { id, result: came });
                if sim.settings.trace && std::env::var_os("SIM_ROWS").is_some() {
                    for dir in sim.disks.keys() {
                        let lm = dir.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
                        let rows = lm.and_then(|lm| cluster::stored(&sim, &site2, lm));
                        output::line(format_args!("STORED {dir:?} {rows:?}"));
                    }
                }
                // The script may be gone.
                let _ = tell.send(came);
            }
        }),
    );
    // A daemon that is gone drops its jobs with itself; but one that hangs is not waited for for ever, as HA managers do.
    tokio::select! {
        biased;
        came = came => came.ok(),
        () = sim.sleep(90 * SECOND) => None,
        () = gone(sim, &life) => None,
    }
}

/// Whether a `start_grace` says that only its window has changed.
fn is_same_window(text: &str) -> bool {
    text.contains("window now ends") || text.contains("is a full one now")
}

async fn gone(sim: &Arc<Sim>, life: &Arc<crate::life::Life>) {
    while life.is_alive() {
        sim.sleep(SECOND).await;
    }
}

/// One cluster manager: it looks after a group of addresses.
struct Manager {
    sim: Arc<Sim>,
    scripts: Arc<Scripts>,
    random: Random,
    group: usize,
    home: usize,
}

impl Manager {
    async fn run(mut self) {
        self.home = self.group % self.sim.machine_count();
        self.sim.sleep(200 * MS).await;
        self.take(self.home).await;
        let mut moves = 0;
        while moves < self.sim.plan.moves {
            let span = self.sim.plan.between / 2 + self.random.below(self.sim.plan.between);
            if self.watch(span).await {
                moves += 1;
                continue;
            }
            self.make_a_move().await;
            moves += 1;
        }
        let before = self.scripts.busy.fetch_sub(1, Ordering::Relaxed);
        if before == 1 {
            self.scripts.calm.store(true, Ordering::Relaxed);
        }
        while !self.scripts.calm.load(Ordering::Relaxed) {
            self.watch(5 * SECOND).await;
        }
        self.come_to_rest().await;
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.scripts.group(self.group).addresses.clone()
    }

    /// Waits, and moves the group if its home fails meanwhile. True: it did.
    async fn watch(&mut self, span: Micros) -> bool {
        let until = self.sim.now() + span;
        while self.sim.now() < until {
            self.sim.sleep((300 * MS).min(until - self.sim.now())).await;
            if self.is_served(self.home) {
                continue;
            }
            // A manager believes it after a while; by then the daemon may be back.
            let patience = 200 * MS + self.random.below(8 * SECOND);
            self.sim.sleep(patience).await;
            if self.is_served(self.home) {
                continue;
            }
            if let Some(next) = self.another() {
                self.fence(self.home).await;
                self.take(next).await;
                return true;
            }
        }
        false
    }

    fn is_served(&self, machine: usize) -> bool {
        let here = self.sim.machine(machine, |m| {
            let addresses = m.addresses.borrow().clone();
            m.life.is_some().then_some(addresses)
        });
        here.is_some_and(|here| self.addresses().iter().all(|ip| here.contains(ip)))
    }

    /// Another machine whose daemon runs.
    fn another(&mut self) -> Option<usize> {
        let running = |m: &usize| self.sim.machine(*m, |m| m.life.is_some());
        let others: Vec<usize> =
            (0..self.sim.machine_count()).filter(|m| *m != self.home).filter(running).collect();
        self.random.pick(&others).copied()
    }

    /// Makes as sure as this manager does that a machine serves the group no longer.
    async fn fence(&mut self, machine: usize) {
        let alone = self.addresses().len() == 1;
        let sloppy = self.sim.settings.trouble.scripts && alone && self.random.chance(300);
        if !sloppy {
            for ip in self.addresses() {
                self.sim.leave(ip, machine);
            }
        }
    }

    /// Takes the group up on a machine.
    async fn take(&mut self, machine: usize) {
        self.home = machine;
        let early = self.random.chance(500);
        for ip in self.addresses() {
            if early {
                self.sim.join(ip, machine);
            }
            self.start(machine, ip).await;
            let longest = if self.sim.plan.slow_moves && !early { 40 * SECOND } else { 300 * MS };
            let pause = self.random.below(longest);
            self.sim.sleep(pause).await;
            self.sim.join(ip, machine);
        }
    }

    /// `start_grace`, again if it fails, as scripts do.
    async fn start(&mut self, machine: usize, ip: IpAddr) -> bool {
        let adopt = self.random.chance(100);
        let full = self.random.chance(20);
        for _ in 0..4 {
            let grace = self.random.chance(200).then(|| Duration::from_secs(2 + self.random.below(12)));
            let start = StartGrace { adopt, full, grace, ..StartGrace::new(ip) };
            match command(&self.sim, &self.scripts, machine, Verb::StartGrace(start)).await {
                Some(Came::Failed) => {}
                Some(_) => {
                    if self.sim.settings.trouble.scripts && self.random.chance(100) {
                        command(&self.sim, &self.scripts, machine, Verb::StartGrace(StartGrace::new(ip)))
                            .await;
                    }
                    return true;
                }
                None => return false,
            }
            let pause = 100 * MS + self.random.below(2 * SECOND);
            self.sim.sleep(pause).await;
        }
        false
    }

    async fn stop(&mut self, machine: usize, ip: IpAddr) {
        let came = command(&self.sim, &self.scripts, machine, Verb::UnlockIp { ip }).await;
        // What a damaged record has lost is in nobody's way who comes through another address on the same files.
        let alone = self.addresses().len() == 1;
        let damaged = self.sim.settings.trouble.damage && alone && self.random.chance(150);
        if came == Some(Came::Done) && damaged && !cluster::is_loaded_anywhere(&self.sim, ip) {
            self.damage(ip);
        }
    }

    /// Damages a record that was given up in order, mostly where it was written last: a bit flips, or a sector that was durable is lost.
    fn damage(&mut self, ip: IpAddr) {
        let Some(disk) = self.sim.disks.get(&cluster::journal_dir(ip)) else { return };
        let contents = disk.contents();
        let files: Vec<(&PathBuf, &Vec<u8>)> =
            contents.iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
        // The numbers in names grow.
        let segments = files.iter().filter(|(path, _)| path.to_string_lossy().contains("segment-"));
        let newest = segments.max_by_key(|(path, _)| (path.as_os_str().len(), path)).copied();
        let lost = self.random.chance(500);
        if let Some((path, bytes)) = newest.filter(|_| lost) {
            // Behind it there is what tells that it was durable: that the record was given up is written last.
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) / SECTOR;
            let sector = 1 + self.random.below(used.saturating_sub(2) as u64) as usize;
            if sector + 2 <= used {
                disk.lose_sector(path, sector);
                self.say(&format!("sector {sector} of {used} of {} is lost", path.display()));
            }
            return;
        }
        let last = newest.filter(|_| self.random.chance(700));
        let Some((path, bytes)) = last.or(self.random.pick(&files).copied()) else { return };
        let bit = self.random.below(bytes.len() as u64 * 8);
        disk.flip(path, bit);
        self.say(&format!("bit {bit} of {} flips", path.display()));
    }

    fn say(&self, what: &str) {
        if self.sim.settings.trace {
            println!("{:>12} {what}", self.sim.now());
        }
    }

    async fn make_a_move(&mut self) {
        // Addresses that share exports are for one node at a time, all of them: with the records alone two nodes do not hear of each other.
        let bad = self.sim.settings.trouble.scripts && self.addresses().len() == 1;
        if self.sim.plan.at_once && self.random.chance(500) {
            return self.at_once().await;
        }
        if self.sim.plan.slow_checks && self.random.chance(300) {
            return self.back_and_forth().await;
        }
        match self.random.below(if bad { 20 } else { 12 }) {
            0..=8 => self.planned().await,
            9 => self.restart_in_place().await,
            10 => self.end_window().await,
            11 => self.free_a_client().await,
            12..=14 => self.both().await,
            15..=16 => self.without_a_word().await,
            17 => self.back_and_forth().await,
            18 => self.wrong_machine().await,
            _ => self.planned().await,
        }
    }

    /// As it is meant to be, in one of the usual orders.
    async fn planned(&mut self) {
        let Some(next) = self.another() else { return };
        let (old, address_first) = (self.home, self.random.chance(400));
        for ip in self.addresses() {
            if address_first {
                self.sim.leave(ip, old);
            }
            self.stop(old, ip).await;
            self.sim.leave(ip, old);
        }
        let pause = self.random.below(500 * MS);
        self.sim.sleep(pause).await;
        self.take(next).await;
    }

    async fn restart_in_place(&mut self) {
        let home = self.home;
        for ip in self.addresses() {
            self.stop(home, ip).await;
        }
        self.take(home).await;
    }

    async fn end_window(&mut self) {
        let home = self.home;
        for ip in self.addresses() {
            command(&self.sim, &self.scripts, home, Verb::EndGrace { ip }).await;
        }
    }

    async fn free_a_client(&mut self) {
        let names: Vec<String> = self.scripts.site.names.iter().map(|(name, _)| name.clone()).collect();
        let Some(client) = self.random.pick(&names).cloned() else { return };
        let home = self.home;
        if self.random.chance(300) {
            for ip in self.addresses() {
                let verb = Verb::UnlockClient { client: client.clone(), ip: Some(ip) };
                command(&self.sim, &self.scripts, home, verb).await;
            }
        }
    }

    /// Split brain: two machines take it up at once, and both have the address.
    async fn both(&mut self) {
        let Some(next) = self.another() else { return };
        let old = self.home;
        for ip in self.addresses() {
            self.sim.join(ip, next);
            let (sim, scripts) = (self.sim.clone(), self.scripts.clone());
            let again = async move {
                command(&sim, &scripts, old, Verb::UnlockIp { ip }).await;
                command(&sim, &scripts, old, Verb::StartGrace(StartGrace::new(ip))).await;
            };
            let twice = self.random.chance(500);
            if twice {
                self.sim.scripts.spawn(Box::pin(again));
            }
            self.start(next, ip).await;
        }
        let pause = self.random.below(6 * SECOND);
        self.sim.sleep(pause).await;
        for ip in self.addresses() {
            self.sim.leave(ip, old);
            self.stop(old, ip).await;
        }
        self.home = next;
        for ip in self.addresses() {
            self.start(next, ip).await;
            self.sim.join(ip, next);
        }
    }

    /// Nobody serves it, and two machines are told to take it up at the same moment; the address is on both for a while.
    async fn at_once(&mut self) {
        let Some(next) = self.another() else { return };
        let old = self.home;
        for ip in self.addresses() {
            self.stop(old, ip).await;
            self.sim.join(ip, next);
            let (sim, scripts) = (self.sim.clone(), self.scripts.clone());
            let start = |machine| {
                let verb = Verb::StartGrace(StartGrace::new(ip));
                let (sim, scripts) = (sim.clone(), scripts.clone());
                async move { command(&sim, &scripts, machine, verb).await }
            };
            let later = self.random.below(2 * MS);
            tokio::join!(start(old), async {
                sim.sleep(later).await;
                start(next).await
            });
        }
        let pause = self.random.below(4 * SECOND);
        self.sim.sleep(pause).await;
        self.home = next;
        for ip in self.addresses() {
            self.sim.leave(ip, old);
            self.start(next, ip).await;
            self.sim.join(ip, next);
        }
    }

    /// Another machine takes it up, and the old one is not told; its address goes later.
    async fn without_a_word(&mut self) {
        let Some(next) = self.another() else { return };
        let old = self.home;
        self.take(next).await;
        let pause = self.random.below(4 * SECOND);
        self.sim.sleep(pause).await;
        for ip in self.addresses() {
            self.sim.leave(ip, old);
        }
    }

    async fn back_and_forth(&mut self) {
        self.planned().await;
        // Long enough for what was asked before to be asked again, given and given back.
        let longest = if self.sim.plan.slow_checks { 5 * SECOND } else { SECOND };
        let pause = self.random.below(longest);
        self.sim.sleep(pause).await;
        self.planned().await;
    }

    /// It is taken up where the address never comes to.
    async fn wrong_machine(&mut self) {
        let Some(wrong) = self.another() else { return };
        let home = self.home;
        for ip in self.addresses() {
            self.start(wrong, ip).await;
        }
        let pause = self.random.below(3 * SECOND);
        self.sim.sleep(pause).await;
        for ip in self.addresses() {
            self.stop(wrong, ip).await;
        }
        self.take(home).await;
    }

    /// The last move: to a machine that stays.
    async fn come_to_rest(&mut self) {
        let home = self.home;
        // The keeper has every machine up within this time.
        self.sim.sleep(60 * SECOND).await;
        for ip in self.addresses() {
            for machine in (0..self.sim.machine_count()).filter(|m| *m != home) {
                self.sim.leave(ip, machine);
                self.stop(machine, ip).await;
            }
            self.sim.leave(ip, home);
        }
        // What was lit before may still go off, and then the address is gone with the daemon.
        while !self.is_served(home) {
            for ip in self.addresses() {
                while !self.start(home, ip).await {
                    self.sim.sleep(SECOND).await;
                }
                self.sim.join(ip, home);
            }
            self.sim.sleep(SECOND).await;
        }
        let before = self.scripts.site.resting.fetch_add(1, Ordering::Relaxed);
        if before + 1 == self.scripts.site.groups.len() as u32 {
            let homes = &self.scripts.site;
            self.rest(homes.clone()).await;
        }
    }

    async fn rest(&mut self, site: Arc<Site>) {
        self.sim.sleep(SECOND).await;
        for client in 0..self.sim.client_count() {
            self.sim.with_client(client, |c, now, _| c.calm(now));
        }
        self.sim.be_calm();
        self.sim.record(Event::Calm);
        self.sim.sleep(site.rest).await;
        // A hold time may be just over: that is in the list at once, and in the record a moment later.
        let mut listed = cluster::count_listed(&self.sim);
        for _ in 0..5 {
            self.sim.sleep(SECOND).await;
            let before = std::mem::replace(&mut listed, cluster::count_listed(&self.sim));
            if before == listed {
                break;
            }
        }
        // Whoever waits polls now and then: a poll that is under way has its answer in a moment, or never.
        for _ in 0..PATIENCE {
            if !self.sim.is_any_call_open() {
                break;
            }
            self.sim.sleep(10 * MS).await;
        }
        cluster::compare_lists(&self.sim, &site);
        self.sim.record(Event::Rest);
        self.sim.watcher.lock().unwrap_or_else(std::sync::PoisonError::into_inner).end();
    }
}

/// Starts daemons that are gone, and machines that have no power, after a while.
async fn keep_machines(sim: &Arc<Sim>, scripts: &Scripts, random: &mut Random) {
    for machine in 0..sim.machine_count() {
        cluster::boot(sim, &scripts.site, machine);
    }
    let mut due: Vec<Option<Micros>> = vec![None; sim.machine_count()];
    loop {
        sim.sleep(250 * MS).await;
        let calm = scripts.calm.load(Ordering::Relaxed);
        for (machine, due) in due.iter_mut().enumerate() {
            if sim.machine(machine, |m| m.life.is_some()) {
                *due = None;
                continue;
            }
            let powered = sim.machine(machine, |m| m.powered);
            let most = match (calm, powered) {
                (true, _) => 5 * SECOND,
                (false, true) => 12 * SECOND,
                (false, false) => 60 * SECOND,
            };
            let at = *due.get_or_insert_with(|| sim.now() + random.below(most));
            if sim.now() >= at.min(sim.now() + most) {
                cluster::boot(sim, &scripts.site, machine);
                *due = None;
            }
        }
    }
}

/// An operator looks now and then: the status of a node says how many locks there are that it lists.
async fn look_at_counts(sim: &Arc<Sim>, scripts: &Scripts, random: &mut Random) {
    while !scripts.calm.load(Ordering::Relaxed) {
        let span = random.below(20 * SECOND);
        sim.sleep(span).await;
        for machine in 0..sim.machine_count() {
            cluster::compare_counts(sim, machine);
        }
    }
}
