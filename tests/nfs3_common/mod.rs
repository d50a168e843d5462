//! What the NFSv3 tests share: a server without sockets, to which calls are handed directly.
// Each test binary uses a part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use lockferry::export::{ExportTable, FilePool};
use lockferry::node::config::{ExportConfig, Squash};
use lockferry::rpc::{AuthSys, Call, CallInfo, Cred, Program, ReplySink, Responder, Transport};
use lockferry::service::mount::Mount;
use lockferry::service::nfs3::Nfs3;
use lockferry_xdr::nfs3::nfs_program::v3;
use lockferry_xdr::nfs3::*;
use lockferry_xdr::{Decode, Encode, Writer};

/// Takes replies by ticket.
#[derive(Default)]
pub struct Replies {
    arrived: Mutex<HashMap<u64, Option<Vec<u8>>>>,
    wake: Condvar,
}

impl ReplySink for Replies {
    fn send_reply(self: Arc<Self>, ticket: u64, reply: Option<Vec<u8>>) {
        self.arrived.lock().unwrap().insert(ticket, reply);
        self.wake.notify_all();
    }
}

impl Replies {
    pub fn wait(&self, ticket: u64) -> Option<Vec<u8>> {
        let mut arrived = self.arrived.lock().unwrap();
        loop {
            if let Some(reply) = arrived.remove(&ticket) {
                return reply;
            }
            arrived = self.wake.wait(arrived).unwrap();
        }
    }
}

/// A server over some exports.
pub struct Server {
    pub table: Arc<ExportTable>,
    pub pool: Arc<FilePool>,
    pub nfs: Nfs3,
    pub mount: Mount,
    pub replies: Arc<Replies>,
    next: AtomicU64,
    pub peer: SocketAddr,
    pub cred: Cred,
}

pub fn user(uid: u32, gid: u32) -> Cred {
    Cred::Sys(AuthSys { machine_name: (*b"test").into(), uid, gid, gids: Box::new([]) })
}

/// A directory that any user may use.
pub fn public_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Says loudly that a test cannot run. Where `tests/run` has promised that everything is there, it fails.
pub fn skip(why: &str) {
    assert!(std::env::var("LOCKFERRY_TEST_REQUIRE").is_err(), "LOCKFERRY_TEST_REQUIRE is set, but: {why}");
    eprintln!("skipped: {why}");
    println!("skipped: {why}");
}

pub fn config(path: &Path) -> ExportConfig {
    ExportConfig { squash: Squash::None, ..ExportConfig::new(path.to_owned()) }
}

impl Server {
    pub fn new(configs: &[ExportConfig]) -> Self {
        Self::with_threads(configs, 4)
    }

    pub fn with_threads(configs: &[ExportConfig], threads: u32) -> Self {
        let table = Arc::new(ExportTable::open(configs));
        let pool = FilePool::start(threads, &table).unwrap();
        Self {
            nfs: Nfs3::new(table.clone(), pool.clone()),
            mount: Mount::new(table.clone(), pool.clone()),
            table,
            pool,
            replies: Arc::default(),
            next: AtomicU64::new(1),
            peer: "127.0.0.1:700".parse().unwrap(),
            cred: user(nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
        }
    }

    /// A server over one directory.
    pub fn on(dir: &Path) -> Self {
        Self::new(&[config(dir)])
    }

    pub fn send(&self, program: &dyn Program, version: u32, procedure: u32, args: Vec<u8>) -> u64 {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        let info = CallInfo {
            peer: self.peer,
            local: "127.0.0.1:2049".parse().unwrap(),
            transport: Transport::Tcp,
            xid: ticket as u32,
            program: program.number(),
            version,
            procedure,
            cred: self.cred.clone(),
        };
        let responder = Responder::new(self.replies.clone(), ticket, info.xid);
        program.dispatch(Call { info, args: args.into() }, responder);
        ticket
    }

    /// The accept_stat and the results behind it.
    pub fn raw(&self, program: &dyn Program, version: u32, procedure: u32, args: Vec<u8>) -> (u32, Vec<u8>) {
        let ticket = self.send(program, version, procedure, args);
        let reply = self.replies.wait(ticket).expect("an answer");
        (u32::from_be_bytes(reply[20..24].try_into().unwrap()), reply[24..].to_vec())
    }

    /// The results of an NFS procedure that accepts its arguments.
    pub fn nfs(&self, procedure: u32, args: &impl Encode) -> Vec<u8> {
        let (status, results) = self.raw(&self.nfs, 3, procedure, args.to_bytes());
        assert_eq!(status, 0, "accept_stat of procedure {procedure}");
        results
    }

    /// The handle of a path, by MNT.
    pub fn mnt(&self, path: &Path) -> Result<Vec<u8>, lockferry_xdr::mount::Mountstat3> {
        use lockferry_xdr::mount::{Mountres3, encode_dirpath};
        use std::os::unix::ffi::OsStrExt;
        let mut args = Vec::new();
        encode_dirpath(&path.as_os_str().as_bytes(), &mut Writer::new(&mut args));
        let (_, results) = self.raw(&self.mount, 3, 1, args);
        match Mountres3::from_bytes(&results).unwrap() {
            Mountres3::Mnt3Ok(ok) => Ok(ok.fhandle.to_vec()),
            Mountres3::Default(status) => Err(status),
        }
    }

    pub fn getattr(&self, fh: &[u8]) -> Result<Fattr3, Nfsstat3> {
        let results = self.nfs(v3::GETATTR, &Getattr3args { object: NfsFh3 { data: fh } });
        match Getattr3res::from_bytes(&results).unwrap() {
            Getattr3res::Nfs3Ok(ok) => Ok(ok.obj_attributes),
            Getattr3res::Default(status) => Err(status),
        }
    }

    pub fn lookup(&self, dir: &[u8], name: &str) -> Result<Vec<u8>, Nfsstat3> {
        let results = self.nfs(v3::LOOKUP, &Lookup3args { what: at(dir, name) });
        match Lookup3res::from_bytes(&results).unwrap() {
            Lookup3res::Nfs3Ok(ok) => Ok(ok.object.data.to_vec()),
            Lookup3res::Default(status, _) => Err(status),
        }
    }

    pub fn access(&self, fh: &[u8]) -> u32 {
        let results = self.nfs(v3::ACCESS, &Access3args { object: NfsFh3 { data: fh }, access: 0x3f });
        match Access3res::from_bytes(&results).unwrap() {
            Access3res::Nfs3Ok(ok) => ok.access,
            Access3res::Default(status, _) => panic!("{status:?}"),
        }
    }

    pub fn create(&self, dir: &[u8], name: &str, how: Createhow3) -> Result<Vec<u8>, Nfsstat3> {
        self.made(v3::CREATE, &Create3args { where_: at(dir, name), how })
    }

    pub fn touch(&self, dir: &[u8], name: &str, mode: u32) -> Result<Vec<u8>, Nfsstat3> {
        self.create(dir, name, Createhow3::Unchecked(with_mode(mode)))
    }

    pub fn mkdir(&self, dir: &[u8], name: &str, mode: u32) -> Result<Vec<u8>, Nfsstat3> {
        self.made(v3::MKDIR, &Mkdir3args { where_: at(dir, name), attributes: with_mode(mode) })
    }

    /// The handle out of an answer of CREATE, MKDIR, SYMLINK or MKNOD.
    pub fn made(&self, procedure: u32, args: &impl Encode) -> Result<Vec<u8>, Nfsstat3> {
        let results = self.nfs(procedure, args);
        match Create3res::from_bytes(&results).unwrap() {
            Create3res::Nfs3Ok(ok) => match ok.obj {
                PostOpFh3::True(fh) => Ok(fh.data.to_vec()),
                PostOpFh3::False => panic!("no handle"),
            },
            Create3res::Default(status, _) => Err(status),
        }
    }

    pub fn remove(&self, procedure: u32, dir: &[u8], name: &str) -> Result<(), Nfsstat3> {
        let results = self.nfs(procedure, &Remove3args { object: at(dir, name) });
        match Remove3res::from_bytes(&results).unwrap() {
            Remove3res::Nfs3Ok(_) => Ok(()),
            Remove3res::Default(status, _) => Err(status),
        }
    }

    pub fn rename(&self, from: (&[u8], &str), to: (&[u8], &str)) -> Result<Rename3resok, Nfsstat3> {
        let results = self.nfs(v3::RENAME, &Rename3args { from: at(from.0, from.1), to: at(to.0, to.1) });
        match Rename3res::from_bytes(&results).unwrap() {
            Rename3res::Nfs3Ok(ok) => Ok(ok),
            Rename3res::Default(status, _) => Err(status),
        }
    }

    pub fn setattr(&self, fh: &[u8], new: Sattr3, guard: Sattrguard3) -> Result<WccData, Nfsstat3> {
        let args = Setattr3args { object: NfsFh3 { data: fh }, new_attributes: new, guard };
        match Setattr3res::from_bytes(&self.nfs(v3::SETATTR, &args)).unwrap() {
            Setattr3res::Nfs3Ok(ok) => Ok(ok.obj_wcc),
            Setattr3res::Default(status, _) => Err(status),
        }
    }

    pub fn write(
        &self,
        fh: &[u8],
        offset: u64,
        data: &[u8],
        stable: StableHow,
    ) -> Result<Write3resok, Nfsstat3> {
        let file = NfsFh3 { data: fh };
        let args = Write3args { file, offset, count: data.len() as u32, stable, data };
        match Write3res::from_bytes(&self.nfs(v3::WRITE, &args)).unwrap() {
            Write3res::Nfs3Ok(ok) => Ok(ok),
            Write3res::Default(status, _) => Err(status),
        }
    }

    pub fn commit(&self, fh: &[u8]) -> Result<[u8; 8], Nfsstat3> {
        let args = Commit3args { file: NfsFh3 { data: fh }, offset: 0, count: 0 };
        match Commit3res::from_bytes(&self.nfs(v3::COMMIT, &args)).unwrap() {
            Commit3res::Nfs3Ok(ok) => Ok(ok.verf),
            Commit3res::Default(status, _) => Err(status),
        }
    }

    /// Data and eof.
    pub fn read(&self, fh: &[u8], offset: u64, count: u32) -> Result<(Vec<u8>, bool), Nfsstat3> {
        let args = Read3args { file: NfsFh3 { data: fh }, offset, count };
        match Read3res::from_bytes(&self.nfs(v3::READ, &args)).unwrap() {
            Read3res::Nfs3Ok(ok) => {
                assert_eq!(ok.count as usize, ok.data.len());
                Ok((ok.data.to_vec(), ok.eof))
            }
            Read3res::Default(status, _) => Err(status),
        }
    }

    /// One READDIR: (name, cookie, fileid) and eof.
    pub fn readdir(&self, fh: &[u8], cookie: u64, count: u32) -> Result<Page, Nfsstat3> {
        let args = Readdir3args { dir: NfsFh3 { data: fh }, cookie, cookieverf: [0; 8], count };
        let results = self.nfs(v3::READDIR, &args);
        assert!(results.len() <= count.max(100) as usize, "the answer is longer than asked for");
        match Readdir3res::from_bytes(&results).unwrap() {
            Readdir3res::Nfs3Ok(ok) => Ok(Page {
                entries: ok.reply.entries.iter().map(|e| (text(e.name), e.cookie, e.fileid)).collect(),
                eof: ok.reply.eof,
            }),
            Readdir3res::Default(status, _) => Err(status),
        }
    }

    /// All names by READDIR.
    pub fn names(&self, fh: &[u8], count: u32) -> Vec<String> {
        let (mut names, mut cookie) = (Vec::new(), 0);
        loop {
            let page = self.readdir(fh, cookie, count).unwrap();
            if let Some(last) = page.entries.last() {
                cookie = last.1;
            }
            names.extend(page.entries.into_iter().map(|e| e.0));
            if page.eof {
                return names;
            }
        }
    }
}

pub struct Page {
    pub entries: Vec<(String, u64, u64)>,
    pub eof: bool,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn at<'a>(dir: &'a [u8], name: &'a str) -> Diropargs3<'a> {
    Diropargs3 { dir: NfsFh3 { data: dir }, name: name.as_bytes() }
}

pub fn unchanged() -> Sattr3 {
    Sattr3 {
        mode: SetMode3::False,
        uid: SetUid3::False,
        gid: SetGid3::False,
        size: SetSize3::False,
        atime: SetAtime::DontChange,
        mtime: SetMtime::DontChange,
    }
}

pub fn with_mode(mode: u32) -> Sattr3 {
    Sattr3 { mode: SetMode3::True(mode), ..unchanged() }
}

pub fn with_size(size: u64) -> Sattr3 {
    Sattr3 { size: SetSize3::True(size), ..unchanged() }
}

/// Something mounted, until dropped.
pub struct Mounted(pub PathBuf);

impl Mounted {
    pub fn new(args: &[&str], at: &Path) -> Result<Self, String> {
        let output =
            std::process::Command::new("mount").args(args).arg(at).output().map_err(|e| e.to_string())?;
        if output.status.success() {
            Ok(Self(at.to_owned()))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Unmounts without force: fails while anything is open there.
    pub fn umount(&self) -> bool {
        std::process::Command::new("umount").arg(&self.0).status().is_ok_and(|s| s.success())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .stderr(std::process::Stdio::null())
            .status();
    }
}
