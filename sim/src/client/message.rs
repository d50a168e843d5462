//! The bytes of a client's messages: NLM version 4, NSM version 1, and what a port mapper answers.
//!
//! Must never decide anything, nor use the service's own code for the arguments: two mistakes alike would not be seen.

use std::net::IpAddr;

use lockferry::rpc::header::{CallHeader, write_call};
use lockferry::rpc::{AuthSys, Cred};
use lockferry_checker::history::{Answer, Bytes};
use lockferry_xdr::{Reader, Writer};

/// NLM.
pub(super) const NLM: u32 = 100_021;
/// NSM.
pub(super) const NSM: u32 = 100_024;
/// The port mapper and rpcbind.
pub(super) const PORTMAP: u32 = 100_000;

/// NLM procedures; the asynchronous forms are further on by [`MSG`] and [`RES`].
pub(super) const TEST: u32 = 1;
pub(super) const LOCK: u32 = 2;
pub(super) const CANCEL: u32 = 3;
pub(super) const UNLOCK: u32 = 4;
pub(super) const GRANTED: u32 = 5;
/// From a procedure to its _MSG.
pub(super) const MSG: u32 = 5;
/// From a procedure to its _RES.
pub(super) const RES: u32 = 10;
/// NSM's SM_NOTIFY.
pub(super) const NOTIFY: u32 = 6;

/// An answer that is an RPC failure counts as this much and its `accept_stat`.
pub(super) const RPC_FAILED: u32 = 1000;

/// From an owner to the other one of its pair: on the wire both have the number of the first, and only their handles differ.
pub(super) const PAIR: u32 = 1_000_000;
/// Owner numbers from here on have a very long owner handle.
pub(super) const HUGE: u32 = 0x4000_0000;
const HUGE_LEN: usize = 900;

const NETOBJ_MAX: usize = 1024;
const NLM_PORT: u16 = 4045;
const NSM_PORT: u16 = 32766;

/// A call header with everything but its numbers.
#[derive(Clone, Debug)]
pub(super) struct Template(Vec<u8>);

impl Template {
    /// With the machine's name in the credentials.
    pub(super) fn new(name: &[u8]) -> Self {
        let sys = AuthSys { machine_name: name.into(), uid: 0, gid: 0, gids: [0].into() };
        let header = CallHeader { xid: 0, program: 0, version: 0, procedure: 0, cred: Cred::Sys(sys) };
        let mut out = Vec::new();
        write_call(&mut out, &header);
        Self(out)
    }

    /// A message that begins with this header; its arguments are still missing.
    pub(super) fn begin(&self, xid: u32, program: u32, version: u32, procedure: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() + 160);
        out.extend_from_slice(&self.0);
        out[..4].copy_from_slice(&xid.to_be_bytes());
        for (at, word) in [(12, program), (16, version), (20, procedure)] {
            out[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        out
    }
}

/// The arguments of TEST, LOCK, CANCEL, UNLOCK and GRANTED.
#[derive(Clone, Copy, Debug)]
pub(super) struct Args<'a> {
    pub(super) procedure: u32,
    pub(super) cookie: u32,
    pub(super) name: &'a [u8],
    pub(super) handle: &'a [u8],
    pub(super) svid: u32,
    pub(super) bytes: Bytes,
    pub(super) exclusive: bool,
    pub(super) block: bool,
    pub(super) reclaim: bool,
    pub(super) state: u32,
}

/// Appends them.
pub(super) fn write_args(out: &mut Vec<u8>, a: &Args<'_>) {
    let mut w = Writer::new(out);
    w.opaque_var(&a.cookie.to_be_bytes());
    if matches!(a.procedure, LOCK | CANCEL) {
        w.bool(a.block);
    }
    if a.procedure != UNLOCK {
        w.bool(a.exclusive);
    }
    w.opaque_var(a.name);
    w.opaque_var(a.handle);
    write_owner_handle(&mut w, a.svid, a.name);
    w.u32(number_of(a.svid).0);
    w.u64(a.bytes.start);
    w.u64(length(a.bytes));
    if a.procedure == LOCK {
        w.bool(a.reclaim);
        w.u32(a.state);
    }
}

/// The number on the wire, and whether it is the other one of a pair.
fn number_of(svid: u32) -> (u32, bool) {
    if (PAIR..HUGE).contains(&svid) { (svid - PAIR, true) } else { (svid, false) }
}

/// Which owner a number and a handle on the wire mean.
pub fn owner_of(svid: u32, handle: &[u8]) -> u32 {
    match handle.first() {
        Some(b'+') => svid + PAIR,
        _ => svid,
    }
}

/// As Linux has it: `5@host`; the other one of a pair has a `+` before it. The length is filled in when it is known.
fn write_owner_handle(w: &mut Writer<'_>, svid: u32, name: &[u8]) {
    let out = w.buffer();
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let (number, other) = number_of(svid);
    if other {
        out.push(b'+');
    }
    push_decimal(out, number);
    out.push(b'@');
    out.extend_from_slice(name);
    if svid >= HUGE {
        out.resize(at + 4 + HUGE_LEN, b'x');
    }
    let len = out.len() - at - 4;
    out[at..at + 4].copy_from_slice(&(len as u32).to_be_bytes());
    out.resize(at + 4 + len.next_multiple_of(4), 0);
}

fn push_decimal(out: &mut Vec<u8>, mut number: u32) {
    let mut digits = [0; 10];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// NLM's length. A range that ends with the last byte of all has two: 0, and for some odd ones the number itself.
fn length(bytes: Bytes) -> u64 {
    let explicit = bytes.start > u64::MAX / 2 && bytes.start & 1 == 1;
    if bytes.end == u64::MAX && !explicit { 0 } else { bytes.end - bytes.start + 1 }
}

/// The range of an offset and a length; `None` if it goes beyond the last byte of all.
fn range(start: u64, len: u64) -> Option<Bytes> {
    match len {
        0 => Some(Bytes { start, end: u64::MAX }),
        _ => Some(Bytes { start, end: start.checked_add(len - 1)? }),
    }
}

/// The arguments of SM_NOTIFY.
pub(super) fn write_notify(out: &mut Vec<u8>, name: &[u8], state: u32) {
    let mut w = Writer::new(out);
    w.opaque_var(name);
    w.u32(state);
}

/// The arguments of a _RES, or the results of GRANTED.
pub(super) fn write_result(out: &mut Vec<u8>, cookie: &[u8], status: u32) {
    let mut w = Writer::new(out);
    w.opaque_var(cookie);
    w.u32(status);
}

/// A successful reply, its results still missing.
pub(super) fn begin_reply(xid: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let mut w = Writer::new(&mut out);
    for word in [xid, 1, 0, 0, 0, 0] {
        w.u32(word);
    }
    out
}

/// A reply without results that says how the call failed (`accept_stat`).
pub(super) fn failed_reply(xid: u32, accept_stat: u32) -> Vec<u8> {
    let mut out = begin_reply(xid);
    out[20..24].copy_from_slice(&accept_stat.to_be_bytes());
    out
}

/// The cookie in results, if it is one of a client of ours.
pub(super) fn cookie_of(results: &[u8]) -> Option<u32> {
    let cookie = Reader::new(results).opaque_var(NETOBJ_MAX).ok()?;
    Some(u32::from_be_bytes(cookie.try_into().ok()?))
}

/// The results of an NLM procedure (or the arguments of its _RES): the cookie, and what it says.
pub(super) fn parse_answer(procedure: u32, results: &[u8]) -> Option<(u32, Answer)> {
    let mut r = Reader::new(results);
    let cookie = u32::from_be_bytes(r.opaque_var(NETOBJ_MAX).ok()?.try_into().ok()?);
    let status = r.u32().ok()?;
    let answer = match (procedure, status) {
        (TEST, 1) => {
            let (exclusive, svid) = (r.bool().ok()?, r.u32().ok()?);
            let svid = owner_of(svid, r.opaque_var(NETOBJ_MAX).ok()?);
            let bytes = range(r.u64().ok()?, r.u64().ok()?)?;
            Answer::Holder { svid, bytes, exclusive }
        }
        (_, 0) => Answer::Granted,
        (_, 1) => Answer::Denied,
        (_, 2) => Answer::DeniedNolocks,
        (_, 3) => Answer::Blocked,
        (_, 4) => Answer::DeniedGrace,
        (_, 5) => Answer::Deadlock,
        (_, other) => Answer::Other(other),
    };
    r.finish().ok()?;
    Some((cookie, answer))
}

/// What a GRANTED says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant<'a> {
    pub(super) cookie: &'a [u8],
    pub(super) name: &'a [u8],
    pub(super) handle: &'a [u8],
    pub(super) svid: u32,
    pub(super) bytes: Bytes,
    pub(super) exclusive: bool,
}

/// The arguments of GRANTED and GRANTED_MSG.
pub(super) fn parse_granted(args: &[u8]) -> Option<Grant<'_>> {
    let mut r = Reader::new(args);
    let cookie = r.opaque_var(NETOBJ_MAX).ok()?;
    let exclusive = r.bool().ok()?;
    let name = r.opaque_var(NETOBJ_MAX).ok()?;
    let handle = r.opaque_var(NETOBJ_MAX).ok()?;
    let oh = r.opaque_var(NETOBJ_MAX).ok()?;
    let svid = owner_of(r.u32().ok()?, oh);
    let bytes = range(r.u64().ok()?, r.u64().ok()?)?;
    r.finish().ok()?;
    Some(Grant { cookie, name, handle, svid, bytes, exclusive })
}

/// The name and the state in an SM_NOTIFY.
pub(super) fn parse_notify(args: &[u8]) -> Option<(&[u8], u32)> {
    let mut r = Reader::new(args);
    let name = r.opaque_var(NETOBJ_MAX).ok()?;
    let state = r.u32().ok()?;
    r.finish().ok()?;
    Some((name, state))
}

/// The header of a call to a client: xid, program, version, procedure, and where its arguments begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    pub(super) xid: u32,
    pub(super) program: u32,
    pub(super) version: u32,
    pub(super) procedure: u32,
    pub(super) args: usize,
}

/// Whether the message is a call, by its second word.
pub(super) fn is_call(message: &[u8]) -> bool {
    message.get(4..8) == Some(&[0; 4])
}

/// Parses it.
pub(super) fn parse_call(message: &[u8]) -> Option<Incoming> {
    let mut r = Reader::new(message);
    let (xid, _, _) = (r.u32().ok()?, r.u32().ok()?, r.u32().ok()?);
    let (program, version, procedure) = (r.u32().ok()?, r.u32().ok()?, r.u32().ok()?);
    for _ in 0..2 {
        r.u32().ok()?;
        r.opaque_var(400).ok()?;
    }
    Some(Incoming { xid, program, version, procedure, args: message.len() - r.remaining().len() })
}

/// The port mapper's answer to GETPORT (version 2) and GETADDR (3, 4); `None`: it cannot be understood.
pub(super) fn answer_port(call: &Incoming, args: &[u8], own: IpAddr) -> Option<Vec<u8>> {
    if call.procedure != 3 {
        return Some(failed_reply(call.xid, if call.procedure == 0 { 0 } else { 3 }));
    }
    let program = Reader::new(args).u32().ok()?;
    let port = match program {
        NLM => NLM_PORT,
        NSM => NSM_PORT,
        _ => 0,
    };
    let mut out = begin_reply(call.xid);
    let mut w = Writer::new(&mut out);
    match call.version {
        2 => w.u32(u32::from(port)),
        _ if port == 0 => w.opaque_var(b""),
        _ => w.opaque_var(format!("{own}.{}.{}", port >> 8, port & 255).as_bytes()),
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockferry::service::nlm::wire;
    use lockferry::state::{Mode, Range};

    #[test]
    fn the_service_reads_what_is_written() {
        for (start, end) in [(0, u64::MAX), (5, 9), (u64::MAX - 2, u64::MAX), (u64::MAX - 3, u64::MAX)] {
            let mut out = Vec::new();
            let args = Args {
                procedure: LOCK,
                cookie: 77,
                name: b"host",
                handle: b"handle",
                svid: 10,
                bytes: Bytes { start, end },
                exclusive: true,
                block: true,
                reclaim: false,
                state: 3,
            };
            write_args(&mut out, &args);
            let parsed = wire::parse(4, LOCK, &out).unwrap();
            assert_eq!(parsed.cookie, [0, 0, 0, 77]);
            let lock = wire::LockArg {
                name: b"host",
                handle: b"handle",
                oh: b"10@host",
                svid: 10,
                range: Range::new(start, end),
                offset: start,
            };
            let mode = Mode::Exclusive;
            let expected =
                wire::Request::Lock { lock, mode, block: true, reclaim: false, state: 3, monitored: true };
            assert_eq!(parsed.request, expected);
        }
    }

    #[test]
    fn a_huge_owner_is_still_well_formed() {
        let mut out = Vec::new();
        let bytes = Bytes { start: 0, end: 0 };
        let mut args = Args {
            procedure: UNLOCK,
            cookie: 1,
            name: b"n",
            handle: b"h",
            svid: HUGE,
            bytes,
            exclusive: false,
            block: false,
            reclaim: false,
            state: 0,
        };
        for procedure in [UNLOCK, TEST, CANCEL] {
            args.procedure = procedure;
            out.clear();
            write_args(&mut out, &args);
            assert!(wire::parse(4, procedure, &out).is_ok());
        }
    }
}
