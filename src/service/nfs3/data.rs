//! READ, WRITE and COMMIT. Must never call data durable that is not.

use std::os::fd::BorrowedFd;

use lockferry_xdr::nfs3::*;
use lockferry_xdr::{Encode, Writer};
use nix::errno::Errno;
use nix::sys::stat::FileStat;
use nix::sys::uio::{pread, pwrite};

use super::Request;
use super::wire::{Fail, NO_WCC, Outcome, answer, fattr, post, wcc};
use crate::export::{Access, Data, FileKey, FsError, Object};

impl Request<'_> {
    /// The file's data, opened by an earlier request or now.
    fn data(&self, handle: &[u8], access: Access) -> Outcome<(FileKey, Data)> {
        if let Some(kept) = self.session.kept(handle, access)? {
            return Ok(kept);
        }
        let object = self.session.open(handle)?;
        let data = self.session.data(&object, access)?;
        Ok((object.key(), data))
    }

    /// Makes an object durable: data, attributes, names in a directory.
    pub(super) fn sync(&self, object: &Object) -> Outcome<()> {
        self.durable(self.session.sync(object))
    }

    /// After a failed sync the kernel may have dropped any data that clients count on sending again, and it
    /// tells only once: all are told.
    fn durable(&self, synced: Result<(), FsError>) -> Outcome<()> {
        if let Err(error) = synced {
            tracing::error!(
                "writing to the disk failed ({error}); clients are told to send unstable data again"
            );
            self.shared.renew_verifier();
        }
        Ok(synced?)
    }
}

/// Bytes of the result in front of the data: status, bool, attributes, count, eof, length.
const READ_HEAD: usize = 4 + 4 + 84 + 4 + 4 + 4;

/// RFC 1813 section 3.3.6. The data go straight into the reply; what stands before them is filled in after.
pub(super) fn read(r: &Request<'_>, args: &Read3args<'_>, w: &mut Writer<'_>) {
    let start = w.buffer().len();
    if let Err(fail) = read_into(r, args, w, start) {
        w.buffer().truncate(start);
        answer(w, Err::<(), _>(fail), PostOpAttr::False);
    }
}

fn read_into(r: &Request<'_>, args: &Read3args<'_>, w: &mut Writer<'_>, start: usize) -> Outcome<()> {
    let (_, file) = r.data(args.file.data, Access::Read)?;
    let offset = i64::try_from(args.offset).map_err(|_| Fail(Nfsstat3::Nfs3errInval))?;
    let mut count = args.count.min(r.max_data()) as usize;
    // Spares clearing room that will not be filled. Files that the kernel makes up have size 0.
    let size = file.stat()?.st_size;
    if size > 0 {
        count = count.min(usize::try_from(size.saturating_sub(offset)).unwrap_or(0));
    }
    let out = w.buffer();
    let data = start + READ_HEAD;
    out.resize(data + count, 0);
    let got = again(|| pread(file.fd(), &mut out[data..], offset))?;
    out.truncate(data + got);
    out.resize(data + got.next_multiple_of(4), 0);
    let stat = file.stat()?;
    let mut head = Vec::with_capacity(READ_HEAD);
    let mut head_writer = Writer::new(&mut head);
    Nfsstat3::Nfs3Ok.encode(&mut head_writer);
    PostOpAttr::True(fattr(file.fs(), &stat)).encode(&mut head_writer);
    head_writer.u32(got as u32);
    head_writer.bool(args.offset.saturating_add(got as u64) >= stat.st_size as u64);
    head_writer.u32(got as u32);
    out[start..data].copy_from_slice(&head);
    Ok(())
}

/// Calls until it is not interrupted.
fn again<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Section 3.3.7.
pub(super) fn write(r: &Request<'_>, args: &Write3args<'_>, w: &mut Writer<'_>) {
    let mut around = NO_WCC;
    // Taken before the write: if a sync fails in between, the client must see a change.
    let verf = r.shared.verifier();
    let outcome = write_data(r, args, &mut around).map(|count| Write3resok {
        file_wcc: around,
        count,
        committed: args.stable,
        verf,
    });
    answer(w, outcome, Write3resfail { file_wcc: around });
}

fn write_data(r: &Request<'_>, args: &Write3args<'_>, around: &mut WccData) -> Outcome<u32> {
    r.session.must_be_writable(args.file.data)?;
    let data = args.data.get(..args.count as usize).ok_or(Fail(Nfsstat3::Nfs3errInval))?;
    let offset = i64::try_from(args.offset).map_err(|_| Fail(Nfsstat3::Nfs3errFbig))?;
    if offset.checked_add(data.len() as i64).is_none() {
        return Err(Fail(Nfsstat3::Nfs3errFbig));
    }
    let (key, file) = r.data(args.file.data, Access::Write)?;
    let written = r.session.table.order(&[&key], || {
        let before = file.stat().ok();
        let written = write_all(file.fd(), data, offset);
        *around = wcc(file.fs(), before.as_ref(), file.stat().ok().as_ref());
        written
    })?;
    let synced = match args.stable {
        StableHow::Unstable => Ok(()),
        StableHow::DataSync => nix::unistd::fdatasync(file.fd()),
        StableHow::FileSync => nix::unistd::fsync(file.fd()),
    };
    r.durable(synced.map_err(FsError::Os))?;
    Ok(written as u32)
}

/// Writes as much as possible. An error only if nothing was written: the client sends the rest again and
/// meets it then.
fn write_all(fd: BorrowedFd<'_>, data: &[u8], offset: i64) -> Outcome<usize> {
    let mut done = 0;
    while done < data.len() {
        match again(|| pwrite(fd, &data[done..], offset + done as i64)) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

/// Section 3.3.21. Commits the whole file, whatever the range.
pub(super) fn commit(r: &Request<'_>, args: &Commit3args<'_>, w: &mut Writer<'_>) {
    let mut file_wcc = NO_WCC;
    let outcome = commit_file(r, args, &mut file_wcc);
    answer(
        w,
        outcome.map(|()| Commit3resok { file_wcc, verf: r.shared.verifier() }),
        Commit3resfail { file_wcc },
    );
}

fn commit_file(r: &Request<'_>, args: &Commit3args<'_>, file_wcc: &mut WccData) -> Outcome<()> {
    let after = |fs: u64, stat: Option<FileStat>| WccData {
        before: PreOpAttr::False,
        after: post(fs, stat.as_ref()),
    };
    if let Some((_, file)) = r.session.kept(args.file.data, Access::Write)? {
        let synced = nix::unistd::fsync(file.fd());
        *file_wcc = after(file.fs(), file.stat().ok());
        return r.durable(synced.map_err(FsError::Os));
    }
    let object = r.session.open(args.file.data)?;
    object.must_be_file()?;
    // Anybody may ask for what was written to be made durable.
    let synced = r.sync(&object);
    *file_wcc = after(object.fs(), object.stat_now().ok());
    synced
}
