//! The portmapper as clients see it: through our own client, through rpcinfo, and rpcbind itself as the host's.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use lockferry::rpc::client::{CallError, ClientSettings, RpcClient};
use lockferry::rpc::drc::{Drc, DrcLimits};
use lockferry::rpc::rpcbind::{
    HostRpcbind, NetId, Portmapper, RPCBIND_SOCKET, Registration, RpcbindError, Table, registrations,
};
use lockferry::rpc::server::{ListenSpec, RpcServer, ServerLimits};
use lockferry::rpc::{Call, Program, Responder, Transport};

use super::echo::*;
use super::wire::*;

const NLM: u32 = 100_021;
const RPCBIND: u32 = 100_000;

fn has_ipv6() -> bool {
    let has = std::net::UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        println!("skipped: IPv6, not on this host");
    }
    has
}

/// Serves a portmapper on `port`; the table knows it and the echo program.
fn serve_portmapper(server: &RpcServer, port: u16, table: &Arc<Table>, echo_port: u16) -> u16 {
    let spec = ListenSpec { name: "rpcbind".into(), bind: vec![], port, udp: true };
    let bound = server.bind(&spec).unwrap();
    let port = bound.port();
    table.register(&registrations(RPCBIND, &[2, 3, 4], &bound.addresses()));
    let echo: Vec<_> = bound
        .addresses()
        .into_iter()
        .map(|(transport, addr)| (transport, SocketAddr::new(addr.ip(), echo_port)))
        .collect();
    table.register(&registrations(PROGRAM, &[2, 3], &echo));
    server.serve(bound, vec![Arc::new(Portmapper::new(table.clone(), true))]).unwrap();
    port
}

fn client_of(rpcbind_port: u16) -> RpcClient {
    RpcClient::new(ClientSettings { rpcbind_port, ..ClientSettings::default() })
}

async fn getport(
    client: &RpcClient,
    host: IpAddr,
    version: u32,
    transport: Transport,
) -> Result<u16, CallError> {
    client.getport(host, None, PROGRAM, version, transport, PATIENCE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_are_found_over_every_family_and_transport() {
    let (served, table) = (serve(), Arc::new(Table::new()));
    let port = serve_portmapper(&served.server, 0, &table, served.port);
    let client = client_of(port);
    let mut hosts = vec![IpAddr::from([127, 0, 0, 1])];
    if has_ipv6() {
        hosts.push(Ipv6Addr::LOCALHOST.into());
    }
    for host in hosts {
        for transport in [Transport::Udp, Transport::Tcp] {
            assert_eq!(getport(&client, host, 3, transport).await.unwrap(), served.port);
            // Another version: the program itself will say which there are.
            assert_eq!(getport(&client, host, 1, transport).await.unwrap(), served.port);
        }
        let unknown = client.getport(host, None, NLM, 4, Transport::Udp, PATIENCE).await;
        assert!(matches!(unknown, Err(CallError::NotRegistered { program: NLM, version: 4 })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_is_believed_until_it_is_invalidated() {
    let (served, table) = (serve(), Arc::new(Table::new()));
    let port = serve_portmapper(&served.server, 0, &table, 1111);
    let (client, host) = (client_of(port), IpAddr::from([127, 0, 0, 1]));
    assert_eq!(getport(&client, host, 3, Transport::Udp).await.unwrap(), 1111);
    let addr = SocketAddr::from(([0, 0, 0, 0], 2222));
    table.register(&[Registration { program: PROGRAM, version: 3, netid: NetId::Udp, addr }]);
    assert_eq!(getport(&client, host, 3, Transport::Udp).await.unwrap(), 1111);
    client.invalidate(host);
    assert_eq!(getport(&client, host, 3, Transport::Udp).await.unwrap(), 2222);
}

/// An rpcbind without version 2, as BSD systems can have it.
struct OnlyNew(Portmapper);

impl Program for OnlyNew {
    fn number(&self) -> u32 {
        RPCBIND
    }
    fn versions(&self) -> &[u32] {
        &[3]
    }
    fn has_procedure(&self, version: u32, procedure: u32) -> bool {
        self.0.has_procedure(version, procedure)
    }
    fn max_args(&self, version: u32, procedure: u32) -> usize {
        self.0.max_args(version, procedure)
    }
    fn is_cached(&self, _: u32, _: u32) -> bool {
        false
    }
    fn dispatch(&self, call: Call, responder: Responder) {
        self.0.dispatch(call, responder)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_only_knows_version_3_is_asked_in_it() {
    let server = RpcServer::new(ServerLimits::default(), Arc::new(Drc::new(DrcLimits::default())));
    let spec = ListenSpec { name: "rpcbind".into(), bind: vec![], port: 0, udp: true };
    let bound = server.bind(&spec).unwrap();
    let port = bound.port();
    let table = Arc::new(Table::new());
    table.register(&registrations(PROGRAM, &[3], &bound.addresses()));
    server.serve(bound, vec![Arc::new(OnlyNew(Portmapper::new(table, true)))]).unwrap();
    let found = getport(&client_of(port), IpAddr::from([127, 0, 0, 1]), 3, Transport::Tcp).await;
    assert_eq!(found.unwrap(), port);
}

fn portmap(xid: u32, version: u32, procedure: u32, args: &[u8]) -> Vec<u8> {
    [words(&[xid, 0, 2, RPCBIND, version, procedure, 0, 0, 0, 0]), args.to_vec()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn set_is_for_root_on_this_host_only_and_callit_for_nobody() {
    let (served, table) = (serve(), Arc::new(Table::new()));
    let port = serve_portmapper(&served.server, 0, &table, served.port);
    let mut tcp = Tcp::connect(port).await;
    let mapping = words(&[NLM, 4, 6, 999]);
    // From a port that any user may have.
    assert_eq!(tcp.ask(&portmap(1, 2, 1, &mapping)).await, ok_with(1, &words(&[0])));
    assert_eq!(tcp.ask(&portmap(2, 2, 5, &mapping)).await, words(&[2, 1, 0, 0, 0, 3]));
    for version in [3, 4] {
        assert_eq!(tcp.ask(&portmap(3, version, 5, &mapping)).await, words(&[3, 1, 0, 0, 0, 3]));
    }
    assert_eq!(tcp.ask(&portmap(4, 2, 3, &[1])).await, words(&[4, 1, 0, 0, 0, 4]));
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: SET from a reserved port needs root");
        return;
    }
    let from = (600..1024).map(|p| SocketAddr::from(([127, 0, 0, 1], p)));
    let free = from.into_iter().find(|a| std::net::TcpListener::bind(a).is_ok()).unwrap();
    let mut root = Tcp::connect_from(free, port).await;
    assert_eq!(root.ask(&portmap(5, 2, 1, &mapping)).await, ok_with(5, &words(&[1])));
    assert_eq!(table.find(NLM, 4, NetId::Tcp, true).map(|a| a.port()), Some(999));
    // Ours cannot be dropped, another's can.
    let ours = words(&[PROGRAM, 3, 0, 0]);
    assert_eq!(root.ask(&portmap(6, 2, 2, &ours)).await, ok_with(6, &words(&[0])));
    assert_eq!(root.ask(&portmap(7, 2, 2, &mapping)).await, ok_with(7, &words(&[1])));
    assert_eq!(table.find(NLM, 4, NetId::Tcp, true), None);
}

/// Runs one of the ignored tests below in network and mount namespaces of its own, where it has port 111 and
/// /run for itself. Everything it starts ends with it.
pub(crate) fn in_namespace(test: &str, needs: &str) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: {test} needs root for a network namespace");
        return;
    }
    let found = |tool: &str| {
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        path.split(':').any(|dir| Path::new(dir).join(tool).exists())
    };
    for tool in needs.split_whitespace().chain(["unshare", "ip"]) {
        if !found(tool) {
            println!("skipped: {test} needs {tool} (apt-get install rpcbind iproute2)");
            return;
        }
    }
    let script =
        "ip link set lo up && mount -t tmpfs tmpfs /run && exec \"$0\" --exact \"$1\" --ignored --nocapture";
    let output = Command::new("unshare")
        .args(["-n", "-m", "-p", "-f", "--kill-child", "--mount-proc", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn rpcinfo_understands_our_portmapper() {
    in_namespace("portmap::inside_rpcinfo", "rpcinfo");
}

fn rpcinfo(args: &[&str]) -> String {
    let output = Command::new("rpcinfo").args(args).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "rpcinfo {args:?}: {out}{err}");
    out.into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by rpcinfo_understands_our_portmapper"]
async fn inside_rpcinfo() {
    let (served, table) = (serve(), Arc::new(Table::new()));
    serve_portmapper(&served.server, 111, &table, served.port);
    let (program, port) = (PROGRAM.to_string(), served.port.to_string());
    let ask = move || {
        for host in ["127.0.0.1", "127.0.0.9"] {
            let list = rpcinfo(&["-p", host]);
            let lines = list.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
            let of = |proto: &str| lines.clone().any(|l| l.starts_with(&[&program, "3", proto, &port]));
            assert!(of("tcp") && of("udp"), "{list}");
            assert!(rpcinfo(&["-s", host]).contains(&program));
            for netid in ["tcp", "udp"] {
                assert!(rpcinfo(&["-T", netid, host, &program, "3"]).contains("ready and waiting"));
            }
            assert!(rpcinfo(&["-t", host, &program, "2"]).contains("ready and waiting"));
            assert!(rpcinfo(&["-u", host, &program, "2"]).contains("ready and waiting"));
            assert!(rpcinfo(&["-l", host, &program, "3"]).contains("tcp"));
        }
        for netid in ["tcp6", "udp6"] {
            assert!(rpcinfo(&["-T", netid, "::1", &program, "3"]).contains("ready and waiting"));
        }
    };
    tokio::task::spawn_blocking(ask).await.unwrap();
}

#[test]
fn the_hosts_rpcbind_is_used_and_left_clean() {
    in_namespace("portmap::inside_rpcbind", "rpcbind");
}

fn listening(port: u16) -> Vec<(Transport, SocketAddr)> {
    let v4 = SocketAddr::from(([0, 0, 0, 0], port));
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    vec![(Transport::Tcp, v4), (Transport::Udp, v4), (Transport::Tcp, v6), (Transport::Udp, v6)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the_hosts_rpcbind_is_used_and_left_clean"]
async fn inside_rpcbind() {
    let client = RpcClient::new(ClientSettings::default());
    let socket = Path::new(RPCBIND_SOCKET);
    assert!(HostRpcbind::detect(socket, &client).await.is_none());
    std::fs::create_dir_all("/run/rpcbind").unwrap();
    let mut rpcbind = Command::new("rpcbind").args(["-f", "-w"]).spawn().unwrap();
    let connects = || std::os::unix::net::UnixStream::connect(socket).is_ok();
    eventually("rpcbind is up", connects).await;
    by_socket(&client).await;
    // The same over loopback, where there is no socket.
    let host = HostRpcbind::detect(Path::new("/run/none.sock"), &client).await.unwrap();
    host.register(&registrations(NLM, &[4], &listening(5001))).await.unwrap();
    assert_eq!(host.list().await.unwrap().iter().filter(|l| l.program == NLM).count(), 2);
    host.unregister().await.unwrap();
    assert!(host.list().await.unwrap().iter().all(|l| l.program != NLM));
    rpcbind.kill().unwrap();
    rpcbind.wait().unwrap();
}

async fn by_socket(client: &RpcClient) {
    let socket = Path::new(RPCBIND_SOCKET);
    let host = HostRpcbind::detect(socket, client).await.unwrap();
    let old = registrations(NLM, &[1, 3, 4], &listening(4001));
    host.register(&old).await.unwrap();
    host.register(&old).await.unwrap(); // twice changes nothing
    let nlm =
        |list: Vec<lockferry::rpc::rpcbind::Listed>| list.into_iter().filter(|l| l.program == NLM).count();
    assert_eq!(nlm(host.list().await.unwrap()), 12);
    assert!(host.foreign(&[NLM]).await.unwrap().is_empty());
    assert!(host.missing().await.unwrap().is_empty());
    let local = IpAddr::from([127, 0, 0, 1]);
    assert_eq!(client.getport(local, None, NLM, 4, Transport::Tcp, PATIENCE).await.unwrap(), 4001);

    // The process was killed: the next one finds its registrations dead and replaces them.
    let next = HostRpcbind::detect(socket, client).await.unwrap();
    assert_eq!(next.foreign(&[NLM]).await.unwrap().len(), 12);
    next.register(&registrations(NLM, &[1, 3, 4], &listening(4002))).await.unwrap();
    assert!(next.foreign(&[NLM]).await.unwrap().is_empty());
    assert_eq!(host.missing().await.unwrap().len(), 12);
    // The old one, if it was only slow to end, leaves what is not its own any more.
    host.unregister().await.unwrap();
    assert_eq!(nlm(next.list().await.unwrap()), 12);
    next.unregister().await.unwrap();
    assert_eq!(nlm(next.list().await.unwrap()), 0);

    // A program that answers is not thrown out.
    let served = serve();
    let first = HostRpcbind::detect(socket, client).await.unwrap();
    first.register(&registrations(PROGRAM, &[3], &listening(served.port))).await.unwrap();
    let taken = next.register(&registrations(PROGRAM, &[3], &listening(4003))).await;
    let Err(RpcbindError::Taken(listed)) = taken else { panic!("{taken:?}") };
    assert_eq!((listed.program, listed.addr.unwrap().port()), (PROGRAM, served.port));
    // Unless it had been registered there first and the other pushed in.
    next.restore(&registrations(PROGRAM, &[3], &listening(4003))).await.unwrap();
    assert_eq!(first.missing().await.unwrap().len(), 4);
    first.restore(&first.missing().await.unwrap()).await.unwrap();
    assert!(first.missing().await.unwrap().is_empty());
    first.unregister().await.unwrap();
}
