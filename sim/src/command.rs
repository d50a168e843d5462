//! The command line: which seeds, and what is printed of them.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::run::{self, Report, run};
use crate::settings::Settings;

const USAGE: &str = "usage: lockferry-sim [--seed FIRST] [--seeds N] [--jobs J] [--steps MS] [--moves M] [--clients C] [--without KIND]... [--trace] [--log]";

/// What was asked for.
struct Asked {
    first: u64,
    count: u64,
    jobs: usize,
    settings: Settings,
    /// The daemons' own log lines are printed.
    log: bool,
}

/// Runs what the arguments say.
pub fn main() -> ExitCode {
    let asked = match parse(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("lockferry-sim: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Err(e) = run::prepare() {
        eprintln!("lockferry-sim: cannot make the directories that are exported: {e}");
        return ExitCode::from(2);
    }
    if asked.log {
        let lines = tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false);
        lines.with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG).init();
    }
    run_all(&asked)
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { first: 1, count: 1, jobs: 1, settings: Settings::new(1), log: false };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("'{text}' is no number"));
        match arg.as_str() {
            "--seed" => asked.first = number(value()?)?,
            "--seeds" => asked.count = number(value()?)?,
            "--jobs" => asked.jobs = number(value()?)?.clamp(1, 64) as usize,
            "--steps" => asked.settings.until = Some(number(value()?)? * 1_000),
            "--moves" => asked.settings.moves = Some(number(value()?)? as u32),
            "--clients" => asked.settings.clients = Some(number(value()?)? as u32),
            "--without" => {
                let name = value()?;
                *asked.settings.trouble.switch(&name).ok_or(format!("there is no trouble '{name}'"))? = false;
            }
            "--trace" => asked.settings.trace = true,
            "--log" => asked.log = true,
            _ => return Err(format!("there is no option '{arg}'")),
        }
    }
    Ok(asked)
}

#[derive(Default)]
struct Totals {
    runs: u64,
    requests: u64,
    taken_up: u64,
    simulated_s: u64,
    failed: Vec<u64>,
    cut_short: u64,
}

fn run_all(asked: &Asked) -> ExitCode {
    let began = Instant::now();
    let next = AtomicU64::new(asked.first);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..asked.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= asked.first + asked.count {
                        return;
                    }
                    let report = run(&Settings { seed, ..asked.settings.clone() }, false);
                    note(&totals, &report, asked.count == 1);
                }
            });
        }
    });
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    let took = began.elapsed().as_secs_f64();
    println!(
        "{} runs, {} take-overs, {} lock requests, {} s simulated in {took:.1} s ({:.0}x), {} failed, {} cut short",
        totals.runs,
        totals.taken_up,
        totals.requests,
        totals.simulated_s,
        totals.simulated_s as f64 / took,
        totals.failed.len(),
        totals.cut_short
    );
    if totals.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn note(totals: &Mutex<Totals>, report: &Report, alone: bool) {
    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
    totals.runs += 1;
    totals.requests += report.requests;
    totals.taken_up += report.taken_up;
    totals.simulated_s += report.lasted / 1_000_000;
    totals.cut_short += u64::from(report.cut_short);
    if let Some(violation) = &report.violation {
        totals.failed.push(report.seed);
        println!("seed {}: {violation}", report.seed);
    }
    if alone {
        println!(
            "seed {} digest {:016x} {:?}\n{:?}",
            report.seed, report.digest, report.summary, report.stats
        );
    }
}
