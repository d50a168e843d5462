//! The programs behind one port, and what becomes of a call before its program sees it. Pure: no sockets.
//! Must never decode a program's arguments.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::drc::{Begin, Drc, Key, Token};
use super::header::{CallHeader, Refusal, void_reply};
use super::record::Verdict;
use super::types::{Call, Program, Responder};

/// The highest procedure number that is asked about when the size limits are worked out.
const MAX_PROCEDURE: u32 = 1024;

/// The programs that share a port.
pub struct Router {
    programs: Vec<Arc<dyn Program>>,
    max_args: usize,
    drc: Arc<Drc>,
}

/// What to do with a call that was accepted.
pub enum Action {
    /// Send this at once.
    Reply(Vec<u8>),
    /// Hand it to the program; tell the cache with this token when it is answered.
    Dispatch(Arc<dyn Program>, Call, Token),
    /// It is being carried out already: nothing.
    Drop,
}

impl Router {
    /// A router for `programs`; all of a server's routers share one cache.
    pub fn new(programs: Vec<Arc<dyn Program>>, drc: Arc<Drc>) -> Self {
        let max_args = programs.iter().map(|p| largest(p.as_ref())).max().unwrap_or(0);
        Self { programs, max_args, drc }
    }

    /// The most argument bytes that any procedure takes.
    pub fn max_args(&self) -> usize {
        self.max_args
    }

    /// Whether any program answers on this address.
    pub fn is_served(&self, local: &IpAddr) -> bool {
        self.programs.iter().any(|p| p.is_served(local))
    }

    /// Decides on a call by its header alone.
    pub fn judge(&self, header: &CallHeader, local: &IpAddr) -> Verdict {
        let Some(program) = self.find(header.program) else {
            let served = self.is_served(local);
            return if served { Verdict::Refuse(Refusal::ProgUnavail) } else { Verdict::Unserved };
        };
        if !program.is_served(local) {
            return Verdict::Unserved;
        }
        let versions = program.versions();
        if !versions.contains(&header.version) {
            let (low, high) = (versions.first(), versions.last());
            let bounds = (low.copied().unwrap_or(0), high.copied().unwrap_or(0));
            return Verdict::Refuse(Refusal::ProgMismatch(bounds.0, bounds.1));
        }
        match header.procedure {
            0 => Verdict::Accept { max_args: 0 },
            p if !program.has_procedure(header.version, p) => Verdict::Refuse(Refusal::ProcUnavail),
            p => Verdict::Accept { max_args: program.max_args(header.version, p) },
        }
    }

    /// Goes on with a whole call that was judged acceptable: NULL, repetitions, or the program.
    pub fn accept(&self, now: Instant, call: Call) -> Action {
        let info = &call.info;
        if info.procedure == 0 {
            return Action::Reply(void_reply(info.xid));
        }
        let Some(program) = self.find(info.program) else { return Action::Drop };
        if !program.is_cached(info.version, info.procedure) {
            return Action::Dispatch(program.clone(), call, 0);
        }
        let key = Key::new(info, &call.args);
        match self.drc.begin(now, &key) {
            Begin::New(token) => Action::Dispatch(program.clone(), call, token),
            Begin::InProgress => Action::Drop,
            Begin::Replay(reply) if program.repeated(&key) => Action::Reply(reply.into_vec()),
            Begin::Replay(_) => {
                self.drc.forget(&key);
                match self.drc.begin(now, &key) {
                    Begin::New(token) => Action::Dispatch(program.clone(), call, token),
                    // Another copy was quicker.
                    Begin::InProgress | Begin::Replay(_) => Action::Drop,
                }
            }
        }
    }

    /// Whether a program still answers on this address: a reply that was long in the making must not leave
    /// from an address that was given up meanwhile.
    pub fn still_serves(&self, program: u32, local: &IpAddr) -> bool {
        self.find(program).is_some_and(|p| p.is_served(local))
    }

    /// Tells the cache what a dispatched call was answered with.
    pub fn finish(&self, token: Token, reply: Option<&[u8]>) {
        self.drc.finish(token, reply);
    }

    /// About how many bytes of reply the call may cause.
    pub fn max_reply(&self, header: &CallHeader) -> usize {
        self.find(header.program).map_or(0, |p| p.max_reply(header.version, header.procedure))
    }

    fn find(&self, number: u32) -> Option<&Arc<dyn Program>> {
        self.programs.iter().find(|p| p.number() == number)
    }
}

/// Hands a call to its program. A panic there costs this call its answer, not the socket its task.
pub fn run(program: &dyn Program, call: Call, responder: Responder) {
    let (number, procedure) = (call.info.program, call.info.procedure);
    // The call and the responder are gone with the panic; the program looks after its own state.
    if catch_unwind(AssertUnwindSafe(|| program.dispatch(call, responder))).is_err() {
        tracing::error!(
            program = number,
            procedure,
            "a program panicked: this is a bug, the call is dropped"
        );
    }
}

fn largest(program: &dyn Program) -> usize {
    let of_version = |version: &u32| {
        (1..=MAX_PROCEDURE)
            .filter(|p| program.has_procedure(*version, *p))
            .map(|p| program.max_args(*version, p))
            .max()
            .unwrap_or(0)
    };
    program.versions().iter().map(of_version).max().unwrap_or(0)
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<u32> = self.programs.iter().map(|p| p.number()).collect();
        f.debug_struct("Router").field("programs", &numbers).finish_non_exhaustive()
    }
}
