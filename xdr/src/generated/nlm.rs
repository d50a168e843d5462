//! The network lock manager, versions 1, 3 and 4: how NFSv2 and NFSv3 clients lock.
//!
//! Written after the X/Open XNFS specification, chapters 10 (versions 1 and 3) and 14 (version 4). Versions 1 and 3
//! have 32-bit offsets, version 4 has 64-bit ones; a length of 0 means "to the end of the file" in all of them.
//!
//! Made from `x/nlm.x` by lockferry-xdrgen. Must never be edited by hand.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};

/// Longest host name in bytes: LM\_MAXSTRLEN of XNFS.
pub const LM_MAXSTRLEN: u32 = 1024;

/// Longest name in a FREE\_ALL: XNFS allows one byte more here (MAXNAMELEN is LM\_MAXSTRLEN + 1).
pub const LM_MAXNAMELEN: u32 = 1025;

/// Longest cookie, owner handle or file handle in bytes: MAXNETOBJ\_SZ of XNFS.
pub const MAXNETOBJ_SZ: u32 = 1024;

/// Size of the bytes that a status monitor stores for the lock manager and hands back.
pub const NLM_SM_PRIV_SIZE: u32 = 16;

/// Bytes without a meaning to the other side.
///
/// XDR name: `netobj`.
///
/// At most [`MAXNETOBJ_SZ`] bytes.
pub type Netobj<'a> = &'a [u8];

/// Reads a [`Netobj`] and checks its length.
pub fn decode_netobj<'a>(r: &mut Reader<'a>) -> Result<Netobj<'a>, DecodeError> {
    r.opaque_var(MAXNETOBJ_SZ as usize)
}

/// Writes a [`Netobj`].
pub fn encode_netobj(value: &Netobj<'_>, w: &mut Writer<'_>) {
    w.opaque_max(value, MAXNETOBJ_SZ as usize);
}

/// What became of a request (versions 1 and 3).
///
/// XDR name: `nlm_stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum NlmStats {
    /// Done.
    NlmGranted = 0,
    /// Somebody else holds a conflicting lock, or it failed for good.
    NlmDenied = 1,
    /// The server is out of resources.
    NlmDeniedNolocks = 2,
    /// The request waits; NLM\_GRANTED will call back.
    NlmBlocked = 3,
    /// The server has restarted and waits for reclaims.
    NlmDeniedGracePeriod = 4,
}

impl TryFrom<i32> for NlmStats {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::NlmGranted),
            1 => Ok(Self::NlmDenied),
            2 => Ok(Self::NlmDeniedNolocks),
            3 => Ok(Self::NlmBlocked),
            4 => Ok(Self::NlmDeniedGracePeriod),
            _ => Err(DecodeError::BadDiscriminant { what: "nlm_stats", value }),
        }
    }
}

impl Decode<'_> for NlmStats {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for NlmStats {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// What became of a request (version 4).
///
/// XDR name: `nlm4_stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Nlm4Stats {
    /// Done.
    Nlm4Granted = 0,
    /// Somebody else holds a conflicting lock.
    Nlm4Denied = 1,
    /// The server is out of resources.
    Nlm4DeniedNolocks = 2,
    /// The request waits; NLMPROC4\_GRANTED will call back.
    Nlm4Blocked = 3,
    /// The server has restarted and waits for reclaims.
    Nlm4DeniedGracePeriod = 4,
    /// Waiting would never end.
    Nlm4Deadlck = 5,
    /// The file system is read-only.
    Nlm4Rofs = 6,
    /// The file handle names nothing (any more).
    Nlm4StaleFh = 7,
    /// The range goes beyond what the server can lock.
    Nlm4Fbig = 8,
    /// Anything else; retrying is of no use.
    Nlm4Failed = 9,
}

impl TryFrom<i32> for Nlm4Stats {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::Nlm4Granted),
            1 => Ok(Self::Nlm4Denied),
            2 => Ok(Self::Nlm4DeniedNolocks),
            3 => Ok(Self::Nlm4Blocked),
            4 => Ok(Self::Nlm4DeniedGracePeriod),
            5 => Ok(Self::Nlm4Deadlck),
            6 => Ok(Self::Nlm4Rofs),
            7 => Ok(Self::Nlm4StaleFh),
            8 => Ok(Self::Nlm4Fbig),
            9 => Ok(Self::Nlm4Failed),
            _ => Err(DecodeError::BadDiscriminant { what: "nlm4_stats", value }),
        }
    }
}

impl Decode<'_> for Nlm4Stats {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for Nlm4Stats {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// Who holds a conflicting lock.
///
/// XDR name: `nlm_holder`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NlmHolder<'a> {
    /// An exclusive (write) lock, not a shared one.
    pub exclusive: bool,
    /// The holder's process, as its client numbers it.
    pub svid: i32,
    /// The holder's owner handle.
    pub oh: Netobj<'a>,
    /// First byte.
    pub l_offset: u32,
    /// Number of bytes; 0 is to the end of the file.
    pub l_len: u32,
}

impl<'a> Decode<'a> for NlmHolder<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            exclusive: bool::decode(r)?,
            svid: i32::decode(r)?,
            oh: decode_netobj(r)?,
            l_offset: u32::decode(r)?,
            l_len: u32::decode(r)?,
        })
    }
}

impl Encode for NlmHolder<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        bool::encode(&self.exclusive, w);
        i32::encode(&self.svid, w);
        encode_netobj(&self.oh, w);
        u32::encode(&self.l_offset, w);
        u32::encode(&self.l_len, w);
    }
}

/// The answer inside a TEST reply.
///
/// XDR name: `nlm_testrply`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NlmTestrply<'a> {
    /// Somebody is in the way: this one.
    NlmDenied(NlmHolder<'a>),
    /// Nobody is in the way, or the server could not tell.
    Default(NlmStats),
}

impl<'a> Decode<'a> for NlmTestrply<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match NlmStats::decode(r)? {
            NlmStats::NlmDenied => Ok(Self::NlmDenied(NlmHolder::decode(r)?)),
            other => Ok(Self::Default(other)),
        }
    }
}

impl Encode for NlmTestrply<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::NlmDenied(body) => {
                NlmStats::NlmDenied.encode(w);
                NlmHolder::encode(body, w);
            }
            Self::Default(disc) => {
                debug_assert!(!matches!(disc, NlmStats::NlmDenied), "{disc:?} has a variant of its own");
                disc.encode(w);
            }
        }
    }
}

/// A status by itself.
///
/// XDR name: `nlm_stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NlmStat {
    /// The status.
    pub stat: NlmStats,
}

impl Decode<'_> for NlmStat {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { stat: NlmStats::decode(r)? })
    }
}

impl Encode for NlmStat {
    fn encode(&self, w: &mut Writer<'_>) {
        NlmStats::encode(&self.stat, w);
    }
}

/// The answer to everything but TEST and the shares.
///
/// XDR name: `nlm_res`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NlmRes<'a> {
    /// The request's cookie, byte for byte.
    pub cookie: Netobj<'a>,
    /// What became of it.
    pub stat: NlmStat,
}

impl<'a> Decode<'a> for NlmRes<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { cookie: decode_netobj(r)?, stat: NlmStat::decode(r)? })
    }
}

impl Encode for NlmRes<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        NlmStat::encode(&self.stat, w);
    }
}

/// The answer to TEST.
///
/// XDR name: `nlm_testres`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NlmTestres<'a> {
    /// The request's cookie, byte for byte.
    pub cookie: Netobj<'a>,
    /// Whether the lock could be had.
    pub stat: NlmTestrply<'a>,
}

impl<'a> Decode<'a> for NlmTestres<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { cookie: decode_netobj(r)?, stat: NlmTestrply::decode(r)? })
    }
}

impl Encode for NlmTestres<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        NlmTestrply::encode(&self.stat, w);
    }
}

/// Which lock: the file, the owner and the range.
///
/// XDR name: `nlm_lock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NlmLock<'a> {
    /// The client's host name.
    ///
    /// At most [`LM_MAXSTRLEN`] bytes.
    pub caller_name: &'a [u8],
    /// The file handle.
    pub fh: Netobj<'a>,
    /// The owner handle: opaque, chosen by the client.
    pub oh: Netobj<'a>,
    /// The process, as the client numbers it.
    pub svid: i32,
    /// First byte.
    pub l_offset: u32,
    /// Number of bytes; 0 is to the end of the file.
    pub l_len: u32,
}

impl<'a> Decode<'a> for NlmLock<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            caller_name: r.opaque_var(LM_MAXSTRLEN as usize)?,
            fh: decode_netobj(r)?,
            oh: decode_netobj(r)?,
            svid: i32::decode(r)?,
            l_offset: u32::decode(r)?,
            l_len: u32::decode(r)?,
        })
    }
}

impl Encode for NlmLock<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_max(self.caller_name, LM_MAXSTRLEN as usize);
        encode_netobj(&self.fh, w);
        encode_netobj(&self.oh, w);
        i32::encode(&self.svid, w);
        u32::encode(&self.l_offset, w);
        u32::encode(&self.l_len, w);
    }
}

/// Arguments of LOCK and NM\_LOCK.
///
/// XDR name: `nlm_lockargs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NlmLockargs<'a> {
    /// Echoed in the answer.
    pub cookie: Netobj<'a>,
    /// Wait if it conflicts.
    pub block: bool,
    /// An exclusive (write) lock, not a shared one.
    pub exclusive: bool,
    /// The lock.
    pub alock: NlmLock<'a>,
    /// The client held this lock before the server restarted.
    pub reclaim: bool,
    /// The client's NSM state.
    pub state: i32,
}

impl<'a> Decode<'a> for NlmLockargs<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            cookie: decode_netobj(r)?,
            block: bool::decode(r)?,
            exclusive: bool::decode(r)?,
            alock: NlmLock::decode(r)?,
            reclaim: bool::decode(r)?,
            state: i32::decode(r)?,
        })
    }
}

impl Encode for NlmLockargs<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        bool::encode(&self.block, w);
        bool::encode(&self.exclusive, w);
        NlmLock::encode(&self.alock, w);
        bool::encode(&self.reclaim, w);
        i32::encode(&self.state, w);
    }
}

/// Arguments of CANCEL: those of the LOCK that waits.
///
/// XDR name: `nlm_cancargs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NlmCancargs<'a> {
    /// Echoed in the answer.
    pub cookie: Netobj<'a>,
    /// As in the LOCK.
    pub block: bool,
    /// As in the LOCK.
    pub exclusive: bool,
    /// As in the LOCK.
    pub alock: NlmLock<'a>,
}

impl<'a> Decode<'a> for NlmCancargs<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            cookie: decode_netobj(r)?,
            block: bool::decode(r)?,
            exclusive: bool::decode(r)?,
            alock: NlmLock::decode(r)?,
        })
    }
}

impl Encode for NlmCancargs<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        bool::encode(&self.block, w);
        bool::encode(&self.exclusive, w);
        NlmLock::encode(&self.alock, w);
    }
}

/// Arguments of TEST and of the call-back GRANTED.
///
/// XDR name: `nlm_testargs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NlmTestargs<'a> {
    /// Echoed in the answer.
    pub cookie: Netobj<'a>,
    /// An exclusive (write) lock, not a shared one.
    pub exclusive: bool,
    /// The lock.
    pub alock: NlmLock<'a>,
}

impl<'a> Decode<'a> for NlmTestargs<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { cookie: decode_netobj(r)?, exclusive: bool::decode(r)?, alock: NlmLock::decode(r)? })
    }
}

impl Encode for NlmTestargs<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        bool::encode(&self.exclusive, w);
        NlmLock::encode(&self.alock, w);
    }
}

/// Arguments of UNLOCK.
///
/// XDR name: `nlm_unlockargs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NlmUnlockargs<'a> {
    /// Echoed in the answer.
    pub cookie: Netobj<'a>,
    /// What to unlock; it need not be what was locked.
    pub alock: NlmLock<'a>,
}

impl<'a> Decode<'a> for NlmUnlockargs<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { cookie: decode_netobj(r)?, alock: NlmLock::decode(r)? })
    }
}

impl Encode for NlmUnlockargs<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        NlmLock::encode(&self.alock, w);
    }
}

/// What a DOS share keeps others from.
///
/// XDR name: `fsh_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum FshMode {
    /// Deny nothing.
    FsmDn = 0,
    /// Deny reading.
    FsmDr = 1,
    /// Deny writing.
    FsmDw = 2,
    /// Deny both.
    FsmDrw = 3,
}

impl TryFrom<i32> for FshMode {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::FsmDn),
            1 => Ok(Self::FsmDr),
            2 => Ok(Self::FsmDw),
            3 => Ok(Self::FsmDrw),
            _ => Err(DecodeError::BadDiscriminant { what: "fsh_mode", value }),
        }
    }
}

impl Decode<'_> for FshMode {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for FshMode {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// What a DOS share is for.
///
/// XDR name: `fsh_access`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum FshAccess {
    /// Neither: only to keep the file open.
    FsaNone = 0,
    /// Reading.
    FsaR = 1,
    /// Writing.
    FsaW = 2,
    /// Both.
    FsaRw = 3,
}

impl TryFrom<i32> for FshAccess {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::FsaNone),
            1 => Ok(Self::FsaR),
            2 => Ok(Self::FsaW),
            3 => Ok(Self::FsaRw),
            _ => Err(DecodeError::BadDiscriminant { what: "fsh_access", value }),
        }
    }
}

impl Decode<'_> for FshAccess {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for FshAccess {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// A DOS share reservation.
///
/// XDR name: `nlm_share`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NlmShare<'a> {
    /// The client's host name.
    ///
    /// At most [`LM_MAXSTRLEN`] bytes.
    pub caller_name: &'a [u8],
    /// The file handle.
    pub fh: Netobj<'a>,
    /// The owner handle.
    pub oh: Netobj<'a>,
    /// What others must not do.
    pub mode: FshMode,
    /// What the owner does.
    pub access: FshAccess,
}

impl<'a> Decode<'a> for NlmShare<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            caller_name: r.opaque_var(LM_MAXSTRLEN as usize)?,
            fh: decode_netobj(r)?,
            oh: decode_netobj(r)?,
            mode: FshMode::decode(r)?,
            access: FshAccess::decode(r)?,
        })
    }
}

impl Encode for NlmShare<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_max(self.caller_name, LM_MAXSTRLEN as usize);
        encode_netobj(&self.fh, w);
        encode_netobj(&self.oh, w);
        FshMode::encode(&self.mode, w);
        FshAccess::encode(&self.access, w);
    }
}

/// Arguments of SHARE and UNSHARE.
///
/// XDR name: `nlm_shareargs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NlmShareargs<'a> {
    /// Echoed in the answer.
    pub cookie: Netobj<'a>,
    /// The share.
    pub share: NlmShare<'a>,
    /// The client held this share before the server restarted.
    pub reclaim: bool,
}

impl<'a> Decode<'a> for NlmShareargs<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { cookie: decode_netobj(r)?, share: NlmShare::decode(r)?, reclaim: bool::decode(r)? })
    }
}

impl Encode for NlmShareargs<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        NlmShare::encode(&self.share, w);
        bool::encode(&self.reclaim, w);
    }
}

/// The answer to SHARE and UNSHARE.
///
/// XDR name: `nlm_shareres`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NlmShareres<'a> {
    /// The request's cookie, byte for byte.
    pub cookie: Netobj<'a>,
    /// What became of it.
    pub stat: NlmStats,
    /// Of no use any more; 0.
    pub sequence: i32,
}

impl<'a> Decode<'a> for NlmShareres<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { cookie: decode_netobj(r)?, stat: NlmStats::decode(r)?, sequence: i32::decode(r)? })
    }
}

impl Encode for NlmShareres<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        NlmStats::encode(&self.stat, w);
        i32::encode(&self.sequence, w);
    }
}

/// Arguments of FREE\_ALL.
///
/// XDR name: `nlm_notify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NlmNotify<'a> {
    /// The client that lost its memory.
    ///
    /// At most [`LM_MAXNAMELEN`] bytes.
    pub name: &'a [u8],
    /// Its NSM state, or 0.
    pub state: i32,
}

impl<'a> Decode<'a> for NlmNotify<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { name: r.opaque_var(LM_MAXNAMELEN as usize)?, state: i32::decode(r)? })
    }
}

impl Encode for NlmNotify<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_max(self.name, LM_MAXNAMELEN as usize);
        i32::encode(&self.state, w);
    }
}

/// What the host's own status monitor tells the lock manager (private procedure 16).
///
/// XDR name: `nlm_sm_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NlmSmStatus<'a> {
    /// The host whose state changed.
    ///
    /// At most [`LM_MAXSTRLEN`] bytes.
    pub mon_name: &'a [u8],
    /// Its new state.
    pub state: i32,
    /// What was given to the monitor with SM\_MON.
    pub priv_: [u8; NLM_SM_PRIV_SIZE as usize],
}

impl<'a> Decode<'a> for NlmSmStatus<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            mon_name: r.opaque_var(LM_MAXSTRLEN as usize)?,
            state: i32::decode(r)?,
            priv_: r.opaque_array()?,
        })
    }
}

impl Encode for NlmSmStatus<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_max(self.mon_name, LM_MAXSTRLEN as usize);
        i32::encode(&self.state, w);
        w.opaque_fixed(&self.priv_);
    }
}

/// Who holds a conflicting lock (version 4).
///
/// XDR name: `nlm4_holder`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlm4Holder<'a> {
    /// An exclusive (write) lock, not a shared one.
    pub exclusive: bool,
    /// The holder's process, as its client numbers it.
    pub svid: i32,
    /// The holder's owner handle.
    pub oh: Netobj<'a>,
    /// First byte.
    pub l_offset: u64,
    /// Number of bytes; 0 is to the end of the file.
    pub l_len: u64,
}

impl<'a> Decode<'a> for Nlm4Holder<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            exclusive: bool::decode(r)?,
            svid: i32::decode(r)?,
            oh: decode_netobj(r)?,
            l_offset: u64::decode(r)?,
            l_len: u64::decode(r)?,
        })
    }
}

impl Encode for Nlm4Holder<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        bool::encode(&self.exclusive, w);
        i32::encode(&self.svid, w);
        encode_netobj(&self.oh, w);
        u64::encode(&self.l_offset, w);
        u64::encode(&self.l_len, w);
    }
}

/// The answer inside a TEST reply (version 4).
///
/// XDR name: `nlm4_testrply`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nlm4Testrply<'a> {
    /// Somebody is in the way: this one.
    Nlm4Denied(Nlm4Holder<'a>),
    /// Nobody is in the way, or the server could not tell.
    Default(Nlm4Stats),
}

impl<'a> Decode<'a> for Nlm4Testrply<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match Nlm4Stats::decode(r)? {
            Nlm4Stats::Nlm4Denied => Ok(Self::Nlm4Denied(Nlm4Holder::decode(r)?)),
            other => Ok(Self::Default(other)),
        }
    }
}

impl Encode for Nlm4Testrply<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nlm4Denied(body) => {
                Nlm4Stats::Nlm4Denied.encode(w);
                Nlm4Holder::encode(body, w);
            }
            Self::Default(disc) => {
                debug_assert!(!matches!(disc, Nlm4Stats::Nlm4Denied), "{disc:?} has a variant of its own");
                disc.encode(w);
            }
        }
    }
}

/// A status by itself (version 4).
///
/// XDR name: `nlm4_stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlm4Stat {
    /// The status.
    pub stat: Nlm4Stats,
}

impl Decode<'_> for Nlm4Stat {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { stat: Nlm4Stats::decode(r)? })
    }
}

impl Encode for Nlm4Stat {
    fn encode(&self, w: &mut Writer<'_>) {
        Nlm4Stats::encode(&self.stat, w);
    }
}

/// The answer to everything but TEST and the shares (version 4).
///
/// XDR name: `nlm4_res`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlm4Res<'a> {
    /// The request's cookie, byte for byte.
    pub cookie: Netobj<'a>,
    /// What became of it.
    pub stat: Nlm4Stat,
}

impl<'a> Decode<'a> for Nlm4Res<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { cookie: decode_netobj(r)?, stat: Nlm4Stat::decode(r)? })
    }
}

impl Encode for Nlm4Res<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        Nlm4Stat::encode(&self.stat, w);
    }
}

/// The answer to TEST (version 4).
///
/// XDR name: `nlm4_testres`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlm4Testres<'a> {
    /// The request's cookie, byte for byte.
    pub cookie: Netobj<'a>,
    /// Whether the lock could be had.
    pub stat: Nlm4Testrply<'a>,
}

impl<'a> Decode<'a> for Nlm4Testres<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { cookie: decode_netobj(r)?, stat: Nlm4Testrply::decode(r)? })
    }
}

impl Encode for Nlm4Testres<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        Nlm4Testrply::encode(&self.stat, w);
    }
}

/// Which lock: the file, the owner and the range (version 4).
///
/// XDR name: `nlm4_lock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlm4Lock<'a> {
    /// The client's host name.
    ///
    /// At most [`LM_MAXSTRLEN`] bytes.
    pub caller_name: &'a [u8],
    /// The file handle.
    pub fh: Netobj<'a>,
    /// The owner handle: opaque, chosen by the client.
    pub oh: Netobj<'a>,
    /// The process, as the client numbers it.
    pub svid: i32,
    /// First byte.
    pub l_offset: u64,
    /// Number of bytes; 0 is to the end of the file.
    pub l_len: u64,
}

impl<'a> Decode<'a> for Nlm4Lock<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            caller_name: r.opaque_var(LM_MAXSTRLEN as usize)?,
            fh: decode_netobj(r)?,
            oh: decode_netobj(r)?,
            svid: i32::decode(r)?,
            l_offset: u64::decode(r)?,
            l_len: u64::decode(r)?,
        })
    }
}

impl Encode for Nlm4Lock<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_max(self.caller_name, LM_MAXSTRLEN as usize);
        encode_netobj(&self.fh, w);
        encode_netobj(&self.oh, w);
        i32::encode(&self.svid, w);
        u64::encode(&self.l_offset, w);
        u64::encode(&self.l_len, w);
    }
}

/// Arguments of LOCK and NM\_LOCK (version 4).
///
/// XDR name: `nlm4_lockargs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlm4Lockargs<'a> {
    /// Echoed in the answer.
    pub cookie: Netobj<'a>,
    /// Wait if it conflicts.
    pub block: bool,
    /// An exclusive (write) lock, not a shared one.
    pub exclusive: bool,
    /// The lock.
    pub alock: Nlm4Lock<'a>,
    /// The client held this lock before the server restarted.
    pub reclaim: bool,
    /// The client's NSM state.
    pub state: i32,
}

impl<'a> Decode<'a> for Nlm4Lockargs<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            cookie: decode_netobj(r)?,
            block: bool::decode(r)?,
            exclusive: bool::decode(r)?,
            alock: Nlm4Lock::decode(r)?,
            reclaim: bool::decode(r)?,
            state: i32::decode(r)?,
        })
    }
}

impl Encode for Nlm4Lockargs<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        bool::encode(&self.block, w);
        bool::encode(&self.exclusive, w);
        Nlm4Lock::encode(&self.alock, w);
        bool::encode(&self.reclaim, w);
        i32::encode(&self.state, w);
    }
}

/// Arguments of CANCEL: those of the LOCK that waits (version 4).
///
/// XDR name: `nlm4_cancargs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlm4Cancargs<'a> {
    /// Echoed in the answer.
    pub cookie: Netobj<'a>,
    /// As in the LOCK.
    pub block: bool,
    /// As in the LOCK.
    pub exclusive: bool,
    /// As in the LOCK.
    pub alock: Nlm4Lock<'a>,
}

impl<'a> Decode<'a> for Nlm4Cancargs<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            cookie: decode_netobj(r)?,
            block: bool::decode(r)?,
            exclusive: bool::decode(r)?,
            alock: Nlm4Lock::decode(r)?,
        })
    }
}

impl Encode for Nlm4Cancargs<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        bool::encode(&self.block, w);
        bool::encode(&self.exclusive, w);
        Nlm4Lock::encode(&self.alock, w);
    }
}

/// Arguments of TEST and of the call-back GRANTED (version 4).
///
/// XDR name: `nlm4_testargs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlm4Testargs<'a> {
    /// Echoed in the answer.
    pub cookie: Netobj<'a>,
    /// An exclusive (write) lock, not a shared one.
    pub exclusive: bool,
    /// The lock.
    pub alock: Nlm4Lock<'a>,
}

impl<'a> Decode<'a> for Nlm4Testargs<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { cookie: decode_netobj(r)?, exclusive: bool::decode(r)?, alock: Nlm4Lock::decode(r)? })
    }
}

impl Encode for Nlm4Testargs<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        bool::encode(&self.exclusive, w);
        Nlm4Lock::encode(&self.alock, w);
    }
}

/// Arguments of UNLOCK (version 4).
///
/// XDR name: `nlm4_unlockargs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlm4Unlockargs<'a> {
    /// Echoed in the answer.
    pub cookie: Netobj<'a>,
    /// What to unlock; it need not be what was locked.
    pub alock: Nlm4Lock<'a>,
}

impl<'a> Decode<'a> for Nlm4Unlockargs<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { cookie: decode_netobj(r)?, alock: Nlm4Lock::decode(r)? })
    }
}

impl Encode for Nlm4Unlockargs<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        Nlm4Lock::encode(&self.alock, w);
    }
}

/// What a DOS share keeps others from (version 4: the same numbers).
///
/// XDR name: `fsh4_mode`.
pub type Fsh4Mode = FshMode;

/// What a DOS share is for (version 4: the same numbers).
///
/// XDR name: `fsh4_access`.
pub type Fsh4Access = FshAccess;

/// A DOS share reservation (version 4).
///
/// XDR name: `nlm4_share`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlm4Share<'a> {
    /// The client's host name.
    ///
    /// At most [`LM_MAXSTRLEN`] bytes.
    pub caller_name: &'a [u8],
    /// The file handle.
    pub fh: Netobj<'a>,
    /// The owner handle.
    pub oh: Netobj<'a>,
    /// What others must not do.
    pub mode: Fsh4Mode,
    /// What the owner does.
    pub access: Fsh4Access,
}

impl<'a> Decode<'a> for Nlm4Share<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            caller_name: r.opaque_var(LM_MAXSTRLEN as usize)?,
            fh: decode_netobj(r)?,
            oh: decode_netobj(r)?,
            mode: Fsh4Mode::decode(r)?,
            access: Fsh4Access::decode(r)?,
        })
    }
}

impl Encode for Nlm4Share<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_max(self.caller_name, LM_MAXSTRLEN as usize);
        encode_netobj(&self.fh, w);
        encode_netobj(&self.oh, w);
        Fsh4Mode::encode(&self.mode, w);
        Fsh4Access::encode(&self.access, w);
    }
}

/// Arguments of SHARE and UNSHARE (version 4).
///
/// XDR name: `nlm4_shareargs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlm4Shareargs<'a> {
    /// Echoed in the answer.
    pub cookie: Netobj<'a>,
    /// The share.
    pub share: Nlm4Share<'a>,
    /// The client held this share before the server restarted.
    pub reclaim: bool,
}

impl<'a> Decode<'a> for Nlm4Shareargs<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { cookie: decode_netobj(r)?, share: Nlm4Share::decode(r)?, reclaim: bool::decode(r)? })
    }
}

impl Encode for Nlm4Shareargs<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        Nlm4Share::encode(&self.share, w);
        bool::encode(&self.reclaim, w);
    }
}

/// The answer to SHARE and UNSHARE (version 4).
///
/// XDR name: `nlm4_shareres`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlm4Shareres<'a> {
    /// The request's cookie, byte for byte.
    pub cookie: Netobj<'a>,
    /// What became of it.
    pub stat: Nlm4Stats,
    /// Of no use any more; 0.
    pub sequence: i32,
}

impl<'a> Decode<'a> for Nlm4Shareres<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { cookie: decode_netobj(r)?, stat: Nlm4Stats::decode(r)?, sequence: i32::decode(r)? })
    }
}

impl Encode for Nlm4Shareres<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_netobj(&self.cookie, w);
        Nlm4Stats::encode(&self.stat, w);
        i32::encode(&self.sequence, w);
    }
}

/// Arguments of FREE\_ALL (version 4).
///
/// XDR name: `nlm4_notify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlm4Notify<'a> {
    /// The client that lost its memory.
    ///
    /// At most [`LM_MAXNAMELEN`] bytes.
    pub name: &'a [u8],
    /// Its NSM state, or 0.
    pub state: i32,
}

impl<'a> Decode<'a> for Nlm4Notify<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { name: r.opaque_var(LM_MAXNAMELEN as usize)?, state: i32::decode(r)? })
    }
}

impl Encode for Nlm4Notify<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_max(self.name, LM_MAXNAMELEN as usize);
        i32::encode(&self.state, w);
    }
}

/// The network lock manager.
pub const NLM_PROG: u32 = 100021;

/// Version 1: 32-bit ranges, no shares.
pub const NLM_VERS: u32 = 1;

/// Version 3: version 1 and the DOS shares.
pub const NLM_VERSX: u32 = 3;

/// Version 4: 64-bit ranges and NFSv3 file handles.
pub const NLM4_VERS: u32 = 4;

/// The procedures of `NLM_PROG`, one module for each version.
pub mod nlm_prog {
    /// Version 1 (`NLM_VERS`).
    pub mod v1 {
        /// The version's number.
        pub const VERSION: u32 = 1;
        /// `NLM_NULL`.
        ///
        /// Takes nothing, returns nothing.
        pub const NULL: u32 = 0;
        /// `NLM_TEST`.
        ///
        /// Takes [`NlmTestargs`](super::super::NlmTestargs), returns [`NlmTestres`](super::super::NlmTestres).
        pub const TEST: u32 = 1;
        /// `NLM_LOCK`.
        ///
        /// Takes [`NlmLockargs`](super::super::NlmLockargs), returns [`NlmRes`](super::super::NlmRes).
        pub const LOCK: u32 = 2;
        /// `NLM_CANCEL`.
        ///
        /// Takes [`NlmCancargs`](super::super::NlmCancargs), returns [`NlmRes`](super::super::NlmRes).
        pub const CANCEL: u32 = 3;
        /// `NLM_UNLOCK`.
        ///
        /// Takes [`NlmUnlockargs`](super::super::NlmUnlockargs), returns [`NlmRes`](super::super::NlmRes).
        pub const UNLOCK: u32 = 4;
        /// Server to client: the lock that waited is yours.
        ///
        /// Takes [`NlmTestargs`](super::super::NlmTestargs), returns [`NlmRes`](super::super::NlmRes).
        pub const GRANTED: u32 = 5;
        /// The \_MSG forms are answered by a \_RES call back, not by their reply.
        ///
        /// Takes [`NlmTestargs`](super::super::NlmTestargs), returns nothing.
        pub const TEST_MSG: u32 = 6;
        /// `NLM_LOCK_MSG`.
        ///
        /// Takes [`NlmLockargs`](super::super::NlmLockargs), returns nothing.
        pub const LOCK_MSG: u32 = 7;
        /// `NLM_CANCEL_MSG`.
        ///
        /// Takes [`NlmCancargs`](super::super::NlmCancargs), returns nothing.
        pub const CANCEL_MSG: u32 = 8;
        /// `NLM_UNLOCK_MSG`.
        ///
        /// Takes [`NlmUnlockargs`](super::super::NlmUnlockargs), returns nothing.
        pub const UNLOCK_MSG: u32 = 9;
        /// `NLM_GRANTED_MSG`.
        ///
        /// Takes [`NlmTestargs`](super::super::NlmTestargs), returns nothing.
        pub const GRANTED_MSG: u32 = 10;
        /// `NLM_TEST_RES`.
        ///
        /// Takes [`NlmTestres`](super::super::NlmTestres), returns nothing.
        pub const TEST_RES: u32 = 11;
        /// `NLM_LOCK_RES`.
        ///
        /// Takes [`NlmRes`](super::super::NlmRes), returns nothing.
        pub const LOCK_RES: u32 = 12;
        /// `NLM_CANCEL_RES`.
        ///
        /// Takes [`NlmRes`](super::super::NlmRes), returns nothing.
        pub const CANCEL_RES: u32 = 13;
        /// `NLM_UNLOCK_RES`.
        ///
        /// Takes [`NlmRes`](super::super::NlmRes), returns nothing.
        pub const UNLOCK_RES: u32 = 14;
        /// `NLM_GRANTED_RES`.
        ///
        /// Takes [`NlmRes`](super::super::NlmRes), returns nothing.
        pub const GRANTED_RES: u32 = 15;
        /// Not in XNFS: the local status monitor's up-call, as everybody numbers it.
        ///
        /// Takes [`NlmSmStatus`](super::super::NlmSmStatus), returns nothing.
        pub const SM_NOTIFY: u32 = 16;
    }

    /// Version 3 (`NLM_VERSX`).
    pub mod v3 {
        /// The version's number.
        pub const VERSION: u32 = 3;
        /// `NLM_NULL`.
        ///
        /// Takes nothing, returns nothing.
        pub const NULL: u32 = 0;
        /// `NLM_TEST`.
        ///
        /// Takes [`NlmTestargs`](super::super::NlmTestargs), returns [`NlmTestres`](super::super::NlmTestres).
        pub const TEST: u32 = 1;
        /// `NLM_LOCK`.
        ///
        /// Takes [`NlmLockargs`](super::super::NlmLockargs), returns [`NlmRes`](super::super::NlmRes).
        pub const LOCK: u32 = 2;
        /// `NLM_CANCEL`.
        ///
        /// Takes [`NlmCancargs`](super::super::NlmCancargs), returns [`NlmRes`](super::super::NlmRes).
        pub const CANCEL: u32 = 3;
        /// `NLM_UNLOCK`.
        ///
        /// Takes [`NlmUnlockargs`](super::super::NlmUnlockargs), returns [`NlmRes`](super::super::NlmRes).
        pub const UNLOCK: u32 = 4;
        /// Server to client: the lock that waited is yours.
        ///
        /// Takes [`NlmTestargs`](super::super::NlmTestargs), returns [`NlmRes`](super::super::NlmRes).
        pub const GRANTED: u32 = 5;
        /// The \_MSG forms are answered by a \_RES call back, not by their reply.
        ///
        /// Takes [`NlmTestargs`](super::super::NlmTestargs), returns nothing.
        pub const TEST_MSG: u32 = 6;
        /// `NLM_LOCK_MSG`.
        ///
        /// Takes [`NlmLockargs`](super::super::NlmLockargs), returns nothing.
        pub const LOCK_MSG: u32 = 7;
        /// `NLM_CANCEL_MSG`.
        ///
        /// Takes [`NlmCancargs`](super::super::NlmCancargs), returns nothing.
        pub const CANCEL_MSG: u32 = 8;
        /// `NLM_UNLOCK_MSG`.
        ///
        /// Takes [`NlmUnlockargs`](super::super::NlmUnlockargs), returns nothing.
        pub const UNLOCK_MSG: u32 = 9;
        /// `NLM_GRANTED_MSG`.
        ///
        /// Takes [`NlmTestargs`](super::super::NlmTestargs), returns nothing.
        pub const GRANTED_MSG: u32 = 10;
        /// `NLM_TEST_RES`.
        ///
        /// Takes [`NlmTestres`](super::super::NlmTestres), returns nothing.
        pub const TEST_RES: u32 = 11;
        /// `NLM_LOCK_RES`.
        ///
        /// Takes [`NlmRes`](super::super::NlmRes), returns nothing.
        pub const LOCK_RES: u32 = 12;
        /// `NLM_CANCEL_RES`.
        ///
        /// Takes [`NlmRes`](super::super::NlmRes), returns nothing.
        pub const CANCEL_RES: u32 = 13;
        /// `NLM_UNLOCK_RES`.
        ///
        /// Takes [`NlmRes`](super::super::NlmRes), returns nothing.
        pub const UNLOCK_RES: u32 = 14;
        /// `NLM_GRANTED_RES`.
        ///
        /// Takes [`NlmRes`](super::super::NlmRes), returns nothing.
        pub const GRANTED_RES: u32 = 15;
        /// Not in XNFS: the local status monitor's up-call, as everybody numbers it.
        ///
        /// Takes [`NlmSmStatus`](super::super::NlmSmStatus), returns nothing.
        pub const SM_NOTIFY: u32 = 16;
        /// `NLM_SHARE`.
        ///
        /// Takes [`NlmShareargs`](super::super::NlmShareargs), returns [`NlmShareres`](super::super::NlmShareres).
        pub const SHARE: u32 = 20;
        /// `NLM_UNSHARE`.
        ///
        /// Takes [`NlmShareargs`](super::super::NlmShareargs), returns [`NlmShareres`](super::super::NlmShareres).
        pub const UNSHARE: u32 = 21;
        /// A LOCK that is never monitored and never waits.
        ///
        /// Takes [`NlmLockargs`](super::super::NlmLockargs), returns [`NlmRes`](super::super::NlmRes).
        pub const NM_LOCK: u32 = 22;
        /// Drops all locks and shares of a client.
        ///
        /// Takes [`NlmNotify`](super::super::NlmNotify), returns nothing.
        pub const FREE_ALL: u32 = 23;
    }

    /// Version 4 (`NLM4_VERS`).
    pub mod v4 {
        /// The version's number.
        pub const VERSION: u32 = 4;
        /// `NLMPROC4_NULL`.
        ///
        /// Takes nothing, returns nothing.
        pub const NULL: u32 = 0;
        /// `NLMPROC4_TEST`.
        ///
        /// Takes [`Nlm4Testargs`](super::super::Nlm4Testargs), returns [`Nlm4Testres`](super::super::Nlm4Testres).
        pub const TEST: u32 = 1;
        /// `NLMPROC4_LOCK`.
        ///
        /// Takes [`Nlm4Lockargs`](super::super::Nlm4Lockargs), returns [`Nlm4Res`](super::super::Nlm4Res).
        pub const LOCK: u32 = 2;
        /// `NLMPROC4_CANCEL`.
        ///
        /// Takes [`Nlm4Cancargs`](super::super::Nlm4Cancargs), returns [`Nlm4Res`](super::super::Nlm4Res).
        pub const CANCEL: u32 = 3;
        /// `NLMPROC4_UNLOCK`.
        ///
        /// Takes [`Nlm4Unlockargs`](super::super::Nlm4Unlockargs), returns [`Nlm4Res`](super::super::Nlm4Res).
        pub const UNLOCK: u32 = 4;
        /// Server to client: the lock that waited is yours.
        ///
        /// Takes [`Nlm4Testargs`](super::super::Nlm4Testargs), returns [`Nlm4Res`](super::super::Nlm4Res).
        pub const GRANTED: u32 = 5;
        /// The \_MSG forms are answered by a \_RES call back, not by their reply.
        ///
        /// Takes [`Nlm4Testargs`](super::super::Nlm4Testargs), returns nothing.
        pub const TEST_MSG: u32 = 6;
        /// `NLMPROC4_LOCK_MSG`.
        ///
        /// Takes [`Nlm4Lockargs`](super::super::Nlm4Lockargs), returns nothing.
        pub const LOCK_MSG: u32 = 7;
        /// `NLMPROC4_CANCEL_MSG`.
        ///
        /// Takes [`Nlm4Cancargs`](super::super::Nlm4Cancargs), returns nothing.
        pub const CANCEL_MSG: u32 = 8;
        /// `NLMPROC4_UNLOCK_MSG`.
        ///
        /// Takes [`Nlm4Unlockargs`](super::super::Nlm4Unlockargs), returns nothing.
        pub const UNLOCK_MSG: u32 = 9;
        /// `NLMPROC4_GRANTED_MSG`.
        ///
        /// Takes [`Nlm4Testargs`](super::super::Nlm4Testargs), returns nothing.
        pub const GRANTED_MSG: u32 = 10;
        /// `NLMPROC4_TEST_RES`.
        ///
        /// Takes [`Nlm4Testres`](super::super::Nlm4Testres), returns nothing.
        pub const TEST_RES: u32 = 11;
        /// `NLMPROC4_LOCK_RES`.
        ///
        /// Takes [`Nlm4Res`](super::super::Nlm4Res), returns nothing.
        pub const LOCK_RES: u32 = 12;
        /// `NLMPROC4_CANCEL_RES`.
        ///
        /// Takes [`Nlm4Res`](super::super::Nlm4Res), returns nothing.
        pub const CANCEL_RES: u32 = 13;
        /// `NLMPROC4_UNLOCK_RES`.
        ///
        /// Takes [`Nlm4Res`](super::super::Nlm4Res), returns nothing.
        pub const UNLOCK_RES: u32 = 14;
        /// `NLMPROC4_GRANTED_RES`.
        ///
        /// Takes [`Nlm4Res`](super::super::Nlm4Res), returns nothing.
        pub const GRANTED_RES: u32 = 15;
        /// Not in XNFS: the local status monitor's up-call, as everybody numbers it.
        ///
        /// Takes [`NlmSmStatus`](super::super::NlmSmStatus), returns nothing.
        pub const SM_NOTIFY: u32 = 16;
        /// `NLMPROC4_SHARE`.
        ///
        /// Takes [`Nlm4Shareargs`](super::super::Nlm4Shareargs), returns [`Nlm4Shareres`](super::super::Nlm4Shareres).
        pub const SHARE: u32 = 20;
        /// `NLMPROC4_UNSHARE`.
        ///
        /// Takes [`Nlm4Shareargs`](super::super::Nlm4Shareargs), returns [`Nlm4Shareres`](super::super::Nlm4Shareres).
        pub const UNSHARE: u32 = 21;
        /// A LOCK that is never monitored and never waits.
        ///
        /// Takes [`Nlm4Lockargs`](super::super::Nlm4Lockargs), returns [`Nlm4Res`](super::super::Nlm4Res).
        pub const NM_LOCK: u32 = 22;
        /// Drops all locks and shares of a client.
        ///
        /// Takes [`Nlm4Notify`](super::super::Nlm4Notify), returns nothing.
        pub const FREE_ALL: u32 = 23;
    }
}
