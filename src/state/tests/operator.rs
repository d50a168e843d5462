//! What operators free, what they are told before, and how they find it.

use super::kit::{ALL, Kit, OK, Peer, S, X, lm, peer};
use crate::state::{
    Access, Command, Condition, Effect, Event, Freed, Preview, Reply, Settings, Status, Target,
};
use Condition::Reclaimable;
use Status::Blocked;

fn free_file(k: &mut Kit, file: &str) {
    k.run(Command::FreeFile { file: file.as_bytes() });
}

fn free_client(k: &mut Kit, p: Peer) {
    let party = p.party();
    k.run(Command::FreeClient { lm: party.lm, name: party.name, address: party.address });
}

fn id_of(k: &Kit, p: Peer) -> u64 {
    let (rows, _) = k.engine.lock_rows(0, usize::MAX);
    rows.iter().find(|r| r.address == p.address() && r.svid == p.svid).unwrap().id
}

/// Locks, waiters, and whether there is more.
fn freed(k: &Kit) -> Option<(Freed, u64, u64, bool)> {
    let freed = |e: Event| match e {
        Event::FreedByOperator { what, locks, waiters, more, .. } => Some((what, locks, waiters, more)),
        _ => None,
    };
    let all: Vec<_> = k.events().into_iter().filter_map(freed).collect();
    assert!(all.len() <= 1, "once for each command: {all:?}");
    all.into_iter().next()
}

fn share(k: &mut Kit, p: Peer, file: &str) -> Reply {
    let token = k.token();
    let (access, deny, file) = (Access(1), Access(1), file.as_bytes());
    k.run(Command::Share { party: p.party(), oh: b"oh", file, access, deny, reclaim: false, token });
    k.reply().unwrap()
}

#[test]
fn all_on_a_file_goes_whoever_has_it_and_nothing_else() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2).lm(2));
    k.load(peer("c", 3), "f", 90..=99, X, Reclaimable);
    k.window(1, 90_000, false);
    k.lock(a, "f", 0..=9, X);
    k.lock(b, "f", 20..=29, S);
    k.lock(b, "g", 0..=9, X);
    k.block(b, "f", 0..=9, X);
    let parked = k.send(b, "f", 95..=95, X, (false, false));
    share(&mut k, a, "f");
    let told = k.engine.preview_free(&Target::File(b"f"));
    assert_eq!(told, Preview { freed: 3, dropped: 2, ..Preview::default() });
    free_file(&mut k, "f");
    assert_eq!(freed(&k), Some((Freed::File(Box::from(*b"f")), 3, 2, false)));
    assert_eq!(k.reply_to(parked), Some(Reply::Silent));
    assert!(k.granted().is_empty(), "its waiters are gone too");
    assert_eq!((k.counts(), k.engine.totals().freed_by_operator), ((1, 0), 3));
    assert!(k.events().contains(&Event::GraceEnded(lm(1))), "nothing is left to reclaim");
    assert_eq!(share(&mut k, b, "f"), OK);
    free_file(&mut k, "nothing");
    assert_eq!(freed(&k), None);
}

#[test]
fn all_of_a_client_through_one_lock_manager_goes_and_others_go_on_in_order() {
    let (mut k, a, b, c) = (Kit::new(), peer("a", 1), peer("b", 2), peer("c", 3));
    k.lock(a, "f", 0..=9, X);
    k.lock(a.svid(2), "g", 0..=9, X);
    k.lock(a.lm(2), "h", 0..=9, X);
    k.lock(b, "i", 0..=9, X);
    k.block(a.svid(3), "i", 0..=9, X);
    k.block(b, "f", 0..=9, X);
    k.block(c, "f", 0..=9, X);
    let target = Target::Client { lm: lm(1), name: b"a", address: a.address() };
    let told = k.engine.preview_free(&target);
    assert_eq!(told, Preview { freed: 2, dropped: 1, ..Preview::default() }, "one of two gets it");
    free_client(&mut k, a);
    let (what, locks, waiters, more) = freed(&k).unwrap();
    assert!(matches!(what, Freed::Client { name, .. } if *name == *b"a"));
    assert_eq!((locks, waiters, more), (2, 1, false));
    let granted = |e: &Effect| matches!(e, Effect::SendGranted { to, .. } if *to == b.address());
    assert!(k.granted().len() == 1 && k.fx.out.iter().any(granted), "b was first");
    assert_eq!(k.counts(), (3, 1));
    free_client(&mut k, a);
    assert_eq!(freed(&k), None);
}

#[test]
fn a_grant_under_way_is_stopped_when_its_client_is_freed() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    k.block(b, "f", 0..=9, X);
    k.unlock(a, "f", ALL);
    let grant = k.grant();
    free_client(&mut k, b);
    assert_eq!((k.stopped(), k.counts()), (vec![grant], (0, 0)));
}

#[test]
fn one_lock_is_revoked_by_its_number_and_only_as_long_as_it_is_that_one() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    k.lock(a, "f", 0..=9, X);
    k.lock(a, "f", 20..=29, X);
    k.block(b, "f", 0..=5, S);
    let (rows, _) = k.engine.lock_rows(0, usize::MAX);
    let id = rows.iter().find(|r| r.range.start == 0).unwrap().id;
    assert_eq!(k.engine.preview_free(&Target::Lock(id)), Preview { freed: 1, ..Preview::default() });
    k.run(Command::Revoke { id });
    let (what, locks, waiters, _) = freed(&k).unwrap();
    assert!(matches!(what, Freed::Lock(s) if s.range.end == 9 && *s.file == *b"f"));
    assert_eq!((locks, waiters, k.granted().len()), (1, 0, 1));
    for id in [id, 0, u64::MAX, id + (1 << 32)] {
        k.run(Command::Revoke { id });
        assert_eq!((freed(&k), k.counts().0), (None, 2));
    }
}

#[test]
fn the_last_reclaimable_lock_that_an_operator_frees_ends_the_window() {
    let (mut k, a) = (Kit::new(), peer("a", 1));
    k.load(a, "f", 0..=9, X, Reclaimable);
    k.window(1, 90_000, false);
    k.run(Command::Revoke { id: id_of(&k, a) });
    assert!(k.events().contains(&Event::GraceEnded(lm(1))));
}

#[test]
fn more_than_one_call_may_free_is_freed_by_several() {
    let mut k = Kit::with(Settings { locks_per_call: 10, ..Settings::default() });
    let (a, b) = (peer("a", 1), peer("b", 2));
    for i in 0..25 {
        k.lock(a, "f", i * 10..=i * 10, X);
        k.block(b, "f", i * 10..=i * 10, X);
    }
    let mut calls = Vec::new();
    while let Some((_, locks, waiters, more)) = {
        free_file(&mut k, "f");
        freed(&k)
    } {
        calls.push((locks, waiters, more));
    }
    let waiters = [(0, 10, true), (0, 10, true), (10, 5, true)];
    assert_eq!(calls, [&waiters[..], &[(10, 0, true), (5, 0, false)]].concat());
    assert_eq!(k.counts(), (0, 0));
}

#[test]
fn what_is_kept_of_a_released_lock_manager_stays_and_the_operator_is_told() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2).lm(2));
    k.lock(a, "f", 0..=9, X);
    k.lock(a, "g", 0..=9, X);
    k.release(1, &[""]);
    k.lock(b, "g", 20..=29, X);
    assert_eq!(k.block(b, "f", 0..=9, X), Blocked);
    let party = a.party();
    let client = Target::Client { lm: lm(1), name: party.name, address: party.address };
    let id = id_of(&k, a);
    for (target, freed) in [(Target::File(b"g"), 1), (client, 0), (Target::Lock(id), 0)] {
        let told = k.engine.preview_free(&target);
        assert_eq!((told.freed, told.released), (freed, Some(lm(1))), "{target:?}");
    }
    free_file(&mut k, "g");
    assert_eq!(stayed(&k), Some((1, lm(1))));
    assert_eq!(k.lock(b, "g", 0..=9, X), Status::Denied);
    free_client(&mut k, a);
    assert_eq!(stayed(&k), Some((0, lm(1))));
    k.run(Command::Revoke { id });
    assert_eq!(stayed(&k), Some((0, lm(1))));
    assert_eq!((k.granted().len(), k.counts()), (0, (2, 1)));
}

/// How many locks went, and the lock manager of which some stayed.
fn stayed(k: &Kit) -> Option<(u64, std::net::IpAddr)> {
    k.events().into_iter().find_map(|event| match event {
        Event::FreedByOperator { locks, more: false, released: Some(lm), .. } => Some((locks, lm)),
        _ => None,
    })
}

#[test]
fn file_keys_are_listed_by_prefix_in_pages_and_clients_found_by_name_or_address() {
    let (mut k, a, b) = (Kit::new(), peer("a", 1), peer("b", 2));
    for i in 0..20 {
        k.lock(a, &format!("one-{i}"), 0..=9, X);
        k.lock(b.lm(2), &format!("two-{i}"), 0..=9, X);
    }
    let (mut keys, mut slot) = (Vec::new(), Some(0));
    while let Some(at) = slot {
        let (page, next) = k.engine.file_keys(b"one-", at, 7);
        assert!(page.len() <= 7);
        keys.extend(page);
        slot = next;
    }
    assert_eq!(keys.len(), 20);
    k.lock(a.lm(2), "f", 0..=9, X);
    k.lock(a.host(2), "g", 0..=9, X);
    let found = |lm_of: Option<u8>, name: Option<&str>, host: Option<u8>| {
        let address = host.map(|h| a.host(h).address());
        k.engine.find_clients(lm_of.map(lm), name.map(str::as_bytes), address).len()
    };
    assert_eq!((found(None, Some("a"), None), found(Some(1), Some("a"), None)), (3, 2));
    assert_eq!((found(None, None, Some(2)), found(Some(1), None, Some(2))), (2, 1));
    assert_eq!((found(None, Some("a"), Some(2)), found(None, Some("c"), None)), (1, 0));
    assert_eq!(found(None, None, None), 4);
}
