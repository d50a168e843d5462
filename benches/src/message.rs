//! The messages of a client that locks: calls of NLM version 4, MOUNT and NFS version 3, and what comes back.
//!
//! Must never be clever: the load generator shares no code with the server that it measures.

/// ONC RPC program numbers.
pub(crate) const PORTMAP: u32 = 100_000;
pub(crate) const NFS: u32 = 100_003;
pub(crate) const MOUNT: u32 = 100_005;
pub(crate) const NLM: u32 = 100_021;

/// NLM version 4 procedures.
pub(crate) const NLM_TEST: u32 = 1;
pub(crate) const NLM_LOCK: u32 = 2;
pub(crate) const NLM_UNLOCK: u32 = 4;
pub(crate) const NLM_GRANTED: u32 = 5;
pub(crate) const NLM_GRANTED_MSG: u32 = 10;
pub(crate) const NLM_GRANTED_RES: u32 = 15;

/// NLM statuses.
pub(crate) const GRANTED: u32 = 0;
pub(crate) const BLOCKED: u32 = 3;

/// The last fragment of a record.
const LAST: u32 = 1 << 31;

/// Appends XDR to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Xdr(pub(crate) Vec<u8>);

impl Xdr {
    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A length, the bytes, and zeros up to a multiple of four.
    pub(crate) fn opaque(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// The head of a call with AUTH_SYS credentials of root.
    pub(crate) fn call(&mut self, xid: u32, program: u32, version: u32, procedure: u32) -> &mut Self {
        self.u32(xid).u32(0).u32(2).u32(program).u32(version).u32(procedure);
        let mut cred = Xdr::default();
        cred.u32(0).opaque(b"bench").u32(0).u32(0).u32(0);
        self.u32(1).opaque(&cred.0).u32(0).u32(0)
    }

    /// The head of a reply that succeeded.
    pub(crate) fn reply(&mut self, xid: u32) -> &mut Self {
        self.u32(xid).u32(1).u32(0).u32(0).u32(0).u32(0)
    }

    /// The message as one record of a stream.
    pub(crate) fn record(self) -> Vec<u8> {
        let mut record = Vec::with_capacity(self.0.len() + 4);
        record.extend_from_slice(&(self.0.len() as u32 | LAST).to_be_bytes());
        record.extend_from_slice(&self.0);
        record
    }
}

/// Reads XDR; `None`: it is too short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct In<'a>(pub(crate) &'a [u8]);

impl<'a> In<'a> {
    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*head))
    }

    pub(crate) fn opaque(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()? as usize;
        let bytes = self.0.get(..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..)?;
        Some(bytes)
    }
}

/// The results of a successful reply, with its xid.
pub(crate) fn results(message: &[u8]) -> Option<(u32, In<'_>)> {
    let mut input = In(message);
    let xid = input.u32()?;
    (input.u32()? == 1 && input.u32()? == 0).then_some(())?;
    input.u32()?;
    input.opaque()?;
    (input.u32()? == 0).then_some((xid, input))
}

/// The status of a reply to TEST, LOCK or UNLOCK, with its xid.
pub(crate) fn status(message: &[u8]) -> Option<(u32, u32)> {
    let (xid, mut input) = results(message)?;
    input.opaque()?;
    Some((xid, input.u32()?))
}

/// A lock, as a request names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lock<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) handle: &'a [u8],
    pub(crate) owner: u32,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) exclusive: bool,
}

/// A request about a lock, as a record whose bytes 4..8 are the xid.
pub(crate) fn request(procedure: u32, lock: &Lock<'_>, block: bool) -> Vec<u8> {
    let mut out = Xdr::default();
    out.call(0, NLM, 4, procedure).opaque(&lock.owner.to_be_bytes());
    match procedure {
        NLM_LOCK => out.u32(block.into()).u32(lock.exclusive.into()),
        NLM_TEST => out.u32(lock.exclusive.into()),
        _ => &mut out,
    };
    out.opaque(lock.name).opaque(lock.handle).opaque(&lock.owner.to_be_bytes());
    out.u32(lock.owner).u64(lock.offset).u64(lock.len);
    if procedure == NLM_LOCK {
        out.u32(0).u32(3);
    }
    out.record()
}

/// A whole record at the start of `bytes`: its length with the mark. Records in several fragments are nobody's here.
pub(crate) fn whole(bytes: &[u8]) -> Option<usize> {
    let mark = u32::from_be_bytes(*bytes.first_chunk::<4>()?);
    let len = (mark & !LAST) as usize + 4;
    (bytes.len() >= len).then_some(len)
}
