//! The host's rpcbind: registering with it, leaving again, and seeing who else is there. It is reached by its
//! Unix socket, else over loopback with portmap version 2.
//! Must never drop a registration that is not ours, or one whose program still answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lockferry_xdr::portmap::{
    Mapping, PMAP_PROG, Rpcb, decode_pmaplist_ptr, decode_rpcblist_ptr, pmap_prog, rpcbprog,
};
use lockferry_xdr::{Decode, Encode, Reader};
use tokio::net::UnixStream;
use tracing::{debug, warn};

use super::super::client::{CallCred, CallError, CallSpec, RpcClient, exchange};
use super::super::header::{CallHeader, write_call};
use super::super::server::is_bound;
use super::super::types::{Cred, Transport};
use super::RpcbindError;
use super::addr::{NetId, parse_uaddr, uaddr};
use super::portmapper::wire;
use super::table::Registration;

/// Where rpcbind's Unix socket is.
pub const RPCBIND_SOCKET: &str = "/run/rpcbind.sock";
/// How long the host's rpcbind may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a program that is registered in our place may take to show that it lives.
const PING: Duration = Duration::from_millis(700);

/// A registration that rpcbind lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Program number.
    pub program: u32,
    /// Version number.
    pub version: u32,
    /// Its netid: "tcp", "udp6", "local"...
    pub netid: String,
    /// Where it listens, if it is an IP address.
    pub addr: Option<SocketAddr>,
    /// Who registered it: "superuser", a uid; "unknown" where rpcbind did not say.
    pub owner: String,
}

impl std::fmt::Display for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "program {} version {} {}", self.program, self.version, self.netid)?;
        if let Some(addr) = self.addr {
            write!(f, " port {}", addr.port())?;
        }
        write!(f, " (owner {})", self.owner)
    }
}

/// How rpcbind is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Socket(PathBuf),
    Loopback,
}

/// The host's rpcbind.
#[derive(Debug)]
pub struct HostRpcbind {
    way: Way,
    client: RpcClient,
    ours: Mutex<Vec<Registration>>,
}

impl HostRpcbind {
    /// Finds a running rpcbind (a socket-activated one is started by this). None: there is none.
    pub async fn detect(socket: &Path, client: &RpcClient) -> Option<Self> {
        for way in [Way::Socket(socket.to_owned()), Way::Loopback] {
            let host = Self { way, client: client.clone(), ours: Mutex::default() };
            match host.ask(0, Bytes::new(), Bytes::new()).await {
                Ok(_) => return Some(host),
                Err(error) => debug!(way = ?host.way, %error, "no rpcbind"),
            }
        }
        None
    }

    /// All registrations.
    pub async fn list(&self) -> Result<Vec<Listed>, RpcbindError> {
        let bytes = self.ask(rpcbprog::v4::DUMP, Bytes::new(), Bytes::new()).await?;
        let mut r = Reader::new(&bytes);
        let bad = |_| RpcbindError::Call(CallError::BadReply);
        match self.way {
            Way::Socket(_) => {
                Ok(decode_rpcblist_ptr(&mut r).map_err(bad)?.iter().map(|e| listed(&e.rpcb_map)).collect())
            }
            Way::Loopback => Ok(decode_pmaplist_ptr(&mut r)
                .map_err(bad)?
                .iter()
                .filter_map(|e| listed_v2(&e.map))
                .collect()),
        }
    }

    /// The registrations of these programs that are not ours: a kernel lockd, rpc.statd, another instance.
    pub async fn foreign(&self, programs: &[u32]) -> Result<Vec<Listed>, RpcbindError> {
        let ours = self.ours();
        let foreign = |l: &Listed| programs.contains(&l.program) && !ours.iter().any(|r| is_it(l, r));
        Ok(self.list().await?.into_iter().filter(foreign).collect())
    }

    /// Those of our registrations that are no longer there as we made them.
    pub async fn missing(&self) -> Result<Vec<Registration>, RpcbindError> {
        let list = self.list().await?;
        let gone = |r: &Registration| !list.iter().any(|l| is_it(l, r));
        Ok(self.ours().into_iter().filter(|r| self.knows(r.netid) && gone(r)).collect())
    }

    /// Registers. What a dead process left in the way is replaced; a program that still answers there is an
    /// error, and then nothing is changed.
    pub async fn register(&self, registrations: &[Registration]) -> Result<(), RpcbindError> {
        let wanted: Vec<_> = registrations.iter().filter(|r| self.knows(r.netid)).copied().collect();
        let list = self.list().await?;
        let mut in_the_way = Vec::new();
        for r in &wanted {
            let there = list.iter().filter(|l| same_place(l, r));
            for l in there.filter(|l| l.addr != Some(r.addr)) {
                if self.lives(l, r).await {
                    return Err(RpcbindError::Taken(l.clone()));
                }
                in_the_way.push((l.clone(), *r));
            }
        }
        for (stale, r) in in_the_way {
            debug!(%stale, "stale registration replaced");
            self.unset(&r).await?;
        }
        self.set_all(&wanted).await
    }

    /// Registers again what another program has taken meanwhile, whether it lives or not: a kernel lockd that a
    /// mount on this host started would otherwise swallow our clients' reclaims.
    pub async fn restore(&self, registrations: &[Registration]) -> Result<(), RpcbindError> {
        let wanted: Vec<_> = registrations.iter().filter(|r| self.knows(r.netid)).copied().collect();
        for r in &wanted {
            self.unset(r).await?;
        }
        self.set_all(&wanted).await
    }

    async fn set_all(&self, wanted: &[Registration]) -> Result<(), RpcbindError> {
        for r in wanted {
            if !self.change(rpcbprog::v4::SET, r).await? {
                return Err(RpcbindError::Refused(*r));
            }
            let mut ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
            ours.retain(|known| !known.same_place(r));
            ours.push(*r);
        }
        Ok(())
    }

    /// Drops our registrations, except those that somebody has since made for another port.
    pub async fn unregister(&self) -> Result<(), RpcbindError> {
        let ours = std::mem::take(&mut *self.ours.lock().unwrap_or_else(PoisonError::into_inner));
        let list = self.list().await?;
        for r in ours {
            match list.iter().find(|l| same_place(l, &r)) {
                Some(l) if is_it(l, &r) => self.unset(&r).await?,
                Some(l) => warn!(registration = %l, "not ours any more, left as it is"),
                None => {}
            }
        }
        Ok(())
    }

    fn ours(&self) -> Vec<Registration> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Portmap version 2 knows only IPv4.
    fn knows(&self, netid: NetId) -> bool {
        self.way != Way::Loopback || netid.protocol().is_some()
    }

    /// Whether a program still stands behind a registration in the place of `r`.
    async fn lives(&self, l: &Listed, r: &Registration) -> bool {
        let Some(addr) = l.addr else { return true };
        if addr.port() == r.addr.port() || !is_bound(r.netid.transport(), addr.port()) {
            return false;
        }
        let ip = match addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let mut spec = self.spec(SocketAddr::new(ip, addr.port()), r.netid.transport(), 0, Bytes::new());
        (spec.program, spec.version, spec.give_up) = (l.program, l.version, PING);
        // Silence is no proof of death: an instance whose addresses are released is silent too.
        !matches!(self.client.call(spec).await, Err(CallError::ProgUnavail | CallError::NotListening { .. }))
    }

    async fn unset(&self, r: &Registration) -> Result<(), RpcbindError> {
        self.change(rpcbprog::v4::UNSET, r).await.map(drop)
    }

    async fn change(&self, procedure: u32, r: &Registration) -> Result<bool, RpcbindError> {
        let addr = uaddr(r.addr);
        let owner = nix::unistd::geteuid().to_string();
        let prot = r.netid.protocol().unwrap_or_default();
        let mapping = Mapping { prog: r.program, vers: r.version, prot, port: r.addr.port().into() };
        let v4 = wire(r, &addr, &owner).to_bytes();
        let bytes = self.ask(procedure, v4.into(), mapping.to_bytes().into()).await?;
        bool::from_bytes(&bytes).map_err(|_| CallError::BadReply.into())
    }

    /// One question, in version 4 over the Unix socket or in version 2 over loopback. The numbers of NULL, SET,
    /// UNSET and DUMP are the same in both.
    async fn ask(&self, procedure: u32, v4_args: Bytes, v2_args: Bytes) -> Result<Bytes, RpcbindError> {
        const { assert!(pmap_prog::v2::SET == rpcbprog::v4::SET && pmap_prog::v2::DUMP == rpcbprog::v4::DUMP) };
        match &self.way {
            Way::Socket(path) => {
                let asking = over_socket(path, procedure, v4_args);
                let timeout = |_| CallError::Timeout { transmissions: 1 };
                Ok(tokio::time::timeout(PATIENCE, asking).await.map_err(timeout)??)
            }
            Way::Loopback => {
                let port = self.client.settings().rpcbind_port;
                let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
                // DUMP may be too long for a datagram.
                Ok(self.client.call(self.spec(to, Transport::Tcp, procedure, v2_args)).await?.results)
            }
        }
    }

    fn spec(&self, to: SocketAddr, transport: Transport, procedure: u32, args: Bytes) -> CallSpec {
        CallSpec {
            to,
            source: None,
            via: None,
            transport,
            program: PMAP_PROG,
            version: 2,
            procedure,
            args,
            cred: CallCred::None,
            first_timeout: PING,
            give_up: PATIENCE,
        }
    }
}

async fn over_socket(path: &Path, procedure: u32, args: Bytes) -> Result<Bytes, CallError> {
    let mut stream = UnixStream::connect(path).await?;
    let mut call = Vec::new();
    let header = CallHeader { xid: 1, program: PMAP_PROG, version: 4, procedure, cred: Cred::None };
    write_call(&mut call, &header);
    call.extend_from_slice(&args);
    exchange(&mut stream, &call).await
}

fn listed(r: &Rpcb<'_>) -> Listed {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Listed {
        program: r.r_prog,
        version: r.r_vers,
        netid: text(r.r_netid),
        addr: parse_uaddr(r.r_addr),
        owner: text(r.r_owner),
    }
}

fn listed_v2(m: &Mapping) -> Option<Listed> {
    let netid = NetId::from_protocol(m.prot)?.to_string();
    let addr = Some(SocketAddr::from(([0, 0, 0, 0], u16::try_from(m.port).ok()?)));
    Some(Listed { program: m.prog, version: m.vers, netid, addr, owner: "unknown".to_owned() })
}

fn same_place(l: &Listed, r: &Registration) -> bool {
    (l.program, l.version, l.netid.as_str()) == (r.program, r.version, r.netid.as_str())
}

fn is_it(l: &Listed, r: &Registration) -> bool {
    same_place(l, r) && l.addr.is_some_and(|addr| addr.port() == r.addr.port())
}
