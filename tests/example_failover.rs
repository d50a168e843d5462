//! The demo `examples/failover`: it runs to its end, tells its story in order, and leaves nothing behind, also when it is interrupted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a failure must stop the test, loudly"
)]

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long what was interrupted may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// The demo's program; cargo builds it beside the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples/failover");
    assert!(program.exists(), "{}: build it first: cargo build --example failover", program.display());
    program
}

fn demo(scratch: &Path) -> Command {
    let mut command = Command::new(program());
    command.env("TMPDIR", scratch).stdin(Stdio::null());
    command
}

/// Fails unless all of these stand in the text, in this order. Returns what follows the last.
fn in_order<'a>(text: &'a str, wanted: &[&str]) -> &'a str {
    let mut rest = text;
    for what in wanted {
        let at = rest.find(what).unwrap_or_else(|| panic!("no {what:?} (in its place) in:\n{text}"));
        rest = &rest[at + what.len()..];
    }
    rest
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

/// The processes with this in their command line.
fn processes_about(what: &Path) -> Vec<PathBuf> {
    let what = what.as_os_str().as_encoded_bytes();
    let about = |pid: &PathBuf| {
        let line = std::fs::read(pid.join("cmdline")).unwrap_or_default();
        line.windows(what.len()).any(|part| part == what)
    };
    std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).filter(about).collect()
}

fn await_no_process_about(what: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !processes_about(what).is_empty() {
        assert!(Instant::now() < deadline, "still there: {:?}", processes_about(what));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn slow_the_demo_tells_its_story_in_order_and_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().unwrap();
    let output = demo(scratch.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}\n{complaints}", output.status);
    let rest = in_order(
        &text,
        &[
            "only conflicts wait\n",
            "web1    locks bytes 0-99",
            "web2    wants the same bytes",
            "node A  killed",
            "node B  takes over",
            "web3    wants a byte of mail, which nobody had: granted",
            "web2    asks again",
            "web1    reclaims: 101 of 101",
            "node B  closes the window",
            "web1    unlocks",
            "web2    is called back",
        ],
    );
    let rest = in_order(
        rest,
        &[
            "so all wait\n",
            "node A  killed",
            "node B  takes over",
            "web3    wants a byte of mail, which nobody had: must wait",
            "web1    reclaims: 101 of 101",
            "web1    unlocks",
            "web3    is called back",
        ],
    );
    in_order(rest, &["Side by side", "web3's lock", "101 of 101", "101 of 101", "checked."]);
    assert!(text.lines().count() <= 45, "it is to be read at a glance:\n{text}");
    assert!(is_empty(scratch.path()), "files are left");
    await_no_process_about(scratch.path());
}

/// Starts the demo and waits for the line that begins so.
fn until(scratch: &Path, line: &str) -> Child {
    let mut child = demo(scratch).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().contains(line)), "the demo ended without {line:?}");
    // Goes on reading, so that the demo can go on writing.
    std::thread::spawn(move || lines.for_each(drop));
    assert!(!processes_about(scratch).is_empty(), "a node runs");
    child
}

#[test]
fn slow_an_interrupted_demo_takes_its_nodes_and_files_with_it() {
    let scratch = tempfile::tempdir().unwrap();
    let mut child = until(scratch.path(), "node B  takes over");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    await_no_process_about(scratch.path());
    assert!(is_empty(scratch.path()), "files are left");
}

#[test]
fn slow_a_killed_demo_takes_its_nodes_with_it() {
    let scratch = tempfile::tempdir().unwrap();
    let mut child = until(scratch.path(), "load    4 threads");
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    await_no_process_about(scratch.path());
}
