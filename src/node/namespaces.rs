//! For tests of this room: network namespaces that a thread can be in, and that are gone with the last who knows them.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace.
pub(super) struct Namespace(File);

impl Namespace {
    /// Makes one, `lo` up, and leaves the calling thread in it.
    pub(super) fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        sh("ip link set lo up");
        Self(File::open("/proc/thread-self/ns/net").unwrap())
    }

    /// The calling thread's sockets and children belong here from now on.
    pub(super) fn enter(&self) {
        setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// What `ip link ... netns NAME` understands.
    pub(super) fn name(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// Runs `test` on a thread that has a network namespace of its own. None, said loudly: not as an ordinary user.
pub(super) fn alone<T: Send>(test: impl FnOnce() -> T + Send) -> Option<T> {
    if !nix::unistd::geteuid().is_root() {
        // As tests/support has it: `tests/run` sets this as root, where nothing may be skipped.
        assert!(std::env::var("LOCKFERRY_TEST_REQUIRE").is_err(), "needs root, to make network namespaces");
        eprintln!("skipped: needs root, to make network namespaces");
        return None;
    }
    let thread = || {
        let _own = Namespace::new();
        test()
    };
    std::thread::scope(|scope| match scope.spawn(thread).join() {
        Ok(value) => Some(value),
        Err(panic) => std::panic::resume_unwind(panic),
    })
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
