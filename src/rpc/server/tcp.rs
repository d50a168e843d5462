//! One TCP connection: reads, hands calls to the programs, writes what they answer. One task each, and no
//! buffer of its own while nothing is half done. Must never wait for a program.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tracing::debug;

use super::super::dispatch::{Action, run};
use super::super::header::CallHeader;
use super::super::record::{Assembler, Step};
use super::super::turn;
use super::super::types::{Call, CallInfo, Responder, Transport};
use super::connections::Connections;
use super::limits::ServerLimits;
use super::shared::{Armed, Control, Shared};

/// Bytes per read. The buffer belongs to the thread, not to the connection.
const READ_SIZE: usize = 64 * 1024;
/// Reads before replies are written and others get their turn.
const READS_PER_TURN: usize = 4;
/// Calls before others get their turn.
const CALLS_PER_TURN: usize = 64;
/// The same in time: a call may take a millisecond when clients crowd one file.
const TURN: Duration = Duration::from_millis(1);
/// How long a peer whose record was refused may go on sending it before it is cut off.
const LINGER: Duration = Duration::from_secs(1);

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
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
    stream: Arc<TcpStream>,
    shared: Arc<Shared>,
    common: Arc<Common>,
    assembler: Assembler,
    /// No more is read: the peer has closed its side, or sent what makes no sense.
    no_more: bool,
    /// The budget set aside for the record that is coming in.
    permit: Option<OwnedSemaphorePermit>,
    waiting: Option<WaitForBudget>,
    /// Input that was read but must wait, and how much of it is used.
    stash: Option<(Vec<u8>, usize)>,
    /// Until when the record must be complete.
    record_deadline: Option<Instant>,
    /// Bytes that the peer had taken when that was last looked at.
    taken: u64,
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
        let stream = Arc::new(stream);
        shared.open(stream.clone());
        Self {
            stream,
            shared,
            common,
            assembler,
            no_more: false,
            permit: None,
            waiting: None,
            stash: None,
            record_deadline: None,
            taken: 0,
            write_deadline: None,
            refused: false,
            _registered: registered,
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) {
        let end = self.serve().await;
        self.shared.queue().closed = true;
        self.shared.close();
        if self.refused && matches!(end, End::Close) {
            self.linger().await;
        }
        if matches!(end, End::Reset) || self.shared.order() == Control::Reset {
            // If it fails the connection is closed normally, which the peer understands too.
            let _ = self.stream.set_zero_linger();
        }
    }

    /// Lets the peer read the last reply: a close with unread input would throw it away.
    async fn linger(&mut self) {
        let _ = socket2::SockRef::from(self.stream.as_ref()).shutdown(std::net::Shutdown::Write);
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
        let told = async {
            while self.shared.order() < Control::Close {
                self.shared.wake.notified().await;
            }
        };
        tokio::select! {
            () = discard => {}
            () = told => {}
            () = tokio::time::sleep(LINGER) => {}
        }
    }

    async fn serve(&mut self) -> End {
        let first_check = tokio::time::Instant::now() + self.common.limits.idle;
        let mut sleep = std::pin::pin!(tokio::time::sleep_until(first_check));
        loop {
            let order = self.shared.order();
            if order == Control::Reset {
                return End::Reset; // before anything more is written
            }
            if let Err(error) = self.flush() {
                debug!(peer = %self.shared.peer, %error, "connection lost");
                return End::Close;
            }
            if order == Control::Close {
                return End::Close;
            }
            let (in_flight, room) = {
                let mut queue = self.shared.queue();
                let unsent = self.shared.unsent();
                if !queue.outbox.is_empty() && unsent == 0 {
                    continue;
                }
                let room = queue.has_room(&self.common.limits, unsent);
                let each = !room || self.no_more || self.stash.is_some() || order != Control::Run;
                queue.armed = if each { Armed::Always } else { Armed::IfBlocked };
                (queue.in_flight(), room)
            };
            if order == Control::Drain {
                (self.no_more, self.stash, self.waiting) = (true, None, None);
            }
            if self.stash.is_some() && self.waiting.is_none() && room {
                match self.unstash() {
                    Ok(()) => {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    Err(end) => return end,
                }
            }
            if self.no_more && self.stash.is_none() && in_flight == 0 && self.shared.unsent() == 0 {
                return End::Close;
            }
            let reads = !self.no_more && room && self.stash.is_none() && self.waiting.is_none();
            self.pause_deadline(reads);
            self.set_timer(sleep.as_mut());
            match self.wait(sleep.as_mut(), reads).await {
                Event::Read => match self.read() {
                    Ok(()) => {}
                    Err(end) => return end,
                },
                Event::Look => {}
                Event::Timer => {
                    if self.is_overdue() {
                        return End::Close;
                    }
                    self.next_check(sleep.as_mut());
                }
                Event::Budget(permit) => {
                    self.permit = permit;
                    self.waiting = None;
                }
            }
        }
    }

    async fn wait(&mut self, sleep: Pin<&mut Sleep>, reads: bool) -> Event {
        let interest = match (reads, self.shared.unsent() > 0) {
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
                Some(wait) => wait.await,
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
        self.shared.flush()?;
        let taken = self.shared.taken();
        // A peer that takes some has as long again.
        if self.shared.unsent() == 0 || std::mem::replace(&mut self.taken, taken) != taken {
            self.write_deadline = None;
        }
        if self.shared.unsent() > 0 {
            let deadline = Instant::now() + self.common.limits.record_timeout;
            self.write_deadline.get_or_insert(deadline);
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), End> {
        let mut scratch = SCRATCH.take();
        scratch.resize(READ_SIZE, 0);
        let mut result = Ok(());
        for _ in 0..READS_PER_TURN {
            match read_some(&self.stream, &mut scratch) {
                Ok(0) => self.no_more = true,
                Ok(n) => {
                    result = turn::during(|| self.process(&scratch[..n])).map(|used| {
                        if used < n {
                            self.stash = Some((scratch[used..n].to_vec(), 0));
                        }
                    });
                    if n == scratch.len() && result.is_ok() && self.stash.is_none() && !self.no_more {
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

    /// Goes on with input that had to wait.
    fn unstash(&mut self) -> Result<(), End> {
        if let Some((bytes, from)) = self.stash.take() {
            let used = from + turn::during(|| self.process(&bytes[from..]))?;
            if used < bytes.len() {
                self.stash = Some((bytes, used));
            }
        }
        Ok(())
    }

    /// Takes calls out of `input` as long as there is room, but no more than a turn's; returns how much of it is used.
    fn process(&mut self, input: &[u8]) -> Result<usize, End> {
        let now = Instant::now();
        self.shared.touch(now);
        let shared = self.shared.clone();
        let local = shared.local.ip();
        let mut judge = |header: &CallHeader| shared.router.judge(header, &local);
        let mut rest = input;
        let mut calls = 0;
        loop {
            match self.assembler.next(&mut rest, &mut judge) {
                Step::NeedInput => return Ok(input.len()),
                Step::Call { header, args, reserved } => {
                    calls += 1;
                    self.call(now, header, args, reserved);
                }
                Step::Reserve(bytes) => {
                    if !self.reserve(bytes) {
                        break;
                    }
                    continue;
                }
                Step::Refuse { reply, close } => {
                    self.permit = None;
                    shared.queue().outbox.push(reply);
                    if close {
                        (self.no_more, self.refused) = (true, true);
                        return Ok(input.len());
                    }
                }
                Step::Close(reason) => {
                    debug!(peer = %shared.peer, %reason, "connection closed");
                    self.no_more = true;
                    return Ok(input.len());
                }
                Step::Unserved => return Err(End::Reset),
            }
            let over = calls >= CALLS_PER_TURN || now.elapsed() >= TURN;
            if over || !shared.queue().has_room(&self.common.limits, shared.unsent()) {
                break;
            }
        }
        Ok(input.len() - rest.len())
    }

    /// Sets budget aside for the record coming in; false: it must be waited for.
    fn reserve(&mut self, bytes: usize) -> bool {
        // A record over the whole budget takes all of it rather than wait for ever.
        let bytes = bytes.min(self.common.limits.budget) as u32;
        let budget = self.common.budget.clone();
        if let Ok(permit) = budget.clone().try_acquire_many_owned(bytes) {
            self.permit = Some(permit);
            return true;
        }
        self.waiting = Some(Box::pin(async move { budget.acquire_many_owned(bytes).await.ok() }));
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
            Action::Reply(reply) => shared.queue().outbox.push(reply),
            Action::Drop => {}
            Action::Dispatch(program, call, token) => {
                let ticket = shared.begin(token, weight);
                run(program.as_ref(), call, Responder::new(shared.clone(), ticket, xid));
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

    fn is_overdue(&self) -> bool {
        let now = Instant::now();
        let past = |deadline: Instant| deadline <= now;
        if self.deadlines().into_iter().flatten().any(past) {
            debug!(peer = %self.shared.peer, "connection closed: a record or a write took too long");
            return true;
        }
        let busy = !self.shared.is_idle() || self.shared.unsent() > 0 || self.waiting.is_some();
        !busy && past(self.idle_deadline())
    }
}

/// Reads once. A read that does not fill the buffer has taken all there was: the socket counts as drained until it has something new, as
/// the runtime does it for its own reads, and the read that would only find nothing is saved.
fn read_some(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = None;
    let read = stream.try_io(Interest::READABLE, || {
        let n = nix::sys::socket::recv(stream.as_raw_fd(), buffer, nix::sys::socket::MsgFlags::empty())?;
        got = Some(n);
        // Should more have come meanwhile, that is an event that this does not take back.
        if n > 0 && n < buffer.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match (got, read) {
        (Some(n), _) => Ok(n),
        (None, Err(e)) => Err(e),
        (None, Ok(())) => Err(io::ErrorKind::WouldBlock.into()),
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
