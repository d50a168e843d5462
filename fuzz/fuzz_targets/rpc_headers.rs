//! The headers of calls and replies, against each other and against the types made from `rpc.x`. Must never accept less than the
//! protocol does; where our parser is kinder (padding, what follows), only ours is asked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lockferry::rpc::header::{
    MAX_HEADER, Parsed, Refusal, ReplyStatus, message_type, parse_call, parse_reply, write_call,
};
use lockferry_fuzz::memory;
use lockferry_xdr::rpc::{RejectedReply, ReplyBody, ReplyData, RpcMsg, RpcMsgBody};
use lockferry_xdr::{Decode, Reader};

fn call(data: &[u8]) {
    let whole = parse_call(data);
    // However much of it has come: more is asked for, or the verdict is final.
    let mut last = None;
    for len in 0..=data.len().min(MAX_HEADER + 8) {
        let parsed = parse_call(&data[..len]);
        if let Parsed::Need(n) = parsed {
            assert!(last.is_none(), "a verdict that is taken back");
            assert!(n > len && n <= MAX_HEADER, "{n} bytes are needed of {len}");
        } else {
            let known = last.get_or_insert_with(|| parsed.clone());
            assert_eq!(*known, parsed, "the same verdict with {len} bytes");
        }
    }
    if data.len() > MAX_HEADER {
        assert!(!matches!(whole, Parsed::Need(_)), "no header is longer");
    }
    match &whole {
        Parsed::Call(header, at) => {
            assert!(*at <= data.len().min(MAX_HEADER));
            let mut again = Vec::new();
            write_call(&mut again, header);
            assert_eq!(parse_call(&again), Parsed::Call(header.clone(), again.len()));
            assert_eq!(message_type(data), Some((header.xid, 0)));
        }
        Parsed::Refuse(xid, refusal) => refused(*xid, *refusal),
        Parsed::Need(_) | Parsed::NotACall => {}
    }
    let mut r = Reader::new(data);
    if let Ok(RpcMsg { xid, body: RpcMsgBody::Call(body) }) = RpcMsg::decode(&mut r) {
        match &whole {
            Parsed::Call(header, at) => {
                assert_eq!((header.xid, body.rpcvers), (xid, 2));
                let named = (header.program, header.version, header.procedure);
                assert_eq!(named, (body.prog, body.vers, body.proc));
                assert_eq!(data.len() - r.remaining().len(), *at);
            }
            Parsed::Refuse(told, Refusal::RpcMismatch) => assert!(*told == xid && body.rpcvers != 2),
            Parsed::Refuse(told, Refusal::Auth(_)) => assert_eq!((*told, body.rpcvers), (xid, 2)),
            other => panic!("a call by the protocol file, and here {other:?}"),
        }
    }
}

fn refused(xid: u32, refusal: Refusal) {
    let reply = refusal.encode(xid);
    let (told, status) = parse_reply(&reply).expect("a refusal is a reply");
    assert_eq!(told, xid);
    assert!(matches!(status, ReplyStatus::RpcMismatch | ReplyStatus::AuthError(1..=5)), "{status:?}");
    RpcMsg::from_bytes(&reply).expect("a refusal is one by the protocol file");
}

fn reply(data: &[u8]) {
    let ours = parse_reply(data);
    if let Some((xid, ReplyStatus::Success(at))) = ours {
        assert!(at <= data.len());
        assert_eq!(message_type(data), Some((xid, 1)));
    }
    let mut r = Reader::new(data);
    let Ok(RpcMsg { xid, body: RpcMsgBody::Reply(body) }) = RpcMsg::decode(&mut r) else { return };
    let expected = match body {
        ReplyBody::MsgAccepted(accepted) => match accepted.reply_data {
            ReplyData::Success => ReplyStatus::Success(data.len() - r.remaining().len()),
            ReplyData::ProgMismatch(m) => ReplyStatus::ProgMismatch(m.low, m.high),
            ReplyData::Default(stat) => match stat as i32 {
                1 => ReplyStatus::ProgUnavail,
                3 => ReplyStatus::ProcUnavail,
                4 => ReplyStatus::GarbageArgs,
                _ => ReplyStatus::SystemErr,
            },
        },
        ReplyBody::MsgDenied(RejectedReply::RpcMismatch(_)) => ReplyStatus::RpcMismatch,
        ReplyBody::MsgDenied(RejectedReply::AuthError(stat)) => ReplyStatus::AuthError(stat as u32),
    };
    assert_eq!(ours, Some((xid, expected)));
}

fuzz_target!(|data: &[u8]| {
    // Each prefix is parsed for itself, and a credential is in the result twice.
    memory::within(64 * 1024 + 4 * data.len(), || {
        call(data);
        reply(data);
    });
});
