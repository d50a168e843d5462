//! One log line for each decision that an operator would ask about. Must never log what happens on every request, nor what one
//! client can cause at will more than once in a while (see [`super::quiet`]).

use std::sync::LazyLock;
use std::time::Instant;

use super::quiet::Quiet;
use super::views::text;
use crate::state::{CallbackOutcome, Deny, Event, Freed};

/// The log is one for the process, and so is what was lately in it.
static QUIET: LazyLock<Quiet> = LazyLock::new(Quiet::default);

/// Logs that a new lock was asked for through an address that its export is not bound to.
pub(super) fn bound_elsewhere(lm: std::net::IpAddr) {
    if let Some(left_out) = QUIET.speak("bound elsewhere", lm.to_string().as_bytes(), Instant::now()) {
        tracing::warn!(lock_manager = %lm, left_out, "LOCK denied: the export is bound to another lock manager");
    }
}

/// The file that a line about this event names.
pub(super) fn file_of(event: &Event) -> Option<&[u8]> {
    match event {
        Event::Expired(s) | Event::Yielded(s) | Event::LoadRefused(s) | Event::Dropped(s) => Some(&s.file),
        Event::FreedByOperator { what: Freed::Lock(s), .. } => Some(&s.file),
        Event::FreedByOperator { what: Freed::File(file), .. } | Event::Reclaimed { file, .. } => Some(file),
        Event::Denied {
            file,
            why: Deny::ReclaimTooLate | Deny::ReclaimBeyond | Deny::ReclaimConflict,
            ..
        } => Some(file),
        _ => None,
    }
}

/// Logs an event. `name` is what a file is called.
pub(super) fn log(event: &Event, name: &dyn Fn(&[u8]) -> String) {
    let Some(left_out) = speak(event) else { return };
    if left_out > 0 {
        tracing::warn!("{left_out} more lines like the next one were left out");
    }
    match event {
        Event::Denied { lm, client, svid, file, range, why } => {
            let client = text(client);
            let file = || name(file);
            match why {
                Deny::Conflict => tracing::debug!(%client, %range, "LOCK denied: conflict"),
                Deny::Deadlock => tracing::info!(%client, %range, "LOCK denied: it would be a deadlock"),
                Deny::LocksPerClient => {
                    tracing::warn!(%client, "LOCK denied: limits.locks_per_client is reached");
                }
                Deny::WaitersPerClient => {
                    tracing::warn!(%client, "LOCK denied: limits.waiters_per_client is reached");
                }
                Deny::Clients => tracing::warn!(%client, "LOCK denied: limits.clients is reached"),
                Deny::WaitGraph => {
                    tracing::warn!(%client, "LOCK denied: too many wait for each other to rule a deadlock out");
                }
                Deny::NamesPerAddress => {
                    tracing::warn!(%client, "LOCK denied: limits.names_per_address is reached");
                }
                Deny::Grace => tracing::info!(%client, %range, "LOCK denied: grace window"),
                Deny::Late => {
                    tracing::info!(%client, %range, "LOCK from before the client's last reboot: no answer")
                }
                Deny::ReclaimTooLate => {
                    tracing::warn!(lock_manager = %lm, %client, svid, file = file(), %range, "reclaim refused: no grace window and nothing recorded");
                }
                Deny::ReclaimBeyond => tracing::warn!(
                    lock_manager = %lm, %client, svid, file = file(), %range,
                    "reclaim refused: more than what is recorded for this owner"
                ),
                Deny::ReclaimConflict => {
                    tracing::warn!(lock_manager = %lm, %client, svid, file = file(), %range, "reclaim refused: another client holds these bytes");
                }
            }
        }
        Event::Reclaimed { lm, client, address, svid, file, range } => {
            tracing::info!(lock_manager = %lm, client = %text(client), %address, svid, file = name(file), %range, "lock reclaimed");
        }
        Event::FreedByReboot { client, address, locks, state } => {
            tracing::info!(client = %text(client), %address, locks, state, "client rebooted: its older locks are freed");
        }
        Event::NoticeIgnored { client, state, locks } => {
            tracing::info!(
                client = %text(client), state, locks,
                "SM_NOTIFY left locks alone: they are of this state, of a newer one, or of an unknown one"
            );
        }
        Event::Refused { kind, lm, client, from, expected } => {
            tracing::warn!(
                client = %text(client), %from, %expected, lock_manager = %lm, request = ?kind,
                "refused: not the client's address (lockferry refusals, lockferry accept)"
            );
        }
        Event::CallbackFailed { client, range, outcome } => {
            let what = match outcome {
                CallbackOutcome::Accepted => "accepted",
                CallbackOutcome::RefusedFirst => "the client does not want the lock any more: taken back",
                CallbackOutcome::RefusedLater => "refused after a retransmission: unconfirmed",
                CallbackOutcome::Unanswered => "never answered: unconfirmed",
            };
            tracing::info!(client = %text(client), %range, "GRANTED {what}");
        }
        Event::LmCreated(lm) => tracing::info!(lock_manager = %lm, "new lock manager"),
        Event::GraceEnded(lm) => tracing::info!(lock_manager = %lm, "grace window ended"),
        Event::GraceStarted { lm, full, reclaimable } => {
            tracing::info!(lock_manager = %lm, full, locks = reclaimable, "grace window open");
        }
        Event::Unreclaimed { lm, locks } => {
            tracing::warn!(lock_manager = %lm, locks, "not reclaimed in the grace window: expired");
        }
        Event::Expired(s) => tracing::warn!(
            lock_manager = %s.lm, client = %text(&s.name), address = %s.address, file = %name(&s.file), range = %s.range,
            "lock expired: not reclaimed in the grace window"
        ),
        Event::Yielded(s) => tracing::warn!(
            lock_manager = %s.lm, client = %text(&s.name), address = %s.address, file = %name(&s.file), range = %s.range,
            "lock that was not reclaimed gave way to another client's"
        ),
        Event::ExpiredDropped { lm, locks } => {
            tracing::warn!(lock_manager = %lm, locks, "expired locks dropped: the hold time is over");
        }
        Event::LoadRefused(s) => tracing::error!(
            lock_manager = %s.lm, client = %text(&s.name), address = %s.address, file = %name(&s.file), range = %s.range,
            "recorded lock not loaded: it conflicts with another"
        ),
        Event::Loaded { lm, clients, locks, dropped } => {
            tracing::info!(lock_manager = %lm, clients, locks, dropped, "lock manager loaded");
        }
        Event::Released { lm, locks, kept, waiters } => {
            tracing::info!(lock_manager = %lm, locks, kept, waiters, "lock manager released");
        }
        Event::Dropped(s) => tracing::warn!(
            lock_manager = %s.lm, client = %text(&s.name), address = %s.address, file = %name(&s.file), range = %s.range,
            "lock of a released lock manager dropped: nobody took it up in the hold time"
        ),
        Event::ReleasedDropped { lm, locks } => {
            tracing::warn!(lock_manager = %lm, locks, "locks of a released lock manager dropped: the hold time is over");
        }
        // The operator is told why.
        Event::FreedByOperator { locks: 0, waiters: 0, released: Some(_), .. } => {}
        Event::FreedByOperator { what, locks, waiters, .. } => freed(what, *locks, *waiters, name),
    }
}

fn freed(what: &Freed, locks: u64, waiters: u64, name: &dyn Fn(&[u8]) -> String) {
    match what {
        Freed::File(file) => {
            tracing::warn!(file = %name(file), locks, waiters, "freed by an operator: all on a file")
        }
        Freed::Client { lm, name, address } => tracing::warn!(
            lock_manager = %lm, client = %text(name), %address, locks, waiters, "freed by an operator: all of a client"
        ),
        Freed::Lock(s) => tracing::warn!(
            lock_manager = %s.lm, client = %text(&s.name), address = %s.address, file = %name(&s.file), range = %s.range,
            "freed by an operator: one lock"
        ),
    }
}

/// Whether to log it now, and how many equal ones were left out since the last time. Refused requests cost a client nothing, so
/// they are told once in a while; where a client can make up names, names are not told apart.
fn speak(event: &Event) -> Option<u64> {
    let (what, about): (_, &[u8]) = match event {
        Event::Denied { client, why, .. } => match why {
            Deny::LocksPerClient => ("locks_per_client", client),
            Deny::WaitersPerClient => ("waiters_per_client", client),
            Deny::Clients => ("clients", b""),
            Deny::NamesPerAddress => ("names_per_address", b""),
            Deny::ReclaimTooLate => ("reclaim too late", client),
            Deny::ReclaimBeyond => ("reclaim beyond the record", client),
            Deny::Late => ("late", client),
            Deny::ReclaimConflict => ("reclaim conflict", client),
            Deny::Deadlock => ("deadlock", client),
            Deny::WaitGraph => ("wait graph", client),
            Deny::Conflict | Deny::Grace => return Some(0),
        },
        Event::Refused { from, .. } => {
            return QUIET.speak("refused", from.to_string().as_bytes(), Instant::now());
        }
        _ => return Some(0),
    };
    QUIET.speak(what, about, Instant::now())
}
