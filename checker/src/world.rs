//! Who is who: owners, clients and lock managers by small numbers, and what has ended locks of many of them at once.
//! Must never look into files.

use crate::hash::Table;
use crate::history::{CallId, ClientId, Micros, Owner};
use crate::map::{Hold, Mode, Moment};
use crate::takeups::{Manager, Nodes};
use std::net::IpAddr;

/// An owner as the server sees it: the name, the address, the number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnerInfo {
    pub(crate) owner: Owner,
    /// The machine whose address the requests come from. Another machine's is a forgery, and an owner of its own.
    pub(crate) sender: ClientId,
    pub(crate) client: u32,
    pub(crate) peer: u32,
    pub(crate) lm: u32,
    /// Its machine keeps to no rule.
    liar: bool,
}

impl OwnerInfo {
    /// Nothing is sure of it.
    pub(crate) fn forged(&self) -> bool {
        self.liar || self.sender != self.owner.client
    }
}

/// A client machine.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// The event at which it last stopped or booted.
    pub(crate) died: u64,
    pub(crate) alive: bool,
    /// Its calls without an answer.
    pub(crate) open: Vec<CallId>,
}

/// A client as one lock manager knows it.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// The files on which it has ever asked for a lock there.
    pub(crate) files: Table<u32, ()>,
    /// The NSM state of the last LOCK granted to it there.
    pub(crate) state: u32,
    /// `unlock_client` commands without an answer.
    pub(crate) unlocking: u32,
    /// The last event at which one may have freed what it had.
    pub(crate) unlocked: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) owners: Vec<OwnerInfo>,
    pub(crate) clients: Vec<Client>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) managers: Vec<Manager>,
    pub(crate) nodes: Nodes,
    pub(crate) liars: Vec<ClientId>,
    owner_ids: Table<(u32, ClientId, u32), u32>,
    client_ids: Table<ClientId, u32>,
    peer_ids: Table<(ClientId, ClientId, u32), u32>,
    manager_ids: Table<IpAddr, u32>,
    next: Micros,
}

impl World {
    /// With these who keep to no rule.
    pub(crate) fn of(liars: Vec<ClientId>) -> Self {
        Self { liars, ..Self::default() }
    }

    pub(crate) fn client(&mut self, id: ClientId) -> u32 {
        let clients = &mut self.clients;
        *self.client_ids.entry(id).or_insert_with(|| {
            clients.push(Client { alive: true, ..Client::default() });
            clients.len() as u32 - 1
        })
    }

    pub(crate) fn manager(&mut self, ip: IpAddr) -> u32 {
        let managers = &mut self.managers;
        *self.manager_ids.entry(ip).or_insert_with(|| {
            managers.push(Manager::new(ip));
            managers.len() as u32 - 1
        })
    }

    /// The client of that name, at the address of `sender`.
    pub(crate) fn peer(&mut self, name: ClientId, sender: ClientId, lm: u32) -> u32 {
        let peers = &mut self.peers;
        *self.peer_ids.entry((name, sender, lm)).or_insert_with(|| {
            peers.push(Peer::default());
            peers.len() as u32 - 1
        })
    }

    pub(crate) fn owner(&mut self, owner: Owner, sender: ClientId) -> u32 {
        let lm = self.manager(owner.lm);
        let peer = self.peer(owner.client, sender, lm);
        if let Some(id) = self.owner_ids.get(&(peer, sender, owner.svid)) {
            return *id;
        }
        let client = self.client(sender);
        let id = self.owners.len() as u32;
        let liar = self.liars.contains(&sender);
        self.owners.push(OwnerInfo { owner, sender, client, peer, lm, liar });
        self.owner_ids.insert((peer, sender, owner.svid), id);
        id
    }

    /// The owner of that name and number, from the address of the machine of that name, if it was ever heard of.
    pub(crate) fn find(&self, owner: Owner, sender: ClientId) -> Option<u32> {
        let lm = *self.manager_ids.get(&owner.lm)?;
        let peer = *self.peer_ids.get(&(owner.client, sender, lm))?;
        self.owner_ids.get(&(peer, sender, owner.svid)).copied()
    }

    pub(crate) fn info(&self, owner: u32) -> &OwnerInfo {
        &self.owners[owner as usize]
    }

    pub(crate) fn manager_of(&self, owner: u32) -> &Manager {
        &self.managers[self.info(owner).lm as usize]
    }

    /// What the owner surely holds, after all that has ended locks of many at once.
    pub(crate) fn must(&self, hold: &Hold) -> Option<Mode> {
        let mode = self.must_if_kept(hold)?;
        (hold.effective >= self.manager_of(hold.owner).lost_before).then_some(mode)
    }

    /// The same, were it not for windows that may have ended before it was reclaimed.
    fn must_if_kept(&self, hold: &Hold) -> Option<Mode> {
        let mode = hold.must?;
        let info = self.info(hold.owner);
        let peer = &self.peers[info.peer as usize];
        let sure = hold.since.seq > self.clients[info.client as usize].died
            && peer.unlocking == 0
            && hold.effective > peer.unlocked;
        sure.then_some(mode)
    }

    /// What the owner surely gets if it reclaims it now: what has expired stays there, for the hold time, until somebody asks for what it
    /// excludes. Nothing is sure where a record was ever incomplete.
    pub(crate) fn must_if_reclaimed(&self, hold: &Hold) -> Option<Mode> {
        let late = !hold.contested && !self.managers.iter().any(Manager::had_any_doubt);
        self.must_if_kept(hold).filter(|_| late).or_else(|| self.must(hold))
    }

    /// Lets time pass: windows end.
    pub(crate) fn advance(&mut self, hold: Micros, now: Moment) {
        if now.at >= self.next {
            for manager in &mut self.managers {
                manager.advance(hold, now);
            }
            self.schedule(hold);
        }
    }

    /// To be called when a lock manager was told something.
    pub(crate) fn schedule(&mut self, hold: Micros) {
        self.next = self.managers.iter().map(|manager| manager.next(hold)).min().unwrap_or(Micros::MAX);
    }

    /// A full window may have been open for any lock manager at some time from `from` on.
    pub(crate) fn any_full_since(&self, from: Micros, slack: Micros) -> bool {
        self.managers
            .iter()
            .any(|manager| manager.had_any_doubt() && manager.full_since(from, &self.nodes, slack))
    }

    /// All that a closed call gave this hold has surely expired before the time `from`.
    pub(crate) fn surely_expired(&self, hold: &Hold, mode: Mode, from: Micros, slack: Micros) -> bool {
        let Some(told) = self.manager_of(hold.owner).expired_before(from, &self.nodes, slack) else {
            return false;
        };
        let may = hold.may[mode as usize];
        // What waited before the window was opened is waiting no longer: a window drops the queue.
        !hold.under_way(mode) && may.older(told)
    }
}
