//! What can be measured, by the names that the command line has for it.
//!
//! Must never leave a lock behind that the next case would meet.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::blocked::{self, Crowd};
use crate::jobs::{Pile, Repeated};
use crate::message::{Lock, NLM_LOCK, NLM_UNLOCK};
use crate::moves;
use crate::outcome::{Outcome, Used, memory_of};
use crate::pipeline::{Job, Measured, Pipeline, Span};
use crate::target::Target;

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// LOCK and UNLOCK over so many connections with so many in flight; whether their clients hold nothing else; how many locks lie
    /// in the one file.
    Pairs { conns: usize, depth: usize, cold: bool, pile: u64 },
    /// TEST.
    Tests { conns: usize, depth: usize },
    /// So many locks, kept.
    Hold { locks: u64, files: usize },
    /// A lock manager with so many locks is given up and taken up again.
    Moves { locks: u64 },
    /// So many who wait for an exclusive lock, one after the other; or for a shared one.
    Waiters { count: u32, shared: bool },
}

/// How it is to be done.
#[derive(Clone, Debug)]
pub(crate) struct How {
    pub(crate) peer: String,
    pub(crate) from: Ipv4Addr,
    pub(crate) pid: Option<u32>,
    pub(crate) measure: Duration,
    /// What takes a number of steps, not a time, is given up after so long.
    pub(crate) most: Duration,
    pub(crate) operator: Option<moves::Operator>,
}

impl Case {
    /// `pairs:4x8`, `pairs:1x1:cold`, `pairs:4x8:pile=1000`, `tests:4x8`, `hold:1000000`, `waiters:1000`, `together:100`, `moves:1000000`.
    ///
    /// # Errors
    /// It is none of these.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("there is no case '{text}'");
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        let mut parts = rest.split(':');
        let size = parts.next().unwrap_or("");
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let by = |text: &str| -> Result<(usize, usize), String> {
            let (conns, depth) = text.split_once('x').ok_or_else(wrong)?;
            let (conns, depth) = (number(conns)? as usize, number(depth)? as usize);
            if conns == 0 || depth == 0 || conns * depth > 65_536 { Err(wrong()) } else { Ok((conns, depth)) }
        };
        match kind {
            "pairs" => {
                let (conns, depth) = by(size)?;
                let (mut cold, mut pile) = (false, 0);
                for part in parts {
                    match part.split_once('=') {
                        Some(("pile", count)) => pile = number(count)?,
                        None if part == "cold" => cold = true,
                        _ => return Err(wrong()),
                    }
                }
                Ok(Self::Pairs { conns, depth, cold, pile })
            }
            "tests" => by(size).map(|(conns, depth)| Self::Tests { conns, depth }),
            "hold" => Ok(Self::Hold { locks: number(size)?, files: 10_000 }),
            "moves" => Ok(Self::Moves { locks: number(size)? }),
            "waiters" => Ok(Self::Waiters { count: number(size)? as u32, shared: false }),
            "together" => Ok(Self::Waiters { count: number(size)? as u32, shared: true }),
            _ => Err(wrong()),
        }
    }

    /// Measures it.
    ///
    /// # Errors
    /// What went wrong.
    pub(crate) fn run(self, name: &str, target: &mut Target, how: &How) -> Result<Vec<Outcome>, String> {
        let one = match self {
            Self::Moves { locks } => return moves::run(target, how, locks).map(Vec::from),
            Self::Pairs { conns, depth, cold, pile } => {
                let pairs = Repeated::pairs;
                steady(name, target, how, Steady { conns, depth, base: !cold, pile, job: pairs })
            }
            Self::Tests { conns, depth } => {
                let tests = Repeated::tests;
                steady(name, target, how, Steady { conns, depth, base: true, pile: 0, job: tests })
            }
            Self::Hold { locks, files } => hold(name, target, how, locks, files),
            Self::Waiters { count, shared } => {
                let rounds = if shared { 20 } else { 1 };
                let began = Instant::now();
                let took = blocked::run(target, how.from, Crowd { waiters: count, shared, rounds })?;
                let mut outcome = Outcome::new(&how.peer, name, began.elapsed(), took.len(), &took);
                outcome.per_second = None;
                Ok(outcome)
            }
        };
        one.map(|outcome| vec![outcome])
    }
}

/// Some thousand requests at once bring a pile together soon.
const PILERS: (usize, usize) = (8, 128);
/// Before it is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// Of the clients' names, the files' handles, and how many requests are under way at once.
type MakeJob = fn(&[Vec<u8>], &[Vec<u8>], usize) -> Repeated;

struct Steady {
    conns: usize,
    depth: usize,
    /// Each client holds a lock that is not measured: no request is its first one.
    base: bool,
    pile: u64,
    job: MakeJob,
}

fn steady(name: &str, target: &mut Target, how: &How, what: Steady) -> Result<Outcome, String> {
    let names: Vec<_> = (0..what.conns).map(|n| format!("bench{n}").into_bytes()).collect();
    let files = if what.pile > 0 { 1 } else { what.conns };
    let handles = target.handles(files).map_err(|e| e.to_string())?;
    let base = target.handle("base").map_err(|e| e.to_string())?;
    if what.base {
        once(target, how, &mut Base { names: &names, handle: &base, next: 0, procedure: NLM_LOCK })?;
    }
    pile(target, how, &names[..1], &handles[..1], 0..what.pile, false)?;
    let mut job = (what.job)(&names, &handles, what.conns * what.depth);
    let mut pipeline = connect(target, how, (what.conns, what.depth))?;
    let span = Span { warm_up: WARM_UP, measure: Some(how.measure) };
    let mut before = Used::default();
    let measured = pipeline.run(&mut job, span, &mut || before = Used::now(how.pid))?;
    let used = Used::now(how.pid).since(before, measured.answers);
    let mut outcome = Outcome::new(&how.peer, name, measured.lasted, measured.answers, &measured.latencies);
    (outcome.server_us, outcome.generator_us) = used;
    unlock_rest(target, how, &names, &handles, what.conns * what.depth)?;
    pile(target, how, &names[..1], &handles[..1], 0..what.pile, true)?;
    if what.base {
        once(target, how, &mut Base { names: &names, handle: &base, next: 0, procedure: NLM_UNLOCK })?;
    }
    Ok(outcome)
}

fn hold(name: &str, target: &mut Target, how: &How, locks: u64, files: usize) -> Result<Outcome, String> {
    let names: Vec<_> = (0..16).map(|n| format!("holder{n}").into_bytes()).collect();
    let handles = target.handles(files).map_err(|e| e.to_string())?;
    let memory = how.pid.and_then(memory_of);
    let (mut taken, began) = (0, Instant::now());
    let before = Used::now(how.pid);
    let mut all: Option<Measured> = None;
    // In pieces, so that a slow server is given up in time.
    while taken < locks && began.elapsed() < how.most {
        let piece = (locks / 100).max(1_000).min(locks - taken);
        let measured = pile(target, how, &names, &handles, taken..taken + piece, false)?;
        taken += piece;
        match &mut all {
            Some(all) => all.latencies.add(&measured.latencies).map_err(|e| e.to_string())?,
            None => all = Some(measured),
        }
    }
    let took = began.elapsed();
    let used = Used::now(how.pid).since(before, taken);
    let grown = how.pid.and_then(memory_of).zip(memory).map(|(now, then)| now.saturating_sub(then));
    let latencies = all.ok_or("nothing to hold")?.latencies;
    let mut outcome = Outcome::new(&how.peer, name, took, taken, &latencies);
    (outcome.server_us, outcome.generator_us) = used;
    outcome.bytes_per_lock = grown.map(|grown| grown as f64 / taken as f64);
    pile(target, how, &names, &handles, 0..taken, true)?;
    Ok(outcome)
}

fn connect(target: &Target, how: &How, (conns, depth): (usize, usize)) -> Result<Pipeline, String> {
    Pipeline::connect(Some(how.from), target.nlm, conns, depth).map_err(|e| format!("cannot connect: {e}"))
}

pub(crate) fn pile(
    target: &Target,
    how: &How,
    names: &[Vec<u8>],
    handles: &[Vec<u8>],
    range: std::ops::Range<u64>,
    unlock: bool,
) -> Result<Measured, String> {
    once(target, how, &mut Pile { names, handles, range, unlock })
}

/// Runs a job to its end.
fn once(target: &Target, how: &How, job: &mut dyn Job) -> Result<Measured, String> {
    connect(target, how, PILERS)?.run(job, Span { warm_up: Duration::ZERO, measure: None }, &mut || {})
}

/// A pair that was cut off may have left its lock.
fn unlock_rest(
    target: &Target,
    how: &How,
    names: &[Vec<u8>],
    handles: &[Vec<u8>],
    slots: usize,
) -> Result<(), String> {
    let mut everything = Everything { names, handles, next: 0, slots };
    once(target, how, &mut everything).map(|_| ())
}

/// Locks the same byte range of one file for each client, or unlocks it.
struct Base<'a> {
    names: &'a [Vec<u8>],
    handle: &'a [u8],
    next: usize,
    procedure: u32,
}

impl Job for Base<'_> {
    fn next(&mut self, _slot: usize, xid: u32, out: &mut Vec<u8>) -> bool {
        let Some(name) = self.names.get(self.next) else { return false };
        let offset = 16 * self.next as u64;
        self.next += 1;
        let lock = Lock { name, handle: self.handle, owner: 0, offset, len: 8, exclusive: true };
        crate::pipeline::again(&crate::message::request(self.procedure, &lock, false), xid, out);
        true
    }

    fn answered(&mut self, _slot: usize, status: u32) -> Result<(), String> {
        if status == 0 { Ok(()) } else { Err(format!("a client's first lock was answered status {status}")) }
    }
}

/// Unlocks all of a file for each owner of [`Repeated`].
struct Everything<'a> {
    names: &'a [Vec<u8>],
    handles: &'a [Vec<u8>],
    next: usize,
    slots: usize,
}

impl Job for Everything<'_> {
    fn next(&mut self, _slot: usize, xid: u32, out: &mut Vec<u8>) -> bool {
        if self.next == self.slots {
            return false;
        }
        let conn = self.next / (self.slots / self.names.len());
        let handle = &self.handles[conn % self.handles.len()];
        let owner = self.next as u32 + 1;
        self.next += 1;
        let lock = Lock { name: &self.names[conn], handle, owner, offset: 0, len: 0, exclusive: true };
        crate::pipeline::again(&crate::message::request(NLM_UNLOCK, &lock, false), xid, out);
        true
    }

    fn answered(&mut self, _slot: usize, status: u32) -> Result<(), String> {
        if status == 0 { Ok(()) } else { Err(format!("an UNLOCK was answered status {status}")) }
    }
}
