//! Disks that are full or hang under the journal of one of two lock managers: what becomes of its clients, of those of the other one on the same
//! file, of the verbs, and of the end of the process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::races::{LM2, both, through};
use super::rawrpc::nlm::*;
use super::rawrpc::{Daemon, PATIENCE, SILENCE, Want};
use super::support::{self, wait_for};
use super::{LM, LONG, Pair, lock, locks, text};

/// Small segments, so that a disk is soon full.
fn top(more: &str) -> String {
    format!("{LONG}journal.segment_mib = 1\n{more}")
}

/// Both lock managers are taken up, with the journal of `ip` on a small disk. Then that disk is filled until not even an UNLOCK can be written:
/// `one` has byte 5 of `f` through it, and has asked to unlock it.
struct Full {
    pair: Pair,
    server: Daemon,
    fh: Vec<u8>,
    disk: PathBuf,
    top: String,
}

impl Full {
    fn new(ip: &str, more: &str) -> Option<Self> {
        let pair = Pair::new()?;
        pair.world.file("g");
        let disk = pair.world.dir().join(format!("journal-{ip}"));
        pair.world.tmpfs(&disk, 4 << 10);
        let top = top(more);
        let server = pair.a.serve(&pair.world, &top, &both(&pair));
        for ip in [LM, LM2] {
            server.verb(&["start-grace", ip]);
        }
        let fh = pair.a.handle(&server, "f");
        let mut one = through(ip, 11, "one");
        let big = |w: Want| Want { oh: vec![b'x'; 900], ..w };
        assert_eq!(one.lock(&Want::bytes(&fh, 5, 1)), GRANTED);
        assert_eq!(one.lock(&big(Want::bytes(&fh, 100, 60_000))), GRANTED);
        // Once the spare is there: what is kept is then known.
        wait_for("a spare segment", PATIENCE, || match std::fs::metadata(disk.join("spare-1")) {
            Ok(_) => Ok(()),
            Err(e) => Err(e.to_string()),
        });
        pair.world.sh(&format!("dd if=/dev/zero of='{}/hog' bs=64k 2>/dev/null || true", disk.display()));
        let unlocked = |n: u64| big(Want::bytes(&fh, 100 + 2 * n, 1));
        let full = (0..20_000).any(|n| one.status_within(PATIENCE / 4, 4, &unlocked(n)).is_none());
        assert!(full, "never full");
        assert_eq!(through(ip, 11, "one").status_within(SILENCE, 4, &Want::bytes(&fh, 5, 1)), None);
        Some(Self { pair, server, fh, disk, top })
    }

    fn make_room(&self) {
        let disk = self.disk.display();
        self.pair.world.sh(&format!("rm '{disk}/hog'; mount -o remount,size=64m '{disk}'"));
    }
}

#[test]
fn a_full_disk_holds_up_its_clients_and_nobody_elses() {
    let Some(full) = Full::new(LM2, "") else { return };
    let gh = full.pair.a.handle(&full.server, "g");
    assert_eq!(through(LM, 12, "two").lock(&Want::bytes(&gh, 0, 1)), GRANTED);
    let mut two = through(LM, 12, "two");
    for at in 0..20 {
        let want = Want::bytes(&full.fh, 900_000 + 2 * at, 1);
        assert_eq!(
            two.status_within(PATIENCE, 2, &want),
            Some(GRANTED),
            "other bytes of the same file: {at}"
        );
        assert_eq!(two.status_within(PATIENCE, 4, &want), Some(GRANTED));
    }
    assert_eq!(
        two.status_within(PATIENCE, 2, &Want::bytes(&full.fh, 5, 1)),
        Some(DENIED),
        "that one is still in a record"
    );
    let mut three = through(LM, 13, "three");
    assert_eq!(three.lock(&Want::bytes(&full.fh, 800_000, 1)), GRANTED, "also behind one that waits");
    full.make_room();
    let wanted = Want::bytes(&full.fh, 5, 1);
    wait_for("the byte", PATIENCE, || match through(LM, 12, "two").status_within(SILENCE, 2, &wanted) {
        Some(GRANTED) => Ok(()),
        other => Err(format!("{other:?}\n{}", full.server.log())),
    });
}

#[test]
fn what_was_freed_on_a_full_disk_is_not_told_to_be_anothers_before_the_record_has_it() {
    let Some(full) = Full::new(LM2, "") else { return };
    let wanted = Want::bytes(&full.fh, 5, 1);
    let mut two = through(LM, 12, "two");
    assert_eq!(two.status_within(PATIENCE, 2, &wanted.clone().blocking()), Some(BLOCKED));
    let done = full.server.verb(&["unlock-ip", LM2]);
    assert!(done["notes"].to_string().contains("still in its record"), "{done}");
    let trouble =
        |row: &serde_json::Value| row["trouble"].as_str().unwrap_or_default().contains("still in its record");
    assert!(trouble(&full.server.lm(LM2)), "{}", full.server.lm(LM2));
    assert_eq!(two.conn.receive(SILENCE), None, "a crash now would leave it with one");
    assert_eq!(through(LM, 12, "two").lock(&wanted), DENIED, "asked once more");
    assert_eq!(through(LM, 13, "three").lock(&Want::bytes(&full.fh, 800_000, 1)), GRANTED);
    full.make_room();
    let again = full.server.verb(&["start-grace", LM2]);
    assert_eq!(again["marked"], done["marked"], "what was said to be in the record is there: {again} {done}");
    assert!(!trouble(&full.server.lm(LM2)), "{}", full.server.lm(LM2));
    assert_eq!(through(LM2, 11, "one").unlock(&wanted), GRANTED, "asked for again, as there was no answer");
    assert_eq!(through(LM, 12, "two").lock(&wanted), GRANTED);
    let Full { pair, server, top, .. } = full;
    server.kill();
    let server = pair.a.serve(&pair.world, &top, &both(&pair));
    for ip in [LM2, LM] {
        server.verb(&["start-grace", ip]);
    }
    let held: Vec<_> = locks(&server).into_iter().filter(|lock| lock.0 == 5).collect();
    assert_eq!(held, [lock(5, "two", "held")]);
}

#[test]
fn a_crash_after_a_full_disk_was_given_up_takes_nothing_from_whoever_was_told_of_it() {
    let Some(full) = Full::new(LM2, "") else { return };
    let wanted = Want::bytes(&full.fh, 5, 1);
    let mut told = through(LM, 12, "two").status_within(SILENCE, 2, &wanted);
    full.server.verb(&["unlock-ip", LM2]);
    told = told.or(through(LM, 12, "two").status_within(SILENCE, 2, &wanted));
    full.make_room();
    let Full { pair, server, top, .. } = full;
    server.verb(&["unlock-ip", LM]);
    server.kill();
    let server = pair.a.serve(&pair.world, &top, &both(&pair));
    for ip in [LM2, LM] {
        server.verb(&["start-grace", ip]);
    }
    if told == Some(GRANTED) {
        assert_eq!(through(LM, 12, "two").lock(&wanted.reclaim()), GRANTED, "two was told that it has it");
    }
}

#[test]
fn a_full_disk_costs_no_other_lock_manager_its_orderly_end() {
    // The first one's is full: the other one comes behind it.
    let Some(full) = Full::new(LM, "journal.durability = \"relaxed\"\n") else { return };
    assert_eq!(through(LM2, 12, "two").lock(&Want::bytes(&full.fh, 900_000, 1)), GRANTED);
    let Full { pair, server, top, .. } = full;
    assert!(server.terminate().success());
    let server = pair.a.serve(&pair.world, &top, &both(&pair));
    let row = server.lm(LM2);
    assert_eq!((&row["state"], &row["full"]), (&"active".into(), &false.into()), "it is complete: {row}");
}

/// The journal of a lock manager on a disk that can be made to hang.
struct Freezer(PathBuf);

impl Freezer {
    /// `None`, said loudly: that cannot be done here.
    fn new(pair: &Pair, disk: &Path) -> Option<Self> {
        let image = pair.world.dir().join("image");
        let script = format!(
            "truncate -s 64M '{0}' && mkfs.ext4 -q '{0}' && mount -o loop '{0}' '{1}'",
            image.display(),
            disk.display()
        );
        let made = Command::new("sh").args(["-ec", &script]).output().unwrap();
        if !made.status.success() {
            support::skip(&format!("no loop device: {}", String::from_utf8_lossy(&made.stderr)));
            return None;
        }
        Some(Self(disk.to_owned()))
    }

    fn freeze(&self) {
        assert!(Command::new("fsfreeze").arg("-f").arg(&self.0).status().unwrap().success());
    }

    fn thaw(&self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0).stderr(std::process::Stdio::null()).status();
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw();
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Both are taken up; the disk of `LM2` hangs, and `one` has asked to unlock byte 5 of `f` through it. (The freezer ends before the server, which
/// would not end.)
fn hanging(pair: &Pair) -> Option<(Daemon, Freezer, Vec<u8>)> {
    let tables = both(pair);
    let disk = pair.world.dir().join(format!("journal-{LM2}"));
    let freezer = Freezer::new(pair, &disk)?;
    let server = pair.a.serve(&pair.world, LONG, &tables);
    for ip in [LM, LM2] {
        server.verb(&["start-grace", ip]);
    }
    let fh = pair.a.handle(&server, "f");
    let mut one = through(LM2, 11, "one");
    assert_eq!(one.lock(&Want::bytes(&fh, 5, 1)), GRANTED);
    freezer.freeze();
    assert_eq!(one.status_within(SILENCE, 4, &Want::bytes(&fh, 5, 1)), None);
    Some((server, freezer, fh))
}

#[test]
fn a_disk_that_hangs_does_not_keep_verbs_about_others_waiting() {
    let Some(pair) = Pair::new() else { return };
    let Some((server, _freezer, fh)) = hanging(&pair) else { return };
    assert_eq!(through(LM, 10, "two").lock(&Want::bytes(&fh, 0, 2)), GRANTED);
    server.verb(&["unlock-ip", LM]);
    server.verb(&["start-grace", LM]);
    let began = Instant::now();
    assert_eq!(server.verb(&["end-grace", LM])["freed"], 1);
    server.verb(&["unlock-client", "two"]);
    assert!(began.elapsed() < Duration::from_secs(25), "it waited for the other one's disk");
}

#[test]
fn giving_up_a_lock_manager_whose_disk_hangs_ends_with_an_error_and_everybody_is_told_what_is() {
    let Some(pair) = Pair::new() else { return };
    let Some((server, freezer, fh)) = hanging(&pair) else { return };
    let wanted = Want::bytes(&fh, 5, 1);
    assert_eq!(through(LM, 12, "two").lock(&wanted), DENIED);
    let disk = freezer.0.clone();
    for _ in 0..2 {
        let (errno, why) = server.refused(&["unlock-ip", LM2]);
        assert!(
            errno == "ETIMEDOUT" && why.contains(text(&disk)) && why.contains("given up"),
            "{errno}: {why}"
        );
    }
    let row = server.lm(LM2);
    assert_eq!(row["state"], "released", "{row}");
    assert!(row["trouble"].as_str().is_some_and(|t| t.contains("does not answer")), "{row}");
    let (errno, why) = server.refused(&["start-grace", LM2]);
    assert!(errno == "ETIMEDOUT" && why.contains("does not answer"), "{errno}: {why}");
    assert_eq!(through(LM, 12, "two").lock(&wanted), DENIED, "still in that record");
    assert_eq!(through(LM, 13, "three").lock(&Want::bytes(&fh, 50, 1)), GRANTED);

    freezer.thaw();
    server.await_lm(LM2, "no trouble", |row| row["trouble"].is_null());
    assert_eq!(through(LM, 12, "two").lock(&wanted), GRANTED, "it is in the record now");
    assert_eq!(server.verb(&["start-grace", LM2])["marked"], 0);
}
