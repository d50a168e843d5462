//! Many moves in a row while both clients take and release locks all the time.

use std::time::Instant;

use super::support::agent::{Kind, SOON};
use super::world::{TAKE_OVER, World};

const MOVES: u32 = 20;

pub(super) fn twenty_moves_lose_nothing(w: &mut World) {
    many_moves(w, "");
}

pub(super) fn twenty_adopted_moves_lose_nothing(w: &mut World) {
    many_moves(w, "adopt");
}

/// Four processes on two clients add one to the same number, each time under the same lock. A lock that was lost, or held by two,
/// makes the number too small. Others keep what they have through all of it.
fn many_moves(w: &mut World, options: &str) {
    let kept = w.hold("through", 50);
    let b = w.b().owner("b keeps");
    let file = b.open(&World::path("through"));
    b.lock(file, Kind::Write, 10_000, 10);
    for agent in [w.a(), w.b()] {
        agent.sh("rm -f /tmp/stop");
    }
    let path = World::path("number");
    let owners: Vec<_> = (0..4).map(|n| [w.a(), w.b()][n % 2].owner(&format!("churns-{n}"))).collect();
    let churns: Vec<_> = owners.iter().map(|owner| owner.churn(&path, 1 << 20, "/tmp/stop")).collect();

    let start = Instant::now();
    for n in 0..MOVES {
        match n % 4 {
            3 => w.move_by_power_cut(options),
            _ => w.move_planned(options),
        };
        w.await_reclaimed();
        w.check_held("through", &kept);
        // B's lock, from the side of A.
        let a = w.a().owner(&format!("looks-{n}"));
        let looked = a.open(&World::path("through"));
        assert!(a.test(looked, Kind::Write, 10_005, 1).is_some(), "client B's lock after move {n}");
        a.exit();
        for churn in &churns {
            churn.must_still_wait("the churn", std::time::Duration::ZERO);
        }
    }
    println!("     {MOVES} moves in {:.0} s", start.elapsed().as_secs_f64());
    for agent in [w.a(), w.b()] {
        agent.sh("touch /tmp/stop");
    }
    let cycles: u64 = churns
        .iter()
        .map(|churn| churn.wait(TAKE_OVER).expect("the churn's end")["cycles"].as_u64().expect("a count"))
        .sum();
    let reader = w.b().owner("reads");
    let number = reader.open(&path);
    reader.try_lock_within(number, Kind::Read, 1 << 20, 1, SOON).expect("free again");
    let found: u64 = w.b().sh(&format!("cat {path}")).trim().parse().expect("a number");
    println!("     {cycles} times lock, add one, unlock; the number is {found}");
    assert_eq!(found, cycles, "two were inside at once");
    w.check_nothing_lost();
}
