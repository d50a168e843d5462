//! Counts what hot operations cost, in figures that are the same on each machine: heap allocations and bytes here, instructions by
//! valgrind from outside. `benches/counts` runs it and compares with `benches/counts.txt`.
//!
//! Must never let a figure depend on a clock, a random number or a second thread.

mod core;
mod memory;
#[allow(dead_code, reason = "the load generator's, which needs more of it")]
#[path = "../message.rs"]
mod message;
mod node;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Where the daemon draws a random number for its hash tables: figures are to be the same each time.
const SEED: u64 = 0x5eed_0f10_cfe2_2411;
/// No operation is run more often than this.
const MOST_RUNS: u32 = 4_000;
/// Before allocations are counted, so that buffers have their size.
const WARM_UP: u32 = 100;
/// How often allocations are counted.
const COUNTED: u32 = 1_000;

#[derive(Debug, Parser)]
#[command(name = "lockferry-counts", about = "What hot operations cost, without a clock")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The names of all operations.
    List,
    /// Runs an operation, for a tool that counts instructions.
    Run {
        /// Which.
        name: String,
        /// How often, 4,000 at the most.
        #[arg(value_parser = clap::value_parser!(u32).range(0..=i64::from(MOST_RUNS)))]
        times: u32,
        /// The seed of the hash tables, to see how much depends on it.
        #[arg(long, default_value_t = SEED)]
        seed: u64,
    },
    /// Prints names and figures: heap allocations of each operation, and bytes for each lock that is held.
    Figures,
}

/// Something that is repeated.
struct Operation {
    name: &'static str,
    /// Makes what one call does it once. With the seed of the hash tables.
    prepare: fn(u64) -> Box<dyn FnMut()>,
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::List => operations().for_each(|operation| println!("{}", operation.name)),
        Command::Run { name, times, seed } => {
            let Some(operation) = operations().find(|operation| operation.name == name) else {
                eprintln!("lockferry-counts: there is no operation '{name}': see lockferry-counts list");
                return ExitCode::FAILURE;
            };
            let mut run = (operation.prepare)(seed);
            (0..times).for_each(|_| run());
        }
        Command::Figures => figures(),
    }
    ExitCode::SUCCESS
}

fn operations() -> impl Iterator<Item = &'static Operation> {
    core::OPERATIONS.iter().chain(&node::OPERATIONS)
}

fn figures() {
    for operation in operations() {
        let mut run = (operation.prepare)(SEED);
        (0..WARM_UP).for_each(|_| run());
        let before = memory::allocations();
        (0..COUNTED).for_each(|_| run());
        let made = memory::allocations() - before;
        println!("{}.allocations {}", operation.name, made as f64 / f64::from(COUNTED));
    }
    for (name, bytes) in core::bytes_per_lock() {
        println!("held-{name}.bytes {bytes:.2}");
    }
}
