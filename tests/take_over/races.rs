//! Things that happen at once: one lock manager comes while another goes, requests that came before there was a record, records of several
//! lock managers with locks on one file.

use std::time::Duration;

use super::rawrpc::daemon::dump;
use super::rawrpc::nlm::*;
use super::rawrpc::{Client, Daemon, SERVER, SILENCE, Want, host};
use super::{LM, LONG, Pair, lock, locks, text};

/// Another floating address.
pub(super) const LM2: &str = "127.1.0.2";

/// Both addresses in the settings, with journals of their own.
pub(super) fn both(pair: &Pair) -> String {
    let table = |ip: &str| {
        let dir = pair.world.dir().join(format!("journal-{ip}"));
        std::fs::create_dir_all(&dir).unwrap();
        format!("[[lock_manager]]\naddress = \"{ip}\"\njournal = {dir:?}\n")
    };
    [LM, LM2].map(table).concat()
}

pub(super) fn through(ip: &str, last: u8, name: &str) -> Client {
    Client::to(host(last), ip.parse::<std::net::Ipv4Addr>().unwrap(), name)
}

#[test]
fn who_waits_through_one_address_for_a_lock_of_another_waits_on_after_a_crash() {
    let Some(pair) = Pair::new() else { return };
    let tables = both(&pair);
    let a = pair.a.serve(&pair.world, LONG, &tables);
    for ip in [LM, LM2] {
        a.verb(&["start-grace", ip]);
    }
    let fh = pair.a.handle(&a, "f");
    let wanted = Want::bytes(&fh, 0, 10);
    // The one that is taken up first is the one that is waited through.
    assert_eq!(through(LM2, 10, "one").lock(&wanted), GRANTED);
    assert_eq!(through(LM, 11, "two").lock(&wanted.clone().blocking()), BLOCKED);
    let home = pair.a.host(11);
    a.kill();
    let a = pair.a.serve(&pair.world, LONG, &tables);
    assert_eq!(locks(&a), [lock(0, "one", "held")]);
    assert_eq!(home.count(PROGRAM, 5), 0);
    assert_eq!(through(LM2, 10, "one").unlock(&wanted), GRANTED);
    assert!(home.granted().is("two", &wanted));
}

/// A server that answers every address, and cannot open any record. A client has asked for a lock and got no answer.
fn without_a_record(pair: &Pair) -> (Daemon, Want) {
    let state = pair.a.state();
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    pair.world.tmpfs(&state.join("journals"), 64);
    let a = pair.serve(&pair.a, LONG);
    let want = Want::bytes(&a.handle("f"), 0, 10);
    assert_eq!(Client::new(host(10), "one").status_within(SILENCE, 2, &want), None);
    a.await_log(&["clients wait until this is mended"]);
    (a, want)
}

#[test]
fn what_was_asked_for_before_there_was_a_record_is_written_down_before_it_is_granted() {
    let Some(pair) = Pair::new() else { return };
    let (a, want) = without_a_record(&pair);
    a.verb(&["start-grace", &SERVER.to_string(), "--journal", text(&pair.journal), "--force"]);
    assert_eq!(locks(&a), []);
    assert_eq!(Client::new(host(10), "one").lock(&want), GRANTED);
    a.kill();
    let written = dump(&pair.journal);
    assert!(written.iter().any(|r| r["client"] == "one" && r["range"] == "0-9"), "{written:?}");
}

#[test]
fn an_address_that_was_given_up_stays_silent_when_its_record_can_be_opened_at_last() {
    let Some(pair) = Pair::new() else { return };
    let (a, want) = without_a_record(&pair);
    a.verb(&["unlock-ip", &SERVER.to_string()]);
    pair.world.sh(&format!("mount -o remount,size=64m '{}'", pair.a.state().join("journals").display()));
    // Another one is opened meanwhile, so this one was tried too.
    let other = Want::bytes(&want.fh, 50, 1);
    let through_other = || Client::to(host(11), std::net::Ipv4Addr::new(127, 0, 0, 2), "two");
    super::support::wait_for("the other address", super::rawrpc::PATIENCE, || {
        match through_other().status_within(Duration::from_secs(2), 2, &other) {
            Some(GRANTED) => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    });
    std::thread::sleep(Duration::from_millis(1_200));
    let conn = super::rawrpc::Conn::try_tcp(host(10), (SERVER, PORT).into());
    let answer = conn.ok().and_then(|conn| Client::on(conn, 4, "one").status_within(SILENCE, 2, &want));
    assert_eq!(answer, None);
    assert_eq!(locks(&a), [lock(50, "two", "held")]);
}

#[test]
fn a_look_at_another_journal_leaves_no_trace() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let wrong = pair.world.dir().join("wrong");
    std::fs::create_dir(&wrong).unwrap();
    let (errno, why) = a.refused(&["start-grace", LM, "--journal", text(&wrong)]);
    assert!(errno == "EBUSY" && why.contains(text(&pair.journal)), "{errno}: {why}");
    a.verb(&["unlock-ip", LM]);
    let dry = a.verb(&["start-grace", LM, "--journal", text(&wrong), "--dry-run", "--force"]);
    assert!(dry["text"].as_str().unwrap().contains("nothing is recorded"), "{dry}");
    a.refused(&["start-grace", LM, "--journal", "/no/such/directory"]);
    assert_eq!(a.verb(&["start-grace", LM])["marked"], 1, "where it was before");
    assert_eq!(a.lm(LM)["journal"], text(&pair.journal));
}

#[test]
fn a_record_of_another_node_is_not_raised_over_and_over() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.serve(&pair.a, LONG);
    let want = Want::bytes(&a.handle("f"), 0, 10);
    assert_eq!(Client::new(host(10), "one").lock(&want), GRANTED);
    a.kill();
    // As when the host is renamed, or the directory copied.
    std::fs::write(pair.a.state().join("node-id"), "0123456789abcdef\n").unwrap();
    let a = pair.serve(&pair.a, LONG);
    assert_eq!(Client::new(host(11), "two").status_within(SILENCE, 2, &want), None);
    let said = a.await_log(&["clients wait until this is mended"]);
    assert!(said.contains("start-grace"), "{said}");
    let journal = pair.a.state().join("journals").join(SERVER.to_string());
    let epochs = || {
        let names =
            std::fs::read_dir(&journal).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("epoch-")).count()
    };
    let before = epochs();
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(epochs(), before, "tried again is not taken again");
    a.verb(&["start-grace", &SERVER.to_string()]);
    assert_eq!(Client::new(host(10), "one").lock(&want.clone().reclaim()), GRANTED);
}

#[test]
fn a_lock_that_expired_and_whose_bytes_somebody_had_since_through_another_address_is_not_reclaimed() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.a.serve(&pair.world, LONG, &both(&pair));
    for ip in [LM, LM2] {
        a.verb(&["start-grace", ip]);
    }
    let fh = pair.a.handle(&a, "f");
    let wanted = Want::bytes(&fh, 0, 10);
    assert_eq!(through(LM2, 10, "one").lock(&wanted), GRANTED);
    a.verb(&["unlock-ip", LM2]);
    a.verb(&["start-grace", LM2]);
    assert_eq!(a.verb(&["end-grace", LM2])["freed"], 1, "one is not back in time");
    a.verb(&["unlock-ip", LM2]);
    let mut two = through(LM, 11, "two");
    assert_eq!(two.lock(&wanted), GRANTED);
    assert_eq!(two.unlock(&wanted), GRANTED);
    a.verb(&["start-grace", LM2]);
    assert_ne!(through(LM2, 10, "one").lock(&wanted.reclaim()), GRANTED, "two has had them meanwhile");
}

#[test]
fn beside_a_record_that_cannot_be_read_nobody_is_served_but_by_force() {
    let Some(pair) = Pair::new() else { return };
    let tables = both(&pair);
    let a = pair.a.serve(&pair.world, LONG, &tables);
    for ip in [LM, LM2] {
        a.verb(&["start-grace", ip]);
    }
    let fh = pair.a.handle(&a, "f");
    assert_eq!(through(LM2, 10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    a.kill();
    let broken = pair.world.dir().join(format!("journal-{LM2}/segment-9-1"));
    std::fs::create_dir(&broken).unwrap();
    let a = pair.a.serve(&pair.world, LONG, &tables);
    a.verb(&["unlock-ip", LM]);
    let (_, why) = a.refused(&["start-grace", LM]);
    assert!(why.contains(LM2) && why.contains("--force"), "{why}");
    let done = a.verb(&["start-grace", "--force", LM]);
    let notes = done["notes"].to_string();
    assert!(notes.contains(LM2) && notes.contains("cannot be read"), "{done}");
    a.verb(&["unlock-ip", LM]);
    std::fs::remove_dir(&broken).unwrap();
    let done = a.verb(&["start-grace", LM]);
    assert!(done["notes"].to_string().contains("in the way as recorded"), "{done}");
    assert_ne!(through(LM, 11, "two").lock(&Want::bytes(&fh, 5, 1)), GRANTED);
}

#[test]
fn who_waits_for_what_a_record_still_has_that_failed_is_told_once_it_is_taken_up_anew() {
    let Some(pair) = Pair::new() else { return };
    let tables = both(&pair);
    let a = pair.a.serve(&pair.world, LONG, &tables);
    for ip in [LM, LM2] {
        a.verb(&["start-grace", ip]);
    }
    let fh = pair.a.handle(&a, "f");
    let wanted = Want::bytes(&fh, 0, 10);
    let mut one = through(LM2, 10, "one");
    assert_eq!(one.lock(&wanted), GRANTED);
    assert_eq!(through(LM, 11, "two").lock(&wanted.clone().blocking()), BLOCKED);
    let home = pair.a.host(11);
    let dir = pair.world.dir().join(format!("journal-{LM2}"));
    let elsewhere = pair.world.dir().join("elsewhere");
    std::fs::rename(&dir, &elsewhere).unwrap();
    assert_eq!(one.status_within(SILENCE, 4, &wanted), None, "its own record failed");
    a.await_state(LM2, "failed");
    assert_eq!(home.count(PROGRAM, 5), 0, "that record still has it: after a crash it might be loaded first");
    std::fs::rename(&elsewhere, &dir).unwrap();
    a.verb(&["start-grace", LM2]);
    assert!(home.granted().is("two", &wanted));
    a.await_rows("locks", 1, |row| row["client"] == "two" && row["state"] == "held");
}
