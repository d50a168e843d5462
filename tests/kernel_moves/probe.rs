//! A client without a kernel, on the bridge: asks for a lock from before the address is up until it is granted, so that what a guest
//! and its emulation add can be told from what the server takes.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use lockferry_xdr::mount::{Mountres3, encode_dirpath};
use lockferry_xdr::nfs3::{Diropargs3, Lookup3args, Lookup3res, NfsFh3};
use lockferry_xdr::{Decode as _, Writer};

use super::rawrpc::nlm::{Client, GRANTED, PORT, Want};
use super::rawrpc::{Conn, PATIENCE};
use super::support::cluster::EXPORT;
use super::support::net::Net;
use super::world::{FLOATING, World, ms};

/// The bridge's own address.
const FROM: [u8; 4] = [10, 77, 0, 254];
/// A try to connect; the packet may go to the node that is gone.
const CONNECT: Duration = Duration::from_millis(50);

/// Knows a file of its own by its handle.
pub(crate) struct Probe {
    net: Net,
    handle: Vec<u8>,
}

/// A request that is repeated until it is granted.
pub(crate) struct Asked(JoinHandle<(SystemTime, Duration)>);

impl Probe {
    /// Makes the file by way of client B.
    pub(crate) fn new(w: &World, name: &'static str) -> Self {
        w.b().sh(&format!("touch {}", World::path(name)));
        let handle = w.net.spawn(move || look_up(name)).join().expect("the file's handle");
        Self { net: w.net.clone(), handle }
    }

    /// Asks for ten bytes from `start` on, from now on.
    pub(crate) fn ask(&self, start: u64) -> Asked {
        let want = Want::bytes(&self.handle, start, 10);
        Asked(self.net.spawn(move || {
            let deadline = Instant::now() + PATIENCE * 3;
            while Instant::now() < deadline {
                if let Some(answer) = one_try(&want) {
                    return answer;
                }
            }
            panic!("the probe was never granted its lock");
        }))
    }
}

impl Asked {
    /// What came of it, in words.
    pub(crate) fn granted(self, up: SystemTime) -> String {
        let (at, took) = self.0.join().expect("granted");
        let micros = took.as_micros();
        format!(
            "raw client: free byte granted {} after the address was up, in {micros} µs from sending",
            ms(up, at)
        )
    }
}

/// None: not there yet, or it says nothing.
fn one_try(want: &Want) -> Option<(SystemTime, Duration)> {
    let to = SocketAddr::new(FLOATING, PORT);
    std::net::TcpStream::connect_timeout(&to, CONNECT).ok()?;
    let mut client = Client::on(Conn::try_tcp(FROM, to).ok()?, 4, "probe");
    let sent = Instant::now();
    let status = client.status_within(Duration::from_secs(1), 2, want)?;
    let answer = (SystemTime::now(), sent.elapsed());
    assert_eq!(status, GRANTED, "a lock that conflicts with nothing");
    // Nothing of it stays behind.
    client.unlock(want);
    Some(answer)
}

fn look_up(name: &str) -> Vec<u8> {
    // Exports are for programs of root.
    static NEXT: AtomicU16 = AtomicU16::new(700);
    let connect = |port: u16| {
        let from = SocketAddr::new(IpAddr::from(FROM), NEXT.fetch_add(1, Ordering::Relaxed));
        Conn::try_tcp_at(from, SocketAddr::new(FLOATING, port)).expect("the server")
    };
    let mut args = Vec::new();
    encode_dirpath(&EXPORT.as_bytes(), &mut Writer::new(&mut args));
    let results = connect(20048).call((100_005, 3, 1), &args).results();
    let root = match Mountres3::from_bytes(&results).expect("MNT") {
        Mountres3::Mnt3Ok(ok) => ok.fhandle.to_vec(),
        Mountres3::Default(status) => panic!("MNT: {status:?}"),
    };
    let what = Diropargs3 { dir: NfsFh3 { data: &root }, name: name.as_bytes() };
    let results = connect(2049).ask((100_003, 3, 3), &Lookup3args { what }).results();
    match Lookup3res::from_bytes(&results).expect("LOOKUP") {
        Lookup3res::Nfs3Ok(ok) => ok.object.data.to_vec(),
        Lookup3res::Default(status, _) => panic!("LOOKUP: {status:?}"),
    }
}
