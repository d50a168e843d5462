//! The host's end of the guest agent (`tests/vm/guest/agent.py`): requests over a Unix socket that qemu joins to a
//! virtio-serial port. It works while the guest's network is cut.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a request that should be quick may take on a loaded machine that emulates its guests.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A connection to the agent of one running guest.
#[derive(Clone)]
pub(crate) struct Agent(Arc<Shared>);

struct Shared {
    name: String,
    out: Mutex<UnixStream>,
    waiting: Mutex<Waiting>,
    next: AtomicU64,
}

/// Where answers go. `None`: the guest is gone.
type Waiting = Option<HashMap<u64, mpsc::Sender<(Value, Instant)>>>;

/// Why a request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The system call failed; its errno by name, such as "EAGAIN".
    Errno(String),
    /// The lock owner ended before it could answer: its exit status, or minus the signal.
    Died(i64),
    /// The guest or its agent is gone, or the request was wrong.
    Agent(String),
    /// No answer yet.
    Pending,
}

/// A request on its way.
pub(crate) struct Pending {
    answer: mpsc::Receiver<(Value, Instant)>,
    sent: Instant,
}

/// A process in the guest that holds locks.
pub(crate) struct Owner {
    agent: Agent,
    name: String,
}

/// A file that an owner has open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File(u64);

/// Read (shared) or write (exclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// What F_GETLK found in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) kind: Kind,
    pub(crate) start: u64,
    /// 0: to end of file.
    pub(crate) len: u64,
}

impl Agent {
    /// Connects to qemu's socket and waits until the agent says that it is ready. `alive` tells why it is hopeless.
    pub(crate) fn connect(name: &str, socket: &Path, mut alive: impl FnMut() -> Result<(), String>) -> Self {
        let limit = Duration::from_secs(180);
        let stream = super::wait_for("qemu's agent socket", limit, || {
            alive().unwrap_or_else(|why| panic!("{name}: {why}"));
            UnixStream::connect(socket).map_err(|e| e.to_string())
        });
        let agent = Self(Arc::new(Shared {
            name: name.into(),
            out: Mutex::new(stream.try_clone().expect("clone")),
            waiting: Mutex::new(Some(HashMap::new())),
            next: AtomicU64::new(1),
        }));
        let (ready_tx, ready_rx) = mpsc::channel();
        let shared = Arc::downgrade(&agent.0);
        std::thread::spawn(move || read_answers(stream, &shared, &ready_tx));
        super::wait_for("the guest's agent", limit, || {
            alive().unwrap_or_else(|why| panic!("{name}: {why}"));
            ready_rx.try_recv().map_err(|e| e.to_string())
        });
        agent
    }

    /// Sends a request; `request` is an object with `op` and its arguments.
    pub(crate) fn send(&self, mut request: Value) -> Pending {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        request["id"] = json!(id);
        let (tx, rx) = mpsc::channel();
        if let Some(waiting) = self.0.waiting.lock().unwrap().as_mut() {
            waiting.insert(id, tx);
        }
        let line = request.to_string() + "\n";
        // A guest that is gone shows as a closed channel when the answer is waited for.
        let _ = self.0.out.lock().unwrap().write_all(line.as_bytes());
        Pending { answer: rx, sent: Instant::now() }
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&self, request: Value) -> Result<Value, Failure> {
        self.send(request).wait(SOON)
    }

    /// Runs a shell command in the guest; panics unless it exits with 0. Returns its standard output.
    pub(crate) fn sh(&self, script: &str) -> String {
        self.sh_within(script, SOON)
    }

    /// The same for one that takes long.
    pub(crate) fn sh_within(&self, script: &str, limit: Duration) -> String {
        let (rc, out, err) = self.try_sh(script, limit);
        assert!(rc == 0, "{}: `{script}` exited with {rc}\n{out}{err}", self.0.name);
        out
    }

    /// Runs a shell command; its exit status, standard output and standard error.
    pub(crate) fn try_sh(&self, script: &str, limit: Duration) -> (i64, String, String) {
        self.run(json!({"op": "run", "sh": script}), limit)
    }

    /// Starts a shell command; the answer, when it ends, has `rc`, `out` and `err`.
    pub(crate) fn start_sh(&self, script: &str) -> Pending {
        self.send(json!({"op": "run", "sh": script}))
    }

    /// Runs a shell command as an ordinary user.
    pub(crate) fn try_sh_as(&self, uid: u32, groups: &[u32], script: &str) -> (i64, String, String) {
        self.run(json!({"op": "run", "sh": script, "uid": uid, "gid": uid, "groups": groups}), SOON)
    }

    fn run(&self, request: Value, limit: Duration) -> (i64, String, String) {
        let answer = self.send(request.clone()).wait(limit);
        let answer = answer.unwrap_or_else(|e| panic!("{}: {request}: {e:?}", self.0.name));
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        (answer["rc"].as_i64().unwrap_or(-1), text("out"), text("err"))
    }

    /// The guest's kernel log.
    pub(crate) fn dmesg(&self) -> String {
        self.ask(json!({"op": "dmesg"})).expect("dmesg")["text"].as_str().unwrap_or_default().to_owned()
    }

    /// A new process that can hold locks, root in the guest.
    pub(crate) fn owner(&self, name: &str) -> Owner {
        self.ask(json!({"op": "spawn", "owner": name})).unwrap_or_else(|e| panic!("owner {name}: {e:?}"));
        Owner { agent: self.clone(), name: name.into() }
    }

    /// Kills every owner that is left, so that the next scenario starts clean.
    pub(crate) fn kill_owners(&self) {
        let left = self.ask(json!({"op": "owners"})).expect("owners");
        for owner in left["owners"].as_array().into_iter().flatten() {
            let _ = self.ask(json!({"op": "kill", "owner": owner, "signal": "SIGKILL"}));
        }
        super::wait_for("killed owners to end", SOON, || {
            let left = self.ask(json!({"op": "owners"})).expect("owners");
            if left["owners"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(left.to_string()) }
        });
    }
}

impl Pending {
    /// The result, waited for at most this long.
    pub(crate) fn wait(&self, limit: Duration) -> Result<Value, Failure> {
        self.wait_timed(limit).map(|(result, _)| result)
    }

    /// The result and the time between sending and the answer's arrival, as the host saw it.
    pub(crate) fn wait_timed(&self, limit: Duration) -> Result<(Value, Duration), Failure> {
        let (answer, at) = match self.answer.recv_timeout(limit) {
            Ok(answer) => answer,
            Err(mpsc::RecvTimeoutError::Timeout) => return Err(Failure::Pending),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Failure::Agent("the guest is gone".into()));
            }
        };
        if answer["ok"] == json!(true) {
            return Ok((answer["result"].clone(), at.duration_since(self.sent)));
        }
        if let Some(code) = answer["code"].as_str() {
            return Err(Failure::Errno(code.to_owned()));
        }
        if let Some(status) = answer["died"].as_i64() {
            return Err(Failure::Died(status));
        }
        Err(Failure::Agent(answer["error"].as_str().unwrap_or("?").to_owned()))
    }

    /// Panics unless the answer is still out after this long.
    pub(crate) fn must_still_wait(&self, what: &str, span: Duration) {
        let early = self.wait(span);
        assert!(early == Err(Failure::Pending), "{what}: should still wait, but got {early:?}");
    }
}

impl Owner {
    fn send(&self, mut request: Value) -> Pending {
        request["owner"] = json!(self.name);
        self.agent.send(request)
    }

    fn must(&self, request: Value) -> Value {
        let told = request.to_string();
        self.send(request).wait(SOON).unwrap_or_else(|e| panic!("{}: {told}: {e:?}", self.name))
    }

    /// Opens for reading and writing, creating it if needed.
    pub(crate) fn open(&self, path: &str) -> File {
        File(self.must(json!({"op": "open", "path": path}))["file"].as_u64().expect("file number"))
    }

    /// Closes; POSIX lets go of all this process's locks on the file.
    pub(crate) fn close(&self, file: File) {
        self.must(json!({"op": "close", "file": file.0}));
    }

    /// Closes everything.
    pub(crate) fn close_all(&self) {
        self.must(json!({"op": "close_all"}));
    }

    /// fcntl F_SETLK. `len` 0: to end of file.
    pub(crate) fn try_lock(&self, file: File, kind: Kind, start: u64, len: u64) -> Result<(), Failure> {
        self.try_lock_within(file, kind, start, len, SOON)
    }

    /// The same where the answer may be long in coming, as in a grace window.
    pub(crate) fn try_lock_within(
        &self,
        file: File,
        kind: Kind,
        start: u64,
        len: u64,
        limit: Duration,
    ) -> Result<(), Failure> {
        self.send(lock_request(file, kind.code(), start, len, false)).wait(limit).map(|_| ())
    }

    /// fcntl F_SETLK that must succeed.
    pub(crate) fn lock(&self, file: File, kind: Kind, start: u64, len: u64) {
        let result = self.try_lock(file, kind, start, len);
        assert!(result.is_ok(), "{}: lock {kind:?} {start}+{len}: {result:?}", self.name);
    }

    /// fcntl F_SETLK, not waited for: in a grace window a client may be long in answering.
    pub(crate) fn lock_now(&self, file: File, kind: Kind, start: u64, len: u64) -> Pending {
        self.send(lock_request(file, kind.code(), start, len, false))
    }

    /// fcntl F_SETLKW, answered once it is granted or has failed.
    pub(crate) fn lock_wait(&self, file: File, kind: Kind, start: u64, len: u64) -> Pending {
        self.send(lock_request(file, kind.code(), start, len, true))
    }

    /// fcntl F_UNLCK.
    pub(crate) fn unlock(&self, file: File, start: u64, len: u64) {
        self.must(lock_request(file, "u", start, len, false));
    }

    /// fcntl F_GETLK: what stands in the way of such a lock.
    pub(crate) fn test(&self, file: File, kind: Kind, start: u64, len: u64) -> Option<Holder> {
        let found =
            self.must(json!({"op": "test", "file": file.0, "type": kind.code(), "start": start, "len": len}));
        let kind = match found["type"].as_str() {
            Some("r") => Kind::Read,
            Some("w") => Kind::Write,
            _ => return None,
        };
        let number = |key: &str| found[key].as_u64().expect("a number");
        Some(Holder { kind, start: number("start"), len: number("len") })
    }

    /// flock(2) with LOCK_NB.
    pub(crate) fn try_flock(&self, file: File, kind: Kind) -> Result<(), Failure> {
        let request = json!({"op": "flock", "file": file.0, "type": kind.code(), "wait": false});
        self.send(request).wait(SOON).map(|_| ())
    }

    /// flock(2) that waits.
    pub(crate) fn flock_wait(&self, file: File, kind: Kind) -> Pending {
        self.send(json!({"op": "flock", "file": file.0, "type": kind.code(), "wait": true}))
    }

    /// flock(2) LOCK_UN.
    pub(crate) fn flock_unlock(&self, file: File) {
        self.must(json!({"op": "flock", "file": file.0, "type": "u", "wait": false}));
    }

    /// `count` write locks of one byte, `stride` apart, from byte `start`.
    pub(crate) fn lock_many(&self, file: File, count: u64, start: u64, stride: u64) -> Pending {
        self.send(json!({"op": "lock_many", "file": file.0, "type": "w", "count": count, "start": start,
                         "stride": stride, "len": 1}))
    }

    /// Unlocks as many, one by one.
    pub(crate) fn unlock_many(&self, file: File, count: u64, start: u64, stride: u64) -> Pending {
        self.send(json!({"op": "lock_many", "file": file.0, "type": "u", "count": count, "start": start,
                         "stride": stride, "len": 1}))
    }

    /// A write lock on the first byte of each of `count` files, named by number after `prefix`.
    pub(crate) fn lock_files(&self, prefix: &str, count: u64) -> Pending {
        self.send(json!({"op": "lock_files", "path": prefix, "type": "w", "count": count}))
    }

    /// Which of the first bytes of `count` files, named by number after `prefix`, are free for a write lock.
    pub(crate) fn free_files(&self, prefix: &str, count: u64) -> Vec<u64> {
        let found = self.must(json!({"op": "free_files", "path": prefix, "count": count}));
        found["free"].as_array().expect("a list").iter().filter_map(Value::as_u64).collect()
    }

    /// Takes byte `start`, adds one to the number in the file, lets go; over and over until `stop` exists in the guest. The answer
    /// has `cycles`.
    pub(crate) fn churn(&self, path: &str, start: u64, stop: &str) -> Pending {
        self.send(json!({"op": "churn", "path": path, "start": start, "stop": stop}))
    }

    /// `count` further processes that each wait for a write lock on the first byte, have it, and let go.
    /// The answer has `order`, `most_inside` and `failed`.
    pub(crate) fn swarm(&self, path: &str, count: u64) -> Pending {
        self.send(json!({"op": "swarm", "path": path, "type": "w", "start": 0, "len": 1, "count": count}))
    }

    /// A signal by name. SIGUSR1 interrupts the system call it is in, SIGKILL is a sudden death.
    pub(crate) fn signal(&self, signal: &str) {
        let request = json!({"op": "kill", "owner": self.name, "signal": signal});
        self.agent.ask(request).unwrap_or_else(|e| panic!("signal to {}: {e:?}", self.name));
    }

    /// Ends it by exit(2), and returns once it is gone.
    pub(crate) fn exit(self) {
        let end = self.send(json!({"op": "exit"})).wait(SOON);
        assert!(matches!(end, Err(Failure::Died(_))), "{} should have ended: {end:?}", self.name);
    }
}

impl Kind {
    fn code(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Write => "w",
        }
    }
}

fn lock_request(file: File, kind: &str, start: u64, len: u64, wait: bool) -> Value {
    json!({"op": "lock", "file": file.0, "type": kind, "start": start, "len": len, "wait": wait})
}

/// Gives each answer to whoever waits for it, until the guest is gone.
fn read_answers(stream: UnixStream, shared: &std::sync::Weak<Shared>, ready: &mpsc::Sender<()>) {
    for line in BufReader::new(stream).lines() {
        let (Ok(line), Some(shared)) = (line, shared.upgrade()) else { break };
        let at = Instant::now();
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            eprintln!("{}: not JSON from the agent: {line}", shared.name);
            continue;
        };
        if message["event"] == json!("ready") {
            let _ = ready.send(());
        } else if let Some(id) = message["id"].as_u64() {
            let to = shared.waiting.lock().unwrap().as_mut().and_then(|w| w.remove(&id));
            if let Some(to) = to {
                let _ = to.send((message, at));
            }
        }
    }
    if let Some(shared) = shared.upgrade() {
        // Dropping the senders tells everyone who waits.
        shared.waiting.lock().unwrap().take();
    }
}
