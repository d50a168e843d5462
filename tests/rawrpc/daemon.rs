//! `lockferry serve` as a process of the test, and the questions that a test asks about it. It ends with the test, however
//! that ends. Must never be ended by name: only by the process id that was started.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockferry_xdr::mount::{Mountres3, encode_dirpath};
use lockferry_xdr::nfs3::{Diropargs3, Lookup3args, Lookup3res, NfsFh3};
use lockferry_xdr::{Decode as _, Writer};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Conn, PATIENCE, SERVER, World, host};
use crate::support;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_lockferry");

/// A running server.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    socket: PathBuf,
    export: PathBuf,
    stdout: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts `lockferry serve --config FILE`; it need not be ready yet.
    pub(crate) fn start(world: &World, config: &Path) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", BINARY, "serve", "--config"]).arg(config);
        Self::run(world, command, &config.with_extension("log"))
    }

    /// Starts a prepared command line; standard error goes to `log`.
    pub(crate) fn run(world: &World, mut command: Command, log: &Path) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).env("NO_COLOR", "1").env("RUST_BACKTRACE", "1");
        command.stderr(File::options().create(true).append(true).open(log).unwrap());
        let mut child = command.spawn().expect("lockferry starts");
        let stdout = Arc::new(Mutex::new(String::new()));
        let (lines, kept) = (BufReader::new(child.stdout.take().unwrap()).lines(), stdout.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *kept.lock().unwrap() += &(line + "\n");
            }
        });
        let (log, socket) = (log.to_owned(), world.dir().join("socket"));
        Self { child, log, socket, export: world.export(), stdout }
    }

    /// Waits for the ready line and returns it.
    pub(crate) fn await_ready(&mut self) -> String {
        support::wait_for("the ready line", Duration::from_secs(30), || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("lockferry ended ({status})\n{}", self.log());
            }
            let text = self.stdout.lock().unwrap().clone();
            text.lines().find(|l| l.starts_with("lockferry ready")).map(str::to_owned).ok_or(text)
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    /// SIGTERM; how it ended. Panics if it takes longer than the 5 s that it has.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.await_end(Duration::from_secs(5))
    }

    /// Waits for its end.
    pub(crate) fn await_end(&mut self, limit: Duration) -> ExitStatus {
        support::wait_for("the end of lockferry", limit, || {
            self.child.try_wait().unwrap().ok_or_else(|| self.log())
        })
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it wrote on standard error.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What it wrote on standard output.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// Runs a command of the binary against it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        Command::new(BINARY).args(arguments).arg("--socket").arg(&self.socket).output().unwrap()
    }

    /// The same, and reads its JSON.
    pub(crate) fn query(&self, command: &str) -> Value {
        let output = self.command(&[command, "--json"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "lockferry {command}: {error}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The rows of `locks`, `waiters`, `clients` or `refusals`.
    pub(crate) fn rows(&self, list: &str) -> Vec<Value> {
        let value = self.query(list);
        let rows = if value.is_array() { &value } else { &value["rows"] };
        rows.as_array().unwrap_or_else(|| panic!("no rows: {value}")).clone()
    }

    /// One of the totals.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let status = self.query("status");
        status["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name}: {status}"))
    }

    /// Waits until a list has this many rows that fit, and returns them.
    pub(crate) fn await_rows(&self, list: &str, count: usize, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        support::wait_for(&format!("{count} {list}"), PATIENCE, || {
            let rows = self.rows(list);
            let fitting: Vec<Value> = rows.iter().filter(|r| fits(r)).cloned().collect();
            if fitting.len() == count { Ok(fitting) } else { Err(format!("{rows:?}\n{}", self.log())) }
        })
    }

    /// The handle of a file in the export, as a client of 127.0.0.250 gets it.
    pub(crate) fn handle(&self, name: &str) -> Vec<u8> {
        let root = self.mount(&self.export);
        let what = Diropargs3 { dir: NfsFh3 { data: &root }, name: name.as_bytes() };
        let mut nfs = Conn::tcp(host(250), (SERVER, 2049));
        let results = nfs.ask((100_003, 3, 3), &Lookup3args { what }).results();
        match Lookup3res::from_bytes(&results).unwrap() {
            Lookup3res::Nfs3Ok(ok) => ok.object.data.to_vec(),
            Lookup3res::Default(status, _) => panic!("LOOKUP of {name}: {status:?}"),
        }
    }

    /// The handle of an exported directory.
    pub(crate) fn mount(&self, path: &Path) -> Vec<u8> {
        let mut args = Vec::new();
        encode_dirpath(&path.to_str().unwrap().as_bytes(), &mut Writer::new(&mut args));
        let results = Conn::tcp(host(250), (SERVER, 20048)).call((100_005, 3, 1), &args).results();
        match Mountres3::from_bytes(&results).unwrap() {
            Mountres3::Mnt3Ok(ok) => ok.fhandle.to_vec(),
            Mountres3::Default(status) => panic!("MNT of {}: {status:?}", path.display()),
        }
    }

    /// Its memory in use, in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("-- the server's log:\n{}", self.log());
        }
    }
}
