//! NLM's own layer over the protocol types, all versions and procedures: what is parsed, and every answer to it, held against the
//! types made from `nlm.x`. Must never pass a value that the rest would have to check again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lockferry::service::nlm::wire::{
    self, Request, Shape, has_procedure, parse, parse_granted_answer, write_answer, write_granted,
};
use lockferry::state::{Holder, Mode, Range, Reply, Status};
use lockferry_fuzz::calls::PROCEDURES;
use lockferry_fuzz::input::Input;
use lockferry_fuzz::{memory, types};
use lockferry_xdr::nlm::{Nlm4Res, Nlm4Shareres, Nlm4Testargs, Nlm4Testres, NlmTestargs};
use lockferry_xdr::{Decode, Writer};

const STATUSES: [Status; 10] = [
    Status::Granted,
    Status::Denied,
    Status::DeniedNolocks,
    Status::Blocked,
    Status::DeniedGracePeriod,
    Status::Deadlock,
    Status::ReadOnly,
    Status::StaleHandle,
    Status::TooBig,
    Status::Failed,
];

fn answers(version: u32, shape: Shape, cookie: &[u8], reply: &Reply) {
    let mut out = Vec::new();
    write_answer(version, shape, cookie, reply, &mut Writer::new(&mut out));
    let name = match shape {
        Shape::Test => "Testres",
        Shape::Status => "Res",
        Shape::Share => "Shareres",
        Shape::Void => return assert!(out.is_empty()),
    };
    let of = types::find("nlm", &format!("{}{name}", if version == 4 { "Nlm4" } else { "Nlm" }));
    let of = of.expect("a type of nlm.x");
    assert_eq!((of.run)(&out), Ok(()), "{version} {shape:?} {reply:?} {out:02x?}");
    if version == 4 {
        let told = match shape {
            Shape::Test => Nlm4Testres::from_bytes(&out).map(|r| r.cookie),
            Shape::Status => Nlm4Res::from_bytes(&out).map(|r| r.cookie),
            _ => Nlm4Shareres::from_bytes(&out).map(|r| r.cookie),
        };
        assert_eq!(told, Ok(cookie));
    }
    if shape == Shape::Status {
        let granted = matches!(reply, Reply::Void | Reply::Status(Status::Granted));
        assert_eq!(parse_granted_answer(version, &out), Some(granted));
    }
}

fn granted(version: u32, cookie: &[u8], mode: Mode, lock: &wire::LockArg<'_>) {
    let range = lock.clamped();
    let mut out = Vec::new();
    let w = &mut Writer::new(&mut out);
    write_granted(version, cookie, mode, lock.name, lock.handle, lock.oh, lock.svid, range, w);
    let parsed = parse(version, 5, &out).expect("a GRANTED that a client would refuse");
    assert_eq!((parsed.cookie, parsed.request), (cookie, Request::NotForServers));
    if version == 4 {
        let a = Nlm4Testargs::from_bytes(&out).expect("parsed a moment ago").alock;
        assert_eq!((a.caller_name, a.fh, a.oh, a.svid as u32), (lock.name, lock.handle, lock.oh, lock.svid));
        assert_eq!(Range::from_nlm(a.l_offset, a.l_len), Some(range), "the bytes that were asked for");
    } else {
        let a = NlmTestargs::from_bytes(&out).expect("parsed a moment ago").alock;
        let said = Range::from_nlm(a.l_offset.into(), a.l_len.into());
        assert_eq!(said, Some(range), "the bytes that were asked for");
    }
}

fn lock_of<'a>(request: &Request<'a>) -> Option<(wire::LockArg<'a>, Mode)> {
    match *request {
        Request::Test(lock, mode) | Request::Cancel(lock, mode) | Request::Lock { lock, mode, .. } => {
            Some((lock, mode))
        }
        Request::Unlock(lock) => Some((lock, Mode::Shared)),
        _ => None,
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let version = input.one_of(&[4, 3, 1]);
    let procedure = input.below(24) as u32;
    if procedure == 0 || !has_procedure(version, procedure) {
        return;
    }
    let args = input.rest();
    memory::within(64 * 1024 + 8 * args.len(), || {
        let same = |p: &&lockferry_fuzz::calls::Procedure| {
            (p.module, p.version, p.number) == ("nlm", version, procedure)
        };
        let known = PROCEDURES.iter().find(same).expect("every procedure is in the table");
        let of = types::find("nlm", known.takes).expect("the table names types that exist");
        let by_type = (of.run)(args);
        let parsed = parse(version, procedure, args);
        // Answers of clients that nobody asked are not looked at.
        let unread = (11..=14).contains(&procedure);
        assert!(unread || parsed.is_ok() == by_type.is_ok(), "{by_type:?} {parsed:?}");
        let Ok(parsed) = parsed else { return };
        assert!(args.len() <= wire::MAX_ARGS || unread, "arguments that the dispatcher would refuse");
        for status in STATUSES {
            // A TEST that is denied names the holder; `programs` and `locks` see that it never goes without.
            if parsed.shape == Shape::Test && matches!(status, Status::Denied | Status::Deadlock) {
                continue;
            }
            answers(version, parsed.shape, parsed.cookie, &Reply::Status(status));
        }
        answers(version, parsed.shape, parsed.cookie, &Reply::Void);
        if let Some((lock, mode)) = lock_of(&parsed.request) {
            assert!(lock.range.is_none_or(|range| range.start == lock.offset));
            granted(version, parsed.cookie, mode, &lock);
            let holder = Holder { mode, svid: lock.svid, oh: lock.oh.into(), range: lock.clamped() };
            answers(version, parsed.shape, parsed.cookie, &Reply::Denied(holder));
        }
    });
});
