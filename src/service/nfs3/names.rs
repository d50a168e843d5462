//! The procedures that change directories: CREATE, MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR, RENAME, LINK. Each is
//! durable before it is answered: the directory is synced, which takes the new file with it.

use lockferry_xdr::Writer;
use lockferry_xdr::nfs3::*;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, mkdirat, mknodat, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::Request;
use super::inquire::attributes_now;
use super::setattr::{finish_new, initial_mode};
use super::wire::{Fail, NO_WCC, Outcome, answer, plain_name, post, wcc};
use crate::export::{Access, FsError, Object};

/// Mode of a file or directory whose creator names none; SETATTR follows.
const UNSET_FILE: u32 = 0o600;
const UNSET_DIR: u32 = 0o700;
/// How often a name that appears and vanishes under a CREATE is tried.
const CREATE_TRIES: usize = 4;

/// A directory around a change.
struct Around {
    dir_wcc: WccData,
}

impl Request<'_> {
    /// Opens the directory, runs `work` on it as the only one to change it, and makes that durable.
    fn change_dir<T>(
        &self,
        dir: &NfsFh3<'_>,
        around: &mut Around,
        work: impl FnOnce(&Object) -> Outcome<T>,
    ) -> Outcome<T> {
        self.session.must_be_writable(dir.data)?;
        let dir = self.session.open(dir.data)?;
        dir.must_be_directory()?;
        let done = self.session.table.order(&[&dir.key()], || {
            let before = dir.stat_now().ok();
            let done = work(&dir);
            around.dir_wcc = wcc(dir.fs(), before.as_ref(), dir.stat_now().ok().as_ref());
            done
        })?;
        self.sync(&dir)?;
        Ok(done)
    }

    /// Looks up a file that was just made and gives it its attributes.
    fn new_child(&self, dir: &Object, name: &[u8], new: &Sattr3) -> Outcome<Object> {
        let child = self.session.lookup(dir, name)?;
        finish_new(self, &child, new)?;
        Ok(child)
    }
}

/// The common answer of what makes a file: handle, attributes, directory.
fn made(w: &mut Writer<'_>, outcome: Outcome<Object>, around: &Around) {
    let dir_wcc = around.dir_wcc;
    let handle = outcome.as_ref().map(Object::handle).unwrap_or_default();
    let body = outcome.map(|child| Create3resok {
        obj: PostOpFh3::True(NfsFh3 { data: &handle }),
        obj_attributes: attributes_now(&child),
        dir_wcc,
    });
    // MKDIR, SYMLINK and MKNOD have the same results under other names.
    answer(w, body, Create3resfail { dir_wcc });
}

/// RFC 1813 section 3.3.8.
pub(super) fn create(r: &Request<'_>, args: &Create3args<'_>, w: &mut Writer<'_>) {
    let mut around = Around { dir_wcc: NO_WCC };
    let outcome = r.change_dir(&args.where_.dir, &mut around, |dir| {
        let name = plain_name(args.where_.name, Nfsstat3::Nfs3errExist)?;
        for _ in 0..CREATE_TRIES {
            match create_new(r, dir, name, &args.how) {
                Err(Fail(Nfsstat3::Nfs3errExist)) => {}
                other => return other,
            }
            match take_existing(r, dir, name, &args.how) {
                Err(Fail(Nfsstat3::Nfs3errNoent)) => {}
                other => return other,
            }
        }
        Err(Fail(Nfsstat3::Nfs3errJukebox))
    });
    made(w, outcome, &around);
}

fn create_new(r: &Request<'_>, dir: &Object, name: &[u8], how: &Createhow3) -> Outcome<Object> {
    let mode = match how {
        Createhow3::Unchecked(new) | Createhow3::Guarded(new) => initial_mode(new, UNSET_FILE),
        Createhow3::Exclusive(_) => Mode::from_bits_truncate(UNSET_FILE),
    };
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(dir.fd(), name, flags, mode)?;
    let data = fd.try_clone().map_err(|_| Errno::EMFILE)?;
    let child = r.session.adopt(dir, name, fd)?;
    r.session.keep_created(&child, data);
    match how {
        Createhow3::Unchecked(new) | Createhow3::Guarded(new) => finish_new(r, &child, new)?,
        Createhow3::Exclusive(verifier) => {
            let (atime, mtime) = verifier_times(verifier);
            let [atime, mtime] = [atime, mtime].map(TimeSpec::seconds);
            utimensat(AT_FDCWD, &child.proc_path(), &atime, &mtime, UtimensatFlags::FollowSymlink)?;
        }
    }
    Ok(child)
}

/// The verifier of an exclusive CREATE is kept in the new file's times, so that it is as durable as the file;
/// the client sets them afterwards. 31 bits each: all file systems hold them.
fn verifier_times(verifier: &Createverf3) -> (i64, i64) {
    let word = |at: usize| {
        let bytes = [verifier[at], verifier[at + 1], verifier[at + 2], verifier[at + 3]];
        i64::from(u32::from_be_bytes(bytes) & 0x7fff_ffff)
    };
    (word(0), word(4))
}

fn is_ours(stat: &FileStat, verifier: &Createverf3) -> bool {
    stat.st_size == 0 && (stat.st_atime, stat.st_mtime) == verifier_times(verifier)
}

fn take_existing(r: &Request<'_>, dir: &Object, name: &[u8], how: &Createhow3) -> Outcome<Object> {
    let exists = Fail(Nfsstat3::Nfs3errExist);
    let child = r.session.lookup(dir, name)?;
    if child.must_be_file().is_err() {
        return Err(exists);
    }
    match how {
        Createhow3::Guarded(_) => Err(exists),
        Createhow3::Exclusive(verifier) if is_ours(&child.stat, verifier) => Ok(child),
        Createhow3::Exclusive(_) => Err(exists),
        Createhow3::Unchecked(new) => {
            // As open(2) with O_TRUNC: of an existing file only the size is set.
            if let SetSize3::True(size) = new.size {
                let size = i64::try_from(size).map_err(|_| Fail(Nfsstat3::Nfs3errFbig))?;
                let data = r.session.data(&child, Access::Write)?;
                nix::unistd::ftruncate(data.fd(), size)?;
                r.sync(&child)?;
            }
            Ok(child)
        }
    }
}

/// Section 3.3.9.
pub(super) fn mkdir(r: &Request<'_>, args: &Mkdir3args<'_>, w: &mut Writer<'_>) {
    let mut around = Around { dir_wcc: NO_WCC };
    let outcome = r.change_dir(&args.where_.dir, &mut around, |dir| {
        let name = plain_name(args.where_.name, Nfsstat3::Nfs3errExist)?;
        mkdirat(dir.fd(), name, initial_mode(&args.attributes, UNSET_DIR))?;
        r.new_child(dir, name, &args.attributes)
    });
    made(w, outcome, &around);
}

/// Section 3.3.10.
pub(super) fn symlink(r: &Request<'_>, args: &Symlink3args<'_>, w: &mut Writer<'_>) {
    let mut around = Around { dir_wcc: NO_WCC };
    let outcome = r.change_dir(&args.where_.dir, &mut around, |dir| {
        let name = plain_name(args.where_.name, Nfsstat3::Nfs3errExist)?;
        if args.symlink.symlink_data.is_empty() {
            return Err(Fail(Nfsstat3::Nfs3errInval));
        }
        symlinkat(args.symlink.symlink_data, dir.fd(), name)?;
        let new = Sattr3 { size: SetSize3::False, ..args.symlink.symlink_attributes };
        r.new_child(dir, name, &new)
    });
    made(w, outcome, &around);
}

/// Section 3.3.11. Device files only for the superuser.
pub(super) fn mknod(r: &Request<'_>, args: &Mknod3args<'_>, w: &mut Writer<'_>) {
    let mut around = Around { dir_wcc: NO_WCC };
    let outcome = r.change_dir(&args.where_.dir, &mut around, |dir| {
        let name = plain_name(args.where_.name, Nfsstat3::Nfs3errExist)?;
        let (kind, new, device) = match &args.what {
            Mknoddata3::Nf3chr(data) => (SFlag::S_IFCHR, &data.dev_attributes, Some(data.spec)),
            Mknoddata3::Nf3blk(data) => (SFlag::S_IFBLK, &data.dev_attributes, Some(data.spec)),
            Mknoddata3::Nf3sock(new) => (SFlag::S_IFSOCK, new, None),
            Mknoddata3::Nf3fifo(new) => (SFlag::S_IFIFO, new, None),
            Mknoddata3::Default(_) => return Err(Fail(Nfsstat3::Nfs3errBadtype)),
        };
        if device.is_some() && !r.session.is_superuser() {
            return Err(Fail(Nfsstat3::Nfs3errPerm));
        }
        let number = device.map_or(0, |spec| libc::makedev(spec.specdata1, spec.specdata2));
        mknodat(dir.fd(), name, kind, initial_mode(new, UNSET_FILE), number)?;
        r.new_child(dir, name, &Sattr3 { size: SetSize3::False, ..*new })
    });
    made(w, outcome, &around);
}

/// Section 3.3.12.
pub(super) fn remove(r: &Request<'_>, args: &Remove3args<'_>, w: &mut Writer<'_>) {
    let mut around = Around { dir_wcc: NO_WCC };
    let outcome = r.change_dir(&args.object.dir, &mut around, |dir| {
        let name = plain_name(args.object.name, Nfsstat3::Nfs3errAcces)?;
        let victim = r.session.lookup(dir, name)?;
        unlinkat(dir.fd(), name, UnlinkatFlags::NoRemoveDir)?;
        r.session.forget(dir, name, &victim);
        Ok(())
    });
    let dir_wcc = around.dir_wcc;
    answer(w, outcome.map(|()| Remove3resok { dir_wcc }), Remove3resfail { dir_wcc });
}

/// Section 3.3.13.
pub(super) fn rmdir(r: &Request<'_>, args: &Rmdir3args<'_>, w: &mut Writer<'_>) {
    let mut around = Around { dir_wcc: NO_WCC };
    let outcome = r.change_dir(&args.object.dir, &mut around, |dir| {
        let dots = if args.object.name == b"." { Nfsstat3::Nfs3errInval } else { Nfsstat3::Nfs3errExist };
        let name = plain_name(args.object.name, dots)?;
        let victim = r.session.lookup(dir, name)?;
        unlinkat(dir.fd(), name, UnlinkatFlags::RemoveDir)?;
        r.session.forget(dir, name, &victim);
        Ok(())
    });
    let dir_wcc = around.dir_wcc;
    answer(w, outcome.map(|()| Rmdir3resok { dir_wcc }), Rmdir3resfail { dir_wcc });
}

/// Section 3.3.14.
pub(super) fn rename(r: &Request<'_>, args: &Rename3args<'_>, w: &mut Writer<'_>) {
    let (mut from_wcc, mut to_wcc) = (NO_WCC, NO_WCC);
    let outcome = rename_entry(r, args, &mut from_wcc, &mut to_wcc);
    answer(
        w,
        outcome.map(|()| Rename3resok { fromdir_wcc: from_wcc, todir_wcc: to_wcc }),
        Rename3resfail { fromdir_wcc: from_wcc, todir_wcc: to_wcc },
    );
}

fn rename_entry(
    r: &Request<'_>,
    args: &Rename3args<'_>,
    from_wcc: &mut WccData,
    to_wcc: &mut WccData,
) -> Outcome<()> {
    r.session.must_be_writable(args.from.dir.data)?;
    let from_dir = r.session.open(args.from.dir.data)?;
    let to_dir = r.session.open(args.to.dir.data)?;
    if !from_dir.same_export(&to_dir) {
        return Err(Fail(Nfsstat3::Nfs3errXdev));
    }
    from_dir.must_be_directory()?;
    to_dir.must_be_directory()?;
    r.session.table.order(&[&from_dir.key(), &to_dir.key()], || {
        let before = (from_dir.stat_now().ok(), to_dir.stat_now().ok());
        let done = rename_in(r, &from_dir, &to_dir, args);
        let after = (from_dir.stat_now().ok(), to_dir.stat_now().ok());
        *from_wcc = wcc(from_dir.fs(), before.0.as_ref(), after.0.as_ref());
        *to_wcc = wcc(to_dir.fs(), before.1.as_ref(), after.1.as_ref());
        done
    })?;
    // The new name first: whatever the disk does, the file never has none.
    r.sync(&to_dir)?;
    if from_dir.key() != to_dir.key() {
        r.sync(&from_dir)?;
    }
    Ok(())
}

fn rename_in(r: &Request<'_>, from_dir: &Object, to_dir: &Object, args: &Rename3args<'_>) -> Outcome<()> {
    let from = plain_name(args.from.name, Nfsstat3::Nfs3errInval)?;
    let to = plain_name(args.to.name, Nfsstat3::Nfs3errInval)?;
    let moved = r.session.lookup(from_dir, from)?;
    let victim = match r.session.lookup(to_dir, to) {
        Ok(victim) => Some(victim),
        Err(FsError::Os(Errno::ENOENT)) => None,
        Err(error) => return Err(error.into()),
    };
    renameat(from_dir.fd(), from, to_dir.fd(), to)?;
    match victim {
        // Two names of one file: rename(2) does nothing.
        Some(victim) if victim.key() == moved.key() => return Ok(()),
        Some(victim) => r.session.forget(to_dir, to, &victim),
        None => {}
    }
    r.session.remember(to_dir, to, &moved);
    Ok(())
}

/// Section 3.3.15.
pub(super) fn link(r: &Request<'_>, args: &Link3args<'_>, w: &mut Writer<'_>) {
    let mut around = Around { dir_wcc: NO_WCC };
    let mut file_attributes = PostOpAttr::False;
    let outcome = r.change_dir(&args.link.dir, &mut around, |dir| {
        let name = plain_name(args.link.name, Nfsstat3::Nfs3errExist)?;
        let file = r.session.open(args.file.data)?;
        if !file.same_export(dir) {
            return Err(Fail(Nfsstat3::Nfs3errXdev));
        }
        if file.stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Err(Fail(Nfsstat3::Nfs3errIsdir));
        }
        let linked = linkat(AT_FDCWD, &file.proc_path(), dir.fd(), name, AtFlags::AT_SYMLINK_FOLLOW);
        file_attributes = post(file.fs(), file.stat_now().ok().as_ref());
        linked?;
        r.session.remember(dir, name, &file);
        Ok(())
    });
    let linkdir_wcc = around.dir_wcc;
    answer(
        w,
        outcome.map(|()| Link3resok { file_attributes, linkdir_wcc }),
        Link3resfail { file_attributes, linkdir_wcc },
    );
}
