//! The part of a TCP connection that others reach: programs that answer, and the server that tells it to end.
//! Whoever has a reply writes it, if the socket takes it at once; what it does not take is the connection's task's. Must never wait for a
//! socket.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::super::dispatch::Router;
use super::super::drc::Token;
use super::super::turn::{self, AtEnd};
use super::super::types::ReplySink;
use super::limits::ServerLimits;
use super::outbox::{Outbox, SLICES};

/// What a connection is told from outside, in rising urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Control {
    /// Go on.
    Run = 0,
    /// Take no more calls, answer those in flight, close.
    Drain = 1,
    /// Close.
    Close = 2,
    /// Reset: the peer learns at once that this address does not answer any more.
    Reset = 3,
}

/// The part of a connection that others reach: programs that answer, and the server.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) router: Arc<Router>,
    queue: Mutex<Queue>,
    sending: Mutex<Sending>,
    /// Bytes in `sending` that are not written yet.
    unsent: AtomicUsize,
    /// Bytes that the socket has taken since it was opened.
    taken: AtomicU64,
    pub(super) wake: Notify,
    control: AtomicU8,
    pub(super) start: Instant,
    /// Milliseconds after `start`, which all connections of a server have in common.
    last_active: AtomicU64,
}

/// Replies that came in, and the calls that are out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) outbox: Outbox,
    calls: Vec<InFlight>,
    free: Vec<u32>,
    weight: usize,
    /// What the task, which sleeps, wants to be woken by.
    pub(super) armed: Armed,
    /// The connection is gone.
    pub(super) closed: bool,
}

/// When a connection's task is woken because of replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Armed {
    /// It does not sleep: it looks by itself before it does.
    #[default]
    No,
    /// When the socket takes no more.
    IfBlocked,
    /// By each reply: it waits for room, or for the last one.
    Always,
}

/// The way out.
#[derive(Debug, Default)]
struct Sending {
    /// `None`: the connection is gone.
    stream: Option<Arc<TcpStream>>,
    writing: Outbox,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    token: Token,
    weight: usize,
}

impl Queue {
    /// How many calls have no answer yet.
    pub(super) fn in_flight(&self) -> usize {
        self.calls.len() - self.free.len()
    }

    /// Whether another call may come in, while `writing` bytes of earlier replies are being written.
    pub(super) fn has_room(&self, limits: &ServerLimits, writing: usize) -> bool {
        let unsent = self.outbox.bytes() + writing;
        self.in_flight() < limits.calls && self.weight + unsent < limits.load && unsent < limits.unsent
    }
}

impl Shared {
    pub(super) fn new(
        id: u64,
        peer: SocketAddr,
        local: SocketAddr,
        router: Arc<Router>,
        start: Instant,
    ) -> Self {
        let shared = Self {
            id,
            peer,
            local,
            router,
            queue: Mutex::default(),
            sending: Mutex::default(),
            unsent: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            wake: Notify::new(),
            control: AtomicU8::new(Control::Run as u8),
            start,
            last_active: AtomicU64::new(0),
        };
        shared.touch(Instant::now());
        shared
    }

    /// The replies that wait and the calls that are out.
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replies leave by this socket from here on.
    pub(super) fn open(&self, stream: Arc<TcpStream>) {
        self.sending().stream = Some(stream);
    }

    /// Nothing leaves any more: the task alone has the socket.
    pub(super) fn close(&self) {
        *self.sending() = Sending::default();
        self.unsent.store(0, Ordering::Relaxed);
    }

    /// Bytes that the socket did not take yet.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Bytes that the socket has taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Writes what the socket takes now.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) fn flush(&self) -> io::Result<()> {
        let mut sending = self.sending();
        let Sending { stream, writing } = &mut *sending;
        let Some(stream) = stream else { return Ok(()) };
        loop {
            writing.append(&mut self.queue().outbox);
            // Reset: the peer learns of it before it learns anything more.
            if writing.is_empty() || self.order() == Control::Reset {
                break;
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = writing.slices(&mut slices);
            match stream.try_write_vectored(&slices[..used]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    writing.advance(n);
                    self.taken.fetch_add(n as u64, Ordering::Relaxed);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        self.unsent.store(writing.bytes(), Ordering::Relaxed);
        Ok(())
    }

    fn sending(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the connection's task what to do; a less urgent order does not replace a more urgent one.
    pub(super) fn control(&self, order: Control) {
        self.control.fetch_max(order as u8, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// The most urgent order so far.
    pub(super) fn order(&self) -> Control {
        match self.control.load(Ordering::Relaxed) {
            0 => Control::Run,
            1 => Control::Drain,
            2 => Control::Close,
            _ => Control::Reset,
        }
    }

    /// Notes that the peer has sent something.
    pub(super) fn touch(&self, now: Instant) {
        let ms = now.saturating_duration_since(self.start).as_millis() as u64;
        self.last_active.store(ms, Ordering::Relaxed);
    }

    pub(super) fn last_active_ms(&self) -> u64 {
        self.last_active.load(Ordering::Relaxed)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue().in_flight() == 0
    }

    /// Notes a call that is handed to its program; the answer names the ticket.
    pub(super) fn begin(&self, token: Token, weight: usize) -> u64 {
        let mut queue = self.queue();
        queue.weight += weight;
        let call = InFlight { token, weight };
        match queue.free.pop() {
            Some(ticket) => {
                queue.calls[ticket as usize] = call;
                u64::from(ticket)
            }
            None => {
                queue.calls.push(call);
                queue.calls.len() as u64 - 1
            }
        }
    }
}

impl AtEnd for Shared {
    fn at_end(self: Arc<Self>) {
        let lost = self.flush().is_err();
        let mut queue = self.queue();
        let wakes = match queue.armed {
            Armed::No => false,
            // What is lost the task finds out for itself.
            Armed::IfBlocked => lost || self.unsent() > 0,
            Armed::Always => true,
        };
        if wakes {
            queue.armed = Armed::No;
            drop(queue);
            self.wake.notify_one();
        }
    }
}

impl ReplySink for Shared {
    fn send_reply(self: Arc<Self>, ticket: u64, reply: Option<Vec<u8>>) {
        let mut queue = self.queue();
        let Some(call) = queue.calls.get(ticket as usize).copied() else { return };
        queue.free.push(ticket as u32);
        queue.weight -= call.weight;
        // Before the reply can be seen, so that a repetition finds it. The cache's lock is taken inside ours,
        // never the other way round.
        self.router.finish(call.token, reply.as_deref());
        if let Some(reply) = reply.filter(|_| !queue.closed) {
            queue.outbox.push(reply);
        }
        drop(queue);
        if !turn::put_off(&self) {
            self.at_end();
        }
    }
}
