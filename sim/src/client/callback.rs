//! What arrives at a client: answers to its calls, and calls of servers.
//!
//! Must never believe an answer that is not to one of its calls.

use std::net::IpAddr;

use lockferry::rpc::header::{ReplyStatus, parse_reply};
use lockferry_checker::history::{Answer, ClientId, Event, Lock, Micros, Owner as Who};

use super::book::Held;
use super::calls::{Call, Role};
use super::message::{self, GRANTED, Grant, Incoming, MSG, NLM, NOTIFY, NSM, PORTMAP, RES, RPC_FAILED};
use super::{Client, Effect, Kind};

const PROG_UNAVAIL: u32 = 1;
const PROC_UNAVAIL: u32 = 3;
const GARBAGE_ARGS: u32 = 4;

impl Client {
    /// A message that is looked at now.
    pub(super) fn handle(&mut self, now: Micros, from: IpAddr, message: &[u8], out: &mut Vec<Effect>) {
        if !message::is_call(message) {
            return self.replied(now, from, message, out);
        }
        let Some(call) = message::parse_call(message) else { return };
        let args = &message[call.args..];
        let reply = match (call.program, call.procedure) {
            (PORTMAP, _) => message::answer_port(&call, args, self.config.address),
            (NLM | NSM, 0) => Some(message::begin_reply(call.xid)),
            (NSM, NOTIFY) => Some(self.notice_comes(now, from, &call, args, out)),
            (NLM, procedure) => Some(self.nlm_called(now, from, &call, procedure, args, out)),
            _ => Some(message::failed_reply(call.xid, PROG_UNAVAIL)),
        };
        if let Some(message) = reply {
            out.push(Effect::Reply { to: from, program: call.program, message });
        }
    }

    fn replied(&mut self, now: Micros, from: IpAddr, message: &[u8], out: &mut Vec<Effect>) {
        let Some((xid, status)) = parse_reply(message) else { return };
        let Some(server) = self.server_at(from) else { return };
        match status {
            ReplyStatus::Success(at) => self.succeeded(now, server, xid, &message[at..], out),
            status => {
                let Some(call) = self.calls.find(xid, server, None).copied() else { return };
                self.answered(now, &call, Answer::Other(RPC_FAILED + number(status)), out);
            }
        }
    }

    fn succeeded(&mut self, now: Micros, server: usize, xid: u32, results: &[u8], out: &mut Vec<Effect>) {
        if results.is_empty() {
            // To SM_NOTIFY it is the answer; to a _MSG it says nothing.
            let Some(call) = self.calls.find(xid, server, None).copied() else { return };
            if call.procedure == NOTIFY {
                self.answered(now, &call, Answer::Void, out);
            }
            return;
        }
        let Some(cookie) = message::cookie_of(results) else { return };
        let Some(call) = self.calls.find(xid, server, Some(cookie)).copied() else { return };
        if let Some((_, answer)) = message::parse_answer(call.procedure, results) {
            self.answered(now, &call, answer, out);
        }
    }

    /// An answer to a call that is open, or was.
    fn answered(&mut self, now: Micros, call: &Call, answer: Answer, out: &mut Vec<Effect>) {
        out.push(Effect::Record(Event::Got { client: self.config.id, call: call.id, answer }));
        if call.done {
            self.stats.late += 1;
            return;
        }
        self.count_answer(answer);
        self.calls.close(call.id);
        match call.role {
            Role::Owner(at) => self.owner_answered(now, at, answer, out),
            Role::Reclaim(server) => self.reclaim_answered(now, server, answer, out),
            Role::Notice(server) if answer == Answer::Void => self.servers[server].untold = false,
            Role::Notice(server) => self.tell(now, server, out),
            Role::Stray => {}
        }
    }

    fn count_answer(&mut self, answer: Answer) {
        let stats = &mut self.stats;
        let counter = match answer {
            Answer::Granted => &mut stats.granted,
            Answer::Denied | Answer::Holder { .. } => &mut stats.denied,
            Answer::DeniedNolocks => &mut stats.nolocks,
            Answer::Blocked => &mut stats.blocked,
            Answer::DeniedGrace => &mut stats.grace,
            Answer::Deadlock => &mut stats.deadlocks,
            Answer::Other(_) => &mut stats.other,
            Answer::Void => &mut stats.void,
        };
        *counter += 1;
    }

    fn notice_comes(
        &mut self,
        now: Micros,
        from: IpAddr,
        call: &Incoming,
        args: &[u8],
        out: &mut Vec<Effect>,
    ) -> Vec<u8> {
        let Some((name, state)) = message::parse_notify(args) else {
            return message::failed_reply(call.xid, GARBAGE_ARGS);
        };
        self.stats.noticed += 1;
        // It mounted by address. A notice about anybody else is not about locks of its own.
        let named = name == from.to_string().as_bytes();
        self.record_notice(from, state, named, out);
        if let Some(server) = self.server_at(from).filter(|_| named) {
            self.noticed(now, server, state);
        }
        message::begin_reply(call.xid)
    }

    fn nlm_called(
        &mut self,
        now: Micros,
        from: IpAddr,
        call: &Incoming,
        procedure: u32,
        args: &[u8],
        out: &mut Vec<Effect>,
    ) -> Vec<u8> {
        const GRANTED_MSG: u32 = GRANTED + MSG;
        const FIRST_RES: u32 = message::TEST + RES;
        const LAST_RES: u32 = message::UNLOCK + RES;
        match procedure {
            GRANTED | GRANTED_MSG => {
                let Some(grant) = message::parse_granted(args) else {
                    return message::failed_reply(call.xid, GARBAGE_ARGS);
                };
                let status = u32::from(!self.granted(now, from, call.xid, &grant, out));
                let mut reply = message::begin_reply(call.xid);
                if procedure == GRANTED {
                    message::write_result(&mut reply, grant.cookie, status);
                } else {
                    self.send_granted_res(from, grant.cookie, status, out);
                }
                reply
            }
            FIRST_RES..=LAST_RES => {
                self.res_comes(now, from, procedure - RES, args, out);
                message::begin_reply(call.xid)
            }
            _ => message::failed_reply(call.xid, PROC_UNAVAIL),
        }
    }

    fn res_comes(&mut self, now: Micros, from: IpAddr, procedure: u32, args: &[u8], out: &mut Vec<Effect>) {
        let Some((cookie, answer)) = message::parse_answer(procedure, args) else { return };
        let Some(server) = self.server_at(from) else { return };
        if let Some(call) = self.calls.by_cookie(cookie, server, procedure).copied() {
            self.answered(now, &call, answer, out);
        }
    }

    /// Whether the client takes what is granted.
    fn granted(
        &mut self,
        now: Micros,
        from: IpAddr,
        xid: u32,
        grant: &Grant<'_>,
        out: &mut Vec<Effect>,
    ) -> bool {
        let file = self.config.files.iter().position(|file| file.handle == grant.handle);
        let (Some(client), Some(file)) = (self.known_name(grant.name), file) else { return false };
        let held = Held { file, bytes: grant.bytes, exclusive: grant.exclusive };
        let waiting = self.waits_for(from, client, grant.svid, &held);
        let honest = waiting.is_some() || self.took(from, client, grant.svid, xid, &held);
        let refuse = self.config.pace.refuse;
        let accepted = match self.config.kind {
            Kind::Bad => self.whim(honest),
            // It goes on waiting, and polls.
            _ if waiting.is_some() && refuse > 0 && self.random.chance(refuse) => false,
            _ => honest,
        };
        let lock = Lock {
            owner: Who { client, lm: from, svid: grant.svid },
            file: self.config.files[file].file,
            bytes: grant.bytes,
            exclusive: grant.exclusive,
        };
        out.push(Effect::Record(Event::Granted { client: self.config.id, lock, accepted }));
        if accepted {
            self.stats.accepted += 1;
        } else {
            self.stats.refused += 1;
        }
        if let (true, Some(at)) = (accepted, waiting) {
            self.owner_granted(now, at, xid);
        }
        accepted
    }

    /// The owner that waits for a lock.
    fn waits_for(&self, lm: IpAddr, client: ClientId, svid: u32, held: &Held) -> Option<usize> {
        self.owners.iter().position(|owner| {
            owner.svid == svid
                && client == self.config.id
                && self.servers[owner.server].address == lm
                && owner.wants(held)
        })
    }

    /// Whether it was accepted before: then its copies are accepted as well.
    fn took(&self, lm: IpAddr, client: ClientId, svid: u32, xid: u32, held: &Held) -> bool {
        let same = self.forgetful.then_some(xid);
        self.owners.iter().any(|owner| {
            owner.svid == svid
                && client == self.config.id
                && self.servers[owner.server].address == lm
                && owner.has_accepted(same, held)
        })
    }

    fn known_name(&self, name: &[u8]) -> Option<ClientId> {
        if name == self.config.name {
            return Some(self.config.id);
        }
        self.config.others.iter().find(|(_, other, _)| other == name).map(|(id, _, _)| *id)
    }

    fn send_granted_res(&mut self, to: IpAddr, cookie: &[u8], status: u32, out: &mut Vec<Effect>) {
        self.xid = self.xid.wrapping_add(1);
        let mut message = self.template.begin(self.xid, NLM, 4, GRANTED + RES);
        message::write_result(&mut message, cookie, status);
        let tcp = self.server_at(to).is_some_and(|server| self.servers[server].tcp);
        out.push(Effect::Call { to, program: NLM, tcp, message });
    }
}

fn number(status: ReplyStatus) -> u32 {
    match status {
        ReplyStatus::Success(_) => 0,
        ReplyStatus::ProgUnavail => PROG_UNAVAIL,
        ReplyStatus::ProgMismatch(..) => 2,
        ReplyStatus::ProcUnavail => PROC_UNAVAIL,
        ReplyStatus::GarbageArgs => GARBAGE_ARGS,
        ReplyStatus::SystemErr => 5,
        ReplyStatus::RpcMismatch => 6,
        ReplyStatus::AuthError(_) => 7,
    }
}
