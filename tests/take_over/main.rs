//! A floating address moves between nodes: the running binary on two of them, with one disk, and clients that speak raw RPC.
//!
//! The address is in both networks all the time, so nothing but the record keeps the nodes apart. See `rawrpc::node`.

// Helpers of tests are no less tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod addresses;
mod auto;
mod bound;
mod chaos;
mod churn;
mod crash;
mod disks;
mod operator;
mod places;
mod planned;
mod races;
#[path = "../rawrpc/mod.rs"]
mod rawrpc;
mod reclaim;
mod record;
mod split;
#[path = "../support/mod.rs"]
mod support;
mod transfer;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rawrpc::nlm::*;
use rawrpc::{Client, Conn, Daemon, Node, SILENCE, Want, World, host};
use serde_json::Value;

/// The lock manager that moves.
const LM: &str = "127.1.0.1";
/// Another one on the same files.
const SECOND: &str = "127.1.0.2";
/// Windows that do not end by themselves, and conflicts that are soon told to come again.
const LONG: &str = "grace.window = \"10m\"\ngrace.park = \"300ms\"\n";
/// Windows that end while the test waits.
const SHORT: &str = "grace.window = \"1s\"\ngrace.park = \"300ms\"\n";

/// Two nodes, one disk with the export and the journal.
struct Pair {
    world: World,
    a: Node,
    b: Node,
    journal: PathBuf,
}

impl Pair {
    /// With a file `f`. `None`, said loudly: that cannot be done here.
    fn new() -> Option<Self> {
        let world = World::new()?;
        world.file("f");
        let journal = world.dir().join("journal");
        std::fs::create_dir(&journal).unwrap();
        let (a, b) = (Node::here(&world, "a"), Node::apart(&world, "b"));
        Some(Self { world, a, b, journal })
    }

    /// Starts the server of a node.
    fn serve(&self, node: &Node, top: &str) -> Daemon {
        node.serve(&self.world, top, "")
    }

    /// `start-grace` of the floating address with the shared journal.
    fn start(&self, server: &Daemon, more: &[&str]) -> Value {
        server.verb(&[&["start-grace", LM, "--journal", text(&self.journal)], more].concat())
    }

    /// `start-grace` of [`SECOND`], with a journal of its own.
    fn start_second(&self, server: &Daemon) -> Value {
        let journal = self.world.dir().join("journal-2");
        std::fs::create_dir_all(&journal).unwrap();
        server.verb(&["start-grace", SECOND, "--journal", text(&journal)])
    }

    /// Client `two`, through [`SECOND`].
    fn through_second(&self, node: &Node) -> Client {
        let second: Ipv4Addr = SECOND.parse().unwrap();
        node.within(|| Client::to(host(11), second.octets(), "two"))
    }

    /// Node A serves the floating address. Its server, and the handle of `f`.
    fn begin(&self, top: &str) -> (Daemon, Vec<u8>) {
        let server = self.serve(&self.a, top);
        self.start(&server, &[]);
        let fh = self.a.handle(&server, "f");
        (server, fh)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A LOCK, a TEST, an UNLOCK and a CANCEL get no answer.
fn assert_says_nothing(client: &mut Client, want: &Want) {
    let calls = [2, 1, 4, 3].map(|procedure| client.prepared(procedure, want));
    // Where the connection was reset there is nobody who could answer.
    let sent = calls.iter().take_while(|call| client.conn.try_send(call).is_ok()).count();
    assert_eq!(client.conn.receive(SILENCE), None, "an answer to one of {sent} calls");
}

/// Which programs answer at an address, as a node's own client sees it.
fn programs_at(node: &Node, server: impl Into<IpAddr>) -> Vec<&'static str> {
    let server = server.into();
    let from: IpAddr = if server.is_ipv4() { host(77).into() } else { server };
    let all = [
        ("nfs", 100_003, 3, 2049, true),
        ("mount", 100_005, 3, 20048, true),
        ("mount/udp", 100_005, 3, 20048, false),
        ("nlm", PROGRAM, 4, PORT, true),
        ("nlm/udp", PROGRAM, 4, PORT, false),
        ("nsm", NSM, 1, NSM_PORT, true),
        ("nsm/udp", NSM, 1, NSM_PORT, false),
    ];
    let mut open = Vec::new();
    for (name, program, version, port, tcp) in all {
        let conn = node.within(|| match tcp {
            true => Conn::try_tcp(from, (server, port).into()).ok(),
            false => Some(Conn::udp(from, (server, port))),
        });
        let Some(mut conn) = conn else { continue };
        let xid = conn.xid();
        if conn.try_send(&rawrpc::wire::call(xid, program, version, 0, &[])).is_ok() {
            open.push((name, conn, xid));
        }
    }
    // One silence for all of them.
    let mut limit = SILENCE;
    let mut answered = Vec::new();
    for (name, mut conn, xid) in open {
        match conn.answer_to(xid, limit) {
            Some(answer) => drop((answer.results(), answered.push(name))),
            None => limit = Duration::from_millis(5),
        }
    }
    answered
}

/// Every program.
const ALL_PROGRAMS: [&str; 7] = ["nfs", "mount", "mount/udp", "nlm", "nlm/udp", "nsm", "nsm/udp"];

/// The bytes, states and clients of the locks.
fn locks(server: &Daemon) -> Vec<(u64, String, String)> {
    let word = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = server.rows("locks");
    let mut all: Vec<_> =
        rows.iter().map(|r| (r["start"].as_u64().unwrap(), word(r, "client"), word(r, "state"))).collect();
    all.sort();
    all
}

/// One row of [`locks`].
fn lock(start: u64, client: &str, state: &str) -> (u64, String, String) {
    (start, client.into(), state.into())
}
