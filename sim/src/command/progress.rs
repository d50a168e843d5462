//! How far a long run is, in a file: what it has come to so far outlives it, and several can be added up.
//!
//! Must never count a seed twice, nor one that lies behind a seed that is not done.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::run::Report;
use crate::settings::Settings;

use super::args;

/// How often a line is written.
const PERIOD: Duration = Duration::from_secs(60);

/// The lines. Each is about the seeds from the line before on, up to the first that was not done.
pub(super) struct Progress {
    file: Box<dyn Write + Send>,
    commit: String,
    options: String,
    since: Instant,
    /// The first seed of the next line.
    first: u64,
    /// The first that is not done.
    next: u64,
    /// Those behind it that are.
    ahead: BTreeMap<u64, Run>,
    sum: Run,
    failed: Vec<u64>,
}

#[derive(Clone, Copy, Default)]
struct Run {
    taken_up: u64,
    requests: u64,
    failed: bool,
}

impl Progress {
    /// Goes on at the end of `file`.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(file: &Path, settings: &Settings, commit: String) -> Result<Self, String> {
        let name = file.display();
        let opened: std::io::Result<File> = OpenOptions::new().append(true).create(true).open(file);
        let opened = opened.map_err(|e| format!("cannot write to {name}: {e}"))?;
        Ok(Self::new(Box::new(opened), settings, commit))
    }

    fn new(file: Box<dyn Write + Send>, settings: &Settings, commit: String) -> Self {
        let options = args::write(settings);
        let options = options.split_once(' ').and_then(|(_, rest)| rest.split_once(' '));
        Self {
            file,
            commit,
            options: options.map_or_else(String::new, |(_, rest)| rest.to_owned()),
            since: Instant::now(),
            first: settings.seed,
            next: settings.seed,
            ahead: BTreeMap::new(),
            sum: Run::default(),
            failed: Vec::new(),
        }
    }

    /// A run is done.
    pub(super) fn add(&mut self, report: &Report, failed: bool) {
        let run = Run { taken_up: report.taken_up, requests: report.requests, failed };
        self.ahead.insert(report.seed, run);
        let known = self.failed.len();
        while let Some(run) = self.ahead.remove(&self.next) {
            self.sum.taken_up += run.taken_up;
            self.sum.requests += run.requests;
            self.failed.extend(run.failed.then_some(self.next));
            self.next = self.next.wrapping_add(1);
        }
        if self.failed.len() > known || self.since.elapsed() >= PERIOD {
            self.end();
        }
    }

    /// Writes what is not written yet.
    pub(super) fn end(&mut self) {
        let runs = self.next.wrapping_sub(self.first);
        if runs == 0 {
            return;
        }
        let failed: Vec<String> = self.failed.drain(..).map(|seed| seed.to_string()).collect();
        let Run { taken_up, requests, .. } = std::mem::take(&mut self.sum);
        let mut line = String::new();
        // Write to a string does not fail.
        let _ = writeln!(
            line,
            "seeds={}..{} runs={runs} failed={} failed_seeds={} take_overs={taken_up} lock_requests={requests} seconds={:.1} commit={:?} options={:?}",
            self.first,
            self.next.wrapping_sub(1),
            failed.len(),
            if failed.is_empty() { "none".into() } else { failed.join(",") },
            self.since.elapsed().as_secs_f64(),
            self.commit,
            self.options,
        );
        if let Err(e) = self.file.write_all(line.as_bytes()) {
            eprintln!("lockferry-sim: cannot write down how far it is: {e}");
        }
        (self.first, self.since) = (self.next, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_add_up_and_end_before_what_is_not_done() {
        let written = Written::default();
        let settings = Settings { denser: 4, ..Settings::new(5) };
        let mut progress = Progress::new(Box::new(written.clone()), &settings, "abc".into());
        let done = |seed| Report { seed, taken_up: 2, requests: 10, ..Report::default() };
        progress.add(&done(5), false);
        progress.add(&done(7), true);
        progress.end();
        progress.add(&done(8), false);
        progress.add(&done(6), false);
        progress.add(&done(9), false);
        progress.end();
        progress.end();
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let of_interest = |line: &str| line.split(" seconds=").next().unwrap().to_owned();
        assert_eq!(
            text.lines().map(of_interest).collect::<Vec<_>>(),
            [
                "seeds=5..5 runs=1 failed=0 failed_seeds=none take_overs=2 lock_requests=10",
                "seeds=6..8 runs=3 failed=1 failed_seeds=7 take_overs=6 lock_requests=30",
                "seeds=9..9 runs=1 failed=0 failed_seeds=none take_overs=2 lock_requests=10",
            ]
        );
        assert!(text.lines().all(|line| line.ends_with("commit=\"abc\" options=\"--denser 4\"")), "{text}");
    }
}
