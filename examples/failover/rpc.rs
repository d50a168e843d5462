//! ONC RPC as a client speaks it: one TCP connection from the client's own address, made anew when it breaks, calls repeated until
//! they are answered. None of it is the server's code.
//!
//! Must never take an answer for another call's: each is known by its transaction id, which a repetition keeps.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lockferry_xdr::rpc::{
    AUTH_NONE, AUTH_SYS, AcceptedReply, AuthsysParms, CallBody, OpaqueAuth, RPC_VERSION, ReplyBody,
    ReplyData, RpcMsg, RpcMsgBody,
};
use lockferry_xdr::{Decode, Encode, Reader};

use crate::failure::Failure;

/// A call that is not answered within this is given up, and the demo with it.
const GIVE_UP: Duration = Duration::from_secs(20);
/// A call is sent again after this long, then after twice as long...
const FIRST_AGAIN: Duration = Duration::from_millis(50);
/// ...up to this.
const LAST_AGAIN: Duration = Duration::from_millis(500);
/// Pause between two tries to connect, while nobody listens.
const CONNECT_PAUSE: Duration = Duration::from_millis(5);
/// Longest message that is read.
const MAX_MESSAGE: usize = 64 << 10;

/// A program, its version, and a procedure of it.
pub(crate) type Procedure = (u32, u32, u32);

/// A connection of one client to one port.
pub(crate) struct Connection {
    from: Ipv4Addr,
    to: SocketAddrV4,
    stream: Option<TcpStream>,
}

impl Connection {
    pub(crate) fn new(from: Ipv4Addr, to: SocketAddrV4) -> Self {
        Self { from, to, stream: None }
    }

    /// Calls, and returns the results.
    pub(crate) fn call(&mut self, what: Procedure, args: &impl Encode) -> Result<Vec<u8>, Failure> {
        let xid = next_xid();
        let message = call_message(xid, what, &args.to_bytes());
        let deadline = Instant::now() + GIVE_UP;
        let mut again = FIRST_AGAIN;
        while Instant::now() < deadline {
            match self.once(xid, &message, again) {
                Ok(Some(reply)) => return results(&reply),
                Ok(None) => again = (again * 2).min(LAST_AGAIN),
                // The server is gone, or the address; whoever has it next gets the same call.
                Err(_) => {
                    self.stream = None;
                    std::thread::sleep(CONNECT_PAUSE);
                }
            }
        }
        Err(Failure::TooLong(format!("an answer from {} to {what:?}", self.to)))
    }

    fn once(&mut self, xid: u32, message: &[u8], wait: Duration) -> std::io::Result<Option<Vec<u8>>> {
        if self.stream.is_none() {
            self.stream = Some(connect(self.from, self.to)?);
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        stream.write_all(&record(message))?;
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            stream.set_read_timeout(Some(left))?;
            match read_record(stream) {
                Ok(reply) if reply.starts_with(&xid.to_be_bytes()) => return Ok(Some(reply)),
                Ok(_) => {}
                Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(why) => return Err(why),
            }
        }
    }
}

fn connect(from: Ipv4Addr, to: SocketAddrV4) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&SocketAddr::from(to).into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

fn next_xid() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn call_message(xid: u32, (prog, vers, proc): Procedure, args: &[u8]) -> Vec<u8> {
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    let me = AuthsysParms { stamp: 0, machinename: b"demo", uid, gid, gids: Vec::new() }.to_bytes();
    let cred = OpaqueAuth { flavor: AUTH_SYS, body: &me };
    let verf = OpaqueAuth { flavor: AUTH_NONE, body: b"" };
    let body = RpcMsgBody::Call(CallBody { rpcvers: RPC_VERSION, prog, vers, proc, cred, verf });
    let mut message = RpcMsg { xid, body }.to_bytes();
    message.extend_from_slice(args);
    message
}

/// What follows a reply that accepts the call.
fn results(reply: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut r = Reader::new(reply);
    match RpcMsg::decode(&mut r)?.body {
        RpcMsgBody::Reply(ReplyBody::MsgAccepted(AcceptedReply {
            reply_data: ReplyData::Success, ..
        })) => Ok(r.remaining().to_vec()),
        other => Err(Failure::Strange(format!("{other:?}"))),
    }
}

/// A reply that accepts a call.
pub(crate) fn success(xid: u32, results: &[u8]) -> Vec<u8> {
    accepted(xid, ReplyData::Success, results)
}

/// A reply to a call that nothing is known about.
pub(crate) fn unavailable(xid: u32) -> Vec<u8> {
    accepted(xid, ReplyData::Default(lockferry_xdr::rpc::AcceptStat::ProgUnavail), &[])
}

fn accepted(xid: u32, reply_data: ReplyData, results: &[u8]) -> Vec<u8> {
    let verf = OpaqueAuth { flavor: AUTH_NONE, body: b"" };
    let body = RpcMsgBody::Reply(ReplyBody::MsgAccepted(AcceptedReply { verf, reply_data }));
    let mut message = RpcMsg { xid, body }.to_bytes();
    message.extend_from_slice(results);
    message
}

/// A message as a record of one fragment (RFC 5531, 11).
pub(crate) fn record(message: &[u8]) -> Vec<u8> {
    let mut record = (0x8000_0000 | message.len() as u32).to_be_bytes().to_vec();
    record.extend_from_slice(message);
    record
}

/// Reads a record of one fragment. A time-out in the middle of one loses the connection's place, so the caller then drops it.
pub(crate) fn read_record(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let length = (u32::from_be_bytes(head) & 0x7fff_ffff) as usize;
    if length > MAX_MESSAGE {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    // The rest is on its way: the time-out was for the answer to come at all.
    stream.set_read_timeout(Some(GIVE_UP))?;
    stream.read_exact(&mut message).map_err(|_| std::io::Error::from(ErrorKind::UnexpectedEof))?;
    Ok(message)
}
