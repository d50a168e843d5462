//! How clients, owners and calls are named to people.

use crate::calls::Call;
use crate::checker::Checker;
use crate::grants::{Grant, mode_word};
use crate::history::{Bytes, FileId, Micros, Request};
use crate::map::Mode;

impl Checker {
    pub(crate) fn say_owner(&self, owner: u32) -> String {
        let info = self.world.info(owner);
        let by = if info.forged() { format!(" (forged by client {})", info.sender.0) } else { String::new() };
        format!("owner {} of client {} through {}{by}", info.owner.svid, info.owner.client.0, info.owner.lm)
    }

    /// A call: who sent what, and when.
    pub(crate) fn say(&self, call: &Call) -> String {
        let what = match call.request {
            Request::Lock { lock, block, reclaim, .. } => format!(
                "{}{} of {}",
                if reclaim { "reclaim" } else { "LOCK" },
                if block { ", blocking," } else { "" },
                say_bytes(lock.file, lock.bytes, Some(Mode::of(lock.exclusive)))
            ),
            Request::Unlock { file, bytes, .. } => format!("UNLOCK of {}", say_bytes(file, bytes, None)),
            Request::Cancel { lock } => {
                format!("CANCEL of {}", say_bytes(lock.file, lock.bytes, Some(Mode::of(lock.exclusive))))
            }
            Request::Test { lock } => {
                format!("TEST of {}", say_bytes(lock.file, lock.bytes, Some(Mode::of(lock.exclusive))))
            }
            Request::Notify { client, lm, state } => {
                return format!(
                    "SM_NOTIFY of client {} to {lm}, state {state} (call {}, sent at {})",
                    client.0,
                    call.id.0,
                    seconds(call.first.at)
                );
            }
        };
        let first = seconds(call.first.at);
        let sent = match call.sent {
            0 | 1 => format!("sent at {first}"),
            times => format!("sent {times} times, from {first} to {}", seconds(call.last)),
        };
        format!("{what} by {} (call {}, {sent})", self.say_owner(call.owner), call.id.0)
    }

    pub(crate) fn say_grant(&self, grant: &Grant<'_>) -> String {
        match grant.call {
            Some(call) => self.say(call),
            None => {
                let file = self.files[grant.file as usize].id;
                let what = say_bytes(file, grant.bytes, Some(grant.mode));
                format!(
                    "LOCK, by callback, of {what} by {} (asked for at {})",
                    self.say_owner(grant.owner),
                    seconds(grant.first.at)
                )
            }
        }
    }
}

/// A time of the history in words: seconds, with all microseconds.
pub fn seconds(at: Micros) -> String {
    format!("{}.{:06} s", at / 1_000_000, at % 1_000_000)
}

/// Bytes of a file.
pub(crate) fn say_bytes(file: FileId, bytes: Bytes, mode: Option<Mode>) -> String {
    let mode = mode.map_or(String::new(), |mode| format!("{} ", mode_word(mode)));
    match bytes.end {
        u64::MAX => format!("{mode}bytes {}..end of file {}", bytes.start, file.0),
        end => format!("{mode}bytes {}..={end} of file {}", bytes.start, file.0),
    }
}
