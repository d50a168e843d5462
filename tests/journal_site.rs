//! Journals on the file systems that this machine can mount: the check, a life of a lock manager, the disk that is unmounted after
//! a release, and the one that is taken away from under its owner. Mounts in a mount namespace of its own; needs root.

// clippy.toml allows these in test functions; helpers of a test file are no less tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use lockferry::store::journal::{Disk, JournalError, Journals, Options, site};
use lockferry::store::record::{Durability, Record};
use lockferry::store::{Batch, Epoch, LockStore, Outcome};

const LM: &str = "192.0.2.10";
/// Set in the process that has the mount namespace: where to mount.
const INSIDE: &str = "LOCKFERRY_TEST_SITE";

#[test]
fn a_journal_lives_on_every_local_file_system_and_lets_go_of_its_disk() {
    if let Some(base) = std::env::var_os(INSIDE) {
        return inside(Path::new(&base));
    }
    let missing = ["unshare", "mount", "umount", "mkfs.ext4"].into_iter().find(|program| !found(program));
    let root = nix::unistd::geteuid().is_root();
    if !root || missing.is_some() {
        let what = missing.map_or("not root".to_owned(), |program| format!("no {program}"));
        assert!(std::env::var_os("LOCKFERRY_TEST_REQUIRE").is_none(), "{what}");
        return println!("skipped: journals on mounted file systems: {what}");
    }
    // Not on a tmpfs: overlay wants a file system below that can keep its marks.
    let base = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let out = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_journal_lives_on_every_local_file_system_and_lets_go_of_its_disk",
            "--nocapture",
        ])
        .env(INSIDE, base.path())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
}

fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/sbin"), "/usr/sbin".into()])
        .any(|dir| dir.join(program).exists())
}

fn run(command: &str) -> bool {
    Command::new("sh")
        .args(["-ec", command])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .status()
        .unwrap()
        .success()
}

fn dir(base: &Path, name: &str) -> PathBuf {
    let dir = base.join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn inside(base: &Path) {
    let at = |name| dir(base, name).display().to_string();
    for (name, mount) in [
        ("tmpfs", format!("mount -t tmpfs none {}", at("tmpfs"))),
        ("ext4", image(base, "ext4", "-t ext4")),
        ("ext2", image(base, "ext2", "-t ext2")),
        ("overlay", overlay(base, "overlay", "")),
        ("volatile", overlay(base, "volatile", ",volatile")),
    ] {
        assert!(run(&mount), "{mount}");
        let point = base.join(name);
        let journal = dir(&point, "journal");
        let site = site::check(&journal, Durability::Sync).unwrap();
        assert!(!site.shared);
        assert_eq!(site.warning.is_some(), matches!(name, "tmpfs" | "volatile"), "{site:?}");
        let kind = if name == "volatile" { "overlay" } else { name };
        assert_eq!(site.file_system, kind);
        life(&point, &journal);
        println!("{name}: good");
    }
    let read_only = base.join("ext2");
    assert!(run(&format!("mount {}/ext2.img {} -o loop,ro", base.display(), read_only.display())));
    let refused = site::check(&read_only.join("journal"), Durability::Sync);
    assert!(refused.is_err_and(|e| e.to_string().contains("Read-only")));
}

/// Makes a disk of 32 MiB.
fn image(base: &Path, kind: &str, options: &str) -> String {
    let file = base.join(format!("{kind}.img"));
    std::fs::File::create(&file).unwrap().set_len(32 << 20).unwrap();
    let (file, point) = (file.display(), dir(base, kind));
    format!("mkfs.ext4 -q {options} {file}; mount -o loop {file} {}", point.display())
}

fn overlay(base: &Path, name: &str, option: &str) -> String {
    let [lower, upper, work] =
        ["l", "u", "w"].map(|part| dir(base, &format!("{name}-{part}")).display().to_string());
    let point = dir(base, name);
    format!(
        "mount -t overlay none {} -o lowerdir={lower},upperdir={upper},workdir={work}{option}",
        point.display()
    )
}

fn store(journal: &Path) -> Journals {
    let options = Options { segment: 1 << 20, first_segment: 256 << 10, ..Options::default() };
    let store = Journals::new(Arc::new(Disk), "/nonexistent".into(), options);
    store.place(LM, journal.into());
    store
}

fn take_over(store: &Journals) -> Result<Epoch, JournalError> {
    let epoch = store.raise_epoch(LM, false)?;
    let report = store.load(LM, epoch, &mut |_| {})?;
    assert!(report.findings.is_empty(), "{report:?}");
    store.own(LM, epoch, &report)?;
    Ok(epoch)
}

fn append(store: &Journals, epoch: Epoch) -> Outcome {
    let (send, receive) = std::sync::mpsc::channel();
    let batch = Batch { entries: vec![Record::NsmState(7).into()].into(), essential: true };
    store.append(LM, epoch, batch, Box::new(move |outcome| send.send(outcome).unwrap()));
    receive.recv().unwrap()
}

/// Two owners in turn; the disk is unmounted after the first, and taken away from under the second.
fn life(point: &Path, journal: &Path) {
    let first = store(journal);
    let epoch = take_over(&first).unwrap();
    assert!(matches!(append(&first, epoch), Outcome::Durable(2)));
    first.release(LM, epoch).unwrap();
    let moved = point.with_extension("moved");
    std::fs::create_dir_all(&moved).unwrap();
    let (here, there) = (point.display(), moved.display());
    // Nobody may hold a file open on it.
    assert!(
        run(&format!("mount --bind {here} {there}; umount {here}")),
        "{here} cannot be unmounted after a release"
    );
    assert!(matches!(take_over(&first), Err(JournalError::NoDirectory(_))));
    assert!(
        run(&format!("mount --move {there} {here}"))
            || run(&format!("mount --bind {there} {here}; umount {there}"))
    );

    let second = store(journal);
    let epoch = take_over(&second).unwrap();
    assert!(matches!(append(&second, epoch), Outcome::Durable(5)));
    assert!(run(&format!("umount --lazy {here}")));
    let lost = append(&second, epoch);
    assert!(matches!(&lost, Outcome::Unknown(why) if why.contains("is its disk still mounted")), "{lost:?}");
    assert!(matches!(append(&second, epoch), Outcome::Failed(_)));
    assert!(second.release(LM, epoch).is_err());
}
