//! NLM against the running binary, by raw calls: every version, both transports, synchronous and asynchronous, and each
//! answer that a request can get at once. Callbacks are in `nlm_granted.rs`, reboots in `nlm_reboot.rs`.

// Helpers of tests are no less tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod rawrpc;
mod support;

use rawrpc::nlm::*;
use rawrpc::{Answer, Client, Conn, Host, PATIENCE, SERVER, SILENCE, Tested, Want, World, host};

/// A client in one version over TCP or UDP.
fn client(from: u8, version: u32, tcp: bool, name: &str) -> Client {
    let to = (SERVER, PORT);
    let conn = if tcp { Conn::tcp(host(from), to) } else { Conn::udp(host(from), to) };
    Client::on(conn, version, name)
}

const WAYS: [(u32, bool); 6] = [(1, true), (1, false), (3, true), (3, false), (4, true), (4, false)];

#[test]
fn locks_conflict_and_are_freed_in_every_version_over_both_transports() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    for (version, tcp) in WAYS {
        let mut a = client(10, version, tcp, "a");
        let mut b = client(11, version, tcp, "b");
        let want = Want::bytes(&fh, 100, 50).by(7);
        let other = Want::bytes(&fh, 149, 1).by(8);
        assert_eq!(a.lock(&want), GRANTED);
        assert_eq!(a.lock(&want), GRANTED, "what one holds one may lock again");
        assert_eq!(b.lock(&other), DENIED);
        let holder = Tested::Held { exclusive: true, svid: 7, oh: b"7@test".to_vec(), offset: 100, len: 50 };
        assert_eq!(b.test(&other), holder, "version {version}, tcp {tcp}");
        assert_eq!(a.test(&want), Tested::Free, "one's own lock is in nobody's way");
        assert_eq!(b.lock(&Want::bytes(&fh, 150, 1).by(8)), GRANTED, "the byte behind it is free");
        assert_eq!(a.unlock(&want), GRANTED);
        assert_eq!(a.unlock(&want), GRANTED, "there is nothing to free any more, and that is fine");
        assert_eq!(b.lock(&other), GRANTED);
        assert_eq!(b.unlock(&Want::all(&fh).by(8)), GRANTED);
        assert!(server.rows("locks").is_empty());
    }
}

#[test]
fn readers_share_and_a_writer_is_told_of_a_reader() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    let reader = Want::bytes(&fh, 0, 10).shared();
    assert_eq!(a.lock(&reader.clone().by(1)), GRANTED);
    assert_eq!(b.lock(&reader.clone().by(2)), GRANTED);
    assert_eq!(a.lock(&Want::bytes(&fh, 5, 1).by(1)), DENIED, "no upgrade over another reader");
    let seen = a.test(&Want::bytes(&fh, 5, 1).by(1));
    let holder = Tested::Held { exclusive: false, svid: 2, oh: b"2@test".to_vec(), offset: 0, len: 10 };
    assert_eq!(seen, holder);
    assert_eq!(b.unlock(&reader.by(2)), GRANTED);
    assert_eq!(a.lock(&Want::bytes(&fh, 5, 1).by(1)), GRANTED, "the upgrade");
    let rows = server.rows("locks");
    assert_eq!(rows.len(), 3, "read, write, read: {rows:?}");
    assert_eq!(rows[0]["path"], world.export().join("f").to_str().unwrap());
}

#[test]
fn version_4_has_64_bits_and_names_a_range_beyond_them() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let mut a = Client::new(host(10), "a");
    let high = Want::bytes(&fh, 1 << 62, 1 << 40);
    assert_eq!(a.lock(&high), GRANTED);
    assert_eq!(a.lock(&Want::bytes(&fh, u64::MAX, 1).by(2)), GRANTED, "the last byte there can be");
    assert_eq!(a.lock(&Want::bytes(&fh, u64::MAX - 1, 10).by(3)), FBIG);
    assert_eq!(a.lock(&Want::bytes(&fh, 5, u64::MAX).by(3)), FBIG);
    let mut b = Client::new(host(11), "b");
    let holder =
        Tested::Held { exclusive: true, svid: 1, oh: b"1@test".to_vec(), offset: 1 << 62, len: 1 << 40 };
    assert_eq!(b.test(&Want::bytes(&fh, (1 << 62) + 5, 1).by(9)), holder);
    // Version 1 cannot name these bytes, but sees that they are taken.
    let mut old = client(12, 1, true, "old");
    assert_eq!(old.lock(&Want::bytes(&fh, 4_000_000_000, 0)), DENIED);
    assert!(matches!(old.test(&Want::bytes(&fh, 4_000_000_000, 0)), Tested::Held { svid: 1, .. }));
    assert_eq!(old.lock(&Want::bytes(&fh, 0, u64::from(u32::MAX))), GRANTED);
}

#[test]
fn a_blocked_request_waits_until_it_is_cancelled() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    for (version, tcp) in WAYS {
        let (mut a, mut b) = (client(10, version, tcp, "a"), client(11, version, tcp, "b"));
        let want = Want::bytes(&fh, 0, 10).blocking();
        assert_eq!(a.lock(&want), GRANTED);
        assert_eq!(b.lock(&want), BLOCKED);
        assert_eq!(b.lock(&want), BLOCKED, "Linux asks again each 30 s");
        let rows = server.rows("waiters");
        assert_eq!(rows.len(), 1, "a repeated request waits once: {rows:?}");
        assert_eq!((&rows[0]["client"], &rows[0]["waits_for"][0]["client"]), (&"b".into(), &"a".into()));
        assert_eq!(b.cancel(&want), GRANTED);
        assert_eq!(b.cancel(&want), GRANTED, "a repeated CANCEL is no error");
        assert!(server.rows("waiters").is_empty());
        assert_eq!(a.unlock(&want), GRANTED);
    }
}

#[test]
fn a_deadlock_over_two_files_is_refused_in_each_versions_words() {
    let Some(world) = World::new() else { return };
    world.file("f");
    world.file("g");
    let server = world.serve("", "");
    let (f, g) = (server.handle("f"), server.handle("g"));
    for (version, answer) in [(1, DENIED), (3, DENIED), (4, DEADLOCK)] {
        let (mut a, mut b) = (client(10, version, true, "a"), client(11, version, true, "b"));
        assert_eq!(a.lock(&Want::all(&f)), GRANTED);
        assert_eq!(b.lock(&Want::all(&g)), GRANTED);
        assert_eq!(a.lock(&Want::all(&g).blocking()), BLOCKED);
        assert_eq!(b.lock(&Want::all(&f).blocking()), answer);
        assert_eq!(a.cancel(&Want::all(&g).blocking()), GRANTED);
        assert_eq!((a.unlock(&Want::all(&f)), b.unlock(&Want::all(&g))), (GRANTED, GRANTED));
    }
}

#[test]
fn an_unmonitored_lock_never_blocks_and_is_not_written_to_the_list() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    assert_eq!(a.nm_lock(&Want::all(&fh)), GRANTED);
    assert_eq!(b.nm_lock(&Want::all(&fh).blocking()), DENIED);
    assert!(server.rows("waiters").is_empty());
    assert!(server.rows("clients").iter().all(|c| c["monitored"] == false));
    let record = server.record("127.0.0.1");
    assert!(record.iter().any(|r| r["type"] == "set"), "the lock is in the record: {record:?}");
    assert!(record.iter().all(|r| r["type"] != "client"), "whom to notify: {record:?}");
    assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
}

#[test]
fn shares_conflict_by_what_is_done_and_denied() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    for version in [3, 4] {
        let (mut a, mut b) = (client(10, version, true, "a"), client(11, version, true, "b"));
        // a reads and denies writing.
        assert_eq!(a.share(20, &fh, b"a", 2, 1), GRANTED);
        assert_eq!(b.share(20, &fh, b"b", 0, 1), GRANTED, "reading is not denied");
        assert_eq!(b.share(20, &fh, b"c", 0, 2), DENIED, "writing is");
        assert_eq!(b.share(20, &fh, b"c", 1, 1), DENIED, "a reads, so reading cannot be denied any more");
        assert_eq!(a.share(21, &fh, b"a", 2, 1), GRANTED);
        assert_eq!(b.share(20, &fh, b"c", 0, 2), GRANTED);
        assert!(b.free_all(PATIENCE));
        assert_eq!(a.share(20, &fh, b"a", 3, 3), GRANTED, "FREE_ALL drops shares");
        assert!(a.free_all(PATIENCE));
    }
    // Version 1 does not have these procedures.
    let mut old = client(12, 1, true, "old");
    let args = old.args(2, b"c", &Want::all(&fh));
    for procedure in 17..=24 {
        assert_eq!(old.conn.call((PROGRAM, 1, procedure), &args), Answer::ProcUnavail);
    }
}

#[test]
fn free_all_drops_what_the_caller_holds_and_waits_for_and_nothing_else() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    for n in 0..5 {
        assert_eq!(a.lock(&Want::bytes(&fh, n * 10, 5).by(n as u32 + 1)), GRANTED);
    }
    assert_eq!(b.lock(&Want::bytes(&fh, 100, 5)), GRANTED);
    assert_eq!(a.lock(&Want::bytes(&fh, 100, 5).blocking()), BLOCKED);
    assert!(a.free_all(PATIENCE));
    assert!(server.rows("waiters").is_empty());
    let rows = server.rows("locks");
    assert_eq!((rows.len(), &rows[0]["client"]), (1, &"b".into()));
}

#[test]
fn a_file_that_is_gone_and_a_handle_that_never_was_are_stale() {
    let Some(world) = World::new() else { return };
    world.file("f");
    world.file("gone");
    let server = world.serve("", "");
    let (good, gone) = (server.handle("f"), server.handle("gone"));
    std::fs::remove_file(world.export().join("gone")).unwrap();
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 0xff;
    let mut a = Client::new(host(10), "a");
    for bad in [gone.clone(), changed, vec![], vec![0; 64], vec![0xff; 1024]] {
        assert_eq!(a.lock(&Want::all(&bad)), STALE, "{bad:?}");
        assert_eq!(a.test(&Want::all(&bad)), Tested::Other(STALE));
        assert!(matches!(a.unlock(&Want::all(&bad)), GRANTED | STALE));
    }
    let mut old = client(11, 3, true, "old");
    assert_eq!(old.lock(&Want::all(&gone)), NOLOCKS, "version 3 has no word for it");
    assert_eq!(a.lock(&Want::all(&good)), GRANTED);
}

#[test]
fn a_lock_outlives_the_name_of_its_file() {
    let Some(world) = World::new() else { return };
    let path = world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
    std::fs::rename(&path, world.export().join("renamed")).unwrap();
    assert_eq!(server.handle("renamed"), fh, "the same handle");
    assert_eq!(b.lock(&Want::all(&fh)), DENIED);
    std::fs::remove_file(world.export().join("renamed")).unwrap();
    assert_eq!(a.unlock(&Want::all(&fh)), GRANTED, "what is gone can still be unlocked");
    assert!(server.rows("locks").is_empty());
}

#[test]
fn a_read_only_export_takes_readers_only() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let export = format!("[[export]]\npath = {:?}\nro = true\ninsecure = true\n", world.export());
    let server = world.serve("", &export);
    let fh = server.handle("f");
    let mut a = Client::new(host(10), "a");
    assert_eq!(a.lock(&Want::all(&fh)), ROFS);
    assert_eq!(a.lock(&Want::all(&fh).blocking()), ROFS);
    assert_eq!(a.lock(&Want::all(&fh).shared()), GRANTED);
    let mut old = client(11, 3, true, "old");
    assert_eq!(old.lock(&Want::all(&fh)), NOLOCKS, "version 3 has no word for it");
}

#[test]
fn a_client_that_may_not_use_the_export_gets_no_lock_there() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let export = format!(
        "[[export]]\npath = {:?}\ninsecure = true\nclients = [\"127.0.0.250\", \"127.0.0.10\"]\n",
        world.export()
    );
    let server = world.serve("", &export);
    let fh = server.handle("f");
    assert_eq!(Client::new(host(10), "a").lock(&Want::all(&fh).shared()), GRANTED);
    let mut b = Client::new(host(11), "b");
    assert_ne!(b.lock(&Want::all(&fh).shared()), GRANTED);
    assert_ne!(b.lock(&Want::all(&fh).shared().blocking()), BLOCKED);
}

#[test]
fn what_is_no_call_is_named_and_the_connection_lives_on() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    for tcp in [true, false] {
        let mut a = client(10, 4, tcp, "a");
        let whole = a.args(2, b"c", &Want::all(&fh));
        assert_eq!(a.conn.call((PROGRAM, 4, 0), &[]), Answer::Success(vec![]), "NULL");
        for cut in [0, 3, 4, 11, whole.len() / 2, whole.len() - 4, whole.len() - 1] {
            assert_eq!(a.conn.call((PROGRAM, 4, 2), &whole[..cut]), Answer::GarbageArgs, "cut at {cut}");
        }
        let longer = [&whole[..], &[0; 4]].concat();
        assert_eq!(a.conn.call((PROGRAM, 4, 2), &longer), Answer::GarbageArgs, "something behind");
        let huge = [&0xffff_ff00u32.to_be_bytes()[..], &[0; 40]].concat();
        assert_eq!(a.conn.call((PROGRAM, 4, 2), &huge), Answer::GarbageArgs, "a length beyond the message");
        assert_eq!(a.conn.call((PROGRAM, 4, 24), &whole), Answer::ProcUnavail);
        assert_eq!(a.conn.call((PROGRAM, 4, 17), &whole), Answer::ProcUnavail);
        assert_eq!(a.conn.call((PROGRAM, 2, 2), &whole), Answer::ProgMismatch(1, 4));
        assert_eq!(a.conn.call((PROGRAM, 5, 2), &whole), Answer::ProgMismatch(1, 4));
        assert_eq!(a.conn.call((PROGRAM + 1, 4, 2), &whole), Answer::ProgUnavail);
        assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
        assert_eq!(a.unlock(&Want::all(&fh)), GRANTED);
    }
}

#[test]
fn cookies_and_owners_of_every_length_come_back_byte_for_byte() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    for length in [0, 1, 2, 3, 4, 5, 8, 16, 20, 255, 1024] {
        let bytes: Vec<u8> = (0..length).map(|i| (i * 7 + length) as u8).collect();
        let want = Want { oh: bytes.clone(), ..Want::all(&fh) };
        let args = a.args(2, &bytes, &want);
        let results = a.conn.call((PROGRAM, 4, 2), &args).results();
        assert_eq!(parse_status(&results, &bytes), GRANTED);
        assert!(matches!(b.test(&Want::all(&fh).by(9)), Tested::Held { oh, .. } if oh == bytes));
        assert_eq!(a.unlock(&want), GRANTED);
    }
    let args = a.args(2, &[7; 1028], &Want::all(&fh));
    assert_eq!(a.conn.call((PROGRAM, 4, 2), &args), Answer::GarbageArgs, "over the protocol's 1024");
}

#[test]
fn asynchronous_requests_are_answered_by_a_call_to_the_clients_own_nlm() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let (home, other) = (Host::at(host(10)), Host::at(host(11)));
    for (version, tcp) in WAYS {
        let (mut a, mut b) = (client(10, version, tcp, "a"), client(11, version, tcp, "b"));
        let want = Want::bytes(&fh, 0, 10).by(3);
        // LOCK_MSG, TEST_MSG of another, CANCEL_MSG, UNLOCK_MSG, each with its _RES.
        assert_eq!(res(&home, &mut a, 7, &want), GRANTED);
        let cookie = b.post(6, &want.clone().by(4));
        let heard = other.expect(PROGRAM, 11);
        let holder = Tested::Held { exclusive: true, svid: 3, oh: b"3@test".to_vec(), offset: 0, len: 10 };
        assert_eq!(parse_tested(version, &heard.args, &cookie), holder);
        assert_eq!(res(&other, &mut b, 7, &want.clone().by(4)), DENIED);
        assert_eq!(res(&other, &mut b, 7, &want.clone().by(4).blocking()), BLOCKED);
        assert_eq!(res(&other, &mut b, 8, &want.clone().by(4).blocking()), GRANTED);
        assert!(server.rows("waiters").is_empty());
        assert_eq!(res(&home, &mut a, 9, &want), GRANTED);
        assert!(server.rows("locks").is_empty());
    }
}

/// Posts a _MSG and returns the status of its _RES, which must come from where the request went, in the same version and
/// over the same transport.
fn res(home: &Host, client: &mut Client, procedure: u32, want: &Want) -> u32 {
    let cookie = client.post(procedure, want);
    let heard = home.expect(PROGRAM, procedure + 5);
    assert_eq!(heard.version, client.version);
    assert_eq!(heard.from.ip(), SERVER);
    if !heard.tcp {
        assert_eq!(heard.from.port(), PORT, "BSD lockd hears only the port that it asked");
    }
    parse_status(&heard.args, &cookie)
}

#[test]
fn asynchronous_requests_get_an_empty_reply_of_their_own() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let home = Host::at(host(10));
    let mut a = Client::new(host(10), "a");
    let args = a.args(7, b"cookie", &Want::all(&fh));
    assert_eq!(a.conn.call((PROGRAM, 4, 7), &args), Answer::Success(vec![]));
    assert_eq!(parse_status(&home.expect(PROGRAM, 12).args, b"cookie"), GRANTED);
}

#[test]
fn an_answer_finds_a_client_that_is_registered_for_one_transport_only() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let home = Host::at(host(10));
    home.registered(false, true);
    let mut a = Client::new(host(10), "a");
    let cookie = a.post(7, &Want::all(&fh));
    let heard = home.expect(PROGRAM, 12);
    assert!(!heard.tcp);
    assert_eq!(parse_status(&heard.args, &cookie), GRANTED);
}

#[test]
fn calls_that_only_a_client_would_get_change_nothing() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let mut a = Client::new(host(10), "a");
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
    // GRANTED to the server, and a GRANTED_RES, TEST_RES that nobody waits for.
    let cookie = b"nobody's";
    let args = a.args(1, cookie, &Want::all(&fh));
    let results = a.conn.call((PROGRAM, 4, 5), &args).results();
    assert_eq!(parse_status(&results, cookie), DENIED);
    let mut res = Vec::new();
    let mut w = lockferry_xdr::Writer::new(&mut res);
    w.opaque_var(cookie);
    w.u32(DENIED);
    for procedure in [12, 13, 14, 15] {
        let answer = a.conn.call_within(SILENCE, (PROGRAM, 4, procedure), &res);
        assert!(matches!(answer, None | Some(Answer::Success(_))), "{procedure}: {answer:?}");
    }
    assert_eq!(server.rows("locks").len(), 1);
}

#[test]
fn calls_on_one_connection_overtake_each_other() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let mut a = Client::new(host(10), "a");
    let calls: Vec<Vec<u8>> =
        (0..500u64).map(|n| a.prepared(2, &Want::bytes(&fh, n * 2, 1).by(n as u32))).collect();
    for call in &calls {
        a.conn.send(call);
    }
    let mut open: std::collections::BTreeSet<u32> =
        calls.iter().map(|c| u32::from_be_bytes(c[..4].try_into().unwrap())).collect();
    while !open.is_empty() {
        let message = a.conn.receive(PATIENCE).expect("an answer to each call");
        let (xid, answer) = rawrpc::wire::parse_reply(&message);
        assert!(open.remove(&xid), "one answer to each call");
        let results = answer.results();
        assert_eq!(results[results.len() - 4..], [0; 4], "granted");
    }
    assert_eq!(server.query("status")["lock_managers"][0]["locks"], 500);
}

#[test]
fn a_client_that_takes_no_asynchronous_answers_takes_nobody_elses() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let (dead, home) = (Host::at(host(10)), Host::at(host(11)));
    dead.portmapper(false);
    let mut a = Client::new(host(10), "a");
    for n in 0..2000u32 {
        a.post(6, &Want::all(&fh).by(n));
        if n % 100 == 99 {
            for _ in 0..100 {
                a.conn.receive(PATIENCE).expect("the empty reply");
            }
        }
    }
    let mut b = Client::new(host(11), "b");
    assert_eq!(res(&home, &mut b, 7, &Want::all(&fh)), GRANTED);
}

#[test]
fn a_user_who_may_not_open_the_file_gets_no_lock_on_it() {
    let Some(world) = World::new() else { return };
    let path = world.file("secret");
    world.sh(&format!("chmod 600 '{}' && chown 1000 '{}'", path.display(), path.display()));
    let server = world.serve("", "");
    let fh = server.handle("secret");
    let mut a = Client::new(host(10), "a");
    let mut lock_as = |uid: u32, want: &Want| {
        let args = a.args(2, b"cookie", want);
        let xid = a.conn.xid();
        a.conn.send(&rawrpc::wire::call_as(uid, xid, PROGRAM, 4, 2, &args));
        parse_status(&a.conn.answer_to(xid, PATIENCE).unwrap().results(), b"cookie")
    };
    for want in [Want::all(&fh), Want::all(&fh).shared(), Want::all(&fh).blocking()] {
        assert!(!matches!(lock_as(2000, &want), GRANTED | BLOCKED), "{want:?}");
    }
    assert_eq!(lock_as(1000, &Want::all(&fh)), GRANTED);
    assert!(
        !matches!(lock_as(2000, &Want::all(&fh).blocking()), GRANTED | BLOCKED),
        "nor a place in the queue"
    );
}

#[test]
fn credentials_and_rpc_versions_that_do_not_exist_are_rejected() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    for tcp in [true, false] {
        let mut a = client(10, 4, tcp, "a");
        let call = a.prepared(2, &Want::all(&fh));
        let xid = u32::from_be_bytes(call[..4].try_into().unwrap());
        let mut flavour = call.clone();
        flavour[27] = 99;
        a.conn.send(&flavour);
        let rejected = a.conn.answer_to(xid, PATIENCE).expect("an answer");
        // AUTH_ERROR with AUTH_REJECTEDCRED.
        assert_eq!(rejected, Answer::Denied([1u32, 2].iter().flat_map(|w| w.to_be_bytes()).collect()));
        let mut version = call.clone();
        version[11] = 3;
        a.conn.send(&version);
        let rejected = a.conn.answer_to(xid, PATIENCE).expect("an answer");
        // RPC_MISMATCH, 2 to 2.
        assert_eq!(rejected, Answer::Denied([0u32, 2, 2].iter().flat_map(|w| w.to_be_bytes()).collect()));
        assert!(server.rows("locks").is_empty());
    }
}

#[test]
fn bursts_of_locks_on_many_new_files_by_several_clients_are_answered_whole() {
    let Some(world) = World::new() else { return };
    let server = world.serve("", "");
    let handles: Vec<Vec<u8>> = (0..1000)
        .map(|n| {
            let name = format!("f{n}");
            world.file(&name);
            server.handle(&name)
        })
        .collect();
    let mut clients: Vec<Client> = (0..5).map(|n| Client::new(host(10 + n), "a")).collect();
    // In one piece, as from a client with many processes: each file has to be looked at first.
    let bursts: Vec<Vec<u8>> = clients
        .iter_mut()
        .map(|a| {
            let locks = handles.iter().map(|fh| a.prepared(2, &Want::all(fh).shared()));
            locks.flat_map(|call| rawrpc::wire::record(&call)).collect()
        })
        .collect();
    std::thread::scope(|s| {
        for (a, burst) in clients.iter_mut().zip(&bursts) {
            s.spawn(move || std::io::Write::write_all(a.conn.stream(), burst).unwrap());
        }
    });
    for (c, a) in clients.iter_mut().enumerate() {
        for n in 0..handles.len() {
            let message = a.conn.receive(PATIENCE).unwrap_or_else(|| panic!("client {c}: only {n} answers"));
            let results = rawrpc::wire::parse_reply(&message).1.results();
            assert_eq!(results[results.len() - 4..], GRANTED.to_be_bytes());
        }
    }
}
