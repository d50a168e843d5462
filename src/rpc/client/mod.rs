//! Outgoing calls: NLM callbacks, SM_NOTIFY, rpcbind. Retransmits with back-off under one xid, from a chosen
//! source address.
//!
//! What this part must never do: follow an address that a peer names (only its port is believed), or wait
//! without an end.

mod getport;
mod socket;
mod stream;
mod turns;
mod udp;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::header::{CallHeader, ReplyStatus, parse_reply, write_call};
use super::server::UdpEndpoint;
use super::types::{AuthSys, Cred, Transport};
use getport::PortCache;
use stream::Connections;
use turns::Turns;

pub(super) use stream::exchange;

/// Bounds and habits of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// Calls in flight, 1,024. More wait for their turn inside their own `give_up`.
    pub outstanding: usize,
    /// Of those, calls to one host, 64: one that never answers must not take the turns of the others.
    pub outstanding_per_host: usize,
    /// A TCP connection without calls is closed after this, 60 s.
    pub idle: Duration,
    /// The back-off between retransmissions ends growing here, 30 s.
    pub max_timeout: Duration,
    /// Use source ports below 1024 where allowed (default): some clients answer to no others.
    pub reserved_port: bool,
    /// The port of everybody's rpcbind, 111.
    pub rpcbind_port: u16,
    /// How long a port that a peer's rpcbind named is believed, 60 s.
    pub port_ttl: Duration,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            outstanding: 1_024,
            outstanding_per_host: 64,
            idle: Duration::from_secs(60),
            max_timeout: Duration::from_secs(30),
            reserved_port: true,
            rpcbind_port: 111,
            port_ttl: Duration::from_secs(60),
        }
    }
}

/// The credentials of a call of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallCred {
    /// AUTH_NONE.
    None,
    /// AUTH_SYS: root on this host.
    Sys,
}

/// One call to make.
#[derive(Clone, Debug)]
pub struct CallSpec {
    /// The program's own address and port.
    pub to: SocketAddr,
    /// The address the call must leave from: the floating IP. None: the system chooses.
    pub source: Option<IpAddr>,
    /// UDP only: send from this serving socket, so that the peer sees the port it asked on.
    pub via: Option<Arc<UdpEndpoint>>,
    /// TCP or UDP.
    pub transport: Transport,
    /// Program number.
    pub program: u32,
    /// Version number.
    pub version: u32,
    /// Procedure number.
    pub procedure: u32,
    /// XDR arguments.
    pub args: Bytes,
    /// Who it says it is from.
    pub cred: CallCred,
    /// The first wait for a reply; doubled with each retransmission.
    pub first_timeout: Duration,
    /// After so long in all the call fails.
    pub give_up: Duration,
}

/// A successful reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallReply {
    /// XDR results.
    pub results: Bytes,
    /// How often the call was sent before it was answered, from 1.
    pub transmissions: u32,
}

/// Why a call has no results.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody answered in time.
    #[error("no answer to {transmissions} transmission(s)")]
    Timeout {
        /// How often it was sent. 0: no connection, or no turn, in all that time.
        transmissions: u32,
    },
    /// The peer's host says that nothing listens on that port: ask its rpcbind again.
    #[error("nothing listens there (transmission {transmissions})")]
    NotListening {
        /// How often it was sent. More than 1: the peer may have seen it.
        transmissions: u32,
    },
    /// The source address is not on this host (any more).
    #[error("the source address {source_address} is not on this host")]
    NoSuchSource {
        /// The address.
        source_address: IpAddr,
        /// How often it was sent before the address went. More than 0: the peer may have seen it.
        transmissions: u32,
    },
    /// PROG_UNAVAIL.
    #[error("the peer does not have the program")]
    ProgUnavail,
    /// PROG_MISMATCH.
    #[error("the peer has only versions {low} to {high} of the program")]
    ProgMismatch {
        /// Lowest.
        low: u32,
        /// Highest.
        high: u32,
    },
    /// PROC_UNAVAIL.
    #[error("the peer does not have the procedure")]
    ProcUnavail,
    /// GARBAGE_ARGS.
    #[error("the peer cannot decode the arguments")]
    GarbageArgs,
    /// SYSTEM_ERR.
    #[error("the peer has a system error")]
    SystemErr,
    /// RPC_MISMATCH.
    #[error("the peer does not speak RPC version 2")]
    RpcMismatch,
    /// AUTH_ERROR.
    #[error("the peer refuses our credentials (auth_stat {0})")]
    Rejected(u32),
    /// The reply or its results do not decode.
    #[error("the peer's reply does not decode")]
    BadReply,
    /// The peer's rpcbind does not know the program in this version and transport.
    #[error("program {program} version {version} is not registered with the peer's rpcbind")]
    NotRegistered {
        /// Program number.
        program: u32,
        /// Version number.
        version: u32,
    },
    /// Another error of the system.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Makes calls. Clones are the same client.
#[derive(Clone, Debug)]
pub struct RpcClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: ClientSettings,
    next_xid: AtomicU32,
    host_name: Box<[u8]>,
    turns: Turns,
    streams: Connections,
    ports: PortCache,
}

/// What one transmission after another has in common.
struct Attempt<'a> {
    spec: &'a CallSpec,
    message: Bytes,
    xid: u32,
    deadline: Instant,
    reserved_port: bool,
    timeout: Duration,
    max_timeout: Duration,
    transmissions: u32,
}

impl Attempt<'_> {
    /// Counts a transmission that was just made and says until when its reply is waited for.
    fn sent(&mut self) -> Instant {
        self.transmissions += 1;
        let until = (Instant::now() + self.timeout).min(self.deadline);
        self.timeout = self.timeout.saturating_mul(2).min(self.max_timeout);
        until
    }

    fn over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn timeout(&self) -> CallError {
        CallError::Timeout { transmissions: self.transmissions }
    }

    /// The results in a reply message; None if it is not the reply to this call.
    fn results(&self, message: &Bytes) -> Option<Result<CallReply, CallError>> {
        let (xid, status) = parse_reply(message)?;
        if xid != self.xid {
            return None;
        }
        let transmissions = self.transmissions;
        Some(results(message, status).map(|results| CallReply { results, transmissions }))
    }
}

/// The results of a reply message, or the error that it names.
pub(super) fn results(message: &Bytes, status: ReplyStatus) -> Result<Bytes, CallError> {
    match status {
        ReplyStatus::Success(at) => Ok(message.slice(at..)),
        ReplyStatus::RpcMismatch => Err(CallError::RpcMismatch),
        ReplyStatus::AuthError(stat) => Err(CallError::Rejected(stat)),
        ReplyStatus::ProgUnavail => Err(CallError::ProgUnavail),
        ReplyStatus::ProgMismatch(low, high) => Err(CallError::ProgMismatch { low, high }),
        ReplyStatus::ProcUnavail => Err(CallError::ProcUnavail),
        ReplyStatus::GarbageArgs => Err(CallError::GarbageArgs),
        ReplyStatus::SystemErr => Err(CallError::SystemErr),
    }
}

impl RpcClient {
    /// A client without connections.
    pub fn new(settings: ClientSettings) -> Self {
        let host = nix::unistd::gethostname().unwrap_or_default();
        let inner = Inner {
            next_xid: AtomicU32::new(RandomState::new().hash_one(0) as u32),
            host_name: host.as_encoded_bytes().into(),
            turns: Turns::new(settings.outstanding, settings.outstanding_per_host),
            streams: Connections::default(),
            ports: PortCache::default(),
            settings,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Makes one call. Returns within `give_up`, give or take a scheduling delay. Dropped before that, it
    /// stops sending. It occupies one of the client's turns all the while: what goes on for minutes should be
    /// many short calls, or have a client of its own.
    pub async fn call(&self, spec: CallSpec) -> Result<CallReply, CallError> {
        let inner = &self.inner;
        let xid = inner.next_xid.fetch_add(1, Ordering::Relaxed);
        let mut attempt = Attempt {
            message: inner.message(&spec, xid),
            spec: &spec,
            xid,
            deadline: Instant::now() + spec.give_up,
            reserved_port: inner.settings.reserved_port,
            timeout: spec.first_timeout,
            max_timeout: inner.settings.max_timeout.max(spec.first_timeout),
            transmissions: 0,
        };
        let Ok(Some(_turn)) = tokio::time::timeout_at(attempt.deadline, inner.turns.take(spec.to.ip())).await
        else {
            return Err(attempt.timeout());
        };
        match (spec.transport, &spec.via) {
            (Transport::Udp, None) => udp::call(&mut attempt).await,
            (Transport::Udp, Some(endpoint)) => udp::call_via(&mut attempt, endpoint).await,
            (Transport::Tcp, _) => inner.streams.call(&mut attempt, &inner.settings).await,
        }
    }

    /// The port on which `host` serves a program, from its rpcbind: portmap version 2 over UDP, then TCP,
    /// then rpcbind versions 4 and 3; for IPv6 only the latter. Answers are kept for a while.
    pub async fn getport(
        &self,
        host: IpAddr,
        source: Option<IpAddr>,
        program: u32,
        version: u32,
        transport: Transport,
        give_up: Duration,
    ) -> Result<u16, CallError> {
        let query = getport::Query { host, program, version, transport };
        if let Some(port) = self.inner.ports.get(&query, self.inner.settings.port_ttl) {
            return Ok(port);
        }
        let port = getport::ask(self, &query, source, give_up).await?;
        self.inner.ports.put(query, port);
        Ok(port)
    }

    /// Forgets every port of `host`: what was named did not answer.
    pub fn invalidate(&self, host: IpAddr) {
        self.inner.ports.forget(host);
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &ClientSettings {
        &self.inner.settings
    }
}

impl Inner {
    fn message(&self, spec: &CallSpec, xid: u32) -> Bytes {
        let mut out = Vec::with_capacity(128 + spec.args.len());
        let CallSpec { program, version, procedure, .. } = *spec;
        let cred = match spec.cred {
            CallCred::None => Cred::None,
            CallCred::Sys => Cred::Sys(AuthSys {
                machine_name: self.host_name.clone(),
                uid: 0,
                gid: 0,
                gids: Box::default(),
            }),
        };
        write_call(&mut out, &CallHeader { xid, program, version, procedure, cred });
        out.extend_from_slice(&spec.args);
        out.into()
    }
}

/// Errors that may be gone in a moment: a peer that is down or not yet there, a network that is being changed.
/// AddrNotAvailable on connecting: the chosen port's last connection to the peer is in TIME_WAIT.
fn is_passing(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        AddrInUse, AddrNotAvailable, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkDown,
        NetworkUnreachable, TimedOut,
    };
    matches!(
        kind,
        AddrInUse
            | AddrNotAvailable
            | ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
    )
}

fn lock<K, V>(mutex: &Mutex<HashMap<K, V>>) -> MutexGuard<'_, HashMap<K, V>> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
