//! Calls of ours that wait for their reply on a socket that also serves: (xid, peer) -> who waits.
//! Pure. Must never deliver a reply that came from another address than the call went to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

type Table = HashMap<(u32, SocketAddr), oneshot::Sender<Bytes>>;

/// The calls that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    table: Arc<Mutex<Table>>,
}

/// The claim to one reply. Dropped, the reply is not waited for any more.
#[derive(Debug)]
pub(super) struct Expected {
    table: Arc<Mutex<Table>>,
    key: (u32, SocketAddr),
    reply: oneshot::Receiver<Bytes>,
}

impl Pending {
    /// Waits for the reply to `xid` from `peer`. A second claim to the same one ends the first.
    pub(super) fn expect(&self, xid: u32, peer: SocketAddr) -> Expected {
        let (sender, reply) = oneshot::channel();
        let key = (xid, peer);
        lock(&self.table).insert(key, sender);
        Expected { table: self.table.clone(), key, reply }
    }

    /// Hands a reply message to whoever waits for it; nobody: false.
    pub(super) fn deliver(&self, xid: u32, peer: SocketAddr, message: &[u8]) -> bool {
        match lock(&self.table).remove(&(xid, peer)) {
            Some(waiting) => waiting.send(Bytes::copy_from_slice(message)).is_ok(),
            None => false,
        }
    }

    /// Ends all claims: their replies cannot come any more.
    pub(super) fn clear(&self) {
        lock(&self.table).clear();
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        lock(&self.table).len()
    }
}

impl Expected {
    /// The reply message, or None if it cannot come any more. Cancel safe.
    pub(super) async fn reply(&mut self) -> Option<Bytes> {
        (&mut self.reply).await.ok()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        // Closing first tells our own entry from a later claim to the same key.
        self.reply.close();
        let mut table = lock(&self.table);
        if table.get(&self.key).is_some_and(oneshot::Sender::is_closed) {
            table.remove(&self.key);
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reply_reaches_the_call_it_answers_and_no_other() {
        let pending = Pending::default();
        let (a, b) = (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2)));
        let mut first = pending.expect(1, a);
        let second = pending.expect(1, b);
        assert!(!pending.deliver(2, a, b"x"));
        assert!(pending.deliver(1, a, b"one"));
        assert_eq!(first.reply().await.as_deref(), Some(&b"one"[..]));
        drop(second);
        assert!(!pending.deliver(1, b, b"late"));
        assert_eq!(pending.len(), 0);
    }
}
