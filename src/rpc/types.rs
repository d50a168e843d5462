//! What the RPC room hands to programs and takes back from them. Must never hold a socket or do I/O.

use std::net::SocketAddr;
use std::sync::Arc;

use super::drc::Key;
use bytes::Bytes;
use lockferry_xdr::{Encode, Writer};

/// How a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A record on a TCP connection.
    Tcp,
    /// A datagram.
    Udp,
}

/// AUTH_SYS credentials (RFC 5531 appendix A).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSys {
    /// The caller's machine name, as sent.
    pub machine_name: Box<[u8]>,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Further groups, 16 at the most.
    pub gids: Box<[u32]>,
}

/// Who a call says it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cred {
    /// AUTH_NONE.
    None,
    /// AUTH_SYS.
    Sys(AuthSys),
}

/// Everything about a call except its arguments. Addresses are canonical: v4-mapped IPv6 is IPv4 already.
#[derive(Clone, Debug)]
pub struct CallInfo {
    /// Who sent it.
    pub peer: SocketAddr,
    /// The address it was sent *to*: its IP names the lock manager.
    pub local: SocketAddr,
    /// TCP or UDP.
    pub transport: Transport,
    /// Transaction id.
    pub xid: u32,
    /// Program number.
    pub program: u32,
    /// Program version.
    pub version: u32,
    /// Procedure number.
    pub procedure: u32,
    /// Credentials.
    pub cred: Cred,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Where it came from and what it asks for.
    pub info: CallInfo,
    /// The procedure's XDR arguments, not looked at yet.
    pub args: Bytes,
}

/// A remote program: MOUNT, NFS, NLM, NSM, portmap.
pub trait Program: Send + Sync + 'static {
    /// Its RPC program number.
    fn number(&self) -> u32;

    /// The versions it speaks, ascending. Others get PROG_MISMATCH with the first and the last.
    fn versions(&self) -> &[u32];

    /// Whether `procedure` of `version` exists (0, NULL, is answered by the dispatcher). Unknown ones get
    /// PROC_UNAVAIL before more of the record than its header is kept.
    fn has_procedure(&self, version: u32, procedure: u32) -> bool;

    /// The most argument bytes `procedure` may have. What is longer is refused with GARBAGE_ARGS.
    fn max_args(&self, version: u32, procedure: u32) -> usize;

    /// About how many bytes its reply may have. Calls in flight on a connection are bounded by the sum of
    /// these, so that a client that asks for much and reads nothing cannot fill the memory.
    fn max_reply(&self, _version: u32, _procedure: u32) -> usize {
        4096
    }

    /// Whether the reply goes into the duplicate request cache (true for what is not idempotent).
    fn is_cached(&self, version: u32, procedure: u32) -> bool;

    /// A call came again whose reply is in the cache, and is sent from there: for what a program says beside its replies. False: that was never
    /// said and never will be, so the call has to be carried out again. Must not block.
    fn repeated(&self, _key: &Key) -> bool {
        true
    }

    /// Whether a call to this local address is answered at all. False is silence: the datagram is dropped,
    /// the connection is reset.
    fn is_served(&self, _local: &std::net::IpAddr) -> bool {
        true
    }

    /// Starts work on one call. Must return quickly: it runs on the connection's task. The answer goes
    /// through `responder`, now or later, from any thread.
    fn dispatch(&self, call: Call, responder: Responder);
}

/// Where a finished reply goes. Implemented by connections, by the UDP sockets and by tests.
pub trait ReplySink: Send + Sync {
    /// Takes one complete reply message, without record mark. Never blocks. `None`: there will be no reply.
    fn send_reply(self: Arc<Self>, ticket: u64, reply: Option<Vec<u8>>);
}

/// The right to answer one call, once. Dropped without an answer it stays silent: the client retries.
pub struct Responder {
    sink: Option<Arc<dyn ReplySink>>,
    ticket: u64,
    xid: u32,
}

/// reply_stat / accept_stat numbers of RFC 5531 section 9.
const REPLY: u32 = 1;
const MSG_ACCEPTED: u32 = 0;
const SUCCESS: u32 = 0;
const PROC_UNAVAIL: u32 = 3;
const GARBAGE_ARGS: u32 = 4;
const SYSTEM_ERR: u32 = 5;

impl Responder {
    /// A responder for the call `xid`; `ticket` is the sink's own mark for it.
    pub fn new(sink: Arc<dyn ReplySink>, ticket: u64, xid: u32) -> Self {
        Self { sink: Some(sink), ticket, xid }
    }

    /// Answers with results.
    pub fn success(self, results: &impl Encode) {
        self.success_with(|w| results.encode(w));
    }

    /// Answers with results that `write` appends.
    pub fn success_with(self, write: impl FnOnce(&mut Writer<'_>)) {
        let out = self.render(write);
        self.send(out);
    }

    /// The whole reply message that [`success_with`](Self::success_with) would send.
    pub fn render(&self, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        self.header(&mut out, SUCCESS);
        write(&mut Writer::new(&mut out));
        out
    }

    /// Answers with what [`render`](Self::render) made.
    pub fn rendered(self, message: Vec<u8>) {
        self.send(message);
    }

    /// GARBAGE_ARGS: the arguments do not decode.
    pub fn garbage_args(self) {
        self.refuse(GARBAGE_ARGS);
    }

    /// PROC_UNAVAIL.
    pub fn proc_unavail(self) {
        self.refuse(PROC_UNAVAIL);
    }

    /// SYSTEM_ERR: for example out of memory.
    pub fn system_err(self) {
        self.refuse(SYSTEM_ERR);
    }

    /// No answer, on purpose.
    pub fn silent(self) {}

    fn refuse(self, accept_stat: u32) {
        let mut out = Vec::with_capacity(24);
        self.header(&mut out, accept_stat);
        self.send(out);
    }

    fn header(&self, out: &mut Vec<u8>, accept_stat: u32) {
        let mut w = Writer::new(out);
        w.u32(self.xid);
        w.u32(REPLY);
        w.u32(MSG_ACCEPTED);
        w.u32(0); // verifier: AUTH_NONE
        w.u32(0);
        w.u32(accept_stat);
    }

    fn send(mut self, reply: Vec<u8>) {
        if let Some(sink) = self.sink.take() {
            sink.send_reply(self.ticket, Some(reply));
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.send_reply(self.ticket, None);
        }
    }
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Responder(xid {:#x})", self.xid)
    }
}
