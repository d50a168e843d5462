//! `status`, `locks`, `waiters`, `clients`, `refusals`, `accept`: asks the running server and prints. Must never
//! hold more than one page of a list.

use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::args::{Accept, Ask, ClientList, List, Refusals};
use super::config::Surroundings;
use super::table::{Table, age, duration, range, safe};
use crate::control::{Client, ClientError, Pages};
use crate::node::view::{ClientView, ExportView, Filter, LockView, RefusalView, Status, WaiterView};

/// Why nothing, or not all, was printed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShowError {
    /// The server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Standard output.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

type Shown = Result<(), ShowError>;

fn client(ask: &Ask, around: &Surroundings) -> Client {
    Client::new(match &ask.socket {
        Some(path) => vec![path.clone()],
        None => around.sockets(),
    })
}

/// `lockferry status`.
pub(super) async fn status(ask: &Ask, around: &Surroundings, out: &mut impl Write) -> Shown {
    let client = client(ask, around);
    if ask.json {
        return json(out, &client.get("/v1/status").await?);
    }
    Ok(write_status(out, &client.get("/v1/status").await?)?)
}

/// `lockferry locks`.
pub(super) async fn locks(list: &List, around: &Surroundings, out: &mut impl Write) -> Shown {
    let heading = ["LM", "CLIENT", "OWNER", "MODE", "RANGE", "STATE", "SINCE", "PATH"];
    listed(list, around, out, "/v1/locks", "no locks", heading, lock_row).await
}

/// `lockferry waiters`.
pub(super) async fn waiters(list: &List, around: &Surroundings, out: &mut impl Write) -> Shown {
    let heading = ["LM", "CLIENT", "OWNER", "MODE", "RANGE", "SINCE", "WAITS FOR", "PATH"];
    listed(list, around, out, "/v1/waiters", "nobody waits", heading, waiter_row).await
}

/// `lockferry clients`.
pub(super) async fn clients(list: &ClientList, around: &Surroundings, out: &mut impl Write) -> Shown {
    let heading =
        ["LM", "CLIENT", "ADDRESS", "LOCKS", "WAITERS", "SHARES", "NSM STATE", "MONITORED", "NOTIFY", "SEEN"];
    let client = client(&list.ask, around);
    let filter = Filter {
        client: list.client.clone(),
        lock_manager: list.lock_manager.map(|ip| ip.to_string()),
        path: None,
    };
    let pages = client.pages("/v1/clients", &filter);
    print(pages, list.ask.json, out, "no clients", heading, client_row).await?;
    Ok(())
}

/// `lockferry refusals`.
pub(super) async fn refusals(command: &Refusals, around: &Surroundings, out: &mut impl Write) -> Shown {
    let heading = ["ID", "REQUEST", "CLIENT", "FROM", "EXPECTED", "LM", "COUNT", "LAST", "DETAIL"];
    let client = client(&command.ask, around);
    print(client.whole("/v1/refusals"), command.ask.json, out, "nothing was refused", heading, refusal_row)
        .await?;
    Ok(())
}

/// `lockferry accept`.
pub(super) async fn accept(command: &Accept, around: &Surroundings, out: &mut impl Write) -> Shown {
    let client = client(&command.ask, around);
    let path = format!("/v1/refusals/{}/accept", command.id);
    if command.ask.json {
        return json(out, &client.post(&path).await?);
    }
    let row: RefusalView = client.post(&path).await?;
    writeln!(
        out,
        "accepted {} of {} from {}: {}",
        safe(&row.request),
        safe(&row.client),
        safe(&row.from),
        safe(&row.detail)
    )?;
    Ok(())
}

/// A list of locks or waiters with its filters.
async fn listed<T: DeserializeOwned>(
    list: &List,
    around: &Surroundings,
    out: &mut impl Write,
    path: &str,
    nothing: &str,
    heading: [&'static str; 8],
    row: fn(&T, u64) -> [String; 8],
) -> Shown {
    let client = client(&list.ask, around);
    let filter = Filter {
        client: list.client.clone(),
        path: list.path.as_deref().map(|path| from_here(path, around)),
        lock_manager: list.lock_manager.map(|ip| ip.to_string()),
    };
    let some = print(client.pages(path, &filter), list.ask.json, out, nothing, heading, row).await?;
    match filter.path {
        Some(path) if !some => outside(&client, &path).await,
        _ => Ok(()),
    }
}

/// What was typed, as the server would call it. Symbolic links are kept, as in `--export`, unless a `..` makes that
/// ambiguous.
fn from_here(path: &Path, around: &Surroundings) -> String {
    let joined = around.cwd.as_deref().map_or_else(|| path.into(), |cwd| cwd.join(path));
    let dots = joined.components().any(|part| part == Component::ParentDir);
    let canonical = if dots { std::fs::canonicalize(&joined).ok() } else { None };
    let mut whole = PathBuf::new();
    // Drops `.` and doubled slashes; what is not there has no links to follow either.
    for part in canonical.unwrap_or(joined).components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            part => whole.push(part),
        }
    }
    whole.display().to_string()
}

/// Says so if no export has anything to do with a path that nothing was found for: it was probably mistyped.
async fn outside(client: &Client, path: &str) -> Shown {
    let status: Status = client.get("/v1/status").await?;
    let path = Path::new(path);
    let related =
        |export: &ExportView| path.starts_with(&export.path) || Path::new(&export.path).starts_with(path);
    if !status.exports.iter().any(related) {
        let exports: Vec<_> = status.exports.iter().map(|export| safe(&export.path)).collect();
        let path = safe(&path.display().to_string());
        eprintln!("note: {path} lies in no export of the server; it exports {}", exports.join(", "));
    }
    Ok(())
}

/// Prints a list page by page. True: there was a row.
async fn print<T: DeserializeOwned, const N: usize>(
    mut pages: Pages<'_>,
    as_json: bool,
    out: &mut impl Write,
    nothing: &str,
    heading: [&'static str; N],
    row: fn(&T, u64) -> [String; N],
) -> Result<bool, ShowError> {
    if as_json {
        return print_json(pages, out).await;
    }
    let mut table = Table::new(heading);
    while let Some(rows) = pages.next::<T>().await? {
        let now = now();
        let cells: Vec<_> = rows.iter().map(|view| row(view, now)).collect();
        table.rows(out, &cells)?;
    }
    if table.is_empty() {
        writeln!(out, "{nothing}")?;
    }
    Ok(!table.is_empty())
}

/// One JSON array, a row a line, whatever the number of pages. True: there was a row.
async fn print_json(mut pages: Pages<'_>, out: &mut impl Write) -> Result<bool, ShowError> {
    let mut before = "[\n";
    while let Some(rows) = pages.next::<Value>().await? {
        for row in rows {
            write!(out, "{before}{row}")?;
            before = ",\n";
        }
    }
    let empty = before == "[\n";
    writeln!(out, "{}", if empty { "[]" } else { "\n]" })?;
    Ok(!empty)
}

fn json(out: &mut impl Write, value: &Value) -> Shown {
    // The alternate form of a Value is indented JSON.
    writeln!(out, "{value:#}")?;
    Ok(())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn lock_row(lock: &LockView, now: u64) -> [String; 8] {
    [
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

fn waiter_row(waiter: &WaiterView, now: u64) -> [String; 8] {
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

fn client_row(client: &ClientView, now: u64) -> [String; 10] {
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

fn refusal_row(refusal: &RefusalView, now: u64) -> [String; 9] {
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

fn write_status(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let up = duration(status.uptime_seconds);
    writeln!(out, "lockferry {}, process {}, up {up}", safe(&status.version), status.pid)?;
    for warning in &status.warnings {
        writeln!(out, "warning: {}", safe(warning))?;
    }
    let privileged = if status.privileged {
        "all that a kernel client needs"
    } else {
        "not all that a kernel client needs"
    };
    writeln!(out, "rights:  {privileged}")?;
    writeln!(out, "rpcbind: {}", safe(&status.rpcbind))?;
    writeln!(out)?;
    let mut table = Table::new(["LM", "STATE", "LOCKS", "WAITERS", "CLIENTS", "NSM STATE", "GRACE LEFT"]);
    let managers: Vec<_> = status
        .lock_managers
        .iter()
        .map(|manager| {
            let left = manager.grace_seconds_left.map_or("-".into(), duration);
            let counts = [manager.locks, manager.waiters, manager.clients].map(|count| count.to_string());
            let [locks, waiters, clients] = counts;
            [
                safe(&manager.name),
                safe(&manager.state),
                locks,
                waiters,
                clients,
                manager.nsm_state.to_string(),
                left,
            ]
        })
        .collect();
    section(out, &mut table, &managers, "no lock manager yet: the first request to an address makes one")?;
    let mut table = Table::new(["EXPORT", "FSID", "ACCESS", "PROBLEM"]);
    let exports: Vec<_> = status
        .exports
        .iter()
        .map(|export| {
            let access = if export.read_only { "ro" } else { "rw" };
            let error = export.error.as_deref().map_or("-".into(), safe);
            [safe(&export.path), safe(&export.fsid), access.into(), error]
        })
        .collect();
    section(out, &mut table, &exports, "nothing is exported")?;
    let mut table = Table::new(["PROGRAM", "TRANSPORT", "ADDRESS"]);
    let listeners: Vec<_> = status
        .listeners
        .iter()
        .map(|listener| [safe(&listener.program), safe(&listener.transport), safe(&listener.address)])
        .collect();
    section(out, &mut table, &listeners, "nothing listens")?;
    write_counters(out, status)
}

fn section<const N: usize>(
    out: &mut impl Write,
    table: &mut Table<N>,
    rows: &[[String; N]],
    nothing: &str,
) -> io::Result<()> {
    table.rows(out, rows)?;
    if table.is_empty() {
        writeln!(out, "{nothing}")?;
    }
    writeln!(out)
}

fn write_counters(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let counters = &status.counters;
    let groups: [(&str, &[(&str, u64)]); 4] = [
        (
            "requests",
            &[
                ("granted", counters.granted),
                ("denied", counters.denied),
                ("blocked", counters.blocked),
                ("deadlocks", counters.deadlocks),
                ("unlocked", counters.unlocked),
            ],
        ),
        ("callbacks", &[("confirmed", counters.callbacks_confirmed), ("failed", counters.callbacks_failed)]),
        ("refused", &[("over a limit", counters.over_limit), ("wrong sender", counters.refused)]),
        (
            "recovery",
            &[
                ("reclaimed", counters.reclaimed),
                ("reclaims refused", counters.reclaim_refused),
                ("freed by reboot", counters.freed_by_reboot),
            ],
        ),
    ];
    for (name, group) in groups {
        let parts: Vec<String> = group.iter().map(|(what, count)| format!("{count} {what}")).collect();
        writeln!(out, "{name:<10} {}", parts.join(", "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::view::{ListenerView, LockManagerView};

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
        assert!(shown.len() <= crate::cli::table::MAX_WIDTH, "it must not push PATH aside");
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

    #[test]
    fn status_is_readable_at_a_glance() {
        let status = Status {
            version: "0.1.0".into(),
            pid: 4711,
            uptime_seconds: 3_720,
            listeners: vec![ListenerView {
                program: "nfs".into(),
                transport: "tcp".into(),
                address: "0.0.0.0:2049".into(),
            }],
            exports: vec![ExportView {
                path: "/srv/share".into(),
                fsid: "0x2a".into(),
                read_only: false,
                error: None,
            }],
            lock_managers: vec![LockManagerView {
                name: "192.0.2.10".into(),
                state: "grace".into(),
                locks: 3,
                waiters: 1,
                clients: 2,
                nsm_state: 15,
                grace_seconds_left: Some(12),
                ..LockManagerView::default()
            }],
            rpcbind: "host rpcbind".into(),
            privileged: true,
            warnings: vec!["kernel lockd runs on this host".into()],
            ..Status::default()
        };
        let mut out = Vec::new();
        write_status(&mut out, &status).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        lockferry 0.1.0, process 4711, up 1h02m
        warning: kernel lockd runs on this host
        rights:  all that a kernel client needs
        rpcbind: host rpcbind

        LM          STATE  LOCKS  WAITERS  CLIENTS  NSM STATE  GRACE LEFT
        192.0.2.10  grace  3      1        2        15         12s

        EXPORT      FSID  ACCESS  PROBLEM
        /srv/share  0x2a  rw      -

        PROGRAM  TRANSPORT  ADDRESS
        nfs      tcp        0.0.0.0:2049

        requests   0 granted, 0 denied, 0 blocked, 0 deadlocks, 0 unlocked
        callbacks  0 confirmed, 0 failed
        refused    0 over a limit, 0 wrong sender
        recovery   0 reclaimed, 0 reclaims refused, 0 freed by reboot
        ");
    }
}
