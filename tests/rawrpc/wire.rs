//! RPC messages by hand, and a connection that sends and receives them. Must never hide bytes from a test.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use lockferry_xdr::{Encode, Reader, Writer};

use super::PATIENCE;

/// What a reply says (RFC 5531 section 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Accepted, with the results.
    Success(Vec<u8>),
    ProgUnavail,
    ProgMismatch(u32, u32),
    ProcUnavail,
    GarbageArgs,
    SystemErr,
    /// Rejected, with the rest of the message.
    Denied(Vec<u8>),
}

impl Answer {
    /// The results; panics if the call was not accepted.
    pub(crate) fn results(self) -> Vec<u8> {
        match self {
            Answer::Success(results) => results,
            other => panic!("the call was not accepted: {other:?}"),
        }
    }
}

/// A call with AUTH_SYS credentials of root.
pub(crate) fn call(xid: u32, program: u32, version: u32, procedure: u32, args: &[u8]) -> Vec<u8> {
    call_as(0, xid, program, version, procedure, args)
}

/// A call with AUTH_SYS credentials of a user.
pub(crate) fn call_as(
    uid: u32,
    xid: u32,
    program: u32,
    version: u32,
    procedure: u32,
    args: &[u8],
) -> Vec<u8> {
    let mut cred = Vec::new();
    let mut w = Writer::new(&mut cred);
    w.u32(1); // stamp
    w.opaque_var(b"test");
    w.u32(uid);
    w.u32(uid);
    w.u32(0); // no further groups
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    for word in [xid, 0, 2, program, version, procedure, 1] {
        w.u32(word);
    }
    w.opaque_var(&cred);
    w.u32(0); // verifier AUTH_NONE
    w.u32(0);
    out.extend_from_slice(args);
    out
}

/// The header of a call: xid, program, version, procedure, and the arguments.
pub(crate) fn parse_call(message: &[u8]) -> Option<(u32, u32, u32, u32, Vec<u8>)> {
    let mut r = Reader::new(message);
    let xid = r.u32().ok()?;
    if r.u32().ok()? != 0 || r.u32().ok()? != 2 {
        return None;
    }
    let (program, version, procedure) = (r.u32().ok()?, r.u32().ok()?, r.u32().ok()?);
    for _ in 0..2 {
        r.u32().ok()?;
        r.opaque_var(400).ok()?;
    }
    Some((xid, program, version, procedure, r.remaining().to_vec()))
}

/// A reply that accepts a call.
pub(crate) fn success(xid: u32, results: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    for word in [xid, 1, 0, 0, 0, 0] {
        w.u32(word);
    }
    out.extend_from_slice(results);
    out
}

/// A reply "program unavailable".
pub(crate) fn prog_unavail(xid: u32) -> Vec<u8> {
    [xid, 1, 0, 0, 0, 1].iter().flat_map(|w: &u32| w.to_be_bytes()).collect()
}

/// The xid of a reply and what it says.
pub(crate) fn parse_reply(message: &[u8]) -> (u32, Answer) {
    let mut r = Reader::new(message);
    let mut word = || r.u32().expect("a whole reply");
    let xid = word();
    assert_eq!(word(), 1, "a reply");
    if word() != 0 {
        return (xid, Answer::Denied(message[12..].to_vec()));
    }
    assert_eq!((word(), word()), (0, 0), "an empty verifier");
    let answer = match word() {
        0 => Answer::Success(message[24..].to_vec()),
        1 => Answer::ProgUnavail,
        2 => Answer::ProgMismatch(word(), word()),
        3 => Answer::ProcUnavail,
        4 => Answer::GarbageArgs,
        5 => Answer::SystemErr,
        other => panic!("accept_stat {other}"),
    };
    (xid, answer)
}

/// A record in one fragment.
pub(crate) fn record(message: &[u8]) -> Vec<u8> {
    let mut out = (0x8000_0000 | message.len() as u32).to_be_bytes().to_vec();
    out.extend_from_slice(message);
    out
}

enum Socket {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

/// A connection (or UDP socket) from one address to one port.
pub(crate) struct Conn {
    socket: Socket,
    next_xid: u32,
    /// Bytes of a record that has not come whole yet.
    partial: Vec<u8>,
}

impl Conn {
    /// A TCP connection from an address.
    pub(crate) fn tcp(from: impl Into<IpAddr>, to: impl Into<SocketAddr>) -> Self {
        let (from, to) = (from.into(), to.into());
        Self::try_tcp(from, to).unwrap_or_else(|e| panic!("cannot connect from {from} to {to}: {e}"))
    }

    /// The same, if it can be made.
    pub(crate) fn try_tcp(from: impl Into<IpAddr>, to: SocketAddr) -> std::io::Result<Self> {
        Self::try_tcp_at(SocketAddr::new(from.into(), 0), to)
    }

    /// The same from a port.
    pub(crate) fn try_tcp_at(from: SocketAddr, to: SocketAddr) -> std::io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        socket.set_tcp_nodelay(true)?;
        Ok(Self::new(Socket::Tcp(socket.into())))
    }

    /// A UDP socket at an address.
    pub(crate) fn udp(from: impl Into<IpAddr>, to: impl Into<SocketAddr>) -> Self {
        let socket = UdpSocket::bind((from.into(), 0)).unwrap();
        socket.connect(to.into()).unwrap();
        Self::new(Socket::Udp(socket))
    }

    fn new(socket: Socket) -> Self {
        // Unlike those of other connections, so that a test never meets the reply cache by accident.
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self { socket, next_xid: number << 16, partial: Vec::new() }
    }

    /// A fresh transaction id.
    pub(crate) fn xid(&mut self) -> u32 {
        self.next_xid += 1;
        self.next_xid
    }

    /// Ends the connection at once, as a broken one does, and makes it anew from the same port.
    pub(crate) fn reconnect(&mut self) {
        let stream = self.stream();
        let (from, to) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
        // The old one must be closed before its port can be used again.
        self.socket = Socket::Udp(UdpSocket::bind((from.ip(), 0)).unwrap());
        self.partial.clear();
        self.socket = Self::try_tcp_at(from, to).unwrap().socket;
    }

    /// Its own address and port.
    pub(crate) fn local(&self) -> SocketAddr {
        match &self.socket {
            Socket::Tcp(s) => s.local_addr().unwrap(),
            Socket::Udp(s) => s.local_addr().unwrap(),
        }
    }

    /// The TCP stream below.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        match &mut self.socket {
            Socket::Tcp(s) => s,
            Socket::Udp(_) => panic!("UDP has no stream"),
        }
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, message: &[u8]) {
        self.try_send(message).unwrap();
    }

    /// The same on a connection that may have ended.
    pub(crate) fn try_send(&mut self, message: &[u8]) -> std::io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(s) => s.write_all(&record(message)),
            Socket::Udp(s) => s.send(message).map(drop),
        }
    }

    /// The next message. `None`: nothing came within `limit`, or the connection ended.
    pub(crate) fn receive(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(message) = self.whole() {
                return Some(message);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let mut buffer = vec![0; 65536];
            let got = match &mut self.socket {
                Socket::Tcp(s) => {
                    s.set_read_timeout(Some(left)).unwrap();
                    s.read(&mut buffer)
                }
                Socket::Udp(s) => {
                    s.set_read_timeout(Some(left)).unwrap();
                    s.recv(&mut buffer)
                }
            };
            match got {
                Ok(0) => return None,
                Ok(n) if matches!(self.socket, Socket::Udp(_)) => return Some(buffer[..n].to_vec()),
                Ok(n) => self.partial.extend_from_slice(&buffer[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return None,
            }
        }
    }

    fn whole(&mut self) -> Option<Vec<u8>> {
        let head: [u8; 4] = self.partial.get(..4)?.try_into().unwrap();
        let head = u32::from_be_bytes(head);
        assert!(head & 0x8000_0000 != 0, "replies come in one fragment");
        let length = (head & 0x7fff_ffff) as usize;
        if self.partial.len() < 4 + length {
            return None;
        }
        let rest = self.partial.split_off(4 + length);
        let message = std::mem::replace(&mut self.partial, rest);
        Some(message[4..].to_vec())
    }

    /// Calls and waits; `None`: no answer within `limit`, or the connection has ended.
    pub(crate) fn call_within(
        &mut self,
        limit: Duration,
        (program, version, procedure): (u32, u32, u32),
        args: &[u8],
    ) -> Option<Answer> {
        let xid = self.xid();
        self.try_send(&call(xid, program, version, procedure, args)).ok()?;
        self.answer_to(xid, limit)
    }

    /// Waits for the answer to a call that was sent.
    pub(crate) fn answer_to(&mut self, xid: u32, limit: Duration) -> Option<Answer> {
        let deadline = Instant::now() + limit;
        loop {
            let message = self.receive(deadline.saturating_duration_since(Instant::now()))?;
            let (got, answer) = parse_reply(&message);
            if got == xid {
                return Some(answer);
            }
        }
    }

    /// Calls and waits; panics if no answer comes.
    pub(crate) fn call(&mut self, procedure: (u32, u32, u32), args: &[u8]) -> Answer {
        self.call_within(PATIENCE, procedure, args)
            .unwrap_or_else(|| panic!("no answer to {procedure:?} within {PATIENCE:?}"))
    }

    /// The same with arguments that encode themselves.
    pub(crate) fn ask(&mut self, procedure: (u32, u32, u32), args: &impl Encode) -> Answer {
        self.call(procedure, &args.to_bytes())
    }
}
