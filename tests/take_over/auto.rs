//! Auto mode: the lock manager follows its address by itself.

use std::net::Ipv4Addr;

use super::rawrpc::nlm::*;
use super::rawrpc::{Client, Node, Want, host};
use super::{LONG, Pair};

const IP: &str = "10.9.9.9";

fn table(pair: &Pair) -> String {
    format!("[[lock_manager]]\naddress = \"{IP}\"\njournal = {:?}\n", pair.journal)
}

fn address(pair: &Pair, node: &Node, what: &str) {
    node.sh(&pair.world, &format!("ip addr {what} {IP}/32 dev lo"));
}

#[test]
fn the_lock_manager_comes_and_goes_with_its_address() {
    let Some(pair) = Pair::new() else { return };
    let top = format!("auto = true\n{LONG}");
    let a = pair.a.serve(&pair.world, &top, &table(&pair));
    let b = pair.b.serve(&pair.world, &top, &table(&pair));
    assert_eq!((&a.lm(IP)["state"], &b.lm(IP)["state"]), (&"absent".into(), &"absent".into()));
    address(&pair, &pair.a, "add");
    a.await_state(IP, "active");
    let server: Ipv4Addr = IP.parse().unwrap();
    let fh = a.handle_through(server.into(), &pair.world.export(), "f");
    assert_eq!(Client::to(host(10), server, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let homes = [pair.a.host(10), pair.b.host(10)];

    for (from, to, home, old, new) in
        [(&pair.a, &pair.b, &homes[1], &a, &b), (&pair.b, &pair.a, &homes[0], &b, &a)]
    {
        address(&pair, from, "del");
        old.await_state(IP, "released");
        address(&pair, to, "add");
        new.await_state(IP, "grace");
        assert_eq!(home.notice().0, IP);
        let mut one = to.within(|| Client::to(host(10), server, "one"));
        assert_eq!(one.lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
        new.await_state(IP, "active");
    }
}

#[test]
fn a_node_that_was_superseded_does_not_take_the_address_back_by_itself() {
    let Some(pair) = Pair::new() else { return };
    let top = format!("auto = true\n{LONG}");
    for node in [&pair.a, &pair.b] {
        address(&pair, node, "add");
    }
    let a = pair.a.serve(&pair.world, &top, &table(&pair));
    a.await_state(IP, "active");
    // A split brain: both have the address, and both mean well.
    let b = pair.b.serve(&pair.world, &top, &table(&pair));
    b.await_state(IP, "active");
    a.await_state(IP, "superseded");
    // Something else happens to its addresses.
    pair.a.sh(&pair.world, "ip addr add 10.9.9.10/32 dev lo");
    pair.a.sh(&pair.world, "ip addr del 10.9.9.10/32 dev lo");
    a.verb(&["start-grace", "127.1.0.99"]);
    assert_eq!((&a.lm(IP)["state"], &b.lm(IP)["state"]), (&"superseded".into(), &"active".into()));
    // By command it does.
    a.verb(&["start-grace", IP]);
    b.await_state(IP, "superseded");
}

#[test]
fn an_address_that_comes_before_its_disk_is_taken_up_once_the_disk_is_there() {
    let Some(pair) = Pair::new() else { return };
    let (away, journal) = (pair.journal.with_extension("away"), pair.journal.clone());
    std::fs::rename(&journal, &away).unwrap();
    address(&pair, &pair.a, "add");
    let a = pair.a.serve(&pair.world, &format!("auto = true\n{LONG}"), &table(&pair));
    a.await_log(&["ENOENT", IP]);
    assert_eq!(a.lm(IP)["state"], "absent");
    std::fs::rename(&away, &journal).unwrap();
    a.await_state(IP, "active");
}
