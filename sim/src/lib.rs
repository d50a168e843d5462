//! Whole clusters of lockferry in one thread: one seed is one run.

pub mod client;
pub mod random;
