//! Many seeds, several at once, and their sums.
//!
//! Must never stop at a failure: how many there are says as much as what they are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::output;
use crate::run::Report;
use crate::settings::Settings;

use super::args::Asked;
use super::attempt::attempt;
use super::progress::Progress;
use super::report;

/// Failures that are shrunk and told at length; of the others there is one line each.
const AT_LENGTH: u64 = 1;

/// What all runs came to.
#[derive(Default)]
pub(super) struct Totals {
    runs: u64,
    requests: u64,
    taken_up: u64,
    simulated_s: u64,
    failed: u64,
    /// The sum of all digests: in whichever order the runs end.
    digests: u64,
}

impl Totals {
    fn add(&mut self, report: &Report, failed: bool) {
        self.runs += 1;
        self.requests += report.requests;
        self.taken_up += report.taken_up;
        self.simulated_s += report.lasted / 1_000_000;
        self.failed += u64::from(failed);
        self.digests = self.digests.wrapping_add(report.digest);
    }

    fn print(&self, began: Instant, commit: &str, digests: bool) {
        let took = began.elapsed().as_secs_f64();
        let digests = if digests { format!(", digests {:016x}", self.digests) } else { String::new() };
        output::line(format_args!(
            "sim: commit {commit}: {} runs, {} failed; {} take-overs, {} lock requests, {} s simulated in {took:.1} s ({:.0}x){digests}",
            self.runs,
            self.failed,
            self.taken_up,
            self.requests,
            self.simulated_s,
            self.simulated_s as f64 / took,
        ));
    }
}

/// Runs the seeds that were asked for. `Ok(false)`: one failed.
///
/// # Errors
/// How far it is cannot be written down.
pub(super) fn run_all(asked: &Asked) -> Result<bool, String> {
    let count = asked.seeds.unwrap_or(1);
    let first = asked.settings.seed;
    let seeds = (0..count).map(|n| Settings { seed: first.wrapping_add(n), ..asked.settings.clone() });
    let progress = match &asked.progress {
        Some(file) => Some(Progress::open(file, &asked.settings, report::commit())?),
        None => None,
    };
    Ok(run(asked, seeds, count == 1, progress))
}

/// Runs these. `alone`: there is only one, and more is said of it.
pub(super) fn run_these(asked: &Asked, runs: impl Iterator<Item = Settings> + Send, alone: bool) -> bool {
    run(asked, runs, alone, None)
}

fn run(
    asked: &Asked,
    runs: impl Iterator<Item = Settings> + Send,
    alone: bool,
    progress: Option<Progress>,
) -> bool {
    // Now: a long run outlives some commits.
    let (began, commit) = (Instant::now(), report::commit());
    let runs = Mutex::new(runs);
    let totals = Mutex::new((Totals::default(), progress));
    let told = AtomicU64::new(0);
    let next = || runs.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        for _ in 0..asked.jobs {
            scope.spawn(|| {
                while let Some(settings) = next() {
                    let (wrong, report) = attempt(&settings, false);
                    {
                        let (totals, progress) = &mut *totals.lock().unwrap_or_else(PoisonError::into_inner);
                        totals.add(&report, wrong.is_some());
                        progress.iter_mut().for_each(|progress| progress.add(&report, wrong.is_some()));
                    }
                    match wrong {
                        Some(wrong) if told.fetch_add(1, Ordering::Relaxed) < AT_LENGTH => {
                            report::tell_at_length(&settings, &wrong, asked.shrinks, "sim", "");
                        }
                        Some(wrong) => report::tell_in_a_line(&settings, &wrong),
                        None if alone => report::tell_what_was_checked(&report),
                        None => {}
                    }
                }
            });
        }
    });
    let (totals, mut progress) = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    progress.iter_mut().for_each(Progress::end);
    totals.print(began, &commit, asked.digests);
    totals.failed == 0
}
