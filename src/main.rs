//! The `lockferry` binary: everything is in the library, see `lockferry::cli`.

fn main() -> std::process::ExitCode {
    lockferry::cli::main()
}
