//! What the running binary withstands: limits per client, retransmissions, garbage, idle and slow connections. Whoever goes too
//! far is refused, the others feel nothing.

// Helpers of tests are no less tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod rawrpc;
mod support;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use rawrpc::nlm::*;
use rawrpc::{Client, Conn, Daemon, Host, PATIENCE, SERVER, SILENCE, Want, World, host};

/// Every TCP port of the server: NFS, MOUNT, NLM, NSM, rpcbind.
const PORTS: [u16; 5] = [2049, 20048, PORT, NSM_PORT, 111];

/// Each program answers a NULL call of somebody else.
fn answers_everywhere(except: &[u16]) {
    let programs = [(2049, 100_003, 3), (20048, 100_005, 3), (PORT, PROGRAM, 4), (NSM_PORT, NSM, 1)];
    for (port, program, version) in programs.into_iter().filter(|p| !except.contains(&p.0)) {
        let mut conn = Conn::tcp(host(200), (SERVER, port));
        assert_eq!(conn.call((program, version, 0), &[]).results(), b"");
    }
}

#[test]
fn a_client_over_its_limit_of_locks_gets_no_more_and_the_others_feel_nothing() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[limits]\nlocks_per_client = 10\n");
    let fh = server.handle("f");
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    for n in 0..10 {
        assert_eq!(a.lock(&Want::bytes(&fh, n * 10, 5)), GRANTED);
    }
    assert_eq!(a.lock(&Want::bytes(&fh, 1000, 5)), NOLOCKS);
    assert_eq!(a.lock(&Want::bytes(&fh, 1000, 5).blocking()), NOLOCKS);
    assert_eq!(a.lock(&Want::bytes(&fh, 10, 5)), GRANTED, "it has that one already");
    assert_eq!(b.lock(&Want::bytes(&fh, 2000, 5)), GRANTED);
    assert_eq!(server.counter("over_limit"), 2);
    assert_eq!(a.unlock(&Want::bytes(&fh, 0, 5)), GRANTED);
    assert_eq!(a.lock(&Want::bytes(&fh, 1000, 5)), GRANTED, "there is room again");
    assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
}

#[test]
fn a_client_cannot_fill_the_log() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[limits]\nlocks_per_client = 1\n");
    let fh = server.handle("f");
    let (mut a, mut bad) = (Client::new(host(10), "a"), Client::new(host(66), "a"));
    assert_eq!(a.lock(&Want::bytes(&fh, 0, 1)), GRANTED);
    for n in 1..=500 {
        assert_eq!(a.lock(&Want::bytes(&fh, n * 10, 1)), NOLOCKS);
        bad.post(4, &Want::all(&fh));
    }
    assert_eq!(bad.lock(&Want::bytes(&fh, 7, 1)), GRANTED, "after all of these");
    assert_eq!((server.counter("over_limit"), server.counter("refused")), (500, 500));
    let log = server.log();
    assert!(log.contains("limits.locks_per_client") && log.contains("127.0.0.66"), "{log}");
    assert!(log.lines().count() < 30, "{} lines", log.lines().count());
}

#[test]
fn a_client_over_its_limit_of_waiters_may_wait_for_no_more() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[limits]\nwaiters_per_client = 3\n");
    let fh = server.handle("f");
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
    for n in 1..=3 {
        assert_eq!(b.lock(&Want::bytes(&fh, 0, 1).by(n).blocking()), BLOCKED);
    }
    assert_eq!(b.lock(&Want::bytes(&fh, 0, 1).by(4).blocking()), NOLOCKS);
    assert_eq!(b.lock(&Want::bytes(&fh, 0, 1).by(1).blocking()), BLOCKED, "that one waits already");
    let mut c = Client::new(host(12), "c");
    assert_eq!(c.lock(&Want::bytes(&fh, 0, 1).blocking()), BLOCKED);
    assert_eq!(server.rows("waiters").len(), 4);
}

#[test]
fn one_address_may_use_only_so_many_names() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[limits]\nnames_per_address = 3\n");
    let fh = server.handle("f");
    for n in 0..3 {
        let mut client = Client::new(host(10), &format!("name-{n}"));
        assert_eq!(client.lock(&Want::bytes(&fh, n * 10, 1)), GRANTED);
    }
    assert_eq!(Client::new(host(10), "one-more").lock(&Want::bytes(&fh, 100, 1)), NOLOCKS);
    assert_eq!(Client::new(host(10), "name-0").lock(&Want::bytes(&fh, 101, 1)), GRANTED);
    assert_eq!(Client::new(host(11), "one-more").lock(&Want::bytes(&fh, 102, 1)), GRANTED);
}

#[test]
fn there_may_be_only_so_many_clients() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[limits]\nclients = 4\n");
    let fh = server.handle("f");
    for n in 0..4u8 {
        let mut client = Client::new(host(10 + n), "host");
        assert_eq!(client.lock(&Want::bytes(&fh, u64::from(n), 1).by(n.into())), GRANTED);
    }
    let mut late = Client::new(host(20), "late");
    assert_eq!(late.lock(&Want::bytes(&fh, 100, 1)), NOLOCKS);
    assert_eq!(late.unlock(&Want::bytes(&fh, 100, 1)), GRANTED, "to unlock is always legal");
}

#[test]
fn a_repeated_call_gets_the_same_bytes_and_changes_nothing() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let mut b = Client::new(host(11), "b");
    for tcp in [true, false] {
        let to = (SERVER, PORT);
        let conn = if tcp { Conn::tcp(host(10), to) } else { Conn::udp(host(10), to) };
        let mut a = Client::on(conn, 4, "a");
        let want = Want::all(&fh);
        let mut twice = |procedure| {
            let call = a.prepared(procedure, &want);
            a.conn.send(&call);
            let first = a.conn.receive(PATIENCE).expect("an answer");
            (call, first)
        };
        let (lock, granted) = twice(2);
        let (unlock, freed) = twice(4);
        assert_eq!(b.lock(&want), GRANTED, "now it is b's");
        for (call, reply) in [(&unlock, &freed), (&lock, &granted), (&unlock, &freed)] {
            a.conn.send(call);
            assert_eq!(a.conn.receive(PATIENCE).as_ref(), Some(reply));
        }
        let rows = server.rows("locks");
        assert_eq!((rows.len(), &rows[0]["client"]), (1, &"b".into()), "the repetition took nothing from b");
        assert_eq!(b.unlock(&want), GRANTED);
    }
    assert_eq!(server.counter("granted"), 4);
}

#[test]
fn a_call_repeated_over_a_new_connection_from_the_same_port_is_the_same_call() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    let want = Want::all(&fh);
    assert_eq!(a.lock(&want), GRANTED);
    let unlock = a.prepared(4, &want);
    a.conn.send(&unlock);
    let freed = a.conn.receive(PATIENCE).expect("an answer");
    assert_eq!(a.lock(&want), GRANTED);
    // Linux comes back from the port it had, and sends again what it has no answer to.
    a.conn.reconnect();
    a.conn.send(&unlock);
    assert_eq!(a.conn.receive(PATIENCE), Some(freed));
    assert_eq!(b.lock(&want), DENIED, "the later lock is still there");
}

#[test]
fn a_repeated_unlock_does_not_free_a_newer_lock_of_the_same_owner() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let mut a = Client::udp(host(10), "a");
    let want = Want::all(&fh);
    assert_eq!(a.lock(&want), GRANTED);
    let unlock = a.prepared(4, &want);
    a.conn.send(&unlock);
    let freed = a.conn.receive(PATIENCE).expect("an answer");
    assert_eq!(a.lock(&want), GRANTED);
    a.conn.send(&unlock);
    assert_eq!(a.conn.receive(PATIENCE), Some(freed));
    assert_eq!(server.rows("locks").len(), 1);
}

/// 200 connections, spread over the ports, each of which does `what`; the server must stay small and answer others.
fn hostile(server: &Daemon, what: impl Fn(usize, &mut std::net::TcpStream)) {
    let idle = server.rss_kib();
    let mut conns: Vec<Conn> = (0..200)
        .map(|n| {
            let port = PORTS[n % PORTS.len()];
            Conn::tcp(host(10 + (n % 100) as u8), SocketAddr::from((SERVER, port)))
        })
        .collect();
    for (n, conn) in conns.iter_mut().enumerate() {
        conn.stream().set_write_timeout(Some(Duration::from_millis(40))).unwrap();
        what(n, conn.stream());
    }
    answers_everywhere(&[]);
    let now = server.rss_kib();
    assert!(now < idle + (64 << 10), "from {idle} KiB to {now} KiB");
}

/// A cheap generator; the seed is the number of the connection, so that a failure can be repeated.
fn noise(seed: usize, length: usize) -> Vec<u8> {
    let mut x = seed as u64 * 2_654_435_761 + 88_172_645_463_325_252;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn garbage_on_two_hundred_connections_costs_little_and_delays_nobody() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let mut server = world.serve("rpcbind = \"own\"\n", "");
    let fh = server.handle("f");
    let mut a = Client::new(host(200), "a");
    // Random bytes; records that claim 2 GiB, and then bring a lot; a million empty fragments; the header of a call with
    // absurd lengths inside; one byte of a record.
    hostile(&server, |n, s| drop(s.write_all(&noise(n, 100_000))));
    hostile(&server, |n, s| {
        let _ = s.write_all(&[0xff, 0xff, 0xff, 0xff]);
        let _ = s.write_all(&noise(n, 2_000_000));
    });
    hostile(&server, |_, s| {
        let _ = s.write_all(&[0x00, 0x0f, 0xff, 0xff]);
        let _ = s.write_all(&vec![0; 0xfffff]);
        let _ = s.write_all(&[0x7f, 0xff, 0xff, 0xff]);
        let _ = s.write_all(&vec![0; 1_000_000]);
    });
    hostile(&server, |_, s| drop(s.write_all(&vec![0; 1_000_000])));
    hostile(&server, |n, s| {
        let programs = [(100_003, 3), (100_005, 3), (PROGRAM, 4), (NSM, 1), (100_000, 2)];
        let (program, version) = programs[n % PORTS.len()];
        for procedure in 0..24 {
            let mut args = vec![0xff; 4];
            args.extend_from_slice(&noise(n, 200));
            let call = rawrpc::wire::call(procedure, program, version, procedure, &args);
            let _ = s.write_all(&rawrpc::wire::record(&call));
            // The same, cut off inside the credentials, and with a credential of absurd length.
            let _ = s.write_all(&rawrpc::wire::record(&call[..31]));
            let mut absurd = call.clone();
            absurd[28..32].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
            let _ = s.write_all(&rawrpc::wire::record(&absurd));
        }
    });
    hostile(&server, |_, s| drop(s.write_all(&[0x80])));
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED, "a connection from before still works");
    assert!(server.runs());
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(log.len() < 1 << 20, "garbage does not fill the log: {} bytes", log.len());
}

#[test]
fn garbage_datagrams_change_nothing() {
    let Some(world) = World::new() else { return };
    let mut server = world.serve("rpcbind = \"own\"\n", "");
    let idle = server.rss_kib();
    for port in PORTS {
        let mut conn = Conn::udp(host(10), (SERVER, port));
        for n in 0..500 {
            // Where nothing listens (NFS has no UDP) an earlier datagram's refusal is no news.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                conn.send(&noise(n, n * 3));
            }));
        }
    }
    answers_everywhere(&[]);
    assert!(server.runs() && server.rss_kib() < idle + (64 << 10));
    assert!(!server.log().contains("panicked"));
}

#[test]
fn a_thousand_idle_connections_leave_room_for_others() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 8192, 8192);
    let idle = server.rss_kib();
    let mut conns: Vec<Conn> = (0..1000u32)
        .map(|n| Conn::tcp(host(10 + (n % 100) as u8), SocketAddr::from((SERVER, PORTS[n as usize % 4]))))
        .collect();
    assert_eq!(Client::new(host(200), "a").lock(&Want::all(&fh)), GRANTED);
    answers_everywhere(&[]);
    assert!(server.rss_kib() < idle + (64 << 10), "{} of {idle} KiB", server.rss_kib());
    // They are not closed either.
    let last = conns.last_mut().unwrap();
    assert_eq!(last.call((NSM, 1, 0), &[]).results(), b"");
}

#[test]
fn past_the_limit_of_connections_others_are_still_served() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[limits]\nconnections = 20\n");
    let fh = server.handle("f");
    let mut a = Client::new(host(200), "a");
    assert_eq!(a.lock(&Want::bytes(&fh, 0, 1)), GRANTED);
    let mut refused = 0;
    let mut conns = Vec::new();
    for _ in 0..60 {
        let Ok(mut conn) = Conn::try_tcp(host(10), (SERVER, PORT).into()) else {
            refused += 1;
            continue;
        };
        conn.stream().set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let closed = matches!(conn.stream().read(&mut [0; 1]), Ok(0));
        refused += u32::from(closed);
        conns.push(conn);
    }
    assert!(refused >= 30, "{refused} of 60 refused");
    assert_eq!(a.lock(&Want::bytes(&fh, 5, 1)), GRANTED, "a connection from before still works");
    let mut b = Client::udp(host(201), "b");
    assert_eq!(b.lock(&Want::bytes(&fh, 9, 1)), GRANTED, "and UDP");
    drop(conns);
    support::wait_for("room for a connection", PATIENCE, || {
        let mut conn = Conn::try_tcp(host(11), (SERVER, PORT).into()).map_err(|e| e.to_string())?;
        let answer = conn.call_within(Duration::from_secs(1), (PROGRAM, 4, 0), &[]);
        answer.map(drop).ok_or("no answer".into())
    });
}

#[test]
fn a_caller_that_takes_no_answers_stops_only_itself() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let idle = server.rss_kib();
    let mut deaf = Client::new(host(10), "deaf");
    deaf.conn.stream().set_write_timeout(Some(SILENCE)).unwrap();
    let mut sent = 0;
    for _ in 0..200_000 {
        let call = rawrpc::wire::record(&deaf.prepared(1, &Want::all(&fh)));
        if deaf.conn.stream().write_all(&call).is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < 200_000, "the server stops reading from it");
    assert!(server.rss_kib() < idle + (64 << 10), "after {sent} calls");
    assert_eq!(Client::new(host(11), "a").lock(&Want::all(&fh)), GRANTED);
}

#[test]
fn slow_bytes_make_a_whole_call() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let mut a = Client::new(host(10), "a");
    let call = a.prepared(2, &Want::all(&fh));
    // In fragments of 7 bytes, byte by byte.
    let mut bytes = Vec::new();
    for (n, part) in call.chunks(7).enumerate() {
        let last = if (n + 1) * 7 >= call.len() { 0x8000_0000 } else { 0 };
        bytes.extend_from_slice(&(last | part.len() as u32).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    for byte in bytes {
        a.conn.stream().write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_micros(200));
    }
    let xid = u32::from_be_bytes(call[..4].try_into().unwrap());
    let results = a.conn.answer_to(xid, PATIENCE).expect("an answer").results();
    assert_eq!(results[results.len() - 4..], GRANTED.to_be_bytes());
}

#[test]
fn a_file_with_very_many_locks_is_walked_quickly_and_right() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    let mut a = Client::new(host(10), "a");
    const LOCKS: u64 = 20_000;
    // A window of calls under way, as a client with many processes would have.
    let mut open = 0;
    for n in 0..LOCKS {
        let call = a.prepared(2, &Want::bytes(&fh, n * 2, 1));
        a.conn.send(&call);
        open += 1;
        while open == 500 || (n + 1 == LOCKS && open > 0) {
            let message = a.conn.receive(PATIENCE).expect("an answer");
            let results = rawrpc::wire::parse_reply(&message).1.results();
            assert_eq!(results[results.len() - 4..], GRANTED.to_be_bytes());
            open -= 1;
        }
    }
    assert_eq!(server.query("status")["lock_managers"][0]["locks"], LOCKS);
    let mut b = Client::new(host(11), "b");
    for n in (0..LOCKS).step_by(997) {
        assert_eq!(b.lock(&Want::bytes(&fh, n * 2, 1)), DENIED);
        assert_eq!(b.lock(&Want::bytes(&fh, n * 2 + 1, 1)), GRANTED);
    }
    assert_eq!(b.unlock(&Want::all(&fh)), GRANTED);
    assert_eq!(b.lock(&Want::all(&fh).blocking()), BLOCKED);
    assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
    assert!(home.granted().is("b", &Want::all(&fh)));
}
