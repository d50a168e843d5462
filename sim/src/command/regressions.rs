//! Seeds that found something once, kept in a file: one line each, arguments, then `#`, the date, and what it was.
//!
//! Must never pass over a line that it cannot read.

use std::path::Path;

use crate::settings::Settings;

use super::args::{self, Asked, Task};
use super::batch;

/// Runs all of them. `Ok(false)`: one failed.
///
/// # Errors
/// The file cannot be read, or a line of it.
pub(super) fn run_all(asked: &Asked, file: &Path) -> Result<bool, String> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|e| format!("cannot read {name}: {e}"))?;
    let runs = read(&text).map_err(|why| format!("{name}: {why}"))?;
    let trace = asked.settings.trace;
    let runs = runs.into_iter().map(|settings| Settings { trace, ..settings });
    Ok(batch::run_these(asked, runs, false))
}

fn read(text: &str) -> Result<Vec<Settings>, String> {
    let mut runs = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let (arguments, why) = line.split_once('#').unwrap_or((line, ""));
        if arguments.trim().is_empty() {
            continue;
        }
        let at = |why: String| format!("line {number}: {why}");
        let asked = args::parse(arguments.split_whitespace().map(str::to_owned)).map_err(at)?;
        if asked.task != Task::Seeds || asked.seeds.is_some() {
            return Err(at("only one seed and what it runs without".into()));
        }
        if why.trim().is_empty() {
            return Err(at("it does not say what the seed found: `# DATE: WHY`".into()));
        }
        runs.push(asked.settings);
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_run_and_says_why() {
        let runs =
            read("# Seeds.\n\n--seed 8 --without all # 2026-11-26: a grant was lost\n--seed 9 # more\n")
                .unwrap();
        assert_eq!(runs.iter().map(args::write).collect::<Vec<_>>(), ["--seed 8 --without all", "--seed 9"]);
        assert_eq!(
            read("--seed 8").unwrap_err(),
            "line 1: it does not say what the seed found: `# DATE: WHY`"
        );
        assert_eq!(read("\n--sed 8 # x").unwrap_err(), "line 2: there is no option '--sed'");
        assert!(read("--seeds 8 # x").is_err());
    }

    #[test]
    fn the_file_in_the_repository_can_be_read() {
        assert!(read(include_str!("../../regressions")).is_ok());
    }
}
