//! What a server lets its peers take. Plain values; must never be read from anywhere but here.

use std::time::Duration;

/// Bounds of one [`RpcServer`](super::RpcServer), over all its listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// TCP connections, 4,096. Past it the new one is closed, and the one that is idle longest makes room for
    /// the next try.
    pub connections: usize,
    /// A connection makes room for a new one only if it was idle for so long, 60 s.
    pub evict_idle: Duration,
    /// A connection without a call or reply for this long is closed, 6 min (Linux closes idle ones after 5).
    pub idle: Duration,
    /// A record must be complete so soon after its first byte, 30 s; likewise some bytes of a reply must
    /// be taken within this time.
    pub record_timeout: Duration,
    /// Memory for arguments over 16 KiB of all connections together, 24 MiB: two dozen WRITEs of 1 MiB.
    pub budget: usize,
    /// Calls in flight on one connection, 1,024.
    pub calls: usize,
    /// Bytes of arguments and expected replies in flight on one connection, 8 MiB: eight READs of 1 MiB.
    pub load: usize,
    /// Replies that a connection's peer has not taken, 128 KiB: with more, nothing further is read from it.
    pub unsent: usize,
    /// Calls in flight on one UDP socket, 4,096. Past it datagrams are dropped: the client retries.
    pub udp_calls: usize,
    /// Bytes of arguments in flight and replies unsent on one UDP socket, 8 MiB.
    pub udp_bytes: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            evict_idle: Duration::from_secs(60),
            idle: Duration::from_secs(360),
            record_timeout: Duration::from_secs(30),
            budget: 24 << 20,
            calls: 1_024,
            load: 8 << 20,
            unsent: 128 << 10,
            udp_calls: 4_096,
            udp_bytes: 8 << 20,
        }
    }
}
