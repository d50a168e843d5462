//! What a client has asked and not heard an answer to, and when it asks again.
//!
//! Must never send: it says only what is due.

use lockferry_checker::history::{CallId, Micros, Request};

/// On whose behalf a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A process, by its place.
    Owner(usize),
    /// The reclaim of a server, by its place.
    Reclaim(usize),
    /// The notice of a reboot to a server, by its place.
    Notice(usize),
    /// Nobody: the answer is recorded, and that is all.
    Stray,
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) xid: u32,
    pub(super) cookie: u32,
    /// Which server, by its place.
    pub(super) server: usize,
    /// Which file, by its place.
    pub(super) file: usize,
    pub(super) role: Role,
    pub(super) request: Request,
    /// NLM's LOCK, UNLOCK ... in its synchronous form, or NSM's NOTIFY.
    pub(super) procedure: u32,
    /// Whose name it carries: the client's own (0), or that of one of the others.
    pub(super) name: usize,
    /// When it is sent again.
    pub(super) due: Micros,
    /// How long is waited after that.
    pub(super) pause: Micros,
    /// It is answered: kept only so that further copies of the answer are known.
    pub(super) done: bool,
}

/// The calls of a client: few at a time, so that looking at each is the quickest way to find one.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    open: Vec<Call>,
    past: Vec<Call>,
    oldest: usize,
}

/// So many answered calls are remembered.
const PAST: usize = 16;
/// So many strays may be unanswered at a time.
const STRAYS: usize = 24;

impl Calls {
    /// The procedure of the call that had this number last.
    pub(super) fn procedure_of(&self, xid: u32) -> Option<u32> {
        self.open
            .iter()
            .chain(&self.past)
            .filter(|call| call.xid == xid)
            .max_by_key(|call| call.id)
            .map(|call| call.procedure)
    }

    /// A further one.
    pub(super) fn add(&mut self, call: Call) {
        self.open.push(call);
    }

    /// Those without an answer.
    pub(super) fn open(&self) -> &[Call] {
        &self.open
    }

    /// The same, to be changed.
    pub(super) fn open_mut(&mut self) -> &mut [Call] {
        &mut self.open
    }

    /// The call that an answer belongs to. `cookie` `None`: the answer has none.
    pub(super) fn find(&self, xid: u32, server: usize, cookie: Option<u32>) -> Option<&Call> {
        let is = |call: &&Call| {
            call.xid == xid && call.server == server && cookie.is_none_or(|cookie| cookie == call.cookie)
        };
        self.open.iter().find(is).or_else(|| self.past.iter().find(is))
    }

    /// The call that a _RES belongs to.
    pub(super) fn by_cookie(&self, cookie: u32, server: usize, procedure: u32) -> Option<&Call> {
        let is = |call: &&Call| call.cookie == cookie && call.server == server && call.procedure == procedure;
        self.open.iter().find(is).or_else(|| self.past.iter().find(is))
    }

    /// Any of them, answered or not.
    pub(super) fn any(&self, pick: u64) -> Option<&Call> {
        let count = (self.open.len() + self.past.len()).max(1);
        self.open.iter().chain(&self.past).nth((pick % count as u64) as usize)
    }

    /// It is answered.
    pub(super) fn close(&mut self, id: CallId) {
        let Some(mut call) = self.remove(id) else { return };
        call.done = true;
        if self.past.len() < PAST {
            self.past.push(call);
        } else {
            self.past[self.oldest] = call;
            self.oldest = (self.oldest + 1) % PAST;
        }
    }

    /// It is given up.
    pub(super) fn remove(&mut self, id: CallId) -> Option<Call> {
        let at = self.open.iter().position(|call| call.id == id)?;
        Some(self.open.swap_remove(at))
    }

    /// The oldest stray, if there are too many.
    pub(super) fn surplus(&self) -> Option<CallId> {
        let strays = self.open.iter().filter(|call| call.role == Role::Stray);
        let (count, oldest) = strays.fold((0, None), |(count, oldest): (usize, Option<CallId>), call| {
            (count + 1, Some(oldest.map_or(call.id, |id| id.min(call.id))))
        });
        oldest.filter(|_| count > STRAYS)
    }

    /// The call of that role.
    pub(super) fn of(&self, role: Role) -> Option<&Call> {
        self.open.iter().find(|call| call.role == role)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.past.clear();
        self.oldest = 0;
    }
}
