//! A world for one test: network and mount namespaces of the test's own thread, a directory, an export. Whatever the thread
//! starts afterwards (threads, processes, sockets) is in it, and every address of 127.0.0.0/8 belongs to it.
//!
//! Must never leave the host's network or mounts changed.

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use super::Daemon;
use crate::support;

/// A test's world.
pub(crate) struct World {
    scratch: support::scratch::Scratch,
    /// What was mounted, to be taken off in the other order.
    mounts: std::cell::RefCell<Vec<PathBuf>>,
    starts: Cell<u32>,
}

impl World {
    /// Moves the calling thread into a world. `None`, said loudly: that cannot be done here.
    pub(crate) fn new() -> Option<Self> {
        if let Some(why) = missing() {
            support::skip(&why);
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("own namespaces");
        let world = Self {
            scratch: support::scratch::Scratch::new(),
            mounts: std::cell::RefCell::default(),
            starts: Cell::new(0),
        };
        world.sh("mount --make-rprivate / && ip link set lo up && mount -t tmpfs tmpfs /run");
        let export = world.export();
        std::fs::create_dir(&export).unwrap();
        std::fs::set_permissions(&export, std::fs::Permissions::from_mode(0o1777)).unwrap();
        Some(world)
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// The directory that is exported.
    pub(crate) fn export(&self) -> PathBuf {
        self.dir().join("export")
    }

    /// The server's state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// A file that everybody may use, in the export.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        let path = self.export().join(name);
        std::fs::write(&path, b"data").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        path
    }

    /// Runs a shell script here; panics when it fails.
    pub(crate) fn sh(&self, script: &str) -> String {
        let output = Command::new("sh").args(["-ec", script]).output().expect("a shell");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "failed: {script}\n{out}{err}");
        out.into_owned()
    }

    /// Mounts a tmpfs of this many KiB over a directory, made if it is not there.
    pub(crate) fn tmpfs(&self, dir: &Path, kib: u32) {
        std::fs::create_dir_all(dir).unwrap();
        self.sh(&format!("mount -t tmpfs -o size={kib}k,mode=755 tmpfs '{}'", dir.display()));
        self.mounts.borrow_mut().push(dir.to_owned());
    }

    /// Writes a configuration file: `top` are settings outside any table, `tables` the rest. One export, `f` in it, no
    /// rpcbind, and callbacks that are given up soon; either part may say otherwise.
    pub(crate) fn config(&self, top: &str, tables: &str) -> PathBuf {
        self.config_at(self.dir(), top, tables)
    }

    /// The same for a node whose state and socket are in `home`.
    pub(crate) fn config_at(&self, home: &Path, top: &str, tables: &str) -> PathBuf {
        let mut text = format!("state_dir = {:?}\nsocket = {:?}\n", home.join("state"), home.join("socket"));
        for (key, value) in [("rpcbind", "\"off\""), ("grace.window", "\"2s\"")] {
            if !top.contains(key) {
                text += &format!("{key} = {value}\n");
            }
        }
        text += top;
        if !tables.contains("[[export]]") {
            text +=
                &format!("\n[[export]]\npath = {:?}\nsquash = \"none\"\ninsecure = true\n", self.export());
        }
        if !tables.contains("[callback]") {
            text += "\n[callback]\ntimeout = \"300ms\"\ngive_up = \"3s\"\n";
        }
        text += "\n";
        text += tables;
        let number = self.starts.replace(self.starts.get() + 1);
        let path = home.join(format!("config-{number}.toml"));
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts the server with such a configuration and waits until it is ready.
    pub(crate) fn serve(&self, top: &str, tables: &str) -> Daemon {
        let mut daemon = Daemon::start(self, &self.config(top, tables));
        daemon.await_ready();
        daemon
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for dir in self.mounts.borrow().iter().rev() {
            let _ = Command::new("umount").arg("-l").arg(dir).status();
        }
    }
}

fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root, to make network namespaces".into());
    }
    let absent: Vec<_> =
        ["ip", "mount", "setpriv"].into_iter().filter(|p| support::find_program(p).is_none()).collect();
    (!absent.is_empty()).then(|| format!("not installed: {}", absent.join(", ")))
}
