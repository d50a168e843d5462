//! The way back of one answer: the reply of its own call, or for a _MSG procedure a _RES call to the client. Must never
//! wait: both only hand bytes on.

use std::net::SocketAddr;
use std::sync::Arc;

use lockferry_xdr::Writer;

use super::results::{Owed, Results};
use super::wire::{self, Shape};
use crate::rpc::drc::Key;
use crate::rpc::{Responder, Transport};
use crate::state::Reply;

/// Where an asynchronous request came from and where it went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturnPath {
    /// The address and port the request was sent to: the answer leaves from it.
    pub local: SocketAddr,
    /// The address and port the request came from.
    pub peer: SocketAddr,
    /// How it came.
    pub transport: Transport,
}

/// Sends _RES calls to clients.
pub trait Outbox: Send + Sync + 'static {
    /// Sends one, once: a lost one is asked for again by the client. Never blocks; drops when it has too much to do.
    fn send_res(&self, path: ReturnPath, version: u32, procedure: u32, args: Vec<u8>);
}

/// The right and the way to answer one request. Dropped: silence.
pub struct Answer {
    version: u32,
    shape: Shape,
    cookie: Box<[u8]>,
    way: Way,
    /// What was written down as sent.
    written: Option<Vec<u8>>,
}

enum Way {
    /// With what a repetition of the call is known by, if its reply should outlive this node.
    Reply(Responder, Option<Key>),
    Call {
        owed: Owed,
        path: ReturnPath,
        procedure: u32,
    },
    Nowhere,
}

impl Answer {
    /// By the call's own reply.
    pub fn now(responder: Responder, version: u32, shape: Shape, cookie: &[u8]) -> Self {
        Self { version, shape, cookie: cookie.into(), way: Way::Reply(responder, None), written: None }
    }

    /// By an empty reply (SM_NOTIFY, FREE_ALL).
    pub fn void(responder: Responder) -> Self {
        Self {
            version: 0,
            shape: Shape::Void,
            cookie: Box::default(),
            way: Way::Reply(responder, None),
            written: None,
        }
    }

    /// Nobody waits for it.
    pub fn nowhere() -> Self {
        Self { version: 0, shape: Shape::Void, cookie: Box::default(), way: Way::Nowhere, written: None }
    }

    /// Whether nobody waits for it: it need not be kept.
    pub fn is_nowhere(&self) -> bool {
        matches!(self.way, Way::Nowhere)
    }

    /// By a call to the client; `key` is that of the request, which may come again.
    pub(super) fn by_call(
        results: Arc<Results>,
        key: Key,
        path: ReturnPath,
        version: u32,
        procedure: u32,
        shape: Shape,
        cookie: &[u8],
    ) -> Self {
        Self {
            version,
            shape,
            cookie: cookie.into(),
            way: Way::Call { owed: Owed::new(results, key), path, procedure },
            written: None,
        }
    }

    /// The same, for a call whose reply must be repeated by whoever serves the address when it comes again.
    pub fn kept_as(self, key: Key) -> Self {
        let way = match self.way {
            Way::Reply(responder, _) => Way::Reply(responder, Some(key)),
            other => other,
        };
        Self { way, ..self }
    }

    /// The call's key and what [`send`](Self::send) would send, if it is to be kept: the reply message, or the arguments of the _RES call.
    /// It is made once: [`send`](Self::send) must be given the same reply.
    pub fn kept(&mut self, reply: &Reply) -> Option<(Key, &[u8])> {
        let key = match &self.way {
            Way::Call { owed, .. } => owed.key(),
            Way::Reply(_, key) => *key,
            Way::Nowhere => None,
        };
        let key = key.filter(|_| *reply != Reply::Silent && !mutant!(AnswersNotKept))?;
        let write = |w: &mut Writer<'_>| wire::write_answer(self.version, self.shape, &self.cookie, reply, w);
        let bytes = match &self.way {
            Way::Reply(responder, _) => responder.render(write),
            Way::Call { .. } if wire::is_cached(key.procedure) => {
                let mut args = Vec::with_capacity(64);
                write(&mut Writer::new(&mut args));
                args
            }
            Way::Call { .. } | Way::Nowhere => return None,
        };
        Some((key, self.written.insert(bytes)))
    }

    /// Sends the answer.
    pub fn send(self, reply: Reply) {
        let Self { version, shape, cookie, way, written } = self;
        if reply == Reply::Silent {
            return;
        }
        match (way, written) {
            (Way::Reply(responder, _), Some(message)) => responder.rendered(message),
            (Way::Reply(responder, _), None) => {
                responder.success_with(|w| wire::write_answer(version, shape, &cookie, &reply, w));
            }
            (Way::Call { owed, path, procedure }, written) => {
                let args = written.unwrap_or_else(|| {
                    let mut args = Vec::with_capacity(64);
                    wire::write_answer(version, shape, &cookie, &reply, &mut Writer::new(&mut args));
                    args
                });
                owed.send(path, version, procedure, args);
            }
            (Way::Nowhere, _) => {}
        }
    }
}
