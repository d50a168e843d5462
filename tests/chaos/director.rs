//! The cluster manager and the bad luck of a run: addresses move as scripts move them, well and badly; daemons are killed and paused, the
//! disk is full, messages are lost, clients reboot.
//!
//! Must never do anything to a node but through its control socket, its process, its disk and its network, nor keep silent about it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use lockferry_checker::history::{ClientId, Event, Micros, NodeId, Result as Came};
use lockferry_sim::random::Random;

use super::cluster::Cluster;
use super::machine::Machine;
use super::net::Weather;
use super::plan::{LONGEST_PAUSE, MS, SECOND};
use super::verbs::{Start, Verbs};

/// A script does not wait longer for a verb; the verb goes on.
const SCRIPT_TIME: Duration = Duration::from_secs(4);
/// How long after a full disk has room again a client may still be told that there is none.
const NOLOCKS_TAIL: Micros = 10 * SECOND;

/// What ends at some time.
#[derive(Clone, Debug)]
enum Heal {
    GoOn(usize),
    Boot(usize),
    FreeDisk,
    NoExcuse,
    FineWeather,
    Mend(Vec<(usize, usize)>),
    BootClient(usize),
}

/// Who does all that.
pub(crate) struct Director<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) machines: Vec<Arc<Machine>>,
    random: Random,
    /// Where each group is at home.
    pub(crate) homes: Vec<usize>,
    due: Vec<(Micros, Heal)>,
    orders: Vec<JoinHandle<()>>,
    full: bool,
    pub(crate) moves: u32,
}

impl<'a> Director<'a> {
    pub(crate) fn new(cluster: &'a mut Cluster, random: Random) -> Self {
        let homes = (0..cluster.plan.groups.len()).map(|group| group % 2).collect();
        let (due, orders) = (Vec::new(), Vec::new());
        Self { cluster, machines: Vec::new(), random, homes, due, orders, full: false, moves: 0 }
    }

    /// Does it until the time is over, or something was wrong.
    pub(crate) fn run(&mut self) {
        let until = self.now() + self.cluster.plan.seconds * SECOND;
        while self.now() < until && !self.cluster.shared.observer.is_over() {
            let between = self.cluster.plan.between;
            let span = between / 2 + self.random.below(between);
            self.rest(span);
            self.look_after();
            if self.random.chance(500) { self.make_a_move() } else { self.strike() }
        }
    }

    /// Everything is well again, every group is served by one node, and nothing is under way.
    pub(crate) fn heal_all(&mut self) {
        self.say("everything is healed".into());
        for (_, heal) in std::mem::take(&mut self.due) {
            if !matches!(heal, Heal::NoExcuse) {
                self.heal(heal);
            }
        }
        (0..2).for_each(|node| self.cluster.boot(node));
        for order in self.orders.drain(..) {
            order.join().unwrap();
        }
        for group in 0..self.homes.len() {
            let home = self.homes[group];
            for lm in self.addresses(group) {
                self.leave(lm, 1 - home);
                self.order(move |verbs| verbs.unlock_ip(1 - home, lm));
                self.join(lm, home);
                let began = self.now();
                while !self.start_on(home, lm, Start::default()) {
                    assert!(
                        self.now() < began + 60 * SECOND,
                        "{lm} cannot be taken up by node {home} though nothing is wrong"
                    );
                    self.rest(200 * MS);
                }
            }
        }
        self.cluster.shared.observer.excuse_nolocks(false);
    }

    fn now(&self) -> Micros {
        self.cluster.shared.observer.now()
    }

    /// Says what happens.
    fn say(&self, what: String) {
        println!("{:>7.2} s  {what}", self.now() as f64 / 1e6);
        self.cluster.shared.observer.note(&what);
    }

    fn addresses(&self, group: usize) -> Vec<IpAddr> {
        self.cluster.plan.groups[group].clone()
    }

    /// Waits, and ends what ends meanwhile.
    pub(crate) fn rest(&mut self, span: Micros) {
        let until = self.now() + span;
        loop {
            let now = self.now();
            if let Some(at) = self.due.iter().position(|(at, _)| *at <= now) {
                let (_, heal) = self.due.swap_remove(at);
                self.heal(heal);
                continue;
            }
            if now >= until {
                return;
            }
            std::thread::sleep(Duration::from_micros((until - now).min(20 * MS)));
        }
    }

    fn heal(&mut self, heal: Heal) {
        match heal {
            Heal::GoOn(node) => {
                self.say(format!("node {node} goes on"));
                self.cluster.go_on(node);
            }
            Heal::Boot(node) => {
                self.say(format!("node {node} is started"));
                self.cluster.boot(node);
            }
            Heal::FreeDisk => {
                self.say("the disk has room again".into());
                self.cluster.free_disk();
                self.full = false;
                self.due.push((self.now() + NOLOCKS_TAIL, Heal::NoExcuse));
            }
            Heal::NoExcuse if self.full => {}
            Heal::NoExcuse => self.cluster.shared.observer.excuse_nolocks(false),
            Heal::FineWeather => {
                self.say("the network is well again".into());
                self.cluster.set_weather(Weather::default());
            }
            Heal::Mend(ways) => {
                self.say("ways are mended".into());
                ways.iter().for_each(|(client, node)| self.cluster.shared.net.cut(*client, *node, false));
            }
            Heal::BootClient(client) => {
                self.say(format!("client {client} boots"));
                self.machines[client].act(|client, now, out| client.boot(now, out));
            }
        }
    }

    fn later(&mut self, span: Micros, heal: Heal) {
        self.due.push((self.now() + span, heal));
    }

    /// Gives a verb to a node and waits as long as a script does.
    fn order(&mut self, verb: impl FnOnce(&Verbs) -> Option<Came> + Send + 'static) -> Option<Came> {
        let came = self.order_beside(verb);
        came.recv_timeout(SCRIPT_TIME).ok().flatten()
    }

    /// The same without waiting.
    fn order_beside(
        &mut self,
        verb: impl FnOnce(&Verbs) -> Option<Came> + Send + 'static,
    ) -> mpsc::Receiver<Option<Came>> {
        let (tell, came) = mpsc::channel();
        let verbs = self.cluster.verbs.clone();
        self.orders.retain(|order| !order.is_finished());
        self.orders.push(std::thread::spawn(move || {
            // The script may wait no longer.
            let _ = tell.send(verb(&verbs));
        }));
        came
    }

    fn join(&self, lm: IpAddr, node: usize) {
        if self.cluster.shared.net.join(lm, node) {
            self.routed(lm, node, true);
        }
    }

    fn leave(&self, lm: IpAddr, node: usize) {
        if self.cluster.shared.net.leave(lm, node) {
            self.routed(lm, node, false);
        }
    }

    fn routed(&self, lm: IpAddr, node: usize, here: bool) {
        self.cluster.shared.observer.record(Event::Routed { lm, node: NodeId(node as u32), here });
    }
}

/// The cluster manager.
impl Director<'_> {
    /// Groups whose home is gone go elsewhere, or are taken up there again once it is back.
    fn look_after(&mut self) {
        for group in 0..self.homes.len() {
            let (home, other) = (self.homes[group], 1 - self.homes[group]);
            if !self.cluster.is_well(home) {
                if self.cluster.is_well(other) && self.random.chance(500) {
                    self.say(format!("group {group} is taken over by node {other}"));
                    self.take(group, other);
                    self.addresses(group).into_iter().for_each(|lm| self.leave(lm, home));
                }
                continue;
            }
            let Some(taken) = self.cluster.verbs.taken_up(home) else { continue };
            for lm in self.addresses(group) {
                if !taken.iter().any(|(of, _)| *of == lm) {
                    self.start(home, lm);
                    self.join(lm, home);
                }
            }
        }
    }

    /// The first take-over of all.
    pub(crate) fn begin(&mut self) {
        for group in 0..self.homes.len() {
            self.take(group, self.homes[group]);
        }
    }

    /// Takes a group up on a node.
    fn take(&mut self, group: usize, node: usize) {
        self.moves += 1;
        self.homes[group] = node;
        let early = self.random.chance(500);
        for lm in self.addresses(group) {
            if early {
                self.join(lm, node);
            }
            self.start(node, lm);
            let pause = self.random.below(200 * MS);
            self.rest(pause);
            self.join(lm, node);
        }
    }

    /// `start_grace`, again if it fails, as scripts do.
    fn start(&mut self, node: usize, lm: IpAddr) -> bool {
        let window = self.random.chance(200).then(|| Duration::from_secs(2 + self.random.below(8)));
        let (adopt, full) = (self.random.chance(100), self.random.chance(20));
        // They exclude each other.
        let start = Start { window, adopt, full: full && !adopt };
        for _ in 0..4 {
            if self.start_on(node, lm, start) {
                if self.cluster.plan.trouble.scripts && self.random.chance(150) {
                    self.start_on(node, lm, Start::default());
                }
                return true;
            }
            let pause = 50 * MS + self.random.below(500 * MS);
            self.rest(pause);
        }
        false
    }

    fn start_on(&mut self, node: usize, lm: IpAddr, start: Start) -> bool {
        self.cluster.is_up(node)
            && matches!(self.order(move |verbs| verbs.start(node, lm, start)), Some(Came::TakenUp(_)))
    }

    fn stop(&mut self, node: usize, lm: IpAddr) {
        if self.cluster.is_up(node) {
            self.order(move |verbs| verbs.unlock_ip(node, lm));
        }
    }

    fn make_a_move(&mut self) {
        let group = self.random.below(self.homes.len() as u64) as usize;
        let most = if self.cluster.plan.trouble.scripts { 20 } else { 11 };
        match self.random.below(most) {
            0..=7 => self.planned(group),
            8 => self.restart_in_place(group),
            9 => self.end_window(group),
            10 => self.free_a_client(group),
            11..=13 => self.both(group),
            14..=15 => self.without_a_word(group),
            16..=17 => {
                self.planned(group);
                let pause = self.random.below(SECOND);
                self.rest(pause);
                self.planned(group);
            }
            18 => self.wrong_node(group),
            _ => self.again(group),
        }
    }

    /// As it is meant to be, in one of the usual orders.
    fn planned(&mut self, group: usize) {
        let (old, new) = (self.homes[group], 1 - self.homes[group]);
        if !self.cluster.is_up(new) {
            return;
        }
        self.say(format!("group {group} moves from node {old} to node {new}"));
        let address_first = self.random.chance(400);
        for lm in self.addresses(group) {
            if address_first {
                self.leave(lm, old);
            }
            self.stop(old, lm);
            self.leave(lm, old);
        }
        let pause = self.random.below(300 * MS);
        self.rest(pause);
        self.take(group, new);
    }

    fn restart_in_place(&mut self, group: usize) {
        let home = self.homes[group];
        self.say(format!("group {group} is given up and taken up by node {home}"));
        self.addresses(group).into_iter().for_each(|lm| self.stop(home, lm));
        self.take(group, home);
    }

    fn end_window(&mut self, group: usize) {
        let home = self.homes[group];
        if self.cluster.is_up(home) {
            self.say(format!("the window of group {group} is ended"));
            for lm in self.addresses(group) {
                self.order(move |verbs| verbs.end_grace(home, lm));
            }
        }
    }

    fn free_a_client(&mut self, group: usize) {
        let home = self.homes[group];
        let client = self.random.below(self.machines.len() as u64) as u32;
        if self.cluster.is_up(home) && self.random.chance(400) {
            self.say(format!("all locks of client {client} are freed in group {group}"));
            let name = super::client_name(client);
            for lm in self.addresses(group) {
                let name = name.clone();
                self.order(move |verbs| verbs.unlock_client(home, lm, ClientId(client), &name));
            }
        }
    }

    /// Split brain: both nodes take it up at once, and both have the address.
    fn both(&mut self, group: usize) {
        let (old, new) = (self.homes[group], 1 - self.homes[group]);
        if !self.cluster.is_up(new) {
            return;
        }
        self.say(format!("group {group} is taken up by both nodes at once"));
        self.moves += 2;
        for lm in self.addresses(group) {
            self.join(lm, new);
            if self.cluster.is_up(old) && self.random.chance(600) {
                self.order_beside(move |verbs| verbs.unlock_ip(old, lm));
                self.order_beside(move |verbs| verbs.start(old, lm, Start::default()));
            }
            if self.random.chance(400) {
                self.order_beside(move |verbs| verbs.start(new, lm, Start::default()));
            }
            self.start(new, lm);
        }
        let pause = self.random.below(3 * SECOND);
        self.rest(pause);
        for lm in self.addresses(group) {
            self.leave(lm, old);
            self.stop(old, lm);
        }
        self.homes[group] = new;
        for lm in self.addresses(group) {
            self.start(new, lm);
            self.join(lm, new);
        }
    }

    /// The other node takes it up, and the old one is not told; its address goes later.
    fn without_a_word(&mut self, group: usize) {
        let (old, new) = (self.homes[group], 1 - self.homes[group]);
        if !self.cluster.is_up(new) {
            return;
        }
        self.say(format!("group {group} is taken by node {new}, and node {old} is not told"));
        self.take(group, new);
        let pause = self.random.below(3 * SECOND);
        self.rest(pause);
        self.addresses(group).into_iter().for_each(|lm| self.leave(lm, old));
    }

    /// It is taken up where the address never comes to.
    fn wrong_node(&mut self, group: usize) {
        let (home, wrong) = (self.homes[group], 1 - self.homes[group]);
        self.say(format!("group {group} is taken up by node {wrong} by mistake"));
        self.moves += 1;
        for lm in self.addresses(group) {
            self.start(wrong, lm);
        }
        let pause = self.random.below(2 * SECOND);
        self.rest(pause);
        self.addresses(group).into_iter().for_each(|lm| self.stop(wrong, lm));
        self.take(group, home);
    }

    /// Nothing is to be done, and it is told all the same, several times at once.
    fn again(&mut self, group: usize) {
        let home = self.homes[group];
        self.say(format!("node {home} is told again and again to take group {group} up"));
        if self.cluster.is_up(home) {
            for lm in self.addresses(group) {
                for _ in 0..1 + self.random.below(3) {
                    self.order_beside(move |verbs| verbs.start(home, lm, Start::default()));
                }
                self.start(home, lm);
            }
        }
    }
}

/// Bad luck.
impl Director<'_> {
    fn strike(&mut self) {
        let trouble = self.cluster.plan.trouble;
        let node = self.random.below(2) as usize;
        let client = self.random.below(self.machines.len() as u64) as usize;
        match self.random.below(11) {
            0..=1 if trouble.kills => self.kill(node),
            2..=3 if trouble.pauses => self.pause(node),
            4 if trouble.disk => self.fill_disk(),
            5..=6 if trouble.network => self.bad_weather(),
            7 if trouble.partitions => self.cut(node),
            8 if trouble.clients => self.reboot(client),
            9 if trouble.clients => self.stall(client),
            10 if trouble.clocks => self.jump(node),
            _ => {}
        }
    }

    fn kill(&mut self, node: usize) {
        if self.cluster.is_up(node) {
            self.say(format!("node {node} is killed"));
            self.cluster.kill(node);
            let span = self.random.below(3 * SECOND);
            self.later(span, Heal::Boot(node));
        }
    }

    fn pause(&mut self, node: usize) {
        let most = if self.random.chance(200) { LONGEST_PAUSE } else { 5 * SECOND };
        let span = self.random.below(most);
        self.say(format!("node {node} stands still for {} ms", span / MS));
        if self.cluster.pause(node) {
            self.later(span, Heal::GoOn(node));
        }
    }

    fn fill_disk(&mut self) {
        let span = SECOND + self.random.below(6 * SECOND);
        if std::mem::replace(&mut self.full, true) {
            return;
        }
        self.say(format!("the disk of the journals is full for {} ms", span / MS));
        self.cluster.shared.observer.excuse_nolocks(true);
        self.cluster.fill_disk();
        self.later(span, Heal::FreeDisk);
    }

    fn bad_weather(&mut self) {
        let weather = self.cluster.plan.weather;
        let span = SECOND + self.random.below(8 * SECOND);
        self.say(format!("{} of a thousand datagrams are lost for {} ms", weather.loss, span / MS));
        self.cluster.set_weather(weather);
        self.later(span, Heal::FineWeather);
    }

    fn cut(&mut self, node: usize) {
        let (span, share) = (self.random.below(6 * SECOND), 300 + self.random.below(701) as u32);
        let all = 0..self.machines.len();
        let ways: Vec<_> = all.filter(|_| self.random.chance(share)).map(|client| (client, node)).collect();
        self.say(format!("{} clients do not reach node {node} for {} ms", ways.len(), span / MS));
        ways.iter().for_each(|(client, node)| self.cluster.shared.net.cut(*client, *node, true));
        self.later(span, Heal::Mend(ways));
    }

    fn jump(&mut self, node: usize) {
        let seconds = self.random.below(7_200) as i64 - 3_600;
        if self.cluster.jump(node, seconds).is_some() {
            self.say(format!("the clock of node {node} is {seconds} s off"));
        }
    }

    fn reboot(&mut self, client: usize) {
        self.say(format!("client {client} loses its power"));
        self.machines[client].act(|client, now, out| client.die(now, out));
        self.machines[client].drop_links();
        let span = self.random.below(8 * SECOND);
        self.later(span, Heal::BootClient(client));
    }

    fn stall(&mut self, client: usize) {
        let span = self.random.below(8 * SECOND);
        self.say(format!("client {client} hangs for {} ms", span / MS));
        self.machines[client].act(|client, now, _| client.stall(now + span));
    }
}
