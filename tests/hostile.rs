//! What a hostile client, a careless administrator and an unlucky disk can do to a running server, and what it must not cost
//! the others: raw calls against the binary on loopback.

// clippy.toml allows these in test functions; helpers of a test file are no less tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lockferry::rpc::header::{CallHeader, write_call};
use lockferry::rpc::{AuthSys, Cred};
use lockferry_xdr::nlm::{
    NLM_PROG, Nlm4Lock, Nlm4Lockargs, Nlm4Res, Nlm4Stats, Nlm4Unlockargs, nlm_prog::v4 as nlm,
};
use lockferry_xdr::{Decode, Encode, Reader, Writer};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Longer than anything takes here, even on a loaded machine.
const LONG: Duration = Duration::from_secs(30);
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
/// Another client on this machine.
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

struct Server {
    dir: tempfile::TempDir,
    /// Directory and options of each export.
    exports: Vec<(PathBuf, &'static str)>,
    child: Option<Child>,
}

impl Server {
    fn start(exports: &[(&str, &'static str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let exports = exports.iter().map(|(name, options)| (dir.path().join(name), *options)).collect();
        let mut server = Self { dir, exports, child: None };
        for (export, _) in &server.exports {
            std::fs::create_dir(export).unwrap();
        }
        server.run();
        server
    }

    fn run(&mut self) {
        // Few at first, as many service managers and shells give them.
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "ulimit -Sn 256; ulimit -Hn 2048; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_lockferry"),
        ]);
        command.arg("serve").args(["--bind", "127.0.0.1", "--no-rpcbind"]);
        for program in ["nfs", "mount", "nlm", "nsm"] {
            command.args([format!("--{program}-port"), "0".into()]);
        }
        command.arg("--state-dir").arg(self.dir.path().join("state"));
        command.arg("--socket").arg(self.socket());
        for (export, options) in &self.exports {
            command.arg("--export").arg(format!("{}:insecure{options}", export.display()));
        }
        let log =
            std::fs::File::options().append(true).create(true).open(self.dir.path().join("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.child = Some(child);
        assert!(line.starts_with("lockferry ready"), "not ready: {line}{}", self.log());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM; how it ended, None if it did not.
    fn terminate(&mut self) -> Option<std::process::ExitStatus> {
        let child = self.child.as_mut().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
        let deadline = Instant::now() + LONG;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn port(&self, program: &str) -> SocketAddr {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockferry"));
        let output = command.args(["status", "--json", "--socket"]).arg(self.socket()).output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let listeners = status["listeners"].as_array().unwrap();
        let ours = |l: &&serde_json::Value| l["program"] == program && l["transport"] == "tcp";
        listeners.iter().find(ours).unwrap()["address"].as_str().unwrap().parse().unwrap()
    }

    /// The handle of an export's directory, and with it of a file in there.
    fn handle(&self, export: &Path, name: &str) -> Vec<u8> {
        std::fs::write(export.join(name), b"").unwrap();
        let mut mount = Client::connect(HOST, self.port("mount"));
        let mut args = Vec::new();
        Writer::new(&mut args).opaque_var(export.to_str().unwrap().as_bytes());
        let root = handle_after_status(&mount.call(0, 100_005, 3, 1, args));
        let mut args = Vec::new();
        let mut w = Writer::new(&mut args);
        w.opaque_var(&root);
        w.opaque_var(name.as_bytes());
        handle_after_status(&Client::connect(HOST, self.port("nfs")).call(0, 100_003, 3, 3, args))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// MNT and LOOKUP both answer a status and a handle first.
fn handle_after_status(results: &[u8]) -> Vec<u8> {
    let mut r = Reader::new(results);
    assert_eq!(r.u32().unwrap(), 0, "status");
    r.opaque_var(64).unwrap().to_vec()
}

struct Client {
    stream: TcpStream,
    next_xid: u32,
}

impl Client {
    fn connect(from: IpAddr, to: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self { stream, next_xid: 1 }
    }

    fn send(&mut self, uid: u32, program: u32, version: u32, procedure: u32, args: Vec<u8>) -> u32 {
        let xid = self.next_xid;
        self.next_xid += 1;
        let sys = AuthSys { machine_name: (*b"hostile").into(), uid, gid: uid, gids: Box::default() };
        let mut message = Vec::new();
        write_call(&mut message, &CallHeader { xid, program, version, procedure, cred: Cred::Sys(sys) });
        message.extend(args);
        self.stream.write_all(&(message.len() as u32 | 1 << 31).to_be_bytes()).unwrap();
        self.stream.write_all(&message).unwrap();
        xid
    }

    /// The next reply: its xid and results. None: there is none.
    fn receive(&mut self) -> Option<(u32, Vec<u8>)> {
        let mut mark = [0; 4];
        self.stream.read_exact(&mut mark).ok()?;
        let mut message = vec![0; (u32::from_be_bytes(mark) & 0x7fff_ffff) as usize];
        self.stream.read_exact(&mut message).ok()?;
        let mut r = Reader::new(&message);
        let xid = r.u32().unwrap();
        // REPLY, accepted, AUTH_NONE without body, SUCCESS.
        let head: Vec<u32> = (0..5).map(|_| r.u32().unwrap()).collect();
        assert_eq!(head, [1, 0, 0, 0, 0]);
        Some((xid, message[24..].to_vec()))
    }

    fn call(&mut self, uid: u32, program: u32, version: u32, procedure: u32, args: Vec<u8>) -> Vec<u8> {
        let xid = self.send(uid, program, version, procedure, args);
        let (answered, results) = self.receive().expect("an answer in time");
        assert_eq!(xid, answered);
        results
    }

    fn lock(&mut self, uid: u32, handle: &[u8], byte: u64, reclaim: bool) -> Nlm4Stats {
        status(&self.call(uid, NLM_PROG, 4, nlm::LOCK, lock_args(handle, byte, reclaim)))
    }

    fn unlock(&mut self, handle: &[u8], byte: u64) -> Nlm4Stats {
        let args = Nlm4Unlockargs { cookie: b"u", alock: lock_of(handle, byte) }.to_bytes();
        status(&self.call(0, NLM_PROG, 4, nlm::UNLOCK, args))
    }
}

fn lock_of(handle: &[u8], byte: u64) -> Nlm4Lock<'_> {
    Nlm4Lock { caller_name: b"hostile", fh: handle, oh: b"1", svid: 1, l_offset: byte, l_len: 1 }
}

fn lock_args(handle: &[u8], byte: u64, reclaim: bool) -> Vec<u8> {
    let alock = lock_of(handle, byte);
    Nlm4Lockargs { cookie: b"l", block: false, exclusive: true, alock, reclaim, state: 3 }.to_bytes()
}

fn status(results: &[u8]) -> Nlm4Stats {
    Nlm4Res::from_bytes(results).unwrap().stat.stat
}

#[test]
fn a_thousand_first_locks_at_once_get_a_thousand_answers() {
    let server = Server::start(&[("export", "")]);
    let handle = server.handle(&server.exports[0].0, "file");
    let mut client = Client::connect(HOST, server.port("nlm"));
    // A user each, so that none of the checks is remembered.
    let mut sent: Vec<u32> = (0..1_000)
        .map(|n| client.send(10_000 + n, NLM_PROG, 4, nlm::LOCK, lock_args(&handle, n.into(), false)))
        .collect();
    client.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    while let Some((xid, _)) = (!sent.is_empty()).then(|| client.receive()).flatten() {
        sent.retain(|s| *s != xid);
    }
    assert_eq!(sent.len(), 0, "calls without an answer");
}

#[test]
fn connections_leave_descriptors_to_files_and_to_the_operator() {
    let server = Server::start(&[("export", "")]);
    let port = server.port("nlm");
    let idle: Vec<TcpStream> = (0..900).map_while(|_| TcpStream::connect(port).ok()).collect();
    assert_eq!(idle.len(), 900, "this test needs a thousand descriptors itself");
    // Asks for the status, mounts, and opens a file.
    let handle = server.handle(&server.exports[0].0, "file");
    drop(idle);
    assert_eq!(Client::connect(HOST, server.port("nlm")).lock(0, &handle, 0, false), Nlm4Stats::Nlm4Granted);
}

#[test]
fn an_address_that_an_export_does_not_name_cannot_reclaim_there() {
    let mut server = Server::start(&[("export", ",clients=127.0.0.1")]);
    let handle = server.handle(&server.exports[0].0, "file");
    assert_eq!(Client::connect(HOST, server.port("nlm")).lock(0, &handle, 0, false), Nlm4Stats::Nlm4Granted);
    server.kill();
    server.run();
    let port = server.port("nlm");
    assert_ne!(Client::connect(OTHER, port).lock(0, &handle, 0, true), Nlm4Stats::Nlm4Granted);
    assert_eq!(Client::connect(HOST, port).lock(0, &handle, 0, true), Nlm4Stats::Nlm4Granted);
}

/// A file system of which nothing ever comes back.
struct Dead {
    path: PathBuf,
    _device: std::fs::File,
}

impl Dead {
    /// Mounts it in a mount namespace of this thread's own, which processes it starts afterwards share.
    fn over(path: &Path) -> nix::Result<Self> {
        let device = std::fs::File::options().read(true).write(true).open("/dev/fuse");
        let device = device.map_err(|e| nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        mount(Some("dead"), path, Some("fuse.dead"), MsFlags::empty(), Some(options.as_str()))?;
        Ok(Self { path: path.into(), _device: device })
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_dead_disk_keeps_neither_other_exports_from_locking_nor_the_server_from_ending() {
    if let Err(why) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS) {
        return eprintln!("skipped: no mount namespace of its own ({why}): needs root");
    }
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let mut server = Server::start(&[("alive", ""), ("dead", "")]);
    let [alive, dead] = [0, 1].map(|n| server.handle(&server.exports[n].0, "file"));
    let port = server.port("nlm");
    let mut client = Client::connect(HOST, port);
    assert_eq!(client.lock(0, &dead, 0, false), Nlm4Stats::Nlm4Granted);
    let _dead = match Dead::over(&server.exports[1].0) {
        Ok(dead) => dead,
        Err(why) => return eprintln!("skipped: no FUSE mount ({why})"),
    };
    // A checked directory is trusted for two seconds.
    std::thread::sleep(Duration::from_secs(3));
    let mut many = Client::connect(HOST, port);
    for n in 0..200 {
        many.send(10_000 + n, NLM_PROG, 4, nlm::LOCK, lock_args(&dead, u64::from(n) + 1, false));
    }
    assert_eq!(client.lock(77, &alive, 0, false), Nlm4Stats::Nlm4Granted, "another disk");
    assert_eq!(client.unlock(&dead, 0), Nlm4Stats::Nlm4Granted, "given back without the disk");
    let ended = server.terminate().expect("SIGTERM ends it");
    assert_eq!(ended.code(), Some(0), "{}", server.log());
}
