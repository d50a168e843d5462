//! What the black-box tests of the running binary stand on: a network namespace with many loopback addresses, the
//! server process in it, clients that speak raw RPC, and hosts that answer callbacks the way a test wants.
//!
//! Must never use the server's own RPC code: what both sides get wrong in the same way would go unseen.
#![allow(dead_code, unused_imports, reason = "each integration test uses a part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a failure must stop the test, loudly"
)]

pub(crate) mod daemon;
pub(crate) mod host;
pub(crate) mod jail;
pub(crate) mod nlm;
pub(crate) mod node;
pub(crate) mod recorded;
pub(crate) mod wire;
pub(crate) mod world;

pub(crate) use daemon::Daemon;
pub(crate) use host::{Heard, Host, React};
pub(crate) use jail::Jail;
pub(crate) use nlm::{Client, Tested, Want};
pub(crate) use node::{FLOAT, Node};
pub(crate) use recorded::Recorded;
pub(crate) use wire::{Answer, Conn};
pub(crate) use world::World;

use std::net::Ipv4Addr;
use std::time::Duration;

/// The server's address in most tests; every 127.x.y.z exists in a namespace of its own.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);

/// How long an answer may take on a loaded machine before the test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How long silence is listened to. It proves little, so it is short, and never the only proof.
pub(crate) const SILENCE: Duration = Duration::from_millis(400);

/// 127.0.0.`last`: a client host.
pub(crate) fn host(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}
