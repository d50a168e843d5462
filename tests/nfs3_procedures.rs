//! Each NFSv3 and MOUNT procedure, by direct dispatch.

// Helpers of tests, which clippy does not take for tests.
#![allow(clippy::unwrap_used)]

mod nfs3_common;

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use lockferry::node::config::{Cidr, ExportConfig, Squash};
use lockferry_xdr::mount::Mountstat3;
use lockferry_xdr::nfs3::nfs_program::v3;
use lockferry_xdr::nfs3::*;
use lockferry_xdr::{Decode, Encode};
use nfs3_common::*;

#[test]
fn a_file_is_made_written_read_and_removed() {
    let dir = public_dir();
    let s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    let fh = s.touch(&root, "f", 0o640).unwrap();
    assert_eq!(s.lookup(&root, "f").unwrap(), fh);
    assert_eq!(s.getattr(&fh).unwrap().mode, 0o640);
    let data: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    let written = s.write(&fh, 5, &data, StableHow::Unstable).unwrap();
    assert_eq!(written.count as usize, data.len());
    assert_eq!(s.commit(&fh).unwrap(), written.verf);
    let stable = s.write(&fh, 0, b"hello", StableHow::FileSync).unwrap();
    assert_eq!(stable.committed, StableHow::FileSync);
    assert_eq!(s.read(&fh, 5, 1 << 20).unwrap(), (data, true));
    assert_eq!(s.read(&fh, 0, 5).unwrap(), (b"hello".to_vec(), false));
    assert_eq!(s.read(&fh, 1 << 40, 5).unwrap(), (vec![], true));
    assert_eq!(s.read(&fh, u64::MAX, 5), Err(Nfsstat3::Nfs3errInval));
    assert_eq!(s.write(&fh, u64::MAX - 2, b"xxx", StableHow::Unstable), Err(Nfsstat3::Nfs3errFbig));
    s.remove(v3::REMOVE, &root, "f").unwrap();
    assert_eq!(s.getattr(&fh), Err(Nfsstat3::Nfs3errStale));
    assert_eq!(s.read(&fh, 0, 5), Err(Nfsstat3::Nfs3errStale));
    assert_eq!(s.lookup(&root, "f"), Err(Nfsstat3::Nfs3errNoent));
    assert_eq!(s.remove(v3::REMOVE, &root, "f"), Err(Nfsstat3::Nfs3errNoent));
}

#[test]
fn attributes_around_a_write_differ_by_it_alone() {
    let dir = public_dir();
    let s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    let fh = s.touch(&root, "f", 0o600).unwrap();
    let w = s.write(&fh, 0, b"abc", StableHow::Unstable).unwrap().file_wcc;
    let (PreOpAttr::True(before), PostOpAttr::True(after)) = (w.before, w.after) else { panic!() };
    assert_eq!((before.size, after.size), (0, 3));
    let again = s.write(&fh, 3, b"d", StableHow::Unstable).unwrap().file_wcc;
    let PreOpAttr::True(before) = again.before else { panic!() };
    assert_eq!((before.size, before.ctime, before.mtime), (after.size, after.ctime, after.mtime));
}

#[test]
fn directories_are_made_renamed_and_removed() {
    let dir = public_dir();
    let s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    let a = s.mkdir(&root, "a", 0o755).unwrap();
    let b = s.mkdir(&root, "b", 0o2755).unwrap();
    assert_eq!(s.getattr(&b).unwrap().mode, 0o2755);
    let f = s.touch(&a, "f", 0o644).unwrap();
    assert_eq!(s.remove(v3::RMDIR, &root, "a"), Err(Nfsstat3::Nfs3errNotempty));
    let done = s.rename((&a, "f"), (&b, "g")).unwrap();
    assert!(matches!(
        (done.fromdir_wcc.before, done.todir_wcc.after),
        (PreOpAttr::True(_), PostOpAttr::True(_))
    ));
    assert_eq!(s.lookup(&b, "g").unwrap(), f);
    s.remove(v3::RMDIR, &root, "a").unwrap();
    assert_eq!(s.getattr(&a), Err(Nfsstat3::Nfs3errStale));
    assert_eq!(s.remove(v3::REMOVE, &root, "b"), Err(Nfsstat3::Nfs3errIsdir));
    assert_eq!(s.remove(v3::RMDIR, &b, "g"), Err(Nfsstat3::Nfs3errNotdir));
    s.touch(&b, "h", 0o644).unwrap();
    s.rename((&b, "h"), (&b, "g")).unwrap();
    assert_eq!(s.getattr(&f), Err(Nfsstat3::Nfs3errStale));
    assert_eq!(s.rename((&b, "."), (&b, "x")).unwrap_err(), Nfsstat3::Nfs3errInval);
    assert_eq!(s.rename((&root, "b"), (&b, "x")).unwrap_err(), Nfsstat3::Nfs3errInval);
    assert_eq!(s.touch(&f, "x", 0o644), Err(Nfsstat3::Nfs3errStale));
    let g = s.lookup(&b, "g").unwrap();
    assert_eq!(s.touch(&g, "x", 0o644), Err(Nfsstat3::Nfs3errNotdir));
    assert_eq!(s.lookup(&g, "x"), Err(Nfsstat3::Nfs3errNotdir));
}

#[test]
fn links_symlinks_and_pipes_are_made() {
    let dir = public_dir();
    let s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    let f = s.touch(&root, "f", 0o644).unwrap();
    let args = Link3args { file: NfsFh3 { data: &f }, link: at(&root, "hard") };
    let results = s.nfs(v3::LINK, &args);
    assert!(matches!(Link3res::from_bytes(&results).unwrap(), Link3res::Nfs3Ok(_)));
    assert_eq!(s.lookup(&root, "hard").unwrap(), f);
    assert_eq!(s.getattr(&f).unwrap().nlink, 2);
    s.remove(v3::REMOVE, &root, "f").unwrap();
    assert_eq!(s.getattr(&f).unwrap().nlink, 1);

    let symlink = Symlinkdata3 { symlink_attributes: unchanged(), symlink_data: b"/etc/passwd" };
    let l = s.made(v3::SYMLINK, &Symlink3args { where_: at(&root, "l"), symlink }).unwrap();
    assert_eq!(s.getattr(&l).unwrap().type_, Ftype3::Nf3lnk);
    let results = s.nfs(v3::READLINK, &Readlink3args { symlink: NfsFh3 { data: &l } });
    match Readlink3res::from_bytes(&results).unwrap() {
        Readlink3res::Nfs3Ok(ok) => assert_eq!(ok.data, b"/etc/passwd"),
        other => panic!("{other:?}"),
    }
    let time = Nfstime3 { seconds: 77, nseconds: 0 };
    let mtime = SetMtime::SetToClientTime(time);
    s.setattr(&l, Sattr3 { mtime, ..unchanged() }, Sattrguard3::False).unwrap();
    assert_eq!(s.getattr(&l).unwrap().mtime, time);
    assert_eq!(s.setattr(&l, with_mode(0o600), Sattrguard3::False), Err(Nfsstat3::Nfs3errNotsupp));
    let args = Link3args { file: NfsFh3 { data: &l }, link: at(&root, "l2") };
    assert!(matches!(Link3res::from_bytes(&s.nfs(v3::LINK, &args)).unwrap(), Link3res::Nfs3Ok(_)));
    assert_eq!(s.lookup(&root, "l2").unwrap(), l);
    // The server itself never follows it.
    assert_eq!(s.read(&l, 0, 10), Err(Nfsstat3::Nfs3errInval));
    assert_eq!(s.lookup(&l, "x"), Err(Nfsstat3::Nfs3errNotdir));
    assert_eq!(s.touch(&root, "l", 0o600), Err(Nfsstat3::Nfs3errExist));

    let what = Mknoddata3::Nf3fifo(with_mode(0o620));
    let p = s.made(v3::MKNOD, &Mknod3args { where_: at(&root, "p"), what }).unwrap();
    assert_eq!(s.getattr(&p).unwrap().mode, 0o620);
    assert!(std::fs::metadata(dir.path().join("p")).unwrap().file_type().is_fifo());
    assert_eq!(s.read(&p, 0, 10), Err(Nfsstat3::Nfs3errInval));
    let what = Mknoddata3::Default(Ftype3::Nf3reg);
    assert_eq!(
        s.made(v3::MKNOD, &Mknod3args { where_: at(&root, "q"), what }),
        Err(Nfsstat3::Nfs3errBadtype)
    );
}

#[test]
fn devices_are_for_the_superuser() {
    if !is_root() {
        return skip("needs root");
    }
    let dir = public_dir();
    let mut s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    let spec = Specdata3 { specdata1: 1, specdata2: 3 };
    let what = Mknoddata3::Nf3chr(Devicedata3 { dev_attributes: with_mode(0o600), spec });
    let dev = s.made(v3::MKNOD, &Mknod3args { where_: at(&root, "null"), what }).unwrap();
    assert_eq!(s.getattr(&dev).unwrap().rdev, spec);
    s.cred = user(1000, 1000);
    assert_eq!(s.made(v3::MKNOD, &Mknod3args { where_: at(&root, "n2"), what }), Err(Nfsstat3::Nfs3errPerm));
}

#[test]
fn an_exclusive_create_is_known_again_and_another_one_is_not() {
    let dir = public_dir();
    let s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    let how = Createhow3::Exclusive([0xff, 2, 3, 4, 0xfe, 6, 7, 8]);
    let fh = s.create(&root, "f", how).unwrap();
    assert_eq!(s.create(&root, "f", how).unwrap(), fh);
    // Also by a server that was started anew.
    let later = Server::on(dir.path());
    assert_eq!(later.create(&root, "f", how).unwrap(), fh);
    let other = Createhow3::Exclusive([1; 8]);
    assert_eq!(s.create(&root, "f", other), Err(Nfsstat3::Nfs3errExist));
    s.setattr(&fh, Sattr3 { mtime: SetMtime::SetToServerTime, ..with_mode(0o644) }, Sattrguard3::False)
        .unwrap();
    assert_eq!(s.create(&root, "f", how), Err(Nfsstat3::Nfs3errExist));
    assert_eq!(s.create(&root, "f", Createhow3::Guarded(unchanged())), Err(Nfsstat3::Nfs3errExist));
    s.write(&fh, 0, b"data", StableHow::Unstable).unwrap();
    assert_eq!(s.create(&root, "f", Createhow3::Unchecked(with_mode(0o600))).unwrap(), fh);
    assert_eq!(s.getattr(&fh).unwrap().size, 4);
    s.create(&root, "f", Createhow3::Unchecked(with_size(0))).unwrap();
    assert_eq!(s.getattr(&fh).unwrap().size, 0);
}

#[test]
fn attributes_are_set_under_a_guard() {
    let dir = public_dir();
    let s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    let fh = s.touch(&root, "f", 0o600).unwrap();
    let time = Nfstime3 { seconds: 1_000_000, nseconds: 5 };
    let new = Sattr3 {
        atime: SetAtime::SetToClientTime(time),
        mtime: SetMtime::SetToClientTime(time),
        mode: SetMode3::True(0o4711),
        ..with_size(10_000)
    };
    let ctime = s.getattr(&fh).unwrap().ctime;
    s.setattr(&fh, new, Sattrguard3::True(ctime)).unwrap();
    let now = s.getattr(&fh).unwrap();
    assert_eq!((now.size, now.mode, now.mtime, now.atime), (10_000, 0o4711, time, time));
    let stale = Sattrguard3::True(ctime);
    assert_eq!(s.setattr(&fh, with_mode(0o600), stale), Err(Nfsstat3::Nfs3errNotSync));
    assert_eq!(s.setattr(&root, with_size(1), Sattrguard3::False), Err(Nfsstat3::Nfs3errIsdir));
    let bad = Nfstime3 { seconds: 0, nseconds: 1_000_000_000 };
    let new = Sattr3 { mtime: SetMtime::SetToClientTime(bad), ..unchanged() };
    assert_eq!(s.setattr(&fh, new, Sattrguard3::False), Err(Nfsstat3::Nfs3errInval));
}

#[test]
fn a_call_acts_as_its_caller() {
    if !is_root() {
        return skip("needs root to act as other users");
    }
    let dir = public_dir();
    let mut s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    s.cred = user(1001, 1001);
    let mine = s.touch(&root, "mine", 0o600).unwrap();
    let attr = s.getattr(&mine).unwrap();
    assert_eq!((attr.uid, attr.gid), (1001, 1001));
    s.write(&mine, 0, b"secret", StableHow::Unstable).unwrap();
    // The owner may go on although the mode forbids it: the client opened the file before.
    s.setattr(&mine, with_mode(0o000), Sattrguard3::False).unwrap();
    s.write(&mine, 0, b"Secret", StableHow::Unstable).unwrap();
    assert_eq!(s.read(&mine, 0, 10).unwrap().0, b"Secret");
    s.setattr(&mine, with_size(3), Sattrguard3::False).unwrap();
    let give = Sattr3 { uid: SetUid3::True(5), ..unchanged() };
    assert_eq!(s.setattr(&mine, give, Sattrguard3::False), Err(Nfsstat3::Nfs3errPerm));

    s.cred = user(1002, 1002);
    assert_eq!(s.read(&mine, 0, 10), Err(Nfsstat3::Nfs3errAcces));
    assert_eq!(s.write(&mine, 0, b"x", StableHow::Unstable), Err(Nfsstat3::Nfs3errAcces));
    assert_eq!(s.setattr(&mine, with_mode(0o777), Sattrguard3::False), Err(Nfsstat3::Nfs3errPerm));
    assert_eq!(s.access(&mine), 0);
    assert_eq!(s.access(&root) & ACCESS3_MODIFY, ACCESS3_MODIFY);

    // Who may execute may read, as far as the protocol is concerned.
    std::fs::set_permissions(dir.path().join("mine"), PermissionsExt::from_mode(0o001)).unwrap();
    assert_eq!(s.read(&mine, 0, 10).unwrap().0, b"Sec");

    s.cred = user(0, 0);
    s.setattr(&mine, give, Sattrguard3::False).unwrap();
    assert_eq!(s.getattr(&mine).unwrap().uid, 5);
}

#[test]
fn a_write_by_another_user_clears_the_set_user_id_bit() {
    if !is_root() {
        return skip("needs root to act as other users");
    }
    let dir = public_dir();
    let mut s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    s.cred = user(1001, 1001);
    let fh = s.touch(&root, "f", 0o4777).unwrap();
    assert_eq!(s.getattr(&fh).unwrap().mode, 0o4777);
    s.cred = user(1002, 1002);
    s.write(&fh, 0, b"x", StableHow::Unstable).unwrap();
    assert_eq!(s.getattr(&fh).unwrap().mode, 0o777);
}

#[test]
fn groups_count_and_squashed_ones_do_not() {
    if !is_root() {
        return skip("needs root to act as other users");
    }
    let dir = public_dir();
    std::fs::write(dir.path().join("f"), b"x").unwrap();
    std::os::unix::fs::chown(dir.path().join("f"), Some(0), Some(77)).unwrap();
    std::fs::set_permissions(dir.path().join("f"), PermissionsExt::from_mode(0o640)).unwrap();
    let mut s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    let fh = s.lookup(&root, "f").unwrap();
    let in_group = |gids: &[u32]| {
        lockferry::rpc::Cred::Sys(lockferry::rpc::AuthSys {
            machine_name: Box::default(),
            uid: 1001,
            gid: 1001,
            gids: gids.into(),
        })
    };
    s.cred = in_group(&[5, 77]);
    assert_eq!(s.read(&fh, 0, 9).unwrap().0, b"x");
    s.cred = in_group(&[5]);
    assert_eq!(s.read(&fh, 0, 9), Err(Nfsstat3::Nfs3errAcces));
    s.cred = lockferry::rpc::Cred::None;
    assert_eq!(s.read(&fh, 0, 9), Err(Nfsstat3::Nfs3errAcces));
}

#[test]
fn root_is_squashed_unless_told_otherwise() {
    if !is_root() {
        return skip("needs root to act as other users");
    }
    let dir = public_dir();
    let mut s = Server::new(&[ExportConfig::new(dir.path().into())]);
    s.cred = user(0, 0);
    let root = s.mnt(dir.path()).unwrap();
    let fh = s.touch(&root, "f", 0o600).unwrap();
    assert_eq!(s.getattr(&fh).unwrap().uid, 65534);
    let s = Server::new(&[ExportConfig { squash: Squash::All, anon_uid: 7, ..config(dir.path()) }]);
    let fh = s.touch(&root, "g", 0o600).unwrap();
    assert_eq!(s.getattr(&fh).unwrap().uid, 7);
}

#[test]
fn a_read_only_export_refuses_every_change() {
    let dir = public_dir();
    std::fs::write(dir.path().join("f"), b"x").unwrap();
    let s = Server::new(&[ExportConfig { read_only: true, ..config(dir.path()) }]);
    let root = s.mnt(dir.path()).unwrap();
    let f = s.lookup(&root, "f").unwrap();
    let rofs = Nfsstat3::Nfs3errRofs;
    assert_eq!(s.touch(&root, "g", 0o600), Err(rofs));
    assert_eq!(s.mkdir(&root, "g", 0o600), Err(rofs));
    assert_eq!(s.write(&f, 0, b"y", StableHow::Unstable), Err(rofs));
    assert_eq!(s.setattr(&f, with_mode(0), Sattrguard3::False), Err(rofs));
    assert_eq!(s.remove(v3::REMOVE, &root, "f"), Err(rofs));
    assert_eq!(s.rename((&root, "f"), (&root, "g")).unwrap_err(), rofs);
    assert_eq!(s.read(&f, 0, 9).unwrap().0, b"x");
    assert_eq!(s.access(&f) & (ACCESS3_MODIFY | ACCESS3_EXTEND), 0);
}

#[test]
fn only_listed_addresses_and_reserved_ports_come_in() {
    let dir = public_dir();
    let clients = vec![Cidr { addr: "10.1.0.0".parse().unwrap(), prefix: 16 }];
    let mut s = Server::new(&[ExportConfig { clients, ..config(dir.path()) }]);
    s.peer = "10.1.2.3:800".parse().unwrap();
    let root = s.mnt(dir.path()).unwrap();
    assert!(s.getattr(&root).is_ok());
    s.peer = "10.2.2.3:800".parse().unwrap();
    assert_eq!(s.mnt(dir.path()), Err(Mountstat3::Mnt3errAcces));
    assert_eq!(s.getattr(&root), Err(Nfsstat3::Nfs3errAcces));
    s.peer = "10.1.2.3:1024".parse().unwrap();
    assert_eq!(s.mnt(dir.path()), Err(Mountstat3::Mnt3errAcces));
    assert_eq!(s.getattr(&root), Err(Nfsstat3::Nfs3errPerm));
    let mut s = Server::new(&[ExportConfig { insecure: true, ..config(dir.path()) }]);
    s.peer = "10.2.2.3:40000".parse().unwrap();
    assert!(s.mnt(dir.path()).is_ok());
}

#[test]
fn dots_lead_no_further_than_the_export() {
    let dir = public_dir();
    std::fs::create_dir_all(dir.path().join("export/sub")).unwrap();
    let export = dir.path().join("export");
    let s = Server::on(&export);
    let root = s.mnt(&export).unwrap();
    let sub = s.lookup(&root, "sub").unwrap();
    assert_eq!(s.mnt(&export.join("sub")).unwrap(), sub);
    assert_eq!(s.lookup(&sub, "..").unwrap(), root);
    assert_eq!(s.lookup(&sub, ".").unwrap(), sub);
    assert_eq!(s.lookup(&root, "..").unwrap(), root);
    assert_eq!(s.lookup(&root, "../export"), Err(Nfsstat3::Nfs3errInval));
    assert_eq!(s.lookup(&root, ""), Err(Nfsstat3::Nfs3errInval));
    let long = [&NfsFh3 { data: &root }.to_bytes()[..], &256u32.to_be_bytes(), &[b'x'; 256]].concat();
    let (status, results) = s.raw(&s.nfs, 3, v3::LOOKUP, long);
    assert_eq!((status, &results[..]), (0, &[0, 0, 0, 63, 0, 0, 0, 0][..]));
    assert_eq!(s.mnt(dir.path()), Err(Mountstat3::Mnt3errAcces));
    assert_eq!(s.mnt(&export.join("..")), Err(Mountstat3::Mnt3errInval));
    assert_eq!(s.mnt(&export.join("none")), Err(Mountstat3::Mnt3errNoent));
    let page = s.readdir(&root, 0, 4096).unwrap();
    let ino = std::fs::metadata(&export).unwrap().ino();
    for dots in [".", ".."] {
        assert_eq!(page.entries.iter().find(|e| e.0 == dots).unwrap().2, ino);
    }
}

#[test]
fn handles_that_are_not_ours_are_told_apart_from_stale_ones() {
    let dir = public_dir();
    let s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    assert_eq!(s.getattr(b""), Err(Nfsstat3::Nfs3errBadhandle));
    assert_eq!(s.getattr(&[7; 64]), Err(Nfsstat3::Nfs3errBadhandle));
    for at in 4..20 {
        let mut other = root.clone();
        other[at] ^= 1;
        assert_eq!(s.getattr(&other), Err(Nfsstat3::Nfs3errStale), "byte {at}");
    }
    let (status, results) = s.raw(&s.nfs, 3, v3::GETATTR, [&[0, 0, 0, 68][..], &[0; 68]].concat());
    assert_eq!((status, &results[..]), (0, &10001u32.to_be_bytes()[..]));
}

#[test]
fn the_file_system_is_described() {
    let dir = public_dir();
    let s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    let fsroot = NfsFh3 { data: &root };
    let results = s.nfs(v3::FSINFO, &Fsinfo3args { fsroot });
    let Fsinfo3res::Nfs3Ok(info) = Fsinfo3res::from_bytes(&results).unwrap() else { panic!() };
    assert_eq!((info.rtmax, info.wtmax), (1 << 20, 1 << 20));
    let results = s.nfs(v3::FSSTAT, &Fsstat3args { fsroot });
    let Fsstat3res::Nfs3Ok(stat) = Fsstat3res::from_bytes(&results).unwrap() else { panic!() };
    assert!(stat.tbytes >= stat.fbytes && stat.fbytes >= stat.abytes && stat.tbytes > 0);
    let results = s.nfs(v3::PATHCONF, &Pathconf3args { object: fsroot });
    let Pathconf3res::Nfs3Ok(conf) = Pathconf3res::from_bytes(&results).unwrap() else { panic!() };
    assert_eq!((conf.name_max, conf.no_trunc), (255, true));
}

#[test]
fn garbage_gets_an_error_and_nothing_worse() {
    let dir = public_dir();
    let s = Server::on(dir.path());
    let root = s.mnt(dir.path()).unwrap();
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as u32
    };
    for round in 0..2_000u32 {
        let procedure = 1 + round % 21;
        let mut args = if round % 2 == 0 { NfsFh3 { data: &root }.to_bytes() } else { Vec::new() };
        for _ in 0..random() % 30 {
            // Small numbers look like lengths and discriminants.
            let word = if random() % 2 == 0 { random() % 5 } else { random() };
            args.extend(word.to_be_bytes());
        }
        let (status, _) = s.raw(&s.nfs, 3, procedure, args);
        assert!(status == 0 || status == 4, "accept_stat {status}");
    }
    assert!(s.getattr(&root).is_ok());
}

#[test]
fn past_the_limit_a_call_is_told_to_come_back() {
    let dir = public_dir();
    let s = Server::with_threads(&[config(dir.path())], 1);
    let root = s.mnt(dir.path()).unwrap();
    let filler = s.pool.reserve(0, 32 << 20);
    let args = Getattr3args { object: NfsFh3 { data: &root } };
    let results = s.nfs(v3::GETATTR, &args);
    assert_eq!(results, (Nfsstat3::Nfs3errJukebox as u32).to_be_bytes());
    let args = Rename3args { from: at(&root, "a"), to: at(&root, "b") };
    let results = s.nfs(v3::RENAME, &args);
    assert!(matches!(Rename3res::from_bytes(&results), Ok(Rename3res::Default(Nfsstat3::Nfs3errJukebox, _))));
    drop(filler);
    assert!(s.getattr(&root).is_ok());
}

#[test]
fn exports_and_mounts_are_listed() {
    use lockferry_xdr::Reader;
    use lockferry_xdr::mount::{decode_exports, decode_mountlist};
    let (a, b) = (public_dir(), public_dir());
    let clients = vec![Cidr { addr: "127.0.0.0".parse().unwrap(), prefix: 8 }];
    let s = Server::new(&[config(a.path()), ExportConfig { clients, ..config(b.path()) }]);
    for version in [1, 3] {
        let (_, results) = s.raw(&s.mount, version, 5, vec![]);
        let exports = decode_exports(&mut Reader::new(&results)).unwrap();
        assert_eq!(exports.len(), 2);
        assert!(exports[0].ex_groups.is_empty());
        assert_eq!(exports[1].ex_groups[0].gr_name, b"127.0.0.0/8");
    }
    let dump = || {
        let (_, results) = s.raw(&s.mount, 3, 2, vec![]);
        decode_mountlist(&mut Reader::new(&results)).unwrap().len()
    };
    s.mnt(a.path()).unwrap();
    s.mnt(a.path()).unwrap();
    s.mnt(b.path()).unwrap();
    assert_eq!(dump(), 2);
    s.raw(&s.mount, 3, 4, vec![]);
    assert_eq!(dump(), 0);
}
