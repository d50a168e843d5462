//! A program for the tests, and a server around it. Also good for measuring the server itself.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockferry::rpc::drc::{Drc, DrcLimits};
use lockferry::rpc::server::{ListenSpec, RpcServer, ServerLimits, UdpPort};
use lockferry::rpc::{Call, Program, Responder};

/// The program's number, from the range that RFC 5531 gives to users.
pub(crate) const PROGRAM: u32 = 0x2000_1234;
/// Sends its arguments back.
pub(crate) const ECHO: u32 = 1;
/// Counts, and answers with the count. Cached.
pub(crate) const COUNT: u32 = 2;
/// Is answered when RELEASE comes.
pub(crate) const HOLD: u32 = 3;
/// Answers all HOLDs, last first.
pub(crate) const RELEASE: u32 = 4;
/// Takes up to 1 MiB and answers with the length.
pub(crate) const LARGE: u32 = 5;
/// Answers with the local and the peer's address as text.
pub(crate) const WHERE: u32 = 6;
/// Never answers.
pub(crate) const SILENT: u32 = 7;
/// Answers with as many zero bytes as its argument says.
pub(crate) const ZEROS: u32 = 8;
/// Like COUNT, but never answers.
pub(crate) const COUNT_SILENTLY: u32 = 9;

/// Panics.
pub(crate) const PANIC: u32 = 10;

/// The program.
#[derive(Default)]
pub(crate) struct Echo {
    pub(crate) count: AtomicU32,
    pub(crate) held: Mutex<Vec<Responder>>,
    pub(crate) unserved: Mutex<Vec<IpAddr>>,
}

impl Program for Echo {
    fn number(&self) -> u32 {
        PROGRAM
    }
    fn versions(&self) -> &[u32] {
        &[2, 3]
    }
    fn has_procedure(&self, version: u32, procedure: u32) -> bool {
        procedure <= PANIC && (version == 3 || procedure != WHERE)
    }
    fn max_args(&self, _: u32, procedure: u32) -> usize {
        match procedure {
            LARGE => 1 << 20,
            _ => 1024,
        }
    }
    fn is_cached(&self, _: u32, procedure: u32) -> bool {
        matches!(procedure, COUNT | COUNT_SILENTLY)
    }
    fn is_served(&self, local: &IpAddr) -> bool {
        !self.unserved.lock().unwrap().contains(local)
    }
    fn dispatch(&self, call: Call, responder: Responder) {
        let number = |at: usize| u32::from_be_bytes(call.args[at..at + 4].try_into().unwrap());
        match call.info.procedure {
            ECHO => responder.success_with(|w| w.buffer().extend_from_slice(&call.args)),
            COUNT => responder.success(&(self.count.fetch_add(1, Ordering::SeqCst) + 1)),
            HOLD => self.held.lock().unwrap().push(responder),
            RELEASE => {
                let held = std::mem::take(&mut *self.held.lock().unwrap());
                responder.success(&());
                // Not on the connection's thread, as a journal would do it.
                std::thread::spawn(move || held.into_iter().rev().for_each(|r| r.success(&7u32)));
            }
            LARGE => responder.success(&(call.args.len() as u32)),
            WHERE => {
                let text = format!("{} {}", call.info.local, call.info.peer);
                responder.success_with(|w| w.opaque_var(text.as_bytes()));
            }
            ZEROS => responder.success_with(|w| w.opaque_fixed(&vec![0; number(0) as usize])),
            COUNT_SILENTLY => {
                self.count.fetch_add(1, Ordering::SeqCst);
            }
            PANIC => panic!("on purpose"),
            _ => {}
        }
    }
}

/// A served echo program on a port of its own.
pub(crate) struct Served {
    pub(crate) server: RpcServer,
    pub(crate) echo: Arc<Echo>,
    pub(crate) port: u16,
    pub(crate) udp: UdpPort,
}

/// Serves with the given limits. A runtime of its own keeps it alive until it is dropped.
pub(crate) fn serve_with(limits: ServerLimits) -> Served {
    let server = RpcServer::new(limits, Arc::new(Drc::new(DrcLimits::default())));
    let spec = ListenSpec { name: "echo".into(), bind: Vec::new(), port: 0, udp: true };
    let bound = server.bind(&spec).unwrap();
    let (port, udp) = (bound.port(), bound.udp());
    let echo = Arc::new(Echo::default());
    server.serve(bound, vec![echo.clone()]).unwrap();
    Served { server, echo, port, udp }
}

/// Serves with the default limits.
pub(crate) fn serve() -> Served {
    serve_with(ServerLimits::default())
}

/// Waits until `done`, 10 s at the most; then the test has failed.
pub(crate) async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}
