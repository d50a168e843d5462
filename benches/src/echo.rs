//! A server that answers every NLM request with GRANTED and does nothing else: what the machine and the generator can do at the most.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd as _;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::message::{In, Xdr, whole};

/// Serves for ever, in one thread.
///
/// # Errors
/// The system's.
pub(crate) fn serve(at: SocketAddrV4) -> io::Result<()> {
    let listener = TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    epoll.add(listener.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, u64::MAX))?;
    let mut conns: Vec<Option<(TcpStream, Vec<u8>)>> = Vec::new();
    let mut events = [EpollEvent::empty(); 64];
    let mut piece = vec![0; 256 << 10];
    println!("echo ready");
    loop {
        let ready = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..ready] {
            if event.data() == u64::MAX {
                let Ok((stream, _)) = listener.accept() else { continue };
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                epoll.add(stream.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, conns.len() as u64))?;
                conns.push(Some((stream, Vec::new())));
                continue;
            }
            let at = event.data() as usize;
            let Some((stream, input)) = &mut conns[at] else { continue };
            match stream.read(&mut piece) {
                Ok(n @ 1..) => input.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                _ => {
                    conns[at] = None;
                    continue;
                }
            }
            let (mut used, mut out) = (0, Vec::new());
            while let Some(len) = whole(&input[used..]) {
                let mut reply = Xdr::default();
                reply.reply(In(&input[used + 4..]).u32().unwrap_or(0)).opaque(&[0; 4]).u32(0);
                out.extend_from_slice(&reply.record());
                used += len;
            }
            input.drain(..used);
            // What a generator has in flight is far less than a socket takes.
            stream.write_all(&out)?;
        }
    }
}
