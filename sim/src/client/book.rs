//! What a process believes to hold: ranges of files with a mode, split and merged as POSIX has it.
//!
//! Must never ask whether anybody else agrees.

use lockferry_checker::history::Bytes;

/// One range that is held. Ranges of a file in a book never overlap, and never touch in the same mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Which file, by its place in the configuration.
    pub(super) file: usize,
    /// Which bytes.
    pub(super) bytes: Bytes,
    /// Exclusive, or shared.
    pub(super) exclusive: bool,
}

/// All that one process holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Book(Vec<Held>);

impl Book {
    /// All ranges, in no order that means anything.
    pub(super) fn held(&self) -> &[Held] {
        &self.0
    }

    /// These bytes are held in this mode from now on.
    pub(super) fn take(&mut self, new: Held) {
        self.free(new.file, new.bytes);
        let mut merged = new;
        self.0.retain(|old| {
            let joins = old.file == new.file
                && old.exclusive == new.exclusive
                && (follows(old.bytes, merged.bytes) || follows(merged.bytes, old.bytes));
            if joins {
                merged.bytes.start = merged.bytes.start.min(old.bytes.start);
                merged.bytes.end = merged.bytes.end.max(old.bytes.end);
            }
            !joins
        });
        self.0.push(merged);
    }

    /// These bytes are no longer held.
    pub(super) fn free(&mut self, file: usize, bytes: Bytes) {
        let mut at = 0;
        while at < self.0.len() {
            let old = self.0[at];
            if old.file != file || old.bytes.start > bytes.end || bytes.start > old.bytes.end {
                at += 1;
                continue;
            }
            self.0.swap_remove(at);
            // What is left lies outside of `bytes`, so that meeting it again at the end does no harm.
            if old.bytes.start < bytes.start {
                self.0.push(Held { bytes: Bytes { start: old.bytes.start, end: bytes.start - 1 }, ..old });
            }
            if old.bytes.end > bytes.end {
                self.0.push(Held { bytes: Bytes { start: bytes.end + 1, end: old.bytes.end }, ..old });
            }
        }
    }
}

/// Whether `second` begins right behind `first`.
fn follows(first: Bytes, second: Bytes) -> bool {
    first.end.checked_add(1) == Some(second.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const SIZE: u64 = 12;
    /// Byte `n` of the model is this one: the last one is the last of all.
    const BASE: u64 = u64::MAX - SIZE + 1;

    #[test]
    fn a_book_equals_a_map_of_bytes() {
        let mut random = Random::new(3);
        let mut book = Book::default();
        let mut model = [[None; SIZE as usize]; 2];
        for _ in 0..20_000 {
            let (a, b) = (random.below(SIZE), random.below(SIZE));
            let (low, high) = (a.min(b), a.max(b));
            let bytes = Bytes { start: BASE + low, end: BASE + high };
            let file = random.below(2) as usize;
            let mode = random.chance(600).then(|| random.chance(500));
            match mode {
                Some(exclusive) => book.take(Held { file, bytes, exclusive }),
                None => book.free(file, bytes),
            }
            model[file][low as usize..=high as usize].fill(mode);
            compare(&book, &model);
        }
    }

    fn compare(book: &Book, model: &[[Option<bool>; SIZE as usize]; 2]) {
        let mut got = [[None; SIZE as usize]; 2];
        for held in book.held() {
            for byte in held.bytes.start - BASE..=held.bytes.end - BASE {
                let cell = &mut got[held.file][byte as usize];
                assert_eq!(*cell, None, "{book:?} overlaps");
                *cell = Some(held.exclusive);
            }
        }
        assert_eq!(&got, model);
        let runs: usize = model.iter().map(|file| count_runs(file)).sum();
        assert_eq!(book.held().len(), runs, "{book:?} is not merged");
    }

    fn count_runs(file: &[Option<bool>]) -> usize {
        let starts = |n: usize| file[n].is_some() && (n == 0 || file[n - 1] != file[n]);
        (0..file.len()).filter(|n| starts(*n)).count()
    }
}
