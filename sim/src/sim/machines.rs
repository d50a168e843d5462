//! The machines that serve: power, standing still, clocks, and the daemon in each.
//!
//! Must never drop what is due on a machine that merely stands still.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use lockferry_checker::history::{Event, Micros, NodeId};
use tokio::sync::watch;

use crate::executor::Executor;
use crate::life::Life;
use crate::random::Random;
use crate::settings::{SECOND, Settings};

use super::{Sim, What, lock};

/// Unix time at the beginning of a run.
const EPOCH: Duration = Duration::from_secs(1_790_000_000);

/// A machine that serves.
pub struct Machine {
    /// Its daemon, if it runs.
    pub life: Option<Arc<Life>>,
    /// It has power.
    pub powered: bool,
    /// It stands still until then.
    pub frozen: Option<Micros>,
    /// What is due on it meanwhile.
    pub(super) held: Vec<What>,
    /// A file operation of its daemon is under way, further out.
    pub(super) busy: bool,
    /// A blocking job of its daemon is under way, further out.
    pub(super) at_job: bool,
    /// Its clocks: how far ahead, how fast (parts per million), how far the day is off.
    ahead: Micros,
    ppm: u64,
    /// How far its clock of the day is off, in seconds.
    pub day_off_s: i64,
    /// The addresses that it has.
    pub addresses: watch::Sender<Arc<BTreeSet<IpAddr>>>,
}

impl Machine {
    pub(super) fn new(settings: &Settings, random: &mut Random) -> Self {
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

impl Sim {
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
}
