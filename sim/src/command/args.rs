//! Arguments, read and written.
//!
//! Must never read what it cannot write: a failed run is told as the arguments that bring it about again.

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
  --steps MS       ends the run after so many simulated milliseconds
  --trace          prints every event of the history
  --log            prints what the daemons log
  --no-shrink      prints the first failure as it is
  --tell           of mutants: prints how each was caught
  --note           of mutants: writes where each was caught to sim/mutant-seeds, to be tried first";

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
        tells: false,
        exact: false,
        note: None,
    };
    let mut args = args;
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        match arg.as_str() {
            "-h" | "--help" => asked.task = Task::Help,
            "--seed" => (asked.settings.seed, asked.exact) = (number(&value()?)?, true),
            "--note" => asked.note = Some(value()?.into()),
            "--seeds" => asked.seeds = Some(number(&value()?)?),
            "--jobs" => asked.jobs = number(&value()?)?.clamp(1, 64) as usize,
            "--steps" => asked.settings.until = Some(number(&value()?)?.saturating_mul(MS)),
            "--moves" => asked.settings.moves = Some(number(&value()?)?.min(1_000) as u32),
            "--clients" => asked.settings.clients = Some(number(&value()?)?.clamp(1, 100) as u32),
            "--without" => leave_out(&mut asked.settings.trouble, &value()?)?,
            "--trace" => asked.settings.trace = true,
            "--log" => asked.log = true,
            "--no-shrink" => asked.shrinks = false,
            "--tell" => asked.tells = true,
            "--regressions" => asked.task = Task::Regressions(value()?.into()),
            "--mutants" => asked.task = Task::Mutants(Vec::new()),
            name => match &mut asked.task {
                Task::Mutants(names) if !name.starts_with('-') => names.push(name.to_owned()),
                _ => return Err(format!("there is no option '{name}'")),
            },
        }
    }
    // Lines of several runs would be mixed up.
    if asked.settings.trace || asked.log {
        asked.jobs = 1;
    }
    Ok(asked)
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
    fn mutants_are_named_after_their_option() {
        let asked = read("--mutants waiters-lifo --seeds 3 wake-up-lost").unwrap();
        assert_eq!(asked.task, Task::Mutants(vec!["waiters-lifo".into(), "wake-up-lost".into()]));
        assert_eq!(asked.seeds, Some(3));
    }
}
