//! Makes a failed run smaller: the same seed with less trouble, fewer clients, fewer moves, cut where the failure shows.
//!
//! Must never end with a failure of another kind, nor take for ever.

use std::time::{Duration, Instant};

use lockferry_checker::history::{Event, Micros};

use crate::run::made_of;
use crate::settings::{MS, Settings, Trouble};

use super::args::left_out;
use super::attempt::{Wrong, attempt};

/// Runs at the most.
const RUNS: u32 = 60;
/// And so long at the most, should single runs take very long.
const TIME: Duration = Duration::from_secs(90);
/// A run that has not failed so many times later than the first one is given up.
const PATIENCE: Micros = 4;

/// A smaller failure.
pub(super) struct Shrunk {
    /// What runs it.
    pub(super) settings: Settings,
    /// What is wrong with it.
    pub(super) wrong: Wrong,
    /// What happened.
    pub(super) history: Vec<(Micros, Event)>,
    /// What it does not need.
    pub(super) away: Vec<String>,
    /// How many runs that took.
    pub(super) runs: u32,
}

struct Shrinker {
    best: Settings,
    wrong: Wrong,
    runs: u32,
    began: Instant,
}

/// Makes it smaller.
pub(super) fn shrink(settings: &Settings, wrong: &Wrong) -> Shrunk {
    let first = Settings { trace: false, ..settings.clone() };
    let mut it = Shrinker { best: first.clone(), wrong: wrong.clone(), runs: 0, began: Instant::now() };
    // What is left out later may make room for what was not possible before.
    loop {
        let before = it.best.clone();
        it.less_trouble();
        it.fewer_clients();
        it.fewer_moves();
        if it.is_tired() || same(&before, &it.best) {
            break;
        }
    }
    it.finish(&first)
}

fn same(one: &Settings, two: &Settings) -> bool {
    (one.trouble, one.clients, one.moves) == (two.trouble, two.clients, two.moves)
}

impl Shrinker {
    fn is_tired(&self) -> bool {
        self.runs >= RUNS || self.began.elapsed() > TIME
    }

    /// Runs it, and keeps it if it fails in the same way.
    fn try_out(&mut self, settings: Settings) -> bool {
        if self.is_tired() {
            return false;
        }
        self.runs += 1;
        let patience = (self.wrong.at().saturating_mul(PATIENCE)).max(1_000_000 * 600);
        let until = Some(settings.until.map_or(patience, |until| until.min(patience)));
        let (wrong, _) = attempt(&Settings { until, ..settings.clone() }, false);
        let Some(wrong) = wrong.filter(|wrong| wrong.is_like(&self.wrong)) else { return false };
        self.best = settings;
        self.wrong = wrong;
        true
    }

    fn less_trouble(&mut self) {
        let (mut there, _) = made_of(&self.best);
        let names: Vec<_> =
            Trouble::NAMES.into_iter().filter(|name| there.switch(name).is_some_and(|on| *on)).collect();
        if names.len() > 2 {
            let mut nothing = self.best.clone();
            names.iter().for_each(|name| switch_off(&mut nothing.trouble, name));
            if self.try_out(nothing) {
                return;
            }
        }
        for name in names {
            let mut less = self.best.clone();
            switch_off(&mut less.trouble, name);
            self.try_out(less);
        }
    }

    fn fewer_clients(&mut self) {
        for clients in 1..made_of(&self.best).1.clients {
            if self.try_out(Settings { clients: Some(clients), ..self.best.clone() }) {
                return;
            }
        }
    }

    fn fewer_moves(&mut self) {
        let now = made_of(&self.best).1.moves;
        for moves in [0, 1, 2, 3, 4, 6, 8, 11].into_iter().take_while(|moves| *moves < now) {
            if self.try_out(Settings { moves: Some(moves), ..self.best.clone() }) {
                return;
            }
        }
    }

    /// Cuts it where it fails, and runs it for its history.
    fn finish(mut self, first: &Settings) -> Shrunk {
        let away = self.away(first);
        let cut = Settings { until: Some((self.wrong.at() / MS + 1) * MS), ..self.best.clone() };
        let (wrong, report) = attempt(&cut, true);
        if let Some(wrong) = wrong.filter(|wrong| wrong.is_like(&self.wrong)) {
            let (settings, history, runs) = (cut, report.history, self.runs + 1);
            return Shrunk { settings, wrong, history, away, runs };
        }
        // It shows only when the run is over.
        let (wrong, report) = attempt(&self.best, true);
        self.wrong = wrong.unwrap_or(self.wrong);
        Shrunk { settings: self.best, wrong: self.wrong, history: report.history, away, runs: self.runs + 2 }
    }

    fn away(&self, first: &Settings) -> Vec<String> {
        let ((before, large), (after, small)) = (made_of(first), made_of(&self.best));
        let (before, after) = (left_out(before), left_out(after));
        let mut away: Vec<String> =
            after.into_iter().filter(|name| !before.contains(name)).map(str::to_owned).collect();
        if small.clients < large.clients {
            away.push(format!("{} of {} clients", large.clients - small.clients, large.clients));
        }
        if small.moves < large.moves {
            away.push(format!("{} of {} moves", large.moves - small.moves, large.moves));
        }
        away
    }
}

fn switch_off(trouble: &mut Trouble, name: &str) {
    if let Some(on) = trouble.switch(name) {
        *on = false;
    }
}
