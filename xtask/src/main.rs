//! `cargo xtask`: builds the simulator in the profile and with the features that it needs, and runs it.
//!
//! Must never build the seeded bugs into the directory where the product is built.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

/// A build that takes longer is announced: the first one takes minutes.
const QUICK: Duration = Duration::from_secs(1);
/// How often it is looked whether it is done.
const LOOK: Duration = Duration::from_millis(50);

const USAGE: &str = "\
cargo xtask sim [OPTION]...               runs seeds of the simulator
cargo xtask sim --regressions             runs those that found something once
cargo xtask mutants [NAME]... [OPTION]... looks whether it finds the seeded bugs
cargo xtask sim --help                    says what the options are";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let args: Vec<String> = args.collect();
    match command.as_str() {
        "sim" => simulate("the simulator, with the product in it", &[], &with_files(args)),
        "mutants" => {
            let target = root().join("target/mutants");
            let build =
                ["--features", "mutants", "--target-dir", &target.to_string_lossy()].map(str::to_owned);
            let args: Vec<String> = std::iter::once("--mutants".to_owned()).chain(args).collect();
            simulate("the simulator with the seeded bugs", &build, &with_files(args))
        }
        "-h" | "--help" => {
            // Nobody may read it.
            let _ = writeln!(std::io::stdout(), "{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("xtask: there is no task '{command}'\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The simulator wants to be told where they are.
fn with_files(mut args: Vec<String>) -> Vec<String> {
    for (option, file) in [("--regressions", "sim/regressions"), ("--note", "sim/mutant-seeds")] {
        if let Some(at) = args.iter().position(|arg| arg == option) {
            args.insert(at + 1, root().join(file).to_string_lossy().into_owned());
        }
    }
    args
}

fn simulate(what: &str, build: &[String], args: &[String]) -> ExitCode {
    match build_it(what, build) {
        Ok(status) if status.success() => {}
        Ok(status) => return code_of(status),
        Err(e) => {
            eprintln!("xtask: cannot run cargo: {e}");
            return ExitCode::FAILURE;
        }
    }
    let mut run = cargo("run", build);
    match run.arg("--").args(args).status() {
        Ok(status) => code_of(status),
        Err(e) => {
            eprintln!("xtask: cannot run {run:?}: {e}");
            ExitCode::FAILURE
        }
    }
}

fn cargo(what: &str, more: &[String]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([what, "--quiet", "--profile", "sim", "--package", "lockferry-sim"]).args(more);
    cargo.current_dir(root());
    cargo
}

/// Builds it, and says so if there is much to be built.
fn build_it(what: &str, more: &[String]) -> std::io::Result<ExitStatus> {
    let mut cargo = cargo("build", more).spawn()?;
    let began = Instant::now();
    while began.elapsed() < QUICK {
        if let Some(status) = cargo.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(LOOK);
    }
    eprintln!("xtask: building {what}, optimised (profile sim); the first time that may take some minutes");
    cargo.wait()
}

fn code_of(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
