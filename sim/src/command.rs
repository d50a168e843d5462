//! The command line: which seeds are run, and what is said of them.
//!
//! Must never have a say in what happens within a run.

mod args;
mod attempt;
mod batch;
mod mutants;
mod progress;
mod regressions;
mod report;
mod shrink;
mod story;

use std::process::ExitCode;

use tracing_subscriber::filter::LevelFilter;

use crate::output;

use args::{Asked, Task};

/// Runs what the arguments say.
pub fn main() -> ExitCode {
    let asked = match args::parse(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("lockferry-sim: {why}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    if let Err(e) = crate::run::prepare() {
        eprintln!("lockferry-sim: cannot make the directories that are exported: {e}");
        return ExitCode::from(2);
    }
    if asked.log {
        let lines = tracing_subscriber::fmt().with_timer(output::Where).with_target(false).with_ansi(false);
        lines.with_writer(|| output::Out).with_max_level(LevelFilter::DEBUG).init();
    }
    match carry_out(&asked) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("lockferry-sim: {why}");
            ExitCode::from(2)
        }
    }
}

/// `Ok(false)`: something was wrong with what was run.
fn carry_out(asked: &Asked) -> Result<bool, String> {
    match &asked.task {
        Task::Help => {
            output::line(args::USAGE);
            Ok(true)
        }
        Task::Seeds => batch::run_all(asked),
        Task::Regressions(file) => regressions::run_all(asked, file),
        Task::Mutants(names) => mutants::run_all(asked, names),
    }
}
