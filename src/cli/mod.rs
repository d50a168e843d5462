//! The `lockferry` command: reads the command line, runs one command, turns the outcome into an exit status.
//! Must never hold logic of its own: serving is the node's, asking is the control room's.

mod args;
pub mod config;
mod journal;
mod logging;
mod serve;
mod show;
mod transfer;
mod verbs;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind as UsageKind;

use self::args::{CheckConfig, Cli, Command};
use self::config::{Flags, Loaded, Surroundings};
use self::show::ShowError;

/// It failed.
const FAILURE: u8 = 1;
/// The command line or the configuration is wrong: trying again changes nothing.
const USAGE: u8 = 2;

/// Runs the command line. 0: done; 1: it failed; 2: wrong command line or configuration.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // --help and --version arrive here too, and are no errors.
            let help = matches!(error.kind(), UsageKind::DisplayHelp | UsageKind::DisplayVersion);
            // Nothing better can be done if even the message cannot be printed.
            let _ = error.print();
            return if help { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    let around = Surroundings::of_process();
    match &cli.command {
        Command::Serve(serve) => serve::run(serve, &around),
        Command::CheckConfig(check) => check_config(check, &around),
        Command::Journal(journal) => journal::run(journal),
        Command::ExportState(export) => transfer::export(export, &around),
        Command::ImportState(import) => transfer::import(import, &around),
        command => ask(command, &around),
    }
}

fn check_config(check: &CheckConfig, around: &Surroundings) -> ExitCode {
    let file = check.file.clone().or_else(|| check.config.clone());
    let flags = Flags { file, ..Flags::default() };
    let Some(loaded) = load(&flags, around) else { return ExitCode::from(USAGE) };
    let text = if check.show {
        loaded.show()
    } else {
        match &loaded.file {
            Some(file) => format!("{}: ok\n", file.display()),
            None => "no file; defaults and LOCKFERRY_* variables: ok\n".into(),
        }
    };
    if loaded.settings.node.exports.is_empty() {
        eprintln!("warning: nothing is exported: add [[export]], or give `lockferry serve` --export DIR");
    }
    loaded.absent().iter().for_each(|warning| eprintln!("warning: {warning}"));
    finish(io::stdout().write_all(text.as_bytes()).map_err(ShowError::Output))
}

/// Loads the settings; on a mistake prints what is wrong and returns nothing.
fn load(flags: &Flags, around: &Surroundings) -> Option<Loaded> {
    match config::load(flags, around) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            Some(loaded)
        }
        Err(mistakes) => {
            mistakes.0.iter().for_each(|mistake| eprintln!("error: {mistake}"));
            None
        }
    }
}

/// The commands that ask a running server.
fn ask(command: &Command, around: &Surroundings) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return fail(&format!("cannot start: {why}")),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let shown = runtime.block_on(async {
        let out = &mut out;
        match command {
            Command::Status(status) => show::status(&status.ask, around, out).await,
            Command::Locks(list) => show::locks(list, around, out).await,
            Command::Waiters(list) => show::waiters(list, around, out).await,
            Command::Clients(list) => show::clients(list, around, out).await,
            Command::Refusals(refusals) => show::refusals(refusals, around, out).await,
            Command::Accept(accept) => show::accept(accept, around, out).await,
            Command::StartGrace(start) => verbs::start_grace(start, around, out).await,
            Command::UnlockIp(unlock) => verbs::unlock_ip(unlock, around, out).await,
            Command::EndGrace(end) => verbs::end_grace(end, around, out).await,
            Command::UnlockFilesystem(unlock) => verbs::unlock_filesystem(unlock, around, out).await,
            Command::UnlockClient(unlock) => verbs::unlock_client(unlock, around, out).await,
            Command::Revoke(revoke) => verbs::revoke(revoke, around, out).await,
            Command::Explain(explain) => verbs::explain(explain, around, out).await,
            Command::Serve(_)
            | Command::CheckConfig(_)
            | Command::Journal(_)
            | Command::ExportState(_)
            | Command::ImportState(_) => Ok(()),
        }
    });
    let flushed = out.flush().map_err(ShowError::Output);
    finish(shown.and(flushed))
}

fn finish(outcome: Result<(), ShowError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // `lockferry locks | head`: the reader has had enough.
        Err(ShowError::Output(why)) if why.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(why @ ShowError::Usage(_)) => {
            fail(&why.to_string());
            ExitCode::from(USAGE)
        }
        Err(why) => fail(&why.to_string()),
    }
}

/// Prints an error that may hold text from elsewhere, line by line.
fn fail(what: &str) -> ExitCode {
    let lines: Vec<String> = what.lines().map(crate::control::text::table::safe).collect();
    eprintln!("error: {}", lines.join("\n"));
    ExitCode::from(FAILURE)
}
