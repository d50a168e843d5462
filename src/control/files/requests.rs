//! The kernel's requests. Each is answered at once from what is here, or handed to a pool with its reply: nothing here may wait
//! for the node, or every other process that looks at the control files would wait too.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};

use super::content::{self, MAX_LIST};
use super::pool::Pool;
use super::reply::{Pending, Refuse, Watch};
use super::tree::{Node, Numbers, PARTS, TOPS, Top, Use};
use crate::control::front::{Front, Peer, VERB_TIME};
use crate::control::grammar::MAX_TEXT;
use crate::node::verbs::Refusal;

/// Verbs worked on at once, as in the API.
const VERBS: usize = 8;
/// Verbs that wait for one of these. An HA stack with hundreds of addresses moves them all at once.
const VERBS_WAITING: usize = 512;
/// Questions worked on at once.
const QUESTIONS: usize = 4;
/// Questions that wait.
const QUESTIONS_WAITING: usize = 128;
/// Files and directories that are open to be read at once.
const MAX_OPEN: usize = 256;
/// Bytes that they hold altogether: four of the longest lists.
const MAX_HELD: usize = 4 * MAX_LIST;
/// Most bytes the kernel sends in one piece: more than a verb may have, so that what is too long comes in one piece and is
/// refused as a whole.
const MAX_WRITE: u32 = 128 * 1024;
/// The kernel asks again each time: what is shown changes by itself.
const NO_TIME: Duration = Duration::ZERO;
/// The kernel passes reads and writes on as they come, without a cache, and does not go by the size of a file.
const DIRECT: FopenFlags = FopenFlags::FOPEN_DIRECT_IO.union(FopenFlags::FOPEN_NONSEEKABLE);

/// What was there when it was opened.
enum Snapshot {
    Text(Vec<u8>),
    Directory(Vec<(u64, FileType, String)>),
}

impl Snapshot {
    fn size(&self) -> usize {
        match self {
            Snapshot::Text(text) => text.len(),
            Snapshot::Directory(rows) => {
                rows.iter().map(|(.., name)| name.len() + size_of::<(u64, FileType, String)>()).sum()
            }
        }
    }
}

/// What the threads share.
struct Shared {
    front: Arc<Front>,
    numbers: Numbers,
    open: Mutex<HashMap<u64, Arc<Snapshot>>>,
    held: AtomicUsize,
    next: AtomicU64,
    since: SystemTime,
    gid: u32,
}

/// Answers the kernel.
pub(super) struct Requests {
    shared: Arc<Shared>,
    verbs: Pool,
    questions: Pool,
    watch: Watch<ReplyWrite>,
}

impl Requests {
    /// Starts the threads.
    pub(super) fn start(front: Arc<Front>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            front,
            numbers: Numbers::default(),
            open: Mutex::default(),
            held: AtomicUsize::new(0),
            next: AtomicU64::new(1),
            since: SystemTime::now(),
            gid: nix::unistd::getegid().as_raw(),
        });
        Ok(Self {
            shared,
            verbs: Pool::start("control-verb", VERBS, VERBS_WAITING)?,
            questions: Pool::start("control-ask", QUESTIONS, QUESTIONS_WAITING)?,
            watch: Watch::start(VERB_TIME)?,
        })
    }

    /// Lets a thread answer that may ask the node.
    fn ask<R: Refuse>(&self, reply: R, answer: impl FnOnce(&Shared, R) + Send + 'static) {
        let pending = Pending::new(reply);
        let (shared, given) = (Arc::clone(&self.shared), Arc::clone(&pending));
        let handed = self.questions.submit(move || {
            if let Some(reply) = given.take() {
                answer(&shared, reply);
            }
        });
        if handed.is_err() {
            pending.refuse(Errno::EAGAIN);
        }
    }

    fn node(&self, ino: INodeNo) -> Option<Node> {
        self.shared.numbers.node(ino.into())
    }

    /// Hands a verb to a thread, which answers when it is done.
    fn run(&self, name: &'static str, text: Vec<u8>, peer: Peer, reply: ReplyWrite) {
        let pending = Pending::new(reply);
        let front = Arc::clone(&self.shared.front);
        self.watch.add(&pending, move || {
            let seconds = VERB_TIME.as_secs();
            let text = format!("not done within {seconds} s; if it has begun it goes on");
            front.refuse(name, &Refusal::new(nix::errno::Errno::ETIMEDOUT, text));
        });
        let (front, given) = (Arc::clone(&self.shared.front), Arc::clone(&pending));
        let size = text.len() as u32;
        let handed = self.verbs.submit(move || {
            if !given.is_open() {
                // It waited for its turn for too long, and its writer was told so: it must not happen behind their back.
                return;
            }
            let outcome = front.run(name, &text, false, Some(peer));
            let Some(reply) = given.take() else { return };
            match outcome {
                Ok(_) => reply.written(size),
                Err(refusal) => reply.error(Errno::from_i32(refusal.errno as i32)),
            }
        });
        if handed.is_err() {
            let text = format!("{VERBS_WAITING} verbs are waiting already; try again in a moment");
            self.shared.front.refuse(name, &Refusal::new(nix::errno::Errno::EAGAIN, text));
            pending.refuse(Errno::EAGAIN);
        }
    }
}

impl Shared {
    fn attributes(&self, node: Node, ino: u64) -> FileAttr {
        let (kind, perm) = match node.usage() {
            // What asks the node or takes one of the open files is for root and its group: others could use it up.
            Use::Directory if node != Node::Root => (FileType::Directory, 0o550),
            Use::Directory => (FileType::Directory, 0o555),
            // The lists name clients.
            Use::Read => (FileType::RegularFile, 0o440),
            Use::Write => (FileType::RegularFile, 0o200),
        };
        FileAttr {
            ino: INodeNo(ino),
            size: 0,
            blocks: 0,
            atime: self.since,
            mtime: self.since,
            ctime: self.since,
            crtime: self.since,
            kind,
            perm,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid: 0,
            gid: self.gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn entry(&self, node: Node, reply: ReplyEntry) {
        match self.numbers.looked_up(node) {
            Some(ino) => reply.entry(&NO_TIME, &self.attributes(node, ino), Generation(0)),
            None => reply.error(Errno::ENOSPC),
        }
    }

    /// Keeps what a file says until it is closed.
    fn keep(&self, snapshot: Option<Snapshot>, reply: ReplyOpen) {
        let Some(snapshot) = snapshot else { return reply.error(Errno::ENOENT) };
        let flags = match snapshot {
            Snapshot::Text(_) => DIRECT,
            Snapshot::Directory(_) => FopenFlags::empty(),
        };
        let size = snapshot.size();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_OPEN || self.held.load(Ordering::Relaxed) + size > MAX_HELD {
            tracing::warn!("control: too many control files are open at once, or too long ones");
            return reply.error(Errno::ENFILE);
        }
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.held.fetch_add(size, Ordering::Relaxed);
        open.insert(handle, Arc::new(snapshot));
        drop(open);
        reply.opened(FileHandle(handle), flags);
    }

    fn kept(&self, handle: FileHandle) -> Option<Arc<Snapshot>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(&handle.into()).cloned()
    }

    fn close(&self, handle: FileHandle) {
        let closed = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle.into());
        if let Some(snapshot) = closed {
            self.held.fetch_sub(snapshot.size(), Ordering::Relaxed);
        }
    }

    fn directory(&self, node: Node) -> Option<Snapshot> {
        let up = match node {
            Node::Manager(_) => Node::Top(Top::Managers),
            _ => Node::Root,
        };
        let inside: Vec<(String, Node)> = match node {
            Node::Root => TOPS.iter().map(|(name, top)| ((*name).into(), Node::Top(*top))).collect(),
            Node::Top(Top::Managers) => {
                let all = content::managers(&self.front);
                all.into_iter().map(|ip| (ip.to_string(), Node::Manager(ip))).collect()
            }
            Node::Manager(ip) => {
                PARTS.iter().map(|(name, part)| ((*name).into(), Node::Part(ip, *part))).collect()
            }
            _ => return None,
        };
        let rows = [(".".into(), node), ("..".into(), up)].into_iter().chain(inside);
        let kind = |node: Node| match node.usage() {
            Use::Directory => FileType::Directory,
            _ => FileType::RegularFile,
        };
        let numbered = rows.filter_map(|(name, node)| Some((self.numbers.of(node)?, kind(node), name)));
        Some(Snapshot::Directory(numbered.collect()))
    }
}

impl Filesystem for Requests {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // The error is the nearest value that is allowed; there is none nearer than the default.
        let _ = config.set_max_write(MAX_WRITE);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let Some(name) = name.to_str() else { return reply.error(Errno::ENOENT) };
        match self.node(parent) {
            Some(Node::Root) => match TOPS.iter().find(|(known, _)| *known == name) {
                Some((_, top)) => self.shared.entry(Node::Top(*top), reply),
                None => reply.error(Errno::ENOENT),
            },
            Some(Node::Manager(ip)) => match PARTS.iter().find(|(known, _)| *known == name) {
                Some((_, part)) => self.shared.entry(Node::Part(ip, *part), reply),
                None => reply.error(Errno::ENOENT),
            },
            Some(Node::Top(Top::Managers)) => match name.parse::<IpAddr>() {
                // Only under its one name.
                Ok(ip) if ip.to_string() == name => self.ask(reply, move |shared, reply: ReplyEntry| {
                    match content::manager(&shared.front, ip) {
                        Some(_) => shared.entry(Node::Manager(ip), reply),
                        None => reply.error(Errno::ENOENT),
                    }
                }),
                _ => reply.error(Errno::ENOENT),
            },
            _ => reply.error(Errno::ENOTDIR),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.node(ino) {
            Some(node) => reply.attr(&NO_TIME, &self.shared.attributes(node, ino.into())),
            None => reply.error(Errno::ENOENT),
        }
    }

    /// `>` of a shell cuts the file to nothing first, and `touch` sets times: both are well and change nothing.
    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match self.node(ino) {
            _ if mode.is_some() || uid.is_some() || gid.is_some() => reply.error(Errno::EPERM),
            Some(_) if size.is_some_and(|size| size > 0) => reply.error(Errno::EINVAL),
            Some(node) => reply.attr(&NO_TIME, &self.shared.attributes(node, ino.into())),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let Some(node) = self.node(ino) else { return reply.error(Errno::ENOENT) };
        // Root may do everything, says the kernel; the files say what makes sense.
        match (node, node.usage(), flags.acc_mode()) {
            (_, Use::Write, OpenAccMode::O_WRONLY) => reply.opened(FileHandle(0), DIRECT),
            (Node::Top(top), Use::Read, OpenAccMode::O_RDONLY) => self.ask(reply, move |shared, reply| {
                shared.keep(content::top(&shared.front, top).map(Snapshot::Text), reply);
            }),
            (Node::Part(ip, part), Use::Read, OpenAccMode::O_RDONLY) => {
                self.ask(reply, move |shared, reply| {
                    shared.keep(content::part(&shared.front, ip, part).map(Snapshot::Text), reply);
                })
            }
            (_, Use::Directory, _) => reply.error(Errno::EISDIR),
            _ => reply.error(Errno::EACCES),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.shared.kept(handle).as_deref() {
            Some(Snapshot::Text(text)) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
                let end = start.saturating_add(size as usize).min(text.len());
                reply.data(&text[start..end]);
            }
            _ => reply.error(Errno::EBADF),
        }
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some(Node::Top(Top::Verb(name))) = self.node(ino) else { return reply.error(Errno::EBADF) };
        if offset != 0 {
            // The rest of something, or a second line: half a verb must not be taken for a whole one.
            let text = "a verb is written at once, at the start of the file; open it again for each";
            self.shared.front.refuse(name, &Refusal::new(nix::errno::Errno::EINVAL, text));
            return reply.error(Errno::EINVAL);
        }
        let peer = Peer { uid: request.uid(), pid: request.pid() as i32 };
        // One byte too many is enough to be refused as too long.
        let text = data[..data.len().min(MAX_TEXT + 1)].to_vec();
        self.run(name, text, peer, reply);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        // A write is durable when it returns.
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.shared.close(handle);
        reply.ok();
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.node(ino) {
            // Always the same, and open to everybody: nothing is kept for it.
            Some(Node::Root) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Some(node) => self.ask(reply, move |shared, reply| shared.keep(shared.directory(node), reply)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let snapshot = match self.node(ino) {
            Some(Node::Root) => self.shared.directory(Node::Root).map(Arc::new),
            _ => self.shared.kept(handle),
        };
        let Some(Snapshot::Directory(rows)) = snapshot.as_deref() else { return reply.error(Errno::EBADF) };
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (place, (ino, kind, name)) in rows.iter().enumerate().skip(from) {
            // The offset is where the next one is.
            if reply.add(INodeNo(*ino), place as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.shared.close(handle);
        reply.ok();
    }

    // Nobody makes, renames or removes anything here: EACCES, as for a mistyped name `> unlok_ip`. The library would answer
    // ENOSYS, "Function not implemented".

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(Errno::EACCES);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EACCES);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EACCES);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &std::path::Path, reply: ReplyEntry) {
        reply.error(Errno::EACCES);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EACCES);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EACCES);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EACCES);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EACCES);
    }

    // Asked by many tools in passing. ENOSYS tells the kernel not to ask again; the library would also log each.

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: fuser::IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(Errno::ENOSYS);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: fuser::PollNotifier,
        _: fuser::PollEvents,
        _: fuser::PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}
