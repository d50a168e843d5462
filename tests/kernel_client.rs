//! Real Linux clients against a server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a failure must stop the test, loudly")]
mod support;
use support::server::{Knfsd, Server};
use support::vm::{boot_all, Vm, VmConfig};

#[test]
fn boots() {
    let net = support::net::Net::new();
    let t = std::time::Instant::now();
    let k = Knfsd::start(&net);
    let mut a = Vm::new(&net, VmConfig::client("client-a", 11));
    let mut b = Vm::new(&net, VmConfig::client("client-b", 12));
    boot_all(&mut [&mut a, &mut b]);
    println!("booted after {:?}", t.elapsed());
    println!("{}", a.agent().sh("uptime; ping -c1 10.77.0.9; showmount -e 10.77.0.9; mkdir -p /mnt/x; mount -v -t nfs -o vers=3 10.77.0.9:/var/lib/nfs/srv /mnt/x; ls -la /mnt/x; df /mnt/x"));
    println!("{}", b.agent().sh("uptime; ping -c1 10.77.0.9; mkdir -p /mnt/x; mount -v -t nfs 10.77.0.9:/var/lib/nfs/srv /mnt/x; ls -la /mnt/x; df /mnt/x; dmesg | tail -3"));
    println!("{} {:?}", k.locks(), k.waiters());
    support::hold_if_asked(&format!("{}\n{}", a.way_in(), net.way_in()));
}
