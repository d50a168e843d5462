//! READDIR and READDIRPLUS. A cookie is the directory's own offset behind an entry: nothing is remembered
//! between calls, so nothing can run out or grow stale.

use lockferry_xdr::nfs3::*;
use lockferry_xdr::{Encode, Writer};
use nix::errno::Errno;

use super::Request;
use super::wire::{Fail, Outcome, answer, post};
use crate::export::{FsError, Object};

/// Behind the last entry: "no more entries" and eof.
const TAIL: usize = 8;
/// A larger answer than this is never built, whatever the client would take: 700 entries or more.
pub(super) const MAX_ANSWER: usize = 128 * 1024;

/// RFC 1813 section 3.3.16.
pub(super) fn readdir(r: &Request<'_>, args: &Readdir3args<'_>, w: &mut Writer<'_>) {
    let wanted = Wanted { dir: &args.dir, cookie: args.cookie, names: usize::MAX, all: args.count as usize };
    list(r, &wanted, w, |_, _, _| {});
}

/// Section 3.3.17.
pub(super) fn readdirplus(r: &Request<'_>, args: &Readdirplus3args<'_>, w: &mut Writer<'_>) {
    let (names, all) = (args.dircount as usize, args.maxcount as usize);
    let wanted = Wanted { dir: &args.dir, cookie: args.cookie, names, all };
    list(r, &wanted, w, |dir, name, w| {
        // A file that is gone meanwhile, or on which another file system is mounted, is named only.
        let child = r.session.lookup(dir, name).ok();
        let handle = child.as_ref().map(Object::handle);
        post(dir.fs(), child.as_ref().map(|child| &child.stat)).encode(w);
        PostOpFh3::from(handle.as_deref().map(|data| NfsFh3 { data })).encode(w);
    });
}

struct Wanted<'a> {
    dir: &'a NfsFh3<'a>,
    cookie: u64,
    /// Most bytes of numbers, names and cookies.
    names: usize,
    /// Most bytes of the whole result.
    all: usize,
}

fn list(
    r: &Request<'_>,
    wanted: &Wanted<'_>,
    w: &mut Writer<'_>,
    more: impl Fn(&Object, &[u8], &mut Writer<'_>),
) {
    let start = w.buffer().len();
    let mut dir_attributes = PostOpAttr::False;
    if let Err(fail) = list_into(r, wanted, w, start, &mut dir_attributes, more) {
        w.buffer().truncate(start);
        answer(w, Err::<(), _>(fail), Readdir3resfail { dir_attributes });
    }
}

fn list_into(
    r: &Request<'_>,
    wanted: &Wanted<'_>,
    w: &mut Writer<'_>,
    start: usize,
    dir_attributes: &mut PostOpAttr,
    more: impl Fn(&Object, &[u8], &mut Writer<'_>),
) -> Outcome<()> {
    let dir = r.session.open(wanted.dir.data)?;
    *dir_attributes = post(dir.fs(), Some(&dir.stat));
    let mut reader = r.session.read_dir(&dir, wanted.cookie).map_err(|error| match error {
        FsError::Os(Errno::EINVAL) => Fail(Nfsstat3::Nfs3errBadCookie),
        other => other.into(),
    })?;
    Nfsstat3::Nfs3Ok.encode(w);
    dir_attributes.encode(w);
    // The cookie verifier: cookies never go bad.
    w.opaque_fixed(&[0; NFS3_COOKIEVERFSIZE as usize]);
    let end = start + wanted.all.min(MAX_ANSWER).min(r.max_data() as usize);
    let (mut count, mut names) = (0, 0usize);
    let complete = reader.read(|entry| {
        let before = w.buffer().len();
        let name_size = 8 + 4 + entry.name.len().next_multiple_of(4) + 8;
        // The shortest form does not fit: spare looking the file up.
        let full = before + 4 + name_size + TAIL > end
            || (count > 0 && names.saturating_add(name_size) > wanted.names);
        if full {
            return false;
        }
        w.bool(true);
        w.u64(if entry.name == b".." && dir.is_root() { dir.stat.st_ino } else { entry.ino });
        w.opaque_var(entry.name);
        w.u64(entry.cookie);
        more(&dir, entry.name, w);
        if w.buffer().len() + TAIL > end {
            w.buffer().truncate(before);
            return false;
        }
        count += 1;
        names += name_size;
        true
    })?;
    if count == 0 && !complete {
        return Err(Fail(Nfsstat3::Nfs3errToosmall));
    }
    w.bool(false);
    w.bool(complete);
    Ok(())
}
