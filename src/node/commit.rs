//! The commit thread: entries go to the durable list in batches, then what waited for them is let out, in order.
//!
//! What arrives while one batch is being written forms the next. A full disk holds the batch back and tries again each second: the
//! clients concerned get no answer meanwhile, the others feel nothing. After a failed sync nothing that depends on this list may ever
//! be acknowledged again (the page may be lost although the next sync succeeds), so it stays shut until a restart.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::desk::{Desk, GrantedOrder};
use crate::service::nlm::Answer;
use crate::state::{Entry, GrantId, Reply};
use crate::store::{ClientList, StoreError};

/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Entries and answers that wait for the disk. Past it, requests that would add to them get no answer and change nothing: a full
/// disk must not fill the memory too.
const WAITING_MAX: usize = 65_536;

/// Something that may leave.
pub(super) enum Release {
    /// An answer.
    Reply(Answer, Reply),
    /// A callback.
    Granted(Box<GrantedOrder>),
    /// The end of a callback.
    Stop(GrantId),
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<(Vec<Entry>, Vec<Release>)>,
    stop: bool,
    /// Why nothing can be made durable now.
    trouble: Option<String>,
    /// Entries and answers that wait, those being written included.
    waiting: usize,
}

/// The queue before the thread.
#[derive(Default)]
pub(super) struct Commit {
    queue: Mutex<Queue>,
    ready: Condvar,
}

impl Commit {
    /// Puts a batch at the end.
    pub(super) fn push(&self, entries: Vec<Entry>, held: Vec<Release>) {
        let mut queue = self.queue();
        queue.waiting += entries.len() + held.len();
        queue.batches.push_back((entries, held));
        drop(queue);
        self.ready.notify_one();
    }

    /// Whether as much waits as may.
    pub(super) fn is_full(&self) -> bool {
        self.queue().waiting >= WAITING_MAX
    }

    /// Why clients wait for the disk, if they do.
    pub(super) fn trouble(&self) -> Option<String> {
        self.queue().trouble.clone()
    }

    /// Lets the thread end once the queue is empty.
    pub(super) fn stop(&self) {
        self.queue().stop = true;
        self.ready.notify_all();
    }

    /// Starts the thread. `watch` hears each batch of entries after it is durable and before its releases leave.
    pub(super) fn start(
        self: &Arc<Self>,
        list: ClientList,
        desk: Weak<Desk>,
        watch: impl Fn(&[Entry]) + Send + 'static,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        let this = self.clone();
        std::thread::Builder::new().name("commit".into()).spawn(move || this.run(list, &desk, &watch))
    }

    fn run(&self, mut list: ClientList, desk: &Weak<Desk>, watch: &dyn Fn(&[Entry])) {
        while let Some(batch) = self.take() {
            let (entries, releases): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let entries: Vec<Entry> = entries.into_iter().flatten().collect();
            let releases: Vec<Release> = releases.into_iter().flatten().collect();
            let written = entries.len() + releases.len();
            if !self.append(&mut list, &entries) {
                return;
            }
            watch(&entries);
            let Some(desk) = desk.upgrade() else { return };
            desk.settled(&entries);
            for release in releases {
                desk.let_out(release);
            }
            self.queue().waiting -= written;
        }
    }

    /// Waits for something to do and takes all of it. `None`: stop.
    fn take(&self) -> Option<VecDeque<(Vec<Entry>, Vec<Release>)>> {
        let mut queue = self.queue();
        loop {
            if !queue.batches.is_empty() {
                return Some(std::mem::take(&mut queue.batches));
            }
            if queue.stop {
                return None;
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tries until it is durable. False: it never will be.
    fn append(&self, list: &mut ClientList, entries: &[Entry]) -> bool {
        loop {
            let Err(e) = list.append(entries) else {
                if self.queue().trouble.take().is_some() {
                    tracing::info!("the client list can be written again");
                }
                return true;
            };
            let hopeless = matches!(&e, StoreError::Io { what, .. } if *what == "cannot sync");
            let text = match hopeless {
                true => format!("{e}: new clients are not served until lockferry is restarted"),
                false => format!("{e}: new clients wait until this is mended (tried every second)"),
            };
            let mut queue = self.queue();
            if queue.trouble.as_ref() != Some(&text) {
                tracing::error!("{text}");
                queue.trouble = Some(text);
            }
            if hopeless || queue.stop {
                return false;
            }
            drop(queue);
            std::thread::sleep(RETRY);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
