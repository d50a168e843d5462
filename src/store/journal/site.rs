//! Whether a journal can lie in a directory: what kind of file system that is, whether other nodes may have it mounted too, and
//! whether it does what a journal needs (docs/journal.md, "Where a journal can lie").
//!
//! Must never let two nodes both believe in an epoch because one of them read it from a cache: what is not known is refused.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use super::files::{Disk, Files};
use crate::store::record::Durability;

/// A directory in which a journal can lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Type of the file system, as in /proc/self/mountinfo.
    pub file_system: String,
    /// Whether several nodes may have it mounted at once.
    pub shared: bool,
    /// What an operator should know.
    pub warning: Option<&'static str>,
}

/// Why a journal cannot lie in a directory.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The file system is not fit, or not known.
    #[error("{}: a journal cannot lie on {file_system}: {reason}", .dir.display())]
    Unfit {
        /// The directory.
        dir: PathBuf,
        /// Type of the file system.
        file_system: String,
        /// Why.
        reason: String,
    },
    /// What one node has not written yet another one cannot know of.
    #[error("{}: {file_system} is shared between nodes: there the journal's durability must be \"sync\"", .dir.display())]
    MustSync {
        /// The directory.
        dir: PathBuf,
        /// Type of the file system.
        file_system: String,
    },
    /// It was tried, and does not do what it should.
    #[error("{}: a journal cannot lie here: {what}", .dir.display())]
    Fails {
        /// The directory.
        dir: PathBuf,
        /// What went wrong.
        what: &'static str,
    },
    /// It could not be tried.
    #[error("{what} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SiteError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SiteError {
        let path = path.to_path_buf();
        move |source| SiteError::Io { what, path, source }
    }
}

/// A file system that nodes share.
#[derive(Debug)]
pub(super) struct Shared {
    name: &'static str,
    /// What statfs(2) says.
    pub(super) magic: u32,
}

/// Shared file systems that keep the nodes' caches alike, and NFS, which can be mounted without one.
pub(super) const SHARED: [Shared; 7] = [
    Shared { name: "nfs", magic: 0x6969 },
    Shared { name: "nfs4", magic: 0x6969 },
    Shared { name: "gfs2", magic: 0x0116_1970 },
    Shared { name: "ocfs2", magic: 0x7461_636f },
    Shared { name: "ceph", magic: 0x00c3_6400 },
    Shared { name: "lustre", magic: 0x0bd0_0bd3 },
    Shared { name: "gpfs", magic: 0x4750_4653 },
];

/// File systems of one machine that /proc/filesystems does not tell by their block device.
const LOCAL: [&str; 3] = ["overlay", "zfs", "bcachefs"];

/// Why some others are refused; the first name that the type begins with counts.
const UNFIT: [(&str, &str); 7] = [
    ("fuse", "what a FUSE file system keeps in caches, and for how long, cannot be seen from here"),
    ("virtiofs", "what the host keeps in caches, and for how long, cannot be seen from here"),
    ("9p", "what the host keeps in caches, and for how long, cannot be seen from here"),
    ("cifs", "SMB cannot make a change to names durable"),
    ("smb", "SMB cannot make a change to names durable"),
    ("afs", "it reads from caches that are told of changes too late"),
    ("coda", "it reads from caches that are told of changes too late"),
];

/// Checks a directory, which must be there. Makes and removes a few small files in it.
///
/// # Errors
/// [`SiteError`]: a journal must not lie there.
pub fn check(dir: &Path, durability: Durability) -> Result<Site, SiteError> {
    let site = classify(dir, &mount_of(dir)?, &block_types(), durability)?;
    probe(&Disk, dir)?;
    Ok(site)
}

/// What /proc/self/mountinfo says of a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) file_system: String,
    /// Of the mount and of the file system.
    pub(super) options: Vec<String>,
}

fn mount_of(dir: &Path) -> Result<Mount, SiteError> {
    let file = std::fs::File::open(dir).map_err(SiteError::io("cannot open", dir))?;
    let info = PathBuf::from(format!("/proc/self/fdinfo/{}", file.as_raw_fd()));
    let text = std::fs::read_to_string(&info).map_err(SiteError::io("cannot read", &info))?;
    let table = Path::new("/proc/self/mountinfo");
    let mounts = std::fs::read(table).map_err(SiteError::io("cannot read", table))?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim).unwrap_or_default();
    parse(&String::from_utf8_lossy(&mounts), id)
        .ok_or_else(|| SiteError::io("cannot find the mount of", dir)(ErrorKind::NotFound.into()))
}

/// The line of mount `id`: `ID PARENT DEVICE ROOT POINT OPTIONS [TAGS...] - TYPE SOURCE OPTIONS`.
pub(super) fn parse(mounts: &str, id: &str) -> Option<Mount> {
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(id))?;
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = file_system.split(' ');
    let (name, _, options) = (fields.next()?, fields.next()?, fields.next()?);
    let all = mount.split(' ').nth(5)?.split(',').chain(options.split(','));
    Some(Mount { file_system: name.into(), options: all.map(Into::into).collect() })
}

/// File system types that need a block device: those of one machine, but for the cluster file systems among them.
fn block_types() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    table.lines().filter_map(|line| line.strip_prefix('\t')).map(Into::into).collect()
}

/// What is known of a mount without trying anything.
pub(super) fn classify(
    dir: &Path,
    mount: &Mount,
    block_types: &[String],
    durability: Durability,
) -> Result<Site, SiteError> {
    let name = mount.file_system.as_str();
    let unfit = |reason: &str| {
        Err(SiteError::Unfit { dir: dir.into(), file_system: name.into(), reason: reason.into() })
    };
    let site = |shared, warning| Ok(Site { file_system: name.into(), shared, warning });
    if SHARED.iter().any(|shared| shared.name == name) {
        if let Some(reason) = nfs_caches(mount) {
            return unfit(&reason);
        }
        if durability != Durability::Sync {
            return Err(SiteError::MustSync { dir: dir.into(), file_system: name.into() });
        }
        return site(true, None);
    }
    if let Some((_, reason)) = UNFIT.iter().find(|(known, _)| name.starts_with(known)) {
        return unfit(reason);
    }
    match name {
        "tmpfs" | "ramfs" => site(false, Some("it is in memory: a reboot or a power cut loses the journal")),
        // The older and the newer way to say it.
        "overlay" if mount.options.iter().any(|o| o == "volatile" || o == "fsync=volatile") => {
            site(false, Some("it is mounted volatile: a power cut loses the journal"))
        }
        _ if LOCAL.contains(&name) || block_types.iter().any(|known| known == name) => site(false, None),
        _ => unfit("whether it is shared between nodes, and what it keeps in caches, is not known"),
    }
}

/// What is wrong with the mount options of NFS.
fn nfs_caches(mount: &Mount) -> Option<String> {
    if !mount.file_system.starts_with("nfs") {
        return None;
    }
    let has = |option: &str| mount.options.iter().any(|o| o == option);
    let times = ["acregmin=0", "acregmax=0", "acdirmin=0", "acdirmax=0"];
    let mut missing = Vec::new();
    if !has("noac") && !times.iter().all(|time| has(time)) {
        missing.push("noac");
    }
    if !has("lookupcache=none") {
        missing.push("lookupcache=none");
    }
    if has("nocto") {
        missing.push("cto");
    }
    let list = missing.join(",");
    (!missing.is_empty()).then(|| {
        format!("a node could read an old epoch from its cache, and two could own one lock manager; mount it with {list}")
    })
}

/// Tries what a journal needs.
pub(super) fn probe(files: &dyn Files, dir: &Path) -> Result<(), SiteError> {
    let name = |n: u32| format!("site-check-{}-{n}", std::process::id());
    let names = [name(0), name(1), name(2)];
    let tried = try_all(files, dir, &names);
    for name in &names {
        // What is not there needs no removing; what stays behind is of no account, and another try removes it.
        let _ = files.remove(&dir.join(name));
    }
    tried
}

fn try_all(files: &dyn Files, dir: &Path, names: &[String; 3]) -> Result<(), SiteError> {
    let [a, b, c] = [dir.join(&names[0]), dir.join(&names[1]), dir.join(&names[2])];
    for old in [&a, &b, &c] {
        match files.remove(old) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(SiteError::io("cannot remove", old)(e)),
            _ => {}
        }
    }
    let fails = |what| Err(SiteError::Fails { dir: dir.into(), what });
    let listed = |name: &String| {
        let names = files.list(dir).map_err(SiteError::io("cannot list", dir))?;
        Ok::<bool, SiteError>(names.contains(name))
    };
    let there = |path: &Path| files.exists(path).map_err(SiteError::io("cannot look for", path));
    if there(&a)? || listed(&names[0])? {
        return fails("a file that was removed is still there");
    }
    let bytes: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
    let handle = files.create_new(&a).map_err(SiteError::io("cannot create", &a))?;
    match files.create_new(&a) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(SiteError::io("cannot create", &a)(e)),
        Ok(_) => return fails("a file could be created twice: two nodes could take the same epoch"),
    }
    if !there(&a)? || !listed(&names[0])? {
        return fails("a new name is not seen at once: a node would not notice that it was superseded");
    }
    handle.write_at(&bytes, 0).map_err(SiteError::io("cannot write", &a))?;
    handle.sync().map_err(SiteError::io("cannot sync", &a))?;
    let reader = files.open_past_caches(&a).map_err(SiteError::io("cannot open past the cache", &a))?;
    let mut back = vec![0; bytes.len()];
    let mut got = 0;
    while got < back.len() {
        match reader.read_at(&mut back[got..], got as u64).map_err(SiteError::io("cannot read", &a))? {
            0 => break,
            n => got += n,
        }
    }
    if back != bytes {
        return fails("what was written and synced is not what is read");
    }
    files.link(&a, &b).map_err(SiteError::io("cannot give a second name to", &a))?;
    match files.link(&a, &b) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(SiteError::io("cannot give a second name to", &a)(e)),
        Ok(()) => return fails("a name could be taken twice: two nodes could take the same epoch"),
    }
    files.sync_dir(dir).map_err(SiteError::io("cannot sync", dir))?;
    files.rename(&a, &c).map_err(SiteError::io("cannot rename to", &c))?;
    if there(&a)? || listed(&names[0])? || !there(&c)? || !listed(&names[2])? {
        return fails("after a rename the names are not as they should be");
    }
    files.remove(&c).map_err(SiteError::io("cannot remove", &c))?;
    if there(&c)? || listed(&names[2])? {
        return fails("a file that was removed is still there");
    }
    files.sync_dir(dir).map_err(SiteError::io("cannot sync", dir))
}
