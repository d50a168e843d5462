//! Our own portmapper: program 100000, versions 2 (RFC 1833 section 3), 3 and 4 (section 2), for hosts that
//! run no rpcbind. Must never forward a call (CALLIT), nor take a registration from another host.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use lockferry_xdr::Decode;
use lockferry_xdr::portmap::{
    Mapping, PMAP_PROG, Pmaplist, Rpcb, RpcbEntry, RpcbEntryList, Rpcblist, encode_pmaplist_ptr,
    encode_rpcb_entry_list_ptr, encode_rpcb_string, encode_rpcblist_ptr, pmap_prog, rpcbprog,
};

use super::super::types::{Call, CallInfo, Program, Responder, Transport};
use super::addr::{NetId, parse_uaddr, uaddr};
use super::table::{Registration, Table};

use pmap_prog::v2;
use rpcbprog::v4;

/// Two numbers and three strings of 1,024 bytes (`RPCB_STRING_MAX`) at the most.
const MAX_ARGS: usize = 8 + 3 * (4 + 1024);

/// The program.
#[derive(Debug)]
pub struct Portmapper {
    table: Arc<Table>,
    reserved_port: bool,
}

impl Portmapper {
    /// A portmapper over `table`. `reserved_port`: SET and UNSET are taken only from ports below 1024, that
    /// is from root, as rpcbind does it.
    pub fn new(table: Arc<Table>, reserved_port: bool) -> Self {
        Self { table, reserved_port }
    }

    fn may_register(&self, info: &CallInfo) -> bool {
        let local = info.peer.ip().is_loopback() && info.local.ip().is_loopback();
        local && (info.peer.port() < 1024 || !self.reserved_port)
    }

    fn portmap(&self, call: &Call, responder: Responder) {
        if call.info.procedure == v2::DUMP {
            let entries = self.table.list();
            let mapping = |r: Registration| {
                let prot = r.netid.protocol()?;
                Some(Mapping { prog: r.program, vers: r.version, prot, port: r.addr.port().into() })
            };
            let list = entries.iter().filter_map(|e| mapping(e.registration)).map(|map| Pmaplist { map });
            let list = list.collect();
            return responder.success_with(|w| encode_pmaplist_ptr(&list, w));
        }
        let Ok(asked) = Mapping::from_bytes(&call.args) else { return responder.garbage_args() };
        let netid = NetId::from_protocol(asked.prot);
        match call.info.procedure {
            v2::GETPORT => {
                let found = netid.and_then(|n| self.table.find(asked.prog, asked.vers, n, false));
                responder.success(&found.map_or(0, |addr| u32::from(addr.port())));
            }
            v2::SET => {
                let registration = || {
                    let port = u16::try_from(asked.port).ok()?;
                    let addr = SocketAddr::from(([0, 0, 0, 0], port));
                    Some(Registration { program: asked.prog, version: asked.vers, netid: netid?, addr })
                };
                let set = |r| self.may_register(&call.info) && self.table.set(r, "unknown");
                responder.success(&registration().is_some_and(set));
            }
            v2::UNSET => {
                // Version 2 drops a program from all transports that it knows.
                let may = self.may_register(&call.info);
                let unset = |netid| may && self.table.unset(asked.prog, asked.vers, Some(netid));
                responder.success(&(unset(NetId::Udp) | unset(NetId::Tcp)));
            }
            _ => responder.proc_unavail(),
        }
    }

    fn rpcbind(&self, call: &Call, responder: Responder) {
        match call.info.procedure {
            v4::DUMP => return self.dump(responder),
            v4::GETTIME => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                return responder.success(&(now.as_secs() as u32));
            }
            _ => {}
        }
        let Ok(asked) = Rpcb::from_bytes(&call.args) else { return responder.garbage_args() };
        match call.info.procedure {
            v4::GETADDR => self.address(&call.info, &asked, false, responder),
            v4::GETVERSADDR => self.address(&call.info, &asked, true, responder),
            v4::GETADDRLIST => self.address_list(&call.info, &asked, responder),
            v4::SET => {
                let owner = String::from_utf8_lossy(asked.r_owner);
                let set = |r| self.may_register(&call.info) && self.table.set(r, &owner);
                responder.success(&registration(&asked).is_some_and(set));
            }
            v4::UNSET => {
                let netid = NetId::parse(asked.r_netid);
                let meant = netid.is_some() || asked.r_netid.is_empty();
                let may = meant && self.may_register(&call.info);
                responder.success(&(may && self.table.unset(asked.r_prog, asked.r_vers, netid)));
            }
            _ => responder.proc_unavail(),
        }
    }

    fn dump(&self, responder: Responder) {
        let entries = self.table.list();
        let addresses: Vec<String> = entries.iter().map(|e| uaddr(e.registration.addr)).collect();
        let row = |(entry, addr): (&'_ super::table::Entry, &String)| {
            let r = entry.registration;
            (r, addr.clone(), entry.owner.clone())
        };
        let rows: Vec<_> = entries.iter().zip(&addresses).map(row).collect();
        let list = rows.iter().map(|(r, addr, owner)| Rpcblist { rpcb_map: wire(r, addr, owner) }).collect();
        responder.success_with(|w| encode_rpcblist_ptr(&list, w));
    }

    /// The transport is the one that the call came over, whatever `r_netid` says (RFC 1833 section 2.2.1).
    fn address(&self, info: &CallInfo, asked: &Rpcb<'_>, exact: bool, responder: Responder) {
        let netid = NetId::of(info.transport, &info.local.ip());
        let found = self.table.find(asked.r_prog, asked.r_vers, netid, exact);
        let text = found.map(|addr| uaddr(reachable(addr, info))).unwrap_or_default();
        responder.success_with(|w| encode_rpcb_string(&text.as_bytes(), w));
    }

    fn address_list(&self, info: &CallInfo, asked: &Rpcb<'_>, responder: Responder) {
        let v6 = info.local.is_ipv6();
        let entries = self.table.list();
        let meant = |r: &Registration| (r.program, r.version) == (asked.r_prog, asked.r_vers);
        let regs = entries.iter().map(|e| e.registration).filter(|r| meant(r) && r.addr.is_ipv6() == v6);
        let rows: Vec<_> = regs.map(|r| (r.netid, uaddr(reachable(r.addr, info)))).collect();
        let list = rows.iter().map(|(netid, addr)| RpcbEntryList { rpcb_entry_map: entry(*netid, addr) });
        let list = list.collect();
        responder.success_with(|w| encode_rpcb_entry_list_ptr(&list, w));
    }
}

/// Where the caller reaches what listens on `addr`: for a wildcard that is the address it called us on.
fn reachable(addr: SocketAddr, info: &CallInfo) -> SocketAddr {
    match addr.ip().is_unspecified() {
        true => SocketAddr::new(info.local.ip(), addr.port()),
        false => addr,
    }
}

fn registration(asked: &Rpcb<'_>) -> Option<Registration> {
    let netid = NetId::parse(asked.r_netid)?;
    let addr = parse_uaddr(asked.r_addr)?;
    let fits = NetId::of(netid.transport(), &addr.ip()) == netid;
    fits.then_some(Registration { program: asked.r_prog, version: asked.r_vers, netid, addr })
}

/// A registration as it is sent.
pub(super) fn wire<'a>(r: &Registration, addr: &'a str, owner: &'a str) -> Rpcb<'a> {
    Rpcb {
        r_prog: r.program,
        r_vers: r.version,
        r_netid: r.netid.as_str().as_bytes(),
        r_addr: addr.as_bytes(),
        r_owner: owner.as_bytes(),
    }
}

fn entry(netid: NetId, addr: &str) -> RpcbEntry<'_> {
    let (semantics, proto): (u32, &[u8]) = match netid.transport() {
        Transport::Udp => (1, b"udp"),
        Transport::Tcp => (3, b"tcp"),
    };
    let family: &[u8] = if netid.protocol().is_some() { b"inet" } else { b"inet6" };
    RpcbEntry {
        r_maddr: addr.as_bytes(),
        r_nc_netid: netid.as_str().as_bytes(),
        r_nc_semantics: semantics,
        r_nc_protofmly: family,
        r_nc_proto: proto,
    }
}

impl Program for Portmapper {
    fn number(&self) -> u32 {
        PMAP_PROG
    }

    fn versions(&self) -> &[u32] {
        &[2, 3, 4]
    }

    fn has_procedure(&self, version: u32, procedure: u32) -> bool {
        match version {
            2 => procedure <= v2::DUMP,
            3 => procedure <= v4::DUMP || procedure == v4::GETTIME,
            _ => {
                procedure <= v4::DUMP || matches!(procedure, v4::GETTIME | v4::GETVERSADDR | v4::GETADDRLIST)
            }
        }
    }

    fn max_args(&self, version: u32, _: u32) -> usize {
        if version == 2 { 16 } else { MAX_ARGS }
    }

    fn is_cached(&self, _: u32, _: u32) -> bool {
        false // SET and UNSET may be repeated; their answer may then differ, which callers know
    }

    /// Always: a peer that is told "not registered" while an address moves gives up for good.
    fn is_served(&self, _: &IpAddr) -> bool {
        true
    }

    fn dispatch(&self, call: Call, responder: Responder) {
        // The whole list for a datagram with a forged source would be sent to a victim.
        let info = &call.info;
        if info.procedure == v2::DUMP && info.transport == Transport::Udp && !info.peer.ip().is_loopback() {
            return responder.proc_unavail();
        }
        match info.version {
            2 => self.portmap(&call, responder),
            _ => self.rpcbind(&call, responder),
        }
    }
}
