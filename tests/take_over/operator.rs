//! What an operator or an HA script does: the control files from a shell, and what frees locks by hand.

use std::process::{Command, Output};
use std::time::Duration;

use super::rawrpc::nlm::*;
use super::rawrpc::{FLOAT, Node, Recorded, Want};
use super::{Daemon, LM, LONG, Pair, SECOND, lock, locks, text};

/// What a shell makes of `echo TEXT > control/FILE`.
fn echo(node: &Node, file: &str, line: &str) -> Output {
    let script = format!("echo '{line}' > '{}/{file}'", node.control().display());
    Command::new("bash").args(["-c", &script]).output().unwrap()
}

/// The same, which must succeed.
fn echoed(node: &Node, file: &str, line: &str) {
    let output = echo(node, file, line);
    assert!(output.status.success(), "{file} {line}: {}", String::from_utf8_lossy(&output.stderr));
}

fn read(node: &Node, file: &str) -> String {
    std::fs::read_to_string(node.control().join(file)).unwrap()
}

#[test]
fn a_shell_script_moves_the_address_with_the_control_files() {
    if !std::path::Path::new("/dev/fuse").exists() {
        return super::support::skip("no /dev/fuse");
    }
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.serve(&pair.a, LONG), pair.serve(&pair.b, LONG));
    let start = format!("{LM} {} journal={}", text(&pair.world.export()), text(&pair.journal));
    echoed(&pair.a, "start_grace", &start);
    let fh = pair.a.handle(&a, "f");
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    assert!(read(&pair.a, "locks").contains("one"));
    assert_eq!(read(&pair.a, &format!("lock_managers/{LM}/state")).trim(), "active");
    echoed(&pair.a, "unlock_ip", LM);
    assert_eq!(read(&pair.a, &format!("lock_managers/{LM}/state")).trim(), "released");
    let home = pair.b.host(10);
    echoed(&pair.b, "start_grace", &format!("{start} grace=5m"));
    assert_eq!(home.notice().2, FLOAT);
    assert_eq!(read(&pair.b, &format!("lock_managers/{LM}/state")).trim(), "grace");
    assert!(read(&pair.b, "status").contains(LM));
    assert_eq!(pair.b.client(11, "two").lock(&Want::bytes(&fh, 5, 1)), GRACE);
    echoed(&pair.b, "end_grace", LM);
    assert_eq!(read(&pair.b, &format!("lock_managers/{LM}/state")).trim(), "active");
    assert_eq!(pair.b.client(11, "two").lock(&Want::bytes(&fh, 5, 1)), GRANTED);
    echoed(&pair.b, "unlock_client", "two");
    assert!(!read(&pair.b, "locks").contains("two"));

    for (file, line, errno, why) in [
        ("start_grace", "nonsense", "Invalid argument", "nonsense"),
        ("start_grace", "127.1.0.1 /not/exported", "No such file or directory", "/not/exported"),
        ("unlock_filesystem", "/not/exported", "No such file or directory", "/not/exported"),
        ("revoke", "999999", "No such file or directory", "999999"),
    ] {
        let output = echo(&pair.b, file, line);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(errno), "{file} {line}: {error}");
        let last = read(&pair.b, "last_error");
        assert!(last.contains(why), "{file} {line}: {last}");
        b.await_log(&[file, why]);
    }
}

#[test]
fn what_a_dry_run_would_be_refused_is_no_error_of_the_node() {
    let Some(pair) = Pair::new() else { return };
    let (a, _) = pair.begin(LONG);
    assert!(!a.command(&["revoke", "999999", "--dry-run"]).status.success());
    assert!(a.query("status")["last_error"].is_null(), "{}", a.query("status"));
    assert!(!a.command(&["revoke", "999999"]).status.success());
    assert_eq!(a.query("status")["last_error"]["verb"], "revoke");
}

#[test]
fn writers_that_race_on_the_control_files_leave_the_lock_manager_taken_up_or_given_up() {
    if !std::path::Path::new("/dev/fuse").exists() {
        return super::support::skip("no /dev/fuse");
    }
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    let mut one = pair.a.client(10, "one");
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let start = format!("{LM} journal={}", text(&pair.journal));
    let verbs =
        [("start_grace", start.as_str()), ("unlock_ip", LM), ("end_grace", LM), ("unlock_ip", "junk")];
    std::thread::scope(|s| {
        for _ in 0..3 {
            for (file, line) in verbs {
                let node = &pair.a;
                s.spawn(move || (0..5).for_each(|_| drop(echo(node, file, line))));
            }
        }
    });
    // Whatever came last: both ways lead on from here, and the lock was never lost.
    let row = a.lm(LM);
    assert!(["grace", "active", "released"].contains(&row["state"].as_str().unwrap()), "{row}");
    echoed(&pair.a, "unlock_ip", LM);
    assert_eq!(a.lm(LM)["state"], "released");
    echoed(&pair.a, "start_grace", &start);
    let row = a.lm(LM);
    assert_eq!((&row["locks"], &row["trouble"]), (&1.into(), &serde_json::Value::Null), "{row}");
    let answer = pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim());
    assert_eq!(answer, GRANTED, "{row}");
}

/// Clients `one` (two locks) and `two` (one lock) on `f`.
fn three_locks(pair: &Pair, fh: &[u8]) {
    let (mut one, mut two) = (pair.a.client(10, "one"), pair.a.client(11, "two"));
    assert_eq!(one.lock(&Want::bytes(fh, 0, 10)), GRANTED);
    assert_eq!(one.lock(&Want::bytes(fh, 20, 10)), GRANTED);
    assert_eq!(two.lock(&Want::bytes(fh, 40, 10)), GRANTED);
}

fn id_at(server: &Daemon, start: u64) -> String {
    let rows = server.rows("locks");
    rows.iter().find(|r| r["start"] == start).unwrap()["id"].to_string()
}

#[test]
fn an_operator_frees_one_lock_or_all_of_a_client_and_who_waits_gets_it() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    three_locks(&pair, &fh);
    let home = pair.a.host(12);
    let mut three = pair.a.client(12, "three");
    let want = Want::bytes(&fh, 0, 10).blocking();
    assert_eq!(three.lock(&want), BLOCKED);
    let id = id_at(&a, 0);
    let dry = a.verb(&["revoke", &id, "--dry-run"]);
    assert_eq!((&dry["freed"], locks(&a).len()), (&1.into(), 3), "{dry}");
    assert_eq!(a.verb(&["revoke", &id])["freed"], 1);
    assert!(home.granted().is("three", &want));
    assert_eq!(a.refused(&["revoke", &id]).0, "ENOENT");
    a.await_rows("locks", 3, |l| l["state"] == "held");
    assert_eq!(a.verb(&["unlock-client", "one"])["freed"], 1);
    assert_eq!(a.refused(&["unlock-client", "on"]).0, "ENOENT", "a part of a name is no name");
    assert_eq!(a.verb(&["unlock-client", "127.0.0.11", LM])["freed"], 1, "by address");
    assert_eq!(locks(&a), [lock(0, "three", "held")]);
    // What was freed is freed in the record too.
    a.kill();
    let b = pair.serve(&pair.b, LONG);
    assert_eq!(pair.start(&b, &[])["marked"], 1);
    assert_eq!(locks(&b), [lock(0, "three", "reclaimable")]);
}

#[test]
fn an_operator_frees_what_is_still_to_be_reclaimed() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    three_locks(&pair, &fh);
    a.kill();
    let b = pair.serve(&pair.b, LONG);
    assert_eq!(pair.start(&b, &[])["marked"], 3);
    assert_eq!(b.verb(&["revoke", &id_at(&b, 0)])["freed"], 1);
    assert_eq!(b.verb(&["unlock-client", "one"])["freed"], 1);
    assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), DENIED, "not any more");
    assert_eq!(b.lm(LM)["state"], "grace", "two is still to come");
    assert_eq!(b.verb(&["unlock-filesystem", text(&pair.world.export())])["freed"], 1);
    assert_eq!(b.lm(LM)["state"], "active");
}

#[test]
fn unlock_filesystem_frees_the_locks_of_one_export_only() {
    let Some(pair) = Pair::new() else { return };
    let other = pair.world.dir().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("f"), b"data").unwrap();
    let table = |path| format!("[[export]]\npath = {path:?}\nsquash = \"none\"\ninsecure = true\n");
    let tables = table(pair.world.export()) + &table(other.clone());
    let a = pair.a.serve(&pair.world, LONG, &tables);
    pair.start(&a, &[]);
    let handles = [pair.world.export(), other.clone()]
        .map(|export| pair.a.within(|| a.handle_through(FLOAT.into(), &export, "f")));
    let mut one = pair.a.client(10, "one");
    assert_eq!(one.lock(&Want::bytes(&handles[0], 0, 10)), GRANTED);
    assert_eq!(one.lock(&Want::bytes(&handles[1], 20, 10)), GRANTED);
    let done = a.verb(&["unlock-filesystem", text(&other)]);
    assert_eq!(done["freed"], 1, "one file system, two exports: {done}");
    assert_eq!(locks(&a), [lock(0, "one", "held")]);
}

#[test]
fn locks_of_an_address_that_was_given_up_stay_and_the_verb_says_where_they_can_be_freed() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    let bytes = Want::bytes(&fh, 0, 10);
    let (mut one, export) = (pair.a.client(10, "one"), pair.world.export());
    for verb in [&["unlock-filesystem", text(&export)][..], &["unlock-client", "two"], &["revoke"]] {
        pair.start_second(&a);
        let mut two = pair.through_second(&pair.a);
        let back = two.lock(&bytes.clone().reclaim());
        assert!(back == GRANTED || two.lock(&bytes) == GRANTED, "{verb:?}");
        a.verb(&["unlock-ip", SECOND]);
        assert_eq!(one.lock(&bytes), DENIED, "kept, as the same files are served through another address");
        let id = id_at(&a, 0);
        let verb: Vec<&str> =
            verb.iter().copied().chain((verb == ["revoke"]).then_some(id.as_str())).collect();
        let dry: Vec<&str> = verb.iter().copied().chain(["--dry-run"]).collect();
        let output = a.command(&dry);
        let why = String::from_utf8_lossy(&output.stderr);
        let told = format!("no lock would be freed; locks of {SECOND} would stay");
        assert!(!output.status.success() && why.contains(&told), "{dry:?}: {why}");
        let (errno, why) = a.refused(&verb);
        let told = format!("no lock was freed; locks of {SECOND} stay");
        assert!(errno == "ESTALE" && why.contains(&told), "{verb:?}: {errno} {why}");
        assert_eq!(one.lock(&bytes), DENIED, "{verb:?}: who has it may take it back");
    }
    pair.start_second(&a);
    assert_eq!(a.verb(&["unlock-client", "two"])["freed"], 1);
    assert_eq!(one.lock(&bytes), GRANTED);
}

#[test]
fn who_frees_all_of_a_client_is_not_told_so_if_its_address_is_given_up_meanwhile() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.serve(&pair.a, LONG);
    let recorded = Recorded { clients: 1, files: 100, locks: 3_000 };
    // Both ends of the verb, and what lies between.
    for delay_us in (0..10_000).step_by(800) {
        recorded.write(&pair.journal, LM, &pair.world.export());
        pair.start(&a, &["--adopt"]);
        let freed = std::thread::scope(|s| {
            let freeing = s.spawn(|| a.command(&["unlock-client", "client-0"]));
            std::thread::sleep(Duration::from_micros(delay_us));
            a.verb(&["unlock-ip", LM]);
            freeing.join().unwrap()
        });
        let left = pair.start(&a, &["--dry-run"])["marked"].as_u64().unwrap();
        assert!(!freed.status.success() || left == 0, "{delay_us} us: {left} are left, but: {freed:?}");
    }
}

#[test]
fn nothing_of_a_client_is_freed_while_its_address_is_just_being_taken_up() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.serve(&pair.a, LONG);
    let locks = 100_000;
    Recorded { clients: 1, files: 100, locks }.write(&pair.journal, LM, &pair.world.export());
    let journal = text(&pair.journal);
    let freed = std::thread::scope(|s| {
        let starting = s.spawn(|| a.verb(&["start-grace", LM, "--journal", journal, "--adopt"]));
        let mut freed = false;
        while !starting.is_finished() && !freed {
            let output = a.command(&["unlock-client", "client-0"]);
            let why = String::from_utf8_lossy(&output.stderr);
            freed = output.status.success();
            assert!(
                freed || ["just being taken up", "no client has"].iter().any(|said| why.contains(said)),
                "{why}"
            );
        }
        freed
    });
    let left = a.lm(LM)["locks"].as_u64().unwrap();
    assert_eq!(left, if freed { 0 } else { u64::from(locks) }, "all or nothing");
}
