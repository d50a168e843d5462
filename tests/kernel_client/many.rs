//! Very many locks, and very many who wait for one.

use std::time::{Duration, Instant};

use super::support::agent::Kind;
use super::support::wait_for;
use super::{EXTRA_MOUNTS, World};

/// Only so that a hung run ends.
const LONG: Duration = Duration::from_secs(900);

pub(super) fn thousands_of_files_are_locked(w: &mut World) {
    let count = w.many.min(2_000);
    w.a().sh(&format!("mkdir {}", World::path("files")));
    let owner = w.a().owner("files");
    owner.lock_files(&World::path("files/f"), count).wait(LONG).expect("lock each");
    w.await_server(count, 0);
    let other = w.b().owner("other");
    let file = other.open(&World::path(&format!("files/f{}", count - 1)));
    assert!(other.try_lock(file, Kind::Write, 0, 1).is_err());
    // Its death must release them all.
    owner.signal("SIGKILL");
    w.await_server(0, 0);
    other.lock(file, Kind::Write, 0, 1);
}

/// One process holds very many locks of one file, as the server sees it. A Linux client looks through a list of all locks
/// of a file for each new one, which takes most of an hour here; so it has the file open through several mounts of the
/// same export, each with a list of its own, while to the server it stays one owner and one file.
pub(super) fn a_file_of_very_many_locks_is_walked(w: &mut World) {
    const PER_MOUNT: u64 = 10_000;
    let count = w.many;
    let mounts = count.div_ceil(PER_MOUNT);
    let each = count / mounts;
    let (a, b) = (w.a().owner("walker"), w.b().owner("visitor"));
    let fb = b.open(&World::path("walk"));
    let files: Vec<_> = (0..mounts)
        .map(|i| {
            w.mount_at(w.a(), &format!("{EXTRA_MOUNTS}{i}"), "vers=3,nosharecache");
            a.open(&format!("{EXTRA_MOUNTS}{i}/walk"))
        })
        .collect();
    let start = Instant::now();
    for (i, file) in (0..).zip(&files) {
        // Every second byte, so that no two join.
        a.lock_many(*file, each, i * each * 2, 2).wait(LONG).expect("lock each");
    }
    println!("     {count} locks in {:.0} s", start.elapsed().as_secs_f64());
    w.await_server(count, 0);
    // Between them is room, on them is not.
    for spot in [0, count / 2, count - 1] {
        b.lock(fb, Kind::Write, spot * 2 + 1, 1);
        assert!(b.try_lock(fb, Kind::Read, spot * 2, 1).is_err(), "lock {spot} is not held");
    }
    w.await_server(count + 3, 0);
    b.close(fb);
    let start = Instant::now();
    let unlocked = each.min(5_000);
    a.unlock_many(files[0], unlocked, 0, 2).wait(LONG).expect("unlock each");
    println!("     {unlocked} unlocks in {:.0} s", start.elapsed().as_secs_f64());
    w.await_server(count - unlocked, 0);
    let start = Instant::now();
    a.close_all();
    w.await_server(0, 0);
    println!("     the rest by close in {:.1} s", start.elapsed().as_secs_f64());
    w.a().sh(&format!("umount {EXTRA_MOUNTS}*"));
}

pub(super) fn a_thousand_waiters_are_granted_in_turn(w: &mut World) {
    const COUNT: u64 = 1000;
    let path = World::path("swarm");
    let a = w.a().owner("holder");
    let fa = a.open(&path);
    a.lock(fa, Kind::Write, 0, 1);
    let counters = ["granted", "blocked", "callbacks_confirmed", "callbacks_failed"];
    let before = counters.map(|name| w.server.counter(name));
    let swarm = w.b().owner("swarm").swarm(&path, COUNT);
    wait_for("a thousand waiters", LONG, || match w.server.waiters() {
        COUNT => Ok(()),
        n => Err(format!("{n}")),
    });
    let start = Instant::now();
    a.unlock(fa, 0, 1);
    let result = swarm.wait(LONG).expect("the swarm");
    println!("     {COUNT} waiters served in {:.1} s", start.elapsed().as_secs_f64());
    for (name, before) in counters.iter().zip(before) {
        if let (Some(before), Some(now)) = (before, w.server.counter(name)) {
            println!("     {name}: {}", now - before);
        }
    }
    assert_eq!(result["failed"], serde_json::json!([]), "some were refused");
    assert_eq!(result["most_inside"], 1, "more than one had the lock at once");
    let mut order: Vec<_> = result["order"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    order.sort_unstable();
    assert!(order.into_iter().eq(0..COUNT), "not each got it exactly once");
}
