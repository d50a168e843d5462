//! What survives a crash of the running binary, and what it makes of it: the list of clients, the notices to them, the grace
//! window, the NSM state number.

// Helpers of tests are no less tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod rawrpc;
mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use lockferry_xdr::Reader;
use rawrpc::nlm::*;
use rawrpc::{Client, Daemon, Host, PATIENCE, SERVER, SILENCE, Tested, Want, World, host};

/// Another address of the server.
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The name and state of a notice that a host hears, and the address it came from.
fn notice(home: &Host) -> (String, u32, std::net::IpAddr) {
    let heard = home.expect(NSM, 6);
    let mut r = Reader::new(&heard.args);
    let name = String::from_utf8(r.opaque_var(1024).unwrap().to_vec()).unwrap();
    let state = r.u32().unwrap();
    r.finish().unwrap();
    (name, state, heard.from.ip())
}

fn nsm_state(server: &Daemon, lm: &str) -> u64 {
    let status = server.query("status");
    let managers = status["lock_managers"].as_array().unwrap();
    let manager = managers.iter().find(|m| m["name"] == lm).unwrap_or_else(|| panic!("no {lm}: {status}"));
    manager["nsm_state"].as_u64().unwrap()
}

#[test]
fn a_client_is_on_the_list_before_its_first_lock_is_granted() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let mut homes = Vec::new();
    // Several rounds, as each shows only that one reply did not come too early.
    for round in 0..5u8 {
        let server = world.serve("grace.window = \"0s\"\n", "");
        let fh = server.handle("f");
        let home = Host::at(host(20 + round));
        let mut a = Client::new(host(20 + round), &format!("client-{round}"));
        let want = Want::bytes(&fh, u64::from(round), 1).shared();
        assert_eq!(a.lock(&want), GRANTED);
        server.kill();
        homes.push(home);
    }
    let server = world.serve("", "");
    for home in &homes {
        let (name, state, from) = notice(home);
        assert_eq!((name.as_str(), state % 2, from), ("127.0.0.1", 1, SERVER.into()));
    }
    let told = |c: &serde_json::Value| c["notify"] == "answered" || c["notify"] == "reclaimed";
    let rows = server.await_rows("clients", 5, told);
    assert!(rows.iter().all(|c| c["monitored"] == true), "{rows:?}");
}

#[test]
fn a_client_is_on_the_list_before_it_is_told_to_wait() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    // Unmonitored, so that only b is on the list.
    assert_eq!(a.nm_lock(&Want::all(&fh)), GRANTED);
    assert_eq!(b.lock(&Want::all(&fh).blocking()), BLOCKED);
    server.kill();
    let server = world.serve("", "");
    notice(&home);
    let rows = server.rows("clients");
    assert_eq!((rows.len(), &rows[0]["name"]), (1, &"b".into()));
}

#[test]
fn a_client_is_told_through_each_address_that_it_used() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let home = Host::at(host(10));
    assert_eq!(Client::new(host(10), "a").lock(&Want::bytes(&fh, 0, 1)), GRANTED);
    assert_eq!(Client::to(host(10), SECOND, "a").lock(&Want::bytes(&fh, 1, 1)), GRANTED);
    server.kill();
    let _server = world.serve("", "");
    let mut told = [notice(&home), notice(&home)].map(|(name, _, from)| (name, from));
    told.sort();
    let expected = [("127.0.0.1".to_owned(), SERVER.into()), ("127.0.0.2".to_owned(), SECOND.into())];
    assert_eq!(told, expected, "from the address, in its name");
}

#[test]
fn a_notice_is_repeated_until_the_clients_monitor_is_there() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    assert_eq!(Client::new(host(10), "a").lock(&Want::all(&fh)), GRANTED);
    server.kill();
    let server = world.serve("", "");
    assert_eq!(server.rows("clients")[0]["notify"], "pending");
    // The client boots slowly: nothing listened there until now.
    std::thread::sleep(Duration::from_millis(300));
    let home = Host::at(host(10));
    notice(&home);
    server.await_rows("clients", 1, |c| c["notify"] == "answered");
    assert_eq!(Client::new(host(10), "a").lock(&Want::all(&fh).reclaim()), GRANTED);
    server.await_rows("clients", 1, |c| c["notify"] == "reclaimed");
}

/// A line of the list of clients, as `lockferry` writes it (crc32c of what is before it).
fn line(lm: &str, address: &str, name: &str) -> String {
    let hex: String = name.bytes().map(|b| format!("{b:02x}")).collect();
    let text = format!("+ {lm} {address} 1 {hex} ");
    let mut crc = !0u32;
    for byte in text.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1));
        }
    }
    format!("{text}{:08x}\n", !crc)
}

#[test]
fn thousands_of_clients_that_are_down_delay_no_notice_to_one_that_is_up() {
    let Some(world) = World::new() else { return };
    // A network where everything that is sent vanishes.
    world.sh("ip link add d0 type veth peer name d1 && ip addr add 10.9.0.1/16 dev d0
              ip link set d0 arp off up && ip link set d1 up");
    let mut list: String = (0..3000)
        .map(|n| line("10.9.0.1", &format!("10.9.{}.{}", 1 + n / 250, 1 + n % 250), &format!("down-{n}")))
        .collect();
    list += &line("127.0.0.1", "127.0.0.10", "up");
    std::fs::create_dir(world.state()).unwrap();
    std::fs::write(world.state().join("clients"), list).unwrap();
    let home = Host::at(host(10));
    let server = world.serve("grace.window = \"1h\"\n", "");
    assert_eq!(notice(&home).0, "127.0.0.1");
    assert_eq!(server.query("status")["lock_managers"].as_array().map(Vec::len), Some(2));
    // Nor does the end: a signal ends it while all these tries are under way.
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn a_notice_can_carry_another_name() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let home = Host::at(host(10));
    assert_eq!(Client::new(host(10), "a").lock(&Want::all(&fh)), GRANTED);
    server.kill();
    let _server = world.serve("", "[nsm]\nnotify_name = \"files.example.org\"\n");
    assert_eq!(notice(&home).0, "files.example.org");
}

#[test]
fn the_grace_window_after_a_crash_lets_clients_reclaim_and_makes_others_wait() {
    let Some(world) = World::new() else { return };
    world.file("f");
    world.file("g");
    let server = world.serve("", "");
    let (f, g) = (server.handle("f"), server.handle("g"));
    assert_eq!(Client::new(host(10), "a").lock(&Want::bytes(&f, 0, 10).state(3)), GRANTED);
    assert_eq!(Client::new(host(11), "b").lock(&Want::bytes(&f, 20, 10).by(2).state(3)), GRANTED);
    server.kill();

    let server = world.serve("grace.window = \"6s\"\n", "");
    let home = Host::at(host(12));
    let status = server.query("status");
    let manager = &status["lock_managers"][0];
    assert_eq!((&manager["name"], &manager["state"]), (&"127.0.0.1".into(), &"grace".into()));
    assert!(manager["grace_seconds_left"].as_u64().is_some_and(|s| s <= 6));
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    let mut c = Client::new(host(12), "c");

    // What asks for something new is held back: a blocking LOCK is told to wait, the others get no answer yet.
    let want = Want::all(&g).blocking();
    assert_eq!(c.lock(&want), BLOCKED);
    let held = c.prepared(2, &Want::bytes(&f, 100, 1));
    let test = c.prepared(1, &Want::bytes(&f, 100, 1));
    for call in [&held, &test] {
        c.conn.send(call);
    }
    assert!(c.conn.receive(SILENCE).is_none(), "held back");

    // Reclaims, UNLOCK and CANCEL are answered at once.
    assert_eq!(a.lock(&Want::bytes(&f, 0, 10).reclaim()), GRANTED);
    assert_eq!(a.lock(&Want::bytes(&f, 0, 10).reclaim()), GRANTED, "a repeated reclaim");
    assert_eq!(b.lock(&Want::bytes(&f, 5, 1).by(2).reclaim()), DENIED, "what a has reclaimed is a's");
    assert_eq!(b.unlock(&Want::bytes(&f, 20, 10).by(2)), GRANTED);
    assert_eq!(c.cancel(&want), GRANTED);
    assert_eq!(c.lock(&want), BLOCKED);
    let inside = Want::bytes(&f, 2, 3).state(3);
    assert_eq!(a.lock(&inside), GRANTED, "a plain LOCK inside what one has reclaimed");

    // Held back for 2 s, then: come again.
    let first = c.conn.receive(PATIENCE).expect("an answer");
    let second = c.conn.receive(PATIENCE).expect("an answer");
    for message in [first, second] {
        let (_, answer) = rawrpc::wire::parse_reply(&message);
        let results = answer.results();
        assert_eq!(results[20..24], GRACE.to_be_bytes(), "DENIED_GRACE_PERIOD");
    }
    assert_eq!(home.count(PROGRAM, 5), 0);

    // The window ends by itself: who waits is granted, reclaims are over.
    assert!(home.granted().is("c", &want));
    assert_eq!(server.query("status")["lock_managers"][0]["state"], "active");
    assert_eq!(c.lock(&Want::bytes(&f, 100, 1)), GRANTED);
    assert!(matches!(c.test(&Want::bytes(&f, 0, 1)), Tested::Held { svid: 1, .. }));
    assert_eq!(b.lock(&Want::bytes(&f, 20, 10).by(2).reclaim()), GRACE, "too late");
    assert_eq!(a.lock(&Want::bytes(&f, 0, 10).reclaim()), GRANTED, "what one holds one may always reclaim");
    assert_eq!((server.counter("reclaimed"), server.counter("reclaim_refused")), (3, 2));
}

#[test]
fn a_lock_held_back_is_granted_when_the_window_ends_first() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    assert_eq!(Client::new(host(10), "a").lock(&Want::all(&fh)), GRANTED);
    server.kill();
    let server = world.serve("grace.window = \"1s\"\n", "");
    let mut b = Client::new(host(11), "b");
    // One call, one answer: held back for what is left of the second.
    assert_eq!(b.lock(&Want::all(&fh)), GRANTED, "a did not reclaim");
    assert_eq!(server.query("status")["lock_managers"][0]["state"], "active");
}

#[test]
fn without_clients_there_is_no_window_after_a_restart() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("grace.window = \"1h\"\n", "");
    let fh = server.handle("f");
    assert_eq!(Client::new(host(10), "a").nm_lock(&Want::all(&fh)), GRANTED);
    server.kill();
    let server = world.serve("grace.window = \"1h\"\n", "");
    assert_eq!(Client::new(host(11), "b").lock(&Want::all(&fh)), GRANTED);
    drop(server);
}

#[test]
fn a_window_of_one_address_holds_up_no_other_address() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    assert_eq!(Client::new(host(10), "a").lock(&Want::bytes(&fh, 0, 1)), GRANTED);
    server.kill();
    let server = world.serve("grace.window = \"1h\"\n", "");
    let mut b = Client::to(host(11), SECOND, "b");
    assert_eq!(b.lock(&Want::bytes(&fh, 50, 1)), GRANTED);
    drop(server);
}

#[test]
fn the_nsm_state_is_odd_and_grows_with_each_start() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let mut last = 0;
    for round in 0..4 {
        let server = world.serve("grace.window = \"0s\"\n", "");
        let fh = server.handle("f");
        let mut a = Client::new(host(10), "a");
        assert_eq!(a.lock(&Want::all(&fh)), GRANTED, "round {round}");
        let state = nsm_state(&server, "127.0.0.1");
        assert!(state > last && state % 2 == 1, "{state} after {last}");
        last = state;
        if round % 2 == 0 {
            server.kill();
        } else {
            assert!(server.terminate().success());
        }
    }
}

#[test]
fn a_torn_last_line_of_the_list_is_no_damage() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    assert_eq!(Client::new(host(10), "a").lock(&Want::bytes(&fh, 0, 1)), GRANTED);
    server.kill();
    let list = world.state().join("clients");
    let mut bytes = std::fs::read(&list).unwrap();
    bytes.extend_from_slice(b"+ 127.0.0.1 127.0.0.99 3 6");
    std::fs::write(&list, bytes).unwrap();
    let server = world.serve("", "");
    let rows = server.rows("clients");
    assert_eq!((rows.len(), &rows[0]["name"]), (1, &"a".into()));
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn a_damaged_list_is_reported_with_its_place_and_the_rest_is_used() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    assert_eq!(Client::new(host(10), "a").lock(&Want::bytes(&fh, 0, 1)), GRANTED);
    assert_eq!(Client::new(host(11), "b").lock(&Want::bytes(&fh, 5, 1)), GRANTED);
    server.kill();
    let list = world.state().join("clients");
    let mut bytes = std::fs::read(&list).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&list, bytes).unwrap();
    let server = world.serve("", "");
    let log = server.log();
    assert!(log.contains(list.to_str().unwrap()) && log.contains("[0]"), "{log}");
    let rows = server.rows("clients");
    assert_eq!((rows.len(), &rows[0]["name"]), (1, &"b".into()));
    assert_eq!(server.query("status")["lock_managers"][0]["state"], "grace");
}
