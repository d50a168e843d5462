//! Log lines that name a file by its path although nobody has asked for that file here: after a take-over the record knows handles only,
//! and to find the path the disk must be read. A thread does that, later.
//!
//! Must never hold up whoever reports an event, nor leave a line out: where the path is not found it is logged with the handle.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::events;
use crate::export::{ExportTable, FileKey, LockFiles as _};
use crate::state::Event;

/// Lines that wait for their path, some 300 bytes each. Past it they are logged with the handle.
const WAITING_MAX: usize = 10_000;
/// After a file that was not found (which may have taken seconds) none is looked for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// Logs events.
pub(super) struct LateLog {
    exports: Arc<ExportTable>,
    waiting: Option<SyncSender<Event>>,
}

impl LateLog {
    /// Starts the thread, which ends with the value.
    pub(super) fn start(exports: Arc<ExportTable>) -> Self {
        let (waiting, queue) = sync_channel(WAITING_MAX);
        let searching = exports.clone();
        let thread = std::thread::Builder::new().name("late-log".into());
        let started = thread.spawn(move || log_late(&searching, &queue));
        // Without the thread the lines have handles in them.
        Self { exports, waiting: started.is_ok().then_some(waiting) }
    }

    /// Logs an event, at once if the name of its file is known.
    pub(super) fn log(&self, event: &Event) {
        let unknown = |file: &[u8]| self.exports.path(&FileKey(file.into())).is_none();
        let late = events::file_of(event).is_some_and(unknown)
            && self.waiting.as_ref().is_some_and(|waiting| waiting.try_send(event.clone()).is_ok());
        if !late {
            events::log(event, &|file| self.exports.name_of(file));
        }
    }
}

fn log_late(exports: &ExportTable, queue: &Receiver<Event>) {
    let mut failed: Option<Instant> = None;
    for event in queue {
        let Some(file) = events::file_of(&event) else { continue };
        let paused = failed.is_some_and(|at| at.elapsed() < PAUSE);
        if !paused && exports.find_path(&FileKey(file.into())).is_none() {
            failed = Some(Instant::now());
        }
        // What was found is remembered.
        events::log(&event, &|file| exports.name_of(file));
    }
}
