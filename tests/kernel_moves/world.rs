//! What every scenario gets: two clients, two nodes, and who has the address now.

use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::support;
use super::support::agent::{Agent, File, Kind, Owner, SOON};
use super::support::cluster::{Cluster, EXPORT, Steps, Which};
use super::support::net::Net;
use super::support::vm::{Vm, VmConfig, boot_all};
use super::support::wait_for;

/// No scenario: mounts, then waits for a person to be done.
const HOLD: &str = "hold_for_a_person";
/// The address that moves.
pub(crate) const FLOATING: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 100));
/// Another one, for IPv6.
pub(crate) const FLOATING6: &str = "fd77::100";
/// Where both clients mount the export.
pub(crate) const MOUNT: &str = "/mnt/nfs";
/// Where a scenario mounts something else: this and a number.
pub(crate) const EXTRA_MOUNTS: &str = "/mnt/extra";
/// A client that merely polls for a lock asks again after 30 s: what comes earlier came by callback.
pub(crate) const SOONER_THAN_A_POLL: Duration = Duration::from_secs(10);
/// How long to watch that nothing happens.
pub(crate) const A_WHILE: Duration = Duration::from_secs(2);
/// A take-over with reclaims, on a loaded machine that emulates its guests: a bound against hanging.
pub(crate) const TAKE_OVER: Duration = Duration::from_secs(180);
/// So many files are locked where a move has much to carry.
pub(crate) const MANY: u64 = 1_000;

pub(crate) type Scenario = (&'static str, fn(&mut World));

pub(crate) struct World {
    pub(crate) net: Net,
    pub(crate) cluster: Cluster,
    pub(crate) a: Vm,
    pub(crate) b: Vm,
    /// Who has the address, if anybody.
    pub(crate) at: Option<Which>,
}

/// Locks of client A on one file and on [`MANY`] others, as `hold` takes them.
pub(crate) struct Held {
    pub(crate) owner: Owner,
    pub(crate) file: File,
    pub(crate) files: u64,
}

impl World {
    pub(crate) fn boot(net: Net) -> Self {
        let start = Instant::now();
        let mut a = Vm::new(&net, VmConfig { memory: 512, ..VmConfig::client("client-a", 11) });
        let mut b = Vm::new(&net, VmConfig { memory: 512, ..VmConfig::client("client-b", 12) });
        boot_all(&mut [&mut a, &mut b]);
        println!("two clients booted in {:.1} s", start.elapsed().as_secs_f64());
        let floating = [FLOATING, FLOATING6.parse().unwrap()];
        let cluster =
            Cluster::with_disk(&net, "node", 1, &floating, "[log]\nlevel = \"info,lockferry::node=debug\"\n");
        Self { net, cluster, a, b, at: None }
    }

    pub(crate) fn a(&self) -> &Agent {
        self.a.agent()
    }

    pub(crate) fn b(&self) -> &Agent {
        self.b.agent()
    }

    /// A path on the mount.
    pub(crate) fn path(name: &str) -> String {
        format!("{MOUNT}/{name}")
    }

    /// The node that has the address.
    pub(crate) fn here(&self) -> Which {
        self.at.expect("somebody has the address")
    }

    /// What that node says of the address's lock manager.
    pub(crate) fn lm(&self) -> Value {
        self.cluster.lock_manager(self.here(), FLOATING)
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        let lm = self.lm();
        lm[name].as_u64().unwrap_or_else(|| panic!("no {name} in {lm}"))
    }

    /// Waits until exactly so many locks and requests are there, none of them still to be reclaimed.
    pub(crate) fn await_locks(&self, locks: u64, waiters: u64) {
        wait_for(&format!("{locks} locks and {waiters} waiters, all reclaimed"), TAKE_OVER, || {
            let lm = self.lm();
            let found = ["locks", "waiters", "reclaimable"].map(|n| lm[n].as_u64());
            if found == [Some(locks), Some(waiters), Some(0)] { Ok(()) } else { Err(lm.to_string()) }
        });
    }

    /// Waits until the window is over because nothing is left to be reclaimed; when that was.
    pub(crate) fn await_reclaimed(&self) -> SystemTime {
        wait_for("the end of the window", TAKE_OVER, || {
            let lm = self.lm();
            let over = lm["state"] == "active" && lm["reclaimable"] == 0;
            if over { Ok(SystemTime::now()) } else { Err(lm.to_string()) }
        })
    }

    /// The same of any address.
    pub(crate) fn await_reclaimed_of(&self, which: Which, ip: IpAddr) {
        wait_for("the end of the window", TAKE_OVER, || {
            let lm = self.cluster.lock_manager(which, ip);
            if lm["state"] == "active" && lm["locks"].as_u64() > Some(0) {
                Ok(())
            } else {
                Err(lm.to_string())
            }
        });
    }

    /// A node gives the address up, and nobody has it.
    pub(crate) fn release(&mut self, which: Which) -> Steps {
        self.at = None;
        self.cluster.release(which, FLOATING)
    }

    /// A planned move to the other node.
    pub(crate) fn move_planned(&mut self, options: &str) -> Steps {
        let from = self.here();
        self.release(from);
        self.take(from.other(), options)
    }

    /// The node with the address loses its power; the other takes over, and then the first is switched on again.
    pub(crate) fn move_by_power_cut(&mut self, options: &str) -> Steps {
        let from = self.cut_power();
        let steps = self.take(from.other(), options);
        self.switch_on(from);
        steps
    }

    /// The node with the address loses its power, and nobody has it; which it was.
    pub(crate) fn cut_power(&mut self) -> Which {
        let from = self.here();
        self.at = None;
        self.cluster.power_cut(from);
        from
    }

    pub(crate) fn take(&mut self, which: Which, options: &str) -> Steps {
        let steps = self.cluster.take(which, FLOATING, options);
        self.at = Some(which);
        steps
    }

    /// A node with power and lockferry on it.
    pub(crate) fn switch_on(&mut self, which: Which) {
        self.cluster.power_on(which);
        if !self.cluster.server(which).is_running() {
            self.cluster.server_mut(which).start();
        }
    }

    /// Client A locks ranges of one file, shared and exclusive, and the first byte of `files` others.
    pub(crate) fn hold(&self, name: &str, files: u64) -> Held {
        let owner = self.a().owner(name);
        let file = owner.open(&Self::path(name));
        owner.lock(file, Kind::Write, 0, 100);
        owner.lock(file, Kind::Read, 200, 100);
        owner.lock(file, Kind::Write, 1 << 33, 0);
        owner
            .lock_files(&Self::path(&format!("{name}-")), files)
            .wait(TAKE_OVER)
            .expect("locks on many files");
        Held { owner, file, files }
    }

    /// Checks from client B that all of it is still held, and only that.
    pub(crate) fn check_held(&self, name: &str, held: &Held) {
        let b = self.b().owner(&format!("checks-{name}"));
        let file = b.open(&Self::path(name));
        let holder = |kind, start, len| b.test(file, kind, start, len).map(|h| (h.kind, h.start, h.len));
        assert_eq!(holder(Kind::Read, 0, 200), Some((Kind::Write, 0, 100)));
        assert_eq!(holder(Kind::Write, 150, 100), Some((Kind::Read, 200, 100)));
        assert_eq!(holder(Kind::Read, 150, 200), None, "shared, and nothing else there");
        assert_eq!(holder(Kind::Read, (1 << 33) + 5, 1), Some((Kind::Write, 1 << 33, 0)));
        let free = b.free_files(&Self::path(&format!("{name}-")), held.files);
        assert!(free.is_empty(), "locks were lost on these of {} files: {free:?}", held.files);
        b.exit();
    }

    /// Neither client's kernel has lost a lock.
    pub(crate) fn check_nothing_lost(&self) {
        for agent in [self.a(), self.b()] {
            let log = agent.dmesg();
            assert!(!log.contains("failed to reclaim"), "a lock was lost:\n{log}");
        }
    }

    pub(crate) fn mount(&self, agent: &Agent) {
        mount(agent, &FLOATING.to_string(), MOUNT, "vers=3");
    }

    /// Nodes, address, mounts: as every scenario finds them. Nobody holds anything.
    fn clean(&mut self) {
        for vm in [&mut self.a, &mut self.b] {
            if vm.is_off() {
                vm.boot(true);
            }
            vm.plug(true);
        }
        self.cluster.allow_raw_packets(true);
        for which in [Which::First, Which::Second] {
            self.switch_on(which);
        }
        if self.at.is_none() {
            self.take(Which::First, "");
        }
        for agent in [self.a(), self.b()] {
            self.mount(agent);
            agent.kill_owners();
            agent.sh(&format!("for m in {EXTRA_MOUNTS}*; do ! mountpoint -q $m || umount $m; done"));
        }
        self.await_locks(0, 0);
        self.a().sh_within(&format!("rm -rf {MOUNT}/*"), TAKE_OVER);
    }

    /// After a failure nobody knows who has the disk: both nodes lose their power.
    fn reset(&mut self) {
        self.at = None;
        for which in [Which::First, Which::Second] {
            self.cluster.power_cut(which);
        }
    }

    /// What a person needs to find out why.
    fn report(&self) {
        println!("{}", self.cluster.report());
        for vm in [&self.a, &self.b] {
            let log = if vm.is_off() { vm.console() } else { vm.agent().dmesg() };
            let lines: Vec<_> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(8)..].join("\n");
            println!("--- {}, kernel log, last lines\n{last}", vm.name());
        }
        if std::env::var("LOCKFERRY_TEST_HOLD").is_ok() {
            support::hold(&self.ways_in());
        }
    }

    fn ways_in(&self) -> String {
        [self.cluster.ways_in(), self.net.way_in(), self.a.way_in(), self.b.way_in()].join("\n")
    }
}

/// Mounts the export, if it is not mounted there already.
pub(crate) fn mount(agent: &Agent, server: &str, place: &str, options: &str) {
    agent.sh_within(
        &format!(
            "mkdir -p {place}; mountpoint -q {place} || mount -t nfs -o {options} {server}:{EXPORT} {place}"
        ),
        TAKE_OVER,
    );
}

/// A span as it is printed.
pub(crate) fn ms(from: SystemTime, to: SystemTime) -> String {
    match to.duration_since(from) {
        Ok(span) => format!("{:.0} ms", span.as_secs_f64() * 1000.0),
        Err(early) => format!("-{:.0} ms", early.duration().as_secs_f64() * 1000.0),
    }
}

/// Runs the scenarios; a failed one is reported, and the rest still run.
pub(crate) fn run(mut world: World, scenarios: &[Scenario]) {
    let only = std::env::var("LOCKFERRY_TEST_ONLY").unwrap_or_default();
    world.clean();
    if only == HOLD {
        support::hold(&world.ways_in());
        return;
    }
    let mut failed = Vec::new();
    for (name, scenario) in scenarios.iter().filter(|(name, _)| name.contains(&only)) {
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| {
            scenario(&mut world);
            world.clean();
        }));
        let seconds = start.elapsed().as_secs_f64();
        println!("{} {name} ({seconds:.1} s)", if result.is_ok() { "pass" } else { "FAIL" });
        if result.is_err() {
            failed.push(*name);
            let recovered = catch_unwind(AssertUnwindSafe(|| {
                world.report();
                world.reset();
                world.clean();
            }));
            assert!(recovered.is_ok(), "cannot go on after {name}; failed: {failed:?}");
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// Waits for an answer that must come.
pub(crate) fn answered(what: &str, pending: &support::agent::Pending) -> SystemTime {
    let result = pending.wait(TAKE_OVER.max(SOON));
    assert!(result.is_ok(), "{what}: {result:?}");
    SystemTime::now()
}
