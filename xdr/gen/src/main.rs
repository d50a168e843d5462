//! Generator, to be written.
fn main() {}
