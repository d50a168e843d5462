//! Which refused mounts are logged: each path of each client once in a while, so that every mistake is seen and nobody can
//! fill the log. Must never swallow the first one of a client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For this long an address is kept in mind, from its first refusal on.
const PAUSE: Duration = Duration::from_secs(60);
/// Different paths that are logged of one address in that time: the exports of one machine and a few slips.
const PATHS: usize = 16;
/// Addresses that are kept in mind. Past it further ones are not logged: somebody is making them up.
const ADDRESSES: usize = 1_000;

/// What was logged lately.
#[derive(Debug, Default)]
pub(super) struct Refused {
    lately: Mutex<HashMap<IpAddr, Lately>>,
}

#[derive(Debug)]
struct Lately {
    since: Instant,
    paths: Vec<Box<[u8]>>,
    left_out: u64,
}

impl Refused {
    /// Whether to log that `peer` was refused `path`, and how many lines about this address were left out before it.
    pub(super) fn speak(&self, peer: IpAddr, path: &[u8], now: Instant) -> Option<u64> {
        // Each change is complete in itself, so a panic elsewhere leaves the map whole.
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if !lately.contains_key(&peer) && lately.len() >= ADDRESSES {
            lately.retain(|_, known| now < known.since + PAUSE);
            if lately.len() >= ADDRESSES {
                return None;
            }
        }
        let known = lately.entry(peer).or_insert(Lately { since: now, paths: Vec::new(), left_out: 0 });
        if now >= known.since + PAUSE {
            (known.since, known.paths) = (now, Vec::new());
        }
        if known.paths.len() >= PATHS || known.paths.iter().any(|said| **said == *path) {
            known.left_out += 1;
            return None;
        }
        known.paths.push(path.into());
        Some(std::mem::take(&mut known.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn each_path_is_said_once_and_repetitions_are_counted() {
        let (refused, start) = (Refused::default(), Instant::now());
        assert_eq!(refused.speak(PEER, b"/nope", start), Some(0));
        assert_eq!(refused.speak(PEER, b"/srv", start), Some(0));
        assert_eq!(refused.speak(PEER, b"/nope", start), None);
        assert_eq!(refused.speak(PEER, b"/nope", start), None);
        assert_eq!(refused.speak(PEER, b"/nope2", start), Some(2));
        assert_eq!(refused.speak(PEER, b"/nope", start + PAUSE), Some(0));
    }

    #[test]
    fn one_address_cannot_fill_the_log_nor_silence_another() {
        let (refused, now) = (Refused::default(), Instant::now());
        let said = (0..10_000u32).filter(|n| refused.speak(PEER, &n.to_be_bytes(), now).is_some()).count();
        assert_eq!(said, PATHS);
        assert_eq!(refused.speak("192.0.2.1".parse().unwrap(), b"/", now), Some(0));
        for n in 0..10_000u32 {
            refused.speak(std::net::Ipv4Addr::from_bits(n).into(), b"/", now);
        }
        assert!(refused.lately.lock().unwrap().len() <= ADDRESSES);
    }
}
