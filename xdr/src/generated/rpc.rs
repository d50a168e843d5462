//! ONC RPC version 2: what stands in front of arguments and results.
//!
//! Written after RFC 5531. Arguments and results are not part of these types: they are what the reader has left
//! after a call\_body or a SUCCESS.
//!
//! Made from `x/rpc.x` by lockferry-xdrgen. Must never be edited by hand.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};

/// The version of the RPC protocol itself.
pub const RPC_VERSION: u32 = 2;

/// Longest body of a credential or verifier in bytes (RFC 5531 section 8.2).
pub const MAX_AUTH_BYTES: u32 = 400;

/// Longest machine name in an AUTH\_SYS credential (RFC 5531 appendix A).
pub const AUTH_SYS_MACHINENAME_MAX: u32 = 255;

/// Most further groups in an AUTH\_SYS credential (RFC 5531 appendix A).
pub const AUTH_SYS_GIDS_MAX: u32 = 16;

/// Nobody in particular.
pub const AUTH_NONE: u32 = 0;

/// User and groups of Unix, on the client's word.
pub const AUTH_SYS: u32 = 1;

/// A short name that the server gave for AUTH\_SYS.
pub const AUTH_SHORT: u32 = 2;

/// Diffie-Hellman.
pub const AUTH_DH: u32 = 3;

/// GSS-API, Kerberos for example.
pub const RPCSEC_GSS: u32 = 6;

/// Whether a message is a call or a reply.
///
/// XDR name: `msg_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum MsgType {
    /// A call.
    Call = 0,
    /// A reply.
    Reply = 1,
}

impl TryFrom<i32> for MsgType {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::Call),
            1 => Ok(Self::Reply),
            _ => Err(DecodeError::BadDiscriminant { what: "msg_type", value }),
        }
    }
}

impl Decode<'_> for MsgType {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for MsgType {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// Whether a call was accepted.
///
/// XDR name: `reply_stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum ReplyStat {
    /// It was; how it went comes behind.
    MsgAccepted = 0,
    /// It was not.
    MsgDenied = 1,
}

impl TryFrom<i32> for ReplyStat {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::MsgAccepted),
            1 => Ok(Self::MsgDenied),
            _ => Err(DecodeError::BadDiscriminant { what: "reply_stat", value }),
        }
    }
}

impl Decode<'_> for ReplyStat {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for ReplyStat {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// What became of a call that was accepted.
///
/// XDR name: `accept_stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum AcceptStat {
    /// Results follow.
    Success = 0,
    /// No such program here.
    ProgUnavail = 1,
    /// Not in this version.
    ProgMismatch = 2,
    /// No such procedure.
    ProcUnavail = 3,
    /// The arguments cannot be decoded.
    GarbageArgs = 4,
    /// The server failed, for want of memory for example.
    SystemErr = 5,
}

impl TryFrom<i32> for AcceptStat {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::Success),
            1 => Ok(Self::ProgUnavail),
            2 => Ok(Self::ProgMismatch),
            3 => Ok(Self::ProcUnavail),
            4 => Ok(Self::GarbageArgs),
            5 => Ok(Self::SystemErr),
            _ => Err(DecodeError::BadDiscriminant { what: "accept_stat", value }),
        }
    }
}

impl Decode<'_> for AcceptStat {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for AcceptStat {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// Why a call was not accepted.
///
/// XDR name: `reject_stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum RejectStat {
    /// The RPC version is not 2.
    RpcMismatch = 0,
    /// The caller could not be identified.
    AuthError = 1,
}

impl TryFrom<i32> for RejectStat {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::RpcMismatch),
            1 => Ok(Self::AuthError),
            _ => Err(DecodeError::BadDiscriminant { what: "reject_stat", value }),
        }
    }
}

impl Decode<'_> for RejectStat {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for RejectStat {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// What is wrong with a credential or verifier.
///
/// XDR name: `auth_stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum AuthStat {
    /// Nothing.
    AuthOk = 0,
    /// The credential is broken.
    AuthBadcred = 1,
    /// The client must begin a new session.
    AuthRejectedcred = 2,
    /// The verifier is broken.
    AuthBadverf = 3,
    /// The verifier has expired or was replayed.
    AuthRejectedverf = 4,
    /// Not secure enough.
    AuthTooweak = 5,
    /// The response verifier is broken.
    AuthInvalidresp = 6,
    /// Some other reason.
    AuthFailed = 7,
    /// Kerberos 4: some error.
    AuthKerbGeneric = 8,
    /// Kerberos 4: time of credential expired.
    AuthTimeexpire = 9,
    /// Kerberos 4: problem with the ticket file.
    AuthTktFile = 10,
    /// Kerberos 4: cannot decode the authenticator.
    AuthDecode = 11,
    /// Kerberos 4: wrong network address in the ticket.
    AuthNetAddr = 12,
    /// GSS: no credentials for this user.
    RpcsecGssCredproblem = 13,
    /// GSS: problem with the context.
    RpcsecGssCtxproblem = 14,
}

impl TryFrom<i32> for AuthStat {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::AuthOk),
            1 => Ok(Self::AuthBadcred),
            2 => Ok(Self::AuthRejectedcred),
            3 => Ok(Self::AuthBadverf),
            4 => Ok(Self::AuthRejectedverf),
            5 => Ok(Self::AuthTooweak),
            6 => Ok(Self::AuthInvalidresp),
            7 => Ok(Self::AuthFailed),
            8 => Ok(Self::AuthKerbGeneric),
            9 => Ok(Self::AuthTimeexpire),
            10 => Ok(Self::AuthTktFile),
            11 => Ok(Self::AuthDecode),
            12 => Ok(Self::AuthNetAddr),
            13 => Ok(Self::RpcsecGssCredproblem),
            14 => Ok(Self::RpcsecGssCtxproblem),
            _ => Err(DecodeError::BadDiscriminant { what: "auth_stat", value }),
        }
    }
}

impl Decode<'_> for AuthStat {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for AuthStat {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// A credential or verifier. RFC 5531 makes the flavour an enum; here it is a number, for an unknown one is to be
/// answered, not to be a decoding error.
///
/// XDR name: `opaque_auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpaqueAuth<'a> {
    /// AUTH\_NONE, AUTH\_SYS and so on.
    pub flavor: u32,
    /// What the flavour says.
    ///
    /// At most [`MAX_AUTH_BYTES`] bytes.
    pub body: &'a [u8],
}

impl<'a> Decode<'a> for OpaqueAuth<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { flavor: u32::decode(r)?, body: r.opaque_var(MAX_AUTH_BYTES as usize)? })
    }
}

impl Encode for OpaqueAuth<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        u32::encode(&self.flavor, w);
        w.opaque_max(self.body, MAX_AUTH_BYTES as usize);
    }
}

/// The body of an AUTH\_SYS credential.
///
/// XDR name: `authsys_parms`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthsysParms<'a> {
    /// Any number of the client's.
    pub stamp: u32,
    /// The client's host name.
    ///
    /// At most [`AUTH_SYS_MACHINENAME_MAX`] bytes.
    pub machinename: &'a [u8],
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Further groups.
    ///
    /// At most [`AUTH_SYS_GIDS_MAX`] elements.
    pub gids: Vec<u32>,
}

impl<'a> Decode<'a> for AuthsysParms<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            stamp: u32::decode(r)?,
            machinename: r.opaque_var(AUTH_SYS_MACHINENAME_MAX as usize)?,
            uid: u32::decode(r)?,
            gid: u32::decode(r)?,
            gids: r.array(AUTH_SYS_GIDS_MAX as usize, u32::decode)?,
        })
    }
}

impl Encode for AuthsysParms<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        u32::encode(&self.stamp, w);
        w.opaque_max(self.machinename, AUTH_SYS_MACHINENAME_MAX as usize);
        u32::encode(&self.uid, w);
        u32::encode(&self.gid, w);
        w.array(&self.gids, AUTH_SYS_GIDS_MAX as usize, u32::encode);
    }
}

/// A call; its arguments follow.
///
/// XDR name: `call_body`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallBody<'a> {
    /// RPC\_VERSION.
    pub rpcvers: u32,
    /// Program number.
    pub prog: u32,
    /// Program version.
    pub vers: u32,
    /// Procedure.
    pub proc: u32,
    /// Who calls.
    pub cred: OpaqueAuth<'a>,
    /// The proof of it.
    pub verf: OpaqueAuth<'a>,
}

impl<'a> Decode<'a> for CallBody<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            rpcvers: u32::decode(r)?,
            prog: u32::decode(r)?,
            vers: u32::decode(r)?,
            proc: u32::decode(r)?,
            cred: OpaqueAuth::decode(r)?,
            verf: OpaqueAuth::decode(r)?,
        })
    }
}

impl Encode for CallBody<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        u32::encode(&self.rpcvers, w);
        u32::encode(&self.prog, w);
        u32::encode(&self.vers, w);
        u32::encode(&self.proc, w);
        OpaqueAuth::encode(&self.cred, w);
        OpaqueAuth::encode(&self.verf, w);
    }
}

/// Lowest and highest version that there is.
///
/// XDR name: `mismatch_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MismatchInfo {
    /// Lowest.
    pub low: u32,
    /// Highest.
    pub high: u32,
}

impl Decode<'_> for MismatchInfo {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { low: u32::decode(r)?, high: u32::decode(r)? })
    }
}

impl Encode for MismatchInfo {
    fn encode(&self, w: &mut Writer<'_>) {
        u32::encode(&self.low, w);
        u32::encode(&self.high, w);
    }
}

/// How an accepted call went.
///
/// XDR name: `reply_data`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyData {
    /// The results follow.
    Success,
    /// The program's versions.
    ProgMismatch(MismatchInfo),
    /// No more to say.
    Default(AcceptStat),
}

impl Decode<'_> for ReplyData {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match AcceptStat::decode(r)? {
            AcceptStat::Success => Ok(Self::Success),
            AcceptStat::ProgMismatch => Ok(Self::ProgMismatch(MismatchInfo::decode(r)?)),
            other => Ok(Self::Default(other)),
        }
    }
}

impl Encode for ReplyData {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Success => {
                AcceptStat::Success.encode(w);
            }
            Self::ProgMismatch(body) => {
                AcceptStat::ProgMismatch.encode(w);
                MismatchInfo::encode(body, w);
            }
            Self::Default(disc) => {
                debug_assert!(
                    !matches!(disc, AcceptStat::Success | AcceptStat::ProgMismatch),
                    "{disc:?} has a variant of its own"
                );
                disc.encode(w);
            }
        }
    }
}

/// The reply to an accepted call.
///
/// XDR name: `accepted_reply`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedReply<'a> {
    /// The server's proof of who it is.
    pub verf: OpaqueAuth<'a>,
    /// How it went.
    pub reply_data: ReplyData,
}

impl<'a> Decode<'a> for AcceptedReply<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { verf: OpaqueAuth::decode(r)?, reply_data: ReplyData::decode(r)? })
    }
}

impl Encode for AcceptedReply<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        OpaqueAuth::encode(&self.verf, w);
        ReplyData::encode(&self.reply_data, w);
    }
}

/// The reply to a call that was not accepted.
///
/// XDR name: `rejected_reply`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectedReply {
    /// RPC versions that the server speaks.
    RpcMismatch(MismatchInfo),
    /// What is wrong with the credential or verifier.
    AuthError(AuthStat),
}

impl Decode<'_> for RejectedReply {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match RejectStat::decode(r)? {
            RejectStat::RpcMismatch => Ok(Self::RpcMismatch(MismatchInfo::decode(r)?)),
            RejectStat::AuthError => Ok(Self::AuthError(AuthStat::decode(r)?)),
        }
    }
}

impl Encode for RejectedReply {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::RpcMismatch(body) => {
                RejectStat::RpcMismatch.encode(w);
                MismatchInfo::encode(body, w);
            }
            Self::AuthError(body) => {
                RejectStat::AuthError.encode(w);
                AuthStat::encode(body, w);
            }
        }
    }
}

/// A reply.
///
/// XDR name: `reply_body`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyBody<'a> {
    /// Accepted.
    MsgAccepted(AcceptedReply<'a>),
    /// Not accepted.
    MsgDenied(RejectedReply),
}

impl<'a> Decode<'a> for ReplyBody<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match ReplyStat::decode(r)? {
            ReplyStat::MsgAccepted => Ok(Self::MsgAccepted(AcceptedReply::decode(r)?)),
            ReplyStat::MsgDenied => Ok(Self::MsgDenied(RejectedReply::decode(r)?)),
        }
    }
}

impl Encode for ReplyBody<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::MsgAccepted(body) => {
                ReplyStat::MsgAccepted.encode(w);
                AcceptedReply::encode(body, w);
            }
            Self::MsgDenied(body) => {
                ReplyStat::MsgDenied.encode(w);
                RejectedReply::encode(body, w);
            }
        }
    }
}

/// Call or reply.
///
/// XDR name: `rpc_msg_body`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpcMsgBody<'a> {
    /// A call.
    Call(CallBody<'a>),
    /// A reply.
    Reply(ReplyBody<'a>),
}

impl<'a> Decode<'a> for RpcMsgBody<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match MsgType::decode(r)? {
            MsgType::Call => Ok(Self::Call(CallBody::decode(r)?)),
            MsgType::Reply => Ok(Self::Reply(ReplyBody::decode(r)?)),
        }
    }
}

impl Encode for RpcMsgBody<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Call(body) => {
                MsgType::Call.encode(w);
                CallBody::encode(body, w);
            }
            Self::Reply(body) => {
                MsgType::Reply.encode(w);
                ReplyBody::encode(body, w);
            }
        }
    }
}

/// A whole message but for arguments or results.
///
/// XDR name: `rpc_msg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcMsg<'a> {
    /// Transaction id: the reply has that of its call.
    pub xid: u32,
    /// Call or reply.
    pub body: RpcMsgBody<'a>,
}

impl<'a> Decode<'a> for RpcMsg<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { xid: u32::decode(r)?, body: RpcMsgBody::decode(r)? })
    }
}

impl Encode for RpcMsg<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        u32::encode(&self.xid, w);
        RpcMsgBody::encode(&self.body, w);
    }
}
