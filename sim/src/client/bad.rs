//! What a bad client does beyond the rules: it claims, forges, repeats and breaks.
//!
//! Must never put a well-formed request on the wire without a record of it.

use lockferry_checker::history::Micros;

use super::{Client, Effect};

impl Client {
    /// Something that no honest client would do.
    pub(super) fn mischief(&mut self, _now: Micros, _at: usize, _out: &mut Vec<Effect>) {
        self.stats.mischief += 1;
    }

    /// Whether a GRANTED is accepted that an honest client would accept, or not.
    pub(super) fn whim(&mut self, honest: bool) -> bool {
        if self.random.chance(100) { !honest } else { honest }
    }
}
