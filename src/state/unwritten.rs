//! What was freed but is still in a record. Lock managers may share files: a lock that is freed through one and granted through another
//! before the first record says so would be in both after a crash. So it stays in the way of requests through *other* lock managers until
//! the caller says that the entries are durable. Through its own the record has the order that the requests had.
//!
//! Must never be in the way of its own lock manager, nor outlive its record.

use std::collections::{BTreeMap, VecDeque};

use super::types::{FileId, LmId, Mode, Range};

/// Bytes that were freed, or given up in part, in one command.
#[derive(Clone, Copy, Debug)]
struct Freed {
    lm: LmId,
    mark: u64,
    range: Range,
    /// What the record has there.
    mode: Mode,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    by_file: BTreeMap<FileId, Vec<Freed>>,
    /// In the order of the commands.
    by_lm: BTreeMap<LmId, VecDeque<(u64, FileId)>>,
}

impl Unwritten {
    /// Adds bytes that a record has until the entries of this mark are durable. Marks only grow. The caller holds the file once for each.
    pub(super) fn push(&mut self, lm: LmId, file: FileId, range: Range, mode: Mode, mark: u64) {
        self.by_file.entry(file).or_default().push(Freed { lm, mark, range, mode });
        self.by_lm.entry(lm).or_default().push_back((mark, file));
    }

    /// Whether there is anything about this file.
    pub(super) fn any_on(&self, file: FileId) -> bool {
        self.by_file.contains_key(&file)
    }

    /// The lock manager other than `lm` whose record has something on the file that a lock of `mode` on `range` cannot live with.
    pub(super) fn in_the_way(&self, lm: LmId, file: FileId, range: Range, mode: Mode) -> Option<LmId> {
        let freed = self.by_file.get(&file)?;
        let meets = |f: &&Freed| f.lm != lm && f.range.overlaps(range) && f.mode.conflicts(mode);
        freed.iter().find(meets).map(|f| f.lm)
    }

    /// The record has all up to this mark. Returns the file of each that is gone.
    pub(super) fn written(&mut self, lm: LmId, mark: u64) -> Vec<FileId> {
        let Some(queue) = self.by_lm.get_mut(&lm) else { return Vec::new() };
        let count = queue.partition_point(|(at, _)| *at <= mark);
        let files: Vec<FileId> = queue.drain(..count).map(|(_, file)| file).collect();
        if queue.is_empty() {
            self.by_lm.remove(&lm);
        }
        self.take(&files, |f| f.lm == lm && f.mark <= mark);
        files
    }

    /// Forgets what is known of a lock manager, but on the files to keep. Returns the file of each that is gone.
    pub(super) fn forget(&mut self, lm: LmId, keep: impl Fn(FileId) -> bool) -> Vec<FileId> {
        let Some(queue) = self.by_lm.remove(&lm) else { return Vec::new() };
        let (kept, gone): (Vec<_>, Vec<_>) = queue.into_iter().partition(|(_, file)| keep(*file));
        if !kept.is_empty() {
            self.by_lm.insert(lm, kept.into());
        }
        let files: Vec<FileId> = gone.into_iter().map(|(_, file)| file).collect();
        self.take(&files, |f| f.lm == lm);
        files
    }

    /// Whether there is anything of this lock manager.
    pub(super) fn any_of(&self, lm: LmId) -> bool {
        self.by_lm.contains_key(&lm)
    }

    /// The file of each.
    #[cfg(any(test, fuzzing))]
    pub(super) fn files(&self) -> impl Iterator<Item = FileId> + '_ {
        let listed: usize = self.by_lm.values().map(VecDeque::len).sum();
        assert_eq!(listed, self.by_file.values().map(Vec::len).sum::<usize>());
        self.by_file.iter().flat_map(|(file, freed)| freed.iter().map(|_| *file))
    }

    fn take(&mut self, files: &[FileId], gone: impl Fn(&Freed) -> bool) {
        let mut last = None;
        for file in files {
            // Usually many of one file in a row; a file may come again, and then nothing is left to do.
            if last.replace(*file) == Some(*file) {
                continue;
            }
            if let Some(freed) = self.by_file.get_mut(file) {
                freed.retain(|f| !gone(f));
                if freed.is_empty() {
                    self.by_file.remove(file);
                }
            }
        }
    }
}
