//! A client host as the server meets it when it calls back: a portmapper on port 111 of its address, an NLM and a status
//! monitor behind it. Everything it hears is kept, in order. Must never answer what the test did not ask for.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use lockferry_xdr::{Reader, Writer};

use super::wire;
use super::{PATIENCE, nlm};

/// A call that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) program: u32,
    pub(crate) version: u32,
    pub(crate) procedure: u32,
    pub(crate) args: Vec<u8>,
    pub(crate) xid: u32,
    pub(crate) from: SocketAddr,
    pub(crate) tcp: bool,
}

/// What is done with a GRANTED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum React {
    /// "Granted": the lock is taken.
    Accept,
    /// "Denied": nobody here wants it.
    Refuse,
    /// No answer.
    Ignore,
}

/// The host; ends with the value.
pub(crate) struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    address: IpAddr,
    nlm_port: u16,
    statd_port: u16,
    stop: AtomicBool,
    heard: Mutex<Vec<Heard>>,
    came: Condvar,
    /// The reactions to the next GRANTEDs, then that to all further ones.
    script: Mutex<(VecDeque<React>, React)>,
    /// Whether the portmapper answers.
    portmapper: AtomicBool,
    /// The lowest version that it speaks: 2, 3 or 4, which is also the highest.
    dialect: AtomicU32,
    /// Whether the NLM is registered for TCP and UDP.
    nlm_tcp: AtomicBool,
    nlm_udp: AtomicBool,
}

impl Host {
    /// A host at this address, which accepts every GRANTED.
    pub(crate) fn at(address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        let (nlm_tcp, nlm_udp) = both(address, 0);
        let (statd_tcp, statd_udp) = both(address, 0);
        let (map_tcp, map_udp) = both(address, 111);
        let inner = Arc::new(Inner {
            address,
            nlm_port: nlm_tcp.local_addr().unwrap().port(),
            statd_port: statd_tcp.local_addr().unwrap().port(),
            stop: AtomicBool::new(false),
            heard: Mutex::default(),
            came: Condvar::new(),
            script: Mutex::new((VecDeque::new(), React::Accept)),
            portmapper: AtomicBool::new(true),
            dialect: AtomicU32::new(if address.is_ipv4() { 2 } else { 4 }),
            nlm_tcp: AtomicBool::new(true),
            nlm_udp: AtomicBool::new(true),
        });
        for (tcp, udp) in [(nlm_tcp, nlm_udp), (statd_tcp, statd_udp), (map_tcp, map_udp)] {
            let (one, other) = (inner.clone(), inner.clone());
            std::thread::spawn(move || one.accept(&tcp));
            std::thread::spawn(move || other.datagrams(&udp));
        }
        Self { inner }
    }

    /// Its address.
    pub(crate) fn address(&self) -> IpAddr {
        self.inner.address
    }

    /// Which version its portmapper speaks: 2, 3 or 4.
    pub(crate) fn dialect(&self, version: u32) {
        self.inner.dialect.store(version, Ordering::Relaxed);
    }

    /// Where its NLM listens.
    pub(crate) fn nlm_port(&self) -> u16 {
        self.inner.nlm_port
    }

    /// Sets what is done with the next GRANTEDs, one after the other, and with all after these.
    pub(crate) fn script(&self, next: &[React], then: React) {
        *self.inner.script.lock().unwrap() = (next.iter().copied().collect(), then);
    }

    /// Whether its portmapper answers.
    pub(crate) fn portmapper(&self, answers: bool) {
        self.inner.portmapper.store(answers, Ordering::Relaxed);
    }

    /// For which transports its NLM is registered.
    pub(crate) fn registered(&self, tcp: bool, udp: bool) {
        self.inner.nlm_tcp.store(tcp, Ordering::Relaxed);
        self.inner.nlm_udp.store(udp, Ordering::Relaxed);
    }

    /// Everything heard so far but by the portmapper.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.inner.heard.lock().unwrap().clone()
    }

    /// How often a procedure was heard.
    pub(crate) fn count(&self, program: u32, procedure: u32) -> usize {
        self.heard().iter().filter(|h| (h.program, h.procedure) == (program, procedure)).count()
    }

    /// Waits for a call and takes it out.
    pub(crate) fn expect(&self, program: u32, procedure: u32) -> Heard {
        self.expect_within(PATIENCE, program, procedure).unwrap_or_else(|| {
            panic!("{} heard no {program}/{procedure}, but: {:?}", self.inner.address, self.heard())
        })
    }

    /// The same; `None`: it did not come.
    pub(crate) fn expect_within(&self, limit: Duration, program: u32, procedure: u32) -> Option<Heard> {
        let deadline = Instant::now() + limit;
        let mut heard = self.inner.heard.lock().unwrap();
        loop {
            let found = heard.iter().position(|h| (h.program, h.procedure) == (program, procedure));
            if let Some(at) = found {
                return Some(heard.remove(at));
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            heard = self.inner.came.wait_timeout(heard, left).unwrap().0;
        }
    }

    /// Waits for an SM_NOTIFY: the name and the state in it, and the address it came from.
    pub(crate) fn notice(&self) -> (String, u32, IpAddr) {
        let heard = self.expect(nlm::NSM, 6);
        let mut r = Reader::new(&heard.args);
        let name = String::from_utf8(r.opaque_var(1024).unwrap().to_vec()).unwrap();
        let state = r.u32().unwrap();
        r.finish().unwrap();
        (name, state, heard.from.ip())
    }

    /// Waits for a GRANTED.
    pub(crate) fn granted(&self) -> nlm::Granted {
        let heard = self.expect(nlm::PROGRAM, 5);
        nlm::Granted::parse(heard.version, &heard.args)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::Relaxed);
    }
}

/// A TCP and a UDP socket on one port.
fn both(address: IpAddr, port: u16) -> (TcpListener, UdpSocket) {
    for _ in 0..100 {
        let tcp = TcpListener::bind((address, port)).unwrap_or_else(|e| panic!("{address}:{port}: {e}"));
        let taken = tcp.local_addr().unwrap().port();
        if let Ok(udp) = UdpSocket::bind((address, taken)) {
            tcp.set_nonblocking(true).unwrap();
            udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            return (tcp, udp);
        }
    }
    panic!("no port is free for both TCP and UDP at {address}");
}

impl Inner {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.stopped() {
            match listener.accept() {
                Ok((stream, from)) => {
                    let this = self.clone();
                    std::thread::spawn(move || this.connection(stream, from));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn connection(&self, mut stream: TcpStream, from: SocketAddr) {
        stream.set_nonblocking(false).unwrap();
        let mut head = [0; 4];
        while !self.stopped() && stream.read_exact(&mut head).is_ok() {
            let length = u32::from_be_bytes(head) & 0x7fff_ffff;
            let mut message = vec![0; length as usize];
            if stream.read_exact(&mut message).is_err() {
                return;
            }
            if let Some(reply) = self.react(&message, from, true) {
                let _ = stream.write_all(&wire::record(&reply));
            }
        }
    }

    fn datagrams(&self, socket: &UdpSocket) {
        let mut buffer = vec![0; 65536];
        while !self.stopped() {
            let Ok((n, from)) = socket.recv_from(&mut buffer) else { continue };
            if let Some(reply) = self.react(&buffer[..n], from, false) {
                let _ = socket.send_to(&reply, from);
            }
        }
    }

    fn react(&self, message: &[u8], from: SocketAddr, tcp: bool) -> Option<Vec<u8>> {
        let (xid, program, version, procedure, args) = wire::parse_call(message)?;
        if program == 100_000 {
            return self.portmap(xid, version, procedure, &args);
        }
        let reply = match (program, procedure) {
            (nlm::PROGRAM, 5) => self.answer_granted(xid, &args),
            _ => Some(wire::success(xid, &[])),
        };
        let heard = Heard { program, version, procedure, args, xid, from, tcp };
        self.heard.lock().unwrap().push(heard);
        self.came.notify_all();
        reply
    }

    fn answer_granted(&self, xid: u32, args: &[u8]) -> Option<Vec<u8>> {
        let mut script = self.script.lock().unwrap();
        let then = script.1;
        let status = match script.0.pop_front().unwrap_or(then) {
            React::Accept => nlm::GRANTED,
            React::Refuse => nlm::DENIED,
            React::Ignore => return None,
        };
        let mut results = Vec::new();
        let mut w = Writer::new(&mut results);
        w.opaque_var(Reader::new(args).opaque_var(1024).unwrap());
        w.u32(status);
        Some(wire::success(xid, &results))
    }

    /// GETPORT of version 2, or GETADDR of 3 and 4.
    fn portmap(&self, xid: u32, version: u32, procedure: u32, args: &[u8]) -> Option<Vec<u8>> {
        if !self.portmapper.load(Ordering::Relaxed) {
            return None;
        }
        if version != self.dialect.load(Ordering::Relaxed) || procedure != 3 {
            return Some(wire::prog_unavail(xid));
        }
        let mut r = Reader::new(args);
        let (program, _version) = (r.u32().ok()?, r.u32().ok()?);
        let tcp = match version {
            2 => r.u32().ok()? == 6,
            _ => r.opaque_var(16).ok()?.starts_with(b"tcp"),
        };
        let listed = if tcp { &self.nlm_tcp } else { &self.nlm_udp };
        let port = match program {
            nlm::PROGRAM if listed.load(Ordering::Relaxed) => self.nlm_port,
            nlm::NSM => self.statd_port,
            _ => 0,
        };
        if version == 2 {
            return Some(wire::success(xid, &u32::from(port).to_be_bytes()));
        }
        let mut results = Vec::new();
        let address = format!("{}.{}.{}", self.address, port >> 8, port & 255);
        let address = if port == 0 { "" } else { &address };
        Writer::new(&mut results).opaque_var(address.as_bytes());
        Some(wire::success(xid, &results))
    }
}
