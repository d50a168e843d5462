//! What the system tests stand on: networks of namespaces, real Linux clients in virtual machines, the server
//! under test. Must never touch the host's own network, mounts or services, and leaves nothing behind: every
//! process lives in a PID namespace that ends with the test process.
#![allow(dead_code, reason = "each integration test uses a part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a failure must stop the test, loudly"
)]

pub(crate) mod agent;
pub(crate) mod cluster;
pub(crate) mod net;
pub(crate) mod scratch;
pub(crate) mod server;
pub(crate) mod vm;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Set by `tests/run`: a missing prerequisite is then a failure instead of a loud skip.
pub(crate) const REQUIRE: &str = "LOCKFERRY_TEST_REQUIRE";

/// Says why a test cannot run here; with `LOCKFERRY_TEST_REQUIRE=1` it fails.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var(REQUIRE).is_err(), "cannot run, and {REQUIRE} is set: {why}");
    eprintln!("skipped: {why}");
    println!("skipped: {why}");
}

/// What keeps namespace tests from running here, if anything does.
pub(crate) fn missing_for_namespaces() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root, to make network namespaces".into());
    }
    missing_programs(&["ip", "unshare", "nsenter", "arping"])
}

/// What keeps virtual machine tests from running here, if anything does.
pub(crate) fn missing_for_vms() -> Option<String> {
    if let Some(why) = missing_for_namespaces() {
        return Some(why);
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        return Some("no /dev/net/tun".into());
    }
    missing_programs(&["qemu-system-x86_64", "mkfs.ext4"]).or_else(|| vm::Image::find().err())
}

fn missing_programs(names: &[&str]) -> Option<String> {
    let missing: Vec<_> = names.iter().filter(|name| find_program(name).is_none()).copied().collect();
    (!missing.is_empty()).then(|| format!("not installed: {} (tests/run installs them)", missing.join(", ")))
}

/// The full path of a program, looked for in PATH and the administrator's directories.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/usr/bin:/bin";
    path.split(':').map(|dir| PathBuf::from(dir).join(name)).find(|full| full.is_file())
}

/// Asks again and again until the answer is there. Panics with `what` and the last refusal after `limit`:
/// a bound that keeps a broken test from hanging, not an assertion on speed.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(20);
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) if start.elapsed() > limit => {
                panic!("gave up after {limit:?} waiting for {what}: {why}")
            }
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 3 / 2).min(Duration::from_millis(500));
    }
}

/// Holds the run, so that a person can look around.
pub(crate) fn hold(ways_in: &str) {
    eprintln!("held. The ways in:\n{ways_in}\nPress Enter (or close stdin) to go on.");
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
}
