//! Between the kernel's words and the protocol's: errors, attributes, names. Pure.

use lockferry_xdr::nfs3::{
    Fattr3, Ftype3, NFS3_NAME_MAX, Nfsstat3, Nfstime3, PostOpAttr, PreOpAttr, Specdata3, WccAttr, WccData,
};
use lockferry_xdr::{Encode, Writer};
use nix::errno::Errno;
use nix::sys::stat::FileStat;

use crate::export::FsError;

/// Why a procedure failed, as the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fail(pub(super) Nfsstat3);

/// What a procedure comes to.
pub(super) type Outcome<T> = Result<T, Fail>;

impl From<FsError> for Fail {
    fn from(error: FsError) -> Self {
        Self(match error {
            FsError::BadHandle => Nfsstat3::Nfs3errBadhandle,
            FsError::Stale => Nfsstat3::Nfs3errStale,
            FsError::NotExported | FsError::Address | FsError::Mounted => Nfsstat3::Nfs3errAcces,
            FsError::Port => Nfsstat3::Nfs3errPerm,
            FsError::ReadOnly => Nfsstat3::Nfs3errRofs,
            FsError::Busy => Nfsstat3::Nfs3errJukebox,
            FsError::Os(errno) => return errno.into(),
        })
    }
}

impl From<Errno> for Fail {
    fn from(errno: Errno) -> Self {
        Self(match errno {
            Errno::EPERM => Nfsstat3::Nfs3errPerm,
            Errno::ENOENT => Nfsstat3::Nfs3errNoent,
            Errno::ENXIO => Nfsstat3::Nfs3errNxio,
            // EBUSY: something is mounted on the name. ETXTBSY: the file is being executed on the server.
            Errno::EACCES | Errno::EBUSY | Errno::ETXTBSY => Nfsstat3::Nfs3errAcces,
            Errno::EEXIST => Nfsstat3::Nfs3errExist,
            Errno::EXDEV => Nfsstat3::Nfs3errXdev,
            Errno::ENODEV => Nfsstat3::Nfs3errNodev,
            Errno::ENOTDIR => Nfsstat3::Nfs3errNotdir,
            Errno::EISDIR => Nfsstat3::Nfs3errIsdir,
            Errno::EINVAL | Errno::ELOOP => Nfsstat3::Nfs3errInval,
            Errno::EFBIG => Nfsstat3::Nfs3errFbig,
            Errno::ENOSPC => Nfsstat3::Nfs3errNospc,
            Errno::EROFS => Nfsstat3::Nfs3errRofs,
            Errno::EMLINK => Nfsstat3::Nfs3errMlink,
            Errno::ENAMETOOLONG => Nfsstat3::Nfs3errNametoolong,
            Errno::ENOTEMPTY => Nfsstat3::Nfs3errNotempty,
            Errno::EDQUOT => Nfsstat3::Nfs3errDquot,
            Errno::ESTALE => Nfsstat3::Nfs3errStale,
            Errno::EREMOTE => Nfsstat3::Nfs3errRemote,
            Errno::EOPNOTSUPP | Errno::ENOSYS => Nfsstat3::Nfs3errNotsupp,
            // These pass: the client is to come back.
            Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::ETIMEDOUT => {
                Nfsstat3::Nfs3errJukebox
            }
            Errno::EBADF | Errno::EFAULT => Nfsstat3::Nfs3errServerfault,
            _ => Nfsstat3::Nfs3errIo,
        })
    }
}

/// Writes a result: status, then one of the two bodies. All unions of NFSv3 have this form.
pub(super) fn answer(w: &mut Writer<'_>, outcome: Outcome<impl Encode>, failed: impl Encode) {
    match outcome {
        Ok(body) => {
            Nfsstat3::Nfs3Ok.encode(w);
            body.encode(w);
        }
        Err(Fail(status)) => {
            status.encode(w);
            failed.encode(w);
        }
    }
}

/// A file's attributes. `fs` is the name of its file system.
pub(super) fn fattr(fs: u64, stat: &FileStat) -> Fattr3 {
    Fattr3 {
        type_: file_type(stat.st_mode),
        mode: stat.st_mode & 0o7777,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u64,
        used: stat.st_blocks as u64 * 512,
        rdev: Specdata3 { specdata1: libc::major(stat.st_rdev), specdata2: libc::minor(stat.st_rdev) },
        fsid: fs,
        fileid: stat.st_ino,
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
    }
}

fn file_type(mode: u32) -> Ftype3 {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => Ftype3::Nf3dir,
        libc::S_IFBLK => Ftype3::Nf3blk,
        libc::S_IFCHR => Ftype3::Nf3chr,
        libc::S_IFLNK => Ftype3::Nf3lnk,
        libc::S_IFSOCK => Ftype3::Nf3sock,
        libc::S_IFIFO => Ftype3::Nf3fifo,
        _ => Ftype3::Nf3reg,
    }
}

/// The protocol's seconds have 32 bits and no sign.
fn time(seconds: i64, nanoseconds: i64) -> Nfstime3 {
    Nfstime3 { seconds: seconds as u32, nseconds: nanoseconds as u32 }
}

/// Attributes after an operation, if they could be had.
pub(super) fn post(fs: u64, stat: Option<&FileStat>) -> PostOpAttr {
    stat.map_or(PostOpAttr::False, |stat| PostOpAttr::True(fattr(fs, stat)))
}

/// Attributes around a change.
pub(super) fn wcc(fs: u64, before: Option<&FileStat>, after: Option<&FileStat>) -> WccData {
    let before = before.map_or(PreOpAttr::False, |stat| {
        PreOpAttr::True(WccAttr {
            size: stat.st_size as u64,
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        })
    });
    WccData { before, after: post(fs, after) }
}

/// Attributes that are not known.
pub(super) const NO_WCC: WccData = WccData { before: PreOpAttr::False, after: PostOpAttr::False };

/// Whether the time in a guard is the file's.
pub(super) fn is_ctime(stat: &FileStat, guard: &Nfstime3) -> bool {
    time(stat.st_ctime, stat.st_ctime_nsec) == *guard
}

/// A name that can stand in a directory, "." and ".." included.
pub(super) fn any_name(name: &[u8]) -> Outcome<&[u8]> {
    if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
        return Err(Fail(Nfsstat3::Nfs3errInval));
    }
    if name.len() > NFS3_NAME_MAX as usize {
        return Err(Fail(Nfsstat3::Nfs3errNametoolong));
    }
    Ok(name)
}

/// The same without "." and "..", which are refused with `dots`.
pub(super) fn plain_name(name: &[u8], dots: Nfsstat3) -> Outcome<&[u8]> {
    match any_name(name)? {
        b"." | b".." => Err(Fail(dots)),
        name => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_lead_elsewhere_are_refused() {
        for name in [&b""[..], b"a/b", b"/", b"a\0b"] {
            assert_eq!(any_name(name), Err(Fail(Nfsstat3::Nfs3errInval)));
        }
        assert_eq!(any_name(&[b'x'; 256]), Err(Fail(Nfsstat3::Nfs3errNametoolong)));
        assert!(any_name(b"..").is_ok() && any_name(&[b'x'; 255]).is_ok());
        assert_eq!(plain_name(b"..", Nfsstat3::Nfs3errExist), Err(Fail(Nfsstat3::Nfs3errExist)));
    }

    #[test]
    fn errors_keep_their_meaning() {
        let of = |errno: Errno| Fail::from(errno).0;
        assert_eq!(of(Errno::ENOTEMPTY), Nfsstat3::Nfs3errNotempty);
        assert_eq!(of(Errno::EDQUOT), Nfsstat3::Nfs3errDquot);
        assert_eq!(of(Errno::EMFILE), Nfsstat3::Nfs3errJukebox);
        assert_eq!(of(Errno::EPROTO), Nfsstat3::Nfs3errIo);
        assert_eq!(Fail::from(FsError::Port).0, Nfsstat3::Nfs3errPerm);
    }
}
