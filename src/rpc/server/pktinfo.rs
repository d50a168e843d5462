//! Datagrams with the address they were sent to, and datagrams that leave from a chosen one
//! (IP_PKTINFO, IPV6_PKTINFO). Must never block.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, RawFd};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};

/// Where a datagram came from and went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) len: usize,
    pub(super) peer: SocketAddr,
    /// The destination address, canonical. None: broadcast or multicast, or the kernel did not say.
    pub(super) local: Option<IpAddr>,
    /// The interface it came in by.
    pub(super) interface: u32,
}

/// Asks the kernel to tell the destination of each datagram.
pub(super) fn enable(socket: &impl AsFd, v6: bool) -> io::Result<()> {
    match v6 {
        false => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        true => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// Receives one datagram. `control` is room for the ancillary data, from [`control_buffer`].
pub(super) fn receive(fd: RawFd, buffer: &mut [u8], control: &mut [u8]) -> io::Result<Received> {
    let mut iov = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(fd, &mut iov, Some(control), MsgFlags::MSG_DONTWAIT)?;
    let peer = message.address.as_ref().and_then(socket_addr);
    let mut received = Received {
        len: message.bytes,
        // A datagram without a source address cannot be answered: port 0 makes the caller drop it.
        peer: peer.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)),
        local: None,
        interface: 0,
    };
    for info in message.cmsgs()? {
        match info {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                // They differ for broadcast and multicast, which nobody should send us.
                if info.ipi_addr.s_addr == info.ipi_spec_dst.s_addr {
                    received.local = Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
                }
                received.interface = info.ipi_ifindex as u32;
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                received.local = (!ip.is_multicast()).then(|| IpAddr::V6(ip).to_canonical());
                received.interface = info.ipi6_ifindex;
            }
            _ => {}
        }
    }
    Ok(received)
}

/// Room for what [`receive`] asks for.
pub(super) fn control_buffer() -> Vec<u8> {
    nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo)
}

/// Sends one datagram to `peer`, from `source` if given. `interface` matters for link-local sources only.
pub(super) fn send(
    fd: RawFd,
    data: &[u8],
    peer: SocketAddr,
    source: Option<IpAddr>,
    interface: u32,
) -> io::Result<()> {
    let iov = [IoSlice::new(data)];
    let to = SockaddrStorage::from(peer);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    match source {
        None => sendmsg(fd, &iov, &[], flags, Some(&to))?,
        Some(IpAddr::V4(ip)) => {
            let spec = libc::in_addr { s_addr: u32::from(ip).to_be() };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: spec,
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            sendmsg(fd, &iov, &[ControlMessage::Ipv4PacketInfo(&info)], flags, Some(&to))?
        }
        Some(IpAddr::V6(ip)) => {
            let index = if ip.is_unicast_link_local() { interface } else { 0 };
            let info =
                libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: index };
            sendmsg(fd, &iov, &[ControlMessage::Ipv6PacketInfo(&info)], flags, Some(&to))?
        }
    };
    Ok(())
}

fn socket_addr(addr: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = addr.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    addr.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into())
}
