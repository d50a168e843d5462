//! Where replies go: counts them, since no call may get two. Must never lose one.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockferry::rpc::dispatch::Router;
use lockferry::rpc::drc::Token;
use lockferry::rpc::{ReplySink, Responder};

/// How long a program may think. Nothing here waits for a disk, so that it is a bug long before.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came of each call: a reply, or silence.
pub struct Replies {
    router: Arc<Router>,
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, (Token, u32)>,
    done: BTreeMap<u64, Option<Vec<u8>>>,
}

impl Replies {
    /// None yet. The router's cache is told of each.
    pub fn new(router: Arc<Router>) -> Arc<Self> {
        Arc::new(Self { router, table: Mutex::default(), changed: Condvar::new() })
    }

    /// The right to answer a call, and its ticket.
    pub fn open(self: &Arc<Self>, token: Token, xid: u32) -> (u64, Responder) {
        let mut table = self.table();
        table.next += 1;
        let ticket = table.next;
        table.open.insert(ticket, (token, xid));
        (ticket, Responder::new(self.clone(), ticket, xid))
    }

    /// What came of a call, if it is done.
    pub fn take(&self, ticket: u64) -> Option<Option<Vec<u8>>> {
        self.table().done.remove(&ticket)
    }

    /// The same; waits for it.
    ///
    /// # Panics
    /// It was neither answered nor dropped.
    pub fn wait(&self, ticket: u64) -> Option<Vec<u8>> {
        let table = self.table();
        let pending = |table: &mut Table| !table.done.contains_key(&ticket);
        let waited = self.changed.wait_timeout_while(table, PATIENCE, pending);
        let (mut table, _) = waited.unwrap_or_else(PoisonError::into_inner);
        table.done.remove(&ticket).expect("a call is answered or dropped")
    }

    /// How many calls are neither answered nor dropped.
    pub fn open_count(&self) -> usize {
        self.table().open.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReplySink for Replies {
    fn send_reply(self: Arc<Self>, ticket: u64, reply: Option<Vec<u8>>) {
        let opened = self.table().open.remove(&ticket);
        let (token, xid) = opened.expect("a call is answered once");
        if let Some(reply) = &reply {
            let said = lockferry::rpc::header::parse_reply(reply).map(|(xid, _)| xid);
            assert_eq!(said, Some(xid), "a reply is one, and to the call that was made");
        }
        self.router.finish(token, reply.as_deref());
        self.table().done.insert(ticket, reply);
        self.changed.notify_all();
    }
}
