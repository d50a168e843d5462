//! What asynchronous requests were answered with. The reply of their own call is empty and says nothing, so the reply cache cannot help a
//! client whose _RES was lost: its repetition gets the same _RES again.
//!
//! Must never wait, nor keep more than it says.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::answer::{Outbox, ReturnPath};
use super::{PROGRAM, wire};
use crate::rpc::drc::{DRC_ENTRIES, Key};

/// Results kept, 20,480 of about 300 bytes each and 1.3 KB at the most. More than the reply cache keeps: as long as that knows a request, its
/// repetition is no new one, and without its result it would never be answered. A quarter more, as the cache's shards do not fill evenly.
const KEPT: usize = DRC_ENTRIES / 4 * 5;
/// Requests kept whose results were dropped: as many, for the same reason.
const DROPPED: usize = KEPT;

/// Sends results, and those of repeated requests again.
pub struct Results {
    outbox: Arc<dyn Outbox>,
    sent: Mutex<Sent>,
}

#[derive(Default)]
struct Sent {
    by_key: HashMap<Key, (Message, u64)>,
    /// The oldest first. One that was sent again since is in it once more, with its new number.
    order: VecDeque<(Key, u64)>,
    /// How many were sent, for the last time.
    sendings: u64,
    /// Requests whose results were dropped: nobody has been told, and nobody will be. The oldest first.
    dropped: HashSet<Key>,
    /// In the order in which they were. Some of these have been asked for since.
    drops: VecDeque<Key>,
}

/// The result that an asynchronous request still has to get. Dropped: it gets none, as with a call that is met with silence; a repetition is
/// a new request.
pub(super) struct Owed {
    results: Arc<Results>,
    /// Unless it was sent.
    key: Option<Key>,
}

impl Owed {
    pub(super) fn new(results: Arc<Results>, key: Key) -> Self {
        Self { results, key: Some(key) }
    }

    /// The request.
    pub(super) fn key(&self) -> Option<Key> {
        self.key
    }

    pub(super) fn send(mut self, path: ReturnPath, version: u32, procedure: u32, args: Vec<u8>) {
        self.results.send(self.key.take(), path, version, procedure, args);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(key) = self.key.take().filter(|key| wire::is_cached(key.procedure)) {
            self.results.sent().note_dropped(key);
        }
    }
}

#[derive(Clone)]
struct Message {
    path: ReturnPath,
    version: u32,
    procedure: u32,
    args: Vec<u8>,
}

impl Results {
    /// Nothing was sent yet.
    pub fn new(outbox: Arc<dyn Outbox>) -> Arc<Self> {
        Arc::new(Self { outbox, sent: Mutex::default() })
    }

    /// Sends the result of the request that `key` names.
    fn send(&self, key: Option<Key>, path: ReturnPath, version: u32, procedure: u32, args: Vec<u8>) {
        if let Some(key) = key.filter(|key| wire::is_cached(key.procedure)) {
            self.sent().keep(key, Message { path, version, procedure, args: args.clone() });
        }
        self.outbox.send_res(path, version, procedure, args);
    }

    /// Takes over what another node sent from `local` (or would have sent: whether it got so far is not known) as the result of the request
    /// that `key` names. Nothing is sent. False: requests of that procedure are answered by their own reply.
    pub fn seed(&self, key: Key, local: IpAddr, args: &[u8]) -> bool {
        let Some(procedure) = wire::result_of(key.procedure).filter(|_| key.program == PROGRAM) else {
            return false;
        };
        let path = ReturnPath { local: (local, 0).into(), peer: key.peer, transport: key.transport };
        self.sent().keep(key, Message { path, version: key.version, procedure, args: args.into() });
        true
    }

    /// The request came again: so does its result, if there was one. False: it was dropped, and the request is a new one.
    pub(super) fn send_again(&self, key: &Key) -> bool {
        let mut sent = self.sent();
        let message = sent.by_key.get(key).map(|(message, _)| message.clone());
        if let Some(message) = &message {
            sent.keep(*key, message.clone());
        }
        let dropped = message.is_none() && sent.take_dropped(key);
        drop(sent);
        if let Some(Message { path, version, procedure, args }) = message {
            self.outbox.send_res(path, version, procedure, args);
        }
        !dropped
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        // Each change leaves both tables whole, or the order with a key too much.
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sent {
    fn note_dropped(&mut self, key: Key) {
        if self.dropped.insert(key) {
            self.drops.push_back(key);
        }
        while self.drops.len() > DROPPED
            && let Some(oldest) = self.drops.pop_front()
        {
            self.dropped.remove(&oldest);
        }
    }

    /// Whether the result of this request was dropped. It counts as asked for from here on.
    fn take_dropped(&mut self, key: &Key) -> bool {
        self.dropped.remove(key)
    }

    fn keep(&mut self, key: Key, message: Message) {
        self.sendings += 1;
        self.by_key.insert(key, (message, self.sendings));
        self.order.push_back((key, self.sendings));
        while self.by_key.len() > KEPT
            && let Some((oldest, sending)) = self.order.pop_front()
        {
            if self.is_last(&oldest, sending) {
                self.by_key.remove(&oldest);
            }
        }
        if self.order.len() > 2 * KEPT {
            let Self { by_key, order, .. } = self;
            order.retain(|(key, sending)| by_key.get(key).is_some_and(|(_, last)| last == sending));
        }
    }

    fn is_last(&self, key: &Key, sending: u64) -> bool {
        self.by_key.get(key).is_some_and(|(_, last)| *last == sending)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::rpc::Transport;

    fn key(xid: u32) -> Key {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 700));
        Key { peer, transport: Transport::Udp, xid, program: PROGRAM, version: 4, procedure: 7, checksum: 0 }
    }

    fn message(xid: u32) -> Message {
        let path = ReturnPath { local: key(xid).peer, peer: key(xid).peer, transport: Transport::Udp };
        Message { path, version: 4, procedure: 12, args: Vec::new() }
    }

    #[test]
    fn a_result_that_was_sent_again_is_kept_longer_than_those_sent_before_that() {
        let mut sent = Sent::default();
        let kept = KEPT as u32;
        (0..kept).for_each(|xid| sent.keep(key(xid), message(xid)));
        sent.keep(key(0), message(0));
        sent.keep(key(kept), message(kept));
        assert!(sent.by_key.contains_key(&key(0)) && !sent.by_key.contains_key(&key(1)));
        assert_eq!(sent.by_key.len(), KEPT);
    }

    #[test]
    fn a_request_whose_result_was_dropped_is_a_new_one_once_however_many_there_are() {
        let mut sent = Sent::default();
        let kept = DROPPED as u32;
        (0..=kept).for_each(|xid| sent.note_dropped(key(xid)));
        assert!(!sent.take_dropped(&key(0)), "more than the reply cache can know");
        assert!((1..=kept).all(|xid| sent.take_dropped(&key(xid)) && !sent.take_dropped(&key(xid))));
        (0..3 * kept).for_each(|xid| {
            sent.note_dropped(key(xid));
            sent.take_dropped(&key(xid));
        });
        assert!(sent.drops.len() <= DROPPED && sent.dropped.is_empty());
    }

    #[test]
    fn repetitions_do_not_grow_what_is_kept() {
        let mut sent = Sent::default();
        (0..10).for_each(|xid| sent.keep(key(xid), message(xid)));
        (0..5 * KEPT).for_each(|_| sent.keep(key(3), message(3)));
        assert!(sent.order.len() <= 2 * KEPT && sent.by_key.len() == 10);
    }
}
