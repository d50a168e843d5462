//! Many who wait for one range: how long after an UNLOCK the next one hears of it.
//!
//! Must never take an answer for a callback.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::callbacks::{self, Came};
use crate::message::{BLOCKED, GRANTED, Lock, NLM_LOCK, NLM_UNLOCK, request, status, whole};
use crate::pipeline::again;
use crate::target::Target;

/// A callback that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(30);
const HOLDER: u32 = 1;
/// How long a lock is held.
const HELD: Duration = Duration::from_millis(1);

/// Who waits, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    pub(crate) waiters: u32,
    /// They wait for a shared lock: all get it at once.
    pub(crate) shared: bool,
    pub(crate) rounds: u32,
}

/// From UNLOCK to callback, in nanoseconds. One after the other each waiter; or, of shared ones, the last of all.
///
/// # Errors
/// Something goes another way.
pub(crate) fn run(target: &mut Target, from: Ipv4Addr, crowd: Crowd) -> Result<Histogram<u64>, String> {
    let told = callbacks::start(from, target.nlm).map_err(|e| format!("the client's services: {e}"))?;
    let mut took =
        Histogram::new_with_bounds(1, PATIENCE.as_nanos() as u64 * 2, 3).map_err(|e| e.to_string())?;
    let handle = target.handle("f0").map_err(|e| e.to_string())?;
    let mut line = Line::connect(from, target).map_err(|e| e.to_string())?;
    let lock = |owner: u32, exclusive: bool| Lock {
        name: b"bench-waiters",
        handle: &handle,
        owner,
        offset: 0,
        len: 8,
        exclusive,
    };
    for _ in 0..crowd.rounds {
        line.ask(NLM_LOCK, &lock(HOLDER, true), false, GRANTED)?;
        let mut waiting = BTreeSet::new();
        for owner in HOLDER + 1..=HOLDER + crowd.waiters {
            line.ask(NLM_LOCK, &lock(owner, !crowd.shared), true, BLOCKED)?;
            waiting.insert(owner);
        }
        let mut holders = vec![HOLDER];
        while let Some(holder) = holders.pop() {
            std::thread::sleep(HELD);
            let began = Instant::now();
            line.ask(NLM_UNLOCK, &lock(holder, false), false, GRANTED)?;
            if waiting.is_empty() {
                continue;
            }
            let mut last = began;
            for _ in 0..if crowd.shared { crowd.waiters } else { 1 } {
                let (owner, at) = next(&told, &mut waiting)?;
                holders.push(owner);
                last = at;
            }
            took.saturating_record(last.saturating_duration_since(began).as_nanos() as u64);
        }
    }
    Ok(took)
}

/// The next callback that is no repetition.
fn next(told: &Receiver<Came>, waiting: &mut BTreeSet<u32>) -> Result<Came, String> {
    loop {
        let came = told.recv_timeout(PATIENCE);
        let came = came.map_err(|_| format!("no callback for {PATIENCE:?}, {} wait", waiting.len()))?;
        if waiting.remove(&came.0) {
            return Ok(came);
        }
    }
}

/// One request after the other.
struct Line {
    stream: TcpStream,
    xid: u32,
    input: Vec<u8>,
}

impl Line {
    fn connect(from: Ipv4Addr, target: &Target) -> std::io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect(&SocketAddr::V4(target.nlm).into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, xid: 0, input: Vec::new() })
    }

    fn ask(&mut self, procedure: u32, lock: &Lock<'_>, block: bool, wanted: u32) -> Result<(), String> {
        self.xid += 1;
        let mut out = Vec::new();
        again(&request(procedure, lock, block), self.xid, &mut out);
        self.stream.write_all(&out).map_err(|e| e.to_string())?;
        let mut piece = [0; 4096];
        let len = loop {
            if let Some(len) = whole(&self.input) {
                break len;
            }
            let n = self.stream.read(&mut piece).map_err(|e| format!("no answer: {e}"))?;
            if n == 0 {
                return Err("the connection is lost".into());
            }
            self.input.extend_from_slice(&piece[..n]);
        };
        let got = status(&self.input[4..len]);
        self.input.drain(..len);
        match got {
            Some((xid, status)) if xid == self.xid && status == wanted => Ok(()),
            got => Err(format!("procedure {procedure} of owner {} was answered {got:?}", lock.owner)),
        }
    }
}
