//! What a peer sees of the server in ordinary and in wrong use.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lockferry::rpc::Transport;
use lockferry::rpc::drc::{Drc, DrcLimits};
use lockferry::rpc::server::{ListenError, ListenSpec, RpcServer, ServerLimits};

use super::echo::*;
use super::wire::*;

fn at(ip: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::from((ip, port))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_answered_over_both_transports_and_both_families() {
    let served = serve();
    let mut peers = vec![at([127, 0, 0, 1], served.port)];
    match std::net::UdpSocket::bind("[::1]:0") {
        Ok(_) => peers.push(SocketAddr::from((Ipv6Addr::LOCALHOST, served.port))),
        Err(error) => println!("skipped: IPv6, not on this host: {error}"),
    }
    for peer in peers {
        let mut tcp = Tcp::connect_to(peer).await;
        assert_eq!(tcp.ask(&call(1, 0, b"")).await, ok(1));
        assert_eq!(tcp.ask(&call(2, ECHO, b"abcd")).await, ok_with(2, b"abcd"));
        let udp = Udp::to(peer).await;
        assert_eq!(udp.ask(&call(1, 0, b"")).await, ok(1));
        assert_eq!(udp.ask(&call(2, ECHO, b"abcd")).await, ok_with(2, b"abcd"));
    }
}

/// Each wrong call, and the reply that RFC 5531 has for it.
fn wrong_calls() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let head = |vers, prog, v, proc| vec![9, 0, vers, prog, v, proc];
    let with = |mut head: Vec<u32>, rest: &[u32]| {
        head.extend_from_slice(rest);
        words(&head)
    };
    let none = [0, 0, 0, 0];
    let good = || head(2, PROGRAM, 3, ECHO);
    let auth_error = |stat| words(&[9, 1, 1, 1, stat]);
    let accepted = |rest: &[u32]| with(vec![9, 1, 0, 0, 0], rest);
    let mut long_args = with(good(), &none);
    long_args.extend([0; 1028]);
    let mut long_cred = with(good(), &[1, 404]);
    long_cred.extend([0; 412]);
    vec![
        ("rpc version", with(head(3, PROGRAM, 3, ECHO), &none), words(&[9, 1, 1, 0, 2, 2])),
        ("program", with(head(2, PROGRAM + 1, 3, ECHO), &none), accepted(&[1])),
        ("version too high", with(head(2, PROGRAM, 4, ECHO), &none), accepted(&[2, 2, 3])),
        ("version too low", with(head(2, PROGRAM, 1, 0), &none), accepted(&[2, 2, 3])),
        ("procedure", with(head(2, PROGRAM, 3, 99), &none), accepted(&[3])),
        ("procedure of another version", with(head(2, PROGRAM, 2, WHERE), &none), accepted(&[3])),
        ("arguments too long", long_args, accepted(&[4])),
        ("flavour", with(good(), &[6, 4, 0, 0, 0]), auth_error(2)),
        ("short credential", with(good(), &[2, 0, 0, 0]), auth_error(2)),
        ("credential that does not decode", with(good(), &[1, 4, 0, 0, 0]), auth_error(1)),
        ("credential too long", long_cred, auth_error(1)),
        ("verifier of a flavour", with(good(), &[0, 0, 6, 0]), auth_error(4)),
        ("verifier with a body", with(good(), &[0, 0, 0, 4, 1]), auth_error(3)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_wrong_call_gets_its_own_error_and_the_connection_goes_on() {
    let served = serve();
    let mut tcp = Tcp::connect(served.port).await;
    let udp = Udp::to(at([127, 0, 0, 1], served.port)).await;
    for (what, message, expected) in wrong_calls() {
        assert_eq!(tcp.ask(&message).await, expected, "tcp: {what}");
        assert_eq!(udp.ask(&message).await, expected, "udp: {what}");
    }
    assert_eq!(tcp.ask(&call(2, ECHO, b"abcd")).await, ok_with(2, b"abcd"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fragments_of_any_size_make_one_call() {
    let served = serve();
    let mut tcp = Tcp::connect(served.port).await;
    for size in [1, 3, 40, 43, 500] {
        tcp.send(&fragments(&call(7, ECHO, &[9; 100]), size)).await;
        assert_eq!(tcp.receive().await, Some(ok_with(7, &[9; 100])), "fragments of {size}");
    }
    let large = vec![5; 300_000];
    tcp.send(&fragments(&call(8, LARGE, &large), 4000)).await;
    assert_eq!(tcp.receive().await, Some(ok_with(8, &300_000u32.to_be_bytes())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_trickles_in_byte_by_byte_is_answered() {
    let served = serve();
    let mut tcp = Tcp::connect(served.port).await;
    for byte in record(&call(7, ECHO, b"slow")) {
        tcp.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(tcp.receive().await, Some(ok_with(7, b"slow")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_calls_are_answered_as_they_finish() {
    let served = serve();
    let mut tcp = Tcp::connect(served.port).await;
    let mut stream = Vec::new();
    for xid in 1..=3 {
        stream.extend(record(&call(xid, HOLD, b"")));
    }
    for xid in 10..500 {
        stream.extend(record(&call(xid, ECHO, b"abcd")));
    }
    tcp.send(&stream).await;
    for xid in 10..500 {
        assert_eq!(tcp.receive().await, Some(ok_with(xid, b"abcd")));
    }
    assert_eq!(tcp.ask(&call(600, RELEASE, b"")).await, ok(600));
    for xid in [3, 2, 1] {
        assert_eq!(tcp.receive().await, Some(ok_with(xid, &7u32.to_be_bytes())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_closes_its_side_still_gets_its_replies() {
    let served = serve();
    let mut tcp = Tcp::connect(served.port).await;
    tcp.send(&record(&call(1, HOLD, b""))).await;
    tokio::io::AsyncWriteExt::shutdown(&mut tcp.0).await.unwrap();
    eventually("the call is held", || served.echo.held.lock().unwrap().len() == 1).await;
    served.echo.held.lock().unwrap().pop().unwrap().success(&5u32);
    assert_eq!(tcp.receive().await, Some(ok_with(1, &5u32.to_be_bytes())));
    assert_eq!(tcp.receive().await, None);
    eventually("the connection is gone", || served.server.connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retransmitted_call_is_carried_out_once_and_answered_alike() {
    let served = serve();
    let udp = Udp::to(at([127, 0, 0, 1], served.port)).await;
    let first = udp.ask(&call(1, COUNT, b"")).await;
    for _ in 0..5 {
        assert_eq!(udp.ask(&call(1, COUNT, b"")).await, first);
    }
    assert_eq!(udp.ask(&call(2, COUNT, b"")).await, ok_with(2, &2u32.to_be_bytes()));
    // Other arguments under the same xid are another call.
    assert_eq!(udp.ask(&call(2, COUNT, b"else")).await, ok_with(2, &3u32.to_be_bytes()));
    // A TCP client comes back on a new connection from its old port.
    let mut tcp = Tcp::connect_from(at([127, 0, 0, 1], 0), served.port).await;
    let first = tcp.ask(&call(1, COUNT, b"")).await;
    let local = tcp.0.local_addr().unwrap();
    tcp.0.set_zero_linger().unwrap();
    drop(tcp);
    let mut tcp = Tcp::connect_from(local, served.port).await;
    assert_eq!(tcp.ask(&call(1, COUNT, b"")).await, first);
    assert_eq!(first, ok_with(1, &4u32.to_be_bytes()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_left_without_an_answer_may_be_tried_again() {
    let served = serve();
    let udp = Udp::to(at([127, 0, 0, 1], served.port)).await;
    for n in 1..=3 {
        udp.send(&call(1, COUNT_SILENTLY, b"")).await;
        eventually("it was counted", || served.echo.count.load(std::sync::atomic::Ordering::SeqCst) == n)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_local_address_is_told_apart_and_answers_for_itself() {
    let served = serve();
    for ip in [[127, 0, 0, 2], [127, 0, 0, 3]] {
        let addr = at(ip, served.port);
        let mut tcp = Tcp::connect_to(addr).await;
        let udp = Udp::to(addr).await; // connected: a reply from another address would not arrive
        for (reply, client) in [
            (tcp.ask(&call(1, WHERE, b"")).await, tcp.0.local_addr().unwrap()),
            (udp.ask(&call(1, WHERE, b"")).await, udp.0.local_addr().unwrap()),
        ] {
            let text = format!("{addr} {client}");
            assert_eq!(reply[28..28 + text.len()], *text.as_bytes());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_not_served_is_silent_and_its_connections_are_reset() {
    let served = serve();
    let (here, gone) = (at([127, 0, 0, 2], served.port), at([127, 0, 0, 3], served.port));
    let mut staying = Tcp::connect_to(here).await;
    let mut going = [Tcp::connect_to(gone).await, Tcp::connect_to(gone).await];
    for tcp in &mut going {
        tcp.ask(&call(1, ECHO, b"")).await;
    }
    going[0].send(&record(&call(2, HOLD, b""))).await;
    staying.ask(&call(1, ECHO, b"")).await;
    assert_eq!(served.server.peers(Some(gone.ip())).len(), 2);
    assert_eq!(served.server.peers(None).len(), 3);

    served.echo.unserved.lock().unwrap().push(gone.ip());
    assert_eq!(served.server.reset_connections(gone.ip()).await, 2);
    assert!(served.server.peers(Some(gone.ip())).is_empty());
    for tcp in &mut going {
        assert!(tcp.ended_by_reset().await);
    }
    // The reset may come before `connect` has returned.
    match tokio::net::TcpStream::connect(gone).await {
        Ok(stream) => assert!(Tcp(stream).ended_by_reset().await),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    let udp = Udp::to(gone).await;
    udp.send(&call(1, ECHO, b"")).await;
    udp.send(&words(&[9, 0, 3, 0, 0, 0])).await;
    // The other address is not disturbed; and its answer comes after those that must not come.
    staying.ask(&call(2, ECHO, b"")).await;
    Udp::to(here).await.ask(&call(2, ECHO, b"")).await;
    assert!(udp.0.try_recv(&mut [0; 100]).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_on_an_open_connection_to_an_address_that_was_given_up_resets_it() {
    let served = serve();
    let mut tcp = Tcp::connect(served.port).await;
    tcp.ask(&call(1, ECHO, b"")).await;
    served.echo.unserved.lock().unwrap().push(IpAddr::from([127, 0, 0, 1]));
    tcp.send(&record(&call(2, ECHO, b""))).await;
    assert!(tcp.ended_by_reset().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_replies_arrive_whole_also_to_a_slow_reader() {
    let served = serve();
    let mut tcp = Tcp::connect(served.port).await;
    let mut stream = Vec::new();
    for xid in 0..20u32 {
        stream.extend(record(&call(xid, ZEROS, &1_000_000u32.to_be_bytes())));
    }
    tcp.send(&stream).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    for xid in 0..20 {
        let reply = tcp.receive().await.unwrap();
        assert_eq!((reply.len(), &reply[..24]), (1_000_024, &ok(xid)[..]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_too_long_for_udp_is_a_system_error() {
    let served = serve();
    let udp = Udp::to(at([127, 0, 0, 1], served.port)).await;
    let reply = udp.ask(&call(1, ZEROS, &70_000u32.to_be_bytes())).await;
    assert_eq!(reply, words(&[1, 1, 0, 0, 0, 5]));
    let reply = udp.ask(&call(2, ZEROS, &60_000u32.to_be_bytes())).await;
    assert_eq!(reply.len(), 60_024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_answers_what_is_in_flight_and_takes_nothing_new() {
    let served = serve();
    let mut tcp = Tcp::connect(served.port).await;
    let mut idle = Tcp::connect(served.port).await;
    idle.ask(&call(1, 0, b"")).await;
    let udp = Udp::to(at([127, 0, 0, 1], served.port)).await;
    tcp.send(&record(&call(1, HOLD, b""))).await;
    udp.send(&call(2, HOLD, b"")).await;
    eventually("both are held", || served.echo.held.lock().unwrap().len() == 2).await;
    let server = served.server.clone();
    let down = tokio::spawn(async move { server.shutdown(Duration::from_secs(10)).await });
    assert_eq!(idle.receive().await, None);
    for held in std::mem::take(&mut *served.echo.held.lock().unwrap()) {
        held.success(&5u32);
    }
    assert_eq!(tcp.receive().await, Some(ok_with(1, &5u32.to_be_bytes())));
    assert_eq!(udp.receive().await, ok_with(2, &5u32.to_be_bytes()));
    assert_eq!(tcp.receive().await, None);
    tokio::time::timeout(PATIENCE, down).await.expect("still waiting").unwrap();
    assert_eq!(served.server.connections(), 0);
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", served.port)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_does_not_wait_for_ever() {
    let served = serve();
    let mut tcp = Tcp::connect(served.port).await;
    tcp.send(&record(&call(1, HOLD, b""))).await;
    eventually("it is held", || served.echo.held.lock().unwrap().len() == 1).await;
    served.server.shutdown(Duration::from_millis(100)).await;
    assert_eq!(tcp.receive().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_named_with_its_holder() {
    let server = RpcServer::new(ServerLimits::default(), Arc::new(Drc::new(DrcLimits::default())));
    let us = std::process::id();
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let udp_only = || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let free_for_tcp = std::net::TcpListener::bind(socket.local_addr().unwrap()).is_ok();
        free_for_tcp.then_some(socket)
    };
    let socket = std::iter::repeat_with(udp_only).flatten().next().unwrap();
    let ports = [
        (Transport::Tcp, listener.local_addr().unwrap().port()),
        (Transport::Udp, socket.local_addr().unwrap().port()),
    ];
    for (expected, port) in ports {
        let spec = ListenSpec { name: "nlm".into(), bind: vec![], port, udp: true };
        let error = server.bind(&spec).unwrap_err();
        let text = error.to_string();
        let ListenError::InUse { program, transport, port: named, holder } = error else { panic!("{text}") };
        assert_eq!((program.as_str(), transport, named), ("nlm", expected, port));
        assert_eq!(holder.unwrap().pid, us);
        assert!(text.contains(&format!("pid {us}")) && text.contains(&port.to_string()), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_comes_after_its_address_was_given_up_stays_here() {
    let served = serve();
    let gone = at([127, 0, 0, 3], served.port);
    let udp = Udp::to(gone).await;
    udp.send(&call(1, HOLD, b"")).await;
    eventually("the call is held", || served.echo.held.lock().unwrap().len() == 1).await;
    served.echo.unserved.lock().unwrap().push(gone.ip());
    served.echo.held.lock().unwrap().pop().unwrap().success(&7u32);
    Udp::to(at([127, 0, 0, 1], served.port)).await.ask(&call(2, ECHO, b"")).await;
    assert!(udp.0.try_recv(&mut [0; 100]).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_panics_loses_the_call_and_nothing_else() {
    let served = serve();
    let mut tcp = Tcp::connect(served.port).await;
    tcp.send(&record(&call(1, PANIC, b""))).await;
    assert_eq!(tcp.ask(&call(2, ECHO, b"")).await, ok(2));
    let udp = Udp::to(at([127, 0, 0, 1], served.port)).await;
    udp.send(&call(1, PANIC, b"")).await;
    assert_eq!(udp.ask(&call(2, ECHO, b"")).await, ok(2));
}

#[test]
fn addresses_that_appear_later_are_served_as_themselves() {
    super::portmap::in_namespace("server::inside_addresses", "");
}

fn ip(args: &str) {
    let status = std::process::Command::new("ip").args(args.split(' ')).status().unwrap();
    assert!(status.success(), "ip {args}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by addresses_that_appear_later_are_served_as_themselves"]
async fn inside_addresses() {
    let served = serve();
    for (add, addr) in [
        ("-4 addr add 10.9.0.1/32 dev lo", "10.9.0.1"),
        ("-4 addr add 10.9.0.2/32 dev lo", "10.9.0.2"),
        ("-6 addr add fd00::1/128 dev lo nodad", "fd00::1"),
        ("-6 addr add fd00::2/128 dev lo nodad", "fd00::2"),
    ] {
        ip(add);
        let addr = SocketAddr::new(addr.parse().unwrap(), served.port);
        // The kernel brings an IPv6 address up in the background.
        eventually("the address is up", || std::net::TcpStream::connect(addr).is_ok()).await;
        let udp = Udp::to(addr).await;
        let mut tcp = Tcp::connect_to(addr).await;
        for reply in [udp.ask(&call(1, WHERE, b"")).await, tcp.ask(&call(1, WHERE, b"")).await] {
            assert!(reply[28..].starts_with(format!("{addr} ").as_bytes()));
        }
    }
    // And one that goes takes nothing with it.
    ip("-6 addr del fd00::1/128 dev lo");
    let udp = Udp::to(SocketAddr::new("fd00::2".parse().unwrap(), served.port)).await;
    assert_eq!(udp.ask(&call(1, ECHO, b"abcd")).await, ok_with(1, b"abcd"));
}
