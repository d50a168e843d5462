//! Netlink tells when an address comes or goes. What the messages say is not looked at: see `read`.

use std::io;
use std::net::UdpSocket as StdUdpSocket;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
use tokio::net::UdpSocket;

/// IPv6 addresses are told again when they cease to be tentative.
const GROUPS: i32 = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;

/// Longer messages are cut, which does not matter.
const BUFFER: usize = 8 * 1024;
/// Messages taken before the addresses are read: somebody who changes them all the time must not keep us from looking.
const AT_ONCE: usize = 1_000;

/// A socket that hears of changes from now on. It is no UDP socket, but one of datagrams, and nothing of UDP is asked of it: so
/// std and tokio can carry it, and no unsafe code is needed for that.
#[derive(Debug)]
pub(super) struct Wakes(StdUdpSocket);

/// The same, known to the runtime.
#[derive(Debug)]
pub(super) struct Listening(UdpSocket);

impl Wakes {
    /// Fails where netlink is refused, as by a seccomp filter or `RestrictAddressFamilies=`.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS.cast_unsigned()))?;
        Ok(Self(fd.into()))
    }

    /// Inside a runtime only.
    pub(super) fn listen(self) -> io::Result<Listening> {
        UdpSocket::from_std(self.0).map(Listening)
    }
}

impl Listening {
    /// Returns when something changed, with the messages so far taken. Cancel safe.
    pub(super) async fn woken(&self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        lost_is_fine(self.0.recv(&mut buffer).await)?;
        for _ in 1..AT_ONCE {
            match self.0.try_recv(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                result => lost_is_fine(result)?,
            }
        }
        Ok(())
    }
}

/// ENOBUFS: more came than the socket could keep, so something changed.
fn lost_is_fine(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() != Some(Errno::ENOBUFS as i32) => Err(error),
        _ => Ok(()),
    }
}
