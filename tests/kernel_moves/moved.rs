//! Moves with a grace window: what was held is held afterwards, and nothing else is.

use std::time::Instant;

use super::support::agent::{Failure, Kind, SOON};
use super::support::cluster::Steps;
use super::world::{
    A_WHILE, EXTRA_MOUNTS, FLOATING6, MANY, SOONER_THAN_A_POLL, TAKE_OVER, World, answered, mount, ms,
};

pub(super) fn a_planned_move_keeps_every_lock(w: &mut World) {
    keeps_every_lock(w, |w| w.move_planned(""));
}

pub(super) fn a_power_cut_keeps_every_lock(w: &mut World) {
    keeps_every_lock(w, |w| w.move_by_power_cut(""));
}

/// Client A has many locks; client B has nothing to reclaim, asks for a free byte and for one that A gives up after the move.
fn keeps_every_lock(w: &mut World, moves: fn(&mut World) -> Steps) {
    let held = w.hold("kept", MANY);
    let locks = held.files + 3;
    w.await_locks(locks, 0);
    let (free, wants) = (w.b().owner("free"), w.b().owner("wants"));
    let (free_file, wants_file) = (free.open(&World::path("free")), wants.open(&World::path("kept")));
    let extra = w.a().owner("lets go");
    let extra_file = extra.open(&World::path("kept"));
    extra.lock(extra_file, Kind::Write, 500, 10);

    let steps = moves(w);
    let up = steps.at("address up");
    let unlocked = free.lock_now(free_file, Kind::Write, 0, 10);
    let conflicting = wants.lock_wait(wants_file, Kind::Write, 500, 10);
    let granted = answered("a lock that conflicts with nothing", &unlocked);
    extra.unlock(extra_file, 500, 10);
    let second = answered("a lock that was given up", &conflicting);
    let all = w.await_reclaimed();
    println!(
        "     after the address was up: free byte granted {}, byte given up by its holder granted {}, all {} reclaimed {}",
        ms(up, granted),
        ms(up, second),
        locks,
        ms(up, all)
    );
    w.check_held("kept", &held);
    w.check_nothing_lost();
    // What B got is B's.
    let blocked = extra.try_lock(extra_file, Kind::Write, 505, 1);
    assert!(matches!(blocked, Err(Failure::Errno(_))), "{blocked:?}");
}

/// Both hold bytes of one file, next to each other and shared; after the move each still has its own.
pub(super) fn both_clients_reclaim_and_neither_steals(w: &mut World) {
    let path = World::path("both");
    let (a, b) = (w.a().owner("a"), w.b().owner("b"));
    let (fa, fb) = (a.open(&path), b.open(&path));
    a.lock(fa, Kind::Write, 0, 100);
    a.lock(fa, Kind::Read, 1_000, 100);
    b.lock(fb, Kind::Write, 100, 100);
    b.lock(fb, Kind::Read, 1_000, 100);
    for (name, moves) in [
        ("planned", World::move_planned as fn(&mut World, &str) -> Steps),
        ("power cut", World::move_by_power_cut),
    ] {
        let steps = moves(w, "");
        let all = w.await_reclaimed();
        println!(
            "     {name}: both clients' locks back {} after the address was up",
            ms(steps.at("address up"), all)
        );
        w.await_locks(4, 0);
        w.check_nothing_lost();
        let (c, d) = (w.a().owner(&format!("c {name}")), w.b().owner(&format!("d {name}")));
        let (fc, fd) = (c.open(&path), d.open(&path));
        for (owner, file, start) in [(&c, fc, 150), (&c, fc, 1_050), (&d, fd, 50), (&d, fd, 1_050)] {
            let taken = owner.try_lock_within(file, Kind::Write, start, 1, TAKE_OVER);
            assert!(matches!(taken, Err(Failure::Errno(_))), "byte {start}: {taken:?}");
        }
    }
}

/// A request that waits when the address moves goes on waiting, for as long as the lock is held.
pub(super) fn a_waiter_gets_the_lock_when_its_holder_lets_go(w: &mut World) {
    let path = World::path("waited-for");
    let (a, b) = (w.a().owner("holds"), w.b().owner("waits"));
    let (fa, fb) = (a.open(&path), b.open(&path));
    a.lock(fa, Kind::Write, 0, 100);
    let waiting = b.lock_wait(fb, Kind::Write, 50, 100);
    w.await_locks(1, 1);
    for moves in [World::move_planned as fn(&mut World, &str) -> Steps, World::move_by_power_cut] {
        moves(w, "");
        w.await_reclaimed();
        w.await_locks(1, 1);
        waiting.must_still_wait("the waiter", A_WHILE);
    }
    let released = Instant::now();
    a.unlock(fa, 0, 100);
    assert!(waiting.wait(SOON).is_ok());
    let took = released.elapsed();
    println!("     granted {:.0} ms after the release", took.as_secs_f64() * 1000.0);
    assert!(
        took < SOONER_THAN_A_POLL,
        "granted only after {took:?}: that was the client's poll, not our callback"
    );
    w.check_nothing_lost();
}

/// Clients read, write and hold locks, and the disk leaves all the same, at once: the script fails where it is busy.
pub(super) fn the_disk_is_unmounted_under_load(w: &mut World) {
    let held = w.hold("busy", 10);
    let load = |name: &str| {
        format!(
            "rm -f /tmp/stop; n=0; until [ -e /tmp/stop ]; do n=$((n + 1)); dd if=/dev/zero of={0} bs=64k count=16 conv=fsync 2>&1 \
             && cat {0} >/dev/null && ls -l {1} >/dev/null || exit 1; done; echo $n",
            World::path(name),
            World::path("")
        )
    };
    let loads = [w.a().start_sh(&load("load-a")), w.b().start_sh(&load("load-b"))];
    for _ in 0..4 {
        loads[0].must_still_wait("the load", A_WHILE);
        w.move_planned("");
        w.await_reclaimed();
    }
    for (agent, load) in [w.a(), w.b()].into_iter().zip(&loads) {
        agent.sh("touch /tmp/stop");
        let end = load.wait(TAKE_OVER).expect("the load's end");
        assert_eq!(end["rc"], 0, "{end}");
        println!(
            "     {} rounds of file work meanwhile",
            end["out"].as_str().unwrap_or_default().lines().last().unwrap_or("no")
        );
    }
    w.check_held("busy", &held);
    w.check_nothing_lost();
}

/// The same over IPv6: mount, lock, planned move and power cut of a second address on the same disk.
pub(super) fn locks_move_with_an_ipv6_address(w: &mut World) {
    let ip = FLOATING6.parse().unwrap();
    // One disk, so both addresses go together: the IPv4 one is put down first.
    let here = w.here();
    for (agent, last) in [(w.a(), "11"), (w.b(), "12")] {
        agent.sh(&format!(
            "ip addr show dev eth0 | grep -q fd77::{last}/ || ip addr add fd77::{last}/64 dev eth0 nodad"
        ));
    }
    w.release(here);
    w.cluster.take(here, ip, "");
    let place = format!("{EXTRA_MOUNTS}6");
    for agent in [w.a(), w.b()] {
        mount(agent, &format!("[{FLOATING6}]"), &place, "vers=3,proto=tcp6");
    }
    let (a, b) = (w.a().owner("a"), w.b().owner("b"));
    let (fa, fb) = (a.open(&format!("{place}/six")), b.open(&format!("{place}/six")));
    a.lock(fa, Kind::Write, 0, 100);
    w.cluster.release(here, ip);
    w.cluster.take(here.other(), ip, "");
    w.await_reclaimed_of(here.other(), ip);
    assert!(b.test(fb, Kind::Write, 0, 1).is_some(), "planned");
    w.cluster.power_cut(here.other());
    w.cluster.take(here, ip, "");
    w.await_reclaimed_of(here, ip);
    assert!(b.test(fb, Kind::Write, 0, 1).is_some(), "power cut");
    w.check_nothing_lost();
    for agent in [w.a(), w.b()] {
        agent.kill_owners();
        agent.sh_within(&format!("umount {place}"), TAKE_OVER);
    }
    w.cluster.release(here, ip);
}
