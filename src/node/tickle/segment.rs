//! The one TCP segment that wakes a half-open connection, as bytes. Must never do I/O.

use std::net::{IpAddr, SocketAddr};

/// A TCP header without options (RFC 9293 section 3.1).
pub(super) const LENGTH: usize = 20;

const PROTOCOL_TCP: u8 = 6;
/// The header's length in 32-bit words, in the upper half of its byte.
const DATA_OFFSET: u8 = ((LENGTH / 4) << 4) as u8;
const FLAG_ACK: u8 = 0x10;
/// Of no meaning here; not 0, which would stop the peer if it believed it.
const WINDOW: u16 = 1_024;

/// A bare ACK `from` our address `to` the client, sequence and acknowledgement number 0: outside the client's window but for a
/// chance of one in thousands, so that it answers with what it expects, and learns from our system's reset that there is no such
/// connection. Within the window it is an old acknowledgement, which is harmless. None: the families differ.
pub(super) fn bare_ack(from: SocketAddr, to: SocketAddr) -> Option<[u8; LENGTH]> {
    let mut segment = [0; LENGTH];
    segment[0..2].copy_from_slice(&from.port().to_be_bytes());
    segment[2..4].copy_from_slice(&to.port().to_be_bytes());
    segment[12] = DATA_OFFSET;
    segment[13] = FLAG_ACK;
    segment[14..16].copy_from_slice(&WINDOW.to_be_bytes());
    let checksum = !fold(pseudo_header(from.ip(), to.ip())? + sum(&segment));
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    Some(segment)
}

/// The sum over what of the IP header goes into TCP's checksum (RFC 9293 section 3.1, RFC 8200 section 8.1).
fn pseudo_header(from: IpAddr, to: IpAddr) -> Option<u32> {
    let addresses = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => sum(&from.octets()) + sum(&to.octets()),
        (IpAddr::V6(from), IpAddr::V6(to)) => sum(&from.octets()) + sum(&to.octets()),
        _ => return None,
    };
    Some(addresses + u32::from(PROTOCOL_TCP) + LENGTH as u32)
}

/// The 16-bit words added up. No overflow: a few dozen words.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
}

/// Ones' complement: the carries are added back in.
fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(from: &str, to: &str) -> Option<[u8; LENGTH]> {
        bare_ack(from.parse().unwrap(), to.parse().unwrap())
    }

    #[test]
    fn the_bytes_are_as_worked_out_by_hand() {
        // 0a4d + 0001 + 0a4d + 000b + 0006 + 0014 (addresses, protocol, length) + 0801 + 03e7 + 5010 + 0400 = 0x74b8.
        let v4 = [0x08, 0x01, 0x03, 0xe7, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0x04, 0x00, 0x8b, 0x47, 0, 0];
        assert_eq!(ack("10.77.0.1:2049", "10.77.0.11:999"), Some(v4));
        // fd77 + 0001 + fd77 + 000b + 001a + 8023 + 03e7 + 5010 + 0400 = 0x2_d32e, folded 0xd330.
        let v6 = [0x80, 0x23, 0x03, 0xe7, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0x04, 0x00, 0x2c, 0xcf, 0, 0];
        assert_eq!(ack("[fd77::1]:32803", "[fd77::b]:999"), Some(v6));
    }

    #[test]
    fn a_receiver_finds_the_checksum_right() {
        for (from, to) in [
            ("255.255.255.254:65535", "255.255.255.253:65535"),
            ("0.0.0.1:1", "0.0.0.2:1"),
            (
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffd]:65535",
            ),
        ] {
            let segment = ack(from, to).unwrap();
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            assert_eq!(
                fold(pseudo_header(from.ip(), to.ip()).unwrap() + sum(&segment)),
                0xffff,
                "{from} {to}"
            );
        }
    }

    #[test]
    fn the_two_families_do_not_mix() {
        assert_eq!(ack("10.77.0.1:1", "[fd77::1]:1"), None);
    }
}
