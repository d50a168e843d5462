//! The notifier against hosts of its own making, in a network namespace where addresses come when the test says so.

use std::future::Future;
use std::net::SocketAddr;

use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::super::addresses::AddressWatch;
use super::super::host::{LiveAddresses, Machine};
use super::super::namespaces::{alone, runtime, sh};
use super::*;
use crate::rpc::client::{ClientSettings, RpcClient};

/// A bound against hanging.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing is waited for. It proves little, so it is short.
const SILENCE: Duration = Duration::from_millis(300);
const RPCBIND: u16 = 1_111;
const LM: &str = "10.9.0.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn target(name: &str, address: &str) -> Target {
    Target { name: name.as_bytes().into(), address: ip(address) }
}

/// Whether a lock manager's task has ended: it lets go of what it shares with the list.
fn is_over(notifier: &Notifier, lm: &str) -> bool {
    Arc::strong_count(&notifier.lock()[&ip(lm)].told) == 1
}

/// Runs `test` in a namespace of its own.
fn with_notifier<F: Future<Output = ()>>(test: impl FnOnce(Arc<Notifier>, Arc<dyn Addresses>) -> F + Send) {
    alone(|| {
        runtime().block_on(async {
            let settings = ClientSettings { rpcbind_port: RPCBIND, ..ClientSettings::default() };
            let runtime = Handle::current();
            let notifier =
                Notifier::new(Arc::new(RpcClient::new(settings)), Arc::new(Machine(runtime.clone())));
            let addresses: Arc<dyn Addresses> =
                Arc::new(LiveAddresses(AddressWatch::start(&runtime).unwrap()));
            tokio::time::timeout(PATIENCE, test(notifier, addresses)).await.expect("the test hangs");
        });
    });
}

/// A notice that a host got: who sent it, its arguments.
type Heard = (SocketAddr, Vec<u8>);

/// A client host with an rpcbind, and a status monitor that answers if it is to.
struct Host {
    heard: mpsc::UnboundedReceiver<Heard>,
    answers: tokio::sync::watch::Sender<bool>,
}

impl Host {
    async fn at(address: &str, answers: bool) -> Self {
        let rpcbind = UdpSocket::bind((ip(address), RPCBIND)).await.unwrap();
        let statd = UdpSocket::bind((ip(address), 0)).await.unwrap();
        let port = u32::from(statd.local_addr().unwrap().port());
        let (tell, heard) = mpsc::unbounded_channel();
        let answers = tokio::sync::watch::Sender::new(answers);
        tokio::spawn(async move {
            loop {
                let (from, call) = receive(&rpcbind).await;
                rpcbind.send_to(&reply(&call, &port.to_be_bytes()), from).await.unwrap();
            }
        });
        let mut may_answer = answers.subscribe();
        tokio::spawn(async move {
            loop {
                let (from, call) = receive(&statd).await;
                // An AUTH_NONE call's arguments begin after ten words.
                let _ = tell.send((from, call[40..].to_vec()));
                if *may_answer.borrow_and_update() {
                    statd.send_to(&reply(&call, &[]), from).await.unwrap();
                }
            }
        });
        Self { heard, answers }
    }

    async fn notice(&mut self) -> Heard {
        self.heard.recv().await.unwrap()
    }
}

async fn receive(socket: &UdpSocket) -> (SocketAddr, Vec<u8>) {
    let mut buffer = vec![0; 2_048];
    let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
    buffer.truncate(length);
    (from, buffer)
}

/// An accepted, successful reply (RFC 5531 section 9).
fn reply(call: &[u8], results: &[u8]) -> Vec<u8> {
    [&call[..4], &1_u32.to_be_bytes(), &[0; 16], results].concat()
}

/// Waits until `counts` are as wanted.
async fn until(notifier: &Notifier, wanted: impl Fn(&NotifyCounts) -> bool) -> NotifyCounts {
    loop {
        let counts = notifier.counts(ip(LM));
        if wanted(&counts) {
            return counts;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_client_is_told_from_the_address_as_soon_as_it_is_here() {
    with_notifier(|notifier, addresses| async move {
        let mut host = Host::at("127.0.0.5", true).await;
        let first = notifier
            .begin(ip(LM), 1, vec![target("a", "127.0.0.5")], 0x8000_0001, "cluster", addresses)
            .unwrap();
        assert!(
            tokio::time::timeout(SILENCE, host.notice()).await.is_err(),
            "told before the address is here"
        );
        assert_eq!(notifier.counts(ip(LM)), NotifyCounts { pending: 1, ..NotifyCounts::default() });
        sh("ip addr add 10.9.0.1/32 dev lo");
        let (from, args) = host.notice().await;
        assert_eq!(from.ip(), ip(LM));
        assert_eq!(args, [&[0, 0, 0, 7][..], b"cluster\0", &[0x80, 0, 0, 1]].concat());
        first.await.unwrap();
        until(&notifier, |c| c.answered == 1).await;
        assert_eq!(notifier.progress(ip(LM), b"a", ip("127.0.0.5")), Some(Progress::Answered));
        assert_eq!(notifier.progress(ip(LM), b"b", ip("127.0.0.5")), None);
    });
}

#[test]
fn without_clients_the_first_round_is_over_once_the_address_is_here() {
    with_notifier(|notifier, addresses| async move {
        let mut first = notifier.begin(ip(LM), 1, Vec::new(), 1, LM, addresses).unwrap();
        assert!(tokio::time::timeout(SILENCE, &mut first).await.is_err());
        sh("ip addr add 10.9.0.1/32 dev lo");
        first.await.unwrap();
    });
}

#[test]
fn who_does_not_answer_is_told_again_and_who_is_gone_keeps_nobody_waiting() {
    with_notifier(|notifier, addresses| async move {
        sh("ip addr add 10.9.0.1/32 dev lo");
        let mut host = Host::at("127.0.0.5", false).await;
        let clients = vec![target("a", "127.0.0.5"), target("gone", "127.0.0.6")];
        notifier.begin(ip(LM), 1, clients, 1, LM, addresses).unwrap().await.unwrap();
        host.notice().await;
        let counts = until(&notifier, |c| c.sent == 1).await;
        assert_eq!(counts, NotifyCounts { pending: 1, sent: 1, ..NotifyCounts::default() });
        host.answers.send_replace(true);
        until(&notifier, |c| c.answered == 1).await;
    });
}

#[test]
fn a_reclaim_counts_for_its_lock_manager_and_ends_the_telling() {
    with_notifier(|notifier, addresses| async move {
        sh("ip addr add 10.9.0.1/32 dev lo");
        sh("ip addr add 10.9.0.2/32 dev lo");
        let _silent = Host::at("127.0.0.5", false).await;
        for lm in [LM, "10.9.0.2"] {
            let first =
                notifier.begin(ip(lm), 1, vec![target("a", "127.0.0.5")], 1, lm, addresses.clone()).unwrap();
            first.await.unwrap();
        }
        notifier.reclaimed(ip(LM), b"a", ip("127.0.0.5"));
        notifier.reclaimed(ip(LM), b"stranger", ip("127.0.0.5"));
        assert_eq!(notifier.counts(ip(LM)), NotifyCounts { reclaimed: 1, ..NotifyCounts::default() });
        assert_eq!(notifier.counts(ip("10.9.0.2")).reclaimed, 0);
        while !is_over(&notifier, LM) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(notifier.counts(ip(LM)).reclaimed, 1, "still to be seen");
        assert!(!is_over(&notifier, "10.9.0.2"));
    });
}

#[test]
fn the_end_of_a_lock_manager_ends_its_notices() {
    with_notifier(|notifier, addresses| async move {
        let mut host = Host::at("127.0.0.5", false).await;
        let clients = vec![target("a", "127.0.0.5")];
        let replaced = notifier.begin(ip(LM), 1, clients.clone(), 1, LM, addresses.clone()).unwrap();
        let first = notifier.begin(ip(LM), 2, clients.clone(), 3, LM, addresses.clone()).unwrap();
        assert!(replaced.await.is_err(), "a second take-over takes the place of the first");
        assert!(notifier.begin(ip(LM), 1, clients, 1, LM, addresses).is_none(), "the first comes too late");
        notifier.end(ip(LM), 1);
        assert_eq!(notifier.counts(ip(LM)).pending, 1, "and so does its end");
        notifier.end(ip(LM), 2);
        assert!(first.await.is_err(), "closed without a word");
        assert_eq!(notifier.counts(ip(LM)), NotifyCounts::default());
        sh("ip addr add 10.9.0.1/32 dev lo");
        assert!(tokio::time::timeout(SILENCE, host.notice()).await.is_err());
    });
}

#[test]
fn many_clients_that_are_gone_open_a_bounded_number_of_sockets() {
    with_notifier(|notifier, addresses| async move {
        sh("ip addr add 10.9.0.1/32 dev lo");
        // Takes every question and answers none.
        let _silent = UdpSocket::bind(("0.0.0.0", RPCBIND)).await.unwrap();
        let clients: Vec<_> =
            (0..1_200).map(|n| target("gone", &format!("127.1.{}.{}", n / 250, n % 250 + 1))).collect();
        let mut first = notifier.begin(ip(LM), 1, clients, 1, LM, addresses).unwrap();
        let mut most = 0;
        while first.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            let table = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap();
            most = most.max(table.matches(&format!(":{RPCBIND:04X} 01 ")).count());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!((100..=AT_ONCE).contains(&most), "{most} at once");
        assert_eq!(notifier.counts(ip(LM)).pending, 1_200);
    });
}
