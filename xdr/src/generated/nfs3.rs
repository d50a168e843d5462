//! NFS version 3.
//!
//! Written after RFC 1813. The RFC leaves names, paths and data without a limit ("string name\<\>"); here each has one.
//!
//! Made from `x/nfs3.x` by lockferry-xdrgen. Must never be edited by hand.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};

/// Longest file handle in bytes.
pub const NFS3_FHSIZE: u32 = 64;

/// Size of the cookie verifier of READDIR and READDIRPLUS.
pub const NFS3_COOKIEVERFSIZE: u32 = 8;

/// Size of the verifier of an exclusive CREATE.
pub const NFS3_CREATEVERFSIZE: u32 = 8;

/// Size of the verifier of WRITE and COMMIT.
pub const NFS3_WRITEVERFSIZE: u32 = 8;

/// Longest file name in bytes: NAME\_MAX of Linux.
pub const NFS3_NAME_MAX: u32 = 255;

/// Longest path in a symbolic link in bytes: PATH\_MAX of Linux.
pub const NFS3_PATH_MAX: u32 = 4096;

/// Most bytes of one READ or WRITE: 1 MiB, the most that the Linux client asks for.
pub const NFS3_DATA_MAX: u32 = 1048576;

/// Most entries of one READDIR answer: 1 MiB holds no more than 43690 of the smallest.
pub const ENTRY3_LIST_MAX: u32 = 65536;

/// Most entries of one READDIRPLUS answer, for the same reason.
pub const ENTRYPLUS3_LIST_MAX: u32 = 65536;

/// XDR typedef `uint64`.
pub type Uint64 = u64;

/// XDR typedef `int64`.
pub type Int64 = i64;

/// XDR typedef `uint32`.
pub type Uint32 = u32;

/// XDR typedef `int32`.
pub type Int32 = i32;

/// A file name in its directory; not always UTF-8.
///
/// XDR name: `filename3`.
///
/// At most [`NFS3_NAME_MAX`] bytes.
pub type Filename3<'a> = &'a [u8];

/// Reads a [`Filename3`] and checks its length.
pub fn decode_filename3<'a>(r: &mut Reader<'a>) -> Result<Filename3<'a>, DecodeError> {
    r.opaque_var(NFS3_NAME_MAX as usize)
}

/// Writes a [`Filename3`].
pub fn encode_filename3(value: &Filename3<'_>, w: &mut Writer<'_>) {
    w.opaque_max(value, NFS3_NAME_MAX as usize);
}

/// What a symbolic link holds; not always UTF-8.
///
/// XDR name: `nfspath3`.
///
/// At most [`NFS3_PATH_MAX`] bytes.
pub type Nfspath3<'a> = &'a [u8];

/// Reads a [`Nfspath3`] and checks its length.
pub fn decode_nfspath3<'a>(r: &mut Reader<'a>) -> Result<Nfspath3<'a>, DecodeError> {
    r.opaque_var(NFS3_PATH_MAX as usize)
}

/// Writes a [`Nfspath3`].
pub fn encode_nfspath3(value: &Nfspath3<'_>, w: &mut Writer<'_>) {
    w.opaque_max(value, NFS3_PATH_MAX as usize);
}

/// A file's number, unique in its file system.
///
/// XDR name: `fileid3`.
pub type Fileid3 = Uint64;

/// A place in a directory; only the server knows its meaning.
///
/// XDR name: `cookie3`.
pub type Cookie3 = Uint64;

/// Tells whether cookies are still good.
///
/// XDR name: `cookieverf3`.
pub type Cookieverf3 = [u8; NFS3_COOKIEVERFSIZE as usize];

/// Tells a repeated exclusive CREATE from another one.
///
/// XDR name: `createverf3`.
pub type Createverf3 = [u8; NFS3_CREATEVERFSIZE as usize];

/// Changes when unstable writes may have been lost.
///
/// XDR name: `writeverf3`.
pub type Writeverf3 = [u8; NFS3_WRITEVERFSIZE as usize];

/// User number.
///
/// XDR name: `uid3`.
pub type Uid3 = Uint32;

/// Group number.
///
/// XDR name: `gid3`.
pub type Gid3 = Uint32;

/// Size in bytes.
///
/// XDR name: `size3`.
pub type Size3 = Uint64;

/// Offset in bytes.
///
/// XDR name: `offset3`.
pub type Offset3 = Uint64;

/// Permission bits, the low twelve of Unix.
///
/// XDR name: `mode3`.
pub type Mode3 = Uint32;

/// Number of bytes.
///
/// XDR name: `count3`.
pub type Count3 = Uint32;

/// What became of a request. The comments name the errno of Unix where there is one.
///
/// XDR name: `nfsstat3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Nfsstat3 {
    /// Done.
    Nfs3Ok = 0,
    /// EPERM: not owner.
    Nfs3errPerm = 1,
    /// ENOENT: no such file.
    Nfs3errNoent = 2,
    /// EIO: hard error.
    Nfs3errIo = 5,
    /// ENXIO: no such device.
    Nfs3errNxio = 6,
    /// EACCES: permission denied.
    Nfs3errAcces = 13,
    /// EEXIST: exists already.
    Nfs3errExist = 17,
    /// EXDEV: link across file systems.
    Nfs3errXdev = 18,
    /// ENODEV: no such device.
    Nfs3errNodev = 19,
    /// ENOTDIR: not a directory.
    Nfs3errNotdir = 20,
    /// EISDIR: a directory.
    Nfs3errIsdir = 21,
    /// EINVAL: invalid argument.
    Nfs3errInval = 22,
    /// EFBIG: file too large.
    Nfs3errFbig = 27,
    /// ENOSPC: no space left.
    Nfs3errNospc = 28,
    /// EROFS: read-only.
    Nfs3errRofs = 30,
    /// EMLINK: too many links.
    Nfs3errMlink = 31,
    /// ENAMETOOLONG: name too long.
    Nfs3errNametoolong = 63,
    /// ENOTEMPTY: directory not empty.
    Nfs3errNotempty = 66,
    /// EDQUOT: over quota.
    Nfs3errDquot = 69,
    /// ESTALE: the handle names nothing any more.
    Nfs3errStale = 70,
    /// EREMOTE: too many levels of remote in path.
    Nfs3errRemote = 71,
    /// The bytes are no handle.
    Nfs3errBadhandle = 10001,
    /// SETATTR's guard does not match.
    Nfs3errNotSync = 10002,
    /// The directory cookie is no good any more.
    Nfs3errBadCookie = 10003,
    /// The server cannot do that.
    Nfs3errNotsupp = 10004,
    /// The buffer or request is too small.
    Nfs3errToosmall = 10005,
    /// The server failed.
    Nfs3errServerfault = 10006,
    /// The server has no such type of object.
    Nfs3errBadtype = 10007,
    /// Not now; try again later with a new xid.
    Nfs3errJukebox = 10008,
}

impl TryFrom<i32> for Nfsstat3 {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::Nfs3Ok),
            1 => Ok(Self::Nfs3errPerm),
            2 => Ok(Self::Nfs3errNoent),
            5 => Ok(Self::Nfs3errIo),
            6 => Ok(Self::Nfs3errNxio),
            13 => Ok(Self::Nfs3errAcces),
            17 => Ok(Self::Nfs3errExist),
            18 => Ok(Self::Nfs3errXdev),
            19 => Ok(Self::Nfs3errNodev),
            20 => Ok(Self::Nfs3errNotdir),
            21 => Ok(Self::Nfs3errIsdir),
            22 => Ok(Self::Nfs3errInval),
            27 => Ok(Self::Nfs3errFbig),
            28 => Ok(Self::Nfs3errNospc),
            30 => Ok(Self::Nfs3errRofs),
            31 => Ok(Self::Nfs3errMlink),
            63 => Ok(Self::Nfs3errNametoolong),
            66 => Ok(Self::Nfs3errNotempty),
            69 => Ok(Self::Nfs3errDquot),
            70 => Ok(Self::Nfs3errStale),
            71 => Ok(Self::Nfs3errRemote),
            10001 => Ok(Self::Nfs3errBadhandle),
            10002 => Ok(Self::Nfs3errNotSync),
            10003 => Ok(Self::Nfs3errBadCookie),
            10004 => Ok(Self::Nfs3errNotsupp),
            10005 => Ok(Self::Nfs3errToosmall),
            10006 => Ok(Self::Nfs3errServerfault),
            10007 => Ok(Self::Nfs3errBadtype),
            10008 => Ok(Self::Nfs3errJukebox),
            _ => Err(DecodeError::BadDiscriminant { what: "nfsstat3", value }),
        }
    }
}

impl Decode<'_> for Nfsstat3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for Nfsstat3 {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// Type of a file.
///
/// XDR name: `ftype3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Ftype3 {
    /// Regular file.
    Nf3reg = 1,
    /// Directory.
    Nf3dir = 2,
    /// Block device.
    Nf3blk = 3,
    /// Character device.
    Nf3chr = 4,
    /// Symbolic link.
    Nf3lnk = 5,
    /// Socket.
    Nf3sock = 6,
    /// Named pipe.
    Nf3fifo = 7,
}

impl TryFrom<i32> for Ftype3 {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            1 => Ok(Self::Nf3reg),
            2 => Ok(Self::Nf3dir),
            3 => Ok(Self::Nf3blk),
            4 => Ok(Self::Nf3chr),
            5 => Ok(Self::Nf3lnk),
            6 => Ok(Self::Nf3sock),
            7 => Ok(Self::Nf3fifo),
            _ => Err(DecodeError::BadDiscriminant { what: "ftype3", value }),
        }
    }
}

impl Decode<'_> for Ftype3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for Ftype3 {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// Numbers of a device.
///
/// XDR name: `specdata3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Specdata3 {
    /// Major.
    pub specdata1: Uint32,
    /// Minor.
    pub specdata2: Uint32,
}

impl Decode<'_> for Specdata3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { specdata1: Uint32::decode(r)?, specdata2: Uint32::decode(r)? })
    }
}

impl Encode for Specdata3 {
    fn encode(&self, w: &mut Writer<'_>) {
        Uint32::encode(&self.specdata1, w);
        Uint32::encode(&self.specdata2, w);
    }
}

/// A file handle.
///
/// XDR name: `nfs_fh3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NfsFh3<'a> {
    /// Only the server knows its meaning.
    ///
    /// At most [`NFS3_FHSIZE`] bytes.
    pub data: &'a [u8],
}

impl<'a> Decode<'a> for NfsFh3<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { data: r.opaque_var(NFS3_FHSIZE as usize)? })
    }
}

impl Encode for NfsFh3<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_max(self.data, NFS3_FHSIZE as usize);
    }
}

/// A time since 1970-01-01 00:00 UTC.
///
/// XDR name: `nfstime3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nfstime3 {
    /// Seconds.
    pub seconds: Uint32,
    /// Nanoseconds, below 1000000000.
    pub nseconds: Uint32,
}

impl Decode<'_> for Nfstime3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { seconds: Uint32::decode(r)?, nseconds: Uint32::decode(r)? })
    }
}

impl Encode for Nfstime3 {
    fn encode(&self, w: &mut Writer<'_>) {
        Uint32::encode(&self.seconds, w);
        Uint32::encode(&self.nseconds, w);
    }
}

/// Attributes of a file.
///
/// XDR name: `fattr3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fattr3 {
    /// Type.
    pub type_: Ftype3,
    /// Permission bits.
    pub mode: Mode3,
    /// Number of hard links.
    pub nlink: Uint32,
    /// Owner.
    pub uid: Uid3,
    /// Group.
    pub gid: Gid3,
    /// Size in bytes.
    pub size: Size3,
    /// Bytes of disk space in use.
    pub used: Size3,
    /// Device numbers, for a device.
    pub rdev: Specdata3,
    /// File system.
    pub fsid: Uint64,
    /// Number in that file system.
    pub fileid: Fileid3,
    /// Last read.
    pub atime: Nfstime3,
    /// Last change of the contents.
    pub mtime: Nfstime3,
    /// Last change of the attributes.
    pub ctime: Nfstime3,
}

impl Decode<'_> for Fattr3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            type_: Ftype3::decode(r)?,
            mode: Mode3::decode(r)?,
            nlink: Uint32::decode(r)?,
            uid: Uid3::decode(r)?,
            gid: Gid3::decode(r)?,
            size: Size3::decode(r)?,
            used: Size3::decode(r)?,
            rdev: Specdata3::decode(r)?,
            fsid: Uint64::decode(r)?,
            fileid: Fileid3::decode(r)?,
            atime: Nfstime3::decode(r)?,
            mtime: Nfstime3::decode(r)?,
            ctime: Nfstime3::decode(r)?,
        })
    }
}

impl Encode for Fattr3 {
    fn encode(&self, w: &mut Writer<'_>) {
        Ftype3::encode(&self.type_, w);
        Mode3::encode(&self.mode, w);
        Uint32::encode(&self.nlink, w);
        Uid3::encode(&self.uid, w);
        Gid3::encode(&self.gid, w);
        Size3::encode(&self.size, w);
        Size3::encode(&self.used, w);
        Specdata3::encode(&self.rdev, w);
        Uint64::encode(&self.fsid, w);
        Fileid3::encode(&self.fileid, w);
        Nfstime3::encode(&self.atime, w);
        Nfstime3::encode(&self.mtime, w);
        Nfstime3::encode(&self.ctime, w);
    }
}

/// Attributes that may be missing.
///
/// XDR name: `post_op_attr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostOpAttr {
    /// Here they are.
    True(Fattr3),
    /// Not known.
    False,
}

impl Decode<'_> for PostOpAttr {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.bool()? {
            true => Ok(Self::True(Fattr3::decode(r)?)),
            false => Ok(Self::False),
        }
    }
}

impl Encode for PostOpAttr {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::True(body) => {
                w.bool(true);
                Fattr3::encode(body, w);
            }
            Self::False => {
                w.bool(false);
            }
        }
    }
}

impl From<Option<Fattr3>> for PostOpAttr {
    fn from(value: Option<Fattr3>) -> Self {
        match value {
            Some(body) => Self::True(body),
            None => Self::False,
        }
    }
}

impl From<PostOpAttr> for Option<Fattr3> {
    fn from(value: PostOpAttr) -> Self {
        match value {
            PostOpAttr::True(body) => Some(body),
            PostOpAttr::False => None,
        }
    }
}

/// The attributes by which a client sees that somebody else changed something.
///
/// XDR name: `wcc_attr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WccAttr {
    /// Size in bytes.
    pub size: Size3,
    /// Last change of the contents.
    pub mtime: Nfstime3,
    /// Last change of the attributes.
    pub ctime: Nfstime3,
}

impl Decode<'_> for WccAttr {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { size: Size3::decode(r)?, mtime: Nfstime3::decode(r)?, ctime: Nfstime3::decode(r)? })
    }
}

impl Encode for WccAttr {
    fn encode(&self, w: &mut Writer<'_>) {
        Size3::encode(&self.size, w);
        Nfstime3::encode(&self.mtime, w);
        Nfstime3::encode(&self.ctime, w);
    }
}

/// The same, if known.
///
/// XDR name: `pre_op_attr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreOpAttr {
    /// Here they are.
    True(WccAttr),
    /// Not known.
    False,
}

impl Decode<'_> for PreOpAttr {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.bool()? {
            true => Ok(Self::True(WccAttr::decode(r)?)),
            false => Ok(Self::False),
        }
    }
}

impl Encode for PreOpAttr {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::True(body) => {
                w.bool(true);
                WccAttr::encode(body, w);
            }
            Self::False => {
                w.bool(false);
            }
        }
    }
}

impl From<Option<WccAttr>> for PreOpAttr {
    fn from(value: Option<WccAttr>) -> Self {
        match value {
            Some(body) => Self::True(body),
            None => Self::False,
        }
    }
}

impl From<PreOpAttr> for Option<WccAttr> {
    fn from(value: PreOpAttr) -> Self {
        match value {
            PreOpAttr::True(body) => Some(body),
            PreOpAttr::False => None,
        }
    }
}

/// Attributes before and after a change ("weak cache consistency").
///
/// XDR name: `wcc_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WccData {
    /// Before.
    pub before: PreOpAttr,
    /// After.
    pub after: PostOpAttr,
}

impl Decode<'_> for WccData {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { before: PreOpAttr::decode(r)?, after: PostOpAttr::decode(r)? })
    }
}

impl Encode for WccData {
    fn encode(&self, w: &mut Writer<'_>) {
        PreOpAttr::encode(&self.before, w);
        PostOpAttr::encode(&self.after, w);
    }
}

/// A file handle that may be missing.
///
/// XDR name: `post_op_fh3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostOpFh3<'a> {
    /// Here it is.
    True(NfsFh3<'a>),
    /// The client has to look it up.
    False,
}

impl<'a> Decode<'a> for PostOpFh3<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match r.bool()? {
            true => Ok(Self::True(NfsFh3::decode(r)?)),
            false => Ok(Self::False),
        }
    }
}

impl Encode for PostOpFh3<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::True(body) => {
                w.bool(true);
                NfsFh3::encode(body, w);
            }
            Self::False => {
                w.bool(false);
            }
        }
    }
}

impl<'a> From<Option<NfsFh3<'a>>> for PostOpFh3<'a> {
    fn from(value: Option<NfsFh3<'a>>) -> Self {
        match value {
            Some(body) => Self::True(body),
            None => Self::False,
        }
    }
}

impl<'a> From<PostOpFh3<'a>> for Option<NfsFh3<'a>> {
    fn from(value: PostOpFh3<'a>) -> Self {
        match value {
            PostOpFh3::True(body) => Some(body),
            PostOpFh3::False => None,
        }
    }
}

/// How a time is set.
///
/// XDR name: `time_how`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum TimeHow {
    /// Not at all.
    DontChange = 0,
    /// To the server's time.
    SetToServerTime = 1,
    /// To the time given.
    SetToClientTime = 2,
}

impl TryFrom<i32> for TimeHow {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::DontChange),
            1 => Ok(Self::SetToServerTime),
            2 => Ok(Self::SetToClientTime),
            _ => Err(DecodeError::BadDiscriminant { what: "time_how", value }),
        }
    }
}

impl Decode<'_> for TimeHow {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for TimeHow {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// Permission bits to set.
///
/// XDR name: `set_mode3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetMode3 {
    /// To this.
    True(Mode3),
    /// Leave them.
    False,
}

impl Decode<'_> for SetMode3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.bool()? {
            true => Ok(Self::True(Mode3::decode(r)?)),
            false => Ok(Self::False),
        }
    }
}

impl Encode for SetMode3 {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::True(body) => {
                w.bool(true);
                Mode3::encode(body, w);
            }
            Self::False => {
                w.bool(false);
            }
        }
    }
}

impl From<Option<Mode3>> for SetMode3 {
    fn from(value: Option<Mode3>) -> Self {
        match value {
            Some(body) => Self::True(body),
            None => Self::False,
        }
    }
}

impl From<SetMode3> for Option<Mode3> {
    fn from(value: SetMode3) -> Self {
        match value {
            SetMode3::True(body) => Some(body),
            SetMode3::False => None,
        }
    }
}

/// Owner to set.
///
/// XDR name: `set_uid3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetUid3 {
    /// To this.
    True(Uid3),
    /// Leave it.
    False,
}

impl Decode<'_> for SetUid3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.bool()? {
            true => Ok(Self::True(Uid3::decode(r)?)),
            false => Ok(Self::False),
        }
    }
}

impl Encode for SetUid3 {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::True(body) => {
                w.bool(true);
                Uid3::encode(body, w);
            }
            Self::False => {
                w.bool(false);
            }
        }
    }
}

impl From<Option<Uid3>> for SetUid3 {
    fn from(value: Option<Uid3>) -> Self {
        match value {
            Some(body) => Self::True(body),
            None => Self::False,
        }
    }
}

impl From<SetUid3> for Option<Uid3> {
    fn from(value: SetUid3) -> Self {
        match value {
            SetUid3::True(body) => Some(body),
            SetUid3::False => None,
        }
    }
}

/// Group to set.
///
/// XDR name: `set_gid3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetGid3 {
    /// To this.
    True(Gid3),
    /// Leave it.
    False,
}

impl Decode<'_> for SetGid3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.bool()? {
            true => Ok(Self::True(Gid3::decode(r)?)),
            false => Ok(Self::False),
        }
    }
}

impl Encode for SetGid3 {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::True(body) => {
                w.bool(true);
                Gid3::encode(body, w);
            }
            Self::False => {
                w.bool(false);
            }
        }
    }
}

impl From<Option<Gid3>> for SetGid3 {
    fn from(value: Option<Gid3>) -> Self {
        match value {
            Some(body) => Self::True(body),
            None => Self::False,
        }
    }
}

impl From<SetGid3> for Option<Gid3> {
    fn from(value: SetGid3) -> Self {
        match value {
            SetGid3::True(body) => Some(body),
            SetGid3::False => None,
        }
    }
}

/// Size to set.
///
/// XDR name: `set_size3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetSize3 {
    /// To this.
    True(Size3),
    /// Leave it.
    False,
}

impl Decode<'_> for SetSize3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.bool()? {
            true => Ok(Self::True(Size3::decode(r)?)),
            false => Ok(Self::False),
        }
    }
}

impl Encode for SetSize3 {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::True(body) => {
                w.bool(true);
                Size3::encode(body, w);
            }
            Self::False => {
                w.bool(false);
            }
        }
    }
}

impl From<Option<Size3>> for SetSize3 {
    fn from(value: Option<Size3>) -> Self {
        match value {
            Some(body) => Self::True(body),
            None => Self::False,
        }
    }
}

impl From<SetSize3> for Option<Size3> {
    fn from(value: SetSize3) -> Self {
        match value {
            SetSize3::True(body) => Some(body),
            SetSize3::False => None,
        }
    }
}

/// Time of the last read to set.
///
/// XDR name: `set_atime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetAtime {
    /// Leave it.
    DontChange,
    /// Now.
    SetToServerTime,
    /// To this.
    SetToClientTime(Nfstime3),
}

impl Decode<'_> for SetAtime {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match TimeHow::decode(r)? {
            TimeHow::DontChange => Ok(Self::DontChange),
            TimeHow::SetToServerTime => Ok(Self::SetToServerTime),
            TimeHow::SetToClientTime => Ok(Self::SetToClientTime(Nfstime3::decode(r)?)),
        }
    }
}

impl Encode for SetAtime {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::DontChange => {
                TimeHow::DontChange.encode(w);
            }
            Self::SetToServerTime => {
                TimeHow::SetToServerTime.encode(w);
            }
            Self::SetToClientTime(body) => {
                TimeHow::SetToClientTime.encode(w);
                Nfstime3::encode(body, w);
            }
        }
    }
}

/// Time of the last change to set.
///
/// XDR name: `set_mtime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetMtime {
    /// Leave it.
    DontChange,
    /// Now.
    SetToServerTime,
    /// To this.
    SetToClientTime(Nfstime3),
}

impl Decode<'_> for SetMtime {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match TimeHow::decode(r)? {
            TimeHow::DontChange => Ok(Self::DontChange),
            TimeHow::SetToServerTime => Ok(Self::SetToServerTime),
            TimeHow::SetToClientTime => Ok(Self::SetToClientTime(Nfstime3::decode(r)?)),
        }
    }
}

impl Encode for SetMtime {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::DontChange => {
                TimeHow::DontChange.encode(w);
            }
            Self::SetToServerTime => {
                TimeHow::SetToServerTime.encode(w);
            }
            Self::SetToClientTime(body) => {
                TimeHow::SetToClientTime.encode(w);
                Nfstime3::encode(body, w);
            }
        }
    }
}

/// Attributes to set.
///
/// XDR name: `sattr3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sattr3 {
    /// Permission bits.
    pub mode: SetMode3,
    /// Owner.
    pub uid: SetUid3,
    /// Group.
    pub gid: SetGid3,
    /// Size.
    pub size: SetSize3,
    /// Time of the last read.
    pub atime: SetAtime,
    /// Time of the last change.
    pub mtime: SetMtime,
}

impl Decode<'_> for Sattr3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            mode: SetMode3::decode(r)?,
            uid: SetUid3::decode(r)?,
            gid: SetGid3::decode(r)?,
            size: SetSize3::decode(r)?,
            atime: SetAtime::decode(r)?,
            mtime: SetMtime::decode(r)?,
        })
    }
}

impl Encode for Sattr3 {
    fn encode(&self, w: &mut Writer<'_>) {
        SetMode3::encode(&self.mode, w);
        SetUid3::encode(&self.uid, w);
        SetGid3::encode(&self.gid, w);
        SetSize3::encode(&self.size, w);
        SetAtime::encode(&self.atime, w);
        SetMtime::encode(&self.mtime, w);
    }
}

/// A name in a directory.
///
/// XDR name: `diropargs3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diropargs3<'a> {
    /// The directory.
    pub dir: NfsFh3<'a>,
    /// The name.
    pub name: Filename3<'a>,
}

impl<'a> Decode<'a> for Diropargs3<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { dir: NfsFh3::decode(r)?, name: decode_filename3(r)? })
    }
}

impl Encode for Diropargs3<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        NfsFh3::encode(&self.dir, w);
        encode_filename3(&self.name, w);
    }
}

/// Arguments of GETATTR.
///
/// XDR name: `GETATTR3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Getattr3args<'a> {
    /// The file.
    pub object: NfsFh3<'a>,
}

impl<'a> Decode<'a> for Getattr3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { object: NfsFh3::decode(r)? })
    }
}

impl Encode for Getattr3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        NfsFh3::encode(&self.object, w);
    }
}

/// A successful GETATTR.
///
/// XDR name: `GETATTR3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Getattr3resok {
    /// Its attributes.
    pub obj_attributes: Fattr3,
}

impl Decode<'_> for Getattr3resok {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { obj_attributes: Fattr3::decode(r)? })
    }
}

impl Encode for Getattr3resok {
    fn encode(&self, w: &mut Writer<'_>) {
        Fattr3::encode(&self.obj_attributes, w);
    }
}

/// The answer to GETATTR.
///
/// XDR name: `GETATTR3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Getattr3res {
    /// Done.
    Nfs3Ok(Getattr3resok),
    /// Why not.
    Default(Nfsstat3),
}

impl Decode<'_> for Getattr3res {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Getattr3resok::decode(r)?)),
            other => Ok(Self::Default(other)),
        }
    }
}

impl Encode for Getattr3res {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Getattr3resok::encode(body, w);
            }
            Self::Default(disc) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
            }
        }
    }
}

/// Sets attributes only if the file has not changed.
///
/// XDR name: `sattrguard3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sattrguard3 {
    /// The time of the last change that the client knows.
    True(Nfstime3),
    /// In any case.
    False,
}

impl Decode<'_> for Sattrguard3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.bool()? {
            true => Ok(Self::True(Nfstime3::decode(r)?)),
            false => Ok(Self::False),
        }
    }
}

impl Encode for Sattrguard3 {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::True(body) => {
                w.bool(true);
                Nfstime3::encode(body, w);
            }
            Self::False => {
                w.bool(false);
            }
        }
    }
}

impl From<Option<Nfstime3>> for Sattrguard3 {
    fn from(value: Option<Nfstime3>) -> Self {
        match value {
            Some(body) => Self::True(body),
            None => Self::False,
        }
    }
}

impl From<Sattrguard3> for Option<Nfstime3> {
    fn from(value: Sattrguard3) -> Self {
        match value {
            Sattrguard3::True(body) => Some(body),
            Sattrguard3::False => None,
        }
    }
}

/// Arguments of SETATTR.
///
/// XDR name: `SETATTR3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setattr3args<'a> {
    /// The file.
    pub object: NfsFh3<'a>,
    /// What to set.
    pub new_attributes: Sattr3,
    /// On what condition.
    pub guard: Sattrguard3,
}

impl<'a> Decode<'a> for Setattr3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            object: NfsFh3::decode(r)?,
            new_attributes: Sattr3::decode(r)?,
            guard: Sattrguard3::decode(r)?,
        })
    }
}

impl Encode for Setattr3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        NfsFh3::encode(&self.object, w);
        Sattr3::encode(&self.new_attributes, w);
        Sattrguard3::encode(&self.guard, w);
    }
}

/// A successful SETATTR.
///
/// XDR name: `SETATTR3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setattr3resok {
    /// The file, before and after.
    pub obj_wcc: WccData,
}

impl Decode<'_> for Setattr3resok {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { obj_wcc: WccData::decode(r)? })
    }
}

impl Encode for Setattr3resok {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.obj_wcc, w);
    }
}

/// A failed SETATTR.
///
/// XDR name: `SETATTR3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setattr3resfail {
    /// The file, before and after.
    pub obj_wcc: WccData,
}

impl Decode<'_> for Setattr3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { obj_wcc: WccData::decode(r)? })
    }
}

impl Encode for Setattr3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.obj_wcc, w);
    }
}

/// The answer to SETATTR.
///
/// XDR name: `SETATTR3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setattr3res {
    /// Done.
    Nfs3Ok(Setattr3resok),
    /// Why not.
    Default(Nfsstat3, Setattr3resfail),
}

impl Decode<'_> for Setattr3res {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Setattr3resok::decode(r)?)),
            other => Ok(Self::Default(other, Setattr3resfail::decode(r)?)),
        }
    }
}

impl Encode for Setattr3res {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Setattr3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Setattr3resfail::encode(body, w);
            }
        }
    }
}

/// Arguments of LOOKUP.
///
/// XDR name: `LOOKUP3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup3args<'a> {
    /// The name.
    pub what: Diropargs3<'a>,
}

impl<'a> Decode<'a> for Lookup3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { what: Diropargs3::decode(r)? })
    }
}

impl Encode for Lookup3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        Diropargs3::encode(&self.what, w);
    }
}

/// A successful LOOKUP.
///
/// XDR name: `LOOKUP3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup3resok<'a> {
    /// What the name stands for.
    pub object: NfsFh3<'a>,
    /// Its attributes.
    pub obj_attributes: PostOpAttr,
    /// Those of the directory.
    pub dir_attributes: PostOpAttr,
}

impl<'a> Decode<'a> for Lookup3resok<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            object: NfsFh3::decode(r)?,
            obj_attributes: PostOpAttr::decode(r)?,
            dir_attributes: PostOpAttr::decode(r)?,
        })
    }
}

impl Encode for Lookup3resok<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        NfsFh3::encode(&self.object, w);
        PostOpAttr::encode(&self.obj_attributes, w);
        PostOpAttr::encode(&self.dir_attributes, w);
    }
}

/// A failed LOOKUP.
///
/// XDR name: `LOOKUP3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup3resfail {
    /// Attributes of the directory.
    pub dir_attributes: PostOpAttr,
}

impl Decode<'_> for Lookup3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { dir_attributes: PostOpAttr::decode(r)? })
    }
}

impl Encode for Lookup3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.dir_attributes, w);
    }
}

/// The answer to LOOKUP.
///
/// XDR name: `LOOKUP3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup3res<'a> {
    /// Found.
    Nfs3Ok(Lookup3resok<'a>),
    /// Why not.
    Default(Nfsstat3, Lookup3resfail),
}

impl<'a> Decode<'a> for Lookup3res<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Lookup3resok::decode(r)?)),
            other => Ok(Self::Default(other, Lookup3resfail::decode(r)?)),
        }
    }
}

impl Encode for Lookup3res<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Lookup3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Lookup3resfail::encode(body, w);
            }
        }
    }
}

/// ACCESS: read data or a directory.
pub const ACCESS3_READ: u32 = 1;

/// ACCESS: look a name up.
pub const ACCESS3_LOOKUP: u32 = 2;

/// ACCESS: rewrite data, change directory entries.
pub const ACCESS3_MODIFY: u32 = 4;

/// ACCESS: add data or directory entries.
pub const ACCESS3_EXTEND: u32 = 8;

/// ACCESS: remove a directory entry.
pub const ACCESS3_DELETE: u32 = 16;

/// ACCESS: execute the file.
pub const ACCESS3_EXECUTE: u32 = 32;

/// Arguments of ACCESS.
///
/// XDR name: `ACCESS3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access3args<'a> {
    /// The file.
    pub object: NfsFh3<'a>,
    /// ACCESS3 bits to check.
    pub access: Uint32,
}

impl<'a> Decode<'a> for Access3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { object: NfsFh3::decode(r)?, access: Uint32::decode(r)? })
    }
}

impl Encode for Access3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        NfsFh3::encode(&self.object, w);
        Uint32::encode(&self.access, w);
    }
}

/// A successful ACCESS.
///
/// XDR name: `ACCESS3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access3resok {
    /// Attributes of the file.
    pub obj_attributes: PostOpAttr,
    /// Those of the bits that are allowed.
    pub access: Uint32,
}

impl Decode<'_> for Access3resok {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { obj_attributes: PostOpAttr::decode(r)?, access: Uint32::decode(r)? })
    }
}

impl Encode for Access3resok {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.obj_attributes, w);
        Uint32::encode(&self.access, w);
    }
}

/// A failed ACCESS.
///
/// XDR name: `ACCESS3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access3resfail {
    /// Attributes of the file.
    pub obj_attributes: PostOpAttr,
}

impl Decode<'_> for Access3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { obj_attributes: PostOpAttr::decode(r)? })
    }
}

impl Encode for Access3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.obj_attributes, w);
    }
}

/// The answer to ACCESS.
///
/// XDR name: `ACCESS3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access3res {
    /// Done.
    Nfs3Ok(Access3resok),
    /// Why not.
    Default(Nfsstat3, Access3resfail),
}

impl Decode<'_> for Access3res {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Access3resok::decode(r)?)),
            other => Ok(Self::Default(other, Access3resfail::decode(r)?)),
        }
    }
}

impl Encode for Access3res {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Access3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Access3resfail::encode(body, w);
            }
        }
    }
}

/// Arguments of READLINK.
///
/// XDR name: `READLINK3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readlink3args<'a> {
    /// The symbolic link.
    pub symlink: NfsFh3<'a>,
}

impl<'a> Decode<'a> for Readlink3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { symlink: NfsFh3::decode(r)? })
    }
}

impl Encode for Readlink3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        NfsFh3::encode(&self.symlink, w);
    }
}

/// A successful READLINK.
///
/// XDR name: `READLINK3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readlink3resok<'a> {
    /// Attributes of the link.
    pub symlink_attributes: PostOpAttr,
    /// What it holds.
    pub data: Nfspath3<'a>,
}

impl<'a> Decode<'a> for Readlink3resok<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { symlink_attributes: PostOpAttr::decode(r)?, data: decode_nfspath3(r)? })
    }
}

impl Encode for Readlink3resok<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.symlink_attributes, w);
        encode_nfspath3(&self.data, w);
    }
}

/// A failed READLINK.
///
/// XDR name: `READLINK3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readlink3resfail {
    /// Attributes of the link.
    pub symlink_attributes: PostOpAttr,
}

impl Decode<'_> for Readlink3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { symlink_attributes: PostOpAttr::decode(r)? })
    }
}

impl Encode for Readlink3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.symlink_attributes, w);
    }
}

/// The answer to READLINK.
///
/// XDR name: `READLINK3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readlink3res<'a> {
    /// Done.
    Nfs3Ok(Readlink3resok<'a>),
    /// Why not.
    Default(Nfsstat3, Readlink3resfail),
}

impl<'a> Decode<'a> for Readlink3res<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Readlink3resok::decode(r)?)),
            other => Ok(Self::Default(other, Readlink3resfail::decode(r)?)),
        }
    }
}

impl Encode for Readlink3res<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Readlink3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Readlink3resfail::encode(body, w);
            }
        }
    }
}

/// Arguments of READ.
///
/// XDR name: `READ3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read3args<'a> {
    /// The file.
    pub file: NfsFh3<'a>,
    /// From where.
    pub offset: Offset3,
    /// How many bytes.
    pub count: Count3,
}

impl<'a> Decode<'a> for Read3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { file: NfsFh3::decode(r)?, offset: Offset3::decode(r)?, count: Count3::decode(r)? })
    }
}

impl Encode for Read3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        NfsFh3::encode(&self.file, w);
        Offset3::encode(&self.offset, w);
        Count3::encode(&self.count, w);
    }
}

/// A successful READ.
///
/// XDR name: `READ3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read3resok<'a> {
    /// Attributes of the file.
    pub file_attributes: PostOpAttr,
    /// How many bytes were read.
    pub count: Count3,
    /// Whether the end of the file was reached.
    pub eof: bool,
    /// The bytes.
    ///
    /// At most [`NFS3_DATA_MAX`] bytes.
    pub data: &'a [u8],
}

impl<'a> Decode<'a> for Read3resok<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            file_attributes: PostOpAttr::decode(r)?,
            count: Count3::decode(r)?,
            eof: bool::decode(r)?,
            data: r.opaque_var(NFS3_DATA_MAX as usize)?,
        })
    }
}

impl Encode for Read3resok<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.file_attributes, w);
        Count3::encode(&self.count, w);
        bool::encode(&self.eof, w);
        w.opaque_max(self.data, NFS3_DATA_MAX as usize);
    }
}

/// A failed READ.
///
/// XDR name: `READ3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read3resfail {
    /// Attributes of the file.
    pub file_attributes: PostOpAttr,
}

impl Decode<'_> for Read3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { file_attributes: PostOpAttr::decode(r)? })
    }
}

impl Encode for Read3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.file_attributes, w);
    }
}

/// The answer to READ.
///
/// XDR name: `READ3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read3res<'a> {
    /// Done.
    Nfs3Ok(Read3resok<'a>),
    /// Why not.
    Default(Nfsstat3, Read3resfail),
}

impl<'a> Decode<'a> for Read3res<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Read3resok::decode(r)?)),
            other => Ok(Self::Default(other, Read3resfail::decode(r)?)),
        }
    }
}

impl Encode for Read3res<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Read3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Read3resfail::encode(body, w);
            }
        }
    }
}

/// How sure a write must be before it is answered.
///
/// XDR name: `stable_how`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum StableHow {
    /// A COMMIT will follow.
    Unstable = 0,
    /// The data on the disk, and what is needed to find it.
    DataSync = 1,
    /// Data and all attributes on the disk.
    FileSync = 2,
}

impl TryFrom<i32> for StableHow {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::Unstable),
            1 => Ok(Self::DataSync),
            2 => Ok(Self::FileSync),
            _ => Err(DecodeError::BadDiscriminant { what: "stable_how", value }),
        }
    }
}

impl Decode<'_> for StableHow {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for StableHow {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// Arguments of WRITE.
///
/// XDR name: `WRITE3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write3args<'a> {
    /// The file.
    pub file: NfsFh3<'a>,
    /// From where.
    pub offset: Offset3,
    /// How many bytes.
    pub count: Count3,
    /// How sure.
    pub stable: StableHow,
    /// The bytes.
    ///
    /// At most [`NFS3_DATA_MAX`] bytes.
    pub data: &'a [u8],
}

impl<'a> Decode<'a> for Write3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            file: NfsFh3::decode(r)?,
            offset: Offset3::decode(r)?,
            count: Count3::decode(r)?,
            stable: StableHow::decode(r)?,
            data: r.opaque_var(NFS3_DATA_MAX as usize)?,
        })
    }
}

impl Encode for Write3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        NfsFh3::encode(&self.file, w);
        Offset3::encode(&self.offset, w);
        Count3::encode(&self.count, w);
        StableHow::encode(&self.stable, w);
        w.opaque_max(self.data, NFS3_DATA_MAX as usize);
    }
}

/// A successful WRITE.
///
/// XDR name: `WRITE3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write3resok {
    /// The file, before and after.
    pub file_wcc: WccData,
    /// How many bytes were written.
    pub count: Count3,
    /// How sure they are.
    pub committed: StableHow,
    /// Changes when unstable writes may have been lost.
    pub verf: Writeverf3,
}

impl Decode<'_> for Write3resok {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            file_wcc: WccData::decode(r)?,
            count: Count3::decode(r)?,
            committed: StableHow::decode(r)?,
            verf: Writeverf3::decode(r)?,
        })
    }
}

impl Encode for Write3resok {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.file_wcc, w);
        Count3::encode(&self.count, w);
        StableHow::encode(&self.committed, w);
        Writeverf3::encode(&self.verf, w);
    }
}

/// A failed WRITE.
///
/// XDR name: `WRITE3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write3resfail {
    /// The file, before and after.
    pub file_wcc: WccData,
}

impl Decode<'_> for Write3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { file_wcc: WccData::decode(r)? })
    }
}

impl Encode for Write3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.file_wcc, w);
    }
}

/// The answer to WRITE.
///
/// XDR name: `WRITE3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write3res {
    /// Done.
    Nfs3Ok(Write3resok),
    /// Why not.
    Default(Nfsstat3, Write3resfail),
}

impl Decode<'_> for Write3res {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Write3resok::decode(r)?)),
            other => Ok(Self::Default(other, Write3resfail::decode(r)?)),
        }
    }
}

impl Encode for Write3res {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Write3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Write3resfail::encode(body, w);
            }
        }
    }
}

/// What a CREATE does if the name is there already.
///
/// XDR name: `createmode3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Createmode3 {
    /// Takes it.
    Unchecked = 0,
    /// Fails.
    Guarded = 1,
    /// Fails, unless this CREATE made it.
    Exclusive = 2,
}

impl TryFrom<i32> for Createmode3 {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::Unchecked),
            1 => Ok(Self::Guarded),
            2 => Ok(Self::Exclusive),
            _ => Err(DecodeError::BadDiscriminant { what: "createmode3", value }),
        }
    }
}

impl Decode<'_> for Createmode3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for Createmode3 {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// How to create.
///
/// XDR name: `createhow3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Createhow3 {
    /// Attributes to begin with.
    Unchecked(Sattr3),
    /// Attributes to begin with.
    Guarded(Sattr3),
    /// By which the server knows this CREATE again.
    Exclusive(Createverf3),
}

impl Decode<'_> for Createhow3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Createmode3::decode(r)? {
            Createmode3::Unchecked => Ok(Self::Unchecked(Sattr3::decode(r)?)),
            Createmode3::Guarded => Ok(Self::Guarded(Sattr3::decode(r)?)),
            Createmode3::Exclusive => Ok(Self::Exclusive(Createverf3::decode(r)?)),
        }
    }
}

impl Encode for Createhow3 {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Unchecked(body) => {
                Createmode3::Unchecked.encode(w);
                Sattr3::encode(body, w);
            }
            Self::Guarded(body) => {
                Createmode3::Guarded.encode(w);
                Sattr3::encode(body, w);
            }
            Self::Exclusive(body) => {
                Createmode3::Exclusive.encode(w);
                Createverf3::encode(body, w);
            }
        }
    }
}

/// Arguments of CREATE.
///
/// XDR name: `CREATE3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Create3args<'a> {
    /// The name.
    pub where_: Diropargs3<'a>,
    /// How.
    pub how: Createhow3,
}

impl<'a> Decode<'a> for Create3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { where_: Diropargs3::decode(r)?, how: Createhow3::decode(r)? })
    }
}

impl Encode for Create3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        Diropargs3::encode(&self.where_, w);
        Createhow3::encode(&self.how, w);
    }
}

/// A successful CREATE.
///
/// XDR name: `CREATE3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Create3resok<'a> {
    /// The new file.
    pub obj: PostOpFh3<'a>,
    /// Its attributes.
    pub obj_attributes: PostOpAttr,
    /// The directory, before and after.
    pub dir_wcc: WccData,
}

impl<'a> Decode<'a> for Create3resok<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            obj: PostOpFh3::decode(r)?,
            obj_attributes: PostOpAttr::decode(r)?,
            dir_wcc: WccData::decode(r)?,
        })
    }
}

impl Encode for Create3resok<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpFh3::encode(&self.obj, w);
        PostOpAttr::encode(&self.obj_attributes, w);
        WccData::encode(&self.dir_wcc, w);
    }
}

/// A failed CREATE.
///
/// XDR name: `CREATE3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Create3resfail {
    /// The directory, before and after.
    pub dir_wcc: WccData,
}

impl Decode<'_> for Create3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { dir_wcc: WccData::decode(r)? })
    }
}

impl Encode for Create3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.dir_wcc, w);
    }
}

/// The answer to CREATE.
///
/// XDR name: `CREATE3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create3res<'a> {
    /// Done.
    Nfs3Ok(Create3resok<'a>),
    /// Why not.
    Default(Nfsstat3, Create3resfail),
}

impl<'a> Decode<'a> for Create3res<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Create3resok::decode(r)?)),
            other => Ok(Self::Default(other, Create3resfail::decode(r)?)),
        }
    }
}

impl Encode for Create3res<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Create3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Create3resfail::encode(body, w);
            }
        }
    }
}

/// Arguments of MKDIR.
///
/// XDR name: `MKDIR3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mkdir3args<'a> {
    /// The name.
    pub where_: Diropargs3<'a>,
    /// Attributes to begin with.
    pub attributes: Sattr3,
}

impl<'a> Decode<'a> for Mkdir3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { where_: Diropargs3::decode(r)?, attributes: Sattr3::decode(r)? })
    }
}

impl Encode for Mkdir3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        Diropargs3::encode(&self.where_, w);
        Sattr3::encode(&self.attributes, w);
    }
}

/// A successful MKDIR.
///
/// XDR name: `MKDIR3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mkdir3resok<'a> {
    /// The new directory.
    pub obj: PostOpFh3<'a>,
    /// Its attributes.
    pub obj_attributes: PostOpAttr,
    /// The directory that holds it, before and after.
    pub dir_wcc: WccData,
}

impl<'a> Decode<'a> for Mkdir3resok<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            obj: PostOpFh3::decode(r)?,
            obj_attributes: PostOpAttr::decode(r)?,
            dir_wcc: WccData::decode(r)?,
        })
    }
}

impl Encode for Mkdir3resok<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpFh3::encode(&self.obj, w);
        PostOpAttr::encode(&self.obj_attributes, w);
        WccData::encode(&self.dir_wcc, w);
    }
}

/// A failed MKDIR.
///
/// XDR name: `MKDIR3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mkdir3resfail {
    /// The directory that should hold it, before and after.
    pub dir_wcc: WccData,
}

impl Decode<'_> for Mkdir3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { dir_wcc: WccData::decode(r)? })
    }
}

impl Encode for Mkdir3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.dir_wcc, w);
    }
}

/// The answer to MKDIR.
///
/// XDR name: `MKDIR3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mkdir3res<'a> {
    /// Done.
    Nfs3Ok(Mkdir3resok<'a>),
    /// Why not.
    Default(Nfsstat3, Mkdir3resfail),
}

impl<'a> Decode<'a> for Mkdir3res<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Mkdir3resok::decode(r)?)),
            other => Ok(Self::Default(other, Mkdir3resfail::decode(r)?)),
        }
    }
}

impl Encode for Mkdir3res<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Mkdir3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Mkdir3resfail::encode(body, w);
            }
        }
    }
}

/// What a symbolic link begins with.
///
/// XDR name: `symlinkdata3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symlinkdata3<'a> {
    /// Attributes.
    pub symlink_attributes: Sattr3,
    /// What it holds.
    pub symlink_data: Nfspath3<'a>,
}

impl<'a> Decode<'a> for Symlinkdata3<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { symlink_attributes: Sattr3::decode(r)?, symlink_data: decode_nfspath3(r)? })
    }
}

impl Encode for Symlinkdata3<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        Sattr3::encode(&self.symlink_attributes, w);
        encode_nfspath3(&self.symlink_data, w);
    }
}

/// Arguments of SYMLINK.
///
/// XDR name: `SYMLINK3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symlink3args<'a> {
    /// The name.
    pub where_: Diropargs3<'a>,
    /// The link.
    pub symlink: Symlinkdata3<'a>,
}

impl<'a> Decode<'a> for Symlink3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { where_: Diropargs3::decode(r)?, symlink: Symlinkdata3::decode(r)? })
    }
}

impl Encode for Symlink3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        Diropargs3::encode(&self.where_, w);
        Symlinkdata3::encode(&self.symlink, w);
    }
}

/// A successful SYMLINK.
///
/// XDR name: `SYMLINK3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symlink3resok<'a> {
    /// The new link.
    pub obj: PostOpFh3<'a>,
    /// Its attributes.
    pub obj_attributes: PostOpAttr,
    /// The directory, before and after.
    pub dir_wcc: WccData,
}

impl<'a> Decode<'a> for Symlink3resok<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            obj: PostOpFh3::decode(r)?,
            obj_attributes: PostOpAttr::decode(r)?,
            dir_wcc: WccData::decode(r)?,
        })
    }
}

impl Encode for Symlink3resok<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpFh3::encode(&self.obj, w);
        PostOpAttr::encode(&self.obj_attributes, w);
        WccData::encode(&self.dir_wcc, w);
    }
}

/// A failed SYMLINK.
///
/// XDR name: `SYMLINK3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symlink3resfail {
    /// The directory, before and after.
    pub dir_wcc: WccData,
}

impl Decode<'_> for Symlink3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { dir_wcc: WccData::decode(r)? })
    }
}

impl Encode for Symlink3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.dir_wcc, w);
    }
}

/// The answer to SYMLINK.
///
/// XDR name: `SYMLINK3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symlink3res<'a> {
    /// Done.
    Nfs3Ok(Symlink3resok<'a>),
    /// Why not.
    Default(Nfsstat3, Symlink3resfail),
}

impl<'a> Decode<'a> for Symlink3res<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Symlink3resok::decode(r)?)),
            other => Ok(Self::Default(other, Symlink3resfail::decode(r)?)),
        }
    }
}

impl Encode for Symlink3res<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Symlink3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Symlink3resfail::encode(body, w);
            }
        }
    }
}

/// What a device begins with.
///
/// XDR name: `devicedata3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Devicedata3 {
    /// Attributes.
    pub dev_attributes: Sattr3,
    /// Its numbers.
    pub spec: Specdata3,
}

impl Decode<'_> for Devicedata3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { dev_attributes: Sattr3::decode(r)?, spec: Specdata3::decode(r)? })
    }
}

impl Encode for Devicedata3 {
    fn encode(&self, w: &mut Writer<'_>) {
        Sattr3::encode(&self.dev_attributes, w);
        Specdata3::encode(&self.spec, w);
    }
}

/// What a special file begins with.
///
/// XDR name: `mknoddata3`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mknoddata3 {
    /// A device.
    Nf3chr(Devicedata3),
    /// A device.
    Nf3blk(Devicedata3),
    /// A socket or a named pipe.
    Nf3sock(Sattr3),
    /// A socket or a named pipe.
    Nf3fifo(Sattr3),
    /// Not for MKNOD: answered with NFS3ERR\_BADTYPE.
    Default(Ftype3),
}

impl Decode<'_> for Mknoddata3 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Ftype3::decode(r)? {
            Ftype3::Nf3chr => Ok(Self::Nf3chr(Devicedata3::decode(r)?)),
            Ftype3::Nf3blk => Ok(Self::Nf3blk(Devicedata3::decode(r)?)),
            Ftype3::Nf3sock => Ok(Self::Nf3sock(Sattr3::decode(r)?)),
            Ftype3::Nf3fifo => Ok(Self::Nf3fifo(Sattr3::decode(r)?)),
            other => Ok(Self::Default(other)),
        }
    }
}

impl Encode for Mknoddata3 {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nf3chr(body) => {
                Ftype3::Nf3chr.encode(w);
                Devicedata3::encode(body, w);
            }
            Self::Nf3blk(body) => {
                Ftype3::Nf3blk.encode(w);
                Devicedata3::encode(body, w);
            }
            Self::Nf3sock(body) => {
                Ftype3::Nf3sock.encode(w);
                Sattr3::encode(body, w);
            }
            Self::Nf3fifo(body) => {
                Ftype3::Nf3fifo.encode(w);
                Sattr3::encode(body, w);
            }
            Self::Default(disc) => {
                debug_assert!(
                    !matches!(disc, Ftype3::Nf3chr | Ftype3::Nf3blk | Ftype3::Nf3sock | Ftype3::Nf3fifo),
                    "{disc:?} has a variant of its own"
                );
                disc.encode(w);
            }
        }
    }
}

/// Arguments of MKNOD.
///
/// XDR name: `MKNOD3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mknod3args<'a> {
    /// The name.
    pub where_: Diropargs3<'a>,
    /// The special file.
    pub what: Mknoddata3,
}

impl<'a> Decode<'a> for Mknod3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { where_: Diropargs3::decode(r)?, what: Mknoddata3::decode(r)? })
    }
}

impl Encode for Mknod3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        Diropargs3::encode(&self.where_, w);
        Mknoddata3::encode(&self.what, w);
    }
}

/// A successful MKNOD.
///
/// XDR name: `MKNOD3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mknod3resok<'a> {
    /// The new file.
    pub obj: PostOpFh3<'a>,
    /// Its attributes.
    pub obj_attributes: PostOpAttr,
    /// The directory, before and after.
    pub dir_wcc: WccData,
}

impl<'a> Decode<'a> for Mknod3resok<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            obj: PostOpFh3::decode(r)?,
            obj_attributes: PostOpAttr::decode(r)?,
            dir_wcc: WccData::decode(r)?,
        })
    }
}

impl Encode for Mknod3resok<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpFh3::encode(&self.obj, w);
        PostOpAttr::encode(&self.obj_attributes, w);
        WccData::encode(&self.dir_wcc, w);
    }
}

/// A failed MKNOD.
///
/// XDR name: `MKNOD3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mknod3resfail {
    /// The directory, before and after.
    pub dir_wcc: WccData,
}

impl Decode<'_> for Mknod3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { dir_wcc: WccData::decode(r)? })
    }
}

impl Encode for Mknod3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.dir_wcc, w);
    }
}

/// The answer to MKNOD.
///
/// XDR name: `MKNOD3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mknod3res<'a> {
    /// Done.
    Nfs3Ok(Mknod3resok<'a>),
    /// Why not.
    Default(Nfsstat3, Mknod3resfail),
}

impl<'a> Decode<'a> for Mknod3res<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Mknod3resok::decode(r)?)),
            other => Ok(Self::Default(other, Mknod3resfail::decode(r)?)),
        }
    }
}

impl Encode for Mknod3res<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Mknod3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Mknod3resfail::encode(body, w);
            }
        }
    }
}

/// Arguments of REMOVE.
///
/// XDR name: `REMOVE3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remove3args<'a> {
    /// The name.
    pub object: Diropargs3<'a>,
}

impl<'a> Decode<'a> for Remove3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { object: Diropargs3::decode(r)? })
    }
}

impl Encode for Remove3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        Diropargs3::encode(&self.object, w);
    }
}

/// A successful REMOVE.
///
/// XDR name: `REMOVE3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remove3resok {
    /// The directory, before and after.
    pub dir_wcc: WccData,
}

impl Decode<'_> for Remove3resok {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { dir_wcc: WccData::decode(r)? })
    }
}

impl Encode for Remove3resok {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.dir_wcc, w);
    }
}

/// A failed REMOVE.
///
/// XDR name: `REMOVE3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remove3resfail {
    /// The directory, before and after.
    pub dir_wcc: WccData,
}

impl Decode<'_> for Remove3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { dir_wcc: WccData::decode(r)? })
    }
}

impl Encode for Remove3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.dir_wcc, w);
    }
}

/// The answer to REMOVE.
///
/// XDR name: `REMOVE3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remove3res {
    /// Done.
    Nfs3Ok(Remove3resok),
    /// Why not.
    Default(Nfsstat3, Remove3resfail),
}

impl Decode<'_> for Remove3res {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Remove3resok::decode(r)?)),
            other => Ok(Self::Default(other, Remove3resfail::decode(r)?)),
        }
    }
}

impl Encode for Remove3res {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Remove3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Remove3resfail::encode(body, w);
            }
        }
    }
}

/// Arguments of RMDIR.
///
/// XDR name: `RMDIR3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rmdir3args<'a> {
    /// The name.
    pub object: Diropargs3<'a>,
}

impl<'a> Decode<'a> for Rmdir3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { object: Diropargs3::decode(r)? })
    }
}

impl Encode for Rmdir3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        Diropargs3::encode(&self.object, w);
    }
}

/// A successful RMDIR.
///
/// XDR name: `RMDIR3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rmdir3resok {
    /// The directory that held it, before and after.
    pub dir_wcc: WccData,
}

impl Decode<'_> for Rmdir3resok {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { dir_wcc: WccData::decode(r)? })
    }
}

impl Encode for Rmdir3resok {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.dir_wcc, w);
    }
}

/// A failed RMDIR.
///
/// XDR name: `RMDIR3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rmdir3resfail {
    /// The directory that holds it, before and after.
    pub dir_wcc: WccData,
}

impl Decode<'_> for Rmdir3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { dir_wcc: WccData::decode(r)? })
    }
}

impl Encode for Rmdir3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.dir_wcc, w);
    }
}

/// The answer to RMDIR.
///
/// XDR name: `RMDIR3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rmdir3res {
    /// Done.
    Nfs3Ok(Rmdir3resok),
    /// Why not.
    Default(Nfsstat3, Rmdir3resfail),
}

impl Decode<'_> for Rmdir3res {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Rmdir3resok::decode(r)?)),
            other => Ok(Self::Default(other, Rmdir3resfail::decode(r)?)),
        }
    }
}

impl Encode for Rmdir3res {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Rmdir3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Rmdir3resfail::encode(body, w);
            }
        }
    }
}

/// Arguments of RENAME.
///
/// XDR name: `RENAME3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rename3args<'a> {
    /// The old name.
    pub from: Diropargs3<'a>,
    /// The new name.
    pub to: Diropargs3<'a>,
}

impl<'a> Decode<'a> for Rename3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { from: Diropargs3::decode(r)?, to: Diropargs3::decode(r)? })
    }
}

impl Encode for Rename3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        Diropargs3::encode(&self.from, w);
        Diropargs3::encode(&self.to, w);
    }
}

/// A successful RENAME.
///
/// XDR name: `RENAME3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rename3resok {
    /// The old directory, before and after.
    pub fromdir_wcc: WccData,
    /// The new directory, before and after.
    pub todir_wcc: WccData,
}

impl Decode<'_> for Rename3resok {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { fromdir_wcc: WccData::decode(r)?, todir_wcc: WccData::decode(r)? })
    }
}

impl Encode for Rename3resok {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.fromdir_wcc, w);
        WccData::encode(&self.todir_wcc, w);
    }
}

/// A failed RENAME.
///
/// XDR name: `RENAME3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rename3resfail {
    /// The old directory, before and after.
    pub fromdir_wcc: WccData,
    /// The new directory, before and after.
    pub todir_wcc: WccData,
}

impl Decode<'_> for Rename3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { fromdir_wcc: WccData::decode(r)?, todir_wcc: WccData::decode(r)? })
    }
}

impl Encode for Rename3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.fromdir_wcc, w);
        WccData::encode(&self.todir_wcc, w);
    }
}

/// The answer to RENAME.
///
/// XDR name: `RENAME3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rename3res {
    /// Done.
    Nfs3Ok(Rename3resok),
    /// Why not.
    Default(Nfsstat3, Rename3resfail),
}

impl Decode<'_> for Rename3res {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Rename3resok::decode(r)?)),
            other => Ok(Self::Default(other, Rename3resfail::decode(r)?)),
        }
    }
}

impl Encode for Rename3res {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Rename3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Rename3resfail::encode(body, w);
            }
        }
    }
}

/// Arguments of LINK.
///
/// XDR name: `LINK3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link3args<'a> {
    /// The file.
    pub file: NfsFh3<'a>,
    /// The further name.
    pub link: Diropargs3<'a>,
}

impl<'a> Decode<'a> for Link3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { file: NfsFh3::decode(r)?, link: Diropargs3::decode(r)? })
    }
}

impl Encode for Link3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        NfsFh3::encode(&self.file, w);
        Diropargs3::encode(&self.link, w);
    }
}

/// A successful LINK.
///
/// XDR name: `LINK3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link3resok {
    /// Attributes of the file.
    pub file_attributes: PostOpAttr,
    /// The directory of the new name, before and after.
    pub linkdir_wcc: WccData,
}

impl Decode<'_> for Link3resok {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { file_attributes: PostOpAttr::decode(r)?, linkdir_wcc: WccData::decode(r)? })
    }
}

impl Encode for Link3resok {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.file_attributes, w);
        WccData::encode(&self.linkdir_wcc, w);
    }
}

/// A failed LINK.
///
/// XDR name: `LINK3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link3resfail {
    /// Attributes of the file.
    pub file_attributes: PostOpAttr,
    /// The directory of the new name, before and after.
    pub linkdir_wcc: WccData,
}

impl Decode<'_> for Link3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { file_attributes: PostOpAttr::decode(r)?, linkdir_wcc: WccData::decode(r)? })
    }
}

impl Encode for Link3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.file_attributes, w);
        WccData::encode(&self.linkdir_wcc, w);
    }
}

/// The answer to LINK.
///
/// XDR name: `LINK3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link3res {
    /// Done.
    Nfs3Ok(Link3resok),
    /// Why not.
    Default(Nfsstat3, Link3resfail),
}

impl Decode<'_> for Link3res {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Link3resok::decode(r)?)),
            other => Ok(Self::Default(other, Link3resfail::decode(r)?)),
        }
    }
}

impl Encode for Link3res {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Link3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Link3resfail::encode(body, w);
            }
        }
    }
}

/// Arguments of READDIR.
///
/// XDR name: `READDIR3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readdir3args<'a> {
    /// The directory.
    pub dir: NfsFh3<'a>,
    /// Behind which entry to go on; 0 at the start.
    pub cookie: Cookie3,
    /// As the server gave it; 0 at the start.
    pub cookieverf: Cookieverf3,
    /// Most bytes of the answer.
    pub count: Count3,
}

impl<'a> Decode<'a> for Readdir3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            dir: NfsFh3::decode(r)?,
            cookie: Cookie3::decode(r)?,
            cookieverf: Cookieverf3::decode(r)?,
            count: Count3::decode(r)?,
        })
    }
}

impl Encode for Readdir3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        NfsFh3::encode(&self.dir, w);
        Cookie3::encode(&self.cookie, w);
        Cookieverf3::encode(&self.cookieverf, w);
        Count3::encode(&self.count, w);
    }
}

/// An entry of a directory.
///
/// XDR name: `entry3`.
///
/// One element of a list: the link to the next is left out. At most [`ENTRY3_LIST_MAX`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry3<'a> {
    /// The file's number.
    pub fileid: Fileid3,
    /// Its name.
    pub name: Filename3<'a>,
    /// To go on behind it.
    pub cookie: Cookie3,
}

impl<'a> Decode<'a> for Entry3<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { fileid: Fileid3::decode(r)?, name: decode_filename3(r)?, cookie: Cookie3::decode(r)? })
    }
}

impl Encode for Entry3<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        Fileid3::encode(&self.fileid, w);
        encode_filename3(&self.name, w);
        Cookie3::encode(&self.cookie, w);
    }
}

/// Entries of a directory.
///
/// XDR name: `dirlist3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirlist3<'a> {
    /// Some.
    ///
    /// At most [`ENTRY3_LIST_MAX`] elements.
    pub entries: Vec<Entry3<'a>>,
    /// Whether there are no more.
    pub eof: bool,
}

impl<'a> Decode<'a> for Dirlist3<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { entries: r.list(ENTRY3_LIST_MAX as usize, Entry3::decode)?, eof: bool::decode(r)? })
    }
}

impl Encode for Dirlist3<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.list(&self.entries, ENTRY3_LIST_MAX as usize, Entry3::encode);
        bool::encode(&self.eof, w);
    }
}

/// A successful READDIR.
///
/// XDR name: `READDIR3resok`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readdir3resok<'a> {
    /// Attributes of the directory.
    pub dir_attributes: PostOpAttr,
    /// For the next call.
    pub cookieverf: Cookieverf3,
    /// The entries.
    pub reply: Dirlist3<'a>,
}

impl<'a> Decode<'a> for Readdir3resok<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            dir_attributes: PostOpAttr::decode(r)?,
            cookieverf: Cookieverf3::decode(r)?,
            reply: Dirlist3::decode(r)?,
        })
    }
}

impl Encode for Readdir3resok<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.dir_attributes, w);
        Cookieverf3::encode(&self.cookieverf, w);
        Dirlist3::encode(&self.reply, w);
    }
}

/// A failed READDIR.
///
/// XDR name: `READDIR3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readdir3resfail {
    /// Attributes of the directory.
    pub dir_attributes: PostOpAttr,
}

impl Decode<'_> for Readdir3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { dir_attributes: PostOpAttr::decode(r)? })
    }
}

impl Encode for Readdir3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.dir_attributes, w);
    }
}

/// The answer to READDIR.
///
/// XDR name: `READDIR3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readdir3res<'a> {
    /// Done.
    Nfs3Ok(Readdir3resok<'a>),
    /// Why not.
    Default(Nfsstat3, Readdir3resfail),
}

impl<'a> Decode<'a> for Readdir3res<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Readdir3resok::decode(r)?)),
            other => Ok(Self::Default(other, Readdir3resfail::decode(r)?)),
        }
    }
}

impl Encode for Readdir3res<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Readdir3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Readdir3resfail::encode(body, w);
            }
        }
    }
}

/// Arguments of READDIRPLUS.
///
/// XDR name: `READDIRPLUS3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readdirplus3args<'a> {
    /// The directory.
    pub dir: NfsFh3<'a>,
    /// Behind which entry to go on; 0 at the start.
    pub cookie: Cookie3,
    /// As the server gave it; 0 at the start.
    pub cookieverf: Cookieverf3,
    /// Most bytes of numbers, names and cookies.
    pub dircount: Count3,
    /// Most bytes of the whole answer.
    pub maxcount: Count3,
}

impl<'a> Decode<'a> for Readdirplus3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            dir: NfsFh3::decode(r)?,
            cookie: Cookie3::decode(r)?,
            cookieverf: Cookieverf3::decode(r)?,
            dircount: Count3::decode(r)?,
            maxcount: Count3::decode(r)?,
        })
    }
}

impl Encode for Readdirplus3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        NfsFh3::encode(&self.dir, w);
        Cookie3::encode(&self.cookie, w);
        Cookieverf3::encode(&self.cookieverf, w);
        Count3::encode(&self.dircount, w);
        Count3::encode(&self.maxcount, w);
    }
}

/// An entry of a directory with attributes and handle.
///
/// XDR name: `entryplus3`.
///
/// One element of a list: the link to the next is left out. At most [`ENTRYPLUS3_LIST_MAX`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entryplus3<'a> {
    /// The file's number.
    pub fileid: Fileid3,
    /// Its name.
    pub name: Filename3<'a>,
    /// To go on behind it.
    pub cookie: Cookie3,
    /// Its attributes.
    pub name_attributes: PostOpAttr,
    /// Its handle.
    pub name_handle: PostOpFh3<'a>,
}

impl<'a> Decode<'a> for Entryplus3<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            fileid: Fileid3::decode(r)?,
            name: decode_filename3(r)?,
            cookie: Cookie3::decode(r)?,
            name_attributes: PostOpAttr::decode(r)?,
            name_handle: PostOpFh3::decode(r)?,
        })
    }
}

impl Encode for Entryplus3<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        Fileid3::encode(&self.fileid, w);
        encode_filename3(&self.name, w);
        Cookie3::encode(&self.cookie, w);
        PostOpAttr::encode(&self.name_attributes, w);
        PostOpFh3::encode(&self.name_handle, w);
    }
}

/// Entries of a directory with attributes and handles.
///
/// XDR name: `dirlistplus3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirlistplus3<'a> {
    /// Some.
    ///
    /// At most [`ENTRYPLUS3_LIST_MAX`] elements.
    pub entries: Vec<Entryplus3<'a>>,
    /// Whether there are no more.
    pub eof: bool,
}

impl<'a> Decode<'a> for Dirlistplus3<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { entries: r.list(ENTRYPLUS3_LIST_MAX as usize, Entryplus3::decode)?, eof: bool::decode(r)? })
    }
}

impl Encode for Dirlistplus3<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.list(&self.entries, ENTRYPLUS3_LIST_MAX as usize, Entryplus3::encode);
        bool::encode(&self.eof, w);
    }
}

/// A successful READDIRPLUS.
///
/// XDR name: `READDIRPLUS3resok`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readdirplus3resok<'a> {
    /// Attributes of the directory.
    pub dir_attributes: PostOpAttr,
    /// For the next call.
    pub cookieverf: Cookieverf3,
    /// The entries.
    pub reply: Dirlistplus3<'a>,
}

impl<'a> Decode<'a> for Readdirplus3resok<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            dir_attributes: PostOpAttr::decode(r)?,
            cookieverf: Cookieverf3::decode(r)?,
            reply: Dirlistplus3::decode(r)?,
        })
    }
}

impl Encode for Readdirplus3resok<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.dir_attributes, w);
        Cookieverf3::encode(&self.cookieverf, w);
        Dirlistplus3::encode(&self.reply, w);
    }
}

/// A failed READDIRPLUS.
///
/// XDR name: `READDIRPLUS3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readdirplus3resfail {
    /// Attributes of the directory.
    pub dir_attributes: PostOpAttr,
}

impl Decode<'_> for Readdirplus3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { dir_attributes: PostOpAttr::decode(r)? })
    }
}

impl Encode for Readdirplus3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.dir_attributes, w);
    }
}

/// The answer to READDIRPLUS.
///
/// XDR name: `READDIRPLUS3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readdirplus3res<'a> {
    /// Done.
    Nfs3Ok(Readdirplus3resok<'a>),
    /// Why not.
    Default(Nfsstat3, Readdirplus3resfail),
}

impl<'a> Decode<'a> for Readdirplus3res<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Readdirplus3resok::decode(r)?)),
            other => Ok(Self::Default(other, Readdirplus3resfail::decode(r)?)),
        }
    }
}

impl Encode for Readdirplus3res<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Readdirplus3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Readdirplus3resfail::encode(body, w);
            }
        }
    }
}

/// Arguments of FSSTAT.
///
/// XDR name: `FSSTAT3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fsstat3args<'a> {
    /// Any file of the file system.
    pub fsroot: NfsFh3<'a>,
}

impl<'a> Decode<'a> for Fsstat3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { fsroot: NfsFh3::decode(r)? })
    }
}

impl Encode for Fsstat3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        NfsFh3::encode(&self.fsroot, w);
    }
}

/// A successful FSSTAT.
///
/// XDR name: `FSSTAT3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fsstat3resok {
    /// Attributes of the file.
    pub obj_attributes: PostOpAttr,
    /// Bytes, all.
    pub tbytes: Size3,
    /// Bytes, free.
    pub fbytes: Size3,
    /// Bytes, free for this user.
    pub abytes: Size3,
    /// Files that there can be.
    pub tfiles: Size3,
    /// Files that can still be made.
    pub ffiles: Size3,
    /// Files that this user can still make.
    pub afiles: Size3,
    /// Seconds for which this will hold; 0 if it changes.
    pub invarsec: Uint32,
}

impl Decode<'_> for Fsstat3resok {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            obj_attributes: PostOpAttr::decode(r)?,
            tbytes: Size3::decode(r)?,
            fbytes: Size3::decode(r)?,
            abytes: Size3::decode(r)?,
            tfiles: Size3::decode(r)?,
            ffiles: Size3::decode(r)?,
            afiles: Size3::decode(r)?,
            invarsec: Uint32::decode(r)?,
        })
    }
}

impl Encode for Fsstat3resok {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.obj_attributes, w);
        Size3::encode(&self.tbytes, w);
        Size3::encode(&self.fbytes, w);
        Size3::encode(&self.abytes, w);
        Size3::encode(&self.tfiles, w);
        Size3::encode(&self.ffiles, w);
        Size3::encode(&self.afiles, w);
        Uint32::encode(&self.invarsec, w);
    }
}

/// A failed FSSTAT.
///
/// XDR name: `FSSTAT3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fsstat3resfail {
    /// Attributes of the file.
    pub obj_attributes: PostOpAttr,
}

impl Decode<'_> for Fsstat3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { obj_attributes: PostOpAttr::decode(r)? })
    }
}

impl Encode for Fsstat3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.obj_attributes, w);
    }
}

/// The answer to FSSTAT.
///
/// XDR name: `FSSTAT3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsstat3res {
    /// Done.
    Nfs3Ok(Fsstat3resok),
    /// Why not.
    Default(Nfsstat3, Fsstat3resfail),
}

impl Decode<'_> for Fsstat3res {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Fsstat3resok::decode(r)?)),
            other => Ok(Self::Default(other, Fsstat3resfail::decode(r)?)),
        }
    }
}

impl Encode for Fsstat3res {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Fsstat3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Fsstat3resfail::encode(body, w);
            }
        }
    }
}

/// FSINFO: hard links can be made.
pub const FSF3_LINK: u32 = 1;

/// FSINFO: symbolic links can be made.
pub const FSF3_SYMLINK: u32 = 2;

/// FSINFO: PATHCONF is the same everywhere in the file system.
pub const FSF3_HOMOGENEOUS: u32 = 8;

/// FSINFO: SETATTR can set times.
pub const FSF3_CANSETTIME: u32 = 16;

/// Arguments of FSINFO.
///
/// XDR name: `FSINFO3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fsinfo3args<'a> {
    /// Any file of the file system.
    pub fsroot: NfsFh3<'a>,
}

impl<'a> Decode<'a> for Fsinfo3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { fsroot: NfsFh3::decode(r)? })
    }
}

impl Encode for Fsinfo3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        NfsFh3::encode(&self.fsroot, w);
    }
}

/// A successful FSINFO.
///
/// XDR name: `FSINFO3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fsinfo3resok {
    /// Attributes of the file.
    pub obj_attributes: PostOpAttr,
    /// Most bytes of a READ.
    pub rtmax: Uint32,
    /// Best size of a READ.
    pub rtpref: Uint32,
    /// READ sizes had best be multiples of this.
    pub rtmult: Uint32,
    /// Most bytes of a WRITE.
    pub wtmax: Uint32,
    /// Best size of a WRITE.
    pub wtpref: Uint32,
    /// WRITE sizes had best be multiples of this.
    pub wtmult: Uint32,
    /// Best size of a READDIR.
    pub dtpref: Uint32,
    /// Largest file.
    pub maxfilesize: Size3,
    /// How fine times are.
    pub time_delta: Nfstime3,
    /// FSF3 bits.
    pub properties: Uint32,
}

impl Decode<'_> for Fsinfo3resok {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            obj_attributes: PostOpAttr::decode(r)?,
            rtmax: Uint32::decode(r)?,
            rtpref: Uint32::decode(r)?,
            rtmult: Uint32::decode(r)?,
            wtmax: Uint32::decode(r)?,
            wtpref: Uint32::decode(r)?,
            wtmult: Uint32::decode(r)?,
            dtpref: Uint32::decode(r)?,
            maxfilesize: Size3::decode(r)?,
            time_delta: Nfstime3::decode(r)?,
            properties: Uint32::decode(r)?,
        })
    }
}

impl Encode for Fsinfo3resok {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.obj_attributes, w);
        Uint32::encode(&self.rtmax, w);
        Uint32::encode(&self.rtpref, w);
        Uint32::encode(&self.rtmult, w);
        Uint32::encode(&self.wtmax, w);
        Uint32::encode(&self.wtpref, w);
        Uint32::encode(&self.wtmult, w);
        Uint32::encode(&self.dtpref, w);
        Size3::encode(&self.maxfilesize, w);
        Nfstime3::encode(&self.time_delta, w);
        Uint32::encode(&self.properties, w);
    }
}

/// A failed FSINFO.
///
/// XDR name: `FSINFO3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fsinfo3resfail {
    /// Attributes of the file.
    pub obj_attributes: PostOpAttr,
}

impl Decode<'_> for Fsinfo3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { obj_attributes: PostOpAttr::decode(r)? })
    }
}

impl Encode for Fsinfo3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.obj_attributes, w);
    }
}

/// The answer to FSINFO.
///
/// XDR name: `FSINFO3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsinfo3res {
    /// Done.
    Nfs3Ok(Fsinfo3resok),
    /// Why not.
    Default(Nfsstat3, Fsinfo3resfail),
}

impl Decode<'_> for Fsinfo3res {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Fsinfo3resok::decode(r)?)),
            other => Ok(Self::Default(other, Fsinfo3resfail::decode(r)?)),
        }
    }
}

impl Encode for Fsinfo3res {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Fsinfo3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Fsinfo3resfail::encode(body, w);
            }
        }
    }
}

/// Arguments of PATHCONF.
///
/// XDR name: `PATHCONF3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pathconf3args<'a> {
    /// The file.
    pub object: NfsFh3<'a>,
}

impl<'a> Decode<'a> for Pathconf3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { object: NfsFh3::decode(r)? })
    }
}

impl Encode for Pathconf3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        NfsFh3::encode(&self.object, w);
    }
}

/// A successful PATHCONF.
///
/// XDR name: `PATHCONF3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pathconf3resok {
    /// Attributes of the file.
    pub obj_attributes: PostOpAttr,
    /// Most hard links.
    pub linkmax: Uint32,
    /// Longest name in bytes.
    pub name_max: Uint32,
    /// Longer names fail, they are not cut.
    pub no_trunc: bool,
    /// Only root may give files away.
    pub chown_restricted: bool,
    /// Names that differ only by case are the same.
    pub case_insensitive: bool,
    /// Case is kept.
    pub case_preserving: bool,
}

impl Decode<'_> for Pathconf3resok {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            obj_attributes: PostOpAttr::decode(r)?,
            linkmax: Uint32::decode(r)?,
            name_max: Uint32::decode(r)?,
            no_trunc: bool::decode(r)?,
            chown_restricted: bool::decode(r)?,
            case_insensitive: bool::decode(r)?,
            case_preserving: bool::decode(r)?,
        })
    }
}

impl Encode for Pathconf3resok {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.obj_attributes, w);
        Uint32::encode(&self.linkmax, w);
        Uint32::encode(&self.name_max, w);
        bool::encode(&self.no_trunc, w);
        bool::encode(&self.chown_restricted, w);
        bool::encode(&self.case_insensitive, w);
        bool::encode(&self.case_preserving, w);
    }
}

/// A failed PATHCONF.
///
/// XDR name: `PATHCONF3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pathconf3resfail {
    /// Attributes of the file.
    pub obj_attributes: PostOpAttr,
}

impl Decode<'_> for Pathconf3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { obj_attributes: PostOpAttr::decode(r)? })
    }
}

impl Encode for Pathconf3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        PostOpAttr::encode(&self.obj_attributes, w);
    }
}

/// The answer to PATHCONF.
///
/// XDR name: `PATHCONF3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pathconf3res {
    /// Done.
    Nfs3Ok(Pathconf3resok),
    /// Why not.
    Default(Nfsstat3, Pathconf3resfail),
}

impl Decode<'_> for Pathconf3res {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Pathconf3resok::decode(r)?)),
            other => Ok(Self::Default(other, Pathconf3resfail::decode(r)?)),
        }
    }
}

impl Encode for Pathconf3res {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Pathconf3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Pathconf3resfail::encode(body, w);
            }
        }
    }
}

/// Arguments of COMMIT.
///
/// XDR name: `COMMIT3args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit3args<'a> {
    /// The file.
    pub file: NfsFh3<'a>,
    /// From where.
    pub offset: Offset3,
    /// How many bytes; 0 is to the end.
    pub count: Count3,
}

impl<'a> Decode<'a> for Commit3args<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { file: NfsFh3::decode(r)?, offset: Offset3::decode(r)?, count: Count3::decode(r)? })
    }
}

impl Encode for Commit3args<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        NfsFh3::encode(&self.file, w);
        Offset3::encode(&self.offset, w);
        Count3::encode(&self.count, w);
    }
}

/// A successful COMMIT.
///
/// XDR name: `COMMIT3resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit3resok {
    /// The file, before and after.
    pub file_wcc: WccData,
    /// The same as in the WRITEs, or they are lost.
    pub verf: Writeverf3,
}

impl Decode<'_> for Commit3resok {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { file_wcc: WccData::decode(r)?, verf: Writeverf3::decode(r)? })
    }
}

impl Encode for Commit3resok {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.file_wcc, w);
        Writeverf3::encode(&self.verf, w);
    }
}

/// A failed COMMIT.
///
/// XDR name: `COMMIT3resfail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit3resfail {
    /// The file, before and after.
    pub file_wcc: WccData,
}

impl Decode<'_> for Commit3resfail {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { file_wcc: WccData::decode(r)? })
    }
}

impl Encode for Commit3resfail {
    fn encode(&self, w: &mut Writer<'_>) {
        WccData::encode(&self.file_wcc, w);
    }
}

/// The answer to COMMIT.
///
/// XDR name: `COMMIT3res`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit3res {
    /// Done.
    Nfs3Ok(Commit3resok),
    /// Why not.
    Default(Nfsstat3, Commit3resfail),
}

impl Decode<'_> for Commit3res {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Nfsstat3::decode(r)? {
            Nfsstat3::Nfs3Ok => Ok(Self::Nfs3Ok(Commit3resok::decode(r)?)),
            other => Ok(Self::Default(other, Commit3resfail::decode(r)?)),
        }
    }
}

impl Encode for Commit3res {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Nfs3Ok(body) => {
                Nfsstat3::Nfs3Ok.encode(w);
                Commit3resok::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, Nfsstat3::Nfs3Ok), "{disc:?} has a variant of its own");
                disc.encode(w);
                Commit3resfail::encode(body, w);
            }
        }
    }
}

/// NFS.
pub const NFS_PROGRAM: u32 = 100003;

/// Version 3.
pub const NFS_V3: u32 = 3;

/// The procedures of `NFS_PROGRAM`, one module for each version.
pub mod nfs_program {
    /// Version 3 (`NFS_V3`).
    pub mod v3 {
        /// The version's number.
        pub const VERSION: u32 = 3;
        /// `NFSPROC3_NULL`.
        ///
        /// Takes nothing, returns nothing.
        pub const NULL: u32 = 0;
        /// `NFSPROC3_GETATTR`.
        ///
        /// Takes [`Getattr3args`](super::super::Getattr3args), returns [`Getattr3res`](super::super::Getattr3res).
        pub const GETATTR: u32 = 1;
        /// `NFSPROC3_SETATTR`.
        ///
        /// Takes [`Setattr3args`](super::super::Setattr3args), returns [`Setattr3res`](super::super::Setattr3res).
        pub const SETATTR: u32 = 2;
        /// `NFSPROC3_LOOKUP`.
        ///
        /// Takes [`Lookup3args`](super::super::Lookup3args), returns [`Lookup3res`](super::super::Lookup3res).
        pub const LOOKUP: u32 = 3;
        /// `NFSPROC3_ACCESS`.
        ///
        /// Takes [`Access3args`](super::super::Access3args), returns [`Access3res`](super::super::Access3res).
        pub const ACCESS: u32 = 4;
        /// `NFSPROC3_READLINK`.
        ///
        /// Takes [`Readlink3args`](super::super::Readlink3args), returns [`Readlink3res`](super::super::Readlink3res).
        pub const READLINK: u32 = 5;
        /// `NFSPROC3_READ`.
        ///
        /// Takes [`Read3args`](super::super::Read3args), returns [`Read3res`](super::super::Read3res).
        pub const READ: u32 = 6;
        /// `NFSPROC3_WRITE`.
        ///
        /// Takes [`Write3args`](super::super::Write3args), returns [`Write3res`](super::super::Write3res).
        pub const WRITE: u32 = 7;
        /// `NFSPROC3_CREATE`.
        ///
        /// Takes [`Create3args`](super::super::Create3args), returns [`Create3res`](super::super::Create3res).
        pub const CREATE: u32 = 8;
        /// `NFSPROC3_MKDIR`.
        ///
        /// Takes [`Mkdir3args`](super::super::Mkdir3args), returns [`Mkdir3res`](super::super::Mkdir3res).
        pub const MKDIR: u32 = 9;
        /// `NFSPROC3_SYMLINK`.
        ///
        /// Takes [`Symlink3args`](super::super::Symlink3args), returns [`Symlink3res`](super::super::Symlink3res).
        pub const SYMLINK: u32 = 10;
        /// `NFSPROC3_MKNOD`.
        ///
        /// Takes [`Mknod3args`](super::super::Mknod3args), returns [`Mknod3res`](super::super::Mknod3res).
        pub const MKNOD: u32 = 11;
        /// `NFSPROC3_REMOVE`.
        ///
        /// Takes [`Remove3args`](super::super::Remove3args), returns [`Remove3res`](super::super::Remove3res).
        pub const REMOVE: u32 = 12;
        /// `NFSPROC3_RMDIR`.
        ///
        /// Takes [`Rmdir3args`](super::super::Rmdir3args), returns [`Rmdir3res`](super::super::Rmdir3res).
        pub const RMDIR: u32 = 13;
        /// `NFSPROC3_RENAME`.
        ///
        /// Takes [`Rename3args`](super::super::Rename3args), returns [`Rename3res`](super::super::Rename3res).
        pub const RENAME: u32 = 14;
        /// `NFSPROC3_LINK`.
        ///
        /// Takes [`Link3args`](super::super::Link3args), returns [`Link3res`](super::super::Link3res).
        pub const LINK: u32 = 15;
        /// `NFSPROC3_READDIR`.
        ///
        /// Takes [`Readdir3args`](super::super::Readdir3args), returns [`Readdir3res`](super::super::Readdir3res).
        pub const READDIR: u32 = 16;
        /// `NFSPROC3_READDIRPLUS`.
        ///
        /// Takes [`Readdirplus3args`](super::super::Readdirplus3args), returns [`Readdirplus3res`](super::super::Readdirplus3res).
        pub const READDIRPLUS: u32 = 17;
        /// `NFSPROC3_FSSTAT`.
        ///
        /// Takes [`Fsstat3args`](super::super::Fsstat3args), returns [`Fsstat3res`](super::super::Fsstat3res).
        pub const FSSTAT: u32 = 18;
        /// `NFSPROC3_FSINFO`.
        ///
        /// Takes [`Fsinfo3args`](super::super::Fsinfo3args), returns [`Fsinfo3res`](super::super::Fsinfo3res).
        pub const FSINFO: u32 = 19;
        /// `NFSPROC3_PATHCONF`.
        ///
        /// Takes [`Pathconf3args`](super::super::Pathconf3args), returns [`Pathconf3res`](super::super::Pathconf3res).
        pub const PATHCONF: u32 = 20;
        /// `NFSPROC3_COMMIT`.
        ///
        /// Takes [`Commit3args`](super::super::Commit3args), returns [`Commit3res`](super::super::Commit3res).
        pub const COMMIT: u32 = 21;
    }
}
