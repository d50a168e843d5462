//! The small values of the lock core: time, ranges, modes, answers, numbers of things. Plain data only.

use std::fmt;
use std::time::Duration;

/// A moment: milliseconds since an origin that the caller chose. Only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The moment `after` later.
    #[must_use]
    pub fn plus(self, after: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Bytes `start..=end` of a file; `end == u64::MAX` means "to end of file, however long it grows".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Last byte, inclusive, never below `start`.
    pub end: u64,
}

impl Range {
    /// The whole file.
    pub const ALL: Range = Range { start: 0, end: u64::MAX };

    /// `start..=end`; `None` if it would be empty.
    pub fn new(start: u64, end: u64) -> Option<Range> {
        (start <= end).then_some(Range { start, end })
    }

    /// From NLM's offset and length (length 0: to end of file). `None` if the last byte is past 2^64 - 1
    /// (NLM4_FBIG).
    pub fn from_nlm(offset: u64, len: u64) -> Option<Range> {
        match len {
            0 => Some(Range { start: offset, end: u64::MAX }),
            _ => Some(Range { start: offset, end: offset.checked_add(len - 1)? }),
        }
    }

    /// NLM's length: 0 for "to end of file".
    pub fn nlm_len(self) -> u64 {
        if self.end == u64::MAX { 0 } else { self.end - self.start + 1 }
    }

    /// Whether both have a byte in common.
    pub fn overlaps(self, other: Range) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// Whether every byte of `other` is in here.
    pub fn contains(self, other: Range) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The bytes both have.
    pub fn intersection(self, other: Range) -> Option<Range> {
        Range::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// One byte wider on each side where there is one: what touches it is adjacent.
    pub(super) fn widened(self) -> Range {
        Range { start: self.start.saturating_sub(1), end: self.end.saturating_add(1) }
    }
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            u64::MAX => write!(f, "{}-EOF", self.start),
            end => write!(f, "{}-{end}", self.start),
        }
    }
}

/// How a lock excludes others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Other shared locks may overlap it.
    Shared,
    /// Nobody else's may.
    Exclusive,
}

impl Mode {
    /// Whether locks of these modes and different owners cannot overlap.
    pub fn conflicts(self, other: Mode) -> bool {
        self == Mode::Exclusive || other == Mode::Exclusive
    }

    /// From NLM's `exclusive` flag.
    pub fn from_exclusive(exclusive: bool) -> Mode {
        if exclusive { Mode::Exclusive } else { Mode::Shared }
    }
}

/// What is known of a lock in the table. All but expired ones conflict alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Granted and live.
    Held,
    /// Granted to a waiter; its answer to the GRANTED callback is not in yet.
    Granting,
    /// As Granting, but the answer will not come: the client may well hold it.
    Unconfirmed,
    /// Recorded, its client is not back yet.
    Reclaimable,
    /// Its client did not come back inside the window: in nobody's way, gone as soon as somebody is granted what it
    /// conflicts with; until then a late reclaim gets it.
    Expired,
}

/// How far a lock manager is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Its record is being put in. Requests through it get silence.
    Loading,
    /// Its requests are served.
    Loaded,
    /// It was released. Requests through it get silence; what is kept of its locks conflicts with those of others.
    Released,
}

/// File keys by what they begin with. An empty prefix means every file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefixes(Vec<Box<[u8]>>);

impl Prefixes {
    pub(super) fn new(prefixes: &[Box<[u8]>]) -> Self {
        let mut new = Self::default();
        new.add(prefixes);
        new
    }

    /// Adds what is not in already.
    pub(super) fn add(&mut self, prefixes: &[Box<[u8]>]) {
        for prefix in prefixes {
            if !self.0.contains(prefix) {
                self.0.push(prefix.clone());
            }
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.add(&other.0);
    }

    /// The files that are in both.
    pub(super) fn both(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for (a, b) in self.0.iter().flat_map(|a| other.0.iter().map(move |b| (a, b))) {
            // One within the other, or nothing in common.
            let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
            if long.starts_with(short) {
                both.add(std::slice::from_ref(long));
            }
        }
        both
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this file is one of them.
    pub(super) fn include(&self, file: &[u8]) -> bool {
        self.0.iter().any(|prefix| file.starts_with(prefix))
    }
}

/// One grant by callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId(pub u64);

/// NLM answers (X/Open XNFS, `nlm_stats` and `nlm4_stats`). Versions 1 and 3 have only the first five; the
/// wire room maps the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Done.
    Granted,
    /// Somebody else's lock is in the way.
    Denied,
    /// No room, or not here.
    DeniedNolocks,
    /// Queued; a GRANTED callback follows.
    Blocked,
    /// In the grace window, or a reclaim outside of it.
    DeniedGracePeriod,
    /// Waiting would close a circle.
    Deadlock,
    /// The file system is read-only.
    ReadOnly,
    /// The handle is stale.
    StaleHandle,
    /// The range does not fit.
    TooBig,
    /// Any other reason.
    Failed,
}

/// A set of read (bit 0) and write (bit 1): what a DOS share may do (`access`) or keeps others from (`deny`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Access(pub u8);

impl Access {
    /// Whether both have read, or both have write.
    pub fn meets(self, other: Access) -> bool {
        self.0 & other.0 & 3 != 0
    }
}

macro_rules! number {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(super) struct $name(pub(super) u32);

        impl $name {
            pub(super) fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

number! {
    /// A lock manager.
    LmId;
    /// A client of one lock manager.
    ClientId;
    /// An owner: one (oh, svid) of a client.
    OwnerId;
    /// A file.
    FileId;
    /// A slot of the lock table.
    LockId;
    /// A slot of the waiter table.
    WaiterId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_nlm_length_of_zero_is_to_the_end_and_comes_back_as_zero() {
        let r = Range::from_nlm(10, 0).unwrap();
        assert_eq!((r.start, r.end, r.nlm_len()), (10, u64::MAX, 0));
        assert_eq!(Range::from_nlm(10, 5).unwrap().nlm_len(), 5);
    }

    #[test]
    fn a_range_past_the_last_byte_is_refused() {
        assert_eq!(Range::from_nlm(u64::MAX, 2), None);
        assert_eq!(Range::from_nlm(u64::MAX, 1), Some(Range { start: u64::MAX, end: u64::MAX }));
    }
}
