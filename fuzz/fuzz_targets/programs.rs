//! A TCP connection to a port with all programs on it: record marking, headers, dispatch, reply cache, and the programs themselves
//! over an empty table of exports and a real lock core. Must never get two replies to a call, nor one that the protocol files would
//! not have.
#![no_main]

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use lockferry::export::{ExportTable, FilePool};
use lockferry::rpc::dispatch::{Action, Router, run};
use lockferry::rpc::drc::{Drc, DrcLimits};
use lockferry::rpc::header::{ReplyStatus, parse_reply};
use lockferry::rpc::record::{Assembler, Step};
use lockferry::rpc::rpcbind::{Portmapper, Table};
use lockferry::rpc::{Call, CallInfo, Program, Transport};
use lockferry::service::mount::Mount;
use lockferry::service::nfs3::Nfs3;
use lockferry::service::nlm::{Nlm, Results};
use lockferry::service::nsm::Nsm;
use lockferry::state::Settings;
use lockferry_fuzz::calls;
use lockferry_fuzz::core::Core;
use lockferry_fuzz::input::Input;
use lockferry_fuzz::memory;
use lockferry_fuzz::replies::Replies;

/// Calls of one input.
const MAX_CALLS: usize = 64;

/// What needs threads, once.
static FILES: LazyLock<(Arc<ExportTable>, Arc<FilePool>)> = LazyLock::new(|| {
    let table = Arc::new(ExportTable::open(&[]));
    let pool = FilePool::start(1, &table).expect("threads can be started");
    (table, pool)
});

fn programs(core: &Arc<Core>) -> Vec<Arc<dyn Program>> {
    let (table, pool) = &*FILES;
    vec![
        Arc::new(Nlm::new(core.clone(), core.clone(), Results::new(core.clone()), Core::spawn(core))),
        Arc::new(Nsm::new(core.clone(), Box::new(|_| 7))),
        Arc::new(Portmapper::new(Arc::new(Table::new()), true)),
        Arc::new(Mount::new(table.clone(), pool.clone())),
        Arc::new(Nfs3::new(table.clone(), pool.clone())),
    ]
}

/// Where a call comes from and goes to.
fn way(input: &mut Input<'_>) -> (SocketAddr, SocketAddr, Transport) {
    let flags = input.byte();
    let (peer, local): (IpAddr, IpAddr) = match flags & 3 {
        0 | 1 => ([192, 0, 2, 7].into(), [192, 0, 2, 10].into()),
        2 => ([127, 0, 0, 1].into(), [127, 0, 0, 1].into()),
        _ => ([0xfd00, 0, 0, 0, 0, 0, 0, 7].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 1].into()),
    };
    let port = if flags & 4 == 0 { 700 } else { 40_000 };
    let transport = if flags & 8 == 0 { Transport::Tcp } else { Transport::Udp };
    (SocketAddr::new(peer, port), SocketAddr::new(local, 2049), transport)
}

fn check(info: &CallInfo, reply: Option<&[u8]>) {
    let Some(reply) = reply else { return };
    match parse_reply(reply) {
        Some((_, ReplyStatus::Success(at))) => {
            calls::check_results(info.program, info.version, info.procedure, &reply[at..]);
        }
        Some((_, ReplyStatus::GarbageArgs | ReplyStatus::ProcUnavail)) => {}
        other => panic!("a program says {other:?}"),
    }
}

fn serve(mut input: Input<'_>) {
    let core = Arc::new(Core::new(Settings::default()));
    let router = Arc::new(Router::new(programs(&core), Arc::new(Drc::new(DrcLimits::default()))));
    let replies = Replies::new(router.clone());
    let (peer, local, transport) = way(&mut input);
    let mut assembler = Assembler::new(router.max_args());
    let mut stream = input.rest();
    let (now, mut later) = (Instant::now(), Vec::new());
    for _ in 0..MAX_CALLS {
        let step = assembler.next(&mut stream, &mut |header| router.judge(header, &local.ip()));
        let (header, args) = match step {
            Step::Call { header, args, .. } => (header, args),
            Step::Reserve(_) => continue,
            Step::Refuse { reply, close } => {
                assert!(parse_reply(&reply).is_some());
                if close { break } else { continue }
            }
            Step::NeedInput | Step::Close(_) | Step::Unserved => break,
        };
        let info = CallInfo {
            peer,
            local,
            transport,
            xid: header.xid,
            program: header.program,
            version: header.version,
            procedure: header.procedure,
            cred: header.cred,
        };
        match router.accept(now, Call { info: info.clone(), args: args.clone() }) {
            Action::Reply(reply) => check(&info, Some(&reply)),
            Action::Drop => {}
            Action::Dispatch(program, call, token) => {
                let (ticket, responder) = replies.open(token, info.xid);
                run(program.as_ref(), call, responder);
                // Only the lock core may owe an answer for long.
                if info.program == 100_021 {
                    later.push((ticket, info));
                } else {
                    check(&info, replies.wait(ticket).as_deref());
                }
            }
        }
        for (version, procedure, args) in core.take_sent() {
            calls::check_arguments(100_021, version, procedure, &args);
        }
    }
    core.close();
    for (ticket, info) in later {
        check(&info, replies.wait(ticket).as_deref());
    }
    assert_eq!(replies.open_count(), 0);
}

fuzz_target!(|data: &[u8]| {
    LazyLock::force(&FILES);
    LazyLock::force(&calls::PROCEDURES);
    memory::within((8 << 20) + 64 * data.len(), || serve(Input::new(data)));
});
