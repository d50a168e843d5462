//! What ends or moves many locks at once: reboots, operators' commands, crashes, take-overs.

use crate::calls::{Call, Stage};
use crate::checker::{Checker, Verdict, settle};
use crate::history::{ClientId, Command, Event, Micros, NodeId, Opened, Result};
use crate::map::{Mode, Moment, STILL};
use crate::takeups::Kept;
use crate::verdict::Invariant;

/// A command without a result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    node: NodeId,
    command: Command,
    first: Moment,
}

/// A client that surely holds something through an address that was taken up with a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Untold {
    lm: u32,
    client: u32,
    /// When it was taken up.
    taken: Moment,
    /// When it is looked at next.
    due: Micros,
}

/// So soon a client hears of a take-over, where nothing is lost, once the address is there.
const TOLD: Micros = 20_000_000;

impl Checker {
    /// Commands, daemons and nodes.
    pub(crate) fn service(&mut self, event: &Event) {
        let now = self.now;
        match event {
            Event::Told { id, node, command } => self.told(*id, *node, *command),
            Event::Came { id, result } => self.came(*id, *result),
            Event::Resumed { node, lm, opened, window } => self.resumed(*node, *lm, *opened, *window),
            Event::Down { node } => self.down(*node),
            Event::Routed { lm, node, here } => {
                let lm = self.world.manager(*lm);
                self.world.managers[lm as usize].route(*node, *here, now);
            }
            Event::DiskFailed { lm } => {
                let lm = self.world.manager(*lm);
                self.world.managers[lm as usize].disk_failed(now);
            }
            Event::Frozen { node, frozen } => self.world.nodes.freeze(*node, *frozen, now),
            _ => {}
        }
        self.world.schedule(self.settings.hold);
    }

    fn told(&mut self, id: u64, node: NodeId, command: Command) {
        let now = self.now;
        self.told.insert(id, Told { node, command, first: now });
        match command {
            Command::StartGrace { lm, window, .. } => {
                let lm = self.world.manager(lm);
                self.world.managers[lm as usize].told(id, node, window, now);
                self.wake_ghosts(lm);
            }
            Command::UnlockIp { lm } => {
                let lm = self.world.manager(lm);
                self.world.managers[lm as usize].releasing(node, now);
            }
            Command::EndGrace { lm } => {
                let lm = self.world.manager(lm);
                self.world.managers[lm as usize].ending(now);
            }
            Command::UnlockClient { client, lm } => {
                let lm = self.world.manager(lm);
                let peer = self.world.peer(client, client, lm);
                self.world.peers[peer as usize].unlocking += 1;
            }
        }
        // An end that was told before is now.
        self.world.schedule(self.settings.hold);
        self.world.advance(self.settings.hold, now);
    }

    fn came(&mut self, id: u64, result: Result) {
        let now = self.now;
        let Some(told) = self.told.remove(&id) else { return };
        match told.command {
            Command::StartGrace { lm, .. } => {
                let lm = self.world.manager(lm);
                let manager = &mut self.world.managers[lm as usize];
                match result {
                    Result::TakenUp(Opened::Unchanged) => manager.kept(id, Kept::Unchanged, now),
                    Result::TakenUp(Opened::Longer { full }) => manager.kept(id, Kept::Longer(full), now),
                    Result::TakenUp(Opened::Adopted { window }) => {
                        manager.kept(id, Kept::Adopted(window), now)
                    }
                    Result::TakenUp(opened) => {
                        self.summary.windows += 1;
                        manager.opened(id, opened == Opened::Full, now);
                        self.expect_notices(lm);
                    }
                    Result::Done | Result::Failed => manager.kept(id, Kept::Failed, now),
                }
                self.wake_ghosts(lm);
                if matches!(result, Result::TakenUp(Opened::Full | Opened::Longer { full: true })) {
                    self.forget_answers(lm);
                }
            }
            Command::UnlockIp { lm } => {
                let lm = self.world.manager(lm);
                if result == Result::Done {
                    self.world.managers[lm as usize].released(told.node, now);
                }
            }
            Command::EndGrace { lm } => {
                let lm = self.world.manager(lm);
                if result == Result::Done {
                    self.world.managers[lm as usize].ended(told.node, now);
                }
            }
            Command::UnlockClient { client, lm } => {
                let lm = self.world.manager(lm);
                let peer = self.world.peer(client, client, lm);
                self.client_unlocked(peer);
                if result == Result::Done {
                    self.free(peer, told.first, |_| true);
                }
            }
        }
    }

    fn client_unlocked(&mut self, peer: u32) {
        let peer = &mut self.world.peers[peer as usize];
        peer.unlocking = peer.unlocking.saturating_sub(1);
        peer.unlocked = self.now.seq;
    }

    fn resumed(&mut self, node: NodeId, lm: std::net::IpAddr, opened: Opened, window: Micros) {
        let now = self.now;
        let (lm, down) = (self.world.manager(lm), self.world.nodes.last_down(node));
        self.summary.windows += u64::from(matches!(opened, Opened::Window | Opened::Full));
        self.world.managers[lm as usize].resumed(node, (opened, window), down, self.settings.slack, now);
        self.wake_ghosts(lm);
        if opened == Opened::Full {
            self.forget_answers(lm);
        }
    }

    /// A record that may be incomplete may lack the answers to calls, too: what is still on its way of them is carried out anew.
    fn forget_answers(&mut self, lm: u32) {
        let (now, late) = (self.now, self.settings.late);
        let lately = self.over.iter().rev().take_while(|(at, _)| at.saturating_add(late) > now.at);
        let calls: Vec<Call> = lately.filter_map(|(_, id)| self.calls.get(id)).copied().collect();
        let copies = self.settings.copies;
        let copied = |call: &Call| copies || call.sent > 1;
        let again = |call: &Call| call.lm == lm && !call.forged && !call.elsewhere && copied(call);
        for call in calls.into_iter().filter(again) {
            self.may_come_again(&call, call.last.saturating_add(late));
        }
    }

    fn down(&mut self, node: NodeId) {
        let now = self.now;
        self.world.nodes.down(node, now);
        let lost: Vec<u64> =
            self.told.iter().filter(|(_, told)| told.node == node).map(|(id, _)| *id).collect();
        for id in lost {
            // Whatever it did is done.
            if let Some(Told { command: Command::UnlockClient { client, lm }, .. }) = self.told.remove(&id) {
                let lm = self.world.manager(lm);
                let peer = self.world.peer(client, client, lm);
                self.client_unlocked(peer);
            }
        }
        for lm in 0..self.world.managers.len() as u32 {
            self.world.managers[lm as usize].down(node, now);
            self.wake_ghosts(lm);
        }
    }

    /// Whoever surely holds something through an address has to be told of its take-over.
    fn expect_notices(&mut self, lm: u32) {
        self.untold.retain(|untold| untold.lm != lm);
        if !(self.settings.lossless && self.settings.steady) {
            return;
        }
        let mut clients = std::collections::BTreeSet::new();
        for file in &self.files {
            let whole = crate::history::Bytes { start: 0, end: u64::MAX };
            for hold in file.map.touching(whole).flat_map(|(_, segment)| &segment.holds) {
                let info = self.world.info(hold.owner);
                if info.lm == lm && !info.forged() && self.world.must(hold).is_some() {
                    clients.insert(info.client);
                }
            }
        }
        let due = self.now.at.saturating_add(TOLD);
        self.untold.extend(clients.into_iter().map(|client| Untold { lm, client, taken: self.now, due }));
    }

    /// I2: they are.
    pub(crate) fn look_for_untold(&mut self) -> Verdict {
        while let Some(untold) = self.untold.front().copied().filter(|untold| untold.due <= self.now.at) {
            self.untold.pop_front();
            let Untold { lm, client, taken, due } = untold;
            let manager = &self.world.managers[lm as usize];
            let here = &self.world.clients[client as usize];
            if manager.changed.seq > taken.seq || !here.alive || here.died > taken.seq {
                continue;
            }
            let from = due.saturating_sub(TOLD) + 1;
            if manager.served_since(from) && self.world.nodes.all_awake_since(from) {
                let who = self.world.owners.iter().find(|info| info.client == client);
                let what = format!(
                    "client {} holds locks through {}, which was taken up at {}, and was not told of it",
                    who.map_or(0, |info| info.sender.0),
                    manager.ip,
                    crate::words::seconds(taken.at)
                );
                return self.fail(Invariant::I2, what);
            }
            self.untold.push_back(Untold { due: self.now.at.saturating_add(TOLD), ..untold });
        }
        Ok(())
    }

    /// The lock manager moves: copies under way of LOCKs that were refused may be new to whoever serves it then.
    fn wake_ghosts(&mut self, lm: u32) {
        self.doubt_all_rivals();
        let ghosts = std::mem::take(&mut self.world.managers[lm as usize].ghosts);
        let now = self.now.at;
        for ghost in ghosts.iter().filter(|ghost| ghost.until > now) {
            self.settle(*ghost);
        }
        self.world.managers[lm as usize].ghosts = ghosts;
    }

    /// A client stops, or boots: it knows of no lock. The service does not know that yet.
    pub(crate) fn stopped(&mut self, client: ClientId, alive: bool) {
        let id = self.world.client(client);
        let open = std::mem::take(&mut self.world.clients[id as usize].open);
        for call in open {
            if let Some(call) = self.calls.get(&call).copied().filter(|call| call.stage == Stage::Open) {
                self.give_up(&call);
            }
        }
        let known = &mut self.world.clients[id as usize];
        known.died = self.now.seq;
        known.alive = alive;
        self.heard.retain(|(client, _), _| *client != id);
        self.settle_waits(id);
    }

    /// What waits may be granted for all that anybody will ever hear.
    fn settle_waits(&mut self, client: u32) {
        let world = &self.world;
        let waiting: Vec<(u32, u32)> = self
            .owns
            .iter()
            .filter(|((_, owner), own)| world.info(*owner).client == client && !own.waits.is_empty())
            .map(|(key, _)| *key)
            .collect();
        for (file, owner) in waiting {
            let waits = self.owns.get(&(file, owner)).map(|own| own.waits.clone()).unwrap_or_default();
            for wait in waits {
                let last = Moment { seq: self.now.seq, at: wait.last_copy.max(self.now.at) };
                for (_, segment) in self.files[file as usize].map.all_within(wait.bytes) {
                    let hold = segment.hold_or_new(owner);
                    settle(hold, wait.mode, last, wait.state);
                    hold.may[wait.mode as usize].queued = true;
                }
                self.drop_wait(file, owner, wait);
            }
        }
    }

    /// SM_NOTIFY was answered: what the client took under another, known state is freed.
    pub(crate) fn rebooted(&mut self, call: &Call, state: u32) {
        let crate::history::Request::Notify { client, .. } = call.request else { return };
        let peer = self.world.peer(client, client, call.lm);
        self.free_states(peer, state, call.first);
    }

    pub(crate) fn free_states(&mut self, peer: u32, state: u32, first: Moment) {
        self.free(peer, first, |of| of != 0 && of != state);
    }

    /// What calls gave to a client surely before `first`, under states that `which` names, is gone.
    fn free(&mut self, peer: u32, first: Moment, which: impl Fn(u32) -> bool) {
        let now = self.now.seq;
        let files: Vec<u32> = self.world.peers[peer as usize].files.keys().copied().collect();
        for file in files {
            for (_, segment) in self.files[file as usize].map.every() {
                for hold in &mut segment.holds {
                    if self.world.owners[hold.owner as usize].peer == peer && which(hold.state) {
                        for mode in Mode::ALL {
                            let may = hold.may[mode as usize];
                            if may.until == STILL && may.older(first) && may.at_work < first.at {
                                hold.end(mode, now);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The server's state is odd while it is up, or the client takes the notice for one of its end. And it is about the server that the
    /// client knows, or it reclaims nothing.
    pub(crate) fn noticed(
        &mut self,
        client: ClientId,
        lm: std::net::IpAddr,
        state: u32,
        named: bool,
    ) -> Verdict {
        let (id, manager) = (self.world.client(client), self.world.manager(lm));
        // A client that has heard of this state already takes no notice of it.
        if self.heard.insert((id, manager), state) != Some(state) {
            self.untold.retain(|untold| untold.client != id || untold.lm != manager);
        }
        if !named {
            let what = format!(
                "client {} was sent SM_NOTIFY from {lm} about a server of another name: it takes that for somebody else's restart, and \
                 reclaims nothing",
                client.0
            );
            return self.fail(Invariant::I2, what);
        }
        if state.is_multiple_of(2) {
            let what = format!(
                "client {} was sent SM_NOTIFY from {lm} with the state {state}, which is even",
                client.0
            );
            return self.fail(Invariant::I7, what);
        }
        Ok(())
    }
}
