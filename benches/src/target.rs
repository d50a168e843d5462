//! Finds what is to be measured: ports by rpcbind, handles by MOUNT and LOOKUP.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};

use crate::message::{In, MOUNT, NFS, NLM, PORTMAP, Xdr, results, whole};

const RPCBIND_PORT: u16 = 111;

/// A server of NLM version 4, and an export of it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) nlm: SocketAddrV4,
    /// None: an echo, which takes any handle.
    nfs: Option<Caller>,
    root: Vec<u8>,
    known: HashMap<String, Vec<u8>>,
}

impl Target {
    /// Asks a server for its ports and for the root of an export.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub(crate) fn find(address: Ipv4Addr, export: &str) -> io::Result<Self> {
        let mut rpcbind = Caller::new(SocketAddrV4::new(address, RPCBIND_PORT))?;
        let mut port = |program: u32, version: u32| {
            let mut ask = Xdr::default();
            ask.u32(program).u32(version).u32(6).u32(0);
            let answer = rpcbind.call(PORTMAP, 2, 3, &ask.0)?;
            match In(&answer).u32() {
                Some(port @ 1..=65_535) => Ok(SocketAddrV4::new(address, port as u16)),
                _ => Err(io::Error::other(format!("program {program} is not registered at {address}"))),
            }
        };
        let (mount, nfs, nlm) = (port(MOUNT, 3)?, port(NFS, 3)?, port(NLM, 4)?);
        let mut path = Xdr::default();
        path.opaque(export.as_bytes());
        let answer = Caller::new(mount)?.call(MOUNT, 3, 1, &path.0)?;
        let mut answer = In(&answer);
        let root = match (answer.u32(), answer.opaque()) {
            (Some(0), Some(root)) => root.to_vec(),
            (status, _) => return Err(io::Error::other(format!("cannot mount {export}: {status:?}"))),
        };
        Ok(Self { nlm, nfs: Some(Caller::new(nfs)?), root, known: HashMap::new() })
    }

    /// The same lock manager at another address of the server.
    pub(crate) fn at(&self, address: Ipv4Addr) -> Self {
        Self { nlm: SocketAddrV4::new(address, self.nlm.port()), ..Self::echo(self.nlm) }
    }

    /// A server that takes any handle.
    pub(crate) fn echo(nlm: SocketAddrV4) -> Self {
        Self { nlm, nfs: None, root: Vec::new(), known: HashMap::new() }
    }

    /// The handle of a file at the root of the export.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn handle(&mut self, name: &str) -> io::Result<Vec<u8>> {
        if let Some(known) = self.known.get(name) {
            return Ok(known.clone());
        }
        let Some(nfs) = &mut self.nfs else { return Ok(vec![0; 32]) };
        let mut ask = Xdr::default();
        ask.opaque(&self.root).opaque(name.as_bytes());
        let answer = nfs.call(NFS, 3, 3, &ask.0)?;
        let mut answer = In(&answer);
        match (answer.u32(), answer.opaque()) {
            (Some(0), Some(handle)) => {
                self.known.insert(name.to_owned(), handle.to_vec());
                Ok(handle.to_vec())
            }
            (status, _) => Err(io::Error::other(format!("cannot look up {name}: {status:?}"))),
        }
    }

    /// Handles of `f0`, `f1`...
    ///
    /// # Errors
    /// One is not there.
    pub(crate) fn handles(&mut self, count: usize) -> io::Result<Vec<Vec<u8>>> {
        (0..count).map(|n| self.handle(&format!("f{n}"))).collect()
    }
}

/// One call after the other over a connection.
#[derive(Debug)]
struct Caller {
    stream: TcpStream,
    xid: u32,
}

impl Caller {
    fn new(to: SocketAddrV4) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
        Ok(Self { stream, xid: 1 })
    }

    fn call(&mut self, program: u32, version: u32, procedure: u32, args: &[u8]) -> io::Result<Vec<u8>> {
        self.xid += 1;
        let mut out = Xdr::default();
        out.call(self.xid, program, version, procedure);
        out.0.extend_from_slice(args);
        self.stream.write_all(&out.record())?;
        let mut input = Vec::new();
        let mut piece = [0; 4096];
        let len = loop {
            if let Some(len) = whole(&input) {
                break len;
            }
            match self.stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => input.extend_from_slice(&piece[..n]),
            }
        };
        match results(&input[4..len]) {
            Some((xid, rest)) if xid == self.xid => Ok(rest.0.to_vec()),
            _ => Err(io::Error::other(format!("program {program} refuses procedure {procedure}"))),
        }
    }
}
