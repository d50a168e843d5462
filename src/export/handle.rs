//! The bytes of a file handle. Pure: no system calls.
//!
//! Layout, 20 to 64 bytes (NFSv3 allows 64):
//!
//! | bytes | what |
//! |---|---|
//! | 0 | version, 1 |
//! | 1 | 0: kernel handle; 1: inode number, for file systems without handles |
//! | 2 | the kernel's handle type |
//! | 3 | length of the last field |
//! | 4-11 | export, a hash of its path |
//! | 12-19 | file system identity |
//! | 20-.. | the kernel's handle |
//!
//! Nothing in it depends on a start time, a mount or a device number, so it holds over restarts, renames and
//! a move of the disk to another node that exports it under the same path.

use super::FileKey;
use super::handle_sys::{KernelHandle, MAX_KERNEL_HANDLE};

const VERSION: u8 = 1;
const HEAD: usize = 20;

/// What the file is called inside its file system.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FileId {
    /// By the kernel's handle.
    Kernel(KernelHandle),
    /// By inode number (the file system has no handles).
    Inode(u64),
}

/// A handle taken apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    pub(super) export: u64,
    pub(super) fs: u64,
    pub(super) file: FileId,
}

impl Handle {
    /// Takes bytes from a client apart. None: not made by us.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
        if head[0] != VERSION || usize::from(head[3]) != rest.len() || rest.len() > MAX_KERNEL_HANDLE {
            return None;
        }
        let file = match head[1] {
            0 => FileId::Kernel(KernelHandle::new(head[2], rest)?),
            1 if head[2] == 0 => FileId::Inode(u64::from_be_bytes(rest.try_into().ok()?)),
            _ => return None,
        };
        let word = |at: usize| head[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        Some(Self { export: word(4)?, fs: word(12)?, file })
    }

    /// The bytes for the client.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + 16);
        let (form, kind) = self.form();
        out.extend([VERSION, form, kind, 0]);
        out.extend(self.export.to_be_bytes());
        out.extend(self.fs.to_be_bytes());
        self.push_file(&mut out);
        out[3] = (out.len() - HEAD) as u8;
        out
    }

    /// What locks and the table of names go by: everything except the export. The file system comes first, so that the keys of its
    /// files share a prefix.
    pub fn key(&self) -> FileKey {
        let mut out = Vec::with_capacity(10 + 16);
        let (form, kind) = self.form();
        out.extend(self.fs.to_be_bytes());
        out.extend([form, kind]);
        self.push_file(&mut out);
        FileKey(out.into_boxed_slice())
    }

    fn form(&self) -> (u8, u8) {
        match &self.file {
            FileId::Kernel(handle) => (0, handle.kind()),
            FileId::Inode(_) => (1, 0),
        }
    }

    fn push_file(&self, out: &mut Vec<u8>) {
        match &self.file {
            FileId::Kernel(handle) => out.extend(handle.bytes()),
            FileId::Inode(ino) => out.extend(ino.to_be_bytes()),
        }
    }
}

impl FileKey {
    /// The file system and the file that this key names, taken apart again.
    pub(super) fn parts(&self) -> Option<(u64, FileId)> {
        let (head, rest) = self.0.split_first_chunk::<10>()?;
        let fs = head[..8].try_into().map(u64::from_be_bytes).ok()?;
        let file = match head[8] {
            0 => FileId::Kernel(KernelHandle::new(head[9], rest)?),
            _ => FileId::Inode(u64::from_be_bytes(rest.try_into().ok()?)),
        };
        Some((fs, file))
    }
}

/// A hash that stays the same for ever, on every machine (FNV-1a, 64 bits): it ends up in handles.
pub(super) fn stable_hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    // FNV's upper bits are weak for short inputs: mix once more (the finalizer of MurmurHash3).
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_layout_does_not_change_by_accident() {
        let kernel = KernelHandle::new(1, &[1, 2, 3, 4]).unwrap();
        let handle = Handle { export: 0x11, fs: 0x22, file: FileId::Kernel(kernel) };
        let mut bytes = vec![1, 0, 1, 4];
        bytes.extend(0x11u64.to_be_bytes());
        bytes.extend(0x22u64.to_be_bytes());
        bytes.extend([1, 2, 3, 4]);
        assert_eq!(handle.to_bytes(), bytes);
        assert_eq!(stable_hash(&[b"/srv"]), 0x577e_cd94_c7ff_6d9e);
    }

    #[test]
    fn two_exports_of_one_tree_have_one_key() {
        let file = FileId::Inode(7);
        let a = Handle { export: 1, fs: 9, file };
        let b = Handle { export: 2, fs: 9, file };
        assert_eq!(a.key(), b.key());
        assert_ne!(a.key(), Handle { export: 1, fs: 8, file }.key());
        assert!(a.key().parts() == Some((9, file)));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_it_accepts_is_written_back_as_it_was(
            bytes in proptest::collection::vec(any::<u8>(), 0..80), fix: bool,
        ) {
            let mut bytes = bytes;
            if fix && bytes.len() > 20 {
                (bytes[0], bytes[1], bytes[3]) = (1, bytes[1] & 1, (bytes.len() - 20) as u8);
            }
            if let Some(handle) = Handle::parse(&bytes) {
                prop_assert!(bytes.len() <= 64);
                prop_assert_eq!(handle.to_bytes(), bytes);
            }
        }
    }
}
