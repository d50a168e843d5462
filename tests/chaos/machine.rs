//! A client machine: a model client of the simulator behind real sockets, in the networks of both nodes: its own address, a port mapper,
//! an NLM and a status monitor at it, connections and datagrams to the server addresses.
//!
//! Must never send a byte before the history says so, nor let the model see what the history does not have.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockferry_checker::history::Micros;
use lockferry_sim::client::{Client, Config, Effect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{Notify, mpsc};

use super::net::Net;
use super::observer::Observer;
use super::rawrpc::{Node, nlm, wire};

/// Where a model client says that its programs are.
const OWN_PORTS: [u16; 3] = [111, 4045, 32766];
/// A connection that is not there after this long is tried anew.
const CONNECT: Duration = Duration::from_secs(3);
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// Calls of servers that are not answered yet; older ones are forgotten.
const UNANSWERED: usize = 512;
/// The longest message.
const LONGEST: usize = 1 << 16;

/// What the machines of a run share.
pub(crate) struct World {
    pub(crate) observer: Arc<Observer>,
    pub(crate) net: Net,
    pub(crate) nodes: [Node; 2],
}

/// A client machine.
pub(crate) struct Machine {
    /// Which one, by its place.
    place: usize,
    address: Ipv4Addr,
    world: Arc<World>,
    client: Mutex<Client>,
    woken: Notify,
    /// Its sockets for datagrams to servers, one in each node's network.
    udp: [Arc<Datagrams>; 2],
    /// Its connections to server addresses, as far as there are any.
    links: Mutex<HashMap<IpAddr, Option<mpsc::UnboundedSender<Vec<u8>>>>>,
    /// How the answers to calls of servers get back, by their address and xid.
    ways_back: Mutex<HashMap<(IpAddr, u32), WayBack>>,
}

/// A socket for datagrams. What is sent goes straight to the system: whether it takes it is its own affair.
struct Datagrams {
    receive: UdpSocket,
    send: std::net::UdpSocket,
}

#[derive(Clone)]
enum WayBack {
    Udp(usize, Arc<Datagrams>, SocketAddr),
    Tcp(mpsc::UnboundedSender<Vec<u8>>),
}

impl Machine {
    /// Boots a machine. Call it inside a runtime.
    pub(crate) fn boot(world: &Arc<World>, place: usize, config: Config) -> io::Result<Arc<Self>> {
        let IpAddr::V4(address) = config.address else { unreachable!("addresses of 127.0.0.0/8") };
        let udp = |node: &Node| udp_at(node, address, 0).map(Arc::new);
        let udp = [udp(&world.nodes[0])?, udp(&world.nodes[1])?];
        let mut effects = Vec::new();
        let client = Client::new(config, world.observer.now(), &mut effects);
        let machine = Arc::new(Self {
            place,
            address,
            world: world.clone(),
            client: Mutex::new(client),
            woken: Notify::new(),
            udp,
            links: Mutex::default(),
            ways_back: Mutex::default(),
        });
        for node in 0..2 {
            machine.listen(node)?;
        }
        machine.act(|_, _, out| *out = effects);
        tokio::spawn(machine.clone().keep_time());
        Ok(machine)
    }

    /// Lets the client do something.
    pub(crate) fn act<T>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Client, Micros, &mut Vec<Effect>) -> T,
    ) -> T {
        let mut effects = Vec::new();
        let mut client = self.client.lock().unwrap();
        let result = act(&mut client, self.world.observer.now(), &mut effects);
        // With the client still locked: what it does next comes after this, in the history and on the wire.
        effects.into_iter().for_each(|effect| self.carry_out(effect));
        drop(client);
        self.woken.notify_one();
        result
    }

    /// Its connections end, as those of a machine without power.
    pub(crate) fn drop_links(&self) {
        self.links.lock().unwrap().values_mut().for_each(|link| *link = None);
    }

    fn carry_out(self: &Arc<Self>, effect: Effect) {
        match effect {
            Effect::Record(event) => self.world.observer.record(event),
            Effect::Call { to, tcp: true, message, .. } => self.send_on_link(to, message),
            Effect::Call { to, program, message, .. } => {
                let port = if program == nlm::NSM { nlm::NSM_PORT } else { nlm::PORT };
                if let Some(node) = self.world.net.route(to) {
                    self.send_datagram(node, &self.udp[node], (to, port).into(), message);
                }
            }
            Effect::Reply { to, message, .. } => self.answer(to, message),
        }
    }

    fn answer(&self, to: IpAddr, message: Vec<u8>) {
        let way = xid_of(&message).and_then(|xid| self.ways_back.lock().unwrap().remove(&(to, xid)));
        match way {
            Some(WayBack::Udp(node, socket, to)) => self.send_datagram(node, &socket, to, message),
            // Who called may be gone.
            Some(WayBack::Tcp(way)) => drop(way.send(message)),
            None => {}
        }
    }

    fn send_datagram(&self, node: usize, socket: &Arc<Datagrams>, to: SocketAddr, message: Vec<u8>) {
        if self.world.net.is_cut(self.place, node) {
            return;
        }
        for late in self.world.net.fate() {
            if late == 0 {
                // A full buffer is a lost datagram.
                let _ = socket.send.send_to(&message, to);
                continue;
            }
            let (socket, message) = (socket.clone(), message.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_micros(late)).await;
                let _ = socket.send.send_to(&message, to);
            });
        }
    }

    fn send_on_link(self: &Arc<Self>, to: IpAddr, message: Vec<u8>) {
        let mut links = self.links.lock().unwrap();
        match links.get(&to) {
            Some(Some(link)) => drop(link.send(message)),
            // When the connection is there, all that is unanswered is sent.
            Some(None) => {}
            None => {
                links.insert(to, None);
                tokio::spawn(self.clone().keep_link(to));
            }
        }
    }

    /// Wakes the client when it wants to be.
    async fn keep_time(self: Arc<Self>) {
        loop {
            let next = self.client.lock().unwrap().next_wake();
            let now = self.world.observer.now();
            match next {
                Some(next) if next <= now => self.act(|client, now, out| client.wake(now, out)),
                Some(next) => {
                    let until = self.world.observer.instant(next).into();
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        () = self.woken.notified() => {}
                    }
                }
                None => self.woken.notified().await,
            }
            // `act` has woken itself; others must have their turn too.
            tokio::task::yield_now().await;
        }
    }

    /// A message arrives.
    fn arrive(self: &Arc<Self>, node: usize, from: IpAddr, message: &[u8], way: WayBack) {
        if self.world.net.is_cut(self.place, node) {
            return;
        }
        if let (Some(xid), Some(&[0, 0, 0, 0])) = (xid_of(message), message.get(4..8)) {
            let mut ways = self.ways_back.lock().unwrap();
            if ways.len() > UNANSWERED {
                ways.clear();
            }
            ways.insert((from, xid), way);
        }
        self.act(|client, now, out| client.receive(now, from, message, out));
    }
}

/// Its own programs, and its datagrams.
impl Machine {
    fn listen(self: &Arc<Self>, node: usize) -> io::Result<()> {
        let net = &self.world.nodes[node];
        tokio::spawn(self.clone().datagrams(node, self.udp[node].clone()));
        for port in OWN_PORTS {
            let udp = Arc::new(udp_at(net, self.address, port)?);
            tokio::spawn(self.clone().datagrams(node, udp));
            let tcp = net.within(|| std::net::TcpListener::bind((self.address, port)))?;
            tcp.set_nonblocking(true)?;
            tokio::spawn(self.clone().accept(node, TcpListener::from_std(tcp)?));
        }
        Ok(())
    }

    async fn datagrams(self: Arc<Self>, node: usize, socket: Arc<Datagrams>) {
        let mut buffer = vec![0; LONGEST];
        loop {
            let Ok((n, from)) = socket.receive.recv_from(&mut buffer).await else { continue };
            for late in self.world.net.fate() {
                let (machine, message) = (self.clone(), buffer[..n].to_vec());
                let way = WayBack::Udp(node, socket.clone(), from);
                if late == 0 {
                    machine.arrive(node, from.ip(), &message, way);
                    continue;
                }
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_micros(late)).await;
                    machine.arrive(node, from.ip(), &message, way);
                });
            }
        }
    }

    async fn accept(self: Arc<Self>, node: usize, listener: TcpListener) {
        loop {
            let Ok((stream, from)) = listener.accept().await else { continue };
            let (reader, writer) = stream.into_split();
            let (send, receive) = mpsc::unbounded_channel();
            tokio::spawn(write_all(writer, receive));
            let machine = self.clone();
            tokio::spawn(async move { machine.read_all(node, from.ip(), reader, &send).await });
        }
    }

    /// Until the connection ends. True: something came.
    async fn read_all(
        self: &Arc<Self>,
        node: usize,
        from: IpAddr,
        mut reader: OwnedReadHalf,
        back: &mpsc::UnboundedSender<Vec<u8>>,
    ) -> bool {
        let mut any = false;
        while let Some(message) = read_message(&mut reader).await {
            any = true;
            self.arrive(node, from, &message, WayBack::Tcp(back.clone()));
        }
        any
    }
}

/// Its connections to server addresses.
impl Machine {
    /// Keeps a connection to an address, wherever it leads.
    async fn keep_link(self: Arc<Self>, lm: IpAddr) {
        let mut pause = Duration::from_millis(20);
        loop {
            let heard = self.one_link(lm).await;
            if let Some(link) = self.links.lock().unwrap().get_mut(&lm) {
                *link = None;
            }
            pause = if heard { Duration::from_millis(20) } else { (pause * 2).min(PAUSE) };
            let more = self.world.net.below(20_000);
            tokio::time::sleep(pause + Duration::from_micros(more)).await;
        }
    }

    /// One connection from its beginning to its end. True: something came over it.
    async fn one_link(self: &Arc<Self>, lm: IpAddr) -> bool {
        let Some(node) = self.world.net.route(lm).filter(|node| !self.world.net.is_cut(self.place, *node))
        else {
            return false;
        };
        let Some(stream) = self.connect(node, lm).await else { return false };
        let (reader, writer) = stream.into_split();
        let (send, receive) = mpsc::unbounded_channel();
        self.links.lock().unwrap().insert(lm, Some(send.clone()));
        self.act(|client, now, out| client.reset(now, lm, out));
        tokio::select! {
            heard = self.read_all(node, lm, reader, &send) => heard,
            () = write_all(writer, receive) => true,
            () = self.way_is_gone(node, lm) => true,
        }
    }

    async fn connect(&self, node: usize, lm: IpAddr) -> Option<TcpStream> {
        let socket = self.world.nodes[node].within(|| tcp_from(self.address)).ok()?;
        let stream = tokio::time::timeout(CONNECT, socket.connect((lm, nlm::PORT).into())).await;
        let stream = stream.ok()?.ok()?;
        stream.set_nodelay(true).ok()?;
        // What is unsent at the end of the way never arrives.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok()?;
        Some(stream)
    }

    /// Returns when the address leads elsewhere or the way is cut, and the client has noticed; or when the machine has lost its power.
    async fn way_is_gone(&self, node: usize, lm: IpAddr) {
        let mut changes = self.world.net.changes();
        loop {
            let net = &self.world.net;
            if net.is_cut(self.place, node) {
                return;
            }
            if !net.leads_to(lm, node) {
                let late = net.below(1_000_000);
                return tokio::time::sleep(Duration::from_micros(late)).await;
            }
            if matches!(self.links.lock().unwrap().get(&lm), Some(None)) {
                return;
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        }
    }
}

async fn write_all(mut writer: OwnedWriteHalf, mut messages: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(message) = messages.recv().await {
        if writer.write_all(&wire::record(&message)).await.is_err() {
            return;
        }
    }
}

/// The next whole message of a connection; `None`: there is none.
async fn read_message(reader: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let head = reader.read_u32().await.ok()?;
        let length = (head & 0x7fff_ffff) as usize;
        if message.len() + length > LONGEST {
            return None;
        }
        let at = message.len();
        message.resize(at + length, 0);
        reader.read_exact(&mut message[at..]).await.ok()?;
        if head & 0x8000_0000 != 0 {
            return Some(message);
        }
    }
}

fn xid_of(message: &[u8]) -> Option<u32> {
    message.first_chunk().map(|xid| u32::from_be_bytes(*xid))
}

fn udp_at(node: &Node, address: Ipv4Addr, port: u16) -> io::Result<Datagrams> {
    let send = node.within(|| std::net::UdpSocket::bind((address, port)))?;
    send.set_nonblocking(true)?;
    Ok(Datagrams { receive: UdpSocket::from_std(send.try_clone()?)?, send })
}

fn tcp_from(address: Ipv4Addr) -> io::Result<TcpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(address.into(), 0).into())?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}
