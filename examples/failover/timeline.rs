//! What is printed: a line for each thing that happens, with the time since the node was killed, and the comparison at the end.
//!
//! Must never print a time that was not measured.

use std::time::{Duration, Instant};

use crate::scenario::{HELD, Measured};

/// A run as it goes.
#[derive(Default)]
pub(crate) struct Timeline {
    killed: Option<Instant>,
    lines: Vec<(Instant, String)>,
}

impl Timeline {
    /// From now on times count.
    pub(crate) fn killed(&mut self, at: Instant) {
        self.killed = Some(at);
    }

    /// Something happened now.
    pub(crate) fn now(&mut self, who: &str, what: &str) {
        self.at(Instant::now(), who, what);
    }

    /// Something happened then.
    pub(crate) fn at(&mut self, at: Instant, who: &str, what: &str) {
        let since = |zero| format!("{:.3} s", at.saturating_duration_since(zero).as_secs_f64());
        let time = self.killed.map(since).unwrap_or_default();
        self.lines.push((at, format!("{time:>9}  {who:7} {what}")));
    }

    /// Prints what happened since the last time, in order.
    pub(crate) fn flush(&mut self) {
        self.lines.sort_by_key(|(at, _)| *at);
        self.lines.drain(..).for_each(|(_, line)| println!("{line}"));
    }
}

/// A duration as people read it.
pub(crate) fn text(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1e3),
    }
}

/// Both runs side by side.
pub(crate) fn compare(ours: &Measured, full: &Measured) {
    println!("\nSide by side                                    only conflicts wait   every new lock waits");
    let line = |what: &str, of: &dyn Fn(&Measured) -> String| {
        println!("  {what:<46}{:>19}{:>23}", of(ours), of(full))
    };
    line("node B serves the address after the kill", &|m| text(m.outage));
    line("web3's lock, which conflicts with nothing", &|m| text(m.bystander));
    line("the load's longest gap between two locks", &|m| text(m.gap));
    line("locks that the load got in the grace window", &|m| m.in_window.to_string());
    line("the grace window lasted", &|m| text(m.window));
    line("web1's locks kept, of those it held", &|m| format!("{} of {HELD}", m.kept));
    line("web2 had its lock, after web1 released it", &|m| text(m.waiter));
}
