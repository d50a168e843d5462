//! Reads which addresses are here: from the interfaces, or from /proc where netlink is refused, or by trying one.
//!
//! Must never keep anything between two readings.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

/// Of the calling thread's network namespace, which is the process's own outside of tests.
const IF_INET6: &str = "/proc/thread-self/net/if_inet6";
const FIB_TRIE: &str = "/proc/thread-self/net/fib_trie";

// The flags in if_inet6, from linux/if_addr.h.
const OPTIMISTIC: u8 = 0x04;
const DAD_FAILED: u8 = 0x08;
const TENTATIVE: u8 = 0x40;

/// One look at the addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Configured and usable. Also on an interface that is down: the system takes them for its own, and answers for them on others.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Networks of which every address is local, as (address, mask): those of loopback interfaces.
    whole: Vec<(u32, u32)>,
}

impl Reading {
    /// Whether it says that `ip` is here.
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        let in_whole = |v4: Ipv4Addr| self.whole.iter().any(|(net, mask)| v4.to_bits() & mask == net & mask);
        self.addresses.contains(&ip) || matches!(ip, IpAddr::V4(v4) if in_whole(v4))
    }
}

/// Reads the addresses.
pub(super) fn read() -> io::Result<Reading> {
    match getifaddrs() {
        Ok(all) => {
            let unusable = fs::read_to_string(IF_INET6).map(|text| unusable(&text)).unwrap_or_default();
            Ok(sort(all, &unusable))
        }
        // It uses netlink itself.
        Err(error) => from_proc().map_err(|_| error.into()),
    }
}

fn sort(all: impl Iterator<Item = InterfaceAddress>, unusable: &BTreeSet<Ipv6Addr>) -> Reading {
    let mut reading = Reading::default();
    for interface in all {
        let Some(address) = interface.address else { continue };
        if let Some(v4) = address.as_sockaddr_in() {
            reading.addresses.insert(v4.ip().into());
            let mask = interface.netmask.as_ref().and_then(|m| m.as_sockaddr_in());
            if let (Some(mask), true) = (mask, interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)) {
                reading.whole.push((v4.ip().to_bits(), mask.ip().to_bits()));
            }
        } else if let Some(v6) = address.as_sockaddr_in6()
            && !unusable.contains(&v6.ip())
        {
            reading.addresses.insert(v6.ip().into());
        }
    }
    reading
}

/// The addresses in if_inet6 that the network has not agreed to: tentative, or taken by somebody else.
fn unusable(if_inet6: &str) -> BTreeSet<Ipv6Addr> {
    inet6(if_inet6).filter(|(_, usable)| !usable).map(|(ip, _)| ip).collect()
}

/// Lines of if_inet6: address, interface number, prefix length, scope, flags, name.
fn inet6(text: &str) -> impl Iterator<Item = (Ipv6Addr, bool)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        let flags = u8::from_str_radix(fields.nth(3)?, 16).ok()?;
        let tentative = flags & TENTATIVE != 0 && flags & OPTIMISTIC == 0;
        Some((Ipv6Addr::from_bits(address), !tentative && flags & DAD_FAILED == 0))
    })
}

/// Without netlink: the local routes say which IPv4 addresses are here, and if_inet6 has the others.
fn from_proc() -> io::Result<Reading> {
    let mut reading = local_routes(&fs::read_to_string(FIB_TRIE)?);
    let v6 = fs::read_to_string(IF_INET6).unwrap_or_default();
    reading.addresses.extend(inet6(&v6).filter(|(_, usable)| *usable).map(|(ip, _)| IpAddr::from(ip)));
    Ok(reading)
}

/// A prefix is a line `|-- ADDRESS`, what leads there the lines after it: `/LENGTH SCOPE TYPE`.
fn local_routes(fib_trie: &str) -> Reading {
    let mut reading = Reading::default();
    let mut prefix = None;
    for line in fib_trie.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("|-- ") {
            prefix = text.parse::<Ipv4Addr>().ok();
        }
        let Some(("/", rest)) = line.split_at_checked(1) else { continue };
        let mut fields = rest.split_whitespace();
        let length = fields.next().and_then(|n| n.parse::<u32>().ok()).filter(|n| *n <= 32);
        let (Some(prefix), Some(length), true) = (prefix, length, fields.any(|f| f == "LOCAL")) else {
            continue;
        };
        match length {
            32 => drop(reading.addresses.insert(prefix.into())),
            _ => reading.whole.push((prefix.to_bits(), u32::MAX.checked_shl(32 - length).unwrap_or(0))),
        }
    }
    reading
}

/// Whether a socket can be bound to `ip` because it is here, configured or by a local route. The honest test, unless the system lets
/// everybody bind anything (`ip_nonlocal_bind`): then it says no.
pub(super) fn can_be_bound(ip: IpAddr) -> bool {
    if ip.is_unspecified() || ip.is_multicast() || binds_anything(ip) {
        return false;
    }
    let Ok(socket) = UdpSocket::bind(SocketAddr::new(ip, 0)) else { return false };
    // The broadcast address of a network can be bound too, but not connected to.
    socket.local_addr().and_then(|own| socket.connect(own)).is_ok()
}

/// Whether the system binds what is not here. Where that cannot be told it counts as yes.
fn binds_anything(ip: IpAddr) -> bool {
    let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
    let setting = fs::read_to_string(format!("/proc/sys/net/{family}/ip_nonlocal_bind"));
    !matches!(setting.as_deref().map(str::trim), Ok("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tentative_and_refused_addresses_are_not_usable() {
        let text = "00000000000000000000000000000001 01 80 10 80       lo\n\
                    fd770000000000000000000000000001 02 40 00 c0     eth0\n\
                    fd770000000000000000000000000002 02 40 00 c8     eth0\n\
                    fd770000000000000000000000000003 02 40 00 c4     eth0\n\
                    fd770000000000000000000000000004 02 40 00 80     eth0\n";
        let bad: Vec<_> = unusable(text).into_iter().map(|ip| ip.to_string()).collect();
        assert_eq!(bad, ["fd77::1", "fd77::2"], "an optimistic one may be used");
        assert!(unusable("garbage\n\nzz 01 80 10 zz lo\n").is_empty());
    }

    #[test]
    fn local_routes_are_found_in_proc() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.77.0.0\n        \
                    /24 link UNICAST\nLocal:\n  +-- 0.0.0.0/0 3 0 5\n     +-- 10.77.0.0/24 2 0 2\n        |-- 10.77.0.1\n           \
                    /32 host LOCAL\n        |-- 10.77.0.255\n           /32 link BROADCAST\n     +-- 127.0.0.0/8 2 0 2\n        \
                    |-- 127.0.0.0\n           /8 host LOCAL\n        |-- 127.0.0.1\n           /32 host LOCAL\n";
        let reading = local_routes(text);
        for here in ["10.77.0.1", "127.0.0.1", "127.44.5.6"] {
            assert!(reading.has(here.parse().unwrap()), "{here}");
        }
        for elsewhere in ["10.77.0.2", "10.77.0.255", "128.0.0.1", "::1"] {
            assert!(!reading.has(elsewhere.parse().unwrap()), "{elsewhere}");
        }
        assert_eq!(local_routes("|-- 1.2.3.4\n/ \n/99 host LOCAL\n/x\n"), Reading::default());
    }

    #[test]
    fn proc_and_the_interfaces_say_the_same() {
        let (mut slow, fast) = (from_proc().unwrap(), read().unwrap());
        // Local routes may cover more than is configured.
        slow.addresses.retain(|ip| fast.has(*ip));
        assert_eq!(slow.addresses, fast.addresses);
        assert!(slow.has("127.3.2.1".parse().unwrap()) && fast.has("127.3.2.1".parse().unwrap()));
    }
}
