//! Reboots: what a client does when a server says that it has rebooted, and what it says when it has done so itself.
//!
//! Must never reclaim two locks at a time through one address, nor keep what it was refused.

use lockferry_checker::history::{Answer, Event, Micros, Request};

use super::book::Held;
use super::calls::Role;
use super::transmit::Plan;
use super::{Client, Effect, NEVER, Server};

/// The reclaim of all locks through one address.
#[derive(Clone, Debug)]
pub(super) struct Reclaim {
    /// When it begins.
    at: Micros,
    /// What is left, the next one last: the owner, and what it holds.
    left: Vec<(usize, Held)>,
    /// What is asked for.
    current: Option<(usize, Held)>,
    /// The server has rebooted once more meanwhile: all over again.
    again: bool,
}

impl Server {
    /// When the reclaim begins, if it has not yet.
    pub(super) fn due(&self) -> Micros {
        match &self.reclaim {
            Some(reclaim) if reclaim.current.is_none() => reclaim.at,
            _ => NEVER,
        }
    }
}

impl Client {
    /// Whether locks are being reclaimed from a server.
    pub(super) fn is_reclaiming(&self, server: usize) -> bool {
        self.servers[server].reclaim.is_some()
    }

    /// SM_NOTIFY from a server.
    pub(super) fn noticed(&mut self, now: Micros, server: usize, state: u32) {
        let delay = 1000 + self.random.below(20_000);
        let told = &mut self.servers[server];
        if !told.monitored || told.known == state {
            return;
        }
        told.known = state;
        match &mut told.reclaim {
            Some(reclaim) => reclaim.again = true,
            None => {
                let left = self.all_held(server);
                let reclaim = Reclaim { at: now + delay, left, current: None, again: false };
                self.servers[server].reclaim = Some(reclaim);
            }
        }
    }

    /// Asks for the next lock, or is done.
    pub(super) fn reclaim_next(&mut self, now: Micros, server: usize, out: &mut Vec<Effect>) {
        if self.servers[server].reclaim.as_ref().is_some_and(|reclaim| reclaim.again) {
            let left = self.all_held(server);
            self.servers[server].reclaim = Some(Reclaim { at: now, left, current: None, again: false });
        }
        let Some(reclaim) = &mut self.servers[server].reclaim else { return };
        reclaim.current = reclaim.left.pop();
        let Some((owner, held)) = reclaim.current else {
            self.servers[server].reclaim = None;
            return self.ask_blocked_again(now, server, out);
        };
        let lock = self.lock(&self.owners[owner], &held);
        let request = Request::Lock { lock, block: false, reclaim: true, state: 0 };
        let role = Role::Reclaim(server);
        self.call(now, Plan { server, file: held.file, role, request, name: 0, xid: None }, out);
    }

    /// The answer to a reclaim.
    pub(super) fn reclaim_answered(
        &mut self,
        now: Micros,
        server: usize,
        answer: Answer,
        out: &mut Vec<Effect>,
    ) {
        let current = self.servers[server].reclaim.as_mut().and_then(|reclaim| reclaim.current.take());
        if let Some((owner, held)) = current {
            if answer == Answer::Granted {
                self.stats.reclaimed += 1;
            } else {
                self.stats.lost += 1;
                self.owners[owner].book.free(held.file, held.bytes);
            }
        }
        self.reclaim_next(now, server, out);
    }

    /// Tells a server that this machine has rebooted.
    pub(super) fn tell(&mut self, now: Micros, server: usize, out: &mut Vec<Effect>) {
        let lm = self.servers[server].address;
        let request = Request::Notify { client: self.config.id, lm, state: self.state };
        let role = Role::Notice(server);
        self.call(now, Plan { server, file: 0, role, request, name: 0, xid: None }, out);
    }

    /// Records a notice.
    pub(super) fn record_notice(&self, lm: std::net::IpAddr, state: u32, named: bool, out: &mut Vec<Effect>) {
        out.push(Effect::Record(Event::Noticed { client: self.config.id, lm, state, named }));
    }

    fn all_held(&self, server: usize) -> Vec<(usize, Held)> {
        let owners = self.owners.iter().enumerate().filter(|(_, owner)| owner.server == server);
        owners.flat_map(|(at, owner)| owner.book.held().iter().map(move |held| (at, *held))).collect()
    }
}
