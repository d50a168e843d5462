//! Exports that belong to lock managers: through which address a lock may be taken, and what is missing.

use std::path::{Path, PathBuf};

use super::rawrpc::nlm::*;
use super::rawrpc::{Client, FLOAT, Tested, Want, host};
use super::{ALL_PROGRAMS, Daemon, LM, LONG, Pair, SECOND, lock, locks, programs_at, text};

/// Further exports `one` and `two` beside the usual one, each with a file `f`, and the tables that export all.
fn more_exports(pair: &Pair) -> ([PathBuf; 2], String) {
    let dirs = ["one", "two"].map(|name| pair.world.dir().join(name));
    for dir in &dirs {
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join("f"), b"data").unwrap();
    }
    let all = [&pair.world.export(), &dirs[0], &dirs[1]];
    let table = |dir: &&PathBuf| format!("[[export]]\npath = {dir:?}\nsquash = \"none\"\ninsecure = true\n");
    let tables = all.iter().map(table).collect();
    (dirs, tables)
}

fn handle(pair: &Pair, server: &Daemon, export: &Path) -> Vec<u8> {
    pair.a.within(|| server.handle_through(FLOAT.into(), export, "f"))
}

#[test]
fn a_bound_export_takes_new_locks_through_its_own_address_only_and_unlocks_through_any() {
    let Some(pair) = Pair::new() else { return };
    let local = std::net::Ipv4Addr::new(127, 0, 0, 1);
    let export = pair.world.export();
    let a = pair.serve(&pair.a, LONG);
    let fh = a.handle("f");
    let mut before = Client::to(host(10), local, "one");
    assert_eq!(before.lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let done = a.verb(&["start-grace", LM, text(&export)]);
    assert!(done["notes"].to_string().contains("127.0.0.1"), "who holds locks there through another: {done}");

    assert_eq!(before.lock(&Want::bytes(&fh, 50, 1)), NOLOCKS, "bound elsewhere");
    assert_eq!(a.counter("bound_elsewhere"), 1);
    a.await_log(&["bound to another lock manager", "127.0.0.1"]);
    assert_eq!(pair.a.client(11, "two").lock(&Want::bytes(&fh, 5, 1)), DENIED, "one file, one truth");
    assert!(matches!(before.test(&Want::bytes(&fh, 50, 1)), Tested::Free));
    assert_eq!(before.unlock(&Want::bytes(&fh, 0, 10)), GRANTED, "always legal");
    assert_eq!(pair.a.client(11, "two").lock(&Want::bytes(&fh, 5, 1)), GRANTED);
    assert_eq!(locks(&a), [lock(5, "two", "held")]);
}

#[test]
fn a_further_export_is_bound_without_a_window_for_the_first() {
    let Some(pair) = Pair::new() else { return };
    let ([one, two], tables) = more_exports(&pair);
    let a = pair.a.serve(&pair.world, LONG, &tables);
    a.verb(&["start-grace", LM, text(&one)]);
    let fh = handle(&pair, &a, &one);
    let mut client = pair.a.client(10, "one");
    assert_eq!(client.lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let done = a.verb(&["start-grace", LM, text(&two)]);
    assert_eq!((&done["changed"], &done["marked"]), (&true.into(), &0.into()), "{done}");
    assert_eq!(a.lm(LM)["exports"], serde_json::json!([one, two]));
    assert_eq!(a.lm(LM)["state"], "active");
    assert_eq!(client.lock(&Want::all(&handle(&pair, &a, &two))), GRANTED);
    assert_eq!(locks(&a).len(), 2);
}

#[test]
fn a_take_over_fails_and_names_the_export_while_one_with_locks_is_missing() {
    let Some(pair) = Pair::new() else { return };
    let ([one, two], tables) = more_exports(&pair);
    let a = pair.a.serve(&pair.world, LONG, &tables);
    pair.start(&a, &[text(&one), text(&two)]);
    let fh = handle(&pair, &a, &two);
    let mut client = pair.a.client(10, "one");
    assert_eq!(client.lock(&Want::all(&fh)), GRANTED);

    // The other node does not have it: whatever it is told, the one that serves goes on.
    let less = tables.replace(&format!("[[export]]\npath = {two:?}\n"), "[[export]]\npath = \"/nowhere\"\n");
    let b = pair.b.serve(&pair.world, LONG, &less);
    let start = ["start-grace", LM, "--journal", text(&pair.journal)];
    let (errno, why) = b.refused(&start);
    assert_eq!(errno, "ENOENT", "{why}");
    assert!(why.contains(text(&two)), "{why}");
    assert_eq!(client.lock(&Want::all(&fh)), GRANTED, "a command that fails takes nothing from anybody");
    assert_eq!(a.lm(LM)["state"], "active");

    // Nor while its owner is away, and then it finds everything once the export is there.
    assert_eq!(a.verb(&["unlock-ip", LM])["marked"], 1);
    assert_eq!(b.refused(&start).0, "ENOENT");
    let (errno, why) = b.refused(&["start-grace", LM, "/not/exported", "--journal", text(&pair.journal)]);
    assert_eq!(errno, "ENOENT", "{why}");
    assert!(why.contains("/not/exported"), "{why}");
    assert!(b.terminate().success());
    let b = pair.b.serve(&pair.world, LONG, &tables);
    assert_eq!(b.verb(&start)["marked"], 1);
    let mut client = pair.b.client(10, "one");
    assert_eq!(client.lock(&Want::all(&fh).reclaim()), GRANTED);

    // Without locks on it nobody misses it.
    assert_eq!(client.unlock(&Want::all(&fh)), GRANTED);
    b.kill();
    assert!(a.terminate().success());
    let a = pair.a.serve(&pair.world, LONG, &less);
    assert_eq!(a.verb(&start)["marked"], 0);
    assert_eq!(a.lm(LM)["exports"], serde_json::json!([one]));
}

#[test]
fn a_restart_without_the_disk_of_the_journal_is_silent_until_it_is_mounted() {
    let Some(pair) = Pair::new() else { return };
    let (kept, disk) = (pair.world.dir().join("kept"), pair.world.dir().join("disk"));
    pair.world.tmpfs(&kept, 64 << 10);
    std::fs::create_dir(kept.join("journal")).unwrap();
    std::fs::create_dir(&disk).unwrap();
    let mount = format!("mount --bind {} {}", kept.display(), disk.display());
    pair.world.sh(&mount);
    let a = pair.serve(&pair.a, LONG);
    a.verb(&["start-grace", LM, "--journal", text(&disk.join("journal"))]);
    let fh = pair.a.handle(&a, "f");
    assert_eq!(pair.a.client(10, "one").lock(&Want::all(&fh)), GRANTED);
    a.kill();
    pair.world.sh(&format!("umount {}", disk.display()));

    let a = pair.serve(&pair.a, LONG);
    assert_eq!(programs_at(&pair.a, FLOAT), [""; 0], "its locks are not known");
    let (errno, why) = a.refused(&["start-grace", LM]);
    assert_eq!(errno, "ENOENT", "{why}");
    assert!(why.contains(text(&disk)), "{why}");
    assert_eq!(programs_at(&pair.a, FLOAT), [""; 0]);
    pair.world.sh(&mount);
    assert_eq!(a.verb(&["start-grace", LM])["marked"], 1, "it knows where the journal lies");
    assert_eq!(pair.a.client(10, "one").lock(&Want::all(&fh).reclaim()), GRANTED);
    a.kill();
    pair.world.sh(&format!("umount {}", disk.display()));
}

#[test]
fn a_take_over_fails_while_the_journals_directory_is_missing() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.serve(&pair.a, LONG);
    let missing = pair.world.dir().join("not mounted/locks");
    let start = ["start-grace", LM, "--journal", text(&missing)];
    let (errno, why) = a.refused(&start);
    assert_eq!(errno, "ENOENT", "{why}");
    assert!(why.contains(text(&missing)), "{why}");
    assert!(!missing.exists(), "nothing is made where a disk should be");
    // The address may be here already: nothing is answered there, or clients would lock in two places.
    assert_eq!(programs_at(&pair.a, FLOAT), [""; 0]);
    assert_eq!(programs_at(&pair.a, std::net::Ipv4Addr::LOCALHOST), ALL_PROGRAMS, "of no concern to others");
    std::fs::create_dir_all(&missing).unwrap();
    a.verb(&start);
    assert_eq!(programs_at(&pair.a, FLOAT), ALL_PROGRAMS);
    assert_eq!(a.lm(LM)["journal"], text(&missing));
}

#[test]
fn two_lock_managers_cannot_have_one_journal() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    let (errno, why) = a.refused(&["start-grace", "127.1.0.2", "--journal", text(&pair.journal)]);
    assert_eq!(errno, "EBUSY", "{why}");
    assert!(why.contains(LM), "{why}");
    // Nor on another node, which cannot know who uses it: the journal says whose it is, and that one loses nothing.
    let b = pair.serve(&pair.b, LONG);
    let (errno, why) = b.refused(&["start-grace", "127.1.0.2", "--journal", text(&pair.journal)]);
    assert_eq!(errno, "EBUSY", "{why}");
    assert!(why.contains(LM), "{why}");
    assert_eq!(pair.a.client(10, "one").lock(&Want::all(&fh)), GRANTED);
    assert_eq!(pair.start(&b, &[])["marked"], 1);
}

#[test]
fn what_is_held_through_a_second_address_is_in_the_way_before_that_address_arrives() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    pair.start_second(&a);
    let bytes = Want::bytes(&fh, 0, 10);
    assert_eq!(pair.through_second(&pair.a).lock(&bytes), GRANTED);
    assert_eq!(pair.a.client(10, "one").lock(&bytes), DENIED);
    a.kill();
    // Both come up again, one after the other; between the two nobody gets what the second holds.
    let again = pair.serve(&pair.a, &format!("{LONG}on_restart = \"grace\"\n"));
    again.verb(&["unlock-ip", LM]);
    again.verb(&["unlock-ip", SECOND]);
    again.kill();
    let again = pair.serve(&pair.a, &format!("{LONG}grace.conflict = \"deny\"\n"));
    let done = pair.start(&again, &[]);
    assert!(done["notes"].to_string().contains(&format!("1 locks of {SECOND}")), "{done}");
    assert_eq!(pair.a.client(10, "one").lock(&bytes), DENIED);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 10, 10)), GRANTED);
    pair.start_second(&again);
    assert_eq!(pair.through_second(&pair.a).lock(&bytes.clone().reclaim()), GRANTED);
    assert_eq!(pair.through_second(&pair.a).unlock(&bytes), GRANTED);
    assert_eq!(pair.a.client(10, "one").lock(&bytes), GRANTED);
}
