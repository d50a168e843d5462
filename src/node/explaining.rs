//! `lockferry explain`: what a request would get now, in words. Must never change anything, nor promise what hangs on others.

use nix::errno::Errno;

use super::verbs::Refusal;
use super::view::{ExplainQuery, ExplainView};
use super::views::Views;
use crate::export::{ExportTable, KeyError};
use crate::state::{Explanation, LockRow, Mode, Outcome, Question, Range, Time};

/// Rows looked through for an owner's handle.
const ROWS: usize = 200_000;
/// Rows looked at under one hold of the engine's mutex.
const ROWS_PER_HOLD: usize = 1_000;

/// What to look at if it lasts.
pub(super) const DISK: &str = "a moment, if the disk of its journal is well: see lockferry status";

type ClientName = (Box<[u8]>, std::net::IpAddr);

impl Views {
    pub(super) fn explained(&self, q: &ExplainQuery) -> Result<ExplainView, Refusal> {
        let Some(range) = Range::new(q.start, q.end.unwrap_or(u64::MAX)) else {
            return Err(Refusal::new(Errno::EINVAL, "the range ends before it begins"));
        };
        let key = self.files.key_of_path(&q.path).map_err(no_key)?;
        let client = q.client.as_deref().map(|client| self.client_named(q, client)).transpose()?;
        let owner =
            q.svid.zip(client.as_ref()).map(|(svid, client)| (self.owner_handle(q, client, svid), svid));
        let mode = if q.shared { Mode::Shared } else { Mode::Exclusive };
        let question = Question {
            lm: q.lock_manager,
            client: client.as_ref().map(|(name, address)| (&**name, *address)),
            owner: owner.as_ref().map(|(oh, svid)| (&**oh, *svid)),
            file: &key.0,
            range,
            mode,
        };
        let found = self.desk.read(|e| e.explain(&question));
        Ok(self.view_of(q, &found))
    }

    fn view_of(&self, q: &ExplainQuery, found: &Explanation) -> ExplainView {
        let silent = !self.gate.is_open(&q.lock_manager);
        let export = self.files.find_export(&q.path);
        let elsewhere = export.filter(|path| !self.gate.binds(ExportTable::number_of(path), &q.lock_manager));
        let word = |outcome| if silent { "silence".to_owned() } else { word(outcome).to_owned() };
        let lock = |outcome| match elsewhere {
            Some(_) if !silent => "no locks".to_owned(),
            _ => word(outcome),
        };
        let mut reasons = Vec::new();
        if silent {
            reasons.push(format!(
                "no lock manager is loaded for {}: no request to that address gets an answer",
                q.lock_manager
            ));
        } else if let Some(export) = elsewhere {
            reasons.push(format!(
                "{} is bound to other addresses: new locks through {} are refused (see lockferry status)",
                export.display(),
                q.lock_manager
            ));
        } else {
            self.reasons(found, &mut reasons);
        }
        ExplainView {
            lock: lock(found.lock),
            blocking: lock(found.blocking),
            test: word(found.test),
            reclaim: word(found.reclaim),
            reasons,
            blockers: found.blockers.iter().map(|row| self.lock_view(row)).collect(),
            blocker_count: found.blocker_count,
            until: self.soon(found.until).map(|until| self.desk.unix(until)),
        }
    }

    fn reasons(&self, found: &Explanation, reasons: &mut Vec<String>) {
        if found.covered {
            reasons.push("this owner has all of it already".into());
        }
        if found.full_window {
            reasons
                .push("a full grace window is open: whatever nothing covers waits until it is over".into());
        }
        if found.held > 0 {
            reasons.push(format!("{} held, until the holder lets go", locks(found.held, "is", "are")));
        }
        let recorded = found.blocker_count - found.held;
        if recorded > 0 {
            let until = match (self.soon(found.until), found.until) {
                (Some(t), _) => format!(", at the latest until {}", self.unix_text(t)),
                (None, Some(_)) => {
                    ", in a window whose time does not run yet (its clients have not been told)".into()
                }
                (None, None) => String::new(),
            };
            reasons.push(format!("{} still to be reclaimed{until}", locks(recorded, "is", "are")));
        }
        if let Some(lm) = found.unwritten {
            reasons.push(format!(
                "it was freed through {lm}, whose record still has it: until that is written ({DISK})"
            ));
        }
        if !found.yielding.is_empty() {
            let from: Vec<String> = found.yielding.iter().map(of).collect();
            reasons.push(format!("a grant would take bytes of expired locks: {}", from.join(", ")));
        }
        if found.blocking == Outcome::Deadlock {
            reasons.push("waiting would close a circle of owners that wait for each other".into());
        }
        if reasons.is_empty() {
            reasons.push("nothing is in its way".into());
        }
    }

    /// A deadline, unless it only stands for "not yet".
    pub(super) fn soon(&self, until: Option<Time>) -> Option<Time> {
        until.filter(|t| t.0.saturating_sub(self.desk.now().0) < super::managers::FAR_MS)
    }

    fn client_named(&self, q: &ExplainQuery, client: &str) -> Result<ClientName, Refusal> {
        let address = client.parse::<std::net::IpAddr>().ok().map(|ip| ip.to_canonical());
        let lm = Some(q.lock_manager);
        let found =
            self.desk.read(|e| super::managers::find_clients(e, client, address, lm)).into_iter().next();
        let found = found.map(|row| (row.name, row.address));
        found.ok_or_else(|| {
            Refusal::new(
                Errno::ENOENT,
                format!("{} knows no client {client}: see lockferry clients", q.lock_manager),
            )
        })
    }

    /// The handle that goes with an owner's number, from its locks. One that has none gets an empty one: it has nothing anyway.
    fn owner_handle(&self, q: &ExplainQuery, client: &ClientName, svid: u32) -> Box<[u8]> {
        let (mut slot, mut looked) = (0, 0);
        while looked < ROWS {
            let (rows, next) = self.desk.read(|e| e.lock_rows(slot, ROWS_PER_HOLD));
            looked += rows.len();
            let mine = |row: &&LockRow| {
                row.lm == q.lock_manager
                    && row.svid == svid
                    && row.client == client.0
                    && row.address == client.1
            };
            if let Some(row) = rows.iter().find(mine) {
                return row.oh.clone();
            }
            match next {
                Some(next) => slot = next,
                None => break,
            }
        }
        Box::default()
    }
}

fn no_key(error: KeyError) -> Refusal {
    let errno = match &error {
        KeyError::Outside(_) | KeyError::Closed(_) => Errno::ENOENT,
        KeyError::Io { source, .. } => source.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
    };
    Refusal::new(errno, error.to_string())
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Granted => "granted",
        Outcome::Denied => "denied",
        Outcome::DeniedGrace => "denied, no grace window",
        Outcome::Blocked => "blocked",
        Outcome::HeldBack => "held back",
        Outcome::Deadlock => "deadlock",
        Outcome::Silence => "silence",
    }
}

fn locks(n: u64, one: &str, more: &str) -> String {
    match n {
        1 => format!("one conflicting lock {one}"),
        n => format!("{n} conflicting locks {more}"),
    }
}

fn of(row: &LockRow) -> String {
    format!("{}/{} {}", super::views::text(&row.client), row.svid, row.range)
}
