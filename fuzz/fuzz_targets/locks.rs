//! Clients and operators at one lock core, by NLM calls through the dispatcher and by the commands that the node gives: locks, waiters,
//! callbacks that are answered, refused or crossed, retransmissions, reboots, windows, releases and loads, with time that jumps.
//!
//! Must never get two answers to a call, another answer to its repetition, tables that contradict each other, or something that is
//! due and never done.
#![no_main]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use lockferry::export::LockRefusal;
use lockferry::rpc::dispatch::{Action, Router, run};
use lockferry::rpc::drc::{Drc, DrcLimits};
use lockferry::rpc::header::{CallHeader, ReplyStatus, parse_reply};
use lockferry::rpc::record::Verdict;
use lockferry::rpc::{Call, CallInfo, Cred, Transport};
use lockferry::service::nlm::{Nlm, Results, wire};
use lockferry::service::nsm::Nsm;
use lockferry::state::{
    AddressCheck, CallbackOutcome, Command, Condition, GraceConflict, Limits, LockState, Mode, Party,
    Question, Range, ReclaimMatch, Route, Settings, Stage, Target, Time, Verb,
};
use lockferry_fuzz::calls;
use lockferry_fuzz::core::{Core, HANDLE};
use lockferry_fuzz::input::Input;
use lockferry_fuzz::replies::Replies;
use lockferry_xdr::nlm::{
    FshAccess, FshMode, Nlm4Cancargs, Nlm4Lock, Nlm4Lockargs, Nlm4Notify, Nlm4Res, Nlm4Share, Nlm4Shareargs,
    Nlm4Stat, Nlm4Stats, Nlm4Testargs, Nlm4Unlockargs, NlmCancargs, NlmLock, NlmLockargs, NlmRes,
    NlmSmStatus, NlmStat, NlmStats, NlmTestargs, NlmUnlockargs,
};
use lockferry_xdr::nsm::StatChge;
use lockferry_xdr::{Encode, Reader};

/// Steps of one input: each checks all tables.
const MAX_STEPS: usize = 200;

const NAMES: [&[u8]; 4] = [b"a", b"b", b"cc", b""];
const OWNERS: [&[u8]; 3] = [b"1", b"2@a", b""];
const FILES: [&[u8]; 4] = [b"x", b"y", b"xx", b"z-"];
const NLM: u32 = 100_021;
const NSM: u32 = 100_024;

fn lm(input: &mut Input<'_>) -> IpAddr {
    IpAddr::from([10, 0, 0, 1 + input.below(3) as u8])
}

fn address(input: &mut Input<'_>) -> IpAddr {
    IpAddr::from([192, 0, 2, 1 + input.below(4) as u8])
}

fn mode(input: &mut Input<'_>) -> Mode {
    Mode::from_exclusive(input.flag())
}

fn range(input: &mut Input<'_>) -> Range {
    let (start, len) = (input.number(), input.number());
    Range { start, end: start.saturating_add(len) }
}

fn settings(input: &mut Input<'_>) -> Settings {
    let limits = Limits {
        locks_per_client: 12,
        waiters_per_client: 4,
        locks: 40,
        waiters: 10,
        clients: 8,
        names_per_address: 3,
    };
    Settings {
        limits: if input.flag() { limits } else { Settings::default().limits },
        address_check: input.one_of(&[AddressCheck::Learn, AddressCheck::Strict, AddressCheck::Off]),
        grace_conflict: input.one_of(&[GraceConflict::Wait, GraceConflict::Deny]),
        reclaim_match: input.one_of(&[ReclaimMatch::Owner, ReclaimMatch::Strict]),
        hold: Duration::from_millis(500),
        journal: input.flag(),
        locks_per_call: input.one_of(&[10_000, 1, 2, 3]),
        forget_after: Duration::from_millis(400),
        ..Settings::default()
    }
}

/// A call that was made, for its repetition.
struct Made {
    info: CallInfo,
    args: Vec<u8>,
    ticket: Option<u64>,
    reply: Option<Vec<u8>>,
    done: bool,
}

struct World {
    core: Arc<Core>,
    router: Arc<Router>,
    replies: Arc<Replies>,
    made: Vec<Made>,
    at: HashMap<u64, usize>,
    now: Instant,
    waiters: u64,
}

impl World {
    fn new(settings: Settings) -> Self {
        let core = Arc::new(Core::new(settings));
        let nlm = Nlm::new(core.clone(), core.clone(), Results::new(core.clone()), Core::spawn(&core));
        let nsm = Nsm::new(core.clone(), Box::new(|_| 7));
        let drc = Arc::new(Drc::new(DrcLimits::default()));
        let router = Arc::new(Router::new(vec![Arc::new(nlm), Arc::new(nsm)], drc));
        let replies = Replies::new(router.clone());
        Self { core, router, replies, made: Vec::new(), at: HashMap::new(), now: Instant::now(), waiters: 0 }
    }

    fn call(&mut self, input: &mut Input<'_>) {
        let (local, peer) = (lm(input), address(input));
        let (program, version, procedure, args) = arguments(input);
        let info = CallInfo {
            peer: SocketAddr::new(peer, 700),
            local: SocketAddr::new(local, 32_803),
            transport: if input.flag() { Transport::Udp } else { Transport::Tcp },
            xid: self.made.len() as u32,
            program,
            version,
            procedure,
            cred: Cred::None,
        };
        self.made.push(Made { info, args, ticket: None, reply: None, done: false });
        self.send(self.made.len() - 1);
    }

    /// Sends a call, perhaps not for the first time.
    fn send(&mut self, which: usize) {
        let Made { info, args, ticket, reply, done } = &self.made[which];
        let header = CallHeader {
            xid: info.xid,
            program: info.program,
            version: info.version,
            procedure: info.procedure,
            cred: info.cred.clone(),
        };
        let Verdict::Accept { max_args } = self.router.judge(&header, &info.local.ip()) else {
            panic!("a procedure that exists is refused")
        };
        assert!(args.len() <= max_args, "arguments that are as long as they may be are refused");
        let call = Call { info: info.clone(), args: args.clone().into() };
        match self.router.accept(self.now, call) {
            Action::Reply(again) => {
                assert_eq!(Some(&again), reply.as_ref(), "a repetition gets another answer");
            }
            Action::Drop => assert!(ticket.is_some() && !done, "what is not under way is dropped"),
            Action::Dispatch(program, call, token) => {
                // A message whose result was given up, as nobody took it, is a new one when it comes again.
                let message = info.program == 100_021 && (6..=10).contains(&info.procedure);
                assert!(token == 0 || message || ticket.is_none() || reply.is_none(), "carried out twice");
                let (ticket, responder) = self.replies.open(token, info.xid);
                self.at.insert(ticket, which);
                let made = &mut self.made[which];
                (made.ticket, made.reply, made.done) = (Some(ticket), None, false);
                run(program.as_ref(), call, responder);
            }
        }
        self.collect();
    }

    /// Takes the answers that have come.
    fn collect(&mut self) {
        let (replies, made) = (&self.replies, &mut self.made);
        self.at.retain(|ticket, which| {
            let Some(reply) = replies.take(*ticket) else { return true };
            let made = &mut made[*which];
            if let Some(reply) = &reply {
                let Some((_, ReplyStatus::Success(at))) = parse_reply(reply) else {
                    panic!("valid arguments are refused: {:?}", made.info)
                };
                let info = &made.info;
                calls::check_results(info.program, info.version, info.procedure, &reply[at..]);
            }
            if made.ticket == Some(*ticket) {
                (made.reply, made.done) = (reply, true);
            }
            false
        });
        for (version, procedure, args) in self.core.take_sent() {
            assert!((11..=14).contains(&procedure));
            calls::check_arguments(NLM, version, procedure, &args);
        }
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        let core = &self.core;
        match input.below(16) {
            0 => {
                let deadline = Time(core.now() + input.number().min(1000));
                let full: &[Box<[u8]>] = &[Box::default(), (*b"x").into(), (*b"xx").into()];
                let (from, n) = (input.below(3), input.below(4));
                let full = &full[from..(from + n).min(3)];
                let full = if n == 3 { &[] } else { full };
                core.run(Command::StartGrace {
                    lm: lm(input),
                    deadline,
                    full,
                    park: Duration::from_millis(u64::from(input.byte())),
                });
            }
            1 => core.run(Command::EndGrace { lm: lm(input) }),
            2 => {
                let deadline = Time(core.now() + input.number().min(1000));
                core.run(Command::SetDeadline { lm: lm(input), deadline });
            }
            3 => {
                let keep = if input.flag() { vec![input.one_of(&FILES).into()] } else { Vec::new() };
                core.run(Command::Release { lm: lm(input), keep: &keep });
                core.next_stay();
            }
            4 => core.run(Command::DropReleased { lm: lm(input) }),
            5 => core.run(Command::Load { lm: lm(input) }),
            6 => core.run(Command::LoadDone { lm: lm(input) }),
            7 => self.load(input),
            8 => core.run(Command::FreeFile { file: input.one_of(&FILES) }),
            9 => {
                let (lm, name, address) = (lm(input), input.one_of(&NAMES), address(input));
                core.run(Command::FreeClient { lm, name, address });
            }
            10 => {
                let rows = core.read(|engine| engine.lock_rows(0, 100).0);
                let which = input.below(256);
                let id = rows.get(which % rows.len().max(1)).map_or(which as u64, |row| row.id);
                core.run(Command::Revoke { id });
            }
            11 => {
                let party = Party { lm: lm(input), name: input.one_of(&NAMES), address: address(input) };
                core.run(Command::Trust { party });
            }
            12 => core.run(Command::AnyAddress(input.flag())),
            13 => core.run(Command::Tick),
            _ => ask(core, input),
        }
    }

    /// Puts something of a record back, where one is being loaded.
    fn load(&mut self, input: &mut Input<'_>) {
        let lm = lm(input);
        let loading =
            |row: &lockferry::state::LmRow| row.address == lm && row.stage == Stage::Loading && !row.working;
        if !self.core.read(|engine| engine.lm_rows().iter().any(loading)) {
            return self.core.run(Command::Load { lm });
        }
        let party = Party { lm, name: input.one_of(&NAMES), address: address(input) };
        let (oh, svid, file) = (input.one_of(&OWNERS), input.below(2) as u32, input.one_of(&FILES));
        let (range, mode, state) = (range(input), mode(input), input.below(4) as u32);
        match input.below(4) {
            0 => self.core.run(Command::Restore { party, state }),
            1 => {
                self.waiters += 1;
                let route =
                    Route { version: 4, tcp: true, asynchronous: input.flag(), handle: (*b"filex").into() };
                self.core.run(Command::LoadWaiter {
                    party,
                    oh,
                    svid,
                    file,
                    range,
                    mode,
                    state,
                    route: &route,
                    seq: self.waiters,
                });
            }
            _ => {
                const ALL: [Condition; 5] = [
                    Condition::Reclaimable,
                    Condition::Held,
                    Condition::Granting,
                    Condition::Unconfirmed,
                    Condition::Expired,
                ];
                let condition = input.one_of(&ALL);
                let open = matches!(condition, Condition::Granting | Condition::Unconfirmed);
                let under = (open && mode == Mode::Exclusive && input.flag())
                    .then_some((input.one_of(&[Condition::Held, Condition::Reclaimable]), state));
                let lock = LockState { mode, condition, state, under };
                self.core.run(Command::LoadLock { party, oh, svid, file, range, lock });
            }
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(32) {
            0..=17 => self.call(input),
            18..=19 if !self.made.is_empty() => {
                let back = input.below(8).min(self.made.len() - 1);
                self.send(self.made.len() - 1 - back);
            }
            20..=21 => {
                let outcome = input.one_of(&[
                    CallbackOutcome::Accepted,
                    CallbackOutcome::RefusedFirst,
                    CallbackOutcome::RefusedLater,
                    CallbackOutcome::Unanswered,
                ]);
                if let Some(grant) = self.core.some_grant(input.below(4)) {
                    self.core.callback_done(grant, outcome);
                }
            }
            22 => {
                let verdict = input.one_of(&[
                    None,
                    Some(LockRefusal::Stale),
                    None,
                    Some(LockRefusal::Access),
                    None,
                    Some(LockRefusal::ReadOnly),
                ]);
                self.core.set_files(input.flag(), input.flag(), verdict);
            }
            23 => self.core.look(input.below(4)),
            24 => self.core.pass(input.number().min(1000)),
            25 => drop(self.core.to_next_timer()),
            26 => self.core.settle(),
            _ => self.operate(input),
        }
        self.collect();
    }

    /// Everything comes to an end.
    fn finish(mut self) {
        self.core.set_files(true, true, None);
        self.core.settle();
        for n in 1..=3 {
            let lm = IpAddr::from([10, 0, 0, n]);
            self.core.run(Command::Load { lm });
            self.core.run(Command::LoadDone { lm });
            self.core.settle();
            self.core.run(Command::Release { lm, keep: &[] });
            self.core.settle();
            self.core.run(Command::DropReleased { lm });
            self.core.settle();
        }
        assert_eq!(self.core.read(|engine| engine.counts()), (0, 0), "locks and waiters of nobody");
        self.core.forget_looks();
        assert_eq!(self.core.parked(), 0, "a request without an answer");
        self.collect();
        assert_eq!(self.replies.open_count(), 0);
        assert!(self.at.is_empty());
    }
}

fn ask(core: &Core, input: &mut Input<'_>) {
    let (at, name, address) = (lm(input), input.one_of(&NAMES), address(input));
    let question = Question {
        lm: at,
        client: input.flag().then_some((name, address)),
        owner: input.flag().then_some((input.one_of(&OWNERS), input.below(2) as u32)),
        file: input.one_of(&FILES),
        range: range(input),
        mode: mode(input),
    };
    let keep = [Box::from(question.file)];
    core.read(|engine| {
        let explained = engine.explain(&question);
        assert!(explained.blockers.len() as u64 <= explained.blocker_count);
        assert!(explained.held <= explained.blocker_count);
        let (locks, waiters) = engine.counts();
        assert_eq!(engine.lock_rows(0, usize::MAX).0.len(), locks);
        assert_eq!(engine.waiter_rows(0, usize::MAX).0.len(), waiters);
        engine.client_rows(0, 3);
        engine.preview(at, Verb::StartGrace { full: question.client.is_some() });
        engine.preview(at, Verb::EndGrace);
        engine.preview(at, Verb::Release { keep: &keep });
        engine.preview_free(&Target::File(question.file));
        engine.preview_free(&Target::Client { lm: at, name, address });
    });
}

/// A call: program, version, procedure, arguments.
fn arguments(input: &mut Input<'_>) -> (u32, u32, u32, Vec<u8>) {
    let name = input.one_of(&NAMES);
    if input.below(16) == 15 {
        let args = StatChge { mon_name: name, state: input.below(6) as i32 };
        return (NSM, 1, 6, args.to_bytes());
    }
    let version = input.one_of(&[4, 4, 3, 1]);
    const PROCEDURES: [u32; 16] = [2, 4, 2, 3, 1, 2, 7, 9, 22, 16, 20, 21, 23, 15, 8, 5];
    let procedure = input.one_of(&PROCEDURES);
    let procedure = if wire::has_procedure(version, procedure) { procedure } else { 2 };
    let wide = version == 4;
    let handle = [if input.below(32) == 31 { b"strange" } else { HANDLE }, input.one_of(&FILES)].concat();
    let (oh, svid) = (input.one_of(&OWNERS), input.below(2) as i32);
    let (l_offset, l_len) = (input.number(), input.number());
    let flags = input.byte();
    let [exclusive, block, reclaim] = [1, 2, 4].map(|bit| flags & bit != 0);
    let state = i32::from(flags >> 4 & 3);
    let cookie: &[u8] = &[0, 0, 0, 0, 0, 0, 0, flags >> 4];
    let alock = Nlm4Lock { caller_name: name, fh: &handle, oh, svid, l_offset, l_len };
    let narrow =
        NlmLock { caller_name: name, fh: &handle, oh, svid, l_offset: l_offset as u32, l_len: l_len as u32 };
    let args = match procedure {
        1 | 5 if wide => Nlm4Testargs { cookie, exclusive, alock }.to_bytes(),
        1 | 5 => NlmTestargs { cookie, exclusive, alock: narrow }.to_bytes(),
        2 | 7 | 22 if wide => Nlm4Lockargs { cookie, block, exclusive, alock, reclaim, state }.to_bytes(),
        2 | 7 | 22 => NlmLockargs { cookie, block, exclusive, alock: narrow, reclaim, state }.to_bytes(),
        3 | 8 if wide => Nlm4Cancargs { cookie, block, exclusive, alock }.to_bytes(),
        3 | 8 => NlmCancargs { cookie, block, exclusive, alock: narrow }.to_bytes(),
        4 | 9 if wide => Nlm4Unlockargs { cookie, alock }.to_bytes(),
        4 | 9 => NlmUnlockargs { cookie, alock: narrow }.to_bytes(),
        15 if wide => {
            let stat = if exclusive { Nlm4Stats::Nlm4Granted } else { Nlm4Stats::Nlm4Denied };
            Nlm4Res { cookie, stat: Nlm4Stat { stat } }.to_bytes()
        }
        15 => {
            let stat = if exclusive { NlmStats::NlmGranted } else { NlmStats::NlmDenied };
            NlmRes { cookie, stat: NlmStat { stat } }.to_bytes()
        }
        16 => NlmSmStatus { mon_name: name, state, priv_: [0; 16] }.to_bytes(),
        23 => Nlm4Notify { name, state }.to_bytes(),
        _ => {
            const MODES: [FshMode; 4] = [FshMode::FsmDn, FshMode::FsmDr, FshMode::FsmDw, FshMode::FsmDrw];
            const ACCESS: [FshAccess; 4] =
                [FshAccess::FsaR, FshAccess::FsaNone, FshAccess::FsaW, FshAccess::FsaRw];
            let (mode, access) = (input.one_of(&MODES), input.one_of(&ACCESS));
            let share = Nlm4Share { caller_name: name, fh: &handle, oh, mode, access };
            Nlm4Shareargs { cookie, share, reclaim }.to_bytes()
        }
    };
    debug_assert!(Reader::new(&args).finish().is_err());
    (NLM, version, procedure, args)
}

fuzz_target!(|data: &[u8]| {
    LazyLock::force(&calls::PROCEDURES);
    let mut input = Input::new(data);
    let mut world = World::new(settings(&mut input));
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.finish();
});
