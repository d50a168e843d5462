//! `cargo xtask`: builds the simulator in the profile and with the features that it needs, and runs it.
//!
//! Must never build the seeded bugs into the directory where the product is built.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

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
        "sim" => simulate(&[], &with_files(args)),
        "mutants" => {
            let target = root().join("target/mutants");
            let build =
                ["--features", "mutants", "--target-dir", &target.to_string_lossy()].map(str::to_owned);
            let args: Vec<String> = std::iter::once("--mutants".to_owned()).chain(args).collect();
            simulate(&build, &with_files(args))
        }
        "-h" | "--help" => {
            println!("{USAGE}");
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

fn simulate(build: &[String], args: &[String]) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut run = Command::new(cargo);
    run.args(["run", "--quiet", "--profile", "sim", "--package", "lockferry-sim"])
        .args(build)
        .arg("--")
        .args(args);
    match run.current_dir(root()).status() {
        Ok(status) => {
            status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(e) => {
            eprintln!("xtask: cannot run {run:?}: {e}");
            ExitCode::FAILURE
        }
    }
}
