//! A planned move, `unlock_ip` here and `start_grace` there, and what each request gets in the window.

use super::rawrpc::nlm::*;
use super::rawrpc::{Conn, FLOAT, Host, PATIENCE, Tested, Want, host};
use super::{ALL_PROGRAMS, LM, LONG, Pair, lock, locks, programs_at};

#[test]
fn locks_move_with_the_address_and_only_conflicts_wait_for_their_holders() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10).state(3)), GRANTED);
    assert_eq!(pair.a.client(11, "two").lock(&Want::bytes(&fh, 20, 10).shared().state(5)), GRANTED);
    let state = a.lm(LM)["nsm_state"].as_u64().unwrap();
    let done = a.verb(&["unlock-ip", LM]);
    assert_eq!((&done["marked"], &done["changed"]), (&2.into(), &true.into()), "{done}");
    assert_eq!(a.lm(LM)["state"], "released");

    let homes = [10, 11, 12].map(|last| pair.b.host(last));
    let b = pair.serve(&pair.b, LONG);
    let done = pair.start(&b, &[]);
    assert_eq!((&done["marked"], &done["all_wait"]), (&2.into(), &false.into()), "{done}");
    for home in &homes[..2] {
        let (name, told, from) = home.notice();
        assert_eq!((name.as_str(), from), (LM, FLOAT.into()));
        assert!(told % 2 == 1 && u64::from(told) > state, "{told} after {state}");
    }
    let (mut one, mut two) = (pair.b.client(10, "one"), pair.b.client(11, "two"));
    let mut three = pair.b.client(12, "three");
    assert_eq!(three.lock(&Want::bytes(&fh, 100, 10)), GRANTED, "nobody had that");
    assert_eq!(three.lock(&Want::bytes(&fh, 25, 10).shared()), GRANTED, "readers share");
    assert_eq!(three.unlock(&Want::bytes(&fh, 25, 10)), GRANTED);
    assert_eq!(three.lock(&Want::bytes(&fh, 5, 10)), GRACE, "held back, then: come again");
    let wanted = Want::bytes(&fh, 5, 10).blocking();
    assert_eq!(three.lock(&wanted), BLOCKED);
    let holder = Tested::Held { exclusive: true, svid: 1, oh: b"1@test".to_vec(), offset: 0, len: 10 };
    assert_eq!(three.test(&Want::bytes(&fh, 5, 10)), holder);
    assert_eq!(three.test(&Want::bytes(&fh, 30, 10)), Tested::Free);
    assert_eq!(b.lm(LM)["state"], "grace");

    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    assert_eq!(b.lm(LM)["state"], "grace", "one is left");
    assert_eq!(two.lock(&Want::bytes(&fh, 20, 10).shared().reclaim()), GRANTED);
    assert_eq!(b.lm(LM)["state"], "active", "nothing is left to reclaim");
    assert_eq!(three.lock(&Want::bytes(&fh, 5, 2)), DENIED, "held");
    b.await_rows("clients", 2, |c| c["notify"] == "reclaimed");
    assert_eq!(homes[2].count(PROGRAM, 5), 0);
    assert_eq!(one.unlock(&Want::bytes(&fh, 0, 10)), GRANTED);
    assert!(homes[2].granted().is("three", &wanted), "who waited in the window");
    let expected = [lock(5, "three", "held"), lock(20, "two", "held"), lock(100, "three", "held")].to_vec();
    b.await_rows("locks", 3, |l| l["state"] == "held");
    assert_eq!(locks(&b), expected);
}

#[test]
fn a_conflict_in_the_window_can_be_denied_as_if_the_lock_were_held() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    a.verb(&["unlock-ip", LM]);
    let b = pair.serve(&pair.b, &format!("{LONG}grace.conflict = \"deny\"\n"));
    pair.start(&b, &[]);
    assert_eq!(pair.b.client(11, "two").lock(&Want::bytes(&fh, 5, 1)), DENIED);
    assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
}

#[test]
fn a_request_that_is_held_back_is_granted_once_the_holder_lets_go() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    a.verb(&["unlock-ip", LM]);
    let b = pair.serve(&pair.b, "grace.window = \"10m\"\ngrace.park = \"10s\"\n");
    pair.start(&b, &[]);
    let mut two = pair.b.client(11, "two");
    let call = two.prepared(2, &Want::bytes(&fh, 5, 1));
    two.conn.send(&call);
    b.await_rows("waiters", 1, |w| w["client"] == "two");
    assert_eq!(pair.b.client(10, "one").unlock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let (_, answer) = super::rawrpc::wire::parse_reply(&two.conn.receive(PATIENCE).expect("an answer"));
    assert_eq!(answer.results()[20..], GRANTED.to_be_bytes());
}

#[test]
fn a_plain_lock_of_a_client_that_has_not_noticed_the_move_is_its_reclaim() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10).state(3)), GRANTED);
    a.verb(&["unlock-ip", LM]);
    let b = pair.serve(&pair.b, LONG);
    pair.start(&b, &[]);
    assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 2, 3).state(3)), GRANTED);
    assert_eq!(pair.b.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED);
    assert_eq!(locks(&b), [lock(0, "one", "held")]);
}

#[test]
fn a_client_that_rebooted_during_the_move_gives_its_old_locks_up() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10).state(3)), GRANTED);
    assert_eq!(pair.a.client(11, "two").lock(&Want::bytes(&fh, 20, 10).state(3)), GRANTED);
    a.verb(&["unlock-ip", LM]);
    let b = pair.serve(&pair.b, LONG);
    pair.start(&b, &[]);
    // One says so, the other simply locks something in its new state.
    assert!(pair.b.within(|| sm_notify_to(FLOAT.into(), host(10), "one", 5, PATIENCE)));
    assert_eq!(pair.b.client(11, "two").lock(&Want::bytes(&fh, 25, 1).state(5)), GRANTED);
    assert_eq!(locks(&b), [lock(25, "two", "held")]);
    assert_eq!(b.lm(LM)["state"], "active", "nothing is left to reclaim");
}

#[test]
fn unlock_ip_silences_every_program_and_resets_the_connections() {
    let Some(pair) = Pair::new() else { return };
    let (a, fh) = pair.begin(LONG);
    assert_eq!(programs_at(&pair.a, FLOAT), ALL_PROGRAMS);
    let mut one = pair.a.client(10, "one");
    assert_eq!(one.lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let mut two = pair.a.client(11, "two");
    assert_eq!(two.lock(&Want::bytes(&fh, 0, 10).blocking()), BLOCKED);
    let mut nfs = Conn::tcp(host(10), (FLOAT, 2049));
    nfs.call((100_003, 3, 0), &[]);
    let done = a.verb(&["unlock-ip", LM]);
    assert_eq!(done["dropped"], 1, "{done}");
    for conn in [&mut one.conn, &mut two.conn, &mut nfs] {
        use std::io::Read as _;
        conn.stream().set_read_timeout(Some(PATIENCE)).unwrap();
        let ended = conn.stream().read(&mut [0; 8]);
        assert_eq!(ended.map_err(|e| e.kind()), Err(std::io::ErrorKind::ConnectionReset));
    }
    assert_eq!(programs_at(&pair.a, FLOAT), [""; 0]);
    assert!(a.rows("locks").is_empty() && a.rows("waiters").is_empty() && a.rows("clients").is_empty());
}

#[test]
fn the_disk_can_be_unmounted_right_after_unlock_ip() {
    let Some(pair) = Pair::new() else { return };
    let disk = pair.world.dir().join("disk");
    pair.world.tmpfs(&disk, 64 << 10);
    let share = disk.join("share");
    let journal = disk.join("locks");
    std::fs::create_dir(&share).unwrap();
    std::fs::create_dir(&journal).unwrap();
    std::fs::write(share.join("f"), b"data").unwrap();
    let export = format!("[[export]]\npath = {share:?}\nfsid = 7\nsquash = \"none\"\ninsecure = true\n");
    let a = pair.a.serve(&pair.world, LONG, &export);
    let start = ["start-grace", LM, share.to_str().unwrap(), "--journal", journal.to_str().unwrap()];
    for round in 0..3 {
        a.verb(&start);
        let fh = pair.a.within(|| a.handle_through(FLOAT.into(), &share, "f"));
        let mut one = pair.a.client(10, "one");
        assert_eq!(one.lock(&Want::bytes(&fh, 0, 10)), GRANTED, "round {round}");
        a.verb(&["unlock-ip", LM]);
        // Not lazily: nothing may be open below it. Mounted again elsewhere, the disk is what it was.
        let (disk, kept) = (disk.display(), pair.world.dir().join("kept"));
        let kept = kept.display();
        pair.world.sh(&format!(
            "mkdir -p {kept} && mount --bind {disk} {kept} && umount {disk} && mount --bind {kept} {disk} && umount {kept}"
        ));
    }
    let b = pair.b.serve(&pair.world, LONG, &export);
    assert_eq!(b.verb(&start)["marked"], 1);
    b.verb(&["unlock-ip", LM]);
    pair.world.sh(&format!("umount {}", disk.display()));
}

#[test]
fn a_client_is_told_of_every_move_in_a_new_state() {
    let Some(pair) = Pair::new() else { return };
    let (mut from, fh) = pair.begin(LONG);
    assert_eq!(pair.a.client(10, "one").lock(&Want::bytes(&fh, 0, 10)), GRANTED);
    let homes: [Host; 2] = [pair.a.host(10), pair.b.host(10)];
    let mut last = 0;
    for round in 0..6 {
        let (node, home) = if round % 2 == 0 { (&pair.b, &homes[1]) } else { (&pair.a, &homes[0]) };
        from.verb(&["unlock-ip", LM]);
        assert!(from.terminate().success());
        from = pair.serve(node, LONG);
        pair.start(&from, &[]);
        let (_, state, _) = home.notice();
        assert!(state > last, "{state} after {last}");
        last = state;
        assert_eq!(node.client(10, "one").lock(&Want::bytes(&fh, 0, 10).reclaim()), GRANTED, "round {round}");
        assert_eq!(from.lm(LM)["state"], "active");
    }
}
