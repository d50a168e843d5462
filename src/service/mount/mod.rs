//! MOUNT versions 1 and 3 (RFC 1813 appendix I): from a path to the first file handle, and the lists that
//! `showmount` asks for. Version 1 gives out no handles (they would be for NFS version 2), only its lists.
//!
//! What this room must never do: file work on the thread that brings a call, or trust the list of mounts:
//! it is what clients said, kept in memory for people to look at.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockferry_xdr::Reader;
use lockferry_xdr::mount::mount_program::{v1, v3};
use lockferry_xdr::mount::{
    Exportnode, Groupnode, MNTPATHLEN, MOUNT_PROGRAM, MOUNT_V1, MOUNT_V3, Mountbody, Mountres3, Mountres3Ok,
    Mountstat3, decode_dirpath, encode_exports, encode_mountlist,
};
use nix::errno::Errno;

use crate::export::{ExportTable, FilePool, FsError, Session, ThreadCreds};
use crate::rpc::{Call, CallInfo, Program, Responder, Transport};

/// Mounts that are remembered; the oldest goes first.
const MAX_MOUNTS: usize = 10_000;
/// Bytes of a list of mounts: about 20,000 of usual length. What does not fit is left out.
const MAX_LIST: usize = 1 << 20;
/// The same in one datagram.
const MAX_LIST_UDP: usize = 32 * 1024;
/// RFC 5531: AUTH_SYS. The only one offered, since locks and files need to know who asks.
const AUTH_SYS: i32 = 1;

/// The MOUNT program.
pub struct Mount {
    shared: Arc<Shared>,
    pool: Arc<FilePool>,
}

struct Shared {
    table: Arc<ExportTable>,
    mounts: Mutex<VecDeque<(IpAddr, Box<[u8]>)>>,
}

impl Mount {
    /// The program over these exports, working on this pool.
    pub fn new(table: Arc<ExportTable>, pool: Arc<FilePool>) -> Self {
        Self { shared: Arc::new(Shared { table, mounts: Mutex::default() }), pool }
    }
}

impl Program for Mount {
    fn number(&self) -> u32 {
        MOUNT_PROGRAM
    }

    fn versions(&self) -> &[u32] {
        &[MOUNT_V1, MOUNT_V3]
    }

    fn has_procedure(&self, version: u32, procedure: u32) -> bool {
        match version {
            MOUNT_V1 => procedure <= v1::EXPORTALL && procedure != v1::MNT,
            _ => procedure <= v3::EXPORT,
        }
    }

    fn max_args(&self, _version: u32, procedure: u32) -> usize {
        if matches!(procedure, v3::MNT | v3::UMNT) { MNTPATHLEN as usize + 4 } else { 0 }
    }

    fn max_reply(&self, _version: u32, procedure: u32) -> usize {
        if procedure == v3::DUMP { MAX_LIST } else { 8 * 1024 }
    }

    fn is_cached(&self, _version: u32, _procedure: u32) -> bool {
        false
    }

    fn dispatch(&self, call: Call, responder: Responder) {
        let peer = call.info.peer.ip();
        match call.info.procedure {
            v3::NULL => responder.success(&()),
            v3::MNT => match self.pool.reserve(self.shared.lane(&call.args), call.args.len()) {
                Some(slot) => {
                    let shared = self.shared.clone();
                    slot.run(move |creds| mnt(&shared, creds, &call, responder));
                }
                // MOUNT has no "try again later", but a client that hears nothing does just that.
                None => responder.silent(),
            },
            v3::DUMP => self.shared.dump(&call.info, responder),
            v3::UMNT => match path_in(&call.args) {
                Some(path) => {
                    self.shared.lock().retain(|(client, known)| *client != peer || **known != *path);
                    responder.success(&());
                }
                None => responder.garbage_args(),
            },
            v3::UMNTALL => {
                self.shared.lock().retain(|(client, _)| *client != peer);
                responder.success(&());
            }
            v3::EXPORT | v1::EXPORTALL => self.shared.list_exports(responder),
            _ => responder.proc_unavail(),
        }
    }
}

fn path_in(args: &[u8]) -> Option<&[u8]> {
    let mut r = Reader::new(args);
    let path = decode_dirpath(&mut r).ok()?;
    r.finish().ok()?;
    Some(path)
}

fn mnt(shared: &Shared, creds: &ThreadCreds, call: &Call, responder: Responder) {
    let Some(path) = path_in(&call.args) else { return responder.garbage_args() };
    let text = String::from_utf8_lossy(path);
    let peer = call.info.peer;
    let session = Session::new(&shared.table, creds, &call.info);
    match root_handle(&session, path) {
        Ok(handle) => {
            tracing::info!(%peer, path = %text, "mounted");
            shared.remember(peer.ip(), path);
            let mountinfo = Mountres3Ok { fhandle: &handle, auth_flavors: vec![AUTH_SYS] };
            responder.success(&Mountres3::Mnt3Ok(mountinfo));
        }
        Err(error) => {
            if shared.table.log_now(peer.ip()) {
                tracing::warn!(%peer, path = %text, "mount refused: {error}");
            }
            responder.success(&Mountres3::Default(status(error)));
        }
    }
}

fn root_handle(session: &Session<'_>, path: &[u8]) -> Result<Vec<u8>, FsError> {
    if path.first() != Some(&b'/') || path.contains(&0) {
        return Err(FsError::Os(Errno::EINVAL));
    }
    let object = session.open_path(Path::new(std::ffi::OsStr::from_bytes(path)))?;
    object.must_be_directory()?;
    Ok(object.handle())
}

fn status(error: FsError) -> Mountstat3 {
    match error {
        FsError::NotExported | FsError::Address | FsError::Port | FsError::Mounted => {
            Mountstat3::Mnt3errAcces
        }
        FsError::Os(Errno::ENOENT) => Mountstat3::Mnt3errNoent,
        FsError::Os(Errno::EACCES | Errno::EPERM) => Mountstat3::Mnt3errAcces,
        FsError::Os(Errno::ENOTDIR | Errno::ELOOP) => Mountstat3::Mnt3errNotdir,
        FsError::Os(Errno::EINVAL) => Mountstat3::Mnt3errInval,
        FsError::Os(Errno::ENAMETOOLONG) => Mountstat3::Mnt3errNametoolong,
        FsError::Os(Errno::EIO) => Mountstat3::Mnt3errIo,
        _ => Mountstat3::Mnt3errServerfault,
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(IpAddr, Box<[u8]>)>> {
        // Each change is one call on the list, so a panic elsewhere leaves it whole.
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool's lane for a MNT.
    fn lane(&self, args: &[u8]) -> u64 {
        let path = path_in(args).unwrap_or_default();
        self.table.lane_of_path(Path::new(std::ffi::OsStr::from_bytes(path)))
    }

    fn remember(&self, client: IpAddr, path: &[u8]) {
        let mut mounts = self.lock();
        mounts.retain(|(known, at)| *known != client || **at != *path);
        if mounts.len() >= MAX_MOUNTS {
            mounts.pop_front();
        }
        mounts.push_back((client, path.into()));
    }

    fn dump(&self, info: &CallInfo, responder: Responder) {
        let mounts: Vec<(String, Box<[u8]>)> =
            self.lock().iter().map(|(client, path)| (client.to_string(), path.clone())).collect();
        let mut room = if info.transport == Transport::Udp { MAX_LIST_UDP } else { MAX_LIST };
        let list: Vec<Mountbody<'_>> = mounts
            .iter()
            .map(|(client, path)| Mountbody { ml_hostname: client.as_bytes(), ml_directory: path })
            .take_while(|body| {
                let size = body.ml_hostname.len() + body.ml_directory.len() + 20;
                room.checked_sub(size).map(|left| room = left).is_some()
            })
            .collect();
        responder.success_with(|w| encode_mountlist(&list, w));
    }

    fn list_exports(&self, responder: Responder) {
        let lines: Vec<(&[u8], Vec<String>)> = self
            .table
            .configs()
            .map(|config| {
                let clients = config.clients.iter().map(|net| format!("{}/{}", net.addr, net.prefix));
                (config.path.as_os_str().as_bytes(), clients.collect())
            })
            .collect();
        let exports: Vec<Exportnode<'_>> = lines
            .iter()
            .map(|(path, clients)| Exportnode {
                ex_dir: path,
                ex_groups: clients.iter().map(|name| Groupnode { gr_name: name.as_bytes() }).collect(),
            })
            .collect();
        responder.success_with(|w| encode_exports(&exports, w));
    }
}

impl std::fmt::Debug for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mount({:?})", self.shared.table)
    }
}
