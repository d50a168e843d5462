//! GRANTED callbacks of the running binary: to whom, from where, how often, and what becomes of the lock when the client
//! takes it, refuses it, is slow, is silent, or has changed its mind meanwhile.

// Helpers of tests are no less tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod rawrpc;
mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use lockferry_xdr::Writer;
use rawrpc::nlm::*;
use rawrpc::{Answer, Client, Conn, Daemon, Host, PATIENCE, React, SERVER, SILENCE, Want, World, host};

/// Another address of the server.
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A client in one version over TCP or UDP.
fn client(from: u8, version: u32, tcp: bool, name: &str) -> Client {
    let to = (SERVER, PORT);
    let conn = if tcp { Conn::tcp(host(from), to) } else { Conn::udp(host(from), to) };
    Client::on(conn, version, name)
}

/// The states of all locks, in the order of the list.
fn states(server: &Daemon) -> Vec<(String, String)> {
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
    server.rows("locks").iter().map(|r| (text(&r["client"]), text(&r["state"]))).collect()
}

fn one(client: &str, state: &str) -> Vec<(String, String)> {
    vec![(client.into(), state.into())]
}

/// Waits until the locks are these.
fn await_states(server: &Daemon, wanted: &[(String, String)]) {
    support::wait_for("the locks to be as expected", PATIENCE, || {
        let now = states(server);
        if now == wanted { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

#[test]
fn a_waiter_is_granted_by_a_callback_in_its_own_version_and_transport() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    for (version, tcp) in [(1, true), (1, false), (3, true), (3, false), (4, true), (4, false)] {
        let (mut a, mut b) = (client(10, version, tcp, "a"), client(11, version, tcp, "b"));
        let want = Want::bytes(&fh, 10, 20).by(5).blocking();
        assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
        assert_eq!(b.lock(&want), BLOCKED);
        assert_eq!(home.count(PROGRAM, 5), 0, "not before it is free");
        assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
        let heard = home.expect(PROGRAM, 5);
        assert_eq!((heard.version, heard.tcp, heard.from.ip()), (version, tcp, SERVER.into()));
        assert!(heard.from.port() < 1024, "from a port that only root has: some clients look");
        assert!(Granted::parse(version, &heard.args).is("b", &want));
        await_states(&server, &one("b", "held"));
        assert_eq!(home.count(PROGRAM, 5), 0, "once accepted it is not sent again");
        assert_eq!(b.unlock(&want), GRANTED);
    }
    assert_eq!(server.counter("callbacks_confirmed"), 6);
}

#[test]
fn a_callback_comes_from_the_address_that_was_asked() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    let mut a = Client::new(host(10), "a");
    for tcp in [true, false] {
        let to = (SECOND, PORT);
        let conn = if tcp { Conn::tcp(host(11), to) } else { Conn::udp(host(11), to) };
        let mut b = Client::on(conn, 4, "b");
        assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
        assert_eq!(b.lock(&Want::all(&fh).blocking()), BLOCKED, "another address, but the same file");
        assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
        assert_eq!(home.expect(PROGRAM, 5).from.ip(), SECOND);
        await_states(&server, &one("b", "held"));
        assert_eq!(server.rows("locks")[0]["lock_manager"], "127.0.0.2");
        assert_eq!(b.unlock(&Want::all(&fh)), GRANTED);
    }
}

#[test]
fn waiters_are_granted_in_order_and_readers_together() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
    assert_eq!(b.lock(&Want::all(&fh).by(1).blocking()), BLOCKED);
    assert_eq!(b.lock(&Want::all(&fh).by(2).shared().blocking()), BLOCKED);
    assert_eq!(b.lock(&Want::all(&fh).by(3).shared().blocking()), BLOCKED);
    assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
    assert_eq!(home.granted().svid, 1, "first come, first served");
    assert!(home.expect_within(SILENCE, PROGRAM, 5).is_none(), "the readers wait for the writer");
    assert_eq!(b.unlock(&Want::all(&fh).by(1)), GRANTED);
    let mut readers = [home.granted().svid, home.granted().svid];
    readers.sort_unstable();
    assert_eq!(readers, [2, 3]);
}

#[test]
fn a_downgrade_lets_readers_in() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
    assert_eq!(b.lock(&Want::all(&fh).shared().blocking()), BLOCKED);
    assert_eq!(a.lock(&Want::all(&fh).shared()), GRANTED);
    assert!(home.granted().is("b", &Want::all(&fh).shared()));
}

#[test]
fn a_thousand_waiters_on_one_range_are_each_granted_once_and_in_order() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
    for n in 1..=1000 {
        assert_eq!(b.lock(&Want::all(&fh).by(n).blocking()), BLOCKED);
    }
    assert_eq!(server.query("status")["lock_managers"][0]["waiters"], 1000);
    assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
    for n in 1..=1000 {
        assert_eq!(home.granted().svid, n);
        assert_eq!(b.unlock(&Want::all(&fh).by(n)), GRANTED);
    }
    assert!(server.rows("locks").is_empty() && server.rows("waiters").is_empty());
}

#[test]
fn a_slow_client_is_called_again_until_it_answers() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[callback]\ntimeout = \"200ms\"\ngive_up = \"30s\"\n");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    home.script(&[React::Ignore, React::Ignore], React::Accept);
    let (mut a, mut b) = (client(10, 4, false, "a"), client(11, 4, false, "b"));
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
    assert_eq!(b.lock(&Want::all(&fh).blocking()), BLOCKED);
    assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
    let heard = [home.expect(PROGRAM, 5), home.expect(PROGRAM, 5), home.expect(PROGRAM, 5)];
    assert!(heard.iter().all(|h| (h.xid, &h.args) == (heard[0].xid, &heard[0].args)), "the same call again");
    await_states(&server, &one("b", "held"));
    assert!(home.expect_within(SILENCE, PROGRAM, 5).is_none());
}

#[test]
fn a_slow_client_is_called_again_over_tcp_too() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[callback]\ntimeout = \"200ms\"\ngive_up = \"30s\"\n");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    home.script(&[React::Ignore, React::Ignore], React::Accept);
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
    assert_eq!(b.lock(&Want::all(&fh).blocking()), BLOCKED);
    assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
    let heard = [home.expect(PROGRAM, 5), home.expect(PROGRAM, 5), home.expect(PROGRAM, 5)];
    assert!(heard.iter().all(|h| h.tcp && (h.xid, &h.args) == (heard[0].xid, &heard[0].args)));
    await_states(&server, &one("b", "held"));
}

#[test]
fn a_client_with_only_the_newer_rpcbind_is_found() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[callback]\ntimeout = \"200ms\"\ngive_up = \"30s\"\n");
    let fh = server.handle("f");
    for (from, version) in [(11, 4), (12, 3)] {
        let home = Host::at(host(from));
        home.dialect(version);
        for tcp in [true, false] {
            let (mut a, mut b) = (client(10, 4, tcp, "a"), client(from, 4, tcp, "b"));
            assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
            assert_eq!(b.lock(&Want::all(&fh).blocking()), BLOCKED);
            assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
            assert_eq!(home.expect(PROGRAM, 5).tcp, tcp);
            await_states(&server, &one("b", "held"));
            assert_eq!(b.unlock(&Want::all(&fh)), GRANTED);
        }
    }
}

#[test]
fn over_ipv6_a_waiter_is_granted_and_a_reboot_frees() {
    let Some(world) = World::new() else { return };
    world.file("f");
    world.sh("for n in 1 10 11; do ip addr add fd00::$n/128 dev lo nodad; done");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let at = |n: u16| std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n);
    let home = Host::at(at(0x11));
    for (tcp, state) in [(true, 3), (false, 5)] {
        let conn = |from: u16| {
            let to = (at(1), PORT);
            if tcp { Conn::tcp(at(from), to) } else { Conn::udp(at(from), to) }
        };
        let (mut a, mut b) = (Client::on(conn(0x10), 4, "a"), Client::on(conn(0x11), 4, "b"));
        assert_eq!(a.lock(&Want::all(&fh).state(state)), GRANTED);
        assert_eq!(b.lock(&Want::all(&fh).blocking()), BLOCKED);
        let mut args = Vec::new();
        let mut w = Writer::new(&mut args);
        w.opaque_var(b"a");
        w.u32(state + 2);
        Conn::udp(at(0x10), (at(1), NSM_PORT)).call((NSM, 1, 6), &args).results();
        let heard = home.expect(PROGRAM, 5);
        assert_eq!((heard.from.ip(), heard.tcp), (at(1).into(), tcp));
        await_states(&server, &one("b", "held"));
        let row = &server.rows("locks")[0];
        assert_eq!((&row["lock_manager"], &row["address"]), (&"fd00::1".into(), &"fd00::11".into()));
        assert_eq!(b.unlock(&Want::all(&fh)), GRANTED);
    }
}

#[test]
fn a_lock_whose_client_never_answers_is_unconfirmed_and_still_excludes() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[callback]\ntimeout = \"200ms\"\ngive_up = \"1s\"\n");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    home.script(&[], React::Ignore);
    for tcp in [false, true] {
        let (mut a, mut b) = (client(10, 4, tcp, "a"), client(11, 4, tcp, "b"));
        assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
        assert_eq!(b.lock(&Want::all(&fh).blocking()), BLOCKED);
        assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
        home.expect(PROGRAM, 5);
        assert_eq!(states(&server), one("b", "granting"));
        assert_eq!(a.lock(&Want::all(&fh)), DENIED, "while it is on its way it is b's");
        await_states(&server, &one("b", "unconfirmed"));
        assert_eq!(a.lock(&Want::all(&fh)), DENIED, "b may well hold it");
        assert_eq!(b.unlock(&Want::all(&fh)), GRANTED, "until b says otherwise");
        assert!(states(&server).is_empty());
        while home.expect_within(Duration::from_millis(50), PROGRAM, 5).is_some() {}
    }
    assert_eq!(server.counter("callbacks_failed"), 2);
}

#[test]
fn an_unconfirmed_lock_becomes_held_when_its_client_asks_again() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[callback]\ntimeout = \"200ms\"\ngive_up = \"1s\"\n");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    home.script(&[], React::Ignore);
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
    assert_eq!(b.lock(&Want::all(&fh).blocking()), BLOCKED);
    assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
    await_states(&server, &one("b", "unconfirmed"));
    assert_eq!(b.lock(&Want::all(&fh).blocking()), GRANTED);
    assert_eq!(states(&server), one("b", "held"));
}

#[test]
fn a_refused_callback_gives_the_lock_to_the_next_one() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let (first, second) = (Host::at(host(11)), Host::at(host(12)));
    first.script(&[], React::Refuse);
    for tcp in [true, false] {
        let (mut a, mut b) = (client(10, 4, tcp, "a"), client(11, 4, tcp, "b"));
        let mut c = client(12, 4, tcp, "c");
        assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
        assert_eq!(b.lock(&Want::all(&fh).blocking()), BLOCKED);
        assert_eq!(c.lock(&Want::all(&fh).blocking()), BLOCKED);
        assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
        first.expect(PROGRAM, 5);
        second.expect(PROGRAM, 5);
        await_states(&server, &one("c", "held"));
        assert_eq!(first.count(PROGRAM, 5), 0, "one that has refused is not asked again");
        assert_eq!(c.unlock(&Want::all(&fh)), GRANTED);
    }
}

#[test]
fn a_refusal_of_a_repeated_callback_proves_nothing() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    let (mut a, mut b) = (client(10, 4, false, "a"), client(11, 4, false, "b"));
    home.script(&[React::Ignore], React::Refuse);
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
    assert_eq!(b.lock(&Want::all(&fh).blocking()), BLOCKED);
    assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
    await_states(&server, &one("b", "unconfirmed"));
    assert_eq!(a.lock(&Want::all(&fh)), DENIED);
    // A CANCEL says it for sure.
    assert_eq!(b.cancel(&Want::all(&fh).blocking()), GRANTED);
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
}

#[test]
fn a_cancel_while_the_callback_is_on_its_way_frees_the_lock() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[callback]\ntimeout = \"500ms\"\ngive_up = \"30s\"\n");
    let fh = server.handle("f");
    let (home, next) = (Host::at(host(11)), Host::at(host(12)));
    home.script(&[], React::Ignore);
    for procedure in [3, 4] {
        let (mut a, mut b) = (client(10, 4, false, "a"), client(11, 4, false, "b"));
        let mut c = client(12, 4, false, "c");
        let want = Want::all(&fh).blocking();
        assert_eq!(a.lock(&want), GRANTED);
        assert_eq!((b.lock(&want), c.lock(&want)), (BLOCKED, BLOCKED));
        assert_eq!(a.unlock(&want), GRANTED);
        home.expect(PROGRAM, 5);
        assert_eq!(b.status(procedure, &want), Some(GRANTED));
        next.expect(PROGRAM, 5);
        await_states(&server, &one("c", "held"));
        assert_eq!(c.unlock(&want), GRANTED);
        assert!(states(&server).is_empty());
        std::thread::sleep(Duration::from_millis(600));
        let late = home.count(PROGRAM, 5);
        assert!(home.expect_within(Duration::from_millis(1200), PROGRAM, 5).is_none() || late > 0);
        assert_eq!(home.count(PROGRAM, 5), 0, "nobody is called any more");
    }
}

#[test]
fn a_lock_asked_for_again_while_its_callback_is_on_its_way_is_granted_at_once() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[callback]\ntimeout = \"500ms\"\ngive_up = \"30s\"\n");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    home.script(&[], React::Ignore);
    let (mut a, mut b) = (client(10, 4, false, "a"), client(11, 4, false, "b"));
    let want = Want::all(&fh).blocking();
    assert_eq!(a.lock(&want), GRANTED);
    assert_eq!(b.lock(&want), BLOCKED);
    assert_eq!(a.unlock(&want), GRANTED);
    home.expect(PROGRAM, 5);
    assert_eq!(b.lock(&want), GRANTED);
    assert_eq!(states(&server), one("b", "held"));
    // Whatever is still under way when it stops is over by now.
    std::thread::sleep(SILENCE);
    let before = home.count(PROGRAM, 5);
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(home.count(PROGRAM, 5), before, "the callback has ended");
}

#[test]
fn a_client_whose_portmapper_comes_late_is_found() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[callback]\ntimeout = \"200ms\"\ngive_up = \"60s\"\n");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    home.registered(false, false);
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
    assert_eq!(b.lock(&Want::all(&fh).blocking()), BLOCKED);
    assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
    assert!(home.expect_within(SILENCE, PROGRAM, 5).is_none());
    assert_eq!(states(&server), one("b", "granting"));
    home.registered(true, true);
    home.expect(PROGRAM, 5);
    await_states(&server, &one("b", "held"));
}

/// So many callbacks that whoever came after them would wait for longer than this test does.
const SILENT: u64 = 8_000;

#[test]
fn a_silent_client_delays_nobody_else() {
    let Some(world) = World::new() else { return };
    world.file("f");
    world.file("g");
    let server = world.serve("", "[callback]\ntimeout = \"500ms\"\ngive_up = \"60s\"\n");
    let (f, g) = (server.handle("f"), server.handle("g"));
    let (dead, alive) = (Host::at(host(11)), Host::at(host(12)));
    dead.script(&[], React::Ignore);
    dead.portmapper(false);
    let (mut a, mut b, mut c) =
        (Client::new(host(10), "a"), Client::new(host(11), "b"), Client::new(host(12), "c"));
    // Thousands of callbacks to somebody who does not even have a portmapper...
    assert_eq!(a.lock(&Want::all(&f)), GRANTED);
    for n in 0..SILENT {
        let call = b.prepared(2, &Want::bytes(&f, n, 1).blocking());
        b.conn.send(&call);
        if n % 100 == 99 {
            for _ in 0..100 {
                b.conn.receive(PATIENCE).expect("BLOCKED");
            }
        }
    }
    assert_eq!(a.unlock(&Want::all(&f)), GRANTED);
    // ...are in nobody's way.
    for _ in 0..20 {
        assert_eq!(a.lock(&Want::all(&g)), GRANTED);
        assert_eq!(c.lock(&Want::all(&g).blocking()), BLOCKED);
        assert_eq!(a.unlock(&Want::all(&g)), GRANTED);
        let heard = alive.expect_within(Duration::from_secs(10), PROGRAM, 5).expect("its callback");
        assert!(Granted::parse(4, &heard.args).is("c", &Want::all(&g)));
        assert_eq!(c.unlock(&Want::all(&g)), GRANTED);
    }
    let granting = server.query("status")["lock_managers"][0]["locks"].as_u64();
    assert_eq!(granting, Some(SILENT));
}

/// GRANTED_RES from an address.
fn granted_res(from: u8, cookie: &[u8], status: u32) {
    let mut args = Vec::new();
    let mut w = Writer::new(&mut args);
    w.opaque_var(cookie);
    w.u32(status);
    let answer = Conn::udp(host(from), (SERVER, PORT)).call((PROGRAM, 4, 15), &args);
    assert_eq!(answer, Answer::Success(vec![]));
}

/// A client with asynchronous calls that waits behind "a" and hears its GRANTED_MSG; returns the cookie.
fn message(a: &mut Client, b: &mut Client, home: &Host, fh: &[u8]) -> Vec<u8> {
    let want = Want::all(fh).blocking();
    assert_eq!(a.lock(&want), GRANTED);
    let cookie = b.post(7, &want);
    assert_eq!(parse_status(&home.expect(PROGRAM, 12).args, &cookie), BLOCKED);
    assert_eq!(a.unlock(&want), GRANTED);
    let heard = home.expect(PROGRAM, 10);
    assert_eq!(heard.from.ip(), SERVER);
    let granted = Granted::parse(4, &heard.args);
    assert!(granted.is("b", &want));
    granted.cookie
}

#[test]
fn an_asynchronous_waiter_gets_granted_msg_and_its_granted_res_decides() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[callback]\ntimeout = \"5s\"\ngive_up = \"30s\"\n");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    for tcp in [false, true] {
        let (mut a, mut b) = (client(10, 4, tcp, "a"), client(11, 4, tcp, "b"));
        let cookie = message(&mut a, &mut b, &home, &fh);
        assert_eq!(states(&server), one("b", "granting"));
        granted_res(12, &cookie, DENIED);
        granted_res(11, b"a made-up cookie", DENIED);
        assert_eq!(states(&server), one("b", "granting"), "only its client answers, with its cookie");
        granted_res(11, &cookie, GRANTED);
        await_states(&server, &one("b", "held"));
        assert_eq!(b.unlock(&Want::all(&fh)), GRANTED);
        let cookie = message(&mut a, &mut b, &home, &fh);
        granted_res(11, &cookie, DENIED);
        await_states(&server, &[]);
        assert_eq!(home.count(PROGRAM, 10), 0);
    }
}

#[test]
fn a_granted_msg_is_repeated_and_then_unconfirmed() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[callback]\ntimeout = \"300ms\"\ngive_up = \"4s\"\n");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    let (mut a, mut b) = (client(10, 4, false, "a"), client(11, 4, false, "b"));
    let cookie = message(&mut a, &mut b, &home, &fh);
    let again = home.expect(PROGRAM, 10);
    assert_eq!(Granted::parse(4, &again.args).cookie, cookie, "the same grant");
    await_states(&server, &one("b", "unconfirmed"));
}
