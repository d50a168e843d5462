//! Behaviour of the program against a scripted lock service: what reaches the service, and what the client is told.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lockferry_xdr::nlm::{Nlm4Lock, Nlm4Lockargs, Nlm4Testargs, Nlm4Unlockargs, NlmLock, NlmLockargs};
use lockferry_xdr::{Encode, Reader};

use super::*;
use crate::rpc::dispatch::{Action, Router, run};
use crate::rpc::drc::{Drc, DrcLimits};
use crate::rpc::{Cred, ReplySink};
use crate::state::{Holder, Range};

const HANDLE: &[u8] = b"handle-of-a-file";

/// Notes what it is asked, and answers what it is told to.
struct Script {
    asked: Mutex<Vec<String>>,
    reply: Reply,
    stay: AtomicU64,
}

impl LockService for Script {
    fn next_token(&self) -> Token {
        Token(1)
    }

    fn submit(&self, _: Token, command: Command<'_>, answer: Answer) {
        let text = match command {
            Command::Lock(r) => format!(
                "LOCK {} {:?} block={} reclaim={} state={} monitored={}",
                r.range, r.mode, r.block, r.reclaim, r.state, r.monitored
            ),
            Command::Unlock { range, .. } => format!("UNLOCK {range}"),
            Command::Cancel { range, .. } => format!("CANCEL {range}"),
            Command::Test { range, .. } => format!("TEST {range}"),
            other => format!("{other:?}"),
        };
        self.asked.lock().unwrap().push(text);
        answer.send(self.reply.clone());
    }

    fn say(&self, _: IpAddr, answer: Answer, reply: Reply) {
        answer.send(reply);
    }

    fn stay(&self, _: IpAddr) -> u64 {
        self.stay.load(Ordering::Relaxed)
    }

    fn is_bound_to(&self, _: &[u8], _: IpAddr) -> bool {
        true
    }

    fn granted_res(&self, cookie: &[u8], _: &CallInfo, accepted: bool) {
        self.asked.lock().unwrap().push(format!("GRANTED_RES {cookie:?} {accepted}"));
    }

    fn has_monitor(&self) -> bool {
        false
    }

    fn monitor_notice(&self, _: &[u8], _: u32, _: [u8; 16], _: Responder) {}
}

/// One file that everybody may lock, once it has been looked at.
struct OneFile {
    looked: Mutex<u32>,
    verdict: Result<(), LockRefusal>,
}

impl LockFiles for OneFile {
    fn key(&self, handle: &[u8]) -> Result<FileKey, LockRefusal> {
        if handle == HANDLE { Ok(FileKey(handle.into())) } else { Err(LockRefusal::Stale) }
    }
    fn cached(&self, _: &[u8], _: IpAddr, _: &Cred, _: bool) -> Option<Result<(), LockRefusal>> {
        None
    }
    fn check(&self, _: &[u8], _: IpAddr, _: &Cred, _: bool) -> Result<(), LockRefusal> {
        *self.looked.lock().unwrap() += 1;
        self.verdict
    }
    fn may_reclaim(&self, _: &[u8], _: IpAddr, _: bool) -> Result<(), LockRefusal> {
        Ok(())
    }
    fn path(&self, _: &FileKey) -> Option<PathBuf> {
        None
    }
    fn find_path(&self, _: &FileKey) -> Option<PathBuf> {
        None
    }
}

#[derive(Default)]
struct Post(Mutex<Vec<(u32, u32, Vec<u8>)>>);

impl Outbox for Post {
    fn send_res(&self, _: ReturnPath, version: u32, procedure: u32, args: Vec<u8>) {
        self.0.lock().unwrap().push((version, procedure, args));
    }
}

#[derive(Default)]
struct Replies(Mutex<Vec<Option<Vec<u8>>>>);

impl ReplySink for Replies {
    fn send_reply(self: Arc<Self>, _: u64, reply: Option<Vec<u8>>) {
        self.0.lock().unwrap().push(reply);
    }
}

struct Bench {
    service: Arc<Script>,
    files: Arc<OneFile>,
    post: Arc<Post>,
    nlm: Nlm,
    /// Whether the address goes away and comes back while a file is looked at.
    moves: Arc<AtomicBool>,
}

impl Bench {
    fn new(reply: Reply, verdict: Result<(), LockRefusal>) -> Self {
        let service = Arc::new(Script { asked: Mutex::default(), reply, stay: AtomicU64::new(1) });
        let files = Arc::new(OneFile { looked: Mutex::new(0), verdict });
        let post = Arc::new(Post::default());
        let moves = Arc::new(AtomicBool::new(false));
        let (node, moved) = (service.clone(), moves.clone());
        let spawn: Spawn = Box::new(move |_, job| {
            if moved.load(Ordering::Relaxed) {
                node.stay.fetch_add(1, Ordering::Relaxed);
            }
            job();
            true
        });
        let nlm = Nlm::new(service.clone(), files.clone(), Results::new(post.clone()), spawn);
        Self { service, files, post, nlm, moves }
    }

    /// The results of one call; `None`: silence.
    fn call(&self, version: u32, procedure: u32, args: &impl Encode) -> Option<Vec<u8>> {
        let sink = Arc::new(Replies::default());
        let call = Call { info: info(version, procedure), args: Bytes::from(args.to_bytes()) };
        self.nlm.dispatch(call, Responder::new(sink.clone(), 0, 7));
        let replies = std::mem::take(&mut *sink.0.lock().unwrap());
        assert_eq!(replies.len(), 1, "exactly one answer, or one silence");
        replies.into_iter().next().flatten().map(|r| r[24..].to_vec())
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.service.asked.lock().unwrap())
    }
}

fn info(version: u32, procedure: u32) -> CallInfo {
    CallInfo {
        peer: SocketAddr::from(([10, 0, 0, 5], 700)),
        local: SocketAddr::from(([10, 1, 1, 2], 32803)),
        transport: Transport::Tcp,
        xid: 7,
        program: PROGRAM,
        version,
        procedure,
        cred: Cred::None,
    }
}

fn lock4(handle: &[u8], offset: u64, len: u64) -> Nlm4Lock<'_> {
    Nlm4Lock { caller_name: b"client", fh: handle, oh: b"7@client", svid: 7, l_offset: offset, l_len: len }
}

fn lockargs(handle: &[u8], offset: u64, len: u64, reclaim: bool) -> Nlm4Lockargs<'_> {
    let alock = lock4(handle, offset, len);
    Nlm4Lockargs { cookie: b"cook", block: true, exclusive: true, alock, reclaim, state: 5 }
}

/// An `nlm_res`: cookie and number.
fn status(results: &[u8]) -> (Vec<u8>, u32) {
    let mut r = Reader::new(results);
    let cookie = r.opaque_var(1024).unwrap().to_vec();
    let number = r.u32().unwrap();
    r.finish().unwrap();
    (cookie, number)
}

#[test]
fn a_lock_reaches_the_service_after_one_look_at_the_file() {
    let bench = Bench::new(Reply::Status(Status::Granted), Ok(()));
    let results = bench.call(4, 2, &lockargs(HANDLE, 10, 0, false)).unwrap();
    assert_eq!(status(&results), (b"cook".to_vec(), 0));
    assert_eq!(bench.asked(), ["LOCK 10-EOF Exclusive block=true reclaim=false state=5 monitored=true"]);
    assert_eq!(*bench.files.looked.lock().unwrap(), 1);
}

#[test]
fn a_lock_of_an_earlier_stay_is_not_granted_in_the_next() {
    let bench = Bench::new(Reply::Status(Status::Granted), Ok(()));
    bench.moves.store(true, Ordering::Relaxed);
    assert_eq!(bench.call(4, 2, &lockargs(HANDLE, 10, 0, false)), None);
    assert_eq!(bench.asked(), [""; 0]);
}

#[test]
fn a_reclaim_never_looks_at_the_file() {
    let bench = Bench::new(Reply::Status(Status::Granted), Err(LockRefusal::Stale));
    let results = bench.call(4, 2, &lockargs(HANDLE, 0, 1, true)).unwrap();
    assert_eq!(status(&results).1, 0);
    assert_eq!(*bench.files.looked.lock().unwrap(), 0);
}

#[test]
fn what_the_export_refuses_never_reaches_the_service() {
    for (refusal, number) in [(LockRefusal::Stale, 7), (LockRefusal::ReadOnly, 6), (LockRefusal::Access, 9)] {
        let bench = Bench::new(Reply::Status(Status::Granted), Err(refusal));
        let results = bench.call(4, 2, &lockargs(HANDLE, 0, 1, false)).unwrap();
        assert_eq!(status(&results).1, number);
        assert!(bench.asked().is_empty());
    }
}

#[test]
fn a_strange_handle_is_stale_and_in_version_1_there_are_no_locks() {
    let bench = Bench::new(Reply::Status(Status::Granted), Ok(()));
    assert_eq!(status(&bench.call(4, 2, &lockargs(b"strange", 0, 1, false)).unwrap()).1, 7);
    let alock = NlmLock { caller_name: b"client", fh: b"strange", oh: b"o", svid: 1, l_offset: 0, l_len: 1 };
    let narrow = NlmLockargs { cookie: b"", block: false, exclusive: false, alock, reclaim: false, state: 0 };
    assert_eq!(status(&bench.call(1, 2, &narrow).unwrap()).1, 2);
}

#[test]
fn a_range_beyond_the_last_byte_is_too_big_to_lock_but_not_to_unlock() {
    let bench = Bench::new(Reply::Status(Status::Granted), Ok(()));
    let results = bench.call(4, 2, &lockargs(HANDLE, u64::MAX - 1, 9, false)).unwrap();
    assert_eq!(status(&results).1, 8);
    let unlock = Nlm4Unlockargs { cookie: b"", alock: lock4(HANDLE, 100, u64::MAX) };
    assert_eq!(status(&bench.call(4, 4, &unlock).unwrap()).1, 0);
    assert_eq!(bench.asked(), ["UNLOCK 100-EOF"]);
}

#[test]
fn nm_lock_never_waits_and_is_not_monitored() {
    let bench = Bench::new(Reply::Status(Status::Granted), Ok(()));
    bench.call(4, 22, &lockargs(HANDLE, 0, 1, false)).unwrap();
    assert_eq!(bench.asked(), ["LOCK 0-0 Exclusive block=false reclaim=false state=5 monitored=false"]);
}

#[test]
fn a_denied_test_names_the_holder() {
    let holder =
        Holder { mode: Mode::Shared, svid: 9, oh: b"o".as_slice().into(), range: Range { start: 5, end: 9 } };
    let bench = Bench::new(Reply::Denied(holder), Ok(()));
    let args = Nlm4Testargs { cookie: b"c", exclusive: true, alock: lock4(HANDLE, 0, 0) };
    let results = bench.call(4, 1, &args).unwrap();
    let mut r = Reader::new(&results);
    assert_eq!(r.opaque_var(8).unwrap(), b"c");
    assert_eq!((r.u32().unwrap(), r.bool().unwrap(), r.u32().unwrap()), (1, false, 9));
    assert_eq!((r.opaque_var(8).unwrap(), r.u64().unwrap(), r.u64().unwrap()), (&b"o"[..], 5, 5));
    r.finish().unwrap();
}

#[test]
fn a_message_is_answered_by_an_empty_reply_and_a_call() {
    let bench = Bench::new(Reply::Status(Status::Blocked), Ok(()));
    assert_eq!(bench.call(4, 7, &lockargs(HANDLE, 0, 1, false)).unwrap(), b"");
    let sent = std::mem::take(&mut *bench.post.0.lock().unwrap());
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].0, sent[0].1), (4, 12));
    assert_eq!(status(&sent[0].2), (b"cook".to_vec(), 3));
}

#[test]
fn silence_is_silence() {
    let bench = Bench::new(Reply::Silent, Ok(()));
    assert_eq!(bench.call(4, 2, &lockargs(HANDLE, 0, 1, false)), None);
}

#[test]
fn a_deadlock_is_a_denial_in_version_3() {
    let bench = Bench::new(Reply::Status(Status::Deadlock), Ok(()));
    let alock = NlmLock { caller_name: b"client", fh: HANDLE, oh: b"o", svid: 1, l_offset: 0, l_len: 1 };
    let args = NlmLockargs { cookie: b"", block: true, exclusive: true, alock, reclaim: false, state: 0 };
    assert_eq!(status(&bench.call(3, 2, &args).unwrap()).1, 1);
    assert_eq!(status(&bench.call(4, 2, &lockargs(HANDLE, 0, 1, false)).unwrap()).1, 5);
}

/// Sends one asynchronous LOCK so often, each a copy of the first.
fn send_copies(nlm: Nlm, copies: u32) {
    let router = Router::new(vec![Arc::new(nlm)], Arc::new(Drc::new(DrcLimits::default())));
    let now = std::time::Instant::now();
    for _ in 0..copies {
        let args = Bytes::from(lockargs(HANDLE, 10, 0, false).to_bytes());
        match router.accept(now, Call { info: info(4, 7), args }) {
            Action::Dispatch(program, call, token) => {
                let sink = Arc::new(Replies::default());
                run(program.as_ref(), call, Responder::new(sink.clone(), 0, 7));
                let replies = std::mem::take(&mut *sink.0.lock().unwrap());
                router.finish(token, replies[0].as_deref());
            }
            Action::Reply(reply) => assert_eq!(reply.len(), 24, "an empty reply"),
            Action::Drop => panic!("dropped"),
        }
    }
}

#[test]
fn a_repeated_asynchronous_request_gets_its_result_again_although_its_own_reply_is_empty() {
    let Bench { service, post, nlm, .. } = Bench::new(Reply::Status(Status::Granted), Ok(()));
    send_copies(nlm, 2);
    let sent = post.0.lock().unwrap().clone();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0], sent[1]);
    assert_eq!(service.asked.lock().unwrap().len(), 1, "it was carried out once");
}

#[test]
fn a_repeated_asynchronous_request_whose_result_was_dropped_is_carried_out_again() {
    let Bench { service, post, nlm, .. } = Bench::new(Reply::Silent, Ok(()));
    send_copies(nlm, 3);
    assert!(post.0.lock().unwrap().is_empty());
    assert_eq!(service.asked.lock().unwrap().len(), 3, "as one that is met with silence");
}
