//! Entries to payload bytes and back (docs/journal.md, "Payloads"). Must never allocate by an unchecked length, and must
//! never accept bytes that it would not write itself.

use std::net::IpAddr;

use crate::state::{Mode, Range};
use crate::store::record::{
    ClientKey, Connection, Durability, Entry, LockCondition, LockFields, MAX_FILE_KEY, MAX_HANDLE, MAX_LABEL,
    MAX_NAME, MAX_PATH, MAX_PREFIX, MAX_REPLY, Place, Record, ReplySeed, UnderLock, WaiterFields,
};
use crate::store::seen::{SeenEntry, SeenOwner, SeenPlace, SeenRecord, SeenReply};

/// Version of all payloads so far.
pub(super) const PAYLOAD_VERSION: u8 = 1;
/// Set in the type when a reply follows.
const WITH_REPLY: u8 = 0x80;
/// Last frame of a snapshot. Not an entry.
pub(super) const TYPE_END: u8 = 127;

/// Why an entry cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} has {len} bytes, the record takes at most {max}")]
pub struct TooLong {
    /// Which field.
    pub what: &'static str,
    /// Its length.
    pub len: usize,
    /// Its maximum.
    pub max: usize,
}

/// Why a payload cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("payload ends early")]
    Short,
    #[error("payload has bytes left over")]
    Long,
    #[error("a length or a value out of its bounds")]
    Bounds,
    #[error("written by a newer lockferry (type {0}, version {1})")]
    Newer(u8, u8),
}

/// Appends the payload of `entry` and returns its type. On an error `out` is as before.
pub(super) fn encode(entry: &Entry, out: &mut Vec<u8>) -> Result<u8, TooLong> {
    encode_parts(&entry.record, entry.reply.as_ref(), out)
}

/// The same, of an entry that is not put together.
pub(super) fn encode_parts(
    record: &Record,
    reply: Option<&ReplySeed>,
    out: &mut Vec<u8>,
) -> Result<u8, TooLong> {
    let before = out.len();
    let mut w = Out { out, error: None };
    let mut kind = w.record(record);
    if let Some(reply) = reply {
        kind |= WITH_REPLY;
        w.reply(reply);
    }
    match w.error {
        None => {
            if out.len() == before {
                // A frame needs a payload: length zero is the end of a segment.
                out.push(0);
            }
            Ok(kind)
        }
        Some(error) => {
            out.truncate(before);
            Err(error)
        }
    }
}

/// Reads a payload of the type and version that its frame names.
pub(super) fn decode(kind: u8, version: u8, payload: &[u8]) -> Result<Entry, DecodeError> {
    see(kind, version, payload).map(SeenEntry::into_owned)
}

/// The same, without copies of what most of a record is.
pub(super) fn see(kind: u8, version: u8, payload: &[u8]) -> Result<SeenEntry<'_>, DecodeError> {
    if version != PAYLOAD_VERSION {
        return Err(DecodeError::Newer(kind, version));
    }
    let mut r = In { rest: payload };
    let record = r.record(kind & !WITH_REPLY, version)?;
    let reply = if kind & WITH_REPLY != 0 { Some(r.reply()?) } else { None };
    if payload == [0]
        && reply.is_none()
        && matches!(record, SeenRecord::Other(Record::WindowEnded | Record::Answered | Record::Stopped))
    {
        r.rest = &[];
    }
    if r.rest.is_empty() && !payload.is_empty() {
        Ok(SeenEntry { record, reply })
    } else {
        Err(DecodeError::Long)
    }
}

struct Out<'a> {
    out: &'a mut Vec<u8>,
    error: Option<TooLong>,
}

impl Out<'_> {
    fn u8(&mut self, v: u8) {
        self.out.push(v);
    }

    fn u16(&mut self, v: u16) {
        self.out.extend_from_slice(&v.to_le_bytes());
    }

    fn u32(&mut self, v: u32) {
        self.out.extend_from_slice(&v.to_le_bytes());
    }

    fn u64(&mut self, v: u64) {
        self.out.extend_from_slice(&v.to_le_bytes());
    }

    fn bytes(&mut self, what: &'static str, v: &[u8], max: usize) {
        if v.len() > max {
            self.error.get_or_insert(TooLong { what, len: v.len(), max });
            return;
        }
        self.u16(v.len() as u16);
        self.out.extend_from_slice(v);
    }

    fn address(&mut self, v: IpAddr) {
        match v {
            IpAddr::V4(a) => {
                self.u8(4);
                self.out.extend_from_slice(&a.octets());
            }
            IpAddr::V6(a) => {
                self.u8(6);
                self.out.extend_from_slice(&a.octets());
            }
        }
    }

    fn client(&mut self, v: &ClientKey) {
        self.bytes("client name", &v.name, MAX_NAME);
        self.address(v.address);
    }

    fn place(&mut self, v: &Place) {
        self.client(&v.owner.client);
        self.bytes("owner handle", &v.owner.oh, MAX_NAME);
        self.u32(v.owner.svid);
        self.bytes("file key", &v.file, MAX_FILE_KEY);
        self.u64(v.range.start);
        let cut = v.range.end.min(i64::MAX as u64).max(v.range.start);
        self.u64(if mutant!(CodecCutsOffsets) { cut } else { v.range.end });
    }

    fn lock(&mut self, place: &Place, v: &LockFields) {
        self.place(place);
        self.u8(mode_number(v.mode));
        self.u8(v.condition as u8);
        self.u32(v.state);
        self.u64(v.since);
        match v.under {
            None => self.u8(0),
            Some(under) => {
                self.u8(1 + under.condition as u8);
                self.u32(under.state);
            }
        }
    }

    fn waiter(&mut self, v: &WaiterFields) {
        self.place(&v.place);
        self.u8(mode_number(v.mode));
        self.u32(v.state);
        self.u64(v.since);
        self.u32(v.version);
        self.u8(u8::from(v.tcp) | u8::from(v.asynchronous) << 1);
        self.bytes("file handle", &v.handle, MAX_HANDLE);
    }

    fn reply(&mut self, v: &ReplySeed) {
        self.address(v.peer);
        self.u16(v.port);
        self.u8(v.tcp.into());
        self.u32(v.xid);
        self.u32(v.program);
        self.u32(v.version);
        self.u32(v.procedure);
        self.u64(v.checksum);
        self.u64(v.at_ms);
        self.bytes("reply", &v.reply, MAX_REPLY);
    }

    fn record(&mut self, record: &Record) -> u8 {
        match record {
            Record::Opened { lock_manager, node, time, durability, complete } => {
                self.bytes("lock manager name", lock_manager.as_bytes(), MAX_LABEL);
                self.bytes("node name", node.as_bytes(), MAX_LABEL);
                self.u64(*time);
                self.u8(*durability as u8);
                self.u8((*complete).into());
                1
            }
            Record::Set(place, fields) => {
                self.lock(place, fields);
                2
            }
            Record::Unset(place) => {
                self.place(place);
                3
            }
            Record::Granted(waiter, place, fields) => {
                self.u64(*waiter);
                self.lock(place, fields);
                4
            }
            Record::Queued(waiter, fields) => {
                self.u64(*waiter);
                self.waiter(fields);
                5
            }
            Record::Unqueued(waiter) => {
                self.u64(*waiter);
                6
            }
            Record::Client(client, state) => {
                self.client(client);
                self.u32(*state);
                7
            }
            Record::Forgotten(client) => {
                self.client(client);
                8
            }
            Record::NsmState(state) => {
                self.u32(*state);
                9
            }
            other => self.rare(other),
        }
    }

    fn rare(&mut self, record: &Record) -> u8 {
        match record {
            Record::Bound { path, prefix } => {
                self.bytes("export path", path, MAX_PATH);
                self.bytes("file key prefix", prefix, MAX_PREFIX);
                10
            }
            Record::Unbound { path } => {
                self.bytes("export path", path, MAX_PATH);
                11
            }
            Record::Sweep { from, to, prefix } => {
                self.u8(*from & SET_OF_ALL);
                self.u8(to.map_or(0, |to| 1 + to as u8));
                self.bytes("file key prefix", prefix, MAX_FILE_KEY);
                12
            }
            Record::WindowOpened { full, deadline_ms } => {
                self.u8((*full).into());
                self.u64(*deadline_ms);
                13
            }
            Record::WindowEnded => 14,
            Record::Released { time } => {
                self.u64(*time);
                15
            }
            Record::HandedOver { time, to } => {
                self.u64(*time);
                self.bytes("receiver", to.as_bytes(), MAX_LABEL);
                16
            }
            Record::Connected(connection) => {
                self.connection(*connection);
                18
            }
            Record::Disconnected(connection) => {
                self.connection(*connection);
                19
            }
            Record::Stopped => 20,
            _ => 17,
        }
    }

    fn connection(&mut self, v: Connection) {
        self.u16(v.local_port);
        self.address(v.address);
        self.u16(v.port);
    }
}

const SET_OF_ALL: u8 = 0b1_1111;

fn mode_number(mode: Mode) -> u8 {
    match mode {
        Mode::Shared => 0,
        Mode::Exclusive => 1,
    }
}

struct In<'a> {
    rest: &'a [u8],
}

impl<'a> In<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Bounds),
        }
    }

    fn slice(&mut self, max: usize) -> Result<&'a [u8], DecodeError> {
        let len = usize::from(self.u16()?);
        if len > max {
            return Err(DecodeError::Bounds);
        }
        self.take(len)
    }

    fn bytes(&mut self, max: usize) -> Result<Box<[u8]>, DecodeError> {
        self.slice(max).map(Into::into)
    }

    fn text(&mut self, max: usize) -> Result<Box<str>, DecodeError> {
        let bytes = self.slice(max)?;
        std::str::from_utf8(bytes).map(Into::into).map_err(|_| DecodeError::Bounds)
    }

    fn address(&mut self) -> Result<IpAddr, DecodeError> {
        match self.u8()? {
            4 => Ok(IpAddr::from(self.array::<4>()?)),
            6 => Ok(IpAddr::from(self.array::<16>()?)),
            _ => Err(DecodeError::Bounds),
        }
    }

    fn client(&mut self) -> Result<ClientKey, DecodeError> {
        Ok(ClientKey { name: self.bytes(MAX_NAME)?, address: self.address()? })
    }

    fn place(&mut self) -> Result<SeenPlace<'a>, DecodeError> {
        let (name, address) = (self.slice(MAX_NAME)?, self.address()?);
        let owner = SeenOwner { name, address, oh: self.slice(MAX_NAME)?, svid: self.u32()? };
        let file = self.slice(MAX_FILE_KEY)?;
        let range = Range::new(self.u64()?, self.u64()?).ok_or(DecodeError::Bounds)?;
        Ok(SeenPlace { owner, file, range })
    }

    fn mode(&mut self) -> Result<Mode, DecodeError> {
        Ok(Mode::from_exclusive(self.bool()?))
    }

    fn condition(number: u8) -> Result<LockCondition, DecodeError> {
        LockCondition::ALL.get(usize::from(number)).copied().ok_or(DecodeError::Bounds)
    }

    fn lock(&mut self) -> Result<(SeenPlace<'a>, LockFields), DecodeError> {
        let place = self.place()?;
        let (mode, condition) = (self.mode()?, Self::condition(self.u8()?)?);
        let (state, since) = (self.u32()?, self.u64()?);
        let under = match self.u8()? {
            0 => None,
            n => Some(UnderLock { condition: Self::condition(n - 1)?, state: self.u32()? }),
        };
        Ok((place, LockFields { mode, condition, state, since, under }))
    }

    fn waiter(&mut self) -> Result<WaiterFields, DecodeError> {
        let (place, mode) = (self.place()?.into_owned(), self.mode()?);
        let (state, since, version) = (self.u32()?, self.u64()?, self.u32()?);
        let flags = self.u8()?;
        if flags > 3 {
            return Err(DecodeError::Bounds);
        }
        let handle = self.bytes(MAX_HANDLE)?;
        Ok(WaiterFields {
            place,
            mode,
            state,
            since,
            version,
            tcp: flags & 1 != 0,
            asynchronous: flags & 2 != 0,
            handle,
        })
    }

    fn reply(&mut self) -> Result<SeenReply<'a>, DecodeError> {
        let head = ReplySeed {
            peer: self.address()?,
            port: self.u16()?,
            tcp: self.bool()?,
            xid: self.u32()?,
            program: self.u32()?,
            version: self.u32()?,
            procedure: self.u32()?,
            checksum: self.u64()?,
            at_ms: self.u64()?,
            reply: Box::default(),
        };
        Ok(SeenReply { head, bytes: self.slice(MAX_REPLY)? })
    }

    fn record(&mut self, kind: u8, version: u8) -> Result<SeenRecord<'a>, DecodeError> {
        Ok(match kind {
            2 => {
                let (place, fields) = self.lock()?;
                SeenRecord::Set(place, fields)
            }
            3 => SeenRecord::Unset(self.place()?),
            4 => {
                let waiter = self.u64()?;
                let (place, fields) = self.lock()?;
                SeenRecord::Granted(waiter, place, fields)
            }
            _ => SeenRecord::Other(self.other(kind, version)?),
        })
    }

    fn other(&mut self, kind: u8, version: u8) -> Result<Record, DecodeError> {
        Ok(match kind {
            1 => Record::Opened {
                lock_manager: self.text(MAX_LABEL)?,
                node: self.text(MAX_LABEL)?,
                time: self.u64()?,
                durability: match self.u8()? {
                    0 => Durability::Sync,
                    1 => Durability::Relaxed,
                    2 => Durability::None,
                    _ => return Err(DecodeError::Bounds),
                },
                complete: self.bool()?,
            },
            5 => Record::Queued(self.u64()?, self.waiter()?),
            6 => Record::Unqueued(self.u64()?),
            7 => Record::Client(self.client()?, self.u32()?),
            8 => Record::Forgotten(self.client()?),
            9 => Record::NsmState(self.u32()?),
            10 => Record::Bound { path: self.bytes(MAX_PATH)?, prefix: self.bytes(MAX_PREFIX)? },
            11 => Record::Unbound { path: self.bytes(MAX_PATH)? },
            12 => self.sweep()?,
            13 => Record::WindowOpened { full: self.bool()?, deadline_ms: self.u64()? },
            14 => Record::WindowEnded,
            15 => Record::Released { time: self.u64()? },
            16 => Record::HandedOver { time: self.u64()?, to: self.text(MAX_LABEL)? },
            17 => Record::Answered,
            18 => Record::Connected(self.connection()?),
            19 => Record::Disconnected(self.connection()?),
            20 => Record::Stopped,
            _ => return Err(DecodeError::Newer(kind, version)),
        })
    }

    fn connection(&mut self) -> Result<Connection, DecodeError> {
        Ok(Connection { local_port: self.u16()?, address: self.address()?, port: self.u16()? })
    }

    fn sweep(&mut self) -> Result<Record, DecodeError> {
        let from = self.u8()?;
        if from & !SET_OF_ALL != 0 {
            return Err(DecodeError::Bounds);
        }
        let to = match self.u8()? {
            0 => None,
            n => Some(Self::condition(n - 1)?),
        };
        Ok(Record::Sweep { from, to, prefix: self.bytes(MAX_FILE_KEY)? })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::record::OwnerKey;
    use proptest::prelude::*;

    fn bytes(max: usize) -> impl Strategy<Value = Box<[u8]>> {
        proptest::collection::vec(any::<u8>(), 0..=max).prop_map(Into::into)
    }

    fn place() -> impl Strategy<Value = Place> {
        let client = (bytes(40), any::<IpAddr>()).prop_map(|(name, address)| ClientKey { name, address });
        let owner =
            (client, bytes(30), any::<u32>()).prop_map(|(client, oh, svid)| OwnerKey { client, oh, svid });
        let range =
            (any::<u64>(), any::<u64>()).prop_map(|(a, b)| Range::new(a.min(b), a.max(b)).expect("in order"));
        (owner, bytes(60), range).prop_map(|(owner, file, range)| Place { owner, file, range })
    }

    fn condition() -> impl Strategy<Value = LockCondition> {
        (0usize..5).prop_map(|n| LockCondition::ALL[n])
    }

    fn fields() -> impl Strategy<Value = LockFields> {
        let under = proptest::option::of(
            (condition(), any::<u32>()).prop_map(|(condition, state)| UnderLock { condition, state }),
        );
        (any::<bool>(), condition(), any::<u32>(), any::<u64>(), under).prop_map(
            |(x, condition, state, since, under)| LockFields {
                mode: Mode::from_exclusive(x),
                condition,
                state,
                since,
                under,
            },
        )
    }

    fn waiter() -> impl Strategy<Value = WaiterFields> {
        (place(), fields(), any::<u32>(), any::<bool>(), any::<bool>(), bytes(64)).prop_map(
            |(place, f, version, tcp, asynchronous, handle)| WaiterFields {
                place,
                mode: f.mode,
                state: f.state,
                since: f.since,
                version,
                tcp,
                asynchronous,
                handle,
            },
        )
    }

    fn connection() -> impl Strategy<Value = Connection> {
        // Few of them, so that they meet.
        (0u16..3, any::<bool>(), 0u16..3).prop_map(|(local_port, four, port)| {
            let address = if four { IpAddr::from([10, 0, 0, 1]) } else { IpAddr::from([7u16; 8]) };
            Connection { local_port, address, port }
        })
    }

    /// Any record.
    pub(in crate::store) fn record() -> impl Strategy<Value = Record> {
        let durability =
            prop_oneof![Just(Durability::Sync), Just(Durability::Relaxed), Just(Durability::None)];
        prop_oneof![
            ("[a-z.]{0,20}", "[a-zé]{0,9}", any::<u64>(), durability, any::<bool>()).prop_map(
                |(lm, node, time, durability, complete)| Record::Opened {
                    lock_manager: lm.into(),
                    node: node.into(),
                    time,
                    durability,
                    complete
                }
            ),
            (place(), fields()).prop_map(|(p, f)| Record::Set(p, f)),
            place().prop_map(Record::Unset),
            (any::<u64>(), place(), fields()).prop_map(|(w, p, f)| Record::Granted(w, p, f)),
            (any::<u64>(), waiter()).prop_map(|(n, w)| Record::Queued(n, w)),
            any::<u64>().prop_map(Record::Unqueued),
            (place(), any::<u32>()).prop_map(|(p, s)| Record::Client(p.owner.client, s)),
            place().prop_map(|p| Record::Forgotten(p.owner.client)),
            any::<u32>().prop_map(Record::NsmState),
            (bytes(50), bytes(20)).prop_map(|(path, prefix)| Record::Bound { path, prefix }),
            bytes(50).prop_map(|path| Record::Unbound { path }),
            (0u8..32, proptest::option::of(condition()), bytes(9))
                .prop_map(|(from, to, prefix)| { Record::Sweep { from, to, prefix } }),
            (any::<bool>(), any::<u64>())
                .prop_map(|(full, deadline_ms)| Record::WindowOpened { full, deadline_ms }),
            Just(Record::WindowEnded),
            Just(Record::Stopped),
            any::<u64>().prop_map(|time| Record::Released { time }),
            (any::<u64>(), "[a-z]{0,9}").prop_map(|(time, to)| Record::HandedOver { time, to: to.into() }),
            Just(Record::Answered),
            connection().prop_map(Record::Connected),
            connection().prop_map(Record::Disconnected),
        ]
    }

    /// Any entry.
    pub(in crate::store) fn entry() -> impl Strategy<Value = Entry> {
        let reply =
            (any::<IpAddr>(), any::<u16>(), any::<bool>(), any::<[u32; 4]>(), any::<[u64; 2]>(), bytes(60))
                .prop_map(
                    |(peer, port, tcp, [xid, program, version, procedure], [checksum, at_ms], reply)| {
                        ReplySeed {
                            peer,
                            port,
                            tcp,
                            xid,
                            program,
                            version,
                            procedure,
                            checksum,
                            at_ms,
                            reply,
                        }
                    },
                );
        (record(), proptest::option::of(reply)).prop_map(|(record, reply)| Entry { record, reply })
    }

    proptest! {
        #[test]
        fn every_entry_comes_back_as_it_was_written(entry in entry()) {
            let mut out = vec![7];
            let kind = encode(&entry, &mut out).unwrap();
            prop_assert_eq!(decode(kind, PAYLOAD_VERSION, &out[1..]), Ok(entry));
        }

        #[test]
        fn random_bytes_never_panic_and_only_canonical_ones_are_taken(
            kind in any::<u8>(), payload in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Ok(entry) = decode(kind, PAYLOAD_VERSION, &payload) {
                let mut again = Vec::new();
                prop_assert_eq!(encode(&entry, &mut again).unwrap(), kind);
                prop_assert_eq!(again, payload);
            }
        }

        #[test]
        fn a_cut_or_changed_payload_never_panics(entry in entry(), cut in any::<u16>(), bit in any::<u16>()) {
            let mut out = Vec::new();
            let kind = encode(&entry, &mut out).unwrap();
            let cut = usize::from(cut) % out.len();
            prop_assert!(decode(kind, PAYLOAD_VERSION, &out[..cut]).is_err());
            let bit = usize::from(bit) % (out.len() * 8);
            out[bit / 8] ^= 1 << (bit % 8);
            let _ = decode(kind, PAYLOAD_VERSION, &out);
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_anything_is_written() {
        let client =
            ClientKey { name: vec![b'x'; MAX_NAME + 1].into(), address: IpAddr::from([10, 0, 0, 1]) };
        let mut out = vec![1, 2];
        let error = encode(&Record::Client(client, 1).into(), &mut out).unwrap_err();
        assert_eq!((error.len, error.max, out.len()), (1025, 1024, 2));
    }

    #[test]
    fn a_newer_version_or_type_is_named() {
        assert_eq!(decode(14, 2, &[0]), Err(DecodeError::Newer(14, 2)));
        assert_eq!(decode(100, 1, &[0]), Err(DecodeError::Newer(100, 1)));
    }
}
