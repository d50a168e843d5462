//! The network lock manager, program 100021, versions 1, 3 and 4, as an RPC program in front of the lock core.
//!
//! A call is parsed, its file handle becomes a file key, a plain LOCK is checked against the export (on a blocking
//! thread, unless the verdict is remembered), and what is left is a [`Command`] for the [`LockService`]. Must never
//! touch the disk on the task that the call came on, and never open a file for a reclaim.

mod answer;
mod checks;
mod results;
pub mod wire;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::export::{FileKey, LockFiles, LockRefusal};
use crate::rpc::drc::Key;
use crate::rpc::{Call, CallInfo, Program, Responder, Transport};
use crate::state::{Command, LockRequest, Mode, Party, Reply, Route, Status, Token};
pub use answer::{Answer, Outbox, ReturnPath};
use checks::{Checks, Subject};
pub use results::Results;
use wire::{LockArg, Parsed, Request, ShareArg};

/// The program number.
pub const PROGRAM: u32 = lockferry_xdr::nlm::NLM_PROG;
/// The versions, ascending.
pub const VERSIONS: &[u32] = &[1, 3, 4];

/// What the program needs of the running node.
pub trait LockService: Send + Sync + 'static {
    /// A fresh mark for a request.
    fn next_token(&self) -> Token;

    /// Runs a command whose reply comes back under `token`, and answers by it as soon as that may leave.
    fn submit(&self, token: Token, command: Command<'_>, answer: Answer);

    /// Answers a request that the lock core need not see, as soon as an answer of this lock manager may leave.
    fn say(&self, lm: IpAddr, answer: Answer, reply: Reply);

    /// Which stay of a lock manager it is that is served now; 0: it has not begun. A request of one stay is none of the next: its client
    /// may have had its answer elsewhere meanwhile.
    fn stay(&self, lm: IpAddr) -> u64;

    /// Whether new locks on the export that this handle names may be taken through this address.
    fn is_bound_to(&self, handle: &[u8], lm: IpAddr) -> bool;

    /// GRANTED_RES came for a GRANTED_MSG.
    fn granted_res(&self, cookie: &[u8], info: &CallInfo, accepted: bool);

    /// Whether the host's own status monitor watches clients for us.
    fn has_monitor(&self) -> bool;

    /// The host's own status monitor says that a host restarted.
    fn monitor_notice(&self, name: &[u8], state: u32, private: [u8; 16], responder: Responder);
}

/// Runs a job about a file handle on a thread that may block. False: no room, nothing was run.
pub type Spawn = Box<dyn Fn(&[u8], Box<dyn FnOnce() + Send>) -> bool + Send + Sync>;

/// The program.
pub struct Nlm {
    inner: Arc<Inner>,
}

struct Inner {
    service: Arc<dyn LockService>,
    files: Arc<dyn LockFiles>,
    results: Arc<Results>,
    spawn: Spawn,
    checks: Checks,
}

impl Nlm {
    /// The program over a lock service, the exports, and a way out for asynchronous answers.
    pub fn new(
        service: Arc<dyn LockService>,
        files: Arc<dyn LockFiles>,
        results: Arc<Results>,
        spawn: Spawn,
    ) -> Self {
        Self { inner: Arc::new(Inner { service, files, results, spawn, checks: Checks::default() }) }
    }
}

impl Program for Nlm {
    fn number(&self) -> u32 {
        PROGRAM
    }

    fn versions(&self) -> &[u32] {
        VERSIONS
    }

    fn has_procedure(&self, version: u32, procedure: u32) -> bool {
        wire::has_procedure(version, procedure)
    }

    fn max_args(&self, _version: u32, _procedure: u32) -> usize {
        wire::MAX_ARGS
    }

    fn is_cached(&self, _version: u32, procedure: u32) -> bool {
        wire::is_cached(procedure)
    }

    fn repeated(&self, key: &Key) -> bool {
        self.inner.results.send_again(key)
    }

    fn dispatch(&self, call: Call, responder: Responder) {
        Inner::dispatch(&self.inner, call, responder, None);
    }
}

impl Inner {
    /// `verdict`: what the export said of this call's file, once it was asked.
    fn dispatch(
        this: &Arc<Inner>,
        call: Call,
        responder: Responder,
        verdict: Option<Result<(), LockRefusal>>,
    ) {
        let Call { info, args } = &call;
        let Ok(parsed) = wire::parse(info.version, info.procedure, args) else {
            return responder.garbage_args();
        };
        match parsed.request {
            Request::NotForServers => {
                let answer = Answer::now(responder, info.version, parsed.shape, parsed.cookie);
                this.service.say(info.local.ip(), answer, Reply::Status(Status::Denied));
            }
            Request::GrantedRes { cookie, accepted } => {
                this.service.granted_res(cookie, info, accepted);
                responder.success(&());
            }
            Request::SmNotify { name, state, private } => {
                if info.peer.ip().is_loopback() && this.service.has_monitor() {
                    return this.service.monitor_notice(name, state, private, responder);
                }
                // Anybody else may speak for itself only, as with NSM's own SM_NOTIFY.
                let token = this.service.next_token();
                let command = Command::Rebooted { party: party(info, name), state, token };
                this.service.submit(token, command, Answer::void(responder));
            }
            Request::FreeAll { name } => {
                let token = this.service.next_token();
                let answer = Answer::void(responder).kept_as(Key::new(info, args));
                this.service.submit(token, Command::FreeAll { party: party(info, name), token }, answer);
            }
            Request::Test(lock, _) => this.with_file(this, &call, &parsed, lock.handle, responder, verdict),
            Request::Lock { lock, .. } => {
                this.with_file(this, &call, &parsed, lock.handle, responder, verdict)
            }
            Request::Share(share, _) => {
                this.with_file(this, &call, &parsed, share.handle, responder, verdict);
            }
            Request::Cancel(lock, _) => {
                this.checks.cancel(|| subject(info, &lock));
                this.release(info, &parsed, lock.handle, responder);
            }
            Request::Unlock(lock) => {
                this.checks.cancel(|| subject(info, &lock));
                this.release(info, &parsed, lock.handle, responder);
            }
            Request::Unshare(share) => this.release(info, &parsed, share.handle, responder),
        }
    }

    /// Requests that take something: the export has a say first.
    fn with_file(
        &self,
        this: &Arc<Inner>,
        call: &Call,
        parsed: &Parsed<'_>,
        handle: &[u8],
        responder: Responder,
        verdict: Option<Result<(), LockRefusal>>,
    ) {
        let info = &call.info;
        let (reclaim, exclusive) = match parsed.request {
            Request::Lock { reclaim, mode, .. } => (reclaim, mode == Mode::Exclusive),
            Request::Share(_, reclaim) => (reclaim, false),
            _ => (false, false),
        };
        let key = match self.files.key(handle) {
            Ok(key) => key,
            Err(refusal) => return self.refuse(info, parsed, refusal, responder),
        };
        let verdict = if reclaim {
            Some(self.files.may_reclaim(handle, info.peer.ip(), exclusive))
        } else {
            verdict.or_else(|| self.files.cached(handle, info.peer.ip(), &info.cred, exclusive))
        };
        match verdict {
            Some(Ok(())) => self.take(info, parsed, &key, responder),
            Some(Err(refusal)) => self.refuse(info, parsed, refusal, responder),
            None => Self::check(this, call, parsed, handle, exclusive, responder),
        }
    }

    /// Asks the export on another thread and comes back. A CANCEL or UNLOCK of the same owner meanwhile ends it.
    fn check(
        this: &Arc<Inner>,
        call: &Call,
        parsed: &Parsed<'_>,
        handle: &[u8],
        exclusive: bool,
        responder: Responder,
    ) {
        let info = &call.info;
        let lock = match &parsed.request {
            Request::Lock { lock, .. } => Some(subject(info, lock)),
            // Nothing is taken: there is nothing to give up.
            _ => None,
        };
        let Some(check) = this.checks.begin(lock) else {
            return this.answer(info, parsed, Status::DeniedNolocks, responder);
        };
        let (again, call, file) = (this.clone(), call.clone(), Bytes::copy_from_slice(handle));
        let stay = this.service.stay(info.local.ip());
        let job = Box::new(move || {
            let verdict = again.files.check(&file, call.info.peer.ip(), &call.info.cred, exclusive);
            let same_stay =
                mutant!(LateCheckLocks) || stay == 0 || again.service.stay(call.info.local.ip()) == stay;
            if again.checks.end(check) && same_stay {
                Inner::dispatch(&again, call, responder, Some(verdict));
            }
            // Else the responder is dropped: the client does not wait for this LOCK any more, or asks again.
        });
        if !(this.spawn)(handle, job) {
            this.checks.end(check);
        }
    }

    fn take(&self, info: &CallInfo, parsed: &Parsed<'_>, key: &FileKey, responder: Responder) {
        let token = self.service.next_token();
        let file = &key.0;
        match parsed.request {
            Request::Lock { lock, mode, block, reclaim, state, monitored } => {
                let Some(range) = lock.range else {
                    return self.answer(info, parsed, Status::TooBig, responder);
                };
                if !reclaim && self.is_elsewhere(info, lock.handle) {
                    return self.answer(info, parsed, Status::DeniedNolocks, responder);
                }
                let route = Route {
                    version: info.version,
                    tcp: info.transport == Transport::Tcp,
                    asynchronous: parsed.answer_by.is_some(),
                    handle: lock.handle.into(),
                };
                let request = LockRequest {
                    party: party(info, lock.name),
                    oh: lock.oh,
                    svid: lock.svid,
                    file,
                    range,
                    mode,
                    block,
                    reclaim,
                    monitored,
                    state,
                    route: &route,
                    token,
                };
                self.submit(info, parsed, token, Command::Lock(request), responder);
            }
            Request::Test(lock, mode) => {
                let Some(range) = lock.range else {
                    return self.answer(info, parsed, Status::TooBig, responder);
                };
                let LockArg { name, oh, svid, .. } = lock;
                let command = Command::Test { party: party(info, name), oh, svid, file, range, mode, token };
                self.submit(info, parsed, token, command, responder);
            }
            Request::Share(ShareArg { name, oh, access, deny, handle, .. }, reclaim) => {
                if !reclaim && self.is_elsewhere(info, handle) {
                    return self.answer(info, parsed, Status::DeniedNolocks, responder);
                }
                let party = party(info, name);
                let command = Command::Share { party, oh, file, access, deny, reclaim, token };
                self.submit(info, parsed, token, command, responder);
            }
            _ => self.answer(info, parsed, Status::Failed, responder),
        }
    }

    fn is_elsewhere(&self, info: &CallInfo, handle: &[u8]) -> bool {
        !self.service.is_bound_to(handle, info.local.ip()) && !mutant!(BoundElsewhereGranted)
    }

    /// Requests that give something back: always legal, the file need not exist any more.
    fn release(&self, info: &CallInfo, parsed: &Parsed<'_>, handle: &[u8], responder: Responder) {
        let key = match self.files.key(handle) {
            Ok(key) => key,
            Err(refusal) => return self.refuse(info, parsed, refusal, responder),
        };
        let token = self.service.next_token();
        let file = &key.0;
        let command = match parsed.request {
            Request::Unlock(lock) => {
                let LockArg { name, oh, svid, .. } = lock;
                Command::Unlock { party: party(info, name), oh, svid, file, range: lock.clamped(), token }
            }
            Request::Cancel(lock, mode) => {
                let (LockArg { name, oh, svid, .. }, range) = (lock, lock.clamped());
                Command::Cancel { party: party(info, name), oh, svid, file, range, mode, token }
            }
            Request::Unshare(ShareArg { name, oh, .. }) => {
                Command::Unshare { party: party(info, name), oh, file, token }
            }
            _ => return self.answer(info, parsed, Status::Failed, responder),
        };
        self.submit(info, parsed, token, command, responder);
    }

    fn submit(
        &self,
        info: &CallInfo,
        parsed: &Parsed<'_>,
        token: Token,
        command: Command<'_>,
        responder: Responder,
    ) {
        let answer = self.answer_for(info, parsed, responder);
        self.service.submit(token, command, answer);
    }

    fn answer(&self, info: &CallInfo, parsed: &Parsed<'_>, status: Status, responder: Responder) {
        let answer = self.answer_for(info, parsed, responder);
        self.service.say(info.local.ip(), answer, Reply::Status(status));
    }

    fn refuse(&self, info: &CallInfo, parsed: &Parsed<'_>, refusal: LockRefusal, responder: Responder) {
        tracing::info!(client = %info.peer, lm = %info.local.ip(), %refusal, "lock request refused");
        let status = match refusal {
            LockRefusal::Stale => Status::StaleHandle,
            LockRefusal::ReadOnly => Status::ReadOnly,
            LockRefusal::Access => Status::Failed,
        };
        self.answer(info, parsed, status, responder);
    }

    fn answer_for(&self, info: &CallInfo, parsed: &Parsed<'_>, responder: Responder) -> Answer {
        match parsed.answer_by {
            None => {
                let answer = Answer::now(responder, info.version, parsed.shape, parsed.cookie);
                match wire::is_cached(info.procedure) {
                    true => answer.kept_as(Key::new(info, parsed.args)),
                    false => answer,
                }
            }
            Some(procedure) => {
                responder.success(&());
                let path = ReturnPath { local: info.local, peer: info.peer, transport: info.transport };
                Answer::by_call(
                    self.results.clone(),
                    Key::new(info, parsed.args),
                    path,
                    info.version,
                    procedure,
                    parsed.shape,
                    parsed.cookie,
                )
            }
        }
    }
}

fn party<'a>(info: &CallInfo, name: &'a [u8]) -> Party<'a> {
    Party { lm: info.local.ip(), name, address: info.peer.ip() }
}

fn subject(info: &CallInfo, lock: &LockArg<'_>) -> Subject {
    Subject {
        lm: info.local.ip(),
        address: info.peer.ip(),
        name: lock.name.into(),
        oh: lock.oh.into(),
        svid: lock.svid,
        handle: lock.handle.into(),
        range: lock.clamped(),
    }
}

#[cfg(test)]
mod tests;
