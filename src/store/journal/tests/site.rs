//! Where a journal can lie: file systems by name, and ones that do not do what they should.

use std::io;

use super::super::faults::MemFiles;
use super::super::files::{Files, Handle};
use super::super::site::{Mount, Site, SiteError, check, classify, parse, probe};
use super::*;

const MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro
31 27 0:40 / /mnt/a\\040b rw,relatime shared:2 master:7 - nfs4 host:/x rw,vers=4.2,acregmin=0,acregmax=0,acdirmin=0,acdirmax=0,hard,lookupcache=none
32 27 0:41 / /mnt/c rw - nfs host:/x rw,vers=3,noac,lookupcache=none
33 27 0:42 / /mnt/d rw - nfs host:/x rw,vers=3,noac,lookupcache=pos
34 27 0:43 / /mnt/e rw - nfs4 host:/x rw,acregmin=0,acregmax=60,acdirmin=0,acdirmax=0,lookupcache=none
35 27 0:44 / /mnt/f rw - nfs4 host:/x rw,noac,nocto,lookupcache=none
36 27 0:45 / /mnt/g rw - fuse.sshfs u@h: rw
37 27 0:46 / /mnt/h rw - gfs2 /dev/dm-1 rw
38 27 0:47 / /mnt/i rw - cifs //s/x rw
39 27 0:48 / /mnt/j rw - overlay o rw,lowerdir=/l,volatile
46 27 0:55 / /mnt/q rw - overlay o rw,lowerdir=/l,fsync=volatile
40 27 0:49 / /mnt/k rw - tmpfs t rw
41 27 0:50 / /mnt/l rw - newfs x rw
42 27 0:51 / /mnt/m rw - 9p x rw,cache=none
43 27 0:52 / /mnt/n rw - fuseblk /dev/sdb1 rw
44 27 0:53 / /mnt/o rw - xfs /dev/sdb1 rw
45 27 0:54 / /mnt/p rw - zfs tank rw";

fn site(id: &str, durability: Durability) -> Result<Site, SiteError> {
    let block = ["ext4", "xfs", "fuseblk", "gfs2"].map(String::from);
    classify(&dir(), &parse(MOUNTS, id).unwrap(), &block, durability)
}

#[test]
fn a_file_system_is_told_by_its_name_and_mount_options() {
    let sync = |id| site(id, Durability::Sync).map(|site| (site.shared, site.warning.is_some()));
    for (id, expected) in [
        ("27", (false, false)),
        ("31", (true, false)),
        ("32", (true, false)),
        ("37", (true, false)),
        ("39", (false, true)),
        ("46", (false, true)),
        ("40", (false, true)),
        ("44", (false, false)),
        ("45", (false, false)),
    ] {
        assert_eq!(sync(id).unwrap(), expected, "mount {id}");
    }
    for (id, reason) in [
        ("33", "with lookupcache=none"),
        ("34", "with noac"),
        ("35", "with cto"),
        ("36", "FUSE"),
        ("38", "SMB"),
        ("41", "not known"),
        ("42", "host"),
        ("43", "FUSE"),
    ] {
        let error = sync(id).unwrap_err().to_string();
        assert!(error.contains(reason), "mount {id}: {error}");
    }
    assert_eq!(parse(MOUNTS, "2"), None);
    assert_eq!(
        parse(MOUNTS, "40").unwrap(),
        Mount { file_system: "tmpfs".into(), options: vec!["rw".into(), "rw".into()] }
    );
}

#[test]
fn where_nodes_share_a_file_system_a_record_must_be_synced() {
    for durability in [Durability::Relaxed, Durability::None] {
        assert!(matches!(site("37", durability), Err(SiteError::MustSync { .. })));
        assert!(!site("27", durability).unwrap().shared);
    }
}

#[test]
fn a_directory_of_this_machine_passes_and_nothing_is_left_behind() {
    let here = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let found = check(here.path(), Durability::Sync).unwrap();
    assert!(!found.shared && !found.file_system.is_empty(), "{found:?}");
    assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 0);
    let missing = check(&here.path().join("x"), Durability::Sync);
    assert!(matches!(missing, Err(SiteError::Io { .. })), "{missing:?}");
    let proc = check(Path::new("/proc/self"), Durability::Sync);
    assert!(matches!(proc, Err(SiteError::Unfit { .. })), "{proc:?}");
}

/// What a file system does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    Nothing,
    CreatesTwice,
    LinksTwice,
    NoLinks,
    ListsLate,
    LooksLate,
    ReadsOld,
    RemovesLate,
    RenamesLate,
    NoSyncDir,
}

#[derive(Debug)]
struct Odd(MemFiles, Wrong);

struct Old;

impl Handle for Old {
    fn size(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Files for Odd {
    fn is_dir(&self, dir: &Path) -> io::Result<bool> {
        self.0.is_dir(dir)
    }
    fn site(&self, dir: &Path, durability: Durability) -> Result<Site, SiteError> {
        self.0.site(dir, durability)
    }
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.make_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = self.0.list(dir)?;
        Ok(if self.1 == Wrong::ListsLate { Vec::new() } else { names })
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.1 != Wrong::LooksLate && self.0.exists(path)?)
    }
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        match self.0.create_new(path) {
            Err(_) if self.1 == Wrong::CreatesTwice => self.0.open_write(path),
            other => other,
        }
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        if self.1 == Wrong::ReadsOld { Ok(Box::new(Old)) } else { self.0.open(path) }
    }
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        self.0.open_write(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.1 == Wrong::RenamesLate { self.0.link(from, to) } else { self.0.rename(from, to) }
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        match (self.1, self.0.link(from, to)) {
            (Wrong::NoLinks, _) => Err(io::Error::from_raw_os_error(libc::EPERM)),
            (Wrong::LinksTwice, Err(_)) => Ok(()),
            (_, other) => other,
        }
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        let there = self.0.exists(path)?;
        if self.1 == Wrong::RemovesLate && there { Ok(()) } else { self.0.remove(path) }
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.1 == Wrong::NoSyncDir {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        self.0.sync_dir(dir)
    }
}

#[test]
fn a_file_system_that_does_not_do_what_it_should_is_refused() {
    let tried = |wrong| probe(&Odd(MemFiles::new(), wrong), &dir());
    tried(Wrong::Nothing).unwrap();
    for (wrong, said) in [
        (Wrong::CreatesTwice, "created twice"),
        (Wrong::LinksTwice, "taken twice"),
        (Wrong::NoLinks, "second name"),
        (Wrong::ListsLate, "seen at once"),
        (Wrong::LooksLate, "seen at once"),
        (Wrong::ReadsOld, "not what is read"),
        (Wrong::RemovesLate, "still there"),
        (Wrong::RenamesLate, "after a rename"),
        (Wrong::NoSyncDir, "cannot sync"),
    ] {
        let error = tried(wrong).unwrap_err().to_string();
        assert!(error.contains(said), "{wrong:?}: {error}");
    }
}
