//! Sockets of ours, bound to the wanted source address and, where allowed, to a port below 1024.
//! Must never block.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::{Domain, Protocol, Socket, Type};

use super::CallError;

/// The reserved ports that are used, as by the Linux kernel: those below 665 have more well-known owners.
const RESERVED: std::ops::RangeInclusive<u16> = 665..=1023;

/// Where the search for a free reserved port goes on, so that it does not start at the same one each time.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A non-blocking UDP socket that is connected to `to`.
pub(super) fn udp(to: SocketAddr, source: Option<IpAddr>, reserved: bool) -> Result<Socket, CallError> {
    let socket = open(to, Type::DGRAM, Protocol::UDP)?;
    bind(&socket, to, source, reserved)?;
    socket.connect(&to.into())?;
    Ok(socket)
}

/// A non-blocking, bound, unconnected TCP socket.
pub(super) fn tcp(to: SocketAddr, source: Option<IpAddr>, reserved: bool) -> Result<Socket, CallError> {
    let socket = open(to, Type::STREAM, Protocol::TCP)?;
    // Connections to different peers may share one of the few reserved ports.
    socket.set_reuse_address(true)?;
    bind(&socket, to, source, reserved)?;
    Ok(socket)
}

fn open(to: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    Socket::new(Domain::for_address(to), kind.nonblocking(), Some(protocol))
}

fn bind(socket: &Socket, to: SocketAddr, source: Option<IpAddr>, reserved: bool) -> Result<(), CallError> {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let ip = source.unwrap_or(any);
    let scope = match to {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let at = |port| match SocketAddr::new(ip, port) {
        SocketAddr::V6(mut v6) => {
            v6.set_scope_id(scope);
            SocketAddr::V6(v6)
        }
        v4 => v4,
    };
    if reserved && bind_reserved(socket, at)? {
        return Ok(());
    }
    socket.bind(&at(0).into()).map_err(|e| explain(e, ip))
}

/// False: no reserved port is to be had, any other will have to do.
fn bind_reserved(socket: &Socket, at: impl Fn(u16) -> SocketAddr) -> Result<bool, CallError> {
    let count = RESERVED.len() as u32;
    for _ in 0..count {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % count;
        let addr = at(RESERVED.start() + offset as u16);
        match socket.bind(&addr.into()) {
            Ok(()) => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
            Err(e) => return Err(explain(e, addr.ip())),
        }
    }
    Ok(false)
}

fn explain(error: io::Error, source: IpAddr) -> CallError {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            CallError::NoSuchSource { source_address: source, transmissions: 0 }
        }
        _ => CallError::Io(error),
    }
}
