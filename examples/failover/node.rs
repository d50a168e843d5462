//! The two nodes: each is `lockferry serve` in a process of its own (this program, started with that argument), so that one can be
//! killed as a power cut would kill it.
//!
//! Must never leave a process or a directory behind, however the demo ends.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lockferry::control::Client as Control;
use lockferry::node::verbs::Done;
use lockferry::node::view::{LockManagerView, Status};

use crate::failure::{Failure, system};

/// The address that moves.
pub(crate) const FLOATING: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 10);
/// How long a node may take to start.
const START: Duration = Duration::from_secs(20);
/// Ports are looked for from here on, below those that the kernel gives to outgoing connections.
const FIRST_PORT: u16 = 20_000;
/// Processes of the demo begin to look at places that many ports apart.
const SPREAD: u32 = 10_000;
/// Lines of a node's log that are shown when something failed.
const LOG_LINES: usize = 12;

/// What must not outlive the demo.
static LEFT: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

enum Leftover {
    Process(nix::unistd::Pid),
    Directory(PathBuf),
}

/// The ports that everything in the demo uses: high ones, so that nobody need be root.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) nfs: u16,
    pub(crate) mount: u16,
    pub(crate) nlm: u16,
    nsm: u16,
    /// The clients' portmapper, at each client's address.
    pub(crate) portmap: u16,
}

impl Ports {
    /// Ports that are free at all of these addresses.
    pub(crate) fn find(addresses: &[Ipv4Addr]) -> Result<Self, Failure> {
        let start = FIRST_PORT + (std::process::id() % SPREAD) as u16;
        let free = |port: &u16| {
            let both = |at: &Ipv4Addr| {
                TcpListener::bind((*at, *port)).is_ok() && UdpSocket::bind((*at, *port)).is_ok()
            };
            addresses.iter().all(both)
        };
        let mut found = (start..start + 1_000).filter(free);
        let mut next = || found.next().ok_or_else(|| Failure::TooLong("free ports".into()));
        Ok(Self { nfs: next()?, mount: next()?, nlm: next()?, nsm: next()?, portmap: next()? })
    }
}

/// The disk that both nodes can reach: the export and the journal of the floating address. And what each node has for itself.
pub(crate) struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// An empty one with these files.
    pub(crate) fn new(files: &[String]) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("lockferry-demo-").tempdir();
        let dir = dir.map_err(system("cannot make a directory for the demo"))?;
        leave(Leftover::Directory(dir.path().into()));
        let disk = Self { dir };
        for dir in [disk.export(), disk.journal()] {
            std::fs::create_dir(&dir).map_err(system(dir.display().to_string()))?;
        }
        for file in files {
            let file = disk.export().join(file);
            std::fs::write(&file, b"").map_err(system(file.display().to_string()))?;
        }
        Ok(disk)
    }

    /// The exported directory.
    pub(crate) fn export(&self) -> PathBuf {
        self.dir.path().join("share")
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }
}

/// A running node.
pub(crate) struct Node {
    process: Child,
    control: Control,
    runtime: tokio::runtime::Runtime,
    log: PathBuf,
}

impl Node {
    /// Starts `lockferry serve` at an address of its own and the floating one, and waits until it is ready. Two processes cannot listen
    /// at one address, so the other node must be gone.
    pub(crate) fn start(
        name: &str,
        own: Ipv4Addr,
        disk: &Disk,
        ports: &Ports,
        window: Duration,
    ) -> Result<Self, Failure> {
        let at = |file: &str| disk.dir.path().join(format!("{name}.{file}"));
        let (config, log, socket) = (at("toml"), at("log"), at("sock"));
        let text = settings(&at("state"), &socket, own, disk, ports, window);
        std::fs::write(&config, text).map_err(system(config.display().to_string()))?;
        let stderr = std::fs::File::create(&log).map_err(system(log.display().to_string()))?;
        let program = std::env::current_exe().map_err(system("where this program is"))?;
        let mut command = Command::new(program);
        command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        // The demo's settings are all there are, and systemd has nothing to be told.
        let foreign = |key: &str| key.starts_with("LOCKFERRY_") || key == "NOTIFY_SOCKET";
        for (key, _) in std::env::vars_os().filter(|(key, _)| foreign(&key.to_string_lossy())) {
            command.env_remove(key);
        }
        let process = spawn(&mut command)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(system("cannot start tokio"))?;
        let mut node = Self { process, control: Control::new(vec![socket]), runtime, log };
        node.await_ready()?;
        Ok(node)
    }

    fn await_ready(&mut self) -> Result<(), Failure> {
        let Some(out) = self.process.stdout.take() else { return Ok(()) };
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(out).read_line(&mut line);
            let _ = tell.send(line);
        });
        match told.recv_timeout(START) {
            Ok(line) if line.starts_with("lockferry ready") => Ok(()),
            _ => Err(Failure::TooLong(format!("a node to start; its log ends:\n{}", self.log_end()))),
        }
    }

    /// `start_grace`: takes the floating address up. `how`: "" or "full".
    pub(crate) fn start_grace(&self, how: &str) -> Result<Done, Failure> {
        let text = format!("{FLOATING} {how}");
        Ok(self.runtime.block_on(self.control.verb("start_grace", text.trim_end().as_bytes(), false))?)
    }

    /// How the floating address is.
    pub(crate) fn state(&self) -> Result<LockManagerView, Failure> {
        let status: Status = self.runtime.block_on(self.control.get("/v1/status"))?;
        let found = status.lock_managers.into_iter().find(|lm| lm.name == FLOATING.to_string());
        found.ok_or_else(|| Failure::Strange("the floating address is not in the status".into()))
    }

    /// SIGKILL; returns when the process is gone, its sockets with it.
    pub(crate) fn kill(mut self) -> Result<(), Failure> {
        self.process.kill().map_err(system("cannot kill a node"))
    }

    /// The last lines of its log.
    pub(crate) fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let pid = nix::unistd::Pid::from_raw(self.process.id() as i32);
        left().retain(|left| !matches!(left, Leftover::Process(other) if *other == pid));
    }
}

fn spawn(command: &mut Command) -> Result<Child, Failure> {
    // Held all the while: whoever cleans up either sees the process or finds that there is none.
    let mut left = left();
    let child = command.spawn().map_err(system("cannot start a node"))?;
    left.push(Leftover::Process(nix::unistd::Pid::from_raw(child.id() as i32)));
    Ok(child)
}

fn settings(
    state: &Path,
    socket: &Path,
    own: Ipv4Addr,
    disk: &Disk,
    ports: &Ports,
    window: Duration,
) -> String {
    let Ports { nfs, mount, nlm, nsm, portmap } = ports;
    let (export, journal, window) = (disk.export(), disk.journal(), humantime::format_duration(window));
    format!(
        "bind = [\"{own}\", \"{FLOATING}\"]\nstate_dir = {state:?}\nsocket = {socket:?}\nrpcbind = \"off\"\n\
         [ports]\nnfs = {nfs}\nmount = {mount}\nnlm = {nlm}\nnsm = {nsm}\nrpcbind = {portmap}\n\
         [grace]\nwindow = \"{window}\"\n[control]\nfiles = \"none\"\n[log]\nlevel = \"info\"\nformat = \"text\"\n\
         [[export]]\npath = {export:?}\nfsid = 1\nsquash = \"none\"\ninsecure = true\n\
         [[lock_manager]]\naddress = \"{FLOATING}\"\nexports = [{export:?}]\njournal = {journal:?}\n"
    )
}

fn left() -> std::sync::MutexGuard<'static, Vec<Leftover>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn leave(what: Leftover) {
    left().push(what);
}

/// Ends and removes everything, for an end that runs no destructors. Nothing can be started any more afterwards.
pub(crate) fn clean_up() {
    let left = left();
    for what in left.iter() {
        match what {
            Leftover::Process(pid) => drop(nix::sys::signal::kill(*pid, nix::sys::signal::Signal::SIGKILL)),
            Leftover::Directory(dir) => drop(std::fs::remove_dir_all(dir)),
        }
    }
    // Nobody may start anything in the moment that is left.
    std::mem::forget(left);
}
