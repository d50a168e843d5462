//! Transports and addresses as rpcbind writes them (RFC 1833, RFC 5665). Pure.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use lockferry_xdr::portmap::{IPPROTO_TCP, IPPROTO_UDP};

use super::super::types::Transport;

/// A network identifier: the transport and the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NetId {
    /// UDP over IPv4.
    Udp,
    /// TCP over IPv4.
    Tcp,
    /// UDP over IPv6.
    Udp6,
    /// TCP over IPv6.
    Tcp6,
}

impl NetId {
    /// The identifier of a transport to or at this address.
    pub fn of(transport: Transport, ip: &IpAddr) -> Self {
        match (transport, ip.is_ipv6()) {
            (Transport::Tcp, false) => NetId::Tcp,
            (Transport::Tcp, true) => NetId::Tcp6,
            (Transport::Udp, false) => NetId::Udp,
            (Transport::Udp, true) => NetId::Udp6,
        }
    }

    /// Its text.
    pub fn as_str(self) -> &'static str {
        match self {
            NetId::Udp => "udp",
            NetId::Tcp => "tcp",
            NetId::Udp6 => "udp6",
            NetId::Tcp6 => "tcp6",
        }
    }

    /// From its text; None: another ("local", "ticlts"...).
    pub fn parse(text: &[u8]) -> Option<Self> {
        [NetId::Udp, NetId::Tcp, NetId::Udp6, NetId::Tcp6].into_iter().find(|n| n.as_str().as_bytes() == text)
    }

    /// The transport.
    pub fn transport(self) -> Transport {
        match self {
            NetId::Udp | NetId::Udp6 => Transport::Udp,
            NetId::Tcp | NetId::Tcp6 => Transport::Tcp,
        }
    }

    /// The protocol number of portmap version 2; None for IPv6, which it does not know.
    pub fn protocol(self) -> Option<u32> {
        match self {
            NetId::Udp => Some(IPPROTO_UDP),
            NetId::Tcp => Some(IPPROTO_TCP),
            NetId::Udp6 | NetId::Tcp6 => None,
        }
    }

    /// From the protocol number of portmap version 2.
    pub fn from_protocol(protocol: u32) -> Option<Self> {
        match protocol {
            IPPROTO_UDP => Some(NetId::Udp),
            IPPROTO_TCP => Some(NetId::Tcp),
            _ => None,
        }
    }
}

impl fmt::Display for NetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A universal address: the IP's text, then the port's high and low byte.
pub fn uaddr(addr: SocketAddr) -> String {
    format!("{}.{}.{}", addr.ip(), addr.port() >> 8, addr.port() & 255)
}

/// The address in a universal address; None if it is none.
pub fn parse_uaddr(text: &[u8]) -> Option<SocketAddr> {
    let mut parts = std::str::from_utf8(text).ok()?.rsplitn(3, '.');
    let (low, high) = (parts.next()?.parse::<u8>().ok()?, parts.next()?.parse::<u8>().ok()?);
    // A link-local address may carry its zone, which means nothing here.
    let ip = parts.next()?.split('%').next()?.parse::<IpAddr>().ok()?;
    Some(SocketAddr::new(ip, u16::from_be_bytes([high, low])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn universal_addresses_are_written_and_read() {
        for (addr, text) in [
            ("10.0.0.1:2049", "10.0.0.1.8.1"),
            ("0.0.0.0:111", "0.0.0.0.0.111"),
            ("[::]:111", "::.0.111"),
            ("[fd00::1]:65535", "fd00::1.255.255"),
        ] {
            let addr: SocketAddr = addr.parse().unwrap();
            assert_eq!(uaddr(addr), text);
            assert_eq!(parse_uaddr(text.as_bytes()), Some(addr));
        }
        for wrong in ["", "1.2", "10.0.0.1.8", "10.0.0.1.256.1", "/run/rpcbind.sock", "a.b.c.d.1.1"] {
            assert_eq!(parse_uaddr(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
