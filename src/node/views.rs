//! The lists and the status, made from the engine's rows: [`super::view::NodeView`] of the running node.
//!
//! Must never hold the engine's mutex for longer than one page of rows.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::desk::Desk;
use super::explaining::DISK;
use super::gate::Gate;
use super::managers::Managers;
use super::verbs::Refusal;
use super::view::{
    ClientView, Counters, ExplainQuery, ExplainView, Filter, Listing, LockView, NodeView, Page, RefusalView,
    Status, WaiterView,
};
use crate::export::{ExportTable, FileKey, LockFiles};
use crate::state::{ClientRow, Condition, Engine, LockRow, Mode, Time, WaiterRow};

/// Rows looked at under one hold of the mutex.
const ROWS_PER_HOLD: usize = 1_000;
/// The same for waiters, as each is shown with what it waits for.
const WAITERS_PER_HOLD: usize = 20;
/// Rows looked at for one page: a filter that matches little answers with a short page and a cursor.
const ROWS_PER_PAGE: usize = 100_000;

/// Files looked for on the disk for one page; further ones show their handle. A look-up may walk an export.
const SEARCHES_PER_PAGE: u32 = 64;

/// What became of our SM_NOTIFY to a client, as text.
pub(super) type NotifyText = Box<dyn Fn(&ClientRow) -> Option<String> + Send + Sync>;

/// What the views need besides the desk.
pub(super) struct Views {
    pub(super) desk: Arc<Desk>,
    pub(super) files: Arc<ExportTable>,
    /// Searches that the page being made may still do. Two pages at once share it: it is a bound, not a count.
    pub(super) searches: AtomicU32,
    /// The parts of the status that the wiring knows.
    pub(super) base: Box<dyn Fn() -> Status + Send + Sync>,
    /// The lock managers.
    pub(super) managers: Arc<Managers>,
    /// Who may ask for what through which address.
    pub(super) gate: Arc<Gate>,
    /// What became of our SM_NOTIFY to (lock manager, name, address).
    pub(super) notify: NotifyText,
}

impl NodeView for Views {
    fn status(&self) -> Status {
        let mut status = (self.base)();
        let totals = self.desk.read(Engine::totals);
        status.lock_managers = self.managers.rows();
        status.last_error = self.managers.last_error();
        status.counters = Counters {
            granted: totals.granted,
            denied: totals.denied,
            blocked: totals.blocked,
            deadlocks: totals.deadlocks,
            unlocked: totals.unlocked,
            callbacks_confirmed: totals.callbacks_confirmed,
            callbacks_failed: totals.callbacks_failed,
            over_limit: totals.over_limit,
            refused: totals.refused,
            freed_by_reboot: totals.freed_by_reboot,
            reclaimed: totals.reclaimed,
            reclaim_refused: totals.reclaim_refused,
            expired: totals.expired,
            bound_elsewhere: self.gate.elsewhere(),
        };
        status
    }

    fn locks(&self, filter: &Filter, page: Page) -> Listing<LockView> {
        self.list(
            page,
            |e, slot, n| e.lock_rows(slot, n),
            |row| {
                let view = self.lock_view(&row);
                matches(filter, &view).then_some(view)
            },
        )
    }

    fn waiters(&self, filter: &Filter, page: Page) -> Listing<WaiterView> {
        self.list(
            page,
            |e, slot, n| e.waiter_rows(slot, n.min(WAITERS_PER_HOLD)),
            |row| {
                let view = self.waiter_view(&row);
                matches(filter, &view.request).then_some(view)
            },
        )
    }

    fn clients(&self, filter: &Filter, page: Page) -> Listing<ClientView> {
        self.list(
            page,
            |e, slot, n| e.client_rows(slot, n),
            |row| {
                let view = self.client_view(&row);
                let lm = filter.lock_manager.as_ref().is_none_or(|lm| *lm == view.lock_manager);
                let client = filter.client.as_ref().is_none_or(|c| *c == view.name || *c == view.address);
                (lm && client).then_some(view)
            },
        )
    }

    fn refusals(&self) -> Vec<RefusalView> {
        self.desk.refusals().views()
    }

    fn accept_refusal(&self, id: u64) -> Result<RefusalView, String> {
        super::refusals::accept(&self.desk, id)
    }

    fn explain(&self, question: &ExplainQuery) -> Result<ExplainView, Refusal> {
        self.explained(question)
    }
}

impl Views {
    fn list<R, V>(
        &self,
        page: Page,
        rows: impl Fn(&Engine, usize, usize) -> (Vec<R>, Option<usize>),
        view: impl Fn(R) -> Option<V>,
    ) -> Listing<V> {
        // An id is the slot's number plus one in its low half, so "after this id" is "from that slot on".
        self.searches.store(SEARCHES_PER_PAGE, Ordering::Relaxed);
        let mut slot = (page.after & 0xffff_ffff) as usize;
        let mut out = Vec::new();
        let mut looked = 0;
        loop {
            let want = ROWS_PER_HOLD.min((page.limit as usize).saturating_sub(out.len())).max(1);
            let (batch, next) = self.desk.read(|e| rows(e, slot, want));
            looked += batch.len();
            out.extend(batch.into_iter().filter_map(&view));
            match next {
                None => return Listing { rows: out, next: None },
                Some(next) => slot = next,
            }
            if out.len() >= page.limit as usize || looked >= ROWS_PER_PAGE {
                return Listing { rows: out, next: Some(slot as u64) };
            }
        }
    }

    pub(super) fn lock_view(&self, row: &LockRow) -> LockView {
        LockView {
            id: row.id,
            lock_manager: row.lm.to_string(),
            client: text(&row.client),
            address: row.address.to_string(),
            svid: row.svid,
            owner: text(&row.oh),
            path: self.path(&row.file),
            start: row.range.start,
            end: (row.range.end != u64::MAX).then_some(row.range.end),
            mode: if row.mode == Mode::Exclusive { "exclusive" } else { "shared" }.into(),
            state: match row.condition {
                Condition::Held => "held",
                Condition::Granting => "granting",
                Condition::Unconfirmed => "unconfirmed",
                Condition::Reclaimable => "reclaimable",
                Condition::Expired => "expired",
            }
            .into(),
            since: self.desk.unix(row.since),
        }
    }

    fn waiter_view(&self, row: &WaiterRow) -> WaiterView {
        let mut request = self.lock_view(&row.request);
        request.state = "waiting".into();
        let what = if row.is_test { "TEST" } else { "LOCK" };
        let reason = match (row.window_until, row.blocker_count) {
            (Some(until), _) if self.soon(Some(until)).is_none() => {
                format!("{what} waits for a grace window whose time does not run yet")
            }
            (Some(until), _) => {
                format!("{what} waits for the grace window to end, {} at the latest", self.unix_text(until))
            }
            (None, 0) => match row.unwritten {
                Some(lm) => {
                    format!("{what} waits until the record of {lm} says that its lock is gone ({DISK})")
                }
                None => format!("{what} is about to be granted"),
            },
            (None, 1) => format!("{what} waits for one conflicting lock"),
            (None, n) => format!("{what} waits for {n} conflicting locks"),
        };
        WaiterView {
            request,
            waits_for: row.blockers.iter().map(|b| self.lock_view(b)).collect(),
            waits_for_count: row.blocker_count,
            reason,
        }
    }

    fn client_view(&self, row: &ClientRow) -> ClientView {
        ClientView {
            id: row.id,
            lock_manager: row.lm.to_string(),
            name: text(&row.name),
            address: row.address.to_string(),
            learned_addresses: row.trusted.iter().map(ToString::to_string).collect(),
            nsm_state: row.state,
            locks: row.locks,
            waiters: row.waiters,
            shares: row.shares,
            monitored: row.recorded,
            notify: (self.notify)(row),
            last_seen: self.desk.unix(row.last_seen),
        }
    }

    fn path(&self, key: &[u8]) -> String {
        let key = FileKey(key.into());
        let search = || {
            let left = self.searches.load(Ordering::Relaxed);
            self.searches.store(left.saturating_sub(1), Ordering::Relaxed);
            (left > 0).then(|| self.files.find_path(&key)).flatten()
        };
        match self.files.path(&key).or_else(search) {
            Some(path) => path.display().to_string(),
            None => format!("handle:{}", hex(&key.0)),
        }
    }

    pub(super) fn unix_text(&self, time: Time) -> String {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(self.desk.unix(time));
        humantime::format_rfc3339_seconds(at).to_string()
    }
}

fn matches(filter: &Filter, view: &LockView) -> bool {
    filter.lock_manager.as_ref().is_none_or(|lm| *lm == view.lock_manager)
        && filter.client.as_ref().is_none_or(|c| *c == view.client || *c == view.address)
        && filter.path.as_ref().is_none_or(|p| Path::new(&view.path).starts_with(p))
}

/// Bytes of a stranger as text: as they are where they are printable, hexadecimal otherwise.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(s) if !s.is_empty() && !s.chars().any(char::is_control) => s.to_owned(),
        _ if bytes.is_empty() => String::new(),
        _ => format!("hex:{}", hex(bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
