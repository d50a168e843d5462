//! What survives a crash of the running binary where a restart opens a window or must: what clients are told, who waits for whom, the
//! NSM state number, and what is made of a damaged record. That nobody need notice a restart is in `serve_adopt.rs`.

// Helpers of tests are no less tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod rawrpc;
mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockferry::state::{Mode, Range};
use lockferry::store::journal::{Disk, Journals, Options};
use lockferry::store::record::{ClientKey, LockCondition, LockFields, OwnerKey, Place, Record};
use lockferry::store::{Batch, LockStore, Outcome, StateDir};
use rawrpc::nlm::*;
use rawrpc::{Client, Daemon, Host, PATIENCE, SERVER, SILENCE, Tested, Want, World, host};

/// Another address of the server.
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The lock manager that most of this is about.
const LM: &str = "127.0.0.1";
/// A restart that opens a window and tells the clients.
const TELLING: &str = "on_restart = \"grace\"\n";
/// With these a crash leaves a record that may be incomplete.
const RELAXED: &str = "journal.durability = \"relaxed\"\n";

fn nsm_state(server: &Daemon) -> u64 {
    server.lm(LM)["nsm_state"].as_u64().unwrap()
}

/// `TELLING` and a window of this length.
fn telling(window: &str) -> String {
    format!("{TELLING}grace.window = \"{window}\"\n")
}

#[test]
fn a_client_is_on_the_list_before_its_first_lock_is_granted() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let mut homes = Vec::new();
    // Several rounds, as each shows only that one reply did not come too early.
    for round in 0..5u8 {
        let server = world.serve("", "");
        let fh = server.handle("f");
        let home = Host::at(host(20 + round));
        let mut a = Client::new(host(20 + round), &format!("client-{round}"));
        let want = Want::bytes(&fh, u64::from(round), 1).shared();
        assert_eq!(a.lock(&want), GRANTED);
        server.kill();
        homes.push(home);
    }
    let server = world.serve(TELLING, "");
    for home in &homes {
        let (name, state, from) = home.notice();
        assert_eq!((name.as_str(), state % 2, from), (LM, 1, SERVER.into()));
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
    let server = world.serve(TELLING, "");
    home.notice();
    let rows = server.rows("clients");
    let listed: Vec<_> = rows.iter().filter(|c| c["monitored"] == true).map(|c| &c["name"]).collect();
    assert_eq!(listed, ["b"], "{rows:?}");
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
    let _server = world.serve(TELLING, "");
    let mut told = [home.notice(), home.notice()].map(|(name, _, from)| (name, from));
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
    let server = world.serve(&telling("1m"), "");
    // The client boots slowly: nothing listens there until the first try is over.
    server.await_lm(LM, "a first round", |lm| lm["grace_seconds_left"].is_u64());
    assert_eq!(server.rows("clients")[0]["notify"], "pending");
    let home = Host::at(host(10));
    home.notice();
    server.await_rows("clients", 1, |c| c["notify"] == "answered");
    assert_eq!(Client::new(host(10), "a").lock(&Want::all(&fh).reclaim()), GRANTED);
    server.await_rows("clients", 1, |c| c["notify"] == "reclaimed");
}

/// Writes the record of a lock manager as this node would have left it: clients with a lock each.
fn record(state: &Path, lm: IpAddr, clients: impl Iterator<Item = (String, IpAddr)>) {
    let dir = StateDir::open(state).unwrap();
    let options = Options { node: dir.node_label().into(), ..Options::default() };
    let journals = Journals::new(Arc::new(Disk), dir.journals_dir(), options);
    let name = lm.to_string();
    let epoch = journals.raise_epoch(&name, false).unwrap();
    let report = journals.load(&name, epoch, &mut |_| {}).unwrap();
    journals.own(&name, epoch, &report).unwrap();
    let mut entries = Vec::new();
    for (n, (client, address)) in clients.enumerate() {
        let client = ClientKey { name: client.into_bytes().into(), address };
        entries.push(Record::Client(client.clone(), 1).into());
        let owner = OwnerKey { client, oh: (*b"oh").into(), svid: 1 };
        let range = Range::new(n as u64, n as u64).unwrap();
        let place = Place { owner, file: name.as_bytes().into(), range };
        let (mode, condition) = (Mode::Exclusive, LockCondition::Held);
        entries
            .push(Record::Set(place, LockFields { mode, condition, state: 1, since: 1, under: None }).into());
    }
    let (tell, told) = std::sync::mpsc::channel();
    let done = Box::new(move |outcome| tell.send(outcome).unwrap());
    journals.append(&name, epoch, Batch { entries: entries.into(), essential: true }, done);
    assert!(matches!(told.recv().unwrap(), Outcome::Durable(_)));
}

#[test]
fn thousands_of_clients_that_are_down_delay_no_notice_to_one_that_is_up() {
    let Some(world) = World::new() else { return };
    // A network where everything that is sent vanishes.
    world.sh("ip link add d0 type veth peer name d1 && ip addr add 10.9.0.1/16 dev d0
              ip link set d0 arp off up && ip link set d1 up");
    let down = (0..3000u32).map(|n| {
        let address = Ipv4Addr::from(0x0a09_0100 + (n / 250) * 256 + n % 250 + 1);
        (format!("down-{n}"), address.into())
    });
    record(&world.state(), Ipv4Addr::new(10, 9, 0, 1).into(), down);
    record(&world.state(), SERVER.into(), std::iter::once(("up".to_owned(), host(10).into())));
    let home = Host::at(host(10));
    let server = world.serve(&telling("1h"), "");
    assert_eq!(home.notice().0, LM);
    for (lm, clients) in [("10.9.0.1", 3000), (LM, 1)] {
        let row = server.lm(lm);
        assert_eq!((&row["clients"], &row["reclaimable"]), (&clients.into(), &clients.into()), "{row}");
    }
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
    let _server = world.serve(TELLING, "[nsm]\nnotify_name = \"files.example.org\"\n");
    assert_eq!(home.notice().0, "files.example.org");
}

#[test]
fn in_the_window_after_a_restart_only_what_conflicts_with_a_recorded_lock_waits() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    assert_eq!(Client::new(host(10), "a").lock(&Want::bytes(&fh, 0, 10).state(3)), GRANTED);
    server.kill();
    let server = world.serve(&(telling("1h") + "grace.park = \"300ms\"\n"), "");
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    assert_eq!(b.lock(&Want::bytes(&fh, 10, 10)), GRANTED, "nobody held these");
    assert_eq!(b.lock(&Want::bytes(&fh, 5, 10)), GRACE, "held back, then: come again");
    assert!(matches!(b.test(&Want::bytes(&fh, 5, 1)), Tested::Held { svid: 1, offset: 0, len: 10, .. }));
    assert_eq!(server.lm(LM)["state"], "grace");
    assert_eq!(a.lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    assert_eq!(server.lm(LM)["state"], "active", "nothing is left to reclaim");
    assert_eq!(b.lock(&Want::bytes(&fh, 5, 10)), DENIED);
}

#[test]
fn after_a_crash_with_relaxed_durability_everything_new_waits_until_the_window_ends() {
    let Some(world) = World::new() else { return };
    world.file("f");
    world.file("g");
    let server = world.serve(RELAXED, "");
    let (f, g) = (server.handle("f"), server.handle("g"));
    assert_eq!(Client::new(host(10), "a").lock(&Want::bytes(&f, 0, 10).state(3)), GRANTED);
    assert_eq!(Client::new(host(11), "b").lock(&Want::bytes(&f, 20, 10).by(2).state(3)), GRANTED);
    server.kill();

    let (homes, home) = ([Host::at(host(10)), Host::at(host(11))], Host::at(host(12)));
    let top = format!("{RELAXED}grace.window = \"4s\"\ngrace.park = \"1s\"\n");
    let server = world.serve(&top, "");
    homes.iter().for_each(|told| drop(told.notice()));
    let manager = server.lm(LM);
    assert_eq!((&manager["state"], &manager["full"]), (&"grace".into(), &true.into()), "{manager}");
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
    assert_eq!(b.lock(&Want::bytes(&f, 50, 5).by(2).reclaim()), GRANTED, "of a record that may lack it");
    assert_eq!(b.unlock(&Want::bytes(&f, 20, 10).by(2)), GRANTED);
    assert_eq!(c.cancel(&want), GRANTED);
    assert_eq!(c.lock(&want), BLOCKED);
    let inside = Want::bytes(&f, 2, 3).state(3);
    assert_eq!(a.lock(&inside), GRANTED, "a plain LOCK inside what one has reclaimed");

    // Held back for `grace.park`, then: come again.
    for _ in 0..2 {
        let message = c.conn.receive(PATIENCE).expect("an answer");
        let results = rawrpc::wire::parse_reply(&message).1.results();
        assert_eq!(results[20..24], GRACE.to_be_bytes(), "DENIED_GRACE_PERIOD");
    }
    assert_eq!(home.count(PROGRAM, 5), 0);

    // The window ends by itself: who waits is granted, reclaims are over.
    assert!(home.granted().is("c", &want));
    assert_eq!(server.lm(LM)["state"], "active");
    assert_eq!(c.lock(&Want::bytes(&f, 100, 1)), GRANTED);
    assert!(matches!(c.test(&Want::bytes(&f, 0, 1)), Tested::Held { svid: 1, .. }));
    assert_eq!(b.lock(&Want::bytes(&f, 20, 10).by(2).reclaim()), GRACE, "too late");
    assert_eq!(a.lock(&Want::bytes(&f, 0, 10).reclaim()), GRANTED, "what one holds one may always reclaim");
}

#[test]
fn a_lock_held_back_is_granted_when_the_window_ends_first() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    assert_eq!(Client::new(host(10), "a").lock(&Want::all(&fh)), GRANTED);
    server.kill();
    let server = world.serve(&(telling("1s") + "grace.park = \"10s\"\n"), "");
    let mut b = Client::new(host(11), "b");
    // One call, one answer: held back for what is left of the second.
    assert_eq!(b.lock(&Want::all(&fh)), GRANTED, "a did not reclaim");
    assert_eq!(server.lm(LM)["state"], "active");
}

#[test]
fn without_locks_there_is_no_window_after_a_restart() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    let mut a = Client::new(host(10), "a");
    assert_eq!((a.lock(&Want::all(&fh)), a.unlock(&Want::all(&fh))), (GRANTED, GRANTED));
    server.kill();
    let server = world.serve(&telling("1h"), "");
    assert_eq!(server.lm(LM)["state"], "active");
    assert_eq!(Client::new(host(11), "b").lock(&Want::all(&fh)), GRANTED);
}

#[test]
fn a_full_window_of_one_address_holds_up_no_other_address() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve(RELAXED, "");
    let fh = server.handle("f");
    assert_eq!(Client::new(host(10), "a").lock(&Want::bytes(&fh, 0, 1)), GRANTED);
    server.kill();
    let server = world.serve("grace.window = \"1h\"\ngrace.park = \"200ms\"\n", "");
    assert_eq!(server.lm(LM)["full"], true);
    let want = Want::bytes(&fh, 50, 1);
    assert_eq!(Client::new(host(11), "b").lock(&want), GRACE);
    assert_eq!(Client::to(host(11), SECOND, "b").lock(&want), GRANTED);
}

#[test]
fn the_nsm_state_is_odd_and_grows_with_each_start_that_tells_clients() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let mut last = 0;
    for round in 0..4 {
        let server = world.serve(&telling("0s"), "");
        let fh = server.handle("f");
        let mut a = Client::new(host(10), "a");
        assert_eq!(a.lock(&Want::all(&fh)), GRANTED, "round {round}");
        let state = nsm_state(&server);
        assert!(state > last && state % 2 == 1, "{state} after {last}");
        last = state;
        if round % 2 == 0 {
            server.kill();
        } else {
            assert!(server.terminate().success());
        }
    }
    let server = world.serve("", "");
    assert_eq!(nsm_state(&server), last, "clients that are told nothing know of no other");
}

/// Where the `n`th record from the end lies: file, offset, and length as the format says (docs/journal.md).
fn frame(server: &Daemon, n: usize) -> (PathBuf, u64, u64) {
    let records = server.record(LM);
    let record = &records[records.len() - 1 - n];
    let journal = PathBuf::from(server.lm(LM)["journal"].as_str().unwrap());
    let (path, at) = (journal.join(record["file"].as_str().unwrap()), record["offset"].as_u64().unwrap());
    let mut length = [0; 4];
    std::fs::File::open(&path).unwrap().read_exact_at(&mut length, at).unwrap();
    // Header, payload, 1 to 8 bytes of padding.
    (path, at, (32 + u64::from(u32::from_le_bytes(length)) + 8) & !7)
}

#[test]
fn a_record_whose_last_entry_was_cut_by_the_crash_is_no_damage() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    assert_eq!(Client::new(host(10), "a").lock(&Want::bytes(&fh, 0, 1)), GRANTED);
    // Longer than a sector, so that a part of it can be missing.
    let long = Want { oh: vec![b'x'; 700], ..Want::bytes(&fh, 5, 1) };
    assert_eq!(Client::new(host(10), "a").lock(&long), GRANTED);
    let (path, at, length) = frame(&server, 0);
    server.kill();
    // As if the last sectors of it had not reached the disk: then no answer had left for it.
    let sector = at.next_multiple_of(512);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; (at + length - sector) as usize], sector).unwrap();
    let server = world.serve("", "");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    let rows = server.rows("locks");
    assert_eq!((rows.len(), &rows[0]["start"], &rows[0]["state"]), (1, &0.into(), &"held".into()));
    assert_eq!(server.lm(LM)["state"], "active");
}

#[test]
fn a_damaged_record_is_reported_with_its_place_and_the_window_is_full() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    assert_eq!(Client::new(host(10), "a").lock(&Want::bytes(&fh, 0, 1)), GRANTED);
    assert_eq!(Client::new(host(11), "b").lock(&Want::bytes(&fh, 5, 1)), GRANTED);
    assert_eq!(Client::new(host(12), "c").lock(&Want::bytes(&fh, 9, 1)), GRANTED);
    let records = server.record(LM);
    let hurt = records.iter().rposition(|r| r["type"] == "set" && r["client"] == "b").unwrap();
    let (path, at, length) = frame(&server, records.len() - 1 - hurt);
    server.kill();
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at + length / 2).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at + length / 2).unwrap();
    let homes = [10, 11, 12].map(|last| Host::at(host(last)));
    let server = world.serve("grace.window = \"1h\"\ngrace.park = \"200ms\"\n", "");
    let place = [path.file_name().unwrap().to_str().unwrap(), &at.to_string()].map(str::to_owned);
    server.await_log(&["ERROR", "damaged", &place[0], &place[1]]);
    let row = server.lm(LM);
    assert_eq!((&row["state"], &row["full"]), (&"grace".into(), &true.into()), "{row}");
    // What could be read is used, and whose lock it was that could not is a matter of who comes and claims it.
    homes.iter().for_each(|home| drop(home.notice()));
    assert_eq!(Client::new(host(13), "d").lock(&Want::bytes(&fh, 0, 1)), GRACE);
    assert_eq!(Client::new(host(11), "b").lock(&Want::bytes(&fh, 5, 1).reclaim()), GRANTED);
    assert_eq!(Client::new(host(12), "c").lock(&Want::bytes(&fh, 9, 1).reclaim()), GRANTED);
    assert_eq!(Client::new(host(11), "b").lock(&Want::bytes(&fh, 9, 1).reclaim()), DENIED, "c is back");
}
