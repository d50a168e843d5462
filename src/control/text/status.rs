//! The status at a glance, as `lockferry status` and the control file `status` print it.

use std::io::{self, Write};

use super::table::{Table, duration, safe, time};
use crate::node::view::{LastError, LockManagerView, NotifyCounts, Status};

/// Writes all of it.
pub(crate) fn write_status(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let up = duration(status.uptime_seconds);
    writeln!(out, "lockferry {}, process {}, up {up}", safe(&status.version), status.pid)?;
    // What is wrong with a lock manager is among the warnings too, for programs that look at nothing else.
    let trouble = |warning: &&String| {
        let of =
            |m: &LockManagerView| m.trouble.as_ref().is_some_and(|t| **warning == format!("{}: {t}", m.name));
        status.lock_managers.iter().any(of)
    };
    for warning in status.warnings.iter().filter(|w| !trouble(w)) {
        writeln!(out, "warning: {}", safe(warning))?;
    }
    for manager in &status.lock_managers {
        if let Some(trouble) = &manager.trouble {
            writeln!(out, "trouble with {}: {}", safe(&manager.name), safe(trouble))?;
        }
    }
    if let Some(error) = &status.last_error {
        writeln!(out, "last refused: {}", last_error(error))?;
    }
    let privileged = if status.privileged {
        "all that a kernel client needs"
    } else {
        "not all that a kernel client needs"
    };
    writeln!(out, "rights:  {privileged}")?;
    writeln!(out, "rpcbind: {}", safe(&status.rpcbind))?;
    writeln!(out)?;
    write_lock_managers(out, &status.lock_managers)?;
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

/// The last verb that was refused, in a line.
pub(crate) fn last_error(error: &LastError) -> String {
    let (at, verb) = (time(error.at), safe(&error.verb));
    format!("{verb} at {at}, {}: {}", safe(&error.errno), safe(&error.text))
}

/// How far the clients are told of a take-over, in a few words.
pub(crate) fn notify(counts: &NotifyCounts) -> String {
    let parts = [
        ("pending", counts.pending),
        ("sent", counts.sent),
        ("answered", counts.answered),
        ("reclaimed", counts.reclaimed),
        ("gave up", counts.gave_up),
    ];
    let some = parts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}"));
    match some.collect::<Vec<_>>() {
        none if none.is_empty() => "-".into(),
        some => some.join(", "),
    }
}

/// What states there are, and how long the window still lasts.
fn write_lock_managers(out: &mut impl Write, managers: &[LockManagerView]) -> io::Result<()> {
    let mut table = Table::new([
        "LM",
        "STATE",
        "EPOCH",
        "HERE",
        "LOCKS",
        "RECLAIMABLE",
        "EXPIRED",
        "WAITERS",
        "CLIENTS",
        "NSM STATE",
        "GRACE LEFT",
    ]);
    let rows: Vec<_> = managers
        .iter()
        .map(|manager| {
            [
                safe(&manager.name),
                if manager.full { format!("{}, full", safe(&manager.state)) } else { safe(&manager.state) },
                manager.epoch.to_string(),
                if manager.address_here { "yes" } else { "no" }.into(),
                manager.locks.to_string(),
                manager.reclaimable.to_string(),
                manager.expired.to_string(),
                manager.waiters.to_string(),
                manager.clients.to_string(),
                manager.nsm_state.to_string(),
                manager.grace_seconds_left.map_or("-".into(), duration),
            ]
        })
        .collect();
    section(out, &mut table, &rows, "no lock manager yet: the first request to an address makes one")?;
    if managers.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(["LM", "EXPORTS", "CLIENTS TOLD", "JOURNAL"]);
    let rows: Vec<_> = managers
        .iter()
        .map(|manager| {
            let exports: Vec<String> = manager.exports.iter().map(|path| safe(path)).collect();
            let exports =
                if exports.is_empty() { "all that are not bound".into() } else { exports.join(" ") };
            [safe(&manager.name), exports, notify(&manager.notify), safe(&manager.journal)]
        })
        .collect();
    section(out, &mut table, &rows, "")
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
        (
            "refused",
            &[
                ("over a limit", counters.over_limit),
                ("wrong sender", counters.refused),
                ("bound elsewhere", counters.bound_elsewhere),
            ],
        ),
        (
            "recovery",
            &[
                ("reclaimed", counters.reclaimed),
                ("reclaims refused", counters.reclaim_refused),
                ("expired", counters.expired),
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
    use crate::node::view::{ExportView, ListenerView};

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
                epoch: 7,
                address_here: true,
                exports: vec!["/srv/share".into()],
                journal: "/srv/share/.lockferry".into(),
                reclaimable: 2,
                full: true,
                notify: NotifyCounts { answered: 1, reclaimed: 1, ..NotifyCounts::default() },
                trouble: Some("no space left on the journal's disk".into()),
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
            last_error: Some(LastError {
                at: 1_767_225_600,
                verb: "start_grace".into(),
                errno: "ENOENT".into(),
                text: "no export \u{1b}[31m".into(),
            }),
            ..Status::default()
        };
        let mut out = Vec::new();
        write_status(&mut out, &status).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        lockferry 0.1.0, process 4711, up 1h02m
        warning: kernel lockd runs on this host
        trouble with 192.0.2.10: no space left on the journal's disk
        last refused: start_grace at 2026-01-01T00:00:00Z, ENOENT: no export \u{1b}[31m
        rights:  all that a kernel client needs
        rpcbind: host rpcbind

        LM          STATE        EPOCH  HERE  LOCKS  RECLAIMABLE  EXPIRED  WAITERS  CLIENTS  NSM STATE  GRACE LEFT
        192.0.2.10  grace, full  7      yes   3      2            0        1        2        15         12s

        LM          EXPORTS     CLIENTS TOLD             JOURNAL
        192.0.2.10  /srv/share  1 answered, 1 reclaimed  /srv/share/.lockferry

        EXPORT      FSID  ACCESS  PROBLEM
        /srv/share  0x2a  rw      -

        PROGRAM  TRANSPORT  ADDRESS
        nfs      tcp        0.0.0.0:2049

        requests   0 granted, 0 denied, 0 blocked, 0 deadlocks, 0 unlocked
        callbacks  0 confirmed, 0 failed
        refused    0 over a limit, 0 wrong sender, 0 bound elsewhere
        recovery   0 reclaimed, 0 reclaims refused, 0 expired, 0 freed by reboot
        "#);
    }
}
