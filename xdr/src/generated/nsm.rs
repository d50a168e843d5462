//! The network status monitor, version 1: who rebooted.
//!
//! Written after the X/Open XNFS specification, chapter 11. A state is odd while its host is up and only ever grows.
//!
//! Made from `x/nsm.x` by lockferry-xdrgen. Must never be edited by hand.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};

/// Longest host name in bytes: SM\_MAXSTRLEN of XNFS.
pub const SM_MAXSTRLEN: u32 = 1024;

/// Size of the bytes that the monitor stores for a caller and hands back.
pub const SM_PRIV_SIZE: u32 = 16;

/// Arguments of STAT.
///
/// XDR name: `sm_name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmName<'a> {
    /// The host that is asked about.
    ///
    /// At most [`SM_MAXSTRLEN`] bytes.
    pub mon_name: &'a [u8],
}

impl<'a> Decode<'a> for SmName<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { mon_name: r.opaque_var(SM_MAXSTRLEN as usize)? })
    }
}

impl Encode for SmName<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_max(self.mon_name, SM_MAXSTRLEN as usize);
    }
}

/// Whom the monitor shall call when a host's state changes.
///
/// XDR name: `my_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MyId<'a> {
    /// The caller's host.
    ///
    /// At most [`SM_MAXSTRLEN`] bytes.
    pub my_name: &'a [u8],
    /// The RPC program to call.
    pub my_prog: i32,
    /// Its version.
    pub my_vers: i32,
    /// Its procedure.
    pub my_proc: i32,
}

impl<'a> Decode<'a> for MyId<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            my_name: r.opaque_var(SM_MAXSTRLEN as usize)?,
            my_prog: i32::decode(r)?,
            my_vers: i32::decode(r)?,
            my_proc: i32::decode(r)?,
        })
    }
}

impl Encode for MyId<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_max(self.my_name, SM_MAXSTRLEN as usize);
        i32::encode(&self.my_prog, w);
        i32::encode(&self.my_vers, w);
        i32::encode(&self.my_proc, w);
    }
}

/// Who monitors whom.
///
/// XDR name: `mon_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonId<'a> {
    /// The host to monitor.
    ///
    /// At most [`SM_MAXSTRLEN`] bytes.
    pub mon_name: &'a [u8],
    /// Whom to tell.
    pub my_id: MyId<'a>,
}

impl<'a> Decode<'a> for MonId<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { mon_name: r.opaque_var(SM_MAXSTRLEN as usize)?, my_id: MyId::decode(r)? })
    }
}

impl Encode for MonId<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_max(self.mon_name, SM_MAXSTRLEN as usize);
        MyId::encode(&self.my_id, w);
    }
}

/// Arguments of MON.
///
/// XDR name: `mon`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mon<'a> {
    /// Who monitors whom.
    pub mon_id: MonId<'a>,
    /// Handed back with the news.
    pub priv_: [u8; SM_PRIV_SIZE as usize],
}

impl<'a> Decode<'a> for Mon<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { mon_id: MonId::decode(r)?, priv_: r.opaque_array()? })
    }
}

impl Encode for Mon<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        MonId::encode(&self.mon_id, w);
        w.opaque_fixed(&self.priv_);
    }
}

/// Arguments of NOTIFY: a host tells that its state changed.
///
/// XDR name: `stat_chge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatChge<'a> {
    /// The host.
    ///
    /// At most [`SM_MAXSTRLEN`] bytes.
    pub mon_name: &'a [u8],
    /// Its new state.
    pub state: i32,
}

impl<'a> Decode<'a> for StatChge<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { mon_name: r.opaque_var(SM_MAXSTRLEN as usize)?, state: i32::decode(r)? })
    }
}

impl Encode for StatChge<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_max(self.mon_name, SM_MAXSTRLEN as usize);
        i32::encode(&self.state, w);
    }
}

/// The local state.
///
/// XDR name: `sm_stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmStat {
    /// Odd: up.
    pub state: i32,
}

impl Decode<'_> for SmStat {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { state: i32::decode(r)? })
    }
}

impl Encode for SmStat {
    fn encode(&self, w: &mut Writer<'_>) {
        i32::encode(&self.state, w);
    }
}

/// Whether the monitor will do it.
///
/// XDR name: `sm_res`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum SmRes {
    /// It will.
    StatSucc = 0,
    /// It cannot.
    StatFail = 1,
}

impl TryFrom<i32> for SmRes {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::StatSucc),
            1 => Ok(Self::StatFail),
            _ => Err(DecodeError::BadDiscriminant { what: "sm_res", value }),
        }
    }
}

impl Decode<'_> for SmRes {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for SmRes {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// The answer to STAT and MON.
///
/// XDR name: `sm_stat_res`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmStatRes {
    /// Whether it will.
    pub res_stat: SmRes,
    /// The local state (MON) or the host's (STAT).
    pub state: i32,
}

impl Decode<'_> for SmStatRes {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { res_stat: SmRes::decode(r)?, state: i32::decode(r)? })
    }
}

impl Encode for SmStatRes {
    fn encode(&self, w: &mut Writer<'_>) {
        SmRes::encode(&self.res_stat, w);
        i32::encode(&self.state, w);
    }
}

/// What the monitor calls its caller back with.
///
/// XDR name: `sm_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmStatus<'a> {
    /// The host whose state changed.
    ///
    /// At most [`SM_MAXSTRLEN`] bytes.
    pub mon_name: &'a [u8],
    /// Its new state.
    pub state: i32,
    /// As given with MON.
    pub priv_: [u8; SM_PRIV_SIZE as usize],
}

impl<'a> Decode<'a> for SmStatus<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            mon_name: r.opaque_var(SM_MAXSTRLEN as usize)?,
            state: i32::decode(r)?,
            priv_: r.opaque_array()?,
        })
    }
}

impl Encode for SmStatus<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_max(self.mon_name, SM_MAXSTRLEN as usize);
        i32::encode(&self.state, w);
        w.opaque_fixed(&self.priv_);
    }
}

/// The network status monitor.
pub const SM_PROG: u32 = 100024;

/// The only version.
pub const SM_VERS: u32 = 1;

/// The procedures of `SM_PROG`, one module for each version.
pub mod sm_prog {
    /// Version 1 (`SM_VERS`).
    pub mod v1 {
        /// The version's number.
        pub const VERSION: u32 = 1;
        /// `SM_NULL`.
        ///
        /// Takes nothing, returns nothing.
        pub const NULL: u32 = 0;
        /// `SM_STAT`.
        ///
        /// Takes [`SmName`](super::super::SmName), returns [`SmStatRes`](super::super::SmStatRes).
        pub const STAT: u32 = 1;
        /// `SM_MON`.
        ///
        /// Takes [`Mon`](super::super::Mon), returns [`SmStatRes`](super::super::SmStatRes).
        pub const MON: u32 = 2;
        /// `SM_UNMON`.
        ///
        /// Takes [`MonId`](super::super::MonId), returns [`SmStat`](super::super::SmStat).
        pub const UNMON: u32 = 3;
        /// `SM_UNMON_ALL`.
        ///
        /// Takes [`MyId`](super::super::MyId), returns [`SmStat`](super::super::SmStat).
        pub const UNMON_ALL: u32 = 4;
        /// `SM_SIMU_CRASH`.
        ///
        /// Takes nothing, returns nothing.
        pub const SIMU_CRASH: u32 = 5;
        /// Host to host: my state changed.
        ///
        /// Takes [`StatChge`](super::super::StatChge), returns nothing.
        pub const NOTIFY: u32 = 6;
    }
}
