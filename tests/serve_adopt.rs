//! A restart that nobody notices: locks are held as they stood, clients are told nothing, who waited waits on, and a call that is
//! repeated gets its old answer.

// Helpers of tests are no less tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod rawrpc;
mod support;

use rawrpc::nlm::*;
use rawrpc::{Client, Conn, Daemon, Host, PATIENCE, SERVER, Tested, Want, World, host};

/// The lock manager.
const LM: &str = "127.0.0.1";

/// The ways in which a server ends. After each the record is complete.
const ENDS: [fn(Daemon); 2] = [Daemon::kill, |server| assert!(server.terminate().success())];

/// Nobody was told anything until now. Not a matter of waiting: a server that meant to would show it.
fn assert_nobody_is_told(server: &Daemon, homes: &[&Host]) {
    for client in server.rows("clients") {
        assert!(client["notify"].is_null(), "{client}");
    }
    for home in homes {
        assert_eq!(home.count(NSM, 6), 0, "{} was told", home.address());
    }
}

#[test]
fn locks_are_held_as_they_stood() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let home = Host::at(host(10));
    let mut server = world.serve("", "");
    let fh = server.handle("f");
    let mut a = Client::new(host(10), "a");
    assert_eq!(a.lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    assert_eq!(a.lock(&Want::bytes(&fh, 20, 10).by(2).shared()), GRANTED);
    for end in ENDS {
        end(server);
        server = world.serve("", "");
        let row = server.lm(LM);
        assert_eq!((&row["state"], &row["locks"]), (&"active".into(), &2.into()), "{row}");
        let mut b = Client::new(host(11), "b");
        assert_eq!(b.lock(&Want::bytes(&fh, 9, 2)), DENIED);
        assert_eq!(b.lock(&Want::bytes(&fh, 20, 10)), DENIED);
        assert_eq!(b.lock(&Want::bytes(&fh, 20, 10).shared()), GRANTED, "readers share");
        assert_eq!(b.unlock(&Want::bytes(&fh, 20, 10)), GRANTED);
        let holder = Tested::Held { exclusive: true, svid: 1, oh: b"1@test".to_vec(), offset: 0, len: 10 };
        assert_eq!(b.test(&Want::bytes(&fh, 9, 2)), holder);
        assert_nobody_is_told(&server, &[&home]);
    }
    // The holder goes on as if nothing had been.
    let mut a = Client::new(host(10), "a");
    assert_eq!(a.lock(&Want::bytes(&fh, 10, 10)), GRANTED);
    assert_eq!(a.unlock(&Want::bytes(&fh, 0, 20)), GRANTED);
    assert_eq!(Client::new(host(11), "b").lock(&Want::bytes(&fh, 0, 20)), GRANTED);
}

#[test]
fn who_waited_is_called_when_the_holder_lets_go_after_the_restart() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let homes = [Host::at(host(11)), Host::at(host(12))];
    for end in ENDS {
        let server = world.serve("", "");
        let fh = server.handle("f");
        let (mut b, mut c) = (Client::new(host(11), "b"), Client::new(host(12), "c"));
        assert_eq!(Client::new(host(10), "a").lock(&Want::all(&fh)), GRANTED);
        assert_eq!(b.lock(&Want::bytes(&fh, 0, 9).blocking()), BLOCKED);
        assert_eq!(c.lock(&Want::bytes(&fh, 5, 9).blocking()), BLOCKED);
        end(server);
        let server = world.serve("", "");
        assert_eq!(server.rows("waiters").len(), 2);
        assert_eq!(Client::new(host(10), "a").unlock(&Want::all(&fh)), GRANTED);
        assert!(homes[0].granted().is("b", &Want::bytes(&fh, 0, 9)), "first come");
        server.await_rows("locks", 1, |l| l["state"] == "held");
        assert_eq!(homes[1].count(PROGRAM, 5), 0, "b holds what c waits for");
        assert_eq!(Client::new(host(11), "b").unlock(&Want::bytes(&fh, 0, 9)), GRANTED);
        assert!(homes[1].granted().is("c", &Want::bytes(&fh, 5, 9)), "first served");
        assert_eq!(Client::new(host(12), "c").unlock(&Want::bytes(&fh, 5, 9)), GRANTED);
        assert_nobody_is_told(&server, &[&homes[0], &homes[1]]);
        end(server);
    }
}

#[test]
fn who_waited_can_cancel_or_ask_again_after_the_restart() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let home = Host::at(host(12));
    let server = world.serve("", "");
    let fh = server.handle("f");
    let want = Want::all(&fh).blocking();
    assert_eq!(Client::new(host(10), "a").lock(&Want::all(&fh)), GRANTED);
    for (last, name) in [(11, "b"), (12, "c")] {
        assert_eq!(Client::new(host(last), name).lock(&want), BLOCKED);
    }
    server.kill();
    let server = world.serve("", "");
    assert_eq!(Client::new(host(11), "b").cancel(&want), GRANTED);
    assert_eq!(Client::new(host(12), "c").lock(&want), BLOCKED, "as Linux does every 30 s");
    let waiters = server.rows("waiters");
    assert_eq!((waiters.len(), &waiters[0]["client"]), (1, &"c".into()), "{waiters:?}");
    assert_eq!(Client::new(host(10), "a").unlock(&Want::all(&fh)), GRANTED);
    assert!(home.granted().is("c", &want));
}

#[test]
fn a_grant_whose_answer_never_came_counts_as_held_after_the_restart() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let home = Host::at(host(11));
    home.script(&[], rawrpc::React::Ignore);
    let server = world.serve("", "[callback]\ntimeout = \"10s\"\ngive_up = \"1m\"\n");
    let fh = server.handle("f");
    let mut a = Client::new(host(10), "a");
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
    assert_eq!(Client::new(host(11), "b").lock(&Want::all(&fh).blocking()), BLOCKED);
    assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
    home.granted();
    server.kill();
    let server = world.serve("", "");
    let locks = server.rows("locks");
    assert_eq!((&locks[0]["client"], &locks[0]["state"]), (&"b".into(), &"unconfirmed".into()), "{locks:?}");
    assert_eq!(Client::new(host(12), "c").lock(&Want::all(&fh)), DENIED, "b may well hold it");
    assert_eq!(Client::new(host(11), "b").unlock(&Want::all(&fh)), GRANTED);
    assert_eq!(Client::new(host(12), "c").lock(&Want::all(&fh)), GRANTED);
}

#[test]
fn an_unlock_that_is_repeated_after_the_restart_does_not_free_a_newer_lock() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let mut server = world.serve("", "");
    let fh = server.handle("f");
    for end in ENDS {
        let mut a = Client::new(host(10), "a");
        let from = a.conn.local();
        assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
        let unlock = a.prepared(4, &Want::all(&fh));
        a.conn.send(&unlock);
        let answer = a.conn.receive(PATIENCE).expect("an answer to UNLOCK");
        assert_eq!(a.lock(&Want::all(&fh)), GRANTED, "a newer lock");
        end(server);
        drop(a);
        server = world.serve("", "");
        let mut again = Conn::try_tcp_at(from, (SERVER, PORT).into()).unwrap();
        again.send(&unlock);
        assert_eq!(again.receive(PATIENCE), Some(answer), "byte for byte");
        assert_eq!(Client::new(host(11), "b").lock(&Want::all(&fh)), DENIED, "the newer lock is held");
        assert_eq!(Client::new(host(10), "a").unlock(&Want::all(&fh)), GRANTED);
    }
}

#[test]
fn a_lock_that_is_repeated_after_the_restart_gets_its_old_answer() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let mut a = Client::new(host(10), "a");
    let from = a.conn.local();
    let lock = a.prepared(2, &Want::all(&fh));
    a.conn.send(&lock);
    let answer = a.conn.receive(PATIENCE).expect("an answer to LOCK");
    assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
    server.kill();
    drop(a);
    let server = world.serve("", "");
    let mut again = Conn::try_tcp_at(from, (SERVER, PORT).into()).unwrap();
    again.send(&lock);
    assert_eq!(again.receive(PATIENCE), Some(answer), "byte for byte");
    assert!(server.rows("locks").is_empty(), "a late copy takes nothing");
}

#[test]
fn a_server_that_ends_in_order_leaves_a_complete_record_whatever_the_durability() {
    let Some(world) = World::new() else { return };
    world.file("f");
    for (n, durability) in ["sync", "relaxed", "none"].into_iter().enumerate() {
        let top = format!("journal.durability = \"{durability}\"\n");
        let server = world.serve(&top, "");
        let fh = server.handle("f");
        assert_eq!(Client::new(host(10), "a").lock(&Want::bytes(&fh, n as u64 * 2, 1)), GRANTED);
        assert!(server.terminate().success());
        let server = world.serve(&top, "");
        let row = server.lm(LM);
        assert_eq!(
            (&row["state"], &row["locks"]),
            (&"active".into(), &(n + 1).into()),
            "{durability}: {row}"
        );
        assert_eq!(Client::new(host(11), "b").lock(&Want::bytes(&fh, n as u64 * 2, 1)), DENIED);
        assert!(server.terminate().success());
    }
}
