//! The network between clients and nodes: which node an address leads to, who cannot reach whom, and what befalls a message on its way.
//!
//! Must never lose or delay anything when it is told that the weather is fine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Mutex;

use lockferry_checker::history::Micros;
use lockferry_sim::random::Random;
use tokio::sync::watch;

/// What befalls datagrams, per mille; how late the late ones are at the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weather {
    pub(crate) loss: u32,
    pub(crate) doubled: u32,
    pub(crate) late: u32,
    pub(crate) latest: Micros,
}

/// The network.
pub(crate) struct Net {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

struct Inner {
    random: Random,
    weather: Weather,
    /// The nodes that say they have an address, the last that said so at the end.
    routes: BTreeMap<IpAddr, Vec<usize>>,
    /// Clients and nodes that do not reach each other.
    cut: BTreeSet<(usize, usize)>,
}

impl Net {
    pub(crate) fn new(random: Random) -> Self {
        let inner =
            Inner { random, weather: Weather::default(), routes: BTreeMap::new(), cut: BTreeSet::new() };
        Self { inner: Mutex::new(inner), changed: watch::Sender::new(0) }
    }

    /// Tells of each change of a way.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The node that a message to an address gets to.
    pub(crate) fn route(&self, lm: IpAddr) -> Option<usize> {
        let mut inner = self.inner.lock().unwrap();
        let all = inner.routes.get(&lm).cloned().unwrap_or_default();
        let stray = all.len() > 1 && inner.random.chance(150);
        if stray { inner.random.pick(&all).copied() } else { all.last().copied() }
    }

    /// Whether a node has an address.
    pub(crate) fn leads_to(&self, lm: IpAddr, node: usize) -> bool {
        self.inner.lock().unwrap().routes.get(&lm).is_some_and(|all| all.contains(&node))
    }

    /// A node says that it has an address. False: it did before.
    pub(crate) fn join(&self, lm: IpAddr, node: usize) -> bool {
        let new = {
            let mut inner = self.inner.lock().unwrap();
            let all = inner.routes.entry(lm).or_default();
            let before = all.len();
            all.retain(|n| *n != node);
            let new = all.len() == before;
            all.push(node);
            new
        };
        self.tell();
        new
    }

    /// It has it no longer. False: it had not before.
    pub(crate) fn leave(&self, lm: IpAddr, node: usize) -> bool {
        let was = {
            let mut inner = self.inner.lock().unwrap();
            let all = inner.routes.entry(lm).or_default();
            let before = all.len();
            all.retain(|n| *n != node);
            all.len() != before
        };
        self.tell();
        was
    }

    /// Cuts or mends the way between a client and a node.
    pub(crate) fn cut(&self, client: usize, node: usize, cut: bool) {
        {
            let mut inner = self.inner.lock().unwrap();
            if cut {
                inner.cut.insert((client, node))
            } else {
                inner.cut.remove(&(client, node))
            };
        }
        self.tell();
    }

    pub(crate) fn is_cut(&self, client: usize, node: usize) -> bool {
        self.inner.lock().unwrap().cut.contains(&(client, node))
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.inner.lock().unwrap().weather = weather;
    }

    /// A number, for whoever needs one on the way.
    pub(crate) fn below(&self, n: u64) -> u64 {
        self.inner.lock().unwrap().random.below(n)
    }

    /// How much later each copy of a datagram arrives: none, one or two.
    pub(crate) fn fate(&self) -> Vec<Micros> {
        let mut inner = self.inner.lock().unwrap();
        let Weather { loss, doubled, late, latest } = inner.weather;
        let random = &mut inner.random;
        if random.chance(loss) {
            return Vec::new();
        }
        let copies = if random.chance(doubled) { 2 } else { 1 };
        (0..copies).map(|_| if random.chance(late) { random.below(latest) } else { 0 }).collect()
    }

    fn tell(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}
