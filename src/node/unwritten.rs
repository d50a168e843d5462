//! Bytes of files that changed in memory and are not durable in a record yet. Other lock managers' clients who want just these bytes wait for
//! that record; nobody else does.
//!
//! Must never forget any of them, nor grow without a bound: where many bytes of one file are on their way, all between the first and the last
//! counts.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::state::Range;
use crate::store::record::{Entry, Place, Record};

/// Ranges that are kept apart for one file. A search goes through them all under the mutex of the pipe.
const APART_MAX: usize = 64;

/// Bytes of a file, which is a hash of its key: two that share one only wait for each other without need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes {
    file: u64,
    range: Range,
}

impl Bytes {
    pub(super) fn new(file: &[u8], range: Range) -> Self {
        let mut hasher = DefaultHasher::new();
        file.hash(&mut hasher);
        Self { file: hasher.finish(), range }
    }

    /// Those whose locks a record changes.
    pub(super) fn of(record: &Record) -> Option<Self> {
        let (Record::Set(place, _) | Record::Unset(place) | Record::Granted(_, place, _)) = record else {
            return None;
        };
        let Place { file, range, .. } = place;
        Some(Self::new(file, *range))
    }
}

/// Whether a record says that somebody has a lock: it must not be there before those are gone that were in its way.
pub(super) fn takes_a_lock(record: &Record) -> bool {
    matches!(record, Record::Set(..) | Record::Granted(..))
}

/// The bytes.
#[derive(Debug, Default)]
pub(super) struct Unwritten(HashMap<u64, OfFile>);

#[derive(Debug)]
struct OfFile {
    /// Changes.
    count: usize,
    /// Their ranges; or one around all that were there since there were too many.
    ranges: Vec<Range>,
    many: bool,
}

impl Unwritten {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// These are on their way.
    pub(super) fn add(&mut self, entries: &[Entry]) {
        for Bytes { file, range } in entries.iter().filter_map(|e| Bytes::of(&e.record)) {
            let of =
                self.0.entry(file).or_insert_with(|| OfFile { count: 0, ranges: Vec::new(), many: false });
            of.count += 1;
            of.ranges.push(range);
            of.many |= of.ranges.len() > APART_MAX;
            if of.many {
                let start = of.ranges.iter().map(|r| r.start).min().unwrap_or(range.start);
                let end = of.ranges.iter().map(|r| r.end).max().unwrap_or(range.end);
                of.ranges = vec![Range { start, end }];
            }
        }
    }

    /// These are durable.
    pub(super) fn remove(&mut self, entries: &[Entry]) {
        for Bytes { file, range } in entries.iter().filter_map(|e| Bytes::of(&e.record)) {
            let Some(of) = self.0.get_mut(&file) else { continue };
            of.count = of.count.saturating_sub(1);
            if of.count == 0 {
                self.0.remove(&file);
            } else if let Some(at) = of.ranges.iter().position(|r| *r == range).filter(|_| !of.many) {
                of.ranges.swap_remove(at);
            }
        }
    }

    /// Whether any of `bytes` is among them.
    pub(super) fn meets(&self, bytes: &[Bytes]) -> bool {
        let meets =
            |b: &Bytes| self.0.get(&b.file).is_some_and(|f| f.ranges.iter().any(|r| r.overlaps(b.range)));
        !self.0.is_empty() && bytes.iter().any(meets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::{ClientKey, OwnerKey};

    fn unset(file: u8, start: u64, end: u64) -> Entry {
        let client = ClientKey { name: Box::default(), address: [10, 1, 1, 9].into() };
        let owner = OwnerKey { client, oh: Box::default(), svid: 1 };
        Record::Unset(Place { owner, file: Box::new([file]), range: Range { start, end } }).into()
    }

    fn bytes(file: u8, start: u64, end: u64) -> [Bytes; 1] {
        [Bytes::new(&[file], Range { start, end })]
    }

    #[test]
    fn only_bytes_that_are_on_their_way_are_met_and_each_as_often_as_it_is() {
        let mut unwritten = Unwritten::default();
        let one = [unset(1, 10, 19), unset(1, 10, 19), unset(1, 40, 49)];
        unwritten.add(&one);
        assert!(unwritten.meets(&bytes(1, 19, 30)) && unwritten.meets(&bytes(1, 0, u64::MAX)));
        assert!(!unwritten.meets(&bytes(1, 20, 39)) && !unwritten.meets(&bytes(2, 10, 19)));
        unwritten.remove(&one[..1]);
        assert!(unwritten.meets(&bytes(1, 10, 10)), "the other one is not durable yet");
        unwritten.remove(&one[1..2]);
        assert!(!unwritten.meets(&bytes(1, 10, 10)) && unwritten.meets(&bytes(1, 40, 40)));
        unwritten.remove(&one[2..]);
        assert!(unwritten.is_empty());
    }

    #[test]
    fn of_many_bytes_of_one_file_none_is_forgotten() {
        let mut unwritten = Unwritten::default();
        let many: Vec<Entry> = (0..1_000).map(|n| unset(1, n * 10, n * 10)).collect();
        unwritten.add(&many);
        unwritten.remove(&many[1..]);
        assert!(unwritten.meets(&bytes(1, 0, 0)) && !unwritten.meets(&bytes(1, 9_991, 9_999)));
        unwritten.remove(&many[..1]);
        assert!(unwritten.is_empty());
    }
}
