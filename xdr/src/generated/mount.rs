//! MOUNT, versions 1 and 3: from a path to the first file handle.
//!
//! Written after RFC 1094 appendix A (version 1) and RFC 1813 appendix I (version 3).
//!
//! Made from `x/mount.x` by lockferry-xdrgen. Must never be edited by hand.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};

/// Longest path in bytes (MNTPATHLEN of both RFCs).
pub const MNTPATHLEN: u32 = 1024;

/// Longest host or group name in bytes (MNTNAMLEN of both RFCs).
pub const MNTNAMLEN: u32 = 255;

/// Size of a version 1 file handle.
pub const FHSIZE: u32 = 32;

/// Longest version 3 file handle.
pub const FHSIZE3: u32 = 64;

/// Most authentication flavours that a mount answer offers; six are known.
pub const MNT_AUTH_FLAVORS_MAX: u32 = 32;

/// Most mounts that are read from a DUMP: a thousand clients with a few mounts each.
pub const MOUNTBODY_LIST_MAX: u32 = 16384;

/// Most groups that are read for one export.
pub const GROUPNODE_LIST_MAX: u32 = 4096;

/// Most exports that are read from one EXPORT answer.
pub const EXPORTNODE_LIST_MAX: u32 = 4096;

/// A path on the server.
///
/// XDR name: `dirpath`.
///
/// At most [`MNTPATHLEN`] bytes.
pub type Dirpath<'a> = &'a [u8];

/// Reads a [`Dirpath`] and checks its length.
pub fn decode_dirpath<'a>(r: &mut Reader<'a>) -> Result<Dirpath<'a>, DecodeError> {
    r.opaque_var(MNTPATHLEN as usize)
}

/// Writes a [`Dirpath`].
pub fn encode_dirpath(value: &Dirpath<'_>, w: &mut Writer<'_>) {
    w.opaque_max(value, MNTPATHLEN as usize);
}

/// A host or group name.
///
/// XDR name: `name`.
///
/// At most [`MNTNAMLEN`] bytes.
pub type Name<'a> = &'a [u8];

/// Reads a [`Name`] and checks its length.
pub fn decode_name<'a>(r: &mut Reader<'a>) -> Result<Name<'a>, DecodeError> {
    r.opaque_var(MNTNAMLEN as usize)
}

/// Writes a [`Name`].
pub fn encode_name(value: &Name<'_>, w: &mut Writer<'_>) {
    w.opaque_max(value, MNTNAMLEN as usize);
}

/// A file handle of version 1.
///
/// XDR name: `fhandle`.
pub type Fhandle = [u8; FHSIZE as usize];

/// A file handle of version 3.
///
/// XDR name: `fhandle3`.
///
/// At most [`FHSIZE3`] bytes.
pub type Fhandle3<'a> = &'a [u8];

/// Reads a [`Fhandle3`] and checks its length.
pub fn decode_fhandle3<'a>(r: &mut Reader<'a>) -> Result<Fhandle3<'a>, DecodeError> {
    r.opaque_var(FHSIZE3 as usize)
}

/// Writes a [`Fhandle3`].
pub fn encode_fhandle3(value: &Fhandle3<'_>, w: &mut Writer<'_>) {
    w.opaque_max(value, FHSIZE3 as usize);
}

/// The answer to MNT (version 1): 0 and a handle, or an errno.
///
/// XDR name: `fhstatus`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fhstatus {
    /// Mounted: the directory's handle.
    Case0(Fhandle),
    /// An errno of Unix.
    Default(u32),
}

impl Decode<'_> for Fhstatus {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u32()? {
            0 => Ok(Self::Case0(Fhandle::decode(r)?)),
            other => Ok(Self::Default(other)),
        }
    }
}

impl Encode for Fhstatus {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Case0(body) => {
                w.u32(0);
                Fhandle::encode(body, w);
            }
            Self::Default(disc) => {
                debug_assert!(!matches!(disc, 0), "{disc:?} has a variant of its own");
                disc.encode(w);
            }
        }
    }
}

/// What became of a MNT (version 3).
///
/// XDR name: `mountstat3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Mountstat3 {
    /// Mounted.
    Mnt3Ok = 0,
    /// Not owner.
    Mnt3errPerm = 1,
    /// No such directory.
    Mnt3errNoent = 2,
    /// I/O error.
    Mnt3errIo = 5,
    /// Permission denied.
    Mnt3errAcces = 13,
    /// Not a directory.
    Mnt3errNotdir = 20,
    /// Invalid argument.
    Mnt3errInval = 22,
    /// Name too long.
    Mnt3errNametoolong = 63,
    /// Not supported.
    Mnt3errNotsupp = 10004,
    /// The server failed.
    Mnt3errServerfault = 10006,
}

impl TryFrom<i32> for Mountstat3 {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::Mnt3Ok),
            1 => Ok(Self::Mnt3errPerm),
            2 => Ok(Self::Mnt3errNoent),
            5 => Ok(Self::Mnt3errIo),
            13 => Ok(Self::Mnt3errAcces),
            20 => Ok(Self::Mnt3errNotdir),
            22 => Ok(Self::Mnt3errInval),
            63 => Ok(Self::Mnt3errNametoolong),
            10004 => Ok(Self::Mnt3errNotsupp),
            10006 => Ok(Self::Mnt3errServerfault),
            _ => Err(DecodeError::BadDiscriminant { what: "mountstat3", value }),
        }
    }
}

impl Decode<'_> for Mountstat3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for Mountstat3 {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// What a successful MNT gives (version 3).
///
/// XDR name: `mountres3_ok`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mountres3Ok<'a> {
    /// The directory's handle.
    pub fhandle: Fhandle3<'a>,
    /// Authentication flavours that the export takes, best first.
    ///
    /// At most [`MNT_AUTH_FLAVORS_MAX`] elements.
    pub auth_flavors: Vec<i32>,
}

impl<'a> Decode<'a> for Mountres3Ok<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            fhandle: decode_fhandle3(r)?,
            auth_flavors: r.array(MNT_AUTH_FLAVORS_MAX as usize, i32::decode)?,
        })
    }
}

impl Encode for Mountres3Ok<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_fhandle3(&self.fhandle, w);
        w.array(&self.auth_flavors, MNT_AUTH_FLAVORS_MAX as usize, i32::encode);
    }
}

/// The answer to MNT (version 3).
///
/// XDR name: `mountres3`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mountres3<'a> {
    /// Mounted.
    Mnt3Ok(Mountres3Ok<'a>),
    /// Not mounted.
    Default(Mountstat3),
}

impl<'a> Decode<'a> for Mountres3<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match Mountstat3::decode(r)? {
            Mountstat3::Mnt3Ok => Ok(Self::Mnt3Ok(Mountres3Ok::decode(r)?)),
            other => Ok(Self::Default(other)),
        }
    }
}

impl Encode for Mountres3<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Mnt3Ok(body) => {
                Mountstat3::Mnt3Ok.encode(w);
                Mountres3Ok::encode(body, w);
            }
            Self::Default(disc) => {
                debug_assert!(!matches!(disc, Mountstat3::Mnt3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
            }
        }
    }
}

/// One mount that the server remembers.
///
/// XDR name: `mountbody`.
///
/// One element of a list: the link to the next is left out. At most [`MOUNTBODY_LIST_MAX`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mountbody<'a> {
    /// The client.
    pub ml_hostname: Name<'a>,
    /// What it mounted.
    pub ml_directory: Dirpath<'a>,
}

impl<'a> Decode<'a> for Mountbody<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { ml_hostname: decode_name(r)?, ml_directory: decode_dirpath(r)? })
    }
}

impl Encode for Mountbody<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_name(&self.ml_hostname, w);
        encode_dirpath(&self.ml_directory, w);
    }
}

/// The answer to DUMP.
///
/// XDR name: `mountlist`.
///
/// At most [`MOUNTBODY_LIST_MAX`] elements.
pub type Mountlist<'a> = Vec<Mountbody<'a>>;

/// Reads a [`Mountlist`] and checks its length.
pub fn decode_mountlist<'a>(r: &mut Reader<'a>) -> Result<Mountlist<'a>, DecodeError> {
    r.list(MOUNTBODY_LIST_MAX as usize, Mountbody::decode)
}

/// Writes a [`Mountlist`].
pub fn encode_mountlist(value: &Mountlist<'_>, w: &mut Writer<'_>) {
    w.list(value, MOUNTBODY_LIST_MAX as usize, Mountbody::encode);
}

/// One group or host that may mount an export.
///
/// XDR name: `groupnode`.
///
/// One element of a list: the link to the next is left out. At most [`GROUPNODE_LIST_MAX`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groupnode<'a> {
    /// Its name.
    pub gr_name: Name<'a>,
}

impl<'a> Decode<'a> for Groupnode<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { gr_name: decode_name(r)? })
    }
}

impl Encode for Groupnode<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_name(&self.gr_name, w);
    }
}

/// Who may mount an export; nobody listed means everybody.
///
/// XDR name: `groups`.
///
/// At most [`GROUPNODE_LIST_MAX`] elements.
pub type Groups<'a> = Vec<Groupnode<'a>>;

/// Reads a [`Groups`] and checks its length.
pub fn decode_groups<'a>(r: &mut Reader<'a>) -> Result<Groups<'a>, DecodeError> {
    r.list(GROUPNODE_LIST_MAX as usize, Groupnode::decode)
}

/// Writes a [`Groups`].
pub fn encode_groups(value: &Groups<'_>, w: &mut Writer<'_>) {
    w.list(value, GROUPNODE_LIST_MAX as usize, Groupnode::encode);
}

/// One export.
///
/// XDR name: `exportnode`.
///
/// One element of a list: the link to the next is left out. At most [`EXPORTNODE_LIST_MAX`] of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exportnode<'a> {
    /// The path to mount.
    pub ex_dir: Dirpath<'a>,
    /// Who may.
    pub ex_groups: Groups<'a>,
}

impl<'a> Decode<'a> for Exportnode<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { ex_dir: decode_dirpath(r)?, ex_groups: decode_groups(r)? })
    }
}

impl Encode for Exportnode<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_dirpath(&self.ex_dir, w);
        encode_groups(&self.ex_groups, w);
    }
}

/// The answer to EXPORT.
///
/// XDR name: `exports`.
///
/// At most [`EXPORTNODE_LIST_MAX`] elements.
pub type Exports<'a> = Vec<Exportnode<'a>>;

/// Reads a [`Exports`] and checks its length.
pub fn decode_exports<'a>(r: &mut Reader<'a>) -> Result<Exports<'a>, DecodeError> {
    r.list(EXPORTNODE_LIST_MAX as usize, Exportnode::decode)
}

/// Writes a [`Exports`].
pub fn encode_exports(value: &Exports<'_>, w: &mut Writer<'_>) {
    w.list(value, EXPORTNODE_LIST_MAX as usize, Exportnode::encode);
}

/// The mount program.
pub const MOUNT_PROGRAM: u32 = 100005;

/// Version 1, for NFSv2; clients still use its DUMP and EXPORT.
pub const MOUNT_V1: u32 = 1;

/// Version 3, for NFSv3.
pub const MOUNT_V3: u32 = 3;

/// The procedures of `MOUNT_PROGRAM`, one module for each version.
pub mod mount_program {
    /// Version 1 (`MOUNT_V1`).
    pub mod v1 {
        /// The version's number.
        pub const VERSION: u32 = 1;
        /// `MOUNTPROC_NULL`.
        ///
        /// Takes nothing, returns nothing.
        pub const NULL: u32 = 0;
        /// `MOUNTPROC_MNT`.
        ///
        /// Takes [`Dirpath`](super::super::Dirpath), returns [`Fhstatus`](super::super::Fhstatus).
        pub const MNT: u32 = 1;
        /// `MOUNTPROC_DUMP`.
        ///
        /// Takes nothing, returns [`Mountlist`](super::super::Mountlist).
        pub const DUMP: u32 = 2;
        /// `MOUNTPROC_UMNT`.
        ///
        /// Takes [`Dirpath`](super::super::Dirpath), returns nothing.
        pub const UMNT: u32 = 3;
        /// `MOUNTPROC_UMNTALL`.
        ///
        /// Takes nothing, returns nothing.
        pub const UMNTALL: u32 = 4;
        /// `MOUNTPROC_EXPORT`.
        ///
        /// Takes nothing, returns [`Exports`](super::super::Exports).
        pub const EXPORT: u32 = 5;
        /// The same as EXPORT.
        ///
        /// Takes nothing, returns [`Exports`](super::super::Exports).
        pub const EXPORTALL: u32 = 6;
    }

    /// Version 3 (`MOUNT_V3`).
    pub mod v3 {
        /// The version's number.
        pub const VERSION: u32 = 3;
        /// `MOUNTPROC3_NULL`.
        ///
        /// Takes nothing, returns nothing.
        pub const NULL: u32 = 0;
        /// `MOUNTPROC3_MNT`.
        ///
        /// Takes [`Dirpath`](super::super::Dirpath), returns [`Mountres3`](super::super::Mountres3).
        pub const MNT: u32 = 1;
        /// `MOUNTPROC3_DUMP`.
        ///
        /// Takes nothing, returns [`Mountlist`](super::super::Mountlist).
        pub const DUMP: u32 = 2;
        /// `MOUNTPROC3_UMNT`.
        ///
        /// Takes [`Dirpath`](super::super::Dirpath), returns nothing.
        pub const UMNT: u32 = 3;
        /// `MOUNTPROC3_UMNTALL`.
        ///
        /// Takes nothing, returns nothing.
        pub const UMNTALL: u32 = 4;
        /// `MOUNTPROC3_EXPORT`.
        ///
        /// Takes nothing, returns [`Exports`](super::super::Exports).
        pub const EXPORT: u32 = 5;
    }
}
