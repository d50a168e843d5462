//! Long outages, and moves upon moves.

use std::time::Duration;

use super::support::agent::Kind;
use super::world::{TAKE_OVER, World, answered, ms};

/// Long enough for clients to be deep in their back-off.
const OUTAGE: Duration = Duration::from_secs(60);

pub(super) fn an_outage_of_a_minute_with_tickles(w: &mut World) {
    outage(w, true);
}

pub(super) fn an_outage_of_a_minute_without_tickles(w: &mut World) {
    outage(w, false);
}

/// A client that has to ask for the port first connects to port 111, which nobody can wake: its next try may be half a minute away.
const WINDOW: &str = "grace=90s";

/// The clients have requests under way on connections that nobody answers any more.
fn outage(w: &mut World, tickles: bool) {
    let to = w.here().other();
    // The right to send them is lost with a restart.
    w.cluster.server_mut(to).terminate();
    w.cluster.allow_raw_packets(tickles);
    w.switch_on(to);
    let held = w.hold("outlives", 20);
    let (asks, reads) = (w.a().owner("asks"), w.b().owner("reads"));
    let (asked, read) = (asks.open(&World::path("asked")), reads.open(&World::path("asked")));
    // A connection that is in use is one that its client does not have to look for.
    reads.lock(read, Kind::Write, 50, 10);
    reads.unlock(read, 50, 10);
    w.cut_power();
    let pending = asks.lock_now(asked, Kind::Write, 0, 10);
    let work = w.a().start_sh(&format!("ls -l {}", World::path("")));
    let other = reads.lock_now(read, Kind::Write, 100, 10);
    pending.must_still_wait("a request to nobody", OUTAGE);

    let up = w.take(to, WINDOW).at("address up");
    let others = answered("the other client's request", &other);
    let answer = answered("a request from the outage", &pending);
    let all = w.await_reclaimed();
    let done = work.wait(TAKE_OVER).expect("file work goes on");
    assert_eq!(done["rc"], 0, "{done}");
    println!(
        "     after the address was up: request of a client with nothing to reclaim {}, of the other {}, all reclaimed {}",
        ms(up, others),
        ms(up, answer),
        ms(up, all)
    );
    w.check_held("outlives", &held);
    w.check_nothing_lost();
}

/// The address goes to the other node and back while a client is cut off, so nobody could reclaim on the way.
pub(super) fn there_and_back_before_anyone_reclaimed(w: &mut World) {
    let held = w.hold("patient", 20);
    w.a.plug(false);
    w.move_by_power_cut("");
    assert_eq!(w.number("reclaimable"), 23);
    w.move_planned("");
    assert_eq!(w.number("reclaimable"), 23);
    w.move_by_power_cut("");
    w.a.plug(true);
    w.await_reclaimed();
    w.check_held("patient", &held);
    w.check_nothing_lost();
}
