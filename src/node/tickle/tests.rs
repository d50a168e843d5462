//! An address moves between network namespaces under a client that notices nothing by itself.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};

use tokio::runtime::Handle;

use super::super::namespaces::{Namespace, alone, runtime, sh};
use super::*;

/// A bound against hanging.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing is waited for. It proves little, so it is short.
const SILENCE: Duration = Duration::from_millis(300);

/// A client with a connection to an address that has left the first node without a word.
struct Moved {
    client: TcpStream,
    second: Namespace,
    connection: Connection,
    // As long as its listener and its end of the connection live nobody can say that the first node hung up.
    _first: (Namespace, TcpListener, TcpStream),
    _switch: Namespace,
}

fn move_address(address: &str, client: &str, flags: &str) -> Moved {
    let switch = Namespace::new();
    sh(&format!(
        "ip link add br0 type bridge forward_delay 0\nip addr add {client} dev br0 {flags}\nip link set br0 up"
    ));
    let plug_in = |port: &str, node: &Namespace| {
        switch.enter();
        sh(&format!(
            "ip link add {port} type veth peer name eth0 netns {}\nip link set {port} master br0 up",
            node.name()
        ));
        node.enter();
        sh("ip link set eth0 up");
    };
    let (first, second) = (Namespace::new(), Namespace::new());
    plug_in("v1", &first);
    sh(&format!("ip addr add {address} dev eth0 {flags}"));
    let ip: IpAddr = address.split('/').next().unwrap().parse().unwrap();
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let ours = listener.local_addr().unwrap();

    switch.enter();
    let client = TcpStream::connect_timeout(&ours, PATIENCE).unwrap();
    let (server_side, peer) = listener.accept().unwrap();
    // The cable is pulled: no FIN, no reset.
    sh("ip link set v1 nomaster down");
    plug_in("v2", &second);
    switch.enter();
    sh("ip neigh flush dev br0");
    Moved {
        client,
        second,
        connection: (ours, peer),
        _first: (first, listener, server_side),
        _switch: switch,
    }
}

/// What the client sees within this time.
fn seen(client: &mut TcpStream, within: Duration) -> io::ErrorKind {
    client.set_read_timeout(Some(within)).unwrap();
    client.read(&mut [0]).expect_err("nobody writes").kind()
}

fn a_half_open_connection_is_reset_by_the_tickle(address: &str, client: &str, flags: &str) {
    alone(|| {
        let mut moved = move_address(address, client, flags);
        moved.second.enter();
        let (ours, peer) = moved.connection;
        runtime().block_on(async {
            let addresses = AddressWatch::start(&Handle::current()).unwrap();
            let early = tickle(ours.ip(), &[moved.connection]).await;
            assert!(matches!(early, Err(TickleError::NotHere(_))), "{early:?}");
            let later = tokio::spawn(tickle_later(ours.ip(), vec![moved.connection], addresses));
            sh(&format!("ip addr add {address} dev eth0 {flags}"));
            tokio::task::spawn_blocking(move || {
                assert_eq!(seen(&mut moved.client, PATIENCE), io::ErrorKind::ConnectionReset);
            })
            .await
            .unwrap();
            later.abort();
            // Families that do not fit and other addresses' connections are passed over.
            let others = [(ours, "[fd77::7]:7".parse().unwrap()), ("192.0.2.1:7".parse().unwrap(), peer)];
            let others = if ours.is_ipv4() { &others[..] } else { &others[1..] };
            assert_eq!(tickle(ours.ip(), others).await.unwrap(), 0);
        });
    });
}

#[test]
fn a_half_open_connection_over_ipv4_is_reset() {
    a_half_open_connection_is_reset_by_the_tickle("10.9.0.1/24", "10.9.0.9/24", "");
}

#[test]
fn a_half_open_connection_over_ipv6_is_reset() {
    a_half_open_connection_is_reset_by_the_tickle("fd79::1/64", "fd79::9/64", "nodad");
}

#[test]
fn without_a_tickle_the_client_notices_nothing() {
    alone(|| {
        let mut moved = move_address("10.9.0.1/24", "10.9.0.9/24", "");
        moved.second.enter();
        sh("ip addr add 10.9.0.1/24 dev eth0");
        assert_eq!(seen(&mut moved.client, SILENCE), io::ErrorKind::WouldBlock);
        let sent = runtime().block_on(tickle(moved.connection.0.ip(), &[moved.connection])).unwrap();
        assert_eq!(sent, 1);
        assert_eq!(seen(&mut moved.client, PATIENCE), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn what_hinders_it_is_told_apart() {
    let ip: IpAddr = "10.9.0.1".parse().unwrap();
    let said = |code: i32| explain(ip, io::Error::from_raw_os_error(code));
    assert!(matches!(said(libc::EPERM), TickleError::NotAllowed(_)));
    assert!(said(libc::EPERM).to_string().contains("CAP_NET_RAW"));
    assert!(matches!(said(libc::EADDRNOTAVAIL), TickleError::NotHere(_)));
    assert!(matches!(said(libc::ENOBUFS), TickleError::Io { .. }));
}
