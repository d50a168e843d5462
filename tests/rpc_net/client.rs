//! Outgoing calls: retransmission, connections, source addresses, errors.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lockferry::rpc::Transport;
use lockferry::rpc::client::{CallCred, CallError, CallSpec, ClientSettings, RpcClient};
use tokio::net::{TcpListener, UdpSocket};

use super::echo::*;
use super::wire::*;

fn client() -> RpcClient {
    RpcClient::new(ClientSettings::default())
}

fn spec(port: u16, transport: Transport, procedure: u32, args: &[u8]) -> CallSpec {
    CallSpec {
        to: SocketAddr::from(([127, 0, 0, 1], port)),
        source: None,
        via: None,
        transport,
        program: PROGRAM,
        version: 3,
        procedure,
        args: args.to_vec().into(),
        cred: CallCred::Sys,
        first_timeout: Duration::from_secs(5),
        give_up: PATIENCE,
    }
}

const BOTH: [Transport; 2] = [Transport::Udp, Transport::Tcp];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_returns_its_results_over_both_transports() {
    let (served, client) = (serve(), client());
    for transport in BOTH {
        let reply = client.call(spec(served.port, transport, ECHO, b"abcd")).await.unwrap();
        assert_eq!((&reply.results[..], reply.transmissions), (&b"abcd"[..], 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_error_of_the_peer_has_a_name() {
    let (served, client) = (serve(), client());
    for transport in BOTH {
        let base = spec(served.port, transport, ECHO, b"");
        let other = CallSpec { program: PROGRAM + 1, ..base.clone() };
        assert!(matches!(client.call(other).await, Err(CallError::ProgUnavail)));
        let other = CallSpec { version: 9, ..base.clone() };
        assert!(matches!(client.call(other).await, Err(CallError::ProgMismatch { low: 2, high: 3 })));
        let other = CallSpec { procedure: 99, ..base.clone() };
        assert!(matches!(client.call(other).await, Err(CallError::ProcUnavail)));
        let other = CallSpec { args: vec![0; 2000].into(), ..base.clone() };
        assert!(matches!(client.call(other).await, Err(CallError::GarbageArgs)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datagram_is_sent_again_under_the_same_xid_from_the_same_port() {
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut call = spec(peer.local_addr().unwrap().port(), Transport::Udp, ECHO, b"abcd");
    call.first_timeout = Duration::from_millis(20);
    let caller = tokio::spawn(async move { client().call(call).await });
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut buffer = vec![0; 1000];
        let (n, from) = peer.recv_from(&mut buffer).await.unwrap();
        seen.push((buffer[..n].to_vec(), from));
    }
    assert!(seen.iter().all(|s| *s == seen[0]));
    let xid = u32::from_be_bytes(seen[0].0[..4].try_into().unwrap());
    // Neither a reply to another call nor rubbish is taken for the reply.
    for wrong in [ok(xid + 1), vec![1, 2, 3], seen[0].0.clone()] {
        peer.send_to(&wrong, seen[0].1).await.unwrap();
    }
    peer.send_to(&ok_with(xid, b"done"), seen[0].1).await.unwrap();
    let reply = caller.await.unwrap().unwrap();
    assert_eq!(&reply.results[..], b"done");
    assert!(reply.transmissions >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_is_given_up() {
    let (served, client) = (serve(), client());
    for transport in BOTH {
        let mut call = spec(served.port, transport, SILENT, b"");
        (call.first_timeout, call.give_up) = (Duration::from_millis(20), Duration::from_millis(150));
        match client.call(call).await {
            Err(CallError::Timeout { transmissions }) => assert!(transmissions >= 2, "{transmissions}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_port_is_known_at_once() {
    let port = {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        tcp.local_addr().unwrap().port()
    };
    for transport in BOTH {
        let mut call = spec(port, transport, ECHO, b"");
        (call.first_timeout, call.give_up) = (Duration::from_secs(3600), Duration::from_secs(3600));
        let result = tokio::time::timeout(PATIENCE, client().call(call)).await.expect("it waits");
        assert!(matches!(result, Err(CallError::NotListening { .. })), "{transport:?}: {result:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_share_a_connection_and_it_closes_when_idle() {
    let served = serve();
    let settings = ClientSettings { idle: Duration::from_secs(1), ..ClientSettings::default() };
    let client = RpcClient::new(settings);
    let many: Vec<_> = (0..50u32)
        .map(|n| {
            let call = spec(served.port, Transport::Tcp, ECHO, &n.to_be_bytes());
            let client = client.clone();
            tokio::spawn(async move { (n, client.call(call).await.unwrap().results) })
        })
        .collect();
    for call in many {
        let (n, results) = call.await.unwrap();
        assert_eq!(results[..], n.to_be_bytes());
    }
    assert_eq!(served.server.connections(), 1);
    eventually("the idle connection is closed", || served.server.connections() == 0).await;
    client.call(spec(served.port, Transport::Tcp, ECHO, b"")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_made_anew_and_the_call_sent_again_under_its_xid() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let call = spec(listener.local_addr().unwrap().port(), Transport::Tcp, ECHO, b"abcd");
    let caller = tokio::spawn(async move { client().call(call).await });
    let mut first = Tcp(listener.accept().await.unwrap().0);
    let lost = first.receive().await.unwrap();
    drop(first);
    let mut second = Tcp(listener.accept().await.unwrap().0);
    let again = second.receive().await.unwrap();
    assert_eq!(lost, again);
    let xid = u32::from_be_bytes(again[..4].try_into().unwrap());
    second.send(&fragments(&ok_with(xid, b"done"), 5)).await;
    let reply = caller.await.unwrap().unwrap();
    assert_eq!((&reply.results[..], reply.transmissions), (&b"done"[..], 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_cannot_be_sent_again_tells_that_the_peer_may_have_seen_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let call = spec(listener.local_addr().unwrap().port(), Transport::Tcp, ECHO, b"abcd");
    let caller = tokio::spawn(async move { client().call(call).await });
    let mut first = Tcp(listener.accept().await.unwrap().0);
    first.receive().await.unwrap();
    drop(listener);
    drop(first);
    let result = caller.await.unwrap();
    assert!(matches!(result, Err(CallError::NotListening { transmissions: 2 })), "{result:?}");
}

fn text(results: &[u8]) -> String {
    String::from_utf8(results[4..].to_vec()).unwrap().trim_end_matches('\0').to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_leave_from_the_wanted_address_and_a_reserved_port() {
    let (served, client) = (serve(), client());
    for transport in BOTH {
        let mut call = spec(served.port, transport, WHERE, b"");
        call.source = Some(IpAddr::from([127, 0, 0, 5]));
        let seen = text(&client.call(call.clone()).await.unwrap().results);
        let peer: SocketAddr = seen.split(' ').nth(1).unwrap().parse().unwrap();
        assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 5]));
        match nix::unistd::geteuid().is_root() {
            true => assert!(peer.port() < 1024, "{peer}"),
            false => println!("skipped: reserved source ports need root"),
        }
        call.source = Some(IpAddr::from([192, 0, 2, 1]));
        let result = client.call(call).await;
        let known = IpAddr::from([192, 0, 2, 1]);
        assert!(
            matches!(result, Err(CallError::NoSuchSource { source_address, transmissions: 0 }) if source_address == known)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_can_leave_from_the_port_of_a_serving_socket() {
    let (ours, theirs, client) = (serve(), serve(), client());
    for source in [IpAddr::from([127, 0, 0, 6]), IpAddr::from([127, 0, 0, 7])] {
        let mut call = spec(theirs.port, Transport::Udp, WHERE, b"");
        (call.source, call.via) = (Some(source), ours.udp.from_address(&source));
        assert!(call.via.is_some());
        let reply = client.call(call).await.unwrap();
        assert!(text(&reply.results).ends_with(&format!(" {source}:{}", ours.port)));
    }
    // The socket goes on serving.
    let udp = Udp::to(SocketAddr::from(([127, 0, 0, 1], ours.port))).await;
    assert_eq!(udp.ask(&call(1, ECHO, b"")).await, ok(1));
}
