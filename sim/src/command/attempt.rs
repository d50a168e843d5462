//! One run, and what was wrong with it: what the checker says, a panic, or a standstill.
//!
//! Must never take one thing that is wrong for another.

use std::fmt;

use lockferry_checker::history::Micros;
use lockferry_checker::{Violation, seconds};

use crate::run::{Report, run};
use crate::settings::Settings;

/// What was wrong with a run.
#[derive(Clone, Debug)]
pub(super) enum Wrong {
    /// A promise was broken.
    Broken(Violation),
    /// Something panicked: when, where, and what it said.
    Panicked(Micros, String),
    /// Nothing was left to be done before all had come to rest, or far too much was.
    Stuck(Micros),
}

impl Wrong {
    /// What was wrong with a run, if anything.
    pub(super) fn of(report: &Report) -> Option<Self> {
        if let Some(said) = &report.panic {
            return Some(Self::Panicked(report.lasted, said.clone()));
        }
        let broken = report.violation.clone().map(Self::Broken);
        broken.or_else(|| report.cut_short.then_some(Self::Stuck(report.lasted)))
    }

    /// Whether it is the same kind of thing.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Broken(one), Self::Broken(two)) => one.invariant == two.invariant,
            (Self::Panicked(_, one), Self::Panicked(_, two)) => place(one) == place(two),
            (Self::Stuck(_), Self::Stuck(_)) => true,
            _ => false,
        }
    }

    /// When it showed.
    pub(super) fn at(&self) -> Micros {
        match self {
            Self::Broken(violation) => violation.at,
            Self::Panicked(at, _) | Self::Stuck(at) => *at,
        }
    }

    /// In a word.
    #[cfg_attr(not(feature = "mutants"), allow(dead_code, reason = "their table has no room for more"))]
    pub(super) fn short(&self) -> String {
        match self {
            Self::Broken(violation) => format!("{:?}", violation.invariant),
            Self::Panicked(_, said) => format!("panic: {}", said.lines().next().unwrap_or("")),
            Self::Stuck(_) => "stuck".into(),
        }
    }
}

/// File and line.
fn place(said: &str) -> &str {
    said.split(": ").next().unwrap_or(said)
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = seconds(self.at());
        match self {
            Self::Broken(violation) => write!(f, "{:?} at {at}: {}", violation.invariant, violation.what),
            Self::Panicked(_, said) => write!(f, "panic at {at}: {said}"),
            Self::Stuck(_) => {
                write!(
                    f,
                    "stuck at {at}: it came to no end; either nothing was due any more, or without a pause"
                )
            }
        }
    }
}

/// Runs it; what was wrong, if anything, and the report.
pub(super) fn attempt(settings: &Settings, keep: bool) -> (Option<Wrong>, Report) {
    let report = run(settings, keep);
    (Wrong::of(&report), report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_alike_if_they_come_from_one_place() {
        let panic = |said: &str| Wrong::Panicked(1, said.into());
        assert!(panic("src/a.rs:7: index 3").is_like(&panic("src/a.rs:7: index 4")));
        assert!(!panic("src/a.rs:7: index 3").is_like(&panic("src/a.rs:8: index 3")));
        assert!(!panic("src/a.rs:7: index 3").is_like(&Wrong::Stuck(1)));
        assert_eq!(panic("src/a.rs:7: index 3\n  1: main").short(), "panic: src/a.rs:7: index 3");
    }
}
