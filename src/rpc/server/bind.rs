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
    #[error("port {port}/{} for {program} is in use{}: stop that, or {}", lower(*transport), by(holder), instead(program))]
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
        "port {port} for {program} needs root or CAP_NET_BIND_SERVICE: run with it, or {}",
        instead(program)
    )]
    Privilege {
        /// What was to be served there.
        program: String,
        /// The port.
        port: u16,
    },
    /// The setting `bind` names an address that no interface has.
    #[error(
        "{} is not an address of this machine: choose one that `ip address` shows (--bind, setting bind), or none \
         for all", addr.ip()
    )]
    NotHere {
        /// What was to be served there.
        program: String,
        /// Where.
        addr: SocketAddr,
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

/// What to do if the program cannot have its port. The names are those of `programs::open`.
fn instead(program: &str) -> String {
    match program {
        // No other port is of use: Linux asks 111.
        "rpcbind" => {
            "register with the rpcbind that has it (rpcbind = \"host\"), or do without (--no-rpcbind)".into()
        }
        "nfs" | "mount" | "nlm" | "nsm" => {
            format!("choose another port (--{program}-port, setting ports.{program})")
        }
        _ => "choose another port".into(),
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
        io::ErrorKind::AddrNotAvailable => ListenError::NotHere { program, addr },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(program: &str, address: &str, code: i32) -> String {
        let error = io::Error::from_raw_os_error(code);
        explain(program, Transport::Tcp, address.parse().unwrap(), error).to_string()
    }

    #[test]
    fn each_refusal_names_what_to_set() {
        let said = refused("nlm", "0.0.0.0:1", libc::EADDRINUSE);
        assert!(said.ends_with("or choose another port (--nlm-port, setting ports.nlm)"), "{said}");
        let said = refused("nfs", "0.0.0.0:80", libc::EACCES);
        assert!(said.contains("--nfs-port"), "{said}");
        for code in [libc::EACCES, libc::EADDRINUSE] {
            let said = refused("rpcbind", "0.0.0.0:111", code);
            assert!(said.contains("--no-rpcbind") && said.contains("rpcbind = \"host\""), "{said}");
            assert!(!said.contains("choose another port"), "{said}");
        }
    }

    #[test]
    fn an_address_of_another_machine_is_called_that() {
        let error = open("nfs", &["203.0.113.5".parse().unwrap()], 0, true).unwrap_err();
        assert!(error.to_string().starts_with("203.0.113.5 is not an address of this machine"), "{error}");
    }
}
