//! A client host as the server meets it: a portmapper, a status monitor that hears "I restarted" (SM_NOTIFY), and a lock manager that
//! is called when a lock that it waited for is free (GRANTED). One port has them all; the portmapper says so.
//!
//! Must never answer for anything else.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use lockferry_xdr::nlm::{NLM_PROG, Nlm4Res, Nlm4Stat, Nlm4Stats, Nlm4Testargs, nlm_prog};
use lockferry_xdr::nsm::{SM_PROG, sm_prog};
use lockferry_xdr::portmap::{Mapping, PMAP_PROG, PMAP_VERS, pmap_prog};
use lockferry_xdr::rpc::{CallBody, RpcMsg, RpcMsgBody};
use lockferry_xdr::{Decode, Encode, Reader};

use crate::failure::{Failure, system};
use crate::rpc;

/// Longest datagram.
const MAX_DATAGRAM: usize = 64 << 10;

/// What a host hears from a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The server has restarted, and its locks are to be reclaimed.
    Restarted,
    /// The lock that was waited for is granted.
    Granted,
}

/// A host; its threads live as long as the process.
pub(crate) struct Host {
    words: Receiver<(Word, Instant)>,
}

impl Host {
    /// Listens at an address.
    pub(crate) fn start(address: Ipv4Addr, port: u16) -> Result<Self, Failure> {
        let at = SocketAddr::from((address, port));
        let taken = |what: &str| system(format!("cannot listen on {at} ({what})"));
        let udp = UdpSocket::bind(at).map_err(taken("UDP"))?;
        let tcp = TcpListener::bind(at).map_err(taken("TCP"))?;
        let (send, words) = channel();
        let more = send.clone();
        std::thread::spawn(move || datagrams(&udp, &send));
        std::thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let send = more.clone();
                std::thread::spawn(move || connection(stream, &send));
            }
        });
        Ok(Self { words })
    }

    /// Waits for a word and says when it came.
    pub(crate) fn hear(&self, word: Word, limit: Duration) -> Result<Instant, Failure> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.words.recv_timeout(left) {
                Ok((came, at)) if came == word => return Ok(at),
                Ok(_) => {}
                Err(_) => return Err(Failure::TooLong(format!("the server's word ({word:?})"))),
            }
        }
    }

    /// Forgets what was heard until now, and says whether this word was among it.
    pub(crate) fn heard(&self, word: Word) -> bool {
        self.words.try_iter().filter(|(came, _)| *came == word).count() > 0
    }
}

fn datagrams(socket: &UdpSocket, words: &Sender<(Word, Instant)>) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let Ok(own) = socket.local_addr() else { return };
        if let Some(reply) = answer(&buffer[..length], own.port(), words) {
            let _ = socket.send_to(&reply, from);
        }
    }
}

fn connection(mut stream: TcpStream, words: &Sender<(Word, Instant)>) {
    let Ok(own) = stream.local_addr() else { return };
    // Until the other end hangs up.
    while stream.set_read_timeout(None).is_ok() {
        let Ok(message) = rpc::read_record(&mut stream) else { return };
        let Some(reply) = answer(&message, own.port(), words) else { return };
        if std::io::Write::write_all(&mut stream, &rpc::record(&reply)).is_err() {
            return;
        }
    }
}

/// The reply to a call. `None`: it is no call.
fn answer(message: &[u8], port: u16, words: &Sender<(Word, Instant)>) -> Option<Vec<u8>> {
    let mut r = Reader::new(message);
    let RpcMsg { xid, body: RpcMsgBody::Call(call) } = RpcMsg::decode(&mut r).ok()? else { return None };
    let CallBody { prog, vers, proc, .. } = call;
    let results = match (prog, proc) {
        (PMAP_PROG, pmap_prog::v2::GETPORT) if vers == PMAP_VERS => {
            let known = [NLM_PROG, SM_PROG].contains(&Mapping::decode(&mut r).ok()?.prog);
            u32::from(if known { port } else { 0 }).to_be_bytes().to_vec()
        }
        (SM_PROG, sm_prog::v1::NOTIFY) => {
            // Nobody may be listening any more.
            let _ = words.send((Word::Restarted, Instant::now()));
            Vec::new()
        }
        (NLM_PROG, nlm_prog::v4::GRANTED) => {
            let cookie = Nlm4Testargs::decode(&mut r).ok()?.cookie;
            let _ = words.send((Word::Granted, Instant::now()));
            Nlm4Res { cookie, stat: Nlm4Stat { stat: Nlm4Stats::Nlm4Granted } }.to_bytes()
        }
        _ => return Some(rpc::unavailable(xid)),
    };
    Some(rpc::success(xid, &results))
}
