//! What a file system is called on every node: its UUID, never its device number. Must never answer
//! differently for the same disk after a restart.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

use super::handle::stable_hash;

/// Where the identity came from, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The `fsid` setting.
    Configured,
    /// The UUID in the superblock.
    Uuid,
    /// statfs(2), for the ext family, where it is made of the UUID.
    StatFs,
    /// The mount's source and, where that is no device, its place: good on this machine only.
    Mount,
}

/// The name of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The name itself.
    pub(super) id: u64,
    /// Whether it is the same on another node that mounts the same disk.
    pub(super) portable: bool,
    /// Where it came from.
    pub(super) source: Source,
}

const EXT_MAGIC: u64 = 0xEF53;
const XFS_MAGIC: u64 = 0x5846_5342;
const BTRFS_MAGIC: u64 = 0x9123_683E;
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;
const OVERLAY_MAGIC: u64 = 0x794c_7630;

/// The identity of the file system that the open directory `dir` lies on; `configured` goes before all.
pub(super) fn identify(dir: BorrowedFd<'_>, configured: Option<u64>) -> nix::Result<Identity> {
    if let Some(fsid) = configured {
        let id = stable_hash(&[b"fsid", &fsid.to_be_bytes()]);
        return Ok(Identity { id, portable: true, source: Source::Configured });
    }
    let statfs = nix::sys::statfs::fstatfs(dir)?;
    let magic = statfs.filesystem_type().0 as u64;
    let volatile = matches!(magic, TMPFS_MAGIC | RAMFS_MAGIC | OVERLAY_MAGIC);
    if let Some(uuid) = uuid(dir, magic) {
        return Ok(Identity {
            id: stable_hash(&[b"uuid", &uuid]),
            portable: !volatile,
            source: Source::Uuid,
        });
    }
    let fsid = sys::fsid(&statfs);
    if magic == EXT_MAGIC && fsid != [0; 8] {
        return Ok(Identity { id: stable_hash(&[b"statfs", &fsid]), portable: true, source: Source::StatFs });
    }
    let (source, place) = mount_of(dir);
    // A device names its file system wherever it is mounted; "tmpfs" or "overlay" does not.
    let on_device = source.starts_with(b"/");
    let place: &[u8] = if on_device { b"" } else { &place };
    Ok(Identity { id: stable_hash(&[b"mount", &source, place]), portable: false, source: Source::Mount })
}

fn uuid(dir: BorrowedFd<'_>, magic: u64) -> Option<[u8; 16]> {
    let found = sys::generic_uuid(dir).or_else(|| match magic {
        EXT_MAGIC => sys::ext4_uuid(dir),
        XFS_MAGIC => sys::xfs_uuid(dir),
        BTRFS_MAGIC => sys::btrfs_uuid(dir),
        _ => None,
    });
    found.filter(|uuid| *uuid != [0; 16]).or_else(|| uuid_by_link(dir))
}

/// Looks for the device among udev's links. Only full UUIDs count: the short serial numbers of FAT repeat.
fn uuid_by_link(dir: BorrowedFd<'_>) -> Option<[u8; 16]> {
    let device = nix::sys::stat::fstat(dir).ok()?.st_dev;
    std::fs::read_dir("/dev/disk/by-uuid").ok()?.flatten().take(10_000).find_map(|entry| {
        let target = std::fs::metadata(entry.path()).ok()?;
        if target.rdev() == device { parse_uuid(entry.file_name().to_str()?) } else { None }
    })
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    let digits: &[u8; 32] = digits.as_slice().try_into().ok()?;
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(uuid)
}

/// Source and mount point of the mount that `dir` is on, by its id in /proc. Empty where /proc is missing.
fn mount_of(dir: BorrowedFd<'_>) -> (Vec<u8>, Vec<u8>) {
    let id = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", dir.as_fd().as_raw_fd()))
        .ok()
        .and_then(|text| Some(text.lines().find_map(|l| l.strip_prefix("mnt_id:"))?.trim().to_owned()));
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let found = id.and_then(|id| {
        table.split(|b| *b == b'\n').find_map(|line| {
            let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
            let dash = fields.iter().position(|f| *f == b"-")?;
            (*fields.first()? == id.as_bytes())
                .then(|| Some((fields.get(dash + 2)?.to_vec(), fields.get(4)?.to_vec())))?
        })
    });
    found.unwrap_or_default()
}

/// The ioctls. All the `unsafe` of this file.
mod sys {
    use std::os::fd::{AsRawFd, BorrowedFd};

    #[repr(C)]
    #[derive(Default)]
    pub(super) struct FsUuid2 {
        len: u8,
        uuid: [u8; 16],
    }

    #[repr(C)]
    #[derive(Default)]
    pub(super) struct Ext4Uuid {
        len: u32,
        flags: u32,
        uuid: [u8; 16],
    }

    /// `struct xfs_fsop_geom_v1`; only the UUID is of interest.
    #[repr(C, align(8))]
    pub(super) struct XfsGeometry {
        before: [u8; 64],
        uuid: [u8; 16],
        after: [u8; 32],
    }

    /// `struct btrfs_ioctl_fs_info_args`.
    #[repr(C, align(8))]
    pub(super) struct BtrfsInfo {
        before: [u8; 16],
        uuid: [u8; 16],
        after: [u8; 992],
    }

    nix::ioctl_read!(fs_ioc_getfsuuid, 0x15, 0, FsUuid2);
    nix::ioctl_read!(xfs_ioc_fsgeometry_v1, b'X', 100, XfsGeometry);
    nix::ioctl_read!(btrfs_ioc_fs_info, 0x94, 31, BtrfsInfo);
    // Declared by the kernel with the size of its eight-byte head.
    nix::ioctl_read_bad!(ext4_ioc_getfsuuid, nix::request_code_read!(b'f', 44, 8), Ext4Uuid);

    /// FS_IOC_GETFSUUID, Linux 6.9 and later.
    pub(super) fn generic_uuid(dir: BorrowedFd<'_>) -> Option<[u8; 16]> {
        let mut out = FsUuid2::default();
        // SAFETY: the kernel fills exactly this structure.
        unsafe { fs_ioc_getfsuuid(dir.as_raw_fd(), &mut out) }.ok()?;
        (out.len == 16).then_some(out.uuid)
    }

    /// EXT4_IOC_GETFSUUID, Linux 6.0 and later.
    pub(super) fn ext4_uuid(dir: BorrowedFd<'_>) -> Option<[u8; 16]> {
        let mut out = Ext4Uuid { len: 16, ..Ext4Uuid::default() };
        // SAFETY: the kernel writes at most `len` = 16 bytes behind the head, which are there.
        unsafe { ext4_ioc_getfsuuid(dir.as_raw_fd(), &mut out) }.ok()?;
        Some(out.uuid)
    }

    /// XFS_IOC_FSGEOMETRY_V1.
    pub(super) fn xfs_uuid(dir: BorrowedFd<'_>) -> Option<[u8; 16]> {
        let mut out = XfsGeometry { before: [0; 64], uuid: [0; 16], after: [0; 32] };
        // SAFETY: the structure has the size (112 bytes) that the request number carries.
        unsafe { xfs_ioc_fsgeometry_v1(dir.as_raw_fd(), &mut out) }.ok()?;
        Some(out.uuid)
    }

    /// BTRFS_IOC_FS_INFO.
    pub(super) fn btrfs_uuid(dir: BorrowedFd<'_>) -> Option<[u8; 16]> {
        let mut out = BtrfsInfo { before: [0; 16], uuid: [0; 16], after: [0; 992] };
        // SAFETY: the structure has the size (1024 bytes) that the request number carries.
        unsafe { btrfs_ioc_fs_info(dir.as_raw_fd(), &mut out) }.ok()?;
        Some(out.uuid)
    }

    /// The bytes of `f_fsid`, whose fields the C library keeps private.
    pub(super) fn fsid(statfs: &nix::sys::statfs::Statfs) -> [u8; 8] {
        let fsid = statfs.filesystem_id();
        // SAFETY: fsid_t is two plain ints, eight bytes without padding.
        unsafe { std::mem::transmute::<nix::sys::statfs::fsid_t, [u8; 8]>(fsid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_file_system_has_one_identity_through_any_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let a = identify(std::fs::File::open(dir.path()).unwrap().as_fd(), None).unwrap();
        let b = identify(std::fs::File::open(dir.path().join("sub")).unwrap().as_fd(), None).unwrap();
        assert_eq!(a, b);
    }

    #[test]
    fn the_configured_number_goes_before_all() {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        let a = identify(fd.as_fd(), Some(1)).unwrap();
        assert_eq!(a.source, Source::Configured);
        assert_ne!(a.id, identify(fd.as_fd(), Some(2)).unwrap().id);
    }

    #[test]
    fn memory_file_systems_are_told_apart_and_called_not_portable() {
        let shm = identify(std::fs::File::open("/dev/shm").unwrap().as_fd(), None).unwrap();
        let proc = identify(std::fs::File::open("/proc").unwrap().as_fd(), None).unwrap();
        assert!(!shm.portable && !proc.portable);
        assert_ne!(shm.id, proc.id);
    }

    #[test]
    fn only_full_uuids_are_parsed() {
        assert_eq!(parse_uuid("1234-ABCD"), None);
        assert_eq!(parse_uuid("00000000-0000-0000-0000-0000000000ff").unwrap()[15], 255);
        assert_eq!(parse_uuid("0000000é-0000-0000-0000-0000000000f"), None);
    }
}
