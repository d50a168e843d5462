//! From a request to its bytes and its record, for the first time and again.
//!
//! Must never send a second transmission of a call that differs from the first in a byte.

use std::net::IpAddr;

use lockferry_checker::history::{CallId, Event, Micros, Request};

use super::calls::{Call, Role};
use super::message::{self, Args, CANCEL, LOCK, MSG, NLM, NOTIFY, NSM, TEST, UNLOCK};
use super::{Client, Effect, Kind, NEVER, SECOND, Stats};

/// Notices are repeated at least this often.
const NOTICE_PAUSE: Micros = 60 * SECOND;

/// A call that is still to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) server: usize,
    pub(super) file: usize,
    pub(super) role: Role,
    pub(super) request: Request,
    /// As in [`Call::name`].
    pub(super) name: usize,
    /// An xid that was used before.
    pub(super) xid: Option<u32>,
}

impl Client {
    /// Makes a call; returns its number.
    pub(super) fn call(&mut self, now: Micros, plan: Plan, out: &mut Vec<Effect>) -> CallId {
        self.count += 1;
        self.cookie += 1;
        self.xid = self.xid.wrapping_add(1);
        let procedure = procedure_of(&plan.request);
        let pause = match (plan.role, self.servers[plan.server].tcp) {
            (Role::Notice(_), _) => 2 * SECOND,
            (_, false) => SECOND,
            (_, true) => 10 * SECOND,
        };
        let call = Call {
            id: CallId(u64::from(self.config.id.0) << 40 | self.count),
            xid: plan.xid.unwrap_or(self.xid),
            cookie: self.cookie,
            server: plan.server,
            file: plan.file,
            role: plan.role,
            request: plan.request,
            procedure,
            name: plan.name,
            due: now + pause,
            pause: pause * 2,
            done: false,
        };
        count(&mut self.stats, &plan.request);
        self.send(&call, out);
        self.calls.add(call);
        call.id
    }

    /// Sends the open call at this place again.
    pub(super) fn resend(&mut self, now: Micros, at: usize, out: &mut Vec<Effect>) {
        let longest = self.longest;
        let call = &mut self.calls.open_mut()[at];
        let longest = if matches!(call.role, Role::Notice(_)) { NOTICE_PAUSE } else { longest };
        let pause = call.pause.min(longest);
        (call.due, call.pause) = (now + pause, pause * 2);
        if call.role == Role::Stray {
            call.due = NEVER;
        }
        let call = *call;
        self.stats.repeats += 1;
        self.send(&call, out);
    }

    /// Sends all that is unanswered on connections to that address again.
    pub(super) fn resend_all(&mut self, now: Micros, to: IpAddr, out: &mut Vec<Effect>) {
        for at in 0..self.calls.open().len() {
            let call = &self.calls.open()[at];
            let server = &self.servers[call.server];
            if server.address == to && server.tcp && call.procedure != NOTIFY && call.role != Role::Stray {
                self.resend(now, at, out);
            }
        }
    }

    /// Sends any of the calls that are remembered again, whether it is answered or not.
    pub(super) fn send_old(&mut self, pick: u64, out: &mut Vec<Effect>) {
        if let Some(call) = self.calls.any(pick).copied() {
            self.stats.repeats += 1;
            self.send(&call, out);
        }
    }

    fn send(&self, call: &Call, out: &mut Vec<Effect>) {
        let server = &self.servers[call.server];
        let client = self.config.id;
        out.push(Effect::Record(Event::Sent { client, call: call.id, request: call.request }));
        let notice = call.procedure == NOTIFY && matches!(call.request, Request::Notify { .. });
        out.push(Effect::Call {
            to: server.address,
            program: if notice { NSM } else { NLM },
            tcp: server.tcp && !notice,
            message: self.encode(call),
        });
    }

    fn encode(&self, call: &Call) -> Vec<u8> {
        let name = self.name(call.name);
        if let Request::Notify { state, .. } = call.request {
            let mut out = self.template.begin(call.xid, NSM, 1, NOTIFY);
            message::write_notify(&mut out, name, state);
            return out;
        }
        let asynchronous = if self.config.kind == Kind::Async { MSG } else { 0 };
        let mut out = self.template.begin(call.xid, NLM, 4, call.procedure + asynchronous);
        if let Some(args) = self.args(call, name) {
            message::write_args(&mut out, &args);
        }
        out
    }

    fn args<'a>(&'a self, call: &Call, name: &'a [u8]) -> Option<Args<'a>> {
        let (owner, bytes, exclusive) = match call.request {
            Request::Lock { lock, .. } | Request::Cancel { lock } | Request::Test { lock } => {
                (lock.owner, lock.bytes, lock.exclusive)
            }
            Request::Unlock { owner, bytes, .. } => (owner, bytes, false),
            Request::Notify { .. } => return None,
        };
        let (block, reclaim, state) = match call.request {
            Request::Lock { block, reclaim, state, .. } => (block, reclaim, state),
            _ => (true, false, 0),
        };
        Some(Args {
            procedure: call.procedure,
            cookie: call.cookie,
            name,
            handle: &self.config.files[call.file].handle,
            svid: owner.svid,
            bytes,
            exclusive,
            block,
            reclaim,
            state,
        })
    }

    /// Its own name (0), or that of one of the others.
    pub(super) fn name(&self, which: usize) -> &[u8] {
        match which.checked_sub(1).and_then(|other| self.config.others.get(other)) {
            Some((_, name, _)) => name,
            None => &self.config.name,
        }
    }
}

fn procedure_of(request: &Request) -> u32 {
    match request {
        Request::Lock { .. } => LOCK,
        Request::Unlock { .. } => UNLOCK,
        Request::Cancel { .. } => CANCEL,
        Request::Test { .. } => TEST,
        Request::Notify { .. } => NOTIFY,
    }
}

fn count(stats: &mut Stats, request: &Request) {
    let counter = match request {
        Request::Lock { reclaim: true, .. } => &mut stats.reclaims,
        Request::Lock { .. } => &mut stats.locks,
        Request::Unlock { .. } => &mut stats.unlocks,
        Request::Cancel { .. } => &mut stats.cancels,
        Request::Test { .. } => &mut stats.tests,
        Request::Notify { .. } => &mut stats.notices,
    };
    *counter += 1;
}
