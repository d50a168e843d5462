//! The ONC RPC call header (RFC 5531 section 9): parsing what clients send, and the replies that refuse it.
//! Pure: bytes in, values out. Must never look at a program's arguments or keep more than the header.

use lockferry_xdr::{DecodeError, Reader, Writer};

use super::types::{AuthSys, Cred};

/// The most bytes a call header can have: ten words and two opaque bodies of 400 (RFC 5531 section 8.2).
pub const MAX_HEADER: usize = 40 + 2 * MAX_AUTH_BODY;

/// The most bytes in a credential or verifier body (RFC 5531 section 8.2).
pub const MAX_AUTH_BODY: usize = 400;

/// The protocol version that everybody speaks.
const RPC_VERSION: u32 = 2;
/// `msg_type` CALL.
pub(super) const CALL: u32 = 0;
/// `msg_type` REPLY.
pub(super) const REPLY: u32 = 1;
const MSG_ACCEPTED: u32 = 0;
const MSG_DENIED: u32 = 1;
const AUTH_NONE: u32 = 0;
const AUTH_SYS: u32 = 1;
/// RFC 5531 appendix A.
const MAX_MACHINE_NAME: usize = 255;
const MAX_GIDS: usize = 16;

/// A parsed call header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallHeader {
    /// Transaction id.
    pub xid: u32,
    /// Program number.
    pub program: u32,
    /// Version number.
    pub version: u32,
    /// Procedure number.
    pub procedure: u32,
    /// The caller's credentials.
    pub cred: Cred,
}

/// What the first bytes of a message are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Too few bytes: this many are needed from the start of the message, perhaps more later.
    Need(usize),
    /// A call; its arguments begin at this offset.
    Call(CallHeader, usize),
    /// A call that cannot be accepted whatever its program.
    Refuse(u32, Refusal),
    /// Not a call message: the stream is not ONC RPC, or a reply.
    NotACall,
}

/// `auth_stat` of RFC 5531 section 9, as far as a server for AUTH_NONE and AUTH_SYS sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthStat {
    /// The credential's body does not decode.
    BadCred = 1,
    /// A flavour that is not served (also AUTH_SHORT: none is handed out).
    RejectedCred = 2,
    /// The verifier is not the empty AUTH_NONE that AUTH_SYS asks for.
    BadVerf = 3,
    /// A verifier of another flavour.
    RejectedVerf = 4,
}

/// Every way RFC 5531 knows to refuse a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The RPC version is not 2.
    RpcMismatch,
    /// The credentials or the verifier.
    Auth(AuthStat),
    /// No such program here.
    ProgUnavail,
    /// Not in this version; the lowest and highest that is.
    ProgMismatch(u32, u32),
    /// No such procedure.
    ProcUnavail,
    /// Arguments that are too long to be any.
    GarbageArgs,
    /// Something of ours.
    SystemErr,
}

impl Refusal {
    /// The whole reply message, without a record mark.
    pub fn encode(self, xid: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        let mut w = Writer::new(&mut out);
        w.u32(xid);
        w.u32(REPLY);
        match self {
            Refusal::RpcMismatch => {
                w.u32(MSG_DENIED);
                w.u32(0);
                w.u32(RPC_VERSION);
                w.u32(RPC_VERSION);
            }
            Refusal::Auth(stat) => {
                w.u32(MSG_DENIED);
                w.u32(1);
                w.u32(stat as u32);
            }
            Refusal::ProgUnavail => accepted(&mut w, 1),
            Refusal::ProgMismatch(low, high) => {
                accepted(&mut w, 2);
                w.u32(low);
                w.u32(high);
            }
            Refusal::ProcUnavail => accepted(&mut w, 3),
            Refusal::GarbageArgs => accepted(&mut w, 4),
            Refusal::SystemErr => accepted(&mut w, 5),
        }
        out
    }
}

/// A successful reply without results, as to NULL.
pub fn void_reply(xid: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    let mut w = Writer::new(&mut out);
    w.u32(xid);
    w.u32(REPLY);
    accepted(&mut w, 0);
    out
}

fn accepted(w: &mut Writer<'_>, accept_stat: u32) {
    w.u32(MSG_ACCEPTED);
    w.u32(AUTH_NONE);
    w.u32(0);
    w.u32(accept_stat);
}

/// The xid and `msg_type` of a message, if it is that long.
pub fn message_type(message: &[u8]) -> Option<(u32, u32)> {
    let mut r = Reader::new(message);
    Some((r.u32().ok()?, r.u32().ok()?))
}

/// Parses a call header from the first bytes of a message.
pub fn parse_call(message: &[u8]) -> Parsed {
    match parse(message) {
        Ok(parsed) => parsed,
        // The only error that `parse` passes on is running out of input.
        Err(DecodeError::Truncated { missing }) => Parsed::Need(message.len() + missing),
        Err(_) => Parsed::NotACall,
    }
}

fn parse(message: &[u8]) -> Result<Parsed, DecodeError> {
    let mut r = Reader::new(message);
    let xid = r.u32()?;
    if r.u32()? != CALL {
        return Ok(Parsed::NotACall);
    }
    if r.u32()? != RPC_VERSION {
        return Ok(Parsed::Refuse(xid, Refusal::RpcMismatch));
    }
    if message.len() < 40 {
        return Ok(Parsed::Need(40)); // the least header there is: saves parsing every byte that trickles in
    }
    let (program, version, procedure) = (r.u32()?, r.u32()?, r.u32()?);
    let (cred_flavor, cred_body) = match auth(&mut r)? {
        Some(cred) => cred,
        None => return Ok(Parsed::Refuse(xid, Refusal::Auth(AuthStat::BadCred))),
    };
    let (verf_flavor, verf_body) = match auth(&mut r)? {
        Some(verf) => verf,
        None => return Ok(Parsed::Refuse(xid, Refusal::Auth(AuthStat::BadVerf))),
    };
    let cred = match credentials(cred_flavor, cred_body) {
        Ok(cred) => cred,
        Err(stat) => return Ok(Parsed::Refuse(xid, Refusal::Auth(stat))),
    };
    if verf_flavor != AUTH_NONE {
        return Ok(Parsed::Refuse(xid, Refusal::Auth(AuthStat::RejectedVerf)));
    }
    if !verf_body.is_empty() {
        return Ok(Parsed::Refuse(xid, Refusal::Auth(AuthStat::BadVerf)));
    }
    let at = message.len() - r.remaining().len();
    Ok(Parsed::Call(CallHeader { xid, program, version, procedure, cred }, at))
}

/// An `opaque_auth`; None if its body is longer than any may be. Padding is not looked at: some senders
/// leave rubbish in it.
fn auth<'a>(r: &mut Reader<'a>) -> Result<Option<(u32, &'a [u8])>, DecodeError> {
    let flavor = r.u32()?;
    let len = r.u32()? as usize;
    if len > MAX_AUTH_BODY {
        return Ok(None);
    }
    let padded = r.opaque_fixed(len.next_multiple_of(4))?;
    Ok(Some((flavor, &padded[..len])))
}

fn credentials(flavor: u32, body: &[u8]) -> Result<Cred, AuthStat> {
    match flavor {
        AUTH_NONE => Ok(Cred::None),
        AUTH_SYS => auth_sys(body).map(Cred::Sys).map_err(|_| AuthStat::BadCred),
        _ => Err(AuthStat::RejectedCred),
    }
}

fn auth_sys(body: &[u8]) -> Result<AuthSys, DecodeError> {
    let mut r = Reader::new(body);
    let _stamp = r.u32()?;
    let machine_name = r.opaque_var(MAX_MACHINE_NAME)?;
    let (uid, gid) = (r.u32()?, r.u32()?);
    let gids = (0..r.array_len(MAX_GIDS)?).map(|_| r.u32()).collect::<Result<_, _>>()?;
    r.finish()?;
    Ok(AuthSys { machine_name: machine_name.into(), uid, gid, gids })
}

/// Appends a call header with an AUTH_NONE verifier; the arguments follow it.
pub fn write_call(out: &mut Vec<u8>, header: &CallHeader) {
    let mut w = Writer::new(out);
    for word in [header.xid, CALL, RPC_VERSION, header.program, header.version, header.procedure] {
        w.u32(word);
    }
    match &header.cred {
        Cred::None => {
            w.u32(AUTH_NONE);
            w.u32(0);
        }
        Cred::Sys(sys) => {
            let name = &sys.machine_name[..sys.machine_name.len().min(MAX_MACHINE_NAME)];
            let gids = &sys.gids[..sys.gids.len().min(MAX_GIDS)];
            w.u32(AUTH_SYS);
            w.u32((20 + name.len().next_multiple_of(4) + 4 * gids.len()) as u32);
            w.u32(0);
            w.opaque_var(name);
            w.u32(sys.uid);
            w.u32(sys.gid);
            w.u32(gids.len() as u32);
            gids.iter().for_each(|gid| w.u32(*gid));
        }
    }
    w.u32(AUTH_NONE);
    w.u32(0);
}

/// What a reply message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyStatus {
    /// Results begin at this offset.
    Success(usize),
    /// MSG_DENIED RPC_MISMATCH.
    RpcMismatch,
    /// MSG_DENIED AUTH_ERROR with its `auth_stat`.
    AuthError(u32),
    /// PROG_UNAVAIL.
    ProgUnavail,
    /// PROG_MISMATCH, lowest and highest version.
    ProgMismatch(u32, u32),
    /// PROC_UNAVAIL.
    ProcUnavail,
    /// GARBAGE_ARGS.
    GarbageArgs,
    /// SYSTEM_ERR.
    SystemErr,
}

/// Parses a reply message. None: it is not a reply.
pub fn parse_reply(message: &[u8]) -> Option<(u32, ReplyStatus)> {
    let mut r = Reader::new(message);
    let xid = r.u32().ok()?;
    if r.u32().ok()? != REPLY {
        return None;
    }
    let status = match r.u32().ok()? {
        MSG_ACCEPTED => {
            auth(&mut r).ok()??;
            match r.u32().ok()? {
                0 => ReplyStatus::Success(message.len() - r.remaining().len()),
                1 => ReplyStatus::ProgUnavail,
                2 => ReplyStatus::ProgMismatch(r.u32().ok()?, r.u32().ok()?),
                3 => ReplyStatus::ProcUnavail,
                4 => ReplyStatus::GarbageArgs,
                5 => ReplyStatus::SystemErr,
                _ => return None,
            }
        }
        MSG_DENIED => match r.u32().ok()? {
            0 => ReplyStatus::RpcMismatch,
            1 => ReplyStatus::AuthError(r.u32().ok()?),
            _ => return None,
        },
        _ => return None,
    };
    Some((xid, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sys() -> Cred {
        Cred::Sys(AuthSys { machine_name: (*b"host1").into(), uid: 7, gid: 8, gids: [9, 10].into() })
    }

    fn call(cred: Cred) -> (CallHeader, Vec<u8>) {
        let header = CallHeader { xid: 5, program: 100021, version: 4, procedure: 2, cred };
        let mut out = Vec::new();
        write_call(&mut out, &header);
        (header, out)
    }

    #[test]
    fn what_is_written_is_read_again() {
        for cred in [Cred::None, sys()] {
            let (header, bytes) = call(cred);
            assert_eq!(parse_call(&bytes), Parsed::Call(header, bytes.len()));
        }
    }

    #[test]
    fn a_header_cut_anywhere_asks_for_more_and_never_for_too_much() {
        let (_, bytes) = call(sys());
        for cut in 0..bytes.len() {
            match parse_call(&bytes[..cut]) {
                Parsed::Need(n) => assert!(n > cut && n <= bytes.len()),
                other => panic!("{cut}: {other:?}"),
            }
        }
    }

    #[test]
    fn no_header_needs_more_than_the_maximum() {
        let mut bytes = call(Cred::None).1;
        bytes.truncate(24);
        for _ in 0..2 {
            bytes.extend([0, 0, 0, 9, 0, 0, 1, 144]);
            bytes.extend([1; 400]);
        }
        assert_eq!(bytes.len(), MAX_HEADER);
        assert_eq!(parse_call(&bytes), Parsed::Refuse(5, Refusal::Auth(AuthStat::RejectedCred)));
    }

    #[test]
    fn other_rpc_versions_are_refused_from_the_first_three_words() {
        let bytes = [0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 3];
        assert_eq!(parse_call(&bytes), Parsed::Refuse(5, Refusal::RpcMismatch));
    }

    #[test]
    fn a_reply_and_rubbish_are_no_calls() {
        assert_eq!(parse_call(&[0, 0, 0, 5, 0, 0, 0, 1]), Parsed::NotACall);
        assert_eq!(parse_call(b"GET / HTTP/1.1\r\n"), Parsed::NotACall);
    }

    #[test]
    fn too_many_groups_and_trailing_bytes_are_a_bad_credential() {
        let (_, mut bytes) = call(sys());
        // The gids' count is the word before the two gids and the verifier.
        let at = bytes.len() - 8 - 8 - 4;
        bytes[at + 3] = 17;
        assert_eq!(parse_call(&bytes), Parsed::Refuse(5, Refusal::Auth(AuthStat::BadCred)));
        bytes[at + 3] = 1;
        assert_eq!(parse_call(&bytes), Parsed::Refuse(5, Refusal::Auth(AuthStat::BadCred)));
    }

    #[test]
    fn every_refusal_is_understood_by_the_client_side() {
        let pairs = [
            (Refusal::RpcMismatch, ReplyStatus::RpcMismatch),
            (Refusal::Auth(AuthStat::RejectedCred), ReplyStatus::AuthError(2)),
            (Refusal::ProgUnavail, ReplyStatus::ProgUnavail),
            (Refusal::ProgMismatch(3, 4), ReplyStatus::ProgMismatch(3, 4)),
            (Refusal::ProcUnavail, ReplyStatus::ProcUnavail),
            (Refusal::GarbageArgs, ReplyStatus::GarbageArgs),
            (Refusal::SystemErr, ReplyStatus::SystemErr),
        ];
        for (refusal, status) in pairs {
            assert_eq!(parse_reply(&refusal.encode(77)), Some((77, status)));
        }
        assert_eq!(parse_reply(&void_reply(3)), Some((3, ReplyStatus::Success(24))));
    }
}
