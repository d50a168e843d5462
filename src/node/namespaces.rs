//! For tests of this room: network namespaces of their own, one per thread. A thread that is gone takes its namespace along.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Runs `test` on a thread that has a network namespace of its own, `lo` up. False, said loudly: not as an ordinary user.
pub(super) fn alone<T: Send>(test: impl FnOnce() -> T + Send) -> Option<T> {
    if !nix::unistd::geteuid().is_root() {
        // As tests/support has it: `tests/run` sets this as root, where nothing may be skipped.
        assert!(std::env::var("LOCKFERRY_TEST_REQUIRE").is_err(), "needs root, to make network namespaces");
        eprintln!("skipped: needs root, to make network namespaces");
        return None;
    }
    let thread = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        sh("ip link set lo up");
        test()
    };
    std::thread::scope(|scope| match scope.spawn(thread).join() {
        Ok(value) => Some(value),
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// A name for this thread's namespace that `ip link set ... netns NAME` understands.
pub(super) fn own_name() -> String {
    format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid())
}

/// Runs a shell script in this thread's namespace; panics when it fails.
pub(super) fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A runtime that stays on this thread, so that its sockets are of this namespace.
pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
