//! An entry as it is seen in a file that is being read: what most of a record is, without copies. A million locks are a million owners and
//! files by name, and nearly all of them are known already.
//!
//! Must never outlive the piece of the file that it was seen in.

use std::net::IpAddr;

use super::lock_store::{Loaded, Origin};
use super::record::{ClientKey, Entry, LockFields, OwnerKey, Place, Record, ReplySeed};
use crate::state::Range;

/// An [`OwnerKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeenOwner<'a> {
    /// The client's name.
    pub name: &'a [u8],
    /// The client's address.
    pub address: IpAddr,
    /// Owner handle.
    pub oh: &'a [u8],
    /// Owner number.
    pub svid: u32,
}

/// A [`Place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenPlace<'a> {
    /// Whose.
    pub owner: SeenOwner<'a>,
    /// The file's key.
    pub file: &'a [u8],
    /// Which bytes.
    pub range: Range,
}

/// A [`Record`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenRecord<'a> {
    /// [`Record::Set`].
    Set(SeenPlace<'a>, LockFields),
    /// [`Record::Unset`].
    Unset(SeenPlace<'a>),
    /// [`Record::Granted`].
    Granted(u64, SeenPlace<'a>, LockFields),
    /// None of these.
    Other(Record),
}

/// A [`ReplySeed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenReply<'a> {
    /// All but the reply itself.
    pub head: ReplySeed,
    /// The reply.
    pub bytes: &'a [u8],
}

/// An [`Entry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenEntry<'a> {
    /// What happened.
    pub record: SeenRecord<'a>,
    /// The answer, if the reply cache should know it after a move.
    pub reply: Option<SeenReply<'a>>,
}

/// A [`Loaded`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Its sequence; 0 for those of a snapshot.
    pub sequence: u64,
    /// What happened.
    pub entry: SeenEntry<'a>,
    /// Where it comes from.
    pub origin: Origin,
}

impl SeenOwner<'_> {
    /// The client.
    pub fn client(&self) -> ClientKey {
        ClientKey { name: self.name.into(), address: self.address }
    }

    /// A copy that may stay.
    pub fn into_owned(self) -> OwnerKey {
        OwnerKey { client: self.client(), oh: self.oh.into(), svid: self.svid }
    }
}

impl SeenPlace<'_> {
    /// A copy that may stay.
    pub fn into_owned(self) -> Place {
        Place { owner: self.owner.into_owned(), file: self.file.into(), range: self.range }
    }
}

impl<'a> From<&'a Place> for SeenPlace<'a> {
    fn from(place: &'a Place) -> Self {
        let OwnerKey { client: ClientKey { name, address }, oh, svid } = &place.owner;
        let owner = SeenOwner { name, address: *address, oh, svid: *svid };
        SeenPlace { owner, file: &place.file, range: place.range }
    }
}

impl SeenRecord<'_> {
    /// A copy that may stay.
    pub fn into_owned(self) -> Record {
        match self {
            SeenRecord::Set(place, fields) => Record::Set(place.into_owned(), fields),
            SeenRecord::Unset(place) => Record::Unset(place.into_owned()),
            SeenRecord::Granted(waiter, place, fields) => Record::Granted(waiter, place.into_owned(), fields),
            SeenRecord::Other(record) => record,
        }
    }
}

impl SeenReply<'_> {
    /// A copy that may stay.
    pub fn into_owned(self) -> ReplySeed {
        ReplySeed { reply: self.bytes.into(), ..self.head }
    }
}

impl SeenEntry<'_> {
    /// A copy that may stay.
    pub fn into_owned(self) -> Entry {
        Entry { record: self.record.into_owned(), reply: self.reply.map(SeenReply::into_owned) }
    }
}

impl Seen<'_> {
    /// A copy that may stay.
    pub fn into_owned(self) -> Loaded {
        Loaded { sequence: self.sequence, entry: self.entry.into_owned(), origin: self.origin }
    }
}
