//! Asynchronous and bad clients.

use super::*;
use lockferry::service::nlm::wire;

#[test]
fn an_asynchronous_client_takes_its_answers_as_calls() {
    let mut rig = Rig::new(Kind::Async);
    let call = rig.start(0, Verb::Lock { block: false }, 0, 9);
    let header = message::parse_call(&call.message).unwrap();
    assert_eq!(header.procedure, message::LOCK + message::MSG);
    rig.client.receive(rig.now, LM, &message::begin_reply(header.xid), &mut rig.out);
    assert_eq!(rig.out, [], "the empty reply says nothing");
    let cookie = &call.message[header.args + 4..header.args + 8];
    let mut answer = message::Template::new(b"server").begin(4, message::NLM, 4, 12);
    message::write_result(&mut answer, cookie, GRANTED);
    rig.client.receive(rig.now, LM, &answer, &mut rig.out);
    assert_eq!(rig.held(0), [(0, 9)]);
    assert!(rig.out.iter().any(|effect| matches!(effect, Effect::Record(Event::Got { .. }))));
    assert!(rig.out.iter().any(|effect| matches!(effect, Effect::Reply { .. })));
}

#[test]
fn granted_msg_is_answered_by_granted_res() {
    let mut rig = Rig::new(Kind::Async);
    let message = granted_message(message::GRANTED + message::MSG, 1, &name(1), 0, (0, 9));
    rig.client.receive(rig.now, LM, &message, &mut rig.out);
    let res = rig.out.iter().find_map(|effect| match effect {
        Effect::Call { message, .. } => Some(message),
        _ => None,
    });
    let res = res.expect("GRANTED_RES");
    let header = message::parse_call(res).unwrap();
    let parsed = wire::parse(4, header.procedure, &res[header.args..]).unwrap();
    let cookie = b"cookie of the server";
    assert_eq!(parsed.request, wire::Request::GrantedRes { cookie, accepted: false });
}

/// Every request of a bad client that the service would understand is recorded just before it is sent, and is what was recorded.
#[test]
fn a_bad_client_records_all_that_is_well_formed() {
    let mut out = Vec::new();
    let mut client = Client::new(config(1, 3, Kind::Bad, Pace::default()), 0, &mut out);
    let (mut recorded, mut other) = (0, 0);
    let mut now = 0;
    for _ in 0..20_000 {
        now = now.max(client.next_wake().unwrap());
        out.clear();
        client.wake(now, &mut out);
        let mut record = None;
        let mut calls = Vec::new();
        for effect in &out {
            match effect {
                Effect::Record(Event::Sent { request, .. }) => record = Some(*request),
                Effect::Call { message, .. } => calls.push((record.take(), message.clone())),
                _ => {}
            }
        }
        for (record, message) in calls {
            match record {
                Some(request) => {
                    recorded += 1;
                    check(&request, &message);
                    answer(&mut client, now, &message);
                }
                None => {
                    other += 1;
                    assert!(!is_request(&message), "{message:?}");
                }
            }
        }
    }
    assert!(recorded > 2000 && other > 100, "{recorded} {other}");
    assert!(client.stats().mischief > 1000, "{:?}", client.stats());
}

fn answer(client: &mut Client, now: Micros, message: &[u8]) {
    let header = message::parse_call(message).unwrap();
    let mut reply = message::begin_reply(header.xid);
    if header.program == message::NLM {
        message::write_result(&mut reply, &message[header.args + 4..header.args + 8], GRANTED);
    }
    client.receive(now, LM, &reply, &mut Vec::new());
}

/// Whether it is one of the requests that a history can hold.
fn is_request(message: &[u8]) -> bool {
    let Some(header) = message::parse_call(message) else { return false };
    let args = &message[header.args..];
    match (header.program, header.version, header.procedure) {
        (message::NLM, 4, 1..=4) => wire::parse(4, header.procedure, args).is_ok(),
        (message::NSM, 1, message::NOTIFY) => message::parse_notify(args).is_some(),
        _ => false,
    }
}

fn check(request: &Request, message: &[u8]) {
    assert!(is_request(message));
    let header = message::parse_call(message).unwrap();
    let args = &message[header.args..];
    let id = |name: &[u8]| ClientId((1..4).find(|id| super::name(*id) == name).expect("a known name"));
    if let Request::Notify { client, state, .. } = request {
        let (name, sent) = message::parse_notify(args).unwrap();
        assert_eq!((id(name), sent), (*client, *state));
        return;
    }
    match (request, wire::parse(4, header.procedure, args).unwrap().request) {
        (
            Request::Lock { lock, block, reclaim, state },
            wire::Request::Lock { lock: sent, block: b, reclaim: r, state: s, .. },
        ) => {
            assert_eq!((*block, *reclaim, *state), (b, r, s));
            assert_eq!((lock.owner.client, lock.owner.svid), (id(sent.name), sent.svid));
            assert_eq!((lock.bytes.start, Some(lock.bytes.end)), (sent.offset, sent.range.map(|r| r.end)));
        }
        (Request::Unlock { owner, .. }, wire::Request::Unlock(sent)) => {
            assert_eq!((owner.client, owner.svid), (id(sent.name), sent.svid));
        }
        (Request::Cancel { lock }, wire::Request::Cancel(sent, _))
        | (Request::Test { lock }, wire::Request::Test(sent, _)) => {
            assert_eq!((lock.owner.client, lock.owner.svid), (id(sent.name), sent.svid));
        }
        (request, sent) => panic!("{request:?} went out as {sent:?}"),
    }
}
