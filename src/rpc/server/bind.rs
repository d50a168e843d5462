//! Opens the listening sockets of one port: TCP and UDP, IPv4 and IPv6, the same number everywhere.
//! Must never answer anything: serving begins elsewhere.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tracing::debug;

use super::super::types::Transport;
use super::holder::{Holder, holder_of};

/// Connections the kernel keeps for us before they are accepted.
const BACKLOG: i32 = 1_024;
/// Wished for UDP receive buffers: bursts of retransmissions. The kernel may give less.
const UDP_RECEIVE_BUFFER: usize = 1 << 20;
/// How often another free number is tried when TCP's is taken for UDP.
const PORT_ATTEMPTS: usize = 32;

/// Why a port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody has it.
    #[error("port {port}/{} for {program} is in use{}: stop that, or choose another port", lower(*transport), by(holder))]
    InUse {
        /// What was to be served there.
        program: String,
        /// TCP or UDP.
        transport: Transport,
        /// The port.
        port: u16,
        /// Who has it, where /proc shows it.
        holder: Option<Holder>,
    },
    /// Ports below 1024 need CAP_NET_BIND_SERVICE.
    #[error(
        "port {port} for {program} needs root or CAP_NET_BIND_SERVICE: choose one above 1023, or run with it"
    )]
    Privilege {
        /// What was to be served there.
        program: String,
        /// The port.
        port: u16,
    },
    /// Another error of the system.
    #[error("cannot listen on {addr} for {program}: {source}")]
    Io {
        /// What was to be served there.
        program: String,
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

fn lower(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

fn by(holder: &Option<Holder>) -> String {
    match holder {
        Some(holder) => format!(" by {holder}"),
        None => " (by the kernel, or by a process that cannot be seen from here)".to_owned(),
    }
}

/// The open sockets of a port.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) tcp: Vec<(std::net::TcpListener, SocketAddr)>,
    pub(super) udp: Vec<(std::net::UdpSocket, SocketAddr)>,
}

/// Opens TCP and UDP sockets on `port` of each address; no address: the wildcards of both families, IPv6
/// only where the host has it. Port 0: any number that is free for all of them.
pub(super) fn open(program: &str, bind: &[IpAddr], port: u16, udp: bool) -> Result<Sockets, ListenError> {
    let mut attempts = if port == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match open_once(program, bind, port, udp) {
            Err(ListenError::InUse { .. }) if attempts > 0 => continue,
            other => return other,
        }
    }
}

fn open_once(program: &str, bind: &[IpAddr], port: u16, udp: bool) -> Result<Sockets, ListenError> {
    let wildcards = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let addresses = if bind.is_empty() { &wildcards[..] } else { bind };
    let mut port = port;
    let mut sockets = Sockets { tcp: Vec::new(), udp: Vec::new() };
    for ip in addresses {
        let addr = SocketAddr::new(*ip, port);
        let optional = bind.is_empty() && ip.is_ipv6();
        let (listener, bound) = match tcp(addr) {
            Ok(opened) => opened,
            Err(error) if optional && no_ipv6(&error) => {
                debug!(program, %error, "no IPv6 on this host, IPv4 only");
                continue;
            }
            Err(error) => return Err(explain(program, Transport::Tcp, addr, error)),
        };
        port = bound.port();
        sockets.tcp.push((listener, bound));
        if udp {
            let opened = udp_socket(bound).map_err(|e| explain(program, Transport::Udp, bound, e))?;
            sockets.udp.push((opened, bound));
        }
    }
    Ok(sockets)
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT))
}

fn explain(program: &str, transport: Transport, addr: SocketAddr, source: io::Error) -> ListenError {
    let (program, port) = (program.to_owned(), addr.port());
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            ListenError::InUse { program, transport, port, holder: holder_of(transport, port) }
        }
        io::ErrorKind::PermissionDenied if port < 1024 => ListenError::Privilege { program, port },
        _ => ListenError::Io { program, addr, source },
    }
}

fn tcp(addr: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

fn udp_socket(addr: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Only a wish: a smaller buffer works too.
    let _ = socket.set_recv_buffer_size(UDP_RECEIVE_BUFFER);
    super::pktinfo::enable(&socket, addr.is_ipv6())?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}
