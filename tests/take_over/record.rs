//! What the record is good for beyond a window: adopted, distrusted, on a full disk, nobody's for too long.

use super::rawrpc::nlm::*;
use super::rawrpc::{Client, PATIENCE, Want, host};
use super::support::wait_for;
use super::{LM, LONG, Pair, lock, locks, text};

#[test]
fn an_adopted_lock_manager_goes_on_where_it_was_and_clients_notice_nothing() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let wanted = Want::bytes(&fh, 5, 10).blocking();
    assert_eq!(pair.a.client(11, "two").lock(&wanted), BLOCKED);
    let state = a.lm(LM)["nsm_state"].clone();
    a.kill();
    let homes = [10, 11].map(|last| pair.b.host(last));
    let b = pair.serve(&pair.b, LONG);
    let dry = pair.start(&b, &["--adopt", "--dry-run"]);
    assert!(dry["text"].as_str().unwrap().contains("adopted") && dry["marked"] == 0, "{dry}");
    let done = pair.start(&b, &["--adopt"]);
    assert_eq!(done["marked"], 0, "{done}");
    let row = b.lm(LM);
    assert_eq!((&row["state"], &row["nsm_state"]), (&"active".into(), &state), "{row}");
    assert_eq!(locks(&b), [lock(0, "one", "held")]);
    assert_eq!(pair.b.client(12, "three").lock(&Want::bytes(&fh, 5, 1)), DENIED, "at once");
    assert_eq!(pair.b.client(10, "one").unlock(&Want::bytes(&fh, 0, 10)), GRANTED);
    assert!(homes[1].granted().is("two", &wanted), "who waited waits on");
    assert!(homes.iter().all(|home| home.count(NSM, 6) == 0));
    assert!(b.rows("clients").iter().all(|c| c["notify"].is_null()));
}

#[test]
fn what_was_given_up_in_order_can_be_adopted_too_but_not_what_is_still_to_be_reclaimed() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    let homes = [pair.b.host(10), pair.b.host(11)];
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let wanted = Want::bytes(&fh, 0, 10).blocking();
    assert_eq!(pair.a.client(11, "two").lock(&wanted), BLOCKED);
    assert_eq!(a.verb(&["unlock-ip", LM])["marked"], 1);
    let b = pair.serve(&pair.b, &format!("{LONG}on_take_over = \"adopt\"\n"));
    let dry = pair.start(&b, &["--dry-run"]);
    assert!(dry["text"].as_str().unwrap().contains("would be adopted") && dry["marked"] == 0, "{dry}");
    assert_eq!(pair.start(&b, &[])["marked"], 0);
    assert_eq!((locks(&b), b.lm(LM)["state"].as_str()), (vec![lock(0, "one", "held")], Some("active")));
    // Who waited waits on, and is called back from here.
    assert_eq!(pair.b.client(10, "one").unlock(&Want::bytes(&fh, 0, 10)), GRANTED);
    assert!(homes[1].granted().is("two", &wanted));
    assert!(homes.iter().all(|home| home.count(NSM, 6) == 0), "nobody was told anything");

    // In a window that is still open when the lock manager is given up, nobody knows yet who is back.
    assert_eq!(b.verb(&["unlock-ip", LM])["marked"], 1);
    assert_eq!(pair.start(&a, &[])["marked"], 1);
    assert_eq!(a.verb(&["unlock-ip", LM])["marked"], 1);
    let dry = pair.start(&b, &["--dry-run"]);
    assert!(dry["text"].as_str().unwrap().contains("grace window") && dry["marked"] == 1, "{dry}");
    assert_eq!(pair.start(&b, &[])["marked"], 1);
    assert_eq!(b.lm(LM)["state"], "grace");
    assert_eq!(pair.b.client(11, "two").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
}

#[test]
fn in_a_full_window_everything_new_waits_and_claims_are_believed() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    a.verb(&["unlock-ip", LM]);
    let home = pair.b.host(10);
    let b = pair.serve(&pair.b, LONG);
    let done = pair.start(&b, &["--full"]);
    assert_eq!((&done["all_wait"], &done["marked"]), (&true.into(), &1.into()), "{done}");
    home.notice();
    let (mut one, mut two) = (pair.b.client(10, "one"), pair.b.client(11, "two"));
    assert_eq!(two.lock(&Want::bytes(&fh, 50, 1)), GRACE, "even what nobody is known to have had");
    assert_eq!(two.lock(&Want::bytes(&fh, 70, 1).reclaim()), GRANTED, "the record may lack it");
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    assert_eq!(two.lock(&Want::bytes(&fh, 5, 1).reclaim()), DENIED, "one is back");
    assert_eq!(b.lm(LM)["state"], "grace", "it never ends early");
    b.verb(&["end-grace", LM]);
    assert_eq!(two.lock(&Want::bytes(&fh, 50, 1)), GRANTED);

    // It was full, and its owner died in it: then so is the next one. This one has ended: the record is complete.
    b.kill();
    let a = pair.start(&a, &[]);
    assert_eq!((&a["all_wait"], &a["marked"]), (&false.into(), &3.into()), "{a}");
}

#[test]
fn a_node_that_dies_in_a_full_window_leaves_one() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    a.kill();
    let b = pair.serve(&pair.b, LONG);
    pair.start(&b, &["--full"]);
    assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    b.kill();
    let b = pair.serve(&pair.b, LONG);
    let row = b.lm(LM);
    assert_eq!(
        (&row["state"], &row["full"]),
        (&"grace".into(), &true.into()),
        "adopting it would be a lie: {row}"
    );
    assert_eq!(pair.b.client(11, "two").lock(&Want::bytes(&fh, 50, 1)), GRACE);
}

#[test]
fn on_a_full_disk_new_locks_are_refused_and_everything_else_goes_on() {
    let Some(pair) = Pair::new() else { return };
    let disk = pair.world.dir().join("small");
    pair.world.tmpfs(&disk, 24 << 10);
    let journal = disk.join("journal");
    std::fs::create_dir(&journal).unwrap();
    let top = format!("{LONG}journal.segment_mib = 4\n");
    let a = pair.serve(&pair.a, &top);
    let start = ["start-grace", LM, "--journal", text(&journal)];
    a.verb(&start);
    let fh = pair.a.handle(&a, "f");
    let mut one = pair.a.client(10, "one");
    for at in 0..20 {
        assert_eq!(one.lock(&Want::bytes(&fh, at * 2, 1)), GRANTED);
    }
    a.verb(&["unlock-ip", LM]);
    a.verb(&start);
    let mut one = pair.a.client(10, "one");
    let mut two = pair.a.client(11, "two");
    // Large records, so that it does not take long. However fast they come, what is kept for others is not used up.
    let hog = disk.join("hog");
    let mut taken = 0;
    let large = |n: u64| Want { oh: vec![b'x'; 1000], ..Want::bytes(&fh, 10_000 + n * 2, 1) };
    loop {
        if taken % 50 == 0 {
            fill(&hog);
        }
        match two.lock(&large(taken)) {
            GRANTED => taken += 1,
            other => break assert_eq!(other, NOLOCKS, "after {taken}"),
        }
        assert!(taken < 20_000, "never refused");
    }
    for at in 0..20 {
        assert_eq!(one.lock(&Want::bytes(&fh, at * 2, 1).reclaim()), GRANTED, "reclaim {at}");
    }
    for at in 0..10 {
        assert_eq!(one.unlock(&Want::bytes(&fh, at * 2, 1)), GRANTED, "unlock {at}");
    }
    assert_eq!(one.lock(&Want::bytes(&fh, 20, 1)), GRANTED, "what one has is no new lock");
    assert_eq!(two.lock(&Want::bytes(&fh, 0, 1)), NOLOCKS);
    let status = a.query("status");
    assert!(status["warnings"].to_string().contains(LM), "somebody should know: {status}");
    std::fs::remove_file(&hog).unwrap();
    wait_for("locks again", PATIENCE, || match two.lock(&Want::bytes(&fh, 0, 1)) {
        GRANTED => Ok(()),
        other => Err(format!("{other}\n{}", a.log())),
    });
    assert!(a.lm(LM)["trouble"].is_null());
    // Nothing of it was a lie.
    a.kill();
    let b = pair.serve(&pair.b, &top);
    let done = b.verb(&start);
    assert_eq!(done["marked"], taken + 10 + 1, "{done}");
}

#[test]
fn what_is_wrong_with_a_record_is_said_as_it_is_and_nothing_is_waited_for() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.serve(&pair.a, LONG);
    let damaged = ["damaged", "full one", "journal verify"];
    let cases: [(&str, &[&str]); 4] = [
        ("dd if=/dev/zero of=segment-1-1 bs=4096 count=1 conv=notrunc 2>/dev/null", &["segment-1-1:0"]),
        ("head -c 70000 /dev/urandom > snapshot-9-99", &["snapshot-9-99:0"]),
        ("rm segment-*", &["files are gone"]),
        ("mkfifo epoch-9", &[]),
    ];
    for (n, (script, words)) in cases.into_iter().enumerate() {
        let ip = format!("127.9.0.{}", n + 1);
        let dir = pair.world.dir().join(format!("bad-{n}"));
        std::fs::create_dir(&dir).unwrap();
        let start = ["start-grace", &ip, "--journal", text(&dir)];
        a.verb(&start);
        let fh = a.handle_through(ip.parse().unwrap(), &pair.world.export(), "f");
        let mut one = Client::to(host(10), ip.parse::<std::net::Ipv4Addr>().unwrap(), "one");
        assert_eq!(one.lock(&Want::bytes(&fh, 100 * n as u64, 10)), GRANTED);
        a.verb(&["unlock-ip", &ip]);
        pair.world.sh(&format!("cd '{}' && {script}", dir.display()));
        if words.is_empty() {
            let (errno, why) = a.refused(&start);
            assert!(
                why.contains("epoch-9") && why.contains("FIFO") && why.contains("move it away"),
                "{errno}: {why}"
            );
            continue;
        }
        let dry = a.verb(&[&start[..], &["--dry-run"]].concat());
        for done in [dry, a.verb(&start)] {
            let notes = done["notes"].to_string();
            let all = words.iter().chain(if words[0].contains(':') { &damaged[..] } else { &damaged[1..2] });
            all.for_each(|word| assert!(notes.contains(word), "{script}: no {word}: {done}"));
            assert!(!notes.contains("nothing was recorded"), "something was: {done}");
        }
    }
}

/// Fills the disk of a file.
fn fill(file: &std::path::Path) {
    use std::io::Write as _;
    let mut hog = std::fs::File::options().create(true).append(true).open(file).unwrap();
    while hog.write_all(&[1; 4096]).is_ok() {}
}

#[test]
fn what_nobody_takes_up_in_the_hold_time_is_dropped_and_named() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(&format!("{LONG}grace.hold = \"2s\"\n"));
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    assert_eq!(pair.a.client(11, "two").lock(&Want::bytes(&fh, 20, 10)), GRANTED);
    a.verb(&["unlock-ip", LM]);
    a.await_log(&["lock dropped", "one", LM]);
    a.await_log(&["lock dropped", "two", LM]);
    a.await_log(&["hold time is over", "locks=2"]);
    let b = pair.serve(&pair.b, LONG);
    let done = pair.start(&b, &[]);
    assert_eq!(done["marked"], 0, "{done}");
    assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRACE, "gone");
    assert_eq!(pair.b.client(12, "three").lock(&Want::all(&fh)), GRANTED);
}

#[test]
fn what_another_node_took_up_is_not_dropped_by_the_one_that_released_it() {
    let Some(pair) = Pair::new() else { return };
    let hold = format!("{LONG}grace.hold = \"1s\"\n");
    let (a, fh) = pair.begin(&hold);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let b = pair.serve(&pair.b, &hold);
    a.verb(&["unlock-ip", LM]);
    assert_eq!(pair.start(&b, &[])["marked"], 1);
    // The other one's hold time passes, several times: one lock manager more, released later, shows when.
    a.verb(&["start-grace", "127.1.0.7"]);
    let other = std::net::Ipv4Addr::new(127, 1, 0, 7);
    let mut seven = super::rawrpc::Client::to(super::rawrpc::host(10), other, "seven");
    assert_eq!(seven.lock(&Want::bytes(&fh, 100, 1)), GRANTED);
    a.verb(&["unlock-ip", "127.1.0.7"]);
    a.await_log(&["lock dropped", "seven"]);
    assert!(!a.log().contains("client=one"), "{}", a.log());
    assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    assert_eq!(locks(&b), [lock(0, "one", "held")]);
}

#[test]
fn a_lock_that_expired_is_dropped_after_the_hold_time() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    a.kill();
    let b = pair.serve(&pair.b, "grace.window = \"200ms\"\ngrace.hold = \"2s\"\n");
    pair.start(&b, &[]);
    b.await_lm(LM, "an expired lock", |row| row["expired"] == 1);
    b.await_lm(LM, "none", |row| row["expired"] == 0);
    assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRACE);
    b.await_log(&["expired locks dropped", LM]);
}
