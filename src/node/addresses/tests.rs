//! The watch in network namespaces.

use std::future::Future;

use super::super::namespaces::{alone, runtime, sh};
use super::*;

/// A bound against hanging.
const PATIENCE: Duration = Duration::from_secs(20);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Runs `test` in a namespace of its own.
fn with_watch<F: Future<Output = ()>>(prepare: &str, test: impl FnOnce(Arc<AddressWatch>) -> F + Send) {
    alone(|| {
        sh(prepare);
        runtime().block_on(async {
            let watch = AddressWatch::start(&Handle::current()).unwrap();
            tokio::time::timeout(PATIENCE, test(watch)).await.expect("the test hangs");
        });
    });
}

async fn until(changes: &mut watch::Receiver<Arc<BTreeSet<IpAddr>>>, here: bool, address: &str) {
    let _ = changes.wait_for(|all| all.contains(&ip(address)) == here).await.unwrap();
}

#[test]
fn an_address_is_seen_to_come_and_to_go() {
    with_watch("", |watch| async move {
        let mut changes = watch.subscribe();
        assert!(watch.here(ip("127.0.0.1")) && !watch.here(ip("10.9.0.1")));
        sh("ip addr add 10.9.0.1/24 dev lo");
        until(&mut changes, true, "10.9.0.1").await;
        assert!(watch.here(ip("10.9.0.1")) && watch.here(ip("::ffff:10.9.0.1")));
        sh("ip addr del 10.9.0.1/24 dev lo");
        until(&mut changes, false, "10.9.0.1").await;
        assert!(!watch.here(ip("10.9.0.1")));
    });
}

#[test]
fn who_waits_is_woken_when_the_address_comes() {
    with_watch("", |watch| async move {
        let waiting = tokio::spawn({
            let watch = watch.clone();
            async move { watch.wait_for(ip("fd77::5")).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        sh("ip addr add fd77::5/128 dev lo");
        waiting.await.unwrap();
    });
}

#[test]
fn without_netlink_the_addresses_are_polled() {
    alone(|| {
        runtime().block_on(async {
            let shared = Arc::new(Shared {
                reading: Mutex::new(Arc::new(read::read().unwrap())),
                addresses: watch::Sender::new(Arc::default()),
            });
            let task = tokio::spawn(follow(shared.clone(), None)).abort_handle();
            let watch = AddressWatch { shared, task };
            let mut changes = watch.subscribe();
            sh("ip addr add 10.9.0.1/24 dev lo");
            let seen = until(&mut changes, true, "10.9.0.1");
            tokio::time::timeout(PATIENCE, seen).await.expect("not seen");
        });
    });
}

#[test]
fn local_routes_count_and_what_is_not_one_of_our_addresses_does_not() {
    let prepare = "ip link add v0 type veth peer name v1\nip addr add 10.9.0.1/24 brd + dev v0\nip link set v0 up\nip link set v1 up\n\
                   ip route add local 10.7.0.0/16 dev lo";
    with_watch(prepare, |watch| async move {
        for here in ["10.9.0.1", "127.9.9.9", "10.7.3.3", "::1"] {
            assert!(watch.here(ip(here)), "{here} is here");
        }
        for elsewhere in
            ["10.9.0.2", "10.9.0.255", "0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "fd77::1"]
        {
            assert!(!watch.here(ip(elsewhere)), "{elsewhere} is not");
        }
    });
}

#[test]
fn an_address_that_can_be_bound_anywhere_is_not_taken_for_ours() {
    let prepare = "echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind\necho 1 >/proc/sys/net/ipv6/ip_nonlocal_bind";
    with_watch(prepare, |watch| async move {
        for elsewhere in ["203.0.113.5", "2001:db8::5"] {
            assert!(std::net::UdpSocket::bind((ip(elsewhere), 0)).is_ok(), "the trap is set");
            assert!(!watch.here(ip(elsewhere)), "{elsewhere}");
        }
        assert!(watch.here(ip("127.0.0.1")) && watch.here(ip("127.7.7.7")) && watch.here(ip("::1")));
    });
}

#[test]
fn a_tentative_address_is_not_here_until_it_is_usable() {
    // Three probes, one second apart: the network's agreement takes its time.
    let prepare = "ip link add v0 type veth peer name v1\nip link set v0 up\nip link set v1 up\n\
                   echo 3 >/proc/sys/net/ipv6/conf/v0/dad_transmits\nip addr add fd77::9/64 dev v0";
    with_watch(prepare, |watch| async move {
        let tentative = || {
            let shown =
                std::process::Command::new("ip").args(["-6", "addr", "show", "tentative"]).output().unwrap();
            String::from_utf8_lossy(&shown.stdout).contains("fd77::9")
        };
        assert!(tentative());
        let early = watch.here(ip("fd77::9"));
        // Only if it was still tentative after the question does the answer count.
        assert!(!(early && tentative()), "taken for ours while tentative");
        watch.wait_for(ip("fd77::9")).await;
        assert!(!tentative());
    });
}
