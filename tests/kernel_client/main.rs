//! Real Linux clients, each in a virtual machine, against the server: mount, lock, block, crash, reboot.
//!
//! The guests are booted once and the scenarios run one after another; each cleans up behind itself, and that nothing
//! is left on the server is part of each. `LOCKFERRY_TEST_ONLY=part-of-a-name` picks some. See docs/testing.md.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a failure must stop the test, loudly"
)]

mod blocking;
mod crash;
mod files;
mod locks;
mod many;
#[path = "../support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use support::agent::{Agent, SOON};
use support::net::Net;
use support::server::{Knfsd, Lockferry, Server};
use support::vm::{Vm, VmConfig, boot_all};
use support::wait_for;

/// No scenario: mounts, then waits for a person to be done.
const HOLD: &str = "hold_for_a_person";

/// Where both clients mount the export.
const MOUNT: &str = "/mnt/nfs";

/// Where a scenario mounts it some more times: this and a number.
const EXTRA_MOUNTS: &str = "/mnt/extra";

/// The longest a grant by callback may take. A client that merely polls asks again after 30 s, so a grant this early
/// cannot have come from a poll. The only limit on time here that means something; the rest keep hung tests from hanging.
const SOONER_THAN_A_POLL: Duration = Duration::from_secs(10);

/// How long to watch that nothing happens.
const A_WHILE: Duration = Duration::from_secs(2);

/// What every scenario gets.
struct World {
    net: Net,
    server: Box<dyn Server>,
    a: Vm,
    b: Vm,
    /// How many locks the big walks take.
    many: u64,
}

type Scenario = (&'static str, fn(&mut World));

/// In this order: the first two mount what the others use.
const SCENARIOS: &[Scenario] = &[
    ("mounts_as_version_3", files::mounts_as_version_3),
    ("a_mount_without_a_version_falls_back_from_4", files::a_mount_without_a_version_falls_back_from_4),
    ("the_export_is_listed_and_has_a_size", files::the_export_is_listed_and_has_a_size),
    ("files_and_directories_behave", files::files_and_directories_behave),
    ("a_directory_of_thousands_is_read_whole", files::a_directory_of_thousands_is_read_whole),
    ("fifty_megabytes_survive_the_round_trip", files::fifty_megabytes_survive_the_round_trip),
    ("an_ordinary_user_has_his_rights_and_no_more", files::an_ordinary_user_has_his_rights_and_no_more),
    ("ranges_conflict_between_clients", locks::ranges_conflict_between_clients),
    ("a_test_names_the_lock_in_the_way", locks::a_test_names_the_lock_in_the_way),
    ("an_unlock_in_the_middle_splits", locks::an_unlock_in_the_middle_splits),
    ("ranges_reach_past_four_gigabytes", locks::ranges_reach_past_four_gigabytes),
    ("flock_conflicts_between_clients", locks::flock_conflicts_between_clients),
    ("upgrade_and_downgrade", locks::upgrade_and_downgrade),
    ("close_exit_and_death_release", locks::close_exit_and_death_release),
    ("a_blocked_lock_is_granted_by_callback", blocking::a_blocked_lock_is_granted_by_callback),
    ("a_blocked_flock_is_granted_by_callback", blocking::a_blocked_flock_is_granted_by_callback),
    ("an_interrupted_wait_leaves_nothing", blocking::an_interrupted_wait_leaves_nothing),
    ("a_killed_waiter_leaves_nothing", blocking::a_killed_waiter_leaves_nothing),
    ("a_deadlock_across_clients_is_refused", blocking::a_deadlock_across_clients_is_refused),
    ("readers_are_granted_together", blocking::readers_are_granted_together),
    ("thousands_of_files_are_locked", many::thousands_of_files_are_locked),
    ("a_file_of_very_many_locks_is_walked", many::a_file_of_very_many_locks_is_walked),
    ("a_thousand_waiters_are_granted_in_turn", many::a_thousand_waiters_are_granted_in_turn),
    ("a_rebooted_clients_locks_go_when_it_says_so", crash::a_rebooted_clients_locks_go_when_it_says_so),
    ("locks_outlive_the_server", crash::locks_outlive_the_server),
];

#[test]
fn linux_clients_against_lockferry() {
    if let Some(why) = support::missing_for_vms() {
        return support::skip(&why);
    }
    let net = Net::new();
    let mut server = Lockferry::new(net.node("server", 1), &[]);
    server.start();
    run(World::boot(net, Box::new(server), 100_000));
}

/// Proves the scenarios and the harness, not lockferry.
#[test]
#[ignore = "the reference: run it when a scenario is in doubt"]
fn linux_clients_against_knfsd() {
    if let Some(why) = support::missing_for_vms() {
        return support::skip(&why);
    }
    let net = Net::new();
    let server = Knfsd::start(&net);
    run(World::boot(net, Box::new(server), 12_000));
}

impl World {
    fn boot(net: Net, server: Box<dyn Server>, many: u64) -> Self {
        let start = Instant::now();
        let mut a = Vm::new(&net, VmConfig { memory: 1024, ..VmConfig::client("client-a", 11) });
        let mut b = Vm::new(&net, VmConfig { memory: 1024, ..VmConfig::client("client-b", 12) });
        boot_all(&mut [&mut a, &mut b]);
        println!("two clients booted in {:.1} s", start.elapsed().as_secs_f64());
        Self { net, server, a, b, many }
    }

    fn a(&self) -> &Agent {
        self.a.agent()
    }

    fn b(&self) -> &Agent {
        self.b.agent()
    }

    /// A path on the mount.
    fn path(name: &str) -> String {
        format!("{MOUNT}/{name}")
    }

    /// Mounts the export in a guest, if it is not mounted already.
    fn mount(&self, agent: &Agent, options: &str) {
        self.mount_at(agent, MOUNT, options);
    }

    fn mount_at(&self, agent: &Agent, place: &str, options: &str) {
        let source = format!("{}:{}", self.server.address(), self.server.export());
        let options = if options.is_empty() { String::new() } else { format!("-o {options}") };
        agent.sh_within(
            &format!("mkdir -p {place}; mountpoint -q {place} || mount -t nfs {options} {source} {place}"),
            Duration::from_secs(180),
        );
    }

    /// Waits until the server holds exactly this many locks and requests.
    fn await_server(&self, locks: u64, waiters: u64) {
        wait_for(&format!("{locks} locks and {waiters} waiters on the server"), SOON, || {
            let found = (self.server.locks(), self.server.waiters());
            if found == (locks, waiters) {
                Ok(())
            } else {
                Err(format!("there are {} and {}", found.0, found.1))
            }
        });
    }

    /// Back to two mounted clients that hold nothing.
    fn clean(&mut self) {
        self.await_mounted();
        for agent in [self.a(), self.b()] {
            agent.kill_owners();
            agent.sh(&format!("for m in {EXTRA_MOUNTS}*; do ! mountpoint -q $m || umount $m; done"));
        }
        self.await_server(0, 0);
        // The server may squash root, who cannot remove what the ordinary user has made then.
        let _ = self.a().try_sh_as(files::USER, &[], &format!("rm -rf {MOUNT}/*"));
        self.a().sh_within(&format!("rm -rf {MOUNT}/*"), Duration::from_secs(300));
    }

    fn await_mounted(&mut self) {
        for vm in [&mut self.a, &mut self.b] {
            if vm.is_off() {
                vm.boot(true);
            }
        }
        self.mount(self.a(), "vers=3");
        self.mount(self.b(), "vers=3");
    }

    /// What a person needs to find out why.
    fn report(&self) {
        println!("--- server log, last lines\n{}", last_lines(&self.server.log(), 40));
        for vm in [&self.a, &self.b] {
            let log = if vm.is_off() { vm.console() } else { vm.agent().dmesg() };
            println!("--- {}, kernel log, last lines\n{}", vm.name(), last_lines(&log, 8));
        }
        if std::env::var("LOCKFERRY_TEST_HOLD").is_ok() {
            support::hold(&self.ways_in());
        }
    }

    /// How a person gets into each part.
    fn ways_in(&self) -> String {
        [self.server.way_in(), self.net.way_in(), self.a.way_in(), self.b.way_in()].join("\n")
    }
}

/// Runs the scenarios; a failed one is reported, and the rest still run.
fn run(mut world: World) {
    let only = std::env::var("LOCKFERRY_TEST_ONLY").unwrap_or_default();
    let mut failed = Vec::new();
    let hold = only == HOLD;
    for (number, (name, scenario)) in SCENARIOS.iter().enumerate() {
        // The mounts are always needed.
        if number >= 2 && !name.contains(&only) {
            continue;
        }
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| {
            scenario(&mut world);
            world.clean();
        }));
        let seconds = start.elapsed().as_secs_f64();
        println!("{} {name} ({seconds:.1} s)", if result.is_ok() { "pass" } else { "FAIL" });
        if result.is_err() {
            match world.server.known_fault(name) {
                Some(why) => println!("     known fault of this server: {why}"),
                None => failed.push(*name),
            }
            let recovered = catch_unwind(AssertUnwindSafe(|| {
                if failed.last() == Some(name) {
                    world.report();
                }
                world.clean();
            }));
            assert!(recovered.is_ok(), "cannot go on after {name}; failed: {failed:?}");
        }
    }
    if hold {
        support::hold(&world.ways_in());
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
