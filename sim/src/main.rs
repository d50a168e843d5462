//! `lockferry-sim`: runs seeds and says what they came to.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockferry_sim::command::main()
}
