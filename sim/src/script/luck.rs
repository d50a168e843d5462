//! Bad luck: machines that are killed or stand still, ways that are cut, disks that fail, fill up, are slow or lose bits, clocks that jump,
//! clients that reboot. All by chance, until all is to be calm.
//!
//! Must never do anything to the service but what befalls its machines.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lockferry::store::journal::faults::Fault;
use lockferry_checker::history::Micros;

use super::Scripts;
use crate::cluster;
use crate::random::Random;
use crate::settings::{MS, SECOND};
use crate::sim::{End, Sim};

/// Bad luck.
pub(super) struct Luck {
    pub(super) sim: Arc<Sim>,
    pub(super) scripts: Arc<Scripts>,
    pub(super) random: Random,
}

impl Luck {
    pub(super) async fn run(mut self) {
        loop {
            let every = self.sim.plan.trouble_every;
            let span = every / 2 + self.random.below(every);
            self.sim.sleep(span).await;
            if self.scripts.calm.load(Ordering::Relaxed) {
                self.mend();
                return;
            }
            self.strike().await;
        }
    }

    /// The disk of an address takes its time, and often the machine that has the address goes down meanwhile.
    pub(super) async fn slow_disks(mut self) {
        while !self.scripts.calm.load(Ordering::Relaxed) {
            let span = SECOND + self.random.below(20 * SECOND);
            self.sim.sleep(span).await;
            let groups = &self.scripts.site.groups;
            let addresses: Vec<IpAddr> = groups.iter().flat_map(|group| &group.addresses).copied().collect();
            let Some(ip) = self.random.pick(&addresses).copied() else { return };
            let slow = 200 * MS + self.random.below(6 * SECOND);
            self.sim.slow_disk(ip, slow);
            let (befalls, before) = (self.random.below(4), self.random.below(slow));
            if befalls == 0 || !self.sim.settings.trouble.crashes {
                continue;
            }
            if let Some(disk) = self.sim.disks.get(&cluster::journal_dir(ip)).filter(|_| befalls == 3) {
                // Before it loses its power, the disk says that it has lost something already.
                disk.fail_next_sync(Fault::Io);
            }
            if self.sim.settings.trouble.clients && self.random.chance(500) {
                // What its notice frees is not written yet when the machine goes down.
                let client = self.random.below(self.sim.client_count() as u64) as usize;
                self.reboot(client, 100 * MS).await;
            }
            self.sim.sleep(before).await;
            if let Some(machine) = self.sim.holders(ip).last().copied() {
                match befalls {
                    1 => self.sim.kill(machine),
                    _ => self.sim.power_cut(machine),
                }
            }
        }
    }

    fn mend(&self) {
        self.sim.mend();
        for disk in self.sim.disks.values() {
            disk.limit_space(None);
            disk.fail_no_more();
        }
        (0..self.sim.machine_count()).for_each(|machine| self.sim.thaw(machine));
    }

    async fn strike(&mut self) {
        let trouble = self.sim.settings.trouble;
        let machine = self.random.below(self.sim.machine_count() as u64) as usize;
        let span = self.random.below(70 * SECOND);
        let client = self.random.below(self.sim.client_count() as u64) as usize;
        match self.random.below(16) {
            0 if trouble.crashes => self.sim.kill(machine),
            1 if trouble.crashes => self.sim.power_cut(machine),
            2..=4 if trouble.crashes || trouble.freezes => self.light_fuse(machine),
            5 if trouble.freezes => self.sim.freeze(machine, span),
            6..=7 if trouble.partitions => self.cut(machine).await,
            8 if trouble.disks => self.fail_disk(),
            9 if trouble.disks => self.fill_disk().await,
            10 if trouble.damage => self.damage(),
            11 if trouble.clocks => self.jump(machine),
            12 if trouble.clients => self.reboot(client, span).await,
            13 if trouble.clients => {
                let until = self.sim.now() + span;
                self.sim.with_client(client, |c, _, _| c.stall(until));
            }
            14 if trouble.clients && self.random.chance(self.sim.plan.deaths) => {
                self.sim.with_client(client, |c, now, out| c.die(now, out));
            }
            _ => {}
        }
    }

    fn light_fuse(&mut self, machine: usize) {
        let operations = self.random.below(120) as u32;
        self.sim.machine(machine, |m| {
            if let Some(life) = &m.life {
                life.light_fuse(operations);
            }
        });
    }

    /// Cuts the ways between a machine and some clients, one or both.
    async fn cut(&mut self, machine: usize) {
        let (ways, share) = (self.random.below(3), 300 + self.random.below(701) as u32);
        for client in 0..self.sim.client_count() {
            if !self.random.chance(share) {
                continue;
            }
            let (server, client) = (End::Server(machine), End::Client(client));
            if ways != 0 {
                self.sim.set_cut(server, client, true);
            }
            if ways != 1 {
                self.sim.set_cut(client, server, true);
            }
        }
        let sim = self.sim.clone();
        let span = self.random.below(50 * SECOND);
        self.sim.scripts.spawn(Box::pin(async move {
            sim.sleep(span).await;
            sim.mend();
        }));
    }

    fn fail_disk(&mut self) {
        let disks: Vec<_> = self.sim.disks.values().collect();
        let Some(disk) = self.random.pick(&disks) else { return };
        let fault = match self.random.below(3) {
            0 => Fault::NoSpace,
            1 => Fault::NoFiles,
            _ => Fault::Io,
        };
        disk.fail_at(disk.ops() + self.random.below(60), fault);
    }

    async fn fill_disk(&mut self) {
        let disks: Vec<PathBuf> = self.sim.disks.keys().cloned().collect();
        let Some(dir) = self.random.pick(&disks).cloned() else { return };
        let room = self.random.below(100_000);
        let Some(disk) = self.sim.disks.get(&dir) else { return };
        disk.limit_space(Some(disk.used() + room));
        let (sim, span) = (self.sim.clone(), self.random.below(30 * SECOND));
        self.sim.scripts.spawn(Box::pin(async move {
            sim.sleep(span).await;
            if let Some(disk) = sim.disks.get(&dir) {
                disk.limit_space(None);
            }
        }));
    }

    /// Flips a bit of a record while nobody has it.
    fn damage(&mut self) {
        let groups = &self.scripts.site.groups;
        let Some(group) = self.random.pick(groups) else { return };
        let idle = group.addresses.len() == 1
            && group.addresses.iter().all(|ip| !cluster::is_loaded_anywhere(&self.sim, *ip));
        if !idle {
            return;
        }
        for ip in &group.addresses {
            let Some(disk) = self.sim.disks.get(&cluster::journal_dir(*ip)) else { continue };
            let files: Vec<(PathBuf, usize)> =
                disk.contents().into_iter().map(|(path, bytes)| (path, bytes.len())).collect();
            if let Some((path, len)) = self.random.pick(&files) {
                disk.flip(path, self.random.below(*len as u64 * 8));
            }
        }
    }

    fn jump(&mut self, machine: usize) {
        let by = self.random.below(20_000) as i64 - 10_000;
        self.sim.machine(machine, |m| m.day_off_s += by);
    }

    async fn reboot(&mut self, client: usize, span: Micros) {
        self.sim.with_client(client, |c, now, out| c.die(now, out));
        let sim = self.sim.clone();
        self.sim.scripts.spawn(Box::pin(async move {
            sim.sleep(span / 3).await;
            sim.with_client(client, |c, now, out| c.boot(now, out));
        }));
    }
}
