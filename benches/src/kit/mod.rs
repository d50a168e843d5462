//! What the counts and the micro-benchmarks have in common.
//!
//! Must never be used by the load generator, which shares no code with the server that it measures.

mod core;
mod scratch;

pub use core::{APART, Core, How, LM, Wanted};
pub use scratch::Scratch;
