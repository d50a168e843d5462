//! Hash tables for small numbers, without the cost of a keyed hash. Must never be fed with what an attacker chooses: a history is
//! written by our own simulator and tests.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A hash table with the fast hash.
pub(crate) type Table<K, V> = HashMap<K, V, BuildHasherDefault<Fast>>;

/// Multiplies and rotates.
#[derive(Default)]
pub(crate) struct Fast(u64);

impl Hasher for Fast {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}
