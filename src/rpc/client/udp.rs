//! Calls over UDP: from a socket of their own, or from a serving one. Must never take a reply from another
//! address than the call went to.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::super::server::{UdpEndpoint, canonical};
use super::{Attempt, CallError, CallReply, is_passing, socket};

/// Replies are small; a longer one is cut and then does not decode.
const MAX_REPLY: usize = 64 * 1024;

/// From a connected socket: the kernel drops what comes from elsewhere, and tells us if nothing listens.
pub(super) async fn call(attempt: &mut Attempt<'_>) -> Result<CallReply, CallError> {
    let spec = attempt.spec;
    let socket = socket::udp(canonical(spec.to), spec.source, attempt.reserved_port)?;
    let socket = UdpSocket::from_std(socket.into())?;
    let mut buffer = Vec::new();
    while !attempt.over() {
        let sent = socket.send(&attempt.message).await;
        if let Err(error) = sent {
            passing(error, attempt.transmissions)?;
        }
        let until = attempt.sent();
        while let Ok(received) = tokio::time::timeout_at(until, receive(&socket, &mut buffer)).await {
            match received {
                Ok(message) => {
                    if let Some(results) = attempt.results(&message) {
                        return results;
                    }
                }
                Err(error) => passing(error, attempt.transmissions)?,
            }
        }
    }
    Err(attempt.timeout())
}

async fn receive(socket: &UdpSocket, buffer: &mut Vec<u8>) -> io::Result<Bytes> {
    loop {
        // An ICMP error makes the socket ready for ERROR only, which a plain `recv` would sleep through.
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        if ready.is_error() {
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            let _ = socket.try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
        buffer.resize(MAX_REPLY, 0);
        match socket.try_recv(buffer) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            received => return received.map(|n| Bytes::copy_from_slice(&buffer[..n])),
        }
    }
}

/// Whether it is worth going on: a peer that is down (no answer to ARP) may be up before the call is given up.
fn passing(error: io::Error, transmissions: u32) -> Result<(), CallError> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Err(CallError::NotListening { transmissions }),
        kind if is_passing(kind) => Ok(()),
        _ => Err(CallError::Io(error)),
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
