//! Every setting there is: its name, its place in [`Settings`], its bounds. File, environment, flags,
//! `check-config` and the test of `examples/lockferry.toml` all read this one table.

use std::time::Duration;

use super::value::{Slot, words};
use super::{LogFormat, Settings};
use crate::node::config::{
    AddressCheck, Durability, ExportConfig, GraceConflict, LockManagerConfig, NsmMode, RpcbindMode, Squash,
    TakeUp,
};

/// One setting of `T`.
pub(super) struct Key<T: 'static> {
    /// Its name, `table.key`.
    pub(super) name: &'static str,
    /// Where it is kept and what it takes.
    pub(super) slot: for<'a> fn(&'a mut T) -> Slot<'a>,
}

impl<T> Key<T> {
    /// The variable that sets it: `limits.clients` is `LOCKFERRY_LIMITS_CLIENTS`.
    pub(super) fn variable(&self) -> String {
        format!("LOCKFERRY_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}

const fn key<T>(name: &'static str, slot: for<'a> fn(&'a mut T) -> Slot<'a>) -> Key<T> {
    Key { name, slot }
}

/// The highest uid or gid: 4294967295 is -1, which setresuid(2) takes for "leave as it is".
const MAX_ID: u32 = u32::MAX - 1;
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

words!(RpcbindMode { "auto" => RpcbindMode::Auto, "host" => RpcbindMode::Host, "own" => RpcbindMode::Own, "off" => RpcbindMode::Off });
words!(NsmMode { "builtin" => NsmMode::Builtin, "statd" => NsmMode::Statd });
words!(AddressCheck { "learn" => AddressCheck::Learn, "strict" => AddressCheck::Strict, "off" => AddressCheck::Off });
words!(Squash { "none" => Squash::None, "root" => Squash::Root, "all" => Squash::All });
words!(TakeUp { "adopt" => TakeUp::Adopt, "grace" => TakeUp::Grace });
words!(GraceConflict { "wait" => GraceConflict::Wait, "deny" => GraceConflict::Deny });
words!(Durability { "sync" => Durability::Sync, "relaxed" => Durability::Relaxed, "none" => Durability::None });
words!(LogFormat {
    "auto" => LogFormat::Auto, "text" => LogFormat::Text, "json" => LogFormat::Json, "journald" => LogFormat::Journald,
});

/// The settings outside of `[[export]]` and `[[lock_manager]]`, in the order of the example file: those of no table first.
pub(super) static KEYS: &[Key<Settings>] = &[
    key("bind", |s| Slot::Addresses(&mut s.node.bind)),
    key("state_dir", |s| Slot::Dir(&mut s.node.state_dir)),
    key("socket", |s| Slot::Socket(&mut s.node.socket)),
    key("rpcbind", |s| Slot::Word(&mut s.node.rpcbind)),
    key("auto", |s| Slot::Flag(&mut s.node.auto)),
    key("on_restart", |s| Slot::Word(&mut s.node.on_restart)),
    key("on_take_over", |s| Slot::Word(&mut s.node.on_take_over)),
    // Longer than an hour, and a conflicting request waits that long for a client that is gone: surely a slip.
    key("grace.window", |s| Slot::Time(&mut s.node.grace.window, Duration::ZERO..=HOUR)),
    key("grace.conflict", |s| Slot::Word(&mut s.node.grace.conflict)),
    // Linux sends a request again after 10 s: one held back for longer only comes twice.
    key("grace.park", |s| Slot::Time(&mut s.node.grace.park, Duration::ZERO..=SECOND * 10)),
    // Where it is short a slow take-over finds nothing, which somebody may want; a month is longer than any client waits.
    key("grace.hold", |s| Slot::Time(&mut s.node.grace.hold, SECOND..=HOUR * 24 * 31)),
    key("reclaim.match", |s| Slot::Choice(&mut s.node.reclaim_strict, ["owner", "strict"])),
    key("journal.durability", |s| Slot::Word(&mut s.node.journal.durability)),
    // Past a minute it would be "none" by another name.
    key("journal.flush", |s| Slot::Time(&mut s.node.journal.flush, MILLISECOND..=SECOND * 60)),
    // A segment is made ahead, filled with zeros: more than 1 GiB would only keep the disk busy.
    key("journal.segment_mib", |s| Slot::Number(&mut s.node.journal.segment_mib, 1..=1024)),
    key("control.files", |s| Slot::DirOr(&mut s.node.control_files, "none")),
    key("ports.nfs", |s| Slot::Port(&mut s.node.ports.nfs)),
    key("ports.mount", |s| Slot::Port(&mut s.node.ports.mount)),
    key("ports.nlm", |s| Slot::Port(&mut s.node.ports.nlm)),
    key("ports.nsm", |s| Slot::Port(&mut s.node.ports.nsm)),
    key("ports.rpcbind", |s| Slot::Port(&mut s.node.ports.rpcbind)),
    // A lock costs some 200 bytes: the upper bound is what 200 GB of memory would hold.
    key("limits.locks_per_client", |s| Slot::Number(&mut s.node.limits.locks_per_client, 1..=1_000_000_000)),
    key("limits.waiters_per_client", |s| {
        Slot::Number(&mut s.node.limits.waiters_per_client, 1..=1_000_000_000)
    }),
    key("limits.clients", |s| Slot::Number(&mut s.node.limits.clients, 1..=10_000_000)),
    key("limits.names_per_address", |s| Slot::Number(&mut s.node.limits.names_per_address, 1..=10_000_000)),
    // One descriptor each; the kernel's own bound on descriptors (fs.nr_open) is about a million.
    key("limits.connections", |s| Slot::Number(&mut s.node.limits.connections, 1..=1_000_000)),
    key("limits.idle", |s| Slot::Time(&mut s.node.limits.idle, SECOND..=HOUR * 24)),
    key("limits.file_threads", |s| Slot::Number(&mut s.node.limits.file_threads, 1..=512)),
    key("client.address_check", |s| Slot::Word(&mut s.node.client.address_check)),
    key("nsm.mode", |s| Slot::Word(&mut s.node.nsm.mode)),
    key("nsm.notify_name", |s| Slot::Name(&mut s.node.nsm.notify_name)),
    key("callback.timeout", |s| Slot::Time(&mut s.node.callback.timeout, MILLISECOND * 100..=SECOND * 60)),
    key("callback.give_up", |s| Slot::Time(&mut s.node.callback.give_up, SECOND..=HOUR)),
    key("log.level", |s| Slot::Filter(&mut s.log.level)),
    key("log.format", |s| Slot::Word(&mut s.log.format)),
];

/// The settings of one `[[export]]`.
pub(super) static EXPORT_KEYS: &[Key<ExportConfig>] = &[
    key("path", |e| Slot::Dir(&mut e.path)),
    key("fsid", |e| Slot::Fsid(&mut e.fsid)),
    key("ro", |e| Slot::Flag(&mut e.read_only)),
    key("squash", |e| Slot::Word(&mut e.squash)),
    key("anonuid", |e| Slot::Number(&mut e.anon_uid, 0..=MAX_ID)),
    key("anongid", |e| Slot::Number(&mut e.anon_gid, 0..=MAX_ID)),
    key("clients", |e| Slot::Networks(&mut e.clients)),
    key("insecure", |e| Slot::Flag(&mut e.insecure)),
];

/// The settings of one `[[lock_manager]]`.
pub(super) static LOCK_MANAGER_KEYS: &[Key<LockManagerConfig>] = &[
    key("address", |m| Slot::Address(&mut m.address)),
    key("exports", |m| Slot::Dirs(&mut m.exports)),
    key("journal", |m| Slot::DirOr(&mut m.journal, "auto")),
    key("grace", |m| Slot::TimeOr(&mut m.grace, Duration::ZERO..=HOUR, "auto")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_settings_share_a_variable() {
        let mut names: Vec<String> = KEYS.iter().map(Key::variable).collect();
        names.extend(super::super::env::SPECIAL.map(String::from));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_default_is_allowed_and_reads_back_as_shown() {
        let mut settings = Settings::default();
        for key in KEYS {
            let shown = (key.slot)(&mut settings).show();
            let text = format!("v = {shown}");
            let raw = super::super::file::raw_of(&text);
            let result = (key.slot)(&mut settings).assign(&raw);
            assert_eq!(result, Ok(()), "{} = {shown}", key.name);
        }
        assert_eq!(settings, Settings::default());
    }
}
