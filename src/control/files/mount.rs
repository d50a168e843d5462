//! Mounting and taking away: mount(2) and umount2(2) by ourselves, so that no helper binary is needed and what is detached is
//! surely ours. Must never detach another's mount, and never look into our own.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use fuser::{Config, Session, SessionACL};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

use super::FilesError;
use super::requests::Requests;
use crate::control::lock_file::{LockFile, NotTaken};

/// The file system's type, by which a mount is known as ours; the kernel takes what follows `fuse.` from us.
const KIND: &str = "fuse.lockferry";
/// Its source, as `mount` shows it; the second mark of ours.
const SOURCE: &str = "lockferry-control";
/// Stale mounts that may lie on each other: each start of old takes away what it finds, so more than a few are not ours to judge.
const STALE: usize = 16;
/// The kernel's door to FUSE.
const DEVICE: &str = "/dev/fuse";

/// A mount that ends with this value.
#[derive(Debug)]
pub(super) struct Mounted {
    path: PathBuf,
    // After the mount is gone: fields are dropped when `drop` is over.
    _lock: LockFile,
}

impl Mounted {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Somebody may have taken it away already, or have put something over it, which is theirs to take away.
        if on_top(&self.path).is_ok_and(|top| top.is_some_and(|mount| mount.is_ours()))
            && let Err(why) = detach(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %why, "the control files cannot be unmounted");
        }
    }
}

/// Mounts `requests` at `path`.
pub(super) fn mount(path: &Path, requests: Requests) -> Result<Mounted, FilesError> {
    let failed = |what| {
        let path = path.to_owned();
        move |source| FilesError::Io { path, what, source }
    };
    if !nix::unistd::geteuid().is_root() {
        // Nothing is made or touched where the mount would be refused anyway.
        return Err(FilesError::NotAllowed);
    }
    let device = OpenOptions::new().read(true).write(true).open(DEVICE).map_err(FilesError::NoFuse)?;
    let path = place(path).map_err(failed("cannot make the directory of"))?;
    let lock = LockFile::take(&path).map_err(|why| match why {
        NotTaken::Held(pid) => {
            FilesError::InUse { path: path.clone(), pid: pid.unwrap_or_else(|| "unknown".into()) }
        }
        NotTaken::Io(source) => FilesError::Io { path: path.clone(), what: "cannot lock", source },
    })?;
    clear(&path)?;
    prepare(&path)?;
    attach(&path, &device)?;
    let mounted = Mounted { path, _lock: lock };
    // From here on an early return takes the mount away again.
    let session = session(device, requests).map_err(failed("cannot serve"))?;
    let shown = mounted.path.display().to_string();
    std::thread::Builder::new()
        .name("control-files".into())
        .spawn(move || match session.run() {
            Ok(()) => tracing::debug!(path = shown, "the control files are no longer mounted"),
            Err(why) => tracing::warn!(path = shown, %why, "the control files are no longer served"),
        })
        .map_err(failed("cannot start a thread for"))?;
    Ok(mounted)
}

/// The path without symbolic links in it, as the kernel lists it; the last part is left as it is, since looking at a dead mount
/// fails. Makes the directories above it.
fn place(path: &Path) -> std::io::Result<PathBuf> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    Ok(parent.canonicalize()?.join(name))
}

/// Takes away what killed processes of ours left. We hold the lock, so no living one is there.
fn clear(path: &Path) -> Result<(), FilesError> {
    let failed = |what, source| FilesError::Io { path: path.into(), what, source };
    for _ in 0..STALE {
        match on_top(path).map_err(|why| failed("cannot see what is mounted on", why))? {
            None => return Ok(()),
            Some(mount) if !mount.is_ours() => {
                return Err(FilesError::Foreign { path: path.into(), kind: mount.kind });
            }
            Some(_) => {
                detach(path).map_err(|why| failed("cannot take away the old mount of", why.into()))?;
                tracing::info!(path = %path.display(), "took away the control files that a killed process left");
            }
        }
    }
    Err(FilesError::Unfit { path: path.into(), what: "has too many mounts on each other" })
}

/// Makes the directory, or makes sure that nothing is hidden by mounting on it.
fn prepare(path: &Path) -> Result<(), FilesError> {
    let failed = |what, source| FilesError::Io { path: path.into(), what, source };
    let unfit = |what| FilesError::Unfit { path: path.into(), what };
    match DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => return Ok(()),
        Err(why) if why.kind() == ErrorKind::AlreadyExists => {}
        Err(why) => return Err(failed("cannot make the directory", why)),
    }
    let meta = std::fs::symlink_metadata(path).map_err(|why| failed("cannot look at", why))?;
    if !meta.is_dir() {
        return Err(unfit("is not a directory"));
    }
    match std::fs::read_dir(path).map_err(|why| failed("cannot look into", why))?.next() {
        None => Ok(()),
        Some(_) => Err(unfit("is not empty: mounting there would hide what is in it")),
    }
}

fn attach(path: &Path, device: &File) -> Result<(), FilesError> {
    // default_permissions: the kernel checks the modes. allow_other: others are told what a directory holds, and get
    // EACCES for the rest; without it `df` of an ordinary user would end with an error.
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,allow_other",
        device.as_raw_fd(),
        nix::unistd::geteuid(),
        nix::unistd::getegid(),
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    match nix::mount::mount(Some(SOURCE), path, Some(KIND), flags, Some(options.as_str())) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM | Errno::EACCES) => Err(FilesError::NotAllowed),
        Err(why @ Errno::ENODEV) => Err(FilesError::NoFuse(why.into())),
        Err(why) => Err(FilesError::Io { path: path.into(), what: "cannot mount on", source: why.into() }),
    }
}

fn session(device: File, requests: Requests) -> std::io::Result<Session<Requests>> {
    let mut config = Config::default();
    config.acl = SessionACL::All;
    Session::from_fd(requests, device.into(), SessionACL::All, config)
}

fn detach(path: &Path) -> nix::Result<()> {
    nix::mount::umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
}

/// A mount, as the kernel lists it.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    kind: String,
    source: String,
}

impl Listed {
    fn is_ours(&self) -> bool {
        self.kind == KIND && self.source == SOURCE
    }
}

/// What is mounted on `path`, the last if there are several on each other.
fn on_top(path: &Path) -> std::io::Result<Option<Listed>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(|line| listed(line, path)).next_back())
}

/// A line of mountinfo (proc(5)), if it is about `path`.
fn listed(line: &[u8], path: &Path) -> Option<Listed> {
    let mut fields = line.split(|byte| *byte == b' ');
    if decode(fields.nth(4)?) != path.as_os_str().as_bytes() {
        return None;
    }
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let mut text = || Some(String::from_utf8_lossy(&decode(rest.next()?)).into_owned());
    Some(Listed { kind: text()?, source: text()? })
}

/// The kernel writes blanks, tabs, newlines and backslashes as `\` and three octal digits.
fn decode(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let escaped = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(decoded) if *byte == b'\\' => {
                out.push(decoded);
                rest = &after[3..];
            }
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_place_and_known_by_type_and_source() {
        let line = br"36 35 0:52 / /run/my\040dir rw,nosuid shared:1 master:2 - fuse.lockferry lockferry-control rw,fd=3";
        let found = listed(line, Path::new("/run/my dir")).unwrap();
        assert!(found.is_ours());
        assert_eq!(listed(line, Path::new("/run/my")), None);
        let other = br"36 35 0:52 / /run/x rw - fuse.sshfs lockferry-control rw";
        assert!(!listed(other, Path::new("/run/x")).unwrap().is_ours());
        for broken in [b"".as_slice(), b"1 2 3", br"36 35 0:52 / /run/x rw"] {
            assert_eq!(listed(broken, Path::new("/run/x")), None);
        }
    }

    #[test]
    fn the_root_directory_has_something_mounted_on_it() {
        assert!(on_top(Path::new("/")).unwrap().is_some_and(|mount| !mount.is_ours()));
    }
}
