//! NLM's bytes, versions 1, 3 and 4 made one: what comes in is parsed into [`Request`], what goes out is written for the version
//! it came in (X/Open XNFS chapters 10 and 14).
//!
//! Must never let a value pass that the rest would have to check again.

use lockferry_xdr::nlm::{self, FshAccess, FshMode, nlm_prog};
use lockferry_xdr::{Decode, DecodeError, Writer};

use crate::state::{Access, Holder, Mode, Range, Reply, Status};

/// Most bytes that arguments of any NLM procedure can have: name, handle, owner and cookie at their maxima.
pub const MAX_ARGS: usize = 4 * (1024 + 8) + 64;

/// Which lock: the file, the owner, the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockArg<'a> {
    /// The client's name.
    pub name: &'a [u8],
    /// The file handle.
    pub handle: &'a [u8],
    /// The owner handle.
    pub oh: &'a [u8],
    /// The owner number.
    pub svid: u32,
    /// The bytes; `None` if they go beyond 2^64 - 1 (NLM4_FBIG).
    pub range: Option<Range>,
    /// The first of them.
    pub offset: u64,
}

impl LockArg<'_> {
    /// The bytes; those from the first to the end of the file if they go beyond 2^64 - 1. For UNLOCK and CANCEL, which are
    /// always legal.
    pub fn clamped(&self) -> Range {
        self.range.unwrap_or(Range { start: self.offset, end: u64::MAX })
    }
}

/// A DOS share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareArg<'a> {
    /// The client's name.
    pub name: &'a [u8],
    /// The file handle.
    pub handle: &'a [u8],
    /// The owner handle.
    pub oh: &'a [u8],
    /// What the owner does.
    pub access: Access,
    /// What others may not.
    pub deny: Access,
}

/// A request to the lock service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// TEST.
    Test(LockArg<'a>, Mode),
    /// LOCK, NM_LOCK.
    Lock {
        /// Which lock.
        lock: LockArg<'a>,
        /// Shared or exclusive.
        mode: Mode,
        /// Wait if it conflicts.
        block: bool,
        /// The client had it before.
        reclaim: bool,
        /// The client's NSM state.
        state: u32,
        /// False: NM_LOCK.
        monitored: bool,
    },
    /// CANCEL.
    Cancel(LockArg<'a>, Mode),
    /// UNLOCK.
    Unlock(LockArg<'a>),
    /// SHARE; true: reclaim.
    Share(ShareArg<'a>, bool),
    /// UNSHARE.
    Unshare(ShareArg<'a>),
    /// FREE_ALL.
    FreeAll {
        /// The client's name.
        name: &'a [u8],
    },
    /// The local status monitor's up-call.
    SmNotify {
        /// The rebooted host.
        name: &'a [u8],
        /// Its new state.
        state: u32,
        /// What was given to the monitor.
        private: [u8; 16],
    },
    /// GRANTED_RES: the answer to a GRANTED_MSG of ours; whether it was "granted".
    GrantedRes {
        /// Our cookie.
        cookie: &'a [u8],
        /// Whether the client took the lock.
        accepted: bool,
    },
    /// A call that only a client would get: TEST_RES and its like, GRANTED, GRANTED_MSG.
    NotForServers,
}

/// The shape of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `nlm_testres`.
    Test,
    /// `nlm_res`.
    Status,
    /// `nlm_shareres`.
    Share,
    /// Nothing.
    Void,
}

/// A parsed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// To be echoed.
    pub cookie: &'a [u8],
    /// What is asked.
    pub request: Request<'a>,
    /// The answer's shape.
    pub shape: Shape,
    /// For a _MSG procedure: the _RES procedure that carries the answer.
    pub answer_by: Option<u32>,
    /// The arguments as they came.
    pub args: &'a [u8],
}

/// Whether the procedure exists. NULL (0) does.
pub fn has_procedure(version: u32, procedure: u32) -> bool {
    match version {
        1 => procedure <= nlm_prog::v1::SM_NOTIFY,
        3 | 4 => procedure <= 16 || (20..=23).contains(&procedure),
        _ => false,
    }
}

/// Whether a repeated call must get the first one's answer: everything but NULL, TEST and the answers (_RES).
pub fn is_cached(procedure: u32) -> bool {
    matches!(procedure, 2..=4 | 7..=9 | 16 | 20..=23)
}

/// The procedure that carries the result of an asynchronous request (_MSG) to the client; `None`: the request has a reply of its own.
pub fn result_of(procedure: u32) -> Option<u32> {
    use nlm_prog::v4 as p;
    matches!(procedure, p::TEST_MSG..=p::UNLOCK_MSG).then_some(procedure + (p::TEST_RES - p::TEST_MSG))
}

/// Parses the arguments of an existing procedure other than NULL.
pub fn parse(version: u32, procedure: u32, args: &[u8]) -> Result<Parsed<'_>, DecodeError> {
    use nlm_prog::v4 as p;
    let sync = match procedure {
        p::TEST_MSG..=p::UNLOCK_MSG => procedure - (p::TEST_MSG - p::TEST),
        other => other,
    };
    let answer_by = result_of(procedure);
    let wide = version == 4;
    let (cookie, request, shape) = match sync {
        p::TEST => {
            let (cookie, mode, lock) = test_args(wide, args)?;
            (cookie, Request::Test(lock, mode), Shape::Test)
        }
        p::LOCK | p::NM_LOCK => lock_args(wide, sync == p::LOCK, args)?,
        p::CANCEL => {
            let (cookie, mode, lock) = cancel_args(wide, args)?;
            (cookie, Request::Cancel(lock, mode), Shape::Status)
        }
        p::UNLOCK => {
            let (cookie, lock) = unlock_args(wide, args)?;
            (cookie, Request::Unlock(lock), Shape::Status)
        }
        p::GRANTED_RES => {
            let (cookie, accepted) = res_args(wide, args)?;
            (cookie, Request::GrantedRes { cookie, accepted }, Shape::Void)
        }
        p::SM_NOTIFY => {
            let a = nlm::NlmSmStatus::from_bytes(args)?;
            let request = Request::SmNotify { name: a.mon_name, state: a.state as u32, private: a.priv_ };
            (&[][..], request, Shape::Void)
        }
        p::SHARE | p::UNSHARE => {
            let (cookie, share, reclaim) = share_args(args)?;
            let request =
                if sync == p::SHARE { Request::Share(share, reclaim) } else { Request::Unshare(share) };
            (cookie, request, Shape::Share)
        }
        p::FREE_ALL => {
            let a = nlm::Nlm4Notify::from_bytes(args)?;
            (&[][..], Request::FreeAll { name: a.name }, Shape::Void)
        }
        p::GRANTED | p::GRANTED_MSG => {
            let (cookie, _, _) = test_args(wide, args)?;
            let shape = if sync == p::GRANTED { Shape::Status } else { Shape::Void };
            (cookie, Request::NotForServers, shape)
        }
        _ => (&[][..], Request::NotForServers, Shape::Void),
    };
    Ok(Parsed { cookie, request, shape, answer_by, args })
}

/// Writes an answer. `Reply::Silent` must not come here.
pub fn write_answer(version: u32, shape: Shape, cookie: &[u8], reply: &Reply, w: &mut Writer<'_>) {
    if shape == Shape::Void {
        return;
    }
    w.opaque_var(cookie);
    w.u32(stat_number(version, status_of(reply)));
    match (shape, reply) {
        (Shape::Test, Reply::Denied(holder)) => write_holder(version, holder, w),
        (Shape::Share, _) => w.u32(0), // sequence
        _ => {}
    }
}

/// Writes the arguments of GRANTED and GRANTED_MSG.
#[allow(clippy::too_many_arguments)] // the message's fields
pub fn write_granted(
    version: u32,
    cookie: &[u8],
    mode: Mode,
    name: &[u8],
    handle: &[u8],
    oh: &[u8],
    svid: u32,
    range: Range,
    w: &mut Writer<'_>,
) {
    w.opaque_var(cookie);
    w.bool(mode == Mode::Exclusive);
    w.opaque_var(name);
    w.opaque_var(handle);
    w.opaque_var(oh);
    w.u32(svid);
    write_range(version, range, w);
}

/// Whether the results of a GRANTED call say that the client took the lock. `None`: not an answer.
pub fn parse_granted_answer(version: u32, results: &[u8]) -> Option<bool> {
    res_args(version == 4, results).ok().map(|(_, accepted)| accepted)
}

fn status_of(reply: &Reply) -> Status {
    match reply {
        Reply::Status(status) => *status,
        Reply::Denied(_) => Status::Denied,
        Reply::Void => Status::Granted,
        Reply::Silent => Status::Failed,
    }
}

/// Versions 1 and 3 know five answers: a deadlock is denied, anything else is "no locks".
fn stat_number(version: u32, status: Status) -> u32 {
    let v4 = match status {
        Status::Granted => 0,
        Status::Denied => 1,
        Status::DeniedNolocks => 2,
        Status::Blocked => 3,
        Status::DeniedGracePeriod => 4,
        Status::Deadlock => 5,
        Status::ReadOnly => 6,
        Status::StaleHandle => 7,
        Status::TooBig => 8,
        Status::Failed => 9,
    };
    match (version, v4) {
        (4, n) => n,
        (_, 5) => 1,
        (_, n @ 0..=4) => n,
        _ => 2,
    }
}

fn write_holder(version: u32, holder: &Holder, w: &mut Writer<'_>) {
    w.bool(holder.mode == Mode::Exclusive);
    w.u32(holder.svid);
    w.opaque_var(&holder.oh);
    write_range(version, holder.range, w);
}

/// In 32 bits a range that goes beyond them is "to the end".
fn write_range(version: u32, range: Range, w: &mut Writer<'_>) {
    if version == 4 {
        w.u64(range.start);
        w.u64(range.nlm_len());
    } else {
        let start = u32::try_from(range.start).unwrap_or(u32::MAX);
        w.u32(start);
        w.u32(u32::try_from(range.nlm_len()).unwrap_or(0));
    }
}

fn wide_lock<'a>(a: &nlm::Nlm4Lock<'a>) -> LockArg<'a> {
    let range = Range::from_nlm(a.l_offset, a.l_len);
    LockArg { name: a.caller_name, handle: a.fh, oh: a.oh, svid: a.svid as u32, range, offset: a.l_offset }
}

fn narrow_lock<'a>(a: &nlm::NlmLock<'a>) -> LockArg<'a> {
    let range = Range::from_nlm(u64::from(a.l_offset), u64::from(a.l_len));
    LockArg {
        name: a.caller_name,
        handle: a.fh,
        oh: a.oh,
        svid: a.svid as u32,
        range,
        offset: u64::from(a.l_offset),
    }
}

type LockParts<'a> = (&'a [u8], Request<'a>, Shape);

fn lock_args(wide: bool, monitored: bool, args: &[u8]) -> Result<LockParts<'_>, DecodeError> {
    let (cookie, block, exclusive, lock, reclaim, state) = if wide {
        let a = nlm::Nlm4Lockargs::from_bytes(args)?;
        (a.cookie, a.block, a.exclusive, wide_lock(&a.alock), a.reclaim, a.state)
    } else {
        let a = nlm::NlmLockargs::from_bytes(args)?;
        (a.cookie, a.block, a.exclusive, narrow_lock(&a.alock), a.reclaim, a.state)
    };
    let request = Request::Lock {
        lock,
        mode: Mode::from_exclusive(exclusive),
        block: block && monitored,
        reclaim,
        state: state as u32,
        monitored,
    };
    Ok((cookie, request, Shape::Status))
}

fn test_args(wide: bool, args: &[u8]) -> Result<(&[u8], Mode, LockArg<'_>), DecodeError> {
    let (cookie, exclusive, lock) = if wide {
        let a = nlm::Nlm4Testargs::from_bytes(args)?;
        (a.cookie, a.exclusive, wide_lock(&a.alock))
    } else {
        let a = nlm::NlmTestargs::from_bytes(args)?;
        (a.cookie, a.exclusive, narrow_lock(&a.alock))
    };
    Ok((cookie, Mode::from_exclusive(exclusive), lock))
}

fn cancel_args(wide: bool, args: &[u8]) -> Result<(&[u8], Mode, LockArg<'_>), DecodeError> {
    let (cookie, exclusive, lock) = if wide {
        let a = nlm::Nlm4Cancargs::from_bytes(args)?;
        (a.cookie, a.exclusive, wide_lock(&a.alock))
    } else {
        let a = nlm::NlmCancargs::from_bytes(args)?;
        (a.cookie, a.exclusive, narrow_lock(&a.alock))
    };
    Ok((cookie, Mode::from_exclusive(exclusive), lock))
}

fn unlock_args(wide: bool, args: &[u8]) -> Result<(&[u8], LockArg<'_>), DecodeError> {
    if wide {
        let a = nlm::Nlm4Unlockargs::from_bytes(args)?;
        Ok((a.cookie, wide_lock(&a.alock)))
    } else {
        let a = nlm::NlmUnlockargs::from_bytes(args)?;
        Ok((a.cookie, narrow_lock(&a.alock)))
    }
}

fn res_args(wide: bool, args: &[u8]) -> Result<(&[u8], bool), DecodeError> {
    if wide {
        let a = nlm::Nlm4Res::from_bytes(args)?;
        Ok((a.cookie, a.stat.stat == nlm::Nlm4Stats::Nlm4Granted))
    } else {
        let a = nlm::NlmRes::from_bytes(args)?;
        Ok((a.cookie, a.stat.stat == nlm::NlmStats::NlmGranted))
    }
}

/// The two versions' arguments have the same bytes.
fn share_args(args: &[u8]) -> Result<(&[u8], ShareArg<'_>, bool), DecodeError> {
    let a = nlm::Nlm4Shareargs::from_bytes(args)?;
    let access = match a.share.access {
        FshAccess::FsaNone => 0,
        FshAccess::FsaR => 1,
        FshAccess::FsaW => 2,
        FshAccess::FsaRw => 3,
    };
    let deny = match a.share.mode {
        FshMode::FsmDn => 0,
        FshMode::FsmDr => 1,
        FshMode::FsmDw => 2,
        FshMode::FsmDrw => 3,
    };
    let s = &a.share;
    let share =
        ShareArg { name: s.caller_name, handle: s.fh, oh: s.oh, access: Access(access), deny: Access(deny) };
    Ok((a.cookie, share, a.reclaim))
}
