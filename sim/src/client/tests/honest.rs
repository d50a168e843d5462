//! A lock server that is right and knows of no trouble: every range in one list.

use std::collections::VecDeque;

use lockferry::service::nlm::wire::{self, LockArg, Request};
use lockferry::state::{Mode, Range};

use super::*;

/// Whose: a client's name, and an owner number.
type Key = (Vec<u8>, u32);

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    key: Key,
    handle: Vec<u8>,
    range: Range,
    mode: Mode,
}

/// The server. Everything it sends goes into a list: to whom (by name), and what.
#[derive(Default)]
pub(super) struct Honest {
    held: Vec<Entry>,
    waiting: VecDeque<Entry>,
    grants: u32,
    pub(super) refused_grants: u32,
}

impl Entry {
    fn new(arg: &LockArg<'_>, mode: Mode) -> Self {
        let key = (arg.name.to_vec(), arg.svid);
        Self { key, handle: arg.handle.to_vec(), range: arg.range.expect("a range"), mode }
    }

    fn meets(&self, other: &Entry) -> bool {
        self.handle == other.handle && self.range.overlaps(other.range)
    }

    fn conflicts(&self, other: &Entry) -> bool {
        let exclusive = self.mode == Mode::Exclusive || other.mode == Mode::Exclusive;
        self.meets(other) && self.key != other.key && exclusive
    }
}

impl Honest {
    /// The answer to a call, then callbacks.
    pub(super) fn call(&mut self, message: &[u8], out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        let Some(header) = message::parse_call(message) else { return };
        let mut reply = message::begin_reply(header.xid);
        let args = &message[header.args..];
        if header.program != message::NLM || !matches!(header.procedure, 1..=4 | 6..=9) {
            return;
        }
        let Ok(parsed) = wire::parse(4, header.procedure, args) else { return };
        let (name, status, holder) = self.decide(&parsed.request);
        message::write_result(&mut reply, parsed.cookie, status);
        if let Some(holder) = holder {
            let mut w = Writer::new(&mut reply);
            w.bool(holder.mode == Mode::Exclusive);
            w.u32(holder.key.1);
            w.opaque_var(b"holder");
            w.u64(holder.range.start);
            w.u64(holder.range.nlm_len());
        }
        out.push((name, reply));
        self.serve_waiting(out);
    }

    fn decide(&mut self, request: &Request<'_>) -> (Vec<u8>, u32, Option<Entry>) {
        let (entry, status, holder) = match request {
            Request::Test(arg, mode) => {
                let entry = Entry::new(arg, *mode);
                let holder = self.held.iter().find(|held| held.conflicts(&entry)).cloned();
                (entry, u32::from(holder.is_some()), holder)
            }
            Request::Lock { lock, mode, block, .. } => {
                let entry = Entry::new(lock, *mode);
                let status = self.lock(&entry, *block);
                (entry, status, None)
            }
            Request::Cancel(arg, mode) => {
                let entry = Entry::new(arg, *mode);
                self.waiting.retain(|waiting| *waiting != entry);
                (entry, GRANTED, None)
            }
            Request::Unlock(arg) => {
                let entry = Entry::new(arg, Mode::Shared);
                self.free(&entry);
                self.waiting.retain(|waiting| !(waiting.meets(&entry) && waiting.key == entry.key));
                (entry, GRANTED, None)
            }
            other => panic!("{other:?}"),
        };
        (entry.key.0, status, holder)
    }

    fn lock(&mut self, entry: &Entry, block: bool) -> u32 {
        if !self.held.iter().any(|held| held.conflicts(entry)) {
            self.waiting.retain(|waiting| waiting != entry);
            self.take(entry.clone());
            return GRANTED;
        }
        if !block {
            return DENIED;
        }
        if !self.waiting.contains(entry) {
            self.waiting.push_back(entry.clone());
        }
        BLOCKED
    }

    fn take(&mut self, entry: Entry) {
        self.free(&entry);
        self.held.push(entry);
    }

    fn free(&mut self, entry: &Entry) {
        for old in std::mem::take(&mut self.held) {
            if !(old.meets(entry) && old.key == entry.key) {
                self.held.push(old);
                continue;
            }
            let (start, end) = (entry.range.start, entry.range.end);
            if old.range.start < start {
                self.held
                    .push(Entry { range: Range::new(old.range.start, start - 1).unwrap(), ..old.clone() });
            }
            if old.range.end > end {
                self.held.push(Entry { range: Range::new(end + 1, old.range.end).unwrap(), ..old.clone() });
            }
        }
    }

    fn serve_waiting(&mut self, out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        for _ in 0..self.waiting.len() {
            let Some(entry) = self.waiting.pop_front() else { return };
            if self.held.iter().any(|held| held.conflicts(&entry)) {
                self.waiting.push_back(entry);
                continue;
            }
            self.grants += 1;
            let mut message = message::Template::new(b"s").begin(self.grants, message::NLM, 4, 5);
            let (mode, (name, svid)) = (entry.mode, &entry.key);
            let cookie = self.grants.to_be_bytes();
            let mut w = Writer::new(&mut message);
            wire::write_granted(4, &cookie, mode, name, &entry.handle, b"oh", *svid, entry.range, &mut w);
            out.push((name.clone(), message));
            self.take(entry);
        }
    }

    /// What a client answers to a GRANTED.
    pub(super) fn granted_answered(&mut self, reply: &[u8]) {
        self.refused_grants += u32::from(!reply.ends_with(&[0; 4]));
    }

    /// What a client's owner has, by handle and range.
    pub(super) fn held_by(&self, name: &[u8], svid: u32) -> Vec<(Vec<u8>, Range, Mode)> {
        let of = self.held.iter().filter(|held| held.key.0 == name && held.key.1 == svid);
        of.map(|held| (held.handle.clone(), held.range, held.mode)).collect()
    }
}
