//! Everything at once on the real binary, judged by the checker: two daemons, clients with real sockets, addresses that move well and badly,
//! and all that befalls machines, disks and networks. What the clients sent and received must be something that a correct service can bring
//! about; in the end the lists, the record and what the clients know must be one.
//!
//! `CHAOS_SEED` and `CHAOS_SECONDS` choose a run, `CHAOS_WITHOUT=disk,liars` leaves kinds of trouble out. Must never let the checker know what
//! only the service knows, nor leave a process or a mount behind.

// Helpers of tests are no less tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod calm;
mod cluster;
mod director;
mod machine;
mod machinery;
mod net;
mod observer;
mod plan;
#[path = "../rawrpc/mod.rs"]
mod rawrpc;
mod report;
#[path = "../support/mod.rs"]
mod support;
mod verbs;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockferry_checker::history::ClientId;
use lockferry_sim::client::{Config, Stats};
use lockferry_sim::random::Random;

use cluster::Cluster;
use director::Director;
use machine::Machine;
use net::Net;
use observer::Observer;
use plan::{Plan, Trouble};
use rawrpc::{Node, World};
use verbs::Verbs;

/// How long the trouble lasts if nothing else is said.
const SECONDS: u64 = 40;

fn client_name(client: u32) -> String {
    format!("c{client}")
}

fn client_address(client: u32) -> IpAddr {
    Ipv4Addr::new(127, 0, 9, 1 + client as u8).into()
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn trouble() -> Trouble {
    let without = std::env::var("CHAOS_WITHOUT").unwrap_or_default();
    Trouble::without(&without).unwrap_or_else(|why| panic!("CHAOS_WITHOUT: {why}"))
}

/// One run from its seed to its verdict.
fn run(seed: u64) {
    let Some(world) = World::new() else { return };
    let mut random = Random::new(seed);
    let plan = Plan::draw(number("CHAOS_SECONDS").unwrap_or(SECONDS), trouble(), &mut random.fork());
    let path = history_path(seed);
    println!("CHAOS_SEED={seed}, {plan:?}\nthe history goes to {}", path.display());
    let observer = Arc::new(Observer::new(plan.checker(), &path));
    let sockets = ["a", "b"].map(|name| world.dir().join(name).join("socket"));
    let nodes = [Node::here(&world, "a"), Node::apart(&world, "b")];
    let verbs = Arc::new(Verbs::new(observer.clone(), sockets.to_vec(), plan.window));
    let shared = Arc::new(machine::World { observer: observer.clone(), net: Net::new(random.fork()), nodes });
    // It ends before the daemons do: nobody sends to what is gone.
    let mut cluster = Cluster::new(world, shared, verbs, plan);
    println!("{}", cluster.machinery());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (moves, stats) = play(&mut cluster, &runtime, random);
    runtime.shutdown_background();
    let (violation, summary, events) = observer.finish();
    println!("{} take-overs were asked for, {summary:?}\n{stats:?}", moves);
    if let Some(violation) = violation {
        report::print(seed, &cluster.plan, &violation, &events, &path);
        keep_logs(&cluster, seed);
        panic!("seed {seed}: {violation}");
    }
}

fn play(cluster: &mut Cluster, runtime: &tokio::runtime::Runtime, mut random: Random) -> (u32, Stats) {
    (0..2).for_each(|node| cluster.boot(node));
    let mut director = Director::new(cluster, random.fork());
    director.begin();
    let homes = director.homes.clone();
    director.cluster.look_up_files(&homes);
    let _inside = runtime.enter();
    director.machines = boot_clients(director.cluster, &mut random);
    director.run();
    if !director.cluster.shared.observer.is_over() {
        director.heal_all();
        calm::come_to_rest(&mut director);
    }
    let mut stats = Stats::default();
    for machine in &director.machines {
        machine.act(|client, _, _| report::add(&mut stats, client.stats()));
    }
    (director.moves, stats)
}

fn boot_clients(cluster: &Cluster, random: &mut Random) -> Vec<Arc<Machine>> {
    let count = cluster.plan.kinds.len() as u32;
    let machines = cluster.plan.kinds.iter().enumerate().map(|(place, kind)| {
        let number = place as u32;
        let others = (0..count).filter(|other| *other != number);
        let others = others.map(|o| (ClientId(o), client_name(o).into_bytes(), client_address(o)));
        let config = Config {
            id: ClientId(number),
            name: client_name(number).into_bytes(),
            address: client_address(number),
            seed: random.number(),
            kind: *kind,
            files: cluster.files.clone(),
            others: others.collect(),
            pace: cluster.plan.pace,
        };
        Machine::boot(&cluster.shared, place, config).expect("a client's sockets")
    });
    machines.collect()
}

/// The daemons' logs go beside the history, with what waits there now.
fn keep_logs(cluster: &Cluster, seed: u64) {
    for node in 0..2 {
        let Some(daemon) = cluster.daemon(node) else { continue };
        let path = history_path(seed).with_extension(format!("node-{node}.log"));
        let mut text = daemon.log();
        if cluster.is_well(node) {
            let waiters = daemon.command(&["waiters"]).stdout;
            text += &format!("-- what waits:\n{}", String::from_utf8_lossy(&waiters));
        }
        println!("-- the log of node {node} since its last start: {}", path.display());
        std::fs::write(path, text).unwrap();
    }
}

fn history_path(seed: u64) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}.history"))
}

// Seeds without clients that use the asynchronous procedures: they may wait for two minutes in the end. `CHAOS_SEED` names another for the
// first, and leaves the second out.

#[test]
fn slow_a_correct_service_could_have_done_all_that_the_clients_saw() {
    run(number("CHAOS_SEED").unwrap_or(15));
}

#[test]
fn slow_the_same_under_another_seed() {
    if number("CHAOS_SEED").is_none() {
        run(16);
    }
}
