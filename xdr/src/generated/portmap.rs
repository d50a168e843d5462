//! Port mapper version 2 and rpcbind versions 3 and 4: which program listens where.
//!
//! Written after RFC 1833. The types of the statistics procedures (GETSTAT of version 4) are left out; their numbers
//! are here.
//!
//! Made from `x/portmap.x` by lockferry-xdrgen. Must never be edited by hand.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};

/// The port that all three listen on, UDP and TCP.
pub const PMAP_PORT: u32 = 111;

/// Protocol number of TCP in a mapping.
pub const IPPROTO_TCP: u32 = 6;

/// Protocol number of UDP in a mapping.
pub const IPPROTO_UDP: u32 = 17;

/// Longest network id, address or owner in bytes. RFC 1833 names none; an IPv6 address and port take 56.
pub const RPCB_STRING_MAX: u32 = 1024;

/// Most mappings that are read from a list. RFC 1833 names none; a busy host has about a hundred.
pub const PMAPLIST_LIST_MAX: u32 = 4096;

/// Most rpcbind entries that are read from a list, for the same reason.
pub const RPCBLIST_LIST_MAX: u32 = 4096;

/// Most addresses of one program that are read from a list: one for each transport.
pub const RPCB_ENTRY_LIST_LIST_MAX: u32 = 256;

/// Most bytes of arguments or results that are forwarded by CALLIT; it is for datagrams.
pub const CALLIT_MAX: u32 = 65536;

/// Longest transport address in bytes; a sockaddr of a Unix socket takes 110.
pub const NETBUF_MAX: u32 = 1024;

/// One registration (version 2).
///
/// XDR name: `mapping`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Program number.
    pub prog: u32,
    /// Version.
    pub vers: u32,
    /// Protocol: IPPROTO\_TCP or IPPROTO\_UDP.
    pub prot: u32,
    /// Port; 0 where it does not matter.
    pub port: u32,
}

impl Decode<'_> for Mapping {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            prog: u32::decode(r)?,
            vers: u32::decode(r)?,
            prot: u32::decode(r)?,
            port: u32::decode(r)?,
        })
    }
}

impl Encode for Mapping {
    fn encode(&self, w: &mut Writer<'_>) {
        u32::encode(&self.prog, w);
        u32::encode(&self.vers, w);
        u32::encode(&self.prot, w);
        u32::encode(&self.port, w);
    }
}

/// All registrations (version 2).
///
/// XDR name: `pmaplist`.
///
/// One element of a list: the link to the next is left out. At most [`PMAPLIST_LIST_MAX`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pmaplist {
    /// One.
    pub map: Mapping,
}

impl Decode<'_> for Pmaplist {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { map: Mapping::decode(r)? })
    }
}

impl Encode for Pmaplist {
    fn encode(&self, w: &mut Writer<'_>) {
        Mapping::encode(&self.map, w);
    }
}

/// The answer to DUMP (version 2).
///
/// XDR name: `pmaplist_ptr`.
///
/// At most [`PMAPLIST_LIST_MAX`] elements.
pub type PmaplistPtr = Vec<Pmaplist>;

/// Reads a [`PmaplistPtr`] and checks its length.
pub fn decode_pmaplist_ptr(r: &mut Reader<'_>) -> Result<PmaplistPtr, DecodeError> {
    r.list(PMAPLIST_LIST_MAX as usize, Pmaplist::decode)
}

/// Writes a [`PmaplistPtr`].
pub fn encode_pmaplist_ptr(value: &PmaplistPtr, w: &mut Writer<'_>) {
    w.list(value, PMAPLIST_LIST_MAX as usize, Pmaplist::encode);
}

/// Arguments of CALLIT (version 2).
///
/// XDR name: `call_args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallArgs<'a> {
    /// Program number.
    pub prog: u32,
    /// Version.
    pub vers: u32,
    /// Procedure.
    pub proc: u32,
    /// Its arguments.
    ///
    /// At most [`CALLIT_MAX`] bytes.
    pub args: &'a [u8],
}

impl<'a> Decode<'a> for CallArgs<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            prog: u32::decode(r)?,
            vers: u32::decode(r)?,
            proc: u32::decode(r)?,
            args: r.opaque_var(CALLIT_MAX as usize)?,
        })
    }
}

impl Encode for CallArgs<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        u32::encode(&self.prog, w);
        u32::encode(&self.vers, w);
        u32::encode(&self.proc, w);
        w.opaque_max(self.args, CALLIT_MAX as usize);
    }
}

/// The answer to CALLIT (version 2).
///
/// XDR name: `call_result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallResult<'a> {
    /// Where the program listens.
    pub port: u32,
    /// Its results.
    ///
    /// At most [`CALLIT_MAX`] bytes.
    pub res: &'a [u8],
}

impl<'a> Decode<'a> for CallResult<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { port: u32::decode(r)?, res: r.opaque_var(CALLIT_MAX as usize)? })
    }
}

impl Encode for CallResult<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        u32::encode(&self.port, w);
        w.opaque_max(self.res, CALLIT_MAX as usize);
    }
}

/// A string of rpcbind: a universal address, for example.
///
/// XDR name: `rpcb_string`.
///
/// At most [`RPCB_STRING_MAX`] bytes.
pub type RpcbString<'a> = &'a [u8];

/// Reads a [`RpcbString`] and checks its length.
pub fn decode_rpcb_string<'a>(r: &mut Reader<'a>) -> Result<RpcbString<'a>, DecodeError> {
    r.opaque_var(RPCB_STRING_MAX as usize)
}

/// Writes a [`RpcbString`].
pub fn encode_rpcb_string(value: &RpcbString<'_>, w: &mut Writer<'_>) {
    w.opaque_max(value, RPCB_STRING_MAX as usize);
}

/// One registration (versions 3 and 4).
///
/// XDR name: `rpcb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rpcb<'a> {
    /// Program number.
    pub r_prog: u32,
    /// Version.
    pub r_vers: u32,
    /// Transport: tcp, udp, tcp6, udp6 or local.
    ///
    /// At most [`RPCB_STRING_MAX`] bytes.
    pub r_netid: &'a [u8],
    /// Universal address; its last two numbers are the port.
    ///
    /// At most [`RPCB_STRING_MAX`] bytes.
    pub r_addr: &'a [u8],
    /// Who may take it back.
    ///
    /// At most [`RPCB_STRING_MAX`] bytes.
    pub r_owner: &'a [u8],
}

impl<'a> Decode<'a> for Rpcb<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            r_prog: u32::decode(r)?,
            r_vers: u32::decode(r)?,
            r_netid: r.opaque_var(RPCB_STRING_MAX as usize)?,
            r_addr: r.opaque_var(RPCB_STRING_MAX as usize)?,
            r_owner: r.opaque_var(RPCB_STRING_MAX as usize)?,
        })
    }
}

impl Encode for Rpcb<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        u32::encode(&self.r_prog, w);
        u32::encode(&self.r_vers, w);
        w.opaque_max(self.r_netid, RPCB_STRING_MAX as usize);
        w.opaque_max(self.r_addr, RPCB_STRING_MAX as usize);
        w.opaque_max(self.r_owner, RPCB_STRING_MAX as usize);
    }
}

/// All registrations (versions 3 and 4).
///
/// XDR name: `rpcblist`.
///
/// One element of a list: the link to the next is left out. At most [`RPCBLIST_LIST_MAX`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rpcblist<'a> {
    /// One.
    pub rpcb_map: Rpcb<'a>,
}

impl<'a> Decode<'a> for Rpcblist<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { rpcb_map: Rpcb::decode(r)? })
    }
}

impl Encode for Rpcblist<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        Rpcb::encode(&self.rpcb_map, w);
    }
}

/// The answer to DUMP (versions 3 and 4).
///
/// XDR name: `rpcblist_ptr`.
///
/// At most [`RPCBLIST_LIST_MAX`] elements.
pub type RpcblistPtr<'a> = Vec<Rpcblist<'a>>;

/// Reads a [`RpcblistPtr`] and checks its length.
pub fn decode_rpcblist_ptr<'a>(r: &mut Reader<'a>) -> Result<RpcblistPtr<'a>, DecodeError> {
    r.list(RPCBLIST_LIST_MAX as usize, Rpcblist::decode)
}

/// Writes a [`RpcblistPtr`].
pub fn encode_rpcblist_ptr(value: &RpcblistPtr<'_>, w: &mut Writer<'_>) {
    w.list(value, RPCBLIST_LIST_MAX as usize, Rpcblist::encode);
}

/// One address of a program.
///
/// XDR name: `rpcb_entry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcbEntry<'a> {
    /// Universal address.
    ///
    /// At most [`RPCB_STRING_MAX`] bytes.
    pub r_maddr: &'a [u8],
    /// Transport.
    ///
    /// At most [`RPCB_STRING_MAX`] bytes.
    pub r_nc_netid: &'a [u8],
    /// Datagrams 1, stream 2, stream with orderly release 3.
    pub r_nc_semantics: u32,
    /// Protocol family: inet or inet6.
    ///
    /// At most [`RPCB_STRING_MAX`] bytes.
    pub r_nc_protofmly: &'a [u8],
    /// Protocol: tcp or udp.
    ///
    /// At most [`RPCB_STRING_MAX`] bytes.
    pub r_nc_proto: &'a [u8],
}

impl<'a> Decode<'a> for RpcbEntry<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            r_maddr: r.opaque_var(RPCB_STRING_MAX as usize)?,
            r_nc_netid: r.opaque_var(RPCB_STRING_MAX as usize)?,
            r_nc_semantics: u32::decode(r)?,
            r_nc_protofmly: r.opaque_var(RPCB_STRING_MAX as usize)?,
            r_nc_proto: r.opaque_var(RPCB_STRING_MAX as usize)?,
        })
    }
}

impl Encode for RpcbEntry<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_max(self.r_maddr, RPCB_STRING_MAX as usize);
        w.opaque_max(self.r_nc_netid, RPCB_STRING_MAX as usize);
        u32::encode(&self.r_nc_semantics, w);
        w.opaque_max(self.r_nc_protofmly, RPCB_STRING_MAX as usize);
        w.opaque_max(self.r_nc_proto, RPCB_STRING_MAX as usize);
    }
}

/// All addresses of a program.
///
/// XDR name: `rpcb_entry_list`.
///
/// One element of a list: the link to the next is left out. At most [`RPCB_ENTRY_LIST_LIST_MAX`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcbEntryList<'a> {
    /// One.
    pub rpcb_entry_map: RpcbEntry<'a>,
}

impl<'a> Decode<'a> for RpcbEntryList<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { rpcb_entry_map: RpcbEntry::decode(r)? })
    }
}

impl Encode for RpcbEntryList<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        RpcbEntry::encode(&self.rpcb_entry_map, w);
    }
}

/// The answer to GETADDRLIST (version 4).
///
/// XDR name: `rpcb_entry_list_ptr`.
///
/// At most [`RPCB_ENTRY_LIST_LIST_MAX`] elements.
pub type RpcbEntryListPtr<'a> = Vec<RpcbEntryList<'a>>;

/// Reads a [`RpcbEntryListPtr`] and checks its length.
pub fn decode_rpcb_entry_list_ptr<'a>(r: &mut Reader<'a>) -> Result<RpcbEntryListPtr<'a>, DecodeError> {
    r.list(RPCB_ENTRY_LIST_LIST_MAX as usize, RpcbEntryList::decode)
}

/// Writes a [`RpcbEntryListPtr`].
pub fn encode_rpcb_entry_list_ptr(value: &RpcbEntryListPtr<'_>, w: &mut Writer<'_>) {
    w.list(value, RPCB_ENTRY_LIST_LIST_MAX as usize, RpcbEntryList::encode);
}

/// Arguments of CALLIT, BCAST and INDIRECT (versions 3 and 4).
///
/// XDR name: `rpcb_rmtcallargs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcbRmtcallargs<'a> {
    /// Program number.
    pub prog: u32,
    /// Version.
    pub vers: u32,
    /// Procedure.
    pub proc: u32,
    /// Its arguments.
    ///
    /// At most [`CALLIT_MAX`] bytes.
    pub args: &'a [u8],
}

impl<'a> Decode<'a> for RpcbRmtcallargs<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            prog: u32::decode(r)?,
            vers: u32::decode(r)?,
            proc: u32::decode(r)?,
            args: r.opaque_var(CALLIT_MAX as usize)?,
        })
    }
}

impl Encode for RpcbRmtcallargs<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        u32::encode(&self.prog, w);
        u32::encode(&self.vers, w);
        u32::encode(&self.proc, w);
        w.opaque_max(self.args, CALLIT_MAX as usize);
    }
}

/// The answer to CALLIT, BCAST and INDIRECT (versions 3 and 4).
///
/// XDR name: `rpcb_rmtcallres`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcbRmtcallres<'a> {
    /// Universal address of the program.
    ///
    /// At most [`RPCB_STRING_MAX`] bytes.
    pub addr: &'a [u8],
    /// Its results.
    ///
    /// At most [`CALLIT_MAX`] bytes.
    pub results: &'a [u8],
}

impl<'a> Decode<'a> for RpcbRmtcallres<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            addr: r.opaque_var(RPCB_STRING_MAX as usize)?,
            results: r.opaque_var(CALLIT_MAX as usize)?,
        })
    }
}

impl Encode for RpcbRmtcallres<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_max(self.addr, RPCB_STRING_MAX as usize);
        w.opaque_max(self.results, CALLIT_MAX as usize);
    }
}

/// A transport address as the transport itself writes it.
///
/// XDR name: `netbuf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Netbuf<'a> {
    /// Room for it.
    pub maxlen: u32,
    /// The address.
    ///
    /// At most [`NETBUF_MAX`] bytes.
    pub buf: &'a [u8],
}

impl<'a> Decode<'a> for Netbuf<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { maxlen: u32::decode(r)?, buf: r.opaque_var(NETBUF_MAX as usize)? })
    }
}

impl Encode for Netbuf<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        u32::encode(&self.maxlen, w);
        w.opaque_max(self.buf, NETBUF_MAX as usize);
    }
}

/// The port mapper.
pub const PMAP_PROG: u32 = 100000;

/// Version 2, the port mapper proper.
pub const PMAP_VERS: u32 = 2;

/// The procedures of `PMAP_PROG`, one module for each version.
pub mod pmap_prog {
    /// Version 2 (`PMAP_VERS`).
    pub mod v2 {
        /// The version's number.
        pub const VERSION: u32 = 2;
        /// `PMAPPROC_NULL`.
        ///
        /// Takes nothing, returns nothing.
        pub const NULL: u32 = 0;
        /// `PMAPPROC_SET`.
        ///
        /// Takes [`Mapping`](super::super::Mapping), returns `bool`.
        pub const SET: u32 = 1;
        /// `PMAPPROC_UNSET`.
        ///
        /// Takes [`Mapping`](super::super::Mapping), returns `bool`.
        pub const UNSET: u32 = 2;
        /// The port, or 0.
        ///
        /// Takes [`Mapping`](super::super::Mapping), returns `u32`.
        pub const GETPORT: u32 = 3;
        /// `PMAPPROC_DUMP`.
        ///
        /// Takes nothing, returns [`PmaplistPtr`](super::super::PmaplistPtr).
        pub const DUMP: u32 = 4;
        /// `PMAPPROC_CALLIT`.
        ///
        /// Takes [`CallArgs`](super::super::CallArgs), returns [`CallResult`](super::super::CallResult).
        pub const CALLIT: u32 = 5;
    }
}

/// The same program number, later versions.
pub const RPCBPROG: u32 = 100000;

/// Version 3.
pub const RPCBVERS: u32 = 3;

/// Version 4.
pub const RPCBVERS4: u32 = 4;

/// The procedures of `RPCBPROG`, one module for each version.
pub mod rpcbprog {
    /// Version 3 (`RPCBVERS`).
    pub mod v3 {
        /// The version's number.
        pub const VERSION: u32 = 3;
        /// `RPCBPROC_NULL`.
        ///
        /// Takes nothing, returns nothing.
        pub const NULL: u32 = 0;
        /// `RPCBPROC_SET`.
        ///
        /// Takes [`Rpcb`](super::super::Rpcb), returns `bool`.
        pub const SET: u32 = 1;
        /// `RPCBPROC_UNSET`.
        ///
        /// Takes [`Rpcb`](super::super::Rpcb), returns `bool`.
        pub const UNSET: u32 = 2;
        /// The universal address, or an empty string.
        ///
        /// Takes [`Rpcb`](super::super::Rpcb), returns [`RpcbString`](super::super::RpcbString).
        pub const GETADDR: u32 = 3;
        /// `RPCBPROC_DUMP`.
        ///
        /// Takes nothing, returns [`RpcblistPtr`](super::super::RpcblistPtr).
        pub const DUMP: u32 = 4;
        /// `RPCBPROC_CALLIT`.
        ///
        /// Takes [`RpcbRmtcallargs`](super::super::RpcbRmtcallargs), returns [`RpcbRmtcallres`](super::super::RpcbRmtcallres).
        pub const CALLIT: u32 = 5;
        /// Seconds since 1970.
        ///
        /// Takes nothing, returns `u32`.
        pub const GETTIME: u32 = 6;
        /// `RPCBPROC_UADDR2TADDR`.
        ///
        /// Takes [`RpcbString`](super::super::RpcbString), returns [`Netbuf`](super::super::Netbuf).
        pub const UADDR2TADDR: u32 = 7;
        /// `RPCBPROC_TADDR2UADDR`.
        ///
        /// Takes [`Netbuf`](super::super::Netbuf), returns [`RpcbString`](super::super::RpcbString).
        pub const TADDR2UADDR: u32 = 8;
    }

    /// Version 4 (`RPCBVERS4`).
    pub mod v4 {
        /// The version's number.
        pub const VERSION: u32 = 4;
        /// `RPCBPROC_NULL`.
        ///
        /// Takes nothing, returns nothing.
        pub const NULL: u32 = 0;
        /// `RPCBPROC_SET`.
        ///
        /// Takes [`Rpcb`](super::super::Rpcb), returns `bool`.
        pub const SET: u32 = 1;
        /// `RPCBPROC_UNSET`.
        ///
        /// Takes [`Rpcb`](super::super::Rpcb), returns `bool`.
        pub const UNSET: u32 = 2;
        /// The universal address, or an empty string; any version of the program will do.
        ///
        /// Takes [`Rpcb`](super::super::Rpcb), returns [`RpcbString`](super::super::RpcbString).
        pub const GETADDR: u32 = 3;
        /// `RPCBPROC_DUMP`.
        ///
        /// Takes nothing, returns [`RpcblistPtr`](super::super::RpcblistPtr).
        pub const DUMP: u32 = 4;
        /// CALLIT of version 3 by a new name.
        ///
        /// Takes [`RpcbRmtcallargs`](super::super::RpcbRmtcallargs), returns [`RpcbRmtcallres`](super::super::RpcbRmtcallres).
        pub const BCAST: u32 = 5;
        /// Seconds since 1970.
        ///
        /// Takes nothing, returns `u32`.
        pub const GETTIME: u32 = 6;
        /// `RPCBPROC_UADDR2TADDR`.
        ///
        /// Takes [`RpcbString`](super::super::RpcbString), returns [`Netbuf`](super::super::Netbuf).
        pub const UADDR2TADDR: u32 = 7;
        /// `RPCBPROC_TADDR2UADDR`.
        ///
        /// Takes [`Netbuf`](super::super::Netbuf), returns [`RpcbString`](super::super::RpcbString).
        pub const TADDR2UADDR: u32 = 8;
        /// As GETADDR, but for exactly the version that is asked for.
        ///
        /// Takes [`Rpcb`](super::super::Rpcb), returns [`RpcbString`](super::super::RpcbString).
        pub const GETVERSADDR: u32 = 9;
        /// `RPCBPROC_INDIRECT`.
        ///
        /// Takes [`RpcbRmtcallargs`](super::super::RpcbRmtcallargs), returns [`RpcbRmtcallres`](super::super::RpcbRmtcallres).
        pub const INDIRECT: u32 = 10;
        /// `RPCBPROC_GETADDRLIST`.
        ///
        /// Takes [`Rpcb`](super::super::Rpcb), returns [`RpcbEntryListPtr`](super::super::RpcbEntryListPtr).
        pub const GETADDRLIST: u32 = 11;
        /// Statistics. The type of the answer, rpcb\_stat\_byvers, is left out.
        ///
        /// Takes nothing, returns nothing.
        pub const GETSTAT: u32 = 12;
    }
}
