//! An NFS client as far as locks go: it mounts, looks files up, and locks, unlocks and reclaims bytes of them.
//!
//! Must never make an answer better than it is: each status is handed to the caller.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use lockferry_xdr::mount::{MOUNT_PROGRAM, MOUNT_V3, Mountres3, mount_program};
use lockferry_xdr::nfs3::{Diropargs3, Lookup3args, Lookup3res, NFS_PROGRAM, NFS_V3, NfsFh3, nfs_program};
use lockferry_xdr::nlm::{
    NLM_PROG, NLM4_VERS, Nlm4Lock, Nlm4Lockargs, Nlm4Res, Nlm4Stats, Nlm4Unlockargs, nlm_prog,
};
use lockferry_xdr::{Decode, Encode, Writer};

use crate::failure::{Failure, expect};
use crate::node::Ports;
use crate::rpc::Connection;

pub(crate) use Nlm4Stats::{
    Nlm4Blocked as BLOCKED, Nlm4DeniedGracePeriod as GRACE, Nlm4Granted as GRANTED, Nlm4StaleFh as STALE,
};

/// The NSM state that the client is in: odd, as it is up.
const STATE: i32 = 1;

/// A file that was looked up.
#[derive(Clone)]
pub(crate) struct File {
    name: String,
    handle: Vec<u8>,
}

/// Bytes of a file.
#[derive(Clone, Copy)]
pub(crate) struct Bytes {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// A client with a name and an address, or one process of it.
pub(crate) struct Client {
    name: String,
    process: i32,
    root: Vec<u8>,
    nfs: Connection,
    nlm: Connection,
}

struct Path<'a>(&'a [u8]);

impl Encode for Path<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_var(self.0);
    }
}

impl Client {
    /// Mounts `export` from `server`.
    pub(crate) fn mount(
        (name, from): (&str, Ipv4Addr),
        process: i32,
        (server, ports): (Ipv4Addr, &Ports),
        export: &std::path::Path,
    ) -> Result<Self, Failure> {
        let to = |port| Connection::new(from, SocketAddrV4::new(server, port));
        let path = Path(export.as_os_str().as_encoded_bytes());
        let mnt = (MOUNT_PROGRAM, MOUNT_V3, mount_program::v3::MNT);
        let reply = to(ports.mount).call(mnt, &path)?;
        let Mountres3::Mnt3Ok(ok) = Mountres3::from_bytes(&reply)? else {
            return Err(Failure::Expectation(format!("{name} may mount {}", export.display())));
        };
        let (nfs, nlm) = (to(ports.nfs), to(ports.nlm));
        Ok(Self { name: name.into(), process, root: ok.fhandle.to_vec(), nfs, nlm })
    }

    /// Looks a file up, as open(2) does.
    pub(crate) fn open(&mut self, name: &str) -> Result<File, Failure> {
        let what = Diropargs3 { dir: NfsFh3 { data: &self.root }, name: name.as_bytes() };
        let lookup = (NFS_PROGRAM, NFS_V3, nfs_program::v3::LOOKUP);
        let reply = self.nfs.call(lookup, &Lookup3args { what })?;
        match Lookup3res::from_bytes(&reply)? {
            Lookup3res::Nfs3Ok(ok) => Ok(File { name: name.into(), handle: ok.object.data.to_vec() }),
            Lookup3res::Default(status, _) => {
                Err(Failure::Expectation(format!("{} finds the file {name}: {status:?}", self.name)))
            }
        }
    }

    /// LOCK, exclusive. `block`: wait for it. Says how long the answer took.
    pub(crate) fn lock(
        &mut self,
        file: &mut File,
        bytes: Bytes,
        block: bool,
    ) -> Result<(Nlm4Stats, Duration), Failure> {
        let asked = Instant::now();
        let answer = self.lock_call(file, bytes, block, false)?;
        if answer != STALE {
            return Ok((answer, asked.elapsed()));
        }
        // A server without privileges cannot open a handle that it has not seen: the client opens the file anew.
        *file = self.open(&file.name)?;
        let asked = Instant::now();
        Ok((self.lock_call(file, bytes, block, false)?, asked.elapsed()))
    }

    /// LOCK with `reclaim`: "I had this before you restarted".
    pub(crate) fn reclaim(&mut self, file: &File, bytes: Bytes) -> Result<Nlm4Stats, Failure> {
        self.lock_call(file, bytes, false, true)
    }

    /// UNLOCK.
    pub(crate) fn unlock(&mut self, file: &File, bytes: Bytes) -> Result<(), Failure> {
        let (cookie, oh) = (&self.process.to_be_bytes()[..], self.owner());
        let alock = alock(&self.name, self.process, &oh, file, bytes);
        let unlock = (NLM_PROG, NLM4_VERS, nlm_prog::v4::UNLOCK);
        let reply = self.nlm.call(unlock, &Nlm4Unlockargs { cookie, alock })?;
        let status = Nlm4Res::from_bytes(&reply)?.stat.stat;
        expect(status == GRANTED, || format!("{} may unlock {}: {status:?}", self.name, file.name))
    }

    fn lock_call(
        &mut self,
        file: &File,
        bytes: Bytes,
        block: bool,
        reclaim: bool,
    ) -> Result<Nlm4Stats, Failure> {
        let (cookie, oh) = (&self.process.to_be_bytes()[..], self.owner());
        let alock = alock(&self.name, self.process, &oh, file, bytes);
        // As Linux does: a reclaim carries no state.
        let state = if reclaim { 0 } else { STATE };
        let args = Nlm4Lockargs { cookie, block, exclusive: true, alock, reclaim, state };
        let reply = self.nlm.call((NLM_PROG, NLM4_VERS, nlm_prog::v4::LOCK), &args)?;
        Ok(Nlm4Res::from_bytes(&reply)?.stat.stat)
    }

    fn owner(&self) -> Vec<u8> {
        format!("{}@{}", self.process, self.name).into_bytes()
    }
}

fn alock<'a>(name: &'a str, svid: i32, oh: &'a [u8], file: &'a File, bytes: Bytes) -> Nlm4Lock<'a> {
    let Bytes { first: l_offset, count: l_len } = bytes;
    Nlm4Lock { caller_name: name.as_bytes(), fh: &file.handle, oh, svid, l_offset, l_len }
}
