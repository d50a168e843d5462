//! An NLM client: builds the arguments, reads the answers, of any version and over both transports. Statuses are plain
//! numbers, as they are on the wire. Must never retry: what the server answers is what the test sees.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use lockferry_xdr::{Reader, Writer};

use super::wire::{self, Answer, Conn};
use super::{PATIENCE, SERVER};

pub(crate) const PROGRAM: u32 = 100_021;
pub(crate) const PORT: u16 = 32803;
pub(crate) const NSM: u32 = 100_024;
pub(crate) const NSM_PORT: u16 = 32765;

pub(crate) const GRANTED: u32 = 0;
pub(crate) const DENIED: u32 = 1;
pub(crate) const NOLOCKS: u32 = 2;
pub(crate) const BLOCKED: u32 = 3;
pub(crate) const GRACE: u32 = 4;
pub(crate) const DEADLOCK: u32 = 5;
pub(crate) const ROFS: u32 = 6;
pub(crate) const STALE: u32 = 7;
pub(crate) const FBIG: u32 = 8;

/// A range of a file, and how it is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    pub(crate) fh: Vec<u8>,
    pub(crate) oh: Vec<u8>,
    pub(crate) svid: u32,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) exclusive: bool,
    pub(crate) block: bool,
    pub(crate) reclaim: bool,
    pub(crate) state: u32,
}

impl Want {
    /// The whole file, exclusively, without waiting, by owner 1 in NSM state 1.
    pub(crate) fn all(fh: &[u8]) -> Self {
        Self {
            fh: fh.to_vec(),
            oh: b"1@test".to_vec(),
            svid: 1,
            offset: 0,
            len: 0,
            exclusive: true,
            block: false,
            reclaim: false,
            state: 1,
        }
    }

    /// The same for some bytes.
    pub(crate) fn bytes(fh: &[u8], offset: u64, len: u64) -> Self {
        Self { offset, len, ..Self::all(fh) }
    }

    /// By another owner.
    pub(crate) fn by(self, svid: u32) -> Self {
        Self { oh: format!("{svid}@test").into_bytes(), svid, ..self }
    }

    pub(crate) fn shared(self) -> Self {
        Self { exclusive: false, ..self }
    }

    pub(crate) fn blocking(self) -> Self {
        Self { block: true, ..self }
    }

    pub(crate) fn reclaim(self) -> Self {
        Self { reclaim: true, state: 0, ..self }
    }

    pub(crate) fn state(self, state: u32) -> Self {
        Self { state, ..self }
    }
}

/// What TEST says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tested {
    Free,
    Held { exclusive: bool, svid: u32, oh: Vec<u8>, offset: u64, len: u64 },
    Other(u32),
}

/// An NLM client on a connection.
pub(crate) struct Client {
    pub(crate) conn: Conn,
    pub(crate) version: u32,
    pub(crate) name: Vec<u8>,
    cookies: u32,
}

impl Client {
    /// NLM version 4 over TCP from `from`, under a name.
    pub(crate) fn new(from: Ipv4Addr, name: &str) -> Self {
        Self::on(Conn::tcp(from, (SERVER, PORT)), 4, name)
    }

    /// The same over UDP.
    pub(crate) fn udp(from: Ipv4Addr, name: &str) -> Self {
        Self::on(Conn::udp(from, (SERVER, PORT)), 4, name)
    }

    /// To another address of the server.
    pub(crate) fn to(from: impl Into<IpAddr>, to: impl Into<IpAddr>, name: &str) -> Self {
        Self::on(Conn::tcp(from, SocketAddr::new(to.into(), PORT)), 4, name)
    }

    /// On any connection, in any version.
    pub(crate) fn on(conn: Conn, version: u32, name: &str) -> Self {
        Self { conn, version, name: name.into(), cookies: 0 }
    }

    pub(crate) fn lock(&mut self, want: &Want) -> u32 {
        self.status(2, want).expect("an answer to LOCK")
    }

    pub(crate) fn nm_lock(&mut self, want: &Want) -> u32 {
        self.status(22, want).expect("an answer to NM_LOCK")
    }

    pub(crate) fn cancel(&mut self, want: &Want) -> u32 {
        self.status(3, want).expect("an answer to CANCEL")
    }

    pub(crate) fn unlock(&mut self, want: &Want) -> u32 {
        self.status(4, want).expect("an answer to UNLOCK")
    }

    /// One of the procedures that answer with a status; `None`: silence.
    pub(crate) fn status(&mut self, procedure: u32, want: &Want) -> Option<u32> {
        self.status_within(PATIENCE, procedure, want)
    }

    pub(crate) fn status_within(&mut self, limit: Duration, procedure: u32, want: &Want) -> Option<u32> {
        let cookie = self.cookie();
        let args = self.args(procedure, &cookie, want);
        let answer = self.conn.call_within(limit, (PROGRAM, self.version, procedure), &args)?;
        Some(parse_status(&answer.results(), &cookie))
    }

    pub(crate) fn test(&mut self, want: &Want) -> Tested {
        let cookie = self.cookie();
        let args = self.args(1, &cookie, want);
        let results = self.conn.call((PROGRAM, self.version, 1), &args).results();
        parse_tested(self.version, &results, &cookie)
    }

    /// SHARE (20) or UNSHARE (21): `mode` is what is denied to others, `access` what is done, 0 to 3 each.
    pub(crate) fn share(&mut self, procedure: u32, fh: &[u8], oh: &[u8], mode: u32, access: u32) -> u32 {
        let cookie = self.cookie();
        let args = self.message(|name, w| {
            w.opaque_var(&cookie);
            for part in [name, fh, oh] {
                w.opaque_var(part);
            }
            w.u32(mode);
            w.u32(access);
            w.bool(false);
        });
        let results = self.conn.call((PROGRAM, self.version, procedure), &args).results();
        assert_eq!(results.len(), 4 + 16 + 4 + 4, "cookie, status, sequence");
        parse_status(&results[..24], &cookie)
    }

    /// FREE_ALL; false: silence.
    pub(crate) fn free_all(&mut self, limit: Duration) -> bool {
        let args = self.message(|name, w| {
            w.opaque_var(name);
            w.u32(0);
        });
        self.conn.call_within(limit, (PROGRAM, self.version, 23), &args).map(Answer::results).is_some()
    }

    /// Sends a procedure without waiting; returns its cookie.
    pub(crate) fn post(&mut self, procedure: u32, want: &Want) -> Vec<u8> {
        let cookie = self.cookie();
        let args = self.args(procedure, &cookie, want);
        let xid = self.conn.xid();
        self.conn.send(&wire::call(xid, PROGRAM, self.version, procedure, &args));
        cookie
    }

    /// A whole call, for sending it more than once.
    pub(crate) fn prepared(&mut self, procedure: u32, want: &Want) -> Vec<u8> {
        let cookie = self.cookie();
        let args = self.args(procedure, &cookie, want);
        let xid = self.conn.xid();
        wire::call(xid, PROGRAM, self.version, procedure, &args)
    }

    /// The arguments of TEST, LOCK, CANCEL, UNLOCK, their _MSG forms, and NM_LOCK.
    pub(crate) fn args(&self, procedure: u32, cookie: &[u8], want: &Want) -> Vec<u8> {
        let kind = match procedure {
            6..=9 => procedure - 5,
            22 => 2,
            other => other,
        };
        let wide = self.version == 4;
        self.message(|name, w| {
            w.opaque_var(cookie);
            if matches!(kind, 2 | 3) {
                w.bool(want.block);
            }
            if kind != 4 {
                w.bool(want.exclusive);
            }
            for part in [name, &want.fh, &want.oh] {
                w.opaque_var(part);
            }
            w.u32(want.svid);
            for number in [want.offset, want.len] {
                if wide { w.u64(number) } else { w.u32(number.try_into().expect("32 bits")) }
            }
            if kind == 2 {
                w.bool(want.reclaim);
                w.u32(want.state);
            }
        })
    }

    fn message(&self, write: impl FnOnce(&[u8], &mut Writer<'_>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&self.name, &mut Writer::new(&mut out));
        out
    }

    /// 16 bytes, never the same twice.
    fn cookie(&mut self) -> Vec<u8> {
        self.cookies += 1;
        let port = self.conn.local().port();
        let mut cookie = vec![0xc0, 0xff, 0xee, 0x00];
        cookie.extend_from_slice(&self.cookies.to_be_bytes());
        cookie.extend_from_slice(&u64::from(port).to_be_bytes());
        cookie
    }
}

/// A status out of `nlm_res`; the cookie must be ours.
pub(crate) fn parse_status(results: &[u8], cookie: &[u8]) -> u32 {
    let mut r = Reader::new(results);
    assert_eq!(r.opaque_var(1024).unwrap(), cookie, "the cookie comes back byte for byte");
    let status = r.u32().unwrap();
    r.finish().unwrap();
    status
}

/// The answer out of `nlm_testres`.
pub(crate) fn parse_tested(version: u32, results: &[u8], cookie: &[u8]) -> Tested {
    let mut r = Reader::new(results);
    assert_eq!(r.opaque_var(1024).unwrap(), cookie, "the cookie comes back byte for byte");
    let tested = match r.u32().unwrap() {
        GRANTED => Tested::Free,
        DENIED => {
            let exclusive = r.bool().unwrap();
            let svid = r.u32().unwrap();
            let oh = r.opaque_var(1024).unwrap().to_vec();
            let mut number = || if version == 4 { r.u64().unwrap() } else { r.u32().unwrap().into() };
            Tested::Held { exclusive, svid, oh, offset: number(), len: number() }
        }
        other => Tested::Other(other),
    };
    r.finish().unwrap();
    tested
}

/// The arguments of a GRANTED or GRANTED_MSG that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) cookie: Vec<u8>,
    pub(crate) exclusive: bool,
    pub(crate) name: Vec<u8>,
    pub(crate) fh: Vec<u8>,
    pub(crate) oh: Vec<u8>,
    pub(crate) svid: u32,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Granted {
    pub(crate) fn parse(version: u32, args: &[u8]) -> Self {
        let mut r = Reader::new(args);
        let cookie = r.opaque_var(1024).unwrap().to_vec();
        let exclusive = r.bool().unwrap();
        let mut bytes = || r.opaque_var(1024).unwrap().to_vec();
        let (name, fh, oh) = (bytes(), bytes(), bytes());
        let svid = r.u32().unwrap();
        let mut number = || if version == 4 { r.u64().unwrap() } else { r.u32().unwrap().into() };
        let (offset, len) = (number(), number());
        r.finish().unwrap();
        Self { cookie, exclusive, name, fh, oh, svid, offset, len }
    }

    /// Whether it grants what was asked for.
    pub(crate) fn is(&self, name: &str, want: &Want) -> bool {
        self.name == name.as_bytes()
            && (self.exclusive, &self.fh, &self.oh) == (want.exclusive, &want.fh, &want.oh)
            && (self.svid, self.offset, self.len) == (want.svid, want.offset, want.len)
    }
}

/// SM_NOTIFY to the server from an address; false: silence.
pub(crate) fn sm_notify(from: Ipv4Addr, name: &str, state: u32, limit: Duration) -> bool {
    sm_notify_to(SERVER.into(), from, name, state, limit)
}

/// The same to another address of the server.
pub(crate) fn sm_notify_to(to: IpAddr, from: Ipv4Addr, name: &str, state: u32, limit: Duration) -> bool {
    let mut args = Vec::new();
    let mut w = Writer::new(&mut args);
    w.opaque_var(name.as_bytes());
    w.u32(state);
    let mut conn = Conn::udp(from, (to, NSM_PORT));
    conn.call_within(limit, (NSM, 1, 6), &args).map(Answer::results).is_some()
}
