//! How many descriptors the process may have: connections must not take those that files, the state directory and the control
//! socket need. Shells and service managers often start programs with 1,024.
//!
//! Must never lower a limit that somebody set.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// For everything that is no client's connection: open files of exports (128 are kept), file work under way, callbacks, the
/// control socket, the store.
const RESERVED: u64 = 2_048;

/// Raises the limit as far as `connections` need it, and says how many connections there may be.
pub(super) fn for_connections(connections: usize) -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return connections };
    let wanted = (connections as u64).saturating_add(RESERVED).min(hard);
    let now =
        if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    let room = room(now);
    if room < connections as u64 {
        tracing::warn!(
            "only {room} connections of limits.connections = {connections} can be served: the process may open {now} \
             descriptors (raise LimitNOFILE= or `ulimit -Hn`)"
        );
    }
    connections.min(usize::try_from(room).unwrap_or(usize::MAX))
}

/// The connections that `descriptors` leave room for. With few, half of them.
fn room(descriptors: u64) -> u64 {
    descriptors.saturating_sub(RESERVED).max(descriptors / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_everything_else() {
        assert_eq!(room(RESERVED + 4_096), 4_096);
        assert_eq!(room(1_024), 512);
        assert_eq!(room(0), 0);
    }
}
