//! Raw RPC messages, written by hand so that the tests do not check the code against itself.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::echo::PROGRAM;

/// Every test's patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A call message from its words.
pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

/// A call to the echo program, version 3, AUTH_NONE.
pub(crate) fn call(xid: u32, procedure: u32, args: &[u8]) -> Vec<u8> {
    let mut message = words(&[xid, 0, 2, PROGRAM, 3, procedure, 0, 0, 0, 0]);
    message.extend_from_slice(args);
    message
}

/// A record of one fragment.
pub(crate) fn record(message: &[u8]) -> Vec<u8> {
    let mut out = (0x8000_0000 | message.len() as u32).to_be_bytes().to_vec();
    out.extend_from_slice(message);
    out
}

/// The message as many fragments.
pub(crate) fn fragments(message: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, chunk) in message.chunks(size).enumerate() {
        let last = if (n + 1) * size >= message.len() { 0x8000_0000 } else { 0 };
        out.extend_from_slice(&(last | chunk.len() as u32).to_be_bytes());
        out.extend_from_slice(chunk);
    }
    out
}

/// A successful reply's words before its results.
pub(crate) fn ok(xid: u32) -> Vec<u8> {
    words(&[xid, 1, 0, 0, 0, 0])
}

/// A successful reply with results.
pub(crate) fn ok_with(xid: u32, results: &[u8]) -> Vec<u8> {
    [ok(xid), results.to_vec()].concat()
}

/// A TCP connection that speaks records.
pub(crate) struct Tcp(pub(crate) TcpStream);

impl Tcp {
    pub(crate) async fn connect(port: u16) -> Tcp {
        Tcp::connect_to(([127, 0, 0, 1], port).into()).await
    }

    pub(crate) async fn connect_to(addr: SocketAddr) -> Tcp {
        let stream = TcpStream::connect(addr).await.unwrap_or_else(|e| panic!("{addr}: {e}"));
        stream.set_nodelay(true).unwrap();
        Tcp(stream)
    }

    /// A connection from a given local port.
    pub(crate) async fn connect_from(local: SocketAddr, port: u16) -> Tcp {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(local).unwrap();
        Tcp(socket.connect(([127, 0, 0, 1], port).into()).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        tokio::time::timeout(PATIENCE, self.0.write_all(bytes)).await.unwrap().unwrap();
    }

    /// The next record, None at the end of the stream (or a reset).
    pub(crate) async fn receive(&mut self) -> Option<Vec<u8>> {
        let read = async {
            let mark = self.0.read_u32().await.ok()?;
            assert!(mark & 0x8000_0000 != 0, "a reply in several fragments");
            let mut message = vec![0; (mark & 0x7fff_ffff) as usize];
            self.0.read_exact(&mut message).await.ok()?;
            Some(message)
        };
        tokio::time::timeout(PATIENCE, read).await.expect("no reply")
    }

    /// Sends a call and returns the reply to it.
    pub(crate) async fn ask(&mut self, message: &[u8]) -> Vec<u8> {
        self.send(&record(message)).await;
        self.receive().await.expect("closed")
    }

    /// Waits for the end of the stream and says whether it was a reset.
    pub(crate) async fn ended_by_reset(&mut self) -> bool {
        let mut byte = [0];
        match tokio::time::timeout(PATIENCE, self.0.read(&mut byte)).await.expect("still open") {
            Ok(0) => false,
            Ok(_) => panic!("it still talks"),
            Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// A UDP socket connected to a peer, so that an answer from elsewhere is not seen.
pub(crate) struct Udp(pub(crate) UdpSocket);

impl Udp {
    pub(crate) async fn to(addr: SocketAddr) -> Udp {
        let any = if addr.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await.unwrap();
        socket.connect(addr).await.unwrap();
        Udp(socket)
    }

    pub(crate) async fn send(&self, bytes: &[u8]) {
        self.0.send(bytes).await.unwrap();
    }

    pub(crate) async fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65536];
        let n = tokio::time::timeout(PATIENCE, self.0.recv(&mut buffer)).await.expect("no reply").unwrap();
        buffer.truncate(n);
        buffer
    }

    pub(crate) async fn ask(&self, message: &[u8]) -> Vec<u8> {
        self.send(message).await;
        self.receive().await
    }
}
