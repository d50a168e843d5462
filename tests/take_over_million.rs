//! A million locks move: how long giving up and taking up takes, and what the clients of another address feel meanwhile. Prints; asserts
//! only that nothing is lost. Run by hand, as it measures:
//!
//!     cargo test --release --test take_over_million -- --ignored --nocapture

// Helpers of tests are no less tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod rawrpc;
mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lockferry_xdr::Decode as _;
use lockferry_xdr::nfs3::{Diropargs3, Lookup3args, Lookup3res, NfsFh3};
use rawrpc::nlm::GRANTED;
use rawrpc::{Client, Daemon, Recorded, Want, World, host};

const LOCKS: u32 = 1_000_000;
const FILES: u32 = 10_000;
const CLIENTS: u32 = 1_000;
const MOVES: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
const STAYS: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 2);

#[test]
#[ignore = "measures"]
fn a_million_locks_are_given_up_and_taken_up() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let dir = world.dir().join("journal");
    std::fs::create_dir(&dir).unwrap();
    let began = Instant::now();
    let recorded = Recorded { clients: CLIENTS, files: FILES, locks: LOCKS };
    recorded.write(&dir, &MOVES.to_string(), &world.export());
    println!("{LOCKS} locks written in {:?}", began.elapsed());

    let server = world.serve("", "");
    let export = world.export().display().to_string();
    let run = |arguments: &[&str]| timed(&server, arguments);
    run(&["start-grace", &STAYS.to_string(), &export]);
    let fh = {
        // Through an address that is served.
        let mut mount = rawrpc::Conn::tcp(host(9), (STAYS, 20048));
        let mut args = Vec::new();
        lockferry_xdr::mount::encode_dirpath(&export.as_bytes(), &mut lockferry_xdr::Writer::new(&mut args));
        let results = mount.call((100_005, 3, 1), &args).results();
        let mut r = lockferry_xdr::Reader::new(&results);
        assert_eq!(r.u32().unwrap(), 0);
        let root = r.opaque_var(64).unwrap().to_vec();
        let what = Diropargs3 { dir: NfsFh3 { data: &root }, name: b"f" };
        let results =
            rawrpc::Conn::tcp(host(9), (STAYS, 2049)).ask((100_003, 3, 3), &Lookup3args { what }).results();
        match Lookup3res::from_bytes(&results).unwrap() {
            Lookup3res::Nfs3Ok(ok) => ok.object.data.to_vec(),
            Lookup3res::Default(status, _) => panic!("{status:?}"),
        }
    };
    let (mount, address, journal) = (export.as_str(), MOVES.to_string(), dir.display().to_string());
    for (what, option) in [("adopt", "--adopt"), ("grace window", "--dry-run"), ("grace window", "--json")] {
        let feels = feel(&fh);
        let took = run(&["start-grace", &address, mount, "--journal", &journal, option]);
        println!("start-grace ({what}, {option}): {took:?}; {}", feels());
        if option == "--dry-run" {
            continue;
        }
        let status = server.query("status");
        let row = status["lock_managers"].as_array().unwrap().iter().find(|m| m["name"] == address).unwrap();
        assert_eq!(row["locks"], LOCKS, "{row}");
        let feels = feel(&fh);
        let took = run(&["unlock-ip", &address]);
        println!("unlock-ip: {took:?}; {}", feels());
    }
}

fn timed(server: &Daemon, arguments: &[&str]) -> Duration {
    let began = Instant::now();
    let output = server.command(arguments);
    let took = began.elapsed();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    took
}

/// A client of the address that stays locks and unlocks until the answer is asked for: how long its requests took.
fn feel(fh: &[u8]) -> impl FnOnce() -> String {
    let stop = Arc::new(AtomicBool::new(false));
    let (told, mut client) = (stop.clone(), Client::to(host(30), STAYS, "patient"));
    let want = Want::bytes(fh, 1 << 40, 1);
    let thread = std::thread::spawn(move || {
        let mut took = Vec::new();
        while !told.load(Ordering::Relaxed) {
            let began = Instant::now();
            assert_eq!(client.lock(&want), GRANTED);
            took.push(began.elapsed());
            assert_eq!(client.unlock(&want), GRANTED);
        }
        took.sort();
        took
    });
    move || {
        stop.store(true, Ordering::Relaxed);
        let took = thread.join().unwrap();
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
        format!(
            "another address meanwhile: {} locks, p50 {:?}, p99 {:?}, longest {:?}",
            took.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        )
    }
}
