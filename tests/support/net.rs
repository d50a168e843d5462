//! A test network made of namespaces: a bridge in one, a server node in each further one. All of it hangs on
//! processes of ours and ends with them, also when the test is killed: nothing has a name on the host.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use super::scratch::Scratch;

/// The network that exists only inside the namespaces: 10.77.0.0/24.
const PREFIX: u8 = 24;

/// The test network. Cloning gives another handle to the same one.
#[derive(Clone)]
pub(crate) struct Net(Arc<Inner>);

struct Inner {
    switch: Holder,
    scratch: Scratch,
    next_port: AtomicU8,
}

/// A server node: network, mount, UTS, IPC and PID namespaces of its own, with its own /run, /srv and /proc. Its /var/lib and its
/// directory are kept for the next node of that name, as a disk is over a power cut.
pub(crate) struct Node {
    net: Net,
    holder: Holder,
    name: String,
    address: Ipv4Addr,
    port: String,
}

impl Net {
    /// A bridge with nothing on it; 10.77.0.254 is the bridge's own address, for calls by the test itself.
    pub(crate) fn new() -> Self {
        let switch = Holder::start("switch", "-n -m -i -p -u", "");
        let net = Self(Arc::new(Inner { switch, scratch: Scratch::new(), next_port: AtomicU8::new(0) }));
        net.ip("link add br0 type bridge forward_delay 0 stp_state 0");
        net.ip("addr add 10.77.0.254/24 dev br0");
        net.ip("link set br0 up");
        net
    }

    /// The address with this last number.
    pub(crate) fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, last)
    }

    /// A node on the bridge that answers at `address(last)`.
    pub(crate) fn node(&self, name: &str, last: u8) -> Node {
        let dir = self.dir().join(name);
        std::fs::create_dir_all(dir.join("var-lib")).expect("node directory");
        let private = format!(
            "mount --bind {}/var-lib /var/lib\nmount -t tmpfs tmpfs /srv\nmount -t tmpfs tmpfs /run\n\
             mkdir -p /run/lock /run/hostproc\nmount --bind /proc /run/hostproc\nmount -t proc proc /proc\n",
            dir.display()
        );
        let holder = Holder::start(name, "-n -m -u -i -p", &private);
        let port = self.next_port("v");
        self.ip(&format!("link add {port} type veth peer name eth0 netns {}", holder.pid));
        self.ip(&format!("link set {port} master br0 up"));
        let node = Node { net: self.clone(), holder, name: name.into(), address: Self::address(last), port };
        node.sh(&format!("ip addr add {}/{PREFIX} dev eth0 && ip link set eth0 up", node.address));
        node
    }

    /// A tap device on the bridge for a virtual machine; returns its name.
    pub(crate) fn tap(&self) -> String {
        let tap = self.next_port("t");
        self.ip(&format!("tuntap add {tap} mode tap"));
        self.ip(&format!("link set {tap} master br0 up"));
        tap
    }

    /// Unplugs a bridge port without the other end noticing (a silent partition), or plugs it in again.
    pub(crate) fn plug(&self, port: &str, plugged: bool) {
        self.ip(&format!("link set {port} {}", if plugged { "master br0" } else { "nomaster" }));
    }

    /// A command that runs in the bridge's namespaces.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.0.switch.enter(program)
    }

    /// Runs something on a thread whose sockets are the bridge's.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace =
            std::fs::File::open(format!("/proc/{}/ns/net", self.0.switch.pid)).expect("the namespace");
        std::thread::spawn(move || {
            nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("setns");
            work()
        })
    }

    /// Where this network's nodes and guests keep their files.
    pub(crate) fn dir(&self) -> &Path {
        self.0.scratch.path()
    }

    /// How a person gets into the bridge's namespace, for messages.
    pub(crate) fn way_in(&self) -> String {
        format!("nsenter -t {} -n", self.0.switch.pid)
    }

    fn next_port(&self, kind: &str) -> String {
        format!("{kind}{}", self.0.next_port.fetch_add(1, Ordering::Relaxed))
    }

    fn ip(&self, arguments: &str) {
        // Only the network namespace: process ids in the arguments are the host's.
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.switch.pid.to_string(), "-n", "--", "ip"]).stdin(Stdio::null());
        check(command.args(arguments.split_whitespace()), &format!("ip {arguments}"));
    }
}

impl Node {
    /// Its own, fixed address.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The network it is on.
    pub(crate) fn net(&self) -> &Net {
        &self.net
    }

    /// The name of its port on the bridge, for `Net::plug`.
    pub(crate) fn port(&self) -> &str {
        &self.port
    }

    /// A directory of its own that the test can see too.
    pub(crate) fn dir(&self) -> PathBuf {
        self.net.dir().join(&self.name)
    }

    /// A command that runs on the node.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.holder.enter(program)
    }

    /// Runs a shell script on the node and returns what it printed; panics when it fails.
    pub(crate) fn sh(&self, script: &str) -> String {
        check(self.command("sh").args(["-c", script]), script)
    }

    /// A path on the node as the test sees it, mounts included.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.holder.pid))
    }

    /// How a person gets onto the node, for messages.
    pub(crate) fn way_in(&self) -> String {
        format!("nsenter -t {} -a", self.holder.pid)
    }
}

impl Node {
    /// Takes it off the network for good, without a word to anybody.
    pub(crate) fn cut_off(&self) {
        let _ = self.net.command("ip").args(["link", "del", &self.port]).stderr(Stdio::null()).status();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // First: what dies now says good-bye on its connections. The namespace itself is torn down some time after its last
        // process; the port must be gone now.
        self.cut_off();
    }
}

/// The first process of a set of namespaces. It reads its standard input, which only the test holds open: when the
/// test ends, however it ends, the process ends, and with it everything in its PID namespace.
struct Holder {
    child: Child,
    pid: u32,
}

impl Holder {
    fn start(name: &str, namespaces: &str, script: &str) -> Self {
        // /proc is still the host's here, so this is the pid as the host sees it.
        let script = format!(
            "set -e\nread pid rest </proc/self/stat\nmount --make-rprivate /\n{script}hostname {name}\n\
             ip link set lo up\necho $pid\nread never || :\n"
        );
        let mut child = Command::new("unshare")
            .args(namespaces.split(' '))
            .args(["-f", "--kill-child=KILL", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("the holder's first line");
        let pid = line.trim().parse().unwrap_or_else(|_| panic!("namespaces of {name} could not be made"));
        Self { child, pid }
    }

    /// A command in these namespaces.
    fn enter(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-n", "-m", "-u", "-i", "-p", "--"]).arg(program);
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A process inside namespaces, known by the pid that the host sees.
pub(crate) struct Process {
    child: Child,
    pid: u32,
}

impl Process {
    /// Starts `arguments` by way of `command` (from `Net::command` or `Node::command`, with `sh` as its program) and
    /// returns it with its standard output. `proc_dir` is where the host's /proc is seen there.
    pub(crate) fn start(
        mut command: Command,
        proc_dir: &str,
        arguments: &[String],
    ) -> (Self, BufReader<std::process::ChildStdout>) {
        let script = format!("read pid rest <{proc_dir}/self/stat; echo $pid; exec \"$@\"");
        command.args(["-c", &script, "sh"]).args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().expect("nsenter starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("the pid line");
        let pid = line.trim().parse().unwrap_or_else(|_| panic!("cannot start {arguments:?}"));
        (Self { child, pid }, output)
    }

    /// The pid on the host.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal to this process alone.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid).expect("a pid"));
        let _ = nix::sys::signal::kill(pid, signal);
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("wait")
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal(nix::sys::signal::Signal::SIGKILL);
            self.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs to the end; returns standard output, panics with standard error when it fails.
fn check(command: &mut Command, what: &str) -> String {
    let output = command.output().expect("nsenter starts");
    assert!(output.status.success(), "failed: {what}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
