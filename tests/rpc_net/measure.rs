//! Not a test of anything: prints what the server can do. Run by name, in release:
//! `cargo test --release --test rpc_net measure -- --ignored --nocapture`.

use std::time::Instant;

use super::echo::*;
use super::wire::*;

const CALLS: u32 = 300_000;
const WINDOW: u32 = 64;

/// Write system calls of this process so far.
fn writes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find(|l| l.starts_with("syscw:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One client that keeps `WINDOW` calls in flight.
async fn pipeline(port: u16, procedure: u32) {
    let mut tcp = Tcp::connect(port).await;
    let mut xid = 0;
    while xid < CALLS {
        let mut batch = Vec::new();
        for _ in 0..WINDOW {
            batch.extend(record(&call(xid, procedure, &[7; 160])));
            xid += 1;
        }
        tcp.send(&batch).await;
        for _ in 0..WINDOW {
            tcp.receive().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_pipelined_calls() {
    let served = serve();
    for (what, procedure) in [("echo", ECHO), ("cached", COUNT)] {
        let (start, before) = (Instant::now(), writes());
        pipeline(served.port, procedure).await;
        let took = start.elapsed();
        let rate = f64::from(CALLS) / took.as_secs_f64();
        println!("{what}: {rate:.0} calls/s, {} writes for {CALLS} calls", writes() - before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_one_call_at_a_time() {
    let served = serve();
    let mut tcp = Tcp::connect(served.port).await;
    let udp = Udp::to(([127, 0, 0, 1], served.port).into()).await;
    const N: u32 = 30_000;
    let start = Instant::now();
    for xid in 0..N {
        tcp.ask(&call(xid, ECHO, &[7; 160])).await;
    }
    println!("tcp: {:.1} us a call", start.elapsed().as_secs_f64() * 1e6 / f64::from(N));
    let start = Instant::now();
    for xid in 0..N {
        udp.ask(&call(xid, ECHO, &[7; 160])).await;
    }
    println!("udp: {:.1} us a call", start.elapsed().as_secs_f64() * 1e6 / f64::from(N));
}
