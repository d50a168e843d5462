//! The locked bytes of one file in a ledger, by owner and first byte. Nearly all files have few, which a short list holds best; one that has
//! very many gets a tree.
//!
//! Must never hold two stretches of one owner that overlap.

use std::collections::BTreeMap;

use super::record::LockFields;

/// Up to here a list: an insertion moves 6 KiB at the most. In tests both kinds are met.
const FEW: usize = if cfg!(test) { 3 } else { 128 };

/// An owner's number, and the first byte.
pub(super) type Key = (u32, u64);

/// The last byte, and what the lock is like.
pub(super) type Row = (u64, LockFields);

#[derive(Debug, Default)]
pub(super) struct Rows {
    /// In order.
    few: Vec<(Key, Row)>,
    /// All of them, if there is any; then `few` is empty.
    many: BTreeMap<Key, Row>,
}

impl Rows {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Row)> {
        self.few.iter().map(|(key, row)| (key, row)).chain(&self.many)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.is_empty()
    }

    pub(super) fn insert(&mut self, key: Key, row: Row) {
        if !self.many.is_empty() {
            self.many.insert(key, row);
            return;
        }
        match self.few.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => self.few[at].1 = row,
            Err(_) if self.few.len() >= FEW => {
                self.many = std::mem::take(&mut self.few).into_iter().collect();
                self.many.insert(key, row);
            }
            Err(at) => {
                if self.few.capacity() == 0 {
                    // Most files never have a second one.
                    self.few.reserve_exact(1);
                }
                self.few.insert(at, (key, row));
            }
        }
    }

    /// What was there.
    pub(super) fn remove(&mut self, key: Key) -> Option<Row> {
        if !self.many.is_empty() {
            return self.many.remove(&key);
        }
        let at = self.few.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        Some(self.few.remove(at).1)
    }

    /// The owner's stretches that have a byte in `start..=end` or right beside it, from behind: first, last byte, and what they are like.
    pub(super) fn touching(&self, owner: u32, start: u64, end: u64) -> Vec<(u64, u64, LockFields)> {
        let last = (owner, end.saturating_add(1));
        // A lower bound would be a second search.
        let touches = |((o, _), (end, _)): &(&Key, &Row)| *o == owner && end.saturating_add(1) >= start;
        let parts = |((_, start), (end, fields)): (&Key, &Row)| (*start, *end, *fields);
        if !self.many.is_empty() {
            return self.many.range(..=last).rev().take_while(touches).map(parts).collect();
        }
        let until = self.few.partition_point(|(key, _)| *key <= last);
        let before = self.few[..until].iter().rev().map(|(key, row)| (key, row));
        before.take_while(touches).map(parts).collect()
    }

    /// Changes each row with `change`, `None`: it goes. Then draws those together that touch and that `merge` knows one for. The owner of each
    /// row that is no more goes to `gone`.
    pub(super) fn change(
        &mut self,
        change: impl Fn(LockFields) -> Option<LockFields>,
        merge: impl Fn(&LockFields, &LockFields) -> Option<LockFields>,
        gone: &mut Vec<u32>,
    ) {
        let mut rows: Vec<(Key, Row)> = Vec::with_capacity(self.few.len());
        for ((owner, start), (end, fields)) in std::mem::take(self).into_rows() {
            let Some(fields) = change(fields) else {
                gone.push(owner);
                continue;
            };
            if let Some((before, (until, was))) = rows.last_mut()
                && before.0 == owner
                && until.checked_add(1) == Some(start)
                && let Some(one) = merge(was, &fields)
            {
                (*until, *was) = (end, one);
                gone.push(owner);
                continue;
            }
            rows.push(((owner, start), (end, fields)));
        }
        match rows.len() {
            0..=FEW => self.few = rows,
            _ => self.many = rows.into_iter().collect(),
        }
    }

    fn into_rows(self) -> impl Iterator<Item = (Key, Row)> {
        self.few.into_iter().chain(self.many)
    }
}
