//! Real Linux clients, each in a virtual machine, while their server's floating address moves between two nodes: planned, by power
//! cut, with a grace window and adopted.
//!
//! Guests and nodes are started once and the scenarios run one after another, on whichever node has the address by then; each cleans
//! up behind itself. `LOCKFERRY_TEST_ONLY=part-of-a-name` picks some. See docs/testing.md.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a failure must stop the test, loudly"
)]

mod adopted;
mod churn;
mod moved;
mod outage;
mod owners;
mod probe;
#[path = "../rawrpc/mod.rs"]
mod rawrpc;
#[path = "../support/mod.rs"]
mod support;
mod window;
mod world;

use support::cluster::{Cluster, EXPORT, MOUNTPOINT, Which};
use support::net::Net;
use world::{Scenario, World};

const SCENARIOS: &[Scenario] = &[
    ("a_planned_move_keeps_every_lock", moved::a_planned_move_keeps_every_lock),
    ("a_power_cut_keeps_every_lock", moved::a_power_cut_keeps_every_lock),
    ("both_clients_reclaim_and_neither_steals", moved::both_clients_reclaim_and_neither_steals),
    ("a_waiter_gets_the_lock_when_its_holder_lets_go", moved::a_waiter_gets_the_lock_when_its_holder_lets_go),
    ("the_disk_is_unmounted_under_load", moved::the_disk_is_unmounted_under_load),
    ("what_conflicts_with_nothing_does_not_wait", window::what_conflicts_with_nothing_does_not_wait),
    (
        "a_client_that_never_comes_back_holds_up_its_own_bytes",
        window::a_client_that_never_comes_back_holds_up_its_own_bytes,
    ),
    ("an_outage_of_a_minute_with_tickles", outage::an_outage_of_a_minute_with_tickles),
    ("an_outage_of_a_minute_without_tickles", outage::an_outage_of_a_minute_without_tickles),
    ("there_and_back_before_anyone_reclaimed", outage::there_and_back_before_anyone_reclaimed),
    ("twenty_moves_lose_nothing", churn::twenty_moves_lose_nothing),
    ("an_adopted_move_is_not_noticed", adopted::an_adopted_move_is_not_noticed),
    ("an_adopted_power_cut_is_not_noticed", adopted::an_adopted_power_cut_is_not_noticed),
    ("a_killed_daemon_takes_up_what_it_had", adopted::a_killed_daemon_takes_up_what_it_had),
    ("twenty_adopted_moves_lose_nothing", churn::twenty_adopted_moves_lose_nothing),
    ("an_owner_that_was_superseded_is_silent", owners::an_owner_that_was_superseded_is_silent),
    ("locks_move_with_an_ipv6_address", moved::locks_move_with_an_ipv6_address),
];

#[test]
fn linux_clients_while_the_address_moves() {
    if let Some(why) = support::missing_for_vms().or_else(missing_for_disks) {
        return support::skip(&why);
    }
    world::run(World::boot(Net::new()), SCENARIOS);
}

/// Of the harness itself: without this a power cut would prove nothing about what is durable.
#[test]
fn a_power_cut_loses_what_was_not_synced() {
    if let Some(why) = support::missing_for_namespaces().or_else(missing_for_disks) {
        return support::skip(&why);
    }
    let net = Net::new();
    let mut cluster = Cluster::with_disk(&net, "node", 1, &[], "");
    let write = "echo kept >kept && sync kept . && dd if=/dev/zero bs=1M count=8 >>kept 2>/dev/null && echo lost >lost";
    cluster.mount_disk(Which::First);
    cluster.sh(Which::First, &format!("cd {EXPORT} && {write}"));
    cluster.power_cut(Which::First);
    cluster.mount_disk(Which::Second);
    assert_eq!(cluster.sh(Which::Second, &format!("cd {EXPORT} && ls && head -c 4 kept")), "kept\nkept");
    cluster.sh(Which::Second, &format!("umount {MOUNTPOINT}"));
    // It can be had again.
    cluster.power_on(Which::First);
    cluster.mount_disk(Which::First);
}

fn missing_for_disks() -> Option<String> {
    let missing = ["losetup", "mkfs.ext4", "mountpoint"].map(|p| (p, support::find_program(p)));
    let missing = missing.iter().find(|(_, found)| found.is_none())?;
    Some(format!("not installed: {} (tests/run installs it)", missing.0))
}
