//! Clients against scripted answers, and against a small honest lock server that lives in memory.

mod honest;
mod linux;
mod others;
mod together;

use std::net::{IpAddr, Ipv4Addr};

use lockferry_checker::history::{Bytes, ClientId, Event, FileId, Micros, Request};
use lockferry_xdr::Writer;

use super::message;
use super::owner::{Op, Verb};
use super::{Client, Config, Effect, FileRef, Kind, NEVER, Pace, SECOND};

const LM: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));

const GRANTED: u32 = 0;
const DENIED: u32 = 1;
const BLOCKED: u32 = 3;
const GRACE: u32 = 4;

fn address(id: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 1, id as u8))
}

fn name(id: u32) -> Vec<u8> {
    format!("client{id}").into_bytes()
}

fn config(id: u32, seed: u64, kind: Kind, pace: Pace) -> Config {
    let file =
        |n: u64| FileRef { file: FileId(n), handle: format!("handle {n}").into_bytes(), lms: vec![LM] };
    Config {
        id: ClientId(id),
        name: name(id),
        address: address(id),
        seed,
        kind,
        files: vec![file(1), file(2)],
        others: (1..4).filter(|other| *other != id).map(|n| (ClientId(n), name(n), address(n))).collect(),
        pace,
    }
}

/// A client that starts nothing by itself, and what it brought about.
struct Rig {
    client: Client,
    now: Micros,
    out: Vec<Effect>,
}

/// A call that went out: its bytes, and the request recorded with it.
#[derive(Clone, Debug, PartialEq)]
struct Out {
    message: Vec<u8>,
    request: Request,
}

impl Rig {
    fn new(kind: Kind) -> Self {
        let pace = Pace { mean: 1_000_000 * SECOND, owners: 2, ..Pace::default() };
        let mut out = Vec::new();
        let mut client = Client::new(config(1, 5, kind, pace), 0, &mut out);
        // Nobody begins anything before the tests are over.
        client.owners.iter_mut().for_each(|owner| owner.rest_until(NEVER));
        client.servers.iter_mut().for_each(|server| server.tcp = false);
        client.plan();
        Self { client, now: SECOND, out: Vec::new() }
    }

    fn start(&mut self, owner: usize, verb: Verb, start: u64, end: u64) -> Out {
        self.start_until(owner, verb, (start, end), (NEVER, false))
    }

    fn start_until(
        &mut self,
        owner: usize,
        verb: Verb,
        (start, end): (u64, u64),
        limit: (Micros, bool),
    ) -> Out {
        let op = Op { verb, file: 0, bytes: Bytes { start, end }, exclusive: true };
        self.client.start(self.now, owner, op, limit, &mut self.out);
        self.client.plan();
        self.one()
    }

    /// The calls since it was last asked; anything else is dropped.
    fn calls(&mut self) -> Vec<Out> {
        let effects = std::mem::take(&mut self.out);
        let mut calls = Vec::new();
        let mut record = None;
        for effect in effects {
            match effect {
                Effect::Record(Event::Sent { request, .. }) => record = Some(request),
                Effect::Call { message, .. } => {
                    let request = record.take().expect("a record before the call");
                    calls.push(Out { message, request });
                }
                _ => {}
            }
        }
        calls
    }

    fn one(&mut self) -> Out {
        let mut calls = self.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.remove(0)
    }

    /// Answers with a status.
    fn answer(&mut self, call: &Out, status: u32) {
        let header = message::parse_call(&call.message).unwrap();
        let cookie = &call.message[header.args + 4..header.args + 8];
        let mut reply = message::begin_reply(header.xid);
        message::write_result(&mut reply, cookie, status);
        self.client.receive(self.now, LM, &reply, &mut self.out);
    }

    /// Lets the time pass, with all that is due in it.
    fn run(&mut self, time: Micros) {
        let end = self.now + time;
        while let Some(next) = self.client.next_wake().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.client.wake(self.now, &mut self.out);
        }
        self.now = end;
    }

    /// An owner takes and gets a lock.
    fn hold(&mut self, owner: usize, start: u64, end: u64) {
        let call = self.start(owner, Verb::Lock { block: false }, start, end);
        self.answer(&call, GRANTED);
        self.client.owners[owner].rest_until(NEVER);
        self.client.plan();
    }

    /// SM_NOTIFY from the server.
    fn notify(&mut self, state: u32) {
        let mut message = self.client.template.begin(900 + state, message::NSM, 1, message::NOTIFY);
        message::write_notify(&mut message, b"10.0.0.100", state);
        self.client.receive(self.now, LM, &message, &mut self.out);
    }

    /// GRANTED from the server; whether it is accepted.
    fn granted(&mut self, xid: u32, svid: u32, start: u64, end: u64) -> bool {
        let message = granted_message(message::GRANTED, xid, &name(1), svid, (start, end));
        self.client.receive(self.now, LM, &message, &mut self.out);
        let mut events = self.out.iter().filter_map(|effect| match effect {
            Effect::Record(Event::Granted { accepted, .. }) => Some(*accepted),
            _ => None,
        });
        events.next_back().expect("a record of the callback")
    }

    fn held(&self, owner: usize) -> Vec<(u64, u64)> {
        let mut all: Vec<_> =
            self.client.owners[owner].book.held().iter().map(|h| (h.bytes.start, h.bytes.end)).collect();
        all.sort_unstable();
        all
    }
}

/// GRANTED or GRANTED_MSG as a server sends it, on the first file.
fn granted_message(procedure: u32, xid: u32, name: &[u8], svid: u32, (start, end): (u64, u64)) -> Vec<u8> {
    let mut message = message::Template::new(b"server").begin(xid, message::NLM, 4, procedure);
    let mut w = Writer::new(&mut message);
    w.opaque_var(b"cookie of the server");
    w.bool(true);
    w.opaque_var(name);
    w.opaque_var(b"handle 1");
    w.opaque_var(b"owner");
    w.u32(svid);
    w.u64(start);
    w.u64(if end == u64::MAX { 0 } else { end - start + 1 });
    message
}
