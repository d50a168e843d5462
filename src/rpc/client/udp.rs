//! Calls over UDP: from a socket of their own, or from a serving one. Must never take a reply from another
//! address than the call went to.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::UdpSocket;

use super::super::server::{UdpEndpoint, canonical};
use super::{Attempt, CallError, CallReply, socket};

/// Replies are small; a longer one is cut and then does not decode.
const MAX_REPLY: usize = 64 * 1024;

/// From a connected socket: the kernel drops what comes from elsewhere, and tells us if nothing listens.
pub(super) async fn call(attempt: &mut Attempt<'_>) -> Result<CallReply, CallError> {
    let spec = attempt.spec;
    let socket = socket::udp(canonical(spec.to), spec.source, attempt.reserved_port)?;
    let socket = UdpSocket::from_std(socket.into())?;
    let mut buffer = Vec::new();
    while !attempt.over() {
        if let Err(error) = socket.send(&attempt.message).await {
            return Err(refused(error, attempt.transmissions));
        }
        let until = attempt.sent();
        while let Ok(received) = tokio::time::timeout_at(until, receive(&socket, &mut buffer)).await {
            match received {
                Ok(message) => {
                    if let Some(results) = attempt.results(&message) {
                        return results;
                    }
                }
                Err(error) => return Err(refused(error, attempt.transmissions)),
            }
        }
    }
    Err(attempt.timeout())
}

async fn receive(socket: &UdpSocket, buffer: &mut Vec<u8>) -> io::Result<Bytes> {
    socket.readable().await?;
    loop {
        buffer.resize(MAX_REPLY, 0);
        match socket.try_recv(buffer) {
            Ok(n) => return Ok(Bytes::copy_from_slice(&buffer[..n])),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket.readable().await?,
            Err(e) => return Err(e),
        }
    }
}

fn refused(error: io::Error, transmissions: u32) -> CallError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => CallError::NotListening { transmissions },
        _ => CallError::Io(error),
    }
}

/// From a serving socket, whose task hands us the reply.
pub(super) async fn call_via(
    attempt: &mut Attempt<'_>,
    endpoint: &Arc<UdpEndpoint>,
) -> Result<CallReply, CallError> {
    let spec = attempt.spec;
    let to = canonical(spec.to);
    let mut expected = endpoint.expect(attempt.xid, to);
    while !attempt.over() {
        endpoint.send_message(to, spec.source, attempt.message.to_vec());
        let until = attempt.sent();
        match tokio::time::timeout_at(until, expected.reply()).await {
            Ok(Some(message)) => return attempt.results(&message).unwrap_or(Err(CallError::BadReply)),
            Ok(None) => return Err(io::Error::from(io::ErrorKind::NotConnected).into()),
            Err(_) => {}
        }
    }
    Err(attempt.timeout())
}
