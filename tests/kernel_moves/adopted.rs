//! Moves where the locks are held as they stand: no window, no reclaim, and the clients' kernels have nothing to say.

use std::time::{Instant, SystemTime};

use super::support::agent::{Agent, Kind, SOON};
use super::support::server::Server as _;
use super::world::{A_WHILE, MANY, SOONER_THAN_A_POLL, World, answered, ms};

pub(super) fn an_adopted_move_is_not_noticed(w: &mut World) {
    is_not_noticed(w, |w| w.move_planned("adopt").at("address up"));
}

pub(super) fn an_adopted_power_cut_is_not_noticed(w: &mut World) {
    is_not_noticed(w, |w| w.move_by_power_cut("adopt").at("address up"));
}

/// `kill -9`, and it is started again on the node that still has address and disk.
pub(super) fn a_killed_daemon_takes_up_what_it_had(w: &mut World) {
    is_not_noticed(w, |w| {
        let here = w.here();
        w.cluster.server_mut(here).crash_and_restart();
        SystemTime::now()
    });
}

/// `moves` returns when the address was there again.
fn is_not_noticed(w: &mut World, moves: fn(&mut World) -> SystemTime) {
    let held = w.hold("adopted", MANY);
    let (b, c) = (w.b().owner("waits"), w.b().owner("asks"));
    let (fb, fc) = (b.open(&World::path("adopted")), c.open(&World::path("adopted")));
    let waiting = b.lock_wait(fb, Kind::Write, 50, 100);
    w.await_locks(MANY + 3, 1);
    let before = [w.a(), w.b()].map(said);

    let up = moves(w);
    let free = c.lock_now(fc, Kind::Write, 10_000, 10);
    let granted = answered("a free byte", &free);
    let lm = w.lm();
    assert_eq!((&lm["state"], &lm["reclaimable"]), (&"active".into(), &0.into()), "{lm}");
    let told: u64 =
        lm["notify"].as_object().expect("counts").values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(told, 0, "nobody is told: {lm}");
    println!("     free byte granted {} after the address was up", ms(up, granted));

    w.check_held("adopted", &held);
    waiting.must_still_wait("the waiter", A_WHILE);
    let released = Instant::now();
    held.owner.unlock(held.file, 0, 100);
    assert!(waiting.wait(SOON).is_ok());
    assert!(released.elapsed() < SOONER_THAN_A_POLL, "that was the client's poll, not our callback");
    for (agent, before) in [w.a(), w.b()].into_iter().zip(before) {
        assert_eq!(said(agent), before, "the kernel noticed");
    }
}

/// What a guest's kernel has said about NFS so far.
fn said(agent: &Agent) -> Vec<String> {
    let about = ["nfs", "lockd", "rpc", "nsm", "statd", "RPC", "NFS"];
    let log = agent.dmesg();
    log.lines().filter(|line| about.iter().any(|word| line.contains(word))).map(ToOwned::to_owned).collect()
}
