//! The control files as a shell sees them: a real FUSE mount with a made-up node behind it, and the binary's own mount over
//! kill -9. Needs root and /dev/fuse; says so where they are not there.

#![allow(clippy::unwrap_used)]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lockferry::control::{ControlFiles, ControlSocket, FilesError, Front};
use lockferry::node::verbs::{Done, NodeControl, Refusal, Verb};
use lockferry::node::view::{
    ClientView, ExplainQuery, ExplainView, Filter, Listing, LockManagerView, LockView, NodeView, Page,
    RefusalView, Status, WaiterView,
};
use nix::errno::Errno;

const BINARY: &str = env!("CARGO_BIN_EXE_lockferry");
/// The address whose release waits for [`World::let_go`].
const SLOW: &str = "192.0.2.77";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A node of two lock managers and as many locks as wanted.
struct Made {
    locks: u64,
}

fn lock(id: u64) -> LockView {
    LockView {
        id,
        lock_manager: if id.is_multiple_of(2) { "192.0.2.10" } else { "2001:db8::10" }.into(),
        client: if id == 3 { "evil\u{1b}[31m".into() } else { format!("web{id}") },
        path: "/srv/my share/db".into(),
        start: id,
        mode: "exclusive".into(),
        state: "held".into(),
        // In the future: the age is 0s, whenever the test runs.
        since: u64::MAX,
        ..LockView::default()
    }
}

impl NodeView for Made {
    fn status(&self) -> Status {
        let manager = |name: &str, state: &str| LockManagerView {
            name: name.into(),
            state: state.into(),
            epoch: 7,
            reclaimable: 3,
            grace_seconds_left: (state == "grace").then_some(12),
            ..LockManagerView::default()
        };
        let lock_managers = vec![manager("192.0.2.10", "grace"), manager("2001:db8::10", "active")];
        Status { version: "made up".into(), pid: 7, lock_managers, ..Status::default() }
    }
    fn locks(&self, filter: &Filter, page: Page) -> Listing<LockView> {
        let end = (page.after + u64::from(page.limit)).min(self.locks);
        let all = (page.after..end).map(lock);
        let rows =
            all.filter(|l| filter.lock_manager.as_ref().is_none_or(|lm| *lm == l.lock_manager)).collect();
        Listing { rows, next: (end < self.locks).then_some(end) }
    }
    fn waiters(&self, _: &Filter, _: Page) -> Listing<WaiterView> {
        Listing::default()
    }
    fn clients(&self, filter: &Filter, _: Page) -> Listing<ClientView> {
        let name = filter.lock_manager.clone().unwrap_or_else(|| "every".into());
        Listing { rows: vec![ClientView { name, ..ClientView::default() }], next: None }
    }
    fn refusals(&self) -> Vec<RefusalView> {
        Vec::new()
    }
    fn accept_refusal(&self, _: u64) -> Result<RefusalView, String> {
        Err("none".into())
    }
    fn explain(&self, _: &ExplainQuery) -> Result<ExplainView, Refusal> {
        Err(Refusal::new(Errno::ENOENT, "none"))
    }
}

/// Does what it is told, and writes it down.
struct Obedient {
    done: Mutex<Vec<Verb>>,
    begun: Sender<()>,
    gate: Mutex<Receiver<()>>,
}

impl NodeControl for Obedient {
    fn execute(&self, verb: &Verb, dry_run: bool) -> Result<Done, Refusal> {
        assert!(!dry_run, "a control file never asks for one");
        match verb {
            Verb::UnlockIp { ip: at } if *at == ip("192.0.2.99") => {
                return Err(Refusal::new(Errno::EBUSY, "somebody is at it"));
            }
            Verb::UnlockIp { ip: at } if *at == ip("192.0.2.98") => {
                return Err(Refusal::new(Errno::ESTALE, "another node has it"));
            }
            Verb::UnlockIp { ip: at } if *at == ip("192.0.2.97") => panic!("a fault in the node"),
            Verb::UnlockIp { ip: at } if *at == ip(SLOW) => {
                self.begun.send(()).unwrap();
                let _ = self.gate.lock().unwrap().recv();
            }
            Verb::UnlockFilesystem { path } if path == Path::new("/nope") => {
                return Err(Refusal::new(Errno::ENOENT, "no such export"));
            }
            Verb::Revoke { id } if id % 2 == 1 => return Err(Refusal::new(Errno::ENOENT, "no such lock")),
            _ => {}
        }
        self.done.lock().unwrap().push(verb.clone());
        Ok(Done::default())
    }
}

/// Mounted control files in a directory of their own.
struct World {
    // Dropped first, so that nothing is mounted when the directory goes.
    files: Option<ControlFiles>,
    front: Arc<Front>,
    control: Arc<Obedient>,
    begun: Receiver<()>,
    gate: Sender<()>,
    dir: tempfile::TempDir,
}

/// Why the tests of this file cannot run here, said once in each.
fn lacking() -> bool {
    let why = if !nix::unistd::geteuid().is_root() {
        "mounting needs root"
    } else if File::options().read(true).write(true).open("/dev/fuse").is_err() {
        "/dev/fuse cannot be opened"
    } else {
        return false;
    };
    assert!(std::env::var("LOCKFERRY_TEST_REQUIRE").is_err(), "LOCKFERRY_TEST_REQUIRE is set, but: {why}");
    println!("skipped: {why}");
    true
}

fn world_with(locks: u64) -> Option<World> {
    if lacking() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    // For tests of what others may see.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (begun, has_begun) = channel();
    let (gate, held) = channel();
    let control = Arc::new(Obedient { done: Mutex::default(), begun, gate: Mutex::new(held) });
    let front = Front::new(Arc::new(Made { locks }), control.clone());
    let files = ControlFiles::mount(&dir.path().join("control"), front.clone()).unwrap();
    Some(World { files: Some(files), front, control, begun: has_begun, gate, dir })
}

fn world() -> Option<World> {
    world_with(5)
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("control").join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, text: &[u8]) -> Result<(), Errno> {
        write(&self.path(name), text)
    }

    fn done(&self) -> Vec<Verb> {
        std::mem::take(&mut self.control.done.lock().unwrap())
    }

    /// A command of a shell in the mounted directory: exit status, output, errors.
    fn shell(&self, shell: &[&str], command: &str) -> (Option<i32>, String, String) {
        let (program, arguments) = shell.split_first().unwrap();
        let output =
            Command::new(program).args(arguments).arg(command).current_dir(self.path("")).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

fn errno(why: std::io::Error) -> Errno {
    Errno::from_raw(why.raw_os_error().unwrap())
}

fn write(path: &Path, text: &[u8]) -> Result<(), Errno> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path).map_err(errno)?;
    // One call of write(2), as `echo` makes it.
    let written = file.write(text).map_err(errno)?;
    assert_eq!(written, text.len());
    Ok(())
}

fn mounts_on(path: &Path) -> usize {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().filter(|line| line.split(' ').nth(4) == path.to_str()).count()
}

#[test]
fn a_write_does_the_verb_and_returns_when_it_is_done() {
    let Some(w) = world() else { return };
    let (code, _, err) =
        w.shell(&["sh", "-c"], "echo 192.0.2.10 > unlock_ip && echo 192.0.2.10 >> unlock_ip");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let release = Verb::UnlockIp { ip: ip("192.0.2.10") };
    assert_eq!(w.done(), [release.clone(), release]);
    w.write("unlock_filesystem", b"/srv/my\\040share\n").unwrap();
    w.write("start_grace", b"::ffff:192.0.2.10 /a grace=5s").unwrap();
    let done = w.done();
    assert_eq!(done[0], Verb::UnlockFilesystem { path: "/srv/my share".into() });
    assert!(matches!(&done[1], Verb::StartGrace(start) if start.ip == ip("192.0.2.10")), "{done:?}");
    assert_eq!(w.read("last_error"), "nothing was refused\n");
}

#[test]
fn a_shell_is_told_why_a_verb_was_refused() {
    let Some(w) = world() else { return };
    let cases = [
        ("echo 192.0.2.99 > unlock_ip", "Device or resource busy"),
        ("echo 192.0.2.98 > unlock_ip", "Stale file handle"),
        ("echo 192.0.2.97 > unlock_ip", "Input/output error"),
        ("echo /nope > unlock_filesystem", "No such file or directory"),
        ("echo 192.0.2 > unlock_ip", "Invalid argument"),
        ("echo > unlock_ip", "Invalid argument"),
        ("echo 192.0.2.1 > unlok_ip", "Permission denied"),
        ("echo x > status", "Permission denied"),
    ];
    for (command, words) in cases {
        let (code, _, err) = w.shell(&["bash", "-c"], command);
        assert_eq!(code, Some(1), "{command}: {err}");
        assert!(err.contains(words), "{command}: {err}");
        // dash says "I/O error" for every failed write, but fails too.
        let (code, ..) = w.shell(&["sh", "-c"], command);
        assert_ne!(code, Some(0), "{command}");
    }
    assert_eq!(w.done(), []);
    w.write("unlock_ip", b"10.0.0.1 x\n").unwrap_err();
    assert!(w.read("last_error").contains("EINVAL: \"x\" is one word too many; unlock_ip takes: IP"));
    assert!(w.read("status").contains("last refused: unlock_ip at "));
}

#[test]
fn garbage_of_any_size_is_refused_as_a_whole() {
    let Some(w) = world() else { return };
    let valid = b"192.0.2.10 ";
    for size in [1, 2, 100, 4095, 4096, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 1 << 20, 5 << 20] {
        let binary: Vec<u8> = (0..size).map(|at| (at * 31 % 256) as u8).collect();
        assert_eq!(w.write("start_grace", &binary), Err(Errno::EINVAL), "{size}");
        // What begins well is no better.
        let long: Vec<u8> = valid.iter().copied().chain(std::iter::repeat(b'x')).take(size + 12).collect();
        assert_eq!(w.write("start_grace", &long), Err(Errno::EINVAL), "{size}");
        let blanks: Vec<u8> =
            valid.iter().copied().chain(std::iter::repeat(b' ')).take(size + 65_537).collect();
        assert_eq!(w.write("start_grace", &blanks), Err(Errno::EINVAL), "{size}");
    }
    for text in
        [b"192.0.2.10\n192.0.2.11\n".as_slice(), b"192.0.2.10\0", b"\n\n", b"\xff\xfe", b"192.0.2.10 a\\"]
    {
        assert_eq!(w.write("start_grace", text), Err(Errno::EINVAL), "{text:?}");
    }
    assert_eq!(w.done(), []);
}

#[test]
fn the_rest_of_a_verb_is_not_taken_for_one() {
    let Some(w) = world() else { return };
    let mut file = OpenOptions::new().write(true).open(w.path("unlock_ip")).unwrap();
    assert_eq!(file.write(b"192.0.2.1").unwrap(), 9);
    assert_eq!(errno(file.write(b"92.0.2.1\n").unwrap_err()), Errno::EINVAL);
    assert_eq!(w.done(), [Verb::UnlockIp { ip: ip("192.0.2.1") }]);
}

#[test]
fn racing_writers_each_get_their_own_outcome() {
    let Some(w) = world() else { return };
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..40u64)
            .map(|id| {
                let path = w.path("revoke");
                scope.spawn(move || (id, write(&path, format!("{id}\n").as_bytes())))
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    for (id, outcome) in outcomes {
        assert_eq!(outcome, if id % 2 == 0 { Ok(()) } else { Err(Errno::ENOENT) }, "{id}");
    }
    let mut done: Vec<u64> = w
        .done()
        .iter()
        .map(|verb| match verb {
            Verb::Revoke { id } => *id,
            other => panic!("{other:?}"),
        })
        .collect();
    done.sort_unstable();
    assert_eq!(done, (0..40).step_by(2).collect::<Vec<u64>>());
}

#[test]
fn a_verb_that_takes_long_keeps_nobody_waiting() {
    let Some(w) = world() else { return };
    let path = w.path("unlock_ip");
    std::thread::scope(|scope| {
        let slow = scope.spawn(move || write(&path, SLOW.as_bytes()));
        w.begun.recv().unwrap();
        assert!(w.read("status").starts_with("lockferry made up"));
        // Also not the writers of the same file, and not in the kernel either.
        w.write("unlock_ip", b"192.0.2.10").unwrap();
        let (code, ..) =
            w.shell(&["sh", "-c"], "echo 192.0.2.10 > unlock_ip && echo 192.0.2.10 >> unlock_ip");
        assert_eq!((code, w.done().len()), (Some(0), 3));
        assert!(!slow.is_finished());
        w.gate.send(()).unwrap();
        assert_eq!(slow.join().unwrap(), Ok(()));
    });
}

#[test]
fn nobody_makes_removes_or_renames_anything() {
    let Some(w) = world() else { return };
    let denied = |outcome: std::io::Result<()>, what: &str| {
        assert_eq!(errno(outcome.unwrap_err()), Errno::EACCES, "{what}");
    };
    denied(File::create(w.path("new")).map(drop), "create");
    denied(std::fs::create_dir(w.path("new")), "mkdir");
    denied(std::fs::remove_file(w.path("unlock_ip")), "unlink");
    denied(std::fs::remove_dir(w.path("lock_managers")), "rmdir");
    denied(std::fs::rename(w.path("locks"), w.path("new")), "rename");
    denied(std::os::unix::fs::symlink("/", w.path("new")), "symlink");
    denied(File::open(w.path("unlock_ip")).map(drop), "reading what is written");
    denied(OpenOptions::new().read(true).write(true).open(w.path("unlock_ip")).map(drop), "both");
    denied(
        OpenOptions::new().write(true).open(w.path("lock_managers/192.0.2.10/epoch")).map(drop),
        "writing",
    );
    assert_eq!(errno(File::open(w.path("nothing")).unwrap_err()), Errno::ENOENT);
    let chmod = std::fs::set_permissions(w.path("status"), std::fs::Permissions::from_mode(0o666));
    assert_eq!(errno(chmod.unwrap_err()), Errno::EPERM);
}

#[test]
fn an_ordinary_user_may_neither_read_nor_write() {
    let Some(w) = world() else { return };
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "bash", "-c"];
    for command in [
        "echo 192.0.2.1 > unlock_ip",
        "cat locks",
        "cat unlock_ip",
        "ls lock_managers",
        "cat lock_managers/192.0.2.10/locks",
    ] {
        let (code, out, err) = w.shell(&nobody, command);
        assert!(code != Some(0) && out.is_empty(), "{command}: {out}");
        assert!(err.contains("Permission denied"), "{command}: {err}");
    }
    let (code, out, err) = w.shell(&nobody, "ls && df . >/dev/null");
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("unlock_ip\n") && out.contains("lock_managers\n"), "{out}");
    // Nor use up what root needs to look.
    let keep_open = format!("for i in $(seq 300); do exec {{fd}}< {}; done; ls", w.path("").display());
    let (code, _, err) = w.shell(&nobody, &keep_open);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(w.done(), []);
}

#[test]
fn lists_are_those_of_the_command_line() {
    let Some(w) = world() else { return };
    let socket = w.dir.path().join("l.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn({
        let (path, front) = (socket.clone(), w.front.clone());
        async move { lockferry::control::serve(ControlSocket::bind(&path).unwrap(), front).await }
    });
    let by_command = |arguments: &[&str]| {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let output = Command::new(BINARY).args(arguments).arg("--socket").arg(&socket).output().unwrap();
            if output.status.success() {
                return String::from_utf8(output.stdout).unwrap();
            }
            assert!(Instant::now() < deadline, "{output:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    for name in ["status", "locks", "waiters", "clients"] {
        let shown = w.read(name);
        // The last request of a made-up client was in 1970: hours pass slowly.
        assert_eq!(shown, by_command(&[name]), "{name}");
        assert!(shown.ends_with('\n') && !shown.contains('\u{1b}'), "{name}");
    }
    assert_eq!(
        w.read("lock_managers/192.0.2.10/locks"),
        by_command(&["locks", "--lock-manager", "192.0.2.10"])
    );
    assert!(w.read("lock_managers/192.0.2.10/clients").contains("192.0.2.10"));
}

#[test]
fn a_lock_manager_has_a_directory() {
    let Some(w) = world() else { return };
    let (code, out, err) = w.shell(&["bash", "-c"], "ls lock_managers lock_managers/2001:db8::10");
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(
        out,
        "lock_managers:\n192.0.2.10\n2001:db8::10\n\nlock_managers/2001:db8::10:\nclients\nepoch\ngrace\nlocks\nstate\n"
    );
    assert_eq!(w.read("lock_managers/192.0.2.10/state"), "grace\n");
    assert_eq!(w.read("lock_managers/2001:db8::10/state"), "active\n");
    assert_eq!(w.read("lock_managers/192.0.2.10/epoch"), "7\n");
    let grace = w.read("lock_managers/192.0.2.10/grace");
    assert!(
        grace.starts_with("seconds left: 12\nwho waits: conflicting requests\nreclaimable: 3\n"),
        "{grace}"
    );
    for unknown in ["192.0.2.1", "192.0.2.010", "::ffff:192.0.2.10", "2001:DB8::10", "x"] {
        let why = std::fs::read(w.path(&format!("lock_managers/{unknown}/state"))).unwrap_err();
        assert_eq!(errno(why), Errno::ENOENT, "{unknown}");
    }
}

#[test]
fn a_long_list_is_cut_and_says_so() {
    let Some(w) = world_with(400_000) else { return };
    let text = w.read("locks");
    assert!(text.len() <= (16 << 20) + 200, "{}", text.len());
    let last = text.lines().last().unwrap();
    let left: u64 = last.split(' ').next().unwrap().parse().unwrap();
    assert!(last.ends_with("more rows are left out here; the command line lists all"), "{last}");
    assert_eq!(text.lines().count() as u64 - 2 + left, 400_000);
}

#[test]
fn what_was_opened_can_be_read_to_its_end_after_the_files_are_gone() {
    let Some(mut w) = world() else { return };
    let before = w.read("status");
    let mut open = File::open(w.path("status")).unwrap();
    let path = w.path("");
    let path = Path::new(path.to_str().unwrap().trim_end_matches('/'));
    w.files = None;
    assert_eq!(mounts_on(path), 0);
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, before);
    // And the place is free for the next, whoever still has something open.
    w.files = Some(ControlFiles::mount(path, w.front.clone()).unwrap());
    assert_eq!(w.read("lock_managers/192.0.2.10/epoch"), "7\n");
}

#[test]
fn verbs_past_the_bound_are_refused_at_once_and_the_others_are_done() {
    // At work and waiting (docs/control-files.md).
    const BOUND: usize = 8 + 512;
    const MORE: usize = 50;
    let Some(w) = world() else { return };
    let World { gate, ref control, .. } = w;
    let path = w.dir.path().join("control/unlock_ip");
    let (told, outcomes) = channel();
    std::thread::scope(|scope| {
        for _ in 0..BOUND + MORE {
            let (told, path) = (told.clone(), path.clone());
            scope.spawn(move || told.send(write(&path, SLOW.as_bytes())).unwrap());
        }
        for _ in 0..MORE {
            assert_eq!(outcomes.recv().unwrap(), Err(Errno::EAGAIN));
        }
        assert_eq!(control.done.lock().unwrap().len(), 0);
        drop(gate);
        for _ in 0..BOUND {
            assert_eq!(outcomes.recv().unwrap(), Ok(()));
        }
    });
    assert_eq!(control.done.lock().unwrap().len(), BOUND);
}

#[test]
fn too_many_open_lists_are_refused_until_some_are_closed() {
    let Some(w) = world() else { return };
    let mut open = Vec::new();
    let refused = loop {
        match File::open(w.path("status")) {
            Ok(file) => open.push(file),
            Err(why) => break errno(why),
        }
        assert!(open.len() <= 256);
    };
    assert_eq!((refused, open.len()), (Errno::ENFILE, 256));
    // Verbs need none of them.
    w.write("unlock_ip", b"192.0.2.10").unwrap();
    drop(open);
    // The kernel says only after the fact that a file was closed.
    let deadline = Instant::now() + Duration::from_secs(30);
    while File::open(w.path("status")).is_err() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_second_instance_is_told_who_has_them() {
    let Some(w) = world() else { return };
    let again = ControlFiles::mount(&w.path(""), w.front.clone()).unwrap_err();
    assert!(again.to_string().contains(&format!("is served by process {}", std::process::id())), "{again}");
    assert!(w.read("status").starts_with("lockferry made up"));
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let Some(mut w) = world() else { return };
    let mount = |path: &Path| ControlFiles::mount(path, w.front.clone());
    let full = w.dir.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("keep"), "x").unwrap();
    assert!(matches!(mount(&full), Err(FilesError::Unfit { .. })));
    assert!(matches!(mount(&full.join("keep")), Err(FilesError::Unfit { .. })));
    std::os::unix::fs::symlink(&full, w.dir.path().join("link")).unwrap();
    assert!(matches!(mount(&w.dir.path().join("link")), Err(FilesError::Unfit { .. })));

    let tmpfs = w.dir.path().join("tmpfs");
    std::fs::create_dir(&tmpfs).unwrap();
    let _away = Tmpfs::new(&tmpfs);
    assert!(matches!(mount(&tmpfs), Err(FilesError::Foreign { .. })));
    assert_eq!(mounts_on(&tmpfs), 1);
    // One that somebody put over our own is not taken away in its place.
    let ours = w.dir.path().join("control");
    let over = Tmpfs::new(&ours);
    w.files = None;
    assert_eq!(mounts_on(&ours), 2);
    drop(over);
    // What is below now is stale, and ours.
    w.files = Some(ControlFiles::mount(&ours, w.front.clone()).unwrap());
    assert_eq!(mounts_on(&ours), 1);
}

/// A tmpfs that is taken away again.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn new(path: &Path) -> Self {
        nix::mount::mount(Some("t"), path, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
            .unwrap();
        Self(path.into())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

/// The binary, serving with its control files in `dir`.
struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    fn start(dir: &Path) -> Self {
        let export = dir.join("export");
        std::fs::create_dir_all(&export).unwrap();
        let config = dir.join("l.toml");
        let text = format!(
            "bind = [\"127.0.0.1\"]\nstate_dir = {:?}\nsocket = {:?}\nrpcbind = \"off\"\n[control]\nfiles = {:?}\n\
             [ports]\nnfs = 0\nmount = 0\nnlm = 0\nnsm = 0\nrpcbind = 0\n[[export]]\npath = {export:?}\n",
            dir.join("state"),
            dir.join("l.sock"),
            dir.join("control"),
        );
        std::fs::write(&config, text).unwrap();
        Self::run(&config, &dir.join("log"))
    }

    fn run(config: &Path, log: &Path) -> Self {
        let log_file = File::create(log).unwrap();
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", BINARY, "serve", "--config"])
            .arg(config)
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let daemon = Self { child, log: log.into() };
        assert!(line.starts_with("lockferry ready"), "{}", daemon.log());
        daemon
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Detaches whatever is mounted on a path when a test is over, also a failed one.
struct Detach(PathBuf);

impl Drop for Detach {
    fn drop(&mut self) {
        while nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).is_ok() {}
    }
}

#[test]
fn what_a_killed_daemon_left_is_replaced_and_an_end_takes_the_files_away() {
    if lacking() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let control = dir.path().join("control");
    let _detach = Detach(control.clone());
    let first = Daemon::start(dir.path());
    let status = std::fs::read_to_string(control.join("status")).unwrap();
    assert!(status.starts_with(&format!("lockferry {}, process ", env!("CARGO_PKG_VERSION"))), "{status}");
    drop(first);
    let dead = std::fs::read_dir(&control).unwrap_err();
    assert_eq!(errno(dead), Errno::ENOTCONN);

    let mut second = Daemon::start(dir.path());
    assert!(
        second.log().contains("took away the control files that a killed process left"),
        "{}",
        second.log()
    );
    assert_eq!(mounts_on(&control), 1);
    assert_eq!(write(&control.join("unlock_ip"), b"nonsense"), Err(Errno::EINVAL));
    let status = std::fs::read_to_string(control.join("last_error")).unwrap();
    assert!(status.contains("\"nonsense\" is not an IP address"), "{status}");

    let pid = nix::unistd::Pid::from_raw(second.child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(second.child.wait().unwrap().success(), "{}", second.log());
    assert_eq!(mounts_on(&control), 0);
    assert_eq!(std::fs::read_dir(&control).unwrap().count(), 0);
}

#[test]
fn a_daemon_that_cannot_mount_says_so_and_goes_on() {
    if lacking() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let control = dir.path().join("control");
    std::fs::create_dir(&control).unwrap();
    std::fs::write(control.join("keep"), "x").unwrap();
    let daemon = Daemon::start(dir.path());
    let log = daemon.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("no control files: ")).collect();
    assert_eq!(told.len(), 1, "{log}");
    assert!(told[0].contains("is not empty"), "{log}");
    let output =
        Command::new(BINARY).args(["status", "--socket"]).arg(dir.path().join("l.sock")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(mounts_on(&control), 0);
}
