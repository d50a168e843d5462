//! The observer: one clock and one list for everything that clients and operators send and receive, and the checker that reads along.
//!
//! Must never record anything that only a server knows, nor two events in another order than they happened in.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use lockferry_checker::history::{Event, Micros};
use lockferry_checker::{Checker, Settings, Summary, Violation};
use lockferry_sim::words::time;

/// Listens to a run.
pub(crate) struct Observer {
    began: Instant,
    settings: Settings,
    inner: Mutex<Inner>,
}

struct Inner {
    checker: Option<Checker>,
    violation: Option<Violation>,
    events: Vec<(Micros, Event)>,
    file: BufWriter<File>,
}

impl Observer {
    /// One that has heard nothing. The history goes to `path` too.
    pub(crate) fn new(settings: Settings, path: &Path) -> Self {
        let file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let inner = Inner {
            checker: Some(Checker::new(settings.clone())),
            violation: None,
            events: Vec::new(),
            file: BufWriter::new(file),
        };
        Self { began: Instant::now(), settings, inner: Mutex::new(inner) }
    }

    /// Its time.
    pub(crate) fn now(&self) -> Micros {
        self.began.elapsed().as_micros() as Micros
    }

    /// Its time, as the system's clock has it.
    pub(crate) fn instant(&self, at: Micros) -> Instant {
        self.began + Duration::from_micros(at)
    }

    /// This happens now.
    pub(crate) fn record(&self, event: Event) {
        let mut inner = self.lock();
        let at = self.now();
        inner.take(at, event);
    }

    /// How much has happened.
    pub(crate) fn count(&self) -> usize {
        self.lock().events.len()
    }

    /// All of this happens at one moment, if nothing has happened since there were so many events. False: something has.
    pub(crate) fn record_if_still(&self, count: usize, events: impl IntoIterator<Item = Event>) -> bool {
        let mut inner = self.lock();
        let at = self.now();
        let still = inner.events.len() == count;
        if still {
            events.into_iter().for_each(|event| inner.take(at, event));
        }
        still
    }

    /// From here on a new LOCK may be told that there is no room for it, or no longer.
    pub(crate) fn excuse_nolocks(&self, excused: bool) {
        let mut inner = self.lock();
        let at = self.now();
        let _ = writeln!(inner.file, "{} -- DENIED_NOLOCKS is a fair answer: {excused}", time(at));
        if let Some(checker) = &mut inner.checker {
            checker.excuse_nolocks(excused);
        }
    }

    /// Something for people, between the events of the file.
    pub(crate) fn note(&self, text: &str) {
        let mut inner = self.lock();
        let at = self.now();
        let _ = writeln!(inner.file, "{} -- {text}", time(at));
    }

    /// Whether something was wrong.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().violation.is_some()
    }

    /// What the checker would say if everything had to be at rest now.
    pub(crate) fn would_rest(&self) -> Result<(), Violation> {
        let events = self.lock().events.clone();
        let mut checker = Checker::new(Settings { nolocks: true, ..self.settings.clone() });
        let mut last = 0;
        for (at, event) in &events {
            checker.observe(*at, event)?;
            last = *at;
        }
        checker.observe(last, &Event::Rest)
    }

    /// What was wrong, what was looked at, and everything that happened.
    pub(crate) fn finish(&self) -> (Option<Violation>, Summary, Vec<(Micros, Event)>) {
        let mut inner = self.lock();
        let _ = inner.file.flush();
        let summary = inner.checker.take().map(Checker::finish).unwrap_or_default();
        (inner.violation.take(), summary, std::mem::take(&mut inner.events))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

impl Inner {
    fn take(&mut self, at: Micros, event: Event) {
        if self.violation.is_some() {
            return;
        }
        let _ = writeln!(self.file, "{} {event:?}", time(at));
        if let Some(checker) = &mut self.checker
            && let Err(violation) = checker.observe(at, &event)
        {
            let _ = writeln!(self.file, "{} -- {violation}", time(at));
            self.violation = Some(violation);
        }
        self.events.push((at, event));
    }
}
