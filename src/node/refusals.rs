//! Requests that were refused because their sender is not the client: kept so that an operator can look at them and have one
//! carried out after all. Bounded: the oldest of whoever has the most go first. Must never carry anything out by itself.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use super::desk::Desk;
use super::view::RefusalView;
use crate::service::nlm::LockService;
use crate::state::{Command, Mode, Party, Range, RefusedKind};

/// How many are kept. Equal ones are counted together.
const KEPT: usize = 256;

/// What a refused request would have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    Unlock { oh: Box<[u8]>, svid: u32, file: Box<[u8]>, range: Range },
    Cancel { oh: Box<[u8]>, svid: u32, file: Box<[u8]>, range: Range, mode: Mode },
    Unshare { oh: Box<[u8]>, file: Box<[u8]> },
    FreeAll,
    Rebooted { state: u32 },
}

impl Replay {
    /// Of a command that can be refused for its sender.
    pub(super) fn of(command: &Command<'_>) -> Option<Replay> {
        Some(match *command {
            Command::Unlock { oh, svid, file, range, .. } => {
                Replay::Unlock { oh: oh.into(), svid, file: file.into(), range }
            }
            Command::Cancel { oh, svid, file, range, mode, .. } => {
                Replay::Cancel { oh: oh.into(), svid, file: file.into(), range, mode }
            }
            Command::Unshare { oh, file, .. } => Replay::Unshare { oh: oh.into(), file: file.into() },
            Command::FreeAll { .. } => Replay::FreeAll,
            Command::Rebooted { state, .. } => Replay::Rebooted { state },
            _ => return None,
        })
    }

    fn detail(&self) -> String {
        match self {
            Replay::Unlock { svid, range, .. } => format!("free bytes {range} of owner {svid}"),
            Replay::Cancel { svid, range, .. } => {
                format!("cancel the request of owner {svid} for bytes {range}")
            }
            Replay::Unshare { .. } => "free a share".into(),
            Replay::FreeAll => "free all locks and shares of the client".into(),
            Replay::Rebooted { state } => format!("free the client's locks of states before {state}"),
        }
    }
}

struct Refusal {
    view: RefusalView,
    lm: IpAddr,
    name: Box<[u8]>,
    from: IpAddr,
    replay: Replay,
}

#[derive(Default)]
pub(super) struct Refusals {
    next: u64,
    rows: VecDeque<Refusal>,
}

impl Refusals {
    #[allow(clippy::too_many_arguments)] // the event's fields
    pub(super) fn add(
        &mut self,
        kind: RefusedKind,
        lm: IpAddr,
        name: &[u8],
        from: IpAddr,
        expected: IpAddr,
        replay: Replay,
        at: u64,
    ) {
        let same = |r: &&mut Refusal| r.lm == lm && *r.name == *name && r.from == from && r.replay == replay;
        if let Some(known) = self.rows.iter_mut().find(same) {
            known.view.count += 1;
            known.view.at = at;
            return;
        }
        if self.rows.len() >= KEPT {
            self.make_room();
        }
        self.next += 1;
        let request = match kind {
            RefusedKind::Unlock => "UNLOCK",
            RefusedKind::Cancel => "CANCEL",
            RefusedKind::Unshare => "UNSHARE",
            RefusedKind::FreeAll => "FREE_ALL",
            RefusedKind::Notify => "SM_NOTIFY",
        };
        let view = RefusalView {
            id: self.next,
            request: request.into(),
            client: super::views::text(name),
            from: from.to_string(),
            expected: expected.to_string(),
            lock_manager: lm.to_string(),
            detail: replay.detail(),
            at,
            count: 1,
        };
        self.rows.push_back(Refusal { view, lm, name: name.into(), from, replay });
    }

    /// Drops the oldest row of the sender that has the most: a flood pushes out only itself.
    fn make_room(&mut self) {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for row in &self.rows {
            *counts.entry(row.from).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(from, _)| from);
        if let Some(at) = self.rows.iter().position(|row| Some(row.from) == most) {
            self.rows.remove(at);
        }
    }

    pub(super) fn views(&self) -> Vec<RefusalView> {
        self.rows.iter().map(|r| r.view.clone()).collect()
    }

    fn take(&mut self, id: u64) -> Option<Refusal> {
        let at = self.rows.iter().position(|r| r.view.id == id)?;
        self.rows.remove(at)
    }
}

/// Trusts the sender's address for that client name and carries the request out.
pub(super) fn accept(desk: &Desk, id: u64) -> Result<RefusalView, String> {
    let refusal =
        desk.refusals().take(id).ok_or_else(|| format!("no refused request has the number {id}"))?;
    let party = Party { lm: refusal.lm, name: &refusal.name, address: refusal.from };
    desk.run(Command::Trust { party });
    let token = desk.next_token();
    desk.run(match &refusal.replay {
        Replay::Unlock { oh, svid, file, range } => {
            Command::Unlock { party, oh, svid: *svid, file, range: *range, token }
        }
        Replay::Cancel { oh, svid, file, range, mode } => {
            Command::Cancel { party, oh, svid: *svid, file, range: *range, mode: *mode, token }
        }
        Replay::Unshare { oh, file } => Command::Unshare { party, oh, file, token },
        Replay::FreeAll => Command::FreeAll { party, token },
        Replay::Rebooted { state } => Command::Rebooted { party, state: *state, token },
    });
    tracing::warn!(
        client = %refusal.view.client, from = %refusal.view.from, request = %refusal.view.request,
        "an operator accepted a refused request"
    );
    Ok(refusal.view)
}
