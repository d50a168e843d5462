//! The procedures that change nothing: GETATTR, LOOKUP, ACCESS, READLINK, FSSTAT, FSINFO, PATHCONF.

use lockferry_xdr::Writer;
use lockferry_xdr::nfs3::*;
use nix::sys::statvfs::fstatvfs;

use super::Request;
use super::wire::{Fail, Outcome, answer, any_name, fattr, post};
use crate::export::Object;

/// The best size of a READDIR: larger ones only take longer to come.
const DIRECTORY_SIZE: u32 = 64 * 1024;
/// Hard links that a file may have where the file system does not say (the least that ext, xfs and btrfs allow).
const LINK_MAX: u32 = 32_000;

/// RFC 1813 section 3.3.1.
pub(super) fn getattr(r: &Request<'_>, args: &Getattr3args<'_>, w: &mut Writer<'_>) {
    let outcome = r.session.open(args.object.data).map_err(Fail::from);
    answer(w, outcome.map(|object| fattr(object.fs(), &object.stat)), ());
}

/// Attributes as they are now, where they could be had.
pub(super) fn attributes_now(object: &Object) -> PostOpAttr {
    post(object.fs(), object.stat_now().ok().as_ref())
}

/// Section 3.3.3.
pub(super) fn lookup(r: &Request<'_>, args: &Lookup3args<'_>, w: &mut Writer<'_>) {
    let mut dir_attributes = PostOpAttr::False;
    let outcome = (|| -> Outcome<Object> {
        let dir = r.session.open(args.what.dir.data)?;
        let child = any_name(args.what.name).and_then(|name| Ok(r.session.lookup(&dir, name)?));
        dir_attributes = attributes_now(&dir);
        child
    })();
    let handle = outcome.as_ref().map(Object::handle).unwrap_or_default();
    let found = outcome.map(|child| Lookup3resok {
        object: NfsFh3 { data: &handle },
        obj_attributes: post(child.fs(), Some(&child.stat)),
        dir_attributes,
    });
    answer(w, found, Lookup3resfail { dir_attributes });
}

/// Section 3.3.4. Answers by the kernel's own check, so access control lists count.
pub(super) fn access(r: &Request<'_>, args: &Access3args<'_>, w: &mut Writer<'_>) {
    let outcome = r.session.open(args.object.data).map_err(Fail::from).map(|object| Access3resok {
        obj_attributes: post(object.fs(), Some(&object.stat)),
        access: args.access & permitted(&object),
    });
    answer(w, outcome, Access3resfail { obj_attributes: PostOpAttr::False });
}

fn permitted(object: &Object) -> u32 {
    let is_dir = object.stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let [read, write, execute] = [libc::R_OK, libc::W_OK, libc::X_OK].map(|mode| object.permits(mode));
    let write = write && !object.is_read_only();
    let mut bits = 0;
    if read {
        bits |= ACCESS3_READ;
    }
    if execute {
        bits |= if is_dir { ACCESS3_LOOKUP } else { ACCESS3_EXECUTE };
    }
    if write && (!is_dir || execute) {
        bits |= ACCESS3_MODIFY | ACCESS3_EXTEND;
        bits |= if is_dir { ACCESS3_DELETE } else { 0 };
    }
    bits
}

/// Section 3.3.5.
pub(super) fn readlink(r: &Request<'_>, args: &Readlink3args<'_>, w: &mut Writer<'_>) {
    use std::os::unix::ffi::OsStrExt;
    let mut symlink_attributes = PostOpAttr::False;
    let outcome = (|| -> Outcome<_> {
        let link = r.session.open(args.symlink.data)?;
        symlink_attributes = post(link.fs(), Some(&link.stat));
        if link.stat.st_mode & libc::S_IFMT != libc::S_IFLNK {
            return Err(Fail(Nfsstat3::Nfs3errInval));
        }
        Ok(nix::fcntl::readlinkat(link.fd(), "")?)
    })();
    let target = outcome.as_ref().cloned().unwrap_or_default();
    let read = outcome.map(|_| Readlink3resok { symlink_attributes, data: target.as_bytes() });
    answer(w, read, Readlink3resfail { symlink_attributes });
}

/// Section 3.3.18.
pub(super) fn fsstat(r: &Request<'_>, args: &Fsstat3args<'_>, w: &mut Writer<'_>) {
    let outcome = (|| -> Outcome<_> {
        let object = r.session.open(args.fsroot.data)?;
        let fs = fstatvfs(object.fd())?;
        let unit = fs.fragment_size();
        Ok(Fsstat3resok {
            obj_attributes: post(object.fs(), Some(&object.stat)),
            tbytes: fs.blocks().saturating_mul(unit),
            fbytes: fs.blocks_free().saturating_mul(unit),
            abytes: fs.blocks_available().saturating_mul(unit),
            tfiles: fs.files(),
            ffiles: fs.files_free(),
            afiles: fs.files_available(),
            invarsec: 0,
        })
    })();
    answer(w, outcome, Fsstat3resfail { obj_attributes: PostOpAttr::False });
}

/// Section 3.3.19.
pub(super) fn fsinfo(r: &Request<'_>, args: &Fsinfo3args<'_>, w: &mut Writer<'_>) {
    let size = r.max_data();
    let outcome = r.session.open(args.fsroot.data).map_err(Fail::from).map(|object| Fsinfo3resok {
        obj_attributes: post(object.fs(), Some(&object.stat)),
        rtmax: size,
        rtpref: size,
        rtmult: 4096,
        wtmax: size,
        wtpref: size,
        wtmult: 4096,
        dtpref: DIRECTORY_SIZE.min(size),
        maxfilesize: i64::MAX as u64,
        time_delta: Nfstime3 { seconds: 0, nseconds: 1 },
        properties: FSF3_LINK | FSF3_SYMLINK | FSF3_HOMOGENEOUS | FSF3_CANSETTIME,
    });
    answer(w, outcome, Fsinfo3resfail { obj_attributes: PostOpAttr::False });
}

/// Section 3.3.20.
pub(super) fn pathconf(r: &Request<'_>, args: &Pathconf3args<'_>, w: &mut Writer<'_>) {
    let outcome = (|| -> Outcome<_> {
        let object = r.session.open(args.object.data)?;
        let name_max = fstatvfs(object.fd())?.name_max();
        Ok(Pathconf3resok {
            obj_attributes: post(object.fs(), Some(&object.stat)),
            linkmax: LINK_MAX,
            name_max: u32::try_from(name_max).unwrap_or(NFS3_NAME_MAX).min(NFS3_NAME_MAX),
            no_trunc: true,
            chown_restricted: true,
            case_insensitive: false,
            case_preserving: true,
        })
    })();
    answer(w, outcome, Pathconf3resfail { obj_attributes: PostOpAttr::False });
}
