//! Reboots of clients, as the running binary hears of them: SM_NOTIFY, a LOCK with a newer state, and what strangers say. On
//! whose word locks are freed, and what an operator can do about refused words.

// Helpers of tests are no less tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod rawrpc;
mod support;

use lockferry_xdr::{Reader, Writer};
use rawrpc::nlm::*;
use rawrpc::{Answer, Client, Conn, Daemon, Host, PATIENCE, SERVER, SILENCE, Want, World, host};

fn svids(server: &Daemon, client: &str) -> Vec<u64> {
    let rows = server.rows("locks");
    let mut all: Vec<u64> =
        rows.iter().filter(|r| r["client"] == client).map(|r| r["svid"].as_u64().unwrap()).collect();
    all.sort_unstable();
    all
}

/// Runs `lockferry accept`.
fn accept(server: &Daemon, id: &serde_json::Value) {
    let output = server.command(&["accept", &id.to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_reboot_notice_frees_the_clients_locks_and_lets_waiters_in() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    assert_eq!(a.lock(&Want::bytes(&fh, 0, 10).state(3)), GRANTED);
    assert_eq!(a.lock(&Want::bytes(&fh, 20, 10).by(2).state(3)), GRANTED);
    assert_eq!(b.lock(&Want::all(&fh).blocking()), BLOCKED);
    assert!(sm_notify(host(10), "a", 5, PATIENCE));
    assert!(home.granted().is("b", &Want::all(&fh)));
    assert!(svids(&server, "a").is_empty());
    assert_eq!(server.counter("freed_by_reboot"), 2);
}

#[test]
fn a_notice_frees_only_what_was_taken_in_an_older_state() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    assert_eq!(a.lock(&Want::bytes(&fh, 0, 10).by(1).state(7)), GRANTED);
    assert_eq!(b.lock(&Want::bytes(&fh, 20, 10).by(9).state(1)), GRANTED);
    for late in [3, 5, 7] {
        assert!(sm_notify(host(10), "a", late, PATIENCE), "a late notice is answered");
        assert_eq!(svids(&server, "a"), [1], "state {late} is not newer than 7");
    }
    assert!(sm_notify(host(10), "a", 9, PATIENCE));
    assert!(svids(&server, "a").is_empty());
    assert_eq!(svids(&server, "b"), [9], "nobody else's lock is touched");
}

#[test]
fn the_first_lock_after_a_reboot_frees_the_older_ones() {
    let Some(world) = World::new() else { return };
    world.file("f");
    world.file("g");
    let server = world.serve("", "");
    let (f, g) = (server.handle("f"), server.handle("g"));
    let mut a = Client::new(host(10), "a");
    assert_eq!(a.lock(&Want::all(&f).by(1).state(3)), GRANTED);
    assert_eq!(a.lock(&Want::bytes(&g, 0, 1).by(2).state(3)), GRANTED);
    // The reboot: the notice was lost, the numbers of owners begin anew.
    let mut again = Client::new(host(10), "a");
    assert_eq!(again.lock(&Want::bytes(&g, 5, 1).by(1).state(5)), GRANTED);
    let rows = server.rows("locks");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((&rows[0]["start"], &rows[0]["svid"]), (&5.into(), &1.into()));
    // The notice that comes late frees nothing.
    assert!(sm_notify(host(10), "a", 5, PATIENCE));
    assert_eq!(svids(&server, "a"), [1]);
}

#[test]
fn requests_without_a_state_do_not_count_as_a_reboot() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let mut a = Client::new(host(10), "a");
    assert_eq!(a.lock(&Want::bytes(&fh, 0, 1).by(1).state(3)), GRANTED);
    assert_eq!(a.lock(&Want::bytes(&fh, 5, 1).by(2).state(0)), GRANTED);
    assert_eq!(a.lock(&Want::bytes(&fh, 0, 1).by(1).reclaim()), GRANTED, "it covers what is held");
    assert_eq!(svids(&server, "a"), [1, 2]);
    assert!(sm_notify(host(10), "a", 5, PATIENCE));
    assert!(svids(&server, "a").is_empty(), "what came without a state was of the recorded one");
}

#[test]
fn a_notice_in_the_full_name_and_then_the_short_one_is_understood() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    for (known, notices) in [
        ("web1", ["web1.example.org", "web1"]),
        ("web2.example.org", ["web2.example.org", "web2"]),
        ("web3.example.org", ["web3", "web3.example.org"]),
    ] {
        let mut a = Client::new(host(10), known);
        assert_eq!(a.lock(&Want::all(&fh).state(3)), GRANTED);
        for name in notices {
            sm_notify(host(10), name, 5, SILENCE);
        }
        assert!(svids(&server, known).is_empty(), "{known} is freed by one of {notices:?}");
    }
}

#[test]
fn a_notice_in_a_foreign_name_from_a_known_address_frees_nothing_and_is_not_confirmed() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let mut a = Client::new(host(10), "web1");
    assert_eq!(a.lock(&Want::all(&fh).state(3)), GRANTED);
    assert!(!sm_notify(host(10), "web10", 5, SILENCE), "an answer would be taken for delivery");
    assert_eq!(svids(&server, "web1"), [1]);
    assert!(sm_notify(host(99), "nobody.example.org", 5, PATIENCE), "who has nothing here is told so");
}

#[test]
fn a_strangers_notice_waits_for_an_operator() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let mut a = Client::new(host(10), "a");
    assert_eq!(a.lock(&Want::all(&fh).state(3)), GRANTED);
    assert!(!sm_notify(host(66), "a", 5, SILENCE));
    assert!(!sm_notify(host(66), "a", 5, SILENCE));
    assert_eq!(svids(&server, "a"), [1]);
    let rows = server.rows("refusals");
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    assert_eq!((&row["request"], &row["client"]), (&"SM_NOTIFY".into(), &"a".into()));
    assert_eq!((&row["from"], &row["expected"]), (&"127.0.0.66".into(), &"127.0.0.10".into()));
    assert!(row["count"].as_u64() >= Some(2));
    assert!(server.log().contains("127.0.0.66"), "the log names the sender");
    accept(&server, &row["id"]);
    assert!(svids(&server, "a").is_empty());
    assert!(server.rows("refusals").is_empty());
    assert!(!server.command(&["accept", &row["id"].to_string()]).status.success(), "once is enough");
}

#[test]
fn a_strangers_unlock_and_cancel_wait_for_an_operator() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    let want = Want::all(&fh).state(3).blocking();
    assert_eq!(a.lock(&want), GRANTED);
    assert_eq!(b.lock(&want), BLOCKED);
    let (mut bad, mut worse) = (Client::new(host(66), "a"), Client::new(host(66), "b"));
    assert_eq!(bad.status_within(SILENCE, 4, &want), None);
    assert_eq!(worse.status_within(SILENCE, 3, &want), None);
    assert_eq!((svids(&server, "a"), server.rows("waiters").len()), (vec![1], 1));
    let rows = server.rows("refusals");
    let kinds: Vec<_> = rows.iter().map(|r| r["request"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["UNLOCK", "CANCEL"]);
    accept(&server, &rows[1]["id"]);
    assert!(server.rows("waiters").is_empty());
    accept(&server, &rows[0]["id"]);
    assert!(svids(&server, "a").is_empty());
    // From now on the address is believed.
    assert_eq!(a.lock(&want), GRANTED);
    assert_eq!(bad.unlock(&want), GRANTED);
    assert!(svids(&server, "a").is_empty());
}

#[test]
fn a_strangers_free_all_waits_for_an_operator() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let mut a = Client::new(host(10), "a");
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
    assert_eq!(a.share(20, &fh, b"a", 0, 1), GRANTED);
    assert!(!Client::new(host(66), "a").free_all(SILENCE));
    assert_eq!(svids(&server, "a"), [1]);
    let rows = server.rows("refusals");
    assert_eq!((rows.len(), &rows[0]["request"]), (1, &"FREE_ALL".into()));
    accept(&server, &rows[0]["id"]);
    assert!(svids(&server, "a").is_empty());
    assert!(server.rows("clients").iter().all(|c| c["shares"] == 0));
}

#[test]
fn a_flood_of_refused_requests_pushes_out_nobody_elses() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let mut a = Client::new(host(10), "a");
    assert_eq!(a.lock(&Want::all(&fh).state(3)), GRANTED);
    assert_eq!(Client::new(host(66), "a").status_within(SILENCE, 4, &Want::all(&fh)), None);
    let mut flood = Client::new(host(67), "a");
    for n in 0..1000 {
        flood.post(4, &Want::bytes(&fh, n, 1));
    }
    server.await_rows("refusals", 255, |r| r["from"] == "127.0.0.67");
    let rows = server.rows("refusals");
    let ours = rows.iter().find(|r| r["from"] == "127.0.0.66").expect("the first one is still listed");
    accept(&server, &ours["id"]);
    assert!(svids(&server, "a").is_empty());
}

/// NLM SM_NOTIFY (procedure 16) from an address; false: silence.
fn nlm_notify(from: u8, name: &str, state: u32) -> bool {
    let mut args = Vec::new();
    let mut w = Writer::new(&mut args);
    w.opaque_var(name.as_bytes());
    w.u32(state);
    w.opaque_fixed(&[0; 16]);
    let mut conn = Conn::udp(host(from), (SERVER, PORT));
    conn.call_within(SILENCE, (PROGRAM, 4, 16), &args).map(Answer::results).is_some()
}

#[test]
fn the_monitors_up_call_from_elsewhere_is_worth_no_more_than_a_notice() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let mut a = Client::new(host(10), "a");
    assert_eq!(a.lock(&Want::all(&fh).state(3)), GRANTED);
    assert!(!nlm_notify(66, "a", 5));
    assert_eq!(svids(&server, "a"), [1]);
    let rows = server.rows("refusals");
    assert_eq!((rows.len(), &rows[0]["request"]), (1, &"SM_NOTIFY".into()));
    accept(&server, &rows[0]["id"]);
    assert!(svids(&server, "a").is_empty());
}

#[test]
fn one_name_at_two_addresses_is_two_clients_until_they_show_the_same_state() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let (mut a, mut twin) = (Client::new(host(10), "localhost"), Client::new(host(11), "localhost"));
    assert_eq!(a.lock(&Want::all(&fh).state(3)), GRANTED);
    assert_eq!(twin.lock(&Want::all(&fh).state(8)), DENIED, "the same owner on another host is another");
    assert_eq!(twin.lock(&Want::bytes(&fh, 0, 1).by(2).state(8)), DENIED);
    twin.unlock(&Want::all(&fh));
    assert_eq!(svids(&server, "localhost"), [1], "each host frees its own locks only");
    assert!(twin.free_all(PATIENCE));
    assert_eq!(svids(&server, "localhost"), [1]);
}

#[test]
fn a_second_address_with_the_same_state_may_act_for_the_client() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let (mut a, mut other) = (Client::new(host(10), "a"), Client::new(host(11), "a"));
    assert_eq!(a.lock(&Want::bytes(&fh, 0, 1).state(3)), GRANTED);
    assert_eq!(other.lock(&Want::bytes(&fh, 5, 1).by(2).state(3)), GRANTED);
    assert_eq!(other.unlock(&Want::bytes(&fh, 0, 1)), GRANTED);
    assert_eq!(svids(&server, "a"), [2]);
}

#[test]
fn the_strict_address_check_believes_no_second_address() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[client]\naddress_check = \"strict\"\n");
    let fh = server.handle("f");
    let (mut a, mut other) = (Client::new(host(10), "a"), Client::new(host(11), "a"));
    assert_eq!(a.lock(&Want::bytes(&fh, 0, 1).state(3)), GRANTED);
    assert_eq!(other.lock(&Want::bytes(&fh, 5, 1).by(2).state(3)), GRANTED);
    other.status_within(SILENCE, 4, &Want::bytes(&fh, 0, 1));
    assert_eq!(svids(&server, "a"), [1, 2]);
}

#[test]
fn the_status_monitor_answers_but_monitors_for_nobody() {
    let Some(world) = World::new() else { return };
    let server = world.serve("", "");
    let mut named = Vec::new();
    Writer::new(&mut named).opaque_var(b"some-host");
    let my_id = |w: &mut Writer<'_>| {
        w.opaque_var(b"me");
        for number in [PROGRAM, 4, 16] {
            w.u32(number);
        }
    };
    let mut mon = named.clone();
    my_id(&mut Writer::new(&mut mon));
    let unmon = mon.clone();
    Writer::new(&mut mon).opaque_fixed(&[0; 16]);
    let mut unmon_all = Vec::new();
    my_id(&mut Writer::new(&mut unmon_all));
    for tcp in [true, false] {
        let to = (SERVER, NSM_PORT);
        let mut conn = if tcp { Conn::tcp(host(10), to) } else { Conn::udp(host(10), to) };
        let mut words = |procedure, args: &[u8]| {
            let results = conn.call((NSM, 1, procedure), args).results();
            let mut r = Reader::new(&results);
            std::iter::from_fn(|| r.u32().ok()).collect::<Vec<u32>>()
        };
        assert_eq!(words(0, &[]), [0u32; 0]);
        let stat = words(1, &named);
        let state = stat[1];
        assert_eq!((stat[0], state % 2), (0, 1), "it answers, with an odd state: up");
        assert_eq!(words(2, &mon), [1, state], "SM_MON is refused");
        assert_eq!(words(3, &unmon), [state]);
        assert_eq!(words(4, &unmon_all), [state]);
        assert_eq!(words(5, &[]), [0u32; 0], "SM_SIMU_CRASH changes nothing");
        assert_eq!(words(1, &named), [0, state]);
        for procedure in [1, 2, 3, 4, 6] {
            assert_eq!(conn.call((NSM, 1, procedure), &[0, 0]), Answer::GarbageArgs);
        }
        assert_eq!(conn.call((NSM, 1, 7), &[]), Answer::ProcUnavail);
        assert_eq!(conn.call((NSM, 2, 1), &named), Answer::ProgMismatch(1, 1));
    }
    drop(server);
}
