//! Many connections with many calls in flight, in one thread: whatever has come is read at once, and what follows is written at once.
//!
//! Must never wait for one connection while another has something, nor count what was asked before the measuring began.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::message;

/// Bytes per read.
const READ: usize = 256 << 10;
/// No answer for so long: the server has stopped answering.
const SILENCE: Duration = Duration::from_secs(300);
/// Latencies are counted up to a minute, by three digits.
const LONGEST_NS: u64 = 60_000_000_000;

/// What is asked.
pub(crate) trait Job {
    /// Appends the next request of a slot, a record with this xid. False: the slot has no more.
    fn next(&mut self, slot: usize, xid: u32, out: &mut Vec<u8>) -> bool;
    /// Hears the status of what a slot asked last.
    ///
    /// # Errors
    /// It is not what it must be.
    fn answered(&mut self, slot: usize, status: u32) -> Result<(), String>;
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) answers: u64,
    pub(crate) lasted: Duration,
    pub(crate) latencies: Histogram<u64>,
}

/// When measuring begins, and when it ends; `None`: with the last request of the job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) warm_up: Duration,
    pub(crate) measure: Option<Duration>,
}

struct Conn {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of the output is written.
    written: usize,
    wants_to_write: bool,
}

struct Slot {
    xid: u32,
    sent: Instant,
}

/// The connections.
pub(crate) struct Pipeline {
    epoll: Epoll,
    conns: Vec<Conn>,
    slots: Vec<Slot>,
    in_flight: usize,
    scratch: Vec<u8>,
}

impl Pipeline {
    /// Connects `conns` times, each for `depth` slots; the slots of a connection are `conn * depth` and those after it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn connect(
        from: Option<Ipv4Addr>,
        to: SocketAddrV4,
        conns: usize,
        depth: usize,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        let mut all = Vec::new();
        for n in 0..conns {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            if let Some(from) = from {
                socket.bind(&SocketAddr::from((from, 0)).into())?;
            }
            socket.connect(&SocketAddr::V4(to).into())?;
            let stream = TcpStream::from(socket);
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll.add(stream.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, n as u64))?;
            all.push(Conn {
                stream,
                input: Vec::new(),
                output: Vec::new(),
                written: 0,
                wants_to_write: false,
            });
        }
        let now = Instant::now();
        let slots = (0..conns * depth).map(|_| Slot { xid: 0, sent: now }).collect();
        Ok(Self { epoll, conns: all, slots, in_flight: 0, scratch: vec![0; READ] })
    }

    /// Asks until the time is over, or the job is done; every answer is waited for. `begin` is called when the measuring begins.
    ///
    /// # Errors
    /// A connection is lost, an answer makes no sense or does not come.
    pub(crate) fn run(
        &mut self,
        job: &mut dyn Job,
        span: Span,
        begin: &mut dyn FnMut(),
    ) -> Result<Measured, String> {
        let depth = self.slots.len() / self.conns.len().max(1);
        let mut latencies = Histogram::new_with_bounds(1, LONGEST_NS, 3).map_err(|e| e.to_string())?;
        let from = Instant::now() + span.warm_up;
        let until = span.measure.map(|measure| from + measure);
        let mut began = span.warm_up.is_zero();
        if began {
            begin();
        }
        let (mut answers, mut end) = (0, None);
        for conn in 0..self.conns.len() {
            for slot in conn * depth..(conn + 1) * depth {
                self.ask(job, conn, slot, Instant::now());
            }
            self.write(conn).map_err(|e| e.to_string())?;
        }
        let mut events = vec![EpollEvent::empty(); self.conns.len()];
        while self.in_flight > 0 {
            let timeout = EpollTimeout::try_from(SILENCE).map_err(|e| e.to_string())?;
            let ready = self.epoll.wait(&mut events, timeout).map_err(|e| e.to_string())?;
            if ready == 0 {
                return Err(format!("no answer for {SILENCE:?}, {} calls in flight", self.in_flight));
            }
            for event in &events[..ready] {
                let conn = event.data() as usize;
                let lost = |e: io::Error| format!("connection {conn} is lost: {e}");
                let got = self.read(conn).map_err(lost)?;
                let now = Instant::now();
                if !began && now >= from {
                    began = true;
                    begin();
                }
                let over = until.is_some_and(|until| now >= until);
                if over {
                    end.get_or_insert(now);
                }
                let mut at = 0;
                while let Some(len) = message::whole(&self.conns[conn].input[at..]) {
                    let record = &self.conns[conn].input[at + 4..at + len];
                    at += len;
                    let Some((xid, status)) = message::status(record) else {
                        return Err(format!("an answer makes no sense: {record:02x?}"));
                    };
                    let slot = (xid & 0xffff) as usize;
                    if self.slots.get(slot).is_none_or(|slot| slot.xid != xid) {
                        return Err(format!("an answer to nothing that was asked: xid {xid:#x}"));
                    }
                    self.in_flight -= 1;
                    if began && end.is_none() {
                        answers += 1;
                        let took = now.saturating_duration_since(self.slots[slot].sent).as_nanos();
                        latencies.saturating_record((took as u64).max(1));
                    }
                    job.answered(slot, status)?;
                    if !over {
                        self.ask(job, conn, slot, now);
                    }
                }
                self.conns[conn].input.drain(..at);
                if got || self.conns[conn].wants_to_write {
                    self.write(conn).map_err(lost)?;
                }
            }
        }
        let lasted = end.unwrap_or_else(Instant::now).saturating_duration_since(from);
        Ok(Measured { answers, lasted, latencies })
    }

    fn ask(&mut self, job: &mut dyn Job, conn: usize, at: usize, now: Instant) {
        let slot = &mut self.slots[at];
        slot.xid = (slot.xid & !0xffff).wrapping_add(0x1_0000) | at as u32;
        slot.sent = now;
        if job.next(at, slot.xid, &mut self.conns[conn].output) {
            self.in_flight += 1;
        }
    }

    /// Reads what is there.
    fn read(&mut self, conn: usize) -> io::Result<bool> {
        let Self { conns, scratch, .. } = self;
        let conn = &mut conns[conn];
        match conn.stream.read(scratch) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                conn.input.extend_from_slice(&scratch[..n]);
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn write(&mut self, at: usize) -> io::Result<()> {
        let conn = &mut self.conns[at];
        while conn.written < conn.output.len() {
            match conn.stream.write(&conn.output[conn.written..]) {
                Ok(n) => conn.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        let left = conn.written < conn.output.len();
        if !left {
            conn.output.clear();
            conn.written = 0;
        }
        if left != conn.wants_to_write {
            conn.wants_to_write = left;
            let write = if left { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
            let mut event = EpollEvent::new(EpollFlags::EPOLLIN | write, at as u64);
            self.epoll.modify(conn.stream.as_fd(), &mut event)?;
        }
        Ok(())
    }
}

/// A request that was made before, with another xid.
pub(crate) fn again(request: &[u8], xid: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&request[..4]);
    out.extend_from_slice(&xid.to_be_bytes());
    out.extend_from_slice(&request[8..]);
}
