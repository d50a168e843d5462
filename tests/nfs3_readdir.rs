//! READDIR and READDIRPLUS on a large directory in motion.

// Helpers of tests, which clippy does not take for tests.
#![allow(clippy::unwrap_used)]

mod nfs3_common;

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockferry_xdr::Decode;
use lockferry_xdr::nfs3::nfs_program::v3;
use lockferry_xdr::nfs3::*;
use nfs3_common::*;

const STABLE: usize = 100_000;

/// A directory on an ext4 of its own in memory: making 100,000 files on a busy disk takes long. Where that
/// cannot be had, on the disk.
fn fast_dir() -> (tempfile::TempDir, Option<Mounted>) {
    let mount = || {
        let dir = tempfile::Builder::new().tempdir_in("/dev/shm").ok()?;
        let image = dir.path().join("image");
        std::fs::File::create(&image).ok()?.set_len(256 << 20).ok()?;
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-O", "^has_journal", "-N", "250000"])
            .arg(&image)
            .status()
            .is_ok_and(|status| status.success());
        let at = dir.path().join("mnt");
        std::fs::create_dir(&at).ok()?;
        let mounted = Mounted::new(&["-o", "loop", image.to_str()?], &at).ok()?;
        made.then_some((dir, Some(mounted)))
    };
    mount().unwrap_or_else(|| {
        eprintln!("no ext4 in memory (needs root, loop devices, e2fsprogs): on the disk, which is slower");
        (public_dir(), None)
    })
}

mod slow {
    use super::*;

    #[test]
    fn each_stable_entry_of_100_000_comes_once_while_others_come_and_go() {
        let (dir, mounted) = fast_dir();
        let dir = mounted.as_ref().map_or(dir.path(), |mounted| &mounted.0);
        for n in 0..STABLE {
            std::fs::File::create(dir.join(format!("stable-{n:06}"))).unwrap();
        }
        let s = Server::on(dir);
        let root = s.mnt(dir).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let churn = {
            let (stop, path) = (stop.clone(), dir.to_owned());
            std::thread::spawn(move || {
                let mut rounds = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    let names: Vec<_> = (0..200).map(|n| path.join(format!("churn-{rounds}-{n}"))).collect();
                    names.iter().for_each(|name| drop(std::fs::File::create(name).unwrap()));
                    names.iter().for_each(|name| std::fs::remove_file(name).unwrap());
                    rounds += 1;
                }
                rounds
            })
        };

        let by_readdir = s.names(&root, 32 * 1024);
        check("READDIR", by_readdir.iter().map(String::as_str));
        let by_readdirplus = plus(&s, &root);
        check("READDIRPLUS", by_readdirplus.iter().map(|(name, _)| name.as_str()));

        stop.store(true, Ordering::Relaxed);
        assert!(churn.join().unwrap() > 0, "nothing came and went meanwhile");
        // What READDIRPLUS gives is what LOOKUP gives.
        for (name, handle) in by_readdirplus.iter().filter(|(name, _)| name.ends_with("777")) {
            assert_eq!(s.lookup(&root, name).as_ref(), Ok(handle.as_ref().unwrap()));
        }
    }
}

fn check<'a>(what: &str, names: impl Iterator<Item = &'a str>) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for name in names.filter(|name| name.starts_with("stable-") || *name == "." || *name == "..") {
        *seen.entry(name).or_default() += 1;
    }
    assert_eq!(seen.len(), STABLE + 2, "{what}");
    assert!(seen.values().all(|count| *count == 1), "{what} gave an entry twice");
}

fn plus(s: &Server, root: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    let (mut out, mut cookie) = (Vec::new(), 0);
    loop {
        let dir = NfsFh3 { data: root };
        let args =
            Readdirplus3args { dir, cookie, cookieverf: [0; 8], dircount: 16 * 1024, maxcount: 64 * 1024 };
        let results = s.nfs(v3::READDIRPLUS, &args);
        assert!(results.len() <= 64 * 1024);
        let Readdirplus3res::Nfs3Ok(ok) = Readdirplus3res::from_bytes(&results).unwrap() else { panic!() };
        for entry in &ok.reply.entries {
            cookie = entry.cookie;
            let handle = match entry.name_handle {
                PostOpFh3::True(fh) => Some(fh.data.to_vec()),
                PostOpFh3::False => None,
            };
            out.push((String::from_utf8(entry.name.to_vec()).unwrap(), handle));
        }
        if ok.reply.eof {
            return out;
        }
    }
}

#[test]
fn a_cookie_is_good_after_a_restart() {
    let dir = public_dir();
    (0..500).for_each(|n| std::fs::write(dir.path().join(format!("f{n}")), b"").unwrap());
    let s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    let all = s.names(&root, 1 << 20);
    let first = s.readdir(&root, 0, 4096).unwrap();
    assert!(!first.eof);
    let s = Server::on(dir.path());
    let rest = s.readdir(&root, first.entries.last().unwrap().1, 1 << 20).unwrap();
    assert!(rest.eof);
    let names: Vec<String> = first.entries.into_iter().chain(rest.entries).map(|e| e.0).collect();
    assert_eq!(names, all);
}

#[test]
fn small_and_strange_requests_get_their_errors() {
    let dir = public_dir();
    let s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    assert_eq!(s.readdir(&root, 0, 50).err(), Some(Nfsstat3::Nfs3errToosmall));
    assert_eq!(s.readdir(&root, u64::MAX, 4096).err(), Some(Nfsstat3::Nfs3errBadCookie));
    let file = s.touch(&root, "f", 0o644).unwrap();
    assert_eq!(s.readdir(&file, 0, 4096).err(), Some(Nfsstat3::Nfs3errNotdir));
    assert_eq!(s.names(&root, 200).len(), 3);
}
