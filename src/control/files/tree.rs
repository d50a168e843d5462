//! Which files there are, what each may be used for, and their inode numbers. Must never change while mounted but for the
//! lock managers that come.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

// All numbers of lock managers lie below those of the verbs.
const _: () =
    assert!(FIRST_MANAGER + MAX_MANAGERS as u64 * STRIDE <= FIRST_VERB && TOPS.len() as u64 <= VERB_STRIDE);

/// What is in the root directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Top {
    /// A verb, by name.
    Verb(&'static str),
    Status,
    Locks,
    Waiters,
    Clients,
    LastError,
    /// The directory of the lock managers.
    Managers,
}

/// What is in the directory of a lock manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    State,
    Locks,
    Clients,
    Grace,
    Epoch,
}

/// A file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Root,
    Top(Top),
    Manager(IpAddr),
    Part(IpAddr, Part),
}

/// The root directory, in order; a place in it is an inode number.
pub(super) const TOPS: [(&str, Top); 12] = [
    ("start_grace", Top::Verb("start_grace")),
    ("unlock_ip", Top::Verb("unlock_ip")),
    ("end_grace", Top::Verb("end_grace")),
    ("unlock_filesystem", Top::Verb("unlock_filesystem")),
    ("unlock_client", Top::Verb("unlock_client")),
    ("revoke", Top::Verb("revoke")),
    ("status", Top::Status),
    ("locks", Top::Locks),
    ("waiters", Top::Waiters),
    ("clients", Top::Clients),
    ("last_error", Top::LastError),
    ("lock_managers", Top::Managers),
];

/// The directory of a lock manager.
pub(super) const PARTS: [(&str, Part); 5] = [
    ("state", Part::State),
    ("locks", Part::Locks),
    ("clients", Part::Clients),
    ("grace", Part::Grace),
    ("epoch", Part::Epoch),
];

/// FUSE_ROOT_ID.
const ROOT: u64 = 1;
const FIRST_TOP: u64 = 2;
/// Numbers of lock managers begin here, [`STRIDE`] for each: its directory and the files in it.
const FIRST_MANAGER: u64 = 1 << 8;
const STRIDE: u64 = 8;
/// Numbers of verbs begin here, one for each time that one is looked up: the kernel lets one writer into an inode at a time, and
/// a verb that takes long must not keep the writers of the same file waiting.
const FIRST_VERB: u64 = 1 << 20;
const VERB_STRIDE: u64 = 16;
/// After so many the numbers begin anew; below 2^32, for old programs. Whoever still has the first then waits for it, no more.
const VERB_TURNS: u64 = 1 << 27;
/// Lock managers that get a number. A node has some dozens; each costs some 60 bytes for as long as we run.
const MAX_MANAGERS: usize = 65_536;

/// What a node may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Directory,
    /// To be read, by root and its group.
    Read,
    /// To be written, by root.
    Write,
}

impl Node {
    pub(super) fn usage(self) -> Use {
        match self {
            Node::Root | Node::Manager(_) | Node::Top(Top::Managers) => Use::Directory,
            Node::Top(Top::Verb(_)) => Use::Write,
            Node::Top(_) | Node::Part(..) => Use::Read,
        }
    }
}

/// The numbers of the lock managers that were seen, and of the verbs that were looked up.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    seen: Mutex<Seen>,
    turn: AtomicU64,
}

#[derive(Debug, Default)]
struct Seen {
    by_address: HashMap<IpAddr, u64>,
    in_order: Vec<IpAddr>,
}

impl Numbers {
    /// The inode number under which a node is looked up. A verb gets another one each time. None: see [`Numbers::of`].
    pub(super) fn looked_up(&self, node: Node) -> Option<u64> {
        let number = self.of(node)?;
        if node.usage() != Use::Write {
            return Some(number);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % VERB_TURNS;
        Some(FIRST_VERB + turn * VERB_STRIDE + number - FIRST_TOP)
    }

    /// The inode number of a node. None: no more lock managers can be shown.
    pub(super) fn of(&self, node: Node) -> Option<u64> {
        match node {
            Node::Root => Some(ROOT),
            Node::Top(top) => Some(FIRST_TOP + TOPS.iter().position(|(_, known)| *known == top)? as u64),
            Node::Manager(ip) => self.manager(ip),
            Node::Part(ip, part) => {
                let place = PARTS.iter().position(|(_, known)| *known == part)? as u64;
                Some(self.manager(ip)? + 1 + place)
            }
        }
    }

    /// The node of an inode number.
    pub(super) fn node(&self, number: u64) -> Option<Node> {
        match number {
            ROOT => Some(Node::Root),
            FIRST_TOP..FIRST_MANAGER => Some(Node::Top(TOPS.get((number - FIRST_TOP) as usize)?.1)),
            FIRST_VERB.. => Some(Node::Top(TOPS.get(((number - FIRST_VERB) % VERB_STRIDE) as usize)?.1)),
            FIRST_MANAGER.. => {
                let number = number - FIRST_MANAGER;
                let ip = *self.lock().in_order.get(usize::try_from(number / STRIDE).ok()?)?;
                match number % STRIDE {
                    0 => Some(Node::Manager(ip)),
                    part => Some(Node::Part(ip, PARTS.get(part as usize - 1)?.1)),
                }
            }
            _ => None,
        }
    }

    fn manager(&self, ip: IpAddr) -> Option<u64> {
        let mut seen = self.lock();
        if let Some(number) = seen.by_address.get(&ip) {
            return Some(*number);
        }
        if seen.in_order.len() >= MAX_MANAGERS {
            return None;
        }
        let number = FIRST_MANAGER + seen.in_order.len() as u64 * STRIDE;
        seen.in_order.push(ip);
        seen.by_address.insert(ip, number);
        Some(number)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_a_number_of_its_own_and_is_found_by_it() {
        let numbers = Numbers::default();
        let ips: [IpAddr; 2] = [[192, 0, 2, 10].into(), [192, 0, 2, 11].into()];
        let tops = TOPS.iter().map(|(_, top)| Node::Top(*top));
        let managers = ips
            .iter()
            .flat_map(|ip| PARTS.iter().map(|(_, part)| Node::Part(*ip, *part)).chain([Node::Manager(*ip)]));
        let nodes: Vec<Node> = tops.chain(managers).chain([Node::Root]).collect();
        let mut seen = std::collections::HashSet::new();
        for node in nodes {
            let number = numbers.of(node).unwrap();
            assert!(seen.insert(number), "{node:?}");
            assert_eq!(numbers.node(number), Some(node));
            let looked_up = [numbers.looked_up(node).unwrap(), numbers.looked_up(node).unwrap()];
            assert_eq!(looked_up.map(|number| numbers.node(number)), [Some(node); 2]);
            assert_eq!(looked_up[0] != looked_up[1], node.usage() == Use::Write, "{node:?}");
        }
        for unknown in [0, 14, 255, FIRST_MANAGER + 6, FIRST_MANAGER + 2 * STRIDE, FIRST_VERB + 13] {
            assert_eq!(numbers.node(unknown), None, "{unknown}");
        }
    }
}
