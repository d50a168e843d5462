//! The network between clients and machines: where an address leads, who does not reach whom, and what befalls a message on its way.
//!
//! Must never lose, double or delay anything by chance once it was told to be calm.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lockferry_checker::history::{Event, Micros, NodeId};

use crate::life::Life;
use crate::output;
use crate::random::Random;
use crate::settings::{ECHO, SECOND};

use super::{Sim, What, lock};

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

/// An end of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A machine that serves.
    Server(usize),
    /// A client.
    Client(usize),
}

/// How the network stands.
#[derive(Default)]
pub(super) struct Ways {
    /// Addresses, and the machines that say they have them, the last that said so at the end.
    routes: BTreeMap<IpAddr, Vec<usize>>,
    /// Who does not reach whom.
    cut: BTreeSet<(End, End)>,
    /// No message is lost, doubled or late any more.
    calm: bool,
}

impl Sim {
    /// How long a message is under way, and a second copy of it. `None`: it is lost.
    fn fate(&self) -> Option<(Micros, Option<Micros>)> {
        let plan = &self.plan;
        let calm = lock(&self.ways).calm;
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

    pub(super) fn send_to_server(&self, packet: Packet) {
        if self.plan.echoes && !packet.reply && !self.is_calm() {
            let span = {
                let network = &mut self.chances().network;
                network.chance(60).then(|| network.below(ECHO - SECOND))
            };
            if let Some(span) = span {
                self.plan(span, What::ToServer(packet.clone()));
            }
        }
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
    pub(super) fn arrive(self: &Arc<Self>, packet: Packet) {
        let Some(machine) = self.route(packet.to) else { return };
        if self.is_cut(End::Client(packet.from), End::Server(machine)) {
            return;
        }
        let life = {
            let mut machines = lock(&self.machines);
            let Some(life) = machines[machine].life.clone() else { return };
            if machines[machine].frozen.is_some() {
                // It lies in the daemon's socket, wherever the address is by then.
                machines[machine].held.push(What::Queued(life, packet));
                return;
            }
            life
        };
        self.deliver(&life, packet);
    }

    pub(super) fn deliver(self: &Arc<Self>, life: &Arc<Life>, packet: Packet) {
        let Some(address) = lock(&self.clients).get(packet.from).map(|c| c.address) else { return };
        output::said_by(Some(life.machine), || {
            crate::rpc::deliver(self, life, address, packet);
            self.after(life);
        });
    }

    fn route(&self, ip: IpAddr) -> Option<usize> {
        let several = {
            let ways = lock(&self.ways);
            let holders = ways.routes.get(&ip)?;
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
            let mut ways = lock(&self.ways);
            let holders = ways.routes.entry(ip).or_default();
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
            let mut ways = lock(&self.ways);
            let holders = ways.routes.entry(ip).or_default();
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
        lock(&self.ways).routes.get(&ip).cloned().unwrap_or_default()
    }

    /// Cuts the way from one end to another, or mends it.
    pub fn set_cut(&self, from: End, to: End, cut: bool) {
        let mut ways = lock(&self.ways);
        if cut {
            ways.cut.insert((from, to))
        } else {
            ways.cut.remove(&(from, to))
        };
    }

    /// Whether the network does what it should.
    pub fn is_calm(&self) -> bool {
        lock(&self.ways).calm
    }

    /// From here on the network does what it should.
    pub fn be_calm(&self) {
        lock(&self.ways).calm = true;
    }

    /// Mends all ways.
    pub fn mend(&self) {
        lock(&self.ways).cut.clear();
    }

    fn is_cut(&self, from: End, to: End) -> bool {
        lock(&self.ways).cut.contains(&(from, to))
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
