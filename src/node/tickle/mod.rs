//! Wakes clients that sit on half-open connections after an address has moved: each gets a bare ACK from the address, answers with
//! what it expects, is reset by our system, which knows of no such connection, and connects anew at once. Without that it would be
//! silent in its retransmission back-off for about as long again as the outage was.
//!
//! Must never send from an address that is not here, nor more than a bounded number of packets a second.

mod segment;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Once};
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::addresses::AddressWatch;

/// Packets a second: enough for the connections of a large server within seconds, and nothing that a switch would take for a flood.
const PER_SECOND: usize = 2_000;
/// Sent in one go, between pauses.
const BATCH: usize = 50;
const PAUSE: Duration = Duration::from_millis((1_000 * BATCH / PER_SECOND) as u64);

/// Pauses before each round of [`tickle_later`]: packets get lost, and neighbours may learn of the move a moment late.
const ROUNDS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];

/// BPF "return 0": a raw socket would be given a copy of every TCP packet, and we want none.
const DROP_ALL: SockFilter = SockFilter::new(0x06, 0, 0, 0);

/// A TCP connection: our address and port, the client's.
pub type Connection = (SocketAddr, SocketAddr);

/// Why nobody was woken.
#[derive(Debug, thiserror::Error)]
pub enum TickleError {
    /// No CAP_NET_RAW.
    #[error(
        "not allowed to send raw packets (CAP_NET_RAW): clients with half-open connections notice the move of {0} only in their \
         own time"
    )]
    NotAllowed(IpAddr),
    /// The address is not on this node.
    #[error("{0} is not an address of this node")]
    NotHere(IpAddr),
    /// Another error of the system.
    #[error("cannot send raw packets from {from}: {source}")]
    Io {
        /// The address.
        from: IpAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Sends one bare ACK from `local` to the client of each connection that is one of `local`'s, 2,000 a second at the most, and says
/// how many went out. A client that cannot be reached is passed over. Cancel safe.
///
/// # Errors
/// [`TickleError`]: nothing was sent.
pub async fn tickle(local: IpAddr, connections: &[Connection]) -> Result<usize, TickleError> {
    let own: Vec<_> =
        connections.iter().filter(|(ours, _)| ours.ip().to_canonical() == local.to_canonical()).collect();
    let socket = raw_socket(local).map_err(|e| explain(local, e))?;
    let mut sent = 0;
    for (n, batch) in own.chunks(BATCH).enumerate() {
        if n > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        sent += batch.iter().filter(|(ours, client)| send(&socket, *ours, *client)).count();
    }
    Ok(sent)
}

/// Waits until `local` is here and then wakes its clients: at once, after a second, and some seconds later. Those that have
/// connected anew meanwhile take it for an old packet. What hinders it is logged, missing privilege once per process. Cancel safe.
pub async fn tickle_later(local: IpAddr, connections: Vec<Connection>, addresses: Arc<AddressWatch>) {
    if connections.is_empty() {
        return;
    }
    for pause in ROUNDS {
        tokio::time::sleep(pause).await;
        addresses.wait_for(local).await;
        match tickle(local, &connections).await {
            Ok(sent) => tracing::debug!(%local, sent, "connections from before the move woken"),
            Err(error) => return say(&error),
        }
    }
}

fn say(error: &TickleError) {
    static SAID: Once = Once::new();
    match error {
        TickleError::NotAllowed(_) => SAID.call_once(|| tracing::warn!("{error}")),
        // It has left again: whoever has it now does this.
        TickleError::NotHere(_) => tracing::debug!("{error}"),
        TickleError::Io { .. } => tracing::warn!("{error}"),
    }
}

/// The system writes the IP header, and takes for its source what the socket is bound to.
fn raw_socket(local: IpAddr) -> io::Result<Socket> {
    let bound_to = SocketAddr::new(local.to_canonical(), 0);
    let socket = Socket::new(Domain::for_address(bound_to), Type::RAW.nonblocking(), Some(Protocol::TCP))?;
    socket.attach_filter(&[DROP_ALL])?;
    socket.bind(&bound_to.into())?;
    Ok(socket)
}

/// Whether it went out.
fn send(socket: &Socket, ours: SocketAddr, client: SocketAddr) -> bool {
    let (ours, mut to) = (crate::rpc::server::canonical(ours), crate::rpc::server::canonical(client));
    let Some(segment) = segment::bare_ack(ours, to) else { return false };
    // A raw socket's address has no port.
    to.set_port(0);
    match socket.send_to(&segment, &to.into()) {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(%client, %error, "not woken");
            false
        }
    }
}

fn explain(from: IpAddr, source: io::Error) -> TickleError {
    match source.kind() {
        io::ErrorKind::PermissionDenied => TickleError::NotAllowed(from),
        io::ErrorKind::AddrNotAvailable => TickleError::NotHere(from),
        _ => TickleError::Io { from, source },
    }
}
