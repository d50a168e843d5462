//! A client's own services: the rpcbind that names the port of its lock manager, and the lock manager that GRANTED comes to.
//!
//! Both answer over TCP and UDP on the client's address. Must never refuse a GRANTED.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use crate::message::{In, NLM, NLM_GRANTED, NLM_GRANTED_MSG, NLM_GRANTED_RES, PORTMAP, Xdr, whole};

const RPCBIND_PORT: u16 = 111;
const DATAGRAM: usize = 65_536;

/// A GRANTED that came: of which owner, and when.
pub(crate) type Came = (u32, Instant);

/// Starts both services; what is granted comes through the channel.
///
/// # Errors
/// The ports are taken, or this is not root.
pub(crate) fn start(address: Ipv4Addr, server: SocketAddrV4) -> io::Result<Receiver<Came>> {
    let listener = TcpListener::bind((address, 0))?;
    let port = listener.local_addr()?.port();
    let (tell, told) = channel();
    let service = Service { address, port, server, tell };
    serve(listener, UdpSocket::bind((address, port))?, service.clone());
    serve(TcpListener::bind((address, RPCBIND_PORT))?, UdpSocket::bind((address, RPCBIND_PORT))?, service);
    Ok(told)
}

#[derive(Clone)]
struct Service {
    address: Ipv4Addr,
    /// The lock manager's port.
    port: u16,
    server: SocketAddrV4,
    tell: Sender<Came>,
}

/// What is to be done after a call was heard.
struct Said {
    reply: Vec<u8>,
    /// Of an asynchronous GRANTED the answer is a call of its own.
    result: Option<Vec<u8>>,
    /// Told when both have left: nobody uses a lock that the server may not know of yet.
    came: Option<Came>,
}

fn serve(listener: TcpListener, udp: UdpSocket, service: Service) {
    let datagrams = service.clone();
    std::thread::spawn(move || answer_datagrams(&udp, &datagrams));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let service = service.clone();
            std::thread::spawn(move || answer_stream(stream, &service));
        }
    });
}

fn answer_datagrams(socket: &UdpSocket, service: &Service) {
    let mut buffer = vec![0; DATAGRAM];
    let mut results = Results::default();
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        let Some(said) = service.hear(&buffer[..len]) else { continue };
        let _ = socket.send_to(&said.reply, from);
        results.send(service, said.result);
        service.tell(said.came);
    }
}

fn answer_stream(mut stream: TcpStream, service: &Service) {
    let _ = stream.set_nodelay(true);
    let (mut input, mut piece) = (Vec::new(), [0; 16_384]);
    let mut results = Results::default();
    while let Ok(n @ 1..) = stream.read(&mut piece) {
        input.extend_from_slice(&piece[..n]);
        let mut at = 0;
        while let Some(len) = whole(&input[at..]) {
            let said = service.hear(&input[at + 4..at + len]);
            at += len;
            let Some(said) = said else { continue };
            let _ = stream.write_all(&Xdr(said.reply).record());
            results.send(service, said.result);
            service.tell(said.came);
        }
        input.drain(..at);
    }
}

/// The connection that GRANTED_RES leaves by.
#[derive(Default)]
struct Results(Option<TcpStream>);

impl Results {
    fn send(&mut self, service: &Service, result: Option<Vec<u8>>) {
        let Some(result) = result else { return };
        if self.0.is_none() {
            let from = SocketAddr::from((service.address, 0));
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let connected = socket.and_then(|socket| {
                socket.bind(&from.into())?;
                socket.connect(&SocketAddr::V4(service.server).into())?;
                socket.set_tcp_nodelay(true)?;
                Ok(TcpStream::from(socket))
            });
            self.0 = connected.ok();
            if let Some(Ok(mut drain)) = self.0.as_ref().map(TcpStream::try_clone) {
                std::thread::spawn(move || io::copy(&mut drain, &mut io::sink()));
            }
        }
        if let Some(stream) = &mut self.0 {
            let _ = stream.write_all(&Xdr(result).record());
        }
    }
}

impl Service {
    fn hear(&self, message: &[u8]) -> Option<Said> {
        let mut input = In(message);
        let xid = input.u32()?;
        (input.u32()? == 0).then_some(())?;
        input.u32()?;
        let (program, version, procedure) = (input.u32()?, input.u32()?, input.u32()?);
        for _ in 0..2 {
            input.u32()?;
            input.opaque()?;
        }
        let mut reply = Xdr::default();
        reply.reply(xid);
        let (mut result, mut came) = (None, None);
        match (program, version, procedure) {
            (PORTMAP, 2, 3) => {
                let port = if input.u32()? == NLM { self.port } else { 0 };
                reply.u32(port.into());
            }
            (PORTMAP, _, 3) => {
                let [a, b, c, d] = self.address.octets();
                let (high, low) = (self.port >> 8, self.port & 0xff);
                reply.opaque(format!("{a}.{b}.{c}.{d}.{high}.{low}").as_bytes());
            }
            (NLM, _, NLM_GRANTED) => {
                let (owner, cookie) = granted(input)?;
                came = Some(owner);
                reply.opaque(cookie).u32(0);
            }
            (NLM, _, NLM_GRANTED_MSG) => {
                let (owner, cookie) = granted(input)?;
                came = Some(owner);
                let mut out = Xdr::default();
                out.call(xid, NLM, 4, NLM_GRANTED_RES).opaque(cookie).u32(0);
                result = Some(out.0);
            }
            _ => {}
        }
        Some(Said { reply: reply.0, result, came })
    }

    fn tell(&self, came: Option<Came>) {
        if let Some(came) = came {
            let _ = self.tell.send(came);
        }
    }
}

/// Who is granted, now; and the cookie.
fn granted<'a>(mut input: In<'a>) -> Option<(Came, &'a [u8])> {
    let now = Instant::now();
    let cookie = input.opaque()?;
    input.u32()?;
    for _ in 0..3 {
        input.opaque()?;
    }
    Some(((input.u32()?, now), cookie))
}
