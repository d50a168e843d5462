//! Very many locks, and very many who wait for one.

use std::time::{Duration, Instant};

use super::World;
use super::support::agent::Kind;
use super::support::wait_for;

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

pub(super) fn a_file_of_very_many_locks_is_walked(w: &mut World) {
    let path = World::path("walk");
    let count = w.many;
    let (a, b) = (w.a().owner("walker"), w.b().owner("visitor"));
    let (fa, fb) = (a.open(&path), b.open(&path));
    let start = Instant::now();
    // Every second byte, so that no two join.
    a.lock_many(fa, count, 0, 2).wait(LONG).expect("lock each");
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
    a.unlock_many(fa, count / 2, 0, 2).wait(LONG).expect("unlock each");
    println!("     {} unlocks in {:.0} s", count / 2, start.elapsed().as_secs_f64());
    w.await_server(count - count / 2, 0);
    let start = Instant::now();
    a.close(fa);
    w.await_server(0, 0);
    println!("     the rest by close in {:.1} s", start.elapsed().as_secs_f64());
}

pub(super) fn a_thousand_waiters_are_granted_in_turn(w: &mut World) {
    const COUNT: u64 = 1000;
    let path = World::path("swarm");
    let a = w.a().owner("holder");
    let fa = a.open(&path);
    a.lock(fa, Kind::Write, 0, 1);
    let confirmed = w.server.counter("callbacks_confirmed");
    let swarm = w.b().owner("swarm").swarm(&path, COUNT);
    wait_for("a thousand waiters", LONG, || match w.server.waiters() {
        COUNT => Ok(()),
        n => Err(format!("{n}")),
    });
    let start = Instant::now();
    a.unlock(fa, 0, 1);
    let result = swarm.wait(LONG).expect("the swarm");
    println!("     {COUNT} waiters served in {:.1} s", start.elapsed().as_secs_f64());
    if let (Some(before), Some(now)) = (confirmed, w.server.counter("callbacks_confirmed")) {
        println!("     {} of them by callback", now - before);
    }
    assert_eq!(result["failed"], serde_json::json!([]), "some were refused");
    assert_eq!(result["most_inside"], 1, "more than one had the lock at once");
    let mut order: Vec<_> = result["order"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    order.sort_unstable();
    assert!(order.into_iter().eq(0..COUNT), "not each got it exactly once");
}
