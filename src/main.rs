//! The `lockferry` binary: everything is in the library, see `lockferry::cli`.

/// Every request allocates some small things in one thread that another one frees: the C library's allocator takes twice as long for that,
/// and a third more memory for each lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    lockferry::cli::main()
}
