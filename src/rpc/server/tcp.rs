//! One TCP connection: reads, hands calls to the programs, writes what they answer. One task each, and no
//! buffer of its own while nothing is half done. Must never wait for a program.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tracing::debug;

use super::super::dispatch::{Action, Router};
use super::super::drc::Token;
use super::super::header::CallHeader;
use super::super::record::{Assembler, Step};
use super::super::types::{Call, CallInfo, ReplySink, Responder, Transport};
use super::connections::Connections;
use super::limits::ServerLimits;
use super::outbox::{Outbox, SLICES};

/// Bytes per read. The buffer belongs to the thread, not to the connection.
const READ_SIZE: usize = 64 * 1024;
/// Reads before replies are written and others get their turn.
const READS_PER_TURN: usize = 4;
/// How long a peer whose record was refused may go on sending it before it is cut off.
const LINGER: Duration = Duration::from_secs(1);

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

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
    router: Arc<Router>,
    queue: Mutex<Queue>,
    wake: Notify,
    control: AtomicU8,
    start: Instant,
    /// Milliseconds after `start`, which all connections of a server have in common.
    last_active: AtomicU64,
}

/// Replies that came in, and the calls that are out.
#[derive(Debug, Default)]
struct Queue {
    outbox: Outbox,
    calls: Vec<InFlight>,
    free: Vec<u32>,
    weight: usize,
    /// The task sleeps and wants to be woken by the next reply.
    armed: bool,
    /// The connection is gone.
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    token: Token,
    weight: usize,
}

impl Queue {
    fn in_flight(&self) -> usize {
        self.calls.len() - self.free.len()
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
            wake: Notify::new(),
            control: AtomicU8::new(Control::Run as u8),
            start,
            last_active: AtomicU64::new(0),
        };
        shared.touch(Instant::now());
        shared
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the connection's task what to do; a less urgent order does not replace a more urgent one.
    pub(super) fn control(&self, order: Control) {
        self.control.fetch_max(order as u8, Ordering::Relaxed);
        self.wake.notify_one();
    }

    fn order(&self) -> Control {
        match self.control.load(Ordering::Relaxed) {
            0 => Control::Run,
            1 => Control::Drain,
            2 => Control::Close,
            _ => Control::Reset,
        }
    }

    fn touch(&self, now: Instant) {
        let ms = now.saturating_duration_since(self.start).as_millis() as u64;
        self.last_active.store(ms, Ordering::Relaxed);
    }

    pub(super) fn last_active_ms(&self) -> u64 {
        self.last_active.load(Ordering::Relaxed)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue().in_flight() == 0
    }

    fn begin(&self, token: Token, weight: usize) -> u64 {
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

impl ReplySink for Shared {
    fn send_reply(&self, ticket: u64, reply: Option<Vec<u8>>) {
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
        if std::mem::take(&mut queue.armed) {
            drop(queue);
            self.wake.notify_one();
        }
    }
}

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) limits: ServerLimits,
    pub(super) budget: Arc<Semaphore>,
    pub(super) connections: Connections,
    pub(super) start: Instant,
}

/// Why a connection's task ended.
enum End {
    Close,
    Reset,
}

type WaitForBudget = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>;

/// A connection's task.
pub(super) struct Connection {
    stream: TcpStream,
    shared: Arc<Shared>,
    common: Arc<Common>,
    assembler: Assembler,
    writing: Outbox,
    /// No more is read: the peer has closed its side, or sent what makes no sense.
    no_more: bool,
    /// The budget set aside for the record that is coming in.
    permit: Option<OwnedSemaphorePermit>,
    waiting: Option<(WaitForBudget, Vec<u8>)>,
    /// Until when the record must be complete.
    record_deadline: Option<Instant>,
    /// Until when the peer must have taken some of what is being written.
    write_deadline: Option<Instant>,
    /// It ends because of a record that was refused and is too long to be skipped.
    refused: bool,
    /// Last, so that the socket is closed before anybody is told.
    _registered: Registered,
}

/// Takes the connection off the list when its task ends, in whatever way.
struct Registered(Arc<Common>, u64);

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.connections.remove(self.1);
    }
}

impl Connection {
    pub(super) fn new(stream: TcpStream, shared: Arc<Shared>, common: Arc<Common>) -> Self {
        let assembler = Assembler::new(shared.router.max_args());
        let registered = Registered(common.clone(), shared.id);
        Self {
            stream,
            shared,
            common,
            assembler,
            writing: Outbox::default(),
            no_more: false,
            permit: None,
            waiting: None,
            record_deadline: None,
            write_deadline: None,
            refused: false,
            _registered: registered,
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) {
        let end = self.serve().await;
        self.shared.queue().closed = true;
        if let End::Reset = end {
            // If it fails the connection is closed normally, which the peer understands too.
            let _ = self.stream.set_zero_linger();
        }
        if self.refused {
            self.linger().await;
        }
    }

    /// Lets the peer read the last reply: a close with unread input would throw it away.
    async fn linger(&mut self) {
        let _ = socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write);
        let discard = async {
            let mut buffer = [0; 4096];
            while self.stream.readable().await.is_ok() {
                match self.stream.try_read(&mut buffer) {
                    Ok(0) => return,
                    Err(e) if e.kind() != io::ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, discard).await;
    }

    async fn serve(&mut self) -> End {
        let first_check = tokio::time::Instant::now() + self.common.limits.idle;
        let mut sleep = std::pin::pin!(tokio::time::sleep_until(first_check));
        loop {
            if let Err(error) = self.flush() {
                debug!(peer = %self.shared.peer, %error, "connection lost");
                return End::Close;
            }
            let order = self.shared.order();
            match order {
                Control::Reset => return End::Reset,
                Control::Close => return End::Close,
                Control::Run | Control::Drain => {}
            }
            let (in_flight, weight) = {
                let mut queue = self.shared.queue();
                if !queue.outbox.is_empty() && self.writing.is_empty() {
                    continue;
                }
                queue.armed = true;
                (queue.in_flight(), queue.weight + queue.outbox.bytes() + self.writing.bytes())
            };
            let ending = self.no_more || order == Control::Drain;
            if ending && in_flight == 0 && self.writing.is_empty() {
                return End::Close;
            }
            let limits = &self.common.limits;
            let room =
                in_flight < limits.calls && weight < limits.load && self.writing.bytes() < limits.unsent;
            let reads = !ending && room && self.waiting.is_none();
            self.pause_deadline(reads);
            self.set_timer(sleep.as_mut());
            match self.wait(sleep.as_mut(), reads).await {
                Event::Read => match self.read() {
                    Ok(()) => {}
                    Err(end) => return end,
                },
                Event::Look => {}
                Event::Timer => {
                    if self.is_overdue(in_flight) {
                        return End::Close;
                    }
                    self.next_check(sleep.as_mut());
                }
                Event::Budget(permit) => {
                    self.permit = permit;
                    if let Some((_, rest)) = self.waiting.take()
                        && let Err(end) = self.process(&rest)
                    {
                        return end;
                    }
                }
            }
        }
    }

    async fn wait(&mut self, sleep: Pin<&mut Sleep>, reads: bool) -> Event {
        let interest = match (reads, !self.writing.is_empty()) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        };
        let ready = async {
            match interest {
                Some(interest) => self.stream.ready(interest).await,
                None => std::future::pending().await,
            }
        };
        let budget = async {
            match &mut self.waiting {
                Some((wait, _)) => wait.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = ready => match ready {
                Ok(ready) if reads && (ready.is_readable() || ready.is_read_closed()) => Event::Read,
                _ => Event::Look,
            },
            () = self.shared.wake.notified() => Event::Look,
            () = sleep => Event::Timer,
            permit = budget => Event::Budget(permit),
        }
    }

    /// Writes what can be written now.
    fn flush(&mut self) -> io::Result<()> {
        loop {
            self.writing.append(&mut self.shared.queue().outbox);
            if self.writing.is_empty() {
                self.write_deadline = None;
                return Ok(());
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = self.writing.slices(&mut slices);
            match self.stream.try_write_vectored(&slices[..used]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.writing.advance(n);
                    self.write_deadline = None;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let deadline = Instant::now() + self.common.limits.record_timeout;
                    self.write_deadline.get_or_insert(deadline);
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn read(&mut self) -> Result<(), End> {
        let mut scratch = SCRATCH.take();
        scratch.resize(READ_SIZE, 0);
        let mut result = Ok(());
        for _ in 0..READS_PER_TURN {
            match self.stream.try_read(&mut scratch) {
                Ok(0) => self.no_more = true,
                Ok(n) => {
                    result = self.process(&scratch[..n]);
                    if n == scratch.len() && result.is_ok() && self.waiting.is_none() && !self.no_more {
                        continue;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => result = Err(End::Close),
            }
            break;
        }
        SCRATCH.set(scratch);
        result
    }

    fn process(&mut self, mut input: &[u8]) -> Result<(), End> {
        let now = Instant::now();
        self.shared.touch(now);
        let shared = self.shared.clone();
        let local = shared.local.ip();
        let mut judge = |header: &CallHeader| shared.router.judge(header, &local);
        loop {
            match self.assembler.next(&mut input, &mut judge) {
                Step::NeedInput => break,
                Step::Call { header, args, reserved } => self.call(now, header, args, reserved),
                Step::Reserve(bytes) => {
                    if !self.reserve(bytes, input) {
                        return Ok(());
                    }
                }
                Step::Refuse { reply, close } => {
                    self.permit = None;
                    self.writing.push(reply);
                    if close {
                        (self.no_more, self.refused) = (true, true);
                        break;
                    }
                }
                Step::Close(reason) => {
                    debug!(peer = %shared.peer, %reason, "connection closed");
                    self.no_more = true;
                    break;
                }
                Step::Unserved => return Err(End::Reset),
            }
        }
        Ok(())
    }

    /// Sets budget aside for the record coming in; false: it must be waited for, and `rest` is kept.
    fn reserve(&mut self, bytes: usize, rest: &[u8]) -> bool {
        // A record over the whole budget takes all of it rather than wait for ever.
        let bytes = bytes.min(self.common.limits.budget) as u32;
        let budget = self.common.budget.clone();
        if let Ok(permit) = budget.clone().try_acquire_many_owned(bytes) {
            self.permit = Some(permit);
            return true;
        }
        let wait = Box::pin(async move { budget.acquire_many_owned(bytes).await.ok() });
        self.waiting = Some((wait, rest.to_vec()));
        false
    }

    fn call(&mut self, now: Instant, header: CallHeader, args: Bytes, reserved: bool) {
        // The next record's deadline is its own.
        self.record_deadline = None;
        let permit = self.permit.take().filter(|_| reserved);
        let args = match permit {
            Some(permit) => Bytes::from_owner(Paid { args, _permit: permit }),
            None => args,
        };
        let shared = &self.shared;
        let weight = args.len() + shared.router.max_reply(&header);
        let CallHeader { xid, program, version, procedure, cred } = header;
        let (peer, local, transport) = (shared.peer, shared.local, Transport::Tcp);
        let info = CallInfo { peer, local, transport, xid, program, version, procedure, cred };
        match shared.router.accept(now, Call { info, args }) {
            Action::Reply(reply) => self.writing.push(reply),
            Action::Drop => {}
            Action::Dispatch(program, call, token) => {
                let ticket = shared.begin(token, weight);
                program.dispatch(call, Responder::new(shared.clone(), ticket, xid));
            }
        }
    }

    /// While we do not read, a record that is not complete is not the peer's fault.
    fn pause_deadline(&mut self, reads: bool) {
        self.record_deadline = match reads && self.assembler.mid_record() {
            true => self.record_deadline.or_else(|| Some(Instant::now() + self.common.limits.record_timeout)),
            false => None,
        };
    }

    fn deadlines(&self) -> [Option<Instant>; 2] {
        [self.record_deadline, self.write_deadline]
    }

    fn idle_deadline(&self) -> Instant {
        let active = self.shared.start + Duration::from_millis(self.shared.last_active_ms());
        active + self.common.limits.idle
    }

    /// Makes the timer earlier if a deadline needs it. It is never made later here: that would cost a timer
    /// operation per record; when it fires too early it is set anew.
    fn set_timer(&self, sleep: Pin<&mut Sleep>) {
        if let Some(first) = self.deadlines().into_iter().flatten().min()
            && sleep.deadline() > first.into()
        {
            sleep.reset(first.into());
        }
    }

    fn next_check(&self, sleep: Pin<&mut Sleep>) {
        let least = Instant::now() + Duration::from_millis(100);
        let next = self.deadlines().into_iter().flatten().fold(self.idle_deadline(), Instant::min);
        sleep.reset(next.max(least).into());
    }

    fn is_overdue(&self, in_flight: usize) -> bool {
        let now = Instant::now();
        let past = |deadline: Instant| deadline <= now;
        if self.deadlines().into_iter().flatten().any(past) {
            debug!(peer = %self.shared.peer, "connection closed: a record or a write took too long");
            return true;
        }
        let busy = in_flight > 0 || !self.writing.is_empty() || self.waiting.is_some();
        !busy && past(self.idle_deadline())
    }
}

enum Event {
    Read,
    Look,
    Timer,
    Budget(Option<OwnedSemaphorePermit>),
}

/// Large arguments with what was set aside for them, given back when the program lets go of them.
struct Paid {
    args: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Paid {
    fn as_ref(&self) -> &[u8] {
        &self.args
    }
}
