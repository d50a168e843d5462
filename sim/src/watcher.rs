//! Hears the history, hands it to the checker, and remembers what a person wants to know of a run.
//!
//! Must never tell the checker anything but the history, nor let a run go on after a violation.

use lockferry_checker::history::{Event, Micros};
use lockferry_checker::{Checker, Summary, Violation};

use crate::output;

/// What was wrong, what was checked, the hash of all events, and the history if it was kept.
pub type Heard = (Option<Violation>, Option<Summary>, u64, Vec<(Micros, Event)>);

/// Listens to a run.
pub struct Watcher {
    checker: Option<Checker>,
    violation: Option<Violation>,
    over: bool,
    until: Option<Micros>,
    trace: bool,
    /// A hash of all events: two runs of one seed have the same.
    digest: u64,
    /// Kept for the report of a failure.
    kept: Option<Vec<(Micros, Event)>>,
    /// Calls that clients sent, repetitions counted.
    pub requests: u64,
    /// Lock managers taken up, by command or by a daemon that started.
    pub taken_up: u64,
}

impl Watcher {
    /// One with this checker. `keep`: the whole history.
    pub fn new(checker: Checker, until: Option<Micros>, trace: bool, keep: bool) -> Self {
        Self {
            checker: Some(checker),
            violation: None,
            over: false,
            until,
            trace,
            digest: 0xcbf2_9ce4_8422_2325,
            kept: keep.then(Vec::new),
            requests: 0,
            taken_up: 0,
        }
    }

    /// The next event.
    pub fn observe(&mut self, at: Micros, event: Event) {
        use lockferry_checker::history::{Opened, Result as Came};
        if self.over {
            return;
        }
        match &event {
            Event::Sent { .. } => self.requests += 1,
            Event::Came {
                result: Came::TakenUp(Opened::Adopted { .. } | Opened::Window | Opened::Full),
                ..
            }
            | Event::Resumed { .. } => self.taken_up += 1,
            _ => {}
        }
        if self.trace {
            output::line(crate::words::line(at, &event));
        }
        self.digest =
            self.digest.rotate_left(5).wrapping_mul(0x0000_0100_0000_01b3) ^ fingerprint(at, &event);
        if let Some(checker) = &mut self.checker
            && let Err(violation) = checker.observe(at, &event)
        {
            self.violation = Some(violation);
            self.over = true;
        }
        if let Some(kept) = &mut self.kept {
            kept.push((at, event));
        }
        self.over |= self.until.is_some_and(|until| at >= until);
    }

    /// The run is over.
    pub fn end(&mut self) {
        self.over = true;
    }

    /// Whether it is.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What was wrong, what was checked, the hash of all events, and the history if it was kept.
    pub fn take(&mut self) -> Heard {
        let kept = self.kept.take().unwrap_or_default();
        let summary = self.checker.take().map(Checker::finish);
        (self.violation.take(), summary, self.digest, kept)
    }
}

fn fingerprint(at: Micros, event: &Event) -> u64 {
    let what = match event {
        Event::Sent { call, .. } => call.0,
        Event::Got { call, .. } => call.0 ^ 0x5555,
        Event::Granted { lock, .. } => lock.bytes.start ^ 0x3333,
        _ => 1,
    };
    at.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ what
}
