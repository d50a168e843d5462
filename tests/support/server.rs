//! The server under test on a node, and a reference server (knfsd in a guest) that proves the scenarios themselves.

use std::fs::File;
use std::io::{BufRead, Read, Seek, SeekFrom};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::net::{Net, Node, Process};
use super::vm::{Vm, VmConfig};

/// How long a start may take on a loaded machine.
const START: Duration = Duration::from_secs(60);

/// What the scenarios need of a server, whichever it is.
pub(crate) trait Server {
    /// Where clients reach it.
    fn address(&self) -> Ipv4Addr;
    /// The exported path.
    fn export(&self) -> String;
    /// Locks held now. Adjacent locks of one owner count as one.
    fn locks(&self) -> u64;
    /// Requests that wait now.
    fn waiters(&self) -> u64;
    /// One of the totals since start, by its name in `lockferry status`; None where the server does not count it.
    fn counter(&self, name: &str) -> Option<u64>;
    /// Kills it without warning and starts it again on the same state.
    fn crash_and_restart(&mut self);
    /// How long its grace window lasts after a restart.
    fn grace(&self) -> Duration;
    /// Log lines for a failure report.
    fn log(&self) -> String;
    /// Why this scenario is known to fail against this server, if it is.
    fn known_fault(&self, _scenario: &str) -> Option<&'static str> {
        None
    }
    /// How a person gets there.
    fn way_in(&self) -> String;
}

/// `lockferry serve` on a node.
pub(crate) struct Lockferry {
    node: Node,
    binary: PathBuf,
    /// Before the binary: a program that takes privileges away.
    wrapper: Vec<String>,
    /// Of `serve`.
    arguments: Vec<String>,
    socket: PathBuf,
    export: PathBuf,
    process: Option<Process>,
    stdout: Arc<Mutex<String>>,
}

impl Lockferry {
    /// A server on `node` with one export (mode 1777) and its state in the node's directory; `extra` are further arguments
    /// of `serve`. It is not started yet.
    pub(crate) fn new(node: Node, extra: &[&str]) -> Self {
        let export = node.dir().join("export");
        std::fs::create_dir_all(&export).expect("export directory");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        std::fs::set_permissions(&export, mode).expect("export mode");
        let socket = node.dir().join("lockferry.sock");
        // The scenarios tidy up as the guests' root.
        let mut arguments = vec!["--export".into(), format!("{}:no_root_squash", export.display())];
        for (flag, path) in [("--state-dir", &node.dir().join("state")), ("--socket", &socket)] {
            arguments.extend([flag.into(), path.display().to_string()]);
        }
        arguments.extend(extra.iter().map(ToString::to_string));
        Self::with(node, arguments, socket, export)
    }

    /// A server on `node` as a package would install it: all from the configuration file, everything else at its usual place. The
    /// export need not be there.
    pub(crate) fn configured(node: Node, config: &str, export: PathBuf) -> Self {
        let file = node.dir().join("lockferry.toml");
        std::fs::write(&file, config).expect("configuration");
        node.sh("mkdir -p /run/lockferry");
        let arguments = vec!["--config".into(), file.display().to_string()];
        Self::with(node, arguments, "/run/lockferry/lockferry.sock".into(), export)
    }

    fn with(node: Node, arguments: Vec<String>, socket: PathBuf, export: PathBuf) -> Self {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_lockferry"));
        let (wrapper, stdout) = (Vec::new(), Arc::default());
        Self { node, binary, wrapper, arguments, socket, export, process: None, stdout }
    }

    /// Whether it may send raw packets, from its next start on. Without that nobody is woken by a tickle.
    pub(crate) fn allow_raw_packets(&mut self, allowed: bool) {
        let without = ["setpriv", "--bounding-set", "-net_raw"].map(String::from);
        self.wrapper = if allowed { Vec::new() } else { without.into() };
    }

    /// Starts it and waits for its ready line, the first on standard output to begin with `lockferry ready`.
    pub(crate) fn start(&mut self) {
        let mut arguments = self.wrapper.clone();
        arguments.extend([self.binary.display().to_string(), "serve".into()]);
        arguments.extend(self.arguments.iter().cloned());
        let mut command = self.node.command("sh");
        command.stderr(File::options().create(true).append(true).open(self.log_path()).expect("log file"));
        command.env("RUST_BACKTRACE", "1").env("NO_COLOR", "1");
        let (process, output) = Process::start(command, "/run/hostproc", &arguments);
        self.process = Some(process);
        self.await_ready(output);
    }

    fn await_ready(&mut self, mut output: impl BufRead + Send + 'static) {
        let stdout = self.stdout.clone();
        stdout.lock().unwrap().clear();
        std::thread::spawn(move || {
            let mut line = String::new();
            while matches!(output.read_line(&mut line), Ok(n) if n > 0) {
                stdout.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        super::wait_for("the ready line of lockferry", START, || {
            if let Some(status) = self.process.as_mut().and_then(Process::ended) {
                panic!("lockferry ended ({status})\n{}{}", self.stdout.lock().unwrap(), self.log());
            }
            let text = self.stdout.lock().unwrap().clone();
            if text.lines().any(|line| line.starts_with("lockferry ready")) { Ok(()) } else { Err(text) }
        });
    }

    /// Sends SIGTERM and returns how it ended.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        let mut process = self.process.take().expect("running");
        process.signal(Signal::SIGTERM);
        process.wait()
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Whether it has been started and neither killed nor terminated by us.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// The node it runs on.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Runs `lockferry ARGUMENTS --json` against its socket.
    pub(crate) fn query(&self, arguments: &[&str]) -> Value {
        let mut command = self.node.command(&self.binary);
        command.args(arguments).arg("--json").arg("--socket").arg(&self.socket);
        let output = command.output().expect("nsenter starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "lockferry {arguments:?} failed: {error}");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("lockferry {arguments:?}: not JSON: {e}"))
    }

    fn log_path(&self) -> PathBuf {
        self.node.dir().join("lockferry.log")
    }

    /// What `lockferry status` says of a lock manager. Null: nothing.
    pub(crate) fn lock_manager(&self, ip: std::net::IpAddr) -> Value {
        let name = ip.to_string();
        let status = self.query(&["status"]);
        let all = status["lock_managers"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|lm| lm["name"] == *name).unwrap_or_default()
    }

    /// A number of each lock manager, added up.
    fn total(&self, name: &str) -> u64 {
        let status = self.query(&["status"]);
        let managers = status["lock_managers"].as_array().cloned().unwrap_or_default();
        managers.iter().filter_map(|m| m[name].as_u64()).sum()
    }
}

impl Server for Lockferry {
    fn address(&self) -> Ipv4Addr {
        self.node.address()
    }

    fn export(&self) -> String {
        self.export.display().to_string()
    }

    fn locks(&self) -> u64 {
        self.total("locks")
    }

    fn waiters(&self) -> u64 {
        self.total("waiters")
    }

    fn counter(&self, name: &str) -> Option<u64> {
        self.query(&["status"])["counters"][name].as_u64()
    }

    fn crash_and_restart(&mut self) {
        self.kill();
        self.start();
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn log(&self) -> String {
        tail(&self.log_path(), 16 << 10)
    }

    fn way_in(&self) -> String {
        format!("{} (log {})", self.node.way_in(), self.log_path().display())
    }
}

/// knfsd in a guest: what the scenarios are proven against.
pub(crate) struct Knfsd {
    vm: Vm,
}

impl Knfsd {
    /// Boots it and exports a directory on the disk that outlives a power cut.
    pub(crate) fn start(net: &Net) -> Self {
        let mut config = VmConfig::server("reference", 9);
        config.kernel = "lockd.nlm_grace_period=20".into();
        let mut vm = Vm::new(net, config);
        vm.boot(true);
        let server = Self { vm };
        server.serve();
        server
    }

    fn serve(&self) {
        self.vm.agent().sh("mkdir -p /var/lib/nfs/srv && ln -sfn /var/lib/nfs/srv /srv && chmod 1777 /srv \
             && exportfs -i -o rw,insecure,no_root_squash,no_subtree_check,fsid=1 '*:/var/lib/nfs/srv' \
             && echo 20 >/proc/fs/nfsd/nfsv4gracetime && rpc.nfsd -N 4 8 && rpc.mountd");
    }

    /// Lines of the server's /proc/locks for the exported file system: (held, waiting).
    fn proc_locks(&self) -> (u64, u64) {
        // Those of the guest's own daemons (pid files in /run) are not on its disk.
        let count = "awk '/->/ { waiting++; next } / fe:10:/ { held++ } END { print held + 0, waiting + 0 }' /proc/locks";
        let text = self.vm.agent().sh(count);
        let mut numbers = text.split_whitespace().map(|n| n.parse().expect("a count"));
        (numbers.next().expect("held"), numbers.next().expect("waiting"))
    }
}

impl Server for Knfsd {
    fn address(&self) -> Ipv4Addr {
        self.vm.address()
    }

    fn export(&self) -> String {
        "/var/lib/nfs/srv".into()
    }

    fn locks(&self) -> u64 {
        self.proc_locks().0
    }

    fn waiters(&self) -> u64 {
        self.proc_locks().1
    }

    fn counter(&self, _name: &str) -> Option<u64> {
        None
    }

    fn crash_and_restart(&mut self) {
        // Not earlier than the disk has what the clients were told is stable.
        self.vm.power_cut();
        self.vm.boot(true);
        self.serve();
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(20)
    }

    fn log(&self) -> String {
        self.vm.agent().dmesg()
    }

    fn known_fault(&self, scenario: &str) -> Option<&'static str> {
        // It tests with the type left at "read", so a reader in the way of a writer is not seen.
        (scenario == "a_test_names_the_lock_in_the_way").then_some("lockd's TEST ignores the type asked for")
    }

    fn way_in(&self) -> String {
        self.vm.way_in()
    }
}

/// The last `limit` bytes of a file, as text.
fn tail(path: &Path, limit: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let length = file.metadata().map_or(0, |m| m.len());
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(limit)));
        let _ = file.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
