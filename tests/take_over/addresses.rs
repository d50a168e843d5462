//! Addresses as they come and go: not here yet, gone already, several on one node, of the other family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rawrpc::nlm::*;
use super::rawrpc::{Client, Conn, FLOAT, Host, SERVER, Want, host};
use super::{ALL_PROGRAMS, Daemon, LM, LONG, Pair, programs_at, text};

/// An address that is nowhere until a test puts it somewhere.
const ABSENT: &str = "10.9.9.9";

#[test]
fn a_window_begins_when_the_address_comes_and_clients_are_told_then() {
    let Some(pair) = Pair::new() else { return };
    let address: Ipv4Addr = ABSENT.parse().unwrap();
    pair.a.sh(&pair.world, &format!("ip addr add {ABSENT}/32 dev lo"));
    let a = pair.serve(&pair.a, LONG);
    let start = ["start-grace", ABSENT, "--journal", text(&pair.journal)];
    a.verb(&start);
    let fh = a.handle_through(address.into(), &pair.world.export(), "f");
    assert_eq!(Client::to(host(10), address, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    a.kill();

    let home = pair.b.host(10);
    let b = pair.serve(&pair.b, "grace.window = \"3s\"\ngrace.park = \"300ms\"\n");
    let done = b.verb(&start);
    assert!(done["notes"].to_string().contains("not on this machine yet"), "{done}");
    let row = b.lm(ABSENT);
    assert_eq!((&row["state"], &row["address_here"]), (&"grace".into(), &false.into()), "{row}");
    assert!(row["grace_seconds_left"].is_null() && row["trouble"].is_string(), "no deadline runs: {row}");
    assert_eq!(b.verb(&start)["changed"], false, "repeated");
    assert_eq!(home.count(NSM, 6), 0, "nobody could have answered");
    pair.b.sh(&pair.world, &format!("ip addr add {ABSENT}/32 dev lo"));
    let (name, _, from) = home.notice();
    assert_eq!((name.as_str(), from), (ABSENT, IpAddr::from(address)));
    let row = b.await_lm(ABSENT, "a deadline", |row| row["grace_seconds_left"].is_u64());
    assert_eq!((&row["address_here"], &row["trouble"]), (&true.into(), &serde_json::Value::Null));
    let mut one = pair.b.within(|| Client::to(host(10), address, "one"));
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    assert_eq!(b.lm(ABSENT)["state"], "active");

    // And the other way: the address goes first.
    pair.b.sh(&pair.world, &format!("ip addr del {ABSENT}/32 dev lo"));
    let done = b.verb(&["unlock-ip", ABSENT]);
    assert_eq!((&done["changed"], &done["marked"]), (&true.into(), &1.into()), "{done}");
    let done = b.verb(&["unlock-ip", ABSENT]);
    assert_eq!(done["changed"], false, "repeated: {done}");
    assert_eq!(b.lm(ABSENT)["state"], "released");
    assert_eq!(b.verb(&["unlock-ip", "192.0.2.1"])["changed"], false, "one that was never here");
}

#[test]
fn verbs_can_be_repeated() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let row = a.lm(LM);
    assert_eq!(pair.start(&a, &[])["changed"], false);
    assert_eq!(a.lm(LM), row, "nothing changed");
    assert_eq!(a.verb(&["unlock-ip", LM])["changed"], true);
    let released = a.lm(LM);
    assert_eq!(a.verb(&["unlock-ip", LM])["changed"], false);
    assert_eq!(a.lm(LM), released);
    assert_eq!(pair.start(&a, &[])["marked"], 1);
}

#[test]
fn releasing_one_address_touches_no_other() {
    let Some(pair) = Pair::new() else { return };
    let others = [Ipv4Addr::new(127, 1, 0, 10), Ipv4Addr::new(127, 0, 0, 1)];
    let a = pair.serve(&pair.a, LONG);
    a.verb(&["start-grace", LM]);
    for ip in others {
        a.verb(&["start-grace", &ip.to_string()]);
    }
    let fh = pair.a.handle(&a, "f");
    let mut mine = pair.a.client(10, "one");
    assert_eq!(mine.lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let mut rest = others.map(|ip| Client::to(host(10), ip, "one"));
    for (n, client) in rest.iter_mut().enumerate() {
        assert_eq!(client.lock(&Want::bytes(&fh, 100 * (n as u64 + 1), 10)), GRANTED);
    }
    let before = others.map(|ip| a.lm(&ip.to_string()));
    a.verb(&["unlock-ip", LM]);
    assert_eq!(programs_at(&pair.a, FLOAT), [""; 0]);
    for (n, client) in rest.iter_mut().enumerate() {
        let own = Want::bytes(&fh, 100 * (n as u64 + 1), 10);
        assert_eq!(client.lock(&own), GRANTED, "on the connection that it had");
        assert_eq!(Client::to(host(11), others[n], "two").lock(&own), DENIED);
        assert_eq!(client.lock(&Want::bytes(&fh, 500 + n as u64, 1)), GRANTED);
        assert_eq!(client.unlock(&Want::bytes(&fh, 500 + n as u64, 1)), GRANTED);
        assert_eq!(programs_at(&pair.a, others[n]), ALL_PROGRAMS);
    }
    for (ip, was) in others.iter().zip(before) {
        let row = a.lm(&ip.to_string());
        for same in ["state", "epoch", "locks", "nsm_state", "journal", "exports"] {
            assert_eq!(row[same], was[same], "{same} of {ip}");
        }
    }
    // The export is served on here, so what is recorded through the released address stays in the way of others.
    assert_ne!(rest[0].lock(&Want::bytes(&fh, 5, 1)), GRANTED, "one comes back for it");
}

#[test]
fn a_window_of_one_address_holds_up_nobody_elses_requests_on_other_files() {
    let Some(pair) = Pair::new() else { return };
    pair.world.file("g");
    let a = pair.serve(&pair.a, LONG);
    a.verb(&["start-grace", LM]);
    let fh = pair.a.handle(&a, "f");
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    a.verb(&["unlock-ip", LM]);
    a.verb(&["start-grace", "127.1.0.2"]);
    a.verb(&["start-grace", LM, "--full"]);
    assert_eq!(a.lm(LM)["full"], true);
    let other: Ipv4Addr = [127, 1, 0, 2].into();
    let gh = pair.a.within(|| a.handle_through(other.into(), &pair.world.export(), "g"));
    assert_eq!(Client::to(host(11), other, "two").lock(&Want::all(&gh)), GRANTED, "another file");
    assert_eq!(Client::to(host(11), other, "two").lock(&Want::bytes(&fh, 20, 1)), GRANTED, "other bytes");
    assert_eq!(Client::to(host(11), other, "two").lock(&Want::bytes(&fh, 5, 1)), GRACE, "the recorded ones");
    assert_eq!(pair.a.client(12, "three").lock(&Want::bytes(&fh, 30, 1)), GRACE, "its own window is full");
}

#[test]
fn once_a_floating_address_is_known_all_others_are_silent() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.serve(&pair.a, LONG);
    let local: Ipv4Addr = [127, 0, 0, 1].into();
    assert_eq!(programs_at(&pair.a, local), ALL_PROGRAMS, "any address, as long as none floats");
    a.verb(&["start-grace", LM]);
    assert_eq!(programs_at(&pair.a, local), [""; 0]);
    assert_eq!(programs_at(&pair.a, FLOAT), ALL_PROGRAMS);
    assert_eq!(programs_at(&pair.a, Ipv6Addr::LOCALHOST), [""; 0]);
    a.verb(&["unlock-ip", LM]);
    for ip in [local, FLOAT] {
        assert_eq!(programs_at(&pair.a, ip), [""; 0], "{ip}");
    }
    // Nor does a restart forget it.
    assert!(a.terminate().success());
    let a = pair.serve(&pair.a, LONG);
    assert_eq!(a.lm(LM)["state"], "released");
    for ip in [local, FLOAT] {
        assert_eq!(programs_at(&pair.a, ip), [""; 0], "{ip} after a restart");
    }
}

#[test]
fn an_address_that_clients_hold_locks_through_serves_on_after_a_restart_although_floating_ones_are_known() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.serve(&pair.a, LONG);
    let fh = a.handle_through(SERVER.into(), &pair.world.export(), "f");
    let plain = || pair.a.within(|| Client::to(host(10), SERVER, "one"));
    assert_eq!(plain().lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    a.kill();

    for known in ["from the settings", "from a verb", "from a record"] {
        let lm = format!("[[lock_manager]]\naddress = \"{LM}\"\n");
        let settings = if known == "from the settings" { lm.as_str() } else { "" };
        let a = pair.a.serve(&pair.world, LONG, settings);
        if known == "from a verb" {
            pair.start(&a, &[]);
        }
        let mut one = plain();
        assert_eq!(one.lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED, "{known}");
        assert_eq!(one.lock(&Want::bytes(&fh, 20, 10)), GRANTED, "{known}");
        assert_eq!(one.unlock(&Want::bytes(&fh, 20, 10)), GRANTED, "{known}");
        assert_eq!(a.handle_through(SERVER.into(), &pair.world.export(), "f"), fh, "{known}");
        a.kill();
    }
}

#[test]
fn a_dry_run_says_what_a_take_over_would_do_to_others() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.serve(&pair.a, LONG), pair.serve(&pair.b, LONG));
    let notes = |server: &Daemon| pair.start(server, &["--dry-run"])["notes"].to_string();
    assert!(notes(&a).contains("answer only on addresses that are taken up"), "{}", notes(&a));
    pair.start(&a, &[]);
    assert!(notes(&b).contains("has not given it up"), "{}", notes(&b));
    a.verb(&["unlock-ip", LM]);
    assert!(!notes(&b).contains("has not given it up"), "{}", notes(&b));
    assert!(!notes(&a).contains("answer only on"), "known by now: {}", notes(&a));
}

#[test]
fn a_floating_address_of_the_settings_is_silent_until_it_is_taken_up() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.a.serve(&pair.world, LONG, "[[lock_manager]]\naddress = \"127.1.0.1\"\n");
    assert_eq!(a.lm(LM)["state"], "absent");
    assert_eq!(programs_at(&pair.a, FLOAT), [""; 0]);
    a.verb(&["start-grace", LM]);
    assert_eq!(programs_at(&pair.a, FLOAT), ALL_PROGRAMS);
}

#[test]
fn locks_move_with_an_ipv6_address() {
    let Some(pair) = Pair::new() else { return };
    for node in [&pair.a, &pair.b] {
        node.sh(&pair.world, "for n in 1 c d; do ip addr add fd00::$n/128 dev lo nodad; done");
    }
    let lm = "fd00::1";
    let server: Ipv6Addr = lm.parse().unwrap();
    let [one_at, two_at] = ["fd00::c", "fd00::d"].map(|ip| ip.parse::<Ipv6Addr>().unwrap());
    let a = pair.serve(&pair.a, LONG);
    let start = ["start-grace", lm, "--journal", text(&pair.journal)];
    a.verb(&start);
    let fh = a.handle_through(server.into(), &pair.world.export(), "f");
    assert_eq!(Client::to(one_at, server, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let mut udp = Client::on(Conn::udp(two_at, (server, PORT)), 4, "two");
    assert_eq!(udp.lock(&Want::bytes(&fh, 20, 10)), GRANTED);
    a.verb(&["unlock-ip", lm]);
    assert_eq!(programs_at(&pair.a, server), [""; 0]);

    let homes = [one_at, two_at].map(|at| pair.b.within(|| Host::at(at)));
    let b = pair.serve(&pair.b, LONG);
    assert_eq!(b.verb(&start)["marked"], 2);
    for home in &homes {
        let (name, _, from) = home.notice();
        assert_eq!((name.as_str(), from), (lm, IpAddr::from(server)));
    }
    let mut one = pair.b.within(|| Client::to(one_at, server, "one"));
    let mut two = pair.b.within(|| Client::to(two_at, server, "two"));
    let want = Want::bytes(&fh, 0, 10).blocking();
    assert_eq!(two.lock(&want), BLOCKED);
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    assert_eq!(two.lock(&Want::bytes(&fh, 20, 10).reclaim()), GRANTED);
    assert_eq!(b.lm(lm)["state"], "active");
    assert_eq!(one.unlock(&Want::bytes(&fh, 0, 10)), GRANTED);
    assert!(homes[1].granted().is("two", &want));
}
