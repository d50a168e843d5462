//! `lockferry-sim`: runs seeds and says what they came to.

use std::process::ExitCode;

/// A run allocates all the time, little by little and in one thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lockferry_sim::command::main()
}
