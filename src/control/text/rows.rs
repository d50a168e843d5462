//! The rows of the lists, as `lockferry locks` and the control file `locks` print them. Every cell is safe for a terminal.

use super::table::{age, range, safe};
use crate::node::view::{ClientView, LockView, RefusalView, WaiterView};

/// Columns of the list of locks.
pub(crate) const LOCKS: [&str; 9] =
    ["ID", "LM", "CLIENT", "OWNER", "MODE", "RANGE", "STATE", "SINCE", "PATH"];
/// Columns of the list of waiters.
pub(crate) const WAITERS: [&str; 8] =
    ["LM", "CLIENT", "OWNER", "MODE", "RANGE", "SINCE", "WAITS FOR", "PATH"];
/// Columns of the list of clients.
pub(crate) const CLIENTS: [&str; 10] =
    ["LM", "CLIENT", "ADDRESS", "LOCKS", "WAITERS", "SHARES", "NSM STATE", "MONITORED", "NOTIFY", "SEEN"];
/// Columns of the list of refusals.
pub(crate) const REFUSALS: [&str; 9] =
    ["ID", "REQUEST", "CLIENT", "FROM", "EXPECTED", "LM", "COUNT", "LAST", "DETAIL"];

/// What is printed instead of a list of no locks.
pub(crate) const NO_LOCKS: &str = "no locks";
/// The same for waiters.
pub(crate) const NO_WAITERS: &str = "nobody waits";
/// The same for clients.
pub(crate) const NO_CLIENTS: &str = "no clients";

/// A lock.
pub(crate) fn lock_row(lock: &LockView, now: u64) -> [String; 9] {
    [
        lock.id.to_string(),
        safe(&lock.lock_manager),
        safe(&lock.client),
        lock.svid.to_string(),
        safe(&lock.mode),
        range(lock.start, lock.end),
        safe(&lock.state),
        age(now, lock.since),
        safe(&lock.path),
    ]
}

/// A waiting request.
pub(crate) fn waiter_row(waiter: &WaiterView, now: u64) -> [String; 8] {
    let request = &waiter.request;
    [
        safe(&request.lock_manager),
        safe(&request.client),
        request.svid.to_string(),
        safe(&request.mode),
        range(request.start, request.end),
        age(now, request.since),
        waits_for(waiter, now),
        safe(&request.path),
    ]
}

/// The first lock in the way, how long it has been there, and how many more there are.
fn waits_for(waiter: &WaiterView, now: u64) -> String {
    let Some(first) = waiter.waits_for.first() else {
        // The column says already that it waits; without that the text fits into it.
        let reason = &waiter.reason;
        return safe(reason.split_once(" waits for ").map_or(reason, |(_, what)| what));
    };
    let mut text = format!(
        "{}/{} {} {}, {} for {}",
        safe(&first.client),
        first.svid,
        safe(&first.mode),
        range(first.start, first.end),
        safe(&first.state),
        age(now, first.since),
    );
    let more = waiter.waits_for_count.saturating_sub(1);
    if more > 0 {
        text += &format!(" (+{more} more)");
    }
    text
}

/// A client.
pub(crate) fn client_row(client: &ClientView, now: u64) -> [String; 10] {
    let mut address = safe(&client.address);
    for learned in &client.learned_addresses {
        address += &format!(",{}", safe(learned));
    }
    let state = if client.nsm_state == 0 { "unknown".into() } else { client.nsm_state.to_string() };
    [
        safe(&client.lock_manager),
        safe(&client.name),
        address,
        client.locks.to_string(),
        client.waiters.to_string(),
        client.shares.to_string(),
        state,
        if client.monitored { "yes" } else { "no" }.into(),
        client.notify.as_deref().map_or("-".into(), safe),
        age(now, client.last_seen),
    ]
}

/// A refused request.
pub(crate) fn refusal_row(refusal: &RefusalView, now: u64) -> [String; 9] {
    [
        refusal.id.to_string(),
        safe(&refusal.request),
        safe(&refusal.client),
        safe(&refusal.from),
        safe(&refusal.expected),
        safe(&refusal.lock_manager),
        refusal.count.to_string(),
        age(now, refusal.at),
        safe(&refusal.detail),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> LockView {
        LockView {
            id: 1,
            lock_manager: "192.0.2.10".into(),
            client: "web1".into(),
            address: "192.0.2.50".into(),
            svid: 7,
            owner: "7@web1".into(),
            path: "/srv/share/db".into(),
            start: 0,
            end: Some(99),
            mode: "exclusive".into(),
            state: "held".into(),
            since: 1_000,
        }
    }

    #[test]
    fn a_waiter_shows_whom_it_waits_for_and_since_when() {
        let waiter = WaiterView {
            request: LockView { client: "web2".into(), since: 1_100, end: None, ..lock() },
            waits_for: vec![lock()],
            waits_for_count: 3,
            reason: String::new(),
        };
        let row = waiter_row(&waiter, 1_192);
        assert_eq!(row[4..7], ["0-EOF", "1m32s", "web1/7 exclusive 0-99, held for 3m12s (+2 more)"]);
    }

    #[test]
    fn a_waiter_behind_no_lock_shows_the_reason() {
        let waiter = WaiterView {
            request: lock(),
            reason: "LOCK waits for the grace window to end, 2026-01-01T00:00:00Z at the latest".into(),
            ..WaiterView::default()
        };
        let shown = waits_for(&waiter, 0);
        assert_eq!(shown, "the grace window to end, 2026-01-01T00:00:00Z at the latest");
        assert!(shown.len() <= crate::control::text::table::MAX_WIDTH, "it must not push PATH aside");
    }

    #[test]
    fn names_from_the_network_are_escaped_in_every_column() {
        let evil = "\u{1b}[31m";
        let lock = LockView { client: evil.into(), path: evil.into(), state: evil.into(), ..lock() };
        let client = ClientView {
            name: evil.into(),
            learned_addresses: vec![evil.into()],
            notify: Some(evil.into()),
            ..ClientView::default()
        };
        let refusal = RefusalView {
            client: evil.into(),
            detail: evil.into(),
            from: evil.into(),
            ..RefusalView::default()
        };
        let cells =
            [lock_row(&lock, 0).to_vec(), client_row(&client, 0).to_vec(), refusal_row(&refusal, 0).to_vec()];
        assert!(cells.concat().iter().all(|cell| !cell.contains('\u{1b}')));
    }
}
