//! A lock manager with very many locks is given up and taken up again: how long that takes, and what the clients of another address feel.
//!
//! Must never take the answer of the address that stays for one of the address that moves.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::case::{How, pile};
use crate::jobs::Repeated;
use crate::message::{Lock, NLM_LOCK, NLM_UNLOCK, request, status, whole};
use crate::outcome::Outcome;
use crate::pipeline::{Job, Measured, Pipeline, Span, again};
use crate::target::Target;

/// How scripts reach the server, and the address that moves.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub(crate) program: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) floating: Ipv4Addr,
}

/// The load on the address that stays: so many connections with one call in flight each.
const CONNS: usize = 4;
/// Between two looks whether the address that moves grants again.
const LOOK: Duration = Duration::from_millis(1);
/// It must do so within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two outcomes: `unlock_ip:N` and `start_grace:N`. Their latencies are those of the address that stays, meanwhile; their seconds are those
/// of the command, and of the time until the first lock that conflicts with nothing was granted after it began.
///
/// # Errors
/// Something goes another way.
pub(crate) fn run(target: &mut Target, how: &How, locks: u64) -> Result<[Outcome; 2], String> {
    let operator = how.operator.as_ref().ok_or("it needs --lockferry, --socket and --floating")?;
    let names: Vec<_> = (0..16).map(|n| format!("holder{n}").into_bytes()).collect();
    let handles = target.handles(10_000).map_err(|e| e.to_string())?;
    let moving = target.at(operator.floating);
    pile(&moving, how, &names, &handles, 0..locks, false)?;
    let feel = Load::start(target, how)?;
    let began = Instant::now();
    operator.tell("unlock-ip")?;
    let took = began.elapsed();
    let felt = feel.stop()?;
    let released =
        Outcome::new(&how.peer, &format!("unlock_ip:{locks}"), took, felt.answers, &felt.latencies);
    let feel = Load::start(target, how)?;
    let began = Instant::now();
    let asks = std::thread::scope(|scope| {
        let first = scope.spawn(|| first_grant(&moving, how, &handles[0]));
        operator.tell("start-grace")?;
        first.join().map_err(|_| "the one who asks has panicked".to_owned())?
    })?;
    let took = asks.saturating_duration_since(began);
    let felt = feel.stop()?;
    let taken = Outcome::new(&how.peer, &format!("start_grace:{locks}"), took, felt.answers, &felt.latencies);
    operator.tell("end-grace")?;
    Ok([released, taken].map(|outcome| Outcome { per_second: None, ..outcome }))
}

impl Operator {
    fn tell(&self, verb: &str) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        command.arg(verb).arg(self.floating.to_string()).arg("--socket").arg(&self.socket);
        let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{verb}: {}", String::from_utf8_lossy(&output.stderr))),
        }
    }
}

/// Clients of the address that stays.
struct Load {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<Measured, String>>,
}

/// Goes on until it is told to stop.
struct Until {
    job: Repeated,
    stop: Arc<AtomicBool>,
}

impl Job for Until {
    fn next(&mut self, slot: usize, xid: u32, out: &mut Vec<u8>) -> bool {
        !(self.stop.load(Ordering::Relaxed) && self.job.is_even(slot)) && self.job.next(slot, xid, out)
    }

    fn answered(&mut self, slot: usize, status: u32) -> Result<(), String> {
        self.job.answered(slot, status)
    }
}

impl Load {
    fn start(target: &mut Target, how: &How) -> Result<Self, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let names: Vec<_> = (0..CONNS).map(|n| format!("stays{n}").into_bytes()).collect();
        let handle = target.handle("base").map_err(|e| e.to_string())?;
        let mut job = Until { job: Repeated::pairs(&names, &[handle], CONNS), stop: stop.clone() };
        let connected = Pipeline::connect(Some(how.from), target.nlm, CONNS, 1);
        let mut pipeline = connected.map_err(|e| format!("cannot connect: {e}"))?;
        let thread = std::thread::spawn(move || {
            pipeline.run(&mut job, Span { warm_up: Duration::ZERO, measure: None }, &mut || {})
        });
        Ok(Self { stop, thread })
    }

    fn stop(self) -> Result<Measured, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the load has panicked".to_owned())?
    }
}

/// Asks the address that moves for a lock that conflicts with nothing, anew for each look, until it is granted.
fn first_grant(moving: &Target, how: &How, handle: &[u8]) -> Result<Instant, String> {
    let began = Instant::now();
    let lock = Lock { name: b"newcomer", handle, owner: 1, offset: 1 << 50, len: 8, exclusive: true };
    while began.elapsed() < PATIENCE {
        if let Some(0) = ask_once(moving, how, NLM_LOCK, &lock) {
            let granted = Instant::now();
            return match ask_once(moving, how, NLM_UNLOCK, &lock) {
                Some(0) => Ok(granted),
                other => Err(format!("the UNLOCK of the first lock was answered {other:?}")),
            };
        }
        std::thread::sleep(LOOK);
    }
    Err(format!("no lock was granted for {PATIENCE:?}"))
}

/// The status of one request over a connection of its own; `None`: the address does not answer.
fn ask_once(moving: &Target, how: &How, procedure: u32, lock: &Lock<'_>) -> Option<u32> {
    use std::io::{Read as _, Write as _};
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).ok()?;
    socket.bind(&std::net::SocketAddr::from((how.from, 0)).into()).ok()?;
    socket.connect(&std::net::SocketAddr::V4(moving.nlm).into()).ok()?;
    socket.set_tcp_nodelay(true).ok()?;
    let mut stream = std::net::TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut out = Vec::new();
    again(&request(procedure, lock, false), 1, &mut out);
    stream.write_all(&out).ok()?;
    let (mut input, mut piece) = (Vec::new(), [0; 256]);
    let len = loop {
        if let Some(len) = whole(&input) {
            break len;
        }
        match stream.read(&mut piece).ok()? {
            0 => return None,
            n => input.extend_from_slice(&piece[..n]),
        }
    };
    status(&input[4..len]).map(|(_, status)| status)
}
