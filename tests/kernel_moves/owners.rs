//! Two nodes that both believe in the address, on a store that both can write.

use super::support::agent::Kind;
use super::support::cluster::{Cluster, Which};
use super::support::server::Server as _;
use super::support::wait_for;
use super::world::{A_WHILE, EXTRA_MOUNTS, TAKE_OVER, World, mount};

/// Of the second cluster, which has the directory in common.
const SHARED: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 101));

pub(super) fn an_owner_that_was_superseded_is_silent(w: &mut World) {
    let mut cluster = Cluster::with_shared_directory(&w.net, "peer", 3, &[SHARED], "");
    for which in [Which::First, Which::Second] {
        cluster.server_mut(which).start();
    }
    cluster.take(Which::First, SHARED, "");
    let place = format!("{EXTRA_MOUNTS}-shared");
    for agent in [w.a(), w.b()] {
        mount(agent, &SHARED.to_string(), &place, "vers=3");
    }
    let path = format!("{place}/split");
    let (a, b) = (w.a().owner("a"), w.b().owner("b"));
    let (fa, fb) = (a.open(&path), b.open(&path));
    a.lock(fa, Kind::Write, 0, 100);
    b.lock(fb, Kind::Write, 500, 10);

    // Client B goes on speaking to the first node, whatever the network says: nobody has told that node.
    let mac = cluster.sh(Which::First, "cat /sys/class/net/eth0/address");
    w.b().sh(&format!("ip neigh replace {SHARED} lladdr {mac} dev eth0 nud permanent"));
    let granted = |which| cluster.server(which).counter("granted");
    let before = granted(Which::First);
    cluster.take(Which::Second, SHARED, "");
    let late = b.lock_now(fb, Kind::Write, 200, 10);
    late.must_still_wait("a request to a node that was superseded", A_WHILE * 2);
    assert_eq!(granted(Which::First), before, "it granted a lock");
    wait_for("the first node to know that it was superseded", TAKE_OVER, || {
        let lm = cluster.lock_manager(Which::First, SHARED);
        if lm["state"] == "superseded" { Ok(()) } else { Err(lm.to_string()) }
    });

    // The other client has moved along and has its lock.
    wait_for("client A's reclaim on the second node", TAKE_OVER, || {
        let lm = cluster.lock_manager(Which::Second, SHARED);
        if lm["locks"].as_u64() > Some(0) { Ok(()) } else { Err(lm.to_string()) }
    });
    // The network is put right: the request of client B goes to the node that owns the address now, and so do its reclaims.
    w.b().sh(&format!("ip neigh del {SHARED} dev eth0"));
    late.wait(TAKE_OVER).expect("granted by the second node");
    wait_for("all reclaims", TAKE_OVER, || {
        let lm = cluster.lock_manager(Which::Second, SHARED);
        if lm["locks"] == 3 && lm["reclaimable"] == 0 { Ok(()) } else { Err(lm.to_string()) }
    });
    assert!(a.test(fa, Kind::Write, 500, 1).is_some() && a.test(fa, Kind::Write, 200, 1).is_some());
    assert!(b.test(fb, Kind::Write, 50, 1).is_some());
    w.check_nothing_lost();
    // What the first one still thinks of itself has not harmed the record.
    cluster.sh(
        Which::Second,
        &format!("{} journal verify {}", env!("CARGO_BIN_EXE_lockferry"), cluster.journal(SHARED)),
    );

    for agent in [w.a(), w.b()] {
        agent.kill_owners();
        agent.sh_within(&format!("umount {place}"), TAKE_OVER);
    }
}
