//! The seeded bugs of the product: does the checker notice?
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
    use std::path::Path;
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
    use std::time::Instant;

    use lockferry::mutants::{Mutant, set};
    use lockferry_checker::history::Micros;

    use super::super::args::{self, Asked};
    use super::super::attempt::{Wrong, attempt};
    use super::super::report;
    use crate::output;
    use crate::run::made_of;
    use crate::settings::{Plan, SECOND, Settings, Trouble};

    /// Seeds for each, unless it is said.
    const SEEDS: u64 = 300;
    /// Of so many seeds those are tried that have the kind of trouble that a mutant needs.
    const LOOKED_AT: u64 = 40 * SEEDS;
    /// A seed that fails by itself, so much later at the most, proves nothing either: the same thing may show a little sooner.
    const LATER: Micros = 60 * SECOND;
    /// Where each was found the last time: `name seed`. It is tried first. Written by `cargo xtask mutants --note`.
    const FOUND: &str = include_str!("../../mutant-seeds");

    /// What became of one.
    struct Found {
        caught: Option<(Settings, Wrong)>,
        /// Seeds that were run.
        seeds: u64,
        /// Seeds that fail without it, too.
        unsound: u64,
        seconds: f64,
    }

    /// A seed, and how dense it is.
    type Which = (u64, u64);

    /// How they end without any mutant: up to when that was asked, and when it failed.
    #[derive(Default)]
    struct Alone(Mutex<BTreeMap<Which, (Micros, Option<Micros>)>>);

    impl Alone {
        /// Whether it fails by itself up to this time.
        fn fails(&self, settings: &Settings, until: Micros) -> bool {
            let which = (settings.seed, settings.denser);
            let known = lock(&self.0).get(&which).copied();
            if let Some((_, Some(failed))) = known {
                return failed <= until;
            }
            if known.is_some_and(|(ran, _)| ran >= until) {
                return false;
            }
            let cut = settings.until.map_or(until, |asked| asked.min(until));
            let (wrong, _) = attempt(&Settings { trace: false, until: Some(cut), ..settings.clone() }, false);
            let failed = wrong.map(|wrong| wrong.at());
            lock(&self.0).insert(which, (until, failed));
            failed.is_some()
        }
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
        if let Some(file) = &asked.note {
            note(file, &looked_for, &found)?;
        }
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

    /// Where it was found the last time.
    fn last_seed(mutant: Mutant) -> Option<u64> {
        FOUND
            .lines()
            .find_map(|line| line.strip_prefix(mutant.name())?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// Writes where they were found. Of those that were not looked for, or not found, the old line stays.
    fn note(file: &Path, looked_for: &[Mutant], found: &[Found]) -> Result<(), String> {
        let line = |mutant: &Mutant| {
            let at = looked_for.iter().position(|one| one == mutant);
            let caught = at.and_then(|at| found.get(at)?.caught.as_ref());
            let seed = caught.map(|(settings, _)| settings.seed).or(last_seed(*mutant))?;
            Some(format!("{} {seed}\n", mutant.name()))
        };
        let text: String = Mutant::ALL.iter().filter_map(line).collect();
        std::fs::write(file, text).map_err(|e| format!("cannot write {}: {e}", file.display()))
    }

    /// Whether a run has what a mutant needs to show: seeds without it are not worth the time. Only what is rare is asked for.
    fn suits(mutant: Mutant, trouble: Trouble, plan: &Plan) -> bool {
        match mutant {
            Mutant::OwnersOfOneNumber => plan.pairs,
            Mutant::BoundElsewhereGranted => plan.astray > 0 && plan.groups.len() > 1,
            Mutant::DamageTakenForTear | Mutant::FrameUnchecked => trouble.damage,
            Mutant::LateCheckLocks | Mutant::CancelLeavesCheck => plan.slow_checks,
            Mutant::EpochNotExclusive => plan.at_once,
            // Acceptances that do not arrive while one try is under way, and time for another.
            Mutant::RefusedLaterFrees | Mutant::GrantedRetriesUncounted => {
                trouble.partitions && plan.give_up.as_secs() == 30
            }
            Mutant::UnlockLeavesWaiter => plan.lone_unlocks,
            Mutant::RefusedGrantedKeepsLock => plan.refusals,
            // What a record has lost is reclaimed after what it has, where there is much of both.
            Mutant::FullWindowEndsEarly => trouble.damage && plan.clients > 2 && plan.owners > 1,
            // Only where every message arrives does silence prove anything.
            Mutant::ParkedNeverAnswered => {
                plan.is_smooth() && !trouble.partitions && !trouble.disks && !plan.deny
            }
            Mutant::ClientNotListed => {
                plan.no_waits && plan.is_smooth() && !trouble.partitions && !trouble.clients
            }
            Mutant::NsmStateRepeated => plan.is_smooth() && !trouble.partitions && !trouble.clients,
            // Who has booted counts from the same number again; liars use their last one.
            Mutant::ReplyKeyIgnoresArguments => trouble.clients,
            Mutant::RestartTakesAll => trouble.crashes && !trouble.partitions,
            Mutant::WindowBurnsEarly => plan.slow_moves,
            Mutant::AdoptDropsWaiters => plan.adopt_on_take_over,
            // What was asked before a move or a reboot comes again after it.
            Mutant::SnapshotLosesReplies
            | Mutant::RepliesNotSeeded
            | Mutant::AnswersNotKept
            | Mutant::EmptyUnlockNotKept => plan.echoes,
            // Four owners and more in a circle, and each with a byte of its own.
            Mutant::DeadlockShortSearch => plan.clients > 3 && plan.owners > 1 && !plan.no_waits,
            // Many who want the same.
            Mutant::BlockedLockQueuedTwice => plan.owners > 1 && plan.width < 5 && plan.files < 3,
            Mutant::EpochReadFirst | Mutant::LoadBeforeRaise => plan.at_once,
            Mutant::LoadedNotSynced => trouble.crashes && trouble.disks,
            Mutant::SetWithOlderState => trouble.clients && (plan.late_notices || plan.echoes),
            Mutant::LateLockFrees => trouble.clients && (plan.echoes || plan.slow_checks),
            // A machine goes down while the disk of one of its addresses is still at it.
            Mutant::NoticeAnsweredEarly => plan.slow_disks && trouble.crashes && trouble.clients,
            Mutant::OtherRecordsNotAwaited => plan.slow_disks && trouble.crashes && plan.groups.contains(&2),
            Mutant::StrandedLetGo => trouble.disks && plan.groups.contains(&2),
            Mutant::SyncTriedAgain => trouble.disks && trouble.crashes,
            Mutant::MarkSkipsUnconfirmed => trouble.clients && plan.deaths > 500 && !plan.adopt_on_take_over,
            _ => true,
        }
    }

    /// Some show only where very much happens between two moves.
    fn density(mutant: Mutant, asked: u64) -> u64 {
        match mutant {
            Mutant::DeadlockShortSearch | Mutant::LoadBeforeRaise => asked.max(6),
            _ => asked,
        }
    }

    /// The seeds that are tried for one, in this order.
    fn seeds(asked: &Asked, mutant: Mutant) -> Vec<u64> {
        let (first, count) = (asked.settings.seed, asked.seeds.unwrap_or(SEEDS));
        if asked.exact {
            return (0..count).map(|n| first.wrapping_add(n)).collect();
        }
        let known = last_seed(mutant);
        let fits = |seed: &u64| {
            let (trouble, plan) = made_of(&Settings { seed: *seed, ..asked.settings.clone() });
            Some(*seed) != known && suits(mutant, trouble, &plan)
        };
        let further = (0..LOOKED_AT.max(count)).map(|n| first.wrapping_add(n)).filter(fits);
        known.into_iter().chain(further).take(count as usize).collect()
    }

    /// Several at once, each in a thread of its own; what became of them is printed in order.
    fn hunt(asked: &Asked, mutants: &[Mutant]) -> Vec<Found> {
        let left = Mutex::new(0..mutants.len());
        // A function: were this the loop's own expression, the lock would be held all through its body.
        let next = || lock(&left).next();
        let (found, more) = (Mutex::new(BTreeMap::new()), Condvar::new());
        let alone = Alone::default();
        std::thread::scope(|scope| {
            for _ in 0..asked.jobs {
                scope.spawn(|| {
                    while let Some(at) = next() {
                        let one = look_for(asked, mutants[at], &alone);
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

    fn look_for(asked: &Asked, mutant: Mutant, alone: &Alone) -> Found {
        let began = Instant::now();
        let mut found = Found { caught: None, seeds: 0, unsound: 0, seconds: 0.0 };
        for seed in seeds(asked, mutant) {
            let denser = density(mutant, asked.settings.denser);
            let settings = Settings { seed, denser, ..asked.settings.clone() };
            set(Some(mutant));
            let (wrong, _) = attempt(&settings, false);
            set(None);
            found.seeds += 1;
            // What comes to no end says nothing of a promise.
            let Some(wrong) = wrong.filter(|wrong| !matches!(wrong, Wrong::Stuck(_))) else { continue };
            if alone.fails(&settings, wrong.at().saturating_add(LATER)) {
                found.unsound += 1;
                continue;
            }
            found.caught = Some((settings, wrong));
            break;
        }
        found.seconds = began.elapsed().as_secs_f64();
        if let Some((settings, wrong)) = found.caught.as_ref().filter(|_| asked.tells) {
            set(Some(mutant));
            report::tell_at_length(settings, wrong, asked.shrinks, &command(mutant), " --seeds 1 --tell");
            set(None);
        }
        found
    }

    fn command(mutant: Mutant) -> String {
        format!("mutants {}", mutant.name())
    }

    /// What became of one; if it was caught, the command that tells how, and what was seen.
    fn row(mutant: Mutant, found: &Found) -> String {
        let name = mutant.name();
        let cost = format!("{} seeds, {:.1} s", found.seeds, found.seconds);
        let breaks = mutant.breaks();
        match &found.caught {
            Some((settings, wrong)) => {
                let again =
                    format!("cargo xtask {} {} --seeds 1 --tell", command(mutant), args::write(settings));
                format!(
                    "{name:<34} {:<10} {cost:<18} {breaks}\n    again: {again}   # {wrong}",
                    wrong.short()
                )
            }
            None => format!("{name:<34} NOT CAUGHT {cost:<18} {breaks}"),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn every_line_of_the_file_names_a_mutant_once() {
            let mut names: Vec<&str> =
                FOUND.lines().filter_map(|line| line.split_once(' ')).map(|(n, _)| n).collect();
            assert_eq!(names.len(), FOUND.lines().count());
            assert!(names.iter().all(|name| Mutant::parse(name).is_some_and(|m| last_seed(m).is_some())));
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), FOUND.lines().count());
        }

        #[test]
        fn seeds_that_are_asked_for_are_run_and_no_others() {
            let asked = args::parse("--mutants --seed 7 --seeds 2".split(' ').map(str::to_owned)).unwrap();
            assert_eq!(seeds(&asked, Mutant::LateCheckLocks), [7, 8]);
            let asked = args::parse("--mutants --seeds 3".split(' ').map(str::to_owned)).unwrap();
            let found = seeds(&asked, Mutant::LateCheckLocks);
            let slow = |seed: &u64| made_of(&Settings::new(*seed)).1.slow_checks;
            assert!(found.len() == 3 && found.iter().all(slow), "{found:?}");
        }
    }
}
