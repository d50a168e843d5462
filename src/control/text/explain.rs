//! What a request would get now, and why, for people.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::rows::{LOCKS, lock_row};
use super::table::{Table, safe, time};
use crate::node::view::ExplainView;

/// Writes all of it.
pub(crate) fn write_explanation(out: &mut impl Write, answer: &ExplainView) -> io::Result<()> {
    let verdicts = [
        ("a lock that does not wait", &answer.lock),
        ("a lock that waits", &answer.blocking),
        ("a test", &answer.test),
        ("a reclaim", &answer.reclaim),
    ];
    for (request, verdict) in verdicts {
        writeln!(out, "{:<26} {}", format!("{request}:"), safe(verdict))?;
    }
    for reason in &answer.reasons {
        writeln!(out, "why: {}", safe(reason))?;
    }
    if let Some(until) = answer.until {
        writeln!(out, "answered at the latest at {}", time(until))?;
    }
    if !answer.blockers.is_empty() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        writeln!(out, "\nin its way:")?;
        let rows: Vec<_> = answer.blockers.iter().map(|lock| lock_row(lock, now)).collect();
        Table::new(LOCKS).rows(out, &rows)?;
    }
    let more = answer.blocker_count.saturating_sub(answer.blockers.len() as u64);
    if more > 0 {
        writeln!(out, "and {more} more")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::view::LockView;

    #[test]
    fn an_explanation_names_verdicts_reasons_and_what_is_in_the_way() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let lock = LockView {
            id: 7,
            lock_manager: "192.0.2.10".into(),
            client: "web1\u{1b}".into(),
            svid: 3,
            path: "/srv/share/db".into(),
            end: Some(99),
            mode: "exclusive".into(),
            state: "reclaimable".into(),
            // In the future: its age is shown as none, whenever this runs.
            since: now + 1_000,
            ..LockView::default()
        };
        let answer = ExplainView {
            lock: "held back".into(),
            blocking: "blocked".into(),
            test: "denied".into(),
            reclaim: "denied".into(),
            reasons: vec!["web1 has not reclaimed its lock yet".into()],
            blockers: vec![lock],
            blocker_count: 3,
            until: Some(1_767_225_600),
        };
        let mut out = Vec::new();
        write_explanation(&mut out, &answer).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        a lock that does not wait: held back
        a lock that waits:         blocked
        a test:                    denied
        a reclaim:                 denied
        why: web1 has not reclaimed its lock yet
        answered at the latest at 2026-01-01T00:00:00Z

        in its way:
        ID  LM          CLIENT      OWNER  MODE       RANGE  STATE        SINCE  PATH
        7   192.0.2.10  web1\u{1b}  3      exclusive  0-99   reclaimable  0s     /srv/share/db
        and 2 more
        "#);
    }
}
