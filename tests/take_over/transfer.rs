//! Two nodes without a common disk: the record goes by `export-state` and `import-state`.

use std::process::{Command, Output, Stdio};

use super::races::{LM2, both, through};
use super::rawrpc::daemon::BINARY;
use super::rawrpc::nlm::*;
use super::rawrpc::{FLOAT, Node, PATIENCE, Tested, Want};
use super::support::wait_for;
use super::{Daemon, LM, LONG, Pair, lock, locks, programs_at};

/// `lockferry import-state` on a node.
fn import(server: &Daemon, node: &Node, state: &[u8]) -> Output {
    use std::io::Write as _;
    let socket = node.state().with_file_name("socket");
    let mut command = Command::new(BINARY);
    command.args(["import-state", "--socket"]).arg(socket);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may refuse before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(state);
    let output = child.wait_with_output().unwrap();
    eprintln!("import: {} {}", String::from_utf8_lossy(&output.stderr), server.pid());
    output
}

fn export(server: &Daemon) -> Vec<u8> {
    let output = server.command(&["export-state", LM]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_record_that_is_handed_over_keeps_the_locks_and_is_not_taken_up_where_it_was() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.serve(&pair.a, LONG);
    a.verb(&["start-grace", LM]);
    let fh = pair.a.handle(&a, "f");
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    assert_eq!(pair.a.client(11, "two").lock(&Want::bytes(&fh, 20, 10).shared()), GRANTED);
    let state = export(&a);
    assert_eq!(a.lm(LM)["state"], "released");
    assert_eq!(programs_at(&pair.a, FLOAT), [""; 0]);
    let (errno, why) = a.refused(&["start-grace", LM]);
    assert_eq!(errno, "ESTALE", "{why}");
    assert!(why.contains("handed over"), "{why}");
    assert_eq!(export(&a), state, "again, the same");

    let b = pair.serve(&pair.b, LONG);
    let home = pair.b.host(10);
    let mut torn = state.clone();
    torn.truncate(state.len() - 7);
    assert!(!import(&b, &pair.b, &torn).status.success(), "one that was cut off");
    assert!(import(&b, &pair.b, &state).status.success());
    assert_eq!(b.verb(&["start-grace", LM])["marked"], 2);
    home.notice();
    assert!(!import(&b, &pair.b, &state).status.success(), "not under a lock manager that is taken up");
    let holder = Tested::Held { exclusive: true, svid: 1, oh: b"1@test".to_vec(), offset: 0, len: 10 };
    assert_eq!(pair.b.client(12, "three").test(&Want::bytes(&fh, 5, 1)), holder);
    assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    assert_eq!(pair.b.client(11, "two").lock(&Want::bytes(&fh, 20, 10).shared().reclaim()), GRANTED);
    assert_eq!(b.lm(LM)["state"], "active");

    // And back.
    let back = export(&b);
    assert!(!import(&a, &pair.a, &state).status.success(), "an old one");
    assert!(import(&a, &pair.a, &back).status.success());
    assert_eq!(a.verb(&["start-grace", LM])["marked"], 2);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    assert_eq!(locks(&a), [lock(0, "one", "held"), lock(20, "two", "reclaimable")]);
    assert!(b.refused(&["start-grace", LM]).1.contains("handed over"));
}

#[test]
fn a_record_that_was_handed_over_can_be_taken_back_by_force_if_the_other_never_got_it() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.serve(&pair.a, LONG);
    a.verb(&["start-grace", LM]);
    let fh = pair.a.handle(&a, "f");
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let state = export(&a);
    // Not by a restart.
    assert!(a.terminate().success());
    let a = pair.serve(&pair.a, LONG);
    assert_eq!(a.lm(LM)["state"], "released");
    assert_eq!(a.refused(&["start-grace", LM]).0, "ESTALE");
    assert_eq!(a.verb(&["start-grace", LM, "--force"])["marked"], 1);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    assert!(!import(&a, &pair.a, &state).status.success());
    a.verb(&["unlock-ip", LM]);
    assert!(!import(&a, &pair.a, &state).status.success(), "older than what is here");
}

#[test]
fn what_was_handed_over_and_is_forced_back_has_lost_nothing_to_another_address_of_the_node() {
    for restart in [false, true] {
        let Some(pair) = Pair::new() else { return };
        let tables = both(&pair);
        let mut a = pair.a.serve(&pair.world, LONG, &tables);
        for ip in [LM, LM2] {
            a.verb(&["start-grace", ip]);
        }
        let fh = pair.a.handle(&a, "f");
        let wanted = Want::bytes(&fh, 0, 1);
        assert_eq!(through(LM2, 10, "one").lock(&wanted), GRANTED);
        assert!(a.command(&["export-state", LM2]).status.success());
        if restart {
            assert!(a.terminate().success());
            a = pair.a.serve(&pair.world, LONG, &tables);
        }
        let mut two = through(LM, 11, "two");
        assert_ne!(two.lock(&wanted), GRANTED, "restarted: {restart}");
        assert_eq!(two.lock(&Want::bytes(&fh, 1, 1)), GRANTED);
        let done = a.verb(&["start-grace", LM2, "--force"]);
        assert_eq!(done["marked"], 1, "{done}");
        assert_eq!(through(LM2, 10, "one").lock(&wanted.reclaim()), GRANTED, "restarted: {restart}");
    }
}

#[test]
fn locks_of_what_was_handed_over_are_in_the_way_of_others_for_the_hold_time_only() {
    for restart in [false, true] {
        let Some(pair) = Pair::new() else { return };
        let (tables, top) = (both(&pair), format!("{LONG}grace.hold = \"3s\"\n"));
        let mut a = pair.a.serve(&pair.world, &top, &tables);
        for ip in [LM, LM2] {
            a.verb(&["start-grace", ip]);
        }
        let fh = pair.a.handle(&a, "f");
        let wanted = Want::bytes(&fh, 0, 1);
        assert_eq!(through(LM2, 10, "one").lock(&wanted), GRANTED);
        assert!(a.command(&["export-state", LM2]).status.success());
        if restart {
            assert!(a.terminate().success());
            a = pair.a.serve(&pair.world, &top, &tables);
        }
        let mut two = through(LM, 11, "two");
        wait_for("the byte", PATIENCE, || match two.lock(&wanted) {
            GRANTED => Ok(()),
            other => Err(format!("{other}, restarted: {restart}\n{}", a.log())),
        });
    }
}
