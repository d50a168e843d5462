//! SETATTR, and the attributes that new files begin with.

use lockferry_xdr::Writer;
use lockferry_xdr::nfs3::*;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::unistd::{Gid, Uid, fchownat};

use super::Request;
use super::wire::{Fail, NO_WCC, Outcome, answer, is_ctime, wcc};
use crate::export::{Access, Object};

/// RFC 1813 section 3.3.2.
pub(super) fn setattr(r: &Request<'_>, args: &Setattr3args<'_>, w: &mut Writer<'_>) {
    let mut obj_wcc = NO_WCC;
    let outcome = change(r, args, &mut obj_wcc);
    answer(w, outcome.map(|()| Setattr3resok { obj_wcc }), Setattr3resfail { obj_wcc });
}

fn change(r: &Request<'_>, args: &Setattr3args<'_>, obj_wcc: &mut WccData) -> Outcome<()> {
    r.session.must_be_writable(args.object.data)?;
    let object = r.session.open(args.object.data)?;
    r.session.table.order(&[&object.key()], || {
        let before = object.stat_now()?;
        let changed = match args.guard {
            Sattrguard3::True(ctime) if !is_ctime(&before, &ctime) => Err(Fail(Nfsstat3::Nfs3errNotSync)),
            _ => apply(r, &object, &args.new_attributes),
        };
        *obj_wcc = wcc(object.fs(), Some(&before), object.stat_now().ok().as_ref());
        changed
    })?;
    r.sync(&object)
}

/// Sets what is to be set, in the order in which one does not undo the other: a new size or owner clears the
/// set-user-id bit, and everything changes the times.
pub(super) fn apply(r: &Request<'_>, object: &Object, new: &Sattr3) -> Outcome<()> {
    if let SetSize3::True(size) = new.size {
        resize(r, object, size)?;
    }
    set_owner(object, new)?;
    if let SetMode3::True(mode) = new.mode {
        set_mode(object, mode)?;
    }
    set_times(r, object, new)
}

fn resize(r: &Request<'_>, object: &Object, size: u64) -> Outcome<()> {
    object.must_be_file()?;
    let size = i64::try_from(size).map_err(|_| Fail(Nfsstat3::Nfs3errFbig))?;
    let data = match r.session.kept(&object.handle(), Access::Write)? {
        Some((_, data)) => data,
        None => r.session.data(object, Access::Write)?,
    };
    Ok(nix::unistd::ftruncate(data.fd(), size)?)
}

fn set_owner(object: &Object, new: &Sattr3) -> Outcome<()> {
    let uid = if let SetUid3::True(uid) = new.uid { Some(uid) } else { None };
    let gid = if let SetGid3::True(gid) = new.gid { Some(gid) } else { None };
    // To chown(2) this number means "leave it".
    if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        return Err(Fail(Nfsstat3::Nfs3errInval));
    }
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    Ok(fchownat(object.fd(), "", uid, gid, AtFlags::AT_EMPTY_PATH)?)
}

/// Sets the twelve permission bits.
pub(super) fn set_mode(object: &Object, mode: u32) -> Outcome<()> {
    if object.stat.st_mode & libc::S_IFMT == libc::S_IFLNK {
        return Err(Fail(Nfsstat3::Nfs3errNotsupp));
    }
    let mode = Mode::from_bits_truncate(mode & 0o7777);
    Ok(fchmodat(AT_FDCWD, &object.proc_path(), mode, FchmodatFlags::FollowSymlink)?)
}

fn set_times(r: &Request<'_>, object: &Object, new: &Sattr3) -> Outcome<()> {
    let atime = match new.atime {
        SetAtime::DontChange => TimeSpec::UTIME_OMIT,
        SetAtime::SetToServerTime => TimeSpec::UTIME_NOW,
        SetAtime::SetToClientTime(time) => client_time(time)?,
    };
    let mtime = match new.mtime {
        SetMtime::DontChange => TimeSpec::UTIME_OMIT,
        // Setting the size has just done it, and needs less rights.
        SetMtime::SetToServerTime if matches!(new.size, SetSize3::True(_)) => TimeSpec::UTIME_OMIT,
        SetMtime::SetToServerTime => TimeSpec::UTIME_NOW,
        SetMtime::SetToClientTime(time) => client_time(time)?,
    };
    if atime == TimeSpec::UTIME_OMIT && mtime == TimeSpec::UTIME_OMIT {
        return Ok(());
    }
    let path = object.proc_path();
    let set = || utimensat(AT_FDCWD, &path, &atime, &mtime, UtimensatFlags::FollowSymlink);
    let only_now = [atime, mtime].iter().all(|t| *t == TimeSpec::UTIME_OMIT || *t == TimeSpec::UTIME_NOW);
    match set() {
        // Who may write may set the server's time, of one or both; the kernel knows only both.
        Err(Errno::EPERM | Errno::EACCES) if only_now && object.permits(libc::W_OK) => {
            Ok(r.session.raised(set)?)
        }
        other => Ok(other?),
    }
}

fn client_time(time: Nfstime3) -> Outcome<TimeSpec> {
    if time.nseconds >= 1_000_000_000 {
        return Err(Fail(Nfsstat3::Nfs3errInval));
    }
    Ok(TimeSpec::seconds(i64::from(time.seconds)) + TimeSpec::nanoseconds(i64::from(time.nseconds)))
}

/// Gives a file that was just made with `mode` the rest of its attributes. An ordinary user's owner and group
/// are left out: the new file is the caller's.
pub(super) fn finish_new(r: &Request<'_>, object: &Object, new: &Sattr3) -> Outcome<()> {
    let mut rest = *new;
    rest.mode = SetMode3::False;
    if !r.session.is_superuser() {
        (rest.uid, rest.gid) = (SetUid3::False, SetGid3::False);
    }
    set_owner(object, &rest)?;
    if let SetSize3::True(size @ 1..) = rest.size {
        resize(r, object, size)?;
    }
    if let SetMode3::True(mode) = new.mode
        && object.stat.st_mode & libc::S_IFMT != libc::S_IFLNK
    {
        // mkdir(2) and a changed owner drop the set-id bits. The permissions proper are as the system made
        // them: a default access control list of the directory may have taken some away.
        let now = object.stat_now()?.st_mode & 0o7777;
        if mode & 0o7000 & !now != 0 {
            set_mode(object, now | mode & 0o7000)?;
        }
    }
    set_times(r, object, &rest)
}

/// The permission bits that a new file begins with.
pub(super) fn initial_mode(new: &Sattr3, unset: u32) -> Mode {
    match new.mode {
        SetMode3::True(mode) => Mode::from_bits_truncate(mode & 0o7777),
        SetMode3::False => Mode::from_bits_truncate(unset),
    }
}
