//! Credentials of a single thread: raw setgroups, setfsgid, setfsuid and capset (the C library's wrappers
//! would change every thread of the process), and a file creation mask of its own. Must never change the
//! credentials of another thread.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;

use nix::errno::Errno;

/// Whom a request acts as, after squashing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ids {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// What the kernel drops when a thread's file system user becomes ordinary (CAP_FS_SET: CHOWN, DAC_OVERRIDE,
/// DAC_READ_SEARCH, FOWNER, FSETID, LINUX_IMMUTABLE, MKNOD, MAC_OVERRIDE), and SYS_RESOURCE, which goes past quotas.
const FS_CAPS: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 9 | 1 << 27 | 1 << 32 | CAP_SYS_RESOURCE;
const CAP_SYS_RESOURCE: u64 = 1 << 24;
const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;
/// _LINUX_CAPABILITY_VERSION_3: two words for each set.
const CAP_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The calling thread's capability sets.
fn capget() -> Result<[CapData; 2], Errno> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 writes two `CapData`, which is what `data` holds; pid 0 is the calling thread.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &mut header, data.as_mut_ptr()) })?;
    Ok(data)
}

/// Sets the calling thread's effective set and keeps the others.
fn set_effective(base: &[CapData; 2], effective: u64) -> Result<(), Errno> {
    let header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = *base;
    data[0].effective = effective as u32;
    data[1].effective = (effective >> 32) as u32;
    // SAFETY: version 3 reads two `CapData`; pid 0 is the calling thread.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &header, data.as_ptr()) }).map(drop)
}

fn setfsid(call: libc::c_long, id: u32) -> Result<(), Errno> {
    // SAFETY: integers only; acts on the calling thread alone.
    unsafe { libc::syscall(call, id) };
    // The call cannot report failure: asking with an invalid id returns the one that is in force.
    // SAFETY: as above; u32::MAX is refused by the kernel and changes nothing.
    let now = unsafe { libc::syscall(call, u32::MAX) };
    if now as u32 == id { Ok(()) } else { Err(Errno::EPERM) }
}

/// The calling thread's file system ids and effective capabilities. Neither Send nor Sync: it belongs to
/// the thread that made it.
pub struct ThreadCreds {
    base: [CapData; 2],
    /// Effective capabilities at the start, without SYS_RESOURCE.
    full: u64,
    /// Whether ids can be changed at all.
    can_switch: bool,
    own: Ids,
    current: RefCell<Option<Ids>>,
    raised: Cell<bool>,
    thread_bound: PhantomData<*const ()>,
}

impl ThreadCreds {
    /// Takes over the calling thread for file work: gives it its own creation mask (0: clients send full
    /// modes) and finds out what it may do.
    pub fn take_over() -> Self {
        // SAFETY: no pointers; separates this thread's mask and working directory from the others.
        if unsafe { libc::unshare(libc::CLONE_FS) } == 0 {
            // SAFETY: changes the mask of this thread only, since CLONE_FS is undone.
            unsafe { libc::umask(0) };
        }
        let base = capget().unwrap_or_default();
        let effective = u64::from(base[0].effective) | u64::from(base[1].effective) << 32;
        let own = Ids {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            groups: nix::unistd::getgroups().unwrap_or_default().iter().map(|gid| gid.as_raw()).collect(),
        };
        let allowed = effective & CAP_SETUID != 0 && effective & CAP_SETGID != 0;
        Self {
            base,
            full: effective & !CAP_SYS_RESOURCE,
            can_switch: allowed && try_switch(&own),
            own,
            current: RefCell::new(None),
            raised: Cell::new(true),
            thread_bound: PhantomData,
        }
    }

    /// Whether requests can act as their callers. If not, everything is done as the daemon's own user.
    pub fn can_switch(&self) -> bool {
        self.can_switch
    }

    /// From here on the thread acts as `ids` (as itself where it cannot switch). An error leaves it without
    /// file capabilities, so that nothing runs with more rights than it should.
    pub fn act_as(&self, ids: &Ids) -> Result<(), Errno> {
        if !self.can_switch {
            return Ok(());
        }
        if self.current.borrow().as_ref() != Some(ids) {
            *self.current.borrow_mut() = None;
            let switched = switch(ids);
            if switched.is_err() {
                self.lower()?;
            }
            switched?;
            *self.current.borrow_mut() = Some(ids.clone());
            // The kernel adds and removes capabilities when the user changes from or to 0: forget what we knew.
            self.raised.set(ids.uid != 0);
        }
        if ids.uid == 0 { self.raise() } else { self.lower() }
    }

    /// The user that file operations run as now.
    pub fn uid(&self) -> u32 {
        self.current.borrow().as_ref().map_or(self.own.uid, |ids| ids.uid)
    }

    /// Runs `work` with all file capabilities that the daemon has, then drops them again.
    pub fn raised<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Lower<'a>(&'a ThreadCreds, bool);
        impl Drop for Lower<'_> {
            fn drop(&mut self) {
                // Lowering effective capabilities cannot be refused; if it ever is, going on would mean to
                // serve an ordinary user with the superuser's rights.
                if self.1 && self.0.lower().is_err() {
                    std::process::abort();
                }
            }
        }
        let was_lowered = self.can_switch && !self.raised.get();
        let _lower = Lower(self, was_lowered && self.raise().is_ok());
        work()
    }

    fn raise(&self) -> Result<(), Errno> {
        if !self.raised.get() {
            set_effective(&self.base, self.full)?;
            self.raised.set(true);
        }
        Ok(())
    }

    fn lower(&self) -> Result<(), Errno> {
        if self.raised.get() {
            set_effective(&self.base, self.full & !FS_CAPS)?;
            self.raised.set(false);
        }
        Ok(())
    }
}

/// Whether switching works: in a user namespace ids may be missing or setgroups forbidden.
fn try_switch(own: &Ids) -> bool {
    let nobody = Ids { uid: 65534, gid: 65534, groups: vec![65534] };
    let there = switch(&nobody);
    let back = switch(own);
    there.is_ok() && back.is_ok()
}

fn switch(ids: &Ids) -> Result<(), Errno> {
    // SAFETY: the pointer and length describe a live slice; the raw call acts on the calling thread alone.
    Errno::result(unsafe { libc::syscall(libc::SYS_setgroups, ids.groups.len(), ids.groups.as_ptr()) })?;
    setfsid(libc::SYS_setfsgid, ids.gid)?;
    setfsid(libc::SYS_setfsuid, ids.uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_root() -> bool {
        let root = nix::unistd::geteuid().is_root();
        if !root {
            eprintln!("skipped: needs root to act as another user");
        }
        root
    }

    #[test]
    fn one_thread_acts_as_a_user_and_the_others_do_not_notice() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, b"x").unwrap();
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let path = secret.clone();
        std::thread::spawn(move || {
            let creds = ThreadCreds::take_over();
            let user = Ids { uid: 12345, gid: 12345, groups: vec![1, 2] };
            creds.act_as(&user).unwrap();
            assert!(std::fs::read(&path).is_err());
            assert!(creds.raised(|| std::fs::read(&path)).is_ok());
            assert!(std::fs::read(&path).is_err());
            creds.act_as(&Ids { uid: 0, gid: 0, groups: vec![] }).unwrap();
            assert!(std::fs::read(&path).is_ok());
            creds.act_as(&user).unwrap();
            assert!(std::fs::read(&path).is_err());
        })
        .join()
        .unwrap();
        assert!(std::fs::read(&secret).is_ok());
    }

    /// As a service manager starts it: an ordinary user with capabilities.
    #[test]
    fn a_daemon_with_capabilities_but_not_root_drops_them_for_its_callers() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let open = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        let secret = dir.path().join("secret");
        std::fs::write(&secret, b"x").unwrap();
        std::fs::set_permissions(&secret, open(0o600)).unwrap();
        std::fs::set_permissions(dir.path(), open(0o755)).unwrap();
        std::thread::spawn(move || {
            let base = capget().unwrap();
            // SAFETY: plain integers; PR_SET_KEEPCAPS and the raw setresuid concern this thread only.
            unsafe {
                assert_eq!(libc::prctl(libc::PR_SET_KEEPCAPS, 1), 0);
                assert_eq!(libc::syscall(libc::SYS_setresuid, 65533, 65533, 65533), 0);
            }
            let permitted = u64::from(base[0].permitted) | u64::from(base[1].permitted) << 32;
            set_effective(&base, permitted).unwrap();
            let creds = ThreadCreds::take_over();
            assert!(creds.can_switch());
            let read = || std::fs::read(&secret).is_ok();
            for uid in [12345, 0, 12346, 0, 12345, 12345] {
                creds.act_as(&Ids { uid, gid: uid, groups: vec![uid] }).unwrap();
                assert_eq!(read(), uid == 0, "as {uid}");
                assert!(creds.raised(read));
                assert_eq!(read(), uid == 0, "as {uid}, after raising");
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn the_invalid_user_is_an_error_and_not_the_user_before() {
        if !is_root() {
            return;
        }
        std::thread::spawn(|| {
            let creds = ThreadCreds::take_over();
            // u32::MAX is what setfsuid(2) ignores: squashing maps it away before, this is the second line.
            creds.act_as(&Ids { uid: 0, gid: 0, groups: vec![] }).unwrap();
            let _ = creds.act_as(&Ids { uid: u32::MAX, gid: 5, groups: vec![] });
            assert!(!creds.raised.get());
        })
        .join()
        .unwrap();
    }
}
