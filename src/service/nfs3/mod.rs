//! NFS version 3 (RFC 1813), all 22 procedures, on the threads of the file pool. Version 4 is left to the
//! dispatcher, which names 3 as the only one: clients that try 4 first fall back.
//!
//! What this room must never do: file work on the thread that brings a call, or an answer before a change is
//! as durable as the answer says.
//!
//! Choices where the protocol leaves one:
//! - Changes of names and attributes are durable before they are answered (one fsync of the directory or file).
//! - The cookie verifier is always zero: cookies are directory offsets and stay good.
//! - A directory on which something is mounted can be seen but not entered (NFS3ERR_ACCES): exports do not
//!   reach into other file systems.
//! - Past the pool's limit, and while an export's directory is away: NFS3ERR_JUKEBOX, "try again later".

mod data;
mod inquire;
mod names;
mod readdir;
mod setattr;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lockferry_xdr::nfs3::nfs_program::v3;
use lockferry_xdr::nfs3::{NFS_PROGRAM, NFS_V3, NFS3_DATA_MAX, NFS3_FHSIZE, NFS3_PATH_MAX, Nfsstat3};
use lockferry_xdr::{Decode, DecodeError, Encode, Reader, Writer};

use crate::export::{ExportTable, FilePool, Session, ThreadCreds};
use crate::rpc::{Call, Program, Responder, Transport};

/// Most bytes of a READ or WRITE over UDP: with more the datagram would not fit.
const MAX_DATA_UDP: u32 = 32 * 1024;
/// What the arguments of WRITE, and the results of READ, take beside the data.
const DATA_OVERHEAD: usize = 256;
/// Handles, names and attributes of any other procedure.
const MAX_ARGS: usize = 2 * 1024;
/// SYMLINK brings a path as well.
const MAX_ARGS_SYMLINK: usize = 8 * 1024;

/// The NFS program.
pub struct Nfs3 {
    shared: Arc<Shared>,
    pool: Arc<FilePool>,
}

struct Shared {
    table: Arc<ExportTable>,
    verifier: AtomicU64,
}

impl Shared {
    /// What tells clients whether their unstable writes may have been lost since.
    fn verifier(&self) -> [u8; 8] {
        self.verifier.load(Ordering::Acquire).to_be_bytes()
    }

    /// Makes clients send their unstable writes again.
    fn renew_verifier(&self) {
        self.verifier.store(random(), Ordering::Release);
    }
}

impl Nfs3 {
    /// The program over these exports, working on this pool. The write verifier is new with each call.
    pub fn new(table: Arc<ExportTable>, pool: Arc<FilePool>) -> Self {
        Self { shared: Arc::new(Shared { table, verifier: AtomicU64::new(random()) }), pool }
    }

    /// Tells all clients that unstable writes may have been lost (after a take-over, for example).
    pub fn renew_verifier(&self) {
        self.shared.renew_verifier();
    }
}

/// Eight bytes that no earlier start has used.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let drawn = std::fs::File::open("/dev/urandom")
        .and_then(|mut source| std::io::Read::read_exact(&mut source, &mut bytes));
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    match drawn {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => clock.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(32),
    }
}

impl Program for Nfs3 {
    fn number(&self) -> u32 {
        NFS_PROGRAM
    }

    fn versions(&self) -> &[u32] {
        &[NFS_V3]
    }

    fn has_procedure(&self, version: u32, procedure: u32) -> bool {
        version == NFS_V3 && procedure <= v3::COMMIT
    }

    fn max_args(&self, _version: u32, procedure: u32) -> usize {
        match procedure {
            v3::NULL => 0,
            v3::WRITE => NFS3_DATA_MAX as usize + DATA_OVERHEAD,
            v3::SYMLINK => MAX_ARGS_SYMLINK,
            _ => MAX_ARGS,
        }
    }

    fn max_reply(&self, _version: u32, procedure: u32) -> usize {
        match procedure {
            v3::READ => NFS3_DATA_MAX as usize + DATA_OVERHEAD,
            v3::READDIR | v3::READDIRPLUS => readdir::MAX_ANSWER + DATA_OVERHEAD,
            v3::READLINK => NFS3_PATH_MAX as usize + DATA_OVERHEAD,
            _ => 512,
        }
    }

    fn is_cached(&self, _version: u32, procedure: u32) -> bool {
        // WRITE is idempotent by itself, but a late copy of one must not undo what was written after it.
        matches!(procedure, v3::SETATTR | v3::WRITE..=v3::LINK)
    }

    fn dispatch(&self, call: Call, responder: Responder) {
        let procedure = call.info.procedure;
        if procedure == v3::NULL {
            return responder.success(&());
        }
        let Some(failure) = failure_words(procedure) else { return responder.proc_unavail() };
        // All arguments begin with a handle.
        let handle = Reader::new(&call.args).opaque_var(NFS3_FHSIZE as usize).unwrap_or_default();
        match self.pool.reserve(self.shared.table.lane_of(handle), call.args.len()) {
            Some(slot) => {
                let shared = self.shared.clone();
                slot.run(move |creds| serve(&shared, creds, &call, responder));
            }
            None => responder.success_with(|w| failed(w, Nfsstat3::Nfs3errJukebox, failure)),
        }
    }
}

/// How many words follow the status of a failure whose attributes are not known: each a bool, false.
fn failure_words(procedure: u32) -> Option<usize> {
    Some(match procedure {
        v3::GETATTR => 0,
        v3::LOOKUP | v3::ACCESS | v3::READLINK | v3::READ => 1,
        v3::READDIR | v3::READDIRPLUS | v3::FSSTAT | v3::FSINFO | v3::PATHCONF => 1,
        v3::SETATTR | v3::WRITE | v3::CREATE | v3::MKDIR | v3::SYMLINK | v3::MKNOD => 2,
        v3::REMOVE | v3::RMDIR | v3::COMMIT => 2,
        v3::LINK => 3,
        v3::RENAME => 4,
        _ => return None,
    })
}

fn failed(w: &mut Writer<'_>, status: Nfsstat3, words: usize) {
    status.encode(w);
    (0..words).for_each(|_| w.bool(false));
}

/// One call on a thread of the pool.
struct Request<'a> {
    shared: &'a Shared,
    session: Session<'a>,
    args: &'a [u8],
    procedure: u32,
}

fn serve(shared: &Shared, creds: &ThreadCreds, call: &Call, responder: Responder) {
    let session = Session::new(&shared.table, creds, &call.info);
    let request = Request { shared, session, args: &call.args, procedure: call.info.procedure };
    match call.info.procedure {
        v3::GETATTR => request.run(responder, inquire::getattr),
        v3::SETATTR => request.run(responder, setattr::setattr),
        v3::LOOKUP => request.run(responder, inquire::lookup),
        v3::ACCESS => request.run(responder, inquire::access),
        v3::READLINK => request.run(responder, inquire::readlink),
        v3::READ => request.run(responder, data::read),
        v3::WRITE => request.run(responder, data::write),
        v3::CREATE => request.run(responder, names::create),
        v3::MKDIR => request.run(responder, names::mkdir),
        v3::SYMLINK => request.run(responder, names::symlink),
        v3::MKNOD => request.run(responder, names::mknod),
        v3::REMOVE => request.run(responder, names::remove),
        v3::RMDIR => request.run(responder, names::rmdir),
        v3::RENAME => request.run(responder, names::rename),
        v3::LINK => request.run(responder, names::link),
        v3::READDIR => request.run(responder, readdir::readdir),
        v3::READDIRPLUS => request.run(responder, readdir::readdirplus),
        v3::FSSTAT => request.run(responder, inquire::fsstat),
        v3::FSINFO => request.run(responder, inquire::fsinfo),
        v3::PATHCONF => request.run(responder, inquire::pathconf),
        v3::COMMIT => request.run(responder, data::commit),
        _ => responder.proc_unavail(),
    }
}

impl<'a> Request<'a> {
    /// Decodes the arguments and lets `procedure` write its result.
    fn run<A: Decode<'a>>(&self, responder: Responder, procedure: fn(&Self, &A, &mut Writer<'_>)) {
        match A::from_bytes(self.args) {
            Ok(args) => responder.success_with(|w| procedure(self, &args, w)),
            Err(error) => self.refuse(responder, error),
        }
    }

    /// What is too long for us but not for the protocol has an error of its own.
    fn refuse(&self, responder: Responder, error: DecodeError) {
        let status = match error {
            DecodeError::TooLong { max, .. } if max == NFS3_FHSIZE as usize => Nfsstat3::Nfs3errBadhandle,
            DecodeError::TooLong { max, .. } if max != NFS3_DATA_MAX as usize => Nfsstat3::Nfs3errNametoolong,
            _ => {
                tracing::debug!(peer = %self.session.info().peer, "NFS arguments do not decode: {error}");
                return responder.garbage_args();
            }
        };
        responder.success_with(|w| failed(w, status, failure_words(self.procedure).unwrap_or(0)));
    }

    /// Most bytes of data in one answer over this transport.
    fn max_data(&self) -> u32 {
        match self.session.info().transport {
            Transport::Tcp => NFS3_DATA_MAX,
            Transport::Udp => MAX_DATA_UDP,
        }
    }
}

impl std::fmt::Debug for Nfs3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Nfs3({:?})", self.shared.table)
    }
}
