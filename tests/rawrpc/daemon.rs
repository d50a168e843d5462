//! `lockferry serve` as a process of the test, and the questions that a test asks about it. It ends with the test, however
//! that ends. Must never be ended by name: only by the process id that was started.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
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
        Self::start_at(world.dir(), world.export(), config)
    }

    /// The same for a node whose socket is in `home`.
    pub(crate) fn start_at(home: &Path, export: PathBuf, config: &Path) -> Self {
        Self::start_with(home, export, config, &[])
    }

    /// The same with further environment variables.
    pub(crate) fn start_with(
        home: &Path,
        export: PathBuf,
        config: &Path,
        environment: &[(&str, PathBuf)],
    ) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", BINARY, "serve", "--config"]).arg(config);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Self::run_at(home, export, command, &config.with_extension("log"))
    }

    /// Starts a prepared command line; standard error goes to `log`.
    pub(crate) fn run(world: &World, command: Command, log: &Path) -> Self {
        Self::run_at(world.dir(), world.export(), command, log)
    }

    fn run_at(home: &Path, export: PathBuf, mut command: Command, log: &Path) -> Self {
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
        Self { child, log: log.to_owned(), socket: home.join("socket"), export, stdout }
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

    /// Stops it as a machine that hangs would, and waits until every thread of it stands still.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let stopped = |task: PathBuf| {
            let text = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
            // "PID (NAME) STATE ..."; the name may hold anything.
            text.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        };
        support::wait_for("all threads to stand still", PATIENCE, || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
            let running = tasks.filter(|task| !stopped(task.as_ref().unwrap().path())).count();
            if running == 0 { Ok(()) } else { Err(format!("{running} threads run")) }
        });
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
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

    /// Runs a verb (`start-grace`, `unlock-ip`...) and returns what it did.
    pub(crate) fn verb(&self, arguments: &[&str]) -> Value {
        let output = self.command(&[arguments, &["--json"]].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "lockferry {arguments:?}: {error}\n{}", self.log());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs a verb that must be refused: the errno's name and the text that `last_error` has.
    pub(crate) fn refused(&self, arguments: &[&str]) -> (String, String) {
        let output = self.command(arguments);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "lockferry {arguments:?}: {out}{error}");
        let last = self.query("status")["last_error"].clone();
        let text = last["text"].as_str().unwrap_or_default().to_owned();
        assert!(!text.is_empty() && error.contains(&text), "{error} is not {last}");
        (last["errno"].as_str().unwrap().to_owned(), text)
    }

    /// A lock manager as `status` shows it.
    pub(crate) fn lm(&self, name: &str) -> Value {
        self.find_lm(name).unwrap_or_else(|| panic!("no {name}: {}", self.query("status")))
    }

    /// The same, if it is known there.
    pub(crate) fn find_lm(&self, name: &str) -> Option<Value> {
        let status = self.query("status");
        status["lock_managers"].as_array().unwrap().iter().find(|m| m["name"] == name).cloned()
    }

    /// Whether it has taken a lock manager up.
    pub(crate) fn serves(&self, name: &str) -> bool {
        self.find_lm(name).is_some_and(|row| row["state"] == "grace" || row["state"] == "active")
    }

    /// What the journal of a lock manager holds, record by record.
    pub(crate) fn record(&self, name: &str) -> Vec<Value> {
        dump(Path::new(self.lm(name)["journal"].as_str().unwrap()))
    }

    /// Waits until a lock manager is as wanted.
    pub(crate) fn await_lm(&self, name: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        support::wait_for(&format!("{name}: {what}"), PATIENCE, || {
            let row = self.lm(name);
            if fits(&row) { Ok(row) } else { Err(format!("{row}\n{}", self.log())) }
        })
    }

    /// Waits until a lock manager is in a state.
    pub(crate) fn await_state(&self, name: &str, state: &str) -> Value {
        self.await_lm(name, state, |row| row["state"] == state)
    }

    /// Waits for a line of the log that has all of these words, and returns it.
    pub(crate) fn await_log(&self, words: &[&str]) -> String {
        support::wait_for(&format!("{words:?} in the log"), PATIENCE, || {
            let log = self.log();
            let found = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            found.map(str::to_owned).ok_or(log)
        })
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
        self.handle_through(SERVER.into(), &self.export, name)
    }

    /// The same through another address of the server, in any export.
    pub(crate) fn handle_through(&self, server: IpAddr, export: &Path, name: &str) -> Vec<u8> {
        let root = self.mount_through(server, export);
        let what = Diropargs3 { dir: NfsFh3 { data: &root }, name: name.as_bytes() };
        let mut nfs = Conn::tcp(asker(server), (server, 2049));
        let results = nfs.ask((100_003, 3, 3), &Lookup3args { what }).results();
        match Lookup3res::from_bytes(&results).unwrap() {
            Lookup3res::Nfs3Ok(ok) => ok.object.data.to_vec(),
            Lookup3res::Default(status, _) => panic!("LOOKUP of {name}: {status:?}"),
        }
    }

    /// The handle of an exported directory.
    pub(crate) fn mount(&self, path: &Path) -> Vec<u8> {
        self.mount_through(SERVER.into(), path)
    }

    fn mount_through(&self, server: IpAddr, path: &Path) -> Vec<u8> {
        let mut args = Vec::new();
        encode_dirpath(&path.to_str().unwrap().as_bytes(), &mut Writer::new(&mut args));
        let results = Conn::tcp(asker(server), (server, 20048)).call((100_005, 3, 1), &args).results();
        match Mountres3::from_bytes(&results).unwrap() {
            Mountres3::Mnt3Ok(ok) => ok.fhandle.to_vec(),
            Mountres3::Default(status) => panic!("MNT of {}: {status:?}", path.display()),
        }
    }

    /// What it has open below a directory.
    pub(crate) fn open_below(&self, dir: &Path) -> Vec<PathBuf> {
        let all = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        let targets = all.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        targets.filter(|target| target.starts_with(dir)).collect()
    }

    /// Its memory in use, in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// What a journal directory holds, record by record.
pub(crate) fn dump(journal: &Path) -> Vec<Value> {
    let output = Command::new(BINARY).args(["journal", "dump", "--json"]).arg(journal).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the journal in {}: {error}", journal.display());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Who asks for handles: nobody that a test uses.
fn asker(server: IpAddr) -> IpAddr {
    if server.is_ipv4() { host(250).into() } else { server }
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
