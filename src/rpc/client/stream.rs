//! Calls over TCP: one connection per source and destination, shared by the calls, closed when idle.
//! Must never keep more of a reply than it may have.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

use super::super::header::{message_type, parse_reply};
use super::super::pending::Pending;
use super::super::record::mark;
use super::super::server::canonical;
use super::{Attempt, CallError, CallReply, ClientSettings, lock, results, socket};

/// The longest reply that is taken: a DUMP of some hundred registrations has 30 KiB.
const MAX_REPLY: usize = 256 * 1024;
/// Fragments of one reply.
const MAX_FRAGMENTS: usize = 1_024;
/// Messages that wait for a connection's task.
const QUEUE: usize = 64;

type Key = (Option<IpAddr>, SocketAddr);

/// The live connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    live: Arc<Mutex<HashMap<Key, Connection>>>,
}

#[derive(Clone, Debug)]
struct Connection {
    messages: mpsc::Sender<Bytes>,
    pending: Pending,
}

impl Connections {
    /// One call. A connection that is lost, or silent for one time-out, is replaced and the call repeated.
    pub(super) async fn call(
        &self,
        attempt: &mut Attempt<'_>,
        settings: &ClientSettings,
    ) -> Result<CallReply, CallError> {
        let key = (attempt.spec.source, canonical(attempt.spec.to));
        let mut pause = Duration::from_millis(50);
        while !attempt.over() {
            let connection = match self.connection(key, attempt, settings).await? {
                Some(connection) => connection,
                None => {
                    let until = (tokio::time::Instant::now() + pause).min(attempt.deadline);
                    pause = pause.saturating_mul(2).min(settings.max_timeout);
                    tokio::time::sleep_until(until).await;
                    continue;
                }
            };
            let mut expected = connection.pending.expect(attempt.xid, key.1);
            let sending = connection.messages.send(attempt.message.clone());
            let sent = tokio::time::timeout_at(attempt.deadline, sending).await;
            if !matches!(sent, Ok(Ok(()))) {
                self.forget(&key, &connection);
                continue;
            }
            let until = attempt.sent();
            match tokio::time::timeout_at(until, expected.reply()).await {
                Ok(Some(message)) => return attempt.results(&message).unwrap_or(Err(CallError::BadReply)),
                // Lost, or silent: its peer may be gone without a word. Calls that wait on it go on waiting.
                Ok(None) | Err(_) => self.forget(&key, &connection),
            }
        }
        Err(attempt.timeout())
    }

    /// The connection for `key`, a new one if there is none. None: the peer could not be reached now.
    async fn connection(
        &self,
        key: Key,
        attempt: &Attempt<'_>,
        settings: &ClientSettings,
    ) -> Result<Option<Connection>, CallError> {
        let known = lock(&self.live).get(&key).filter(|c| !c.messages.is_closed()).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let connecting = connect(key.1, key.0, attempt.reserved_port);
        let until = (tokio::time::Instant::now() + attempt.timeout).min(attempt.deadline);
        let stream = match tokio::time::timeout_at(until, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(CallError::Io(e))) if e.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(CallError::NotListening { transmissions: attempt.transmissions });
            }
            Ok(Err(CallError::Io(e))) if is_passing(&e) => return Ok(None),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(None),
        };
        let (messages, queue) = mpsc::channel(QUEUE);
        let connection = Connection { messages, pending: Pending::default() };
        tokio::spawn(run(stream, key.1, queue, connection.pending.clone(), settings.idle));
        let mut live = lock(&self.live);
        live.retain(|_, c| !c.messages.is_closed());
        live.insert(key, connection.clone());
        Ok(Some(connection))
    }

    fn forget(&self, key: &Key, connection: &Connection) {
        let mut live = lock(&self.live);
        if live.get(key).is_some_and(|c| c.messages.same_channel(&connection.messages)) {
            live.remove(key);
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{
        AddrInUse, AddrNotAvailable, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkUnreachable,
        TimedOut,
    };
    // AddrNotAvailable: this reserved port's last connection to the peer is in TIME_WAIT; the next is tried.
    matches!(
        error.kind(),
        AddrInUse
            | AddrNotAvailable
            | ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | NetworkUnreachable
            | TimedOut
    )
}

async fn connect(to: SocketAddr, source: Option<IpAddr>, reserved: bool) -> Result<TcpStream, CallError> {
    let socket = socket::tcp(to, source, reserved)?;
    let stream = TcpSocket::from_std_stream(socket.into()).connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection's task: writes what is queued, hands out replies, ends when idle, lost or forgotten.
async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    mut queue: mpsc::Receiver<Bytes>,
    pending: Pending,
    idle: Duration,
) {
    let (mut reader, mut writer) = stream.into_split();
    let read = async {
        while let Ok(message) = read_record(&mut reader).await {
            if let Some((xid, _)) = message_type(&message) {
                pending.deliver(xid, peer, &message);
            }
        }
    };
    let write = async {
        loop {
            match tokio::time::timeout(idle, queue.recv()).await {
                Ok(Some(message)) => {
                    if write_record(&mut writer, &message).await.is_err() {
                        return;
                    }
                }
                Err(_) if pending.len() > 0 => {}
                Err(_) => return,
                // Forgotten: those who wait may still get their replies.
                Ok(None) if pending.len() > 0 => tokio::time::sleep(Duration::from_millis(100)).await,
                Ok(None) => return,
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
    queue.close();
    pending.clear();
}

async fn write_record(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let mut record = Vec::with_capacity(4 + message.len());
    record.extend_from_slice(&mark(message.len()));
    record.extend_from_slice(message);
    stream.write_all(&record).await
}

async fn read_record(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut message = Vec::new();
    for _ in 0..MAX_FRAGMENTS {
        let mark = stream.read_u32().await?;
        let len = (mark & 0x7fff_ffff) as usize;
        if message.len() + len > MAX_REPLY {
            break;
        }
        let start = message.len();
        message.resize(start + len, 0);
        stream.read_exact(&mut message[start..]).await?;
        if mark & 0x8000_0000 != 0 {
            return Ok(message.into());
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// One call on a stream that nobody else uses; the caller bounds the time.
pub(in super::super) async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    call: &[u8],
) -> Result<Bytes, CallError> {
    write_record(stream, call).await?;
    let message = read_record(stream).await?;
    match parse_reply(&message) {
        Some((xid, status)) if xid.to_be_bytes() == call[..4] => results(&message, status),
        _ => Err(CallError::BadReply),
    }
}
