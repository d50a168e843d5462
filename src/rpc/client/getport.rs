//! Where a peer's program listens: its rpcbind is asked, in the dialects there are, and the answer is kept
//! for a while. Must never believe more of the answer than the port.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockferry_xdr::portmap::{
    IPPROTO_TCP, IPPROTO_UDP, Mapping, PMAP_PROG, Rpcb, decode_rpcb_string, rpcbprog,
};
use lockferry_xdr::{Decode, Encode, Reader};

use super::super::rpcbind::{NetId, parse_uaddr, uaddr};
use super::super::types::Transport;
use super::{CallCred, CallError, CallSpec, RpcClient, lock};

/// Answers kept. Past it all are forgotten: they are cheap to get again.
const MAX_KEPT: usize = 16_384;
/// The first wait for rpcbind's answer.
const FIRST_TIMEOUT: Duration = Duration::from_millis(500);

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Query {
    pub(super) host: IpAddr,
    pub(super) program: u32,
    pub(super) version: u32,
    pub(super) transport: Transport,
}

/// Answers of the last minute.
#[derive(Debug, Default)]
pub(super) struct PortCache {
    known: Mutex<HashMap<Query, (u16, Instant)>>,
}

impl PortCache {
    pub(super) fn get(&self, query: &Query, ttl: Duration) -> Option<u16> {
        let known = lock(&self.known);
        let (port, since) = known.get(query)?;
        (since.elapsed() < ttl).then_some(*port)
    }

    pub(super) fn put(&self, query: Query, port: u16) {
        let mut known = lock(&self.known);
        if known.len() >= MAX_KEPT {
            known.clear();
        }
        known.insert(query, (port, Instant::now()));
    }

    pub(super) fn forget(&self, host: IpAddr) {
        lock(&self.known).retain(|query, _| query.host != host);
    }
}

/// One way to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dialect {
    version: u32,
    /// None: the transport that is asked about. GETADDR answers for the one it was asked over (RFC 1833
    /// section 2.2.1); GETPORT names it.
    over: Option<Transport>,
}

/// Version 4 first: it is what IPv6 needs, and version 3 is the same question for older peers.
const DIALECTS: [Dialect; 4] = [
    Dialect { version: 2, over: Some(Transport::Udp) },
    Dialect { version: 2, over: Some(Transport::Tcp) },
    Dialect { version: 4, over: None },
    Dialect { version: 3, over: None },
];

/// Asks `query.host` in one dialect after the other, each with its share of the time that is left.
pub(super) async fn ask(
    client: &RpcClient,
    query: &Query,
    source: Option<IpAddr>,
    give_up: Duration,
) -> Result<u16, CallError> {
    let deadline = Instant::now() + give_up;
    // Version 2 knows no IPv6.
    let dialects = if query.host.is_ipv4() { &DIALECTS[..] } else { &DIALECTS[2..] };
    let mut first_error = None;
    for (n, dialect) in dialects.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (dialects.len() - n) as u32;
        match ask_once(client, query, source, *dialect, share).await {
            Ok(Some(port)) => return Ok(port),
            // An rpcbind that answers knows; asking it in another dialect changes nothing.
            Ok(None) => {
                let Query { program, version, .. } = *query;
                return Err(CallError::NotRegistered { program, version });
            }
            Err(error @ CallError::NoSuchSource { .. }) => return Err(error),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or(CallError::Timeout { transmissions: 0 }))
}

async fn ask_once(
    client: &RpcClient,
    query: &Query,
    source: Option<IpAddr>,
    dialect: Dialect,
    give_up: Duration,
) -> Result<Option<u16>, CallError> {
    let rpcbind = SocketAddr::new(query.host, client.settings().rpcbind_port);
    let over = dialect.over.unwrap_or(query.transport);
    let args = if dialect.version == 2 { mapping(query) } else { rpcb(query, rpcbind) };
    let spec = CallSpec {
        to: rpcbind,
        source,
        via: None,
        transport: over,
        program: PMAP_PROG,
        version: dialect.version,
        procedure: rpcbprog::v4::GETADDR, // version 2: GETPORT, the same number,
        args: args.into(),
        cred: CallCred::None,
        first_timeout: FIRST_TIMEOUT,
        give_up,
    };
    let reply = client.call(spec).await?;
    port_of(dialect, &reply.results)
}

fn mapping(query: &Query) -> Vec<u8> {
    let prot = match query.transport {
        Transport::Tcp => IPPROTO_TCP,
        Transport::Udp => IPPROTO_UDP,
    };
    Mapping { prog: query.program, vers: query.version, prot, port: 0 }.to_bytes()
}

fn rpcb(query: &Query, rpcbind: SocketAddr) -> Vec<u8> {
    let netid = NetId::of(query.transport, &query.host);
    let addr = uaddr(rpcbind);
    let (r_prog, r_vers, r_netid) = (query.program, query.version, netid.as_str().as_bytes());
    Rpcb { r_prog, r_vers, r_netid, r_addr: addr.as_bytes(), r_owner: b"" }.to_bytes()
}

fn port_of(dialect: Dialect, results: &Bytes) -> Result<Option<u16>, CallError> {
    let port = match dialect.version {
        2 => u32::from_bytes(results).ok().and_then(|port| u16::try_from(port).ok()),
        _ => match decode_rpcb_string(&mut Reader::new(results)) {
            Ok(b"") => Some(0),
            Ok(text) => parse_uaddr(text).map(|addr| addr.port()),
            Err(_) => None,
        },
    };
    match port {
        Some(0) => Ok(None),
        Some(port) => Ok(Some(port)),
        None => Err(CallError::BadReply),
    }
}
