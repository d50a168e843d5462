//! The clients' places: each acts when a message comes or when it wants to, and what it does is carried out.
//!
//! Must never look into a client further than a bystander could.

use std::net::IpAddr;

use lockferry_checker::history::Micros;

use crate::client::{Client, Effect};

use super::network::Packet;
use super::{Sim, What, lock};

/// A client.
pub(super) struct ClientPlace {
    pub(super) client: Client,
    pub(super) address: IpAddr,
    planned: Micros,
}

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

    /// Whether any client that is up waits for the answer to a call.
    pub fn is_any_call_open(&self) -> bool {
        lock(&self.clients).iter().any(|c| c.client.is_up() && c.client.awaits_answer())
    }

    /// Whether there is a client at an address.
    pub fn is_client_up(&self, address: IpAddr) -> bool {
        lock(&self.clients).iter().any(|c| c.address == address && c.client.is_up())
    }
}
