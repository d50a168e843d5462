//! Arguments, read and written.
//!
//! Must never read what it cannot write: a failed run is told as the arguments that bring it about again.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::settings::{MS, Settings, Trouble};

/// What can be asked for.
pub(super) const USAGE: &str = "\
cargo xtask sim [OPTION]...             runs seeds
cargo xtask sim --regressions           runs the seeds of sim/regressions
cargo xtask mutants [NAME]... [OPTION]... looks for seeded bugs, all or those named

  --seeds N        so many seeds [1; mutants: 300]
  --seed FIRST     the first of them [1]
  --jobs J         so many at once [one for each processor]
  --without KIND   leaves a kind of trouble out, or `all` of them; again for more:
                   network partitions crashes freezes clocks disks damage clients liars scripts
  --clients C      at most so many clients
  --moves M        so many moves of each address before the end
  --denser N       owners act N times as often: more lock requests for each take-over; other runs than without
  --steps MS       ends the run after so many simulated milliseconds
  --trace          prints every event of the history, one run after the other
  --log            prints what the daemons log, one run after the other
  --no-shrink      prints the first failure as it is
  --digests        adds the sum of all runs' digests to the last line: equal if no run became another
  --progress FILE  adds a line to the file each minute, when a seed fails, and in the end: what has come since the line before
  --tell           of mutants: prints how each was caught
  --note           of mutants: writes where each was caught to sim/mutant-seeds, to be tried first

With --regressions only --jobs, --trace, --log and --no-shrink: its lines say what is run.";

/// Runs at once at the most.
const JOBS: u64 = 64;
/// Clients at the most.
const CLIENTS: u64 = 100;
/// How much denser at the most.
const DENSER: u64 = 100;
/// Moves of an address at the most.
const MOVES: u64 = 1_000;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Say what can be asked for.
    Help,
    /// Run seeds.
    Seeds,
    /// Run the seeds of a file.
    Regressions(PathBuf),
    /// Look for mutants, all or those named.
    Mutants(Vec<String>),
}

/// What was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// What to do.
    pub(super) task: Task,
    /// How many seeds, if that was said.
    pub(super) seeds: Option<u64>,
    /// How many at once.
    pub(super) jobs: usize,
    /// The first seed, and what goes for all.
    pub(super) settings: Settings,
    /// The daemons' own log lines are printed.
    pub(super) log: bool,
    /// Failures are made smaller.
    pub(super) shrinks: bool,
    /// The sum of the digests of all runs is printed: whether a change made other runs of these seeds.
    pub(super) digests: bool,
    /// Where to write down how far it is.
    pub(super) progress: Option<PathBuf>,
    /// It is told how each mutant was caught.
    pub(super) tells: bool,
    /// The first seed was said: those that follow it are run, whatever is in them.
    #[cfg_attr(not(feature = "mutants"), allow(dead_code, reason = "only mutants have seeds of their own"))]
    pub(super) exact: bool,
    /// Where to write down in which seed each mutant was caught.
    #[cfg_attr(not(feature = "mutants"), allow(dead_code, reason = "without mutants there are none"))]
    pub(super) note: Option<PathBuf>,
}

/// Reads arguments.
///
/// # Errors
/// What is wrong with them.
pub(super) fn parse(args: impl Iterator<Item = String>) -> Result<Asked, String> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut asked = Asked {
        task: Task::Seeds,
        seeds: None,
        jobs: processors,
        settings: Settings::new(1),
        log: false,
        shrinks: true,
        digests: false,
        progress: None,
        tells: false,
        exact: false,
        note: None,
    };
    let mut args = args;
    // Options that say which runs there are.
    let mut choosing = Vec::new();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        if matches!(
            arg.as_str(),
            "--seed"
                | "--seeds"
                | "--steps"
                | "--moves"
                | "--clients"
                | "--without"
                | "--denser"
                | "--tell"
                | "--progress"
        ) {
            choosing.push(arg.clone());
        }
        match arg.as_str() {
            "-h" | "--help" => asked.task = Task::Help,
            "--seed" => (asked.settings.seed, asked.exact) = (number(&value()?)?, true),
            "--note" => asked.note = Some(value()?.into()),
            "--seeds" => asked.seeds = Some(within(&arg, &value()?, 1..=u64::MAX)?),
            "--jobs" => asked.jobs = within(&arg, &value()?, 1..=JOBS)? as usize,
            "--steps" => asked.settings.until = Some(within(&arg, &value()?, 1..=u64::MAX / MS)? * MS),
            "--moves" => asked.settings.moves = Some(within(&arg, &value()?, 0..=MOVES)? as u32),
            "--clients" => asked.settings.clients = Some(within(&arg, &value()?, 1..=CLIENTS)? as u32),
            "--without" => leave_out(&mut asked.settings.trouble, &value()?)?,
            "--denser" => asked.settings.denser = within(&arg, &value()?, 1..=DENSER)?,
            "--progress" => asked.progress = Some(value()?.into()),
            "--trace" => asked.settings.trace = true,
            "--log" => asked.log = true,
            "--no-shrink" => asked.shrinks = false,
            "--digests" => asked.digests = true,
            "--tell" => asked.tells = true,
            "--regressions" => take(&mut asked.task, Task::Regressions(value()?.into()))?,
            "--mutants" => take(&mut asked.task, Task::Mutants(Vec::new()))?,
            name => match &mut asked.task {
                Task::Mutants(names) if !name.starts_with('-') => names.push(name.to_owned()),
                _ => return Err(format!("there is no option '{name}'")),
            },
        }
    }
    match (&asked.task, choosing.first()) {
        (Task::Regressions(_), Some(option)) => {
            return Err(format!("{option} and --regressions exclude each other: its lines say what is run"));
        }
        (Task::Mutants(_), _) if asked.progress.is_some() => {
            return Err("--progress is of seeds only".into());
        }
        (Task::Seeds, _) if asked.tells => {
            return Err("--tell is of mutants only: cargo xtask mutants".into());
        }
        _ => {}
    }
    // Lines of several runs would be mixed up.
    if asked.settings.trace || asked.log {
        asked.jobs = 1;
    }
    Ok(asked)
}

/// There is one task.
fn take(task: &mut Task, other: Task) -> Result<(), String> {
    match task {
        Task::Help => {}
        Task::Seeds => *task = other,
        Task::Regressions(_) | Task::Mutants(_) => {
            return Err("--regressions and mutants exclude each other".into());
        }
    }
    Ok(())
}

fn within(option: &str, text: &str, allowed: RangeInclusive<u64>) -> Result<u64, String> {
    let number = number(text)?;
    match allowed.contains(&number) {
        true => Ok(number),
        false if number < *allowed.start() => {
            Err(format!("{option} {number}: {} at the least", allowed.start()))
        }
        false => Err(format!("{option} {number}: {} at the most", allowed.end())),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("'{text}' is no number"))
}

fn leave_out(trouble: &mut Trouble, name: &str) -> Result<(), String> {
    if name == "all" {
        Trouble::NAMES.iter().for_each(|name| leave_out_one(trouble, name));
        return Ok(());
    }
    trouble.switch(name).map(|on| *on = false).ok_or(format!("there is no trouble '{name}'"))
}

fn leave_out_one(trouble: &mut Trouble, name: &str) {
    if let Some(on) = trouble.switch(name) {
        *on = false;
    }
}

/// The kinds that are left out.
pub(super) fn left_out(mut trouble: Trouble) -> Vec<&'static str> {
    Trouble::NAMES.into_iter().filter(|name| trouble.switch(name).is_some_and(|on| !*on)).collect()
}

/// The arguments that run these settings.
pub(super) fn write(settings: &Settings) -> String {
    let mut words = vec![format!("--seed {}", settings.seed)];
    let out = left_out(settings.trouble);
    if out.len() == Trouble::NAMES.len() {
        words.push("--without all".into());
    } else {
        words.extend(out.iter().map(|name| format!("--without {name}")));
    }
    words.extend(settings.clients.map(|clients| format!("--clients {clients}")));
    words.extend(settings.moves.map(|moves| format!("--moves {moves}")));
    words.extend((settings.denser > 1).then(|| format!("--denser {}", settings.denser)));
    words.extend(settings.until.map(|until| format!("--steps {}", until.div_ceil(MS))));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Asked, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for line in [
            "--seed 8",
            "--seed 8 --without all",
            "--seed 3 --without crashes --without liars --clients 2 --moves 0 --steps 77",
            "--seed 3 --denser 4 --steps 77",
        ] {
            assert_eq!(write(&read(line).unwrap().settings), line);
        }
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        assert_eq!(read("--without rain").unwrap_err(), "there is no trouble 'rain'");
        assert_eq!(read("--fast").unwrap_err(), "there is no option '--fast'");
        assert_eq!(read("--seeds").unwrap_err(), "--seeds wants a value");
        assert_eq!(read("--seed x").unwrap_err(), "'x' is no number");
        assert_eq!(read("waiters-lifo").unwrap_err(), "there is no option 'waiters-lifo'");
    }

    #[test]
    fn a_number_that_means_nothing_is_refused_with_what_is_allowed() {
        assert_eq!(read("--seeds 0").unwrap_err(), "--seeds 0: 1 at the least");
        assert_eq!(read("--clients 0").unwrap_err(), "--clients 0: 1 at the least");
        assert_eq!(read("--jobs 0").unwrap_err(), "--jobs 0: 1 at the least");
        assert_eq!(read("--steps 0").unwrap_err(), "--steps 0: 1 at the least");
        assert_eq!(read("--denser 0").unwrap_err(), "--denser 0: 1 at the least");
        assert_eq!(read("--jobs 65").unwrap_err(), "--jobs 65: 64 at the most");
        assert_eq!(read("--clients 101").unwrap_err(), "--clients 101: 100 at the most");
        assert!(read("--seed 0 --moves 0 --jobs 64").is_ok());
    }

    #[test]
    fn what_would_be_passed_over_is_refused() {
        for more in [
            "--seed 3",
            "--seeds 3",
            "--without liars",
            "--clients 2",
            "--moves 1",
            "--steps 9",
            "--denser 2",
            "--tell",
            "--progress FILE",
        ] {
            for line in [format!("--regressions FILE {more}"), format!("{more} --regressions FILE")] {
                let why = read(&line).unwrap_err();
                assert!(why.ends_with("exclude each other: its lines say what is run"), "{line}: {why}");
            }
        }
        assert!(read("--regressions FILE --jobs 1 --trace --log --no-shrink").is_ok());
        assert!(read("--regressions FILE --mutants").is_err());
        assert!(read("--tell").unwrap_err().contains("mutants"));
        assert!(read("--mutants --progress FILE").unwrap_err().contains("seeds only"));
        assert!(read("--mutants --tell --seeds 3").is_ok());
    }

    #[test]
    fn mutants_are_named_after_their_option() {
        let asked = read("--mutants waiters-lifo --seeds 3 wake-up-lost").unwrap();
        assert_eq!(asked.task, Task::Mutants(vec!["waiters-lifo".into(), "wake-up-lost".into()]));
        assert_eq!(asked.seeds, Some(3));
    }
}
