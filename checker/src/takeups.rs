//! One lock manager's moves from node to node, and what they may have ended. Knows times and commands; must never look at locks.
//!
//! Two questions are asked. *Lost*: may a lock that was taken before a move have expired by now? The earliest end of its window decides:
//! no window ends before the time that was told, counted from the telling, unless `end_grace` was told; a window cannot end for want
//! of unreclaimed locks while one is unreclaimed. *Expired*: must it have expired? The latest end decides: the time that was told,
//! counted from the answer to `start_grace`, from the arrival of the address or from the end of a pause of the node, whichever came last.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::history::{Bytes, Micros, NodeId, Opened};
use crate::map::{Mode, Moment};

/// A take-over that opened a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Take {
    pub(crate) node: NodeId,
    /// Nothing of it happened before.
    pub(crate) told: Moment,
    /// It was done by then.
    pub(crate) came: Moment,
    pub(crate) window: Micros,
    pub(crate) full: bool,
    /// The window cannot end before.
    earliest: Micros,
    /// Its time does not run yet: the address is not there.
    waits_for_address: bool,
    /// The node is gone, or has released the address: no timer runs.
    suspended: bool,
    /// `end_grace` succeeded.
    ended: Option<Micros>,
}

/// A `start_grace` that nobody knows the result of.
#[derive(Clone, Copy, Debug)]
struct Pending {
    id: u64,
    node: NodeId,
    told: Moment,
    window: Micros,
}

/// A LOCK of which a copy may still arrive, and that the record knows nothing of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ghost {
    pub(crate) owner: u32,
    pub(crate) file: u32,
    pub(crate) bytes: Bytes,
    pub(crate) mode: Mode,
    pub(crate) block: bool,
    pub(crate) state: u32,
    pub(crate) until: Micros,
}

/// One lock manager.
#[derive(Debug)]
pub(crate) struct Manager {
    pub(crate) ip: IpAddr,
    /// What was taken up to this event, and not reclaimed since, may be lost.
    pub(crate) lost_before: u64,
    /// The last event that may have changed who serves it.
    pub(crate) changed: Moment,
    /// A full window was opened at some time.
    pub(crate) had_full: bool,
    pub(crate) ghosts: VecDeque<Ghost>,
    /// Windows whose earliest end is to come.
    takes: Vec<Take>,
    /// The last window, if nothing came after it.
    last: Option<Take>,
    pending: Vec<Pending>,
    served_by: Option<NodeId>,
    unserved: Option<Micros>,
    routed: Option<(NodeId, Micros)>,
    /// The nodes that have the address, or had it: until when.
    here: Vec<(NodeId, Option<Micros>)>,
    /// The last time at which that changed.
    rerouted: Micros,
    /// The node that serves it was the only one that was told to take it up, and did, and its disk has not failed since.
    certain: bool,
    /// Two were told at the same time: nobody knows who has it.
    mixed: bool,
    /// It was given up in order, and nobody has been told to take it up since.
    clean: bool,
    /// Up to this moment one that nobody has heard of may have taken it up with a window: a daemon that has started and was superseded before
    /// it said so, or one whose `start_grace` failed. It leaves all locks to be reclaimed.
    unheard: Option<Moment>,
    /// What waited up to this event may wait no longer.
    pub(crate) waits_lost: u64,
    /// The last time at which a full window, of a take-over that another has followed, may have been open.
    full_over: Option<Micros>,
}

impl Manager {
    pub(crate) fn new(ip: IpAddr) -> Self {
        Self {
            ip,
            lost_before: 0,
            changed: Moment::default(),
            had_full: false,
            ghosts: VecDeque::new(),
            takes: Vec::new(),
            last: None,
            pending: Vec::new(),
            served_by: None,
            unserved: None,
            routed: None,
            here: Vec::new(),
            rerouted: 0,
            certain: false,
            mixed: false,
            clean: false,
            unheard: None,
            waits_lost: 0,
            full_over: None,
        }
    }

    /// `start_grace` is told.
    pub(crate) fn told(&mut self, id: u64, node: NodeId, window: Micros, now: Moment) {
        self.changed = now;
        self.clean &= self.pending.is_empty();
        self.mixed = !self.pending.is_empty();
        self.certain &= self.served_by == Some(node);
        self.pending.push(Pending { id, node, told: now, window });
    }

    /// It opened a window.
    pub(crate) fn opened(&mut self, id: u64, full: bool, now: Moment) {
        let Some(at) = self.pending.iter().position(|p| p.id == id) else { return };
        let p = self.pending.remove(at);
        self.clean = false;
        // The time of the window runs from the first notice, which leaves from the address.
        let away = !self.was_here_since(p.node, p.told.at);
        let earliest = if away { Micros::MAX } else { p.told.at.saturating_add(p.window) };
        self.open(p.node, p.told, p.window, earliest, full, now);
        self.takes.iter_mut().for_each(|take| take.waits_for_address = away);
    }

    /// It opened nothing.
    pub(crate) fn kept(&mut self, id: u64, how: Kept, now: Moment) {
        let Some(at) = self.pending.iter().position(|p| p.id == id) else { return };
        let p = self.pending.remove(at);
        self.changed = now;
        if how != Kept::Unchanged && !(matches!(how, Kept::Adopted(_)) && self.clean) {
            self.waits_lost = now.seq;
        }
        self.clean = false;
        match how {
            Kept::Unchanged => {}
            Kept::Longer(full) => self.end_elsewhen(&p, full, now),
            Kept::Adopted(window) => {
                let earliest = p.told.at.saturating_add(p.window);
                self.go_on(p.node, (window, p.told), p.window, earliest, now);
            }
            Kept::Failed => {
                self.certain = false;
                self.unheard = Some(now);
                self.lose_sight(now);
            }
        }
    }

    /// A daemon has taken it up by itself, with a window in which everything waits or not, or with the locks as they stood. When exactly is
    /// unknown: not before `down`, the last time that node went down.
    pub(crate) fn resumed(
        &mut self,
        node: NodeId,
        (opened, window): (Opened, Micros),
        down: Moment,
        slack: Micros,
        now: Moment,
    ) {
        self.mixed &= !self.pending.is_empty();
        let earliest = now.at.saturating_add(window).saturating_sub(slack);
        match opened {
            Opened::Window => self.open(node, down, window, earliest, false, now),
            Opened::Full => self.open(node, down, window, earliest, true, now),
            Opened::Unchanged | Opened::Longer { .. } | Opened::Adopted { .. } => {
                self.changed = now;
                self.waits_lost = now.seq;
                let rest = matches!(opened, Opened::Adopted { window: true });
                self.go_on(node, (rest, down), window, earliest, now);
            }
        }
    }

    /// It had the address at some time from `from` on.
    fn was_here_since(&self, node: NodeId, from: Micros) -> bool {
        self.here.iter().any(|(at, until)| *at == node && until.is_none_or(|until| until >= from))
    }

    /// It was served by one node all the time from `from` on, which alone had the address.
    pub(crate) fn served_since(&self, from: Micros) -> bool {
        let holders = self.here.iter().filter(|(_, until)| until.is_none()).map(|(node, _)| *node);
        self.certain
            && self.pending.is_empty()
            && self.unserved.is_none()
            && self.changed.at < from
            && self.rerouted < from
            && holders.eq(self.served_by)
    }

    fn open(
        &mut self,
        node: NodeId,
        told: Moment,
        window: Micros,
        earliest: Micros,
        full: bool,
        now: Moment,
    ) {
        // A window that had not ended when this one opened never ends: what it left unreclaimed is for this one.
        self.takes.clear();
        self.unheard = None;
        self.forget_last(now);
        let waits_for_address = false;
        let take = Take {
            node,
            told,
            came: now,
            window,
            full,
            earliest,
            waits_for_address,
            suspended: false,
            ended: None,
        };
        self.takes.push(take);
        self.last = Some(take);
        self.had_full |= full;
        self.served_by = Some(node);
        self.certain = self.pending.is_empty() && !self.mixed;
        self.waits_lost = now.seq;
        self.unserved = None;
        self.changed = now;
    }

    /// The window ends this long after the command, sooner or later than it would have.
    fn end_elsewhen(&mut self, p: &Pending, full: bool, now: Moment) {
        for take in self.takes.iter_mut().chain(&mut self.last).filter(|take| take.node == p.node) {
            take.earliest = take.earliest.min(p.told.at.saturating_add(p.window));
            take.window = take.window.max(now.at.saturating_sub(take.came.at).saturating_add(p.window));
            take.full |= full;
        }
        self.had_full |= full;
        if full && self.last.is_none() {
            // How the window went on was not known any more: now it is, but for what it has let expire before. It is no shorter than it was.
            let known = self.takes.iter().filter(|take| take.node == p.node);
            let left =
                known.map(|take| take.came.at.saturating_add(take.window).saturating_sub(now.at)).max();
            self.last = Some(Take {
                node: p.node,
                told: Moment::default(),
                came: now,
                window: p.window.max(left.unwrap_or(0)),
                full,
                earliest: Micros::MAX,
                waits_for_address: false,
                suspended: false,
                ended: None,
            });
        }
    }

    /// All that is held stays, and what was still to be reclaimed, if anything, has until `earliest` at least.
    fn go_on(
        &mut self,
        node: NodeId,
        (rest, told): (bool, Moment),
        window: Micros,
        earliest: Micros,
        now: Moment,
    ) {
        for take in &mut self.takes {
            take.earliest = take.earliest.min(earliest);
            (take.node, take.suspended, take.waits_for_address) = (node, false, false);
        }
        if let Some(came) = self.unheard.take().filter(|_| rest) {
            let take = Take {
                node,
                told,
                came,
                window,
                full: false,
                earliest,
                waits_for_address: false,
                suspended: false,
                ended: None,
            };
            self.takes.push(take);
        }
        // Whether and until when a window goes on is not told: nothing surely expires.
        self.lose_sight(now);
        self.served_by = Some(node);
        self.certain = self.pending.is_empty() && !self.mixed;
        self.unserved = None;
    }

    /// `unlock_ip` is told: from here on it may be released, and then no window ends. Not known to be released before the answer.
    pub(crate) fn releasing(&mut self, node: NodeId, now: Moment) {
        if self.is_elsewhere(node) {
            return;
        }
        self.forget_last(now);
        self.changed = now;
        self.unserved = Some(now.at);
        self.clean = false;
    }

    /// It is released.
    pub(crate) fn released(&mut self, node: NodeId, now: Moment) {
        if self.is_elsewhere(node) {
            return;
        }
        self.changed = now;
        self.clean = self.certain && self.pending.is_empty() && self.served_by == Some(node);
        for take in self.takes.iter_mut().filter(|take| take.node == node) {
            take.suspended = true;
        }
    }

    /// It is served by another node, which has superseded this one: what is told here changes nothing there.
    fn is_elsewhere(&self, node: NodeId) -> bool {
        self.served_by.is_some_and(|by| by != node) && self.pending.iter().all(|p| p.node != node)
    }

    /// `end_grace` is told: from here on the window may be over.
    pub(crate) fn ending(&mut self, now: Moment) {
        for take in &mut self.takes {
            take.earliest = take.earliest.min(now.at);
        }
        for pending in &mut self.pending {
            pending.window = now.at.saturating_sub(pending.told.at).min(pending.window);
        }
    }

    /// `end_grace` succeeded there.
    pub(crate) fn ended(&mut self, node: NodeId, now: Moment) {
        if let Some(last) = self.last.as_mut().filter(|last| last.node == node) {
            last.ended = Some(now.at);
        }
    }

    /// A node's daemon is gone.
    pub(crate) fn down(&mut self, node: NodeId, now: Moment) {
        if !self.clean {
            self.waits_lost = now.seq;
        }
        if self.pending.iter().any(|p| p.node == node) {
            (self.clean, self.certain, self.waits_lost) = (false, false, now.seq);
            self.changed = now;
            self.full_over = Some(now.at);
            self.pending.retain(|p| p.node != node);
        }
        for take in self.takes.iter_mut().filter(|take| take.node == node) {
            take.suspended = true;
        }
        if !self.certain || self.served_by == Some(node) {
            // Once it starts again.
            self.unheard = Some(now);
        }
        if self.served_by.is_none_or(|by| by == node) {
            self.changed = now;
            self.forget_last(now);
            self.unserved = Some(now.at);
        }
    }

    /// The disk of its record fails an operation: whoever serves it may fall silent, and then no window ends and nobody is told anything.
    pub(crate) fn disk_failed(&mut self, now: Moment) {
        self.certain = false;
        self.waits_lost = now.seq;
        self.lose_sight(now);
    }

    pub(crate) fn route(&mut self, node: NodeId, here: bool, now: Moment) {
        self.here.retain(|(at, _)| *at != node);
        self.here.push((node, (!here).then_some(now.at)));
        self.rerouted = now.at;
        let waiting = |take: &&mut Take| here && take.node == node && take.waits_for_address;
        for take in self.takes.iter_mut().filter(waiting) {
            take.waits_for_address = false;
            // A clock may be a little fast.
            let window = take.window - take.window / 500;
            take.earliest = take.earliest.min(now.at.saturating_add(window));
        }
        if here {
            self.routed = Some((node, now.at));
        } else if self.routed.is_some_and(|(at, _)| at == node) {
            self.routed = None;
        }
    }

    /// Notes what may be lost by now.
    pub(crate) fn advance(&mut self, hold: Micros, now: Moment) {
        if !self.takes.is_empty() {
            for take in self.takes.iter().filter(|take| !take.suspended && take.earliest <= now.at) {
                self.lost_before = self.lost_before.max(take.came.seq);
            }
            self.takes.retain(|take| take.suspended || take.earliest > now.at);
        }
        if self.pending.iter().any(|p| p.told.at.saturating_add(p.window) <= now.at) {
            self.lost_before = self.lost_before.max(now.seq);
        }
        // Nobody has taken it up for the hold time: its locks may be forgotten.
        if self.unserved.is_some_and(|since| since.saturating_add(hold) <= now.at) {
            self.unserved = None;
            self.lost_before = self.lost_before.max(now.seq);
        }
    }

    /// When [`Self::advance`] has something to do next.
    pub(crate) fn next(&self, hold: Micros) -> Micros {
        let takes = self.takes.iter().filter(|take| !take.suspended).map(|take| take.earliest);
        let pending = self.pending.iter().map(|p| p.told.at.saturating_add(p.window));
        let unserved = self.unserved.iter().map(|since| since.saturating_add(hold));
        takes.chain(pending).chain(unserved).min().unwrap_or(Micros::MAX)
    }

    /// A full window may have been open at some time from `from` on.
    pub(crate) fn full_since(&self, from: Micros, nodes: &Nodes, slack: Micros) -> bool {
        !self.pending.is_empty()
            || self.full_over.is_some_and(|over| over >= from)
            || self.last.is_some_and(|last| last.full && self.latest(&last, nodes, slack) >= from)
    }

    /// A window may be open.
    pub(crate) fn in_window(&self, now: Micros) -> bool {
        !self.pending.is_empty() || self.takes.iter().any(|take| take.suspended || take.earliest > now)
    }

    /// A full window is or was ever possible.
    pub(crate) fn had_any_doubt(&self) -> bool {
        self.had_full || !self.pending.is_empty() || self.full_over.is_some()
    }

    /// A lock taken before that event and not reclaimed since is not yet reclaimed in a window that may still be open.
    pub(crate) fn unreclaimed_before(&self) -> u64 {
        let takes = self.takes.iter().map(|take| take.came.seq).max().unwrap_or(0);
        // Where nobody serves, all locks are recorded and unreclaimed.
        if self.pending.is_empty() && self.unserved.is_none() { takes } else { u64::MAX }
    }

    /// A lock taken before that event and not reclaimed since is one of a record that may be incomplete.
    pub(crate) fn unproven_before(&self) -> u64 {
        let takes = self.takes.iter().filter(|take| take.full).map(|take| take.came.seq).max().unwrap_or(0);
        if self.pending.is_empty() { takes } else { u64::MAX }
    }

    /// What was taken surely before this, and surely not since, has surely expired before the time `from`.
    pub(crate) fn expired_before(&self, from: Micros, nodes: &Nodes, slack: Micros) -> Option<Moment> {
        let last = self.last.filter(|_| self.pending.is_empty())?;
        (self.latest(&last, nodes, slack) < from).then_some(last.told)
    }

    /// Both are served by one node, and by no other; of those that never moved nothing is said.
    pub(crate) fn is_surely_with(&self, other: &Self) -> bool {
        let known = |one: &Self| one.certain || one.served_by.is_none();
        self.ip == other.ip || (known(self) && known(other) && self.served_by == other.served_by)
    }

    /// The event of the last take-over or crash before now.
    pub(crate) fn moved_since(&self, seq: u64) -> bool {
        self.changed.seq > seq || !self.pending.is_empty()
    }

    /// A request that waited at that event may wait no longer. Who adopts what was given up in order adopts those who wait too.
    pub(crate) fn may_have_dropped(&self, seq: u64) -> bool {
        self.waits_lost > seq || !self.pending.is_empty() || self.unserved.is_some()
    }

    fn latest(&self, take: &Take, nodes: &Nodes, slack: Micros) -> Micros {
        let Some((_, since)) = self.routed.filter(|(node, _)| *node == take.node) else { return Micros::MAX };
        let Some(thawed) = nodes.awake_since(take.node) else { return Micros::MAX };
        let start = take.came.at.max(since).max(thawed);
        let deadline = start.saturating_add(take.window);
        let end = match take.ended {
            Some(ended) if !take.full || ended < deadline => deadline.min(ended.max(thawed)),
            _ => deadline,
        };
        end.saturating_add(slack)
    }

    /// The last window is not the last one any more.
    fn forget_last(&mut self, now: Moment) {
        self.full_over = self.full_over.map(|over| over.min(now.at));
        if self.last.take().is_some_and(|last| last.full) {
            self.full_over = Some(now.at);
        }
    }

    /// Nobody knows how the last window goes on.
    fn lose_sight(&mut self, now: Moment) {
        let full =
            self.last.is_some_and(|last| last.full) || self.full_over.is_some_and(|over| over > now.at);
        self.forget_last(now);
        if full {
            self.full_over = Some(Micros::MAX);
        }
    }
}

/// How a `start_grace` left things alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It was taken up there already.
    Unchanged,
    /// The same, but for the end of its window, and whether that is full.
    Longer(bool),
    /// The locks stand as they stood. If so, some were left to be reclaimed, and have a window for it.
    Adopted(bool),
    /// It was refused, but may have raised the epoch: nobody may be serving now.
    Failed,
}

/// What is known of the nodes.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    known: Vec<(NodeId, Node)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    down: Moment,
    frozen: bool,
    thawed: Micros,
}

impl Nodes {
    fn node(&mut self, id: NodeId) -> &mut Node {
        let at = match self.known.iter().position(|(known, _)| *known == id) {
            Some(at) => at,
            None => {
                self.known.push((id, Node::default()));
                self.known.len() - 1
            }
        };
        &mut self.known[at].1
    }

    pub(crate) fn down(&mut self, id: NodeId, now: Moment) {
        let node = self.node(id);
        node.down = now;
        node.frozen = false;
    }

    pub(crate) fn freeze(&mut self, id: NodeId, frozen: bool, now: Moment) {
        let node = self.node(id);
        node.frozen = frozen;
        node.thawed = now.at;
    }

    /// When it went down the last time.
    pub(crate) fn last_down(&self, id: NodeId) -> Moment {
        self.known.iter().find(|(known, _)| *known == id).map(|(_, node)| node.down).unwrap_or_default()
    }

    /// No node was paused at any time from `from` on.
    pub(crate) fn all_awake_since(&self, from: Micros) -> bool {
        self.known.iter().all(|(_, node)| !node.frozen && (node.thawed == 0 || node.thawed < from))
    }

    /// Since when it has not been paused; `None`: it is.
    fn awake_since(&self, id: NodeId) -> Option<Micros> {
        match self.known.iter().find(|(known, _)| *known == id) {
            Some((_, node)) if node.frozen => None,
            Some((_, node)) => Some(node.thawed),
            None => Some(0),
        }
    }
}
