//! Calls over TCP: one connection per source and destination, shared by the calls, closed when idle.
//! Must never keep more of a reply than it may have.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

use super::super::header::{message_type, parse_reply};
use super::super::pending::Pending;
use super::super::record::mark;
use super::super::server::canonical;
use super::{Attempt, CallError, CallReply, ClientSettings, is_passing, lock, results, socket};

/// The longest reply that is taken: a DUMP of some hundred registrations has 30 KiB.
const MAX_REPLY: usize = 256 * 1024;
/// Fragments of one reply.
const MAX_FRAGMENTS: usize = 1_024;
/// A connection that is not made by then is not waited for any longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The first pause after a connection that could not be made; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
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
    /// Set if it never came about.
    failure: Arc<OnceLock<Failure>>,
}

/// Why a connection could not be made.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Refused,
    NoSuchSource(IpAddr),
    /// It may work in a moment.
    Passing,
    Other(io::ErrorKind),
}

impl Connections {
    /// One call. A connection that is lost, or silent for one time-out, is replaced and the call repeated.
    pub(super) async fn call(
        &self,
        attempt: &mut Attempt<'_>,
        settings: &ClientSettings,
    ) -> Result<CallReply, CallError> {
        let key = (attempt.spec.source, canonical(attempt.spec.to));
        let mut pause = FIRST_PAUSE;
        while !attempt.over() {
            let connection = self.connection(key, attempt.reserved_port, settings.idle);
            let mut expected = connection.pending.expect(attempt.xid, key.1);
            let sending = connection.messages.send(attempt.message.clone());
            let queued = tokio::time::timeout_at(attempt.deadline, sending).await;
            if matches!(queued, Ok(Ok(()))) {
                let until = attempt.sent();
                if let Ok(Some(message)) = tokio::time::timeout_at(until, expected.reply()).await {
                    return attempt.results(&message).unwrap_or(Err(CallError::BadReply));
                }
            }
            // Lost, or silent: its peer may be gone without a word. Calls that wait on it go on waiting.
            self.forget(&key, &connection);
            if let Some(failure) = connection.failure.get() {
                if matches!(queued, Ok(Ok(()))) {
                    attempt.transmissions -= 1; // it never left
                }
                failure.explain(attempt.transmissions)?;
                let until = (tokio::time::Instant::now() + pause).min(attempt.deadline);
                pause = pause.saturating_mul(2).min(settings.max_timeout);
                tokio::time::sleep_until(until).await;
            }
        }
        Err(attempt.timeout())
    }

    /// The connection for `key`; if there is none, one that is being made. So a thousand calls at once to one
    /// peer make one connection.
    fn connection(&self, key: Key, reserved: bool, idle: Duration) -> Connection {
        let mut live = lock(&self.live);
        if let Some(known) = live.get(&key).filter(|c| !c.messages.is_closed()) {
            return known.clone();
        }
        let (messages, queue) = mpsc::channel(QUEUE);
        let connection = Connection { messages, pending: Pending::default(), failure: Arc::default() };
        tokio::spawn(run(key, reserved, queue, connection.pending.clone(), connection.failure.clone(), idle));
        live.retain(|_, c| !c.messages.is_closed());
        live.insert(key, connection.clone());
        connection
    }

    fn forget(&self, key: &Key, connection: &Connection) {
        let mut live = lock(&self.live);
        if live.get(key).is_some_and(|c| c.messages.same_channel(&connection.messages)) {
            live.remove(key);
        }
    }
}

impl Failure {
    fn of(error: CallError) -> Self {
        match error {
            CallError::NoSuchSource { source_address, .. } => Failure::NoSuchSource(source_address),
            CallError::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused => Failure::Refused,
            CallError::Io(e) if is_passing(e.kind()) => Failure::Passing,
            CallError::Io(e) => Failure::Other(e.kind()),
            _ => Failure::Passing,
        }
    }

    /// The error that ends the call, which was sent so often before; Ok: try again.
    fn explain(self, transmissions: u32) -> Result<(), CallError> {
        match self {
            // The one that was refused counts too.
            Failure::Refused => Err(CallError::NotListening { transmissions: transmissions + 1 }),
            Failure::NoSuchSource(source_address) => {
                Err(CallError::NoSuchSource { source_address, transmissions })
            }
            Failure::Other(kind) => Err(io::Error::from(kind).into()),
            Failure::Passing => Ok(()),
        }
    }
}

async fn connect(to: SocketAddr, source: Option<IpAddr>, reserved: bool) -> Result<TcpStream, CallError> {
    let socket = socket::tcp(to, source, reserved)?;
    let stream = TcpSocket::from_std_stream(socket.into()).connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection's task: connects, writes what is queued, hands out replies, ends when idle, lost or forgotten.
async fn run(
    (source, peer): Key,
    reserved: bool,
    mut queue: mpsc::Receiver<Bytes>,
    pending: Pending,
    failure: Arc<OnceLock<Failure>>,
    idle: Duration,
) {
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connect(peer, source, reserved)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            let _ = failure.set(Failure::of(error));
            None
        }
        Err(_) => {
            let _ = failure.set(Failure::Passing);
            None
        }
    };
    if let Some(stream) = stream {
        converse(stream, peer, &mut queue, &pending, idle).await;
    }
    queue.close();
    pending.clear();
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    queue: &mut mpsc::Receiver<Bytes>,
    pending: &Pending,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_before_the_source_address_went_counts() {
        let source_address = IpAddr::from([192, 0, 2, 1]);
        let gone = Failure::of(CallError::NoSuchSource { source_address, transmissions: 0 });
        let told = gone.explain(1);
        assert!(matches!(told, Err(CallError::NoSuchSource { transmissions: 1, .. })), "{told:?}");
    }
}
