//! What is printed of a run.
//!
//! Must never tell of a failure without the command that brings it about again.

use std::process::Command;

use crate::output;
use crate::run::Report;
use crate::settings::Settings;

use super::args;
use super::attempt::{Wrong, attempt};
use super::shrink::{self, Shrunk};
use super::story;

/// Lines of the history at the most.
const LINES: usize = 150;

/// A failure: as small as it can be made, with its story. `command` and `more`: what runs it, before and behind the settings.
pub(super) fn tell_at_length(settings: &Settings, wrong: &Wrong, shrinks: bool, command: &str, more: &str) {
    let shrunk = match shrinks {
        true => shrink::shrink(settings, wrong),
        false => as_it_is(settings, wrong),
    };
    let mut text = format!("\nseed {} FAILED, commit {}\n  {wrong}\n", settings.seed, commit());
    if let Wrong::Broken(violation) = wrong {
        text += &format!("  {:?} is {}\n", violation.invariant, violation.invariant.promise());
    }
    if shrinks {
        let away = match shrunk.away.as_slice() {
            [] => "nothing".into(),
            away => away.join(", "),
        };
        text += &format!("shrunk in {} runs; not needed: {away}\n", shrunk.runs);
        text += &format!("  {}\n", shrunk.wrong);
    }
    text += &format!("what it is about, of {} events:\n", shrunk.history.len());
    for line in story::tell(&shrunk.history, &shrunk.wrong, LINES) {
        text += &format!("{line}\n");
    }
    text += &format!("again:  cargo xtask {command} {}{more}\n", args::write(settings));
    if shrinks {
        // Its history is told above: what is left is all the rest.
        let one = if more.is_empty() { "" } else { " --seeds 1" };
        text += &format!("shrunk: cargo xtask {command} {}{one} --trace\n", args::write(&shrunk.settings));
    }
    output::line(text);
}

fn as_it_is(settings: &Settings, wrong: &Wrong) -> Shrunk {
    let (_, report) = attempt(&Settings { trace: false, ..settings.clone() }, true);
    let (settings, wrong) = (settings.clone(), wrong.clone());
    Shrunk { settings, wrong, history: report.history, away: Vec::new(), runs: 1 }
}

/// A failure, when another is told already.
pub(super) fn tell_in_a_line(settings: &Settings, wrong: &Wrong) {
    let again = args::write(settings);
    output::line(format_args!("seed {} FAILED: {wrong}\n  again: cargo xtask sim {again}", settings.seed));
}

/// A run in which nothing was wrong.
pub(super) fn tell_what_was_checked(report: &Report) {
    output::line(format_args!("seed {} passed, digest {:016x}", report.seed, report.digest));
    output::line(format_args!("  checker: {:?}\n  clients: {:?}", report.summary, report.stats));
}

/// The commit that this was built from, as far as one can say.
pub(super) fn commit() -> String {
    let git = |args: &[&str]| {
        let out = Command::new("git").args(args).output().ok().filter(|out| out.status.success())?;
        Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]).filter(|c| !c.is_empty()) else {
        return "unknown".into();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        Some(_) => format!("{commit} with uncommitted changes"),
        None => commit,
    }
}
