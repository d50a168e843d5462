//! Names that many locks share: each is kept once, has a number, and is forgotten with its last use.
//!
//! Must never give anything in the order of its hash table: that differs from run to run.

use std::hash::{BuildHasher as _, Hash, RandomState};

use hashbrown::HashTable;

/// The names of one kind. What is looked for may be a `Q`, which hashes alike.
#[derive(Debug)]
pub(super) struct Interned<T> {
    seed: RandomState,
    /// Half a hash, so that most others are told apart without a look at them, and a number.
    numbers: HashTable<(u32, u32)>,
    things: Vec<Option<Thing<T>>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Thing<T> {
    thing: T,
    half: u32,
    uses: u32,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        let (numbers, things, free) = (HashTable::new(), Vec::new(), Vec::new());
        Self { seed: RandomState::new(), numbers, things, free }
    }
}

impl<T> Interned<T> {
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, &T)> + '_ {
        let numbered = (0u32..).zip(&self.things);
        numbered.filter_map(|(number, thing)| Some((number, &thing.as_ref()?.thing)))
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.things.get(number as usize)?.as_ref().map(|thing| &thing.thing)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.things.get_mut(number as usize)?.as_mut().map(|thing| &mut thing.thing)
    }

    /// All of them, to be changed in nothing that they are known by.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> + '_ {
        let numbered = (0u32..).zip(&mut self.things);
        numbered.filter_map(|(number, thing)| Some((number, &mut thing.as_mut()?.thing)))
    }

    /// What [`Interned::find`] wants to know of a name.
    pub(super) fn half<Q: Hash>(&self, name: &Q) -> u32 {
        (self.seed.hash_one(name) >> 32) as u32
    }

    /// Its number, if it is there.
    pub(super) fn find(&self, half: u32, is: impl Fn(&T) -> bool) -> Option<u32> {
        let found = self
            .numbers
            .find(whole(half), |(other, number)| *other == half && self.get(*number).is_some_and(&is));
        found.map(|(_, number)| *number)
    }

    /// One that is not there, and has no use yet.
    pub(super) fn insert(&mut self, half: u32, thing: T) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.things.push(None);
            self.things.len() as u32 - 1
        });
        self.things[number as usize] = Some(Thing { thing, half, uses: 0 });
        self.numbers.insert_unique(whole(half), (half, number), |(half, _)| whole(*half));
        number
    }

    /// One more use.
    pub(super) fn add(&mut self, number: u32) {
        if let Some(Some(thing)) = self.things.get_mut(number as usize) {
            thing.uses += 1;
        }
    }

    /// One use less. Returns what is forgotten with it.
    pub(super) fn drop(&mut self, number: u32) -> Option<T> {
        let slot = self.things.get_mut(number as usize)?;
        let thing = slot.as_mut()?;
        thing.uses -= 1;
        if thing.uses > 0 {
            return None;
        }
        let gone = slot.take()?;
        if let Ok(entry) = self.numbers.find_entry(whole(gone.half), |(_, other)| *other == number) {
            entry.remove();
        }
        self.free.push(number);
        Some(gone.thing)
    }
}

/// The table takes its place from the lower bits, and a mark from the highest.
fn whole(half: u32) -> u64 {
    u64::from(half) << 32 | u64::from(half)
}
