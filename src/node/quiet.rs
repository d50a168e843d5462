//! Keeps what a client can cause at will from filling the log: of equal lines one each [`PAUSE`] is written, with how many it
//! stands for. Must never swallow the first one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines about the same thing.
const PAUSE: Duration = Duration::from_secs(10);
/// Things remembered. Past it all are forgotten, which costs a line each.
const KEPT: usize = 1024;

/// What a line is about: which line, and a client or address in it.
type Subject = (&'static str, Box<[u8]>);

/// What was written lately.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    lately: Mutex<HashMap<Subject, (Instant, u64)>>,
}

impl Quiet {
    /// Whether to write the line now, and how many were left out since the last one.
    pub(super) fn speak(&self, what: &'static str, about: &[u8], now: Instant) -> Option<u64> {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, left_out)) = lately.get_mut(&(what, about.into()) as &Subject) {
            if now < *since + PAUSE {
                *left_out += 1;
                return None;
            }
            *since = now;
            return Some(std::mem::take(left_out));
        }
        if lately.len() >= KEPT {
            lately.clear();
        }
        lately.insert((what, about.into()), (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_lines_one_is_written_and_stands_for_the_others() {
        let (quiet, start) = (Quiet::default(), Instant::now());
        assert_eq!(quiet.speak("limit", b"a", start), Some(0));
        for _ in 0..5 {
            assert_eq!(quiet.speak("limit", b"a", start + PAUSE / 2), None);
        }
        assert_eq!(quiet.speak("limit", b"b", start), Some(0));
        assert_eq!(quiet.speak("other", b"a", start), Some(0));
        assert_eq!(quiet.speak("limit", b"a", start + PAUSE), Some(5));
        assert_eq!(quiet.speak("limit", b"a", start + PAUSE * 2), Some(0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (quiet, now) = (Quiet::default(), Instant::now());
        for n in 0..10_000u32 {
            assert_eq!(quiet.speak("limit", &n.to_be_bytes(), now), Some(0));
        }
        assert!(quiet.lately.lock().unwrap().len() <= KEPT);
    }
}
