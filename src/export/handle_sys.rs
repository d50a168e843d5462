//! The system calls on file handles and directories that no crate wraps: name_to_handle_at,
//! open_by_handle_at, faccessat2 by the thread's own credentials, getdents64. Must never keep state, and
//! holds all the `unsafe` that this needs.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// The longest kernel handle that fits into an NFSv3 handle beside our own fields.
pub(super) const MAX_KERNEL_HANDLE: usize = 44;

/// The kernel's own limit (MAX_HANDLE_SZ of name_to_handle_at(2)).
const KERNEL_LIMIT: usize = 128;

/// `struct file_handle` with room for the longest handle.
#[repr(C)]
struct RawHandle {
    handle_bytes: libc::c_uint,
    handle_type: libc::c_int,
    f_handle: [u8; KERNEL_LIMIT],
}

unsafe extern "C" {
    fn name_to_handle_at(
        dirfd: libc::c_int,
        path: *const libc::c_char,
        handle: *mut RawHandle,
        mount_id: *mut libc::c_int,
        flags: libc::c_int,
    ) -> libc::c_int;
    fn open_by_handle_at(mount_fd: libc::c_int, handle: *mut RawHandle, flags: libc::c_int) -> libc::c_int;
}

/// What the kernel calls a file, independent of its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct KernelHandle {
    kind: u8,
    len: u8,
    bytes: [u8; MAX_KERNEL_HANDLE],
}

impl KernelHandle {
    /// A handle of these parts. None: too long.
    pub(super) fn new(kind: u8, bytes: &[u8]) -> Option<Self> {
        let mut out = Self { kind, len: u8::try_from(bytes.len()).ok()?, bytes: [0; MAX_KERNEL_HANDLE] };
        out.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(out)
    }

    /// The file system's handle type (FILEID_...).
    pub(super) fn kind(&self) -> u8 {
        self.kind
    }

    /// The opaque part.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The handle of the open file `fd` (O_PATH will do). EOPNOTSUPP: the file system has no handles, or none
/// that fits.
pub(super) fn handle_of(fd: BorrowedFd<'_>) -> Result<KernelHandle, Errno> {
    let mut raw =
        RawHandle { handle_bytes: KERNEL_LIMIT as u32, handle_type: 0, f_handle: [0; KERNEL_LIMIT] };
    let mut mount_id = 0;
    // SAFETY: the path is a terminated empty string, `raw` has the room that `handle_bytes` says, and both
    // pointers outlive the call.
    let result = unsafe {
        name_to_handle_at(fd.as_raw_fd(), c"".as_ptr(), &mut raw, &mut mount_id, libc::AT_EMPTY_PATH)
    };
    Errno::result(result)?;
    let kind = u8::try_from(raw.handle_type).map_err(|_| Errno::EOPNOTSUPP)?;
    let bytes = raw.f_handle.get(..raw.handle_bytes as usize).ok_or(Errno::EOPNOTSUPP)?;
    KernelHandle::new(kind, bytes).ok_or(Errno::EOPNOTSUPP)
}

/// Opens what `handle` names on the file system of `mount` with O_PATH. Needs CAP_DAC_READ_SEARCH (EPERM
/// without it). ESTALE: no such file any more.
pub(super) fn open_handle(mount: BorrowedFd<'_>, handle: &KernelHandle) -> Result<OwnedFd, Errno> {
    let mut raw = RawHandle {
        handle_bytes: u32::from(handle.len),
        handle_type: i32::from(handle.kind),
        f_handle: [0; KERNEL_LIMIT],
    };
    raw.f_handle[..handle.bytes().len()].copy_from_slice(handle.bytes());
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: `raw` is a valid handle structure whose `handle_bytes` lies inside `f_handle`.
    let fd = Errno::result(unsafe { open_by_handle_at(mount.as_raw_fd(), &mut raw, flags) })?;
    // SAFETY: the kernel just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the calling thread (its file system ids and effective capabilities) may access `fd` (O_PATH will
/// do) in `mode` (R_OK, W_OK, X_OK).
pub(super) fn may_access(fd: BorrowedFd<'_>, mode: libc::c_int) -> Result<(), Errno> {
    const EMPTY: &CStr = c"";
    // SAFETY: plain integers and a terminated string that outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            fd.as_raw_fd(),
            EMPTY.as_ptr(),
            mode,
            libc::AT_EMPTY_PATH | libc::AT_EACCESS,
        )
    };
    Errno::result(result).map(drop)
}

/// One entry as the directory itself holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawEntry<'a> {
    /// The inode number that the directory holds (of the covered directory where something is mounted).
    pub(super) ino: u64,
    /// Where to go on after this entry.
    pub(super) next: i64,
    /// The name, without its terminator.
    pub(super) name: &'a [u8],
}

/// Fills `buffer` with directory entries from the descriptor's offset on; the number of bytes used, 0 at the end.
pub(super) fn getdents(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
    let used =
        unsafe { libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    Errno::result(used).map(|used| used as usize)
}

/// The entries in what `getdents` filled. Layout of `struct linux_dirent64`: u64 d_ino, i64 d_off, u16
/// d_reclen, u8 d_type, name, NUL.
pub(super) fn entries(mut filled: &[u8]) -> impl Iterator<Item = RawEntry<'_>> {
    std::iter::from_fn(move || {
        let (ino, rest) = filled.split_first_chunk::<8>()?;
        let (next, rest) = rest.split_first_chunk::<8>()?;
        let (length, _) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let name = filled.get(19..length)?;
        let name = name.split(|byte| *byte == 0).next()?;
        filled = filled.get(length..)?;
        Some(RawEntry { ino: u64::from_ne_bytes(*ino), next: i64::from_ne_bytes(*next), name })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_handle_survives_a_rename() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"x").unwrap();
        let before = handle_of(std::fs::File::open(dir.path().join("a")).unwrap().as_fd()).unwrap();
        std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        let after = handle_of(std::fs::File::open(dir.path().join("b")).unwrap().as_fd()).unwrap();
        assert!(before == after);
    }

    #[test]
    fn getdents_gives_every_name_once() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..50 {
            std::fs::write(dir.path().join(format!("f{n}")), b"").unwrap();
        }
        let fd = std::fs::File::open(dir.path()).unwrap();
        let mut names = Vec::new();
        let mut buffer = [0u8; 512];
        loop {
            let used = getdents(fd.as_fd(), &mut buffer).unwrap();
            if used == 0 {
                break;
            }
            names.extend(entries(&buffer[..used]).map(|e| e.name.to_vec()));
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 52);
    }
}
