//! One UDP socket: answers calls from the address they were sent to, and can send calls of ours from its own
//! port. One task each. Must never wait for a program, nor answer what is not a call.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tracing::debug;

use super::super::dispatch::{Action, Router, run};
use super::super::drc::Token;
use super::super::header::{CALL, CallHeader, Parsed, REPLY, Refusal, message_type, parse_call};
use super::super::pending::{Expected, Pending};
use super::super::record::Verdict;
use super::super::types::{Call, CallInfo, ReplySink, Responder, Transport};
use super::canonical;
use super::limits::ServerLimits;
use super::pktinfo::{Received, control_buffer, receive, send};
use super::shared::Control;

/// The largest datagram, and more than UDP can carry.
const DATAGRAM: usize = 64 * 1024;
/// The most payload UDP over IPv4 carries.
const MAX_REPLY: usize = 65_507;
/// Datagrams before replies are sent and others get their turn.
const DATAGRAMS_PER_TURN: usize = 64;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A UDP socket that serves. Cheap to share; others use it to send calls "from the port it was asked on".
#[derive(Debug)]
pub struct UdpEndpoint {
    socket: UdpSocket,
    bound: SocketAddr,
    queue: Mutex<Queue>,
    wake: Notify,
    control: AtomicU8,
    in_flight: AtomicUsize,
    weight: AtomicUsize,
    pending: Pending,
    limits: ServerLimits,
}

#[derive(Debug, Default)]
struct Queue {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
    armed: bool,
}

#[derive(Debug)]
struct Datagram {
    peer: SocketAddr,
    source: Option<IpAddr>,
    interface: u32,
    data: Vec<u8>,
}

/// Where the reply to one call goes.
struct ReplyPath {
    endpoint: Arc<UdpEndpoint>,
    router: Arc<Router>,
    peer: SocketAddr,
    local: IpAddr,
    interface: u32,
    program: u32,
    token: Token,
    weight: usize,
}

impl ReplySink for ReplyPath {
    fn send_reply(self: Arc<Self>, _ticket: u64, reply: Option<Vec<u8>>) {
        let reply = reply.filter(|_| self.router.still_serves(self.program, &self.local)).map(fitting);
        self.router.finish(self.token, reply.as_deref());
        let endpoint = &self.endpoint;
        if let Some(data) = reply {
            let (peer, source, interface) = (self.peer, Some(self.local), self.interface);
            endpoint.queue_datagram(Datagram { peer, source, interface, data });
        }
        endpoint.weight.fetch_sub(self.weight, Ordering::Relaxed);
        // After the reply is queued: a draining socket closes once nothing is in flight.
        endpoint.in_flight.fetch_sub(1, Ordering::Release);
        if endpoint.control.load(Ordering::Relaxed) != Control::Run as u8 {
            endpoint.wake.notify_one();
        }
    }
}

/// A reply that UDP cannot carry becomes SYSTEM_ERR.
fn fitting(reply: Vec<u8>) -> Vec<u8> {
    match message_type(&reply) {
        Some((xid, _)) if reply.len() > MAX_REPLY => Refusal::SystemErr.encode(xid),
        _ => reply,
    }
}

impl UdpEndpoint {
    pub(super) fn new(
        socket: std::net::UdpSocket,
        bound: SocketAddr,
        limits: ServerLimits,
    ) -> io::Result<Self> {
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            bound,
            queue: Mutex::default(),
            wake: Notify::new(),
            control: AtomicU8::new(Control::Run as u8),
            in_flight: AtomicUsize::new(0),
            weight: AtomicUsize::new(0),
            pending: Pending::default(),
            limits,
        })
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.bound
    }

    /// Claims the reply that `peer` will send to `xid`.
    pub(in super::super) fn expect(&self, xid: u32, peer: SocketAddr) -> Expected {
        self.pending.expect(xid, canonical(peer))
    }

    /// Sends a message of ours to `peer`, from `source` if given.
    pub(in super::super) fn send_message(&self, peer: SocketAddr, source: Option<IpAddr>, data: Vec<u8>) {
        self.queue_datagram(Datagram { peer, source, interface: 0, data });
    }

    pub(super) fn control(&self, order: Control) {
        self.control.fetch_max(order as u8, Ordering::Relaxed);
        self.wake.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue_datagram(&self, datagram: Datagram) {
        let mut queue = self.queue();
        if queue.bytes > self.limits.udp_bytes {
            return; // as if it was lost on the way: the peer repeats its call
        }
        queue.bytes += datagram.data.len();
        queue.datagrams.push_back(datagram);
        if std::mem::take(&mut queue.armed) {
            drop(queue);
            self.wake.notify_one();
        }
    }

    /// Serves the socket until it is told to end.
    pub(super) async fn run(self: Arc<Self>, router: Arc<Router>) {
        let mut control = control_buffer();
        loop {
            // Read before the queue is looked at: see `send_reply`.
            let idle = self.in_flight.load(Ordering::Acquire) == 0;
            let blocked = !self.flush();
            let order = self.control.load(Ordering::Relaxed);
            {
                let mut queue = self.queue();
                if !queue.datagrams.is_empty() && !blocked {
                    continue;
                }
                if order >= Control::Close as u8 || (order == Control::Drain as u8 && idle && !blocked) {
                    self.pending.clear();
                    return;
                }
                queue.armed = true;
            }
            let mut interest = Interest::READABLE;
            if blocked {
                interest |= Interest::WRITABLE;
            }
            let reads = order == Control::Run as u8;
            tokio::select! {
                ready = self.socket.ready(interest), if reads || blocked => {
                    if reads && ready.is_ok_and(|r| r.is_readable()) {
                        self.read(&router, &mut control);
                    }
                }
                () = self.wake.notified() => {}
            }
        }
    }

    /// Sends what is queued; false if the socket takes no more now.
    fn flush(&self) -> bool {
        loop {
            let batch = {
                let mut queue = self.queue();
                queue.bytes = 0;
                std::mem::take(&mut queue.datagrams)
            };
            if batch.is_empty() {
                return true;
            }
            let mut batch = batch.into_iter();
            while let Some(d) = batch.next() {
                let fd = self.socket.as_raw_fd();
                let sent = self
                    .socket
                    .try_io(Interest::WRITABLE, || send(fd, &d.data, d.peer, d.source, d.interface));
                match sent {
                    Ok(()) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        self.put_back(d, batch);
                        return false;
                    }
                    Err(error) => debug!(peer = %d.peer, source = ?d.source, %error, "datagram not sent"),
                }
            }
        }
    }

    fn put_back(&self, first: Datagram, rest: std::collections::vec_deque::IntoIter<Datagram>) {
        let mut queue = self.queue();
        let newer = std::mem::take(&mut queue.datagrams);
        queue.datagrams = std::iter::once(first).chain(rest).chain(newer).collect();
        queue.bytes = queue.datagrams.iter().map(|d| d.data.len()).sum();
    }

    fn read(self: &Arc<Self>, router: &Arc<Router>, control: &mut [u8]) {
        let mut scratch = SCRATCH.take();
        scratch.resize(DATAGRAM, 0);
        let now = Instant::now();
        for _ in 0..DATAGRAMS_PER_TURN {
            let fd = self.socket.as_raw_fd();
            match self.socket.try_io(Interest::READABLE, || receive(fd, &mut scratch, control)) {
                Ok(received) => self.datagram(router, now, received, &scratch[..received.len]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error of an earlier datagram: nothing of ours.
                Err(_) => {}
            }
        }
        SCRATCH.set(scratch);
    }

    fn datagram(self: &Arc<Self>, router: &Arc<Router>, now: Instant, from: Received, message: &[u8]) {
        let peer = canonical(from.peer);
        let Some((xid, kind)) = message_type(message) else { return };
        if peer.port() == 0 {
            return;
        }
        match (kind, from.local) {
            (REPLY, _) => {
                self.pending.deliver(xid, peer, message);
            }
            (CALL, Some(local)) => self.call(router, now, from, local, message),
            _ => {}
        }
    }

    fn call(
        self: &Arc<Self>,
        router: &Arc<Router>,
        now: Instant,
        from: Received,
        local: IpAddr,
        message: &[u8],
    ) {
        let reply = |data| {
            let (peer, source, interface) = (from.peer, Some(local), from.interface);
            self.queue_datagram(Datagram { peer, source, interface, data });
        };
        let (header, at) = match parse_call(message) {
            Parsed::Call(header, at) => (header, at),
            Parsed::Refuse(xid, refusal) if router.is_served(&local) => return reply(refusal.encode(xid)),
            _ => return,
        };
        let args = &message[at..];
        match router.judge(&header, &local) {
            Verdict::Unserved => return,
            Verdict::Refuse(refusal) => return reply(refusal.encode(header.xid)),
            Verdict::Accept { max_args } if args.len() > max_args => {
                return reply(Refusal::GarbageArgs.encode(header.xid));
            }
            Verdict::Accept { .. } => {}
        }
        let busy = self.in_flight.load(Ordering::Relaxed) >= self.limits.udp_calls
            || self.weight.load(Ordering::Relaxed) + args.len() > self.limits.udp_bytes;
        if busy && header.procedure != 0 {
            return debug!(peer = %from.peer, "too many calls in flight on this socket, datagram dropped");
        }
        let CallHeader { xid, program, version, procedure, cred } = header;
        let (peer, to) = (canonical(from.peer), SocketAddr::new(local, self.bound.port()));
        let transport = Transport::Udp;
        let info = CallInfo { peer, local: to, transport, xid, program, version, procedure, cred };
        match router.accept(now, Call { info, args: Bytes::copy_from_slice(args) }) {
            Action::Reply(data) => reply(data),
            Action::Drop => {}
            Action::Dispatch(program, call, token) => {
                let weight = args.len();
                self.in_flight.fetch_add(1, Ordering::Relaxed);
                self.weight.fetch_add(weight, Ordering::Relaxed);
                let (endpoint, router, interface) = (self.clone(), router.clone(), from.interface);
                let (peer, number) = (from.peer, program.number());
                let path =
                    ReplyPath { endpoint, router, peer, local, interface, program: number, token, weight };
                run(program.as_ref(), call, Responder::new(Arc::new(path), 0, xid));
            }
        }
    }
}
