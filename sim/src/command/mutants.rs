//! The seeded bugs of the product, one after the other: does the checker notice?
//!
//! Must never count as caught what fails without the bug as well.

/// Without them.
///
/// # Errors
/// Always: they are not in this build.
#[cfg(not(feature = "mutants"))]
pub(super) fn run_all(_: &super::args::Asked, _: &[String]) -> Result<bool, String> {
    Err("this was built without mutants: cargo xtask mutants builds them in".into())
}

#[cfg(feature = "mutants")]
pub(super) use with::run_all;

#[cfg(feature = "mutants")]
mod with {
    use std::collections::BTreeMap;
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
    use std::time::Instant;

    use lockferry::mutants::{Mutant, set};

    use super::super::args::{self, Asked};
    use super::super::attempt::{Wrong, attempt};
    use super::super::report;
    use crate::output;
    use crate::settings::Settings;

    /// Seeds for each, unless it is said.
    const SEEDS: u64 = 300;

    /// What became of one.
    struct Found {
        caught: Option<(Settings, Wrong)>,
        /// Seeds that were run.
        seeds: u64,
        /// Seeds that fail without it, too.
        unsound: u64,
        seconds: f64,
    }

    /// Looks for them, all or those named. `Ok(false)`: one was not caught.
    ///
    /// # Errors
    /// A name that there is not.
    pub(in super::super) fn run_all(asked: &Asked, names: &[String]) -> Result<bool, String> {
        let mutants = named(names)?;
        let all = mutants.iter().copied().filter(|mutant| !names.is_empty() || mutant.unseen().is_none());
        let looked_for: Vec<Mutant> = all.collect();
        let found = hunt(asked, &looked_for);
        let caught = found.iter().filter(|found| found.caught.is_some()).count();
        for mutant in mutants.iter().filter(|mutant| !looked_for.contains(mutant)) {
            let why = mutant.unseen().unwrap_or("");
            output::line(format_args!("{:<34} not to be seen here: {why}", mutant.name()));
        }
        let unsound: u64 = found.iter().map(|found| found.unsound).sum();
        if unsound > 0 {
            output::line(format_args!(
                "{unsound} times a seed failed that fails without any mutant, too; none of those count\n\
                 as long as seeds fail by themselves, a mutant may be counted that only led to such a failure elsewhere"
            ));
        }
        output::line(format_args!("mutants: caught {caught} of {}", looked_for.len()));
        Ok(caught == looked_for.len())
    }

    fn named(names: &[String]) -> Result<Vec<Mutant>, String> {
        if names.is_empty() {
            return Ok(Mutant::ALL.to_vec());
        }
        let one = |name: &String| Mutant::parse(name).ok_or(format!("there is no mutant '{name}'"));
        names.iter().map(one).collect()
    }

    /// Several at once, each in a thread of its own; what became of them is printed in order.
    fn hunt(asked: &Asked, mutants: &[Mutant]) -> Vec<Found> {
        let left = Mutex::new(0..mutants.len());
        // A function: were this the loop's own expression, the lock would be held all through its body.
        let next = || lock(&left).next();
        let (found, more) = (Mutex::new(BTreeMap::new()), Condvar::new());
        std::thread::scope(|scope| {
            for _ in 0..asked.jobs {
                scope.spawn(|| {
                    while let Some(at) = next() {
                        let one = look_for(asked, mutants[at]);
                        lock(&found).insert(at, one);
                        more.notify_all();
                    }
                });
            }
            let print = |at: usize| {
                let mut found = lock(&found);
                let one = loop {
                    match found.remove(&at) {
                        Some(one) => break one,
                        None => found = more.wait(found).unwrap_or_else(PoisonError::into_inner),
                    }
                };
                output::line(row(mutants[at], &one));
                one
            };
            (0..mutants.len()).map(print).collect()
        })
    }

    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_for(asked: &Asked, mutant: Mutant) -> Found {
        let began = Instant::now();
        let (first, count) = (asked.settings.seed, asked.seeds.unwrap_or(SEEDS));
        let mut found = Found { caught: None, seeds: 0, unsound: 0, seconds: 0.0 };
        for n in 0..count {
            let settings = Settings { seed: first.wrapping_add(n), ..asked.settings.clone() };
            set(Some(mutant));
            let (wrong, _) = attempt(&settings, false);
            set(None);
            found.seeds += 1;
            let Some(wrong) = wrong else { continue };
            if attempt(&Settings { trace: false, ..settings.clone() }, false).0.is_some() {
                found.unsound += 1;
                continue;
            }
            found.caught = Some((settings, wrong));
            break;
        }
        found.seconds = began.elapsed().as_secs_f64();
        if let Some((settings, wrong)) = found.caught.as_ref().filter(|_| asked.tells) {
            set(Some(mutant));
            report::tell_at_length(settings, wrong, asked.shrinks, &format!("mutants {}", mutant.name()));
            set(None);
        }
        found
    }

    fn row(mutant: Mutant, found: &Found) -> String {
        let name = mutant.name();
        let cost = format!("{} seeds, {:.1} s", found.seeds, found.seconds);
        let breaks = mutant.breaks();
        match &found.caught {
            Some((settings, wrong)) => {
                format!("{name:<34} {:<9} {:<28} {cost:<20} {breaks}", wrong.short(), args::write(settings))
            }
            None => format!("{name:<34} NOT CAUGHT {:<27} {cost:<20} {breaks}", ""),
        }
    }
}
