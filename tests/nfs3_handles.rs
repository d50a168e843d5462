//! Handles: stable over restart and rename, with and without privileges, on file systems without handles, and
//! what becomes of them when the file system goes away.

// Helpers of tests, which clippy does not take for tests.
#![allow(clippy::unwrap_used)]

mod nfs3_common;

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use lockferry::export::{LockFiles, LockRefusal};
use lockferry::node::config::ExportConfig;
use lockferry_xdr::nfs3::nfs_program::v3;
use lockferry_xdr::nfs3::*;
use nfs3_common::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Makes the calling thread, and all it starts, an ordinary user without any capability.
fn become_nobody() {
    // SAFETY: raw calls with plain integers; they change the calling thread only.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()), 0);
        assert_eq!(libc::syscall(libc::SYS_setresgid, 65534, 65534, 65534), 0);
        assert_eq!(libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534), 0);
    }
}

/// Runs `test` as an ordinary user, on a thread of its own.
fn as_nobody(test: impl FnOnce() + Send + 'static) {
    let root = is_root();
    std::thread::spawn(move || {
        if root {
            become_nobody();
        }
        test();
    })
    .join()
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn handles_survive_restart_and_rename() {
    let dir = public_dir();
    let path = dir.path();
    let s = Server::on(path);
    assert_eq!(s.table.privileged(), is_root());
    drop(s);
    let root = Server::on(path).mnt(path).unwrap();
    assert!(root.len() <= 64);
    survive(path);
}

fn survive(path: &Path) {
    let s = Server::on(path);
    let root = s.mnt(path).unwrap();
    let dir = s.mkdir(&root, "dir", 0o755).unwrap();
    let file = s.touch(&dir, "file", 0o644).unwrap();
    s.write(&file, 0, b"kept", StableHow::FileSync).unwrap();
    drop(s);

    // Nothing is remembered: handles are found again.
    let s = Server::on(path);
    assert_eq!(s.read(&file, 0, 9).unwrap().0, b"kept");
    s.rename((&root, "dir"), (&root, "moved")).unwrap();
    s.rename((&dir, "file"), (&root, "renamed")).unwrap();
    assert_eq!(s.read(&file, 0, 9).unwrap().0, b"kept");
    assert_eq!(s.lookup(&root, "renamed").unwrap(), file);

    // Behind the server's back, and the server is new again.
    std::fs::rename(path.join("renamed"), path.join("moved/again")).unwrap();
    assert_eq!(s.getattr(&file).unwrap().size, 4);
    let s = Server::on(path);
    std::fs::rename(path.join("moved"), path.join("twice")).unwrap();
    assert_eq!(s.getattr(&file).unwrap().size, 4);
    assert_eq!(s.lookup(&dir, "again").unwrap(), file);
    let key = s.table.key(&file).unwrap();
    assert_eq!(s.table.find_path(&key).unwrap(), path.join("twice/again"));
    assert_eq!(s.table.path(&key).unwrap(), path.join("twice/again"));
    let fresh = Server::on(path);
    assert_eq!(fresh.table.path(&key), None);
    assert_eq!(fresh.table.find_path(&key).unwrap(), path.join("twice/again"));

    s.remove(v3::REMOVE, &dir, "again").unwrap();
    assert_eq!(s.getattr(&file), Err(Nfsstat3::Nfs3errStale));
    assert_eq!(s.table.find_path(&key), None);
    let new = s.touch(&dir, "again", 0o644).unwrap();
    assert_eq!(s.getattr(&new).unwrap().size, 0);
}

#[test]
fn an_unprivileged_daemon_serves_as_its_own_user() {
    if !is_root() {
        eprintln!("runs as the ordinary user that started it");
    }
    let dir = public_dir();
    let path = dir.path().to_owned();
    as_nobody(move || {
        let mut s = Server::on(&path);
        assert!(!s.table.privileged());
        survive(&path);
        // Whoever asks is served as the daemon.
        s.cred = user(0, 0);
        let root = s.mnt(&path).unwrap();
        let file = s.touch(&root, "object", 0o444).unwrap();
        assert_eq!(s.getattr(&file).unwrap().uid, nix::unistd::geteuid().as_raw());
        // As git does it: created read-only, then written.
        s.write(&file, 0, b"data", StableHow::Unstable).unwrap();
        s.commit(&file).unwrap();
        assert_eq!(s.read(&file, 0, 9).unwrap().0, b"data");
        let give = Sattr3 { uid: SetUid3::True(12), ..unchanged() };
        assert_eq!(s.setattr(&file, give, Sattrguard3::False), Err(Nfsstat3::Nfs3errPerm));
        assert_eq!(s.table.check(&file, HERE, &s.cred, true), Ok(()));
        let how = Createhow3::Exclusive([9; 8]);
        let made = s.create(&root, "exclusive", how).unwrap();
        assert_eq!(s.create(&root, "exclusive", how).unwrap(), made);
        s.setattr(&made, with_mode(0o400), Sattrguard3::False).unwrap();
        s.write(&made, 0, b"data", StableHow::FileSync).unwrap();
    });
}

#[test]
fn a_made_up_handle_costs_one_search_a_while() {
    let dir = public_dir();
    for n in 0..2_000 {
        std::fs::write(dir.path().join(format!("f{n}")), b"").unwrap();
    }
    let path = dir.path().to_owned();
    as_nobody(move || {
        let s = Server::on(&path);
        let root = s.mnt(&path).unwrap();
        let start = std::time::Instant::now();
        for n in 0..5_000u32 {
            let mut made_up = root.clone();
            made_up.truncate(20);
            made_up[3] = 8;
            made_up.extend([n.to_be_bytes(), n.to_be_bytes()].concat());
            assert_eq!(s.getattr(&made_up), Err(Nfsstat3::Nfs3errStale));
        }
        eprintln!("5,000 made-up handles took {:?}", start.elapsed());
    });
}

#[test]
fn a_file_system_without_handles_is_served_by_inode_numbers() {
    if !is_root() {
        return skip("needs root to mount an overlay");
    }
    let dir = public_dir();
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let merged = dir.path().join("merged");
    let at = dir.path().display();
    let options = format!("lowerdir={at}/lower,upperdir={at}/upper,workdir={at}/work");
    let mounted = match Mounted::new(&["-t", "overlay", "overlay", "-o", &options], &merged) {
        Ok(mounted) => mounted,
        Err(error) => return skip(&format!("cannot mount an overlay: {error}")),
    };
    std::fs::set_permissions(&merged, PermissionsExt::from_mode(0o777)).unwrap();
    let s = Server::on(&merged);
    let warnings = s.table.warnings().join("\n");
    assert!(warnings.contains("no file handles") && warnings.contains("fsid"), "{warnings}");
    survive(&merged);
    drop(s);
    // A thread of the server may be a moment from closing its last descriptor.
    let gone =
        (0..100).any(|_| mounted.umount() || (std::thread::sleep(Duration::from_millis(100)), false).1);
    assert!(gone, "something is open for ever");
}

#[test]
fn what_is_mounted_below_an_export_is_not_entered() {
    if !is_root() {
        return skip("needs root to mount");
    }
    let dir = public_dir();
    let below = dir.path().join("below");
    let bind = dir.path().join("bind");
    std::fs::create_dir(&below).unwrap();
    std::fs::create_dir(&bind).unwrap();
    let _tmpfs = Mounted::new(&["-t", "tmpfs", "tmpfs"], &below).unwrap();
    let _bind = Mounted::new(&["--bind", "/tmp"], &bind).unwrap();
    std::fs::write(below.join("f"), b"x").unwrap();
    let s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    for name in ["below", "bind"] {
        assert_eq!(s.lookup(&root, name), Err(Nfsstat3::Nfs3errAcces));
        assert!(s.mnt(&dir.path().join(name)).is_err());
        assert_eq!(s.remove(v3::RMDIR, &root, name), Err(Nfsstat3::Nfs3errAcces));
    }
    assert!(s.names(&root, 4096).contains(&"below".to_owned()));
    // Exported by itself it is served, and its root has no way up.
    let s = Server::new(&[config(dir.path()), config(&below)]);
    let inner = s.mnt(&below).unwrap();
    assert!(s.lookup(&inner, "f").is_ok());
    assert_eq!(s.lookup(&inner, "..").unwrap(), inner);
}

#[test]
fn umount_succeeds_after_the_descriptors_are_dropped_and_use_reopens() {
    if !is_root() {
        return skip("needs root to mount");
    }
    let dir = public_dir();
    let at = dir.path().join("mnt");
    std::fs::create_dir(&at).unwrap();
    let mounted = Mounted::new(&["-t", "tmpfs", "tmpfs"], &at).unwrap();
    let export = ExportConfig { fsid: Some(5), ..config(&at) };
    let s = Server::new(&[export]);
    let root = s.mnt(&at).unwrap();
    let fh = s.touch(&root, "f", 0o644).unwrap();
    s.write(&fh, 0, b"x", StableHow::Unstable).unwrap();
    s.read(&fh, 0, 1).unwrap();
    assert!(!mounted.umount(), "descriptors are kept for a while");
    assert!(s.table.drop_descriptors(&at, Duration::from_secs(5)));
    assert!(s.read(&fh, 0, 1).is_ok(), "use opens it again");
    assert!(s.table.drop_descriptors(&at, Duration::from_secs(5)));
    assert!(mounted.umount());
    // The directory beneath has another identity than the handle... unless `fsid` says so; the file is gone.
    assert_eq!(s.read(&fh, 0, 1), Err(Nfsstat3::Nfs3errStale));
    assert!(s.table.drop_descriptors(Path::new("/no/such/export"), Duration::ZERO));
}

#[test]
fn a_missing_export_is_named_and_used_once_it_is_there() {
    let dir = public_dir();
    let (there, later) = (dir.path().join("there"), dir.path().join("later"));
    std::fs::create_dir(&there).unwrap();
    let s = Server::new(&[config(&later), config(&there)]);
    let views = s.table.views();
    assert!(views[0].error.as_deref().unwrap().contains("No such file"));
    assert_eq!((views[1].error.as_deref(), views[1].fsid.len()), (None, 16));
    assert!(s.mnt(&there).is_ok());
    assert!(s.mnt(&later).is_err());
    std::fs::create_dir(&later).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while s.mnt(&later).is_err() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(s.table.views()[0].error, None);
}

#[test]
fn an_export_whose_directory_is_away_makes_clients_wait() {
    let dir = public_dir();
    let path = dir.path().join("export");
    std::fs::create_dir(&path).unwrap();
    let s = Server::on(&path);
    let root = s.mnt(&path).unwrap();
    std::fs::remove_dir(&path).unwrap();
    s.table.drop_descriptors(&path, Duration::from_secs(5));
    assert_eq!(s.getattr(&root), Err(Nfsstat3::Nfs3errJukebox));
    // Its locks can be named all the same.
    assert!(s.table.key(&root).is_ok());
}

#[test]
fn two_exports_of_one_tree_share_locks_but_not_handles() {
    let dir = public_dir();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::write(dir.path().join("sub/f"), b"x").unwrap();
    let sub = dir.path().join("sub");
    let s = Server::new(&[config(dir.path()), ExportConfig { read_only: true, ..config(&sub) }]);
    let outer = s.lookup(&s.lookup(&s.mnt(dir.path()).unwrap(), "sub").unwrap(), "f").unwrap();
    let inner = s.lookup(&s.mnt(&sub).unwrap(), "f").unwrap();
    assert_ne!(outer, inner);
    assert_eq!(s.table.key(&outer).unwrap(), s.table.key(&inner).unwrap());
    assert_eq!(s.table.check(&outer, HERE, &s.cred, true), Ok(()));
    assert_eq!(s.table.check(&inner, HERE, &s.cred, true), Err(LockRefusal::ReadOnly));
    assert_eq!(s.table.check(&inner, HERE, &s.cred, false), Ok(()));
    // Without the export its handles mean nothing, and with another they stay what they are.
    let alone = Server::on(dir.path());
    assert_eq!(alone.table.key(&inner), Err(LockRefusal::Stale));
    assert_eq!(alone.getattr(&inner), Err(Nfsstat3::Nfs3errStale));
    assert!(alone.getattr(&outer).is_ok());
}

#[test]
fn locks_are_for_those_who_may_read_or_write() {
    if !is_root() {
        return skip("needs root to act as other users");
    }
    let dir = public_dir();
    let file = dir.path().join("f");
    std::fs::write(&file, b"x").unwrap();
    let clients = vec![lockferry::node::config::Cidr { addr: HERE, prefix: 32 }];
    let s = Server::new(&[ExportConfig { clients, ..config(dir.path()) }]);
    let root = s.mnt(dir.path()).unwrap();
    let fh = s.lookup(&root, "f").unwrap();
    let may = |uid, mode: u32| {
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        s.table.check(&fh, HERE, &user(uid, uid), true)
    };
    assert_eq!(may(1001, 0o600), Err(LockRefusal::Access));
    assert_eq!(may(1001, 0o604), Ok(()));
    assert_eq!(may(1001, 0o602), Ok(()));
    std::os::unix::fs::chown(&file, Some(1001), None).unwrap();
    assert_eq!(may(1001, 0o000), Ok(()));
    assert_eq!(s.table.cached(&fh, HERE, &user(1001, 1001), true), Some(Ok(())));
    assert_eq!(s.table.cached(&fh, HERE, &user(1001, 1001), false), None);
    assert_eq!(s.table.cached(&fh, HERE, &user(1003, 1001), true), None);
    let elsewhere = "10.0.0.1".parse().unwrap();
    assert_eq!(s.table.check(&fh, elsewhere, &user(1001, 1001), true), Err(LockRefusal::Access));
    assert_eq!(s.table.check(&root, HERE, &user(1001, 1001), true), Err(LockRefusal::Access));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(s.table.check(&fh, HERE, &user(1001, 1001), true), Err(LockRefusal::Stale));
    assert_eq!(s.table.check(b"junk", HERE, &user(1001, 1001), true), Err(LockRefusal::Stale));
}

#[test]
fn two_file_systems_do_not_get_one_identity() {
    if !is_root() {
        return skip("needs root to mount");
    }
    let (a, b) = (public_dir(), public_dir());
    let _mounted = Mounted::new(&["-t", "tmpfs", "tmpfs"], b.path()).unwrap();
    let fsid = Some(1);
    let s =
        Server::new(&[ExportConfig { fsid, ..config(a.path()) }, ExportConfig { fsid, ..config(b.path()) }]);
    let views = s.table.views();
    assert_eq!(views[0].error, None);
    assert!(views[1].error.as_deref().unwrap().contains("fsid"));
    assert!(s.mnt(a.path()).is_ok() && s.mnt(b.path()).is_err());
}

/// Runs a program that must succeed.
fn must(program: &str, args: &[&str]) -> Result<(), String> {
    let output =
        std::process::Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {text}")) }
}

#[test]
fn handles_of_a_disk_hold_on_another_node() {
    if !is_root() {
        return skip("needs root to mount");
    }
    let dir = public_dir();
    let (disk, copy, at) = (dir.path().join("disk"), dir.path().join("copy"), dir.path().join("mnt"));
    std::fs::create_dir(&at).unwrap();
    std::fs::File::create(&disk).unwrap().set_len(16 << 20).unwrap();
    if let Err(error) = must("mkfs.ext4", &["-q", "-F", disk.to_str().unwrap()]) {
        return skip(&error);
    }
    let mounted = match Mounted::new(&["-o", "loop", disk.to_str().unwrap()], &at) {
        Ok(mounted) => mounted,
        Err(error) => return skip(&format!("no loop devices: {error}")),
    };
    let s = Server::on(&at);
    assert_eq!(s.table.warnings(), Vec::<String>::new());
    let root = s.mnt(&at).unwrap();
    let file = s.touch(&root, "f", 0o644).unwrap();
    s.write(&file, 0, b"moved", StableHow::FileSync).unwrap();
    let key = s.table.key(&file).unwrap();
    assert!(s.table.drop_descriptors(&at, Duration::from_secs(5)));
    assert!(mounted.umount());

    // The same blocks behind another device, as after a take-over.
    std::fs::copy(&disk, &copy).unwrap();
    let _blocker = Mounted::new(&["-t", "tmpfs", "tmpfs"], &at).unwrap();
    let _mounted = Mounted::new(&["-o", "loop", copy.to_str().unwrap()], &at).unwrap();
    let s = Server::on(&at);
    assert_eq!(s.read(&file, 0, 9).unwrap().0, b"moved");
    assert_eq!(s.mnt(&at).unwrap(), root);
    assert_eq!(s.table.key(&file).unwrap(), key);
}

#[test]
fn a_full_disk_takes_what_fits_and_says_so() {
    if !is_root() {
        return skip("needs root to mount");
    }
    let dir = public_dir();
    let _mounted = Mounted::new(&["-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs"], dir.path()).unwrap();
    let s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    let file = s.touch(&root, "f", 0o644).unwrap();
    let data = vec![1; 700_000];
    assert_eq!(s.write(&file, 0, &data, StableHow::Unstable).unwrap().count, 700_000);
    let some = s.write(&file, 700_000, &data, StableHow::FileSync).unwrap().count;
    assert!(some < 700_000);
    let end = 700_000 + u64::from(some);
    assert_eq!(s.write(&file, end, &data, StableHow::FileSync), Err(Nfsstat3::Nfs3errNospc));
    assert_eq!(s.read(&file, 0, 10).unwrap().0, vec![1; 10]);
    s.remove(v3::REMOVE, &root, "f").unwrap();
    let file = s.touch(&root, "g", 0o644).unwrap();
    assert_eq!(
        s.write(&file, 0, &data, StableHow::FileSync).unwrap().count,
        700_000,
        "the space is free again"
    );
}
